/* kelp-fake-cri: a container runtime that runs nothing.
 *
 * For trying Kelp where containerd cannot run, and for tests. It answers every CRI call that
 * driver_cri.c makes and calls itself "kelp-fake". A container is an entry that says it runs; the
 * entries are kept in a file, written whole and renamed into place after each change, so that they
 * outlive this process as real containers outlive containerd. Images whose name begins with
 * kelp.local/ exist, all others do not and cannot be pulled.
 *
 * What a container does is said by its command:
 *      kelp-fake-exit CODE [MS]    ends by itself with CODE, MS milliseconds after its start
 *      anything else               runs until it is stopped (exit code 143)
 * and inside of a running one ExecSync answers three commands:
 *      kelp-fake-exit CODE         the container ends with CODE, as if it had been killed
 *      env                         its environment, one NAME=value per line
 *      cat PATH                    the file of the mount that covers PATH
 */
#include "nodes/edge/fake_cri.pb-c.h"
#include "nodes/edge/grpc_cri.h"
#include "nodes/edge/grpc_server_cri.h"
#include "schemas/check.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

typedef Runtime__V1__Pair fake_pair;

#define FAKE_ENTRIES   4096u /* sandboxes, and containers */
#define FAKE_FAULTS    64u
#define FAKE_CAT_BYTES (4u * 1024u * 1024u)
#define FAKE_NAME      "kelp-fake"

struct fake_fault {
    char method[64];
    enum grpc_fault kind;
    uint64_t delay_ms;
    long count; /* how many calls it still strikes; -1 for all */
};

struct fake {
    uv_loop_t loop;
    struct grpc_server *server;
    const char *state_path;
    Kelp__Fake__Sandbox *sandboxes[FAKE_ENTRIES];
    size_t sandbox_count;
    Kelp__Fake__Container *containers[FAKE_ENTRIES];
    size_t container_count;
    uint64_t ids;
    struct fake_fault faults[FAKE_FAULTS];
    size_t fault_count;
    uv_signal_t signals[2];
};

static int64_t fake_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* -- the state and its file -------------------------------------------------------------------- */

static void fake_save(struct fake *fake)
{
    Kelp__Fake__State state = KELP__FAKE__STATE__INIT;
    state.n_sandboxes = fake->sandbox_count;
    state.sandboxes = fake->sandboxes;
    state.n_containers = fake->container_count;
    state.containers = fake->containers;
    state.ids = fake->ids;
    const size_t size = kelp__fake__state__get_packed_size(&state);
    uint8_t *buffer = malloc(size + 1);
    CHECK(buffer != NULL);
    kelp__fake__state__pack(&state, buffer);

    char path[4096];
    snprintf(path, sizeof path, "%s.new", fake->state_path);
    FILE *file = fopen(path, "we");
    const bool written = file != NULL && fwrite(buffer, 1, size, file) == size;
    if (file == NULL || fclose(file) != 0 || !written || rename(path, fake->state_path) != 0) {
        fprintf(stderr, "kelp-fake-cri: cannot write %s: %s\n", fake->state_path, strerror(errno));
        exit(1); /* a runtime that forgets would start containers twice */
    }
    free(buffer);
}

static void fake_load(struct fake *fake)
{
    FILE *file = fopen(fake->state_path, "re");
    if (file == NULL && errno == ENOENT) {
        return;
    }
    struct stat info;
    uint8_t *buffer = NULL;
    Kelp__Fake__State *state = NULL;
    if (file != NULL && fstat(fileno(file), &info) == 0) {
        buffer = malloc((size_t)info.st_size + 1);
        CHECK(buffer != NULL);
        const size_t size = fread(buffer, 1, (size_t)info.st_size, file);
        state = kelp__fake__state__unpack(NULL, size, buffer);
    }
    if (state == NULL || state->n_sandboxes > FAKE_ENTRIES || state->n_containers > FAKE_ENTRIES) {
        fprintf(stderr, "kelp-fake-cri: %s is not a state of mine\n", fake->state_path);
        exit(1);
    }
    fclose(file);
    free(buffer);
    fake->ids = state->ids;
    fake->sandbox_count = state->n_sandboxes;
    fake->container_count = state->n_containers;
    if (state->n_sandboxes > 0) {
        memcpy(fake->sandboxes, state->sandboxes, state->n_sandboxes * sizeof *state->sandboxes);
    }
    if (state->n_containers > 0) {
        memcpy(fake->containers, state->containers,
               state->n_containers * sizeof *state->containers);
    }
    state->n_sandboxes = state->n_containers = 0; /* the entries are ours now, the rest may go */
    kelp__fake__state__free_unpacked(state, NULL);
}

static void fake_reason_set(Kelp__Fake__Container *container, const char *reason)
{
    if (container->reason != protobuf_c_empty_string) {
        free(container->reason);
    }
    container->reason = strdup(reason);
}

