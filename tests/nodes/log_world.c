/* The directories of a cloudcore and an edgecore as they are after a small story, for the tests of
 * `kelp log`: logs and states made by the real log, store and machines, nothing between them but bytes.
 *
 *     log_world DIR [N]      DIR/cloud and DIR/edge, each with log and state; with N reports more, which
 *                            fill segments, and DIR/edge/state.half as it was after half of them
 *     log_world DIR --more   the same, and what the second part of the story adds
 *     log_world DIR --devices  the story, and then one of devices, with DIR/edge/state.half as it was when the link
 *                            went down
 *     log_world --start DIR  open an edge's directory as edgecore does, fold what the state lacks, and
 *                            print where it stands; exit 1 when edgecore would refuse to start
 *
 * The story: a node, a config map, a secret and a pod `web` that names them; all of it reaches the edge,
 * the pod is started, and its report reaches the cloud. Then the link is down: `gone`, which was shipped
 * too, is removed, `late` is bound to the node, `loose` has no node, and the edge records that `web`
 * failed without being able to tell. The second part: the link is there for a moment and `web` gets a
 * label, which changes nothing of what runs; then it is down again and the config map is deleted, and a namespace with
 * what is in it; last, `again` is deleted and made again.
 *
 * The one of devices: `thermo` is wished to be at 25, its mapper says 24, and that reaches the cloud; then it says 25,
 * and the link is down. Somebody says something for the cloud alone. `heater` was wished to be at 25 too, and then a
 * client of the broker wished 40, which is what it says. `idle` has no node.
 */
#include "log/disk_uv.h"
#include "log/log.h"
#include "schemas/check.h"
#include "schemas/codec.h"
#include "statemachine/delivery.h"
#include "statemachine/edge.h"
#include "statemachine/machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <uv.h>

#define TIME_MS    1763640000000 /* 2025-11-20T12:00:00Z */
#define UP_STREAM  77u
#define EDGE_OWNER "edgecore of tes"

static struct disk_uv *uv;
static struct log cloud_log, edge_log;
static struct store *cloud_store, *edge_store;
static struct machine machine;
static struct edge_machine *edge;
static struct codec *codec;
static int64_t clock_ms = TIME_MS;
static const char *user; /* of the next records */
static uint64_t sequence;
static uint64_t epoch;

static void on_durable(struct log_request *request, int status)
{
    CHECK(status == 0);
    *(bool *)request->context = true;
}

static uint64_t append(struct log *log, uint64_t term, uint8_t type, struct bytes payload)
{
    bool durable = false;
    struct log_request request = {.callback = on_durable, .context = &durable};
    const struct log_entry entry = {
        .term = term, .type = type, .piece_count = payload.size > 0, .pieces = &payload};
    CHECK(log_append(log, &request, &entry, 1) == 0);
    while (!durable) {
        uv_run(uv_default_loop(), UV_RUN_ONCE);
    }
    return request.index;
}

static struct bytes record_of(uint16_t kind, const char *key, const char *origin, struct bytes body)
{
    struct bytes bytes;
    clock_ms += 1000;
    const struct record record = {.kind = kind,
                                  .key = key,
                                  .origin = origin,
                                  .time_ms = clock_ms,
                                  .trace = 0,
                                  .body = body,
                                  .user = user};
    CHECK(codec_record_build(codec, &record, &bytes) == 0);
    return bytes;
}

/* One record through the cloud's log and into its state; answers the value of its result. */
static uint64_t cloud(uint16_t kind, const char *key, const char *origin, struct bytes body)
{
    const struct bytes record = record_of(kind, key, origin, body);
    sequence++;
    const struct command command = {.time_ms = clock_ms,
                                    .origin = (uint64_t)1 << 32 | 1,
                                    .sequence = sequence,
                                    .records = &record,
                                    .record_count = 1};
    struct bytes bytes;
    CHECK(codec_command_build(codec, &command, &bytes) == 0);
    const struct machine_applied *applied;
    const uint64_t index = append(&cloud_log, 1, LOG_TYPE_COMMAND, bytes);
    CHECK(machine_apply(&machine, index, bytes, &applied) == 0);
    CHECK(applied->result_count == 1);
    CHECK(outcome_accepted(applied->results[0].outcome));
    return applied->results[0].value;
}

