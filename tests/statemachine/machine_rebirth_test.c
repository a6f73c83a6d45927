/* A state that begins another timeline: no number of the one that was lost means anything in it. */
#include "machine_fixture.h"

#include <stdio.h>

#include "statemachine/rebirth.h"

static struct fixture fixture;
static struct fixture *const f = &fixture;

static const struct object_pod_names {
    const char *name, *uid;
} pods[] = {{"p1", "u1"}, {"p2", "u2"}};

static int set_up(void **state)
{
    (void)state;
    fixture_open(f);
    const struct cluster_init init = {.cluster = "c"};
    const struct object space = object_namespace("default");
    const struct object node = object_node("edge", "n1");
    struct bytes body;
    assert_int_equal(codec_cluster_init_build(f->codec, &init, &body), STATUS_OK);
    expect(f, ACCEPTED, record_of(f, RECORD_CLUSTER_INIT, "", body));
    expect(f, ACCEPTED, record_put(f, PUT_CREATE, &space));
    expect(f, ACCEPTED, record_put(f, PUT_CREATE, &node));
    for (size_t i = 0; i < 2; i++) {
        const struct object pod = object_pod(pods[i].name, pods[i].uid, "edge");
        expect(f, ACCEPTED, record_put(f, PUT_CREATE, &pod));
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fixture_close(f);
    return 0;
}

static void rebirth(uint64_t epoch, uint64_t chance)
{
    const struct machine_rebirth how = {.epoch = epoch, .chance = chance};
    const uint64_t index = machine_rebirth_index(machine_index(&f->machine), &how);
    assert_int_equal(machine_rebirth(&f->machine, &how), STATUS_OK);
    assert_int_equal(machine_index(&f->machine), index);
    f->index = index;
}

static struct node_row node(void)
{
    struct node_row row;
    assert_int_equal(node_get(fixture_live(f), "edge", &row), STATUS_OK);
    return row;
}

static int no_change(void *context, const struct change *change)
{
    (void)context;
    (void)change;
    fail_msg("there is no history");
    return 0;
}

/* Claim: versions, indexes, streams and epochs are above all that the lost timeline can have given out, and two
 * timelines of one backup are apart; objects, the name of the cluster and its time stay.
 * Method: the numbers before and after, twice from the same rows. */
static void test_numbers_jump(void **state)
{
    (void)state;
    const uint64_t session = expect(f, ACCEPTED, record_session(f, "edge", "n1", 77, 5));
    const struct machine_meta before = f->machine.meta;
    const struct node_row stood = node();
    const uint64_t index = machine_index(&f->machine);
    uint64_t position;
    assert_int_equal(store_checkpoint(f->store, "backup", &position), STATUS_OK);

    rebirth(9, 1);
    const struct machine_meta first = f->machine.meta;
    assert_int_equal(first.epoch, 9);
    assert_true(first.version >= before.version + REBIRTH_JUMP);
    assert_true(machine_index(&f->machine) >= index + REBIRTH_JUMP);
    assert_string_equal(first.cluster, "c");
    assert_int_equal(first.time_ms, before.time_ms);
    assert_int_equal(first.object_count, before.object_count);
    const struct node_row stands = node();
    assert_int_not_equal(stands.down_stream, stood.down_stream);
    assert_int_equal(stands.down_tip, stood.down_tip);
    assert_int_equal(stands.down_floor, stood.down_tip);
    assert_int_equal(stands.down_count, 0);
    assert_int_equal(stands.held_count, stood.held_count);
    assert_true(tag_equal(stands.digest, stood.digest));
    assert_true(stands.epoch >= session + REBIRTH_SESSIONS);
    assert_int_equal(stands.up_stream, 0);

    machine_close(&f->machine);
    store_close(f->store);
    assert_int_equal(store_sim_restore(f->disk, f->disk, "backup"), STATUS_OK);
    assert_int_equal(store_sim_open(f->disk, MACHINE_NAME, MACHINE_FORMAT, &f->store), STATUS_OK);
    assert_int_equal(machine_open(&f->machine, f->store), STATUS_OK);
    rebirth(10, UINT64_C(0x123456789abcdef));
    assert_int_not_equal(f->machine.meta.version, first.version);
    assert_int_not_equal(node().down_stream, stands.down_stream);
}

/* Claim: who held a number of the lost timeline is told so, and never given rows as if nothing were missing.
 * Method: a watch at every version that there was, a reader at every position, a session, a batch and a command of
 * before. */
static void test_numbers_of_before_are_refused(void **state)
{
    (void)state;
    const uint64_t session = expect(f, ACCEPTED, record_session(f, "edge", "n1", 77, 0));
    const struct node_row stood = node();
    const uint64_t version = f->machine.meta.version;
    const struct bytes fact = record_node_status(f, "/nodes//edge", "1");
    rebirth(2, 3);

    for (uint64_t after = 0; after <= version + 1000; after++) {
        uint64_t reached;
        assert_int_equal(
            change_read(&f->machine, fixture_live(f), after, 10, 1000, no_change, NULL, &reached),
            CHANGE_EXPIRED);
    }
    struct bytes batch;
    uint64_t last;
    for (uint64_t after = 0; after <= stood.down_tip; after++) {
        assert_int_equal(delivery_read(fixture_live(f), f->lent, "edge", stood.down_stream, after,
                                       1000, &batch, &last),
                         DELIVERY_SNAPSHOT);
    }
    expect(f, REFUSED_EPOCH, record_up(f, "edge", session, 77, 0, &fact, 1));
    expect(f, REFUSED_EPOCH, record_ack(f, "edge", session, stood.down_stream, 1));

    struct machine_meta meta;
    assert_int_equal(machine_meta_get(fixture_live(f), &meta), STATUS_OK);
    assert_int_equal(meta.epoch, 2);
}

/* Claim: an edge goes on where it is, though the cloud has forgotten what it was told.
 * Method: its first session says a position far above; the next batch follows that. */
static void test_an_edge_goes_on_where_it_is(void **state)
{
    (void)state;
    expect(f, ACCEPTED, record_session(f, "edge", "n1", 77, 5));
    rebirth(2, 3);
    const uint64_t session = expect(f, ACCEPTED, record_session(f, "edge", "n1", 77, 900));
    const struct bytes fact = record_pod_status(f, "/pods/default/p1", "u1", 1);
    assert_int_equal(expect(f, ACCEPTED, record_up(f, "edge", session, 77, 900, &fact, 1)), 901);
}

/* Claim: a command that was answered before is a new one after, under whatever number.
 * Method: the same one twice, across. */
static void test_answers_are_forgotten(void **state)
{
    (void)state;
    const struct object map = object_configmap("m", "m1", "{}");
    struct bytes record = record_put(f, PUT_ANY, &map);
    const struct machine_applied *applied;
    struct bytes command = command_of(f, 7, 3, &record, 1);
    f->index++;
    assert_int_equal(machine_apply(&f->machine, f->index, command, &applied), STATUS_OK);
    rebirth(2, 3);
    record = record_put(f, PUT_ANY, &map);
    command = command_of(f, 7, 3, &record, 1);
    f->index++;
    assert_int_equal(machine_apply(&f->machine, f->index, command, &applied), STATUS_OK);
    assert_false(applied->duplicate);
}

/* Claim: whatever fails on the way, the same call again ends with the same rows.
 * Method: fail commit 1, 2, 3 ... until a run meets no failure; digests are compared. */
static void test_a_failure_is_made_good_by_the_same_call(void **state)
{
    (void)state;
    const struct machine_rebirth how = {.epoch = 2, .chance = 3};
    uint64_t position;
    uint64_t wanted;
    uint64_t digest;
    assert_int_equal(store_checkpoint(f->store, "before", &position), STATUS_OK);
    assert_int_equal(machine_rebirth(&f->machine, &how), STATUS_OK);
    assert_int_equal(machine_digest(fixture_live(f), &wanted), STATUS_OK);
    bool failed = true;
    for (uint64_t n = 1; failed; n++) {
        machine_close(&f->machine);
        store_close(f->store);
        assert_int_equal(store_sim_restore(f->disk, f->disk, "before"), STATUS_OK);
        assert_int_equal(store_sim_open(f->disk, MACHINE_NAME, MACHINE_FORMAT, &f->store),
                         STATUS_OK);
        assert_int_equal(machine_open(&f->machine, f->store), STATUS_OK);
        store_sim_fail(f->disk, n, -EIO);
        const int status = machine_rebirth(&f->machine, &how);
        store_sim_fail(f->disk, 1, 0);
        failed = status != STATUS_OK;
        if (failed) {
            assert_int_equal(status, -EIO);
            assert_int_equal(machine_rebirth(&f->machine, &how), STATUS_OK);
        }
        assert_int_equal(machine_digest(fixture_live(f), &digest), STATUS_OK);
        assert_int_equal(digest, wanted);
    }
}

/* Claim: an epoch that is not above, or numbers that are used up, change nothing. */
static void test_what_cannot_be_changes_nothing(void **state)
{
    (void)state;
    uint64_t before;
    uint64_t after;
    struct machine_rebirth how = {.epoch = MACHINE_EPOCH_FIRST, .chance = 3};
    assert_int_equal(machine_digest(fixture_live(f), &before), STATUS_OK);
    assert_int_equal(machine_rebirth(&f->machine, &how), STATUS_UNSUPPORTED);
    assert_int_equal(machine_digest(fixture_live(f), &after), STATUS_OK);
    assert_int_equal(before, after);
    unsigned times = 0;
    how.epoch = 2;
    while (machine_rebirth(&f->machine, &how) == STATUS_OK) {
        how.epoch++;
        how.chance = how.chance * 6364136223846793005u + 1;
        times++;
    }
    assert_in_range(times, 500, 1024);
    assert_int_equal(machine_rebirth_index(machine_index(&f->machine), &how), 0);
    assert_true(node().epoch < UINT64_C(1) << 43);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_numbers_jump),
        TEST(test_numbers_of_before_are_refused),
        TEST(test_an_edge_goes_on_where_it_is),
        TEST(test_answers_are_forgotten),
        TEST(test_a_failure_is_made_good_by_the_same_call),
        TEST(test_what_cannot_be_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
