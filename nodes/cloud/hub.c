#include "nodes/cloud/hub.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "nodes/logger.h"
#include "nodes/net/http.h"
#include "nodes/net/identity_tls.h"
#include "nodes/net/websocket.h"
#include "schemas/check.h"
#include "schemas/limits.h"

#define BUCKETS 8192u /* a power of two; four sessions each at LIMIT_SESSIONS */

struct hub_session {
    struct hub_session *next; /* in the bucket */
    struct hub *hub;
    uint64_t number;
    struct websocket *socket;
    bool open;    /* the core knows it */
    bool leaving; /* hub_leave was called: frames of the peer are no longer told */
};

struct hub {
    struct http_server *server;
    const struct hub_events *events;
    void *owner;
    uint64_t number;
    uint32_t count;
    bool server_closed;
    bool closing;
    struct hub_session *buckets[BUCKETS];
};

static struct hub_session *hub_find(const struct hub *hub, uint64_t number)
{
    struct hub_session *session = hub->buckets[number & (BUCKETS - 1)];
    while (session != NULL && session->number != number) {
        session = session->next;
    }
    return session;
}

static void hub_end_if_empty(struct hub *hub)
{
    if (hub->closing && hub->server_closed && hub->count == 0) {
        const struct hub_events *events = hub->events;
        void *owner = hub->owner;
        free(hub);
        events->on_close(owner);
    }
}

/* -- a session ------------------------------------------------------------------------------------ */

static void session_on_message(struct websocket *socket, struct bytes message, void *owner)
{
    (void)socket;
    struct hub_session *session = owner;
    if (session->leaving) {
        return;
    }
    if ((uintptr_t)message.data % 8 == 0) {
        session->hub->events->on_frame(session->hub->owner, session->number, message);
        return;
    }
    void *copy = malloc(message.size); /* frames are read in place, so they must be aligned */
    CHECK(copy != NULL);
    memcpy(copy, message.data, message.size);
    session->hub->events->on_frame(session->hub->owner, session->number,
                                   bytes_of(copy, message.size));
    free(copy);
}

static void session_on_writable(struct websocket *socket, void *owner)
{
    (void)socket;
    struct hub_session *session = owner;
    session->hub->events->on_writable(session->hub->owner, session->number);
}

static void session_on_close(struct websocket *socket, int status, uint16_t code,
                             const char *reason, void *owner)
{
    (void)socket;
    struct hub_session *session = owner;
    struct hub *hub = session->hub;
    logger_debug("connection_closed", "session=%" PRIu64 " status=%d code=%u reason=%s",
                 session->number, status, code, reason);
    struct hub_session **at = &hub->buckets[session->number & (BUCKETS - 1)];
    while (*at != session) {
        CHECK(*at != NULL);
        at = &(*at)->next;
    }
    *at = session->next;
    CHECK(hub->count > 0);
    hub->count--;
    const bool told = session->open;
    const uint64_t number = session->number;
    free(session);
    if (told) {
        hub->events->on_closed(hub->owner, number);
    }
    hub_end_if_empty(hub);
}

static const struct websocket_events session_events = {
    .on_message = session_on_message,
    .on_writable = session_on_writable,
    .on_close = session_on_close,
};

int hub_send(struct hub *hub, uint64_t number, struct bytes frame)
{
    struct hub_session *session = hub_find(hub, number);
    if (session == NULL || session->leaving) {
        return STATUS_CLOSING;
    }
    return websocket_send(session->socket, frame);
}

bool hub_room(const struct hub *hub, uint64_t number)
{
    const struct hub_session *session = hub_find(hub, number);
    return session != NULL && !session->leaving &&
           websocket_queued_bytes(session->socket) < LIMIT_LINK_QUEUE_BYTES / 2;
}

void hub_leave(struct hub *hub, uint64_t number)
{
    struct hub_session *session = hub_find(hub, number);
    if (session != NULL && !session->leaving) {
        session->leaving = true;
        websocket_leave(session->socket, WEBSOCKET_CODE_NORMAL, "");
    }
}

uint32_t hub_count(const struct hub *hub)
{
    return hub->count;
}

/* -- the door ------------------------------------------------------------------------------------- */

