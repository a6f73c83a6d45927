/* kelp log cat|info|verify.
 *
 *   1. the directory is inspected (log/inspect.h): read-only, no lock
 *   2. cat: frame by frame; a frame is decoded into its records, one line each; a batch inside a
 *      record is opened too
 *   3. data on stdout, everything else on stderr; a closed pipe ends the program
 */
#include "nodes/cli/log.h"

#include "log/disk_uv.h"
#include "log/inspect.h"
#include "nodes/options.h"
#include "schemas/codec.h"
#include "schemas/status.h"

#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define EXIT_DAMAGED 4
#define ATTEMPTS     16 /* to catch up with an owner that drops what we are about to print */

struct output {
    bool json;
    uint64_t lines;
    struct codec *codec;
};

/* One line of cat. */
struct line {
    uint64_t offset;
    uint64_t term;
    int64_t time_ms; /* 0: not known */
    const char *kind;
    const char *key;
    uint64_t size;
    const char *origin; /* NULL: none */
    uint64_t sequence;
};

/* -- writing --------------------------------------------------------------------------------- */

static void time_format(int64_t time_ms, char out[32])
{
    const time_t seconds = (time_t)(time_ms / 1000);
    struct tm parts;
    if (time_ms <= 0 || gmtime_r(&seconds, &parts) == NULL) {
        snprintf(out, 32, "-");
        return;
    }
    char day[24];
    strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(out, 32, "%s.%03dZ", day, (int)(time_ms % 1000));
}

/* Text as a JSON string. It is UTF-8 already: only what JSON forbids is escaped. */
static void json_text(const char *text)
{
    putchar('"');
    for (const char *p = text; *p != '\0'; p++) {
        const unsigned char c = (unsigned char)*p;
        if (c == '"' || c == '\\') {
            putchar('\\');
            putchar(c);
        } else if (c < 0x20 || c == 0x7f) {
            printf("\\u%04x", c);
        } else {
            putchar(c);
        }
    }
    putchar('"');
}

/* Text on a terminal: control characters of whoever named the key must not reach it. */
static void plain_text(const char *text, int width)
{
    int written = 0;
    for (const char *p = text; *p != '\0'; p++) {
        const unsigned char c = (unsigned char)*p;
        putchar(c < 0x20 || c == 0x7f ? '?' : c);
        written++;
    }
    for (; written < width; written++) {
        putchar(' ');
    }
}

static void line_write(struct output *output, const struct line *line)
{
    char time_text[32];
    time_format(line->time_ms, time_text);
    output->lines++;
    if (!output->json) {
        if (output->lines == 1) {
            printf("%10s %6s %-24s %-26s %-48s %9s\n", "OFFSET", "TERM", "TIME", "KIND", "KEY",
                   "SIZE");
        }
        printf("%10" PRIu64 " %6" PRIu64 " %-24s ", line->offset, line->term, time_text);
        plain_text(line->kind, 26);
        putchar(' ');
        plain_text(line->key[0] == '\0' ? "-" : line->key, 48);
        printf(" %9" PRIu64 "\n", line->size);
        return;
    }
    printf("{\"offset\":%" PRIu64 ",\"term\":%" PRIu64 ",\"time\":", line->offset, line->term);
    if (line->time_ms > 0) {
        json_text(time_text);
    } else {
        printf("null");
    }
    printf(",\"kind\":");
    json_text(line->kind);
    printf(",\"key\":");
    json_text(line->key);
    printf(",\"size\":%" PRIu64, line->size);
    if (line->origin != NULL) {
        printf(",\"origin\":");
        json_text(line->origin);
        printf(",\"sequence\":%" PRIu64, line->sequence);
    }
    printf("}\n");
}

/* -- decoding -------------------------------------------------------------------------------- */

/* One record, and the records inside it if it carries a batch.
 *
 *   inside     the kind of the record it lies in, NULL for none: printed as "outer/inner"
 *   fallback_ms time to show when the record has none
 */
