/* Rows of all tables as one ordered run, for both ends of a transfer. */
#include <stdlib.h>

#include "nodes/cloud/transfer.h"
#include "schemas/check.h"

#define ROW_HEAD_BYTES  8u
#define ROW_PLACE_BYTES (1u + LIMIT_STORE_KEY_BYTES)

void transfer_place_set(struct transfer_place *place, struct bytes bytes)
{
    CHECK(bytes.size <= sizeof place->bytes);
    if (bytes.size > 0) {
        memmove(place->bytes, bytes.data, bytes.size);
    }
    place->size = (uint16_t)bytes.size;
}

/* -- digest ------------------------------------------------------------------------------------ */

/* Two lanes that see the same words and never meet. Each step is one to one in the word, so rows that
 * differ in one word differ in both. */
static void digest_word(struct tag *digest, uint64_t word)
{
    digest->low = (digest->low ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    digest->low ^= digest->low >> 32;
    digest->high = (digest->high + word) * UINT64_C(0xbf58476d1ce4e5b9);
    digest->high ^= digest->high >> 29;
}

static void digest_bytes(struct tag *digest, struct bytes bytes)
{
    while (bytes.size >= 8) {
        digest_word(digest, get_le64(bytes.data));
        bytes = bytes_of(bytes.data + 8, bytes.size - 8);
    }
    uint8_t rest[8] = {0};
    if (bytes.size > 0) {
        memcpy(rest, bytes.data, bytes.size);
        digest_word(digest, get_le64(rest));
    }
}

static void digest_row(struct tag *digest, struct bytes place, struct bytes value)
{
    digest_word(digest, (uint64_t)place.size << 32 | value.size);
    digest_bytes(digest, place);
    digest_bytes(digest, value);
}

static const struct tag digest_none = {.low = UINT64_C(0x6b656c7001),
                                       .high = UINT64_C(0x726f777301)};

struct tag transfer_seal(struct bytes from, struct bytes to, const struct state_range *range,
                         struct tag rows)
{
    struct tag seal = digest_none;
    digest_word(&seal, range->position);
    digest_word(&seal, (uint64_t)range->format << 1 | range->same);
    digest_row(&seal, from, to);
    digest_row(&seal, range->to, bytes_of(NULL, 0));
    digest_word(&seal, rows.low);
    digest_word(&seal, rows.high);
    return seal;
}

/* -- a walk over all tables -------------------------------------------------------------------- */

struct rows_walk {
    struct store_reader *reader;
    struct store_iterator *iterator;
    struct bytes to; /* borrowed; empty: to the end */
    unsigned table;
    int status;
    size_t place_size;
    uint8_t place[ROW_PLACE_BYTES]; /* of the current row */
};

/* Stand on the first row of this table or a later one. `on`: the iterator is on a row already. */
static bool walk_settle(struct rows_walk *walk, bool on)
{
    while (!on) {
        walk->status = store_iterator_status(walk->iterator);
        store_iterator_close(walk->iterator);
        walk->iterator = NULL;
        walk->table++;
        if (walk->status != STATUS_OK || walk->table >= MACHINE_TABLES) {
            return false;
        }
        walk->iterator = store_iterate(walk->reader, walk->table, (struct bytes){0});
        on = store_iterator_first(walk->iterator);
    }
    const struct bytes key = store_iterator_key(walk->iterator);
    walk->place[0] = (uint8_t)walk->table;
    if (key.size > 0) {
        memcpy(walk->place + 1, key.data, key.size);
    }
    walk->place_size = 1 + key.size;
    return walk->to.size == 0 ||
           bytes_compare(bytes_of(walk->place, walk->place_size), walk->to) < 0;
}

static bool walk_first(struct rows_walk *walk, struct store_reader *reader, struct bytes from,
                       struct bytes to)
{
    *walk = (struct rows_walk){.reader = reader, .to = to};
    walk->table = from.size == 0 ? 0 : from.data[0];
    if (walk->table >= MACHINE_TABLES) {
        return false;
    }
    walk->iterator = store_iterate(reader, walk->table, (struct bytes){0});
    return walk_settle(
        walk, from.size <= 1
                  ? store_iterator_first(walk->iterator)
                  : store_iterator_seek(walk->iterator, bytes_of(from.data + 1, from.size - 1)));
}

static bool walk_next(struct rows_walk *walk)
{
    return walk_settle(walk, store_iterator_next(walk->iterator));
}

static struct bytes walk_place(const struct rows_walk *walk)
{
    return bytes_of(walk->place, walk->place_size);
}

static int walk_end(struct rows_walk *walk)
{
    store_iterator_close(walk->iterator);
    return walk->status;
}

/* -- reading ----------------------------------------------------------------------------------- */

static void rows_append(struct transfer_rows *rows, struct bytes place, struct bytes value)
{
    const size_t size = ROW_HEAD_BYTES + place.size + value.size;
    if (rows->capacity - rows->size < size) {
        size_t capacity = rows->capacity == 0 ? LIMIT_TRANSFER_BYTES : rows->capacity;
        while (capacity - rows->size < size) {
            capacity *= 2;
        }
        rows->data = realloc(rows->data, capacity);
        CHECK(rows->data != NULL);
        rows->capacity = capacity;
    }
    uint8_t *row = rows->data + rows->size;
    put_le32(row, (uint32_t)place.size);
    put_le32(row + 4, (uint32_t)value.size);
    memcpy(row + ROW_HEAD_BYTES, place.data, place.size);
    if (value.size > 0) {
        memcpy(row + ROW_HEAD_BYTES + place.size, value.data, value.size);
    }
    rows->size += size;
    rows->count++;
    digest_row(&rows->digest, place, value);
}

/* Whether a range may end before this row: then `out` is where. A place is one byte shorter than the
 * longest row's, so it may have to be cut, and must still be behind the row before. */
static bool rows_end_before(struct bytes place, struct bytes last, struct transfer_place *out)
{
    const struct bytes cut = bytes_of(
        place.data, place.size < LIMIT_STORE_KEY_BYTES ? place.size : LIMIT_STORE_KEY_BYTES);
    if (bytes_compare(cut, last) <= 0) {
        return false;
    }
    transfer_place_set(out, cut);
    return true;
}

int transfer_rows_collect(struct store_reader *reader, struct bytes from, struct bytes to,
                          size_t max_bytes, struct transfer_rows *out,
                          struct transfer_place *out_end)
{
    struct rows_walk walk;
    uint8_t last_bytes[ROW_PLACE_BYTES];
    struct bytes last = {0};
    int status = STATUS_OK;
    out->size = 0;
    out->count = 0;
    out->digest = digest_none;
    transfer_place_set(out_end, to);
    for (bool on = walk_first(&walk, reader, from, to); on; on = walk_next(&walk)) {
        const struct bytes place = walk_place(&walk);
        const struct bytes value = store_iterator_value(walk.iterator);
        const size_t size = out->size + ROW_HEAD_BYTES + place.size + value.size;
        if (out->count > 0 && size > max_bytes && rows_end_before(place, last, out_end)) {
            break;
        }
        if (out->count > 0 && size > LIMIT_FRAME_BYTES) {
            status = STATUS_TOO_LARGE;
            break;
        }
        rows_append(out, place, value);
        memcpy(last_bytes, place.data, place.size);
        last = bytes_of(last_bytes, place.size);
    }
    const int read = walk_end(&walk);
    return read != STATUS_OK ? read : status;
}

int transfer_rows_measure(struct store_reader *reader, struct bytes from, struct bytes to,
                          struct tag *out_digest, uint64_t *out_count)
{
    struct rows_walk walk;
    *out_digest = digest_none;
    *out_count = 0;
    for (bool on = walk_first(&walk, reader, from, to); on; on = walk_next(&walk)) {
        digest_row(out_digest, walk_place(&walk), store_iterator_value(walk.iterator));
        (*out_count)++;
    }
    return walk_end(&walk);
}

/* -- writing ----------------------------------------------------------------------------------- */

/* One row off the front. false: these are no rows. */
static bool rows_pop(struct bytes *rows, struct bytes *out_place, struct bytes *out_value)
{
    if (rows->size < ROW_HEAD_BYTES) {
        return false;
    }
    const size_t place_size = get_le32(rows->data);
    const size_t value_size = get_le32(rows->data + 4);
    if (place_size == 0 || place_size > ROW_PLACE_BYTES || value_size > LIMIT_FRAME_BYTES ||
        rows->size - ROW_HEAD_BYTES < place_size + value_size) {
        return false;
    }
    *out_place = bytes_of(rows->data + ROW_HEAD_BYTES, place_size);
    *out_value = bytes_of(rows->data + ROW_HEAD_BYTES + place_size, value_size);
    const size_t size = ROW_HEAD_BYTES + place_size + value_size;
    *rows = bytes_of(rows->data + size, rows->size - size);
    return true;
}

int transfer_rows_check(struct bytes rows, struct bytes from, struct bytes to,
                        struct tag *out_digest, uint64_t *out_count)
{
    struct bytes last = {0};
    *out_digest = digest_none;
    *out_count = 0;
    while (rows.size > 0) {
        struct bytes place;
        struct bytes value;
        if (!rows_pop(&rows, &place, &value) || place.data[0] >= MACHINE_TABLES ||
            bytes_compare(place, from) < 0 || (to.size > 0 && bytes_compare(place, to) >= 0) ||
            (last.size > 0 && bytes_compare(place, last) <= 0)) {
            return STATUS_MALFORMED;
        }
        digest_row(out_digest, place, value);
        (*out_count)++;
        last = place;
    }
    return STATUS_OK;
}

void transfer_rows_put(struct store *store, struct bytes rows)
{
    while (rows.size > 0) {
        struct bytes place;
        struct bytes value;
        CHECK(rows_pop(&rows, &place, &value));
        store_put(store, place.data[0], bytes_of(place.data + 1, place.size - 1), value);
    }
}

int transfer_rows_remove(struct store *store, struct bytes from, struct bytes to)
{
    struct rows_walk walk;
    CHECK(store_in_batch(store));
    for (bool on = walk_first(&walk, store_live(store), from, to); on; on = walk_next(&walk)) {
        const struct bytes place = walk_place(&walk);
        store_remove(store, place.data[0], bytes_of(place.data + 1, place.size - 1));
    }
    return walk_end(&walk);
}
