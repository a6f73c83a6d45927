/* How much disk a churn leaves behind: log and RocksDB together, against history and what is alive.
 *
 *   1. a set of objects is written, then overwritten, deleted and created again at random, many times its size
 *   2. in the cloud by the core of a cloudcore that is alone in its group: real log, real store, raft's own
 *      checkpoints, the trimming that follows them; at an edge by its machine, flushed and released as
 *      nodes/edge/core.c does it
 *   3. every 10 ms the files are added up (blocks, not sizes), every so often the rows too
 *   4. in the end nine of ten objects are deleted: what is dead must go although nothing new is written
 *
 *     space_bench [--directory DIR] [--objects N] [--body BYTES] [--times N] [--history MIB] [--checkpoint MIB]
 *                 [-o table|json]
 *
 * Claims, of the most that was seen since the line before: the log keeps at most history, what waits for a
 * checkpoint, and a few segments; the state takes at most twice the rows that are alive and
 * LIMIT_STORE_CLOUD_SPARE_BYTES or LIMIT_STORE_EDGE_SPARE_BYTES. Bodies are noise, so compression gives nothing
 * away. "wrote" is what the process made the disk write for each byte of a body. Exit code 1: a claim did not
 * hold.
 */
#include "bench/rows.h"
#include "log/disk_uv.h"
#include "log/log.h"
#include "nodes/cloud/core.h"
#include "schemas/check.h"
#include "statemachine/edge.h"
#include "statemachine/machine.h"
#include "statemachine/store.h"

#include <dirent.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#define BODY_MAX  (32u * 1024u) /* a batch of them fits a frame */
#define FLIGHT    2048u
#define BATCH     64u
#define LINES     12u
#define SETTLE_MS 20000u
#define SAMPLE_MS 10u
#define MIB       (1024.0 * 1024.0)
/* What nodes/edge/core.c flushes at. */
#define EDGE_FLUSH_BYTES (8u * 1024u * 1024u)

static const char *directory = "/tmp";
static uint32_t objects = 16000; /* an edge holds LIMIT_EDGE_OBJECTS */
static uint64_t body_bytes = 1024;
static uint64_t times = 20;
static uint64_t history_mib = 64;
static uint64_t checkpoint_mib = LIMIT_RAFT_SNAPSHOT_BYTES >> 20;
static bool failed;
static bool as_rows; /* -o json: the worst of all lines, and the whole of each side */
static struct rows document;

struct churn {
    const char *name;
    char path[600];
    uv_loop_t loop;
    struct disk_uv *disk;
    struct log log;
    struct store *store;
    struct codec *codec;
    uint64_t noise;
    bool *alive;        /* of each object */
    uint64_t written;   /* bytes of bodies */
    uint64_t io_before; /* bytes the process had written to disks by then */
    uint64_t next_line;
    uint64_t line_written; /* as the line before was printed; and when that was */
    uint64_t line_ms;
    uint64_t sample_ms; /* when the files were added up last */
    uint64_t log_peak;  /* the most of it since the line before */
    uint64_t state_peak;
    uint64_t log_slack; /* constants of the claims */
    uint64_t state_slack;
    double log_share; /* of its bound, the most at any line; likewise the next */
    double state_share;
    double busy_s; /* adding up left out */
};

/* -- words ------------------------------------------------------------------------------------- */

static uint64_t now_ms(void)
{
    return uv_hrtime() / 1000000;
}

static int64_t wall_ms(void)
{
    return (int64_t)time(NULL) * 1000;
}

static uint64_t noise(struct churn *c)
{
    c->noise ^= c->noise << 13;
    c->noise ^= c->noise >> 7;
    c->noise ^= c->noise << 17;
    return c->noise;
}

enum phase {
    FILL,   /* puts */
    CHURN,  /* puts, and one remove in ten of what is alive */
    SHRINK, /* removes */
};

