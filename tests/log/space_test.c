#include "log/inspect.h"
#include "log/log.h"
#include "schemas/check.h"
#include "schemas/status.h"
#include "tests/log/fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define HOUR       (INT64_C(3600) * 1000)
#define DAY        (24 * HOUR)
#define NOW        INT64_C(1700000000000)
#define PAYLOAD    1000u
#define META_BYTES 8192u /* of the file beside the segments */

static const uint8_t payload[PAYLOAD];

/* Append until the tail is in the segment with this sequence. */
static void fill(struct fixture *f, uint64_t sequence)
{
    while (f->log.tail_sequence < sequence) {
        assert_int_equal(fixture_append(f, 1, payload, sizeof payload), 0);
        fixture_run(f);
    }
}

static void tick(struct fixture *f, int64_t now_ms)
{
    log_tick(&f->log, now_ms);
    fixture_run(f);
}

/* Tick once a minute. */
static void pass(struct fixture *f, int64_t *now_ms, int64_t duration_ms)
{
    for (const int64_t end = *now_ms + duration_ms; *now_ms < end;) {
        *now_ms += 60000;
        tick(f, *now_ms);
    }
}

static uint64_t oldest(const struct fixture *f)
{
    return f->log.extents.list[f->log.extents.first].sequence;
}

/* Make an empty file beside the log's. */
static void touch(struct fixture *f, const char *name)
{
    char path[64];
    struct disk_file *file;
    snprintf(path, sizeof path, DIRECTORY "/%s", name);
    assert_int_equal(disk_open(&f->disk.disk, path, DISK_OPEN_CREATE, &file), 0);
    disk_close(&f->disk.disk, file);
    assert_int_equal(disk_sync_directory(&f->disk.disk, DIRECTORY), 0);
}

static bool is_there(struct fixture *f, const char *name)
{
    char path[64];
    uint8_t *data;
    size_t size;
    snprintf(path, sizeof path, DIRECTORY "/%s", name);
    disk_sim_peek(&f->disk, path, &data, &size);
    free(data);
    return data != NULL;
}

/* -- age ------------------------------------------------------------------------------------- */

/* Claim: what was released goes once its segment was sealed longer ago than history_ms, and not
 * before; what is still needed and the last segment stay whatever their age. */
static void test_history_goes_by_age(void **state)
{
    (void)state;
    struct fixture f;
    int64_t now_ms = NOW;
    fixture_init(&f);
    f.options.history_bytes = UINT64_MAX;
    f.options.history_ms = (uint64_t)DAY;
    assert_int_equal(fixture_open(&f), 0);
    tick(&f, now_ms);
    fill(&f, 2);
    pass(&f, &now_ms, 6 * HOUR);
    fill(&f, 3);
    pass(&f, &now_ms, 6 * HOUR);
    const uint64_t needed = log_index_next(&f.log);
    fill(&f, 4);
    log_release(&f.log, needed);
    pass(&f, &now_ms, 12 * HOUR);
    assert_int_equal(oldest(&f), 1); /* sealed 24 h ago, to the minute */
    pass(&f, &now_ms, 60000);
    assert_int_equal(oldest(&f), 2);
    pass(&f, &now_ms, 6 * HOUR);
    assert_int_equal(oldest(&f), 3);
    pass(&f, &now_ms, 30 * DAY);
    assert_int_equal(oldest(&f), 3); /* holds what was not released */
    log_release(&f.log, log_index_next(&f.log));
    fixture_run(&f);
    pass(&f, &now_ms, 60000);
    assert_int_equal(oldest(&f), 4);
    pass(&f, &now_ms, 30 * DAY);
    assert_int_equal(oldest(&f), 4);
    fixture_close(&f);
    fixture_deinit(&f);
}

