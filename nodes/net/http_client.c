/* The client half of http.h. Steps of one call:
 *
 *   1. an idle connection is taken, or a new one dialed
 *   2. the request is written as the link takes it
 *   3. the response is parsed and handed over; the connection becomes idle again, or leaves
 *
 * What can fail: the connection, before the request was sent (its status is passed on) or after (then
 * nobody knows what happened: STATUS_UNKNOWN), and the deadline. A call that fails ends by its link's
 * on_close, so on_end never comes from inside http_call_start or http_call_cancel.
 */
#include "nodes/net/http.h"

#include "nodes/net/link_session.h"
#include "schemas/check.h"

#include <stdio.h>
#include <stdlib.h>

enum { HTTP_CLIENT_IDLE_MS = LIMIT_HTTP_IDLE_MS / 4 * 3 /* before the server's own limit */ };

struct http_client_link {
    struct http_client *client;
    struct http_client_link *next, *before;
    struct link *link; /* NULL: closed */
    uv_timer_t timer;  /* of the call, or of being idle */
    bool timer_closed;
    bool open;
    bool leaving; /* not for another call */
    struct http_response_parser *parser;
    struct http_call *call; /* NULL: idle */
};

struct http_call {
    struct http_client_link *connection;
    const struct http_call_events *events;
    void *owner;
    char method[16];
    uint8_t *request;
    size_t request_bytes, request_sent;
    bool head_only; /* the deadline ends with the head of the response */
    bool cancelled;
};

struct http_client {
    uv_loop_t *loop;
    struct link_context *context;
    char host[LIMIT_NAME_BYTES + 1];
    char server_name[LIMIT_NAME_BYTES + 1];
    uint16_t port;
    struct http_client_link *links;
    uint32_t links_count;
    bool closing;
    uv_timer_t closer; /* lets on_close come from the loop when there is nothing to close */
    void (*on_close)(void *owner);
    void *owner;
};

static void http_client_link_settle(struct http_client_link *connection)
{
    if (connection->link != NULL || !connection->timer_closed) {
        return;
    }
    http_response_parser_close(connection->parser);
    free(connection);
}

static void http_client_link_on_timer_close(uv_handle_t *handle)
{
    struct http_client_link *connection = handle->data;
    connection->timer_closed = true;
    http_client_link_settle(connection);
}

/* The end of a call, good or bad. */
static void http_call_end(struct http_call *call, int status, const char *reason)
{
    call->connection->call = NULL;
    call->events->on_end(call, status, reason, call->owner);
    free(call->request);
    free(call);
}

static void http_client_on_close(uv_handle_t *handle)
{
    struct http_client *client = handle->data;
    link_context_close(client->context);
    if (client->on_close != NULL) {
        client->on_close(client->owner);
    }
    free(client);
}

static void http_client_link_on_close(struct link *link, int status, const char *reason,
                                      void *owner)
{
    (void)link;
    struct http_client_link *connection = owner;
    struct http_client *client = connection->client;
    struct http_call *call = connection->call;
    connection->link = NULL;
    if (connection->before != NULL) {
        connection->before->next = connection->next;
    } else {
        client->links = connection->next;
    }
    if (connection->next != NULL) {
        connection->next->before = connection->before;
    }
    client->links_count--;
    uv_close((uv_handle_t *)&connection->timer, http_client_link_on_timer_close);

    if (call != NULL) {
        if (call->cancelled) {
            http_call_end(call, STATUS_CLOSING, "cancelled");
        } else if (http_response_parser_finish(connection->parser)) {
            http_call_end(call, 0, "");
        } else if (call->request_sent > 0 && status != STATUS_IDENTITY) {
            http_call_end(call, STATUS_UNKNOWN,
                          status == 0 ? "the server ended the connection without an answer"
                                      : reason);
        } else {
            http_call_end(call, status == 0 ? -ECONNRESET : status,
                          status == 0 ? "the server ended the connection" : reason);
        }
    }
    if (client->closing && client->links == NULL &&
        !uv_is_closing((uv_handle_t *)&client->closer)) {
        uv_close((uv_handle_t *)&client->closer, http_client_on_close);
    }
}

/* -- requests ---------------------------------------------------------------------------------- */

static void http_client_link_on_timer(uv_timer_t *timer)
{
    struct http_client_link *connection = timer->data;
    if (connection->link == NULL) {
        return;
    }
    if (connection->call != NULL) {
        link_fail(connection->link, STATUS_TIMEOUT, "the answer did not come in time");
    } else {
        connection->leaving = true;
        link_shutdown(connection->link);
    }
}

/* Write the request as far as the link takes it. */
static void http_client_link_pump(struct http_client_link *connection)
{
    struct http_call *call = connection->call;
    while (call->request_sent < call->request_bytes) {
        size_t size = call->request_bytes - call->request_sent;
        if (size > LIMIT_LINK_FLIGHT_BYTES) {
            size = LIMIT_LINK_FLIGHT_BYTES;
        }
        if (link_write(connection->link, bytes_of(call->request + call->request_sent, size)) != 0) {
            return; /* full: on_writable goes on; closing: on_close ends it */
        }
        call->request_sent += size;
    }
}

