#include "log/footer.h"

#include "log/crc32c.h"
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

#define FOOTER_AT (SEGMENT_BYTES_MIN - footer_bytes(SEGMENT_BYTES_MIN))
#define PAYLOAD   1000u
#define IN_ONE    11u /* frames of that size in a segment of the least size */

/* What a directory says, read in one depth. */
struct look {
    struct inspect inspect;
    uint32_t footed;
    uint32_t sealed;
};

static void look_open(struct fixture *f, struct look *look, enum inspect_depth depth)
{
    *look = (struct look){0};
    assert_int_equal(inspect_open(&look->inspect, &f->disk.disk, DIRECTORY, depth), 0);
    for (uint32_t i = 0; i < look->inspect.segment_count; i++) {
        look->footed += look->inspect.segments[i].footed;
        look->sealed += look->inspect.segments[i].sealed;
    }
}

/* Both depths must see the same undamaged log. Answers how many segments have a footer. */
static uint32_t look_both(struct fixture *f)
{
    struct look quick;
    struct look verify;
    look_open(f, &quick, INSPECT_QUICK);
    look_open(f, &verify, INSPECT_VERIFY);
    const struct inspect *a = &quick.inspect;
    const struct inspect *b = &verify.inspect;
    assert_int_equal(a->damage_status, 0);
    assert_int_equal(b->damage_status, 0);
    assert_int_equal(a->index_first, b->index_first);
    assert_int_equal(a->index_next, b->index_next);
    assert_int_equal(a->frames, b->frames);
    assert_int_equal(a->truncations, b->truncations);
    assert_int_equal(a->segment_count, b->segment_count);
    for (uint32_t i = 0; i < a->segment_count; i++) {
        a->segments[i].time_first_ms = 0; /* frames only know when the segment before was sealed */
        b->segments[i].time_first_ms = 0;
        assert_memory_equal(&a->segments[i], &b->segments[i], sizeof a->segments[i]);
    }
    const struct extents *x = &a->extents;
    const struct extents *y = &b->extents;
    assert_int_equal(x->count - x->first, y->count - y->first);
    assert_memory_equal(x->list + x->first, y->list + y->first,
                        (x->count - x->first) * sizeof *x->list);
    const uint32_t footed = quick.footed;
    inspect_close(&quick.inspect);
    inspect_close(&verify.inspect);
    return footed;
}

/* Append frames of one size until so many segments are sealed and have their footers. */
static void fill(struct fixture *f, uint32_t segments)
{
    static uint8_t payload[PAYLOAD];
    while (f->log.tail_sequence <= segments) {
        payload[0]++;
        assert_int_equal(fixture_append(f, 7, payload, sizeof payload), 0);
        fixture_run(f);
    }
}

static void file_write(struct fixture *f, uint64_t sequence, uint64_t offset, const void *data,
                       size_t size)
{
    char path[64];
    struct disk_file *file;
    fixture_segment_path(sequence, path);
    assert_int_equal(disk_open(&f->disk.disk, path, DISK_OPEN_WRITE, &file), 0);
    assert_int_equal(disk_write(&f->disk.disk, file, offset, data, size), 0);
    assert_int_equal(disk_sync(&f->disk.disk, file), 0);
    disk_close(&f->disk.disk, file);
}

static void file_read(struct fixture *f, uint64_t sequence, uint64_t offset, uint8_t *out,
                      size_t size)
{
    char path[64];
    uint8_t *data;
    size_t there;
    fixture_segment_path(sequence, path);
    disk_sim_peek(&f->disk, path, &data, &there);
    assert_non_null(data);
    assert_true(offset + size <= there);
    memcpy(out, data + offset, size);
    free(data);
}

/* Read all frames of the open log. */
static void read_all(struct fixture *f, uint64_t first, uint64_t next)
{
    struct log_cursor cursor;
    struct log_frame frame;
    log_cursor_open(&cursor, &f->log, first);
    for (uint64_t index = first; index < next; index++) {
        assert_int_equal(log_cursor_next(&cursor, &frame), LOG_CURSOR_FRAME);
        assert_int_equal(frame.index, index);
    }
    assert_int_equal(log_cursor_next(&cursor, &frame), LOG_CURSOR_END);
    log_cursor_close(&cursor);
}

