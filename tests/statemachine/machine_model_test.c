/* The machine against a stupid model, and against itself.
 *
 * Chance writes commands: objects come, change, move and go, nodes too, sessions open, edges
 * acknowledge and report, commands are proposed twice. After every entry the rows that each node is
 * said to hold are compared with what the wishes say it must hold. Edges read with losses, repeats
 * and crashes, and end with exactly those rows. A second machine is fed the same entries and crashes
 * all the time: at the end every row of the two is equal, byte by byte.
 */
#include "machine_reader.h"

#include <stdio.h>
#include <stdlib.h>

#define NODES   4u
#define PODS    8u
#define MAPS    4u
#define ENTRIES 400u
#define UPS     400u

struct up_log {
    struct bytes records[UPS]; /* ours; of sequences 1 .. count */
    uint32_t count;
    uint64_t stream;
};

struct edge_model {
    char name[8];
    struct reader reader;
    struct reader durable;             /* what a crash leaves */
    struct delivery_snapshot snapshot; /* under way since some entries ago */
    bool snapshot_open;
    struct up_log up;
};

struct world {
    struct fixture f;
    uint64_t chance;
    struct bytes entries[ENTRIES * 2]; /* ours */
    uint32_t entry_count;
    struct edge_model edges[NODES];
    uint64_t uids;
};

static uint32_t chance(struct world *w, uint32_t below)
{
    w->chance ^= w->chance << 13;
    w->chance ^= w->chance >> 7;
    w->chance ^= w->chance << 17;
    return (uint32_t)((w->chance >> 11) % below);
}

static struct bytes bytes_keep(struct bytes bytes)
{
    uint8_t *copy = aligned_alloc(8, (bytes.size + 7) & ~(size_t)7);
    memcpy(copy, bytes.data, bytes.size);
    return bytes_of(copy, bytes.size);
}

static struct node_row node_of(struct world *w, const char *name)
{
    struct node_row node = {0};
    assert_true(node_get(fixture_live(&w->f), name, &node) >= 0);
    return node;
}

static void up_log_empty(struct up_log *up)
{
    for (uint32_t i = 0; i < up->count; i++) {
        free((void *)(uintptr_t)up->records[i].data);
    }
    up->count = 0;
}

/* -- writing ----------------------------------------------------------------------------------- */

static const struct reference all_references[] = {{.resource = "configmaps", .name = "m0"},
                                                  {.resource = "configmaps", .name = "m1"},
                                                  {.resource = "secrets", .name = "m2"},
                                                  {.resource = "secrets", .name = "m3"}};
static const char *const finalizer = "kelp.io/hold";
static const char *const jsons[] = {"0", "1", "22", "333333333333333333333333333"};

/* The uid of what is there now, or a new one. */
static const char *uid_of(struct world *w, const char *key)
{
    struct object_row row;
    struct object_put put;
    if (object_get(fixture_live(&w->f), bytes_text(key), &row) == STATUS_OK &&
        codec_object_put_read(w->f.codec, row.parts[PART_WISH].body, &put) == STATUS_OK) {
        return codec_print(w->f.codec, "%s", put.object.uid);
    }
    w->uids++;
    return codec_print(w->f.codec, "u%u", (unsigned)w->uids);
}

static struct bytes write_pod(struct world *w)
{
    const char *name = codec_print(w->f.codec, "p%u", chance(w, PODS));
    const uint32_t where = chance(w, NODES + 2);
    struct object pod = object_pod(name, "", where < NODES ? w->edges[where].name : "");
    pod.uid = uid_of(w, key_of(&pod));
    pod.references = all_references + chance(w, 4);
    pod.reference_count = chance(w, (uint32_t)(all_references + 4 - pod.references) + 1);
    pod.json = bytes_text(jsons[chance(w, 4)]);
    pod.deletion_time_ms = chance(w, 4) == 0 ? 5 : 0;
    if (chance(w, 8) == 0) {
        pod.finalizers = &finalizer;
        pod.finalizer_count = 1;
    }
    return chance(w, 6) == 0 ? record_remove(&w->f, key_of(&pod), 0, "")
                             : record_put(&w->f, (uint8_t)chance(w, 3), &pod);
}

