/* What edges reported as events, for the API door to show. Bounded per node, by number and by age.
 * Event objects that come through the API door are objects like others, and age here all the same.
 *
 * Rows of EVENT, three kinds told apart by the first byte of the key:
 *
 *   1 version be64          -> i64 time, u32 node size, u32 key size, u32 body offset, u32 body size;
 *                              node and key each terminated, padded together to 8; Record bytes.
 *                              Without node and Record: the object under this key, created at this
 *                              version, is an Event
 *   2 node \0 record key    -> u64 version: a later record with this key takes the place of it
 *   3 node \0 version be64  -> "": the events of one node by age
 *
 * Time is the cloud's: an edge that booted in 1970 has no opinion on how old an event is.
 */
#include "statemachine/apply.h"

#define EVENT_HEADER_BYTES 24u
#define EVENT_BY_VERSION   1u
#define EVENT_BY_KEY       2u
#define EVENT_BY_NODE      3u
/* Events let go of because of their age, per entry. */
#define EVENT_SWEEP_ROWS 64u

static struct row_key event_key(uint64_t version)
{
    struct row_key key = {.data = {EVENT_BY_VERSION}, .size = 1};
    row_key_add_be64(&key, version);
    return key;
}

static struct row_key event_name_key(struct bytes node, struct bytes name)
{
    struct row_key key = {.data = {EVENT_BY_KEY}, .size = 1};
    row_key_add(&key, node);
    row_key_add_zero(&key);
    row_key_add(&key, name);
    return key;
}

static struct row_key event_node_key(struct bytes node, uint64_t version)
{
    struct row_key key = {.data = {EVENT_BY_NODE}, .size = 1};
    row_key_add(&key, node);
    row_key_add_zero(&key);
    row_key_add_be64(&key, version);
    return key;
}

static bool event_decode(struct bytes value, struct event_row *out)
{
    if (value.size < EVENT_HEADER_BYTES) {
        return false;
    }
    out->time_ms = (int64_t)get_le64(value.data);
    const size_t node_size = get_le32(value.data + 8);
    const size_t key_size = get_le32(value.data + 12);
    const size_t offset = get_le32(value.data + 16);
    const size_t size = get_le32(value.data + 20);
    if (node_size > LIMIT_NAME_BYTES || key_size > LIMIT_KEY_BYTES) {
        return false;
    }
    const size_t names = row_padded(node_size + key_size + 2);
    if (value.size - EVENT_HEADER_BYTES < names) {
        return false;
    }
    const uint8_t *at = value.data + EVENT_HEADER_BYTES;
    out->record = bytes_of(at + names, value.size - EVENT_HEADER_BYTES - names);
    if (at[node_size] != 0 || offset > out->record.size || size > out->record.size - offset) {
        return false;
    }
    out->node = (const char *)at;
    out->key = bytes_of(at + node_size + 1, key_size);
    out->body = bytes_of(out->record.data + offset, size);
    return true;
}

static int event_row_next(struct store_reader *reader, uint64_t after, struct event_row *out);

/* -- writing ----------------------------------------------------------------------------------- */

/* The Event object of this incarnation goes, if it is still there. As with the time to live that
 * Kubernetes gives events, finalizers do not hold it. */
static void event_erase_object(struct machine *machine, struct bytes key, uint64_t version)
{
    struct part_value part;
    struct object object;
    if (object_find(machine, key, &part, &object) && part.created_version == version) {
        const struct record nobody = {.key = ""};
        object_erase(machine, key, &object, &(struct arrival){.record = &nobody});
    }
}