/* -- tests ----------------------------------------------------------------------------------- */

/* Claim: opening reads the frames of the tail only, footers tell the rest: the same view, times and
 * counts that reading every frame gives.
 * Method: a random workload with truncations, resets, marks; both depths of inspection compared. */
static void test_footers_say_what_the_frames_say(void **state)
{
    (void)state;
    static uint8_t payload[2000];
    uint32_t footed = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct fixture f;
        fixture_init(&f);
        f.sim.random ^= seed * 0x9e3779b97f4a7c15u;
        f.options.history_bytes = UINT64_MAX;
        assert_int_equal(fixture_open(&f), 0);
        int64_t now_ms = 1700000000000;
        for (uint32_t i = 0; i < 150; i++) {
            struct log_request request = {0};
            const uint64_t what = sim_below(&f.sim, 20);
            const uint64_t next = log_index_next(&f.log);
            if (what == 0) {
                const uint64_t first = log_index_first(&f.log);
                const uint64_t back = sim_below(&f.sim, 8);
                assert_int_equal(
                    log_truncate(&f.log, &request, next > first + back ? next - back : first), 0);
            } else if (what == 1 && sim_chance(&f.sim, 50000)) {
                assert_int_equal(log_reset(&f.log, &request, next + sim_below(&f.sim, 5)), 0);
            } else if (what < 5) {
                now_ms += 1000;
                log_tick(&f.log, now_ms);
            } else {
                assert_int_equal(fixture_append(&f, i, payload, sim_below(&f.sim, sizeof payload)),
                                 0);
            }
            fixture_run(&f);
        }
        const uint64_t next = log_index_next(&f.log);
        fixture_crash(&f, DISK_SIM_KILL);
        footed += look_both(&f);
        assert_int_equal(fixture_open(&f), 0);
        assert_int_equal(f.recovery.index_next, next);
        assert_true(f.recovery.bytes_read <= 2 * SEGMENT_BYTES_MIN);
        read_all(&f, f.recovery.index_first, next);
        fixture_close(&f);
        fixture_deinit(&f);
    }
    assert_true(footed > 60 * 4);
}

/* Claim: a footer that was lost, torn at any sector or damaged in any byte is as good as none: the
 * same log is found by reading the frames, and the footer is written again, the same as it was. */
static void test_a_damaged_footer_is_as_good_as_none(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    f.options.segment_bytes = 1024 * 1024; /* 4 KiB: eight sectors */
    assert_int_equal(footer_bytes(f.options.segment_bytes), 4096);
    assert_int_equal(fixture_open(&f), 0);
    log_tick(&f.log, 1700000000000);
    static uint8_t payload[5000];
    struct log_request request = {0};
    while (f.log.tail_sequence <= 2) { /* more entries than one sector holds */
        assert_int_equal(fixture_append(&f, 7, payload, sizeof payload), 0);
        if (log_index_next(&f.log) % 4 == 0) {
            assert_int_equal(log_truncate(&f.log, &request, log_index_next(&f.log)), 0);
        }
        fixture_run(&f);
    }
    const uint64_t next = log_index_next(&f.log);
    fixture_crash(&f, DISK_SIM_POWER_KEEP);
    assert_int_equal(look_both(&f), 2);
    uint8_t good[4096];
    uint8_t bad[4096];
    const uint64_t at = f.options.segment_bytes - sizeof good;
    file_read(&f, 2, at, good, sizeof good);
    uint32_t end = sizeof good;
    while (good[end - 1] == 0) {
        end--;
    }
    assert_true(end > 512 * 3);

    for (uint32_t mask = 0; mask < 256; mask++) { /* bit: this sector arrived */
        bool torn = false;
        for (uint32_t i = 0; i < sizeof good; i++) {
            bad[i] = (mask >> i / 512 & 1) != 0 ? good[i] : 0;
            torn = torn || bad[i] != good[i];
        }
        file_write(&f, 2, at, bad, sizeof bad);
        assert_int_equal(look_both(&f), torn ? 1 : 2);
    }
    for (uint32_t i = 0; i < end; i++) {
        memcpy(bad, good, sizeof good);
        bad[i] ^= (uint8_t)(1u << i % 8);
        file_write(&f, 2, at, bad, sizeof bad);
        struct look look;
        look_open(&f, &look, INSPECT_QUICK);
        assert_int_equal(look.inspect.damage_status, 0);
        assert_int_equal(look.inspect.index_next, next);
        assert_int_equal(look.footed, 1);
        inspect_close(&look.inspect);
        if (i % 61 == 0) {
            assert_int_equal(fixture_open(&f), 0);
            assert_int_equal(f.recovery.index_next, next);
            assert_true(f.recovery.bytes_read > f.recovery.bytes / 4);
            fixture_run(&f);
            fixture_crash(&f, DISK_SIM_POWER_KEEP);
            file_read(&f, 2, at, bad, sizeof bad);
            assert_memory_equal(bad, good, sizeof good);
        }
    }
    fixture_deinit(&f);
}

