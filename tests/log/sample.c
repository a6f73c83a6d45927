/* Write a small log with one record of many a shape into a directory: what kelp_log_test.py prints.
 *
 *     sample DIR                one record of many a shape
 *     sample DIR --records N    N records as a busy cluster makes them: pods of many names, their
 *                               reports, acknowledgements; the key of record n follows from n
 *     sample DIR --rolling N    N records into the smallest segments, one flush for each few
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

static struct bytes object_record(struct codec *codec, const char *key, const char *json,
                                  int64_t time_ms)
{
    struct object_put put = {
        .mode = PUT_CREATE,
        .object = {.version = "v1",
                   .kind = "ConfigMap",
                   .resource = "configmaps",
                   .namespace_ = "default",
                   .name = "settings",
                   .uid = "u-1",
                   .json = bytes_text(json)},
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
        {.sequence = 4,
         .record = object_record(codec, "/configmaps/default/a", "{\"kind\":\"ConfigMap\"}",
                                 TIME_MS + 2000)},
        {.sequence = 6,
         .record = object_record(codec, "/configmaps/default/b", "{\"kind\":\"ConfigMap\"}",
                                 TIME_MS + 3000)},
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

/* -- many records ---------------------------------------------------------------------------- */

#define GROUP_FRAMES 512u    /* appended at once */
#define NAMES        100003u /* pods there are; prime, so that their records are spread */

/* Record n. mixed: of ten, one is a report and one an acknowledgement; the others are objects. */
static struct bytes many_record(struct codec *codec, uint64_t n, bool mixed)
{
    char json[256];
    struct bytes body;
    struct record record = {.origin = "core-1", .time_ms = TIME_MS + (int64_t)(n / 10)};
    const uint64_t name = n * 7919 % NAMES;
    if (mixed && n % 10 == 9) {
        const struct down_ack ack = {.node = "edge-1", .epoch = 1, .stream = 9, .position = n};
        CHECK(codec_down_ack_build(codec, &ack, &body) == 0);
        record.kind = RECORD_DOWN_ACK;
        record.key = "/nodes//edge-1";
    } else if (mixed && n % 10 == 8) {
        const struct pod_status status = {
            .uid = codec_print(codec, "u-%llu", (unsigned long long)name),
            .phase = POD_RUNNING,
            .pod_ip = "10.88.0.7",
        };
        CHECK(codec_pod_status_build(codec, &status, &body) == 0);
        record.kind = RECORD_POD_STATUS;
        record.key = codec_print(codec, "/pods/default/web-%llu", (unsigned long long)name);
    } else {
        snprintf(json, sizeof json,
                 "{\"kind\":\"Pod\",\"metadata\":{\"name\":\"web-%llu\"},\"spec\":{\"containers\":["
                 "{\"name\":"
                 "\"web\",\"image\":\"nginx:1.25\"}]}}",
                 (unsigned long long)name);
        const struct object_put put = {
            .mode = PUT_UPDATE,
            .object = {.version = "v1",
                       .kind = "Pod",
                       .resource = "pods",
                       .namespace_ = "default",
                       .name = codec_print(codec, "web-%llu", (unsigned long long)name),
                       .uid = codec_print(codec, "u-%llu", (unsigned long long)name),
                       .node_name = "edge-1",
                       .json = bytes_text(json)},
        };
        CHECK(codec_object_put_build(codec, &put, &body) == 0);
        record.kind = RECORD_OBJECT_PUT;
        record.key = codec_print(codec, "/pods/default/web-%llu", (unsigned long long)name);
    }
    record.body = body;
    struct bytes bytes;
    CHECK(codec_record_build(codec, &record, &bytes) == 0);
    return bytes;
}

static void on_group(struct log_request *request, int status)
{
    CHECK(status == 0);
    *(bool *)request->context = true;
}

