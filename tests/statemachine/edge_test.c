/* The fold of an edge's log: what each record does, and what it may never do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "schemas/check.h"
#include "statemachine/edge.h"

#define NODE   "edge-1"
#define UP     77u /* our up stream */
#define STREAM 5u  /* the cloud's down stream */

/* A log in memory, and the machine that folds it. */
struct rig {
    struct store_sim *sim;
    struct store *store;
    struct edge_machine *machine;
    struct edge_limits limits;
    struct codec *codec; /* of the test: reset at will */
    struct edge_applied applied;
    struct bytes *log; /* [i] has index i + 1 */
    size_t log_count;
    size_t log_capacity;
};

static void rig_open(struct rig *rig)
{
    assert_int_equal(store_sim_open(rig->sim, "edge", EDGE_FORMAT, &rig->store), STATUS_OK);
    assert_int_equal(edge_machine_open(rig->store, &rig->limits, &rig->machine), STATUS_OK);
}

static void rig_close(struct rig *rig)
{
    edge_machine_close(rig->machine);
    store_close(rig->store);
    rig->machine = NULL;
    rig->store = NULL;
}

static struct rig *rig_create(void)
{
    struct rig *rig = calloc(1, sizeof *rig);
    CHECK(rig != NULL);
    rig->limits = (struct edge_limits){.objects = 100,
                                       .object_bytes = 1u << 20,
                                       .events = 4,
                                       .event_bytes = 1u << 16,
                                       .unknown = 3,
                                       .unknown_bytes = 4096};
    rig->sim = store_sim_create();
    rig->codec = codec_create();
    rig_open(rig);
    return rig;
}

static void rig_destroy(struct rig *rig)
{
    rig_close(rig);
    store_sim_destroy(rig->sim);
    codec_destroy(rig->codec);
    for (size_t i = 0; i < rig->log_count; i++) {
        free((void *)(uintptr_t)rig->log[i].data);
    }
    free(rig->log);
    free(rig);
}

/* Append to the log, then apply. */
static enum edge_outcome rig_apply(struct rig *rig, struct bytes record)
{
    if (rig->log_count == rig->log_capacity) {
        rig->log_capacity = rig->log_capacity == 0 ? 64 : 2 * rig->log_capacity;
        rig->log = realloc(rig->log, rig->log_capacity * sizeof *rig->log);
        CHECK(rig->log != NULL);
    }
    uint8_t *copy = malloc(record.size + 1);
    CHECK(copy != NULL);
    memcpy(copy, record.data, record.size);
    rig->log[rig->log_count] = bytes_of(copy, record.size);
    rig->log_count++;
    assert_int_equal(edge_machine_apply(rig->machine, rig->log_count, bytes_of(copy, record.size),
                                        &rig->applied),
                     STATUS_OK);
    assert_int_equal(edge_machine_position(rig->machine), rig->log_count);
    return rig->applied.outcome;
}

/* Power loss and a start: the log survives, the store goes back, the log is replayed. */
static void rig_crash(struct rig *rig, uint64_t choice, uint64_t replay_earlier)
{
    (void)store_sim_crash(rig->sim, choice);
    rig_close(rig);
    rig_open(rig);
    const uint64_t position = edge_machine_position(rig->machine);
    assert_true(position <= rig->log_count);
    for (uint64_t index = position > replay_earlier ? position - replay_earlier + 1 : 1;
         index <= rig->log_count; index++) {
        struct edge_applied applied;
        assert_int_equal(edge_machine_apply(rig->machine, index, rig->log[index - 1], &applied),
                         STATUS_OK);
        if (index <= position) {
            assert_int_equal(applied.outcome, EDGE_DUPLICATE);
        }
    }
    assert_int_equal(edge_machine_position(rig->machine), rig->log_count);
}

/* -- records -------------------------------------------------------------------------------------- */

static struct bytes record_of(struct rig *rig, uint16_t kind, const char *key, struct bytes body)
{
    const struct record record = {.kind = kind, .key = key, .origin = NODE, .body = body};
    struct bytes bytes;
    assert_int_equal(codec_record_build(rig->codec, &record, &bytes), STATUS_OK);
    return bytes;
}

