/* struct pod_spec and the state -> what the runtime is asked for. */
#include "nodes/edge/podspec.h"

#include "nodes/edge/quantity.h"
#include "nodes/edge/source.h"
#include "nodes/edge/volumes.h"
#include "schemas/check.h"
#include "schemas/limits.h"
#include "schemas/status.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* -- the downward API -------------------------------------------------------------------------- */

/* The text between the quotes of metadata.labels['text'], compared without copying. */
static const char *field_of_map(const char *path, const char *map, const struct pod_label *labels,
                                size_t count)
{
    const size_t size = strlen(map);
    if (strncmp(path, map, size) != 0 || path[size] != '[') {
        return NULL;
    }
    const char *key = path + size + 1;
    const size_t rest = strlen(key);
    if (rest < 3 || (key[0] != '\'' && key[0] != '"') || key[rest - 1] != ']' ||
        key[rest - 2] != key[0]) {
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        if (strlen(labels[i].name) == rest - 3 && strncmp(labels[i].name, key + 1, rest - 3) == 0) {
            return labels[i].value;
        }
    }
    return ""; /* Kubernetes answers the empty text for a label that is not there */
}

/* key="value" lines, sorted by key, escaped as Go's %q does for what labels can hold. */
static int field_label_order(const void *a, const void *b)
{
    return strcmp(((const struct pod_label *)a)->name, ((const struct pod_label *)b)->name);
}

static const char *field_lines(const struct pod_label *labels, size_t count, struct arena *arena)
{
    struct pod_label *sorted = arena_claim(arena, count, sizeof *sorted);
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    CHECK(out != NULL);
    if (count > 0) {
        memcpy(sorted, labels, count * sizeof *sorted);
        qsort(sorted, count, sizeof *sorted, field_label_order);
    }
    for (size_t i = 0; i < count; i++) {
        fprintf(out, "%s%s=\"", i > 0 ? "\n" : "", sorted[i].name);
        for (const char *c = sorted[i].value; *c != 0; c++) {
            if (*c == '"' || *c == '\\') {
                fprintf(out, "\\%c", *c);
            } else if (*c == '\n') {
                fputs("\\n", out);
            } else if (*c == '\t') {
                fputs("\\t", out);
            } else if (*c == '\r') {
                fputs("\\r", out);
            } else {
                fputc(*c, out);
            }
        }
        fputc('"', out);
    }
    fclose(out);
    const char *lines = arena_text_sized(arena, text, size);
    free(text);
    return lines;
}

const char *podspec_field(const struct pod_spec *spec, const char *path,
                          const struct pod_facts *facts, struct arena *arena)
{
    const struct {
        const char *path;
        const char *value;
    } fields[] = {
        {"metadata.name", spec->name},
        {"metadata.namespace", spec->namespace},
        {"metadata.uid", spec->uid},
        {"spec.nodeName", facts->node_name},
        {"spec.serviceAccountName", spec->service_account},
        {"status.hostIP", facts->host_ip},
        {"status.hostIPs", facts->host_ip},
        {"status.podIP", spec->host_network ? facts->host_ip : facts->pod_ip},
        {"status.podIPs", spec->host_network ? facts->host_ip : facts->pod_ip},
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        if (strcmp(fields[i].path, path) == 0) {
            return fields[i].value;
        }
    }
    if (strcmp(path, "metadata.labels") == 0) {
        return field_lines(spec->labels, spec->label_count, arena);
    }
    if (strcmp(path, "metadata.annotations") == 0) {
        return field_lines(spec->annotations, spec->annotation_count, arena);
    }
    const char *value = field_of_map(path, "metadata.labels", spec->labels, spec->label_count);
    return value != NULL ? value
                         : field_of_map(path, "metadata.annotations", spec->annotations,
                                        spec->annotation_count);
}

