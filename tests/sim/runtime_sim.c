#include "tests/sim/runtime_sim.h"

#include "nodes/edge/arena.h"
#include "schemas/check.h"
#include "schemas/status.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One call on its way: first its effect on the world, then its answer to the agent. */
struct runtime_call {
    struct runtime_sim *runtime;
    struct runtime_sim_door *door;
    struct runtime_call *next;
    uint64_t life;
    uint64_t id;
    enum driver_verb verb;
    int64_t grace_seconds;
    char object[64];
    char image[128];
    struct runtime_sim_sandbox sandbox;
    struct runtime_sim_container container;
    struct arena arena; /* of the answer */
    struct driver_answer answer;
};

static int64_t runtime_wall_ms(const struct runtime_sim *runtime)
{
    return RUNTIME_SIM_EPOCH_MS + (int64_t)(runtime->sim->now_us / 1000);
}

static bool image_begins(const char *image, const char *prefix)
{
    return strncmp(image, prefix, strlen(prefix)) == 0;
}

static bool image_exists(const struct runtime_sim *runtime, const char *image)
{
    bool there = image_begins(image, "kelp.local/");
    for (size_t i = 0; i < runtime->image_count && !there; i++) {
        there = strcmp(runtime->images[i], image) == 0;
    }
    return there;
}

static struct runtime_sim_sandbox *sandbox_find(struct runtime_sim *runtime, const char *id)
{
    for (size_t i = 0; i < runtime->sandbox_count; i++) {
        if (strcmp(runtime->sandboxes[i].id, id) == 0) {
            return &runtime->sandboxes[i];
        }
    }
    return NULL;
}

static struct runtime_sim_container *container_find(struct runtime_sim *runtime, const char *id)
{
    for (size_t i = 0; i < runtime->container_count; i++) {
        if (strcmp(runtime->containers[i].id, id) == 0) {
            return &runtime->containers[i];
        }
    }
    return NULL;
}

static void container_end(struct runtime_sim *runtime, struct runtime_sim_container *container,
                          int32_t code, const char *reason)
{
    if (container->state == DRIVER_CONTAINER_EXITED) {
        return;
    }
    container->state = DRIVER_CONTAINER_EXITED;
    container->exit_code = code;
    container->finished_ms = runtime_wall_ms(runtime);
    snprintf(container->reason, sizeof container->reason, "%s", reason);
}

/* -- what calls do ----------------------------------------------------------------------------- */

static void answer_no(struct runtime_call *call, int status, const char *message)
{
    call->answer.status = status;
    call->answer.message = message;
}

static void effect_list(struct runtime_call *call)
{
    struct runtime_sim *runtime = call->runtime;
    struct arena *arena = &call->arena;
    struct driver_sandbox_seen *sandboxes =
        arena_claim(arena, runtime->sandbox_count, sizeof *sandboxes);
    struct driver_container_seen *containers =
        arena_claim(arena, runtime->container_count, sizeof *containers);
    for (size_t i = 0; i < runtime->sandbox_count; i++) {
        const struct runtime_sim_sandbox *from = &runtime->sandboxes[i];
        sandboxes[i] = (struct driver_sandbox_seen){
            .id = arena_text(arena, from->id),
            .pod_name = arena_text(arena, from->pod_name),
            .pod_namespace = arena_text(arena, from->pod_namespace),
            .pod_uid = arena_text(arena, from->pod_uid),
            .attempt = from->attempt,
            .ready = from->ready,
            .created_ms = from->created_ms,
            .ip = from->ready ? arena_text(arena, from->ip) : "",
        };
    }
    for (size_t i = 0; i < runtime->container_count; i++) {
        const struct runtime_sim_container *from = &runtime->containers[i];
        containers[i] = (struct driver_container_seen){
            .id = arena_text(arena, from->id),
            .sandbox_id = arena_text(arena, from->sandbox_id),
            .pod_name = arena_text(arena, from->pod_name),
            .pod_namespace = arena_text(arena, from->pod_namespace),
            .pod_uid = arena_text(arena, from->pod_uid),
            .name = arena_text(arena, from->name),
            .attempt = from->attempt,
            .hash = arena_text(arena, from->hash),
            .image = arena_text(arena, from->image),
            .image_ref = arena_text(arena, from->image),
            .state = from->state,
            .created_ms = from->created_ms,
            .started_ms = from->started_ms,
            .finished_ms = from->finished_ms,
            .exit_code = from->exit_code,
            .reason = arena_text(arena, from->reason),
            .message = "",
        };
    }
    call->answer.list = (struct driver_list){sandboxes, runtime->sandbox_count, containers,
                                             runtime->container_count};
}