/* A container whose command says that it ends by itself may have ended since we last looked. */
static void fake_container_age(Kelp__Fake__Container *container)
{
    const Runtime__V1__ContainerConfig *config = container->config;
    char **words = config->n_command > 0 ? config->command : config->args;
    const size_t count = config->n_command > 0 ? config->n_command : config->n_args;
    if (container->state != RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING || count < 2 ||
        strcmp(words[0], "kelp-fake-exit") != 0) {
        return;
    }
    const int64_t end_ns = container->started_at + (count > 2 ? atoll(words[2]) : 0) * 1000000;
    if (fake_now_ns() < end_ns) {
        return;
    }
    container->state = RUNTIME__V1__CONTAINER_STATE__CONTAINER_EXITED;
    container->finished_at = end_ns;
    container->exit_code = atoi(words[1]);
    fake_reason_set(container, container->exit_code == 0 ? "Completed" : "Error");
}

static Kelp__Fake__Sandbox *fake_sandbox_find(struct fake *fake, const char *id)
{
    for (size_t i = 0; i < fake->sandbox_count; i++) {
        if (strcmp(fake->sandboxes[i]->id, id) == 0) {
            return fake->sandboxes[i];
        }
    }
    return NULL;
}

static Kelp__Fake__Container *fake_container_find(struct fake *fake, const char *id)
{
    for (size_t i = 0; i < fake->container_count; i++) {
        if (strcmp(fake->containers[i]->id, id) == 0) {
            fake_container_age(fake->containers[i]);
            return fake->containers[i];
        }
    }
    return NULL;
}

static void fake_container_end(Kelp__Fake__Container *container, int32_t code)
{
    if (container->state == RUNTIME__V1__CONTAINER_STATE__CONTAINER_EXITED) {
        return;
    }
    container->state = RUNTIME__V1__CONTAINER_STATE__CONTAINER_EXITED;
    container->finished_at = fake_now_ns();
    container->exit_code = code;
    fake_reason_set(container, code == 0 ? "Completed" : "Error");
}

static void fake_container_drop(struct fake *fake, size_t index)
{
    kelp__fake__container__free_unpacked(fake->containers[index], NULL);
    fake->containers[index] = fake->containers[--fake->container_count];
}

static char *fake_id(struct fake *fake)
{
    char id[65];
    snprintf(id, sizeof id, "%016llx%016llx%016llx%016llx", 0xfa4eull, (unsigned long long)getpid(),
             (unsigned long long)fake_now_ns(), (unsigned long long)++fake->ids);
    return strdup(id);
}

static bool fake_labels_match(fake_pair *const *wanted, size_t wanted_count,
                              fake_pair *const *labels, size_t count)
{
    for (size_t i = 0; i < wanted_count; i++) {
        bool found = false;
        for (size_t k = 0; k < count && !found; k++) {
            found = strcmp(wanted[i]->key, labels[k]->key) == 0 &&
                    strcmp(wanted[i]->value, labels[k]->value) == 0;
        }
        if (!found) {
            return false;
        }
    }
    return true;
}

/* -- answers ----------------------------------------------------------------------------------- */

__attribute__((format(printf, 3, 4))) static void fake_refuse(struct grpc_reply *reply, int code,
                                                              const char *format, ...)
{
    va_list list;
    va_start(list, format);
    reply->code = code;
    vsnprintf(reply->message, sizeof reply->message, format, list);
    va_end(list);
}

static void fake_reply(struct grpc_reply *reply, const void *message)
{
    reply->body_bytes = protobuf_c_message_get_packed_size(message);
    reply->body = malloc(reply->body_bytes + 1);
    CHECK(reply->body != NULL);
    protobuf_c_message_pack(message, reply->body);
}

/* A message of its own from one that points into others: through its bytes. */
static void *fake_own(const void *message)
{
    const ProtobufCMessage *from = message;
    const size_t size = protobuf_c_message_get_packed_size(from);
    uint8_t *buffer = malloc(size + 1);
    CHECK(buffer != NULL);
    protobuf_c_message_pack(from, buffer);
    void *own = protobuf_c_message_unpack(from->descriptor, NULL, size, buffer);
    CHECK(own != NULL);
    free(buffer);
    return own;
}

static void fake_version(struct fake *fake, const void *request, struct grpc_reply *reply)
{
    (void)fake;
    (void)request;
    char name[] = FAKE_NAME, version[] = KELP_VERSION, api[] = "v1", own[] = "0.1.0";
    Runtime__V1__VersionResponse message = RUNTIME__V1__VERSION_RESPONSE__INIT;
    message.version = own;
    message.runtime_name = name;
    message.runtime_version = version;
    message.runtime_api_version = api;
    fake_reply(reply, &message);
}

static void fake_status(struct fake *fake, const void *request, struct grpc_reply *reply)
{
    (void)fake;
    (void)request;
    char runtime[] = "RuntimeReady", network[] = "NetworkReady";
    Runtime__V1__RuntimeCondition conditions[2] = {RUNTIME__V1__RUNTIME_CONDITION__INIT,
                                                   RUNTIME__V1__RUNTIME_CONDITION__INIT};
    conditions[0].type = runtime;
    conditions[1].type = network;
    conditions[0].status = conditions[1].status = true;
    Runtime__V1__RuntimeCondition *list[] = {&conditions[0], &conditions[1]};
    Runtime__V1__RuntimeStatus status = RUNTIME__V1__RUNTIME_STATUS__INIT;
    status.n_conditions = 2;
    status.conditions = list;
    Runtime__V1__StatusResponse message = RUNTIME__V1__STATUS_RESPONSE__INIT;
    message.status = &status;
    fake_reply(reply, &message);
}

