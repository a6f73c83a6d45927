/* One contract, two disks: log/disk.h holds for the real one and for the simulated one. */
#include "log/disk_uv.h"
#include "schemas/check.h"
#include "schemas/status.h"
#include "tests/sim/disk_sim.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>
#include <uv.h>

#include <cmocka.h>

struct world {
    struct disk *disk;
    char directory[64];
    struct disk_uv *uv;
    struct sim sim;
    struct disk_sim disk_sim;
};

static void world_init(struct world *world, bool real)
{
    *world = (struct world){0};
    if (real) {
        strcpy(world->directory, "/tmp/kelp-disk-XXXXXX");
        assert_non_null(mkdtemp(world->directory));
        world->uv = disk_uv_new(uv_default_loop());
        world->disk = disk_uv_disk(world->uv);
    } else {
        strcpy(world->directory, "/d");
        sim_init(&world->sim, 3);
        disk_sim_init(&world->disk_sim, &world->sim);
        world->disk = &world->disk_sim.disk;
    }
}

static void world_run(struct world *world)
{
    if (world->uv != NULL) {
        uv_run(uv_default_loop(), UV_RUN_DEFAULT);
    } else {
        while (sim_step(&world->sim)) {
        }
    }
}

static void world_deinit(struct world *world)
{
    if (world->uv != NULL) {
        char command[128];
        disk_uv_free(world->uv);
        snprintf(command, sizeof command, "rm -r '%s'", world->directory);
        assert_int_equal(system(command), 0);
    } else {
        disk_sim_deinit(&world->disk_sim);
        sim_deinit(&world->sim);
    }
}

static const char *path_of(const struct world *world, const char *name, char out[96])
{
    snprintf(out, 96, "%s/%s", world->directory, name);
    return out;
}

static void count_name(void *context, const char *name)
{
    if (strcmp(name, "a") == 0 || strcmp(name, "b") == 0 || strcmp(name, "r") == 0) {
        *(uint32_t *)context += 1;
    }
}

static void check_calls(bool real)
{
    struct world world;
    char a[96];
    char b[96];
    world_init(&world, real);
    struct disk *disk = world.disk;
    path_of(&world, "a", a);
    path_of(&world, "b", b);
    struct disk_file *file;
    struct disk_file *lock;
    struct disk_file *again;
    uint8_t data[64];
    uint64_t size;
    size_t got;

    assert_int_equal(disk_make_directory(disk, world.directory), 0);
    assert_int_equal(disk_make_directory(disk, world.directory), 0);
    assert_int_equal(disk_lock_directory(disk, world.directory, &lock), 0);
    assert_int_equal(disk_lock_directory(disk, world.directory, &again), STATUS_LOCKED);
    disk_close(disk, lock);
    assert_int_equal(disk_lock_directory(disk, world.directory, &lock), 0);
    disk_close(disk, lock);

    assert_int_equal(disk_open(disk, a, DISK_OPEN_READ, &file), -ENOENT);
    assert_int_equal(disk_open(disk, a, DISK_OPEN_WRITE, &file), -ENOENT);
    assert_int_equal(disk_open(disk, a, DISK_OPEN_CREATE, &file), 0);
    assert_int_equal(disk_write(disk, file, 10, (const uint8_t *)"hello", 5), 0);
    assert_int_equal(disk_zero(disk, file, 12, 100), 0);
    assert_int_equal(disk_sync(disk, file), 0);
    assert_int_equal(disk_size(disk, file, &size), 0);
    assert_int_equal(size, 112);
    assert_int_equal(disk_read(disk, file, 8, data, 8, &got), 0);
    assert_int_equal(got, 8);
    assert_memory_equal(data, "\0\0he\0\0\0\0", 8);
    assert_int_equal(disk_read(disk, file, 110, data, 8, &got), 0);
    assert_int_equal(got, 2);
    assert_int_equal(disk_read(disk, file, 200, data, 8, &got), 0);
    assert_int_equal(got, 0);
    assert_int_equal(disk_truncate(disk, file, 11), 0);
    assert_int_equal(disk_size(disk, file, &size), 0);
    assert_int_equal(size, 11);
    disk_close(disk, file);

    uint32_t names = 0;
    assert_int_equal(disk_rename(disk, a, b), 0);
    assert_int_equal(disk_open(disk, a, DISK_OPEN_READ, &file), -ENOENT);
    const struct bytes pieces[3] = {bytes_text("one"), bytes_text(""), bytes_text("two")};
    assert_int_equal(disk_replace(disk, world.directory, "r", pieces, 3), 0);
    assert_int_equal(disk_replace(disk, world.directory, "r", pieces, 3), 0);
    assert_int_equal(disk_open(disk, path_of(&world, "r", a), DISK_OPEN_READ, &file), 0);
    assert_int_equal(disk_read(disk, file, 0, data, sizeof data, &got), 0);
    assert_int_equal(got, 6);
    assert_memory_equal(data, "onetwo", 6);
    disk_close(disk, file);
    assert_int_equal(disk_list(disk, world.directory, count_name, &names), 0);
    assert_int_equal(names, 2);
    assert_int_equal(disk_unlink(disk, b), 0);
    assert_int_equal(disk_unlink(disk, b), 0);
    assert_int_equal(disk_sync_directory(disk, world.directory), 0);
    world_deinit(&world);
}