static struct bytes write_map(struct world *w)
{
    const uint32_t which = chance(w, MAPS);
    struct object map = object_configmap(codec_print(w->f.codec, "m%u", which), "", "");
    map.resource = all_references[which].resource;
    map.uid = uid_of(w, key_of(&map));
    map.json = bytes_text(jsons[chance(w, 4)]);
    return chance(w, 4) == 0 ? record_remove(&w->f, key_of(&map), 0, "")
                             : record_put(&w->f, PUT_ANY, &map);
}

static struct bytes write_node(struct world *w)
{
    struct object node = object_node(w->edges[chance(w, NODES)].name, "");
    node.uid = uid_of(w, key_of(&node));
    node.json = bytes_text(jsons[chance(w, 4)]);
    return chance(w, 3) == 0 ? record_remove(&w->f, key_of(&node), 0, "")
                             : record_put(&w->f, PUT_ANY, &node);
}

static struct bytes write_session(struct world *w)
{
    struct edge_model *edge = &w->edges[chance(w, NODES)];
    if (chance(w, 10) == 0) { /* a new disk */
        up_log_empty(&edge->up);
        edge->up.stream++;
    }
    const struct node_row node = node_of(w, edge->name);
    return record_session(&w->f, edge->name, codec_print(w->f.codec, "%s", node.uid),
                          edge->up.stream, 0);
}

static struct bytes write_ack(struct world *w)
{
    struct edge_model *edge = &w->edges[chance(w, NODES)];
    const struct node_row node = node_of(w, edge->name);
    edge->durable = edge->reader;
    return record_ack(&w->f, edge->name, node.epoch - (chance(w, 10) == 0), edge->durable.stream,
                      edge->durable.position);
}

static struct bytes write_verdict(struct world *w)
{
    const char *name = w->edges[chance(w, NODES)].name;
    const char *key = codec_print(w->f.codec, "/nodes//%s", name);
    return record_verdict(&w->f, key, uid_of(w, key), chance(w, 2) == 0);
}

/* Facts, some of them of pods that are elsewhere or gone. */
static void report(struct world *w, struct edge_model *edge)
{
    struct up_log *up = &edge->up;
    for (uint32_t i = chance(w, 4); i > 0 && up->count < UPS; i--) {
        const char *key = codec_print(w->f.codec, "/pods/default/p%u", chance(w, PODS));
        struct bytes record;
        switch (chance(w, 5)) {
        case 0:
            record = record_pod_ended(&w->f, key, uid_of(w, key));
            break;
        case 1:
            record = record_node_status(&w->f, codec_print(w->f.codec, "/nodes//%s", edge->name),
                                        jsons[chance(w, 4)]);
            break;
        case 2:
            record = record_event(&w->f, "", jsons[chance(w, 4)]);
            break;
        default:
            record = record_pod_status(&w->f, key, uid_of(w, key), (uint8_t)chance(w, 3));
        }
        up->records[up->count] = bytes_keep(record);
        up->count++;
    }
}

/* A batch that begins somewhere at or before what was applied, or sometimes too late. */
static struct bytes write_up(struct world *w)
{
    struct edge_model *edge = &w->edges[chance(w, NODES)];
    report(w, edge);
    const struct node_row node = node_of(w, edge->name);
    const uint64_t known = node.up_stream == edge->up.stream ? node.up_position : 0;
    const uint64_t most = known < edge->up.count ? known : edge->up.count;
    uint64_t previous = most - chance(w, (uint32_t)(most < 5 ? most : 5) + 1);
    if (chance(w, 20) == 0 && edge->up.count > 0) {
        previous = edge->up.count - 1;
    }
    const uint32_t rest = edge->up.count - (uint32_t)previous;
    const uint32_t count = rest == 0 ? 0 : 1 + chance(w, rest);
    return record_up(&w->f, edge->name, node.epoch - (chance(w, 10) == 0), edge->up.stream,
                     previous, edge->up.records + previous, count);
}

static struct bytes write_any(struct world *w)
{
    if (chance(w, 400) == 0) { /* half way, about: all members are of a newer release */
        return record_setting(&w->f, "level", MACHINE_LEVEL);
    }
    switch (chance(w, 16)) {
    case 0:
        return write_node(w);
    case 1:
        return write_session(w);
    case 2:
    case 3:
        return write_ack(w);
    case 4:
        return write_verdict(w);
    case 5:
    case 6:
    case 7:
        return write_up(w);
    case 8:
    case 9:
    case 10:
        return write_map(w);
    default:
        return write_pod(w);
    }
}

