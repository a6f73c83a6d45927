/* How fast three replicas agree: records of 256 bytes per second, and how long one command takes.
 *
 *   1. three processes, one replica each, joined by Unix sockets; each has its own log directory
 *   2. whoever is elected proposes commands of B records, W of them in flight, for a while per row
 *   3. latency is from replica_propose to its callback: durable on two of three, applied here; CPU is
 *      user and system time of the leader's process for each command or read, which a busy machine
 *      changes least
 *
 *     commit_bench [--tls] [--reads] [--directory DIR] [--ms N]
 *
 * With --reads, W readers ask the leader for points to read at instead, one after the other each;
 * the rows with writers have that many commands of one record in flight meanwhile.
 *
 * The state machine only counts, the sockets are local and plain, all three share one disk and the
 * machine's cores. With --tls the links are those of production (commit_tls.h) on the loopback. What
 * real replicas add is RocksDB and a network.
 */
#include "bench/commit_tls.h"
#include "log/disk_uv.h"
#include "log/log.h"
#include "replication/replica.h"
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
#define HEADER_BYTES 8u
#define QUEUE_BYTES  (64u * 1024u * 1024u)
#define FLIGHT_MAX   64u

struct peer {
    uv_pipe_t pipe;
    uint8_t *data; /* received, not yet handed on; frames are padded to 8 */
    size_t size, capacity;
    uint64_t id;
};

struct write {
    uv_write_t request;
    uint8_t data[];
};

struct row {
    uint32_t batch, flight, readers;
};

static const struct row rows_commit[] = {{1, 1, 0},   {1, 8, 0},   {1, 64, 0},   {10, 8, 0},
                                         {10, 64, 0}, {100, 8, 0}, {100, 64, 0}, {1000, 8, 0}};
static const struct row rows_read[] = {{1, 0, 1}, {1, 0, 8}, {1, 0, 64}, {1, 8, 1}, {1, 8, 64}};
static const struct row *rows = rows_commit;
static size_t row_count = sizeof rows_commit / sizeof *rows_commit;

static uv_loop_t *loop;
static struct log bench_log;
static struct replica *replica;
static struct peer peers[REPLICAS + 1]; /* by id */
static uint64_t applied;
static bool fetched;
static uint64_t run_ms = 1500;
static bool tls;

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

static void write_on_done(uv_write_t *request, int status)
{
    (void)status;
    free(CONTAINER_OF(request, struct write, request));
}

static int peer_send(void *context, uint64_t to, struct bytes message)
{
    (void)context;
    uv_stream_t *stream = (uv_stream_t *)&peers[to].pipe;
    if (uv_stream_get_write_queue_size(stream) > QUEUE_BYTES) {
        return STATUS_FULL;
    }
    const size_t padded = (message.size + 7) & ~(size_t)7;
    struct write *write = malloc(sizeof *write + HEADER_BYTES + padded);
    CHECK(write != NULL);
    put_le32(write->data, (uint32_t)message.size);
    put_le32(write->data + 4, 0);
    memcpy(write->data + HEADER_BYTES, message.data, message.size);
    const uv_buf_t buffer = uv_buf_init((char *)write->data, (unsigned)(HEADER_BYTES + padded));
    const int status = uv_write(&write->request, stream, &buffer, 1, write_on_done);
    if (status != 0) {
        free(write);
    }
    return status;
}

static void peer_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    struct peer *peer = handle->data;
    if (peer->capacity - peer->size < suggested) {
        peer->capacity = peer->size + suggested;
        peer->data = realloc(peer->data, peer->capacity);
        CHECK(peer->data != NULL);
    }
    *out = uv_buf_init((char *)peer->data + peer->size, (unsigned)suggested);
}

static void peer_on_read(uv_stream_t *stream, ssize_t got, const uv_buf_t *buffer)
{
    (void)buffer;
    struct peer *peer = stream->data;
    if (got < 0) {
        _exit(0); /* the others were ended: so are we */
    }
    peer->size += (size_t)got;
    size_t at = 0;
    while (peer->size - at >= HEADER_BYTES) {
        const size_t size = get_le32(peer->data + at);
        const size_t whole = HEADER_BYTES + ((size + 7) & ~(size_t)7);
        if (peer->size - at < whole) {
            break;
        }
        (void)replica_receive(replica, peer->id, bytes_of(peer->data + at + HEADER_BYTES, size));
        at += whole;
    }
    memmove(peer->data, peer->data + at, peer->size - at);
    peer->size -= at;
}

