#include "statemachine/store.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "schemas/check.h"
#include "statemachine/store_body.h"

/* A chunk of lent memory; a larger value gets a chunk of its own. */
#define STORE_CHUNK_BYTES 4096u
/* A reader keeps one chunk up to this size over a reset. */
#define STORE_CHUNK_KEPT_BYTES (64u * 1024u)

/* Whether compactions have caught up is looked at so often, a minute long. */
#define STORE_WAIT_US    (20u * 1000u)
#define STORE_WAIT_LOOKS 3000u

/* -- life --------------------------------------------------------------------------------------- */

void store_init(struct store *store, const struct store_body *body)
{
    *store = (struct store){.body = body};
    store->live.store = store;
    store->secret = hash_secret_new();
    CHECK(pthread_mutex_init(&store->errors.mutex, NULL) == 0);
    atomic_store(&store->errors.newest, "");
}

static void store_reader_deinit(struct store_reader *reader)
{
    while (reader->chunks != NULL) {
        struct store_chunk *next = reader->chunks->next;
        free(reader->chunks);
        reader->chunks = next;
    }
}

void store_deinit(struct store *store)
{
    store_reader_deinit(&store->live);
    tree_release(store->batch);
    tree_release(store->gone);
    tree_release(store->draft);
    hash_table_clear(&store->batch_rows, true);
    store_kept_clear(&store->kept);
    hash_table_clear(&store->kept.rows, true);
    hash_table_clear(&store->kept.prefixes, true);
    store_cache_clear(&store->cache);
    for (unsigned i = 0; i < store->errors.count; i++) {
        free(store->errors.kept[i]);
    }
    CHECK(pthread_mutex_destroy(&store->errors.mutex) == 0);
}

void store_close(struct store *store)
{
    if (store == NULL) {
        return;
    }
    CHECK(atomic_load(&store->snapshots) == 0);
    CHECK(atomic_load(&store->live.iterators) == 0);
    store->body->close(store);
}

void store_fail(struct store *store, const char *format, ...)
{
    char words[512];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(words, sizeof words, format, arguments);
    va_end(arguments);

    struct store_errors *errors = &store->errors;
    CHECK(pthread_mutex_lock(&errors->mutex) == 0);
    if (strcmp(atomic_load(&errors->newest), words) != 0) {
        unsigned i = 0;
        while (i < errors->count && strcmp(errors->kept[i], words) != 0) {
            i++;
        }
        if (i == errors->count && i < STORE_ERRORS_KEPT) {
            errors->kept[i] = strdup(words);
            CHECK(errors->kept[i] != NULL);
            errors->count++;
        }
        if (i < errors->count) {
            atomic_store(&errors->newest, errors->kept[i]);
        }
    }
    CHECK(pthread_mutex_unlock(&errors->mutex) == 0);
}

const char *store_error(const struct store *store)
{
    return atomic_load(&store->errors.newest);
}

/* -- keys ----------------------------------------------------------------------------------------- */

struct bytes store_full_key(uint8_t memory[static STORE_FULL_KEY_BYTES], unsigned table,
                                   struct bytes key)
{
    CHECK(table < STORE_TABLES);
    CHECK(key.size <= LIMIT_STORE_KEY_BYTES);
    memory[0] = (uint8_t)table;
    if (key.size > 0) {
        memcpy(memory + 1, key.data, key.size);
    }
    return bytes_of(memory, 1 + key.size);
}

struct bytes store_key_behind(uint8_t *prefix, size_t size)
{
    while (prefix[size - 1] == 0xff) {
        size--;
        CHECK(size > 0);
    }
    prefix[size - 1]++;
    return bytes_of(prefix, size);
}

/* -- writing ------------------------------------------------------------------------------------- */

/* It is no view that has no snapshot any more. */
static void store_view_forget(struct store_reader *view)
{
    if (view->previous != NULL) {
        view->previous->next = view->next;
    } else {
        view->store->views = view->next;
    }
    if (view->next != NULL) {
        view->next->previous = view->previous;
    }
    view->next = NULL;
    view->previous = NULL;
}

/* The rows of a view are those of now for as long as it lives. */
static void store_view_hold(struct store_reader *view)
{
    struct store *store = view->store;
    view->snapshot = store->body->snapshot(store);
    CHECK(view->snapshot != NULL);
    store_view_forget(view);
}

