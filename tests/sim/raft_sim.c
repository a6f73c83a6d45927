/* N replicas, their disks and the network between them in one thread, from one seed.
 *
 * The code under test is the real one: log/, raft_io, the guard, the door, libraft itself. What is
 * simulated: the disk (disk_sim: crashes tear writes), the network (loss, delay, partitions, cuts
 * in one direction, full queues), time (clocks that stop, processes that stand still), the pool, and a
 * state machine that remembers how far it is flushed and makes checkpoints that others fetch. Clients
 * propose, and readers ask whoever believes to lead where to read.
 *
 *     raft_sim seeds=1000              run seeds 1 .. 1000, one process each
 *     raft_sim seed=77 seeds=1 v=1     tell the story of one; v=2: with every message
 *     raft_sim off=acd loss=10 ...     without these measures (raft_guard.h)
 *     raft_sim plan=FILE               one campaign per line; with off= it must find a failing seed
 *                                      (a canary: the rig is alive), the others must not
 *
 * A seed fails by one of the oracles below, by a broken CHECK, by a crash inside libraft, or by not
 * ending. The last line printed is the summary; failing seeds print the command that repeats them.
 */
#include "log/log.h"
#include "replication/replica.h"
#include "schemas/check.h"
#include "schemas/codec.h"
#include "tests/sim/disk_sim.h"
#include "tests/sim/sim.h"

#include <raft.h> /* only raft_heap_set: a crash takes the memory of a replica with it */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NODES_MAX LIMIT_REPLICAS
#define MS        UINT64_C(1000)
#define SECOND    UINT64_C(1000000)

enum oracle {
    ORACLE_NONE = 0,
    ORACLE_STATE = 10,      /* two replicas apply different commands at one index */
    ORACLE_LOST = 11,       /* an acknowledged command is in no state at the end */
    ORACLE_LEADERS = 12,    /* two leaders in one term */
    ORACLE_STUCK = 13,      /* a member of the group does not catch up in quiet times */
    ORACLE_LEADERLESS = 14, /* no leader in quiet times */
    ORACLE_HISTORY = 15,    /* two logs differ at an index that is applied */
    ORACLE_STALE =
        16, /* a read does not show all that was acknowledged, or read, before it began */
    ORACLE_STARVED = 17, /* a leader in quiet times that commits nothing under a steady load */
    ORACLE_START = 18,   /* a replica does not start from what it stored */
    ORACLE_FATAL = 19,   /* a replica ended itself and no fault was injected */
    ORACLE_MEMORY = 20,  /* a replica took more memory than memory= says */
    ORACLE_BEHIND =
        21, /* a replica that came back in quiet times does not catch up with a steady load */
    ORACLE_LAST = 21,
};

static const char *const oracle_names[ORACLE_LAST + 1] = {
    [ORACLE_STATE] = "state",           [ORACLE_LOST] = "lost",
    [ORACLE_LEADERS] = "leaders",       [ORACLE_STUCK] = "stuck",
    [ORACLE_LEADERLESS] = "leaderless", [ORACLE_HISTORY] = "history",
    [ORACLE_STALE] = "stale",           [ORACLE_STARVED] = "starved",
    [ORACLE_START] = "start",           [ORACLE_FATAL] = "fatal",
    [ORACLE_MEMORY] = "memory",         [ORACLE_BEHIND] = "behind",
};

/* The letters of the table of defects, by bit of enum replica_measure. */
static const char measure_letters[] = "abcdefghijopqrstuv";

struct options {
    uint64_t seed, seeds, jobs, verbose;
    uint64_t secs;                   /* of trouble */
    uint64_t calm_ms;                /* of load without trouble, afterwards */
    uint64_t away_ms;                /* in the calm one that does not lead is down for so long */
    uint64_t fetch_min_ms, fetch_ms; /* how long a state is copied */
    uint64_t n;                      /* nodes in all */
    uint64_t standby;                /* the last of the founders are standbys */
    uint64_t outside;    /* the last nodes are no founders; they are added and removed */
    uint64_t loss;       /* per cent of messages */
    uint64_t load_us;    /* the longest pause between two clients */
    uint64_t burst;      /* most commands of one client */
    uint64_t size;       /* bytes of the largest command */
    uint64_t memory;     /* the most of libraft's memory a replica may hold; 0: not looked at */
    uint64_t snapshot;   /* bytes between checkpoints */
    uint64_t trailing;   /* per cent */
    uint64_t limit;      /* bytes of a log; 0: none, and larger segments */
    uint64_t transfer;   /* per cent of the nemesis' turns */
    uint64_t faults;     /* per cent of the nemesis' turns */
    uint64_t full;       /* per cent of the nemesis' turns: a disk is full for a while */
    uint64_t assassin;   /* per cent of new leaderships that end in a crash at once */
    uint64_t suspect;    /* of 10,000 ticks, those in which the leader is taken for dead */
    uint64_t eager;      /* per cent of new leaderships that begin with a command at once */
    uint64_t read_us;    /* the longest pause between two readers; each new leader gets one too */
    uint64_t pause;      /* per cent of the nemesis' turns: a process stands still for a while */
    uint64_t stop;       /* per cent of the nemesis' turns: a clock stands still for a while */
    uint64_t old;        /* per cent of lives of a release without pings */
    uint64_t down;       /* one of the nodes stays down at the end */
    uint64_t nemesis_ms; /* longest pause between two turns */
    uint64_t slow;       /* disks take this many times longer when they are slow */
    uint64_t crash, partition; /* 0: not */
    uint64_t delay_min, delay; /* of messages, in microseconds */
    uint64_t disk;             /* the longest a write takes, in microseconds */
    uint64_t queue;            /* bytes one link holds before it answers STATUS_FULL */
    uint32_t off;              /* measures */
    const char *plan;
    const char *progress;
};

static const struct options defaults = {
    .seed = 1,
    .seeds = 1,
    .jobs = 1,
    .secs = 18,
    .calm_ms = 5000,
    .fetch_min_ms = 5,
    .fetch_ms = 300,
    .n = 3,
    .loss = 2,
    .load_us = 8000,
    .read_us = 30000,
    .pause = 6,
    .stop = 6,
    .burst = 30,
    .size = 96,
    .snapshot = 6000,
    .trailing = 33,
    .nemesis_ms = 1200,
    .slow = 25,
    .crash = 1,
    .partition = 1,
    .delay_min = 100,
    .delay = 2000,
    .disk = 3000,
    .queue = 256 * 1024,
};
static struct options option;

/* -- memory: what a replica holds goes with its crash ------------------------------------------ */

struct block {
    struct block *next, *previous;
    size_t size, owner;
};
static struct block heaps[NODES_MAX + 1]; /* the last belongs to nobody */
static unsigned heap_now = NODES_MAX;
static uint64_t heap_bytes[NODES_MAX + 1];
static uint64_t heap_most; /* of any replica in any life */

static void *heap_malloc(void *data, size_t size)
{
    (void)data;
    struct block *block = malloc(sizeof *block + size);
    CHECK(block != NULL);
    struct block *heap = &heaps[heap_now];
    *block = (struct block){.next = heap->next, .previous = heap, .size = size, .owner = heap_now};
    heap->next->previous = block;
    heap->next = block;
    heap_bytes[heap_now] += size;
    heap_most =
        heap_now < NODES_MAX && heap_bytes[heap_now] > heap_most ? heap_bytes[heap_now] : heap_most;
    /* What was in it before: another thing at each replica, and nothing that may be written. */
    memset(block + 1, 0x51 + (int)heap_now, size < 512 ? size : 512);
    return block + 1;
}

