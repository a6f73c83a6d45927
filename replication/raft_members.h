/* Configurations of the group as bytes, and what is asked of them.
 *
 * libraft encodes a configuration so: a byte 1, the number of members u64, and for each its id u64,
 * its address (terminated) and its role u8; zeros up to a multiple of 8. It decodes without looking
 * at the bounds, so whatever came from outside is looked through here first.
 */
#ifndef KELP_REPLICATION_RAFT_MEMBERS_H
#define KELP_REPLICATION_RAFT_MEMBERS_H

#include "schemas/bytes.h"

#include <raft.h>

/* Memory for what libraft will free, or the simulation. Out of memory ends the process. */
void *raft_memory(size_t size);

/* Decode, every byte checked.
 *
 *   out        initialised anew; raft_configuration_close it. NULL: only check
 *   answers    0; STATUS_MALFORMED: out is empty then
 */
int raft_members_decode(struct bytes bytes, struct raft_configuration *out);

/* Bytes of its encoding, without the zeros behind it. */
size_t raft_members_bytes(const struct raft_configuration *members);

/* Make `to` (initialised) the same as `from`. */
void raft_members_copy(const struct raft_configuration *from, struct raft_configuration *to);

unsigned raft_members_voters(const struct raft_configuration *members);
/* The member with an id; NULL. */
const struct raft_server *raft_members_find(const struct raft_configuration *members, raft_id id);

#endif
