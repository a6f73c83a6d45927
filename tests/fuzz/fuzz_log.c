/* Can the files of a log hurt whoever reads them? And does recovery keep its word on any of them?
 *
 * The input is a directory in short, so that a search gets past names, headers and checksums:
 *
 *      0   u8    flags: 1 checksums are made right, 2 there is a second segment, 4 a header comes
 *                first, 8 the files end where the body does, 16 there is a `spare`; 224 what is
 *                appended afterwards
 *      1   u8    with 2: how much of the rest is the second segment, in 1/256
 *      2   48    with 4: the front of the first segment's header
 *      .   ...   frames, as log/segment.h has them, but for the batch of a frame with a right
 *                checksum: 0 is its own place, 1 the batch of the frame before it. Flags 0xff: this
 *                frame's checksum stays as it is.
 *
 * The readers must agree with each other, a refusal must say why and change nothing, and what
 * is appended after a recovery must be there after the next crash, behind what was there before. */
#include "log/crc32c.h"
#include "log/inspect.h"
#include "schemas/status.h"
#include "tests/sim/disk_sim.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define DIRECTORY "/log"
#define META      DIRECTORY "/meta"
#define BODY_MAX  (SEGMENT_BYTES_MIN - SEGMENT_HEADER_BYTES)

enum { SIGNED = 1, SECOND = 2, HEADER = 4, SHORT = 8, SPARE = 16 };

#define EXPECT(claim) ((claim) ? (void)0 : abort())

static const struct log_options options = {
    .directory = DIRECTORY, .owner = {1, 2, 3}, .segment_bytes = SEGMENT_BYTES_MIN};

struct world {
    struct sim sim;
    struct disk_sim disk;
    struct log log;
    struct log_recovery recovery;
};

/* What a reader saw: frames [first, next) and a digest of their content. */
struct sight {
    uint64_t first;
    uint64_t next;
    uint32_t crc;
};

static uint32_t sight_crc(uint32_t crc, const struct log_frame *frame)
{
    crc = crc32c(crc, &frame->index, sizeof frame->index);
    crc = crc32c(crc, &frame->term, sizeof frame->term);
    crc = crc32c(crc, &frame->type, sizeof frame->type);
    return crc32c(crc, frame->payload.data, frame->payload.size);
}

/* -- the directory --------------------------------------------------------------------------- */

static void file_put(struct world *world, const char *path, const uint8_t *data, size_t size)
{
    struct disk *disk = &world->disk.disk;
    struct disk_file *file;
    EXPECT(disk_open(disk, path, DISK_OPEN_CREATE, &file) == 0);
    EXPECT(disk_write(disk, file, 0, data, size) == 0);
    EXPECT(disk_sync(disk, file) == 0);
    EXPECT(disk_sync_directory(disk, DIRECTORY) == 0);
    disk_close(disk, file);
}

/* Give the frames of a file the checksums that readers want to see. */
static void frames_sign(uint8_t *file, uint32_t end, uint64_t sequence)
{
    const uint32_t salt = segment_salt(options.owner, sequence);
    uint32_t batch = 0;
    uint32_t offset = SEGMENT_HEADER_BYTES;
    while (offset + SEGMENT_FRAME_HEADER_BYTES <= end) {
        uint8_t *frame = file + offset;
        const uint32_t size = get_le32(frame + 4);
        if (frame[24] == LOG_TYPE_NONE || size > SEGMENT_BYTES_MIN - offset ||
            segment_frame_bytes(size) > SEGMENT_BYTES_MIN - offset) {
            offset += 8;
            continue;
        }
        if (frame[25] != 0xff) {
            frame[26] = (uint8_t)sequence;
            frame[27] = (uint8_t)(sequence >> 8);
            if (get_le32(frame + 28) == 0) {
                put_le32(frame + 28, offset);
            } else if (get_le32(frame + 28) == 1) {
                put_le32(frame + 28, batch);
            }
            batch = get_le32(frame + 28);
            put_le32(frame, crc32c(salt, frame + 4, SEGMENT_FRAME_HEADER_BYTES - 4 + size));
        }
        offset += (uint32_t)segment_frame_bytes(size);
    }
}