static void heap_free(void *data, void *memory)
{
    (void)data;
    if (memory != NULL) {
        struct block *block = (struct block *)memory - 1;
        heap_bytes[block->owner] -= block->size;
        block->next->previous = block->previous;
        block->previous->next = block->next;
        free(block);
    }
}

static void *heap_calloc(void *data, size_t count, size_t size)
{
    void *memory = heap_malloc(data, count * size);
    memset(memory, 0, count * size);
    return memory;
}

static void *heap_realloc(void *data, void *memory, size_t size)
{
    void *moved = heap_malloc(data, size);
    if (memory != NULL) {
        const struct block *block = (struct block *)memory - 1;
        memcpy(moved, memory, block->size < size ? block->size : size);
        heap_free(data, memory);
    }
    return moved;
}

static void *heap_aligned(void *data, size_t alignment, size_t size)
{
    (void)alignment;
    return heap_malloc(data, size);
}

static void heap_aligned_free(void *data, size_t alignment, void *memory)
{
    (void)alignment;
    heap_free(data, memory);
}

static struct raft_heap heap = {NULL,         heap_malloc,  heap_free,        heap_calloc,
                                heap_realloc, heap_aligned, heap_aligned_free};

static void heap_wipe(unsigned owner)
{
    struct block *head = &heaps[owner];
    heap_bytes[owner] = 0;
    while (head->next != head) {
        struct block *block = head->next;
        block->next->previous = head;
        head->next = block->next;
        free(block);
    }
}

/* -- the world --------------------------------------------------------------------------------- */

struct node {
    unsigned number;
    uint64_t id;
    char address[16];
    bool alive;
    bool dying;  /* ended itself; crashes when the event is over */
    bool faulty; /* a fault was injected into its disk in this life */
    uint64_t life;
    uint64_t paused_until; /* its process stands still: nothing of it happens before */
    uint64_t clock_lag;    /* of its clock behind the world's, when that clock goes */
    uint64_t clock_until;  /* it stands still at clock_frozen */
    uint64_t clock_frozen;
    struct disk_sim disk;
    struct log log;
    struct replica *replica;
    uint64_t told_term; /* last term it was seen leading */

    uint64_t applied;    /* state: everything up to here; what it is, the world's table knows */
    uint64_t flushed;    /* what a crash leaves of it */
    uint64_t last_index; /* of hooks.apply in this life */
    uint64_t staged;     /* a fetched checkpoint: applied index; 0: none */
    uint64_t checkpoint; /* the newest kept: applied index */
    uint64_t fetching;   /* applied index of the manifest being fetched */
    unsigned fetch_from;
    struct manifest_file files[3];
};

struct message {
    unsigned from, to;
    size_t size;
    uint8_t data[];
};

/* What is known to be true of one index, once any replica applied it. */
struct truth {
    uint64_t command;
    uint64_t term;
    uint32_t check; /* of the frame's bytes, from the first log that is looked at in the end */
    uint8_t type;
};

static struct sim sim;
static struct node nodes[NODES_MAX];
static bool cuts[NODES_MAX][NODES_MAX];
static uint64_t arrival[NODES_MAX][NODES_MAX]; /* of the last message: links keep their order */
static uint64_t in_flight[NODES_MAX][NODES_MAX];
static struct truth *truths;
static uint64_t truth_count;
static uint64_t *leader_of; /* by term */
static uint64_t leader_count;
static uint64_t command_next = 1;
static uint64_t acked_index; /* the highest that a client was told of */
static uint64_t seen_index;  /* the highest that a reader has seen applied */
static bool trouble;         /* the nemesis is at work */
static bool clients;         /* clients are */
static uint64_t calm_since;  /* of the present leader, when nothing disturbs it */
static uint64_t calm_term;
static uint64_t calm_commit;
static uint64_t calm_moved;
static uint64_t calm_floor; /* what was committed some time before the clients end */

struct tally { /* numbers only: they are added up */
    uint64_t acked, submitted, elections, crashes, messages, bytes, events, reads, installs, taken;
    uint64_t seconds;
    uint64_t memory; /* the most of one replica in each seed */
    struct replica_counters guard;
};
static struct tally tally_mine;
static struct tally *tally = &tally_mine;
static struct tally *tally_all; /* shared with the processes of the seeds */

