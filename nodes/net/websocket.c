/* WebSocket on links. A server's socket begins with an exchange (websocket_accept), a client's with a
 * dialed link and an upgrade request. Then:
 *
 *   1. bytes of the link are fed to the core, which hands over whole messages
 *   2. what the core has to say is written to the link (websocket_flush); if it is full, later
 *   3. silence is answered with pings, and a long one with the end
 *   4. close frames are exchanged, then the link is shut down
 *
 * What can fail: the link, the peer's frames (a close frame says so, then the link ends), the upgrade. All
 * of it arrives in websocket_on_link_close, the one way out.
 */
#include "nodes/net/websocket.h"

#include "schemas/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

enum {
    WEBSOCKET_CONTROL_BYTES = 64 * 1024, /* unsent pongs: a peer that pings and never reads */
};

struct websocket {
    struct link *link; /* NULL: closed */
    uv_loop_t *loop;
    uv_timer_t timer; /* upgrade, pings, leaving */
    struct websocket_core *core;
    const struct websocket_events *events;
    void *owner;
    struct http_response_parser *upgrade; /* client: until the server agreed */
    char accept_key[29];
    char *request; /* client: the upgrade request */
    uint32_t upgrade_status;
    bool upgrade_good;
    bool open;
    bool paused;
    bool leaving;
    bool failed; /* the peer broke the protocol: nothing it says counts any more */
    bool peer_closed;
    uint16_t code;
    char reason[LINK_REASON_BYTES];
    int status;
    uint64_t heard_ms, pinged_ms;
};

/* -- the way out ------------------------------------------------------------------------------- */

static void websocket_on_timer_close(uv_handle_t *handle)
{
    struct websocket *socket = handle->data;
    socket->events->on_close(socket, socket->status, socket->code, socket->reason, socket->owner);
    websocket_core_close(socket->core);
    http_response_parser_close(socket->upgrade);
    free(socket->request);
    free(socket);
}

static void websocket_on_link_close(struct link *link, int status, const char *reason, void *owner)
{
    (void)link;
    struct websocket *socket = owner;
    socket->link = NULL;
    if (socket->failed) {
        /* status and reason were set when it failed */
    } else if (socket->peer_closed) {
        socket->status = 0; /* reason and code are the peer's */
    } else {
        socket->status = status;
        socket->code = WEBSOCKET_CODE_ABNORMAL;
        snprintf(socket->reason, sizeof socket->reason, "%s", reason);
    }
    uv_close((uv_handle_t *)&socket->timer, websocket_on_timer_close);
}

/* -- out --------------------------------------------------------------------------------------- */

/* Write what the core has to say; false: it waits for the link. */
static bool websocket_flush(struct websocket *socket)
{
    const struct bytes output = websocket_core_output(socket->core);
    if (socket->link == NULL) {
        return true;
    }
    if (output.size == 0) {
        if (socket->open && websocket_core_ended(socket->core)) {
            link_shutdown(socket->link); /* both left at once: the close frames crossed */
        }
        return true;
    }
    const int status = link_write(socket->link, output);
    if (status == STATUS_FULL) {
        if (output.size > WEBSOCKET_CONTROL_BYTES) {
            link_fail(socket->link, STATUS_FULL, "the peer sends and does not read");
        }
        return false;
    }
    websocket_core_output_done(socket->core);
    if (websocket_core_ended(socket->core)) {
        link_shutdown(socket->link);
    }
    return true;
}

/* The peer broke the protocol: our close frame is in the output; send it and go. */
static void websocket_fail(struct websocket *socket, int status)
{
    if (socket->failed) {
        return;
    }
    socket->failed = true;
    socket->status = status;
    socket->code = WEBSOCKET_CODE_ABNORMAL;
    snprintf(socket->reason, sizeof socket->reason, "the peer broke the WebSocket protocol: %s",
             status_text(status));
    websocket_flush(socket);
    if (socket->link != NULL) {
        link_shutdown(socket->link);
    }
}

static void websocket_on_timer(uv_timer_t *timer)
{
    struct websocket *socket = timer->data;
    if (socket->link == NULL) {
        return;
    }
    const uint64_t now_ms = uv_now(socket->loop);
    if (!socket->open) {
        link_fail(socket->link, STATUS_TIMEOUT, "the upgrade was not answered in time");
    } else if (socket->leaving) {
        link_shutdown(socket->link);
    } else if (socket->paused) {
        socket->heard_ms = now_ms; /* the silence is ours */
    } else if (now_ms - socket->heard_ms >= LIMIT_WEBSOCKET_SILENCE_MS) {
        link_fail(socket->link, STATUS_TIMEOUT, "the peer is silent");
    } else if (now_ms - socket->heard_ms >= LIMIT_WEBSOCKET_PING_MS &&
               now_ms - socket->pinged_ms >= LIMIT_WEBSOCKET_PING_MS) {
        socket->pinged_ms = now_ms;
        if (websocket_core_output(socket->core).size == 0) {
            websocket_core_ping(socket->core);
            websocket_flush(socket);
        }
    }
}

