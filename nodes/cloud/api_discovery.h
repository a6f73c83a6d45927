/* What is served: one table of resources, and the discovery documents made from it. */
#ifndef KELP_NODES_CLOUD_API_DISCOVERY_H
#define KELP_NODES_CLOUD_API_DISCOVERY_H

#include "nodes/cloud/api_json.h"

/* Kinds whose objects the door knows more about than their metadata. */
enum api_kind {
    API_NAMESPACE,
    API_POD,
    API_CONFIGMAP,
    API_SECRET,
    API_NODE,
    API_EVENT,
    API_SERVICEACCOUNT,
    API_LEASE,
    API_DEVICE,
    API_DEVICE_MODEL,
    API_DEVICE_ALPHA, /* v1alpha2: other shapes of the two above, see api_device.h */
    API_DEVICE_MODEL_ALPHA,
    API_DEVICE_STATUS, /* what an edge says of a Device, as an object of its own: read only */
    API_DEFINITION,    /* CustomResourceDefinition */
};

enum api_verbs {
    VERB_GET = 1,
    VERB_LIST = 2,
    VERB_WATCH = 4,
    VERB_CREATE = 8,
    VERB_UPDATE = 16,
    VERB_PATCH = 32,
    VERB_DELETE = 64,
    VERB_DELETECOLLECTION = 128,
    VERB_ALL = 255,
};

struct api_resource {
    enum api_kind id;
    const char *group; /* "" for the core */
    const char *version;
    const char *kind;
    const char *resource;
    const char *singular;
    const char *short_names[2];
    const char *category;
    bool namespaced;
    bool has_status; /* serves /status */
    uint32_t verbs;  /* enum api_verbs */
    bool custom;     /* defined by a CustomResourceDefinition elsewhere: no strategic merge patch */
    uint32_t level;  /* of features (statemachine/machine.h) that a write needs; 0: the first */
};

/* Find by group, version and plural; NULL: not served. */
const struct api_resource *api_resource_find(const char *group, const char *version,
                                             const char *resource);
/* Find by kind of an object; NULL: not served. */
const struct api_resource *api_resource_find_kind(const char *group, const char *version,
                                                  const char *kind);
/* The i-th resource; NULL behind the last. */
const struct api_resource *api_resource_at(size_t i);
const struct api_resource *api_resource_get(enum api_kind id);
/* As what its objects are stored: another version or view of the same kind, mostly itself. */
const struct api_resource *api_resource_stored(const struct api_resource *resource);
/* Is there a resource of this group (and version, unless NULL)? */
bool api_group_served(const char *group, const char *version);

/* "v1" or "group/version", appended. */
void api_group_version(const struct api_resource *resource, struct text *out);

/* The documents; each answers a new value. */
json_t *api_discovery_versions(void);                                  /* /api */
json_t *api_discovery_groups(void);                                    /* /apis */
json_t *api_discovery_group(const char *group);                        /* /apis/G */
json_t *api_discovery_resources(const char *group, const char *version); /* /api/v1, /apis/G/V */
/* core: for /api, else for /apis. beta: apidiscovery.k8s.io/v2beta1 is wanted. */
json_t *api_discovery_aggregated(bool core, bool beta);

/* OpenAPI. Appended to out. */
void api_openapi_v2(struct text *out);
json_t *api_openapi_v3_index(void);
json_t *api_openapi_v3(const char *group, const char *version);
/* components.schemas of the custom kinds of a group and version, from which `kubectl explain` speaks; a new
 * value, NULL when there are none. */
json_t *api_explain(const char *group, const char *version);

#endif
