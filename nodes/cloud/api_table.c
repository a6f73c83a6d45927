/* Tables: what `kubectl get` prints. The columns are those that Kubernetes shows. */
#include "nodes/cloud/api_call.h"

#include "nodes/cloud/api_device.h"
#include "schemas/check.h"

#include <inttypes.h>
#include <stdio.h>

struct column {
    const char *name;
    const char *type;
    bool wide;
};

#define COLUMNS_MAX 10
static const struct column columns[][COLUMNS_MAX + 1] = {
    [API_NAMESPACE] = {{"Name", "string", false},
                       {"Status", "string", false},
                       {"Age", "string", false}},
    [API_POD] = {{"Name", "string", false},
                 {"Ready", "string", false},
                 {"Status", "string", false},
                 {"Restarts", "string", false},
                 {"Age", "string", false},
                 {"IP", "string", true},
                 {"Node", "string", true},
                 {"Nominated Node", "string", true},
                 {"Readiness Gates", "string", true}},
    [API_CONFIGMAP] = {{"Name", "string", false},
                       {"Data", "integer", false},
                       {"Age", "string", false}},
    [API_SECRET] = {{"Name", "string", false},
                    {"Type", "string", false},
                    {"Data", "integer", false},
                    {"Age", "string", false}},
    [API_NODE] = {{"Name", "string", false},
                  {"Status", "string", false},
                  {"Roles", "string", false},
                  {"Age", "string", false},
                  {"Version", "string", false},
                  {"Internal-IP", "string", true},
                  {"External-IP", "string", true},
                  {"OS-Image", "string", true},
                  {"Kernel-Version", "string", true},
                  {"Container-Runtime", "string", true}},
    [API_EVENT] = {{"Last Seen", "string", false},
                   {"Type", "string", false},
                   {"Reason", "string", false},
                   {"Object", "string", false},
                   {"Message", "string", false},
                   {"Name", "string", true}},
    [API_SERVICEACCOUNT] = {{"Name", "string", false},
                            {"Secrets", "integer", false},
                            {"Age", "string", false}},
    [API_DEVICE] = {{"Name", "string", false},
                    {"Model", "string", false},
                    {"Node", "string", false},
                    {"State", "string", false},
                    {"Age", "string", false},
                    {"Last Online", "string", true}},
    [API_DEVICE_MODEL] = {{"Name", "string", false},
                          {"Protocol", "string", false},
                          {"Age", "string", false}},
    [API_DEVICE_ALPHA] = {{NULL, NULL, false}}, /* as what it is stored */
    [API_DEVICE_MODEL_ALPHA] = {{NULL, NULL, false}},
    [API_DEVICE_STATUS] = {{"Name", "string", false},
                           {"State", "string", false},
                           {"Last Online", "string", false},
                           {"Age", "string", false}},
    [API_DEFINITION] = {{"Name", "string", false}, {"Created At", "string", false}},
    [API_LEASE] = {{"Name", "string", false},
                   {"Holder", "string", false},
                   {"Age", "string", false}},
};

json_t *api_table_create(const struct api_resource *resource, bool with_columns)
{
    json_t *table = json_object();
    json_put_text(table, "kind", "Table");
    json_put_text(table, "apiVersion", "meta.k8s.io/v1");
    (void)json_child(table, "metadata");
    json_t *definitions = json_array();
    const struct column *first = columns[resource->id];
    first = first->name == NULL ? columns[api_resource_stored(resource)->id] : first;
    for (const struct column *c = first; with_columns && c->name != NULL; c++) {
        json_t *definition = json_object();
        json_put_text(definition, "name", c->name);
        json_put_text(definition, "type", c->type);
        json_put_text(definition, "format", strcmp(c->name, "Name") == 0 ? "name" : "");
        json_put_text(definition, "description", "");
        json_put_number(definition, "priority", c->wide ? 1 : 0);
        CHECK(json_array_append_new(definitions, definition) == 0);
    }
    CHECK(json_object_set_new(table, "columnDefinitions", definitions) == 0);
    CHECK(json_object_set_new(table, "rows", json_array()) == 0);
    return table;
}

/* -- cells ---------------------------------------------------------------------------------------------- */