static void record_write(struct output *output, const struct log_frame *frame, struct bytes bytes,
                         const char *inside, int64_t fallback_ms)
{
    struct line line = {
        .offset = frame->index,
        .term = frame->term,
        .time_ms = fallback_ms,
        .kind = "undecodable",
        .key = "",
        .size = bytes.size,
    };
    struct record record;
    if (codec_record_read(output->codec, bytes, &record) != 0) {
        line_write(output, &line);
        return;
    }
    char unknown[16];
    const char *kind = record_kind_text(record.kind, unknown);
    line.kind = inside == NULL ? kind : codec_print(output->codec, "%s/%s", inside, kind);
    line.key = record.key;
    line.origin = record.origin;
    line.sequence = record.sequence;
    line.time_ms = record.time_ms != 0 ? record.time_ms : fallback_ms;
    line_write(output, &line);
    if (inside != NULL) {
        return; /* batches do not nest */
    }
    const struct sequenced *inner = NULL;
    uint32_t inner_count = 0;
    struct batch batch;
    struct snapshot snapshot;
    if ((record.kind == RECORD_DOWN_BATCH || record.kind == RECORD_UP_BATCH) &&
        codec_batch_read(output->codec, record.body, &batch) == 0) {
        inner = batch.records;
        inner_count = batch.record_count;
    } else if (record.kind == RECORD_SNAPSHOT &&
               codec_snapshot_read(output->codec, record.body, &snapshot) == 0) {
        inner = snapshot.records;
        inner_count = snapshot.record_count;
    }
    for (uint32_t i = 0; i < inner_count; i++) {
        record_write(output, frame, inner[i].record, kind, line.time_ms);
    }
}

static void frame_write(struct output *output, const struct log_frame *frame)
{
    struct line line = {
        .offset = frame->index,
        .term = frame->term,
        .key = "",
        .size = frame->payload.size,
    };
    codec_reset(output->codec);
    if (frame->type == LOG_TYPE_COMMAND) {
        struct command command;
        if (codec_command_read(output->codec, frame->payload, &command) == 0) {
            for (uint32_t i = 0; i < command.record_count; i++) {
                record_write(output, frame, command.records[i], NULL, command.time_ms);
            }
            return;
        }
        line.kind = "undecodable";
    } else if (frame->type == LOG_TYPE_DOWN || frame->type == LOG_TYPE_UP) {
        record_write(output, frame, frame->payload, NULL, 0);
        return;
    } else if (frame->type == LOG_TYPE_BARRIER) {
        line.kind = "barrier";
    } else if (frame->type == LOG_TYPE_CHANGE) {
        line.kind = "change";
    } else {
        line.kind = codec_print(output->codec, "frame_%u", frame->type);
    }
    line_write(output, &line);
}

/* -- commands -------------------------------------------------------------------------------- */

/* Say what is wrong. Exit code of it. */
static int failure_write(const char *directory, int status)
{
    if (status == -ENOENT) {
        fprintf(stderr, "kelp log: there is no log in %s\n", directory);
    } else {
        fprintf(stderr, "kelp log: cannot read %s: %s\n", directory, status_text(status));
    }
    return status == STATUS_CORRUPT ? EXIT_DAMAGED : OPTIONS_EXIT_NOTHING;
}

static int damage_write(const struct inspect *inspect)
{
    if (inspect->damage_status == 0) {
        return OPTIONS_EXIT_OK;
    }
    fprintf(stderr, "kelp log: %s at byte %" PRIu64 ": %s\n", inspect->damage_path,
            inspect->damage_offset, inspect->damage_message);
    return EXIT_DAMAGED;
}

/* Print what is between two offsets. Where the owner drops segments faster than we print, we look
 * again and go on with the oldest that is there. */
static int cat(struct inspect *inspect, struct output *output, uint64_t from, uint64_t to)
{
    char directory[LIMIT_LOG_PATH_BYTES];
    struct disk *disk = inspect->disk;
    struct log_frame frame;
    int answer;
    int attempts = 0; /* without a line printed in between */
    uint64_t lines = 0;
    strcpy(directory, inspect->directory);
    inspect_seek(inspect, from);
    for (;;) {
        while ((answer = inspect_next(inspect, &frame)) == INSPECT_FRAME && frame.index <= to) {
            frame_write(output, &frame);
        }
        if (answer != INSPECT_GONE) {
            break;
        }
        const uint64_t next = inspect->cursor_index;
        attempts = output->lines == lines ? attempts + 1 : 0;
        lines = output->lines;
        inspect_close(inspect);
        answer =
            attempts == ATTEMPTS ? -EAGAIN : inspect_open(inspect, disk, directory, inspect->depth);
        if (answer != 0) {
            break;
        }
        inspect_seek(inspect, next);
        if (inspect->cursor_index > next && output->lines > 0) {
            fprintf(stderr,
                    "kelp log: offsets %" PRIu64 " to %" PRIu64
                    " were dropped by their owner before they were printed\n",
                    next, inspect->cursor_index - 1);
        }
    }
    if (answer < 0 && answer != STATUS_CORRUPT) { /* which damage_write tells in more words */
        return failure_write(directory, answer);
    }
    const int code = damage_write(inspect);
    return code != OPTIONS_EXIT_OK ? code
           : output->lines == 0    ? OPTIONS_EXIT_NOTHING
                                   : OPTIONS_EXIT_OK;
}

