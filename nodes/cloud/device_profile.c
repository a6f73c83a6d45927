#include "nodes/cloud/device_profile.h"

#include "schemas/check.h"

#include <stdio.h>

/* What the rest of the config map needs is left. */
#define ESCAPED_BYTES_MAX (LIMIT_OBJECT_BYTES - 64u * 1024u)
#define FRAME_BYTES       64u /* what is written around the three lists */

static void put(json_t *object, const char *name, json_t *taken)
{
    CHECK(json_object_set_new(object, name, taken) == 0);
}

/* Copy a member under another name when it is there. */
static void carry(json_t *to, const char *name, const json_t *value)
{
    if (value != NULL) {
        put(to, name, json_deep_copy(value));
    }
}

static void carry_text(json_t *to, const char *name, const char *text)
{
    if (text[0] != '\0') {
        json_put_text(to, name, text);
    }
}

/* -- protocols ---------------------------------------------------------------------------------------- */

static const struct {
    const char *member; /* of v1alpha2 */
    const char *name;
} protocols[] = {
    {"modbus", "modbus"},
    {"opcua", "opcua"},
    {"bluetooth", "bluetooth"},
    {"customizedProtocol", "customized-protocol"},
};

/* What a protocol or visitor says, and under which name; NULL: nothing. */
static const json_t *protocol_of(const json_t *value, const char **out_name)
{
    for (size_t i = 0; i < sizeof protocols / sizeof protocols[0]; i++) {
        const json_t *config = json_object_get(value, protocols[i].member);
        if (config != NULL) {
            *out_name = protocols[i].name;
            return config;
        }
    }
    return NULL;
}

/* "modbus-thermo": of this device; "": it names no protocol. */
static void protocol_name(const json_t *device, char name[LIMIT_NAME_BYTES + 32])
{
    const char *kind;
    name[0] = '\0';
    if (protocol_of(json_at(device, "spec.protocol"), &kind) != NULL) {
        (void)snprintf(name, LIMIT_NAME_BYTES + 32, "%s-%.253s", kind,
                       json_text_at(device, "metadata.name"));
    }
}

/* NULL: the device names none. */
static json_t *protocol_json(const json_t *device)
{
    const char *kind = "";
    const json_t *protocol = json_at(device, "spec.protocol");
    const json_t *config = protocol_of(protocol, &kind);
    if (config == NULL) {
        return NULL;
    }
    char name[LIMIT_NAME_BYTES + 32];
    protocol_name(device, name);
    json_t *out = json_object();
    json_put_text(out, "name", name);
    json_put_text(out, "protocol", kind);
    carry(out, "protocolConfig", config);
    carry(out, "protocolCommonConfig", json_object_get(protocol, "common"));
    return out;
}

/* -- devices ------------------------------------------------------------------------------------------ */

static json_t *visitor_json(const json_t *visitor, const char *model)
{
    const char *kind = "";
    const json_t *config = protocol_of(visitor, &kind);
    json_t *out = json_object();
    json_put_text(out, "name", json_text_at(visitor, "propertyName"));
    json_put_text(out, "propertyName", json_text_at(visitor, "propertyName"));
    json_put_text(out, "modelName", model);
    carry_text(out, "protocol", kind);
    carry(out, "reportCycle", json_object_get(visitor, "reportCycle"));
    carry(out, "collectCycle", json_object_get(visitor, "collectCycle"));
    carry(out, "customizedValues", json_object_get(visitor, "customizedValues"));
    put(out, "visitorConfig", config == NULL ? json_null() : json_deep_copy(config));
    return out;
}

static json_t *instance_json(const json_t *device)
{
    const char *name = json_text_at(device, "metadata.name");
    const char *model = json_text_at(device, "spec.deviceModelRef.name");
    char protocol[LIMIT_NAME_BYTES + 32];
    protocol_name(device, protocol);
    json_t *out = json_object();
    json_put_text(out, "id", name);
    json_put_text(out, "name", name);
    carry_text(out, "protocol", protocol);
    carry_text(out, "model", model);
    carry(out, "twins", json_at(device, "status.twins"));
    carry(out, "data", json_at(device, "spec.data"));
    const json_t *visitors = json_at(device, "spec.propertyVisitors");
    if (json_array_size(visitors) > 0) {
        json_t *list = json_array();
        for (size_t i = 0; i < json_array_size(visitors); i++) {
            CHECK(json_array_append_new(list, visitor_json(json_array_get(visitors, i), model)) ==
                  0);
        }
        put(out, "propertyVisitors", list);
    }
    return out;
}

