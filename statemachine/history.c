/* Entries in the order of versions, and the newest of each key in a table. */
#include "statemachine/history.h"

#include <stdlib.h>

#include "schemas/check.h"
#include "statemachine/hash.h"

#define HISTORY_FIRST 256u
/* Beside an entry: its place in the row, two slots of the table, and malloc's word. */
#define HISTORY_BESIDE_BYTES (sizeof(struct history_entry *) + 2 * sizeof(struct hash_slot) + 8u)

static_assert((HISTORY_FIRST & (HISTORY_FIRST - 1)) == 0, "places are masked");

struct history {
    uint64_t floor;
    uint64_t newest;
    uint64_t bytes;
    struct history_entry **row; /* of version V at V & (capacity - 1) */
    uint64_t capacity;          /* a power of two */
    struct hash_table newest_of;
    struct hash_secret secret;
};

static struct history_entry **places_new(uint64_t count)
{
    struct history_entry **places = calloc(count, sizeof *places);
    CHECK(places != NULL);
    return places;
}

struct history *history_create(void)
{
    struct history *history = malloc(sizeof *history);
    CHECK(history != NULL);
    *history = (struct history){
        .row = places_new(HISTORY_FIRST),
        .capacity = HISTORY_FIRST,
        .secret = hash_secret_new(),
    };
    return history;
}

void history_destroy(struct history *history)
{
    if (history == NULL) {
        return;
    }
    history_forget(history, 0);
    free(history->row);
    hash_table_clear(&history->newest_of, true);
    free(history);
}

static struct history_entry **history_place(const struct history *history, uint64_t version)
{
    return &history->row[version & (history->capacity - 1)];
}

static struct bytes entry_key(const void *item)
{
    return ((const struct history_entry *)item)->key;
}

/* -- changing ------------------------------------------------------------------------------------ */

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

void history_forget(struct history *history, uint64_t version)
{
    while (history->floor < history->newest) {
        history_drop_oldest(history);
    }
    CHECK(history->bytes == 0 && history->newest_of.count == 0);
    history->floor = version;
    history->newest = version;
}

void history_trim(struct history *history, uint64_t bytes_max)
{
    while (history->bytes > bytes_max) {
        history_drop_oldest(history);
    }
}

static void history_row_grow(struct history *history)
{
    if (history->newest - history->floor < history->capacity) {
        return;
    }
    struct history_entry **before = history->row;
    const uint64_t mask = history->capacity - 1;
    history->capacity *= 2;
    history->row = places_new(history->capacity);
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

/* It is the newest of its key. */
static void history_join(struct history *history, struct history_entry *entry)
{
    entry->hash = hash_of(&history->secret, entry->key);
    struct history_entry *before =
        hash_table_put(&history->newest_of, entry->hash, entry->key, entry, entry_key);
    if (before != NULL) {
        before->newer = entry->version;
        memcpy(entry->last, before->last, sizeof entry->last);
    }
    for (unsigned i = 0; i < PARTS; i++) {
        if ((entry->parts & (1u << i)) != 0) {
            entry->last[i] = entry->version;
        }
    }
}

void history_add(struct history *history, uint64_t version, enum change_type type, struct bytes key,
                 uint32_t parts, const struct bytes before[PARTS])
{
    CHECK(version == history->newest + 1);
    history_row_grow(history);
    struct history_entry *entry = entry_new(type, key, parts, before);
    entry->version = version;
    history->newest = version;
    if (key.size > 0) {
        history_join(history, entry);
    }
    *history_place(history, entry->version) = entry;
    history->bytes += history_entry_bytes(entry);
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
    if (newest->last[part] <= entry->version) {
        return NULL; /* nearly always, and without a walk over all that happened to the others */
    }
    do {
        entry = history_at(history, entry->newer);
    } while ((entry->parts & (1u << part)) == 0);
    return entry;
}
