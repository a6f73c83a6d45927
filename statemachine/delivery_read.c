#include "statemachine/apply.h"

/* What one record costs in a batch beside its bytes: offsets, sequence, alignment. */
#define DELIVERY_RECORD_OVERHEAD 64u
/* What all records of one batch may take, so that the frame around them fits too. */
#define DELIVERY_BYTES_MAX (LIMIT_FRAME_BYTES / 2)
static_assert(LIMIT_RECORD_BYTES + DELIVERY_RECORD_OVERHEAD <= DELIVERY_BYTES_MAX,
              "one record always fits");
/* Records a batch begins with room for. */
#define DELIVERY_RECORDS_FIRST 64u

/* -- nodes ------------------------------------------------------------------------------------- */

/* Decode a row and add what other rows know of it. */
static int node_fill(struct store_reader *reader, struct bytes name, struct bytes value,
                     struct node_row *out)
{
    if (!node_decode(name, value, out)) {
        return STATUS_CORRUPT;
    }
    struct bytes count;
    const int status = store_get(reader, TABLE_BOUND, name, &count);
    if (status < 0) {
        return status;
    }
    out->bound_count = status == STATUS_OK && count.size == 8 ? get_le64(count.data) : 0;
    return STATUS_OK;
}

int node_get(struct store_reader *reader, const char *name, struct node_row *out)
{
    const struct bytes key = bytes_text(name);
    if (key.size == 0 || key.size > LIMIT_NAME_BYTES) {
        return NODE_NONE;
    }
    struct bytes value;
    const int status = store_get(reader, TABLE_NODE, key, &value);
    if (status < 0) {
        return status;
    }
    return status == STORE_NONE ? NODE_NONE : node_fill(reader, key, value, out);
}

int node_next(struct store_reader *reader, const char *after, struct node_row *out)
{
    const struct bytes from = bytes_text(after);
    struct store_iterator *iterator = store_iterate(reader, TABLE_NODE, (struct bytes){0});
    bool on = from.size == 0 ? store_iterator_first(iterator) : store_iterator_seek(iterator, from);
    if (on && from.size > 0 && bytes_equal(store_iterator_key(iterator), from)) {
        on = store_iterator_next(iterator);
    }
    int status = store_iterator_status(iterator);
    if (on) {
        status =
            node_fill(reader, store_iterator_key(iterator), store_iterator_value(iterator), out);
    } else if (status == STATUS_OK) {
        status = NODE_NONE;
    }
    store_iterator_close(iterator);
    return status;
}

int delivery_sequence_find(struct store_reader *reader, const char *node, struct bytes key,
                           const char *uid, uint64_t *out_sequence)
{
    if (key.size == 0 || key.size > LIMIT_KEY_BYTES || strlen(node) > LIMIT_NAME_BYTES ||
        strlen(uid) > LIMIT_NAME_BYTES) {
        return NODE_NONE;
    }
    struct row_key row = row_key_pair(bytes_text(node), key);
    struct bytes value;
    int status = store_get(reader, TABLE_HELD, row_key_bytes(&row), &value);
    struct held_row held = {0};
    if (status == STATUS_OK && !held_decode(value, &held)) {
        status = STATUS_CORRUPT;
    }
    if (status < 0) {
        return status;
    }
    if (held.sequence > 0 && bytes_equal_text(held.uid, uid)) {
        struct node_row found;
        status = node_get(reader, node, &found);
        if (status != STATUS_OK || held.sequence <= found.down_swept) {
            return status < 0 ? status : NODE_NONE;
        }
        *out_sequence = held.sequence;
        return STATUS_OK;
    }
    row_key_add_zero(&row);
    row_key_add(&row, bytes_text(uid));
    status = store_get(reader, TABLE_DOWN_KEY, row_key_bytes(&row), &value);
    if (status != STATUS_OK) {
        return status == STORE_NONE ? NODE_NONE : status;
    }
    if (value.size != 8) {
        return STATUS_CORRUPT;
    }
    *out_sequence = get_le64(value.data);
    return STATUS_OK;
}

int delivery_held_find(struct store_reader *reader, const char *node, struct bytes key)
{
    if (key.size == 0 || key.size > LIMIT_KEY_BYTES || strlen(node) > LIMIT_NAME_BYTES) {
        return NODE_NONE;
    }
    const struct row_key row = row_key_pair(bytes_text(node), key);
    const int status = store_find(reader, TABLE_HELD, row_key_bytes(&row));
    return status == STORE_NONE ? NODE_NONE : status;
}

