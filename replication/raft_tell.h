/* Followers hear at once of what was agreed on.
 *
 * libraft tells its commit index with the next entries, or the next heartbeat: a follower of a group where one
 * client writes at a time applies each write 50 ms late, and so does whoever waits there for its own.
 *
 *   1. an AppendEntries leaves: what its receiver knows from it is noted (raft_tell_sent)
 *   2. at the end of a turn (raft_tell_run) each follower that has more than it knows to be agreed on gets an
 *      empty AppendEntries that says so, as libraft's heartbeats do; under load the entries of the turn said it
 *
 * Only what a follower acknowledged is told: it takes no commit beyond what it stored.
 */
#ifndef KELP_REPLICATION_RAFT_TELL_H
#define KELP_REPLICATION_RAFT_TELL_H

#include "replication/replica.h"

#include <raft.h>

struct replica_io;

/* What one follower knows from the leader of `term`. */
struct raft_told {
    uint64_t id; /* 0: free */
    raft_term term;
    raft_index index;
};

struct raft_tells {
    struct replica_io *io;
    struct raft_told list[LIMIT_REPLICAS];
};

void raft_tell_init(struct raft_tells *tells, struct replica_io *io);
/* This AppendEntries was given to the link. */
void raft_tell_sent(struct raft_tells *tells, const struct raft_message *message);
/* The turn is over: tell who does not know. Best effort: what a link does not take is told by the next heartbeat. */
void raft_tell_run(struct raft_tells *tells);

#endif
