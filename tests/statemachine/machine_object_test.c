/* Objects: every way a write is taken, and every way it is refused. */
#include "machine_fixture.h"

#include <stdlib.h>

static struct fixture fixture;
static struct fixture *const f = &fixture;

static int set_up(void **state)
{
    (void)state;
    fixture_open(f);
    const struct object space = object_namespace("default");
    expect(f, ACCEPTED, record_put(f, PUT_CREATE, &space));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fixture_close(f);
    return 0;
}

static struct object_row row_of(const char *key)
{
    struct object_row row = {0};
    const int status = object_get(fixture_live(f), bytes_text(key), &row);
    assert_true(status == STATUS_OK || status == OBJECT_NONE);
    return row;
}

static bool exists(const char *key)
{
    return row_of(key).version != 0;
}

static void test_preconditions_decide_a_put(void **state)
{
    (void)state;
    struct object map = object_configmap("a", "u1", "{\"a\":1}");
    expect(f, REFUSED_MISSING, record_put(f, PUT_UPDATE, &map));
    expect(f, REFUSED_MISSING, record_put_if(f, 5, "", &map));
    expect(f, REFUSED_MISSING, record_put_if(f, 0, "u1", &map));
    const uint64_t created = expect(f, ACCEPTED, record_put(f, PUT_CREATE, &map));
    assert_int_equal(expect(f, REFUSED_EXISTS, record_put(f, PUT_CREATE, &map)), created);
    assert_int_equal(expect(f, ACCEPTED_UNCHANGED, record_put(f, PUT_UPDATE, &map)), created);

    map.json = bytes_text("{\"a\":2}");
    assert_int_equal(expect(f, REFUSED_CONFLICT, record_put_if(f, created - 1, "", &map)), created);
    expect(f, REFUSED_CONFLICT, record_put_if(f, created + 1, "", &map)); /* of the future */
    expect(f, REFUSED_UID, record_put_if(f, created, "u2", &map));
    const uint64_t changed = expect(f, ACCEPTED, record_put_if(f, created, "u1", &map));
    assert_true(changed > created);
    map.uid = "u2";
    expect(f, REFUSED_UID,
           record_put(f, PUT_ANY, &map)); /* another object may not take its place */

    const struct object_row row = row_of("/configmaps/default/a");
    assert_int_equal(row.version, changed);
    assert_int_equal(row.created_version, created);
    struct object_put put;
    assert_int_equal(codec_object_put_read(f->lent, row.parts[PART_WISH].body, &put), STATUS_OK);
    assert_true(bytes_equal(put.object.json, bytes_text("{\"a\":2}")));
}

/* Claim: a fact or verdict that came after the version a user read is no conflict for the wish. */
static void test_a_fact_is_no_conflict(void **state)
{
    (void)state;
    struct object node = object_node("edge", "n1");
    const uint64_t read = expect(f, ACCEPTED, record_put(f, PUT_CREATE, &node));
    const uint64_t verdict = expect(f, ACCEPTED, record_verdict(f, "/nodes//edge", "n1", true));
    assert_int_equal(row_of("/nodes//edge").version, verdict);
    node.json = bytes_text("{\"x\":1}");
    const uint64_t written = expect(f, ACCEPTED, record_put_if(f, read, "", &node));
    node.json = bytes_text("{\"x\":2}");
    expect(f, REFUSED_CONFLICT, record_put_if(f, verdict, "", &node));
    expect(f, ACCEPTED, record_put_if(f, written, "", &node));
}

