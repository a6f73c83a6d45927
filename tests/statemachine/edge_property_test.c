/* The fold of an edge's log against a stupid model, over random batches, snapshots, facts, crashes and
 * replays; and against bytes that nobody should have written.
 *
 * SEED picks another run, ROUNDS a longer one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "schemas/check.h"
#include "statemachine/edge.h"

enum { KEYS = 6, CONTAINERS = 2, OPS = 4096, UPS = 65536, EVENTS_KEPT = 5, NODE_KEY = KEYS };
#define NODE "edge-1"
#define UP   9u

static uint32_t chance(uint64_t *seed, uint32_t below)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((*seed >> 33) % below);
}

/* What the cloud decided, by sequence: the whole history of the down stream. */
struct op {
    bool put;
    uint32_t key;
    uint32_t uid; /* 0: none yet */
    uint64_t tag;
};
struct cloud {
    uint64_t stream;
    uint64_t tip;
    struct op ops[OPS]; /* [sequence]; [0] is not used */
    uint32_t uids;      /* handed out */
};

/* One pod as the edge must know it. */
struct pod {
    uint32_t uid; /* 0: not wished */
    uint64_t tag;
    int attempt[CONTAINERS]; /* -1: none */
    bool ended;
    uint32_t status; /* number of the newest status; 0: none */
};
struct fact {
    uint16_t kind; /* 0: compacted, acknowledged or withdrawn */
    uint32_t key;
    uint32_t uid;
    uint64_t gap_first;
};
struct model {
    uint64_t stream;
    uint64_t position;
    struct pod pods[KEYS];
    uint64_t up_last;
    uint64_t up_acked;
    uint32_t events;
    struct fact ups[UPS];
    bool stage_open;
    uint64_t stage_id;
    uint64_t stage_position;
    uint64_t stage_stream;
    struct pod stage[KEYS];
    uint32_t mismatches;
};

struct world {
    uint64_t seed;
    struct store_sim *sim;
    struct store *store;
    struct edge_machine *machine;
    struct edge_limits limits;
    struct codec *codec;
    struct cloud cloud;
    struct model model;
    struct bytes *log;
    size_t log_count;
    size_t log_capacity;
    struct edge_applied applied;
    uint32_t counter;
    uint64_t snapshot_id;
    uint32_t outcomes[16];
};

static const char *key_text(uint32_t key)
{
    static char text[4][32];
    static unsigned turn;
    char *place = text[turn++ % 4];
    if (key == NODE_KEY) {
        return "/nodes//" NODE;
    }
    /* Keys of which one begins like the other, and some that are not pods. */
    (void)snprintf(place, sizeof text[0], key < 4 ? "/pods/ns/p%s" : "/configmaps/ns/c%s",
                   key % 2 == 0 ? "" : "0");
    if (key == 2 || key == 3) {
        strcat(place, "-x");
    }
    return place;
}

static const char *uid_text(uint32_t uid)
{
    static char text[4][16];
    static unsigned turn;
    char *place = text[turn++ % 4];
    (void)snprintf(place, sizeof text[0], "uid-%u", uid);
    return place;
}

static struct tag tag_of(uint64_t number)
{
    return (struct tag){.low = number * 0x9e3779b97f4a7c15u, .high = ~number};
}

static void world_open(struct world *world)
{
    assert_int_equal(store_sim_open(world->sim, "edge", EDGE_FORMAT, &world->store), STATUS_OK);
    assert_int_equal(edge_machine_open(world->store, &world->limits, &world->machine), STATUS_OK);
}

static void world_close(struct world *world)
{
    edge_machine_close(world->machine);
    store_close(world->store);
}

static enum edge_outcome world_apply(struct world *world, uint16_t kind, const char *key,
                                     struct bytes body)
{
    const struct record record = {.kind = kind, .key = key, .origin = NODE, .body = body};
    struct bytes bytes;
    assert_int_equal(codec_record_build(world->codec, &record, &bytes), STATUS_OK);
    if (world->log_count == world->log_capacity) {
        world->log_capacity = world->log_capacity == 0 ? 256 : 2 * world->log_capacity;
        world->log = realloc(world->log, world->log_capacity * sizeof *world->log);
        CHECK(world->log != NULL);
    }
    uint8_t *copy = malloc(bytes.size);
    CHECK(copy != NULL);
    memcpy(copy, bytes.data, bytes.size);
    world->log[world->log_count] = bytes_of(copy, bytes.size);
    world->log_count++;
    assert_int_equal(edge_machine_apply(world->machine, world->log_count,
                                        bytes_of(copy, bytes.size), &world->applied),
                     STATUS_OK);
    codec_reset(world->codec);
    world->outcomes[world->applied.outcome]++;
    return world->applied.outcome;
}

