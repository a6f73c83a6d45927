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
#include "nodes/cloudcore_inner.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "nodes/cloud/api_readonly.h"
#include "nodes/cloud/cluster_door.h"
#include "nodes/net/identity_tls.h"
#include "nodes/tag_tls.h"
#include "statemachine/machine.h"

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
const struct program cloudcore_program = {
    .name = "cloudcore",
    .about = "One member of Kelp's control plane: the Kubernetes API for people, a durable log "
             "for every edge node.",
    .table = &table,
};

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
                &cloudcore_program,
                "group: \"%s\" is not <replica>=<host>:<port>, such as 1=10.0.0.1:10010", item);
        }
        snprintf(member->address, sizeof member->address, "%s", end + 1);
        for (size_t k = 0; k < i; k++) {
            if (c->members[k].replica == member->replica) {
                return program_refuse(&cloudcore_program,
                                      "group: replica %" PRIu64 " is listed twice",
                                      member->replica);
            }
        }
        self = self || member->replica == (uint64_t)c->settings.replica;
    }
    c->member_count = (uint32_t)c->settings.group.count;
    if (c->settings.raft_heartbeat_ms >= c->settings.election_ms) {
        return program_refuse(&cloudcore_program,
                              "raft.heartbeat: %" PRIu64 " ms is not below raft.election, %" PRIu64
                              " ms",
                              c->settings.raft_heartbeat_ms, c->settings.election_ms);
    }
    if (c->settings.join && c->member_count < 2) {
        return program_refuse(
            &cloudcore_program,
            "join: group lists nobody to join: add the cloudcores that are there");
    }
    if (!self) {
        return program_refuse(&cloudcore_program,
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
            &cloudcore_program,
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
    const int64_t clock_s = cloudcore_now().wall_ms / 1000;
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
    disk_uv_on_job(c->disk, cloudcore_on_job, c);
    const int made = disk_make_directory(disk_uv_disk(c->disk), data);
    if (made != 0) {
        return program_refuse(&cloudcore_program, "cannot make the data directory %s: %s", data,
                              status_text(made));
    }
    const int placed = state_place_open(&c->place, data);
    if (placed != 0) {
        return program_refuse(&cloudcore_program, "%s/state.current cannot be read: %s", data,
                              status_text(placed));
    }
    snprintf(path, sizeof path, "%s/log.next", data);
    if (state_lacks_log(data, &c->place) && access(path, F_OK) == 0) {
        return program_refuse(
            &cloudcore_program,
            "%s: an attempt to recover was interrupted\n  finish it: kelp cluster recover "
            "%s --keep %" PRIi64 " --yes",
            data, data, c->settings.replica);
    }
    if (state_lacks_log(data, &c->place)) {
        return program_refuse(
            &cloudcore_program,
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
        return program_refuse(&cloudcore_program, "%s is in use by another cloudcore", data);
    }
    if (status == STATUS_FOREIGN) {
        return program_refuse(
            &cloudcore_program,
            "%s is not of %s: %s\n  it belongs to another cloudcore, or was written by a newer "
            "release: bring the right directory back, or empty it and run `kelp cluster replace "
            "%" PRIi64 "`",
            data, c->name, recovery.message == NULL ? status_text(status) : recovery.message,
            c->settings.replica);
    }
    program_note(&cloudcore_program, data, "the log cannot be opened", path, status);
    if (status != 0 && status != STATUS_CORRUPT) {
        return program_refuse(
            &cloudcore_program, "the log in %s cannot be opened: %s%s%s", path, status_text(status),
            status_is_fault(status) ? "\n  starts are read-only until it is resolved: mend the "
                                      "disk, run kelp resolve --yes "
                                    : "",
            status_is_fault(status) ? data : "");
    }
    if (status != 0) {
        return program_refuse(
            &cloudcore_program,
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
    status = cloudcore_store_open(state, &c->store);
    if (status != 0) {
        if (strstr(store_error(c->store), "IO error") != NULL) {
            program_note(&cloudcore_program, data, "the state cannot be opened", state, status);
        }
        return program_refuse(&cloudcore_program, "the state in %s cannot be opened: %s: %s", state,
                              status_text(status), store_error(c->store));
    }
    return 0;
}

static int open_core(struct cloudcore *c)
{
    uint32_t boots;
    int status = count_boot(c, &boots);
    if (status != 0) {
        return program_refuse(&cloudcore_program, "cannot count this start in %s: %s",
                              c->settings.data, status_text(status));
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
    const struct cloud_core_ops ops = cloudcore_ops(c);
    char reason[256];
    status = cloud_core_open(&config, &objects, &ops, c->store, &c->log, cloudcore_now(), &c->core,
                             reason);
    char path[LIMIT_LOG_PATH_BYTES];
    uint64_t offset;
    if (status == STATUS_CORRUPT && log_damage(&c->log, path, &offset)) {
        return program_refuse(
            &cloudcore_program,
            "cannot start on %s: %s is damaged at offset %" PRIu64 ": %s\n"
            "  `kelp log salvage %s` tells whether anything acknowledged is lost; if so, rebuild "
            "this replica from the others rather than mend it",
            c->settings.data, path, offset, reason, c->settings.data);
    }
    if (status == -EIO) {
        program_note(&cloudcore_program, c->settings.data,
                     "the state cannot be replayed from the log", c->settings.data, status);
    }
    if (status != 0) {
        return program_refuse(&cloudcore_program, "cannot start on %s: %s: %s", c->settings.data,
                              status_text(status), reason);
    }
    snprintf(c->cluster, sizeof c->cluster, "%s", cloud_core_report(c->core).cluster);
    cloudcore_set_space(c);
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
                   s->peer_listen.port, (uint64_t)s->replica, &cloudcore_peers_events, c, &c->peers,
                   reason) != 0) {
        return program_refuse(&cloudcore_program, "peer.listen: %s", reason);
    }
    if (hub_open(&c->loop, c->hub_context, s->hub_listen.host, s->hub_listen.port,
                 &cloudcore_hub_events, c, &c->hub, reason) != 0) {
        return program_refuse(&cloudcore_program, "hub.listen: %s", reason);
    }
    c->backup = (struct backup_door){.loop = &c->loop,
                                     .core = c->core,
                                     .software = KELP_VERSION,
                                     .rate_bytes = c->settings.transfer_rate};
    if (api_server_open(&c->loop, c->api_context, s->api_listen.host, s->api_listen.port, c->api,
                        &cloudcore_api_events, c, &c->api_server, reason) != 0) {
        return program_refuse(&cloudcore_program, "api.listen: %s", reason);
    }
    char path[1024];
    snprintf(path, sizeof path, "%s/control", s->data);
    const char *control = s->control[0] == 0 ? path : s->control;
    const int status = control_open(&c->control, &c->loop, control, cloudcore_on_report, c);
    if (status != 0) {
        return program_refuse(&cloudcore_program, "control: cannot listen at %s: %s", control,
                              status_text(status));
    }
    return 0;
}

static int listen_metrics(struct cloudcore *c)
{
    const struct monitor_door door = cloudcore_monitor_door(c);
    char reason[CONFIG_REASON_BYTES];
    return monitor_listen(&c->loop, c->settings.metrics_listen, &door, NULL, reason) == 0
               ? 0
               : program_refuse(&cloudcore_program, "metrics.listen: %s", reason);
}

/* The disk has failed: the API says so, nothing else is listened to. Edges go to the other replicas. */
static int run_readonly(struct cloudcore *c)
{
    char reason[LINK_REASON_BYTES];
    if (api_readonly_open(&c->loop, c->api_context, c->settings.api_listen.host,
                          c->settings.api_listen.port, c->readonly.reason, reason) != 0) {
        return program_refuse(&cloudcore_program, "api.listen: %s", reason);
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

int main(int argc, char **argv)
{
    static struct cloudcore cloudcore;
    struct cloudcore *c = &cloudcore;
    const int exit_code = program_begin(&cloudcore_program, argc, argv, &c->settings);
    if (exit_code != PROGRAM_RUN) {
        return exit_code;
    }
    logger_set(c->settings.log_level, c->settings.log_format, NULL);
    raise_file_limit();
    snprintf(c->name, sizeof c->name, "cloudcore-%" PRIi64, c->settings.replica);
    CHECK(uv_loop_init(&c->loop) == 0);
    c->readonly = (struct readonly){.loop = &c->loop,
                                    .program = cloudcore_program.name,
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
    failed = failed ? failed : cloudcore_loop_start(c);
    if (failed) {
        return failed;
    }
    logger_info("cloudcore_started", "version=%s name=%s api=%s:%u hub=%s:%u data=%s", KELP_VERSION,
                c->name, c->settings.api_listen.host, c->settings.api_listen.port,
                c->settings.hub_listen.host, c->settings.hub_listen.port, c->settings.data);
    uv_run(&c->loop, UV_RUN_DEFAULT);
    return 0;
}
