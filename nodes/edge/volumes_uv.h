/* volumes.h in the thread pool: the loop plans, a thread writes, the loop hears of it. */
#ifndef KELP_NODES_EDGE_VOLUMES_UV_H
#define KELP_NODES_EDGE_VOLUMES_UV_H

#include "nodes/edge/volumes.h"

#include <uv.h>

/* Write a plan.
 *
 *   plan     taken, always: it is let go of after on_done
 *   uid      copied, handed back
 *   on_done  called once, from the loop; status and message as volumes_write answers
 */
void volumes_uv_write(uv_loop_t *loop, struct volume_plan *plan, const char *uid,
                      void (*on_done)(void *context, const char *uid, int status,
                                      const char *message),
                      void *context);

/* Remove what is on disk of a pod; texts are copied. */
void volumes_uv_remove(uv_loop_t *loop, const char *root, const char *cgroup_root,
                       const char *namespace, const char *name, const char *uid,
                       void (*on_done)(void *context, const char *uid, int status,
                                       const char *message),
                       void *context);

#endif
