/* One object on its way through the door: from what a client sent to the record that is proposed, and
 * from rows back to what a client sees.
 *
 *   in    JSON -> schema_check -> api_object_create | _update (rules, defaults, validation)
 *              -> api_object_put (envelope, record)
 *   out   row  -> api_object_join (wish + fact + verdict + resource version)
 *
 * A resource that is one version of several is stored as another (api_resource_stored): what is called a wish
 * here is in the stored version, all else in that of the resource. Only devices are so (api_device.h).
 *
 * The wish is stored with everything but metadata.resourceVersion and what facts and verdicts say; its
 * `status` holds only what somebody wrote through /status.
 */
#ifndef KELP_NODES_CLOUD_API_OBJECT_H
#define KELP_NODES_CLOUD_API_OBJECT_H

#include "nodes/cloud/api_discovery.h"
#include "nodes/cloud/api_schema.h"
#include "nodes/cloud/api_status.h"
#include "nodes/cloud/backend.h"

/* "group/resource/namespace/name" into key; false: longer than a key may be. */
bool api_object_key(const struct api_resource *resource, const char *namespace_, const char *name,
                    char key[LIMIT_KEY_BYTES]);

/* -- in -------------------------------------------------------------------------------------------- */

/* Make what a client sent into a new object: name, namespace, uid, times, defaults; checked.
 *
 *   namespace_  of the URL; "" for cluster scope
 *   object      changed in place, into the wish
 *   answers     false: error is set
 */
bool api_object_create(const struct backend *backend, const struct api_resource *resource,
                       const char *namespace_, json_t *object, struct api_error *error);

/* Make what a client sent into the next version of an object.
 *
 *   joined   the present object as clients see it, with its resourceVersion
 *   wish     the present wish
 *   object   what it should become, whole; changed in place into the next wish
 *   status   the request is for /status: everything else is taken from the wish
 *   answers  false: error is set (also 409 for another uid or resourceVersion)
 */
bool api_object_update(const struct api_resource *resource, const char *namespace_,
                       const char *name, const json_t *joined, const json_t *wish, json_t *object,
                       bool status, struct api_error *error);

/* Mark a wish as being deleted. */
void api_object_mark(json_t *wish, int64_t now_ms, int64_t grace_s);
/* Make the rules of defaulting hold; part of create and update. */
void api_object_default(const struct api_resource *resource, json_t *object);
/* Check the values of an object; part of create and update. Causes are added to error. */
void api_object_validate(const struct api_resource *resource, const json_t *object,
                         struct api_error *error);
/* Is this a DNS subdomain (label: without dots, at most 63)? */
bool api_name_valid(const char *name, bool label);

/* The record that proposes this wish, or its removal. `out` lent until codec_reset.
 *   user     who asked for it; NULL: nobody, the cluster does it itself
 *   row      the present row, whose lent bytes are read; NULL: a new object
 *   answers  0; STATUS_TOO_LARGE: beyond LIMIT_OBJECT_BYTES or what the envelope holds */
int api_object_put(const struct backend *backend, struct codec *codec, const char *user,
                   const struct api_resource *resource, const json_t *wish,
                   const struct backend_row *row, enum put_mode mode, uint64_t if_version,
                   const char *if_uid, struct bytes *out);
int api_object_remove(const struct backend *backend, struct codec *codec, const char *user,
                      const char *key, uint64_t if_version, const char *if_uid, struct bytes *out);

/* -- out ------------------------------------------------------------------------------------------- */

/* The wish of a row as JSON; a new value. NULL: the row is malformed (another release wrote it). */
json_t *api_object_wish(struct codec *codec, const struct backend_row *row);
/* The object as clients see it; a new value, NULL as above.
 *   wish  borrowed: the wish, when it is known already; NULL: it is read from the row */
json_t *api_object_join(const struct backend *backend, struct codec *codec,
                        const struct api_resource *resource, const struct backend_row *row,
                        const json_t *wish);
/* Splice the resource version. */
void api_object_set_version(json_t *object, uint64_t version);

/* An edge's event as a v1 Event; NULL: malformed. */
json_t *api_event_join(struct codec *codec, const struct backend_event *event);
/* The Lease of a node, derived from its Node row. */
json_t *api_lease_join(const struct backend *backend, const json_t *node);

#endif
