/* The API door alone on a TLS port, over the state machine in memory: for kubectl (api_kubectl_test.sh).
 *
 *   api_server PKI_DIRECTORY
 *
 * makes an authority and certificates there, prints "PORT" on one line when it listens, fills the fixture of
 * spec/kubernetes-api.md section 16 as far as our kinds go, and serves until its standard input ends. Pods
 * that are marked as deleted are reported as ended by their node a moment later.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <uv.h>

#include "nodes/cloud/api.h"
#include "nodes/cloud/api_server.h"
#include "nodes/cloud/devices.h"
#include "nodes/cloud/namespaces.h"
#include "nodes/net/identity_tls.h"
#include "schemas/check.h"
#include "tests/nodes/backend_fake.h"

struct test_server {
    uv_loop_t loop;
    uv_prepare_t prepare;
    uv_timer_t tick;
    uv_pipe_t input;
    struct backend_fake *fake;
    struct api *api;
    struct namespaces *namespaces;
    struct devices *devices;
    struct api_server *server;
};

static int64_t wall_ms(void)
{
    struct timespec now;
    CHECK(clock_gettime(CLOCK_REALTIME, &now) == 0);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* -- the fixture --------------------------------------------------------------------------------------- */

static void ignore_header(void *client, const char *name, const char *value)
{
    (void)client;
    (void)name;
    (void)value;
}

static void fixture_answer(void *client, uint32_t status, const char *type, struct bytes body)
{
    (void)type;
    if (status >= 300) {
        fprintf(stderr, "fixture: %.*s\n", (int)body.size, (const char *)body.data);
        abort();
    }
    *(bool *)client = true;
}

static const struct api_client_events fixture_events = {.header = ignore_header,
                                                        .answer = fixture_answer};

static void post(struct test_server *s, const char *target, const char *json)
{
    static const char *const groups[] = {"system:masters"};
    const struct api_identity identity = {true, "fixture", groups, 1};
    char wire[4096];
    (void)snprintf(wire, sizeof wire, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n%s",
                   target, strlen(json), json);
    struct http_request_parser *parser = http_request_parser_open(LIMIT_HTTP_BODY_BYTES);
    size_t used;
    CHECK(http_request_parser_feed(parser, bytes_text(wire), &used) == HTTP_PARSE_WHOLE);
    bool done = false;
    (void)api_request(s->api, http_request_parser_get(parser), &identity, &fixture_events, &done);
    http_request_parser_close(parser);
    while (!done) {
        CHECK(backend_fake_run(s->fake));
    }
}

static void report_node(struct test_server *s, const char *name, bool ready)
{
    struct codec *codec = codec_create();
    const struct condition conditions[] = {
        {"Ready", ready ? CONDITION_TRUE : CONDITION_FALSE, ready ? "EdgeReady" : "EdgeNotReady",
         "as the fixture wants it", backend_fake_now_ms(s->fake)}};
    const struct pair addresses[] = {{"InternalIP", "192.168.1.10"}, {"Hostname", name}};
    const struct pair capacity[] = {{"cpu", "4"}, {"memory", "8Gi"}, {"pods", "110"}};
    const struct pair info[] = {{"kubeletVersion", "v1.32.0-kelp"},
                                {"osImage", "Debian 12"},
                                {"kernelVersion", "6.1"},
                                {"containerRuntimeVersion", "containerd://1.6"},
                                {"operatingSystem", "linux"},
                                {"architecture", "amd64"}};
    const struct node_status status = {.conditions = conditions,
                                       .condition_count = 1,
                                       .addresses = addresses,
                                       .address_count = 2,
                                       .capacity = capacity,
                                       .capacity_count = 3,
                                       .allocatable = capacity,
                                       .allocatable_count = 3,
                                       .info = info,
                                       .info_count = 6};
    struct bytes body;
    CHECK(codec_node_status_build(codec, &status, &body) == 0);
    char key[LIMIT_KEY_BYTES];
    (void)snprintf(key, sizeof key, "/nodes//%s", name);
    backend_fake_report(s->fake, name, RECORD_NODE_STATUS, key, body);
    codec_destroy(codec);
}