static void story(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void story(const char *format, ...)
{
    if (option.verbose == 0) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    printf("%10.6f ", (double)sim.now_us / 1e6);
    vprintf(format, arguments);
    putchar('\n');
    va_end(arguments);
}

__attribute__((noreturn)) static void fail(enum oracle oracle, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void fail(enum oracle oracle, const char *format, ...)
{
    if (option.verbose != 0) {
        va_list arguments;
        va_start(arguments, format);
        printf("%10.6f violation oracle=%s ", (double)sim.now_us / 1e6, oracle_names[oracle]);
        vprintf(format, arguments);
        putchar('\n');
        va_end(arguments);
        fflush(stdout);
    }
    _exit((int)oracle);
}

static void node_enter(const struct node *node)
{
    heap_now = node->number;
}

/* It runs, so clients and the nemesis can talk to it. */
static bool node_awake(const struct node *node)
{
    return node->alive && !node->dying && sim.now_us >= node->paused_until;
}

/* What its own clock says. Never goes back. */
static uint64_t node_clock(const struct node *node)
{
    return sim.now_us < node->clock_until ? node->clock_frozen : sim.now_us - node->clock_lag;
}

static void *grown(void *memory, uint64_t *count, uint64_t need, size_t item)
{
    if (need < *count) {
        return memory;
    }
    const uint64_t larger = need * 2 + 256;
    memory = realloc(memory, larger * item);
    CHECK(memory != NULL);
    memset((uint8_t *)memory + *count * item, 0, (larger - *count) * item);
    *count = larger;
    return memory;
}

/* Something came in: mostly the turn of its loop ends with that, else it goes on. */
static void turn_may_end(const struct node *node)
{
    if (sim_below(&sim, 4) != 0) {
        replica_flush(node->replica);
    }
}

/* -- network ----------------------------------------------------------------------------------- */

/* With v=2 every message is part of the story. */
static void message_tell(const struct message *message)
{
    static const char *const names[] = {"?",        "append",      "result", "vote", "voted",
                                        "snapshot", "timeout-now", "ping",   "pong"};
    static struct codec *codec;
    if (option.verbose < 2) {
        return;
    }
    if (codec == NULL) {
        codec = codec_create();
    }
    codec_reset(codec);
    struct raft_wire wire;
    const struct bytes bytes = codec_aligned(codec, bytes_of(message->data, message->size));
    CHECK(codec_raft_wire_read(codec, bytes, &wire) == 0);
    story("message from=%u to=%u type=%s term=%lu prev=%lu/%lu entries=%u commit=%lu rejected=%lu "
          "last=%lu/%lu snapshot=%lu/%lu pre=%d granted=%d round=%lu",
          message->from + 1, message->to + 1, names[wire.type > 8 ? 0 : wire.type], wire.term,
          wire.prev_log_index, wire.prev_log_term, wire.entry_count, wire.leader_commit,
          wire.rejected, wire.last_log_index, wire.last_log_term, wire.last_index, wire.last_term,
          wire.pre_vote, wire.vote_granted, wire.round);
}

static void message_arrive(void *context)
{
    struct message *message = context;
    struct node *node = &nodes[message->to];
    in_flight[message->from][message->to] -= message->size;
    if (node->alive && !node->dying && !cuts[message->from][message->to]) {
        node_enter(node);
        message_tell(message);
        tally->messages++;
        tally->bytes += message->size;
        const int status = replica_receive(node->replica, nodes[message->from].id,
                                           bytes_of(message->data, message->size));
        CHECK(status == 0 || status == STATUS_CLOSING || option.old > 0);
        turn_may_end(node);
    }
    free(message);
}

static int peer_send(void *context, uint64_t to, struct bytes bytes)
{
    const struct node *node = context;
    const unsigned target = (unsigned)to - 1;
    CHECK(target < option.n);
    CHECK(target != node->number);
    if (cuts[node->number][target] || !nodes[target].alive) {
        return sim_chance(&sim, 500000) ? -ENOTCONN : 0;
    }
    if (in_flight[node->number][target] + bytes.size > option.queue &&
        in_flight[node->number][target] > 0) {
        return STATUS_FULL;
    }
    if (sim_below(&sim, 100) < option.loss && trouble) {
        return 0;
    }
    struct message *message = malloc(sizeof *message + bytes.size);
    CHECK(message != NULL);
    *message = (struct message){.from = node->number, .to = target, .size = bytes.size};
    memcpy(message->data, bytes.data, bytes.size);
    in_flight[node->number][target] += bytes.size;
    const uint64_t delay = sim_between(&sim, option.delay_min,
                                       sim_chance(&sim, 50000) && trouble ? 60 * MS : option.delay);
    uint64_t *last = &arrival[node->number][target];
    *last = sim.now_us + delay > *last ? sim.now_us + delay : *last + 1;
    sim_after(&sim, *last - sim.now_us, 0, message_arrive, message);
    return 0;
}

/* A process that ended has closed its links; of a cut nobody knows, and of a message that does not fit neither. */
static bool peer_room(void *context, uint64_t to)
{
    const struct node *node = context;
    const unsigned target = (unsigned)to - 1;
    return nodes[target].alive && in_flight[node->number][target] < option.queue;
}

/* -- the state machine ------------------------------------------------------------------------- */

static void state_apply(void *context, uint64_t index, uint64_t term, struct bytes command)
{
    struct node *node = context;
    CHECK(command.size >= 8);
    CHECK(command.size % 8 == 0);
    const uint64_t id = get_le64(command.data);
    truths = grown(truths, &truth_count, index, sizeof *truths);
    struct truth *truth = &truths[index];
    if (truth->command != 0 && (truth->command != id || truth->term != term)) {
        fail(ORACLE_STATE, "node=%u index=%lu applies=%lu term=%lu others=%lu term=%lu",
             node->number + 1, index, id, term, truth->command, truth->term);
    }
    if (index <= node->applied || index <= node->last_index) {
        fail(ORACLE_STATE, "node=%u index=%lu again", node->number + 1, index);
    }
    truth->command = id;
    truth->term = term;
    node->last_index = index;
    node->applied = index;
    if (sim_chance(&sim, 20000)) {
        node->flushed = index;
    }
}

static int state_start(void *context, uint64_t index)
{
    struct node *node = context;
    CHECK(index <= replica_applied_index(node->replica));
    return sim_chance(&sim, 50000) ? STATUS_FULL : 0;
}

static int state_make(void *context, struct manifest *out)
{
    struct node *node = context;
    if (sim_chance(&sim, 30000)) {
        return -EIO;
    }
    const uint64_t index = node->applied;
    node->flushed = index;
    node->checkpoint = index; /* on the disk from here on, whatever comes of it */
    for (uint32_t i = 0; i < 3; i++) {
        snprintf(node->files[i].name, sizeof node->files[i].name, "%06lu.sst", index + i);
        node->files[i].size_bytes = index * 100;
        node->files[i].crc32c = (uint32_t)index;
    }
    out->applied_index = index;
    out->file_count = 3;
    out->files = node->files;
    return 0;
}

static void state_end(void *context, int status)
{
    (void)context;
    tally->taken += status == 0;
}

static void state_on_fetched(void *context)
{
    struct node *node = context;
    const struct node *from = &nodes[node->fetch_from];
    const bool there = from->alive && from->checkpoint >= node->fetching &&
                       !cuts[node->number][node->fetch_from] &&
                       (!trouble || !sim_chance(&sim, 100000));
    if (there) {
        node->staged = node->fetching;
    }
    const uint64_t fetched = node->fetching;
    node->fetching = 0;
    story("fetched node=%u applied=%lu ok=%d", node->number + 1, fetched, there);
    replica_fetched(node->replica, there ? 0 : -EIO);
}

static int state_fetch(void *context, uint64_t from, const struct manifest *manifest)
{
    struct node *node = context;
    CHECK(manifest->file_count == 3);
    CHECK(manifest->files[0].size_bytes == manifest->applied_index * 100);
    story("fetch node=%u from=%lu applied=%lu", node->number + 1, from, manifest->applied_index);
    const bool under_way = node->fetching != 0;
    node->fetching = manifest->applied_index;
    node->fetch_from = (unsigned)from - 1;
    if (!under_way) {
        sim_after(&sim, sim_between(&sim, option.fetch_min_ms * MS, option.fetch_ms * MS),
                  node->life, state_on_fetched, node);
    }
    return 0;
}

static int state_restore(void *context, const struct manifest *manifest,
                         uint64_t *out_applied_index)
{
    struct node *node = context;
    if (node->staged != manifest->applied_index) {
        return -ENOENT;
    }
    *out_applied_index = manifest->applied_index;
    node->applied = manifest->applied_index;
    node->flushed = manifest->applied_index;
    node->checkpoint = manifest->applied_index;
    tally->installs++;
    story("restored node=%u applied=%lu", node->number + 1, node->applied);
    return 0;
}

static void pool_run(void *context)
{
    struct replica_work *work = context;
    work->work(work);
    work->done(work);
}

static void state_run(void *context, struct replica_work *work)
{
    const struct node *node = context;
    sim_after(&sim, sim_between(&sim, MS, 50 * MS), node->life, pool_run, work);
}

static void node_on_fatal(void *context, const char *what, int status)
{
    struct node *node = context;
    story("fatal node=%u status=%d what=\"%s\"", node->number + 1, status, what);
    if (!node->faulty) {
        fail(ORACLE_FATAL, "node=%u status=%d %s", node->number + 1, status, what);
    }
    node->dying = true;
}

static void client_propose(struct node *node);
static void client_read(struct node *node);
static void nemesis_change(struct node *leader);
static void node_assassinate(void *context)
{
    struct node *node = context;
    if (trouble && replica_role(node->replica) == REPLICA_LEADER) {
        node->dying = true;
    }
}

static void node_on_leadership(void *context, enum replica_role role, uint64_t term,
                               uint64_t leader)
{
    struct node *node = context;
    (void)leader;
    if (role != REPLICA_LEADER || term == node->told_term) {
        return;
    }
    node->told_term = term;
    leader_of = grown(leader_of, &leader_count, term, sizeof *leader_of);
    if (leader_of[term] != 0) {
        fail(ORACLE_LEADERS, "term=%lu nodes=%lu,%lu", term, leader_of[term], node->id);
    }
    leader_of[term] = node->id;
    tally->elections++;
    story("leads node=%u term=%lu last=%lu commit=%lu", node->number + 1, term,
          replica_last_index(node->replica), replica_commit_index(node->replica));
    if (sim_below(&sim, 100) < option.assassin) {
        const uint64_t longest = sim_chance(&sim, 500000) ? 60 * MS : 4 * MS;
        sim_after(&sim, sim_between(&sim, 100, longest), node->life, node_assassinate, node);
    }
    if (sim_below(&sim, 100) < option.eager && clients) {
        client_propose(node);
        if (option.outside > 0 && trouble) {
            nemesis_change(node);
        }
    }
    if (clients) {
        client_read(node);
    }
}

/* -- life and death ---------------------------------------------------------------------------- */

static void node_tick(void *context)
{
    struct node *node = context;
    sim_after(&sim, 25 * MS, node->life, node_tick, node);
    replica_tick(node->replica, node_clock(node) / MS);
    /* Rightly or not: what is suspected may be alive, and may be heard again at once. */
    if (trouble && option.suspect > 0 && sim_below(&sim, 10000) < option.suspect) {
        (void)replica_suspect(node->replica, replica_leader(node->replica, NULL),
                              replica_term(node->replica) % 4 == 0);
    }
    replica_flush(node->replica); /* no turn is longer */
}

static void node_log_tick(void *context)
{
    struct node *node = context;
    sim_after(&sim, SECOND, node->life, node_log_tick, node);
    log_tick(&node->log, (int64_t)(node_clock(node) / MS));
}

static void node_boot(struct node *node)
{
    CHECK(!node->alive);
    node_enter(node);
    node->life = sim_owner_new(&sim);
    const struct log_options log_options = {
        .directory = "/log",
        .owner = {(uint8_t)node->id},
        .segment_bytes = option.limit != 0 ? SEGMENT_BYTES_MIN : 64 * 1024,
        .limit_bytes = option.limit,
    };
    struct log_recovery recovery;
    int status = log_open(&node->log, &node->disk.disk, &log_options, &recovery);
    if (status != 0) {
        fail(ORACLE_START, "node=%u log_open=%d %s", node->number + 1, status,
             recovery.message == NULL ? "" : recovery.message);
    }
    struct replica_member members[NODES_MAX];
    const unsigned founders = (unsigned)(option.n - option.outside);
    for (unsigned i = 0; i < founders; i++) {
        members[i] = (struct replica_member){
            .id = nodes[i].id,
            .address = nodes[i].address,
            .role = i + option.standby >= founders ? REPLICA_STANDBY : REPLICA_VOTER};
    }
    const struct replica_config config = {
        .id = node->id,
        .address = node->address,
        .members = members,
        .member_count = node->number < founders ? founders : 0,
        .epoch = 7,
        .applied_index = node->flushed,
        .seed = sim_random(&sim),
        .now_ms = node_clock(node) / MS,
        .election_ms = 300,
        .heartbeat_ms = 50,
        .snapshot_bytes = option.snapshot,
        .snapshot_trailing_percent = (uint32_t)option.trailing,
        .run = state_run,
        .measures_off =
            option.off | (sim_below(&sim, 100) < option.old ? (uint32_t)MEASURE_PING : 0),
    };
    const struct replica_hooks hooks = {.context = node,
                                        .apply = state_apply,
                                        .leadership = node_on_leadership,
                                        .fatal = node_on_fatal,
                                        .checkpoint_start = state_start,
                                        .checkpoint_make = state_make,
                                        .checkpoint_end = state_end,
                                        .checkpoint_fetch = state_fetch,
                                        .checkpoint_restore = state_restore};
    const struct replica_peers peers = {.context = node, .send = peer_send, .room = peer_room};
    node->applied = node->flushed;
    node->last_index = 0;
    node->fetching = 0;
    node->told_term = 0;
    node->dying = false;
    node->faulty = false;
    node->alive = true;
    node->paused_until = 0;
    status = replica_open(&node->log, &config, &hooks, &peers, &node->replica);
    if (status != 0) {
        fail(ORACLE_START, "node=%u replica_open=%d", node->number + 1, status);
    }
    story("starts node=%u term=%lu last=%lu applied=%lu state=%lu", node->number + 1,
          replica_term(node->replica), replica_last_index(node->replica),
          replica_applied_index(node->replica), node->applied);
    sim_after(&sim, sim_between(&sim, 0, 25 * MS), node->life, node_tick, node);
    sim_after(&sim, SECOND, node->life, node_log_tick, node);
}

static void guard_add(const struct node *node)
{
    struct replica_counters counters;
    replica_counters(node->replica, &counters);
    const uint64_t *from = (const uint64_t *)&counters;
    uint64_t *to = (uint64_t *)&tally->guard;
    for (size_t i = 0; i < sizeof counters / sizeof *from; i++) {
        to[i] += from[i];
    }
}

static void node_crash(struct node *node)
{
    CHECK(node->alive);
    story("crashes node=%u role=%d term=%lu last=%lu commit=%lu", node->number + 1,
          replica_role(node->replica), replica_term(node->replica),
          replica_last_index(node->replica), replica_commit_index(node->replica));
    guard_add(node);
    tally->crashes++;
    node->alive = false;
    sim_cancel_owner(&sim, node->life);
    static const enum disk_sim_crash ways[] = {DISK_SIM_KILL, DISK_SIM_POWER, DISK_SIM_POWER,
                                               DISK_SIM_POWER_DROP, DISK_SIM_POWER_KEEP};
    disk_sim_crash(&node->disk, ways[sim_below(&sim, 5)]);
    log_forget(&node->log);
    heap_wipe(node->number);
    node->replica = NULL;
}

static void node_restart(void *context)
{
    struct node *node = context;
    if (!node->alive) {
        node_boot(node);
    }
}

static void node_crash_and_restart(struct node *node, uint64_t longest_ms)
{
    node_crash(node);
    sim_after(&sim, sim_between(&sim, 50 * MS, longest_ms * MS), 0, node_restart, node);
}

/* -- clients ----------------------------------------------------------------------------------- */

static struct node *node_leading(void)
{
    struct node *leader = NULL;
    for (unsigned i = 0; i < option.n; i++) {
        struct node *node = &nodes[i];
        if (node_awake(node) && replica_role(node->replica) == REPLICA_LEADER &&
            (leader == NULL || replica_term(node->replica) > replica_term(leader->replica))) {
            leader = node;
        }
    }
    return leader;
}

static void client_on_done(void *context, int status, uint64_t index)
{
    const uint64_t command = (uint64_t)(uintptr_t)context;
    if (status != 0) {
        return;
    }
    tally->acked++;
    if (index >= truth_count || truths[index].command != command) {
        fail(ORACLE_LOST, "command=%lu acknowledged at index=%lu, which is another's", command,
             index);
    }
    if (index > acked_index) {
        acked_index = index;
    }
}

/* A read that is under way: what it must show. Goes with the memory of the process it asked. */
struct reading {
    const struct node *node;
    uint64_t floor;
};

static void client_on_read(void *context, int status, uint64_t index)
{
    struct reading *reading = context;
    const struct node *node = reading->node;
    if (status == 0) {
        const uint64_t applied = replica_applied_index(node->replica);
        tally->reads++;
        if (index < reading->floor || applied < index) {
            fail(ORACLE_STALE, "node=%u term=%lu read point=%lu applied=%lu known before=%lu",
                 node->number + 1, replica_term(node->replica), index, applied, reading->floor);
        }
        seen_index = applied > seen_index ? applied : seen_index;
    }
    raft_free(reading);
}

/* Histories are one (ORACLE_STATE), so a place in the log says all about what a read shows: it must be
 * no less than what anybody was told of, by an acknowledgement or a read, before this one began. */
static void client_read(struct node *node)
{
    struct reading *reading = raft_malloc(sizeof *reading);
    CHECK(reading != NULL);
    *reading = (struct reading){.node = node,
                                .floor = acked_index > seen_index ? acked_index : seen_index};
    if (replica_read(node->replica, client_on_read, reading) != 0) {
        raft_free(reading);
    }
}

/* A reader comes to everybody who believes to lead. */
static void reader_turn(void *context)
{
    (void)context;
    if (!clients) {
        return;
    }
    for (unsigned i = 0; i < option.n; i++) {
        if (node_awake(&nodes[i]) && replica_role(nodes[i].replica) == REPLICA_LEADER) {
            node_enter(&nodes[i]);
            client_read(&nodes[i]);
        }
    }
    heap_now = NODES_MAX;
    sim_after(&sim, sim_between(&sim, option.read_us / 40 + 1, option.read_us), 0, reader_turn,
              NULL);
}

static void client_propose(struct node *node)
{
    static uint8_t command[32 * 1024];
    CHECK(option.size <= sizeof command);
    put_le64(command, command_next);
    const size_t size = sim_between(&sim, 8, option.size);
    if (replica_propose(node->replica, bytes_of(command, size), client_on_done,
                        (void *)(uintptr_t)command_next) == 0) {
        command_next++;
        tally->submitted++;
    }
}

static void client_turn(void *context)
{
    (void)context;
    if (!clients) {
        return;
    }
    struct node *node = &nodes[sim_below(&sim, option.n)];
    if (!trouble) {
        struct node *leader = node_leading();
        node = leader == NULL ? node : leader;
    }
    const uint64_t burst = sim_chance(&sim, 100000) ? sim_between(&sim, 1, option.burst) : 1;
    if (node_awake(node)) {
        node_enter(node);
        for (uint64_t i = 0; i < burst && !log_limited(&node->log); i++) {
            client_propose(node);
        }
        turn_may_end(node);
    }
    sim_after(&sim, sim_between(&sim, option.load_us / 40 + 1, option.load_us), 0, client_turn,
              NULL);
}

/* -- trouble ----------------------------------------------------------------------------------- */

static void network_heal(void)
{
    memset(cuts, 0, sizeof cuts);
}

static void network_isolate(unsigned victim)
{
    for (unsigned i = 0; i < option.n; i++) {
        if (i != victim) {
            cuts[victim][i] = cuts[i][victim] = true;
        }
    }
    story("isolated node=%u", victim + 1);
}

/* Until when something that begins now lasts: not into the calm. */
static uint64_t nemesis_until(uint64_t longest)
{
    const uint64_t until = sim.now_us + sim_between(&sim, 20 * MS, longest);
    return until < option.secs * SECOND ? until : option.secs * SECOND;
}

static void nemesis_pause(struct node *node)
{
    if (node_awake(node)) {
        node->paused_until = nemesis_until(sim_chance(&sim, 300000) ? 2 * SECOND : 400 * MS);
        story("paused node=%u until=%.3f", node->number + 1, (double)node->paused_until / 1e6);
    }
}

/* Two lead, the older one because its clock stands still. Let it hear from everybody but the other. */
static void nemesis_between(void *context)
{
    const struct node *stale = context;
    const struct node *leader = node_leading();
    if (!trouble || !node_awake(stale) || replica_role(stale->replica) != REPLICA_LEADER ||
        leader == NULL || leader == stale) {
        return;
    }
    network_heal();
    cuts[stale->number][leader->number] = cuts[leader->number][stale->number] = true;
    story("cut between leaders nodes=%u,%u", stale->number + 1, leader->number + 1);
}

/* A clock stands still. Cut off as well, its node believes to lead for as long. */
static void nemesis_stop(struct node *node)
{
    if (sim.now_us < node->clock_until) {
        return;
    }
    node->clock_frozen = node_clock(node);
    node->clock_until = nemesis_until(2 * SECOND);
    node->clock_lag = node->clock_until - node->clock_frozen;
    story("clock stands still node=%u until=%.3f", node->number + 1,
          (double)node->clock_until / 1e6);
    if (option.partition != 0 && sim_chance(&sim, 600000)) {
        network_heal();
        network_isolate(node->number);
        sim_after(&sim, sim_between(&sim, 300 * MS, SECOND), 0, nemesis_between, node);
    }
}

static void nemesis_change(struct node *leader)
{
    struct replica_member members[LIMIT_REPLICAS];
    const uint32_t count = replica_members(leader->replica, members);
    const struct node *node = &nodes[option.n - option.outside + sim_below(&sim, option.outside)];
    int role = -1;
    for (uint32_t i = 0; i < count; i++) {
        if (members[i].id == node->id) {
            role = (int)members[i].role;
        }
    }
    int status = 0;
    if (role < 0) {
        status = replica_add(leader->replica, node->id, node->address, NULL, NULL);
    } else if (role == REPLICA_SPARE) {
        status = replica_assign(leader->replica, node->id, REPLICA_STANDBY, NULL, NULL);
    } else if (role == REPLICA_STANDBY) {
        status = sim_chance(&sim, 200000)
                     ? replica_remove(leader->replica, node->id, NULL, NULL)
                     : replica_assign(leader->replica, node->id, REPLICA_VOTER, NULL, NULL);
    } else {
        status = sim_chance(&sim, 500000)
                     ? replica_remove(leader->replica, node->id, NULL, NULL)
                     : replica_assign(leader->replica, node->id, REPLICA_SPARE, NULL, NULL);
    }
    story("change node=%lu role=%d status=%d", node->id, role, status);
}

static void nemesis_strike(void)
{
    struct node *node = &nodes[sim_below(&sim, option.n)];
    struct node *leader = node_leading();
    const uint64_t kind = sim_below(&sim, 10);
    if (option.partition != 0 && kind < 3) {
        network_heal();
        network_isolate(node->number);
    } else if (option.partition != 0 && kind == 3) {
        network_heal();
        const struct node *other = &nodes[sim_below(&sim, option.n)];
        cuts[node->number][other->number] = node != other;
        cuts[other->number][node->number] = node != other && sim_chance(&sim, 500000);
        story("cut from=%u to=%u", node->number + 1, other->number + 1);
    } else if (kind == 4) {
        network_heal();
        story("healed");
    } else if (option.crash != 0 && kind < 8) {
        if (leader != NULL && sim_chance(&sim, 500000)) {
            node = leader;
        }
        if (node->alive) {
            node_crash_and_restart(node, sim_chance(&sim, 300000) ? 4000 : 800);
        }
    } else if (option.crash != 0 && kind == 8 && sim_chance(&sim, 300000)) {
        for (unsigned i = 0; i < option.n; i++) {
            if (nodes[i].alive) {
                node_crash_and_restart(&nodes[i], 900);
            }
        }
    } else {
        disk_sim_slow(&node->disk, sim_between(&sim, 200 * MS, 2000 * MS), (uint32_t)option.slow);
        story("slow node=%u", node->number + 1);
    }
}

static void disk_on_space(void *context)
{
    struct node *node = context;
    node->disk.capacity_bytes = UINT64_MAX;
    story("space node=%u", node->number + 1);
}

static void nemesis_turn(void *context)
{
    (void)context;
    if (!trouble) {
        return;
    }
    struct node *leader = node_leading();
    if (leader != NULL) {
        node_enter(leader);
        if (option.outside > 0 && sim_chance(&sim, 500000)) {
            nemesis_change(leader);
        }
        if (sim_below(&sim, 100) < option.transfer) {
            const int status = replica_transfer(leader->replica, 0);
            story("transfer node=%u status=%d", leader->number + 1, status);
        }
    }
    if (sim_below(&sim, 100) < option.pause) {
        nemesis_pause(leader != NULL && sim_chance(&sim, 500000)
                          ? leader
                          : &nodes[sim_below(&sim, option.n)]);
    }
    if (sim_below(&sim, 100) < option.stop) {
        nemesis_stop(leader != NULL && sim_chance(&sim, 700000)
                         ? leader
                         : &nodes[sim_below(&sim, option.n)]);
    }
    if (option.full > 0 && sim_below(&sim, 100) < option.full) {
        struct node *node = &nodes[sim_below(&sim, option.n)];
        node->disk.capacity_bytes = 1; /* whatever grows meets it */
        story("full node=%u", node->number + 1);
        sim_after(&sim, sim_between(&sim, 100 * MS, 3 * SECOND), 0, disk_on_space, node);
    }
    if (sim_below(&sim, 100) < option.faults) {
        struct node *node =
            leader != NULL && sim_chance(&sim, 500000) ? leader : &nodes[sim_below(&sim, option.n)];
        if (node->alive) {
            node->disk.fail_at = node->disk.operations + sim_between(&sim, 1, 12);
            node->disk.fail_status = -EIO;
            node->faulty = true;
            story("fault node=%u", node->number + 1);
        }
    } else {
        nemesis_strike();
    }
    sim_after(&sim, sim_between(&sim, 50 * MS, option.nemesis_ms * MS), 0, nemesis_turn, NULL);
}

/* -- oracles ----------------------------------------------------------------------------------- */

/* In quiet times, under the clients' load, a leader must commit. */
static void watch_progress(void *context)
{
    (void)context;
    struct node *leader = node_leading();
    if (trouble || !clients || leader == NULL) {
        calm_term = 0;
    } else if (replica_term(leader->replica) != calm_term) {
        calm_term = replica_term(leader->replica);
        calm_since = sim.now_us;
        calm_moved = sim.now_us;
        calm_commit = 0;
    } else {
        const uint64_t commit = replica_commit_index(leader->replica);
        if (commit != calm_commit || replica_last_index(leader->replica) == commit) {
            calm_commit = commit;
            calm_moved = sim.now_us;
        }
        if (sim.now_us - calm_since > 2 * SECOND && sim.now_us - calm_moved > 300 * MS) {
            fail(ORACLE_STARVED, "node=%u commit=%lu last=%lu unmoved_ms=%lu", leader->number + 1,
                 commit, replica_last_index(leader->replica), (sim.now_us - calm_moved) / MS);
        }
    }
    sim_after(&sim, 50 * MS, 0, watch_progress, NULL);
}

/* What was committed a while before the load ends is applied by every member when it does. */
static void check_behind(void *context)
{
    (void)context;
    for (unsigned i = 0; i < option.n && option.away_ms != 0; i++) {
        if (nodes[i].alive && replica_applied_index(nodes[i].replica) < calm_floor) {
            fail(ORACLE_BEHIND, "node=%u applied=%lu committed a second ago=%lu", i + 1,
                 replica_applied_index(nodes[i].replica), calm_floor);
        }
    }
}

static void watch_floor(void *context)
{
    (void)context;
    const struct node *leader = node_leading();
    calm_floor = leader == NULL ? 0 : replica_commit_index(leader->replica);
}

/* Every log agrees with every other one, up to where it is applied. */
static void check_history(struct node *node)
{
    const uint64_t end = replica_applied_index(node->replica) + 1;
    struct log_cursor cursor;
    log_cursor_open(&cursor, &node->log, log_index_first(&node->log));
    struct log_frame frame;
    while (cursor.index_next < end && log_cursor_next(&cursor, &frame) == LOG_CURSOR_FRAME) {
        uint32_t check = 2166136261u;
        for (size_t i = 0; i < frame.payload.size; i++) {
            check = (check ^ frame.payload.data[i]) * 16777619u;
            CHECK(frame.type != LOG_TYPE_BARRIER || frame.payload.data[i] == 0);
        }
        truths = grown(truths, &truth_count, frame.index, sizeof *truths);
        struct truth *truth = &truths[frame.index];
        if (truth->type == 0) {
            truth->type = frame.type;
            truth->check = check;
            if (truth->command == 0) {
                truth->term = frame.term;
            }
        }
        const bool command = frame.type == LOG_TYPE_COMMAND;
        if (truth->type != frame.type || truth->term != frame.term || truth->check != check ||
            (command && truth->command != get_le64(frame.payload.data))) {
            fail(ORACLE_HISTORY, "node=%u index=%lu term=%lu type=%u", node->number + 1,
                 frame.index, frame.term, frame.type);
        }
    }
    log_cursor_close(&cursor);
}

static void check_end(void)
{
    struct node *leader = node_leading();
    uint64_t furthest = 0;
    for (unsigned i = 0; i < option.n; i++) {
        if (nodes[i].alive) {
            const uint64_t applied = replica_applied_index(nodes[i].replica);
            furthest = applied > furthest ? applied : furthest;
            story("ends node=%u role=%d term=%lu last=%lu commit=%lu applied=%lu state=%lu", i + 1,
                  replica_role(nodes[i].replica), replica_term(nodes[i].replica),
                  replica_last_index(nodes[i].replica), replica_commit_index(nodes[i].replica),
                  applied, nodes[i].applied);
        }
    }
    if (leader == NULL) {
        fail(ORACLE_LEADERLESS, "at the end");
    }
    if (furthest < acked_index) {
        fail(ORACLE_LOST, "acknowledged=%lu applied=%lu", acked_index, furthest);
    }
    struct replica_member members[LIMIT_REPLICAS];
    const uint32_t count = replica_members(leader->replica, members);
    for (uint32_t i = 0; i < count; i++) {
        struct node *node = &nodes[members[i].id - 1];
        if (members[i].role != REPLICA_SPARE && node->alive &&
            replica_applied_index(node->replica) != furthest) {
            fail(ORACLE_STUCK, "node=%u applied=%lu others=%lu", node->number + 1,
                 replica_applied_index(node->replica), furthest);
        }
    }
    for (unsigned i = 0; i < option.n; i++) {
        if (nodes[i].alive) {
            node_enter(&nodes[i]);
            check_history(&nodes[i]);
        }
    }
    tally->memory += heap_most;
    if (option.memory != 0 && heap_most > option.memory) {
        fail(ORACLE_MEMORY, "bytes=%lu", heap_most);
    }
}

/* -- one seed ---------------------------------------------------------------------------------- */

static void world_calm(void *context)
{
    (void)context;
    trouble = false;
    network_heal();
    const unsigned dead = option.down != 0 ? (unsigned)sim_below(&sim, option.n) : NODES_MAX;
    for (unsigned i = 0; i < option.n; i++) {
        nodes[i].disk.slow_until_us = 0;
        nodes[i].disk.fail_at = 0;
        nodes[i].disk.capacity_bytes = UINT64_MAX;
        if (i == dead) {
            if (nodes[i].alive) {
                node_crash(&nodes[i]);
            }
        } else if (!nodes[i].alive) {
            node_boot(&nodes[i]);
        }
    }
    story("calm");
}

/* One that follows is gone for a while; the others go on without it. */
static void world_send_away(void *context)
{
    (void)context;
    const struct node *leader = node_leading();
    for (unsigned i = 0; i < option.n; i++) {
        struct node *node = &nodes[i];
        if (node->alive && leader != NULL && node != leader) {
            node_crash(node);
            sim_after(&sim, option.away_ms * MS, 0, node_restart, node);
            return;
        }
    }
}

static void world_quiet(void *context)
{
    check_behind(context);
    clients = false;
    story("quiet");
}

static bool world_ended;
static void world_end(void *context)
{
    (void)context;
    world_ended = true;
}

/* The node whose event comes next; NULL: it is the world's. */
static const struct node *node_next(void)
{
    const struct sim_event *event = &sim.events[0];
    if (event->callback == message_arrive) {
        return &nodes[((const struct message *)event->context)->to];
    }
    for (unsigned i = 0; i < option.n && event->owner != 0; i++) {
        if (event->owner == nodes[i].life || event->owner == nodes[i].disk.owner) {
            return &nodes[i];
        }
    }
    return NULL;
}

/* The next event, in the heap of its node, and not before that runs again. */
static void world_step(void)
{
    CHECK(sim.event_count > 0);
    const struct node *node = node_next();
    if (node != NULL && node->alive && sim.events[0].at_us < node->paused_until) {
        sim_postpone(&sim, node->paused_until);
        return;
    }
    heap_now = node == NULL ? NODES_MAX : node->number;
    CHECK(sim_step(&sim));
}

static void run_seed(uint64_t seed)
{
    for (unsigned i = 0; i <= NODES_MAX; i++) {
        heaps[i].next = heaps[i].previous = &heaps[i];
    }
    raft_heap_set(&heap);
    sim_init(&sim, seed);
    trouble = clients = true;
    for (unsigned i = 0; i < option.n; i++) {
        nodes[i].number = i;
        nodes[i].id = i + 1;
        snprintf(nodes[i].address, sizeof nodes[i].address, "replica-%u", i + 1);
        disk_sim_init(&nodes[i].disk, &sim);
        nodes[i].disk.latency_us_min = 200;
        nodes[i].disk.latency_us_max = (uint32_t)option.disk;
    }
    for (unsigned i = 0; i < option.n; i++) {
        node_boot(&nodes[i]);
    }
    const uint64_t calm = option.secs * SECOND;
    sim_after(&sim, 500 * MS, 0, client_turn, NULL);
    sim_after(&sim, 500 * MS, 0, reader_turn, NULL);
    sim_after(&sim, 1500 * MS, 0, nemesis_turn, NULL);
    sim_after(&sim, calm, 0, world_calm, NULL);
    sim_after(&sim, calm, 0, watch_progress, NULL);
    if (option.away_ms != 0) {
        sim_after(&sim, calm + SECOND, 0, world_send_away, NULL);
        sim_after(&sim, calm + option.calm_ms * MS - SECOND, 0, watch_floor, NULL);
    }
    sim_after(&sim, calm + option.calm_ms * MS, 0, world_quiet, NULL);
    sim_after(&sim, calm + option.calm_ms * MS + 3 * SECOND, 0, world_end, NULL);
    while (!world_ended) {
        world_step();
        for (unsigned i = 0; i < option.n; i++) {
            if (nodes[i].alive && nodes[i].dying) {
                node_crash_and_restart(&nodes[i], 800);
            }
        }
    }
    check_end();
    for (unsigned i = 0; i < option.n; i++) {
        if (nodes[i].alive) {
            guard_add(&nodes[i]);
        }
    }
    tally->events += sim.steps;
    tally->seconds += option.secs + option.calm_ms / 1000 + 3;
    const uint64_t *from = (const uint64_t *)tally;
    uint64_t *to = (uint64_t *)tally_all;
    for (size_t i = 0; i < sizeof *tally / sizeof *from; i++) {
        __atomic_fetch_add(&to[i], from[i], __ATOMIC_RELAXED);
    }
}

/* -- many seeds -------------------------------------------------------------------------------- */

struct campaign {
    uint64_t done, failed;
    uint64_t by_oracle[ORACLE_LAST + 1];
    uint64_t crashed; /* by a signal */
    uint64_t first;   /* failing seed */
    char list[512];   /* of failing seeds */
};

static void seed_judge(struct campaign *campaign, uint64_t seed, int status)
{
    campaign->done++;
    if (status == 0) {
        return;
    }
    campaign->failed++;
    if (campaign->first == 0 || seed < campaign->first) {
        campaign->first = seed;
    }
    const char *name = "crash";
    if (WIFEXITED(status) && WEXITSTATUS(status) <= ORACLE_LAST &&
        oracle_names[WEXITSTATUS(status)] != NULL) {
        campaign->by_oracle[WEXITSTATUS(status)]++;
        name = oracle_names[WEXITSTATUS(status)];
    } else {
        campaign->crashed++;
    }
    const size_t used = strlen(campaign->list);
    if (used + 32 < sizeof campaign->list) {
        snprintf(campaign->list + used, sizeof campaign->list - used, " %lu(%s)", seed, name);
    }
}

static pid_t seed_start(uint64_t seed)
{
    fflush(NULL);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child != 0) {
        return child;
    }
    if (option.verbose == 0 && freopen("/dev/null", "w", stderr) == NULL) {
        _exit(1);
    }
    const struct rlimit most = {120, 120}; /* of processor time: a busy machine is no failure */
    CHECK(setrlimit(RLIMIT_CPU, &most) == 0);
    run_seed(seed);
    fflush(stdout);
    _exit(0);
}

static void progress_write(uint64_t next, const struct campaign *campaign)
{
    if (option.progress == NULL) {
        return;
    }
    FILE *file = fopen(option.progress, "w");
    if (file != NULL) {
        fprintf(file, "%lu %lu\n", next, campaign->failed);
        fclose(file);
    }
}

/* Run a range of seeds, `jobs` at a time; stop at the first failure when asked. */
static struct campaign campaign_run(uint64_t first, uint64_t count, bool until_failure)
{
    struct campaign campaign = {0};
    struct {
        pid_t child;
        uint64_t seed;
    } running[16] = {0};
    const uint64_t jobs = option.jobs < 1 ? 1 : option.jobs > 16 ? 16 : option.jobs;
    uint64_t next = first;
    unsigned active = 0;
    for (;;) {
        while (active < jobs && next < first + count && !(until_failure && campaign.failed > 0)) {
            for (unsigned i = 0; i < jobs; i++) {
                if (running[i].child == 0) {
                    running[i].seed = next;
                    running[i].child = seed_start(next++);
                    active++;
                    break;
                }
            }
        }
        if (active == 0) {
            return campaign;
        }
        int status;
        const pid_t child = wait(&status);
        CHECK(child > 0);
        for (unsigned i = 0; i < jobs; i++) {
            if (running[i].child == child) {
                seed_judge(&campaign, running[i].seed, status);
                running[i].child = 0;
                active--;
            }
        }
        if (campaign.done % 100 == 0) {
            progress_write(next, &campaign);
        }
    }
}

/* -- arguments --------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    size_t offset;
} numbers[] = {
#define NUMBER(name, field)                                                                        \
    {                                                                                              \
        name, offsetof(struct options, field)                                                      \
    }
    NUMBER("seed", seed),           NUMBER("seeds", seeds),
    NUMBER("jobs", jobs),           NUMBER("v", verbose),
    NUMBER("secs", secs),           NUMBER("n", n),
    NUMBER("standby", standby),     NUMBER("outside", outside),
    NUMBER("loss", loss),           NUMBER("load", load_us),
    NUMBER("burst", burst),         NUMBER("snapshot", snapshot),
    NUMBER("trailing", trailing),   NUMBER("transfer", transfer),
    NUMBER("faults", faults),       NUMBER("assassin", assassin),
    NUMBER("down", down),           NUMBER("nemesis", nemesis_ms),
    NUMBER("slow", slow),           NUMBER("crash", crash),
    NUMBER("partition", partition), NUMBER("delay_min", delay_min),
    NUMBER("delay", delay),         NUMBER("disk", disk),
    NUMBER("queue", queue),         NUMBER("eager", eager),
    NUMBER("full", full),           NUMBER("limit", limit),
    NUMBER("read", read_us),        NUMBER("pause", pause),
    NUMBER("size", size),           NUMBER("memory", memory),
    NUMBER("stop", stop),           NUMBER("old", old),
    NUMBER("suspect", suspect),     NUMBER("calm", calm_ms),
    NUMBER("away", away_ms),        NUMBER("fetch_min", fetch_min_ms),
    NUMBER("fetch", fetch_ms),
#undef NUMBER
};

static bool argument_take(const char *argument)
{
    const char *equal = strchr(argument, '=');
    if (equal == NULL) {
        return false;
    }
    const size_t size = (size_t)(equal - argument);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (strlen(numbers[i].name) == size && strncmp(argument, numbers[i].name, size) == 0) {
            const uint64_t value = strtoull(equal + 1, NULL, 10);
            memcpy((char *)&option + numbers[i].offset, &value, sizeof value);
            return true;
        }
    }
    if (strncmp(argument, "off=", 4) == 0) {
        option.off = 0;
        for (const char *letter = equal + 1; *letter != '\0'; letter++) {
            const char *at = strchr(measure_letters, *letter);
            if (at == NULL) {
                return false;
            }
            option.off |= 1u << (at - measure_letters);
        }
        return true;
    }
    if (strncmp(argument, "plan=", 5) == 0) {
        option.plan = equal + 1;
        return true;
    }
    if (strncmp(argument, "progress=", 9) == 0) {
        option.progress = equal + 1;
        return true;
    }
    return false;
}

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* A line without off=: no seed may fail. */
static bool plan_campaign(const char *text)
{
    const double start = seconds_now();
    const struct campaign campaign = campaign_run(option.seed, option.seeds, false);
    printf("%s seeds=%lu failed=%lu wall_s=%.1f:%s%s%s\n", campaign.failed == 0 ? "ok  " : "FAIL",
           campaign.done, campaign.failed, seconds_now() - start, text,
           campaign.failed == 0 ? "" : " ->", campaign.list);
    return campaign.failed == 0;
}

/* A line with off=: some seed of the range must fail, and must not with all measures on. */
static bool plan_canary(const char *text)
{
    const double start = seconds_now();
    const struct campaign without = campaign_run(option.seed, option.seeds, true);
    option.off = 0;
    const struct campaign with =
        without.first == 0 ? (struct campaign){0} : campaign_run(without.first, 1, true);
    const bool alive = without.failed > 0 && with.failed == 0;
    printf("%s canary seeds=%lu wall_s=%.1f:%s ->%s%s\n", alive ? "ok  " : "FAIL", without.done,
           seconds_now() - start, text, without.failed > 0 ? without.list : " no failure",
           with.failed > 0 ? ", and it fails with all measures on too" : "");
    return alive;
}

/* Each line of the file is a set of arguments; '#' begins a comment. */
static int plan_run(const char *path)
{
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        perror(path);
        return 2;
    }
    const uint64_t jobs = option.jobs;
    int lines = 0;
    int bad = 0;
    char line[512];
    while (fgets(line, sizeof line, file) != NULL) {
        char *rest = NULL;
        line[strcspn(line, "#\n")] = '\0';
        char *word = strtok_r(line, " ", &rest);
        if (word == NULL) {
            continue;
        }
        option = defaults;
        option.jobs = jobs;
        char text[512] = "";
        for (; word != NULL; word = strtok_r(NULL, " ", &rest)) {
            if (!argument_take(word)) {
                fprintf(stderr, "%s: what is %s?\n", path, word);
                fclose(file);
                return 2;
            }
            snprintf(text + strlen(text), sizeof text - strlen(text), " %s", word);
        }
        lines++;
        bad += !(option.off != 0 ? plan_canary(text) : plan_campaign(text));
        fflush(stdout);
    }
    fclose(file);
    printf(
        "campaigns=%d failed=%d acked=%lu elections=%lu crashes=%lu installs=%lu virtual_s=%lu\n",
        lines, bad, tally_all->acked, tally_all->elections, tally_all->crashes, tally_all->installs,
        tally_all->seconds);
    return bad > 0 || lines == 0 ? 1 : 0;
}

