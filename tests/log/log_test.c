#include "log/crc32c.h"
#include "log/inspect.h"
#include "schemas/check.h"
#include "schemas/status.h"
#include "tests/log/fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* Payload that fills a segment of the least size, with its seal. */
#define LARGEST                                                                                    \
    (SEGMENT_BYTES_MIN - footer_bytes(SEGMENT_BYTES_MIN) - SEGMENT_HEADER_BYTES -                  \
     2 * SEGMENT_FRAME_HEADER_BYTES)

/* -- tests ----------------------------------------------------------------------------------- */

/* Claim: the processor's instruction and the tables agree, in pieces too, with the known value. */
static void test_crc32c_agrees_with_its_tables(void **state)
{
    (void)state;
    uint8_t data[300];
    for (uint32_t i = 0; i < sizeof data; i++) {
        data[i] = (uint8_t)(i * 37u + 11u);
    }
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283u);
    for (uint32_t start = 0; start < 9; start++) {
        for (uint32_t size = 0; start + size <= sizeof data; size++) {
            const uint32_t whole = crc32c(0, data + start, size);
            assert_int_equal(whole, crc32c_table(0, data + start, size));
            assert_int_equal(whole, crc32c(crc32c(0, data + start, size / 3),
                                           data + start + size / 3, size - size / 3));
        }
    }
}

/* Claim: callbacks come in the order of the appends, never inside the call, and those who waited
 * together share one flush. */
static void test_appends_share_a_flush_and_keep_their_order(void **state)
{
    (void)state;
    struct fixture f;
    struct note notes[100];
    fixture_init(&f);
    assert_int_equal(fixture_open(&f), 0);
    assert_true(f.recovery.created);
    fixture_run(&f); /* the first segments are prepared */
    for (uint32_t i = 0; i < 100; i++) {
        assert_int_equal(note_append(&f, &notes[i], 3, "payload", 7), 0);
        assert_int_equal(notes[i].request.index, i + 1);
        assert_int_equal(f.called, 0);
    }
    assert_int_equal(log_durable_next(&f.log), 1);
    fixture_run(&f);
    for (uint32_t i = 0; i < 100; i++) {
        assert_int_equal(notes[i].order, i + 1);
    }
    assert_int_equal(f.status, 0);
    assert_int_equal(log_durable_next(&f.log), 101);
    assert_int_equal(f.log.flushes, 2); /* the first at once, the other 99 behind it */
    fixture_close(&f);
    fixture_deinit(&f);
}

/* Claim: a large batch goes to the disk behind the flush under way, a small one waits for its end;
 * when the first write fails, nothing behind it is written or acknowledged, and recovery finds no
 * rot. */
static void test_large_batches_queue_behind_a_flush(void **state)
{
    (void)state;
    struct fixture f;
    struct note notes[5];
    static const char large[500];
    fixture_init(&f);
    f.options.early_bytes = sizeof large;
    assert_int_equal(fixture_open(&f), 0);
    fixture_run(&f);
    assert_int_equal(note_append(&f, &notes[0], 1, "a", 1), 0);
    assert_int_equal(f.log.flushing, 1);
    assert_int_equal(note_append(&f, &notes[1], 1, "b", 1), 0);
    assert_int_equal(f.log.flushing, 1);
    assert_int_equal(note_append(&f, &notes[2], 1, large, sizeof large), 0);
    assert_int_equal(f.log.flushing, 2);
    assert_int_equal(note_append(&f, &notes[3], 1, large, sizeof large), 0);
    assert_int_equal(f.log.flushing, 2);
    fixture_run(&f);
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(notes[i].order, i + 1);
    }
    assert_int_equal(f.status, 0);
    assert_int_equal(f.log.flushes, 3);

    f.disk.fail_at = f.disk.operations + 1;
    f.disk.fail_status = -EIO;
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(note_append(&f, &notes[i], 1, large, sizeof large), 0);
    }
    fixture_run(&f);
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(notes[i].order, 5 + i);
    }
    assert_int_equal(f.status, -EIO);
    assert_int_equal(log_durable_next(&f.log), 5);
    fixture_crash(&f, DISK_SIM_POWER_KEEP);
    assert_int_equal(fixture_open(&f), 0);
    assert_int_equal(f.recovery.index_next, 5);
    fixture_close(&f);
    fixture_deinit(&f);
}