void store_begin(struct store *store)
{
    CHECK(!store->in_batch);
    CHECK_IF(!store->drafting, store->batch == NULL);
    while (store->views != NULL) {
        store_view_hold(store->views);
    }
    store->in_batch = true;
    store->batch_bytes = 0;
}

bool store_in_batch(const struct store *store)
{
    return store->in_batch;
}

static size_t store_row_bytes(const struct tree_row *row)
{
    return row == NULL ? 0 : (size_t)row->key_size + row->value_size;
}

struct bytes store_row_key(const void *item)
{
    return tree_row_key(item);
}

/* The row of the open batch, if there is one. */
static struct tree_row *store_batch_find(const struct store *store, struct bytes full,
                                         uint64_t hash)
{
    return hash_table_find(&store->batch_rows, hash, full, store_row_key);
}

static void store_batch_put(struct store *store, struct bytes full, uint64_t hash,
                            struct bytes value, bool removed, bool born)
{
    struct tree_row *row = tree_row_create(full, value, removed);
    row->born = born;
    /* The tree lets go of the row before, whose key the table looks at: so the tree is second. */
    (void)hash_table_put(&store->batch_rows, hash, full, row, store_row_key);
    store->batch = tree_put_row(store->batch, row);
    store->batch_bytes += full.size + value.size;
    tree_row_release(row);
}

void store_put(struct store *store, unsigned table, struct bytes key, struct bytes value)
{
    CHECK(store->in_batch);
    CHECK(value.size <= LIMIT_FRAME_BYTES);
    uint8_t memory[STORE_FULL_KEY_BYTES];
    const struct bytes full = store_full_key(memory, table, key);
    const uint64_t hash = hash_of(&store->secret, full);
    const struct tree_row *old = store_batch_find(store, full, hash);
    store->batch_bytes -= store_row_bytes(old);
    store_batch_put(store, full, hash, value, false, old != NULL && old->born);
}

void store_remove(struct store *store, unsigned table, struct bytes key)
{
    CHECK(store->in_batch);
    uint8_t memory[STORE_FULL_KEY_BYTES];
    const struct bytes full = store_full_key(memory, table, key);
    const uint64_t hash = hash_of(&store->secret, full);
    const struct tree_row *old = store_batch_find(store, full, hash);
    store->batch_bytes -= store_row_bytes(old);
    if (old != NULL && old->born) {
        (void)hash_table_remove(&store->batch_rows, hash, full, store_row_key);
        store->batch = tree_remove(store->batch, full);
        return;
    }
    store_batch_put(store, full, hash, (struct bytes){0}, true, false);
}

void store_add(struct store *store, unsigned table, struct bytes key, struct bytes value)
{
    CHECK(store->in_batch);
    CHECK(value.size <= LIMIT_FRAME_BYTES);
    uint8_t memory[STORE_FULL_KEY_BYTES];
    const struct bytes full = store_full_key(memory, table, key);
    const uint64_t hash = hash_of(&store->secret, full);
    CHECK(store_batch_find(store, full, hash) == NULL);
    if (store->body->check_absent != NULL) {
        store->body->check_absent(store, full);
    }
    store_batch_put(store, full, hash, value, false, true);
}

int store_remove_prefix(struct store *store, unsigned table, struct bytes prefix)
{
    struct store_iterator *iterator = store_iterate(&store->live, table, prefix);
    for (bool on = store_iterator_first(iterator); on; on = store_iterator_next(iterator)) {
        store_remove(store, table, store_iterator_key(iterator));
    }
    const int status = store_iterator_status(iterator);
    store_iterator_close(iterator);
    return status;
}

const struct tree_row *store_gone_find(const struct tree *gone, struct bytes key)
{
    const struct tree_row *range = tree_seek_back(gone, key, false);
    return range != NULL && bytes_compare(key, tree_row_value(range)) < 0 ? range : NULL;
}

