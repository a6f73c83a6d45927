#include "nodes/cloud/api_server.h"

#include <stdlib.h>
#include <string.h>

#include "nodes/cloud/api_flow.h"
#include "nodes/cloud/api_json.h"
#include "nodes/cloud/api_status.h"
#include "nodes/logger.h"
#include "nodes/net/http.h"
#include "nodes/net/identity_tls.h"
#include "schemas/check.h"

struct api_server {
    struct http_server *server;
    struct api *api;
    const struct api_server_events *events;
    void *owner;
    struct monitor_door monitor;
    struct api_flow flow;
};

#define REPORT_BYTES 2048u

/* One request: the exchange, and the call that works on it (NULL before and after). */
struct api_visit {
    struct api_server *server;
    struct http_exchange *exchange;
    struct api_call *call;
    bool answered; /* from inside api_request */
    struct api_passage passage;
    uint64_t came_ns;
};

static void visit_header(void *client, const char *name, const char *value)
{
    struct api_visit *visit = client;
    if (http_answer_header(visit->exchange, name, value) != 0) {
        logger_warn_limited("header_dropped", "name=%s reason=too long or not printable", name);
    }
}

static void visit_count(struct api_visit *visit, uint32_t status)
{
    api_flow_answer(&visit->server->flow, &visit->passage, status,
                    (uv_hrtime() - visit->came_ns) / 1000);
}

static void visit_end(struct api_visit *visit)
{
    api_flow_end(&visit->server->flow, &visit->passage);
    visit->answered = true;
    if (visit->call != NULL) {
        free(visit); /* otherwise api_request is still on the stack and frees it */
    }
}

static void visit_answer(void *client, uint32_t status, const char *content_type, struct bytes body)
{
    struct api_visit *visit = client;
    visit_count(visit, status);
    http_answer(visit->exchange, status, content_type, body);
    visit_end(visit);
}

static int visit_begin(void *client, uint32_t status, const char *content_type)
{
    struct api_visit *visit = client;
    visit_count(visit, status);
    return http_answer_begin(visit->exchange, status, content_type);
}

static int visit_chunk(void *client, struct bytes bytes)
{
    struct api_visit *visit = client;
    return http_answer_chunk(visit->exchange, bytes);
}

static void visit_finish(void *client, bool whole)
{
    struct api_visit *visit = client;
    http_answer_end(visit->exchange, whole);
    visit_end(visit);
}

static const struct api_client_events client_events = {
    .header = visit_header,
    .answer = visit_answer,
    .begin = visit_begin,
    .chunk = visit_chunk,
    .end = visit_finish,
};

static void visit_on_gone(struct http_exchange *exchange, void *data)
{
    (void)exchange;
    struct api_visit *visit = data;
    if (visit->call != NULL) {
        api_call_gone(visit->call);
    }
}

static void visit_on_writable(struct http_exchange *exchange, void *data)
{
    (void)exchange;
    struct api_visit *visit = data;
    if (visit->call != NULL) {
        api_call_writable(visit->call);
    }
}

static const struct http_exchange_events exchange_events = {
    .on_gone = visit_on_gone,
    .on_writable = visit_on_writable,
};

static bool peer_is_of(const struct link_peer *peer, const char *group)
{
    for (uint32_t i = 0; i < peer->groups_count; i++) {
        if (strcmp(peer->groups[i], group) == 0) {
            return true;
        }
    }
    return false;
}

/* Metrics and probes: about the program, so not of the API door. */
static bool serve_monitor(struct api_server *server, struct http_exchange *exchange)
{
    const struct http_request *request = http_exchange_request(exchange);
    const struct link_peer *peer = http_exchange_peer(exchange);
    const enum monitor_page page = monitor_page(request);
    if (page == MONITOR_NONE) {
        return false;
    }
    if (page == MONITOR_METRICS &&
        (!peer->verified || (!peer_is_of(peer, IDENTITY_MASTER_GROUP) &&
                             !peer_is_of(peer, IDENTITY_MONITORING_GROUP)))) {
        http_answer(exchange, peer->verified ? 403 : 401, "text/plain",
                    bytes_text("this needs a certificate of group system:monitoring or "
                               "system:masters\n"));
        return true;
    }
    struct monitor_answer answer;
    monitor_answer(&server->monitor, request, &answer);
    http_answer(exchange, answer.status, answer.content_type, answer.body);
    monitor_release(&answer);
    return true;
}

/* Where a node's logs stand: not an object of Kubernetes, so not of the API door. */
static bool serve_report(struct api_server *server, struct http_exchange *exchange)
{
    const struct http_request *request = http_exchange_request(exchange);
    if (request->segments_count != 4 || strcmp(request->segments[0], "kelp") != 0 ||
        strcmp(request->segments[1], "v1") != 0 || strcmp(request->segments[2], "nodes") != 0) {
        return false;
    }
    const struct link_peer *peer = http_exchange_peer(exchange);
    if (!peer->verified || !peer_is_of(peer, IDENTITY_MASTER_GROUP)) {
        http_answer(exchange, peer->verified ? 403 : 401, "text/plain",
                    bytes_text("this needs a certificate of group system:masters\n"));
        return true;
    }
    if (strcmp(request->method, "GET") != 0) {
        http_answer(exchange, 405, "text/plain", bytes_text("only GET\n"));
        return true;
    }
    char text[REPORT_BYTES];
    const size_t size =
        server->events->report_node(server->owner, request->segments[3], text, sizeof text);
    if (size == 0) {
        http_answer(exchange, 404, "text/plain", bytes_text("there is no such node\n"));
    } else {
        http_answer(exchange, 200, "application/json", bytes_of(text, size));
    }
    return true;
}

