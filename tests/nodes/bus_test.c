/* The bus of an edge: what it keeps, whatever befalls the disk, the brokers and the power; what it refuses to hold. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "schemas/check.h"
#include "tests/nodes/bus_rig.h"
#include "tests/sim/sim.h"

#define UPDATE "$hw/events/device/default/d/twin/update"

static uint64_t seed_of_test = 1;

static const struct device_property properties[] = {
    {.name = "a", .type = "int", .desired = "", .revision = 1},
    {.name = "b", .type = "int", .desired = "", .revision = 1},
};
static const struct device_wish wish = {
    .description = "", .properties = properties, .property_count = 2};

static void say_value(struct rig *rig, const char *event_id, const char *property, uint64_t value)
{
    rig_say(rig, UPDATE,
            codec_print(rig->codec,
                        "{\"event_id\":\"%s\",\"twin\":{\"%s\":{\"actual\":{\"value\":\"%llu\"}}}}",
                        event_id, property, (unsigned long long)value));
}

static uint64_t value_of(struct rig *rig, const char *property)
{
    struct device_status device;
    uint64_t value = 0;
    assert_int_equal(edge_device_find(rig->machine, RIG_DEVICE "default/d", rig->codec, &device),
                     STATUS_OK);
    for (uint32_t i = 0; i < device.twin_count; i++) {
        if (strcmp(device.twins[i].key, property) == 0) {
            value = strtoull(device.twins[i].actual, NULL, 10);
        }
    }
    return value;
}

/* -- against a model --------------------------------------------------------------------------------------- */

enum { QUESTIONS_MAX = 4000 };

/* What a mapper knows: what it said, and what it was answered. Values only rise. */
struct mapper {
    uint64_t said[2];     /* newest value of a and b */
    uint64_t answered[2]; /* newest one that a result spoke of */
    uint32_t questions;   /* updates with an event id: 0, 1 ... */
    bool heard[BUS_BROKERS][QUESTIONS_MAX];
    uint32_t first_of_life; /* questions before were said before the last crash */
    uint32_t newest_heard[BUS_BROKERS];
};

/* A result was taken by a broker. */
static void mapper_on_taken(void *context, uint32_t broker, const char *topic, const char *payload)
{
    struct mapper *mapper = context;
    unsigned question;
    if (strstr(topic, "/twin/update/result") == NULL || strstr(payload, "\"code\"") != NULL) {
        return;
    }
    for (int i = 0; i < 2; i++) {
        const char *before =
            i == 0 ? "\"a\":{\"actual\":{\"value\":\"" : "\"b\":{\"actual\":{\"value\":\"";
        const char *at = strstr(payload, before);
        const uint64_t value = at == NULL ? 0 : strtoull(at + strlen(before), NULL, 10);
        mapper->answered[i] = value > mapper->answered[i] ? value : mapper->answered[i];
    }
    if (sscanf(payload, "{\"event_id\":\"q-%u\"", &question) == 1) {
        assert_true(question < mapper->questions);
        if (!mapper->heard[broker][question] && question >= mapper->first_of_life) {
            assert_true(question + 1 > mapper->newest_heard[broker]); /* first answers in order */
            mapper->newest_heard[broker] = question + 1;
        }
        mapper->heard[broker][question] = true;
    }
}

static void step_say(struct rig *rig, struct mapper *mapper, struct sim *sim)
{
    const uint32_t which = (uint32_t)sim_below(sim, 2);
    const char *event_id = "";
    if (sim_chance(sim, 300000) && mapper->questions < QUESTIONS_MAX) {
        event_id = codec_print(rig->codec, "q-%u", mapper->questions);
        mapper->questions++;
    }
    mapper->said[which]++;
    say_value(rig, event_id, which == 0 ? "a" : "b", mapper->said[which]);
}

/* The power goes: of what is not durable any part is lost, and nothing else. */
static void step_crash(struct rig *rig, struct mapper *mapper, struct sim *sim)
{
    const size_t waiting = rig->log_count - rig->applied;
    rig_crash(rig, waiting == 0 ? 0 : (size_t)sim_below(sim, waiting + 1), sim_below(sim, 1000000));
    mapper->first_of_life = mapper->questions;
    for (uint32_t i = 0; i < BUS_BROKERS; i++) {
        mapper->newest_heard[i] = mapper->questions;
    }
    for (int i = 0; i < 2; i++) {
        const uint64_t value = value_of(rig, i == 0 ? "a" : "b");
        assert_true(value >= mapper->answered[i]);
        assert_true(value <= mapper->said[i]);
        mapper->said[i] = value; /* the rest is as if it had not been said */
    }
}

