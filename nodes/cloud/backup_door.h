/* A backup over HTTP, for `kelp cluster backup`. Beside the Kubernetes API, on the same port, for group
 * system:masters:
 *
 *   GET /kelp/v1/cluster/backup              the file (backup.h), as a stream
 *   GET /kelp/v1/cluster/backup?stale=true   what this replica has, whether it is the newest or not
 *
 *   1. all that was acknowledged before is applied here (a fresh read), unless stale
 *   2. a snapshot of the store: from here on the loop only passes pieces on
 *   3. range by range is read in the pool and sent, not faster than `rate`; while the client does not take
 *      it, nothing is read
 *
 * What can fail: 429 LIMIT_BACKUPS are under way; 503 no leader answers, or this replica is being given a state
 * itself. Once it has begun, whatever fails cuts the connection: a file without its tail is not a backup. So do
 * LIMIT_TRANSFER_IDLE_MS in which the client takes nothing, and LIMIT_TRANSFER_LIFE_MS in all, since the store
 * keeps old rows for the snapshot.
 */
#ifndef KELP_NODES_CLOUD_BACKUP_DOOR_H
#define KELP_NODES_CLOUD_BACKUP_DOOR_H

#include <uv.h>

#include "nodes/cloud/core.h"
#include "nodes/net/http.h"

struct backup_job;

struct backup_door {
    uv_loop_t *loop;
    struct cloud_core *core; /* borrowed for life */
    const char *software;    /* borrowed for life */
    uint64_t rate_bytes;     /* in a second */
    uint32_t count;          /* under way */
};

/* Serve a request if it is for this door. The door must live until all exchanges are answered.
 *   returns   whether it was; the exchange is answered now or later then */
bool backup_door_serve(struct backup_door *door, struct http_exchange *exchange);

#endif
