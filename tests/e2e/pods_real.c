/* pods_real SOCKET ROOT CGROUP_ROOT KIND: the pod reconciler, the CRI driver and the volumes over a
 * real runtime (KIND containerd) or over kelp-fake-cri (KIND fake), through the story of one pod:
 *
 *   two containers with environment from a config map and a secret and both as volumes; what is
 *   inside is read back through ExecSync; the agent dies and comes back; a container is killed; a
 *   config map changes; a missing image; the pod is deleted with its grace; nothing is left.
 *
 * The state an edge would keep is kept here in memory, and survives the death of the agent.
 */
#include "nodes/edge/driver_cri.h"
#include "nodes/edge/pods.h"
#include "nodes/edge/volumes_uv.h"
#include "schemas/check.h"
#include "schemas/codec.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CONTAINERS 4

struct real {
    uv_loop_t loop;
    const char *socket, *root, *cgroup_root;
    bool fake;
    struct driver_cri *cri;
    struct pods *pods;
    struct pods_config config;
    struct pods_door door;
    uv_timer_t timer;
    /* what survives the agent */
    char wish[4096];
    bool deleting;
    struct {
        char container[32];
        int64_t attempt;
    } attempts[CONTAINERS];
    struct codec *codec;
    struct bytes status_bytes;
    struct pod_status status;
    bool has_status, ended;
    char configmap[256];
    /* an exec of the test */
    bool answered;
    int answer_status;
    int exit_code;
    char out[8192];
    char events[16384];
};

static struct real real;
static unsigned checks;

