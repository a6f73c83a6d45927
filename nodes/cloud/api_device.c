/* Devices in v1alpha2 and as they are stored. */
#include "nodes/cloud/api_device.h"

#include "nodes/cloud/api_schema.h"
#include "schemas/check.h"

#include <stdio.h>

bool api_device_kind(const struct api_resource *resource)
{
    const enum api_kind stored = api_resource_stored(resource)->id;
    return stored == API_DEVICE || stored == API_DEVICE_MODEL;
}

const struct schema_type *api_device_type(enum api_kind kind, const char *path)
{
    const struct schema_type *type = api_schema(kind);
    while (*path != '\0') {
        char name[64] = "";
        const size_t size = strcspn(path, ".");
        CHECK(size < sizeof name);
        memcpy(name, path, size);
        const struct schema_field *field = schema_find(type, name);
        CHECK(field != NULL);
        type = field->type;
        path += size + (path[size] == '.' ? 1 : 0);
    }
    return type;
}

json_t *api_device_entry(const json_t *list, const char *name, const char *text)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *entry = json_array_get(list, i);
        if (strcmp(json_text_at(entry, name), text) == 0) {
            return entry;
        }
    }
    return NULL;
}

static void put(json_t *object, const char *name, json_t *taken)
{
    CHECK(json_object_set_new(object, name, taken) == 0);
}

static void append(json_t *list, json_t *taken)
{
    CHECK(json_array_append_new(list, taken) == 0);
}

void api_device_copy(json_t *to, const char *name, const json_t *from)
{
    const json_t *value = json_object_get(from, name);
    if (value != NULL) {
        put(to, name, json_deep_copy(value));
    }
}

/* Both absent, or equal. */
static bool same(const json_t *a, const json_t *b)
{
    return a == NULL || b == NULL ? a == b : json_equal(a, b);
}

/* A member that is set to a new value, or removed when that is NULL. */
static void put_or_remove(json_t *object, const char *name, json_t *taken)
{
    if (taken == NULL) {
        (void)json_object_del(object, name);
    } else {
        put(object, name, taken);
    }
}

/* -- the node ----------------------------------------------------------------------------------------- */

/* The one value of a selector that KubeEdge looks at. */
static const char *selector_node(const json_t *selector)
{
    const json_t *terms = json_object_get(selector, "nodeSelectorTerms");
    const json_t *expressions = json_object_get(json_array_get(terms, 0), "matchExpressions");
    const json_t *values = json_object_get(json_array_get(expressions, 0), "values");
    const char *node = json_string_value(json_array_get(values, 0));
    return node == NULL ? "" : node;
}

const char *api_device_node(const json_t *device)
{
    const json_t *selector = json_at(device, "spec.nodeSelector");
    return selector != NULL ? selector_node(selector) : json_text_at(device, "spec.nodeName");
}

/* NULL: bound to no node. */
static json_t *selector_of(const char *node)
{
    return node[0] == '\0'
               ? NULL
               : json_pack("{s:[{s:[{s:s, s:s, s:[s]}]}]}", "nodeSelectorTerms", "matchExpressions",
                           "key", "", "operator", "In", "values", node);
}

/* -- protocols ---------------------------------------------------------------------------------------- */

static const char *const protocols[] = {"modbus", "opcua", "bluetooth"};
#define PROTOCOL_COUNT (sizeof protocols / sizeof protocols[0])

/* The member of a protocol or visitor of v1alpha2 that says how; NULL: none does. */
static const json_t *alpha_protocol(const json_t *alpha, const char **out_name)
{
    for (size_t i = 0; i < PROTOCOL_COUNT; i++) {
        const json_t *value = json_object_get(alpha, protocols[i]);
        if (value != NULL) {
            *out_name = protocols[i];
            return value;
        }
    }
    const json_t *custom = json_object_get(alpha, "customizedProtocol");
    *out_name = json_text_at(custom, "protocolName");
    return custom;
}

/* { protocolName, configData } of a protocol or visitor of v1alpha2; `beside` is a member of it that becomes one
 * of configData. NULL: it says nothing. */
static json_t *config_of(const json_t *alpha, const char *beside)
{
    const char *name = "";
    const json_t *how = alpha_protocol(alpha, &name);
    const json_t *extra = json_object_get(alpha, beside);
    if (how == NULL && extra == NULL) {
        return NULL;
    }
    const bool custom = how != NULL && how == json_object_get(alpha, "customizedProtocol");
    const json_t *said = custom ? json_object_get(how, "configData") : how;
    json_t *data = json_is_object(said) ? json_deep_copy(said) : json_object();
    if (extra != NULL && json_object_get(data, beside) == NULL) {
        put(data, beside, json_deep_copy(extra));
    }
    json_t *config = json_object();
    json_put_text(config, "protocolName", name);
    put(config, "configData", data);
    return config;
}