/* Claim: wherever a crash tears the last batch, recovery keeps exactly the frames that were whole,
 * and the next append takes the index right after them.
 * Method: every cut, not a sample. The debris is the complement of the true bytes. */
static void test_every_cut_keeps_the_whole_frames(void **state)
{
    (void)state;
    enum { FRAMES = 8 };
    static const uint8_t payload[64] = {1, 2, 3};
    uint32_t batch = 0;
    uint32_t end = UINT32_MAX;
    for (uint32_t cut = 0; cut <= end; cut++) {
        struct fixture f;
        struct note alone;
        struct note notes[FRAMES];
        uint32_t frame_end[FRAMES];
        fixture_init(&f);
        assert_int_equal(fixture_open(&f), 0);
        assert_int_equal(fixture_append(&f, 1, "before", 6), 0);
        batch = f.log.durable_offset;
        end = batch;
        disk_sim_slow(&f.disk, 1000000, 10);
        assert_int_equal(note_append(&f, &alone, 1, "alone", 5), 0); /* flushes at once */
        for (uint32_t i = 0; i < FRAMES; i++) {
            assert_int_equal(note_append(&f, &notes[i], 7, payload, 5u * i), 0);
        }
        fixture_run(&f);
        batch += (uint32_t)segment_frame_bytes(5);
        end = batch;
        for (uint32_t i = 0; i < FRAMES; i++) {
            end += (uint32_t)segment_frame_bytes(5u * i);
            frame_end[i] = end - (uint32_t)(segment_frame_bytes(5u * i) -
                                            SEGMENT_FRAME_HEADER_BYTES - 5u * i); /* no padding */
        }
        assert_int_equal(f.log.durable_offset, end);
        if (cut < batch) {
            cut = batch;
        }
        fixture_crash(&f, DISK_SIM_POWER_KEEP);
        char path[64];
        fixture_segment_path(1, path);
        for (uint32_t i = cut; i < end; i++) {
            disk_sim_flip(&f.disk, path, i, 0xff);
        }
        uint64_t whole = 0;
        while (whole < FRAMES && frame_end[whole] <= cut) {
            whole++;
        }
        assert_int_equal(fixture_open(&f), 0);
        assert_int_equal(f.recovery.index_next, 3 + whole);
        assert_int_equal(fixture_append(&f, 9, "after", 5), 0);
        assert_int_equal(log_durable_next(&f.log), 4 + whole);
        fixture_crash(&f, DISK_SIM_POWER_DROP);
        assert_int_equal(fixture_open(&f), 0);
        assert_int_equal(f.recovery.index_next, 4 + whole);
        assert_int_equal(f.recovery.term_last, 9);
        fixture_crash(&f, DISK_SIM_KILL);
        fixture_deinit(&f);
    }
    assert_true(end - batch > 300);
}

/* Claim: segments that were prepared under other options make way, and nothing of them stays open. */
static void test_segments_may_change_their_size(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    static const uint32_t sizes[] = {64 * 1024, 128 * 1024, 64 * 1024};
    uint8_t payload[1000] = {0};
    for (uint64_t i = 0; i < 3; i++) {
        f.options.segment_bytes = sizes[i];
        assert_int_equal(fixture_open(&f), 0);
        assert_int_equal(f.recovery.index_next, 1 + 100 * i);
        for (uint64_t k = 0; k < 100; k++) {
            assert_int_equal(fixture_append(&f, 100 * i + k, payload, sizeof payload), 0);
        }
        fixture_run(&f); /* the next segment is prepared */
        fixture_close(&f);
    }
    fixture_deinit(&f);
}

