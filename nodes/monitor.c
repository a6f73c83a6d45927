/* One visit of the plain address:
 *
 *   1. a connection is accepted, its deadline runs
 *   2. bytes are fed to the parser until a request is whole
 *   3. the page is made at once, written with its head, and the connection closed
 *
 * What can fail: too many visitors (closed), a request that is none or has a body (its status), a visitor who is
 * too slow in either direction (closed). Each ends in visitor_end.
 */
#include "nodes/monitor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "schemas/check.h"

/* -- the pages --------------------------------------------------------------------------------- */

enum monitor_page monitor_page(const struct http_request *request)
{
    const uint32_t count = request->segments_count;
    const char *first = count == 0 ? "" : request->segments[0];
    if (count == 1 && strcmp(first, "metrics") == 0) {
        return MONITOR_METRICS;
    }
    const bool health = strcmp(first, "livez") == 0 || strcmp(first, "readyz") == 0 ||
                        strcmp(first, "healthz") == 0;
    return health && count <= 2 ? MONITOR_HEALTH : MONITOR_NONE;
}

static void monitor_say(struct monitor_answer *out, uint32_t status, const char *text)
{
    *out = (struct monitor_answer){
        .status = status,
        .content_type = "text/plain; charset=utf-8",
        .body = bytes_text(text),
    };
}

static void monitor_health(const struct monitor_door *door, const struct http_request *request,
                           struct monitor_answer *out)
{
    struct health health = {.count = 0};
    const char *which = request->segments[0];
    const char *exclude = http_request_find_parameter(request, "exclude");
    door->health(door->owner, strcmp(which, "readyz") == 0, &health);
    char *memory = malloc(HEALTH_ANSWER_BYTES);
    CHECK(memory != NULL);
    const uint32_t status =
        health_answer(&health, which, request->segments_count == 2 ? request->segments[1] : "",
                      exclude == NULL ? "" : exclude,
                      http_request_find_parameter(request, "verbose") != NULL, memory);
    monitor_say(out, status, memory);
    out->memory = memory;
}

static void monitor_metrics(const struct monitor_door *door, struct monitor_answer *out)
{
    char *memory = malloc(LIMIT_METRICS_BYTES);
    CHECK(memory != NULL);
    struct metrics_page page;
    metrics_page_init(&page, memory, LIMIT_METRICS_BYTES);
    door->metrics(door->owner, &page);
    CHECK(!page.overflowed); /* the sets that labels come from are bounded */
    *out = (struct monitor_answer){
        .status = 200,
        .content_type = METRICS_CONTENT_TYPE,
        .body = metrics_page_bytes(&page),
        .memory = memory,
    };
}

void monitor_answer(const struct monitor_door *door, const struct http_request *request,
                    struct monitor_answer *out)
{
    if (strcmp(request->method, "GET") != 0) {
        monitor_say(out, 405, "only GET\n");
        return;
    }
    switch (monitor_page(request)) {
    case MONITOR_HEALTH:
        monitor_health(door, request, out);
        break;
    case MONITOR_METRICS:
        monitor_metrics(door, out);
        break;
    case MONITOR_NONE:
        monitor_say(out, 404, "here are /metrics, /livez, /readyz and /healthz\n");
        break;
    }
}

void monitor_release(struct monitor_answer *answer)
{
    free(answer->memory);
    *answer = (struct monitor_answer){.status = 0};
}

/* -- the address ------------------------------------------------------------------------------- */

struct monitor {
    uv_tcp_t tcp;
    struct monitor_door door;
    uint32_t visitors;
};

struct monitor_visitor {
    struct monitor *monitor;
    uv_tcp_t tcp;
    uv_timer_t deadline;
    uv_write_t write;
    uint32_t handles_open;
    struct http_request_parser *parser;
    struct monitor_answer answer;
    char head[512];
    char input[2048];
};

static void visitor_on_close(uv_handle_t *handle)
{
    struct monitor_visitor *visitor = handle->data;
    CHECK(visitor->handles_open > 0);
    visitor->handles_open--;
    if (visitor->handles_open > 0) {
        return;
    }
    visitor->monitor->visitors--;
    http_request_parser_close(visitor->parser);
    monitor_release(&visitor->answer);
    free(visitor);
}

/* The one way out. */
static void visitor_end(struct monitor_visitor *visitor)
{
    if (!uv_is_closing((uv_handle_t *)&visitor->tcp)) {
        uv_close((uv_handle_t *)&visitor->tcp, visitor_on_close);
        uv_close((uv_handle_t *)&visitor->deadline, visitor_on_close);
    }
}

static void visitor_on_deadline(uv_timer_t *timer)
{
    visitor_end(timer->data);
}

static void visitor_on_written(uv_write_t *write, int status)
{
    (void)status; /* whoever asked has gone: nobody is left to tell */
    visitor_end(CONTAINER_OF(write, struct monitor_visitor, write));
}

