/* A mosquitto of our own, for mappers on this machine: a child that is started again when it ends, and ends with us.
 *
 *   1. its configuration is written: loopback only, so that everybody may come without a password; nothing kept on
 *      disk, since what counts is in our log
 *   2. it is started, by setpriv, which lets the kernel end it when we die, however we die
 *   3. what it writes becomes log lines; when it ends it is started again, after a while that doubles up to
 *      LIMIT_BUS_BACKOFF_MS and is short again once it ran for so long
 *
 * It runs as user mosquitto, or nobody, when we are root.
 */
#ifndef KELP_NODES_EDGE_BUS_BROKER_H
#define KELP_NODES_EDGE_BUS_BROKER_H

#include "schemas/limits.h"

#include <stdint.h>
#include <uv.h>

/* All borrowed until the process ends. */
struct bus_broker_options {
    const char *program; /* "/usr/sbin/mosquitto" */
    const char *host;    /* 127.0.0.1 or ::1 */
    uint16_t port;
    const char *data;     /* directory for its configuration */
    uint32_t queue_count; /* messages it keeps for a client that is slow or away */
};

struct bus_broker;

/* Begin. Never ends by itself.
 *   answers  given; NULL: it cannot be, `reason` (512 bytes) says why and what to do */
struct bus_broker *bus_broker_open(uv_loop_t *loop, const struct bus_broker_options *options,
                                   char *reason);
/* End it, and do not start it again. */
void bus_broker_leave(struct bus_broker *broker);
/* How often it was started. */
uint64_t bus_broker_starts(const struct bus_broker *broker);

#endif