static void at_edge(uint8_t type, uint16_t kind, const char *key, struct bytes body)
{
    const struct bytes record = record_of(kind, key, type == LOG_TYPE_DOWN ? "" : "edge-1", body);
    struct edge_applied applied;
    const uint64_t index = append(&edge_log, 0, type, record);
    CHECK(edge_machine_apply(edge, index, record, &applied) == 0);
    CHECK(applied.outcome == EDGE_ACCEPTED);
    CHECK(!applied.digest_differs);
}

static struct tag tag_of(const char *text)
{
    struct tag tag = {1, 2};
    for (const char *p = text; *p != '\0'; p++) {
        tag.low = (tag.low ^ (uint8_t)*p) * 1099511628211u;
    }
    return tag;
}

static void put(const char *resource, const char *kind, const char *namespace, const char *name,
                const char *node, const struct reference *names, uint32_t count, const char *json)
{
    const char *key = codec_print(codec, "/%s/%s/%s", resource, namespace, name);
    const struct object_put body = {
        .mode = PUT_CREATE,
        .object = {.version = "v1",
                   .kind = kind,
                   .resource = resource,
                   .namespace_ = namespace,
                   .name = name,
                   .uid = codec_print(codec, "uid-%s", name),
                   .node_name = node,
                   .references = names,
                   .reference_count = count,
                   .tag = tag_of(key),
                   .json = bytes_text(json)},
    };
    struct bytes bytes;
    CHECK(codec_object_put_build(codec, &body, &bytes) == 0);
    (void)cloud(RECORD_OBJECT_PUT, key, "cloudcore-1", bytes);
}

static void ship_snapshot(void)
{
    struct delivery_snapshot snapshot;
    struct bytes bytes;
    bool end = false;
    CHECK(delivery_snapshot_open(&snapshot, cloud_store, "edge-1", 1, false) == 0);
    const struct snapshot begin = {.stream = snapshot.node.down_stream,
                                   .position = snapshot.node.down_tip,
                                   .id = 1,
                                   .step = SNAPSHOT_BEGIN};
    CHECK(codec_snapshot_build(codec, &begin, &bytes) == 0);
    at_edge(LOG_TYPE_DOWN, RECORD_SNAPSHOT, "", bytes);
    while (!end) {
        CHECK(delivery_snapshot_next(&snapshot, codec, 100000, &bytes, &end) == 0);
        at_edge(LOG_TYPE_DOWN, RECORD_SNAPSHOT, "", bytes);
    }
    delivery_snapshot_close(&snapshot);
}

static void acknowledge_down(void)
{
    const struct edge_meta *meta = edge_machine_meta(edge);
    const struct down_ack ack = {.node = "edge-1",
                                 .epoch = epoch,
                                 .stream = meta->down_stream,
                                 .position = meta->down_position};
    struct bytes bytes;
    CHECK(codec_down_ack_build(codec, &ack, &bytes) == 0);
    (void)cloud(RECORD_DOWN_ACK, "/nodes//edge-1", "cloudcore-1", bytes);
}

static void ship_down(void)
{
    const struct edge_meta *meta = edge_machine_meta(edge);
    struct bytes bytes;
    uint64_t last;
    while (delivery_read(store_live(cloud_store), codec, "edge-1", meta->down_stream,
                         meta->down_position, 100000, &bytes, &last) == DELIVERY_BATCH) {
        at_edge(LOG_TYPE_DOWN, RECORD_DOWN_BATCH, "", bytes);
    }
    acknowledge_down();
}

static void ship_up(void)
{
    struct batch batch;
    struct bytes bytes;
    CHECK(edge_up_read(edge, edge_machine_meta(edge)->up_acked, 100000, codec, &batch) == 0);
    batch.epoch = epoch;
    CHECK(codec_batch_build(codec, &batch, &bytes) == 0);
    const uint64_t position = cloud(RECORD_UP_BATCH, "/nodes//edge-1", "cloudcore-1", bytes);
    const struct down_ack ack = {.node = "edge-1", .stream = UP_STREAM, .position = position};
    CHECK(codec_down_ack_build(codec, &ack, &bytes) == 0);
    at_edge(LOG_TYPE_UP, RECORD_UP_ACK, "", bytes);
}