static void fake_run_sandbox(struct fake *fake, const void *from, struct grpc_reply *reply)
{
    const Runtime__V1__RunPodSandboxRequest *request = from;
    if (request->config == NULL || request->config->metadata == NULL) {
        fake_refuse(reply, GRPC_INVALID_ARGUMENT, "the sandbox has no metadata");
        return;
    }
    const Runtime__V1__PodSandboxMetadata *wanted = request->config->metadata;
    for (size_t i = 0; i < fake->sandbox_count; i++) {
        const Runtime__V1__PodSandboxMetadata *there = fake->sandboxes[i]->config->metadata;
        if (strcmp(there->uid, wanted->uid) == 0 && there->attempt == wanted->attempt) {
            fake_refuse(reply, GRPC_UNKNOWN, "name \"%s_%u\" is reserved", wanted->uid,
                        wanted->attempt);
            return;
        }
    }
    if (fake->sandbox_count == FAKE_ENTRIES) {
        fake_refuse(reply, GRPC_RESOURCE_EXHAUSTED, "%u sandboxes are the most a fake takes",
                    FAKE_ENTRIES);
        return;
    }

    char ip[32];
    Kelp__Fake__Sandbox sandbox = KELP__FAKE__SANDBOX__INIT;
    char *id = fake_id(fake);
    const Runtime__V1__LinuxPodSandboxConfig *config = request->config->linux_config;
    const bool host =
        config != NULL && config->security_context != NULL &&
        config->security_context->namespace_options != NULL &&
        config->security_context->namespace_options->network == RUNTIME__V1__NAMESPACE_MODE__NODE;
    snprintf(ip, sizeof ip, "10.254.%u.%u", (unsigned)(fake->ids >> 8 & 255),
             (unsigned)(fake->ids & 255));
    sandbox.id = id;
    sandbox.config = request->config;
    sandbox.ready = true;
    sandbox.created_at = fake_now_ns();
    sandbox.ip = host ? (char *)(uintptr_t) "" : ip;
    fake->sandboxes[fake->sandbox_count++] = fake_own(&sandbox);
    fake_save(fake);
    Runtime__V1__RunPodSandboxResponse message = RUNTIME__V1__RUN_POD_SANDBOX_RESPONSE__INIT;
    message.pod_sandbox_id = id;
    fake_reply(reply, &message);
    free(id);
}

static void fake_stop_sandbox(struct fake *fake, const void *from, struct grpc_reply *reply)
{
    const Runtime__V1__StopPodSandboxRequest *request = from;
    Kelp__Fake__Sandbox *sandbox = fake_sandbox_find(fake, request->pod_sandbox_id);
    if (sandbox == NULL) {
        fake_refuse(reply, GRPC_NOT_FOUND, "sandbox \"%s\" not found", request->pod_sandbox_id);
        return;
    }
    sandbox->ready = false;
    for (size_t i = 0; i < fake->container_count; i++) {
        if (strcmp(fake->containers[i]->sandbox_id, sandbox->id) == 0) {
            fake_container_age(fake->containers[i]);
            fake_container_end(fake->containers[i], 137);
        }
    }
    fake_save(fake);
    fake_reply(
        reply,
        &(const Runtime__V1__StopPodSandboxResponse)RUNTIME__V1__STOP_POD_SANDBOX_RESPONSE__INIT);
}

static void fake_remove_sandbox(struct fake *fake, const void *from, struct grpc_reply *reply)
{
    const Runtime__V1__RemovePodSandboxRequest *request = from;
    for (size_t i = fake->container_count; i > 0; i--) {
        if (strcmp(fake->containers[i - 1]->sandbox_id, request->pod_sandbox_id) == 0) {
            fake_container_drop(fake, i - 1);
        }
    }
    for (size_t i = 0; i < fake->sandbox_count; i++) {
        if (strcmp(fake->sandboxes[i]->id, request->pod_sandbox_id) == 0) {
            kelp__fake__sandbox__free_unpacked(fake->sandboxes[i], NULL);
            fake->sandboxes[i] = fake->sandboxes[--fake->sandbox_count];
            break;
        }
    }
    fake_save(fake);
    fake_reply(reply, &(const Runtime__V1__RemovePodSandboxResponse)
                          RUNTIME__V1__REMOVE_POD_SANDBOX_RESPONSE__INIT);
}

