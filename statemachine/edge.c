#include "statemachine/edge_body.h"

#include <stdlib.h>

#include "schemas/check.h"

static_assert((unsigned)EDGE_TABLE_OUTBOX < STORE_TABLES, "every table of the edge has a place");
static_assert(LIMIT_STORE_KEY_BYTES >= LIMIT_KEY_BYTES + LIMIT_NAME_BYTES + 8,
              "a key of UP_KEY fits: kind, key, uid");

const char *edge_outcome_text(enum edge_outcome outcome)
{
    switch (outcome) {
    case EDGE_ACCEPTED:
        return "accepted";
    case EDGE_DUPLICATE:
        return "duplicate";
    case EDGE_KEPT_UNKNOWN:
        return "kept_unknown";
    case EDGE_REFUSED_MALFORMED:
        return "refused_malformed";
    case EDGE_REFUSED_KIND:
        return "refused_kind";
    case EDGE_REFUSED_FOREIGN:
        return "refused_foreign";
    case EDGE_REFUSED_STREAM:
        return "refused_stream";
    case EDGE_REFUSED_GAP:
        return "refused_gap";
    case EDGE_REFUSED_STALE:
        return "refused_stale";
    case EDGE_REFUSED_STAGE:
        return "refused_stage";
    case EDGE_REFUSED_DIGEST:
        return "refused_digest";
    case EDGE_REFUSED_NO_POD:
        return "refused_no_pod";
    case EDGE_REFUSED_FULL:
        return "refused_full";
    case EDGE_REFUSED_NO_DEVICE:
        return "refused_no_device";
    case EDGE_REFUSED_VALUE:
        return "refused_value";
    }
    return "outcome_unknown";
}

/* -- META ---------------------------------------------------------------------------------------------
 *
 *      0   le32   count of numbers
 *      4   le32   size of node
 *      8   le32   size of cluster
 *     12   le32   0
 *     16   le64   the numbers, in the order of edge_meta_numbers; new ones are added at the end
 *    ...          node, cluster
 */
#define EDGE_META_HEADER_BYTES 16u
#define EDGE_META_NUMBERS      36u

/* Every number of the meta, out of it or into it. */
static void edge_meta_numbers(struct edge_meta *meta, uint64_t numbers[static EDGE_META_NUMBERS],
                              bool into)
{
    size_t i = 0;
#define NUMBER(member)                                                                             \
    do {                                                                                           \
        if (into) {                                                                                \
            meta->member = (__typeof__(meta->member))numbers[i];                                   \
        } else {                                                                                   \
            numbers[i] = (uint64_t)meta->member;                                                   \
        }                                                                                          \
        i++;                                                                                       \
    } while (0)
    NUMBER(up_stream);
    NUMBER(up_last);
    NUMBER(up_acked);
    NUMBER(down_stream);
    NUMBER(down_position);
    NUMBER(down_tip);
    NUMBER(digest.low);
    NUMBER(digest.high);
    NUMBER(object_count);
    NUMBER(object_bytes);
    NUMBER(snapshot_wanted);
    NUMBER(stage_open);
    NUMBER(stage_id);
    NUMBER(stage_stream);
    NUMBER(stage_position);
    NUMBER(stage_index);
    NUMBER(stage_unknown);
    NUMBER(stage_digest.low);
    NUMBER(stage_digest.high);
    NUMBER(stage_count);
    NUMBER(stage_bytes);
    NUMBER(event_count);
    NUMBER(event_bytes);
    NUMBER(gap_first);
    NUMBER(gap_sequence);
    NUMBER(unknown_count);
    NUMBER(unknown_down);
    NUMBER(unknown_dropped);
    NUMBER(refused_count);
    NUMBER(malformed_count);
    NUMBER(mismatch_count);
    NUMBER(wish_table);
    NUMBER(outbox_last);
    NUMBER(outbox_done);
    NUMBER(outbox_bytes);
    NUMBER(outbox_dropped);
#undef NUMBER
    CHECK(i == EDGE_META_NUMBERS);
}

