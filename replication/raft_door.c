/*
 *   1. replica_open: io, guard and fsm are put around a struct raft, which loads and starts
 *   2. every function that enters libraft ends in replica_leave: what completed meanwhile is told
 *      to libraft, the guard looks at what it has become, then callbacks are made from a queue
 *   3. proposals of a turn are gathered, and leave together: one append of the log, one message to each
 *      follower, one answer from it
 *   4. replica_close: what waits is ended, writes under way finish, then the owner closes the log
 *
 * What can fail: after a fatal error nothing is sent, stored or applied any more.
 */
#include "replication/replica.h"

#include "replication/raft_fsm.h"
#include "replication/raft_guard.h"
#include "replication/raft_io.h"
#include "replication/raft_members.h"
#include "replication/raft_reads.h"
#include "replication/raft_status.h"
#include "replication/raft_suspect.h"
#include "schemas/check.h"

#include <stdio.h>
#include <unistd.h>

#if !defined(RAFT_TOOMANY) || defined(RAFT_NOMEMBERS)
#error "the guard is written for libraft 0.15"
#endif

#define EXIT_FATAL   71
#define ELECTION_MS  500u
#define HEARTBEAT_MS 50u
#define INSTALL_ELECTIONS                                                                          \
    2u                    /* a snapshot is offered again after this many times election_ms: the
                                  offer is small, and dropped while files are fetched */
#define ENTRY_MULTIPLE 8u /* libraft's own storage wants it (k); so do readers of flatbuffers */

struct replica_proposal {
    struct raft_apply request; /* first: libraft hands it back. One for all that leave together */
    struct replica_proposal *next;
    void (*callback)(void *context, int status, uint64_t index);
    void *context;
    struct raft_buffer buffer; /* libraft's from when it left */
    uint64_t bytes;            /* of the command */
    uint64_t index;            /* with `term`, of its entry, from when it left */
    uint64_t term;
    int status;
    bool lent; /* libraft has the request */
};

struct proposal_queue {
    struct replica_proposal *head;
    struct replica_proposal **tail;
};

struct replica_change {
    struct raft_change request; /* first */
    struct replica *replica;
    void (*callback)(void *context, int status);
    void *context;
};

struct replica {
    struct raft raft;
    struct replica_io io;
    struct raft_guard guard;
    struct replica_fsm fsm;
    struct replica_hooks hooks;
    struct replica_counters counters;

    uint32_t depth; /* inside how many entries from outside */
    bool settling;
    bool ended; /* fatal, or closing */
    bool opened;

    struct replica_proposal *proposals; /* LIMIT_PROPOSALS of them, each free or in a queue */
    struct replica_proposal *proposals_free;
    struct proposal_queue gathered; /* they leave with the turn, or when there are many */
    struct proposal_queue flying;   /* entries of one term, in the order of their indexes */
    struct proposal_queue done;     /* callback to be made */
    uint32_t proposal_count;
    uint64_t proposal_bytes;
    uint64_t gathered_bytes;
    uint32_t gathered_count;
    struct raft_buffer *buffers; /* LIMIT_PROPOSALS, for proposals_leave */

    struct raft_reads reads;

    struct replica_change change;
    bool change_flying;
    bool change_done;
    int change_status;

    uint64_t tick_ms;  /* the owner's clock at the last tick */
    uint64_t clock_ms; /* raft's: stands still while we do not run */

    struct raft_transfer transfer; /* never freed: a message of it may be under way (o) */
    bool transfer_flying;

    enum replica_role told_role; /* what hooks.leadership heard last */
    uint64_t told_term;
    uint64_t told_leader;

    void (*on_close)(void *context);
    void *on_close_context;
};

/* -- the end ----------------------------------------------------------------------------------- */

static void replica_end(struct replica *replica)
{
    replica->ended = true;
    replica->io.ended = true;
    replica->fsm.ended = true;
}

