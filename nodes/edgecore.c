/* edgecore: one edge node.
 *
 *   1. read the configuration and the certificate: the node's name is what the certificate says
 *   2. open the log and the state of the data directory (locked: one process at a time)
 *   3. open the core over them: it replays what the state does not have yet, and pods go on, whether
 *      there is a link or not
 *   4. connect to one of the cloudcores, and to another when that one is lost; and to the MQTT brokers of the devices
 *   5. run until SIGTERM or SIGINT: say bye, flush, leave; containers keep running
 *
 * What can fail: 1 and 2 end the process with one line that says what to do. The runtime, the link and the
 * clock may come and go: the core waits for them. A real I/O error or a damaged log ends the process and
 * leaves a note (fault.h); a start that finds one does none of 2 to 4: it says why, until `kelp resolve`.
 *
 * Exit codes: 0 left in order, 1 could not start, 2 usage, 71 a fatal error while running.
 */
#include <inttypes.h>
#include <malloc.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "log/disk_uv.h"
#include "log/log.h"
#include "nodes/config.h"
#include "nodes/control.h"
#include "nodes/edge/bus_hands.h"
#include "nodes/edge/core.h"
#include "nodes/edge/driver_cri.h"
#include "nodes/edge/node.h"
#include "nodes/edge/settings.h"
#include "nodes/edge/uplink.h"
#include "nodes/edge/volumes_uv.h"
#include "nodes/logger.h"
#include "nodes/monitor.h"
#include "nodes/net/identity_tls.h"
#include "nodes/program.h"
#include "nodes/readonly.h"
#include "nodes/space.h"
#include "nodes/tag_tls.h"
#include "schemas/check.h"
#include "schemas/limits.h"
#include "statemachine/edge.h"
#include "statemachine/store.h"

/* The node looks at itself this often; only what changed is recorded. source: KubeEdge
 * nodeStatusUpdateFrequency. */
#define NODE_STATUS_MS 10000u
/* Until the runtime has listed its containers for the first time there is nothing to say of it, and this
 * often it is looked whether it has; a runtime that does not answer for so long is not ready. */
#define NODE_FIRST_MS      250u
#define NODE_FIRST_LOOKS   20u
/* So long after the start what only that needed is given back (program_settle): the state is open, the link is
 * up or will be tried for long, and pods that were there have been looked at. */
#define SETTLED_S 15u

static const struct program program = {
    .name = "edgecore",
    .about = "One edge node of Kelp: runs the pods it was given, with the link up or down, and tells "
                 "the cloud what happened.",
    .table = &edge_settings_table,
};

/* Files of a pod that cannot be planned, and why. */
struct refusal {
    struct refusal *next;
    char uid[LIMIT_NAME_BYTES + 1];
    int status;
    char message[512];
};

struct edgecore {
    struct edge_settings settings;
    char node[LIMIT_NAME_BYTES + 1];
    uv_loop_t loop;
    struct link_context *context;
    struct uplink uplink;

    struct disk_uv *disk;
    struct log log;
    struct store *store;
    struct edge_core *core;
    struct bus_hands_options bus_options;
    struct bus_hands *bus;
    struct driver_cri *runtime;
    struct node *self;
    struct space space;
    bool runtime_known;
    bool runtime_unready;
    char runtime_name[64];
    struct refusal *refusals; /* told in the next turn */

    struct control control;
    bool control_opened;

    uv_work_t flush;
    int flush_status;
    uv_timer_t core_timer;
    uv_timer_t node_timer;
    uv_timer_t second_timer;
    uint32_t seconds; /* of it, until SETTLED_S */
    uint32_t first_looks;
    uv_timer_t stop_timer;
    uv_prepare_t prepare;
    struct metrics_histogram flushes; /* of the log */
    uv_signal_t signals[2];
    bool stopping;
    bool left; /* the core is gone: what still arrives from the loop is for nobody */
    uint64_t leave_ms; /* stopping: no later than this the link is no longer waited for */
};

static struct pods_time now(void)
{
    return (struct pods_time){.mono_ms = program_mono_ms(), .wall_ms = program_wall_ms()};
}

/* -- what the core asks of the world ---------------------------------------------------------- */

