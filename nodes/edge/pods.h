/* The pod reconciler: what should run on this node against what does.
 *
 * Pure: time and inputs come as arguments, everything it wants goes out through struct pods_door.
 * No clock, no I/O, no random; the same inputs give the same outputs, so the simulator runs it.
 *
 * How it works. The truth is the runtime's listing, taken once a second and after every answer.
 * Each pod is compared with it, level by level (references, files, sandbox, init containers,
 * containers), and at most one call is under way for the sandbox and for each container. After a
 * call was answered, however, its object is left alone until a listing that began after the answer
 * has arrived; so a call whose fate is unknown is never repeated blindly.
 *
 * A container starts exactly as often as attempts are recorded:
 *   1. attempt N of (uid, container) is proposed through record_attempt and waits;
 *   2. pods_attempt_recorded says that it is durable and applied;
 *   3. only then CreateContainer is called, with a name made of (uid, container, N). A crash before
 *      that repeats the creation, not the number; a crash after it finds the container by label;
 *   4. N + 1 is proposed only when N has existed: it is or was listed, or its status is known.
 * The restart count that users see is the attempt number.
 *
 * Use:
 *      pods_init; pods_desire for every row of the state; pods_begin; then any input as it comes;
 *      pods_tick after every input and whenever the time that pods_tick answered has come.
 *
 * Inputs only take note; calls of the door happen inside pods_tick, except none.
 */
#ifndef KELP_NODES_EDGE_PODS_H
#define KELP_NODES_EDGE_PODS_H

#include "nodes/edge/driver.h"
#include "nodes/edge/podspec.h"
#include "schemas/codec.h"
#include "schemas/limits.h"

/* Both clocks of the node at one moment. */
struct pods_time {
    uint64_t mono_ms; /* never goes back; deadlines and back-offs */
    int64_t wall_ms;  /* since 1970, for people; may jump */
};

struct pods_config {
    const char *node_name; /* all texts are borrowed until pods_deinit */
    const char *host_ip;
    const char *runtime;            /* "containerd", before the ids that users see; "": not known yet */
    const char *root;               /* of volumes and logs */
    const char *cgroup_root;        /* "/kelp" */
    const char *const *dns_servers; /* of the cluster, for ClusterFirst; may be empty */
    size_t dns_server_count;
    int64_t node_cpu_milli;
    int64_t node_memory_bytes;
};

/* Everything the reconciler asks of the world. A function that returns int answers 0 when it took
 * the matter on; anything else (the log is full, for one) means try again: it is asked again
 * after POD_RETRY_MS. Pointers are borrowed during the call. None may call into pods from inside,
 * other than the inputs that only take note. */
struct pods_door {
    void *context;
    /* driver->call: the answer comes as pods_on_answer with the same id. */
    int (*runtime_call)(void *context, uint64_t id, const struct driver_call *call);
    /* Write volumes, hosts file and log directories of this pod (again): pods_on_volumes. */
    int (*volumes_prepare)(void *context, const struct pod_spec *spec,
                           const struct pod_facts *facts);
    /* Remove what volumes_prepare made: pods_on_removed. */
    int (*volumes_remove)(void *context, const char *uid, const char *namespace, const char *name);
    /* A container is gone for good, its log may go. No answer. */
    void (*log_remove)(void *context, const char *uid, const char *namespace, const char *name,
                       const char *container, uint32_t attempt);
    /* RECORD_POD_ATTEMPT: pods_attempt_recorded when it is applied. Repeated after
     * POD_RECORD_RETRY_MS without that; the same number again means the same.
     * -ENOSPC: no room for another container, which the pod shows; other failures: again soon. */
    int (*record_attempt)(void *context, const char *namespace, const char *name,
                          const struct pod_attempt *attempt);
    /* RECORD_POD_STATUS: different from the one before. */
    int (*record_status)(void *context, const char *namespace, const char *name,
                         const struct pod_status *status);
    /* RECORD_POD_ENDED: nothing of this pod is left on the node and its wish says it is being
     * deleted. */
    int (*record_ended)(void *context, const char *namespace, const char *name,
                        const struct pod_ended *ended);
    /* RECORD_EDGE_EVENT, for people. An event that is told again has a higher count. */
    void (*record_event)(void *context, const struct edge_event *event);
    /* Config maps and secrets in the state. */
    struct pod_lookup lookup;
};