static void test_envelope_and_key_must_agree(void **state)
{
    (void)state;
    const struct object good = object_configmap("a", "u1", "{}");
    struct object bad[8];
    for (unsigned i = 0; i < 8; i++) {
        bad[i] = good;
    }
    bad[0].name = "";
    bad[1].resource = "";
    bad[2].uid = "";
    bad[3].name = "a/b";
    bad[4].namespace_ = ""; /* a config map lives in a namespace */
    bad[5] = object_node("edge", "n1");
    bad[5].namespace_ = "default"; /* and a node in none */
    bad[6].deletion_time_ms = 1;   /* nothing is born dying */
    const struct reference reference = {.resource = "pods", .name = "x"};
    bad[7].references = &reference;
    bad[7].reference_count = 1;
    for (unsigned i = 0; i < 8; i++) {
        expect(f, REFUSED_MALFORMED, record_put(f, PUT_ANY, &bad[i]));
    }

    struct object_put put = {.object = good};
    struct bytes body;
    const char *keys[] = {"",      "/configmaps/default/b",   "/configmaps/default/",
                          "x",     "/configmaps/default/aa",  "/configmaps/default/a/",
                          "/////", "v1/configmaps/default/a", "/secrets/default/a"};
    for (unsigned i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        assert_int_equal(codec_object_put_build(f->codec, &put, &body), STATUS_OK);
        expect(f, REFUSED_MALFORMED, record_of(f, RECORD_OBJECT_PUT, keys[i], body));
    }
    expect(f, REFUSED_MALFORMED,
           record_of(f, RECORD_OBJECT_PUT, "/configmaps/default/a", bytes_text("12345678")));
    expect(f, REFUSED_MALFORMED,
           record_of(f, RECORD_OBJECT_REMOVE, "/configmaps/default/a", (struct bytes){0}));
    expect(f, REFUSED_MALFORMED, bytes_of("\0\0\0\0\0\0\0\0", 8)); /* no record at all */
    expect(f, ACCEPTED, record_put(f, PUT_ANY, &good));
}

static void test_a_namespace_is_there_first_and_goes_last(void **state)
{
    (void)state;
    struct object map = object_configmap("a", "u1", "{}");
    map.namespace_ = "shop";
    expect(f, REFUSED_NAMESPACE_MISSING, record_put(f, PUT_CREATE, &map));
    struct object space = object_namespace("shop");
    expect(f, ACCEPTED, record_put(f, PUT_CREATE, &space));
    expect(f, ACCEPTED, record_put(f, PUT_CREATE, &map));
    assert_int_equal(expect(f, REFUSED_NOT_EMPTY, record_remove(f, "/namespaces//shop", 0, "")), 1);

    space.deletion_time_ms = 5;
    expect(f, REFUSED_NOT_EMPTY, record_put(f, PUT_UPDATE, &space)); /* would be the end of it */
    const char *finalizer = "kubernetes";
    space.finalizers = &finalizer;
    space.finalizer_count = 1;
    expect(f, ACCEPTED, record_put(f, PUT_UPDATE, &space));
    struct object other = map;
    other.name = "b";
    expect(f, REFUSED_NAMESPACE_TERMINATING, record_put(f, PUT_CREATE, &other));
    map.json = bytes_text("{\"x\":1}");
    expect(f, ACCEPTED, record_put(f, PUT_UPDATE, &map)); /* what is there may still change */
    expect(f, ACCEPTED, record_remove(f, key_of(&map), 0, ""));
    space.finalizer_count = 0;
    expect(f, ACCEPTED, record_put(f, PUT_UPDATE, &space));
    assert_false(exists("/namespaces//shop"));
    expect(f, REFUSED_NAMESPACE_MISSING, record_put(f, PUT_CREATE, &other));
}

static void test_finalizers_hold_an_object(void **state)
{
    (void)state;
    const char *finalizer = "kelp.io/hold";
    struct object map = object_configmap("a", "u1", "{}");
    map.finalizers = &finalizer;
    map.finalizer_count = 1;
    expect(f, ACCEPTED, record_put(f, PUT_CREATE, &map));
    expect(f, REFUSED_FINALIZERS, record_remove(f, key_of(&map), 0, ""));
    map.deletion_time_ms = 7;
    expect(f, ACCEPTED, record_put(f, PUT_UPDATE, &map));
    assert_true(exists("/configmaps/default/a"));
    map.finalizer_count = 0;
    expect(f, ACCEPTED, record_put(f, PUT_UPDATE, &map));
    assert_false(exists("/configmaps/default/a"));
}