static void effect_sandbox_run(struct runtime_call *call)
{
    struct runtime_sim *runtime = call->runtime;
    for (size_t i = 0; i < runtime->sandbox_count; i++) {
        if (strcmp(runtime->sandboxes[i].pod_uid, call->sandbox.pod_uid) == 0 &&
            runtime->sandboxes[i].attempt == call->sandbox.attempt) {
            answer_no(call, DRIVER_REFUSED, "the name is reserved");
            return;
        }
    }
    CHECK(runtime->sandbox_count < RUNTIME_SIM_OBJECTS);
    struct runtime_sim_sandbox *sandbox = &runtime->sandboxes[runtime->sandbox_count++];
    *sandbox = call->sandbox;
    runtime->ids++;
    snprintf(sandbox->id, sizeof sandbox->id, "s%llu", (unsigned long long)runtime->ids);
    snprintf(sandbox->ip, sizeof sandbox->ip, "10.0.%u.%u", (unsigned)(runtime->ids >> 8 & 255),
             (unsigned)(runtime->ids & 255));
    sandbox->ready = true;
    sandbox->created_ms = runtime_wall_ms(runtime);
    call->answer.id = arena_text(&call->arena, sandbox->id);
}

static void effect_sandbox_stop(struct runtime_call *call)
{
    struct runtime_sim_sandbox *sandbox = sandbox_find(call->runtime, call->object);
    if (sandbox == NULL) {
        return;
    }
    sandbox->ready = false;
    for (size_t i = 0; i < call->runtime->container_count; i++) {
        struct runtime_sim_container *container = &call->runtime->containers[i];
        if (strcmp(container->sandbox_id, sandbox->id) == 0 &&
            container->state == DRIVER_CONTAINER_RUNNING) {
            container_end(call->runtime, container, 137, "Error");
        }
    }
}

static void container_remove(struct runtime_sim *runtime, struct runtime_sim_container *container)
{
    container_end(runtime, container, 137, "Error");
    *container = runtime->containers[--runtime->container_count];
}

static void effect_sandbox_remove(struct runtime_call *call)
{
    struct runtime_sim *runtime = call->runtime;
    struct runtime_sim_sandbox *sandbox = sandbox_find(runtime, call->object);
    if (sandbox == NULL) {
        return;
    }
    for (size_t i = runtime->container_count; i > 0; i--) {
        if (strcmp(runtime->containers[i - 1].sandbox_id, sandbox->id) == 0) {
            container_remove(runtime, &runtime->containers[i - 1]);
        }
    }
    *sandbox = runtime->sandboxes[--runtime->sandbox_count];
}

static void effect_create(struct runtime_call *call)
{
    struct runtime_sim *runtime = call->runtime;
    const struct runtime_sim_sandbox *sandbox = sandbox_find(runtime, call->object);
    if (sandbox == NULL || !sandbox->ready) {
        answer_no(call, DRIVER_NOT_FOUND, "the sandbox is not found");
        return;
    }
    if (!image_exists(runtime, call->container.image)) {
        answer_no(call, DRIVER_NOT_FOUND, "the image is not found");
        return;
    }
    for (size_t i = 0; i < runtime->container_count; i++) {
        const struct runtime_sim_container *there = &runtime->containers[i];
        if (strcmp(there->pod_uid, call->container.pod_uid) == 0 &&
            strcmp(there->name, call->container.name) == 0 &&
            there->attempt == call->container.attempt) {
            answer_no(call, DRIVER_REFUSED, "the name is reserved");
            return;
        }
    }
    CHECK(runtime->container_count < RUNTIME_SIM_OBJECTS);
    struct runtime_sim_container *container = &runtime->containers[runtime->container_count++];
    *container = call->container;
    snprintf(container->id, sizeof container->id, "c%llu", (unsigned long long)++runtime->ids);
    snprintf(container->sandbox_id, sizeof container->sandbox_id, "%s", sandbox->id);
    container->state = DRIVER_CONTAINER_CREATED;
    container->created_ms = runtime_wall_ms(runtime);
    call->answer.id = arena_text(&call->arena, container->id);
}

