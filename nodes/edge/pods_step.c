/* One pod against the listing: the steps it needs next. Every function here looks at what is and
 * asks for at most what is missing; nothing remembers a plan, so a crash between any two steps is
 * the same as a pause.
 */
#include "nodes/edge/pods_inside.h"

#include <inttypes.h>
#include <stdio.h>

/* ErrImagePull is shown this long before it becomes ImagePullBackOff, so that people see why. */
#define PULL_ERROR_SHOWN_MS 5000u
/* References that could not be resolved are looked at again without a hint after this long. */
#define CONFIG_RETRY_MS 10000u

static bool step_is_due(struct pod_entry *pod, uint64_t at_ms, struct pods_time now)
{
    if (at_ms <= now.mono_ms) {
        return true;
    }
    pods_wake_at(pod, at_ms);
    return false;
}

static bool seen_is_running(const struct driver_container_seen *seen)
{
    return seen->state == DRIVER_CONTAINER_RUNNING || seen->state == DRIVER_CONTAINER_UNKNOWN;
}

static bool seen_is_of(const struct driver_container_seen *seen, const struct pod_entry *pod)
{
    return strcmp(seen->pod_uid, pod->uid) == 0;
}

static struct pod_facts step_facts(const struct pods *pods, const struct pod_entry *pod)
{
    return (struct pod_facts){
        .pod_ip = pod->spec.host_network ? pods->config->host_ip : pod->ip,
        .host_ip = pods->config->host_ip,
        .node_name = pods->config->node_name,
        .root = pods->config->root,
        .node_cpu_milli = pods->config->node_cpu_milli,
        .node_memory_bytes = pods->config->node_memory_bytes,
    };
}

/* -- things that exist ------------------------------------------------------------------------- */

static void step_container_stop(struct pods *pods, struct pod_entry *pod,
                                const struct driver_container_seen *seen, int64_t grace_seconds,
                                const char *why, struct pods_time now)
{
    struct pods_object *object = pods_object_get(pod, seen->id);
    const bool overtakes = object->call != 0 && object->verb == DRIVER_CONTAINER_STOP &&
                           grace_seconds < object->grace_seconds;
    if (!overtakes &&
        (!pods_object_is_free(pods, object) || !step_is_due(pod, object->retry.at_ms, now))) {
        return;
    }
    pods_event(pods, pod, seen->name, "Normal", "Killing", now, "Stopping container %s: %s",
               seen->name, why);
    pods_call_object(pods, pod, seen->id,
                     &(const struct driver_call){.verb = DRIVER_CONTAINER_STOP,
                                                 .id = seen->id,
                                                 .grace_seconds = grace_seconds},
                     now);
}

/* Start or remove a container, stop or remove a sandbox. */
static void step_object(struct pods *pods, struct pod_entry *pod, const char *id,
                        enum driver_verb verb, struct pods_time now)
{
    struct pods_object *object = pods_object_get(pod, id);
    if (pods_object_is_free(pods, object) && step_is_due(pod, object->retry.at_ms, now)) {
        for (size_t i = 0; i < pod->container_count && verb == DRIVER_CONTAINER_START; i++) {
            struct pods_run *run = &pod->containers[i].current;
            run->start_asked = run->start_asked || strcmp(run->id, id) == 0;
        }
        pods_call_object(pods, pod, id, &(const struct driver_call){.verb = verb, .id = id}, now);
    }
}

/* Stop what runs of this pod, or of one of its sandboxes. Answers how many still do. */
static size_t step_stop_all(struct pods *pods, struct pod_entry *pod, const char *sandbox_id,
                            int64_t grace_seconds, const char *why, struct pods_time now)
{
    size_t running = 0;
    for (size_t i = 0; i < pods->list.container_count; i++) {
        const struct driver_container_seen *seen = &pods->list.containers[i];
        if (seen_is_of(seen, pod) && seen_is_running(seen) &&
            (sandbox_id == NULL || strcmp(seen->sandbox_id, sandbox_id) == 0)) {
            step_container_stop(pods, pod, seen, grace_seconds, why, now);
            running++;
        }
    }
    return running;
}

/* -- attempts ---------------------------------------------------------------------------------- */

