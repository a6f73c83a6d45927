#include "replication/raft_fsm.h"

#include "replication/raft_members.h"
#include "replication/raft_status.h"
#include "schemas/check.h"

#include <limits.h>

static const char needs_state[] =
    "the log goes on behind a state that is not here: rebuild this replica with a copy of the "
    "store "
    "(not of the log) of a replica that is up to date, taken while both are stopped";

static struct replica_fsm *fsm_of(struct raft_fsm *fsm)
{
    return fsm->data;
}

static void durable_raise(struct replica_fsm *fsm, uint64_t index)
{
    if (index > fsm->durable_index) {
        fsm->durable_index = index;
    }
}

/* -- apply and the time of snapshots ----------------------------------------------------------- */

static bool cycle_overdue(const struct replica_fsm *fsm)
{
    return fsm->cycle_bytes >= fsm->snapshot_bytes * RAFT_FSM_AHEAD;
}

/* Set libraft's threshold, which it looks at after each turn of applying. */
static void cycle_follow(struct replica_fsm *fsm)
{
    const bool may = fsm->now_ms >= fsm->retry_ms || cycle_overdue(fsm);
    const bool due = fsm->checkpoints && fsm->cycle_bytes >= fsm->snapshot_bytes && may;
    fsm->raft->snapshot.threshold = due ? 1 : UINT_MAX;
}

static const struct raft_entry *entry_at(const struct raft_log *log, uint64_t index)
{
    CHECK(index > log->offset);
    return &log->entries[(log->front + (size_t)(index - 1 - log->offset)) % log->size];
}

/* How many entries up to `index` make the trailing part. At least 1: 0 means something else to raft_io.c,
 * the snapshot of another replica. */
static unsigned trailing_entries(const struct replica_fsm *fsm, uint64_t index)
{
    const struct raft_log *log = &fsm->raft->log;
    const uint64_t enough = fsm->snapshot_bytes * fsm->trailing_percent / 100;
    uint64_t bytes = 0;
    unsigned count = 0;
    while (index > log->offset && bytes < enough && count < UINT_MAX) {
        bytes += entry_at(log, index)->buf.len + RAFT_FSM_ENTRY_BYTES;
        count++;
        index--;
    }
    return count == 0 ? 1 : count;
}

static int fsm_apply(struct raft_fsm *raft_fsm, const struct raft_buffer *command, void **result)
{
    struct replica_fsm *fsm = fsm_of(raft_fsm);
    const uint64_t index = fsm->raft->last_applied + 1;
    *result = NULL;
    if (fsm->ended) {
        return RAFT_SHUTDOWN;
    }
    fsm->cycle_bytes += command->len + RAFT_FSM_ENTRY_BYTES;
    cycle_follow(fsm);
    if (index <= fsm->applied_index) {
        return 0; /* replayed after a restart; the state has it */
    }

    const struct raft_entry *entry = entry_at(&fsm->raft->log, index);
    CHECK(entry->buf.base == command->base);
    const uint64_t term = entry->term;
    fsm->applied_index = index;
    fsm->applying = true;
    fsm->hooks.apply(fsm->hooks.context, index, term, bytes_of(command->base, command->len));
    fsm->applying = false;
    fsm->applied(fsm->door, index, term);
    return 0;
}

static void on_asked(struct raft_barrier *barrier, int status)
{
    (void)status;
    raft_free(barrier);
}

/* Nobody writes, perhaps because the log is at its limit, which only a snapshot can end. An entry of raft's
 * own makes every replica look. Tried again after a while, when it was in vain. */
static void snapshot_ask(struct raft *raft)
{
    struct raft_barrier *barrier = raft_memory(sizeof *barrier);
    if (raft_barrier(raft, barrier, on_asked) != 0) {
        raft_free(barrier);
    }
}

/* The same of a follower, which proposes nothing, and whose log may be at its own limit: then it takes no entry from
 * anybody, and applies none. Its newest one is taken for not agreed on, until the leader's next message says again
 * that it is, which is when libraft looks. The state is not told twice (fsm_apply). Where raft is concerned, what a
 * follower knows to be agreed on may always be old. */
