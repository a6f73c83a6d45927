/* The pods of the core: what the state wishes for, and what the reconciler asks of the world. */
#include "nodes/edge/core_inner.h"

#include "schemas/check.h"
#include "statemachine/store.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* -- desired pods ------------------------------------------------------------------------------ */

static void core_uid_forget(struct edge_core *core, const char *uid)
{
    for (uint32_t i = 0; i < core->uid_count; i++) {
        if (strcmp(core->uids[i], uid) == 0) {
            core->uid_count--;
            memmove(core->uids[i], core->uids[core->uid_count], sizeof core->uids[i]);
            return;
        }
    }
}

static void core_undesire(struct edge_core *core, const char *uid)
{
    if (uid[0] != '\0') {
        pods_undesire(core->pods, uid);
        core_uid_forget(core, uid);
    }
}

/* Pass a pod of the state to the reconciler; `put` is lent by codec_read. */
static void core_desire(struct edge_core *core, const char *key, const struct object_put *put)
{
    struct codec *codec = core->codec_read;
    const struct object *object = &put->object;
    const struct pod_attempt *attempts = NULL;
    uint32_t attempt_count = 0;
    struct pod_status status;
    const int attempts_status =
        edge_attempts_list(core->machine, object->uid, codec, &attempts, &attempt_count);
    const int found = edge_pod_status_find(core->machine, key, codec, &status);
    const int ended = edge_pod_ended_find(core->machine, object->uid);
    if (attempts_status != STATUS_OK || found < 0 || ended < 0) {
        edge_core_fatal(core, STATUS_CORRUPT, store_error(core->store));
        return;
    }
    core_uid_forget(core, object->uid);
    const struct pods_wish wish = {
        .object = object,
        .attempts = attempts,
        .attempt_count = attempt_count,
        .status = found == STATUS_OK && strcmp(status.uid, object->uid) == 0 ? &status : NULL,
        .ended = ended == STATUS_OK,
    };
    if (strlen(object->uid) >= sizeof core->uids[0] || core->uid_count >= LIMIT_PODS ||
        pods_desire(core->pods, &wish) != 0) {
        edge_core_log(core, LOGGER_ERROR, "pod_not_taken", "key=%s reason=too many pods on this node",
                 key);
        return;
    }
    snprintf(core->uids[core->uid_count++], sizeof core->uids[0], "%s", object->uid);
}

/* All wishes were replaced, or we have just started: pass all of them, and forget the others. */
void edge_core_desire_all(struct edge_core *core)
{
    struct edge_wishes *wishes = edge_wishes_open(core->machine, "/pods/");
    char(*old)[64] = calloc(LIMIT_PODS, sizeof *old);
    CHECK(old != NULL);
    const uint32_t old_count = core->uid_count;
    memcpy(old, core->uids, old_count * sizeof *old);
    core->uid_count = 0;

    const char *key = NULL;
    struct object_put put;
    int status;
    codec_reset(core->codec_read);
    while ((status = edge_wishes_next(wishes, core->codec_read, &key, &put)) == STATUS_OK) {
        core_desire(core, key, &put);
        codec_reset(core->codec_read);
    }
    edge_wishes_close(wishes);
    if (status < 0) {
        edge_core_fatal(core, status, store_error(core->store));
    }
    for (uint32_t i = 0; i < old_count; i++) {
        bool kept = false;
        for (uint32_t j = 0; j < core->uid_count; j++) {
            kept = kept || strcmp(old[i], core->uids[j]) == 0;
        }
        if (!kept) {
            pods_undesire(core->pods, old[i]);
        }
    }
    free(old);
}

/* "/configmaps/ns/name" -> a hint to the pods that use it. */
static void core_reference_changed(struct edge_core *core, const char *key)
{
    const bool secret = strncmp(key, "/secrets/", 9) == 0;
    if (!secret && strncmp(key, "/configmaps/", 12) != 0) {
        return;
    }
    const char *namespace_ = key + (secret ? 9 : 12);
    const char *name = strchr(namespace_, '/');
    char copy[LIMIT_NAME_BYTES + 1];
    if (name == NULL || (size_t)(name - namespace_) >= sizeof copy) {
        return;
    }
    memcpy(copy, namespace_, (size_t)(name - namespace_));
    copy[name - namespace_] = '\0';
    pods_object_changed(core->pods, secret, copy, name + 1);
}

void edge_core_on_change(struct edge_core *core, const struct edge_change *change)
{
    if (strncmp(change->key, "/pods/", 6) != 0) {
        core_reference_changed(core, change->key);
        return;
    }
    core_undesire(core, change->old_uid);
    if (change->removed) {
        core_undesire(core, change->uid);
        return;
    }
    struct object_put put;
    codec_reset(core->codec_read);
    const int status = edge_object_find(core->machine, change->key, core->codec_read, &put);
    if (status == STATUS_OK) {
        core_desire(core, change->key, &put);
    } else if (status < 0) {
        edge_core_fatal(core, status, store_error(core->store));
    }
}