static uint32_t called;
static uint32_t order[8];
static struct disk_job jobs[8];

static void on_job(struct disk_job *job)
{
    order[called] = (uint32_t)(job - jobs);
    called++;
}

/* Claim: jobs of a lane end in their order, never inside submit; a failing step ends its job and
 * those that were submitted behind it, none of which is tried; what is submitted after its callback
 * is. */
static void check_jobs(bool real)
{
    struct world world;
    char a[96];
    char b[96];
    world_init(&world, real);
    struct disk *disk = world.disk;
    struct disk_file *file;
    assert_int_equal(disk_make_directory(disk, world.directory), 0);
    assert_int_equal(disk_open(disk, path_of(&world, "a", a), DISK_OPEN_CREATE, &file), 0);
    struct disk_step steps[8][3];
    called = 0;
    for (uint32_t i = 0; i < 8; i++) {
        const bool fails = i == 3;
        steps[i][0] = (struct disk_step){.kind = DISK_STEP_WRITE,
                                         .file = file,
                                         .offset = i,
                                         .data = (const uint8_t *)&"abcdefgh"[i],
                                         .size = 1};
        steps[i][1] = (struct disk_step){.kind = fails ? DISK_STEP_RENAME : DISK_STEP_SYNC,
                                         .file = file,
                                         .path = path_of(&world, "missing", b),
                                         .path_new = a};
        steps[i][2] = (struct disk_step){.kind = DISK_STEP_ZERO, .file = file, .size = fails};
        jobs[i] = (struct disk_job){.steps = steps[i],
                                    .step_count = fails ? 3 : 2,
                                    .lane = DISK_LANE_FLUSH,
                                    .callback = on_job};
        disk_submit(disk, &jobs[i]);
        assert_int_equal(called, 0);
    }
    world_run(&world);
    assert_int_equal(called, 8);
    for (uint32_t i = 0; i < 8; i++) {
        assert_int_equal(order[i], i);
        assert_int_equal(jobs[i].status, i >= 3 ? -ENOENT : 0);
    }
    assert_int_equal(jobs[3].step_failed, 1);
    uint8_t data[8];
    size_t got;
    assert_int_equal(disk_read(disk, file, 0, data, 8, &got), 0);
    assert_int_equal(got, 4); /* neither the step behind the failure was done nor the jobs */
    assert_memory_equal(data, "abcd", 4);

    called = 0;
    disk_submit(disk, &jobs[7]);
    world_run(&world);
    assert_int_equal(called, 1);
    assert_int_equal(jobs[7].status, 0);
    assert_int_equal(disk_read(disk, file, 0, data, 8, &got), 0);
    assert_int_equal(got, 8);
    assert_memory_equal(data, "abcd\0\0\0h", 8);
    disk_close(disk, file);
    world_deinit(&world);
}