/* Remove what lies below the batch at from <= key < to, full keys, as one with the ranges that it meets. */
static void store_gone_add(struct store *store, struct bytes from, struct bytes to)
{
    uint8_t first[STORE_FULL_KEY_BYTES];
    uint8_t behind[STORE_FULL_KEY_BYTES];
    const struct tree_row *met = tree_seek_back(store->gone, to, false);
    while (met != NULL && bytes_compare(tree_row_value(met), from) >= 0) {
        if (bytes_compare(tree_row_key(met), from) < 0) {
            from = bytes_of(memcpy(first, tree_row_key(met).data, met->key_size), met->key_size);
        }
        if (bytes_compare(tree_row_value(met), to) > 0) {
            to = bytes_of(memcpy(behind, tree_row_value(met).data, met->value_size),
                          met->value_size);
        }
        store->batch_bytes -= store_row_bytes(met);
        store->gone = tree_remove(store->gone, tree_row_key(met));
        met = tree_seek_back(store->gone, to, false);
    }
    struct tree_row *range = tree_row_create(from, to, false);
    store->gone = tree_put_row(store->gone, range);
    tree_row_release(range);
    atomic_fetch_add(&store->marks, 1);
    store->batch_bytes += from.size + to.size;
}

/* Whether one mark may stand for many rows: neither what is drafted nor what is cached knows of any. */
static bool store_takes_marks(const struct store *store, unsigned table)
{
    return !store->drafting && (store->mark_tables >> table & 1u) != 0 &&
           (store->cache.tables >> table & 1u) == 0 &&
           atomic_load(&store->marks) < LIMIT_STORE_MARKS;
}

int store_remove_range(struct store *store, unsigned table, struct bytes from, struct bytes to)
{
    if (bytes_compare(from, to) >= 0) {
        return STATUS_OK;
    }
    uint8_t memory[2][STORE_FULL_KEY_BYTES];
    const struct bytes first = store_full_key(memory[0], table, from);
    const struct bytes behind = store_full_key(memory[1], table, to);
    struct store_iterator *iterator = store_iterator_between(&store->live, first, behind, false);
    const bool by_mark = store_takes_marks(store, table);
    uint32_t rows = 0;
    bool more = store_iterator_first(iterator);
    while (more && !(by_mark && rows == LIMIT_STORE_RANGE_ROWS)) {
        store_remove(store, table, store_iterator_key(iterator));
        rows++;
        more = store_iterator_next(iterator);
    }
    const int status = store_iterator_status(iterator);
    store_iterator_close(iterator);
    if (status != STATUS_OK || !more) {
        return status;
    }

    const struct tree_row *row = tree_seek(store->batch, first, false);
    while (row != NULL && bytes_compare(tree_row_key(row), behind) < 0) { /* the graves too */
        const struct bytes key = tree_row_key(row);
        store->batch_bytes -= store_row_bytes(row);
        (void)hash_table_remove(&store->batch_rows, hash_of(&store->secret, key), key,
                                store_row_key);
        store->batch = tree_remove(store->batch, key);
        row = tree_seek(store->batch, first, false);
    }
    store_gone_add(store, first, behind);
    return STATUS_OK;
}

size_t store_batch_bytes(const struct store *store)
{
    return store->batch_bytes + store->kept.bytes;
}

void store_keep(struct store *store, size_t bytes)
{
    CHECK(!store->in_batch);
    store->kept.bytes_max = bytes;
}

void store_marks(struct store *store, uint32_t tables)
{
    store->mark_tables = tables;
}

void store_cache(struct store *store, uint32_t tables, size_t bytes)
{
    CHECK(!store->in_batch);
    CHECK(tables >> STORE_TABLES == 0);
    store_cache_clear(&store->cache);
    store->cache.tables = tables;
    store->cache.bytes_max = bytes;
}

static void store_on_draft_row(void *context, struct tree_row *row)
{
    struct store *store = context;
    const struct bytes key = tree_row_key(row);
    (void)hash_table_put(&store->batch_rows, hash_of(&store->secret, key), key, row, store_row_key);
}

/* The batch is over, either way. Of a store that drafts all batches that were committed are kept as one, which
 * readers go on to see. */
static void store_batch_end(struct store *store, bool committed)
{
    if (!store->drafting || !committed) {
        hash_table_clear(&store->batch_rows, false);
        tree_walk(store->draft, store_on_draft_row, store);
    }
    tree_release(store->batch);
    store->batch = tree_retain(store->draft);
    tree_release(store->gone);
    store->gone = NULL;
    store->in_batch = false;
    store_kept_clear(&store->kept);
    store_reader_reset(&store->live);
}

