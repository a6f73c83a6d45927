/* Rows into objects: the wish as it was written, what its node reports, and what the cloud concludes.
 *
 * Facts and verdicts win over what somebody wrote through /status, member by member, conditions by
 * their type.
 */
#include "nodes/cloud/api_object.h"

#include "nodes/cloud/api_device.h"

#include "schemas/check.h"

#include <stdio.h>

json_t *api_object_wish(struct codec *codec, const struct backend_row *row)
{
    struct object_put put;
    char why[160];
    if (codec_object_put_read(codec, row->wish, &put) != 0) {
        return NULL;
    }
    json_t *wish = json_read(put.object.json, true, why, sizeof why);
    if (!json_is_object(wish)) {
        json_decref(wish);
        return NULL;
    }
    return wish;
}

static void put(json_t *object, const char *name, json_t *taken)
{
    CHECK(json_object_set_new(object, name, taken) == 0);
}

static void put_time(json_t *object, const char *name, int64_t ms)
{
    char text[TIME_TEXT_BYTES];
    if (ms > 0) {
        json_put_text(object, name, time_text(ms, text));
    }
}

static void put_unless_empty(json_t *object, const char *name, const char *text)
{
    if (text[0] != '\0') {
        json_put_text(object, name, text);
    }
}

/* -- conditions ------------------------------------------------------------------------------------- */

static const char *condition_status_text(uint8_t status)
{
    return status == CONDITION_TRUE ? "True" : status == CONDITION_FALSE ? "False" : "Unknown";
}

/* Set the condition of this type in a list, at its place when it is there. */
static void condition_put(json_t *list, const char *type, const char *status, const char *reason,
                          const char *message, int64_t transition_ms, int64_t heartbeat_ms)
{
    json_t *condition = json_object();
    json_put_text(condition, "type", type);
    json_put_text(condition, "status", status);
    put_time(condition, "lastHeartbeatTime", heartbeat_ms);
    put_time(condition, "lastTransitionTime", transition_ms);
    put_unless_empty(condition, "reason", reason);
    put_unless_empty(condition, "message", message);
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (strcmp(json_text_at(json_array_get(list, i), "type"), type) == 0) {
            CHECK(json_array_set_new(list, i, condition) == 0);
            return;
        }
    }
    CHECK(json_array_append_new(list, condition) == 0);
}

static json_t *condition_list(json_t *status)
{
    json_t *list = json_object_get(status, "conditions");
    if (!json_is_array(list)) {
        list = json_array();
        put(status, "conditions", list);
    }
    return list;
}

static const struct condition *condition_find(const struct condition *conditions, uint32_t count,
                                              const char *type)
{
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(conditions[i].type, type) == 0) {
            return &conditions[i];
        }
    }
    return NULL;
}

/* -- pods ------------------------------------------------------------------------------------------- */

static json_t *container_state_json(const struct container_status *c)
{
    json_t *inner = json_object();
    const char *name = "waiting";
    switch ((enum container_state)c->state) {
    case CONTAINER_WAITING:
        put_unless_empty(inner, "reason", c->reason);
        put_unless_empty(inner, "message", c->message);
        break;
    case CONTAINER_RUNNING:
        name = "running";
        put_time(inner, "startedAt", c->started_ms);
        break;
    case CONTAINER_TERMINATED:
        name = "terminated";
        json_put_number(inner, "exitCode", c->exit_code);
        put_unless_empty(inner, "reason", c->reason);
        put_unless_empty(inner, "message", c->message);
        put_time(inner, "startedAt", c->started_ms);
        put_time(inner, "finishedAt", c->finished_ms);
        put_unless_empty(inner, "containerID", c->container_id);
        break;
    }
    json_t *state = json_object();
    put(state, name, inner);
    return state;
}

