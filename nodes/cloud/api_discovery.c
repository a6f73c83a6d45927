#include "nodes/cloud/api_discovery.h"

#include "schemas/check.h"

#define DEVICES "devices.kubeedge.io"

static const struct api_resource resources[] = {
    {API_NAMESPACE, "", "v1", "Namespace", "namespaces", "namespace", {"ns"}, NULL, false, true,
     VERB_ALL & ~(uint32_t)VERB_DELETECOLLECTION, false, 0},
    {API_POD, "", "v1", "Pod", "pods", "pod", {"po"}, "all", true, true, VERB_ALL, false, 0},
    {API_CONFIGMAP, "", "v1", "ConfigMap", "configmaps", "configmap", {"cm"}, NULL, true, false,
     VERB_ALL, false, 0},
    {API_SECRET, "", "v1", "Secret", "secrets", "secret", {NULL}, NULL, true, false, VERB_ALL, false, 0},
    {API_NODE, "", "v1", "Node", "nodes", "node", {"no"}, NULL, false, true, VERB_ALL, false, 0},
    {API_EVENT, "", "v1", "Event", "events", "event", {"ev"}, NULL, true, false, VERB_ALL, false, 0},
    {API_SERVICEACCOUNT, "", "v1", "ServiceAccount", "serviceaccounts", "serviceaccount", {"sa"},
     NULL, true, false, VERB_ALL, false, 0},
    /* derived from the sessions: nothing to write */
    {API_LEASE, "coordination.k8s.io", "v1", "Lease", "leases", "lease", {NULL}, NULL, true, false,
     VERB_GET | VERB_LIST, false, 0},
    /* of the versions of a group the first is the preferred one */
    {API_DEVICE, DEVICES, "v1beta1", "Device", "devices", "device", {"dev"}, NULL, true, true,
     VERB_ALL, true, 3},
    {API_DEVICE_MODEL, DEVICES, "v1beta1", "DeviceModel", "devicemodels", "devicemodel", {"dm"},
     NULL, true, false, VERB_ALL, true, 3},
    {API_DEVICE_ALPHA, DEVICES, "v1alpha2", "Device", "devices", "device", {"dev"}, NULL, true,
     false, VERB_ALL, true, 3},
    {API_DEVICE_MODEL_ALPHA, DEVICES, "v1alpha2", "DeviceModel", "devicemodels", "devicemodel",
     {"dm"}, NULL, true, false, VERB_ALL, true, 3},
    /* derived from the devices: nothing to write */
    {API_DEVICE_STATUS, DEVICES, "v1beta1", "DeviceStatus", "devicestatuses", "devicestatus",
     {NULL}, NULL, true, false, VERB_GET | VERB_LIST | VERB_WATCH, true, 0},
    /* kept for whoever installs and looks for them; what is served is this table */
    {API_DEFINITION, "apiextensions.k8s.io", "v1", "CustomResourceDefinition",
     "customresourcedefinitions", "customresourcedefinition", {"crd", "crds"}, NULL, false, true,
     VERB_ALL, false, 0},
};
#define RESOURCE_COUNT (sizeof resources / sizeof resources[0])

/* In the order that discovery shows them. */
static const struct {
    uint32_t verb;
    const char *text;
} verbs[] = {
    {VERB_CREATE, "create"},
    {VERB_DELETE, "delete"},
    {VERB_DELETECOLLECTION, "deletecollection"},
    {VERB_GET, "get"},
    {VERB_LIST, "list"},
    {VERB_PATCH, "patch"},
    {VERB_UPDATE, "update"},
    {VERB_WATCH, "watch"},
};

const struct api_resource *api_resource_find(const char *group, const char *version,
                                             const char *resource)
{
    for (size_t i = 0; i < RESOURCE_COUNT; i++) {
        if (strcmp(resources[i].group, group) == 0 && strcmp(resources[i].version, version) == 0 &&
            strcmp(resources[i].resource, resource) == 0) {
            return &resources[i];
        }
    }
    return NULL;
}

const struct api_resource *api_resource_find_kind(const char *group, const char *version,
                                                  const char *kind)
{
    for (size_t i = 0; i < RESOURCE_COUNT; i++) {
        if (strcmp(resources[i].group, group) == 0 && strcmp(resources[i].version, version) == 0 &&
            strcmp(resources[i].kind, kind) == 0) {
            return &resources[i];
        }
    }
    return NULL;
}

