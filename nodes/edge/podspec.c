/* JSON -> struct pod_spec. The other half of this door, struct pod_spec -> what the runtime is
 * asked for, is podspec_resolve.c.
 */
#include "nodes/edge/podspec.h"

#include "nodes/edge/quantity.h"
#include "schemas/check.h"
#include "schemas/limits.h"
#include "schemas/status.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* One reading. The first error decides and everything after it is read in vain. */
struct reader {
    struct pod_spec *spec;
    struct arena *arena;
    int status;
    char *error;
    size_t error_bytes;
};

__attribute__((format(printf, 3, 4))) static void reader_fail(struct reader *reader, int status,
                                                              const char *format, ...)
{
    va_list list;
    if (reader->status != 0) {
        return;
    }
    reader->status = status;
    va_start(list, format);
    vsnprintf(reader->error, reader->error_bytes, format, list);
    va_end(list);
}

/* Room for one more at the end of a list that grows; the old copy stays in the arena until the pod
 * goes, which the bounds of a pod keep small. */
static void *reader_grow(struct reader *reader, const void *list, size_t count, size_t item_bytes)
{
    if ((count & (count - 1)) != 0) { /* between powers of two there is room */
        return (void *)(uintptr_t)list;
    }
    void *larger = arena_claim(reader->arena, count == 0 ? 1 : count * 2, item_bytes);
    if (count > 0) {
        memcpy(larger, list, count * item_bytes);
    }
    return larger;
}

__attribute__((format(printf, 3, 4))) static void reader_note(struct reader *reader, bool refuses,
                                                              const char *format, ...)
{
    char text[512];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    struct pod_spec *spec = reader->spec;
    spec->notes = reader_grow(reader, spec->notes, spec->note_count, sizeof *spec->notes);
    spec->notes[spec->note_count++] =
        (struct pod_note){.refuses = refuses, .text = arena_text(reader->arena, text)};
}

static void reader_refer(struct reader *reader, bool secret, const char *name, bool optional,
                         bool from_volume)
{
    struct pod_spec *spec = reader->spec;
    spec->references =
        reader_grow(reader, spec->references, spec->reference_count, sizeof *spec->references);
    spec->references[spec->reference_count++] =
        (struct pod_reference){secret, name, optional, from_volume};
}

/* -- small shapes; absent and null are the same ------------------------------------------------ */

static const char *reader_text(struct reader *reader, json_t *object, const char *key,
                               const char *otherwise)
{
    json_t *value = json_object_get(object, key);
    if (value == NULL || json_is_null(value)) {
        return otherwise;
    }
    if (!json_is_string(value)) {
        reader_fail(reader, STATUS_MALFORMED, "%s must be a string", key);
        return otherwise;
    }
    return arena_text(reader->arena, json_string_value(value));
}

static bool reader_bool(struct reader *reader, json_t *object, const char *key, bool otherwise)
{
    json_t *value = json_object_get(object, key);
    if (value != NULL && !json_is_null(value) && !json_is_boolean(value)) {
        reader_fail(reader, STATUS_MALFORMED, "%s must be true or false", key);
    }
    return json_is_boolean(value) ? json_boolean_value(value) : otherwise;
}

static int64_t reader_number(struct reader *reader, json_t *object, const char *key,
                             int64_t otherwise)
{
    json_t *value = json_object_get(object, key);
    if (value != NULL && !json_is_null(value) && !json_is_integer(value)) {
        reader_fail(reader, STATUS_MALFORMED, "%s must be a whole number", key);
    }
    return json_is_integer(value) ? json_integer_value(value) : otherwise;
}

static struct driver_number reader_optional(struct reader *reader, json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);
    return (struct driver_number){.set = json_is_integer(value),
                                  .value = reader_number(reader, object, key, 0)};
}

static size_t reader_count(struct reader *reader, json_t *list, const char *what, size_t bound)
{
    if (list != NULL && !json_is_null(list) && !json_is_array(list)) {
        reader_fail(reader, STATUS_MALFORMED, "%s must be a list", what);
    }
    if (json_array_size(list) > bound) {
        reader_fail(reader, STATUS_TOO_LARGE, "%s has more than %zu items", what, bound);
        return 0;
    }
    return json_array_size(list);
}

static const char *const *reader_texts(struct reader *reader, json_t *object, const char *key,
                                       size_t *out_count)
{
    json_t *list = json_object_get(object, key);
    const size_t count = reader_count(reader, list, key, LIMIT_POD_ENV);
    const char **texts = arena_claim(reader->arena, count, sizeof *texts);
    for (size_t i = 0; i < count; i++) {
        json_t *item = json_array_get(list, i);
        if (!json_is_string(item)) {
            reader_fail(reader, STATUS_MALFORMED, "%s[%zu] must be a string", key, i);
        }
        texts[i] = arena_text(reader->arena, json_string_value(item));
    }
    *out_count = count;
    return texts;
}

