/* Which nodes can be reached: soft state of the leader, verdicts in the log.
 *
 * Heartbeats end in the sessions. Each replica tells the leader which sessions it holds: changes at
 * once, everything every LIVENESS_FULL_MS, so a lost frame heals and a dead replica is noticed. It tells
 * the others too, for they show it. The leader
 * proposes a VERDICT only when the answer for a node changes: unreachable after grace_ms without a
 * session, reachable as soon as there is one. A new leader knows nothing, so it waits one grace period
 * from its election before it says unreachable of anybody.
 *
 * Pure. One thread.
 */
#ifndef KELP_NODES_CLOUD_LIVENESS_H
#define KELP_NODES_CLOUD_LIVENESS_H

#include "schemas/codec.h"
#include "schemas/limits.h"

#define LIVENESS_FULL_MS 10000u /* between complete reports of a replica */

struct liveness_door {
    void *context;
    /* Propose VERDICT; then liveness_on_verdict. 0; negative: not now */
    int (*propose)(void *context, const char *node, const char *uid, bool reachable);
};

enum liveness_verdict { LIVENESS_NO_VERDICT, LIVENESS_REACHABLE, LIVENESS_UNREACHABLE };

struct liveness_node;
struct liveness {
    const struct liveness_door *door;
    uint64_t replica;
    uint32_t grace_ms;
    bool leads;
    uint64_t heard_ms[LIMIT_REPLICAS];      /* mono, of the replicas in `replicas` */
    int64_t heard_wall_ms[LIMIT_REPLICAS];
    uint64_t replicas[LIMIT_REPLICAS];      /* who reported since we lead */
    uint32_t replica_count;
    struct liveness_node **nodes; /* sorted by name */
    uint32_t node_count;
    uint32_t node_capacity;
    struct liveness_node *changed; /* to be judged in the next run */
    uint64_t look_ms;              /* mono: when all are judged again */
};

/* door: borrowed until deinit */
void liveness_init(struct liveness *liveness, const struct liveness_door *door, uint64_t replica,
                   uint32_t grace_ms);
void liveness_deinit(struct liveness *liveness);

/* We lead from now on: nothing is known. The owner then passes every node by liveness_set_node, its own
 * sessions by liveness_on_report, and other replicas do the same unasked. */
void liveness_lead(struct liveness *liveness, uint64_t now_ms);
void liveness_unlead(struct liveness *liveness);

/* A Node object is there (again), with the newest verdict about this uid. Only while leading. */
void liveness_set_node(struct liveness *liveness, const char *node, const char *uid,
                       enum liveness_verdict verdict, uint64_t now_ms);
void liveness_remove_node(struct liveness *liveness, const char *node);

/* What a replica says, ourselves included. Borrowed. While not leading it is only shown, by
 * liveness_seen_ms. */
void liveness_on_report(struct liveness *liveness, const struct sessions *report, uint64_t now_ms,
                        int64_t wall_ms);
/* The proposal for this node is over. */
void liveness_on_verdict(struct liveness *liveness, const char *node, bool reachable, bool accepted);

/* Propose what has changed. What only time changes is noticed half a second late at most.
 *   answers  mono_ms to come again; UINT64_MAX while not leading */
uint64_t liveness_run(struct liveness *liveness, uint64_t now_ms);

/* Nodes without a session anywhere, those that are so for longest first.
 *   out         receives `most` of them at most; names are lent until the next call
 *   out_known   nodes that the state has; 0 while not leading
 *   out_away    of those, nodes without a session
 *   returns     how many were written */
struct liveness_away {
    const char *node;
    uint64_t away_ms; /* since the session ended, or since we lead */
};
uint32_t liveness_list_away(const struct liveness *liveness, uint64_t now_ms,
                            struct liveness_away *out, uint32_t most, uint32_t *out_known,
                            uint32_t *out_away);

/* When the replica that serves this node last said so, or its session was seen to end (wall); 0: nobody
 * has said anything of it yet. */
int64_t liveness_seen_ms(const struct liveness *liveness, const char *node);

#endif
