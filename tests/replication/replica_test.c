/* One replica through its door, over the simulated disk: bounds, restarts, refusals, the end.
 * What a group does is tests/sim/raft_sim.c. */
#include "log/log.h"
#include "replication/replica.h"
#include "schemas/codec.h"
#include "tests/sim/disk_sim.h"
#include "tests/sim/sim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define MS UINT64_C(1000)

#define PINGS UINT64_C(1) /* features of messages, as they are on the wire */
#define TELLS UINT64_C(2)

/* A lone voter, and everything it told. Memory of libraft is not given back after a crash, as in
 * a process that ends; so this test is not for leak checkers. */
struct fixture {
    bool behind; /* what hooks.behind answers */
    struct fetching *fetching;
    struct sim sim;
    struct disk_sim disk;
    struct log log;
    struct replica *replica;
    struct replica_config config;
    struct replica_member members[3];
    struct replica_hooks hooks;
    struct replica_peers peers;
    uint64_t applied[64];
    uint32_t applied_count;
    uint64_t index_last;
    uint8_t last[64];
    size_t last_size;
    uint32_t done, done_status_bad, closing;
    uint64_t done_index;
    uint64_t read_index;
    int read_status;
    uint32_t reads; /* called back */
    int fatal_status;
    char fatal_what[256];
    bool closed;
    uint64_t manifest_index;
    uint32_t starts; /* of checkpoints, when they are refused at first */
    bool refuse_starts;
    uint64_t limit_bytes; /* of the log; 0: none */
    uint32_t sent;
    struct codec *codec;
    struct raft_wire asked; /* the last vote request to replica 2; type 0: none */
    struct raft_wire ping;  /* the last ping to replica 2; type 0: none */
    uint32_t pings, pongs;  /* to replica 2 */
    uint64_t offered;       /* index of the last entry that was sent to replica 2 */
    uint32_t barriers;      /* sent to replica 2 */
    uint32_t votes[4];      /* given, by replica */
    bool cut;               /* nothing can be sent to replica 3 */
    struct raft_wire probe; /* the last entries or heartbeat that were sent to it; type 0: none */
    uint32_t probed;        /* how many entries, in all */
    uint64_t told_features; /* of messages without entries to replica 2, */
    uint32_t told;          /* how many, and */
    uint64_t told_commit;   /* what the last of them said is agreed on */
    uint32_t agains[4];     /* asked for the last message again, by replica */
    struct raft_wire answer; /* the last result that was sent, and */
    uint32_t answers;        /* how many */
};

static void on_apply(void *context, uint64_t index, uint64_t term, struct bytes command)
{
    struct fixture *f = context;
    assert_true(term > 0);
    assert_true(index > f->index_last);
    f->index_last = index;
    if (f->applied_count < 64) {
        f->applied[f->applied_count] = get_le64(command.data);
    }
    f->applied_count++;
    f->last_size = command.size < sizeof f->last ? command.size : sizeof f->last;
    memcpy(f->last, command.data, f->last_size);
}

static void on_fatal(void *context, const char *what, int status)
{
    struct fixture *f = context;
    f->fatal_status = status;
    snprintf(f->fatal_what, sizeof f->fatal_what, "%s", what);
}

static int on_send(void *context, uint64_t to, struct bytes message)
{
    struct fixture *f = context;
    assert_true(to == 2 || to == 3);
    assert_true(message.size > 0);
    if (to == 3 && f->cut) {
        return -ENOTCONN;
    }
    f->sent++;
    if (f->codec != NULL) {
        struct raft_wire wire;
        assert_int_equal(codec_raft_wire_read(f->codec, message, &wire), 0);
        if (wire.type == 1 && to == 3) {
            f->probe = wire;
            f->probed += wire.entry_count;
        }
        if (wire.type == 3 && to == 2) {
            f->asked = wire;
        }
        f->votes[to] += wire.type == 4 && wire.vote_granted && !wire.pre_vote;
        if (wire.type == 1 && to == 2 && wire.entry_count > 0) {
            f->offered = wire.prev_log_index + wire.entry_count;
            f->barriers += wire.entries[wire.entry_count - 1].type == 2;
        }
        if (wire.type == 1 && to == 2 && wire.entry_count == 0) {
            f->told++;
            f->told_commit = wire.leader_commit;
            f->told_features = wire.features;
        }
        if (wire.type == 7 && to == 2) {
            f->ping = wire;
            f->pings++;
        }
        f->pongs += wire.type == 8 && to == 2;
        if (wire.type == 2) {
            f->answer = wire;
            f->answers++;
        }
    }
    return 0;
}

static int on_again(void *context, uint64_t to)
{
    struct fixture *f = context;
    assert_true(to == 2 || to == 3);
    f->agains[to]++;
    return 0;
}

static bool on_room(void *context, uint64_t to)
{
    const struct fixture *f = context;
    return to != 3 || !f->cut;
}

static void on_done(void *context, int status, uint64_t index)
{
    struct fixture *f = context;
    f->done_index = index;
    f->done++;
    f->done_status_bad += status != 0;
    f->closing += status == STATUS_CLOSING;
}

static void on_read(void *context, int status, uint64_t index)
{
    struct fixture *f = context;
    f->read_status = status;
    f->read_index = index;
    f->reads++;
}

static void on_closed(void *context)
{
    struct fixture *f = context;
    f->closed = true;
}

static int on_checkpoint_start(void *context, uint64_t index)
{
    (void)context;
    (void)index;
    return 0;
}

static int on_checkpoint_make(void *context, struct manifest *out)
{
    struct fixture *f = context;
    out->applied_index = f->index_last;
    f->manifest_index = f->index_last;
    return 0;
}

static void on_checkpoint_end(void *context, int status)
{
    (void)context;
    assert_int_equal(status, 0);
}

static void pool_run(void *context)
{
    struct replica_work *work = context;
    work->work(work);
    work->done(work);
}

static void on_run(void *context, struct replica_work *work)
{
    struct fixture *f = context;
    sim_after(&f->sim, 10 * MS, 1, pool_run, work);
}

static int boot(struct fixture *f)
{
    const struct log_options options = {.directory = "/log",
                                        .owner = {7},
                                        .segment_bytes = 64 * 1024,
                                        .limit_bytes = f->limit_bytes};
    struct log_recovery recovery;
    assert_int_equal(log_open(&f->log, &f->disk.disk, &options, &recovery), 0);
    f->index_last = f->config.applied_index;
    f->config.now_ms = f->sim.now_us / MS;
    return replica_open(&f->log, &f->config, &f->hooks, &f->peers, &f->replica);
}

static void fixture_make(struct fixture *f, uint32_t voters)
{
    memset(f, 0, sizeof *f);
    sim_init(&f->sim, 5);
    (void)sim_owner_new(&f->sim); /* 1: this process */
    disk_sim_init(&f->disk, &f->sim);
    static const char *const addresses[] = {"one", "two", "three"};
    for (uint32_t i = 0; i < 3; i++) {
        f->members[i] =
            (struct replica_member){.id = i + 1,
                                    .address = addresses[i],
                                    .role = i < voters ? REPLICA_VOTER : REPLICA_STANDBY};
    }
    f->config = (struct replica_config){.id = 1,
                                        .address = "one",
                                        .members = f->members,
                                        .member_count = voters,
                                        .epoch = 4,
                                        .seed = 9,
                                        .run = on_run};
    f->hooks = (struct replica_hooks){.context = f, .apply = on_apply, .fatal = on_fatal};
    f->peers = (struct replica_peers){.context = f, .send = on_send, .room = on_room};
}

/* The turn is over, and so much time passes. */
static void run_for(struct fixture *f, uint64_t ms)
{
    for (uint64_t i = 0; i < ms; i += 20) {
        replica_flush(f->replica);
        sim_run_until(&f->sim, f->sim.now_us + 20 * MS);
        replica_tick(f->replica, f->sim.now_us / MS);
    }
}

static void crash(struct fixture *f)
{
    disk_sim_crash(&f->disk, DISK_SIM_POWER_DROP);
    sim_cancel_owner(&f->sim, 1);
    log_forget(&f->log);
}

static int propose(struct fixture *f, uint64_t number, size_t size)
{
    uint8_t command[64] = {0};
    put_le64(command, number);
    memset(command + 8, 0xee, sizeof command - 8);
    return replica_propose(f->replica, bytes_of(command, size), on_done, f);
}

/* Claim: commands come back in order, padded with zeros to 8 bytes, and only above what the state
 * holds after a restart. */
