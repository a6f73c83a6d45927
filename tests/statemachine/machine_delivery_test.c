/* Delivery: who hears of what, in which place; sessions and what comes up. */
#include "machine_reader.h"

#include <stdio.h>

static struct fixture fixture;
static struct fixture *const f = &fixture;

static const struct reference references_c[] = {{.resource = "configmaps", .name = "c"}};

static int set_up(void **state)
{
    (void)state;
    fixture_open(f);
    const struct object space = object_namespace("default");
    expect(f, ACCEPTED, record_put(f, PUT_CREATE, &space));
    const struct object node = object_node("edge", "n1");
    expect(f, ACCEPTED, record_put(f, PUT_CREATE, &node));
    return 0;
}

/* Of a group whose members all know what this release does. */
static int set_up_level(void **state)
{
    set_up(state);
    expect(f, ACCEPTED, record_setting(f, "level", MACHINE_LEVEL));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fixture_close(f);
    return 0;
}

static struct node_row node_of(const char *name)
{
    struct node_row node = {0};
    const int status = node_get(fixture_live(f), name, &node);
    assert_true(status == STATUS_OK || status == NODE_NONE);
    return node;
}

static struct object pod_with_c(const char *name, const char *uid, const char *node)
{
    struct object pod = object_pod(name, uid, node);
    pod.references = references_c;
    pod.reference_count = 1;
    return pod;
}

static struct object_row row_of(const char *key)
{
    struct object_row row = {0};
    const int status = object_get(fixture_live(f), bytes_text(key), &row);
    assert_true(status == STATUS_OK || status == OBJECT_NONE);
    return row;
}

/* What the reader hears now, in order. */
static const char *heard(struct reader *reader)
{
    reader->order[0] = '\0';
    reader_drain(f, reader, 1 << 20);
    return reader->order;
}

static void put(const struct object *object)
{
    expect(f, ACCEPTED, record_put(f, PUT_ANY, object));
}

static void drop(const struct object *object)
{
    expect(f, ACCEPTED, record_remove(f, key_of(object), 0, ""));
}

static void test_a_pod_brings_what_it_names(void **state)
{
    (void)state;
    struct reader reader = {.node = "edge"};
    struct object map = object_configmap("c", "c1", "{}");
    const struct object unused = object_configmap("x", "x1", "{}");
    const struct object pod = pod_with_c("p", "p1", "edge");
    const struct object other = pod_with_c("q", "q1", "edge");
    assert_string_equal(heard(&reader), ""); /* a snapshot of nothing */
    assert_int_equal(reader.snapshots, 1);
    put(&map);
    put(&unused);
    assert_string_equal(heard(&reader), "");
    put(&pod);
    assert_int_equal(f->applied->node_count, 1);
    assert_string_equal(f->applied->nodes[0].node, "edge");
    assert_true(f->applied->nodes[0].down);
    assert_string_equal(heard(&reader), "+/configmaps/default/c +/pods/default/p");
    put(&other); /* shares the config map, which is there already */
    assert_string_equal(heard(&reader), "+/pods/default/q");
    map.json = bytes_text("{\"x\":1}");
    put(&map);
    assert_string_equal(heard(&reader), "+/configmaps/default/c");
    drop(&pod);
    assert_string_equal(heard(&reader), "-/pods/default/p");
    drop(&other);
    assert_string_equal(heard(&reader), "-/pods/default/q ~/configmaps/default/c");
    map.json = bytes_text("{}");
    put(&map);
    assert_int_equal(f->applied->node_count, 0);
    assert_string_equal(heard(&reader), "");
    assert_int_equal(reader.snapshots, 1);
}

static void test_what_a_pod_names_may_come_later_and_go_earlier(void **state)
{
    (void)state;
    struct reader reader = {.node = "edge"};
    const struct object pod = pod_with_c("p", "p1", "edge");
    struct object map = object_configmap("c", "c1", "{}");
    put(&pod);
    assert_string_equal(heard(&reader), "+/pods/default/p");
    put(&map);
    assert_string_equal(heard(&reader), "+/configmaps/default/c");
    drop(&map);
    assert_string_equal(heard(&reader), "-/configmaps/default/c");
    map.uid = "c2";
    put(&map);
    assert_string_equal(heard(&reader), "+/configmaps/default/c");
    map.uid = "c2";
    drop(&map); /* the end of c2 and the begin of c3 are both unread */
    map.uid = "c3";
    put(&map);
    assert_string_equal(heard(&reader), "-/configmaps/default/c +/configmaps/default/c");
    assert_string_equal(reader_find(&reader, "/configmaps/default/c")->uid, "c3");
}

