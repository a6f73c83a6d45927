/* What the files of the edge's core share: core.c (log, state, link, turns), core_pods.c (the pods it is
 * to run, and what they ask of it), core_bus.c (MQTT), core_keys.c (which cloudcores are believed). */
#ifndef KELP_NODES_EDGE_CORE_INNER_H
#define KELP_NODES_EDGE_CORE_INNER_H

#include "nodes/edge/core.h"
#include "nodes/edge/hub.h"
#include "statemachine/edge.h"

/* A record on its way: appended, durable, applied. In the order of the log. */
struct core_append {
    struct log_request request;
    struct log_entry entry;
    struct bytes piece;
    struct core_append *next;
    struct edge_core *core;
    bool durable;
    bool from_cloud;
    bool from_bus; /* it is told when this one is applied */
    struct hub_mark mark;
    size_t size;
    _Alignas(8) uint8_t record[];
};

struct edge_core {
    struct edge_core_config config;
    struct edge_core_ops ops;
    struct store *store;
    struct log *log;
    struct edge_machine *machine;
    struct hub hub;
    struct hub_door hub_door;
    struct pods *pods;
    struct pods_door pods_door;
    struct bus *bus;
    struct pods_time now;
    bool started; /* the state knows who we are: link and pods are at work */
    bool pods_begun; /* all wishes were known once, and pods are acted upon */
    bool stopping;
    bool closed;           /* nothing is appended any more */
    uint64_t bus_leave_ms; /* stopping: no later than this it is */
    bool ended;
    enum space_level space;

    struct core_append *appends_head; /* oldest first */
    struct core_append *appends_tail;
    uint64_t stalled_ms; /* > 0: the store was full, not before then */
    bool facts;          /* something to ship was applied */

    char (*uids)[64]; /* of the pods that are desired */
    uint32_t uid_count;

    uint64_t flush_log_bytes; /* appended since the last flush began */
    uint64_t flush_due_ms;    /* > 0: something was applied since */
    bool flushing;
    uint64_t pods_due_ms;
    uint64_t log_tick_ms;
    bool log_limited; /* and that was said */
    uint64_t digest_alarms;
    uint64_t refusal_ms; /* before then no other refused record is told */
    uint64_t refusals;   /* that were not */

    uint8_t *node_status; /* body recorded last, with times as they were */
    size_t node_status_size;
    uint8_t *node_status_plain; /* and without times, to compare */
    size_t node_status_plain_size;

    uint8_t *shut_out; /* keys of cloudcores that were removed, CODEC_KEY_BYTES each */
    size_t shut_out_size;

    struct codec *codec_build;
    struct codec *codec_read;
    struct codec *codec_lookup;
    char cluster[LIMIT_NAME_BYTES + 1];
};

__attribute__((format(printf, 4, 5))) void edge_core_log(struct edge_core *core,
                                                         enum logger_level level, const char *event,
                                                         const char *format, ...);
void edge_core_fatal(struct edge_core *core, int status, const char *message);
/* Append a record of our own making; `body` may be lent by codec_build.
 *   answers  as log_append */
int edge_core_append_fact(struct edge_core *core, uint16_t kind, const char *key,
                          struct bytes body);

/* core_keys.c */
/* Read which keys are not believed. 0; a failure of the disk: reason, 256 bytes, says it */
int edge_core_keys_open(struct edge_core *core, char *reason);
/* As hub_door.shut_out. */
void edge_core_keys_take(void *context, struct bytes keys);

/* core_bus.c */
void edge_core_open_bus(struct edge_core *core);
/* Wishes that changed may be devices. */
void edge_core_tell_bus(struct edge_core *core, const struct edge_applied *applied);
struct bus_time edge_core_bus_time(const struct edge_core *core);

/* core_pods.c */
void edge_core_init_pods(struct edge_core *core);
/* All wishes were replaced, or we have just started: pass all of them, and forget the others. */
void edge_core_desire_all(struct edge_core *core);
/* One wish changed. */
void edge_core_on_change(struct edge_core *core, const struct edge_change *change);
void edge_core_record_event(void *context, const struct edge_event *event);

#endif
