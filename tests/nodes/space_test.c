/* space.h: the levels as numbers, and the reserve on a real file system. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cmocka.h>
#include <uv.h>

#include "log/disk_uv.h"
#include "log/log.h"
#include "nodes/space.h"

#define MIB (1024u * 1024u)

/* Claim: less room never means a better level, from whatever level one comes; the bounds are those that the
 * configuration names; and between two bounds the level stays what it was. Method: every amount. */
static void test_levels(void **state)
{
    (void)state;
    static const enum space_level levels[] = {SPACE_PLENTY, SPACE_LOW, SPACE_NONE};
    for (size_t i = 0; i < 3; i++) {
        enum space_level worse = SPACE_NONE;
        for (uint64_t bytes = 0; bytes < 2000; bytes++) {
            const enum space_level level = space_decide(levels[i], bytes, 1000);
            assert_true(level <= worse);
            worse = level;
            assert_int_equal(space_decide(level, bytes, 1000), level); /* no flapping */
            assert_true(bytes >= 1000 || level != SPACE_PLENTY);
            assert_true(bytes >= 250 || level == SPACE_NONE);
        }
        assert_int_equal(worse, SPACE_PLENTY);
    }
    assert_int_equal(space_decide(SPACE_PLENTY, 1000, 1000), SPACE_PLENTY);
    assert_int_equal(space_decide(SPACE_LOW, 1249, 1000), SPACE_LOW);
    assert_int_equal(space_decide(SPACE_LOW, 1250, 1000), SPACE_PLENTY);
    assert_int_equal(space_decide(SPACE_NONE, 499, 1000), SPACE_NONE);
    assert_int_equal(space_decide(SPACE_NONE, 500, 1000), SPACE_LOW);
}

static char directory[64];

static uint64_t used(void)
{
    struct statvfs about;
    assert_int_equal(statvfs(directory, &about), 0);
    return (uint64_t)(about.f_blocks - about.f_bfree) * about.f_frsize;
}

/* Make the file that fills the disk this large. */
static void fill(uint64_t bytes)
{
    char path[96];
    snprintf(path, sizeof path, "%s/filler", directory);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    static char block[MIB];
    for (uint64_t i = 0; i < bytes / MIB; i++) {
        assert_int_equal(fwrite(block, 1, sizeof block, file), sizeof block);
    }
    assert_int_equal(fclose(file), 0);
}

/* Claim: the reserve takes its bytes while there is room, gives them back when there is none, and takes them
 * again only when they are there beside what is free; a new start finds it as it is. Method: a tmpfs of
 * 64 MiB, a reserve of 8, filled step by step and emptied. */
static void test_reserve(void **state)
{
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/kelp_space_XXXXXX");
    assert_non_null(mkdtemp(directory));
    if (mount("tmpfs", directory, "tmpfs", 0, "size=64m,mode=700") != 0) {
        rmdir(directory);
        skip(); /* needs root */
    }
    struct space space;
    space_open(&space, directory, 8 * MIB);
    assert_int_equal(space.level, SPACE_PLENTY);
    assert_true(space.reserved);
    assert_true(used() >= 8 * MIB);
    assert_false(space_look(&space));

    fill(50 * MIB); /* 6 free beside the reserve */
    assert_true(space_look(&space));
    assert_int_equal(space.level, SPACE_LOW);
    assert_true(space.reserved);
    space_open(&space, directory, 8 * MIB); /* the same disk, another start */
    assert_int_equal(space.level, SPACE_LOW);
    assert_true(space.reserved);

    fill(55 * MIB); /* 1 free */
    assert_true(space_look(&space));
    assert_int_equal(space.level, SPACE_NONE);
    assert_false(space.reserved);
    assert_true(used() < 56 * MIB);   /* the reserve is free space now */
    assert_false(space_look(&space)); /* and is not taken for room */
    space_open(&space, directory, 8 * MIB);
    assert_int_equal(space.level, SPACE_NONE);
    assert_false(space.reserved);

    fill(53 * MIB); /* 3 beside the reserve, if it were made: below half of it */
    assert_false(space_look(&space));
    fill(51 * MIB);
    assert_true(space_look(&space));
    assert_int_equal(space.level, SPACE_LOW);
    assert_true(space.reserved);
    fill(0);
    assert_true(space_look(&space));
    assert_int_equal(space.level, SPACE_PLENTY);
    assert_true(used() >= 8 * MIB);

    space_open(&space, directory, 4 * MIB); /* configured anew */
    assert_true(space.reserved);
    assert_true(used() < 5 * MIB);
    assert_int_equal(umount(directory), 0);
    assert_int_equal(rmdir(directory), 0);
}

static struct log space_log;
static bool is_durable;
static bool is_closed;

static void on_durable(struct log_request *request, int status)
{
    (void)request;
    assert_int_equal(status, 0);
    is_durable = true;
}

static void on_closed(void *context)
{
    (void)context;
    is_closed = true;
}

/* Append frames of half a segment, each released once it is durable. */
static void append(uv_loop_t *loop, unsigned count)
{
    static uint8_t data[SEGMENT_BYTES_MIN / 2];
    const struct bytes piece = bytes_of(data, sizeof data / 2);
    const struct log_entry entry = {.type = LOG_TYPE_UP, .piece_count = 1, .pieces = &piece};
    for (unsigned i = 0; i < count; i++) {
        struct log_request request = {.callback = on_durable};
        is_durable = false;
        while (log_append(&space_log, &request, &entry, 1) == -ENOSPC) {
            uv_run(loop, UV_RUN_ONCE); /* the next segment is being made */
        }
        while (!is_durable) {
            uv_run(loop, UV_RUN_ONCE);
        }
        log_release(&space_log, log_index_next(&space_log));
    }
    uv_run(loop, UV_RUN_DEFAULT);
}

/* Claim: with the history set to nothing all that was released goes, without an append; set back, it is kept
 * again. Method: a real log of small segments. */
static void test_history_goes_first(void **state)
{
    (void)state;
    uv_loop_t loop;
    char command[96];
    snprintf(directory, sizeof directory, "/tmp/kelp_space_XXXXXX");
    assert_non_null(mkdtemp(directory));
    assert_int_equal(uv_loop_init(&loop), 0);
    struct disk_uv *disk = disk_uv_new(&loop);
    const struct log_options options = {
        .directory = directory, .segment_bytes = SEGMENT_BYTES_MIN, .history_bytes = 64 * MIB};
    struct log_recovery recovery;
    assert_int_equal(log_open(&space_log, disk_uv_disk(disk), &options, &recovery), 0);
    append(&loop, 40);
    assert_int_equal(log_index_first(&space_log), 1);
    const uint64_t bytes = log_disk_bytes(&space_log);

    log_set_history(&space_log, 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_true(log_index_first(&space_log) > 30);
    assert_true(log_disk_bytes(&space_log) < bytes / 2);
    log_set_history(&space_log, 64 * MIB);
    const uint64_t first = log_index_first(&space_log);
    append(&loop, 20);
    assert_int_equal(log_index_first(&space_log), first);

    log_close(&space_log, on_closed, NULL);
    while (!is_closed) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    disk_uv_free(disk);
    uv_run(&loop, UV_RUN_DEFAULT); /* its handle closes */
    assert_int_equal(uv_loop_close(&loop), 0);
    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_reserve),
        cmocka_unit_test(test_history_goes_first),
    };
    return cmocka_run_group_tests_name("space", tests, NULL, NULL);
}