static void start_count(struct runtime_sim *runtime, const struct runtime_sim_container *container)
{
    size_t running = 0;
    for (size_t i = 0; i < runtime->container_count; i++) {
        const struct runtime_sim_container *other = &runtime->containers[i];
        running += other->state == DRIVER_CONTAINER_RUNNING &&
                   strcmp(other->pod_uid, container->pod_uid) == 0 &&
                   strcmp(other->name, container->name) == 0;
    }
    runtime->doubles += running > 1;
    for (size_t i = 0; i < runtime->start_count; i++) {
        struct runtime_sim_start *start = &runtime->starts[i];
        if (strcmp(start->pod_uid, container->pod_uid) == 0 &&
            strcmp(start->container, container->name) == 0 &&
            start->attempt == container->attempt) {
            start->count++;
            return;
        }
    }
    CHECK(runtime->start_count < RUNTIME_SIM_STARTS);
    struct runtime_sim_start *start = &runtime->starts[runtime->start_count++];
    snprintf(start->pod_uid, sizeof start->pod_uid, "%s", container->pod_uid);
    snprintf(start->container, sizeof start->container, "%s", container->name);
    start->attempt = container->attempt;
    start->count = 1;
}

/* Containers move in their array, so an exit is looked up by id when its time comes. */
struct runtime_exit {
    struct runtime_sim *runtime;
    struct runtime_exit *next;
    char id[32];
    int32_t code;
};

static void on_exit_due(void *context)
{
    struct runtime_exit *due = context;
    struct runtime_sim_container *container = container_find(due->runtime, due->id);
    if (container != NULL && container->state == DRIVER_CONTAINER_RUNNING) {
        container_end(due->runtime, container, due->code, due->code == 0 ? "Completed" : "Error");
    }
    struct runtime_exit **link = &due->runtime->exits;
    while (*link != due) {
        link = &(*link)->next;
    }
    *link = due->next;
    free(due);
}

static void container_exit_after(struct runtime_sim *runtime,
                                 struct runtime_sim_container *container, uint64_t delay_us,
                                 int32_t code)
{
    struct runtime_exit *due = calloc(1, sizeof *due);
    CHECK(due != NULL);
    due->runtime = runtime;
    due->code = code;
    snprintf(due->id, sizeof due->id, "%s", container->id);
    due->next = runtime->exits;
    runtime->exits = due;
    sim_after(runtime->sim, delay_us, 0, on_exit_due,
              due); /* never cancelled: it looks before it acts */
}

static void effect_start(struct runtime_call *call)
{
    struct runtime_sim_container *container = container_find(call->runtime, call->object);
    if (container == NULL || container->state != DRIVER_CONTAINER_CREATED) {
        answer_no(call, container == NULL ? DRIVER_NOT_FOUND : DRIVER_REFUSED,
                  "the container is not in the created state");
        return;
    }
    const struct runtime_sim_sandbox *sandbox = sandbox_find(call->runtime, container->sandbox_id);
    if (sandbox == NULL || !sandbox->ready) {
        answer_no(call, DRIVER_REFUSED, "the sandbox is not running");
        return;
    }
    container->state = DRIVER_CONTAINER_RUNNING;
    container->started_ms = runtime_wall_ms(call->runtime);
    start_count(call->runtime, container);
    if (container->exits) {
        container_exit_after(call->runtime, container, container->exits_us, container->exits_code);
    }
}

