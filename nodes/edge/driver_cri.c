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

#include "nodes/edge/driver_words_cri.h"
#include "nodes/edge/grpc_cri.h"
#include "schemas/check.h"
#include "schemas/limits.h"
#include "schemas/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CRI_RUNTIME(method) "/runtime.v1.RuntimeService/" method
#define CRI_IMAGE(method)   "/runtime.v1.ImageService/" method

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
    unsigned waiting; /* replies still to come, plus one while requests are being sent */
    unsigned lists;   /* of the two, still to come */
    int status;       /* the first failure */
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

/* -- answers ----------------------------------------------------------------------------------- */

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
            answer->runtime.message =
                condition->message[0] != 0 ? condition->message : condition->reason;
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
        answer->image_ref =
            ((const Runtime__V1__PullImageResponse *)(const void *)message)->image_ref;
        break;
    case DRIVER_SANDBOX_RUN:
        answer->id =
            ((const Runtime__V1__RunPodSandboxResponse *)(const void *)message)->pod_sandbox_id;
        break;
    case DRIVER_CONTAINER_CREATE:
        answer->id =
            ((const Runtime__V1__CreateContainerResponse *)(const void *)message)->container_id;
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

static int cri_send(struct driver_cri *cri, const char *method, const void *message,
                    uint64_t deadline_ms, void (*on_answer)(void *, const struct grpc_answer *),
                    void *context)
{
    const ProtobufCMessage *request = message;
    const size_t size = protobuf_c_message_get_packed_size(request);
    uint8_t *buffer = malloc(size > 0 ? size : 1);
    CHECK(buffer != NULL);
    protobuf_c_message_pack(request, buffer);
    const int status =
        grpc_call(cri->grpc, method, bytes_of(buffer, size), deadline_ms, NULL, on_answer, context);
    free(buffer);
    return status;
}

/* -- the listing ------------------------------------------------------------------------------- */

static void cri_seen_free(struct cri_seen *seen)
{
    if (seen != NULL) {
        arena_deinit(&seen->arena);
        free(seen);
    }
}

static int cri_sandbox_order(const void *a, const void *b)
{
    return strcmp(((const struct driver_sandbox_seen *)a)->id,
                  ((const struct driver_sandbox_seen *)b)->id);
}

static int cri_container_order(const void *a, const void *b)
{
    return strcmp(((const struct driver_container_seen *)a)->id,
                  ((const struct driver_container_seen *)b)->id);
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
    struct driver_answer answer = {.verb = DRIVER_LIST,
                                   .status = call->status,
                                   .message = call->message,
                                   .id = "",
                                   .image_ref = ""};
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
        container->state =
            (enum driver_container_state)from->state; /* may be newer than the list */
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
    const struct driver_container_seen *known =
        bsearch(container, before->containers, before->container_count, sizeof *container,
                cri_container_order);
    if (known == NULL || known->state != container->state ||
        container->state == DRIVER_CONTAINER_UNKNOWN) {
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
    const struct driver_sandbox_seen *known = bsearch(
        sandbox, before->sandboxes, before->sandbox_count, sizeof *sandbox, cri_sandbox_order);
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
        qsort(seen->containers, seen->container_count, sizeof *seen->containers,
              cri_container_order);
    }
    if (seen->sandbox_count > 0) {
        qsort(seen->sandboxes, seen->sandbox_count, sizeof *seen->sandboxes, cri_sandbox_order);
    }
    call->waiting++; /* not before all are asked for */
    for (size_t i = 0; i < seen->container_count && call->status == 0; i++) {
        if (!cri_container_known(call, &seen->containers[i])) {
            Runtime__V1__ContainerStatusRequest request =
                RUNTIME__V1__CONTAINER_STATUS_REQUEST__INIT;
            request.container_id = cri_text(seen->containers[i].id);
            const int status =
                cri_send(call->cri, CRI_RUNTIME("ContainerStatus"), &request, call->deadline_ms,
                         cri_on_container_status, cri_detail_new(call, i));
            call->waiting += status == 0;
            if (status != 0) {
                cri_listing_fail(call, status, "too many calls are under way");
            }
        }
    }
    for (size_t i = 0; i < seen->sandbox_count && call->status == 0; i++) {
        if (!cri_sandbox_known(call, &seen->sandboxes[i])) {
            Runtime__V1__PodSandboxStatusRequest request =
                RUNTIME__V1__POD_SANDBOX_STATUS_REQUEST__INIT;
            request.pod_sandbox_id = cri_text(seen->sandboxes[i].id);
            const int status =
                cri_send(call->cri, CRI_RUNTIME("PodSandboxStatus"), &request, call->deadline_ms,
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

static void cri_listing_take_containers(struct cri_call *call,
                                        Runtime__V1__ListContainersResponse *message)
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
            .attempt = cri_attempt(CRI_LABEL(DRIVER_LABEL_ATTEMPT),
                                   from->metadata != NULL ? from->metadata->attempt : 0),
            .hash = CRI_LABEL(DRIVER_LABEL_HASH),
            .image = arena_text(arena, from->image != NULL ? from->image->image : ""),
            .image_ref = arena_text(arena, from->image_ref),
            .state = from->state == RUNTIME__V1__CONTAINER_STATE__CONTAINER_CREATED
                         ? DRIVER_CONTAINER_CREATED
                     : from->state == RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING
                         ? DRIVER_CONTAINER_RUNNING
                     : from->state == RUNTIME__V1__CONTAINER_STATE__CONTAINER_EXITED
                         ? DRIVER_CONTAINER_EXITED
                         : DRIVER_CONTAINER_UNKNOWN,
            .created_ms = cri_ms(from->created_at),
            .reason = "",
            .message = "",
        };
    }
}

static void cri_listing_take_sandboxes(struct cri_call *call,
                                       Runtime__V1__ListPodSandboxResponse *message)
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
            .attempt = cri_attempt(CRI_LABEL(DRIVER_LABEL_ATTEMPT),
                                   from->metadata != NULL ? from->metadata->attempt : 0),
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
    } else if ((message = runtime__v1__list_containers_response__unpack(
                    NULL, reply->body.size, reply->body.data)) == NULL) {
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
    } else if ((message = runtime__v1__list_pod_sandbox_response__unpack(
                    NULL, reply->body.size, reply->body.data)) == NULL) {
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
    int status = cri_send(cri, CRI_RUNTIME("ListPodSandbox"), &sandboxes, call->deadline_ms,
                          cri_on_sandboxes, call);
    if (status != 0) {
        cri_seen_free(call->seen);
        return status;
    }
    call->waiting = 1;
    call->lists = 2;
    status = cri_send(cri, CRI_RUNTIME("ListContainers"), &containers, call->deadline_ms,
                      cri_on_containers, call);
    if (status != 0) { /* the first one is on its way and will carry the answer */
        cri_listing_fail(call, status, "too many calls are under way");
        call->lists = 1;
    } else {
        call->waiting = 2;
    }
    return 0;
}