static void replica_fatal(void *context, const char *what, int status)
{
    struct replica *replica = context;
    if (replica->ended) {
        return;
    }
    replica_end(replica);
    if (replica->hooks.fatal != NULL) {
        replica->hooks.fatal(replica->hooks.context, what, status);
        return;
    }
    fprintf(stderr, "replica_ended id=%llu: %s: %s\n", replica->raft.id, what,
            status == 0 ? "a promise of libraft is broken" : status_text(status));
    _exit(EXIT_FATAL);
}

/* The same, for results of libraft. */
static void replica_fatal_result(void *context, const char *what, int result)
{
    const struct replica *replica = context;
    const int failed = log_status(replica->io.log);
    replica_fatal(context, what, failed != 0 ? failed : raft_status_of(result));
}

/* -- queues ------------------------------------------------------------------------------------ */

static void queue_init(struct proposal_queue *queue)
{
    queue->head = NULL;
    queue->tail = &queue->head;
}

static void queue_push(struct proposal_queue *queue, struct replica_proposal *proposal)
{
    proposal->next = NULL;
    *queue->tail = proposal;
    queue->tail = &proposal->next;
}

/* The oldest; NULL: there is none. */
static struct replica_proposal *queue_pop(struct proposal_queue *queue)
{
    struct replica_proposal *proposal = queue->head;
    if (proposal != NULL) {
        queue->head = proposal->next;
        if (queue->head == NULL) {
            queue->tail = &queue->head;
        }
    }
    return proposal;
}

/* All that are in a queue have ended. */
static void proposals_finish(struct replica *replica, struct proposal_queue *queue, int status)
{
    for (struct replica_proposal *proposal; (proposal = queue_pop(queue)) != NULL;) {
        proposal->status = status;
        queue_push(&replica->done, proposal);
    }
}

static void proposals_finish_gathered(struct replica *replica, int status)
{
    for (const struct replica_proposal *p = replica->gathered.head; p != NULL; p = p->next) {
        raft_free(p->buffer.base);
    }
    proposals_finish(replica, &replica->gathered, status);
    replica->gathered_bytes = 0;
    replica->gathered_count = 0;
}

/* Of those that left together libraft tells of the first: that it is applied, or that leadership is lost.
 * Neither is news: see proposal_on_applied and proposals_lose. */
static void proposal_on_done(struct raft_apply *request, int result, void *unused)
{
    (void)result;
    (void)unused;
    ((struct replica_proposal *)(void *)request)->lent = false;
}

/* An entry was applied here. Index and term are what makes it the one that was proposed. */
static void proposal_on_applied(void *context, uint64_t index, uint64_t term)
{
    struct replica *replica = context;
    struct replica_proposal *oldest = replica->flying.head;
    if (oldest != NULL && oldest->index == index && oldest->term == term) {
        (void)queue_pop(&replica->flying);
        oldest->status = STATUS_OK;
        queue_push(&replica->done, oldest);
    }
}

/* Leadership is lost: entries that left may be on others. Those that did not are told the same, their proposer
 * does not need to know. */
static void proposals_lose(struct replica *replica)
{
    const bool leads = replica->raft.state == RAFT_LEADER;
    const struct replica_proposal *oldest = replica->flying.head;
    if (oldest != NULL && (!leads || replica->raft.current_term != oldest->term)) {
        proposals_finish(replica, &replica->flying, STATUS_UNKNOWN);
    }
    if (!leads) {
        proposals_finish_gathered(replica, STATUS_UNKNOWN);
    }
}

/* What was gathered becomes entries. Inside of replica_enter. */
static void proposals_leave(struct replica *replica)
{
    struct raft *raft = &replica->raft;
    proposals_lose(replica);
    struct replica_proposal *first = replica->gathered.head;
    if (first == NULL) {
        return;
    }
    unsigned count = 0;
    for (struct replica_proposal *p = first; p != NULL; p = p->next) {
        CHECK(count < LIMIT_PROPOSALS);
        p->index = raft_last_index(raft) + 1 + count;
        p->term = raft->current_term;
        replica->buffers[count] = p->buffer;
        count++;
    }
    first->lent = true;
    if (raft_apply(raft, &first->request, replica->buffers, count, proposal_on_done) != 0) {
        first->lent = false;
        proposals_finish_gathered(replica, STATUS_UNKNOWN);
        return;
    }
    CHECK(first->request.index == first->index);
    *replica->flying.tail = first;
    replica->flying.tail = replica->gathered.tail;
    queue_init(&replica->gathered);
    replica->gathered_bytes = 0;
    replica->gathered_count = 0;
}

