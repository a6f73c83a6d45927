/* Followers that lag behind what libraft keeps in memory.
 *
 * libraft offers such a follower its snapshot, for which a state of gigabytes is copied; and when the
 * copy is there, the leader has taken newer snapshots and let go of what comes after it, so that the
 * follower needs another copy, for ever if more is written than copied. But the log on the disk holds
 * entries for longer than memory does, and can be told to.
 *
 *   1. libraft sends an InstallSnapshot (raft_lag_offer). The log reaches back to what the follower
 *      has: the offer is swallowed, and the entries are read from the log and sent, a window of them
 *      unanswered. libraft waits as for a snapshot. Nothing is read for a link that takes nothing
 *   2. the log does not reach back: the offer goes out, and from then on the log is kept from the
 *      snapshot's index on (log_hold). The follower copies a state, installs the snapshot, answers;
 *      then 1.
 *   3. the follower has the snapshot's index: libraft goes on by itself, from memory
 *
 * What is sent are AppendEntries as libraft sends them, so a follower cannot tell, of whatever release
 * it is; and the answers go to libraft as always, which commits and counts by them.
 *
 * A follower does not hold a log for ever. It is let go when the follower was not heard for
 * LIMIT_LAG_SILENCE_MS, or did not advance for LIMIT_LAG_HOLD_MS, and whenever the log is crowded
 * (log_crowded): then that follower may need another copy, and nobody else waits.
 *
 * u LAG, the measure: off, libraft is left to itself.
 */
#ifndef KELP_REPLICATION_RAFT_LAG_H
#define KELP_REPLICATION_RAFT_LAG_H

#include "log/log.h"
#include "replication/replica.h"

#include <raft.h>

struct replica_io;

/* One follower, as the leader of `term` knows it. */
struct raft_lag {
    uint64_t id; /* 0: free */
    raft_term term;
    bool feeding;     /* entries of the log go out; else a state is copied there */
    raft_index hold;  /* the log is kept from here on; 0: it is not */
    raft_index acked; /* it has our log up to here; while probing, we only think so */
    raft_index next;  /* entry to be sent next */
    bool probing;     /* one message at a time, until one is agreed to */
    uint32_t flight;  /* messages that are not answered, */
    raft_index ends[LIMIT_LAG_FLIGHT]; /* and the last entry of each */
    bool placed;                       /* the cursor stands at `next`, behind prev_term: */
    raft_term prev_term;               /* of next - 1 */
    struct log_cursor cursor;
    uint64_t sent_ms;  /* of the newest message or answer: when to send again */
    uint64_t heard_ms; /* of its newest answer to anything */
    uint64_t moved_ms; /* it advanced, or a state began to be copied */
};

struct raft_lags {
    struct replica_io *io;
    bool on; /* u */
    struct replica_counters *counters;
    struct raft_lag list[LIMIT_REPLICAS];
};

void raft_lag_init(struct raft_lags *lags, struct replica_io *io, uint32_t measures,
                   struct replica_counters *counters);
/* libraft wants to send a snapshot.
 *
 *   answers    true: do not, the follower is given entries instead
 */
bool raft_lag_offer(struct raft_lags *lags, const struct raft_message *message);
/* A result came; before libraft is told. */
void raft_lag_on_result(struct raft_lags *lags, uint64_t from,
                        const struct raft_append_entries_result *result);
/* Send what may be sent, let go of what is over; after each message and with each tick. */
void raft_lag_run(struct raft_lags *lags);

#endif
