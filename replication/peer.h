/* The seam between a replica and the links to the other replicas.
 *
 * What crosses it are messages of the group: the body of a WIRE_RAFT frame, opaque to whoever
 * carries it. Whoever implements it (links over TLS in nodes/, a network with losses in tests/sim)
 * wraps the bytes as it likes and hands them to replica_receive of the replica they are for.
 *
 * Delivery is best effort: a message may be late or lost. From one replica to another none is
 * doubled and none overtakes another, which a stream connection keeps; when a new connection
 * replaces an old one, what the old one still holds is thrown away.
 */
#ifndef KELP_REPLICATION_PEER_H
#define KELP_REPLICATION_PEER_H

#include "schemas/bytes.h"

/* Chosen by the implementation; copied by replica_open. */
struct replica_peers {
    void *context; /* handed back with every call */

    /* Send one message, now or never.
     *
     * Called from inside replica_* functions; must not call any of them back.
     *
     *   to         id of a replica, never the sender's own; one that is not known, or not
     *              connected, is no error of the program
     *   message    borrowed during the call (copy or write it); 8-byte aligned; up to
     *              LIMIT_FRAME_BYTES
     *   answers    0: on its way, as far as anybody can tell; STATUS_FULL: the queue to that
     *              replica is full (bounded by the implementation); any other negative status: not
     *              connected. After an error libraft tries again with its next heartbeat.
     */
    int (*send)(void *context, uint64_t to, struct bytes message);

    /* Send what `send` was given last, and took, to one more replica: it need not be wrapped again. Nothing was sent in
     * between. Answers as `send`. May be NULL: `send` is called with the same bytes. */
    int (*again)(void *context, uint64_t to);

    /* Whether `send` would take a message of any size now: the link is open as far as anybody can tell, and its queue
     * not full. Asked before a message is read from the disk, which is in vain if it is not taken. Called from where
     * `send` is. May be NULL: always. */
    bool (*room)(void *context, uint64_t to);
};

#endif
