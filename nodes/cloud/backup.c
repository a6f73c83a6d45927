#include "nodes/cloud/backup.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "log/crc32c.h"
#include "log/log.h"
#include "schemas/check.h"

#define MAGIC_RANGE UINT32_C(0x4752424b) /* "KBRG" */
#define MAGIC_TAIL  UINT32_C(0x4c54424b) /* "KBTL" */

static const char head_magic[8] = {'K', 'E', 'L', 'P', 'B', 'A', 'C', 'K'};

/* -- writing --------------------------------------------------------------------------------------- */

int backup_head_read(struct store_reader *reader, const char *software, struct backup_head *out)
{
    struct machine_meta meta;
    *out = (struct backup_head){.rows_format = MACHINE_FORMAT};
    const int status = machine_meta_get(reader, &meta);
    if (status != STATUS_OK) {
        return status;
    }
    out->index = store_reader_position(reader);
    if (out->index == 0 || meta.cluster[0] == '\0') {
        return STATUS_BEHIND;
    }
    snprintf(out->cluster, sizeof out->cluster, "%s", meta.cluster);
    snprintf(out->software, sizeof out->software, "%s", software);
    out->epoch = meta.epoch;
    out->version = meta.version;
    return STATUS_OK;
}

void backup_head_encode(struct backup_sums *sums, const struct backup_head *head,
                        uint8_t out[BACKUP_HEAD_BYTES])
{
    memset(out, 0, BACKUP_HEAD_BYTES);
    memcpy(out, head_magic, sizeof head_magic);
    put_le32(out + 8, BACKUP_FORMAT);
    put_le32(out + 16, head->rows_format);
    put_le64(out + 24, head->epoch);
    put_le64(out + 32, head->index);
    put_le64(out + 40, head->term);
    put_le64(out + 48, head->version);
    put_le64(out + 56, (uint64_t)head->time_ms);
    put_le64(out + 64, head->rows_about);
    memcpy(out + 72, head->cluster, BACKUP_CLUSTER_BYTES);
    memcpy(out + 72 + BACKUP_CLUSTER_BYTES, head->software, BACKUP_SOFTWARE_BYTES);
    put_le32(out + 12, crc32c(0, out + 16, BACKUP_HEAD_BYTES - 16));
    *sums = (struct backup_sums){.bytes = BACKUP_HEAD_BYTES};
}

/* One more range. */
static void sums_add(struct backup_sums *sums, const struct backup_head *head, struct bytes from,
                     struct bytes end, struct tag rows, uint64_t row_count, size_t bytes)
{
    const struct state_range range = {
        .position = head->index, .format = head->rows_format, .to = end};
    const struct tag seal = transfer_seal(from, end, &range, rows);
    sums->digest.low = sums->digest.low * UINT64_C(0x9e3779b97f4a7c15) + seal.low;
    sums->digest.high = sums->digest.high * UINT64_C(0xbf58476d1ce4e5b9) + seal.high;
    sums->ranges++;
    sums->rows += row_count;
    sums->bytes += bytes;
}

size_t backup_range_encode(struct backup_sums *sums, const struct backup_head *head,
                           const struct transfer_place *from, const struct transfer_place *end,
                           const struct transfer_rows *rows, uint8_t *out)
{
    const size_t size = BACKUP_RANGE_BYTES + end->size;
    put_le32(out, MAGIC_RANGE);
    put_le32(out + 8, (uint32_t)rows->size);
    put_le32(out + 12, end->size);
    put_le64(out + 16, rows->count);
    put_le64(out + 24, rows->digest.low);
    put_le64(out + 32, rows->digest.high);
    memcpy(out + BACKUP_RANGE_BYTES, end->bytes, end->size);
    put_le32(out + 4, crc32c(crc32c(0, out + 8, size - 8), rows->data, rows->size));
    sums_add(sums, head, transfer_place_bytes(from), transfer_place_bytes(end), rows->digest,
             rows->count, size + rows->size);
    return size;
}

void backup_tail_encode(const struct backup_sums *sums, uint8_t out[BACKUP_TAIL_BYTES])
{
    put_le32(out, MAGIC_TAIL);
    put_le64(out + 8, sums->ranges);
    put_le64(out + 16, sums->rows);
    put_le64(out + 24, sums->bytes);
    put_le64(out + 32, sums->digest.low);
    put_le64(out + 40, sums->digest.high);
    put_le32(out + 4, crc32c(0, out + 8, BACKUP_TAIL_BYTES - 8));
}

/* -- reading ---------------------------------------------------------------------------------------- */

static int reader_damaged(struct backup_reader *reader, const char *what)
{
    snprintf(reader->reason, sizeof reader->reason, "%s, at byte %" PRIu64, what,
             reader->sums.bytes);
    return STATUS_CORRUPT;
}

/* Exactly so many bytes.
 *   answers   0; STATUS_CORRUPT: the file ends before; -errno */
static int reader_read(struct backup_reader *reader, uint8_t *out, size_t size)
{
    errno = 0;
    if (size == 0 || fread(out, 1, size, reader->file) == size) {
        return 0;
    }
    if (ferror(reader->file) != 0) {
        const int status = errno == 0 ? -EIO : -errno;
        snprintf(reader->reason, sizeof reader->reason, "it cannot be read: %s",
                 status_text(status));
        return status;
    }
    return reader_damaged(reader, "it is cut off: the end is missing");
}

static void text_take(char *out, const uint8_t *from, size_t size)
{
    memcpy(out, from, size);
    out[size - 1] = '\0';
}