/* Into a protocol or visitor of v1alpha2, whose fields are those of the kind at `path`. */
static void config_show(json_t *alpha, const json_t *config, const char *path, const char *beside)
{
    const char *name = json_text_at(config, "protocolName");
    const json_t *said = json_object_get(config, "configData");
    json_t *data = json_is_object(said) ? json_deep_copy(said) : json_object();
    const struct schema_type *type = api_device_type(API_DEVICE_ALPHA, path);
    const struct schema_field *beside_field = schema_find(type, beside);
    json_t *extra = json_object_get(data, beside);
    if (extra != NULL && json_is_object(extra) &&
        (beside_field->shape == SHAPE_ANY || schema_holds(beside_field->type, extra))) {
        put(alpha, beside, json_incref(extra));
        (void)json_object_del(data, beside);
    }
    for (size_t i = 0; i < PROTOCOL_COUNT; i++) {
        if (strcmp(name, protocols[i]) == 0 && schema_holds(schema_find(type, name)->type, data)) {
            put(alpha, name, data);
            return;
        }
    }
    if (name[0] == '\0' && json_object_size(data) == 0) {
        json_decref(data);
        return;
    }
    json_t *custom = json_object();
    json_put_text(custom, "protocolName", name);
    put(custom, "configData", data);
    put(alpha, "customizedProtocol", custom);
}

static json_t *protocol_show(const json_t *config)
{
    if (config == NULL) {
        return NULL;
    }
    json_t *alpha = json_object();
    config_show(alpha, config, "spec.protocol", "common");
    return alpha;
}

/* -- properties --------------------------------------------------------------------------------------- */

static const char *const cycles[] = {"reportCycle", "collectCycle"};

/* What of a property is a visitor in v1alpha2; NULL: nothing. */
static json_t *visitor_show(const json_t *property)
{
    const json_t *config = json_object_get(property, "visitors");
    if (config == NULL && json_object_get(property, cycles[0]) == NULL &&
        json_object_get(property, cycles[1]) == NULL) {
        return NULL;
    }
    json_t *visitor = json_object();
    json_put_text(visitor, "propertyName", json_text_at(property, "name"));
    for (size_t i = 0; i < 2; i++) {
        api_device_copy(visitor, cycles[i], property);
    }
    if (config != NULL) {
        config_show(visitor, config, "spec.propertyVisitors", "customizedValues");
    }
    return visitor;
}

/* Make a visitor of v1alpha2 (NULL: it has none) that part of the property. */
static void visitor_store(const json_t *visitor, json_t *property)
{
    for (size_t i = 0; i < 2; i++) {
        (void)json_object_del(property, cycles[i]);
        api_device_copy(property, cycles[i], visitor);
    }
    put_or_remove(property, "visitors",
                  visitor == NULL ? NULL : config_of(visitor, "customizedValues"));
}

/* Does the visitor say what the property does? */
static bool visitor_says(const json_t *visitor, const json_t *property)
{
    json_t *made = json_deep_copy(property);
    visitor_store(visitor, made);
    const bool says = json_equal(made, property);
    json_decref(made);
    return says;
}

/* Visitors of all properties, in the order they were written in as far as they still are. */
static json_t *visitors_show(const json_t *properties, const json_t *kept)
{
    json_t *visitors = json_array();
    for (size_t i = 0; i < json_array_size(kept); i++) {
        json_t *visitor = json_array_get(kept, i);
        const json_t *property =
            api_device_entry(properties, "name", json_text_at(visitor, "propertyName"));
        if (property != NULL) {
            json_t *shown =
                visitor_says(visitor, property) ? json_deep_copy(visitor) : visitor_show(property);
            if (shown != NULL) {
                append(visitors, shown);
            }
        }
    }
    for (size_t i = 0; i < json_array_size(properties); i++) {
        const json_t *property = json_array_get(properties, i);
        json_t *shown =
            api_device_entry(visitors, "propertyName", json_text_at(property, "name")) == NULL
                ? visitor_show(property)
                : NULL;
        if (shown != NULL) {
            append(visitors, shown);
        }
    }
    return visitors;
}

/* -- showing v1alpha2 --------------------------------------------------------------------------------- */

