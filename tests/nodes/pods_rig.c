#include "tests/nodes/pods_rig.h"

#include "schemas/check.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* A record on its way to the disk; lost when the agent dies first. */
struct rig_record {
    struct rig *rig;
    struct rig_record *next;
    char uid[32];
    char container[64];
    uint32_t attempt;
    char kind; /* a attempt, s status, e ended, f files written, r files removed */
    struct codec *codec;
    struct bytes bytes;
};

static struct pods_time rig_now(const struct rig *rig)
{
    return (struct pods_time){.mono_ms = 1000 + rig->sim.now_us / 1000,
                              .wall_ms = RUNTIME_SIM_EPOCH_MS + (int64_t)(rig->sim.now_us / 1000)};
}

struct rig_pod *rig_pod(struct rig *rig, const char *uid)
{
    for (size_t i = 0; i < rig->count; i++) {
        if (strcmp(rig->state[i].uid, uid) == 0) {
            return &rig->state[i];
        }
    }
    return NULL;
}

static void on_turn(void *context);

static void rig_wake(struct rig *rig, uint64_t delay_us)
{
    sim_after(&rig->sim, delay_us, rig->life, on_turn, rig);
}

static void on_turn(void *context)
{
    struct rig *rig = context;
    const struct pods_time now = rig_now(rig);
    const uint64_t next_ms = pods_tick(rig->pods, now);
    CHECK(next_ms > now.mono_ms);
    rig_wake(rig, (next_ms - now.mono_ms) * 1000);
}

static void on_record(void *context)
{
    struct rig_record *record = context;
    struct rig *rig = record->rig;
    struct rig_record **link = &rig->records;
    while (*link != record) {
        link = &(*link)->next;
    }
    *link = record->next;
    struct rig_pod *pod = rig_pod(rig, record->uid);
    CHECK(pod != NULL);
    switch (record->kind) {
    case 'a': {
        size_t place = 0;
        while (place < pod->attempt_count &&
               strcmp(pod->attempts[place].container, record->container) != 0) {
            place++;
        }
        CHECK(place < RIG_CONTAINERS);
        if (place == pod->attempt_count) {
            pod->attempt_count++;
            pod->attempts[place].attempt = -1;
            snprintf(pod->attempts[place].container, sizeof pod->attempts[place].container, "%s",
                     record->container);
        }
        CHECK(rig->lost || (int64_t)record->attempt <=
                               pod->attempts[place].attempt + 1); /* never a number skipped */
        if ((int64_t)record->attempt > pod->attempts[place].attempt) {
            pod->attempts[place].attempt = record->attempt;
        }
        pods_attempt_recorded(rig->pods, record->uid, record->container, record->attempt);
        break;
    }
    case 's':
        codec_destroy(pod->codec);
        pod->codec = record->codec;
        pod->status_bytes = record->bytes;
        pod->has_status = true;
        pod->statuses++;
        break;
    case 'e':
        pod->ended = true;
        pod->ends++;
        break;
    case 'f':
        pods_on_volumes(rig->pods, record->uid, rig->files_status, "the disk says no",
                        rig_now(rig));
        break;
    case 'r':
        pods_on_removed(rig->pods, record->uid, 0, "", rig_now(rig));
        break;
    }
    free(record);
    rig_wake(rig, 0);
}

static struct rig_record *rig_record(struct rig *rig, const char *uid, char kind)
{
    struct rig_record *record = calloc(1, sizeof *record);
    CHECK(record != NULL);
    record->rig = rig;
    record->kind = kind;
    record->next = rig->records;
    rig->records = record;
    snprintf(record->uid, sizeof record->uid, "%s", uid);
    sim_after(&rig->sim, rig->record_us, rig->life, on_record, record);
    return record;
}

static int door_runtime(void *context, uint64_t id, const struct driver_call *call)
{
    struct rig *rig = context;
    return rig->door.driver.call(&rig->door.driver, id, call);
}

static int door_volumes(void *context, const struct pod_spec *spec, const struct pod_facts *facts)
{
    struct rig *rig = context;
    CHECK(facts->pod_ip[0] != 0);
    rig->files_written++;
    rig_record(rig, spec->uid, 'f');
    return 0;
}

static int door_remove(void *context, const char *uid, const char *namespace, const char *name)
{
    struct rig *rig = context;
    (void)namespace;
    (void)name;
    rig->files_removed++;
    if (rig_pod(rig, uid) == NULL) { /* an orphan the state never knew */
        struct rig_pod *pod = &rig->state[rig->count++];
        snprintf(pod->uid, sizeof pod->uid, "%s", uid);
    }
    rig_record(rig, uid, 'r');
    return 0;
}

static void door_log(void *context, const char *uid, const char *namespace, const char *name,
                     const char *container, uint32_t attempt)
{
    struct rig *rig = context;
    (void)uid, (void)namespace, (void)name, (void)container, (void)attempt;
    rig->logs_removed++;
}