/* The number for the next creation, once it is durable. */
static bool step_attempt(struct pods *pods, struct pod_entry *pod, struct pods_slot *slot,
                         const char *container, uint64_t hash, int64_t existed,
                         struct pods_time now, uint32_t *out_attempt)
{
    if (slot->recorded > existed) { /* recorded, and nothing of that number was ever seen */
        *out_attempt = (uint32_t)slot->recorded;
        return true;
    }
    if (slot->asked == existed + 1 && !step_is_due(pod, slot->asked_until_ms, now)) {
        return false;
    }
    slot->asked = existed + 1;
    const struct pod_attempt attempt = {
        .uid = pod->uid,
        .container = container,
        .attempt = (uint32_t)slot->asked,
        .hash = hash,
        .time_ms = now.wall_ms,
    };
    const int status =
        pods->door->record_attempt(pods->door->context, pod->namespace, pod->name, &attempt);
    pod->no_space = status == -ENOSPC;
    if (pod->no_space) {
        pods_event(pods, pod, container, "Warning", "DiskPressure", now, POD_NO_SPACE_TEXT);
    }
    slot->asked_until_ms = now.mono_ms + (status == 0 ? POD_RECORD_RETRY_MS : POD_RETRY_MS);
    pods_wake_at(pod, slot->asked_until_ms);
    return false;
}

/* -- claims about containers ------------------------------------------------------------------- */

static int64_t container_existed(const struct pods_container *container)
{
    return container->current.state == RUN_NONE ? -1 : (int64_t)container->current.attempt;
}

bool pods_container_should_run(const struct pod_entry *pod, const struct pods_container *container)
{
    const struct pods_run *run = &container->current;
    if (run->state == RUN_NONE || run->replaced ||
        container->slot.recorded > container_existed(container)) {
        return true; /* a number that is recorded is a promise to start */
    }
    if (container->spec != NULL && container->spec->init && run->exit_code == 0) {
        return !run->in_sandbox; /* done, for the sandbox it ran in */
    }
    switch (pod->spec.restart) {
    case POD_RESTART_ALWAYS:
        return true;
    case POD_RESTART_ON_FAILURE:
        return run->exit_code != 0;
    case POD_RESTART_NEVER:
        return false;
    }
    return false;
}

static bool init_is_done(const struct pods_container *container)
{
    const struct pods_run *run = &container->current;
    return run->state == RUN_EXITED && run->exit_code == 0 && run->in_sandbox;
}

bool pods_is_initialized(const struct pod_entry *pod)
{
    bool done = true;
    if (pod->finished) {
        return true;
    }
    for (size_t i = 0; i < pod->container_count; i++) {
        const struct pods_container *container = &pod->containers[i];
        if (container->spec != NULL && !container->spec->init && container->current.in_sandbox) {
            return true; /* what came after them is there; their remains may be gone */
        }
        done =
            done && (container->spec == NULL || !container->spec->init || init_is_done(container));
    }
    return done;
}

static bool container_is_over(const struct pod_entry *pod, const struct pods_container *container)
{
    return container->current.state == RUN_EXITED && container->slot.call == 0 &&
           !pods_container_should_run(pod, container);
}

/* Nothing of this pod will ever run again: an init container failed for good, or all others ended. */
static bool pod_is_over(const struct pod_entry *pod)
{
    const bool initialized = pods_is_initialized(pod);
    bool all_ended = true;
    for (size_t i = 0; i < pod->container_count; i++) {
        const struct pods_container *container = &pod->containers[i];
        if (container->spec == NULL) {
            continue;
        }
        const bool ended = container_is_over(pod, container);
        if (container->spec->init && !initialized && ended && container->current.exit_code != 0) {
            return true;
        }
        all_ended = all_ended && (container->spec->init || ended);
    }
    return all_ended;
}

/* -- exits and back-off ------------------------------------------------------------------------ */