#define BODY(world, noun, value)                                                                   \
    __extension__({                                                                                \
        struct bytes body_;                                                                        \
        assert_int_equal(codec_##noun##_build((world)->codec, &(value), &body_), STATUS_OK);       \
        body_;                                                                                     \
    })

/* -- the model ------------------------------------------------------------------------------------- */

static void pod_forget(struct model *model, uint32_t key, uint32_t uid)
{
    for (uint64_t s = model->up_acked + 1; s <= model->up_last; s++) {
        struct fact *fact = &model->ups[s];
        if ((fact->kind == RECORD_POD_STATUS || fact->kind == RECORD_POD_ENDED) &&
            fact->key == key && fact->uid == uid) {
            fact->kind = 0;
        }
    }
    model->pods[key] = (struct pod){.attempt = {-1, -1}};
}

static void pod_put(struct model *model, uint32_t key, uint32_t uid, uint64_t tag)
{
    struct pod *pod = &model->pods[key];
    if (pod->uid != uid) {
        pod_forget(model, key, pod->uid);
    }
    pod->uid = uid;
    pod->tag = tag;
}

static struct tag pods_digest(const struct pod pods[KEYS])
{
    struct tag digest = {0};
    for (uint32_t key = 0; key < KEYS; key++) {
        if (pods[key].uid != 0) {
            digest = tag_add(digest, tag_of(pods[key].tag));
        }
    }
    return digest;
}

static void up_add(struct model *model, uint16_t kind, uint32_t key, uint32_t uid)
{
    for (uint64_t s = model->up_acked + 1; s <= model->up_last && kind != RECORD_EDGE_EVENT; s++) {
        struct fact *fact = &model->ups[s];
        if (fact->kind == kind && fact->key == key && fact->uid == uid) {
            fact->kind = 0;
        }
    }
    model->up_last++;
    CHECK(model->up_last < UPS);
    model->ups[model->up_last] = (struct fact){.kind = kind, .key = key, .uid = uid};
    if (kind != RECORD_EDGE_EVENT) {
        return;
    }
    model->events++;
    uint64_t gap = 0;
    for (uint64_t s = model->up_acked + 1; model->events > EVENTS_KEPT; s++) {
        struct fact *fact = &model->ups[s];
        if (fact->kind == RECORD_GAP) {
            gap = s;
        }
        if (fact->kind == RECORD_EDGE_EVENT) {
            fact->kind = RECORD_GAP;
            fact->gap_first = gap != 0 ? model->ups[gap].gap_first : s;
            model->ups[gap].kind = 0;
            gap = s;
            model->events--;
        }
    }
}

/* -- comparing ------------------------------------------------------------------------------------- */

static void assert_pod(struct world *world, uint32_t key)
{
    const struct pod *pod = &world->model.pods[key];
    struct object_put put;
    const int found = edge_object_find(world->machine, key_text(key), world->codec, &put);
    assert_int_equal(found, pod->uid != 0 ? STATUS_OK : STORE_NONE);
    if (pod->uid == 0) {
        return;
    }
    assert_string_equal(put.object.uid, uid_text(pod->uid));
    assert_true(tag_equal(put.object.tag, tag_of(pod->tag)));

    const struct pod_attempt *attempts;
    uint32_t count;
    assert_int_equal(
        edge_attempts_list(world->machine, uid_text(pod->uid), world->codec, &attempts, &count),
        STATUS_OK);
    uint32_t at = 0;
    for (uint32_t c = 0; c < CONTAINERS; c++) {
        if (pod->attempt[c] >= 0) {
            assert_true(at < count);
            assert_string_equal(attempts[at].container, c == 0 ? "" : "main");
            assert_int_equal(attempts[at].attempt, pod->attempt[c]);
            at++;
        }
    }
    assert_int_equal(at, count);
    assert_int_equal(edge_pod_ended_find(world->machine, uid_text(pod->uid)),
                     pod->ended ? STATUS_OK : STORE_NONE);
    struct pod_status status;
    const int known = edge_pod_status_find(world->machine, key_text(key), world->codec, &status);
    assert_int_equal(known, pod->status != 0 ? STATUS_OK : STORE_NONE);
    if (pod->status != 0) {
        assert_int_equal(status.observed_generation, pod->status);
    }
}

static void assert_ups(struct world *world)
{
    const struct model *model = &world->model;
    uint64_t after = model->up_acked;
    uint64_t expected = after;
    do { /* in batches of any size */
        struct batch batch;
        assert_int_equal(
            edge_up_read(world->machine, after, chance(&world->seed, 600), world->codec, &batch),
            STATUS_OK);
        assert_int_equal(batch.previous, after);
        assert_int_equal(batch.tip, model->up_last);
        assert_int_equal(batch.stream, UP);
        for (uint32_t i = 0; i < batch.record_count; i++) {
            do {
                expected++;
                assert_true(expected <= model->up_last);
            } while (model->ups[expected].kind == 0);
            const struct fact *fact = &model->ups[expected];
            struct record record;
            assert_int_equal(batch.records[i].sequence, expected);
            assert_int_equal(codec_record_read(world->codec, batch.records[i].record, &record),
                             STATUS_OK);
            assert_int_equal(record.kind, fact->kind);
            if (fact->kind == RECORD_GAP) {
                struct gap gap;
                assert_int_equal(codec_gap_read(world->codec, record.body, &gap), STATUS_OK);
                assert_int_equal(gap.first, fact->gap_first);
                assert_int_equal(gap.last, expected);
            } else if (fact->kind != RECORD_EDGE_EVENT) {
                assert_string_equal(record.key, key_text(fact->key));
            }
        }
        assert_true(batch.last > after || after == model->up_last);
        after = batch.last;
        codec_reset(world->codec);
    } while (after < model->up_last);
    while (expected < model->up_last) {
        expected++;
        assert_int_equal(model->ups[expected].kind, 0);
    }
}

static void assert_world(struct world *world)
{
    const struct model *model = &world->model;
    const struct edge_meta *meta = edge_machine_meta(world->machine);
    assert_int_equal(meta->down_stream, model->stream);
    assert_int_equal(meta->down_position, model->position);
    assert_int_equal(meta->up_last, model->up_last);
    assert_int_equal(meta->up_acked, model->up_acked);
    assert_int_equal(meta->event_count, model->events);
    assert_int_equal(meta->stage_open, model->stage_open);
    assert_int_equal(meta->mismatch_count, model->mismatches);
    assert_true(tag_equal(meta->digest, pods_digest(model->pods)));
    struct tag digest;
    uint32_t count;
    assert_int_equal(edge_digest_compute(world->machine, &digest, &count), STATUS_OK);
    assert_true(tag_equal(meta->digest, digest));
    assert_int_equal(meta->object_count, count);
    for (uint32_t key = 0; key < KEYS; key++) {
        assert_pod(world, key);
    }
    assert_ups(world);
    codec_reset(world->codec);
}

/* No row is left of what is gone: counted in the store itself. */
static uint32_t table_rows(struct world *world, unsigned table)
{
    uint32_t rows = 0;
    struct store_iterator *iterator =
        store_iterate(store_live(world->store), table, (struct bytes){0});
    for (bool on = store_iterator_first(iterator); on; on = store_iterator_next(iterator)) {
        rows++;
    }
    store_iterator_close(iterator);
    return rows;
}

static void assert_no_garbage(struct world *world)
{
    const struct model *model = &world->model;
    uint32_t attempts = 0;
    uint32_t ended = 0;
    uint32_t statuses = 0;
    uint32_t ups = 0;
    uint32_t keyed = 0;
    for (uint32_t key = 0; key < KEYS; key++) {
        const struct pod *pod = &model->pods[key];
        attempts += (uint32_t)((pod->attempt[0] >= 0) + (pod->attempt[1] >= 0));
        ended += pod->ended;
        statuses += pod->status != 0;
    }
    for (uint64_t s = model->up_acked + 1; s <= model->up_last; s++) {
        const uint16_t kind = model->ups[s].kind;
        ups += kind != 0;
        keyed += kind != 0 && kind != RECORD_GAP && kind != RECORD_EDGE_EVENT;
    }
    assert_int_equal(table_rows(world, EDGE_TABLE_ATTEMPT), attempts);
    assert_int_equal(table_rows(world, EDGE_TABLE_ENDED), ended);
    assert_in_range(table_rows(world, EDGE_TABLE_STATUS), statuses, statuses + 1); /* the node's */
    assert_int_equal(table_rows(world, EDGE_TABLE_UP), ups);
    assert_int_equal(table_rows(world, EDGE_TABLE_UP_KEY), keyed);
    assert_int_equal(table_rows(world, EDGE_TABLE_UP_EVENT), model->events);
    const unsigned table = edge_machine_meta(world->machine)->wish_table;
    const unsigned stage = table == EDGE_TABLE_WISH_A ? EDGE_TABLE_WISH_B : EDGE_TABLE_WISH_A;
    uint32_t staged = 0;
    for (uint32_t key = 0; key < KEYS; key++) {
        staged += model->stage_open && model->stage[key].uid != 0;
    }
    assert_int_equal(table_rows(world, stage), staged);
}

/* -- steps ------------------------------------------------------------------------------------------ */

static struct bytes op_record(struct world *world, const struct op *op)
{
    struct record record = {.key = key_text(op->key), .origin = "cloudcore-1"};
    if (op->put) {
        const struct object_put put = {
            .object = {.uid = uid_text(op->uid), .tag = tag_of(op->tag), .json = bytes_text("{}")}};
        record.kind = RECORD_OBJECT_PUT;
        record.body = BODY(world, object_put, put);
    } else {
        const struct object_remove remove = {.if_uid = uid_text(op->uid)};
        record.kind = RECORD_OBJECT_REMOVE;
        record.body = BODY(world, object_remove, remove);
    }
    struct bytes bytes;
    assert_int_equal(codec_record_build(world->codec, &record, &bytes), STATUS_OK);
    return bytes;
}

static void cloud_fold(const struct cloud *cloud, uint64_t upto, struct pod pods[KEYS])
{
    for (uint32_t key = 0; key < KEYS; key++) {
        pods[key] = (struct pod){.attempt = {-1, -1}};
    }
    for (uint64_t s = 1; s <= upto; s++) {
        const struct op *op = &cloud->ops[s];
        pods[op->key].uid = op->put ? op->uid : 0;
        pods[op->key].tag = op->put ? op->tag : 0;
    }
}

static void step_cloud(struct world *world)
{
    struct cloud *cloud = &world->cloud;
    if (cloud->tip + 2 >= OPS) {
        return;
    }
    struct pod now[KEYS];
    cloud_fold(cloud, cloud->tip, now);
    const uint32_t key = chance(&world->seed, KEYS);
    struct op op = {.key = key, .uid = now[key].uid, .put = true, .tag = ++world->counter};
    if (now[key].uid == 0) {
        op.uid = ++cloud->uids;
    } else if (chance(&world->seed, 3) == 0) {
        op.put = false;
    } else if (chance(&world->seed, 4) == 0) { /* gone and come again: only the second is unread */
        op.uid = ++cloud->uids;
    }
    cloud->tip++;
    cloud->ops[cloud->tip] = op;
}

/* Any stretch of the history, joined or not, seen before or not. */
static void step_batch(struct world *world)
{
    struct cloud *cloud = &world->cloud;
    struct model *model = &world->model;
    uint64_t previous = model->position;
    switch (chance(&world->seed, 4)) {
    case 0:
        previous = chance(&world->seed, (uint32_t)model->position + 3);
        break;
    case 1:
        previous -= previous > 2 ? 2 : 0;
        break;
    default:
        break;
    }
    if (previous > cloud->tip) {
        previous = cloud->tip;
    }
    const uint64_t last =
        chance(&world->seed, 3) == 0
            ? cloud->tip
            : previous + chance(&world->seed, (uint32_t)(cloud->tip - previous) + 1);
    struct sequenced items[OPS];
    uint32_t count = 0;
    for (uint64_t s = previous + 1; s <= last; s++) {
        /* By a newer unread put of the same object. A removal must not swallow the put of an object
         * that took the place of another one: nothing else says that the other one ended. */
        bool compacted = false;
        for (uint64_t newer = s + 1; newer <= last; newer++) {
            compacted = compacted || (cloud->ops[newer].put && cloud->ops[s].put &&
                                      cloud->ops[newer].key == cloud->ops[s].key &&
                                      cloud->ops[newer].uid == cloud->ops[s].uid);
        }
        if (!compacted) {
            items[count] =
                (struct sequenced){.sequence = s, .record = op_record(world, &cloud->ops[s])};
            count++;
        }
    }
    struct pod at_tip[KEYS];
    cloud_fold(cloud, cloud->tip, at_tip);
    struct batch batch = {.node = NODE,
                          .stream = cloud->stream + (chance(&world->seed, 20) == 0),
                          .previous = previous,
                          .last = last,
                          .tip = cloud->tip,
                          .records = items,
                          .record_count = count,
                          .digest = pods_digest(at_tip)};
    const bool lies = chance(&world->seed, 10) == 0;
    if (lies) {
        batch.digest.low++;
    }
    const enum edge_outcome outcome =
        world_apply(world, RECORD_DOWN_BATCH, "", BODY(world, batch, batch));
    if (model->stream == 0 || batch.stream != model->stream) {
        assert_int_equal(outcome, EDGE_REFUSED_STREAM);
        return;
    }
    if (previous > model->position) {
        assert_int_equal(outcome, EDGE_REFUSED_GAP);
        return;
    }
    if (last < model->position || (last == model->position && previous < last)) {
        assert_int_equal(outcome, EDGE_DUPLICATE);
        return;
    }
    assert_int_equal(outcome, EDGE_ACCEPTED);
    for (uint64_t s = model->position + 1; s <= last; s++) {
        const struct op *op = &cloud->ops[s];
        if (op->put) {
            pod_put(model, op->key, op->uid, op->tag);
        } else if (model->pods[op->key].uid == op->uid) {
            pod_forget(model, op->key, op->uid);
        }
    }
    model->position = last;
    const bool differs = last == cloud->tip && lies;
    model->mismatches += differs;
    assert_int_equal(world->applied.digest_differs, differs);
}

static void step_snapshot(struct world *world)
{
    struct cloud *cloud = &world->cloud;
    struct model *model = &world->model;
    struct snapshot snapshot = {
        .stream = model->stage_stream, .position = model->stage_position, .id = model->stage_id};
    if (!model->stage_open || chance(&world->seed, 6) == 0) {
        snapshot.step = SNAPSHOT_BEGIN;
        snapshot.stream = cloud->stream;
        snapshot.position = chance(&world->seed, 5) == 0
                                ? chance(&world->seed, (uint32_t)cloud->tip + 1)
                                : cloud->tip;
        snapshot.id = ++world->snapshot_id;
        const enum edge_outcome outcome =
            world_apply(world, RECORD_SNAPSHOT, "", BODY(world, snapshot, snapshot));
        if (snapshot.stream == model->stream && snapshot.position < model->position) {
            assert_int_equal(outcome, EDGE_REFUSED_STALE);
            return;
        }
        assert_int_equal(outcome, EDGE_ACCEPTED);
        model->stage_open = true;
        model->stage_id = snapshot.id;
        model->stage_stream = snapshot.stream;
        model->stage_position = snapshot.position;
        memset(model->stage, 0, sizeof model->stage);
        return;
    }
    struct pod rows[KEYS];
    cloud_fold(cloud, snapshot.position, rows);
    const bool stale = snapshot.stream == model->stream && snapshot.position < model->position;
    struct sequenced items[KEYS];
    snapshot.records = items;
    snapshot.step = chance(&world->seed, 3) == 0 ? SNAPSHOT_END : SNAPSHOT_ROWS;
    for (uint32_t key = 0; key < KEYS && snapshot.step == SNAPSHOT_ROWS; key++) {
        if (rows[key].uid != 0 && chance(&world->seed, 3) != 0) {
            const struct op op = {
                .put = true, .key = key, .uid = rows[key].uid, .tag = rows[key].tag};
            items[snapshot.record_count] = (struct sequenced){.sequence = snapshot.record_count + 1,
                                                              .record = op_record(world, &op)};
            snapshot.record_count++;
            if (!stale) {
                model->stage[key].uid = op.uid;
                model->stage[key].tag = op.tag;
            }
        }
    }
    snapshot.digest = pods_digest(rows);
    const enum edge_outcome outcome =
        world_apply(world, RECORD_SNAPSHOT, "", BODY(world, snapshot, snapshot));
    if (stale) {
        assert_int_equal(outcome, EDGE_REFUSED_STALE);
        return;
    }
    if (snapshot.step == SNAPSHOT_ROWS) {
        assert_int_equal(outcome, EDGE_ACCEPTED);
        return;
    }
    model->stage_open = false;
    if (!tag_equal(pods_digest(model->stage), snapshot.digest)) {
        assert_int_equal(outcome, EDGE_REFUSED_DIGEST);
        model->mismatches++;
        return;
    }
    assert_int_equal(outcome, EDGE_ACCEPTED);
    assert_true(world->applied.all_changed);
    for (uint32_t key = 0; key < KEYS; key++) {
        struct pod *pod = &model->pods[key];
        if (pod->uid != rows[key].uid) {
            if (pod->uid != 0) {
                /* Unread facts go with a pod of which anything is known. */
                pod_forget(model, key, pod->uid);
            }
            *pod = (struct pod){.attempt = {-1, -1}};
        }
        pod->uid = rows[key].uid;
        pod->tag = rows[key].tag;
    }
    model->stream = snapshot.stream;
    model->position = snapshot.position;
}

static void step_fact(struct world *world)
{
    struct model *model = &world->model;
    const uint32_t key = chance(&world->seed, 4);
    struct pod *pod = &model->pods[key];
    const bool right = chance(&world->seed, 6) != 0;
    const uint32_t uid = right ? pod->uid : pod->uid + 1;
    const bool wished = right && pod->uid != 0;
    const uint32_t container = chance(&world->seed, CONTAINERS);
    enum edge_outcome outcome;
    switch (chance(&world->seed, 6)) {
    case 0:
    case 1: {
        const struct pod_status status = {.uid = uid_text(uid),
                                          .observed_generation = ++world->counter};
        outcome =
            world_apply(world, RECORD_POD_STATUS, key_text(key), BODY(world, pod_status, status));
        assert_int_equal(outcome, wished ? EDGE_ACCEPTED : EDGE_REFUSED_NO_POD);
        if (wished) {
            up_add(model, RECORD_POD_STATUS, key, uid);
            pod->status = world->counter;
            assert_int_equal(world->applied.up_sequence, model->up_last);
        }
        break;
    }
    case 2: {
        const int attempt = pod->attempt[container] + (int)chance(&world->seed, 3) - 1;
        const struct pod_attempt body = {.uid = uid_text(uid),
                                         .container = container == 0 ? "" : "main",
                                         .attempt = attempt < 0 ? 0 : (uint32_t)attempt,
                                         .hash = 1};
        outcome =
            world_apply(world, RECORD_POD_ATTEMPT, key_text(key), BODY(world, pod_attempt, body));
        if (!wished) {
            assert_int_equal(outcome, EDGE_REFUSED_NO_POD);
        } else if ((int)body.attempt > pod->attempt[container]) {
            assert_int_equal(outcome, EDGE_ACCEPTED);
            pod->attempt[container] = (int)body.attempt;
        } else {
            assert_int_equal(outcome, (int)body.attempt == pod->attempt[container]
                                          ? EDGE_DUPLICATE
                                          : EDGE_REFUSED_STALE);
        }
        break;
    }
    case 3: {
        const struct pod_ended ended = {.uid = uid_text(uid)};
        outcome =
            world_apply(world, RECORD_POD_ENDED, key_text(key), BODY(world, pod_ended, ended));
        assert_int_equal(outcome, !wished      ? EDGE_REFUSED_NO_POD
                                  : pod->ended ? EDGE_DUPLICATE
                                               : EDGE_ACCEPTED);
        if (wished && !pod->ended) {
            up_add(model, RECORD_POD_ENDED, key, uid);
            pod->ended = true;
        }
        break;
    }
    case 4: {
        const struct edge_event event = {.kind = "Pod", .message = "something happened"};
        outcome = world_apply(world, RECORD_EDGE_EVENT, "", BODY(world, edge_event, event));
        assert_int_equal(outcome, EDGE_ACCEPTED);
        up_add(model, RECORD_EDGE_EVENT, 0, 0);
        break;
    }
    default: {
        const struct node_status status = {0};
        outcome = world_apply(world, RECORD_NODE_STATUS, key_text(NODE_KEY),
                              BODY(world, node_status, status));
        assert_int_equal(outcome, EDGE_ACCEPTED);
        up_add(model, RECORD_NODE_STATUS, NODE_KEY, 0);
    }
    }
}

static void step_ack(struct world *world)
{
    struct model *model = &world->model;
    const struct down_ack ack = {.stream = UP,
                                 .position = chance(&world->seed, (uint32_t)model->up_last + 2)};
    const enum edge_outcome outcome =
        world_apply(world, RECORD_UP_ACK, "", BODY(world, down_ack, ack));
    if (ack.position > model->up_last) {
        assert_int_equal(outcome, EDGE_REFUSED_GAP);
    } else if (ack.position <= model->up_acked) {
        assert_int_equal(outcome, EDGE_DUPLICATE);
    } else {
        assert_int_equal(outcome, EDGE_ACCEPTED);
        for (uint64_t s = model->up_acked + 1; s <= ack.position; s++) {
            model->events -= model->ups[s].kind == RECORD_EDGE_EVENT;
        }
        model->up_acked = ack.position;
    }
}

/* What is applied from here on is one commit, or was until here. */
static void step_group(struct world *world)
{
    if (edge_machine_in_group(world->machine)) {
        assert_int_equal(edge_machine_commit(world->machine), STATUS_OK);
        assert_int_equal(store_position(world->store), edge_machine_position(world->machine));
    } else {
        edge_machine_begin(world->machine);
    }
}

/* Power loss or a clean stop; then the log is replayed from anywhere below. */
static void step_restart(struct world *world)
{
    if (chance(&world->seed, 4) != 0) {
        (void)store_sim_crash(world->sim, chance(&world->seed, 1u << 20));
    }
    world_close(world);
    world_open(world);
    const uint64_t position = edge_machine_position(world->machine);
    const uint64_t earlier = chance(&world->seed, 5);
    for (uint64_t index = position > earlier ? position - earlier : 1; index <= world->log_count;
         index++) {
        struct edge_applied applied;
        assert_int_equal(edge_machine_apply(world->machine, index, world->log[index - 1], &applied),
                         STATUS_OK);
        if (index <= position) {
            assert_int_equal(applied.outcome, EDGE_DUPLICATE);
        }
        if (chance(&world->seed, 8) == 0) {
            step_group(world);
        }
    }
}

static struct world *world_create(uint64_t seed)
{
    struct world *world = calloc(1, sizeof *world);
    CHECK(world != NULL);
    world->seed = seed * 0x9e3779b97f4a7c15u + 1;
    world->limits = (struct edge_limits){.objects = 1000,
                                         .object_bytes = 1u << 24,
                                         .events = EVENTS_KEPT,
                                         .event_bytes = 1u << 20,
                                         .unknown = 100,
                                         .unknown_bytes = 1u << 20};
    world->sim = store_sim_create();
    world->codec = codec_create();
    world->cloud.stream = 100;
    for (uint32_t key = 0; key < KEYS; key++) {
        world->model.pods[key] = (struct pod){.attempt = {-1, -1}};
    }
    world_open(world);
    const struct stream_init init = {.node = NODE, .cluster = "c", .up_stream = UP};
    assert_int_equal(world_apply(world, RECORD_STREAM_INIT, "", BODY(world, stream_init, init)),
                     EDGE_ACCEPTED);
    return world;
}

static void world_destroy(struct world *world)
{
    world_close(world);
    store_sim_destroy(world->sim);
    codec_destroy(world->codec);
    for (size_t i = 0; i < world->log_count; i++) {
        free((void *)(uintptr_t)world->log[i].data);
    }
    free(world->log);
    free(world);
}

static uint64_t number_of_environment(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text == NULL ? otherwise : strtoull(text, NULL, 10);
}

static void world_step(struct world *world)
{
    if (chance(&world->seed, 8) == 0) {
        step_group(world);
    }
    const uint32_t dice = chance(&world->seed, 100);
    if (dice < 25) {
        step_cloud(world);
    } else if (dice < 45) {
        step_batch(world);
    } else if (dice < 65) {
        step_snapshot(world);
    } else if (dice < 88) {
        step_fact(world);
    } else if (dice < 93) {
        step_ack(world);
    } else if (dice < 96) {
        assert_int_equal(store_flush(world->store), STATUS_OK);
    } else {
        step_restart(world);
    }
}

/* Claim: whatever comes in whatever order and in whatever groups, with whatever crashes and replays between, rows, digest
 * and positions are those of the model, and no row is left of what is gone. */
static void test_the_fold_agrees_with_a_model(void **state)
{
    (void)state;
    const uint64_t first = number_of_environment("SEED", 1);
    const uint64_t rounds = number_of_environment("ROUNDS", 40);
    uint32_t seen[16] = {0};
    for (uint64_t seed = first; seed < first + rounds; seed++) {
        struct world *world = world_create(seed);
        for (uint32_t step = 0; step < 400; step++) {
            world_step(world);
            assert_world(world);
            assert_no_garbage(world);
        }
        for (size_t i = 0; i < sizeof seen / sizeof *seen; i++) {
            seen[i] += world->outcomes[i];
        }
        world_destroy(world);
    }
    if (rounds >= 40) { /* the rig is alive: every answer it can provoke was given */
        const enum edge_outcome expected[] = {
            EDGE_ACCEPTED,      EDGE_DUPLICATE,      EDGE_REFUSED_STREAM, EDGE_REFUSED_GAP,
            EDGE_REFUSED_STALE, EDGE_REFUSED_DIGEST, EDGE_REFUSED_NO_POD};
        for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
            assert_true(seen[expected[i]] > 20);
        }
    }
}