/* All containers of a pod run. */
static void report_pod(struct test_server *s, const char *node, const char *namespace_,
                       const char *name, const char *const *containers, uint32_t count)
{
    const struct backend *backend = backend_fake_backend(s->fake);
    struct codec *codec = codec_create();
    struct backend_view *view;
    uint64_t version;
    struct backend_row row;
    struct object_put put;
    char key[LIMIT_KEY_BYTES];
    (void)snprintf(key, sizeof key, "/pods/%s/%s", namespace_, name);
    CHECK(backend->view_open(backend->owner, &view, &version) == 0);
    CHECK(backend->view_get(backend->owner, view, bytes_text(key), &row) == 0);
    CHECK(codec_object_put_read(codec, row.wish, &put) == 0);
    const int64_t now = backend_fake_now_ms(s->fake);
    struct container_status statuses[2];
    for (uint32_t i = 0; i < count; i++) {
        statuses[i] = (struct container_status){.name = containers[i],
                                                .image = "img",
                                                .container_id = "containerd://1",
                                                .state = CONTAINER_RUNNING,
                                                .ready = true,
                                                .started = true,
                                                .started_ms = now};
    }
    const struct condition conditions[] = {{"Initialized", CONDITION_TRUE, "", "", now},
                                           {"Ready", CONDITION_TRUE, "", "", now},
                                           {"ContainersReady", CONDITION_TRUE, "", "", now}};
    const struct pod_status status = {.uid = put.object.uid,
                                      .phase = POD_RUNNING,
                                      .pod_ip = "10.1.0.5",
                                      .host_ip = "192.168.1.10",
                                      .started_ms = now,
                                      .conditions = conditions,
                                      .condition_count = 3,
                                      .containers = statuses,
                                      .container_count = count};
    struct bytes body;
    CHECK(codec_pod_status_build(codec, &status, &body) == 0);
    backend_fake_report(s->fake, node, RECORD_POD_STATUS, key, body);
    if (strcmp(name, "web") == 0) {
        const struct edge_event event = {.kind = "Pod",
                                         .namespace_ = namespace_,
                                         .name = name,
                                         .uid = put.object.uid,
                                         .container = "app",
                                         .type = "Normal",
                                         .reason = "Started",
                                         .message = "Started container app",
                                         .count = 1,
                                         .first_ms = now,
                                         .last_ms = now};
        CHECK(codec_edge_event_build(codec, &event, &body) == 0);
        backend_fake_report(s->fake, node, RECORD_EDGE_EVENT, "web-started", body);
    }
    backend->view_close(backend->owner, view);
    codec_destroy(codec);
}

/* A thermometer that is online at 24 of wished 25 degrees. */
static void report_device(struct test_server *s)
{
    static const char key[] = "devices.kubeedge.io/devices/default/thermo";
    const struct backend *backend = backend_fake_backend(s->fake);
    struct codec *codec = codec_create();
    struct backend_view *view;
    uint64_t version;
    struct backend_row row;
    struct object_put put;
    CHECK(backend->view_open(backend->owner, &view, &version) == 0);
    CHECK(backend->view_get(backend->owner, view, bytes_text(key), &row) == 0);
    CHECK(codec_object_put_read(codec, row.wish, &put) == 0);
    const int64_t now = backend_fake_now_ms(s->fake);
    const struct twin twin = {.key = "temperature",
                              .type = "int",
                              .has_expected = true,
                              .expected = "25",
                              .expected_ms = now,
                              .has_actual = true,
                              .actual = "24",
                              .actual_ms = now,
                              .wish_revision = 1};
    const struct device_status status = {.uid = put.object.uid,
                                         .state = "online",
                                         .last_online_ms = now,
                                         .twins = &twin,
                                         .twin_count = 1};
    struct bytes body;
    CHECK(codec_device_status_build(codec, &status, &body) == 0);
    backend_fake_report(s->fake, "edge-1", RECORD_DEVICE_STATUS, key, body);
    backend->view_close(backend->owner, view);
    codec_destroy(codec);
}

