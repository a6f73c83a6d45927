/* What is told about a pod. Built anew after each step and compared with what was told last.
 *
 * source: Kubernetes pkg/kubelet/kubelet_pods.go (getPhase, convertToAPIContainerStatuses) and
 * pkg/kubelet/status/generate.go. Differs: readiness is running, as long as no probes are run;
 * PodScheduled is the cloud's to say.
 */
#include "nodes/edge/pods_inside.h"

#include <stdio.h>

#define STATUS_CONDITIONS 4u

/* "containerd://" and the id, as the kubelet writes it. */
static const char *status_id(const struct pods *pods, const struct pods_run *run,
                             struct arena *arena)
{
    const char *runtime = pods->config->runtime;
    return runtime == NULL || runtime[0] == 0 || run->id[0] == 0
               ? arena_text(arena, run->id)
               : arena_print(arena, "%s://%s", runtime, run->id);
}

static void status_last(const struct pods *pods, struct container_status *out,
                        const struct pods_run *run, struct arena *arena)
{
    out->last_state = CONTAINER_TERMINATED;
    out->last_reason = run->reason;
    out->last_exit_code = run->exit_code;
    out->last_started_ms = run->started_ms;
    out->last_finished_ms = run->finished_ms;
    out->last_container_id = status_id(pods, run, arena);
}

static void status_wait(struct container_status *out, const char *reason, const char *message)
{
    out->state = CONTAINER_WAITING;
    out->reason = reason;
    out->message = message;
}

/* Why a container that is not there yet is not. */
static void status_missing(const struct pod_entry *pod, const struct pods_container *container,
                           struct container_status *out)
{
    const struct pod_note *refusal = podspec_refusal(&pod->spec);
    if (refusal != NULL) {
        status_wait(out, "CreateContainerConfigError", refusal->text);
    } else if (container->reason[0] != 0) {
        status_wait(out, container->reason, container->message);
    } else if (pod->no_space) {
        status_wait(out, "DiskPressure", POD_NO_SPACE_TEXT);
    } else if (!container->spec->init && pod->spec.init_count > 0 && !pods_is_initialized(pod)) {
        status_wait(out, "PodInitializing", "");
    } else {
        status_wait(out, "ContainerCreating",
                    pod->waits_for[0] != 0 ? pod->waits_for : pod->files_error);
    }
}

static void status_ended(const struct pods *pods, const struct pod_entry *pod,
                         const struct pods_container *container,
                         struct arena *arena, struct pods_time now, struct container_status *out)
{
    const struct pods_run *run = &container->current;
    const bool again = !pod->finished && !pod->expired && !pod->deleting &&
                       pods_container_should_run(pod, container) &&
                       !(container->spec->init && pods_is_initialized(pod));
    if (again && container->restart_at_ms > now.mono_ms) {
        status_wait(out, "CrashLoopBackOff",
                    arena_print(arena, "back-off restarting failed container=%s pod=%s_%s(%s)",
                                container->name, pod->name, pod->namespace, pod->uid));
        status_last(pods, out, run, arena);
    } else if (again && (container->reason[0] != 0 || pod->no_space)) {
        const bool told = container->reason[0] != 0;
        status_wait(out, told ? container->reason : "DiskPressure",
                    told ? container->message : POD_NO_SPACE_TEXT);
        status_last(pods, out, run, arena);
    } else {
        out->state = CONTAINER_TERMINATED;
        out->reason = run->reason[0] != 0   ? run->reason
                      : run->exit_code == 0 ? "Completed"
                                            : "Error";
        out->message = run->message;
        out->exit_code = run->exit_code;
        out->started_ms = run->started_ms;
        out->finished_ms = run->finished_ms;
    }
}

static void status_container(const struct pods *pods, const struct pod_entry *pod,
                             const struct pods_container *container, struct arena *arena,
                             struct pods_time now,
                             struct container_status *out)
{
    const struct pods_run *run = &container->current;
    *out = (struct container_status){
        .name = container->name,
        .image = run->image[0] != 0 ? run->image : container->spec->image,
        .image_id = run->image_id,
        .container_id = status_id(pods, run, arena),
        .reason = "",
        .message = "",
        .restart_count = run->state == RUN_NONE ? 0 : run->attempt,
        .init = container->spec->init,
        .last_reason = "",
        .last_container_id = "",
    };
    if (container->previous.state == RUN_EXITED) {
        status_last(pods, out, &container->previous, arena);
    }
    switch (run->state) {
    case RUN_NONE:
        status_missing(pod, container, out);
        break;
    case RUN_CREATED:
        status_wait(out, container->reason[0] != 0 ? container->reason : "ContainerCreating",
                    container->message);
        break;
    case RUN_RUNNING:
        out->state = CONTAINER_RUNNING;
        out->started_ms = run->started_ms;
        out->ready = !container->spec->init && !pod->deleting;
        out->started = true;
        break;
    case RUN_EXITED:
        status_ended(pods, pod, container, arena, now, out);
        out->ready =
            container->spec->init && out->state == CONTAINER_TERMINATED && out->exit_code == 0;
        break;
    }
}

