/* One call, the happy path:
 *
 *   1. cri_call packs the request from Kelp's words into protobuf, in an arena of the call;
 *   2. the gRPC client carries it;
 *   3. cri_on_answer unpacks the reply into a struct driver_answer and lends it to the owner.
 *
 * A listing is one call that fans out: two lists side by side, then a status call for each thing
 * whose details the listing before does not know for good. Any of them failing fails the listing:
 * half a truth would end containers. Something that vanished between list and status is left out.
 */
#include "nodes/edge/driver_cri.h"

#include "nodes/edge/arena.h"
#include "nodes/edge/cri.pb-c.h"
#include "nodes/edge/grpc_cri.h"
#include "schemas/check.h"
#include "schemas/limits.h"
#include "schemas/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CRI_RUNTIME(method) "/runtime.v1.RuntimeService/" method
#define CRI_IMAGE(method)   "/runtime.v1.ImageService/" method

typedef Runtime__V1__Pair cri_pair; /* the one foreign name that is written often */

struct cri_seen {
    struct arena arena;
    struct driver_sandbox_seen *sandboxes;
    size_t sandbox_count;
    struct driver_container_seen *containers;
    size_t container_count;
};

struct cri_call {
    struct driver_cri *cri;
    struct cri_call *next;
    uint64_t id;
    enum driver_verb verb;
    uint64_t deadline_ms;
    /* a listing only */
    struct cri_seen *seen;
    unsigned waiting;  /* replies still to come, plus one while requests are being sent */
    unsigned lists;    /* of the two, still to come */
    int status;        /* the first failure */
    char message[512];
};

struct driver_cri {
    struct driver door;
    struct grpc_client *grpc;
    char *node_name;
    struct cri_seen *seen; /* of the newest listing */
    unsigned calls;
    bool closing;
    void (*on_closed)(void *context);
    void *closed_context;
};

/* -- words into protobuf ------------------------------------------------------------------------ */

/* protobuf-c's structs have no const; nothing in packing writes through them. */
static char *cri_text(const char *text)
{
    return (char *)(uintptr_t)(text == NULL ? "" : text);
}

static char **cri_texts(const char *const *texts)
{
    return (char **)(uintptr_t)texts;
}

#define CRI_NEW(arena, type, init)                                                                 \
    ((type *)memcpy(arena_claim(arena, 1, sizeof(type)), &(const type)init, sizeof(type)))

static cri_pair *cri_pair_new(struct arena *arena, const char *key, const char *value)
{
    cri_pair *pair = CRI_NEW(arena, cri_pair, RUNTIME__V1__PAIR__INIT);
    pair->key = cri_text(key);
    pair->value = cri_text(value);
    return pair;
}

static cri_pair **cri_pairs(struct arena *arena, const struct driver_pair *pairs, size_t count)
{
    cri_pair **list = arena_claim(arena, count, sizeof *list);
    for (size_t i = 0; i < count; i++) {
        list[i] = cri_pair_new(arena, pairs[i].name, pairs[i].value);
    }
    return list;
}

static Runtime__V1__Int64Value *cri_number(struct arena *arena, struct driver_number number)
{
    if (!number.set) {
        return NULL;
    }
    Runtime__V1__Int64Value *value = CRI_NEW(arena, Runtime__V1__Int64Value, RUNTIME__V1__INT64_VALUE__INIT);
    value->value = number.value;
    return value;
}

static Runtime__V1__NamespaceOption *cri_namespaces(struct arena *arena, const struct driver_sandbox *sandbox)
{
    Runtime__V1__NamespaceOption *option =
        CRI_NEW(arena, Runtime__V1__NamespaceOption, RUNTIME__V1__NAMESPACE_OPTION__INIT);
    option->network = sandbox->host_network ? RUNTIME__V1__NAMESPACE_MODE__NODE : RUNTIME__V1__NAMESPACE_MODE__POD;
    option->ipc = sandbox->host_ipc ? RUNTIME__V1__NAMESPACE_MODE__NODE : RUNTIME__V1__NAMESPACE_MODE__POD;
    option->pid = sandbox->host_pid    ? RUNTIME__V1__NAMESPACE_MODE__NODE
                  : sandbox->share_pid ? RUNTIME__V1__NAMESPACE_MODE__POD
                                       : RUNTIME__V1__NAMESPACE_MODE__CONTAINER;
    return option;
}

static Runtime__V1__SecurityProfile *cri_seccomp(struct arena *arena, const struct driver_security *security)
{
    if (security->seccomp == 0) {
        return NULL;
    }
    Runtime__V1__SecurityProfile *profile =
        CRI_NEW(arena, Runtime__V1__SecurityProfile, RUNTIME__V1__SECURITY_PROFILE__INIT);
    profile->profile_type = security->seccomp == 'R'   ? RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__RuntimeDefault
                            : security->seccomp == 'L' ? RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__Localhost
                                                       : RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__Unconfined;
    profile->localhost_ref = cri_text(security->seccomp_path);
    return profile;
}

static Runtime__V1__DNSConfig *cri_dns(struct arena *arena, const struct driver_sandbox *sandbox)
{
    Runtime__V1__DNSConfig *dns = CRI_NEW(arena, Runtime__V1__DNSConfig, RUNTIME__V1__DNSCONFIG__INIT);
    dns->n_servers = sandbox->dns_server_count;
    dns->servers = cri_texts(sandbox->dns_servers);
    dns->n_searches = sandbox->dns_search_count;
    dns->searches = cri_texts(sandbox->dns_searches);
    dns->n_options = sandbox->dns_option_count;
    dns->options = cri_texts(sandbox->dns_options);
    return dns;
}