static void fixture(struct test_server *s)
{
    static const char pods[] = "/api/v1/namespaces/default/pods";
    post(s, "/api/v1/namespaces", "{\"metadata\":{\"name\":\"edge\"}}");
    post(s, "/api/v1/nodes", "{\"metadata\":{\"name\":\"edge-1\",\"labels\":{"
                             "\"node-role.kubernetes.io/edge\":\"\"}}}");
    post(s, "/api/v1/nodes", "{\"metadata\":{\"name\":\"edge-2\"}}");
    report_node(s, "edge-1", true);
    report_node(s, "edge-2", false);
    post(s, pods, "{\"metadata\":{\"name\":\"web\",\"labels\":{\"app\":\"web\"}},\"spec\":{"
                  "\"nodeName\":\"edge-1\",\"containers\":[{\"name\":\"app\",\"image\":\"img\"}]}}");
    post(s, pods, "{\"metadata\":{\"name\":\"two\",\"labels\":{\"app\":\"two\"}},\"spec\":{"
                  "\"nodeName\":\"edge-1\",\"containers\":[{\"name\":\"a\",\"image\":\"img\"},"
                  "{\"name\":\"b\",\"image\":\"img\"}]}}");
    post(s, "/api/v1/namespaces/edge/pods",
         "{\"metadata\":{\"name\":\"sensor\"},\"spec\":{\"nodeName\":\"edge-2\",\"containers\":["
         "{\"name\":\"app\",\"image\":\"img\"}]}}");
    static const char group[] = "/apis/devices.kubeedge.io/v1beta1/namespaces/default";
    char target[128];
    (void)snprintf(target, sizeof target, "%s/devicemodels", group);
    post(s, target, "{\"metadata\":{\"name\":\"thermo-model\"},\"spec\":{\"properties\":[{\"name\":"
                    "\"temperature\",\"type\":\"INT\"}]}}");
    (void)snprintf(target, sizeof target, "%s/devices", group);
    post(s, target, "{\"metadata\":{\"name\":\"thermo\"},\"spec\":{\"deviceModelRef\":{\"name\":"
                    "\"thermo-model\"},\"nodeName\":\"edge-1\",\"properties\":[{\"name\":\"temperature\","
                    "\"desired\":{\"value\":\"25\"}}]}}");
    report_device(s);
    static const char *const app[] = {"app"};
    static const char *const both[] = {"a", "b"};
    report_pod(s, "edge-1", "default", "web", app, 1);
    report_pod(s, "edge-1", "default", "two", both, 2);
    report_pod(s, "edge-2", "edge", "sensor", app, 1);
}

/* The edges: a marked pod has ended a moment later. */
static void end_pods(struct test_server *s)
{
    const struct backend *backend = backend_fake_backend(s->fake);
    struct backend_view *view;
    uint64_t version;
    struct backend_row row;
    char after[LIMIT_KEY_BYTES] = "";
    CHECK(backend->view_open(backend->owner, &view, &version) == 0);
    struct codec *codec = codec_create();
    while (backend->view_next(backend->owner, view, bytes_text("/pods/"), bytes_text(after),
                              &row) == 0) {
        (void)snprintf(after, sizeof after, "%.*s", (int)row.key.size, (const char *)row.key.data);
        struct object_put put;
        CHECK(codec_object_put_read(codec, row.wish, &put) == 0);
        if (put.object.deletion_time_ms == 0 || put.object.node_name[0] == '\0' || row.ended) {
            continue;
        }
        const struct pod_ended ended = {.uid = put.object.uid};
        struct bytes body;
        CHECK(codec_pod_ended_build(codec, &ended, &body) == 0);
        backend_fake_report(s->fake, put.object.node_name, RECORD_POD_ENDED, after, body);
    }
    codec_destroy(codec);
    backend->view_close(backend->owner, view);
}

/* -- the loop -------------------------------------------------------------------------------------------- */

static void on_prepare(uv_prepare_t *prepare)
{
    struct test_server *s = prepare->data;
    backend_fake_set_now_ms(s->fake, wall_ms());
    while (backend_fake_run(s->fake) || api_changed(s->api) || devices_run(s->devices)) {
    }
}

static void on_tick(uv_timer_t *timer)
{
    struct test_server *s = timer->data;
    end_pods(s);
    namespaces_step(s->namespaces);
    api_tick(s->api);
}

static size_t no_report(void *owner, const char *node, char *buffer, size_t size)
{
    (void)owner;
    (void)node;
    (void)buffer;
    (void)size;
    return 0;
}

static void no_metrics(void *owner, struct metrics_page *page)
{
    (void)owner;
    (void)page;
}