static void change_on_done(struct raft_change *request, int result)
{
    struct replica_change *change = (struct replica_change *)(void *)request;
    change->replica->change_done = true;
    change->replica->change_status = raft_status_of(result);
}

static void transfer_on_done(struct raft_transfer *request)
{
    struct replica *replica = request->data;
    replica->transfer_flying = false;
}

/* Make the callbacks that wait. They may call anything, also replica_close. */
static bool callbacks_make(struct replica *replica)
{
    bool made = false;
    for (struct replica_proposal *proposal; (proposal = queue_pop(&replica->done)) != NULL;) {
        void (*const callback)(void *, int, uint64_t) = proposal->callback;
        void *const context = proposal->context;
        const int status = proposal->status;
        const uint64_t index = proposal->index;
        CHECK_IF(proposal->lent, replica->ended); /* libraft is not entered again */
        CHECK(replica->proposal_count > 0);
        CHECK(replica->proposal_bytes >= proposal->bytes);
        replica->proposal_count--;
        replica->proposal_bytes -= proposal->bytes;
        proposal->next = replica->proposals_free;
        replica->proposals_free = proposal;
        if (callback != NULL) {
            callback(context, status, index);
        }
        made = true;
    }
    made = raft_reads_call_back(&replica->reads) || made;
    if (replica->change_done) {
        const struct replica_change change = replica->change;
        replica->change_done = false;
        replica->change_flying = false;
        if (change.callback != NULL) {
            change.callback(change.context, replica->change_status);
        }
        made = true;
    }
    return made;
}

/* -- entering and leaving libraft -------------------------------------------------------------- */

static bool leadership_tell(struct replica *replica)
{
    const enum replica_role role = replica_role(replica);
    const uint64_t term = replica->raft.current_term;
    const uint64_t leader = replica_leader(replica, NULL);
    if (role == replica->told_role && term == replica->told_term &&
        leader == replica->told_leader) {
        return false;
    }
    replica->told_role = role;
    replica->told_term = term;
    replica->told_leader = leader;
    if (replica->hooks.leadership != NULL) {
        replica->hooks.leadership(replica->hooks.context, role, term, leader);
    }
    return true;
}

static void close_finish(struct replica *replica)
{
    if (replica->on_close == NULL || raft_io_busy(&replica->io)) {
        return;
    }
    void (*const callback)(void *) = replica->on_close;
    replica->on_close = NULL;
    callback(replica->on_close_context);
}

static void replica_settle(struct replica *replica)
{
    if (replica->settling) {
        return; /* called back from below: the loop there goes on */
    }
    replica->settling = true;
    bool again = true;
    while (again) {
        again = false;
        if (!replica->ended) {
            again = raft_io_settle(&replica->io);
        }
        if (!replica->ended) {
            raft_guard_settle(&replica->guard);
            raft_reads_settle(&replica->reads);
            proposals_lose(replica);
        }
        if (!replica->ended && replica->opened && replica->raft.state == RAFT_UNAVAILABLE) {
            replica_fatal(replica, "libraft has stopped", 0);
        }
        if (replica->ended && replica->on_close == NULL) {
            break; /* dead: nobody hears anything */
        }
        again = callbacks_make(replica) || again;
        again = (!replica->ended && leadership_tell(replica)) || again;
        again = again || replica->io.sends_head != NULL;
        if (replica->ended) {
            break;
        }
    }
    replica->settling = false;
    close_finish(replica);
}

static void replica_enter(struct replica *replica)
{
    CHECK(!replica->fsm.applying); /* see replica.h: apply must not call back */
    replica->depth++;
}

static void replica_leave(struct replica *replica)
{
    CHECK(replica->depth > 0);
    replica->depth--;
    if (replica->depth == 0) {
        replica_settle(replica);
    }
}