static void snapshot_ask_follower(struct replica_fsm *fsm)
{
    struct raft *raft = fsm->raft;
    if (raft->last_applied != raft->commit_index || raft->last_applied <= raft->log.offset ||
        raft->last_applied <= raft->log.snapshot.last_index || raft->snapshot.put.data != NULL) {
        return;
    }
    const uint64_t counted =
        entry_at(&raft->log, raft->last_applied)->buf.len + RAFT_FSM_ENTRY_BYTES;
    fsm->cycle_bytes -= counted < fsm->cycle_bytes ? counted : fsm->cycle_bytes;
    raft->last_applied--;
    raft->commit_index--;
}

void raft_fsm_tick(struct replica_fsm *fsm, uint64_t now_ms, bool room)
{
    struct raft *raft = fsm->raft;
    fsm->now_ms = now_ms;
    if (fsm->quiet_index != raft->last_applied) {
        fsm->quiet_index = raft->last_applied;
        fsm->quiet_ms = now_ms;
    }
    cycle_follow(fsm);
    if (raft->snapshot.threshold != 1 || raft->snapshot.pending.term != 0 ||
        raft->last_applied == 0 || now_ms - fsm->quiet_ms < RAFT_FSM_RETRY_MS) {
        return;
    }
    if (raft->state == RAFT_LEADER && raft->transfer == NULL && room) {
        fsm->quiet_ms = now_ms;
        snapshot_ask(raft);
    } else if (raft->state == RAFT_FOLLOWER) {
        fsm->quiet_ms = now_ms;
        snapshot_ask_follower(fsm);
    }
}

bool raft_fsm_full(const struct replica_fsm *fsm)
{
    return fsm->raft->snapshot.pending.term != 0 && cycle_overdue(fsm);
}

bool raft_fsm_behind(void *context)
{
    const struct replica_fsm *fsm = context;
    if (raft_fsm_full(fsm)) {
        return true;
    }
    return fsm->hooks.behind != NULL && fsm->hooks.behind(fsm->hooks.context);
}

/* -- taking ------------------------------------------------------------------------------------ */

static int fsm_snapshot(struct raft_fsm *raft_fsm, struct raft_buffer *out_buffers[],
                        unsigned *out_count)
{
    struct replica_fsm *fsm = fsm_of(raft_fsm);
    *out_buffers = NULL;
    *out_count = 0;
    if (fsm->ended || !fsm->checkpoints) {
        return RAFT_BUSY;
    }
    const int status = fsm->hooks.checkpoint_start(fsm->hooks.context, fsm->raft->last_applied);
    if (status != 0) {
        /* STATUS_FULL: the state is not that far yet. It catches up between two turns, and under load not for
         * long: libraft asks again after the next one. */
        fsm->retry_ms = fsm->now_ms + (status == STATUS_FULL ? 0 : RAFT_FSM_RETRY_MS);
        return RAFT_BUSY;
    }
    fsm->taking_bytes = fsm->cycle_bytes;
    fsm->taking_index = fsm->applied_index;
    fsm->cycle_bytes = 0;
    fsm->raft->snapshot.threshold = UINT_MAX;
    fsm->raft->snapshot.trailing = trailing_entries(fsm, fsm->raft->last_applied);
    return 0;
}

/* In the pool. */
static int fsm_snapshot_async(struct raft_fsm *raft_fsm, struct raft_buffer *out_buffers[],
                              unsigned *out_count)
{
    struct replica_fsm *fsm = fsm_of(raft_fsm);
    struct manifest manifest = {0};
    const int status = fsm->hooks.checkpoint_make(fsm->hooks.context, &manifest);
    if (status != 0) {
        return raft_result_of(status);
    }
    CHECK(manifest.applied_index >= fsm->taking_index);
    fsm->making_index = manifest.applied_index;
    manifest.epoch = fsm->epoch;
    const size_t size = manifest_bytes(&manifest);
    if (size == 0) {
        return RAFT_TOOBIG;
    }

    struct raft_buffer *buffers = raft_memory(sizeof *buffers);
    buffers[0].len = size;
    buffers[0].base = raft_memory(size);
    manifest_encode(&manifest, buffers[0].base);
    *out_buffers = buffers;
    *out_count = 1;
    return 0;
}