static void cell(json_t *cells, const char *text)
{
    json_t *value = json_string(text);
    CHECK(json_array_append_new(cells, value != NULL ? value : json_string("")) == 0);
}

static void cell_or(json_t *cells, const char *text, const char *otherwise)
{
    cell(cells, text[0] != '\0' ? text : otherwise);
}

static void cell_number(json_t *cells, size_t number)
{
    CHECK(json_array_append_new(cells, json_integer((json_int_t)number)) == 0);
}

static void cell_age(json_t *cells, const char *time, int64_t now_ms)
{
    char text[TIME_TEXT_BYTES];
    cell(cells, time_age(time_parse(time), now_ms, text));
}

static const json_t *condition_of(const json_t *object, const char *type)
{
    const json_t *conditions = json_at(object, "status.conditions");
    for (size_t i = 0; i < json_array_size(conditions); i++) {
        const json_t *condition = json_array_get(conditions, i);
        if (strcmp(json_text_at(condition, "type"), type) == 0) {
            return condition;
        }
    }
    return NULL;
}

/* source: kubernetes pkg/printers/internalversion/printers.go, printPod. */
struct pod_cells {
    char status[160];
    uint32_t ready;
    uint32_t total;
    int64_t restarts;
    int64_t restarted_ms;
};

static void count_restart(struct pod_cells *out, const json_t *status)
{
    out->restarts += json_number_at(status, "restartCount", 0);
    const int64_t at = time_parse(json_text_at(status, "lastState.terminated.finishedAt"));
    out->restarted_ms = at > out->restarted_ms ? at : out->restarted_ms;
}

/* What the init containers make of the status. true: the pod is still initialising. */
static bool pod_init(const json_t *pod, struct pod_cells *out)
{
    const json_t *list = json_at(pod, "status.initContainerStatuses");
    const size_t total = json_array_size(json_at(pod, "spec.initContainers"));
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *c = json_array_get(list, i);
        count_restart(out, c);
        const json_t *ended = json_at(c, "state.terminated");
        const char *waiting = json_text_at(c, "state.waiting.reason");
        if (ended != NULL && json_number_at(ended, "exitCode", 1) == 0) {
            continue;
        }
        if (ended != NULL) {
            const char *reason = json_text_at(ended, "reason");
            if (reason[0] != '\0') {
                (void)snprintf(out->status, sizeof out->status, "Init:%.100s", reason);
            } else {
                (void)snprintf(out->status, sizeof out->status, "Init:ExitCode:%" PRId64,
                               json_number_at(ended, "exitCode", 0));
            }
        } else if (waiting[0] != '\0' && strcmp(waiting, "PodInitializing") != 0) {
            (void)snprintf(out->status, sizeof out->status, "Init:%.100s", waiting);
        } else {
            (void)snprintf(out->status, sizeof out->status, "Init:%zu/%zu", i, total);
        }
        return true;
    }
    return false;
}

static void pod_summary(const json_t *pod, struct pod_cells *out)
{
    *out = (struct pod_cells){0};
    const char *reason = json_text_at(pod, "status.reason");
    (void)snprintf(out->status, sizeof out->status, "%.120s",
                   reason[0] != '\0' ? reason : json_text_at(pod, "status.phase"));
    out->total = (uint32_t)json_array_size(json_at(pod, "spec.containers"));
    const bool initialising = pod_init(pod, out);
    const json_t *list = json_at(pod, "status.containerStatuses");
    bool running = false;
    for (size_t i = json_array_size(list); !initialising && i > 0; i--) {
        const json_t *c = json_array_get(list, i - 1);
        count_restart(out, c);
        const char *waiting = json_text_at(c, "state.waiting.reason");
        const json_t *ended = json_at(c, "state.terminated");
        const char *why = json_text_at(ended, "reason");
        if (waiting[0] != '\0') {
            (void)snprintf(out->status, sizeof out->status, "%.120s", waiting);
        } else if (ended != NULL && why[0] != '\0') {
            (void)snprintf(out->status, sizeof out->status, "%.120s", why);
        } else if (ended != NULL) {
            (void)snprintf(out->status, sizeof out->status, "ExitCode:%" PRId64,
                           json_number_at(ended, "exitCode", 0));
        } else if (json_true_at(c, "ready") && json_at(c, "state.running") != NULL) {
            running = true;
            out->ready++;
        }
    }
    if (running && strcmp(out->status, "Completed") == 0) {
        const json_t *ready = condition_of(pod, "Ready");
        (void)snprintf(out->status, sizeof out->status, "%s",
                       strcmp(json_text_at(ready, "status"), "True") == 0 ? "Running" : "NotReady");
    }
    if (json_at(pod, "metadata.deletionTimestamp") != NULL) {
        (void)snprintf(out->status, sizeof out->status, "Terminating");
    }
}

