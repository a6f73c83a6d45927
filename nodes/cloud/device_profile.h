/* deviceProfile.json: what mappers of KubeEdge before 1.17 mount to know their devices.
 *
 *   {"deviceInstances":[...],"deviceModels":[...],"protocols":[...]}
 *
 * One device after the other is added, in the order of names; it is text at once, so that its size is known. The
 * whole is at most LIMIT_DEVICE_PROFILE_BYTES, and fits an object when it is escaped as a text: the first that does not fit ends it; the caller counts those behind.
 *
 * source: KubeEdge v1.9 cloud/pkg/devicecontroller/types/deviceprofile.go, for names and order of members.
 * Differs: twins are told without what was reported, which would write the config map anew with each report.
 */
#ifndef KELP_NODES_CLOUD_DEVICE_PROFILE_H
#define KELP_NODES_CLOUD_DEVICE_PROFILE_H

#include "nodes/cloud/api_json.h"

/* Zero it to start, release it in the end. */
struct device_profile {
    struct text instances;
    struct text models;
    struct text protocols;
    size_t escaped; /* bytes that are escaped in the text of an object */
    json_t *known; /* names of the models that are in it, as members */
    uint32_t device_count;
    uint32_t left_out; /* 0: it is not full */
};

/* Add a device, or leave it out. CHECK: none was left out yet.
 *   device  in v1alpha2, without what was reported
 *   model   in v1alpha2; NULL: it is not there */
void device_profile_add(struct device_profile *profile, const json_t *device, const json_t *model);
/* Append the whole. */
void device_profile_write(const struct device_profile *profile, struct text *out);
void device_profile_release(struct device_profile *profile);

#endif
