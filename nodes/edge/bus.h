/* The edge's end of MQTT, without the broker: what clients say becomes records, what was promised to them
 * becomes messages. KubeEdge's EventBus and the listening half of its DeviceTwin.
 *
 *      message -> parsed -> gathered (telemetry) -> record -> durable, applied
 *                     \-> question ---------------> answered when all that was said before it is applied,
 *                                                   and told
 *      outbox of the state -> message -> each broker, in order -> taken by all -> OUTBOX_DONE
 *
 * Sans-I/O like the core that embeds it: the program binds it to brokers (bus_mqtt.h). Inputs take note; bus_run
 * does what is due.
 *
 * What is promised. From the moment on at which an update is durable in the log it is not lost, and neither are
 * its result, document and delta: each broker is told them in the order of the log until it has taken them (one that
 * is away is waited for a minute, when another is there), so after a crash or a lost connection the last ones may be
 * published again, with the same payload and event id.
 * (A client library acknowledges a message of QoS 1 before we see it; what was read and is not durable when the
 * power goes is lost, as in KubeEdge.) Answers to questions are said once; a broker that is
 * full and takes nothing misses them, when another is there.
 *
 * Telemetry is gathered: of one device, what is said without an event id and reports actual values only, within
 * the window after something of it was recorded, becomes one record with the newest value of each property, at
 * the window's end, and is answered by one result. While the disk, or a broker, has enough to do a window stays
 * open for longer, and what is said first of a device waits for it, too: no more is read when the oldest is late by
 * LIMIT_BUS_LATE_MS, and all that are open are recorded one behind the other. So it is while more waits to be read, by
 * LIMIT_BUS_AHEAD_MS at most. So whoever talks faster is heard less finely, and, together with all others, later by so much.
 * Whatever has an event id, sets, adds or removes something, or would be refused, is a record of its own, after
 * what was gathered before it. A device that keeps its values is not gathered.
 *
 * Back-pressure: while more waits for the disk than LIMIT_BUS_WAITING, or for a broker that takes what it is told than
 * LIMIT_BUS_PROMISED, or a window for LIMIT_BUS_LATE_MS, bus_wants says no, and the program does not read from the
 * brokers, nor connect to listen to one; nor, but for the window, is anything recorded that promises more. So the
 * outbox drops nothing that such a broker would have taken.
 */
#ifndef KELP_NODES_EDGE_BUS_H
#define KELP_NODES_EDGE_BUS_H

#include "nodes/edge/bus_json.h"
#include "nodes/edge/bus_topic.h"
#include "nodes/metrics.h"
#include "statemachine/edge.h"

#define BUS_BROKERS 2u

struct bus_config {
    const char *node;
    /* 0 .. BUS_BROKERS; 0: what is promised is given up, as nobody can hear it */
    uint32_t broker_count;
    const char *brokers[BUS_BROKERS]; /* what they are called, for people */
    enum device_topics topics;        /* the generations that are spoken */
    uint32_t window_ms;               /* in which telemetry is gathered; 0: it is not */
};

struct bus_time {
    uint64_t mono_ms;
    int64_t wall_ms;
};

struct bus_door {
    void *context;
    struct edge_machine *machine; /* read only */
    /* Append a record of ours; `key` and `body` are borrowed during the call.
     * 0: bus_applied follows, in order; STATUS_TOO_LARGE: never; other negative: not now. */
    int (*append)(void *context, uint16_t kind, const char *key, struct bytes body);
    /* Hand a message to a broker that is connected; both are borrowed during the call.
     * 0: bus_taken or bus_broker_down follows, not from inside; negative: bus_broker_down follows. */
    int (*publish)(void *context, uint32_t broker, uint64_t id, const char *topic,
                   struct bytes payload);
};

struct bus_report {
    uint64_t received; /* messages of clients */
    uint64_t
        ignored; /* of them those that nothing was made of: a topic or a state that means nothing,
                                  too large, more than there was room for */
    uint64_t refused;   /* of them those that were answered with an error at the door */
    uint64_t gathered;  /* updates that became part of a record with others */
    uint64_t recorded;  /* records made */
    uint64_t published; /* messages that a broker has taken */
    uint64_t again;     /* promises that were told before and are told again */
    uint64_t waiting;   /* records and questions that were read and are not applied or answered */
    uint64_t outbox;    /* promises that no broker has taken */
    uint64_t outbox_dropped; /* given up since there were too many */
};

struct bus;

/* Begin, over a state that is folded up to now.
 *   door, config   copied; what they point to is borrowed until bus_destroy */
struct bus *bus_create(const struct bus_config *config, const struct bus_door *door);
void bus_destroy(struct bus *bus);

/* -- inputs ------------------------------------------------------------------------------------------- */

/* A client said something. Both are borrowed during the call. */
void bus_message(struct bus *bus, const char *topic, struct bytes payload, struct bus_time now);
/* Why nothing was made of the last message, or an error; NULL: something was. Lent until the next call. */
const char *bus_message_refusal(const struct bus *bus);
/* The oldest record that was appended and not applied is applied. */
void bus_applied(struct bus *bus);
/* A wish changed, or went; NULL: all did. */
void bus_wish_changed(struct bus *bus, const char *key, bool removed);
/* A broker is connected and has our subscriptions; or is not any more, and what it was given and has not taken
 * is lost. */
void bus_broker_up(struct bus *bus, uint32_t broker);
void bus_broker_down(struct bus *bus, uint32_t broker);
/* A broker has taken the message of that id: each that it was given, in order. */
void bus_taken(struct bus *bus, uint32_t broker, uint64_t id);
/* What a broker had to tell for now was handed over; or `more` of it waits, and is read in the next turn. */
void bus_read(struct bus *bus, uint32_t broker, bool more);

/* Do what is due.
 *   answers  the mono_ms at which to run again at the latest */
uint64_t bus_run(struct bus *bus, struct bus_time now);

/* We are about to leave: from here on bus_wants says no, and what was read and gathered goes into the log as fast as
 * it is taken, by this call and by each bus_run. */
void bus_leave(struct bus *bus, struct bus_time now);
/* Whether, after bus_leave, all of it is appended. */
bool bus_left(const struct bus *bus);

/* -- views --------------------------------------------------------------------------------------------- */

/* Whether more may be read from the brokers. */
bool bus_wants(const struct bus *bus);
struct bus_report bus_report(const struct bus *bus);
void bus_metrics(const struct bus *bus, struct metrics_page *page);

#endif