/* The log or the pool called back into libraft. */
static void replica_entered(void *context)
{
    struct replica *replica = context;
    replica_enter(replica);
    replica_leave(replica);
}

/* -- opening ----------------------------------------------------------------------------------- */

static bool config_fits(const struct replica_config *config, const struct replica_hooks *hooks)
{
    if (config->id == 0 || config->address == NULL || config->address[0] == '\0' ||
        strlen(config->address) > LIMIT_NAME_BYTES || config->member_count > LIMIT_REPLICAS) {
        return false;
    }
    if (hooks->checkpoint_start != NULL && config->run == NULL) {
        return false;
    }
    const uint32_t election = config->election_ms == 0 ? ELECTION_MS : config->election_ms;
    const uint32_t heartbeat = config->heartbeat_ms == 0 ? HEARTBEAT_MS : config->heartbeat_ms;
    return heartbeat < election;
}

static int replica_found(struct replica *replica, const struct replica_config *config)
{
    struct raft_configuration members;
    raft_configuration_init(&members);
    int result = 0;
    for (uint32_t i = 0; i < config->member_count && result == 0; i++) {
        static const int roles[] = {[REPLICA_VOTER] = RAFT_VOTER,
                                    [REPLICA_STANDBY] = RAFT_STANDBY,
                                    [REPLICA_SPARE] = RAFT_SPARE};
        const struct replica_member *member = &config->members[i];
        result = member->id == 0 || strlen(member->address) > LIMIT_NAME_BYTES
                     ? RAFT_BADID
                     : raft_configuration_add(&members, member->id, member->address,
                                              roles[member->role]);
    }
    if (result != 0) {
        raft_configuration_close(&members);
        return STATUS_MALFORMED;
    }
    result = raft_bootstrap(&replica->raft, &members);
    raft_configuration_close(&members);
    return result == RAFT_CANTBOOTSTRAP ? STATUS_OK : raft_status_of(result);
}

static void replica_set_up(struct replica *replica, struct log *log,
                           const struct replica_config *config, const struct replica_peers *peers)
{
    const struct raft_io_options options = {
        .raft = &replica->raft,
        .log = log,
        .config = config,
        .peers = peers,
        .state = {.context = &replica->fsm,
                  .behind = raft_fsm_behind,
                  .needs = raft_fsm_needs,
                  .fetch = raft_fsm_fetch},
        .reads = &replica->reads,
        .counters = &replica->counters,
        .run_context = replica->hooks.context,
        .entered = replica_entered,
        .entered_context = replica,
    };
    raft_io_open(&replica->io, &options);
    raft_guard_init(&replica->guard, &replica->io.io, &replica->raft, ~config->measures_off,
                    &replica->counters, replica_fatal_result, replica);
    queue_init(&replica->gathered);
    queue_init(&replica->flying);
    queue_init(&replica->done);
    raft_reads_init(&replica->reads, &replica->raft, &replica->io, &replica->guard,
                    ~config->measures_off, &replica->counters);
    replica->proposals = raft_memory(LIMIT_PROPOSALS * sizeof *replica->proposals);
    replica->buffers = raft_memory(LIMIT_PROPOSALS * sizeof *replica->buffers);
    for (uint32_t i = 0; i < LIMIT_PROPOSALS; i++) {
        replica->proposals[i].next = replica->proposals_free;
        replica->proposals_free = &replica->proposals[i];
    }
}

int replica_open(struct log *log, const struct replica_config *config,
                 const struct replica_hooks *hooks, const struct replica_peers *peers,
                 struct replica **out)
{
    CHECK(hooks->apply != NULL);
    CHECK(peers->send != NULL);
    if (!config_fits(config, hooks)) {
        return STATUS_MALFORMED;
    }
    struct replica *replica = raft_memory(sizeof *replica);
    replica->hooks = *hooks;
    replica->tick_ms = config->now_ms;
    replica->clock_ms = config->now_ms;
    replica_set_up(replica, log, config, peers);
    struct raft *raft = &replica->raft;
    int result =
        raft_init(raft, &replica->guard.outer, &replica->fsm.fsm, config->id, config->address);
    if (result != 0) {
        return raft_status_of(result);
    }
    raft_fsm_init(&replica->fsm, raft, config, hooks, proposal_on_applied, replica_fatal, replica);
    raft_set_election_timeout(raft, config->election_ms == 0 ? ELECTION_MS : config->election_ms);
    raft_set_heartbeat_timeout(raft,
                               config->heartbeat_ms == 0 ? HEARTBEAT_MS : config->heartbeat_ms);
    raft_set_install_snapshot_timeout(raft, raft->election_timeout * INSTALL_ELECTIONS);
    raft_set_pre_vote(raft, true);