/* -- what must hold ----------------------------------------------------------------------------- */

struct expected {
    char key[64];
    char uid[32];
    struct tag tag;
};

static uint32_t expected_add(struct expected *set, uint32_t count, struct bytes key,
                             const struct object *object)
{
    for (uint32_t i = 0; i < count; i++) {
        if (bytes_equal_text(key, set[i].key)) {
            return count;
        }
    }
    snprintf(set[count].key, sizeof set->key, "%.*s", (int)key.size, (const char *)key.data);
    snprintf(set[count].uid, sizeof set->uid, "%s", object->uid);
    set[count].tag = object->tag;
    return count + 1;
}

/* The model: look at all wishes, each time. */
static uint32_t expected_of(struct world *w, const char *node, struct expected *set)
{
    uint32_t count = 0;
    struct object_cursor cursor;
    struct object_row row;
    struct codec *codec = w->f.lent;
    object_cursor_open(&cursor, fixture_live(&w->f), bytes_text("/pods/"), (struct bytes){0});
    struct object pods[PODS];
    uint32_t pod_count = 0;
    codec_reset(codec);
    while (object_cursor_next(&cursor, &row) == STATUS_OK) {
        struct object_put put;
        const struct bytes body = codec_copy(codec, row.parts[PART_WISH].body);
        assert_int_equal(codec_object_put_read(codec, body, &put), STATUS_OK);
        if (strcmp(put.object.node_name, node) == 0) {
            pods[pod_count] = put.object;
            pod_count++;
        }
    }
    object_cursor_close(&cursor);
    for (uint32_t i = 0; i < pod_count; i++) {
        count = expected_add(set, count, bytes_text(key_of(&pods[i])), &pods[i]);
        for (uint32_t j = 0; j < pods[i].reference_count; j++) {
            struct object map = object_configmap(pods[i].references[j].name, "", "");
            map.resource = pods[i].references[j].resource;
            const struct bytes key = bytes_text(key_of(&map));
            struct object_put put;
            if (object_get(fixture_live(&w->f), key, &row) == STATUS_OK) {
                assert_int_equal(codec_object_put_read(codec, row.parts[PART_WISH].body, &put),
                                 STATUS_OK);
                count = expected_add(set, count, key, &put.object);
            }
        }
    }
    return count;
}

static void check_held(struct world *w)
{
    struct expected set[PODS + MAPS];
    for (unsigned i = 0; i < NODES; i++) {
        const struct node_row node = node_of(w, w->edges[i].name);
        char prefix[16];
        const int size = snprintf(prefix, sizeof prefix, "%s%c", w->edges[i].name, 0);
        struct store_iterator *iterator =
            store_iterate(fixture_live(&w->f), TABLE_HELD, bytes_of(prefix, (size_t)size));
        uint32_t rows = 0;
        struct tag sum = {0};
        const uint32_t count = node.uid[0] == '\0' ? 0 : expected_of(w, w->edges[i].name, set);
        for (bool on = store_iterator_first(iterator); on; on = store_iterator_next(iterator)) {
            const struct bytes key = store_iterator_key(iterator);
            const struct bytes value = store_iterator_value(iterator);
            const struct bytes rest = bytes_of(value.data + 16, value.size - 16);
            const uint8_t *end = memchr(rest.data, 0, rest.size); /* the sequence follows */
            const struct bytes uid =
                bytes_of(rest.data, end == NULL ? rest.size : (size_t)(end - rest.data));
            bool found = false;
            for (uint32_t j = 0; j < count; j++) {
                found =
                    found || (bytes_equal_text(bytes_of(key.data + size, key.size - (size_t)size),
                                               set[j].key) &&
                              bytes_equal_text(uid, set[j].uid));
            }
            assert_true(found);
            rows++;
        }
        store_iterator_close(iterator);
        for (uint32_t j = 0; j < count; j++) {
            sum = tag_add(sum, set[j].tag);
        }
        assert_int_equal(rows, count);
        assert_int_equal(node.held_count, count);
        assert_true(tag_equal(node.digest, sum));
        store_reader_reset(fixture_live(&w->f));
    }
}

