/* A raft_io around a raft_io that covers the defects of libraft 0.15.
 *
 * libraft calls the guard, the guard calls our storage and network (raft_io.h), and everything
 * that comes back passes it again. It uses the public header of libraft only; struct raft,
 * raft_log and raft_progress are open there, and the guard reads and in two places edits them. So
 * it is tied to 0.15: meson.build refuses another version, and raft_guard.c asserts the layout.
 *
 * The letters are those of the table of defects; each measure can be switched off, and the
 * simulation shows for each that data is lost or the group stands still without it.
 *
 *   a ACK       libraft acknowledges its last stored index, also what this leader never checked.
 *               An acknowledgement is capped at what this leader's messages covered in this term.
 *               Likewise a message commits up to the last stored index, also beyond its own last
 *               entry; with messages cut into parts (j) that is another history. Capped too.
 *   b TERM      entries of older terms are committed by counting (Raft, figure 8). A new leader
 *               appends an entry of its own term at once, and no acknowledgement reaches libraft
 *               before that entry is durable here.
 *   c COMMIT    only the leader's last stored index is tested for commit, so that under a steady
 *               load nothing ever is. The leader's own completion is delivered once a quorum has
 *               the entries too.
 *   d FATAL     after an I/O error libraft goes on with a log that has a hole. The process ends.
 *   e PREVOTE   a refused pre-vote repeats the candidate's term, so it never learns of a higher
 *               one. It is told.
 *   f CONFIG    rolling back an uncommitted configuration reads the old one from the log, where it
 *               may be compacted; after a restart libraft takes it for committed; snapshots hold
 *               uncommitted ones. The last committed one is kept here.
 *   g WALK      a follower rejects what lies below its own snapshot for ever; a conflict is found
 *               one entry per heartbeat. What is below the snapshot counts as equal; a rejection
 *               hints at the commit index.
 *   h ADDRESS   a write that completes when its leader is gone is answered to nobody, with a NULL
 *               address; an installed snapshot is answered even by a candidate, to what its state
 *               happens to hold in the place of a leader. Dropped.
 *   i SOLO      a lone voter elects itself again in its old term after a restart, and writes a
 *               second history. It takes a new term first.
 *   j SPLIT     (in raft_io.c) an AppendEntries carries the whole tail. Cut into several messages.
 *   v PROBE     (in raft_io.c) to a follower of which nothing is known yet libraft sends all that it might
 *               lack, at every heartbeat; and after a message that could not be sent that is everything,
 *               also for one that has it all. It is sent one entry, and asked again from where it was asked.
 *   o TRANSFER  during a transfer a second vote is granted in one term. Refused.
 *   s CHANGE    (in raft_door.c) a new leader may change the group before an entry of its own term is
 *               committed: of two leaders that do so with the same group before them, each gets a
 *               quorum that does not meet the other's. It waits.
 *
 * p, q and r are not about libraft but about reads (raft_reads.h): that a quorum is waited for, that
 * only followers of this leader in this term answer, and that no index is noted before an entry of this
 * term is committed. t is no measure but a release: without it a replica knows no pings. u is about followers
 * that lag (raft_lag.h).
 *
 * k (commands of odd length) is raft_door.c's padding; l, m and n are about storage and sockets of
 * libraft that are not used.
 */
#ifndef KELP_REPLICATION_RAFT_GUARD_H
#define KELP_REPLICATION_RAFT_GUARD_H

#include "replication/replica.h"

#include <raft.h>

struct guard_append;
struct guard_result;

struct raft_guard {
    struct raft_io outer; /* what libraft sees */
    struct raft_io *inner;
    struct raft *raft;
    uint32_t measures; /* enum replica_measure that are on */
    struct replica_counters *counters;
    /* The end of the replica; see replica_hooks.fatal. */
    void (*fatal)(void *context, const char *what, int result);
    void *fatal_context;

    raft_io_tick_cb tick;
    raft_io_recv_cb recv;

    /* leader */
    raft_term led_term;                /* the term of the leadership that was noticed last */
    raft_index barrier_index;          /* its own-term entry; 0: not appended yet */
    struct guard_result *results_head; /* acknowledgements held back for it (b) */
    struct guard_result **results_tail;
    struct guard_append *appends_head; /* own writes, in order; completions may be held (c) */
    struct guard_append **appends_tail;
    bool releasing;

    /* follower */
    raft_term covered_term;   /* term of the leader that covered_index is about */
    raft_index covered_index; /* our log equals that leader's up to here (a) */
    bool in_recv;             /* a message is inside libraft */
    bool in_append;           /* an AppendEntries is inside libraft: */
    raft_index append_end;    /* its last index */
    raft_index append_prev;   /* and the one before its first */

    /* the last configuration known to be committed (f) */
    struct raft_configuration committed;
    raft_index committed_index;    /* 0: none */
    raft_index loaded_uncommitted; /* index of one in the loaded log that may be uncommitted */
};

/* Wrap `inner`. libraft is then given &guard->outer.
 *
 *   inner, raft, counters  borrowed for the life of the guard
 *   fatal      called with a sentence and libraft's result; if it returns, so does whoever called
 */
void raft_guard_init(struct raft_guard *guard, struct raft_io *inner, struct raft *raft,
                     uint32_t measures, struct replica_counters *counters,
                     void (*fatal)(void *context, const char *what, int result), void *context);

/* Look at what libraft has become; after every call into libraft that did not come through the
 * guard (proposals, barriers, changes). */
void raft_guard_settle(struct raft_guard *guard);

/* The term of an entry that libraft has in memory, or of its snapshot; 0: it is not there. */
raft_term raft_guard_entry_term(const struct raft *raft, raft_index index);

/* This replica leads, and an entry of its term is committed (a lone voter has nobody whose entries it
 * might not know of). From here on its commit index covers all that former leaders committed. */
bool raft_guard_own_term(const struct raft_guard *guard);

#endif
