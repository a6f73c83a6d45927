/* The server half of http.h. Steps of one request:
 *
 *   1. bytes of a link are kept in the connection's input and fed to the parser (http_connection_feed)
 *   2. a whole request becomes an exchange, handed to the owner; nothing more is fed meanwhile
 *   3. the answer goes out: at once, in pieces as the link takes them, or as a stream of chunks
 *   4. the next request is fed, or the link is shut down
 *
 * What can fail: the client leaves (the exchange hears on_gone), sends nonsense or too much (refused with
 * a Status), or is too slow (408). A connection's memory lives until its link and timer are closed and
 * its exchange is answered.
 */
#include "nodes/net/http.h"

#include "schemas/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum {
    HTTP_ANSWER_HEADERS_BYTES = 8192, /* headers a handler may add */
    HTTP_PIECE_BYTES = 256 * 1024,    /* of a whole answer, written at once */
};

struct http_connection;

struct http_exchange {
    struct http_connection *connection;
    const struct http_exchange_events *events;
    void *data;
    char headers[HTTP_ANSWER_HEADERS_BYTES];
    size_t headers_size;
    bool streaming; /* http_answer_begin was called */
    bool gone_told;
};

struct http_connection {
    struct http_server *server;
    struct http_connection *next, *before;
    struct link *link; /* NULL: closed, or upgraded */
    struct link_peer peer;
    uv_timer_t timer;
    bool timer_closed;
    struct http_request_parser *parser;
    uint8_t *input; /* bytes not parsed yet */
    size_t input_bytes, input_used, input_capacity;
    struct http_exchange *exchange; /* NULL: none */
    uint8_t *body;                  /* of a whole answer, going out */
    size_t body_bytes, body_sent;
    size_t request_bytes; /* of a request's body, in server->report */
    bool keep_alive; /* of the request being answered */
    bool feeding;    /* inside http_connection_feed */
    bool leaving;    /* shut down: what still arrives is ignored */
};

struct http_server {
    uv_loop_t *loop;
    struct link_listener *listener; /* NULL: closed */
    const struct http_server_events *events;
    void *owner;
    struct http_connection *connections;
    struct http_server_report report;
    bool draining;
    bool closing;
};

static void http_connection_feed(struct http_connection *connection);

/* -- the end of connections -------------------------------------------------------------------- */

static void http_server_settle(struct http_server *server)
{
    if (!server->closing || server->listener != NULL || server->connections != NULL) {
        return;
    }
    const struct http_server_events *const events = server->events;
    void *const owner = server->owner;
    free(server);
    if (events->on_close != NULL) {
        events->on_close(owner);
    }
}

/* The memory of the request's body has changed. */
static void http_connection_count(struct http_connection *connection)
{
    const size_t bytes = http_request_parser_body_bytes(connection->parser);
    connection->server->report.body_bytes += bytes;
    connection->server->report.body_bytes -= connection->request_bytes;
    connection->request_bytes = bytes;
}

/* Let go of the answer that is going out. */
static void http_connection_drop_body(struct http_connection *connection)
{
    connection->server->report.answer_bytes -=
        connection->body == NULL ? 0 : connection->body_bytes;
    free(connection->body);
    connection->body = NULL;
}

/* Free the connection if nothing needs it any more. */
static void http_connection_settle(struct http_connection *connection)
{
    if (connection->link != NULL || !connection->timer_closed || connection->exchange != NULL) {
        return;
    }
    struct http_server *server = connection->server;
    if (connection->before != NULL) {
        connection->before->next = connection->next;
    } else {
        server->connections = connection->next;
    }
    if (connection->next != NULL) {
        connection->next->before = connection->before;
    }
    server->report.body_bytes -= connection->request_bytes;
    server->report.connections--;
    http_request_parser_close(connection->parser);
    http_connection_drop_body(connection);
    free(connection->input);
    free(connection);
    http_server_settle(server);
}

static void http_connection_on_timer_close(uv_handle_t *handle)
{
    struct http_connection *connection = handle->data;
    connection->timer_closed = true;
    http_connection_settle(connection);
}

/* The link is gone or somebody else's now. */
static void http_connection_end(struct http_connection *connection)
{
    connection->link = NULL;
    uv_close((uv_handle_t *)&connection->timer, http_connection_on_timer_close);
}

