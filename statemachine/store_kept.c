/* What a long batch has read of the body, so that it reads nothing twice.
 *
 * While a batch is open nobody writes to the body, so a row that was read is the row, and one that was not there is not
 * there, until the batch ends. Then all is forgotten.
 */
#include "statemachine/store_body.h"

#include <stdlib.h>

#include "schemas/check.h"

const struct tree_row *store_kept_find(const struct store_kept *kept, struct bytes key,
                                       uint64_t hash)
{
    return hash_table_find(&kept->rows, hash, key, store_row_key);
}

/* NULL: there is no room. */
static struct tree_row *kept_add(struct store_kept *kept, struct hash_table *rows, struct bytes key,
                                 uint64_t hash, struct bytes value, bool none)
{
    const size_t bytes = key.size + value.size;
    if (kept->bytes + bytes > kept->bytes_max) {
        return NULL;
    }
    struct tree_row *row = tree_row_create(key, value, none);
    CHECK(hash_table_put(rows, hash, key, row, store_row_key) == NULL);
    kept->bytes += bytes;
    return row;
}

void store_kept_put(struct store_kept *kept, struct bytes key, uint64_t hash, struct bytes value,
                    bool none)
{
    (void)kept_add(kept, &kept->rows, key, hash, value, none);
}

bool store_kept_prefix(struct store *store, struct bytes lower, struct bytes upper)
{
    struct store_kept *kept = &store->kept;
    const struct store_body *body = store->body;
    const uint64_t lower_hash = hash_of(&store->secret, lower);
    if (hash_table_find(&kept->prefixes, lower_hash, lower, store_row_key) != NULL) {
        return true;
    }
    void *iterator = body->iterate(store, NULL, lower, upper);
    bool whole = true;
    for (bool on = body->iterator_seek(iterator, lower); on && whole;
         on = body->iterator_next(iterator)) {
        const struct bytes key = body->iterator_key(iterator);
        const uint64_t hash = hash_of(&store->secret, key);
        struct tree_row *row = hash_table_find(&kept->rows, hash, key, store_row_key);
        if (row == NULL) {
            row = kept_add(kept, &kept->rows, key, hash, body->iterator_value(iterator), false);
        }
        whole = row != NULL;
        if (whole) {
            kept->ordered = tree_put_row(kept->ordered, row);
        }
    }
    whole = whole && body->iterator_status(store, iterator) == STATUS_OK;
    body->iterator_close(store, iterator);
    return whole &&
           kept_add(kept, &kept->prefixes, lower, lower_hash, (struct bytes){0}, false) != NULL;
}

static void kept_rows_clear(struct hash_table *rows)
{
    for (uint64_t i = 0; i < rows->capacity; i++) {
        tree_row_release(rows->slots[i].item);
    }
    hash_table_clear(rows, false);
}

void store_kept_clear(struct store_kept *kept)
{
    tree_release(kept->ordered);
    kept->ordered = NULL;
    kept_rows_clear(&kept->rows);
    kept_rows_clear(&kept->prefixes);
    kept->bytes = 0;
}

/* -- iterators over a prefix that is kept whole ---------------------------------------------------- */

struct store_kept_iterator {
    struct tree *rows; /* retained: what is kept later is of other prefixes */
    struct tree_row *row;
    struct bytes lower;
    struct bytes upper;
};

static void *store_kept_iterate(struct store *store, void *snapshot, struct bytes lower,
                                struct bytes upper)
{
    CHECK(snapshot == NULL);
    struct store_kept_iterator *iterator = malloc(sizeof *iterator);
    CHECK(iterator != NULL);
    *iterator = (struct store_kept_iterator){
        .rows = tree_retain(store->kept.ordered), .lower = lower, .upper = upper};
    return iterator;
}

static void store_kept_iterator_close(struct store *store, void *context)
{
    (void)store;
    struct store_kept_iterator *iterator = context;
    tree_release(iterator->rows);
    free(iterator);
}

/* On this row, unless it is one of another prefix. */
static bool store_kept_iterator_on(struct store_kept_iterator *iterator, struct tree_row *row)
{
    const bool on = row != NULL && bytes_compare(tree_row_key(row), iterator->lower) >= 0 &&
                    bytes_compare(tree_row_key(row), iterator->upper) < 0;
    iterator->row = on ? row : NULL;
    return on;
}

static bool store_kept_iterator_seek(void *context, struct bytes key)
{
    struct store_kept_iterator *iterator = context;
    return store_kept_iterator_on(iterator, tree_seek(iterator->rows, key, false));
}

static bool store_kept_iterator_seek_back(void *context, struct bytes key)
{
    struct store_kept_iterator *iterator = context;
    return store_kept_iterator_on(iterator, tree_seek_back(iterator->rows, key, false));
}

static bool store_kept_iterator_last(void *context)
{
    struct store_kept_iterator *iterator = context;
    return store_kept_iterator_on(iterator, tree_seek_back(iterator->rows, iterator->upper, true));
}

static bool store_kept_iterator_next(void *context)
{
    struct store_kept_iterator *iterator = context;
    CHECK(iterator->row != NULL);
    return store_kept_iterator_on(iterator,
                                  tree_seek(iterator->rows, tree_row_key(iterator->row), true));
}

static bool store_kept_iterator_previous(void *context)
{
    struct store_kept_iterator *iterator = context;
    CHECK(iterator->row != NULL);
    return store_kept_iterator_on(
        iterator, tree_seek_back(iterator->rows, tree_row_key(iterator->row), true));
}

static int store_kept_iterator_status(struct store *store, void *context)
{
    (void)store;
    (void)context;
    return STATUS_OK;
}

static struct bytes store_kept_iterator_key(void *context)
{
    const struct store_kept_iterator *iterator = context;
    return tree_row_key(iterator->row);
}

static struct bytes store_kept_iterator_value(void *context)
{
    const struct store_kept_iterator *iterator = context;
    return tree_row_value(iterator->row);
}

const struct store_body store_kept_body = {
    .iterate = store_kept_iterate,
    .iterator_close = store_kept_iterator_close,
    .iterator_seek = store_kept_iterator_seek,
    .iterator_seek_back = store_kept_iterator_seek_back,
    .iterator_last = store_kept_iterator_last,
    .iterator_next = store_kept_iterator_next,
    .iterator_previous = store_kept_iterator_previous,
    .iterator_status = store_kept_iterator_status,
    .iterator_key = store_kept_iterator_key,
    .iterator_value = store_kept_iterator_value,
};