const struct api_resource *api_resource_at(size_t i)
{
    return i < RESOURCE_COUNT ? &resources[i] : NULL;
}

const struct api_resource *api_resource_get(enum api_kind id)
{
    for (size_t i = 0; i < RESOURCE_COUNT; i++) {
        if (resources[i].id == id) {
            return &resources[i];
        }
    }
    CHECK(false);
    return NULL;
}

const struct api_resource *api_resource_stored(const struct api_resource *resource)
{
    if (resource->id == API_DEVICE_ALPHA || resource->id == API_DEVICE_STATUS) {
        return api_resource_get(API_DEVICE);
    }
    return resource->id == API_DEVICE_MODEL_ALPHA ? api_resource_get(API_DEVICE_MODEL) : resource;
}

bool api_group_served(const char *group, const char *version)
{
    for (size_t i = 0; i < RESOURCE_COUNT; i++) {
        if (strcmp(resources[i].group, group) == 0 &&
            (version == NULL || strcmp(resources[i].version, version) == 0)) {
            return true;
        }
    }
    return false;
}

void api_group_version(const struct api_resource *resource, struct text *out)
{
    text_print(out, "%s%s%s", resource->group, resource->group[0] == '\0' ? "" : "/",
               resource->version);
}

/* -- documents ------------------------------------------------------------------------------------ */

static json_t *document(const char *kind, const char *api_version)
{
    json_t *value = json_object();
    json_put_text(value, "kind", kind);
    if (api_version != NULL) {
        json_put_text(value, "apiVersion", api_version);
    }
    return value;
}

static void append(json_t *array, json_t *taken)
{
    CHECK(json_array_append_new(array, taken) == 0);
}

static void put(json_t *object, const char *name, json_t *taken)
{
    CHECK(json_object_set_new(object, name, taken) == 0);
}

static json_t *verb_list(uint32_t set)
{
    json_t *list = json_array();
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        if ((set & verbs[i].verb) != 0) {
            append(list, json_string(verbs[i].text));
        }
    }
    return list;
}

static json_t *short_name_list(const struct api_resource *resource)
{
    json_t *list = json_array();
    for (size_t i = 0; i < 2 && resource->short_names[i] != NULL; i++) {
        append(list, json_string(resource->short_names[i]));
    }
    return list;
}

#define STATUS_VERBS (VERB_GET | VERB_PATCH | VERB_UPDATE)

json_t *api_discovery_versions(void)
{
    json_t *value = document("APIVersions", NULL);
    put(value, "versions", json_pack("[s]", "v1"));
    put(value, "serverAddressByClientCIDRs", json_array());
    return value;
}

/* Is this the first resource of its group (and version) in the table? */
static bool first_of_group(size_t at, bool version)
{
    for (size_t i = 0; i < at; i++) {
        if (strcmp(resources[i].group, resources[at].group) == 0 &&
            (!version || strcmp(resources[i].version, resources[at].version) == 0)) {
            return false;
        }
    }
    return true;
}

static json_t *version_entry(const struct api_resource *resource)
{
    struct text version = {0};
    api_group_version(resource, &version);
    json_t *pair =
        json_pack("{s:s, s:s}", "groupVersion", version.data, "version", resource->version);
    text_release(&version);
    return pair;
}

/* A group with its versions, beginning with the first resource of it. */
static json_t *group_entry(size_t first)
{
    json_t *entry = json_object();
    json_put_text(entry, "name", resources[first].group);
    json_t *versions = json_array();
    for (size_t i = first; i < RESOURCE_COUNT; i++) {
        if (strcmp(resources[i].group, resources[first].group) == 0 && first_of_group(i, true)) {
            append(versions, version_entry(&resources[i]));
        }
    }
    put(entry, "versions", versions);
    put(entry, "preferredVersion", version_entry(&resources[first]));
    return entry;
}

json_t *api_discovery_groups(void)
{
    json_t *value = document("APIGroupList", "v1");
    json_t *groups = json_array();
    for (size_t i = 0; i < RESOURCE_COUNT; i++) {
        if (resources[i].group[0] != '\0' && first_of_group(i, false)) {
            append(groups, group_entry(i));
        }
    }
    put(value, "groups", groups);
    return value;
}

