#include "nodes/cloud/api_object.h"

#include "nodes/cloud/api.h"
#include "nodes/cloud/api_device.h"
#include "schemas/check.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

bool api_object_key(const struct api_resource *resource, const char *namespace_, const char *name,
                    char key[LIMIT_KEY_BYTES])
{
    const int size = snprintf(key, LIMIT_KEY_BYTES, "%s/%s/%s/%s", resource->group,
                              api_resource_stored(resource)->resource, namespace_, name);
    return size > 0 && (size_t)size < LIMIT_KEY_BYTES;
}

void api_object_set_version(json_t *object, uint64_t version)
{
    char text[24];
    (void)snprintf(text, sizeof text, "%" PRIu64, version);
    json_put_text(json_child(object, "metadata"), "resourceVersion", text);
}

/* -- creating --------------------------------------------------------------------------------------- */

static void uid_make(const struct backend *backend, char text[37])
{
    uint8_t r[16];
    backend->random(backend->owner, r, sizeof r);
    r[6] = (uint8_t)((r[6] & 0x0f) | 0x40); /* version 4 */
    r[8] = (uint8_t)((r[8] & 0x3f) | 0x80);
    (void)snprintf(text, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
                   r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7], r[8], r[9], r[10], r[11], r[12],
                   r[13], r[14], r[15]);
}

/* generateName and five characters that cannot be misread, as Kubernetes picks them. */
static void name_generate(const struct backend *backend, json_t *metadata)
{
    static const char alphabet[] = "bcdfghjklmnpqrstvwxz2456789";
    uint8_t random[5];
    backend->random(backend->owner, random, sizeof random);
    char name[LIMIT_NAME_BYTES + 1];
    char suffix[6] = {0};
    for (size_t i = 0; i < 5; i++) {
        suffix[i] = alphabet[random[i] % (sizeof alphabet - 1)];
    }
    (void)snprintf(name, sizeof name, "%.*s%s", (int)(LIMIT_NAME_BYTES - 5),
                   json_text_at(metadata, "generateName"), suffix);
    json_put_text(metadata, "name", name);
}

/* apiVersion and kind are what the URL says, metadata is an object. Absent ones are filled in. */
static bool object_head(const struct api_resource *resource, const char *namespace_, json_t *object,
                        struct api_error *error)
{
    struct text version = {0};
    api_group_version(resource, &version);
    const char *kind = json_text_at(object, "kind");
    const char *given = json_text_at(object, "apiVersion");
    const bool fine = (kind[0] == '\0' || strcmp(kind, resource->kind) == 0) &&
                      (given[0] == '\0' || strcmp(given, version.data) == 0);
    if (!fine) {
        api_error_set(error, 400,
                      "the kind and API version in the data (%s, %s) do not match the ones "
                      "expected here (%s, %s)",
                      kind, given, resource->kind, version.data);
    } else {
        json_put_text(object, "kind", resource->kind);
        json_put_text(object, "apiVersion", version.data);
    }
    text_release(&version);
    if (!fine) {
        return false;
    }
    json_t *metadata = json_child(object, "metadata");
    const char *space = json_text_at(metadata, "namespace");
    if (space[0] != '\0' && strcmp(space, namespace_) != 0) {
        api_error_set(error, 400,
                      "the namespace of the provided object does not match the namespace sent on "
                      "the request");
        return false;
    }
    json_put_text(metadata, "namespace", namespace_[0] == '\0' ? NULL : namespace_);
    (void)json_object_del(metadata, "selfLink");
    (void)json_object_del(metadata, "managedFields");
    return true;
}

/* Members that are null mean nothing; null creationTimestamp is what every client sends. */
static void drop_nulls(json_t *value)
{
    if (json_is_object(value)) {
        const char *name;
        void *next;
        json_t *member;
        json_object_foreach_safe(value, next, name, member) {
            if (json_is_null(member)) {
                (void)json_object_del(value, name);
            } else {
                drop_nulls(member);
            }
        }
    } else if (json_is_array(value)) {
        for (size_t i = 0; i < json_array_size(value); i++) {
            drop_nulls(json_array_get(value, i));
        }
    }
}

