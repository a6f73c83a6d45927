/* Write a small log with one record of many a shape into a directory: what kelp_log_test.py prints.
 *
 *     sample DIR
 */
#include "log/disk_uv.h"
#include "log/log.h"
#include "schemas/check.h"
#include "schemas/codec.h"

#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

#define TIME_MS 1763640000000 /* 2025-11-20T12:00:00Z */

static void on_closed(void *context)
{
    *(bool *)context = true;
}

static struct bytes object_record(struct codec *codec, const char *key, int64_t time_ms)
{
    struct object_put put = {
        .mode = PUT_CREATE,
        .object = {.version = "v1",
                   .kind = "ConfigMap",
                   .resource = "configmaps",
                   .namespace_ = "default",
                   .name = "settings",
                   .uid = "u-1",
                   .json = bytes_text("{\"kind\":\"ConfigMap\"}")},
    };
    struct bytes body;
    CHECK(codec_object_put_build(codec, &put, &body) == 0);
    const struct record record = {.kind = RECORD_OBJECT_PUT,
                                  .key = key,
                                  .origin = "core-1",
                                  .sequence = 7,
                                  .time_ms = time_ms,
                                  .body = body};
    struct bytes bytes;
    CHECK(codec_record_build(codec, &record, &bytes) == 0);
    return bytes;
}

static struct bytes batch_record(struct codec *codec)
{
    const struct sequenced inner[2] = {
        {.sequence = 4, .record = object_record(codec, "/configmaps/default/a", TIME_MS + 2000)},
        {.sequence = 6, .record = object_record(codec, "/configmaps/default/b", TIME_MS + 3000)},
    };
    const struct batch batch = {.node = "edge-1",
                                .epoch = 1,
                                .stream = 9,
                                .previous = 3,
                                .last = 6,
                                .tip = 6,
                                .records = inner,
                                .record_count = 2};
    struct bytes body;
    CHECK(codec_batch_build(codec, &batch, &body) == 0);
    const struct record record = {.kind = RECORD_DOWN_BATCH,
                                  .origin = "edge-1",
                                  .sequence = 1,
                                  .time_ms = TIME_MS + 4000,
                                  .body = body};
    struct bytes bytes;
    CHECK(codec_record_build(codec, &record, &bytes) == 0);
    return bytes;
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    struct disk_uv *uv = disk_uv_new(uv_default_loop());
    struct codec *codec = codec_create();
    struct log log;
    struct log_recovery recovery;
    const struct log_options options = {
        .directory = argv[1], .owner = "sample of kelp!", .segment_bytes = SEGMENT_BYTES_MIN};
    const int status = log_open(&log, disk_uv_disk(uv), &options, &recovery);
    if (status != 0) {
        fprintf(stderr, "sample: %s\n", recovery.message);
        return 1;
    }
    const struct bytes records[2] = {object_record(codec, "/configmaps/default/settings", 0),
                                     object_record(codec, "/secrets/default/\x1b[31mred", 0)};
    const struct command command = {
        .time_ms = TIME_MS, .origin = 1, .sequence = 5, .records = records, .record_count = 2};
    struct bytes command_bytes;
    CHECK(codec_command_build(codec, &command, &command_bytes) == 0);
    const struct bytes batch = batch_record(codec);
    const struct bytes up = object_record(codec, "/pods/default/\"web\"", TIME_MS + 5000);
    const struct bytes garbage = bytes_text("no flatbuffer");
    static const uint8_t zeros[11000];
    const struct bytes large = bytes_of(zeros, sizeof zeros);
    const struct log_entry entries[] = {
        {.term = 1, .type = LOG_TYPE_CHANGE},
        {.term = 2, .type = LOG_TYPE_BARRIER},
        {.term = 2, .type = LOG_TYPE_COMMAND, .piece_count = 1, .pieces = &command_bytes},
        {.term = 2, .type = LOG_TYPE_COMMAND, .piece_count = 1, .pieces = &garbage},
        {.term = 3, .type = 99, .piece_count = 1, .pieces = &large}, /* rolls */
        {.term = 4, .type = LOG_TYPE_BARRIER},                       /* truncated below */
        {.term = 5, .type = LOG_TYPE_DOWN, .piece_count = 1, .pieces = &batch},
        {.term = 5, .type = LOG_TYPE_UP, .piece_count = 1, .pieces = &up},
    };
    struct log_request requests[3] = {0};
    CHECK(log_append(&log, &requests[0], entries, 6) == 0);
    CHECK(log_truncate(&log, &requests[1], 6) == 0);
    CHECK(log_append(&log, &requests[2], entries + 6, 2) == 0);
    bool closed = false;
    log_close(&log, on_closed, &closed);
    while (!closed && uv_run(uv_default_loop(), UV_RUN_ONCE) != 0) {
    }
    CHECK(closed);
    disk_uv_free(uv);
    codec_destroy(codec);
    return 0;
}