static void fake_list_sandboxes(struct fake *fake, const void *from, struct grpc_reply *reply)
{
    const Runtime__V1__ListPodSandboxRequest *request = from;
    const Runtime__V1__PodSandboxFilter *filter = request->filter;
    Runtime__V1__PodSandbox *items = calloc(fake->sandbox_count + 1, sizeof *items);
    Runtime__V1__PodSandbox **list = calloc(fake->sandbox_count + 1, sizeof *list);
    CHECK(items != NULL);
    CHECK(list != NULL);
    Runtime__V1__ListPodSandboxResponse message = RUNTIME__V1__LIST_POD_SANDBOX_RESPONSE__INIT;
    for (size_t i = 0; i < fake->sandbox_count; i++) {
        const Kelp__Fake__Sandbox *sandbox = fake->sandboxes[i];
        if (filter != NULL &&
            !fake_labels_match(filter->label_selector, filter->n_label_selector,
                               sandbox->config->labels, sandbox->config->n_labels)) {
            continue;
        }
        Runtime__V1__PodSandbox *item = &items[message.n_items];
        runtime__v1__pod_sandbox__init(item);
        item->id = sandbox->id;
        item->metadata = sandbox->config->metadata;
        item->state = sandbox->ready ? RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_READY
                                     : RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_NOTREADY;
        item->created_at = sandbox->created_at;
        item->n_labels = sandbox->config->n_labels;
        item->labels = sandbox->config->labels;
        list[message.n_items++] = item;
    }
    message.items = list;
    fake_reply(reply, &message);
    free(list);
    free(items);
}

static void fake_sandbox_status(struct fake *fake, const void *from, struct grpc_reply *reply)
{
    const Runtime__V1__PodSandboxStatusRequest *request = from;
    Kelp__Fake__Sandbox *sandbox = fake_sandbox_find(fake, request->pod_sandbox_id);
    if (sandbox == NULL) {
        fake_refuse(reply, GRPC_NOT_FOUND, "sandbox \"%s\" not found", request->pod_sandbox_id);
        return;
    }
    Runtime__V1__PodSandboxNetworkStatus network = RUNTIME__V1__POD_SANDBOX_NETWORK_STATUS__INIT;
    network.ip = sandbox->ip;
    Runtime__V1__PodSandboxStatus status = RUNTIME__V1__POD_SANDBOX_STATUS__INIT;
    status.id = sandbox->id;
    status.metadata = sandbox->config->metadata;
    status.state = sandbox->ready ? RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_READY
                                  : RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_NOTREADY;
    status.created_at = sandbox->created_at;
    status.network = &network;
    status.n_labels = sandbox->config->n_labels;
    status.labels = sandbox->config->labels;
    Runtime__V1__PodSandboxStatusResponse message = RUNTIME__V1__POD_SANDBOX_STATUS_RESPONSE__INIT;
    message.status = &status;
    fake_reply(reply, &message);
}

static bool fake_image_exists(const Runtime__V1__ImageSpec *image)
{
    static const char ours[] = "kelp.local/";
    return image != NULL && strncmp(image->image, ours, sizeof ours - 1) == 0;
}

static void fake_create(struct fake *fake, const void *from, struct grpc_reply *reply)
{
    const Runtime__V1__CreateContainerRequest *request = from;
    const Runtime__V1__ContainerConfig *config = request->config;
    const Kelp__Fake__Sandbox *sandbox = fake_sandbox_find(fake, request->pod_sandbox_id);
    if (sandbox == NULL || !sandbox->ready) {
        fake_refuse(reply, GRPC_NOT_FOUND, "sandbox \"%s\" not found", request->pod_sandbox_id);
        return;
    }
    if (config == NULL || config->metadata == NULL || !fake_image_exists(config->image)) {
        fake_refuse(reply, GRPC_NOT_FOUND, "the image is not found, or no metadata");
        return;
    }
    for (size_t i = 0; i < fake->container_count; i++) {
        const Kelp__Fake__Container *there = fake->containers[i];
        if (strcmp(there->sandbox_id, sandbox->id) == 0 &&
            strcmp(there->config->metadata->name, config->metadata->name) == 0 &&
            there->config->metadata->attempt == config->metadata->attempt) {
            fake_refuse(reply, GRPC_UNKNOWN, "name \"%s_%u\" is reserved", config->metadata->name,
                        config->metadata->attempt);
            return;
        }
    }
    if (fake->container_count == FAKE_ENTRIES) {
        fake_refuse(reply, GRPC_RESOURCE_EXHAUSTED, "%u containers are the most a fake takes",
                    FAKE_ENTRIES);
        return;
    }

    char *id = fake_id(fake);
    Kelp__Fake__Container container = KELP__FAKE__CONTAINER__INIT;
    container.id = id;
    container.sandbox_id = request->pod_sandbox_id;
    container.config = (Runtime__V1__ContainerConfig *)(uintptr_t)config;
    container.state = RUNTIME__V1__CONTAINER_STATE__CONTAINER_CREATED;
    container.created_at = fake_now_ns();
    fake->containers[fake->container_count++] = fake_own(&container);
    fake_save(fake);
    Runtime__V1__CreateContainerResponse message = RUNTIME__V1__CREATE_CONTAINER_RESPONSE__INIT;
    message.container_id = id;
    fake_reply(reply, &message);
    free(id);
}

/* The one line of a log that says what this is. */
static void fake_log(struct fake *fake, const Kelp__Fake__Container *container)
{
    const Kelp__Fake__Sandbox *sandbox = fake_sandbox_find(fake, container->sandbox_id);
    char path[4096];
    if (sandbox == NULL || sandbox->config->log_directory[0] == 0 ||
        container->config->log_path[0] == 0) {
        return;
    }
    snprintf(path, sizeof path, "%s/%s", sandbox->config->log_directory,
             container->config->log_path);
    FILE *file = fopen(path, "ae");
    if (file != NULL) {
        struct tm time;
        char stamp[32];
        const time_t seconds = (time_t)(container->started_at / 1000000000);
        strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", gmtime_r(&seconds, &time));
        fprintf(file, "%s.%09lldZ stdout F " FAKE_NAME ": no process runs here\n", stamp,
                (long long)(container->started_at % 1000000000));
        fclose(file);
    }
}