/* -- models ------------------------------------------------------------------------------------------- */

static json_t *property_json(const json_t *property)
{
    static const char *const members[] = {"accessMode", "defaultValue", "minimum", "maximum",
                                          "unit"};
    json_t *out = json_object();
    json_put_text(out, "name", json_text_at(property, "name"));
    json_t *types = json_object_get(property, "type");
    const char *type;
    json_t *inner;
    json_object_foreach(types, type, inner)
    {
        json_put_text(out, "dataType", type);
        carry_text(out, "description", json_text_at(property, "description"));
        for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
            carry(out, members[i], json_object_get(inner, members[i]));
        }
        break; /* there is one */
    }
    return out;
}

static json_t *model_json(const json_t *model)
{
    json_t *out = json_object();
    json_put_text(out, "name", json_text_at(model, "metadata.name"));
    const json_t *properties = json_at(model, "spec.properties");
    if (json_array_size(properties) > 0) {
        json_t *list = json_array();
        for (size_t i = 0; i < json_array_size(properties); i++) {
            CHECK(json_array_append_new(list, property_json(json_array_get(properties, i))) == 0);
        }
        put(out, "properties", list);
    }
    return out;
}

/* -- the whole ---------------------------------------------------------------------------------------- */

static size_t profile_bytes(const struct device_profile *profile)
{
    return FRAME_BYTES + profile->instances.size + profile->models.size + profile->protocols.size;
}

static size_t escaped_bytes(const struct text *text)
{
    size_t count = 0;
    for (size_t i = 0; i < text->size; i++) {
        count += text->data[i] == '"' || text->data[i] == '\\' ? 1 : 0;
    }
    return count;
}

/* One more of a list; `taken` may be NULL: none. */
static void text_of(struct text *out, json_t *taken)
{
    if (taken != NULL) {
        json_write(out, taken);
        json_decref(taken);
    }
}

static void list_add(struct text *list, const struct text *item)
{
    if (item->size > 0) {
        text_add(list, list->size > 0 ? "," : "");
        text_append(list, item->data, item->size);
    }
}

void device_profile_add(struct device_profile *profile, const json_t *device, const json_t *model)
{
    CHECK(profile->left_out == 0);
    if (profile->known == NULL) {
        profile->known = json_object();
    }
    const char *model_name = json_text_at(model, "metadata.name");
    const bool fresh = model != NULL && json_object_get(profile->known, model_name) == NULL;
    struct text instance = {0};
    struct text protocol = {0};
    struct text described = {0};
    text_of(&instance, instance_json(device));
    text_of(&protocol, protocol_json(device));
    text_of(&described, fresh ? model_json(model) : NULL);
    const size_t bytes =
        profile_bytes(profile) + instance.size + protocol.size + described.size + 3;
    const size_t escaped = profile->escaped + escaped_bytes(&instance) + escaped_bytes(&protocol) +
                           escaped_bytes(&described);
    if (bytes > LIMIT_DEVICE_PROFILE_BYTES || bytes + escaped > ESCAPED_BYTES_MAX) {
        profile->left_out = 1;
    } else {
        list_add(&profile->instances, &instance);
        list_add(&profile->protocols, &protocol);
        list_add(&profile->models, &described);
        if (fresh) {
            put(profile->known, model_name, json_true());
        }
        profile->escaped = escaped;
        profile->device_count++;
    }
    text_release(&instance);
    text_release(&protocol);
    text_release(&described);
}

static void write_list(struct text *out, const char *name, const struct text *list, bool *some)
{
    if (list->size > 0) {
        text_print(out, "%s\"%s\":[", *some ? "," : "", name);
        text_append(out, list->data, list->size);
        text_add(out, "]");
        *some = true;
    }
}

void device_profile_write(const struct device_profile *profile, struct text *out)
{
    bool some = false;
    text_add(out, "{");
    write_list(out, "deviceInstances", &profile->instances, &some);
    write_list(out, "deviceModels", &profile->models, &some);
    write_list(out, "protocols", &profile->protocols, &some);
    text_add(out, "}");
}

void device_profile_release(struct device_profile *profile)
{
    text_release(&profile->instances);
    text_release(&profile->models);
    text_release(&profile->protocols);
    json_decref(profile->known);
    *profile = (struct device_profile){0};
}