static json_t *container_json(const struct container_status *c)
{
    json_t *value = json_object();
    json_put_text(value, "name", c->name);
    put(value, "state", container_state_json(c));
    json_t *last = json_object();
    if (c->last_state == CONTAINER_TERMINATED) {
        json_t *terminated = json_object();
        json_put_number(terminated, "exitCode", c->last_exit_code);
        put_unless_empty(terminated, "reason", c->last_reason);
        put_time(terminated, "startedAt", c->last_started_ms);
        put_time(terminated, "finishedAt", c->last_finished_ms);
        put_unless_empty(terminated, "containerID", c->last_container_id);
        put(last, "terminated", terminated);
    }
    put(value, "lastState", last);
    put(value, "ready", json_boolean(c->ready));
    json_put_number(value, "restartCount", c->restart_count);
    json_put_text(value, "image", c->image);
    json_put_text(value, "imageID", c->image_id);
    put_unless_empty(value, "containerID", c->container_id);
    put(value, "started", json_boolean(c->started));
    return value;
}

static const char *phase_text(uint8_t phase)
{
    switch ((enum pod_phase)phase) {
    case POD_PENDING:
        return "Pending";
    case POD_RUNNING:
        return "Running";
    case POD_SUCCEEDED:
        return "Succeeded";
    case POD_FAILED:
        return "Failed";
    case POD_UNKNOWN:
        break;
    }
    return "Unknown";
}

/* source: kubernetes pkg/apis/core/v1/helper/qos. */
static const char *qos_class(const json_t *spec)
{
    static const char *const names[] = {"cpu", "memory"};
    static const char *const lists[] = {"initContainers", "containers"};
    bool any = false;
    bool guaranteed = true;
    for (size_t l = 0; l < 2; l++) {
        const json_t *list = json_object_get(spec, lists[l]);
        for (size_t i = 0; i < json_array_size(list); i++) {
            const json_t *resources = json_object_get(json_array_get(list, i), "resources");
            for (size_t n = 0; n < 2; n++) {
                const json_t *limit = json_object_get(json_object_get(resources, "limits"), names[n]);
                const json_t *request =
                    json_object_get(json_object_get(resources, "requests"), names[n]);
                any = any || limit != NULL || request != NULL;
                guaranteed = guaranteed && limit != NULL && request != NULL &&
                             json_equal(limit, request);
            }
        }
    }
    return !any ? "BestEffort" : guaranteed ? "Guaranteed" : "Burstable";
}

/* [{"ip": text}]; json_pack would refuse text that is not UTF-8. */
static void put_address(json_t *status, const char *name, const char *text)
{
    json_t *entry = json_object();
    json_put_text(entry, "ip", text);
    json_t *list = json_array();
    CHECK(json_array_append_new(list, entry) == 0);
    put(status, name, list);
}

static void join_pod_fact(json_t *status, const struct pod_status *fact)
{
    json_put_text(status, "phase", phase_text(fact->phase));
    put_unless_empty(status, "reason", fact->reason);
    put_unless_empty(status, "message", fact->message);
    if (fact->host_ip[0] != '\0') {
        json_put_text(status, "hostIP", fact->host_ip);
        put_address(status, "hostIPs", fact->host_ip);
    }
    if (fact->pod_ip[0] != '\0') {
        json_put_text(status, "podIP", fact->pod_ip);
        put_address(status, "podIPs", fact->pod_ip);
    }
    put_time(status, "startTime", fact->started_ms);
    if (fact->observed_generation > 0) {
        json_put_number(status, "observedGeneration", fact->observed_generation);
    }
    json_t *init = json_array();
    json_t *ordinary = json_array();
    for (uint32_t i = 0; i < fact->container_count; i++) {
        const struct container_status *c = &fact->containers[i];
        CHECK(json_array_append_new(c->init ? init : ordinary, container_json(c)) == 0);
    }
    if (json_array_size(init) > 0) {
        put(status, "initContainerStatuses", init);
    } else {
        json_decref(init);
    }
    put(status, "containerStatuses", ordinary);
}