static void step(struct rig *rig, struct mapper *mapper, struct sim *sim)
{
    const uint32_t broker = (uint32_t)sim_below(sim, rig->config.broker_count);
    switch (sim_below(sim, 12)) {
    case 0:
        rig->disk_stopped = !rig->disk_stopped;
        break;
    case 1:
        rig->log_full = sim_chance(sim, 300000);
        break;
    case 2:
        rig->brokers[broker].stopped = sim_chance(sim, 500000);
        break;
    case 3:
        rig_broker_down(rig, broker);
        break;
    case 4:
        bus_broker_up(rig->bus, broker);
        break;
    case 5:
        rig_take(rig, broker, (size_t)sim_below(sim, 4));
        break;
    case 6:
        if (sim_chance(sim, 200000)) {
            step_crash(rig, mapper, sim);
        }
        break;
    case 7:
        rig->now.mono_ms += sim_below(sim, 300);
        rig->now.wall_ms += 1;
        break;
    default:
        step_say(rig, mapper, sim);
        break;
    }
    if (sim_chance(sim, 500000)) {
        rig_settle(rig);
    }
}

/* Claim: whatever befalls disk, brokers and power, what a result spoke of is never taken back, each
 * broker hears first answers in the order of the questions, and in the end the newest values hold, every question
 * since the last start is answered at every broker, and nothing waits. Method: random lives of an edge with one or
 * two brokers, against a mapper that only knows what it said and heard. */
static void test_what_is_answered_holds(void **state)
{
    (void)state;
    for (uint64_t round = 0; round < 60; round++) {
        static struct rig rig;
        struct mapper *mapper = calloc(1, sizeof *mapper);
        struct sim sim;
        CHECK(mapper != NULL);
        sim_init(&sim, seed_of_test * 1000 + round);
        rig_init(&rig, &(struct bus_config){.broker_count = 1 + round / 2 % 2,
                                            .brokers = {"internal", "external"},
                                            .topics = (enum device_topics)(round % 2 * 2),
                                            .window_ms = round % 3 == 0 ? 0 : 100});
        rig.context = mapper;
        rig.on_taken = mapper_on_taken;
        rig_wish(&rig, "default/d", "uid-1", &wish);
        rig_settle(&rig);
        for (int i = 0; i < 300; i++) {
            step(&rig, mapper, &sim);
        }

        rig.disk_stopped = false;
        rig.log_full = false;
        for (uint32_t i = 0; i < rig.config.broker_count; i++) {
            rig.brokers[i].stopped = false;
            bus_broker_up(rig.bus, i);
        }
        for (int i = 0; i < 5; i++) {
            rig.now.mono_ms += 2000;
            rig_settle(&rig);
        }
        assert_int_equal(value_of(&rig, "a"), mapper->said[0]);
        assert_int_equal(value_of(&rig, "b"), mapper->said[1]);
        for (uint32_t i = mapper->first_of_life; i < mapper->questions; i++) {
            for (uint32_t broker = 0; broker < rig.config.broker_count; broker++) {
                assert_true(mapper->heard[broker][i]);
            }
        }
        const struct bus_report report = bus_report(rig.bus);
        assert_int_equal(report.waiting, 0);
        assert_int_equal(report.outbox, 0);
        assert_int_equal(report.ignored, 0);
        rig_deinit(&rig);
        sim_deinit(&sim);
        free(mapper);
    }
}

/* -- bounds --------------------------------------------------------------------------------------------------- */

static void rig_begin(struct rig *rig, uint32_t brokers, uint32_t window_ms)
{
    rig_init(rig, &(struct bus_config){
                      .broker_count = brokers, .brokers = {"external"}, .window_ms = window_ms});
    rig_wish(rig, "default/d", "uid-1", &wish);
    rig_settle(rig);
}

/* Claim: while the disk is slow no more than LIMIT_BUS_WAITING is asked for, what was read is kept, in order, and
 * reading begins again. Method: a disk that stands still, then a log that is full. */