/* The u64 of a row; 0: it is not there. */
static uint64_t number_of(struct world *w, unsigned table, struct bytes key)
{
    struct bytes value;
    const int status = store_get(fixture_live(&w->f), table, key, &value);
    assert_true(status >= 0);
    return status == STATUS_OK && value.size == 8 ? get_le64(value.data) : 0;
}

/* Each row of a node that waits is found by the number that its HELD or DOWN_KEY row says, no other rows are there, and
 * all are counted. Answers how many are found by HELD. */
static uint64_t check_down_rows(struct world *w, const struct node_row *node, struct bytes prefix)
{
    struct store_iterator *iterator = store_iterate(fixture_live(&w->f), TABLE_DOWN, prefix);
    uint64_t rows = 0;
    uint64_t by_held = 0;
    uint64_t by_key = 0;
    for (bool on = store_iterator_first(iterator); on; on = store_iterator_next(iterator)) {
        const struct bytes value = store_iterator_value(iterator);
        const uint64_t sequence = get_be64(store_iterator_key(iterator).data + prefix.size);
        const uint32_t key_size = value.data[2] | (uint32_t)value.data[3] << 8;
        const char *key = (const char *)value.data + 24;
        const char *uid = key + key_size;
        const int uid_size = (int)(value.size - 24 - key_size);
        char text[160];
        const int held_size =
            snprintf(text, sizeof text, "%s%c%.*s", node->name, 0, (int)key_size, key);
        struct bytes held;
        const bool holds = store_get(fixture_live(&w->f), TABLE_HELD,
                                     bytes_of(text, (size_t)held_size), &held) == STATUS_OK;
        const bool same = holds && held.size >= 16 + (size_t)uid_size &&
                          memcmp(held.data + 16, uid, (size_t)uid_size) == 0 &&
                          (held.size == 16 + (size_t)uid_size || held.data[16 + uid_size] == 0);
        if (value.data[4] != 0) {
            assert_int_equal(value.data[0],
                             1); /* a put: of what is held, or of what was before it */
            assert_true(holds);
            assert_true(!same || get_le64(held.data + held.size - 8) == sequence);
            by_held += same;
        } else {
            const int size = held_size + snprintf(text + held_size, sizeof text - (size_t)held_size,
                                                  "%c%.*s", 0, uid_size, uid);
            assert_int_equal(number_of(w, TABLE_DOWN_KEY, bytes_of(text, (size_t)size)), sequence);
            by_key++;
        }
        assert_true(sequence > node->down_swept);
        rows++;
    }
    store_iterator_close(iterator);
    assert_int_equal(rows, node->down_count);

    uint64_t keys = 0;
    iterator = store_iterate(fixture_live(&w->f), TABLE_DOWN_KEY, prefix);
    for (bool on = store_iterator_first(iterator); on; on = store_iterator_next(iterator)) {
        keys++;
    }
    store_iterator_close(iterator);
    assert_int_equal(keys, by_key);
    return by_held;
}

static void check_down(struct world *w)
{
    for (unsigned i = 0; i < NODES; i++) {
        const struct node_row node = node_of(w, w->edges[i].name);
        char text[16];
        const int size = snprintf(text, sizeof text, "%s%c", w->edges[i].name, 0);
        const struct bytes prefix = bytes_of(text, (size_t)size);
        const uint64_t by_held = check_down_rows(w, &node, prefix);
        uint64_t waiting = 0;
        struct store_iterator *iterator = store_iterate(fixture_live(&w->f), TABLE_HELD, prefix);
        for (bool on = store_iterator_first(iterator); on; on = store_iterator_next(iterator)) {
            const struct bytes value = store_iterator_value(iterator);
            const uint8_t *end = memchr(value.data + 16, 0, value.size - 16);
            waiting += end != NULL && get_le64(end + 1) > node.down_swept;
        }
        store_iterator_close(iterator);
        assert_int_equal(waiting, by_held);
        store_reader_reset(fixture_live(&w->f));
    }
}

/* -- reading ------------------------------------------------------------------------------------ */