/* From the version that was written to the one that is stored. false: it is not sensible. */
static bool object_store(const struct api_resource *resource, const json_t *old, json_t *object,
                         struct api_error *error)
{
    if (!api_device_kind(resource)) {
        return true;
    }
    if (api_resource_stored(resource) != resource) {
        api_device_validate(resource, object, error); /* in the words of who wrote it */
        api_error_invalid(error, resource->group, resource->kind,
                          json_text_at(object, "metadata.name"));
    }
    if (error->code == 0) {
        api_device_store(resource, old, object);
    }
    return error->code == 0;
}

static bool object_finish(const struct api_resource *resource, const json_t *object,
                          struct api_error *error)
{
    api_object_validate(resource, object, error);
    api_error_invalid(error, resource->group, resource->kind,
                      json_text_at(object, "metadata.name"));
    return error->code == 0;
}

bool api_object_create(const struct backend *backend, const struct api_resource *resource,
                       const char *namespace_, json_t *object, struct api_error *error)
{
    if (!object_head(resource, namespace_, object, error)) {
        return false;
    }
    json_t *metadata = json_object_get(object, "metadata");
    if (json_text_at(metadata, "resourceVersion")[0] != '\0') {
        api_error_set(error, 400, "resourceVersion should not be set on objects to be created");
        return false;
    }
    (void)json_object_del(metadata, "resourceVersion");
    drop_nulls(object);
    if (json_text_at(metadata, "name")[0] == '\0') {
        if (json_text_at(metadata, "generateName")[0] == '\0') {
            api_error_cause(error, "FieldValueRequired", "metadata.name",
                            "Required value: name or generateName is required");
            api_error_invalid(error, resource->group, resource->kind, "");
            return false;
        }
        name_generate(backend, metadata);
    }
    if (!object_store(resource, NULL, object, error)) {
        return false;
    }
    resource = api_resource_stored(resource);
    char uid[37];
    uid_make(backend, uid);
    char now[TIME_TEXT_BYTES];
    json_put_text(metadata, "uid", uid);
    json_put_text(metadata, "creationTimestamp",
                  time_text(backend->now_ms(backend->owner), now));
    (void)json_object_del(metadata, "deletionTimestamp");
    (void)json_object_del(metadata, "deletionGracePeriodSeconds");
    (void)json_object_del(metadata, "generation");
    if (resource->has_status) {
        (void)json_object_del(object, "status");
        json_put_number(metadata, "generation", 1);
    }
    api_object_default(resource, object);
    return object_finish(resource, object, error);
}

/* -- updating --------------------------------------------------------------------------------------- */

static void keep_member(json_t *object, const json_t *old, const char *name)
{
    json_t *value = json_object_get(old, name);
    if (value == NULL) {
        (void)json_object_del(object, name);
    } else {
        CHECK(json_object_set(object, name, value) == 0);
    }
}

static void conflict(const struct api_resource *resource, const char *name, const char *why,
                     struct api_error *error)
{
    api_error_set(error, 409, "Operation cannot be fulfilled on %s%s%s \"%s\": %s",
                  resource->resource, resource->group[0] == '\0' ? "" : ".", resource->group, name,
                  why);
    api_error_about(error, resource->group, resource->resource, name);
}

/* Of a new status keep what differs from what facts and verdicts say, or was kept before. */
static json_t *status_wish(const json_t *joined, const json_t *wish, json_t *status)
{
    json_t *kept = json_object();
    const json_t *seen = json_object_get(joined, "status");
    const json_t *before = json_object_get(wish, "status");
    const char *name;
    json_t *value;
    json_object_foreach(status, name, value) {
        const json_t *present = json_object_get(seen, name);
        if (json_object_get(before, name) != NULL || present == NULL ||
            !json_equal(value, present)) {
            CHECK(json_object_set(kept, name, value) == 0);
        }
    }
    return kept;
}