static void test_preconditions_decide_a_remove(void **state)
{
    (void)state;
    const struct object map = object_configmap("a", "u1", "{}");
    expect(f, REFUSED_MISSING, record_remove(f, "/configmaps/default/a", 0, ""));
    const uint64_t version = expect(f, ACCEPTED, record_put(f, PUT_CREATE, &map));
    expect(f, REFUSED_CONFLICT, record_remove(f, "/configmaps/default/a", version - 1, ""));
    expect(f, REFUSED_UID, record_remove(f, "/configmaps/default/a", 0, "u2"));
    assert_true(expect(f, ACCEPTED, record_remove(f, "/configmaps/default/a", version, "u1")) >
                version);
    assert_false(exists("/configmaps/default/a"));
}

static void test_a_verdict_needs_its_object(void **state)
{
    (void)state;
    expect(f, REFUSED_MISSING, record_verdict(f, "/nodes//edge", "n1", true));
    const struct object node = object_node("edge", "n1");
    expect(f, ACCEPTED, record_put(f, PUT_CREATE, &node));
    expect(f, REFUSED_UID, record_verdict(f, "/nodes//edge", "n0", true));
    const uint64_t version = expect(f, ACCEPTED, record_verdict(f, "/nodes//edge", "n1", true));
    assert_int_equal(expect(f, ACCEPTED_UNCHANGED, record_verdict(f, "/nodes//edge", "n1", true)),
                     version);
    expect(f, ACCEPTED, record_verdict(f, "/nodes//edge", "n1", false));
    struct verdict verdict;
    assert_int_equal(
        codec_verdict_read(f->lent, row_of("/nodes//edge").parts[PART_VERDICT].body, &verdict),
        STATUS_OK);
    assert_false(verdict.reachable);
    expect(f, ACCEPTED, record_remove(f, "/nodes//edge", 0, ""));
    expect(f, ACCEPTED, record_put(f, PUT_CREATE, &node));
    assert_int_equal(row_of("/nodes//edge").parts[PART_VERDICT].version, 0); /* it went along */
}

static void test_kinds_have_their_places(void **state)
{
    (void)state;
    const uint16_t kinds[] = {RECORD_POD_STATUS, RECORD_POD_ENDED,   RECORD_NODE_STATUS,
                              RECORD_EDGE_EVENT, RECORD_POD_ATTEMPT, RECORD_DOWN_BATCH,
                              RECORD_UP_ACK,     RECORD_SNAPSHOT,    RECORD_STREAM_INIT,
                              RECORD_GAP};
    for (unsigned i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        assert_true(machine_knows(kinds[i]));
        expect(f, REFUSED_KIND, record_of(f, kinds[i], "/pods/default/a", bytes_text("12345678")));
    }
}

/* Claim: an entry with a record of an unknown kind changes nothing, the position included. */
static void test_an_unknown_kind_stops_the_replica(void **state)
{
    (void)state;
    assert_false(machine_knows(777));
    const struct object map = object_configmap("a", "u1", "{}");
    const struct bytes records[] = {record_put(f, PUT_CREATE, &map),
                                    record_of(f, 777, "x", bytes_text("12345678"))};
    const uint64_t before = machine_index(&f->machine);
    const struct bytes command = command_of(f, f->origin, 99, records, 2);
    assert_int_equal(machine_apply(&f->machine, before + 1, command, &f->applied),
                     STATUS_UNSUPPORTED);
    assert_int_equal(f->applied->unknown_kind, 777);
    assert_int_equal(machine_index(&f->machine), before);
    assert_false(exists("/configmaps/default/a"));
    expect(f, ACCEPTED, record_put(f, PUT_CREATE, &map));
}

static void test_an_entry_is_applied_once(void **state)
{
    (void)state;
    const struct object map = object_configmap("a", "u1", "{}");
    const struct bytes record = record_put(f, PUT_CREATE, &map);
    const struct bytes command = command_of(f, 1, 1, &record, 1);
    assert_int_equal(machine_apply(&f->machine, 10, command, &f->applied), STATUS_OK);
    assert_int_equal(f->applied->results[0].outcome, ACCEPTED);
    for (uint64_t index = 1; index <= 10; index++) {
        assert_int_equal(machine_apply(&f->machine, index, command, &f->applied), STATUS_OK);
        assert_true(f->applied->already);
    }
    assert_int_equal(machine_apply(&f->machine, 11, (struct bytes){0}, &f->applied), STATUS_OK);
    assert_false(f->applied->already);
    assert_int_equal(machine_apply(&f->machine, 12, bytes_text("nonsense"), &f->applied),
                     STATUS_OK);
    assert_true(f->applied->malformed);
    assert_int_equal(machine_index(&f->machine), 12);
}