static const struct pod_label *reader_map(struct reader *reader, json_t *object, const char *key,
                                          size_t *out_count)
{
    json_t *map = json_object_get(object, key);
    struct pod_label *labels = arena_claim(reader->arena, json_object_size(map), sizeof *labels);
    size_t count = 0;
    const char *name;
    json_t *value;
    json_object_foreach(map, name, value)
    {
        if (!json_is_string(value)) {
            reader_fail(reader, STATUS_MALFORMED, "%s[%s] must be a string", key, name);
        }
        labels[count++] = (struct pod_label){arena_text(reader->arena, name),
                                             arena_text(reader->arena, json_string_value(value))};
    }
    *out_count = count;
    return labels;
}

static bool reader_has(json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);
    return value != NULL && !json_is_null(value) &&
           !(json_is_array(value) && json_array_size(value) == 0) &&
           !(json_is_object(value) && json_object_size(value) == 0);
}

/* A relative path that stays where it is put. */
static bool path_stays(const char *path)
{
    if (path[0] == 0 || path[0] == '/') {
        return false;
    }
    for (const char *part = path; part != NULL;
         part = strchr(part, '/') ? strchr(part, '/') + 1 : NULL) {
        if (strncmp(part, "..", 2) == 0 && (part[2] == '/' || part[2] == 0)) {
            return false;
        }
    }
    return strncmp(path, "..", 2) != 0; /* "..data" is the name that swaps */
}

/* -- environment ------------------------------------------------------------------------------- */

static void reader_env_from(struct reader *reader, json_t *list, struct pod_container *container)
{
    const size_t count = reader_count(reader, list, "envFrom", LIMIT_POD_ENV);
    struct pod_env_from *from = arena_claim(reader->arena, count, sizeof *from);
    for (size_t i = 0; i < count; i++) {
        json_t *item = json_array_get(list, i);
        json_t *map = json_object_get(item, "configMapRef");
        json_t *secret = json_object_get(item, "secretRef");
        json_t *ref = json_is_object(secret) ? secret : map;
        from[i].secret = json_is_object(secret);
        from[i].prefix = reader_text(reader, item, "prefix", "");
        from[i].name = reader_text(reader, ref, "name", "");
        from[i].optional = reader_bool(reader, ref, "optional", false);
        if (from[i].name[0] == 0) {
            reader_fail(reader, STATUS_MALFORMED,
                        "envFrom[%zu] of container %s names no config map or secret", i,
                        container->name);
        }
        reader_refer(reader, from[i].secret, from[i].name, from[i].optional, false);
    }
    container->env_from = from;
    container->env_from_count = count;
}

static void reader_env_source(struct reader *reader, json_t *source, struct pod_env *env)
{
    json_t *ref;
    if (json_is_object(ref = json_object_get(source, "configMapKeyRef")) ||
        json_is_object(ref = json_object_get(source, "secretKeyRef"))) {
        env->kind =
            json_object_get(source, "secretKeyRef") == ref ? POD_ENV_SECRET : POD_ENV_CONFIG_MAP;
        env->name = reader_text(reader, ref, "name", "");
        env->key = reader_text(reader, ref, "key", "");
        env->optional = reader_bool(reader, ref, "optional", false);
        reader_refer(reader, env->kind == POD_ENV_SECRET, env->name, env->optional, false);
    } else if (json_is_object(ref = json_object_get(source, "fieldRef"))) {
        env->kind = POD_ENV_FIELD;
        env->key = reader_text(reader, ref, "fieldPath", "");
    } else if (json_is_object(ref = json_object_get(source, "resourceFieldRef"))) {
        env->kind = POD_ENV_RESOURCE;
        env->name = reader_text(reader, ref, "containerName", "");
        env->key = reader_text(reader, ref, "resource", "");
        env->text = reader_text(reader, ref, "divisor", "1");
    } else {
        reader_note(reader, true, "valueFrom of the variable %s is of a kind that is not supported",
                    env->variable);
    }
}

static void reader_env(struct reader *reader, json_t *list, struct pod_container *container)
{
    const size_t count = reader_count(reader, list, "env", LIMIT_POD_ENV);
    struct pod_env *env = arena_claim(reader->arena, count, sizeof *env);
    for (size_t i = 0; i < count; i++) {
        json_t *item = json_array_get(list, i);
        env[i] = (struct pod_env){.kind = POD_ENV_VALUE, .name = "", .key = ""};
        env[i].variable = reader_text(reader, item, "name", "");
        env[i].text = reader_text(reader, item, "value", "");
        if (env[i].variable[0] == 0) {
            reader_fail(reader, STATUS_MALFORMED, "env[%zu] of container %s has no name", i,
                        container->name);
        }
        if (reader_has(item, "valueFrom")) {
            reader_env_source(reader, json_object_get(item, "valueFrom"), &env[i]);
        }
    }
    container->env = env;
    container->env_count = count;
}

/* -- volumes ----------------------------------------------------------------------------------- */