static void test_commands_are_applied_once(void **state)
{
    (void)state;
    struct fixture f;
    fixture_make(&f, 1);
    assert_int_equal(boot(&f), 0);
    assert_int_equal(replica_role(f.replica), REPLICA_LEADER);
    for (uint64_t i = 1; i <= 10; i++) {
        assert_int_equal(propose(&f, i, 8 + i), 0);
    }
    assert_int_equal(f.done, 0); /* never from inside */
    run_for(&f, 200);
    assert_int_equal(f.done, 10);
    assert_int_equal(f.done_status_bad, 0);
    assert_int_equal(f.applied_count, 10);
    for (uint64_t i = 1; i <= 10; i++) {
        assert_int_equal(f.applied[i - 1], i);
    }
    assert_int_equal(f.last_size, 24);
    for (size_t i = 18; i < 24; i++) {
        assert_int_equal(f.last[i], 0);
    }
    assert_int_equal(replica_read(f.replica, on_read, &f), 0);
    run_for(&f, 100);
    assert_int_equal(f.read_status, 0);
    assert_int_equal(f.read_index, f.index_last); /* a lone voter asks nobody, and writes nothing */
    const uint64_t term = replica_term(f.replica);

    const uint64_t held = f.index_last - 3;
    crash(&f);
    f.config.applied_index = held;
    f.applied_count = 0;
    assert_int_equal(boot(&f), 0);
    run_for(&f, 200);
    assert_true(replica_term(f.replica) > term); /* a lone voter takes a new term (i) */
    assert_int_equal(f.applied_count, 3);
    assert_int_equal(f.applied[0], 8);
    assert_int_equal(f.applied[2], 10);
}

/* Claim: what may be under way is bounded in number and in bytes, a command in size, and a refused
 * one changes nothing. */
static void test_proposals_are_bounded(void **state)
{
    (void)state;
    struct fixture f;
    fixture_make(&f, 1);
    assert_int_equal(boot(&f), 0);
    for (uint32_t i = 0; i < LIMIT_PROPOSALS; i++) {
        assert_int_equal(propose(&f, i, 8), 0);
    }
    assert_int_equal(propose(&f, 0, 8), STATUS_FULL);
    run_for(&f, 1000);
    assert_int_equal(f.done, LIMIT_PROPOSALS);
    assert_int_equal(f.applied_count, LIMIT_PROPOSALS);
    assert_int_equal(propose(&f, 0, 8), 0);
    run_for(&f, 100);

    uint8_t *large = calloc(1, LIMIT_COMMAND_BYTES + 1);
    assert_int_equal(
        replica_propose(f.replica, bytes_of(large, LIMIT_COMMAND_BYTES + 1), NULL, NULL),
        STATUS_TOO_LARGE);
    free(large);
}

/* Claim: a replica that does not lead says so, and does not apply anything. */
static void test_a_follower_refuses(void **state)
{
    (void)state;
    struct fixture f;
    fixture_make(&f, 3);
    assert_int_equal(boot(&f), 0);
    assert_int_equal(replica_role(f.replica), REPLICA_FOLLOWER);
    assert_int_equal(replica_leader(f.replica, NULL), 0);
    assert_int_equal(propose(&f, 1, 8), STATUS_NOT_LEADER);
    assert_int_equal(replica_read(f.replica, on_read, &f), STATUS_NOT_LEADER);
    assert_int_equal(replica_transfer(f.replica, 0), STATUS_NOT_LEADER);
    assert_int_equal(replica_add(f.replica, 9, "nine", NULL, NULL), STATUS_NOT_LEADER);
    run_for(&f, 3000);
    assert_true(f.sent > 0); /* it asks for votes */
    assert_int_equal(replica_role(f.replica), REPLICA_CANDIDATE);
    assert_int_equal(replica_term(f.replica), 1); /* pre-votes take no term */
}

/* Claim: bytes that are no message, or name another sender, are refused and counted. */
static void test_foreign_messages_are_refused(void **state)
{
    (void)state;
    struct fixture f;
    fixture_make(&f, 3);
    assert_int_equal(boot(&f), 0);
    assert_int_equal(replica_receive(f.replica, 2, bytes_text("not a message")), STATUS_MALFORMED);
    assert_int_equal(replica_receive(f.replica, 2, bytes_of(NULL, 0)), STATUS_MALFORMED);
    struct codec *codec = codec_create();
    struct bytes bytes;
    const struct raft_wire wire = {.type = 1, .server_id = 3, .server_address = "three", .term = 2};
    assert_int_equal(codec_raft_wire_build(codec, &wire, &bytes), 0);
    assert_int_equal(replica_receive(f.replica, 2, bytes), STATUS_IDENTITY);
    assert_int_equal(replica_leader(f.replica, NULL), 0);
    assert_int_equal(replica_receive(f.replica, 3, bytes), 0);
    const char *address = NULL;
    assert_int_equal(replica_leader(f.replica, &address), 3);
    assert_string_equal(address, "three");
    struct replica_counters counters;
    replica_counters(f.replica, &counters);
    assert_int_equal(counters.refused, 3);
    assert_int_equal(counters.received, 1);
    codec_destroy(codec);
}

static void hear(struct fixture *f, const struct raft_wire *wire)
{
    struct bytes bytes;
    struct codec *codec = codec_create();
    assert_int_equal(codec_raft_wire_build(codec, wire, &bytes), 0);
    assert_int_equal(replica_receive(f->replica, wire->server_id, bytes), 0);
    codec_destroy(codec);
}

/* Make the replica of a group of three the leader, by answering as replica 2. */
static void lead(struct fixture *f)
{
    f->codec = codec_create();
    for (int i = 0; i < 500 && replica_role(f->replica) != REPLICA_LEADER; i++) {
        run_for(f, 20);
        if (f->asked.type != 0) {
            const struct raft_wire yes = {.type = 4,
                                          .server_id = 2,
                                          .server_address = "two",
                                          .term = f->asked.term,
                                          .vote_granted = true,
                                          .pre_vote = f->asked.pre_vote};
            f->asked.type = 0;
            hear(f, &yes);
        }
    }
    assert_int_equal(replica_role(f->replica), REPLICA_LEADER);
}

/* A follower says that it has so much. */
static void acknowledge_as(struct fixture *f, uint64_t id, uint64_t index, uint64_t features)
{
    const struct raft_wire result = {.type = 2,
                                     .server_id = id,
                                     .server_address = id == 2 ? "two" : "three",
                                     .term = replica_term(f->replica),
                                     .last_log_index = index,
                                     .features = features};
    hear(f, &result);
}

/* Replica 2 says that it has all that was offered to it. */
static void acknowledge(struct fixture *f, uint64_t features)
{
    acknowledge_as(f, 2, f->offered, features);
}

/* Claim: at the end of the turn in which a follower's answer made an entry agreed on, it is told so, once, without a
 * heartbeat, unless entries that left in that turn said it; who has not acknowledged anything is told nothing. */
static void test_a_follower_hears_at_once_what_is_agreed_on(void **state)
{
    (void)state;
    struct fixture f;
    fixture_make(&f, 3);
    assert_int_equal(boot(&f), 0);
    lead(&f);
    run_for(&f, 100);
    acknowledge(&f, 0);
    replica_flush(f.replica);
    for (uint64_t i = 0; i < 3; i++) {
        assert_int_equal(propose(&f, i, 64), 0);
        run_for(&f, 20);
        const uint32_t before = f.told;
        replica_flush(f.replica);
        assert_int_equal(f.told, before); /* not agreed on yet */
        acknowledge(&f, 0);
        assert_int_equal(f.done, i + 1);
        f.probe.type = 0;
        replica_flush(f.replica);
        assert_int_equal(f.told, before + 1);
        assert_int_equal(f.told_commit, f.offered);
        assert_int_equal(f.told_features, PINGS | TELLS);
        assert_int_equal(f.probe.type, 0); /* of replica 3 nothing is known */
        replica_flush(f.replica);
        assert_int_equal(f.told, before + 1);
    }
    /* Under load: the next one leaves in the turn in which one was agreed on. */
    for (uint64_t i = 3; i < 6; i++) {
        const uint32_t before = f.told;
        const uint64_t offered = f.offered;
        assert_int_equal(propose(&f, i, 64), 0);
        replica_flush(f.replica);
        assert_int_equal(f.offered, offered + 1);
        assert_int_equal(f.told, before);
        run_for(&f, 20);
        f.told = before; /* a heartbeat may have been due */
        acknowledge(&f, 0);
        assert_int_equal(f.done, i + 1);
    }
    codec_destroy(f.codec);
}

/* Claim: commands of a turn leave at its end, in one message with all of them, and each hears of its own entry, in
 * order; what is enough for the disk leaves before. */