/* Claim: a command that is proposed twice happens once, and both are told the same. */
static void test_a_command_proposed_twice_happens_once(void **state)
{
    (void)state;
    const uint64_t boot1 = UINT64_C(2) << 32 | 1;
    const uint64_t boot2 = UINT64_C(2) << 32 | 2;
    const struct object map = object_configmap("a", "u1", "{}");
    const struct bytes record = record_put(f, PUT_CREATE, &map);
    uint64_t index = machine_index(&f->machine);
    const struct bytes command = command_of(f, boot1, 7, &record, 1);
    assert_int_equal(machine_apply(&f->machine, ++index, command, &f->applied), STATUS_OK);
    assert_int_equal(f->applied->results[0].outcome, ACCEPTED);
    const uint64_t version = f->applied->results[0].value;
    assert_int_equal(machine_apply(&f->machine, ++index, command, &f->applied), STATUS_OK);
    assert_true(f->applied->duplicate);
    assert_int_equal(f->applied->result_count, 1);
    assert_int_equal(f->applied->results[0].outcome, ACCEPTED);
    assert_int_equal(f->applied->results[0].value, version);
    assert_int_equal(f->applied->version, f->applied->version_before);

    /* earlier sequences may still come, within the window */
    const struct bytes earlier = command_of(f, boot1, 3, &record, 1);
    assert_int_equal(machine_apply(&f->machine, ++index, earlier, &f->applied), STATUS_OK);
    assert_false(f->applied->duplicate);
    assert_int_equal(f->applied->results[0].outcome, REFUSED_EXISTS);

    const uint64_t window = (uint64_t)setting_rules[SETTING_ORIGIN_WINDOW].value;
    const struct bytes far = command_of(f, boot1, 7 + window, &record, 1);
    assert_int_equal(machine_apply(&f->machine, ++index, far, &f->applied), STATUS_OK);
    assert_int_equal(f->applied->results[0].outcome, REFUSED_EXISTS);
    assert_int_equal(machine_apply(&f->machine, ++index, command, &f->applied), STATUS_OK);
    assert_int_equal(f->applied->results[0].outcome, REFUSED_STALE_ORIGIN);

    /* once a newer boot was heard, the older one is over */
    const struct bytes newer = command_of(f, boot2, 1, &record, 1);
    assert_int_equal(machine_apply(&f->machine, ++index, newer, &f->applied), STATUS_OK);
    assert_int_equal(f->applied->results[0].outcome, REFUSED_EXISTS);
    const struct bytes late = command_of(f, boot1, 8 + window, &record, 1);
    assert_int_equal(machine_apply(&f->machine, ++index, late, &f->applied), STATUS_OK);
    assert_int_equal(f->applied->results[0].outcome, REFUSED_STALE_ORIGIN);
    const struct bytes other = command_of(f, UINT64_C(3) << 32 | 1, 1, &record, 1);
    assert_int_equal(machine_apply(&f->machine, ++index, other, &f->applied), STATUS_OK);
    assert_int_equal(f->applied->results[0].outcome, REFUSED_EXISTS);
}