/* The next record. Lent until the codec's reset. */
static struct bytes churn_record(struct churn *c, enum phase phase, uint32_t i)
{
    char name[32];
    snprintf(name, sizeof name, "c%u", i);
    const char *key = codec_print(c->codec, "/configmaps/default/%s", name);
    struct record record = {.key = key, .origin = "bench", .time_ms = wall_ms()};
    int status;
    if (phase == SHRINK || (phase == CHURN && c->alive[i] && noise(c) % 10 == 0)) {
        const struct object_remove remove = {.if_uid = ""};
        record.kind = RECORD_OBJECT_REMOVE;
        c->alive[i] = false;
        status = codec_object_remove_build(c->codec, &remove, &record.body);
    } else {
        uint64_t body[BODY_MAX / 8];
        for (size_t k = 0; k < body_bytes / 8; k++) {
            body[k] = noise(c);
        }
        const struct object_put put = {
            .mode = PUT_ANY,
            .object = {.version = "v1",
                       .kind = "ConfigMap",
                       .resource = "configmaps",
                       .namespace_ = "default",
                       .name = name,
                       .uid = name,
                       .tag = {.low = noise(c), .high = noise(c)},
                       .json = bytes_of((const uint8_t *)body, body_bytes)},
        };
        record.kind = RECORD_OBJECT_PUT;
        c->alive[i] = true;
        c->written += body_bytes;
        status = codec_object_put_build(c->codec, &put, &record.body);
    }
    CHECK(status == 0);
    struct bytes bytes;
    CHECK(codec_record_build(c->codec, &record, &bytes) == 0);
    return bytes;
}

/* -- measuring --------------------------------------------------------------------------------- */

static uint64_t files_bytes(const struct churn *c, const char *part)
{
    char path[700];
    snprintf(path, sizeof path, "%s/%s", c->path, part);
    DIR *listing = opendir(path);
    CHECK(listing != NULL);
    uint64_t bytes = 0;
    for (struct dirent *entry = readdir(listing); entry != NULL; entry = readdir(listing)) {
        struct stat about;
        if (fstatat(dirfd(listing), entry->d_name, &about, 0) == 0 && S_ISREG(about.st_mode)) {
            bytes += (uint64_t)about.st_blocks * 512;
        }
    }
    closedir(listing);
    return bytes;
}

static uint64_t rows_bytes(struct churn *c)
{
    uint64_t bytes = 0;
    struct store_reader *reader = store_snapshot(c->store);
    for (unsigned table = 0; table < STORE_TABLES; table++) {
        struct store_iterator *iterator = store_iterate(reader, table, (struct bytes){0});
        for (bool on = store_iterator_first(iterator); on; on = store_iterator_next(iterator)) {
            bytes += store_iterator_key(iterator).size + store_iterator_value(iterator).size;
        }
        CHECK(store_iterator_status(iterator) == 0);
        store_iterator_close(iterator);
    }
    store_snapshot_release(reader);
    return bytes;
}

/* Bytes that this process made the disks write, so far. */
static uint64_t io_bytes(void)
{
    FILE *file = fopen("/proc/self/io", "re");
    unsigned long long bytes = 0;
    char line[128];
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        (void)sscanf(line, "write_bytes: %llu", &bytes);
    }
    if (file != NULL) {
        fclose(file);
    }
    return bytes;
}

/* Add up the files. */
static void churn_sample(struct churn *c)
{
    const uint64_t log = files_bytes(c, "log");
    const uint64_t state = files_bytes(c, "state");
    c->log_peak = log > c->log_peak ? log : c->log_peak;
    c->state_peak = state > c->state_peak ? state : c->state_peak;
    c->sample_ms = now_ms();
}

/* What lies beside its successor for a moment counts: look often enough to see it. */
static void churn_watch(struct churn *c)
{
    if (now_ms() >= c->sample_ms + SAMPLE_MS) {
        churn_sample(c);
    }
}

