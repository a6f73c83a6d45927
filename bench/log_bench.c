/* How close the log comes to the disk: append + fdatasync of 128-byte records.
 *
 *   1. for each number in flight the log appends for a while; the size of every flush is noted
 *   2. a plain loop writes the same sizes, in the same order, into a file of the same kind
 *      (preallocated, zeroed, buffered) with pwrite + fdatasync after each
 *   3. both take turns, so that a disk that changes its mood changes it for both
 *
 *     log_bench [--directory DIR] [--ms N] [--bytes N] [--turns N]
 *
 * The ratio is our records per second over the plain loop's; a disk that stalls for milliseconds now
 * and then decides it more than we do. "at p50" is the loop's median flush over our median append,
 * which stalls do not touch. The loop does nothing else: no checksums, no queue, no thread to wake,
 * no callbacks.
 */
#include "log/disk_uv.h"
#include "log/log.h"
#include "schemas/check.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#define FLIGHT_MAX  512u
#define SAMPLES_MAX 4000000u
#define RAW_BYTES   (64u * 1024u * 1024u)

struct slot {
    struct log_request request;
    uint64_t begun_ns;
};

struct turn {
    uint64_t records;
    uint64_t ns;
    uint64_t raw_ns;
    double cpu_us;
};

static const char *directory = "/tmp";
static uint64_t turn_ms = 300;
static uint64_t record_bytes = 128;
static uint64_t turns = 10; /* short ones: a shared disk changes its mood within a second */