const struct pod_reference *podspec_missing(const struct pod_spec *spec,
                                            const struct pod_lookup *lookup)
{
    struct bytes json;
    for (size_t i = 0; i < spec->reference_count; i++) {
        const struct pod_reference *reference = &spec->references[i];
        if (reference->from_volume && !reference->optional &&
            lookup->find(lookup->context, reference->secret, spec->namespace, reference->name,
                         &json) != 0) {
            return reference;
        }
    }
    return NULL;
}

/* -- environment ------------------------------------------------------------------------------- */

/* One resolution of one container. */
struct resolver {
    const struct pod_spec *spec;
    const struct pod_container *container;
    const struct pod_lookup *lookup;
    const struct pod_facts *facts;
    struct arena *arena;
    struct driver_pair *env;
    size_t env_count;
    char *error;
    size_t error_bytes;
};

static const char *resolver_find(const struct resolver *resolver, const char *name, size_t size)
{
    for (size_t i = 0; i < resolver->env_count; i++) {
        if (strncmp(resolver->env[i].name, name, size) == 0 && resolver->env[i].name[size] == 0) {
            return resolver->env[i].value;
        }
    }
    return NULL;
}

static int resolver_put(struct resolver *resolver, const char *name, const char *value)
{
    for (size_t i = 0; i < resolver->env_count; i++) {
        if (strcmp(resolver->env[i].name, name) == 0) {
            resolver->env[i].value = value;
            return 0;
        }
    }
    if (resolver->env_count == LIMIT_POD_ENV) {
        snprintf(resolver->error, resolver->error_bytes, "container %s has more than %u variables",
                 resolver->container->name, LIMIT_POD_ENV);
        return STATUS_MALFORMED;
    }
    resolver->env[resolver->env_count++] = (struct driver_pair){name, value};
    return 0;
}

/* $(NAME) with what is known so far; $$ is one dollar; what is unknown or unfinished stays.
 * source: Kubernetes third_party/forked/golang/expansion */
static const char *resolver_expand(const struct resolver *resolver, const char *text)
{
    if (strchr(text, '$') == NULL) {
        return text;
    }
    char *out_text = NULL;
    size_t out_size = 0;
    FILE *out = open_memstream(&out_text, &out_size);
    CHECK(out != NULL);
    for (const char *c = text; *c != 0; c++) {
        const char *end = c[0] == '$' && c[1] == '(' ? strchr(c + 2, ')') : NULL;
        if (c[0] == '$' && c[1] == '$') {
            fputc('$', out);
            c++;
        } else if (end != NULL) {
            const char *value = resolver_find(resolver, c + 2, (size_t)(end - c - 2));
            if (value != NULL) {
                fputs(value, out);
            } else {
                fwrite(c, 1, (size_t)(end - c) + 1, out);
            }
            c = end;
        } else {
            fputc(*c, out);
        }
    }
    fclose(out);
    const char *expanded = arena_text_sized(resolver->arena, out_text, out_size);
    free(out_text);
    return expanded;
}

/* A config map or secret of the pod's namespace. Answers 0, -ENOENT, STATUS_MALFORMED. */
static int resolver_source(struct resolver *resolver, bool secret, const char *name,
                           struct source *out)
{
    char problem[256];
    struct bytes json;
    const char *kind = secret ? "secret" : "configmap";
    if (resolver->lookup->find(resolver->lookup->context, secret, resolver->spec->namespace, name,
                               &json) != 0) {
        snprintf(resolver->error, resolver->error_bytes, "%s \"%s\" not found", kind, name);
        return -ENOENT;
    }
    const int status = source_parse(json, secret, resolver->arena, out, problem, sizeof problem);
    if (status != 0) {
        snprintf(resolver->error, resolver->error_bytes, "%s \"%s\": %s", kind, name, problem);
    }
    return status;
}

/* Any printable ASCII without '=', as Kubernetes allows since 1.32; other keys of a config map are
 * skipped, as the kubelet does. */
static bool env_name_is_usable(const char *name)
{
    for (const char *c = name; *c != 0; c++) {
        if (*c <= 0x20 || *c > 0x7e || *c == '=') {
            return false;
        }
    }
    return name[0] != 0;
}