static void attempt(const char *container)
{
    const struct pod_attempt body = {
        .uid = "uid-web", .container = container, .hash = 0xabcdef, .time_ms = clock_ms};
    struct bytes bytes;
    CHECK(codec_pod_attempt_build(codec, &body, &bytes) == 0);
    at_edge(LOG_TYPE_UP, RECORD_POD_ATTEMPT, "/pods/default/web", bytes);
}

static void report(uint8_t phase, uint8_t state, const char *reason)
{
    const struct container_status container = {.name = "web",
                                               .image = "nginx:1.25",
                                               .state = state,
                                               .reason = reason,
                                               .exit_code = state == CONTAINER_TERMINATED ? 1 : 0,
                                               .started_ms = clock_ms};
    const struct pod_status status = {.uid = "uid-web",
                                      .phase = phase,
                                      .pod_ip = "10.88.0.7",
                                      .observed_generation = 1,
                                      .containers = &container,
                                      .container_count = 1};
    struct bytes bytes;
    CHECK(codec_pod_status_build(codec, &status, &bytes) == 0);
    at_edge(LOG_TYPE_UP, RECORD_POD_STATUS, "/pods/default/web", bytes);
}

/* A snapshot of raft up to this index, as far as a reader of its index looks at it. */
static void take_snapshot(uint64_t index)
{
    uint8_t file[48] = {'K', 'L', 'P', 'S', 1};
    put_le64(file + 8, index);
    const struct bytes piece = bytes_of(file, sizeof file);
    CHECK(log_file_put(&cloud_log, "snapshot", &piece, 1) == 0);
}

static const struct reference references[] = {{.resource = "configmaps", .name = "settings"},
                                              {.resource = "secrets", .name = "password"}};

static void story(void)
{
    struct bytes bytes;
    (void)append(&cloud_log, 1, LOG_TYPE_CHANGE, (struct bytes){0});
    (void)append(&cloud_log, 1, LOG_TYPE_BARRIER, (struct bytes){0});
    const struct cluster_init cluster = {.cluster = "cluster-1"};
    CHECK(codec_cluster_init_build(codec, &cluster, &bytes) == 0);
    (void)cloud(RECORD_CLUSTER_INIT, "", "cloudcore-1", bytes);
    put("namespaces", "Namespace", "", "default", "", NULL, 0, "{\"kind\":\"Namespace\"}");
    put("nodes", "Node", "", "edge-1", "", NULL, 0, "{\"kind\":\"Node\"}");

    const struct stream_init init = {
        .node = "edge-1", .cluster = "cluster-1", .up_stream = UP_STREAM};
    CHECK(codec_stream_init_build(codec, &init, &bytes) == 0);
    at_edge(LOG_TYPE_UP, RECORD_STREAM_INIT, "", bytes);
    const struct session_open open = {
        .node = "edge-1", .uid = "uid-edge-1", .replica = 1, .up_stream = UP_STREAM};
    CHECK(codec_session_open_build(codec, &open, &bytes) == 0);
    epoch = cloud(RECORD_SESSION_OPEN, "/nodes//edge-1", "cloudcore-1", bytes);
    ship_snapshot();
    acknowledge_down();

    put("configmaps", "ConfigMap", "default", "settings", "", NULL, 0,
        "{\"kind\":\"ConfigMap\",\"data\":{\"color\":\"red\"}}");
    put("secrets", "Secret", "default", "password", "", NULL, 0,
        "{\"kind\":\"Secret\",\"data\":{\"password\":\"c2VjcmV0\"}}");
    put("pods", "Pod", "default", "web", "edge-1", references, 2,
        "{\"kind\":\"Pod\",\"metadata\":{\"name\":\"web\"}}");
    put("pods", "Pod", "default", "gone", "edge-1", NULL, 0, "{\"kind\":\"Pod\"}");
    ship_down();
    attempt("");
    attempt("web");
    report(POD_RUNNING, CONTAINER_RUNNING, "");
    ship_up();

    take_snapshot(10);
    const struct object_remove remove = {.reason = REMOVE_DELETED};
    CHECK(codec_object_remove_build(codec, &remove, &bytes) == 0);
    user = "anna";
    (void)cloud(RECORD_OBJECT_REMOVE, "/pods/default/gone", "cloudcore-1", bytes);
    user = NULL;
    put("pods", "Pod", "default", "late", "edge-1", NULL, 0, "{\"kind\":\"Pod\"}");
    put("pods", "Pod", "default", "loose", "", NULL, 0, "{\"kind\":\"Pod\"}");
    report(POD_FAILED, CONTAINER_TERMINATED, "Error");
}

