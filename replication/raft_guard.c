#include "replication/raft_guard.h"

#include "replication/raft_members.h"
#include "replication/raft_suspect.h"
#include "schemas/check.h"

#include <stddef.h>

/* What the guard reads and edits, as 0.15 lays it out. meson.build has seen to the version. */
static_assert(offsetof(struct raft, voted_for) == offsetof(struct raft, current_term) + 8,
              "the guard edits current_term and voted_for of libraft 0.15");
static_assert(sizeof(struct raft_progress) == 56, "the guard reads struct raft_progress of 0.15");
static_assert(sizeof(struct raft_entry) == 40, "the guard reads struct raft_entry of 0.15");

/* One write of libraft: its own request, and the one the inner storage gets. */
struct guard_append {
    struct guard_append *next;
    struct raft_guard *guard;
    struct raft_io_append request;
    struct raft_io_append *original;
    raft_index last;
    int status;
    bool done;
    bool held; /* counted */
};

/* An acknowledgement that came before this leader's own-term entry was durable. */
struct guard_result {
    struct guard_result *next;
    struct raft_message message;
    char address[LIMIT_NAME_BYTES + 1];
};

struct guard_put {
    struct raft_io_snapshot_put request; /* first: the callback finds the rest from it */
    struct raft_io_snapshot_put *original;
    struct raft_guard *guard;
    bool install;
    bool replaced; /* `snapshot` is a copy with the committed configuration */
    struct raft_snapshot snapshot;
};

static struct raft_guard *guard_of(struct raft_io *outer)
{
    return outer->impl;
}

static bool measure_on(const struct raft_guard *guard, enum replica_measure measure)
{
    return (guard->measures & measure) != 0;
}

/* Pass a result on; an error ends the process (d). */
static int guard_result(struct raft_guard *guard, const char *what, int result)
{
    if (result != 0 && measure_on(guard, MEASURE_FATAL)) {
        guard->fatal(guard->fatal_context, what, result);
    }
    return result;
}

/* The term of an entry of libraft's log, 0 when it is not there.
 *
 *   source     libraft 0.15 src/log.c, logTermOf
 */
raft_term raft_guard_entry_term(const struct raft *raft, raft_index index)
{
    const struct raft_log *log = &raft->log;
    if (index != 0 && index == log->snapshot.last_index) {
        return log->snapshot.last_term;
    }
    if (log->size == 0 || index <= log->offset) {
        return 0;
    }
    const size_t count =
        log->front <= log->back ? log->back - log->front : log->size - log->front + log->back;
    if (index > log->offset + count) {
        return 0;
    }
    return log->entries[(log->front + (size_t)(index - 1 - log->offset)) % log->size].term;
}

/* -- configurations (f) ------------------------------------------------------------------------ */

static void config_keep(struct raft_guard *guard, const struct raft_configuration *members,
                        raft_index index)
{
    raft_members_copy(members, &guard->committed);
    guard->committed_index = index;
}

static void config_follow(struct raft_guard *guard)
{
    const struct raft *raft = guard->raft;
    if (measure_on(guard, MEASURE_CONFIG) && raft->configuration_uncommitted_index == 0 &&
        raft->configuration_index != guard->committed_index && raft->configuration.n > 0) {
        config_keep(guard, &raft->configuration, raft->configuration_index);
    }
}

/* libraft is about to truncate an uncommitted configuration away: go back to the committed one
 * ourselves, so that it has nothing to roll back. */