static int resolver_env_from(struct resolver *resolver, const struct pod_env_from *from)
{
    struct source source;
    int status = resolver_source(resolver, from->secret, from->name, &source);
    if (status == -ENOENT && from->optional) {
        return 0;
    }
    for (size_t i = 0; status == 0 && i < source.count; i++) {
        const struct bytes content = source.keys[i].content;
        const char *name = arena_print(resolver->arena, "%s%s", from->prefix, source.keys[i].key);
        if (env_name_is_usable(name) && memchr(content.data, 0, content.size) == NULL) {
            status = resolver_put(
                resolver, name,
                arena_text_sized(resolver->arena, (const char *)content.data, content.size));
        }
    }
    return status;
}

static int resolver_env_key(struct resolver *resolver, const struct pod_env *env)
{
    const bool secret = env->kind == POD_ENV_SECRET;
    struct source source;
    const int status = resolver_source(resolver, secret, env->name, &source);
    if (status != 0) {
        return status == -ENOENT && env->optional ? 0 : status;
    }
    const struct source_key *key = source_find(&source, env->key);
    if (key == NULL && env->optional) {
        return 0;
    }
    if (key == NULL || memchr(key->content.data, 0, key->content.size) != NULL) {
        snprintf(resolver->error, resolver->error_bytes,
                 key == NULL ? "couldn't find key %s in %s %s/%s"
                             : "the value of key %s in %s %s/%s holds a zero byte",
                 env->key, secret ? "Secret" : "ConfigMap", resolver->spec->namespace, env->name);
        return STATUS_MALFORMED;
    }
    return resolver_put(
        resolver, env->variable,
        arena_text_sized(resolver->arena, (const char *)key->content.data, key->content.size));
}

/* limits.cpu and its three siblings, in units of the divisor, rounded up. */
static int resolver_env_resource(struct resolver *resolver, const struct pod_env *env)
{
    const struct pod_container *container = resolver->container;
    for (size_t i = 0; i < resolver->spec->container_count; i++) {
        if (strcmp(resolver->spec->containers[i].name, env->name) == 0) {
            container = &resolver->spec->containers[i];
        }
    }
    int64_t divisor, value;
    const int64_t cpu = container->cpu_limit_milli > 0 ? container->cpu_limit_milli
                                                       : resolver->facts->node_cpu_milli;
    const int64_t memory = container->memory_limit_bytes > 0 ? container->memory_limit_bytes
                                                             : resolver->facts->node_memory_bytes;
    bool bytes = false;
    if (strcmp(env->key, "limits.cpu") == 0) {
        value = cpu;
    } else if (strcmp(env->key, "requests.cpu") == 0) {
        value = container->cpu_request_milli;
    } else if (strcmp(env->key, "limits.memory") == 0 || strcmp(env->key, "requests.memory") == 0) {
        value = env->key[0] == 'l' ? memory : container->memory_request_bytes;
        bytes = true;
    } else {
        snprintf(resolver->error, resolver->error_bytes,
                 "variable %s: the resource %s is not supported", env->variable, env->key);
        return STATUS_MALFORMED;
    }
    if (!quantity_parse(env->text, &divisor) || divisor == 0) {
        divisor = 1000;
    }
    if (bytes) { /* whole bytes over whole bytes: the thousandths would not fit for large memories */
        divisor = (divisor + 999) / 1000;
    }
    return resolver_put(resolver, env->variable,
                        arena_print(resolver->arena, "%" PRId64, (value + divisor - 1) / divisor));
}

static int resolver_env(struct resolver *resolver, const struct pod_env *env)
{
    switch (env->kind) {
    case POD_ENV_VALUE:
        return resolver_put(resolver, env->variable, resolver_expand(resolver, env->text));
    case POD_ENV_CONFIG_MAP:
    case POD_ENV_SECRET:
        return resolver_env_key(resolver, env);
    case POD_ENV_FIELD: {
        const char *value =
            podspec_field(resolver->spec, env->key, resolver->facts, resolver->arena);
        if (value == NULL) {
            snprintf(resolver->error, resolver->error_bytes,
                     "variable %s: the field %s is not supported", env->variable, env->key);
            return STATUS_MALFORMED;
        }
        return resolver_put(resolver, env->variable, value);
    }
    case POD_ENV_RESOURCE:
        return resolver_env_resource(resolver, env);
    }
    abort();
}

