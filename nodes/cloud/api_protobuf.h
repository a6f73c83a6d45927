/* Bodies in the protobuf encoding of Kubernetes, which kubectl from 1.32 on sends for imperative commands
 * without being asked. Decoded to the JSON that the same object has. */
#ifndef KELP_NODES_CLOUD_API_PROTOBUF_H
#define KELP_NODES_CLOUD_API_PROTOBUF_H

#include "nodes/cloud/api_json.h"

/* Decode an envelope ("k8s\0", Unknown) and the object inside.
 *
 *   why      receives a sentence when NULL is answered
 *   answers  a new object with apiVersion and kind; NULL: malformed, or a kind that is not decoded
 */
json_t *api_protobuf_read(struct bytes bytes, char *why, size_t why_bytes);

#endif