#define RECORD_OF(rig, number, key, noun, value)                                                   \
    __extension__({                                                                                \
        struct bytes body_;                                                                        \
        assert_int_equal(codec_##noun##_build((rig)->codec, &(value), &body_), STATUS_OK);         \
        record_of(rig, number, key, body_);                                                        \
    })

static struct bytes init_record(struct rig *rig, const char *node, const char *cluster, uint64_t up)
{
    const struct stream_init init = {.node = node, .cluster = cluster, .up_stream = up};
    return RECORD_OF(rig, RECORD_STREAM_INIT, "", stream_init, init);
}

static struct bytes put_record(struct rig *rig, const char *key, const char *uid, uint64_t tag)
{
    const struct object_put put = {.object = {.resource = "pods",
                                              .name = key,
                                              .uid = uid,
                                              .tag = {.low = tag, .high = ~tag},
                                              .json = bytes_text("{\"spec\":{}}")}};
    return RECORD_OF(rig, RECORD_OBJECT_PUT, key, object_put, put);
}

static struct bytes remove_record(struct rig *rig, const char *key, const char *uid)
{
    const struct object_remove remove = {.if_uid = uid};
    return RECORD_OF(rig, RECORD_OBJECT_REMOVE, key, object_remove, remove);
}

static struct bytes batch_record(struct rig *rig, const struct batch *batch)
{
    return RECORD_OF(rig, RECORD_DOWN_BATCH, "", batch, *batch);
}

static struct bytes snapshot_record(struct rig *rig, const struct snapshot *snapshot)
{
    return RECORD_OF(rig, RECORD_SNAPSHOT, "", snapshot, *snapshot);
}

static struct bytes attempt_record(struct rig *rig, const char *key, const char *uid,
                                   const char *container, uint32_t n, uint64_t hash)
{
    const struct pod_attempt attempt = {
        .uid = uid, .container = container, .attempt = n, .hash = hash};
    return RECORD_OF(rig, RECORD_POD_ATTEMPT, key, pod_attempt, attempt);
}

static struct bytes status_record(struct rig *rig, const char *key, const char *uid,
                                  const char *message)
{
    const struct pod_status status = {.uid = uid, .phase = POD_RUNNING, .message = message};
    return RECORD_OF(rig, RECORD_POD_STATUS, key, pod_status, status);
}

static struct bytes ended_record(struct rig *rig, const char *key, const char *uid)
{
    const struct pod_ended ended = {.uid = uid};
    return RECORD_OF(rig, RECORD_POD_ENDED, key, pod_ended, ended);
}

static struct bytes event_record(struct rig *rig, const char *message)
{
    const struct edge_event event = {.kind = "Pod", .name = "web", .message = message};
    return RECORD_OF(rig, RECORD_EDGE_EVENT, "", edge_event, event);
}

static struct bytes ack_record(struct rig *rig, uint64_t stream, uint64_t position)
{
    const struct down_ack ack = {.stream = stream, .position = position};
    return RECORD_OF(rig, RECORD_UP_ACK, "", down_ack, ack);
}

static struct tag tag_of(uint64_t number)
{
    return (struct tag){.low = number, .high = ~number};
}

/* A snapshot of these rows, whole. */
static enum edge_outcome rig_snapshot(struct rig *rig, uint64_t stream, uint64_t position,
                                      uint64_t id, const struct sequenced *rows, uint32_t count,
                                      struct tag digest)
{
    struct snapshot snapshot = {
        .stream = stream, .position = position, .id = id, .step = SNAPSHOT_BEGIN};
    const enum edge_outcome begun = rig_apply(rig, snapshot_record(rig, &snapshot));
    if (begun != EDGE_ACCEPTED) {
        return begun;
    }
    snapshot.step = SNAPSHOT_ROWS;
    snapshot.records = rows;
    snapshot.record_count = count;
    assert_int_equal(rig_apply(rig, snapshot_record(rig, &snapshot)), EDGE_ACCEPTED);
    snapshot.step = SNAPSHOT_END;
    snapshot.records = NULL;
    snapshot.record_count = 0;
    snapshot.digest = digest;
    return rig_apply(rig, snapshot_record(rig, &snapshot));
}

/* One that is welcome, at position 0 of STREAM. */
static struct rig *rig_welcome(void)
{
    struct rig *rig = rig_create();
    assert_int_equal(rig_apply(rig, init_record(rig, NODE, "", UP)), EDGE_ACCEPTED);
    assert_int_equal(rig_snapshot(rig, STREAM, 0, 1, NULL, 0, (struct tag){0}), EDGE_ACCEPTED);
    assert_true(rig->applied.all_changed);
    return rig;
}

/* A batch of one record. */
static enum edge_outcome rig_down(struct rig *rig, uint64_t sequence, struct bytes record)
{
    const struct sequenced item = {.sequence = sequence, .record = record};
    const struct batch batch = {.stream = STREAM,
                                .previous = sequence - 1,
                                .last = sequence,
                                .tip = sequence + 1, /* more to come: no digest yet */
                                .records = &item,
                                .record_count = 1};
    return rig_apply(rig, batch_record(rig, &batch));
}

static const struct edge_meta *meta(struct rig *rig)
{
    return edge_machine_meta(rig->machine);
}

/* -- claims ----------------------------------------------------------------------------------------- */

/* Claim: nothing is taken before the edge knows who it is, and nothing of another node or cluster
 * after. */
static void test_stream_init_says_who_we_are(void **state)
{
    (void)state;
    struct rig *rig = rig_create();
    assert_int_equal(rig_apply(rig, event_record(rig, "early")), EDGE_REFUSED_FOREIGN);
    assert_int_equal(rig_apply(rig, init_record(rig, "", "", UP)), EDGE_REFUSED_MALFORMED);
    assert_int_equal(rig_apply(rig, init_record(rig, NODE, "", UP)), EDGE_ACCEPTED);
    assert_int_equal(rig_apply(rig, init_record(rig, NODE, "", UP)), EDGE_DUPLICATE);
    assert_int_equal(rig_apply(rig, init_record(rig, "edge-2", "", UP)), EDGE_REFUSED_FOREIGN);
    assert_int_equal(rig_apply(rig, init_record(rig, NODE, "c-1", UP)), EDGE_ACCEPTED);
    assert_int_equal(rig_apply(rig, init_record(rig, NODE, "c-2", UP)), EDGE_REFUSED_FOREIGN);
    assert_int_equal(rig_apply(rig, init_record(rig, NODE, "", UP)), EDGE_DUPLICATE);
    assert_string_equal(meta(rig)->cluster, "c-1");

    assert_int_equal(rig_snapshot(rig, STREAM, 9, 1, NULL, 0, (struct tag){0}), EDGE_ACCEPTED);
    assert_int_equal(rig_apply(rig, event_record(rig, "kept")), EDGE_ACCEPTED);
    assert_int_equal(rig_apply(rig, init_record(rig, NODE, "", UP + 1)), EDGE_ACCEPTED);
    struct hello hello = {0};
    edge_machine_hello(rig->machine, &hello);
    assert_string_equal(hello.node, NODE);
    assert_string_equal(hello.cluster, "c-1");
    assert_int_equal(hello.up_stream, UP + 1);
    assert_int_equal(hello.up_first, 0);
    assert_int_equal(hello.up_last, 1);
    assert_int_equal(hello.down_stream, 0);
    rig_crash(rig, 0, 3);
    assert_int_equal(meta(rig)->up_stream, UP + 1);
    assert_string_equal(meta(rig)->cluster, "c-1");
    rig_destroy(rig);
}

/* Claim: a batch is taken if it joins, once; the rest is answered. */
static void test_down_batch_joins_or_is_refused(void **state)
{
    (void)state;
    struct rig *rig = rig_welcome();
    struct sequenced items[3] = {
        {.sequence = 1, .record = put_record(rig, "/pods/a/x", "u1", 10)},
        {.sequence = 2, .record = put_record(rig, "/configmaps/a/c", "u2", 20)},
        {.sequence = 4, .record = put_record(rig, "/pods/a/x", "u1", 30)},
    };
    struct batch batch = {.node = NODE,
                          .stream = STREAM,
                          .previous = 0,
                          .last = 2,
                          .tip = 4,
                          .records = items,
                          .record_count = 2};
    struct batch other = batch;
    other.stream = STREAM + 1;
    assert_int_equal(rig_apply(rig, batch_record(rig, &other)), EDGE_REFUSED_STREAM);
    other = batch;
    other.node = "edge-2";
    assert_int_equal(rig_apply(rig, batch_record(rig, &other)), EDGE_REFUSED_FOREIGN);
    other = batch;
    other.previous = 1;
    other.records++;
    other.record_count = 1;
    assert_int_equal(rig_apply(rig, batch_record(rig, &other)), EDGE_REFUSED_GAP);
    assert_int_equal(meta(rig)->object_count, 0);

    assert_int_equal(rig_apply(rig, batch_record(rig, &batch)), EDGE_ACCEPTED);
    assert_int_equal(rig->applied.change_count, 2);
    assert_string_equal(rig->applied.changes[1].key, "/configmaps/a/c");
    assert_string_equal(rig->applied.changes[1].uid, "u2");
    assert_false(rig->applied.digest_differs); /* not at the tip */
    assert_int_equal(meta(rig)->down_position, 2);
    assert_int_equal(meta(rig)->down_tip, 4);
    assert_int_equal(rig_apply(rig, batch_record(rig, &batch)), EDGE_DUPLICATE);
    assert_int_equal(rig->applied.change_count, 0);

    batch.last = 4; /* overlaps; sequence 3 was compacted away */
    batch.record_count = 3;
    batch.digest = tag_add(tag_of(20), tag_of(30));
    assert_int_equal(rig_apply(rig, batch_record(rig, &batch)), EDGE_ACCEPTED);
    assert_int_equal(rig->applied.change_count, 1);
    assert_string_equal(rig->applied.changes[0].old_uid, "");
    assert_false(rig->applied.digest_differs);
    assert_true(tag_equal(meta(rig)->digest, batch.digest));

    const struct batch tip = {.stream = STREAM, .previous = 4, .last = 4, .tip = 4};
    assert_int_equal(rig_apply(rig, batch_record(rig, &tip)), EDGE_ACCEPTED);
    assert_true(rig->applied.digest_differs); /* the sum of nothing */
    assert_int_equal(meta(rig)->mismatch_count, 1);
    assert_true(meta(rig)->snapshot_wanted);
    struct hello hello = {0};
    edge_machine_hello(rig->machine, &hello);
    assert_int_equal(hello.down_stream, 0);

    struct object_put put;
    assert_int_equal(edge_object_find(rig->machine, "/pods/a/x", rig->codec, &put), STATUS_OK);
    assert_int_equal(put.object.tag.low, 30);
    assert_true(bytes_equal_text(put.object.json, "{\"spec\":{}}"));
    assert_int_equal(edge_object_find(rig->machine, "/pods/a/y", rig->codec, &put), STORE_NONE);
    rig_destroy(rig);
}

/* Claim: a snapshot replaces all wishes at its end, in one step and only if its rows add up; one that
 * is interrupted leaves nothing; pods that stay keep what was recorded of them, others lose it. */
static void test_snapshot_replaces(void **state)
{
    (void)state;
    struct rig *rig = rig_welcome();
    assert_int_equal(rig_down(rig, 1, put_record(rig, "/pods/a/stays", "u1", 1)), EDGE_ACCEPTED);
    assert_int_equal(rig_down(rig, 2, put_record(rig, "/pods/a/goes", "u2", 2)), EDGE_ACCEPTED);
    assert_int_equal(rig_down(rig, 3, put_record(rig, "/pods/a/again", "u3", 3)), EDGE_ACCEPTED);
    const char *keys[] = {"/pods/a/stays", "/pods/a/goes", "/pods/a/again"};
    const char *uids[] = {"u1", "u2", "u3"};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(rig_apply(rig, attempt_record(rig, keys[i], uids[i], "", 0, 1)),
                         EDGE_ACCEPTED);
        assert_int_equal(rig_apply(rig, status_record(rig, keys[i], uids[i], "m")), EDGE_ACCEPTED);
        assert_int_equal(rig_apply(rig, ended_record(rig, keys[i], uids[i])), EDGE_ACCEPTED);
    }
    assert_int_equal(
        rig_apply(rig, record_of(rig, RECORD_NODE_STATUS, "/nodes//" NODE, (struct bytes){0})),
        EDGE_REFUSED_MALFORMED);

    const struct snapshot lost = {.stream = STREAM, .position = 7, .id = 8, .step = SNAPSHOT_BEGIN};
    assert_int_equal(rig_apply(rig, snapshot_record(rig, &lost)), EDGE_ACCEPTED);
    struct sequenced row = {.sequence = 1, .record = put_record(rig, "/pods/a/lost", "u9", 9)};
    struct snapshot rows = {.stream = STREAM,
                            .position = 7,
                            .id = 8,
                            .step = SNAPSHOT_ROWS,
                            .records = &row,
                            .record_count = 1};
    assert_int_equal(rig_apply(rig, snapshot_record(rig, &rows)), EDGE_ACCEPTED);
    assert_int_equal(rig->applied.change_count, 0);
    struct object_put put;
    assert_int_equal(edge_object_find(rig->machine, "/pods/a/lost", rig->codec, &put), STORE_NONE);
    assert_int_equal(meta(rig)->object_count, 3);

    struct sequenced items[2] = {
        {.sequence = 1, .record = put_record(rig, "/pods/a/again", "u4", 40)},
        {.sequence = 2, .record = put_record(rig, "/pods/a/stays", "u1", 50)},
    };
    assert_int_equal(rig_snapshot(rig, STREAM, 7, 9, items, 2, tag_of(1)), EDGE_REFUSED_DIGEST);
    assert_true(rig->applied.digest_differs);
    assert_int_equal(meta(rig)->object_count, 3);
    assert_false(meta(rig)->stage_open);
    rows.id = 9;
    assert_int_equal(rig_apply(rig, snapshot_record(rig, &rows)), EDGE_REFUSED_STAGE);

    const struct tag digest = tag_add(tag_of(40), tag_of(50));
    assert_int_equal(rig_snapshot(rig, STREAM, 7, 10, items, 2, digest), EDGE_ACCEPTED);
    assert_true(rig->applied.all_changed);
    assert_false(meta(rig)->snapshot_wanted);
    assert_int_equal(meta(rig)->object_count, 2);
    assert_int_equal(meta(rig)->down_position, 7);
    assert_true(tag_equal(meta(rig)->digest, digest));
    struct tag sum;
    uint32_t count;
    assert_int_equal(edge_digest_compute(rig->machine, &sum, &count), STATUS_OK);
    assert_true(tag_equal(sum, digest));
    assert_int_equal(count, 2);
    assert_int_equal(rig_snapshot(rig, STREAM, 6, 11, items, 2, digest), EDGE_REFUSED_STALE);

    const struct pod_attempt *attempts;
    assert_int_equal(edge_attempts_list(rig->machine, "u1", rig->codec, &attempts, &count),
                     STATUS_OK);
    assert_int_equal(count, 1);
    assert_int_equal(edge_pod_ended_find(rig->machine, "u1"), STATUS_OK);
    struct pod_status status;
    assert_int_equal(edge_pod_status_find(rig->machine, keys[0], rig->codec, &status), STATUS_OK);
    for (size_t i = 1; i < 3; i++) {
        assert_int_equal(edge_attempts_list(rig->machine, uids[i], rig->codec, &attempts, &count),
                         STATUS_OK);
        assert_int_equal(count, 0);
        assert_int_equal(edge_pod_ended_find(rig->machine, uids[i]), STORE_NONE);
        assert_int_equal(edge_pod_status_find(rig->machine, keys[i], rig->codec, &status),
                         STORE_NONE);
    }
    struct batch up;
    assert_int_equal(edge_up_read(rig->machine, 0, 1u << 20, rig->codec, &up), STATUS_OK);
    assert_int_equal(up.record_count, 2); /* status and end of u1 */
    rig_destroy(rig);
}