/* -- mounts and resources ---------------------------------------------------------------------- */

static int resolver_mounts(struct resolver *resolver, struct driver_container *out)
{
    const struct pod_spec *spec = resolver->spec;
    const struct pod_container *container = resolver->container;
    struct driver_mount *mounts =
        arena_claim(resolver->arena, container->mount_count + 1, sizeof *mounts);
    bool hosts = spec->host_network; /* the node's own file, as it is in the image */
    for (size_t i = 0; i < container->mount_count; i++) {
        const struct pod_mount *mount = &container->mounts[i];
        const struct pod_volume *volume = NULL;
        for (size_t k = 0; k < spec->volume_count; k++) {
            volume = strcmp(spec->volumes[k].name, mount->volume) == 0 ? &spec->volumes[k] : volume;
        }
        CHECK(volume != NULL); /* podspec_parse refused the pod otherwise */
        const char *path = volumes_path(resolver->facts->root, spec->uid, volume, resolver->arena);
        const char *sub =
            mount->sub_path_expands ? resolver_expand(resolver, mount->sub_path) : mount->sub_path;
        if (sub[0] == '/' || strstr(sub, "..") != NULL) {
            snprintf(resolver->error, resolver->error_bytes,
                     "the sub path \"%s\" leaves the volume %s", sub, volume->name);
            return STATUS_MALFORMED;
        }
        mounts[i] = (struct driver_mount){
            .container_path = mount->path,
            .host_path = sub[0] == 0 ? path : arena_print(resolver->arena, "%s/%s", path, sub),
            /* files that come from objects are ours to write, never the container's */
            .read_only = mount->read_only || (volume->kind != POD_VOLUME_EMPTY_DIR &&
                                              volume->kind != POD_VOLUME_HOST_PATH),
            .propagation = mount->propagation,
        };
        hosts = hosts || strcmp(mount->path, "/etc/hosts") == 0;
    }
    out->mounts = mounts;
    out->mount_count = container->mount_count;
    if (!hosts) {
        mounts[out->mount_count++] = (struct driver_mount){
            .container_path = "/etc/hosts",
            .host_path = volumes_hosts_path(resolver->facts->root, spec->uid, resolver->arena),
            .propagation = 'P',
        };
    }
    return 0;
}

/* source: Kubernetes pkg/kubelet/cm/helpers_linux.go and pkg/kubelet/qos/policy.go */
static void resolver_resources(struct resolver *resolver, struct driver_container *out)
{
    const struct pod_container *container = resolver->container;
    const struct pod_spec *spec = resolver->spec;
    const int64_t shares = container->cpu_request_milli * 1024 / 1000;
    out->cpu_shares = shares < 2 ? 2 : shares > 262144 ? 262144 : shares;
    if (container->cpu_limit_milli > 0) {
        const int64_t quota = container->cpu_limit_milli * 100;
        out->cpu_period_us = 100000;
        out->cpu_quota_us = quota < 1000 ? 1000 : quota;
    }
    out->memory_limit_bytes = container->memory_limit_bytes;

    bool guaranteed = true, best_effort = true;
    for (size_t i = 0; i < spec->container_count; i++) {
        const struct pod_container *each = &spec->containers[i];
        best_effort =
            best_effort && each->cpu_request_milli == 0 && each->memory_request_bytes == 0;
        guaranteed = guaranteed && each->cpu_limit_milli > 0 && each->memory_limit_bytes > 0 &&
                     each->cpu_request_milli == each->cpu_limit_milli &&
                     each->memory_request_bytes == each->memory_limit_bytes;
    }
    if (guaranteed) {
        out->oom_score_adj = -997;
    } else if (best_effort || resolver->facts->node_memory_bytes <= 0) {
        out->oom_score_adj = 1000;
    } else {
        const int64_t score = 1000 - container->memory_request_bytes /
                                         (resolver->facts->node_memory_bytes / 1000 + 1);
        out->oom_score_adj = score < 3 ? 3 : score > 999 ? 999 : score;
    }
}