static void test_commands_of_a_turn_leave_together(void **state)
{
    (void)state;
    struct fixture f;
    fixture_make(&f, 3);
    assert_int_equal(boot(&f), 0);
    lead(&f);
    run_for(&f, 100);
    acknowledge(&f, 0);
    run_for(&f, 20);
    const uint64_t last = replica_last_index(f.replica);
    const uint32_t sent = f.sent;
    for (uint64_t i = 1; i <= 5; i++) {
        assert_int_equal(propose(&f, i, 64), 0);
    }
    assert_int_equal(replica_last_index(f.replica), last);
    assert_int_equal(f.sent, sent);
    replica_flush(f.replica);
    assert_int_equal(replica_last_index(f.replica), last + 5);
    assert_int_equal(f.offered, last + 5);
    assert_int_equal(f.sent, sent + 1); /* replica 3 has not answered yet */
    run_for(&f, 20);
    assert_int_equal(f.done, 0);
    acknowledge(&f, 0);
    assert_int_equal(f.done, 5);
    assert_int_equal(f.done_status_bad, 0);
    assert_int_equal(f.done_index, last + 5);
    assert_int_equal(f.applied_count, 5);
    for (uint64_t i = 1; i <= 5; i++) {
        assert_int_equal(f.applied[i - 1], i);
    }

    uint8_t *large = calloc(1, LIMIT_LOG_EARLY_BYTES / 16);
    for (uint32_t i = 1; i < 16; i++) {
        assert_int_equal(
            replica_propose(f.replica, bytes_of(large, LIMIT_LOG_EARLY_BYTES / 16), NULL, NULL), 0);
    }
    assert_int_equal(f.offered, last + 5);
    assert_int_equal(
        replica_propose(f.replica, bytes_of(large, LIMIT_LOG_EARLY_BYTES / 16), NULL, NULL), 0);
    assert_int_equal(f.offered, last + 21);
    free(large);
    codec_destroy(f.codec);
}

/* Claim: what two followers get alike is built once, and what they do not is not. Method: the second has answered
 * everything, or has not, so that it needs to be told what is agreed on as well. */
static void test_what_followers_get_alike_is_built_once(void **state)
{
    (void)state;
    struct fixture f;
    fixture_make(&f, 3);
    f.peers.again = on_again;
    assert_int_equal(boot(&f), 0);
    lead(&f);
    run_for(&f, 100);
    acknowledge(&f, 0);
    acknowledge_as(&f, 3, f.offered, 0);
    replica_flush(f.replica);
    uint32_t sent = f.sent;
    f.agains[3] = 0;
    assert_int_equal(propose(&f, 1, 64), 0);
    assert_int_equal(propose(&f, 2, 64), 0);
    replica_flush(f.replica);
    assert_int_equal(f.sent, sent + 1);
    assert_int_equal(f.agains[3], 1);
    sim_run_until(&f.sim, f.sim.now_us + 20 * MS);
    acknowledge(&f, 0);
    sent = f.sent;
    replica_flush(f.replica); /* the news is for 2 alone, that 3 has it is not known */
    assert_int_equal(f.sent, sent + 1);
    assert_int_equal(f.agains[3], 1);
    acknowledge_as(&f, 3, f.offered, 0);
    replica_flush(f.replica); /* and now for 3 alone: but it is what 2 was told */
    assert_int_equal(f.sent, sent + 1);
    assert_int_equal(f.agains[3], 2);
    f.probe.type = 0;
    assert_int_equal(propose(&f, 3, 64), 0);
    replica_flush(f.replica);
    assert_int_equal(f.sent, sent + 2);
    assert_int_equal(f.agains[3], 3);
    assert_int_equal(f.probe.type, 0);
    assert_int_equal(propose(&f, 4, 64), 0);
    replica_flush(f.replica); /* as many entries, from another place on */
    assert_int_equal(f.sent, sent + 3);
    assert_int_equal(f.offered, replica_last_index(f.replica));
    assert_int_equal(f.agains[2], 0);
    codec_destroy(f.codec);
}

/* Another one leads in the next term. */
static void depose(struct fixture *f)
{
    const struct raft_wire heartbeat = {
        .type = 1, .server_id = 3, .server_address = "three", .term = replica_term(f->replica) + 1};
    hear(f, &heartbeat);
    assert_int_equal(replica_role(f->replica), REPLICA_FOLLOWER);
}

/* Claim: when leadership is lost each proposal is told, also those whose fellows are agreed on, and those that
 * had not left yet, which are no entries; when it is handed over what was proposed before leaves first. Method: of
 * three that left together a follower has two. */
static void test_lost_leadership_ends_all_proposals(void **state)
{
    (void)state;
    struct fixture f;
    fixture_make(&f, 3);
    assert_int_equal(boot(&f), 0);
    lead(&f);
    run_for(&f, 100);
    acknowledge(&f, 0);
    for (uint64_t i = 1; i <= 3; i++) {
        assert_int_equal(propose(&f, i, 64), 0);
    }
    run_for(&f, 20);
    assert_int_equal(propose(&f, 4, 64), 0);
    run_for(&f, 20);
    acknowledge(&f, 0);
    assert_int_equal(f.done, 4);
    assert_int_equal(propose(&f, 5, 64), 0);
    assert_int_equal(propose(&f, 6, 64), 0);
    run_for(&f, 20);
    assert_int_equal(propose(&f, 7, 64), 0); /* does not leave */
    const uint64_t last = replica_last_index(f.replica);
    depose(&f);
    assert_int_equal(f.done, 7);
    assert_int_equal(f.done_status_bad, 3);
    assert_int_equal(replica_last_index(f.replica), last);
    codec_destroy(f.codec);

    fixture_make(&f, 3);
    assert_int_equal(boot(&f), 0);
    lead(&f);
    run_for(&f, 100);
    acknowledge(&f, 0);
    assert_int_equal(propose(&f, 1, 64), 0);
    const uint64_t offered = f.offered;
    assert_int_equal(replica_transfer(f.replica, 2), 0);
    assert_int_equal(f.offered, offered + 1);
    assert_int_equal(propose(&f, 2, 64), STATUS_NOT_LEADER);
    run_for(&f, 20);
    acknowledge(&f, 0);
    assert_int_equal(f.done, 1);
    assert_int_equal(f.done_status_bad, 0);
    codec_destroy(f.codec);
}

/* Replica 3 was down when this leader was elected, in front of a log of 41 entries that it has, and comes back
 * when there are nine more. What it is asked then, in 400 ms: */
static void return_of_the_third(struct fixture *f, uint32_t measures_off)
{
    fixture_make(f, 3);
    f->config.measures_off = measures_off;
    assert_int_equal(boot(f), 0);
    lead(f);
    for (uint64_t i = 0; i < 40; i++) {
        assert_int_equal(propose(f, i, 64), 0);
        run_for(f, 20);
        acknowledge(f, 0);
    }
    crash(f);
    f->cut = true;
    codec_destroy(f->codec);
    assert_int_equal(boot(f), 0);
    lead(f);
    for (uint64_t i = 0; i < 8; i++) {
        assert_int_equal(propose(f, i, 64), 0);
        run_for(f, 60);
        acknowledge(f, 0);
    }
    f->cut = false;
    f->probed = 0;
    run_for(f, 400);
    assert_int_equal(f->probe.type, 1);
}

/* Claim: who was away while a leader was elected is asked for its end, one entry at a time, and not sent the
 * log from its beginning, heartbeat after heartbeat. Method: the same without the measure. */
static void test_who_returns_is_not_sent_the_whole_log(void **state)
{
    (void)state;
    struct fixture f;
    return_of_the_third(&f, 0);
    assert_true(f.probe.prev_log_index >= 41);
    assert_true(f.probed <= 400 / 50 + 1);
    /* It has what is before that entry: the rest follows at once. */
    const struct raft_wire result = {.type = 2,
                                     .server_id = 3,
                                     .server_address = "three",
                                     .term = replica_term(f.replica),
                                     .last_log_index = f.probe.prev_log_index + 1};
    hear(&f, &result);
    assert_true(f.probe.prev_log_index == result.last_log_index);
    assert_true(f.probe.prev_log_index + f.probe.entry_count == f.offered);
    codec_destroy(f.codec);
    return_of_the_third(&f, MEASURE_PROBE);
    assert_true(f.probe.prev_log_index == 0);
    assert_true(f.probed >= 3 * 50);
    codec_destroy(f.codec);
}

