/* Are Devices and DeviceModels sensible, in the version they were written in?
 *
 * source: KubeEdge build/crds/devices, cloud/pkg/admissioncontroller. Differs: names of properties are those that
 * a mapper can report (edge/pkg/devicetwin/dtcommon); models of all types are taken, which an admission hook of
 * KubeEdge refused.
 */
#include "nodes/cloud/api_device.h"

#include "nodes/cloud/api_object.h"
#include "schemas/check.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define FIELD_BYTES 160

/* An object being checked, or a part of it at `path`. */
struct part {
    struct api_error *error;
    const json_t *value;
    char path[FIELD_BYTES];
};

static struct part part_at(const struct part *outer, const char *name)
{
    struct part part = {.error = outer->error, .value = json_at(outer->value, name)};
    (void)snprintf(part.path, sizeof part.path, "%.100s%s%s", outer->path,
                   outer->path[0] == '\0' ? "" : ".", name);
    return part;
}

static struct part part_item(const struct part *list, size_t i)
{
    struct part part = {.error = list->error, .value = json_array_get(list->value, i)};
    (void)snprintf(part.path, sizeof part.path, "%.100s[%zu]", list->path, i);
    return part;
}

static void part_invalid(const struct part *part, const char *member, const char *value,
                         const char *why)
{
    const struct part at = part_at(part, member);
    api_error_cause(part->error, "FieldValueInvalid", at.path, "Invalid value: \"%.200s\": %s",
                    value, why);
}

static void part_required(const struct part *part, const char *member)
{
    const struct part at = part_at(part, member);
    api_error_cause(part->error, "FieldValueRequired", at.path, "Required value");
}

/* One of texts separated by blanks, or absent. */
static void part_one_of(const struct part *part, const char *member, const char *allowed)
{
    const char *value = json_text_at(part->value, member);
    const size_t size = strlen(value);
    struct text list = {0};
    bool fits = size == 0;
    for (const char *at = allowed; *at != '\0';) {
        const size_t word = strcspn(at, " ");
        fits = fits || (word == size && strncmp(at, value, size) == 0);
        text_print(&list, "%s\"%.*s\"", list.size == 0 ? "" : ", ", (int)word, at);
        at += word + (at[word] == ' ' ? 1 : 0);
    }
    if (!fits) {
        const struct part at = part_at(part, member);
        api_error_cause(part->error, "FieldValueNotSupported", at.path,
                        "Unsupported value: \"%.100s\": supported values: %s", value, list.data);
    }
    text_release(&list);
}

static void part_too_long(const struct part *part, const char *member, uint32_t most)
{
    if (strlen(json_text_at(part->value, member)) > most) {
        const struct part at = part_at(part, member);
        api_error_cause(part->error, "FieldValueTooLong", at.path,
                        "Too long: may not be more than %u bytes", most);
    }
}

static void part_not_negative(const struct part *part, const char *member)
{
    const int64_t number = json_number_at(part->value, member, 0);
    if (number < 0) {
        char text[24];
        (void)snprintf(text, sizeof text, "%" PRId64, number);
        part_invalid(part, member, text, "must be greater than or equal to 0");
    }
}

static void list_bounded(const struct part *list)
{
    const size_t size = json_array_size(list->value);
    if (size > LIMIT_DEVICE_TWINS) {
        api_error_cause(list->error, "FieldValueTooMany", list->path,
                        "Too many: %zu: must have at most %u items", size, LIMIT_DEVICE_TWINS);
    }
}

/* Each entry names itself under `member`, once, as a twin may be named. */
static void list_names(const struct part *list, const char *member)
{
    list_bounded(list);
    const size_t count = json_array_size(list->value);
    for (size_t i = 0; i < count && i <= LIMIT_DEVICE_TWINS; i++) {
        const struct part item = part_item(list, i);
        const char *name = json_text_at(item.value, member);
        const size_t size = strlen(name);
        if (size == 0) {
            part_required(&item, member);
        } else if (size > LIMIT_TWIN_KEY_BYTES || strspn(name, TWIN_LETTERS) != size) {
            part_invalid(&item, member, name,
                         "must consist of alphanumeric characters, '-', '_', '.', ',', ':', '/', "
                         "'@' or '#', at most 128");
        }
        if (size > 0 && api_device_entry(list->value, member, name) != item.value) {
            const struct part at = part_at(&item, member);
            api_error_cause(item.error, "FieldValueDuplicate", at.path,
                            "Duplicate value: \"%.200s\"", name);
        }
    }
}

