/* An edge around the pod reconciler, small enough for a unit test: the runtime of the simulator, a
 * state that survives a crash of the agent (wishes, objects, attempts, statuses, ends), and a door
 * whose records become durable a while after they are asked for, or never when the crash is faster.
 */
#ifndef KELP_TESTS_NODES_PODS_RIG_H
#define KELP_TESTS_NODES_PODS_RIG_H

#include "nodes/edge/pods.h"
#include "tests/sim/runtime_sim.h"
#include "tests/sim/sim.h"

#define RIG_PODS       16
#define RIG_CONTAINERS 8
#define RIG_OBJECTS    8

struct rig_pod {
    char uid[32];
    char json[4096];
    int64_t deletion_ms;
    int64_t grace_s;
    bool wanted;
    bool ended;
    unsigned ends; /* RECORD_POD_ENDED that became durable */
    struct {
        char container[64];
        int64_t attempt;
    } attempts[RIG_CONTAINERS];
    size_t attempt_count;
    struct codec *codec; /* owns status; reset with each */
    struct bytes status_bytes;
    bool has_status;
    unsigned statuses;
};

struct rig_object {
    bool secret, there;
    char name[64];
    char json[512];
};

struct rig {
    struct sim sim;
    struct runtime_sim runtime;
    struct runtime_sim_door door;
    struct pods_config config;
    struct pods_door pods_door;
    struct pods *pods; /* NULL while the agent is dead */
    uint64_t life;
    uint64_t record_us; /* until a record is durable */
    bool records_refused;
    bool no_room; /* for attempts */
    bool late; /* rig_start passes no wishes and does not begin */
    bool lost; /* records were: numbers go on from what is found */
    struct rig_record *records; /* not durable yet */
    unsigned files_written, files_removed, logs_removed, events;
    int files_status;
    char event_last[600];
    char event_log[4096]; /* "Started/a=1 " and so on: reason, container, count */
    struct rig_pod state[RIG_PODS];
    size_t count;
    struct rig_object objects[RIG_OBJECTS];
    size_t object_count;
};

void rig_init(struct rig *rig, uint64_t seed);
void rig_deinit(struct rig *rig);
/* A wish appears or changes, in the state and, if it lives, for the agent. json: see rig_json. */
void rig_desire(struct rig *rig, const char *uid, const char *json);
void rig_delete(struct rig *rig, const char *uid, int64_t grace_s);
void rig_undesire(struct rig *rig, const char *uid);
void rig_object(struct rig *rig, bool secret, const char *name,
                const char *json); /* NULL: it goes */
/* kill -9 and start again. What was not durable is lost. */
void rig_crash(struct rig *rig);
void rig_start(struct rig *rig);
void rig_run(struct rig *rig, uint64_t ms);
/* The last durable status; NULL when there is none. Lent until the next event. */
const struct pod_status *rig_status(struct rig *rig, const char *uid);
struct rig_pod *rig_pod(struct rig *rig, const char *uid);
int64_t rig_attempt(struct rig *rig, const char *uid, const char *container);
const struct container_status *rig_container(struct rig *rig, const char *uid,
                                             const char *container);
/* A pod named like its uid; `rest` continues the spec after restartPolicy. */
const char *rig_json(const char *uid, const char *restart, const char *rest);

#endif