static void effect_pull(struct runtime_call *call)
{
    if (!image_exists(call->runtime, call->image) &&
        !image_begins(call->image, "registry.local/")) {
        answer_no(call, DRIVER_REFUSED, "no such host");
        return;
    }
    if (!image_exists(call->runtime, call->image)) {
        runtime_sim_image_add(call->runtime, call->image);
    }
}

static void on_answer_due(void *context);

/* How long a stop takes until the container has ended; 0 for every other call. */
static uint64_t effect_stop(struct runtime_call *call)
{
    struct runtime_sim_container *container = container_find(call->runtime, call->object);
    if (container == NULL || container->state != DRIVER_CONTAINER_RUNNING) {
        return 0;
    }
    const uint64_t grace_us = (uint64_t)call->grace_seconds * 1000000;
    const bool killed = grace_us < call->runtime->stop_us;
    const uint64_t delay_us = killed ? grace_us : call->runtime->stop_us;
    container_exit_after(call->runtime, container, delay_us, killed ? 137 : 143);
    return delay_us + 1;
}

/* Or asks for an image, on the way to a change. */
static bool verb_changes(enum driver_verb verb)
{
    return verb != DRIVER_LIST && verb != DRIVER_VERSION && verb != DRIVER_STATUS;
}

static uint64_t runtime_latency(struct runtime_sim *runtime)
{
    return sim_between(runtime->sim, runtime->call_us_min, runtime->call_us_max);
}

static void on_effect_due(void *context)
{
    struct runtime_call *call = context;
    struct runtime_sim *runtime = call->runtime;
    uint64_t more_us = 0;
    if (runtime->down) {
        answer_no(call, -ECONNREFUSED, "the runtime is down");
        goto answer;
    }
    const bool changes = verb_changes(call->verb);
    if (changes && sim_chance(runtime->sim, runtime->refuse_per_million)) {
        answer_no(call, DRIVER_REFUSED, "chance said no");
        goto answer;
    }
    if (changes && sim_chance(runtime->sim, runtime->lost_per_million)) {
        answer_no(call, STATUS_TIMEOUT, "chance lost the call");
        goto answer;
    }
    switch (call->verb) {
    case DRIVER_VERSION:
        call->answer.version = (struct driver_version){"runtime-sim", "1"};
        break;
    case DRIVER_STATUS:
        call->answer.runtime = (struct driver_runtime){true, true, ""};
        break;
    case DRIVER_LIST:
        effect_list(call);
        break;
    case DRIVER_IMAGE_STATUS:
        if (!image_exists(runtime, call->image)) {
            answer_no(call, DRIVER_NOT_FOUND, "the image is not present");
        }
        break;
    case DRIVER_IMAGE_PULL:
        effect_pull(call);
        break;
    case DRIVER_SANDBOX_RUN:
        effect_sandbox_run(call);
        break;
    case DRIVER_SANDBOX_STOP:
        effect_sandbox_stop(call);
        break;
    case DRIVER_SANDBOX_REMOVE:
        effect_sandbox_remove(call);
        break;
    case DRIVER_CONTAINER_CREATE:
        effect_create(call);
        break;
    case DRIVER_CONTAINER_START:
        effect_start(call);
        break;
    case DRIVER_CONTAINER_STOP:
        more_us = effect_stop(call);
        break;
    case DRIVER_CONTAINER_REMOVE: {
        struct runtime_sim_container *container = container_find(runtime, call->object);
        if (container != NULL) {
            container_remove(runtime, container);
        }
        break;
    }
    case DRIVER_EXEC:
        answer_no(call, DRIVER_REFUSED, "nothing runs here");
        break;
    }
    if (changes && sim_chance(runtime->sim, runtime->unknown_per_million)) {
        answer_no(call, STATUS_UNKNOWN, "chance lost the answer");
    }
answer:
    sim_after(runtime->sim, more_us + runtime_latency(runtime), 0, on_answer_due, call);
}

