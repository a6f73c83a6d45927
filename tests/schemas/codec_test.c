/* The codec: what was built is read back, what was not built is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "schemas/codec.h"

static const struct pair LABELS[] = {{"app", "web"}, {"tier", ""}};
static const char *const OWNERS[] = {"uid-1", "uid-2"};
static const struct reference REFERENCES[] = {{"configmaps", "cm", false}, {"secrets", "s", true}};
static const struct condition CONDITIONS[] = {{"Ready", CONDITION_TRUE, "EdgeReady", "fine", 17}};

static struct object_put sample_put(void)
{
    return (struct object_put){
        .mode = PUT_UPDATE,
        .if_version = 41,
        .if_uid = "u",
        .object =
            {
                .group = "",
                .version = "v1",
                .kind = "Pod",
                .resource = "pods",
                .namespace_ = "default",
                .name = "web",
                .uid = "u",
                .node_name = "edge-1",
                .labels = LABELS,
                .label_count = 2,
                .owners = OWNERS,
                .owner_count = 2,
                .deletion_time_ms = 5,
                .deletion_grace_s = 30,
                .generation = 3,
                .request_cpu_milli = 250,
                .request_memory_bytes = 1 << 20,
                .references = REFERENCES,
                .reference_count = 2,
                .tag = {1, 2},
                .json = bytes_text("{\"kind\":\"Pod\"}"),
            },
    };
}

/* Claim: an object survives body, record and command, each nested in the next. */
static void test_object_survives_nesting(void **state)
{
    (void)state;
    struct codec *codec = codec_create();
    const struct object_put put = sample_put();
    struct bytes body, record_bytes, command_bytes;
    assert_int_equal(codec_object_put_build(codec, &put, &body), 0);
    const struct record record = {.kind = RECORD_OBJECT_PUT,
                                  .key = "/pods/default/web",
                                  .origin = "cloudcore-1",
                                  .time_ms = -1,
                                  .trace = 7,
                                  .body = body};
    assert_int_equal(codec_record_build(codec, &record, &record_bytes), 0);
    const struct bytes records[] = {record_bytes, record_bytes};
    const struct command command = {
        .time_ms = 99, .origin = 1ull << 32, .sequence = 5, .records = records, .record_count = 2};
    assert_int_equal(codec_command_build(codec, &command, &command_bytes), 0);

    struct command c;
    struct record r;
    struct object_put p;
    assert_int_equal(codec_command_read(codec, command_bytes, &c), 0);
    assert_int_equal(c.record_count, 2);
    assert_true(bytes_equal(c.records[1], record_bytes));
    assert_int_equal(codec_record_read(codec, c.records[1], &r), 0);
    assert_string_equal(r.key, "/pods/default/web");
    assert_int_equal(r.time_ms, -1);
    assert_int_equal(codec_object_put_read(codec, r.body, &p), 0);
    assert_int_equal(p.mode, PUT_UPDATE);
    assert_string_equal(p.object.node_name, "edge-1");
    assert_int_equal(p.object.label_count, 2);
    assert_string_equal(p.object.labels[1].value, "");
    assert_string_equal(p.object.owners[1], "uid-2");
    assert_true(p.object.references[1].optional);
    assert_int_equal(p.object.finalizer_count, 0);
    assert_true(bytes_equal_text(p.object.json, "{\"kind\":\"Pod\"}"));
    assert_true(tag_equal(p.object.tag, (struct tag){1, 2}));
    codec_destroy(codec);
}