/* Claim: the age of a segment and what the time was survive a restart, with footers and without. */
static void test_age_survives_a_restart(void **state)
{
    (void)state;
    for (int damaged = 0; damaged < 2; damaged++) {
        struct fixture f;
        int64_t now_ms = NOW;
        fixture_init(&f);
        f.options.history_bytes = UINT64_MAX;
        f.options.history_ms = (uint64_t)DAY;
        assert_int_equal(fixture_open(&f), 0);
        tick(&f, now_ms);
        fill(&f, 3);
        pass(&f, &now_ms, 20 * HOUR);
        fixture_crash(&f, DISK_SIM_POWER_KEEP);
        for (uint64_t sequence = 1; damaged != 0 && sequence <= 2; sequence++) {
            char path[64];
            fixture_segment_path(sequence, path);
            disk_sim_flip(&f.disk, path, SEGMENT_BYTES_MIN - footer_bytes(SEGMENT_BYTES_MIN), 1);
        }
        assert_int_equal(fixture_open(&f), 0);
        assert_int_equal(f.log.segments_bytes, f.log.segment_count * SEGMENT_BYTES_MIN);
        log_release(&f.log, log_index_next(&f.log));
        tick(&f, now_ms + 400 * DAY); /* the clock of this start is wrong */
        assert_int_equal(oldest(&f), 1);
        tick(&f, now_ms);
        pass(&f, &now_ms, 4 * HOUR);
        assert_int_equal(oldest(&f), 1);
        pass(&f, &now_ms, LIMIT_LOG_CLOCK_TICKS * 60000 + 60000); /* it was away for 20 hours */
        assert_int_equal(oldest(&f), 3);
        fixture_close(&f);
        fixture_deinit(&f);
    }
}

/* Claim: a clock that jumps, ahead or back, costs no history as long as it does not stay there; one
 * that stays is believed; segments sealed under a wrong clock age all the same. */
static void test_a_clock_that_jumps_costs_no_history(void **state)
{
    (void)state;
    struct fixture f;
    int64_t now_ms = NOW;
    fixture_init(&f);
    f.options.history_bytes = UINT64_MAX;
    f.options.history_ms = (uint64_t)DAY;
    assert_int_equal(fixture_open(&f), 0);
    tick(&f, now_ms);
    fill(&f, 3);
    log_release(&f.log, log_index_next(&f.log));
    pass(&f, &now_ms, HOUR);
    const int64_t wrong[] = {now_ms + 400 * DAY, 1000, 0, -5, INT64_MAX};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        for (uint32_t ticks = 0; ticks < LIMIT_LOG_CLOCK_TICKS / 2; ticks++) {
            tick(&f, wrong[i]);
        }
        assert_int_equal(oldest(&f), 1);
        pass(&f, &now_ms, 60000);
        assert_int_equal(oldest(&f), 1);
        assert_int_equal(f.log.clock_ms, now_ms);
    }

    tick(&f, 1000);
    fill(&f, 4); /* the third is sealed in 1970 */
    log_release(&f.log, log_index_next(&f.log));
    pass(&f, &now_ms, DAY);
    assert_int_equal(oldest(&f), 3);
    pass(&f, &now_ms, 2 * 60000);
    assert_int_equal(oldest(&f), 4);

    for (uint32_t ticks = 0; ticks <= LIMIT_LOG_CLOCK_TICKS; ticks++) {
        tick(&f, now_ms + 400 * DAY);
    }
    fill(&f, 5); /* the fourth is sealed in a year that was believed, and is not yet */
    log_release(&f.log, log_index_next(&f.log));
    pass(&f, &now_ms, LIMIT_LOG_CLOCK_TICKS * INT64_C(60000) + DAY);
    assert_int_equal(oldest(&f), 4);
    pass(&f, &now_ms, 2 * 60000);
    assert_int_equal(oldest(&f), 5);
    fixture_close(&f);
    fixture_deinit(&f);
}

/* -- companions ------------------------------------------------------------------------------ */

/* Claim: what others keep beside a segment goes with it, whether it is dropped or reused, and is
 * otherwise left alone; what a crash left beside no segment is removed at opening. */
