/* One edgecore without its hands: log, state, link, pods.
 *
 * Sans-I/O like nodes/cloud/core.h: bytes, ticks and completions in, ops out; no globals; the program
 * (nodes/edgecore.c) binds it to libuv, TLS and containerd, the simulator to a virtual world.
 *
 *      from the cloud   frame -> append to the log -> durable -> Ack, apply -> pods act
 *      made here        fact  -> append to the log -> durable -> apply -> ship when there is a link
 *
 * The log is the order of both. Appends of one turn share one fdatasync (log.h's group commit). The
 * state is a fold of the log: opened at the index it was flushed at, it is replayed from there before
 * anything acts. Works with the link down from the first second.
 *
 * Inputs take note; edge_core_run does what is due. The ops must not call back from inside.
 */
#ifndef KELP_NODES_EDGE_CORE_H
#define KELP_NODES_EDGE_CORE_H

#include "log/log.h"
#include "nodes/edge/bus.h"
#include "nodes/edge/pods.h"
#include "nodes/logger.h"
#include "nodes/metrics.h"
#include "nodes/space.h"
#include "schemas/codec.h"

struct store;

/* All borrowed until edge_core_close. */
struct edge_core_config {
    const char *node;
    struct pods_config pods;
    uint32_t address_count;  /* cloudcores to try, in turn; at least 1 */
    uint32_t backoff_ms_max; /* between connection attempts; 0: 30000 */
    const char *software;    /* "kelp 0.1.0" */
    const struct pair *labels; /* what the node says of itself at registration */
    uint32_t label_count;
    uint64_t flush_bytes;    /* log bytes after which the store is flushed; 0: 8 MiB */
    uint32_t flush_ms;       /* and time, when something was applied; 0: 60000 */
    struct bus_config bus;   /* its node is ours; without brokers devices are held, and nobody hears of them */
};

struct edge_core_ops {
    void *context;
    /* Connect to cloudcore number `address` (0 .. address_count - 1); edge_core_link_up or _down
     * follows, not from inside. */
    void (*link_dial)(void *context, uint32_t address);
    /* A Frame, borrowed during the call. 0; STATUS_FULL: not taken, edge_core_link_writable follows;
     * other negative: edge_core_link_down follows. */
    int (*link_send)(void *context, struct bytes frame);
    bool (*link_room)(void *context);
    /* End the connection, what was sent before first; edge_core_link_down follows. */
    void (*link_close)(void *context);
    void (*log)(void *context, enum logger_level level, const char *event, const char *pairs);
    void (*random)(void *context, void *buffer, size_t size);
    /* The world of pods: as in struct pods_door, with this context. Answers come back through
     * edge_core_on_answer, edge_core_on_volumes, edge_core_on_removed. */
    int (*runtime_call)(void *context, uint64_t id, const struct driver_call *call);
    int (*volumes_prepare)(void *context, const struct pod_spec *spec,
                           const struct pod_facts *facts);
    int (*volumes_remove)(void *context, const char *uid, const char *namespace, const char *name);
    void (*log_remove)(void *context, const char *uid, const char *namespace, const char *name,
                       const char *container, uint32_t attempt);
    /* As in struct bus_door, with this context; called only when there are brokers. */
    int (*bus_publish)(void *context, uint32_t broker, uint64_t id, const char *topic,
                       struct bytes payload);
    /* Run store_flush in a pool thread, then edge_core_flushed. One at a time. */
    void (*flush_store)(void *context);
    /* The log or the store failed: the process must end with this message. */
    void (*fatal)(void *context, int status, const char *message);
};

struct edge_core;

/* Open over a store and a log that are open and stay the caller's. Replays the log; on a first start
 * begins a new stream with a random id.
 *
 *   out      given to edge_core_close; untouched unless 0
 *   reason   256 bytes, receives a sentence when not 0
 *   answers  0; STATUS_FOREIGN: the state is another node's; STATUS_CORRUPT; what log and store
 *            answer
 */