static void reader_items(struct reader *reader, json_t *list, struct pod_volume_source *source,
                         const char *volume)
{
    const size_t count = reader_count(reader, list, "items", LIMIT_POD_ENV);
    struct pod_volume_item *items = arena_claim(reader->arena, count, sizeof *items);
    for (size_t i = 0; i < count; i++) {
        json_t *item = json_array_get(list, i);
        items[i].path = reader_text(reader, item, "path", "");
        items[i].mode = (int32_t)reader_number(reader, item, "mode", -1);
        items[i].key = source->kind == POD_VOLUME_DOWNWARD
                           ? reader_text(reader, json_object_get(item, "fieldRef"), "fieldPath", "")
                           : reader_text(reader, item, "key", "");
        if (!path_stays(items[i].path)) {
            reader_note(reader, true, "volume %s: the path \"%s\" leaves the volume", volume,
                        items[i].path);
        }
        if (items[i].key[0] == 0) {
            reader_note(reader, true,
                        "volume %s: an item without a key, or of a kind that is not supported",
                        volume);
        }
    }
    source->items = items;
    source->item_count = count;
}

/* Config map, secret or downwardAPI, as a volume of its own or one source of a projected one. */
static void reader_source(struct reader *reader, json_t *json, enum pod_volume_kind kind,
                          bool projected, struct pod_volume_source *out, const char *volume)
{
    out->kind = kind;
    out->name = "";
    if (kind != POD_VOLUME_DOWNWARD) {
        out->name = reader_text(
            reader, json, kind == POD_VOLUME_SECRET && !projected ? "secretName" : "name", "");
        out->optional = reader_bool(reader, json, "optional", false);
        if (out->name[0] == 0) {
            reader_fail(reader, STATUS_MALFORMED, "volume %s names no config map or secret",
                        volume);
        }
        reader_refer(reader, kind == POD_VOLUME_SECRET, out->name, out->optional, true);
    }
    reader_items(reader, json_object_get(json, "items"), out, volume);
}

static void reader_projected(struct reader *reader, json_t *json, struct pod_volume *volume)
{
    json_t *list = json_object_get(json, "sources");
    const size_t count = reader_count(reader, list, "sources", LIMIT_POD_VOLUMES);
    struct pod_volume_source *sources = arena_claim(reader->arena, count, sizeof *sources);
    for (size_t i = 0; i < count; i++) {
        json_t *item = json_array_get(list, i), *part;
        if (json_is_object(part = json_object_get(item, "configMap"))) {
            reader_source(reader, part, POD_VOLUME_CONFIG_MAP, true, &sources[i], volume->name);
        } else if (json_is_object(part = json_object_get(item, "secret"))) {
            reader_source(reader, part, POD_VOLUME_SECRET, true, &sources[i], volume->name);
        } else if (json_is_object(part = json_object_get(item, "downwardAPI"))) {
            reader_source(reader, part, POD_VOLUME_DOWNWARD, true, &sources[i], volume->name);
        } else {
            const char *kind = json_object_iter_key(json_object_iter(item));
            sources[i] = (struct pod_volume_source){.kind = POD_VOLUME_UNSUPPORTED, .name = ""};
            reader_note(reader, true, "volume %s: projected %s is not supported", volume->name,
                        kind == NULL ? "nothing" : kind);
        }
    }
    volume->sources = sources;
    volume->source_count = count;
}

static void reader_single(struct reader *reader, json_t *json, enum pod_volume_kind kind,
                          struct pod_volume *volume)
{
    struct pod_volume_source *source = arena_claim(reader->arena, 1, sizeof *source);
    volume->kind = kind;
    volume->default_mode = (int32_t)reader_number(reader, json, "defaultMode", 0644);
    reader_source(reader, json, kind, false, source, volume->name);
    volume->sources = source;
    volume->source_count = 1;
}

static void reader_empty_dir(struct reader *reader, json_t *json, struct pod_volume *volume)
{
    const char *medium = reader_text(reader, json, "medium", "");
    const char *limit = reader_text(reader, json, "sizeLimit", "");
    int64_t milli;
    volume->kind = POD_VOLUME_EMPTY_DIR;
    volume->memory = strcmp(medium, "Memory") == 0;
    if (medium[0] != 0 && !volume->memory) {
        reader_note(reader, true, "volume %s: emptyDir medium %s is not supported", volume->name,
                    medium);
    }
    if (limit[0] != 0 && quantity_parse(limit, &milli)) {
        volume->size_limit_bytes = milli / 1000;
        if (!volume->memory) {
            reader_note(reader, false,
                        "volume %s: sizeLimit of an emptyDir on disk is not enforced",
                        volume->name);
        }
    }
}