/* Claim: the footer of another segment, of another log, or of the former life of a reused file is
 * never taken for one of this segment. */
static void test_a_foreign_footer_is_refused(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    assert_int_equal(fixture_open(&f), 0);
    fill(&f, 3);
    const uint64_t next = log_index_next(&f.log);
    fixture_crash(&f, DISK_SIM_POWER_KEEP);
    uint8_t block[512];
    assert_int_equal(look_both(&f), 3);
    file_read(&f, 1, FOOTER_AT, block, sizeof block);
    file_write(&f, 2, FOOTER_AT, block, sizeof block); /* of a sealed segment */
    file_write(&f, 4, FOOTER_AT, block, sizeof block); /* of the tail */
    file_write(&f, 5, FOOTER_AT, block, sizeof block); /* of one that is prepared */
    assert_int_equal(look_both(&f), 2);
    assert_int_equal(fixture_open(&f), 0);
    assert_int_equal(f.recovery.index_next, next);

    fill(&f, 4);
    log_release(&f.log, log_durable_next(&f.log)); /* 1 becomes the spare, then a segment again */
    fixture_run(&f);
    fill(&f, 7);
    const uint64_t last = log_index_next(&f.log);
    fixture_crash(&f, DISK_SIM_POWER_KEEP);
    look_both(&f);
    assert_int_equal(fixture_open(&f), 0);
    assert_int_equal(f.recovery.index_next, last);
    fixture_close(&f);
    fixture_deinit(&f);
}

/* Claim: a segment with more truncations than its footer has room for is read, and is well. */
static void test_too_many_truncations_have_no_footer(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    assert_int_equal(fixture_open(&f), 0);
    while (f.log.tail_sequence <= 1) {
        struct log_request request = {0};
        assert_int_equal(fixture_append(&f, 1, "some", 4), 0);
        assert_int_equal(log_truncate(&f.log, &request, log_index_next(&f.log) - 1), 0);
        fixture_run(&f);
    }
    const uint64_t next = log_index_next(&f.log);
    fixture_run(&f);
    fixture_crash(&f, DISK_SIM_POWER_KEEP);
    assert_int_equal(look_both(&f), 0);
    assert_int_equal(fixture_open(&f), 0);
    assert_int_equal(f.recovery.index_next, next);
    fixture_close(&f);
    fixture_deinit(&f);
}

/* Claim: a footer proves that frames were durable behind its segment: when they are damaged or their
 * file is missing, that is rot, though nothing else proves it. */