/* -- the door ---------------------------------------------------------------------------------- */

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
        Runtime__V1__ImageStatusRequest *request = CRI_NEW(arena, Runtime__V1__ImageStatusRequest,
                                                           RUNTIME__V1__IMAGE_STATUS_REQUEST__INIT);
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
        Runtime__V1__RunPodSandboxRequest *request = CRI_NEW(
            arena, Runtime__V1__RunPodSandboxRequest, RUNTIME__V1__RUN_POD_SANDBOX_REQUEST__INIT);
        request->config = cri_sandbox(arena, cri->node_name, from->sandbox);
        method = CRI_RUNTIME("RunPodSandbox");
        message = request;
        break;
    }
    case DRIVER_SANDBOX_STOP: {
        Runtime__V1__StopPodSandboxRequest *request = CRI_NEW(
            arena, Runtime__V1__StopPodSandboxRequest, RUNTIME__V1__STOP_POD_SANDBOX_REQUEST__INIT);
        request->pod_sandbox_id = cri_text(from->id);
        method = CRI_RUNTIME("StopPodSandbox");
        message = request;
        break;
    }
    case DRIVER_SANDBOX_REMOVE: {
        Runtime__V1__RemovePodSandboxRequest *request =
            CRI_NEW(arena, Runtime__V1__RemovePodSandboxRequest,
                    RUNTIME__V1__REMOVE_POD_SANDBOX_REQUEST__INIT);
        request->pod_sandbox_id = cri_text(from->id);
        method = CRI_RUNTIME("RemovePodSandbox");
        message = request;
        break;
    }
    case DRIVER_CONTAINER_CREATE: {
        Runtime__V1__CreateContainerRequest *request =
            CRI_NEW(arena, Runtime__V1__CreateContainerRequest,
                    RUNTIME__V1__CREATE_CONTAINER_REQUEST__INIT);
        request->pod_sandbox_id = cri_text(from->id);
        request->config = cri_container(arena, cri->node_name, from->sandbox, from->container);
        request->sandbox_config = cri_sandbox(arena, cri->node_name, from->sandbox);
        method = CRI_RUNTIME("CreateContainer");
        message = request;
        break;
    }
    case DRIVER_CONTAINER_START: {
        Runtime__V1__StartContainerRequest *request = CRI_NEW(
            arena, Runtime__V1__StartContainerRequest, RUNTIME__V1__START_CONTAINER_REQUEST__INIT);
        request->container_id = cri_text(from->id);
        method = CRI_RUNTIME("StartContainer");
        message = request;
        break;
    }
    case DRIVER_CONTAINER_STOP: {
        Runtime__V1__StopContainerRequest *request = CRI_NEW(
            arena, Runtime__V1__StopContainerRequest, RUNTIME__V1__STOP_CONTAINER_REQUEST__INIT);
        request->container_id = cri_text(from->id);
        request->timeout = from->grace_seconds;
        method = CRI_RUNTIME("StopContainer");
        message = request;
        break;
    }
    case DRIVER_CONTAINER_REMOVE: {
        Runtime__V1__RemoveContainerRequest *request =
            CRI_NEW(arena, Runtime__V1__RemoveContainerRequest,
                    RUNTIME__V1__REMOVE_CONTAINER_REQUEST__INIT);
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
    const char *path =
        strncmp(socket, scheme, sizeof scheme - 1) == 0 ? socket + sizeof scheme - 1 : socket;
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