static void reader_volume(struct reader *reader, json_t *json, struct pod_volume *volume)
{
    static const char *const types[] = {
        "",       "DirectoryOrCreate", "Directory",  "FileOrCreate", "File",
        "Socket", "CharDevice",        "BlockDevice"};
    json_t *part;
    *volume = (struct pod_volume){.host_path = "", .host_type = "", .default_mode = 0644};
    volume->name = reader_text(reader, json, "name", "");
    if (volume->name[0] == 0 || strchr(volume->name, '/') != NULL || volume->name[0] == '.') {
        reader_fail(reader, STATUS_MALFORMED, "a volume has no usable name");
    }
    if (json_is_object(part = json_object_get(json, "emptyDir"))) {
        reader_empty_dir(reader, part, volume);
    } else if (json_is_object(part = json_object_get(json, "hostPath"))) {
        bool known = false;
        volume->kind = POD_VOLUME_HOST_PATH;
        volume->host_path = reader_text(reader, part, "path", "");
        volume->host_type = reader_text(reader, part, "type", "");
        for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
            known = known || strcmp(types[i], volume->host_type) == 0;
        }
        if (!known || volume->host_path[0] != '/') {
            reader_note(reader, true, "volume %s: hostPath needs an absolute path and a known type",
                        volume->name);
        }
    } else if (json_is_object(part = json_object_get(json, "configMap"))) {
        reader_single(reader, part, POD_VOLUME_CONFIG_MAP, volume);
    } else if (json_is_object(part = json_object_get(json, "secret"))) {
        reader_single(reader, part, POD_VOLUME_SECRET, volume);
    } else if (json_is_object(part = json_object_get(json, "downwardAPI"))) {
        reader_single(reader, part, POD_VOLUME_DOWNWARD, volume);
    } else if (json_is_object(part = json_object_get(json, "projected"))) {
        volume->kind = POD_VOLUME_PROJECTED;
        volume->default_mode = (int32_t)reader_number(reader, part, "defaultMode", 0644);
        reader_projected(reader, part, volume);
    } else if (json_object_size(json) <= 1) {
        volume->kind = POD_VOLUME_EMPTY_DIR; /* a name alone means emptyDir in Kubernetes */
    } else {
        const char *key, *kind = "";
        json_t *value;
        json_object_foreach(json, key, value)
        {
            kind = strcmp(key, "name") == 0 ? kind : key;
        }
        volume->kind = POD_VOLUME_UNSUPPORTED;
        reader_note(reader, true, "volume %s: %s is not supported", volume->name, kind);
    }
}

static const struct pod_volume *reader_volume_find(const struct pod_spec *spec, const char *name)
{
    for (size_t i = 0; i < spec->volume_count; i++) {
        if (strcmp(spec->volumes[i].name, name) == 0) {
            return &spec->volumes[i];
        }
    }
    return NULL;
}

static void reader_mounts(struct reader *reader, json_t *list, struct pod_container *container)
{
    const size_t count = reader_count(reader, list, "volumeMounts", LIMIT_POD_VOLUMES);
    struct pod_mount *mounts = arena_claim(reader->arena, count, sizeof *mounts);
    for (size_t i = 0; i < count; i++) {
        json_t *item = json_array_get(list, i);
        struct pod_mount *mount = &mounts[i];
        const char *propagation = reader_text(reader, item, "mountPropagation", "None");
        mount->volume = reader_text(reader, item, "name", "");
        mount->path = reader_text(reader, item, "mountPath", "");
        mount->sub_path = reader_text(reader, item, "subPath", "");
        mount->read_only = reader_bool(reader, item, "readOnly", false);
        mount->propagation = propagation[0] == 'H' ? 'H' : propagation[0] == 'B' ? 'B' : 'P';
        if (reader_has(item, "subPathExpr")) {
            mount->sub_path = reader_text(reader, item, "subPathExpr", "");
            mount->sub_path_expands = true;
        }
        const struct pod_volume *volume = reader_volume_find(reader->spec, mount->volume);
        if (volume == NULL) {
            reader_fail(reader, STATUS_MALFORMED,
                        "container %s mounts the volume %s, which is not there", container->name,
                        mount->volume);
        } else if (mount->sub_path[0] != 0 &&
                   (volume->kind == POD_VOLUME_EMPTY_DIR || volume->kind == POD_VOLUME_HOST_PATH)) {
            /* A container could leave a symlink there that the next mount follows out of the volume. */
            reader_note(reader, true,
                        "container %s: subPath of an emptyDir or hostPath is not supported",
                        container->name);
        } else if (mount->sub_path[0] != 0 && !mount->sub_path_expands &&
                   !path_stays(mount->sub_path)) {
            reader_note(reader, true, "container %s: subPath \"%s\" leaves the volume",
                        container->name, mount->sub_path);
        }
        if (mount->path[0] != '/') {
            reader_fail(reader, STATUS_MALFORMED, "container %s: mountPath of %s must be absolute",
                        container->name, mount->volume);
        }
        if (reader_has(item, "recursiveReadOnly") &&
            strcmp(reader_text(reader, item, "recursiveReadOnly", ""), "Enabled") == 0) {
            reader_note(reader, true, "container %s: recursiveReadOnly is not supported",
                        container->name);
        }
    }
    container->mounts = mounts;
    container->mount_count = count;
}

/* -- containers -------------------------------------------------------------------------------- */

static char reader_seccomp(struct reader *reader, json_t *profile, const char **out_path)
{
    const char *type = reader_text(reader, profile, "type", "");
    *out_path = reader_text(reader, profile, "localhostProfile", "");
    return type[0] == 'R' || type[0] == 'U' || type[0] == 'L' ? type[0] : 0;
}