/* One line per start, for tests that count them: uid, container, attempt. */
static void fake_count_start(struct fake *fake, const Kelp__Fake__Container *container)
{
    const Kelp__Fake__Sandbox *sandbox = fake_sandbox_find(fake, container->sandbox_id);
    char path[4096];
    snprintf(path, sizeof path, "%s.starts", fake->state_path);
    FILE *file = sandbox == NULL ? NULL : fopen(path, "ae");
    if (file != NULL) {
        fprintf(file, "%s %s %u\n", sandbox->config->metadata->uid,
                container->config->metadata->name, container->config->metadata->attempt);
        fclose(file);
    }
}

static void fake_start(struct fake *fake, const void *from, struct grpc_reply *reply)
{
    const Runtime__V1__StartContainerRequest *request = from;
    Kelp__Fake__Container *container = fake_container_find(fake, request->container_id);
    if (container == NULL) {
        fake_refuse(reply, GRPC_NOT_FOUND, "container \"%s\" not found", request->container_id);
    } else if (container->state != RUNTIME__V1__CONTAINER_STATE__CONTAINER_CREATED) {
        fake_refuse(reply, GRPC_UNKNOWN, "the container is not in the created state");
    } else {
        container->state = RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING;
        container->started_at = fake_now_ns();
        fake_save(fake);
        fake_log(fake, container);
        fake_count_start(fake, container);
        fake_reply(reply, &(const Runtime__V1__StartContainerResponse)
                              RUNTIME__V1__START_CONTAINER_RESPONSE__INIT);
    }
}

static void fake_stop(struct fake *fake, const void *from, struct grpc_reply *reply)
{
    const Runtime__V1__StopContainerRequest *request = from;
    Kelp__Fake__Container *container = fake_container_find(fake, request->container_id);
    if (container == NULL) {
        fake_refuse(reply, GRPC_NOT_FOUND, "container \"%s\" not found", request->container_id);
        return;
    }
    fake_container_end(container, request->timeout == 0 ? 137 : 143);
    fake_save(fake);
    fake_reply(
        reply,
        &(const Runtime__V1__StopContainerResponse)RUNTIME__V1__STOP_CONTAINER_RESPONSE__INIT);
}

static void fake_remove(struct fake *fake, const void *from, struct grpc_reply *reply)
{
    const Runtime__V1__RemoveContainerRequest *request = from;
    for (size_t i = 0; i < fake->container_count; i++) {
        if (strcmp(fake->containers[i]->id, request->container_id) == 0) {
            fake_container_drop(fake, i);
            fake_save(fake);
            break;
        }
    }
    fake_reply(
        reply,
        &(const Runtime__V1__RemoveContainerResponse)RUNTIME__V1__REMOVE_CONTAINER_RESPONSE__INIT);
}

static void fake_list_containers(struct fake *fake, const void *from, struct grpc_reply *reply)
{
    const Runtime__V1__ListContainersRequest *request = from;
    const Runtime__V1__ContainerFilter *filter = request->filter;
    Runtime__V1__Container *items = calloc(fake->container_count + 1, sizeof *items);
    Runtime__V1__Container **list = calloc(fake->container_count + 1, sizeof *list);
    CHECK(items != NULL);
    CHECK(list != NULL);
    Runtime__V1__ListContainersResponse message = RUNTIME__V1__LIST_CONTAINERS_RESPONSE__INIT;
    for (size_t i = 0; i < fake->container_count; i++) {
        Kelp__Fake__Container *container = fake->containers[i];
        fake_container_age(container);
        if (filter != NULL &&
            !fake_labels_match(filter->label_selector, filter->n_label_selector,
                               container->config->labels, container->config->n_labels)) {
            continue;
        }
        Runtime__V1__Container *item = &items[message.n_containers];
        runtime__v1__container__init(item);
        item->id = container->id;
        item->pod_sandbox_id = container->sandbox_id;
        item->metadata = container->config->metadata;
        item->image = container->config->image;
        item->image_ref = container->config->image->image;
        item->state = container->state;
        item->created_at = container->created_at;
        item->n_labels = container->config->n_labels;
        item->labels = container->config->labels;
        list[message.n_containers++] = item;
    }
    message.containers = list;
    fake_reply(reply, &message);
    free(list);
    free(items);
}

