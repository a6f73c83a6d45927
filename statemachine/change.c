/* The history of objects: what each part was before a change, in memory (history.h).
 *
 * A part at version v is what the first change above v that has it says it was before, or the present row when there
 * is none. An event of an edge has an entry without key, so that versions stay without holes; the event is read
 * from its row.
 *
 * Between an orderly end and the next start the newest of it are rows, so that who watches a cluster whose cloudcores are
 * upgraded one after the other need not list:
 *
 *   CHANGE      version be64 -> u8 type, u8 parts, u16 key size, u32 zero, u32 size of each part as it
 *               was before, u32 zero; the key, padded to 8; the parts' rows, each padded to 8
 *
 * The start takes them into memory when they lead to the present version without holes, and whoever owns the store
 * removes them (machine_tidy). Left behind they do no harm: behind versions that go on, or jump in a rebirth, is a hole.
 *
 * An older release had all of its history in such rows, and an index, CHANGE_KEY. When somebody goes back to it, META
 * "state" tells it that nothing is held; rows that an end left then stay, 16 MiB at most, until this release is back.
 */
#include "statemachine/apply.h"

#define CHANGE_HEADER_BYTES 24u
/* Behind all keys of both tables: versions of 8 bytes, and those of objects. */
#define CHANGE_KEYS_END bytes_of("\xff\xff\xff\xff\xff\xff\xff\xff\xff", 9)

/* -- writing ----------------------------------------------------------------------------------- */

uint64_t change_bytes_max(const struct machine *machine)
{
    const uint64_t bytes = (uint64_t)machine->settings[SETTING_CHANGE_HISTORY_BYTES];
    return bytes < LIMIT_MACHINE_HISTORY_BYTES ? bytes : LIMIT_MACHINE_HISTORY_BYTES;
}

uint64_t change_next_version(struct machine *machine)
{
    machine->meta.version++;
    return machine->meta.version;
}

void change_write(struct machine *machine, enum change_type type, struct bytes key, uint32_t parts,
                  const struct bytes before[PARTS])
{
    history_add(machine->history, machine->meta.version, type, key, parts, before,
                change_bytes_max(machine));
}

/* -- from an end to the next start ------------------------------------------------------------- */

/* Remove all rows of a table, if there are any, at once.
 *   answers   STATUS_OK; negative, STATUS_FULL: they are there as before */
static int change_rows_clear(struct machine *machine, unsigned table)
{
    struct store *store = machine->store;
    struct store_iterator *iterator = store_iterate(store_live(store), table, (struct bytes){0});
    const bool any = store_iterator_first(iterator);
    int status = store_iterator_status(iterator);
    store_iterator_close(iterator);
    if (!any) {
        return status;
    }
    store_begin(store);
    status = store_remove_range(store, table, (struct bytes){0}, CHANGE_KEYS_END);
    if (status == STATUS_OK) {
        status = store_commit(store, store_position(store));
    }
    if (status != STATUS_OK) {
        store_abandon(store);
    }
    return status;
}

static void change_put_row(struct machine *machine, const struct history_entry *entry)
{
    size_t size = CHANGE_HEADER_BYTES + row_padded(entry->key.size);
    for (unsigned i = 0; i < PARTS; i++) {
        size += row_padded(entry->before[i].size);
    }
    uint8_t *value = row_scratch(machine, size);
    memset(value, 0, size);
    const uint16_t key_size = (uint16_t)entry->key.size;
    value[0] = (uint8_t)entry->type;
    value[1] = (uint8_t)entry->parts;
    memcpy(value + 2, &key_size, sizeof key_size);
    size_t at = CHANGE_HEADER_BYTES;
    if (key_size > 0) {
        memcpy(value + at, entry->key.data, key_size);
    }
    at += row_padded(key_size);
    for (unsigned i = 0; i < PARTS; i++) {
        put_le32(value + 8 + (size_t)i * 4, (uint32_t)entry->before[i].size);
        if (entry->before[i].size > 0) {
            memcpy(value + at, entry->before[i].data, entry->before[i].size);
        }
        at += row_padded(entry->before[i].size);
    }
    CHECK(at == size);
    struct row_key key = {.size = 0};
    row_key_add_be64(&key, entry->version);
    store_put(machine->store, TABLE_CHANGE, row_key_bytes(&key), bytes_of(value, size));
}

