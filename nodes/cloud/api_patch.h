/* The three kinds of patch. Each changes `document` in place (it must be an object) and answers false with
 * an error (400 malformed, 422 cannot be applied); the document is then to be thrown away.
 *
 * Bounds: a patch came through json_read, so it is LIMIT_JSON_DEPTH deep at most; a JSON patch can make no
 * document deeper than that or larger than LIMIT_HTTP_BODY_BYTES.
 */
#ifndef KELP_NODES_CLOUD_API_PATCH_H
#define KELP_NODES_CLOUD_API_PATCH_H

#include "nodes/cloud/api_schema.h"

/* RFC 7386: null removes, objects merge, everything else replaces. */
bool api_patch_merge(json_t *document, const json_t *patch, struct api_error *error);

/* RFC 6902. As in Kubernetes, replace of a missing object member adds it. */
bool api_patch_json(json_t *document, const json_t *patch, struct api_error *error);

/* Strategic merge patch, as the schema says which lists merge by which key.
 *
 *   type    of the document; NULL: objects merge, lists are replaced
 *   source  k8s.io/apimachinery/pkg/util/strategicpatch/patch.go, StrategicMergePatch; the order of
 *           elements included. Differs: fields that the schema does not know are merged as above
 */
bool api_patch_strategic(json_t *document, const json_t *patch, const struct schema_type *type,
                         struct api_error *error);

#endif