int store_commit(struct store *store, uint64_t position)
{
    CHECK(store->in_batch);
    CHECK(atomic_load(&store->live.iterators) == 0);
    CHECK(position >= store_position(store));

    if (store->drafting) {
        tree_release(store->draft);
        store->draft = tree_retain(store->batch);
    } else {
        const int status = store->body->write(store, store->gone, store->batch, position);
        if (status != STATUS_OK) {
            CHECK(status < 0);
            return status;
        }
        store_cache_commit(&store->cache, &store->batch_rows);
    }
    atomic_store(&store->position, position);
    store_batch_end(store, true);
    return STATUS_OK;
}

void store_abandon(struct store *store)
{
    CHECK(store->in_batch);
    CHECK(atomic_load(&store->live.iterators) == 0);
    store_batch_end(store, false);
}

uint64_t store_position(const struct store *store)
{
    return atomic_load(&store->position);
}

/* -- durability ---------------------------------------------------------------------------------- */

int store_flush(struct store *store)
{
    CHECK(!store->drafting);
    const uint64_t position = atomic_load(&store->position);
    const int status = store->body->flush(store, position);
    if (status == STATUS_OK) {
        atomic_store(&store->marks, 0);
        if (position > atomic_load(&store->position_flushed)) {
            atomic_store(&store->position_flushed, position);
        }
    }
    return status;
}

int store_wait(struct store *store)
{
    const int status = store_flush(store);
    for (unsigned i = 0; status == STATUS_OK && i < STORE_WAIT_LOOKS; i++) {
        if (!store_usage(store).pressed) {
            break;
        }
        (void)usleep(STORE_WAIT_US);
    }
    return status;
}

uint64_t store_flushed_position(const struct store *store)
{
    return atomic_load(&store->position_flushed);
}

int store_checkpoint(struct store *store, const char *directory, uint64_t *out_position)
{
    CHECK(!store->drafting);
    const uint64_t position = atomic_load(&store->position);
    const int status = store->body->checkpoint(store, directory, position, out_position);
    CHECK_IF(status == STATUS_OK, *out_position >= position);
    return status;
}

/* -- reading --------------------------------------------------------------------------------------- */

struct store_reader *store_live(struct store *store)
{
    return &store->live;
}

static struct store_reader *store_reader_create(struct store *store)
{
    CHECK(store->draft == NULL);
    struct store_reader *reader = calloc(1, sizeof *reader);
    CHECK(reader != NULL);
    reader->store = store;
    reader->position = store_position(store);
    atomic_fetch_add(&store->snapshots, 1);
    return reader;
}

struct store_reader *store_snapshot(struct store *store)
{
    struct store_reader *reader = store_reader_create(store);
    reader->snapshot = store->body->snapshot(store);
    CHECK(reader->snapshot != NULL);
    return reader;
}

struct store_reader *store_view(struct store *store)
{
    if (store->in_batch) {
        return store_snapshot(store);
    }
    struct store_reader *view = store_reader_create(store);
    view->next = store->views;
    if (store->views != NULL) {
        store->views->previous = view;
    }
    store->views = view;
    return view;
}

void store_snapshot_release(struct store_reader *snapshot)
{
    CHECK(atomic_load(&snapshot->iterators) == 0);
    struct store *store = snapshot->store;
    CHECK(snapshot != &store->live);
    if (snapshot->snapshot != NULL) {
        store->body->snapshot_release(store, snapshot->snapshot);
    } else {
        store_view_forget(snapshot);
    }
    store_reader_deinit(snapshot);
    free(snapshot);
    atomic_fetch_sub(&store->snapshots, 1);
}

unsigned store_snapshot_count(const struct store *store)
{
    return atomic_load(&store->snapshots);
}

uint64_t store_reader_position(const struct store_reader *reader)
{
    return reader->snapshot != NULL ? reader->position : store_position(reader->store);
}

const struct tree *store_reader_batch(const struct store_reader *reader)
{
    return reader->snapshot == NULL ? reader->store->batch : NULL;
}

const struct tree *store_reader_gone(const struct store_reader *reader)
{
    return reader->snapshot == NULL ? reader->store->gone : NULL;
}

struct store_kept *store_reader_kept(const struct store_reader *reader)
{
    struct store *store = reader->store;
    return reader->snapshot == NULL && store->in_batch && store->kept.bytes_max > 0 ? &store->kept
                                                                                    : NULL;
}

