/* cloudcore: one member of the control plane.
 *
 *   1. read the configuration and the certificates; refuse what does not fit together, with a sentence
 *   2. open the log and the store of the data directory (locked: one process at a time)
 *   3. open the core over them, and replay what the store does not have yet
 *   4. listen: edges (WebSocket), the other cloudcores, the Kubernetes API, the control socket
 *   5. run until SIGTERM or SIGINT, then leave so that nobody misses us: say that we are not ready, let
 *      another replica lead, end the watches, send the edges away, finish the requests under way, flush
 *
 * What can fail: any of 1 to 4 ends the process with one line that says what to do; a real I/O error or a
 * damaged log later on ends it too, since going on would promise what is not kept. It leaves a note
 * (fault.h), and a start that finds one does none of 2 to 4: it says why, until `kelp resolve`.
 *
 * Exit codes: 0 left in order, 1 could not start, 2 usage, 5 the group goes on without this replica (it was removed,
 * or its data directory is of before a restore, or of another cluster), 71 a fatal error while running.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "log/disk_uv.h"
#include "log/log.h"
#include "nodes/cloud/api.h"
#include "nodes/cloud/api_readonly.h"
#include "nodes/cloud/api_server.h"
#include "nodes/cloud/backup_door.h"
#include "nodes/cloud/cluster_door.h"
#include "nodes/cloud/core.h"
#include "nodes/cloud/hub.h"
#include "nodes/cloud/join_door.h"
#include "nodes/cloud/devices.h"
#include "nodes/cloud/namespaces.h"
#include "nodes/cloud/peers.h"
#include "nodes/cloud/state_place.h"
#include "nodes/config.h"
#include "nodes/control.h"
#include "nodes/logger.h"
#include "nodes/monitor.h"
#include "nodes/net/identity_tls.h"
#include "nodes/program.h"
#include "nodes/readonly.h"
#include "nodes/space.h"
#include "nodes/tag_tls.h"
#include "schemas/check.h"
#include "schemas/limits.h"
#include "statemachine/delivery.h"
#include "statemachine/machine.h"
#include "statemachine/store.h"

#define EXIT_REMOVED 5

struct settings {
    int64_t replica;
    const char *data;
    struct config_list group;
    bool join;
    struct config_address api_listen;
    struct config_address hub_listen;
    struct config_address peer_listen;
    const char *metrics_listen;
    const char *control;
    const char *authority;
    const char *certificate;
    const char *key;
    const char *authority_key;
    uint64_t heartbeat_ms;
    uint64_t unreachable_ms;
    uint64_t propose_ms;
    uint64_t election_ms;
    uint64_t raft_heartbeat_ms;
    uint64_t history_bytes;
    uint64_t history_ms;
    uint64_t limit_bytes;
    uint64_t reserve_bytes;
    uint64_t snapshot_bytes;
    uint64_t transfer_rate;
    enum logger_level log_level;
    enum logger_format log_format;
};

#define AT(field) offsetof(struct settings, field)
static const struct config_key keys[] = {
    {"replica", CONFIG_INTEGER, AT(replica), NULL, 1, 65535, NULL,
     "number of this cloudcore in the group; its certificate is for cloudcore-<replica>"},
    {"data", CONFIG_TEXT, AT(data), "/var/lib/kelp/cloudcore", 1, 900, NULL,
     "directory of the log, the state and the control socket"},
    {"group", CONFIG_LIST, AT(group), NULL, 1, LIMIT_REPLICAS, NULL,
     "all cloudcores, this one too, each as <replica>=<host>:<port>; the same list on each. It "
     "founds "
     "the group, once; later the group itself knows its members, see kelp cluster"},
    {"join", CONFIG_BOOLEAN, AT(join), "false", 0, 0, NULL,
     "this cloudcore founds no group: it waits to be added to the one of the others in `group`"},
    {"api.listen", CONFIG_ADDRESS, AT(api_listen), "0.0.0.0:6443", 0, 0, NULL,
     "where the Kubernetes API is served"},
    {"hub.listen", CONFIG_ADDRESS, AT(hub_listen), "0.0.0.0:10000", 0, 0, NULL,
     "where edges connect"},
    {"peer.listen", CONFIG_ADDRESS, AT(peer_listen), "0.0.0.0:10010", 0, 0, NULL,
     "where the other cloudcores connect"},
    {"metrics.listen", CONFIG_TEXT, AT(metrics_listen), "", 0, 263, NULL,
     "where /metrics and the probes are served in plain HTTP to whoever asks, such as "
     "127.0.0.1:9402; "
     "empty: only at api.listen"},
    {"control", CONFIG_TEXT, AT(control), "", 0, 107, NULL,
     "unix socket that `kelp status` asks; empty: <data>/control"},
    {"tls.authority", CONFIG_TEXT, AT(authority), "/etc/kelp/pki/ca.crt", 1, 4096, NULL,
     "certificates of the authority that signed edges, cloudcores and users"},
    {"tls.certificate", CONFIG_TEXT, AT(certificate), "/etc/kelp/pki/cloudcore.crt", 1, 4096, NULL,
     "certificate of this cloudcore, with the addresses it is reached at"},
    {"tls.key", CONFIG_TEXT, AT(key), "/etc/kelp/pki/cloudcore.key", 1, 4096, NULL,
     "its private key, readable only by this user"},
    {"tls.authorityKey", CONFIG_TEXT, AT(authority_key), "", 0, 4096, NULL,
     "private key of the first certificate in tls.authority: this cloudcore signs those that join "
     "with a "
     "token; empty: it signs nothing"},
    {"session.heartbeat", CONFIG_DURATION, AT(heartbeat_ms), "10s", 100, 600000, NULL,
     "how often an idle edge says that it is alive"},
    {"session.unreachable", CONFIG_DURATION, AT(unreachable_ms), "40s", 500, 3600000, NULL,
     "silence of a node after which it is NotReady"},
    {"propose.deadline", CONFIG_DURATION, AT(propose_ms), "10s", 500, 120000, NULL,
     "how long a write is retried, over changes of the leader"},
    {"raft.election", CONFIG_DURATION, AT(election_ms), "500ms", 100, 60000, NULL,
     "silence of the leader after which another one is sought, after 1 to 2 times as long; one "
     "whose process "
     "ended is not waited for"},
    {"raft.heartbeat", CONFIG_DURATION, AT(raft_heartbeat_ms), "50ms", 40, 10000, NULL,
     "how often the leader says that it is alive; below raft.election"},
    {"log.history", CONFIG_SIZE, AT(history_bytes), "1GiB", 0, INT64_MAX, NULL,
     "log kept beyond what is needed, while there is room: for whoever asks why, and for a "
     "cloudcore that was "
     "away; one that missed more is given the state of another one"},
    {"log.historyAge", CONFIG_DURATION, AT(history_ms), "0", 0, INT64_MAX, NULL,
     "age from which log that is not needed goes even if log.history has room; 0: any age"},
    {"log.limit", CONFIG_SIZE, AT(limit_bytes), "4GiB", LIMIT_LOG_CLOUD_BYTES_MIN, INT64_MAX, NULL,
     "size the log never exceeds; history goes at half of it, what is kept for a cloudcore that is "
     "given a "
     "state at five eighths, writes are refused at three quarters"},
    {"log.snapshot", CONFIG_SIZE, AT(snapshot_bytes), "64MiB", 1 << 20, 1 << 30, NULL,
     "log between two snapshots; three times as much is in memory"},
    {"transfer.rate", CONFIG_SIZE, AT(transfer_rate), "64MiB", 1 << 20, INT64_MAX, NULL,
     "bytes in a second of such a state, and of a backup"},
    {"disk.reserve", CONFIG_SIZE, AT(reserve_bytes), "64MiB", 1 << 20, INT64_MAX, NULL,
     "free space below which larger writes are refused, below a quarter of it all; as much again "
     "is held in "
     "a file, for the work that frees space"},
    {"logging.level", CONFIG_CHOICE, AT(log_level), "info", 0, 0, LOGGER_LEVEL_CHOICES,
     "least important lines that are written"},
    {"logging.format", CONFIG_CHOICE, AT(log_format), "text", 0, 0, LOGGER_FORMAT_CHOICES,
     "form of the lines"},
};
static const struct config_table table = {keys, sizeof keys / sizeof keys[0]};
static const struct program program = {
    .name = "cloudcore",
    .about = "One member of Kelp's control plane: the Kubernetes API for people, a durable log "
             "for every edge node.",
    .table = &table,
};

struct group_member {
    char address[LIMIT_NAME_BYTES + 1];
    uint64_t replica;
};

/* The steps of a stop. Each ends when it is done, or when its time is over. */
enum leaving {
    LEAVING_NOT,
    LEAVING_HANDS_OVER, /* /readyz says no, somebody else is to lead; everything is served */
    LEAVING_DRAINS,     /* edges and watches are sent away, requests under way are finished */
    LEAVING_CLOSES,     /* goodbyes go out, the core and the log finish */
};