static void hub_refuse(struct http_exchange *exchange, uint32_t status, const char *why)
{
    logger_warn_limited("edge_refused", "address=%s user=%s http=%u reason=%s",
                        http_exchange_peer(exchange)->address,
                        http_exchange_peer(exchange)->common_name, status, why);
    http_answer(exchange, status, "text/plain", bytes_text(why));
}

/* The node a certificate speaks for; NULL: none. The group is asked for too, so that an admin whose
 * name happens to look like a node's is not one. */
static const char *hub_node_of(const struct link_peer *peer)
{
    for (uint32_t i = 0; i < peer->groups_count; i++) {
        if (strcmp(peer->groups[i], IDENTITY_NODE_GROUP) == 0) {
            return identity_find_node(peer->common_name);
        }
    }
    return NULL;
}

static void hub_on_request(struct http_server *server, struct http_exchange *exchange, void *owner)
{
    (void)server;
    struct hub *hub = owner;
    const struct http_request *request = http_exchange_request(exchange);
    const char *node = hub_node_of(http_exchange_peer(exchange));
    if (node == NULL) {
        hub_refuse(exchange, 403, "this certificate names no edge node: CN must be "
                                  "system:node:<name> and O system:nodes\n");
        return;
    }
    if (strcmp(request->path, HUB_PATH) != 0) {
        hub_refuse(exchange, 404, "edges connect at " HUB_PATH "\n");
        return;
    }
    if (!websocket_wanted(request)) {
        http_answer_header(exchange, "Upgrade", "websocket");
        hub_refuse(exchange, 426, "edges speak WebSocket here\n");
        return;
    }
    if (hub->count >= LIMIT_SESSIONS || hub->closing) {
        http_answer_header(exchange, "Retry-After", "5");
        hub_refuse(exchange, 503, "too many sessions on this replica: try another one\n");
        return;
    }
    struct hub_session *session = calloc(1, sizeof *session);
    CHECK(session != NULL);
    session->hub = hub;
    const int status =
        websocket_accept(exchange, NULL, &session_events, session, &session->socket);
    if (status != 0) {
        free(session);
        if (status != STATUS_CLOSING) {
            hub_refuse(exchange, 400, "this is no WebSocket handshake\n");
        }
        return;
    }
    hub->number++;
    session->number = hub->number;
    session->next = hub->buckets[session->number & (BUCKETS - 1)];
    hub->buckets[session->number & (BUCKETS - 1)] = session;
    hub->count++;

    /* Open before the answer is known: the core may say Bye from inside. */
    const char *name = hub_node_of(websocket_peer(session->socket));
    const uint64_t number = session->number;
    const int answer = hub->events->on_open(hub->owner, number, name);
    session = hub_find(hub, number);
    if (session != NULL) {
        session->open = answer == 0;
        if (answer != 0) {
            hub_leave(hub, number);
        }
    }
}

static void hub_on_refused(struct http_server *server, const char *address, int status,
                           const char *reason, void *owner)
{
    (void)server;
    (void)owner;
    logger_warn_limited("edge_refused", "address=%s status=%d reason=%s", address, status, reason);
}

static void hub_on_server_close(void *owner)
{
    struct hub *hub = owner;
    hub->server_closed = true;
    hub_end_if_empty(hub);
}

static const struct http_server_events server_events = {
    .on_request = hub_on_request,
    .on_refused = hub_on_refused,
    .on_close = hub_on_server_close,
};

int hub_open(uv_loop_t *loop, struct link_context *context, const char *host, uint16_t port,
             const struct hub_events *events, void *owner, struct hub **out, char *reason)
{
    struct hub *hub = calloc(1, sizeof *hub);
    CHECK(hub != NULL);
    hub->events = events;
    hub->owner = owner;
    const int status =
        http_server_open(loop, context, host, port, &server_events, hub, &hub->server, reason);
    if (status != 0) {
        free(hub);
        return status;
    }
    *out = hub;
    return 0;
}

uint16_t hub_port(const struct hub *hub)
{
    return http_server_port(hub->server);
}

void hub_close(struct hub *hub)
{
    CHECK(!hub->closing);
    hub->closing = true;
    http_server_close(hub->server);
    for (uint32_t i = 0; i < BUCKETS; i++) {
        for (struct hub_session *session = hub->buckets[i]; session != NULL;
             session = session->next) {
            if (!session->leaving) {
                session->leaving = true;
                websocket_leave(session->socket, WEBSOCKET_CODE_GOING_AWAY, "");
            }
        }
    }
}