static void pong(struct fixture *f, uint64_t from, uint64_t term, uint64_t round)
{
    const struct raft_wire answer = {.type = 8,
                                     .server_id = from,
                                     .server_address = from == 2 ? "two" : "three",
                                     .term = term,
                                     .round = round,
                                     .features = 1};
    hear(f, &answer);
}

/* Claim: a read waits for an entry of the leader's own term to be committed, then for a quorum's answer
 * to a round that began after it; answers of another term or of an earlier round do not count; and
 * nothing is written. */
static void test_a_read_asks_a_quorum(void **state)
{
    (void)state;
    struct fixture f;
    fixture_make(&f, 3);
    assert_int_equal(boot(&f), 0);
    lead(&f);
    acknowledge(&f, 1); /* from here on it is known to answer pings */
    assert_int_equal(replica_read(f.replica, on_read, &f), 0);
    run_for(&f, 60);
    assert_int_equal(f.pings, 0); /* its own entry is nowhere but here */
    run_for(&f, 200);             /* a probe with the entry */
    acknowledge(&f, 1);
    const uint64_t commit = replica_commit_index(f.replica);
    assert_int_equal(commit, replica_last_index(f.replica));
    assert_int_equal(f.pings, 1);
    assert_int_equal(f.ping.term, replica_term(f.replica));
    assert_int_equal(f.reads, 0);

    const struct raft_wire first = f.ping;
    pong(&f, 2, first.term - 1, first.round);
    pong(&f, 2, first.term, first.round + 1); /* which there was not yet */
    assert_int_equal(f.reads, 0);
    pong(&f, 2, first.term, first.round);
    assert_int_equal(f.reads, 1);
    assert_int_equal(f.read_status, 0);
    assert_int_equal(f.read_index, commit);

    assert_int_equal(replica_read(f.replica, on_read, &f), 0);
    assert_int_equal(replica_read(f.replica, on_read, &f), 0);
    assert_int_equal(f.pings, 3);
    pong(&f, 2, first.term, first.round); /* late */
    assert_int_equal(f.reads, 1);
    const uint32_t before = f.pings;
    run_for(&f, 120); /* nobody answers: asked again with the heartbeat, twice or so */
    assert_in_range(f.pings - before, 1, 3);
    pong(&f, 3, first.term, f.ping.round); /* one answer ends both rounds; whose does not matter */
    assert_int_equal(f.reads, 3);
    assert_int_equal(f.read_status, 0);
    assert_int_equal(replica_last_index(f.replica), commit);
    codec_destroy(f.codec);
}

/* Claim: a leader that nobody answers serves no read; it steps down and says so. */
static void test_a_leader_that_is_alone_serves_no_read(void **state)
{
    (void)state;
    struct fixture f;
    fixture_make(&f, 3);
    assert_int_equal(boot(&f), 0);
    lead(&f);
    acknowledge(&f, 1);
    run_for(&f, 260);
    acknowledge(&f, 1);
    assert_int_equal(replica_read(f.replica, on_read, &f), 0);
    run_for(&f, 3000);
    assert_int_equal(f.reads, 1);
    assert_int_equal(f.read_status, STATUS_NOT_LEADER);
    assert_int_not_equal(replica_role(f.replica), REPLICA_LEADER);
    codec_destroy(f.codec);
}

/* Claim: a follower answers a ping only of the leader that it follows, in its term. */
static void test_a_follower_answers_its_leader(void **state)
{
    (void)state;
    struct fixture f;
    fixture_make(&f, 3);
    assert_int_equal(boot(&f), 0);
    f.codec = codec_create();
    struct raft_wire ping = {
        .type = 7, .server_id = 2, .server_address = "two", .term = 1, .round = 4};
    hear(&f, &ping); /* a leader that it has not heard of */
    assert_int_equal(f.pongs, 0);
    struct raft_wire append = {.type = 1, .server_id = 2, .server_address = "two", .term = 3};
    hear(&f, &append);
    assert_int_equal(replica_leader(f.replica, NULL), 2);
    hear(&f, &ping); /* of an older term */
    ping.term = 4;
    hear(&f, &ping);
    assert_int_equal(f.pongs, 0);
    assert_int_equal(replica_term(f.replica), 3); /* a ping is nothing that raises it */
    ping.term = 3;
    hear(&f, &ping);
    assert_int_equal(f.pongs, 1);
    append.term = 5;
    append.server_id = 3;
    append.server_address = "three";
    hear(&f, &append);
    hear(&f, &ping); /* of one that was deposed */
    assert_int_equal(f.pongs, 1);
    run_for(&f, 3000);
    assert_int_equal(replica_role(f.replica), REPLICA_CANDIDATE);
    ping.server_id = 3;
    ping.server_address = "three";
    ping.term = 5;
    hear(&f, &ping);
    assert_int_equal(f.pongs, 1);
    codec_destroy(f.codec);
}

/* Claim: without a quorum that knows pings, as during a rolling upgrade, a read costs an entry of the
 * log; also one whose round is under way when the others go back to an older release. */
static void test_a_read_among_older_releases(void **state)
{
    (void)state;
    struct fixture f;
    fixture_make(&f, 3);
    assert_int_equal(boot(&f), 0);
    lead(&f);
    run_for(&f, 260);
    acknowledge(&f, 0);
    run_for(&f, 120);
    acknowledge(&f, 0);
    const uint64_t commit = replica_commit_index(f.replica);
    assert_int_equal(commit, replica_last_index(f.replica));
    assert_int_equal(replica_read(f.replica, on_read, &f), 0);
    assert_int_equal(f.pings, 0);
    assert_int_equal(replica_last_index(f.replica), commit + 1);
    run_for(&f, 120);
    acknowledge(&f, 1);
    assert_int_equal(f.reads, 1);
    assert_int_equal(f.read_status, 0);
    assert_int_equal(f.read_index, commit + 1);

    assert_int_equal(replica_read(f.replica, on_read, &f), 0);
    assert_int_equal(f.pings, 1);
    assert_int_equal(replica_last_index(f.replica), commit + 1);
    acknowledge(&f, 0);
    assert_int_equal(replica_last_index(f.replica), commit + 2);
    run_for(&f, 120);
    acknowledge(&f, 0);
    assert_int_equal(f.reads, 2);
    assert_int_equal(f.read_status, 0);
    codec_destroy(f.codec);
}

/* Claim: a leader changes the group only once an entry of its own term is committed (s). */
static void test_a_new_leader_does_not_change_the_group_yet(void **state)
{
    (void)state;
    struct fixture f;
    fixture_make(&f, 3);
    assert_int_equal(boot(&f), 0);
    lead(&f);
    assert_int_equal(replica_add(f.replica, 9, "nine", NULL, NULL), STATUS_FULL);
    run_for(&f, 260);
    acknowledge(&f, 1);
    run_for(&f, 120);
    acknowledge(&f, 1);
    assert_int_equal(replica_commit_index(f.replica), replica_last_index(f.replica));
    assert_int_equal(replica_add(f.replica, 9, "nine", NULL, NULL), 0);
    codec_destroy(f.codec);
}

/* One vote for 3 and then a request of 2, to whom leadership is being handed, in the same term. */
static void ask_two_votes(uint32_t measures_off, uint32_t *out_votes_3, uint32_t *out_votes_2)
{
    struct fixture f;
    fixture_make(&f, 3);
    f.config.measures_off = measures_off;
    assert_int_equal(boot(&f), 0);
    lead(&f);
    assert_int_equal(replica_transfer(f.replica, 2), 0);
    assert_int_equal(propose(&f, 1, 8), STATUS_NOT_LEADER); /* while it is handed over */
    struct raft_wire ask = {.type = 3,
                            .server_id = 3,
                            .server_address = "three",
                            .term = replica_term(f.replica) + 1,
                            .candidate_id = 3,
                            .last_log_index = 100,
                            .last_log_term = replica_term(f.replica),
                            .disrupt_leader = true};
    hear(&f, &ask);
    ask.server_id = ask.candidate_id = 2;
    ask.server_address = "two";
    hear(&f, &ask);
    *out_votes_3 = f.votes[3];
    *out_votes_2 = f.votes[2];
    codec_destroy(f.codec);
}

/* Claim: in one term one vote is given, also during a transfer (o); libraft alone gives two. */
static void test_one_vote_per_term(void **state)
{
    (void)state;
    uint32_t votes_3 = 0;
    uint32_t votes_2 = 0;
    ask_two_votes(0, &votes_3, &votes_2);
    assert_int_equal(votes_3, 1);
    assert_int_equal(votes_2, 0);
    ask_two_votes(MEASURE_TRANSFER, &votes_3, &votes_2);
    assert_int_equal(votes_3, 1);
    assert_int_equal(votes_2, 1);
}

