/* What is in a directory, and one pass over its segments: for log_open and for inspect_open. Writes
 * nothing.
 */
#include "log/log_inner.h"

#include "schemas/status.h"

#include <stdlib.h>

/* -- what is there --------------------------------------------------------------------------- */

/* The names companions have: those of segments, with another end. */
static bool companion_name_parse(const char *name, struct log_companion *out)
{
    char segment[SEGMENT_NAME_BYTES];
    if (strlen(name) < 16) {
        return false;
    }
    memcpy(segment, name, 16);
    strcpy(segment + 16, ".seg");
    out->whole = strcmp(name + 16, ".keys") == 0;
    return (out->whole || strcmp(name + 16, ".keys.tmp") == 0) &&
           segment_name_parse(segment, &out->sequence);
}

/* Room for one more in a list. NULL: no memory, the list is as it was. */
static void *list_reserve(void *list, uint32_t count, uint32_t *capacity, size_t item_bytes)
{
    if (count < *capacity) {
        return list;
    }
    const uint32_t wanted = *capacity == 0 ? 64 : 2 * *capacity;
    list = realloc(list, wanted * item_bytes);
    *capacity = list == NULL ? *capacity : wanted;
    return list;
}

static void listing_on_companion(struct log_listing *listing, struct log_companion companion)
{
    struct log_companion *companions =
        list_reserve(listing->companions, listing->companion_count, &listing->companion_capacity,
                     sizeof *companions);
    if (companions == NULL) {
        listing->status = -ENOMEM;
        return;
    }
    listing->companions = companions;
    companions[listing->companion_count] = companion;
    listing->companion_count++;
}

static void listing_on_name(void *context, const char *name)
{
    struct log_listing *listing = context;
    struct log_companion companion;
    uint64_t sequence;
    if (listing->status != 0) {
        return;
    }
    if (strcmp(name, "meta") == 0) {
        listing->meta = true;
    } else if (strcmp(name, "spare") == 0) {
        listing->spare = true;
    } else if (strcmp(name, "new.tmp") == 0) {
        listing->leftover = true;
    } else if (companion_name_parse(name, &companion)) {
        listing_on_companion(listing, companion);
    } else if (segment_name_parse(name, &sequence)) {
        uint64_t *sequences =
            list_reserve(listing->sequences, listing->count, &listing->capacity, sizeof *sequences);
        if (sequences == NULL) {
            listing->status = -ENOMEM;
            return;
        }
        listing->sequences = sequences;
        sequences[listing->count] = sequence;
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
        log_listing_free(listing);
        return status;
    }
    if (listing->count > 0) {
        qsort(listing->sequences, listing->count, sizeof *listing->sequences, sequence_compare);
    }
    return 0;
}

void log_listing_free(struct log_listing *listing)
{
    free(listing->sequences);
    free(listing->companions);
    *listing = (struct log_listing){0};
}

/* -- one pass -------------------------------------------------------------------------------- */

void log_scan_init(struct log_scan *scan, bool quick)
{
    *scan = (struct log_scan){.quick = quick};
    extents_init(&scan->extents);
    footer_init(&scan->footer);
}