static bool secret_changed(const json_t *wish, const json_t *object)
{
    static const char *const members[] = {"data", "binaryData", "immutable"};
    for (size_t i = 0; i < 3; i++) {
        const json_t *a = json_object_get(wish, members[i]);
        const json_t *b = json_object_get(object, members[i]);
        if ((a == NULL) != (b == NULL) || (a != NULL && !json_equal(a, b))) {
            return true;
        }
    }
    return false;
}

/* What may not change once it is there. */
static void update_validate(const struct api_resource *resource, const json_t *wish,
                            const json_t *object, struct api_error *error)
{
    const char *node = json_text_at(wish, "spec.nodeName");
    if (resource->id == API_POD && node[0] != '\0' &&
        strcmp(node, json_text_at(object, "spec.nodeName")) != 0) {
        api_error_cause(error, "FieldValueForbidden", "spec.nodeName",
                        "Forbidden: a pod stays on its node");
    }
    const bool data = resource->id == API_SECRET || resource->id == API_CONFIGMAP;
    if (data && json_true_at(wish, "immutable") && secret_changed(wish, object)) {
        api_error_cause(error, "FieldValueForbidden", "data",
                        "Forbidden: field is immutable when `immutable` is set");
    }
    if (resource->id == API_SECRET &&
        strcmp(json_text_at(wish, "type"), json_text_at(object, "type")) != 0) {
        api_error_cause(error, "FieldValueInvalid", "type",
                        "Invalid value: \"%s\": field is immutable", json_text_at(object, "type"));
    }
}

bool api_object_update(const struct api_resource *resource, const char *namespace_,
                       const char *name, const json_t *joined, const json_t *wish, json_t *object,
                       bool status, struct api_error *error)
{
    if (!object_head(resource, namespace_, object, error)) {
        return false;
    }
    json_t *metadata = json_object_get(object, "metadata");
    const json_t *old = json_object_get(wish, "metadata");
    if (strcmp(json_text_at(metadata, "name"), name) != 0) {
        api_error_set(error, 400,
                      "the name of the object (%s) does not match the name on the URL (%s)",
                      json_text_at(metadata, "name"), name);
        return false;
    }
    const char *version = json_text_at(metadata, "resourceVersion");
    const char *uid = json_text_at(metadata, "uid");
    if (uid[0] != '\0' && strcmp(uid, json_text_at(old, "uid")) != 0) {
        char why[256];
        (void)snprintf(why, sizeof why,
                       "Precondition failed: UID in precondition: %.60s, UID in object meta: %.60s",
                       uid, json_text_at(old, "uid"));
        conflict(resource, name, why, error);
        return false;
    }
    if (version[0] != '\0' && strcmp(version, "0") != 0 &&
        strcmp(version, json_text_at(joined, "metadata.resourceVersion")) != 0) {
        conflict(resource, name,
                 "the object has been modified; please apply your changes to the latest version "
                 "and try again",
                 error);
        return false;
    }

    if (status) {
        json_t *kept = status_wish(joined, wish, json_child(object, "status"));
        if (resource->id == API_DEVICE) {
            api_device_forget_facts(kept);
        }
        json_t *next = json_deep_copy(wish);
        CHECK(next != NULL);
        if (json_object_size(kept) == 0) {
            (void)json_object_del(next, "status");
            json_decref(kept);
        } else {
            CHECK(json_object_set_new(next, "status", kept) == 0);
        }
        (void)json_object_clear(object);
        CHECK(json_object_update(object, next) == 0);
        json_decref(next);
        return object_finish(resource, object, error);
    }
    static const char *const ours[] = {"uid", "creationTimestamp", "deletionTimestamp",
                                       "deletionGracePeriodSeconds", "generation", "generateName"};
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++) {
        keep_member(metadata, old, ours[i]);
    }
    (void)json_object_del(metadata, "resourceVersion");
    drop_nulls(object);
    if (!object_store(resource, wish, object, error)) {
        return false;
    }
    resource = api_resource_stored(resource);
    if (resource->has_status) {
        keep_member(object, wish, "status");
    }
    if (json_object_get(old, "deletionTimestamp") != NULL) {
        /* being deleted: finalizers may go, none may come */
        const json_t *before = json_object_get(old, "finalizers");
        const json_t *after = json_object_get(metadata, "finalizers");
        if (json_array_size(after) > json_array_size(before)) {
            api_error_cause(error, "FieldValueForbidden", "metadata.finalizers",
                            "Forbidden: no new finalizers can be added if the object is being "
                            "deleted");
        }
    }
    if (resource->id == API_NAMESPACE) {
        /* spec.finalizers changes through the controller alone, labels do not lose the name */
        keep_member(object, wish, "spec");
    }
    api_object_default(resource, object);
    update_validate(resource, wish, object, error);
    if (resource->has_status) {
        const json_t *a = json_object_get(wish, "spec");
        const json_t *b = json_object_get(object, "spec");
        if (a != NULL && b != NULL && !json_equal(a, b)) {
            json_put_number(metadata, "generation", json_number_at(old, "generation", 1) + 1);
        }
    }
    return object_finish(resource, object, error);
}