static void head_print(void)
{
    printf("%-6s %9s %9s | %8s %8s | %8s %8s %6s | %6s %8s | %s\n", "", "written", "alive", "log",
           "bound", "state", "bound", "x", "wrote", "a second", "claims");
}

/* Whether both claims held at every look since the line before. */
static bool churn_holds(struct churn *c, bool print)
{
    churn_sample(c);
    const uint64_t alive = rows_bytes(c);
    const uint64_t log = c->log_peak;
    const uint64_t state = c->state_peak;
    const uint64_t log_bound = (history_mib << 20) + c->log_slack;
    const uint64_t state_bound = 2 * alive + c->state_slack;
    const bool holds = log <= log_bound && state <= state_bound;
    const double seconds = (double)(now_ms() - c->line_ms) / 1000;
    if (print && !as_rows) {
        printf(
            "%-6s %7.0f M %7.1f M | %6.1f M %6.1f M | %6.1f M %6.1f M %6.2f | %6.1f %6.1f M | %s\n",
            c->name, (double)c->written / MIB, (double)alive / MIB, (double)log / MIB,
            (double)log_bound / MIB, (double)state / MIB, (double)state_bound / MIB,
            (double)state / (double)alive, (double)(io_bytes() - c->io_before) / (double)c->written,
            (double)(c->written - c->line_written) / MIB / seconds, holds ? "hold" : "DO NOT HOLD");
        fflush(stdout);
    }
    if (print) {
        failed = failed || !holds;
        c->line_written = c->written;
        c->busy_s += seconds;
        c->log_share = fmax(c->log_share, (double)log / (double)log_bound);
        c->state_share = fmax(c->state_share, (double)state / (double)state_bound);
    }
    c->log_peak = 0;
    c->state_peak = 0;
    c->line_ms = now_ms(); /* adding up the rows is not part of it */
    return holds;
}

/* One line, when it is time for one. */
static void churn_look(struct churn *c)
{
    if (c->written >= c->next_line) {
        c->next_line += times * objects * body_bytes / LINES;
        (void)churn_holds(c, true);
    }
}

/* Compaction goes on behind our back: it has this long to make the claims hold. */
static void churn_settle(struct churn *c, void (*turn)(void))
{
    const uint64_t deadline_ms = now_ms() + SETTLE_MS;
    while (!churn_holds(c, false) && now_ms() < deadline_ms) {
        turn();
    }
    (void)churn_holds(c, true);
}

static void churn_rows(const struct churn *c)
{
    const double written = (double)c->written;
    const double wrote = (double)(io_bytes() - c->io_before);
    const struct row_figure figures[] = {
        {.figure = "log, share of its bound",
         .value = c->log_share,
         .better = ROWS_LESS,
         .goal = 1},
        {.figure = "state, share of its bound",
         .value = c->state_share,
         .better = ROWS_LESS,
         .goal = 1},
        {.figure = "bytes written/byte", .value = wrote / written, .better = ROWS_LESS},
        {.figure = "bodies MB/s", .value = written / 1e6 / c->busy_s},
    };
    for (size_t i = 0; as_rows && i < sizeof figures / sizeof *figures; i++) {
        struct row_figure figure = figures[i];
        figure.row = c->name;
        rows_add(&document, &figure);
    }
}

static void churn_open(struct churn *c, const char *top, const char *name,
                       enum store_profile profile, const char *machine, uint32_t format)
{
    *c = (struct churn){
        .name = name, .noise = 88172645463325252u, .io_before = io_bytes(), .line_ms = now_ms()};
    snprintf(c->path, sizeof c->path, "%s/%s", top, name);
    CHECK(mkdir(c->path, 0700) == 0);
    CHECK(uv_loop_init(&c->loop) == 0);
    c->disk = disk_uv_new(&c->loop);
    CHECK(c->disk != NULL);
    char path[700];
    snprintf(path, sizeof path, "%s/log", c->path);
    const struct log_options options = {.directory = path, .history_bytes = history_mib << 20};
    struct log_recovery recovery;
    CHECK(log_open(&c->log, disk_uv_disk(c->disk), &options, &recovery) == 0);
    snprintf(path, sizeof path, "%s/state", c->path);
    const struct store_options store_options = {
        .directory = path, .profile = profile, .machine = machine, .format = format};
    CHECK(store_rocks_open(&store_options, &c->store) == 0);
    c->codec = codec_create();
    c->alive = calloc(objects, sizeof *c->alive);
    CHECK(c->alive != NULL);
}

