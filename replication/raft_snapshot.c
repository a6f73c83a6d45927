#include "replication/raft_snapshot.h"

#include "replication/raft_members.h"
#include "replication/raft_status.h"
#include "replication/replica.h"
#include "schemas/status.h"

#include <stdlib.h>

#define SNAPSHOT_FILE         "snapshot"
#define SNAPSHOT_MAGIC        0x53504c4bu /* "KLPS" */
#define SNAPSHOT_VERSION      1u
#define SNAPSHOT_HEADER_BYTES 48u

int raft_snapshot_store(struct log *log, const struct raft_snapshot *snapshot, uint64_t index_kept)
{
    struct raft_buffer members;
    const int result = raft_configuration_encode(&snapshot->configuration, &members);
    if (result != 0) {
        return raft_status_of(result);
    }
    size_t data_bytes = 0;
    for (unsigned i = 0; i < snapshot->n_bufs; i++) {
        data_bytes += snapshot->bufs[i].len;
    }
    uint8_t header[SNAPSHOT_HEADER_BYTES];
    put_le32(header, SNAPSHOT_MAGIC);
    put_le32(header + 4, SNAPSHOT_VERSION);
    put_le64(header + 8, snapshot->index);
    put_le64(header + 16, snapshot->term);
    put_le64(header + 24, snapshot->configuration_index);
    put_le64(header + 32, index_kept);
    put_le32(header + 40, (uint32_t)members.len);
    put_le32(header + 44, (uint32_t)data_bytes);
    struct bytes *pieces = raft_memory((2 + snapshot->n_bufs) * sizeof *pieces);
    pieces[0] = bytes_of(header, sizeof header);
    pieces[1] = bytes_of(members.base, members.len);
    for (unsigned i = 0; i < snapshot->n_bufs; i++) {
        pieces[2 + i] = bytes_of(snapshot->bufs[i].base, snapshot->bufs[i].len);
    }
    const int status = log_file_put(log, SNAPSHOT_FILE, pieces, 2 + snapshot->n_bufs);
    raft_free(pieces);
    raft_free(members.base);
    return status;
}

int replica_snapshot_index(struct bytes file, uint64_t *out_index)
{
    if (file.size < SNAPSHOT_HEADER_BYTES || get_le32(file.data) != SNAPSHOT_MAGIC) {
        return STATUS_CORRUPT;
    }
    if (get_le32(file.data + 4) != SNAPSHOT_VERSION) {
        return STATUS_FOREIGN;
    }
    *out_index = get_le64(file.data + 8);
    return 0;
}

int raft_snapshot_load(struct log *log, struct raft_snapshot **out, uint64_t *out_kept)
{
    uint8_t *file = NULL;
    size_t size = 0;
    *out = NULL;
    *out_kept = 1;
    int status = log_file_get(log, SNAPSHOT_FILE, &file, &size);
    if (status == -ENOENT) {
        return 0;
    }
    if (status != 0) {
        return status;
    }
    status = STATUS_CORRUPT;
    if (size < SNAPSHOT_HEADER_BYTES || get_le32(file) != SNAPSHOT_MAGIC) {
        goto out;
    }
    if (get_le32(file + 4) != SNAPSHOT_VERSION) {
        status = STATUS_FOREIGN;
        goto out;
    }
    const size_t members_bytes = get_le32(file + 40);
    const size_t data_bytes = get_le32(file + 44);
    if (SNAPSHOT_HEADER_BYTES + members_bytes + data_bytes != size || data_bytes == 0) {
        goto out;
    }
    struct raft_configuration members;
    if (raft_members_decode(bytes_of(file + SNAPSHOT_HEADER_BYTES, members_bytes), &members) != 0) {
        goto out;
    }
    struct raft_snapshot *snapshot = raft_memory(sizeof *snapshot);
    snapshot->index = get_le64(file + 8);
    snapshot->term = get_le64(file + 16);
    snapshot->configuration = members;
    snapshot->configuration_index = get_le64(file + 24);
    snapshot->n_bufs = 1;
    snapshot->bufs = raft_memory(sizeof *snapshot->bufs);
    snapshot->bufs[0].len = data_bytes;
    snapshot->bufs[0].base = raft_memory(data_bytes);
    memcpy(snapshot->bufs[0].base, file + SNAPSHOT_HEADER_BYTES + members_bytes, data_bytes);
    *out = snapshot;
    *out_kept = get_le64(file + 32);
    status = 0;
out:
    free(file);
    return status;
}
