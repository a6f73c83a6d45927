#include "bench/commit_state.h"

#include "log/disk_uv.h"
#include "log/log.h"
#include "nodes/cloud/core.h"
#include "schemas/check.h"
#include "statemachine/machine.h"
#include "statemachine/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define HISTORY_BYTES  (64u * 1024u * 1024u)
#define PATIENCE_MS    120000u /* a stall of the disk is no answer here */
#define FOUNDED        4u      /* the version when the namespaces of a new cluster are there */
#define SECOND_MS      1000u
#define DIRECTORY_MODE 0700

static uv_loop_t *state_loop;
static struct log state_log;
static struct store *store;
static struct cloud_core *core;
static struct codec *codec;
static void (*turn_end)(void);
static bool put_since_turn; /* by turn_end: the loop must not wait */
static uv_prepare_t turn;
static uv_timer_t next_turn;
static uv_timer_t second;

static struct cloud_core_time now(void)
{
    struct timespec wall;
    clock_gettime(CLOCK_REALTIME, &wall);
    return (struct cloud_core_time){.mono_ms = uv_hrtime() / 1000000,
                                    .wall_ms =
                                        (int64_t)wall.tv_sec * 1000 + wall.tv_nsec / 1000000};
}

__attribute__((noreturn)) static void give_up(const char *what, const char *why)
{
    fprintf(stderr, "commit: %s: %s\n", what, why);
    _exit(1);
}

/* -- what the core asks of us -------------------------------------------------------------------- */

static int on_send_session(void *context, uint64_t session, struct bytes frame)
{
    (void)context, (void)session, (void)frame;
    return STATUS_CLOSING; /* there are none */
}

static bool on_session_room(void *context, uint64_t session)
{
    (void)context, (void)session;
    return false;
}

static void on_close_session(void *context, uint64_t session)
{
    (void)context, (void)session;
}

static void on_log(void *context, enum logger_level level, const char *event, const char *pairs)
{
    (void)context;
    if (level >= LOGGER_ERROR) {
        fprintf(stderr, "%s %s\n", event, pairs);
    }
}

static void on_random(void *context, void *buffer, size_t size)
{
    (void)context;
    CHECK(getrandom(buffer, size, 0) == (ssize_t)size);
}

/* Of what the core makes itself, namespaces; ours have their own. */
static struct tag on_tag(void *context, struct bytes key, struct bytes json)
{
    (void)context;
    return (struct tag){.low = key.size + 1, .high = json.size};
}

static void on_fatal(void *context, int status, const char *message)
{
    (void)context;
    give_up(message, status_text(status));
}

struct job {
    uv_work_t request;
    struct replica_work *work;
};

static void job_on_work(uv_work_t *request)
{
    struct job *job = CONTAINER_OF(request, struct job, request);
    job->work->work(job->work);
}

static void job_on_done(uv_work_t *request, int status)
{
    CHECK(status == 0);
    struct job *job = CONTAINER_OF(request, struct job, request);
    job->work->done(job->work);
    free(job);
}

static void on_run(void *context, struct replica_work *work)
{
    (void)context;
    struct job *job = malloc(sizeof *job);
    CHECK(job != NULL);
    job->work = work;
    CHECK(uv_queue_work(state_loop, &job->request, job_on_work, job_on_done) == 0);
}

static int build_namespace(const struct backend *backend, struct codec *codec_, const char *name,
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
                            .key = codec_print(codec_, "/namespaces//%s", name),
                            .origin = backend->name,
                            .time_ms = now().wall_ms};
    const int status = codec_object_put_build(codec_, &put, &record.body);
    return status != 0 ? status : codec_record_build(codec_, &record, out);
}

/* -- turns, as in nodes/cloudcore_turn.c --------------------------------------------------------- */

static void on_next_turn(uv_timer_t *timer)
{
    (void)timer; /* waking the loop is all */
}

static void on_turn(uv_prepare_t *prepare)
{
    (void)prepare;
    const struct cloud_core_time at = now();
    const uint64_t next_ms = cloud_core_run(core, at);
    put_since_turn = false;
    turn_end();
    const bool more = put_since_turn || next_ms <= at.mono_ms;
    uv_timer_start(&next_turn, on_next_turn, more ? 0 : next_ms - at.mono_ms, 0);
}

static void on_second(uv_timer_t *timer)
{
    (void)timer;
    log_tick(&state_log, now().wall_ms);
}

