/* What a Device wishes of its edge, and what the edge says of it. */
#include "nodes/cloud/api_device.h"

#include "nodes/cloud/api_object.h"
#include "schemas/check.h"

#include <inttypes.h>
#include <stdio.h>

/* -- wishing ------------------------------------------------------------------------------------------ */

const char *api_device_model_type(const json_t *model, const char *property)
{
    static const char *const types[][2] = {
        {"INT", "int"},         {"FLOAT", "float"}, {"DOUBLE", "double"}, {"STRING", "string"},
        {"BOOLEAN", "boolean"}, {"BYTES", "bytes"}, {"STREAM", "stream"},
    };
    const json_t *entry = api_device_entry(json_at(model, "spec.properties"), "name", property);
    const char *type = json_text_at(entry, "type");
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (strcmp(type, types[i][0]) == 0) {
            return types[i][1];
        }
    }
    return NULL;
}

static const struct device_property *wish_find(const struct device_wish *wish, const char *name)
{
    for (uint32_t i = 0; wish != NULL && i < wish->property_count; i++) {
        if (strcmp(wish->properties[i].name, name) == 0) {
            return &wish->properties[i];
        }
    }
    return NULL;
}

static struct device_property wish_property(const json_t *property, const json_t *old,
                                            const struct device_property *before,
                                            const json_t *model, uint64_t revision)
{
    const char *name = json_text_at(property, "name");
    const json_t *desired = json_object_get(property, "desired");
    const json_t *was = json_object_get(old, "desired");
    const char *type = json_text_at(desired, "metadata.type");
    const char *modelled = api_device_model_type(model, name);
    const bool stays = before != NULL && old != NULL &&
                       (desired == NULL || was == NULL ? desired == was : json_equal(desired, was));
    return (struct device_property){
        .name = name,
        .type = type[0] != '\0'    ? type
                : modelled != NULL ? modelled
                : before != NULL   ? before->type
                                   : "string",
        .has_desired = json_is_string(json_object_get(desired, "value")),
        .desired = json_text_at(desired, "value"),
        .optional = false,
        .revision = stays ? before->revision : revision,
    };
}

const struct device_wish *api_device_wish(struct codec *codec, const json_t *wish,
                                          const json_t *old, const struct device_wish *before,
                                          const json_t *model, uint64_t revision)
{
    CHECK(revision > 0);
    const json_t *list = json_at(wish, "spec.properties");
    const json_t *old_list = json_at(old, "spec.properties");
    struct device_property *properties = codec_array(codec, LIMIT_DEVICE_TWINS, sizeof *properties);
    struct device_wish *out = codec_array(codec, 1, sizeof *out);
    *out = (struct device_wish){
        .description = json_text_at(wish, "metadata.labels.description"),
        .properties = properties,
    };
    for (size_t i = 0; i < json_array_size(list) && i < LIMIT_DEVICE_TWINS; i++) {
        const json_t *property = json_array_get(list, i);
        const char *name = json_text_at(property, "name");
        properties[i] = wish_property(property, api_device_entry(old_list, "name", name),
                                      wish_find(before, name), model, revision);
        out->property_count++;
    }
    const json_t *annotations = json_at(wish, "metadata.annotations");
    const char *keep = json_string_value(json_object_get(annotations, DEVICE_KEEP_VALUES));
    out->keep_values = keep != NULL && strcmp(keep, "true") == 0;
    return out;
}

json_t *api_device_model_read(const struct backend *backend, const json_t *wish)
{
    const char *name = json_text_at(wish, "spec.deviceModelRef.name");
    char key[LIMIT_KEY_BYTES];
    struct backend_view *view;
    uint64_t version;
    if (!api_object_key(api_resource_get(API_DEVICE_MODEL),
                        json_text_at(wish, "metadata.namespace"), name, key) ||
        backend->view_open(backend->owner, &view, &version) != 0) {
        return NULL;
    }
    struct codec *codec = codec_create();
    struct backend_row row;
    json_t *model = backend->view_get(backend->owner, view, bytes_text(key), &row) == 0
                        ? api_object_wish(codec, &row)
                        : NULL;
    codec_destroy(codec);
    backend->view_close(backend->owner, view);
    return model;
}

