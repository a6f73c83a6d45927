#include "nodes/cloud/scheduler.h"

#include "schemas/check.h"

#include <stdio.h>
#include <stdlib.h>

struct scheduler_node {
    struct scheduler_node_facts facts;
    bool known; /* there is such a Node; else only pods name it */
    int64_t used_cpu_milli;
    int64_t used_memory_bytes;
    int64_t used_pods;
    char name[];
};

struct scheduler_pod {
    char *uid;
    char *node;    /* "" while it has none */
    char *assumed; /* a binding to it is under way; NULL: none */
    char *reason;  /* of the last verdict that it fits nowhere; NULL: none */
    bool ended;
    bool tried; /* since the last change that could matter */
    int64_t cpu_milli;
    int64_t memory_bytes;
    char key[];
};

struct scheduler {
    const struct scheduler_door *door;
    struct scheduler_node **nodes; /* sorted by name */
    uint32_t node_count;
    uint32_t node_capacity;
    struct scheduler_pod **pods; /* sorted by key */
    uint32_t pod_count;
    uint32_t pod_capacity;
    uint32_t waiting_count; /* pods without node that were not tried yet; a hint, never too small */
};

static char *scheduler_copy(const char *text)
{
    char *copy = strdup(text);
    CHECK(copy != NULL);
    return copy;
}

struct scheduler *scheduler_create(const struct scheduler_door *door)
{
    struct scheduler *scheduler = calloc(1, sizeof *scheduler);
    CHECK(scheduler != NULL);
    scheduler->door = door;
    return scheduler;
}

static void scheduler_pod_free(struct scheduler_pod *pod)
{
    free(pod->uid);
    free(pod->node);
    free(pod->assumed);
    free(pod->reason);
    free(pod);
}

void scheduler_clear(struct scheduler *scheduler)
{
    for (uint32_t i = 0; i < scheduler->node_count; i++) {
        free(scheduler->nodes[i]);
    }
    for (uint32_t i = 0; i < scheduler->pod_count; i++) {
        scheduler_pod_free(scheduler->pods[i]);
    }
    scheduler->node_count = 0;
    scheduler->pod_count = 0;
    scheduler->waiting_count = 0;
}

void scheduler_destroy(struct scheduler *scheduler)
{
    if (scheduler != NULL) {
        scheduler_clear(scheduler);
        free(scheduler->nodes);
        free(scheduler->pods);
        free(scheduler);
    }
}

/* -- tables ------------------------------------------------------------------------------------ */