static void config_roll_back(struct raft_guard *guard, const struct raft_append_entries *append)
{
    struct raft *raft = guard->raft;
    const raft_index uncommitted = raft->configuration_uncommitted_index;
    /* A leader too: that of a newer term makes it step down and truncate in one go. */
    if (!measure_on(guard, MEASURE_CONFIG) || uncommitted == 0 || guard->committed_index == 0 ||
        append->term < raft->current_term) {
        return;
    }
    CHECK_IF(raft->state == RAFT_LEADER, append->term > raft->current_term);
    if (append->prev_log_index != 0 &&
        raft_guard_entry_term(raft, append->prev_log_index) != append->prev_log_term) {
        return;
    }
    for (unsigned i = 0; i < append->n_entries; i++) {
        const raft_index index = append->prev_log_index + 1 + i;
        const raft_term term = raft_guard_entry_term(raft, index);
        if (term == 0) {
            return;
        }
        if (term == append->entries[i].term) {
            continue;
        }
        if (index <= uncommitted) {
            raft_members_copy(&guard->committed, &raft->configuration);
            raft->configuration_index = guard->committed_index;
            raft->configuration_uncommitted_index = 0;
            guard->counters->configs_restored++;
        }
        return;
    }
}

/* Which configuration of a loaded log is committed for sure, and which may not be. Only the newest
 * can be uncommitted: one change at a time. */
static int config_load(struct raft_guard *guard, const struct raft_snapshot *snapshot,
                       raft_index start, const struct raft_entry *entries, size_t count)
{
    raft_index snapshot_index = 0;
    if (snapshot != NULL) {
        config_keep(guard, &snapshot->configuration, snapshot->configuration_index);
        snapshot_index = snapshot->index;
    }
    size_t newest = count;
    size_t before = count;
    for (size_t i = 0; i < count; i++) {
        if (entries[i].type == RAFT_CHANGE) {
            before = newest;
            newest = i;
        }
    }
    if (newest == count) {
        return 0;
    }
    const raft_index newest_index = start + newest;
    /* the founding entry is committed by definition, and so is all below a snapshot */
    const bool certain = newest_index == 1 || newest_index <= snapshot_index;
    const size_t committed = certain ? newest : before;
    if (committed != count && start + committed > guard->committed_index) {
        struct raft_configuration members;
        const struct raft_buffer *data = &entries[committed].buf;
        if (raft_members_decode(bytes_of(data->base, data->len), &members) != 0) {
            return RAFT_CORRUPT;
        }
        config_keep(guard, &members, start + committed);
        raft_configuration_close(&members);
    }
    if (!certain && guard->committed_index != 0) {
        guard->loaded_uncommitted = newest_index;
    }
    return 0;
}

/* -- leader (b, c) ----------------------------------------------------------------------------- */

static bool quorum_has(const struct raft *raft, raft_index index)
{
    unsigned voters = 0;
    unsigned with = 0;
    for (unsigned i = 0; i < raft->configuration.n; i++) {
        const struct raft_server *server = &raft->configuration.servers[i];
        if (server->role != RAFT_VOTER) {
            continue;
        }
        voters++;
        /* our own write is complete: that is what waits to be delivered */
        with += server->id == raft->id || raft->leader_state.progress[i].match_index >= index;
    }
    return with > voters / 2;
}

static bool append_must_wait(const struct raft_guard *guard, const struct guard_append *append)
{
    const struct raft *raft = guard->raft;
    return measure_on(guard, MEASURE_COMMIT) && append->status == 0 && raft->state == RAFT_LEADER &&
           raft_members_voters(&raft->configuration) > 1 && append->last > guard->barrier_index &&
           !quorum_has(raft, append->last);
}

/* Deliver the completions of own writes that need not wait (any more), in order. */
static void appends_release(struct raft_guard *guard)
{
    if (guard->releasing) {
        return; /* a completion led here again; the loop below goes on with it */
    }
    guard->releasing = true;
    while (guard->appends_head != NULL && guard->appends_head->done) {
        struct guard_append *append = guard->appends_head;
        if (append_must_wait(guard, append)) {
            guard->counters->appends_held += !append->held;
            append->held = true;
            break;
        }
        guard->appends_head = append->next;
        if (guard->appends_head == NULL) {
            guard->appends_tail = &guard->appends_head;
        }
        struct raft_io_append *original = append->original;
        const int status = append->status;
        raft_free(append);
        original->cb(original, status);
    }
    guard->releasing = false;
}

