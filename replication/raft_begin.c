/* A group of one that begins behind a state it did not agree on itself; and who was in the group before. */
#include "replication/raft_io.h"
#include "replication/raft_members.h"
#include "replication/raft_snapshot.h"
#include "replication/raft_status.h"
#include "replication/replica.h"
#include "schemas/check.h"

#include <stdio.h>

int replica_begin(struct log *log, const struct replica_beginning *beginning)
{
    CHECK(beginning->id != 0);
    CHECK(beginning->index > 0);
    CHECK(beginning->term > 0);
    CHECK(log_index_next(log) == 1);
    const struct manifest manifest = {.epoch = beginning->epoch, .applied_index = beginning->index};
    struct raft_buffer buffer = {.len = manifest_bytes(&manifest)};
    CHECK(buffer.len > 0);
    buffer.base = raft_memory(buffer.len);
    manifest_encode(&manifest, buffer.base);
    struct raft_snapshot snapshot = {.index = beginning->index,
                                     .term = beginning->term,
                                     .configuration_index = beginning->index,
                                     .bufs = &buffer,
                                     .n_bufs = 1};
    raft_configuration_init(&snapshot.configuration);
    const int result = raft_configuration_add(&snapshot.configuration, beginning->id,
                                              beginning->address, RAFT_VOTER);
    int status = raft_status_of(result);
    if (status == 0) {
        status = raft_snapshot_store(log, &snapshot, beginning->index + 1);
    }
    if (status == 0) {
        status = raft_io_meta_put(log, beginning->term, 0);
    }
    raft_configuration_close(&snapshot.configuration);
    raft_free(buffer.base);
    return status;
}

static void stored_take(struct replica_stored *out, const struct raft_configuration *members)
{
    out->count = 0;
    for (unsigned i = 0; i < members->n && i < LIMIT_REPLICAS; i++) {
        const struct raft_server *server = &members->servers[i];
        (void)snprintf(out->addresses[i], sizeof out->addresses[i], "%s", server->address);
        out->members[i] = (struct replica_member){
            .id = server->id,
            .address = out->addresses[i],
            .role = server->role == RAFT_VOTER     ? REPLICA_VOTER
                    : server->role == RAFT_STANDBY ? REPLICA_STANDBY
                                                   : REPLICA_SPARE,
        };
        out->count++;
    }
}

/* The newest one among the entries from `index` on. */
static int stored_walk(struct log *log, uint64_t index, struct replica_stored *out)
{
    struct log_cursor cursor;
    struct log_frame frame;
    log_cursor_open(&cursor, log, index);
    int status = log_cursor_next(&cursor, &frame);
    while (status == LOG_CURSOR_FRAME) {
        struct raft_configuration members;
        if (frame.type == LOG_TYPE_CHANGE) {
            status = raft_members_decode(frame.payload, &members) == 0 ? 0 : STATUS_CORRUPT;
            if (status == 0) {
                stored_take(out, &members);
            }
            raft_configuration_close(&members);
        }
        if (status == 0) {
            status = log_cursor_next(&cursor, &frame);
        }
    }
    log_cursor_close(&cursor);
    return status == LOG_CURSOR_END ? 0 : status > 0 ? STATUS_CORRUPT : status;
}

int replica_members_stored(struct log *log, struct replica_stored *out)
{
    struct raft_snapshot *snapshot = NULL;
    uint64_t kept = 1;
    *out = (struct replica_stored){.count = 0};
    const int status = raft_snapshot_load(log, &snapshot, &kept);
    if (status != 0) {
        return status;
    }
    uint64_t index = log_index_first(log);
    if (snapshot != NULL) {
        stored_take(out, &snapshot->configuration);
        index = snapshot->index + 1;
        raft_configuration_close(&snapshot->configuration);
        raft_free(snapshot->bufs[0].base);
        raft_free(snapshot->bufs);
        raft_free(snapshot);
    }
    return index >= log_index_next(log) ? 0 : stored_walk(log, index, out);
}