static void segment_put(struct world *world, const char *path, uint64_t sequence, uint8_t flags,
                        struct bytes header_front, struct bytes body)
{
    static uint8_t file[SEGMENT_BYTES_MIN];
    struct segment_header header = {.sequence = sequence, .size_bytes = SEGMENT_BYTES_MIN};
    memset(file, 0, sizeof file);
    memcpy(header.owner, options.owner, sizeof header.owner);
    segment_header_encode(&header, file);
    if (header_front.size > 0) {
        memcpy(file, header_front.data, header_front.size);
        if ((flags & SIGNED) != 0) {
            put_le32(file + 12, crc32c(crc32c(0, file, 12), file + 16, SEGMENT_HEADER_BYTES - 16));
        }
    }
    const size_t size = body.size < BODY_MAX ? body.size : BODY_MAX;
    if (size > 0) {
        memcpy(file + SEGMENT_HEADER_BYTES, body.data, size);
    }
    if ((flags & SIGNED) != 0) {
        frames_sign(file, SEGMENT_HEADER_BYTES + (uint32_t)size, sequence);
    }
    file_put(world, path, file, (flags & SHORT) != 0 ? SEGMENT_HEADER_BYTES + size : sizeof file);
}

static void on_closed(void *context)
{
    *(bool *)context = true;
}

/* A world with the `meta` of a log of ours and the segments that the input asks for. */
static void world_make(struct world *world, uint8_t flags, struct bytes rest)
{
    static uint8_t *meta;
    static size_t meta_size;
    sim_init(&world->sim, 1);
    disk_sim_init(&world->disk, &world->sim);
    if (meta == NULL) {
        bool closed = false;
        EXPECT(log_open(&world->log, &world->disk.disk, &options, &world->recovery) == 0);
        log_close(&world->log, on_closed, &closed);
        while (!closed && sim_step(&world->sim)) {
        }
        disk_sim_peek(&world->disk, META, &meta, &meta_size);
        disk_sim_deinit(&world->disk);
        disk_sim_init(&world->disk, &world->sim);
    }
    file_put(world, META, meta, meta_size);

    size_t second = 0;
    if ((flags & SECOND) != 0 && rest.size > 0) {
        second = (rest.size - 1) * rest.data[0] / 256;
        rest = bytes_of(rest.data + 1, rest.size - 1);
    }
    struct bytes header = {0};
    if ((flags & HEADER) != 0 && rest.size - second >= 48) {
        header = bytes_of(rest.data, 48);
        rest = bytes_of(rest.data + 48, rest.size - 48);
    }
    const struct bytes first = bytes_of(rest.data, rest.size - second);
    const struct bytes behind = bytes_of(rest.data + first.size, second);
    if ((flags & SPARE) != 0) {
        segment_put(world, DIRECTORY "/spare", 1, flags & (uint8_t)~SHORT, header, first);
    }
    segment_put(world, DIRECTORY "/0000000000000002.seg", 2, flags, header, first);
    if ((flags & SECOND) != 0) {
        segment_put(world, DIRECTORY "/0000000000000003.seg", 3, flags, (struct bytes){0}, behind);
    }
}

/* What `disk` holds in the files that the input made. */
static uint32_t world_crc(struct world *world)
{
    static const char *const paths[] = {META, DIRECTORY "/spare", DIRECTORY "/0000000000000002.seg",
                                        DIRECTORY "/0000000000000003.seg"};
    uint32_t crc = 0;
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        uint8_t *data;
        size_t size;
        disk_sim_peek(&world->disk, paths[i], &data, &size);
        crc = crc32c(crc, data, size);
        crc = crc32c(crc, &size, sizeof size);
        free(data);
    }
    return crc;
}

/* -- the readers ----------------------------------------------------------------------------- */

static void read_segment(struct world *world)
{
    struct segment_reader reader;
    segment_reader_init(&reader, &world->disk.disk);
    if (segment_reader_open(&reader, DIRECTORY "/0000000000000002.seg", NULL, 2) == 0) {
        struct segment_frame frame;
        uint32_t at = SEGMENT_HEADER_BYTES;
        int answer;
        while ((answer = segment_reader_next(&reader, UINT32_MAX, &frame)) == SEGMENT_FRAME) {
            EXPECT(frame.offset == at && frame.batch <= at && frame.type != LOG_TYPE_NONE);
            EXPECT(frame.disk_bytes == segment_frame_bytes(frame.payload.size));
            at += frame.disk_bytes;
            EXPECT(at <= reader.header.size_bytes);
            crc32c(0, frame.payload.data, frame.payload.size);
        }
        EXPECT(answer == SEGMENT_DEAD);
        struct segment_tail tail;
        EXPECT(segment_reader_examine(&reader, &tail) == 0);
        EXPECT(reader.offset == at);
        EXPECT(!tail.rotten || tail.witness_offset > at);
        EXPECT(tail.alive_end == 0 || tail.alive_end > at);
        EXPECT(tail.alive_end <= tail.torn_end || tail.rotten);
    }
    segment_reader_deinit(&reader);
}

