#include "nodes/cloud/liveness.h"

#include "schemas/check.h"

#include <stdlib.h>
#include <string.h>

#define LIVENESS_RUN_MS 500u /* how often all nodes are looked at, for what time alone has changed */

struct liveness_node {
    char *uid;
    uint64_t replica; /* who holds its session, 0: nobody */
    uint64_t epoch;
    uint64_t lost_ms;     /* mono: without a session since */
    int64_t lost_wall_ms; /* the same in wall time; 0: never had one that we know of */
    enum liveness_verdict verdict;
    bool known;     /* the state has this node; else only a report said its name */
    bool pending;   /* a proposal is under way */
    bool mentioned; /* in the full report being read */
    bool changed;   /* in `liveness->changed` */
    struct liveness_node *next_changed;
    char name[];
};

void liveness_init(struct liveness *liveness, const struct liveness_door *door, uint64_t replica,
                   uint32_t grace_ms)
{
    *liveness = (struct liveness){.door = door, .replica = replica, .grace_ms = grace_ms};
}

static void liveness_clear(struct liveness *liveness)
{
    for (uint32_t i = 0; i < liveness->node_count; i++) {
        free(liveness->nodes[i]->uid);
        free(liveness->nodes[i]);
    }
    liveness->node_count = 0;
    liveness->replica_count = 0;
    liveness->changed = NULL;
    liveness->look_ms = 0;
}

/* The next run looks at this node, whenever it comes. */
static void liveness_change(struct liveness *liveness, struct liveness_node *node)
{
    if (liveness->leads && !node->changed) {
        node->changed = true;
        node->next_changed = liveness->changed;
        liveness->changed = node;
    }
}

void liveness_deinit(struct liveness *liveness)
{
    liveness_clear(liveness);
    free(liveness->nodes);
    liveness->nodes = NULL;
    liveness->node_capacity = 0;
}

void liveness_lead(struct liveness *liveness, uint64_t now_ms)
{
    (void)now_ms;
    liveness_clear(liveness);
    liveness->leads = true;
}

void liveness_unlead(struct liveness *liveness)
{
    liveness_clear(liveness);
    liveness->leads = false;
}

