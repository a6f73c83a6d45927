#include "log/footer.h"

#include "log/crc32c.h"
#include "log/log.h"
#include "schemas/check.h"
#include "schemas/status.h"

#include <stdlib.h>

static const uint8_t magic[8] = {'K', 'E', 'L', 'P', 'F', 'O', 'O', 'T'};

struct footer_entry {
    enum footer_kind kind;
    uint32_t offset;
    uint32_t offset_end;
    uint64_t index;
};

uint32_t footer_bytes(uint32_t segment_bytes)
{
    const uint32_t entries = 16 + 2 * (segment_bytes / LIMIT_LOG_STRIDE_BYTES);
    const uint32_t unit = segment_bytes < 1024u * 1024u ? 512 : 4096;
    return (FOOTER_HEADER_BYTES + entries * FOOTER_ENTRY_BYTES + unit - 1) / unit * unit;
}

void footer_init(struct footer *footer)
{
    *footer = (struct footer){0};
}

void footer_deinit(struct footer *footer)
{
    free(footer->block);
    *footer = (struct footer){0};
}

/* Have a block of this size. false: there is none. */
static bool footer_reserve(struct footer *footer, uint32_t block_bytes)
{
    if (footer->block == NULL || footer->block_bytes != block_bytes) {
        free(footer->block);
        footer->block_bytes = block_bytes;
        footer->block = block_bytes == 0 ? NULL : malloc(block_bytes);
    }
    return footer->block != NULL;
}

/* -- growing --------------------------------------------------------------------------------- */

static uint8_t *entry_at(const struct footer *footer, uint32_t i)
{
    return footer->block + FOOTER_HEADER_BYTES + i * FOOTER_ENTRY_BYTES;
}

static struct footer_entry entry_get(const struct footer *footer, uint32_t i)
{
    const uint8_t *at = entry_at(footer, i);
    const uint32_t offset = get_le32(at);
    return (struct footer_entry){
        .kind = (enum footer_kind)(offset & 7u),
        .offset = offset & ~7u,
        .offset_end = get_le32(at + 4),
        .index = get_le64(at + 8),
    };
}

static void entry_put(struct footer *footer, uint32_t i, struct footer_entry entry)
{
    uint8_t *at = entry_at(footer, i);
    put_le32(at, entry.offset | (uint32_t)entry.kind);
    put_le32(at + 4, entry.offset_end);
    put_le64(at + 8, entry.index);
}

static void entry_add(struct footer *footer, struct footer_entry entry)
{
    CHECK(entry.offset % 8 == 0);
    if (!footer->fits ||
        footer->count == (footer->block_bytes - FOOTER_HEADER_BYTES) / FOOTER_ENTRY_BYTES) {
        footer->fits = false;
        return;
    }
    entry_put(footer, footer->count, entry);
    footer->count++;
}

void footer_start(struct footer *footer, uint64_t sequence, uint32_t block_bytes,
                  uint64_t index_before, uint64_t time_ms)
{
    const bool there = footer_reserve(footer, block_bytes);
    *footer = (struct footer){
        .sequence = sequence,
        .used_bytes = SEGMENT_HEADER_BYTES,
        .index_before = index_before,
        .index_next = index_before,
        .time_first_ms = time_ms,
        .fits = there,
        .block = footer->block,
        .block_bytes = block_bytes,
    };
}

/* Let the last run reach over what lies behind it without a gap. */
static bool run_extend(struct footer *footer, const struct segment_frame *frame, bool owner)
{
    if (!footer->fits || footer->count == 0) {
        return false;
    }
    struct footer_entry last = entry_get(footer, footer->count - 1);
    if (last.kind != FOOTER_RUN || last.offset_end != frame->offset ||
        (owner && frame->offset - last.offset >= LIMIT_LOG_STRIDE_BYTES)) {
        return false;
    }
    last.offset_end = frame->offset + frame->disk_bytes;
    last.index = owner ? frame->index + 1 : last.index;
    entry_put(footer, footer->count - 1, last);
    return true;
}