static void step_exits(struct pods *pods, struct pod_entry *pod, struct pods_time now)
{
    for (size_t i = 0; i < pod->container_count; i++) {
        struct pods_container *container = &pod->containers[i];
        const struct pods_run *run = &container->current;
        while (run->state != RUN_NONE && container->logs_from + 1 < run->attempt) {
            pods->door->log_remove(pods->door->context, pod->uid, pod->namespace, pod->name,
                                   container->name, container->logs_from++);
        }
        if (run->state != RUN_EXITED || container->exit_noticed) {
            continue;
        }
        container->exit_noticed = true;
        if (run->started_ms > 0 &&
            run->finished_ms - run->started_ms >= (int64_t)POD_BACKOFF_RESET_MS) {
            container->crashes = 0;
        }
        int64_t delay_ms = container->crashes == 0 || run->replaced ? 0 : POD_BACKOFF_MS;
        for (unsigned k = 1;
             k < container->crashes && delay_ms > 0 && delay_ms < (int64_t)POD_BACKOFF_MAX_MS;
             k++) {
            delay_ms *= 2;
        }
        delay_ms = delay_ms < (int64_t)POD_BACKOFF_MAX_MS ? delay_ms : (int64_t)POD_BACKOFF_MAX_MS;
        /* The wall clock may have jumped, so what is left is never more than the whole delay. */
        const int64_t age_ms = now.wall_ms - run->finished_ms;
        const int64_t left_ms = age_ms <= 0 ? delay_ms : age_ms < delay_ms ? delay_ms - age_ms : 0;
        container->restart_at_ms = now.mono_ms + (uint64_t)left_ms;
        if (left_ms > 0 && pods_container_should_run(pod, container)) {
            pods_event(pods, pod, container->name, "Warning", "BackOff", now,
                       "Back-off restarting failed container %s", container->name);
        }
    }
}

/* -- what is left over ------------------------------------------------------------------------- */

static void step_left_container(struct pods *pods, struct pod_entry *pod,
                                const struct driver_container_seen *seen, struct pods_time now)
{
    const struct pods_container *container = pods_container_find(pod, seen->name);
    const bool newest_sandbox =
        pod->sandbox != NULL && strcmp(pod->sandbox->id, seen->sandbox_id) == 0;
    const bool wanted =
        container != NULL && container->spec != NULL && seen->attempt == container->current.attempt;
    if (seen_is_running(seen) && (!newest_sandbox || !wanted)) {
        step_container_stop(pods, pod, seen, pod->spec.grace_seconds, "it is not wanted any more",
                            now);
    } else if (!seen_is_running(seen) && newest_sandbox && !wanted &&
               (container == NULL || container->spec == NULL ||
                seen->attempt != container->previous.attempt ||
                seen->state == DRIVER_CONTAINER_CREATED)) {
        step_object(pods, pod, seen->id, DRIVER_CONTAINER_REMOVE, now);
    }
}

/* Containers of older attempts but the one before, and sandboxes but the newest. */
static void step_leftovers(struct pods *pods, struct pod_entry *pod, struct pods_time now)
{
    for (size_t i = 0; i < pods->list.container_count; i++) {
        if (seen_is_of(&pods->list.containers[i], pod)) {
            step_left_container(pods, pod, &pods->list.containers[i], now);
        }
    }
    for (size_t i = 0; i < pods->list.sandbox_count; i++) {
        const struct driver_sandbox_seen *seen = &pods->list.sandboxes[i];
        if (strcmp(seen->pod_uid, pod->uid) != 0 || seen == pod->sandbox) {
            continue;
        }
        if (step_stop_all(pods, pod, seen->id, pod->spec.grace_seconds, "its sandbox is gone",
                          now) == 0) {
            const bool stopped = pods_object_get(pod, seen->id)->stopped;
            step_object(pods, pod, seen->id, stopped ? DRIVER_SANDBOX_REMOVE : DRIVER_SANDBOX_STOP,
                        now);
        }
    }
}

/* -- the way up -------------------------------------------------------------------------------- */

/* Are the objects of all volumes there? Those of environments are looked for container by container. */
static bool step_references(struct pods *pods, struct pod_entry *pod, struct pods_time now)
{
    const struct pod_reference *missing = podspec_missing(&pod->spec, &pods->door->lookup);
    char before[PODS_TEXT_BYTES];
    memcpy(before, pod->waits_for, sizeof before);
    pod->waits_for[0] = 0;
    if (missing != NULL) {
        snprintf(pod->waits_for, sizeof pod->waits_for, "%s \"%s\" not found",
                 missing->secret ? "secret" : "configmap", missing->name);
        if (strcmp(before, pod->waits_for) != 0) {
            pods_event(pods, pod, "", "Warning", "FailedMount", now, "MountVolume.SetUp failed: %s",
                       pod->waits_for);
        }
    }
    return missing == NULL;
}

