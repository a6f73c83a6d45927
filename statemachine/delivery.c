/* Who must hear of what, in which place: the writing of the down logs.
 *
 * What a node holds is decided here and nowhere else: pods and devices bound to it, and what pods name. HELD is
 * that set as of the tip, DOWN the way there. A row of DOWN says "read this key now", so when a key
 * changes again before the node has read it, the older row goes and the newer takes the next number.
 * A remove is never dropped together with an unread put: any replica may have sent the put already.
 *
 * Rows:
 *   DOWN      node \0 sequence be64 -> u8 operation, u8 reason, u16 key size, u8 flags, zeros to 8, i64 time,
 *                                      u64 trace; key; uid
 *   HELD      node \0 object key    -> tag low, high; uid; from DOWN_LEVEL on \0, u64 sequence
 *
 * Where the newest row of a key and uid is, so that the next one takes its place: of a put HELD says it, which changes with
 * it anyway, and what it says is void once the row was swept. DOWN_KEY says it of a remove, and of a put from before
 * DOWN_LEVEL; such a row goes when its DOWN row goes.
 */
#include "statemachine/apply.h"

#define DOWN_HEADER_BYTES 24u
#define DOWN_IN_HELD      1u /* flag of a row: HELD says where it is */
/* The feature level from which on rows of puts are so: a row of DOWN_KEY for each, put and then removed at each of three
 * replicas, was half of what a delivery costs the store. */
#define DOWN_LEVEL 4u
/* Rows below the floor let go per row appended: more than one, so that they come to an end. */
#define DOWN_SWEEP_APPEND 4u
/* ... and per acknowledgement. */
#define DOWN_SWEEP_ACK 1024u

/* -- the log of one node ----------------------------------------------------------------------- */

static struct row_key down_key(struct bytes node, uint64_t sequence)
{
    struct row_key key;
    key.size = 0;
    row_key_add(&key, node);
    row_key_add_zero(&key);
    row_key_add_be64(&key, sequence);
    return key;
}

static struct row_key down_key_key(struct bytes node, struct bytes object, struct bytes uid)
{
    struct row_key key = row_key_pair(node, object);
    row_key_add_zero(&key);
    row_key_add(&key, uid);
    return key;
}

bool down_decode(struct bytes value, struct down_row *out)
{
    if (value.size < DOWN_HEADER_BYTES) {
        return false;
    }
    uint16_t key_size;
    memcpy(&key_size, value.data + 2, sizeof key_size);
    const size_t rest = value.size - DOWN_HEADER_BYTES;
    out->operation = value.data[0];
    out->reason = value.data[1];
    out->in_held = (value.data[4] & DOWN_IN_HELD) != 0;
    out->time_ms = (int64_t)get_le64(value.data + 8);
    out->trace = get_le64(value.data + 16);
    if (key_size > rest || (out->operation != DOWN_PUT && out->operation != DOWN_REMOVE)) {
        return false;
    }
    out->key = bytes_of(value.data + DOWN_HEADER_BYTES, key_size);
    out->uid = bytes_of(out->key.data + key_size, rest - key_size);
    return true;
}

/* Remove the rows of (after, last]. */
static void down_remove(struct machine *machine, struct bytes node, uint64_t after, uint64_t last)
{
    const struct row_key from = down_key(node, after + 1);
    const struct row_key to = down_key(node, last + 1);
    const int status =
        store_remove_range(machine->store, TABLE_DOWN, row_key_bytes(&from), row_key_bytes(&to));
    if (status < 0) {
        machine->failed = status;
    }
}

/* Let go of rows that no reader gets any more, a few at a time. Readers begin at the floor or above it, and the next
 * sweep where this one ended: nobody reads through what was removed. */