/* source: getPhase of the kubelet */
static enum pod_phase status_phase(const struct pod_entry *pod,
                                   const struct container_status *containers, size_t count)
{
    size_t waiting = 0, running = 0, stopped = 0, succeeded = 0;
    for (size_t i = 0; i < count; i++) {
        if (containers[i].init) {
            continue;
        }
        switch ((enum container_state)containers[i].state) {
        case CONTAINER_WAITING:
            waiting += containers[i].last_state != CONTAINER_TERMINATED;
            stopped += containers[i].last_state == CONTAINER_TERMINATED;
            break;
        case CONTAINER_RUNNING:
            running++;
            break;
        case CONTAINER_TERMINATED:
            stopped++;
            succeeded += containers[i].exit_code == 0;
            break;
        }
    }
    if (pod->expired) {
        return POD_FAILED;
    }
    if (pod->finished) {
        return waiting == 0 && stopped == succeeded ? POD_SUCCEEDED : POD_FAILED;
    }
    if (!pods_is_initialized(pod) || waiting > 0) {
        return POD_PENDING;
    }
    if (running > 0 || pod->spec.restart == POD_RESTART_ALWAYS) {
        return POD_RUNNING;
    }
    if (stopped == succeeded) {
        return POD_SUCCEEDED;
    }
    return pod->spec.restart == POD_RESTART_NEVER ? POD_FAILED : POD_RUNNING;
}

static struct condition *status_condition(const struct pod_status *before, struct condition *list,
                                          size_t *count, const char *type, bool holds,
                                          const char *reason, const char *message,
                                          struct pods_time now)
{
    struct condition *out = &list[(*count)++];
    CHECK(*count <= STATUS_CONDITIONS);
    *out = (struct condition){
        .type = type,
        .status = holds ? CONDITION_TRUE : CONDITION_FALSE,
        .reason = holds ? "" : reason,
        .message = holds ? "" : message,
        .transition_ms = now.wall_ms,
    };
    for (size_t i = 0; i < before->condition_count; i++) {
        if (strcmp(before->conditions[i].type, type) == 0 &&
            before->conditions[i].status == out->status) {
            out->transition_ms = before->conditions[i].transition_ms;
        }
    }
    return out;
}

/* "[a b]": the containers that are not ready. */
static const char *status_unready(const struct container_status *containers, size_t count,
                                  bool init, struct arena *arena)
{
    const char *names = NULL;
    for (size_t i = 0; i < count; i++) {
        if (containers[i].init == init && !containers[i].ready) {
            names = names == NULL ? containers[i].name
                                  : arena_print(arena, "%s %s", names, containers[i].name);
        }
    }
    return names;
}

static void status_conditions(const struct pod_entry *pod, struct pod_status *out,
                              struct arena *arena, struct pods_time now)
{
    struct condition *list = arena_claim(arena, STATUS_CONDITIONS, sizeof *list);
    size_t count = 0;
    const bool over = out->phase == POD_SUCCEEDED;
    const bool initialized = pods_is_initialized(pod);
    const char *unready = status_unready(out->containers, out->container_count, false, arena);
    const char *uninitialized = status_unready(out->containers, out->container_count, true, arena);
    const bool ready = unready == NULL && out->container_count > 0 && out->phase == POD_RUNNING;
    const char *reason = over                       ? "PodCompleted"
                         : out->phase == POD_FAILED ? "PodFailed"
                                                    : "ContainersNotReady";
    const char *message = unready == NULL || over || out->phase == POD_FAILED
                              ? ""
                              : arena_print(arena, "containers with unready status: [%s]", unready);
    status_condition(
        &pod->status, list, &count, "Initialized", initialized, "ContainersNotInitialized",
        uninitialized == NULL
            ? ""
            : arena_print(arena, "containers with incomplete status: [%s]", uninitialized),
        now);
    status_condition(&pod->status, list, &count, "Ready", ready, reason, message, now);
    status_condition(&pod->status, list, &count, "ContainersReady", ready, reason, message, now);
    if (pod->spec.note_count > 0) {
        const char *notes = pod->spec.notes[0].text;
        for (size_t i = 1; i < pod->spec.note_count; i++) {
            notes = arena_print(arena, "%s; %s", notes, pod->spec.notes[i].text);
        }
        status_condition(&pod->status, list, &count, "kelp.io/Supported", false,
                         "UnsupportedFields", notes, now);
    }
    out->conditions = list;
    out->condition_count = (uint32_t)count;
}