/* Claim: no bytes make apply crash, answer a failure, or leave sums that are not those of the rows;
 * and what was applied so can be opened and goes on.
 * Method: the records of a real run, each a few times with flipped, cut and doubled bytes. */
static void test_no_bytes_hurt(void **state)
{
    (void)state;
    const uint64_t seed = number_of_environment("SEED", 1);
    struct world *source = world_create(seed);
    for (uint32_t step = 0; step < 600; step++) {
        world_step(source);
    }
    struct world *victim = world_create(seed + 1);
    uint32_t refused = 0;
    uint64_t index = victim->log_count;
    for (size_t i = 0; i < source->log_count; i++) {
        for (uint32_t variant = 0; variant < 12; variant++) {
            const struct bytes original = source->log[i];
            uint8_t *bytes = malloc(2 * original.size + 8);
            CHECK(bytes != NULL);
            memcpy(bytes, original.data, original.size);
            size_t size = original.size;
            for (uint32_t flips = variant == 0 ? 0 : chance(&victim->seed, 4) + 1; flips > 0;
                 flips--) {
                bytes[chance(&victim->seed, (uint32_t)size)] ^=
                    (uint8_t)(1u << chance(&victim->seed, 8));
            }
            if (variant == 10) {
                size = chance(&victim->seed, (uint32_t)size);
            } else if (variant == 11) {
                memcpy(bytes + size, original.data, original.size);
                size *= 2;
            }
            uint8_t *exact = malloc(size + 1); /* at an odd place, so that nothing is aligned */
            CHECK(exact != NULL);
            memcpy(exact + 1, bytes, size);
            index++;
            struct edge_applied applied;
            assert_int_equal(
                edge_machine_apply(victim->machine, index, bytes_of(exact + 1, size), &applied),
                STATUS_OK);
            refused += applied.outcome >= EDGE_REFUSED_MALFORMED;
            free(bytes);
            free(exact);
            struct tag digest;
            uint32_t count;
            assert_int_equal(edge_digest_compute(victim->machine, &digest, &count), STATUS_OK);
            const struct edge_meta *meta = edge_machine_meta(victim->machine);
            assert_true(tag_equal(meta->digest, digest));
            assert_int_equal(meta->object_count, count);
            assert_int_equal(meta->event_count, table_rows(victim, EDGE_TABLE_UP_EVENT));
            assert_int_equal(meta->unknown_count, table_rows(victim, EDGE_TABLE_UNKNOWN));
            struct batch up;
            assert_int_equal(edge_up_read(victim->machine, 0, 1u << 16, victim->codec, &up),
                             STATUS_OK);
            codec_reset(victim->codec);
            if (chance(&victim->seed, 200) == 0) {
                world_close(victim);
                world_open(victim);
            }
        }
    }
    assert_true(refused > source->log_count);
    world_destroy(source);
    world_destroy(victim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_fold_agrees_with_a_model),
        cmocka_unit_test(test_no_bytes_hurt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
