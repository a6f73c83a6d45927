/* NODE rows: where each node's two streams are, and the session that may move them.
 *
 * A row is 18 u64 in the order of node_numbers, then the uid of the Node object; its key is the
 * name. An entry may change the same row thousands of times, so rows of the present
 * entry live in a cache and are written once at its end.
 */
#include "statemachine/apply.h"

#include <stdlib.h>

#define NODE_NUMBERS      18u
#define NODE_BUCKETS      1024u /* of the cache; an entry rarely concerns more nodes */
#define NODE_CHUNK        64u   /* cached rows claimed at a time: their places must not move */
#define STREAM_PLACE_BITS 12u
static_assert(LIMIT_BATCH_RECORDS <= 1u << STREAM_PLACE_BITS, "a place in an entry fits");

struct node_cached {
    struct node_row row;
    struct node_cached *next; /* in its bucket */
    bool exists;
    bool changed;
    uint32_t touched; /* mask of enum node_touch */
};

struct node_chunk {
    struct node_chunk *next;
    struct node_cached items[NODE_CHUNK];
};

struct node_cache {
    struct node_cached *buckets[NODE_BUCKETS];
    struct node_chunk *chunks;  /* all claimed, kept for the next entry */
    struct node_cached **items; /* in the order of their first use */
    uint32_t count;
    uint32_t capacity; /* of items, and of all chunks together */
};

/* -- the cache --------------------------------------------------------------------------------- */

struct node_cache *node_cache_create(void)
{
    struct node_cache *cache = calloc(1, sizeof *cache);
    CHECK(cache != NULL);
    return cache;
}

void node_cache_destroy(struct node_cache *cache)
{
    if (cache == NULL) {
        return;
    }
    while (cache->chunks != NULL) {
        struct node_chunk *chunk = cache->chunks;
        cache->chunks = chunk->next;
        free(chunk);
    }
    free(cache->items);
    free(cache);
}

void node_cache_clear(struct node_cache *cache)
{
    memset(cache->buckets, 0, sizeof cache->buckets);
    cache->count = 0;
}

static uint32_t node_bucket(struct bytes name)
{
    uint32_t hash = 2166136261u; /* FNV-1a; of the bytes, so the same on every replica */
    for (size_t i = 0; i < name.size; i++) {
        hash = (hash ^ name.data[i]) * 16777619u;
    }
    return hash % NODE_BUCKETS;
}

static struct node_cached *node_cache_claim(struct node_cache *cache)
{
    if (cache->count == cache->capacity) {
        struct node_chunk *chunk = malloc(sizeof *chunk);
        CHECK(chunk != NULL);
        chunk->next = cache->chunks;
        cache->chunks = chunk;
        struct node_cached **items =
            realloc(cache->items, (cache->capacity + NODE_CHUNK) * sizeof(struct node_cached *));
        CHECK(items != NULL);
        cache->items = items;
        for (uint32_t i = 0; i < NODE_CHUNK; i++) {
            items[cache->capacity + i] = &chunk->items[i];
        }
        cache->capacity += NODE_CHUNK;
    }
    struct node_cached *cached = cache->items[cache->count];
    cache->count++;
    return cached;
}

static struct node_cached *node_cache_find(struct machine *machine, struct bytes name)
{
    if (name.size == 0 || name.size > LIMIT_NAME_BYTES) {
        return NULL;
    }
    struct node_cache *cache = machine->nodes;
    const uint32_t bucket = node_bucket(name);
    for (struct node_cached *at = cache->buckets[bucket]; at != NULL; at = at->next) {
        if (bytes_equal_text(name, at->row.name)) {
            return at;
        }
    }

    struct node_cached *cached = node_cache_claim(cache);
    memset(cached, 0, sizeof *cached);
    struct bytes value;
    if (row_get(machine, TABLE_NODE, name, &value)) {
        cached->exists = node_decode(name, value, &cached->row);
        if (!cached->exists) {
            machine->failed = STATUS_CORRUPT;
        }
    }
    memcpy(cached->row.name, name.data, name.size);
    cached->row.name[name.size] = '\0';
    cached->next = cache->buckets[bucket];
    cache->buckets[bucket] = cached;
    return cached;
}

struct node_row *node_find(struct machine *machine, struct bytes name)
{
    struct node_cached *cached = node_cache_find(machine, name);
    return cached == NULL || !cached->exists ? NULL : &cached->row;
}

void node_touch(struct machine *machine, struct node_row *node, uint32_t what)
{
    (void)machine;
    struct node_cached *cached = CONTAINER_OF(node, struct node_cached, row);
    CHECK(cached->exists);
    cached->changed = true;
    cached->touched |= what;
}

uint64_t node_stream(const struct machine *machine)
{
    return machine->index << STREAM_PLACE_BITS | machine->place;
}