/* A member that follows replica 2, and has just heard of it. */
static void follow(struct fixture *f)
{
    f->codec = codec_create();
    const struct raft_wire heartbeat = {.type = 1,
                                        .server_id = 2,
                                        .server_address = "two",
                                        .term = 1,
                                        .prev_log_index = 1,
                                        .prev_log_term = 1,
                                        .leader_commit = 1};
    hear(f, &heartbeat);
    assert_int_equal(replica_leader(f->replica, NULL), 2);
    f->asked.type = 0;
}

/* Claim: a leader whose process has ended is forgotten at once and a pre-vote asked for in a fraction of the
 * time-out; when it is heard after all it leads again, in the same term, and the time-out is whole. Any
 * other member's end changes nothing. */
static void test_a_leader_that_ended_is_not_waited_for(void **state)
{
    (void)state;
    struct fixture f;
    fixture_make(&f, 3);
    f.sim.now_us = 10000 * MS;
    assert_int_equal(boot(&f), 0);
    follow(&f);
    assert_false(replica_suspect(f.replica, 3, false));
    assert_false(replica_suspect(f.replica, 1, false));
    assert_int_equal(replica_leader(f.replica, NULL), 2);
    assert_true(replica_suspect(f.replica, 2, false));
    assert_false(replica_suspect(f.replica, 2, false));
    assert_int_equal(replica_leader(f.replica, NULL), 0);
    assert_int_equal(f.asked.type, 0);
    run_for(&f, 60);
    assert_int_equal(f.asked.type, 3);
    assert_true(f.asked.pre_vote);
    assert_int_equal(replica_term(f.replica), 1);

    codec_destroy(f.codec);
    follow(&f);
    assert_int_equal(replica_role(f.replica), REPLICA_FOLLOWER);
    run_for(&f, 400);
    assert_int_equal(f.asked.type, 0);
    assert_int_equal(replica_leader(f.replica, NULL), 2);
    codec_destroy(f.codec);
}

/* Claim: a member that is not fit to lead yet forgets a leader that has ended, so that it agrees to others, and
 * asks for votes itself only after a whole time-out: nobody else may be there. */
static void test_who_has_much_to_apply_lets_others_ask(void **state)
{
    (void)state;
    struct fixture f;
    fixture_make(&f, 3);
    f.sim.now_us = 10000 * MS;
    assert_int_equal(boot(&f), 0);
    follow(&f);
    assert_true(replica_suspect(f.replica, 2, true));
    assert_int_equal(replica_leader(f.replica, NULL), 0);
    run_for(&f, 400);
    assert_int_equal(f.asked.type, 0);
    run_for(&f, 2000);
    assert_int_equal(f.asked.type, 3);
    codec_destroy(f.codec);
}

/* Claim: whoever agrees that another one seek votes leaves it a turn to do so before it asks itself.
 * Method: suspect the leader; a moment before this member would ask, another one does. */
static void test_a_turn_is_left_to_who_asked_first(void **state)
{
    (void)state;
    struct fixture f;
    fixture_make(&f, 3);
    f.sim.now_us = 10000 * MS;
    assert_int_equal(boot(&f), 0);
    follow(&f);
    assert_true(replica_suspect(f.replica, 2, false));
    const struct raft_wire ask = {.type = 3,
                                  .server_id = 3,
                                  .server_address = "three",
                                  .term = 2,
                                  .candidate_id = 3,
                                  .last_log_index = 1,
                                  .last_log_term = 1,
                                  .pre_vote = true};
    hear(&f, &ask);
    run_for(&f, 160);
    assert_int_equal(f.asked.type, 0); /* without that, after 20 ms: see above */
    run_for(&f, 100);
    assert_int_equal(f.asked.type, 3);
    codec_destroy(f.codec);
}

/* Claim: time in which this process did not run is not the leader's silence; time in which it did is. */
static void test_a_late_tick_is_no_silence(void **state)
{
    (void)state;
    struct fixture f;
    fixture_make(&f, 3);
    assert_int_equal(boot(&f), 0);
    follow(&f);
    sim_run_until(&f.sim, f.sim.now_us + 60 * 1000 * MS);
    replica_tick(f.replica, f.sim.now_us / MS);
    assert_int_equal(f.asked.type, 0);
    assert_int_equal(replica_leader(f.replica, NULL), 2);
    run_for(&f, 1100);
    assert_int_equal(f.asked.type, 3);
    codec_destroy(f.codec);
}

/* Claim: checkpoints let the log go at its front, a restart begins from one, and a state that is
 * older than the manifest ends the replica with a sentence that says what to do. */
static void test_checkpoints(void **state)
{
    (void)state;
    struct fixture f;
    fixture_make(&f, 1);
    f.hooks.checkpoint_start = on_checkpoint_start;
    f.hooks.checkpoint_make = on_checkpoint_make;
    f.hooks.checkpoint_end = on_checkpoint_end;
    f.config.snapshot_bytes = 20000;
    assert_int_equal(boot(&f), 0);
    for (uint64_t i = 0; i < 5000; i++) {
        assert_int_equal(propose(&f, i, 64), 0);
        if (i % 100 == 99) {
            run_for(&f, 40);
        }
    }
    run_for(&f, 200);
    struct replica_counters counters;
    replica_counters(f.replica, &counters);
    assert_in_range(counters.snapshots_taken, 20, 40); /* 5000 * (64 + 88) / 20000 = 38 */
    assert_true(log_index_first(&f.log) > 1000);

    crash(&f);
    f.config.applied_index = f.manifest_index;
    f.applied_count = 0;
    assert_int_equal(boot(&f), 0);
    run_for(&f, 200);
    assert_int_equal(f.fatal_status, 0);
    assert_int_equal(f.applied_count, f.index_last - f.manifest_index);

    crash(&f);
    f.config.applied_index = f.manifest_index - 1; /* the store lost its newest flush */
    assert_int_not_equal(boot(&f), 0);
    assert_int_equal(f.fatal_status, STATUS_UNSUPPORTED);
    assert_non_null(strstr(f.fatal_what, "a state that is not here"));
    log_forget(&f.log);
}

static int on_checkpoint_start_late(void *context, uint64_t index)
{
    struct fixture *f = context;
    (void)index;
    return f->starts++ < 3 ? STATUS_FULL : 0;
}

/* Claim: a checkpoint that the state is not ready for is asked for again after the next turn, not seconds later:
 * until then the log would grow at the speed of the proposals.
 * Method: it is not ready three times; 300 ms of proposals. */
static void test_a_checkpoint_that_is_early_is_asked_for_again(void **state)
{
    (void)state;
    struct fixture f;
    fixture_make(&f, 1);
    f.hooks.checkpoint_start = on_checkpoint_start_late;
    f.hooks.checkpoint_make = on_checkpoint_make;
    f.hooks.checkpoint_end = on_checkpoint_end;
    f.config.snapshot_bytes = 20000;
    assert_int_equal(boot(&f), 0);
    for (uint64_t i = 0; i < 150; i++) {
        assert_int_equal(propose(&f, i, 64), 0);
        run_for(&f, 2);
    }
    struct replica_counters counters;
    replica_counters(f.replica, &counters);
    assert_int_equal(counters.snapshots_taken, 1); /* 150 * (64 + 88) / 20000 */
    crash(&f);
    log_forget(&f.log);
}

static int on_checkpoint_start_quiet(void *context, uint64_t index)
{
    struct fixture *f = context;
    (void)index;
    f->starts++;
    return f->refuse_starts ? STATUS_FULL : 0;
}

/* Claim: a checkpoint that was refused is made even when nobody writes any more, as at the limit of the log,
 * which only a checkpoint ends.
 * Method: refused as long as there are proposals, possible afterwards. */
static void test_a_checkpoint_that_was_refused_needs_no_writer(void **state)
{
    (void)state;
    struct fixture f;
    fixture_make(&f, 1);
    f.hooks.checkpoint_start = on_checkpoint_start_quiet;
    f.hooks.checkpoint_make = on_checkpoint_make;
    f.hooks.checkpoint_end = on_checkpoint_end;
    f.config.snapshot_bytes = 20000;
    f.refuse_starts = true;
    assert_int_equal(boot(&f), 0);
    for (uint64_t i = 0; i < 150; i++) {
        assert_int_equal(propose(&f, i, 64), 0);
        run_for(&f, 2);
    }
    assert_true(f.starts > 0);
    run_for(&f, 20000);
    assert_in_range(f.index_last + f.starts, 1, 1000); /* it does not ask at every turn */
    f.refuse_starts = false;
    run_for(&f, 5000);
    struct replica_counters counters;
    replica_counters(f.replica, &counters);
    assert_int_equal(counters.snapshots_taken, 1);
    const uint32_t starts = f.starts;
    run_for(&f, 20000);
    assert_int_equal(f.starts, starts); /* and is content then */
    crash(&f);
    log_forget(&f.log);
}