/* The container's securityContext over the pod's. */
static void reader_security(struct reader *reader, json_t *pod, json_t *own,
                            struct pod_container *container)
{
    struct driver_security *out = &container->security;
    const char *where = container->name;
    *out = reader->spec->security;
    out->privileged = reader_bool(reader, own, "privileged", false);
    out->read_only_root = reader_bool(reader, own, "readOnlyRootFilesystem", false);
    out->no_new_privileges = !reader_bool(reader, own, "allowPrivilegeEscalation", true);
    if (reader_optional(reader, own, "runAsUser").set) {
        out->run_as_user = reader_optional(reader, own, "runAsUser");
    }
    if (reader_optional(reader, own, "runAsGroup").set) {
        out->run_as_group = reader_optional(reader, own, "runAsGroup");
    }
    if (reader_has(own, "seccompProfile")) {
        out->seccomp =
            reader_seccomp(reader, json_object_get(own, "seccompProfile"), &out->seccomp_path);
    }
    json_t *capabilities = json_object_get(own, "capabilities");
    out->capabilities_add = reader_texts(reader, capabilities, "add", &out->capability_add_count);
    out->capabilities_drop =
        reader_texts(reader, capabilities, "drop", &out->capability_drop_count);
    if (reader_bool(reader, own, "runAsNonRoot", reader_bool(reader, pod, "runAsNonRoot", false)) &&
        (!out->run_as_user.set || out->run_as_user.value == 0)) {
        reader_note(reader, true, "container %s: runAsNonRoot needs a runAsUser other than 0",
                    where);
    }
    if (out->run_as_group.set && !out->run_as_user.set) {
        reader_note(reader, true, "container %s: runAsGroup needs runAsUser", where);
    }
    static const char *const ignored[] = {"seLinuxOptions", "appArmorProfile", "procMount",
                                          "windowsOptions"};
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++) {
        if (reader_has(own, ignored[i])) {
            reader_note(reader, true, "container %s: securityContext.%s is not supported", where,
                        ignored[i]);
        }
    }
}

static int64_t reader_quantity(struct reader *reader, json_t *map, const char *name,
                               const char *where)
{
    json_t *value = json_object_get(map, name);
    int64_t milli = 0;
    char number[32];
    const char *text = json_string_value(value);
    if (json_is_integer(value)) {
        snprintf(number, sizeof number, "%lld", (long long)json_integer_value(value));
        text = number;
    }
    if (text != NULL && !quantity_parse(text, &milli)) {
        reader_fail(reader, STATUS_MALFORMED, "container %s: \"%s\" is no quantity", where, text);
    }
    return milli;
}

static void reader_resources(struct reader *reader, json_t *resources,
                             struct pod_container *container)
{
    json_t *limits = json_object_get(resources, "limits"),
           *requests = json_object_get(resources, "requests");
    const char *name = container->name;
    container->cpu_limit_milli = reader_quantity(reader, limits, "cpu", name);
    container->memory_limit_bytes = reader_quantity(reader, limits, "memory", name) / 1000;
    container->cpu_request_milli = reader_has(requests, "cpu")
                                       ? reader_quantity(reader, requests, "cpu", name)
                                       : container->cpu_limit_milli;
    container->memory_request_bytes = reader_has(requests, "memory")
                                          ? reader_quantity(reader, requests, "memory", name) / 1000
                                          : container->memory_limit_bytes;
    const char *key;
    json_t *value;
    json_object_foreach(limits, key, value)
    {
        if (strcmp(key, "ephemeral-storage") == 0) {
            reader_note(reader, false,
                        "container %s: the limit of ephemeral-storage is not enforced", name);
        } else if (strcmp(key, "cpu") != 0 && strcmp(key, "memory") != 0) {
            reader_note(reader, true, "container %s: the resource %s is not supported", name, key);
        }
    }
    if (reader_has(resources, "claims")) {
        reader_note(reader, true, "container %s: resource claims are not supported", name);
    }
}

/* Fields of a container that are read by nobody: one note each. */
static void reader_container_notes(struct reader *reader, json_t *json,
                                   const struct pod_container *container)
{
    static const char *const probes[] = {"livenessProbe", "readinessProbe", "startupProbe"};
    for (size_t i = 0; i < sizeof probes / sizeof *probes; i++) {
        if (reader_has(json, probes[i])) {
            reader_note(reader, false,
                        "container %s: %s is not run; the container counts as ready while it runs",
                        container->name, probes[i]);
        }
    }
    if (reader_has(json, "lifecycle")) {
        reader_note(reader, false, "container %s: lifecycle hooks are not run", container->name);
    }
    if (reader_has(json, "volumeDevices")) {
        reader_note(reader, true, "container %s: volumeDevices are not supported", container->name);
    }
    if (container->init && strcmp(reader_text(reader, json, "restartPolicy", ""), "Always") == 0) {
        reader_note(reader, true,
                    "init container %s: restartPolicy Always (a sidecar) is not supported",
                    container->name);
    }
    const char *message =
        reader_text(reader, json, "terminationMessagePath", "/dev/termination-log");
    if (strcmp(message, "/dev/termination-log") != 0) {
        reader_note(reader, false, "container %s: terminationMessagePath is not read",
                    container->name);
    }
}