void api_object_mark(json_t *wish, int64_t now_ms, int64_t grace_s)
{
    json_t *metadata = json_child(wish, "metadata");
    char text[TIME_TEXT_BYTES];
    json_put_text(metadata, "deletionTimestamp", time_text(now_ms + grace_s * 1000, text));
    json_put_number(metadata, "deletionGracePeriodSeconds", grace_s);
    if (json_object_get(metadata, "generation") != NULL) {
        json_put_number(metadata, "generation", json_number_at(metadata, "generation", 1) + 1);
    }
}

/* -- the envelope ----------------------------------------------------------------------------------- */

static int64_t request_of(const json_t *container, const char *resource_name)
{
    const json_t *requests = json_at(container, "resources.requests");
    int64_t milli = 0;
    (void)quantity_parse(json_object_get(requests, resource_name), &milli);
    return milli > 0 ? milli : 0;
}

/* Containers run side by side, init containers one after the other: the larger of the two counts. */
static int64_t request_sum(const json_t *spec, const char *resource_name)
{
    int64_t sum = 0;
    const json_t *containers = json_object_get(spec, "containers");
    for (size_t i = 0; i < json_array_size(containers); i++) {
        if (__builtin_add_overflow(sum, request_of(json_array_get(containers, i), resource_name),
                                   &sum)) {
            return INT64_MAX;
        }
    }
    const json_t *init = json_object_get(spec, "initContainers");
    for (size_t i = 0; i < json_array_size(init); i++) {
        const int64_t one = request_of(json_array_get(init, i), resource_name);
        sum = one > sum ? one : sum;
    }
    return sum;
}

struct reference_list {
    struct reference *items; /* lent by the codec, room for `capacity` */
    uint32_t count;
    uint32_t capacity;
};

/* A second mention is the same need; it is optional only if each mention is. */
static void reference_add(struct reference_list *list, const char *resource, const char *name,
                          bool optional)
{
    if (name[0] == '\0') {
        return;
    }
    for (uint32_t i = 0; i < list->count; i++) {
        if (strcmp(list->items[i].resource, resource) == 0 &&
            strcmp(list->items[i].name, name) == 0) {
            list->items[i].optional = list->items[i].optional && optional;
            return;
        }
    }
    if (list->count < list->capacity) {
        list->items[list->count] = (struct reference){resource, name, optional};
        list->count++;
    }
}

static void reference_containers(struct reference_list *list, const json_t *containers)
{
    for (size_t i = 0; i < json_array_size(containers); i++) {
        const json_t *container = json_array_get(containers, i);
        const json_t *env = json_object_get(container, "env");
        for (size_t j = 0; j < json_array_size(env); j++) {
            const json_t *from = json_at(json_array_get(env, j), "valueFrom");
            reference_add(list, "configmaps", json_text_at(from, "configMapKeyRef.name"),
                          json_true_at(from, "configMapKeyRef.optional"));
            reference_add(list, "secrets", json_text_at(from, "secretKeyRef.name"),
                          json_true_at(from, "secretKeyRef.optional"));
        }
        const json_t *whole = json_object_get(container, "envFrom");
        for (size_t j = 0; j < json_array_size(whole); j++) {
            const json_t *from = json_array_get(whole, j);
            reference_add(list, "configmaps", json_text_at(from, "configMapRef.name"),
                          json_true_at(from, "configMapRef.optional"));
            reference_add(list, "secrets", json_text_at(from, "secretRef.name"),
                          json_true_at(from, "secretRef.optional"));
        }
    }
}