static void check_desired(const struct part *item)
{
    const struct part desired = part_at(item, "desired");
    part_too_long(&desired, "value", LIMIT_TWIN_VALUE_BYTES);
    part_too_long(&desired, "metadata.type", LIMIT_TWIN_KEY_BYTES);
}

static void check_model_ref(const struct part *spec)
{
    const char *model = json_text_at(spec->value, "deviceModelRef.name");
    if (model[0] == '\0') {
        part_required(spec, "deviceModelRef.name");
    } else if (!api_name_valid(model, false)) {
        part_invalid(spec, "deviceModelRef.name", model, "is no name of an object");
    }
}

/* -- devices ------------------------------------------------------------------------------------------ */

static void check_device(const struct part *spec)
{
    check_model_ref(spec);
    const char *node = json_text_at(spec->value, "nodeName");
    if (node[0] != '\0' && !api_name_valid(node, false)) {
        part_invalid(spec, "nodeName", node, "is no name of a node");
    }
    if (json_object_get(spec->value, "protocol") != NULL &&
        json_text_at(spec->value, "protocol.protocolName")[0] == '\0') {
        part_required(spec, "protocol.protocolName");
    }
    const struct part properties = part_at(spec, "properties");
    list_names(&properties, "name");
    for (size_t i = 0; i < json_array_size(properties.value) && i < LIMIT_DEVICE_TWINS; i++) {
        const struct part item = part_item(&properties, i);
        check_desired(&item);
        part_not_negative(&item, "collectCycle");
        part_not_negative(&item, "reportCycle");
        const int64_t qos = json_number_at(item.value, "pushMethod.mqtt.qos", 0);
        if (qos < 0 || qos > 2) {
            part_invalid(&item, "pushMethod.mqtt.qos", "", "must be 0, 1 or 2");
        }
    }
    const struct part methods = part_at(spec, "methods");
    list_names(&methods, "name");
}

/* Of these members at most one. */
static void at_most_one(const struct part *part, const char *const *members, size_t count)
{
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        found += json_object_get(part->value, members[i]) != NULL ? 1 : 0;
    }
    if (found > 1) {
        api_error_cause(part->error, "FieldValueForbidden", part->path,
                        "Forbidden: may not specify more than 1 protocol");
    }
}

static const char *const alpha_protocols[] = {"opcua", "modbus", "bluetooth", "customizedProtocol"};

static void check_number_among(const struct part *part, const char *member, int64_t low,
                               int64_t high)
{
    const int64_t number = json_number_at(part->value, member, low);
    if (number < low || number > high) {
        char text[24];
        char why[64];
        (void)snprintf(text, sizeof text, "%" PRId64, number);
        (void)snprintf(why, sizeof why, "must be between %" PRId64 " and %" PRId64, low, high);
        part_invalid(part, member, text, why);
    }
}

static void check_alpha_visitor(const struct part *item)
{
    at_most_one(item, alpha_protocols, 4);
    part_not_negative(item, "collectCycle");
    part_not_negative(item, "reportCycle");
    part_one_of(item, "modbus.register",
                "CoilRegister DiscreteInputRegister InputRegister HoldingRegister");
    const struct part operations = part_at(item, "bluetooth.dataConverter.orderOfOperations");
    for (size_t i = 0; i < json_array_size(operations.value); i++) {
        const struct part operation = part_item(&operations, i);
        part_one_of(&operation, "operationType", "Add Subtract Multiply Divide");
    }
}

