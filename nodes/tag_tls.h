/* Keyed content tags: what digests are sums of, and whose a log directory is. */
#ifndef KELP_NODES_TAG_TLS_H
#define KELP_NODES_TAG_TLS_H

#include "schemas/bytes.h"
#include "schemas/codec.h"

/* The tag of one row: the first 128 bits of HMAC-SHA256 over the row's key (with its length before it) and
 * its content, keyed by the cluster's id, so that two rows of one digest cannot be made to cancel by
 * whoever writes objects.
 *
 *   cluster   text; may be ""
 *   key       of the row
 *   content   what the row says
 */
struct tag tag_make(const char *cluster, struct bytes key, struct bytes content);

/* 16 bytes that name the owner of a data directory: "cloudcore", "1" or "edge", "edge-7". */
void tag_owner(const char *role, const char *name, uint8_t out[16]);

/* Unpredictable bytes, for uids and stream ids. Never fails: without a source of chance the process
 * ends. */
void tag_random(void *buffer, size_t size);

#endif
