/* Who much proposes waits for itself: lanes.h alone, and forward.h in virtual time with a slow disk behind it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "nodes/cloud/forward.h"
#include "nodes/cloud/lanes.h"
#include "schemas/check.h"
#include "schemas/codec.h"

/* -- lanes ------------------------------------------------------------------------------------- */

struct parcel {
    struct lane_item item;
    uint64_t lane;
    uint32_t order; /* in its lane */
    bool taken;
};

static struct parcel *parcel_of(struct lane_item *item)
{
    return CONTAINER_OF(item, struct parcel, item);
}

static uint64_t random_next(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return *state >> 33;
}

/* Claim: whatever is pushed, taken and done in whatever order: each item comes out once, those of a lane in
 * order, the oldest is the oldest, and the counts are those of a model that counts.
 * Method: a hundred thousand steps from a seed, eight lanes. */
static void test_lanes_lose_nothing(void **state)
{
    (void)state;
    enum { PARCELS = 512, NUMBERS = 8 };
    static struct parcel parcels[PARCELS];
    static uint32_t queue[PARCELS]; /* of free ones */
    struct lanes lanes = {.count = 0};
    uint32_t pushed[NUMBERS] = {0};
    uint32_t taken[NUMBERS] = {0};
    uint32_t in_lane[NUMBERS] = {0};
    uint32_t free_count = 0;
    uint32_t count = 0;
    size_t bytes = 0;
    uint64_t seed = 4711;
    for (uint32_t i = 0; i < PARCELS; i++) {
        queue[free_count++] = i;
    }
    for (uint32_t step = 0; step < 100000; step++) {
        const uint64_t what = random_next(&seed) % 100;
        if (what < 50 && free_count > 0) {
            struct parcel *parcel = &parcels[queue[--free_count]];
            parcel->lane = random_next(&seed) % NUMBERS;
            parcel->order = pushed[parcel->lane]++;
            parcel->taken = false;
            const size_t size = random_next(&seed) % 5000;
            lanes_push(&lanes, parcel->lane, 1 + random_next(&seed) % 2000, &parcel->item, size);
            in_lane[parcel->lane]++;
            count++;
            bytes += size;
        } else if (what < 80) {
            struct lane_item *item = what < 75 ? lanes_next(&lanes) : lanes_oldest(&lanes);
            if (item != NULL) {
                struct parcel *parcel = parcel_of(item);
                assert_int_equal(parcel->order, taken[parcel->lane]);
                taken[parcel->lane]++;
                lanes_take(&lanes, item);
                parcel->taken = true;
            } else {
                for (uint32_t i = 0; i < NUMBERS; i++) {
                    assert_int_equal(pushed[i], taken[i]);
                }
            }
        } else {
            const uint32_t start = (uint32_t)(random_next(&seed) % PARCELS);
            for (uint32_t i = 0; i < PARCELS; i++) {
                struct parcel *parcel = &parcels[(start + i) % PARCELS];
                if (parcel->taken) {
                    parcel->taken = false;
                    in_lane[parcel->lane]--;
                    count--;
                    bytes -= parcel->item.bytes;
                    lanes_done(&lanes, &parcel->item);
                    queue[free_count++] = (uint32_t)(parcel - parcels);
                    break;
                }
            }
        }
        assert_int_equal(lanes.count, count);
        assert_int_equal(lanes.bytes, bytes);
        for (uint32_t i = 0; i < NUMBERS; i++) {
            const struct lane *lane = lanes_find(&lanes, i);
            assert_int_equal(lane == NULL ? 0 : lane->count, in_lane[i]);
        }
    }
    for (struct lane_item *item; (item = lanes_oldest(&lanes)) != NULL;) {
        lanes_take(&lanes, item);
        parcel_of(item)->taken = true;
    }
    for (uint32_t i = 0; i < PARCELS; i++) {
        if (parcels[i].taken) {
            lanes_done(&lanes, &parcels[i].item);
        }
    }
    assert_int_equal(lanes.count, 0);
    assert_null(lanes.turn);
}