static uint32_t scheduler_node_place(const struct scheduler *scheduler, const char *name)
{
    uint32_t low = 0;
    uint32_t high = scheduler->node_count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (strcmp(scheduler->nodes[middle]->name, name) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static struct scheduler_node *scheduler_enter_node(struct scheduler *scheduler, const char *name)
{
    const uint32_t place = scheduler_node_place(scheduler, name);
    if (place < scheduler->node_count && strcmp(scheduler->nodes[place]->name, name) == 0) {
        return scheduler->nodes[place];
    }
    if (scheduler->node_count == scheduler->node_capacity) {
        scheduler->node_capacity = scheduler->node_capacity == 0 ? 64 : 2 * scheduler->node_capacity;
        scheduler->nodes = realloc(scheduler->nodes,
                                   scheduler->node_capacity * sizeof(struct scheduler_node *));
        CHECK(scheduler->nodes != NULL);
    }
    const size_t size = strlen(name) + 1;
    struct scheduler_node *node = calloc(1, sizeof *node + size);
    CHECK(node != NULL);
    memcpy(node->name, name, size);
    memmove(scheduler->nodes + place + 1, scheduler->nodes + place,
            (scheduler->node_count - place) * sizeof(struct scheduler_node *));
    scheduler->nodes[place] = node;
    scheduler->node_count++;
    return node;
}

static uint32_t scheduler_pod_place(const struct scheduler *scheduler, const char *key)
{
    uint32_t low = 0;
    uint32_t high = scheduler->pod_count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (strcmp(scheduler->pods[middle]->key, key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static struct scheduler_pod *scheduler_find_pod(const struct scheduler *scheduler, const char *key)
{
    const uint32_t place = scheduler_pod_place(scheduler, key);
    return place < scheduler->pod_count && strcmp(scheduler->pods[place]->key, key) == 0
               ? scheduler->pods[place]
               : NULL;
}

static struct scheduler_pod *scheduler_enter_pod(struct scheduler *scheduler, const char *key)
{
    struct scheduler_pod *pod = scheduler_find_pod(scheduler, key);
    if (pod != NULL) {
        return pod;
    }
    const uint32_t place = scheduler_pod_place(scheduler, key);
    if (scheduler->pod_count == scheduler->pod_capacity) {
        scheduler->pod_capacity = scheduler->pod_capacity == 0 ? 256 : 2 * scheduler->pod_capacity;
        scheduler->pods =
            realloc(scheduler->pods, scheduler->pod_capacity * sizeof(struct scheduler_pod *));
        CHECK(scheduler->pods != NULL);
    }
    const size_t size = strlen(key) + 1;
    pod = calloc(1, sizeof *pod + size);
    CHECK(pod != NULL);
    memcpy(pod->key, key, size);
    pod->uid = scheduler_copy("");
    pod->node = scheduler_copy("");
    memmove(scheduler->pods + place + 1, scheduler->pods + place,
            (scheduler->pod_count - place) * sizeof(struct scheduler_pod *));
    scheduler->pods[place] = pod;
    scheduler->pod_count++;
    return pod;
}

/* Count a pod on its node, or no longer (sign -1). */
static void scheduler_use(struct scheduler *scheduler, const struct scheduler_pod *pod, int64_t sign)
{
    const char *name = pod->node[0] != '\0' ? pod->node : pod->assumed;
    if (name == NULL || pod->ended) {
        return;
    }
    struct scheduler_node *node = scheduler_enter_node(scheduler, name);
    node->used_cpu_milli += sign * pod->cpu_milli;
    node->used_memory_bytes += sign * pod->memory_bytes;
    node->used_pods += sign;
}

/* Room may have appeared: all that fitted nowhere are tried again. */
static void scheduler_retry_all(struct scheduler *scheduler)
{
    scheduler->waiting_count = 0;
    for (uint32_t i = 0; i < scheduler->pod_count; i++) {
        struct scheduler_pod *pod = scheduler->pods[i];
        pod->tried = false;
        scheduler->waiting_count += pod->node[0] == '\0' && !pod->ended && pod->assumed == NULL;
    }
}

void scheduler_set_node(struct scheduler *scheduler, const char *name,
                        const struct scheduler_node_facts *facts)
{
    struct scheduler_node *node = scheduler_enter_node(scheduler, name);
    node->known = facts != NULL;
    node->facts = facts != NULL ? *facts : (struct scheduler_node_facts){.ready = false};
    scheduler_retry_all(scheduler);
}

void scheduler_set_pod(struct scheduler *scheduler, const char *key,
                       const struct scheduler_pod_facts *facts)
{
    struct scheduler_pod *pod = facts != NULL ? scheduler_enter_pod(scheduler, key)
                                              : scheduler_find_pod(scheduler, key);
    if (pod == NULL) {
        return;
    }
    const bool used = pod->node[0] != '\0' && !pod->ended;
    scheduler_use(scheduler, pod, -1);
    if (facts == NULL) {
        const uint32_t place = scheduler_pod_place(scheduler, key);
        memmove(scheduler->pods + place, scheduler->pods + place + 1,
                (scheduler->pod_count - place - 1) * sizeof(struct scheduler_pod *));
        scheduler->pod_count--;
        scheduler_pod_free(pod);
    } else {
        if (strcmp(pod->uid, facts->uid) != 0) {
            free(pod->uid);
            pod->uid = scheduler_copy(facts->uid);
            free(pod->assumed);
            pod->assumed = NULL;
            free(pod->reason);
            pod->reason = NULL;
        }
        if (strcmp(pod->node, facts->node) != 0) {
            free(pod->node);
            pod->node = scheduler_copy(facts->node);
        }
        pod->ended = facts->ended;
        pod->cpu_milli = facts->cpu_milli;
        pod->memory_bytes = facts->memory_bytes;
        pod->tried = false;
        if (pod->node[0] != '\0') {
            free(pod->assumed);
            pod->assumed = NULL;
            if (pod->reason != NULL &&
                scheduler->door->verdict(scheduler->door->context, key, pod->uid, true, "") == 0) {
                free(pod->reason);
                pod->reason = NULL;
            }
        }
        scheduler_use(scheduler, pod, 1);
        scheduler->waiting_count++;
    }
    if (used && (facts == NULL || facts->ended)) {
        scheduler_retry_all(scheduler); /* room appeared */
    }
}

void scheduler_on_bound(struct scheduler *scheduler, const char *pod_key, bool accepted)
{
    struct scheduler_pod *pod = scheduler_find_pod(scheduler, pod_key);
    if (pod == NULL || pod->assumed == NULL || accepted) {
        return; /* accepted: the changed row says so itself */
    }
    scheduler_use(scheduler, pod, -1);
    free(pod->assumed);
    pod->assumed = NULL;
    pod->tried = false;
    scheduler->waiting_count++;
}

/* -- choosing ---------------------------------------------------------------------------------- */

/* Requested share after the pod, in millionths of cpu and memory together. */
static int64_t scheduler_score(const struct scheduler_node *node, const struct scheduler_pod *pod)
{
    const int64_t cpu = node->facts.cpu_milli > 0 ? node->facts.cpu_milli : 1;
    const int64_t memory = node->facts.memory_bytes > 1024 ? node->facts.memory_bytes / 1024 : 1;
    return (node->used_cpu_milli + pod->cpu_milli) * 1000000 / cpu +
           (node->used_memory_bytes + pod->memory_bytes) / 1024 * 1000000 / memory;
}

struct scheduler_why {
    const char *text;
    uint32_t count;
};
#define SCHEDULER_WHYS 8u

static void scheduler_count_why(struct scheduler_why *whys, const char *text)
{
    for (uint32_t i = 0; i < SCHEDULER_WHYS; i++) {
        if (whys[i].text == NULL || strcmp(whys[i].text, text) == 0) {
            whys[i].text = text;
            whys[i].count++;
            return;
        }
    }
}

static const char *scheduler_refuse(const struct scheduler *scheduler,
                                    const struct scheduler_node *node,
                                    const struct scheduler_pod *pod)
{
    const char *why = NULL;
    if (!node->facts.ready) {
        return "node(s) were not ready";
    }
    if (node->used_pods >= node->facts.pods) {
        return "Too many pods";
    }
    if (pod->cpu_milli > 0 && node->used_cpu_milli + pod->cpu_milli > node->facts.cpu_milli) {
        return "Insufficient cpu";
    }
    if (pod->memory_bytes > 0 &&
        node->used_memory_bytes + pod->memory_bytes > node->facts.memory_bytes) {
        return "Insufficient memory";
    }
    return scheduler->door->fits(scheduler->door->context, pod->key, node->name, &why) ? NULL : why;
}

/* The best node, or NULL and why not, worded as kube-scheduler does. */
static struct scheduler_node *scheduler_choose(struct scheduler *scheduler,
                                               const struct scheduler_pod *pod, char *reason)
{
    struct scheduler_node *best = NULL;
    struct scheduler_why whys[SCHEDULER_WHYS] = {{0}};
    uint32_t known_count = 0;
    for (uint32_t i = 0; i < scheduler->node_count; i++) {
        struct scheduler_node *node = scheduler->nodes[i];
        if (!node->known) {
            continue;
        }
        known_count++;
        const char *why = scheduler_refuse(scheduler, node, pod);
        if (why != NULL) {
            scheduler_count_why(whys, why);
            continue;
        }
        const int64_t score = scheduler_score(node, pod);
        const int64_t best_score = best == NULL ? 0 : scheduler_score(best, pod);
        if (best == NULL || score < best_score ||
            (score == best_score && node->used_pods < best->used_pods)) {
            best = node;
        }
    }
    if (best == NULL) {
        int used = snprintf(reason, SCHEDULER_REASON_BYTES, "0/%u nodes are available", known_count);
        for (uint32_t i = 0; i < SCHEDULER_WHYS && whys[i].text != NULL; i++) {
            if (used > 0 && (size_t)used < SCHEDULER_REASON_BYTES) {
                used += snprintf(reason + used, SCHEDULER_REASON_BYTES - (size_t)used, "%s %u %s",
                                 i == 0 ? ":" : ",", whys[i].count, whys[i].text);
            }
        }
        if (used > 0 && (size_t)used < SCHEDULER_REASON_BYTES - 1) {
            memcpy(reason + used, ".", 2);
        }
    }
    return best;
}

static void scheduler_try(struct scheduler *scheduler, struct scheduler_pod *pod)
{
    char reason[SCHEDULER_REASON_BYTES];
    const struct scheduler_node *node = scheduler_choose(scheduler, pod, reason);
    if (node != NULL) {
        if (scheduler->door->bind(scheduler->door->context, pod->key, node->name) == 0) {
            pod->assumed = scheduler_copy(node->name);
            scheduler_use(scheduler, pod, 1);
        }
        return;
    }
    if ((pod->reason == NULL || strcmp(pod->reason, reason) != 0) &&
        scheduler->door->verdict(scheduler->door->context, pod->key, pod->uid, false, reason) ==
            0) {
        free(pod->reason);
        pod->reason = scheduler_copy(reason);
    }
}

bool scheduler_run(struct scheduler *scheduler)
{
    if (scheduler->waiting_count == 0) {
        return false;
    }
    uint32_t tried = 0;
    for (uint32_t i = 0; i < scheduler->pod_count; i++) {
        struct scheduler_pod *pod = scheduler->pods[i];
        if (pod->node[0] != '\0' || pod->ended || pod->assumed != NULL || pod->tried) {
            continue;
        }
        if (tried == SCHEDULER_BUDGET) {
            return true;
        }
        tried++;
        pod->tried = true;
        scheduler_try(scheduler, pod);
    }
    scheduler->waiting_count = 0;
    return false;
}

/* -- quantities -------------------------------------------------------------------------------- */

/* source: k8s.io/apimachinery/pkg/api/resource, Quantity: a decimal number and a suffix. In
 * thousandths, rounded up; beyond 2^63 it stays there. */
static bool scheduler_parse_quantity(const char *text, int64_t *out_milli)
{
    static const struct {
        const char *suffix;
        double factor;
    } suffixes[] = {
        {"", 1}, {"m", 1e-3}, {"u", 1e-6}, {"n", 1e-9}, {"k", 1e3}, {"M", 1e6}, {"G", 1e9},
        {"T", 1e12}, {"P", 1e15}, {"E", 1e18}, {"Ki", 1024.0}, {"Mi", 1048576.0},
        {"Gi", 1073741824.0}, {"Ti", 1099511627776.0}, {"Pi", 1125899906842624.0},
        {"Ei", 1152921504606846976.0},
    };
    char *end = NULL;
    if (text[0] == '\0' || strchr("+-.0123456789", text[0]) == NULL) {
        return false;
    }
    const double number = strtod(text, &end);
    if (end == text) {
        return false;
    }
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        if (strcmp(end, suffixes[i].suffix) == 0) {
            const double milli = number * suffixes[i].factor * 1000.0;
            if (milli >= 9.2e18 || milli <= -9.2e18) {
                *out_milli = milli > 0 ? INT64_MAX : INT64_MIN;
                return true;
            }
            *out_milli = (int64_t)milli;
            if ((double)*out_milli < milli - 1e-6) {
                (*out_milli)++;
            }
            return true;
        }
    }
    return false;
}

bool scheduler_parse_cpu(const char *text, int64_t *out_milli)
{
    return scheduler_parse_quantity(text, out_milli);
}

bool scheduler_parse_bytes(const char *text, int64_t *out_bytes)
{
    int64_t milli = 0;
    if (!scheduler_parse_quantity(text, &milli)) {
        return false;
    }
    *out_bytes = milli / 1000 + (milli % 1000 > 0);
    return true;
}