static void on_link_dial(void *context, uint32_t address)
{
    struct edgecore *e = context;
    CHECK(address < e->settings.cloud.count);
    const struct config_address *to = &e->settings.cloud.items[address];
    uplink_dial(&e->uplink, to->host, to->port);
}

static int on_link_send(void *context, struct bytes frame)
{
    struct edgecore *e = context;
    return uplink_send(&e->uplink, frame);
}

static bool on_link_room(void *context)
{
    struct edgecore *e = context;
    return uplink_room(&e->uplink);
}

static void on_link_close(void *context)
{
    struct edgecore *e = context;
    uplink_leave(&e->uplink);
}

static void on_log(void *context, enum logger_level level, const char *event, const char *pairs)
{
    (void)context;
    logger_line(level, event, "%s", pairs);
}

static void on_random(void *context, void *buffer, size_t size)
{
    (void)context;
    tag_random(buffer, size);
}

static int on_runtime_call(void *context, uint64_t id, const struct driver_call *call)
{
    struct edgecore *e = context;
    struct driver *driver = driver_cri_door(e->runtime);
    return driver->call(driver, id, call);
}

static void on_volumes_written(void *context, const char *uid, int status, const char *message)
{
    struct edgecore *e = context;
    if (!e->left) {
        edge_core_on_volumes(e->core, uid, status, message, now());
    }
}

static void on_volumes_removed(void *context, const char *uid, int status, const char *message)
{
    struct edgecore *e = context;
    if (!e->left) {
        edge_core_on_removed(e->core, uid, status, message, now());
    }
}

/* A plan that cannot be made is answered from the next turn: the core must not be called back from
 * inside its own call. */
static void refuse_volumes(struct edgecore *e, const char *uid, int status, const char *message)
{
    struct refusal *refusal = calloc(1, sizeof *refusal);
    CHECK(refusal != NULL);
    snprintf(refusal->uid, sizeof refusal->uid, "%s", uid);
    snprintf(refusal->message, sizeof refusal->message, "%s", message);
    refusal->status = status;
    refusal->next = e->refusals;
    e->refusals = refusal;
}

static void tell_refusals(struct edgecore *e)
{
    while (e->refusals != NULL) {
        struct refusal *refusal = e->refusals;
        e->refusals = refusal->next;
        edge_core_on_volumes(e->core, refusal->uid, refusal->status, refusal->message, now());
        free(refusal);
    }
}

static int on_volumes_prepare(void *context, const struct pod_spec *spec,
                              const struct pod_facts *facts)
{
    struct edgecore *e = context;
    const struct pod_lookup lookup = edge_core_lookup(e->core);
    struct volume_plan plan;
    char error[512];
    const int status = volumes_plan(spec, &lookup, facts, &plan, error, sizeof error);
    if (status != 0) {
        refuse_volumes(e, spec->uid, status, error);
        return 0;
    }
    volumes_uv_write(&e->loop, &plan, spec->uid, on_volumes_written, e);
    return 0;
}

static int on_volumes_remove(void *context, const char *uid, const char *namespace,
                             const char *name)
{
    struct edgecore *e = context;
    volumes_uv_remove(&e->loop, e->settings.root, e->settings.cgroup_root, namespace, name, uid,
                      on_volumes_removed, e);
    return 0;
}

static void on_log_remove(void *context, const char *uid, const char *namespace, const char *name,
                          const char *container, uint32_t attempt)
{
    struct edgecore *e = context;
    /* One unlink of a file nobody writes any more. */
    if (volumes_remove_log(e->settings.root, namespace, name, uid, container, attempt) != 0) {
        logger_warn_limited("log_not_removed", "pod=%s/%s container=%s attempt=%u", namespace, name,
                            container, attempt);
    }
}

static int on_bus_publish(void *context, uint32_t broker, uint64_t id, const char *topic,
                          struct bytes payload)
{
    struct edgecore *e = context;
    return bus_hands_publish(e->bus, broker, id, topic, payload);
}

static void flush_on_work(uv_work_t *work)
{
    struct edgecore *e = CONTAINER_OF(work, struct edgecore, flush);
    e->flush_status = store_flush(e->store);
}

