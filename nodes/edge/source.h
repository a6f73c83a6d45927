/* A config map or a secret, read from its JSON into keys and contents. */
#ifndef KELP_NODES_EDGE_SOURCE_H
#define KELP_NODES_EDGE_SOURCE_H

#include "nodes/edge/arena.h"
#include "schemas/bytes.h"

struct source_key {
    const char *key;
    struct bytes content;
};

struct source {
    const struct source_key *keys; /* in byte order of their names */
    size_t count;
};

/* Read `data` and `binaryData` of a config map, `data` (base64) and `stringData` of a secret.
 *
 *   json     borrowed during the call
 *   out      lent as long as `arena`
 *   answers  0; STATUS_MALFORMED with `error`
 */
int source_parse(struct bytes json, bool secret, struct arena *arena, struct source *out,
                 char *error, size_t error_bytes);

/* The key of that name, or NULL. */
const struct source_key *source_find(const struct source *source, const char *key);

#endif
