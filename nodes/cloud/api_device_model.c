/* DeviceModels in v1alpha2 and as they are stored. */
#include "nodes/cloud/api_device.h"

#include "nodes/cloud/api_schema.h"
#include "schemas/check.h"

/* STREAM has no name in v1alpha2: it is shown as bytes, and stays what it is until that is changed. */
static const struct {
    const char *stored;
    const char *alpha;
    bool number;
} types[] = {
    {"INT", "int", true},       {"STRING", "string", false},   {"DOUBLE", "double", true},
    {"FLOAT", "float", true},   {"BOOLEAN", "boolean", false}, {"BYTES", "bytes", false},
    {"STREAM", "bytes", false},
};
#define TYPE_COUNT (sizeof types / sizeof types[0])

static void put(json_t *object, const char *name, json_t *taken)
{
    CHECK(json_object_set_new(object, name, taken) == 0);
}

static const char *const bounds[] = {"minimum", "maximum"};

/* A text as a number, where it is one of this type; NULL: it is none. */
static json_t *number_of(const char *text, bool whole)
{
    char why[80];
    json_t *list = NULL;
    struct text wrapped = {0};
    text_print(&wrapped, "[%s]", text);
    list = json_read(text_bytes(&wrapped), true, why, sizeof why);
    text_release(&wrapped);
    json_t *value = json_array_size(list) == 1 ? json_array_get(list, 0) : NULL;
    const bool fits = whole ? json_is_integer(value) : json_is_number(value);
    value = fits ? json_incref(value) : NULL;
    json_decref(list);
    return value;
}

static json_t *property_show(const json_t *property)
{
    const char *type = json_text_at(property, "type");
    size_t t = 0;
    while (t < TYPE_COUNT && strcmp(types[t].stored, type) != 0) {
        t++;
    }
    t = t == TYPE_COUNT ? 1 : t; /* without one it is a string */
    json_t *inner = json_object();
    api_device_copy(inner, "accessMode", property);
    for (size_t i = 0; types[t].number && i < 2; i++) {
        json_t *number =
            number_of(json_text_at(property, bounds[i]), strcmp(types[t].alpha, "int") == 0);
        if (number != NULL) {
            put(inner, bounds[i], number);
        }
    }
    if (types[t].number) {
        api_device_copy(inner, "unit", property);
    }
    json_t *shown = json_object();
    json_put_text(shown, "name", json_text_at(property, "name"));
    api_device_copy(shown, "description", property);
    json_t *wrapped = json_object();
    put(wrapped, types[t].alpha, inner);
    put(shown, "type", wrapped);
    return shown;
}

/* What a property of v1alpha2 says; `old` is the stored one of that name, or NULL. */
static json_t *property_store(const json_t *alpha, const json_t *old)
{
    json_t *property = json_object();
    json_put_text(property, "name", json_text_at(alpha, "name"));
    api_device_copy(property, "description", alpha);
    for (size_t t = 0; t < TYPE_COUNT - 1; t++) {
        const json_t *inner = json_object_get(json_object_get(alpha, "type"), types[t].alpha);
        if (inner == NULL) {
            continue;
        }
        json_put_text(property, "type", types[t].stored);
        api_device_copy(property, "accessMode", inner);
        for (size_t i = 0; types[t].number && i < 2; i++) {
            const json_t *number = json_object_get(inner, bounds[i]);
            if (json_is_number(number)) {
                struct text text = {0};
                json_write(&text, number);
                json_put_text(property, bounds[i], text.data);
                text_release(&text);
            }
        }
        if (types[t].number) {
            api_device_copy(property, "unit", inner);
        }
        break;
    }
    api_device_copy(property, "visitors", old);
    return property;
}

static json_t *properties_show(const json_t *properties, const json_t *kept)
{
    json_t *list = json_array();
    for (size_t i = 0; i < json_array_size(properties); i++) {
        const json_t *property = json_array_get(properties, i);
        const json_t *written = api_device_entry(kept, "name", json_text_at(property, "name"));
        json_t *says = written == NULL ? NULL : property_store(written, property);
        json_t *shown = says != NULL && json_equal(says, property) ? json_deep_copy(written)
                                                                   : property_show(property);
        json_decref(says);
        CHECK(json_array_append_new(list, shown) == 0);
    }
    return list;
}

static json_t *spec_show(const json_t *spec, const json_t *kept)
{
    json_t *alpha = kept == NULL ? json_object() : json_deep_copy(kept);
    (void)json_object_del(alpha, "protocol");
    api_device_copy(alpha, "protocol", spec);
    json_t *list =
        properties_show(json_object_get(spec, "properties"), json_object_get(alpha, "properties"));
    put(alpha, "properties", list);
    if (json_array_size(list) == 0 && json_object_get(kept, "properties") == NULL) {
        (void)json_object_del(alpha, "properties");
    }
    return alpha;
}

void api_model_show(json_t *object)
{
    json_t *spec = spec_show(json_object_get(object, "spec"), json_object_get(object, DEVICE_KEPT));
    put(object, "spec", spec);
}

void api_model_store(const json_t *old, json_t *object)
{
    const json_t *before = json_at(old, "spec.properties");
    json_t *seen = spec_show(json_object_get(old, "spec"), json_object_get(old, DEVICE_KEPT));
    json_t *alpha = json_object_get(object, "spec");
    const json_t *old_spec = json_object_get(old, "spec");
    json_t *spec = old_spec == NULL ? json_object() : json_deep_copy(old_spec);
    (void)json_object_del(spec, "protocol");
    api_device_copy(spec, "protocol", alpha);
    json_t *list = json_array();
    const json_t *written = json_object_get(alpha, "properties");
    for (size_t i = 0; i < json_array_size(written); i++) {
        const json_t *entry = json_array_get(written, i);
        const char *name = json_text_at(entry, "name");
        const json_t *stored = api_device_entry(before, "name", name);
        const json_t *shown = api_device_entry(json_object_get(seen, "properties"), "name", name);
        json_t *property = stored != NULL && shown != NULL && json_equal(shown, entry)
                               ? json_deep_copy(stored)
                               : property_store(entry, stored);
        CHECK(json_array_append_new(list, property) == 0);
    }
    put(spec, "properties", list);
    if (json_array_size(list) == 0) {
        (void)json_object_del(spec, "properties");
    }
    json_decref(seen);

    json_t *fresh = spec_show(spec, NULL);
    const bool kept = !json_equal(fresh, alpha);
    json_decref(fresh);
    if (kept) {
        put(object, DEVICE_KEPT, json_incref(alpha));
    }
    put(object, "spec", spec);
}