static void test_a_full_store_applies_later_and_once(void **state)
{
    (void)state;
    const struct object map = object_configmap("a", "u1", "{}");
    const struct bytes record = record_put(f, PUT_CREATE, &map);
    const struct bytes command = command_of(f, 1, 1, &record, 1);
    const uint64_t index = machine_index(&f->machine) + 1;
    store_sim_fail(f->disk, 1, STATUS_FULL);
    assert_int_equal(machine_apply(&f->machine, index, command, &f->applied), STATUS_FULL);
    assert_int_equal(machine_apply(&f->machine, index, command, &f->applied), STATUS_FULL);
    store_sim_fail(f->disk, 1, 0);
    assert_int_equal(machine_apply(&f->machine, index, command, &f->applied), STATUS_OK);
    assert_int_equal(f->applied->results[0].outcome, ACCEPTED);
    assert_true(exists("/configmaps/default/a"));

    store_sim_fail(f->disk, 1, -EIO);
    const struct bytes remove = record_remove(f, "/configmaps/default/a", 0, "");
    const struct bytes second = command_of(f, 1, 2, &remove, 1);
    assert_int_equal(machine_apply(&f->machine, index + 1, second, &f->applied), -EIO);
    store_sim_fail(f->disk, 1, 0);
    assert_true(exists("/configmaps/default/a"));
    assert_int_equal(machine_index(&f->machine), index);
}

static void test_settings_and_limits(void **state)
{
    (void)state;
    expect(f, REFUSED_SETTING, record_setting(f, "no_such", 1));
    expect(f, REFUSED_SETTING, record_setting(f, "objects_max", -1));
    expect(f, ACCEPTED_UNCHANGED,
           record_setting(f, "objects_max", setting_rules[SETTING_OBJECTS_MAX].value));
    expect(f, ACCEPTED, record_setting(f, "objects_max", 3)); /* the namespace is one */
    /* What is in the log stays there: the feature level only rises. */
    assert_int_equal(machine_level(&f->machine), 1);
    expect(f, ACCEPTED, record_setting(f, "level", 3));
    expect(f, REFUSED_SETTING, record_setting(f, "level", 2));
    expect(f, ACCEPTED_UNCHANGED, record_setting(f, "level", 3));
    assert_int_equal(machine_level(&f->machine), 3);
    expect(f, ACCEPTED, record_setting(f, "nodes_max", 1));
    expect(f, ACCEPTED, record_setting(f, "references_max", 1));
    fixture_crash(f, 0);
    f->index = machine_index(&f->machine);
    const struct object first = object_namespace("default");
    apply(f, record_put(f, PUT_ANY, &first));
    expect(f, ACCEPTED, record_setting(f, "objects_max", 4));
    expect(f, ACCEPTED, record_setting(f, "objects_max", 3));

    const struct object node = object_node("edge", "n1");
    const struct object second = object_node("edge2", "n2");
    apply(f, record_setting(f, "nodes_max", 1));
    apply(f, record_setting(f, "references_max", 1));
    expect(f, ACCEPTED, record_put(f, PUT_CREATE, &node));
    assert_int_equal(expect(f, REFUSED_LIMIT, record_put(f, PUT_CREATE, &second)), 1);
    struct object map = object_configmap("a", "u1", "{}");
    expect(f, ACCEPTED, record_put(f, PUT_CREATE, &map));
    struct object pod = object_pod("p", "p1", "");
    assert_int_equal(expect(f, REFUSED_LIMIT, record_put(f, PUT_CREATE, &pod)), 3);
    expect(f, ACCEPTED, record_remove(f, key_of(&map), 0, ""));
    const struct reference references[] = {{.resource = "secrets", .name = "a"},
                                           {.resource = "secrets", .name = "b"}};
    pod.references = references;
    pod.reference_count = 2;
    assert_int_equal(expect(f, REFUSED_LIMIT, record_put(f, PUT_CREATE, &pod)), 1);
    pod.reference_count = 1;
    expect(f, ACCEPTED, record_put(f, PUT_CREATE, &pod));
}

static void test_a_cluster_is_named_once(void **state)
{
    (void)state;
    struct cluster_init init = {.cluster = "c1"};
    struct bytes body;
    assert_int_equal(codec_cluster_init_build(f->codec, &init, &body), STATUS_OK);
    expect(f, ACCEPTED, record_of(f, RECORD_CLUSTER_INIT, "", body));
    assert_int_equal(codec_cluster_init_build(f->codec, &init, &body), STATUS_OK);
    expect(f, ACCEPTED_UNCHANGED, record_of(f, RECORD_CLUSTER_INIT, "", body));
    init.cluster = "c2";
    assert_int_equal(codec_cluster_init_build(f->codec, &init, &body), STATUS_OK);
    expect(f, REFUSED_EXISTS, record_of(f, RECORD_CLUSTER_INIT, "", body));
    struct machine_meta meta;
    assert_int_equal(machine_meta_get(fixture_live(f), &meta), STATUS_OK);
    assert_string_equal(meta.cluster, "c1");
}