static void test_a_footer_proves_what_was_behind_it(void **state)
{
    (void)state;
    struct fixture f;
    struct look look;
    char path[64];
    fixture_init(&f);
    assert_int_equal(fixture_open(&f), 0);
    fill(&f, 2); /* one batch is in the third */
    fixture_crash(&f, DISK_SIM_POWER_KEEP);
    assert_int_equal(look_both(&f), 2);
    fixture_segment_path(3, path);
    disk_sim_flip(&f.disk, path, SEGMENT_HEADER_BYTES + 50, 1);
    assert_int_equal(fixture_open(&f), STATUS_CORRUPT);
    assert_string_equal(f.recovery.path, path);
    assert_int_equal(f.recovery.damage_offset, SEGMENT_HEADER_BYTES);
    for (int depth = INSPECT_QUICK; depth <= INSPECT_VERIFY; depth++) {
        look_open(&f, &look, (enum inspect_depth)depth);
        assert_int_equal(look.inspect.damage_status, STATUS_CORRUPT);
        assert_string_equal(look.inspect.damage_path, path);
        inspect_close(&look.inspect);
    }
    disk_sim_flip(&f.disk, path, SEGMENT_HEADER_BYTES + 50, 1);
    for (uint64_t sequence = 4; sequence >= 3; sequence--) { /* 4 is empty */
        assert_int_equal(fixture_open(&f), 0);
        fixture_crash(&f, DISK_SIM_KILL);
        fixture_segment_path(sequence, path);
        assert_int_equal(disk_unlink(&f.disk.disk, path), 0);
    }
    assert_int_equal(fixture_open(&f), STATUS_CORRUPT);
    assert_string_equal(f.recovery.path, path);
    fixture_deinit(&f);
}

/* Claim: damage inside a segment that was not read at opening is met by who reads it, with file and
 * offset, and what is behind it can still be read; an inspection in depth finds it at once. */
static void test_damage_in_a_sealed_segment_is_met_when_read(void **state)
{
    (void)state;
    struct fixture f;
    struct look look;
    struct log_frame frame;
    fixture_init(&f);
    assert_int_equal(fixture_open(&f), 0);
    fill(&f, 3);
    const uint64_t next = log_index_next(&f.log);
    fixture_crash(&f, DISK_SIM_POWER_KEEP);
    char path[64];
    char damaged[LIMIT_LOG_PATH_BYTES];
    uint64_t offset;
    fixture_segment_path(2, path);
    const uint64_t place = SEGMENT_HEADER_BYTES + 3 * (PAYLOAD + SEGMENT_FRAME_HEADER_BYTES);
    disk_sim_flip(&f.disk, path, place + 90, 8);

    assert_int_equal(fixture_open(&f), 0);
    assert_int_equal(f.recovery.index_next, next);
    assert_false(log_damage(&f.log, damaged, &offset));
    struct log_cursor cursor;
    log_cursor_open(&cursor, &f.log, 1);
    for (uint64_t index = 1; index < 1 + IN_ONE + 3; index++) {
        assert_int_equal(log_cursor_next(&cursor, &frame), LOG_CURSOR_FRAME);
    }
    assert_int_equal(log_cursor_next(&cursor, &frame), STATUS_CORRUPT);
    assert_true(log_damage(&f.log, damaged, &offset));
    assert_string_equal(damaged, path);
    assert_int_equal(offset, place);
    log_cursor_seek(&cursor, 1 + 2 * IN_ONE);
    assert_int_equal(log_cursor_next(&cursor, &frame), LOG_CURSOR_FRAME);
    log_cursor_close(&cursor);
    fixture_crash(&f, DISK_SIM_KILL);

    look_open(&f, &look, INSPECT_QUICK);
    assert_int_equal(look.inspect.damage_status, 0);
    for (uint64_t index = 1; index < 1 + IN_ONE + 3; index++) {
        assert_int_equal(inspect_next(&look.inspect, &frame), INSPECT_FRAME);
    }
    assert_int_equal(inspect_next(&look.inspect, &frame), STATUS_CORRUPT);
    assert_string_equal(look.inspect.damage_path, path);
    assert_int_equal(look.inspect.damage_offset, place);
    inspect_seek(&look.inspect, 1 + 2 * IN_ONE);
    assert_int_equal(inspect_next(&look.inspect, &frame), INSPECT_FRAME);
    inspect_close(&look.inspect);
    look_open(&f, &look, INSPECT_VERIFY);
    assert_int_equal(look.inspect.damage_status, STATUS_CORRUPT);
    assert_string_equal(look.inspect.damage_path, path);
    assert_int_equal(look.inspect.damage_offset, place);
    inspect_close(&look.inspect);
    fixture_deinit(&f);
}

