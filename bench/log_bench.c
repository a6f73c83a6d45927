/* How close the log comes to the disk: append + fdatasync, and reading back what was written.
 *
 *   1. for each size and number in flight the log appends for a while; the size of every flush is
 *      noted, and how often fdatasync was really called, counted at the seam
 *   2. a plain loop writes the same sizes, in the same order, into a file of the same kind
 *      (preallocated, zeroed, buffered) with pwrite + fdatasync after each
 *   3. both take turns, so that a disk that changes its mood changes it for both
 *   4. logs of a gigabyte are opened and read back, with the page cache empty and full
 *
 * The ratio is our records per second over the plain loop's; a disk that stalls for milliseconds
 * now and then decides it more than we do. "at p50" is the loop's median flush over our median
 * append, which stalls do not touch. The loop does nothing else: no checksums, no queue, no thread
 * to wake, no callbacks.
 */
#include "bench/log_bench.h"

#include "schemas/check.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#define SAMPLES_MAX   4000000u
#define RAW_BYTES     (64u * 1024u * 1024u)
#define RELEASE_BYTES (1024u * 1024u)
#define GOAL_RECORDS  1e6 /* a second, durable, of 128 bytes, on one log */

static const char usage_text[] =
    "usage: log_bench [--directory DIR] [--quick] [--append-only] [--bytes N] [--flight N]\n"
    "                 [--ms N] [--turns N] [--replay-mb N] [-o table|csv|json]\n"
    "  --quick         fewer and shorter turns, a smaller replay: half a minute\n"
    "  --append-only   no replay\n"
    "  --bytes N       only records of this size; --flight N: only so many in flight\n"
    "  --ms, --turns   length of a turn, and how many each side has\n";

static struct options {
    const char *directory;
    uint64_t turn_ms;
    uint64_t turns;  /* many short ones: a shared disk changes its mood within a second */
    uint64_t bytes;  /* 0: all sizes */
    uint64_t flight; /* 0: all */
    uint64_t replay_bytes;
    enum format format;
} options = {.directory = "/tmp", .turn_ms = 100, .turns = 15, .replay_bytes = 1u << 30};

/* -- the load -------------------------------------------------------------------------------- */

struct slot {
    struct log_request request;
    uint64_t begun_ns;
};

static struct slot slots[FLIGHT_MAX];
static struct log *load_log;
static const struct load *load_now;
static struct log_entry entry;
static uv_timer_t pause_timer;
static uint64_t begun; /* records */
static uint64_t durable;
static uint64_t released_bytes; /* durable since the last log_release */
static uint64_t flushes_seen;
static uint64_t flushed_seen;
static uint64_t flush_ns; /* when the owners of the newest flush began to be told */
static uint32_t *flush_sizes;
static uint32_t flush_count;
static uint32_t *latencies_ns;
static uint32_t latency_count;
static uint32_t *raw_latencies_ns;
static uint32_t raw_latency_count;
static _Atomic uint64_t syncs;

static void slot_append(struct slot *slot, uint64_t when_ns)
{
    slot->begun_ns = when_ns;
    begun++;
    CHECK(log_append(load_log, &slot->request, &entry, 1) == 0);
}

static void pause_on_end(uv_timer_t *timer)
{
    (void)timer;
    slot_append(&slots[0], now_ns());
}

static void slot_on_durable(struct log_request *request, int status)
{
    struct slot *slot = CONTAINER_OF(request, struct slot, request);
    CHECK(status == 0);
    if (load_log->flushes != flushes_seen) {
        CHECK(load_log->flushes == flushes_seen + 1);
        CHECK(flush_count < SAMPLES_MAX);
        flush_sizes[flush_count] = (uint32_t)(load_log->flushed_bytes - flushed_seen);
        flush_count++;
        flushes_seen = load_log->flushes;
        flushed_seen = load_log->flushed_bytes;
        flush_ns = now_ns(); /* once a flush: asking costs as much as a third of an append */
    }
    if (latency_count < SAMPLES_MAX) {
        latencies_ns[latency_count] = (uint32_t)(flush_ns - slot->begun_ns);
        latency_count++;
    }
    durable++;
    released_bytes += entry.pieces->size;
    if (released_bytes >= RELEASE_BYTES) {
        released_bytes = 0;
        log_release(load_log, request->index); /* as an owner whose state keeps up with its log */
    }
    if (flush_ns < load_now->until_ns && begun < load_now->until_records) {
        if (load_now->pause_ms > 0) {
            CHECK(uv_timer_start(&pause_timer, pause_on_end, load_now->pause_ms, 0) == 0);
        } else {
            slot_append(slot, flush_ns);
        }
    }
}