static void test_calls_of_the_real_disk(void **state)
{
    (void)state;
    check_calls(true);
}

static void test_calls_of_the_simulated_disk(void **state)
{
    (void)state;
    check_calls(false);
}

static void test_jobs_of_the_real_disk(void **state)
{
    (void)state;
    check_jobs(true);
}

static void test_jobs_of_the_simulated_disk(void **state)
{
    (void)state;
    check_jobs(false);
}

/* Claim: what was synced survives whatever happens, what was not may be there sector by sector. */
static void test_simulated_crash_forgets_what_was_not_synced(void **state)
{
    (void)state;
    struct world world;
    world_init(&world, false);
    struct disk *disk = world.disk;
    static uint8_t old[4096];
    static uint8_t new[4096];
    memset(old, 'o', sizeof old);
    memset(new, 'n', sizeof new);
    bool torn = false;
    for (uint32_t round = 0; round < 200; round++) {
        struct disk_file *file;
        uint8_t *data;
        size_t size;
        assert_int_equal(disk_open(disk, "/d/a", DISK_OPEN_CREATE, &file), 0);
        assert_int_equal(disk_write(disk, file, 0, old, sizeof old), 0);
        assert_int_equal(disk_sync(disk, file), 0);
        assert_int_equal(disk_sync_directory(disk, "/d"), 0);
        assert_int_equal(disk_write(disk, file, 0, new, sizeof new), 0);
        disk_sim_crash(&world.disk_sim, round == 0   ? DISK_SIM_POWER_DROP
                                        : round == 1 ? DISK_SIM_POWER_KEEP
                                                     : DISK_SIM_POWER);
        assert_int_equal(disk_sync(disk, file), -EIO);
        disk_close(disk, file);
        disk_sim_peek(&world.disk_sim, "/d/a", &data, &size);
        assert_int_equal(size, sizeof old);
        uint32_t kept = 0;
        for (uint32_t sector = 0; sector < 8; sector++) {
            const uint8_t *bytes = data + (size_t)sector * 512;
            const bool is_new = memcmp(bytes, new, 512) == 0;
            assert_true(is_new || memcmp(bytes, old, 512) == 0);
            kept += is_new;
        }
        assert_true(round != 0 || kept == 0);
        assert_true(round != 1 || kept == 8);
        torn = torn || (kept > 0 && kept < 8);
        free(data);
    }
    assert_true(torn);
    world_deinit(&world);
}

/* Claim: a sync that failed leaves what looks written and never will be, whatever is synced later; what is
 * written again is another matter. And a clone is what the disk was then, pending writes included. */
static void test_simulated_failed_sync_forgets(void **state)
{
    (void)state;
    struct world world;
    struct sim sim;
    struct disk_sim clone;
    struct disk_file *file;
    uint8_t *data;
    size_t size;
    world_init(&world, false);
    struct disk *disk = world.disk;
    assert_int_equal(disk_open(disk, "/d/a", DISK_OPEN_CREATE, &file), 0);
    assert_int_equal(disk_write(disk, file, 0, (const uint8_t *)"first", 5), 0);
    assert_int_equal(disk_sync(disk, file), 0);
    assert_int_equal(disk_sync_directory(disk, "/d"), 0);
    assert_int_equal(disk_write(disk, file, 0, (const uint8_t *)"other", 5), 0);

    sim_init(&sim, 1);
    disk_sim_clone(&clone, &sim, &world.disk_sim);
    world.disk_sim.fail_at = world.disk_sim.operations + 1;
    world.disk_sim.fail_status = -EIO;
    world.disk_sim.fail_forgets = true;
    assert_int_equal(disk_sync(disk, file), -EIO);
    assert_int_equal(disk_sync(disk, file), 0);
    disk_close(disk, file);
    disk_sim_crash(&world.disk_sim, DISK_SIM_KILL);
    disk_sim_peek(&world.disk_sim, "/d/a", &data, &size);
    assert_memory_equal(data, "other", 5);
    free(data);
    disk_sim_crash(&world.disk_sim, DISK_SIM_POWER_KEEP);
    disk_sim_peek(&world.disk_sim, "/d/a", &data, &size);
    assert_memory_equal(data, "first", 5);
    free(data);

    disk_sim_crash(&clone, DISK_SIM_POWER_KEEP);
    disk_sim_peek(&clone, "/d/a", &data, &size);
    assert_int_equal(size, 5);
    assert_memory_equal(data, "other", 5);
    free(data);
    disk_sim_deinit(&clone);
    sim_deinit(&sim);
    world_deinit(&world);
}