static void flush_on_done(uv_work_t *work, int status)
{
    (void)status; /* never cancelled */
    struct edgecore *e = CONTAINER_OF(work, struct edgecore, flush);
    edge_core_flushed(e->core, e->flush_status);
}

static void on_flush_store(void *context)
{
    struct edgecore *e = context;
    CHECK(uv_queue_work(&e->loop, &e->flush, flush_on_work, flush_on_done) == 0);
}

__attribute__((noreturn)) static void on_fatal(void *context, int status, const char *message)
{
    const struct edgecore *e = context;
    const int log_failed = log_status(&e->log);
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", e->settings.data, log_failed != 0 ? "log" : "state");
    program_fail(&program, e->settings.data, message, path, log_failed != 0 ? log_failed : status);
}

static void on_node_timer(uv_timer_t *timer);

/* -- inputs of the core ----------------------------------------------------------------------- */

static void on_up(void *owner)
{
    struct edgecore *e = owner;
    const struct link_peer *peer = uplink_peer(&e->uplink);
    if (!e->left && !edge_core_hears_key(e->core, peer->key)) {
        logger_warn_limited("cloud_shut_out",
                            "address=%s key=%s reason=its key is of a cloudcore that was removed, "
                            "and is not believed: if it serves this cluster again, give it a new "
                            "one with `kelp pki server`",
                            peer->address, peer->key);
        uplink_drop(&e->uplink);
    } else if (!e->left) {
        edge_core_link_up(e->core, now());
    }
}

static void on_frame(void *owner, struct bytes frame)
{
    struct edgecore *e = owner;
    if (!e->left) {
        edge_core_on_link(e->core, frame, now());
    }
}

static void on_writable(void *owner)
{
    struct edgecore *e = owner;
    if (!e->left) {
        edge_core_link_writable(e->core);
    }
}

static void on_down(void *owner, int status, const char *reason)
{
    struct edgecore *e = owner;
    if (!e->left) {
        edge_core_link_down(e->core, status, reason, now());
    }
}

static const struct uplink_events uplink_events = {
    .on_up = on_up,
    .on_frame = on_frame,
    .on_writable = on_writable,
    .on_down = on_down,
};

/* The names of the two calls that are not the core's: who is there, and are you ready? */
#define CALL_VERSION UINT64_MAX
#define CALL_STATUS  (UINT64_MAX - 1)

static void ask_runtime(struct edgecore *e, enum driver_verb verb, uint64_t id)
{
    struct driver *driver = driver_cri_door(e->runtime);
    const struct driver_call call = {.verb = verb};
    (void)driver->call(driver, id, &call); /* refused: asked again with the next look */
}

/* Told at once when it changes: nobody should wait for the next look to hear that pods cannot start. */
static void runtime_said(struct edgecore *e, const struct driver_runtime *runtime)
{
    const bool ready = runtime->runtime_ready && runtime->network_ready;
    char why[256];
    snprintf(why, sizeof why, "%s%s%s",
             ready                   ? ""
             : runtime->runtime_ready ? "container runtime network not ready"
                                      : "container runtime not ready",
             ready || runtime->message[0] == 0 ? "" : ": ", ready ? "" : runtime->message);
    node_set_ready(e->self, ready, why);
    if (e->runtime_unready == ready) {
        e->runtime_unready = !ready;
        logger_line(ready ? LOGGER_INFO : LOGGER_WARN, "runtime_readiness_changed",
                    "ready=%d reason=%s", ready, why);
        uv_timer_start(&e->node_timer, on_node_timer, 0, NODE_STATUS_MS);
    }
}

static void on_runtime_answer(void *owner, uint64_t id, const struct driver_answer *answer)
{
    struct edgecore *e = owner;
    if (e->left) {
        return;
    }
    if (id == CALL_VERSION) {
        if (answer->status == 0 && !e->runtime_known) {
            e->runtime_known = true;
            snprintf(e->runtime_name, sizeof e->runtime_name, "%s", answer->version.runtime_name);
            node_set_runtime(e->self, answer->version.runtime_name,
                             answer->version.runtime_version);
            uv_timer_start(&e->node_timer, on_node_timer, 0, NODE_STATUS_MS);
        }
        return;
    }
    if (id == CALL_STATUS) {
        if (answer->status == 0) {
            runtime_said(e, &answer->runtime);
        }
        return;
    }
    edge_core_on_answer(e->core, id, answer, now());
}

