/* Does what is wished of a Device fit its model and the cluster?
 *
 * A value that is none of its type would be refused by every edge, so it is refused here. All else may become true
 * later (the model comes, the node is registered, a mapper knows more than the model), so it is said and taken.
 */
#include "nodes/cloud/api_device.h"

#include "nodes/cloud/api_object.h"
#include "statemachine/edge.h"

#include <stdarg.h>
#include <stdlib.h>

struct fit {
    const struct backend *backend;
    const struct api_resource *resource; /* of the version that was written */
    const json_t *object;
    struct api_error *error;
    const struct api_device_advice *advice;
    uint32_t told;
};

static void __attribute__((format(printf, 2, 3))) advise(struct fit *fit, const char *format, ...)
{
    if (fit->advice == NULL || fit->told == LIMIT_API_WARNINGS) {
        return;
    }
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fit->told++;
    fit->advice->warn(fit->advice->context, text);
}

/* Where the client wrote what is wished of the property at this place. */
static const char *fit_path(const struct fit *fit, size_t place, const char *member, char out[96])
{
    if (fit->resource->id == API_DEVICE_ALPHA) { /* its lists are of other orders */
        (void)snprintf(out, 96, "status.twins[].desired.%s", member);
    } else {
        (void)snprintf(out, 96, "spec.properties[%zu].desired.%s", place, member);
    }
    return out;
}

static void check_bounds(struct fit *fit, const char *path, const char *name,
                         const json_t *modelled, const char *type, const char *value)
{
    const char *low = json_text_at(modelled, "minimum");
    const char *high = json_text_at(modelled, "maximum");
    if (strcmp(type, "int") != 0 && strcmp(type, "float") != 0 && strcmp(type, "double") != 0) {
        return;
    }
    const double number = strtod(value, NULL);
    if ((low[0] != '\0' && number < strtod(low, NULL)) ||
        (high[0] != '\0' && number > strtod(high, NULL))) {
        advise(fit, "%s: %.40s of property %s is outside what its model allows (%.40s to %.40s)",
               path, value, name, low[0] == '\0' ? "any" : low, high[0] == '\0' ? "any" : high);
    }
}

/* One property whose `desired` is new. */
static void check_desired(struct fit *fit, size_t place, const json_t *property,
                          const json_t *model, const json_t *modelled)
{
    const char *name = json_text_at(property, "name");
    const char *said = json_text_at(property, "desired.metadata.type");
    const char *value = json_text_at(property, "desired.value");
    const char *type = said[0] != '\0' ? said : api_device_model_type(model, name);
    char path[96];
    if (said[0] != '\0' && !edge_twin_type_known(said)) {
        api_error_cause(fit->error, "FieldValueNotSupported",
                        fit_path(fit, place, "metadata.type", path),
                        "Unsupported value: \"%.100s\": supported values: \"int\", \"float\", "
                        "\"double\", \"string\", \"boolean\", \"bytes\", \"stream\"",
                        said);
        return;
    }
    (void)fit_path(fit, place, "value", path);
    if (strspn(value, TWIN_LETTERS) != strlen(value)) {
        advise(fit,
               "%s: no mapper can report this value of property %.128s back: by MQTT a twin takes "
               "letters, digits and - _ . , : / @ # alone, so its delta will not end",
               path, name);
    }
    if (type == NULL || value[0] == '\0') {
        return;
    }
    const char *refusal = edge_twin_value_refusal(type, value);
    if (refusal != NULL) {
        api_error_cause(
            fit->error, "FieldValueInvalid", path,
            "Invalid value: \"%.200s\": must be of type %.40s, which property %.128s has%s", value,
            type, name, said[0] != '\0' ? "" : " in its model");
        return;
    }
    if (strcmp(json_text_at(modelled, "accessMode"), "ReadOnly") == 0) {
        advise(fit, "%s: property %s is ReadOnly in its model: a mapper need not obey", path, name);
    }
    check_bounds(fit, path, name, modelled, type, value);
}

static void check_node(struct fit *fit)
{
    const char *node = json_text_at(fit->object, "spec.nodeName");
    char key[LIMIT_KEY_BYTES];
    struct backend_view *view;
    struct backend_row row;
    uint64_t version;
    if (node[0] == '\0' || !api_object_key(api_resource_get(API_NODE), "", node, key) ||
        fit->backend->view_open(fit->backend->owner, &view, &version) != 0) {
        return;
    }
    if (fit->backend->view_get(fit->backend->owner, view, bytes_text(key), &row) != 0) {
        advise(fit,
               "%s: there is no node %s yet: nobody is told of the device until it is registered",
               fit->resource->id == API_DEVICE_ALPHA ? "spec.nodeSelector" : "spec.nodeName", node);
    }
    fit->backend->view_close(fit->backend->owner, view);
}

void api_device_fit(const struct backend *backend, const struct api_resource *resource,
                    const json_t *object, const json_t *old, struct api_error *error,
                    const struct api_device_advice *advice)
{
    struct fit fit = {.backend = backend,
                      .resource = resource,
                      .object = object,
                      .error = error,
                      .advice = advice};
    const json_t *list = json_at(object, "spec.properties");
    const json_t *old_list = json_at(old, "spec.properties");
    json_t *model = api_device_model_read(backend, object);
    check_node(&fit);
    if (model == NULL) {
        advise(&fit,
               "spec.deviceModelRef.name: there is no DeviceModel %s in namespace %s yet: nothing "
               "is checked against it",
               json_text_at(object, "spec.deviceModelRef.name"),
               json_text_at(object, "metadata.namespace"));
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *property = json_array_get(list, i);
        const char *name = json_text_at(property, "name");
        const json_t *modelled = api_device_entry(json_at(model, "spec.properties"), "name", name);
        const json_t *desired = json_object_get(property, "desired");
        const json_t *was = json_object_get(api_device_entry(old_list, "name", name), "desired");
        if (model != NULL && modelled == NULL) {
            advise(&fit, "spec.properties: the model %s has no property %s",
                   json_text_at(object, "spec.deviceModelRef.name"), name);
        }
        if (desired != NULL && (was == NULL || !json_equal(desired, was))) {
            check_desired(&fit, i, property, model, modelled);
        }
    }
    json_decref(model);
}
