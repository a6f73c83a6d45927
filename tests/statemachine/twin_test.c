/* Devices in the fold of an edge: what a wish, a client, a crash and a snapshot make of their twins, what is
 * promised to be published, and what goes up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "schemas/check.h"
#include "statemachine/edge.h"

#define NODE   "edge-1"
#define DEVICE "devices.kubeedge.io/devices/default/dht11"
#define STREAM 5u

/* -- a log in memory, and the machine that folds it -------------------------------------------------- */

struct rig {
    struct store_sim *sim;
    struct store *store;
    struct edge_machine *machine;
    struct edge_limits limits;
    struct codec *codec; /* of the test: reset by rig_forget */
    struct edge_applied applied;
    struct bytes *log; /* [i] has index i + 1 */
    size_t log_count;
    uint64_t down; /* newest sequence that came down */
    struct tag digest;
    uint64_t tag;    /* of the device's wish, 0: none */
    int64_t time_ms; /* the edge's clock */
    uint64_t outbox; /* read up to there */
};

static void rig_open(struct rig *rig)
{
    assert_int_equal(store_sim_open(rig->sim, "edge", EDGE_FORMAT, &rig->store), STATUS_OK);
    assert_int_equal(edge_machine_open(rig->store, &rig->limits, &rig->machine), STATUS_OK);
}