static void test_a_pod_may_name_other_things(void **state)
{
    (void)state;
    struct reader reader = {.node = "edge"};
    const struct reference both[] = {{.resource = "configmaps", .name = "c"},
                                     {.resource = "secrets", .name = "s"},
                                     {.resource = "configmaps", .name = "c"}};
    struct object secret = object_configmap("s", "s1", "{}");
    secret.resource = "secrets";
    const struct object map = object_configmap("c", "c1", "{}");
    struct object pod = pod_with_c("p", "p1", "edge");
    put(&map);
    put(&secret);
    put(&pod);
    assert_string_equal(heard(&reader), "+/configmaps/default/c +/pods/default/p");
    pod.references = both;
    pod.reference_count = 3;
    put(&pod);
    assert_string_equal(heard(&reader), "+/secrets/default/s +/pods/default/p");
    pod.references = both + 1;
    pod.reference_count = 1;
    put(&pod);
    assert_string_equal(heard(&reader), "+/pods/default/p ~/configmaps/default/c");
    drop(&pod);
    assert_string_equal(heard(&reader), "-/pods/default/p ~/secrets/default/s");
}

static void test_a_pod_that_moves_leaves_and_arrives(void **state)
{
    (void)state;
    struct reader reader = {.node = "edge"};
    struct reader other = {.node = "edge2"};
    const struct object node = object_node("edge2", "n2");
    const struct object map = object_configmap("c", "c1", "{}");
    put(&node);
    put(&map);
    struct object pod = pod_with_c("p", "p1", "");
    put(&pod);
    assert_string_equal(heard(&reader), "");
    assert_string_equal(heard(&other), "");
    pod.node_name = "edge";
    put(&pod);
    assert_string_equal(heard(&reader), "+/configmaps/default/c +/pods/default/p");
    const uint64_t epoch = expect(f, ACCEPTED, record_session(f, "edge", "n1", 5, 0));
    const struct bytes status = record_pod_status(f, "/pods/default/p", "p1", POD_RUNNING);
    expect(f, ACCEPTED, record_up(f, "edge", epoch, 5, 0, &status, 1));
    assert_true(row_of("/pods/default/p").parts[PART_FACT].version > 0);
    pod.node_name = "edge2";
    put(&pod);
    assert_int_equal(row_of("/pods/default/p").parts[PART_FACT].version, 0);
    assert_string_equal(heard(&reader), "~/pods/default/p ~/configmaps/default/c");
    assert_string_equal(heard(&other), "+/configmaps/default/c +/pods/default/p");
    assert_int_equal(node_of("edge").bound_count, 0);
    assert_int_equal(node_of("edge2").bound_count, 1);
}

static void test_a_newer_row_takes_the_place_of_an_unread_one(void **state)
{
    (void)state;
    struct reader reader = {.node = "edge"};
    assert_string_equal(heard(&reader), "");
    struct object map = object_configmap("c", "c1", "{}");
    const struct object pod = pod_with_c("p", "p1", "edge");
    const struct object never = object_pod("n", "n1", "edge");
    put(&map);
    put(&pod);
    for (unsigned i = 0; i < 100; i++) {
        map.json = bytes_text(i % 2 == 0 ? "{\"v\":0}" : "{\"v\":1}");
        put(&map);
    }
    put(&never);
    drop(&never); /* a put that was never sent: the remove stays, some replica may have sent it */
    assert_int_equal(node_of("edge").down_tip, 104);
    assert_int_equal(node_of("edge").down_count, 3);
    assert_string_equal(heard(&reader), "+/pods/default/p +/configmaps/default/c -/pods/default/n");
}