/* A copy in lent memory, 8-byte aligned. */
static struct bytes store_reader_copy(struct store_reader *reader, struct bytes value)
{
    const size_t size = (value.size + 7u) & ~(size_t)7u;
    struct store_chunk *chunk = reader->chunks;
    if (chunk == NULL || chunk->size - chunk->used < size) {
        const size_t chunk_size = size > STORE_CHUNK_BYTES ? size : STORE_CHUNK_BYTES;
        chunk = malloc(sizeof *chunk + chunk_size);
        CHECK(chunk != NULL);
        *chunk = (struct store_chunk){.next = reader->chunks, .size = chunk_size};
        reader->chunks = chunk;
    }
    uint8_t *copy = (uint8_t *)chunk->memory + chunk->used;
    if (value.size > 0) {
        memcpy(copy, value.data, value.size);
    }
    chunk->used += size;
    return bytes_of(copy, value.size);
}

void store_reader_reset(struct store_reader *reader)
{
    struct store_chunk *kept = NULL;
    while (reader->chunks != NULL) {
        struct store_chunk *chunk = reader->chunks;
        reader->chunks = chunk->next;
        if (kept == NULL && chunk->size <= STORE_CHUNK_KEPT_BYTES) {
            kept = chunk;
        } else {
            free(chunk);
        }
    }
    if (kept != NULL) {
        kept->next = NULL;
        kept->used = 0;
    }
    reader->chunks = kept;
}

/* A row in memory, read: of the open batch, kept, or of the cache. */
static int store_read_row(struct store_reader *reader, const struct tree_row *row,
                          struct bytes *out_value)
{
    if (row->removed) {
        return STORE_NONE;
    }
    if (out_value != NULL) {
        *out_value = store_reader_copy(reader, tree_row_value(row));
    }
    return STATUS_OK;
}

/* store_get, and store_find when out_value is NULL. */
static int store_read(struct store_reader *reader, unsigned table, struct bytes key,
                      struct bytes *out_value)
{
    if (key.size > LIMIT_STORE_KEY_BYTES) {
        return STORE_NONE; /* no such row can have been put */
    }
    uint8_t memory[STORE_FULL_KEY_BYTES];
    const struct bytes full = store_full_key(memory, table, key);
    struct store *store = reader->store;
    struct store_kept *kept = store_reader_kept(reader);
    const bool live = reader->snapshot == NULL;
    const uint64_t hash = live ? hash_of(&store->secret, full) : 0;
    const struct tree_row *row = live ? store_batch_find(store, full, hash) : NULL;
    if (row == NULL && store_gone_find(store_reader_gone(reader), full) != NULL) {
        return STORE_NONE;
    }
    if (row == NULL && kept != NULL) {
        row = store_kept_find(kept, full, hash);
    }
    if (row == NULL && live) {
        row = store_cache_find(&store->cache, full, hash);
    }
    if (row != NULL) {
        return store_read_row(reader, row, out_value);
    }
    struct bytes value = {0};
    void *pin;
    const int status = store->body->get(store, reader->snapshot, full, &value, &pin);
    if (status < 0) {
        return status;
    }
    if (kept != NULL) {
        store_kept_put(kept, full, hash, value, status == STORE_NONE);
    }
    if (reader == &store->live) { /* what views read shall not drive out what applying needs */
        store_cache_put(&store->cache, full, hash, value, status == STORE_NONE);
    }
    if (status == STORE_NONE) {
        return status;
    }
    if (out_value != NULL) {
        *out_value = store_reader_copy(reader, value);
    }
    store->body->unpin(store, pin);
    return STATUS_OK;
}

int store_get(struct store_reader *reader, unsigned table, struct bytes key,
              struct bytes *out_value)
{
    CHECK(out_value != NULL);
    return store_read(reader, table, key, out_value);
}

int store_find(struct store_reader *reader, unsigned table, struct bytes key)
{
    return store_read(reader, table, key, NULL);
}

/* -- measures ------------------------------------------------------------------------------------- */

struct store_usage store_usage(struct store *store)
{
    struct store_usage usage = store->body->usage(store);
    usage.memory_bytes += store->cache.young.bytes + store->cache.old.bytes;
    return usage;
}

uint64_t store_table_bytes(struct store *store, unsigned table)
{
    uint8_t lower[STORE_FULL_KEY_BYTES];
    uint8_t upper[STORE_FULL_KEY_BYTES];
    CHECK(table + 1 <= STORE_TABLES);
    lower[0] = (uint8_t)table;
    upper[0] = (uint8_t)(table + 1);
    return store->body->table_bytes(store, bytes_of(lower, 1), bytes_of(upper, 1));
}