static int door_attempt(void *context, const char *namespace, const char *name,
                        const struct pod_attempt *attempt)
{
    struct rig *rig = context;
    (void)namespace, (void)name;
    if (rig->records_refused) {
        return STATUS_FULL;
    }
    if (rig->no_room) {
        return -ENOSPC;
    }
    struct rig_record *record = rig_record(rig, attempt->uid, 'a');
    snprintf(record->container, sizeof record->container, "%s", attempt->container);
    record->attempt = attempt->attempt;
    return 0;
}

static int door_status(void *context, const char *namespace, const char *name,
                       const struct pod_status *status)
{
    struct rig *rig = context;
    (void)namespace, (void)name;
    if (rig->records_refused) {
        return STATUS_FULL;
    }
    struct rig_record *record = rig_record(rig, status->uid, 's');
    record->codec = codec_create();
    CHECK(codec_pod_status_build(record->codec, status, &record->bytes) ==
          0); /* convertible one to one */
    return 0;
}

static int door_ended(void *context, const char *namespace, const char *name,
                      const struct pod_ended *ended)
{
    struct rig *rig = context;
    (void)namespace, (void)name;
    if (rig->records_refused) {
        return STATUS_FULL;
    }
    CHECK(runtime_sim_objects(&rig->runtime, ended->uid) == 0);
    rig_record(rig, ended->uid, 'e');
    return 0;
}

static void door_event(void *context, const struct edge_event *event)
{
    struct rig *rig = context;
    rig->events++;
    const size_t used = strlen(rig->event_log);
    snprintf(rig->event_log + used, sizeof rig->event_log - used, "%s/%s=%u ", event->reason,
             event->container, event->count);
    snprintf(rig->event_last, sizeof rig->event_last, "%s %s %s", event->type, event->reason,
             event->message);
}

static int door_find(void *context, bool secret, const char *namespace, const char *name,
                     struct bytes *out)
{
    struct rig *rig = context;
    CHECK(strcmp(namespace, "default") == 0);
    for (size_t i = 0; i < rig->object_count; i++) {
        const struct rig_object *object = &rig->objects[i];
        if (object->there && object->secret == secret && strcmp(object->name, name) == 0) {
            *out = bytes_text(object->json);
            return 0;
        }
    }
    return -ENOENT;
}

static void on_answer(void *owner, uint64_t id, const struct driver_answer *answer)
{
    struct rig *rig = owner;
    pods_on_answer(rig->pods, id, answer, rig_now(rig));
    rig_wake(rig, 0);
}

static void rig_tell(struct rig *rig, struct rig_pod *pod)
{
    struct pod_attempt attempts[RIG_CONTAINERS];
    for (size_t i = 0; i < pod->attempt_count; i++) {
        attempts[i] = (struct pod_attempt){.uid = pod->uid,
                                           .container = pod->attempts[i].container,
                                           .attempt = (uint32_t)pod->attempts[i].attempt};
    }
    const struct object object = {
        .uid = pod->uid,
        .namespace_ = "default",
        .name = pod->uid,
        .deletion_time_ms = pod->deletion_ms,
        .deletion_grace_s = pod->grace_s,
        .json = bytes_text(pod->json),
    };
    struct pod_status status;
    if (pod->has_status) {
        CHECK(codec_pod_status_read(pod->codec, pod->status_bytes, &status) == 0);
    }
    CHECK(
        pods_desire(rig->pods, &(const struct pods_wish){.object = &object,
                                                         .attempts = attempts,
                                                         .attempt_count = pod->attempt_count,
                                                         .status = pod->has_status ? &status : NULL,
                                                         .ended = pod->ended}) == 0);
}

void rig_start(struct rig *rig)
{
    CHECK(rig->pods == NULL);
    rig->life = sim_owner_new(&rig->sim);
    runtime_sim_connect(&rig->runtime, &rig->door);
    rig->door.driver.on_answer = on_answer;
    rig->door.driver.owner = rig;
    rig->pods = pods_create(&rig->config, &rig->pods_door);
    for (size_t i = 0; i < rig->count; i++) {
        if (rig->state[i].wanted && !rig->late) {
            rig_tell(rig, &rig->state[i]);
        }
    }
    if (!rig->late) {
        pods_begin(rig->pods);
    }
    rig_wake(rig, 0);
}

void rig_crash(struct rig *rig)
{
    sim_cancel_owner(&rig->sim,
                     rig->life); /* records that were not durable are lost with their memory */
    runtime_sim_disconnect(&rig->door);
    pods_destroy(rig->pods);
    rig->pods = NULL;
    for (struct rig_record *record = rig->records, *next; record != NULL; record = next) {
        next = record->next;
        if (record->codec != NULL) {
            codec_destroy(record->codec);
        }
        free(record);
    }
    rig->records = NULL;
}

