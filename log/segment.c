#include "log/segment.h"

#include "log/crc32c.h"
#include "log/log.h"
#include "schemas/check.h"
#include "schemas/status.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static const uint8_t magic[8] = {'K', 'E', 'L', 'P', 'S', 'E', 'G', '\n'};

static uint32_t header_crc(const uint8_t block[SEGMENT_HEADER_BYTES])
{
    return crc32c(crc32c(0, block, 12), block + 16, SEGMENT_HEADER_BYTES - 16);
}

void segment_header_encode(const struct segment_header *header,
                           uint8_t out_block[SEGMENT_HEADER_BYTES])
{
    memset(out_block, 0, SEGMENT_HEADER_BYTES);
    memcpy(out_block, magic, sizeof magic);
    put_le32(out_block + 8, SEGMENT_VERSION);
    memcpy(out_block + 16, header->owner, SEGMENT_OWNER_BYTES);
    put_le64(out_block + 32, header->sequence);
    put_le64(out_block + 40, header->size_bytes);
    put_le32(out_block + 48, header->footer_bytes);
    put_le32(out_block + 12, header_crc(out_block));
}

int segment_header_decode(const uint8_t block[SEGMENT_HEADER_BYTES],
                          struct segment_header *out_header)
{
    if (memcmp(block, magic, sizeof magic) != 0 || get_le32(block + 12) != header_crc(block)) {
        return STATUS_CORRUPT;
    }
    if (get_le32(block + 8) != SEGMENT_VERSION) {
        return STATUS_FOREIGN;
    }
    memcpy(out_header->owner, block + 16, SEGMENT_OWNER_BYTES);
    out_header->sequence = get_le64(block + 32);
    out_header->size_bytes = get_le64(block + 40);
    out_header->footer_bytes = get_le32(block + 48);
    if (out_header->size_bytes < SEGMENT_BYTES_MIN || out_header->size_bytes > SEGMENT_BYTES_MAX ||
        out_header->footer_bytes > out_header->size_bytes / 2 ||
        (out_header->footer_bytes != 0 && out_header->footer_bytes < SEGMENT_FOOTER_BYTES_MIN)) {
        return STATUS_CORRUPT;
    }
    return 0;
}

void segment_name_format(uint64_t sequence, char out_name[SEGMENT_NAME_BYTES])
{
    snprintf(out_name, SEGMENT_NAME_BYTES, "%016" PRIx64 ".seg", sequence);
}

bool segment_name_parse(const char *name, uint64_t *out_sequence)
{
    uint64_t sequence = 0;
    for (int i = 0; i < 16; i++) {
        const char c = name[i];
        if (c >= '0' && c <= '9') {
            sequence = sequence << 4 | (uint64_t)(c - '0');
        } else if (c >= 'a' && c <= 'f') {
            sequence = sequence << 4 | (uint64_t)(c - 'a' + 10);
        } else {
            return false;
        }
    }
    if (strcmp(name + 16, ".seg") != 0 || sequence == 0) {
        return false;
    }
    *out_sequence = sequence;
    return true;
}

uint32_t segment_salt(const uint8_t owner[SEGMENT_OWNER_BYTES], uint64_t sequence)
{
    uint8_t number[8];
    put_le64(number, sequence);
    return crc32c(crc32c(0, owner, SEGMENT_OWNER_BYTES), number, sizeof number);
}

void segment_frame_encode(const struct segment_frame *frame, const struct bytes *pieces,
                          uint32_t piece_count, uint32_t salt, uint64_t sequence, uint8_t *out)
{
    size_t size = 0;
    uint8_t *payload = out + SEGMENT_FRAME_HEADER_BYTES;
    for (uint32_t i = 0; i < piece_count; i++) {
        if (pieces[i].size > 0) {
            memcpy(payload + size, pieces[i].data, pieces[i].size);
            size += pieces[i].size;
        }
    }
    CHECK(size <= LIMIT_FRAME_BYTES);
    memset(payload + size, 0,
           (size_t)(segment_frame_bytes(size) - SEGMENT_FRAME_HEADER_BYTES) - size);

    put_le32(out + 4, (uint32_t)size);
    put_le64(out + 8, frame->index);
    put_le64(out + 16, frame->term);
    out[24] = frame->type;
    out[25] = 0;
    out[26] = (uint8_t)sequence;
    out[27] = (uint8_t)(sequence >> 8);
    put_le32(out + 28, frame->batch);
    put_le32(out, crc32c(salt, out + 4, SEGMENT_FRAME_HEADER_BYTES - 4 + size));
}

/* -- reading --------------------------------------------------------------------------------- */