/* Claim: a dead frame with durable ones behind it is refused with its place, in the same segment
 * and when the proof is in a later segment; nothing is written by the refusal. */
static void test_rot_is_refused_with_its_place(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    assert_int_equal(fixture_open(&f), 0);
    uint8_t payload[1000] = {0};
    for (uint32_t i = 0; i < 40; i++) {
        assert_int_equal(fixture_append(&f, 1, payload, sizeof payload), 0);
    }
    fixture_crash(&f, DISK_SIM_KILL);
    char path[64];
    for (uint64_t sequence = 1; sequence <= 2; sequence++) { /* without footers all is read */
        fixture_segment_path(sequence, path);
        disk_sim_flip(&f.disk, path, SEGMENT_BYTES_MIN - footer_bytes(SEGMENT_BYTES_MIN), 1);
    }
    for (uint64_t sequence = 1; sequence <= 2; sequence++) {
        for (uint32_t frame = 0; frame < 11; frame++) {
            const uint32_t place = SEGMENT_HEADER_BYTES + frame * 1032;
            fixture_segment_path(sequence, path);
            disk_sim_flip(&f.disk, path, place + 100, 0x10);
            assert_int_equal(fixture_open(&f), STATUS_CORRUPT);
            assert_string_equal(f.recovery.path, path);
            assert_int_equal(f.recovery.damage_offset, place);
            assert_non_null(f.recovery.message);
            disk_sim_flip(&f.disk, path, place + 100, 0x10);
        }
    }
    assert_int_equal(fixture_open(&f), 0);
    assert_int_equal(f.recovery.index_next, 41);
    fixture_crash(&f, DISK_SIM_KILL);

    disk_sim_flip(&f.disk, DIRECTORY "/meta", 20, 1); /* one copy: repaired */
    assert_int_equal(fixture_open(&f), 0);
    assert_true(f.recovery.meta_repaired);
    fixture_crash(&f, DISK_SIM_KILL);
    disk_sim_flip(&f.disk, DIRECTORY "/meta", 20, 1);
    disk_sim_flip(&f.disk, DIRECTORY "/meta", 4116, 1);
    assert_int_equal(fixture_open(&f), STATUS_CORRUPT);
    fixture_deinit(&f);
}

/* Claim: a dead frame whose own batch went on into the next segment is rot, though no frame of a
 * later batch is behind it in its segment: the next segment was written after it was synced. */
static void test_a_later_segment_proves_the_one_before(void **state)
{
    (void)state;
    struct fixture f;
    static uint8_t payload[8000];
    const struct bytes piece = bytes_of(payload, sizeof payload);
    const struct log_entry entry = {
        .term = 1, .type = LOG_TYPE_UP, .piece_count = 1, .pieces = &piece};
    const struct log_entry entries[2] = {entry, entry};
    fixture_init(&f);
    assert_int_equal(fixture_open(&f), 0);
    fixture_run(&f);
    assert_int_equal(fixture_append(&f, 1, "first", 5), 0); /* and the second segment is prepared */
    fixture_run(&f);
    struct log_request request = {0};
    assert_int_equal(log_append(&f.log, &request, entries, 2), 0);
    fixture_run(&f);
    assert_int_equal(f.log.flushes, 2); /* one batch in two segments */
    assert_int_equal(f.log.durable_sequence, 2);
    fixture_crash(&f, DISK_SIM_POWER_DROP);

    char path[64];
    fixture_segment_path(1, path);
    const uint32_t place = SEGMENT_HEADER_BYTES + (uint32_t)segment_frame_bytes(5);
    disk_sim_flip(&f.disk, path, place + 500, 1);
    assert_int_equal(fixture_open(&f), STATUS_CORRUPT);
    assert_string_equal(f.recovery.path, path);
    assert_int_equal(f.recovery.damage_offset, place);
    disk_sim_flip(&f.disk, path, place + 500, 1);
    assert_int_equal(fixture_open(&f), 0);
    assert_int_equal(f.recovery.index_next, 4);
    fixture_close(&f);
    fixture_deinit(&f);
}