static void fake_container_status(struct fake *fake, const void *from, struct grpc_reply *reply)
{
    const Runtime__V1__ContainerStatusRequest *request = from;
    const Kelp__Fake__Container *container = fake_container_find(fake, request->container_id);
    if (container == NULL) {
        fake_refuse(reply, GRPC_NOT_FOUND, "container \"%s\" not found", request->container_id);
        return;
    }
    Runtime__V1__ContainerStatus status = RUNTIME__V1__CONTAINER_STATUS__INIT;
    status.id = container->id;
    status.metadata = container->config->metadata;
    status.state = container->state;
    status.created_at = container->created_at;
    status.started_at = container->started_at;
    status.finished_at = container->finished_at;
    status.exit_code = container->exit_code;
    status.image = container->config->image;
    status.image_ref = container->config->image->image;
    status.reason = container->reason;
    status.n_labels = container->config->n_labels;
    status.labels = container->config->labels;
    status.log_path = container->config->log_path;
    Runtime__V1__ContainerStatusResponse message = RUNTIME__V1__CONTAINER_STATUS_RESPONSE__INIT;
    message.status = &status;
    fake_reply(reply, &message);
}

/* The file behind a path inside of the container, as its mounts say; the longest mount decides. */
static FILE *fake_file_open(const Kelp__Fake__Container *container, const char *path)
{
    const Runtime__V1__Mount *best = NULL;
    for (size_t i = 0; i < container->config->n_mounts; i++) {
        const Runtime__V1__Mount *mount = container->config->mounts[i];
        const size_t size = strlen(mount->container_path);
        if (strncmp(path, mount->container_path, size) == 0 &&
            (path[size] == '/' || path[size] == 0) &&
            (best == NULL || size > strlen(best->container_path))) {
            best = mount;
        }
    }
    char host[4096];
    if (best == NULL) {
        return NULL;
    }
    snprintf(host, sizeof host, "%s%s", best->host_path, path + strlen(best->container_path));
    return fopen(host, "re");
}

static void fake_exec(struct fake *fake, const void *from, struct grpc_reply *reply)
{
    const Runtime__V1__ExecSyncRequest *request = from;
    Kelp__Fake__Container *container = fake_container_find(fake, request->container_id);
    if (container == NULL || container->state != RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING) {
        fake_refuse(reply, container == NULL ? GRPC_NOT_FOUND : GRPC_UNKNOWN,
                    "container \"%s\" is not running", request->container_id);
        return;
    }
    Runtime__V1__ExecSyncResponse message = RUNTIME__V1__EXEC_SYNC_RESPONSE__INIT;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    CHECK(out != NULL);
    if (request->n_cmd == 2 && strcmp(request->cmd[0], "kelp-fake-exit") == 0) {
        fake_container_end(container, atoi(request->cmd[1]));
        fake_save(fake);
    } else if (request->n_cmd == 1 && strcmp(request->cmd[0], "env") == 0) {
        for (size_t i = 0; i < container->config->n_envs; i++) {
            fprintf(out, "%s=%s\n", container->config->envs[i]->key,
                    container->config->envs[i]->value);
        }
    } else if (request->n_cmd == 2 && strcmp(request->cmd[0], "cat") == 0) {
        FILE *file = fake_file_open(container, request->cmd[1]);
        message.exit_code = file == NULL ? 1 : 0;
        for (int c;
             file != NULL && (c = fgetc(file)) != EOF && ftell(out) < (long)FAKE_CAT_BYTES;) {
            fputc(c, out);
        }
        if (file != NULL) {
            fclose(file);
        }
    } else {
        message.exit_code = 127;
        fprintf(out, FAKE_NAME
                ": no process runs here; env, cat PATH and kelp-fake-exit CODE are answered\n");
    }
    fclose(out);
    message.out.data = (uint8_t *)text;
    message.out.len = size;
    fake_reply(reply, &message);
    free(text);
}

static void fake_image_status(struct fake *fake, const void *from, struct grpc_reply *reply)
{
    (void)fake;
    const Runtime__V1__ImageStatusRequest *request = from;
    Runtime__V1__ImageStatusResponse message = RUNTIME__V1__IMAGE_STATUS_RESPONSE__INIT;
    Runtime__V1__Image image = RUNTIME__V1__IMAGE__INIT;
    if (fake_image_exists(request->image)) {
        image.id = request->image->image;
        message.image = &image;
    }
    fake_reply(reply, &message);
}

static void fake_pull(struct fake *fake, const void *from, struct grpc_reply *reply)
{
    (void)fake;
    const Runtime__V1__PullImageRequest *request = from;
    if (!fake_image_exists(request->image)) {
        fake_refuse(reply, GRPC_UNKNOWN, FAKE_NAME " has only images called kelp.local/..., not %s",
                    request->image != NULL ? request->image->image : "");
        return;
    }
    Runtime__V1__PullImageResponse message = RUNTIME__V1__PULL_IMAGE_RESPONSE__INIT;
    message.image_ref = request->image->image;
    fake_reply(reply, &message);
}

/* -- the server -------------------------------------------------------------------------------- */

