/* The belt between the thread that reads a log and the one that prints it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "nodes/cli/log_belt.h"
#include "schemas/check.h"

struct taken {
    uint64_t next;      /* what must come next */
    uint64_t enough_at; /* wants no more once it has this one */
    uint64_t calls;
};

/* Frame n has so many bytes, all of them n: some none, most few, some more than a chunk. */
static size_t size_of(uint64_t n)
{
    return n % 1000 == 999 ? LIMIT_BELT_CHUNK_BYTES + n : n % 3 == 0 ? 0 : n % 300;
}

/* From the other thread, which cmocka cannot leave: CHECK. */
static int taken_on_frame(void *context, const struct log_frame *frame)
{
    struct taken *taken = context;
    taken->calls++;
    CHECK(frame->index == taken->next);
    CHECK(frame->payload.size == size_of(frame->index));
    CHECK((uintptr_t)frame->payload.data % 8 == 0);
    for (size_t i = 0; i < frame->payload.size; i++) {
        CHECK(frame->payload.data[i] == (uint8_t)frame->index);
    }
    taken->next++;
    return frame->index == taken->enough_at;
}

/* Put frames [0, count) and overwrite each at once; answers how many were wanted. */
static uint64_t put_frames(struct belt *belt, uint64_t count)
{
    static uint8_t bytes[2 * LIMIT_BELT_CHUNK_BYTES];
    for (uint64_t n = 0; n < count; n++) {
        memset(bytes, (uint8_t)n, size_of(n));
        const struct log_frame frame = {.index = n, .payload = bytes_of(bytes, size_of(n))};
        if (belt_put(belt, &frame) != 0) {
            return n;
        }
        memset(bytes, 0xee, size_of(n));
    }
    return count;
}

/* Claim: every frame arrives once, in order, with its bytes, though the reader reuses its memory; and what
 * large frames took is given back. Method: fewer frames than a chunk holds, and many times the belt. */
static void test_every_frame_arrives_in_order(void **state)
{
    (void)state;
    const uint64_t counts[] = {0,    1, 7, LIMIT_BELT_CHUNK_FRAMES, LIMIT_BELT_CHUNK_FRAMES + 1,
                               60000};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        struct belt belt;
        struct taken taken = {.enough_at = UINT64_MAX};
        belt_open(&belt, taken_on_frame, &taken);
        assert_true(belt.threaded);
        assert_int_equal(put_frames(&belt, counts[i]), counts[i]);
        size_t bytes = 0;
        for (uint32_t k = 0; k < LIMIT_BELT_CHUNKS; k++) {
            bytes += belt.chunks[k].capacity;
        }
        assert_true(bytes <= LIMIT_BELT_CHUNKS * (2 * LIMIT_BELT_CHUNK_BYTES));
        belt_close(&belt);
        assert_int_equal(taken.next, counts[i]);
    }
}

/* Claim: who has enough is not called again, the reader hears of it and does not wait for ever.
 * Method: enough at every place of the first chunks, and far behind. */
static void test_enough_ends_it(void **state)
{
    (void)state;
    for (uint64_t at = 0; at < 3000; at += at < 20 ? 1 : 97) {
        struct belt belt;
        struct taken taken = {.enough_at = at};
        belt_open(&belt, taken_on_frame, &taken);
        const uint64_t wanted = put_frames(&belt, 60000);
        assert_true(wanted > at);
        assert_true(wanted < 60000);
        assert_true(belt_ended(&belt));
        belt_close(&belt);
        assert_int_equal(taken.calls, at + 1);
    }
}

/* Claim: without a second thread it is the same, frame by frame. */
static void test_without_a_thread(void **state)
{
    (void)state;
    struct belt belt;
    struct taken taken = {.enough_at = 41};
    belt_open(&belt, taken_on_frame, &taken);
    uv_mutex_lock(&belt.mutex);
    belt.leaving = true;
    uv_cond_signal(&belt.moved);
    uv_mutex_unlock(&belt.mutex);
    assert_int_equal(uv_thread_join(&belt.thread), 0);
    belt.threaded = false;
    assert_int_equal(put_frames(&belt, 100), 41);
    assert_true(belt_ended(&belt));
    belt_close(&belt);
    assert_int_equal(taken.calls, 42);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_frame_arrives_in_order),
        cmocka_unit_test(test_enough_ends_it),
        cmocka_unit_test(test_without_a_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