static int fsm_finalize(struct raft_fsm *raft_fsm, struct raft_buffer *buffers[], unsigned *count)
{
    struct replica_fsm *fsm = fsm_of(raft_fsm);
    const struct raft *raft = fsm->raft;
    for (unsigned i = 0; i < *count; i++) {
        raft_free((*buffers)[i].base);
    }
    raft_free(*buffers);
    *buffers = NULL;
    *count = 0;
    /* libraft does not say how it ended, but it has moved its log before it calls here */
    const bool stored = raft->log.snapshot.last_index >= raft->snapshot.pending.index;
    if (stored) {
        durable_raise(fsm, fsm->making_index);
    } else {
        fsm->cycle_bytes += fsm->taking_bytes;
        fsm->retry_ms = fsm->now_ms + RAFT_FSM_RETRY_MS;
    }
    fsm->taking_bytes = 0;
    fsm->hooks.checkpoint_end(fsm->hooks.context, stored ? 0 : -EIO);
    return 0;
}

/* -- restoring --------------------------------------------------------------------------------- */

bool raft_fsm_needs(void *context, const struct manifest *manifest)
{
    const struct replica_fsm *fsm = context;
    return manifest->epoch != fsm->epoch || fsm->durable_index < manifest->applied_index;
}

int raft_fsm_fetch(void *context, uint64_t from, const struct manifest *manifest)
{
    struct replica_fsm *fsm = context;
    int status = STATUS_UNSUPPORTED;
    if (fsm->hooks.checkpoint_fetch != NULL) {
        status = fsm->hooks.checkpoint_fetch(fsm->hooks.context, from, manifest);
    }
    if (status != 0) {
        fsm->fatal(fsm->door, needs_state, status);
    }
    return status;
}

/* The buffer is ours when 0 is answered. */
static int fsm_restore(struct raft_fsm *raft_fsm, struct raft_buffer *buffer)
{
    struct replica_fsm *fsm = fsm_of(raft_fsm);
    struct manifest manifest;
    int status = manifest_decode(bytes_of(buffer->base, buffer->len), &manifest);
    if (status != 0) {
        return raft_result_of(status);
    }
    if (manifest.epoch != fsm->epoch || fsm->applied_index < manifest.applied_index) {
        uint64_t applied_index = 0;
        status = STATUS_UNSUPPORTED;
        if (fsm->hooks.checkpoint_restore != NULL) {
            status = fsm->hooks.checkpoint_restore(fsm->hooks.context, &manifest, &applied_index);
        }
        if (status != 0) {
            fsm->fatal(fsm->door, needs_state, status);
            manifest_free(&manifest);
            return raft_result_of(status);
        }
        CHECK(applied_index >= manifest.applied_index);
        fsm->epoch = manifest.epoch;
        fsm->applied_index = applied_index;
    }
    durable_raise(fsm, manifest.applied_index); /* before it was let in, or as the state begins */
    fsm->cycle_bytes = 0;
    manifest_free(&manifest);
    raft_free(buffer->base);
    return 0;
}

void raft_fsm_init(struct replica_fsm *fsm, struct raft *raft, const struct replica_config *config,
                   const struct replica_hooks *hooks,
                   void (*applied)(void *context, uint64_t index, uint64_t term),
                   void (*fatal)(void *context, const char *what, int status), void *context)
{
    *fsm = (struct replica_fsm){
        .fsm = {.version = 3,
                .data = fsm,
                .apply = fsm_apply,
                .snapshot = fsm_snapshot,
                .restore = fsm_restore,
                .snapshot_finalize = fsm_finalize,
                .snapshot_async = fsm_snapshot_async},
        .raft = raft,
        .hooks = *hooks,
        .checkpoints = hooks->checkpoint_start != NULL && hooks->checkpoint_make != NULL &&
                       hooks->checkpoint_end != NULL,
        .epoch = config->epoch,
        .applied_index = config->applied_index,
        .durable_index = config->applied_index,
        .applied = applied,
        .fatal = fatal,
        .door = context,
        .snapshot_bytes =
            config->snapshot_bytes == 0 ? LIMIT_RAFT_SNAPSHOT_BYTES : config->snapshot_bytes,
        .trailing_percent =
            config->snapshot_trailing_percent == 0 ? 200 : config->snapshot_trailing_percent,
        .now_ms = config->now_ms,
    };
    raft->snapshot.threshold = UINT_MAX;
}