/* -- the pods' door ---------------------------------------------------------------------------- */

static int core_pods_runtime_call(void *context, uint64_t id, const struct driver_call *call)
{
    struct edge_core *core = context;
    return core->ops.runtime_call(core->ops.context, id, call);
}

static int core_pods_volumes_prepare(void *context, const struct pod_spec *spec,
                                     const struct pod_facts *facts)
{
    struct edge_core *core = context;
    return core->ops.volumes_prepare(core->ops.context, spec, facts);
}

static int core_pods_volumes_remove(void *context, const char *uid, const char *namespace,
                                    const char *name)
{
    struct edge_core *core = context;
    return core->ops.volumes_remove(core->ops.context, uid, namespace, name);
}

static void core_pods_log_remove(void *context, const char *uid, const char *namespace,
                                 const char *name, const char *container, uint32_t attempt)
{
    struct edge_core *core = context;
    core->ops.log_remove(core->ops.context, uid, namespace, name, container, attempt);
}

static int core_pods_record_attempt(void *context, const char *namespace, const char *name,
                                    const struct pod_attempt *attempt)
{
    struct edge_core *core = context;
    const struct edge_meta *meta = edge_machine_meta(core->machine);
    if (core->space != SPACE_PLENTY) {
        return -ENOSPC; /* asked again: containers that run go on */
    }
    if (hub_catches_up(&core->hub, meta->down_stream, meta->down_position, core->now.mono_ms)) {
        return STATUS_FULL; /* asked again: by then its config maps are those of the cloud */
    }
    struct bytes body;
    codec_reset(core->codec_build);
    const int status = codec_pod_attempt_build(core->codec_build, attempt, &body);
    return status != 0 ? status
                       : edge_core_append_fact(core, RECORD_POD_ATTEMPT,
                                          codec_print(core->codec_build, "/pods/%s/%s", namespace,
                                                      name),
                                          body);
}

static int core_pods_record_status(void *context, const char *namespace, const char *name,
                                   const struct pod_status *pod)
{
    struct edge_core *core = context;
    struct bytes body;
    codec_reset(core->codec_build);
    const int status = codec_pod_status_build(core->codec_build, pod, &body);
    return status != 0 ? status
                       : edge_core_append_fact(core, RECORD_POD_STATUS,
                                          codec_print(core->codec_build, "/pods/%s/%s", namespace,
                                                      name),
                                          body);
}

static int core_pods_record_ended(void *context, const char *namespace, const char *name,
                                  const struct pod_ended *ended)
{
    struct edge_core *core = context;
    struct bytes body;
    codec_reset(core->codec_build);
    const int status = codec_pod_ended_build(core->codec_build, ended, &body);
    return status != 0 ? status
                       : edge_core_append_fact(core, RECORD_POD_ENDED,
                                          codec_print(core->codec_build, "/pods/%s/%s", namespace,
                                                      name),
                                          body);
}

void edge_core_record_event(void *context, const struct edge_event *event)
{
    struct edge_core *core = context;
    struct bytes body;
    codec_reset(core->codec_build);
    /* For people: one that the log does not take is lost, and the log line says so. */
    if (codec_edge_event_build(core->codec_build, event, &body) != 0 ||
        edge_core_append_fact(core, RECORD_EDGE_EVENT,
                         codec_print(core->codec_build, "/events/%s/%s.%016" PRIx64, event->namespace_,
                                     event->name, pods_event_hash(event)),
                         body) != 0) {
        edge_core_log(core, LOGGER_WARN, "event_dropped", "object=%s/%s reason=%s", event->namespace_,
                 event->name, event->reason);
    }
}

static int core_pods_find(void *context, bool secret, const char *namespace, const char *name,
                          struct bytes *out_json)
{
    struct edge_core *core = context;
    struct object_put put;
    struct codec *codec = core->codec_lookup;
    codec_reset(codec);
    const char *key = codec_print(codec, "/%s/%s/%s", secret ? "secrets" : "configmaps", namespace,
                                  name);
    if (edge_object_find(core->machine, key, codec, &put) != STATUS_OK) {
        return -ENOENT;
    }
    *out_json = put.object.json;
    return 0;
}

void edge_core_init_pods(struct edge_core *core)
{
    core->pods_door = (struct pods_door){
        .context = core,
        .runtime_call = core_pods_runtime_call,
        .volumes_prepare = core_pods_volumes_prepare,
        .volumes_remove = core_pods_volumes_remove,
        .log_remove = core_pods_log_remove,
        .record_attempt = core_pods_record_attempt,
        .record_status = core_pods_record_status,
        .record_ended = core_pods_record_ended,
        .record_event = edge_core_record_event,
        .lookup = {.find = core_pods_find, .context = core},
    };
}
