/* Between store.c and the two bodies: what a body must do, and what store.c does for both.
 *
 * store.c knows tables, the open batch, merging it into reads, and lent memory. A body knows one
 * ordered space of keys: the number of the table, one byte, then the key. The position of the newest
 * commit is the row STORE_KEY_POSITION (8 bytes, little-endian), above all tables.
 *
 * Included by store.c and store_*.c only.
 */
#ifndef KELP_STATEMACHINE_STORE_BODY_H
#define KELP_STATEMACHINE_STORE_BODY_H

#include <pthread.h>
#include <stdatomic.h>

#include "statemachine/hash.h"
#include "statemachine/store.h"
#include "statemachine/tree.h"

#define STORE_FULL_KEY_BYTES (1u + LIMIT_STORE_KEY_BYTES)
#define STORE_KEY_POSITION   ((struct bytes){.data = (const uint8_t *)"\xff", .size = 1})
static_assert(STORE_TABLES < 0xff, "the position row sorts behind every table");

struct store_body {
    /* Free the body and the struct store in it. */
    void (*close)(struct store *store);

    /* In one step: remove all rows of the ranges in `gone` (as in struct store), then write every row of
     * `batch` (puts and graves) and the position. Answers as store_commit. */
    int (*write)(struct store *store, const struct tree *gone, const struct tree *batch,
                 uint64_t position);
    /* Everything up to this position is durable, or the answer is negative. Any thread. */
    int (*flush)(struct store *store, uint64_t position);
    /* As store_checkpoint, of at least this position. */
    int (*checkpoint)(struct store *store, const char *directory, uint64_t position,
                      uint64_t *out_position);

    /* `snapshot` NULL: the newest commit. */
    void *(*snapshot)(struct store *store);
    void (*snapshot_release)(struct store *store, void *snapshot);
    /* *out_value is good until unpin(*out_pin). */
    int (*get)(struct store *store, void *snapshot, struct bytes key, struct bytes *out_value,
               void **out_pin);
    void (*unpin)(struct store *store, void *pin);
    /* CHECK that there is no row of this key. NULL: too dear to look. */
    void (*check_absent)(struct store *store, struct bytes key);

    /* An iterator over lower <= key < upper. Both live as long as it does. It keeps seeing what
     * was there when it was opened. */
    void *(*iterate)(struct store *store, void *snapshot, struct bytes lower, struct bytes upper);
    void (*iterator_close)(struct store *store, void *iterator);
    /* Each answers whether it is on a row; false: the end, or iterator_status is negative. */
    bool (*iterator_seek)(void *iterator, struct bytes key);      /* first row >= key */
    bool (*iterator_seek_back)(void *iterator, struct bytes key); /* last row <= key */
    bool (*iterator_last)(void *iterator);
    bool (*iterator_next)(void *iterator);
    bool (*iterator_previous)(void *iterator);
    int (*iterator_status)(struct store *store, void *iterator);
    struct bytes (*iterator_key)(void *iterator);
    struct bytes (*iterator_value)(void *iterator);

    struct store_usage (*usage)(struct store *store);
    uint64_t (*table_bytes)(struct store *store, struct bytes lower, struct bytes upper);
};

/* What the live reader read of the body since the batch began: store_keep, store_kept.c. */
struct store_kept {
    size_t bytes_max; /* 0: nothing is kept */
    size_t bytes;
    struct hash_table rows;     /* of struct tree_row; a grave: the body has no such row */
    struct hash_table prefixes; /* the same: all rows of these prefixes are in `ordered`, too */
    struct tree *ordered;
};

/* Rows that were read or written last, over the ends of batches: store_cache, store_cache.c. */
struct store_cache_half {
    struct hash_table rows; /* of struct tree_row; a grave: the body has no such row */
    size_t bytes;
};
struct store_cache {
    uint32_t tables; /* a bit for each that is in it */
    size_t bytes_max;
    struct store_cache_half young;
    struct store_cache_half old;
};

/* Memory that store_get lends: chunks, all void at a reset. */
struct store_chunk {
    struct store_chunk *next;
    size_t size;
    size_t used;
    uint64_t memory[];
};

struct store_reader {
    struct store *store;
    void *snapshot; /* of the body; NULL: the live rows */
    struct store_reader *next; /* of the views that have none yet */
    struct store_reader *previous;
    uint64_t position;
    struct store_chunk *chunks; /* the newest first */
    atomic_uint iterators;      /* open */
};