/* Claim: what a Device wishes survives in its envelope, and every other kind has none. */
static void test_a_device_survives(void **state)
{
    (void)state;
    struct codec *codec = codec_create();
    const struct device_property properties[] = {
        {.name = "temperature", .type = "int", .has_desired = true, .desired = ""},
        {.name = "humidity", .type = "double", .optional = true, .revision = 3}};
    const struct device_wish device = {.description = "sensor",
                                       .properties = properties,
                                       .property_count = 2,
                                       .keep_values = true};
    struct object_put put = sample_put();
    put.object.device = &device;
    struct bytes body;
    struct object_put read;
    assert_int_equal(codec_object_put_build(codec, &put, &body), 0);
    assert_int_equal(codec_object_put_read(codec, body, &read), 0);
    assert_non_null(read.object.device);
    assert_string_equal(read.object.device->description, "sensor");
    assert_true(read.object.device->keep_values);
    assert_int_equal(read.object.device->property_count, 2);
    assert_true(read.object.device->properties[0].has_desired);
    assert_string_equal(read.object.device->properties[0].desired, "");
    assert_string_equal(read.object.device->properties[1].type, "double");
    assert_false(read.object.device->properties[1].has_desired);
    assert_true(read.object.device->properties[1].optional);
    assert_int_equal(read.object.device->properties[1].revision, 3);

    put.object.device = NULL;
    assert_int_equal(codec_object_put_build(codec, &put, &body), 0);
    assert_int_equal(codec_object_put_read(codec, body, &read), 0);
    assert_null(read.object.device);
    codec_destroy(codec);
}

/* Claim: a publication keeps what was before and what is after apart, and its kind is one there is. */
static void test_a_publication_survives(void **state)
{
    (void)state;
    struct codec *codec = codec_create();
    const struct published_twin twins[] = {
        {.has_before = true,
         .before = {.key = "t", .has_actual = true, .actual = "24"},
         .has_after = true,
         .after = {.key = "t", .has_actual = true, .actual = "26"},
         .parts = TWIN_PART_ACTUAL},
        {.has_after = true, .after = {.key = "new"}, .parts = TWIN_PART_EXPECTED}};
    struct publication publication = {.kind = PUBLISH_TWIN_DOCUMENT,
                                      .topics = DEVICE_TOPICS_PLAIN,
                                      .device = "devices.kubeedge.io/devices/default/dht11",
                                      .event_id = "u-1",
                                      .time_ms = 17,
                                      .twins = twins,
                                      .twin_count = 2};
    struct bytes bytes;
    struct publication read;
    assert_int_equal(codec_publication_build(codec, &publication, &bytes), 0);
    assert_int_equal(codec_publication_read(codec, bytes, &read), 0);
    assert_int_equal(read.twin_count, 2);
    assert_string_equal(read.twins[0].before.actual, "24");
    assert_string_equal(read.twins[0].after.actual, "26");
    assert_int_equal(read.twins[0].parts, TWIN_PART_ACTUAL);
    assert_false(read.twins[1].has_before);
    assert_string_equal(read.twins[1].after.key, "new");

    publication.kind = 0;
    assert_int_equal(codec_publication_build(codec, &publication, &bytes), 0);
    assert_int_equal(codec_publication_read(codec, bytes, &read), STATUS_MALFORMED);
    codec_destroy(codec);
}

/* Claim: a record of a kind from the future is read, shown and shipped unchanged. */
static void test_unknown_kind_survives(void **state)
{
    (void)state;
    struct codec *codec = codec_create();
    const struct record record = {.kind = 4711, .key = "k", .body = bytes_text("not ours to read")};
    struct bytes first, second;
    assert_int_equal(codec_record_build(codec, &record, &first), 0);
    struct record read;
    assert_int_equal(codec_record_read(codec, first, &read), 0);
    assert_int_equal(read.kind, 4711);
    assert_true(bytes_equal_text(read.body, "not ours to read"));
    assert_int_equal(codec_record_build(codec, &read, &second), 0);
    assert_true(bytes_equal(first, second));
    char buffer[16];
    assert_string_equal(record_kind_text(4711, buffer), "kind_4711");
    assert_int_equal(record_kind_parse("kind_4711"), 4711);
    assert_true(record_kind_is_event(4711));
    codec_destroy(codec);
}

