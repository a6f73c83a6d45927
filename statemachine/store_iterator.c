/* Reading in order: rows of the body and of the open batch as one.
 *
 * Rows and graves of the batch are merged into those of the body. The batch may change at any time,
 * so it is looked up by key at every move; the body's iterator stays where it was: on the first of
 * its rows not before `key` going forward, on the last not behind it going back. */
#include "statemachine/store_body.h"

#include <stdlib.h>

#include "schemas/check.h"

struct store_iterator {
    struct store_reader *reader;
    const struct store_body *body; /* of `base`: the reader's, or that of what is kept */
    void *base;
    bool base_on;
    bool forward;
    bool
        on; /* on a row: its key is below; its value is in `row`, or under `base` when row is NULL */
    struct tree_row *row; /* retained */
    uint64_t *value;      /* the value of a body's row that was not aligned */
    size_t value_capacity;
    struct bytes lower; /* the prefix, inclusive */
    struct bytes upper; /* exclusive */
    size_t key_size;
    uint8_t key[STORE_FULL_KEY_BYTES];
    uint8_t bounds[]; /* lower, then upper */
};

struct store_iterator *store_iterator_between(struct store_reader *reader, struct bytes lower,
                                              struct bytes upper, bool few)
{
    struct store_iterator *iterator = malloc(sizeof *iterator + lower.size + upper.size);
    CHECK(iterator != NULL);
    *iterator = (struct store_iterator){.reader = reader};
    memcpy(iterator->bounds, lower.data, lower.size);
    memcpy(iterator->bounds + lower.size, upper.data, upper.size);
    iterator->lower = bytes_of(iterator->bounds, lower.size);
    iterator->upper = bytes_of(iterator->bounds + lower.size, upper.size);
    struct store *store = reader->store;
    const bool kept = few && store_reader_kept(reader) != NULL &&
                      store_kept_prefix(store, iterator->lower, iterator->upper);
    iterator->body = kept ? &store_kept_body : store->body;
    iterator->base =
        iterator->body->iterate(store, reader->snapshot, iterator->lower, iterator->upper);
    atomic_fetch_add(&reader->iterators, 1);
    return iterator;
}

static struct store_iterator *store_iterator_open(struct store_reader *reader, unsigned table,
                                                  struct bytes prefix, bool few)
{
    uint8_t memory[2][STORE_FULL_KEY_BYTES];
    const struct bytes lower = store_full_key(memory[0], table, prefix);
    memcpy(memory[1], lower.data, lower.size);
    return store_iterator_between(reader, lower, store_key_behind(memory[1], lower.size), few);
}

struct store_iterator *store_iterate(struct store_reader *reader, unsigned table,
                                     struct bytes prefix)
{
    return store_iterator_open(reader, table, prefix, false);
}

struct store_iterator *store_iterate_few(struct store_reader *reader, unsigned table,
                                         struct bytes prefix)
{
    return store_iterator_open(reader, table, prefix, true);
}

void store_iterator_close(struct store_iterator *iterator)
{
    if (iterator == NULL) {
        return;
    }
    struct store_reader *reader = iterator->reader;
    iterator->body->iterator_close(reader->store, iterator->base);
    tree_row_release(iterator->row);
    free(iterator->value);
    free(iterator);
    atomic_fetch_sub(&reader->iterators, 1);
}

static const struct store_body *store_iterator_body(const struct store_iterator *iterator)
{
    return iterator->body;
}

static struct bytes store_iterator_full_key(const struct store_iterator *iterator)
{
    return bytes_of(iterator->key, iterator->key_size);
}

/* Stand on a row of the batch, or on the body's current one when `row` is NULL. */
static bool store_iterator_land(struct store_iterator *iterator, struct tree_row *row)
{
    const struct bytes key = row != NULL
                                 ? tree_row_key(row)
                                 : store_iterator_body(iterator)->iterator_key(iterator->base);
    CHECK(key.size <= sizeof iterator->key);
    memmove(iterator->key, key.data, key.size);
    iterator->key_size = key.size;
    if (row != NULL) {
        row->refs++;
    }
    tree_row_release(iterator->row);
    iterator->row = row;
    iterator->on = true;
    return true;
}

static bool store_iterator_end(struct store_iterator *iterator)
{
    iterator->on = false;
    return false;
}

/* Take the body's iterator out of a range that the open batch removes. */
static void store_iterator_leave_gone(struct store_iterator *iterator)
{
    const struct store_body *body = store_iterator_body(iterator);
    const struct tree *gone = store_reader_gone(iterator->reader);
    while (gone != NULL && iterator->base_on) {
        const struct tree_row *range = store_gone_find(gone, body->iterator_key(iterator->base));
        if (range == NULL) {
            break;
        }
        if (iterator->forward) {
            iterator->base_on = body->iterator_seek(iterator->base, tree_row_value(range));
            continue;
        }
        iterator->base_on = body->iterator_seek_back(iterator->base, tree_row_key(range));
        if (iterator->base_on &&
            bytes_equal(body->iterator_key(iterator->base), tree_row_key(range))) {
            iterator->base_on = body->iterator_previous(iterator->base);
        }
    }
}