static void on_answer_due(void *context)
{
    struct runtime_call *call = context;
    struct runtime_call **link = &call->runtime->open;
    while (*link != call) {
        link = &(*link)->next;
    }
    *link = call->next;
    if (call->door->life == call->life) {
        call->door->driver.on_answer(call->door->driver.owner, call->id, &call->answer);
    }
    arena_deinit(&call->arena);
    free(call);
}

/* -- the door ---------------------------------------------------------------------------------- */

static void call_copy(struct runtime_call *call, const struct driver_call *from)
{
    call->verb = from->verb;
    call->grace_seconds = from->grace_seconds;
    snprintf(call->object, sizeof call->object, "%s", from->id == NULL ? "" : from->id);
    snprintf(call->image, sizeof call->image, "%s", from->image == NULL ? "" : from->image);
    if (from->sandbox != NULL) {
        struct runtime_sim_sandbox *to = &call->sandbox;
        snprintf(to->pod_name, sizeof to->pod_name, "%s", from->sandbox->pod_name);
        snprintf(to->pod_namespace, sizeof to->pod_namespace, "%s", from->sandbox->pod_namespace);
        snprintf(to->pod_uid, sizeof to->pod_uid, "%s", from->sandbox->pod_uid);
        to->attempt = from->sandbox->attempt;
    }
    if (from->container != NULL) {
        struct runtime_sim_container *to = &call->container;
        memcpy(to->pod_name, call->sandbox.pod_name, sizeof to->pod_name);
        memcpy(to->pod_namespace, call->sandbox.pod_namespace, sizeof to->pod_namespace);
        memcpy(to->pod_uid, call->sandbox.pod_uid, sizeof to->pod_uid);
        snprintf(to->name, sizeof to->name, "%s", from->container->name);
        snprintf(to->hash, sizeof to->hash, "%s", from->container->hash);
        snprintf(to->image, sizeof to->image, "%s", from->container->image);
        to->attempt = from->container->attempt;
        const char *const *words = from->container->command;
        if (from->container->command_count >= 2 && strcmp(words[0], "kelp-fake-exit") == 0) {
            to->exits = true;
            to->exits_code = atoi(words[1]);
            to->exits_us =
                from->container->command_count > 2 ? strtoull(words[2], NULL, 10) * 1000 : 0;
        }
    }
}

static int door_call(struct driver *driver, uint64_t id, const struct driver_call *from)
{
    struct runtime_sim_door *door = CONTAINER_OF(driver, struct runtime_sim_door, driver);
    struct runtime_sim *runtime = door->runtime;
    struct runtime_call *call = calloc(1, sizeof *call);
    CHECK(call != NULL);
    call->runtime = runtime;
    call->door = door;
    call->life = door->life;
    call->next = runtime->open;
    runtime->open = call;
    call->id = id;
    call->answer =
        (struct driver_answer){.verb = from->verb, .message = "", .id = "", .image_ref = ""};
    arena_init(&call->arena);
    call_copy(call, from);
    runtime->calls[from->verb]++;
    sim_after(runtime->sim, runtime_latency(runtime), 0, on_effect_due, call);
    return 0;
}

void runtime_sim_init(struct runtime_sim *runtime, struct sim *sim)
{
    memset(runtime, 0, sizeof *runtime);
    runtime->sim = sim;
    runtime->call_us_min = 200;
    runtime->call_us_max = 20000;
    runtime->stop_us = 300000;
}

void runtime_sim_deinit(struct runtime_sim *runtime)
{
    for (struct runtime_call *call = runtime->open, *next; call != NULL; call = next) {
        next = call->next;
        arena_deinit(&call->arena);
        free(call);
    }
    for (struct runtime_exit *due = runtime->exits, *next; due != NULL; due = next) {
        next = due->next;
        free(due);
    }
    runtime->open = NULL;
    runtime->exits = NULL;
}

void runtime_sim_connect(struct runtime_sim *runtime, struct runtime_sim_door *door)
{
    *door = (struct runtime_sim_door){
        .driver.call = door_call, .runtime = runtime, .life = ++runtime->lives};
}

