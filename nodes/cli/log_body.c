/* Bodies of records as JSON. Fields are named as in record.fbs, in camel case; what is empty or zero is
 * left out, but for what a reader would miss. */
#include "nodes/cli/log_decode.h"

#include "schemas/check.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

/* An object being put together: knows whether a comma is due. */
struct fields {
    struct out *out;
    bool some;
};

static struct fields fields_begin(struct out *out)
{
    out_character(out, '{');
    return (struct fields){.out = out};
}

static void fields_end(struct fields *fields)
{
    out_character(fields->out, '}');
}

static void field_name(struct fields *fields, const char *name)
{
    if (fields->some) {
        out_character(fields->out, ',');
    }
    fields->some = true;
    out_character(fields->out, '"');
    out_text(fields->out, name);
    out_text(fields->out, "\":");
}

static void field_text(struct fields *fields, const char *name, const char *text)
{
    if (text[0] != '\0') {
        field_name(fields, name);
        out_json_text(fields->out, text);
    }
}

static void field_i64(struct fields *fields, const char *name, int64_t number)
{
    if (number != 0) {
        field_name(fields, name);
        out_i64(fields->out, number);
    }
}

static void field_u64(struct fields *fields, const char *name, uint64_t number)
{
    field_name(fields, name);
    out_u64(fields->out, number);
}

static void field_bool(struct fields *fields, const char *name, bool value)
{
    field_name(fields, name);
    out_text(fields->out, value ? "true" : "false");
}

static void field_time(struct fields *fields, const char *name, int64_t time_ms)
{
    if (time_ms > 0) {
        field_name(fields, name);
        out_character(fields->out, '"');
        out_time(fields->out, time_ms);
        out_character(fields->out, '"');
    }
}

/* Stream ids and hashes are names, not amounts. */
static void field_hex(struct fields *fields, const char *name, uint64_t number)
{
    if (number != 0) {
        field_name(fields, name);
        out_character(fields->out, '"');
        out_hex64(fields->out, number);
        out_character(fields->out, '"');
    }
}

static void field_tag(struct fields *fields, const char *name, struct tag tag)
{
    if (tag.low != 0 || tag.high != 0) {
        field_name(fields, name);
        out_character(fields->out, '"');
        out_hex64(fields->out, tag.high);
        out_hex64(fields->out, tag.low);
        out_character(fields->out, '"');
    }
}

static void field_pairs(struct fields *fields, const char *name, const struct pair *pairs,
                        uint32_t count)
{
    if (count == 0) {
        return;
    }
    field_name(fields, name);
    out_character(fields->out, '{');
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0) {
            out_character(fields->out, ',');
        }
        out_json_text(fields->out, pairs[i].key);
        out_character(fields->out, ':');
        out_json_text(fields->out, pairs[i].value);
    }
    out_character(fields->out, '}');
}

static void field_texts(struct fields *fields, const char *name, const char *const *texts,
                        uint32_t count)
{
    if (count == 0) {
        return;
    }
    field_name(fields, name);
    out_character(fields->out, '[');
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0) {
            out_character(fields->out, ',');
        }
        out_json_text(fields->out, texts[i]);
    }
    out_character(fields->out, ']');
}

static void field_conditions(struct fields *fields, const struct condition *conditions,
                             uint32_t count)
{
    static const char *const words[] = {
        [CONDITION_UNKNOWN] = "Unknown", [CONDITION_TRUE] = "True", [CONDITION_FALSE] = "False"};
    if (count == 0) {
        return;
    }
    field_name(fields, "conditions");
    out_character(fields->out, '[');
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0) {
            out_character(fields->out, ',');
        }
        struct fields inner = fields_begin(fields->out);
        field_text(&inner, "type", conditions[i].type);
        field_text(&inner, "status", words[conditions[i].status]);
        field_text(&inner, "reason", conditions[i].reason);
        field_text(&inner, "message", conditions[i].message);
        field_time(&inner, "transition", conditions[i].transition_ms);
        fields_end(&inner);
    }
    out_character(fields->out, ']');
}

/* -- objects ---------------------------------------------------------------------------------- */

#define MASK "<masked>"

