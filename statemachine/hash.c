#include "statemachine/hash.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/random.h>

#include "schemas/check.h"

#define HASH_SLOTS_FIRST 64u
/* Clearing a table must not cost more than what was put into it. */
#define HASH_SLOTS_KEPT_PER_ITEM 16u

static_assert((HASH_SLOTS_FIRST & (HASH_SLOTS_FIRST - 1)) == 0, "a hash is masked");

struct hash_secret hash_secret_new(void)
{
    struct hash_secret secret;
    CHECK(getrandom(&secret, sizeof secret, 0) == sizeof secret);
    return secret;
}

static uint64_t rotate(uint64_t word, unsigned by)
{
    return word << by | word >> (64 - by);
}

static void sip_round(uint64_t v[static 4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] = rotate(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] = rotate(v[2], 32);
}

uint64_t hash_of(const struct hash_secret *secret, struct bytes key)
{
    const uint64_t *words = secret->words;
    uint64_t v[4] = {words[0] ^ 0x736f6d6570736575u, words[1] ^ 0x646f72616e646f6du,
                     words[0] ^ 0x6c7967656e657261u, words[1] ^ 0x7465646279746573u};
    size_t at = 0;
    for (; key.size - at >= 8; at += 8) {
        const uint64_t word = get_le64(key.data + at);
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
    }
    uint64_t last = (uint64_t)key.size << 56;
    for (unsigned shift = 0; at < key.size; at++, shift += 8) {
        last |= (uint64_t)key.data[at] << shift;
    }
    v[3] ^= last;
    sip_round(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    sip_round(v);
    sip_round(v);
    sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* -- tables -------------------------------------------------------------------------------------- */

/* The slot of this key, or the empty one where it belongs. CHECK: there are slots. */
static uint64_t table_slot(const struct hash_table *table, uint64_t hash, struct bytes key,
                           hash_key_of *key_of)
{
    const uint64_t mask = table->capacity - 1;
    uint64_t at = hash & mask;
    while (table->slots[at].item != NULL &&
           (table->slots[at].hash != hash || !bytes_equal(key_of(table->slots[at].item), key))) {
        at = (at + 1) & mask;
    }
    return at;
}

static void table_grow(struct hash_table *table)
{
    if (2 * (table->count + 1) <= table->capacity) {
        return;
    }
    const struct hash_table before = *table;
    table->capacity = before.capacity == 0 ? HASH_SLOTS_FIRST : 2 * before.capacity;
    table->slots = calloc(table->capacity, sizeof *table->slots);
    CHECK(table->slots != NULL);
    const uint64_t mask = table->capacity - 1;
    for (uint64_t i = 0; i < before.capacity; i++) {
        if (before.slots[i].item != NULL) {
            uint64_t at = before.slots[i].hash & mask;
            while (table->slots[at].item != NULL) {
                at = (at + 1) & mask;
            }
            table->slots[at] = before.slots[i];
        }
    }
    free(before.slots);
}

void *hash_table_find(const struct hash_table *table, uint64_t hash, struct bytes key,
                      hash_key_of *key_of)
{
    return table->count == 0 ? NULL : table->slots[table_slot(table, hash, key, key_of)].item;
}

void *hash_table_put(struct hash_table *table, uint64_t hash, struct bytes key, void *item,
                     hash_key_of *key_of)
{
    table_grow(table);
    struct hash_slot *slot = &table->slots[table_slot(table, hash, key, key_of)];
    void *before = slot->item;
    table->count += before == NULL ? 1 : 0;
    *slot = (struct hash_slot){.hash = hash, .item = item};
    return before;
}

void *hash_table_remove(struct hash_table *table, uint64_t hash, struct bytes key,
                        hash_key_of *key_of)
{
    if (table->count == 0) {
        return NULL;
    }
    const uint64_t mask = table->capacity - 1;
    uint64_t hole = table_slot(table, hash, key, key_of);
    void *item = table->slots[hole].item;
    if (item == NULL) {
        return NULL;
    }
    /* Bring those behind it that would not be found any more where they are. */
    for (uint64_t at = (hole + 1) & mask; table->slots[at].item != NULL; at = (at + 1) & mask) {
        const uint64_t home = table->slots[at].hash & mask;
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            table->slots[hole] = table->slots[at];
            hole = at;
        }
    }
    table->slots[hole].item = NULL;
    table->count--;
    return item;
}

void hash_table_clear(struct hash_table *table, bool all)
{
    if (!all && table->count > 0 && table->capacity <= HASH_SLOTS_KEPT_PER_ITEM * table->count) {
        memset(table->slots, 0, table->capacity * sizeof *table->slots);
        table->count = 0;
        return;
    }
    free(table->slots);
    *table = (struct hash_table){0};
}