struct node_row *node_add(struct machine *machine, const char *name, const char *uid)
{
    struct node_cached *cached = node_cache_find(machine, bytes_text(name));
    CHECK(cached != NULL);
    CHECK(!cached->exists);
    CHECK(strlen(uid) < sizeof cached->row.uid);
    cached->exists = true;
    memset(&cached->row, 0, sizeof cached->row);
    memcpy(cached->row.name, name, strlen(name) + 1);
    memcpy(cached->row.uid, uid, strlen(uid) + 1);
    cached->row.down_stream = node_stream(machine);
    machine->meta.node_count++;
    node_touch(machine, &cached->row, NODE_STREAM);
    return &cached->row;
}

void node_remove(struct machine *machine, struct node_row *node)
{
    node_touch(machine, node, NODE_REMOVED);
    struct node_cached *cached = CONTAINER_OF(node, struct node_cached, row);
    cached->exists = false;
    CHECK(machine->meta.node_count > 0);
    machine->meta.node_count--;
}

/* -- the row ----------------------------------------------------------------------------------- */

static void node_numbers(struct node_row *node, uint64_t *out[NODE_NUMBERS])
{
    uint64_t *const all[NODE_NUMBERS] = {
        &node->down_stream, &node->down_tip,      &node->down_acked,
        &node->down_floor,  &node->down_swept,    &node->down_count,
        &node->held_count,  &node->digest.low,    &node->digest.high,
        &node->up_stream,   &node->up_position,   &node->epoch,
        &node->replica,     &node->refused_count, &node->gap_count,
        &node->event_count, &node->event_swept,   (uint64_t *)&node->session_ms,
    };
    memcpy(out, all, sizeof all);
}

static void node_encode(struct node_row *node, uint8_t *out)
{
    uint64_t *numbers[NODE_NUMBERS];
    node_numbers(node, numbers);
    for (unsigned i = 0; i < NODE_NUMBERS; i++) {
        put_le64(out + (size_t)i * 8, *numbers[i]);
    }
}

bool node_decode(struct bytes name, struct bytes value, struct node_row *out)
{
    const size_t fixed = (size_t)NODE_NUMBERS * 8;
    if (name.size == 0 || name.size > LIMIT_NAME_BYTES || value.size < fixed ||
        value.size - fixed > LIMIT_NAME_BYTES) {
        return false;
    }
    memset(out, 0, sizeof *out);
    memcpy(out->name, name.data, name.size);
    memcpy(out->uid, value.data + fixed, value.size - fixed);
    uint64_t *numbers[NODE_NUMBERS];
    node_numbers(out, numbers);
    for (unsigned i = 0; i < NODE_NUMBERS; i++) {
        *numbers[i] = get_le64(value.data + (size_t)i * 8);
    }
    return true;
}

static void node_write(struct machine *machine, struct node_cached *cached)
{
    const struct bytes name = bytes_text(cached->row.name);
    if (!cached->exists) {
        store_remove(machine->store, TABLE_NODE, name);
        return;
    }
    const struct bytes uid = bytes_text(cached->row.uid);
    uint8_t value[NODE_NUMBERS * 8 + LIMIT_NAME_BYTES];
    node_encode(&cached->row, value);
    memcpy(value + (size_t)NODE_NUMBERS * 8, uid.data, uid.size);
    store_put(machine->store, TABLE_NODE, name,
              bytes_of(value, (size_t)NODE_NUMBERS * 8 + uid.size));
}

static void node_list(struct machine *machine, const struct node_cached *cached)
{
    struct machine_applied *applied = &machine->applied;
    if (applied->node_count == machine->touched_capacity) {
        const uint32_t capacity =
            machine->touched_capacity == 0 ? NODE_CHUNK : machine->touched_capacity * 2;
        struct machine_touched *touched =
            realloc(machine->touched, capacity * sizeof *machine->touched);
        CHECK(touched != NULL);
        machine->touched = touched;
        machine->touched_capacity = capacity;
    }
    machine->touched[applied->node_count] = (struct machine_touched){
        .node = cached->row.name,
        .down = (cached->touched & NODE_DOWN) != 0 && cached->exists,
        .up = (cached->touched & NODE_UP) != 0 && cached->exists,
        .session = (cached->touched & NODE_SESSION) != 0 && cached->exists,
        .stream = (cached->touched & NODE_STREAM) != 0 && cached->exists,
        .removed = (cached->touched & NODE_REMOVED) != 0 && !cached->exists,
    };
    applied->node_count++;
    applied->nodes = machine->touched;
}

void node_cache_write(struct machine *machine)
{
    struct node_cache *cache = machine->nodes;
    for (uint32_t i = 0; i < cache->count; i++) {
        struct node_cached *cached = cache->items[i];
        if (cached->changed) {
            node_write(machine, cached);
        }
        if (cached->touched != 0) {
            node_list(machine, cached);
        }
    }
}

/* -- sessions ---------------------------------------------------------------------------------- */

/* SESSION_OPEN: a newer session of the node; what older ones send is refused from here on. */
struct machine_result node_apply_session(struct machine *machine, const struct arrival *arrival)
{
    struct session_open session;
    if (codec_session_open_read(machine->codec, arrival->record->body, &session) != STATUS_OK ||
        session.up_stream == 0) {
        return result_of(REFUSED_MALFORMED, 0);
    }
    struct node_row *node = node_find(machine, bytes_text(session.node));
    if (node == NULL) {
        return result_of(REFUSED_MISSING, 0);
    }
    if (strcmp(session.uid, node->uid) != 0) {
        return result_of(REFUSED_UID, 0);
    }