/* Claim: whatever the size of a batch, and from any position above the floor, the end is the same. */
static void test_batches_of_any_size_join(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 20; i++) {
        char name[16];
        snprintf(name, sizeof name, "p%u", i);
        const struct object pod = object_pod(name, name, "edge");
        put(&pod);
    }
    const uint64_t stream = node_of("edge").down_stream;
    for (size_t bytes = 1; bytes < 20000; bytes = bytes * 3 + 100) {
        struct reader reader = {.node = "edge", .stream = stream};
        reader_drain(f, &reader, bytes);
        assert_int_equal(reader.snapshots, 0);
        assert_int_equal(reader.row_count, 20);
    }
    struct bytes bytes;
    uint64_t last;
    assert_int_equal(
        delivery_read(fixture_live(f), f->lent, "edge", stream, 21, 100, &bytes, &last),
        DELIVERY_AHEAD);
    assert_int_equal(
        delivery_read(fixture_live(f), f->lent, "edge", stream, 20, 100, &bytes, &last),
        DELIVERY_END);
    assert_int_equal(
        delivery_read(fixture_live(f), f->lent, "edge", stream + 1, 0, 100, &bytes, &last),
        DELIVERY_SNAPSHOT);
    assert_int_equal(delivery_read(fixture_live(f), f->lent, "no", stream, 0, 100, &bytes, &last),
                     DELIVERY_NO_NODE);
}

static void test_an_ack_is_fenced_and_lets_rows_go(void **state)
{
    (void)state;
    const uint64_t stream = node_of("edge").down_stream;
    const uint64_t epoch = expect(f, ACCEPTED, record_session(f, "edge", "n1", 5, 0));
    assert_true(f->applied->nodes[0].session);
    for (unsigned i = 0; i < 10; i++) {
        char name[16];
        snprintf(name, sizeof name, "p%u", i);
        const struct object pod = object_pod(name, name, "edge");
        put(&pod);
    }
    assert_int_equal(expect(f, REFUSED_EPOCH, record_ack(f, "edge", epoch + 1, stream, 5)), epoch);
    assert_int_equal(expect(f, REFUSED_STREAM, record_ack(f, "edge", epoch, stream + 1, 5)),
                     stream);
    assert_int_equal(expect(f, REFUSED_POSITION, record_ack(f, "edge", epoch, stream, 11)), 10);
    expect(f, REFUSED_MISSING, record_ack(f, "none", epoch, stream, 5));
    assert_int_equal(expect(f, ACCEPTED, record_ack(f, "edge", epoch, stream, 5)), 5);
    assert_int_equal(expect(f, ACCEPTED_UNCHANGED, record_ack(f, "edge", epoch, stream, 3)), 5);
    assert_int_equal(node_of("edge").down_count, 5);
    struct reader reader = {.node = "edge", .stream = stream, .position = 4};
    assert_int_equal(reader_step(f, &reader, 1 << 20), DELIVERY_SNAPSHOT); /* below the floor */
    assert_int_equal(reader.row_count, 10);
    assert_int_equal(expect(f, ACCEPTED, record_ack(f, "edge", epoch, stream, 10)), 10);
    assert_int_equal(node_of("edge").down_count, 0);
}

static void test_a_node_too_far_behind_gets_a_snapshot(void **state)
{
    (void)state;
    expect(f, ACCEPTED, record_setting(f, "down_rows_max", 16));
    struct reader reader = {.node = "edge"};
    reader_drain(f, &reader, 1 << 20);
    for (unsigned i = 0; i < 60; i++) {
        char name[16];
        snprintf(name, sizeof name, "p%u", i);
        const struct object pod = object_pod(name, name, "edge");
        put(&pod);
        assert_true(node_of("edge").down_count <= 17);
    }
    assert_int_equal(reader.snapshots, 1);
    reader_drain(f, &reader, 1 << 20);
    assert_int_equal(reader.snapshots, 2);
    assert_int_equal(reader.row_count, 60);
}

struct size {
    uint64_t rows;
    uint64_t bytes;
};

/* Of the rows of one table. */
static struct size size_of(unsigned table)
{
    struct size size = {0};
    struct store_iterator *iterator = store_iterate(fixture_live(f), table, (struct bytes){0});
    for (bool on = store_iterator_first(iterator); on; on = store_iterator_next(iterator)) {
        size.rows++;
        size.bytes += store_iterator_key(iterator).size + store_iterator_value(iterator).size;
    }
    store_iterator_close(iterator);
    return size;
}

