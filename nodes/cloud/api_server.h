/* The Kubernetes API on a port: HTTP over TLS in front of api.h.
 *
 * The client certificate is asked for and not required: a client without one gets 401 from the API
 * itself, with the body kubectl understands; one of a foreign authority fails in the handshake.
 */
#ifndef KELP_NODES_CLOUD_API_SERVER_H
#define KELP_NODES_CLOUD_API_SERVER_H

#include <uv.h>

#include "nodes/cloud/api.h"
#include "nodes/net/link_tls.h"

struct api_server;

/* Listen and serve. Parameters and answers as link_listener_open; context with role
 * LINK_LISTEN_REQUEST.
 *
 *   api       borrowed until on_close
 *   on_close  after api_server_close: every call is answered, all connections are gone
 */
int api_server_open(uv_loop_t *loop, struct link_context *context, const char *host, uint16_t port,
                    struct api *api, void (*on_close)(void *owner), void *owner,
                    struct api_server **out, char *reason);
uint16_t api_server_port(const struct api_server *server);
/* Stop listening and drop connections; on_close follows once all calls have been answered. */
void api_server_close(struct api_server *server);

#endif
