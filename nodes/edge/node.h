/* What a node says of itself: capacity, addresses, conditions, labels; read from /proc and the system.
 *
 * source: KubeEdge edge/pkg/edged, kubelet pkg/kubelet/nodestatus. Differs: what changes all the time
 * (free memory, heartbeat times) is not part of it, because every change is a record.
 */
#ifndef KELP_NODES_EDGE_NODE_H
#define KELP_NODES_EDGE_NODE_H

#include "nodes/edge/pods.h"

#define NODE_VERSION_TEXT    "v1.32.0-kelp" /* what kubectl shows as VERSION */
#define NODE_RUNTIME_MS      30000u /* a listing older than this: the runtime does not answer */
#define NODE_DISK_FREE_MIN   5      /* percent of the volumes' file system; below: DiskPressure */

struct node_options {
    const char *name; /* all texts are borrowed until node_close */
    const char *ip;   /* InternalIP; "" or NULL: the address of the default route, else 127.0.0.1 */
    const char *root; /* of volumes: its file system is the ephemeral storage */
    uint32_t max_pods;
    const struct pair *labels; /* beside those that every node has */
    uint32_t label_count;
};

struct node;

/* Read what does not change. Given: hand it to node_close. */
struct node *node_open(const struct node_options *options);
void node_close(struct node *node);

/* Lent until node_close. */
const char *node_ip(const struct node *node);
int64_t node_cpu_milli(const struct node *node);
int64_t node_memory_bytes(const struct node *node);
const struct pair *node_labels(const struct node *node);
uint32_t node_label_count(const struct node *node);

/* "containerd://1.6.20", once the runtime has said who it is. Copied. */
void node_set_runtime(struct node *node, const char *name, const char *version);

/* What the runtime says of itself: a node whose runtime or pod network is not ready is NotReady, with
 * `why` (copied; "" when there is nothing wrong). Ready until told otherwise. */
void node_set_ready(struct node *node, bool ready, const char *why);

/* There is no room for what the cloud sends: shown as DiskPressure, until told otherwise. */
void node_set_disk_short(struct node *node, bool is_short);

/* The node as it is now. Lent until the next call. */
const struct node_status *node_look(struct node *node, const struct pods_report *pods,
                                    struct pods_time now);

#endif
