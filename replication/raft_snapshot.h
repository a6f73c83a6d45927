/* The newest snapshot of a replica, as the file `snapshot` beside its log.
 *
 * Format, little-endian: magic "KLPS", version u32 = 1, index, term, configuration index, first
 * index that libraft keeps: u64 each; configuration size u32, data size u32; the configuration
 * (raft_members.h), the data (manifest.h). log_file_put adds the checksum.
 */
#ifndef KELP_REPLICATION_RAFT_SNAPSHOT_H
#define KELP_REPLICATION_RAFT_SNAPSHOT_H

#include "log/log.h"

#include <raft.h>

/* Make it the newest, durable when this returns.
 *
 *   index_kept  first entry that libraft keeps in memory: a start reads from there
 *   answers    as log_file_put
 */
int raft_snapshot_store(struct log *log, const struct raft_snapshot *snapshot, uint64_t index_kept);

/* Read it back.
 *
 *   out        raft_malloc'd, for libraft, which frees it; NULL when there is none
 *   answers    0; STATUS_CORRUPT; STATUS_FOREIGN: a newer format; the failure of the disk
 */
int raft_snapshot_load(struct log *log, struct raft_snapshot **out, uint64_t *out_kept);

#endif
