/* How fast three replicas agree: records of 256 bytes per second, and how long one command takes.
 *
 *   1. three processes, one replica each, joined by Unix sockets; each has its own log directory
 *   2. whoever is elected proposes commands of B records, W of them in flight, for a while per row
 *   3. latency is from replica_propose to its callback: durable on two of three, applied here; CPU is
 *      user and system time of the leader's process for each command or read, which a busy machine
 *      changes least
 *
 *     commit_bench [--tls] [--reads] [--directory DIR] [--ms N] [-o table|json]
 *
 * With --reads, W readers ask the leader for points to read at instead, one after the other each;
 * the rows with writers have that many commands of one record in flight meanwhile.
 *
 * The state machine only counts, the sockets are local and plain, all three share one disk and the
 * machine's cores. With --tls the links are those of production (commit_tls.h) on the loopback. What
 * real replicas add is RocksDB and a network.
 */
#include "bench/commit_count.h"
#include "bench/commit_tls.h"
#include "bench/rows.h"
#include "schemas/check.h"

#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#define REPLICAS     COMMIT_REPLICAS
#define RECORD_BYTES 256u
#define WARM_NS      (300 * UINT64_C(1000000))
#define SAMPLES_MAX  4000000u
#define FLIGHT_MAX   64u

struct row {
    uint32_t batch, flight, readers;
};

static const struct row rows_commit[] = {{1, 1, 0},   {1, 8, 0},   {1, 64, 0},   {10, 8, 0},
                                         {10, 64, 0}, {100, 8, 0}, {100, 64, 0}, {1000, 8, 0}};
static const struct row rows_read[] = {{1, 0, 1}, {1, 0, 8}, {1, 0, 64}, {1, 8, 1}, {1, 8, 64}};
static const struct row *rows = rows_commit;
static size_t row_count = sizeof rows_commit / sizeof *rows_commit;

static uv_loop_t *loop;
static struct replica *replica;
static uint64_t run_ms = 1500;
static bool tls;
static bool as_rows; /* -o json */
static struct rows figures;

static size_t row_now;
static bool running;
static uint64_t begin_ns, end_ns;
static uint32_t in_flight;
static uint64_t committed;
static uint64_t served;        /* reads */
static uint32_t *latencies_us; /* of commands, or of reads in a row with readers */
static uint32_t latency_count;
static uint64_t ended; /* commands and reads, warming up and draining included */
static double cpu_us;  /* when the row began */
static uint64_t begun_ns[FLIGHT_MAX];
static uint64_t asked_ns[FLIGHT_MAX];
static uint8_t *command;

static uint64_t now_ns(void)
{
    return uv_hrtime();
}