/* Claim: between two items of a lane, another one gives its share and at most one item more.
 * Method: a lane with ten thousand small items and one with large ones against one with an item at a time. */
static void test_lanes_take_turns(void **state)
{
    (void)state;
    enum { NOISY = 10000, LARGE = 100 };
    struct lanes lanes = {.count = 0};
    struct parcel *noisy = calloc(NOISY, sizeof *noisy);
    struct parcel *large = calloc(LARGE, sizeof *large);
    assert_non_null(noisy);
    assert_non_null(large);
    for (uint32_t i = 0; i < NOISY; i++) {
        noisy[i].lane = 1;
        lanes_push(&lanes, 1, 16384, &noisy[i].item, 100);
    }
    for (uint32_t i = 0; i < LARGE; i++) {
        large[i].lane = 2;
        lanes_push(&lanes, 2, 16384, &large[i].item, 100000);
    }
    struct parcel quiet = {.lane = 3};
    size_t large_sum = 0;
    uint32_t rounds = 0;
    for (; rounds < 150; rounds++) {
        lanes_push(&lanes, 3, 16384, &quiet.item, 100);
        size_t between = 0;
        for (;;) {
            struct lane_item *item = lanes_next(&lanes);
            assert_non_null(item);
            struct parcel *parcel = parcel_of(item);
            lanes_take(&lanes, item);
            lanes_done(&lanes, item);
            if (parcel == &quiet) {
                break;
            }
            between += item->bytes + LANES_ITEM_BYTES;
            large_sum += parcel->lane == 2 ? item->bytes : 0;
        }
        assert_in_range(between, 0, 2 * 16384 + 100000);
    }
    /* Large items have their share all the same. */
    assert_in_range(large_sum, rounds * 16384u / 100000u * 100000u - 200000u, rounds * 16384u);
    for (struct lane_item *item; (item = lanes_oldest(&lanes)) != NULL;) {
        lanes_take(&lanes, item);
        lanes_done(&lanes, item);
    }
    free(noisy);
    free(large);
}

/* -- forward.h in virtual time ----------------------------------------------------------------- */

#define DISK_BYTES_MS 100000u /* 100 MB/s */
#define ORIGIN        (UINT64_C(1) << 32 | 5)

/* A leader whose disk takes its time: commands are applied one after the other. */
struct world {
    struct forwarder *forward;
    struct codec *codec;
    uint64_t now_ms;
    struct {
        uint64_t sequence;
        uint32_t records;
        size_t bytes_left;
    } disk[LIMIT_FORWARD_FLIGHT + 1];
    uint32_t disk_count;
    size_t flight_max; /* bytes with the disk at once */
    uint64_t quiet_sent_ms;
    bool quiet_waits;
    uint64_t quiet_count, quiet_sum_ms, quiet_worst_ms;
    uint64_t noise_bytes; /* applied */
};

static uint64_t world_leader(void *context)
{
    (void)context;
    return 1;
}

static int world_propose(void *context, struct bytes command)
{
    struct world *world = context;
    struct command read;
    codec_reset(world->codec);
    assert_int_equal(codec_command_read(world->codec, codec_aligned(world->codec, command), &read),
                     0);
    assert_in_range(world->disk_count, 0, LIMIT_FORWARD_FLIGHT);
    world->disk[world->disk_count].sequence = read.sequence;
    world->disk[world->disk_count].records = read.record_count;
    world->disk[world->disk_count].bytes_left = command.size;
    world->disk_count++;
    size_t flight = 0;
    for (uint32_t i = 0; i < world->disk_count; i++) {
        flight += world->disk[i].bytes_left;
    }
    world->flight_max = flight > world->flight_max ? flight : world->flight_max;
    return 0;
}

