/* What follows from devices and models, written by the leader:
 *
 *   types      a Device wishes its properties with the types of its DeviceModel. Whoever writes it looks them up
 *              (api_device.h); here a model that comes, changes or was not seen yet makes its devices right
 *   profiles   ConfigMap device-profile-config-NODE in each namespace with devices on that node: the file that
 *              mappers of the classic flow mount (device_profile.h). It is delivered as any other, so only where
 *              a pod names it
 *
 * A model in memory of which device is where (its index), fed with every changed wish; three sets of names say what
 * is to be looked at. A new leader, or one that fell behind, reads all devices once. One write is under way at a
 * time, and profiles are written at LIMIT_DEVICE_PROFILE_RATE at most, all together, since a large one is written
 * whole for a small change.
 *
 * A config map of that name that somebody else made (without the label app.kubernetes.io/managed-by: kelp) is left
 * alone. A profile that is full says in its annotation kelp.io/devices-left-out how many are not in it.
 *
 *   source  KubeEdge v1.9 cloud/pkg/devicecontroller/controller/downstream.go. Differs: a model that changes
 *           reaches the devices that are there already.
 */
#ifndef KELP_NODES_CLOUD_DEVICES_H
#define KELP_NODES_CLOUD_DEVICES_H

#include "nodes/cloud/backend.h"

struct devices;

/* backend: borrowed until devices_close. */
struct devices *devices_open(const struct backend *backend);
/* Only once devices_busy says no: what is under way calls back. */
void devices_close(struct devices *devices);
bool devices_busy(const struct devices *devices);

/* Go on, for a bounded time. Nothing unless this replica leads. Answers whether there is more to do now; if not,
 * call it again when the state has changed, and about once a second. */
bool devices_run(struct devices *devices);

#endif