    int status = raft_io_prepare(&replica->io);
    if (status == 0 && config->member_count > 0 && log_index_next(log) == 1) {
        status = replica_found(replica, config);
    }
    if (status != 0) {
        return status;
    }
    *out = replica;
    replica->depth++; /* a lone voter leads, and applies, before this returns */
    result = raft_start(raft);
    replica->depth--;
    if (replica->ended) {
        return STATUS_UNSUPPORTED;
    }
    if (result != 0) {
        return raft_status_of(result);
    }
    replica->opened = true;
    return 0;
}

/* -- what comes in ----------------------------------------------------------------------------- */

void replica_tick(struct replica *replica, uint64_t now_ms)
{
    if (replica->ended) {
        return;
    }
    CHECK(now_ms >= replica->tick_ms);
    const uint64_t passed_ms = now_ms - replica->tick_ms;
    const uint64_t counted_ms = replica->raft.heartbeat_timeout;
    replica->tick_ms = now_ms;
    replica->clock_ms += passed_ms < counted_ms ? passed_ms : counted_ms;

    replica_enter(replica);
    raft_io_tick(&replica->io, replica->clock_ms);
    raft_fsm_tick(&replica->fsm, replica->clock_ms, raft_io_room(&replica->io) == 0);
    raft_reads_tick(&replica->reads, replica->clock_ms);
    replica_leave(replica);
}

void replica_flush(struct replica *replica)
{
    if (!replica->ended &&
        (replica->gathered.head != NULL || raft_hear_waits(&replica->io.hears))) {
        replica_enter(replica);
        proposals_leave(replica);
        raft_hear_run(&replica->io.hears);
        replica_leave(replica);
    }
    if (!replica->ended) {
        raft_tell_run(&replica->io.tells);
    }
}

bool replica_suspect(struct replica *replica, uint64_t id, bool patient)
{
    if (replica->ended || id == 0) {
        return false;
    }
    replica_enter(replica);
    const bool followed = raft_suspect(&replica->raft, id, patient) != 0;
    replica_leave(replica);
    return followed;
}

int replica_receive(struct replica *replica, uint64_t from, struct bytes message)
{
    if (replica->ended) {
        return STATUS_CLOSING;
    }
    replica_enter(replica);
    const int status = raft_io_receive(&replica->io, from, message);
    replica_leave(replica);
    return status;
}