/* Claim: an attempt number only rises, belongs to a wished uid, and goes with it. */
static void test_attempts_rise(void **state)
{
    (void)state;
    struct rig *rig = rig_welcome();
    assert_int_equal(rig_apply(rig, attempt_record(rig, "/pods/a/x", "u1", "c", 0, 7)),
                     EDGE_REFUSED_NO_POD);
    assert_int_equal(rig_down(rig, 1, put_record(rig, "/pods/a/x", "u1", 1)), EDGE_ACCEPTED);
    assert_int_equal(rig_apply(rig, attempt_record(rig, "/pods/a/x", "", "c", 0, 7)),
                     EDGE_REFUSED_MALFORMED);
    assert_int_equal(rig_apply(rig, attempt_record(rig, "/pods/a/x", "u1", "c", 0, 7)),
                     EDGE_ACCEPTED);
    assert_int_equal(rig_apply(rig, attempt_record(rig, "/pods/a/x", "u1", "c", 0, 7)),
                     EDGE_DUPLICATE);
    assert_int_equal(rig_apply(rig, attempt_record(rig, "/pods/a/x", "u1", "c", 0, 8)),
                     EDGE_REFUSED_STALE);
    assert_int_equal(rig_apply(rig, attempt_record(rig, "/pods/a/x", "u1", "c", 2, 8)),
                     EDGE_ACCEPTED);
    assert_int_equal(rig_apply(rig, attempt_record(rig, "/pods/a/x", "u1", "c", 1, 8)),
                     EDGE_REFUSED_STALE);
    assert_int_equal(rig_apply(rig, attempt_record(rig, "/pods/a/x", "u1", "", 0, 8)),
                     EDGE_ACCEPTED);
    const struct pod_attempt *attempts;
    uint32_t count;
    assert_int_equal(edge_attempts_list(rig->machine, "u1", rig->codec, &attempts, &count),
                     STATUS_OK);
    assert_int_equal(count, 2);
    assert_string_equal(attempts[0].container, "");
    assert_string_equal(attempts[1].container, "c");
    assert_int_equal(attempts[1].attempt, 2);
    assert_int_equal(meta(rig)->up_last, 0); /* attempts stay here */
    for (unsigned i = 0; i < LIMIT_POD_CONTAINERS + 2; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "x%u", i);
        const enum edge_outcome outcome =
            rig_apply(rig, attempt_record(rig, "/pods/a/x", "u1", name, 0, 8));
        assert_int_equal(outcome, i < LIMIT_POD_CONTAINERS - 1 ? EDGE_ACCEPTED : EDGE_REFUSED_FULL);
    }

    assert_int_equal(rig_down(rig, 2, put_record(rig, "/pods/a/x", "u2", 2)), EDGE_ACCEPTED);
    assert_string_equal(rig->applied.changes[0].old_uid, "u1");
    assert_int_equal(edge_attempts_list(rig->machine, "u1", rig->codec, &attempts, &count),
                     STATUS_OK);
    assert_int_equal(count, 0);
    assert_int_equal(rig_apply(rig, attempt_record(rig, "/pods/a/x", "u1", "c", 9, 8)),
                     EDGE_REFUSED_NO_POD);
    assert_int_equal(rig_down(rig, 3, remove_record(rig, "/pods/a/x", "u1")), EDGE_ACCEPTED);
    assert_int_equal(rig->applied.change_count, 0); /* of the old uid */
    assert_int_equal(rig_down(rig, 4, remove_record(rig, "/pods/a/x", "u2")), EDGE_ACCEPTED);
    assert_true(rig->applied.changes[0].removed);
    assert_string_equal(rig->applied.changes[0].uid, "u2");
    assert_true(tag_equal(meta(rig)->digest, (struct tag){0}));
    assert_int_equal(meta(rig)->object_bytes, 0);
    rig_destroy(rig);
}

