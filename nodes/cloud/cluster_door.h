/* The group of cloudcores over HTTP, for `kelp cluster` (nodes/cli/cluster.c). Beside the Kubernetes API, on
 * the same port, for group system:masters:
 *
 *   GET  /kelp/v1/cluster              who is in it and how each is, as JSON: cluster_door_document
 *   POST /kelp/v1/cluster/OPERATION    add, promote, demote, remove, transfer, release, admit; whichever replica is
 *                                      asked. Body: {"replica": 4, "address": "10.0.0.4:10010", "timeoutMs": 5000}
 *                                      and, of add and remove, perhaps "key": see cloud_core_change
 *   GET  /kelp/v1/cluster/backup       backup_door.h
 *
 * A change is answered {"outcome": "...", "message": "a sentence"}:
 *
 *   200 done      it is so, or was
 *   409 refused   it may not be
 *   409 later     not now, the message says what is missing: ask again
 *   504 timeout   it may happen yet: ask again, asking twice changes nothing
 *   400, 404, 503 as usual
 */
#ifndef KELP_NODES_CLOUD_CLUSTER_DOOR_H
#define KELP_NODES_CLOUD_CLUSTER_DOOR_H

#include "nodes/cloud/core.h"
#include "nodes/net/http.h"

/* Serve a request if it is for this door.
 *   core      borrowed until the exchange is answered
 *   returns   whether it was; the exchange is answered now or later then */
bool cluster_door_serve(struct cloud_core *core, struct http_exchange *exchange);

/* Whether the client is of group system:masters; else it has been answered. */
bool cluster_door_allowed(struct http_exchange *exchange);

/* Write the document of GET, at most `size` bytes, not terminated; answers how many, 0: it does not fit. */
size_t cluster_door_document(struct cloud_core *core, char *buffer, size_t size);

#endif