/* Claim: an acknowledgement of many rows lets go of them and of no other, however many at a time. */
static void test_an_ack_of_many_rows_lets_go_of_those(void **state)
{
    (void)state;
    enum { ROWS = 400, ACKED = 390 };
    const size_t prefix = strlen("edge") + 1;
    expect(f, ACCEPTED, record_setting(f, "node_pods_max", ROWS));
    for (unsigned i = 0; i < ROWS; i++) {
        char name[16];
        snprintf(name, sizeof name, "p%u", i);
        const struct object pod = object_pod(name, name, "edge");
        put(&pod);
    }
    const uint64_t epoch = expect(f, ACCEPTED, record_session(f, "edge", "n1", 5, 0));
    const uint64_t stream = node_of("edge").down_stream;
    for (uint64_t acked = 1; acked <= ACKED; acked += 30 + 10 * (acked % 3)) {
        expect(f, ACCEPTED, record_ack(f, "edge", epoch, stream, acked));
        assert_int_equal(node_of("edge").down_swept, acked);
        assert_int_equal(node_of("edge").down_count, ROWS - acked);
        struct store_iterator *iterator =
            store_iterate(fixture_live(f), TABLE_DOWN, (struct bytes){0});
        uint64_t sequence = acked;
        for (bool on = store_iterator_first(iterator); on; on = store_iterator_next(iterator)) {
            sequence++;
            assert_int_equal(get_be64(store_iterator_key(iterator).data + prefix), sequence);
        }
        store_iterator_close(iterator);
        assert_int_equal(sequence, ROWS);
        assert_in_range(size_of(TABLE_DOWN_KEY).rows, 0, ROWS - acked);
    }
}

/* Claim: a node that never returns costs no more than its bound, however long its pods come, change and go,
 * and so does the process that proposes all of that; the node that does return after all gets a snapshot and
 * ends with the digest of the cloud (reader_drain). Method: ten thousand pods with a config map each, bounds of
 * a few rows, every table counted as it goes. */
static void test_a_node_that_never_returns_is_bounded(void **state)
{
    (void)state;
    enum { ROWS_MAX = 64, ROUNDS = 10000, LOOK = 37 };
    const uint64_t window = LIMIT_PROPOSALS;
    expect(f, ACCEPTED, record_setting(f, "down_rows_max", ROWS_MAX));
    expect(f, ACCEPTED, record_setting(f, "change_history_bytes", 0));
    expect(f, ACCEPTED, record_setting(f, "origin_window", (int64_t)window));
    struct reader reader = {.node = "edge"};
    const struct object stays = object_pod("stays", "stays", "edge");
    put(&stays);
    reader_drain(f, &reader, 1 << 20);
    expect(f, ACCEPTED, record_session(f, "edge", "n1", 5, 0));
    uint64_t before = 0;
    for (unsigned table = 0; table <= TABLE_EVENT; table++) {
        before += table == TABLE_ORIGIN ? 0 : size_of(table).bytes;
    }

    struct object map = object_configmap("c", "c1", "{}");
    put(&map);
    uint64_t most = 0;
    for (unsigned i = 0; i < ROUNDS; i++) {
        char name[16];
        snprintf(name, sizeof name, "p%u", i);
        const struct object pod = pod_with_c(name, name, "edge");
        put(&pod);
        map.json = bytes_text(i % 2 == 0 ? "{\"v\":0}" : "{\"v\":1}");
        put(&map);
        drop(&pod);
        assert_true(node_of("edge").down_count <= ROWS_MAX + 1);
        if (i % LOOK != 0) {
            continue;
        }
        uint64_t bytes = 0;
        for (unsigned table = 0; table <= TABLE_EVENT; table++) {
            const struct size size = size_of(table);
            bytes += table == TABLE_ORIGIN ? 0 : size.bytes;
            assert_true(table != TABLE_DOWN || size.rows <= ROWS_MAX + 1);
            assert_true(table != TABLE_DOWN_KEY || size.rows <= ROWS_MAX + 1);
            assert_true(table != TABLE_ORIGIN || size.rows <= window + 1);
            assert_true((table != TABLE_HELD && table != TABLE_BOUND) || size.rows <= 3);
            assert_true(table != TABLE_REF || size.rows == 0);
        }
        most = most < bytes ? bytes : most;
    }
    /* The config map, and for each row that waits: header, two keys and a number; names are short here. */
    assert_true(most < before + 1024 + (ROWS_MAX + 1) * 160);
    assert_true(node_of("edge").down_tip > 3 * ROUNDS);
    assert_int_equal(reader.snapshots, 1);
    reader_drain(f, &reader, 1 << 20);
    assert_int_equal(reader.snapshots, 2);
    assert_int_equal(reader.row_count, 1);
}