static void http_connection_on_close(struct link *link, int status, const char *reason, void *owner)
{
    (void)link;
    struct http_connection *connection = owner;
    struct http_server *server = connection->server;
    /* Clients hang up as they please; only what smells of damage is worth a line. */
    if (status == STATUS_CORRUPT && server->events->on_refused != NULL) {
        server->events->on_refused(server, connection->peer.address, status, reason, server->owner);
    }
    http_connection_end(connection);
    struct http_exchange *exchange = connection->exchange;
    if (exchange != NULL && !exchange->gone_told) {
        exchange->gone_told = true;
        if (exchange->events != NULL && exchange->events->on_gone != NULL) {
            exchange->events->on_gone(exchange, exchange->data);
        }
    }
}

/* No more requests here: finish what is queued and go. */
static void http_connection_leave(struct http_connection *connection)
{
    connection->leaving = true;
    uv_timer_stop(&connection->timer);
    if (connection->link != NULL) {
        link_shutdown(connection->link);
    }
}

static uint32_t http_server_idle_ms(const struct http_server *server)
{
    return server->draining ? LIMIT_HTTP_DRAIN_IDLE_MS : LIMIT_HTTP_IDLE_MS;
}

/* -- answers ----------------------------------------------------------------------------------- */

/* Write a head. length: bytes of the body; -1: chunked. Status 101 has neither. */
static int http_connection_write_head(struct http_connection *connection, uint32_t status,
                                      const char *content_type, const char *headers,
                                      size_t headers_size, int64_t length)
{
    char head[HTTP_ANSWER_HEADERS_BYTES + 1024];
    char framing[64] = "";
    connection->keep_alive = connection->keep_alive && !connection->server->draining;
    if (length >= 0) {
        snprintf(framing, sizeof framing, "Content-Length: %lld\r\n", (long long)length);
    } else if (status != 101) {
        snprintf(framing, sizeof framing, "Transfer-Encoding: chunked\r\n");
    }
    const int size = snprintf(
        head, sizeof head, "HTTP/1.1 %u %s\r\n%s%s%s%s%s%.*s\r\n", status, http_status_text(status),
        content_type == NULL ? "" : "Content-Type: ", content_type == NULL ? "" : content_type,
        content_type == NULL ? "" : "\r\n", framing,
        connection->keep_alive || status == 101 ? "" : "Connection: close\r\n", (int)headers_size,
        headers);
    CHECK(size > 0);
    CHECK((size_t)size < sizeof head);
    return link_write(connection->link, bytes_of(head, (size_t)size));
}

/* The answer is out: on to the next request. */
static void http_connection_answered(struct http_connection *connection)
{
    if (connection->link == NULL) {
        http_connection_settle(connection);
        return;
    }
    if (!connection->keep_alive || connection->server->draining || connection->server->closing) {
        http_connection_leave(connection);
        return;
    }
    http_request_parser_next(connection->parser);
    http_connection_count(connection);
    uv_timer_stop(&connection->timer);
    http_connection_feed(connection);
}

/* Push the body of a whole answer as far as the link takes it. */
static void http_connection_pump(struct http_connection *connection)
{
    while (connection->body_sent < connection->body_bytes) {
        size_t size = connection->body_bytes - connection->body_sent;
        if (size > HTTP_PIECE_BYTES) {
            size = HTTP_PIECE_BYTES;
        }
        const int status =
            link_write(connection->link, bytes_of(connection->body + connection->body_sent, size));
        if (status == STATUS_FULL) {
            return; /* http_connection_on_writable goes on */
        }
        if (status != 0) {
            return; /* on_close comes */
        }
        connection->body_sent += size;
    }
    http_connection_drop_body(connection);
    http_connection_answered(connection);
}

static void http_connection_on_writable(struct link *link, void *owner)
{
    (void)link;
    struct http_connection *connection = owner;
    if (connection->body != NULL) {
        http_connection_pump(connection);
    } else if (connection->exchange != NULL && connection->exchange->events != NULL &&
               connection->exchange->events->on_writable != NULL) {
        connection->exchange->events->on_writable(connection->exchange, connection->exchange->data);
    } else {
        http_connection_feed(connection);
    }
}

static const char *http_reason_word(uint32_t status)
{
    switch (status) {
    case 400:
        return "BadRequest";
    case 408:
        return "Timeout";
    case 413:
        return "RequestEntityTooLarge";
    case 429:
        return "TooManyRequests";
    case 503:
        return "ServiceUnavailable";
    default:
        return "";
    }
}