void machine_rest(struct machine *machine)
{
    if (machine->committing || change_rows_clear(machine, TABLE_CHANGE) != STATUS_OK) {
        return;
    }
    const struct history *history = machine->history;
    size_t left = LIMIT_MACHINE_REST_BYTES;
    bool more = true;
    for (uint64_t version = machine->meta.version; more && version > history_floor(history);) {
        store_begin(machine->store);
        while (version > history_floor(history) && more &&
               store_batch_bytes(machine->store) < LIMIT_FRAME_BYTES) {
            const struct history_entry *entry = history_at(history, version);
            const size_t size = history_entry_bytes(entry);
            more = size <= left && size <= LIMIT_FRAME_BYTES;
            if (more) {
                change_put_row(machine, entry);
                left -= size;
                version--;
            }
        }
        if (store_commit(machine->store, store_position(machine->store)) != STATUS_OK) {
            store_abandon(machine->store);
            more = false;
        }
    }
}

void machine_tidy(struct machine *machine)
{
    if (!machine->committing) {
        (void)change_rows_clear(machine, TABLE_CHANGE);
        (void)change_rows_clear(machine, TABLE_CHANGE_KEY);
    }
}

/* Read a row as it was put; answers whether it has the shape. */
static bool change_row_read(struct bytes key, struct bytes value, struct history_entry *out)
{
    if (key.size != 8 || value.size < CHANGE_HEADER_BYTES || value.data[0] < CHANGE_ADDED ||
        value.data[0] > CHANGE_EVENT) {
        return false;
    }
    uint16_t key_size;
    memcpy(&key_size, value.data + 2, sizeof key_size);
    size_t at = CHANGE_HEADER_BYTES;
    if (value.size - at < row_padded(key_size)) {
        return false;
    }
    *out = (struct history_entry){
        .version = get_be64(key.data),
        .type = (enum change_type)value.data[0],
        .parts = value.data[1],
        .key = bytes_of(value.data + at, key_size),
    };
    at += row_padded(key_size);
    for (unsigned i = 0; i < PARTS; i++) {
        const size_t size = get_le32(value.data + 8 + (size_t)i * 4);
        if (value.size - at < row_padded(size)) {
            return false;
        }
        out->before[i] = bytes_of(value.data + at, size);
        at += row_padded(size);
    }
    return at == value.size && (out->type == CHANGE_EVENT) == (key_size == 0);
}

/* The first version from which rows lead to the present one without holes, within the bounds; the next one: none does. */
static uint64_t change_rows_first(const struct machine *machine, struct store_iterator *iterator)
{
    const uint64_t most = change_bytes_max(machine);
    uint64_t left = most < LIMIT_MACHINE_REST_BYTES ? most : LIMIT_MACHINE_REST_BYTES;
    uint64_t first = machine->meta.version + 1;
    for (bool on = store_iterator_last(iterator); on; on = store_iterator_previous(iterator)) {
        struct history_entry entry;
        if (!change_row_read(store_iterator_key(iterator), store_iterator_value(iterator),
                             &entry) ||
            entry.version != first - 1 || history_entry_bytes(&entry) > left) {
            break;
        }
        left -= history_entry_bytes(&entry);
        first--;
    }
    return first;
}

int change_load(struct machine *machine)
{
    struct store_iterator *iterator =
        store_iterate(store_live(machine->store), TABLE_CHANGE, (struct bytes){0});
    const uint64_t first = change_rows_first(machine, iterator);
    struct row_key from = {.size = 0};
    row_key_add_be64(&from, first);
    history_forget(machine->history, first - 1);
    bool on = store_iterator_seek(iterator, row_key_bytes(&from));
    for (uint64_t version = first; on && version <= machine->meta.version; version++) {
        struct history_entry entry;
        if (!change_row_read(store_iterator_key(iterator), store_iterator_value(iterator),
                             &entry) ||
            entry.version != version) {
            break;
        }
        history_add(machine->history, version, entry.type, entry.key, entry.parts, entry.before,
                    LIMIT_MACHINE_REST_BYTES);
        history_commit(machine->history, LIMIT_MACHINE_REST_BYTES);
        on = store_iterator_next(iterator);
    }
    const int status = store_iterator_status(iterator);
    store_iterator_close(iterator);
    if (status != STATUS_OK || history_newest(machine->history) != machine->meta.version) {
        history_forget(machine->history, machine->meta.version);
    }
    return status;
}