static void always_well(void *owner, bool ready, struct health *health)
{
    (void)owner;
    (void)ready;
    health_add(health, "ping", true, "%s", "");
}

static void on_server_close(void *owner)
{
    struct test_server *s = owner;
    uv_close((uv_handle_t *)&s->prepare, NULL);
    uv_close((uv_handle_t *)&s->tick, NULL);
}

static const struct api_server_events server_events = {.report_node = no_report,
                                                       .metrics = no_metrics,
                                                       .health = always_well,
                                                       .on_close = on_server_close};

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *out)
{
    static char buffer[64];
    (void)handle;
    (void)size;
    *out = uv_buf_init(buffer, sizeof buffer);
}

static void on_input(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer)
{
    (void)buffer;
    struct test_server *s = stream->data;
    if (size < 0 && !uv_is_closing((uv_handle_t *)stream)) {
        uv_close((uv_handle_t *)stream, NULL);
        api_stop(s->api);
        api_server_close(s->server);
    }
}

static void certificates(const char *directory)
{
    char reason[IDENTITY_REASON_BYTES];
    const int64_t now = wall_ms() / 1000;
    const int made = identity_authority_create(directory, "test", now - 3600, now + 86400, true,
                                               reason);
    CHECK(made == IDENTITY_MADE);
    static const char *const masters[] = {"system:masters"};
    static const char *const viewers[] = {"viewers"};
    static const char *const sans[] = {"127.0.0.1", "localhost"};
    struct identity_request request = {.common_name = "admin",
                                       .groups = masters,
                                       .groups_count = 1,
                                       .client = true,
                                       .valid_from_s = now - 3600,
                                       .valid_until_s = now + 86400};
    CHECK(identity_issue(directory, &request, directory, "admin", true, reason) == IDENTITY_MADE);
    request.common_name = "viewer";
    request.groups = viewers;
    CHECK(identity_issue(directory, &request, directory, "viewer", true, reason) == IDENTITY_MADE);
    request.common_name = "server";
    request.sans = sans;
    request.sans_count = 2;
    request.server = true;
    CHECK(identity_issue(directory, &request, directory, "server", true, reason) == IDENTITY_MADE);
}

int main(int argc, char **argv)
{
    static struct test_server s;
    CHECK(argc == 2);
    certificates(argv[1]);
    char paths[3][512];
    static const char *const names[] = {"ca.crt", "server.crt", "server.key"};
    for (size_t i = 0; i < 3; i++) {
        (void)snprintf(paths[i], sizeof paths[i], "%s/%s", argv[1], names[i]);
    }
    CHECK(uv_loop_init(&s.loop) == 0);
    s.fake = backend_fake_create();
    backend_fake_set_now_ms(s.fake, wall_ms());
    s.api = api_open(backend_fake_backend(s.fake));
    s.namespaces = namespaces_open(s.api, backend_fake_backend(s.fake));
    s.devices = devices_open(backend_fake_backend(s.fake));
    fixture(&s);

    const struct link_files files = {paths[0], paths[1], paths[2]};
    struct link_context *context;
    char reason[LINK_REASON_BYTES];
    CHECK(link_context_open(LINK_LISTEN_REQUEST, &files, &context, reason) == 0);
    CHECK(api_server_open(&s.loop, context, "127.0.0.1", 0, s.api, &server_events, &s, &s.server,
                          reason) == 0);
    uv_prepare_init(&s.loop, &s.prepare);
    uv_timer_init(&s.loop, &s.tick);
    uv_pipe_init(&s.loop, &s.input, 0);
    s.prepare.data = &s;
    s.tick.data = &s;
    s.input.data = &s;
    uv_prepare_start(&s.prepare, on_prepare);
    uv_timer_start(&s.tick, on_tick, 200, 200);
    CHECK(uv_pipe_open(&s.input, 0) == 0);
    CHECK(uv_read_start((uv_stream_t *)&s.input, on_alloc, on_input) == 0);
    printf("%u\n", api_server_port(s.server));
    fflush(stdout);
    uv_run(&s.loop, UV_RUN_DEFAULT);

    CHECK(api_idle(s.api));
    namespaces_close(s.namespaces);
    devices_close(s.devices);
    api_close(s.api);
    backend_fake_destroy(s.fake);
    link_context_close(context);
    CHECK(uv_loop_close(&s.loop) == 0);
    return 0;
}