static void assert_up(struct rig *rig, uint64_t after, size_t max_bytes, const char *expected)
{
    struct batch batch;
    char text[256] = "";
    assert_int_equal(edge_up_read(rig->machine, after, max_bytes, rig->codec, &batch), STATUS_OK);
    for (uint32_t i = 0; i < batch.record_count; i++) {
        struct record record;
        char buffer[16];
        assert_int_equal(codec_record_read(rig->codec, batch.records[i].record, &record),
                         STATUS_OK);
        (void)snprintf(text + strlen(text), sizeof text - strlen(text), "%u:%s ",
                       (unsigned)batch.records[i].sequence, record_kind_text(record.kind, buffer));
    }
    (void)snprintf(text + strlen(text), sizeof text - strlen(text), "(%u,%u]/%u",
                   (unsigned)batch.previous, (unsigned)batch.last, (unsigned)batch.tip);
    assert_string_equal(text, expected);
    struct bytes bytes;
    assert_int_equal(codec_batch_build(rig->codec, &batch, &bytes), STATUS_OK);
    assert_int_equal(codec_batch_read(rig->codec, bytes, &batch), STATUS_OK);
}

/* Claim: facts are numbered in order, a newer one replaces an unread older one of the same pod, events
 * are kept up to the bound and then told of by one gap, and an ack trims. */
