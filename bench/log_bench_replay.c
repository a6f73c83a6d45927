#include "bench/log_bench.h"

#include "schemas/check.h"

#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <uv.h>

/* Call `each` for every segment of the log. */
static void segments_each(const char *path, void (*each)(int descriptor, uint64_t *sum),
                          uint64_t *sum)
{
    char pattern[700];
    snprintf(pattern, sizeof pattern, "%s/*.seg", path);
    glob_t found;
    CHECK(glob(pattern, 0, NULL, &found) == 0);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        const int descriptor = open(found.gl_pathv[i], O_RDONLY);
        CHECK(descriptor >= 0);
        each(descriptor, sum);
        close(descriptor);
    }
    globfree(&found);
}

static void segment_forget(int descriptor, uint64_t *sum)
{
    (void)sum;
    CHECK(fdatasync(descriptor) == 0); /* what is dirty stays in the cache */
    CHECK(posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED) == 0);
}

static void segment_read(int descriptor, uint64_t *sum)
{
    static uint8_t buffer[LIMIT_LOG_READ_BYTES]; /* as a reader of the log asks */
    for (ssize_t size; (size = read(descriptor, buffer, sizeof buffer)) != 0;) {
        CHECK(size > 0);
        *sum += (uint64_t)size;
    }
}

/* Bytes per second of reading the files and doing nothing with them. */
static double plain_read(const char *path)
{
    uint64_t bytes = 0;
    const uint64_t begun_ns = now_ns();
    segments_each(path, segment_read, &bytes);
    return (double)bytes * 1e9 / (double)(now_ns() - begun_ns);
}

static double open_seconds(struct log *log, struct disk_uv *uv, const char *path)
{
    const uint64_t begun_ns = now_ns();
    bench_log_open(log, uv, path, UINT64_MAX);
    return (double)(now_ns() - begun_ns) / 1e9;
}

/* Frames per second through a cursor, from the first to the last. */
static double replay(struct log *log)
{
    struct log_cursor cursor;
    uint64_t frames = 0;
    const uint64_t begun_ns = now_ns();
    log_cursor_open(&cursor, log, log_index_first(log));
    for (struct log_frame frame; log_cursor_next(&cursor, &frame) == LOG_CURSOR_FRAME;) {
        frames++;
    }
    CHECK(frames == log_index_next(log) - log_index_first(log));
    log_cursor_close(&cursor);
    return (double)frames * 1e9 / (double)(now_ns() - begun_ns);
}

void replay_bench(enum format format, bool first, struct disk_uv *uv, const char *path,
                  struct bytes payload, uint64_t bytes)
{
    struct log log;
    const uint64_t frame_bytes = segment_frame_bytes(payload.size);
    const struct load load = {
        .flight = 64, .until_ns = UINT64_MAX, .until_records = bytes / frame_bytes};
    bench_log_open(&log, uv, path, UINT64_MAX);
    const uint64_t records = load_run(&log, &load, payload);
    bench_log_close(&log);
    const double gigabytes = (double)(records * frame_bytes) / 1e9;

    segments_each(path, segment_forget, NULL);
    const double plain_cold = plain_read(path);
    segments_each(path, segment_forget, NULL);
    const double open_cold = open_seconds(&log, uv, path);
    bench_log_close(&log);
    const double open_warm = open_seconds(&log, uv, path);
    segments_each(path, segment_forget, NULL);
    const double cursor_cold = replay(&log);
    const double cursor_warm = replay(&log);
    const double plain_warm = plain_read(path);
    bench_log_close(&log);

    const double frame_megabytes = (double)frame_bytes / 1e6;
    if (format == FORMAT_JSON) {
        char row[64];
        snprintf(row, sizeof row, "%llu B read back", (unsigned long long)payload.size);
        const struct row_figure figures[] = {
            {row, "open cold s/GB", open_cold / gigabytes, ROWS_LESS, NULL, 0, 0, 0, false},
            {row, "open warm s/GB", open_warm / gigabytes, ROWS_LESS, NULL, 0, 0, 0, false},
            {row, "cold MB/s", cursor_cold * frame_megabytes, ROWS_MORE, "read", plain_cold / 1e6,
             0, 0, false},
            {row, "warm MB/s", cursor_warm * frame_megabytes, ROWS_MORE, "read", plain_warm / 1e6,
             0, 0, false},
        };
        for (size_t i = 0; i < sizeof figures / sizeof *figures; i++) {
            rows_add(&log_bench_rows, &figures[i]);
        }
        return;
    }
    const struct field fields[] = {
        {"bytes", 0, (double)payload.size},
        {"records", 0, (double)records},
        {"GB", 2, gigabytes},
        {"open cold s/GB", 3, open_cold / gigabytes},
        {"open warm s/GB", 3, open_warm / gigabytes},
        {"replay cold/s", 0, cursor_cold},
        {"replay warm/s", 0, cursor_warm},
        {"cold MB/s", 0, cursor_cold * frame_megabytes},
        {"warm MB/s", 0, cursor_warm * frame_megabytes},
        {"read cold MB/s", 0, plain_cold / 1e6},
        {"read warm MB/s", 0, plain_warm / 1e6},
    };
    table_row(format, "replay", first, fields, sizeof fields / sizeof fields[0]);
}
