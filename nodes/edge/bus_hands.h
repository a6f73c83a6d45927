/* The bus of an edge bound to its brokers, as the configuration says: the one that runs elsewhere, one of our own,
 * both, or none. KubeEdge's mqttMode 2, 0, 1.
 *
 * What is published is published to each of them, and what any of them tells is heard. Each has two connections, as in
 * KubeEdge: one that listens, one that publishes.
 */
#ifndef KELP_NODES_EDGE_BUS_HANDS_H
#define KELP_NODES_EDGE_BUS_HANDS_H

#include "nodes/edge/bus.h"

#include <uv.h>

enum bus_mode {
    BUS_MODE_INTERNAL = 0,
    BUS_MODE_BOTH = 1,
    BUS_MODE_EXTERNAL = 2,
    BUS_MODE_NONE = 3
};
/* Choices for a config table, in the order of the enums. */
#define BUS_MODE_CHOICES   "internal|both|external|none"
#define BUS_TOPICS_CHOICES "namespaced|plain|both"

/* All borrowed until the process ends. Texts may be empty. */
struct bus_hands_options {
    enum bus_mode mode;
    const char *node;
    const char *data;     /* directory for the configuration of our own broker */
    const char *external; /* "tcp://10.0.0.9:1883", the scheme may be left out */
    const char *internal;
    const char *program; /* of our own broker */
    const char
        *client;      /* id of who listens; empty: kelp-<node>; who publishes has _pub behind it */
    const char *user; /* at the external broker */
    const char *password_file; /* its first line */
    const char *authority;     /* empty: no TLS */
    const char *certificate;
    const char *key;
    enum device_topics topics;
    uint8_t qos;
    bool retain;
    uint32_t queue_count;
    uint32_t window_ms;
    const char *const *upload; /* more topics for the cloud */
    uint32_t upload_count;
};

/* What the core is to know of it. */
struct bus_config bus_hands_config(const struct bus_hands_options *options);

struct bus_hands;

/* Begin to connect.
 *   bus      borrowed until bus_hands_leave
 *   answers  given, never freed; NULL: `reason` (512 bytes) says why and what to do */
struct bus_hands *bus_hands_open(uv_loop_t *loop, const struct bus_hands_options *options,
                                 struct bus *bus, char *reason);
/* Say goodbye; the bus is not called any more. */
void bus_hands_leave(struct bus_hands *hands);
/* As ops.bus_publish of the core. */
int bus_hands_publish(struct bus_hands *hands, uint32_t broker, uint64_t id, const char *topic,
                      struct bytes payload);
/* Once a turn of the loop, after the core ran. */
void bus_hands_turn(struct bus_hands *hands);

/* How many brokers are connected, and messages that they told again. */
uint32_t bus_hands_connected(const struct bus_hands *hands);
uint64_t bus_hands_redelivered(const struct bus_hands *hands);
void bus_hands_metrics(const struct bus_hands *hands, struct metrics_page *page);

#endif