static void join_pod(struct codec *codec, const struct backend_row *row, json_t *object)
{
    json_t *status = json_child(object, "status");
    const json_t *spec = json_object_get(object, "spec");
    json_put_text(status, "phase", "Pending");
    json_t *conditions = condition_list(status);
    const bool bound = json_text_at(spec, "nodeName")[0] != '\0';
    const int64_t created = time_parse(json_text_at(object, "metadata.creationTimestamp"));
    condition_put(conditions, "PodScheduled", bound ? "True" : "False", bound ? "" : "Unscheduled",
                  bound ? "" : "the pod waits for a node", created, 0);
    struct pod_status fact;
    if (row->fact.size > 0 && codec_pod_status_read(codec, row->fact, &fact) == 0) {
        join_pod_fact(status, &fact);
        for (uint32_t i = 0; i < fact.condition_count; i++) {
            const struct condition *c = &fact.conditions[i];
            condition_put(conditions, c->type, condition_status_text(c->status), c->reason,
                          c->message, c->transition_ms, 0);
        }
    }
    struct verdict verdict;
    if (row->verdict.size > 0 && codec_verdict_read(codec, row->verdict, &verdict) == 0) {
        for (uint32_t i = 0; i < verdict.condition_count; i++) {
            const struct condition *c = &verdict.conditions[i];
            if (bound && strcmp(c->type, "PodScheduled") == 0) {
                continue; /* from before it was bound: nobody takes that verdict back */
            }
            condition_put(conditions, c->type, condition_status_text(c->status), c->reason,
                          c->message, c->transition_ms, 0);
        }
    }
    json_put_text(status, "qosClass", qos_class(spec));
}

/* -- nodes ------------------------------------------------------------------------------------------ */

static void put_pairs(json_t *status, const char *name, const struct pair *pairs, uint32_t count)
{
    json_t *map = json_object();
    for (uint32_t i = 0; i < count; i++) {
        json_put_text(map, pairs[i].key, pairs[i].value);
    }
    put(status, name, map);
}

#define UNHEARD "Kelp cloud has not heard from the edge"

static void join_node_fact(json_t *status, const struct node_status *fact)
{
    json_t *addresses = json_array();
    for (uint32_t i = 0; i < fact->address_count; i++) {
        json_t *address = json_object();
        json_put_text(address, "type", fact->addresses[i].key);
        json_put_text(address, "address", fact->addresses[i].value);
        CHECK(json_array_append_new(addresses, address) == 0);
    }
    put(status, "addresses", addresses);
    put_pairs(status, "capacity", fact->capacity, fact->capacity_count);
    put_pairs(status, "allocatable", fact->allocatable, fact->allocatable_count);
    /* typed clients want all of nodeInfo */
    static const char *const all[] = {"architecture",   "bootID",       "containerRuntimeVersion",
                                      "kernelVersion",  "kubeProxyVersion", "kubeletVersion",
                                      "machineID",      "operatingSystem", "osImage", "systemUUID"};
    put_pairs(status, "nodeInfo", fact->info, fact->info_count);
    json_t *info = json_object_get(status, "nodeInfo");
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        json_default(info, all[i], json_string(""));
    }
}

