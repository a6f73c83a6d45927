/* Entries in the order of versions, and the newest of each key in a table. */
#include "statemachine/history.h"

#include <stdlib.h>

#include "schemas/check.h"
#include "statemachine/hash.h"

#define HISTORY_FIRST 256u
/* Beside an entry, when row and table have just grown: two places in the row, four slots of the table, malloc's word. */
#define HISTORY_BESIDE_BYTES                                                                       \
    (2 * sizeof(struct history_entry *) + 4 * sizeof(struct hash_slot) + 8u)

static_assert((HISTORY_FIRST & (HISTORY_FIRST - 1)) == 0, "places are masked");

struct history {
    uint64_t floor;
    uint64_t newest;
    uint64_t bytes;
    struct history_entry **row; /* of version V at V & (capacity - 1) */
    uint64_t capacity;          /* 0, or a power of two */
    struct hash_table newest_of;
    struct hash_secret secret;

    struct history_entry *waiting; /* not committed, the oldest first */
    struct history_entry **waiting_end;
    uint64_t waiting_newest;
    uint64_t waiting_bytes;
    bool waiting_lost; /* they were too many */
};

struct history *history_create(void)
{
    struct history *history = malloc(sizeof *history);
    CHECK(history != NULL);
    *history = (struct history){.secret = hash_secret_new()};
    history->waiting_end = &history->waiting;
    return history;
}

void history_destroy(struct history *history)
{
    if (history != NULL) {
        history_forget(history, 0);
        free(history);
    }
}

static struct history_entry **history_place(const struct history *history, uint64_t version)
{
    return &history->row[version & (history->capacity - 1)];
}

static struct bytes entry_key(const void *item)
{
    return ((const struct history_entry *)item)->key;
}

/* -- forgetting ---------------------------------------------------------------------------------- */

static size_t padded(size_t size)
{
    return (size + 7) & ~(size_t)7;
}

size_t history_entry_bytes(const struct history_entry *entry)
{
    size_t size = sizeof *entry + HISTORY_BESIDE_BYTES + padded(entry->key.size);
    for (unsigned i = 0; i < PARTS; i++) {
        size += padded(entry->before[i].size);
    }
    return size;
}

static void history_drop_oldest(struct history *history)
{
    history->floor++;
    struct history_entry *entry = *history_place(history, history->floor);
    if (entry->key.size > 0 && entry->newer == 0) {
        CHECK(hash_table_remove(&history->newest_of, entry->hash, entry->key, entry_key) == entry);
    }
    history->bytes -= history_entry_bytes(entry);
    free(entry);
}

/* The memory of places and slots, too. */
static void history_empty(struct history *history)
{
    CHECK(history->bytes == 0 && history->newest_of.count == 0);
    free(history->row);
    history->row = NULL;
    history->capacity = 0;
    hash_table_clear(&history->newest_of, true);
}

void history_abandon(struct history *history)
{
    while (history->waiting != NULL) {
        struct history_entry *next = history->waiting->next;
        free(history->waiting);
        history->waiting = next;
    }
    history->waiting_end = &history->waiting;
    history->waiting_newest = history->newest;
    history->waiting_bytes = 0;
    history->waiting_lost = false;
}

void history_forget(struct history *history, uint64_t version)
{
    while (history->floor < history->newest) {
        history_drop_oldest(history);
    }
    history_empty(history);
    history->floor = version;
    history->newest = version;
    history_abandon(history);
}

/* -- changing ------------------------------------------------------------------------------------ */

static void history_row_grow(struct history *history)
{
    if (history->newest - history->floor < history->capacity) {
        return;
    }
    struct history_entry **before = history->row;
    const uint64_t mask = history->capacity - 1;
    history->capacity = history->capacity == 0 ? HISTORY_FIRST : 2 * history->capacity;
    history->row = calloc(history->capacity, sizeof *history->row);
    CHECK(history->row != NULL);
    for (uint64_t version = history->floor + 1; version <= history->newest; version++) {
        *history_place(history, version) = before[version & mask];
    }
    free(before);
}

static struct bytes entry_copy(uint8_t **at, struct bytes bytes)
{
    const struct bytes copy = bytes_of(*at, bytes.size);
    if (bytes.size > 0) {
        memcpy(*at, bytes.data, bytes.size);
    }
    *at += padded(bytes.size);
    return copy;
}

