/* Claim: no bit of a closed log can flip, and no byte of its segment can go, unnoticed: log_open
 * and inspect refuse it with its place and change nothing, a cursor of a log that is open meanwhile says
 * so; and what means nothing (padding, free space, the mark behind the last frame) costs no frame.
 *
 * Method: a segment of 64 KiB filled with frames, all its bits in turn, all its lengths in turn. What
 * the answer must be follows from where the bit lies.
 *
 *     flips [--every N]      only every Nth bit and length
 */
#include "log/crc32c.h"
#include "log/inspect.h"
#include "schemas/check.h"
#include "schemas/status.h"
#include "tests/sim/disk_sim.h"

#include <stdio.h>
#include <stdlib.h>

#define DIRECTORY     "/log"
#define SEGMENT       DIRECTORY "/0000000000000001.seg"
#define SEGMENT_BYTES (64u * 1024u)
#define FRAMES_MAX    200u

static const struct log_options options = {
    .directory = DIRECTORY, .owner = {0xaa, 0xbb}, .segment_bytes = SEGMENT_BYTES};

static struct sim sim;
static struct disk_sim disk;
static struct log written;
static struct log_recovery recovery;
static uint32_t frame_count;
static struct {
    uint32_t offset;
    uint32_t size;        /* of the payload */
} frames[FRAMES_MAX + 1]; /* the last one is the mark */
static uint32_t frames_crc;
static uint64_t changes; /* of the disk */

