/* Rows of some tables in memory, those that were read or written last.
 *
 * Two halves. What is found or comes new goes into the young one; when that is full it becomes the old one, and what was
 * the old one is forgotten. So a row that is used stays, whatever else passes through once, and nothing is ever taken
 * out: a row is looked for in the young half first, so an older version of it in the old one is never seen, and goes
 * before the newer.
 *
 * A half shares rows with the batch that wrote them. Where a key is looked for hangs on a secret of the process, and nothing
 * else does: no rows are told in the order of slots.
 */
#include "statemachine/store_body.h"

#include <stdlib.h>

#include "schemas/check.h"

/* Beside key and value: the row, two slots, malloc's word. */
#define CACHE_ROW_BYTES (sizeof(struct tree_row) + 2 * sizeof(struct hash_slot) + 8u)

static void half_clear(struct store_cache_half *half)
{
    for (uint64_t i = 0; i < half->rows.capacity; i++) {
        tree_row_release(half->rows.slots[i].item);
    }
    hash_table_clear(&half->rows, true);
    *half = (struct store_cache_half){0};
}

static size_t row_bytes(const struct tree_row *row)
{
    return CACHE_ROW_BYTES + row->key_size + row->value_size;
}

/* The newest version of a row. `row` is taken. */
static void cache_add(struct store_cache *cache, struct tree_row *row, uint64_t hash)
{
    struct store_cache_half *young = &cache->young;
    struct tree_row *before =
        hash_table_put(&young->rows, hash, tree_row_key(row), row, store_row_key);
    young->bytes += row_bytes(row) - (before == NULL ? 0 : row_bytes(before));
    tree_row_release(before);
    if (young->bytes > cache->bytes_max / 2) {
        half_clear(&cache->old);
        cache->old = *young;
        *young = (struct store_cache_half){0};
    }
}

static bool cache_has_table(const struct store_cache *cache, struct bytes key)
{
    return key.data[0] < STORE_TABLES && (cache->tables >> key.data[0] & 1u) != 0;
}

const struct tree_row *store_cache_find(struct store_cache *cache, struct bytes key, uint64_t hash)
{
    if (!cache_has_table(cache, key)) {
        return NULL;
    }
    struct tree_row *row = hash_table_find(&cache->young.rows, hash, key, store_row_key);
    if (row != NULL) {
        return row;
    }
    row = hash_table_find(&cache->old.rows, hash, key, store_row_key);
    if (row == NULL) {
        return NULL;
    }
    row->refs += 2; /* the young half's, and ours: it may become the old one now */
    cache_add(cache, row, hash);
    CHECK(row->refs > 1);
    row->refs--; /* a half holds it until the next change */
    return row;
}

void store_cache_put(struct store_cache *cache, struct bytes key, uint64_t hash, struct bytes value,
                     bool none)
{
    if (cache_has_table(cache, key)) {
        cache_add(cache, tree_row_create(key, value, none), hash);
    }
}

void store_cache_commit(struct store_cache *cache, const struct hash_table *batch)
{
    for (uint64_t i = 0; cache->tables != 0 && i < batch->capacity; i++) {
        struct tree_row *row = batch->slots[i].item;
        if (row != NULL && cache_has_table(cache, tree_row_key(row))) {
            row->refs++;
            cache_add(cache, row, batch->slots[i].hash);
        }
    }
}

void store_cache_clear(struct store_cache *cache)
{
    half_clear(&cache->young);
    half_clear(&cache->old);
}