#define EXPECT(claim)                                                                              \
    do {                                                                                           \
        checks++;                                                                                  \
        if (!(claim)) {                                                                            \
            fail(#claim, __LINE__);                                                                \
        }                                                                                          \
    } while (0)

static void fail(const char *claim, int line)
{
    printf("FAILED line %d: %s\n", line, claim);
    printf("  last answer status=%d exit=%d out=%s\n", real.answer_status, real.exit_code,
           real.out);
    for (uint32_t i = 0; real.has_status && i < real.status.container_count; i++) {
        const struct container_status *container = &real.status.containers[i];
        printf("  %s state=%d reason=%s message=%s restarts=%u exit=%d\n", container->name,
               container->state, container->reason, container->message, container->restart_count,
               container->exit_code);
    }
    printf("%s", real.events);
    exit(1);
}

static struct pods_time now(void)
{
    struct timespec wall;
    clock_gettime(CLOCK_REALTIME, &wall);
    return (struct pods_time){.mono_ms = uv_hrtime() / 1000000,
                              .wall_ms = (int64_t)wall.tv_sec * 1000 + wall.tv_nsec / 1000000};
}

static void turn(uv_timer_t *timer)
{
    if (real.pods != NULL) {
        const struct pods_time at = now();
        uv_timer_start(timer, turn, pods_tick(real.pods, at) - at.mono_ms, 0);
    }
}

static void wake(void)
{
    uv_timer_start(&real.timer, turn, 0, 0);
}

static int door_runtime(void *context, uint64_t id, const struct driver_call *call)
{
    (void)context;
    struct driver *driver = driver_cri_door(real.cri);
    return driver->call(driver, id, call);
}

static void on_written(void *context, const char *uid, int status, const char *message)
{
    if (context == real.pods) {
        pods_on_volumes(real.pods, uid, status, message, now());
        wake();
    }
}

static void on_removed(void *context, const char *uid, int status, const char *message)
{
    if (context == real.pods) {
        pods_on_removed(real.pods, uid, status, message, now());
        wake();
    }
}

static int door_volumes(void *context, const struct pod_spec *spec, const struct pod_facts *facts)
{
    (void)context;
    struct volume_plan plan;
    char error[512];
    const int status = volumes_plan(spec, &real.door.lookup, facts, &plan, error, sizeof error);
    if (status == 0) {
        volumes_uv_write(&real.loop, &plan, spec->uid, on_written, real.pods);
    }
    return status;
}

static int door_remove(void *context, const char *uid, const char *namespace, const char *name)
{
    (void)context;
    volumes_uv_remove(&real.loop, real.root, real.cgroup_root, namespace, name, uid, on_removed,
                      real.pods);
    return 0;
}

static void door_log(void *context, const char *uid, const char *namespace, const char *name,
                     const char *container, uint32_t attempt)
{
    (void)context;
    volumes_remove_log(real.root, namespace, name, uid, container, attempt);
}

static int door_attempt(void *context, const char *namespace, const char *name,
                        const struct pod_attempt *attempt)
{
    (void)context, (void)namespace, (void)name;
    for (size_t i = 0; i < CONTAINERS; i++) {
        if (real.attempts[i].attempt < 0 ||
            strcmp(real.attempts[i].container, attempt->container) == 0) {
            snprintf(real.attempts[i].container, sizeof real.attempts[i].container, "%s",
                     attempt->container);
            real.attempts[i].attempt = attempt->attempt;
            pods_attempt_recorded(real.pods, attempt->uid, attempt->container, attempt->attempt);
            return 0;
        }
    }
    return STATUS_FULL;
}

static int door_status(void *context, const char *namespace, const char *name,
                       const struct pod_status *status)
{
    (void)context, (void)namespace, (void)name;
    struct codec *codec = codec_create();
    CHECK(codec_pod_status_build(codec, status, &real.status_bytes) == 0);
    if (real.codec != NULL) {
        codec_destroy(real.codec);
    }
    real.codec = codec;
    CHECK(codec_pod_status_read(codec, real.status_bytes, &real.status) == 0);
    real.has_status = true;
    return 0;
}

static int door_ended(void *context, const char *namespace, const char *name,
                      const struct pod_ended *ended)
{
    (void)context, (void)namespace, (void)name, (void)ended;
    real.ended = true;
    return 0;
}

static void door_event(void *context, const struct edge_event *event)
{
    (void)context;
    const size_t used = strlen(real.events);
    snprintf(real.events + used, sizeof real.events - used, "  event %s %s %s\n", event->reason,
             event->container, event->message);
}

static int door_find(void *context, bool secret, const char *namespace, const char *name,
                     struct bytes *out)
{
    (void)context;
    CHECK(strcmp(namespace, "default") == 0);
    if (!secret && strcmp(name, "conf") == 0) {
        *out = bytes_text(real.configmap);
        return 0;
    }
    if (secret && strcmp(name, "keys") == 0) {
        *out = bytes_text("{\"data\":{\"password\":\"czNjcmV0\"}}");
        return 0;
    }
    return -ENOENT;
}

static void on_answer(void *owner, uint64_t id, const struct driver_answer *answer)
{
    (void)owner;
    if (id == UINT64_MAX) { /* of the test itself */
        real.answered = true;
        real.answer_status = answer->status;
        real.exit_code = answer->exec.exit_code;
        snprintf(real.out, sizeof real.out, "%.*s", (int)answer->exec.out.size,
                 (const char *)answer->exec.out.data);
        if (answer->verb == DRIVER_LIST) {
            real.exit_code = (int)(answer->list.sandbox_count + answer->list.container_count);
        }
        if (answer->verb == DRIVER_VERSION && answer->status == 0) {
            snprintf(real.out, sizeof real.out, "%s %s", answer->version.runtime_name,
                     answer->version.runtime_version);
        }
        return;
    }
    if (real.pods != NULL) {
        pods_on_answer(real.pods, id, answer, now());
        wake();
    }
}

static void tell(void)
{
    struct pod_attempt attempts[CONTAINERS];
    size_t count = 0;
    for (size_t i = 0; i < CONTAINERS; i++) {
        if (real.attempts[i].attempt >= 0) {
            attempts[count++] = (struct pod_attempt){.uid = "uid-1",
                                                     .container = real.attempts[i].container,
                                                     .attempt = (uint32_t)real.attempts[i].attempt};
        }
    }
    const struct object object = {
        .uid = "uid-1",
        .namespace_ = "default",
        .name = "web",
        .deletion_time_ms = real.deleting ? 1 : 0,
        .deletion_grace_s = 10,
        .json = bytes_text(real.wish),
    };
    CHECK(pods_desire(real.pods,
                      &(const struct pods_wish){.object = &object,
                                                .attempts = attempts,
                                                .attempt_count = count,
                                                .status = real.has_status ? &real.status : NULL,
                                                .ended = real.ended}) == 0);
    wake();
}

static void agent_start(bool wanted)
{
    real.cri = driver_cri_open(&real.loop, real.socket, "edge-1");
    CHECK(real.cri != NULL);
    driver_cri_door(real.cri)->on_answer = on_answer;
    real.pods = pods_create(&real.config, &real.door);
    if (wanted) {
        tell();
    }
    pods_begin(real.pods);
    wake();
}

static void on_closed(void *context)
{
    *(bool *)context = true;
}

static void agent_die(void)
{
    bool closed = false;
    pods_destroy(real.pods);
    real.pods = NULL;
    driver_cri_close(real.cri, on_closed, &closed);
    while (!closed) {
        uv_run(&real.loop, UV_RUN_ONCE);
    }
}

/* Turn the loop until a claim holds; false after `seconds`. */
#define WAIT(seconds, claim)                                                                       \
    do {                                                                                           \
        const uint64_t until_ = uv_hrtime() + (uint64_t)(seconds)*1000000000;                      \
        while (!(claim) && uv_hrtime() < until_) {                                                 \
            uv_run(&real.loop, UV_RUN_ONCE);                                                       \
        }                                                                                          \
        EXPECT(claim);                                                                             \
    } while (0)

static const struct container_status *container(const char *name)
{
    static const struct container_status none = {.reason = "", .message = "", .container_id = ""};
    for (uint32_t i = 0; real.has_status && i < real.status.container_count; i++) {
        if (strcmp(real.status.containers[i].name, name) == 0) {
            return &real.status.containers[i];
        }
    }
    return &none;
}

static bool runs(const char *name)
{
    return container(name)->state == CONTAINER_RUNNING;
}

static void ask(const struct driver_call *call)
{
    struct driver *driver = driver_cri_door(real.cri);
    real.answered = false;
    CHECK(driver->call(driver, UINT64_MAX, call) == 0);
    while (!real.answered) {
        uv_run(&real.loop, UV_RUN_ONCE);
    }
}

/* The output of a command in a container. */
static const char *inside(const char *name, const char *a, const char *b, const char *c)
{
    char id[128];
    const char *const words[] = {a, b, c};
    snprintf(id, sizeof id, "%s", container(name)->container_id);
    ask(&(const struct driver_call){.verb = DRIVER_EXEC,
                                    .id = id,
                                    .command = words,
                                    .command_count = b == NULL   ? 1
                                                     : c == NULL ? 2
                                                                 : 3,
                                    .timeout_seconds = 10});
    return real.out;
}

static const char *cat(const char *name, const char *path)
{
    return inside(name, "cat", path, NULL);
}

/* Running, and its command has come so far that SIGTERM ends it as written below. */
static bool ready(const char *name)
{
    if (!runs(name)) {
        return false;
    }
    if (!real.fake) {
        cat(name, "/ready");
    }
    return real.fake || (real.answer_status == 0 && real.exit_code == 0);
}

static size_t listed(void)
{
    ask(&(const struct driver_call){.verb = DRIVER_LIST});
    EXPECT(real.answer_status == 0);
    return (size_t)real.exit_code;
}

static bool exists(const char *format, const char *root)
{
    char path[4096];
    struct stat info;
    snprintf(path, sizeof path, format, root);
    return lstat(path, &info) == 0;
}

static void story_start(void)
{
    agent_start(true);
    ask(&(const struct driver_call){.verb = DRIVER_VERSION});
    printf("runtime %s\n", real.out);
    WAIT(60, ready("a") && ready("b"));
    EXPECT(real.status.phase == POD_RUNNING);
    EXPECT(real.status.pod_ip[0] != 0);
    const char *env = inside("a", "env", NULL, NULL);
    EXPECT(strstr(env, "COLOR=blue\n") != NULL);
    EXPECT(strstr(env, "PASSWORD=s3cret\n") != NULL);
    EXPECT(strstr(env, "GREETING=hello blue in default\n") != NULL);
    EXPECT(strstr(env, "P_color=blue\n") != NULL);
    char ip[96];
    snprintf(ip, sizeof ip, "IP=%s\n", real.status.pod_ip);
    EXPECT(strstr(env, ip) != NULL);
    EXPECT(strcmp(cat("a", "/etc/conf/color"), "blue") == 0);
    EXPECT(strcmp(cat("b", "/keys/pw"), "s3cret") == 0);
    EXPECT(strcmp(cat("b", "/meta/labels"), "app=\"web\"") == 0);
    EXPECT(strstr(cat("a", "/etc/hosts"), real.status.pod_ip) != NULL);
    if (!real.fake) {
        EXPECT(strcmp(inside("a", "sh", "-c",
                             "echo shared > /scratch/x; hostname; stat -c %a /keys/pw 2>/dev/null"),
                      "web\n") == 0);
        EXPECT(strcmp(cat("b", "/scratch/x"), "shared\n") == 0);
        EXPECT(strcmp(inside("b", "sh", "-c", "stat -L -c %a /keys/pw"), "400\n") == 0);
        inside("b", "sh", "-c", "echo no > /keys/other");
        EXPECT(real.exit_code != 0); /* read only */
    }
}

static void story_adoption(void)
{
    char id[128];
    snprintf(id, sizeof id, "%s", container("a")->container_id);
    agent_die();
    agent_start(true);
    WAIT(10, pods_report(real.pods).listed && pods_report(real.pods).calls == 0);
    EXPECT(runs("a") && runs("b"));
    EXPECT(strcmp(container("a")->container_id, id) == 0);
    EXPECT(container("a")->restart_count == 0);
    EXPECT(listed() == 3);
}

static void story_kill(void)
{
    if (real.fake) {
        inside("b", "kelp-fake-exit", "9", NULL);
    } else {
        inside("b", "sh", "-c", "kill -TERM 1");
    }
    WAIT(20, container("b")->restart_count == 1 && runs("b"));
    EXPECT(container("b")->last_state == CONTAINER_TERMINATED);
    EXPECT(container("b")->last_exit_code == (real.fake ? 9 : 7));
    EXPECT(container("a")->restart_count == 0);
}

static void story_refresh(void)
{
    snprintf(real.configmap, sizeof real.configmap,
             "{\"data\":{\"color\":\"green\",\"more\":\"1\"}}");
    pods_object_changed(real.pods, false, "default", "conf");
    wake();
    WAIT(5, strcmp(cat("a", "/etc/conf/color"), "green") == 0);
    EXPECT(strcmp(cat("a", "/etc/conf/more"), "1") == 0);
    EXPECT(container("a")->restart_count == 0);
    EXPECT(strstr(inside("a", "env", NULL, NULL), "COLOR=blue\n") != NULL);
}

static void story_missing_image(void)
{
    char *image = strstr(real.wish, "kelp.local/busybox:1");
    char before[4096];
    memcpy(before, real.wish, sizeof before);
    memcpy(image, "nope.local/busybox:1", 10);
    tell();
    WAIT(30, strcmp(container("a")->reason, "ErrImagePull") == 0);
    EXPECT(container("a")->message[0] != 0);
    EXPECT(container("a")->restart_count == 0);
    memcpy(real.wish, before, sizeof before);
    tell();
    WAIT(30, container("a")->restart_count == 1 && ready("a") && ready("b"));
}

static void story_deletion(void)
{
    const uint64_t begun = uv_hrtime();
    EXPECT(exists("%s/pods/uid-1", real.root));
    EXPECT(exists("%s/logs/default_web_uid-1/a/1.log", real.root));
    real.deleting = true;
    tell();
    WAIT(30, real.ended);
    EXPECT(uv_hrtime() - begun <
           9000000000ull); /* it ends by itself on SIGTERM, well within its grace */
    EXPECT(container("a")->state == CONTAINER_TERMINATED);
    EXPECT(container("a")->exit_code == (real.fake ? 143 : 7));
    EXPECT(listed() == 0);
    EXPECT(!exists("%s/pods/uid-1", real.root));
    EXPECT(!exists("%s/logs/default_web_uid-1", real.root));
    pods_undesire(real.pods, "uid-1");
    wake();
    WAIT(5, pods_report(real.pods).wanted == 0);
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: pods_real SOCKET ROOT CGROUP_ROOT containerd|fake\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0);
    real.socket = argv[1];
    real.root = argv[2];
    real.cgroup_root = argv[3];
    real.fake = strcmp(argv[4], "fake") == 0;
    for (size_t i = 0; i < CONTAINERS; i++) {
        real.attempts[i].attempt = -1;
    }
    uv_loop_init(&real.loop);
    uv_timer_init(&real.loop, &real.timer);
    real.config = (struct pods_config){.node_name = "edge-1",
                                       .host_ip = "127.0.0.1",
                                       .root = real.root,
                                       .cgroup_root = real.cgroup_root,
                                       .node_cpu_milli = 2000,
                                       .node_memory_bytes = 1ll << 31};
    real.door = (struct pods_door){.runtime_call = door_runtime,
                                   .volumes_prepare = door_volumes,
                                   .volumes_remove = door_remove,
                                   .log_remove = door_log,
                                   .record_attempt = door_attempt,
                                   .record_status = door_status,
                                   .record_ended = door_ended,
                                   .record_event = door_event,
                                   .lookup = {.find = door_find}};
    snprintf(real.configmap, sizeof real.configmap, "{\"data\":{\"color\":\"blue\"}}");
#define LOOP                                                                                       \
    "\"command\":[\"sh\",\"-c\",\"trap 'exit 7' TERM; : >/ready; while :; do sleep 0.1; done\"]"
    snprintf(
        real.wish, sizeof real.wish,
        "{\"metadata\":{\"name\":\"web\",\"namespace\":\"default\",\"uid\":\"uid-1\",\"labels\":{"
        "\"app\":\"web\"}},"
        "\"spec\":{\"volumes\":[{\"name\":\"conf\",\"configMap\":{\"name\":\"conf\"}},"
        "{\"name\":\"keys\",\"secret\":{\"secretName\":\"keys\",\"defaultMode\":256,\"items\":[{"
        "\"key\":\"password\",\"path\":\"pw\"}]}},"
        "{\"name\":\"meta\",\"downwardAPI\":{\"items\":[{\"path\":\"labels\",\"fieldRef\":{"
        "\"fieldPath\":\"metadata.labels\"}}]}},"
        "{\"name\":\"scratch\",\"emptyDir\":{}}],\"containers\":["
        "{\"name\":\"a\",\"image\":\"kelp.local/busybox:1\"," LOOP
        ",\"resources\":{\"limits\":{\"memory\":\"64Mi\",\"cpu\":\"500m\"}},"
        "\"envFrom\":[{\"prefix\":\"P_\",\"configMapRef\":{\"name\":\"conf\"}}],"
        "\"env\":[{\"name\":\"COLOR\",\"valueFrom\":{\"configMapKeyRef\":{\"name\":\"conf\","
        "\"key\":\"color\"}}},"
        "{\"name\":\"PASSWORD\",\"valueFrom\":{\"secretKeyRef\":{\"name\":\"keys\",\"key\":"
        "\"password\"}}},"
        "{\"name\":\"NS\",\"valueFrom\":{\"fieldRef\":{\"fieldPath\":\"metadata.namespace\"}}},"
        "{\"name\":\"IP\",\"valueFrom\":{\"fieldRef\":{\"fieldPath\":\"status.podIP\"}}},"
        "{\"name\":\"GREETING\",\"value\":\"hello $(COLOR) in $(NS)\"}],"
        "\"volumeMounts\":[{\"name\":\"conf\",\"mountPath\":\"/etc/"
        "conf\"},{\"name\":\"scratch\",\"mountPath\":\"/scratch\"}]},"
        "{\"name\":\"b\",\"image\":\"kelp.local/busybox:1\"," LOOP
        ",\"volumeMounts\":[{\"name\":\"keys\",\"mountPath\":\"/keys\"},"
        "{\"name\":\"meta\",\"mountPath\":\"/meta\"},{\"name\":\"scratch\",\"mountPath\":\"/"
        "scratch\"}]}]}}");
    story_start();
    printf("ok: two containers run with their environment and files\n");
    story_adoption();
    printf("ok: the agent died and came back; its containers were adopted\n");
    story_kill();
    printf("ok: a container that ended was started again, the other was not\n");
    story_refresh();
    printf("ok: a changed config map reached the running container\n");
    story_missing_image();
    printf("ok: a missing image was told, and the pod recovered\n");
    story_deletion();
    printf("ok: deleted with its grace; nothing is left\n");
    agent_die();
    uv_close((uv_handle_t *)&real.timer, NULL);
    uv_run(&real.loop, UV_RUN_DEFAULT);
    CHECK(uv_loop_close(&real.loop) == 0);
    codec_destroy(real.codec);
    printf("%u checks passed\n", checks);
    return 0;
}