static json_t *spec_show(const json_t *spec, const json_t *kept)
{
    json_t *alpha = kept == NULL ? json_object() : json_deep_copy(kept);
    (void)json_object_del(alpha, "deviceModelRef");
    api_device_copy(alpha, "deviceModelRef", spec);
    const char *node = json_text_at(spec, "nodeName");
    if (strcmp(selector_node(json_object_get(alpha, "nodeSelector")), node) != 0) {
        put_or_remove(alpha, "nodeSelector", selector_of(node));
    }
    const json_t *protocol = json_object_get(spec, "protocol");
    json_t *kept_protocol = config_of(json_object_get(alpha, "protocol"), "common");
    if (!same(kept_protocol, protocol)) {
        put_or_remove(alpha, "protocol", protocol_show(protocol));
    }
    json_decref(kept_protocol);
    json_t *visitors = visitors_show(json_object_get(spec, "properties"),
                                     json_object_get(alpha, "propertyVisitors"));
    if (json_array_size(visitors) > 0 || json_object_get(alpha, "propertyVisitors") != NULL) {
        put(alpha, "propertyVisitors", visitors);
    } else {
        json_decref(visitors);
    }
    return alpha;
}

/* A twin of v1alpha2: what is wished, and what is reported. Answers whether it says anything. */
static bool twin_show(json_t *twins, const char *name, const json_t *desired,
                      const json_t *reported)
{
    if (desired == NULL && reported == NULL) {
        return false;
    }
    json_t *twin = json_object();
    json_put_text(twin, "propertyName", name);
    if (desired != NULL) {
        put(twin, "desired", json_deep_copy(desired));
    }
    if (reported != NULL) {
        put(twin, "reported", json_deep_copy(reported));
    }
    append(twins, twin);
    return true;
}

static void status_show(json_t *object)
{
    const json_t *properties = json_at(object, "spec.properties");
    const json_t *facts = json_at(object, "status.twins");
    json_t *twins = json_array();
    for (size_t i = 0; i < json_array_size(properties); i++) {
        const json_t *property = json_array_get(properties, i);
        const char *name = json_text_at(property, "name");
        const json_t *fact = api_device_entry(facts, "propertyName", name);
        (void)twin_show(twins, name, json_object_get(property, "desired"),
                        json_object_get(fact, "reported"));
    }
    for (size_t i = 0; i < json_array_size(facts); i++) {
        const json_t *fact = json_array_get(facts, i);
        const char *name = json_text_at(fact, "propertyName");
        if (api_device_entry(properties, "name", name) == NULL) {
            (void)twin_show(twins, name, NULL, json_object_get(fact, "reported"));
        }
    }
    json_t *status = json_object();
    if (json_array_size(twins) > 0) {
        put(status, "twins", twins);
    } else {
        json_decref(twins);
    }
    static const char *const said[] = {"state", "reason", "message", "lastOnlineTime"};
    for (size_t i = 0; i < sizeof said / sizeof said[0]; i++) {
        api_device_copy(status, said[i], json_object_get(object, "status"));
    }
    put(object, "status", status);
    if (json_object_size(status) == 0) {
        (void)json_object_del(object, "status");
    }
}

/* The uid of what is no object of its own: that of its Device, but for one bit, so that nobody takes the one for the
 * other. */
static void report_uid(const char *uid, char out[static 37])
{
    static const char digits[] = "0123456789abcdef";
    (void)snprintf(out, 37, "%s", uid);
    const char *digit = out[0] == '\0' ? NULL : strchr(digits, out[0]);
    if (digit != NULL) {
        out[0] = digits[(size_t)(digit - digits) ^ 8u];
    }
}

/* A Device becomes its DeviceStatus: the metadata that is the device's, and its status. */
static void report_show(json_t *object)
{
    static const char *const kept[] = {"name", "namespace", "labels", "creationTimestamp"};
    const json_t *metadata = json_object_get(object, "metadata");
    const char *uid = json_text_at(metadata, "uid");
    char own_uid[37];
    json_t *own = json_object();
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) {
        api_device_copy(own, kept[i], metadata);
    }
    report_uid(uid, own_uid);
    json_put_text(own, "uid", own_uid);
    json_t *owner = json_object();
    json_put_text(owner, "apiVersion", json_text_at(object, "apiVersion"));
    json_put_text(owner, "kind", "Device");
    json_put_text(owner, "name", json_text_at(metadata, "name"));
    json_put_text(owner, "uid", uid);
    put(owner, "controller", json_true());
    json_t *owners = json_array();
    append(owners, owner);
    put(own, "ownerReferences", owners);
    put(object, "metadata", own);
    json_put_text(object, "kind", "DeviceStatus");
    (void)json_object_del(object, "spec");
    (void)json_child(object, "status");
}

void api_device_show(const struct api_resource *resource, json_t *object)
{
    if (resource->id == API_DEVICE_STATUS) {
        report_show(object);
    }
    if (resource->id == API_DEVICE_ALPHA) {
        status_show(object);
        json_t *spec =
            spec_show(json_object_get(object, "spec"), json_object_get(object, DEVICE_KEPT));
        put(object, "spec", spec);
    } else if (resource->id == API_DEVICE_MODEL_ALPHA) {
        api_model_show(object);
    }
    (void)json_object_del(object, DEVICE_KEPT);
    struct text version = {0};
    api_group_version(resource, &version);
    json_put_text(object, "apiVersion", version.data);
    text_release(&version);
}