/* source: Kubernetes pkg/kubelet/network/dns/dns.go. Differs: without servers of the cluster in
 * the configuration, ClusterFirst means the node's own resolv.conf, which the runtime copies. */
static void step_dns(const struct pods *pods, const struct pod_entry *pod, struct arena *arena,
                     struct driver_sandbox *sandbox)
{
    const struct pod_spec *spec = &pod->spec;
    const bool cluster =
        pods->config->dns_server_count > 0 &&
        (spec->dns_policy == 'H' || (spec->dns_policy == 'C' && !spec->host_network));
    const size_t server_count = cluster ? pods->config->dns_server_count : 0;
    const size_t search_count = cluster ? 3 : 0;
    const char **servers =
        arena_claim(arena, server_count + spec->dns_server_count, sizeof *servers);
    const char **searches =
        arena_claim(arena, search_count + spec->dns_search_count, sizeof *searches);
    const char **options = arena_claim(arena, 1 + spec->dns_option_count, sizeof *options);
    for (size_t i = 0; i < server_count; i++) {
        servers[i] = pods->config->dns_servers[i];
    }
    for (size_t i = 0; i < spec->dns_server_count; i++) {
        servers[server_count + i] = spec->dns_servers[i];
    }
    if (cluster) {
        searches[0] = arena_print(arena, "%s.svc.cluster.local", pod->namespace);
        searches[1] = "svc.cluster.local";
        searches[2] = "cluster.local";
        options[0] = "ndots:5";
    }
    for (size_t i = 0; i < spec->dns_search_count; i++) {
        searches[search_count + i] = spec->dns_searches[i];
    }
    for (size_t i = 0; i < spec->dns_option_count; i++) {
        options[cluster + i] = spec->dns_options[i];
    }
    sandbox->dns_servers = servers;
    sandbox->dns_server_count = server_count + spec->dns_server_count;
    sandbox->dns_searches = searches;
    sandbox->dns_search_count = search_count + spec->dns_search_count;
    sandbox->dns_options = options;
    sandbox->dns_option_count = cluster + spec->dns_option_count;
}

/* Bring up the next sandbox. Answers true when there is a ready one. */
static bool step_sandbox(struct pods *pods, struct pod_entry *pod, struct pods_time now)
{
    if (pod->sandbox != NULL && pod->sandbox->ready) {
        return true;
    }
    if (step_stop_all(pods, pod, NULL, pod->spec.grace_seconds, "its sandbox is gone", now) > 0) {
        return false; /* never two of one container */
    }
    if (pod->sandbox != NULL && !pods_object_get(pod, pod->sandbox->id)->stopped) {
        step_object(pods, pod, pod->sandbox->id, DRIVER_SANDBOX_STOP,
                    now); /* gives address and ports back */
        return false;
    }
    struct pods_slot *slot = &pod->sandbox_slot;
    uint32_t attempt;
    if (!pods_slot_is_free(pods, slot) || !step_is_due(pod, slot->retry.at_ms, now) ||
        !step_references(pods, pod, now) ||
        !step_attempt(pods, pod, slot, "", 0, pod->sandbox_existed, now, &attempt)) {
        return false;
    }
    struct arena arena;
    struct driver_sandbox sandbox;
    const struct pod_facts facts = step_facts(pods, pod);
    arena_init(&arena);
    podspec_sandbox(&pod->spec, attempt, &facts, pods->config->cgroup_root, &arena, &sandbox);
    step_dns(pods, pod, &arena, &sandbox);
    pods_call_slot(pods, pod, slot, -1,
                   &(const struct driver_call){.verb = DRIVER_SANDBOX_RUN, .sandbox = &sandbox},
                   now);
    arena_deinit(&arena);
    return false;
}

/* Have the files written: before the first container of a sandbox, since the hosts file holds its
 * address, and again when an object changed. Answers true when containers may be created. */