/* One wanted pod, as the state knows it. Borrowed during the call. */
struct pods_wish {
    const struct object *object; /* json, uid, namespace_, name, generation, deletion_* are read */
    const struct pod_attempt *attempts; /* the highest recorded of each container, any order */
    size_t attempt_count;
    const struct pod_status *status; /* the last one recorded, or NULL */
    bool ended;                      /* RECORD_POD_ENDED is already recorded */
};

/* What a node reports about its pods; for metrics, node status and tests. */
#define PODS_PHASES 5u /* of enum pod_phase */

struct pods_report {
    size_t wanted;
    size_t phases[PODS_PHASES];
    size_t running;          /* in phase Running */
    size_t calls;            /* under way */
    uint64_t calls_total;    /* begun */
    bool listed;             /* at least one listing arrived */
    uint64_t listed_mono_ms; /* when the newest one did; the runtime is in trouble when it is old */
    int list_status;         /* of the newest listing call */
};

#define POD_RELIST_MS        1000u /* as the kubelet's */
#define POD_RELIST_MIN_MS    10u   /* hints and answers may ask for more, not for a busy loop */
#define POD_RETRY_MS         1000u /* something the door refused; a call that failed, doubling */
#define POD_RETRY_MAX_MS     60000u
#define POD_RECORD_RETRY_MS  10000u
#define POD_BACKOFF_MS       10000u /* crash loops and image pulls, doubling */
#define POD_BACKOFF_MAX_MS   300000u
#define POD_BACKOFF_RESET_MS 600000u /* a run this long was not a crash loop */
#define POD_EVENT_MS         10000u /* between two tellings of an event, for each but the first */
#define POD_EVENT_MAX_MS     300000u
#define POD_ORPHAN_GRACE_S   2       /* for containers nobody wants: forced deletion, mostly */

struct pods;

/*   config, door   borrowed until pods_destroy
 *   answers        given: hand it to pods_destroy
 */
struct pods *pods_create(const struct pods_config *config, const struct pods_door *door);
/* Forget everything; containers keep running. Answers that come later must not be passed on. */
void pods_destroy(struct pods *pods);

/* A row of a wanted pod appeared or changed. A second call for a uid updates it; attempts only
 * rise; status is read the first time only.
 *
 *   answers  0; STATUS_FULL: LIMIT_PODS pods are wanted already, this one is not taken
 */
int pods_desire(struct pods *pods, const struct pods_wish *wish);
/* The row is gone: what is left of the pod is stopped and removed. */
void pods_undesire(struct pods *pods, const char *uid);
/* All rows there are were passed to pods_desire: from here on containers are acted upon, and those
 * of pods nobody wishes for end. */
void pods_begin(struct pods *pods);

/* A config map or secret changed, appeared or went. */
void pods_object_changed(struct pods *pods, bool secret, const char *namespace, const char *name);
/* RECORD_POD_ATTEMPT is durable and applied. Unknown pods and lower numbers are ignored. */
void pods_attempt_recorded(struct pods *pods, const char *uid, const char *container,
                           uint32_t attempt);
/* The answer to a call that the door took. */
void pods_on_answer(struct pods *pods, uint64_t id, const struct driver_answer *answer,
                    struct pods_time now);
/* The files of a pod are written (0), or not, with a reason. */
void pods_on_volumes(struct pods *pods, const char *uid, int status, const char *message,
                     struct pods_time now);
void pods_on_removed(struct pods *pods, const char *uid, int status, const char *message,
                     struct pods_time now);
/* Something happened in the runtime: list soon. */
void pods_hint(struct pods *pods);

/* Do what is to be done.
 *
 *   answers  the mono_ms at which to call again, at most POD_RELIST_MS from now
 */
uint64_t pods_tick(struct pods *pods, struct pods_time now);

/* Of all that makes two events the same one, told twice: object, container, type, reason, message. */
uint64_t pods_event_hash(const struct edge_event *event);

struct pods_report pods_report(const struct pods *pods);
/* The newest status of a pod, lent until the next pods_tick; NULL when unknown. */
const struct pod_status *pods_status(const struct pods *pods, const char *uid);

#endif
