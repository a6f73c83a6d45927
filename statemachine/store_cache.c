/* Rows of some tables in memory, those that were read or written last.
 *
 * Two halves. What is found or comes new goes into the young one; when that is full it becomes the old one, and what was
 * the old one is forgotten. So a row that is used stays, whatever else passes through once, and nothing is ever taken
 * out: a row is looked for in the young half first, so an older version of it in the old one is never seen, and goes
 * before the newer.
 *
 * A half is a table with open addressing whose slots share rows with the batch that wrote them. Where a key is looked for
 * hangs on a secret of the process, and nothing else does: no rows are told in the order of slots.
 */
#include "statemachine/store_body.h"

#include <stdlib.h>

#include "schemas/check.h"

#define CACHE_SLOTS_FIRST 256u
#define CACHE_ROW_BYTES   (sizeof(struct tree_row) + 2 * sizeof(struct tree_row *) + 16u)

static_assert((CACHE_SLOTS_FIRST & (CACHE_SLOTS_FIRST - 1)) == 0, "a hash is masked");

/* The slot of this key, or the empty one where it belongs. NULL: there are no slots. */
static struct tree_row **half_slot(const struct store_cache *cache,
                                   const struct store_cache_half *half, struct bytes key)
{
    if (half->capacity == 0) {
        return NULL;
    }
    for (uint64_t at = hash_of(&cache->secret, key);; at++) {
        struct tree_row **slot = &half->slots[at & (half->capacity - 1)];
        if (*slot == NULL || bytes_equal(tree_row_key(*slot), key)) {
            return slot;
        }
    }
}

static void half_clear(struct store_cache_half *half)
{
    for (uint32_t i = 0; i < half->capacity; i++) {
        tree_row_release(half->slots[i]);
    }
    free(half->slots);
    *half = (struct store_cache_half){0};
}

/* At most half of the slots are taken. */
static void half_grow(const struct store_cache *cache, struct store_cache_half *half)
{
    if (2 * (half->count + 1) <= half->capacity) {
        return;
    }
    const struct store_cache_half before = *half;
    half->capacity = before.capacity == 0 ? CACHE_SLOTS_FIRST : 2 * before.capacity;
    half->slots = calloc(half->capacity, sizeof *half->slots);
    CHECK(half->slots != NULL);
    for (uint32_t i = 0; i < before.capacity; i++) {
        if (before.slots[i] != NULL) {
            *half_slot(cache, half, tree_row_key(before.slots[i])) = before.slots[i];
        }
    }
    free(before.slots);
}

static size_t row_bytes(const struct tree_row *row)
{
    return CACHE_ROW_BYTES + row->key_size + row->value_size;
}

/* The newest version of a row. `row` is taken. */
static void cache_add(struct store_cache *cache, struct tree_row *row)
{
    struct store_cache_half *young = &cache->young;
    half_grow(cache, young);
    struct tree_row **slot = half_slot(cache, young, tree_row_key(row));
    if (*slot == NULL) {
        young->count++;
    } else {
        young->bytes -= row_bytes(*slot);
        tree_row_release(*slot);
    }
    *slot = row;
    young->bytes += row_bytes(row);
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

const struct tree_row *store_cache_find(struct store_cache *cache, struct bytes key)
{
    if (!cache_has_table(cache, key)) {
        return NULL;
    }
    struct tree_row **slot = half_slot(cache, &cache->young, key);
    if (slot != NULL && *slot != NULL) {
        return *slot;
    }
    slot = half_slot(cache, &cache->old, key);
    if (slot == NULL || *slot == NULL) {
        return NULL;
    }
    struct tree_row *row = *slot;
    row->refs += 2; /* the young half's, and ours: it may become the old one now */
    cache_add(cache, row);
    CHECK(row->refs > 1);
    row->refs--; /* a half holds it until the next change */
    return row;
}

void store_cache_put(struct store_cache *cache, struct bytes key, struct bytes value, bool none)
{
    if (cache_has_table(cache, key)) {
        cache_add(cache, tree_row_create(key, value, none));
    }
}

static void cache_on_row(void *context, struct tree_row *row)
{
    struct store_cache *cache = context;
    if (cache_has_table(cache, tree_row_key(row))) {
        row->refs++;
        cache_add(cache, row);
    }
}

void store_cache_commit(struct store_cache *cache, const struct tree *batch)
{
    if (cache->tables != 0) {
        tree_walk(batch, cache_on_row, cache);
    }
}

void store_cache_clear(struct store_cache *cache)
{
    half_clear(&cache->young);
    half_clear(&cache->old);
}