/* Replace every value of a map; what is no map becomes a mask itself. */
static void mask_values(json_t *object, const char *name)
{
    json_t *values = json_object_get(object, name);
    if (values == NULL) {
        return;
    }
    if (!json_is_object(values)) {
        json_object_set_new(object, name, json_string(MASK));
        return;
    }
    const char *key;
    json_t *value;
    void *next;
    json_object_foreach_safe(values, next, key, value)
    {
        json_object_set_new(values, key, json_string(MASK));
    }
}

/* kubectl apply keeps a copy of all it was given among the annotations. */
static void mask_applied(json_t *object)
{
    static const char name[] = "kubectl.kubernetes.io/last-applied-configuration";
    json_t *annotations = json_object_get(json_object_get(object, "metadata"), "annotations");
    if (json_object_get(annotations, name) != NULL) {
        json_object_set_new(annotations, name, json_string(MASK));
    }
}

/* The JSON of a Secret without what is secret. What cannot be read is masked as a whole. */
static void object_masked(struct bytes document, struct out *out)
{
    json_t *object =
        json_loadb((const char *)document.data, document.size, JSON_REJECT_DUPLICATES, NULL);
    char *text = NULL;
    if (json_is_object(object)) {
        mask_values(object, "data");
        mask_values(object, "stringData");
        mask_applied(object);
        text = json_dumps(object, JSON_COMPACT);
    }
    if (text == NULL || !out_json_document(out, bytes_text(text))) {
        out_json_text(out, MASK);
    }
    free(text);
    json_decref(object);
}

static void object_document(struct fields *fields, const struct object *object, bool masked)
{
    if (object->seal_key != 0) {
        field_u64(fields, "sealKey", object->seal_key);
        field_u64(fields, "sealedBytes", object->json.size);
        return;
    }
    field_name(fields, "json");
    if (masked) {
        object_masked(object->json, fields->out);
    } else if (!out_json_document(fields->out, object->json)) {
        out_json_bytes(fields->out, object->json); /* nobody should have let this in; show it */
    }
}

static void body_device_wish(const struct device_wish *wish, struct out *out)
{
    struct fields fields = fields_begin(out);
    field_text(&fields, "description", wish->description);
    if (wish->keep_values) {
        field_bool(&fields, "keepValues", true);
    }
    field_name(&fields, "properties");
    out_character(out, '[');
    for (uint32_t i = 0; i < wish->property_count; i++) {
        const struct device_property *property = &wish->properties[i];
        out_text(out, i > 0 ? "," : "");
        struct fields inner = fields_begin(out);
        field_text(&inner, "name", property->name);
        field_text(&inner, "type", property->type);
        if (property->has_desired) {
            field_name(&inner, "desired");
            out_json_text(out, property->desired);
        }
        if (property->optional) {
            field_bool(&inner, "optional", true);
        }
        field_u64(&inner, "revision", property->revision);
        fields_end(&inner);
    }
    out_character(out, ']');
    fields_end(&fields);
}

static void body_put(const struct object_put *put, bool masked, struct out *out)
{
    static const char *const modes[] = {
        [PUT_ANY] = "any", [PUT_CREATE] = "create", [PUT_UPDATE] = "update"};
    const struct object *object = &put->object;
    struct fields fields = fields_begin(out);
    field_text(&fields, "mode", modes[put->mode]);
    field_i64(&fields, "ifVersion", (int64_t)put->if_version);
    field_text(&fields, "ifUid", put->if_uid);
    field_text(&fields, "group", object->group);
    field_text(&fields, "version", object->version);
    field_text(&fields, "kind", object->kind);
    field_text(&fields, "resource", object->resource);
    field_text(&fields, "namespace", object->namespace_);
    field_text(&fields, "name", object->name);
    field_text(&fields, "uid", object->uid);
    field_text(&fields, "nodeName", object->node_name);
    field_pairs(&fields, "labels", object->labels, object->label_count);
    field_texts(&fields, "owners", object->owners, object->owner_count);
    field_texts(&fields, "finalizers", object->finalizers, object->finalizer_count);
    field_time(&fields, "deletionTime", object->deletion_time_ms);
    field_i64(&fields, "deletionGraceSeconds", object->deletion_grace_s);
    field_i64(&fields, "generation", object->generation);
    field_i64(&fields, "requestCpuMilli", object->request_cpu_milli);
    field_i64(&fields, "requestMemoryBytes", object->request_memory_bytes);
    if (object->reference_count > 0) {
        field_name(&fields, "references");
        out_character(out, '[');
        for (uint32_t i = 0; i < object->reference_count; i++) {
            if (i > 0) {
                out_character(out, ',');
            }
            struct fields inner = fields_begin(out);
            field_text(&inner, "resource", object->references[i].resource);
            field_text(&inner, "name", object->references[i].name);
            field_bool(&inner, "optional", object->references[i].optional);
            fields_end(&inner);
        }
        out_character(out, ']');
    }
    if (object->device != NULL) {
        field_name(&fields, "device");
        body_device_wish(object->device, out);
    }
    field_tag(&fields, "tag", object->tag);
    object_document(&fields, object, masked);
    fields_end(&fields);
}