/* Claim: the real disk continues a short write, and answers an error when it cannot; a full disk is
 * -ENOSPC.
 * Method: the kernel writes as much as the limit on file sizes allows, then refuses. */
static void test_a_short_write_is_no_success(void **state)
{
    (void)state;
    struct world world;
    struct disk_file *file;
    struct rlimit before;
    char path[96];
    static uint8_t block[8192];
    uint64_t size;
    world_init(&world, true);
    struct disk *disk = world.disk;
    assert_int_equal(disk_open(disk, path_of(&world, "a", path), DISK_OPEN_CREATE, &file), 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    const struct rlimit tight = {.rlim_cur = 5000, .rlim_max = before.rlim_max};
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    const int written = disk_write(disk, file, 0, block, sizeof block);
    const int zeroed = disk_zero(disk, file, 0, sizeof block);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, handler);
    assert_int_equal(written, -EFBIG);
    assert_int_equal(zeroed, -EFBIG);
    assert_int_equal(disk_size(disk, file, &size), 0);
    assert_int_equal(size, 5000); /* it was a short one */
    assert_int_equal(disk_write(disk, file, 0, block, sizeof block), 0);
    disk_close(disk, file);
    if (disk_open(disk, "/dev/full", DISK_OPEN_WRITE, &file) == 0) {
        assert_int_equal(disk_write(disk, file, 0, block, sizeof block), -ENOSPC);
        disk_close(disk, file);
    }
    world_deinit(&world);
}

static void note_event(void *context)
{
    struct sim *sim = context;
    assert_true(called < 8);
    order[called] = (uint32_t)sim->now_us;
    called++;
}

/* Claim: events fire by time, then by the order they were scheduled; the dead fire no more. */
static void test_simulated_events_fire_in_order(void **state)
{
    (void)state;
    struct sim sim;
    sim_init(&sim, 1);
    const uint64_t dead = sim_owner_new(&sim);
    const uint64_t alive = sim_owner_new(&sim);
    called = 0;
    sim_after(&sim, 30, alive, note_event, &sim);
    sim_after(&sim, 10, alive, note_event, &sim);
    sim_after(&sim, 20, dead, note_event, &sim);
    const uint64_t cancelled = sim_after(&sim, 5, alive, note_event, &sim);
    sim_after(&sim, 15, 0, note_event, &sim);
    sim_cancel(&sim, cancelled);
    sim_cancel_owner(&sim, dead);
    sim_run_until(&sim, 20);
    assert_int_equal(called, 2);
    assert_int_equal(sim.now_us, 20);
    while (sim_step(&sim)) {
    }
    assert_int_equal(called, 3);
    assert_int_equal(order[0], 10);
    assert_int_equal(order[1], 15);
    assert_int_equal(order[2], 30);
    sim_deinit(&sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calls_of_the_real_disk),
        cmocka_unit_test(test_calls_of_the_simulated_disk),
        cmocka_unit_test(test_jobs_of_the_real_disk),
        cmocka_unit_test(test_jobs_of_the_simulated_disk),
        cmocka_unit_test(test_simulated_crash_forgets_what_was_not_synced),
        cmocka_unit_test(test_simulated_failed_sync_forgets),
        cmocka_unit_test(test_a_short_write_is_no_success),
        cmocka_unit_test(test_simulated_events_fire_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