static void down_sweep(struct machine *machine, struct node_row *node, uint32_t rows_max)
{
    if (node->down_swept >= node->down_floor) {
        return;
    }
    const struct bytes name = bytes_text(node->name);
    const uint64_t before = node->down_swept;
    const struct row_key from = down_key(name, before + 1);
    uint32_t rows = 0;
    struct store_iterator *iterator =
        store_iterate(store_live(machine->store), TABLE_DOWN, bytes_of(from.data, from.size - 8));
    bool on = store_iterator_seek(iterator, row_key_bytes(&from));
    while (rows < rows_max) {
        if (!on || get_be64(store_iterator_key(iterator).data + name.size + 1) > node->down_floor) {
            node->down_swept = node->down_floor;
            break;
        }
        const struct bytes row = store_iterator_key(iterator);
        struct down_row down;
        if (!down_decode(store_iterator_value(iterator), &down) || node->down_count == 0) {
            machine->failed = STATUS_CORRUPT;
            break;
        }
        node->down_swept = get_be64(row.data + name.size + 1);
        node->down_count--;
        if (!down.in_held) {
            const struct row_key index = down_key_key(name, down.key, down.uid);
            store_remove(machine->store, TABLE_DOWN_KEY, row_key_bytes(&index));
        }
        if (rows < LIMIT_STORE_RANGE_ROWS) {
            store_remove(machine->store, TABLE_DOWN, row);
        }
        rows++;
        on = store_iterator_next(iterator);
    }
    row_iterator_end(machine, iterator);
    if (rows > LIMIT_STORE_RANGE_ROWS) {
        down_remove(machine, name, before, node->down_swept);
    }
}

/* earlier   what HELD says of the newest row of this key and uid; 0: nothing */
static void down_append(struct machine *machine, struct node_row *node, const struct down_row *down,
                        uint64_t earlier)
{
    const struct bytes name = bytes_text(node->name);
    node->down_tip++;
    const struct row_key row = down_key(name, node->down_tip);
    const struct row_key index = down_key_key(name, down->key, down->uid);
    if (earlier == 0) {
        earlier = row_get_u64(machine, TABLE_DOWN_KEY, row_key_bytes(&index));
        if (earlier > 0 && down->in_held) {
            store_remove(machine->store, TABLE_DOWN_KEY, row_key_bytes(&index));
        }
    }
    if (earlier > node->down_swept) {
        const struct row_key old = down_key(name, earlier);
        store_remove(machine->store, TABLE_DOWN, row_key_bytes(&old));
        CHECK(node->down_count > 0);
        node->down_count--;
    }

    uint8_t value[DOWN_HEADER_BYTES + LIMIT_KEY_BYTES + LIMIT_NAME_BYTES] = {0};
    const uint16_t key_size = (uint16_t)down->key.size;
    CHECK(down->key.size <= LIMIT_KEY_BYTES);
    CHECK(down->uid.size <= LIMIT_NAME_BYTES);
    value[0] = down->operation;
    value[1] = down->reason;
    memcpy(value + 2, &key_size, sizeof key_size);
    value[4] = down->in_held ? DOWN_IN_HELD : 0;
    put_le64(value + 8, (uint64_t)down->time_ms);
    put_le64(value + 16, down->trace);
    memcpy(value + DOWN_HEADER_BYTES, down->key.data, down->key.size);
    if (down->uid.size > 0) {
        memcpy(value + DOWN_HEADER_BYTES + down->key.size, down->uid.data, down->uid.size);
    }
    store_put(machine->store, TABLE_DOWN, row_key_bytes(&row),
              bytes_of(value, DOWN_HEADER_BYTES + down->key.size + down->uid.size));
    if (!down->in_held) {
        row_put_u64(machine, TABLE_DOWN_KEY, row_key_bytes(&index), node->down_tip);
    }
    node->down_count++;

    if (node->down_count > (uint64_t)machine->settings[SETTING_DOWN_ROWS_MAX]) {
        node->down_floor = node->down_tip; /* too far behind: a snapshot is less than this log */
    }
    down_sweep(machine, node, DOWN_SWEEP_APPEND);
    node_touch(machine, node, NODE_DOWN);
}

/* -- what a node holds ------------------------------------------------------------------------- */

bool held_decode(struct bytes value, struct held_row *out)
{
    if (value.size < HELD_TAG_BYTES) {
        return false;
    }
    out->tag = (struct tag){.low = get_le64(value.data), .high = get_le64(value.data + 8)};
    struct bytes rest = bytes_of(value.data + HELD_TAG_BYTES, value.size - HELD_TAG_BYTES);
    out->uid = row_key_take(&rest);
    out->sequence = rest.size == 8 ? get_le64(rest.data) : 0;
    return rest.size == 0 || rest.size == 8;
}