/* The own-term entry of this leadership is not durable here yet. */
static bool barrier_pending(const struct raft_guard *guard)
{
    const struct raft *raft = guard->raft;
    return measure_on(guard, MEASURE_TERM) && raft->state == RAFT_LEADER &&
           guard->led_term == raft->current_term && raft_members_voters(&raft->configuration) > 1 &&
           (guard->barrier_index == 0 || raft->last_stored < guard->barrier_index);
}

static void results_deliver(struct raft_guard *guard)
{
    while (guard->results_head != NULL && !barrier_pending(guard)) {
        struct guard_result *held = guard->results_head;
        guard->results_head = held->next;
        if (guard->results_head == NULL) {
            guard->results_tail = &guard->results_head;
        }
        if (guard->raft->state == RAFT_LEADER) {
            guard->recv(&guard->outer, &held->message);
        }
        raft_free(held);
    }
}

static void result_hold(struct raft_guard *guard, const struct raft_message *message)
{
    struct guard_result *held = raft_memory(sizeof *held);
    held->message = *message;
    held->message.server_address = held->address;
    const size_t size = strnlen(message->server_address, sizeof held->address - 1);
    memcpy(held->address, message->server_address, size);
    *guard->results_tail = held;
    guard->results_tail = &held->next;
    guard->counters->results_held++;
}

static void barrier_on_done(struct raft_barrier *barrier, int status)
{
    (void)status;
    raft_free(barrier);
}

/* A new leadership begins with an entry of its own term. While leadership is being handed over
 * libraft refuses it; then it is tried again at every turn, and acknowledgements wait. */
static void leadership_begin(struct raft_guard *guard)
{
    struct raft *raft = guard->raft;
    if (raft->state != RAFT_LEADER) {
        return;
    }
    if (guard->led_term != raft->current_term) {
        guard->led_term = raft->current_term;
        guard->barrier_index = 0;
    }
    if (guard->barrier_index != 0 || !measure_on(guard, MEASURE_TERM) ||
        raft_members_voters(&raft->configuration) <= 1) {
        return;
    }
    struct raft_barrier *barrier = raft_memory(sizeof *barrier);
    if (raft_barrier(raft, barrier, barrier_on_done) != 0) {
        raft_free(barrier);
        return;
    }
    guard->barrier_index = barrier->index;
    guard->counters->barriers++;
}

void raft_guard_settle(struct raft_guard *guard)
{
    config_follow(guard);
    leadership_begin(guard);
    appends_release(guard);
    results_deliver(guard);
    appends_release(guard); /* results may have given a quorum */
    if (guard->raft->state != RAFT_LEADER) {
        guard->led_term = 0; /* a leadership that ends and begins again begins anew */
    }
}

bool raft_guard_own_term(const struct raft_guard *guard)
{
    const struct raft *raft = guard->raft;
    if (raft->state != RAFT_LEADER) {
        return false;
    }
    const struct raft_server *self = raft_members_find(&raft->configuration, raft->id);
    return raft_guard_entry_term(raft, raft->commit_index) == raft->current_term ||
           (self != NULL && self->role == RAFT_VOTER &&
            raft_members_voters(&raft->configuration) == 1);
}

/* -- a lone voter (i) -------------------------------------------------------------------------- */

static void solo_take_term(struct raft_guard *guard)
{
    struct raft *raft = guard->raft;
    const struct raft_server *self = raft_members_find(&raft->configuration, raft->id);
    if (!measure_on(guard, MEASURE_SOLO) || raft->state == RAFT_LEADER || self == NULL ||
        self->role != RAFT_VOTER || raft_members_voters(&raft->configuration) != 1) {
        return;
    }
    const int result = guard->inner->set_term(guard->inner, raft->current_term + 1);
    if (guard_result(guard, "the term cannot be stored", result) != 0) {
        return;
    }
    raft->current_term++;
    raft->voted_for = 0;
    guard->counters->terms_taken++;
}

/* -- what comes in ----------------------------------------------------------------------------- */

static void guard_tick(struct raft_io *inner)
{
    struct raft_guard *guard = inner->data;
    solo_take_term(guard);
    guard->tick(&guard->outer);
    raft_guard_settle(guard);
}