/* Claim: a truncation is seen at once, survives, and the frames after it follow the cut. */
static void test_truncation_drops_a_suffix(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    assert_int_equal(fixture_open(&f), 0);
    for (uint32_t i = 0; i < 10; i++) {
        assert_int_equal(fixture_append(&f, 1, "old", 3), 0);
    }
    struct log_cursor cursor;
    struct log_frame frame;
    log_cursor_open(&cursor, &f.log, 5);
    assert_int_equal(log_cursor_next(&cursor, &frame), LOG_CURSOR_FRAME);

    struct log_request request = {0};
    assert_int_equal(log_truncate(&f.log, &request, 6), 0);
    assert_int_equal(log_index_next(&f.log), 6);
    assert_int_equal(log_durable_next(&f.log), 6);
    assert_int_equal(log_cursor_next(&cursor, &frame), LOG_CURSOR_END);
    assert_int_equal(fixture_append(&f, 2, "new", 3), 0);
    assert_int_equal(log_cursor_next(&cursor, &frame), LOG_CURSOR_FRAME);
    assert_int_equal(frame.index, 6);
    assert_int_equal(frame.term, 2);
    assert_memory_equal(frame.payload.data, "new", 3);
    log_cursor_close(&cursor);
    fixture_crash(&f, DISK_SIM_POWER_DROP);

    assert_int_equal(fixture_open(&f), 0);
    assert_int_equal(f.recovery.index_next, 7);
    assert_int_equal(f.recovery.term_last, 2);
    fixture_close(&f);
    fixture_deinit(&f);
}

/* Claim: after a reset the log holds nothing and continues where it was told to; old files go. */
static void test_reset_starts_elsewhere(void **state)
{
    (void)state;
    struct fixture f;
    static uint8_t payload[2900];
    fixture_init(&f);
    f.options.history_bytes = UINT64_MAX; /* history does not survive a reset */
    assert_int_equal(fixture_open(&f), 0);
    for (uint32_t i = 0; i < 20; i++) {
        assert_int_equal(fixture_append(&f, 1, payload, sizeof payload), 0);
    }
    assert_true(f.log.segment_count > 4);
    struct log_request request = {0};
    assert_int_equal(log_reset(&f.log, &request, 1000), 0);
    assert_int_equal(fixture_append(&f, 5, "snap", 4), 0);
    fixture_run(&f);
    assert_int_equal(log_index_first(&f.log), 1000);
    assert_true(f.log.segment_count <= 3);
    fixture_crash(&f, DISK_SIM_POWER_DROP);
    assert_int_equal(fixture_open(&f), 0);
    assert_int_equal(f.recovery.index_first, 1000);
    assert_int_equal(f.recovery.index_next, 1001);
    fixture_close(&f);
    fixture_deinit(&f);
}

/* Claim: released segments go once the history is full, whole ones only, and a reader that is
 * behind is told so; space is bounded and files are reused. */
static void test_release_keeps_the_history_and_no_more(void **state)
{
    (void)state;
    struct fixture f;
    static uint8_t payload[2900];
    fixture_init(&f);
    f.options.history_bytes = 3 * SEGMENT_BYTES_MIN;
    assert_int_equal(fixture_open(&f), 0);
    struct log_cursor cursor;
    struct log_frame frame;
    log_cursor_open(&cursor, &f.log, 1);
    for (uint32_t i = 0; i < 200; i++) {
        assert_int_equal(fixture_append(&f, 1, payload, sizeof payload), 0);
        log_release(&f.log, log_durable_next(&f.log));
        fixture_run(&f);
        assert_true(log_disk_bytes(&f.log) <= 8192 + 7 * SEGMENT_BYTES_MIN);
        assert_true(disk_sim_used_bytes(&f.disk) <= 8192 + 7 * SEGMENT_BYTES_MIN);
    }
    assert_int_equal(log_index_first(&f.log), 201 - 4 * 3 - 4); /* four in the tail's, 3 x 4 kept */
    assert_int_equal(log_cursor_next(&cursor, &frame), LOG_CURSOR_GONE);
    log_cursor_seek(&cursor, log_index_first(&f.log));
    assert_int_equal(log_cursor_next(&cursor, &frame), LOG_CURSOR_FRAME);
    log_cursor_close(&cursor);
    fixture_crash(&f, DISK_SIM_POWER_DROP);
    assert_int_equal(fixture_open(&f), 0);
    assert_int_equal(f.recovery.index_next, 201);
    fixture_close(&f);
    fixture_deinit(&f);
}

