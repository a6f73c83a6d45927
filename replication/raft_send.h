/* Messages leave: built, and given to the link.
 *
 * What a leader has for its followers is mostly the same for all of them: entries from one place on, or that nothing
 * is new. So an AppendEntries is kept as it was built until another message is, and the next follower gets those
 * bytes (replica_peers.again). Which entries it holds need not be compared: in its term a leader only adds to its log,
 * so term, place and count say it.
 */
#ifndef KELP_REPLICATION_RAFT_SEND_H
#define KELP_REPLICATION_RAFT_SEND_H

#include "schemas/bytes.h"

#include <raft.h>

struct replica_io;

/* The message that was given to the link last. */
struct raft_sent {
    raft_term term; /* 0: it was no AppendEntries, or the link did not take it */
    raft_index previous;
    raft_term previous_term;
    raft_index commit;
    unsigned count;
    uint64_t features;
    struct bytes bytes;
};

/* Send one message with `count` entries from `first` on, of an AppendEntries.
 *
 *   features   of this message beyond what this replica can do: RAFT_WIRE_TELLS; 0
 *   answers    as raft_wire_build, and replica_peers.send
 */
int raft_send_part(struct replica_io *io, const struct raft_message *message, uint64_t features,
                   unsigned first, unsigned count);
/* Send a ping or a pong (raft_wire.h), best effort. */
void raft_send_ping(struct replica_io *io, uint64_t to, uint16_t type, uint64_t term,
                    uint64_t round);

#endif
