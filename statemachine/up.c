/* What an edge has to tell the cloud: facts in order, until they are acknowledged. */
#include "statemachine/edge_body.h"

#include "schemas/check.h"

/* A row of UP: 16 bytes, the record, the key of its UP_KEY row. */
#define EDGE_UP_HEADER_BYTES 16u

struct edge_up_row {
    uint16_t kind;
    struct bytes record; /* 8-byte aligned when the row is */
    struct bytes key;    /* of UP_KEY; empty: none */
};

static int edge_up_row_read(struct bytes row, struct edge_up_row *out)
{
    if (row.size < EDGE_UP_HEADER_BYTES) {
        return STATUS_CORRUPT;
    }
    const uint64_t key_size = get_le32(row.data);
    const uint64_t record_size = get_le64(row.data + 8);
    if (record_size > row.size || row.size != EDGE_UP_HEADER_BYTES + record_size + key_size) {
        return STATUS_CORRUPT;
    }
    out->kind = (uint16_t)get_le32(row.data + 4);
    out->record = bytes_of(row.data + EDGE_UP_HEADER_BYTES, (size_t)record_size);
    out->key = bytes_of(out->record.data + record_size, (size_t)key_size);
    return STATUS_OK;
}

/* A fact in place of the one that has this sequence, or, `added`, under a new one. */
static void edge_up_put(struct edge_machine *machine, uint64_t sequence, uint16_t kind,
                        struct bytes record, struct bytes key, bool added)
{
    const size_t size = EDGE_UP_HEADER_BYTES + record.size + key.size;
    uint8_t *row = codec_array(machine->codec, size, 1);
    put_le32(row, (uint32_t)key.size);
    put_le32(row + 4, kind);
    put_le64(row + 8, record.size);
    memcpy(row + EDGE_UP_HEADER_BYTES, record.data, record.size);
    if (key.size > 0) {
        memcpy(row + EDGE_UP_HEADER_BYTES + record.size, key.data, key.size);
    }
    uint8_t memory[8];
    (added ? store_add : store_put)(machine->store, EDGE_TABLE_UP, edge_key8(memory, sequence),
                                    bytes_of(row, size));
}

/* kind (be32), key, \0, uid. */
#define EDGE_UP_KEY_BYTES (4u + LIMIT_KEY_BYTES + 1u + LIMIT_NAME_BYTES)
static struct bytes edge_up_key(uint8_t memory[static EDGE_UP_KEY_BYTES], uint16_t kind,
                                const char *key, const char *uid)
{
    const size_t key_size = strlen(key);
    const size_t uid_size = strlen(uid);
    CHECK(key_size <= LIMIT_KEY_BYTES);
    CHECK(uid_size <= LIMIT_NAME_BYTES);
    memory[0] = 0;
    memory[1] = 0;
    memory[2] = (uint8_t)(kind >> 8);
    memory[3] = (uint8_t)kind;
    memcpy(memory + 4, key, key_size + 1);
    memcpy(memory + 4 + key_size + 1, uid, uid_size);
    return bytes_of(memory, 4 + key_size + 1 + uid_size);
}

/* Drop the row of UP that this UP_KEY row points to, and that row. */
static int edge_up_drop(struct edge_machine *machine, struct bytes up_key)
{
    struct bytes value;
    const int status = store_get(store_live(machine->store), EDGE_TABLE_UP_KEY, up_key, &value);
    if (status != STATUS_OK) {
        return status == STORE_NONE ? STATUS_OK : status;
    }
    if (value.size != 8) {
        return STATUS_CORRUPT;
    }
    uint8_t memory[8];
    store_remove(machine->store, EDGE_TABLE_UP, edge_key8(memory, get_le64(value.data)));
    store_remove(machine->store, EDGE_TABLE_UP_KEY, up_key);
    return STATUS_OK;
}

int edge_up_append(struct edge_machine *machine, uint16_t kind, struct bytes record,
                   const char *key, const char *uid)
{
    uint8_t memory[EDGE_UP_KEY_BYTES];
    struct bytes up_key = {0};
    if (uid != NULL) {
        up_key = edge_up_key(memory, kind, key, uid);
        const int status = edge_up_drop(machine, up_key);
        if (status < 0) {
            return status;
        }
    }

    machine->meta.up_last++;
    const uint64_t sequence = machine->meta.up_last;
    edge_up_put(machine, sequence, kind, record, up_key, true);
    if (uid != NULL) {
        uint8_t value[8];
        put_le64(value, sequence);
        store_put(machine->store, EDGE_TABLE_UP_KEY, up_key, bytes_of(value, sizeof value));
    }
    machine->applied->up_sequence = sequence;
    return STATUS_OK;
}

int edge_up_withdraw(struct edge_machine *machine, uint16_t kind, const char *key, const char *uid)
{
    uint8_t memory[EDGE_UP_KEY_BYTES];
    return edge_up_drop(machine, edge_up_key(memory, kind, key, uid));
}

