/* What a monitoring system asks of a program: /metrics, and the probes /livez, /readyz, /healthz.
 *
 * One answer, two ways to it: the port of the Kubernetes API, for whom its certificate says (api_server.h),
 * and an address of its own in plain HTTP (monitor_listen), for a scraper on the same machine or network that
 * has no certificate. There it is open to whoever reaches the address, so it is off unless configured.
 */
#ifndef KELP_NODES_MONITOR_H
#define KELP_NODES_MONITOR_H

#include <uv.h>

#include "nodes/config.h"
#include "nodes/health.h"
#include "nodes/metrics.h"
#include "nodes/net/http_message.h"

/* What the program has to say; called from the loop, must not block. */
struct monitor_door {
    void *owner;
    void (*metrics)(void *owner, struct metrics_page *page);
    /* ready: should clients be sent here (/readyz); else: is this process well (/livez, /healthz) */
    void (*health)(void *owner, bool ready, struct health *health);
};

enum monitor_page { MONITOR_NONE, MONITOR_HEALTH, MONITOR_METRICS };

/* Which page a request is about; MONITOR_NONE: none of ours. */
enum monitor_page monitor_page(const struct http_request *request);

struct monitor_answer {
    uint32_t status;
    const char *content_type; /* lent for ever */
    struct bytes body;        /* lent until monitor_release */
    char *memory;
};

/* Answer a request that monitor_page is not MONITOR_NONE for. The answer is given to monitor_release. */
void monitor_answer(const struct monitor_door *door, const struct http_request *request,
                    struct monitor_answer *out);
void monitor_release(struct monitor_answer *answer);

/* Answer these pages, and nothing else, in plain HTTP: one request a connection, LIMIT_MONITOR_VISITORS at a
 * time, each within LIMIT_MONITOR_MS.
 *
 * It is never closed: a probe is answered until the process is gone.
 *
 *   address   "127.0.0.1:9402", "[::1]:9402", ":9402"; "": nothing is listened to
 *   door      copied
 *   out_port  the port, also when 0 was asked for; may be NULL; untouched unless one is listened to
 *   reason    CONFIG_REASON_BYTES bytes, receives a sentence when not 0
 *   answers   0; STATUS_MALFORMED; -EADDRINUSE and others of bind and listen */
int monitor_listen(uv_loop_t *loop, const char *address, const struct monitor_door *door,
                   uint16_t *out_port, char *reason);

#endif