/* -- one turn of the loop --------------------------------------------------------------------- */

static void on_core_timer(uv_timer_t *timer)
{
    (void)timer; /* waking the loop is all: on_prepare does the work */
}

static void on_log_closed(void *context)
{
    struct edgecore *e = context;
    if (status_is_fault(log_status(&e->log))) {
        on_fatal(e, log_status(&e->log), "the log cannot be closed");
    }
    store_close(e->store);
    logger_info("edgecore_left", "%s", "in=order");
    _exit(0); /* threads of the pool may be at work: no destructors under their feet */
}

static void on_prepare(uv_prepare_t *prepare)
{
    struct edgecore *e = prepare->data;
    tell_refusals(e);
    const struct pods_time at = now();
    const uint64_t next_ms = edge_core_run(e->core, at);
    const uint64_t wait_ms = next_ms <= at.mono_ms ? 0 : next_ms - at.mono_ms;
    uv_timer_start(&e->core_timer, on_core_timer, wait_ms, 0);
    bus_hands_turn(e->bus);
    /* The goodbye goes out first, unless the cloud does not take it. */
    const bool link_ended = uplink_is_down(&e->uplink) || at.mono_ms >= e->leave_ms;
    if (e->stopping && !e->left && link_ended && edge_core_idle(e->core)) {
        e->left = true;
        bus_hands_leave(e->bus);
        edge_core_close(e->core);
        uv_prepare_stop(&e->prepare);
        log_close(&e->log, on_log_closed, e);
    }
}

static void on_node_timer(uv_timer_t *timer)
{
    struct edgecore *e = timer->data;
    if (e->left) {
        return;
    }
    if (!e->runtime_known) {
        ask_runtime(e, DRIVER_VERSION, CALL_VERSION);
    }
    ask_runtime(e, DRIVER_STATUS, CALL_STATUS);
    malloc_trim(0); /* a handshake or a snapshot leaves holes; the heap is small, this takes microseconds */
    const struct edge_core_report report = edge_core_report(e->core);
    if (!report.pods.listed && e->first_looks < NODE_FIRST_LOOKS) {
        e->first_looks++;
        uv_timer_start(timer, on_node_timer, NODE_FIRST_MS, NODE_STATUS_MS);
        return;
    }
    edge_core_node_status(e->core, node_look(e->self, &report.pods, now()), now());
}

/* What is kept for whoever asks why is the first to go. */
static void set_space(struct edgecore *e)
{
    log_set_history(&e->log, e->space.level == SPACE_PLENTY ? e->settings.history_bytes : 0);
    const bool is_short = e->space.level != SPACE_PLENTY;
    edge_core_set_space(e->core, e->space.level, now());
    node_set_disk_short(e->self, is_short);
}

static void on_second_timer(uv_timer_t *timer)
{
    struct edgecore *e = timer->data;
    if (!e->left && log_status(&e->log) != 0) { /* of a mark or of a file made ahead: nobody else waits for those */
        on_fatal(e, log_status(&e->log), "the log cannot be written");
    }
    if (!e->left && space_look(&e->space)) {
        set_space(e);
        uv_timer_start(&e->node_timer, on_node_timer, 0, NODE_STATUS_MS);
    }
    if (e->seconds < SETTLED_S && ++e->seconds == SETTLED_S) {
        const size_t bytes = program_settle();
        logger_debug("settled", "bytes=%zu reason=what only the start needed is given back", bytes);
    }
}

static void on_stop_timer(uv_timer_t *timer)
{
    (void)timer;
    logger_warn("edgecore_left", "reason=not everything ended within %u ms", LIMIT_STOP_EDGE_MS);
    _exit(0);
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct edgecore *e = handle->data;
    if (e->stopping) {
        _exit(0); /* asked twice */
    }
    e->stopping = true;
    e->leave_ms = now().mono_ms + LIMIT_STOP_LINK_MS;
    logger_info("edgecore_stopping", "signal=%d reason=containers keep running", number);
    edge_core_stop(e->core, now());
    if (e->control_opened) {
        control_close(&e->control, NULL);
    }
    uv_timer_start(&e->stop_timer, on_stop_timer, LIMIT_STOP_EDGE_MS, 0);
}