/* Claim: the next index survives when all frames went and only a mark is left to tell it. */
static void test_a_mark_alone_tells_the_next_index(void **state)
{
    (void)state;
    struct fixture f;
    static uint8_t payload[SEGMENT_BYTES_MIN];
    fixture_init(&f);
    assert_int_equal(fixture_open(&f), 0);
    for (uint32_t i = 0; i < 3; i++) { /* each fills its segment: the mark must roll */
        assert_int_equal(fixture_append(&f, 1, payload, LARGEST), 0);
        fixture_run(&f);
    }
    log_tick(&f.log, 0);
    fixture_run(&f);
    log_tick(&f.log, 0);
    fixture_run(&f);
    assert_int_equal(f.log.durable_sequence, 4);
    log_release(&f.log, 4);
    fixture_run(&f);
    assert_int_equal(log_index_first(&f.log), 4);
    fixture_crash(&f, DISK_SIM_POWER_DROP);
    assert_int_equal(fixture_open(&f), 0);
    assert_int_equal(f.recovery.index_first, 4);
    assert_int_equal(f.recovery.index_next, 4);
    assert_int_equal(fixture_append(&f, 1, "next", 4), 0);
    assert_int_equal(log_durable_next(&f.log), 5);
    fixture_close(&f);
    fixture_deinit(&f);
}

/* Claim: a directory of another node, of a newer format, or in use is refused and left alone. */
static void test_foreign_and_locked_directories_are_refused(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    assert_int_equal(fixture_open(&f), 0);
    assert_int_equal(fixture_append(&f, 1, "mine", 4), 0);
    struct log other;
    assert_int_equal(log_open(&other, &f.disk.disk, &f.options, &f.recovery), STATUS_LOCKED);
    fixture_close(&f);

    f.options.owner[0] ^= 1;
    assert_int_equal(fixture_open(&f), STATUS_FOREIGN);
    assert_string_equal(f.recovery.message, "the directory belongs to another node");
    f.options.owner[0] ^= 1;

    for (uint32_t copy = 0; copy < 2; copy++) { /* a higher version under a right checksum */
        struct disk_file *file;
        uint8_t block[304];
        size_t got;
        assert_int_equal(disk_open(&f.disk.disk, DIRECTORY "/meta", DISK_OPEN_WRITE, &file), 0);
        assert_int_equal(disk_read(&f.disk.disk, file, copy * 4096, block, sizeof block, &got), 0);
        put_le32(block + 8, SEGMENT_VERSION + 1);
        put_le32(block + 12, crc32c(crc32c(0, block, 12), block + 16, sizeof block - 16));
        assert_int_equal(disk_write(&f.disk.disk, file, copy * 4096, block, sizeof block), 0);
        disk_close(&f.disk.disk, file);
    }
    assert_int_equal(fixture_open(&f), STATUS_FOREIGN);
    assert_string_equal(f.recovery.message, "written by a newer version of this program");
    fixture_deinit(&f);
}