/* A snapshot of some entries ago, and then the log: that is the state of now. */
static void edge_end_snapshot(struct world *w, struct edge_model *edge)
{
    static struct reader late;
    memset(&late, 0, sizeof late);
    late.node = edge->name;
    reader_take_snapshot(&w->f, &late, &edge->snapshot, 1 + chance(w, 600));
    edge->snapshot_open = false;
    if (node_of(w, edge->name).down_stream == late.stream) {
        reader_drain(&w->f, &late, 1 + chance(w, 2000));
    }
}

static void edges_read(struct world *w)
{
    for (unsigned i = 0; i < NODES; i++) {
        struct edge_model *edge = &w->edges[i];
        edge->reader.order[0] = '\0';
        if (edge->snapshot_open && chance(w, 8) == 0) {
            edge_end_snapshot(w, edge);
        } else if (!edge->snapshot_open && chance(w, 8) == 0) {
            const int status =
                delivery_snapshot_open(&edge->snapshot, w->f.store, edge->name, w->entry_count,
                                       false);
            edge->snapshot_open = status == STATUS_OK;
        }
        if (node_of(w, edge->name).uid[0] == '\0') {
            continue;
        }
        switch (chance(w, 6)) {
        case 0: /* the link loses what was sent */
            break;
        case 1: /* power loss */
            edge->reader = edge->durable;
            break;
        case 2:
            reader_drain(&w->f, &edge->reader, 1 + chance(w, 2000));
            break;
        default:
            reader_step(&w->f, &edge->reader, 1 + chance(w, 600));
        }
    }
}

/* -- the run ------------------------------------------------------------------------------------ */

static void world_apply(struct world *w, struct bytes command)
{
    w->entries[w->entry_count] = bytes_keep(command);
    w->entry_count++;
    w->f.index++;
    assert_int_equal(machine_apply(&w->f.machine, w->f.index, command, &w->f.applied), STATUS_OK);
    assert_false(w->f.applied->malformed);
}

static void world_step(struct world *w)
{
    struct bytes records[4];
    const uint32_t count = 1 + chance(w, 4);
    w->f.time_ms += chance(w, 1000);
    for (uint32_t i = 0; i < count; i++) {
        records[i] = write_any(w);
        store_reader_reset(fixture_live(&w->f));
    }
    w->f.sequence++;
    const struct bytes command = command_of(&w->f, w->f.origin, w->f.sequence, records, count);
    world_apply(w, command);
    if (chance(w, 8) == 0) {
        struct machine_result results[4];
        memcpy(results, w->f.applied->results, count * sizeof results[0]);
        const uint64_t version = w->f.applied->version;
        world_apply(w, command);
        assert_true(w->f.applied->duplicate);
        assert_int_equal(w->f.applied->version, version);
        for (uint32_t i = 0; i < count; i++) {
            assert_int_equal(w->f.applied->results[i].outcome, results[i].outcome);
            assert_int_equal(w->f.applied->results[i].value, results[i].value);
        }
    }
    codec_reset(w->f.codec);
    check_held(w);
    check_down(w);
    edges_read(w);
}

struct lines {
    char **lines;
    uint32_t count;
    uint32_t capacity;
};

static int lines_on_line(void *context, const char *line)
{
    struct lines *lines = context;
    if (lines->count == lines->capacity) {
        lines->capacity = lines->capacity == 0 ? 1024 : lines->capacity * 2;
        lines->lines = realloc(lines->lines, lines->capacity * sizeof(char *));
    }
    lines->lines[lines->count] = strdup(line);
    lines->count++;
    return 0;
}

static void lines_free(struct lines *lines)
{
    for (uint32_t i = 0; i < lines->count; i++) {
        free(lines->lines[i]);
    }
    free(lines->lines);
}