static enum edge_outcome rig_apply(struct rig *rig, uint16_t kind, const char *key,
                                   struct bytes body)
{
    rig->time_ms++;
    const struct record record = {
        .kind = kind, .key = key, .origin = NODE, .time_ms = rig->time_ms, .body = body};
    struct bytes bytes;
    assert_int_equal(codec_record_build(rig->codec, &record, &bytes), STATUS_OK);
    rig->log = realloc(rig->log, (rig->log_count + 1) * sizeof *rig->log);
    uint8_t *copy = malloc(bytes.size);
    CHECK(rig->log != NULL && copy != NULL);
    memcpy(copy, bytes.data, bytes.size);
    rig->log[rig->log_count] = bytes_of(copy, bytes.size);
    rig->log_count++;
    assert_int_equal(edge_machine_apply(rig->machine, rig->log_count, rig->log[rig->log_count - 1],
                                        &rig->applied),
                     STATUS_OK);
    return rig->applied.outcome;
}
#define RIG_APPLY(rig, kind, key, noun, ...)                                                       \
    __extension__({                                                                                \
        const struct noun value_ = __VA_ARGS__;                                                    \
        struct bytes body_;                                                                        \
        assert_int_equal(codec_##noun##_build((rig)->codec, &value_, &body_), STATUS_OK);          \
        rig_apply(rig, kind, key, body_);                                                          \
    })

static struct rig *rig_create(void)
{
    struct rig *rig = calloc(1, sizeof *rig);
    CHECK(rig != NULL);
    rig->limits = (struct edge_limits){.objects = 100,
                                       .object_bytes = 1u << 20,
                                       .events = 100,
                                       .event_bytes = 1u << 16,
                                       .publications = 1000,
                                       .publication_bytes = 1u << 20,
                                       .unknown = 3,
                                       .unknown_bytes = 4096};
    rig->sim = store_sim_create();
    rig->codec = codec_create();
    rig->time_ms = 1000;
    rig_open(rig);
    assert_int_equal(RIG_APPLY(rig, RECORD_STREAM_INIT, "", stream_init,
                               {.node = NODE, .cluster = "c", .up_stream = 7}),
                     EDGE_ACCEPTED);
    assert_int_equal(RIG_APPLY(rig, RECORD_SNAPSHOT, "", snapshot,
                               {.stream = STREAM, .id = 1, .step = SNAPSHOT_BEGIN}),
                     EDGE_ACCEPTED);
    assert_int_equal(RIG_APPLY(rig, RECORD_SNAPSHOT, "", snapshot,
                               {.stream = STREAM, .id = 1, .step = SNAPSHOT_END}),
                     EDGE_ACCEPTED);
    return rig;
}

static void rig_close(struct rig *rig)
{
    edge_machine_close(rig->machine);
    store_close(rig->store);
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

/* Power loss and a start: the log survives, the store goes back, the log is replayed, in groups. */
static void rig_crash(struct rig *rig, uint64_t choice)
{
    (void)store_sim_crash(rig->sim, choice);
    rig_close(rig);
    rig_open(rig);
    edge_machine_begin(rig->machine);
    for (uint64_t index = edge_machine_position(rig->machine) + 1; index <= rig->log_count;
         index++) {
        struct edge_applied applied;
        assert_int_equal(edge_machine_apply(rig->machine, index, rig->log[index - 1], &applied),
                         STATUS_OK);
        if ((index + choice) % 7 == 0) {
            assert_int_equal(edge_machine_commit(rig->machine), STATUS_OK);
            edge_machine_begin(rig->machine);
        }
    }
    assert_int_equal(edge_machine_commit(rig->machine), STATUS_OK);
}

/* -- wishes and words -------------------------------------------------------------------------------- */

static struct bytes wish_record(struct rig *rig, const char *uid, uint64_t tag,
                                const struct device_wish *wish)
{
    const struct object_put put = {.object = {.group = "devices.kubeedge.io",
                                              .resource = "devices",
                                              .namespace_ = "default",
                                              .name = "dht11",
                                              .uid = uid,
                                              .node_name = NODE,
                                              .tag = {.low = tag, .high = ~tag},
                                              .device = wish}};
    struct record record = {.kind = RECORD_OBJECT_PUT, .key = DEVICE, .origin = "cloudcore-1"};
    struct bytes bytes;
    assert_int_equal(codec_object_put_build(rig->codec, &put, &record.body), STATUS_OK);
    assert_int_equal(codec_record_build(rig->codec, &record, &bytes), STATUS_OK);
    return bytes;
}

static void rig_down(struct rig *rig, struct bytes record)
{
    const struct sequenced one = {.sequence = rig->down + 1, .record = record};
    const struct batch batch = {.node = NODE,
                                .stream = STREAM,
                                .previous = rig->down,
                                .last = rig->down + 1,
                                .tip = rig->down + 1,
                                .records = &one,
                                .record_count = 1,
                                .digest = rig->digest};
    rig->down++;
    struct bytes body;
    assert_int_equal(codec_batch_build(rig->codec, &batch, &body), STATUS_OK);
    assert_int_equal(rig_apply(rig, RECORD_DOWN_BATCH, "", body), EDGE_ACCEPTED);
    assert_false(rig->applied.digest_differs);
    assert_int_equal(rig->applied.refused_count, 0);
}

/* The cloud wishes the device so; NULL: it is gone. */
static void rig_wish(struct rig *rig, const char *uid, const struct device_wish *wish)
{
    if (rig->tag != 0) {
        rig->digest = tag_subtract(rig->digest, (struct tag){.low = rig->tag, .high = ~rig->tag});
        rig->tag = 0;
    }
    if (wish != NULL) {
        rig->tag = rig->down + 17;
        rig->digest = tag_add(rig->digest, (struct tag){.low = rig->tag, .high = ~rig->tag});
        rig_down(rig, wish_record(rig, uid, rig->tag, wish));
        return;
    }
    struct record record = {.kind = RECORD_OBJECT_REMOVE, .key = DEVICE};
    const struct object_remove remove = {.if_uid = uid};
    struct bytes bytes;
    assert_int_equal(codec_object_remove_build(rig->codec, &remove, &record.body), STATUS_OK);
    assert_int_equal(codec_record_build(rig->codec, &record, &bytes), STATUS_OK);
    rig_down(rig, bytes);
}

static enum edge_outcome rig_say(struct rig *rig, struct twin_change change)
{
    return RIG_APPLY(rig, RECORD_TWIN_UPDATE, DEVICE, twin_update,
                     {.event_id = "u-1", .changes = &change, .change_count = 1});
}

/* One property "temperature" of type int that should be `desired`. */
static const struct device_wish *wish_of(struct rig *rig, const char *desired, uint64_t revision)
{
    struct device_property *property = codec_array(rig->codec, 1, sizeof *property);
    *property = (struct device_property){.name = "temperature",
                                         .type = "int",
                                         .has_desired = desired != NULL,
                                         .desired = desired != NULL ? desired : "",
                                         .revision = revision};
    struct device_wish *wish = codec_array(rig->codec, 1, sizeof *wish);
    *wish =
        (struct device_wish){.description = "sensor", .properties = property, .property_count = 1};
    return wish;
}

/* What was promised since the last call, as a line: "kind[code] event: key=before>after ..." */
static const char *rig_told(struct rig *rig)
{
    static const char *const kinds[] = {"?",     "result", "document", "delta",
                                        "state", "added",  "removed"};
    char line[2048] = "";
    size_t size = 0;
    struct publication p;
    struct edge_outbox *outbox = edge_outbox_open(rig->machine, rig->outbox);
    while (edge_outbox_next(outbox, rig->codec, &rig->outbox, &p) == STATUS_OK) {
        size += (size_t)snprintf(line + size, sizeof line - size, "%s%s", size > 0 ? "; " : "",
                                 kinds[p.kind]);
        if (p.code != 0) {
            size += (size_t)snprintf(line + size, sizeof line - size, " %d %s", p.code, p.reason);
        }
        for (uint32_t i = 0; i < p.twin_count; i++) {
            const struct published_twin *t = &p.twins[i];
            const struct twin none = {.key = "", .expected = "", .actual = ""};
            const struct twin *before = t->has_before ? &t->before : &none;
            const struct twin *after = t->has_after ? &t->after : &none;
            size += (size_t)snprintf(line + size, sizeof line - size, " %s(%s/%s>%s/%s)",
                                     t->has_after ? after->key : before->key, before->expected,
                                     before->actual, t->has_after ? after->expected : "-",
                                     t->has_after ? after->actual : "-");
        }
    }
    edge_outbox_close(outbox);
    return codec_print(rig->codec, "%s", line);
}

static struct twin rig_twin(struct rig *rig, const char *key)
{
    struct device_status device;
    assert_int_equal(edge_device_find(rig->machine, DEVICE, rig->codec, &device), STATUS_OK);
    for (uint32_t i = 0; i < device.twin_count; i++) {
        if (strcmp(device.twins[i].key, key) == 0) {
            return device.twins[i];
        }
    }
    return (struct twin){.key = ""};
}

/* -- claims ------------------------------------------------------------------------------------------ */

/* Claim: the life of a device is told to its clients in KubeEdge's order: added, delta; result, document, delta
 * while it differs; removed. */
static void test_the_life_of_a_device(void **state)
{
    (void)state;
    struct rig *rig = rig_create();
    rig_wish(rig, "uid-1", wish_of(rig, "25", 1));
    assert_string_equal(rig_told(rig), "added temperature(/>25/); delta temperature(/>25/)");
    assert_int_equal(
        rig_say(rig,
                (struct twin_change){.key = "temperature", .has_actual = true, .actual = "24"}),
        EDGE_ACCEPTED);
    assert_string_equal(rig_told(rig),
                        "result temperature(25/>25/24); "
                        "document temperature(25/>25/24); delta temperature(/>25/24)");
    assert_int_equal(
        rig_say(rig,
                (struct twin_change){.key = "temperature", .has_actual = true, .actual = "25"}),
        EDGE_ACCEPTED);
    assert_string_equal(rig_told(rig),
                        "result temperature(25/24>25/25); document temperature(25/24>25/25)");
    rig_wish(rig, "uid-1", wish_of(rig, "30", 2));
    assert_string_equal(rig_told(rig),
                        "document temperature(25/25>30/25); delta temperature(/>30/25)");
    rig_wish(rig, "uid-1", wish_of(rig, "30", 2)); /* nothing that concerns its twins */
    assert_string_equal(rig_told(rig), "");
    rig_wish(rig, "uid-1", NULL);
    assert_string_equal(rig_told(rig), "removed");
    struct device_status device;
    assert_int_equal(edge_device_find(rig->machine, DEVICE, rig->codec, &device), STORE_NONE);
    rig_destroy(rig);
}

/* Claim: the later word holds, whoever said it; a wish that says the same again is later too, and one that is
 * only sent again is not. (KubeEdge locks the value for good after the first local write.) */
static void test_the_later_word_holds(void **state)
{
    (void)state;
    struct rig *rig = rig_create();
    rig_wish(rig, "uid-1", wish_of(rig, "25", 1));
    (void)rig_say(
        rig, (struct twin_change){.key = "temperature", .has_expected = true, .expected = "20"});
    assert_string_equal(rig_twin(rig, "temperature").expected, "20");
    assert_true(rig_twin(rig, "temperature").expected_local);
    assert_int_equal(rig_twin(rig, "temperature").expected_saw, rig->down);
    rig_wish(rig, "uid-1", wish_of(rig, "25", 1));
    assert_string_equal(rig_twin(rig, "temperature").expected, "20");
    rig_wish(rig, "uid-1", wish_of(rig, "25", 3)); /* 26 and 25 again, of which we saw the last */
    assert_string_equal(rig_twin(rig, "temperature").expected, "25");
    assert_false(rig_twin(rig, "temperature").expected_local);
    rig_wish(rig, "uid-1", wish_of(rig, NULL, 4));
    assert_false(rig_twin(rig, "temperature").has_expected);
    rig_destroy(rig);
}

/* Claim: what cannot be is answered with KubeEdge's codes and sentences and changes nothing. */
static void test_refusals(void **state)
{
    (void)state;
    struct rig *rig = rig_create();
    assert_int_equal(
        rig_say(rig, (struct twin_change){.key = "temperature", .has_actual = true, .actual = "1"}),
        EDGE_REFUSED_NO_DEVICE);
    assert_string_equal(rig_told(rig),
                        "result 404 update rejected due to the device is not existed");
    rig_wish(rig, "uid-1", wish_of(rig, NULL, 1));
    (void)rig_told(rig);
    static const struct {
        const char *type;
        const char *value;
        const char *refusal; /* NULL: it is taken */
    } values[] = {
        {"int", "12", NULL},
        {"int", "-9223372036854775808", NULL},
        {"int", "9223372036854775808", "the value is not int or integer"},
        {"integer", "1.5", "the value is not int or integer"},
        {"int", " 1", "the value is not int or integer"},
        {"float", "1.5e3", NULL},
        {"double", "-0.5", NULL},
        {"float", "1,5", "the value is not float"},
        {"boolean", "true", NULL},
        {"boolean", "True", "the bool value must be true or false"},
        {"string", "anything", NULL},
        {"bytes", "aGk=", NULL},
        {"Updated", "x", "the value type is not allowed"},
    };
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        const char *key = codec_print(rig->codec, "new-%zu", i);
        const enum edge_outcome outcome = rig_say(
            rig,
            (struct twin_change){
                .key = key, .type = values[i].type, .has_actual = true, .actual = values[i].value});
        assert_int_equal(outcome, values[i].refusal == NULL ? EDGE_ACCEPTED : EDGE_REFUSED_VALUE);
        const char *told = rig_told(rig);
        if (values[i].refusal != NULL) {
            assert_string_equal(told, codec_print(rig->codec, "result 400 %s", values[i].refusal));
            assert_string_equal(rig_twin(rig, key).key, "");
        }
    }
    /* The stored type counts, and one bad value makes the whole request void. */
    const struct twin_change two[] = {
        {.key = "other", .has_actual = true, .actual = "fine"},
        {.key = "temperature", .has_actual = true, .actual = "hot", .type = "string"}};
    assert_int_equal(RIG_APPLY(rig, RECORD_TWIN_UPDATE, DEVICE, twin_update,
                               {.changes = two, .change_count = 2}),
                     EDGE_REFUSED_VALUE);
    assert_string_equal(rig_twin(rig, "other").key, "");
    rig_destroy(rig);
}

/* Claim: a client may add a twin and remove it while it is optional; null for what is not there, or must be
 * there, is ignored, and the rest of the request is not. */
static void test_optional_twins(void **state)
{
    (void)state;
    struct rig *rig = rig_create();
    rig_wish(rig, "uid-1", wish_of(rig, NULL, 1));
    (void)rig_told(rig);
    (void)rig_say(rig, (struct twin_change){.key = "extra", .has_actual = true, .actual = "1"});
    assert_string_equal(rig_told(rig), "result extra(/>/1); document extra(/>/1)");
    const struct twin_change changes[] = {
        {.key = "absent", .remove = true},
        {.key = "extra", .has_actual = true, .actual = "2", .optional = TWIN_OPTIONAL_NO},
        {.key = "temperature", .remove = true}};
    assert_int_equal(RIG_APPLY(rig, RECORD_TWIN_UPDATE, DEVICE, twin_update,
                               {.changes = changes, .change_count = 3}),
                     EDGE_ACCEPTED);
    assert_string_equal(rig_told(rig), "result extra(/1>/2); document extra(/1>/2)");
    (void)rig_say(rig, (struct twin_change){.key = "extra", .remove = true});
    assert_string_equal(rig_told(rig), "result");
    (void)rig_say(rig, (struct twin_change){.key = "more", .has_actual = true, .actual = "x"});
    (void)rig_told(rig);
    (void)rig_say(rig, (struct twin_change){.key = "more", .remove = true});
    assert_string_equal(rig_told(rig), "result more(/x>-/-); document more(/x>-/-)");
    /* A wish that names a property no more takes its twin; what a client added stays. */
    rig_wish(rig, "uid-1", &(struct device_wish){.description = "bare"});
    assert_string_equal(rig_twin(rig, "temperature").key, "");
    assert_string_equal(rig_twin(rig, "extra").actual, "2");
    rig_destroy(rig);
}

/* Claim: however often a device changes, one record goes up, with the newest; values go up one by one when the
 * device keeps them; acknowledged records are gone. */
static void test_what_goes_up(void **state)
{
    (void)state;
    struct rig *rig = rig_create();
    struct device_wish wish = *wish_of(rig, "25", 1);
    wish.keep_values = true;
    rig_wish(rig, "uid-1", &wish);
    for (int i = 0; i < 10; i++) {
        const char *value = codec_print(rig->codec, "%d", i);
        (void)rig_say(
            rig, (struct twin_change){.key = "temperature", .has_actual = true, .actual = value});
    }
    assert_int_equal(RIG_APPLY(rig, RECORD_DEVICE_STATE, DEVICE, device_state, {.state = "online"}),
                     EDGE_ACCEPTED);
    struct batch batch;
    assert_int_equal(edge_up_read(rig->machine, 0, 1u << 20, rig->codec, &batch), STATUS_OK);
    uint32_t statuses = 0;
    int values = 0;
    for (uint32_t i = 0; i < batch.record_count; i++) {
        struct record record;
        assert_int_equal(codec_record_read(rig->codec, batch.records[i].record, &record), 0);
        if (record.kind == RECORD_DEVICE_VALUE) {
            struct device_value value;
            assert_int_equal(codec_device_value_read(rig->codec, record.body, &value), 0);
            assert_int_equal(atoi(value.value), values);
            values++;
        } else {
            struct device_status device;
            assert_int_equal(record.kind, RECORD_DEVICE_STATUS);
            assert_int_equal(codec_device_status_read(rig->codec, record.body, &device), 0);
            assert_string_equal(device.state, "online");
            assert_int_equal(device.last_online_ms, rig->time_ms);
            assert_int_equal(device.twin_count, 1);
            assert_string_equal(device.twins[0].actual, "9");
            assert_string_equal(device.twins[0].expected, "25");
            statuses++;
        }
    }
    assert_int_equal(statuses, 1);
    assert_int_equal(values, 10);
    assert_int_equal(
        RIG_APPLY(rig, RECORD_UP_ACK, "", down_ack, {.stream = 7, .position = batch.last}),
        EDGE_ACCEPTED);
    assert_int_equal(edge_up_read(rig->machine, 0, 1u << 20, rig->codec, &batch), STATUS_OK);
    assert_int_equal(batch.record_count, 0);
    assert_int_equal(edge_machine_meta(rig->machine)->event_count, 0);
    rig_destroy(rig);
}

/* Claim: a wish that comes again, and changes nothing, is answered with how the device is: it may have been given to
 * another node and back before we heard of either, and then the cloud has forgotten what we had said of it.
 * Method: everything is acknowledged, then the same wish. */
static void test_a_wish_again_is_answered(void **state)
{
    (void)state;
    struct rig *rig = rig_create();
    struct batch batch;
    struct record record;
    struct device_status device;
    rig_wish(rig, "uid-1", wish_of(rig, "25", 1));
    (void)rig_say(rig,
                  (struct twin_change){.key = "temperature", .has_actual = true, .actual = "9"});
    const uint64_t said = edge_machine_meta(rig->machine)->up_last;
    assert_int_equal(RIG_APPLY(rig, RECORD_UP_ACK, "", down_ack, {.stream = 7, .position = said}),
                     EDGE_ACCEPTED);
    const uint64_t promised = edge_machine_meta(rig->machine)->outbox_last;
    rig_wish(rig, "uid-1", wish_of(rig, "25", 1));
    assert_int_equal(edge_up_read(rig->machine, said, 1u << 20, rig->codec, &batch), STATUS_OK);
    assert_int_equal(batch.record_count, 1);
    assert_int_equal(codec_record_read(rig->codec, batch.records[0].record, &record), 0);
    assert_int_equal(record.kind, RECORD_DEVICE_STATUS);
    assert_int_equal(codec_device_status_read(rig->codec, record.body, &device), 0);
    assert_string_equal(device.twins[0].actual, "9");
    assert_int_equal(edge_machine_meta(rig->machine)->outbox_last, promised);
    rig_destroy(rig);
}

/* Claim: the outbox keeps its promises over a crash until they are taken, in order, and is bounded. */
static void test_the_outbox(void **state)
{
    (void)state;
    struct rig *rig = rig_create();
    rig->limits.publications = 8;
    rig_close(rig);
    rig_open(rig);
    rig_wish(rig, "uid-1", wish_of(rig, NULL, 1));
    for (int i = 0; i < 3; i++) {
        (void)rig_say(
            rig, (struct twin_change){.key = "temperature", .has_actual = true, .actual = "1"});
    }
    assert_int_equal(edge_machine_meta(rig->machine)->outbox_last, 7);
    assert_int_equal(RIG_APPLY(rig, RECORD_OUTBOX_DONE, "", outbox_done, {.position = 3}),
                     EDGE_ACCEPTED);
    rig_crash(rig, 1);
    uint64_t position;
    struct publication publication;
    struct edge_outbox *outbox = edge_outbox_open(rig->machine, 0);
    assert_int_equal(edge_outbox_next(outbox, rig->codec, &position, &publication), 0);
    assert_int_equal(position, 4);
    while (position < 7) {
        assert_int_equal(edge_outbox_next(outbox, rig->codec, &position, &publication), 0);
    }
    for (int i = 0; i < 2; i++) { /* the end is told again */
        assert_int_equal(edge_outbox_next(outbox, rig->codec, &position, &publication), STORE_NONE);
    }
    edge_outbox_close(outbox);
    assert_int_equal(RIG_APPLY(rig, RECORD_OUTBOX_DONE, "", outbox_done, {.position = 2}),
                     EDGE_DUPLICATE);
    assert_int_equal(RIG_APPLY(rig, RECORD_OUTBOX_DONE, "", outbox_done, {.position = 99}),
                     EDGE_REFUSED_MALFORMED);
    for (int i = 0; i < 10; i++) {
        (void)rig_say(
            rig, (struct twin_change){.key = "temperature", .has_actual = true, .actual = "2"});
    }
    const struct edge_meta *meta = edge_machine_meta(rig->machine);
    assert_int_equal(meta->outbox_last - meta->outbox_done, 8);
    assert_int_equal(meta->outbox_dropped, meta->outbox_last - 8 - 3);
    assert_int_equal(
        RIG_APPLY(rig, RECORD_OUTBOX_DONE, "", outbox_done, {.position = meta->outbox_last}),
        EDGE_ACCEPTED);
    assert_int_equal(edge_machine_meta(rig->machine)->outbox_bytes, 0);
    rig_destroy(rig);
}

/* Claim: a snapshot makes the devices those of its wishes: the same wish changes nothing, a newer one counts,
 * another uid is another device, and what is not in it is gone. */
static void test_a_snapshot(void **state)
{
    (void)state;
    struct rig *rig = rig_create();
    rig_wish(rig, "uid-1", wish_of(rig, "25", 1));
    (void)rig_say(rig, (struct twin_change){.key = "temperature",
                                            .has_expected = true,
                                            .expected = "20",
                                            .has_actual = true,
                                            .actual = "24"});
    static const struct {
        const char *uid; /* NULL: the device is not in it */
        uint64_t revision;
        const char *expected;
        const char *actual;
    } snapshots[] = {{"uid-1", 1, "20", "24"},
                     {"uid-1", 2, "25", "24"},
                     {"uid-2", 1, "25", ""},
                     {NULL, 0, "", ""}};
    for (size_t i = 0; i < sizeof snapshots / sizeof snapshots[0]; i++) {
        const uint64_t id = 10 + i;
        const bool there = snapshots[i].uid != NULL;
        struct sequenced row = {.sequence = 1};
        if (there) {
            row.record =
                wish_record(rig, snapshots[i].uid, id, wish_of(rig, "25", snapshots[i].revision));
        }
        const uint64_t at = rig->down + i + 1;
        (void)RIG_APPLY(rig, RECORD_SNAPSHOT, "", snapshot,
                        {.stream = STREAM, .position = at, .id = id, .step = SNAPSHOT_BEGIN});
        (void)RIG_APPLY(rig, RECORD_SNAPSHOT, "", snapshot,
                        {.stream = STREAM,
                         .position = at,
                         .id = id,
                         .step = SNAPSHOT_ROWS,
                         .records = &row,
                         .record_count = there ? 1 : 0});
        assert_int_equal(
            RIG_APPLY(rig, RECORD_SNAPSHOT, "", snapshot,
                      {.stream = STREAM,
                       .position = at,
                       .id = id,
                       .step = SNAPSHOT_END,
                       .digest = there ? (struct tag){.low = id, .high = ~id} : (struct tag){0}}),
            EDGE_ACCEPTED);
        struct device_status device;
        assert_int_equal(edge_device_find(rig->machine, DEVICE, rig->codec, &device),
                         there ? STATUS_OK : STORE_NONE);
        if (there) {
            assert_string_equal(rig_twin(rig, "temperature").expected, snapshots[i].expected);
            assert_string_equal(rig_twin(rig, "temperature").actual, snapshots[i].actual);
        }
    }
    rig_destroy(rig);
}

/* -- against a model --------------------------------------------------------------------------------- */

#define KEYS 4
static const char *const key_names[KEYS] = {"a", "b", "c", "d"};

struct model { /* of one key */
    bool there, optional, number, wished, has_expected, has_actual;
    char expected[8], actual[8];
    uint64_t revision;
};

static uint64_t next_random(uint64_t *random)
{
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    return *random;
}

/* Whether what a client says of one key makes all of it void: "x" is no number. */
static bool model_refuses(const struct model *m, const struct twin_change *change)
{
    const bool number = m->there ? m->number : strcmp(change->type, "int") == 0;
    const bool expected = change->has_expected && (!m->there || m->has_expected);
    return !change->remove && number &&
           ((expected && strcmp(change->expected, "x") == 0) ||
            (change->has_actual && strcmp(change->actual, "x") == 0));
}

/* A client says something of one key.
 *   answers  whether it counts as a change */
static bool model_say(struct model *m, const struct twin_change *change)
{
    const struct model was = *m;
    if (change->remove) {
        m->there = m->there && !m->optional;
        return was.there && !m->there;
    }
    if (!m->there) {
        *m = (struct model){
            .there = true, .optional = true, .number = strcmp(change->type, "int") == 0};
    }
    if (change->has_expected) {
        m->has_expected = true;
        snprintf(m->expected, sizeof m->expected, "%s", change->expected);
    }
    if (change->has_actual) {
        m->has_actual = true;
        snprintf(m->actual, sizeof m->actual, "%s", change->actual);
    }
    m->optional = m->optional && change->optional != TWIN_OPTIONAL_NO;
    return !was.there || change->has_expected || change->has_actual ||
           m->optional != was.optional || (change->type[0] != '\0' && !m->number);
}

/* The cloud wishes something of one key, or (no revision) nothing.
 *   answers  whether it counts as a change */
static bool model_wish(struct model *m, const struct device_property *property)
{
    const struct model was = *m;
    if (property->revision == 0) {
        m->there = m->there && !m->wished;
        return was.there && !m->there;
    }
    if (!m->there) {
        *m = (struct model){.there = true};
    }
    m->optional = property->optional;
    m->number = strcmp(property->type, "int") == 0;
    const bool anew = !m->wished || m->revision != property->revision;
    if (anew) {
        m->has_expected = property->has_desired;
        snprintf(m->expected, sizeof m->expected, "%s", property->desired);
    }
    m->wished = true;
    m->revision = property->revision;
    return anew || m->optional != was.optional || m->number != was.number;
}

/* Whether there is a delta: something should be that is not. */
static bool model_differs(const struct model *model)
{
    bool differs = false;
    for (int k = 0; k < KEYS; k++) {
        const struct model *m = &model[k];
        differs = differs || (m->there && m->has_expected && m->expected[0] != '\0' &&
                              strcmp(m->expected, m->has_actual ? m->actual : "") != 0);
    }
    return differs;
}

/* A device, as it is wished and as the model has it. */
struct life {
    struct rig *rig;
    struct model model[KEYS];
    struct device_property wished[KEYS]; /* revision 0: not wished */
    char desired[KEYS][8];
    uint64_t revision;
    bool there;
    unsigned born; /* the number in its uid */
};

static void life_check(const struct life *life)
{
    struct device_status device;
    const int status = edge_device_find(life->rig->machine, DEVICE, life->rig->codec, &device);
    assert_int_equal(status, life->there ? STATUS_OK : STORE_NONE);
    uint32_t at = 0;
    for (int k = 0; life->there && k < KEYS; k++) {
        const struct model *m = &life->model[k];
        if (!m->there) {
            continue;
        }
        assert_true(at < device.twin_count);
        const struct twin *twin = &device.twins[at++];
        assert_string_equal(twin->key, key_names[k]);
        assert_string_equal(twin->type, m->number ? "int" : "string");
        assert_int_equal(twin->optional, m->optional);
        assert_int_equal(twin->has_expected, m->has_expected);
        assert_int_equal(twin->has_actual, m->has_actual);
        assert_string_equal(twin->expected, m->has_expected ? m->expected : "");
        assert_string_equal(twin->actual, m->has_actual ? m->actual : "");
    }
    assert_int_equal(life->there ? device.twin_count : 0, at);
}

/* What clients heard of this step.
 *   told   words of rig_told: "result", "removed added" ...; each that is not named was not said */
static void life_heard(const struct life *life, const char *told)
{
    static const char *const words[] = {"result", "document", "delta", "added", "removed"};
    const char *heard = rig_told(life->rig);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        assert_int_equal(strstr(heard, words[i]) != NULL, strstr(told, words[i]) != NULL);
    }
}