/* Say no to a request that no handler saw, and leave. `text` is ours: nothing in it needs escaping. */
static void http_connection_refuse(struct http_connection *connection, uint32_t status,
                                   const char *text)
{
    struct http_server *server = connection->server;
    char body[512];
    const int size = snprintf(
        body, sizeof body,
        "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Failure\","
        "\"message\":\"%s\",\"reason\":\"%s\",\"code\":%u}\n",
        text, http_reason_word(status), status);
    CHECK(size > 0);
    CHECK((size_t)size < sizeof body);
    connection->keep_alive = false;
    static const char retry[] = "Retry-After: 1\r\n";
    if (http_connection_write_head(connection, status, "application/json", retry,
                                   status == 429 ? sizeof retry - 1 : 0, size) == 0) {
        link_write(connection->link, bytes_of(body, (size_t)size));
    }
    http_connection_leave(connection);
    if (server->events->on_refused != NULL) {
        server->events->on_refused(server, connection->peer.address, (int)status, text,
                                   server->owner);
    }
}

/* -- requests ---------------------------------------------------------------------------------- */

static void http_connection_on_timer(uv_timer_t *timer)
{
    struct http_connection *connection = timer->data;
    if (connection->link == NULL || connection->leaving) {
        return;
    }
    if (http_request_parser_busy(connection->parser)) {
        http_connection_refuse(connection, 408, "the request did not arrive in time");
    } else {
        http_connection_leave(connection);
    }
}

/* A whole request is in the parser: make it an exchange. */
static void http_connection_begin_exchange(struct http_connection *connection)
{
    uv_timer_stop(&connection->timer);
    const struct http_request *request = http_request_parser_get(connection->parser);
    struct http_exchange *exchange = calloc(1, sizeof *exchange);
    if (exchange == NULL) {
        http_connection_refuse(connection, 503, "out of memory");
        return;
    }
    connection->keep_alive = request->keep_alive;
    exchange->connection = connection;
    connection->exchange = exchange;
    struct http_server *server = connection->server;
    server->events->on_request(server, exchange, server->owner);
}

/* Is there memory for what has arrived of a body? Small ones still find some when large ones do not, and
 * strangers find none long before. */
static bool http_connection_fits(struct http_connection *connection)
{
    http_connection_count(connection);
    const size_t all = connection->server->report.body_bytes;
    const bool large = connection->request_bytes > LIMIT_HTTP_SMALL_BYTES;
    return connection->request_bytes == 0 ||
           all <= (!connection->peer.verified ? LIMIT_HTTP_STRANGERS_BYTES
                   : large                    ? LIMIT_HTTP_LARGE_BODIES_BYTES
                                              : LIMIT_HTTP_BODIES_BYTES);
}

/* Parse what has arrived, request by request, until there is no more or one is being answered. */
static void http_connection_feed(struct http_connection *connection)
{
    if (connection->feeding) {
        return; /* a handler answered at once: the loop below goes on by itself */
    }
    connection->feeding = true;
    while (connection->link != NULL && !connection->leaving && connection->exchange == NULL &&
           connection->body == NULL && connection->input_used < connection->input_bytes) {
        if (link_write(connection->link, bytes_of(NULL, 0)) == STATUS_FULL) {
            break; /* the client does not read its answers: on_writable goes on */
        }
        size_t used = 0;
        const bool was_busy = http_request_parser_busy(connection->parser);
        const enum http_parse parse =
            http_request_parser_feed(connection->parser,
                                     bytes_of(connection->input + connection->input_used,
                                              connection->input_bytes - connection->input_used),
                                     &used);
        connection->input_used += used;
        if (parse != HTTP_PARSE_REFUSED && !http_connection_fits(connection)) {
            http_connection_refuse(connection, 429, "too many requests with bodies are arriving");
            break;
        }
        switch (parse) {
        case HTTP_PARSE_MORE:
            if (http_request_parser_take_continue(connection->parser)) {
                link_write(connection->link, bytes_text("HTTP/1.1 100 Continue\r\n\r\n"));
            }
            if (!was_busy && http_request_parser_busy(connection->parser)) {
                uv_timer_start(&connection->timer, http_connection_on_timer, LIMIT_HTTP_REQUEST_MS,
                               0);
            }
            break;
        case HTTP_PARSE_WHOLE:
            http_connection_begin_exchange(connection);
            break;
        case HTTP_PARSE_REFUSED: {
            const char *text = NULL;
            const uint32_t status = http_request_parser_refusal(connection->parser, &text);
            http_connection_refuse(connection, status, text);
            break;
        }
        }
    }
    connection->feeding = false;
    if (connection->link == NULL || connection->leaving) {
        return;
    }
    if (connection->input_used == connection->input_bytes) {
        free(connection->input); /* an idle connection keeps no buffers */
        connection->input = NULL;
        connection->input_bytes = connection->input_used = connection->input_capacity = 0;
        link_resume(connection->link);
    }
    if (connection->exchange == NULL && connection->body == NULL &&
        !http_request_parser_busy(connection->parser) &&
        !uv_is_active((uv_handle_t *)&connection->timer)) {
        uv_timer_start(&connection->timer, http_connection_on_timer,
                       http_server_idle_ms(connection->server), 0);
    }
}

