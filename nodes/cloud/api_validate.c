/* Are the values of an object sensible? Types were checked by schema_check before; here are the rules
 * that Kubernetes' own validation has and that our users meet.
 *
 * source: kubernetes pkg/apis/core/validation/validation.go. Differs: only what the edge or the API
 * would trip over; fields that nothing of ours reads are left alone.
 */
#include "nodes/cloud/api_object.h"

#include "nodes/cloud/api_device.h"

#include "schemas/check.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>

#define SUBDOMAIN_SENTENCE                                                                         \
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "   \
    "'.', and must start and end with an alphanumeric character"
#define LABEL_SENTENCE                                                                             \
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and "   \
    "must start and end with an alphanumeric character"

bool api_name_valid(const char *name, bool label)
{
    const size_t size = strlen(name);
    if (size == 0 || size > (label ? 63u : LIMIT_NAME_BYTES)) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        const char c = name[i];
        const bool inner = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        const bool edge = i == 0 || i == size - 1 || (name[i - 1] == '.' || name[i + 1] == '.');
        if (!inner && !(c == '-' && !edge) && !(c == '.' && !label && !edge)) {
            return false;
        }
    }
    return true;
}

static void required(struct api_error *error, const char *field)
{
    api_error_cause(error, "FieldValueRequired", field, "Required value");
}

static void invalid(struct api_error *error, const char *field, const char *value, const char *why)
{
    api_error_cause(error, "FieldValueInvalid", field, "Invalid value: \"%.200s\": %s", value, why);
}

static void duplicate(struct api_error *error, const char *field, const char *value)
{
    api_error_cause(error, "FieldValueDuplicate", field, "Duplicate value: \"%.200s\"", value);
}

/* One of a list of texts separated by blanks, or absent. */
static void one_of(struct api_error *error, const char *field, const char *value,
                   const char *allowed)
{
    if (value[0] == '\0') {
        return;
    }
    const size_t size = strlen(value);
    for (const char *at = allowed; *at != '\0';) {
        const size_t word = strcspn(at, " ");
        if (word == size && strncmp(at, value, size) == 0) {
            return;
        }
        at += word + (at[word] == ' ' ? 1 : 0);
    }
    api_error_cause(error, "FieldValueNotSupported", field,
                    "Unsupported value: \"%.100s\": supported values: %s", value, allowed);
}

/* -- metadata --------------------------------------------------------------------------------------- */