static void life_say(struct life *life, uint64_t dice)
{
    const int k = (int)(dice >> 8 & 3);
    const char *value =
        (dice >> 47 & 7) == 0 ? "x" : codec_print(life->rig->codec, "%d", (int)(dice >> 16 & 63));
    const struct twin_change change = {.key = key_names[k],
                                       .type = (dice >> 50 & 3) == 0 ? "int" : "",
                                       .remove = (dice >> 30 & 3) == 3,
                                       .has_expected = dice >> 32 & 1,
                                       .expected = value,
                                       .has_actual = dice >> 33 & 1,
                                       .actual = value,
                                       .optional = (dice >> 34 & 7) == 0 ? TWIN_OPTIONAL_NO
                                                                         : TWIN_OPTIONAL_UNSAID};
    enum edge_outcome outcome = EDGE_ACCEPTED;
    bool changed = false;
    if (!life->there) {
        outcome = EDGE_REFUSED_NO_DEVICE;
    } else if (model_refuses(&life->model[k], &change)) {
        outcome = EDGE_REFUSED_VALUE;
    } else {
        changed = model_say(&life->model[k], &change);
    }
    assert_int_equal(rig_say(life->rig, change), outcome);
    const bool differs = outcome == EDGE_ACCEPTED && model_differs(life->model);
    life_heard(life, changed && differs ? "result document delta"
                     : changed          ? "result document"
                     : differs          ? "result delta"
                                        : "result");
}