static void reference_volumes(struct reference_list *list, const json_t *volumes)
{
    for (size_t i = 0; i < json_array_size(volumes); i++) {
        const json_t *volume = json_array_get(volumes, i);
        reference_add(list, "configmaps", json_text_at(volume, "configMap.name"),
                      json_true_at(volume, "configMap.optional"));
        reference_add(list, "secrets", json_text_at(volume, "secret.secretName"),
                      json_true_at(volume, "secret.optional"));
        const json_t *sources = json_at(volume, "projected.sources");
        for (size_t j = 0; j < json_array_size(sources); j++) {
            const json_t *source = json_array_get(sources, j);
            reference_add(list, "configmaps", json_text_at(source, "configMap.name"),
                          json_true_at(source, "configMap.optional"));
            reference_add(list, "secrets", json_text_at(source, "secret.name"),
                          json_true_at(source, "secret.optional"));
        }
    }
}

#define REFERENCES_MAX 1024u

static void envelope_pod(struct codec *codec, const json_t *wish, struct object *out)
{
    const json_t *spec = json_object_get(wish, "spec");
    out->node_name = json_text_at(spec, "nodeName");
    out->request_cpu_milli = request_sum(spec, "cpu");
    out->request_memory_bytes = request_sum(spec, "memory") / 1000;
    struct reference_list list = {.capacity = REFERENCES_MAX};
    list.items = codec_array(codec, REFERENCES_MAX, sizeof *list.items);
    reference_volumes(&list, json_object_get(spec, "volumes"));
    reference_containers(&list, json_object_get(spec, "initContainers"));
    reference_containers(&list, json_object_get(spec, "containers"));
    const json_t *pull = json_object_get(spec, "imagePullSecrets");
    for (size_t i = 0; i < json_array_size(pull); i++) {
        /* as in Kubernetes a missing one is no reason not to try */
        reference_add(&list, "secrets", json_text_at(json_array_get(pull, i), "name"), true);
    }
    out->references = list.items;
    out->reference_count = list.count;
}

static void envelope_metadata(struct codec *codec, const json_t *metadata, struct object *out)
{
    json_t *labels = json_object_get(metadata, "labels");
    struct pair *pairs = codec_array(codec, json_object_size(labels) + 1, sizeof *pairs);
    const char *key;
    json_t *value;
    json_object_foreach(labels, key, value) {
        if (json_is_string(value)) {
            pairs[out->label_count] = (struct pair){key, json_string_value(value)};
            out->label_count++;
        }
    }
    out->labels = pairs;

    const json_t *owners = json_object_get(metadata, "ownerReferences");
    const char **uids = codec_array(codec, json_array_size(owners) + 1, sizeof *uids);
    for (size_t i = 0; i < json_array_size(owners); i++) {
        uids[i] = json_text_at(json_array_get(owners, i), "uid");
    }
    out->owners = uids;
    out->owner_count = (uint32_t)json_array_size(owners);
}

static void envelope_finalizers(struct codec *codec, const json_t *wish, struct object *out)
{
    const json_t *own = json_at(wish, "metadata.finalizers");
    /* a namespace is also held by its spec.finalizers, until its content is gone */
    const json_t *space = strcmp(out->resource, "namespaces") == 0
                              ? json_at(wish, "spec.finalizers")
                              : NULL;
    const size_t max = json_array_size(own) + json_array_size(space);
    const char **names = codec_array(codec, max + 1, sizeof *names);
    uint32_t count = json_strings(own, names, (uint32_t)max);
    count += json_strings(space, names + count, (uint32_t)max - count);
    out->finalizers = names;
    out->finalizer_count = count;
}

/* Two envelopes that say the same have the same tag, and no others: of a device its types and revisions say
 * something that its JSON does not. */