static void test_a_slow_disk_stops_reading(void **state)
{
    (void)state;
    static struct rig rig;
    rig_begin(&rig, 1, 0);
    for (int full = 0; full < 2; full++) {
        rig.disk_stopped = true;
        rig.log_full = full == 1;
        uint64_t said = 0;
        while (bus_wants(rig.bus)) {
            said++;
            assert_true(said <= LIMIT_BUS_WAITING);
            say_value(&rig, "", "a", said);
            bus_run(rig.bus, rig.now);
            codec_reset(rig.codec);
        }
        assert_true(said >=
                    LIMIT_BUS_WAITING - 1); /* what brokers took may be recorded with them */
        rig.disk_stopped = false;
        rig.log_full = false;
        for (int i = 0; i < 1000 && bus_report(rig.bus).waiting > 0; i++) {
            rig.now.mono_ms += 100;
            rig_settle(&rig);
        }
        assert_true(bus_wants(rig.bus));
        assert_int_equal(value_of(&rig, "a"), said);
        codec_reset(rig.codec);
    }
    rig_deinit(&rig);
}

/* Claim: while the disk has enough to do telemetry is read on and makes no record, until it has waited too long; then the
 * newest value is recorded. Method: a disk that stands still behind what keeps it busy. */
static void test_a_slow_disk_makes_telemetry_coarse(void **state)
{
    (void)state;
    static struct rig rig;
    rig_begin(&rig, 1, 100);
    rig.disk_stopped = true;
    for (uint64_t said = 1; said <= LIMIT_BUS_WAITING_BUSY; said++) {
        say_value(&rig, "u", "a", said);
        bus_run(rig.bus, rig.now);
        codec_reset(rig.codec);
    }
    const uint64_t recorded = bus_report(rig.bus).recorded;
    const uint64_t began_ms = rig.now.mono_ms;
    uint64_t said = 0;
    while (bus_wants(rig.bus)) {
        said++;
        say_value(&rig, "", "b", said);
        rig.now.mono_ms += 10;
        bus_run(rig.bus, rig.now);
        codec_reset(rig.codec);
    }
    assert_in_range(rig.now.mono_ms - began_ms, LIMIT_BUS_LATE_MS, LIMIT_BUS_LATE_MS + 200);
    assert_int_equal(bus_report(rig.bus).recorded, recorded);
    rig.disk_stopped = false;
    rig_settle(&rig);
    assert_true(bus_wants(rig.bus));
    assert_int_equal(value_of(&rig, "b"), said);
    assert_in_range(bus_report(rig.bus).recorded, recorded + 1, recorded + 2);
    codec_reset(rig.codec);
    rig_deinit(&rig);
}

/* Claim: while more waits to be read telemetry is gathered, for a while; then, or when all is read, the newest value is
 * recorded. Method: a broker that says so, and a clock. */
static void test_what_waits_to_be_read_comes_first(void **state)
{
    (void)state;
    for (int for_long = 0; for_long < 2; for_long++) {
        static struct rig rig;
        rig_begin(&rig, 1, 100);
        bus_read(rig.bus, 0, true);
        const uint64_t recorded = bus_report(rig.bus).recorded;
        const uint64_t wait_ms = 100 + LIMIT_BUS_AHEAD_MS;
        uint64_t said = 0;
        for (uint64_t ms = 0; ms < wait_ms; ms += 100) {
            said++;
            say_value(&rig, "", "a", said);
            rig_settle(&rig);
            rig.now.mono_ms += 100;
        }
        assert_int_equal(bus_report(rig.bus).recorded, recorded);
        if (!for_long) {
            rig.now.mono_ms -= 200;
            assert_true(bus_run(rig.bus, rig.now) == rig.now.mono_ms + 200);
            bus_read(rig.bus, 0, false);
        }
        rig_settle(&rig);
        assert_int_equal(bus_report(rig.bus).recorded, recorded + 1);
        assert_int_equal(value_of(&rig, "a"), said);
        codec_reset(rig.codec);
        rig_deinit(&rig);
    }
}

/* Claim: what is gathered is judged by the twins that the device has: by those of a newer wish, and by those that a
 * client changed just before. Method: a window is open and knows the device; then the type of a property becomes another,
 * by the cloud or, on a disk that stands still, by a client; a value that is none of the new type is said, and one of
 * another property, which must not be refused with it. */