/* Entries below our own snapshot are committed, hence equal: let the message begin there (g). */
static void append_skip_prefix(struct raft_guard *guard, struct raft_append_entries *append)
{
    const struct raft *raft = guard->raft;
    const raft_index snapshot = raft->log.snapshot.last_index;
    const bool installing = raft->last_stored == 0 && raft->snapshot.put.data != NULL;
    if (!measure_on(guard, MEASURE_WALK) || append->term < raft->current_term || snapshot == 0 ||
        append->prev_log_index >= snapshot ||
        raft_guard_entry_term(raft, append->prev_log_index) != 0 || installing) {
        return;
    }
    const raft_index skip = snapshot - append->prev_log_index;
    guard->counters->prefixes_skipped++;
    if (append->n_entries > skip) {
        append->n_entries -= (unsigned)skip;
        memmove(append->entries, append->entries + skip,
                append->n_entries * sizeof *append->entries);
    } else if (append->n_entries > 0) {
        raft_free(append->entries[0].batch);
        raft_free(append->entries);
        append->entries = NULL;
        append->n_entries = 0;
    }
    append->prev_log_index = snapshot;
    append->prev_log_term = raft->log.snapshot.last_term;
}

static void recv_append(struct raft_guard *guard, struct raft_message *message)
{
    struct raft *raft = guard->raft;
    struct raft_append_entries *append = &message->append_entries;
    if (raft->state == RAFT_LEADER && append->term == raft->current_term) {
        /* Two leaders in one term. libraft would write over its leader's state. */
        guard->fatal(guard->fatal_context, "another replica leads in the same term", 0);
        return;
    }
    if (measure_on(guard, MEASURE_ACK) &&
        append->leader_commit > append->prev_log_index + append->n_entries) {
        append->leader_commit = append->prev_log_index + append->n_entries;
        guard->counters->commits_capped++;
    }
    append_skip_prefix(guard, append);
    config_roll_back(guard, append);

    const raft_term term = append->term;
    const raft_index end = append->prev_log_index + append->n_entries;
    const raft_term end_term =
        append->n_entries > 0 ? append->entries[append->n_entries - 1].term : append->prev_log_term;
    if (term >= raft->current_term && guard->covered_term != term) {
        guard->covered_term = term;
        guard->covered_index = 0;
    }
    guard->in_append = true;
    guard->append_end = end;
    guard->append_prev = append->prev_log_index;
    guard->recv(&guard->outer, message);
    guard->in_append = false;

    if (raft->state == RAFT_FOLLOWER && raft->current_term == term && guard->covered_term == term &&
        end > guard->covered_index && end_term != 0 &&
        raft_guard_entry_term(raft, end) == end_term) {
        guard->covered_index = end;
    }
}

static void recv_snapshot(struct raft_guard *guard, struct raft_message *message)
{
    const struct raft_install_snapshot *install = &message->install_snapshot;
    if (install->term >= guard->raft->current_term) {
        if (guard->covered_term != install->term) {
            guard->covered_term = install->term;
            guard->covered_index = 0;
        }
        if (install->last_index > guard->covered_index) {
            guard->covered_index = install->last_index; /* committed, hence every leader's */
        }
    }
    guard->recv(&guard->outer, message);
}

static void recv_vote_request(struct raft_guard *guard, struct raft_message *message)
{
    struct raft *raft = guard->raft;
    const struct raft_request_vote *request = &message->request_vote;
    struct raft_transfer *transfer = raft->transfer;
    const bool second_vote = transfer != NULL && request->term == raft->current_term &&
                             !request->pre_vote && raft->voted_for != 0 &&
                             raft->voted_for != request->candidate_id;
    if (!second_vote || !measure_on(guard, MEASURE_TRANSFER)) {
        guard->recv(&guard->outer, message);
        return;
    }
    /* The target of a transfer gets a vote from libraft even when this term's is given away. With
     * the transfer out of its sight it refuses, as it should (o). */
    raft->transfer = NULL;
    guard->recv(&guard->outer, message);
    raft->transfer = transfer;
    guard->counters->votes_refused++;
}