static const struct fake_method {
    const char *name;
    const ProtobufCMessageDescriptor *request;
    void (*serve)(struct fake *fake, const void *request, struct grpc_reply *reply);
} fake_methods[] = {
    {"Version", &runtime__v1__version_request__descriptor, fake_version},
    {"Status", &runtime__v1__status_request__descriptor, fake_status},
    {"RunPodSandbox", &runtime__v1__run_pod_sandbox_request__descriptor, fake_run_sandbox},
    {"StopPodSandbox", &runtime__v1__stop_pod_sandbox_request__descriptor, fake_stop_sandbox},
    {"RemovePodSandbox", &runtime__v1__remove_pod_sandbox_request__descriptor, fake_remove_sandbox},
    {"ListPodSandbox", &runtime__v1__list_pod_sandbox_request__descriptor, fake_list_sandboxes},
    {"PodSandboxStatus", &runtime__v1__pod_sandbox_status_request__descriptor, fake_sandbox_status},
    {"CreateContainer", &runtime__v1__create_container_request__descriptor, fake_create},
    {"StartContainer", &runtime__v1__start_container_request__descriptor, fake_start},
    {"StopContainer", &runtime__v1__stop_container_request__descriptor, fake_stop},
    {"RemoveContainer", &runtime__v1__remove_container_request__descriptor, fake_remove},
    {"ListContainers", &runtime__v1__list_containers_request__descriptor, fake_list_containers},
    {"ContainerStatus", &runtime__v1__container_status_request__descriptor, fake_container_status},
    {"ExecSync", &runtime__v1__exec_sync_request__descriptor, fake_exec},
    {"ImageStatus", &runtime__v1__image_status_request__descriptor, fake_image_status},
    {"PullImage", &runtime__v1__pull_image_request__descriptor, fake_pull},
};

static void fake_on_call(void *context, const char *name, struct bytes request,
                         struct grpc_reply *reply)
{
    struct fake *fake = context;
    for (size_t i = 0; i < fake->fault_count; i++) {
        struct fake_fault *fault = &fake->faults[i];
        if (strcmp(fault->method, name) == 0 && fault->count != 0) {
            fault->count -= fault->count > 0;
            reply->fault = fault->kind;
            reply->delay_ms = fault->delay_ms;
        }
    }
    for (size_t i = 0; i < sizeof fake_methods / sizeof *fake_methods; i++) {
        const struct fake_method *method = &fake_methods[i];
        if (strcmp(method->name, name) == 0) {
            ProtobufCMessage *message =
                protobuf_c_message_unpack(method->request, NULL, request.size, request.data);
            if (message == NULL) {
                fake_refuse(reply, GRPC_INVALID_ARGUMENT, "the request of %s cannot be read", name);
                return;
            }
            method->serve(fake, message, reply);
            protobuf_c_message_free_unpacked(message, NULL);
            return;
        }
    }
    fake_refuse(reply, GRPC_UNIMPLEMENTED, "unknown method %s", name);
}

static const struct {
    const char *name;
    enum grpc_fault kind;
} fake_fault_names[] = {
    {"delay", GRPC_FAULT_NONE},
    {"hang", GRPC_FAULT_HANG},
    {"rst", GRPC_FAULT_RST},
    {"refuse", GRPC_FAULT_REFUSE},
    {"goaway", GRPC_FAULT_GOAWAY},
    {"drop", GRPC_FAULT_DROP},
    {"trailers-only", GRPC_FAULT_TRAILERS},
    {"http-503", GRPC_FAULT_HTTP_503},
    {"no-status", GRPC_FAULT_NO_STATUS},
    {"oversized", GRPC_FAULT_OVERSIZED},
    {"compressed", GRPC_FAULT_COMPRESSED},
    {"garbage", GRPC_FAULT_GARBAGE},
};

/* METHOD=FAULT[:MS][xCOUNT], for example StopContainer=delay:500 or CreateContainer=dropx1. */
static bool fake_fault_parse(struct fake *fake, const char *text)
{
    char method[64], name[32];
    int used = 0;
    if (fake->fault_count == FAKE_FAULTS ||
        sscanf(text, "%63[^=]=%31[a-wyz0-9-]%n", method, name, &used) != 2) {
        return false;
    }
    struct fake_fault *fault = &fake->faults[fake->fault_count];
    *fault = (struct fake_fault){.count = -1};
    snprintf(fault->method, sizeof fault->method, "%s", method);
    char *rest = (char *)(uintptr_t)text + used;
    if (*rest == ':') {
        fault->delay_ms = strtoull(rest + 1, &rest, 10);
    }
    if (*rest == 'x') {
        fault->count = strtol(rest + 1, &rest, 10);
    }
    for (size_t i = 0; i < sizeof fake_fault_names / sizeof *fake_fault_names; i++) {
        if (strcmp(fake_fault_names[i].name, name) == 0 && *rest == 0) {
            fault->kind = fake_fault_names[i].kind;
            fake->fault_count++;
            return true;
        }
    }
    return false;
}

static void fake_on_signal(uv_signal_t *signal, int number)
{
    (void)number;
    uv_stop(signal->loop);
}

/* -- as a client of a running one -------------------------------------------------------------- */

struct fake_kill {
    struct grpc_client *client;
    int exit_code;
};

static void fake_kill_on_answer(void *context, const struct grpc_answer *answer)
{
    struct fake_kill *kill = context;
    kill->exit_code = answer->code == GRPC_OK ? 0 : 1;
    if (answer->code != GRPC_OK) {
        fprintf(stderr, "kelp-fake-cri: %s\n", answer->message);
    }
    grpc_close(kill->client, NULL, NULL);
}