/* -- a list of records that grows --------------------------------------------------------------- */

struct delivery_list {
    struct codec *codec;
    struct sequenced *records;
    uint32_t count;
    uint32_t capacity;
    size_t bytes;
    size_t bytes_max;
};

static struct delivery_list delivery_list_begin(struct codec *codec, size_t max_bytes)
{
    return (struct delivery_list){
        .codec = codec,
        .bytes_max = max_bytes < DELIVERY_BYTES_MAX ? max_bytes : DELIVERY_BYTES_MAX,
    };
}

static bool delivery_list_fits(const struct delivery_list *list, struct bytes record)
{
    return list->count == 0 ||
           (list->count < LIMIT_BATCH_RECORDS &&
            list->bytes + record.size + DELIVERY_RECORD_OVERHEAD <= list->bytes_max);
}

static void delivery_list_add(struct delivery_list *list, uint64_t sequence, struct bytes record)
{
    if (list->count == list->capacity) {
        const uint32_t capacity = list->capacity == 0 ? DELIVERY_RECORDS_FIRST : list->capacity * 2;
        struct sequenced *records = codec_array(list->codec, capacity, sizeof *records);
        if (list->count > 0) {
            memcpy(records, list->records, list->count * sizeof *records);
        }
        list->records = records;
        list->capacity = capacity;
    }
    list->records[list->count] = (struct sequenced){.sequence = sequence, .record = record};
    list->count++;
    list->bytes += record.size + DELIVERY_RECORD_OVERHEAD;
}

/* -- the down log ------------------------------------------------------------------------------ */

/* The bytes of a wish as proposed, if it is the one of this uid. */
static int delivery_wish(struct store_reader *reader, struct bytes key, struct bytes *out_record)
{
    struct bytes value;
    const int status = store_get(reader, TABLE_WISH, key, &value);
    if (status < 0) {
        return status;
    }
    struct part_value part;
    if (status == STORE_NONE || !part_decode(value, &part)) {
        return STATUS_CORRUPT; /* what a node is to hold is there */
    }
    *out_record = part.record;
    return STATUS_OK;
}

static int delivery_remove_record(struct codec *codec, const struct down_row *down,
                                  struct bytes *out_record)
{
    const struct object_remove remove = {
        .if_uid = (const char *)codec_print(codec, "%.*s", (int)down->uid.size,
                                            (const char *)down->uid.data),
        .reason = down->reason,
    };
    struct record record = {
        .kind = RECORD_OBJECT_REMOVE,
        .key = codec_print(codec, "%.*s", (int)down->key.size, (const char *)down->key.data),
        .time_ms = down->time_ms,
        .trace = down->trace,
    };
    const int status = codec_object_remove_build(codec, &remove, &record.body);
    return status != STATUS_OK ? status : codec_record_build(codec, &record, out_record);
}

/* Gather the rows of (after, tip] that fit. *out_last: everything up to there is covered. */
static int delivery_gather(struct store_reader *reader, const struct node_row *node, uint64_t after,
                           struct delivery_list *list, uint64_t *out_last)
{
    struct row_key from = row_key_pair(bytes_text(node->name), (struct bytes){0});
    const size_t prefix_size = from.size;
    row_key_add_be64(&from, after + 1);
    struct store_iterator *iterator =
        store_iterate(reader, TABLE_DOWN, bytes_of(from.data, prefix_size));
    int status = STATUS_OK;
    bool whole = true;
    *out_last = after;
    for (bool on = store_iterator_seek(iterator, row_key_bytes(&from)); on;
         on = store_iterator_next(iterator)) {
        const struct bytes key = store_iterator_key(iterator);
        struct down_row down;
        struct bytes record;
        if (key.size != from.size || !down_decode(store_iterator_value(iterator), &down)) {
            status = STATUS_CORRUPT;
            break;
        }
        status = down.operation == DOWN_PUT ? delivery_wish(reader, down.key, &record)
                                            : delivery_remove_record(list->codec, &down, &record);
        if (status != STATUS_OK) {
            break;
        }
        if (!delivery_list_fits(list, record)) {
            whole = false;
            break;
        }
        *out_last = get_be64(key.data + prefix_size);
        delivery_list_add(list, *out_last, record);
    }
    if (status == STATUS_OK) {
        status = store_iterator_status(iterator);
    }
    store_iterator_close(iterator);
    if (whole) {
        *out_last = node->down_tip; /* numbers without row included */
    }
    return status;
}