static void edge_meta_write(struct edge_machine *machine)
{
    uint64_t numbers[EDGE_META_NUMBERS];
    edge_meta_numbers(&machine->meta, numbers, false);
    const struct bytes node = bytes_text(machine->meta.node);
    const struct bytes cluster = bytes_text(machine->meta.cluster);

    uint8_t row[EDGE_META_HEADER_BYTES + sizeof numbers + sizeof machine->meta.node +
                sizeof machine->meta.cluster];
    put_le32(row, EDGE_META_NUMBERS);
    put_le32(row + 4, (uint32_t)node.size);
    put_le32(row + 8, (uint32_t)cluster.size);
    put_le32(row + 12, 0);
    uint8_t *p = row + EDGE_META_HEADER_BYTES;
    for (size_t i = 0; i < EDGE_META_NUMBERS; i++, p += 8) {
        put_le64(p, numbers[i]);
    }
    memcpy(p, node.data, node.size);
    p += node.size;
    memcpy(p, cluster.data, cluster.size);
    p += cluster.size;
    store_put(machine->store, EDGE_TABLE_META, (struct bytes){0}, bytes_of(row, (size_t)(p - row)));
}

/* A new state's meta, or what the row says. Numbers that an older release did not write are 0. */
static int edge_meta_read(struct edge_machine *machine)
{
    machine->meta = (struct edge_meta){.wish_table = EDGE_TABLE_WISH_A};
    struct bytes row;
    const int status =
        store_get(store_live(machine->store), EDGE_TABLE_META, (struct bytes){0}, &row);
    if (status != STATUS_OK) {
        return status == STORE_NONE ? STATUS_OK : status;
    }
    if (row.size < EDGE_META_HEADER_BYTES) {
        return STATUS_CORRUPT;
    }
    const uint32_t count = get_le32(row.data);
    const uint32_t node_size = get_le32(row.data + 4);
    const uint32_t cluster_size = get_le32(row.data + 8);
    if (count > EDGE_META_NUMBERS || node_size > LIMIT_NAME_BYTES ||
        cluster_size > LIMIT_NAME_BYTES ||
        row.size != EDGE_META_HEADER_BYTES + 8ull * count + node_size + cluster_size) {
        return STATUS_CORRUPT;
    }

    uint64_t numbers[EDGE_META_NUMBERS] = {0};
    const uint8_t *p = row.data + EDGE_META_HEADER_BYTES;
    for (size_t i = 0; i < count; i++, p += 8) {
        numbers[i] = get_le64(p);
    }
    edge_meta_numbers(&machine->meta, numbers, true);
    memcpy(machine->meta.node, p, node_size);
    memcpy(machine->meta.cluster, p + node_size, cluster_size);
    const uint8_t table = machine->meta.wish_table;
    return table == EDGE_TABLE_WISH_A || table == EDGE_TABLE_WISH_B ? STATUS_OK : STATUS_CORRUPT;
}

/* -- kinds this release does not know ------------------------------------------------------------ */

bool edge_kind_known(const struct edge_machine *machine, uint16_t kind)
{
    if (kind == machine->limits.kind_withheld && kind != RECORD_NONE) {
        return false;
    }
    switch ((enum record_kind)kind) { /* the compiler misses none of them */
    case RECORD_NONE:
    case RECORD_OBJECT_PUT:
    case RECORD_OBJECT_REMOVE:
    case RECORD_POD_STATUS:
    case RECORD_POD_ENDED:
    case RECORD_NODE_STATUS:
    case RECORD_EDGE_EVENT:
    case RECORD_POD_ATTEMPT:
    case RECORD_VERDICT:
    case RECORD_SESSION_OPEN:
    case RECORD_DOWN_ACK:
    case RECORD_UP_BATCH:
    case RECORD_DOWN_BATCH:
    case RECORD_UP_ACK:
    case RECORD_SNAPSHOT:
    case RECORD_STREAM_INIT:
    case RECORD_CLUSTER_INIT:
    case RECORD_SETTING:
    case RECORD_MEMBER_KEY:
    case RECORD_GAP:
    case RECORD_DEVICE_STATUS:
    case RECORD_DEVICE_VALUE:
    case RECORD_MQTT_MESSAGE:
    case RECORD_TWIN_UPDATE:
    case RECORD_DEVICE_STATE:
    case RECORD_OUTBOX_DONE:
        return true;
    }
    return false;
}

static struct bytes edge_unknown_key(struct edge_key16 *key, uint64_t index, uint64_t place)
{
    put_be64(key->bytes, index);
    put_be64(key->bytes + 8, place);
    return bytes_of(key->bytes, sizeof key->bytes);
}

