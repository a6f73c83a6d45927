/* Label and field selectors. */
#ifndef KELP_NODES_CLOUD_API_SELECT_H
#define KELP_NODES_CLOUD_API_SELECT_H

#include "nodes/cloud/api_discovery.h"
#include "nodes/cloud/api_status.h"

enum select_operator {
    SELECT_IN,     /* =, ==, in: one of the values; a missing label does not match */
    SELECT_NOT_IN, /* !=, notin: none of them; a missing label matches */
    SELECT_EXISTS,
    SELECT_MISSING,
};

struct select_term {
    enum select_operator operation;
    char *key;
    char **values;
    uint32_t value_count;
};

/* All terms must match; none matches everything. Zero it to start, release it in the end. */
struct api_select {
    struct select_term *terms;
    uint32_t count;
};

/* "app=web,tier in (a,b),!x". false: error is a 400. */
bool api_select_labels(const char *text, struct api_select *out, struct api_error *error);
/* "spec.nodeName=edge-1,status.phase!=Failed" with the fields this kind can be selected by. */
bool api_select_fields(const char *text, const struct api_resource *resource,
                       struct api_select *out, struct api_error *error);
void api_select_release(struct api_select *select);

bool api_select_match_labels(const struct api_select *select, const json_t *object);
bool api_select_match_fields(const struct api_select *select, const json_t *object);
/* The one name a field selector asks for (metadata.name=X), or NULL. */
const char *api_select_name(const struct api_select *fields);

#endif
