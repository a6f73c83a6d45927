/* The history of objects: what each part was before a change.
 *
 * Rows, one per version of the cluster, without holes above meta.change_floor:
 *
 *   CHANGE      version be64 -> u8 type, u8 parts, u16 key size, u32 zero, u32 size of each part as it
 *               was before, u32 zero; the key, padded to 8; the parts' rows, each padded to 8
 *   CHANGE_KEY  key \0 version be64 -> u8 parts
 *
 * A part at version v is what the first change above v that has it says it was before, or the
 * present row when there is none: CHANGE_KEY finds that change in one step. An event of an edge has
 * a CHANGE row without key, so that versions stay without holes; the event is read from its row.
 *
 * The history is bounded by bytes. An entry that alone would write more than the bound (it removes
 * many large objects) writes none of it beyond: the floor rises, and watches list anew.
 */
#include "statemachine/apply.h"

#define CHANGE_HEADER_BYTES 24u
/* Rows let go per record: more than a record writes, so that a lowered bound is reached. */
#define CHANGE_TRIM_ROWS 8u

static struct row_key change_key(uint64_t version)
{
    struct row_key key;
    key.size = 0;
    row_key_add_be64(&key, version);
    return key;
}

static struct row_key change_object_key(struct bytes object, uint64_t version)
{
    struct row_key key;
    key.size = 0;
    row_key_add(&key, object);
    row_key_add_zero(&key);
    row_key_add_be64(&key, version);
    return key;
}

struct change_value {
    enum change_type type;
    uint32_t parts;
    struct bytes key;
    struct bytes before[PARTS];
};

static bool change_decode(struct bytes value, struct change_value *out)
{
    if (value.size < CHANGE_HEADER_BYTES) {
        return false;
    }
    uint16_t key_size;
    memcpy(&key_size, value.data + 2, sizeof key_size);
    out->type = (enum change_type)value.data[0];
    out->parts = value.data[1];
    if (out->type < CHANGE_ADDED || out->type > CHANGE_EVENT) {
        return false;
    }
    size_t at = CHANGE_HEADER_BYTES;
    if (value.size - at < row_padded(key_size)) {
        return false;
    }
    out->key = bytes_of(value.data + at, key_size);
    at += row_padded(key_size);
    for (unsigned i = 0; i < PARTS; i++) {
        const size_t size = get_le32(value.data + 8 + (size_t)i * 4);
        if (value.size - at < row_padded(size)) {
            return false;
        }
        out->before[i] = bytes_of(value.data + at, size);
        at += row_padded(size);
    }
    return at == value.size;
}

/* -- writing ----------------------------------------------------------------------------------- */

uint64_t change_next_version(struct machine *machine)
{
    machine->meta.version++;
    return machine->meta.version;
}

void change_write(struct machine *machine, enum change_type type, struct bytes key, uint32_t parts,
                  const struct bytes before[PARTS])
{
    const uint64_t version = machine->meta.version;
    size_t size = CHANGE_HEADER_BYTES + row_padded(key.size);
    for (unsigned i = 0; i < PARTS; i++) {
        size += row_padded(before[i].size);
    }
    const uint64_t bound = (uint64_t)machine->settings[SETTING_CHANGE_HISTORY_BYTES];
    if (size > LIMIT_FRAME_BYTES || machine->history_bytes + size > bound) {
        machine->meta.change_floor = version;
        return;
    }

    uint8_t *value = row_scratch(machine, size);
    memset(value, 0, size);
    const uint16_t key_size = (uint16_t)key.size;
    value[0] = (uint8_t)type;
    value[1] = (uint8_t)parts;
    memcpy(value + 2, &key_size, sizeof key_size);
    size_t at = CHANGE_HEADER_BYTES;
    if (key.size > 0) {
        memcpy(value + at, key.data, key.size);
    }
    at += row_padded(key.size);
    for (unsigned i = 0; i < PARTS; i++) {
        put_le32(value + 8 + (size_t)i * 4, (uint32_t)before[i].size);
        if (before[i].size > 0) {
            memcpy(value + at, before[i].data, before[i].size);
        }
        at += row_padded(before[i].size);
    }
    CHECK(at == size);
    const struct row_key row = change_key(version);
    store_put(machine->store, TABLE_CHANGE, row_key_bytes(&row), bytes_of(value, size));
    if (key.size > 0) {
        const uint8_t mask = (uint8_t)parts;
        const struct row_key index = change_object_key(key, version);
        store_put(machine->store, TABLE_CHANGE_KEY, row_key_bytes(&index), bytes_of(&mask, 1));
    }
    machine->history_bytes += size;
    machine->meta.change_bytes += size;
}

void change_trim(struct machine *machine)
{
    struct machine_meta *meta = &machine->meta;
    const uint64_t bound = (uint64_t)machine->settings[SETTING_CHANGE_HISTORY_BYTES];
    for (unsigned i = 0; i < CHANGE_TRIM_ROWS; i++) {
        const bool forgotten = meta->change_swept < meta->change_floor;
        if (meta->change_swept == meta->version || (!forgotten && meta->change_bytes <= bound)) {
            return;
        }
        const uint64_t version = meta->change_swept + 1;
        const struct row_key row = change_key(version);
        struct bytes value;
        struct change_value change;
        if (row_get(machine, TABLE_CHANGE, row_key_bytes(&row), &value)) {
            if (!change_decode(value, &change) || value.size > meta->change_bytes) {
                machine->failed = STATUS_CORRUPT;
                return;
            }
            if (change.key.size > 0) {
                const struct row_key index = change_object_key(change.key, version);
                store_remove(machine->store, TABLE_CHANGE_KEY, row_key_bytes(&index));
            }
            store_remove(machine->store, TABLE_CHANGE, row_key_bytes(&row));
            meta->change_bytes -= value.size;
        }
        meta->change_swept = version;
        if (meta->change_floor < version) {
            meta->change_floor = version;
        }
    }
}