/* Claim: a batch whose sequences do not rise inside (previous, last] is refused. */
static void test_batch_order_is_checked(void **state)
{
    (void)state;
    struct codec *codec = codec_create();
    struct sequenced records[] = {{5, bytes_text("aaaaaaaa")}, {7, bytes_text("bbbbbbbb")}};
    struct batch batch = {.node = "n",
                          .stream = 1,
                          .previous = 4,
                          .last = 9,
                          .tip = 9,
                          .records = records,
                          .record_count = 2,
                          .digest = {3, 4}};
    struct batch read;
    struct bytes bytes;
    assert_int_equal(codec_batch_build(codec, &batch, &bytes), 0);
    assert_int_equal(codec_batch_read(codec, bytes, &read), 0);
    assert_int_equal(read.records[1].sequence, 7);

    const uint64_t wrong[][5] = {
        {5, 5, 4, 9, 9}, {4, 7, 4, 9, 9}, {5, 10, 4, 9, 10}, {5, 7, 8, 9, 9}, {5, 7, 4, 9, 8}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        records[0].sequence = wrong[i][0];
        records[1].sequence = wrong[i][1];
        batch.previous = wrong[i][2];
        batch.last = wrong[i][3];
        batch.tip = wrong[i][4];
        assert_int_equal(codec_batch_build(codec, &batch, &bytes), 0);
        assert_int_equal(codec_batch_read(codec, bytes, &read), STATUS_MALFORMED);
    }
    codec_destroy(codec);
}

/* Claim: a NUL inside text, an enum out of range and a size beyond the limit are refused. */
static void test_what_c_cannot_hold_is_refused(void **state)
{
    (void)state;
    struct codec *codec = codec_create();
    struct bytes bytes;
    const struct pod_ended ended = {.uid = "abcdefgh"};
    assert_int_equal(codec_pod_ended_build(codec, &ended, &bytes), 0);
    uint8_t *copy = codec_array(codec, bytes.size, 1);
    memcpy(copy, bytes.data, bytes.size);
    uint8_t *place = memmem(copy, bytes.size, "abcdefgh", 8);
    assert_non_null(place);
    place[3] = 0;
    struct pod_ended read;
    assert_int_equal(codec_pod_ended_read(codec, bytes_of(copy, bytes.size), &read),
                     STATUS_MALFORMED);

    const struct welcome welcome = {.cluster = "c", .mode = 9};
    struct welcome welcome_read;
    assert_int_equal(codec_welcome_build(codec, &welcome, &bytes), 0);
    assert_int_equal(codec_welcome_read(codec, bytes, &welcome_read), STATUS_MALFORMED);

    uint8_t *large = calloc(1, LIMIT_FRAME_BYTES + 64);
    const struct record record = {.kind = 1, .body = bytes_of(large, LIMIT_FRAME_BYTES + 8)};
    struct record record_read;
    assert_int_equal(codec_record_build(codec, &record, &bytes), STATUS_TOO_LARGE);
    assert_int_equal(codec_record_read(codec, bytes_of(large, LIMIT_FRAME_BYTES + 8), &record_read),
                     STATUS_TOO_LARGE);
    free(large);
    /* and the workspace is as good as new */
    assert_int_equal(codec_pod_ended_build(codec, &ended, &bytes), 0);
    assert_int_equal(codec_pod_ended_read(codec, bytes, &read), 0);
    assert_string_equal(read.uid, "abcdefgh");
    codec_destroy(codec);
}

/* Claim: bytes that many parts of a message share are refused, so a message is never more work than it
 * is long.
 * Method: a command of records that lie in it once each; then all of them point at the first, which is as
 * large as the others together. */
static void test_shared_bytes_are_refused(void **state)
{
    (void)state;
    enum { COUNT = 64, SIZE = 512 };
    static uint8_t content[COUNT][SIZE];
    struct bytes records[COUNT] = {bytes_of(content, sizeof content)};
    for (uint32_t i = 1; i < COUNT; i++) {
        records[i] = bytes_of(content[i], SIZE);
    }
    struct codec *codec = codec_create();
    const struct command command = {.records = records, .record_count = COUNT};
    struct bytes built;
    struct command out;
    assert_int_equal(codec_command_build(codec, &command, &built), 0);
    assert_int_equal(codec_command_read(codec, built, &out), 0);
    uint8_t *shared = malloc(built.size);
    memcpy(shared, built.data, built.size);
    const size_t first = (size_t)(out.records[0].data - 4 - built.data); /* its vector */
    uint32_t moved = 0;
    for (uint32_t i = 1; i < COUNT; i++) {
        const size_t vector = (size_t)(out.records[i].data - 4 - built.data);
        for (size_t at = 0; at + 4 <= vector; at += 4) { /* offsets point forward */
            if (at < first && at + get_le32(built.data + at) == vector) {
                put_le32(shared + at, (uint32_t)(first - at));
                moved++;
            }
        }
    }
    assert_int_equal(moved, COUNT - 1);
    assert_int_equal(codec_command_read(codec, bytes_of(shared, built.size), &out),
                     STATUS_MALFORMED);
    free(shared);
    codec_destroy(codec);
}