static void http_client_link_on_open(struct link *link, void *owner)
{
    (void)link;
    struct http_client_link *connection = owner;
    connection->open = true;
    if (connection->call != NULL) {
        http_client_link_pump(connection);
    }
}

static void http_client_link_on_writable(struct link *link, void *owner)
{
    (void)link;
    struct http_client_link *connection = owner;
    if (connection->call != NULL) {
        http_client_link_pump(connection);
    }
}

/* The response is whole: keep the connection, if both sides want to. */
static void http_client_link_finish(struct http_client_link *connection, bool keep)
{
    struct http_call *call = connection->call;
    const bool sent = call->request_sent == call->request_bytes;
    uv_timer_stop(&connection->timer);
    connection->leaving = !keep || !sent || connection->client->closing;
    if (connection->leaving) {
        link_shutdown(connection->link);
    } else {
        link_resume(connection->link); /* the call may have paused it */
        uv_timer_start(&connection->timer, http_client_link_on_timer, HTTP_CLIENT_IDLE_MS, 0);
    }
    http_call_end(call, 0, "");
}

static void http_client_link_on_bytes(struct link *link, struct bytes bytes, void *owner)
{
    struct http_client_link *connection = owner;
    if (connection->leaving) {
        return;
    }
    if (connection->call == NULL) {
        link_fail(link, STATUS_MALFORMED, "an answer without a question");
        return;
    }
    size_t used = 0;
    switch (http_response_parser_feed(connection->parser, bytes, &used)) {
    case HTTP_PARSE_MORE:
        return;
    case HTTP_PARSE_WHOLE:
        /* Bytes behind the answer belong to no call of ours: do not keep such a connection. */
        if (connection->call->cancelled) {
            return;
        }
        http_client_link_finish(connection, http_response_parser_keep_alive(connection->parser) &&
                                                used == bytes.size);
        return;
    case HTTP_PARSE_REFUSED:
        link_fail(link, STATUS_MALFORMED, "the answer is not HTTP, or larger than our limits");
        return;
    }
}

static void http_client_link_on_end(struct link *link, void *owner)
{
    struct http_client_link *connection = owner;
    connection->leaving = true;
    if (connection->call != NULL && !connection->call->cancelled &&
        http_response_parser_finish(connection->parser)) {
        http_client_link_finish(connection, false);
        return;
    }
    link_close(link);
}

static const struct link_events http_client_link_events = {
    .on_open = http_client_link_on_open,
    .on_bytes = http_client_link_on_bytes,
    .on_writable = http_client_link_on_writable,
    .on_end = http_client_link_on_end,
    .on_close = http_client_link_on_close,
};

static void http_call_on_head(const struct http_response *response, void *owner)
{
    struct http_client_link *connection = owner;
    struct http_call *call = connection->call;
    if (call->cancelled) {
        return;
    }
    if (call->head_only) {
        uv_timer_stop(&connection->timer);
    }
    if (call->events->on_head != NULL) {
        call->events->on_head(call, response, call->owner);
    }
}

static void http_call_on_body(struct bytes bytes, void *owner)
{
    struct http_client_link *connection = owner;
    struct http_call *call = connection->call;
    if (!call->cancelled && call->events->on_body != NULL) {
        call->events->on_body(call, bytes, call->owner);
    }
}

static const struct http_response_events http_call_parser_events = {.on_head = http_call_on_head,
                                                                    .on_body = http_call_on_body};

/* -- the door ---------------------------------------------------------------------------------- */

int http_client_open(uv_loop_t *loop, struct link_context *context, const char *host, uint16_t port,
                     const char *server_name, struct http_client **out)
{
    if (server_name == NULL) {
        server_name = host;
    }
    if (host[0] == '\0' || strlen(host) > LIMIT_NAME_BYTES || port == 0 ||
        strlen(server_name) > LIMIT_NAME_BYTES) {
        return STATUS_MALFORMED;
    }
    struct http_client *client = calloc(1, sizeof *client);
    if (client == NULL) {
        return -ENOMEM;
    }
    client->loop = loop;
    client->context = link_context_keep(context);
    client->port = port;
    snprintf(client->host, sizeof client->host, "%s", host);
    snprintf(client->server_name, sizeof client->server_name, "%s", server_name);
    CHECK(uv_timer_init(loop, &client->closer) == 0);
    client->closer.data = client;
    *out = client;
    return 0;
}

void http_client_close(struct http_client *client, void (*on_close)(void *owner), void *owner)
{
    CHECK(!client->closing);
    client->closing = true;
    client->on_close = on_close;
    client->owner = owner;
    if (client->links == NULL) {
        uv_close((uv_handle_t *)&client->closer, http_client_on_close);
        return;
    }
    for (struct http_client_link *connection = client->links; connection != NULL;
         connection = connection->next) {
        if (connection->call != NULL) {
            connection->call->cancelled = true;
        }
        link_close(connection->link);
    }
}