/* -- in ---------------------------------------------------------------------------------------- */

static void websocket_on_core_message(struct bytes message, void *owner)
{
    struct websocket *socket = owner;
    if (socket->link != NULL && !socket->failed) {
        socket->events->on_message(socket, message, socket->owner);
    }
}

static void websocket_on_core_close(uint16_t code, struct bytes reason, void *owner)
{
    struct websocket *socket = owner;
    socket->peer_closed = true;
    socket->code = code;
    snprintf(socket->reason, sizeof socket->reason, "%.*s", (int)reason.size,
             (const char *)reason.data);
}

static void websocket_on_core_mask(uint8_t *bytes, size_t size, void *owner)
{
    (void)owner;
    for (size_t done = 0; done < size;) {
        const ssize_t got = getrandom(bytes + done, size - done, 0);
        CHECK(got > 0 || errno == EINTR);
        done += got > 0 ? (size_t)got : 0;
    }
}

static const struct websocket_core_events websocket_core_events = {
    .on_message = websocket_on_core_message,
    .on_close = websocket_on_core_close,
    .on_mask = websocket_on_core_mask,
};

static void websocket_feed(struct websocket *socket, struct bytes bytes)
{
    const int status = websocket_core_feed(socket->core, bytes);
    if (socket->link == NULL) {
        return;
    }
    if (status != 0) {
        websocket_fail(socket, status);
    } else {
        websocket_flush(socket);
    }
}

/* The server's answer to our upgrade. */
static void websocket_on_upgrade_head(const struct http_response *response, void *owner)
{
    struct websocket *socket = owner;
    const char *const key = http_response_find_header(response, "Sec-WebSocket-Accept");
    socket->upgrade_status = response->status;
    socket->upgrade_good =
        response->status == 101 &&
        http_list_holds(http_response_find_header(response, "Upgrade"), "websocket") &&
        key != NULL && strcmp(key, socket->accept_key) == 0;
}

static const struct http_response_events websocket_upgrade_events = {.on_head =
                                                                         websocket_on_upgrade_head};

static void websocket_start_pings(struct websocket *socket)
{
    socket->open = true;
    socket->heard_ms = uv_now(socket->loop);
    socket->pinged_ms = socket->heard_ms;
    uv_timer_start(&socket->timer, websocket_on_timer, LIMIT_WEBSOCKET_PING_MS / 3,
                   LIMIT_WEBSOCKET_PING_MS / 3);
}

static void websocket_read_upgrade(struct websocket *socket, struct bytes bytes)
{
    size_t used = 0;
    const enum http_parse parse = http_response_parser_feed(socket->upgrade, bytes, &used);
    if (parse == HTTP_PARSE_MORE && socket->upgrade_status == 0) {
        return;
    }
    if (!socket->upgrade_good || parse != HTTP_PARSE_WHOLE) {
        char reason[LINK_REASON_BYTES];
        snprintf(reason, sizeof reason, "the server refused the WebSocket upgrade with HTTP %u",
                 socket->upgrade_status);
        link_fail(socket->link, STATUS_FOREIGN, reason);
        return;
    }
    websocket_start_pings(socket);
    if (socket->events->on_open != NULL) {
        socket->events->on_open(socket, socket->owner);
    }
    if (socket->link != NULL && used < bytes.size) {
        websocket_feed(socket, bytes_of(bytes.data + used, bytes.size - used));
    }
}

static void websocket_on_link_open(struct link *link, void *owner)
{
    struct websocket *socket = owner;
    const int status = link_write(link, bytes_text(socket->request));
    MAYBE(status != 0); /* then on_close follows */
}

static void websocket_on_link_bytes(struct link *link, struct bytes bytes, void *owner)
{
    (void)link;
    struct websocket *socket = owner;
    socket->heard_ms = uv_now(socket->loop);
    if (socket->failed) {
        return;
    }
    if (!socket->open) {
        websocket_read_upgrade(socket, bytes);
    } else {
        websocket_feed(socket, bytes);
    }
}

static void websocket_on_link_writable(struct link *link, void *owner)
{
    (void)link;
    struct websocket *socket = owner;
    if (websocket_flush(socket) && socket->open && !socket->leaving && !socket->failed &&
        socket->events->on_writable != NULL) {
        socket->events->on_writable(socket, socket->owner);
    }
}

