/* The Kubernetes API on a port: HTTP over TLS in front of api.h.
 *
 * The client certificate is asked for and not required: a client without one gets 401 from the API
 * itself, with the body kubectl understands; one of a foreign authority fails in the handshake.
 *
 * Beside the API:
 *
 *   GET /kelp/v1/nodes/NAME         where the two logs of a node stand, and its digest, as JSON; for
 *                                   system:masters
 *   GET /metrics                    for system:masters and system:monitoring
 *   GET /livez, /readyz, /healthz   for everybody, as in Kubernetes
 */
#ifndef KELP_NODES_CLOUD_API_SERVER_H
#define KELP_NODES_CLOUD_API_SERVER_H

#include <uv.h>

#include "nodes/cloud/api.h"
#include "nodes/net/http.h"
#include "nodes/monitor.h"
#include "nodes/net/link_tls.h"

struct api_server;

struct api_server_events {
    /* Serve what is neither Kubernetes' nor above, such as the group (cluster_door.h).
     *   answers  whether the exchange was taken: it is answered now or later then. NULL: none is */
    bool (*serve)(void *owner, struct http_exchange *exchange);
    /* Write one JSON object about a node, at most `size` bytes; answers how many, 0: no such node. */
    size_t (*report_node)(void *owner, const char *node, char *buffer, size_t size);
    /* The page, and the checks, of the program: see monitor.h. The page gets api_server_metrics as well. */
    void (*metrics)(void *owner, struct metrics_page *page);
    void (*health)(void *owner, bool ready, struct health *health);
    /* After api_server_close: every call is answered, all connections are gone. */
    void (*on_close)(void *owner);
};

/* Listen and serve. Parameters and answers as link_listener_open; context with role
 * LINK_LISTEN_REQUEST.
 *
 *   api, events  borrowed until on_close
 */
int api_server_open(uv_loop_t *loop, struct link_context *context, const char *host, uint16_t port,
                    struct api *api, const struct api_server_events *events, void *owner,
                    struct api_server **out, char *reason);
uint16_t api_server_port(const struct api_server *server);
/* What this port has seen, into a page. */
void api_server_metrics(const struct api_server *server, struct metrics_page *page);
/* http_server_drain, and whether it is done. */
void api_server_drain(struct api_server *server);
bool api_server_drained(const struct api_server *server);
/* Stop listening and drop connections; on_close follows once all calls have been answered. */
void api_server_close(struct api_server *server);

#endif