static struct tag envelope_tag(const struct backend *backend, const char *key, struct bytes json,
                               const struct device_wish *device)
{
    if (device == NULL) {
        return backend->tag(backend->owner, bytes_text(key), json);
    }
    struct text all = {0};
    text_append(&all, json.data, json.size);
    for (uint32_t i = 0; i < device->property_count; i++) {
        text_print(&all, "\n%" PRIu64 " %s", device->properties[i].revision,
                   device->properties[i].type);
    }
    const struct tag tag = backend->tag(backend->owner, bytes_text(key), text_bytes(&all));
    text_release(&all);
    return tag;
}

int api_object_put(const struct backend *backend, struct codec *codec, const char *user,
                   const struct api_resource *resource, const json_t *wish,
                   const struct backend_row *row, enum put_mode mode, uint64_t if_version,
                   const char *if_uid, struct bytes *out)
{
    resource = api_resource_stored(resource);
    struct text json = {0};
    json_write(&json, wish);
    if (json.size > LIMIT_OBJECT_BYTES) {
        text_release(&json);
        return STATUS_TOO_LARGE;
    }
    const json_t *metadata = json_object_get(wish, "metadata");
    struct object_put put = {
        .mode = (uint8_t)mode,
        .if_version = if_version,
        .if_uid = if_uid,
        .object =
            {
                .group = resource->group,
                .version = resource->version,
                .kind = resource->kind,
                .resource = resource->resource,
                .namespace_ = json_text_at(metadata, "namespace"),
                .name = json_text_at(metadata, "name"),
                .uid = json_text_at(metadata, "uid"),
                .generation = json_number_at(metadata, "generation", 0),
                .deletion_grace_s = json_number_at(metadata, "deletionGracePeriodSeconds", 0),
                .json = text_bytes(&json),
            },
    };
    const char *deletion = json_text_at(metadata, "deletionTimestamp");
    put.object.deletion_time_ms = deletion[0] == '\0' ? 0 : time_parse(deletion);
    envelope_metadata(codec, metadata, &put.object);
    envelope_finalizers(codec, wish, &put.object);
    if (resource->id == API_POD) {
        envelope_pod(codec, wish, &put.object);
    } else if (resource->id == API_DEVICE) {
        put.object.node_name = json_text_at(wish, "spec.nodeName");
        put.object.device = api_device_wish_next(backend, codec, wish, row);
    }
    char key[LIMIT_KEY_BYTES];
    int status = STATUS_TOO_LARGE;
    if (api_object_key(resource, put.object.namespace_, put.object.name, key)) {
        put.object.tag = envelope_tag(backend, key, text_bytes(&json), put.object.device);
        struct bytes body;
        status = codec_object_put_build(codec, &put, &body);
        if (status == 0) {
            const struct record record = {
                .kind = RECORD_OBJECT_PUT,
                .key = key,
                .origin = backend->name,
                .time_ms = backend->now_ms(backend->owner),
                .body = body,
                .user = user,
            };
            status = codec_record_build(codec, &record, out);
        }
    }
    text_release(&json);
    return status;
}

int api_object_remove(const struct backend *backend, struct codec *codec, const char *user,
                      const char *key, uint64_t if_version, const char *if_uid, struct bytes *out)
{
    const struct object_remove remove = {
        .if_version = if_version, .if_uid = if_uid, .reason = REMOVE_DELETED};
    struct bytes body;
    const int status = codec_object_remove_build(codec, &remove, &body);
    if (status != 0) {
        return status;
    }
    const struct record record = {
        .kind = RECORD_OBJECT_REMOVE,
        .key = key,
        .origin = backend->name,
        .time_ms = backend->now_ms(backend->owner),
        .body = body,
        .user = user,
    };
    return codec_record_build(codec, &record, out);
}

/* -- records that the core makes of JSON ------------------------------------------------------------ */

