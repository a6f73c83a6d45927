/* A bus over the real state of an edge: a log in memory whose end may be lost, and brokers that take messages when
 * they are told to. */
#ifndef KELP_TESTS_NODES_BUS_RIG_H
#define KELP_TESTS_NODES_BUS_RIG_H

#include "nodes/edge/bus.h"

#include <stdio.h>

#define RIG_NODE   "edge-1"
#define RIG_STREAM 5u
#define RIG_DEVICE "devices.kubeedge.io/devices/"

struct rig_record {
    struct bytes bytes;
    bool own; /* the bus appended it */
};

struct rig_message {
    uint64_t id;
    char *topic;
    char *payload;
};

struct rig_broker {
    struct rig_message *messages; /* given and not taken, oldest first */
    size_t count;
    bool stopped; /* takes nothing by itself */
    bool away;    /* not connected when the bus begins */
};

struct rig {
    struct store_sim *sim;
    struct store *store;
    struct edge_machine *machine;
    struct bus *bus;
    struct bus_config config;
    struct codec *codec;    /* of one step: reset by rig_settle */
    struct rig_record *log; /* [i] has index i + 1 */
    size_t log_count;
    size_t applied;
    uint64_t down;
    struct tag digest;
    struct {
        char id[256]; /* "default/d"; "": free */
        char uid[64];
        uint64_t tag;
    } wishes[16];
    struct bus_time now;
    bool disk_stopped; /* what is appended is not durable */
    bool log_full;     /* and takes nothing */
    struct rig_broker brokers[BUS_BROKERS];
    void *context;
    /* A message is given to a broker; one is taken. Either may be NULL. */
    void (*on_given)(void *context, uint32_t broker, const char *topic, const char *payload);
    void (*on_taken)(void *context, uint32_t broker, const char *topic, const char *payload);
};

/* Begin: an edge that knows who it is. The bus is there, its brokers are connected.
 *   config   without node */
void rig_init(struct rig *rig, const struct bus_config *config);
void rig_deinit(struct rig *rig);
/* Power loss and a start; of what is not applied yet the first `kept` records survive.
 *   choice   of the store's: what of its own is lost */
void rig_crash(struct rig *rig, size_t kept, uint64_t choice);

void rig_say(struct rig *rig, const char *topic, const char *payload);
/* The cloud wishes a device so, or no more. */
void rig_wish(struct rig *rig, const char *id, const char *uid, const struct device_wish *wish);
void rig_unwish(struct rig *rig, const char *id);
/* The first `count` messages that a broker was given are taken. */
void rig_take(struct rig *rig, uint32_t broker, size_t count);
void rig_broker_down(struct rig *rig, uint32_t broker);
/* What was appended is durable and applied. */
void rig_apply(struct rig *rig);
/* Everything that can happen now happens. */
void rig_settle(struct rig *rig);

#endif