/* One row is gone from UNKNOWN. */
static void edge_unknown_count_out(struct edge_machine *machine, struct bytes key, size_t size)
{
    CHECK(machine->meta.unknown_count > 0);
    CHECK(machine->meta.unknown_bytes >= size);
    machine->meta.unknown_count--;
    machine->meta.unknown_bytes -= size;
    if (get_be64(key.data + 8) != 0) {
        CHECK(machine->meta.unknown_down > 0);
        machine->meta.unknown_down--;
    }
}

int edge_unknown_keep(struct edge_machine *machine, uint64_t index, uint64_t place,
                      struct bytes record)
{
    struct edge_meta *meta = &machine->meta;
    const struct edge_limits *limits = &machine->limits;
    int status = STATUS_OK;
    if (meta->unknown_count >= limits->unknown ||
        meta->unknown_bytes + record.size > limits->unknown_bytes) { /* the oldest give way */
        struct store_iterator *iterator =
            store_iterate(store_live(machine->store), EDGE_TABLE_UNKNOWN, (struct bytes){0});
        for (bool on = store_iterator_first(iterator);
             on && (meta->unknown_count >= limits->unknown ||
                    meta->unknown_bytes + record.size > limits->unknown_bytes);
             on = store_iterator_next(iterator)) {
            const struct bytes oldest = store_iterator_key(iterator);
            edge_unknown_count_out(machine, oldest, store_iterator_value(iterator).size);
            meta->unknown_dropped++;
            store_remove(machine->store, EDGE_TABLE_UNKNOWN, oldest);
        }
        status = store_iterator_status(iterator);
        store_iterator_close(iterator);
    }
    if (status != STATUS_OK) {
        return status;
    }

    struct edge_key16 key;
    store_put(machine->store, EDGE_TABLE_UNKNOWN, edge_unknown_key(&key, index, place), record);
    meta->unknown_count++;
    meta->unknown_bytes += record.size;
    meta->unknown_down += place != 0;
    return STATUS_OK;
}

int edge_unknown_forget_down(struct edge_machine *machine, uint64_t before_index)
{
    struct store_iterator *iterator =
        store_iterate(store_live(machine->store), EDGE_TABLE_UNKNOWN, (struct bytes){0});
    for (bool on = store_iterator_first(iterator); on; on = store_iterator_next(iterator)) {
        const struct bytes key = store_iterator_key(iterator);
        if (get_be64(key.data) < before_index && get_be64(key.data + 8) != 0) {
            edge_unknown_count_out(machine, key, store_iterator_value(iterator).size);
            store_remove(machine->store, EDGE_TABLE_UNKNOWN, key);
        }
    }
    const int status = store_iterator_status(iterator);
    store_iterator_close(iterator);
    return status;
}

int edge_unknown_next(struct edge_machine *machine, struct edge_unknown_cursor *cursor,
                      struct codec *codec, struct record *out)
{
    struct edge_key16 memory;
    struct store_iterator *iterator =
        store_iterate(store_live(machine->store), EDGE_TABLE_UNKNOWN, (struct bytes){0});
    const struct bytes after = edge_unknown_key(&memory, cursor->index, cursor->place);
    bool on = store_iterator_seek(iterator, after);
    if (on && bytes_equal(store_iterator_key(iterator), after)) {
        on = store_iterator_next(iterator);
    }
    int status = store_iterator_status(iterator);
    if (status == STATUS_OK && !on) {
        status = STORE_NONE;
    }
    if (status == STATUS_OK) {
        const struct bytes key = store_iterator_key(iterator);
        status = codec_record_read(codec, codec_copy(codec, store_iterator_value(iterator)), out);
        if (status == STATUS_OK) {
            cursor->index = get_be64(key.data);
            cursor->place = get_be64(key.data + 8);
        } else {
            status = STATUS_CORRUPT; /* it was read once before it was kept */
        }
    }
    store_iterator_close(iterator);
    return status;
}

/* -- the fold -------------------------------------------------------------------------------------- */

/* STREAM_INIT: who we are. The first one names the node; a later one may bring the cluster (at the
 * first Welcome), or a new up stream: then what is not shipped yet keeps its sequences, and the down
 * stream starts again with a snapshot. The wishes stay until that has come. */