/* Claim: meta and files survive as they were put last. */
static void test_meta_and_files_are_durable_when_put_returns(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    assert_int_equal(fixture_open(&f), 0);
    assert_int_equal(log_meta_get(&f.log).size, 0);
    uint8_t *data;
    size_t size;
    assert_int_equal(log_file_get(&f.log, "manifest", &data, &size), -ENOENT);
    for (uint8_t i = 1; i < 20; i++) {
        const struct bytes pieces[2] = {bytes_of(&i, 1), bytes_text("-rest")};
        assert_int_equal(log_meta_put(&f.log, bytes_of(&i, 1)), 0);
        assert_int_equal(log_file_put(&f.log, "manifest", pieces, 2), 0);
        fixture_crash(&f, DISK_SIM_POWER_DROP);
        assert_int_equal(fixture_open(&f), 0);
        assert_int_equal(log_meta_get(&f.log).size, 1);
        assert_int_equal(log_meta_get(&f.log).data[0], i);
        assert_int_equal(log_file_get(&f.log, "manifest", &data, &size), 0);
        assert_int_equal(size, 6);
        assert_int_equal(data[0], i);
        assert_memory_equal(data + 1, "-rest", 5);
        free(data);
    }
    disk_sim_flip(&f.disk, DIRECTORY "/manifest.file", 18, 4);
    assert_int_equal(log_file_get(&f.log, "manifest", &data, &size), STATUS_CORRUPT);
    assert_int_equal(log_file_remove(&f.log, "manifest"), 0);
    assert_int_equal(log_file_get(&f.log, "manifest", &data, &size), -ENOENT);
    fixture_close(&f);
    fixture_deinit(&f);
}

/* Claim: what does not fit is refused and changes nothing; what waits is bounded. */
static void test_bounds_are_answers(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    assert_int_equal(fixture_open(&f), 0);
    static uint8_t payload[SEGMENT_BYTES_MIN];
    assert_int_equal(fixture_append(&f, 1, payload, SEGMENT_BYTES_MIN - SEGMENT_HEADER_BYTES),
                     STATUS_TOO_LARGE);
    assert_int_equal(fixture_append(&f, 1, payload, LARGEST), 0);
    assert_int_equal(log_index_next(&f.log), 2);
    f.log.waiting_bytes = LIMIT_LOG_WAITING_BYTES - 30000; /* as if so much were under way */
    struct note notes[3];
    assert_int_equal(note_append(&f, &notes[0], 1, payload, 11000), 0);
    assert_int_equal(note_append(&f, &notes[1], 1, payload, 11000), 0);
    assert_int_equal(note_append(&f, &notes[2], 1, payload, 11000), STATUS_FULL);
    assert_int_equal(log_index_next(&f.log), 4);
    fixture_run(&f);
    assert_int_equal(log_durable_next(&f.log), 4);
    assert_int_equal(f.log.waiting_bytes, LIMIT_LOG_WAITING_BYTES - 30000);
    f.log.waiting_bytes = 0;
    assert_int_equal(note_append(&f, &notes[2], 1, payload, 11000), 0);
    fixture_run(&f);
    assert_int_equal(f.called, 4);
    fixture_close(&f);
    fixture_deinit(&f);
}

/* Claim: a full disk is met before anything is lost: appends are refused with -ENOSPC, those
 * accepted become durable, and it goes on when space returns. */
static void test_full_disk_refuses_and_recovers(void **state)
{
    (void)state;
    struct fixture f;
    static uint8_t payload[2900];
    fixture_init(&f);
    assert_int_equal(fixture_open(&f), 0);
    fixture_run(&f);
    f.disk.capacity_bytes = disk_sim_used_bytes(&f.disk) + 1000;
    uint32_t accepted = 0;
    int status = 0;
    while (status == 0 && accepted < 100) {
        status = fixture_append(&f, 1, payload, sizeof payload);
        accepted += status == 0;
        fixture_run(&f);
    }
    assert_int_equal(status, -ENOSPC);
    assert_int_equal(accepted, 4); /* what the prepared segment held */
    assert_int_equal(log_status(&f.log), 0);
    assert_int_equal(log_durable_next(&f.log), 1 + accepted);
    assert_int_equal(log_meta_put(&f.log, bytes_text("term")), 0); /* in place: needs no space */
    log_tick(&f.log, 0);
    fixture_run(&f);
    assert_int_equal(fixture_append(&f, 1, payload, sizeof payload), -ENOSPC);

    f.disk.capacity_bytes = UINT64_MAX;
    log_tick(&f.log, 0);
    fixture_run(&f);
    assert_int_equal(fixture_append(&f, 1, payload, sizeof payload), 0);
    fixture_close(&f);
    fixture_deinit(&f);
}