static void test_event_objects_grow_old(void **state)
{
    (void)state;
    const struct object map = object_configmap("a", "u1", "{}");
    struct object event = object_configmap("e", "u2", "{}");
    event.resource = "events";
    expect(f, ACCEPTED, record_put(f, PUT_CREATE, &map));
    expect(f, ACCEPTED, record_put(f, PUT_CREATE, &event));
    expect(f, ACCEPTED, record_remove(f, key_of(&event), 0, ""));
    f->time_ms += setting_rules[SETTING_EVENT_AGE_MS].value / 2;
    expect(f, ACCEPTED,
           record_put(f, PUT_CREATE, &event)); /* its first incarnation grows old first */
    f->time_ms += setting_rules[SETTING_EVENT_AGE_MS].value / 2 + 1000;
    expect(f, REFUSED_EXISTS, record_put(f, PUT_CREATE, &event));
    struct event_row row;
    assert_int_equal(event_next(fixture_live(f), 0, &row), OBJECT_NONE); /* not one of an edge */
    f->time_ms += setting_rules[SETTING_EVENT_AGE_MS].value;
    expect(f, REFUSED_MISSING, record_put(f, PUT_UPDATE, &event));
    assert_true(exists("/configmaps/default/a"));
    assert_int_equal(f->machine.meta.event_count, 0);
    assert_int_equal(f->machine.meta.object_count, 2);
}

static void test_time_never_goes_back(void **state)
{
    (void)state;
    const int64_t before = f->machine.meta.time_ms;
    f->time_ms -= 5000;
    expect(f, ACCEPTED, record_setting(f, "objects_max", 77));
    assert_int_equal(f->machine.meta.time_ms, before);
    f->time_ms += 9000;
    expect(f, ACCEPTED, record_setting(f, "objects_max", 78));
    assert_int_equal(f->machine.meta.time_ms, f->time_ms);
}

/* Claim: whatever one damaged byte makes of an entry, it is answered.
 * Method: every byte, two kinds of damage, of an entry with one record of each kind. */
static void test_flipped_bytes_are_answered(void **state)
{
    (void)state;
    const struct object node = object_node("edge", "n1");
    struct object pod = object_pod("p", "p1", "edge");
    const struct reference reference = {.resource = "secrets", .name = "s"};
    pod.references = &reference;
    pod.reference_count = 1;
    expect(f, ACCEPTED, record_put(f, PUT_CREATE, &node));
    expect(f, ACCEPTED, record_put(f, PUT_CREATE, &pod));
    expect(f, ACCEPTED, record_session(f, "edge", "n1", 5, 0));
    pod.json = bytes_text("{\"x\":1}");
    const struct bytes up[] = {record_pod_status(f, "/pods/default/p", "p1", POD_RUNNING),
                               record_node_status(f, "/nodes//edge", "4"),
                               record_event(f, "e", "hello"),
                               record_pod_ended(f, "/pods/default/p", "p1")};
    const struct bytes records[] = {record_put(f, PUT_UPDATE, &pod),
                                    record_verdict(f, "/nodes//edge", "n1", true),
                                    record_up(f, "edge", 1, 5, 0, up, 4),
                                    record_ack(f, "edge", 1, 8192, 1),
                                    record_session(f, "edge", "n1", 6, 0),
                                    record_setting(f, "nodes_max", 8),
                                    record_remove(f, "/pods/default/p", 0, ""),
                                    record_remove(f, "/nodes//edge", 0, "")};
    const struct bytes command = command_of(f, 1, 0, records, 8);
    uint8_t *bytes = aligned_alloc(8, (command.size + 7) & ~(size_t)7);
    uint64_t index = machine_index(&f->machine);
    uint32_t malformed = 0;
    uint32_t unknown = 0;
    for (size_t i = 0; i < command.size * 2; i++) {
        memcpy(bytes, command.data, command.size);
        bytes[i / 2] ^= i % 2 == 0 ? 0xff : 0x01;
        const int status =
            machine_apply(&f->machine, index + 1, bytes_of(bytes, command.size), &f->applied);
        assert_true(status == STATUS_OK || status == STATUS_UNSUPPORTED);
        index += status == STATUS_OK;
        malformed += f->applied->malformed;
        unknown += status == STATUS_UNSUPPORTED;
    }
    free(bytes);
    assert_true(malformed > 0);
    assert_true(unknown > 0);
}

