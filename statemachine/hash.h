/* Tables in memory in which things are found by a key, in one step and in no order. */
#ifndef KELP_STATEMACHINE_HASH_H
#define KELP_STATEMACHINE_HASH_H

#include "schemas/bytes.h"

/* Of this process, and told to nobody: users choose names, and none shall meet by design. */
struct hash_secret {
    uint64_t words[2];
};

/* A new one, of the system's randomness. */
struct hash_secret hash_secret_new(void);
/* SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012). Nothing that is told or stored may
 * hang on it: it differs from process to process. */
uint64_t hash_of(const struct hash_secret *secret, struct bytes key);

/* Open addressing; at most half of the slots are taken. All zero: empty. The items are the owner's, who may walk over the
 * slots; one without item is empty. Their order differs from process to process: nothing that is told may follow it. */
struct hash_slot {
    uint64_t hash;
    void *item;
};
struct hash_table {
    struct hash_slot *slots;
    uint64_t capacity; /* 0, or a power of two */
    uint64_t count;
};
/* The key of an item: the same as long as it is in the table. */
typedef struct bytes hash_key_of(const void *item);

/* `hash` is hash_of(key), with the same secret for all of a table. Answers the item, or NULL. */
void *hash_table_find(const struct hash_table *table, uint64_t hash, struct bytes key,
                      hash_key_of *key_of);
/* Put an item, or replace the one of the same key. Answers the one that was replaced, or NULL. */
void *hash_table_put(struct hash_table *table, uint64_t hash, struct bytes key, void *item,
                     hash_key_of *key_of);
/* Take an item out. Answers it, or NULL: there was none. */
void *hash_table_remove(struct hash_table *table, uint64_t hash, struct bytes key,
                        hash_key_of *key_of);
/* Empty it. Slots are kept for the next items when enough of them were taken for that to be cheap; otherwise, and when
 * `all`, they are freed. */
void hash_table_clear(struct hash_table *table, bool all);

#endif