/* Create an object of our own and make its record. object is taken. */
static int build_create(const struct backend *backend, struct codec *codec, enum api_kind kind,
                        const char *space, json_t *object, struct bytes *out)
{
    const struct api_resource *resource = api_resource_get(kind);
    struct api_error error = {0};
    int status = STATUS_MALFORMED;
    if (api_object_create(backend, resource, space, object, &error)) {
        status = api_object_put(backend, codec, NULL, resource, object, NULL, PUT_CREATE, 0, "", out);
    }
    api_error_release(&error);
    json_decref(object);
    return status;
}

int api_build_node(const struct backend *backend, struct codec *codec, const char *name,
                   const struct pair *labels, uint32_t label_count, struct bytes *out)
{
    json_t *object = json_object();
    json_t *metadata = json_child(object, "metadata");
    json_put_text(metadata, "name", name);
    json_t *set = json_child(metadata, "labels");
    json_put_text(set, "kubernetes.io/hostname", name);
    for (uint32_t i = 0; i < label_count; i++) {
        json_put_text(set, labels[i].key, labels[i].value);
    }
    return build_create(backend, codec, API_NODE, "", object, out);
}

int api_build_namespace(const struct backend *backend, struct codec *codec, const char *name,
                        struct bytes *out)
{
    json_t *object = json_object();
    json_put_text(json_child(object, "metadata"), "name", name);
    return build_create(backend, codec, API_NAMESPACE, "", object, out);
}

/* FNV-1a, several texts one after the other. */
static uint64_t text_hash(uint64_t hash, const char *text)
{
    for (; *text != '\0'; text++) {
        hash = (hash ^ (uint8_t)*text) * 0x100000001b3;
    }
    return (hash ^ 0xff) * 0x100000001b3;
}

int api_build_event(const struct backend *backend, struct codec *codec,
                    const struct backend_row *pod, const char *type, const char *reason,
                    const char *message, struct bytes *out)
{
    json_t *wish = api_object_wish(codec, pod);
    if (wish == NULL) {
        return STATUS_MALFORMED;
    }
    const char *pod_name = json_text_at(wish, "metadata.name");
    const char *space = json_text_at(wish, "metadata.namespace");
    const char *uid = json_text_at(wish, "metadata.uid");
    const uint64_t hash =
        text_hash(text_hash(text_hash(0xcbf29ce484222325, uid), reason), message);
    char name[LIMIT_NAME_BYTES + 24];
    char now[TIME_TEXT_BYTES];
    (void)snprintf(name, sizeof name, "%.200s.%016llx", pod_name, (unsigned long long)hash);
    time_text(backend->now_ms(backend->owner), now);
    json_t *object = json_object();
    json_t *metadata = json_child(object, "metadata");
    json_put_text(metadata, "name", name);
    json_put_text(metadata, "namespace", space);
    json_t *involved = json_child(object, "involvedObject");
    json_put_text(involved, "kind", "Pod");
    json_put_text(involved, "namespace", space);
    json_put_text(involved, "name", pod_name);
    json_put_text(involved, "uid", uid);
    json_put_text(involved, "apiVersion", "v1");
    json_put_text(object, "reason", reason);
    json_put_text(object, "message", message);
    json_put_text(json_child(object, "source"), "component", "default-scheduler");
    json_put_text(object, "firstTimestamp", now);
    json_put_text(object, "lastTimestamp", now);
    json_put_number(object, "count", 1);
    json_put_text(object, "type", type);
    json_put_text(object, "reportingComponent", "default-scheduler");
    json_put_text(object, "reportingInstance", backend->name);
    const int status = build_create(backend, codec, API_EVENT, space, object, out);
    json_decref(wish);
    return status;
}

int api_build_binding(const struct backend *backend, struct codec *codec,
                      const struct backend_row *pod, const char *node, struct bytes *out)
{
    const struct api_resource *resource = api_resource_get(API_POD);
    json_t *wish = api_object_wish(codec, pod);
    int status = STATUS_MALFORMED;
    if (wish != NULL && json_text_at(wish, "spec.nodeName")[0] == '\0' &&
        json_at(wish, "metadata.deletionTimestamp") == NULL && api_name_valid(node, false)) {
        json_put_text(json_child(wish, "spec"), "nodeName", node);
        status = api_object_put(backend, codec, NULL, resource, wish, pod, PUT_UPDATE, pod->wish_version,
                                json_text_at(wish, "metadata.uid"), out);
    }
    json_decref(wish);
    return status;
}