static void segment_write(const struct output *output, const struct inspect_segment *segment,
                          bool first)
{
    if (output->json) {
        printf("%s{\"sequence\":%" PRIu64 ",\"first\":%" PRIu64 ",\"last\":%" PRIu64
               ",\"frames\":%" PRIu64 ",\"truncations\":%" PRIu64 ",\"used_bytes\":%" PRIu64
               ",\"size_bytes\":%" PRIu64 ",\"marked_bytes\":%" PRIu64 ",\"sealed\":%s}",
               first ? "" : ",", segment->sequence, segment->index_first, segment->index_last,
               segment->frames, segment->truncations, segment->used_bytes, segment->size_bytes,
               segment->marked_bytes, segment->sealed ? "true" : "false");
        return;
    }
    if (first) {
        printf("\n%16s %10s %10s %8s %11s %10s %10s %10s  %s\n", "SEGMENT", "FIRST", "LAST",
               "FRAMES", "TRUNCATIONS", "USED", "SIZE", "MARKED", "STATE");
    }
    printf("%016" PRIx64 " %10" PRIu64 " %10" PRIu64 " %8" PRIu64 " %11" PRIu64 " %10" PRIu64
           " %10" PRIu64 " %10" PRIu64 "  %s\n",
           segment->sequence, segment->index_first, segment->index_last, segment->frames,
           segment->truncations, segment->used_bytes, segment->size_bytes, segment->marked_bytes,
           segment->sealed                               ? "sealed"
           : segment->used_bytes == SEGMENT_HEADER_BYTES ? "prepared"
                                                         : "tail");
}

static int info(const struct inspect *inspect, const struct output *output)
{
    char owner[2 * SEGMENT_OWNER_BYTES + 1];
    uint64_t used = 0;
    uint64_t size = 0;
    for (uint32_t i = 0; i < SEGMENT_OWNER_BYTES; i++) {
        snprintf(owner + 2 * i, 3, "%02x", inspect->owner[i]);
    }
    for (uint32_t i = 0; i < inspect->segment_count; i++) {
        used += inspect->segments[i].used_bytes;
        size += inspect->segments[i].size_bytes;
    }
    const uint64_t last = inspect->index_next - 1;
    if (output->json) {
        printf("{\"directory\":");
        json_text(inspect->directory);
        printf(",\"owner\":\"%s\",\"first\":%" PRIu64 ",\"last\":%" PRIu64 ",\"frames\":%" PRIu64
               ",\"truncations\":%" PRIu64 ",\"used_bytes\":%" PRIu64 ",\"size_bytes\":%" PRIu64
               ",\"torn_bytes\":%" PRIu64 ",\"meta_bytes\":%zu,\"segments\":[",
               owner, inspect->index_first, last, inspect->frames, inspect->truncations, used, size,
               inspect->bytes_torn, inspect->meta.size);
    } else {
        printf("directory    %s\nowner        %s\n", inspect->directory, owner);
        if (inspect->frames > 0) {
            printf("offsets      %" PRIu64 " .. %" PRIu64 "\n", inspect->index_first, last);
        } else {
            printf("offsets      none; the next is %" PRIu64 "\n", inspect->index_next);
        }
        printf("frames       %" PRIu64 "\ntruncations  %" PRIu64 "\nbytes        %" PRIu64
               " used of %" PRIu64 " in %u segments\ntorn bytes   %" PRIu64
               "\nmeta         %zu bytes\n",
               inspect->frames, inspect->truncations, used, size, inspect->segment_count,
               inspect->bytes_torn, inspect->meta.size);
    }
    for (uint32_t i = 0; i < inspect->segment_count; i++) {
        segment_write(output, &inspect->segments[i], i == 0);
    }
    if (output->json) {
        printf("]}\n");
    }
    return damage_write(inspect);
}

static int verify(const struct inspect *inspect, const struct output *output)
{
    const int code = damage_write(inspect);
    const bool damaged = code != OPTIONS_EXIT_OK;
    if (output->json) {
        printf("{\"ok\":%s,\"frames\":%" PRIu64 ",\"segments\":%u,\"torn_bytes\":%" PRIu64,
               damaged ? "false" : "true", inspect->frames, inspect->segment_count,
               inspect->bytes_torn);
        if (damaged) {
            printf(",\"path\":");
            json_text(inspect->damage_path);
            printf(",\"at\":%" PRIu64 ",\"message\":", inspect->damage_offset);
            json_text(inspect->damage_message);
        }
        printf("}\n");
    } else if (!damaged) {
        printf("ok: %" PRIu64 " frames in %u segments\n", inspect->frames, inspect->segment_count);
    }
    if (!damaged && inspect->bytes_torn > 0) {
        fprintf(stderr,
                "kelp log: a torn write of %" PRIu64
                " bytes at the end; it was never acknowledged, the next start cuts it\n",
                inspect->bytes_torn);
    }
    return code;
}

