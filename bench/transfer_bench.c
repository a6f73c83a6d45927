/* How fast a state is copied to a replica that lags, and how much memory that takes, by its size.
 *
 *   1. a state of so many megabytes: rows of 4 KiB that do not compress, flushed
 *   2. both ends of nodes/cloud/transfer.h in this process, frames handed over at once, no bound on the
 *      rate: what is left is the work of both, and of RocksDB
 *   3. one line: time, MB/s, the peak of the process when the state was written and when it was copied
 *
 *     transfer_bench [--directory DIR] [--megabytes N] [-o table|json]
 *
 * Each size is a process of its own, so that the peaks are its own.
 */
#include "bench/rows.h"
#include "nodes/cloud/transfer.h"
#include "schemas/check.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ROW_BYTES 4096u
#define QUEUE     64u

struct end {
    char directory[512];
    struct store *store;
};

static struct transfer_source source;
static struct transfer_sink sink;
static struct end from;
static struct end to;
static struct codec *codec;
static struct replica_work *works[QUEUE];
static uint32_t work_count;
static uint64_t clock_begun_ms;
static bool as_rows; /* -o json */
static struct rows document;

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000 - clock_begun_ms + 1;
}

static uint64_t peak_kb(void)
{
    struct rusage usage;
    CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
    return (uint64_t)usage.ru_maxrss;
}

static int store_at(struct end *end)
{
    const struct store_options options = {.directory = end->directory,
                                          .profile = STORE_CLOUD,
                                          .machine = MACHINE_NAME,
                                          .format = MACHINE_FORMAT};
    return store_rocks_open(&options, &end->store);
}

/* -- the door of both -------------------------------------------------------------------------- */

static void door_send(void *context, uint64_t replica, struct bytes frame)
{
    (void)context;
    uint16_t kind = WIRE_NONE;
    struct bytes body;
    struct state_ask ask;
    struct state_range range;
    codec_reset(codec);
    CHECK(codec_frame_read(codec, codec_aligned(codec, frame), &kind, &body) == 0);
    if (replica == 1) {
        CHECK(codec_state_ask_read(codec, body, &ask) == 0);
        transfer_source_ask(&source, 2, &ask, from.store, now_ms());
    } else {
        CHECK(codec_state_range_read(codec, body, &range) == 0);
        transfer_sink_answer(&sink, 1, &range, now_ms());
    }
}

static void door_run(void *context, struct replica_work *work)
{
    (void)context;
    CHECK(work_count < QUEUE);
    works[work_count] = work;
    work_count++;
}

static void door_log(void *context, enum logger_level level, const char *event, const char *pairs)
{
    (void)context;
    if (level >= LOGGER_WARN) {
        fprintf(stderr, "%s %s\n", event, pairs);
    }
}

static int door_open(void *context, bool anew, struct store **out)
{
    (void)context;
    CHECK(!anew);
    const int status = store_at(&to);
    *out = to.store;
    return status;
}

static void door_drop(void *context, struct store *staging)
{
    (void)context;
    (void)staging;
    CHECK(false); /* nothing is given up here */
}

/* -- one size ---------------------------------------------------------------------------------- */

static void state_write(uint64_t megabytes)
{
    uint8_t value[ROW_BYTES];
    uint64_t random = 1;
    const uint64_t rows = megabytes * 1024 * 1024 / ROW_BYTES;
    for (uint64_t i = 0; i < rows;) {
        store_begin(from.store);
        for (uint64_t k = 0; k < 256 && i < rows; k++, i++) {
            for (size_t at = 0; at < sizeof value; at += 8) {
                random = random * UINT64_C(6364136223846793005) + 1442695040888963407u;
                put_le64(value + at, random ^ (random >> 29));
            }
            uint8_t key[8];
            put_be64(key, random); /* in no order: as a state comes to be */
            store_put(from.store, (unsigned)(i % MACHINE_TABLES), bytes_of(key, sizeof key),
                      bytes_of(value, sizeof value));
        }
        while (store_commit(from.store, i) != STATUS_OK) {
            (void)usleep(10000); /* the disk is slower than this loop */
        }
    }
    CHECK(store_flush(from.store) == STATUS_OK);
}

