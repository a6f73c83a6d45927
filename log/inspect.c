#include "log/inspect.h"

#include "log/log_inner.h"
#include "schemas/check.h"
#include "schemas/status.h"

#include <stdio.h>
#include <stdlib.h>

/* The owner may drop segments while we look. Then we look again, this often at most. */
#define ATTEMPTS 16

static void inspect_clear(struct inspect *inspect)
{
    free(inspect->segments);
    inspect->segments = NULL;
    inspect->segment_count = 0;
    extents_deinit(&inspect->extents);
    segment_reader_deinit(&inspect->reader);
}

static void damage_note(struct inspect *inspect, int status, const char *name, uint64_t offset,
                        const char *message)
{
    if (inspect->damage_status != 0) {
        return; /* the first place counts */
    }
    inspect->damage_status = status;
    inspect->damage_offset = offset;
    inspect->damage_message = message;
    snprintf(inspect->damage_path, sizeof inspect->damage_path, "%.990s/%.32s", inspect->directory,
             name);
}

static void damage_note_segment(struct inspect *inspect, int status, uint64_t sequence,
                                uint64_t offset, const char *message)
{
    char name[SEGMENT_NAME_BYTES];
    segment_name_format(sequence, name);
    damage_note(inspect, status, name, offset, message);
}

static int inspect_meta(struct inspect *inspect, const struct log_listing *listing)
{
    if (!listing->meta) {
        damage_note(inspect, STATUS_CORRUPT, "meta", 0, "there are segments, but meta is missing");
        return 0;
    }
    char path[LIMIT_LOG_PATH_BYTES];
    struct disk_file *file;
    log_path(inspect->directory, "meta", path);
    int status = disk_open(inspect->disk, path, DISK_OPEN_READ, &file);
    if (status != 0) {
        return status;
    }
    uint64_t version;
    uint32_t size = 0;
    bool repair;
    status = log_meta_read(inspect->disk, file, inspect->owner, &version, inspect->meta_bytes,
                           &size, &repair);
    disk_close(inspect->disk, file);
    if (status == STATUS_CORRUPT) {
        damage_note(inspect, status, "meta", 0, "both copies of meta are damaged");
        return 0;
    }
    if (status == STATUS_FOREIGN) {
        damage_note(inspect, status, "meta", 8, "written by a newer version of this program");
        return 0;
    }
    inspect->meta = bytes_of(inspect->meta_bytes, size);
    return status;
}

/* One look at all segments. INSPECT_GONE: one went away between listing and opening it. */
static int inspect_look(struct inspect *inspect, const struct log_listing *listing)
{
    struct log_scan scan;
    log_scan_init(&scan, inspect->depth == INSPECT_QUICK);
    int status = inspect_meta(inspect, listing);
    const bool owned = status == 0 && inspect->damage_status == 0;
    for (uint32_t i = 0; status == 0 && i < listing->count; i++) {
        const uint64_t sequence = listing->sequences[i];
        if (i > 0 && sequence != listing->sequences[i - 1] + 1) {
            damage_note_segment(inspect, STATUS_CORRUPT, listing->sequences[i - 1] + 1, 0,
                                "a segment is missing");
            break;
        }
        char path[LIMIT_LOG_PATH_BYTES];
        if (inspect->depth != INSPECT_QUICK && i + 1 < listing->count) {
            log_segment_path(inspect->directory, listing->sequences[i + 1], path);
            disk_ahead(inspect->disk, path);
        }
        log_segment_path(inspect->directory, sequence, path);
        status =
            segment_reader_open(&inspect->reader, path, owned ? inspect->owner : NULL, sequence);
        if (status == -ENOENT) {
            status = INSPECT_GONE;
            break;
        }
        if (status == STATUS_CORRUPT || status == STATUS_FOREIGN) {
            damage_note_segment(inspect, status, sequence, 0,
                                status == STATUS_CORRUPT
                                    ? "the header is damaged, or the file is too short"
                                    : "the segment belongs to another node or a newer format");
            status = 0;
            break;
        }
        struct inspect_segment *found = &inspect->segments[inspect->segment_count];
        if (status == 0) {
            status = log_scan_segment(&scan, &inspect->reader, found);
            inspect->segment_count++;
        }
        if (status == STATUS_CORRUPT || status == STATUS_FOREIGN) {
            damage_note_segment(inspect, status, scan.damage_sequence, scan.damage_offset,
                                scan.message);
            status = 0;
            break;
        }
    }
    if (status == 0 && inspect->damage_status == 0 && log_scan_finish(&scan) != 0) {
        damage_note_segment(inspect, STATUS_CORRUPT, scan.damage_sequence, scan.damage_offset,
                            scan.message);
    }
    inspect->truncations = scan.truncations;
    inspect->bytes_torn = scan.torn_bytes;
    inspect->index_next = scan.extents.index_next == 0 ? 1 : scan.extents.index_next;
    inspect->index_first = extents_index_first(&scan.extents);
    if (inspect->index_first == 0) {
        inspect->index_first = inspect->index_next;
    }
    for (uint32_t i = scan.extents.first; i < scan.extents.count; i++) {
        inspect->frames += scan.extents.list[i].index_next - scan.extents.list[i].index_first;
    }
    inspect->cursor_index = inspect->index_first;
    inspect->extents = scan.extents;
    extents_init(&scan.extents);
    log_scan_deinit(&scan);
    return status;
}