static bool step_files(struct pods *pods, struct pod_entry *pod, struct pods_time now)
{
    if (pod->files == FILES_WRITING) {
        return false;
    }
    const bool first = pod->files == FILES_NEEDED || strcmp(pod->files_ip, pod->ip) != 0;
    if (!first && !pod->files_again) {
        return true;
    }
    if (!step_is_due(pod, pod->files_retry.at_ms, now)) {
        return !first;
    }
    if (!step_references(pods, pod, now)) {
        pod->files_again = false; /* files of an object that went stay as they are */
        return !first;
    }
    const struct pod_facts facts = step_facts(pods, pod);
    if (pods->door->volumes_prepare(pods->door->context, &pod->spec, &facts) != 0) {
        pod->files_retry.at_ms = now.mono_ms + POD_RETRY_MS;
        pods_wake_at(pod, pod->files_retry.at_ms);
        return !first;
    }
    pod->files = FILES_WRITING;
    pod->files_again = false;
    snprintf(pod->files_ip, sizeof pod->files_ip, "%s", pod->ip);
    return false;
}

/* Have the image there. Answers true when it is. */
static bool step_image(struct pods *pods, struct pod_entry *pod, struct pods_container *container,
                       struct pods_time now)
{
    const struct pod_container *spec = container->spec;
    if (container->image_present) {
        return true;
    }
    if (container->pull.at_ms > now.mono_ms) {
        const uint64_t shown_until_ms = container->pull_failed_ms + PULL_ERROR_SHOWN_MS;
        if (strcmp(container->reason, "ErrImagePull") == 0 &&
            step_is_due(pod, shown_until_ms, now)) {
            snprintf(container->reason, sizeof container->reason, "ImagePullBackOff");
            snprintf(container->message, sizeof container->message, "Back-off pulling image \"%s\"",
                     spec->image);
            pods_event(pods, pod, container->name, "Normal", "BackOff", now, "%s",
                       container->message);
        }
        pods_wake_at(pod, container->pull.at_ms);
        return false;
    }
    const bool pull =
        spec->pull == POD_PULL_ALWAYS || (container->image_missing && spec->pull != POD_PULL_NEVER);
    const uint64_t call = pods_call_slot(
        pods, pod, &container->slot, (int)(container - pod->containers),
        &(const struct driver_call){.verb = pull ? DRIVER_IMAGE_PULL : DRIVER_IMAGE_STATUS,
                                    .image = spec->image},
        now);
    if (pull && call != 0) {
        pods_event(pods, pod, container->name, "Normal", "Pulling", now, "Pulling image \"%s\"",
                   spec->image);
    }
    return false;
}

/* Create the next attempt of a container in the ready sandbox. */
static void step_create(struct pods *pods, struct pod_entry *pod, struct pods_container *container,
                        struct pods_time now)
{
    if (!pods_slot_is_free(pods, &container->slot) ||
        !step_is_due(pod, container->slot.retry.at_ms, now) ||
        !step_is_due(pod, container->config_retry_ms, now) ||
        !step_image(pods, pod, container, now)) {
        return;
    }
    struct arena arena;
    struct driver_container wanted;
    struct driver_sandbox sandbox;
    const struct pod_facts facts = step_facts(pods, pod);
    const int64_t existed = container_existed(container);
    uint32_t attempt = (uint32_t)(existed + 1);
    arena_init(&arena);
    /* Resolved before the number is asked for: a container that cannot be made takes none. */
    if (podspec_resolve(&pod->spec, (size_t)(container->spec - pod->spec.containers), attempt,
                        &pods->door->lookup, &facts, &arena, &wanted, container->message,
                        sizeof container->message) != 0) {
        snprintf(container->reason, sizeof container->reason, "CreateContainerConfigError");
        pods_event(pods, pod, container->name, "Warning", "Failed", now, "Error: %s", container->message);
        container->config_retry_ms = now.mono_ms + CONFIG_RETRY_MS;
        pods_wake_at(pod, container->config_retry_ms);
    } else if (step_attempt(pods, pod, &container->slot, container->name, container->spec->hash,
                            existed, now, &attempt)) {
        if (attempt !=
            wanted.attempt) { /* numbers were recorded ahead: name and log follow the number */
            wanted.attempt = attempt;
            wanted.log_path = arena_print(&arena, "%s/%u.log", container->name, attempt);
        }
        podspec_sandbox(&pod->spec, pod->sandbox->attempt, &facts, pods->config->cgroup_root,
                        &arena, &sandbox);
        step_dns(pods, pod, &arena, &sandbox);
        const uint64_t call =
            pods_call_slot(pods, pod, &container->slot, (int)(container - pod->containers),
                           &(const struct driver_call){.verb = DRIVER_CONTAINER_CREATE,
                                                       .id = pod->sandbox->id,
                                                       .sandbox = &sandbox,
                                                       .container = &wanted},
                           now);
        container->crashes += call != 0 && existed >= 0 && !container->current.replaced;
    }
    arena_deinit(&arena);
}