static void check_alpha_device(const struct part *object)
{
    const struct part spec = part_at(object, "spec");
    check_model_ref(&spec);
    const struct part protocol = part_at(&spec, "protocol");
    at_most_one(&protocol, alpha_protocols, 4);
    const struct part common = part_at(&protocol, "common");
    check_number_among(&common, "com.dataBits", 5, 8);
    check_number_among(&common, "com.stopBits", 1, 2);
    part_one_of(&common, "com.parity", "none even odd");
    part_one_of(&common, "collectType", "sync async");
    const struct part visitors = part_at(&spec, "propertyVisitors");
    list_names(&visitors, "propertyName");
    for (size_t i = 0; i < json_array_size(visitors.value) && i < LIMIT_DEVICE_TWINS; i++) {
        const struct part item = part_item(&visitors, i);
        check_alpha_visitor(&item);
    }
    const struct part twins = part_at(object, "status.twins");
    list_names(&twins, "propertyName");
    for (size_t i = 0; i < json_array_size(twins.value) && i < LIMIT_DEVICE_TWINS; i++) {
        const struct part item = part_item(&twins, i);
        check_desired(&item);
    }
}

/* -- models ------------------------------------------------------------------------------------------- */

/* A bound of a property, as text; false: it is there and no number. */
static bool bound_read(const struct part *item, const char *member, bool *out_there, double *out)
{
    const char *text = json_text_at(item->value, member);
    char *end;
    *out_there = text[0] != '\0';
    *out = strtod(text, &end);
    if (*out_there && (*end != '\0' || strspn(text, "+-.0123456789eE") != strlen(text))) {
        part_invalid(item, member, text, "must be a number");
        return false;
    }
    return true;
}

static void check_model(const struct part *spec)
{
    const struct part properties = part_at(spec, "properties");
    list_names(&properties, "name");
    for (size_t i = 0; i < json_array_size(properties.value) && i < LIMIT_DEVICE_TWINS; i++) {
        const struct part item = part_item(&properties, i);
        part_one_of(&item, "type", "INT FLOAT DOUBLE STRING BOOLEAN BYTES STREAM");
        part_one_of(&item, "accessMode", "ReadWrite ReadOnly");
        bool low_there;
        bool high_there;
        double low;
        double high;
        if (bound_read(&item, "minimum", &low_there, &low) &&
            bound_read(&item, "maximum", &high_there, &high) && low_there && high_there &&
            low > high) {
            part_invalid(&item, "maximum", json_text_at(item.value, "maximum"),
                         "must be greater than or equal to `minimum`");
        }
    }
}

static void check_alpha_model(const struct part *spec)
{
    static const char *const types[] = {"int", "string", "double", "float", "boolean", "bytes"};
    const struct part properties = part_at(spec, "properties");
    list_names(&properties, "name");
    for (size_t i = 0; i < json_array_size(properties.value) && i < LIMIT_DEVICE_TWINS; i++) {
        const struct part item = part_item(&properties, i);
        const struct part type = part_at(&item, "type");
        size_t found = 0;
        for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
            const struct part inner = part_at(&type, types[t]);
            if (inner.value == NULL) {
                continue;
            }
            found++;
            part_one_of(&inner, "accessMode", "ReadWrite ReadOnly");
            const json_t *low = json_object_get(inner.value, "minimum");
            const json_t *high = json_object_get(inner.value, "maximum");
            if (low != NULL && high != NULL && json_number_value(low) > json_number_value(high)) {
                struct text text = {0};
                json_write(&text, high);
                part_invalid(&inner, "maximum", text.data,
                             "must be greater than or equal to `minimum`");
                text_release(&text);
            }
        }
        if (found == 0) {
            part_required(&item, "type");
        } else if (found > 1) {
            api_error_cause(type.error, "FieldValueForbidden", type.path,
                            "Forbidden: may not specify more than 1 type");
        }
    }
}

void api_device_validate(const struct api_resource *resource, const json_t *object,
                         struct api_error *error)
{
    const struct part whole = {.error = error, .value = object, .path = ""};
    const struct part spec = part_at(&whole, "spec");
    if (resource->id == API_DEVICE) {
        check_device(&spec);
    } else if (resource->id == API_DEVICE_ALPHA) {
        check_alpha_device(&whole);
    } else if (resource->id == API_DEVICE_MODEL) {
        check_model(&spec);
    } else if (resource->id == API_DEVICE_MODEL_ALPHA) {
        check_alpha_model(&spec);
    }
}