/* The request as bytes, into call->request. */
static int http_call_encode(struct http_call *call, const struct http_client *client,
                            const struct http_call_request *request)
{
    char head[LIMIT_HTTP_HEAD_BYTES];
    const bool ipv6 = strchr(client->host, ':') != NULL;
    if (strlen(request->method) >= sizeof call->method || request->target[0] != '/' ||
        strpbrk(request->target, " \t\r\n") != NULL || !http_header_value_valid(request->target)) {
        return STATUS_MALFORMED;
    }
    snprintf(call->method, sizeof call->method, "%s", request->method);
    int size = snprintf(head, sizeof head, "%s %s HTTP/1.1\r\nHost: %s%s%s:%u\r\n", request->method,
                        request->target, ipv6 ? "[" : "", client->host, ipv6 ? "]" : "",
                        (unsigned)client->port);
    if (request->body.size > 0 || strcmp(request->method, "GET") != 0) {
        if (size > 0 && (size_t)size < sizeof head) {
            size += snprintf(head + size, sizeof head - (size_t)size, "Content-Length: %zu\r\n",
                             request->body.size);
        }
    }
    for (uint32_t i = 0; i < request->headers_count; i++) {
        const struct http_header *header = &request->headers[i];
        if (strpbrk(header->name, ": \t\r\n") != NULL || !http_header_value_valid(header->value)) {
            return STATUS_MALFORMED;
        }
        if (size > 0 && (size_t)size < sizeof head) {
            size += snprintf(head + size, sizeof head - (size_t)size, "%s: %s\r\n", header->name,
                             header->value);
        }
    }
    if (size <= 0 || (size_t)size + 2 >= sizeof head) {
        return STATUS_TOO_LARGE;
    }
    memcpy(head + size, "\r\n", 2);
    call->request_bytes = (size_t)size + 2 + request->body.size;
    call->request = malloc(call->request_bytes);
    if (call->request == NULL) {
        return -ENOMEM;
    }
    memcpy(call->request, head, (size_t)size + 2);
    if (request->body.size > 0) {
        memcpy(call->request + size + 2, request->body.data, request->body.size);
    }
    return 0;
}

/* An idle connection, or a new one. NULL: *out_status says why. */
static struct http_client_link *http_client_claim(struct http_client *client, int *out_status)
{
    for (struct http_client_link *connection = client->links; connection != NULL;
         connection = connection->next) {
        if (connection->open && connection->call == NULL && !connection->leaving) {
            return connection;
        }
    }
    if (client->links_count == LIMIT_HTTP_CLIENT_LINKS) {
        *out_status = STATUS_FULL;
        return NULL;
    }
    struct http_client_link *connection = calloc(1, sizeof *connection);
    if (connection != NULL) {
        connection->parser = http_response_parser_open(&http_call_parser_events, connection);
    }
    if (connection == NULL || connection->parser == NULL) {
        free(connection);
        *out_status = -ENOMEM;
        return NULL;
    }
    connection->client = client;
    *out_status =
        link_dial(client->loop, client->context, client->host, client->port, client->server_name,
                  &http_client_link_events, connection, &connection->link);
    if (*out_status != 0) {
        http_response_parser_close(connection->parser);
        free(connection);
        return NULL;
    }
    CHECK(uv_timer_init(client->loop, &connection->timer) == 0);
    connection->timer.data = connection;
    connection->next = client->links;
    if (client->links != NULL) {
        client->links->before = connection;
    }
    client->links = connection;
    client->links_count++;
    return connection;
}

int http_call_start(struct http_client *client, const struct http_call_request *request,
                    const struct http_call_events *events, void *owner, struct http_call **out_call)
{
    CHECK(events->on_end != NULL);
    if (client->closing) {
        return STATUS_CLOSING;
    }
    struct http_call *call = calloc(1, sizeof *call);
    if (call == NULL) {
        return -ENOMEM;
    }
    int status = http_call_encode(call, client, request);
    struct http_client_link *connection = NULL;
    if (status == 0) {
        connection = http_client_claim(client, &status);
    }
    if (connection == NULL) {
        free(call->request);
        free(call);
        return status;
    }

    call->connection = connection;
    call->events = events;
    call->owner = owner;
    call->head_only = request->deadline_ms == 0;
    connection->call = call;
    http_response_parser_next(connection->parser, call->method);
    uv_timer_start(&connection->timer, http_client_link_on_timer,
                   call->head_only ? LIMIT_HTTP_REQUEST_MS : request->deadline_ms, 0);
    if (connection->open) {
        http_client_link_pump(connection);
    }
    if (out_call != NULL) {
        *out_call = call;
    }
    return 0;
}

void http_call_pause(struct http_call *call)
{
    link_pause(call->connection->link);
}

void http_call_resume(struct http_call *call)
{
    link_resume(call->connection->link);
}

void http_call_cancel(struct http_call *call)
{
    call->cancelled = true;
    link_close(call->connection->link);
}