static void websocket_on_link_end(struct link *link, void *owner)
{
    struct websocket *socket = owner;
    if (socket->peer_closed || socket->failed) {
        link_shutdown(link);
    } else {
        link_fail(link, -ECONNRESET, "the peer ended the connection without a close frame");
    }
}

static const struct link_events websocket_link_events = {
    .on_open = websocket_on_link_open,
    .on_bytes = websocket_on_link_bytes,
    .on_writable = websocket_on_link_writable,
    .on_end = websocket_on_link_end,
    .on_close = websocket_on_link_close,
};

/* -- the door ---------------------------------------------------------------------------------- */

bool websocket_wanted(const struct http_request *request)
{
    const char *const version = http_request_find_header(request, "Sec-WebSocket-Version");
    const char *const key = http_request_find_header(request, "Sec-WebSocket-Key");
    return strcmp(request->method, "GET") == 0 && request->upgrade &&
           http_list_holds(http_request_find_header(request, "Upgrade"), "websocket") &&
           version != NULL && strcmp(version, "13") == 0 && key != NULL && strlen(key) == 24;
}

static struct websocket *websocket_create(bool client, const struct websocket_events *events,
                                          void *owner)
{
    struct websocket *socket = calloc(1, sizeof *socket);
    if (socket == NULL) {
        return NULL;
    }
    socket->events = events;
    socket->owner = owner;
    socket->core = websocket_core_open(client, LIMIT_WIRE_BYTES, &websocket_core_events, socket);
    if (socket->core == NULL) {
        free(socket);
        return NULL;
    }
    return socket;
}

static void websocket_start(struct websocket *socket, uv_loop_t *loop)
{
    socket->loop = loop;
    CHECK(uv_timer_init(loop, &socket->timer) == 0);
    socket->timer.data = socket;
}

int websocket_accept(struct http_exchange *exchange, const char *subprotocol,
                     const struct websocket_events *events, void *owner, struct websocket **out)
{
    const struct http_request *request = http_exchange_request(exchange);
    if (!websocket_wanted(request)) {
        return STATUS_MALFORMED;
    }
    char accept_key[29];
    websocket_accept_key(http_request_find_header(request, "Sec-WebSocket-Key"), accept_key);
    struct websocket *socket = websocket_create(false, events, owner);
    if (socket == NULL) {
        return -ENOMEM;
    }
    if (http_answer_header(exchange, "Sec-WebSocket-Accept", accept_key) != 0 ||
        (subprotocol != NULL &&
         http_answer_header(exchange, "Sec-WebSocket-Protocol", subprotocol) != 0)) {
        websocket_core_close(socket->core);
        free(socket);
        return STATUS_MALFORMED;
    }
    struct bytes rest;
    const int status = http_exchange_upgrade(exchange, "websocket", &websocket_link_events, socket,
                                             &socket->link, &rest);
    if (status != 0) {
        websocket_core_close(socket->core);
        free(socket);
        return status;
    }
    websocket_start(socket, link_loop(socket->link));
    websocket_start_pings(socket);
    if (rest.size > 0) { /* a client that does not wait for our agreement is none */
        link_fail(socket->link, STATUS_MALFORMED, "frames before the handshake was done");
    }
    *out = socket;
    return 0;
}

/* The upgrade request as text. NULL: too large, or out of memory. */
static char *websocket_print_request(const char *host, uint16_t port, const char *target,
                                     const struct http_header *headers, uint32_t headers_count,
                                     const char *key)
{
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    if (stream == NULL) {
        return NULL;
    }
    const bool ipv6 = strchr(host, ':') != NULL;
    fprintf(stream,
            "GET %s HTTP/1.1\r\nHost: %s%s%s:%u\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n",
            target, ipv6 ? "[" : "", host, ipv6 ? "]" : "", (unsigned)port, key);
    for (uint32_t i = 0; i < headers_count; i++) {
        fprintf(stream, "%s: %s\r\n", headers[i].name, headers[i].value);
    }
    fprintf(stream, "\r\n");
    if (fclose(stream) != 0 || size > LIMIT_HTTP_HEAD_BYTES) {
        free(text);
        return NULL;
    }
    return text;
}

/* 24 characters of base64 for 16 random bytes; the last one holds two bits. */
static void websocket_make_key(char *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t random[22];
    websocket_on_core_mask(random, sizeof random, NULL);
    for (size_t i = 0; i < 21; i++) {
        out[i] = digits[random[i] & 63];
    }
    out[21] = digits[(random[21] & 3) << 4];
    memcpy(out + 22, "==", 3);
}