/* -- facts ------------------------------------------------------------------------------------ */

static const char *const container_states[] = {
    [CONTAINER_WAITING] = "waiting",
    [CONTAINER_RUNNING] = "running",
    [CONTAINER_TERMINATED] = "terminated",
};

static void body_container(const struct container_status *status, struct out *out)
{
    struct fields fields = fields_begin(out);
    field_text(&fields, "name", status->name);
    if (status->init) {
        field_bool(&fields, "init", true);
    }
    field_text(&fields, "state", container_states[status->state]);
    field_bool(&fields, "ready", status->ready);
    field_bool(&fields, "started", status->started);
    field_u64(&fields, "restartCount", status->restart_count);
    field_text(&fields, "reason", status->reason);
    field_text(&fields, "message", status->message);
    if (status->state == CONTAINER_TERMINATED) {
        field_name(&fields, "exitCode");
        out_i64(out, status->exit_code);
    }
    field_time(&fields, "startedAt", status->started_ms);
    field_time(&fields, "finishedAt", status->finished_ms);
    field_text(&fields, "image", status->image);
    field_text(&fields, "imageId", status->image_id);
    field_text(&fields, "containerId", status->container_id);
    if (status->last_state != CONTAINER_WAITING) {
        field_name(&fields, "last");
        struct fields last = fields_begin(out);
        field_text(&last, "state", container_states[status->last_state]);
        field_text(&last, "reason", status->last_reason);
        field_name(&last, "exitCode");
        out_i64(out, status->last_exit_code);
        field_time(&last, "startedAt", status->last_started_ms);
        field_time(&last, "finishedAt", status->last_finished_ms);
        field_text(&last, "containerId", status->last_container_id);
        fields_end(&last);
    }
    fields_end(&fields);
}

static bool body_pod_status(struct codec *codec, struct bytes body, struct out *out)
{
    static const char *const phases[] = {
        [POD_PENDING] = "Pending", [POD_RUNNING] = "Running", [POD_SUCCEEDED] = "Succeeded",
        [POD_FAILED] = "Failed",   [POD_UNKNOWN] = "Unknown",
    };
    struct pod_status status;
    if (codec_pod_status_read(codec, body, &status) != 0) {
        return false;
    }
    struct fields fields = fields_begin(out);
    field_text(&fields, "uid", status.uid);
    field_text(&fields, "phase", phases[status.phase]);
    field_text(&fields, "reason", status.reason);
    field_text(&fields, "message", status.message);
    field_text(&fields, "podIP", status.pod_ip);
    field_text(&fields, "hostIP", status.host_ip);
    field_time(&fields, "startedAt", status.started_ms);
    field_i64(&fields, "observedGeneration", status.observed_generation);
    field_conditions(&fields, status.conditions, status.condition_count);
    if (status.container_count > 0) {
        field_name(&fields, "containers");
        out_character(out, '[');
        for (uint32_t i = 0; i < status.container_count; i++) {
            if (i > 0) {
                out_character(out, ',');
            }
            body_container(&status.containers[i], out);
        }
        out_character(out, ']');
    }
    fields_end(&fields);
    return true;
}

