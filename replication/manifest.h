/* What a snapshot of the group is: not the state, but the list of files that hold it.
 *
 * A state of gigabytes never passes through raft. The manifest says how new it is; a replica that
 * lags fetches one that is at least as new beside raft. Where a checkpoint is a directory of files,
 * they can be named here; a cloudcore names none, since it fetches rows (nodes/cloud/transfer.h).
 *
 * Format, little-endian, version 1:
 *
 *    0  magic "KLPM"     4  version u32      8  epoch u64     16  applied u64
 *   24  file count u32  28  zero u32        32  files, one after the other:
 *       size u64, crc32c u32, name length u32, name (not terminated), zeros up to a multiple of 8
 */
#ifndef KELP_REPLICATION_MANIFEST_H
#define KELP_REPLICATION_MANIFEST_H

#include "schemas/bytes.h"
#include "schemas/limits.h"
#include "schemas/status.h"

#define MANIFEST_VERSION 1u

struct manifest_file {
    char name[LIMIT_MANIFEST_NAME_BYTES + 1]; /* a plain file name, terminated */
    uint64_t size_bytes;
    uint32_t crc32c;
};

struct manifest {
    uint64_t epoch;         /* of the cluster: another one after a restore from a backup */
    uint64_t applied_index; /* of the newest command in the checkpoint; may be above the index of
                               the snapshot (the state went on), or below (entries that are no
                               commands came last) */
    uint32_t file_count;
    struct manifest_file *files; /* whose, says the contract that passes it; NULL with 0 */
};

/* Bytes that manifest_encode writes; 0: too many files, or a name that is no plain file name. */
size_t manifest_bytes(const struct manifest *manifest);

/* Write a manifest.
 *
 *   out        manifest_bytes(manifest) bytes, which must not be 0
 */
void manifest_encode(const struct manifest *manifest, uint8_t *out);

/* Read a manifest that came from disk or from a peer.
 *
 *   bytes      borrowed during the call, any alignment
 *   out        files is malloc'd, given to manifest_free; untouched unless 0
 *   answers    0; STATUS_FOREIGN: a newer version; STATUS_MALFORMED: anything else, a name with a
 *              path in it included
 */
int manifest_decode(struct bytes bytes, struct manifest *out);
void manifest_free(struct manifest *manifest);

#endif