static void test_facts_go_up(void **state)
{
    (void)state;
    struct rig *rig = rig_welcome();
    assert_int_equal(rig_down(rig, 1, put_record(rig, "/pods/a/x", "u1", 1)), EDGE_ACCEPTED);
    assert_up(rig, 0, 1u << 20, "(0,0]/0");
    assert_int_equal(rig_apply(rig, status_record(rig, "/pods/a/x", "u1", "one")), EDGE_ACCEPTED);
    assert_int_equal(rig->applied.up_sequence, 1);
    assert_int_equal(rig_apply(rig, event_record(rig, "e1")), EDGE_ACCEPTED);
    assert_int_equal(rig_apply(rig, status_record(rig, "/pods/a/x", "u1", "two")), EDGE_ACCEPTED);
    assert_int_equal(rig_apply(rig, status_record(rig, "/pods/a/y", "u1", "none")),
                     EDGE_REFUSED_NO_POD);
    assert_int_equal(rig_apply(rig, ended_record(rig, "/pods/a/x", "u1")), EDGE_ACCEPTED);
    assert_int_equal(rig_apply(rig, ended_record(rig, "/pods/a/x", "u1")), EDGE_DUPLICATE);
    const struct node_status node = {0};
    assert_int_equal(
        rig_apply(rig, RECORD_OF(rig, RECORD_NODE_STATUS, "/nodes//edge-2", node_status, node)),
        EDGE_REFUSED_FOREIGN);
    assert_int_equal(
        rig_apply(rig, RECORD_OF(rig, RECORD_NODE_STATUS, "/nodes//" NODE, node_status, node)),
        EDGE_ACCEPTED);
    assert_up(rig, 0, 1u << 20, "2:edge_event 3:pod_status 4:pod_ended 5:node_status (0,5]/5");
    assert_up(rig, 0, 1, "2:edge_event (0,2]/5");
    assert_up(rig, 3, 1, "4:pod_ended (3,4]/5");
    assert_up(rig, 9, 1u << 20, "(5,5]/5");
    struct pod_status status;
    assert_int_equal(edge_pod_status_find(rig->machine, "/pods/a/x", rig->codec, &status),
                     STATUS_OK);
    assert_string_equal(status.message, "two");
    struct node_status found;
    assert_int_equal(edge_node_status_find(rig->machine, "/nodes//" NODE, rig->codec, &found),
                     STATUS_OK);

    assert_int_equal(rig_apply(rig, ack_record(rig, UP + 1, 3)), EDGE_REFUSED_STREAM);
    assert_int_equal(rig_apply(rig, ack_record(rig, UP, 6)), EDGE_REFUSED_GAP);
    assert_int_equal(rig_apply(rig, ack_record(rig, UP, 3)), EDGE_ACCEPTED);
    assert_int_equal(rig_apply(rig, ack_record(rig, UP, 2)), EDGE_DUPLICATE);
    assert_up(rig, 0, 1u << 20, "4:pod_ended 5:node_status (3,5]/5");
    assert_int_equal(meta(rig)->event_count, 0);
    assert_int_equal(rig_apply(rig, status_record(rig, "/pods/a/x", "u1", "three")), EDGE_ACCEPTED);
    assert_int_equal(rig_apply(rig, ack_record(rig, UP, 6)), EDGE_ACCEPTED);
    assert_up(rig, 6, 1u << 20, "(6,6]/6");

    for (int i = 0; i < 6; i++) { /* the bound of this rig is four */
        assert_int_equal(rig_apply(rig, event_record(rig, "flood")), EDGE_ACCEPTED);
        assert_int_equal(rig->applied.gap_recorded, i >= 4);
        if (i == 1) {
            assert_int_equal(rig_apply(rig, status_record(rig, "/pods/a/x", "u1", "x")),
                             EDGE_ACCEPTED);
        }
    }
    assert_up(rig, 6, 1u << 20,
              "8:gap 9:pod_status 10:edge_event 11:edge_event 12:edge_event 13:edge_event "
              "(6,13]/13");
    struct batch batch;
    struct record record;
    struct gap gap;
    assert_int_equal(edge_up_read(rig->machine, 6, 1, rig->codec, &batch), STATUS_OK);
    assert_int_equal(codec_record_read(rig->codec, batch.records[0].record, &record), STATUS_OK);
    assert_int_equal(codec_gap_read(rig->codec, record.body, &gap), STATUS_OK);
    assert_int_equal(gap.first, 7);
    assert_int_equal(gap.last, 8);
    assert_int_equal(rig_apply(rig, ack_record(rig, UP, 8)), EDGE_ACCEPTED);
    assert_int_equal(meta(rig)->gap_sequence, 0);
    assert_int_equal(rig_apply(rig, event_record(rig, "more")), EDGE_ACCEPTED);
    assert_up(rig, 8, 1u << 20,
              "9:pod_status 10:gap 11:edge_event 12:edge_event 13:edge_event 14:edge_event "
              "(8,14]/14");
    rig_crash(rig, 0, 5);
    assert_up(rig, 13, 1u << 20, "14:edge_event (13,14]/14");
    rig_destroy(rig);
}