static void http_connection_on_bytes(struct link *link, struct bytes bytes, void *owner)
{
    struct http_connection *connection = owner;
    if (connection->leaving) {
        return;
    }
    if (connection->input_used > 0) {
        connection->input_bytes -= connection->input_used;
        memmove(connection->input, connection->input + connection->input_used,
                connection->input_bytes);
        connection->input_used = 0;
    }
    if (connection->input_bytes + bytes.size > connection->input_capacity) {
        const size_t capacity = connection->input_bytes + bytes.size;
        uint8_t *grown = realloc(connection->input, capacity);
        if (grown == NULL) {
            link_fail(link, -ENOMEM, "out of memory");
            return;
        }
        connection->input = grown;
        connection->input_capacity = capacity;
    }
    memcpy(connection->input + connection->input_bytes, bytes.data, bytes.size);
    connection->input_bytes += bytes.size;
    /* While a request is answered we go on reading, or we would not see the client leave; but a
     * client that sends ahead without end is slowed down. */
    if (connection->input_bytes >= LIMIT_LINK_SOCKET_BYTES) {
        link_pause(link);
    }
    http_connection_feed(connection);
}

/* The client said its last byte. For HTTP over TLS that means it is gone; only an answer that is complete
 * and under way is still finished. */
static void http_connection_on_end(struct link *link, void *owner)
{
    struct http_connection *connection = owner;
    if (connection->exchange != NULL) {
        link_close(link);
        return;
    }
    connection->keep_alive = false;
    if (connection->body == NULL) {
        http_connection_leave(connection);
    }
}

static const struct link_events http_connection_events = {
    .on_bytes = http_connection_on_bytes,
    .on_writable = http_connection_on_writable,
    .on_end = http_connection_on_end,
    .on_close = http_connection_on_close,
};

static void http_server_on_link(struct link_listener *listener, struct link *link, void *owner)
{
    (void)listener;
    struct http_server *server = owner;
    struct http_connection *connection = calloc(1, sizeof *connection);
    if (connection != NULL) {
        connection->parser = http_request_parser_open(
            link_peer(link)->verified ? LIMIT_HTTP_BODY_BYTES : LIMIT_HTTP_STRANGER_BYTES);
    }
    if (connection == NULL || connection->parser == NULL) {
        free(connection);
        link_fail(link, -ENOMEM, "out of memory");
        return;
    }
    connection->server = server;
    connection->link = link;
    connection->peer = *link_peer(link);
    CHECK(uv_timer_init(server->loop, &connection->timer) == 0);
    connection->timer.data = connection;
    uv_timer_start(&connection->timer, http_connection_on_timer, http_server_idle_ms(server), 0);
    server->report.connections++;
    connection->next = server->connections;
    if (server->connections != NULL) {
        server->connections->before = connection;
    }
    server->connections = connection;
    link_attach(link, &http_connection_events, connection);
}

static void http_server_on_refused(struct link_listener *listener, const char *address, int status,
                                   const char *reason, void *owner)
{
    (void)listener;
    struct http_server *server = owner;
    if (server->events->on_refused != NULL) {
        server->events->on_refused(server, address, status, reason, server->owner);
    }
}

static void http_server_on_listener_close(void *owner)
{
    struct http_server *server = owner;
    server->listener = NULL;
    http_server_settle(server);
}

static const struct link_listener_events http_listener_events = {
    .on_link = http_server_on_link,
    .on_refused = http_server_on_refused,
    .on_close = http_server_on_listener_close,
};

/* -- the door: server -------------------------------------------------------------------------- */