static int edge_stream_init_apply(struct edge_machine *machine, const struct record *record)
{
    struct edge_meta *meta = &machine->meta;
    struct stream_init init;
    const int status = codec_stream_init_read(machine->codec, record->body, &init);
    if (status != STATUS_OK || init.up_stream == 0 || init.node[0] == '\0' ||
        strlen(init.node) > LIMIT_NAME_BYTES || strlen(init.cluster) > LIMIT_NAME_BYTES) {
        edge_refuse(machine, EDGE_REFUSED_MALFORMED);
        return STATUS_OK;
    }
    const bool names_cluster = init.cluster[0] != '\0';
    if ((meta->node[0] != '\0' && strcmp(meta->node, init.node) != 0) ||
        (meta->cluster[0] != '\0' && names_cluster && strcmp(meta->cluster, init.cluster) != 0)) {
        edge_refuse(machine, EDGE_REFUSED_FOREIGN);
        return STATUS_OK;
    }
    if (meta->node[0] != '\0' && meta->up_stream == init.up_stream &&
        (!names_cluster || meta->cluster[0] != '\0')) {
        machine->applied->outcome = EDGE_DUPLICATE;
        return STATUS_OK;
    }

    memcpy(meta->node, init.node, strlen(init.node) + 1);
    if (names_cluster) {
        memcpy(meta->cluster, init.cluster, strlen(init.cluster) + 1);
    }
    if (meta->up_stream != 0 && meta->up_stream != init.up_stream) {
        meta->down_stream = 0;
        meta->down_position = 0;
        meta->down_tip = 0;
    }
    meta->up_stream = init.up_stream;
    return STATUS_OK;
}

/* One record of the log that is not a piece of a batch. */
static int edge_fold(struct edge_machine *machine, struct bytes bytes, const struct record *record)
{
    if (!edge_kind_known(machine, record->kind)) {
        const int status = edge_unknown_keep(machine, machine->index, 0, bytes);
        if (status == STATUS_OK) {
            machine->applied->outcome = EDGE_KEPT_UNKNOWN;
        }
        return status;
    }
    const enum record_kind kind = (enum record_kind)record->kind;
    if (machine->meta.node[0] == '\0' && kind != RECORD_STREAM_INIT) {
        edge_refuse(machine, EDGE_REFUSED_FOREIGN);
        return STATUS_OK;
    }
    switch (kind) {
    case RECORD_STREAM_INIT:
        return edge_stream_init_apply(machine, record);
    case RECORD_DOWN_BATCH:
        return edge_down_batch_apply(machine, record);
    case RECORD_SNAPSHOT:
        return edge_snapshot_apply(machine, record);
    case RECORD_UP_ACK:
        return edge_up_ack_apply(machine, record);
    case RECORD_POD_ATTEMPT:
        return edge_pod_attempt_apply(machine, bytes, record);
    case RECORD_POD_STATUS:
        return edge_pod_status_apply(machine, bytes, record);
    case RECORD_POD_ENDED:
        return edge_pod_ended_apply(machine, bytes, record);
    case RECORD_NODE_STATUS:
        return edge_node_status_apply(machine, bytes, record);
    case RECORD_EDGE_EVENT:
        return edge_event_apply(machine, bytes, record);
    case RECORD_MQTT_MESSAGE:
        return edge_mqtt_message_apply(machine, bytes, record);
    case RECORD_TWIN_UPDATE:
        return edge_twin_update_apply(machine, record);
    case RECORD_DEVICE_STATE:
        return edge_device_state_apply(machine, record);
    case RECORD_OUTBOX_DONE:
        return edge_outbox_done_apply(machine, record);
    case RECORD_NONE:
    case RECORD_OBJECT_PUT:
    case RECORD_OBJECT_REMOVE:
    case RECORD_VERDICT:
    case RECORD_SESSION_OPEN:
    case RECORD_DOWN_ACK:
    case RECORD_UP_BATCH:
    case RECORD_CLUSTER_INIT:
    case RECORD_SETTING:
    case RECORD_MEMBER_KEY:
    case RECORD_GAP:
    case RECORD_DEVICE_STATUS:
    case RECORD_DEVICE_VALUE:
        break;
    }
    edge_refuse(machine, EDGE_REFUSED_KIND);
    return STATUS_OK;
}

/* Write what the open batch holds, with META. It stays open when the store does not take it. */
static int edge_commit(struct edge_machine *machine, uint64_t position)
{
    edge_meta_write(machine);
    return store_commit(machine->store, position);
}

/* The group is over, and nothing of it has happened. */
static void edge_abandon(struct edge_machine *machine)
{
    store_abandon(machine->store);
    machine->meta = machine->before;
    machine->in_group = false;
}

void edge_machine_begin(struct edge_machine *machine)
{
    CHECK(!machine->in_group);
    machine->before = machine->meta;
    machine->index = store_position(machine->store);
    machine->in_group = true;
    store_begin(machine->store);
}