static void guard_recv(struct raft_io *inner, struct raft_message *message)
{
    struct raft_guard *guard = inner->data;
    guard->in_recv = true;
    switch (message->type) {
    case RAFT_IO_APPEND_ENTRIES:
        recv_append(guard, message);
        break;
    case RAFT_IO_APPEND_ENTRIES_RESULT:
        if (message->append_entries_result.rejected == 0 &&
            message->append_entries_result.term == guard->raft->current_term &&
            barrier_pending(guard)) {
            result_hold(guard, message);
        } else {
            guard->recv(&guard->outer, message);
        }
        break;
    case RAFT_IO_REQUEST_VOTE:
        recv_vote_request(guard, message);
        break;
    case RAFT_IO_INSTALL_SNAPSHOT:
        recv_snapshot(guard, message);
        break;
    default:
        guard->recv(&guard->outer, message);
        break;
    }
    guard->in_recv = false;
    raft_guard_settle(guard);
}

/* -- what goes out ----------------------------------------------------------------------------- */

/* An AppendEntries result as it should have been; `copy` is changed, and may be sent. */
static void result_amend(struct raft_guard *guard, struct raft_append_entries_result *result)
{
    const struct raft *raft = guard->raft;
    if (result->term != raft->current_term) {
        return;
    }
    if (result->rejected == 0 && measure_on(guard, MEASURE_ACK)) {
        if (guard->in_append && guard->covered_term == raft->current_term &&
            guard->append_end > guard->covered_index && raft->state == RAFT_FOLLOWER) {
            guard->covered_index = guard->append_end; /* answered at once: it was all here */
        }
        const raft_index cap = guard->covered_term == raft->current_term ? guard->covered_index : 0;
        if (result->last_log_index > cap) {
            result->last_log_index = cap;
            guard->counters->acks_capped++;
        }
    }
    if (result->rejected != 0 && measure_on(guard, MEASURE_WALK) && guard->in_append &&
        result->rejected == guard->append_prev &&
        raft_guard_entry_term(raft, guard->append_prev) != 0 &&
        raft->commit_index < result->last_log_index) {
        /* A conflict. What is committed is certainly equal; libraft would walk back to it one
         * entry per heartbeat, with the whole tail in every message. */
        result->last_log_index = raft->commit_index;
        guard->counters->hints++;
    }
}

static int guard_send(struct raft_io *outer, struct raft_io_send *request,
                      const struct raft_message *message, raft_io_send_cb callback)
{
    struct raft_guard *guard = guard_of(outer);
    struct raft_message copy = *message;
    /* Not an answer to a message, but to a write that completed: libraft takes the leader from
     * its state as a follower, which it may not be any more. */
    const bool late = message->type == RAFT_IO_APPEND_ENTRIES_RESULT && !guard->in_recv;
    if (measure_on(guard, MEASURE_ADDRESS) && late &&
        (guard->raft->state != RAFT_FOLLOWER || message->server_id == 0 ||
         message->server_address == NULL)) {
        guard->counters->replies_dropped++;
        return RAFT_NOCONNECTION; /* after which libraft frees its request, here */
    }
    if (message->type == RAFT_IO_APPEND_ENTRIES_RESULT) {
        result_amend(guard, &copy.append_entries_result);
    }
    if (message->type == RAFT_IO_REQUEST_VOTE_RESULT && copy.request_vote_result.vote_granted &&
        copy.request_vote_result.pre_vote == raft_tribool_true) {
        raft_suspect_yield(guard->raft);
    }
    if (message->type == RAFT_IO_REQUEST_VOTE_RESULT && measure_on(guard, MEASURE_PREVOTE) &&
        copy.request_vote_result.pre_vote == raft_tribool_true &&
        !copy.request_vote_result.vote_granted &&
        copy.request_vote_result.term < guard->raft->current_term) {
        copy.request_vote_result.term = guard->raft->current_term;
        guard->counters->prevotes_answered++;
    }
    return guard->inner->send(guard->inner, request, &copy, callback);
}