static const struct driver_container_seen *step_seen(const struct pods *pods, const char *id)
{
    for (size_t i = 0; i < pods->list.container_count; i++) {
        if (strcmp(pods->list.containers[i].id, id) == 0) {
            return &pods->list.containers[i];
        }
    }
    return NULL;
}

static void step_container(struct pods *pods, struct pod_entry *pod,
                           struct pods_container *container, bool may_create, struct pods_time now)
{
    struct pods_run *run = &container->current;
    char hash[20];
    snprintf(hash, sizeof hash, "%016" PRIx64, container->spec->hash);
    const bool changed =
        run->hash[0] != 0 && strcmp(run->hash, hash) != 0 && !container->spec->init;
    if (run->in_sandbox && run->state == RUN_RUNNING) {
        if (changed || run->unknown) {
            run->replaced = run->replaced || changed;
            step_container_stop(pods, pod, step_seen(pods, run->id), pod->spec.grace_seconds,
                                changed ? "its image changed" : "the runtime lost track of it",
                                now);
        }
        return;
    }
    if (run->state == RUN_CREATED) {
        /* In a sandbox that died, or of another image, it will never start: its number is used again. */
        step_object(pods, pod, run->id,
                    changed || !run->in_sandbox ? DRIVER_CONTAINER_REMOVE : DRIVER_CONTAINER_START,
                    now);
        return;
    }
    if (pods_container_should_run(pod, container) && may_create &&
        (run->state != RUN_EXITED || step_is_due(pod, container->restart_at_ms, now))) {
        step_create(pods, pod, container, now);
    }
}

static void step_up(struct pods *pods, struct pod_entry *pod, struct pods_time now)
{
    if (!step_sandbox(pods, pod, now)) {
        return;
    }
    const bool may_create = step_files(pods, pod, now);
    if (!pods_is_initialized(pod)) {
        for (size_t i = 0; i < pod->spec.init_count; i++) {
            struct pods_container *container =
                pods_container_find(pod, pod->spec.containers[i].name);
            CHECK(container != NULL);
            if (!init_is_done(container)) {
                step_container(pods, pod, container, may_create, now);
                return; /* one after the other */
            }
        }
    }
    for (size_t i = pod->spec.init_count; i < pod->spec.container_count; i++) {
        struct pods_container *container = pods_container_find(pod, pod->spec.containers[i].name);
        CHECK(container != NULL);
        step_container(pods, pod, container, may_create, now);
    }
}

/* -- the way down ------------------------------------------------------------------------------ */

/* Everything ended, and stays for whoever wants to read logs; the sandbox gives its address back. */
static void step_rest(struct pods *pods, struct pod_entry *pod, struct pods_time now)
{
    const char *why =
        pod->expired ? "the pod was active for longer than its deadline" : "the pod is over";
    if (step_stop_all(pods, pod, NULL, pod->spec.grace_seconds, why, now) == 0 &&
        pod->sandbox != NULL &&
        (pod->sandbox->ready || !pods_object_get(pod, pod->sandbox->id)->stopped)) {
        step_object(pods, pod, pod->sandbox->id, DRIVER_SANDBOX_STOP, now);
    }
}

/* Remove what has stopped. Answers true when the runtime holds nothing of the pod. */
static bool step_remove_all(struct pods *pods, struct pod_entry *pod, struct pods_time now)
{
    bool left = false;
    for (size_t i = 0; i < pods->list.sandbox_count; i++) {
        const struct driver_sandbox_seen *seen = &pods->list.sandboxes[i];
        if (strcmp(seen->pod_uid, pod->uid) == 0) {
            const bool stopped = pods_object_get(pod, seen->id)->stopped;
            step_object(pods, pod, seen->id, stopped ? DRIVER_SANDBOX_REMOVE : DRIVER_SANDBOX_STOP,
                        now);
            left = true;
        }
    }
    for (size_t i = 0; i < pods->list.container_count; i++) {
        const struct driver_container_seen *seen = &pods->list.containers[i];
        if (!seen_is_of(seen, pod)) {
            continue;
        }
        bool with_sandbox = false;
        for (size_t k = 0; k < pods->list.sandbox_count && !with_sandbox; k++) {
            with_sandbox = strcmp(pods->list.sandboxes[k].id, seen->sandbox_id) == 0;
        }
        if (!with_sandbox) {
            step_object(pods, pod, seen->id, DRIVER_CONTAINER_REMOVE, now);
        }
        left = true;
    }
    return !left && pod->objects == NULL && pod->calls == 0;
}