bool edge_machine_in_group(const struct edge_machine *machine)
{
    return machine->in_group;
}

bool edge_machine_group_is_full(const struct edge_machine *machine)
{
    CHECK(machine->in_group);
    return store_batch_bytes(machine->store) >= LIMIT_EDGE_GROUP_BYTES;
}

int edge_machine_commit(struct edge_machine *machine)
{
    CHECK(machine->in_group);
    if (machine->index == store_position(machine->store)) { /* nothing came: META is as it was */
        edge_abandon(machine);
        return STATUS_OK;
    }
    const int status = edge_commit(machine, machine->index);
    machine->in_group = status != STATUS_OK;
    return status;
}

/* Apply one record in the open group, and count what it did.
 *   answers  STATUS_OK; negatives of the store */
static int edge_apply(struct edge_machine *machine, uint64_t index, struct bytes record,
                      struct edge_applied *out)
{
    out->outcome = EDGE_ACCEPTED;
    machine->applied = out;
    machine->index = index;
    store_reader_reset(store_live(machine->store));
    struct record read;
    int status = STATUS_OK;
    if (record.size > LIMIT_FRAME_BYTES ||
        codec_record_read(machine->codec, record = codec_aligned(machine->codec, record), &read) !=
            STATUS_OK ||
        read.kind == RECORD_NONE) {
        edge_refuse(machine, EDGE_REFUSED_MALFORMED);
    } else {
        out->kind = read.kind;
        machine->time_ms = read.time_ms;
        status = edge_fold(machine, record, &read);
    }
    machine->applied = NULL;
    machine->meta.refused_count +=
        out->refused_count + (out->outcome >= EDGE_REFUSED_MALFORMED ? 1 : 0);
    machine->meta.malformed_count += out->outcome == EDGE_REFUSED_MALFORMED ? 1 : 0;
    return status;
}

int edge_machine_apply(struct edge_machine *machine, uint64_t index, struct bytes record,
                       struct edge_applied *out)
{
    const bool alone = !machine->in_group;
    CHECK_IF(alone, !store_in_batch(machine->store));

    *out = (struct edge_applied){.outcome = EDGE_DUPLICATE};
    codec_reset(machine->codec);
    machine->changes = NULL;
    machine->change_capacity = 0;
    if (index <= edge_machine_position(machine)) {
        return STATUS_OK;
    }

    if (alone) {
        edge_machine_begin(machine);
    }
    int status = edge_apply(machine, index, record, out);
    if (status == STATUS_OK && alone) {
        status = edge_machine_commit(machine);
    }
    if (status != STATUS_OK) {
        edge_abandon(machine);
    }
    return status;
}

/* Fold what an older release kept and this one knows. What had to be dropped meanwhile cannot be
 * folded: the cloud is asked for all wishes. */
static int edge_unknown_fold(struct edge_machine *machine)
{
    struct edge_meta *meta = &machine->meta;
    struct edge_unknown_cursor cursor = {0};
    struct record record;
    uint32_t folded = 0;
    int status;
    while ((status = edge_unknown_next(machine, &cursor, machine->codec, &record)) == STATUS_OK) {
        if (edge_kind_known(machine, record.kind)) {
            struct edge_key16 memory;
            const struct bytes key = edge_unknown_key(&memory, cursor.index, cursor.place);
            struct bytes bytes;
            status = store_get(store_live(machine->store), EDGE_TABLE_UNKNOWN, key, &bytes);
            CHECK(status != STORE_NONE);
            if (status != STATUS_OK) {
                return status;
            }
            machine->index = cursor.index;
            machine->time_ms = record.time_ms;
            edge_unknown_count_out(machine, key, bytes.size);
            store_remove(machine->store, EDGE_TABLE_UNKNOWN, key);
            struct edge_applied applied = {0};
            machine->applied = &applied;
            status = cursor.place != 0 ? edge_wish_apply(machine, cursor.place, bytes)
                                       : edge_fold(machine, bytes, &record);
            if (status != STATUS_OK) {
                return status;
            }
            folded++;
            machine->changes = NULL; /* the codec's memory ends here */
            machine->change_capacity = 0;
        }
        codec_reset(machine->codec);
        store_reader_reset(store_live(machine->store));
    }
    if (folded > 0 && meta->unknown_dropped > 0) {
        meta->snapshot_wanted = true;
        meta->unknown_dropped = 0;
    }
    return status == STORE_NONE ? STATUS_OK : status;
}