/* -- the cloud ----------------------------------------------------------------------------------- */

static struct churn cloud;
static struct cloud_core *core;
static uint32_t flying;
static uint32_t works;
static bool log_gone;

struct pool_work {
    uv_work_t request;
    struct replica_work *work;
};

static void pool_on_work(uv_work_t *request)
{
    struct replica_work *work = CONTAINER_OF(request, struct pool_work, request)->work;
    work->work(work);
}

static void pool_on_done(uv_work_t *request, int status)
{
    struct pool_work *pool = CONTAINER_OF(request, struct pool_work, request);
    struct replica_work *work = pool->work;
    CHECK(status == 0);
    free(pool);
    works--;
    work->done(work);
}

static void on_run(void *context, struct replica_work *work)
{
    (void)context;
    struct pool_work *pool = calloc(1, sizeof *pool);
    CHECK(pool != NULL);
    pool->work = work;
    works++;
    CHECK(uv_queue_work(&cloud.loop, &pool->request, pool_on_work, pool_on_done) == 0);
}

static int on_send_peer(void *context, uint64_t replica, struct bytes frame)
{
    (void)context, (void)replica, (void)frame;
    return 0;
}

static void on_core_log(void *context, enum logger_level level, const char *event,
                        const char *pairs)
{
    (void)context;
    if (level >= LOGGER_ERROR) {
        fprintf(stderr, "%s %s\n", event, pairs);
    }
}

static void on_random(void *context, void *buffer, size_t size)
{
    (void)context;
    uint8_t *bytes = buffer;
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (uint8_t)noise(&cloud);
    }
}

static struct tag on_tag(void *context, struct bytes key, struct bytes json)
{
    (void)context;
    return (struct tag){.low = key.size + 1, .high = json.size};
}

static void on_fatal(void *context, int status, const char *message)
{
    (void)context;
    fprintf(stderr, "%s: %d\n", message, status);
    abort();
}

static int build_namespace(const struct backend *backend, struct codec *codec, const char *name,
                           struct bytes *out)
{
    const struct object_put put = {.mode = PUT_CREATE,
                                   .object = {.version = "v1",
                                              .kind = "Namespace",
                                              .resource = "namespaces",
                                              .name = name,
                                              .uid = name,
                                              .json = bytes_text("{}")}};
    struct record record = {.kind = RECORD_OBJECT_PUT,
                            .key = codec_print(codec, "/namespaces//%s", name),
                            .origin = backend->name,
                            .time_ms = wall_ms()};
    const int status = codec_object_put_build(codec, &put, &record.body);
    return status != 0 ? status : codec_record_build(codec, &record, out);
}

static void on_written(void *context, int status, enum backend_outcome outcome, uint64_t value)
{
    (void)context, (void)value;
    CHECK(status == 0);
    /* While the store makes us wait two writes of one object may change places: its removal is then first. */
    CHECK(outcome == BACKEND_ACCEPTED || outcome == BACKEND_REFUSED_MISSING);
    flying--;
}

/* One turn of the loop, as in nodes/cloudcore.c; idle ones wait a millisecond. */
static void cloud_turn(void)
{
    const struct cloud_core_time now = {.mono_ms = now_ms(), .wall_ms = wall_ms()};
    (void)cloud_core_run(core, now);
    churn_watch(&cloud);
    if (uv_run(&cloud.loop, UV_RUN_NOWAIT) == 0 || flying == FLIGHT) {
        usleep(200); /* nothing to do but to let the pool work */
    }
}