static bool held_get(struct machine *machine, const struct row_key *key, struct held_row *out)
{
    struct bytes value;
    if (!row_get(machine, TABLE_HELD, row_key_bytes(key), &value)) {
        return false;
    }
    if (!held_decode(value, out)) {
        machine->failed = STATUS_CORRUPT;
        return false;
    }
    return true;
}

/* sequence   of the row that tells of it; 0: DOWN_KEY says it */
static void held_put(struct machine *machine, const struct row_key *key, struct tag tag,
                     struct bytes uid, uint64_t sequence)
{
    uint8_t value[HELD_TAG_BYTES + LIMIT_NAME_BYTES + 1 + 8];
    CHECK(uid.size <= LIMIT_NAME_BYTES);
    put_le64(value, tag.low);
    put_le64(value + 8, tag.high);
    memcpy(value + HELD_TAG_BYTES, uid.data, uid.size);
    size_t size = HELD_TAG_BYTES + uid.size;
    if (sequence > 0) {
        value[size] = 0;
        put_le64(value + size + 1, sequence);
        size += 1 + 8;
    }
    store_put(machine->store, TABLE_HELD, row_key_bytes(key), bytes_of(value, size));
}

/* before   what the node holds under this key, NULL: nothing */
static void delivery_give_over(struct machine *machine, struct node_row *node,
                               struct bytes object_key, const struct held_row *before,
                               const struct object *object, const struct arrival *arrival)
{
    const struct row_key key = row_key_pair(bytes_text(node->name), object_key);
    if (before != NULL) {
        node->digest = tag_subtract(node->digest, before->tag);
    } else {
        node->held_count++;
    }
    const struct bytes uid = bytes_text(object->uid);
    const bool in_held = machine_level(machine) >= DOWN_LEVEL;
    held_put(machine, &key, object->tag, uid, in_held ? node->down_tip + 1 : 0);
    node->digest = tag_add(node->digest, object->tag);
    const struct down_row down = {
        .operation = DOWN_PUT,
        .in_held = in_held,
        .time_ms = arrival->record->time_ms,
        .trace = arrival->record->trace,
        .key = object_key,
        .uid = uid,
    };
    const bool same = before != NULL && bytes_equal(before->uid, uid);
    down_append(machine, node, &down, same ? before->sequence : 0);
}

static void delivery_give(struct machine *machine, struct node_row *node, struct bytes object_key,
                          const struct object *object, const struct arrival *arrival)
{
    const struct row_key key = row_key_pair(bytes_text(node->name), object_key);
    struct held_row held;
    const bool holds = held_get(machine, &key, &held);
    delivery_give_over(machine, node, object_key, holds ? &held : NULL, object, arrival);
}

static void delivery_take(struct machine *machine, struct node_row *node, struct bytes object_key,
                          enum remove_reason reason, const struct arrival *arrival)
{
    const struct row_key key = row_key_pair(bytes_text(node->name), object_key);
    struct held_row held;
    if (!held_get(machine, &key, &held)) {
        return;
    }
    store_remove(machine->store, TABLE_HELD, row_key_bytes(&key));
    CHECK(node->held_count > 0);
    node->held_count--;
    node->digest = tag_subtract(node->digest, held.tag);
    const struct down_row down = {
        .operation = DOWN_REMOVE,
        .reason = (uint8_t)reason,
        .time_ms = arrival->record->time_ms,
        .trace = arrival->record->trace,
        .key = object_key,
        .uid = held.uid,
    };
    down_append(machine, node, &down, held.sequence);
}

/* -- what pods need ---------------------------------------------------------------------------- */

/* "/configmaps/default/settings" */
static struct row_key reference_object_key(const struct object *pod,
                                           const struct reference *reference)
{
    struct row_key key = {.size = 0};
    row_key_add(&key, bytes_text("/"));
    row_key_add(&key, bytes_text(reference->resource));
    row_key_add(&key, bytes_text("/"));
    row_key_add(&key, bytes_text(pod->namespace_));
    row_key_add(&key, bytes_text("/"));
    row_key_add(&key, bytes_text(reference->name));
    return key;
}

static struct row_key reference_key(struct bytes object_key, struct bytes node,
                                    struct bytes pod_key)
{
    struct row_key key = row_key_pair(object_key, node);
    row_key_add_zero(&key);
    row_key_add(&key, pod_key);
    return key;
}