void segment_reader_init(struct segment_reader *reader, struct disk *disk)
{
    *reader = (struct segment_reader){.disk = disk};
}

void segment_reader_deinit(struct segment_reader *reader)
{
    disk_close(reader->disk, reader->file);
    free(reader->buffer);
    *reader = (struct segment_reader){.disk = reader->disk};
}

/* Have bytes [offset, offset + size) of the file in the buffer, and as many behind them as it
 * takes. The file ends or `limit` comes before: *out_there is less than size. */
static int reader_fill(struct segment_reader *reader, uint32_t offset, uint32_t size,
                       uint32_t limit, uint32_t *out_there)
{
    const uint32_t end =
        (uint32_t)reader->header.size_bytes < limit ? (uint32_t)reader->header.size_bytes : limit;
    const uint32_t possible = offset < end ? end - offset : 0;
    const uint32_t wanted = size < possible ? size : possible;
    *out_there = wanted;
    if (offset >= reader->buffer_offset &&
        offset + wanted <= reader->buffer_offset + reader->buffer_size) {
        return 0;
    }
    if (reader->buffer_capacity < wanted ||
        (reader->buffer_capacity > LIMIT_LOG_READ_BYTES && wanted <= LIMIT_LOG_READ_BYTES)) {
        /* a large frame passed: the memory does not stay */
        const uint32_t capacity = wanted > LIMIT_LOG_READ_BYTES ? wanted : LIMIT_LOG_READ_BYTES;
        free(reader->buffer);
        reader->buffer_size = 0;
        reader->buffer_capacity = 0;
        reader->buffer = malloc(capacity);
        if (reader->buffer == NULL) {
            return -ENOMEM;
        }
        reader->buffer_capacity = capacity;
    }
    const uint32_t ask = possible < reader->buffer_capacity ? possible : reader->buffer_capacity;
    size_t got;
    reader->buffer_size = 0;
    const int status = disk_read(reader->disk, reader->file, offset, reader->buffer, ask, &got);
    if (status != 0) {
        return status;
    }
    reader->buffer_offset = offset;
    reader->buffer_size = (uint32_t)got;
    if (got < wanted) {
        *out_there = (uint32_t)got;
    }
    return 0;
}

int segment_reader_open(struct segment_reader *reader, const char *path, const uint8_t *owner,
                        uint64_t sequence)
{
    disk_close(reader->disk, reader->file);
    reader->file = NULL;
    reader->buffer_size = 0;
    reader->offset = 0;
    int status = disk_open(reader->disk, path, DISK_OPEN_READ, &reader->file);
    if (status != 0) {
        return status;
    }
    uint32_t there;
    reader->header.size_bytes = SEGMENT_BYTES_MAX; /* until the header says it */
    status = reader_fill(reader, 0, SEGMENT_HEADER_BYTES, SEGMENT_HEADER_BYTES, &there);
    if (status != 0) {
        return status;
    }
    if (there < SEGMENT_HEADER_BYTES) {
        return STATUS_CORRUPT;
    }
    struct segment_header header;
    status = segment_header_decode(reader->buffer, &header);
    if (status != 0) {
        return status;
    }
    uint64_t size_bytes;
    status = disk_size(reader->disk, reader->file, &size_bytes);
    if (status != 0) {
        return status;
    }
    if (header.sequence != sequence || size_bytes < header.size_bytes) {
        return STATUS_CORRUPT;
    }
    if (owner != NULL && memcmp(owner, header.owner, SEGMENT_OWNER_BYTES) != 0) {
        return STATUS_FOREIGN;
    }
    reader->header = header;
    reader->salt = segment_salt(header.owner, sequence);
    reader->offset = SEGMENT_HEADER_BYTES;
    return 0;
}

void segment_reader_seek(struct segment_reader *reader, uint32_t offset)
{
    CHECK(offset >= SEGMENT_HEADER_BYTES);
    CHECK(offset % 8 == 0);
    reader->offset = offset;
}

/* Whether a frame header could be one of this segment at this offset, by what costs nothing. */
static bool header_plausible(const struct segment_reader *reader, const uint8_t *header,
                             uint32_t offset)
{
    const uint32_t size = get_le32(header + 4);
    const uint32_t batch = get_le32(header + 28);
    return header[24] != LOG_TYPE_NONE && header[26] == (uint8_t)reader->header.sequence &&
           header[27] == (uint8_t)(reader->header.sequence >> 8) && size <= LIMIT_FRAME_BYTES &&
           batch >= SEGMENT_HEADER_BYTES && batch <= offset && batch % 8 == 0 &&
           segment_frame_bytes(size) <= reader->header.size_bytes - offset;
}