static void on_log_closed(void *context)
{
    (void)context;
    log_gone = true;
}

static void cloud_propose(const struct backend *backend, struct bytes record)
{
    int status;
    while (flying == FLIGHT ||
           (status = backend->write(backend->owner, record, on_written, NULL)) == STATUS_FULL) {
        cloud_turn();
    }
    CHECK(status == 0);
    flying++;
}

static void cloud_write(const struct backend *backend, enum phase phase, uint32_t i)
{
    codec_reset(cloud.codec);
    cloud_propose(backend, churn_record(&cloud, phase, i));
}

static void cloud_wait(void)
{
    while (flying > 0) {
        cloud_turn();
    }
}

static void bench_cloud(const char *top)
{
    churn_open(&cloud, top, "cloud", STORE_CLOUD, MACHINE_NAME, MACHINE_FORMAT);
    /* A checkpoint is made every `checkpoint` of log, and libraft keeps two more of it behind it; one may be
     * under way. Segments: the one being written, the prepared one, a spare, one that is let go in part. */
    cloud.log_slack = (4 * checkpoint_mib << 20) + 4 * (uint64_t)LIMIT_SEGMENT_BYTES;
    cloud.state_slack = LIMIT_STORE_CLOUD_SPARE_BYTES;
    static const struct cloud_core_peer peer = {1, "127.0.0.1:1"};
    const struct cloud_core_config config = {
        .replica = 1,
        .boot_count = 1,
        .name = "bench",
        .peers = &peer,
        .peer_count = 1,
        .seed = 1,
        .propose_ms = 120000, /* a stall of the disk is no answer here */
        .snapshot_bytes = checkpoint_mib << 20,
    };
    const struct cloud_core_objects builders = {.build_namespace = build_namespace};
    const struct cloud_core_ops ops = {
        .send_peer = on_send_peer,
        .log = on_core_log,
        .random = on_random,
        .tag = on_tag,
        .run = on_run,
        .fatal = on_fatal,
    };
    char reason[256];
    const struct cloud_core_time now = {.mono_ms = now_ms(), .wall_ms = wall_ms()};
    CHECK(cloud_core_open(&config, &builders, &ops, cloud.store, &cloud.log, now, &core, reason) ==
          0);
    const struct backend *backend = cloud_core_backend(core);
    while (cloud_core_report(core).version < 4) { /* the four namespaces of a new cluster */
        cloud_turn();
    }
    for (uint32_t i = 0; i < objects; i++) {
        cloud_write(backend, FILL, i);
    }
    cloud.next_line = cloud.written;
    const uint64_t end = cloud.written + times * objects * body_bytes;
    while (cloud.written < end) {
        cloud_write(backend, CHURN, (uint32_t)(noise(&cloud) % objects));
        churn_look(&cloud);
    }
    cloud_wait();
    for (uint32_t i = 0; i < objects; i++) {
        if (i % 10 != 0 && cloud.alive[i]) {
            cloud_write(backend, SHRINK, i);
        }
    }
    cloud_wait();
    CHECK(store_flush(cloud.store) == 0); /* as the next checkpoint would */
    churn_settle(&cloud, cloud_turn);
    churn_rows(&cloud);
    const struct cloud_core_time then = {.mono_ms = now_ms(), .wall_ms = wall_ms()};
    cloud_core_stop(core, then);
    while (!cloud_core_idle(core) || works > 0) {
        uv_run(&cloud.loop, UV_RUN_ONCE);
    }
    log_close(&cloud.log, on_log_closed, NULL);
    while (!log_gone) {
        uv_run(&cloud.loop, UV_RUN_ONCE);
    }
    cloud_core_close(core);
    store_close(cloud.store);
    codec_destroy(cloud.codec);
    free(cloud.alive);
}

/* -- the edge ------------------------------------------------------------------------------------ */

