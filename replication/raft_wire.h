/* libraft's messages as bytes, and back.
 *
 * The words are struct raft_wire of schemas/codec.h. What comes from outside is checked field by
 * field, because libraft trusts what it is given: a message that passes raft_wire_read may be out
 * of date or useless, and cannot lead libraft out of bounds.
 */
#ifndef KELP_REPLICATION_RAFT_WIRE_H
#define KELP_REPLICATION_RAFT_WIRE_H

#include "schemas/codec.h"

#include <raft.h>

/* Terms and indexes beyond are nobody's: counting up from there must not wrap. */
#define RAFT_WIRE_NUMBER_MAX (UINT64_C(1) << 62)

/* Messages of our own, beside libraft's: is the sender still the leader of the receiver? See
 * raft_reads.h. A release that does not know them answers STATUS_MALFORMED. */
#define RAFT_WIRE_PING 7
#define RAFT_WIRE_PONG 8
/* What the sender of a message can do beyond libraft's own: bits of its field `features`. */
#define RAFT_WIRE_ANSWERS_PINGS (UINT64_C(1) << 0)
/* And one of the message: an AppendEntries without entries is for what it says to be agreed on, and nobody waits
 * for an answer (raft_tell.h). A release that does not know the bit answers. */
#define RAFT_WIRE_TELLS (UINT64_C(1) << 1)

/* What a message says beside what is libraft's. */
struct raft_wire_extra {
    uint64_t features; /* of the sender */
    uint64_t term;     /* of a ping or pong */
    uint64_t round;    /* likewise */
};

/* Build the bytes of a message.
 *
 *   sender     id and address of this replica: they travel in server_id and server_address, where
 *              libraft has put the destination
 *   features   of this replica and of this message: RAFT_WIRE_*
 *   first, count  of an AppendEntries, send only these entries, as a message of their own; 0 and
 *              n_entries for all; ignored for other types
 *   out        lent until codec_reset
 *   answers    0; STATUS_TOO_LARGE
 */
int raft_wire_build(struct codec *codec, const struct raft_server *sender, uint64_t features,
                    const struct raft_message *message, unsigned first, unsigned count,
                    struct bytes *out);

/* The same for a ping or a pong, whose sender answers pings. */
int raft_wire_build_ping(struct codec *codec, const struct raft_server *sender, uint16_t type,
                         uint64_t term, uint64_t round, struct bytes *out);

/* Read and check a message.
 *
 *   out        of a ping or a pong: only type and server. Else entries, configuration and snapshot data are raft_malloc'd: taken by libraft's recv,
 *              or given to raft_wire_free. server_address is lent until codec_reset.
 *   answers    0; STATUS_MALFORMED, STATUS_TOO_LARGE: out is untouched
 */
int raft_wire_read(struct codec *codec, struct bytes bytes, struct raft_message *out,
                   struct raft_wire_extra *out_extra);

/* Free what raft_wire_read made, when it does not go to libraft. */
void raft_wire_free(struct raft_message *message);

#endif