/* Claim: a record of a kind that this release does not know is kept, shown, bounded, and folded by a
 * release that knows it, as if it had just come. */
static void test_unknown_kinds_are_kept_and_folded_later(void **state)
{
    (void)state;
    struct rig *rig = rig_welcome();
    rig->limits.kind_withheld = RECORD_EDGE_EVENT;
    rig_close(rig);
    rig_open(rig);
    assert_int_equal(rig_apply(rig, record_of(rig, 999, "k", bytes_text("what"))),
                     EDGE_KEPT_UNKNOWN);
    const uint64_t index = edge_machine_position(rig->machine);
    assert_int_equal(rig_apply(rig, event_record(rig, "later")), EDGE_KEPT_UNKNOWN);
    assert_int_equal(meta(rig)->up_last, 0);
    assert_int_equal(rig_down(rig, 1, record_of(rig, 998, "/k", bytes_text("down"))),
                     EDGE_ACCEPTED);
    assert_int_equal(rig->applied.unknown_count, 1);
    assert_int_equal(meta(rig)->unknown_down, 1);
    const struct batch tip = {
        .stream = STREAM, .previous = 1, .last = 1, .tip = 1, .digest = tag_of(3)};
    assert_int_equal(rig_apply(rig, batch_record(rig, &tip)), EDGE_ACCEPTED);
    assert_false(rig->applied.digest_differs); /* cannot be compared */

    struct edge_unknown_cursor cursor = {0};
    struct record record;
    assert_int_equal(edge_unknown_next(rig->machine, &cursor, rig->codec, &record), STATUS_OK);
    assert_int_equal(cursor.index, index);
    assert_int_equal(record.kind, 999);
    assert_true(bytes_equal_text(record.body, "what"));
    assert_int_equal(edge_unknown_next(rig->machine, &cursor, rig->codec, &record), STATUS_OK);
    assert_int_equal(edge_unknown_next(rig->machine, &cursor, rig->codec, &record), STATUS_OK);
    assert_int_equal(cursor.place, 1);
    assert_int_equal(edge_unknown_next(rig->machine, &cursor, rig->codec, &record), STORE_NONE);

    rig_close(rig); /* what is still unknown is only looked at: a store may be open for reading only */
    store_sim_fail(rig->sim, 1, -EIO);
    rig_open(rig);
    store_sim_fail(rig->sim, 1, 0);
    assert_int_equal(meta(rig)->unknown_count, 3);

    rig->limits.kind_withheld = 0; /* the upgrade */
    rig_close(rig);
    rig_open(rig);
    assert_int_equal(meta(rig)->unknown_count, 2);
    assert_up(rig, 0, 1u << 20, "1:edge_event (0,1]/1");
    assert_int_equal(rig_apply(rig, record_of(rig, 997, "", (struct bytes){0})), EDGE_KEPT_UNKNOWN);
    assert_int_equal(rig_apply(rig, record_of(rig, 997, "", (struct bytes){0})), EDGE_KEPT_UNKNOWN);
    assert_int_equal(meta(rig)->unknown_count, 3);
    assert_int_equal(meta(rig)->unknown_dropped, 1);
    assert_int_equal(rig_snapshot(rig, STREAM, 1, 4, NULL, 0, (struct tag){0}), EDGE_ACCEPTED);
    assert_int_equal(meta(rig)->unknown_down, 0); /* replaced */
    assert_int_equal(meta(rig)->unknown_count, 2);
    rig_destroy(rig);
}