static void peer_on_message(uint64_t from, struct bytes message)
{
    (void)replica_receive(replica, from, message);
}

/* Plain sockets are there already, from before the processes parted. */
static void peers_start(uint64_t id, int sockets[REPLICAS + 1])
{
    if (tls) {
        commit_tls_open(loop, id, peer_on_message);
        return;
    }
    for (uint64_t i = 1; i <= REPLICAS; i++) {
        if (i != id) {
            peers[i].id = i;
            CHECK(uv_pipe_init(loop, &peers[i].pipe, 0) == 0);
            CHECK(uv_pipe_open(&peers[i].pipe, sockets[i]) == 0);
            peers[i].pipe.data = &peers[i];
            CHECK(uv_read_start((uv_stream_t *)&peers[i].pipe, peer_alloc, peer_on_read) == 0);
        }
    }
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

static void row_tell(void)
{
    const double seconds = (double)run_ms / 1000;
    const double cpu = (now_cpu_us() - cpu_us) / (double)(ended == 0 ? 1 : ended);
    CHECK(latency_count > 0);
    qsort(latencies_us, latency_count, sizeof *latencies_us, compare);
    if (rows[row_now].readers > 0) {
        printf("%8u %8u %12.0f %12.0f %10.2f %10.2f %10.1f\n", rows[row_now].readers,
               rows[row_now].flight, (double)served / seconds, (double)committed / seconds,
               latencies_us[latency_count / 2] / 1e3,
               latencies_us[(uint64_t)latency_count * 99 / 100] / 1e3, cpu);
        return;
    }
    printf("%6u x %-4u %12.0f %12.0f %10.2f %10.2f %10.1f\n", rows[row_now].batch,
           rows[row_now].flight, (double)committed / seconds,
           (double)committed * rows[row_now].batch / seconds, latencies_us[latency_count / 2] / 1e3,
           latencies_us[(uint64_t)latency_count * 99 / 100] / 1e3, cpu);
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

static void state_apply(void *context, uint64_t index, uint64_t term, struct bytes bytes)
{
    (void)context;
    (void)term;
    (void)bytes;
    applied = index;
}

static int state_start(void *context, uint64_t index)
{
    (void)context;
    (void)index;
    return 0;
}

static int state_make(void *context, struct manifest *out)
{
    (void)context;
    out->applied_index = applied; /* read beside the loop: a number that only grows */
    return 0;
}

static void state_end(void *context, int status)
{
    (void)context;
    (void)status;
}

static int state_fetch(void *context, uint64_t from, const struct manifest *manifest)
{
    (void)context;
    (void)from;
    (void)manifest;
    fetched = true;
    return 0;
}

static int state_restore(void *context, const struct manifest *manifest,
                         uint64_t *out_applied_index)
{
    (void)context;
    applied = manifest->applied_index;
    *out_applied_index = applied;
    return 0;
}

struct job {
    uv_work_t request;
    struct replica_work *work;
};

static void job_run(uv_work_t *request)
{
    struct job *job = CONTAINER_OF(request, struct job, request);
    job->work->work(job->work);
}

static void job_on_done(uv_work_t *request, int status)
{
    (void)status;
    struct job *job = CONTAINER_OF(request, struct job, request);
    job->work->done(job->work);
    free(job);
}

static void state_run(void *context, struct replica_work *work)
{
    (void)context;
    struct job *job = malloc(sizeof *job);
    CHECK(job != NULL);
    job->work = work;
    CHECK(uv_queue_work(loop, &job->request, job_run, job_on_done) == 0);
}

static void on_tick(uv_timer_t *timer)
{
    (void)timer;
    static uint64_t ticks;
    static uint64_t led_since;
    const uint64_t now_ms = now_ns() / 1000000;
    replica_tick(replica, now_ms);
    if (fetched) {
        fetched = false;
        replica_fetched(replica, 0);
    }
    if (++ticks % 100 == 0) {
        log_tick(&bench_log, 0);
    }
    if (replica_role(replica) != REPLICA_LEADER) {
        led_since = 0;
    } else if (led_since == 0) {
        led_since = now_ms;
    } else if (!running && now_ms - led_since > 500) {
        row_start();
    }
}

__attribute__((noreturn)) static void replica_main(uint64_t id, const char *directory,
                                                   int sockets[REPLICAS + 1])
{
    signal(SIGPIPE, SIG_IGN);
    loop = uv_default_loop();
    latencies_us = malloc(SAMPLES_MAX * sizeof *latencies_us);
    command = malloc(1000u * RECORD_BYTES);
    CHECK(latencies_us != NULL);
    CHECK(command != NULL);
    memset(command, 0x5a, 1000u * RECORD_BYTES);
    char path[512];
    snprintf(path, sizeof path, "%s/%lu", directory, id);
    const struct log_options options = {.directory = path, .owner = {(uint8_t)id}};
    struct log_recovery recovery;
    int status = log_open(&bench_log, disk_uv_disk(disk_uv_new(loop)), &options, &recovery);
    if (status != 0) {
        fprintf(stderr, "commit_bench: %s: %s\n", path, status_text(status));
        _exit(1);
    }
    static const struct replica_member members[REPLICAS] = {
        {1, "one", REPLICA_VOTER}, {2, "two", REPLICA_VOTER}, {3, "three", REPLICA_VOTER}};
    const struct replica_config config = {.id = id,
                                          .address = members[id - 1].address,
                                          .members = members,
                                          .member_count = REPLICAS,
                                          .epoch = 1,
                                          .seed = now_ns() * id,
                                          .now_ms = now_ns() / 1000000,
                                          .snapshot_bytes = 32u * 1024u * 1024u,
                                          .run = state_run};
    const struct replica_hooks hooks = {.apply = state_apply,
                                        .checkpoint_start = state_start,
                                        .checkpoint_make = state_make,
                                        .checkpoint_end = state_end,
                                        .checkpoint_fetch = state_fetch,
                                        .checkpoint_restore = state_restore};
    const struct replica_peers seam = {.send = tls ? commit_tls_send : peer_send};
    peers_start(id, sockets);
    status = replica_open(&bench_log, &config, &hooks, &seam, &replica);
    if (status != 0) {
        fprintf(stderr, "commit_bench: replica_open: %s\n", status_text(status));
        _exit(1);
    }
    uv_timer_t timer;
    CHECK(uv_timer_init(loop, &timer) == 0);
    CHECK(uv_timer_start(&timer, on_tick, 10, 10) == 0);
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
        } else {
            fprintf(stderr, "usage: commit_bench [--tls] [--reads] [--directory DIR] [--ms N]\n");
            return 2;
        }
    }
    char directory[400];
    snprintf(directory, sizeof directory, "%s/kelp-commit-XXXXXX", parent);
    if (run_ms == 0 || mkdtemp(directory) == NULL) {
        perror(directory);
        return 1;
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
    if (tls) {
        commit_tls_prepare(directory);
    }
    int sockets[REPLICAS + 1][REPLICAS + 1];
    for (unsigned a = 1; a <= REPLICAS; a++) {
        for (unsigned b = a + 1; b <= REPLICAS; b++) {
            int pair[2];
            CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
            sockets[a][b] = pair[0];
            sockets[b][a] = pair[1];
        }
    }
    pid_t children[REPLICAS + 1];
    for (unsigned id = 1; id <= REPLICAS; id++) {
        children[id] = fork();
        CHECK(children[id] >= 0);
        if (children[id] == 0) {
            for (unsigned a = 1; a <= REPLICAS; a++) {
                for (unsigned b = 1; b <= REPLICAS; b++) {
                    if (a != b && a != id) {
                        close(sockets[a][b]);
                    }
                }
            }
            replica_main(id, directory, sockets[id]);
        }
    }
    for (unsigned a = 1; a <= REPLICAS; a++) {
        for (unsigned b = 1; b <= REPLICAS; b++) {
            if (a != b) {
                close(sockets[a][b]);
            }
        }
    }
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
    return status == 0 ? 0 : 1;
}