const struct device_wish *api_device_wish_next(const struct backend *backend, struct codec *codec,
                                               const json_t *wish, const struct backend_row *row)
{
    struct object_put put = {.object = {.device = NULL}};
    json_t *old = NULL;
    if (row != NULL && row->wish.size > 0 && codec_object_put_read(codec, row->wish, &put) == 0) {
        old = api_object_wish(codec, row);
    }
    json_t *model = api_device_model_read(backend, wish);
    /* Later than all that was ever wished of the device: versions never go back, not even in a cluster that was
     * restored from a backup. */
    const uint64_t revision = backend->version(backend->owner) + 1;
    const struct device_wish *next =
        api_device_wish(codec, wish, old, put.object.device, model, revision);
    json_decref(model);
    json_decref(old);
    return next;
}

/* -- reporting ---------------------------------------------------------------------------------------- */

static void put(json_t *object, const char *name, json_t *taken)
{
    CHECK(json_object_set_new(object, name, taken) == 0);
}

static json_t *value_json(const char *value, int64_t time_ms, const char *type)
{
    json_t *metadata = json_object();
    char text[24];
    (void)snprintf(text, sizeof text, "%" PRId64, time_ms);
    json_put_text(metadata, "timestamp", text);
    if (type[0] != '\0') {
        json_put_text(metadata, "type", type);
    }
    json_t *out = json_object();
    json_put_text(out, "value", value);
    put(out, "metadata", metadata);
    return out;
}

void api_device_forget_facts(json_t *status)
{
    static const char *const facts[] = {"twins", "state", "reason", "message", "lastOnlineTime"};
    for (size_t i = 0; i < sizeof facts / sizeof facts[0]; i++) {
        (void)json_object_del(status, facts[i]);
    }
}

/* How the device is: what its mapper said, unless nobody has heard of its node since. */
static void state_join(const struct backend *backend, json_t *status, const char *node,
                       const char *state)
{
    if (state[0] == '\0') {
        return;
    }
    if (backend->node_answers(backend->owner, node)) {
        json_put_text(status, "state", state);
        return;
    }
    struct text message = {0};
    text_print(&message, "node %s does not answer; the device was last said to be %s", node, state);
    json_put_text(status, "state", "unknown");
    json_put_text(status, "reason", "NodeNotReady");
    json_put_text(status, "message", message.data);
    text_release(&message);
}

void api_device_join(const struct backend *backend, struct codec *codec,
                     const struct backend_row *row, json_t *object)
{
    json_t *status = json_child(object, "status");
    api_device_forget_facts(status);
    struct device_status fact;
    if (row->fact.size > 0 && codec_device_status_read(codec, row->fact, &fact) == 0) {
        json_t *twins = json_array();
        for (uint32_t i = 0; i < fact.twin_count; i++) {
            const struct twin *twin = &fact.twins[i];
            if (!twin->has_expected && !twin->has_actual) {
                continue;
            }
            json_t *entry = json_object();
            json_put_text(entry, "propertyName", twin->key);
            if (twin->has_expected) {
                put(entry, "observedDesired",
                    value_json(twin->expected, twin->expected_ms, twin->type));
            }
            if (twin->has_actual) {
                put(entry, "reported", value_json(twin->actual, twin->actual_ms, twin->type));
            }
            CHECK(json_array_append_new(twins, entry) == 0);
        }
        put(status, "twins", twins);
        if (json_array_size(twins) == 0) {
            (void)json_object_del(status, "twins");
        }
        state_join(backend, status, api_device_node(object), fact.state);
        if (fact.last_online_ms > 0) {
            char text[TIME_TEXT_BYTES];
            json_put_text(status, "lastOnlineTime", time_text(fact.last_online_ms, text));
        }
    }
    if (json_object_size(status) == 0) {
        (void)json_object_del(object, "status");
    }
}