/* Claim: records of unknown kinds are bounded by their bytes too, the oldest give way, and the sum is the same
 * after a restart. Method: large ones against a bound of two of them, then one that is larger than all. */
static void test_unknown_kinds_are_bounded_by_bytes(void **state)
{
    (void)state;
    static char text[6000];
    struct rig *rig = rig_welcome();
    memset(text, 'x', sizeof text - 1);
    const struct bytes body = bytes_of(text, 1900);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(rig_apply(rig, record_of(rig, 999, "k", body)), EDGE_KEPT_UNKNOWN);
        assert_true(meta(rig)->unknown_bytes <= rig->limits.unknown_bytes);
    }
    assert_int_equal(meta(rig)->unknown_count, 2);
    assert_int_equal(meta(rig)->unknown_dropped, 3);
    const uint64_t bytes = meta(rig)->unknown_bytes;
    assert_true(bytes > 2 * body.size);
    rig_close(rig);
    rig_open(rig);
    assert_int_equal(meta(rig)->unknown_bytes, bytes);

    assert_int_equal(rig_apply(rig, record_of(rig, 999, "k", bytes_of(text, sizeof text))),
                     EDGE_KEPT_UNKNOWN);
    assert_int_equal(meta(rig)->unknown_count, 1); /* for itself alone */
    assert_int_equal(rig_apply(rig, record_of(rig, 999, "k", body)), EDGE_KEPT_UNKNOWN);
    assert_int_equal(meta(rig)->unknown_count, 1);
    assert_true(meta(rig)->unknown_bytes <= rig->limits.unknown_bytes);
    rig_destroy(rig);
}

/* Claim: what is not well-formed is refused and counted, at the record, in it, and in a batch; the
 * rest of the batch is taken. Kinds that have no place here are refused. Bounds are kept. */