static struct churn edge;
static struct edge_machine *machine;
static struct log_request request;
static struct log_entry entry;
static struct bytes piece;
static bool durable;
static uint64_t unflushed;

static void on_durable(struct log_request *done, int status)
{
    (void)done;
    CHECK(status == 0);
    durable = true;
}

/* Append, wait, apply; flush and release when it is time, as nodes/edge/core.c does. */
static void edge_apply(uint16_t kind, struct bytes body)
{
    CHECK(codec_record_build(
              edge.codec,
              &(struct record){.kind = kind, .key = "", .origin = "cloud", .body = body},
              &piece) == 0);
    entry = (struct log_entry){.type = LOG_TYPE_DOWN, .piece_count = 1, .pieces = &piece};
    request = (struct log_request){.callback = on_durable};
    durable = false;
    CHECK(log_append(&edge.log, &request, &entry, 1) == 0);
    while (!durable) {
        uv_run(&edge.loop, UV_RUN_ONCE);
    }
    struct edge_applied applied;
    int status;
    while ((status = edge_machine_apply(machine, request.index, piece, &applied)) == STATUS_FULL) {
        usleep(1000); /* the disk is slower than we are */
    }
    CHECK(status == 0);
    CHECK(applied.outcome == EDGE_ACCEPTED);
    CHECK(applied.refused_count == 0);
    churn_watch(&edge);
    unflushed += piece.size;
    if (unflushed >= EDGE_FLUSH_BYTES) {
        unflushed = 0;
        CHECK(store_flush(edge.store) == 0);
        log_release(&edge.log, store_flushed_position(edge.store) + 1);
    }
}

static void edge_step(uint8_t step, struct tag digest)
{
    const struct snapshot snapshot = {
        .stream = 5, .position = 0, .id = 1, .step = step, .digest = digest};
    struct bytes body;
    codec_reset(edge.codec);
    CHECK(codec_snapshot_build(edge.codec, &snapshot, &body) == 0);
    edge_apply(RECORD_SNAPSHOT, body);
}

static void edge_write(uint64_t *sequence, enum phase phase, uint32_t *next)
{
    struct sequenced records[BATCH];
    codec_reset(edge.codec);
    const uint64_t previous = *sequence;
    uint32_t count = 0;
    while (count < BATCH && (phase == CHURN || *next < objects)) {
        const uint32_t which = phase == CHURN ? (uint32_t)(noise(&edge) % objects) : (*next)++;
        if (phase == SHRINK && (which % 10 == 0 || !edge.alive[which])) {
            continue;
        }
        (*sequence)++;
        records[count] =
            (struct sequenced){.sequence = *sequence, .record = churn_record(&edge, phase, which)};
        count++;
    }
    if (count == 0) {
        return;
    }
    const struct batch batch = {
        .node = "edge-1",
        .stream = 5,
        .previous = previous,
        .last = *sequence,
        .tip = *sequence + 1, /* more to come: no digest yet */
        .records = records,
        .record_count = count,
    };
    struct bytes body;
    CHECK(codec_batch_build(edge.codec, &batch, &body) == 0);
    edge_apply(RECORD_DOWN_BATCH, body);
}

static void edge_turn(void)
{
    usleep(1000);
}

