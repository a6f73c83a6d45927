/* The defaults that clients rely on being filled in.
 *
 * source: kubernetes pkg/apis/core/v1/defaults.go. Differs: no service account is injected, no
 * tolerations are added. */
#include "nodes/cloud/api_object.h"

#include "schemas/check.h"

#include <stdlib.h>

static void default_text(json_t *object, const char *name, const char *text)
{
    json_default(object, name, json_string(text));
}

/* :latest, or no tag and no digest: Kubernetes pulls such an image each time. */
static const char *pull_policy(const char *image)
{
    if (strchr(image, '@') != NULL) {
        return "IfNotPresent";
    }
    const char *slash = strrchr(image, '/');
    const char *tag = strchr(slash == NULL ? image : slash, ':');
    return tag == NULL || strcmp(tag, ":latest") == 0 ? "Always" : "IfNotPresent";
}

static void default_probe(json_t *container, const char *name)
{
    json_t *probe = json_object_get(container, name);
    if (!json_is_object(probe)) {
        return;
    }
    json_default(probe, "timeoutSeconds", json_integer(1));
    json_default(probe, "periodSeconds", json_integer(10));
    json_default(probe, "successThreshold", json_integer(1));
    json_default(probe, "failureThreshold", json_integer(3));
    json_t *http = json_object_get(probe, "httpGet");
    if (json_is_object(http)) {
        default_text(http, "path", "/");
        default_text(http, "scheme", "HTTP");
    }
}

static void default_container(json_t *container, bool host_network)
{
    default_text(container, "terminationMessagePath", "/dev/termination-log");
    default_text(container, "terminationMessagePolicy", "File");
    default_text(container, "imagePullPolicy", pull_policy(json_text_at(container, "image")));
    json_t *resources = json_child(container, "resources");
    json_t *limits = json_object_get(resources, "limits");
    if (json_object_size(limits) > 0) {
        json_t *requests = json_child(resources, "requests");
        const char *name;
        json_t *value;
        json_object_foreach(limits, name, value) {
            json_default(requests, name, json_incref(value));
        }
    }
    json_t *ports = json_object_get(container, "ports");
    for (size_t i = 0; i < json_array_size(ports); i++) {
        json_t *port = json_array_get(ports, i);
        default_text(port, "protocol", "TCP");
        if (host_network && json_object_get(port, "containerPort") != NULL) {
            json_default(port, "hostPort", json_incref(json_object_get(port, "containerPort")));
        }
    }
    json_t *env = json_object_get(container, "env");
    for (size_t i = 0; i < json_array_size(env); i++) {
        json_t *field = json_at(json_array_get(env, i), "valueFrom.fieldRef");
        if (json_is_object(field)) {
            default_text(field, "apiVersion", "v1");
        }
    }
    default_probe(container, "livenessProbe");
    default_probe(container, "readinessProbe");
    default_probe(container, "startupProbe");
}

static void default_volume(json_t *volume)
{
    static const char *const with_mode[] = {"secret", "configMap", "downwardAPI", "projected"};
    for (size_t i = 0; i < sizeof with_mode / sizeof with_mode[0]; i++) {
        json_t *source = json_object_get(volume, with_mode[i]);
        if (json_is_object(source)) {
            json_default(source, "defaultMode", json_integer(0644));
        }
    }
    json_t *host = json_object_get(volume, "hostPath");
    if (json_is_object(host)) {
        default_text(host, "type", "");
    }
    if (json_object_size(volume) == 1 && json_object_get(volume, "name") != NULL) {
        CHECK(json_object_set_new(volume, "emptyDir", json_object()) == 0);
    }
}

static void default_pod(json_t *object)
{
    json_t *spec = json_object_get(object, "spec");
    if (!json_is_object(spec)) {
        return; /* validation says so */
    }
    default_text(spec, "restartPolicy", "Always");
    json_default(spec, "terminationGracePeriodSeconds", json_integer(30));
    default_text(spec, "dnsPolicy", "ClusterFirst");
    default_text(spec, "schedulerName", "default-scheduler");
    json_default(spec, "securityContext", json_object());
    json_default(spec, "enableServiceLinks", json_true());
    const bool host_network = json_true_at(spec, "hostNetwork");
    static const char *const lists[] = {"initContainers", "containers"};
    for (size_t i = 0; i < 2; i++) {
        json_t *list = json_object_get(spec, lists[i]);
        for (size_t j = 0; j < json_array_size(list); j++) {
            default_container(json_array_get(list, j), host_network);
        }
    }
    json_t *volumes = json_object_get(spec, "volumes");
    for (size_t i = 0; i < json_array_size(volumes); i++) {
        default_volume(json_array_get(volumes, i));
    }
}

static char *base64(const char *text)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const size_t size = strlen(text);
    char *out = malloc((size + 2) / 3 * 4 + 1);
    CHECK(out != NULL);
    size_t at = 0;
    for (size_t i = 0; i < size; i += 3) {
        const uint32_t a = (uint8_t)text[i];
        const uint32_t b = i + 1 < size ? (uint8_t)text[i + 1] : 0;
        const uint32_t c = i + 2 < size ? (uint8_t)text[i + 2] : 0;
        const uint32_t group = a << 16 | b << 8 | c;
        out[at] = alphabet[group >> 18];
        out[at + 1] = alphabet[group >> 12 & 63];
        out[at + 2] = i + 1 < size ? alphabet[group >> 6 & 63] : '=';
        out[at + 3] = i + 2 < size ? alphabet[group & 63] : '=';
        at += 4;
    }
    out[at] = '\0';
    return out;
}

/* stringData is written into data and never shown. */
static void default_secret(json_t *object)
{
    default_text(object, "type", "Opaque");
    json_t *plain = json_object_get(object, "stringData");
    if (json_object_size(plain) > 0) {
        json_t *data = json_child(object, "data");
        const char *name;
        json_t *value;
        json_object_foreach(plain, name, value) {
            char *sealed = base64(json_is_string(value) ? json_string_value(value) : "");
            json_put_text(data, name, sealed);
            free(sealed);
        }
    }
    (void)json_object_del(object, "stringData");
}

void api_object_default(const struct api_resource *resource, json_t *object)
{
    switch (resource->id) {
    case API_NAMESPACE: {
        json_t *metadata = json_child(object, "metadata");
        json_put_text(json_child(metadata, "labels"), "kubernetes.io/metadata.name",
                      json_text_at(metadata, "name"));
        if (json_at(object, "metadata.deletionTimestamp") == NULL) {
            json_default(json_child(object, "spec"), "finalizers", json_pack("[s]", "kubernetes"));
        }
        break;
    }
    case API_POD:
        default_pod(object);
        break;
    case API_SECRET:
        default_secret(object);
        break;
    case API_NODE:
        (void)json_child(object, "spec");
        break;
    case API_CONFIGMAP:
    case API_EVENT:
    case API_SERVICEACCOUNT:
    case API_LEASE:
    case API_DEVICE:
    case API_DEVICE_MODEL:
    case API_DEVICE_ALPHA:
    case API_DEVICE_MODEL_ALPHA:
    case API_DEVICE_STATUS:
    case API_DEFINITION:
        break;
    }
}