static bool body_node_status(struct codec *codec, struct bytes body, struct out *out)
{
    struct node_status status;
    if (codec_node_status_read(codec, body, &status) != 0) {
        return false;
    }
    struct fields fields = fields_begin(out);
    field_conditions(&fields, status.conditions, status.condition_count);
    field_pairs(&fields, "addresses", status.addresses, status.address_count);
    field_pairs(&fields, "capacity", status.capacity, status.capacity_count);
    field_pairs(&fields, "allocatable", status.allocatable, status.allocatable_count);
    field_pairs(&fields, "info", status.info, status.info_count);
    field_pairs(&fields, "labels", status.labels, status.label_count);
    fields_end(&fields);
    return true;
}

static bool body_edge_event(struct codec *codec, struct bytes body, struct out *out)
{
    struct edge_event event;
    if (codec_edge_event_read(codec, body, &event) != 0) {
        return false;
    }
    struct fields fields = fields_begin(out);
    field_text(&fields, "type", event.type);
    field_text(&fields, "reason", event.reason);
    field_text(&fields, "message", event.message);
    field_text(&fields, "kind", event.kind);
    field_text(&fields, "namespace", event.namespace_);
    field_text(&fields, "name", event.name);
    field_text(&fields, "uid", event.uid);
    field_text(&fields, "container", event.container);
    field_u64(&fields, "count", event.count);
    field_time(&fields, "first", event.first_ms);
    field_time(&fields, "last", event.last_ms);
    fields_end(&fields);
    return true;
}

static bool body_pod_attempt(struct codec *codec, struct bytes body, struct out *out)
{
    struct pod_attempt attempt;
    if (codec_pod_attempt_read(codec, body, &attempt) != 0) {
        return false;
    }
    struct fields fields = fields_begin(out);
    field_text(&fields, "uid", attempt.uid);
    field_text(&fields, "container",
               attempt.container[0] == '\0' ? "(sandbox)" : attempt.container);
    field_u64(&fields, "attempt", attempt.attempt);
    field_hex(&fields, "hash", attempt.hash);
    field_time(&fields, "time", attempt.time_ms);
    fields_end(&fields);
    return true;
}

/* -- devices ---------------------------------------------------------------------------------- */

static void body_twin(const struct twin *twin, struct out *out)
{
    struct fields fields = fields_begin(out);
    field_text(&fields, "key", twin->key);
    field_text(&fields, "type", twin->type);
    if (twin->has_expected) {
        field_name(&fields, "expected");
        out_json_text(out, twin->expected);
        field_time(&fields, "expectedAt", twin->expected_ms);
        if (twin->expected_local) {
            field_bool(&fields, "expectedLocal", true);
            field_i64(&fields, "expectedSaw", (int64_t)twin->expected_saw);
        }
    }
    if (twin->has_actual) {
        field_name(&fields, "actual");
        out_json_text(out, twin->actual);
        field_time(&fields, "actualAt", twin->actual_ms);
    }
    if (twin->optional) {
        field_bool(&fields, "optional", true);
    }
    field_i64(&fields, "wishRevision", (int64_t)twin->wish_revision);
    fields_end(&fields);
}

static bool body_device_status(struct codec *codec, struct bytes body, struct out *out)
{
    struct device_status status;
    if (codec_device_status_read(codec, body, &status) != 0) {
        return false;
    }
    struct fields fields = fields_begin(out);
    field_text(&fields, "uid", status.uid);
    field_text(&fields, "state", status.state);
    field_time(&fields, "lastOnline", status.last_online_ms);
    field_name(&fields, "twins");
    out_character(out, '[');
    for (uint32_t i = 0; i < status.twin_count; i++) {
        out_text(out, i > 0 ? "," : "");
        body_twin(&status.twins[i], out);
    }
    out_character(out, ']');
    fields_end(&fields);
    return true;
}

static const char *const topics_words[] = {[DEVICE_TOPICS_NAMESPACED] = "namespaced",
                                           [DEVICE_TOPICS_PLAIN] = "plain",
                                           [DEVICE_TOPICS_BOTH] = "both"};