static void test_companions_go_with_their_segment(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    assert_int_equal(fixture_open(&f), 0);
    fill(&f, 5);
    touch(&f, "0000000000000001.keys"); /* will be reused */
    touch(&f, "0000000000000002.keys"); /* will be dropped */
    touch(&f, "0000000000000004.keys"); /* stays */
    touch(&f, "0000000000000004.keys.tmp");
    touch(&f, "0000000000000009.keys");
    touch(&f, "0000000000000009.keys.tmp");
    touch(&f, "notes.keys");
    struct log_cursor cursor;
    struct log_frame frame;
    log_cursor_open(&cursor, &f.log, 12 + 11 * 2); /* the fourth begins here */
    assert_int_equal(log_cursor_next(&cursor, &frame), LOG_CURSOR_FRAME);
    log_cursor_close(&cursor);
    log_release(&f.log, 12 + 11 * 2);
    fixture_run(&f);
    assert_int_equal(oldest(&f), 4);
    assert_false(is_there(&f, "0000000000000001.keys"));
    assert_false(is_there(&f, "0000000000000002.keys"));
    assert_true(is_there(&f, "0000000000000004.keys"));
    fixture_crash(&f, DISK_SIM_POWER_DROP);

    touch(&f, "0000000000000002.keys");
    assert_int_equal(fixture_open(&f), 0);
    assert_true(is_there(&f, "0000000000000004.keys"));
    assert_true(is_there(&f, "0000000000000004.keys.tmp"));
    assert_true(is_there(&f, "notes.keys"));
    assert_false(is_there(&f, "0000000000000002.keys"));
    assert_false(is_there(&f, "0000000000000009.keys"));
    assert_false(is_there(&f, "0000000000000009.keys.tmp"));
    fixture_close(&f);
    fixture_deinit(&f);
}

/* -- what is held ------------------------------------------------------------------------------ */

/* Claim: frames that are held stay, released or not, whatever bounds history; those before them go; all go
 * once nothing is held. And the log says when it is so near its limit that holding has to end, before it
 * refuses anything. */
static void test_what_is_held_stays(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    f.options.limit_bytes = META_BYTES + 16 * SEGMENT_BYTES_MIN;
    assert_int_equal(fixture_open(&f), 0);
    fill(&f, 2);
    const uint64_t held = log_index_next(&f.log);
    log_hold(&f.log, held);
    fill(&f, 6);
    log_release(&f.log, log_index_next(&f.log));
    fixture_run(&f);
    assert_int_equal(oldest(&f), 2);
    assert_true(log_index_first(&f.log) <= held);
    assert_false(log_crowded(&f.log));

    for (uint64_t sequence = 7; !log_crowded(&f.log); sequence++) {
        assert_true(sequence < 14);
        fill(&f, sequence);
        log_release(&f.log, log_index_next(&f.log));
        fixture_run(&f);
        assert_int_equal(oldest(&f), 2);
    }
    assert_false(log_limited(&f.log));
    log_hold(&f.log, UINT64_MAX);
    fixture_run(&f);
    assert_int_equal(oldest(&f), f.log.tail_sequence);
    assert_false(log_crowded(&f.log));
    fixture_close(&f);
    fixture_deinit(&f);
}

/* -- limits ---------------------------------------------------------------------------------- */

/* Claim: the files never exceed limit_bytes: history goes first; when nothing may go, appends are
 * answered -ENOSPC, unchanged, and go on after a release, also across restarts. */