static Runtime__V1__LinuxPodSandboxConfig *cri_sandbox_linux(struct arena *arena,
                                                            const struct driver_sandbox *sandbox)
{
    Runtime__V1__LinuxPodSandboxConfig *config =
        CRI_NEW(arena, Runtime__V1__LinuxPodSandboxConfig, RUNTIME__V1__LINUX_POD_SANDBOX_CONFIG__INIT);
    Runtime__V1__LinuxSandboxSecurityContext *security = CRI_NEW(
        arena, Runtime__V1__LinuxSandboxSecurityContext, RUNTIME__V1__LINUX_SANDBOX_SECURITY_CONTEXT__INIT);
    security->namespace_options = cri_namespaces(arena, sandbox);
    security->run_as_user = cri_number(arena, sandbox->security.run_as_user);
    security->run_as_group = cri_number(arena, sandbox->security.run_as_group);
    security->privileged = sandbox->security.privileged;
    security->n_supplemental_groups = sandbox->security.group_count;
    security->supplemental_groups = (int64_t *)(uintptr_t)sandbox->security.groups;
    security->seccomp = cri_seccomp(arena, &sandbox->security);
    config->security_context = security;
    config->cgroup_parent = cri_text(sandbox->cgroup_parent);
    config->n_sysctls = sandbox->sysctl_count;
    config->sysctls = cri_pairs(arena, sandbox->sysctls, sandbox->sysctl_count);
    return config;
}

static Runtime__V1__PodSandboxConfig *cri_sandbox(struct driver_cri *cri, struct arena *arena,
                                                  const struct driver_sandbox *sandbox)
{
    Runtime__V1__PodSandboxMetadata *metadata =
        CRI_NEW(arena, Runtime__V1__PodSandboxMetadata, RUNTIME__V1__POD_SANDBOX_METADATA__INIT);
    metadata->name = cri_text(sandbox->pod_name);
    metadata->namespace_ = cri_text(sandbox->pod_namespace);
    metadata->uid = cri_text(sandbox->pod_uid);
    metadata->attempt = sandbox->attempt;

    const struct driver_pair labels[] = {
        {DRIVER_LABEL_POD_NAME, sandbox->pod_name},
        {DRIVER_LABEL_POD_NAMESPACE, sandbox->pod_namespace},
        {DRIVER_LABEL_POD_UID, sandbox->pod_uid},
        {DRIVER_LABEL_NODE, cri->node_name},
        {DRIVER_LABEL_ATTEMPT, arena_print(arena, "%u", sandbox->attempt)},
    };
    Runtime__V1__PortMapping **ports = arena_claim(arena, sandbox->port_count, sizeof *ports);
    for (size_t i = 0; i < sandbox->port_count; i++) {
        const struct driver_port *port = &sandbox->ports[i];
        ports[i] = CRI_NEW(arena, Runtime__V1__PortMapping, RUNTIME__V1__PORT_MAPPING__INIT);
        ports[i]->protocol = port->protocol == 'U'   ? RUNTIME__V1__PROTOCOL__UDP
                             : port->protocol == 'S' ? RUNTIME__V1__PROTOCOL__SCTP
                                                     : RUNTIME__V1__PROTOCOL__TCP;
        ports[i]->container_port = port->container_port;
        ports[i]->host_port = port->host_port;
        ports[i]->host_ip = cri_text(port->host_ip);
    }

    Runtime__V1__PodSandboxConfig *config =
        CRI_NEW(arena, Runtime__V1__PodSandboxConfig, RUNTIME__V1__POD_SANDBOX_CONFIG__INIT);
    config->metadata = metadata;
    config->hostname = cri_text(sandbox->hostname);
    config->log_directory = cri_text(sandbox->log_directory);
    config->dns_config = cri_dns(arena, sandbox);
    config->n_port_mappings = sandbox->port_count;
    config->port_mappings = ports;
    config->n_labels = sizeof labels / sizeof *labels;
    config->labels = cri_pairs(arena, labels, config->n_labels);
    config->linux_config = cri_sandbox_linux(arena, sandbox);
    return config;
}

/* What of /proc and /sys a container does not see or change, unless it is privileged: containerd
 * hides only what it is told to. source: Kubernetes pkg/securitycontext, default proc mount. */
static const char *const cri_masked[] = {
    "/proc/asound",     "/proc/acpi",        "/proc/kcore",       "/proc/keys", "/proc/latency_stats",
    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
};
static const char *const cri_read_only[] = {
    "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
};

static Runtime__V1__LinuxContainerConfig *cri_container_linux(struct arena *arena,
                                                              const struct driver_sandbox *sandbox,
                                                              const struct driver_container *container)
{
    const struct driver_security *from = &container->security;
    Runtime__V1__Capability *capabilities = CRI_NEW(arena, Runtime__V1__Capability, RUNTIME__V1__CAPABILITY__INIT);
    capabilities->n_add_capabilities = from->capability_add_count;
    capabilities->add_capabilities = cri_texts(from->capabilities_add);
    capabilities->n_drop_capabilities = from->capability_drop_count;
    capabilities->drop_capabilities = cri_texts(from->capabilities_drop);

    Runtime__V1__LinuxContainerSecurityContext *security =
        CRI_NEW(arena, Runtime__V1__LinuxContainerSecurityContext,
                RUNTIME__V1__LINUX_CONTAINER_SECURITY_CONTEXT__INIT);
    security->capabilities = capabilities;
    security->privileged = from->privileged;
    security->namespace_options = cri_namespaces(arena, sandbox); /* the container's own default is POD */
    security->run_as_user = cri_number(arena, from->run_as_user);
    security->run_as_group = cri_number(arena, from->run_as_group);
    security->readonly_rootfs = from->read_only_root;
    security->n_supplemental_groups = from->group_count;
    security->supplemental_groups = (int64_t *)(uintptr_t)from->groups;
    security->no_new_privs = from->no_new_privileges;
    security->seccomp = cri_seccomp(arena, from);
    if (!from->privileged) {
        security->n_masked_paths = sizeof cri_masked / sizeof *cri_masked;
        security->masked_paths = cri_texts(cri_masked);
        security->n_readonly_paths = sizeof cri_read_only / sizeof *cri_read_only;
        security->readonly_paths = cri_texts(cri_read_only);
    }

    Runtime__V1__LinuxContainerResources *resources = CRI_NEW(
        arena, Runtime__V1__LinuxContainerResources, RUNTIME__V1__LINUX_CONTAINER_RESOURCES__INIT);
    resources->cpu_shares = container->cpu_shares;
    resources->cpu_period = container->cpu_period_us;
    resources->cpu_quota = container->cpu_quota_us;
    resources->memory_limit_in_bytes = container->memory_limit_bytes;
    resources->oom_score_adj = container->oom_score_adj;

    Runtime__V1__LinuxContainerConfig *config =
        CRI_NEW(arena, Runtime__V1__LinuxContainerConfig, RUNTIME__V1__LINUX_CONTAINER_CONFIG__INIT);
    config->security_context = security;
    config->resources = resources;
    return config;
}