/* Place of the first node whose name is not below `name`. */
static uint32_t liveness_place(const struct liveness *liveness, const char *name)
{
    uint32_t low = 0;
    uint32_t high = liveness->node_count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (strcmp(liveness->nodes[middle]->name, name) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static struct liveness_node *liveness_find(const struct liveness *liveness, const char *name)
{
    const uint32_t place = liveness_place(liveness, name);
    return place < liveness->node_count && strcmp(liveness->nodes[place]->name, name) == 0
               ? liveness->nodes[place]
               : NULL;
}

/* The entry of this name, made when absent; NULL beyond LIMIT_NODES. */
static struct liveness_node *liveness_enter(struct liveness *liveness, const char *name,
                                            uint64_t now_ms)
{
    const uint32_t place = liveness_place(liveness, name);
    if (place < liveness->node_count && strcmp(liveness->nodes[place]->name, name) == 0) {
        return liveness->nodes[place];
    }
    if (liveness->node_count >= LIMIT_NODES) {
        return NULL;
    }
    if (liveness->node_count == liveness->node_capacity) {
        liveness->node_capacity = liveness->node_capacity == 0 ? 64 : 2 * liveness->node_capacity;
        liveness->nodes =
            realloc(liveness->nodes, liveness->node_capacity * sizeof(struct liveness_node *));
        CHECK(liveness->nodes != NULL);
    }
    const size_t size = strlen(name) + 1;
    struct liveness_node *node = calloc(1, sizeof *node + size);
    CHECK(node != NULL);
    memcpy(node->name, name, size);
    node->lost_ms = now_ms;
    memmove(liveness->nodes + place + 1, liveness->nodes + place,
            (liveness->node_count - place) * sizeof(struct liveness_node *));
    liveness->nodes[place] = node;
    liveness->node_count++;
    return node;
}

void liveness_set_node(struct liveness *liveness, const char *node, const char *uid,
                       enum liveness_verdict verdict, uint64_t now_ms)
{
    struct liveness_node *entry = liveness->leads ? liveness_enter(liveness, node, now_ms) : NULL;
    if (entry == NULL) {
        return;
    }
    if (entry->uid == NULL || strcmp(entry->uid, uid) != 0) {
        free(entry->uid);
        entry->uid = strdup(uid);
        CHECK(entry->uid != NULL);
        entry->pending = false;
    }
    entry->known = true;
    entry->verdict = verdict;
    liveness_change(liveness, entry);
}

void liveness_remove_node(struct liveness *liveness, const char *node)
{
    struct liveness_node *entry = liveness_find(liveness, node);
    if (entry == NULL) {
        return;
    }
    const uint32_t place = liveness_place(liveness, node);
    memmove(liveness->nodes + place, liveness->nodes + place + 1,
            (liveness->node_count - place - 1) * sizeof(struct liveness_node *));
    liveness->node_count--;
    struct liveness_node **at = &liveness->changed;
    while (entry->changed && *at != entry) {
        at = &(*at)->next_changed;
    }
    if (entry->changed) {
        *at = entry->next_changed;
    }
    free(entry->uid);
    free(entry);
}

static void liveness_heard(struct liveness *liveness, uint64_t replica, uint64_t now_ms,
                           int64_t wall_ms)
{
    uint32_t i = 0;
    while (i < liveness->replica_count && liveness->replicas[i] != replica) {
        i++;
    }
    if (i == LIMIT_REPLICAS) {
        return;
    }
    if (i == liveness->replica_count) {
        liveness->replica_count++;
        liveness->replicas[i] = replica;
    }
    liveness->heard_ms[i] = now_ms;
    liveness->heard_wall_ms[i] = wall_ms;
}

/* The replica that held the session of this node does so no more. */
static void liveness_lose(struct liveness *liveness, struct liveness_node *node, uint64_t now_ms,
                          int64_t wall_ms)
{
    node->replica = 0;
    node->lost_ms = now_ms;
    node->lost_wall_ms = wall_ms;
    liveness_change(liveness, node);
}

/* Whom a full report does not mention has no session there. */
static void liveness_on_silence(struct liveness *liveness, uint64_t replica, uint64_t now_ms,
                                int64_t wall_ms)
{
    for (uint32_t i = 0; i < liveness->node_count; i++) {
        struct liveness_node *node = liveness->nodes[i];
        if (node->replica == replica && !node->mentioned) {
            liveness_lose(liveness, node, now_ms, wall_ms);
        }
        node->mentioned = false;
    }
}

void liveness_on_report(struct liveness *liveness, const struct sessions *report, uint64_t now_ms,
                        int64_t wall_ms)
{
    liveness_heard(liveness, report->replica, now_ms, wall_ms);
    for (uint32_t i = 0; i < report->closed_count; i++) {
        struct liveness_node *node = liveness_find(liveness, report->closed[i]);
        if (node != NULL && node->replica == report->replica) {
            liveness_lose(liveness, node, now_ms, wall_ms);
        }
    }
    for (uint32_t i = 0; i < report->opened_count; i++) {
        struct liveness_node *node = liveness_enter(liveness, report->opened[i], now_ms);
        if (node != NULL) {
            node->mentioned = report->full;
            /* A Node that was deleted and added again counts its epochs from one: what we heard of the
             * sessions before is no measure once nobody holds one. */
            if (node->replica == 0 || node->replica == report->replica ||
                report->epochs[i] >= node->epoch) {
                node->replica = report->replica;
                node->epoch = report->epochs[i];
                liveness_change(liveness, node);
            }
        }
    }
    if (report->full) {
        liveness_on_silence(liveness, report->replica, now_ms, wall_ms);
    }
    /* Deleted nodes are told to the leader only, so others forget nodes without session when there is
     * no room. */
    for (uint32_t i = liveness->node_count;
         i-- > 0 && !liveness->leads && liveness->node_count >= LIMIT_NODES;) {
        if (liveness->nodes[i]->replica == 0) {
            liveness_remove_node(liveness, liveness->nodes[i]->name);
        }
    }
}

void liveness_on_verdict(struct liveness *liveness, const char *node, bool reachable, bool accepted)
{
    struct liveness_node *entry = liveness_find(liveness, node);
    if (entry == NULL) {
        return;
    }
    entry->pending = false;
    if (accepted) {
        entry->verdict = reachable ? LIVENESS_REACHABLE : LIVENESS_UNREACHABLE;
    }
    liveness_change(liveness, entry);
}

/* Since when nobody holds a session of this node; false: somebody does. */
static bool liveness_lost(const struct liveness *liveness, const struct liveness_node *node,
                          uint64_t now_ms, uint64_t *out_since_ms)
{
    if (node->replica == 0) {
        *out_since_ms = node->lost_ms;
        return true;
    }
    for (uint32_t i = 0; i < liveness->replica_count; i++) {
        if (liveness->replicas[i] == node->replica) {
            /* A replica that says nothing for three reports is gone, and so are its sessions. */
            *out_since_ms = liveness->heard_ms[i] + 3 * (uint64_t)LIVENESS_FULL_MS;
            return now_ms > *out_since_ms;
        }
    }
    *out_since_ms = node->lost_ms;
    return true;
}

/* Propose the verdict of this node if it is another one now. */
static void liveness_judge(struct liveness *liveness, struct liveness_node *node, uint64_t now_ms)
{
    if (!node->known || node->pending) {
        return;
    }
    uint64_t since_ms = 0;
    const bool lost = liveness_lost(liveness, node, now_ms, &since_ms);
    const bool overdue = lost && now_ms >= since_ms + liveness->grace_ms;
    if ((!lost && node->verdict != LIVENESS_REACHABLE) ||
        (overdue && node->verdict != LIVENESS_UNREACHABLE)) {
        node->pending =
            liveness->door->propose(liveness->door->context, node->name, node->uid, !lost) == 0;
    }
}

/* What changed is judged at once; only time makes others change, and that can wait for the next look at all of them:
 * this is called in every turn of the loop, and while thousands come back each turn changes a few. What could not be
 * proposed waits for that look too. */
uint64_t liveness_run(struct liveness *liveness, uint64_t now_ms)
{
    if (!liveness->leads) {
        return UINT64_MAX;
    }
    while (liveness->changed != NULL) {
        struct liveness_node *node = liveness->changed;
        liveness->changed = node->next_changed;
        node->changed = false;
        liveness_judge(liveness, node, now_ms);
    }
    if (now_ms >= liveness->look_ms) {
        liveness->look_ms = now_ms + LIVENESS_RUN_MS;
        for (uint32_t i = 0; i < liveness->node_count; i++) {
            liveness_judge(liveness, liveness->nodes[i], now_ms);
        }
    }
    return liveness->look_ms;
}

uint32_t liveness_list_away(const struct liveness *liveness, uint64_t now_ms,
                            struct liveness_away *out, uint32_t most, uint32_t *out_known,
                            uint32_t *out_away)
{
    uint32_t count = 0;
    *out_known = 0;
    *out_away = 0;
    for (uint32_t i = 0; i < liveness->node_count && liveness->leads; i++) {
        uint64_t since_ms = 0;
        if (!liveness->nodes[i]->known) {
            continue;
        }
        (*out_known)++;
        if (!liveness_lost(liveness, liveness->nodes[i], now_ms, &since_ms)) {
            continue;
        }
        (*out_away)++;
        const struct liveness_away away = {.node = liveness->nodes[i]->name,
                                           .away_ms = now_ms > since_ms ? now_ms - since_ms : 0};
        uint32_t place = count;
        while (place > 0 && out[place - 1].away_ms < away.away_ms) {
            place--;
        }
        if (place == most) {
            continue;
        }
        const uint32_t end = count < most ? count : most - 1;
        memmove(&out[place + 1], &out[place], (end - place) * sizeof out[0]);
        out[place] = away;
        count = end + 1;
    }
    return count;
}

int64_t liveness_seen_ms(const struct liveness *liveness, const char *node)
{
    const struct liveness_node *entry = liveness_find(liveness, node);
    if (entry == NULL || entry->replica == 0) {
        return entry == NULL ? 0 : entry->lost_wall_ms;
    }
    for (uint32_t i = 0; i < liveness->replica_count; i++) {
        if (liveness->replicas[i] == entry->replica) {
            return liveness->heard_wall_ms[i];
        }
    }
    return 0;
}