/* -- storing v1alpha2 --------------------------------------------------------------------------------- */

/* The property of this name as v1alpha2 wants it. NULL: it wants none of this name.
 *   old, seen  the property that is stored, and its visitor as v1alpha2 saw it; NULL: none */
static json_t *property_store(const char *name, const json_t *old, const json_t *seen,
                              const json_t *visitor, const json_t *twin)
{
    const json_t *desired = json_object_get(twin, "desired");
    const bool unseen = old != NULL && seen == NULL && json_object_get(old, "desired") == NULL;
    if (visitor == NULL && desired == NULL && !unseen) {
        return NULL;
    }
    json_t *property = old == NULL ? json_object() : json_deep_copy(old);
    json_put_text(property, "name", name);
    if (!same(visitor, seen)) {
        visitor_store(visitor, property);
    }
    put_or_remove(property, "desired", desired == NULL ? NULL : json_deep_copy(desired));
    return property;
}

static json_t *properties_store(const json_t *old, const json_t *seen, const json_t *alpha)
{
    const json_t *before = json_at(old, "spec.properties");
    const json_t *seen_visitors = json_at(seen, "spec.propertyVisitors");
    const json_t *visitors = json_at(alpha, "spec.propertyVisitors");
    const json_t *twins = json_at(alpha, "status.twins");
    /* names in their order: those that are stored, then those that are new */
    const struct {
        const json_t *list;
        const char *name;
    } sources[] = {{before, "name"}, {visitors, "propertyName"}, {twins, "propertyName"}};
    json_t *properties = json_array();
    for (size_t s = 0; s < 3; s++) {
        for (size_t i = 0; i < json_array_size(sources[s].list); i++) {
            const char *name = json_text_at(json_array_get(sources[s].list, i), sources[s].name);
            if (api_device_entry(properties, "name", name) != NULL) {
                continue;
            }
            json_t *property = property_store(name, api_device_entry(before, "name", name),
                                              api_device_entry(seen_visitors, "propertyName", name),
                                              api_device_entry(visitors, "propertyName", name),
                                              api_device_entry(twins, "propertyName", name));
            if (property != NULL) {
                append(properties, property);
            }
        }
    }
    return properties;
}

static void device_store(const struct api_resource *resource, const json_t *old, json_t *object)
{
    json_t *seen = old == NULL ? NULL : json_deep_copy(old);
    if (seen != NULL) {
        api_device_show(resource, seen);
    }
    json_t *alpha = json_object_get(object, "spec");
    const json_t *old_spec = json_object_get(old, "spec");
    json_t *spec = old_spec == NULL ? json_object() : json_deep_copy(old_spec);
    put_or_remove(spec, "deviceModelRef", json_deep_copy(json_object_get(alpha, "deviceModelRef")));
    const char *node = selector_node(json_object_get(alpha, "nodeSelector"));
    json_put_text(spec, "nodeName", node[0] == '\0' ? NULL : node);
    const json_t *protocol = json_object_get(alpha, "protocol");
    if (seen == NULL || !same(protocol, json_at(seen, "spec.protocol"))) {
        put_or_remove(spec, "protocol", config_of(protocol, "common"));
    }
    json_t *properties = properties_store(old, seen, object);
    put_or_remove(spec, "properties",
                  json_array_size(properties) > 0 ? json_incref(properties) : NULL);
    json_decref(properties);
    json_decref(seen);

    json_t *fresh = spec_show(spec, NULL);
    const bool kept = !json_equal(fresh, alpha);
    json_decref(fresh);
    if (kept) {
        put(object, DEVICE_KEPT, json_incref(alpha));
    }
    put(object, "spec", spec);
    (void)json_object_del(object, "status");
}

void api_device_store(const struct api_resource *resource, const json_t *old, json_t *object)
{
    (void)json_object_del(object, DEVICE_KEPT); /* nobody writes it */
    if (resource->id == API_DEVICE_ALPHA || resource->id == API_DEVICE_MODEL_ALPHA) {
        (void)json_child(object, "spec");
        if (resource->id == API_DEVICE_ALPHA) {
            device_store(resource, old, object);
        } else {
            api_model_store(old, object);
        }
    } else {
        api_device_copy(object, DEVICE_KEPT, old);
    }
    struct text version = {0};
    api_group_version(api_resource_stored(resource), &version);
    json_put_text(object, "apiVersion", version.data);
    text_release(&version);
}