static Runtime__V1__Mount **cri_mounts(struct arena *arena, const struct driver_container *container)
{
    Runtime__V1__Mount **mounts = arena_claim(arena, container->mount_count, sizeof *mounts);
    for (size_t i = 0; i < container->mount_count; i++) {
        const struct driver_mount *from = &container->mounts[i];
        mounts[i] = CRI_NEW(arena, Runtime__V1__Mount, RUNTIME__V1__MOUNT__INIT);
        mounts[i]->container_path = cri_text(from->container_path);
        mounts[i]->host_path = cri_text(from->host_path);
        mounts[i]->readonly = from->read_only;
        mounts[i]->propagation =
            from->propagation == 'B'   ? RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_BIDIRECTIONAL
            : from->propagation == 'H' ? RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_HOST_TO_CONTAINER
                                       : RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_PRIVATE;
    }
    return mounts;
}

static Runtime__V1__ContainerConfig *cri_container(struct driver_cri *cri, struct arena *arena,
                                                   const struct driver_sandbox *sandbox,
                                                   const struct driver_container *container)
{
    const struct driver_pair labels[] = {
        {DRIVER_LABEL_POD_NAME, sandbox->pod_name},
        {DRIVER_LABEL_POD_NAMESPACE, sandbox->pod_namespace},
        {DRIVER_LABEL_POD_UID, sandbox->pod_uid},
        {DRIVER_LABEL_CONTAINER_NAME, container->name},
        {DRIVER_LABEL_NODE, cri->node_name},
        {DRIVER_LABEL_ATTEMPT, arena_print(arena, "%u", container->attempt)},
        {DRIVER_LABEL_HASH, container->hash},
    };
    Runtime__V1__ContainerConfig *config =
        CRI_NEW(arena, Runtime__V1__ContainerConfig, RUNTIME__V1__CONTAINER_CONFIG__INIT);
    config->metadata = CRI_NEW(arena, Runtime__V1__ContainerMetadata, RUNTIME__V1__CONTAINER_METADATA__INIT);
    config->metadata->name = cri_text(container->name);
    config->metadata->attempt = container->attempt;
    config->image = CRI_NEW(arena, Runtime__V1__ImageSpec, RUNTIME__V1__IMAGE_SPEC__INIT);
    config->image->image = cri_text(container->image);
    config->n_command = container->command_count;
    config->command = cri_texts(container->command);
    config->n_args = container->arg_count;
    config->args = cri_texts(container->args);
    config->working_dir = cri_text(container->working_dir);
    config->n_envs = container->env_count;
    config->envs = cri_pairs(arena, container->env, container->env_count);
    config->n_mounts = container->mount_count;
    config->mounts = cri_mounts(arena, container);
    config->n_labels = sizeof labels / sizeof *labels;
    config->labels = cri_pairs(arena, labels, config->n_labels);
    config->log_path = cri_text(container->log_path);
    config->stdin_open = container->stdin_open;
    config->stdin_once = container->stdin_once;
    config->tty = container->tty;
    config->linux_config = cri_container_linux(arena, sandbox, container);
    return config;
}

/* -- answers ------------------------------------------------------------------------------------ */

/* gRPC's code as one of driver.h's statuses. */
static int cri_status(const struct grpc_answer *answer, bool closing)
{
    if (answer->code == GRPC_OK) {
        return 0;
    }
    if (closing) {
        return STATUS_CLOSING;
    }
    if (answer->error != 0) {
        return answer->error;
    }
    switch (answer->code) {
    case GRPC_NOT_FOUND:
        return DRIVER_NOT_FOUND;
    case GRPC_DEADLINE_EXCEEDED:
        return STATUS_TIMEOUT;
    case GRPC_CANCELLED:
    case GRPC_UNAVAILABLE:
        return answer->sent ? STATUS_UNKNOWN : -ENOTCONN;
    case GRPC_RESOURCE_EXHAUSTED:
        return STATUS_TOO_LARGE;
    case GRPC_OK:
    case GRPC_UNKNOWN:
    case GRPC_INVALID_ARGUMENT:
    case GRPC_ALREADY_EXISTS:
    case GRPC_FAILED_PRECONDITION:
    case GRPC_UNIMPLEMENTED:
    case GRPC_INTERNAL:
        break;
    }
    return DRIVER_REFUSED;
}

static void cri_call_answer(struct cri_call *call, const struct driver_answer *answer)
{
    struct driver_cri *cri = call->cri;
    CHECK(cri->calls > 0);
    cri->calls--; /* the place is free before the owner hears of it */
    cri->door.on_answer(cri->door.owner, call->id, answer);
    free(call);
}

static bool cri_gone_is_a_yes(enum driver_verb verb)
{
    return verb == DRIVER_SANDBOX_STOP || verb == DRIVER_SANDBOX_REMOVE ||
           verb == DRIVER_CONTAINER_STOP || verb == DRIVER_CONTAINER_REMOVE;
}