/* [prefix/]name as label and annotation keys are. */
static bool qualified_valid(const char *key)
{
    const char *slash = strchr(key, '/');
    if (slash != NULL) {
        char prefix[LIMIT_NAME_BYTES + 1];
        const size_t size = (size_t)(slash - key);
        if (size > LIMIT_NAME_BYTES) {
            return false;
        }
        memcpy(prefix, key, size);
        prefix[size] = '\0';
        if (!api_name_valid(prefix, false)) {
            return false;
        }
        key = slash + 1;
    }
    const size_t size = strlen(key);
    if (size == 0 || size > 63 || !isalnum((unsigned char)key[0]) ||
        !isalnum((unsigned char)key[size - 1])) {
        return false;
    }
    return strspn(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == size;
}

static bool label_value_valid(const char *value)
{
    return value[0] == '\0' || (qualified_valid(value) && strchr(value, '/') == NULL);
}

static void validate_metadata(const struct api_resource *resource, const json_t *metadata,
                              struct api_error *error)
{
    const char *name = json_text_at(metadata, "name");
    const bool label = resource->id == API_NAMESPACE;
    if (!api_name_valid(name, label)) {
        invalid(error, "metadata.name", name, label ? LABEL_SENTENCE : SUBDOMAIN_SENTENCE);
    }
    json_t *labels = json_object_get(metadata, "labels");
    const char *key;
    json_t *value;
    json_object_foreach(labels, key, value) {
        if (!qualified_valid(key)) {
            invalid(error, "metadata.labels", key, "not a qualified name of letters, digits, '-', "
                                                   "'_' and '.', with an optional DNS prefix");
        }
        if (!label_value_valid(json_is_string(value) ? json_string_value(value) : "")) {
            invalid(error, "metadata.labels", json_string_value(value),
                    "a valid label must be an empty string or consist of alphanumeric characters, "
                    "'-', '_' or '.', at most 63, and must start and end with an alphanumeric "
                    "character");
        }
    }
    size_t size = 0;
    json_t *annotations = json_object_get(metadata, "annotations");
    json_object_foreach(annotations, key, value) {
        size += strlen(key) + json_string_length(value);
        if (!qualified_valid(key)) {
            invalid(error, "metadata.annotations", key, "not a qualified name");
        }
    }
    if (size > 256u * 1024u) {
        api_error_cause(error, "FieldValueTooLong", "metadata.annotations",
                        "Too long: may not be more than 262144 bytes");
    }
    const json_t *finalizers = json_object_get(metadata, "finalizers");
    for (size_t i = 0; i < json_array_size(finalizers); i++) {
        const char *text = json_string_value(json_array_get(finalizers, i));
        if (text == NULL || !qualified_valid(text)) {
            invalid(error, "metadata.finalizers", text == NULL ? "" : text,
                    "not a qualified name");
        }
    }
}

/* -- pods ------------------------------------------------------------------------------------------- */

struct pod_check {
    struct api_error *error;
    const json_t *spec;
};

/* "field.member" into buffer. */
#define FIELD_BYTES 256
static const char *under(char buffer[FIELD_BYTES], const char *field, const char *member)
{
    (void)snprintf(buffer, FIELD_BYTES, "%.180s.%.60s", field, member);
    return buffer;
}

static void validate_ports(const struct pod_check *check, const json_t *ports, const char *field)
{
    char at[FIELD_BYTES];
    char inner[FIELD_BYTES];
    for (size_t i = 0; i < json_array_size(ports); i++) {
        const json_t *port = json_array_get(ports, i);
        (void)snprintf(at, sizeof at, "%.100s.ports[%zu]", field, i);
        static const char *const numbers[] = {"containerPort", "hostPort"};
        for (size_t j = 0; j < 2; j++) {
            const int64_t number = json_number_at(port, numbers[j], 0);
            if (number == 0 && j == 0) {
                required(check->error, under(inner, at, numbers[j]));
            } else if (number < 0 || number > 65535) {
                char text[24];
                (void)snprintf(text, sizeof text, "%" PRId64, number);
                invalid(check->error, under(inner, at, numbers[j]), text,
                        "must be between 1 and 65535, inclusive");
            }
        }
        one_of(check->error, under(inner, at, "protocol"), json_text_at(port, "protocol"),
               "SCTP TCP UDP");
    }
}

static void validate_env(const struct pod_check *check, const json_t *container, const char *field)
{
    char at[FIELD_BYTES];
    char inner[FIELD_BYTES];
    const json_t *env = json_object_get(container, "env");
    for (size_t i = 0; i < json_array_size(env); i++) {
        const json_t *variable = json_array_get(env, i);
        (void)snprintf(at, sizeof at, "%.100s.env[%zu]", field, i);
        const char *name = json_text_at(variable, "name");
        if (name[0] == '\0') {
            required(check->error, under(inner, at, "name"));
        } else if (strchr(name, '=') != NULL) {
            invalid(check->error, under(inner, at, "name"), name, "must not contain '='");
        }
        const json_t *from = json_object_get(variable, "valueFrom");
        if (from != NULL && json_object_size(from) != 1) {
            invalid(check->error, under(inner, at, "valueFrom"), "",
                    json_object_size(from) == 0 ? "must specify one of: `fieldRef`, "
                                                  "`resourceFieldRef`, `configMapKeyRef` or "
                                                  "`secretKeyRef`"
                                                : "may not have more than one field specified at "
                                                  "a time");
        } else if (from != NULL && json_text_at(variable, "value")[0] != '\0') {
            invalid(check->error, under(inner, at, "valueFrom"), "",
                    "may not be specified when `value` is not empty");
        }
        static const char *const keyed[] = {"configMapKeyRef", "secretKeyRef"};
        for (size_t j = 0; j < 2; j++) {
            const json_t *reference = json_object_get(from, keyed[j]);
            if (reference != NULL && json_text_at(reference, "name")[0] == '\0') {
                required(check->error, under(inner, at, "valueFrom.name"));
            }
            if (reference != NULL && json_text_at(reference, "key")[0] == '\0') {
                required(check->error, under(inner, at, "valueFrom.key"));
            }
        }
    }
    const json_t *whole = json_object_get(container, "envFrom");
    for (size_t i = 0; i < json_array_size(whole); i++) {
        const json_t *from = json_array_get(whole, i);
        (void)snprintf(at, sizeof at, "%.100s.envFrom[%zu]", field, i);
        const json_t *map = json_object_get(from, "configMapRef");
        const json_t *secret = json_object_get(from, "secretRef");
        if ((map == NULL) == (secret == NULL)) {
            invalid(check->error, at, "", "must specify one of: `configMapRef` or `secretRef`");
        } else if (json_text_at(map != NULL ? map : secret, "name")[0] == '\0') {
            required(check->error, under(inner, at, "name"));
        }
    }
}

static bool volume_there(const json_t *spec, const char *name)
{
    const json_t *volumes = json_object_get(spec, "volumes");
    for (size_t i = 0; i < json_array_size(volumes); i++) {
        if (strcmp(json_text_at(json_array_get(volumes, i), "name"), name) == 0) {
            return true;
        }
    }
    return false;
}

static void validate_mounts(const struct pod_check *check, const json_t *mounts, const char *field)
{
    char at[FIELD_BYTES];
    char inner[FIELD_BYTES];
    for (size_t i = 0; i < json_array_size(mounts); i++) {
        const json_t *mount = json_array_get(mounts, i);
        (void)snprintf(at, sizeof at, "%.100s.volumeMounts[%zu]", field, i);
        const char *name = json_text_at(mount, "name");
        const char *path = json_text_at(mount, "mountPath");
        if (name[0] == '\0') {
            required(check->error, under(inner, at, "name"));
        } else if (!volume_there(check->spec, name)) {
            api_error_cause(check->error, "FieldValueNotFound", under(inner, at, "name"),
                            "Not found: \"%.100s\"", name);
        }
        if (path[0] == '\0') {
            required(check->error, under(inner, at, "mountPath"));
        }
        for (size_t j = 0; j < i; j++) {
            if (path[0] != '\0' &&
                strcmp(path, json_text_at(json_array_get(mounts, j), "mountPath")) == 0) {
                invalid(check->error, under(inner, at, "mountPath"), path, "must be unique");
                break;
            }
        }
        const char *sub = json_text_at(mount, "subPath");
        if (sub[0] == '/' || strstr(sub, "..") != NULL) {
            invalid(check->error, under(inner, at, "subPath"), sub,
                    "must be a relative path without '..'");
        }
    }
}

static void validate_resources(const struct pod_check *check, const json_t *container,
                               const char *field)
{
    char at[FIELD_BYTES];
    const json_t *limits = json_at(container, "resources.limits");
    json_t *requests = json_at(container, "resources.requests");
    const char *name;
    json_t *value;
    json_object_foreach(requests, name, value) {
        int64_t request = 0;
        int64_t limit = 0;
        (void)snprintf(at, sizeof at, "%.100s.resources.requests[%.60s]", field, name);
        const json_t *bound = json_object_get(limits, name);
        if (quantity_parse(value, &request) && request < 0) {
            invalid(check->error, at, "", "must be greater than or equal to 0");
        } else if (bound != NULL && quantity_parse(bound, &limit) && request > limit) {
            api_error_cause(check->error, "FieldValueInvalid", at,
                            "Invalid value: must be less than or equal to %.60s limit", name);
        }
    }
}

static void validate_containers(const struct pod_check *check, const char *list)
{
    const json_t *containers = json_object_get(check->spec, list);
    char at[FIELD_BYTES];
    char inner[FIELD_BYTES];
    for (size_t i = 0; i < json_array_size(containers); i++) {
        const json_t *container = json_array_get(containers, i);
        (void)snprintf(at, sizeof at, "spec.%s[%zu]", list, i);
        const char *name = json_text_at(container, "name");
        const char *image = json_text_at(container, "image");
        if (name[0] == '\0') {
            required(check->error, under(inner, at, "name"));
        } else if (!api_name_valid(name, true)) {
            invalid(check->error, under(inner, at, "name"), name, LABEL_SENTENCE);
        }
        for (size_t j = 0; j < i; j++) {
            if (strcmp(name, json_text_at(json_array_get(containers, j), "name")) == 0) {
                duplicate(check->error, under(inner, at, "name"), name);
                break;
            }
        }
        if (image[0] == '\0') {
            required(check->error, under(inner, at, "image"));
        } else if (image[0] == ' ' || image[strlen(image) - 1] == ' ') {
            invalid(check->error, under(inner, at, "image"), image,
                    "must not have leading or trailing whitespace");
        }
        one_of(check->error, under(inner, at, "imagePullPolicy"),
               json_text_at(container, "imagePullPolicy"), "Always IfNotPresent Never");
        validate_ports(check, json_object_get(container, "ports"), at);
        validate_env(check, container, at);
        validate_mounts(check, json_object_get(container, "volumeMounts"), at);
        validate_resources(check, container, at);
    }
}

static void validate_volumes(const struct pod_check *check)
{
    const json_t *volumes = json_object_get(check->spec, "volumes");
    char at[FIELD_BYTES];
    char inner[FIELD_BYTES];
    for (size_t i = 0; i < json_array_size(volumes); i++) {
        const json_t *volume = json_array_get(volumes, i);
        (void)snprintf(at, sizeof at, "spec.volumes[%zu]", i);
        const char *name = json_text_at(volume, "name");
        if (name[0] == '\0') {
            required(check->error, under(inner, at, "name"));
        } else if (!api_name_valid(name, true)) {
            invalid(check->error, under(inner, at, "name"), name, LABEL_SENTENCE);
        }
        for (size_t j = 0; j < i; j++) {
            if (strcmp(name, json_text_at(json_array_get(volumes, j), "name")) == 0) {
                duplicate(check->error, under(inner, at, "name"), name);
                break;
            }
        }
        if (json_object_size(volume) > 2) {
            api_error_cause(check->error, "FieldValueForbidden", at,
                            "Forbidden: may not specify more than 1 volume type");
        }
        if (json_object_get(volume, "secret") != NULL &&
            json_text_at(volume, "secret.secretName")[0] == '\0') {
            required(check->error, under(inner, at, "secret.secretName"));
        }
        if (json_object_get(volume, "configMap") != NULL &&
            json_text_at(volume, "configMap.name")[0] == '\0') {
            required(check->error, under(inner, at, "configMap.name"));
        }
        if (json_object_get(volume, "hostPath") != NULL &&
            json_text_at(volume, "hostPath.path")[0] == '\0') {
            required(check->error, under(inner, at, "hostPath.path"));
        }
    }
}

static void validate_pod(const json_t *object, struct api_error *error)
{
    const struct pod_check check = {.error = error, .spec = json_object_get(object, "spec")};
    if (json_array_size(json_object_get(check.spec, "containers")) == 0) {
        required(error, "spec.containers");
        return;
    }
    validate_volumes(&check);
    validate_containers(&check, "initContainers");
    validate_containers(&check, "containers");
    one_of(error, "spec.restartPolicy", json_text_at(check.spec, "restartPolicy"),
           "Always OnFailure Never");
    one_of(error, "spec.dnsPolicy", json_text_at(check.spec, "dnsPolicy"),
           "ClusterFirst ClusterFirstWithHostNet Default None");
    if (json_number_at(check.spec, "terminationGracePeriodSeconds", 0) < 0) {
        invalid(error, "spec.terminationGracePeriodSeconds", "-",
                "must be greater than or equal to 0");
    }
    const char *node = json_text_at(check.spec, "nodeName");
    if (node[0] != '\0' && !api_name_valid(node, false)) {
        invalid(error, "spec.nodeName", node, SUBDOMAIN_SENTENCE);
    }
    const json_t *tolerations = json_object_get(check.spec, "tolerations");
    for (size_t i = 0; i < json_array_size(tolerations); i++) {
        const json_t *t = json_array_get(tolerations, i);
        char at[FIELD_BYTES];
        (void)snprintf(at, sizeof at, "spec.tolerations[%zu].operator", i);
        one_of(error, at, json_text_at(t, "operator"), "Equal Exists");
        (void)snprintf(at, sizeof at, "spec.tolerations[%zu].effect", i);
        one_of(error, at, json_text_at(t, "effect"), "NoSchedule PreferNoSchedule NoExecute");
    }
}

/* -- data ------------------------------------------------------------------------------------------- */

static size_t validate_keys(const json_t *object, const char *member, struct api_error *error)
{
    json_t *map = json_object_get(object, member);
    size_t size = 0;
    const char *key;
    json_t *value;
    json_object_foreach(map, key, value) {
        const size_t length = strlen(key);
        size += json_string_length(value);
        if (length == 0 || length > LIMIT_NAME_BYTES || strcmp(key, ".") == 0 ||
            strncmp(key, "..", 2) == 0 ||
            strspn(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") !=
                length) {
            char field[FIELD_BYTES];
            (void)snprintf(field, sizeof field, "%s[%.180s]", member, key);
            invalid(error, field, key,
                    "a valid config key must consist of alphanumeric characters, '-', '_' or '.'");
        }
    }
    return size;
}

static void validate_data(const json_t *object, struct api_error *error)
{
    const size_t size =
        validate_keys(object, "data", error) + validate_keys(object, "binaryData", error);
    if (size > 1024u * 1024u * 4u / 3u) { /* base64 counts as what it stands for, roughly */
        api_error_cause(error, "FieldValueTooLong", "",
                        "Too long: may not be more than 1048576 bytes");
    }
    json_t *map = json_object_get(object, "binaryData");
    const json_t *data = json_object_get(object, "data");
    const char *key;
    json_t *value;
    json_object_foreach(map, key, value) {
        if (json_object_get(data, key) != NULL) {
            invalid(error, "data", key, "duplicate of key present in binaryData");
        }
    }
}

static void validate_secret(const json_t *object, struct api_error *error)
{
    static const struct {
        const char *type;
        const char *keys[2];
    } types[] = {
        {"kubernetes.io/tls", {"tls.crt", "tls.key"}},
        {"kubernetes.io/dockerconfigjson", {".dockerconfigjson", NULL}},
        {"kubernetes.io/dockercfg", {".dockercfg", NULL}},
        {"kubernetes.io/ssh-auth", {"ssh-privatekey", NULL}},
    };
    validate_data(object, error);
    const json_t *data = json_object_get(object, "data");
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (strcmp(json_text_at(object, "type"), types[i].type) != 0) {
            continue;
        }
        for (size_t j = 0; j < 2 && types[i].keys[j] != NULL; j++) {
            if (json_object_get(data, types[i].keys[j]) == NULL) {
                char field[FIELD_BYTES];
                (void)snprintf(field, sizeof field, "data[%s]", types[i].keys[j]);
                required(error, field);
            }
        }
    }
}

static void validate_node(const json_t *object, struct api_error *error)
{
    const json_t *taints = json_at(object, "spec.taints");
    for (size_t i = 0; i < json_array_size(taints); i++) {
        const json_t *taint = json_array_get(taints, i);
        char at[FIELD_BYTES];
        (void)snprintf(at, sizeof at, "spec.taints[%zu].key", i);
        const char *key = json_text_at(taint, "key");
        if (!qualified_valid(key)) {
            invalid(error, at, key, "not a qualified name");
        }
        (void)snprintf(at, sizeof at, "spec.taints[%zu].effect", i);
        const char *effect = json_text_at(taint, "effect");
        if (effect[0] == '\0') {
            required(error, at);
        }
        one_of(error, at, effect, "NoSchedule PreferNoSchedule NoExecute");
    }
}

static void validate_event(const json_t *object, struct api_error *error)
{
    const char *space = json_text_at(object, "involvedObject.namespace");
    const char *own = json_text_at(object, "metadata.namespace");
    if (space[0] != '\0' && strcmp(space, own) != 0) {
        invalid(error, "involvedObject.namespace", space,
                "does not match event.namespace");
    }
}

static void validate_definition(const json_t *object, struct api_error *error)
{
    const char *name = json_text_at(object, "metadata.name");
    const char *plural = json_text_at(object, "spec.names.plural");
    const char *group = json_text_at(object, "spec.group");
    char wanted[2 * LIMIT_NAME_BYTES + 2];
    (void)snprintf(wanted, sizeof wanted, "%.250s.%.250s", plural, group);
    if (plural[0] == '\0') {
        required(error, "spec.names.plural");
    }
    if (group[0] == '\0') {
        required(error, "spec.group");
    }
    if (plural[0] != '\0' && group[0] != '\0' && strcmp(name, wanted) != 0) {
        invalid(error, "metadata.name", name, "must be spec.names.plural+\".\"+spec.group");
    }
}

void api_object_validate(const struct api_resource *resource, const json_t *object,
                         struct api_error *error)
{
    validate_metadata(resource, json_object_get(object, "metadata"), error);
    switch (resource->id) {
    case API_POD:
        validate_pod(object, error);
        break;
    case API_CONFIGMAP:
        validate_data(object, error);
        break;
    case API_SECRET:
        validate_secret(object, error);
        break;
    case API_NODE:
        validate_node(object, error);
        break;
    case API_EVENT:
        validate_event(object, error);
        break;
    case API_DEVICE:
    case API_DEVICE_MODEL:
        api_device_validate(resource, object, error);
        break;
    case API_NAMESPACE:
    case API_SERVICEACCOUNT:
    case API_LEASE:
    case API_DEVICE_ALPHA: /* checked before it became what is stored */
    case API_DEVICE_MODEL_ALPHA:
    case API_DEVICE_STATUS: /* nobody writes it */
        break;
    case API_DEFINITION:
        validate_definition(object, error);
        break;
    }
}