/* The bit of an object that a bound pod may name. */
static uint32_t reference_bit(struct bytes object_key)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < object_key.size; i++) {
        hash = (hash ^ object_key.data[i]) * 16777619u;
    }
    return (hash ^ hash >> 16) % (8 * LIMIT_REFERENCE_FILTER_BYTES);
}

static void reference_note(struct machine *machine, struct bytes object_key)
{
    const uint32_t bit = reference_bit(object_key);
    machine->referenced[bit / 8] |= (uint8_t)(1u << bit % 8);
}

static bool reference_possible(const struct machine *machine, struct bytes object_key)
{
    const uint32_t bit = reference_bit(object_key);
    return (machine->referenced[bit / 8] & 1u << bit % 8) != 0;
}

void reference_load(struct machine *machine)
{
    memset(machine->referenced, 0, LIMIT_REFERENCE_FILTER_BYTES);
    struct store_iterator *iterator =
        store_iterate(store_live(machine->store), TABLE_REF, (struct bytes){0});
    for (bool on = store_iterator_first(iterator); on; on = store_iterator_next(iterator)) {
        struct bytes rest = store_iterator_key(iterator);
        reference_note(machine, row_key_take(&rest));
    }
    row_iterator_end(machine, iterator);
}

static bool reference_used(struct machine *machine, struct bytes object_key, struct bytes node)
{
    const struct row_key prefix = reference_key(object_key, node, (struct bytes){0});
    struct store_iterator *iterator =
        store_iterate(store_live(machine->store), TABLE_REF, row_key_bytes(&prefix));
    const bool used = store_iterator_first(iterator);
    row_iterator_end(machine, iterator);
    return used;
}

static bool reference_named(const struct object *pod, const struct reference *reference)
{
    for (uint32_t i = 0; i < pod->reference_count; i++) {
        if (strcmp(pod->references[i].name, reference->name) == 0 &&
            strcmp(pod->references[i].resource, reference->resource) == 0) {
            return true;
        }
    }
    return false;
}

/* The pod needs these no more, those that `keep` still names excepted. */
static void reference_drop(struct machine *machine, struct bytes pod_key, const struct object *pod,
                           const struct object *keep, const struct arrival *arrival)
{
    const struct bytes name = bytes_text(pod->node_name);
    struct node_row *node = node_find(machine, name);
    for (uint32_t i = 0; i < pod->reference_count; i++) {
        if (keep != NULL && reference_named(keep, &pod->references[i])) {
            continue;
        }
        const struct row_key object_key = reference_object_key(pod, &pod->references[i]);
        const struct row_key key = reference_key(row_key_bytes(&object_key), name, pod_key);
        store_remove(machine->store, TABLE_REF, row_key_bytes(&key));
        if (node != NULL && !reference_used(machine, row_key_bytes(&object_key), name)) {
            delivery_take(machine, node, row_key_bytes(&object_key), REMOVE_UNUSED, arrival);
        }
    }
}

/* -- pods -------------------------------------------------------------------------------------- */

uint64_t delivery_bound_count(struct machine *machine, const char *node)
{
    return row_get_u64(machine, TABLE_BOUND, bytes_text(node));
}

/* The node gets the pod, and before it what it names and the node has not yet. */
static void delivery_give_pod(struct machine *machine, struct node_row *node, struct bytes pod_key,
                              const struct object *pod, const struct arrival *arrival)
{
    const struct bytes name = bytes_text(node->name);
    for (uint32_t i = 0; i < pod->reference_count; i++) {
        const struct row_key key = reference_object_key(pod, &pod->references[i]);
        const struct row_key held = row_key_pair(name, row_key_bytes(&key));
        struct part_value part;
        struct object object;
        if (!row_find(machine, TABLE_HELD, row_key_bytes(&held)) &&
            object_find(machine, row_key_bytes(&key), &part, &object)) {
            delivery_give_over(machine, node, row_key_bytes(&key), NULL, &object, arrival);
        }
    }
    delivery_give(machine, node, pod_key, pod, arrival);
}

