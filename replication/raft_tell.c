#include "replication/raft_tell.h"

#include "replication/raft_guard.h"
#include "replication/raft_io.h"
#include "schemas/check.h"

void raft_tell_init(struct raft_tells *tells, struct replica_io *io)
{
    *tells = (struct raft_tells){.io = io};
}

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
        (void)raft_io_send_part(tells->io, &message, 0, 0);
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