/* Entries of 4 KiB from replica 2, one a message, as long as they are taken. Answers the index of the last one. */
static uint64_t fill(struct fixture *f, uint64_t from, uint32_t most)
{
    static uint8_t bytes[4096];
    struct raft_wire_entry entry = {.term = 1, .type = 1, .data = {bytes, sizeof bytes}};
    for (uint32_t i = 0; i < most; i++) {
        hear(f, &(struct raft_wire){.type = 1,
                                    .server_id = 2,
                                    .server_address = "two",
                                    .term = 1,
                                    .prev_log_index = from,
                                    .prev_log_term = 1,
                                    .leader_commit = from,
                                    .entries = &entry,
                                    .entry_count = 1});
        run_for(f, 40);
        if (replica_last_index(f->replica) == from) {
            break;
        }
        from++;
    }
    return from;
}

/* Claim: a follower whose log is at its limit, and whose checkpoint was refused when it was due, makes it all the
 * same, though it takes nothing in and so applies nothing; its state is told nothing twice; then it goes on.
 * Method: entries until none is taken; heartbeats. */
static void test_a_follower_at_its_limit_makes_its_checkpoint(void **state)
{
    (void)state;
    struct fixture f;
    fixture_make(&f, 3);
    f.hooks.checkpoint_start = on_checkpoint_start_quiet;
    f.hooks.checkpoint_make = on_checkpoint_make;
    f.hooks.checkpoint_end = on_checkpoint_end;
    f.config.snapshot_bytes = 40000;
    f.config.snapshot_trailing_percent = 10;
    f.config.election_ms = 60000;
    f.limit_bytes = 8 * 64 * 1024;
    f.refuse_starts = true;
    assert_int_equal(boot(&f), 0);
    const uint64_t last = fill(&f, 1, 1000);
    struct replica_counters counters;
    replica_counters(f.replica, &counters);
    assert_true(counters.dropped > 0);
    assert_true(last < 200);
    const uint32_t applied = f.applied_count;
    const struct raft_wire heartbeat = {.type = 1,
                                        .server_id = 2,
                                        .server_address = "two",
                                        .term = 1,
                                        .prev_log_index = f.index_last,
                                        .prev_log_term = 1,
                                        .leader_commit = f.index_last};
    f.starts = 0;
    for (int i = 0; i < 200; i++) {
        run_for(&f, 60);
        hear(&f, &heartbeat);
        f.refuse_starts = i < 100;
        assert_in_range(f.starts, 0, 1 + i / 30); /* every two seconds, not at every turn */
    }
    replica_counters(f.replica, &counters);
    assert_int_equal(counters.snapshots_taken, 1);
    assert_int_equal(f.applied_count, f.index_last - 1); /* behind the founding entry */
    assert_int_equal(replica_applied_index(f.replica), f.index_last);
    f.codec = NULL;
    assert_int_equal(fill(&f, replica_last_index(f.replica), 10) >= last, true);
    assert_true(f.applied_count > applied);
    crash(&f);
    log_forget(&f.log);
}

/* Claim: entries are read from the log for a follower that lags when its link takes them, and only then: a minute with
 * a closed link reads nothing twice. When it opens, the follower gets all that it lacks.
 * Method: a follower that has nothing, and a leader whose memory begins behind that. */
static void test_nothing_is_read_for_a_link_that_is_closed(void **state)
{
    (void)state;
    struct fixture f;
    fixture_make(&f, 3);
    f.hooks.checkpoint_start = on_checkpoint_start;
    f.hooks.checkpoint_make = on_checkpoint_make;
    f.hooks.checkpoint_end = on_checkpoint_end;
    f.config.snapshot_bytes = 20000;
    f.config.snapshot_trailing_percent = 10;
    assert_int_equal(boot(&f), 0);
    lead(&f);
    struct raft_wire says = {
        .type = 2, .server_id = 3, .server_address = "three", .last_log_index = 1};
    for (uint64_t i = 0; i < 600; i++) {
        (void)propose(&f, i, 64);
        run_for(&f, 20);
        acknowledge(&f, 1);
    }
    struct replica_counters counters;
    replica_counters(f.replica, &counters);
    assert_true(counters.snapshots_taken > 0);
    f.cut = true;
    f.probed = 0;
    says.term = replica_term(f.replica);
    says.rejected = f.probe.prev_log_index; /* it has the founding entry */
    hear(&f, &says);
    says.rejected = 0;
    for (int i = 0; i < 2000; i++) {
        run_for(&f, 20);
        acknowledge(&f, 1);
    }
    replica_counters(f.replica, &counters);
    assert_int_equal(counters.lag_refused, 0);
    assert_int_equal(counters.lag_messages, 0);
    assert_int_equal(f.probed, 0);
    f.cut = false;
    for (int i = 0; i < 400 && says.last_log_index < replica_last_index(f.replica); i++) {
        run_for(&f, 20);
        acknowledge(&f, 1);
        const uint64_t end = f.probe.prev_log_index + f.probe.entry_count;
        const bool joins = f.probe.prev_log_index <= says.last_log_index;
        says.rejected = joins ? 0 : f.probe.prev_log_index;
        says.last_log_index = joins && end > says.last_log_index ? end : says.last_log_index;
        hear(&f, &says);
    }
    replica_counters(f.replica, &counters);
    assert_true(counters.lag_messages > 0);
    assert_int_equal(counters.lag_refused, 0);
    assert_int_equal(says.last_log_index, replica_last_index(f.replica));
    crash(&f);
    log_forget(&f.log);
    codec_destroy(f.codec);
}

/* As the leader of a term, offer a snapshot whose checkpoint has `applied`. */
static void offer_snapshot_of(struct fixture *f, uint64_t leader, uint64_t term, uint64_t index,
                              uint64_t epoch, uint64_t applied)
{
    const struct manifest manifest = {.epoch = epoch, .applied_index = applied};
    uint8_t data[64];
    assert_true(manifest_bytes(&manifest) <= sizeof data);
    manifest_encode(&manifest, data);
    static const struct raft_wire_server conf[] = {{1, "one", 1}, {2, "two", 1}, {3, "three", 1}};
    const struct raft_wire offer = {
        .type = 5,
        .server_id = leader,
        .server_address = conf[leader - 1].address,
        .term = term,
        .last_index = index,
        .last_term = 2,
        .conf_index = 1,
        .conf = conf,
        .conf_count = 3,
        .data = {data, manifest_bytes(&manifest)},
    };
    hear(f, &offer);
    run_for(f, 200);
}

static void offer_snapshot(struct fixture *f, uint64_t epoch, uint64_t applied)
{
    offer_snapshot_of(f, 2, 3, 40, epoch, applied);
}

/* Claim: a replica whose store was copied from another one takes a snapshot that this store covers
 * without any file, and goes on behind it, applying only what the store has not. */
static void test_a_copied_store_is_enough(void **state)
{
    (void)state;
    struct fixture f;
    fixture_make(&f, 3);
    f.config.applied_index = 42;
    assert_int_equal(boot(&f), 0);
    offer_snapshot(&f, 4, 41);
    assert_int_equal(f.fatal_status, 0);
    assert_int_equal(replica_applied_index(f.replica), 40);
    assert_int_equal(log_index_next(&f.log), 41);
    uint8_t bytes[4][8] = {{1}, {2}, {3}, {4}};
    struct raft_wire_entry entries[4];
    for (int i = 0; i < 4; i++) {
        entries[i] = (struct raft_wire_entry){.term = 3, .type = 1, .data = {bytes[i], 8}};
    }
    const struct raft_wire append = {
        .type = 1,
        .server_id = 2,
        .server_address = "two",
        .term = 3,
        .prev_log_index = 40,
        .prev_log_term = 2,
        .leader_commit = 44,
        .entries = entries,
        .entry_count = 4,
    };
    hear(&f, &append);
    run_for(&f, 200);
    assert_int_equal(replica_applied_index(f.replica), 44);
    assert_int_equal(f.applied_count, 2);
    assert_int_equal(f.applied[0], 3);
    assert_int_equal(f.applied[1], 4);

    crash(&f); /* what was installed is there after a crash */
    f.config.applied_index = 44;
    assert_int_equal(boot(&f), 0);
    assert_int_equal(replica_last_index(f.replica), 44);
    assert_int_equal(f.fatal_status, 0);
}