int http_server_open(uv_loop_t *loop, struct link_context *context, const char *address,
                     uint16_t port, const struct http_server_events *events, void *owner,
                     struct http_server **out, char *reason)
{
    struct http_server *server = calloc(1, sizeof *server);
    if (server == NULL) {
        snprintf(reason, LINK_REASON_BYTES, "out of memory");
        return -ENOMEM;
    }
    server->loop = loop;
    server->events = events;
    server->owner = owner;
    const int status = link_listener_open(loop, context, address, port, &http_listener_events,
                                          server, &server->listener, reason);
    if (status != 0) {
        free(server);
        return status;
    }
    *out = server;
    return 0;
}

uint16_t http_server_port(const struct http_server *server)
{
    return link_listener_port(server->listener);
}

struct http_server_report http_server_report(const struct http_server *server)
{
    return server->report;
}

void http_server_renew(struct http_server *server, struct link_context *context)
{
    link_listener_renew(server->listener, context);
}

void http_server_close(struct http_server *server)
{
    if (server->closing) {
        return;
    }
    server->closing = true;
    if (server->listener != NULL) {
        link_listener_close(server->listener);
    }
    for (struct http_connection *connection = server->connections; connection != NULL;
         connection = connection->next) {
        if (connection->link == NULL) {
            continue;
        }
        if (connection->exchange == NULL && connection->body == NULL &&
            link_queued_bytes(connection->link) > 0) {
            http_connection_leave(connection); /* an answer given just now is still heard */
        } else {
            link_close(connection->link);
        }
    }
    http_server_settle(server); /* drained: nobody is left to call back */
}

void http_server_drain(struct http_server *server)
{
    if (server->draining || server->closing) {
        return;
    }
    server->draining = true;
    link_listener_drain(server->listener);
    for (struct http_connection *connection = server->connections; connection != NULL;
         connection = connection->next) {
        if (connection->link != NULL && !connection->leaving && connection->exchange == NULL &&
            connection->body == NULL && !http_request_parser_busy(connection->parser)) {
            uv_timer_start(&connection->timer, http_connection_on_timer, LIMIT_HTTP_DRAIN_IDLE_MS, 0);
        }
    }
}

bool http_server_drained(const struct http_server *server)
{
    return server->draining && server->listener == NULL && server->connections == NULL;
}

/* -- the door: exchanges ----------------------------------------------------------------------- */

const struct http_request *http_exchange_request(const struct http_exchange *exchange)
{
    return http_request_parser_get(exchange->connection->parser);
}

const struct link_peer *http_exchange_peer(const struct http_exchange *exchange)
{
    return &exchange->connection->peer;
}

void http_exchange_set_data(struct http_exchange *exchange, void *data)
{
    exchange->data = data;
}

void *http_exchange_data(const struct http_exchange *exchange)
{
    return exchange->data;
}

void http_exchange_set_events(struct http_exchange *exchange,
                              const struct http_exchange_events *events)
{
    exchange->events = events;
}

int http_answer_header(struct http_exchange *exchange, const char *name, const char *value)
{
    if (name[0] == '\0' || strpbrk(name, ": \t\r\n") != NULL || !http_header_value_valid(name) ||
        !http_header_value_valid(value)) {
        return STATUS_MALFORMED;
    }
    const size_t room = sizeof exchange->headers - exchange->headers_size;
    const int size =
        snprintf(exchange->headers + exchange->headers_size, room, "%s: %s\r\n", name, value);
    if (size < 0 || (size_t)size >= room) {
        return STATUS_TOO_LARGE;
    }
    exchange->headers_size += (size_t)size;
    return 0;
}

/* The handler is done with the exchange. */
static struct http_connection *http_exchange_release(struct http_exchange *exchange)
{
    struct http_connection *connection = exchange->connection;
    CHECK(connection->exchange == exchange);
    connection->exchange = NULL;
    free(exchange);
    return connection;
}

static bool http_exchange_wants_body(const struct http_exchange *exchange)
{
    return strcmp(http_exchange_request(exchange)->method, "HEAD") != 0;
}