void footer_add(struct footer *footer, const struct segment_frame *frame)
{
    CHECK(frame->offset == footer->used_bytes);
    struct footer_entry entry = {
        .offset = frame->offset,
        .offset_end = frame->offset + frame->disk_bytes,
        .index = frame->index,
    };
    const bool first = footer->used_bytes == SEGMENT_HEADER_BYTES;
    footer->used_bytes = entry.offset_end;
    footer->index_next = frame->index;
    if (frame->type == LOG_TYPE_TRUNCATE || frame->type == LOG_TYPE_RESET) {
        footer->truncations++;
        entry.kind = frame->type == LOG_TYPE_RESET ? FOOTER_RESET : FOOTER_TRUNCATE;
        entry_add(footer, entry);
        return;
    }
    if (first && footer->index_before == 0) {
        footer->index_before = frame->index;
    }
    if (frame->type < LOG_TYPE_OWNER) {
        footer->time_last_ms = frame->term != 0 ? frame->term : footer->time_last_ms;
        if (frame->type == LOG_TYPE_MARK) {
            run_extend(footer, frame, false);
        }
        return;
    }
    if (footer->frames == 0) {
        footer->index_first = frame->index;
    }
    footer->frames++;
    footer->index_last = frame->index;
    footer->index_next = frame->index + 1;
    footer->term_last = frame->term;
    if (!run_extend(footer, frame, true)) {
        entry.kind = FOOTER_RUN;
        entry.index = frame->index + 1;
        entry_add(footer, entry);
    }
}

/* -- on disk --------------------------------------------------------------------------------- */

static uint32_t footer_crc(const uint8_t *block, uint32_t count, uint32_t salt)
{
    const size_t end = FOOTER_HEADER_BYTES + (size_t)count * FOOTER_ENTRY_BYTES;
    return crc32c(crc32c(salt, block, 12), block + 16, end - 16);
}

uint8_t *footer_take(struct footer *footer, uint32_t salt)
{
    if (!footer->fits) {
        return NULL;
    }
    uint8_t *block = footer->block;
    const size_t end = FOOTER_HEADER_BYTES + (size_t)footer->count * FOOTER_ENTRY_BYTES;
    memset(block, 0, FOOTER_HEADER_BYTES);
    memset(block + end, 0, footer->block_bytes - end);
    memcpy(block, magic, sizeof magic);
    put_le32(block + 8, FOOTER_VERSION);
    put_le64(block + 16, footer->sequence);
    put_le32(block + 24, footer->used_bytes);
    put_le32(block + 28, footer->count);
    put_le64(block + 32, footer->frames);
    put_le64(block + 40, footer->index_before);
    put_le64(block + 48, footer->index_first);
    put_le64(block + 56, footer->index_last);
    put_le64(block + 64, footer->index_next);
    put_le64(block + 72, footer->term_last);
    put_le64(block + 80, footer->truncations);
    put_le64(block + 88, footer->time_first_ms);
    put_le64(block + 96, footer->time_last_ms);
    put_le32(block + 12, footer_crc(block, footer->count, salt));
    footer->block = NULL;
    footer->fits = false;
    return block;
}

/* Whether the entries are what some segment could hold, and lead where the header says. */
static bool entries_plausible(const struct footer *footer)
{
    uint64_t next = footer->index_before;
    uint64_t frames = 0;
    uint64_t truncations = 0;
    uint32_t offset = SEGMENT_HEADER_BYTES;
    for (uint32_t i = 0; i < footer->count; i++) {
        const struct footer_entry entry = entry_get(footer, i);
        if (entry.index == 0 || entry.offset < offset || entry.offset_end <= entry.offset ||
            entry.offset_end > footer->used_bytes) {
            return false;
        }
        switch (entry.kind) {
        case FOOTER_RUN:
            if (next == 0 || entry.index <= next) {
                return false;
            }
            frames += entry.index - next;
            break;
        case FOOTER_TRUNCATE:
            if (next != 0 && entry.index > next) {
                return false;
            }
            truncations++;
            break;
        case FOOTER_RESET:
            truncations++;
            break;
        default:
            return false;
        }
        next = entry.index;
        offset = entry.offset_end;
    }
    return frames == footer->frames && truncations == footer->truncations &&
           next == footer->index_next;
}