static const ProtobufCMessageDescriptor *cri_reply_type(enum driver_verb verb)
{
    switch (verb) {
    case DRIVER_VERSION:
        return &runtime__v1__version_response__descriptor;
    case DRIVER_STATUS:
        return &runtime__v1__status_response__descriptor;
    case DRIVER_IMAGE_STATUS:
        return &runtime__v1__image_status_response__descriptor;
    case DRIVER_IMAGE_PULL:
        return &runtime__v1__pull_image_response__descriptor;
    case DRIVER_SANDBOX_RUN:
        return &runtime__v1__run_pod_sandbox_response__descriptor;
    case DRIVER_CONTAINER_CREATE:
        return &runtime__v1__create_container_response__descriptor;
    case DRIVER_EXEC:
        return &runtime__v1__exec_sync_response__descriptor;
    case DRIVER_LIST:
    case DRIVER_SANDBOX_STOP:
    case DRIVER_SANDBOX_REMOVE:
    case DRIVER_CONTAINER_START:
    case DRIVER_CONTAINER_STOP:
    case DRIVER_CONTAINER_REMOVE:
        break;
    }
    return NULL; /* nothing in the reply */
}

static void cri_runtime_fill(struct driver_answer *answer, const Runtime__V1__StatusResponse *reply)
{
    const Runtime__V1__RuntimeStatus *status = reply->status;
    answer->runtime.message = "";
    for (size_t i = 0; status != NULL && i < status->n_conditions; i++) {
        const Runtime__V1__RuntimeCondition *condition = status->conditions[i];
        if (strcmp(condition->type, "RuntimeReady") == 0) {
            answer->runtime.runtime_ready = condition->status;
        } else if (strcmp(condition->type, "NetworkReady") == 0) {
            answer->runtime.network_ready = condition->status;
        }
        if (!condition->status && answer->runtime.message[0] == 0) {
            answer->runtime.message = condition->message[0] != 0 ? condition->message : condition->reason;
        }
    }
}

/* Fill in what the reply of this verb says. */
static void cri_answer_fill(struct driver_answer *answer, const ProtobufCMessage *message)
{
    switch (answer->verb) {
    case DRIVER_VERSION: {
        const Runtime__V1__VersionResponse *reply = (const void *)message;
        answer->version = (struct driver_version){reply->runtime_name, reply->runtime_version};
        break;
    }
    case DRIVER_STATUS:
        cri_runtime_fill(answer, (const void *)message);
        break;
    case DRIVER_IMAGE_STATUS: {
        const Runtime__V1__ImageStatusResponse *reply = (const void *)message;
        if (reply->image == NULL || reply->image->id[0] == 0) {
            answer->status = DRIVER_NOT_FOUND; /* CRI says OK to an image it does not have */
            answer->message = "the image is not present";
        } else {
            answer->image_ref = reply->image->id;
        }
        break;
    }
    case DRIVER_IMAGE_PULL:
        answer->image_ref = ((const Runtime__V1__PullImageResponse *)(const void *)message)->image_ref;
        break;
    case DRIVER_SANDBOX_RUN:
        answer->id = ((const Runtime__V1__RunPodSandboxResponse *)(const void *)message)->pod_sandbox_id;
        break;
    case DRIVER_CONTAINER_CREATE:
        answer->id = ((const Runtime__V1__CreateContainerResponse *)(const void *)message)->container_id;
        break;
    case DRIVER_EXEC: {
        const Runtime__V1__ExecSyncResponse *reply = (const void *)message;
        answer->exec.exit_code = reply->exit_code;
        answer->exec.out = bytes_of(reply->out.data, reply->out.len);
        answer->exec.err = bytes_of(reply->err.data, reply->err.len);
        break;
    }
    case DRIVER_LIST:
    case DRIVER_SANDBOX_STOP:
    case DRIVER_SANDBOX_REMOVE:
    case DRIVER_CONTAINER_START:
    case DRIVER_CONTAINER_STOP:
    case DRIVER_CONTAINER_REMOVE:
        break;
    }
}

static void cri_on_answer(void *context, const struct grpc_answer *reply)
{
    struct cri_call *call = context;
    struct driver_answer answer = {
        .verb = call->verb,
        .status = cri_status(reply, call->cri->closing),
        .message = reply->message,
        .id = "",
        .image_ref = "",
    };
    if (answer.status == DRIVER_NOT_FOUND && cri_gone_is_a_yes(call->verb)) {
        answer.status = 0;
        answer.message = "";
    }
    ProtobufCMessage *message = NULL;
    const ProtobufCMessageDescriptor *type = cri_reply_type(call->verb);
    if (answer.status == 0 && type != NULL) {
        message = protobuf_c_message_unpack(type, NULL, reply->body.size, reply->body.data);
        if (message == NULL) {
            answer.status = STATUS_MALFORMED;
            answer.message = "the reply of the runtime cannot be read";
        } else {
            cri_answer_fill(&answer, message);
        }
    }
    cri_call_answer(call, &answer);
    if (message != NULL) {
        protobuf_c_message_free_unpacked(message, NULL);
    }
}

static int cri_send(struct driver_cri *cri, const char *method, const void *message, uint64_t deadline_ms,
                    void (*on_answer)(void *, const struct grpc_answer *), void *context)
{
    const ProtobufCMessage *request = message;
    const size_t size = protobuf_c_message_get_packed_size(request);
    uint8_t *buffer = malloc(size > 0 ? size : 1);
    CHECK(buffer != NULL);
    protobuf_c_message_pack(request, buffer);
    const int status = grpc_call(cri->grpc, method, bytes_of(buffer, size), deadline_ms, NULL, on_answer, context);
    free(buffer);
    return status;
}

/* -- the listing -------------------------------------------------------------------------------- */

static void cri_seen_free(struct cri_seen *seen)
{
    if (seen != NULL) {
        arena_deinit(&seen->arena);
        free(seen);
    }
}

static int cri_sandbox_order(const void *a, const void *b)
{
    return strcmp(((const struct driver_sandbox_seen *)a)->id, ((const struct driver_sandbox_seen *)b)->id);
}

static int cri_container_order(const void *a, const void *b)
{
    return strcmp(((const struct driver_container_seen *)a)->id, ((const struct driver_container_seen *)b)->id);
}