static void join_node(const struct backend *backend, struct codec *codec,
                      const struct backend_row *row, json_t *object)
{
    json_t *status = json_child(object, "status");
    json_t *conditions = condition_list(status);
    const int64_t created = time_parse(json_text_at(object, "metadata.creationTimestamp"));
    const char *name = json_text_at(object, "metadata.name");

    struct verdict verdict = {.reachable = true};
    const bool judged = row->verdict.size > 0 &&
                        codec_verdict_read(codec, row->verdict, &verdict) == 0;
    const bool reachable = !judged || verdict.reachable;
    const struct condition *ready =
        judged ? condition_find(verdict.conditions, verdict.condition_count, "Ready") : NULL;
    const int64_t lost_ms = ready != NULL && ready->transition_ms > 0 ? ready->transition_ms : 0;
    int64_t seen = backend->node_seen_ms == NULL ? 0 : backend->node_seen_ms(backend->owner, name);
    if (seen == 0 && !reachable) {
        seen = lost_ms; /* before that; nobody remembers better */
    }

    struct node_status fact = {0};
    const bool reported =
        row->fact.size > 0 && codec_node_status_read(codec, row->fact, &fact) == 0;
    if (reported) {
        join_node_fact(status, &fact);
    }
    for (uint32_t i = 0; i < fact.condition_count; i++) {
        const struct condition *c = &fact.conditions[i];
        if (reachable) {
            condition_put(conditions, c->type, condition_status_text(c->status), c->reason,
                          c->message, c->transition_ms, seen);
        } else {
            condition_put(conditions, c->type, "Unknown", "NodeStatusUnknown", UNHEARD,
                          lost_ms > 0 ? lost_ms : c->transition_ms, seen);
        }
    }
    if (condition_find(fact.conditions, fact.condition_count, "Ready") == NULL) {
        condition_put(conditions, "Ready", "Unknown",
                      reported ? "NodeStatusUnknown" : "NodeStatusNeverUpdated",
                      reported ? UNHEARD : "the edge has not reported yet", created, seen);
    }
    for (uint32_t i = 0; judged && i < verdict.condition_count; i++) {
        const struct condition *c = &verdict.conditions[i];
        if (reachable && strcmp(c->type, "Ready") == 0) {
            continue; /* the node speaks for itself */
        }
        condition_put(conditions, c->type, condition_status_text(c->status), c->reason, c->message,
                      c->transition_ms, seen);
    }
    if (!reachable && (ready == NULL || ready->status == CONDITION_TRUE)) {
        condition_put(conditions, "Ready", "Unknown", "NodeStatusUnknown", UNHEARD,
                      lost_ms > 0 ? lost_ms : created, seen);
    }
}

/* -- definitions ------------------------------------------------------------------------------------ */

/* Whether Kelp serves what a CustomResourceDefinition defines. It serves its own table and nothing that is
 * defined here, so who waits for `Established` is told the truth. */
static void join_definition(json_t *object)
{
    const char *group = json_text_at(object, "spec.group");
    const char *plural = json_text_at(object, "spec.names.plural");
    const json_t *versions = json_at(object, "spec.versions");
    const int64_t created = time_parse(json_text_at(object, "metadata.creationTimestamp"));
    json_t *stored = json_array();
    for (size_t i = 0; i < json_array_size(versions); i++) {
        const char *version = json_text_at(json_array_get(versions, i), "name");
        if (api_resource_find(group, version, plural) != NULL) {
            CHECK(json_array_append_new(stored, json_string(version)) == 0);
        }
    }
    const bool served = json_array_size(stored) > 0;
    json_t *status = json_object();
    put(object, "status", status);
    json_t *conditions = condition_list(status);
    condition_put(conditions, "NamesAccepted", "True", "NoConflicts", "no conflicts found", created, 0);
    condition_put(conditions, "Established", served ? "True" : "False",
                  served ? "InitialNamesAccepted" : "NotServed",
                  served ? "Kelp serves this kind by itself"
                         : "Kelp serves no kinds but its own: this definition is kept and has no effect",
                  created, 0);
    const json_t *names = json_at(object, "spec.names");
    if (names != NULL) {
        put(status, "acceptedNames", json_deep_copy(names));
    }
    put(status, "storedVersions", stored);
}

/* -- the door --------------------------------------------------------------------------------------- */

json_t *api_object_join(const struct backend *backend, struct codec *codec,
                        const struct api_resource *resource, const struct backend_row *row,
                        const json_t *wish)
{
    json_t *object = wish == NULL ? api_object_wish(codec, row) : json_deep_copy(wish);
    if (object == NULL) {
        return NULL;
    }
    switch (api_resource_stored(resource)->id) {
    case API_POD:
        join_pod(codec, row, object);
        break;
    case API_NODE:
        join_node(backend, codec, row, object);
        break;
    case API_NAMESPACE:
        json_put_text(json_child(object, "status"), "phase",
                      json_at(object, "metadata.deletionTimestamp") != NULL ? "Terminating"
                                                                            : "Active");
        break;
    case API_CONFIGMAP:
    case API_SECRET:
    case API_EVENT:
    case API_SERVICEACCOUNT:
    case API_LEASE:
    case API_DEVICE_MODEL:
    case API_DEVICE_ALPHA:
    case API_DEVICE_MODEL_ALPHA:
    case API_DEVICE_STATUS:
        break;
    case API_DEVICE:
        api_device_join(backend, codec, row, object);
        break;
    case API_DEFINITION:
        join_definition(object);
        break;
    }
    if (api_device_kind(resource)) {
        api_device_show(resource, object);
    }
    api_object_set_version(object, row->version);
    return object;
}