static void event_remove(struct machine *machine, uint64_t version)
{
    const struct row_key row = event_key(version);
    struct bytes value;
    struct event_row event;
    if (!row_get(machine, TABLE_EVENT, row_key_bytes(&row), &value)) {
        return;
    }
    if (!event_decode(value, &event) || machine->meta.event_count == 0) {
        machine->failed = STATUS_CORRUPT;
        return;
    }
    const struct bytes name = bytes_text(event.node);
    store_remove(machine->store, TABLE_EVENT, row_key_bytes(&row));
    machine->meta.event_count--;
    if (name.size == 0) {
        event_erase_object(machine, event.key, version);
        return;
    }
    if (event.key.size > 0) {
        const struct row_key by_key = event_name_key(name, event.key);
        store_remove(machine->store, TABLE_EVENT, row_key_bytes(&by_key));
    }
    const struct row_key by_node = event_node_key(name, version);
    store_remove(machine->store, TABLE_EVENT, row_key_bytes(&by_node));
    struct node_row *node = node_find(machine, name);
    if (node != NULL && node->event_count > 0) {
        node->event_count--;
        node_touch(machine, node, 0);
    }
}

/* The oldest event of a node goes. */
static void event_remove_oldest(struct machine *machine, struct node_row *node)
{
    const struct bytes name = bytes_text(node->name);
    const struct row_key from = event_node_key(name, node->event_swept + 1);
    const struct bytes prefix = bytes_of(from.data, from.size - 8);
    struct store_iterator *iterator =
        store_iterate(store_live(machine->store), TABLE_EVENT, prefix);
    uint64_t version = 0;
    if (store_iterator_seek(iterator, row_key_bytes(&from)) &&
        store_iterator_key(iterator).size == from.size) {
        version = get_be64(store_iterator_key(iterator).data + from.size - 8);
    }
    row_iterator_end(machine, iterator);
    if (version > 0) {
        event_remove(machine, version);
        node->event_swept = version;
        node_touch(machine, node, 0);
    }
}

static void event_write(struct machine *machine, uint64_t version, struct bytes node,
                        struct bytes key, struct bytes record, struct bytes body)
{
    const size_t names = row_padded(node.size + key.size + 2);
    const size_t size = EVENT_HEADER_BYTES + names + record.size;
    uint8_t *value = row_scratch(machine, size);
    memset(value, 0, EVENT_HEADER_BYTES + names);
    put_le64(value, (uint64_t)machine->meta.time_ms);
    put_le32(value + 8, (uint32_t)node.size);
    put_le32(value + 12, (uint32_t)key.size);
    put_le32(value + 16, record.size == 0 ? 0 : (uint32_t)(body.data - record.data));
    put_le32(value + 20, (uint32_t)body.size);
    if (node.size > 0) {
        memcpy(value + EVENT_HEADER_BYTES, node.data, node.size);
    }
    if (key.size > 0) {
        memcpy(value + EVENT_HEADER_BYTES + node.size + 1, key.data, key.size);
    }
    if (record.size > 0) {
        memcpy(value + EVENT_HEADER_BYTES + names, record.data, record.size);
    }
    const struct row_key row = event_key(version);
    store_put(machine->store, TABLE_EVENT, row_key_bytes(&row), bytes_of(value, size));
    if (machine->meta.event_count == 0) {
        machine->meta.event_oldest_ms = machine->meta.time_ms;
    }
    machine->meta.event_count++;
}

void event_note_object(struct machine *machine, struct bytes key, uint64_t version)
{
    event_write(machine, version, (struct bytes){0}, key, (struct bytes){0}, (struct bytes){0});
}

struct machine_result event_apply(struct machine *machine, struct node_row *node,
                                  const struct arrival *arrival)
{
    struct edge_event event;
    const struct bytes key = bytes_text(arrival->record->key);
    if (codec_edge_event_read(machine->codec, arrival->record->body, &event) != STATUS_OK ||
        key.size > LIMIT_KEY_BYTES) {
        return result_of(REFUSED_MALFORMED, 0);
    }
    if (arrival->bytes.size > LIMIT_EVENT_BYTES) {
        return result_of(REFUSED_LIMIT, LIMIT_EVENT_BYTES);
    }

    const struct bytes name = bytes_text(node->name);
    const struct row_key by_key = event_name_key(name, key);
    if (key.size > 0) {
        const uint64_t earlier = row_get_u64(machine, TABLE_EVENT, row_key_bytes(&by_key));
        if (earlier > 0) {
            event_remove(machine, earlier);
        }
    }
    while (node->event_count >= (uint64_t)machine->settings[SETTING_EVENT_ROWS_MAX] &&
           machine->failed == STATUS_OK) {
        const uint64_t count = node->event_count;
        event_remove_oldest(machine, node);
        if (node->event_count == count) {
            machine->failed = STATUS_CORRUPT;
        }
    }

    const uint64_t version = change_next_version(machine);
    const struct bytes nothing[PARTS] = {0};
    change_write(machine, CHANGE_EVENT, (struct bytes){0}, 0, nothing);

    event_write(machine, version, name, key, arrival->bytes, arrival->record->body);
    if (key.size > 0) {
        row_put_u64(machine, TABLE_EVENT, row_key_bytes(&by_key), version);
    }
    const struct row_key by_node = event_node_key(name, version);
    store_put(machine->store, TABLE_EVENT, row_key_bytes(&by_node), (struct bytes){0});

    node->event_count++;
    node_touch(machine, node, 0);
    return result_of(ACCEPTED, version);
}