/* -- events and their retention ----------------------------------------------------------------------- */

/* The oldest unread event gives way: the GAP record takes its place in the order, and tells of all
 * that went before it too. */
static int edge_up_event_drop(struct edge_machine *machine, uint64_t sequence, uint32_t size)
{
    struct edge_meta *meta = &machine->meta;
    const struct gap gap = {.first = meta->gap_first != 0 ? meta->gap_first : sequence,
                            .last = sequence};
    struct record record = {.kind = RECORD_GAP, .key = "", .origin = meta->node};
    struct bytes bytes;
    int status = codec_gap_build(machine->codec, &gap, &record.body);
    CHECK(status == STATUS_OK);
    status = codec_record_build(machine->codec, &record, &bytes);
    CHECK(status == STATUS_OK);

    uint8_t memory[8];
    store_remove(machine->store, EDGE_TABLE_UP_EVENT, edge_key8(memory, sequence));
    if (meta->gap_sequence != 0) {
        store_remove(machine->store, EDGE_TABLE_UP, edge_key8(memory, meta->gap_sequence));
    }
    edge_up_put(machine, sequence, RECORD_GAP, bytes, (struct bytes){0}, false);
    meta->gap_first = gap.first;
    meta->gap_sequence = sequence;
    CHECK(meta->event_count > 0);
    CHECK(meta->event_bytes >= size);
    meta->event_count--;
    meta->event_bytes -= size;
    machine->applied->gap_recorded = true;
    return STATUS_OK;
}

int edge_up_event_added(struct edge_machine *machine, size_t record_bytes)
{
    struct edge_meta *meta = &machine->meta;
    const struct edge_limits *limits = &machine->limits;
    uint8_t memory[8];
    uint8_t size[4];
    put_le32(size, (uint32_t)record_bytes);
    store_add(machine->store, EDGE_TABLE_UP_EVENT, edge_key8(memory, meta->up_last),
              bytes_of(size, sizeof size));
    meta->event_count++;
    meta->event_bytes += record_bytes;
    if (meta->event_count <= limits->events && meta->event_bytes <= limits->event_bytes) {
        return STATUS_OK;
    }

    struct store_iterator *iterator =
        store_iterate(store_live(machine->store), EDGE_TABLE_UP_EVENT, (struct bytes){0});
    int status = STATUS_OK;
    /* Not from the first key of the table: those that gave way, or were acknowledged, left graves there. */
    const uint64_t gone = meta->gap_sequence > meta->up_acked ? meta->gap_sequence : meta->up_acked;
    bool on = store_iterator_seek(iterator, edge_key8(memory, gone + 1));
    while (on && status == STATUS_OK && meta->event_count > 1 &&
           (meta->event_count > limits->events || meta->event_bytes > limits->event_bytes)) {
        const struct bytes value = store_iterator_value(iterator);
        status = value.size == 4
                     ? edge_up_event_drop(machine, get_be64(store_iterator_key(iterator).data),
                                          get_le32(value.data))
                     : STATUS_CORRUPT;
        on = store_iterator_next(iterator);
    }
    if (status == STATUS_OK) {
        status = store_iterator_status(iterator);
    }
    store_iterator_close(iterator);
    return status;
}

int edge_mqtt_message_apply(struct edge_machine *machine, struct bytes bytes,
                            const struct record *record)
{
    struct mqtt_message message;
    if (strlen(record->key) > LIMIT_KEY_BYTES ||
        codec_mqtt_message_read(machine->codec, record->body, &message) != STATUS_OK ||
        message.payload.size > LIMIT_MESSAGE_BYTES ||
        bytes.size > LIMIT_FACT_BYTES) { /* the cloud would refuse it, and nobody would hear */
        edge_refuse(machine, EDGE_REFUSED_MALFORMED);
        return STATUS_OK;
    }
    const int status = edge_up_append(machine, record->kind, bytes, record->key, NULL);
    return status < 0 ? status : edge_up_event_added(machine, bytes.size);
}

/* -- acknowledgement --------------------------------------------------------------------------------- */

/* Whether it has a row of UP_EVENT, and may give way to newer ones. */
static bool edge_up_is_event(uint16_t kind)
{
    return kind == RECORD_EDGE_EVENT || kind == RECORD_DEVICE_VALUE || kind == RECORD_MQTT_MESSAGE;
}