static void test_gathering_follows_the_device(void **state)
{
    (void)state;
    static const struct device_property stricter[] = {
        {.name = "a", .type = "boolean", .desired = "", .revision = 2},
        {.name = "b", .type = "int", .desired = "", .revision = 2},
    };
    for (int by_client = 0; by_client < 2; by_client++) {
        static struct rig rig;
        rig_begin(&rig, 1, 100);
        rig_say(&rig, UPDATE, "{\"twin\":{\"c\":{\"actual\":{\"value\":\"1\"}}}}");
        for (uint64_t i = 1; i <= 3; i++) { /* the window is open, and what it knows was used */
            rig_settle(&rig);
            say_value(&rig, "", by_client ? "c" : "a", i);
            rig.now.mono_ms += 100;
        }
        rig_settle(&rig);
        if (by_client) {
            rig.disk_stopped = true;
            rig_say(&rig, UPDATE, "{\"twin\":{\"c\":null}}");
            rig_say(&rig, UPDATE,
                    "{\"twin\":{\"c\":{\"actual\":{\"value\":\"true\"},\"metadata\":{\"type\":"
                    "\"boolean\"}}}}");
            say_value(&rig, "", "b", 5); /* the window knows what is not so any more */
            rig.now.mono_ms += 100;
            bus_run(rig.bus, rig.now);
            rig.disk_stopped = false;
        } else {
            rig_wish(&rig, "default/d", "uid-1",
                     &(struct device_wish){
                         .description = "", .properties = stricter, .property_count = 2});
        }
        rig_settle(&rig);
        say_value(&rig, "", "b", 6);
        say_value(&rig, "", by_client ? "c" : "a", 9);
        say_value(&rig, "", "b", 7);
        rig.now.mono_ms += 200;
        rig_settle(&rig);
        rig.now.mono_ms += 200;
        rig_settle(&rig);
        assert_int_equal(value_of(&rig, "b"), 7);
        assert_true(bus_report(rig.bus).gathered >= 3);
        codec_reset(rig.codec);
        rig_deinit(&rig);
    }
}

/* Claim: questions that wait for a slow broker are bounded, and do not stop reading: what they wait for is what
 * it says. */
static void test_questions_do_not_stop_reading(void **state)
{
    (void)state;
    static struct rig rig;
    rig_begin(&rig, 1, 0);
    rig.brokers[0].stopped = true;
    for (uint32_t i = 0; i < 2 * LIMIT_BUS_OUTGOING; i++) { /* more than it is given at once */
        say_value(&rig, "u", "a", i);
        rig_apply(&rig);
        bus_run(rig.bus, rig.now);
        codec_reset(rig.codec);
    }
    for (uint32_t i = 0; i < 3 * LIMIT_BUS_QUESTIONS; i++) {
        rig_say(&rig, "$hw/events/device/default/d/twin/get", "{}");
        bus_run(rig.bus, rig.now);
        assert_true(bus_wants(rig.bus));
    }
    assert_int_equal(bus_report(rig.bus).ignored, 2 * LIMIT_BUS_QUESTIONS);
    rig.brokers[0].stopped = false;
    for (int i = 0; i < 1000 && bus_report(rig.bus).waiting > 0; i++) {
        rig_settle(&rig);
    }
    assert_int_equal(bus_report(rig.bus).waiting, 0);
    rig_deinit(&rig);
}

/* Claim: without brokers nothing is held for them. */
static void test_without_brokers_promises_are_given_up(void **state)
{
    (void)state;
    static struct rig rig;
    rig_begin(&rig, 0, 100);
    assert_int_equal(bus_report(rig.bus).outbox, 1); /* the device is told of */
    rig.now.mono_ms += 1000;
    rig_settle(&rig);
    rig_settle(&rig);
    assert_int_equal(bus_report(rig.bus).outbox, 0);
    rig_deinit(&rig);
}

static void count_taken(void *context, uint32_t broker, const char *topic, const char *payload)
{
    (void)broker;
    (void)topic;
    (void)payload;
    ++*(uint32_t *)context;
}

/* Claim: a promise is done when every broker has it; one that is away is waited for and hears it on its return, but
 * not for ever. */
static void test_two_brokers(void **state)
{
    (void)state;
    static struct rig rig;
    uint32_t taken = 0;
    rig_begin(&rig, 2, 0);
    rig.brokers[1].stopped = true;
    say_value(&rig, "u", "a", 1);
    rig_settle(&rig);
    rig_broker_down(&rig, 1);
    rig.now.mono_ms += 2000;
    rig_settle(&rig);
    assert_int_equal(bus_report(rig.bus).outbox,
                     2); /* result and document: the second has neither */
    assert_int_equal(bus_report(rig.bus).again, 2);
    rig.context = &taken;
    rig.on_taken = count_taken;
    rig.brokers[1].stopped = false;
    bus_broker_up(rig.bus, 1);
    rig_settle(&rig);
    assert_int_equal(taken, 2);
    rig.now.mono_ms += 2000;
    rig_settle(&rig);
    assert_int_equal(bus_report(rig.bus).outbox, 0);

    rig_broker_down(&rig, 1);
    say_value(&rig, "u", "a", 2);
    rig_settle(&rig);
    rig.now.mono_ms += 61000;
    rig_settle(&rig);
    rig.now.mono_ms += 2000;
    rig_settle(&rig);
    assert_int_equal(bus_report(rig.bus).outbox, 0);
    bus_broker_up(rig.bus, 1);
    rig_settle(&rig);
    assert_int_equal(taken, 4); /* those of the first one only */
    rig_deinit(&rig);
}

