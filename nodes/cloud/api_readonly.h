/* The Kubernetes API of a cloudcore that is read-only after an I/O error: every request is answered 503
 * with the reason, as a Status that kubectl prints. /livez says that the process is there; which resources
 * there are is answered as ever, since kubectl asks that first and would not show why it was refused.
 */
#ifndef KELP_NODES_CLOUD_API_READONLY_H
#define KELP_NODES_CLOUD_API_READONLY_H

#include <uv.h>

#include "nodes/net/link_tls.h"

/* Listen and answer until the process ends. Parameters and answers as api_server_open.
 *   why  one sentence, borrowed for life */
int api_readonly_open(uv_loop_t *loop, struct link_context *context, const char *host,
                      uint16_t port, char *why, char *reason);

#endif