/* A namespace is deleted, and what is in it goes with it. */
static void end_namespace(void)
{
    static const char *const finalizer = "kubernetes";
    const struct object_remove remove = {.reason = REMOVE_DELETED};
    struct object_put end = {
        .mode = PUT_ANY,
        .object = {.version = "v1",
                   .kind = "Namespace",
                   .resource = "namespaces",
                   .name = "shop",
                   .uid = "uid-shop",
                   .deletion_time_ms = clock_ms,
                   .finalizers = &finalizer,
                   .finalizer_count = 1,
                   .tag = tag_of("ending"),
                   .json = bytes_text("{\"kind\":\"Namespace\"}")},
    };
    struct bytes bytes;
    put("namespaces", "Namespace", "", "shop", "", NULL, 0, "{\"kind\":\"Namespace\"}");
    put("configmaps", "ConfigMap", "shop", "prices", "", NULL, 0, "{\"kind\":\"ConfigMap\"}");
    user = "berta";
    CHECK(codec_object_put_build(codec, &end, &bytes) == 0);
    (void)cloud(RECORD_OBJECT_PUT, "/namespaces//shop", "cloudcore-1", bytes);
    user = NULL;
    CHECK(codec_object_remove_build(codec, &remove, &bytes) == 0);
    (void)cloud(RECORD_OBJECT_REMOVE, "/configmaps/shop/prices", "cloudcore-2", bytes);
    end.object.finalizer_count = 0;
    end.object.tag = tag_of("ended");
    CHECK(codec_object_put_build(codec, &end, &bytes) == 0);
    (void)cloud(RECORD_OBJECT_PUT, "/namespaces//shop", "cloudcore-2", bytes);
}

static void more(void)
{
    const struct object_put labelled = {
        .mode = PUT_ANY,
        .object = {.version = "v1",
                   .kind = "Pod",
                   .resource = "pods",
                   .namespace_ = "default",
                   .name = "web",
                   .uid = "uid-web",
                   .node_name = "edge-1",
                   .references = references,
                   .reference_count = 2,
                   .generation = 1, /* as reported by report() */
                   .tag = tag_of("labelled"),
                   .json = bytes_text("{\"kind\":\"Pod\",\"metadata\":{\"name\":\"web\"}}")},
    };
    const struct object_remove remove = {.reason = REMOVE_DELETED};
    struct bytes bytes;
    CHECK(codec_object_put_build(codec, &labelled, &bytes) == 0);
    (void)cloud(RECORD_OBJECT_PUT, "/pods/default/web", "cloudcore-1", bytes);
    ship_down();
    struct bytes removal;
    CHECK(codec_object_remove_build(codec, &remove, &removal) == 0);
    user = "anna";
    (void)cloud(RECORD_OBJECT_REMOVE, "/configmaps/default/settings", "cloudcore-1", removal);
    user = NULL;
    end_namespace();
    put("configmaps", "ConfigMap", "default", "again", "", NULL, 0, "{\"kind\":\"ConfigMap\"}");
    user = "anna";
    (void)cloud(RECORD_OBJECT_REMOVE, "/configmaps/default/again", "cloudcore-1", removal);
    user = NULL;
    put("configmaps", "ConfigMap", "default", "again", "", NULL, 0, "{\"kind\":\"ConfigMap\"}");
}

#define THERMO "devices.kubeedge.io/devices/default/thermo"
#define HEATER "devices.kubeedge.io/devices/default/heater"

