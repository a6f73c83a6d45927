/* Ordered rows in memory, as a persistent tree: every version is a root, and old roots stay what
 * they were.
 *
 * A change copies the path to the row, unless nobody else holds it, and shares the rest. So a
 * snapshot is a root, the state after each commit is a root, and going back is taking an older one.
 * It holds the open batch of a store, and all rows of the simulator's store.
 *
 * The tree is a treap whose priorities are hashes of the keys: its shape is a function of the keys
 * alone, whatever order they came in. Depth is about 2 ln(n).
 *
 * Reference counts are plain: one thread. Out of memory ends the process.
 */
#ifndef KELP_STATEMACHINE_TREE_H
#define KELP_STATEMACHINE_TREE_H

#include "schemas/bytes.h"

/* One row, immutable, shared between versions. */
struct tree_row {
    uint32_t refs;
    uint32_t key_size;
    uint32_t value_size;
    bool removed;     /* a grave: this key is gone from what lies below (batches) */
    bool born;        /* nothing of this key lies below: removing it leaves no grave (batches) */
    uint64_t bytes[]; /* the key, which is looked at most, padded to 8; then the value */
};

static inline struct bytes tree_row_key(const struct tree_row *row)
{
    return bytes_of(row->bytes, row->key_size);
}
static inline struct bytes tree_row_value(const struct tree_row *row)
{
    return bytes_of((const uint8_t *)row->bytes + ((row->key_size + 7u) & ~7u), row->value_size);
}
/* A row of its own; both are copied. Given: hand it to tree_row_release. */
struct tree_row *tree_row_create(struct bytes key, struct bytes value, bool removed);
void tree_row_release(struct tree_row *row); /* NULL is ignored */

/* A version: NULL is the empty one. */
struct tree;

/* One more holder of a version; each is given: hand it to tree_release. Answers its argument. */
struct tree *tree_retain(struct tree *tree);
void tree_release(struct tree *tree);

/* The version with this row put or replaced. `tree` is taken, the row shared: retained. */
struct tree *tree_put_row(struct tree *tree, struct tree_row *row);
/* The version without this row. `tree` is taken. */
struct tree *tree_remove(struct tree *tree, struct bytes key);

/* All answers are lent as long as the version is held; NULL when there is no such row. */
struct tree_row *tree_find(const struct tree *tree, struct bytes key);
/* The first row with key >= `key`, or > `key` when `beyond`. */
struct tree_row *tree_seek(const struct tree *tree, struct bytes key, bool beyond);
/* The last row with key <= `key`, or < `key` when `beyond`. */
struct tree_row *tree_seek_back(const struct tree *tree, struct bytes key, bool beyond);

/* Every row in order. */
void tree_walk(const struct tree *tree, void (*on_row)(void *context, struct tree_row *row),
               void *context);

#endif