json_t *api_event_join(struct codec *codec, const struct backend_event *event)
{
    struct edge_event e;
    if (codec_edge_event_read(codec, event->body, &e) != 0) {
        return NULL;
    }
    const char *space = e.namespace_[0] != '\0' ? e.namespace_ : "default";
    const bool node = strcmp(e.kind, "Node") == 0;
    char name[LIMIT_NAME_BYTES + 24];
    char uid[40];
    char first[TIME_TEXT_BYTES];
    char last[TIME_TEXT_BYTES];
    /* name and uid are functions of the version, so each replica tells the same ones */
    (void)snprintf(name, sizeof name, "%.200s.%016llx", e.name, (unsigned long long)event->version);
    (void)snprintf(uid, sizeof uid, "65766e74-0000-4000-8000-%012llx",
                   (unsigned long long)(event->version & 0xffffffffffff));

    json_t *object = json_pack("{s:s, s:s}", "kind", "Event", "apiVersion", "v1");
    json_t *metadata = json_child(object, "metadata");
    json_put_text(metadata, "name", name);
    json_put_text(metadata, "namespace", space);
    json_put_text(metadata, "uid", uid);
    json_put_text(metadata, "creationTimestamp", time_text(e.first_ms, first));
    json_t *involved = json_child(object, "involvedObject");
    json_put_text(involved, "kind", e.kind);
    put_unless_empty(involved, "namespace", e.namespace_);
    json_put_text(involved, "name", e.name);
    /* describe node asks with the node's name as uid */
    put_unless_empty(involved, "uid", node ? e.name : e.uid);
    json_put_text(involved, "apiVersion", "v1");
    if (e.container[0] != '\0') {
        char path[LIMIT_NAME_BYTES + 32];
        (void)snprintf(path, sizeof path, "spec.containers{%.200s}", e.container);
        json_put_text(involved, "fieldPath", path);
    }
    json_put_text(object, "reason", e.reason);
    json_put_text(object, "message", e.message);
    json_t *source = json_child(object, "source");
    json_put_text(source, "component", "edgecore");
    json_put_text(source, "host", event->node);
    json_put_text(object, "firstTimestamp", first);
    json_put_text(object, "lastTimestamp", time_text(e.last_ms, last));
    json_put_number(object, "count", e.count == 0 ? 1 : e.count);
    json_put_text(object, "type", e.type);
    json_put_text(object, "reportingComponent", "edgecore");
    json_put_text(object, "reportingInstance", event->node);
    put(object, "eventTime", json_null());
    api_object_set_version(object, event->version);
    return object;
}

#define LEASE_SECONDS 40

json_t *api_lease_join(const struct backend *backend, const json_t *node)
{
    const char *name = json_text_at(node, "metadata.name");
    json_t *object =
        json_pack("{s:s, s:s}", "kind", "Lease", "apiVersion", "coordination.k8s.io/v1");
    json_t *metadata = json_child(object, "metadata");
    json_put_text(metadata, "name", name);
    json_put_text(metadata, "namespace", "kube-node-lease");
    json_put_text(metadata, "uid", json_text_at(node, "metadata.uid"));
    json_put_text(metadata, "creationTimestamp", json_text_at(node, "metadata.creationTimestamp"));
    json_put_text(metadata, "resourceVersion", json_text_at(node, "metadata.resourceVersion"));
    json_t *spec = json_child(object, "spec");
    json_put_text(spec, "holderIdentity", name);
    json_put_number(spec, "leaseDurationSeconds", LEASE_SECONDS);
    const int64_t seen =
        backend->node_seen_ms == NULL ? 0 : backend->node_seen_ms(backend->owner, name);
    if (seen > 0) {
        char text[TIME_TEXT_BYTES];
        json_put_text(spec, "renewTime", time_text_micro(seen, text));
    }
    return object;
}
