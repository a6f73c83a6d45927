/* log_open: what a crash left becomes a log again.
 *
 *   1. lock, list   2. meta: owner, content   3. every segment in order (log_scan_segment): its footer,
 *   or else its frames   4. nothing wrong: the torn tail is zeroed, the last segments and the directory
 *   are synced
 *
 * Footers that were missing are written in the background afterwards.
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
            status = log_segment_add(log, sequence, (uint32_t)found.size_bytes,
                                     reader.header.footer_bytes, NULL);
        }
        if (status == 0 && found.sealed) {
            struct log_segment_file *segment = log_segment_find(log, sequence);
            segment->time_last_ms = found.time_last_ms;
            if (!found.footed && found.used_bytes <= segment->end_bytes) {
                segment->footer = footer_take(&scan->footer, reader.salt);
            }
        }
        if (status == 0 && found.used_bytes > SEGMENT_HEADER_BYTES) {
            log->tail_sequence = sequence;
            log->tail_offset = (uint32_t)found.used_bytes;
            log->tail_sealed = found.sealed;
        }
    }
    segment_reader_deinit(&reader);
    if (status == 0 && log_scan_finish(scan) != 0) {
        status = refuse_segment(recovery, log, scan->damage_sequence, scan->damage_offset,
                                scan->message, STATUS_CORRUPT);
    }
    return status;
}

/* Remove segments that were prepared under other options or by a former version: a frame that is
 * allowed now may not fit them. They are empty. The last goes first, so that a crash leaves no hole.
 */
static int open_prepared(struct log *log)
{
    uint32_t kept = 0;
    while (kept < log->segment_count &&
           (log->segments[kept].sequence <= log->tail_sequence ||
            (log->segments[kept].size_bytes == log->segment_bytes &&
             log->segments[kept].end_bytes == log->segment_bytes - log->footer_bytes))) {
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
        log->segments_bytes -= log->segments[log->segment_count].size_bytes;
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

/* Remove what others kept beside segments that are gone: the owner died between the two. What was
 * not whole yet is left to whoever may be writing it, unless its segment is gone too. */
static int open_companions(struct log *log, const struct log_listing *listing)
{
    for (uint32_t i = 0; i < listing->companion_count; i++) {
        const struct log_companion *companion = &listing->companions[i];
        if (log_segment_find(log, companion->sequence) != NULL) {
            continue;
        }
        char path[LIMIT_LOG_PATH_BYTES];
        log_companion_path(log->directory, companion->sequence, companion->whole, path);
        const int status = disk_unlink(log->disk, path);
        if (status != 0) {
            return status;
        }
    }
    return 0;
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
    if (status == STATUS_CORRUPT && log->damage_sequence != 0) { /* its segment was not read */
        refuse_segment(recovery, log, log->damage_sequence, log->damage_offset,
                       "a durable frame is damaged", status);
    }
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
        .history_ms = options->history_ms,
        .limit_bytes = options->limit_bytes == 0 ? UINT64_MAX : options->limit_bytes,
        .early_bytes = options->early_bytes == 0 ? LIMIT_LOG_EARLY_BYTES : options->early_bytes,
        .held = UINT64_MAX,
        .truncate_floor = UINT64_MAX,
        .drop_check = true,
    };
    CHECK(log->segment_bytes % 4096 == 0);
    CHECK(log->segment_bytes >= SEGMENT_BYTES_MIN && log->segment_bytes <= SEGMENT_BYTES_MAX);
    memcpy(log->owner, options->owner, sizeof log->owner);
    log->footer_bytes = footer_bytes(log->segment_bytes);
    if (log->limit_bytes < LIMIT_LOG_SEGMENTS_MIN * (uint64_t)log->segment_bytes) {
        log->limit_bytes = LIMIT_LOG_SEGMENTS_MIN * (uint64_t)log->segment_bytes;
    }
    struct log_listing listing = {0};
    struct log_scan scan;
    log_scan_init(&scan, true);

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
    if (status == 0) {
        status = open_companions(log, &listing);
    }
    if (status != 0) {
        goto out;
    }

    log->extents = scan.extents;
    extents_init(&scan.extents);
    log->footer = scan.footer;
    footer_init(&scan.footer);
    log->clock_ms = scan.time_ms;
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
    out_recovery->bytes_read = scan.bytes_read;
    status = open_term(log, out_recovery);
out:
    log_listing_free(&listing);
    log_scan_deinit(&scan);
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