static void reader_ports(struct reader *reader, json_t *list, bool host_network)
{
    struct pod_spec *spec = reader->spec;
    const size_t count = reader_count(reader, list, "ports", LIMIT_POD_ENV);
    for (size_t i = 0; i < count; i++) {
        json_t *item = json_array_get(list, i);
        const int64_t container_port = reader_number(reader, item, "containerPort", 0);
        const int64_t host_port = reader_number(reader, item, "hostPort", 0);
        const char *protocol = reader_text(reader, item, "protocol", "TCP");
        if (container_port < 1 || container_port > 65535 || host_port < 0 || host_port > 65535) {
            reader_fail(reader, STATUS_MALFORMED, "ports[%zu]: a port is between 1 and 65535", i);
        } else if (host_port != 0 && !host_network) {
            spec->ports = reader_grow(reader, spec->ports, spec->port_count, sizeof *spec->ports);
            spec->ports[spec->port_count++] = (struct driver_port){
                .container_port = (uint16_t)container_port,
                .host_port = (uint16_t)host_port,
                .protocol = protocol[0],
                .host_ip = reader_text(reader, item, "hostIP", ""),
            };
        }
    }
}

/* Default of imagePullPolicy: Always for :latest and for no tag, else IfNotPresent. */
static enum pod_pull reader_pull(struct reader *reader, json_t *json, const char *image)
{
    const char *policy = reader_text(reader, json, "imagePullPolicy", "");
    if (policy[0] != 0) {
        return policy[0] == 'A'   ? POD_PULL_ALWAYS
               : policy[0] == 'N' ? POD_PULL_NEVER
                                  : POD_PULL_IF_NOT_PRESENT;
    }
    const char *slash = strrchr(image, '/');
    const char *tag = strchr(slash == NULL ? image : slash, ':');
    if (strchr(image, '@') != NULL) {
        return POD_PULL_IF_NOT_PRESENT;
    }
    return tag == NULL || strcmp(tag, ":latest") == 0 ? POD_PULL_ALWAYS : POD_PULL_IF_NOT_PRESENT;
}

/* FNV-1a over name and image. What the kubelet hashes too since 1.31: everything else of a
 * container cannot be changed in a pod that exists, and defaults that a newer release adds to the
 * JSON must not restart anything. */
static uint64_t reader_hash(const char *name, const char *image)
{
    uint64_t hash = 0xcbf29ce484222325;
    for (const char *text = name;; text = image) {
        for (const char *c = text; *c != 0; c++) {
            hash = (hash ^ (uint8_t)*c) * 0x100000001b3;
        }
        hash = (hash ^ 0xff) * 0x100000001b3;
        if (text == image) {
            return hash;
        }
    }
}

static void reader_container(struct reader *reader, json_t *json, json_t *pod_security, bool init,
                             struct pod_container *out)
{
    *out = (struct pod_container){.init = init};
    out->name = reader_text(reader, json, "name", "");
    out->image = reader_text(reader, json, "image", "");
    if (out->name[0] == 0 || strchr(out->name, '/') != NULL) {
        reader_fail(reader, STATUS_MALFORMED, "a container has no usable name");
    }
    if (out->image[0] == 0) {
        reader_fail(reader, STATUS_MALFORMED, "container %s has no image", out->name);
    }
    out->hash = reader_hash(out->name, out->image);
    out->pull = reader_pull(reader, json, out->image);
    out->command = reader_texts(reader, json, "command", &out->command_count);
    out->args = reader_texts(reader, json, "args", &out->arg_count);
    out->working_dir = reader_text(reader, json, "workingDir", "");
    out->stdin_open = reader_bool(reader, json, "stdin", false);
    out->stdin_once = reader_bool(reader, json, "stdinOnce", false);
    out->tty = reader_bool(reader, json, "tty", false);
    reader_env_from(reader, json_object_get(json, "envFrom"), out);
    reader_env(reader, json_object_get(json, "env"), out);
    reader_mounts(reader, json_object_get(json, "volumeMounts"), out);
    reader_resources(reader, json_object_get(json, "resources"), out);
    reader_security(reader, pod_security, json_object_get(json, "securityContext"), out);
    reader_ports(reader, json_object_get(json, "ports"), reader->spec->host_network);
    reader_container_notes(reader, json, out);
}

