/* log_open: what a crash left becomes a log again.
 *
 *   1. lock, list   2. meta: owner, content   3. every segment forward, in order (log_scan_segment)
 *   4. nothing wrong: the torn tail is zeroed, the last segments and the directory are synced
 *
 * Until step 4 nothing is written, so a refusal leaves everything as it was found. The syncs of
 * step 4 matter after a kill: frames the dead process wrote are seen, but nobody synced them; or
 * somebody tried and failed, so the last batch and meta are written over themselves first.
 */
#include "log/log_inner.h"

#include "schemas/check.h"
#include "schemas/status.h"

#include <stdio.h>
#include <stdlib.h>

/* -- what is there --------------------------------------------------------------------------- */

static void listing_on_name(void *context, const char *name)
{
    struct log_listing *listing = context;
    uint64_t sequence;
    if (strcmp(name, "meta") == 0) {
        listing->meta = true;
    } else if (strcmp(name, "spare") == 0) {
        listing->spare = true;
    } else if (strcmp(name, "new.tmp") == 0) {
        listing->leftover = true;
    } else if (segment_name_parse(name, &sequence) && listing->status == 0) {
        if (listing->count == listing->capacity) {
            const uint32_t capacity = listing->capacity == 0 ? 64 : 2 * listing->capacity;
            uint64_t *sequences = realloc(listing->sequences, capacity * sizeof *sequences);
            if (sequences == NULL) {
                listing->status = -ENOMEM;
                return;
            }
            listing->sequences = sequences;
            listing->capacity = capacity;
        }
        listing->sequences[listing->count] = sequence;
        listing->count++;
    }
}

