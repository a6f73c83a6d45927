/* Inputs, calls and the listing. What to do for one pod is pods_step.c. */
#include "nodes/edge/pods_inside.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static char *text_own(const char *text)
{
    char *own = strdup(text == NULL ? "" : text);
    CHECK(own != NULL);
    return own;
}

/* -- entries ----------------------------------------------------------------------------------- */

static size_t pods_place(const struct pods *pods, const char *uid, bool *out_found)
{
    size_t low = 0, high = pods->count;
    while (low < high) {
        const size_t middle = (low + high) / 2;
        const int order = strcmp(pods->entries[middle]->uid, uid);
        if (order == 0) {
            *out_found = true;
            return middle;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *out_found = false;
    return low;
}

static struct pod_entry *pods_find(const struct pods *pods, const char *uid)
{
    bool found;
    const size_t place = pods_place(pods, uid, &found);
    return found ? pods->entries[place] : NULL;
}

static struct pod_entry *pods_add(struct pods *pods, const char *uid, const char *namespace,
                                  const char *name)
{
    bool found;
    const size_t place = pods_place(pods, uid, &found);
    CHECK(!found);
    struct pod_entry *pod = calloc(1, sizeof *pod);
    CHECK(pod != NULL);
    pod->uid = text_own(uid);
    pod->namespace = text_own(namespace);
    pod->name = text_own(name);
    pod->sandbox_slot.recorded = pod->sandbox_slot.asked = pod->sandbox_existed = -1;
    pod->born = ++pods->sequence;
    pods->list_wanted = true;
    pod->dirty = true;
    pod->wake_ms = PODS_NEVER;
    arena_init(&pod->status_arena);
    pods->entries = realloc(pods->entries, (pods->count + 1) * sizeof(struct pod_entry *));
    CHECK(pods->entries != NULL);
    memmove(pods->entries + place + 1, pods->entries + place,
            (pods->count - place) * sizeof(struct pod_entry *));
    pods->entries[place] = pod;
    pods->count++;
    return pod;
}

static void pod_entry_free(struct pod_entry *pod)
{
    for (struct pods_object *object = pod->objects, *next; object != NULL; object = next) {
        next = object->next;
        free(object->id);
        free(object);
    }
    for (size_t i = 0; i < pod->container_count; i++) {
        free(pod->containers[i].name);
    }
    free(pod->containers);
    if (pod->parsed) {
        podspec_deinit(&pod->spec);
    }
    arena_deinit(&pod->status_arena);
    free(pod->uid);
    free(pod->namespace);
    free(pod->name);
    free(pod);
}

struct pods_container *pods_container_find(struct pod_entry *pod, const char *name)
{
    for (size_t i = 0; i < pod->container_count; i++) {
        if (strcmp(pod->containers[i].name, name) == 0) {
            return &pod->containers[i];
        }
    }
    return NULL;
}

/* Calls under way name containers by their place, so places are never given up. */
static struct pods_container *pods_container_add(struct pod_entry *pod, const char *name)
{
    pod->containers =
        realloc(pod->containers, (pod->container_count + 1) * sizeof *pod->containers);
    CHECK(pod->containers != NULL);
    struct pods_container *container = &pod->containers[pod->container_count++];
    *container = (struct pods_container){
        .name = text_own(name), .slot = {.recorded = -1, .asked = -1, .settled = pod->born}};
    return container;
}

struct pods *pods_create(const struct pods_config *config, const struct pods_door *door)
{
    struct pods *pods = calloc(1, sizeof *pods);
    CHECK(pods != NULL);
    pods->config = config;
    pods->door = door;
    pods->list_wanted = true;
    arena_init(&pods->list_arena);
    return pods;
}

void pods_destroy(struct pods *pods)
{
    for (size_t i = 0; i < LIMIT_DRIVER_CALLS; i++) {
        free(pods->calls[i].object);
    }
    for (size_t i = 0; i < pods->count; i++) {
        pod_entry_free(pods->entries[i]);
    }
    free(pods->entries);
    arena_deinit(&pods->list_arena);
    free(pods);
}

/* -- wishes ------------------------------------------------------------------------------------ */

static void pods_wish_parse(struct pod_entry *pod, struct bytes json)
{
    struct pod_spec spec;
    pod->spec_error[0] = 0;
    if (podspec_parse(json, &spec, pod->spec_error, sizeof pod->spec_error) != 0) {
        return; /* an old wish that could be read stays in force */
    }
    if (pod->parsed) {
        podspec_deinit(&pod->spec);
    }
    pod->spec = spec;
    pod->parsed = true;
    for (size_t i = 0; i < pod->container_count; i++) {
        pod->containers[i].spec = NULL;
    }
    for (size_t i = 0; i < spec.container_count; i++) {
        struct pods_container *container = pods_container_find(pod, spec.containers[i].name);
        container =
            container != NULL ? container : pods_container_add(pod, spec.containers[i].name);
        container->spec = &pod->spec.containers[i];
        container->pull = (struct pods_retry){0}; /* another image, another chance */
        container->image_present = false;
        container->config_retry_ms = 0;
    }
}

int pods_desire(struct pods *pods, const struct pods_wish *wish)
{
    const struct object *object = wish->object;
    struct pod_entry *pod = pods_find(pods, object->uid);
    if (pod == NULL && pods->count >= LIMIT_PODS) {
        return STATUS_FULL;
    }
    if (pod == NULL) {
        pod = pods_add(pods, object->uid, object->namespace_, object->name);
    }
    const bool first = !pod->wanted;
    pod->wanted = true;
    pod->dirty = true;
    pod->deleting = object->deletion_time_ms != 0;
    pod->grace_seconds = object->deletion_grace_s;
    pod->generation = object->generation;
    pod->ended = pod->ended || wish->ended;
    pods_wish_parse(pod, object->json);
    if (pod->files == FILES_READY) {
        pod->files_again = true; /* labels may be in a downwardAPI volume */
    }
    for (size_t i = 0; i < wish->attempt_count; i++) {
        pods_attempt_recorded(pods, object->uid, wish->attempts[i].container,
                              wish->attempts[i].attempt);
    }
    if (first && wish->status != NULL) {
        pods_remember(pod, wish->status);
    }
    return 0;
}

void pods_undesire(struct pods *pods, const char *uid)
{
    struct pod_entry *pod = pods_find(pods, uid);
    if (pod != NULL) {
        pod->wanted = false;
        pod->dirty = true;
    }
}

void pods_begin(struct pods *pods)
{
    pods->begun = true;
    pods->list_wanted = true;
}

void pods_object_changed(struct pods *pods, bool secret, const char *namespace, const char *name)
{
    for (size_t i = 0; i < pods->count; i++) {
        struct pod_entry *pod = pods->entries[i];
        for (size_t k = 0; pod->parsed && k < pod->spec.reference_count; k++) {
            const struct pod_reference *reference = &pod->spec.references[k];
            if (reference->secret != secret || strcmp(reference->name, name) != 0 ||
                strcmp(pod->namespace, namespace) != 0) {
                continue;
            }
            pod->dirty = true;
            pod->files_again = pod->files_again || reference->from_volume;
            pod->files_retry = (struct pods_retry){0};
            for (size_t c = 0; c < pod->container_count; c++) {
                pod->containers[c].config_retry_ms = 0;
            }
        }
    }
}

void pods_attempt_recorded(struct pods *pods, const char *uid, const char *container,
                           uint32_t attempt)
{
    struct pod_entry *pod = pods_find(pods, uid);
    if (pod == NULL) {
        return;
    }
    struct pods_slot *slot = &pod->sandbox_slot;
    if (container[0] != 0) {
        struct pods_container *found = pods_container_find(pod, container);
        if (found == NULL) {
            return; /* of a wish that cannot be read: nothing will be created for it */
        }
        slot = &found->slot;
    }
    slot->recorded = slot->recorded > (int64_t)attempt ? slot->recorded : (int64_t)attempt;
    if (slot->asked <= slot->recorded) {
        slot->asked = -1;
    }
    pod->dirty = true;
}

void pods_on_volumes(struct pods *pods, const char *uid, int status, const char *message,
                     struct pods_time now)
{
    struct pod_entry *pod = pods_find(pods, uid);
    if (pod == NULL || pod->files != FILES_WRITING) {
        return;
    }
    pod->dirty = true;
    if (status == 0) {
        pod->files = FILES_READY;
        pod->files_retry = (struct pods_retry){0};
        pod->files_error[0] = 0;
        return;
    }
    pod->files = FILES_NEEDED;
    snprintf(pod->files_error, sizeof pod->files_error, "%s", message);
    pods_retry_later(&pod->files_retry, POD_RETRY_MS, POD_RETRY_MAX_MS, now);
    pods_event(pods, pod, "", "Warning", "FailedMount", now, "%s", message);
}

void pods_on_removed(struct pods *pods, const char *uid, int status, const char *message,
                     struct pods_time now)
{
    struct pod_entry *pod = pods_find(pods, uid);
    if (pod == NULL || pod->removal != REMOVAL_ASKED) {
        return;
    }
    pod->dirty = true;
    pod->removal = status == 0 ? REMOVAL_DONE : REMOVAL_NONE;
    if (status != 0) {
        pods_retry_later(&pod->removal_retry, POD_RETRY_MS, POD_RETRY_MAX_MS, now);
        pods_event(pods, pod, "", "Warning", "FailedRemoval", now, "%s", message);
    }
}

void pods_hint(struct pods *pods)
{
    pods->list_wanted = true;
}

/* -- calls ------------------------------------------------------------------------------------- */

void pods_retry_later(struct pods_retry *retry, uint64_t first_ms, uint64_t max_ms,
                      struct pods_time now)
{
    uint64_t delay_ms = first_ms;
    for (unsigned i = 0; i < retry->failures && delay_ms < max_ms; i++) {
        delay_ms *= 2;
    }
    retry->failures++;
    retry->at_ms = now.mono_ms + (delay_ms < max_ms ? delay_ms : max_ms);
}

void pods_wake_at(struct pod_entry *pod, uint64_t at_ms)
{
    pod->wake_ms = at_ms < pod->wake_ms ? at_ms : pod->wake_ms;
}

bool pods_slot_is_free(const struct pods *pods, const struct pods_slot *slot)
{
    return slot->call == 0 && pods->list_begun > slot->settled;
}

bool pods_object_is_free(const struct pods *pods, const struct pods_object *object)
{
    return object->call == 0 && pods->list_begun > object->settled;
}

struct pods_object *pods_object_get(struct pod_entry *pod, const char *id)
{
    for (struct pods_object *object = pod->objects; object != NULL; object = object->next) {
        if (strcmp(object->id, id) == 0) {
            return object;
        }
    }
    struct pods_object *object = calloc(1, sizeof *object);
    CHECK(object != NULL);
    object->id = text_own(id);
    object->next = pod->objects;
    pod->objects = object;
    return object;
}

/* A free place in the table of calls, passed to the door; NULL when either did not take it. */
static struct pods_call *pods_call_begin(struct pods *pods, struct pod_entry *pod,
                                         const struct driver_call *call)
{
    struct pods_call *place = NULL;
    for (size_t i = 0; i < LIMIT_DRIVER_CALLS && place == NULL; i++) {
        place = pods->calls[i].id == 0 ? &pods->calls[i] : NULL;
    }
    const uint64_t id = pods->call_last + 1;
    if (place == NULL || pods->door->runtime_call(pods->door->context, id, call) != 0) {
        return NULL;
    }
    pods->call_last = id;
    pods->call_count++;
    pods->sequence++;
    *place = (struct pods_call){.id = id, .verb = call->verb, .pod = pod, .container = -1};
    if (pod != NULL) {
        pod->calls++;
    }
    return place;
}

uint64_t pods_call_slot(struct pods *pods, struct pod_entry *pod, struct pods_slot *slot,
                        int container, const struct driver_call *call, struct pods_time now)
{
    CHECK(slot->call == 0);
    struct pods_call *place = pods_call_begin(pods, pod, call);
    if (place == NULL) {
        slot->retry.at_ms = now.mono_ms + POD_RETRY_MS;
        pods_wake_at(pod, slot->retry.at_ms);
        return 0;
    }
    place->container = container;
    slot->call = place->id;
    return place->id;
}

void pods_call_object(struct pods *pods, struct pod_entry *pod, const char *id,
                      const struct driver_call *call, struct pods_time now)
{
    struct pods_object *object = pods_object_get(pod, id);
    struct pods_call *place = pods_call_begin(pods, pod, call);
    if (place == NULL) {
        object->retry.at_ms = now.mono_ms + POD_RETRY_MS;
        pods_wake_at(pod, object->retry.at_ms);
        return;
    }
    place->object = text_own(id);
    object->call = place->id; /* a stop with less grace overtakes one that is under way */
    object->verb = call->verb;
    object->grace_seconds = call->grace_seconds;
}

uint64_t pods_event_hash(const struct edge_event *event)
{
    const char *const texts[] = {event->kind, event->uid,    event->container,
                                 event->type, event->reason, event->message};
    uint64_t hash = 0xcbf29ce484222325; /* FNV-1a */
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        for (const char *c = texts[i]; *c != 0; c++) {
            hash = (hash ^ (uint8_t)*c) * 0x100000001b3;
        }
        hash = (hash ^ 0xff) * 0x100000001b3;
    }
    return hash == 0 ? 1 : hash;
}

/* Count an event. Answers true when it is to be told: at once the first time, then the rarer the
 * more often it happened, with the number of all. The one told longest ago is forgotten first. */
static bool pods_event_count(struct pod_entry *pod, uint64_t hash, struct pods_time now,
                             uint32_t *out_count, int64_t *out_first_ms)
{
    struct pods_told *told = NULL, *oldest = &pod->events[0];
    for (size_t i = 0; i < PODS_TOLD && told == NULL; i++) {
        told = pod->events[i].hash == hash ? &pod->events[i] : NULL;
        oldest = pod->events[i].told_ms < oldest->told_ms ? &pod->events[i] : oldest;
    }
    if (told == NULL) {
        *oldest = (struct pods_told){.hash = hash, .first_ms = now.wall_ms};
        told = oldest;
    }
    const uint64_t rest_ms = told->tells < 2 ? 0 : (uint64_t)(told->tells - 1) * POD_EVENT_MS;
    const bool tell = told->count == 0 ||
                      now.mono_ms - told->told_ms >=
                          (rest_ms < POD_EVENT_MAX_MS ? rest_ms : POD_EVENT_MAX_MS);
    told->count += told->count < UINT32_MAX;
    told->tells += tell && told->tells < UINT32_MAX;
    told->told_ms = tell ? now.mono_ms : told->told_ms;
    *out_count = told->count;
    *out_first_ms = told->first_ms;
    return tell;
}

void pods_event(struct pods *pods, struct pod_entry *pod, const char *container, const char *type,
                const char *reason, struct pods_time now, const char *format, ...)
{
    char message[PODS_TEXT_BYTES];
    va_list list;
    va_start(list, format);
    vsnprintf(message, sizeof message, format, list);
    va_end(list);
    if (!pod->wanted) {
        return;
    }
    struct edge_event event = {
        .kind = "Pod",
        .namespace_ = pod->namespace,
        .name = pod->name,
        .uid = pod->uid,
        .container = container,
        .type = type,
        .reason = reason,
        .message = message,
        .last_ms = now.wall_ms,
    };
    if (!pods_event_count(pod, pods_event_hash(&event), now, &event.count, &event.first_ms)) {
        return;
    }
    pods->door->record_event(pods->door->context, &event);
}

/* -- the listing ------------------------------------------------------------------------------- */

static void pods_list_copy(struct pods *pods, const struct driver_list *list)
{
    struct arena *arena = &pods->list_arena;
    arena_deinit(arena);
    struct driver_sandbox_seen *sandboxes =
        arena_claim(arena, list->sandbox_count, sizeof *sandboxes);
    struct driver_container_seen *containers =
        arena_claim(arena, list->container_count, sizeof *containers);
    for (size_t i = 0; i < list->sandbox_count; i++) {
        sandboxes[i] = list->sandboxes[i];
        sandboxes[i].id = arena_text(arena, list->sandboxes[i].id);
        sandboxes[i].pod_name = arena_text(arena, list->sandboxes[i].pod_name);
        sandboxes[i].pod_namespace = arena_text(arena, list->sandboxes[i].pod_namespace);
        sandboxes[i].pod_uid = arena_text(arena, list->sandboxes[i].pod_uid);
        sandboxes[i].ip = arena_text(arena, list->sandboxes[i].ip);
    }
    for (size_t i = 0; i < list->container_count; i++) {
        const struct driver_container_seen *from = &list->containers[i];
        containers[i] = *from;
        containers[i].id = arena_text(arena, from->id);
        containers[i].sandbox_id = arena_text(arena, from->sandbox_id);
        containers[i].pod_name = arena_text(arena, from->pod_name);
        containers[i].pod_namespace = arena_text(arena, from->pod_namespace);
        containers[i].pod_uid = arena_text(arena, from->pod_uid);
        containers[i].name = arena_text(arena, from->name);
        containers[i].hash = arena_text(arena, from->hash);
        containers[i].image = arena_text(arena, from->image);
        containers[i].image_ref = arena_text(arena, from->image_ref);
        containers[i].reason = arena_text(arena, from->reason);
        containers[i].message = arena_text(arena, from->message);
    }
    pods->list =
        (struct driver_list){sandboxes, list->sandbox_count, containers, list->container_count};
}

static void run_update(struct pods_run *run, const struct driver_container_seen *seen,
                       const struct pod_entry *pod)
{
    const bool replaced = run->replaced, start_asked = run->start_asked;
    *run = (struct pods_run){
        .state = seen->state == DRIVER_CONTAINER_CREATED  ? RUN_CREATED
                 : seen->state == DRIVER_CONTAINER_EXITED ? RUN_EXITED
                                                          : RUN_RUNNING,
        .unknown = seen->state == DRIVER_CONTAINER_UNKNOWN,
        .attempt = seen->attempt,
        .listed = true,
        .replaced = replaced,
        .start_asked = start_asked,
        .in_sandbox = pod->sandbox != NULL && strcmp(pod->sandbox->id, seen->sandbox_id) == 0,
        .started_ms = seen->started_ms,
        .finished_ms = seen->finished_ms,
        .exit_code = seen->exit_code,
    };
    snprintf(run->id, sizeof run->id, "%s", seen->id);
    snprintf(run->hash, sizeof run->hash, "%s", seen->hash);
    snprintf(run->image, sizeof run->image, "%s", seen->image);
    snprintf(run->image_id, sizeof run->image_id, "%s", seen->image_ref);
    snprintf(run->reason, sizeof run->reason, "%s", seen->reason);
    snprintf(run->message, sizeof run->message, "%s", seen->message);
}

/* A run that the runtime no longer knows has ended, whatever it was doing. */
static void run_vanish(struct pods_run *run, struct pods_time now)
{
    run->listed = run->in_sandbox = false;
    if (run->state == RUN_RUNNING || run->state == RUN_CREATED) {
        run->state = RUN_EXITED;
        run->exit_code = 137; /* as the kubelet tells it */
        run->finished_ms = now.wall_ms;
        snprintf(run->reason, sizeof run->reason, "ContainerStatusUnknown");
        snprintf(run->message, sizeof run->message,
                 "The container could not be located in the runtime");
    }
}

/* A container that was created and removed before anybody asked for its start: its number is a
 * promise that is still open, so it is taken back to where the number was recorded and nothing of
 * it existed. */
static bool container_take_back(struct pods_container *container)
{
    const struct pods_run *current = &container->current, *previous = &container->previous;
    const bool first = current->attempt == 0;
    if (current->state != RUN_CREATED || current->start_asked ||
        (!first && (previous->state == RUN_NONE || previous->attempt + 1 != current->attempt))) {
        return false;
    }
    container->current = *previous;
    container->previous = (struct pods_run){0};
    container->exit_noticed = true;
    container->restart_at_ms = 0;
    return true;
}

static void pods_view_containers(struct pods *pods, struct pod_entry *pod, struct pods_time now)
{
    for (size_t i = 0; i < pod->container_count; i++) {
        pod->containers[i].current.listed = pod->containers[i].previous.listed = false;
    }
    for (size_t i = 0; i < pods->list.container_count; i++) {
        const struct driver_container_seen *seen = &pods->list.containers[i];
        if (strcmp(seen->pod_uid, pod->uid) != 0) {
            continue;
        }
        struct pods_container *container = pods_container_find(pod, seen->name);
        container = container != NULL ? container : pods_container_add(pod, seen->name);
        struct pods_run *current = &container->current, *previous = &container->previous;
        if (current->state == RUN_NONE || seen->attempt > current->attempt) {
            if (current->state == RUN_NONE) {
                container->crashes =
                    seen->attempt < 6 ? seen->attempt : 6; /* an earlier life counted them */
            }
            *previous = *current;
            container->logs_from = current->state == RUN_NONE && seen->attempt > 1
                                       ? seen->attempt - 1
                                       : container->logs_from;
            *current = (struct pods_run){0};
            run_update(current, seen, pod);
            container->exit_noticed = false;
            container->reason[0] = container->message[0] = 0;
            container->slot.retry = (struct pods_retry){0};
        } else if (seen->attempt == current->attempt) {
            run_update(current, seen, pod);
        } else if (previous->state == RUN_NONE || seen->attempt >= previous->attempt) {
            run_update(previous, seen, pod);
        }
    }
    for (size_t i = 0; i < pod->container_count; i++) {
        struct pods_container *container = &pod->containers[i];
        for (const struct pods_object *object = pod->objects; object != NULL;
             object = object->next) {
            if (container->current.state == RUN_CREATED && container->current.listed &&
                strcmp(object->id, container->current.id) == 0 &&
                pods_object_is_free(pods, object)) {
                container->current.start_asked = false; /* it was refused: the listing is newer */
            }
        }
        if (container->current.state != RUN_NONE && !container->current.listed &&
            pods_slot_is_free(pods, &container->slot) && !container_take_back(container)) {
            run_vanish(&container->current, now);
        }
        if (container->previous.state != RUN_NONE && !container->previous.listed) {
            run_vanish(&container->previous, now);
        }
    }
}

/* Objects that are not listed and have no call under way are gone. */
static void pods_view_objects(struct pods *pods, struct pod_entry *pod)
{
    for (struct pods_object **link = &pod->objects, *object; (object = *link) != NULL;) {
        bool listed = object->call != 0 || object->settled >= pods->list_begun;
        for (size_t i = 0; i < pods->list.container_count && !listed; i++) {
            listed = strcmp(pods->list.containers[i].id, object->id) == 0;
        }
        for (size_t i = 0; i < pods->list.sandbox_count && !listed; i++) {
            listed = strcmp(pods->list.sandboxes[i].id, object->id) == 0;
        }
        if (listed) {
            link = &object->next;
        } else {
            *link = object->next;
            free(object->id);
            free(object);
        }
    }
}

static void pods_view(struct pods *pods, struct pod_entry *pod, struct pods_time now)
{
    pod->sandbox = NULL;
    for (size_t i = 0; i < pods->list.sandbox_count; i++) {
        const struct driver_sandbox_seen *seen = &pods->list.sandboxes[i];
        if (strcmp(seen->pod_uid, pod->uid) == 0 &&
            (pod->sandbox == NULL || seen->attempt > pod->sandbox->attempt)) {
            pod->sandbox = seen;
        }
    }
    if (pod->sandbox != NULL) {
        if ((int64_t)pod->sandbox->attempt > pod->sandbox_existed) {
            pod->sandbox_existed = pod->sandbox->attempt;
            pod->sandbox_slot.retry = (struct pods_retry){0};
        }
        if (pod->sandbox->ready && pod->sandbox->ip[0] != 0) {
            snprintf(pod->ip, sizeof pod->ip, "%s", pod->sandbox->ip);
        }
    }
    pods_view_containers(pods, pod, now);
    pods_view_objects(pods, pod);
    pod->dirty = true;
}

static void pods_on_list(struct pods *pods, const struct pods_call *call,
                         const struct driver_answer *answer, struct pods_time now)
{
    pods->listing = false;
    pods->list_at_ms = now.mono_ms + POD_RELIST_MS;
    pods->list_earliest_ms = now.mono_ms + POD_RELIST_MIN_MS;
    pods->list_status = answer->status;
    if (answer->status != 0) {
        return; /* containers go on; who looks at pods_report sees for how long we are blind */
    }
    pods_list_copy(pods, &answer->list);
    pods->listed = true;
    pods->listed_ms = now.mono_ms;
    pods->list_begun = call->begun;
    if (pods->begun) {
        for (size_t i = 0; i < pods->list.sandbox_count + pods->list.container_count; i++) {
            const bool sandbox = i < pods->list.sandbox_count;
            const struct driver_sandbox_seen *s = sandbox ? &pods->list.sandboxes[i] : NULL;
            const struct driver_container_seen *c =
                sandbox ? NULL : &pods->list.containers[i - pods->list.sandbox_count];
            const char *uid = sandbox ? s->pod_uid : c->pod_uid;
            if (uid[0] != 0 && pods_find(pods, uid) == NULL) {
                pods_add(pods, uid, sandbox ? s->pod_namespace : c->pod_namespace,
                         sandbox ? s->pod_name : c->pod_name);
            }
        }
    }
    for (size_t i = 0; i < pods->count; i++) {
        pods_view(pods, pods->entries[i], now);
    }
}

/* -- answers ----------------------------------------------------------------------------------- */

static void pods_on_image(struct pods *pods, struct pod_entry *pod,
                          struct pods_container *container, const struct driver_answer *answer,
                          struct pods_time now)
{
    const char *image = container->spec != NULL ? container->spec->image : "";
    if (answer->status == 0) {
        if (answer->verb == DRIVER_IMAGE_PULL) {
            pods_event(pods, pod, container->name, "Normal", "Pulled", now,
                       "Successfully pulled image \"%s\"", image);
        } else {
            pods_event(pods, pod, container->name, "Normal", "Pulled", now,
                       "Container image \"%s\" already present on machine", image);
        }
        container->image_present = true;
        container->image_missing = false;
        container->pull = (struct pods_retry){0};
        container->reason[0] = container->message[0] = 0;
        return;
    }
    if (answer->verb == DRIVER_IMAGE_STATUS && answer->status == DRIVER_NOT_FOUND &&
        container->spec != NULL && container->spec->pull != POD_PULL_NEVER) {
        container->image_missing = true;
        return;
    }
    container->image_missing = false; /* it may be imported by hand meanwhile: look again first */
    const bool never = container->spec != NULL && container->spec->pull == POD_PULL_NEVER;
    snprintf(container->reason, sizeof container->reason, "%s",
             never ? "ErrImageNeverPull" : "ErrImagePull");
    snprintf(container->message, sizeof container->message,
             never ? "Container image \"%s\" is not present with pull policy of Never%s"
                   : "failed to pull image \"%s\": %s",
             image, never ? "" : answer->message);
    container->pull_failed_ms = now.mono_ms;
    pods_retry_later(&container->pull, POD_BACKOFF_MS, POD_BACKOFF_MAX_MS, now);
    pods_event(pods, pod, container->name, "Warning", "Failed", now, "%s%s",
               never ? "Error: ErrImageNeverPull: " : "", container->message);
}

static void pods_on_slot(struct pods *pods, struct pod_entry *pod, const struct pods_call *call,
                         const struct driver_answer *answer, struct pods_time now)
{
    struct pods_container *container =
        call->container >= 0 ? &pod->containers[call->container] : NULL;
    struct pods_slot *slot = container != NULL ? &container->slot : &pod->sandbox_slot;
    CHECK(slot->call == call->id);
    slot->call = 0;
    if (answer->verb == DRIVER_IMAGE_STATUS || answer->verb == DRIVER_IMAGE_PULL) {
        CHECK(container != NULL);
        pods_on_image(pods, pod, container, answer, now);
        return; /* nothing came into being: no listing has to be awaited */
    }
    slot->settled = ++pods->sequence;
    pods->list_wanted = true;
    if (answer->status == 0) {
        slot->retry = (struct pods_retry){0};
        if (container != NULL) {
            pods_event(pods, pod, container->name, "Normal", "Created", now,
                       "Created container %s", container->name);
            container->image_present = false; /* asked again before the next attempt */
            container->reason[0] = container->message[0] = 0;
        }
        return;
    }
    pods_retry_later(&slot->retry, POD_RETRY_MS, POD_RETRY_MAX_MS, now);
    pods_event(pods, pod, container != NULL ? container->name : "", "Warning",
               container != NULL ? "Failed" : "FailedCreatePodSandBox", now, "%s: %s",
               driver_verb_text(answer->verb), answer->message);
    if (container != NULL) {
        container->image_present = false;
        snprintf(container->reason, sizeof container->reason, "CreateContainerError");
        snprintf(container->message, sizeof container->message, "%s", answer->message);
    }
}

static void pods_on_object(struct pods *pods, struct pod_entry *pod, const struct pods_call *call,
                           const struct driver_answer *answer, struct pods_time now)
{
    struct pods_object *object = pods_object_get(pod, call->object);
    object->settled = ++pods->sequence;
    pods->list_wanted = true;
    if (object->call == call->id) {
        object->call = 0;
    }
    if (answer->status == 0 || answer->status == DRIVER_NOT_FOUND) {
        object->stopped = object->stopped || answer->verb == DRIVER_SANDBOX_STOP;
        object->retry = (struct pods_retry){0};
        for (size_t i = 0; i < pod->container_count && answer->verb == DRIVER_CONTAINER_START;
             i++) {
            if (strcmp(pod->containers[i].current.id, call->object) == 0) {
                pods_event(pods, pod, pod->containers[i].name, "Normal", "Started", now,
                           "Started container %s", pod->containers[i].name);
            }
        }
        return;
    }
    pods_retry_later(&object->retry, POD_RETRY_MS, POD_RETRY_MAX_MS, now);
    pods_event(pods, pod, "", "Warning", "Failed", now, "%s: %s", driver_verb_text(answer->verb),
               answer->message);
}

void pods_on_answer(struct pods *pods, uint64_t id, const struct driver_answer *answer,
                    struct pods_time now)
{
    struct pods_call *place = NULL;
    for (size_t i = 0; i < LIMIT_DRIVER_CALLS && place == NULL; i++) {
        place = pods->calls[i].id == id && id != 0 ? &pods->calls[i] : NULL;
    }
    if (place == NULL) {
        return;
    }
    const struct pods_call call = *place;
    *place = (struct pods_call){0}; /* the place is free before anyone hears of the answer */
    pods->call_count--;
    if (call.pod == NULL) {
        pods_on_list(pods, &call, answer, now);
        return;
    }
    CHECK(call.pod->calls > 0);
    call.pod->calls--;
    call.pod->dirty = true;
    if (call.object != NULL) {
        pods_on_object(pods, call.pod, &call, answer, now);
        free(call.object);
    } else {
        pods_on_slot(pods, call.pod, &call, answer, now);
    }
}

/* -- the turn ---------------------------------------------------------------------------------- */

static void pods_list_ask(struct pods *pods, struct pods_time now)
{
    const bool due = now.mono_ms >= pods->list_at_ms ||
                     (pods->list_wanted && now.mono_ms >= pods->list_earliest_ms);
    if (pods->listing || !due) {
        return;
    }
    struct pods_call *place =
        pods_call_begin(pods, NULL, &(const struct driver_call){.verb = DRIVER_LIST});
    if (place == NULL) {
        pods->list_at_ms = now.mono_ms + POD_RELIST_MS;
        pods->list_earliest_ms = now.mono_ms + POD_RELIST_MIN_MS;
        return;
    }
    place->begun = pods->sequence;
    pods->listing = true;
    pods->list_wanted = false;
}

uint64_t pods_tick(struct pods *pods, struct pods_time now)
{
    uint64_t next_ms = now.mono_ms + POD_RELIST_MS;
    for (size_t i = 0; i < pods->count;) {
        struct pod_entry *pod = pods->entries[i];
        bool stays = true;
        while (pods->begun && stays && (pod->dirty || pod->wake_ms <= now.mono_ms)) {
            pod->dirty = false;
            pod->wake_ms = PODS_NEVER;
            stays = pods_step(pods, pod, now);
            CHECK(pod->wake_ms > now.mono_ms); /* or this loop would not end */
        }
        if (!stays) {
            CHECK(pod->calls == 0);
            pod_entry_free(pod);
            pods->count--;
            memmove(pods->entries + i, pods->entries + i + 1,
                    (pods->count - i) * sizeof(struct pod_entry *));
            continue;
        }
        next_ms = pod->wake_ms < next_ms ? pod->wake_ms : next_ms;
        i++;
    }
    pods_list_ask(pods, now); /* after the calls: it is then newer than all that was answered */
    if (!pods->listing) {
        const uint64_t list_ms = pods->list_wanted && pods->list_earliest_ms < pods->list_at_ms
                                     ? pods->list_earliest_ms
                                     : pods->list_at_ms;
        next_ms = list_ms < next_ms ? list_ms : next_ms;
    }
    return next_ms > now.mono_ms ? next_ms : now.mono_ms + 1;
}

struct pods_report pods_report(const struct pods *pods)
{
    struct pods_report report = {
        .calls = pods->call_count,
        .calls_total = pods->call_last,
        .listed = pods->listed,
        .listed_mono_ms = pods->listed_ms,
        .list_status = pods->list_status,
    };
    for (size_t i = 0; i < pods->count; i++) {
        report.wanted += pods->entries[i]->wanted;
        if (pods->entries[i]->told) {
            CHECK((unsigned)pods->entries[i]->status.phase < PODS_PHASES);
            report.phases[pods->entries[i]->status.phase]++;
        }
    }
    report.running = report.phases[POD_RUNNING];
    return report;
}

const struct pod_status *pods_status(const struct pods *pods, const char *uid)
{
    const struct pod_entry *pod = pods_find(pods, uid);
    return pod != NULL && pod->told ? &pod->status : NULL;
}