static void visitor_answer(struct monitor_visitor *visitor)
{
    const struct monitor_answer *answer = &visitor->answer;
    const int head = snprintf(visitor->head, sizeof visitor->head,
                              "HTTP/1.1 %u %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
                              "Connection: close\r\n\r\n",
                              answer->status, http_status_text(answer->status),
                              answer->content_type, answer->body.size);
    CHECK(head > 0);
    CHECK((size_t)head < sizeof visitor->head);
    const uv_buf_t pieces[] = {
        uv_buf_init(visitor->head, (unsigned)head),
        uv_buf_init((char *)(uintptr_t)answer->body.data, (unsigned)answer->body.size),
    };
    uv_read_stop((uv_stream_t *)&visitor->tcp);
    if (uv_write(&visitor->write, (uv_stream_t *)&visitor->tcp, pieces, 2, visitor_on_written) !=
        0) {
        visitor_end(visitor);
    }
}

static void visitor_on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *out)
{
    struct monitor_visitor *visitor = handle->data;
    (void)size;
    *out = uv_buf_init(visitor->input, sizeof visitor->input);
}

static void visitor_on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer)
{
    struct monitor_visitor *visitor = stream->data;
    if (size == 0) {
        return;
    }
    if (size < 0) {
        visitor_end(visitor);
        return;
    }
    size_t used;
    const char *text;
    switch (
        http_request_parser_feed(visitor->parser, bytes_of(buffer->base, (size_t)size), &used)) {
    case HTTP_PARSE_MORE:
        return;
    case HTTP_PARSE_WHOLE:
        monitor_answer(&visitor->monitor->door, http_request_parser_get(visitor->parser),
                       &visitor->answer);
        break;
    case HTTP_PARSE_REFUSED: {
        const uint32_t status = http_request_parser_refusal(visitor->parser, &text);
        monitor_say(&visitor->answer, status, text);
        break;
    }
    }
    visitor_answer(visitor);
}

static void monitor_on_connection(uv_stream_t *stream, int status)
{
    struct monitor *monitor = stream->data;
    if (status != 0) {
        return;
    }
    struct monitor_visitor *visitor = calloc(1, sizeof *visitor);
    CHECK(visitor != NULL);
    visitor->monitor = monitor;
    visitor->parser = http_request_parser_open(0);
    CHECK(visitor->parser != NULL);
    CHECK(uv_tcp_init(stream->loop, &visitor->tcp) == 0);
    CHECK(uv_timer_init(stream->loop, &visitor->deadline) == 0);
    visitor->handles_open = 2;
    visitor->tcp.data = visitor;
    visitor->deadline.data = visitor;
    monitor->visitors++;
    if (uv_accept(stream, (uv_stream_t *)&visitor->tcp) != 0 ||
        monitor->visitors > LIMIT_MONITOR_VISITORS ||
        uv_read_start((uv_stream_t *)&visitor->tcp, visitor_on_alloc, visitor_on_read) != 0) {
        visitor_end(visitor);
        return;
    }
    uv_timer_start(&visitor->deadline, visitor_on_deadline, LIMIT_MONITOR_MS, 0);
}

static void monitor_on_failed_close(uv_handle_t *handle)
{
    free(handle->data);
}

static int monitor_address(const char *text, struct sockaddr_storage *out)
{
    char host[256];
    uint16_t port;
    if (config_parse_address(text, host, &port) != 0) {
        return STATUS_MALFORMED;
    }
    const char *ip = host[0] == '\0' ? "0.0.0.0" : host;
    const bool good = uv_ip4_addr(ip, port, (struct sockaddr_in *)out) == 0 ||
                      uv_ip6_addr(ip, port, (struct sockaddr_in6 *)out) == 0;
    return good ? 0 : STATUS_MALFORMED;
}

int monitor_listen(uv_loop_t *loop, const char *address, const struct monitor_door *door,
                   uint16_t *out_port, char *reason)
{
    struct sockaddr_storage where = {.ss_family = AF_UNSPEC};
    if (address[0] == '\0') {
        return 0;
    }
    if (monitor_address(address, &where) != 0) {
        snprintf(reason, CONFIG_REASON_BYTES,
                 "\"%s\" is no IP address with a port, such as 127.0.0.1:9402", address);
        return STATUS_MALFORMED;
    }
    struct monitor *monitor = calloc(1, sizeof *monitor);
    CHECK(monitor != NULL);
    monitor->door = *door;
    CHECK(uv_tcp_init(loop, &monitor->tcp) == 0);
    monitor->tcp.data = monitor;
    int status = uv_tcp_bind(&monitor->tcp, (struct sockaddr *)&where, 0);
    if (status == 0) {
        status = uv_listen((uv_stream_t *)&monitor->tcp, (int)LIMIT_MONITOR_VISITORS,
                           monitor_on_connection);
    }
    if (status != 0) {
        snprintf(reason, CONFIG_REASON_BYTES, "cannot listen at %s: %s", address,
                 status_text(status));
        uv_close((uv_handle_t *)&monitor->tcp, monitor_on_failed_close);
        return status;
    }
    int size = sizeof where;
    if (out_port != NULL &&
        uv_tcp_getsockname(&monitor->tcp, (struct sockaddr *)&where, &size) == 0) {
        /* at the same place in both families */
        *out_port = ntohs(((struct sockaddr_in *)&where)->sin_port);
    }
    return 0;
}