static bool on_behind(void *context)
{
    const struct fixture *f = context;
    return f->behind;
}

/* Claim: while the owner is behind, a follower takes no entries, and takes them when it is not; a
 * heartbeat is heard all the time. */
static void test_a_replica_that_is_behind_takes_nothing(void **state)
{
    (void)state;
    struct fixture f;
    fixture_make(&f, 3);
    f.hooks.behind = on_behind;
    assert_int_equal(boot(&f), 0);
    uint8_t bytes[8] = {1};
    struct raft_wire_entry entry = {.term = 3, .type = 1, .data = {bytes, 8}};
    struct raft_wire append = {
        .type = 1,
        .server_id = 2,
        .server_address = "two",
        .term = 3,
        .prev_log_index = 1,
        .prev_log_term = 1,
        .leader_commit = 2,
        .entries = &entry,
        .entry_count = 1,
    };
    f.behind = true;
    hear(&f, &append);
    run_for(&f, 100);
    assert_int_equal(replica_last_index(f.replica), 1);
    append.entry_count = 0;
    hear(&f, &append);
    assert_int_equal(replica_leader(f.replica, NULL), 2);
    f.behind = false;
    append.entry_count = 1;
    hear(&f, &append);
    run_for(&f, 100);
    assert_int_equal(replica_last_index(f.replica), 2);
    assert_int_equal(f.applied_count, 1);
}

/* A message of whoever leads, and so much time; the turn goes on. */
static void hear_for(struct fixture *f, const struct raft_wire *append, uint64_t ms)
{
    hear(f, append);
    sim_run_until(&f->sim, f->sim.now_us + ms * MS);
}

/* A follower of replica 2 in term 3 that has its first command, and has answered. */
static struct raft_wire follow_second(struct fixture *f, const struct raft_wire_entry *entry)
{
    fixture_make(f, 3);
    f->codec = codec_create();
    assert_int_equal(boot(f), 0);
    struct raft_wire append = {
        .type = 1,
        .server_id = 2,
        .server_address = "two",
        .features = PINGS,
        .term = 3,
        .prev_log_index = 1,
        .prev_log_term = 1,
        .leader_commit = 1,
        .entries = entry,
        .entry_count = 1,
    };
    hear_for(f, &append, 20);
    assert_int_equal(f->answers, 1);
    assert_int_equal(f->answer.last_log_index, 2);
    append.prev_log_index = 2;
    append.prev_log_term = 3;
    return append;
}

/* Claim: a follower applies what is agreed on at the end of a turn, when it is stored, and not before it has
 * acknowledged the entries that came with the news; who only tells what is agreed on gets no answer, a heartbeat does. */
static void test_a_follower_answers_before_it_applies(void **state)
{
    (void)state;
    struct fixture f;
    uint8_t bytes[8] = {1};
    const struct raft_wire_entry entry = {.term = 3, .type = 1, .data = {bytes, 8}};
    struct raft_wire append = follow_second(&f, &entry);
    append.leader_commit = 2;
    hear_for(&f, &append, 20);
    assert_int_equal(f.answers, 2);
    assert_int_equal(f.answer.last_log_index, 3);
    assert_int_equal(f.applied_count, 0);
    replica_flush(f.replica);
    assert_int_equal(f.applied_count, 1);
    assert_int_equal(f.answers, 2);

    append.prev_log_index = 3;
    append.leader_commit = 4; /* the others have it already */
    hear(&f, &append);
    replica_flush(f.replica);
    assert_int_equal(f.applied_count, 2); /* its own is not durable here */
    sim_run_until(&f.sim, f.sim.now_us + 20 * MS);
    assert_int_equal(f.answers, 3);
    replica_flush(f.replica);
    assert_int_equal(f.applied_count, 3);

    append.prev_log_index = 4;
    append.leader_commit = 4;
    hear_for(&f, &append, 20);
    assert_int_equal(f.answers, 4);
    append.features = PINGS | TELLS;
    append.entry_count = 0;
    append.prev_log_index = 5;
    append.leader_commit = 5;
    hear_for(&f, &append, 20);
    assert_int_equal(f.applied_count, 3);
    replica_flush(f.replica);
    assert_int_equal(f.applied_count, 4);
    assert_int_equal(f.answers, 4);
    append.features = PINGS;
    hear_for(&f, &append, 20);
    assert_int_equal(f.answers, 5);
    codec_destroy(f.codec);
}

/* Claim: what is said to be agreed on is applied only as far as our log is known to be that leader's. Method: a newer
 * leader has another entry where we have one, and speaks of what comes behind. */
static void test_a_follower_applies_what_is_its_leaders(void **state)
{
    (void)state;
    struct fixture f;
    uint8_t ours[8] = {1};
    uint8_t theirs[8] = {2};
    const struct raft_wire_entry old = {.term = 3, .type = 1, .data = {ours, 8}};
    const struct raft_wire_entry new = {.term = 4, .type = 1, .data = {theirs, 8}};
    struct raft_wire append = follow_second(&f, &old);
    append.leader_commit = 2;
    hear_for(&f, &append, 20);
    replica_flush(f.replica);
    assert_int_equal(f.applied_count, 1); /* 3 is here, and was not agreed on */

    append.server_id = 3;
    append.server_address = "three";
    append.term = 4;
    append.entries = &new;
    append.prev_log_index = 4;
    append.prev_log_term = 4;
    append.leader_commit = 4;
    hear_for(&f, &append, 20);
    assert_int_equal(f.answer.rejected, 4);
    replica_flush(f.replica);
    assert_int_equal(f.applied_count, 1);

    append.features = PINGS | TELLS;
    append.entry_count = 0;
    append.prev_log_index = 3;
    append.leader_commit = 3;
    const uint32_t answers = f.answers;
    hear_for(&f, &append, 20);
    assert_int_equal(f.answers, answers + 1); /* a refusal is news */
    assert_int_equal(f.answer.rejected, 3);
    replica_flush(f.replica);
    assert_int_equal(f.applied_count, 1);

    append.features = PINGS;
    append.entry_count = 1;
    append.prev_log_index = 2;
    append.prev_log_term = 3;
    hear_for(&f, &append, 20);
    replica_flush(f.replica);
    assert_int_equal(f.applied_count, 2);
    assert_int_equal(f.applied[1], 2);
    codec_destroy(f.codec);
}

struct fetching {
    uint64_t from;
    uint64_t needed;
    unsigned calls;
    unsigned restores;
};

static int on_fetch(void *context, uint64_t from, const struct manifest *manifest)
{
    struct fetching *fetching = ((struct fixture *)context)->fetching;
    fetching->from = from;
    fetching->needed = manifest->applied_index;
    fetching->calls++;
    return 0;
}

/* What was fetched is newer than what was asked for. */
static int on_restore(void *context, const struct manifest *manifest, uint64_t *out_applied_index)
{
    struct fetching *fetching = ((struct fixture *)context)->fetching;
    fetching->restores++;
    *out_applied_index = manifest->applied_index + 2;
    return 0;
}

/* Claim: while a state is fetched, the leader's next offer is dropped, and a newer leader's takes its
 * place and is asked for instead; the state that is restored may be newer than what it was asked for,
 * and then what it has is not applied again. */
static void test_a_newer_leader_is_fetched_from(void **state)
{
    (void)state;
    struct fixture f;
    struct fetching fetching = {0};
    fixture_make(&f, 3);
    f.fetching = &fetching;
    f.hooks.checkpoint_fetch = on_fetch;
    f.hooks.checkpoint_restore = on_restore;
    assert_int_equal(boot(&f), 0);
    offer_snapshot(&f, 4, 38);
    assert_int_equal(fetching.calls, 1);
    assert_int_equal(fetching.from, 2);
    offer_snapshot_of(&f, 2, 3, 60, 4, 58);
    assert_int_equal(fetching.calls, 1);
    offer_snapshot_of(&f, 3, 5, 50, 4, 50);
    assert_int_equal(fetching.calls, 2);
    assert_int_equal(fetching.from, 3);
    assert_int_equal(fetching.needed, 50);
    assert_int_equal(fetching.restores, 0);
    assert_int_equal(log_index_next(&f.log), 2); /* nothing is dropped before it is here */

    replica_fetched(f.replica, 0);
    run_for(&f, 200);
    assert_int_equal(fetching.restores, 1);
    assert_int_equal(f.fatal_status, 0);
    assert_int_equal(log_index_next(&f.log), 51);
    uint8_t bytes[3][8] = {{1}, {2}, {3}};
    struct raft_wire_entry entries[3];
    for (int i = 0; i < 3; i++) {
        entries[i] = (struct raft_wire_entry){.term = 5, .type = 1, .data = {bytes[i], 8}};
    }
    hear(&f, &(struct raft_wire){
                 .type = 1,
                 .server_id = 3,
                 .server_address = "three",
                 .term = 5,
                 .prev_log_index = 50,
                 .prev_log_term = 2,
                 .leader_commit = 53,
                 .entries = entries,
                 .entry_count = 3,
             });
    run_for(&f, 200);
    assert_int_equal(replica_applied_index(f.replica), 53);
    assert_int_equal(f.applied_count, 1); /* 51 and 52 came with the state */
    assert_int_equal(f.applied[0], 3);
}