/* The first row of both that is not before `from` (or behind it). The body's iterator is there. */
static bool store_iterator_settle(struct store_iterator *iterator, struct bytes from, bool beyond)
{
    const struct store_body *body = store_iterator_body(iterator);
    const struct tree *batch = store_reader_batch(iterator->reader);
    iterator->forward = true;
    for (;;) {
        store_iterator_leave_gone(iterator);
        struct tree_row *row = tree_seek(batch, from, beyond);
        if (row != NULL && bytes_compare(tree_row_key(row), iterator->upper) >= 0) {
            row = NULL;
        }
        if (row == NULL) {
            return iterator->base_on ? store_iterator_land(iterator, NULL)
                                     : store_iterator_end(iterator);
        }
        const int order = iterator->base_on
                              ? bytes_compare(tree_row_key(row), body->iterator_key(iterator->base))
                              : -1;
        if (order > 0) {
            return store_iterator_land(iterator, NULL);
        }
        if (!row->removed) {
            return store_iterator_land(iterator, row);
        }
        if (order == 0) { /* the grave is of this row */
            iterator->base_on = body->iterator_next(iterator->base);
        }
        from = tree_row_key(row);
        beyond = true;
    }
}

/* The mirror image. */
static bool store_iterator_settle_back(struct store_iterator *iterator, struct bytes from,
                                       bool beyond)
{
    const struct store_body *body = store_iterator_body(iterator);
    const struct tree *batch = store_reader_batch(iterator->reader);
    iterator->forward = false;
    for (;;) {
        store_iterator_leave_gone(iterator);
        struct tree_row *row = tree_seek_back(batch, from, beyond);
        if (row != NULL && bytes_compare(tree_row_key(row), iterator->lower) < 0) {
            row = NULL;
        }
        if (row == NULL) {
            return iterator->base_on ? store_iterator_land(iterator, NULL)
                                     : store_iterator_end(iterator);
        }
        const int order = iterator->base_on
                              ? bytes_compare(tree_row_key(row), body->iterator_key(iterator->base))
                              : 1;
        if (order < 0) {
            return store_iterator_land(iterator, NULL);
        }
        if (!row->removed) {
            return store_iterator_land(iterator, row);
        }
        if (order == 0) {
            iterator->base_on = body->iterator_previous(iterator->base);
        }
        from = tree_row_key(row);
        beyond = true;
    }
}

bool store_iterator_first(struct store_iterator *iterator)
{
    iterator->base_on =
        store_iterator_body(iterator)->iterator_seek(iterator->base, iterator->lower);
    return store_iterator_settle(iterator, iterator->lower, false);
}

bool store_iterator_last(struct store_iterator *iterator)
{
    iterator->base_on = store_iterator_body(iterator)->iterator_last(iterator->base);
    return store_iterator_settle_back(iterator, iterator->upper, true);
}

bool store_iterator_seek(struct store_iterator *iterator, struct bytes key)
{
    uint8_t memory[STORE_FULL_KEY_BYTES];
    const struct bytes full = store_full_key(memory, iterator->lower.data[0], key);
    if (bytes_compare(full, iterator->lower) < 0) {
        return store_iterator_first(iterator);
    }
    if (bytes_compare(full, iterator->upper) >= 0) {
        return store_iterator_end(iterator);
    }
    iterator->base_on = store_iterator_body(iterator)->iterator_seek(iterator->base, full);
    return store_iterator_settle(iterator, full, false);
}

bool store_iterator_seek_back(struct store_iterator *iterator, struct bytes key)
{
    uint8_t memory[STORE_FULL_KEY_BYTES];
    const struct bytes full = store_full_key(memory, iterator->lower.data[0], key);
    if (bytes_compare(full, iterator->upper) >= 0) {
        return store_iterator_last(iterator);
    }
    if (bytes_compare(full, iterator->lower) < 0) {
        return store_iterator_end(iterator);
    }
    iterator->base_on = store_iterator_body(iterator)->iterator_seek_back(iterator->base, full);
    return store_iterator_settle_back(iterator, full, false);
}

bool store_iterator_next(struct store_iterator *iterator)
{
    CHECK(iterator->on);
    const struct store_body *body = store_iterator_body(iterator);
    const struct bytes key = store_iterator_full_key(iterator);
    if (!iterator->forward) {
        iterator->base_on = body->iterator_seek(iterator->base, key);
    }
    if (iterator->base_on && bytes_equal(body->iterator_key(iterator->base), key)) {
        iterator->base_on = body->iterator_next(iterator->base);
    }
    return store_iterator_settle(iterator, key, true);
}

bool store_iterator_previous(struct store_iterator *iterator)
{
    CHECK(iterator->on);
    const struct store_body *body = store_iterator_body(iterator);
    const struct bytes key = store_iterator_full_key(iterator);
    if (iterator->forward) {
        iterator->base_on = body->iterator_seek_back(iterator->base, key);
    }
    if (iterator->base_on && bytes_equal(body->iterator_key(iterator->base), key)) {
        iterator->base_on = body->iterator_previous(iterator->base);
    }
    return store_iterator_settle_back(iterator, key, true);
}

int store_iterator_status(const struct store_iterator *iterator)
{
    return store_iterator_body(iterator)->iterator_status(iterator->reader->store, iterator->base);
}

struct bytes store_iterator_key(const struct store_iterator *iterator)
{
    CHECK(iterator->on);
    return bytes_of(iterator->key + 1, iterator->key_size - 1);
}

struct bytes store_iterator_value(struct store_iterator *iterator)
{
    CHECK(iterator->on);
    if (iterator->row != NULL) {
        return tree_row_value(iterator->row);
    }
    const struct bytes value = store_iterator_body(iterator)->iterator_value(iterator->base);
    if (value.size == 0 || ((uintptr_t)value.data & 7u) == 0) {
        return value;
    }
    if (value.size > iterator->value_capacity) {
        free(iterator->value);
        iterator->value = malloc(value.size);
        CHECK(iterator->value != NULL);
        iterator->value_capacity = value.size;
    }
    memcpy(iterator->value, value.data, value.size);
    return bytes_of(iterator->value, value.size);
}