/* Claim: where the newest frame that stands is in a segment that opening does not read, damage to it is
 * refused with its file and offset.
 * Method: the only frame behind the third segment is truncated. */
static void test_damage_to_the_newest_frame_is_named(void **state)
{
    (void)state;
    struct fixture f;
    struct log_request truncate = {0};
    fixture_init(&f);
    assert_int_equal(fixture_open(&f), 0);
    fill(&f, 3);
    assert_int_equal(log_truncate(&f.log, &truncate, log_index_next(&f.log) - 1), 0);
    fixture_run(&f);
    fixture_crash(&f, DISK_SIM_POWER_KEEP);
    char path[64];
    fixture_segment_path(3, path);
    const uint64_t place =
        SEGMENT_HEADER_BYTES + (IN_ONE - 1) * (PAYLOAD + SEGMENT_FRAME_HEADER_BYTES);
    disk_sim_flip(&f.disk, path, place + 90, 8);

    assert_int_equal(fixture_open(&f), STATUS_CORRUPT);
    assert_string_equal(f.recovery.path, path);
    assert_int_equal(f.recovery.damage_offset, place);
    fixture_deinit(&f);
}

/* Claim: an inspection in depth compares a footer with the frames. */
static void test_a_footer_that_lies_is_found_in_depth(void **state)
{
    (void)state;
    struct fixture f;
    struct look look;
    fixture_init(&f);
    assert_int_equal(fixture_open(&f), 0);
    fill(&f, 2);
    fixture_crash(&f, DISK_SIM_POWER_KEEP);
    struct footer footer;
    footer_init(&footer);
    footer_start(&footer, 2, footer_bytes(SEGMENT_BYTES_MIN), 1 + IN_ONE, 0);
    footer_add(&footer, &(struct segment_frame){.index = 1 + IN_ONE,
                                                .type = LOG_TYPE_UP,
                                                .offset = SEGMENT_HEADER_BYTES,
                                                .disk_bytes = 1032});
    uint8_t *block = footer_take(&footer, segment_salt(f.options.owner, 2));
    assert_non_null(block);
    file_write(&f, 2, FOOTER_AT, block, footer_bytes(SEGMENT_BYTES_MIN));
    free(block);
    footer_deinit(&footer);
    look_open(&f, &look, INSPECT_VERIFY);
    assert_int_equal(look.inspect.damage_status, STATUS_CORRUPT);
    assert_int_equal(look.inspect.damage_offset, FOOTER_AT);
    inspect_close(&look.inspect);
    fixture_deinit(&f);
}

/* Claim: whatever a block that passes its checksum says, reading and applying it is safe.
 * Method: random bytes and random changes of a good block, with a right checksum. */
static void test_footers_from_outside_are_answered(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    assert_int_equal(fixture_open(&f), 0);
    fill(&f, 1);
    fixture_crash(&f, DISK_SIM_POWER_KEEP);
    uint8_t good[512];
    uint8_t bad[512];
    file_read(&f, 1, FOOTER_AT, good, sizeof good);
    const uint32_t salt = segment_salt(f.options.owner, 1);
    uint32_t taken = 0;
    for (uint32_t round = 0; round < 20000; round++) {
        memcpy(bad, good, sizeof good);
        for (uint64_t n = 1 + sim_below(&f.sim, 4); n > 0; n--) {
            const uint64_t at = 16 + sim_below(&f.sim, FOOTER_HEADER_BYTES + 64 - 16);
            bad[at] = (uint8_t)(sim_chance(&f.sim, 500000) ? sim_random(&f.sim) : bad[at] ^ 1u);
        }
        bad[28] = (uint8_t)sim_below(&f.sim, 4);
        bad[29] = bad[30] = bad[31] = 0;
        const size_t end = FOOTER_HEADER_BYTES + bad[28] * FOOTER_ENTRY_BYTES;
        put_le32(bad + 12, crc32c(crc32c(salt, bad, 12), bad + 16, end - 16));
        file_write(&f, 1, FOOTER_AT, bad, sizeof bad);
        struct segment_reader reader;
        struct footer footer;
        struct extents extents;
        char path[64];
        segment_reader_init(&reader, &f.disk.disk);
        footer_init(&footer);
        extents_init(&extents);
        fixture_segment_path(1, path);
        assert_int_equal(segment_reader_open(&reader, path, NULL, 1), 0);
        const int status = footer_read(&footer, &reader);
        assert_true(status == 0 || status == STATUS_CORRUPT);
        if (status == 0) {
            taken++;
            assert_int_equal(footer_apply(&footer, &extents), 0);
            assert_int_equal(extents.index_next, footer.index_next);
        }
        extents_deinit(&extents);
        footer_deinit(&footer);
        segment_reader_deinit(&reader);
    }
    assert_true(taken > 100);
    fixture_deinit(&f);
}