/* Whether something that was kept is known by now. STATUS_OK; STORE_NONE: nothing is; negative */
static int edge_unknown_due(struct edge_machine *machine)
{
    struct edge_unknown_cursor cursor = {0};
    struct record record = {0};
    int status;
    do {
        codec_reset(machine->codec);
        status = edge_unknown_next(machine, &cursor, machine->codec, &record);
    } while (status == STATUS_OK && !edge_kind_known(machine, record.kind));
    codec_reset(machine->codec);
    store_reader_reset(store_live(machine->store));
    return status;
}

/* Not in the row of META, which older releases read: summed when opened. */
static int edge_unknown_measure(struct edge_machine *machine)
{
    struct store_iterator *iterator =
        store_iterate(store_live(machine->store), EDGE_TABLE_UNKNOWN, (struct bytes){0});
    machine->meta.unknown_bytes = 0;
    for (bool on = store_iterator_first(iterator); on; on = store_iterator_next(iterator)) {
        machine->meta.unknown_bytes += store_iterator_value(iterator).size;
    }
    const int status = store_iterator_status(iterator);
    store_iterator_close(iterator);
    return status;
}

/* -- life -------------------------------------------------------------------------------------------- */

int edge_machine_open(struct store *store, const struct edge_limits *limits,
                      struct edge_machine **out)
{
    CHECK(!store_in_batch(store));
    struct edge_machine *machine = calloc(1, sizeof *machine);
    CHECK(machine != NULL);
    machine->store = store;
    machine->limits = limits != NULL ? *limits
                                     : (struct edge_limits){
                                           .objects = LIMIT_EDGE_OBJECTS,
                                           .object_bytes = LIMIT_EDGE_OBJECT_BYTES,
                                           .events = LIMIT_EDGE_EVENTS,
                                           .event_bytes = LIMIT_EDGE_EVENT_BYTES,
                                           .publications = LIMIT_EDGE_PUBLICATIONS,
                                           .publication_bytes = LIMIT_EDGE_PUBLICATION_BYTES,
                                           .unknown = LIMIT_EDGE_UNKNOWN,
                                           .unknown_bytes = LIMIT_EDGE_UNKNOWN_BYTES,
                                       };
    store_keep(store, LIMIT_EDGE_KEPT_BYTES);
    machine->codec = codec_create();
    machine->scratch = codec_create();
    int status = edge_meta_read(machine);
    store_reader_reset(store_live(store));
    int due = STORE_NONE;
    if (status == STATUS_OK && machine->meta.unknown_count > 0) {
        status = edge_unknown_measure(machine);
        due = status == STATUS_OK ? edge_unknown_due(machine) : STORE_NONE;
    }
    status = due < 0 ? due : status;
    if (due == STATUS_OK) { /* only then: a store may be open for reading only */
        edge_machine_begin(machine);
        status = edge_unknown_fold(machine);
        while (status == STATUS_OK &&
               (status = edge_commit(machine, store_position(store))) == STATUS_FULL) {
            status = store_wait(store);
        }
        machine->applied = NULL;
        machine->in_group = false;
    }
    if (status != STATUS_OK) {
        edge_machine_close(machine);
        return status;
    }
    *out = machine;
    return STATUS_OK;
}

void edge_machine_close(struct edge_machine *machine)
{
    if (machine == NULL) {
        return;
    }
    if (store_in_batch(machine->store)) {
        store_abandon(machine->store);
    }
    store_keep(machine->store, 0);
    codec_destroy(machine->codec);
    codec_destroy(machine->scratch);
    free(machine);
}

uint64_t edge_machine_position(const struct edge_machine *machine)
{
    return machine->in_group ? machine->index : store_position(machine->store);
}

const struct edge_meta *edge_machine_meta(const struct edge_machine *machine)
{
    return &machine->meta;
}

void edge_machine_hello(const struct edge_machine *machine, struct hello *hello)
{
    const struct edge_meta *meta = &machine->meta;
    hello->node = meta->node;
    hello->cluster = meta->cluster;
    hello->down_stream = meta->snapshot_wanted ? 0 : meta->down_stream;
    hello->down_position = meta->snapshot_wanted ? 0 : meta->down_position;
    hello->up_stream = meta->up_stream;
    hello->up_first = meta->up_acked;
    hello->up_last = meta->up_last;
    hello->digest = meta->digest;
}