/* Claim: after a start a broker that has not connected yet is waited for like one that was just lost, however long
 * the machine has been up. */
static void test_a_start_waits_for_both_brokers(void **state)
{
    (void)state;
    static struct rig rig;
    uint32_t taken = 0;
    rig_begin(&rig, 2, 0);
    rig.brokers[1].stopped = true;
    say_value(&rig, "u", "a", 1);
    rig_settle(&rig);
    rig.brokers[1].stopped = false;
    rig.brokers[1].away = true;
    rig_crash(&rig, 0, 0);
    rig_settle(&rig);
    rig.now.mono_ms += 2000;
    rig_settle(&rig);
    assert_int_not_equal(bus_report(rig.bus).outbox, 0);
    rig.context = &taken;
    rig.on_taken = count_taken;
    bus_broker_up(rig.bus, 1);
    rig_settle(&rig);
    assert_int_equal(taken, bus_report(rig.bus).outbox);
    rig_deinit(&rig);
}

/* Claim: whoever leaves reads no more, and takes leave only when all that was read is appended: what waits for the
 * window of the log, what is gathered, and what came in the same breath. Method: a disk that stands still. */
static void test_leaving_loses_nothing(void **state)
{
    (void)state;
    static struct rig rig;
    rig_begin(&rig, 1, 1000);
    rig.disk_stopped = true;
    uint64_t said = 0;
    for (; said < LIMIT_BUS_WAITING + 100; said++) {
        say_value(&rig, "u", "a", said);
        codec_reset(rig.codec);
    }
    say_value(&rig, "", "b", 1);
    say_value(&rig, "", "b", 2); /* gathered */
    bus_leave(rig.bus, rig.now);
    assert_false(bus_wants(rig.bus));
    assert_false(bus_left(rig.bus));
    say_value(&rig, "", "b", 3);
    bus_run(rig.bus, rig.now);
    assert_false(bus_left(rig.bus));
    rig_apply(&rig);
    bus_run(rig.bus, rig.now);
    assert_true(bus_left(rig.bus));
    rig_apply(&rig);
    assert_int_equal(value_of(&rig, "a"), said - 1);
    assert_int_equal(value_of(&rig, "b"), 3);
    assert_int_equal(bus_report(rig.bus).ignored, 0);
    assert_false(bus_wants(rig.bus));
    codec_reset(rig.codec);
    rig_deinit(&rig);
}

/* Claim: a broker is never given more than LIMIT_BUS_OUTGOING messages that it has not taken, whatever is promised
 * and whatever becomes of another one, which does not wait for it. */
static void test_a_slow_broker_is_not_flooded(void **state)
{
    (void)state;
    static struct rig rig;
    rig_begin(&rig, 2, 0);
    rig.brokers[0].stopped = true;
    for (uint64_t i = 0; i < LIMIT_BUS_OUTGOING; i++) {
        say_value(&rig, "u", "a", i);
        rig_settle(&rig); /* the rig checks what it is given */
    }
    assert_in_range(rig.brokers[0].count, LIMIT_BUS_OUTGOING - 1, LIMIT_BUS_OUTGOING);
    assert_int_equal(rig.brokers[1].count, 0);
    rig_broker_down(&rig, 0);
    bus_broker_up(rig.bus, 0);
    rig_settle(&rig);
    assert_in_range(rig.brokers[0].count, LIMIT_BUS_OUTGOING - 1, LIMIT_BUS_OUTGOING);
    rig.brokers[0].stopped = false;
    for (int i = 0; i < 100; i++) {
        rig.now.mono_ms += 100;
        rig_settle(&rig);
    }
    assert_int_equal(bus_report(rig.bus).outbox, 0);
    rig_deinit(&rig);
}

/* Claim: a broker that takes its messages loses none, however much is said: above LIMIT_BUS_PROMISED no more is asked
 * for, and what was read is not recorded before it has taken some. One that takes nothing for a while holds nobody up.
 * Method: a broker that stands still for a moment, and mappers that do not; then it takes one message at a time. */