void http_answer(struct http_exchange *exchange, uint32_t status, const char *content_type,
                 struct bytes body)
{
    CHECK(!exchange->streaming || exchange->connection->link == NULL);
    struct http_connection *connection = exchange->connection;
    if (body.size > LIMIT_HTTP_ANSWER_BYTES) {
        status = 500;
        content_type = "text/plain";
        body = bytes_text("the answer is too large\n");
    }
    const bool bodiless = status == 204 || status == 304;
    const bool send_body = http_exchange_wants_body(exchange) && !bodiless && body.size > 0;
    uint8_t *copy = NULL;
    int written = STATUS_CLOSING;
    if (connection->link != NULL) {
        copy = send_body ? malloc(body.size) : NULL;
        written =
            send_body && copy == NULL
                ? -ENOMEM
                : http_connection_write_head(connection, status, content_type, exchange->headers,
                                             exchange->headers_size, (int64_t)body.size);
    }
    http_exchange_release(exchange);
    if (written != 0) {
        free(copy);
        if (connection->link != NULL) {
            link_fail(connection->link, written, "an answer could not be queued");
        }
        http_connection_settle(connection);
        return;
    }
    if (!send_body) {
        http_connection_answered(connection);
        return;
    }
    memcpy(copy, body.data, body.size);
    connection->body = copy;
    connection->body_bytes = body.size;
    connection->body_sent = 0;
    connection->server->report.answer_bytes += body.size;
    http_connection_pump(connection);
}

int http_answer_begin(struct http_exchange *exchange, uint32_t status, const char *content_type)
{
    CHECK(!exchange->streaming);
    exchange->streaming = true;
    if (exchange->connection->link == NULL) {
        return STATUS_CLOSING;
    }
    return http_connection_write_head(exchange->connection, status, content_type, exchange->headers,
                                      exchange->headers_size, -1) == 0
               ? 0
               : STATUS_CLOSING;
}

int http_answer_chunk(struct http_exchange *exchange, struct bytes bytes)
{
    CHECK(exchange->streaming);
    CHECK(bytes.size <= LIMIT_WIRE_BYTES);
    struct http_connection *connection = exchange->connection;
    if (connection->link == NULL) {
        return STATUS_CLOSING;
    }
    if (bytes.size == 0 || !http_exchange_wants_body(exchange)) {
        return 0;
    }
    /* One write, since a write is taken whole or not at all. */
    uint8_t *chunk = malloc(bytes.size + 32);
    if (chunk == NULL) {
        return STATUS_CLOSING;
    }
    const int head = snprintf((char *)chunk, 24, "%zx\r\n", bytes.size);
    CHECK(head > 0);
    memcpy(chunk + head, bytes.data, bytes.size);
    memcpy(chunk + (size_t)head + bytes.size, "\r\n", 2);
    const int status = link_write(connection->link, bytes_of(chunk, (size_t)head + bytes.size + 2));
    free(chunk);
    return status;
}

void http_answer_end(struct http_exchange *exchange, bool whole)
{
    const bool last = exchange->streaming && http_exchange_wants_body(exchange);
    struct http_connection *connection = http_exchange_release(exchange);
    if (connection->link == NULL) {
        http_connection_settle(connection);
        return;
    }
    int status = whole ? 0 : STATUS_CLOSING;
    if (whole && last) {
        status = link_write(connection->link, bytes_text("0\r\n\r\n"));
        if (status == STATUS_FULL) {
            /* Five bytes more would have fitted a moment ago: let them go out as a body does. */
            connection->body = malloc(5);
            if (connection->body != NULL) {
                memcpy(connection->body, "0\r\n\r\n", 5);
                connection->body_bytes = 5;
                connection->server->report.answer_bytes += 5;
                connection->body_sent = 0;
                return;
            }
        }
    }
    if (status != 0) {
        link_close(connection->link);
        return;
    }
    http_connection_answered(connection);
}

int http_exchange_upgrade(struct http_exchange *exchange, const char *protocol,
                          const struct link_events *events, void *owner, struct link **out_link,
                          struct bytes *out_rest)
{
    struct http_connection *connection = exchange->connection;
    char headers[HTTP_ANSWER_HEADERS_BYTES];
    const int size = snprintf(headers, sizeof headers, "Connection: Upgrade\r\nUpgrade: %s\r\n%.*s",
                              protocol, (int)exchange->headers_size, exchange->headers);
    const bool fits = size > 0 && (size_t)size < sizeof headers;
    int status = STATUS_CLOSING;
    if (connection->link != NULL && fits) {
        status = http_connection_write_head(connection, 101, NULL, headers, (size_t)size, -1);
    }
    http_exchange_release(exchange);
    if (status != 0) {
        if (connection->link != NULL) {
            link_close(connection->link);
        }
        http_connection_settle(connection);
        return STATUS_CLOSING;
    }
    struct link *const link = connection->link;
    *out_rest = bytes_of(connection->input + connection->input_used,
                         connection->input_bytes - connection->input_used);
    link_attach(link, events, owner);
    link_resume(link);
    *out_link = link;
    http_connection_end(connection);
    return 0;
}
