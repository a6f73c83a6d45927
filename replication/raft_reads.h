/* Points to read at, without an entry of the log: a quorum says that this replica still leads.
 *
 *   1. readers that wait together are one round: the leader notes its commit index and pings all
 *      other voters with (its term, the number of the round)
 *   2. a voter answers a ping only while it follows that very leader in that very term
 *   3. once a quorum of the configuration of that moment, this replica included, has answered this
 *      round or a later one, and the noted index is applied here, its readers are called back with it
 *
 * Rounds overlap: the next one begins while others are under way, up to LIMIT_READ_ROUNDS; readers
 * that find no room wait for it together. A ping or an answer that is lost is made up for by the next
 * round, or by a ping of the newest round at each heartbeat. Losing the leadership ends all.
 *
 * Why it is right. Let L lead in term T and a round begin at a moment s. What was acknowledged before s
 * must be at or below the index that is noted at s:
 *
 *   - by L itself: it was committed here before it was acknowledged, so the commit index covers it.
 *   - by leaders of terms below T: their committed entries are in L's log below its first entry of
 *     term T (leader completeness). A round begins only when an entry of term T is committed, so the
 *     index is above them. (A new leader's commit index alone is what it heard as a follower, and
 *     that may be old.)
 *   - by a leader of a higher term: then one was elected before s. Take the first such, of term U. Its
 *     log holds all that L committed. L changes the group one member at a time, and only once the change
 *     before is committed, and the first only when an entry of its term is (replica_add and the
 *     others wait for it): so the configuration that elected U is L's configuration of any later moment, or
 *     that of one change before, and each quorum of the one meets each quorum of the other. Whoever
 *     is in both voted in U before s, and its term is durable before its vote leaves: never again does it
 *     answer in T, not even after a restart. So no quorum answers this round, and L gets nowhere until
 *     it steps down.
 *
 * No clock is in the argument: one that stops, jumps or runs slowly only delays a read. Nor does it
 * matter how old an answer is: it names the round, and the round began after its readers asked.
 * While leadership is being handed over, reads go on until the other is elected.
 *
 * Releases. Replicas say in each message whether they answer pings (RAFT_WIRE_ANSWERS_PINGS); those that
 * do not would refuse one as malformed, and are not pinged. Without a quorum that answers, readers
 * get their point from a barrier, an entry of the log, as long as that is so: during a rolling upgrade,
 * and only then.
 */
#ifndef KELP_REPLICATION_RAFT_READS_H
#define KELP_REPLICATION_RAFT_READS_H

#include "replication/replica.h"

#include <raft.h>

struct replica_io;
struct raft_guard;
struct raft_reader;

struct reader_queue {
    struct raft_reader *head;
    struct raft_reader **tail;
};

struct raft_reads_round {
    uint64_t number;
    uint64_t index; /* the commit index when it began */
    struct reader_queue readers;
};

struct raft_reads_voter {
    uint64_t id;
    uint64_t features; /* of raft_wire.h, as its newest message says */
    uint64_t round;    /* the newest that it answered, in raft_reads.term */
};

struct raft_reads {
    struct raft *raft;
    struct replica_io *io;
    const struct raft_guard *guard;
    uint32_t measures; /* enum replica_measure that are on */
    struct replica_counters *counters;

    uint32_t count;              /* readers, wherever they are */
    struct reader_queue waiting; /* for a round, or a barrier */
    struct reader_queue done;    /* callback to be made */

    uint64_t term;  /* the leadership that the rounds are about; 0: none */
    uint64_t round; /* the newest; never the same number twice */
    struct raft_reads_round rounds[LIMIT_READ_ROUNDS]; /* under way, oldest first */
    uint32_t round_count;
    struct raft_reads_voter voters[LIMIT_REPLICAS];
    uint64_t now_ms;
    uint64_t pinged_ms;

    struct raft_barrier barrier; /* for groups with replicas of an older release */
    bool barrier_flying;
    struct reader_queue barrier_readers;
};

/* Prepare. All pointers are borrowed for good.
 *
 *   measures   as raft_guard_init
 */
void raft_reads_init(struct raft_reads *reads, struct raft *raft, struct replica_io *io,
                     const struct raft_guard *guard, uint32_t measures,
                     struct replica_counters *counters);

/* A reader asks; this replica leads. It goes on with raft_reads_settle.
 *
 *   callback   as replica_read
 *   answers    0; STATUS_FULL: LIMIT_READERS are here
 */
int raft_reads_ask(struct raft_reads *reads,
                   void (*callback)(void *context, int status, uint64_t index), void *context);

/* Any message of another replica came: what its sender can do. */
void raft_reads_heard(struct raft_reads *reads, uint64_t from, uint64_t features);
/* A ping came: answer it, or be silent. */
void raft_reads_on_ping(struct raft_reads *reads, uint64_t from, uint64_t term, uint64_t round);
/* An answer came. It counts with the next raft_reads_settle. */
void raft_reads_on_pong(struct raft_reads *reads, uint64_t from, uint64_t term, uint64_t round);
/* Time passes: repeat what may be lost. */
void raft_reads_tick(struct raft_reads *reads, uint64_t now_ms);

/* Begin and end what can begin and end. After each entry into libraft and each answer. */
void raft_reads_settle(struct raft_reads *reads);
/* Make the callbacks that wait, which may call anything.
 *
 *   answers    whether there were any
 */
bool raft_reads_call_back(struct raft_reads *reads);
/* All readers end with a status. */
void raft_reads_end(struct raft_reads *reads, int status);

#endif