static void test_promises_wait_for_a_slow_broker(void **state)
{
    (void)state;
    static struct rig rig;
    rig_begin(&rig, 1, 0);
    rig.brokers[0].stopped = true;
    uint64_t said = 0;
    while (bus_wants(rig.bus)) {
        said++;
        assert_true(2 * said <= LIMIT_BUS_PROMISED); /* a result and a document each */
        say_value(&rig, "u", "a", said);
        bus_run(rig.bus, rig.now);
        rig_apply(&rig);
        codec_reset(rig.codec);
    }
    assert_true(bus_report(rig.bus).outbox > LIMIT_BUS_PROMISED - 10);
    for (uint64_t i = 0; i < LIMIT_BUS_WAITING; i++) { /* who is asked not to read reads on */
        said++;
        say_value(&rig, "u", "a", said);
        bus_run(rig.bus, rig.now);
        rig_apply(&rig);
        codec_reset(rig.codec);
    }
    assert_true(bus_report(rig.bus).outbox <= LIMIT_BUS_PROMISED);
    while (bus_report(rig.bus).waiting > 0) {
        rig_take(&rig, 0, 1);
        bus_run(rig.bus, rig.now);
        rig_apply(&rig);
        codec_reset(rig.codec);
    }
    assert_int_equal(value_of(&rig, "a"), said);
    while (bus_wants(rig.bus)) {
        said++;
        say_value(&rig, "u", "a", said);
        bus_run(rig.bus, rig.now);
        rig_apply(&rig);
        codec_reset(rig.codec);
    }
    assert_int_equal(bus_report(rig.bus).outbox_dropped, 0);
    assert_true(bus_run(rig.bus, rig.now) <= rig.now.mono_ms + 2000); /* it looks again */
    rig.now.mono_ms += 2000;
    bus_run(rig.bus, rig.now);
    assert_true(bus_wants(rig.bus));
    rig_deinit(&rig);
}

static void count_given(void *context, uint32_t broker, const char *topic, const char *payload)
{
    (void)broker;
    (void)payload;
    *(uint32_t *)context += strstr(topic, "/get/result") != NULL ? 1 : 0;
}

/* Claim: a broker that takes nothing does not hold up the questions at another one for long; while it takes something
 * it is answered, too. */
static void test_a_stuck_broker_holds_up_no_questions(void **state)
{
    (void)state;
    static struct rig rig;
    uint32_t given = 0;
    rig_begin(&rig, 2, 0);
    rig.context = &given;
    rig.on_given = count_given;
    rig.brokers[1].stopped = true;
    for (uint32_t i = 0; i < LIMIT_BUS_OUTGOING; i++) {
        say_value(&rig, "u", "a", i);
        rig_settle(&rig);
    }
    rig_say(&rig, "$hw/events/device/default/d/twin/get", "{}");
    rig_settle(&rig);
    assert_int_equal(given, 0);
    rig.now.mono_ms += 10000;
    rig_settle(&rig);
    assert_int_equal(given, 1);
    rig.brokers[1].stopped = false;
    for (int i = 0; i < 100; i++) {
        rig_settle(&rig);
    }
    rig_say(&rig, "$hw/events/device/default/d/twin/get", "{}");
    rig_settle(&rig);
    assert_int_equal(given, 3);
    rig_deinit(&rig);
}

/* Claim: lists of devices, however many are asked for, are not given faster than they are taken, and each tells the
 * state of its moment. */
static void test_lists_are_bounded(void **state)
{
    (void)state;
    static struct rig rig;
    uint32_t given = 0;
    static char description[60000];
    memset(description, 'd', sizeof description - 1);
    const struct device_wish large = {.description = description};
    rig_begin(&rig, 1, 0);
    for (int i = 0; i < 4; i++) {
        rig_wish(&rig, codec_print(rig.codec, "default/large-%d", i), "uid-l", &large);
    }
    rig_settle(&rig);
    rig_settle(&rig);
    rig.context = &given;
    rig.on_given = count_given;
    rig.brokers[0].stopped = true;
    for (int i = 0; i < 100; i++) {
        rig_say(&rig, "$hw/events/node/edge-1/membership/get", "{}");
        codec_reset(rig.codec);
    }
    rig_settle(&rig);
    assert_in_range(given, 2, LIMIT_BUS_OUTGOING_BYTES / (4 * sizeof description) + 1);
    rig_wish(&rig, "default/new", "uid-n", &wish);
    rig_settle(&rig);
    assert_null(strstr(rig.brokers[0].messages[0].payload, "default/new"));
    const uint32_t before = given;
    rig.brokers[0].stopped = false;
    while (given == before) {
        rig_take(&rig, 0, 1);
        bus_run(rig.bus, rig.now);
    }
    assert_non_null(
        strstr(rig.brokers[0].messages[rig.brokers[0].count - 1].payload, "default/new"));
    for (int i = 0; i < 100; i++) {
        rig_settle(&rig);
    }
    assert_int_equal(given, 100);
    rig_deinit(&rig);
}