static void delivery_bind(struct machine *machine, struct bytes pod_key, const struct object *pod,
                          bool bound, const struct arrival *arrival)
{
    const struct bytes name = bytes_text(pod->node_name);
    if (!bound) {
        const struct row_key key = row_key_pair(name, pod_key);
        store_put(machine->store, TABLE_BOUND, row_key_bytes(&key), (struct bytes){0});
        row_add(machine, TABLE_BOUND, name, object_is_device(pod) ? 0 : 1);
    }
    for (uint32_t i = 0; i < pod->reference_count; i++) {
        const struct row_key object_key = reference_object_key(pod, &pod->references[i]);
        const struct row_key key = reference_key(row_key_bytes(&object_key), name, pod_key);
        store_put(machine->store, TABLE_REF, row_key_bytes(&key), (struct bytes){0});
        reference_note(machine, row_key_bytes(&object_key));
    }
    struct node_row *node = node_find(machine, name);
    if (node != NULL) {
        delivery_give_pod(machine, node, pod_key, pod, arrival);
    }
}

static void delivery_unbind(struct machine *machine, struct bytes pod_key, const struct object *pod,
                            enum remove_reason reason, const struct arrival *arrival)
{
    const struct bytes name = bytes_text(pod->node_name);
    const struct row_key key = row_key_pair(name, pod_key);
    store_remove(machine->store, TABLE_BOUND, row_key_bytes(&key));
    row_add(machine, TABLE_BOUND, name, object_is_device(pod) ? 0 : -1);
    struct node_row *node = node_find(machine, name);
    if (node != NULL) {
        delivery_take(machine, node, pod_key, reason, arrival);
    }
    reference_drop(machine, pod_key, pod, NULL, arrival);
}

static void delivery_put_pod(struct machine *machine, struct bytes key, const struct object *before,
                             const struct object *pod, const struct arrival *arrival)
{
    const bool was_bound = before != NULL && before->node_name[0] != '\0';
    const bool stays = was_bound && strcmp(before->node_name, pod->node_name) == 0;
    if (was_bound && !stays) {
        delivery_unbind(machine, key, before, REMOVE_UNUSED, arrival);
    }
    if (pod->node_name[0] != '\0') {
        delivery_bind(machine, key, pod, stays, arrival);
    }
    if (stays) {
        reference_drop(machine, key, before, pod, arrival);
    }
}

/* -- nodes ------------------------------------------------------------------------------------- */

/* The next pod bound to a node, after the one `at` is (its size 0: the first).
 *   at   BOUND key of the pod; out_key lent as long as it */
static bool delivery_next_bound(struct machine *machine, struct bytes node, struct row_key *at,
                                struct bytes *out_key)
{
    const struct row_key prefix = row_key_pair(node, (struct bytes){0});
    struct store_iterator *iterator =
        store_iterate(store_live(machine->store), TABLE_BOUND, row_key_bytes(&prefix));
    bool on = false;
    if (at->size == 0) {
        on = store_iterator_first(iterator);
    } else {
        on = store_iterator_seek(iterator, row_key_bytes(at));
        if (on && bytes_equal(store_iterator_key(iterator), row_key_bytes(at))) {
            on = store_iterator_next(iterator);
        }
    }
    if (on) {
        at->size = 0;
        row_key_add(at, store_iterator_key(iterator));
        *out_key = bytes_of(at->data + prefix.size, at->size - prefix.size);
    }
    row_iterator_end(machine, iterator);
    return on && machine->failed == STATUS_OK;
}

/* A Node appeared; pods and devices may be bound to its name already. */
static void delivery_make_node(struct machine *machine, const struct object *object,
                               const struct arrival *arrival)
{
    struct node_row *node = node_add(machine, object->name, object->uid);
    struct row_key at = {.size = 0};
    struct bytes pod_key;
    while (delivery_next_bound(machine, bytes_text(node->name), &at, &pod_key)) {
        struct part_value part;
        struct object pod;
        if (!object_find(machine, pod_key, &part, &pod)) {
            machine->failed = STATUS_CORRUPT;
            return;
        }
        delivery_give_pod(machine, node, pod_key, &pod, arrival);
        store_reader_reset(store_live(machine->store)); /* `object` lives in the command */
    }
}