static void test_a_node_deleted_and_added_again_starts_clean(void **state)
{
    (void)state;
    struct reader reader = {.node = "edge"};
    const struct object map = object_configmap("c", "c1", "{}");
    const char *finalizer = "kelp.io/hold";
    const struct object pod = pod_with_c("p", "p1", "edge");
    struct object kept = object_pod("k", "k1", "edge");
    kept.finalizers = &finalizer;
    kept.finalizer_count = 1;
    put(&map);
    put(&pod);
    put(&kept);
    reader_drain(f, &reader, 1 << 20);
    const uint64_t epoch = expect(f, ACCEPTED, record_session(f, "edge", "n1", 5, 0));
    const struct bytes up[] = {record_node_status(f, "/nodes//edge", "4"),
                               record_event(f, "", "hello")};
    expect(f, ACCEPTED, record_up(f, "edge", epoch, 5, 0, up, 2));
    const uint64_t stream = node_of("edge").down_stream;

    expect(f, ACCEPTED, record_remove(f, "/nodes//edge", 0, ""));
    assert_true(f->applied->nodes[0].removed);
    assert_int_equal(row_of("/pods/default/p").version, 0);
    assert_true(row_of("/pods/default/k").version > 0); /* somebody still holds it */
    assert_true(row_of("/configmaps/default/c").version > 0);
    struct event_row event;
    assert_int_equal(event_next(fixture_live(f), 0, &event), OBJECT_NONE);
    for (unsigned table = TABLE_NODE; table <= TABLE_HELD; table++) {
        struct store_iterator *iterator = store_iterate(fixture_live(f), table, (struct bytes){0});
        assert_false(store_iterator_first(iterator));
        store_iterator_close(iterator);
    }
    expect(f, REFUSED_MISSING, record_ack(f, "edge", epoch, stream, 1));

    const struct object again = object_node("edge", "n2");
    put(&again);
    assert_true(f->applied->nodes[0].stream);
    assert_true(node_of("edge").down_stream != stream);
    assert_int_equal(node_of("edge").epoch, 0);
    assert_int_equal(row_of("/nodes//edge").parts[PART_FACT].version, 0);
    expect(f, REFUSED_UID, record_session(f, "edge", "n1", 5, 2));
    assert_string_equal(heard(&reader), "+/pods/default/k"); /* bound before the node was there */
    assert_int_equal(reader.snapshots, 2);
    assert_int_equal(reader.row_count, 1);
}

static void test_a_pod_waits_for_its_end(void **state)
{
    (void)state;
    struct reader reader = {.node = "edge"};
    struct object pod = object_pod("p", "p1", "edge");
    put(&pod);
    reader_drain(f, &reader, 1 << 20);
    const uint64_t epoch = expect(f, ACCEPTED, record_session(f, "edge", "n1", 5, 0));
    pod.deletion_time_ms = 99;
    put(&pod);
    assert_true(row_of("/pods/default/p").version > 0);
    assert_string_equal(heard(&reader), "+/pods/default/p");
    const struct bytes wrong = record_pod_ended(f, "/pods/default/p", "p0");
    expect(f, ACCEPTED, record_up(f, "edge", epoch, 5, 0, &wrong, 1));
    assert_int_equal(node_of("edge").refused_count, 1);
    assert_true(row_of("/pods/default/p").version > 0);
    const struct bytes ended = record_pod_ended(f, "/pods/default/p", "p1");
    expect(f, ACCEPTED, record_up(f, "edge", epoch, 5, 1, &ended, 1));
    assert_int_equal(row_of("/pods/default/p").version, 0);
    assert_string_equal(heard(&reader), "-/pods/default/p");

    /* the other way round: it ended by itself, is deleted later, and finalizers hold it longer */
    const char *finalizer = "kelp.io/hold";
    pod = object_pod("p", "p2", "edge");
    pod.finalizers = &finalizer;
    pod.finalizer_count = 1;
    put(&pod);
    const struct bytes again = record_pod_ended(f, "/pods/default/p", "p2");
    expect(f, ACCEPTED, record_up(f, "edge", epoch, 5, 2, &again, 1));
    assert_true(row_of("/pods/default/p").ended);
    assert_int_equal(row_of("/pods/default/p").parts[PART_FACT].body.size, 0);
    pod.deletion_time_ms = 100;
    put(&pod);
    assert_true(row_of("/pods/default/p").version > 0);
    pod.finalizer_count = 0;
    put(&pod);
    assert_int_equal(row_of("/pods/default/p").version, 0);
    assert_string_equal(heard(&reader), "-/pods/default/p");

    /* nobody to wait for */
    pod = object_pod("q", "q1", "");
    put(&pod);
    pod.deletion_time_ms = 100;
    put(&pod);
    assert_int_equal(row_of("/pods/default/q").version, 0);
    pod = object_pod("q", "q2", "nowhere");
    put(&pod);
    pod.deletion_time_ms = 100;
    put(&pod);
    assert_int_equal(row_of("/pods/default/q").version, 0);
    pod = object_pod("q", "q3", "edge"); /* by force */
    put(&pod);
    drop(&pod);
    assert_string_equal(heard(&reader), "-/pods/default/q");
}