static void test_records_of_one_command_see_each_other(void **state)
{
    (void)state;
    const struct object space = object_namespace("shop");
    struct object map = object_configmap("a", "u1", "{}");
    map.namespace_ = "shop";
    const struct bytes records[] = {record_put(f, PUT_CREATE, &space),
                                    record_put(f, PUT_CREATE, &map),
                                    record_put(f, PUT_CREATE, &map),
                                    record_remove(f, key_of(&map), 0, ""),
                                    record_remove(f, "/namespaces//shop", 0, ""),
                                    record_put(f, PUT_CREATE, &map)};
    apply_many(f, records, 6);
    const enum outcome outcomes[] = {ACCEPTED, ACCEPTED, REFUSED_EXISTS,
                                     ACCEPTED, ACCEPTED, REFUSED_NAMESPACE_MISSING};
    for (unsigned i = 0; i < 6; i++) {
        assert_int_equal(f->applied->results[i].outcome, outcomes[i]);
    }
}

static void test_a_list_goes_on_behind_a_key(void **state)
{
    (void)state;
    static const char *const names[] = {"a", "b", "bb", "c"};
    for (unsigned i = 0; i < 4; i++) {
        const struct object map = object_configmap(names[i], names[i], "{}");
        expect(f, ACCEPTED, record_put(f, PUT_CREATE, &map));
    }
    const struct object pod = object_pod("a", "p1", "");
    expect(f, ACCEPTED, record_put(f, PUT_CREATE, &pod));
    struct object_cursor cursor;
    struct object_row row;
    const struct bytes prefix = bytes_text("/configmaps/default/");
    object_cursor_open(&cursor, fixture_live(f), prefix, bytes_text("/configmaps/default/b"));
    assert_int_equal(object_cursor_next(&cursor, &row), STATUS_OK);
    assert_true(bytes_equal_text(row.key, "/configmaps/default/bb"));
    assert_int_equal(object_cursor_next(&cursor, &row), STATUS_OK);
    assert_true(bytes_equal_text(row.key, "/configmaps/default/c"));
    assert_int_equal(object_cursor_next(&cursor, &row), OBJECT_NONE);
    assert_int_equal(object_cursor_next(&cursor, &row), OBJECT_NONE);
    object_cursor_close(&cursor);
    object_cursor_open(&cursor, fixture_live(f), prefix, bytes_text("/configmaps/default/aa"));
    assert_int_equal(object_cursor_next(&cursor, &row), STATUS_OK);
    assert_true(bytes_equal_text(row.key, "/configmaps/default/b"));
    object_cursor_close(&cursor);
}

int main(void)
{
#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_preconditions_decide_a_put),
        CASE(test_a_fact_is_no_conflict),
        CASE(test_envelope_and_key_must_agree),
        CASE(test_a_namespace_is_there_first_and_goes_last),
        CASE(test_finalizers_hold_an_object),
        CASE(test_preconditions_decide_a_remove),
        CASE(test_a_verdict_needs_its_object),
        CASE(test_kinds_have_their_places),
        CASE(test_an_unknown_kind_stops_the_replica),
        CASE(test_an_entry_is_applied_once),
        CASE(test_a_command_proposed_twice_happens_once),
        CASE(test_a_full_store_applies_later_and_once),
        CASE(test_settings_and_limits),
        CASE(test_a_cluster_is_named_once),
        CASE(test_event_objects_grow_old),
        CASE(test_flipped_bytes_are_answered),
        CASE(test_time_never_goes_back),
        CASE(test_records_of_one_command_see_each_other),
        CASE(test_a_list_goes_on_behind_a_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