static size_t on_report(void *owner, char *buffer, size_t size)
{
    struct edgecore *e = owner;
    if (e->left) {
        return 0;
    }
    const struct edge_core_report r = edge_core_report(e->core);
    const struct bus_report bus = bus_report(edge_core_bus(e->core));
    const int written = snprintf(
        buffer, size,
        "{\"program\":\"edgecore\",\"version\":\"%s\",\"node\":\"%s\",\"cluster\":\"%s\""
        ",\"linkUp\":%s,\"applied\":%" PRIu64 ",\"downStream\":%" PRIu64
        ",\"downPosition\":%" PRIu64 ",\"upStream\":%" PRIu64 ",\"upLast\":%" PRIu64
        ",\"upAcked\":%" PRIu64 ",\"digest\":\"%016" PRIx64 "%016" PRIx64 "\""
        ",\"digestAlarms\":%" PRIu64 ",\"podsWanted\":%zu,\"podsRunning\":%zu"
        ",\"logFirst\":%" PRIu64 ",\"logNext\":%" PRIu64 ",\"logBytes\":%" PRIu64
        ",\"space\":\"%s\",\"brokers\":%u,\"brokersConnected\":%u,\"mqttReceived\":%" PRIu64
        ",\"mqttIgnored\":%" PRIu64 ",\"mqttRefused\":%" PRIu64 ",\"mqttRedelivered\":%" PRIu64 ",\"mqttWaiting\":%" PRIu64
        ",\"mqttPublished\":%" PRIu64 ",\"mqttOutbox\":%" PRIu64 ",\"mqttOutboxDropped\":%" PRIu64
        "}\n",
        KELP_VERSION, e->node, r.cluster, r.link_up ? "true" : "false", r.applied, r.down_stream,
        r.down_position, r.up_stream, r.up_last, r.up_acked, r.digest.high, r.digest.low,
        r.digest_alarms, r.pods.wanted, r.pods.running, log_index_first(&e->log),
        log_index_next(&e->log), log_disk_bytes(&e->log), space_text(e->space.level),
        bus_hands_config(&e->bus_options).broker_count, bus_hands_connected(e->bus), bus.received,
        bus.ignored, bus.refused, bus_hands_redelivered(e->bus), bus.waiting, bus.published, bus.outbox,
        bus.outbox_dropped);
    return written < 0 ? 0 : (size_t)written < size ? (size_t)written : size - 1;
}

static void on_job(void *context, enum disk_lane lane, uint64_t us)
{
    struct edgecore *e = context;
    if (lane == DISK_LANE_FLUSH) {
        metrics_observe_us(&e->flushes, us);
    }
}

static void on_metrics(void *owner, struct metrics_page *page)
{
    struct edgecore *e = owner;
    metrics_process(page, program.name, e->node);
    metrics_gauge(page, "kelp_log_bytes", "Disk that the log takes.", log_disk_bytes(&e->log));
    metrics_gauge(page, "kelp_log_limit_bytes", "What it takes at most: log.limit.",
                  e->settings.limit_bytes);
    metrics_histogram(
        page, "kelp_log_flush_duration_seconds",
        "Writing and syncing what was appended to the log: acknowledgements wait for it.",
        &e->flushes);
    metrics_family(
        page, METRICS_GAUGE, "kelp_space",
        "1 at how much room the disk has: plenty; low, no new containers; none, nothing.");
    for (int level = SPACE_PLENTY; level <= SPACE_NONE; level++) {
        metrics_labelled(page, "level", space_text((enum space_level)level),
                         e->space.level == (enum space_level)level);
    }
    if (!e->left) {
        edge_core_metrics(e->core, page);
        bus_hands_metrics(e->bus, page);
    }
}

/* An edge without a link is well, and does its work; it is not ready for what is new. */
static void on_health(void *owner, bool ready, struct health *health)
{
    struct edgecore *e = owner;
    health_add(health, "ping", true, "%s", "");
    health_add(health, "log", log_status(&e->log) == 0, "the log cannot be written: %s",
               status_text(log_status(&e->log)));
    if (!ready) {
        return;
    }
    health_add(health, "shutdown", !e->stopping, "this edgecore is stopping");
    health_add(health, "runtime", !e->runtime_unready, "the container runtime is not ready");
    health_add(health, "space", e->space.level == SPACE_PLENTY,
               "the disk is almost full: nothing new is taken");
    health_add(health, "link", !e->left && edge_core_report(e->core).link_up,
               "no cloudcore has welcomed this node");
}