static struct history_entry *entry_new(enum change_type type, struct bytes key, uint32_t parts,
                                       const struct bytes before[PARTS])
{
    size_t size = padded(key.size);
    for (unsigned i = 0; i < PARTS; i++) {
        size += (parts & (1u << i)) != 0 ? padded(before[i].size) : 0;
    }
    struct history_entry *entry = malloc(sizeof *entry + size);
    CHECK(entry != NULL);
    *entry = (struct history_entry){.type = type, .parts = parts};
    uint8_t *at = (uint8_t *)entry->memory;
    entry->key = entry_copy(&at, key);
    for (unsigned i = 0; i < PARTS; i++) {
        if ((parts & (1u << i)) != 0) {
            entry->before[i] = entry_copy(&at, before[i]);
        }
    }
    return entry;
}

/* The newest change of a part up to this entry; 0: none was held. */
static uint64_t entry_last(const struct history_entry *entry, unsigned part)
{
    return (entry->parts & (1u << part)) != 0 ? entry->version : entry->prior[part];
}

/* It is the newest of its key. */
static void history_join(struct history *history, struct history_entry *entry)
{
    entry->hash = hash_of(&history->secret, entry->key);
    struct history_entry *before =
        hash_table_put(&history->newest_of, entry->hash, entry->key, entry, entry_key);
    if (before != NULL) {
        before->newer = entry->version;
        for (unsigned i = 0; i < PARTS; i++) {
            entry->prior[i] = entry_last(before, i);
        }
    }
}

void history_add(struct history *history, uint64_t version, enum change_type type, struct bytes key,
                 uint32_t parts, const struct bytes before[PARTS], uint64_t bytes_max)
{
    CHECK(version == history->waiting_newest + 1);
    bool lost = history->waiting_lost;
    if (!lost) {
        struct history_entry *entry = entry_new(type, key, parts, before);
        entry->version = version;
        *history->waiting_end = entry;
        history->waiting_end = &entry->next;
        history->waiting_bytes += history_entry_bytes(entry);
        lost = history->waiting_bytes > bytes_max;
    }
    if (lost) {
        history_abandon(history);
        history->waiting_lost = true;
    }
    history->waiting_newest = version;
}

void history_commit(struct history *history, uint64_t bytes_max)
{
    if (history->waiting_lost) {
        history_forget(history, history->waiting_newest);
    }
    uint64_t trims = LIMIT_HISTORY_TRIM;
    const uint64_t added = history->waiting_bytes;
    while (history->waiting != NULL) {
        struct history_entry *entry = history->waiting;
        history->waiting = entry->next;
        entry->next = NULL;
        history_row_grow(history);
        history->newest = entry->version;
        *history_place(history, entry->version) = entry;
        history->bytes += history_entry_bytes(entry);
        if (entry->key.size > 0) {
            history_join(history, entry);
        }
    }
    history_abandon(history);
    /* As many bytes as came, twice, however small they are; beyond that, of what a lowered bound leaves, some. */
    const uint64_t bytes = history->bytes;
    while (history->bytes > bytes_max && (trims > 0 || bytes - history->bytes < 2 * added)) {
        history_drop_oldest(history);
        trims -= trims > 0 ? 1 : 0;
    }
    if (history->bytes == 0) {
        history_empty(history);
    }
}

/* -- reading ------------------------------------------------------------------------------------- */

uint64_t history_floor(const struct history *history)
{
    return history->floor;
}

uint64_t history_newest(const struct history *history)
{
    return history->newest;
}

uint64_t history_bytes(const struct history *history)
{
    return history->bytes;
}

const struct history_entry *history_at(const struct history *history, uint64_t version)
{
    CHECK(version > history->floor && version <= history->newest);
    return *history_place(history, version);
}

const struct history_entry *history_later(const struct history *history,
                                          const struct history_entry *entry, enum part part)
{
    const struct history_entry *newest =
        hash_table_find(&history->newest_of, entry->hash, entry->key, entry_key);
    CHECK(newest != NULL);
    const uint64_t last = entry_last(newest, part);
    if (last <= entry->version) {
        return NULL; /* nearly always */
    }
    /* It is found from either end: the next changes of the object, or the last ones of the part. */
    const struct history_entry *up = entry;
    const struct history_entry *down = history_at(history, last);
    for (;;) {
        up = history_at(history, up->newer);
        if ((up->parts & (1u << part)) != 0) {
            return up;
        }
        if (down->prior[part] <= entry->version) {
            return down;
        }
        down = history_at(history, down->prior[part]);
    }
}
