/* What has to be on disk for a pod: decided from its wish and the state, without touching the disk.
 * volumes.c writes it.
 */
#include "nodes/edge/source.h"
#include "nodes/edge/volumes.h"

#include "schemas/check.h"
#include "schemas/status.h"

#include <stdio.h>
#include <stdlib.h>

static const char *volume_kind_text(enum pod_volume_kind kind)
{
    switch (kind) {
    case POD_VOLUME_EMPTY_DIR:
        return "empty-dir";
    case POD_VOLUME_HOST_PATH:
        return "host-path";
    case POD_VOLUME_CONFIG_MAP:
        return "config-map";
    case POD_VOLUME_SECRET:
        return "secret";
    case POD_VOLUME_DOWNWARD:
        return "downward-api";
    case POD_VOLUME_PROJECTED:
        return "projected";
    case POD_VOLUME_UNSUPPORTED:
        return "unsupported";
    }
    abort();
}

const char *volumes_path(const char *root, const char *uid, const struct pod_volume *volume,
                         struct arena *arena)
{
    return volume->kind == POD_VOLUME_HOST_PATH
               ? volume->host_path
               : arena_print(arena, "%s/pods/%s/volumes/%s/%s", root, uid,
                             volume_kind_text(volume->kind), volume->name);
}

const char *volumes_hosts_path(const char *root, const char *uid, struct arena *arena)
{
    return arena_print(arena, "%s/pods/%s/etc-hosts", root, uid);
}

const char *volumes_log_directory(const char *root, const char *namespace, const char *name,
                                  const char *uid, struct arena *arena)
{
    return arena_print(arena, "%s/logs/%s_%s_%s", root, namespace, name, uid);
}

/* One planning of one volume. */
struct planner {
    const struct pod_spec *spec;
    const struct pod_volume *volume;
    const struct pod_lookup *lookup;
    const struct pod_facts *facts;
    struct arena *arena;
    struct volume_step *step;
    size_t room;
    char *error;
    size_t error_bytes;
};

/* A later source replaces a file of an earlier one, as in a projected volume. */
static void planner_put(struct planner *planner, const char *path, struct bytes content,
                        int32_t mode)
{
    struct volume_step *step = planner->step;
    size_t place = 0;
    while (place < step->file_count && strcmp(step->files[place].path, path) != 0) {
        place++;
    }
    CHECK(place < planner->room);
    step->files[place] = (struct volume_file){
        .path = arena_text(planner->arena, path),
        .content = content,
        .mode = (uint32_t)(mode < 0 ? planner->volume->default_mode : mode) & 0777,
    };
    step->file_count += place == step->file_count;
}

static void planner_reserve(struct planner *planner, size_t more)
{
    struct volume_file *files =
        arena_claim(planner->arena, planner->step->file_count + more, sizeof *files);
    if (planner->step->file_count > 0) {
        memcpy(files, planner->step->files, planner->step->file_count * sizeof *files);
    }
    planner->step->files = files;
    planner->room = planner->step->file_count + more;
}

static int planner_downward(struct planner *planner, const struct pod_volume_source *source)
{
    planner_reserve(planner, source->item_count);
    for (size_t i = 0; i < source->item_count; i++) {
        const char *text =
            podspec_field(planner->spec, source->items[i].key, planner->facts, planner->arena);
        if (text == NULL) {
            snprintf(planner->error, planner->error_bytes,
                     "volume %s: the field %s is not supported", planner->volume->name,
                     source->items[i].key);
            return STATUS_MALFORMED;
        }
        planner_put(planner, source->items[i].path, bytes_text(arena_text(planner->arena, text)),
                    source->items[i].mode);
    }
    return 0;
}