void delivery_forget_node(struct machine *machine, const char *name, const struct arrival *arrival)
{
    char node[LIMIT_NAME_BYTES +
              1]; /* the caller's may be lent by the reader, which is reset below */
    CHECK(strlen(name) < sizeof node);
    memcpy(node, name, strlen(name) + 1);
    struct node_row *row = node_find(machine, bytes_text(node));
    if (row == NULL) {
        CHECK(machine->failed != STATUS_OK); /* a Node object has its row */
        return;
    }
    const struct row_key prefix = row_key_pair(bytes_text(node), (struct bytes){0});
    down_remove(machine, bytes_text(node), row->down_swept, row->down_tip);
    row_remove_prefix(machine, TABLE_DOWN_KEY, row_key_bytes(&prefix));
    row_remove_prefix(machine, TABLE_HELD, row_key_bytes(&prefix));
    event_forget_node(machine, node);
    inbox_forget_node(machine, node);
    node_remove(machine, row);

    struct row_key at = {.size = 0};
    struct bytes pod_key;
    while (delivery_next_bound(machine, bytes_text(node), &at, &pod_key)) {
        struct part_value part;
        struct object pod;
        if (!object_find(machine, pod_key, &part, &pod)) {
            machine->failed = STATUS_CORRUPT;
            return;
        }
        if (pod.finalizer_count == 0 && !object_is_device(&pod)) { /* a device waits for its node */
            object_erase(machine, pod_key, &pod, arrival);
        }
        store_reader_reset(store_live(machine->store));
    }
}

void delivery_acknowledge(struct machine *machine, struct node_row *node, uint64_t position)
{
    CHECK(position > node->down_acked);
    CHECK(position <= node->down_tip);
    node->down_acked = position;
    if (position > node->down_floor) {
        node->down_floor = position;
    }
    down_sweep(machine, node, DOWN_SWEEP_ACK);
    node_touch(machine, node, 0);
}

/* -- any object -------------------------------------------------------------------------------- */

static bool delivery_is_shared(const struct object *object)
{
    return object_is(object, "configmaps") || object_is(object, "secrets");
}

/* Every existing node that needs a config map or secret gets it, or loses it (`object` NULL). */
static void delivery_tell(struct machine *machine, struct bytes key, const struct object *object,
                          const struct arrival *arrival)
{
    if (!reference_possible(machine, key)) {
        return;
    }
    const struct row_key prefix = row_key_pair(key, (struct bytes){0});
    struct store_iterator *iterator =
        store_iterate(store_live(machine->store), TABLE_REF, row_key_bytes(&prefix));
    bool on = store_iterator_first(iterator);
    while (on && machine->failed == STATUS_OK) {
        struct bytes rest = store_iterator_key(iterator);
        rest = bytes_of(rest.data + prefix.size, rest.size - prefix.size);
        const struct bytes name = row_key_take(&rest);
        struct row_key behind = row_key_pair(key, name); /* all pods of this node */
        row_key_add(&behind, bytes_of("\1", 1));
        struct node_row *node = node_find(machine, name);
        if (node != NULL && object != NULL) {
            delivery_give(machine, node, key, object, arrival);
        } else if (node != NULL) {
            delivery_take(machine, node, key, REMOVE_DELETED, arrival);
        }
        on = store_iterator_seek(iterator, row_key_bytes(&behind));
    }
    row_iterator_end(machine, iterator);
}

void delivery_put(struct machine *machine, struct bytes key, const struct object *before,
                  const struct object *object, const struct arrival *arrival)
{
    if (object_is(object, "pods") || object_is_device(object)) {
        delivery_put_pod(machine, key, before, object, arrival);
    } else if (delivery_is_shared(object)) {
        delivery_tell(machine, key, object, arrival);
    } else if (object_is(object, "nodes") && before == NULL) {
        delivery_make_node(machine, object, arrival);
    }
}

void delivery_remove(struct machine *machine, struct bytes key, const struct object *object,
                     const struct arrival *arrival)
{
    if (object_is(object, "pods") || object_is_device(object)) {
        if (object->node_name[0] != '\0') {
            delivery_unbind(machine, key, object, REMOVE_DELETED, arrival);
        }
    } else if (delivery_is_shared(object)) {
        delivery_tell(machine, key, NULL, arrival);
    } else if (object_is(object, "nodes")) {
        delivery_forget_node(machine, object->name, arrival);
    }
}