/* -- starting --------------------------------------------------------------------------------- */

/* A node is what its certificate says. */
static int open_identity(struct edgecore *e)
{
    const struct link_files files = {
        .authority = e->settings.authority,
        .certificate = e->settings.certificate,
        .key = e->settings.key,
    };
    char reason[IDENTITY_REASON_BYTES];
    if (link_context_open(LINK_DIAL, &files, &e->context, reason) != 0) {
        return program_refuse(&program, "%s\n  make a certificate with `kelp pki node`, or name another one under tls: "
                      "in the configuration", reason);
    }
    if (identity_node_of_file(e->settings.certificate, e->node, reason) != 0) {
        return program_refuse(&program, "%s\n  an edge needs a certificate of CN system:node:<name>: `kelp pki node` "
                      "makes one", reason);
    }
    if (e->settings.node[0] != 0 && strcmp(e->settings.node, e->node) != 0) {
        return program_refuse(&program, "node: the configuration says \"%s\", the certificate %s is for \"%s\"",
                      e->settings.node, e->settings.certificate, e->node);
    }
    const int32_t days = link_context_days(e->context);
    if (days < 30) {
        logger_warn("certificate_ends", "days=%d file=%s", days, e->settings.certificate);
    }
    return 0;
}

static int open_state(struct edgecore *e)
{
    const char *data = e->settings.data;
    char path[1024];
    e->disk = disk_uv_new(&e->loop);
    CHECK(e->disk != NULL);
    disk_uv_on_job(e->disk, on_job, e);
    const int made = disk_make_directory(disk_uv_disk(e->disk), data);
    if (made != 0) {
        return program_refuse(&program, "cannot make the data directory %s: %s", data, status_text(made));
    }
    space_open(&e->space, data, e->settings.reserve_bytes);
    snprintf(path, sizeof path, "%s/log", data);
    struct log_options options = {.directory = path,
                                  .history_bytes = e->settings.history_bytes,
                                  .history_ms = e->settings.history_ms,
                                  .limit_bytes = e->settings.limit_bytes};
    tag_owner("edge", e->node, options.owner);
    struct log_recovery recovery;
    int status = log_open(&e->log, disk_uv_disk(e->disk), &options, &recovery);
    if (status == STATUS_LOCKED) {
        return program_refuse(&program, "%s is in use by another edgecore", data);
    }
    if (status == STATUS_FOREIGN) {
        return program_refuse(&program, "%s does not belong to node %s: %s", data, e->node,
                      recovery.message == NULL ? "another owner" : recovery.message);
    }
    program_note(&program, data, "the log cannot be opened", path, status);
    if (status != 0 && status != STATUS_CORRUPT && status != STATUS_FOREIGN) {
        return program_refuse(&program, "the log in %s cannot be opened: %s%s%s", path, status_text(status),
                      status_is_fault(status) ? "\n  starts are read-only until it is resolved: mend the disk, run kelp resolve --yes " : "",
                      status_is_fault(status) ? data : "");
    }
    if (status != 0) {
        return program_refuse(&program, "the log in %s cannot be opened: %s: %s (%s, offset %" PRIu64 ")\n"
                      "  Pods keep running. `kelp log salvage %s` tells what can be kept, and keeps it with "
                      "--yes. To start over, move %s away: the cloud sends everything again", path,
                      status_text(status), recovery.message == NULL ? "" : recovery.message,
                      recovery.path, recovery.damage_offset, data, data);
    }
    logger_info("log_opened", "directory=%s first=%" PRIu64 " next=%" PRIu64 " cut_bytes=%" PRIu64,
                path, recovery.index_first, recovery.index_next, recovery.cut_bytes);

    snprintf(path, sizeof path, "%s/state", data);
    const struct store_options store_options = {
        .directory = path,
        .profile = STORE_EDGE,
        .machine = "edge",
        .format = EDGE_FORMAT,
    };
    status = store_rocks_open(&store_options, &e->store);
    if (status != 0) {
        if (strstr(store_error(e->store), "IO error") != NULL) {
            program_note(&program, data, "the state cannot be opened", path, status);
        }
        return program_refuse(&program, "the state in %s cannot be opened: %s: %s", path, status_text(status),
                      store_error(e->store));
    }
    return 0;
}