static void status_build(const struct pods *pods, const struct pod_entry *pod, struct arena *arena,
                         struct pods_time now, struct pod_status *out)
{
    *out = (struct pod_status){
        .uid = pod->uid,
        .phase = POD_PENDING,
        .reason = "",
        .message = "",
        .pod_ip = "",
        .host_ip = arena_text(arena, pods->config->host_ip),
        .started_ms = pod->started_ms,
        .observed_generation = pod->generation,
    };
    if (!pod->parsed) {
        out->reason = "InvalidPod";
        out->message = arena_text(arena, pod->spec_error);
        return;
    }
    struct container_status *list = arena_claim(arena, pod->spec.container_count, sizeof *list);
    for (size_t i = 0; i < pod->spec.container_count; i++) {
        for (size_t k = 0; k < pod->container_count; k++) {
            if (pod->containers[k].spec == &pod->spec.containers[i]) {
                status_container(pods, pod, &pod->containers[k], arena, now, &list[i]);
            }
        }
        CHECK(list[i].name != NULL); /* each container of the wish has a place */
    }
    out->containers = list;
    out->container_count = (uint32_t)pod->spec.container_count;
    out->phase = (uint8_t)status_phase(pod, list, pod->spec.container_count);
    out->pod_ip = arena_text(arena, pod->spec.host_network
                                        ? (pod->sandbox != NULL ? pods->config->host_ip : "")
                                        : pod->ip);
    if (pod->expired) {
        out->reason = "DeadlineExceeded";
        out->message = "Pod was active on the node longer than the specified deadline";
    }
    status_conditions(pod, out, arena, now);
}

static bool condition_equal(const struct condition *a, const struct condition *b)
{
    return strcmp(a->type, b->type) == 0 && a->status == b->status &&
           strcmp(a->reason, b->reason) == 0 && strcmp(a->message, b->message) == 0 &&
           a->transition_ms == b->transition_ms;
}

static bool container_equal(const struct container_status *a, const struct container_status *b)
{
    return strcmp(a->name, b->name) == 0 && strcmp(a->image, b->image) == 0 &&
           strcmp(a->image_id, b->image_id) == 0 && strcmp(a->container_id, b->container_id) == 0 &&
           a->state == b->state && strcmp(a->reason, b->reason) == 0 &&
           strcmp(a->message, b->message) == 0 && a->ready == b->ready &&
           a->started == b->started && a->restart_count == b->restart_count &&
           a->exit_code == b->exit_code && a->started_ms == b->started_ms &&
           a->finished_ms == b->finished_ms && a->init == b->init &&
           a->last_state == b->last_state && strcmp(a->last_reason, b->last_reason) == 0 &&
           a->last_exit_code == b->last_exit_code && a->last_started_ms == b->last_started_ms &&
           a->last_finished_ms == b->last_finished_ms &&
           strcmp(a->last_container_id, b->last_container_id) == 0;
}

static bool status_equal(const struct pod_status *a, const struct pod_status *b)
{
    bool equal = a->phase == b->phase && strcmp(a->reason, b->reason) == 0 &&
                 strcmp(a->message, b->message) == 0 && strcmp(a->pod_ip, b->pod_ip) == 0 &&
                 strcmp(a->host_ip, b->host_ip) == 0 && a->started_ms == b->started_ms &&
                 a->observed_generation == b->observed_generation &&
                 a->condition_count == b->condition_count &&
                 a->container_count == b->container_count;
    for (uint32_t i = 0; equal && i < a->condition_count; i++) {
        equal = condition_equal(&a->conditions[i], &b->conditions[i]);
    }
    for (uint32_t i = 0; equal && i < a->container_count; i++) {
        equal = container_equal(&a->containers[i], &b->containers[i]);
    }
    return equal;
}