void runtime_sim_disconnect(struct runtime_sim_door *door)
{
    door->life = 0;
}

bool runtime_sim_kill(struct runtime_sim *runtime, const char *pod_uid, const char *container,
                      int32_t code)
{
    for (size_t i = 0; i < runtime->container_count; i++) {
        struct runtime_sim_container *each = &runtime->containers[i];
        if (each->state == DRIVER_CONTAINER_RUNNING && strcmp(each->pod_uid, pod_uid) == 0 &&
            strcmp(each->name, container) == 0) {
            container_end(runtime, each, code, code == 0 ? "Completed" : "Error");
            return true;
        }
    }
    return false;
}

bool runtime_sim_kill_sandbox(struct runtime_sim *runtime, const char *pod_uid)
{
    bool found = false;
    for (size_t i = 0; i < runtime->sandbox_count; i++) {
        found = found || (runtime->sandboxes[i].ready &&
                          strcmp(runtime->sandboxes[i].pod_uid, pod_uid) == 0);
        runtime->sandboxes[i].ready =
            runtime->sandboxes[i].ready && strcmp(runtime->sandboxes[i].pod_uid, pod_uid) != 0;
    }
    for (size_t i = 0; i < runtime->container_count; i++) {
        if (strcmp(runtime->containers[i].pod_uid, pod_uid) == 0 &&
            runtime->containers[i].state == DRIVER_CONTAINER_RUNNING) {
            container_end(runtime, &runtime->containers[i], 137, "Error");
        }
    }
    return found;
}

void runtime_sim_reboot(struct runtime_sim *runtime)
{
    for (size_t i = 0; i < runtime->sandbox_count; i++) {
        runtime->sandboxes[i].ready = false;
    }
    for (size_t i = 0; i < runtime->container_count; i++) {
        if (runtime->containers[i].state == DRIVER_CONTAINER_RUNNING) {
            container_end(runtime, &runtime->containers[i], 255, "Unknown");
        }
    }
}

void runtime_sim_image_add(struct runtime_sim *runtime, const char *image)
{
    CHECK(runtime->image_count < RUNTIME_SIM_IMAGES);
    snprintf(runtime->images[runtime->image_count++], sizeof runtime->images[0], "%s", image);
}

uint32_t runtime_sim_starts(const struct runtime_sim *runtime, const char *pod_uid,
                            const char *container, uint32_t attempt)
{
    for (size_t i = 0; i < runtime->start_count; i++) {
        const struct runtime_sim_start *start = &runtime->starts[i];
        if (strcmp(start->pod_uid, pod_uid) == 0 && strcmp(start->container, container) == 0 &&
            start->attempt == attempt) {
            return start->count;
        }
    }
    return 0;
}

bool runtime_sim_changing(const struct runtime_sim *runtime)
{
    for (const struct runtime_call *call = runtime->open; call != NULL; call = call->next) {
        if (verb_changes(call->verb)) {
            return true;
        }
    }
    for (size_t i = 0; i < runtime->container_count; i++) {
        if (runtime->containers[i].state == DRIVER_CONTAINER_CREATED) {
            return true;
        }
    }
    return false;
}

size_t runtime_sim_running(const struct runtime_sim *runtime, const char *pod_uid)
{
    size_t running = 0;
    for (size_t i = 0; i < runtime->container_count; i++) {
        running += runtime->containers[i].state == DRIVER_CONTAINER_RUNNING &&
                   (pod_uid == NULL || strcmp(runtime->containers[i].pod_uid, pod_uid) == 0);
    }
    return running;
}

size_t runtime_sim_objects(const struct runtime_sim *runtime, const char *pod_uid)
{
    size_t objects = 0;
    for (size_t i = 0; i < runtime->container_count; i++) {
        objects += pod_uid == NULL || strcmp(runtime->containers[i].pod_uid, pod_uid) == 0;
    }
    for (size_t i = 0; i < runtime->sandbox_count; i++) {
        objects += pod_uid == NULL || strcmp(runtime->sandboxes[i].pod_uid, pod_uid) == 0;
    }
    return objects;
}