static void append_on_done(struct raft_io_append *request, int status)
{
    struct guard_append *append = request->data;
    struct raft_guard *guard = append->guard;
    if (guard_result(guard, "the log cannot be written", status) != 0 &&
        measure_on(guard, MEASURE_FATAL)) {
        return; /* nobody hears of it: the process is ending */
    }
    append->status = status;
    append->done = true;
    raft_guard_settle(guard);
}

static int guard_append(struct raft_io *outer, struct raft_io_append *request,
                        const struct raft_entry entries[], unsigned count,
                        raft_io_append_cb callback)
{
    struct raft_guard *guard = guard_of(outer);
    struct guard_append *append = raft_memory(sizeof *append);
    request->cb = callback;
    append->guard = guard;
    append->original = request;
    append->request.data = append;
    append->last = raft_last_index(guard->raft);
    struct guard_append **previous = guard->appends_tail;
    *previous = append;
    guard->appends_tail = &append->next;
    const int result =
        guard->inner->append(guard->inner, &append->request, entries, count, append_on_done);
    if (result != 0) {
        *previous = NULL;
        guard->appends_tail = previous;
        raft_free(append);
    }
    return guard_result(guard, "the log cannot be written", result);
}

static void put_on_done(struct raft_io_snapshot_put *request, int status)
{
    struct guard_put *put = (struct guard_put *)(void *)request;
    struct raft_guard *guard = put->guard;
    if (put->install &&
        guard_result(guard, "the snapshot of another replica cannot be stored", status) != 0 &&
        measure_on(guard, MEASURE_FATAL)) {
        return;
    }
    struct raft_io_snapshot_put *original = put->original;
    if (put->replaced) {
        raft_configuration_close(&put->snapshot.configuration);
    }
    raft_free(put);
    original->cb(original, status);
    raft_guard_settle(guard);
}

static int guard_snapshot_put(struct raft_io *outer, unsigned trailing,
                              struct raft_io_snapshot_put *request,
                              const struct raft_snapshot *snapshot,
                              raft_io_snapshot_put_cb callback)
{
    struct raft_guard *guard = guard_of(outer);
    struct guard_put *put = raft_memory(sizeof *put);
    put->original = request;
    put->guard = guard;
    put->install = trailing == 0;
    if (measure_on(guard, MEASURE_CONFIG) && !put->install && guard->committed_index != 0 &&
        guard->committed_index <= snapshot->index &&
        guard->raft->configuration_uncommitted_index != 0) {
        put->snapshot = *snapshot;
        raft_configuration_init(&put->snapshot.configuration);
        raft_members_copy(&guard->committed, &put->snapshot.configuration);
        put->snapshot.configuration_index = guard->committed_index;
        put->replaced = true;
        snapshot = &put->snapshot;
    }
    request->cb = callback;
    const int result =
        guard->inner->snapshot_put(guard->inner, trailing, &put->request, snapshot, put_on_done);
    if (result != 0) {
        if (put->replaced) {
            raft_configuration_close(&put->snapshot.configuration);
        }
        const bool install = put->install;
        raft_free(put);
        if (install) {
            return guard_result(guard, "the snapshot of another replica cannot be stored", result);
        }
    }
    return result;
}

/* -- the rest passes through ------------------------------------------------------------------- */

static int guard_init(struct raft_io *outer, raft_id id, const char *address)
{
    struct raft_io *inner = guard_of(outer)->inner;
    return inner->init(inner, id, address);
}

static void guard_close(struct raft_io *outer, raft_io_close_cb callback)
{
    (void)outer;
    (void)callback;
    CHECK(false); /* raft_close may free twice: replica_close does without it */
}

static int guard_load(struct raft_io *outer, raft_term *out_term, raft_id *out_vote,
                      struct raft_snapshot **out_snapshot, raft_index *out_start,
                      struct raft_entry *out_entries[], size_t *out_count)
{
    struct raft_guard *guard = guard_of(outer);
    const int result = guard->inner->load(guard->inner, out_term, out_vote, out_snapshot, out_start,
                                          out_entries, out_count);
    if (result != 0 || !measure_on(guard, MEASURE_CONFIG)) {
        return result;
    }
    return config_load(guard, *out_snapshot, *out_start, *out_entries, *out_count);
}