static void reader_containers(struct reader *reader, json_t *json, json_t *security)
{
    struct pod_spec *spec = reader->spec;
    json_t *init = json_object_get(json, "initContainers"),
           *main = json_object_get(json, "containers");
    const size_t init_count =
        reader_count(reader, init, "spec.initContainers", LIMIT_POD_CONTAINERS);
    const size_t main_count = reader_count(reader, main, "spec.containers", LIMIT_POD_CONTAINERS);
    if (reader->status == 0 && main_count == 0) {
        reader_fail(reader, STATUS_MALFORMED, "spec.containers must hold at least one container");
    }
    if (init_count + main_count > LIMIT_POD_CONTAINERS) {
        reader_fail(reader, STATUS_TOO_LARGE, "more than %u containers", LIMIT_POD_CONTAINERS);
        return;
    }
    spec->containers =
        arena_claim(reader->arena, init_count + main_count, sizeof *spec->containers);
    spec->init_count = init_count;
    spec->container_count = init_count + main_count;
    for (size_t i = 0; i < spec->container_count; i++) {
        const bool is_init = i < init_count;
        reader_container(reader,
                         json_array_get(is_init ? init : main, is_init ? i : i - init_count),
                         security, is_init, &spec->containers[i]);
        for (size_t k = 0; k < i; k++) {
            if (strcmp(spec->containers[k].name, spec->containers[i].name) == 0) {
                reader_fail(reader, STATUS_MALFORMED, "two containers are called %s",
                            spec->containers[i].name);
            }
        }
        spec->security.privileged =
            spec->security.privileged || spec->containers[i].security.privileged;
    }
}

/* -- the pod ----------------------------------------------------------------------------------- */

static void reader_pod_security(struct reader *reader, json_t *json)
{
    struct pod_spec *spec = reader->spec;
    struct driver_security *security = &spec->security;
    json_t *groups = json_object_get(json, "supplementalGroups");
    const size_t count = reader_count(reader, groups, "supplementalGroups", 1024);
    spec->fs_group = reader_optional(reader, json, "fsGroup");
    int64_t *ids = arena_claim(reader->arena, count + 1, sizeof *ids);
    for (size_t i = 0; i < count; i++) {
        ids[security->group_count++] = json_integer_value(json_array_get(groups, i));
    }
    if (spec->fs_group.set) {
        ids[security->group_count++] = spec->fs_group.value;
    }
    security->groups = ids;
    security->run_as_user = reader_optional(reader, json, "runAsUser");
    security->run_as_group = reader_optional(reader, json, "runAsGroup");
    security->seccomp =
        reader_seccomp(reader, json_object_get(json, "seccompProfile"), &security->seccomp_path);
    json_t *sysctls = json_object_get(json, "sysctls");
    spec->sysctl_count = reader_count(reader, sysctls, "sysctls", 256);
    struct driver_pair *pairs = arena_claim(reader->arena, spec->sysctl_count, sizeof *pairs);
    for (size_t i = 0; i < spec->sysctl_count; i++) {
        pairs[i].name = reader_text(reader, json_array_get(sysctls, i), "name", "");
        pairs[i].value = reader_text(reader, json_array_get(sysctls, i), "value", "");
    }
    spec->sysctls = pairs;
    static const char *const ignored[] = {"seLinuxOptions", "windowsOptions", "appArmorProfile"};
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++) {
        if (reader_has(json, ignored[i])) {
            reader_note(reader, true, "spec.securityContext.%s is not supported", ignored[i]);
        }
    }
}

static void reader_dns(struct reader *reader, json_t *json)
{
    struct pod_spec *spec = reader->spec;
    const char *policy = reader_text(reader, json, "dnsPolicy", "ClusterFirst");
    json_t *config = json_object_get(json, "dnsConfig");
    spec->dns_policy = strcmp(policy, "ClusterFirstWithHostNet") == 0 ? 'H' : policy[0];
    spec->dns_servers = reader_texts(reader, config, "nameservers", &spec->dns_server_count);
    spec->dns_searches = reader_texts(reader, config, "searches", &spec->dns_search_count);
    json_t *options = json_object_get(config, "options");
    spec->dns_option_count = reader_count(reader, options, "dnsConfig.options", 64);
    const char **texts = arena_claim(reader->arena, spec->dns_option_count, sizeof *texts);
    for (size_t i = 0; i < spec->dns_option_count; i++) {
        json_t *option = json_array_get(options, i);
        const char *value = reader_text(reader, option, "value", "");
        texts[i] = arena_print(reader->arena, "%s%s%s", reader_text(reader, option, "name", ""),
                               value[0] ? ":" : "", value);
    }
    spec->dns_options = texts;

    json_t *aliases = json_object_get(json, "hostAliases");
    spec->host_alias_count = reader_count(reader, aliases, "hostAliases", 1024);
    struct driver_pair *pairs = arena_claim(reader->arena, spec->host_alias_count, sizeof *pairs);
    for (size_t i = 0; i < spec->host_alias_count; i++) {
        json_t *alias = json_array_get(aliases, i);
        size_t count;
        const char *const *names = reader_texts(reader, alias, "hostnames", &count);
        pairs[i] = (struct driver_pair){.name = reader_text(reader, alias, "ip", ""), .value = ""};
        for (size_t k = 0; k < count; k++) {
            pairs[i].value =
                arena_print(reader->arena, "%s%s%s", pairs[i].value, k > 0 ? " " : "", names[k]);
        }
    }
    spec->host_aliases = pairs;
}