static const char *cri_label(cri_pair *const *labels, size_t count, const char *key)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(labels[i]->key, key) == 0) {
            return labels[i]->value;
        }
    }
    return "";
}

static int64_t cri_ms(int64_t nanoseconds)
{
    return nanoseconds > 0 ? nanoseconds / 1000000 : 0;
}

static void cri_listing_fail(struct cri_call *call, int status, const char *message)
{
    if (call->status == 0) {
        call->status = status;
        snprintf(call->message, sizeof call->message, "%s", message);
    }
}

/* One of the replies of a listing came. With the last one it is answered. */
static void cri_listing_done(struct cri_call *call)
{
    CHECK(call->waiting > 0);
    call->waiting--;
    if (call->waiting > 0) {
        return;
    }
    struct driver_cri *cri = call->cri;
    struct driver_answer answer = {
        .verb = DRIVER_LIST, .status = call->status, .message = call->message, .id = "", .image_ref = ""};
    if (call->status != 0) {
        cri_seen_free(call->seen);
        cri_call_answer(call, &answer);
        return;
    }
    struct cri_seen *seen = call->seen;
    size_t kept = 0;
    for (size_t i = 0; i < seen->container_count; i++) {
        if (seen->containers[i].id != NULL) { /* it vanished between the list and its status */
            seen->containers[kept++] = seen->containers[i];
        }
    }
    seen->container_count = kept;
    kept = 0;
    for (size_t i = 0; i < seen->sandbox_count; i++) {
        if (seen->sandboxes[i].id != NULL) {
            seen->sandboxes[kept++] = seen->sandboxes[i];
        }
    }
    seen->sandbox_count = kept;
    cri_seen_free(cri->seen);
    cri->seen = seen;
    answer.list = (struct driver_list){
        .sandboxes = seen->sandboxes,
        .sandbox_count = seen->sandbox_count,
        .containers = seen->containers,
        .container_count = seen->container_count,
    };
    cri_call_answer(call, &answer);
}

struct cri_detail {
    struct cri_call *call;
    size_t index;
};

static struct cri_detail *cri_detail_new(struct cri_call *call, size_t index)
{
    struct cri_detail *detail = arena_claim(&call->seen->arena, 1, sizeof *detail);
    detail->call = call;
    detail->index = index;
    return detail;
}

static void cri_on_container_status(void *context, const struct grpc_answer *reply)
{
    const struct cri_detail *detail = context;
    struct cri_call *call = detail->call;
    struct driver_container_seen *container = &call->seen->containers[detail->index];
    struct arena *arena = &call->seen->arena;
    const int status = cri_status(reply, call->cri->closing);
    Runtime__V1__ContainerStatusResponse *message = NULL;
    if (status == DRIVER_NOT_FOUND) {
        container->id = NULL;
    } else if (status != 0) {
        cri_listing_fail(call, status, reply->message);
    } else if ((message = runtime__v1__container_status_response__unpack(
                    NULL, reply->body.size, reply->body.data)) == NULL ||
               message->status == NULL) {
        cri_listing_fail(call, STATUS_MALFORMED, "the status of a container cannot be read");
    } else {
        const Runtime__V1__ContainerStatus *from = message->status;
        container->state = (enum driver_container_state)from->state; /* may be newer than the list */
        container->started_ms = cri_ms(from->started_at);
        container->finished_ms = cri_ms(from->finished_at);
        container->exit_code = from->exit_code;
        container->reason = arena_text(arena, from->reason);
        container->message = arena_text(arena, from->message);
        if (from->image_ref[0] != 0) {
            container->image_ref = arena_text(arena, from->image_ref);
        }
        if (from->state != RUNTIME__V1__CONTAINER_STATE__CONTAINER_CREATED &&
            from->state != RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING &&
            from->state != RUNTIME__V1__CONTAINER_STATE__CONTAINER_EXITED) {
            container->state = DRIVER_CONTAINER_UNKNOWN;
        }
    }
    if (message != NULL) {
        runtime__v1__container_status_response__free_unpacked(message, NULL);
    }
    cri_listing_done(call);
}

static void cri_on_sandbox_status(void *context, const struct grpc_answer *reply)
{
    const struct cri_detail *detail = context;
    struct cri_call *call = detail->call;
    struct driver_sandbox_seen *sandbox = &call->seen->sandboxes[detail->index];
    const int status = cri_status(reply, call->cri->closing);
    Runtime__V1__PodSandboxStatusResponse *message = NULL;
    if (status == DRIVER_NOT_FOUND) {
        sandbox->id = NULL;
    } else if (status != 0) {
        cri_listing_fail(call, status, reply->message);
    } else if ((message = runtime__v1__pod_sandbox_status_response__unpack(
                    NULL, reply->body.size, reply->body.data)) == NULL ||
               message->status == NULL) {
        cri_listing_fail(call, STATUS_MALFORMED, "the status of a sandbox cannot be read");
    } else {
        sandbox->ready = message->status->state == RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_READY;
        if (message->status->network != NULL) {
            sandbox->ip = arena_text(&call->seen->arena, message->status->network->ip);
        }
    }
    if (message != NULL) {
        runtime__v1__pod_sandbox_status_response__free_unpacked(message, NULL);
    }
    cri_listing_done(call);
}

/* Take the details of a container from the listing before, if they cannot have changed since. */
static bool cri_container_known(struct cri_call *call, struct driver_container_seen *container)
{
    const struct cri_seen *before = call->cri->seen;
    if (container->state == DRIVER_CONTAINER_CREATED) {
        return true; /* there are none yet */
    }
    if (before == NULL || before->container_count == 0) {
        return false;
    }
    const struct driver_container_seen *known = bsearch(container, before->containers, before->container_count,
                                                        sizeof *container, cri_container_order);
    if (known == NULL || known->state != container->state || container->state == DRIVER_CONTAINER_UNKNOWN) {
        return false;
    }
    struct arena *arena = &call->seen->arena;
    container->started_ms = known->started_ms;
    container->finished_ms = known->finished_ms;
    container->exit_code = known->exit_code;
    container->reason = arena_text(arena, known->reason);
    container->message = arena_text(arena, known->message);
    container->image_ref = arena_text(arena, known->image_ref);
    return true;
}