json_t *api_discovery_group(const char *group)
{
    for (size_t i = 0; i < RESOURCE_COUNT; i++) {
        if (strcmp(resources[i].group, group) == 0) {
            json_t *entry = group_entry(i);
            json_put_text(entry, "kind", "APIGroup");
            json_put_text(entry, "apiVersion", "v1");
            return entry;
        }
    }
    CHECK(false); /* the caller asked api_group_served */
    return NULL;
}

json_t *api_discovery_resources(const char *group, const char *version)
{
    json_t *value = document("APIResourceList", "v1");
    json_t *list = json_array();
    for (size_t i = 0; i < RESOURCE_COUNT; i++) {
        const struct api_resource *r = &resources[i];
        if (strcmp(r->group, group) != 0 || strcmp(r->version, version) != 0) {
            continue;
        }
        if (json_array_size(list) == 0) {
            struct text name = {0};
            api_group_version(r, &name);
            json_put_text(value, "groupVersion", name.data);
            text_release(&name);
        }
        json_t *entry = json_object();
        json_put_text(entry, "name", r->resource);
        json_put_text(entry, "singularName", r->singular);
        put(entry, "namespaced", json_boolean(r->namespaced));
        json_put_text(entry, "kind", r->kind);
        put(entry, "verbs", verb_list(r->verbs));
        if (r->short_names[0] != NULL) {
            put(entry, "shortNames", short_name_list(r));
        }
        if (r->category != NULL) {
            put(entry, "categories", json_pack("[s]", r->category));
        }
        append(list, entry);
        if (r->has_status) {
            struct text name = {0};
            text_print(&name, "%s/status", r->resource);
            append(list, json_pack("{s:s, s:s, s:b, s:s, s:o}", "name", name.data, "singularName",
                                   "", "namespaced", r->namespaced, "kind", r->kind, "verbs",
                                   verb_list(STATUS_VERBS)));
            text_release(&name);
        }
    }
    put(value, "resources", list);
    return value;
}

static json_t *response_kind(const struct api_resource *r)
{
    return json_pack("{s:s, s:s, s:s}", "group", r->group, "version", r->version, "kind", r->kind);
}

static json_t *aggregated_resource(const struct api_resource *r)
{
    json_t *entry = json_object();
    json_put_text(entry, "resource", r->resource);
    put(entry, "responseKind", response_kind(r));
    json_put_text(entry, "scope", r->namespaced ? "Namespaced" : "Cluster");
    json_put_text(entry, "singularResource", r->singular);
    put(entry, "verbs", verb_list(r->verbs));
    if (r->short_names[0] != NULL) {
        put(entry, "shortNames", short_name_list(r));
    }
    if (r->category != NULL) {
        put(entry, "categories", json_pack("[s]", r->category));
    }
    if (r->has_status) {
        put(entry, "subresources",
            json_pack("[{s:s, s:o, s:o}]", "subresource", "status", "responseKind",
                      response_kind(r), "verbs", verb_list(STATUS_VERBS)));
    }
    return entry;
}

static json_t *aggregated_version(size_t first)
{
    json_t *list = json_array();
    for (size_t i = first; i < RESOURCE_COUNT; i++) {
        if (strcmp(resources[i].group, resources[first].group) == 0 &&
            strcmp(resources[i].version, resources[first].version) == 0) {
            append(list, aggregated_resource(&resources[i]));
        }
    }
    return json_pack("{s:s, s:s, s:o}", "version", resources[first].version, "freshness", "Current",
                     "resources", list);
}

json_t *api_discovery_aggregated(bool core, bool beta)
{
    json_t *value = document("APIGroupDiscoveryList",
                             beta ? "apidiscovery.k8s.io/v2beta1" : "apidiscovery.k8s.io/v2");
    put(value, "metadata", json_object());
    json_t *items = json_array();
    for (size_t i = 0; i < RESOURCE_COUNT; i++) {
        const struct api_resource *first = &resources[i];
        if ((first->group[0] == '\0') != core || !first_of_group(i, false)) {
            continue;
        }
        json_t *versions = json_array();
        for (size_t j = i; j < RESOURCE_COUNT; j++) {
            if (strcmp(resources[j].group, first->group) == 0 && first_of_group(j, true)) {
                append(versions, aggregated_version(j));
            }
        }
        json_t *metadata = json_object();
        if (!core) {
            json_put_text(metadata, "name", first->group);
        }
        append(items, json_pack("{s:o, s:o}", "metadata", metadata, "versions", versions));
    }
    put(value, "items", items);
    return value;
}