static void pod_cells(json_t *cells, const json_t *pod, int64_t now_ms)
{
    struct pod_cells summary;
    pod_summary(pod, &summary);
    char text[64];
    cell(cells, json_text_at(pod, "metadata.name"));
    (void)snprintf(text, sizeof text, "%u/%u", summary.ready, summary.total);
    cell(cells, text);
    cell(cells, summary.status);
    if (summary.restarts > 0 && summary.restarted_ms > 0) {
        char age[TIME_TEXT_BYTES];
        (void)snprintf(text, sizeof text, "%" PRId64 " (%s ago)", summary.restarts,
                       time_age(summary.restarted_ms, now_ms, age));
    } else {
        (void)snprintf(text, sizeof text, "%" PRId64, summary.restarts);
    }
    cell(cells, text);
    cell_age(cells, json_text_at(pod, "metadata.creationTimestamp"), now_ms);
    cell_or(cells, json_text_at(pod, "status.podIP"), "<none>");
    cell_or(cells, json_text_at(pod, "spec.nodeName"), "<none>");
    cell_or(cells, json_text_at(pod, "status.nominatedNodeName"), "<none>");
    cell(cells, "<none>");
}

static const char *node_address_of(const json_t *node, const char *type)
{
    const json_t *addresses = json_at(node, "status.addresses");
    for (size_t i = 0; i < json_array_size(addresses); i++) {
        const json_t *address = json_array_get(addresses, i);
        if (strcmp(json_text_at(address, "type"), type) == 0) {
            return json_text_at(address, "address");
        }
    }
    return "";
}

static void node_cells(json_t *cells, const json_t *node, int64_t now_ms)
{
    cell(cells, json_text_at(node, "metadata.name"));
    const json_t *ready = condition_of(node, "Ready");
    char status[64];
    (void)snprintf(status, sizeof status, "%s%s",
                   ready == NULL                                           ? "Unknown"
                   : strcmp(json_text_at(ready, "status"), "True") == 0 ? "Ready"
                                                                           : "NotReady",
                   json_true_at(node, "spec.unschedulable") ? ",SchedulingDisabled" : "");
    cell(cells, status);

    static const char prefix[] = "node-role.kubernetes.io/";
    struct text roles = {0};
    json_t *labels = json_at(node, "metadata.labels");
    const char *key;
    json_t *value;
    json_object_foreach(labels, key, value) {
        if (strncmp(key, prefix, sizeof prefix - 1) == 0 && key[sizeof prefix - 1] != '\0') {
            text_print(&roles, "%s%s", roles.size > 0 ? "," : "", key + sizeof prefix - 1);
        }
    }
    cell(cells, roles.size > 0 ? roles.data : "<none>");
    text_release(&roles);
    cell_age(cells, json_text_at(node, "metadata.creationTimestamp"), now_ms);
    cell(cells, json_text_at(node, "status.nodeInfo.kubeletVersion"));
    cell_or(cells, node_address_of(node, "InternalIP"), "<none>");
    cell_or(cells, node_address_of(node, "ExternalIP"), "<none>");
    cell_or(cells, json_text_at(node, "status.nodeInfo.osImage"), "<unknown>");
    cell_or(cells, json_text_at(node, "status.nodeInfo.kernelVersion"), "<unknown>");
    cell_or(cells, json_text_at(node, "status.nodeInfo.containerRuntimeVersion"), "<unknown>");
}