static void test_bad_records_are_refused(void **state)
{
    (void)state;
    struct rig *rig = rig_welcome();
    assert_int_equal(rig_apply(rig, bytes_text("garbage")), EDGE_REFUSED_MALFORMED);
    assert_int_equal(rig_apply(rig, (struct bytes){.data = (const uint8_t *)""}),
                     EDGE_REFUSED_MALFORMED);
    assert_int_equal(rig_apply(rig, record_of(rig, RECORD_DOWN_BATCH, "", bytes_text("x"))),
                     EDGE_REFUSED_MALFORMED);
    assert_int_equal(rig_apply(rig, put_record(rig, "/pods/a/x", "u1", 1)), EDGE_REFUSED_KIND);
    assert_int_equal(rig_apply(rig, record_of(rig, RECORD_VERDICT, "", bytes_text("x"))),
                     EDGE_REFUSED_KIND);
    assert_int_equal(meta(rig)->malformed_count, 3);
    assert_int_equal(meta(rig)->refused_count, 5);

    struct sequenced items[3] = {
        {.sequence = 1, .record = put_record(rig, "/pods/a/x", "u1", 1)},
        {.sequence = 2, .record = codec_copy(rig->codec, bytes_text("garbage!"))},
        {.sequence = 3, .record = put_record(rig, "/pods/a/y", "u2", 2)},
    };
    const struct batch batch = {.stream = STREAM,
                                .last = 3,
                                .tip = 3,
                                .records = items,
                                .record_count = 3,
                                .digest = tag_add(tag_of(1), tag_of(2))};
    assert_int_equal(rig_apply(rig, batch_record(rig, &batch)), EDGE_ACCEPTED);
    assert_int_equal(rig->applied.refused_count, 1);
    assert_int_equal(rig->applied.change_count, 2);
    assert_true(meta(rig)->snapshot_wanted);
    assert_int_equal(meta(rig)->refused_count, 6);
    assert_int_equal(meta(rig)->object_count, 2);

    rig->limits.objects = 2;
    rig_close(rig);
    rig_open(rig);
    assert_int_equal(rig_down(rig, 4, put_record(rig, "/pods/a/z", "u3", 3)), EDGE_ACCEPTED);
    assert_int_equal(rig->applied.refused_count, 1);
    assert_int_equal(meta(rig)->object_count, 2);
    assert_int_equal(rig_down(rig, 5, put_record(rig, "/pods/a/y", "u2", 4)), EDGE_ACCEPTED);
    assert_int_equal(rig->applied.refused_count, 0);
    rig_destroy(rig);
}

/* Claim: when the store does not take the commit, nothing has happened, and the same record can be
 * applied again. */
static void test_failed_commit_leaves_the_state(void **state)
{
    (void)state;
    struct rig *rig = rig_welcome();
    const struct edge_meta before = *meta(rig);
    const uint64_t index = edge_machine_position(rig->machine) + 1;
    const struct bytes event = event_record(rig, "e");
    store_sim_fail(rig->sim, 1, STATUS_FULL);
    struct edge_applied applied;
    assert_int_equal(edge_machine_apply(rig->machine, index, event, &applied), STATUS_FULL);
    assert_memory_equal(meta(rig), &before, sizeof before);
    assert_int_equal(edge_machine_position(rig->machine), index - 1);
    store_sim_fail(rig->sim, 0, STATUS_OK);
    assert_up(rig, 0, 1u << 20, "(0,0]/0");
    assert_int_equal(edge_machine_apply(rig->machine, index, event, &applied), STATUS_OK);
    assert_up(rig, 0, 1u << 20, "1:edge_event (0,1]/1");
    rig_destroy(rig);
}

/* Claim: the records of a group are applied for every reader at once, and in the store all together or not at all: not
 * while it does not take them, not after a crash; and a group that nothing came to is no commit. */
static void test_a_group_is_one_commit(void **state)
{
    (void)state;
    struct rig *rig = rig_welcome();
    const uint64_t before = store_position(rig->store);
    const struct edge_meta meta_before = *meta(rig);
    edge_machine_begin(rig->machine);
    assert_int_equal(edge_machine_commit(rig->machine), STATUS_OK);
    assert_int_equal(store_position(rig->store), before);
    assert_memory_equal(meta(rig), &meta_before, sizeof meta_before);

    edge_machine_begin(rig->machine);
    assert_int_equal(rig_apply(rig, event_record(rig, "e")), EDGE_ACCEPTED);
    assert_int_equal(rig_apply(rig, event_record(rig, "f")), EDGE_ACCEPTED);
    assert_up(rig, 0, 1u << 20, "1:edge_event 2:edge_event (0,2]/2");
    assert_false(edge_machine_group_is_full(rig->machine));
    assert_int_equal(store_position(rig->store), before);
    store_sim_fail(rig->sim, 1, STATUS_FULL);
    assert_int_equal(edge_machine_commit(rig->machine), STATUS_FULL);
    assert_true(edge_machine_in_group(rig->machine));
    assert_int_equal(store_position(rig->store), before);
    assert_up(rig, 0, 1u << 20, "1:edge_event 2:edge_event (0,2]/2");
    store_sim_fail(rig->sim, 0, STATUS_OK);
    assert_int_equal(edge_machine_commit(rig->machine), STATUS_OK);
    assert_int_equal(store_position(rig->store), before + 2);

    edge_machine_begin(rig->machine);
    assert_int_equal(rig_apply(rig, event_record(rig, "g")), EDGE_ACCEPTED);
    const uint64_t left = store_sim_crash(rig->sim, 1u << 20);
    assert_true(left <= before + 2);
    rig_close(rig);
    rig_open(rig);
    assert_true(edge_machine_position(rig->machine) == left);
    rig_destroy(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stream_init_says_who_we_are),
        cmocka_unit_test(test_down_batch_joins_or_is_refused),
        cmocka_unit_test(test_snapshot_replaces),
        cmocka_unit_test(test_attempts_rise),
        cmocka_unit_test(test_facts_go_up),
        cmocka_unit_test(test_unknown_kinds_are_kept_and_folded_later),
        cmocka_unit_test(test_unknown_kinds_are_bounded_by_bytes),
        cmocka_unit_test(test_bad_records_are_refused),
        cmocka_unit_test(test_failed_commit_leaves_the_state),
        cmocka_unit_test(test_a_group_is_one_commit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