uint64_t load_run(struct log *log, const struct load *load, struct bytes payload)
{
    CHECK(load->flight <= FLIGHT_MAX);
    load_log = log;
    load_now = load;
    entry = (struct log_entry){
        .term = 1, .type = LOG_TYPE_COMMAND, .piece_count = 1, .pieces = &payload};
    begun = 0;
    durable = 0;
    flush_count = 0;
    flushes_seen = log->flushes;
    flushed_seen = log->flushed_bytes;
    for (uint32_t i = 0; i < load->flight; i++) {
        slots[i].request.callback = slot_on_durable;
        slot_append(&slots[i], now_ns());
    }
    while (durable < begun || uv_is_active((const uv_handle_t *)&pause_timer)) {
        uv_run(uv_default_loop(), UV_RUN_ONCE);
    }
    return durable;
}

void bench_log_open(struct log *log, struct disk_uv *uv, const char *path, uint64_t history_bytes)
{
    struct log_recovery recovery;
    const struct log_options log_options = {
        .directory = path, .owner = "bench", .history_bytes = history_bytes};
    if (log_open(log, disk_uv_disk(uv), &log_options, &recovery) != 0) {
        fprintf(stderr, "log_bench: %s: %s\n", recovery.path, recovery.message);
        exit(1);
    }
}

static void on_closed(void *context)
{
    *(bool *)context = true;
}

void bench_log_close(struct log *log)
{
    bool closed = false;
    log_close(log, on_closed, &closed);
    while (!closed) {
        uv_run(uv_default_loop(), UV_RUN_ONCE);
    }
}

/* -- appends --------------------------------------------------------------------------------- */

struct turns {
    uint64_t records;
    uint64_t ns;
    uint64_t raw_ns;
    uint64_t flushes;
    uint64_t syncs;
    double cpu_us;
};