int replica_propose(struct replica *replica, struct bytes command,
                    void (*callback)(void *context, int status, uint64_t index), void *context)
{
    CHECK(command.size > 0);
    CHECK(!replica->fsm.applying);
    if (replica->ended) {
        return STATUS_CLOSING;
    }
    if (command.size > LIMIT_COMMAND_BYTES) {
        return STATUS_TOO_LARGE;
    }
    if (replica->raft.state != RAFT_LEADER || replica->raft.transfer != NULL) {
        return STATUS_NOT_LEADER;
    }
    const int room = raft_io_room(&replica->io);
    if (room != 0) {
        return room;
    }
    if (replica->proposals_free == NULL ||
        replica->proposal_bytes + command.size > LIMIT_PROPOSALS_BYTES ||
        raft_fsm_full(&replica->fsm)) {
        return STATUS_FULL;
    }

    /* The log takes what leaves together as a whole or not at all: who would be too much is told at once, a full disk
     * does not heal within a turn, and takes none of the others with him. */
    const size_t size = (command.size + ENTRY_MULTIPLE - 1) / ENTRY_MULTIPLE * ENTRY_MULTIPLE;
    if (replica->gathered_count > 0 &&
        !raft_io_fits(&replica->io, replica->gathered_count + 1, replica->gathered_bytes + size)) {
        return -ENOSPC;
    }

    struct replica_proposal *proposal = replica->proposals_free;
    replica->proposals_free = proposal->next;
    proposal->buffer = (struct raft_buffer){.base = raft_malloc(size), .len = size};
    CHECK(proposal->buffer.base != NULL);
    memcpy(proposal->buffer.base, command.data, command.size);
    memset((uint8_t *)proposal->buffer.base + command.size, 0, size - command.size);
    proposal->callback = callback;
    proposal->context = context;
    proposal->bytes = command.size;
    replica->proposal_count++;
    replica->proposal_bytes += command.size;
    replica->gathered_bytes += size;
    replica->gathered_count++;
    queue_push(&replica->gathered, proposal);
    if (replica->gathered_bytes >= LIMIT_LOG_EARLY_BYTES) {
        replica_enter(replica); /* the disk need not wait for the rest of the turn */
        proposals_leave(replica);
        replica_leave(replica);
    }
    return 0;
}

int replica_read(struct replica *replica,
                 void (*callback)(void *context, int status, uint64_t index), void *context)
{
    CHECK(callback != NULL);
    if (replica->ended) {
        return STATUS_CLOSING;
    }
    if (replica->raft.state != RAFT_LEADER) {
        return STATUS_NOT_LEADER;
    }

    replica_enter(replica);
    const int status = raft_reads_ask(&replica->reads, callback, context);
    replica_leave(replica);
    return status;
}

int replica_transfer(struct replica *replica, uint64_t to)
{
    if (replica->ended) {
        return STATUS_CLOSING;
    }
    if (replica->transfer_flying) {
        return STATUS_FULL;
    }
    replica_enter(replica);
    proposals_leave(replica); /* while it is handed over nothing does */
    replica->transfer = (struct raft_transfer){.data = replica};
    const int result = raft_transfer(&replica->raft, &replica->transfer, to, transfer_on_done);
    replica->transfer_flying = result == 0;
    replica_leave(replica);
    return raft_status_of(result);
}

/* -- changes of the group ---------------------------------------------------------------------- */

static int change_start(struct replica *replica, void (*callback)(void *context, int status),
                        void *context)
{
    if (replica->ended) {
        return STATUS_CLOSING;
    }
    if (replica->raft.state != RAFT_LEADER) {
        return STATUS_NOT_LEADER;
    }
    const bool early = !raft_guard_own_term(&replica->guard) &&
                       (replica->guard.measures & MEASURE_CHANGE) != 0; /* s */
    if (replica->change_flying || early) {
        return STATUS_FULL;
    }
    replica->change =
        (struct replica_change){.replica = replica, .callback = callback, .context = context};
    replica->change_flying = true;
    replica_enter(replica);
    return 0;
}

static int change_finish(struct replica *replica, int result)
{
    if (result != 0) {
        replica->change_flying = false;
    }
    replica_leave(replica);
    return raft_status_of(result);
}

int replica_add(struct replica *replica, uint64_t id, const char *address,
                void (*callback)(void *context, int status), void *context)
{
    if (id == 0 || address == NULL || address[0] == '\0' || strlen(address) > LIMIT_NAME_BYTES ||
        replica->raft.configuration.n >= LIMIT_REPLICAS) {
        return -EINVAL;
    }
    const int status = change_start(replica, callback, context);
    if (status != 0) {
        return status;
    }
    return change_finish(
        replica, raft_add(&replica->raft, &replica->change.request, id, address, change_on_done));
}

int replica_assign(struct replica *replica, uint64_t id, enum replica_member_role role,
                   void (*callback)(void *context, int status), void *context)
{
    static const int roles[] = {[REPLICA_VOTER] = RAFT_VOTER,
                                [REPLICA_STANDBY] = RAFT_STANDBY,
                                [REPLICA_SPARE] = RAFT_SPARE};
    const int status = change_start(replica, callback, context);
    if (status != 0) {
        return status;
    }
    return change_finish(replica, raft_assign(&replica->raft, &replica->change.request, id,
                                              roles[role], change_on_done));
}