static double now_cpu_us(void)
{
    struct rusage usage;
    CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

/* -- peers ------------------------------------------------------------------------------------- */

static void peer_on_message(uint64_t from, struct bytes message)
{
    (void)replica_receive(replica, from, message);
}

/* -- load -------------------------------------------------------------------------------------- */

static void load_on_done(void *context, int status, uint64_t index);
static void read_on_done(void *context, int status, uint64_t index);

static void load_propose(uintptr_t slot)
{
    const size_t size = (size_t)rows[row_now].batch * RECORD_BYTES;
    begun_ns[slot] = now_ns();
    const int status =
        replica_propose(replica, bytes_of(command, size), load_on_done, (void *)slot);
    if (status != 0) {
        fprintf(stderr, "commit_bench: propose: %s\n", status_text(status));
        _exit(1);
    }
    in_flight++;
}

static void load_read(uintptr_t slot)
{
    asked_ns[slot] = now_ns();
    const int status = replica_read(replica, read_on_done, (void *)slot);
    if (status != 0) {
        fprintf(stderr, "commit_bench: read: %s\n", status_text(status));
        _exit(1);
    }
    in_flight++;
}

static int compare(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a;
    const uint32_t y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void row_start(void)
{
    committed = 0;
    served = 0;
    ended = 0;
    cpu_us = now_cpu_us();
    latency_count = 0;
    begin_ns = now_ns() + WARM_NS;
    end_ns = begin_ns + run_ms * 1000000;
    running = true;
    for (uintptr_t slot = 0; slot < rows[row_now].flight; slot++) {
        load_propose(slot);
    }
    for (uintptr_t slot = 0; slot < rows[row_now].readers; slot++) {
        load_read(slot);
    }
}

static void figures_add(const char *row, const struct row_figure *each, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct row_figure figure = each[i];
        figure.row = row;
        rows_add(&figures, &figure);
    }
}

static void row_tell(void)
{
    const struct row *row = &rows[row_now];
    const double seconds = (double)run_ms / 1000;
    const double cpu = (now_cpu_us() - cpu_us) / (double)(ended == 0 ? 1 : ended);
    if (latency_count == 0) {
        fprintf(stderr,
                "commit_bench: nothing was answered within %lu ms: ask for more with --ms\n",
                run_ms);
        _exit(1);
    }
    qsort(latencies_us, latency_count, sizeof *latencies_us, compare);
    const double p50_ms = latencies_us[latency_count / 2] / 1e3;
    const double p99_ms = latencies_us[(uint64_t)latency_count * 99 / 100] / 1e3;
    const double commands = (double)committed / seconds;
    const double reads = (double)served / seconds;
    const double records = commands * row->batch;
    const bool reading = row->readers > 0;
    if (as_rows) {
        char name[64];
        if (reading) {
            snprintf(name, sizeof name, "%u readers, %u writers", row->readers, row->flight);
        } else {
            snprintf(name, sizeof name, "%u x %u", row->batch, row->flight);
        }
        const struct row_figure each[] = {
            {.figure = reading ? "reads/s" : "records/s", .value = reading ? reads : records},
            {.figure = "p50 ms", .value = p50_ms, .better = ROWS_LESS},
            {.figure = "p99 ms", .value = p99_ms, .better = ROWS_LESS},
            {.figure = reading ? "leader's CPU us/call" : "leader's CPU us/command",
             .value = cpu,
             .better = ROWS_LESS},
        };
        figures_add(name, each, sizeof each / sizeof *each);
    } else if (reading) {
        printf("%8u %8u %12.0f %12.0f %10.2f %10.2f %10.1f\n", row->readers, row->flight, reads,
               commands, p50_ms, p99_ms, cpu);
    } else {
        printf("%6u x %-4u %12.0f %12.0f %10.2f %10.2f %10.1f\n", row->batch, row->flight, commands,
               records, p50_ms, p99_ms, cpu);
    }
}

static void row_end(void)
{
    row_tell();
    fflush(stdout);
    row_now++;
    if (row_now == row_count) {
        _exit(0); /* the others notice */
    }
    row_start();
}

/* One command or read has ended: count it, and say whether its slot goes on. */
static bool load_count(int status, uint64_t since_ns, uint64_t *count, bool sampled)
{
    const uint64_t now = now_ns();
    in_flight--;
    ended++;
    if (status != 0) {
        fprintf(stderr, "commit_bench: leadership was lost: %s\n", status_text(status));
        _exit(1);
    }
    if (now >= begin_ns && now < end_ns) {
        (*count)++;
        if (sampled && latency_count < SAMPLES_MAX) {
            latencies_us[latency_count++] = (uint32_t)((now - since_ns) / 1000);
        }
    }
    if (now >= end_ns && in_flight == 0) {
        row_end();
    }
    return now < end_ns;
}

static void load_on_done(void *context, int status, uint64_t index)
{
    (void)index;
    const uintptr_t slot = (uintptr_t)context;
    if (load_count(status, begun_ns[slot], &committed, rows[row_now].readers == 0)) {
        load_propose(slot);
    }
}

static void read_on_done(void *context, int status, uint64_t index)
{
    (void)index;
    const uintptr_t slot = (uintptr_t)context;
    if (load_count(status, asked_ns[slot], &served, true)) {
        load_read(slot);
    }
}

/* -- one replica ------------------------------------------------------------------------------- */

static void on_turn_end(uv_prepare_t *prepare)
{
    (void)prepare;
    commit_count_turn();
}

static void on_tick(uv_timer_t *timer)
{
    (void)timer;
    static uint64_t led_since;
    const uint64_t now_ms = now_ns() / 1000000;
    commit_count_tick();
    if (replica_role(replica) != REPLICA_LEADER) {
        led_since = 0;
    } else if (led_since == 0) {
        led_since = now_ms;
    } else if (!running && now_ms - led_since > 500) {
        row_start();
    }
}

__attribute__((noreturn)) static void replica_main(uint64_t id, const char *directory)
{
    signal(SIGPIPE, SIG_IGN);
    loop = uv_default_loop();
    latencies_us = malloc(SAMPLES_MAX * sizeof *latencies_us);
    command = malloc(1000u * RECORD_BYTES);
    CHECK(latencies_us != NULL);
    CHECK(command != NULL);
    memset(command, 0x5a, 1000u * RECORD_BYTES);
    if (tls) {
        commit_tls_open(loop, id, peer_on_message);
    } else {
        commit_links_open(loop, id, peer_on_message);
    }
    replica = commit_count_open(loop, id, directory, tls ? commit_tls_send : commit_links_send);
    uv_prepare_t turn;
    CHECK(uv_prepare_init(loop, &turn) == 0);
    CHECK(uv_prepare_start(&turn, on_turn_end) == 0);
    uv_timer_t timer;
    CHECK(uv_timer_init(loop, &timer) == 0);
    CHECK(uv_timer_start(&timer, on_tick, COMMIT_TICK_MS, COMMIT_TICK_MS) == 0);
    uv_run(loop, UV_RUN_DEFAULT);
    _exit(1);
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *place)
{
    (void)info;
    (void)kind;
    (void)place;
    return remove(path);
}

static void head_print(void)
{
    if (as_rows) {
        rows_begin(&figures, rows == rows_read ? "commit --reads"
                             : tls             ? "commit --tls"
                                               : "commit --alone");
        return;
    }
    printf("three replicas, records of %u bytes, %lu ms per row\n", RECORD_BYTES, run_ms);
    if (rows == rows_read) {
        printf("%8s %8s %12s %12s %10s %10s %10s\n", "readers", "writers", "reads/s", "commands/s",
               "p50 ms", "p99 ms", "CPU us");
    } else {
        printf("%6s x %-4s %12s %12s %10s %10s %10s\n", "batch", "W", "commands/s", "records/s",
               "p50 ms", "p99 ms", "CPU us");
    }
    fflush(stdout);
}

int main(int count, char **arguments)
{
    const char *parent = "/tmp";
    for (int i = 1; i < count; i++) {
        if (strcmp(arguments[i], "--directory") == 0 && i + 1 < count) {
            parent = arguments[++i];
        } else if (strcmp(arguments[i], "--ms") == 0 && i + 1 < count) {
            run_ms = strtoull(arguments[++i], NULL, 10);
        } else if (strcmp(arguments[i], "--tls") == 0) {
            tls = true;
        } else if (strcmp(arguments[i], "--reads") == 0) {
            rows = rows_read;
            row_count = sizeof rows_read / sizeof *rows_read;
        } else if (strcmp(arguments[i], "-o") == 0 && i + 1 < count &&
                   (strcmp(arguments[i + 1], "json") == 0 ||
                    strcmp(arguments[i + 1], "table") == 0)) {
            as_rows = strcmp(arguments[++i], "json") == 0;
        } else {
            fprintf(stderr, "usage: commit_bench [--tls] [--reads] [--directory DIR] [--ms N] "
                            "[-o table|json]\n");
            return 2;
        }
    }
    char directory[400];
    snprintf(directory, sizeof directory, "%s/kelp-commit-XXXXXX", parent);
    if (run_ms == 0 || mkdtemp(directory) == NULL) {
        perror(directory);
        return 1;
    }
    head_print();
    if (tls) {
        commit_tls_prepare(directory);
    }
    commit_links_prepare(false);
    pid_t children[REPLICAS + 1];
    for (unsigned id = 1; id <= REPLICAS; id++) {
        children[id] = fork();
        CHECK(children[id] >= 0);
        if (children[id] == 0) {
            replica_main(id, directory);
        }
    }
    commit_links_forget();
    int status = 0;
    const pid_t first = wait(&status); /* whoever led, or failed */
    CHECK(first > 0);
    for (unsigned id = 1; id <= REPLICAS; id++) {
        if (children[id] != first) {
            kill(children[id], SIGKILL);
            CHECK(waitpid(children[id], NULL, 0) == children[id]);
        }
    }
    nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    if (as_rows) {
        rows_end();
    }
    return status == 0 ? 0 : 1;
}