/* One row is applied in the cloud: it goes, with what points to it. */
static int edge_up_trim(struct edge_machine *machine, uint64_t sequence, struct bytes bytes)
{
    struct edge_meta *meta = &machine->meta;
    struct edge_up_row row;
    const int status = edge_up_row_read(bytes, &row);
    if (status != STATUS_OK) {
        return status;
    }
    uint8_t memory[8];
    const struct bytes key = edge_key8(memory, sequence);
    if (row.key.size > 0) {
        store_remove(machine->store, EDGE_TABLE_UP_KEY, row.key);
    }
    if (edge_up_is_event(row.kind)) {
        CHECK(meta->event_count > 0);
        CHECK(meta->event_bytes >= row.record.size);
        meta->event_count--;
        meta->event_bytes -= row.record.size;
        store_remove(machine->store, EDGE_TABLE_UP_EVENT, key);
    }
    if (sequence == meta->gap_sequence) {
        meta->gap_sequence = 0;
        meta->gap_first = 0;
    }
    store_remove(machine->store, EDGE_TABLE_UP, key);
    return STATUS_OK;
}

/* UP_ACK: the cloud has applied our records up to there. */
int edge_up_ack_apply(struct edge_machine *machine, const struct record *record)
{
    struct edge_meta *meta = &machine->meta;
    struct down_ack ack;
    if (codec_down_ack_read(machine->codec, record->body, &ack) != STATUS_OK) {
        edge_refuse(machine, EDGE_REFUSED_MALFORMED);
        return STATUS_OK;
    }
    if (ack.stream != meta->up_stream) {
        edge_refuse(machine, EDGE_REFUSED_STREAM);
        return STATUS_OK;
    }
    if (ack.position > meta->up_last) { /* of what we never said: not our cloud, or not our log */
        edge_refuse(machine, EDGE_REFUSED_GAP);
        return STATUS_OK;
    }
    if (ack.position <= meta->up_acked) {
        machine->applied->outcome = EDGE_DUPLICATE;
        return STATUS_OK;
    }

    struct store_iterator *iterator =
        store_iterate(store_live(machine->store), EDGE_TABLE_UP, (struct bytes){0});
    int status = STATUS_OK;
    uint8_t memory[8]; /* not from the first key of the table: what is trimmed left graves there */
    for (bool on = store_iterator_seek(iterator, edge_key8(memory, meta->up_acked + 1));
         on && status == STATUS_OK; on = store_iterator_next(iterator)) {
        const uint64_t sequence = get_be64(store_iterator_key(iterator).data);
        if (sequence > ack.position) {
            break;
        }
        status = edge_up_trim(machine, sequence, store_iterator_value(iterator));
    }
    if (status == STATUS_OK) {
        status = store_iterator_status(iterator);
    }
    store_iterator_close(iterator);
    meta->up_acked = ack.position;
    return status;
}

/* -- shipping ------------------------------------------------------------------------------------------ */

int edge_up_read(struct edge_machine *machine, uint64_t after, size_t max_bytes,
                 struct codec *codec, struct batch *out)
{
    const struct edge_meta *meta = &machine->meta;
    if (after < meta->up_acked) {
        after = meta->up_acked;
    }
    if (after > meta->up_last) {
        after = meta->up_last; /* the asker knows more than we do: nothing to ship */
    }
    struct sequenced *records = NULL;
    uint32_t count = 0;
    uint32_t capacity = 0;
    size_t bytes = 0;
    uint64_t last = after;
    int status = STATUS_OK;

    uint8_t memory[8];
    struct store_iterator *iterator =
        store_iterate(store_live(machine->store), EDGE_TABLE_UP, (struct bytes){0});
    bool on = store_iterator_seek(iterator, edge_key8(memory, after + 1));
    while (on && status == STATUS_OK) {
        struct edge_up_row row;
        status = edge_up_row_read(store_iterator_value(iterator), &row);
        if (status != STATUS_OK || (count > 0 && bytes + row.record.size > max_bytes) ||
            count == LIMIT_BATCH_RECORDS) {
            break;
        }
        if (count == capacity) {
            capacity = capacity == 0 ? 16 : 2 * capacity;
            struct sequenced *larger = codec_array(codec, capacity, sizeof *larger);
            if (count > 0) {
                memcpy(larger, records, count * sizeof *larger);
            }
            records = larger;
        }
        struct bytes record = codec_copy(codec, row.record);
        if (row.kind == RECORD_DEVICE_STATUS) {
            status = edge_device_status_fill(machine, codec, &record);
            if (status != STATUS_OK) {
                break;
            }
        }
        last = get_be64(store_iterator_key(iterator).data);
        records[count] = (struct sequenced){.sequence = last, .record = record};
        bytes += record.size;
        count++;
        on = store_iterator_next(iterator);
    }
    if (status == STATUS_OK) {
        status = store_iterator_status(iterator);
    }
    store_iterator_close(iterator);
    if (status != STATUS_OK) {
        return status;
    }
    *out = (struct batch){.node = codec_print(codec, "%s", meta->node),
                          .stream = meta->up_stream,
                          .previous = after,
                          .last = on ? last : meta->up_last, /* read to the end: it covers that */
                          .tip = meta->up_last,
                          .records = records,
                          .record_count = count};
    return STATUS_OK;
}
