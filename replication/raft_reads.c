#include "replication/raft_reads.h"

#include "replication/raft_guard.h"
#include "replication/raft_io.h"
#include "replication/raft_members.h"
#include "replication/raft_wire.h"
#include "schemas/check.h"

struct raft_reader {
    struct raft_reader *next;
    void (*callback)(void *context, int status, uint64_t index);
    void *context;
    int status;
    uint64_t index;
};

/* -- queues ------------------------------------------------------------------------------------ */

static void queue_init(struct reader_queue *queue)
{
    queue->head = NULL;
    queue->tail = &queue->head;
}

static void queue_push(struct reader_queue *queue, struct raft_reader *reader)
{
    reader->next = NULL;
    *queue->tail = reader;
    queue->tail = &reader->next;
}

/* All of `from` go behind those of `to`. */
static void queue_move(struct reader_queue *from, struct reader_queue *to)
{
    if (from->head == NULL) {
        return;
    }
    *to->tail = from->head;
    to->tail = from->tail;
    queue_init(from);
}

static void queue_finish(struct raft_reads *reads, struct reader_queue *queue, int status,
                         uint64_t index)
{
    for (struct raft_reader *reader = queue->head; reader != NULL; reader = reader->next) {
        reader->status = status;
        reader->index = index;
    }
    queue_move(queue, &reads->done);
}

/* -- the group --------------------------------------------------------------------------------- */

static bool measure_on(const struct raft_reads *reads, enum replica_measure measure)
{
    return (reads->measures & measure) != 0;
}

static const struct raft_reads_voter *voter_find(const struct raft_reads *reads, uint64_t id)
{
    for (uint32_t i = 0; i < LIMIT_REPLICAS; i++) {
        if (reads->voters[i].id == id) {
            return &reads->voters[i];
        }
    }
    return NULL;
}

/* What is known of a member, forgetting whoever is none any more. NULL: it is none itself. */
static struct raft_reads_voter *voter_claim(struct raft_reads *reads, uint64_t id)
{
    const struct raft_configuration *members = &reads->raft->configuration;
    if (raft_members_find(members, id) == NULL) {
        return NULL;
    }
    struct raft_reads_voter *vacant = NULL;
    for (uint32_t i = 0; i < LIMIT_REPLICAS; i++) {
        struct raft_reads_voter *voter = &reads->voters[i];
        if (voter->id == id) {
            return voter;
        }
        if (raft_members_find(members, voter->id) == NULL) {
            vacant = voter;
        }
    }
    if (vacant != NULL) {
        *vacant = (struct raft_reads_voter){.id = id};
    }
    return vacant; /* NULL: the group is larger than LIMIT_REPLICAS, which no leader of ours makes it */
}

/* Does a quorum of the present configuration, this replica included, answer pings (round 0), and has
 * it answered this round or a later one? */
static bool quorum_answers(const struct raft_reads *reads, uint64_t round)
{
    const struct raft *raft = reads->raft;
    unsigned voters = 0;
    unsigned with = 0;
    for (unsigned i = 0; i < raft->configuration.n; i++) {
        const struct raft_server *server = &raft->configuration.servers[i];
        if (server->role != RAFT_VOTER) {
            continue;
        }
        voters++;
        const struct raft_reads_voter *voter = voter_find(reads, server->id);
        with += server->id == raft->id ||
                (voter != NULL && (voter->features & RAFT_WIRE_ANSWERS_PINGS) != 0 &&
                 voter->round >= round);
    }
    return with > voters / 2;
}

/* Ping who has not answered the newest round. */
static void ping_voters(struct raft_reads *reads)
{
    const struct raft *raft = reads->raft;
    reads->pinged_ms = reads->now_ms;
    for (unsigned i = 0; i < raft->configuration.n; i++) {
        const struct raft_server *server = &raft->configuration.servers[i];
        const struct raft_reads_voter *voter = voter_find(reads, server->id);
        if (server->role == RAFT_VOTER && server->id != raft->id && voter != NULL &&
            (voter->features & RAFT_WIRE_ANSWERS_PINGS) != 0 && voter->round < reads->round) {
            raft_send_ping(reads->io, server->id, RAFT_WIRE_PING, reads->term, reads->round);
        }
    }
}