static void test_a_limit_refuses_and_recovers(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    f.options.history_bytes = UINT64_MAX;
    f.options.limit_bytes = META_BYTES + 12 * SEGMENT_BYTES_MIN;
    assert_int_equal(fixture_open(&f), 0);
    for (uint32_t round = 0; round < 10; round++) {
        int status = 0;
        uint64_t limited_bytes = 0;
        for (uint32_t i = 0; i < 200 && status == 0; i++) {
            if (log_limited(&f.log) && limited_bytes == 0) {
                limited_bytes = round % 3 == 1 ? log_disk_bytes(&f.log) : 1;
            }
            status = fixture_append(&f, 1, payload, sizeof payload);
            fixture_run(&f);
            assert_true(disk_sim_used_bytes(&f.disk) <= f.options.limit_bytes);
        }
        assert_int_equal(status, -ENOSPC);
        assert_true(log_limited(&f.log)); /* and was, before the last quarter was used */
        assert_true(limited_bytes > 0 && limited_bytes <= f.options.limit_bytes / 4 * 3);
        assert_int_equal(log_status(&f.log), 0);
        const uint64_t next = log_index_next(&f.log);
        assert_true(next - log_index_first(&f.log) >= 11 * 11);
        assert_int_equal(log_meta_put(&f.log, bytes_text("term")), 0);
        if (round % 2 == 0) {
            fixture_crash(&f, DISK_SIM_POWER_DROP);
            assert_int_equal(fixture_open(&f), 0);
            assert_int_equal(f.recovery.index_next, next);
            fixture_run(&f);
            assert_int_equal(fixture_append(&f, 1, payload, sizeof payload), -ENOSPC);
        }
        log_release(&f.log, round % 3 == 0 ? next : log_index_first(&f.log) + 11);
        fixture_run(&f);
        assert_true(log_limited(&f.log) == (round % 3 != 0));
        assert_int_equal(fixture_append(&f, 1, payload, sizeof payload), 0);
    }
    for (uint32_t i = 0; i < 200; i++) { /* nothing is refused while the owner keeps up */
        log_release(&f.log, log_index_next(&f.log));
        fixture_run(&f);
        assert_int_equal(fixture_append(&f, 1, payload, sizeof payload), 0);
    }
    assert_true(log_index_next(&f.log) - log_index_first(&f.log) > 2 * 11); /* history is kept */
    fixture_close(&f);
    fixture_deinit(&f);
}

/* Claim: at the limit truncations and resets go on, in one segment beyond it however many they are,
 * and no append is let into that one; what a reset voids goes, and appends go on. */
static void test_a_limit_never_blocks_what_makes_room(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    f.options.limit_bytes = 1; /* counts as the least there is */
    assert_int_equal(fixture_open(&f), 0);
    const uint64_t limit = LIMIT_LOG_SEGMENTS_MIN * SEGMENT_BYTES_MIN;
    while (fixture_append(&f, 1, payload, sizeof payload) == 0) {
        fixture_run(&f);
    }
    while (fixture_append(&f, 1, payload, 1) == 0) { /* up to the last byte */
        fixture_run(&f);
    }
    assert_true(log_disk_bytes(&f.log) <= limit);
    struct log_request request = {0};
    for (uint32_t i = 0; i < 300; i++) {
        assert_int_equal(log_truncate(&f.log, &request, log_index_next(&f.log) - 1), 0);
        fixture_run(&f);
        assert_int_equal(log_durable_next(&f.log), log_index_next(&f.log));
        assert_true(log_disk_bytes(&f.log) <= limit + SEGMENT_BYTES_MIN);
        if (log_disk_bytes(&f.log) > limit) {
            assert_int_equal(fixture_append(&f, 1, payload, 1), -ENOSPC);
        }
        if (log_index_next(&f.log) == log_index_first(&f.log) + 1) {
            break;
        }
    }
    assert_int_equal(fixture_append(&f, 1, payload, sizeof payload), -ENOSPC);
    log_admit(&f.log); /* what the owner has queued before its reset */
    assert_int_equal(fixture_append(&f, 1, payload, sizeof payload), 0);
    assert_int_equal(log_reset(&f.log, &request, 1000), 0);
    fixture_run(&f);
    assert_int_equal(log_durable_next(&f.log), 1000);
    assert_true(log_disk_bytes(&f.log) <= limit);
    for (uint32_t i = 0; i < 20; i++) {
        assert_int_equal(fixture_append(&f, 1, payload, sizeof payload), 0);
        fixture_run(&f);
    }
    fixture_close(&f);
    fixture_deinit(&f);
}