static void test_a_node_writes_its_own_facts_only(void **state)
{
    (void)state;
    const struct object other = object_node("edge2", "n2");
    const struct object mine = object_pod("p", "p1", "edge");
    const struct object theirs = object_pod("q", "q1", "edge2");
    const struct object map = object_configmap("c", "c1", "{}");
    put(&other);
    put(&mine);
    put(&theirs);
    const uint64_t epoch = expect(f, ACCEPTED, record_session(f, "edge", "n1", 5, 0));
    const struct bytes up[] = {
        record_node_status(f, "/nodes//edge2", "4"),
        record_pod_status(f, "/pods/default/q", "q1", POD_RUNNING),
        record_pod_ended(f, "/pods/default/q", "q1"),
        record_pod_status(f, "/pods/default/x", "x1", POD_RUNNING),
        record_pod_status(f, "/pods/default/p", "p0", POD_RUNNING),
        record_pod_status(f, "/nodes//edge", "n1", POD_RUNNING),
        record_node_status(f, "/pods/default/p", "4"),
        record_put(f, PUT_ANY, &map),
        record_of(f, RECORD_POD_STATUS, "/pods/default/p", bytes_text("12345678")),
        bytes_text("no record at all"),
        record_pod_status(f, "/pods/default/p", "p1", POD_RUNNING), /* and the batch goes on */
        record_node_status(f, "/nodes//edge", "8"),
    };
    assert_int_equal(expect(f, ACCEPTED, record_up(f, "edge", epoch, 5, 0, up, 12)), 12);
    assert_int_equal(node_of("edge").refused_count, 10);
    assert_int_equal(row_of("/nodes//edge2").parts[PART_FACT].version, 0);
    assert_int_equal(row_of("/pods/default/q").parts[PART_FACT].version, 0);
    assert_int_equal(row_of("/configmaps/default/c").version, 0);
    struct pod_status pod;
    assert_int_equal(
        codec_pod_status_read(f->lent, row_of("/pods/default/p").parts[PART_FACT].body, &pod),
        STATUS_OK);
    assert_int_equal(pod.phase, POD_RUNNING);
    struct node_status status;
    assert_int_equal(
        codec_node_status_read(f->lent, row_of("/nodes//edge").parts[PART_FACT].body, &status),
        STATUS_OK);
    assert_string_equal(status.capacity[0].value, "8");
}