/* A copy that lives as long as `arena`. */
static void status_copy(struct arena *arena, const struct pod_status *from, struct pod_status *out)
{
    struct condition *conditions = arena_claim(arena, from->condition_count, sizeof *conditions);
    struct container_status *containers =
        arena_claim(arena, from->container_count, sizeof *containers);
    for (uint32_t i = 0; i < from->condition_count; i++) {
        conditions[i] = from->conditions[i];
        conditions[i].type = arena_text(arena, from->conditions[i].type);
        conditions[i].reason = arena_text(arena, from->conditions[i].reason);
        conditions[i].message = arena_text(arena, from->conditions[i].message);
    }
    for (uint32_t i = 0; i < from->container_count; i++) {
        const struct container_status *container = &from->containers[i];
        containers[i] = *container;
        containers[i].name = arena_text(arena, container->name);
        containers[i].image = arena_text(arena, container->image);
        containers[i].image_id = arena_text(arena, container->image_id);
        containers[i].container_id = arena_text(arena, container->container_id);
        containers[i].reason = arena_text(arena, container->reason);
        containers[i].message = arena_text(arena, container->message);
        containers[i].last_reason = arena_text(arena, container->last_reason);
        containers[i].last_container_id = arena_text(arena, container->last_container_id);
    }
    *out = *from;
    out->uid = arena_text(arena, from->uid);
    out->reason = arena_text(arena, from->reason);
    out->message = arena_text(arena, from->message);
    out->pod_ip = arena_text(arena, from->pod_ip);
    out->host_ip = arena_text(arena, from->host_ip);
    out->conditions = conditions;
    out->containers = containers;
}

bool pods_tell(struct pods *pods, struct pod_entry *pod, struct pods_time now)
{
    struct arena arena;
    struct pod_status status;
    arena_init(&arena);
    status_build(pods, pod, &arena, now, &status);
    bool told = pod->told && status_equal(&status, &pod->status);
    if (!told &&
        pods->door->record_status(pods->door->context, pod->namespace, pod->name, &status) == 0) {
        struct arena kept;
        struct pod_status copy;
        arena_init(&kept);
        status_copy(&kept, &status, &copy);
        arena_deinit(&pod->status_arena);
        pod->status_arena = kept;
        pod->status = copy;
        pod->told = told = true;
    }
    if (!told) {
        pods_wake_at(pod, now.mono_ms + POD_RETRY_MS);
    }
    arena_deinit(&arena);
    return told;
}

/* A run as the status tells it: enough to know that this attempt existed and how it ended. */
static void remember_run(struct pods_run *run, uint32_t attempt, bool ended, const char *id,
                         const char *reason, int32_t exit_code, int64_t started_ms,
                         int64_t finished_ms)
{
    *run = (struct pods_run){
        .state = ended ? RUN_EXITED : RUN_RUNNING,
        .attempt = attempt,
        .exit_code = exit_code,
        .started_ms = started_ms,
        .finished_ms = finished_ms,
    };
    const char *bare = strstr(id, "://");
    snprintf(run->id, sizeof run->id, "%s", bare == NULL ? id : bare + 3);
    snprintf(run->reason, sizeof run->reason, "%s", reason);
}

void pods_remember(struct pod_entry *pod, const struct pod_status *status)
{
    status_copy(&pod->status_arena, status, &pod->status);
    pod->told = true;
    pod->started_ms = status->started_ms;
    pod->finished = status->phase == POD_SUCCEEDED || status->phase == POD_FAILED;
    pod->expired = pod->finished && strcmp(status->reason, "DeadlineExceeded") == 0;
    snprintf(pod->ip, sizeof pod->ip, "%s", status->pod_ip);
    for (uint32_t i = 0; i < status->container_count; i++) {
        const struct container_status *from = &status->containers[i];
        struct pods_container *container = pods_container_find(pod, from->name);
        if (container == NULL || from->container_id[0] == 0) {
            continue; /* no attempt of it is known to have existed */
        }
        container->crashes = from->restart_count < 6 ? from->restart_count : 6;
        container->logs_from = from->restart_count > 1 ? from->restart_count - 1 : 0;
        if (from->last_state == CONTAINER_TERMINATED &&
            strcmp(from->last_container_id, from->container_id) != 0 && from->restart_count > 0) {
            remember_run(&container->previous, from->restart_count - 1, true,
                         from->last_container_id, from->last_reason, from->last_exit_code,
                         from->last_started_ms, from->last_finished_ms);
        }
        const bool waits =
            from->state == CONTAINER_WAITING; /* in back-off: how it ended stands in `last` */
        const bool ended_in_last =
            waits && strcmp(from->last_container_id, from->container_id) == 0;
        remember_run(&container->current, from->restart_count,
                     from->state == CONTAINER_TERMINATED || ended_in_last, from->container_id,
                     ended_in_last ? from->last_reason : from->reason,
                     ended_in_last ? from->last_exit_code : from->exit_code,
                     ended_in_last ? from->last_started_ms : from->started_ms,
                     ended_in_last ? from->last_finished_ms : from->finished_ms);
        snprintf(container->current.image, sizeof container->current.image, "%s", from->image);
        snprintf(container->current.image_id, sizeof container->current.image_id, "%s",
                 from->image_id);
    }
}