void log_scan_deinit(struct log_scan *scan)
{
    extents_deinit(&scan->extents);
    footer_deinit(&scan->footer);
}

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
static int scan_frame(struct log_scan *scan, const struct segment_frame *frame, uint64_t sequence)
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
        return status;
    }
    switch ((enum log_type)frame->type) {
    case LOG_TYPE_TRUNCATE:
        if (!index_fits(frame->index) || (next != 0 && frame->index > next)) {
            return scan_refuse(scan, STATUS_CORRUPT, sequence, frame->offset,
                               "a truncation names a frame that was never there");
        }
        extents_truncate(&scan->extents, frame->index);
        return 0;
    case LOG_TYPE_RESET:
        if (!index_fits(frame->index)) {
            return scan_refuse(scan, STATUS_CORRUPT, sequence, frame->offset,
                               "a reset names no index");
        }
        extents_reset(&scan->extents, frame->index);
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
        if (frame->type == LOG_TYPE_MARK) {
            extents_skip(&scan->extents, sequence, frame->offset, frame->disk_bytes);
        }
        if (frame->term != 0) {
            scan->time_ms = frame->term;
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

/* Tell what the footer of a segment, read or grown, says of it. */
static void scan_note(struct log_scan *scan, struct inspect_segment *out)
{
    const struct footer *footer = &scan->footer;
    out->used_bytes = footer->used_bytes;
    out->index_first = footer->index_first;
    out->index_last = footer->index_last;
    out->frames = footer->frames;
    out->truncations = footer->truncations;
    out->time_first_ms = footer->time_first_ms;
    out->time_last_ms = footer->time_last_ms;
    scan->truncations += footer->truncations;
    scan->bytes += footer->used_bytes - SEGMENT_HEADER_BYTES;
    if (footer->used_bytes > SEGMENT_HEADER_BYTES) {
        scan->alive_sequence = footer->sequence;
    }
    if (out->sealed) {
        out->marked_bytes = out->used_bytes; /* the next segment proves it, if it has frames */
    }
}

/* Read the frames of a segment up to its seal or its end. */
static int scan_frames(struct log_scan *scan, struct segment_reader *reader,
                       struct inspect_segment *out)
{
    const uint64_t sequence = reader->header.sequence;
    uint32_t batch = 0;
    scan->sealed = false;
    footer_start(&scan->footer, sequence, reader->header.footer_bytes, scan->extents.index_next,
                 scan->time_ms);
    while (!scan->sealed) {
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
            frame.offset + frame.disk_bytes + SEGMENT_FRAME_HEADER_BYTES >
                reader->header.size_bytes) {
            /* log_place never writes one: no more frames could follow, here or in the next segment */
            return scan_refuse(scan, STATUS_CORRUPT, sequence, frame.offset,
                               "a frame leaves no room for the end of its segment");
        }
        batch = frame.batch;
        status = scan_frame(scan, &frame, sequence);
        if (status != 0) {
            return status;
        }
        footer_add(&scan->footer, &frame);
        scan->last_sequence = sequence;
        scan->last_batch = batch;
        scan->last_end = frame.offset + frame.disk_bytes;
        out->marked_bytes = batch;
    }
    out->sealed = true;
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
    if (scan->ended) { /* and so scan->footer stays: it is that of the tail */
        struct segment_tail tail;
        const int status = segment_reader_examine(reader, &tail);
        if (status == 0 && tail.alive_end != 0) {
            return scan_refuse(scan, STATUS_CORRUPT, scan->ended_sequence, scan->ended_offset,
                               "a durable frame is damaged: there are frames in a later segment");
        }
        return status;
    }

    struct footer footer;
    footer_init(&footer);
    int status = footer_read(&footer, reader);
    const bool footed = status == 0;
    if (footed) {
        scan->footed_sequence = sequence;
    }
    if (footed && scan->quick) {
        status = footer_apply(&footer, &scan->extents);
    }
    if (status == 0 && scan->quick) {
        footer_deinit(&scan->footer);
        scan->footer = footer;
        scan->sealed = true;
        scan->marked = false;
        scan->time_ms = footer.time_last_ms != 0 ? footer.time_last_ms : scan->time_ms;
        out->sealed = true;
        out->footed = true;
        scan_note(scan, out);
        return 0;
    }
    if (status != 0 && status != STATUS_CORRUPT) {
        footer_deinit(&footer);
        return status;
    }

    status = scan_frames(scan, reader, out);
    scan_note(scan, out);
    scan->bytes_read += out->used_bytes - SEGMENT_HEADER_BYTES;
    if (status == 0 && footed) {
        out->footed = out->sealed;
        if (!out->sealed || !footer_equal(&footer, &scan->footer)) {
            status = scan_refuse(scan, STATUS_CORRUPT, sequence,
                                 reader->header.size_bytes - reader->header.footer_bytes,
                                 "the footer does not say what the frames of the segment are");
        }
    }
    footer_deinit(&footer);
    return status;
}

int log_scan_finish(struct log_scan *scan)
{
    if (scan->footed_sequence == 0 || scan->alive_sequence > scan->footed_sequence) {
        return 0;
    }
    return scan_refuse(scan, STATUS_CORRUPT, scan->footed_sequence + 1, SEGMENT_HEADER_BYTES,
                       "durable frames are missing: the segment before says that they were there");
}