struct cloudcore {
    struct settings settings;
    uv_loop_t loop;
    struct link_context *dial_context;
    struct link_context *peer_context;
    struct link_context *hub_context;
    struct link_context *api_context;

    struct group_member members[LIMIT_REPLICAS];
    struct cloud_core_peer core_peers[LIMIT_REPLICAS]; /* borrowed by the core for life */
    uint32_t member_count;
    char name[32];

    struct disk_uv *disk;
    struct log log;
    bool log_opened;
    bool log_limited; /* and that was said */
    struct state_place place;
    struct store *store;
    struct store *staging; /* in the other place, while a newer state comes, or the one that was */
    struct cloud_core *core;
    struct api *api;
    struct namespaces *namespaces;
    struct devices *devices;

    struct peers *peers;
    struct hub *hub;
    struct api_server *api_server;
    struct join_door join_door;
    struct backup_door backup;
    struct control control;

    uv_timer_t core_timer;   /* the next moment the core wants to run */
    uv_timer_t second_timer; /* what happens about once a second */
    uv_timer_t stop_timer;
    uv_prepare_t prepare; /* once per turn, before the loop waits */
    uv_check_t check;     /* and after it has waited */
    uint64_t turn_ns;     /* when it had, 0: not yet */
    struct metrics_histogram
        turns; /* how long the loop was busy: what else came meanwhile waited */
    struct metrics_histogram flushes; /* of the log */
    uv_signal_t signals[2];
    char cluster[64]; /* as the core knows it: the key of tags */
    struct space space;
    struct readonly readonly;
    uint32_t works;            /* in the pool */
    struct replica_work flush; /* the last one */
    int flush_status;          /* of it: the pool's until it is done */
    bool removed;              /* the group goes on without us */
    enum leaving leaving;
    bool left;         /* the core is idle: the state is flushed, then the log closed */
    uint64_t leave_ms; /* when the step of leaving that goes on is no longer waited for */
};

static struct cloud_core_time now(void)
{
    return (struct cloud_core_time){.mono_ms = program_mono_ms(), .wall_ms = program_wall_ms()};
}

/* -- what the core asks of the world ---------------------------------------------------------- */

static int on_send_peer(void *context, uint64_t replica, struct bytes frame)
{
    struct cloudcore *c = context;
    return c->peers == NULL ? -ENOTCONN : peers_send(c->peers, replica, frame);
}

static int on_send_session(void *context, uint64_t session, struct bytes frame)
{
    struct cloudcore *c = context;
    return c->hub == NULL ? STATUS_CLOSING : hub_send(c->hub, session, frame);
}

static bool on_session_room(void *context, uint64_t session)
{
    struct cloudcore *c = context;
    return c->hub != NULL && hub_room(c->hub, session);
}

