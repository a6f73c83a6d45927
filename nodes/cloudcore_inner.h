/* What the files of the program cloudcore share: cloudcore.c (configuration, starting, the order of it all),
 * cloudcore_world.c (what the core asks of sockets, disks and clocks, and what comes in from them),
 * cloudcore_turn.c (one turn of the loop, each second, and leaving). Nobody else includes this.
 */
#ifndef KELP_NODES_CLOUDCORE_INNER_H
#define KELP_NODES_CLOUDCORE_INNER_H

#include <uv.h>

#include "log/disk_uv.h"
#include "log/log.h"
#include "nodes/cloud/api.h"
#include "nodes/cloud/api_server.h"
#include "nodes/cloud/backup_door.h"
#include "nodes/cloud/core.h"
#include "nodes/cloud/devices.h"
#include "nodes/cloud/hub.h"
#include "nodes/cloud/join_door.h"
#include "nodes/cloud/namespaces.h"
#include "nodes/cloud/peers.h"
#include "nodes/cloud/state_place.h"
#include "nodes/config.h"
#include "nodes/control.h"
#include "nodes/logger.h"
#include "nodes/metrics.h"
#include "nodes/monitor.h"
#include "nodes/program.h"
#include "nodes/readonly.h"
#include "nodes/space.h"
#include "schemas/check.h"
#include "schemas/limits.h"
#include "statemachine/store.h"

struct settings {
    int64_t replica;
    const char *data;
    struct config_list group;
    bool join;
    struct config_address api_listen;
    struct config_address hub_listen;
    struct config_address peer_listen;
    const char *metrics_listen;
    const char *control;
    const char *authority;
    const char *certificate;
    const char *key;
    const char *authority_key;
    uint64_t heartbeat_ms;
    uint64_t unreachable_ms;
    uint64_t propose_ms;
    uint64_t election_ms;
    uint64_t raft_heartbeat_ms;
    uint64_t history_bytes;
    uint64_t history_ms;
    uint64_t limit_bytes;
    uint64_t reserve_bytes;
    uint64_t snapshot_bytes;
    uint64_t transfer_rate;
    enum logger_level log_level;
    enum logger_format log_format;
};

struct group_member {
    char address[LIMIT_NAME_BYTES + 1];
    uint64_t replica;
};

/* The steps of a stop. Each ends when it is done, or when its time is over. */
enum leaving {
    LEAVING_NOT,
    LEAVING_HANDS_OVER, /* /readyz says no, somebody else is to lead; everything is served */
    LEAVING_DRAINS,     /* edges and watches are sent away, requests under way are finished */
    LEAVING_CLOSES,     /* goodbyes go out, the core and the log finish */
};

struct cloudcore {
    struct settings settings;
    uv_loop_t loop;
    struct link_context *dial_context;
    struct link_context *peer_context;
    struct link_context *hub_context;
    struct link_context *api_context;

    struct group_member members[LIMIT_REPLICAS];
    struct cloud_core_peer core_peers[LIMIT_REPLICAS]; /* borrowed by the core for life */
    uint32_t member_count;
    char name[32];

    struct disk_uv *disk;
    struct log log;
    bool log_opened;
    bool log_limited; /* and that was said */
    struct state_place place;
    struct store *store;
    struct store *staging; /* in the other place, while a newer state comes, or the one that was */
    struct cloud_core *core;
    struct api *api;
    struct namespaces *namespaces;
    struct devices *devices;

    struct peers *peers;
    struct hub *hub;
    struct api_server *api_server;
    struct join_door join_door;
    struct backup_door backup;
    struct control control;

    uv_timer_t core_timer;   /* the next moment the core wants to run */
    uv_timer_t second_timer; /* what happens about once a second */
    uv_timer_t stop_timer;
    uv_prepare_t prepare; /* once per turn, before the loop waits */
    uv_check_t check;     /* and after it has waited */
    uint64_t turn_ns;     /* when it had, 0: not yet */
    struct metrics_histogram
        turns; /* how long the loop was busy: what else came meanwhile waited */
    struct metrics_histogram flushes; /* of the log */
    uv_signal_t signals[2];
    char cluster[64]; /* as the core knows it: the key of tags */
    struct space space;
    struct readonly readonly;
    uint32_t works;            /* in the pool */
    struct replica_work flush; /* the last one */
    int flush_status;          /* of it: the pool's until it is done */
    bool removed;              /* the group goes on without us */
    enum leaving leaving;
    bool left;         /* the core is idle: the state is flushed, then the log closed */
    uint64_t leave_ms; /* when the step of leaving that goes on is no longer waited for */
};

extern const struct program cloudcore_program;

static inline struct cloud_core_time cloudcore_now(void)
{
    return (struct cloud_core_time){.mono_ms = program_mono_ms(), .wall_ms = program_wall_ms()};
}

/* -- cloudcore_world.c ----------------------------------------------------------------------------- */

/* What the core asks of us. Good for life. */
struct cloud_core_ops cloudcore_ops(struct cloudcore *c);
/* Run work->work in libuv's pool, then work->done on the loop. context: struct cloudcore */
void cloudcore_run(void *context, struct replica_work *work);
/* End the process with what went wrong; a note is left when a disk has failed. context: struct cloudcore */
__attribute__((noreturn)) void cloudcore_fatal(void *context, int status, const char *message);
/* Open the state in a directory. Answers as store_rocks_open. */
int cloudcore_store_open(const char *path, struct store **out);
/* A job of the disk has taken so long. context: struct cloudcore */
void cloudcore_on_job(void *context, enum disk_lane lane, uint64_t us);
/* How we are, as JSON for the control socket. owner: struct cloudcore; answers the bytes written */
size_t cloudcore_on_report(void *owner, char *buffer, size_t size);
/* Metrics and health for whoever watches. */
struct monitor_door cloudcore_monitor_door(struct cloudcore *c);
extern const struct api_server_events cloudcore_api_events;
extern const struct peers_events cloudcore_peers_events;
extern const struct hub_events cloudcore_hub_events;

/* -- cloudcore_turn.c ------------------------------------------------------------------------------ */

/* Timers, turns and signals. Answers 0; an exit code, and why was said. */
int cloudcore_loop_start(struct cloudcore *c);
/* Tell core and log how much room the disk has. */
void cloudcore_set_space(struct cloudcore *c);

#endif