int backup_open(struct backup_reader *reader, FILE *file)
{
    uint8_t bytes[BACKUP_HEAD_BYTES];
    *reader = (struct backup_reader){.file = file};
    int status = reader_read(reader, bytes, sizeof head_magic);
    if (status < 0 && status != STATUS_CORRUPT) {
        return status;
    }
    if (status != 0 || memcmp(bytes, head_magic, sizeof head_magic) != 0) {
        snprintf(reader->reason, sizeof reader->reason,
                 "it is no backup of `kelp cluster backup`: it does not begin like one");
        return STATUS_FOREIGN;
    }
    status = reader_read(reader, bytes + 8, BACKUP_HEAD_BYTES - 8);
    if (status != 0) {
        return status;
    }
    struct backup_head *head = &reader->head;
    head->rows_format = get_le32(bytes + 16);
    if (get_le32(bytes + 8) > BACKUP_FORMAT || head->rows_format > MACHINE_FORMAT) {
        snprintf(reader->reason, sizeof reader->reason,
                 "it was made by a newer release: take a kelp of that release");
        return STATUS_FOREIGN;
    }
    if (get_le32(bytes + 8) == 0 ||
        get_le32(bytes + 12) != crc32c(0, bytes + 16, BACKUP_HEAD_BYTES - 16)) {
        return reader_damaged(reader, "its head is damaged");
    }
    head->epoch = get_le64(bytes + 24);
    head->index = get_le64(bytes + 32);
    head->term = get_le64(bytes + 40);
    head->version = get_le64(bytes + 48);
    head->time_ms = (int64_t)get_le64(bytes + 56);
    head->rows_about = get_le64(bytes + 64);
    text_take(head->cluster, bytes + 72, BACKUP_CLUSTER_BYTES);
    text_take(head->software, bytes + 72 + BACKUP_CLUSTER_BYTES, BACKUP_SOFTWARE_BYTES);
    if (head->index == 0 || head->index >= LOG_INDEX_MAX) {
        return reader_damaged(reader, "its head makes no sense");
    }
    reader->sums.bytes = BACKUP_HEAD_BYTES;
    return 0;
}

/* The tail has to say what was read, and be the end. */
static int reader_end(struct backup_reader *reader, const uint8_t *begin)
{
    uint8_t tail[BACKUP_TAIL_BYTES];
    const struct backup_sums *sums = &reader->sums;
    memcpy(tail, begin, BACKUP_RANGE_BYTES);
    const int status =
        reader_read(reader, tail + BACKUP_RANGE_BYTES, BACKUP_TAIL_BYTES - BACKUP_RANGE_BYTES);
    if (status != 0) {
        return status;
    }
    if (get_le32(tail + 4) != crc32c(0, tail + 8, BACKUP_TAIL_BYTES - 8)) {
        return reader_damaged(reader, "its tail is damaged");
    }
    const struct tag digest = {.low = get_le64(tail + 32), .high = get_le64(tail + 40)};
    if (!reader->last || get_le64(tail + 8) != sums->ranges || get_le64(tail + 16) != sums->rows ||
        get_le64(tail + 24) != sums->bytes || !tag_equal(digest, sums->digest)) {
        return reader_damaged(reader, "its tail tells of other rows than there are");
    }
    return fgetc(reader->file) == EOF
               ? BACKUP_END
               : reader_damaged(reader, "there is something behind its tail");
}

int backup_next(struct backup_reader *reader, struct bytes *out_rows)
{
    uint8_t head[BACKUP_RANGE_BYTES];
    int status = reader_read(reader, head, sizeof head);
    if (status != 0) {
        return status;
    }
    if (get_le32(head) == MAGIC_TAIL) {
        return reader_end(reader, head);
    }
    const size_t rows_size = get_le32(head + 8);
    const size_t place_size = get_le32(head + 12);
    if (get_le32(head) != MAGIC_RANGE || reader->last || place_size > LIMIT_STORE_KEY_BYTES ||
        rows_size > BACKUP_ROWS_BYTES_MAX) {
        return reader_damaged(reader, "a range of rows is damaged");
    }
    if (reader->capacity < place_size + rows_size) {
        reader->capacity = place_size + rows_size;
        reader->memory = realloc(reader->memory, reader->capacity);
        CHECK(reader->memory != NULL);
    }
    status = reader_read(reader, reader->memory, place_size + rows_size);
    if (status != 0) {
        return status;
    }
    const struct bytes end = bytes_of(reader->memory, place_size);
    const struct bytes rows = bytes_of(reader->memory + place_size, rows_size);
    const struct bytes from = transfer_place_bytes(&reader->place);
    const uint32_t crc = crc32c(0, head + 8, sizeof head - 8);
    struct tag digest;
    uint64_t count;
    if (get_le32(head + 4) != crc32c(crc, reader->memory, place_size + rows_size) ||
        (end.size > 0 && bytes_compare(end, from) <= 0) ||
        transfer_rows_check(rows, from, end, &digest, &count) != STATUS_OK ||
        count != get_le64(head + 16) ||
        !tag_equal(digest, (struct tag){.low = get_le64(head + 24), .high = get_le64(head + 32)})) {
        return reader_damaged(reader, "a range of rows is damaged");
    }
    sums_add(&reader->sums, &reader->head, from, end, digest, count,
             sizeof head + place_size + rows_size);
    reader->last = place_size == 0;
    transfer_place_set(&reader->place, end);
    *out_rows = rows;
    return 0;
}

void backup_close(struct backup_reader *reader)
{
    free(reader->memory);
    reader->memory = NULL;
}