static void count_errors(void *context, uint32_t broker, const char *topic, const char *payload)
{
    (void)broker;
    (void)topic;
    *(uint32_t *)context += strstr(payload, "\"code\":400") != NULL ? 1 : 0;
}

/* Claim: what is larger than a message may be is refused, answered where errors are answered, and nothing of it is
 * kept, on any topic; the log hears why. */
static void test_too_large_messages_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *topic;
        uint32_t answers;
    } cases[] = {{UPDATE, 2},
                 {"$hw/events/device/default/d/twin/get", 1},
                 {"$hw/events/node/edge-1/membership/get", 1},
                 {"$hw/events/device/default/d/state/update", 0},
                 {"$hw/events/upload/x", 0},
                 {"SYS/dis/upload_records", 0}};
    static struct rig rig;
    static char large[1024 * 1024 + 1];
    uint32_t errors = 0;
    memset(large, ' ', sizeof large - 1);
    memcpy(large, "{\"event_id\":\"e\"}", 16);
    rig_begin(&rig, 1, 0);
    rig.context = &errors;
    rig.on_given = count_errors;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const uint64_t records = bus_report(rig.bus).recorded;
        errors = 0;
        rig_say(&rig, cases[i].topic, large);
        assert_non_null(strstr(bus_message_refusal(rig.bus), "262144 are the most"));
        rig_settle(&rig);
        assert_int_equal(bus_report(rig.bus).recorded, records);
        assert_int_equal(errors, cases[i].answers);
    }
    const struct bus_report report = bus_report(rig.bus);
    assert_int_equal(report.refused + report.ignored, sizeof cases / sizeof cases[0]);
    rig_deinit(&rig);
}

static void note_expected(void *context, uint32_t broker, const char *topic, const char *payload)
{
    (void)broker;
    if (strstr(topic, "/get/result") != NULL) {
        const char *at = strstr(payload, "\"expected\":{\"value\":\"");
        *(uint64_t *)context = at == NULL ? 0 : strtoull(at + 21, NULL, 10);
    }
}

/* Claim: a plain topic means the device of that name in "default", else in the first namespace, whatever comes and
 * goes. Method: three names in four namespaces at random; each device's wished value says which it is; asked after
 * each step, against a table. */
static void test_plain_names_follow_the_wishes(void **state)
{
    (void)state;
    static const char *const spaces[] = {"default", "a", "b", "x"}; /* in the order of their turn */
    static struct rig rig;
    struct sim sim;
    bool there[3][4] = {{false}};
    uint64_t heard = 0;
    sim_init(&sim, seed_of_test);
    rig_init(&rig, &(struct bus_config){
                       .broker_count = 1, .brokers = {"external"}, .topics = DEVICE_TOPICS_PLAIN});
    rig.context = &heard;
    rig.on_given = note_expected;
    for (int step = 0; step < 200; step++) {
        const size_t name = (size_t)sim_below(&sim, 3);
        const size_t space = (size_t)sim_below(&sim, 4);
        const char *id = codec_print(rig.codec, "%s/n-%zu", spaces[space], name);
        const struct device_property property = {.name = "a",
                                                 .type = "int",
                                                 .has_desired = true,
                                                 .desired =
                                                     codec_print(rig.codec, "%zu", 1 + space),
                                                 .revision = 1};
        if (there[name][space]) {
            rig_unwish(&rig, id);
        } else {
            rig_wish(&rig, id, "u",
                     &(struct device_wish){
                         .description = "", .properties = &property, .property_count = 1});
        }
        there[name][space] = !there[name][space];
        rig_settle(&rig);
        for (size_t i = 0; i < 3; i++) {
            uint64_t first = 4;
            while (first > 0 && !there[i][4 - first]) {
                first--;
            }
            rig_say(&rig, codec_print(rig.codec, "$hw/events/device/n-%zu/twin/get", i), "{}");
            rig_settle(&rig);
            assert_int_equal(heard, first == 0 ? 0 : 5 - first);
        }
    }
    rig_deinit(&rig);
    sim_deinit(&sim);
}