/* Claim: whichever I/O call fails, first, second, third ..., nobody is told of a success that a
 * crash takes back, and everybody who waits is called exactly once.
 * Method: the same story again and again, one call later each time, until it meets no fault. */
static void test_every_call_may_fail(void **state)
{
    (void)state;
    static uint8_t payload[5000];
    bool met = true;
    uint64_t rounds = 0;
    for (uint64_t at = 1; met; at++, rounds++) {
        struct fixture f;
        struct note notes[12] = {0};
        uint64_t durable = 1;
        bool meta = false;
        fixture_init(&f);
        f.disk.fail_at = at;
        f.disk.fail_status = -EIO;
        if (fixture_open(&f) == 0) {
            uint32_t accepted = 0;
            for (uint32_t i = 0; i < 12; i++) {
                if (note_append(&f, &notes[accepted], 1, payload, 300u * i) == 0) {
                    accepted++;
                }
                if (i == 6) {
                    meta = log_meta_put(&f.log, bytes_text("vote")) == 0;
                }
                if (i % 3 == 2) {
                    fixture_run(&f);
                    durable = log_status(&f.log) == 0 ? log_durable_next(&f.log) : durable;
                    log_release(&f.log, i);
                }
            }
            fixture_run(&f);
            assert_int_equal(f.called, accepted);
            fixture_close(&f);
        }
        met = f.disk.fail_at == 0;
        disk_sim_crash(&f.disk, DISK_SIM_POWER_DROP);
        assert_int_equal(fixture_open(&f), 0);
        assert_true(f.recovery.index_next >= durable);
        assert_true(!meta || log_meta_get(&f.log).size == 4);
        fixture_crash(&f, DISK_SIM_KILL);
        fixture_deinit(&f);
    }
    assert_true(rounds > 40);
}

/* Claim: after a failed sync nothing is acknowledged any more, also what waited behind it. */
static void test_nothing_is_acknowledged_after_a_failed_sync(void **state)
{
    (void)state;
    struct fixture f;
    struct note notes[3];
    fixture_init(&f);
    assert_int_equal(fixture_open(&f), 0);
    assert_int_equal(fixture_append(&f, 1, "good", 4), 0);
    fixture_run(&f);
    f.disk.fail_at = f.disk.operations + 2; /* the write is well, its sync is not */
    f.disk.fail_status = -EIO;
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(note_append(&f, &notes[i], 1, "lost", 4), 0);
    }
    fixture_run(&f);
    assert_int_equal(f.called, 4);
    assert_int_equal(f.status, -EIO);
    assert_int_equal(log_status(&f.log), -EIO);
    assert_int_equal(log_durable_next(&f.log), 2);
    assert_int_equal(fixture_append(&f, 1, "more", 4), -EIO);
    assert_int_equal(log_meta_put(&f.log, bytes_text("x")), -EIO);
    fixture_close(&f);
    fixture_deinit(&f);
}

/* Claim: a sync that fails while the log is being closed is told once it is closed. */
static void test_a_close_tells_what_failed(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    assert_int_equal(fixture_open(&f), 0);
    assert_int_equal(fixture_append(&f, 1, "good", 4), 0);
    fixture_run(&f);
    f.disk.fail_at = f.disk.operations + 3; /* one to come to the loop, the mark, its sync */
    f.disk.fail_status = -EIO;
    fixture_close(&f);
    assert_int_equal(log_status(&f.log), -EIO);
    assert_int_equal(fixture_open(&f), 0);
    fixture_run(&f);
    fixture_close(&f);
    assert_int_equal(log_status(&f.log), STATUS_CLOSING);
    fixture_deinit(&f);
}