static uint64_t world_applied(void *context)
{
    (void)context;
    return 0;
}

static int64_t world_wall_ms(void *context)
{
    return (int64_t)((struct world *)context)->now_ms;
}

static void world_on_quiet(void *context, uint64_t tag, int status, int outcome, uint64_t value)
{
    struct world *world = context;
    (void)tag;
    (void)outcome;
    (void)value;
    if (status == STATUS_CLOSING) {
        return; /* the world ends */
    }
    assert_int_equal(status, 0);
    const uint64_t took_ms = world->now_ms - world->quiet_sent_ms;
    world->quiet_waits = false;
    world->quiet_count++;
    world->quiet_sum_ms += took_ms;
    world->quiet_worst_ms = took_ms > world->quiet_worst_ms ? took_ms : world->quiet_worst_ms;
}

static void world_on_noise(void *context, uint64_t tag, int status, int outcome, uint64_t value)
{
    (void)outcome;
    (void)value;
    if (status == 0) {
        ((struct world *)context)->noise_bytes += tag;
    }
}

static int world_submit(struct world *world, uint64_t lane, size_t size, forward_on_done on_done)
{
    static uint8_t zeros[LIMIT_RECORD_BYTES];
    struct bytes record;
    codec_reset(world->codec);
    const struct record build = {.kind = RECORD_VERDICT, .key = "k", .body = bytes_of(zeros, size)};
    assert_int_equal(codec_record_build(world->codec, &build, &record), 0);
    return forward_submit(world->forward, lane, record, on_done, world, size, world->now_ms);
}

static void world_disk(struct world *world)
{
    size_t room = DISK_BYTES_MS;
    while (world->disk_count > 0 && room > 0) {
        const size_t step = world->disk[0].bytes_left < room ? world->disk[0].bytes_left : room;
        room -= step;
        world->disk[0].bytes_left -= step;
        if (world->disk[0].bytes_left > 0) {
            return;
        }
        struct forward_result results[LIMIT_FORWARD_COMMAND_RECORDS] = {{0}};
        const uint64_t sequence = world->disk[0].sequence;
        const uint32_t records = world->disk[0].records;
        world->disk_count--;
        memmove(&world->disk[0], &world->disk[1], world->disk_count * sizeof world->disk[0]);
        assert_true(forward_applied(world->forward, ORIGIN, sequence, results, records));
    }
}

/* Ten seconds: a quiet session proposes a record as soon as the one before is applied and 37 ms have passed;
 * `noisy` sessions and the API propose whatever is taken. */
static void world_run(struct world *world, uint32_t noisy, bool api)
{
    const struct forward_door door = {.context = world,
                                      .leader = world_leader,
                                      .propose = world_propose,
                                      .applied = world_applied,
                                      .wall_ms = world_wall_ms};
    *world = (struct world){.codec = codec_create()};
    world->forward = forward_create(&door, 1, ORIGIN, 60000);
    for (; world->now_ms < 3000; world->now_ms++) {
        for (uint32_t i = 0; i < noisy; i++) {
            while (world_submit(world, FORWARD_LANE_SESSIONS + 100 + i, i == 0 ? 1500000 : 1024,
                                world_on_noise) == 0) {
            }
        }
        while (api && world_submit(world, FORWARD_LANE_API, 65536, world_on_noise) == 0) {
        }
        if (!world->quiet_waits && world->now_ms % 37 == 0) {
            world->quiet_waits = true;
            world->quiet_sent_ms = world->now_ms;
            assert_int_equal(world_submit(world, FORWARD_LANE_SESSIONS, 200, world_on_quiet), 0);
        }
        (void)forward_run(world->forward, world->now_ms);
        world_disk(world);
    }
    forward_destroy(world->forward);
    codec_destroy(world->codec);
}