static int sequence_compare(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a;
    const uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

int log_listing_read(struct log_listing *listing, struct disk *disk, const char *directory)
{
    *listing = (struct log_listing){0};
    int status = disk_list(disk, directory, listing_on_name, listing);
    if (status == 0) {
        status = listing->status;
    }
    if (status != 0) {
        free(listing->sequences);
        listing->sequences = NULL;
        return status;
    }
    if (listing->count > 0) {
        qsort(listing->sequences, listing->count, sizeof *listing->sequences, sequence_compare);
    }
    return 0;
}

/* -- one pass -------------------------------------------------------------------------------- */

static int scan_refuse(struct log_scan *scan, int status, uint64_t sequence, uint64_t offset,
                       const char *message)
{
    scan->message = message;
    scan->damage_sequence = sequence;
    scan->damage_offset = offset;
    return status;
}

/* Counting up from the highest index there may be never wraps to 0, which means none. */
static bool index_fits(uint64_t index)
{
    return index > 0 && index < LOG_INDEX_MAX;
}

/* Take one alive frame into the view. */
static int scan_frame(struct log_scan *scan, const struct segment_frame *frame, uint64_t sequence,
                      struct inspect_segment *out)
{
    const uint64_t next = scan->extents.index_next;
    scan->marked = false;
    if (frame->type >= LOG_TYPE_OWNER) {
        int status = STATUS_CORRUPT;
        if (index_fits(frame->index)) {
            status = extents_add(&scan->extents, frame->index, sequence, frame->offset,
                                 frame->disk_bytes);
        }
        if (status == STATUS_CORRUPT) {
            return scan_refuse(scan, status, sequence, frame->offset,
                               "a frame does not have the index that must come next");
        }
        if (out->frames == 0) {
            out->index_first = frame->index;
        }
        out->index_last = frame->index;
        out->frames++;
        return status;
    }
    switch ((enum log_type)frame->type) {
    case LOG_TYPE_TRUNCATE:
        if (!index_fits(frame->index) || (next != 0 && frame->index > next)) {
            return scan_refuse(scan, STATUS_CORRUPT, sequence, frame->offset,
                               "a truncation names a frame that was never there");
        }
        extents_truncate(&scan->extents, frame->index);
        scan->truncations++;
        out->truncations++;
        return 0;
    case LOG_TYPE_RESET:
        if (!index_fits(frame->index)) {
            return scan_refuse(scan, STATUS_CORRUPT, sequence, frame->offset,
                               "a reset names no index");
        }
        extents_reset(&scan->extents, frame->index);
        scan->truncations++;
        out->truncations++;
        return 0;
    case LOG_TYPE_SEAL:
    case LOG_TYPE_MARK:
        if (!index_fits(frame->index) || (next != 0 && frame->index != next)) {
            return scan_refuse(scan, STATUS_CORRUPT, sequence, frame->offset,
                               "a mark does not have the index that must come next");
        }
        if (next == 0) { /* all before it was dropped: it alone says what comes next */
            extents_reset(&scan->extents, frame->index);
        }
        scan->sealed = frame->type == LOG_TYPE_SEAL;
        scan->marked = frame->type == LOG_TYPE_MARK;
        return 0;
    case LOG_TYPE_NONE:
    case LOG_TYPE_OWNER:
    case LOG_TYPE_BARRIER:
    case LOG_TYPE_CHANGE:
    case LOG_TYPE_DOWN:
    case LOG_TYPE_UP:
        break;
    }
    return scan_refuse(scan, STATUS_FOREIGN, sequence, frame->offset,
                       "a frame of a newer format: an older program must not write here");
}

/* The first dead frame was met: torn, or rotten? */
static int scan_end(struct log_scan *scan, struct segment_reader *reader)
{
    struct segment_tail tail;
    const int status = segment_reader_examine(reader, &tail);
    if (status != 0) {
        return status;
    }
    if (tail.rotten) {
        return scan_refuse(scan, STATUS_CORRUPT, reader->header.sequence, reader->offset,
                           "a durable frame is damaged: a later one says that it was durable");
    }
    scan->ended = true;
    scan->ended_sequence = reader->header.sequence;
    scan->ended_offset = reader->offset;
    scan->torn_bytes = tail.torn_end > reader->offset ? tail.torn_end - reader->offset : 0;
    scan->alive_end = tail.alive_end;
    return 0;
}

int log_scan_segment(struct log_scan *scan, struct segment_reader *reader,
                     struct inspect_segment *out)
{
    const uint64_t sequence = reader->header.sequence;
    *out = (struct inspect_segment){
        .sequence = sequence,
        .size_bytes = reader->header.size_bytes,
        .used_bytes = SEGMENT_HEADER_BYTES,
    };
    if (scan->ended) {
        struct segment_tail tail;
        const int status = segment_reader_examine(reader, &tail);
        if (status == 0 && tail.alive_end != 0) {
            return scan_refuse(scan, STATUS_CORRUPT, scan->ended_sequence, scan->ended_offset,
                               "a durable frame is damaged: there are frames in a later segment");
        }
        return status;
    }
    scan->sealed = false;
    uint32_t batch = 0;
    for (;;) {
        struct segment_frame frame;
        int status = segment_reader_next(reader, UINT32_MAX, &frame);
        if (status < 0) {
            return status;
        }
        if (status == SEGMENT_DEAD) {
            return scan_end(scan, reader);
        }
        if (frame.flags != 0) {
            return scan_refuse(scan, STATUS_FOREIGN, sequence, frame.offset,
                               "a frame of a newer format: an older program must not write here");
        }
        if (frame.batch != batch && frame.batch != frame.offset) {
            return scan_refuse(scan, STATUS_CORRUPT, sequence, frame.offset,
                               "a frame belongs to no batch");
        }
        if (frame.type != LOG_TYPE_SEAL &&
            frame.offset + frame.disk_bytes + SEGMENT_FRAME_HEADER_BYTES > out->size_bytes) {
            /* log_place never writes one: no more frames could follow, here or in the next segment */
            return scan_refuse(scan, STATUS_CORRUPT, sequence, frame.offset,
                               "a frame leaves no room for the end of its segment");
        }
        batch = frame.batch;
        status = scan_frame(scan, &frame, sequence, out);
        if (status != 0) {
            return status;
        }
        scan->bytes += frame.disk_bytes;
        scan->last_sequence = sequence;
        scan->last_batch = batch;
        scan->last_end = frame.offset + frame.disk_bytes;
        out->used_bytes = frame.offset + frame.disk_bytes;
        out->marked_bytes = batch;
        if (scan->sealed) {
            out->sealed = true;
            out->marked_bytes = out->used_bytes; /* the next segment proves it, if it has frames */
            return 0;
        }
    }
}

/* -- log_open -------------------------------------------------------------------------------- */

static int refuse(struct log_recovery *recovery, const struct log *log, const char *name,
                  uint64_t offset, const char *message, int status)
{
    snprintf(recovery->path, sizeof recovery->path, "%.990s/%.32s", log->directory, name);
    recovery->damage_offset = offset;
    recovery->message = message;
    return status;
}

static int refuse_segment(struct log_recovery *recovery, const struct log *log, uint64_t sequence,
                          uint64_t offset, const char *message, int status)
{
    char name[SEGMENT_NAME_BYTES];
    segment_name_format(sequence, name);
    return refuse(recovery, log, name, offset, message, status);
}

static int open_meta(struct log *log, struct log_recovery *recovery,
                     const struct log_listing *listing)
{
    char path[LIMIT_LOG_PATH_BYTES];
    log_path(log->directory, "meta", path);
    if (!listing->meta) {
        if (listing->count > 0) {
            return refuse(recovery, log, "meta", 0, "there are segments, but meta is missing",
                          STATUS_CORRUPT);
        }
        recovery->created = true;
        int status = log_meta_create(log);
        if (status == 0) {
            status = disk_open(log->disk, path, DISK_OPEN_WRITE, &log->meta_file);
        }
        return status;
    }
    int status = disk_open(log->disk, path, DISK_OPEN_WRITE, &log->meta_file);
    if (status != 0) {
        return status;
    }
    uint8_t owner[SEGMENT_OWNER_BYTES];
    status = log_meta_read(log->disk, log->meta_file, owner, &log->meta_version, log->meta,
                           &log->meta_size, &recovery->meta_repaired);
    if (status == STATUS_CORRUPT) {
        return refuse(recovery, log, "meta", 0, "both copies of meta are damaged", status);
    }
    if (status == STATUS_FOREIGN) {
        return refuse(recovery, log, "meta", 8, "written by a newer version of this program",
                      status);
    }
    if (status == 0 && memcmp(owner, log->owner, sizeof owner) != 0) {
        return refuse(recovery, log, "meta", 16, "the directory belongs to another node",
                      STATUS_FOREIGN);
    }
    return status;
}

static int open_segments(struct log *log, struct log_recovery *recovery, struct log_scan *scan,
                         const struct log_listing *listing)
{
    struct segment_reader reader;
    segment_reader_init(&reader, log->disk);
    int status = 0;
    for (uint32_t i = 0; i < listing->count && status == 0; i++) {
        const uint64_t sequence = listing->sequences[i];
        if (i > 0 && sequence != listing->sequences[i - 1] + 1) {
            status = refuse_segment(recovery, log, listing->sequences[i - 1] + 1, 0,
                                    "a segment is missing", STATUS_CORRUPT);
            break;
        }
        char path[LIMIT_LOG_PATH_BYTES];
        log_segment_path(log->directory, sequence, path);
        status = segment_reader_open(&reader, path, log->owner, sequence);
        if (status == STATUS_CORRUPT || status == STATUS_FOREIGN) {
            status = refuse_segment(recovery, log, sequence, 0,
                                    status == STATUS_CORRUPT
                                        ? "the header is damaged, or the file is too short"
                                        : "the segment belongs to another node or a newer format",
                                    status);
            break;
        }
        struct inspect_segment found;
        if (status == 0) {
            status = log_scan_segment(scan, &reader, &found);
        }
        if (status == STATUS_CORRUPT || status == STATUS_FOREIGN) {
            status = refuse_segment(recovery, log, scan->damage_sequence, scan->damage_offset,
                                    scan->message, status);
            break;
        }
        if (status == 0) {
            recovery->segments += found.used_bytes > SEGMENT_HEADER_BYTES;
            status = log_segment_add(log, sequence, (uint32_t)found.size_bytes, NULL);
        }
        if (status == 0 && found.used_bytes > SEGMENT_HEADER_BYTES) {
            log->tail_sequence = sequence;
            log->tail_offset = (uint32_t)found.used_bytes;
            log->tail_sealed = found.sealed;
        }
    }
    segment_reader_deinit(&reader);
    return status;
}

/* Remove segments that were prepared under other options: a frame that is allowed now may not fit
 * them. They are empty. The last goes first, so that a crash leaves no hole. */
static int open_prepared(struct log *log)
{
    uint32_t kept = 0;
    while (kept < log->segment_count && (log->segments[kept].sequence <= log->tail_sequence ||
                                         log->segments[kept].size_bytes == log->segment_bytes)) {
        kept++;
    }
    while (log->segment_count > kept) {
        char path[LIMIT_LOG_PATH_BYTES];
        log_segment_path(log->directory, log->segments[log->segment_count - 1].sequence, path);
        int status = disk_unlink(log->disk, path);
        if (status == 0) {
            status = disk_sync_directory(log->disk, log->directory);
        }
        if (status != 0) {
            return status;
        }
        disk_close(log->disk, log->segments[log->segment_count - 1].file);
        log->segment_count--;
    }
    return 0;
}

/* Write the last batch over itself. If its sync failed, the kernel has marked the pages clean: they look
 * written until the power goes, and to sync them again does nothing. All before it was durable when it
 * was written. */
static int open_rewrite(struct log *log, struct disk_file *file, uint32_t offset, uint32_t end)
{
    uint8_t *data = malloc(LIMIT_LOG_READ_BYTES);
    int status = data == NULL ? -ENOMEM : 0;
    while (status == 0 && offset < end) {
        const uint32_t size =
            end - offset < LIMIT_LOG_READ_BYTES ? end - offset : LIMIT_LOG_READ_BYTES;
        size_t got = 0;
        status = disk_read(log->disk, file, offset, data, size, &got);
        if (status == 0 && got < size) {
            status = -EIO; /* it was there a moment ago */
        }
        if (status == 0) {
            status = disk_write(log->disk, file, offset, data, size);
        }
        offset += size;
    }
    free(data);
    return status;
}

/* Open for writing what will be written, sync what a killed process may have left unsynced. */
static int open_tail(struct log *log, struct log_recovery *recovery, const struct log_scan *scan)
{
    if (scan->ended) {
        log->tail_sequence = scan->ended_sequence;
        log->tail_offset = scan->ended_offset;
        log->tail_sealed = false;
        recovery->cut_bytes = scan->torn_bytes;
        recovery->cut_offset = scan->ended_offset;
        if (scan->torn_bytes > 0) {
            refuse_segment(recovery, log, scan->ended_sequence, 0, NULL, 0);
        }
    }
    for (uint32_t i = 0; i < log->segment_count; i++) {
        struct log_segment_file *segment = &log->segments[i];
        if (segment->sequence + 1 < log->tail_sequence) {
            continue;
        }
        char path[LIMIT_LOG_PATH_BYTES];
        log_segment_path(log->directory, segment->sequence, path);
        int status = disk_open(log->disk, path, DISK_OPEN_WRITE, &segment->file);
        if (status == 0 && scan->ended && segment->sequence == scan->ended_sequence &&
            scan->alive_end > scan->ended_offset) {
            status = disk_zero(log->disk, segment->file, scan->ended_offset,
                               scan->alive_end - scan->ended_offset);
        }
        if (status == 0 && segment->sequence == scan->last_sequence) {
            status = open_rewrite(log, segment->file, scan->last_batch, scan->last_end);
        }
        if (status == 0) {
            status = disk_sync(log->disk, segment->file);
        }
        if (status != 0) {
            return status;
        }
        if (segment->sequence < log->tail_sequence) {
            disk_close(log->disk, segment->file);
            segment->file = NULL;
        }
    }
    return disk_sync_directory(log->disk, log->directory);
}

/* A dropped segment is kept for reuse if it still has the right size. */
static int open_spare(struct log *log, const struct log_listing *listing)
{
    char path[LIMIT_LOG_PATH_BYTES];
    int status = 0;
    if (listing->leftover) {
        log_path(log->directory, "new.tmp", path);
        status = disk_unlink(log->disk, path);
    }
    if (status != 0 || !listing->spare) {
        return status;
    }
    struct disk_file *file;
    uint64_t size_bytes = 0;
    log_path(log->directory, "spare", path);
    status = disk_open(log->disk, path, DISK_OPEN_READ, &file);
    if (status != 0) {
        return status;
    }
    status = disk_size(log->disk, file, &size_bytes);
    disk_close(log->disk, file);
    if (status == 0 && size_bytes == log->segment_bytes) {
        log->spare = true;
    } else if (status == 0) {
        status = disk_unlink(log->disk, path);
    }
    return status;
}

/* The term of the newest frame. */
static int open_term(struct log *log, struct log_recovery *recovery)
{
    if (recovery->index_first == recovery->index_next) {
        return 0;
    }
    struct log_cursor cursor;
    struct log_frame frame;
    log_cursor_open(&cursor, log, recovery->index_next - 1);
    int status = log_cursor_next(&cursor, &frame);
    if (status == LOG_CURSOR_FRAME) {
        recovery->term_last = frame.term;
    } else if (status > 0) {
        status = STATUS_CORRUPT; /* it was there a moment ago */
    }
    log_cursor_close(&cursor);
    return status;
}

int log_open(struct log *log, struct disk *disk, const struct log_options *options,
             struct log_recovery *out_recovery)
{
    *out_recovery = (struct log_recovery){0};
    *log = (struct log){
        .disk = disk,
        .segment_bytes = options->segment_bytes == 0 ? LIMIT_SEGMENT_BYTES : options->segment_bytes,
        .history_bytes = options->history_bytes,
        .truncate_floor = UINT64_MAX,
    };
    CHECK(log->segment_bytes % 4096 == 0);
    CHECK(log->segment_bytes >= SEGMENT_BYTES_MIN && log->segment_bytes <= SEGMENT_BYTES_MAX);
    memcpy(log->owner, options->owner, sizeof log->owner);
    struct log_listing listing = {0};
    struct log_scan scan = {0};
    extents_init(&scan.extents);

    int status;
    if (strlen(options->directory) + 64 > sizeof log->directory) { /* 64: the longest file name */
        status = -ENAMETOOLONG;
        goto out;
    }
    strcpy(log->directory, options->directory);
    status = disk_make_directory(disk, log->directory);
    if (status == 0) {
        status = disk_lock_directory(disk, log->directory, &log->lock);
    }
    if (status == 0) {
        status = log_listing_read(&listing, disk, log->directory);
    }
    if (status == 0) {
        status = open_meta(log, out_recovery, &listing);
    }
    if (status == 0) {
        status = open_segments(log, out_recovery, &scan, &listing);
    }
    if (status == 0) {
        status = open_tail(log, out_recovery, &scan);
    }
    if (status == 0) {
        status = open_prepared(log);
    }
    if (status == 0) {
        status =
            log_meta_write(log); /* one copy may be damaged; or its sync failed: open_rewrite */
    }
    if (status == 0) {
        status = open_spare(log, &listing);
    }
    if (status != 0) {
        goto out;
    }

    log->extents = scan.extents;
    extents_init(&scan.extents);
    if (log->extents.index_next == 0) {
        extents_reset(&log->extents, 1);
    }
    log->index_next = log->extents.index_next;
    log->readable_next = log->index_next;
    log->durable_sequence = log->tail_sequence;
    log->durable_offset = log->tail_offset;
    log->mark_offset = scan.marked || log->tail_sealed || log->tail_offset == SEGMENT_HEADER_BYTES
                           ? log->durable_offset
                           : 0;
    log->tail_salt = segment_salt(log->owner, log->tail_sequence);
    out_recovery->index_first = log_index_first(log);
    out_recovery->index_next = log->index_next;
    out_recovery->bytes = scan.bytes;
    status = open_term(log, out_recovery);
out:
    free(listing.sequences);
    extents_deinit(&scan.extents);
    if (status != 0) {
        if (out_recovery->message == NULL) {
            out_recovery->message = status_text(status);
        }
        log_free(log);
    } else {
        log_pump(log); /* the first segment, or the next, is prepared meanwhile */
    }
    return status;
}
