/* libraft's state machine: hands commands on, and knows snapshots as manifests only.
 *
 *   apply            -> hooks.apply, unless the state has that index already
 *   snapshot         -> hooks.checkpoint_start, on the loop
 *   snapshot_async   -> hooks.checkpoint_make, in the pool: the result is a manifest
 *   finalize         -> hooks.checkpoint_end, on the loop
 *   restore          -> nothing, when the state is at least as new and of the same epoch;
 *                       else hooks.checkpoint_restore
 *
 * When a snapshot is due is decided here by bytes, not by libraft's count of entries: apply sets
 * libraft's threshold to 1 once enough has been applied since the last one, and out of reach
 * otherwise. The trailing part is as many entries as make a multiple of those bytes.
 *
 * libraft keeps in memory what was applied since the snapshot before, and the trailing part. While a
 * checkpoint is being made that grows; at RAFT_FSM_AHEAD times the bytes between two this replica takes
 * nothing in until it is made (raft_fsm_full), and one that could not be made is tried again at once.
 * So with S bytes between two and a trailing part of 200 % the log in memory is at most 2 S trailing,
 * 3 S applied before a checkpoint, 3 S during it, and what is proposed and not applied; usually 3 S.
 */
#ifndef KELP_REPLICATION_RAFT_FSM_H
#define KELP_REPLICATION_RAFT_FSM_H

#include "replication/replica.h"

#include <raft.h>

/* libraft keeps about this much beside the bytes of each entry. */
#define RAFT_FSM_ENTRY_BYTES 88u
/* Applied while a checkpoint is made, in times of the bytes between two: more than a disk that is only
 * slow lets come together. */
#define RAFT_FSM_AHEAD 3u
/* After a snapshot failed, the next attempt waits, unless too much has come together. */
#define RAFT_FSM_RETRY_MS 2000u

struct replica_fsm {
    struct raft_fsm fsm; /* what libraft sees */
    struct raft *raft;
    struct replica_hooks hooks;
    bool checkpoints; /* the hooks for them are there */
    uint64_t epoch;
    uint64_t applied_index; /* of the newest command that the state holds */
    uint64_t durable_index; /* the same after a crash, as far as we know */
    uint64_t making_index;  /* of the checkpoint that is being made: the pool's until its end */
    bool applying;          /* inside hooks.apply */
    bool ended;
    void (*applied)(void *context, uint64_t index, uint64_t term);
    void (*fatal)(void *context, const char *what, int status);
    void *door; /* their context */

    uint64_t snapshot_bytes;
    uint32_t trailing_percent;
    uint64_t cycle_bytes;  /* applied since the last snapshot was begun */
    uint64_t taking_bytes; /* cycle_bytes of the snapshot that is being taken */
    uint64_t taking_index; /* the newest command when it was begun: it must be in it */
    uint64_t now_ms;
    uint64_t retry_ms;    /* not before */
    uint64_t quiet_index; /* of libraft, the newest applied, and since when */
    uint64_t quiet_ms;
};

/* Prepare; libraft is then given &fsm->fsm.
 *
 *   raft       borrowed for the life of the replica; config, hooks: during the call
 *   applied    called after hooks.apply was, with the same
 *   fatal      see replica_hooks.fatal
 */
void raft_fsm_init(struct replica_fsm *fsm, struct raft *raft, const struct replica_config *config,
                   const struct replica_hooks *hooks,
                   void (*applied)(void *context, uint64_t index, uint64_t term),
                   void (*fatal)(void *context, const char *what, int status), void *context);

/* The log in memory must not grow before the checkpoint under way is made. */
bool raft_fsm_full(const struct replica_fsm *fsm);
/* Clock; ask again for a snapshot that is due, since libraft asks only after it has applied something: a leader by an
 * entry of raft's own, a follower by its newest one, which it hears of again with the leader's next message.
 *   room   whether the log takes an entry, which a leader needs for that */
void raft_fsm_tick(struct replica_fsm *fsm, uint64_t now_ms, bool room);
/* For raft_io_state: see replica_hooks.behind. Also when raft_fsm_full. */
bool raft_fsm_behind(void *context);
/* For raft_io_state: must something be done before this snapshot may take the place of our log? A state
 * that has it only until the next crash will not do: what would be replayed is gone by then. */
bool raft_fsm_needs(void *context, const struct manifest *manifest);
/* Begin with it; not 0: the replica was ended with a message. */
int raft_fsm_fetch(void *context, uint64_t from, const struct manifest *manifest);

#endif
