/* The container runtime behind a CRI socket: containerd, or kelp-fake-cri. The contract of every
 * call is driver.h's.
 *
 * DRIVER_LIST is composed: ListPodSandbox and ListContainers side by side, then PodSandboxStatus
 * and ContainerStatus for what the lists do not tell (addresses, times, exit codes). What can no
 * longer change is remembered by id, so an idle node costs two calls a second.
 */
#ifndef KELP_NODES_EDGE_DRIVER_CRI_H
#define KELP_NODES_EDGE_DRIVER_CRI_H

#include "nodes/edge/driver.h"

#include <uv.h>

struct driver_cri;

/*   socket     path of the socket, or unix://path
 *   node_name  ours is what carries this name as DRIVER_LABEL_NODE; copied
 *   answers    given: hand it to driver_cri_close; NULL when the path is no socket's
 */
struct driver_cri *driver_cri_open(uv_loop_t *loop, const char *socket, const char *node_name);

/* The door; lent until driver_cri_close. Set on_answer and owner before the first call. */
struct driver *driver_cri_door(struct driver_cri *cri);

/* Calls under way are answered STATUS_CLOSING from the loop, then on_closed is called and the
 * driver is gone. */
void driver_cri_close(struct driver_cri *cri, void (*on_closed)(void *context), void *context);

#endif