/* Lend the frame at an offset, if it is alive. */
static int frame_read(struct segment_reader *reader, uint32_t offset, uint32_t limit,
                      struct segment_frame *out_frame)
{
    uint32_t there;
    int status = reader_fill(reader, offset, SEGMENT_FRAME_HEADER_BYTES, limit, &there);
    if (status != 0) {
        return status;
    }
    if (there < SEGMENT_FRAME_HEADER_BYTES) {
        return SEGMENT_DEAD;
    }
    const uint8_t *header = reader->buffer + (offset - reader->buffer_offset);
    if (!header_plausible(reader, header, offset)) {
        return SEGMENT_DEAD;
    }
    const uint32_t size = get_le32(header + 4);
    const uint32_t disk_bytes = (uint32_t)segment_frame_bytes(size);
    status = reader_fill(reader, offset, disk_bytes, limit, &there);
    if (status != 0) {
        return status;
    }
    if (there < disk_bytes) {
        return SEGMENT_DEAD;
    }
    /* Whoever inspects a live log may find the file reused between two reads. */
    header = reader->buffer + (offset - reader->buffer_offset);
    if (get_le32(header + 4) != size ||
        get_le32(header) !=
            crc32c(reader->salt, header + 4, SEGMENT_FRAME_HEADER_BYTES - 4 + size)) {
        return SEGMENT_DEAD;
    }
    *out_frame = (struct segment_frame){
        .index = get_le64(header + 8),
        .term = get_le64(header + 16),
        .type = header[24],
        .flags = header[25],
        .batch = get_le32(header + 28),
        .offset = offset,
        .disk_bytes = disk_bytes,
        .payload = bytes_of(header + SEGMENT_FRAME_HEADER_BYTES, size),
    };
    return SEGMENT_FRAME;
}

int segment_reader_next(struct segment_reader *reader, uint32_t limit,
                        struct segment_frame *out_frame)
{
    CHECK(reader->offset >= SEGMENT_HEADER_BYTES);
    const int answer = frame_read(reader, reader->offset, limit, out_frame);
    if (answer == SEGMENT_FRAME) {
        reader->offset += out_frame->disk_bytes;
    }
    return answer;
}

/* From an offset whose frame header is in the buffer, the first one that could be a header, or the
 * last that is in the buffer as a whole. Almost everything it passes is zeros. */
static uint32_t reader_skip(const struct segment_reader *reader, uint32_t offset)
{
    const uint32_t end = reader->buffer_offset + reader->buffer_size;
    const uint8_t *header = reader->buffer + (offset - reader->buffer_offset);
    while (offset + 8 + SEGMENT_FRAME_HEADER_BYTES <= end &&
           !header_plausible(reader, header, offset)) {
        offset += 8;
        header += 8;
    }
    return offset;
}

int segment_reader_examine(struct segment_reader *reader, struct segment_tail *out_tail)
{
    *out_tail = (struct segment_tail){0};
    const uint32_t dead = reader->offset;
    const uint32_t end = (uint32_t)reader->header.size_bytes;
    for (uint32_t offset = dead; offset + SEGMENT_FRAME_HEADER_BYTES <= end; offset += 8) {
        uint32_t there;
        int answer = reader_fill(reader, offset, SEGMENT_FRAME_HEADER_BYTES, UINT32_MAX, &there);
        if (answer < 0) {
            return answer;
        }
        if (there < SEGMENT_FRAME_HEADER_BYTES) {
            break;
        }
        offset = reader_skip(reader, offset);
        if (!header_plausible(reader, reader->buffer + (offset - reader->buffer_offset), offset)) {
            continue;
        }
        if (offset == dead) {
            const uint8_t *header = reader->buffer + (offset - reader->buffer_offset);
            out_tail->torn_end = offset + (uint32_t)segment_frame_bytes(get_le32(header + 4));
        }
        struct segment_frame frame;
        answer = frame_read(reader, offset, UINT32_MAX, &frame);
        if (answer < 0) {
            return answer;
        }
        if (answer != SEGMENT_FRAME) {
            continue;
        }
        if (frame.batch > dead) {
            out_tail->rotten = true;
            out_tail->witness_offset = offset;
            return 0;
        }
        if (offset + frame.disk_bytes > out_tail->alive_end) {
            out_tail->alive_end = offset + frame.disk_bytes;
        }
    }
    if (out_tail->alive_end > out_tail->torn_end) {
        out_tail->torn_end = out_tail->alive_end;
    }
    return 0;
}