/* The pod is being deleted, or nobody wants it. Answers false when it is gone and unwanted. */
static bool step_down(struct pods *pods, struct pod_entry *pod, struct pods_time now)
{
    const bool polite = pod->wanted && pod->deleting;
    const size_t running =
        step_stop_all(pods, pod, NULL, polite ? pod->grace_seconds : POD_ORPHAN_GRACE_S,
                      polite ? "the pod is being deleted" : "nobody wants its pod", now);
    const bool told = !pod->wanted || pods_tell(pods, pod, now);
    bool settled = pods_slot_is_free(pods, &pod->sandbox_slot);
    for (size_t i = 0; i < pod->container_count; i++) {
        settled = settled && pods_slot_is_free(pods, &pod->containers[i].slot);
    }
    if (running > 0 || !settled || !told) {
        return true; /* how it ended is told before the remains go */
    }
    if (!step_remove_all(pods, pod, now)) {
        return true;
    }
    if (pod->removal == REMOVAL_NONE && pod->files != FILES_WRITING &&
        step_is_due(pod, pod->removal_retry.at_ms, now)) {
        pod->removal = REMOVAL_ASKED;
        if (pods->door->volumes_remove(pods->door->context, pod->uid, pod->namespace, pod->name) !=
            0) {
            pod->removal = REMOVAL_NONE;
            pod->removal_retry.at_ms = now.mono_ms + POD_RETRY_MS;
            pods_wake_at(pod, pod->removal_retry.at_ms);
        }
    }
    if (pod->removal != REMOVAL_DONE) {
        return true;
    }
    if (pod->wanted && !pod->ended) {
        const struct pod_ended ended = {.uid = pod->uid};
        pod->ended =
            pods->door->record_ended(pods->door->context, pod->namespace, pod->name, &ended) == 0;
        if (!pod->ended) {
            pods_wake_at(pod, now.mono_ms + POD_RETRY_MS);
        }
    }
    return pod->wanted;
}

bool pods_step(struct pods *pods, struct pod_entry *pod, struct pods_time now)
{
    if (pods->list_begun <= pod->born) {
        return true; /* the truth about this pod is still to come */
    }
    if (!pod->wanted || pod->deleting) {
        return step_down(pods, pod, now);
    }
    if (pod->started_ms == 0) {
        pod->started_ms = now.wall_ms;
    }
    if (!pod->parsed) {
        if (!pod->notes_told) {
            pods_event(pods, pod, "", "Warning", "InvalidPod", now, "%s", pod->spec_error);
        }
        pod->notes_told = true;
        pods_tell(pods, pod, now);
        return true;
    }
    for (size_t i = 0; i < pod->spec.note_count && !pod->notes_told; i++) {
        pods_event(pods, pod, "", "Warning", "Unsupported", now, "%s", pod->spec.notes[i].text);
    }
    pod->notes_told = true;
    if (pod->spec.active_deadline_seconds > 0 && !pod->finished && !pod->expired) {
        const int64_t left_ms =
            pod->started_ms + pod->spec.active_deadline_seconds * 1000 - now.wall_ms;
        pod->expired = left_ms <= 0;
        if (left_ms > 0) {
            pods_wake_at(pod, now.mono_ms + (uint64_t)left_ms);
        }
    }
    step_exits(pods, pod, now);
    pod->finished = pod->finished || pod_is_over(pod);
    step_leftovers(pods, pod, now);
    if (pod->finished || pod->expired) {
        step_rest(pods, pod, now);
    } else if (podspec_refusal(&pod->spec) == NULL) {
        step_up(pods, pod, now);
    }
    pods_tell(pods, pod, now);
    return true;
}
