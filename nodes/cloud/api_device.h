/* Devices and their models at the API door: two versions of one object, its envelope, its status.
 *
 * Stored is v1beta1. What v1alpha2 says and v1beta1 has no place for (a node selector of more than a name, the
 * common part of a protocol written elsewhere, `data`, default values) is kept beside it under DEVICE_KEPT,
 * which no client sees, and comes back in v1alpha2:
 *
 *      v1alpha2 ---- api_device_store ----> v1beta1 + what is kept ---- api_device_show ----> v1alpha2
 *
 *   a part of v1alpha2 that still says what is stored   is shown as it was written
 *   a part of v1beta1 that v1alpha2 did not change      is left as it was, whatever v1alpha2 cannot say of it
 *
 * so a client of one version takes nothing away from the other. Parts are: the node, the protocol, each
 * property.
 *
 * In v1alpha2 the wished values are in `status`, and are taken from there; in both versions the rest of `status`
 * is what the edge reports, and nobody else writes it.
 *
 * source: KubeEdge staging/src/github.com/kubeedge/api/apis/devices, cloud/pkg/devicecontroller. Differs: KubeEdge
 * serves both versions without converting.
 */
#ifndef KELP_NODES_CLOUD_API_DEVICE_H
#define KELP_NODES_CLOUD_API_DEVICE_H

#include "nodes/cloud/api_discovery.h"
#include "nodes/cloud/api_status.h"
#include "nodes/cloud/backend.h"

/* Member of a stored object. */
#define DEVICE_KEPT "x-kelp-v1alpha2"
/* Annotation: "true" has every value that the device reports arrive in the cloud, not only the newest. */
#define DEVICE_KEEP_VALUES "kelp.io/keep-values"

/* Is it a kind that is converted: a Device or a DeviceModel? */
bool api_device_kind(const struct api_resource *resource);

/* Make a stored object (joined or not) what clients of this version see; in place. */
void api_device_show(const struct api_resource *resource, json_t *object);
/* Make what a client of this version wrote what is stored; in place. All but metadata, which stays.
 *   old  the wish that is stored now; NULL: a new object */
void api_device_store(const struct api_resource *resource, const json_t *old, json_t *object);

/* Check the values of an object in the version it was written in. Causes are added to error. */
void api_device_validate(const struct api_resource *resource, const json_t *object,
                         struct api_error *error);

/* Who hears of what is taken and may be a mistake. */
struct api_device_advice {
    /* text: one sentence, lent during the call */
    void (*warn)(void *context, const char *text);
    void *context;
};

/* Check what is wished of a Device against its model and the cluster: desired values are of their type, which
 * desired.metadata.type says, else the model. Causes are added to error. Of a `desired` that is as it was before
 * nothing is said.
 *
 *   resource  of the version that the client wrote
 *   object    stored JSON of the next version; old: of the one before, NULL: a new device
 *   advice    hears of at most LIMIT_API_WARNINGS other things: no such model or node, a property that the model
 *             does not have or has as ReadOnly, a value outside its bounds. NULL: nobody does
 */
void api_device_fit(const struct backend *backend, const struct api_resource *resource,
                    const json_t *object, const json_t *old, struct api_error *error,
                    const struct api_device_advice *advice);

/* What is wished of a Device, for its envelope.
 *
 *   wish      stored JSON of the next version; borrowed as long as the result is used
 *   old       stored JSON of the version before; NULL: there is none
 *   before    what was wished then; NULL: nothing
 *   model     stored JSON of its DeviceModel, borrowed during the call; NULL: there is none. Types come from
 *             the property's desired.metadata.type, else from the model, else stay, else are "string"
 *   revision  of properties whose `desired` differs from before, in value or metadata; all others keep theirs
 *   answers   lent by the codec
 */
const struct device_wish *api_device_wish(struct codec *codec, const json_t *wish,
                                          const json_t *old, const struct device_wish *before,
                                          const json_t *model, uint64_t revision);

/* The same for what is to be proposed: the model is read from the backend, the present from its row.
 *   row  NULL, or of an object that is not there: a new device. Lent bytes of it are read */
const struct device_wish *api_device_wish_next(const struct backend *backend, struct codec *codec,
                                               const json_t *wish, const struct backend_row *row);

/* The node that a Device of either version is bound to; "": none. */
const char *api_device_node(const json_t *device);

/* Take out of a status what only the edge says. */
void api_device_forget_facts(json_t *status);
/* Add what the edge reports to a stored Device: status. Of a device whose node does not answer the state is
 * "unknown", with the reason and what was said last. */
void api_device_join(const struct backend *backend, struct codec *codec,
                     const struct backend_row *row, json_t *object);

/* -- between the closets of this door ----------------------------------------------------------------- */

/* The fields under a dotted path of a kind ("spec.protocol.modbus"). */
const struct schema_type *api_device_type(enum api_kind kind, const char *path);
/* The first member with this text under `name` in a list of objects; NULL: none. */
json_t *api_device_entry(const json_t *list, const char *name, const char *text);
/* The twin type of a property of a model; NULL: the model does not know it. Lent for ever. */
const char *api_device_model_type(const json_t *model, const char *property);
/* The stored model of a device; a new value, NULL: there is none, or it cannot be read. */
json_t *api_device_model_read(const struct backend *backend, const json_t *device);
/* Copy a member when it is there. */
void api_device_copy(json_t *to, const char *name, const json_t *from);
void api_model_show(json_t *object);
void api_model_store(const json_t *old, json_t *object);

#endif