static void put_device(const char *name, const char *node, const char *desired)
{
    const char *key = codec_print(codec, "devices.kubeedge.io/devices/default/%s", name);
    const struct device_property property = {.name = "temperature",
                                             .type = "int",
                                             .has_desired = true,
                                             .desired = desired,
                                             .revision = 7};
    const struct device_wish wish = {
        .description = "on the roof", .properties = &property, .property_count = 1};
    const struct object_put body = {
        .mode = PUT_CREATE,
        .object = {.group = "devices.kubeedge.io",
                   .version = "v1beta1",
                   .kind = "Device",
                   .resource = "devices",
                   .namespace_ = "default",
                   .name = name,
                   .uid = codec_print(codec, "uid-%s", name),
                   .node_name = node,
                   .device = &wish,
                   .tag = tag_of(key),
                   .json = bytes_text("{\"kind\":\"Device\"}")},
    };
    struct bytes bytes;
    CHECK(codec_object_put_build(codec, &body, &bytes) == 0);
    (void)cloud(RECORD_OBJECT_PUT, key, "cloudcore-1", bytes);
}

/* A mapper reports, or a client of the broker wishes; NULL: not. */
static void broker_says(const char *key, const char *expected, const char *actual)
{
    const struct twin_change change = {.key = "temperature",
                                       .has_expected = expected != NULL,
                                       .expected = expected == NULL ? "" : expected,
                                       .has_actual = actual != NULL,
                                       .actual = actual == NULL ? "" : actual,
                                       .type = ""};
    const struct twin_update update = {.event_id = "u-1", .changes = &change, .change_count = 1};
    struct bytes bytes;
    CHECK(codec_twin_update_build(codec, &update, &bytes) == 0);
    at_edge(LOG_TYPE_UP, RECORD_TWIN_UPDATE, key, bytes);
}

static void devices(const char *half)
{
    struct bytes bytes;
    uint64_t position;
    put_device("thermo", "edge-1", "25");
    put_device("idle", "", "on");
    put_device("heater", "edge-1", "25");
    ship_down();
    broker_says(HEATER, "40", "40");
    broker_says(THERMO, NULL, "24");
    ship_up();
    CHECK(store_checkpoint(edge_store, half, &position) == 0);
    const struct device_state state = {.event_id = "s-1", .state = "online"};
    CHECK(codec_device_state_build(codec, &state, &bytes) == 0);
    at_edge(LOG_TYPE_UP, RECORD_DEVICE_STATE, THERMO, bytes);
    broker_says(THERMO, NULL, "25");
    const struct mqtt_message message = {.topic = "alarms/user/1",
                                         .payload = bytes_text("{\"fire\":false}")};
    CHECK(codec_mqtt_message_build(codec, &message, &bytes) == 0);
    at_edge(LOG_TYPE_UP, RECORD_MQTT_MESSAGE, "", bytes);
    const struct outbox_done done = {.position = 1};
    CHECK(codec_outbox_done_build(codec, &done, &bytes) == 0);
    at_edge(LOG_TYPE_UP, RECORD_OUTBOX_DONE, "", bytes);
}

static void on_closed(void *context)
{
    (*(unsigned *)context)++;
}

static const char *path_of(const char *top, const char *name)
{
    return codec_print(codec, "%s/%s", top, name);
}