static void size_tell(uint64_t megabytes, uint64_t ms, uint64_t written_kb)
{
    const double speed = (double)sink.bytes_received / 1048576 * 1000 / (double)ms;
    if (!as_rows) {
        printf("%8llu MB %10.1f s %8.0f MB/s %8llu ranges %10llu MB written %8llu MB copied\n",
               (unsigned long long)megabytes, (double)ms / 1000, speed,
               (unsigned long long)sink.ranges_taken, (unsigned long long)written_kb / 1024,
               (unsigned long long)peak_kb() / 1024);
        fflush(stdout);
        return;
    }
    char row[32];
    snprintf(row, sizeof row, "%llu MB", (unsigned long long)megabytes);
    const struct row_figure figures[] = {
        {.row = row, .figure = "MB/s", .value = speed},
        {.row = row,
         .figure = "peak memory MB",
         .value = (double)peak_kb() / 1024,
         .better = ROWS_LESS},
    };
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++) {
        rows_add(&document, &figures[i]);
    }
}

static void run_size(const char *directory, uint64_t megabytes)
{
    static const uint64_t members[] = {1, 2};
    static const struct transfer_door door = {
        .send = door_send, .run = door_run, .log = door_log, .open = door_open, .drop = door_drop};
    snprintf(from.directory, sizeof from.directory, "%s/kelp-transfer-from.%d", directory,
             getpid());
    snprintf(to.directory, sizeof to.directory, "%s/kelp-transfer-to.%d", directory, getpid());
    CHECK(store_at(&from) == STATUS_OK);
    codec = codec_create();
    state_write(megabytes);
    const uint64_t written_kb = peak_kb();

    clock_begun_ms = 0;
    clock_begun_ms = now_ms();
    transfer_source_init(&source, &door, LIMIT_TRANSFER_BYTES);
    transfer_sink_init(&sink, &door, 2, members, 2, 0, 0);
    transfer_sink_want(&sink, 1, store_position(from.store), now_ms());
    while (sink.state != TRANSFER_READY) {
        (void)transfer_sink_run(&sink, 1, true, now_ms());
        while (work_count > 0) {
            work_count--;
            struct replica_work *work = works[work_count];
            work->work(work);
            work->done(work);
        }
    }
    const uint64_t ms = now_ms();
    size_tell(megabytes, ms, written_kb);
    (void)transfer_sink_take(&sink, now_ms());
    transfer_source_deinit(&source);
    transfer_sink_deinit(&sink);
    store_close(from.store);
    store_close(to.store);
    (void)store_rocks_destroy(from.directory);
    (void)store_rocks_destroy(to.directory);
    codec_destroy(codec);
}

int main(int count, char **arguments)
{
    const char *directory = "/tmp";
    uint64_t sizes[] = {64, 256, 1024};
    size_t size_count = 3;
    for (int i = 1; i < count; i++) {
        if (strcmp(arguments[i], "--directory") == 0 && i + 1 < count) {
            directory = arguments[++i];
        } else if (strcmp(arguments[i], "--megabytes") == 0 && i + 1 < count &&
                   strtoull(arguments[i + 1], NULL, 10) > 0) {
            sizes[0] = strtoull(arguments[++i], NULL, 10);
            size_count = 1;
        } else if (strcmp(arguments[i], "-o") == 0 && i + 1 < count &&
                   (strcmp(arguments[i + 1], "json") == 0 ||
                    strcmp(arguments[i + 1], "table") == 0)) {
            as_rows = strcmp(arguments[++i], "json") == 0;
        } else {
            fprintf(stderr,
                    "usage: transfer_bench [--directory DIR] [--megabytes N] [-o table|json]\n");
            return 2;
        }
    }
    if (as_rows) {
        rows_begin(&document, "transfer");
    } else {
        printf("%11s %12s %13s %15s %21s %18s\n", "state", "copied in", "", "", "peak memory when",
               "when");
    }
    for (size_t i = 0; i < size_count; i++) {
        fflush(stdout);
        const pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            run_size(directory, sizes[i]);
            _exit(0);
        }
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child);
        if (status != 0) {
            return 1;
        }
        document.any = true; /* the child's */
    }
    if (as_rows) {
        rows_end();
    }
    return 0;
}