static bool cri_sandbox_known(struct cri_call *call, struct driver_sandbox_seen *sandbox)
{
    const struct cri_seen *before = call->cri->seen;
    if (!sandbox->ready) {
        return true; /* a dead sandbox has no address */
    }
    if (before == NULL || before->sandbox_count == 0) {
        return false;
    }
    const struct driver_sandbox_seen *known =
        bsearch(sandbox, before->sandboxes, before->sandbox_count, sizeof *sandbox, cri_sandbox_order);
    if (known == NULL || !known->ready) {
        return false;
    }
    sandbox->ip = arena_text(&call->seen->arena, known->ip);
    return true;
}

/* Both lists are there: ask for what is not known. */
static void cri_listing_ask(struct cri_call *call)
{
    struct cri_seen *seen = call->seen;
    if (seen->container_count > 0) {
        qsort(seen->containers, seen->container_count, sizeof *seen->containers, cri_container_order);
    }
    if (seen->sandbox_count > 0) {
        qsort(seen->sandboxes, seen->sandbox_count, sizeof *seen->sandboxes, cri_sandbox_order);
    }
    call->waiting++; /* not before all are asked for */
    for (size_t i = 0; i < seen->container_count && call->status == 0; i++) {
        if (!cri_container_known(call, &seen->containers[i])) {
            Runtime__V1__ContainerStatusRequest request = RUNTIME__V1__CONTAINER_STATUS_REQUEST__INIT;
            request.container_id = cri_text(seen->containers[i].id);
            const int status = cri_send(call->cri, CRI_RUNTIME("ContainerStatus"), &request, call->deadline_ms,
                                        cri_on_container_status, cri_detail_new(call, i));
            call->waiting += status == 0;
            if (status != 0) {
                cri_listing_fail(call, status, "too many calls are under way");
            }
        }
    }
    for (size_t i = 0; i < seen->sandbox_count && call->status == 0; i++) {
        if (!cri_sandbox_known(call, &seen->sandboxes[i])) {
            Runtime__V1__PodSandboxStatusRequest request = RUNTIME__V1__POD_SANDBOX_STATUS_REQUEST__INIT;
            request.pod_sandbox_id = cri_text(seen->sandboxes[i].id);
            const int status = cri_send(call->cri, CRI_RUNTIME("PodSandboxStatus"), &request, call->deadline_ms,
                                        cri_on_sandbox_status, cri_detail_new(call, i));
            call->waiting += status == 0;
            if (status != 0) {
                cri_listing_fail(call, status, "too many calls are under way");
            }
        }
    }
    cri_listing_done(call);
}

static uint32_t cri_attempt(const char *label, uint32_t otherwise)
{
    char *end;
    const unsigned long value = strtoul(label, &end, 10);
    return label[0] == 0 || *end != 0 || value > UINT32_MAX ? otherwise : (uint32_t)value;
}

static void cri_listing_take_containers(struct cri_call *call, Runtime__V1__ListContainersResponse *message)
{
    struct cri_seen *seen = call->seen;
    struct arena *arena = &seen->arena;
    seen->containers = arena_claim(arena, message->n_containers, sizeof *seen->containers);
    seen->container_count = message->n_containers;
    for (size_t i = 0; i < message->n_containers; i++) {
        const Runtime__V1__Container *from = message->containers[i];
#define CRI_LABEL(key) arena_text(arena, cri_label(from->labels, from->n_labels, key))
        seen->containers[i] = (struct driver_container_seen){
            .id = arena_text(arena, from->id),
            .sandbox_id = arena_text(arena, from->pod_sandbox_id),
            .pod_name = CRI_LABEL(DRIVER_LABEL_POD_NAME),
            .pod_namespace = CRI_LABEL(DRIVER_LABEL_POD_NAMESPACE),
            .pod_uid = CRI_LABEL(DRIVER_LABEL_POD_UID),
            .name = CRI_LABEL(DRIVER_LABEL_CONTAINER_NAME),
            .attempt = cri_attempt(CRI_LABEL(DRIVER_LABEL_ATTEMPT), from->metadata != NULL ? from->metadata->attempt : 0),
            .hash = CRI_LABEL(DRIVER_LABEL_HASH),
            .image = arena_text(arena, from->image != NULL ? from->image->image : ""),
            .image_ref = arena_text(arena, from->image_ref),
            .state = from->state == RUNTIME__V1__CONTAINER_STATE__CONTAINER_CREATED   ? DRIVER_CONTAINER_CREATED
                     : from->state == RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING ? DRIVER_CONTAINER_RUNNING
                     : from->state == RUNTIME__V1__CONTAINER_STATE__CONTAINER_EXITED  ? DRIVER_CONTAINER_EXITED
                                                                                      : DRIVER_CONTAINER_UNKNOWN,
            .created_ms = cri_ms(from->created_at),
            .reason = "",
            .message = "",
        };
    }
}

static void cri_listing_take_sandboxes(struct cri_call *call, Runtime__V1__ListPodSandboxResponse *message)
{
    struct cri_seen *seen = call->seen;
    struct arena *arena = &seen->arena;
    seen->sandboxes = arena_claim(arena, message->n_items, sizeof *seen->sandboxes);
    seen->sandbox_count = message->n_items;
    for (size_t i = 0; i < message->n_items; i++) {
        const Runtime__V1__PodSandbox *from = message->items[i];
        seen->sandboxes[i] = (struct driver_sandbox_seen){
            .id = arena_text(arena, from->id),
            .pod_name = CRI_LABEL(DRIVER_LABEL_POD_NAME),
            .pod_namespace = CRI_LABEL(DRIVER_LABEL_POD_NAMESPACE),
            .pod_uid = CRI_LABEL(DRIVER_LABEL_POD_UID),
            .attempt = cri_attempt(CRI_LABEL(DRIVER_LABEL_ATTEMPT), from->metadata != NULL ? from->metadata->attempt : 0),
            .ready = from->state == RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_READY,
            .created_ms = cri_ms(from->created_at),
            .ip = "",
        };
    }
}