int edge_core_open(const struct edge_core_config *config, const struct edge_core_ops *ops,
                   struct store *store, struct log *log, struct pods_time now,
                   struct edge_core **out, char *reason);
/* Say bye, and begin to leave: what MQTT clients had said goes into the log, for LIMIT_STOP_BUS_MS at most. Run on
 * until edge_core_idle. Pods keep running. */
void edge_core_stop(struct edge_core *core, struct pods_time now);
bool edge_core_idle(const struct edge_core *core);
/* As cloud_core_close. */
void edge_core_close(struct edge_core *core);

/* -- inputs ------------------------------------------------------------------------------------ */

/* Whether the cloudcore with this key (sha256, hexadecimal) is believed: not if the cloud has told that the key is of
 * one that was removed. To be asked before edge_core_link_up; if not, the link is ended, and edge_core_link_down comes
 * instead. */
bool edge_core_hears_key(const struct edge_core *core, const char *key);
void edge_core_link_up(struct edge_core *core, struct pods_time now);
void edge_core_link_down(struct edge_core *core, int status, const char *reason,
                         struct pods_time now);
void edge_core_on_link(struct edge_core *core, struct bytes frame, struct pods_time now);
void edge_core_link_writable(struct edge_core *core);

void edge_core_on_answer(struct edge_core *core, uint64_t id, const struct driver_answer *answer,
                         struct pods_time now);
void edge_core_on_volumes(struct edge_core *core, const char *uid, int status, const char *message,
                          struct pods_time now);
void edge_core_on_removed(struct edge_core *core, const char *uid, int status, const char *message,
                          struct pods_time now);
/* Something happened in the runtime: list soon. */
void edge_core_hint(struct edge_core *core);

/* What the node says of itself now. Recorded only when it differs from what was said before, except
 * for times.
 *   status  borrowed during the call */
void edge_core_node_status(struct edge_core *core, const struct node_status *status,
                           struct pods_time now);
/* For people: an event of the node itself. */
void edge_core_event(struct edge_core *core, const struct edge_event *event, struct pods_time now);

/* Room on the disk, as the caller found it; plenty at first. LOW: nothing new is taken from the cloud and no
 * container is created, what happens here is still recorded. NONE: not that either, but for what the cloud
 * acknowledges. */
void edge_core_set_space(struct edge_core *core, enum space_level space, struct pods_time now);

/* What clients say and brokers take is told to this: bus_message, bus_broker_up and _down, bus_taken; the core
 * tells it the rest. Lent until edge_core_close. */
struct bus *edge_core_bus(const struct edge_core *core);

/* The store_flush that was asked for is done, with its answer. */
void edge_core_flushed(struct edge_core *core, int status);

/* Do what is due.
 *   answers  the mono_ms at which to run again at the latest; now.mono_ms when there is more to do */
uint64_t edge_core_run(struct edge_core *core, struct pods_time now);

/* -- views ------------------------------------------------------------------------------------- */

struct edge_core_report {
    bool link_up;          /* welcomed */
    uint64_t applied;      /* log index */
    uint64_t down_stream, down_position;
    uint64_t up_stream, up_last, up_acked;
    struct tag digest;     /* of the wishes held */
    uint64_t digest_alarms;
    const char *cluster;   /* lent until the next call */
    struct pods_report pods;
};
struct edge_core_report edge_core_report(const struct edge_core *core);
/* The same, and more of the link and the runtime, as families of a page. */
void edge_core_metrics(const struct edge_core *core, struct metrics_page *page);
/* Config maps and secrets of the state, for ops.volumes_prepare. Lent until edge_core_close. */
struct pod_lookup edge_core_lookup(struct edge_core *core);
/* The newest status of a pod; NULL when unknown. Lent until the next edge_core_run. */
const struct pod_status *edge_core_pod(const struct edge_core *core, const char *uid);

#endif