int delivery_read(struct store_reader *reader, struct codec *codec, const char *name,
                  uint64_t stream, uint64_t after, size_t max_bytes, struct bytes *out,
                  uint64_t *out_last)
{
    store_reader_reset(reader);
    struct node_row node;
    int status = node_get(reader, name, &node);
    if (status != STATUS_OK) {
        return status == NODE_NONE ? DELIVERY_NO_NODE : status;
    }
    if (stream != node.down_stream) {
        return DELIVERY_SNAPSHOT;
    }
    if (after > node.down_tip) {
        return DELIVERY_AHEAD;
    }
    if (after < node.down_floor) {
        return DELIVERY_SNAPSHOT;
    }
    if (after == node.down_tip) {
        return DELIVERY_END;
    }

    struct delivery_list list = delivery_list_begin(codec, max_bytes);
    uint64_t last;
    status = delivery_gather(reader, &node, after, &list, &last);
    if (status != STATUS_OK) {
        return status;
    }
    const struct batch batch = {
        .node = node.name,
        .epoch = node.epoch,
        .stream = stream,
        .previous = after,
        .last = last,
        .tip = node.down_tip,
        .records = list.records,
        .record_count = list.count,
        .digest = last == node.down_tip ? node.digest : (struct tag){0},
    };
    status = codec_batch_build(codec, &batch, out);
    if (status != STATUS_OK) {
        return status;
    }
    *out_last = last;
    return DELIVERY_BATCH;
}

/* -- snapshots --------------------------------------------------------------------------------- */

int delivery_snapshot_open(struct delivery_snapshot *snapshot, struct store *store,
                           const char *node, uint64_t id, bool retell)
{
    *snapshot = (struct delivery_snapshot){.id = id, .retell = retell};
    snapshot->reader = store_snapshot(store);
    const int status = node_get(snapshot->reader, node, &snapshot->node);
    if (status != STATUS_OK) {
        store_snapshot_release(snapshot->reader);
        snapshot->reader = NULL;
        return status;
    }
    const struct row_key prefix = row_key_pair(bytes_text(node), (struct bytes){0});
    snapshot->iterator = store_iterate(snapshot->reader, TABLE_HELD, row_key_bytes(&prefix));
    snapshot->on_row = store_iterator_first(snapshot->iterator);
    return STATUS_OK;
}

int delivery_snapshot_next(struct delivery_snapshot *snapshot, struct codec *codec,
                           size_t max_bytes, struct bytes *out, bool *out_end)
{
    CHECK(!snapshot->ended);
    store_reader_reset(snapshot->reader);
    struct delivery_list list = delivery_list_begin(codec, max_bytes);
    const size_t skip = strlen(snapshot->node.name) + 1;
    while (snapshot->on_row) {
        const struct bytes key = store_iterator_key(snapshot->iterator);
        struct bytes record;
        const int status =
            delivery_wish(snapshot->reader, bytes_of(key.data + skip, key.size - skip), &record);
        if (status != STATUS_OK) {
            return status;
        }
        if (!delivery_list_fits(&list, record)) {
            break;
        }
        snapshot->row_count++;
        delivery_list_add(&list, snapshot->row_count, record);
        snapshot->on_row = store_iterator_next(snapshot->iterator);
    }
    int status = store_iterator_status(snapshot->iterator);
    if (status != STATUS_OK) {
        return status;
    }

    const bool end = list.count == 0;
    const struct snapshot step = {
        .stream = snapshot->node.down_stream,
        .position = snapshot->node.down_tip,
        .id = snapshot->id,
        .step = end ? SNAPSHOT_END : SNAPSHOT_ROWS,
        .records = list.records,
        .record_count = list.count,
        .digest = snapshot->node.digest,
        .retell = end && snapshot->retell,
    };
    status = codec_snapshot_build(codec, &step, out);
    if (status == STATUS_OK) {
        snapshot->ended = end;
        *out_end = end;
    }
    return status;
}

void delivery_snapshot_close(struct delivery_snapshot *snapshot)
{
    if (snapshot->reader != NULL) {
        store_iterator_close(snapshot->iterator);
        store_snapshot_release(snapshot->reader);
        snapshot->reader = NULL;
    }
}