/* End a container with 137, as the kernel does with kill -9. */
static int fake_kill_container(const char *socket, const char *id)
{
    uv_loop_t loop;
    struct fake_kill kill = {.exit_code = 1};
    uv_loop_init(&loop);
    kill.client = grpc_open(&loop, socket);
    if (kill.client == NULL) {
        fprintf(stderr, "kelp-fake-cri: %s is no path of a socket\n", socket);
        return 2;
    }
    char *command[] = {(char *)(uintptr_t) "kelp-fake-exit", (char *)(uintptr_t) "137"};
    Runtime__V1__ExecSyncRequest request = RUNTIME__V1__EXEC_SYNC_REQUEST__INIT;
    request.container_id = (char *)(uintptr_t)id;
    request.n_cmd = 2;
    request.cmd = command;
    uint8_t *body = malloc(runtime__v1__exec_sync_request__get_packed_size(&request));
    CHECK(body != NULL);
    const size_t size = runtime__v1__exec_sync_request__pack(&request, body);
    const int status = grpc_call(kill.client, "/runtime.v1.RuntimeService/ExecSync",
                                 bytes_of(body, size), 5000, NULL, fake_kill_on_answer, &kill);
    CHECK(status == 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    free(body);
    return kill.exit_code;
}

/* How often containers of a pod were started, from the file beside the state. */
static int fake_print_starts(const char *state_path, const char *uid)
{
    char path[4096], line[512];
    unsigned count = 0;
    snprintf(path, sizeof path, "%s.starts", state_path);
    FILE *file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        count += strncmp(line, uid, strlen(uid)) == 0 && line[strlen(uid)] == ' ';
    }
    if (file != NULL) {
        fclose(file);
    }
    printf("%u\n", count);
    return 0;
}

static const char fake_help[] =
    "kelp-fake-cri --socket PATH --state FILE [--fault METHOD=FAULT[:MS][xCOUNT]]...\n"
    "kelp-fake-cri --socket PATH --kill CONTAINER     end a container of a running one with 137\n"
    "kelp-fake-cri --state FILE --starts POD_UID      how often containers of a pod were started\n"
    "\n"
    "A container runtime that runs nothing, for trying Kelp without containerd and for tests.\n"
    "Pods look as if they ran; no process is started.\n"
    "\n"
    "  --socket PATH   unix socket to serve CRI (runtime.v1) on\n"
    "  --state FILE    where the entries are kept, so that they outlive this process\n"
    "  --fault ...     misbehave: delay:MS hang rst refuse goaway drop trailers-only http-503\n"
    "                  no-status oversized compressed garbage; xN for the first N calls only\n"
    "  --help, --version\n";

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"socket", required_argument, NULL, 's'}, {"state", required_argument, NULL, 'f'},
        {"fault", required_argument, NULL, 'x'},  {"help", no_argument, NULL, 'h'},
        {"kill", required_argument, NULL, 'k'},   {"starts", required_argument, NULL, 'c'},
        {"version", no_argument, NULL, 'v'},      {NULL, 0, NULL, 0},
    };
    static struct fake fake;
    const char *socket = NULL;
    const char *victim = NULL;
    const char *counted = NULL;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 'h') {
            fputs(fake_help, stdout);
            return 0;
        }
        if (option == 'v') {
            puts("kelp-fake-cri " KELP_VERSION);
            return 0;
        }
        if (option == 's') {
            socket = optarg;
        } else if (option == 'f') {
            fake.state_path = optarg;
        } else if (option == 'k') {
            victim = optarg;
        } else if (option == 'c') {
            counted = optarg;
        } else if (option != 'x' || !fake_fault_parse(&fake, optarg)) {
            fprintf(stderr, "kelp-fake-cri: %s\n",
                    option == 'x' ? "a fault is METHOD=FAULT[:MS][xCOUNT]" : "see --help");
            return 2;
        }
    }
    if (victim != NULL && socket != NULL) {
        return fake_kill_container(socket, victim);
    }
    if (counted != NULL && fake.state_path != NULL) {
        return fake_print_starts(fake.state_path, counted);
    }
    if (socket == NULL || fake.state_path == NULL || optind != argc) {
        fputs(fake_help, stderr);
        return 2;
    }

    signal(SIGPIPE, SIG_IGN);
    fake_load(&fake);
    uv_loop_init(&fake.loop);
    const int status = grpc_server_open(&fake.loop, socket, fake_on_call, &fake, &fake.server);
    if (status != 0) {
        fprintf(stderr, "kelp-fake-cri: cannot listen on %s: %s\n", socket, uv_strerror(status));
        return 1;
    }
    for (size_t i = 0; i < 2; i++) {
        uv_signal_init(&fake.loop, &fake.signals[i]);
        uv_signal_start(&fake.signals[i], fake_on_signal, i == 0 ? SIGTERM : SIGINT);
    }
    printf("kelp-fake-cri: serving %s; containers are entries, nothing runs\n", socket);
    fflush(stdout);
    uv_run(&fake.loop, UV_RUN_DEFAULT);
    grpc_server_close(fake.server);
    for (size_t i = 0; i < 2; i++) {
        uv_close((uv_handle_t *)&fake.signals[i], NULL);
    }
    uv_run(&fake.loop, UV_RUN_DEFAULT);
    uv_loop_close(&fake.loop);
    return 0;
}