static int guard_start(struct raft_io *outer, unsigned msecs, raft_io_tick_cb tick,
                       raft_io_recv_cb recv)
{
    struct raft_guard *guard = guard_of(outer);
    guard->tick = tick;
    guard->recv = recv;
    guard->inner->data = guard;
    if (guard->loaded_uncommitted != 0) {
        guard->raft->configuration_uncommitted_index = guard->loaded_uncommitted;
        guard->raft->configuration_index = guard->committed_index;
    }
    solo_take_term(guard); /* libraft elects a lone voter right after this */
    return guard->inner->start(guard->inner, msecs, guard_tick, guard_recv);
}

static int guard_bootstrap(struct raft_io *outer, const struct raft_configuration *members)
{
    struct raft_io *inner = guard_of(outer)->inner;
    return inner->bootstrap(inner, members);
}

static int guard_recover(struct raft_io *outer, const struct raft_configuration *members)
{
    struct raft_io *inner = guard_of(outer)->inner;
    return inner->recover(inner, members);
}

static int guard_set_term(struct raft_io *outer, raft_term term)
{
    struct raft_guard *guard = guard_of(outer);
    return guard_result(guard, "the term cannot be stored",
                        guard->inner->set_term(guard->inner, term));
}

static int guard_set_vote(struct raft_io *outer, raft_id id)
{
    struct raft_guard *guard = guard_of(outer);
    return guard_result(guard, "the vote cannot be stored",
                        guard->inner->set_vote(guard->inner, id));
}

static int guard_truncate(struct raft_io *outer, raft_index index)
{
    struct raft_guard *guard = guard_of(outer);
    return guard_result(guard, "the log cannot be truncated",
                        guard->inner->truncate(guard->inner, index));
}

static int guard_snapshot_get(struct raft_io *outer, struct raft_io_snapshot_get *request,
                              raft_io_snapshot_get_cb callback)
{
    struct raft_io *inner = guard_of(outer)->inner;
    return inner->snapshot_get(inner, request, callback);
}

static raft_time guard_time(struct raft_io *outer)
{
    struct raft_io *inner = guard_of(outer)->inner;
    return inner->time(inner);
}

static int guard_random(struct raft_io *outer, int low, int high)
{
    struct raft_io *inner = guard_of(outer)->inner;
    return inner->random(inner, low, high);
}

static int guard_async_work(struct raft_io *outer, struct raft_io_async_work *request,
                            raft_io_async_work_cb callback)
{
    struct raft_io *inner = guard_of(outer)->inner;
    return inner->async_work(inner, request, callback);
}

void raft_guard_init(struct raft_guard *guard, struct raft_io *inner, struct raft *raft,
                     uint32_t measures, struct replica_counters *counters,
                     void (*fatal)(void *context, const char *what, int result), void *context)
{
    *guard = (struct raft_guard){
        .outer = {.version = 2,
                  .impl = guard,
                  .init = guard_init,
                  .close = guard_close,
                  .load = guard_load,
                  .start = guard_start,
                  .bootstrap = guard_bootstrap,
                  .recover = guard_recover,
                  .set_term = guard_set_term,
                  .set_vote = guard_set_vote,
                  .send = guard_send,
                  .append = guard_append,
                  .truncate = guard_truncate,
                  .snapshot_put = guard_snapshot_put,
                  .snapshot_get = guard_snapshot_get,
                  .time = guard_time,
                  .random = guard_random,
                  .async_work = guard_async_work},
        .inner = inner,
        .raft = raft,
        .measures = measures,
        .counters = counters,
        .fatal = fatal,
        .fatal_context = context,
    };
    guard->results_tail = &guard->results_head;
    guard->appends_tail = &guard->appends_head;
    raft_configuration_init(&guard->committed);
}