void event_sweep(struct machine *machine)
{
    struct machine_meta *meta = &machine->meta;
    const int64_t old_ms = meta->time_ms - machine->settings[SETTING_EVENT_AGE_MS];
    if (meta->event_count == 0 || meta->event_oldest_ms > old_ms) {
        return;
    }
    for (unsigned i = 0; i < EVENT_SWEEP_ROWS && machine->failed == STATUS_OK; i++) {
        struct event_row event;
        const int status = event_row_next(store_live(machine->store), meta->event_swept, &event);
        if (status == OBJECT_NONE) {
            return;
        }
        if (status != STATUS_OK) {
            machine->failed = status;
            return;
        }
        meta->event_oldest_ms = event.time_ms;
        if (event.time_ms > old_ms) {
            return;
        }
        const uint64_t version = event.version;
        event_remove(machine, version);
        meta->event_swept = version;
    }
}

void event_forget_node(struct machine *machine, const char *node)
{
    const struct bytes name = bytes_text(node);
    struct row_key prefix = event_node_key(name, 0);
    prefix.size -= 8;
    struct store_iterator *iterator =
        store_iterate(store_live(machine->store), TABLE_EVENT, row_key_bytes(&prefix));
    bool on = store_iterator_first(iterator);
    while (on && machine->failed == STATUS_OK) {
        const struct bytes key = store_iterator_key(iterator);
        if (key.size != prefix.size + 8) {
            machine->failed = STATUS_CORRUPT;
            break;
        }
        event_remove(machine, get_be64(key.data + prefix.size));
        on = store_iterator_next(iterator);
    }
    row_iterator_end(machine, iterator);
}

/* -- reading ----------------------------------------------------------------------------------- */

/* The first row with a version > after, of an edge or of an object. */
static int event_row_next(struct store_reader *reader, uint64_t after, struct event_row *out)
{
    const struct row_key from = event_key(after + 1);
    struct store_iterator *iterator = store_iterate(reader, TABLE_EVENT, bytes_of(from.data, 1));
    uint64_t version = 0;
    int status = OBJECT_NONE;
    if (store_iterator_seek(iterator, row_key_bytes(&from))) {
        const struct bytes key = store_iterator_key(iterator);
        status = key.size == from.size ? STATUS_OK : STATUS_CORRUPT;
        version = status == STATUS_OK ? get_be64(key.data + 1) : 0;
    } else if (store_iterator_status(iterator) != STATUS_OK) {
        status = store_iterator_status(iterator);
    }
    store_iterator_close(iterator);
    if (status != STATUS_OK) {
        return status;
    }

    const struct row_key row = event_key(version);
    struct bytes value;
    status = store_get(reader, TABLE_EVENT, row_key_bytes(&row), &value);
    if (status < 0) {
        return status;
    }
    *out = (struct event_row){.version = version};
    return status == STATUS_OK && event_decode(value, out) ? STATUS_OK : STATUS_CORRUPT;
}

int event_next(struct store_reader *reader, uint64_t after, struct event_row *out)
{
    int status;
    do {
        status = event_row_next(reader, after, out);
        after = status == STATUS_OK ? out->version : after;
    } while (status == STATUS_OK && out->node[0] == '\0');
    return status;
}