static void on_close_session(void *context, uint64_t session)
{
    struct cloudcore *c = context;
    if (c->hub != NULL) {
        hub_leave(c->hub, session);
    }
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

static uint64_t on_clock_us(void *context)
{
    (void)context;
    return uv_hrtime() / 1000;
}

static struct tag on_tag(void *context, struct bytes key, struct bytes content)
{
    struct cloudcore *c = context;
    return tag_make(c->cluster, key, content);
}

__attribute__((noreturn)) static void on_fatal(void *context, int status, const char *message)
{
    const struct cloudcore *c = context;
    const int log_failed = log_status(&c->log);
    char path[STATE_PLACE_BYTES];
    snprintf(path, sizeof path, "%s/log", c->settings.data);
    program_fail(&program, c->settings.data, message,
                 log_failed != 0 ? path : state_place_current(&c->place),
                 log_failed != 0 ? log_failed : status);
}

static void on_peers(void *context, const struct cloud_core_peer *peers, uint32_t count)
{
    struct cloudcore *c = context;
    struct peers_address addresses[LIMIT_MEMBERS];
    char hosts[LIMIT_MEMBERS][256];
    uint32_t known = 0;
    CHECK(count <= LIMIT_MEMBERS);
    for (uint32_t i = 0; i < count; i++) {
        struct peers_address *address = &addresses[known];
        if (config_parse_address(peers[i].address, hosts[known], &address->port) != 0) {
            logger_warn_limited("peer_address_bad", "replica=%" PRIu64 " address=%s",
                                peers[i].replica, peers[i].address);
            continue;
        }
        address->replica = peers[i].replica;
        address->host = hosts[known];
        known++;
    }
    if (c->peers != NULL) {
        peers_set(c->peers, addresses, known);
    }
}

/* From inside of the core: leaving comes with the turn. */
static void on_removed(void *context)
{
    struct cloudcore *c = context;
    c->removed = true;
}

/* -- work that blocks, in libuv's pool -------------------------------------------------------- */

struct pool_work {
    uv_work_t request;
    struct cloudcore *owner;
    struct replica_work *work;
};

static void pool_on_work(uv_work_t *request)
{
    struct pool_work *pool = CONTAINER_OF(request, struct pool_work, request);
    pool->work->work(pool->work);
}

static void pool_on_done(uv_work_t *request, int status)
{
    (void)status; /* never cancelled */
    struct pool_work *pool = CONTAINER_OF(request, struct pool_work, request);
    struct replica_work *work = pool->work;
    pool->owner->works--;
    free(pool);
    work->done(work);
}

static void on_run(void *context, struct replica_work *work)
{
    struct cloudcore *c = context;
    struct pool_work *pool = calloc(1, sizeof *pool);
    CHECK(pool != NULL);
    pool->owner = c;
    pool->work = work;
    c->works++;
    CHECK(uv_queue_work(&c->loop, &pool->request, pool_on_work, pool_on_done) == 0);
}

/* -- a second place for the state ------------------------------------------------------------- */

static int store_at(const char *path, struct store **out)
{
    const struct store_options options = {
        .directory = path,
        .profile = STORE_CLOUD,
        .machine = MACHINE_NAME,
        .format = MACHINE_FORMAT,
    };
    return store_rocks_open(&options, out);
}

/* In the pool, or on the loop while nothing runs yet; so is the other place's. */
static int on_staging_open(void *context, bool anew, struct store **out)
{
    struct cloudcore *c = context;
    CHECK(c->staging == NULL);
    const char *path = state_place_other(&c->place);
    int status = anew ? store_rocks_destroy(path) : 0;
    struct store *store = NULL;
    if (status == 0) {
        status = store_at(path, &store);
    }
    if (status != 0) {
        logger_warn("staging_failed", "directory=%s status=%d reason=%s", path, status,
                    store == NULL ? status_text(status) : store_error(store));
        store_close(store);
        return status;
    }
    c->staging = store;
    *out = store;
    return 0;
}

static int on_staging_adopt(void *context, struct store *staging)
{
    struct cloudcore *c = context;
    CHECK(staging == c->staging);
    const int status = state_place_exchange(&c->place);
    if (status == 0) {
        c->staging = c->store;
        c->store = staging;
    }
    return status;
}

static void on_staging_drop(void *context, struct store *store)
{
    struct cloudcore *c = context;
    CHECK(store == c->staging);
    store_close(store);
    c->staging = NULL;
    const char *path = state_place_other(&c->place);
    const int status = store_rocks_destroy(path);
    if (status != 0) {
        logger_warn("staging_left", "directory=%s status=%d reason=%s", path, status,
                    status_text(status));
    }
}

/* -- inputs of the core ----------------------------------------------------------------------- */

static void on_peer_frame(void *owner, uint64_t replica, struct bytes frame)
{
    struct cloudcore *c = owner;
    cloud_core_on_peer(c->core, replica, frame, now());
}

static void on_peer_connected(void *owner, uint64_t replica)
{
    struct cloudcore *c = owner;
    cloud_core_peer_connected(c->core, replica);
}

static void on_peer_lost(void *owner, uint64_t replica)
{
    struct cloudcore *c = owner;
    cloud_core_peer_lost(c->core, replica, now());
}

static bool on_peer_key(void *owner, uint64_t replica, const char *key)
{
    struct cloudcore *c = owner;
    return cloud_core_hears_key(c->core, replica, key);
}

static void on_peer_shut_out(void *owner, uint64_t replica)
{
    struct cloudcore *c = owner;
    cloud_core_shut_out(c->core, replica, now());
}

static void on_peers_close(void *owner)
{
    struct cloudcore *c = owner;
    c->peers = NULL;
}

static int on_hub_open(void *owner, uint64_t session, const char *node)
{
    struct cloudcore *c = owner;
    return cloud_core_session_open(c->core, session, node, now());
}

static void on_hub_frame(void *owner, uint64_t session, struct bytes frame)
{
    struct cloudcore *c = owner;
    cloud_core_on_session(c->core, session, frame, now());
}

static void on_hub_writable(void *owner, uint64_t session)
{
    struct cloudcore *c = owner;
    cloud_core_session_writable(c->core, session);
}

static void on_hub_closed(void *owner, uint64_t session)
{
    struct cloudcore *c = owner;
    cloud_core_session_closed(c->core, session, now());
}

static void on_hub_close(void *owner)
{
    struct cloudcore *c = owner;
    c->hub = NULL;
}

static void on_api_close(void *owner)
{
    struct cloudcore *c = owner;
    c->api_server = NULL;
}

/* Where the logs of a node stand, on this replica. */
static size_t on_report_node(void *owner, const char *node, char *buffer, size_t size)
{
    struct cloudcore *c = owner;
    struct node_row row;
    if (node_get(store_live(c->store), node, &row) != 0) {
        return 0;
    }
    const int written =
        snprintf(buffer, size,
                 "{\"node\":\"%s\",\"uid\":\"%s\",\"epoch\":%" PRIu64 ",\"replica\":%" PRIu64
                 ",\"downStream\":%" PRIu64 ",\"downTip\":%" PRIu64 ",\"downAcked\":%" PRIu64
                 ",\"downHeld\":%" PRIu64 ",\"upStream\":%" PRIu64 ",\"upPosition\":%" PRIu64
                 ",\"rows\":%" PRIu64 ",\"digest\":\"%016" PRIx64 "%016" PRIx64 "\"}\n",
                 row.name, row.uid, row.epoch, row.replica, row.down_stream, row.down_tip,
                 row.down_acked, row.down_count, row.up_stream, row.up_position, row.held_count,
                 row.digest.high, row.digest.low);
    return written < 0 ? 0 : (size_t)written < size ? (size_t)written : size - 1;
}

static bool on_serve(void *owner, struct http_exchange *exchange)
{
    struct cloudcore *c = owner;
    return backup_door_serve(&c->backup, exchange) || cluster_door_serve(c->core, exchange) ||
           join_door_serve(&c->join_door, exchange);
}

static void on_job(void *context, enum disk_lane lane, uint64_t us)
{
    struct cloudcore *c = context;
    if (lane == DISK_LANE_FLUSH) {
        metrics_observe_us(&c->flushes, us);
    }
}

static void metrics_of_peers(struct cloudcore *c, struct metrics_page *page)
{
    const struct members *members = cloud_core_members(c->core);
    bool any = false;
    for (uint32_t i = 0; i < members->count; i++) {
        any = any || members->all[i].configured;
    }
    metrics_family(page, METRICS_GAUGE, "kelp_peer_link_up",
                   "1 while our link to that member of the group is up; our own is always.");
    for (uint32_t i = 0; i < members->count; i++) {
        char number[24];
        const struct member *member = &members->all[i];
        if (!(any ? member->configured : member->listed)) {
            continue; /* before there is a group: those that would be it */
        }
        const bool self = member->replica == members->self;
        snprintf(number, sizeof number, "%" PRIu64, member->replica);
        metrics_labelled(page, "replica", number,
                         self || (c->peers != NULL && peers_connected(c->peers, member->replica)));
    }
}

static void metrics_of_disk(struct cloudcore *c, struct metrics_page *page)
{
    metrics_gauge(page, "kelp_log_first_index", "Oldest entry of the log that is held.",
                  log_index_first(&c->log));
    metrics_gauge(page, "kelp_log_next_index", "What the next entry of the log receives.",
                  log_index_next(&c->log));
    metrics_gauge(page, "kelp_log_bytes", "Disk that the log takes.", log_disk_bytes(&c->log));
    metrics_gauge(page, "kelp_log_limit_bytes", "What it takes at most: log.limit.",
                  c->settings.limit_bytes);
    metrics_gauge(page, "kelp_log_segments", "Files of the log.", c->log.segment_count);
    metrics_histogram(
        page, "kelp_log_flush_duration_seconds",
        "Writing and syncing what was appended to the log: acknowledgements wait for it.",
        &c->flushes);
    metrics_family(
        page, METRICS_GAUGE, "kelp_space",
        "1 at how much room the disk has: plenty; low, larger writes are refused; none, all.");
    for (int level = SPACE_PLENTY; level <= SPACE_NONE; level++) {
        metrics_labelled(page, "level", space_text((enum space_level)level),
                         c->space.level == (enum space_level)level);
    }
}

static void on_metrics(void *owner, struct metrics_page *page)
{
    struct cloudcore *c = owner;
    metrics_process(page, program.name, c->name);
    cloud_core_metrics(c->core, page);
    metrics_of_peers(c, page);
    metrics_of_disk(c, page);
    metrics_histogram(page, "kelp_loop_turn_duration_seconds",
                      "How long the loop was busy without looking at its sockets.", &c->turns);
    if (c->api_server != NULL) {
        api_server_metrics(c->api_server, page);
    }
}

static void on_health(void *owner, bool ready, struct health *health)
{
    struct cloudcore *c = owner;
    health_add(health, "ping", true, "%s", "");
    health_add(health, "log", log_status(&c->log) == 0, "the log cannot be written: %s",
               status_text(log_status(&c->log)));
    if (ready) {
        cloud_core_health(c->core, health);
    }
}

static const struct api_server_events api_events = {
    .serve = on_serve,
    .report_node = on_report_node,
    .metrics = on_metrics,
    .health = on_health,
    .on_close = on_api_close,
};
static const struct peers_events peers_events = {
    .on_frame = on_peer_frame,
    .on_connected = on_peer_connected,
    .on_lost = on_peer_lost,
    .on_key = on_peer_key,
    .on_shut_out = on_peer_shut_out,
    .on_close = on_peers_close,
};
static const struct hub_events hub_events = {
    .on_open = on_hub_open,
    .on_frame = on_hub_frame,
    .on_writable = on_hub_writable,
    .on_closed = on_hub_closed,
    .on_close = on_hub_close,
};

/* -- one turn of the loop --------------------------------------------------------------------- */

static void on_core_timer(uv_timer_t *timer)
{
    (void)timer; /* waking the loop is all: on_prepare does the work */
}

static void on_log_closed(void *context)
{
    struct cloudcore *c = context;
    if (status_is_fault(log_status(&c->log))) {
        on_fatal(c, log_status(&c->log), "the log cannot be closed");
    }
    logger_info("cloudcore_left", "in=order removed=%d", c->removed);
    _exit(
        c->removed
            ? EXIT_REMOVED
            : 0); /* no destructors under the feet of the store's threads; and raft_close may free twice */
}

/* What is applied is in memory tables, and in the log: nothing is lost without this. But the next start need not
 * apply it again, and whoever looks at the state of a stopped cloudcore sees all of it. */
static void flush_on_work(struct replica_work *work)
{
    struct cloudcore *c = CONTAINER_OF(work, struct cloudcore, flush);
    c->flush_status = store_flush(c->store);
}

static void flush_on_done(struct replica_work *work)
{
    struct cloudcore *c = CONTAINER_OF(work, struct cloudcore, flush);
    if (c->flush_status != 0) {
        logger_warn("state_not_flushed", "status=%d reason=%s", c->flush_status,
                    store_error(c->store));
    }
    log_close(&c->log, on_log_closed, c);
}

static void leave_by(struct cloudcore *c, enum leaving step, uint64_t patience_ms)
{
    c->leaving = step;
    c->leave_ms = now().mono_ms + patience_ms;
    logger_debug("cloudcore_leaving", "step=%d", (int)step);
}

/* Another replica leads, as far as that could be had. Who asks from now on hears of others. */
static void leave_drain(struct cloudcore *c)
{
    leave_by(c, LEAVING_DRAINS, LIMIT_STOP_DRAIN_MS);
    api_end_watches(c->api);
    api_server_drain(c->api_server);
    cloud_core_dismiss(c->core, now());
    hub_close(c->hub);
}

static void leave_close(struct cloudcore *c)
{
    leave_by(c, LEAVING_CLOSES, LIMIT_STOP_LINK_MS);
    api_stop(c->api);
    cloud_core_stop(c->core, now());
    api_server_close(c->api_server);
    peers_close(c->peers);
    control_close(&c->control, NULL);
}

static void leave_step(struct cloudcore *c, const struct cloud_core_report *report)
{
    const bool over = now().mono_ms >= c->leave_ms;
    switch (c->leaving) {
    case LEAVING_NOT:
        break;
    case LEAVING_HANDS_OVER:
        if (!report->leads || report->alone || over) {
            leave_drain(c);
        }
        break;
    case LEAVING_DRAINS:
        if ((c->hub == NULL && api_server_drained(c->api_server)) || over) {
            leave_close(c);
        }
        break;
    case LEAVING_CLOSES:
        /* Goodbyes and answers go out first, unless a client does not take them. */
        if (!c->left && ((c->hub == NULL && c->api_server == NULL) || over) &&
            cloud_core_idle(c->core) && c->works == 0) {
            c->left = true;
            c->flush = (struct replica_work){.work = flush_on_work, .done = flush_on_done};
            on_run(c, &c->flush);
        }
        break;
    }
}

static void on_check(uv_check_t *check)
{
    struct cloudcore *c = check->data;
    c->turn_ns = uv_hrtime();
}

static void on_prepare(uv_prepare_t *prepare)
{
    struct cloudcore *c = prepare->data;
    const struct cloud_core_time at = now();
    const uint64_t next_ms = cloud_core_run(c->core, at);
    const struct cloud_core_report report = cloud_core_report(c->core);
    if (strcmp(c->cluster, report.cluster) != 0) {
        snprintf(c->cluster, sizeof c->cluster, "%s", report.cluster);
    }
    const bool follow = c->devices != NULL && c->leaving == LEAVING_NOT && devices_run(c->devices);
    const bool more = (c->api != NULL && api_changed(c->api)) || follow;
    const uint64_t wait_ms = more || next_ms <= at.mono_ms ? 0 : next_ms - at.mono_ms;
    uv_timer_start(&c->core_timer, on_core_timer, wait_ms, 0);
    if (c->turn_ns != 0) {
        metrics_observe_us(&c->turns, (uv_hrtime() - c->turn_ns) / 1000);
    }
    leave_step(c, &report);
}

/* What is kept for whoever asks why is the first to go. And a log near its limit (the state is flushed too
 * slowly, or not at all) is as bad as a full disk. */
static void set_space(struct cloudcore *c)
{
    log_set_history(&c->log, c->space.level == SPACE_PLENTY ? c->settings.history_bytes : 0);
    switch (c->log_limited ? SPACE_NONE : c->space.level) {
    case SPACE_PLENTY:
        cloud_core_set_space(c->core, CLOUD_CORE_SPACE_PLENTY);
        break;
    case SPACE_LOW:
        cloud_core_set_space(c->core, CLOUD_CORE_SPACE_LOW);
        break;
    case SPACE_NONE:
        cloud_core_set_space(c->core, CLOUD_CORE_SPACE_NONE);
        break;
    }
}

static void on_signal(uv_signal_t *handle, int number);

static void on_second(uv_timer_t *timer)
{
    struct cloudcore *c = timer->data;
    if (c->left) {
        return;
    }
    if (c->removed && c->leaving == LEAVING_NOT) {
        logger_error("cloudcore_removed",
                     "replica=%" PRIi64
                     " reason=the group goes on without this data directory, and it leaves; what "
                     "it had is in %s. To bring this number back: an empty data directory, and "
                     "`kelp cluster add`",
                     c->settings.replica, c->settings.data);
        on_signal(&c->signals[0], SIGTERM);
        return;
    }
    const bool limited = log_limited(&c->log);
    if (limited != c->log_limited) {
        c->log_limited = limited;
        logger_warn(limited ? "log_limit_reached" : "log_limit_left",
                    "bytes=%" PRIu64 " limit_bytes=%" PRIu64, log_disk_bytes(&c->log),
                    c->settings.limit_bytes);
        set_space(c);
    }
    if (space_look(&c->space)) {
        set_space(c);
    }
    cloud_core_set_free(c->core, c->space.free_bytes);
    if (log_status(&c->log) !=
        0) { /* of a mark or of a file made ahead: nobody else waits for those */
        on_fatal(c, log_status(&c->log), "the log cannot be written");
    }
    log_tick(&c->log, program_wall_ms());
    if (c->api != NULL) {
        api_tick(c->api);
    }
    if (c->leaving == LEAVING_NOT) {
        peers_review(c->peers);
        namespaces_step(c->namespaces);
        (void)devices_run(c->devices);
    }
}

static void on_stop_timer(uv_timer_t *timer)
{
    (void)timer;
    logger_warn("cloudcore_left", "reason=not everything ended within %u ms", LIMIT_STOP_MS);
    _exit(0);
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct cloudcore *c = handle->data;
    if (c->leaving != LEAVING_NOT) {
        _exit(0); /* asked twice */
    }
    logger_info("cloudcore_stopping", "signal=%d", number);
    leave_by(c, LEAVING_HANDS_OVER, LIMIT_STOP_HANDOVER_MS);
    api_leave(c->api);
    cloud_core_resign(c->core, now());
    uv_timer_start(&c->stop_timer, on_stop_timer, LIMIT_STOP_MS, 0);
}

static size_t on_report(void *owner, char *buffer, size_t size)
{
    struct cloudcore *c = owner;
    char group[CONTROL_BYTES / 2];
    const size_t group_size = cluster_door_document(c->core, group, sizeof group - 1);
    group[group_size] = '\0';
    if (group_size == 0) {
        memcpy(group, "{}", sizeof "{}");
    }
    const struct cloud_core_report r = cloud_core_report(c->core);
    const int written = snprintf(
        buffer, size,
        "{\"program\":\"cloudcore\",\"version\":\"%s\",\"name\":\"%s\",\"replica\":%" PRIi64
        ",\"cluster\":\"%s\",\"leader\":%" PRIu64 ",\"leads\":%s,\"applied\":%" PRIu64
        ",\"resourceVersion\":%" PRIu64
        ",\"level\":%u,\"levelKnown\":%u,\"sessions\":%u,\"sessionsActive\":%u,\"proposals\":%u"
        ",\"behind\":%s,\"behindPercent\":%u,\"behindSource\":%" PRIu64 ",\"logFirst\":%" PRIu64
        ",\"logNext\":%" PRIu64 ",\"logBytes\":%" PRIu64 ",\"space\":\"%s\",\"group\":%s}\n",
        KELP_VERSION, c->name, c->settings.replica, r.cluster, r.leader, r.leads ? "true" : "false",
        r.applied, r.version, r.level, MACHINE_LEVEL, r.sessions, r.sessions_active, r.proposals,
        r.behind ? "true" : "false", r.behind_percent, r.behind_source, log_index_first(&c->log),
        log_index_next(&c->log), log_disk_bytes(&c->log), space_text(c->space.level), group);
    return written < 0 ? 0 : (size_t)written < size ? (size_t)written : size - 1;
}

/* -- starting --------------------------------------------------------------------------------- */

static int read_group(struct cloudcore *c)
{
    bool self = false;
    for (size_t i = 0; i < c->settings.group.count; i++) {
        const char *item = c->settings.group.items[i];
        struct group_member *member = &c->members[i];
        char *end;
        char host[256];
        uint16_t port;
        member->replica = strtoul(item, &end, 10);
        if (end == item || *end != '=' || member->replica == 0 || member->replica > 65535 ||
            config_parse_address(end + 1, host, &port) != 0 || strlen(end + 1) > LIMIT_NAME_BYTES) {
            return program_refuse(
                &program, "group: \"%s\" is not <replica>=<host>:<port>, such as 1=10.0.0.1:10010",
                item);
        }
        snprintf(member->address, sizeof member->address, "%s", end + 1);
        for (size_t k = 0; k < i; k++) {
            if (c->members[k].replica == member->replica) {
                return program_refuse(&program, "group: replica %" PRIu64 " is listed twice",
                                      member->replica);
            }
        }
        self = self || member->replica == (uint64_t)c->settings.replica;
    }
    c->member_count = (uint32_t)c->settings.group.count;
    if (c->settings.raft_heartbeat_ms >= c->settings.election_ms) {
        return program_refuse(
            &program, "raft.heartbeat: %" PRIu64 " ms is not below raft.election, %" PRIu64 " ms",
            c->settings.raft_heartbeat_ms, c->settings.election_ms);
    }
    if (c->settings.join && c->member_count < 2) {
        return program_refuse(
            &program, "join: group lists nobody to join: add the cloudcores that are there");
    }
    if (!self) {
        return program_refuse(&program,
                              "group: replica %" PRIi64 ", which is this one, is not listed",
                              c->settings.replica);
    }
    return 0;
}

static int open_contexts(struct cloudcore *c)
{
    const struct link_files files = {
        .authority = c->settings.authority,
        .certificate = c->settings.certificate,
        .key = c->settings.key,
    };
    char reason[LINK_REASON_BYTES];
    if (link_context_open(LINK_DIAL, &files, &c->dial_context, reason) != 0 ||
        link_context_open(LINK_LISTEN_REQUIRE, &files, &c->peer_context, reason) != 0 ||
        link_context_open(LINK_LISTEN_REQUIRE, &files, &c->hub_context, reason) != 0 ||
        link_context_open(LINK_LISTEN_REQUEST, &files, &c->api_context, reason) != 0) {
        return program_refuse(
            &program,
            "%s\n  make certificates with `kelp pki server`, or name others under tls: in "
            "the configuration",
            reason);
    }
    const int32_t days = link_context_days(c->hub_context);
    if (days < 30) {
        logger_warn("certificate_ends", "days=%d file=%s", days, c->settings.certificate);
    }
    return 0;
}

/* The number of this start: part of the origin of commands, it must rise and never repeat. Counted
 * in the data directory; and not below the clock, since a replica that lost its disk counts from
 * one again, while the state that the others give it back knows of its later starts and refuses
 * everything from earlier ones. */
static int count_boot(struct cloudcore *c, uint32_t *out)
{
    uint8_t *data = NULL;
    size_t size = 0;
    int status = log_file_get(&c->log, "boots", &data, &size);
    if (status != 0 && status != -ENOENT) {
        return status;
    }
    const uint32_t boots = status == 0 && size == 4 ? get_le32(data) : 0;
    free(data);
    const int64_t clock_s = now().wall_ms / 1000;
    const uint32_t number =
        clock_s > (int64_t)boots && clock_s <= UINT32_MAX ? (uint32_t)clock_s : boots + 1;
    uint8_t next[4];
    put_le32(next, number);
    const struct bytes piece = bytes_of(next, sizeof next);
    status = log_file_put(&c->log, "boots", &piece, 1);
    *out = number;
    return status;
}

/* Whether the log of this state is gone. Asked before one is made, so that each start finds it so. */
static bool state_lacks_log(const char *data, const struct state_place *place)
{
    char meta[1024];
    snprintf(meta, sizeof meta, "%s/log/meta", data);
    return access(meta, F_OK) != 0 && errno == ENOENT && state_place_exists(place);
}

static int open_state(struct cloudcore *c)
{
    const char *data = c->settings.data;
    char path[1024];
    c->disk = disk_uv_new(&c->loop);
    CHECK(c->disk != NULL);
    disk_uv_on_job(c->disk, on_job, c);
    const int made = disk_make_directory(disk_uv_disk(c->disk), data);
    if (made != 0) {
        return program_refuse(&program, "cannot make the data directory %s: %s", data,
                              status_text(made));
    }
    const int placed = state_place_open(&c->place, data);
    if (placed != 0) {
        return program_refuse(&program, "%s/state.current cannot be read: %s", data,
                              status_text(placed));
    }
    snprintf(path, sizeof path, "%s/log.next", data);
    if (state_lacks_log(data, &c->place) && access(path, F_OK) == 0) {
        return program_refuse(
            &program,
            "%s: an attempt to recover was interrupted\n  finish it: kelp cluster recover "
            "%s --keep %" PRIi64 " --yes",
            data, data, c->settings.replica);
    }
    if (state_lacks_log(data, &c->place)) {
        return program_refuse(
            &program,
            "%s is there, but the log that belongs to it is not: this replica has forgotten "
            "whom it voted for\n  bring %s/log back; or move %s away, start again, and run "
            "`kelp cluster replace %" PRIi64 "`: the others give it their state",
            state_place_current(&c->place), data, data, c->settings.replica);
    }
    space_open(&c->space, data, c->settings.reserve_bytes);
    snprintf(path, sizeof path, "%s/log", data);
    struct log_options options = {.directory = path,
                                  .history_bytes = c->settings.history_bytes,
                                  .history_ms = c->settings.history_ms,
                                  .limit_bytes = c->settings.limit_bytes};
    tag_owner("cloudcore", c->name, options.owner);
    struct log_recovery recovery;
    int status = log_open(&c->log, disk_uv_disk(c->disk), &options, &recovery);
    if (status == STATUS_LOCKED) {
        return program_refuse(&program, "%s is in use by another cloudcore", data);
    }
    if (status == STATUS_FOREIGN) {
        return program_refuse(
            &program,
            "%s is not of %s: %s\n  it belongs to another cloudcore, or was written by a newer "
            "release: bring the right directory back, or empty it and run `kelp cluster replace "
            "%" PRIi64 "`",
            data, c->name, recovery.message == NULL ? status_text(status) : recovery.message,
            c->settings.replica);
    }
    program_note(&program, data, "the log cannot be opened", path, status);
    if (status != 0 && status != STATUS_CORRUPT) {
        return program_refuse(
            &program, "the log in %s cannot be opened: %s%s%s", path, status_text(status),
            status_is_fault(status) ? "\n  starts are read-only until it is resolved: mend the "
                                      "disk, run kelp resolve --yes "
                                    : "",
            status_is_fault(status) ? data : "");
    }
    if (status != 0) {
        return program_refuse(
            &program,
            "the log in %s cannot be opened: %s: %s (%s, offset %" PRIu64 ")\n"
            "  `kelp log salvage %s` tells whether anything acknowledged is lost; if so, rebuild "
            "this replica from the others rather than mend it",
            path, status_text(status), recovery.message == NULL ? "" : recovery.message,
            recovery.path, recovery.damage_offset, data);
    }
    c->log_opened = true;
    logger_info("log_opened",
                "directory=%s first=%" PRIu64 " next=%" PRIu64 " segments=%u "
                "cut_bytes=%" PRIu64,
                path, recovery.index_first, recovery.index_next, recovery.segments,
                recovery.cut_bytes);

    if (recovery.created) {
        /* A copy that was begun for another log is none of ours. */
        (void)store_rocks_destroy(state_place_other(&c->place));
    }
    const char *state = state_place_current(&c->place);
    status = store_at(state, &c->store);
    if (status != 0) {
        if (strstr(store_error(c->store), "IO error") != NULL) {
            program_note(&program, data, "the state cannot be opened", state, status);
        }
        return program_refuse(&program, "the state in %s cannot be opened: %s: %s", state,
                              status_text(status), store_error(c->store));
    }
    return 0;
}

static int open_core(struct cloudcore *c)
{
    uint32_t boots;
    int status = count_boot(c, &boots);
    if (status != 0) {
        return program_refuse(&program, "cannot count this start in %s: %s", c->settings.data,
                              status_text(status));
    }
    for (uint32_t i = 0; i < c->member_count; i++) {
        c->core_peers[i] = (struct cloud_core_peer){c->members[i].replica, c->members[i].address};
    }
    uint64_t seed;
    char key[IDENTITY_PIN_BYTES] = "";
    tag_random(&seed, sizeof seed);
    (void)identity_key_of_file(c->settings.certificate, key); /* open_contexts has read it */
    const struct cloud_core_config config = {
        .replica = (uint64_t)c->settings.replica,
        .boot_count = boots,
        .name = c->name,
        .peers = c->core_peers,
        .peer_count = c->member_count,
        .joins = c->settings.join,
        .software = KELP_VERSION,
        .level = MACHINE_LEVEL,
        .key = key,
        .seed = seed,
        .heartbeat_ms = (uint32_t)c->settings.heartbeat_ms,
        .unreachable_ms = (uint32_t)c->settings.unreachable_ms,
        .propose_ms = (uint32_t)c->settings.propose_ms,
        .election_ms = (uint32_t)c->settings.election_ms,
        .raft_heartbeat_ms = (uint32_t)c->settings.raft_heartbeat_ms,
        .snapshot_bytes = c->settings.snapshot_bytes,
        .transfer_bytes = c->settings.transfer_rate,
    };
    static const struct cloud_core_objects objects = {
        .build_node = api_build_node,
        .build_binding = api_build_binding,
        .build_event = api_build_event,
        .pod_fits = api_pod_fits,
        .build_namespace = api_build_namespace,
    };
    const struct cloud_core_ops ops = {
        .context = c,
        .send_peer = on_send_peer,
        .send_session = on_send_session,
        .session_room = on_session_room,
        .close_session = on_close_session,
        .log = on_log,
        .random = on_random,
        .tag = on_tag,
        .clock_us = on_clock_us,
        .run = on_run,
        .fatal = on_fatal,
        .peers = on_peers,
        .removed = on_removed,
        .staging_open = on_staging_open,
        .staging_adopt = on_staging_adopt,
        .staging_drop = on_staging_drop,
    };
    char reason[256];
    status = cloud_core_open(&config, &objects, &ops, c->store, &c->log, now(), &c->core, reason);
    char path[LIMIT_LOG_PATH_BYTES];
    uint64_t offset;
    if (status == STATUS_CORRUPT && log_damage(&c->log, path, &offset)) {
        return program_refuse(
            &program,
            "cannot start on %s: %s is damaged at offset %" PRIu64 ": %s\n"
            "  `kelp log salvage %s` tells whether anything acknowledged is lost; if so, rebuild "
            "this replica from the others rather than mend it",
            c->settings.data, path, offset, reason, c->settings.data);
    }
    if (status == -EIO) {
        program_note(&program, c->settings.data, "the state cannot be replayed from the log",
                     c->settings.data, status);
    }
    if (status != 0) {
        return program_refuse(&program, "cannot start on %s: %s: %s", c->settings.data,
                              status_text(status), reason);
    }
    snprintf(c->cluster, sizeof c->cluster, "%s", cloud_core_report(c->core).cluster);
    set_space(c);
    c->api = api_open(cloud_core_backend(c->core));
    c->join_door = (struct join_door){.core = c->core,
                                      .api = c->api,
                                      .authority = c->settings.authority,
                                      .authority_key = c->settings.authority_key,
                                      .certificate = c->settings.certificate};
    c->namespaces = namespaces_open(c->api, cloud_core_backend(c->core));
    c->devices = devices_open(cloud_core_backend(c->core));
    return 0;
}

static int listen_all(struct cloudcore *c)
{
    char reason[LINK_REASON_BYTES];
    const struct settings *s = &c->settings;
    if (peers_open(&c->loop, c->peer_context, c->dial_context, s->peer_listen.host,
                   s->peer_listen.port, (uint64_t)s->replica, &peers_events, c, &c->peers,
                   reason) != 0) {
        return program_refuse(&program, "peer.listen: %s", reason);
    }
    if (hub_open(&c->loop, c->hub_context, s->hub_listen.host, s->hub_listen.port, &hub_events, c,
                 &c->hub, reason) != 0) {
        return program_refuse(&program, "hub.listen: %s", reason);
    }
    c->backup = (struct backup_door){.loop = &c->loop,
                                     .core = c->core,
                                     .software = KELP_VERSION,
                                     .rate_bytes = c->settings.transfer_rate};
    if (api_server_open(&c->loop, c->api_context, s->api_listen.host, s->api_listen.port, c->api,
                        &api_events, c, &c->api_server, reason) != 0) {
        return program_refuse(&program, "api.listen: %s", reason);
    }
    char path[1024];
    snprintf(path, sizeof path, "%s/control", s->data);
    const char *control = s->control[0] == 0 ? path : s->control;
    const int status = control_open(&c->control, &c->loop, control, on_report, c);
    if (status != 0) {
        return program_refuse(&program, "control: cannot listen at %s: %s", control,
                              status_text(status));
    }
    return 0;
}

static int listen_metrics(struct cloudcore *c)
{
    const struct monitor_door door = {.owner = c, .metrics = on_metrics, .health = on_health};
    char reason[CONFIG_REASON_BYTES];
    return monitor_listen(&c->loop, c->settings.metrics_listen, &door, NULL, reason) == 0
               ? 0
               : program_refuse(&program, "metrics.listen: %s", reason);
}

/* The disk has failed: the API says so, nothing else is listened to. Edges go to the other replicas. */
static int run_readonly(struct cloudcore *c)
{
    char reason[LINK_REASON_BYTES];
    if (api_readonly_open(&c->loop, c->api_context, c->settings.api_listen.host,
                          c->settings.api_listen.port, c->readonly.reason, reason) != 0) {
        return program_refuse(&program, "api.listen: %s", reason);
    }
    return readonly_run(&c->readonly);
}

/* As many files as this process may have: each edge, watch and client is one. */
static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return;
    }
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_max < LIMIT_SESSIONS) {
        logger_warn("files_short",
                    "limit=%llu reason=a cloudcore takes up to %u edges when it may open "
                    "that many files: raise LimitNOFILE",
                    (unsigned long long)limit.rlim_max, LIMIT_SESSIONS);
    }
}

