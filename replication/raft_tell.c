#include "replication/raft_tell.h"

#include "replication/raft_guard.h"
#include "replication/raft_io.h"
#include "replication/raft_wire.h"
#include "schemas/check.h"

void raft_tell_init(struct raft_tells *tells, struct replica_io *io)
{
    *tells = (struct raft_tells){.io = io};
}

/* -- at the leader ----------------------------------------------------------------------------- */

/* The place of this follower, in the present term. */
static struct raft_told *told_of(struct raft_tells *tells, uint64_t id)
{
    const raft_term term = tells->io->raft->current_term;
    struct raft_told *stale = NULL;
    for (uint32_t i = 0; i < LIMIT_REPLICAS; i++) {
        struct raft_told *told = &tells->list[i];
        if (told->id == id && told->term == term) {
            return told;
        }
        if (told->id == 0 || told->term != term ||
            raft_io_progress(tells->io->raft, told->id) == NULL) {
            stale = told;
        }
    }
    CHECK(stale != NULL); /* as many as members */
    *stale = (struct raft_told){.id = id, .term = term};
    return stale;
}

/* What the follower could take as agreed on now. */
static raft_index told_most(const struct raft_tells *tells, const struct raft_progress *progress)
{
    const raft_index commit = tells->io->raft->commit_index;
    return commit < progress->match_index ? commit : progress->match_index;
}

void raft_tell_sent(struct raft_tells *tells, const struct raft_message *message)
{
    const struct raft_progress *progress = raft_io_progress(tells->io->raft, message->server_id);
    if (progress != NULL) {
        told_of(tells, message->server_id)->index = told_most(tells, progress);
    }
}

static void tell_send(struct raft_tells *tells, uint64_t id, raft_index index)
{
    struct raft *raft = tells->io->raft;
    const raft_term term = raft_guard_entry_term(raft, index);
    const struct raft_message message = {
        .type = RAFT_IO_APPEND_ENTRIES,
        .server_id = id,
        .append_entries = {.term = raft->current_term,
                           .prev_log_index = index,
                           .prev_log_term = term,
                           .leader_commit = index},
    };
    if (term != 0) { /* else memory let go of it: the next heartbeat tells */
        (void)raft_send_part(tells->io, &message, RAFT_WIRE_TELLS, 0, 0);
    }
}

void raft_tell_run(struct raft_tells *tells)
{
    struct raft *raft = tells->io->raft;
    if (raft->state != RAFT_LEADER || tells->io->ended) {
        return;
    }
    for (unsigned i = 0; i < raft->configuration.n; i++) {
        const uint64_t id = raft->configuration.servers[i].id;
        const struct raft_progress *progress = &raft->leader_state.progress[i];
        if (id == raft->id || progress->state != RAFT_IO_PIPELINE) {
            continue;
        }
        struct raft_told *told = told_of(tells, id);
        const raft_index most = told_most(tells, progress);
        if (most > told->index) {
            told->index = most;
            tell_send(tells, id, most);
        }
    }
}

/* -- at a follower ----------------------------------------------------------------------------- */

void raft_hear_init(struct raft_hears *hears, struct replica_io *io)
{
    *hears = (struct raft_hears){.io = io};
}

/* The leader of `term` says what is agreed on, and has an entry `last`. If we have that, of the same term, our log
 * is that leader's up to there.
 *
 *   answers    false: we have it not, and nothing was noted
 */
static bool hear_note(struct raft_hears *hears, raft_term term, raft_index last,
                      raft_term last_term, raft_index commit)
{
    const struct raft *raft = hears->io->raft;
    if (raft->state != RAFT_FOLLOWER || raft->current_term != term || last_term == 0 ||
        raft_guard_entry_term(raft, last) != last_term) {
        return false;
    }
    if (hears->term != term) {
        hears->term = term;
        hears->index = 0;
    }
    commit = commit < last ? commit : last;
    if (commit > hears->index) {
        hears->index = commit;
    }
    return true;
}

void raft_hear(struct raft_hears *hears, uint64_t from, struct raft_message *message, bool tells)
{
    struct replica_io *io = hears->io;
    const struct raft *raft = io->raft;
    struct raft_append_entries *append = &message->append_entries;
    const raft_term term = append->term;
    const raft_index commit = append->leader_commit;
    const unsigned count = append->n_entries;
    const raft_index last = append->prev_log_index + count;
    const raft_term last_term = count > 0 ? append->entries[count - 1].term : append->prev_log_term;
    if (count == 0 && tells && raft->state == RAFT_FOLLOWER &&
        raft->follower_state.current_leader.id == from &&
        hear_note(hears, term, last, last_term, commit)) {
        return;
    }
    if (count > 0) {
        append->leader_commit = 0; /* libraft would apply before it answers */
    }
    io->recv(&io->io, message);
    if (count > 0) {
        (void)hear_note(hears, term, last, last_term, commit);
    }
}

/* What can be applied now; 0: nothing that was not. */
static raft_index hear_due(const struct raft_hears *hears)
{
    const struct raft *raft = hears->io->raft;
    if (raft->state != RAFT_FOLLOWER || raft->current_term != hears->term || hears->io->ended ||
        raft->follower_state.current_leader.id == 0) {
        return 0;
    }
    const raft_index index = hears->index < raft->last_stored ? hears->index : raft->last_stored;
    return index > raft->commit_index && raft_guard_entry_term(raft, index) != 0 ? index : 0;
}

bool raft_hear_waits(const struct raft_hears *hears)
{
    return hear_due(hears) != 0;
}

void raft_hear_run(struct raft_hears *hears)
{
    struct replica_io *io = hears->io;
    struct raft *raft = io->raft;
    const raft_index index = hear_due(hears);
    if (index == 0) {
        return;
    }
    const raft_time heard = raft->election_timer_start;
    struct raft_message message = {
        .type = RAFT_IO_APPEND_ENTRIES,
        .server_id = raft->follower_state.current_leader.id,
        .server_address = raft->follower_state.current_leader.address,
        .append_entries = {.term = raft->current_term,
                           .prev_log_index = index,
                           .prev_log_term = raft_guard_entry_term(raft, index),
                           .leader_commit = index},
    };
    io->quiet = true;
    io->recv(&io->io, &message);
    io->quiet = false;
    if (raft->state == RAFT_FOLLOWER) {
        raft->election_timer_start = heard; /* it was heard when it was */
    }
}