    /* Another incarnation of the edge's log. Or one that was acknowledged further than this row knows: the row was
     * removed and made again, from a Hello that was older than the acknowledgement. The edge keeps nothing below
     * what was acknowledged, so there is nothing else to go on from. */
    if (session.up_stream != node->up_stream ||
        (session.up_position > node->up_position && machine_level(machine) >= 3)) {
        node->up_stream = session.up_stream;
        node->up_position = session.up_position;
    }
    node->epoch++;
    node->replica = session.replica;
    node->session_ms = machine->meta.time_ms;
    node_touch(machine, node, NODE_SESSION);
    return result_of(ACCEPTED, node->epoch);
}

/* DOWN_ACK: the node holds everything up to there, durably. */
struct machine_result node_apply_ack(struct machine *machine, const struct arrival *arrival)
{
    struct down_ack ack;
    if (codec_down_ack_read(machine->codec, arrival->record->body, &ack) != STATUS_OK) {
        return result_of(REFUSED_MALFORMED, 0);
    }
    struct node_row *node = node_find(machine, bytes_text(ack.node));
    if (node == NULL) {
        return result_of(REFUSED_MISSING, 0);
    }
    if (ack.epoch != node->epoch) {
        return result_of(REFUSED_EPOCH, node->epoch);
    }
    if (ack.stream != node->down_stream) {
        return result_of(REFUSED_STREAM, node->down_stream);
    }
    if (ack.position > node->down_tip) {
        return result_of(REFUSED_POSITION, node->down_tip);
    }
    if (ack.position <= node->down_acked) {
        return result_of(ACCEPTED_UNCHANGED, node->down_acked);
    }

    delivery_acknowledge(machine, node, ack.position);
    return result_of(ACCEPTED, node->down_acked);
}

/* One record of an upward batch. What is refused is counted, and the batch goes on: the node cannot
 * take it back. */
static void node_apply_up(struct machine *machine, struct node_row *node, struct bytes bytes)
{
    struct record record;
    struct machine_result result;
    if (codec_record_read(machine->codec, bytes, &record) != STATUS_OK) {
        result = result_of(REFUSED_MALFORMED, 0);
    } else if (!machine_knows(record.kind)) {
        machine->applied.unknown_kind = record.kind;
        machine->failed = STATUS_UNSUPPORTED;
        return;
    } else if (!access_allows(record.kind, ACCESS_UP)) {
        result = result_of(REFUSED_KIND, 0);
    } else if (record.kind == RECORD_GAP) {
        struct gap gap;
        result = result_of(REFUSED_MALFORMED, 0);
        if (codec_gap_read(machine->codec, record.body, &gap) == STATUS_OK &&
            gap.first <= gap.last) {
            node->gap_count += gap.last - gap.first + 1;
            result = result_of(ACCEPTED, 0);
        }
    } else {
        const struct arrival arrival = {.record = &record, .bytes = bytes};
        if (record.kind == RECORD_EDGE_EVENT) {
            result = event_apply(machine, node, &arrival);
        } else if (record.kind == RECORD_DEVICE_VALUE || record.kind == RECORD_MQTT_MESSAGE) {
            result = inbox_apply(machine, node->name, &arrival);
        } else {
            result = object_apply_fact(machine, node->name, &arrival);
        }
    }
    if (!outcome_accepted(result.outcome)) {
        node->refused_count++;
        machine->meta.refused_count++;
    }
}

/* UP_BATCH: facts of a node, each applied once however often it comes. */
struct machine_result node_apply_batch(struct machine *machine, const struct arrival *arrival)
{
    struct batch batch;
    if (codec_batch_read(machine->codec, arrival->record->body, &batch) != STATUS_OK) {
        return result_of(REFUSED_MALFORMED, 0);
    }
    struct node_row *node = node_find(machine, bytes_text(batch.node));
    if (node == NULL) {
        return result_of(REFUSED_MISSING, 0);
    }
    if (batch.epoch != node->epoch) {
        return result_of(REFUSED_EPOCH, node->epoch);
    }
    if (batch.stream != node->up_stream) {
        return result_of(REFUSED_STREAM, node->up_stream);
    }
    if (batch.previous > node->up_position) {
        return result_of(REFUSED_GAP, node->up_position);
    }
    if (batch.last <= node->up_position) {
        return result_of(ACCEPTED_UNCHANGED, node->up_position);
    }

    struct codec *outer = machine->codec;
    machine->codec = machine->codec_inner;
    for (uint32_t i = 0; i < batch.record_count && machine->failed == STATUS_OK; i++) {
        if (batch.records[i].sequence <= node->up_position) {
            continue;
        }
        node_apply_up(machine, node, batch.records[i].record);
        codec_reset(machine->codec_inner);
        store_reader_reset(store_live(machine->store));
    }
    machine->codec = outer;
    node->up_position = batch.last;
    node_touch(machine, node, NODE_UP);
    return result_of(ACCEPTED, node->up_position);
}