int footer_read(struct footer *footer, const struct segment_reader *reader)
{
    const uint32_t block_bytes = reader->header.footer_bytes;
    const uint32_t frames_end = (uint32_t)reader->header.size_bytes - block_bytes;
    if (block_bytes == 0) {
        return STATUS_CORRUPT;
    }
    footer_start(footer, reader->header.sequence, block_bytes, 0, 0);
    if (!footer->fits) {
        return -ENOMEM;
    }
    uint8_t *block = footer->block;
    size_t got;
    const int status = disk_read(reader->disk, reader->file, frames_end, block, block_bytes, &got);
    if (status != 0) {
        return status;
    }
    if (got < block_bytes || memcmp(block, magic, sizeof magic) != 0 ||
        get_le32(block + 8) != FOOTER_VERSION) {
        return STATUS_CORRUPT;
    }
    const uint32_t count = get_le32(block + 28);
    if (count > (block_bytes - FOOTER_HEADER_BYTES) / FOOTER_ENTRY_BYTES ||
        get_le32(block + 12) != footer_crc(block, count, reader->salt)) {
        return STATUS_CORRUPT;
    }
    footer->used_bytes = get_le32(block + 24);
    footer->count = count;
    footer->frames = get_le64(block + 32);
    footer->index_before = get_le64(block + 40);
    footer->index_first = get_le64(block + 48);
    footer->index_last = get_le64(block + 56);
    footer->index_next = get_le64(block + 64);
    footer->term_last = get_le64(block + 72);
    footer->truncations = get_le64(block + 80);
    footer->time_first_ms = get_le64(block + 88);
    footer->time_last_ms = get_le64(block + 96);
    if (get_le64(block + 16) != footer->sequence || footer->used_bytes > frames_end ||
        footer->used_bytes < SEGMENT_HEADER_BYTES + SEGMENT_FRAME_HEADER_BYTES ||
        !entries_plausible(footer)) {
        return STATUS_CORRUPT;
    }
    return 0;
}

int footer_apply(const struct footer *footer, struct extents *extents)
{
    if (extents->index_next != footer->index_before &&
        (extents->index_next != 0 || extents->count > extents->first)) {
        return STATUS_CORRUPT;
    }
    if (footer->index_before != 0 && extents->index_next == 0) {
        extents_reset(extents, footer->index_before);
    }
    for (uint32_t i = 0; i < footer->count; i++) {
        const struct footer_entry entry = entry_get(footer, i);
        int status = 0;
        switch (entry.kind) {
        case FOOTER_RUN:
            status = extents_add_run(extents, entry.index, footer->sequence, entry.offset,
                                     entry.offset_end);
            break;
        case FOOTER_TRUNCATE:
            extents_truncate(extents, entry.index);
            break;
        case FOOTER_RESET:
            extents_reset(extents, entry.index);
            break;
        }
        if (status != 0) {
            return status;
        }
    }
    CHECK(extents->index_next == footer->index_next);
    return 0;
}

bool footer_equal(const struct footer *a, const struct footer *b)
{
    return a->sequence == b->sequence && a->used_bytes == b->used_bytes && a->frames == b->frames &&
           a->index_first == b->index_first && a->index_last == b->index_last &&
           a->index_next == b->index_next && a->term_last == b->term_last &&
           a->truncations == b->truncations && a->time_last_ms == b->time_last_ms &&
           a->count == b->count && a->fits && b->fits &&
           memcmp(entry_at(a, 0), entry_at(b, 0), (size_t)a->count * FOOTER_ENTRY_BYTES) == 0;
}