/* What nodes/edge/core.c does before anything acts. */
static int start(const char *top)
{
    struct log_recovery recovery;
    struct log_cursor cursor;
    struct log_frame frame;
    const struct log_options options = {
        .directory = path_of(top, "log"), .owner = EDGE_OWNER, .segment_bytes = SEGMENT_BYTES_MIN};
    const struct store_options state = {.directory = path_of(top, "state"),
                                        .profile = STORE_EDGE,
                                        .machine = "edge",
                                        .format = EDGE_FORMAT};
    uv = disk_uv_new(uv_default_loop());
    if (log_open(&edge_log, disk_uv_disk(uv), &options, &recovery) != 0) {
        printf("the log cannot be opened: %s\n", recovery.message);
        return 1;
    }
    CHECK(store_rocks_open(&state, &edge_store) == 0);
    CHECK(edge_machine_open(edge_store, NULL, &edge) == 0);
    const uint64_t first = edge_machine_position(edge) + 1;
    if (first < log_index_first(&edge_log) || first > log_index_next(&edge_log)) {
        printf("the state is of record %llu, the log begins at %llu and ends before %llu\n",
               (unsigned long long)first - 1, (unsigned long long)log_index_first(&edge_log),
               (unsigned long long)log_index_next(&edge_log));
        return 1;
    }
    log_cursor_open(&cursor, &edge_log, first);
    while (log_cursor_next(&cursor, &frame) == LOG_CURSOR_FRAME) {
        struct edge_applied applied;
        CHECK(edge_machine_apply(edge, frame.index, frame.payload, &applied) == 0);
        if (applied.outcome >= EDGE_REFUSED_MALFORMED) {
            printf("offset %llu: %s\n", (unsigned long long)frame.index,
                   edge_outcome_text(applied.outcome));
        }
    }
    log_cursor_close(&cursor);
    const struct edge_meta *meta = edge_machine_meta(edge);
    printf("node=%s position=%llu next=%llu up_stream=%s down_stream=%s objects=%u\n", meta->node,
           (unsigned long long)edge_machine_position(edge),
           (unsigned long long)log_index_next(&edge_log),
           meta->up_stream == UP_STREAM ? "old" : "new", meta->down_stream == 0 ? "none" : "old",
           meta->object_count);
    edge_machine_close(edge);
    store_close(edge_store);
    unsigned closed = 0;
    log_close(&edge_log, on_closed, &closed);
    while (closed < 1) {
        uv_run(uv_default_loop(), UV_RUN_ONCE);
    }
    disk_uv_free(uv);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--start") == 0) {
        codec = codec_create();
        return start(argv[2]);
    }
    CHECK(argc == 2 || argc == 3);
    const unsigned reports = argc == 3 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;
    uv = disk_uv_new(uv_default_loop());
    codec = codec_create();
    (void)mkdir(argv[1], 0755);
    (void)mkdir(path_of(argv[1], "cloud"), 0755);
    (void)mkdir(path_of(argv[1], "edge"), 0755);
    struct log_recovery recovery;
    const struct log_options cloud_options = {.directory = path_of(argv[1], "cloud/log"),
                                              .owner = "cloudcore of te",
                                              .segment_bytes = SEGMENT_BYTES_MIN};
    const struct log_options edge_options = {.directory = path_of(argv[1], "edge/log"),
                                             .owner = EDGE_OWNER,
                                             .segment_bytes = SEGMENT_BYTES_MIN};
    CHECK(log_open(&cloud_log, disk_uv_disk(uv), &cloud_options, &recovery) == 0);
    CHECK(log_open(&edge_log, disk_uv_disk(uv), &edge_options, &recovery) == 0);
    const struct store_options cloud_state = {.directory = path_of(argv[1], "cloud/state"),
                                              .profile = STORE_CLOUD,
                                              .machine = MACHINE_NAME,
                                              .format = MACHINE_FORMAT};
    const struct store_options edge_state = {.directory = path_of(argv[1], "edge/state"),
                                             .profile = STORE_EDGE,
                                             .machine = "edge",
                                             .format = EDGE_FORMAT};
    CHECK(store_rocks_open(&cloud_state, &cloud_store) == 0);
    CHECK(store_rocks_open(&edge_state, &edge_store) == 0);
    CHECK(machine_open(&machine, cloud_store) == 0);
    CHECK(edge_machine_open(edge_store, NULL, &edge) == 0);
    story();
    if (argc == 3 && strcmp(argv[2], "--more") == 0) {
        more();
    }
    if (argc == 3 && strcmp(argv[2], "--devices") == 0) {
        devices(path_of(argv[1], "edge/state.half"));
    }
    for (unsigned i = 0; i < reports; i++) {
        report(i % 2 == 0 ? POD_RUNNING : POD_FAILED, CONTAINER_RUNNING, "");
        if (i == reports / 2) {
            uint64_t position;
            CHECK(store_checkpoint(edge_store, path_of(argv[1], "edge/state.half"), &position) ==
                  0);
        }
    }
    machine_close(&machine);
    edge_machine_close(edge);
    store_close(cloud_store);
    store_close(edge_store);
    unsigned closed = 0;
    log_close(&cloud_log, on_closed, &closed);
    log_close(&edge_log, on_closed, &closed);
    while (closed < 2) {
        uv_run(uv_default_loop(), UV_RUN_ONCE);
    }
    disk_uv_free(uv);
    codec_destroy(codec);
    return 0;
}