/* false: damage was found. */
static bool read_inspect(struct world *world, struct sight *out)
{
    struct inspect inspect;
    EXPECT(inspect_open(&inspect, &world->disk.disk, DIRECTORY, INSPECT_VERIFY) == 0);
    const bool well = inspect.damage_status == 0;
    EXPECT(well || inspect.damage_message != NULL);
    *out = (struct sight){.first = inspect.index_first, .next = inspect.index_first};
    struct log_frame frame;
    int answer;
    while ((answer = inspect_next(&inspect, &frame)) == INSPECT_FRAME) {
        EXPECT(frame.index == out->next && frame.type >= LOG_TYPE_OWNER);
        out->next++;
        out->crc = sight_crc(out->crc, &frame);
    }
    EXPECT(answer == INSPECT_END);
    EXPECT(out->next == inspect.index_next && out->next - out->first == inspect.frames);
    inspect_close(&inspect);
    return well;
}

static void read_cursor(struct world *world, struct sight *out, uint64_t until)
{
    struct log_cursor cursor;
    *out =
        (struct sight){.first = world->recovery.index_first, .next = world->recovery.index_first};
    log_cursor_open(&cursor, &world->log, out->first);
    struct log_frame frame;
    while (out->next < until) {
        EXPECT(log_cursor_next(&cursor, &frame) == LOG_CURSOR_FRAME);
        EXPECT(frame.index == out->next && frame.type >= LOG_TYPE_OWNER);
        out->next++;
        out->crc = sight_crc(out->crc, &frame);
    }
    log_cursor_close(&cursor);
}

/* -- life after it --------------------------------------------------------------------------- */

static void on_durable(struct log_request *request, int status)
{
    EXPECT(status == 0);
    *(uint32_t *)request->context += 1;
}

/* Append behind what was found, crash, and find both. */
static void append_and_look(struct world *world, const struct sight *found, uint32_t payload_bytes)
{
    static const uint8_t payload[1024] = {0x5a};
    const struct bytes piece = bytes_of(payload, payload_bytes);
    const struct log_entry entry = {
        .term = 9, .type = LOG_TYPE_UP, .piece_count = 1, .pieces = &piece};
    const struct log_entry entries[3] = {entry, entry, entry};
    uint32_t called = 0;
    struct log_request request = {.callback = on_durable, .context = &called};
    EXPECT(log_append(&world->log, &request, entries, 3) == 0);
    while (called == 0 && sim_step(&world->sim)) {
    }
    EXPECT(called == 1 && request.index == found->next);
    disk_sim_crash(&world->disk, DISK_SIM_POWER_DROP);
    log_forget(&world->log);

    EXPECT(log_open(&world->log, &world->disk.disk, &options, &world->recovery) == 0);
    EXPECT(world->recovery.index_first == found->first);
    EXPECT(world->recovery.index_next == found->next + 3);
    struct sight sight;
    read_cursor(world, &sight, found->next);
    EXPECT(sight.crc == found->crc);
    read_cursor(world, &sight, found->next + 3);
    disk_sim_crash(&world->disk, DISK_SIM_KILL);
    log_forget(&world->log);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct world world;
    if (size == 0) {
        return 0;
    }
    const uint8_t flags = data[0];
    world_make(&world, flags, bytes_of(data + 1, size - 1));
    const uint32_t crc = world_crc(&world);
    read_segment(&world);
    struct sight seen;
    const bool well = read_inspect(&world, &seen);
    const int status = log_open(&world.log, &world.disk.disk, &options, &world.recovery);
    if (status == 0) {
        EXPECT(well);
        EXPECT(world.recovery.index_first == seen.first && world.recovery.index_next == seen.next);
        struct sight found;
        read_cursor(&world, &found, seen.next);
        EXPECT(found.crc == seen.crc);
        append_and_look(&world, &found, (uint32_t)(flags >> 5) * 56u);
    } else {
        EXPECT(!well);
        EXPECT(status == STATUS_CORRUPT || status == STATUS_FOREIGN);
        EXPECT(world.recovery.message != NULL && world.recovery.path[0] != '\0');
        EXPECT(world_crc(&world) == crc);
    }
    disk_sim_deinit(&world.disk);
    sim_deinit(&world.sim);
    return 0;
}