/* A segment whose frames reach to the end of the file, as former versions write them.
 *
 *   sealed    the last frame is a seal; otherwise there is room for one
 *   answers   the index that comes next
 */
static uint64_t former_segment(uint8_t file[SEGMENT_BYTES_MIN], const uint8_t *owner,
                               uint32_t kept_bytes, bool sealed)
{
    struct segment_header header = {
        .sequence = 1, .size_bytes = SEGMENT_BYTES_MIN, .footer_bytes = kept_bytes};
    memset(file, 0, SEGMENT_BYTES_MIN);
    memcpy(header.owner, owner, sizeof header.owner);
    segment_header_encode(&header, file);
    const uint32_t salt = segment_salt(owner, 1);
    const uint8_t payload[96] = {1};
    uint32_t offset = SEGMENT_HEADER_BYTES;
    uint64_t next = 1;
    while (offset + 32 < SEGMENT_BYTES_MIN) { /* frames of 128 bytes; the last one is smaller */
        const uint32_t left = SEGMENT_BYTES_MIN - 32 - offset;
        const struct bytes piece = bytes_of(payload, left > 128 ? 96 : left - 32);
        const struct segment_frame frame = {.index = next, .type = LOG_TYPE_UP, .batch = offset};
        segment_frame_encode(&frame, &piece, 1, salt, 1, file + offset);
        offset += (uint32_t)segment_frame_bytes(piece.size);
        next++;
    }
    assert_int_equal(offset + 32, SEGMENT_BYTES_MIN);
    if (sealed) {
        const struct segment_frame seal = {.index = next, .type = LOG_TYPE_SEAL, .batch = offset};
        segment_frame_encode(&seal, NULL, 0, salt, 1, file + offset);
    }
    return next;
}

/* Claim: segments of a former version, whose frames reach to the end of the file, are read and
 * gone on from, also where such a version went on in a file that keeps room for a footer: no frame is
 * overwritten. Those behind them have footers. */
static void test_former_segments_go_on(void **state)
{
    (void)state;
    for (uint32_t variant = 0; variant < 4; variant++) {
        struct fixture f;
        fixture_init(&f);
        assert_int_equal(fixture_open(&f), 0);
        fixture_close(&f);
        static uint8_t file[SEGMENT_BYTES_MIN];
        const uint64_t next =
            former_segment(file, f.options.owner, variant / 2 * 512, variant % 2 == 0);
        char path[64];
        struct disk_file *out;
        fixture_segment_path(1, path);
        assert_int_equal(disk_open(&f.disk.disk, path, DISK_OPEN_CREATE, &out), 0);
        disk_close(&f.disk.disk, out);
        file_write(&f, 1, 0, file, sizeof file);

        assert_int_equal(fixture_open(&f), 0);
        assert_int_equal(f.recovery.index_next, next);
        read_all(&f, 1, next);
        fixture_run(&f);
        fill(&f, 3);
        const uint64_t last = log_index_next(&f.log);
        fixture_crash(&f, DISK_SIM_POWER_KEEP);
        assert_int_equal(look_both(&f), 2);
        uint8_t now[SEGMENT_BYTES_MIN];
        file_read(&f, 1, 0, now, sizeof now);
        assert_memory_equal(now, file, sizeof file - 32);
        assert_int_equal(fixture_open(&f), 0);
        read_all(&f, 1, last);
        fixture_close(&f);
        fixture_deinit(&f);
    }
}