static void on_message(uint64_t from, struct bytes message)
{
    cloud_core_on_peer(core, from, message, now());
}

void commit_state_open(uv_loop_t *loop, uint64_t id, const char *directory,
                       void (*on_turn_end)(void))
{
    static const struct cloud_core_peer peers[COMMIT_REPLICAS] = {
        {1, "127.0.0.1:1"}, {2, "127.0.0.1:2"}, {3, "127.0.0.1:3"}};
    static const struct cloud_core_objects objects = {.build_namespace = build_namespace};
    static const struct cloud_core_ops ops = {
        .send_peer = commit_links_send,
        .send_session = on_send_session,
        .session_room = on_session_room,
        .close_session = on_close_session,
        .log = on_log,
        .random = on_random,
        .tag = on_tag,
        .run = on_run,
        .fatal = on_fatal,
    };
    static const char *const names[COMMIT_REPLICAS] = {"one", "two", "three"};
    char path[600];
    snprintf(path, sizeof path, "%s/%lu", directory, id);
    CHECK(mkdir(path, DIRECTORY_MODE) == 0);
    state_loop = loop;
    turn_end = on_turn_end;
    codec = codec_create();
    CHECK(codec != NULL);

    snprintf(path, sizeof path, "%s/%lu/log", directory, id);
    const struct log_options log_options = {.directory = path, .history_bytes = HISTORY_BYTES};
    struct log_recovery recovery;
    int status = log_open(&state_log, disk_uv_disk(disk_uv_new(loop)), &log_options, &recovery);
    if (status != 0) {
        give_up(path, status_text(status));
    }
    snprintf(path, sizeof path, "%s/%lu/state", directory, id);
    const struct store_options store_options = {.directory = path,
                                                .profile = STORE_CLOUD,
                                                .machine = MACHINE_NAME,
                                                .format = MACHINE_FORMAT};
    status = store_rocks_open(&store_options, &store);
    if (status != 0) {
        give_up(path, status_text(status));
    }
    const struct cloud_core_config config = {
        .replica = id,
        .boot_count = 1,
        .name = names[id - 1],
        .peers = peers,
        .peer_count = COMMIT_REPLICAS,
        .seed = uv_hrtime() * id,
        .propose_ms = PATIENCE_MS,
    };
    char reason[256];
    commit_links_open(loop, id, on_message);
    if (cloud_core_open(&config, &objects, &ops, store, &state_log, now(), &core, reason) != 0) {
        give_up("cloud_core_open", reason);
    }
    for (uint64_t peer = 1; peer <= COMMIT_REPLICAS; peer++) {
        if (peer != id) {
            cloud_core_peer_connected(core, peer);
        }
    }
    CHECK(uv_prepare_init(loop, &turn) == 0);
    CHECK(uv_prepare_start(&turn, on_turn) == 0);
    CHECK(uv_timer_init(loop, &next_turn) == 0);
    CHECK(uv_timer_init(loop, &second) == 0);
    CHECK(uv_timer_start(&second, on_second, SECOND_MS, SECOND_MS) == 0);
}

bool commit_state_leads(void)
{
    const struct cloud_core_report report = cloud_core_report(core);
    return report.leads && report.version >= FOUNDED;
}

int commit_state_put(uint32_t number, struct bytes body, backend_on_written on_written,
                     void *context)
{
    const struct backend *backend = cloud_core_backend(core);
    char name[32];
    snprintf(name, sizeof name, "c%u", number);
    codec_reset(codec);
    const struct object_put put = {
        .mode = PUT_ANY,
        .object = {.version = "v1",
                   .kind = "ConfigMap",
                   .resource = "configmaps",
                   .namespace_ = "default",
                   .name = name,
                   .uid = name,
                   .tag = {.low = uv_hrtime(), .high = number},
                   .json = body},
    };
    struct record record = {.kind = RECORD_OBJECT_PUT,
                            .key = codec_print(codec, "/configmaps/default/%s", name),
                            .origin = "bench",
                            .time_ms = now().wall_ms};
    struct bytes bytes;
    CHECK(codec_object_put_build(codec, &put, &record.body) == 0);
    CHECK(codec_record_build(codec, &record, &bytes) == 0);
    put_since_turn = true;
    return backend->write(backend->owner, bytes, on_written, context);
}
