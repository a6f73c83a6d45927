#include "log/log_inner.h"

#include "schemas/status.h"

void log_cursor_open(struct log_cursor *cursor, struct log *log, uint64_t index)
{
    *cursor = (struct log_cursor){.log = log, .index_next = index};
    segment_reader_init(&cursor->reader, log->disk);
}

void log_cursor_seek(struct log_cursor *cursor, uint64_t index)
{
    if (index != cursor->index_next) {
        cursor->index_next = index;
        cursor->placed = false;
    }
}

void log_cursor_close(struct log_cursor *cursor)
{
    segment_reader_deinit(&cursor->reader);
    *cursor = (struct log_cursor){0};
}

bool log_damage(const struct log *log, char out_path[LIMIT_LOG_PATH_BYTES], uint64_t *out_offset)
{
    if (log->damage_sequence == 0) {
        return false;
    }
    log_segment_path(log->directory, log->damage_sequence, out_path);
    *out_offset = log->damage_offset;
    return true;
}

static int cursor_damaged(struct log_cursor *cursor, uint64_t sequence, uint64_t offset)
{
    cursor->placed = false;
    cursor->log->damage_sequence = sequence;
    cursor->log->damage_offset = offset;
    return STATUS_CORRUPT;
}

/* Open the segment of an extent, unless the reader is in it already. */
static int cursor_enter(struct log_cursor *cursor, const struct extent *extent)
{
    struct segment_reader *reader = &cursor->reader;
    /* After a change of the view a file with the same name may be another one. */
    if (reader->file == NULL || reader->header.sequence != extent->sequence ||
        cursor->generation != cursor->log->generation) {
        char path[LIMIT_LOG_PATH_BYTES];
        if (reader->file != NULL && reader->header.sequence + 1 == extent->sequence &&
            extent->sequence < cursor->log->durable_sequence) {
            /* rolling through what is sealed: the next one will be read as well */
            log_segment_path(cursor->log->directory, extent->sequence + 1, path);
            disk_ahead(cursor->log->disk, path);
        }
        log_segment_path(cursor->log->directory, extent->sequence, path);
        const int status = segment_reader_open(reader, path, cursor->log->owner, extent->sequence);
        if (status == -ENOENT || status == STATUS_FOREIGN || status == STATUS_CORRUPT) {
            return cursor_damaged(cursor, extent->sequence, 0);
        }
        if (status != 0) {
            return status;
        }
        cursor->generation = cursor->log->generation;
    }
    segment_reader_seek(reader, extent->offset);
    return 0;
}

int log_cursor_next(struct log_cursor *cursor, struct log_frame *out_frame)
{
    struct log *log = cursor->log;
    if (cursor->generation != log->generation) {
        cursor->placed = false;
    }
    if (cursor->index_next >= log->readable_next) {
        return LOG_CURSOR_END;
    }
    const struct extent *extent = extents_find(&log->extents, cursor->index_next);
    if (extent == NULL) {
        return LOG_CURSOR_GONE;
    }
    if (!cursor->placed || cursor->reader.header.sequence != extent->sequence ||
        cursor->reader.offset < extent->offset) {
        const int status = cursor_enter(cursor, extent);
        if (status != 0) {
            return status;
        }
        cursor->placed = true;
    }
    /* Nothing that is not durable is read, so what is buffered stays true. */
    const uint32_t limit =
        extent->sequence == log->durable_sequence ? log->durable_offset : UINT32_MAX;
    for (;;) {
        struct segment_frame frame;
        const uint32_t offset = cursor->reader.offset;
        const int answer = segment_reader_next(&cursor->reader, limit, &frame);
        if (answer < 0) {
            cursor->placed = false;
            return answer;
        }
        if (answer == SEGMENT_DEAD) {
            return cursor_damaged(cursor, extent->sequence, offset);
        }
        if (frame.type < LOG_TYPE_OWNER || frame.index < cursor->index_next) {
            continue;
        }
        if (frame.index != cursor->index_next) {
            return cursor_damaged(cursor, extent->sequence, offset);
        }
        *out_frame = (struct log_frame){
            .index = frame.index, .term = frame.term, .type = frame.type, .payload = frame.payload};
        cursor->index_next++;
        return LOG_CURSOR_FRAME;
    }
}