/* Claim: a machine that stops at whatever step of making a segment, filling, sealing, writing its
 * footer and dropping it finds the same log again; a footer that has no room is left out, and any
 * other failure of it ends the log.
 * Method: halt at operation 1, 2, 3 ... until a run meets none; then fail each write of a footer. */
static void test_every_step_may_be_the_last(void **state)
{
    (void)state;
    static uint8_t payload[PAYLOAD];
    bool halted = true;
    for (uint64_t at = 1; halted; at++) {
        struct fixture f;
        fixture_init(&f);
        f.sim.random ^= at * 0x9e3779b97f4a7c15u;
        assert_int_equal(fixture_open(&f), 0);
        f.disk.halt_at = f.disk.operations + at;
        uint64_t acked = 0;
        for (uint32_t i = 0; i < 50 && !f.disk.halted; i++) {
            acked += fixture_append(&f, 1, payload, sizeof payload) == 0;
            if (i == 30) {
                log_release(&f.log, log_durable_next(&f.log));
            }
            fixture_run(&f);
        }
        halted = f.disk.halted;
        fixture_crash(&f, DISK_SIM_POWER);
        look_both(&f);
        assert_int_equal(fixture_open(&f), 0);
        assert_true(f.recovery.index_next == 1 + acked || f.recovery.index_next == 2 + acked);
        fixture_close(&f);
        look_both(&f);
        fixture_deinit(&f);
    }
    const int failures[2] = {-ENOSPC, -EIO};
    for (int i = 0; i < 2; i++) {
        struct fixture f;
        fixture_init(&f);
        assert_int_equal(fixture_open(&f), 0);
        fill(&f, 1);
        while (f.log.tail_sequence == 2) { /* rolls: its footer is the only step afterwards */
            assert_int_equal(fixture_append(&f, 1, payload, sizeof payload), 0);
        }
        while (f.log.preparing) {
            assert_true(sim_step(&f.sim));
        }
        assert_true(f.log.background);
        f.disk.fail_at = f.disk.operations + 1;
        f.disk.fail_status = failures[i];
        fixture_run(&f);
        assert_int_equal(log_status(&f.log), i == 0 ? 0 : -EIO);
        assert_false(f.log.background); /* not tried again */
        fixture_crash(&f, DISK_SIM_POWER_KEEP);
        assert_true(look_both(&f) >= 1); /* of the failed one all may have arrived */
        fixture_deinit(&f);
    }
}

/* Claim: marks cut no runs, so an idle log costs no memory: one run a stride. */
static void test_marks_cut_no_runs(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    f.options.segment_bytes = 1024 * 1024;
    assert_int_equal(fixture_open(&f), 0);
    for (uint32_t i = 0; i < 1000; i++) {
        assert_int_equal(fixture_append(&f, 1, "event", 5), 0);
        log_tick(&f.log, 0);
        fixture_run(&f);
        log_tick(&f.log, 0);
        fixture_run(&f);
    }
    assert_int_equal(f.log.flushes, 2000);
    assert_int_equal(extents_runs(&f.log.extents), 1);
    fixture_crash(&f, DISK_SIM_POWER_DROP);
    assert_int_equal(fixture_open(&f), 0);
    assert_int_equal(extents_runs(&f.log.extents), 1);
    read_all(&f, 1, 1001);
    fixture_close(&f);
    fixture_deinit(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_footers_say_what_the_frames_say),
        cmocka_unit_test(test_a_damaged_footer_is_as_good_as_none),
        cmocka_unit_test(test_a_foreign_footer_is_refused),
        cmocka_unit_test(test_too_many_truncations_have_no_footer),
        cmocka_unit_test(test_a_footer_proves_what_was_behind_it),
        cmocka_unit_test(test_damage_in_a_sealed_segment_is_met_when_read),
        cmocka_unit_test(test_damage_to_the_newest_frame_is_named),
        cmocka_unit_test(test_a_footer_that_lies_is_found_in_depth),
        cmocka_unit_test(test_footers_from_outside_are_answered),
        cmocka_unit_test(test_former_segments_go_on),
        cmocka_unit_test(test_every_step_may_be_the_last),
        cmocka_unit_test(test_marks_cut_no_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