static int start_loop(struct cloudcore *c)
{
    uv_timer_init(&c->loop, &c->core_timer);
    uv_timer_init(&c->loop, &c->second_timer);
    uv_timer_init(&c->loop, &c->stop_timer);
    uv_prepare_init(&c->loop, &c->prepare);
    uv_check_init(&c->loop, &c->check);
    c->second_timer.data = c;
    c->prepare.data = c;
    uv_timer_start(&c->second_timer, on_second, 1000, 1000);
    uv_prepare_start(&c->prepare, on_prepare);
    c->check.data = c;
    uv_check_start(&c->check, on_check);
    static const int numbers[] = {SIGTERM, SIGINT};
    for (size_t i = 0; i < 2; i++) {
        uv_signal_init(&c->loop, &c->signals[i]);
        c->signals[i].data = c;
        const int status = uv_signal_start(&c->signals[i], on_signal, numbers[i]);
        if (status != 0) {
            return program_refuse(&program, "cannot watch signals: %s", status_text(status));
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    static struct cloudcore cloudcore;
    struct cloudcore *c = &cloudcore;
    const int exit_code = program_begin(&program, argc, argv, &c->settings);
    if (exit_code != PROGRAM_RUN) {
        return exit_code;
    }
    logger_set(c->settings.log_level, c->settings.log_format, NULL);
    raise_file_limit();
    snprintf(c->name, sizeof c->name, "cloudcore-%" PRIi64, c->settings.replica);
    CHECK(uv_loop_init(&c->loop) == 0);
    c->readonly = (struct readonly){.loop = &c->loop,
                                    .program = program.name,
                                    .name = c->name,
                                    .data = c->settings.data,
                                    .control = c->settings.control};
    int failed = read_group(c);
    failed = failed ? failed : open_contexts(c);
    if (!failed && readonly_find(&c->readonly)) {
        return run_readonly(c);
    }
    failed = failed ? failed : open_state(c);
    failed = failed ? failed : open_core(c);
    failed = failed ? failed : listen_all(c);
    failed = failed ? failed : listen_metrics(c);
    failed = failed ? failed : start_loop(c);
    if (failed) {
        return failed;
    }
    logger_info("cloudcore_started", "version=%s name=%s api=%s:%u hub=%s:%u data=%s", KELP_VERSION,
                c->name, c->settings.api_listen.host, c->settings.api_listen.port,
                c->settings.hub_listen.host, c->settings.hub_listen.port, c->settings.data);
    uv_run(&c->loop, UV_RUN_DEFAULT);
    return 0;
}