/* Claim: a snapshot that needs files which nobody can fetch, or of another epoch, ends the replica
 * with a sentence, before anything is dropped. */
static void test_a_snapshot_that_needs_files_is_refused(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct fixture f;
        fixture_make(&f, 3);
        f.config.applied_index = 42;
        assert_int_equal(boot(&f), 0);
        offer_snapshot(&f, i == 0 ? 4 : 5, i == 0 ? 43 : 41);
        assert_int_equal(f.fatal_status, STATUS_UNSUPPORTED);
        assert_non_null(strstr(f.fatal_what, "a state that is not here"));
        assert_int_equal(replica_role(f.replica), REPLICA_ENDED);
        assert_int_equal(log_index_next(&f.log), 2); /* the founding entry is still all there is */
    }
}

/* Claim: a disk that fails ends the replica at once (d); nothing is acknowledged after it. */
static void test_a_failing_disk_is_the_end(void **state)
{
    (void)state;
    struct fixture f;
    fixture_make(&f, 1);
    assert_int_equal(boot(&f), 0);
    run_for(&f, 100);
    f.disk.fail_at = f.disk.operations + 1;
    f.disk.fail_status = -EIO;
    assert_int_equal(propose(&f, 1, 8), 0);
    run_for(&f, 200);
    assert_int_equal(f.fatal_status, -EIO);
    assert_int_equal(replica_role(f.replica), REPLICA_ENDED);
    assert_int_equal(f.done, 0);
    assert_int_equal(propose(&f, 2, 8), STATUS_CLOSING);
}

/* Claim: on a full disk proposals are refused with -ENOSPC, what was accepted waits, and both go on
 * when there is space again. */
static void test_a_full_disk_is_not_the_end(void **state)
{
    (void)state;
    struct fixture f;
    fixture_make(&f, 1);
    assert_int_equal(boot(&f), 0);
    run_for(&f, 100);
    f.disk.capacity_bytes = 1; /* whatever grows meets it */
    uint32_t accepted = 0;
    int status = 0;
    while (status == 0 && accepted < 100000) {
        status = propose(&f, accepted, 64);
        accepted += status == 0;
        if (accepted % 50 == 0) {
            run_for(&f, 20);
        }
    }
    assert_int_equal(status, -ENOSPC);
    assert_int_equal(f.fatal_status, 0);
    f.disk.capacity_bytes = UINT64_MAX;
    for (int i = 0; i < 5; i++) {
        log_tick(&f.log, 0);
        run_for(&f, 100);
    }
    assert_int_equal(f.done, accepted);
    assert_int_equal(f.done_status_bad, 0);
    assert_int_equal(propose(&f, 0, 8), 0);
}

/* Claim: where the log has room for some of what one turn proposes, those happen, and the others are told at once; none
 * waits for space that does not come. */
static void test_a_turn_takes_what_fits(void **state)
{
    (void)state;
    struct fixture f;
    fixture_make(&f, 1);
    assert_int_equal(boot(&f), 0);
    run_for(&f, 100);
    f.disk.capacity_bytes = 1; /* whatever grows meets it */
    uint32_t accepted = 0;
    int status = 0;
    while (status == 0 && accepted < 100000) {
        for (uint32_t i = 0; i < 100 && status == 0; i++) {
            status = propose(&f, accepted, 64);
            accepted += status == 0;
        }
        run_for(&f, 20);
    }
    assert_int_equal(status, -ENOSPC);
    assert_true(accepted % 100 > 0); /* in the middle of a turn */
    run_for(&f, 500);
    assert_int_equal(f.done, accepted);
    assert_int_equal(f.done_status_bad, 0);
    assert_int_equal(f.fatal_status, 0);
}

/* Claim: closing ends what waits, also what did not leave, lets the writes finish, and leaves a log that opens
 * again. */
static void test_close(void **state)
{
    (void)state;
    struct fixture f;
    fixture_make(&f, 1);
    assert_int_equal(boot(&f), 0);
    for (uint64_t i = 0; i < 5; i++) {
        assert_int_equal(propose(&f, i, 8), 0);
    }
    replica_flush(f.replica);
    assert_int_equal(propose(&f, 5, 8), 0);
    replica_close(f.replica, on_closed, &f);
    assert_int_equal(f.closing, 6);
    assert_false(f.closed); /* writes are under way */
    sim_run_until(&f.sim, f.sim.now_us + 100 * MS);
    assert_true(f.closed);
    assert_int_equal(replica_role(f.replica), REPLICA_ENDED);
    f.closed = false;
    log_close(&f.log, on_closed, &f);
    sim_run_until(&f.sim, f.sim.now_us + 100 * MS);
    assert_true(f.closed);
    assert_int_equal(boot(&f), 0);
    run_for(&f, 100);
    assert_int_equal(f.applied_count, 5); /* unknown fate: they happened */
}

/* Claim: a read that waits hears of the close. */
static void test_close_ends_reads(void **state)
{
    (void)state;
    struct fixture f;
    fixture_make(&f, 3);
    assert_int_equal(boot(&f), 0);
    lead(&f);
    assert_int_equal(replica_read(f.replica, on_read, &f), 0);
    replica_close(f.replica, on_closed, &f);
    assert_int_equal(f.reads, 1);
    assert_int_equal(f.read_status, STATUS_CLOSING);
    codec_destroy(f.codec);
}

/* What a replica and libraft hold is not given back (replica.h says why): no leak of ours. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:replica_\nleak:raft_memory\nleak:libraft\n";
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_commands_are_applied_once),
        cmocka_unit_test(test_proposals_are_bounded),
        cmocka_unit_test(test_a_follower_refuses),
        cmocka_unit_test(test_foreign_messages_are_refused),
        cmocka_unit_test(test_a_read_asks_a_quorum),
        cmocka_unit_test(test_a_leader_that_is_alone_serves_no_read),
        cmocka_unit_test(test_a_follower_answers_its_leader),
        cmocka_unit_test(test_a_read_among_older_releases),
        cmocka_unit_test(test_a_new_leader_does_not_change_the_group_yet),
        cmocka_unit_test(test_a_follower_hears_at_once_what_is_agreed_on),
        cmocka_unit_test(test_commands_of_a_turn_leave_together),
        cmocka_unit_test(test_what_followers_get_alike_is_built_once),
        cmocka_unit_test(test_lost_leadership_ends_all_proposals),
        cmocka_unit_test(test_who_returns_is_not_sent_the_whole_log),
        cmocka_unit_test(test_one_vote_per_term),
        cmocka_unit_test(test_a_leader_that_ended_is_not_waited_for),
        cmocka_unit_test(test_who_has_much_to_apply_lets_others_ask),
        cmocka_unit_test(test_a_turn_is_left_to_who_asked_first),
        cmocka_unit_test(test_a_late_tick_is_no_silence),
        cmocka_unit_test(test_checkpoints),
        cmocka_unit_test(test_a_checkpoint_that_is_early_is_asked_for_again),
        cmocka_unit_test(test_a_checkpoint_that_was_refused_needs_no_writer),
        cmocka_unit_test(test_a_follower_at_its_limit_makes_its_checkpoint),
        cmocka_unit_test(test_nothing_is_read_for_a_link_that_is_closed),
        cmocka_unit_test(test_a_copied_store_is_enough),
        cmocka_unit_test(test_a_replica_that_is_behind_takes_nothing),
        cmocka_unit_test(test_a_follower_answers_before_it_applies),
        cmocka_unit_test(test_a_follower_applies_what_is_its_leaders),
        cmocka_unit_test(test_a_newer_leader_is_fetched_from),
        cmocka_unit_test(test_a_snapshot_that_needs_files_is_refused),
        cmocka_unit_test(test_a_failing_disk_is_the_end),
        cmocka_unit_test(test_a_full_disk_is_not_the_end),
        cmocka_unit_test(test_a_turn_takes_what_fits),
        cmocka_unit_test(test_close),
        cmocka_unit_test(test_close_ends_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
