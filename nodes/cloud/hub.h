/* Where edges connect: a WebSocket listener over mutual TLS, bound to the sessions of the core.
 *
 *   1. TLS handshake; a client without a certificate of our authority is refused
 *   2. GET /v1/kelp with an upgrade; CN "system:node:<name>" in group system:nodes says who it is
 *   3. each binary message is one Frame, both ways
 *
 * What can fail: a certificate that names no node (403), another path (404), no upgrade (426), too
 * many sessions (503 with Retry-After); an edge that is slower than the core (frames wait in the
 * core, not here: hub_send answers STATUS_FULL).
 */
#ifndef KELP_NODES_CLOUD_HUB_H
#define KELP_NODES_CLOUD_HUB_H

#include <uv.h>

#include "nodes/net/link_tls.h"
#include "schemas/bytes.h"

#define HUB_PATH "/v1/kelp"

struct hub;

struct hub_events {
    /* An edge connected. session: a number never used before by this hub; node borrowed. Negative: close
     * it again. */
    int (*on_open)(void *owner, uint64_t session, const char *node);
    /* A Frame, 8-byte aligned, borrowed during the call. */
    void (*on_frame)(void *owner, uint64_t session, struct bytes frame);
    void (*on_writable)(void *owner, uint64_t session);
    /* The connection is gone; once per session that on_open was called for and answered 0. */
    void (*on_closed)(void *owner, uint64_t session);
    /* After hub_close: all is gone. */
    void (*on_close)(void *owner);
};

/* Listen. Parameters and answers as link_listener_open; context with role LINK_LISTEN_REQUIRE. */
int hub_open(uv_loop_t *loop, struct link_context *context, const char *host, uint16_t port,
             const struct hub_events *events, void *owner, struct hub **out, char *reason);
uint16_t hub_port(const struct hub *hub);

/* Send one Frame.
 *   answers  0; STATUS_FULL: not taken, on_writable follows; STATUS_CLOSING: on_closed follows, or the
 *            session is unknown */
int hub_send(struct hub *hub, uint64_t session, struct bytes frame);
/* Would another large frame be taken? */
bool hub_room(const struct hub *hub, uint64_t session);
/* End a session after what was sent. */
void hub_leave(struct hub *hub, uint64_t session);
uint32_t hub_count(const struct hub *hub);

/* Stop listening, end all sessions; on_close follows. */
void hub_close(struct hub *hub);

#endif
