/* Followers hear at once of what was agreed on, and apply it when nothing more urgent is to be done.
 *
 * libraft tells its commit index with the next entries, or the next heartbeat: a follower of a group where one
 * client writes at a time applies each write 50 ms late, and so does whoever waits there for its own.
 *
 *   1. an AppendEntries leaves: what its receiver knows from it is noted (raft_tell_sent)
 *   2. at the end of a turn (raft_tell_run) each follower that has more than it knows to be agreed on gets an
 *      empty AppendEntries that says so, as libraft's heartbeats do; under load the entries of the turn said it.
 *      No answer is wanted: it would say what was said, and wake the leader once more for each entry
 *
 * Only what a follower acknowledged is told: it takes no commit beyond what it stored.
 *
 * There, libraft would apply what a message with entries says to be agreed on when those are stored, and only
 * then acknowledge them: all wait until a follower has applied what came before. So
 *
 *   3. what is said to be agreed on is noted (raft_hear), as far as our log is that leader's: it has the last entry
 *      that the message names, in its term
 *   4. at the end of a turn, after acknowledgements have left and entries are on their way to the disk, libraft is
 *      told (raft_hear_run), by a message as its leader could have sent it
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

/* What was said to be agreed on by the leader of `term`. */
struct raft_hears {
    struct replica_io *io;
    raft_term term;
    raft_index index;
};

void raft_tell_init(struct raft_tells *tells, struct replica_io *io);
/* This AppendEntries was given to the link. */
void raft_tell_sent(struct raft_tells *tells, const struct raft_message *message);
/* The turn is over: tell who does not know. Best effort: what a link does not take is told by the next heartbeat. */
void raft_tell_run(struct raft_tells *tells);

void raft_hear_init(struct raft_hears *hears, struct replica_io *io);
/* An AppendEntries came: libraft gets it, without what it says to be agreed on if it has entries.
 *
 *   message    taken
 *   tells      nobody waits for an answer: if it is of our leader libraft need not see it
 */
void raft_hear(struct raft_hears *hears, uint64_t from, struct raft_message *message, bool tells);
/* Something that was said to be agreed on can be applied. */
bool raft_hear_waits(const struct raft_hears *hears);
/* Have it applied. */
void raft_hear_run(struct raft_hears *hears);

#endif