static void cri_listing_have(struct cri_call *call)
{
    call->lists--;
    if (call->lists == 0 && call->status == 0) {
        cri_listing_ask(call);
    }
    cri_listing_done(call);
}

static void cri_on_containers(void *context, const struct grpc_answer *reply)
{
    struct cri_call *call = context;
    const int status = cri_status(reply, call->cri->closing);
    Runtime__V1__ListContainersResponse *message = NULL;
    if (status != 0) {
        cri_listing_fail(call, status, reply->message);
    } else if ((message = runtime__v1__list_containers_response__unpack(NULL, reply->body.size,
                                                                        reply->body.data)) == NULL) {
        cri_listing_fail(call, STATUS_MALFORMED, "the list of containers cannot be read");
    } else {
        cri_listing_take_containers(call, message);
        runtime__v1__list_containers_response__free_unpacked(message, NULL);
    }
    cri_listing_have(call);
}

static void cri_on_sandboxes(void *context, const struct grpc_answer *reply)
{
    struct cri_call *call = context;
    const int status = cri_status(reply, call->cri->closing);
    Runtime__V1__ListPodSandboxResponse *message = NULL;
    if (status != 0) {
        cri_listing_fail(call, status, reply->message);
    } else if ((message = runtime__v1__list_pod_sandbox_response__unpack(NULL, reply->body.size,
                                                                         reply->body.data)) == NULL) {
        cri_listing_fail(call, STATUS_MALFORMED, "the list of sandboxes cannot be read");
    } else {
        cri_listing_take_sandboxes(call, message);
        runtime__v1__list_pod_sandbox_response__free_unpacked(message, NULL);
    }
    cri_listing_have(call);
}

static int cri_listing_begin(struct cri_call *call)
{
    struct driver_cri *cri = call->cri;
    cri_pair node = RUNTIME__V1__PAIR__INIT;
    node.key = cri_text(DRIVER_LABEL_NODE);
    node.value = cri->node_name;
    cri_pair *selector[] = {&node};
    Runtime__V1__PodSandboxFilter sandbox_filter = RUNTIME__V1__POD_SANDBOX_FILTER__INIT;
    sandbox_filter.n_label_selector = 1;
    sandbox_filter.label_selector = selector;
    Runtime__V1__ListPodSandboxRequest sandboxes = RUNTIME__V1__LIST_POD_SANDBOX_REQUEST__INIT;
    sandboxes.filter = &sandbox_filter;
    Runtime__V1__ContainerFilter container_filter = RUNTIME__V1__CONTAINER_FILTER__INIT;
    container_filter.n_label_selector = 1;
    container_filter.label_selector = selector;
    Runtime__V1__ListContainersRequest containers = RUNTIME__V1__LIST_CONTAINERS_REQUEST__INIT;
    containers.filter = &container_filter;

    call->seen = calloc(1, sizeof *call->seen);
    CHECK(call->seen != NULL);
    arena_init(&call->seen->arena);
    int status = cri_send(cri, CRI_RUNTIME("ListPodSandbox"), &sandboxes, call->deadline_ms, cri_on_sandboxes, call);
    if (status != 0) {
        cri_seen_free(call->seen);
        return status;
    }
    call->waiting = 1;
    call->lists = 2;
    status = cri_send(cri, CRI_RUNTIME("ListContainers"), &containers, call->deadline_ms, cri_on_containers, call);
    if (status != 0) { /* the first one is on its way and will carry the answer */
        cri_listing_fail(call, status, "too many calls are under way");
        call->lists = 1;
    } else {
        call->waiting = 2;
    }
    return 0;
}

/* -- the door ----------------------------------------------------------------------------------- */