/* A failure's words stay readable while a pool thread brings newer ones: none is freed before the
 * store closes, and after so many the newest is kept. */
#define STORE_ERRORS_KEPT 64u
struct store_errors {
    pthread_mutex_t mutex;
    _Atomic(const char *) newest;
    char *kept[STORE_ERRORS_KEPT];
    unsigned count;
};

struct store {
    const struct store_body *body;
    struct store_reader live;
    struct store_reader *views; /* that read the live rows until a batch begins */
    atomic_uint snapshots;      /* not yet released, views too */

    struct hash_secret secret;
    bool in_batch;
    struct tree *batch;
    struct hash_table batch_rows; /* the same rows, lent by the tree, to be found in one step */
    /* Ranges whose rows below the batch are removed: the first key -> that behind the last. None meets another. */
    struct tree *gone;
    uint32_t mark_tables; /* a bit for each table that may have marks */
    atomic_uint marks;    /* made since the last flush, about */
    size_t batch_bytes;
    struct store_kept kept;
    struct store_cache cache;
    bool drafting;      /* commits reach no body: what it holds cannot be written */
    struct tree *draft; /* what was committed, all of it */

    _Atomic uint64_t position;
    _Atomic uint64_t position_flushed;
    struct store_errors errors;
};

/* For the `open` of a body: everything but its own members. */
void store_init(struct store *store, const struct store_body *body);
/* The counterpart, called by the body's close before it frees the struct. */
void store_deinit(struct store *store);

/* Of a struct tree_row. */
struct bytes store_row_key(const void *item);

/* `hash` is always that of the full key beside it, with the store's secret. */

/* What is kept of this full key; NULL: nothing. Lent until the batch ends. */
const struct tree_row *store_kept_find(const struct store_kept *kept, struct bytes key,
                                       uint64_t hash);
/* Keep what the body has under this full key, of which nothing is kept, if there is room. */
void store_kept_put(struct store_kept *kept, struct bytes key, uint64_t hash, struct bytes value,
                    bool none);
/* Whether all rows of this prefix are kept, read now if they were not. `upper` is behind the prefix. */
bool store_kept_prefix(struct store *store, struct bytes lower, struct bytes upper);
/* Forget all: the batch ends. */
void store_kept_clear(struct store_kept *kept);
/* Its iterators, all it has, go over what is kept of a prefix. */
extern const struct store_body store_kept_body;

/* What the cache has of this full key; NULL: nothing. Lent until the next call with this cache. */
const struct tree_row *store_cache_find(struct store_cache *cache, struct bytes key, uint64_t hash);
/* What the body has under this full key. */
void store_cache_put(struct store_cache *cache, struct bytes key, uint64_t hash, struct bytes value,
                     bool none);
/* The body has these rows and graves (struct tree_row) now. */
void store_cache_commit(struct store_cache *cache, const struct hash_table *batch);
/* Forget all rows, and give their memory back. Tables and bound stay. */
void store_cache_clear(struct store_cache *cache);

/* -- between store.c and store_iterator.c --------------------------------------------------------- */

/* Table and key as the bodies know them, in `memory`. */
struct bytes store_full_key(uint8_t memory[static STORE_FULL_KEY_BYTES], unsigned table,
                            struct bytes key);
/* The first key behind all that start with this prefix, made of its own bytes. There is one: the
 * first byte is the number of a table. */
struct bytes store_key_behind(uint8_t *prefix, size_t size);
/* The open batch, where this reader sees it. */
const struct tree *store_reader_batch(const struct store_reader *reader);
/* What the open batch removes below itself, where this reader sees it. */
const struct tree *store_reader_gone(const struct store_reader *reader);
/* The range that holds this full key; NULL: there is none. */
const struct tree_row *store_gone_find(const struct tree *gone, struct bytes key);
/* Where what this reader reads of the body is kept; NULL: it is not. */
struct store_kept *store_reader_kept(const struct store_reader *reader);
/* Over lower <= key < upper, full keys of one table, copied. `few`: as store_iterate_few. */
struct store_iterator *store_iterator_between(struct store_reader *reader, struct bytes lower,
                                              struct bytes upper, bool few);

/* Keep the words of a failure. Any thread. */
void store_fail(struct store *store, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