static double cpu_us(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static const struct disk_ops *real_ops;

static int counted_sync(struct disk *disk, struct disk_file *file)
{
    syncs++;
    return real_ops->sync(disk, file);
}

/* The log's turn. */
static void turn_log(struct log *log, uint32_t flight, uint64_t pause_ms, struct bytes payload,
                     struct turns *turns)
{
    const uint64_t syncs_before = syncs;
    const double cpu_before = cpu_us();
    const uint64_t begun_ns = now_ns();
    const struct load load = {.flight = flight,
                              .pause_ms = pause_ms,
                              .until_ns = begun_ns + options.turn_ms * 1000000u,
                              .until_records = UINT64_MAX};
    turns->records += load_run(log, &load, payload);
    turns->ns += now_ns() - begun_ns;
    turns->cpu_us += cpu_us() - cpu_before;
    turns->syncs += syncs - syncs_before;
    turns->flushes += flush_count;
}

/* The plain loop's turn: the same flushes. */
static void turn_raw(int descriptor, const uint8_t *data, uint64_t pause_ms, struct turns *turns)
{
    static off_t offset; /* goes on where the last turn ended, as the log does */
    const struct timespec pause = {.tv_nsec = (long)pause_ms * 1000000};
    const uint64_t start_ns = now_ns();
    for (uint32_t i = 0; i < flush_count; i++) {
        const uint32_t size = flush_sizes[i];
        if (offset + size > RAW_BYTES) {
            offset = 0;
        }
        if (pause_ms > 0) {
            nanosleep(&pause, NULL);
        }
        const uint64_t begun_ns = now_ns();
        CHECK(pwrite(descriptor, data, size, offset) == (ssize_t)size);
        CHECK(fdatasync(descriptor) == 0);
        if (raw_latency_count < SAMPLES_MAX) {
            raw_latencies_ns[raw_latency_count] = (uint32_t)(now_ns() - begun_ns);
            raw_latency_count++;
        }
        offset += size;
    }
    turns->raw_ns += now_ns() - start_ns;
}

/* The row as others are compared with it. */
static void append_rows(const struct turns *turns, uint64_t bytes, uint32_t flight,
                        uint64_t pause_ms)
{
    const double records = (double)turns->records;
    const bool unloaded = pause_ms > 0;
    char row[64];
    if (unloaded) {
        snprintf(row, sizeof row, "%llu B unloaded", (unsigned long long)bytes);
    } else {
        snprintf(row, sizeof row, "%llu B x %u", (unsigned long long)bytes, flight);
    }
    const struct row_figure figures[] = {
        {.figure = "p50 us",
         .value = percentile_us(latencies_ns, latency_count, 0.5),
         .better = ROWS_LESS,
         .beside = "fdatasync",
         .beside_value = percentile_us(raw_latencies_ns, raw_latency_count, 0.5)},
        {.figure = "p99 us",
         .value = percentile_us(latencies_ns, latency_count, 0.99),
         .better = ROWS_LESS,
         .beside = "fdatasync",
         .beside_value = percentile_us(raw_latencies_ns, raw_latency_count, 0.99)},
        {.figure = "records/s",
         .value = records * 1e9 / (double)turns->ns,
         .beside = "fdatasync",
         .beside_value = records * 1e9 / (double)turns->raw_ns,
         .goal = bytes == 128 && flight == FLIGHT_MAX ? GOAL_RECORDS : 0},
        {.figure = "CPU us/record", .value = turns->cpu_us / records, .better = ROWS_LESS},
        {.figure = "fdatasyncs/record",
         .value = (double)turns->syncs / records,
         .better = ROWS_LESS},
    };
    for (size_t i = 0; i < (unloaded ? 2 : sizeof figures / sizeof *figures); i++) {
        struct row_figure figure = figures[i];
        figure.row = row;
        rows_add(&log_bench_rows, &figure);
    }
}

/* One row. Figures of rate mean nothing when there are pauses, and are not shown then. */
static void append_bench(struct log *log, int raw, const uint8_t *data, uint64_t bytes,
                         uint32_t flight, uint64_t pause_ms, bool first)
{
    struct turns turns = {0};
    latency_count = 0;
    raw_latency_count = 0;
    for (uint64_t i = 0; i < options.turns; i++) {
        turn_log(log, flight, pause_ms, bytes_of(data, bytes), &turns);
        turn_raw(raw, data, pause_ms, &turns);
    }
    if (options.format == FORMAT_JSON) {
        append_rows(&turns, bytes, flight, pause_ms);
        return;
    }
    const double records = (double)turns.records;
    const double rate = records * 1e9 / (double)turns.ns;
    const double p50 = percentile_us(latencies_ns, latency_count, 0.5);
    const double raw_p50 = percentile_us(raw_latencies_ns, raw_latency_count, 0.5);
    const struct field fields[] = {
        {"bytes", 0, (double)bytes},
        {"flight", 0, flight},
        {"records/s", 0, rate},
        {"MB/s", 1, rate * (double)bytes / 1e6},
        {"ratio", 2, (double)turns.raw_ns / (double)turns.ns},
        {"at p50", 2, raw_p50 / p50},
        {"p50 us", 0, p50},
        {"p99 us", 0, percentile_us(latencies_ns, latency_count, 0.99)},
        {"p99.9 us", 0, percentile_us(latencies_ns, latency_count, 0.999)},
        {"raw p50", 0, raw_p50},
        {"raw p99", 0, percentile_us(raw_latencies_ns, raw_latency_count, 0.99)},
        {"raw p99.9", 0, percentile_us(raw_latencies_ns, raw_latency_count, 0.999)},
        {"per flush", 1, records / (double)turns.flushes},
        {"syncs/rec", 4, (double)turns.syncs / records},
        {"CPU us", 2, turns.cpu_us / records},
    };
    table_row(options.format, pause_ms > 0 ? "unloaded" : "append", first, fields,
              sizeof fields / sizeof fields[0]);
}

static void append_benches(struct disk_uv *uv, const char *top, const uint8_t *data)
{
    static const uint64_t sizes[] = {128, 1024, 16384};
    static const uint32_t flights[] = {1, 8, 64, 512};
    char path[600];
    snprintf(path, sizeof path, "%s/raw", top);
    const int raw = open(path, O_RDWR | O_CREAT, 0600);
    CHECK(raw >= 0);
    CHECK(pwrite(raw, data, RAW_BYTES, 0) == RAW_BYTES); /* so that no write allocates */
    CHECK(fsync(raw) == 0);
    struct log log;
    snprintf(path, sizeof path, "%s/log", top);
    bench_log_open(&log, uv, path, 0);
    uv_run(uv_default_loop(), UV_RUN_DEFAULT); /* the first segment is prepared */

    if (options.format == FORMAT_TABLE) {
        printf(
            "\nappend, so many in flight, %llu turns of %llu ms; raw: a loop of pwrite + fdatasync "
            "of the same batches\n",
            (unsigned long long)options.turns, (unsigned long long)options.turn_ms);
    }
    bool first = true;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const uint64_t bytes = options.bytes > 0 ? options.bytes : sizes[i];
        for (size_t k = 0; k < sizeof flights / sizeof flights[0]; k++) {
            const uint32_t flight = options.flight > 0 ? (uint32_t)options.flight : flights[k];
            append_bench(&log, raw, data, bytes, flight, 0, first);
            first = false;
            if (options.flight > 0) {
                break;
            }
        }
        if (options.bytes > 0) {
            break;
        }
    }
    if (options.flight == 0) {
        if (options.format == FORMAT_TABLE) {
            printf("\nunloaded: one append every 2 ms, everything asleep before it\n");
        }
        append_bench(&log, raw, data, options.bytes > 0 ? options.bytes : sizes[0], 1, 2, true);
    }
    bench_log_close(&log);
    close(raw);
}