static struct log bench_log;
static struct slot slots[FLIGHT_MAX];
static struct log_entry entry;
static struct bytes payload;
static uint64_t end_ns;
static uint64_t records;
static uint32_t pending;
static uint64_t flushes_seen;
static uint64_t flushed_seen;
static uint32_t *flush_sizes;
static uint32_t flush_count;
static uint32_t *latencies_ns;
static uint32_t latency_count;
static uint32_t *raw_latencies_ns;
static uint32_t raw_latency_count;

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static double cpu_us(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static void slot_append(struct slot *slot)
{
    slot->begun_ns = now_ns();
    CHECK(log_append(&bench_log, &slot->request, &entry, 1) == 0);
    pending++;
}

static void slot_on_durable(struct log_request *request, int status)
{
    struct slot *slot = CONTAINER_OF(request, struct slot, request);
    CHECK(status == 0);
    const uint64_t now = now_ns();
    if (bench_log.flushes != flushes_seen) {
        CHECK(bench_log.flushes == flushes_seen + 1);
        CHECK(flush_count < SAMPLES_MAX);
        flush_sizes[flush_count] = (uint32_t)(bench_log.flushed_bytes - flushed_seen);
        flush_count++;
        flushes_seen = bench_log.flushes;
        flushed_seen = bench_log.flushed_bytes;
    }
    if (latency_count < SAMPLES_MAX) {
        latencies_ns[latency_count] = (uint32_t)(now - slot->begun_ns);
        latency_count++;
    }
    records++;
    pending--;
    if (records % 4096 == 0) {
        log_release(&bench_log, request->index);
    }
    if (now < end_ns) {
        slot_append(slot);
    }
}

/* The log's turn. */
static void turn_log(uint32_t flight, struct turn *turn)
{
    records = 0;
    flush_count = 0;
    const double cpu = cpu_us();
    const uint64_t start_ns = now_ns();
    end_ns = start_ns + turn_ms * 1000000u;
    for (uint32_t i = 0; i < flight; i++) {
        slot_append(&slots[i]);
    }
    while (pending > 0) {
        uv_run(uv_default_loop(), UV_RUN_ONCE);
    }
    turn->records += records;
    turn->ns += now_ns() - start_ns;
    turn->cpu_us += cpu_us() - cpu;
}

/* The plain loop's turn: the same flushes. */
static void turn_raw(int descriptor, const uint8_t *data, struct turn *turn)
{
    static off_t offset; /* goes on where the last turn ended, as the log does */
    const uint64_t start_ns = now_ns();
    for (uint32_t i = 0; i < flush_count; i++) {
        const uint32_t size = flush_sizes[i];
        if (offset + size > RAW_BYTES) {
            offset = 0;
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
    turn->raw_ns += now_ns() - start_ns;
}

static int compare(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a;
    const uint32_t y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double percentile_us(uint32_t *values, uint32_t count, double share)
{
    return count == 0 ? 0 : values[(uint32_t)((double)(count - 1) * share)] / 1e3;
}

static void bench(uint32_t flight, int raw, const uint8_t *data)
{
    struct turn turn = {0};
    uint64_t flushes = 0;
    latency_count = 0;
    raw_latency_count = 0;
    for (uint64_t i = 0; i < turns; i++) {
        turn_log(flight, &turn);
        turn_raw(raw, data, &turn);
        flushes += flush_count;
    }
    qsort(latencies_ns, latency_count, sizeof *latencies_ns, compare);
    qsort(raw_latencies_ns, raw_latency_count, sizeof *raw_latencies_ns, compare);
    const double rate = (double)turn.records * 1e9 / (double)turn.ns;
    const double raw_rate = (double)turn.records * 1e9 / (double)turn.raw_ns;
    printf("%9u %11.0f %8.1f %9.1f %9.0f %9.0f %9.2f %13.0f %9.0f %9.0f %6.2f %6.2f\n", flight,
           rate, rate * (double)record_bytes / 1e6, (double)turn.records / (double)flushes,
           percentile_us(latencies_ns, latency_count, 0.5),
           percentile_us(latencies_ns, latency_count, 0.99), turn.cpu_us / (double)turn.records,
           raw_rate, percentile_us(raw_latencies_ns, raw_latency_count, 0.5),
           percentile_us(raw_latencies_ns, raw_latency_count, 0.99), rate / raw_rate,
           percentile_us(raw_latencies_ns, raw_latency_count, 0.5) /
               percentile_us(latencies_ns, latency_count, 0.5));
    fflush(stdout);
}

static void on_closed(void *context)
{
    *(bool *)context = true;
}

int main(int argc, char **argv)
{
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--directory") == 0) {
            directory = argv[i + 1];
        } else if (strcmp(argv[i], "--ms") == 0) {
            turn_ms = strtoull(argv[i + 1], NULL, 10);
        } else if (strcmp(argv[i], "--bytes") == 0) {
            record_bytes = strtoull(argv[i + 1], NULL, 10);
        } else if (strcmp(argv[i], "--turns") == 0) {
            turns = strtoull(argv[i + 1], NULL, 10);
        } else {
            fprintf(stderr,
                    "usage: log_bench [--directory DIR] [--ms N] [--bytes N] [--turns N]\n");
            return 2;
        }
    }
    char top[512];
    char path[600];
    snprintf(top, sizeof top, "%s/kelp-bench-XXXXXX", directory);
    CHECK(mkdtemp(top) != NULL);
    snprintf(path, sizeof path, "%s/raw", top);
    const int raw = open(path, O_RDWR | O_CREAT, 0600);
    CHECK(raw >= 0);
    uint8_t *data = calloc(1, RAW_BYTES);
    flush_sizes = malloc(SAMPLES_MAX * sizeof *flush_sizes);
    latencies_ns = malloc(SAMPLES_MAX * sizeof *latencies_ns);
    raw_latencies_ns = malloc(SAMPLES_MAX * sizeof *raw_latencies_ns);
    CHECK(data != NULL && flush_sizes != NULL && latencies_ns != NULL && raw_latencies_ns != NULL);
    CHECK(pwrite(raw, data, RAW_BYTES, 0) == RAW_BYTES); /* zeros, so that no write allocates */
    CHECK(fsync(raw) == 0);
    for (uint32_t i = 0; i < RAW_BYTES; i++) {
        data[i] = (uint8_t)(i * 31u);
    }
    payload = bytes_of(data, record_bytes);
    entry = (struct log_entry){
        .term = 1, .type = LOG_TYPE_COMMAND, .piece_count = 1, .pieces = &payload};
    for (uint32_t i = 0; i < FLIGHT_MAX; i++) {
        slots[i].request.callback = slot_on_durable;
    }

    snprintf(path, sizeof path, "%s/log", top);
    struct disk_uv *uv = disk_uv_new(uv_default_loop());
    struct log_recovery recovery;
    const struct log_options options = {.directory = path, .owner = "bench"};
    CHECK(log_open(&bench_log, disk_uv_disk(uv), &options, &recovery) == 0);
    uv_run(uv_default_loop(), UV_RUN_DEFAULT); /* the first segment is prepared */

    printf("append + fdatasync of %llu-byte records, %llu turns of %llu ms each, in %s\n\n",
           (unsigned long long)record_bytes, (unsigned long long)turns, (unsigned long long)turn_ms,
           directory);
    printf("%9s %11s %8s %9s %9s %9s %9s %13s %9s %9s %6s %6s\n", "in flight", "records/s", "MB/s",
           "per flush", "p50 us", "p99 us", "CPU us", "raw records/s", "raw p50", "raw p99",
           "ratio", "at p50");
    static const uint32_t flights[] = {1, 8, 64, 512};
    for (size_t i = 0; i < sizeof flights / sizeof flights[0]; i++) {
        bench(flights[i], raw, data);
    }
    printf(
        "\nraw: a loop of pwrite + fdatasync of the same batches; its p50 and p99 are the disk's\n"
        "latency of one. CPU us: user and system time of the whole process per record.\n");

    bool closed = false;
    log_close(&bench_log, on_closed, &closed);
    while (!closed && uv_run(uv_default_loop(), UV_RUN_ONCE) != 0) {
    }
    close(raw);
    char command[700];
    snprintf(command, sizeof command, "rm -r '%s'", top);
    return system(command) == 0 ? 0 : 1;
}