/* The cloud wishes what is in `wished`, of this device or of another one under its name.
 *   born   the number in its uid */
static void life_wish(struct life *life, unsigned born)
{
    struct device_property properties[KEYS];
    uint32_t count = 0;
    const bool removed = life->there && born != life->born;
    const bool added = !life->there || removed;
    bool changed = added;
    if (added) {
        memset(life->model, 0, sizeof life->model);
    }
    life->there = true;
    life->born = born;
    for (int k = 0; k < KEYS; k++) {
        changed = model_wish(&life->model[k], &life->wished[k]) || changed;
        if (life->wished[k].revision != 0) {
            properties[count] = life->wished[k];
            count++;
        }
    }
    rig_wish(life->rig, codec_print(life->rig->codec, "uid-%u", born),
             &(struct device_wish){
                 .description = "", .properties = properties, .property_count = count});
    life_heard(life, codec_print(life->rig->codec, "%s %s %s", removed ? "removed" : "",
                                 added     ? "added"
                                 : changed ? "document"
                                           : "",
                                 changed && model_differs(life->model) ? "delta" : ""));
}

/* One property is wished anew, or no more; perhaps of a device that was not there. */
static void life_property(struct life *life, uint64_t dice)
{
    const int k = (int)(dice >> 8 & 3);
    const bool desired = dice >> 42 & 1;
    life->revision++;
    snprintf(life->desired[k], sizeof life->desired[k], "%d", (int)(dice >> 16 & 63));
    life->wished[k] = (dice >> 40 & 3) == 3
                          ? (struct device_property){.type = "", .desired = ""}
                          : (struct device_property){.name = key_names[k],
                                                     .type = dice >> 44 & 1 ? "int" : "string",
                                                     .has_desired = desired,
                                                     .desired = desired ? life->desired[k] : "",
                                                     .optional = dice >> 43 & 1,
                                                     .revision = life->revision};
    life_wish(life, life->born);
}