static void replay_benches(struct disk_uv *uv, const char *top, const uint8_t *data)
{
    static const uint64_t sizes[] = {128, 1024, 16384};
    if (options.format == FORMAT_TABLE) {
        printf("\nopen and replay; cold: nothing in the page cache; read: the same files, plain\n");
    }
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const uint64_t bytes = options.bytes > 0 ? options.bytes : sizes[i];
        char path[600];
        snprintf(path, sizeof path, "%s/replay", top);
        replay_bench(options.format, i == 0, uv, path, bytes_of(data, bytes), options.replay_bytes);
        char command[700];
        snprintf(command, sizeof command, "rm -r '%s'", path);
        CHECK(system(command) == 0);
        if (options.bytes > 0) {
            break;
        }
    }
}

static bool options_read(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i];
        if (strcmp(name, "--quick") == 0) {
            options.turn_ms = 50;
            options.turns = 8;
            options.replay_bytes = 256u << 20;
            continue;
        }
        if (strcmp(name, "--append-only") == 0) {
            options.replay_bytes = 0;
            continue;
        }
        if (i + 1 == argc) {
            return false;
        }
        const char *text = argv[++i];
        const uint64_t value = strtoull(text, NULL, 10);
        if (strcmp(name, "--directory") == 0) {
            options.directory = text;
        } else if (strcmp(name, "--ms") == 0 && value > 0) {
            options.turn_ms = value;
        } else if (strcmp(name, "--turns") == 0 && value > 0) {
            options.turns = value;
        } else if (strcmp(name, "--bytes") == 0 && value > 0 && value <= LIMIT_FRAME_BYTES) {
            options.bytes = value;
        } else if (strcmp(name, "--flight") == 0 && value > 0 && value <= FLIGHT_MAX) {
            options.flight = value;
        } else if (strcmp(name, "--replay-mb") == 0) {
            options.replay_bytes = value << 20;
        } else if (strcmp(name, "-o") == 0 && strcmp(text, "table") == 0) {
            options.format = FORMAT_TABLE;
        } else if (strcmp(name, "-o") == 0 && strcmp(text, "csv") == 0) {
            options.format = FORMAT_CSV;
        } else if (strcmp(name, "-o") == 0 && strcmp(text, "json") == 0) {
            options.format = FORMAT_JSON;
        } else {
            return false;
        }
    }
    return true;
}

int main(int argc, char **argv)
{
    if (argc > 1 && (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0)) {
        fputs(usage_text, stdout);
        return 0;
    }
    if (!options_read(argc, argv)) {
        fputs(usage_text, stderr);
        return 2;
    }
    char top[512];
    snprintf(top, sizeof top, "%s/kelp-bench-XXXXXX", options.directory);
    if (mkdtemp(top) == NULL) {
        perror(top);
        return 1;
    }
    uint8_t *data = malloc(RAW_BYTES);
    flush_sizes = malloc(SAMPLES_MAX * sizeof *flush_sizes);
    latencies_ns = malloc(SAMPLES_MAX * sizeof *latencies_ns);
    raw_latencies_ns = malloc(SAMPLES_MAX * sizeof *raw_latencies_ns);
    CHECK(data != NULL && flush_sizes != NULL && latencies_ns != NULL && raw_latencies_ns != NULL);
    for (uint32_t i = 0; i < RAW_BYTES; i++) {
        data[i] = (uint8_t)(i * 31u);
    }
    CHECK(uv_timer_init(uv_default_loop(), &pause_timer) == 0);
    struct disk_uv *uv = disk_uv_new(uv_default_loop());
    CHECK(uv != NULL);
    real_ops = disk_uv_disk(uv)->ops;
    struct disk_ops counted_ops = *real_ops;
    counted_ops.sync = counted_sync;
    disk_uv_disk(uv)->ops = &counted_ops;

    if (options.format == FORMAT_JSON) {
        rows_begin(&log_bench_rows, "log");
    } else {
        table_facts(options.format, top);
    }
    append_benches(uv, top, data);
    if (options.replay_bytes > 0) {
        replay_benches(uv, top, data);
    }
    if (options.format == FORMAT_JSON) {
        rows_end();
    }

    disk_uv_free(uv);
    uv_run(uv_default_loop(), UV_RUN_DEFAULT);
    free(data);
    free(flush_sizes);
    free(latencies_ns);
    free(raw_latencies_ns);
    char command[700];
    snprintf(command, sizeof command, "rm -r '%s'", top);
    return system(command) == 0 ? 0 : 1;
}
