/* A connection to an MQTT broker on libuv's loop, over libmosquitto: one that listens, or one that publishes. A broker
 * has one of each (bus_hands.h), so that its acknowledgements of ours never stand behind messages that we do not read.
 *
 *   1. the name is resolved and the connection begun in a pool thread, as libmosquitto resolves names blocking
 *   2. CONNECT; the broker's answer. A listener has a session that survives (QoS 1 that is said while we are away
 *      waits at the broker), and subscribes; a publisher has none. on_up
 *   3. messages come (on_message), or are published; what the broker has taken is told (on_taken): for QoS 1 its
 *      PUBACK, for QoS 0 that it is written to the socket
 *   4. what fails anywhere, or takes longer than LIMIT_BUS_CONNECT_MS to be up, ends the connection: on_down, and
 *      another attempt after a while, twice as long each time up to LIMIT_BUS_BACKOFF_MS, give or take a quarter
 *
 * libmosquitto acknowledges a message of QoS 1 to the broker before it is handed over here; bus.h says what is
 * promised nevertheless.
 *
 * While `wants` says no the socket of a listener is not read, in no state, nor is a connection begun: the broker keeps
 * what comes, as far as its queues go. A publisher is always read.
 *
 * What a broker keeps of a topic (retained) it tells whoever subscribes. A listener that comes back to its session has
 * heard it when it was said, and it may be older than what was said since: it is counted, and passed over. In a new
 * session it is a message like any other.
 */
#ifndef KELP_NODES_EDGE_BUS_MQTT_H
#define KELP_NODES_EDGE_BUS_MQTT_H

#include "schemas/bytes.h"
#include "schemas/limits.h"
#include "schemas/status.h"

#include <uv.h>

/* All borrowed until the process ends. */
struct bus_mqtt_options {
    const char *name; /* for log lines */
    const char *host;
    uint16_t port;
    const char *client;      /* id; 1 .. 65535 bytes */
    const char *user;        /* NULL: none */
    const char *password;    /* NULL: none */
    const char *authority;   /* PEM file; NULL: no TLS */
    const char *certificate; /* with key; NULL: none */
    const char *key;
    uint8_t qos; /* of what is published: 0 or 1 */
    bool retain;
    const char *const *filters; /* to subscribe to, with QoS 1 */
    uint32_t filter_count; /* 0 .. LIMIT_BUS_FILTERS; 0: it publishes, and listens to nothing */
};

/* Called from the loop, and never from inside bus_mqtt_publish. */
struct bus_mqtt_events {
    void (*on_up)(void *owner);
    void (*on_down)(void *owner);
    void (*on_message)(void *owner, const char *topic, struct bytes payload); /* of a listener */
    bool (*wants)(void *owner);                                               /* of a listener */
    /* It was read, of a listener; `more`: as much as a turn takes, and there may be more, which the next turn finds. At the
     * end of a connection there is none. A broker that sends less than a turn takes before it waits for acknowledgements
     * (mosquitto by itself: 20 messages) never has more, whatever waits in its queue. */
    void (*on_read)(void *owner, bool more);
    void (*on_taken)(void *owner, uint64_t id);                               /* of a publisher */
};

struct bus_mqtt_report {
    bool up;
    uint64_t connections; /* that came up */
    uint64_t redelivered; /* messages that the broker had told before the connection was lost */
    uint64_t
        retained; /* messages passed over, as the broker kept them and the session had heard them */
};

struct bus_mqtt;

/* Begin. Never ends by itself.
 *   events, owner  borrowed for ever
 *   answers        given; NULL: the files of TLS or the client id are not taken, `reason` (256 bytes) says why */
struct bus_mqtt *bus_mqtt_open(uv_loop_t *loop, const struct bus_mqtt_options *options,
                               const struct bus_mqtt_events *events, void *owner, char *reason);
/* Say goodbye to the broker: the process is about to end. */
void bus_mqtt_leave(struct bus_mqtt *mqtt);

/* Publish a message, by a publisher; both are borrowed during the call.
 *   id        rises; told by on_taken
 *   answers   0; -ENOTCONN: not up; other negative: on_down follows */
int bus_mqtt_publish(struct bus_mqtt *mqtt, uint64_t id, const char *topic, struct bytes payload);

/* Read again, or not, as `wants` says now: once a turn of the loop. */
void bus_mqtt_turn(struct bus_mqtt *mqtt);

struct bus_mqtt_report bus_mqtt_report(const struct bus_mqtt *mqtt);

#endif