#define EXPECT(claim, place)                                                                       \
    do {                                                                                           \
        if (!(claim)) {                                                                            \
            fprintf(stderr, "flips: broken: %s (line %d), at %u\n", #claim, __LINE__,              \
                    (unsigned)(place));                                                            \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static uint32_t crc_add(uint32_t crc, const struct log_frame *frame)
{
    crc = crc32c(crc, &frame->index, sizeof frame->index);
    crc = crc32c(crc, &frame->term, sizeof frame->term);
    crc = crc32c(crc, &frame->type, sizeof frame->type);
    return crc32c(crc, frame->payload.data, frame->payload.size);
}

static void on_durable(struct log_request *request, int status)
{
    CHECK(status == 0);
    *(bool *)request->context = true;
}

static void on_closed(void *context)
{
    *(bool *)context = true;
}

static void append(uint32_t size)
{
    static uint8_t payload[2048];
    for (uint32_t i = 0; i < size; i++) {
        payload[i] = (uint8_t)sim_random(&sim);
    }
    const struct bytes piece = bytes_of(payload, size);
    const struct log_entry entry = {
        .term = 1 + frame_count / 7, .type = LOG_TYPE_DOWN, .piece_count = 1, .pieces = &piece};
    bool done = false;
    struct log_request request = {.callback = on_durable, .context = &done};
    CHECK(frame_count < FRAMES_MAX);
    CHECK(log_append(&written, &request, &entry, 1) == 0);
    while (!done && sim_step(&sim)) {
    }
    frames[frame_count].offset = written.durable_offset - (uint32_t)segment_frame_bytes(size);
    frames[frame_count].size = size;
    const struct log_frame frame = {
        .index = request.index, .term = entry.term, .type = entry.type, .payload = piece};
    frames_crc = crc_add(frames_crc, &frame);
    frame_count++;
}

/* A segment with as many frames as it takes, and a mark: the log was closed. */
static void log_make(void)
{
    sim_init(&sim, 1);
    disk_sim_init(&disk, &sim);
    CHECK(log_open(&written, &disk.disk, &options, &recovery) == 0);
    append(0);
    append(13);
    while (written.durable_offset + 1500 < SEGMENT_BYTES) {
        append((uint32_t)sim_below(&sim, 1200));
    }
    frames[frame_count].offset = written.durable_offset;
    bool closed = false;
    log_close(&written, on_closed, &closed);
    while (!closed && sim_step(&sim)) {
    }
    CHECK(closed);
}

static void count_change(void *context)
{
    (void)context;
    changes++;
}

/* -- the readers ----------------------------------------------------------------------------- */

/* log_open on this disk must refuse, at this place, and write nothing. */
static void open_refuses(uint64_t offset, uint32_t place)
{
    changes = 0;
    disk.on_change = count_change;
    EXPECT(log_open(&written, &disk.disk, &options, &recovery) == STATUS_CORRUPT, place);
    EXPECT(recovery.damage_offset == offset, place);
    EXPECT(strcmp(recovery.path, SEGMENT) == 0, place);
    EXPECT(changes == 0, place);
    disk.on_change = NULL;
}

static void inspect_refuses(uint64_t offset, uint32_t place)
{
    struct inspect inspect;
    EXPECT(inspect_open(&inspect, &disk.disk, DIRECTORY, INSPECT_VERIFY) == 0, place);
    EXPECT(inspect.damage_status == STATUS_CORRUPT, place);
    EXPECT(inspect.damage_offset == offset, place);
    inspect_close(&inspect);
}

static uint32_t cursor_crc(struct log *log, uint32_t place)
{
    struct log_cursor cursor;
    struct log_frame frame;
    uint32_t crc = 0;
    log_cursor_open(&cursor, log, 1);
    for (uint32_t i = 0; i < frame_count; i++) {
        EXPECT(log_cursor_next(&cursor, &frame) == LOG_CURSOR_FRAME, place);
        crc = crc_add(crc, &frame);
    }
    EXPECT(log_cursor_next(&cursor, &frame) == LOG_CURSOR_END, place);
    log_cursor_close(&cursor);
    return crc;
}

/* Nothing is lost: all three readers see every frame. */
static void all_is_there(uint32_t place)
{
    struct inspect inspect;
    struct log_frame frame;
    uint32_t crc = 0;
    EXPECT(inspect_open(&inspect, &disk.disk, DIRECTORY, INSPECT_VERIFY) == 0, place);
    EXPECT(inspect.damage_status == 0, place);
    while (inspect_next(&inspect, &frame) == INSPECT_FRAME) {
        crc = crc_add(crc, &frame);
    }
    EXPECT(inspect.index_next == 1 + frame_count && crc == frames_crc, place);
    inspect_close(&inspect);

    struct disk_sim copy; /* recovery writes */
    disk_sim_clone(&copy, &sim, &disk);
    EXPECT(log_open(&written, &copy.disk, &options, &recovery) == 0, place);
    EXPECT(recovery.index_first == 1 && recovery.index_next == 1 + frame_count, place);
    EXPECT(cursor_crc(&written, place) == frames_crc, place);
    disk_sim_crash(&copy, DISK_SIM_KILL);
    log_forget(&written);
    disk_sim_deinit(&copy);
}

/* A log that is open while its file rots: a cursor lends the frames before the place as they were, and
 * then says that it is damaged. */
static void cursor_refuses(struct log *log, uint32_t number, uint32_t place)
{
    struct log_cursor cursor;
    struct log_frame frame;
    log_cursor_open(&cursor, log, 1 + number);
    EXPECT(log_cursor_next(&cursor, &frame) == STATUS_CORRUPT, place);
    log_cursor_seek(&cursor, number);
    if (number > 0) {
        EXPECT(log_cursor_next(&cursor, &frame) == LOG_CURSOR_FRAME, place);
        EXPECT(frame.index == number && frame.payload.size == frames[number - 1].size, place);
        EXPECT(log_cursor_next(&cursor, &frame) == STATUS_CORRUPT, place);
    }
    log_cursor_close(&cursor);
}

/* -- every bit, every length ----------------------------------------------------------------- */

static void flips(uint32_t every)
{
    static struct sim live_sim;
    static struct disk_sim live; /* the same bytes under a log that is open */
    static struct log live_log;
    struct log_recovery live_recovery;
    sim_init(&live_sim, 2);
    disk_sim_clone(&live, &live_sim, &disk);
    CHECK(log_open(&live_log, &live.disk, &options, &live_recovery) == 0);
    while (sim_step(&live_sim)) {
    }

    uint64_t refused = 0;
    uint64_t harmless = 0;
    uint32_t number = 0; /* of the frame that the bit lies in or behind */
    for (uint32_t bit = 0; bit < SEGMENT_BYTES * 8; bit += every) {
        const uint32_t at = bit / 8;
        const uint8_t mask = (uint8_t)(1u << bit % 8);
        while (number < frame_count && at >= frames[number + 1].offset) {
            number++;
        }
        const bool header = at < SEGMENT_HEADER_BYTES;
        const bool inside =
            !header && number < frame_count &&
            at < frames[number].offset + SEGMENT_FRAME_HEADER_BYTES + frames[number].size;
        disk_sim_flip(&disk, SEGMENT, at, mask);
        if (header || inside) {
            const uint32_t offset = header ? 0 : frames[number].offset;
            open_refuses(offset, at);
            inspect_refuses(offset, at);
            refused++;
        } else {
            all_is_there(at);
            harmless++;
        }
        disk_sim_flip(&disk, SEGMENT, at, mask);
        if (inside) {
            disk_sim_flip(&live, SEGMENT, at, mask);
            cursor_refuses(&live_log, number, at);
            disk_sim_flip(&live, SEGMENT, at, mask);
        }
    }
    EXPECT(cursor_crc(&live_log, 0) == frames_crc, 0);
    printf("flips: %llu bits of a segment of %u KiB refused by log_open, inspect and cursor, %llu "
           "harmless\n",
           (unsigned long long)refused, SEGMENT_BYTES / 1024, (unsigned long long)harmless);
    disk_sim_crash(&live, DISK_SIM_KILL);
    log_forget(&live_log);
    disk_sim_deinit(&live);
    sim_deinit(&live_sim);
}

static void truncations(uint32_t every)
{
    uint64_t lengths = 0;
    for (uint32_t size = SEGMENT_BYTES - 1; size < SEGMENT_BYTES; size -= every) {
        struct disk_file *file;
        CHECK(disk_open(&disk.disk, SEGMENT, DISK_OPEN_WRITE, &file) == 0);
        CHECK(disk_truncate(&disk.disk, file, size) == 0);
        disk_close(&disk.disk, file);
        open_refuses(0, size);
        inspect_refuses(0, size);
        lengths++;
    }
    printf("flips: %llu lengths refused\n", (unsigned long long)lengths);
}

int main(int argc, char **argv)
{
    const uint32_t every =
        argc == 3 && strcmp(argv[1], "--every") == 0 ? (uint32_t)strtoul(argv[2], NULL, 10) : 1;
    if (every == 0 || (argc != 1 && argc != 3)) {
        fprintf(stderr, "usage: flips [--every N]\n");
        return 2;
    }
    log_make();
    flips(every);
    truncations(every);
    disk_sim_deinit(&disk);
    sim_deinit(&sim);
    return 0;
}