/* Too much is under way: the client comes again, as every client of Kubernetes does after a 429. */
static void server_shed(struct api_server *server, struct http_exchange *exchange,
                        const struct api_passage *passage)
{
    struct api_error error = {0};
    struct text text = {0};
    const struct api_flow *flow = &server->flow;
    const char *level = api_flow_level_text(passage->level);
    logger_warn_limited("api_load_shed",
                        "level=%s small=%u writes=%u lists=%u body_bytes=%zu answer_bytes=%zu",
                        level, flow->level_open[API_LEVEL_SMALL], flow->level_open[API_LEVEL_WRITE],
                        flow->level_open[API_LEVEL_LIST], flow->body_bytes,
                        http_server_report(server->server).answer_bytes);
    api_error_set(&error, 429, "too many %s requests, please try again later", level);
    json_t *status = api_error_status(&error);
    json_write(&text, status);
    json_decref(status);
    api_error_release(&error);
    CHECK(http_answer_header(exchange, "Retry-After", "1") == 0);
    api_flow_answer(&server->flow, passage, 429, 0);
    http_answer(exchange, 429, "application/json", text_bytes(&text));
    text_release(&text);
}

static void server_on_request(struct http_server *http, struct http_exchange *exchange, void *owner)
{
    (void)http;
    struct api_server *server = owner;
    if (serve_monitor(server, exchange) || serve_report(server, exchange) ||
        (server->events->serve != NULL && server->events->serve(server->owner, exchange))) {
        return;
    }
    const struct link_peer *peer = http_exchange_peer(exchange);
    const char *groups[LIMIT_IDENTITY_GROUPS];
    for (uint32_t i = 0; i < peer->groups_count; i++) {
        groups[i] = peer->groups[i];
    }
    const struct api_identity identity = {
        .verified = peer->verified,
        .user = peer->common_name,
        .groups = groups,
        .group_count = peer->groups_count,
    };
    struct api_passage passage;
    if (!api_flow_begin(&server->flow, http_exchange_request(exchange),
                        http_server_report(server->server).answer_bytes, &passage)) {
        server_shed(server, exchange, &passage);
        return;
    }
    struct api_visit *visit = calloc(1, sizeof *visit);
    CHECK(visit != NULL);
    visit->server = server;
    visit->exchange = exchange;
    visit->passage = passage;
    visit->came_ns = uv_hrtime();
    http_exchange_set_data(exchange, visit);
    http_exchange_set_events(exchange, &exchange_events);
    struct api_call *call = api_request(server->api, http_exchange_request(exchange), &identity,
                                        &client_events, visit);
    if (visit->answered) {
        free(visit);
        return;
    }
    CHECK(call != NULL);
    visit->call = call;
}

static void server_on_refused(struct http_server *http, const char *address, int status,
                              const char *reason, void *owner)
{
    (void)http;
    (void)owner;
    logger_warn_limited("api_client_refused", "address=%s status=%d reason=%s", address, status,
                        reason);
}

static size_t server_answer_bytes(void *owner)
{
    const struct api_server *server = owner;
    return http_server_report(server->server).answer_bytes;
}

static void server_on_close(void *owner)
{
    struct api_server *server = owner;
    api_bound_answers(server->api, NULL, NULL);
    const struct api_server_events *events = server->events;
    void *back = server->owner;
    free(server);
    events->on_close(back);
}

static const struct http_server_events server_events = {
    .on_request = server_on_request,
    .on_refused = server_on_refused,
    .on_close = server_on_close,
};

int api_server_open(uv_loop_t *loop, struct link_context *context, const char *host, uint16_t port,
                    struct api *api, const struct api_server_events *events, void *owner,
                    struct api_server **out, char *reason)
{
    struct api_server *server = calloc(1, sizeof *server);
    CHECK(server != NULL);
    server->api = api;
    server->events = events;
    server->owner = owner;
    server->monitor = (struct monitor_door){
        .owner = owner,
        .metrics = events->metrics,
        .health = events->health,
    };
    const int status = http_server_open(loop, context, host, port, &server_events, server,
                                        &server->server, reason);
    if (status != 0) {
        free(server);
        return status;
    }
    api_bound_answers(api, server_answer_bytes, server);
    *out = server;
    return 0;
}

uint16_t api_server_port(const struct api_server *server)
{
    return http_server_port(server->server);
}

void api_server_metrics(const struct api_server *server, struct metrics_page *page)
{
    api_flow_metrics(&server->flow, page);
    metrics_gauge(page, "kelp_api_watches", "Watches that clients have open on this cloudcore.",
                  api_watch_count(server->api));
    metrics_gauge(page, "kelp_api_watch_bytes", "What their clients have not taken yet.",
                  api_watch_bytes(server->api));
    metrics_gauge(page, "kelp_api_lists", "Lists that are being read, or wait for it.",
                  api_list_count(server->api));
    const struct http_server_report http = http_server_report(server->server);
    metrics_gauge(page, "kelp_api_connections", "Connections of clients of the API.",
                  http.connections);
    metrics_gauge(page, "kelp_api_arriving_bytes",
                  "Bodies of requests in memory, those that are still arriving included.",
                  http.body_bytes);
    metrics_gauge(page, "kelp_api_answer_bytes", "Answers that clients have not taken yet.",
                  http.answer_bytes);
}

void api_server_drain(struct api_server *server)
{
    http_server_drain(server->server);
}

bool api_server_drained(const struct api_server *server)
{
    return http_server_drained(server->server);
}

void api_server_close(struct api_server *server)
{
    http_server_close(server->server);
}