static int planner_source(struct planner *planner, const struct pod_volume_source *from)
{
    struct source source;
    struct bytes json;
    char problem[256];
    const bool secret = from->kind == POD_VOLUME_SECRET;
    const char *kind = secret ? "secret" : "configmap";
    if (planner->lookup->find(planner->lookup->context, secret, planner->spec->namespace,
                              from->name, &json) != 0) {
        snprintf(planner->error, planner->error_bytes, "%s \"%s\" not found", kind, from->name);
        return from->optional ? 0 : -ENOENT;
    }
    if (source_parse(json, secret, planner->arena, &source, problem, sizeof problem) != 0) {
        snprintf(planner->error, planner->error_bytes, "%s \"%s\": %s", kind, from->name, problem);
        return STATUS_MALFORMED;
    }
    planner_reserve(planner, source.count + from->item_count);
    for (size_t i = 0; from->item_count == 0 && i < source.count; i++) {
        if (strchr(source.keys[i].key, '/') == NULL && strncmp(source.keys[i].key, "..", 2) != 0 &&
            source.keys[i].key[0] != 0) {
            planner_put(planner, source.keys[i].key, source.keys[i].content, -1);
        }
    }
    for (size_t i = 0; i < from->item_count; i++) {
        const struct source_key *key = source_find(&source, from->items[i].key);
        if (key != NULL) {
            planner_put(planner, from->items[i].path, key->content, from->items[i].mode);
        } else if (!from->optional) {
            snprintf(planner->error, planner->error_bytes,
                     "%s \"%s\" has no key %s, which volume %s needs", kind, from->name,
                     from->items[i].key, planner->volume->name);
            return -ENOENT;
        }
    }
    return 0;
}

/* What writing looks at of a volume, in memory of the plan. */
static const struct pod_volume *planner_copy(const struct pod_volume *from, struct arena *arena)
{
    struct pod_volume *copy = arena_claim(arena, 1, sizeof *copy);
    *copy = (struct pod_volume){
        .name = arena_text(arena, from->name),
        .kind = from->kind,
        .host_path = arena_text(arena, from->host_path),
        .host_type = arena_text(arena, from->host_type),
        .memory = from->memory,
        .size_limit_bytes = from->size_limit_bytes,
        .default_mode = from->default_mode,
    };
    return copy;
}

/* The hosts file that Kubernetes gives a pod. */
static const char *planner_hosts(const struct pod_spec *spec, const struct pod_facts *facts,
                                 struct arena *arena)
{
    const char *text = "# Written by Kelp for this pod.\n"
                       "127.0.0.1\tlocalhost\n"
                       "::1\tlocalhost ip6-localhost ip6-loopback\n"
                       "fe00::0\tip6-localnet\n"
                       "fe00::0\tip6-mcastprefix\n"
                       "fe00::1\tip6-allnodes\n"
                       "fe00::2\tip6-allrouters\n";
    if (facts->pod_ip[0] != 0) {
        text = arena_print(arena, "%s%s\t%s\n", text, facts->pod_ip, spec->hostname);
    }
    for (size_t i = 0; i < spec->host_alias_count; i++) {
        text = arena_print(arena, "%s%s\t%s\n", text, spec->host_aliases[i].name,
                           spec->host_aliases[i].value);
    }
    return text;
}

int volumes_plan(const struct pod_spec *spec, const struct pod_lookup *lookup,
                 const struct pod_facts *facts, struct volume_plan *out, char *error,
                 size_t error_bytes)
{
    *out = (struct volume_plan){.group = spec->fs_group.set ? spec->fs_group.value : -1};
    arena_init(&out->arena);
    struct arena *arena = &out->arena;
    out->pod_directory = arena_print(arena, "%s/pods/%s", facts->root, spec->uid);
    out->log_directory =
        volumes_log_directory(facts->root, spec->namespace, spec->name, spec->uid, arena);
    out->hosts = spec->host_network ? NULL : planner_hosts(spec, facts, arena);
    out->steps = arena_claim(arena, spec->volume_count, sizeof *out->steps);
    const char **names = arena_claim(arena, spec->container_count, sizeof *names);
    for (size_t i = 0; i < spec->container_count; i++) {
        names[i] = arena_text(arena, spec->containers[i].name);
    }
    out->containers = names;
    out->container_count = spec->container_count;

    int status = 0;
    for (size_t i = 0; i < spec->volume_count && status == 0; i++) {
        const struct pod_volume *volume = &spec->volumes[i];
        struct volume_step *step = &out->steps[out->step_count++];
        struct planner planner = {spec, volume, lookup, facts, arena, step, 0, error, error_bytes};
        *step = (struct volume_step){.volume = planner_copy(volume, arena)};
        step->directory = volumes_path(facts->root, spec->uid, step->volume, arena);
        for (size_t k = 0; k < volume->source_count && status == 0; k++) {
            status = volume->sources[k].kind == POD_VOLUME_DOWNWARD
                         ? planner_downward(&planner, &volume->sources[k])
                         : planner_source(&planner, &volume->sources[k]);
        }
    }
    if (status != 0) {
        volume_plan_deinit(out);
    }
    return status;
}

void volume_plan_deinit(struct volume_plan *plan)
{
    arena_deinit(&plan->arena);
    *plan = (struct volume_plan){0};
}