static bool taint_tolerated(const json_t *taint, const json_t *tolerations)
{
    const char *effect = json_text_at(taint, "effect");
    if (strcmp(effect, "PreferNoSchedule") == 0) {
        return true;
    }
    for (size_t i = 0; i < json_array_size(tolerations); i++) {
        const json_t *t = json_array_get(tolerations, i);
        const char *key = json_text_at(t, "key");
        const char *only = json_text_at(t, "effect");
        const bool exists = strcmp(json_text_at(t, "operator"), "Exists") == 0;
        const bool key_fits = (key[0] == '\0' && exists) ||
                              strcmp(key, json_text_at(taint, "key")) == 0;
        const bool value_fits =
            exists || strcmp(json_text_at(t, "value"), json_text_at(taint, "value")) == 0;
        if (key_fits && value_fits && (only[0] == '\0' || strcmp(only, effect) == 0)) {
            return true;
        }
    }
    return false;
}

/* Whether the pod bears a taint that nobody wrote into the node, since a field or a report of it says the same. */
static bool taint_implied_tolerated(const char *key, const json_t *tolerations)
{
    json_t *taint = json_pack("{s:s, s:s}", "key", key, "effect", "NoSchedule");
    CHECK(taint != NULL);
    const bool tolerated = taint_tolerated(taint, tolerations);
    json_decref(taint);
    return tolerated;
}

/* A node that reports a full disk: pods it runs stay, new ones would wait there for room.
 *
 *   source  kubernetes pkg/controller/nodelifecycle, taints by condition. Differs: concluded here, never written
 *           into the node, so it is gone with the report that gave it; no taint for pressure of memory and
 *           processes, which no edge reports */
static bool node_disk_pressed(const struct node_status *status)
{
    for (uint32_t i = 0; i < status->condition_count; i++) {
        if (strcmp(status->conditions[i].type, "DiskPressure") == 0) {
            return status->conditions[i].status == CONDITION_TRUE;
        }
    }
    return false;
}

static const char *pod_unfit(const json_t *pod, const json_t *node)
{
    const json_t *tolerations = json_at(pod, "spec.tolerations");
    if (json_true_at(node, "spec.unschedulable") &&
        !taint_implied_tolerated("node.kubernetes.io/unschedulable", tolerations)) {
        return "node is unschedulable";
    }
    const json_t *taints = json_at(node, "spec.taints");
    for (size_t i = 0; i < json_array_size(taints); i++) {
        if (!taint_tolerated(json_array_get(taints, i), tolerations)) {
            return "node has a taint that the pod does not tolerate";
        }
    }
    json_t *selector = json_at(pod, "spec.nodeSelector");
    const json_t *labels = json_at(node, "metadata.labels");
    const char *key;
    json_t *value;
    json_object_foreach(selector, key, value) {
        const json_t *label = json_object_get(labels, key);
        if (label == NULL || !json_equal(label, value)) {
            return "node does not match the pod's node selector";
        }
    }
    return NULL;
}

bool api_pod_fits(const struct backend_row *pod, const struct backend_row *node,
                  const char **out_why)
{
    struct codec *codec = codec_create();
    json_t *pod_wish = api_object_wish(codec, pod);
    json_t *node_wish = api_object_wish(codec, node);
    *out_why = pod_wish == NULL || node_wish == NULL ? "the object cannot be read"
                                                     : pod_unfit(pod_wish, node_wish);
    struct node_status status;
    if (*out_why == NULL && node->fact.size > 0 &&
        codec_node_status_read(codec, node->fact, &status) == 0 && node_disk_pressed(&status) &&
        !taint_implied_tolerated("node.kubernetes.io/disk-pressure",
                                 json_at(pod_wish, "spec.tolerations"))) {
        *out_why = "node(s) had disk pressure";
    }
    json_decref(pod_wish);
    json_decref(node_wish);
    codec_destroy(codec);
    return *out_why == NULL;
}