/* Claim: a byte that is no UTF-8 costs nobody the message, and what is no JSON is refused all the same. Method: each way to
 * be broken, with what Go's decoder makes of it. */
static void test_broken_text_is_read_as_go_reads_it(void **state)
{
    (void)state;
    static const struct {
        const char *said, *event_id; /* NULL: no JSON at all */
    } cases[] = {
        {"r-\xff", "r-\xef\xbf\xbd"},
        {"\xc3(", "\xef\xbf\xbd("},                                 /* cut */
        {"\xe2\x82", "\xef\xbf\xbd\xef\xbf\xbd"},                   /* cut by the quote */
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},   /* a surrogate */
        {"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"},                   /* overlong */
        {"\xf0\x9f\x8c\xa1 \xc3\xa9", "\xf0\x9f\x8c\xa1 \xc3\xa9"}, /* nothing is broken */
        {"\xff\",", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct codec *codec = codec_create();
        char payload[128];
        const int size = snprintf(payload, sizeof payload, "{\"event_id\":\"%s\"}", cases[i].said);
        const char *why = NULL;
        const char *id = bus_json_event_id(bytes_of(payload, (size_t)size), codec, &why);
        if (cases[i].event_id == NULL) {
            assert_null(id);
            assert_non_null(why);
        } else {
            assert_non_null(id);
            assert_string_equal(id, cases[i].event_id);
        }
        codec_destroy(codec);
    }
}

/* Claim: event ids of our own are UUIDs of version 4, and none comes twice. */
static void test_own_event_ids(void **state)
{
    (void)state;
    enum { COUNT = 4096 };
    static char ids[COUNT][BUS_EVENT_ID_BYTES];
    for (uint64_t i = 0; i < COUNT; i++) {
        bus_json_own_event_id(i % 2 == 0 ? 7 : UINT64_MAX, i / 2, ids[i]);
        assert_int_equal(strlen(ids[i]), 36);
        assert_int_equal(ids[i][14], '4');
        assert_non_null(strchr("89ab", ids[i][19]));
    }
    qsort(ids, COUNT, sizeof ids[0], (int (*)(const void *, const void *))strcmp);
    for (size_t i = 1; i < COUNT; i++) {
        assert_string_not_equal(ids[i - 1], ids[i]);
    }
}

/* Claim: a filter is one that a broker takes. */
static void test_filters(void **state)
{
    (void)state;
    static const char *const good[] = {"a", "#", "+", "a/#", "+/+/b", "/", "a//b", "$x/+"};
    static const char *const bad[] = {"", "a#", "#/a", "a+", "+a/b", "a/b+", "a/#/b"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(bus_topic_is_filter(good[i]));
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(bus_topic_is_filter(bad[i]));
    }
    char buffer[LIMIT_BUS_TOPIC_BYTES + 1];
    uint32_t count = 0;
    while (bus_topic_filter("edge-1", DEVICE_TOPICS_BOTH, count, buffer)) {
        assert_true(bus_topic_is_filter(buffer));
        count++;
    }
    assert_int_equal(count, 8);
}

int main(void)
{
    const char *seed = getenv("SEED");
    seed_of_test = seed == NULL ? 1 : strtoull(seed, NULL, 10);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_answered_holds),
        cmocka_unit_test(test_a_slow_disk_stops_reading),
        cmocka_unit_test(test_a_slow_disk_makes_telemetry_coarse),
        cmocka_unit_test(test_what_waits_to_be_read_comes_first),
        cmocka_unit_test(test_gathering_follows_the_device),
        cmocka_unit_test(test_questions_do_not_stop_reading),
        cmocka_unit_test(test_without_brokers_promises_are_given_up),
        cmocka_unit_test(test_two_brokers),
        cmocka_unit_test(test_a_start_waits_for_both_brokers),
        cmocka_unit_test(test_leaving_loses_nothing),
        cmocka_unit_test(test_a_slow_broker_is_not_flooded),
        cmocka_unit_test(test_promises_wait_for_a_slow_broker),
        cmocka_unit_test(test_a_stuck_broker_holds_up_no_questions),
        cmocka_unit_test(test_lists_are_bounded),
        cmocka_unit_test(test_too_large_messages_are_refused),
        cmocka_unit_test(test_plain_names_follow_the_wishes),
        cmocka_unit_test(test_broken_text_is_read_as_go_reads_it),
        cmocka_unit_test(test_own_event_ids),
        cmocka_unit_test(test_filters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