/* -- reading ----------------------------------------------------------------------------------- */

/* The rows of all parts as they were after the entry, empty where there was none. Lent until the reader's reset. */
static int change_parts_after(const struct machine *machine, struct store_reader *reader,
                              const struct history_entry *entry, struct bytes out[PARTS])
{
    for (unsigned i = 0; i < PARTS; i++) {
        out[i] = (struct bytes){0};
        const struct history_entry *later = history_later(machine->history, entry, (enum part)i);
        if (later != NULL) {
            out[i] = later->before[i];
            continue;
        }
        const int status = store_get(reader, part_table((enum part)i), entry->key, &out[i]);
        if (status < 0) {
            return status;
        }
    }
    return STATUS_OK;
}

static int change_fill(const struct machine *machine, struct store_reader *reader,
                       const struct history_entry *entry, struct change *out)
{
    struct bytes before[PARTS];
    struct bytes after[PARTS];
    const int status = change_parts_after(machine, reader, entry, after);
    if (status != STATUS_OK) {
        return status;
    }
    for (unsigned i = 0; i < PARTS; i++) {
        before[i] = (entry->parts & (1u << i)) != 0 ? entry->before[i] : after[i];
    }
    if (!object_row_fill(entry->key, before, &out->before) ||
        !object_row_fill(entry->key, after, &out->after)) {
        return STATUS_CORRUPT;
    }
    return STATUS_OK;
}

static size_t change_bytes(const struct change *change)
{
    size_t sum = change->key.size + change->event.record.size;
    for (unsigned i = 0; i < PARTS; i++) {
        sum += change->before.parts[i].record.size + change->after.parts[i].record.size;
    }
    return sum;
}

int change_follow(const struct machine *machine, struct store_reader *reader, uint64_t after,
                  uint32_t max_count, size_t max_bytes,
                  bool (*wants)(void *context, struct bytes key),
                  int (*on_change)(void *context, const struct change *change), void *context,
                  uint64_t *out_reached)
{
    CHECK(max_count > 0);
    *out_reached = after;
    struct machine_meta meta;
    int status = machine_meta_get(reader, &meta);
    if (status != STATUS_OK) {
        return status;
    }
    if (after > meta.version) {
        return CHANGE_AHEAD;
    }
    if (after < history_floor(machine->history)) {
        return CHANGE_EXPIRED;
    }

    size_t bytes = 0;
    bool stop = false;
    for (uint32_t count = 0; !stop && count < max_count && *out_reached < meta.version; count++) {
        store_reader_reset(reader);
        const struct history_entry *entry = history_at(machine->history, *out_reached + 1);
        struct change change = {
            .version = entry->version,
            .type = entry->type,
            .parts = entry->parts,
            .key = entry->key,
        };
        bool told = true;
        if (change.type == CHANGE_EVENT) {
            status = event_next(reader, change.version - 1, &change.event);
            told =
                status == STATUS_OK && change.event.version == change.version; /* or let go since */
            status = status < 0 ? status : STATUS_OK;
        } else if (wants == NULL || wants(context, change.key)) {
            status = change_fill(machine, reader, entry, &change);
        }
        if (status != STATUS_OK) {
            break;
        }
        bytes += change_bytes(&change);
        if (bytes > max_bytes && count > 0) {
            break;
        }
        stop = told && on_change(context, &change) != 0;
        *out_reached = change.version;
    }
    return status;
}

int change_read(const struct machine *machine, struct store_reader *reader, uint64_t after,
                uint32_t max_count, size_t max_bytes,
                int (*on_change)(void *context, const struct change *change), void *context,
                uint64_t *out_reached)
{
    return change_follow(machine, reader, after, max_count, max_bytes, NULL, on_change, context,
                         out_reached);
}
