/* A container runtime for the simulator: driver.h over the virtual clock.
 *
 * The runtime lives on when the agent dies: a call that was accepted takes effect whether or not
 * anybody is left to hear the answer. That is the whole point: which half of a call a crash cuts
 * off is decided by the seed.
 *
 * What a container does is said by its command, as with kelp-fake-cri: "kelp-fake-exit CODE MS"
 * ends by itself, anything else runs until it is stopped. Images called kelp.local/... are there,
 * registry.local/... can be pulled, others cannot.
 *
 * Oracle: every start is counted by (pod uid, container, attempt), and two containers of one name
 * running at once are counted as doubles.
 */
#ifndef KELP_TESTS_SIM_RUNTIME_SIM_H
#define KELP_TESTS_SIM_RUNTIME_SIM_H

#include "nodes/edge/driver.h"
#include "tests/sim/sim.h"

#define RUNTIME_SIM_OBJECTS  512u /* sandboxes, and containers, that exist at once */
#define RUNTIME_SIM_STARTS   16384u
#define RUNTIME_SIM_IMAGES   16u
#define RUNTIME_SIM_EPOCH_MS 1700000000000 /* the wall clock at sim time 0 */

struct runtime_sim_start {
    char pod_uid[64];
    char container[64];
    uint32_t attempt;
    uint32_t count;
};

struct runtime_sim_sandbox {
    char id[32];
    char pod_name[64], pod_namespace[64], pod_uid[64];
    uint32_t attempt;
    bool ready;
    int64_t created_ms;
    char ip[32];
};

struct runtime_sim_container {
    char id[32];
    char sandbox_id[32];
    char pod_name[64], pod_namespace[64], pod_uid[64], name[64];
    uint32_t attempt;
    char hash[24], image[128], reason[32];
    enum driver_container_state state;
    int64_t created_ms, started_ms, finished_ms;
    int32_t exit_code;
    bool exits; /* by itself, with the next two */
    int32_t exits_code;
    uint64_t exits_us; /* after its start */
};

struct runtime_sim {
    struct sim *sim;
    /* knobs; set after init */
    uint64_t call_us_min,
        call_us_max;  /* until a call takes effect, and again until it is answered */
    uint64_t stop_us; /* how long a container takes to end after SIGTERM */
    uint32_t
        refuse_per_million; /* calls that change something: nothing happens, answered REFUSED */
    uint32_t unknown_per_million; /* takes effect, answered STATUS_UNKNOWN */
    uint32_t lost_per_million;    /* does not take effect, answered STATUS_TIMEOUT */
    bool down;                    /* the daemon: containers live, calls answer -ECONNREFUSED */
    /* the world */
    struct runtime_sim_sandbox sandboxes[RUNTIME_SIM_OBJECTS];
    size_t sandbox_count;
    struct runtime_sim_container containers[RUNTIME_SIM_OBJECTS];
    size_t container_count;
    char images[RUNTIME_SIM_IMAGES][128];
    size_t image_count;
    uint64_t ids;
    uint64_t lives;
    struct runtime_call *open;  /* calls on their way */
    struct runtime_exit *exits; /* containers that will end */
    /* the oracle */
    struct runtime_sim_start starts[RUNTIME_SIM_STARTS];
    size_t start_count;
    unsigned doubles;
    unsigned calls[16]; /* accepted, by enum driver_verb */
};

/* A door for the agent. Embedded by whoever simulates an edge; lives as long as the runtime. */
struct runtime_sim_door {
    struct driver driver;
    struct runtime_sim *runtime;
    uint64_t life; /* of the agent; answers to calls of an earlier one are not delivered */
};

void runtime_sim_init(struct runtime_sim *runtime, struct sim *sim);
/* After the last event: memory of calls and exits that never came due. */
void runtime_sim_deinit(struct runtime_sim *runtime);

/* Connect one life of the agent. Set door->driver.on_answer and .owner afterwards. */
void runtime_sim_connect(struct runtime_sim *runtime, struct runtime_sim_door *door);
/* The agent died: what it asked for still happens, and nobody hears of it. */
void runtime_sim_disconnect(struct runtime_sim_door *door);

/* A running container of that name ends, as if killed. false: none runs. */
bool runtime_sim_kill(struct runtime_sim *runtime, const char *pod_uid, const char *container,
                      int32_t code);
/* The sandbox process dies; the containers in it die with it. */
bool runtime_sim_kill_sandbox(struct runtime_sim *runtime, const char *pod_uid);
/* The machine went down and up again: everything has exited with 255, reason Unknown. */
void runtime_sim_reboot(struct runtime_sim *runtime);
/* An image appears as if imported by hand. */
void runtime_sim_image_add(struct runtime_sim *runtime, const char *image);

/* How often this attempt was started. */
uint32_t runtime_sim_starts(const struct runtime_sim *runtime, const char *pod_uid,
                            const char *container, uint32_t attempt);
/* Containers of this pod that run now; of any pod for NULL. */
size_t runtime_sim_running(const struct runtime_sim *runtime, const char *pod_uid);
/* Is a call under way that changes something, or a container made and not started yet? */
bool runtime_sim_changing(const struct runtime_sim *runtime);
/* Sandboxes and containers of this pod that exist; of any pod for NULL. */
size_t runtime_sim_objects(const struct runtime_sim *runtime, const char *pod_uid);

#endif
