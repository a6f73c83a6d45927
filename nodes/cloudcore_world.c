/* Both sides of the core: what it asks of sockets, disks, clocks and the pool, and what comes in from the doors:
 * frames, sessions, requests, and whoever watches.
 */
#include "nodes/cloudcore_inner.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nodes/cloud/cluster_door.h"
#include "nodes/tag_tls.h"
#include "statemachine/delivery.h"
#include "statemachine/machine.h"

/* -- what the core asks of the world ---------------------------------------------------------- */

static int on_send_peer(void *context, uint64_t replica, struct bytes frame)
{
    struct cloudcore *c = context;
    return c->peers == NULL ? -ENOTCONN : peers_send(c->peers, replica, frame);
}

static bool on_peer_room(void *context, uint64_t replica)
{
    struct cloudcore *c = context;
    return c->peers != NULL && peers_room(c->peers, replica);
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

__attribute__((noreturn)) void cloudcore_fatal(void *context, int status, const char *message)
{
    const struct cloudcore *c = context;
    const int log_failed = log_status(&c->log);
    char path[STATE_PLACE_BYTES];
    snprintf(path, sizeof path, "%s/log", c->settings.data);
    program_fail(&cloudcore_program, c->settings.data, message,
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

void cloudcore_run(void *context, struct replica_work *work)
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

int cloudcore_store_open(const char *path, struct store **out)
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
        status = cloudcore_store_open(path, &store);
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
    cloud_core_on_peer(c->core, replica, frame, cloudcore_now());
}

static void on_peer_connected(void *owner, uint64_t replica)
{
    struct cloudcore *c = owner;
    cloud_core_peer_connected(c->core, replica);
}

static void on_peer_lost(void *owner, uint64_t replica)
{
    struct cloudcore *c = owner;
    cloud_core_peer_lost(c->core, replica, cloudcore_now());
}

static bool on_peer_key(void *owner, uint64_t replica, const char *key)
{
    struct cloudcore *c = owner;
    return cloud_core_hears_key(c->core, replica, key);
}

static void on_peer_shut_out(void *owner, uint64_t replica)
{
    struct cloudcore *c = owner;
    cloud_core_shut_out(c->core, replica, cloudcore_now());
}

static void on_peers_close(void *owner)
{
    struct cloudcore *c = owner;
    c->peers = NULL;
}

static int on_hub_open(void *owner, uint64_t session, const char *node)
{
    struct cloudcore *c = owner;
    return cloud_core_session_open(c->core, session, node, cloudcore_now());
}

static void on_hub_frame(void *owner, uint64_t session, struct bytes frame)
{
    struct cloudcore *c = owner;
    cloud_core_on_session(c->core, session, frame, cloudcore_now());
}

static void on_hub_writable(void *owner, uint64_t session)
{
    struct cloudcore *c = owner;
    cloud_core_session_writable(c->core, session);
}

static void on_hub_closed(void *owner, uint64_t session)
{
    struct cloudcore *c = owner;
    cloud_core_session_closed(c->core, session, cloudcore_now());
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

void cloudcore_on_job(void *context, enum disk_lane lane, uint64_t us)
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
    metrics_process(page, cloudcore_program.name, c->name);
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

const struct api_server_events cloudcore_api_events = {
    .serve = on_serve,
    .report_node = on_report_node,
    .metrics = on_metrics,
    .health = on_health,
    .on_close = on_api_close,
};
const struct peers_events cloudcore_peers_events = {
    .on_frame = on_peer_frame,
    .on_connected = on_peer_connected,
    .on_lost = on_peer_lost,
    .on_key = on_peer_key,
    .on_shut_out = on_peer_shut_out,
    .on_close = on_peers_close,
};
const struct hub_events cloudcore_hub_events = {
    .on_open = on_hub_open,
    .on_frame = on_hub_frame,
    .on_writable = on_hub_writable,
    .on_closed = on_hub_closed,
    .on_close = on_hub_close,
};

size_t cloudcore_on_report(void *owner, char *buffer, size_t size)
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

struct cloud_core_ops cloudcore_ops(struct cloudcore *c)
{
    return (struct cloud_core_ops){
        .context = c,
        .send_peer = on_send_peer,
        .peer_room = on_peer_room,
        .send_session = on_send_session,
        .session_room = on_session_room,
        .close_session = on_close_session,
        .log = on_log,
        .random = on_random,
        .tag = on_tag,
        .clock_us = on_clock_us,
        .run = cloudcore_run,
        .fatal = cloudcore_fatal,
        .peers = on_peers,
        .removed = on_removed,
        .staging_open = on_staging_open,
        .staging_adopt = on_staging_adopt,
        .staging_drop = on_staging_drop,
    };
}

struct monitor_door cloudcore_monitor_door(struct cloudcore *c)
{
    return (struct monitor_door){.owner = c, .metrics = on_metrics, .health = on_health};
}