static void write_many(struct log *log, struct codec *codec, uint64_t records, uint32_t group)
{
    static struct log_entry entries[GROUP_FRAMES];
    static struct bytes commands[GROUP_FRAMES];
    for (uint64_t done = 0; done < records;) {
        uint32_t count = 0;
        codec_reset(codec);
        for (; count < group && done < records; count++, done++) {
            const struct bytes record = many_record(codec, done, group == GROUP_FRAMES);
            const struct command command = {.time_ms = TIME_MS + (int64_t)(done / 10),
                                            .origin = 1,
                                            .sequence = done + 1,
                                            .records = &record,
                                            .record_count = 1};
            CHECK(codec_command_build(codec, &command, &commands[count]) == 0);
            entries[count] = (struct log_entry){
                .term = 1, .type = LOG_TYPE_COMMAND, .piece_count = 1, .pieces = &commands[count]};
        }
        bool durable = false;
        struct log_request request = {.callback = on_group, .context = &durable};
        CHECK(log_append(log, &request, entries, count) == 0);
        while (!durable) {
            uv_run(uv_default_loop(), UV_RUN_ONCE);
        }
        if (done <= group) {
            printf("begun\n");
            fflush(stdout);
        }
    }
}

/* -- one of many a shape ---------------------------------------------------------------------- */

static void on_few(struct log_request *request, int status)
{
    CHECK(status == 0);
    (*(unsigned *)request->context)++;
}

static void write_few(struct log *log, struct codec *codec)
{
    unsigned done = 0;
    const struct bytes records[2] = {
        object_record(codec, "/configmaps/default/settings",
                      "{\"kind\":\"ConfigMap\",\"data\":{\"a\":\"\xc2\x9b"
                      "31m\x7f\"}}",
                      0),
        object_record(codec, "/secrets/default/\x1b[31mred",
                      "{\"kind\":\"Secret\",\"metadata\":{\"annotations\":{"
                      "\"kubectl.kubernetes.io/last-applied-configuration\":\"c2VjcmV0\"}},"
                      "\"data\":{\"password\":\"c2VjcmV0\"}}",
                      0),
    };
    const struct command command = {
        .time_ms = TIME_MS, .origin = 1, .sequence = 5, .records = records, .record_count = 2};
    struct bytes command_bytes;
    CHECK(codec_command_build(codec, &command, &command_bytes) == 0);
    const struct bytes batch = batch_record(codec);
    const struct bytes up =
        object_record(codec, "/pods/default/\"web\"", "{\"kind\":\"ConfigMap\"}", TIME_MS + 5000);
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
    struct log_request requests[3];
    for (size_t i = 0; i < 3; i++) {
        requests[i] = (struct log_request){.callback = on_few, .context = &done};
    }
    CHECK(log_append(log, &requests[0], entries, 6) == 0);
    CHECK(log_truncate(log, &requests[1], 6) == 0);
    CHECK(log_append(log, &requests[2], entries + 6, 2) == 0);
    while (done < 3) { /* the entries are borrowed until then */
        uv_run(uv_default_loop(), UV_RUN_ONCE);
    }
}

int main(int argc, char **argv)
{
    const bool rolling = argc == 4 && strcmp(argv[2], "--rolling") == 0;
    CHECK(argc == 2 || rolling || (argc == 4 && strcmp(argv[2], "--records") == 0));
    const uint64_t many = argc == 4 ? strtoull(argv[3], NULL, 10) : 0;
    struct disk_uv *uv = disk_uv_new(uv_default_loop());
    struct codec *codec = codec_create();
    struct log log;
    struct log_recovery recovery;
    const struct log_options options = {.directory = argv[1],
                                        .owner = "sample of kelp!",
                                        .segment_bytes =
                                            many > 0 && !rolling ? 0 : SEGMENT_BYTES_MIN,
                                        .history_bytes = UINT64_MAX};
    const int status = log_open(&log, disk_uv_disk(uv), &options, &recovery);
    if (status != 0) {
        fprintf(stderr, "sample: %s\n", recovery.message);
        return 1;
    }
    if (many > 0) {
        write_many(&log, codec, many, rolling ? 8 : GROUP_FRAMES);
    } else {
        write_few(&log, codec);
    }
    bool closed = false;
    log_close(&log, on_closed, &closed);
    while (!closed && uv_run(uv_default_loop(), UV_RUN_ONCE) != 0) {
    }
    CHECK(closed);
    disk_uv_free(uv);
    codec_destroy(codec);
    return 0;
}