static int open_world(struct edgecore *e)
{
    if (mkdir(e->settings.root, 0711) != 0 && errno != EEXIST) {
        return program_refuse(&program, "cannot make the directory of volumes %s: %s", e->settings.root,
                      strerror(errno));
    }
    e->runtime = driver_cri_open(&e->loop, e->settings.runtime, e->node);
    if (e->runtime == NULL) {
        return program_refuse(&program, "runtime.endpoint: \"%s\" is no path of a unix socket", e->settings.runtime);
    }
    struct driver *driver = driver_cri_door(e->runtime);
    driver->owner = e;
    driver->on_answer = on_runtime_answer;
    uplink_init(&e->uplink, &e->loop, e->context, &uplink_events, e);

    const struct node_options options = {
        .name = e->node,
        .ip = e->settings.node_ip,
        .root = e->settings.root,
        .max_pods = (uint32_t)e->settings.max_pods,
        .labels = (const struct pair *)e->settings.labels.items,
        .label_count = (uint32_t)e->settings.labels.count,
    };
    e->self = node_open(&options);
    return 0;
}
static_assert(sizeof(struct config_pair) == sizeof(struct pair), "labels are passed on as they are");

static void set_bus_options(struct edgecore *e)
{
    const struct edge_settings *s = &e->settings;
    e->bus_options = (struct bus_hands_options){
        .mode = s->bus_mode,
        .node = e->node,
        .data = s->data,
        .external = s->bus_external,
        .internal = s->bus_internal,
        .program = s->bus_program,
        .client = s->bus_client,
        .user = s->bus_user,
        .password_file = s->bus_password_file,
        .authority = s->bus_authority,
        .certificate = s->bus_certificate,
        .key = s->bus_key,
        .topics = s->bus_topics,
        .qos = (uint8_t)s->bus_qos,
        .retain = s->bus_retain,
        .queue_count = (uint32_t)s->bus_queue,
        .window_ms = (uint32_t)s->bus_window_ms,
        .upload = s->bus_upload.items,
        .upload_count = (uint32_t)s->bus_upload.count,
    };
}

static int open_core(struct edgecore *e)
{
    set_bus_options(e);
    const struct edge_core_config config = {
        .node = e->node,
        .pods =
            {
                .node_name = e->node,
                .host_ip = node_ip(e->self),
                .runtime = e->runtime_name,
                .root = e->settings.root,
                .cgroup_root = e->settings.cgroup_root,
                .dns_servers = e->settings.dns_servers.items,
                .dns_server_count = e->settings.dns_servers.count,
                .node_cpu_milli = node_cpu_milli(e->self),
                .node_memory_bytes = node_memory_bytes(e->self),
            },
        .address_count = (uint32_t)e->settings.cloud.count,
        .backoff_ms_max = (uint32_t)e->settings.backoff_ms,
        .software = "kelp " KELP_VERSION,
        .labels = node_labels(e->self),
        .label_count = node_label_count(e->self),
        .bus = bus_hands_config(&e->bus_options),
    };
    const struct edge_core_ops ops = {
        .context = e,
        .link_dial = on_link_dial,
        .link_send = on_link_send,
        .link_room = on_link_room,
        .link_close = on_link_close,
        .log = on_log,
        .random = on_random,
        .runtime_call = on_runtime_call,
        .volumes_prepare = on_volumes_prepare,
        .volumes_remove = on_volumes_remove,
        .log_remove = on_log_remove,
        .bus_publish = on_bus_publish,
        .flush_store = on_flush_store,
        .fatal = on_fatal,
    };
    char reason[256];
    const int status = edge_core_open(&config, &ops, e->store, &e->log, now(), &e->core, reason);
    char path[LIMIT_LOG_PATH_BYTES];
    uint64_t offset;
    if (status == STATUS_CORRUPT && log_damage(&e->log, path, &offset)) {
        return program_refuse(&program, "cannot start on %s: %s is damaged at offset %" PRIu64 ": %s\n"
                      "  Pods keep running. `kelp log salvage %s` tells what can be kept, and keeps it with "
                      "--yes. To start over, move %s away: the cloud sends everything again",
                      e->settings.data, path, offset, reason, e->settings.data, e->settings.data);
    }
    if (status == -EIO) {
        program_note(&program, e->settings.data, "the state cannot be replayed from the log", e->settings.data, status);
    }
    if (status != 0) {
        return program_refuse(&program, "cannot start on %s: %s: %s", e->settings.data, status_text(status), reason);
    }
    set_space(e);
    char why[512];
    e->bus = bus_hands_open(&e->loop, &e->bus_options, edge_core_bus(e->core), why);
    if (e->bus == NULL) {
        return program_refuse(&program, "%s", why);
    }
    snprintf(path, sizeof path, "%s/control", e->settings.data);
    const char *control = e->settings.control[0] == 0 ? path : e->settings.control;
    const int listening = control_open(&e->control, &e->loop, control, on_report, e);
    if (listening != 0) {
        return program_refuse(&program, "control: cannot listen at %s: %s", control, status_text(listening));
    }
    e->control_opened = true;
    return 0;
}