/* Each row builds one full table; each is then cut at every length and flipped at every bit, and
 * the read must answer without harm (the sanitizers watch). */
typedef int (*read_function)(struct codec *, struct bytes);
#define READER(noun)                                                                               \
    static int read_##noun(struct codec *codec, struct bytes bytes)                                \
    {                                                                                              \
        struct noun out;                                                                           \
        return codec_##noun##_read(codec, bytes, &out);                                            \
    }
READER(record)
READER(command)
READER(object_remove)
READER(pod_status)
READER(pod_attempt)
READER(node_status)
READER(edge_event)
READER(verdict)
READER(session_open)
READER(down_ack)
READER(batch)
READER(snapshot)
READER(stream_init)
READER(setting)
READER(member_key)
READER(gap)
READER(hello)
READER(welcome)
READER(ack)
READER(ping)
READER(bye)
READER(peer_hello)
READER(raft_wire)
READER(forward)
READER(read_index)
READER(sessions)
READER(state_ask)
READER(state_range)
READER(twin)
READER(twin_update)
READER(device_state)
READER(outbox_done)
READER(device_status)
READER(device_value)
READER(mqtt_message)
READER(publication)
READER(peer_status)
READER(member_ask)
READER(member_answer)

/* Claim, whatever the bytes: who glances at an object sees what who reads it all sees. */
static int read_object_put(struct codec *codec, struct bytes bytes)
{
    struct object_put put;
    struct object_glance glance;
    const int status = codec_object_put_read(codec, bytes, &put);
    const int glanced = codec_object_put_glance(bytes, &glance);
    if (status == 0) {
        assert_int_equal(glanced, 0);
        assert_int_equal(glance.mode, put.mode);
        assert_string_equal(glance.kind, put.object.kind);
        assert_string_equal(glance.resource, put.object.resource);
        assert_string_equal(glance.node_name, put.object.node_name);
    }
    return status;
}

struct sample {
    struct bytes bytes;
    read_function read;
};