/* Feed all entries to another machine that crashes and flushes where chance wants. */
static void check_replay(struct world *w)
{
    struct fixture other;
    fixture_open(&other);
    uint32_t crashes = 0;
    uint64_t next = 1;
    while (next <= w->entry_count) {
        const struct machine_applied *applied;
        assert_int_equal(machine_apply(&other.machine, next, w->entries[next - 1], &applied),
                         STATUS_OK);
        next++;
        if (chance(w, 10) == 0) {
            assert_int_equal(store_flush(other.store), STATUS_OK);
        }
        if (chance(w, 20) == 0) {
            fixture_crash(&other, chance(w, 1000));
            crashes++;
            /* replay may begin anywhere at or below what is left */
            const uint64_t left = machine_index(&other.machine);
            next = left < 3 ? 1 : left - chance(w, 3);
        }
    }
    assert_true(crashes > 0);
    struct lines ours = {0};
    struct lines theirs = {0};
    assert_int_equal(machine_dump(fixture_live(&w->f), lines_on_line, &ours), STATUS_OK);
    assert_int_equal(machine_dump(fixture_live(&other), lines_on_line, &theirs), STATUS_OK);
    assert_true(ours.count > 100);
    for (uint32_t i = 0; i < ours.count && i < theirs.count; i++) {
        assert_string_equal(ours.lines[i], theirs.lines[i]);
    }
    assert_int_equal(ours.count, theirs.count);
    uint64_t a;
    uint64_t b;
    assert_int_equal(machine_digest(fixture_live(&w->f), &a), STATUS_OK);
    assert_int_equal(machine_digest(fixture_live(&other), &b), STATUS_OK);
    assert_true(a == b);
    lines_free(&ours);
    lines_free(&theirs);
    fixture_close(&other);
}

static void world_begin(struct world *w, uint64_t seed)
{
    memset(w, 0, sizeof *w);
    w->chance = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    fixture_open(&w->f);
    for (unsigned i = 0; i < NODES; i++) {
        snprintf(w->edges[i].name, sizeof w->edges[i].name, "e%u", i);
        w->edges[i].reader.node = w->edges[i].name;
        w->edges[i].durable.node = w->edges[i].name;
        w->edges[i].up.stream = 1;
    }
    const struct object space = object_namespace("default");
    const struct bytes records[] = {record_put(&w->f, PUT_CREATE, &space),
                                    record_setting(&w->f, "down_rows_max", 16),
                                    record_setting(&w->f, "change_history_bytes", 30000),
                                    record_setting(&w->f, "event_rows_max", 8)};
    w->f.sequence++;
    world_apply(w, command_of(&w->f, w->f.origin, w->f.sequence, records, 4));
    codec_reset(w->f.codec);
}

static void world_end(struct world *w)
{
    for (uint32_t i = 0; i < w->entry_count; i++) {
        free((void *)(uintptr_t)w->entries[i].data);
    }
    for (unsigned i = 0; i < NODES; i++) {
        up_log_empty(&w->edges[i].up);
        if (w->edges[i].snapshot_open) {
            delivery_snapshot_close(&w->edges[i].snapshot);
        }
    }
    fixture_close(&w->f);
}

static uint64_t running_seed; /* of the run that failed, when one did */

static int tell_seed(void **state)
{
    (void)state;
    if (running_seed != 0) {
        print_message("repeat with SEED=%llu\n", (unsigned long long)running_seed);
    }
    return 0;
}

static void test_rows_readers_and_replicas_agree(void **state)
{
    (void)state;
    const char *text = getenv("SEED");
    const uint64_t first = text == NULL ? 1 : strtoull(text, NULL, 10);
    const uint64_t seeds = text == NULL ? 100 : 1;
    static struct world world;
    uint64_t snapshots = 0;
    uint64_t batches = 0;
    uint64_t refused = 0;
    for (uint64_t seed = first; seed < first + seeds; seed++) {
        running_seed = seed;
        world_begin(&world, seed);
        for (uint32_t i = 0; i < ENTRIES - 1; i++) {
            world_step(&world);
        }
        for (unsigned i = 0; i < NODES; i++) {
            struct reader *reader = &world.edges[i].reader;
            reader->order[0] = '\0';
            if (node_of(&world, reader->node).uid[0] != '\0') {
                reader_drain(&world.f, reader, 1000);
            }
            snapshots += reader->snapshots;
            batches += reader->batches;
        }
        refused += world.f.machine.meta.refused_count;
        check_replay(&world);
        world_end(&world);
    }
    running_seed = 0;
    print_message("%llu batches, %llu snapshots, %llu refused\n", (unsigned long long)batches,
                  (unsigned long long)snapshots, (unsigned long long)refused);
    assert_true(snapshots > 0);
    assert_true(batches > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_rows_readers_and_replicas_agree, tell_seed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
