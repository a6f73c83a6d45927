/* The machine on the real store: the same rows as on its simulated twin, and how fast. The figures
 * are printed, not judged: the machine that runs this has other work. */
#include "machine_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define OBJECTS 10000u
#define BATCH   500u
#define FANOUT  1000u

struct both {
    struct store *store;
    struct machine machine;
    double seconds;
};

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static uint64_t next_index;

/* One entry on both; answers what it did. */
static const struct machine_applied *twins_apply(struct fixture *f, struct both *rocks,
                                                 const struct bytes *records, uint32_t count)
{
    const struct machine_applied *applied;
    next_index++;
    f->sequence++;
    const struct bytes command = command_of(f, f->origin, f->sequence, records, count);
    assert_int_equal(machine_apply(&f->machine, next_index, command, &applied), STATUS_OK);
    const double begin = now_s();
    int status = machine_apply(&rocks->machine, next_index, command, &applied);
    while (status == STATUS_FULL) {
        usleep(1000); /* the disk is slower than we are; not a synchronisation */
        status = machine_apply(&rocks->machine, next_index, command, &applied);
    }
    rocks->seconds += now_s() - begin;
    assert_int_equal(status, STATUS_OK);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(applied->results[i].outcome, ACCEPTED);
    }
    codec_reset(f->codec);
    return applied;
}

static void check_equal(struct fixture *f, struct both *rocks)
{
    uint64_t ours;
    uint64_t theirs;
    assert_int_equal(machine_digest(fixture_live(f), &ours), STATUS_OK);
    assert_int_equal(machine_digest(store_live(rocks->store), &theirs), STATUS_OK);
    assert_true(ours == theirs);
}

static void test_the_real_store_holds_the_same_rows(void **state)
{
    (void)state;
    char directory[] = "/tmp/kelp_machine_XXXXXX";
    assert_non_null(mkdtemp(directory));
    char path[64];
    snprintf(path, sizeof path, "%s/state", directory);
    const struct store_options options = {.directory = path,
                                          .profile = STORE_CLOUD,
                                          .machine = MACHINE_NAME,
                                          .format = MACHINE_FORMAT};
    struct fixture f;
    struct both rocks = {0};
    fixture_open(&f);
    assert_int_equal(store_rocks_open(&options, &rocks.store), STATUS_OK);
    assert_int_equal(machine_open(&rocks.machine, rocks.store), STATUS_OK);
    static struct bytes records[BATCH];
    static char json[1025];
    memset(json, 'x', 1024);

    struct object object = object_namespace("default");
    records[0] = record_put(&f, PUT_CREATE, &object);
    twins_apply(&f, &rocks, records, 1);
    rocks.seconds = 0;
    for (uint32_t i = 0; i < OBJECTS; i += BATCH) {
        for (uint32_t j = 0; j < BATCH; j++) {
            const char *name = codec_print(f.codec, "map-%u", i + j);
            object = object_configmap(name, name, json);
            records[j] = record_put(&f, PUT_CREATE, &object);
        }
        twins_apply(&f, &rocks, records, BATCH);
    }
    print_message("create: %.0f objects of 1 KiB per second, %u an entry\n",
                  (double)OBJECTS / rocks.seconds, BATCH);
    check_equal(&f, &rocks);

    const struct reference reference = {.resource = "configmaps", .name = "map-0"};
    for (uint32_t i = 0; i < FANOUT; i++) {
        const char *name = codec_print(f.codec, "edge-%u", i);
        object = object_node(name, name);
        records[0] = record_put(&f, PUT_CREATE, &object);
        object = object_pod(name, name, name);
        object.references = &reference;
        object.reference_count = 1;
        records[1] = record_put(&f, PUT_CREATE, &object);
        twins_apply(&f, &rocks, records, 2);
    }
    rocks.seconds = 0;
    for (uint32_t i = 0; i < 20; i++) {
        json[0] = (char)('a' + i);
        object = object_configmap("map-0", "map-0", json);
        records[0] = record_put(&f, PUT_UPDATE, &object);
        const struct machine_applied *applied = twins_apply(&f, &rocks, records, 1);
        assert_int_equal(applied->node_count, FANOUT);
    }
    print_message("fan-out: %.1f ms for a config map that %u nodes use\n",
                  rocks.seconds * 1000 / 20, FANOUT);
    check_equal(&f, &rocks);

    assert_int_equal(store_flush(rocks.store), STATUS_OK);
    machine_close(&rocks.machine);
    store_close(rocks.store);
    assert_int_equal(store_rocks_open(&options, &rocks.store), STATUS_OK);
    assert_int_equal(machine_open(&rocks.machine, rocks.store), STATUS_OK);
    assert_int_equal(machine_index(&rocks.machine), next_index);
    check_equal(&f, &rocks);

    rocks.seconds = 0;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < FANOUT; i++) {
        struct node_row node;
        struct bytes batch;
        uint64_t last;
        const char *name = codec_print(f.codec, "edge-%u", i);
        assert_int_equal(node_get(store_live(rocks.store), name, &node), STATUS_OK);
        codec_reset(f.lent);
        const double begin = now_s();
        assert_int_equal(delivery_read(store_live(rocks.store), f.lent, name, node.down_stream, 0,
                                       LIMIT_FEED_APPEND_BYTES, &batch, &last),
                         DELIVERY_BATCH);
        rocks.seconds += now_s() - begin;
        assert_int_equal(last, node.down_tip);
        bytes += batch.size;
    }
    print_message("read: %.0f us per batch of two rows, %u bytes each\n",
                  rocks.seconds * 1e6 / FANOUT, (unsigned)(bytes / FANOUT));

    rocks.seconds = 0;
    for (uint32_t i = 0; i < FANOUT; i++) {
        const char *name = codec_print(f.codec, "edge-%u", i);
        records[0] = record_session(&f, name, name, 5, 0);
        const char *key = codec_print(f.codec, "/pods/default/%s", name);
        const struct bytes up = record_pod_status(&f, key, name, POD_RUNNING);
        records[1] = record_up(&f, name, 1, 5, 0, &up, 1);
        twins_apply(&f, &rocks, records, 2);
    }
    print_message("sessions: %.0f us for an entry with a session and a batch of one status\n",
                  rocks.seconds * 1e6 / FANOUT);
    check_equal(&f, &rocks);
    machine_close(&rocks.machine);
    store_close(rocks.store);
    assert_int_equal(store_rocks_destroy(path), STATUS_OK);
    assert_int_equal(rmdir(directory), 0);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_the_real_store_holds_the_same_rows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