/* Send what one verb says; the request lives in `arena` until this returns. */
static int cri_begin(struct cri_call *call, const struct driver_call *from, struct arena *arena)
{
    struct driver_cri *cri = call->cri;
    const char *method = NULL;
    void *message = NULL;
    switch (from->verb) {
    case DRIVER_LIST:
        return cri_listing_begin(call);
    case DRIVER_VERSION: {
        Runtime__V1__VersionRequest *request =
            CRI_NEW(arena, Runtime__V1__VersionRequest, RUNTIME__V1__VERSION_REQUEST__INIT);
        request->version = cri_text("v1");
        method = CRI_RUNTIME("Version");
        message = request;
        break;
    }
    case DRIVER_STATUS:
        method = CRI_RUNTIME("Status");
        message = CRI_NEW(arena, Runtime__V1__StatusRequest, RUNTIME__V1__STATUS_REQUEST__INIT);
        break;
    case DRIVER_IMAGE_STATUS: {
        Runtime__V1__ImageStatusRequest *request =
            CRI_NEW(arena, Runtime__V1__ImageStatusRequest, RUNTIME__V1__IMAGE_STATUS_REQUEST__INIT);
        request->image = CRI_NEW(arena, Runtime__V1__ImageSpec, RUNTIME__V1__IMAGE_SPEC__INIT);
        request->image->image = cri_text(from->image);
        method = CRI_IMAGE("ImageStatus");
        message = request;
        break;
    }
    case DRIVER_IMAGE_PULL: {
        Runtime__V1__PullImageRequest *request =
            CRI_NEW(arena, Runtime__V1__PullImageRequest, RUNTIME__V1__PULL_IMAGE_REQUEST__INIT);
        request->image = CRI_NEW(arena, Runtime__V1__ImageSpec, RUNTIME__V1__IMAGE_SPEC__INIT);
        request->image->image = cri_text(from->image);
        method = CRI_IMAGE("PullImage");
        message = request;
        break;
    }
    case DRIVER_SANDBOX_RUN: {
        Runtime__V1__RunPodSandboxRequest *request =
            CRI_NEW(arena, Runtime__V1__RunPodSandboxRequest, RUNTIME__V1__RUN_POD_SANDBOX_REQUEST__INIT);
        request->config = cri_sandbox(cri, arena, from->sandbox);
        method = CRI_RUNTIME("RunPodSandbox");
        message = request;
        break;
    }
    case DRIVER_SANDBOX_STOP: {
        Runtime__V1__StopPodSandboxRequest *request =
            CRI_NEW(arena, Runtime__V1__StopPodSandboxRequest, RUNTIME__V1__STOP_POD_SANDBOX_REQUEST__INIT);
        request->pod_sandbox_id = cri_text(from->id);
        method = CRI_RUNTIME("StopPodSandbox");
        message = request;
        break;
    }
    case DRIVER_SANDBOX_REMOVE: {
        Runtime__V1__RemovePodSandboxRequest *request =
            CRI_NEW(arena, Runtime__V1__RemovePodSandboxRequest, RUNTIME__V1__REMOVE_POD_SANDBOX_REQUEST__INIT);
        request->pod_sandbox_id = cri_text(from->id);
        method = CRI_RUNTIME("RemovePodSandbox");
        message = request;
        break;
    }
    case DRIVER_CONTAINER_CREATE: {
        Runtime__V1__CreateContainerRequest *request =
            CRI_NEW(arena, Runtime__V1__CreateContainerRequest, RUNTIME__V1__CREATE_CONTAINER_REQUEST__INIT);
        request->pod_sandbox_id = cri_text(from->id);
        request->config = cri_container(cri, arena, from->sandbox, from->container);
        request->sandbox_config = cri_sandbox(cri, arena, from->sandbox);
        method = CRI_RUNTIME("CreateContainer");
        message = request;
        break;
    }
    case DRIVER_CONTAINER_START: {
        Runtime__V1__StartContainerRequest *request =
            CRI_NEW(arena, Runtime__V1__StartContainerRequest, RUNTIME__V1__START_CONTAINER_REQUEST__INIT);
        request->container_id = cri_text(from->id);
        method = CRI_RUNTIME("StartContainer");
        message = request;
        break;
    }
    case DRIVER_CONTAINER_STOP: {
        Runtime__V1__StopContainerRequest *request =
            CRI_NEW(arena, Runtime__V1__StopContainerRequest, RUNTIME__V1__STOP_CONTAINER_REQUEST__INIT);
        request->container_id = cri_text(from->id);
        request->timeout = from->grace_seconds;
        method = CRI_RUNTIME("StopContainer");
        message = request;
        break;
    }
    case DRIVER_CONTAINER_REMOVE: {
        Runtime__V1__RemoveContainerRequest *request =
            CRI_NEW(arena, Runtime__V1__RemoveContainerRequest, RUNTIME__V1__REMOVE_CONTAINER_REQUEST__INIT);
        request->container_id = cri_text(from->id);
        method = CRI_RUNTIME("RemoveContainer");
        message = request;
        break;
    }
    case DRIVER_EXEC: {
        Runtime__V1__ExecSyncRequest *request =
            CRI_NEW(arena, Runtime__V1__ExecSyncRequest, RUNTIME__V1__EXEC_SYNC_REQUEST__INIT);
        request->container_id = cri_text(from->id);
        request->n_cmd = from->command_count;
        request->cmd = cri_texts(from->command);
        request->timeout = from->timeout_seconds;
        method = CRI_RUNTIME("ExecSync");
        message = request;
        break;
    }
    }
    CHECK(method != NULL);
    return cri_send(cri, method, message, call->deadline_ms, cri_on_answer, call);
}

static int cri_call(struct driver *door, uint64_t id, const struct driver_call *from)
{
    struct driver_cri *cri = CONTAINER_OF(door, struct driver_cri, door);
    if (cri->closing) {
        return STATUS_CLOSING;
    }
    if (cri->calls >= LIMIT_DRIVER_CALLS) {
        return STATUS_FULL;
    }
    struct cri_call *call = calloc(1, sizeof *call);
    CHECK(call != NULL);
    call->cri = cri;
    call->id = id;
    call->verb = from->verb;
    call->deadline_ms = driver_deadline_ms(from);
    struct arena arena;
    arena_init(&arena);
    const int status = cri_begin(call, from, &arena);
    arena_deinit(&arena);
    if (status != 0) {
        free(call);
        return status;
    }
    cri->calls++;
    return 0;
}

struct driver_cri *driver_cri_open(uv_loop_t *loop, const char *socket, const char *node_name)
{
    static const char scheme[] = "unix://";
    const char *path = strncmp(socket, scheme, sizeof scheme - 1) == 0 ? socket + sizeof scheme - 1 : socket;
    struct grpc_client *grpc = path[0] == '/' ? grpc_open(loop, path) : NULL;
    if (grpc == NULL) {
        return NULL;
    }
    struct driver_cri *cri = calloc(1, sizeof *cri);
    CHECK(cri != NULL);
    cri->grpc = grpc;
    cri->node_name = strdup(node_name);
    CHECK(cri->node_name != NULL);
    cri->door.call = cri_call;
    return cri;
}

struct driver *driver_cri_door(struct driver_cri *cri)
{
    return &cri->door;
}

static void cri_on_closed(void *context)
{
    struct driver_cri *cri = context;
    CHECK(cri->calls == 0);
    void (*on_closed)(void *) = cri->on_closed;
    void *closed_context = cri->closed_context;
    cri_seen_free(cri->seen);
    free(cri->node_name);
    free(cri);
    if (on_closed != NULL) {
        on_closed(closed_context);
    }
}

void driver_cri_close(struct driver_cri *cri, void (*on_closed)(void *context), void *context)
{
    CHECK(!cri->closing);
    cri->closing = true;
    cri->on_closed = on_closed;
    cri->closed_context = context;
    grpc_close(cri->grpc, cri_on_closed, cri);
}