static void test_an_upward_batch_is_applied_once(void **state)
{
    (void)state;
    const struct object pod = object_pod("p", "p1", "edge");
    put(&pod);
    expect(f, REFUSED_MALFORMED, record_session(f, "edge", "n1", 0, 0));
    expect(f, REFUSED_MISSING, record_session(f, "none", "n1", 5, 0));
    const uint64_t old = expect(f, ACCEPTED, record_session(f, "edge", "n1", 5, 3));
    const uint64_t epoch = expect(f, ACCEPTED, record_session(f, "edge", "n1", 5, 0));
    assert_true(epoch > old);
    assert_int_equal(node_of("edge").up_position, 3); /* the same stream never goes back */
    struct bytes up[3];
    for (unsigned i = 0; i < 3; i++) {
        up[i] = record_event(f, "", "tick");
    }
    assert_int_equal(expect(f, REFUSED_EPOCH, record_up(f, "edge", old, 5, 3, up, 3)), epoch);
    for (unsigned i = 0; i < 3; i++) {
        up[i] = record_event(f, "", "tick");
    }
    assert_int_equal(expect(f, REFUSED_STREAM, record_up(f, "edge", epoch, 6, 3, up, 3)), 5);
    for (unsigned i = 0; i < 3; i++) {
        up[i] = record_event(f, "", "tick");
    }
    assert_int_equal(expect(f, REFUSED_GAP, record_up(f, "edge", epoch, 5, 4, up, 3)), 3);
    for (uint64_t previous = 1; previous <= 3; previous++) { /* overlaps what is known */
        for (unsigned i = 0; i < 3; i++) {
            up[i] = record_event(f, "", "tick");
        }
        apply(f, record_up(f, "edge", epoch, 5, previous, up, 3));
        assert_int_equal(f->applied->results[0].value, previous + 3);
        assert_true(f->applied->nodes[0].up);
    }
    assert_int_equal(node_of("edge").event_count, 3); /* 4, 5, 6: each once */
    for (unsigned i = 0; i < 3; i++) {
        up[i] = record_event(f, "", "tick");
    }
    assert_int_equal(expect(f, ACCEPTED_UNCHANGED, record_up(f, "edge", epoch, 5, 2, up, 3)), 6);
    /* The edge was acknowledged further than this row knows: believed only when every replica would. */
    expect(f, ACCEPTED, record_session(f, "edge", "n1", 5, 9));
    assert_int_equal(node_of("edge").up_position, 6);
    expect(f, ACCEPTED, record_setting(f, "level", 3));
    expect(f, ACCEPTED, record_session(f, "edge", "n1", 5, 9));
    assert_int_equal(node_of("edge").up_position, 9);
    expect(f, ACCEPTED, record_session(f, "edge", "n1", 5, 6));
    assert_int_equal(node_of("edge").up_position, 9);
    const uint64_t fresh = expect(f, ACCEPTED, record_session(f, "edge", "n1", 7, 0));
    assert_int_equal(node_of("edge").up_position, 0); /* a new disk at the edge */
    const struct bytes status = record_pod_status(f, "/pods/default/p", "p1", POD_RUNNING);
    assert_int_equal(expect(f, ACCEPTED, record_up(f, "edge", fresh, 7, 0, &status, 1)), 1);
}

static void test_events_are_bounded(void **state)
{
    (void)state;
    expect(f, ACCEPTED, record_setting(f, "event_rows_max", 3));
    const uint64_t epoch = expect(f, ACCEPTED, record_session(f, "edge", "n1", 5, 0));
    for (uint64_t i = 0; i < 5; i++) {
        char text[8];
        snprintf(text, sizeof text, "%d", (int)i);
        const struct bytes event = record_event(f, i == 4 ? "/events/default/3" : text, text);
        expect(f, ACCEPTED, record_up(f, "edge", epoch, 5, i, &event, 1));
    }
    const struct bytes again =
        record_event(f, "3", "again"); /* takes the place of the one before */
    expect(f, ACCEPTED, record_up(f, "edge", epoch, 5, 5, &again, 1));
    const char *const messages[] = {"2", "4", "again"};
    struct event_row row = {0};
    for (unsigned i = 0; i < 3; i++) {
        struct edge_event event;
        assert_int_equal(event_next(fixture_live(f), row.version, &row), STATUS_OK);
        assert_int_equal(codec_edge_event_read(f->lent, row.body, &event), STATUS_OK);
        assert_string_equal(event.message, messages[i]);
        assert_string_equal(row.node, "edge");
    }
    assert_int_equal(event_next(fixture_live(f), row.version, &row), OBJECT_NONE);
    const struct gap gap = {.first = 7, .last = 9};
    struct bytes body;
    assert_int_equal(codec_gap_build(f->codec, &gap, &body), STATUS_OK);
    const struct bytes lost = record_of(f, RECORD_GAP, "", body);
    expect(f, ACCEPTED, record_up(f, "edge", epoch, 5, 6, &lost, 1));
    assert_int_equal(node_of("edge").gap_count, 3);

    f->time_ms += setting_rules[SETTING_EVENT_AGE_MS].value + 1000;
    expect(f, ACCEPTED_UNCHANGED, record_setting(f, "event_rows_max", 3));
    assert_int_equal(event_next(fixture_live(f), 0, &row), OBJECT_NONE);
    struct machine_meta meta;
    assert_int_equal(machine_meta_get(fixture_live(f), &meta), STATUS_OK);
    assert_int_equal(meta.event_count, 0);
    assert_int_equal(node_of("edge").event_count, 0);
    struct store_iterator *iterator =
        store_iterate(fixture_live(f), TABLE_EVENT, (struct bytes){0});
    assert_false(store_iterator_first(iterator)); /* no index row is left behind */
    store_iterator_close(iterator);
}