static int inspect_attempt(struct inspect *inspect, struct disk *disk, const char *directory,
                           enum inspect_depth depth)
{
    *inspect = (struct inspect){.disk = disk, .depth = depth};
    segment_reader_init(&inspect->reader, disk);
    extents_init(&inspect->extents);
    strcpy(inspect->directory, directory);
    struct log_listing listing;
    int status = log_listing_read(&listing, disk, directory);
    if (status != 0) {
        return status == -ENOTDIR ? -ENOENT : status;
    }
    if (!listing.meta && listing.count == 0) {
        status = -ENOENT;
    } else {
        inspect->segments = calloc(listing.count + 1, sizeof *inspect->segments);
        status = inspect->segments == NULL ? -ENOMEM : inspect_look(inspect, &listing);
    }
    log_listing_free(&listing);
    if (status != 0) {
        inspect_clear(inspect);
    }
    return status;
}

int inspect_open(struct inspect *inspect, struct disk *disk, const char *directory,
                 enum inspect_depth depth)
{
    *inspect = (struct inspect){.disk = disk, .depth = depth};
    if (strlen(directory) + 64 > LIMIT_LOG_PATH_BYTES) {
        return -ENAMETOOLONG;
    }
    int status = INSPECT_GONE;
    char path[LIMIT_LOG_PATH_BYTES] = "";
    uint64_t offset = 0;
    for (int i = 0; i < ATTEMPTS && status == INSPECT_GONE; i++) {
        status = inspect_attempt(inspect, disk, directory, depth);
        if (status == 0 && inspect->damage_status == STATUS_CORRUPT &&
            (inspect->damage_offset != offset || strcmp(inspect->damage_path, path) != 0)) {
            /* A live owner may have written or reused a file under our eyes, so that we saw a piece
             * of before and a piece of after: real damage is there when we look again. */
            strcpy(path, inspect->damage_path);
            offset = inspect->damage_offset;
            inspect_clear(inspect);
            status = INSPECT_GONE;
        }
    }
    return status == INSPECT_GONE ? -EAGAIN : status;
}

void inspect_close(struct inspect *inspect)
{
    inspect_clear(inspect);
}

int inspect_file_get(struct inspect *inspect, const char *name, uint8_t **out_data,
                     size_t *out_size)
{
    return log_file_read(inspect->disk, inspect->directory, name, out_data, out_size);
}

void inspect_seek(struct inspect *inspect, uint64_t index)
{
    inspect->cursor_index = index > inspect->index_first ? index : inspect->index_first;
    inspect->cursor_extent = NULL;
    inspect->cursor_sequence = 0;
}

/* Whoever comes from one segment into the next will read the one behind it. */
static void inspect_ahead(struct inspect *inspect, uint64_t sequence)
{
    const uint64_t place = sequence + 1 - inspect->segments[0].sequence;
    if (inspect->cursor_sequence + 1 == sequence && place < inspect->segment_count &&
        inspect->segments[place].used_bytes > SEGMENT_HEADER_BYTES) {
        char path[LIMIT_LOG_PATH_BYTES];
        log_segment_path(inspect->directory, sequence + 1, path);
        disk_ahead(inspect->disk, path);
    }
}

/* Stand in the extent that holds the next frame. */
static int inspect_enter(struct inspect *inspect, const struct extent *extent)
{
    char path[LIMIT_LOG_PATH_BYTES];
    inspect_ahead(inspect, extent->sequence);
    log_segment_path(inspect->directory, extent->sequence, path);
    const int status = segment_reader_open(&inspect->reader, path, NULL, extent->sequence);
    inspect->cursor_sequence = 0;
    if (status == -ENOENT || status == STATUS_CORRUPT || status == STATUS_FOREIGN) {
        return INSPECT_GONE; /* its header was well when inspect_open read it */
    }
    if (status == 0) {
        segment_reader_seek(&inspect->reader, extent->offset);
        inspect->cursor_sequence = extent->sequence;
        inspect->cursor_offset = extent->offset;
    }
    return status;
}

/* The frame that must be at an offset is not there. Dropped since, or damaged? No sequence is used
 * twice and a dropped file loses its name first: while the name is there, what was read was it. */
static int inspect_missing(struct inspect *inspect, const struct extent *extent, uint64_t offset)
{
    const int status = inspect_enter(inspect, extent);
    inspect->cursor_sequence = 0;
    if (status != 0) {
        return status;
    }
    inspect->damage_status = 0;
    damage_note_segment(inspect, STATUS_CORRUPT, extent->sequence, offset,
                        "a durable frame is damaged");
    return STATUS_CORRUPT;
}

int inspect_next(struct inspect *inspect, struct log_frame *out_frame)
{
    const struct extent *extent = inspect->cursor_extent;
    if (extent == NULL || inspect->cursor_index >= extent->index_next) {
        extent = extents_find(&inspect->extents, inspect->cursor_index);
        inspect->cursor_extent = extent;
    }
    if (extent == NULL) {
        return INSPECT_END;
    }
    if (inspect->cursor_sequence != extent->sequence || inspect->reader.offset < extent->offset) {
        const int status = inspect_enter(inspect, extent);
        if (status != 0) {
            return status;
        }
    }
    for (;;) {
        struct segment_frame frame;
        const uint32_t offset = inspect->reader.offset;
        const int answer = segment_reader_next(&inspect->reader, UINT32_MAX, &frame);
        if (answer < 0) {
            return answer;
        }
        if (answer == SEGMENT_DEAD ||
            (frame.type >= LOG_TYPE_OWNER && frame.index > inspect->cursor_index)) {
            return inspect_missing(inspect, extent, offset);
        }
        if (frame.type < LOG_TYPE_OWNER || frame.index < inspect->cursor_index) {
            continue;
        }
        *out_frame = (struct log_frame){
            .index = frame.index, .term = frame.term, .type = frame.type, .payload = frame.payload};
        inspect->cursor_index++;
        return INSPECT_FRAME;
    }
}