static bool body_twin_update(struct codec *codec, struct bytes body, struct out *out)
{
    struct twin_update update;
    if (codec_twin_update_read(codec, body, &update) != 0) {
        return false;
    }
    struct fields fields = fields_begin(out);
    field_text(&fields, "eventId", update.event_id);
    field_text(&fields, "topics", topics_words[update.topics]);
    field_name(&fields, "changes");
    out_character(out, '[');
    for (uint32_t i = 0; i < update.change_count; i++) {
        const struct twin_change *change = &update.changes[i];
        out_text(out, i > 0 ? "," : "");
        struct fields inner = fields_begin(out);
        field_text(&inner, "key", change->key);
        if (change->remove) {
            field_bool(&inner, "remove", true);
        }
        if (change->has_expected) {
            field_name(&inner, "expected");
            out_json_text(out, change->expected);
        }
        if (change->has_actual) {
            field_name(&inner, "actual");
            out_json_text(out, change->actual);
        }
        if (change->optional != TWIN_OPTIONAL_UNSAID) {
            field_bool(&inner, "optional", change->optional == TWIN_OPTIONAL_YES);
        }
        field_text(&inner, "type", change->type);
        fields_end(&inner);
    }
    out_character(out, ']');
    fields_end(&fields);
    return true;
}

/* -- the rest --------------------------------------------------------------------------------- */

static void body_batch(const struct batch *batch, struct out *out)
{
    struct fields fields = fields_begin(out);
    field_text(&fields, "node", batch->node);
    field_i64(&fields, "epoch", (int64_t)batch->epoch);
    field_hex(&fields, "stream", batch->stream);
    field_u64(&fields, "previous", batch->previous);
    field_u64(&fields, "last", batch->last);
    field_u64(&fields, "tip", batch->tip);
    field_u64(&fields, "records", batch->record_count);
    field_tag(&fields, "digest", batch->digest);
    fields_end(&fields);
}

static void body_snapshot(const struct snapshot *snapshot, struct out *out)
{
    struct fields fields = fields_begin(out);
    field_hex(&fields, "stream", snapshot->stream);
    field_u64(&fields, "position", snapshot->position);
    field_hex(&fields, "id", snapshot->id);
    field_u64(&fields, "records", snapshot->record_count);
    field_tag(&fields, "digest", snapshot->digest);
    if (snapshot->retell) {
        field_bool(&fields, "retell", true);
    }
    fields_end(&fields);
}

