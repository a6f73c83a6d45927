#include "replication/raft_load.h"

#include "replication/raft_members.h"
#include "replication/raft_snapshot.h"
#include "replication/raft_status.h"
#include "schemas/status.h"

#include <string.h>

int raft_load_entry(const struct log_frame *frame, struct raft_entry *out)
{
    switch (frame->type) {
    case LOG_TYPE_COMMAND:
        out->type = RAFT_COMMAND;
        break;
    case LOG_TYPE_BARRIER:
        out->type = RAFT_BARRIER;
        break;
    case LOG_TYPE_CHANGE:
        out->type = RAFT_CHANGE;
        if (raft_members_decode(frame->payload, NULL) != 0) {
            return STATUS_CORRUPT;
        }
        break;
    default:
        return STATUS_CORRUPT;
    }
    out->term = frame->term;
    out->buf.len = frame->payload.size;
    out->buf.base = raft_memory(frame->payload.size);
    if (frame->payload.size > 0) {
        memcpy(out->buf.base, frame->payload.data, frame->payload.size);
    }
    return 0;
}

/* Read the frames from `start` on. What libraft needs to keep anyway is all the memory it takes:
 * the cursor reads in portions, and snapshots bound the number. */
static int entries_load(struct log *log, uint64_t start, struct raft_entry **out, size_t *out_count)
{
    const uint64_t end = log_index_next(log);
    *out = NULL;
    *out_count = 0;
    if (start >= end) {
        return 0;
    }
    const size_t count = (size_t)(end - start);
    struct raft_entry *entries = raft_memory(count * sizeof *entries);
    struct log_cursor cursor;
    int status = 0;
    log_cursor_open(&cursor, log, start);
    for (size_t i = 0; i < count; i++) {
        struct log_frame frame;
        const int answer = log_cursor_next(&cursor, &frame);
        if (answer != LOG_CURSOR_FRAME) {
            status = answer < 0 ? answer : STATUS_CORRUPT;
            break;
        }
        status = raft_load_entry(&frame, &entries[i]);
        if (status != 0) {
            break;
        }
    }
    log_cursor_close(&cursor);
    *out = entries;
    *out_count = count;
    return status;
}

/* Does the log go on where the snapshot stands? It does not when a crash came between storing a
 * snapshot of another replica and dropping the log that it replaces.
 *
 *   answers    1, 0; a failure
 */
static int log_continues(struct log *log, const struct raft_snapshot *snapshot)
{
    const uint64_t first = log_index_first(log);
    if (first == snapshot->index + 1) {
        return 1; /* begins right behind it */
    }
    if (first > snapshot->index) {
        return STATUS_CORRUPT; /* only a newer snapshot, which is gone, lets entries go */
    }
    if (log_index_next(log) <= snapshot->index) {
        return 0;
    }
    struct log_cursor cursor;
    struct log_frame frame;
    log_cursor_open(&cursor, log, snapshot->index);
    const int answer = log_cursor_next(&cursor, &frame);
    const bool same = answer == LOG_CURSOR_FRAME && frame.term == snapshot->term;
    log_cursor_close(&cursor);
    return answer < 0 ? answer : same;
}

static int load_after_snapshot(struct log *log, uint64_t kept, struct raft_loaded *out)
{
    const int continues = log_continues(log, out->snapshot);
    out->start = out->snapshot->index + 1;
    if (continues <= 0) {
        out->superseded = continues == 0;
        return continues;
    }
    if (kept < out->start) {
        out->start = kept > log_index_first(log) ? kept : log_index_first(log);
    }
    return entries_load(log, out->start, &out->entries, &out->count);
}

int raft_load(struct log *log, const struct raft_entry *founding, struct raft_loaded *out)
{
    uint64_t kept = 1;
    *out = (struct raft_loaded){.start = 1};
    int status = raft_snapshot_load(log, &out->snapshot, &kept);
    if (status != 0) {
        return status;
    }
    if (out->snapshot != NULL) {
        return load_after_snapshot(log, kept, out);
    }
    if (founding->type != 0) {
        /* Written a moment ago and not durable yet, which is no harm: it is the same everywhere. */
        out->entries = raft_memory(sizeof *out->entries);
        out->entries[0] = *founding;
        out->count = 1;
        return 0;
    }
    if (log_index_next(log) == 1) {
        return 0;
    }
    if (log_index_first(log) != 1) {
        return STATUS_CORRUPT;
    }
    status = entries_load(log, 1, &out->entries, &out->count);
    return status == 0 && out->entries[0].type != RAFT_CHANGE ? STATUS_CORRUPT : status;
}
