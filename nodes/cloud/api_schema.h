/* The shape of the kinds we serve: which fields there are, what they hold, and how a strategic merge
 * patch treats their lists. One table answers three questions: is this field known, is its value of the
 * right type, is this list merged or replaced.
 *
 * source: k8s.io/api/core/v1 types.go of Kubernetes 1.32, its json, patchStrategy and patchMergeKey tags.
 * Fields of rarely used volume plugins, affinity and the like are known by name and not looked into.
 */
#ifndef KELP_NODES_CLOUD_API_SCHEMA_H
#define KELP_NODES_CLOUD_API_SCHEMA_H

#include "nodes/cloud/api_discovery.h"
#include "nodes/cloud/api_status.h"

enum schema_shape {
    SHAPE_ANY,
    SHAPE_TEXT,
    SHAPE_NUMBER, /* an integer */
    SHAPE_REAL,   /* any number */
    SHAPE_BOOL,
    SHAPE_TIME,     /* RFC 3339 text */
    SHAPE_QUANTITY, /* "512Mi", 0.5 */
    SHAPE_PORT,     /* integer or text */
    SHAPE_BASE64,
    SHAPE_OBJECT, /* `type` */
};

enum schema_many { MANY_NONE, MANY_LIST, MANY_MAP };

struct schema_type;
struct schema_field {
    const char *name; /* NULL ends a table */
    enum schema_shape shape;
    enum schema_many many; /* a list or a map of that shape */
    const struct schema_type *type;
    const char *merge_key; /* of a list merged by key; "" for a set of scalars; NULL: replaced */
    bool retain_keys;      /* $retainKeys is used in its elements, or in it when it is an object */
};
struct schema_type {
    const struct schema_field *fields;
};

/* The shape of objects of this kind. */
const struct schema_type *api_schema(enum api_kind kind);
/* A field by name; NULL: unknown. `type` may be NULL: everything below is unknown, answers NULL. */
const struct schema_field *schema_find(const struct schema_type *type, const char *name);

/* Check the types of all values, and list the fields that are not known.
 *
 *   unknown  receives `unknown field "spec.x"` entries separated by ", "; may be NULL
 *   error    a 400 naming the first value of the wrong type
 *   answers  false: error is set
 */
bool schema_check(const struct api_resource *resource, const json_t *object, struct text *unknown,
                  struct api_error *error);

/* Is this an object with known fields alone, each of the right type? */
bool schema_holds(const struct schema_type *type, const json_t *object);

/* A quantity in thousandths ("250m" -> 250, "1Ki" -> 1024000), rounded up; false: it is none, or beyond
 * 64 bits. */
bool quantity_parse(const json_t *value, int64_t *out_milli);

#endif