int main(int count, char **arguments)
{
    option = defaults;
    tally_all =
        mmap(NULL, sizeof *tally_all, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(tally_all != MAP_FAILED);
    char repeat[512] = "";
    for (int i = 1; i < count; i++) {
        if (!argument_take(arguments[i])) {
            fprintf(stderr, "raft_sim: what is %s? See the head of raft_sim.c\n", arguments[i]);
            return 2;
        }
        if (strncmp(arguments[i], "seed", 4) != 0 && strncmp(arguments[i], "jobs", 4) != 0 &&
            strncmp(arguments[i], "progress", 8) != 0) {
            snprintf(repeat + strlen(repeat), sizeof repeat - strlen(repeat), " %s", arguments[i]);
        }
    }
    if (option.plan != NULL) {
        return plan_run(option.plan);
    }
    uint64_t first = option.seed;
    uint64_t before = 0;
    if (option.progress != NULL) {
        FILE *file = fopen(option.progress, "r");
        if (file != NULL) {
            if (fscanf(file, "%lu %lu", &first, &before) != 2) {
                first = option.seed;
            }
            fclose(file);
        }
    }
    const double start = seconds_now();
    const uint64_t left =
        option.seed + option.seeds > first ? option.seed + option.seeds - first : 0;
    const struct campaign campaign = campaign_run(first, left, false);
    progress_write(first + left, &campaign);
    const double wall = seconds_now() - start;
    tally = tally_all;

    if (campaign.failed > 0) {
        printf("failing seeds:%s\nrepeat: raft_sim seed=%lu seeds=1 v=1%s\n", campaign.list,
               campaign.first, repeat);
    }
    if (option.verbose != 0 || campaign.failed == 0) {
        const struct replica_counters *g = &tally->guard;
        printf("guard: acks_capped=%lu results_held=%lu barriers=%lu appends_held=%lu "
               "prevotes=%lu configs=%lu prefixes=%lu hints=%lu replies_dropped=%lu terms=%lu "
               "split=%lu votes_refused=%lu lag_messages=%lu lag_refused=%lu lag_copies=%lu "
               "lag_lifts=%lu\n",
               g->acks_capped, g->results_held, g->barriers, g->appends_held, g->prevotes_answered,
               g->configs_restored, g->prefixes_skipped, g->hints, g->replies_dropped,
               g->terms_taken, g->messages_split, g->votes_refused, g->lag_messages, g->lag_refused,
               g->lag_copies, g->lag_lifts);
    }
    printf("seeds=%lu failed=%lu", campaign.done, campaign.failed + before);
    for (int i = 0; i <= ORACLE_LAST; i++) {
        if (campaign.by_oracle[i] > 0) {
            printf(" %s=%lu", oracle_names[i], campaign.by_oracle[i]);
        }
    }
    if (campaign.crashed > 0) {
        printf(" crashed=%lu", campaign.crashed);
    }
    printf(" acked=%lu reads=%lu elections=%lu crashes=%lu snapshots=%lu installs=%lu "
           "messages=%lu events=%lu memory=%lu virtual_s=%lu wall_s=%.1f\n",
           tally->acked, tally->reads, tally->elections, tally->crashes, tally->taken,
           tally->installs, tally->messages, tally->events,
           campaign.done == 0 ? 0 : tally->memory / campaign.done, tally->seconds, wall);
    return campaign.failed > 0 ? 1 : 0;
}