/* -- rounds ------------------------------------------------------------------------------------ */

static void round_begin(struct raft_reads *reads)
{
    CHECK(reads->round_count < LIMIT_READ_ROUNDS);
    struct raft_reads_round *round = &reads->rounds[reads->round_count++];
    round->number = ++reads->round;
    round->index = reads->raft->commit_index;
    queue_init(&round->readers);
    queue_move(&reads->waiting, &round->readers);
    reads->counters->read_rounds++;
    ping_voters(reads);
}

/* The oldest round is over: its readers are where they belong. */
static void round_remove(struct raft_reads *reads)
{
    CHECK(reads->round_count > 0);
    CHECK(reads->rounds[0].readers.head == NULL);
    reads->round_count--;
    for (uint32_t i = 0; i < reads->round_count; i++) {
        reads->rounds[i].number = reads->rounds[i + 1].number;
        reads->rounds[i].index = reads->rounds[i + 1].index;
        queue_init(&reads->rounds[i].readers);
        queue_move(&reads->rounds[i + 1].readers, &reads->rounds[i].readers);
    }
}

static void rounds_serve(struct raft_reads *reads)
{
    while (reads->round_count > 0) {
        struct raft_reads_round *round = &reads->rounds[0];
        if (measure_on(reads, MEASURE_QUORUM) && !quorum_answers(reads, round->number)) {
            return;
        }
        if (reads->raft->last_applied < round->index) {
            return;
        }
        queue_finish(reads, &round->readers, STATUS_OK, round->index);
        round_remove(reads);
    }
}

static void rounds_abandon(struct raft_reads *reads, struct reader_queue *to)
{
    while (reads->round_count > 0) {
        queue_move(&reads->rounds[0].readers, to);
        round_remove(reads);
    }
}

/* -- barriers, for groups with replicas of an older release ------------------------------------ */

static void barrier_on_done(struct raft_barrier *request, int result)
{
    struct raft_reads *reads = request->data;
    reads->barrier_flying = false;
    queue_finish(reads, &reads->barrier_readers, result == 0 ? STATUS_OK : STATUS_NOT_LEADER,
                 request->index);
}

static void barrier_begin(struct raft_reads *reads)
{
    if (reads->waiting.head == NULL || reads->barrier_flying) {
        return;
    }
    if (raft_io_room(reads->io) != 0) {
        return; /* a full disk; they wait for room or for the end of this leadership */
    }
    /* Only readers that came before the barrier may use it: the confirmation that this replica
     * still leads is younger than all of them. */
    reads->barrier = (struct raft_barrier){.data = reads};
    if (raft_barrier(reads->raft, &reads->barrier, barrier_on_done) != 0) {
        queue_finish(reads, &reads->waiting, STATUS_NOT_LEADER, 0);
        return;
    }
    reads->barrier_flying = true;
    queue_move(&reads->waiting, &reads->barrier_readers);
    reads->counters->read_barriers++;
}

/* -- the door ---------------------------------------------------------------------------------- */

void raft_reads_init(struct raft_reads *reads, struct raft *raft, struct replica_io *io,
                     const struct raft_guard *guard, uint32_t measures,
                     struct replica_counters *counters)
{
    *reads = (struct raft_reads){
        .raft = raft, .io = io, .guard = guard, .measures = measures, .counters = counters};
    queue_init(&reads->waiting);
    queue_init(&reads->done);
    queue_init(&reads->barrier_readers);
}