static void event_cells(json_t *cells, const json_t *event, int64_t now_ms)
{
    const char *seen = json_text_at(event, "lastTimestamp");
    seen = seen[0] != '\0' ? seen : json_text_at(event, "eventTime");
    seen = seen[0] != '\0' ? seen : json_text_at(event, "metadata.creationTimestamp");
    cell_age(cells, seen, now_ms);
    cell(cells, json_text_at(event, "type"));
    cell(cells, json_text_at(event, "reason"));
    struct text object = {0};
    for (const char *c = json_text_at(event, "involvedObject.kind"); *c != '\0'; c++) {
        const char lower = *c >= 'A' && *c <= 'Z' ? (char)(*c + 32) : *c;
        text_append(&object, &lower, 1);
    }
    text_print(&object, "/%s", json_text_at(event, "involvedObject.name"));
    cell(cells, object.data);
    text_release(&object);
    cell(cells, json_text_at(event, "message"));
    cell(cells, json_text_at(event, "metadata.name"));
}

static void device_cells(json_t *cells, const json_t *device, int64_t now_ms)
{
    cell(cells, json_text_at(device, "metadata.name"));
    cell_or(cells, json_text_at(device, "spec.deviceModelRef.name"), "<none>");
    cell_or(cells, api_device_node(device), "<none>");
    cell_or(cells, json_text_at(device, "status.state"), "<unknown>");
    cell_age(cells, json_text_at(device, "metadata.creationTimestamp"), now_ms);
    cell_or(cells, json_text_at(device, "status.lastOnlineTime"), "<unknown>");
}

static json_t *cells_of(const struct api_resource *resource, const json_t *object, int64_t now_ms)
{
    json_t *cells = json_array();
    const char *name = json_text_at(object, "metadata.name");
    const char *created = json_text_at(object, "metadata.creationTimestamp");
    switch (resource->id) {
    case API_POD:
        pod_cells(cells, object, now_ms);
        return cells;
    case API_NODE:
        node_cells(cells, object, now_ms);
        return cells;
    case API_EVENT:
        event_cells(cells, object, now_ms);
        return cells;
    case API_NAMESPACE:
        cell(cells, name);
        cell(cells, json_text_at(object, "status.phase"));
        break;
    case API_CONFIGMAP:
        cell(cells, name);
        cell_number(cells, json_object_size(json_object_get(object, "data")) +
                               json_object_size(json_object_get(object, "binaryData")));
        break;
    case API_SECRET:
        cell(cells, name);
        cell(cells, json_text_at(object, "type"));
        cell_number(cells, json_object_size(json_object_get(object, "data")));
        break;
    case API_SERVICEACCOUNT:
        cell(cells, name);
        cell_number(cells, json_array_size(json_object_get(object, "secrets")));
        break;
    case API_DEVICE:
    case API_DEVICE_ALPHA:
        device_cells(cells, object, now_ms);
        return cells;
    case API_DEVICE_MODEL:
    case API_DEVICE_MODEL_ALPHA:
        cell(cells, name);
        cell_or(cells, json_text_at(object, "spec.protocol"), "<none>");
        break;
    case API_DEVICE_STATUS:
        cell(cells, name);
        cell_or(cells, json_text_at(object, "status.state"), "<unknown>");
        cell_or(cells, json_text_at(object, "status.lastOnlineTime"), "<unknown>");
        break;
    case API_DEFINITION:
        cell(cells, name);
        cell(cells, created);
        return cells;
    case API_LEASE:
        cell(cells, name);
        cell(cells, json_text_at(object, "spec.holderIdentity"));
        break;
    }
    cell_age(cells, created, now_ms);
    return cells;
}

void api_table_add(json_t *table, const struct api_resource *resource, json_t *object,
                   enum call_include include, int64_t now_ms)
{
    json_t *row = json_object();
    CHECK(json_object_set_new(row, "cells", cells_of(resource, object, now_ms)) == 0);
    json_t *shown = NULL;
    switch (include) {
    case INCLUDE_OBJECT:
        shown = json_incref(object);
        break;
    case INCLUDE_METADATA:
        shown = json_object();
        json_put_text(shown, "kind", "PartialObjectMetadata");
        json_put_text(shown, "apiVersion", "meta.k8s.io/v1");
        CHECK(json_object_set(shown, "metadata", json_object_get(object, "metadata")) == 0);
        break;
    case INCLUDE_NONE:
        break;
    }
    if (shown != NULL) {
        CHECK(json_object_set_new(row, "object", shown) == 0);
    }
    CHECK(json_array_append_new(json_object_get(table, "rows"), row) == 0);
}