/* -- reading ----------------------------------------------------------------------------------- */

struct change_reading {
    struct store_reader *reader;
    struct store_iterator *index; /* over CHANGE_KEY; NULL: not needed yet */
};

/* Of the parts in `open`, the bits of those that no later change speaks of. The first change behind `version` that has
 * a part tells what it was. One walk for all of them: nearly always there is no later change. */
static int change_later(struct change_reading *reading, struct bytes key, uint64_t version,
                        uint32_t *open, struct bytes out[PARTS])
{
    const struct row_key from = change_object_key(key, version + 1);
    const struct bytes prefix = bytes_of(from.data, key.size + 1);
    if (reading->index == NULL) {
        reading->index = store_iterate(reading->reader, TABLE_CHANGE_KEY, (struct bytes){0});
    }
    bool on = store_iterator_seek(reading->index, row_key_bytes(&from));
    while (on && bytes_start_with(store_iterator_key(reading->index), prefix)) {
        const struct bytes found = store_iterator_key(reading->index);
        const struct bytes mask = store_iterator_value(reading->index);
        if (found.size != from.size || mask.size != 1) {
            return STATUS_CORRUPT;
        }
        if ((mask.data[0] & *open) != 0) {
            const struct row_key later = change_key(get_be64(found.data + key.size + 1));
            struct bytes bytes;
            struct change_value change;
            const int status =
                store_get(reading->reader, TABLE_CHANGE, row_key_bytes(&later), &bytes);
            if (status < 0) {
                return status;
            }
            if (status == STORE_NONE || !change_decode(bytes, &change)) {
                return STATUS_CORRUPT;
            }
            for (unsigned i = 0; i < PARTS; i++) {
                if ((mask.data[0] & *open & (1u << i)) != 0) {
                    out[i] = change.before[i];
                }
            }
            *open &= ~(uint32_t)mask.data[0];
            if (*open == 0) {
                return STATUS_OK;
            }
        }
        on = store_iterator_next(reading->index);
    }
    return store_iterator_status(reading->index);
}

/* The rows of all parts as they were at `version`, empty where there was none. Lent until the reader's
 * reset. */
static int change_parts_at(struct change_reading *reading, struct bytes key, uint64_t version,
                           struct bytes out[PARTS])
{
    uint32_t open = 0; /* of these the present row does not say what they were */
    for (unsigned i = 0; i < PARTS; i++) {
        struct part_value value;
        out[i] = (struct bytes){0};
        const int status = store_get(reading->reader, part_table((enum part)i), key, &out[i]);
        if (status < 0) {
            return status;
        }
        if (!part_decode(out[i], &value)) {
            return STATUS_CORRUPT;
        }
        if (out[i].size == 0 || value.version > version) {
            open |= 1u << i;
        }
    }
    return open == 0 ? STATUS_OK : change_later(reading, key, version, &open, out);
}

static int change_fill(struct change_reading *reading, const struct change_value *value,
                       struct change *out)
{
    struct bytes before[PARTS];
    struct bytes after[PARTS];
    const int status = change_parts_at(reading, value->key, out->version, after);
    if (status != STATUS_OK) {
        return status;
    }
    for (unsigned i = 0; i < PARTS; i++) {
        before[i] = (value->parts & (1u << i)) != 0 ? value->before[i] : after[i];
    }
    if (!object_row_fill(value->key, before, &out->before) ||
        !object_row_fill(value->key, after, &out->after)) {
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

int change_follow(struct store_reader *reader, uint64_t after, uint32_t max_count, size_t max_bytes,
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
    if (after < meta.change_floor) {
        return CHANGE_EXPIRED;
    }

    struct change_reading reading = {.reader = reader};
    size_t bytes = 0;
    bool stop = false;
    for (uint32_t count = 0; !stop && count < max_count && *out_reached < meta.version; count++) {
        store_reader_reset(reader);
        struct change change = {.version = *out_reached + 1};
        const struct row_key row = change_key(change.version);
        struct bytes value;
        struct change_value decoded;
        status = store_get(reader, TABLE_CHANGE, row_key_bytes(&row), &value);
        if (status < 0) {
            break;
        }
        if (status == STORE_NONE || !change_decode(value, &decoded)) {
            status = STATUS_CORRUPT;
            break;
        }
        change.type = decoded.type;
        change.parts = decoded.parts;
        change.key = decoded.key;
        bool told = true;
        if (change.type == CHANGE_EVENT) {
            status = event_next(reader, change.version - 1, &change.event);
            told =
                status == STATUS_OK && change.event.version == change.version; /* or let go since */
            status = status < 0 ? status : STATUS_OK;
        } else if (wants == NULL || wants(context, decoded.key)) {
            status = change_fill(&reading, &decoded, &change);
        }
        if (status != STATUS_OK) {
            break;
        }
        const size_t told_bytes = change_bytes(&change);
        bytes += value.size > told_bytes ? value.size : told_bytes;
        if (bytes > max_bytes && count > 0) {
            break;
        }
        stop = told && on_change(context, &change) != 0;
        *out_reached = change.version;
    }
    store_iterator_close(reading.index);
    return status;
}

int change_read(struct store_reader *reader, uint64_t after, uint32_t max_count, size_t max_bytes,
                int (*on_change)(void *context, const struct change *change), void *context,
                uint64_t *out_reached)
{
    return change_follow(reader, after, max_count, max_bytes, NULL, on_change, context,
                         out_reached);
}