int raft_reads_ask(struct raft_reads *reads,
                   void (*callback)(void *context, int status, uint64_t index), void *context)
{
    if (reads->count >= LIMIT_READERS) {
        return STATUS_FULL;
    }

    struct raft_reader *reader = raft_memory(sizeof *reader);
    reader->callback = callback;
    reader->context = context;
    queue_push(&reads->waiting, reader);
    reads->count++;
    return 0;
}

void raft_reads_heard(struct raft_reads *reads, uint64_t from, uint64_t features)
{
    struct raft_reads_voter *voter = voter_claim(reads, from);
    if (voter != NULL) {
        voter->features = features;
    }
}

void raft_reads_on_ping(struct raft_reads *reads, uint64_t from, uint64_t term, uint64_t round)
{
    const struct raft *raft = reads->raft;
    const bool follows = raft->state == RAFT_FOLLOWER && raft->current_term == term &&
                         raft->follower_state.current_leader.id == from;
    if (follows || !measure_on(reads, MEASURE_ANSWER)) {
        raft_send_ping(reads->io, from, RAFT_WIRE_PONG, term, round);
    }
}

void raft_reads_on_pong(struct raft_reads *reads, uint64_t from, uint64_t term, uint64_t round)
{
    const struct raft *raft = reads->raft;
    struct raft_reads_voter *voter = voter_claim(reads, from);
    if (raft->state != RAFT_LEADER || raft->current_term != term || reads->term != term ||
        round > reads->round || voter == NULL) {
        return; /* of another leadership */
    }
    if (round > voter->round) {
        voter->round = round;
    }
}

void raft_reads_tick(struct raft_reads *reads, uint64_t now_ms)
{
    reads->now_ms = now_ms;
    if (reads->round_count > 0 && reads->raft->state == RAFT_LEADER &&
        reads->raft->current_term == reads->term &&
        now_ms - reads->pinged_ms >= reads->raft->heartbeat_timeout) {
        ping_voters(reads);
    }
}

void raft_reads_settle(struct raft_reads *reads)
{
    const struct raft *raft = reads->raft;
    const bool leads = raft->state == RAFT_LEADER;
    if (!leads || raft->current_term != reads->term) {
        struct reader_queue lost;
        queue_init(&lost);
        rounds_abandon(reads, &lost);
        if (!leads) {
            queue_move(&reads->waiting, &lost);
        }
        queue_finish(reads, &lost, STATUS_NOT_LEADER, 0);
        reads->term = leads ? raft->current_term : 0;
        for (uint32_t i = 0; i < LIMIT_REPLICAS; i++) {
            reads->voters[i].round = 0;
        }
    }
    if (!leads || (reads->waiting.head == NULL && reads->round_count == 0)) {
        return;
    }
    if (!quorum_answers(reads, 0) || !measure_on(reads, MEASURE_PING)) {
        rounds_abandon(reads, &reads->waiting);
        barrier_begin(reads);
        return;
    }
    if (reads->waiting.head != NULL && reads->round_count < LIMIT_READ_ROUNDS &&
        (raft_guard_own_term(reads->guard) || !measure_on(reads, MEASURE_OWN))) {
        round_begin(reads);
    }
    rounds_serve(reads);
}

bool raft_reads_call_back(struct raft_reads *reads)
{
    bool made = false;
    while (reads->done.head != NULL) {
        struct raft_reader *reader = reads->done.head;
        reads->done.head = reader->next;
        if (reader->next == NULL) {
            reads->done.tail = &reads->done.head;
        }
        const struct raft_reader copy = *reader;
        raft_free(reader);
        CHECK(reads->count > 0);
        reads->count--;
        copy.callback(copy.context, copy.status, copy.index);
        made = true;
    }
    return made;
}

void raft_reads_end(struct raft_reads *reads, int status)
{
    rounds_abandon(reads, &reads->waiting);
    queue_move(&reads->barrier_readers, &reads->waiting);
    queue_finish(reads, &reads->waiting, status, 0);
}