static const char *const *resolver_texts(struct resolver *resolver, const char *const *texts,
                                         size_t count)
{
    const char **expanded = arena_claim(resolver->arena, count, sizeof *expanded);
    for (size_t i = 0; i < count; i++) {
        expanded[i] = resolver_expand(resolver, texts[i]);
    }
    return expanded;
}

int podspec_resolve(const struct pod_spec *spec, size_t index, uint32_t attempt,
                    const struct pod_lookup *lookup, const struct pod_facts *facts,
                    struct arena *arena, struct driver_container *out, char *error,
                    size_t error_bytes)
{
    CHECK(index < spec->container_count);
    const struct pod_container *container = &spec->containers[index];
    struct resolver resolver = {
        .spec = spec,
        .container = container,
        .lookup = lookup,
        .facts = facts,
        .arena = arena,
        .env = arena_claim(arena, LIMIT_POD_ENV, sizeof(struct driver_pair)),
        .error = error,
        .error_bytes = error_bytes,
    };
    int status = 0;
    for (size_t i = 0; i < container->env_from_count && status == 0; i++) {
        status = resolver_env_from(&resolver, &container->env_from[i]);
    }
    for (size_t i = 0; i < container->env_count && status == 0; i++) {
        status = resolver_env(&resolver, &container->env[i]);
    }
    if (status != 0) {
        return STATUS_MALFORMED;
    }
    *out = (struct driver_container){
        .name = container->name,
        .attempt = attempt,
        .hash = arena_print(arena, "%016" PRIx64, container->hash),
        .image = container->image,
        .command = resolver_texts(&resolver, container->command, container->command_count),
        .command_count = container->command_count,
        .args = resolver_texts(&resolver, container->args, container->arg_count),
        .arg_count = container->arg_count,
        .working_dir = container->working_dir,
        .env = resolver.env,
        .env_count = resolver.env_count,
        .log_path = arena_print(arena, "%s/%u.log", container->name, attempt),
        .stdin_open = container->stdin_open,
        .stdin_once = container->stdin_once,
        .tty = container->tty,
        .security = container->security,
    };
    resolver_resources(&resolver, out);
    return resolver_mounts(&resolver, out);
}

void podspec_sandbox(const struct pod_spec *spec, uint32_t attempt, const struct pod_facts *facts,
                     const char *cgroup_root, struct arena *arena, struct driver_sandbox *out)
{
    *out = (struct driver_sandbox){
        .pod_name = spec->name,
        .pod_namespace = spec->namespace,
        .pod_uid = spec->uid,
        .attempt = attempt,
        .hostname = spec->host_network ? "" : spec->hostname,
        .log_directory =
            volumes_log_directory(facts->root, spec->namespace, spec->name, spec->uid, arena),
        .cgroup_parent =
            cgroup_root[0] == 0 ? "" : arena_print(arena, "%s/pod%s", cgroup_root, spec->uid),
        .dns_servers = spec->dns_servers,
        .dns_server_count = spec->dns_server_count,
        .dns_searches = spec->dns_searches,
        .dns_search_count = spec->dns_search_count,
        .dns_options = spec->dns_options,
        .dns_option_count = spec->dns_option_count,
        .ports = spec->ports,
        .port_count = spec->port_count,
        .sysctls = spec->sysctls,
        .sysctl_count = spec->sysctl_count,
        .host_network = spec->host_network,
        .host_pid = spec->host_pid,
        .host_ipc = spec->host_ipc,
        .share_pid = spec->share_pid,
        .security = spec->security,
    };
}