/* Claim: memory is bounded whatever is appended: truncations that cut a run each let history go at
 * half of LIMIT_LOG_RUNS, and with nothing to let go appends are refused at all of it. */
static void test_runs_are_bounded(void **state)
{
    (void)state;
    static struct note notes[2000];
    static struct log_request cuts[2000];
    struct fixture f;
    fixture_init(&f);
    f.options.segment_bytes = 4 * 1024 * 1024;
    f.options.history_bytes = UINT64_MAX;
    assert_int_equal(fixture_open(&f), 0);
    fixture_run(&f);
    int status = 0;
    while (status == 0) {
        for (uint32_t i = 0; i < 2000 && status == 0; i++) {
            status = note_append(&f, &notes[i], 1, payload, 1);
            if (status == 0) {
                assert_int_equal(log_truncate(&f.log, &cuts[i], log_index_next(&f.log)), 0);
            }
        }
        fixture_run(&f);
    }
    assert_int_equal(status, -ENOSPC);
    assert_true(log_limited(&f.log));
    assert_true(extents_runs(&f.log.extents) >= LIMIT_LOG_RUNS);
    assert_true(extents_runs(&f.log.extents) < LIMIT_LOG_RUNS + 4000);
    log_release(&f.log, log_index_next(&f.log));
    fixture_run(&f);
    assert_true(extents_runs(&f.log.extents) <= LIMIT_LOG_RUNS / 2);
    assert_true(extents_runs(&f.log.extents) > LIMIT_LOG_RUNS / 4); /* and no more than it must */
    assert_int_equal(fixture_append(&f, 1, payload, 1), 0);
    fixture_crash(&f, DISK_SIM_KILL);
    fixture_deinit(&f);
}

/* Claim: what was accepted becomes durable at the limit, also what does not fit where it was
 * expected to, and a close does not wait for room. */
static void test_what_was_accepted_gets_room(void **state)
{
    (void)state;
    struct fixture f;
    static const uint8_t large[9000];
    static struct note notes[400];
    for (uint32_t seed = 1; seed <= 50; seed++) {
        fixture_init(&f);
        f.sim.random ^= seed * 0x9e3779b97f4a7c15u;
        f.options.limit_bytes = 1;
        assert_int_equal(fixture_open(&f), 0);
        uint32_t accepted = 0;
        for (uint32_t i = 0; i < 400; i++) {
            const int status =
                note_append(&f, &notes[accepted], 1, large, 1 + sim_below(&f.sim, sizeof large));
            assert_true(status == 0 || status == -ENOSPC);
            accepted += status == 0;
            if (sim_chance(&f.sim, 300000)) {
                sim_step(&f.sim);
            }
        }
        if (seed % 2 == 0) {
            fixture_run(&f);
            assert_int_equal(f.called, accepted);
        }
        assert_true(log_disk_bytes(&f.log) <=
                    (LIMIT_LOG_SEGMENTS_MIN + 1) * SEGMENT_BYTES_MIN + 8192);
        fixture_close(&f);
        assert_int_equal(f.called, accepted);
        assert_int_equal(f.status, 0);
        fixture_deinit(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_history_goes_by_age),
        cmocka_unit_test(test_age_survives_a_restart),
        cmocka_unit_test(test_a_clock_that_jumps_costs_no_history),
        cmocka_unit_test(test_companions_go_with_their_segment),
        cmocka_unit_test(test_what_is_held_stays),
        cmocka_unit_test(test_a_limit_refuses_and_recovers),
        cmocka_unit_test(test_a_limit_never_blocks_what_makes_room),
        cmocka_unit_test(test_runs_are_bounded),
        cmocka_unit_test(test_what_was_accepted_gets_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