void rig_init(struct rig *rig, uint64_t seed)
{
    memset(rig, 0, sizeof *rig);
    sim_init(&rig->sim, seed);
    runtime_sim_init(&rig->runtime, &rig->sim);
    rig->record_us = 2000;
    rig->config = (struct pods_config){.node_name = "edge-1",
                                       .runtime = "containerd",
                                       .host_ip = "192.0.2.1",
                                       .root = "/r",
                                       .cgroup_root = "/kelp",
                                       .node_cpu_milli = 4000,
                                       .node_memory_bytes = 4ll << 30};
    rig->pods_door = (struct pods_door){
        .context = rig,
        .runtime_call = door_runtime,
        .volumes_prepare = door_volumes,
        .volumes_remove = door_remove,
        .log_remove = door_log,
        .record_attempt = door_attempt,
        .record_status = door_status,
        .record_ended = door_ended,
        .record_event = door_event,
        .lookup = {.find = door_find, .context = rig},
    };
    rig_start(rig);
}

void rig_deinit(struct rig *rig)
{
    rig_crash(rig);
    for (size_t i = 0; i < rig->count; i++) {
        codec_destroy(rig->state[i].codec);
    }
    runtime_sim_deinit(&rig->runtime);
    sim_deinit(&rig->sim);
}

void rig_desire(struct rig *rig, const char *uid, const char *json)
{
    struct rig_pod *pod = rig_pod(rig, uid);
    if (pod == NULL) {
        CHECK(rig->count < RIG_PODS);
        pod = &rig->state[rig->count++];
        snprintf(pod->uid, sizeof pod->uid, "%s", uid);
        pod->codec = codec_create();
    }
    snprintf(pod->json, sizeof pod->json, "%s", json);
    pod->wanted = true;
    if (rig->pods != NULL) {
        rig_tell(rig, pod);
        rig_wake(rig, 0);
    }
}

void rig_delete(struct rig *rig, const char *uid, int64_t grace_s)
{
    struct rig_pod *pod = rig_pod(rig, uid);
    pod->deletion_ms = rig_now(rig).wall_ms;
    pod->grace_s = grace_s;
    if (rig->pods != NULL) {
        rig_tell(rig, pod);
        rig_wake(rig, 0);
    }
}

void rig_undesire(struct rig *rig, const char *uid)
{
    rig_pod(rig, uid)->wanted = false;
    if (rig->pods != NULL) {
        pods_undesire(rig->pods, uid);
        rig_wake(rig, 0);
    }
}

void rig_object(struct rig *rig, bool secret, const char *name, const char *json)
{
    size_t place = 0;
    while (place < rig->object_count &&
           (rig->objects[place].secret != secret || strcmp(rig->objects[place].name, name) != 0)) {
        place++;
    }
    CHECK(place < RIG_OBJECTS);
    rig->object_count += place == rig->object_count;
    struct rig_object *object = &rig->objects[place];
    object->secret = secret;
    object->there = json != NULL;
    snprintf(object->name, sizeof object->name, "%s", name);
    snprintf(object->json, sizeof object->json, "%s", json == NULL ? "" : json);
    if (rig->pods != NULL) {
        pods_object_changed(rig->pods, secret, "default", name);
        rig_wake(rig, 0);
    }
}

void rig_run(struct rig *rig, uint64_t ms)
{
    sim_run_until(&rig->sim, rig->sim.now_us + ms * 1000);
}

const struct pod_status *rig_status(struct rig *rig, const char *uid)
{
    static struct pod_status status;
    struct rig_pod *pod = rig_pod(rig, uid);
    if (pod == NULL || !pod->has_status) {
        return NULL;
    }
    CHECK(codec_pod_status_read(pod->codec, pod->status_bytes, &status) == 0);
    return &status;
}

const struct container_status *rig_container(struct rig *rig, const char *uid,
                                             const char *container)
{
    const struct pod_status *status = rig_status(rig, uid);
    for (uint32_t i = 0; status != NULL && i < status->container_count; i++) {
        if (strcmp(status->containers[i].name, container) == 0) {
            return &status->containers[i];
        }
    }
    return NULL;
}

int64_t rig_attempt(struct rig *rig, const char *uid, const char *container)
{
    const struct rig_pod *pod = rig_pod(rig, uid);
    for (size_t i = 0; i < pod->attempt_count; i++) {
        if (strcmp(pod->attempts[i].container, container) == 0) {
            return pod->attempts[i].attempt;
        }
    }
    return -1;
}

const char *rig_json(const char *uid, const char *restart, const char *rest)
{
    static char json[4096];
    snprintf(json, sizeof json,
             "{\"metadata\":{\"name\":\"%s\",\"namespace\":\"default\",\"uid\":\"%s\",\"labels\":{"
             "\"app\":\"x\"}},"
             "\"spec\":{\"restartPolicy\":\"%s\",%s}}",
             uid, uid, restart, rest);
    return json;
}
