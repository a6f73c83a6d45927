/* Devices in the cloud's state: who is told of them, who may report of them, and what edges say that is no
 * state of any object. */
#include <stdio.h>
#include <string.h>

#include "statemachine/inbox.h"
#include "tests/statemachine/machine_fixture.h"
#include "tests/statemachine/machine_reader.h"

static struct fixture fixture;
static struct fixture *const f = &fixture;

#define DEVICE "devices.kubeedge.io/devices/default/dht11"

static int set_up(void **state)
{
    (void)state;
    fixture_open(f);
    const struct object space = object_namespace("default");
    expect(f, ACCEPTED, record_put(f, PUT_CREATE, &space));
    for (int i = 0; i < 2; i++) {
        const struct object node = object_node(i == 0 ? "edge" : "other", i == 0 ? "n1" : "n2");
        expect(f, ACCEPTED, record_put(f, PUT_CREATE, &node));
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fixture_close(f);
    return 0;
}

static struct object device_on(const char *node)
{
    struct object device = {.group = "devices.kubeedge.io",
                            .version = "v1beta1",
                            .kind = "Device",
                            .resource = "devices",
                            .namespace_ = "default",
                            .name = "dht11",
                            .uid = "d1",
                            .node_name = node,
                            .json = bytes_text("{}")};
    device.tag = tag_of(&device);
    return device;
}

#define RECORD(kind, key, noun, ...)                                                               \
    __extension__({                                                                                \
        const struct noun value_ = __VA_ARGS__;                                                    \
        struct bytes body_;                                                                        \
        assert_int_equal(codec_##noun##_build(f->codec, &value_, &body_), STATUS_OK);              \
        record_of(f, kind, key, body_);                                                            \
    })

static struct object_row row_of(const char *key)
{
    struct object_row row = {0};
    const int status = object_get(fixture_live(f), bytes_text(key), &row);
    assert_true(status == STATUS_OK || status == OBJECT_NONE);
    return row;
}

static uint64_t held_by(const char *name)
{
    struct node_row node = {0};
    assert_int_equal(node_get(fixture_live(f), name, &node), STATUS_OK);
    return node.held_count;
}

/* Claim: a device is delivered to the node it names, moves with it, counts as no pod, and waits when the node
 * is deleted. */
static void test_a_device_follows_its_node(void **state)
{
    (void)state;
    struct reader reader = {.node = "edge"};
    struct object device = device_on("edge");
    expect(f, ACCEPTED, record_put(f, PUT_ANY, &device));
    reader_drain(f, &reader, 1 << 20);
    assert_string_equal(reader.order, "+" DEVICE);
    struct node_row node;
    assert_int_equal(node_get(fixture_live(f), "edge", &node), STATUS_OK);
    assert_int_equal(node.bound_count, 0);
    device = device_on("other");
    expect(f, ACCEPTED, record_put(f, PUT_ANY, &device));
    assert_int_equal(held_by("edge"), 0);
    assert_int_equal(held_by("other"), 1);
    expect(f, ACCEPTED, record_remove(f, "/nodes//other", 0, ""));
    assert_true(row_of(DEVICE).version > 0);
    const struct object again = object_node("other", "n3");
    expect(f, ACCEPTED, record_put(f, PUT_CREATE, &again));
    assert_int_equal(held_by("other"), 1);
    expect(f, ACCEPTED, record_remove(f, DEVICE, 0, ""));
    assert_int_equal(held_by("other"), 0);
}

/* Claim: its status is a fact of the node that has it, of this uid. */
static void test_its_node_reports_a_device(void **state)
{
    (void)state;
    const struct object device = device_on("edge");
    expect(f, ACCEPTED, record_put(f, PUT_ANY, &device));
    const uint64_t mine = expect(f, ACCEPTED, record_session(f, "edge", "n1", 5, 0));
    const uint64_t theirs = expect(f, ACCEPTED, record_session(f, "other", "n2", 6, 0));
    static const struct twin twins[] = {{.key = "temperature", .has_actual = true, .actual = "24"}};
#define STATUS(uid_, key_)                                                                         \
    RECORD(RECORD_DEVICE_STATUS, key_, device_status,                                              \
           {.uid = (uid_), .state = "online", .twins = twins, .twin_count = 1})
    const struct bytes stolen = STATUS("d1", DEVICE);
    expect(f, ACCEPTED, record_up(f, "other", theirs, 6, 0, &stolen, 1));
    assert_int_equal(row_of(DEVICE).parts[PART_FACT].version, 0);
    const struct bytes up[] = {STATUS("d0", DEVICE), STATUS("d1", "/pods/default/dht11"),
                               STATUS("d1", DEVICE)};
    expect(f, ACCEPTED, record_up(f, "edge", mine, 5, 0, up, 3));
    struct device_status status;
    assert_int_equal(
        codec_device_status_read(f->lent, row_of(DEVICE).parts[PART_FACT].body, &status), 0);
    assert_string_equal(status.twins[0].actual, "24");
    struct node_row node;
    assert_int_equal(node_get(fixture_live(f), "edge", &node), STATUS_OK);
    assert_int_equal(node.refused_count, 2);
}

/* Claim: values and messages arrive once, in order, whatever is sent twice; the oldest go at the bound, and the
 * numbers show it; they go with their node. */
static void test_values_and_messages_arrive_once(void **state)
{
    (void)state;
    const struct object device = device_on("edge");
    expect(f, ACCEPTED, record_put(f, PUT_ANY, &device));
    expect(f, ACCEPTED, record_setting(f, "inbox_rows_max", 5));
    const uint64_t epoch = expect(f, ACCEPTED, record_session(f, "edge", "n1", 5, 0));
    for (unsigned round = 0; round < 2; round++) { /* the second: the same batch again */
        struct bytes up[8];
        for (unsigned i = 0; i < 8; i++) {
            char text[8];
            snprintf(text, sizeof text, "%u", i);
            up[i] = i % 2 == 0 ? RECORD(RECORD_DEVICE_VALUE, DEVICE, device_value,
                                        {.uid = i == 2 ? "d0" : "d1", .key = "t", .value = text})
                               : RECORD(RECORD_MQTT_MESSAGE, "x/user/y", mqtt_message,
                                        {.topic = "x/user/y", .payload = bytes_text(text)});
        }
        apply(f, record_up(f, "edge", epoch, 5, 0, up, 8));
    }
    uint64_t last, kept;
    assert_int_equal(inbox_count(fixture_live(f), "edge", &last, &kept), STATUS_OK);
    assert_int_equal(last, 7); /* one was of another device */
    assert_int_equal(kept, 5);
    struct inbox_row row = {0};
    for (uint64_t number = 3; number <= 7; number++) {
        assert_int_equal(inbox_next(fixture_live(f), "edge", row.number, &row), STATUS_OK);
        assert_int_equal(row.number, number);
        struct record record;
        assert_int_equal(codec_record_read(f->lent, row.record, &record), 0);
        assert_int_equal(record.kind, row.kind);
        assert_int_equal(row.kind, number % 2 == 0 ? RECORD_DEVICE_VALUE : RECORD_MQTT_MESSAGE);
    }
    assert_int_equal(inbox_next(fixture_live(f), "edge", row.number, &row), INBOX_NONE);
    expect(f, ACCEPTED, record_setting(f, "inbox_bytes_max", 1)); /* the newest is always kept */
    const struct bytes more = RECORD(RECORD_MQTT_MESSAGE, "x/user/y", mqtt_message,
                                     {.topic = "x/user/y", .payload = bytes_text("more")});
    expect(f, ACCEPTED, record_up(f, "edge", epoch, 5, 8, &more, 1));
    assert_int_equal(inbox_count(fixture_live(f), "edge", &last, &kept), STATUS_OK);
    assert_int_equal(last, 8);
    assert_int_equal(kept, 1);
    expect(f, ACCEPTED, record_remove(f, "/nodes//edge", 0, ""));
    assert_int_equal(inbox_count(fixture_live(f), "edge", &last, &kept), STATUS_OK);
    assert_int_equal(last, 0);
    assert_int_equal(inbox_next(fixture_live(f), "edge", 0, &row), INBOX_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_device_follows_its_node, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_its_node_reports_a_device, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_values_and_messages_arrive_once, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