/* Claim: whatever is wished and said, in whatever order, with devices that go, come again and are replaced, and with
 * power losses in between, the twins are those of the model above; a value that is none voids what it came with; and
 * clients hear a result of all they say, a document of what changed, a delta exactly while something differs.
 * Method: 200 seeds of 300 steps over four properties; SEED repeats one. */
static void test_twins_are_those_of_the_model(void **state)
{
    (void)state;
    const char *chosen = getenv("SEED");
    const uint64_t first = chosen != NULL ? strtoull(chosen, NULL, 10) : 1;
    for (uint64_t seed = first; seed < (chosen != NULL ? first + 1 : 201); seed++) {
        uint64_t random = seed * 0x9e3779b97f4a7c15u;
        struct life life = {.rig = rig_create(), .revision = 1, .born = 1};
        for (int step = 0; step < 300; step++) {
            const uint64_t dice = next_random(&random);
            const uint64_t what = dice % 32;
            if (what < 18) {
                life_say(&life, dice);
            } else if (what < 28) {
                life_property(&life, dice);
            } else if (what < 30) {
                rig_crash(life.rig, dice >> 20);
            } else if (what == 30) {
                life_wish(&life, life.born + 1);
            } else if (life.there) {
                rig_wish(life.rig, codec_print(life.rig->codec, "uid-%u", life.born), NULL);
                life.there = false;
                life_heard(&life, "removed");
            }
            life_check(&life);
            codec_reset(life.rig->codec);
        }
        rig_destroy(life.rig);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_life_of_a_device),
        cmocka_unit_test(test_the_later_word_holds),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_optional_twins),
        cmocka_unit_test(test_what_goes_up),
        cmocka_unit_test(test_a_wish_again_is_answered),
        cmocka_unit_test(test_the_outbox),
        cmocka_unit_test(test_a_snapshot),
        cmocka_unit_test(test_twins_are_those_of_the_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