int replica_remove(struct replica *replica, uint64_t id,
                   void (*callback)(void *context, int status), void *context)
{
    const int status = change_start(replica, callback, context);
    if (status != 0) {
        return status;
    }
    return change_finish(replica,
                         raft_remove(&replica->raft, &replica->change.request, id, change_on_done));
}

void replica_fetched(struct replica *replica, int status)
{
    if (replica->ended) {
        return;
    }
    replica_enter(replica);
    raft_io_fetched(&replica->io, status);
    replica_leave(replica);
}

void replica_close(struct replica *replica, void (*callback)(void *context), void *context)
{
    CHECK(callback != NULL);
    CHECK(replica->on_close == NULL);

    replica_enter(replica);
    replica->on_close = callback;
    replica->on_close_context = context;
    const bool was_ended = replica->ended;
    replica_end(replica);
    if (!was_ended) {
        proposals_finish(replica, &replica->flying, STATUS_CLOSING);
        proposals_finish_gathered(replica, STATUS_CLOSING);
        raft_reads_end(&replica->reads, STATUS_CLOSING);
        if (replica->change_flying && !replica->change_done) {
            replica->change_done = true;
            replica->change_status = STATUS_CLOSING;
        }
    }
    replica_leave(replica);
}

/* -- what it knows ----------------------------------------------------------------------------- */

enum replica_role replica_role(const struct replica *replica)
{
    if (replica->ended) {
        return REPLICA_ENDED;
    }
    switch (replica->raft.state) {
    case RAFT_LEADER:
        return REPLICA_LEADER;
    case RAFT_CANDIDATE:
        return REPLICA_CANDIDATE;
    default:
        return REPLICA_FOLLOWER;
    }
}

uint64_t replica_term(const struct replica *replica)
{
    return replica->raft.current_term;
}

uint64_t replica_leader(struct replica *replica, const char **out_address)
{
    raft_id id = 0;
    const char *address = NULL;
    if (!replica->ended) {
        raft_leader(&replica->raft, &id, &address);
    }
    if (out_address != NULL) {
        *out_address = id == 0 ? NULL : address;
    }
    return id;
}

uint64_t replica_commit_index(const struct replica *replica)
{
    return replica->raft.commit_index;
}

uint64_t replica_applied_index(const struct replica *replica)
{
    return replica->raft.last_applied;
}

uint64_t replica_last_index(const struct replica *replica)
{
    return raft_last_index((struct raft *)&replica->raft); /* only reads; its header has no const */
}

static uint32_t members_tell(const struct raft_configuration *members, struct replica_member *out)
{
    static const enum replica_member_role roles[] = {[RAFT_STANDBY] = REPLICA_STANDBY,
                                                     [RAFT_VOTER] = REPLICA_VOTER,
                                                     [RAFT_SPARE] = REPLICA_SPARE};
    CHECK(members->n <= LIMIT_REPLICAS);
    for (unsigned i = 0; i < members->n; i++) {
        out[i] = (struct replica_member){
            .id = members->servers[i].id,
            .address = members->servers[i].address,
            .role = roles[members->servers[i].role],
        };
    }
    return members->n;
}

uint32_t replica_members(struct replica *replica, struct replica_member *out)
{
    return members_tell(&replica->raft.configuration, out);
}

uint64_t replica_members_index(const struct replica *replica)
{
    const struct raft *raft = &replica->raft;
    return raft->configuration_uncommitted_index != 0 ? raft->configuration_uncommitted_index
                                                      : raft->configuration_index;
}

uint32_t replica_members_agreed(struct replica *replica, struct replica_member *out,
                                uint64_t *out_index)
{
    *out_index = replica->guard.committed_index;
    return *out_index == 0 ? 0 : members_tell(&replica->guard.committed, out);
}

void replica_counters(const struct replica *replica, struct replica_counters *out)
{
    *out = replica->counters;
}