static void test_a_node_takes_so_many_pods(void **state)
{
    (void)state;
    expect(f, ACCEPTED, record_setting(f, "node_pods_max", 2));
    const struct object a = object_pod("a", "a", "edge");
    const struct object b = object_pod("b", "b", "edge");
    struct object c = object_pod("c", "c", "edge");
    put(&a);
    put(&b);
    assert_int_equal(expect(f, REFUSED_LIMIT, record_put(f, PUT_CREATE, &c)), 2);
    c.node_name = "";
    put(&c);
    c.node_name = "edge";
    assert_int_equal(expect(f, REFUSED_LIMIT, record_put(f, PUT_UPDATE, &c)), 2);
    drop(&a);
    put(&c);
}

/* Claim: a config map reaches exactly the nodes that use it, each once however many of its pods do. */
static void test_a_config_map_reaches_those_who_use_it(void **state)
{
    (void)state;
    struct object map = object_configmap("c", "c1", "{}");
    put(&map);
    static const char *const nodes[] = {"a", "ab", "b", "none"};
    for (unsigned i = 0; i < 4; i++) {
        if (i < 3) {
            const struct object node = object_node(nodes[i], nodes[i]);
            put(&node);
        }
        for (unsigned j = 0; j < 3; j++) {
            char name[16];
            snprintf(name, sizeof name, "%s%u", nodes[i], j);
            const struct object pod = pod_with_c(name, name, nodes[i]);
            put(&pod);
        }
    }
    map.json = bytes_text("{\"x\":1}");
    put(&map);
    assert_int_equal(f->applied->node_count, 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_string_equal(f->applied->nodes[i].node, nodes[i]);
        assert_int_equal(node_of(nodes[i]).down_tip, 5);
        struct reader reader = {.node = nodes[i]};
        reader_drain(f, &reader, 1 << 20);
        assert_int_equal(reader_find(&reader, "/configmaps/default/c")->bytes, 7);
    }
    struct node_row row;
    assert_int_equal(node_next(fixture_live(f), "", &row), STATUS_OK);
    assert_string_equal(row.name, "a");
    assert_int_equal(node_next(fixture_live(f), "a", &row), STATUS_OK);
    assert_string_equal(row.name, "ab");
    assert_int_equal(node_next(fixture_live(f), "edge", &row), NODE_NONE);
}

int main(void)
{
#define CASE(test)                                                                                 \
    cmocka_unit_test_setup_teardown(test, set_up, tear_down),                                      \
        cmocka_unit_test_setup_teardown(test, set_up_level, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_a_pod_brings_what_it_names),
        CASE(test_what_a_pod_names_may_come_later_and_go_earlier),
        CASE(test_a_pod_may_name_other_things),
        CASE(test_a_pod_that_moves_leaves_and_arrives),
        CASE(test_a_newer_row_takes_the_place_of_an_unread_one),
        CASE(test_batches_of_any_size_join),
        CASE(test_an_ack_is_fenced_and_lets_rows_go),
        CASE(test_an_ack_of_many_rows_lets_go_of_those),
        CASE(test_a_node_too_far_behind_gets_a_snapshot),
        CASE(test_a_node_that_never_returns_is_bounded),
        CASE(test_a_node_deleted_and_added_again_starts_clean),
        CASE(test_a_pod_waits_for_its_end),
        CASE(test_a_node_writes_its_own_facts_only),
        cmocka_unit_test_setup_teardown(test_an_upward_batch_is_applied_once, set_up,
                                        tear_down), /* raises it itself */
        CASE(test_events_are_bounded),
        CASE(test_a_node_takes_so_many_pods),
        CASE(test_a_config_map_reaches_those_who_use_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