/* -- arguments ------------------------------------------------------------------------------- */

enum what { CAT, INFO, VERIFY };

static const struct {
    const char *name;
    const char *about;
} whats[] = {
    [CAT] = {"cat", "Print the records of a log, one line each: OFFSET TERM TIME KIND KEY SIZE.\n"
                    "A batch that came over the link is followed by the records in it. Times are\n"
                    "UTC. DIR may belong to a running process; it is only read."},
    [INFO] = {"info", "Print what a log holds: offsets, bytes, segments, how far it is marked."},
    [VERIFY] = {"verify", "Read every byte and check it. The first damage is named with its file "
                          "and byte."},
};

static void exit_codes_print(FILE *stream)
{
    fprintf(stream, "Exit codes: 0 done, 1 nothing there, 2 usage, 4 damaged.\n");
}

static void help_print(FILE *stream)
{
    fprintf(stream, "Usage: kelp log cat|info|verify [flags] DIR\n\n");
    for (size_t i = 0; i < sizeof whats / sizeof whats[0]; i++) {
        fprintf(stream, "  %-8s %.*s\n", whats[i].name, (int)strcspn(whats[i].about, "\n"),
                whats[i].about);
    }
    fprintf(stream, "\nDIR is the log directory of a cloudcore or an edgecore, live or dead.\n"
                    "'kelp log cat --help' and so on tell the flags.\n");
    exit_codes_print(stream);
}

static int run(enum what what, int argc, char **argv)
{
    const char *format = "text";
    int64_t from = 0;
    int64_t to = INT64_MAX;
    const struct options_flag flags[] = {
        {.name = "output",
         .letter = 'o',
         .type = OPTIONS_TEXT,
         .out = &format,
         .value = "text|json",
         .help = "how to print; json is one object per line"},
        {.name = "from",
         .type = OPTIONS_NUMBER,
         .out = &from,
         .value = "OFFSET",
         .help = "begin at this offset"},
        {.name = "to",
         .type = OPTIONS_NUMBER,
         .out = &to,
         .value = "OFFSET",
         .help = "end with this offset"},
    };
    char name[32];
    snprintf(name, sizeof name, "kelp log %s", whats[what].name);
    const struct options_command command = {
        .name = name,
        .arguments = "DIR",
        .about = whats[what].about,
        .flags = flags,
        .flags_count = what == CAT ? 3 : 1,
        .arguments_min = 1,
        .arguments_max = 1,
        .print_more = exit_codes_print,
    };
    struct options_list arguments;
    switch (options_parse(&command, argc, argv, &arguments)) {
    case OPTIONS_DONE:
        return OPTIONS_EXIT_OK;
    case OPTIONS_USAGE:
        return OPTIONS_EXIT_USAGE;
    case OPTIONS_RUN:
        break;
    }
    if (strcmp(format, "text") != 0 && strcmp(format, "json") != 0) {
        fprintf(stderr, "%s: -o takes text or json, not %s\n", name, format);
        return OPTIONS_EXIT_USAGE;
    }
    if (from < 0 || to < 0) {
        fprintf(stderr, "%s: offsets are not negative\n", name);
        return OPTIONS_EXIT_USAGE;
    }

    struct disk_uv *uv = disk_uv_new(NULL);
    struct inspect inspect;
    struct output output = {.json = strcmp(format, "json") == 0, .codec = codec_create()};
    int code;
    const enum inspect_depth depth = what == VERIFY ? INSPECT_VERIFY : INSPECT_QUICK;
    const int status =
        uv == NULL ? -ENOMEM : inspect_open(&inspect, disk_uv_disk(uv), arguments.items[0], depth);
    if (status != 0) {
        code = failure_write(arguments.items[0], status);
    } else {
        code = what == CAT    ? cat(&inspect, &output, (uint64_t)from, (uint64_t)to)
               : what == INFO ? info(&inspect, &output)
                              : verify(&inspect, &output);
        inspect_close(&inspect);
    }
    if (fflush(stdout) != 0) {
        code = OPTIONS_EXIT_NOTHING; /* the output was not written: a full disk behind it */
    }
    codec_destroy(output.codec);
    disk_uv_free(uv);
    return code;
}

int cli_log(int argc, char **argv)
{
    if (argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        help_print(stdout);
        return OPTIONS_EXIT_OK;
    }
    for (size_t i = 0; argc >= 2 && i < sizeof whats / sizeof whats[0]; i++) {
        if (strcmp(argv[1], whats[i].name) == 0) {
            return run((enum what)i, argc - 1, argv + 1);
        }
    }
    if (argc >= 2) {
        fprintf(stderr, "kelp log: unknown command %s\n", argv[1]);
    }
    help_print(stderr);
    return OPTIONS_EXIT_USAGE;
}