/* Claim: beside a session with a long log, ten of them, or a flood of API writes, a record of a quiet session
 * waits for what is under way and for one turn of the others, not for their queues; and the disk is busy.
 * Method: three virtual seconds with a disk of 100 MB/s, without and with the noise. In one queue with the noise
 * it waited 495 ms. */
static void test_quiet_beside_noisy(void **state)
{
    (void)state;
    static const struct {
        uint32_t noisy;
        bool api;
    } cases[] = {{0, false}, {1, false}, {10, false}, {0, true}, {10, true}};
    const uint64_t round_ms = (LIMIT_FORWARD_FLIGHT_BYTES + LIMIT_RECORD_BYTES +
                               LIMIT_FEED_APPEND_BYTES + FORWARD_COMMAND_BYTES) /
                                  DISK_BYTES_MS +
                              4;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct world world;
        world_run(&world, cases[i].noisy, cases[i].api);
        print_message("noisy=%u api=%d: quiet mean=%llu ms worst=%llu ms, others %llu MB/s, under "
                      "way %zu KiB\n",
                      cases[i].noisy, (int)cases[i].api,
                      (unsigned long long)(world.quiet_sum_ms / world.quiet_count),
                      (unsigned long long)world.quiet_worst_ms,
                      (unsigned long long)(world.noise_bytes / 3000000), world.flight_max / 1024);
        const bool noise = cases[i].noisy > 0 || cases[i].api;
        assert_in_range(world.quiet_worst_ms, 0, noise ? round_ms : 1);
        assert_in_range(world.quiet_count, 30, 3000);
        if (noise) {
            assert_in_range(world.noise_bytes, 240000000, 300000000);
        }
    }
}

/* Claim: nobody fills the queue for the others: a session and the API are refused at their own bound, larger
 * records at three quarters, and small ones of others are still taken.
 * Method: each fills what it may, nothing is applied. */
static void test_bounds_of_lanes(void **state)
{
    (void)state;
    struct world *world = &(struct world){.codec = codec_create()};
    const struct forward_door door = {.context = world,
                                      .leader = world_leader,
                                      .propose = world_propose,
                                      .applied = world_applied,
                                      .wall_ms = world_wall_ms};
    world->forward = forward_create(&door, 1, ORIGIN, 60000);
    size_t taken = 0;
    while (world_submit(world, FORWARD_LANE_SESSIONS, 100000, world_on_noise) == 0) {
        taken += 100000;
    }
    assert_in_range(taken, LIMIT_FORWARD_SESSION_BYTES - 200000, LIMIT_FORWARD_SESSION_BYTES);
    taken = 0;
    while (world_submit(world, FORWARD_LANE_API, 100000, world_on_noise) == 0) {
        taken += 100000;
    }
    assert_in_range(taken, LIMIT_FORWARD_API_BYTES - 200000, LIMIT_FORWARD_API_BYTES);
    uint32_t sessions = 1;
    while (world_submit(world, FORWARD_LANE_SESSIONS + sessions, 1000000, world_on_noise) == 0) {
        sessions++;
    }
    assert_in_range(forward_report(world->forward).bytes, LIMIT_FORWARD_LARGE_BYTES - 1000200,
                    LIMIT_FORWARD_LARGE_BYTES);
    for (uint32_t i = 0; i < 1000; i++) { /* acknowledgements and verdicts go on */
        assert_int_equal(world_submit(world, FORWARD_LANE_SESSIONS + 1000 + i, 200, world_on_noise),
                         0);
        assert_int_equal(world_submit(world, FORWARD_LANE_CORE, 200, world_on_noise), 0);
    }
    assert_int_equal(forward_report(world->forward).refused, 3);
    forward_destroy(world->forward);
    codec_destroy(world->codec);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lanes_lose_nothing),
        cmocka_unit_test(test_lanes_take_turns),
        cmocka_unit_test(test_quiet_beside_noisy),
        cmocka_unit_test(test_bounds_of_lanes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