static int listen_metrics(struct edgecore *e)
{
    const struct monitor_door door = {.owner = e, .metrics = on_metrics, .health = on_health};
    char reason[CONFIG_REASON_BYTES];
    return monitor_listen(&e->loop, e->settings.metrics_listen, &door, NULL, reason) == 0
               ? 0
               : program_refuse(&program, "metrics.listen: %s", reason);
}

static int start_loop(struct edgecore *e)
{
    uv_timer_init(&e->loop, &e->core_timer);
    uv_timer_init(&e->loop, &e->node_timer);
    uv_timer_init(&e->loop, &e->second_timer);
    uv_timer_init(&e->loop, &e->stop_timer);
    uv_prepare_init(&e->loop, &e->prepare);
    e->node_timer.data = e;
    e->second_timer.data = e;
    e->prepare.data = e;
    uv_timer_start(&e->second_timer, on_second_timer, 1000, 1000);
    uv_timer_start(&e->node_timer, on_node_timer, 0, NODE_STATUS_MS);
    uv_prepare_start(&e->prepare, on_prepare);
    static const int numbers[] = {SIGTERM, SIGINT};
    for (size_t i = 0; i < 2; i++) {
        uv_signal_init(&e->loop, &e->signals[i]);
        e->signals[i].data = e;
        const int status = uv_signal_start(&e->signals[i], on_signal, numbers[i]);
        if (status != 0) {
            return program_refuse(&program, "cannot watch signals: %s", status_text(status));
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    /* One heap for all threads: the pool's threads are few and short, and each heap of its own keeps
     * megabytes (measured: 16.9 MB resident with several, 14.4 MB with one). */
    mallopt(M_ARENA_MAX, 1);
    static struct edgecore edgecore;
    struct edgecore *e = &edgecore;
    const int exit_code = program_begin(&program, argc, argv, &e->settings);
    if (exit_code != PROGRAM_RUN) {
        return exit_code;
    }
    logger_set(e->settings.log_level, e->settings.log_format, NULL);
    CHECK(uv_loop_init(&e->loop) == 0);
    int failed = open_identity(e);
    struct readonly readonly = {.loop = &e->loop,
                                .program = program.name,
                                .name = e->node,
                                .data = e->settings.data,
                                .control = e->settings.control};
    if (!failed && readonly_find(&readonly)) {
        return readonly_run(&readonly); /* containers keep running, nobody is connected to */
    }
    failed = failed ? failed : open_state(e);
    failed = failed ? failed : open_world(e);
    failed = failed ? failed : open_core(e);
    failed = failed ? failed : listen_metrics(e);
    failed = failed ? failed : start_loop(e);
    if (failed) {
        return failed;
    }
    logger_info("edgecore_started", "version=%s node=%s data=%s runtime=%s", KELP_VERSION, e->node,
                e->settings.data, e->settings.runtime);
    uv_run(&e->loop, UV_RUN_DEFAULT);
    return 0;
}