/* The small kinds. */
static bool body_small(struct codec *codec, const struct record *record, struct out *out)
{
    union {
        struct object_remove remove;
        struct pod_ended ended;
        struct verdict verdict;
        struct session_open open;
        struct down_ack ack;
        struct stream_init init;
        struct cluster_init cluster;
        struct setting setting;
        struct gap gap;
        struct device_value value;
        struct device_state state;
        struct mqtt_message message;
        struct outbox_done done;
        struct member_key member_key;
    } body;
    struct fields fields = {.out = out};
    int status = STATUS_MALFORMED;
#define BODY(noun, member, ...)                                                                    \
    status = codec_##noun##_read(codec, record->body, &body.member);                               \
    if (status == 0) {                                                                             \
        fields = fields_begin(out);                                                                \
        __VA_ARGS__ fields_end(&fields);                                                           \
    }
    switch (record->kind) {
    case RECORD_OBJECT_REMOVE:
        BODY(object_remove, remove, {
            field_i64(&fields, "ifVersion", (int64_t)body.remove.if_version);
            field_text(&fields, "ifUid", body.remove.if_uid);
            field_text(&fields, "reason",
                       body.remove.reason == REMOVE_UNUSED ? "unused" : "deleted");
        })
        break;
    case RECORD_POD_ENDED:
        BODY(pod_ended, ended, { field_text(&fields, "uid", body.ended.uid); })
        break;
    case RECORD_VERDICT:
        BODY(verdict, verdict, {
            field_text(&fields, "uid", body.verdict.uid);
            field_bool(&fields, "reachable", body.verdict.reachable);
            field_conditions(&fields, body.verdict.conditions, body.verdict.condition_count);
        })
        break;
    case RECORD_SESSION_OPEN:
        BODY(session_open, open, {
            field_text(&fields, "node", body.open.node);
            field_text(&fields, "uid", body.open.uid);
            field_u64(&fields, "replica", body.open.replica);
            field_hex(&fields, "upStream", body.open.up_stream);
            field_u64(&fields, "upPosition", body.open.up_position);
        })
        break;
    case RECORD_DOWN_ACK:
    case RECORD_UP_ACK:
        BODY(down_ack, ack, {
            field_text(&fields, "node", body.ack.node);
            field_i64(&fields, "epoch", (int64_t)body.ack.epoch);
            field_hex(&fields, "stream", body.ack.stream);
            field_u64(&fields, "position", body.ack.position);
        })
        break;
    case RECORD_STREAM_INIT:
        BODY(stream_init, init, {
            field_text(&fields, "node", body.init.node);
            field_text(&fields, "cluster", body.init.cluster);
            field_hex(&fields, "upStream", body.init.up_stream);
        })
        break;
    case RECORD_CLUSTER_INIT:
        BODY(cluster_init, cluster, { field_text(&fields, "cluster", body.cluster.cluster); })
        break;
    case RECORD_SETTING:
        BODY(setting, setting, {
            field_text(&fields, "name", body.setting.name);
            field_name(&fields, "value");
            out_i64(out, body.setting.value);
        })
        break;
    case RECORD_MEMBER_KEY:
        BODY(member_key, member_key, {
            field_u64(&fields, "replica", body.member_key.replica);
            field_text(&fields, "standing",
                       body.member_key.standing == MEMBER_KEY_OUT  ? "out"
                       : body.member_key.standing == MEMBER_KEY_IN ? "in"
                                                                   : "member");
            field_text(&fields, "key", body.member_key.key);
            field_u64(&fields, "below", body.member_key.below);
        })
        break;
    case RECORD_DEVICE_VALUE:
        BODY(device_value, value, {
            field_text(&fields, "uid", body.value.uid);
            field_text(&fields, "key", body.value.key);
            field_name(&fields, "value");
            out_json_text(out, body.value.value);
            field_time(&fields, "time", body.value.time_ms);
        })
        break;
    case RECORD_DEVICE_STATE:
        BODY(device_state, state, {
            field_text(&fields, "eventId", body.state.event_id);
            field_text(&fields, "topics", topics_words[body.state.topics]);
            field_text(&fields, "state", body.state.state);
        })
        break;
    case RECORD_MQTT_MESSAGE:
        BODY(mqtt_message, message, {
            field_text(&fields, "topic", body.message.topic);
            field_name(&fields, "payload");
            out_json_bytes(out, body.message.payload);
        })
        break;
    case RECORD_OUTBOX_DONE:
        BODY(outbox_done, done, { field_u64(&fields, "position", body.done.position); })
        break;
    case RECORD_GAP:
        BODY(gap, gap, {
            field_u64(&fields, "first", body.gap.first);
            field_u64(&fields, "last", body.gap.last);
        })
        break;
    default:
        break; /* of a newer release */
    }
#undef BODY
    return status == 0;
}

void item_body(struct codec *codec, const struct item *item, bool unmask, struct out *out)
{
    bool done = false;
    if (!item->decoded) {
        out_text(out, "null");
        return;
    }
    switch (item->record.kind) {
    case RECORD_OBJECT_PUT:
        done = item->put != NULL;
        if (done) {
            body_put(item->put, item->secret && !unmask, out);
        }
        break;
    case RECORD_UP_BATCH:
    case RECORD_DOWN_BATCH:
        done = item->batch != NULL;
        if (done) {
            body_batch(item->batch, out);
        }
        break;
    case RECORD_SNAPSHOT:
        done = item->snapshot != NULL;
        if (done) {
            body_snapshot(item->snapshot, out);
        }
        break;
    case RECORD_POD_STATUS:
        done = body_pod_status(codec, item->record.body, out);
        break;
    case RECORD_DEVICE_STATUS:
        done = body_device_status(codec, item->record.body, out);
        break;
    case RECORD_TWIN_UPDATE:
        done = body_twin_update(codec, item->record.body, out);
        break;
    case RECORD_NODE_STATUS:
        done = body_node_status(codec, item->record.body, out);
        break;
    case RECORD_EDGE_EVENT:
        done = body_edge_event(codec, item->record.body, out);
        break;
    case RECORD_POD_ATTEMPT:
        done = body_pod_attempt(codec, item->record.body, out);
        break;
    default:
        done = body_small(codec, &item->record, out);
        break;
    }
    if (!done) {
        out_text(out, "null");
    }
}