/* Fields of a pod that change what it means and that nothing here does. */
static void reader_pod_notes(struct reader *reader, json_t *json)
{
    static const struct {
        const char *field;
        bool refuses;
    } fields[] = {
        {"imagePullSecrets", false}, {"ephemeralContainers", false}, {"readinessGates", false},
        {"subdomain", false},        {"runtimeClassName", true},     {"resourceClaims", true},
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        if (reader_has(json, fields[i].field)) {
            reader_note(reader, fields[i].refuses, "spec.%s is not supported", fields[i].field);
        }
    }
    if (!reader_bool(reader, json, "hostUsers", true)) {
        reader_note(reader, true, "spec.hostUsers false is not supported");
    }
    if (reader_bool(reader, json, "setHostnameAsFQDN", false)) {
        reader_note(reader, false, "spec.setHostnameAsFQDN is not supported");
    }
    if (strcmp(reader_text(reader, json_object_get(json, "os"), "name", "linux"), "linux") != 0) {
        reader_note(reader, true, "spec.os must be linux");
    }
}

static void reader_pod(struct reader *reader, json_t *root)
{
    struct pod_spec *spec = reader->spec;
    json_t *metadata = json_object_get(root, "metadata"), *json = json_object_get(root, "spec");
    json_t *security = json_object_get(json, "securityContext");
    if (!json_is_object(metadata) || !json_is_object(json)) {
        reader_fail(reader, STATUS_MALFORMED, "metadata and spec are required");
        return;
    }
    spec->uid = reader_text(reader, metadata, "uid", "");
    spec->name = reader_text(reader, metadata, "name", "");
    spec->namespace = reader_text(reader, metadata, "namespace", "default");
    if (spec->uid[0] == 0 || spec->name[0] == 0 || strchr(spec->uid, '/') != NULL ||
        strchr(spec->name, '/') != NULL || strchr(spec->namespace, '/') != NULL ||
        spec->uid[0] == '.') {
        reader_fail(reader, STATUS_MALFORMED,
                    "metadata.name and metadata.uid are required, without slashes");
    }
    spec->labels = reader_map(reader, metadata, "labels", &spec->label_count);
    spec->annotations = reader_map(reader, metadata, "annotations", &spec->annotation_count);
    spec->node_name = reader_text(reader, json, "nodeName", "");
    spec->service_account = reader_text(reader, json, "serviceAccountName", "default");
    spec->host_network = reader_bool(reader, json, "hostNetwork", false);
    spec->host_pid = reader_bool(reader, json, "hostPID", false);
    spec->host_ipc = reader_bool(reader, json, "hostIPC", false);
    spec->share_pid = reader_bool(reader, json, "shareProcessNamespace", false);
    spec->grace_seconds = reader_number(reader, json, "terminationGracePeriodSeconds", 30);
    spec->active_deadline_seconds = reader_number(reader, json, "activeDeadlineSeconds", 0);
    spec->hostname = reader_text(reader, json, "hostname", "");
    if (spec->hostname[0] == 0) {
        spec->hostname = arena_print(reader->arena, "%.63s", spec->name);
    }
    const char *restart = reader_text(reader, json, "restartPolicy", "Always");
    spec->restart = restart[0] == 'O'   ? POD_RESTART_ON_FAILURE
                    : restart[0] == 'N' ? POD_RESTART_NEVER
                                        : POD_RESTART_ALWAYS;
    reader_pod_security(reader, security);
    reader_dns(reader, json);

    json_t *volumes = json_object_get(json, "volumes");
    spec->volume_count = reader_count(reader, volumes, "spec.volumes", LIMIT_POD_VOLUMES);
    spec->volumes = arena_claim(reader->arena, spec->volume_count, sizeof *spec->volumes);
    for (size_t i = 0; i < spec->volume_count; i++) {
        reader_volume(reader, json_array_get(volumes, i), &spec->volumes[i]);
    }
    reader_containers(reader, json, security);
    reader_pod_notes(reader, json);
}

int podspec_parse(struct bytes json, struct pod_spec *out, char *error, size_t error_bytes)
{
    *out = (struct pod_spec){0};
    arena_init(&out->arena);
    struct reader reader = {
        .spec = out, .arena = &out->arena, .error = error, .error_bytes = error_bytes};
    json_error_t problem;
    json_t *root = json_loadb((const char *)json.data, json.size, 0, &problem);
    if (root == NULL || !json_is_object(root)) {
        reader_fail(&reader, STATUS_MALFORMED, "not JSON: %s",
                    root == NULL ? problem.text : "not an object");
    } else {
        reader_pod(&reader, root);
    }
    json_decref(root);
    if (reader.status != 0) {
        podspec_deinit(out);
    }
    return reader.status;
}

void podspec_deinit(struct pod_spec *spec)
{
    arena_deinit(&spec->arena);
    *spec = (struct pod_spec){0};
}

const struct pod_note *podspec_refusal(const struct pod_spec *spec)
{
    for (size_t i = 0; i < spec->note_count; i++) {
        if (spec->notes[i].refuses) {
            return &spec->notes[i];
        }
    }
    return NULL;
}