/* Claim: an idle log is marked once, so that rot of its last frame is told from a tear. */
static void test_idle_tail_is_marked(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    assert_int_equal(fixture_open(&f), 0);
    assert_int_equal(fixture_append(&f, 1, "last", 4), 0);
    for (uint32_t i = 0; i < 5; i++) {
        log_tick(&f.log, 0);
        fixture_run(&f);
    }
    assert_int_equal(f.log.flushes, 2);
    fixture_crash(&f, DISK_SIM_POWER_DROP);
    char path[64];
    fixture_segment_path(1, path);
    disk_sim_flip(&f.disk, path, SEGMENT_HEADER_BYTES + 33, 1);
    assert_int_equal(fixture_open(&f), STATUS_CORRUPT);
    disk_sim_flip(&f.disk, path, SEGMENT_HEADER_BYTES + 33, 1);
    assert_int_equal(fixture_open(&f), 0);
    assert_int_equal(f.recovery.index_next, 2);
    for (uint32_t i = 0; i < 3; i++) { /* a restart alone writes nothing more */
        log_tick(&f.log, 0);
        fixture_run(&f);
    }
    assert_int_equal(f.log.flushes, 0);
    fixture_close(&f);
    fixture_deinit(&f);
}

/* Claim: a directory can be read while its owner writes, rolls and drops, and what is read is a
 * run of the frames as they were written. */
static void test_inspection_of_a_live_log(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    assert_int_equal(fixture_open(&f), 0);
    for (uint64_t i = 1; i <= 300; i++) {
        assert_int_equal(fixture_append(&f, i, &i, sizeof i), 0);
        if (i % 40 == 0) {
            log_release(&f.log, i - 20);
        }
        struct inspect inspect;
        struct log_frame frame;
        assert_int_equal(inspect_open(&inspect, &f.disk.disk, DIRECTORY, INSPECT_VERIFY), 0);
        assert_int_equal(inspect.damage_status, 0);
        assert_int_equal(inspect.index_next, i + 1);
        uint64_t next = inspect.index_first;
        while (inspect_next(&inspect, &frame) == INSPECT_FRAME) {
            assert_int_equal(frame.index, next);
            assert_int_equal(frame.term, next);
            assert_int_equal(frame.payload.size, sizeof next);
            assert_memory_equal(frame.payload.data, &next, sizeof next);
            next++;
        }
        assert_int_equal(next, i + 1);
        assert_int_equal(inspect.frames, i + 1 - inspect.index_first);
        inspect_close(&inspect);
    }
    fixture_close(&f);
    struct inspect inspect;
    assert_int_equal(inspect_open(&inspect, &f.disk.disk, "/nothing", INSPECT_VERIFY), -ENOENT);
    fixture_deinit(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc32c_agrees_with_its_tables),
        cmocka_unit_test(test_appends_share_a_flush_and_keep_their_order),
        cmocka_unit_test(test_large_batches_queue_behind_a_flush),
        cmocka_unit_test(test_every_cut_keeps_the_whole_frames),
        cmocka_unit_test(test_segments_may_change_their_size),
        cmocka_unit_test(test_rot_is_refused_with_its_place),
        cmocka_unit_test(test_a_later_segment_proves_the_one_before),
        cmocka_unit_test(test_truncation_drops_a_suffix),
        cmocka_unit_test(test_reset_starts_elsewhere),
        cmocka_unit_test(test_release_keeps_the_history_and_no_more),
        cmocka_unit_test(test_a_mark_alone_tells_the_next_index),
        cmocka_unit_test(test_foreign_and_locked_directories_are_refused),
        cmocka_unit_test(test_meta_and_files_are_durable_when_put_returns),
        cmocka_unit_test(test_bounds_are_answers),
        cmocka_unit_test(test_full_disk_refuses_and_recovers),
        cmocka_unit_test(test_every_call_may_fail),
        cmocka_unit_test(test_nothing_is_acknowledged_after_a_failed_sync),
        cmocka_unit_test(test_a_close_tells_what_failed),
        cmocka_unit_test(test_idle_tail_is_marked),
        cmocka_unit_test(test_inspection_of_a_live_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
