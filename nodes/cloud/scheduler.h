/* Bind pods without a node: small, deterministic, replaceable. Runs on the leader only.
 *
 * A model in memory of all nodes and pods, fed with every change; what it concludes goes out as
 * proposals through struct scheduler_door: a binding (an update of the pod with spec.nodeName, made at the
 * API door, with the row's version as precondition) or a verdict PodScheduled=False with the reason.
 *
 * A node may be chosen when it is ready, has room for the requests and one more pod, and the door says
 * that selector, taints, spec.unschedulable and the disk it reports allow it. Among those: the one with the smallest
 * share of requested cpu and memory after the pod, then the fewest pods, then the first name. A
 * binding under way counts as used. Pods that fit nowhere are tried again when something changes.
 *
 * Pure: same calls, same proposals. One thread.
 */
#ifndef KELP_NODES_CLOUD_SCHEDULER_H
#define KELP_NODES_CLOUD_SCHEDULER_H

#include "schemas/codec.h"
#include "schemas/limits.h"

#define SCHEDULER_BUDGET 32u /* pods tried in one run */
#define SCHEDULER_REASON_BYTES 512u

struct scheduler_door {
    void *context;
    /* Selector, taints, unschedulable, disk pressure. out_why: a short text, lent for ever */
    bool (*fits)(void *context, const char *pod_key, const char *node, const char **out_why);
    /* Propose; then scheduler_on_bound. 0; negative: not now */
    int (*bind)(void *context, const char *pod_key, const char *node);
    /* Propose PodScheduled, false with a reason, or true; nobody waits. 0; negative: not now */
    int (*verdict)(void *context, const char *pod_key, const char *uid, bool scheduled,
                   const char *reason);
};

/* What counts of a node. */
struct scheduler_node_facts {
    bool ready;
    int64_t cpu_milli;   /* allocatable */
    int64_t memory_bytes;
    int64_t pods;
};
/* And of a pod. */
struct scheduler_pod_facts {
    const char *uid;
    const char *node; /* "" while it has none */
    bool ended;       /* phase Succeeded or Failed, or being deleted: uses nothing, needs no node */
    int64_t cpu_milli;
    int64_t memory_bytes;
};

struct scheduler;
struct scheduler *scheduler_create(const struct scheduler_door *door); /* borrowed until destroy */
void scheduler_destroy(struct scheduler *scheduler);
/* Forget all nodes and pods: leadership ended or began. */
void scheduler_clear(struct scheduler *scheduler);

/* A node or pod is there, or changed; facts NULL: it is gone. Texts are copied. */
void scheduler_set_node(struct scheduler *scheduler, const char *name,
                        const struct scheduler_node_facts *facts);
void scheduler_set_pod(struct scheduler *scheduler, const char *key,
                       const struct scheduler_pod_facts *facts);
/* The binding of this pod was proposed and is over. */
void scheduler_on_bound(struct scheduler *scheduler, const char *pod_key, bool accepted);

/* Try pods that wait.
 *   answers  true: more are to be tried now */
bool scheduler_run(struct scheduler *scheduler);

/* "2", "500m", "0.5" cores in thousandths; "128Mi", "1G", "1e3" in bytes (rounded up).
 *   answers  false: not a quantity */
bool scheduler_parse_cpu(const char *text, int64_t *out_milli);
bool scheduler_parse_bytes(const char *text, int64_t *out_bytes);

#endif