int websocket_dial(uv_loop_t *loop, struct link_context *context, const char *host, uint16_t port,
                   const char *server_name, const char *target, const struct http_header *headers,
                   uint32_t headers_count, const struct websocket_events *events, void *owner,
                   struct websocket **out)
{
    if (target[0] != '/' || strpbrk(target, " \t\r\n") != NULL) {
        return STATUS_MALFORMED;
    }
    for (uint32_t i = 0; i < headers_count; i++) {
        if (strpbrk(headers[i].name, ": \t\r\n") != NULL ||
            !http_header_value_valid(headers[i].value)) {
            return STATUS_MALFORMED;
        }
    }
    struct websocket *socket = websocket_create(true, events, owner);
    if (socket == NULL) {
        return -ENOMEM;
    }
    int status = -ENOMEM;
    char key[25];
    websocket_make_key(key);
    websocket_accept_key(key, socket->accept_key);
    socket->request = websocket_print_request(host, port, target, headers, headers_count, key);
    socket->upgrade = http_response_parser_open(&websocket_upgrade_events, socket);
    if (socket->request != NULL && socket->upgrade != NULL) {
        status = link_dial(loop, context, host, port, server_name, &websocket_link_events, socket,
                           &socket->link);
    }
    if (status != 0) {
        http_response_parser_close(socket->upgrade);
        websocket_core_close(socket->core);
        free(socket->request);
        free(socket);
        return status;
    }
    websocket_start(socket, loop);
    uv_timer_start(&socket->timer, websocket_on_timer,
                   LIMIT_LINK_HANDSHAKE_MS + LIMIT_LINK_SHUTDOWN_MS, 0);
    *out = socket;
    return 0;
}

const struct link_peer *websocket_peer(const struct websocket *socket)
{
    return link_peer(socket->link);
}

int websocket_send(struct websocket *socket, struct bytes message)
{
    CHECK(message.size <= LIMIT_WIRE_BYTES);
    if (socket->link == NULL || !socket->open || socket->leaving || socket->failed ||
        socket->peer_closed) {
        return STATUS_CLOSING;
    }
    const int room =
        websocket_flush(socket) ? link_write(socket->link, bytes_of(NULL, 0)) : STATUS_FULL;
    if (room != 0) {
        return room;
    }
    const int status = websocket_core_send(socket->core, message);
    if (status == 0) {
        websocket_flush(socket);
    }
    return status;
}

size_t websocket_queued_bytes(const struct websocket *socket)
{
    return socket->link == NULL
               ? 0
               : link_queued_bytes(socket->link) + websocket_core_output(socket->core).size;
}

void websocket_pause(struct websocket *socket)
{
    socket->paused = true;
    websocket_core_pause(socket->core);
    if (socket->link != NULL) {
        link_pause(socket->link);
    }
}

static void websocket_on_resume(uv_timer_t *timer)
{
    struct websocket *socket = timer->data;
    if (socket->link != NULL && !socket->paused) {
        const int status = websocket_core_resume(socket->core);
        if (socket->link != NULL && status != 0) {
            websocket_fail(socket, status);
        } else if (socket->link != NULL) {
            websocket_flush(socket);
        }
    }
    if (socket->link != NULL && !socket->paused) {
        link_resume(socket->link);
    }
    if (socket->link != NULL && socket->leaving) {
        uv_timer_start(&socket->timer, websocket_on_timer, LIMIT_LINK_SHUTDOWN_MS, 0);
    } else if (socket->link != NULL) {
        uv_timer_start(&socket->timer, websocket_on_timer, LIMIT_WEBSOCKET_PING_MS / 3,
                       LIMIT_WEBSOCKET_PING_MS / 3);
    }
}

void websocket_resume(struct websocket *socket)
{
    if (!socket->paused) {
        return;
    }
    socket->paused = false;
    if (socket->link != NULL) {
        uv_timer_start(&socket->timer, websocket_on_resume, 0,
                       0); /* what is held comes from the loop */
    }
}

void websocket_leave(struct websocket *socket, uint16_t code, const char *reason)
{
    if (socket->link == NULL || socket->leaving) {
        return;
    }
    if (!socket->open || websocket_core_leave(socket->core, code, reason) != 0) {
        link_close(socket->link);
        return;
    }
    socket->leaving = true;
    const bool was_paused = socket->paused;
    websocket_resume(socket); /* or the peer's close frame would never be seen */
    websocket_flush(socket);
    if (socket->link != NULL && !was_paused) {
        uv_timer_start(&socket->timer, websocket_on_timer, LIMIT_LINK_SHUTDOWN_MS, 0);
    }
}

void websocket_close(struct websocket *socket)
{
    if (socket->link != NULL) {
        link_close(socket->link);
    }
}