static void bench_edge(const char *top)
{
    churn_open(&edge, top, "edge", STORE_EDGE, "edge", EDGE_FORMAT);
    /* What is not flushed yet, and segments: written, prepared, spare, let go in part. */
    edge.log_slack = EDGE_FLUSH_BYTES + 4 * (uint64_t)LIMIT_SEGMENT_BYTES;
    edge.state_slack = LIMIT_STORE_EDGE_SPARE_BYTES;
    CHECK(edge_machine_open(edge.store, NULL, &machine) == 0);
    const struct stream_init init = {.node = "edge-1", .cluster = "c", .up_stream = 7};
    struct bytes body;
    CHECK(codec_stream_init_build(edge.codec, &init, &body) == 0);
    edge_apply(RECORD_STREAM_INIT, body);
    edge_step(SNAPSHOT_BEGIN, (struct tag){0});
    edge_step(SNAPSHOT_END, (struct tag){0});
    uint64_t sequence = 0;
    uint32_t next = 0;
    while (next < objects) {
        edge_write(&sequence, FILL, &next);
    }
    edge.next_line = edge.written;
    const uint64_t end = edge.written + times * objects * body_bytes;
    while (edge.written < end) {
        edge_write(&sequence, CHURN, &next);
        churn_look(&edge);
    }
    next = 0;
    while (next < objects) {
        edge_write(&sequence, SHRINK, &next);
    }
    CHECK(store_flush(edge.store) == 0); /* as a minute later */
    churn_settle(&edge, edge_turn);
    churn_rows(&edge);
    edge_machine_close(machine);
    log_gone = false;
    log_close(&edge.log, on_log_closed, NULL);
    while (!log_gone) {
        uv_run(&edge.loop, UV_RUN_ONCE);
    }
    store_close(edge.store);
    codec_destroy(edge.codec);
    free(edge.alive);
}

/* What a replica and libraft hold is not given back (replica.h says why): no leak of ours. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:replica_\nleak:raft_memory\nleak:libraft\n";
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 < argc && strcmp(argv[i], "--directory") == 0) {
            directory = argv[i + 1];
        } else if (i + 1 < argc && strcmp(argv[i], "--objects") == 0) {
            objects = (uint32_t)strtoul(argv[i + 1], NULL, 10);
        } else if (i + 1 < argc && strcmp(argv[i], "--body") == 0) {
            body_bytes = strtoull(argv[i + 1], NULL, 10);
        } else if (i + 1 < argc && strcmp(argv[i], "--times") == 0) {
            times = strtoull(argv[i + 1], NULL, 10);
        } else if (i + 1 < argc && strcmp(argv[i], "--history") == 0) {
            history_mib = strtoull(argv[i + 1], NULL, 10);
        } else if (i + 1 < argc && strcmp(argv[i], "--checkpoint") == 0) {
            checkpoint_mib = strtoull(argv[i + 1], NULL, 10);
        } else if (i + 1 < argc && strcmp(argv[i], "-o") == 0 &&
                   (strcmp(argv[i + 1], "json") == 0 || strcmp(argv[i + 1], "table") == 0)) {
            as_rows = strcmp(argv[i + 1], "json") == 0;
        } else {
            fprintf(stderr,
                    "usage: space_bench [--directory DIR] [--objects N] [--body BYTES] [--times N] "
                    "[--history MIB] [--checkpoint MIB] [-o table|json]\n");
            return 2;
        }
    }
    if (objects == 0 || objects > LIMIT_EDGE_OBJECTS || body_bytes < 8 || body_bytes > BODY_MAX ||
        times == 0 || checkpoint_mib == 0) {
        fprintf(stderr, "space_bench: 1 to %u objects of 8 to %u bytes\n", LIMIT_EDGE_OBJECTS,
                BODY_MAX);
        return 2;
    }
    char top[512];
    snprintf(top, sizeof top, "%s/kelp-bench-XXXXXX", directory);
    CHECK(mkdtemp(top) != NULL);
    if (as_rows) {
        rows_begin(&document, "space");
    } else {
        printf("%u objects of %" PRIu64 " bytes, written %" PRIu64 " times over; history %" PRIu64
               " MiB, checkpoints every %" PRIu64 " MiB\n",
               objects, body_bytes, times, history_mib, checkpoint_mib);
        head_print();
    }
    bench_edge(top);
    bench_cloud(top);
    if (as_rows) {
        rows_end();
    }
    char command[600];
    snprintf(command, sizeof command, "rm -rf '%s'", top);
    CHECK(system(command) == 0);
    return failed ? 1 : 0;
}