static size_t build_samples(struct codec *c, struct sample *s)
{
    size_t n = 0;
#define SAMPLE(noun, ...)                                                                          \
    do {                                                                                           \
        const struct noun value = __VA_ARGS__;                                                     \
        assert_int_equal(codec_##noun##_build(c, &value, &s[n].bytes), 0);                         \
        s[n].read = read_##noun;                                                                   \
        n++;                                                                                       \
    } while (0)
    const struct bytes eight = bytes_text("12345678");
    const struct sequenced sequenced[] = {{2, eight}, {3, eight}};
    const struct container_status containers[] = {
        {.name = "main", .image = "i", .state = CONTAINER_RUNNING, .restart_count = 2}};
    const struct raft_wire_entry entries[] = {{1, 1, eight}, {2, 1, eight}};
    const struct raft_wire_server servers[] = {{1, "127.0.0.1:1", 1}};
    const uint64_t epochs[] = {1, 2};
    const struct peer_known known[] = {{1, 7, 9}};
    const struct object_put put = sample_put();
    assert_int_equal(codec_object_put_build(c, &put, &s[n].bytes), 0);
    s[n++].read = read_object_put;
    SAMPLE(record, {.kind = 1, .key = "k", .origin = "o", .sequence = 3, .body = eight});
    SAMPLE(command,
           {.time_ms = 1, .origin = 2, .sequence = 3, .records = &eight, .record_count = 1});
    SAMPLE(object_remove, {.if_version = 1, .if_uid = "u", .reason = REMOVE_UNUSED});
    SAMPLE(pod_status, {.uid = "u",
                        .phase = POD_RUNNING,
                        .pod_ip = "10.0.0.1",
                        .conditions = CONDITIONS,
                        .condition_count = 1,
                        .containers = containers,
                        .container_count = 1});
    SAMPLE(pod_attempt, {.uid = "u", .container = "main", .attempt = 2, .hash = 3, .time_ms = 4});
    SAMPLE(node_status, {.conditions = CONDITIONS,
                         .condition_count = 1,
                         .info = LABELS,
                         .info_count = 2,
                         .capacity = LABELS,
                         .capacity_count = 2});
    SAMPLE(edge_event, {.kind = "Pod", .name = "p", .reason = "BackOff", .count = 3});
    SAMPLE(verdict,
           {.uid = "u", .reachable = true, .conditions = CONDITIONS, .condition_count = 1});
    SAMPLE(session_open, {.node = "n", .uid = "u", .replica = 1, .up_stream = 2, .up_position = 3});
    SAMPLE(down_ack, {.node = "n", .epoch = 1, .stream = 2, .position = 3});
    SAMPLE(batch, {.node = "n",
                   .previous = 1,
                   .last = 3,
                   .tip = 3,
                   .records = sequenced,
                   .record_count = 2,
                   .digest = {1, 2}});
    SAMPLE(snapshot, {.stream = 1,
                      .position = 2,
                      .id = 3,
                      .step = SNAPSHOT_ROWS,
                      .records = sequenced,
                      .record_count = 2});
    SAMPLE(stream_init, {.node = "n", .cluster = "c", .up_stream = 1});
    SAMPLE(setting, {.name = "s", .value = -1});
    SAMPLE(member_key, {.replica = 3, .standing = MEMBER_KEY_OUT, .key = "ab", .below = 7});
    SAMPLE(gap, {.first = 1, .last = 2});
    SAMPLE(hello, {.version = 1, .node = "n", .labels = LABELS, .label_count = 2, .software = "v"});
    SAMPLE(welcome, {.version = 1, .cluster = "c", .epoch = 2, .mode = WELCOME_SNAPSHOT});
    SAMPLE(ack, {.stream = 1, .position = 2, .refused = true});
    SAMPLE(ping, {.time_ms = 1, .position = 2, .keys_told = true, .shut_out = bytes_text("0123456789abcdef0123456789abcdef")});
    SAMPLE(bye, {.code = BYE_REPLACED, .reason = "newer session", .retry_ms = 1});
    SAMPLE(peer_hello, {.version = 1, .cluster = "c", .replica = 2, .address = "a:1",
                        .members = epochs, .member_count = 2, .incarnation = 3,
                        .configuration = 4, .known = known, .known_count = 1, .joins = true,
                        .level = 1,
                        .software = "1.0", .epoch = 5});
    SAMPLE(peer_status, {.replica = 2, .software = "0.1", .term = 3, .leader = 1, .last = 9,
                         .commit = 8, .applied = 7, .space = 1, .standing = STANDING_BEHIND,
                         .percent = 40});
    SAMPLE(member_ask, {.request = 1, .operation = 2, .replica = 4, .address = "a:1", .key = "0f"});
    SAMPLE(member_answer, {.request = 1, .status = -3, .message = "not now"});
    SAMPLE(raft_wire, {.type = 3,
                       .server_id = 1,
                       .entries = entries,
                       .entry_count = 2,
                       .conf = servers,
                       .conf_count = 1,
                       .data = eight});
    SAMPLE(forward, {.origin = 1, .sequence = 2, .command = eight, .status = -3});
    SAMPLE(read_index, {.request = 1, .index = 2, .status = 0});
    SAMPLE(sessions, {.replica = 1,
                      .full = true,
                      .opened = OWNERS,
                      .opened_count = 2,
                      .epochs = epochs,
                      .closed = OWNERS,
                      .closed_count = 1});
    SAMPLE(state_ask, {.request = 1,
                       .needed = 2,
                       .format = 1,
                       .from = eight,
                       .to = eight,
                       .has = true,
                       .digest = {.low = 1, .high = 2}});
    SAMPLE(state_range, {.request = 1,
                         .position = 7,
                         .format = 1,
                         .to = eight,
                         .digest = {.low = 1, .high = 2},
                         .rows = eight,
                         .row_count = 100});
    static const struct twin twins[] = {{.key = "temperature",
                                         .type = "int",
                                         .optional = true,
                                         .has_expected = true,
                                         .expected = "25",
                                         .expected_ms = 1,
                                         .expected_saw = 2,
                                         .has_actual = true,
                                         .actual = "24",
                                         .actual_ms = 3,
                                         .wish_revision = 4},
                                        {.key = "gone"}};
    static const struct twin_change changes[] = {
        {.key = "temperature", .has_actual = true, .actual = "26", .type = "int"},
        {.key = "gone", .remove = true, .optional = TWIN_OPTIONAL_YES}};
    const struct published_twin published[] = {
        {.has_before = true, .before = twins[0], .has_after = true, .after = twins[0], .parts = 3},
        {.has_before = true, .before = twins[1]}};
    SAMPLE(twin, {.key = "k", .type = "string"});
    SAMPLE(twin_update,
           {.event_id = "e", .topics = DEVICE_TOPICS_PLAIN, .changes = changes, .change_count = 2});
    SAMPLE(device_state, {.event_id = "e", .state = "online"});
    SAMPLE(outbox_done, {.position = 9});
    SAMPLE(device_status,
           {.uid = "u", .state = "ok", .last_online_ms = 5, .twins = twins, .twin_count = 2});
    SAMPLE(device_value, {.uid = "u", .key = "k", .value = "1", .time_ms = 2});
    SAMPLE(mqtt_message, {.topic = "x/user/y", .payload = eight});
    SAMPLE(publication, {.kind = PUBLISH_TWIN_DOCUMENT,
                         .device = "d",
                         .event_id = "e",
                         .code = 400,
                         .reason = "why",
                         .twins = published,
                         .twin_count = 2});
    return n;
}

/* Claim: no cut and no flipped bit of any table harms the reader: it answers, in bounds. */
static void test_damage_is_answered(void **state)
{
    (void)state;
    struct codec *codec = codec_create();
    struct codec *scratch = codec_create();
    struct sample samples[64];
    const size_t count = build_samples(codec, samples);
    for (size_t i = 0; i < count; i++) {
        const struct bytes whole = samples[i].bytes;
        assert_int_equal(samples[i].read(scratch, whole), 0);
        for (size_t cut = 0; cut < whole.size; cut++) {
            uint8_t *copy = malloc(cut == 0 ? 1 : cut); /* exact, so that one byte beyond is seen */
            memcpy(copy, whole.data, cut);
            (void)samples[i].read(scratch, bytes_of(copy, cut));
            codec_reset(scratch);
            free(copy);
        }
        uint8_t *copy = malloc(whole.size);
        memcpy(copy, whole.data, whole.size);
        for (size_t bit = 0; bit < whole.size * 8; bit++) {
            copy[bit / 8] ^= (uint8_t)(1u << (bit % 8));
            (void)samples[i].read(scratch, bytes_of(copy, whole.size));
            codec_reset(scratch);
            copy[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        }
        free(copy);
    }
    codec_destroy(scratch);
    codec_destroy(codec);
}

/* Claim: the same struct gives the same bytes, whatever was built before in the workspace. */
static void test_building_is_deterministic(void **state)
{
    (void)state;
    struct codec *a = codec_create();
    struct codec *b = codec_create();
    struct sample first[64], second[64];
    const size_t count = build_samples(a, first);
    build_samples(b, second);
    codec_reset(b);
    build_samples(b, second);
    for (size_t i = 0; i < count; i++) {
        assert_true(bytes_equal(first[i].bytes, second[i].bytes));
    }
    codec_destroy(a);
    codec_destroy(b);
}

/* Claim: tags sum and subtract with carry, in any order. */
static void test_tags_carry(void **state)
{
    (void)state;
    const struct tag a = {UINT64_MAX, 1}, b = {1, UINT64_MAX};
    assert_true(tag_equal(tag_add(a, b), (struct tag){0, 1}));
    assert_true(tag_equal(tag_subtract(tag_add(a, b), b), a));
    assert_true(tag_equal(tag_subtract(tag_add(b, a), a), b));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_object_survives_nesting),
        cmocka_unit_test(test_a_device_survives),
        cmocka_unit_test(test_a_publication_survives),
        cmocka_unit_test(test_unknown_kind_survives),
        cmocka_unit_test(test_batch_order_is_checked),
        cmocka_unit_test(test_what_c_cannot_hold_is_refused),
        cmocka_unit_test(test_shared_bytes_are_refused),
        cmocka_unit_test(test_damage_is_answered),
        cmocka_unit_test(test_building_is_deterministic),
        cmocka_unit_test(test_tags_carry),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
