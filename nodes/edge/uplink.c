#include "nodes/edge/uplink.h"

#include <stdlib.h>
#include <string.h>

#include "schemas/check.h"
#include "schemas/limits.h"

#define UPLINK_TARGET "/v1/kelp"

static void uplink_on_open(struct websocket *socket, void *owner)
{
    (void)socket;
    struct uplink *uplink = owner;
    uplink->events->on_up(uplink->owner);
}

static void uplink_on_message(struct websocket *socket, struct bytes message, void *owner)
{
    (void)socket;
    struct uplink *uplink = owner;
    if (uplink->leaving) {
        return;
    }
    if ((uintptr_t)message.data % 8 == 0) {
        uplink->events->on_frame(uplink->owner, message);
        return;
    }
    void *copy = malloc(message.size); /* frames are read in place, so they must be aligned */
    CHECK(copy != NULL);
    memcpy(copy, message.data, message.size);
    uplink->events->on_frame(uplink->owner, bytes_of(copy, message.size));
    free(copy);
}

static void uplink_on_writable(struct websocket *socket, void *owner)
{
    (void)socket;
    struct uplink *uplink = owner;
    uplink->events->on_writable(uplink->owner);
}

static void uplink_on_close(struct websocket *socket, int status, uint16_t code, const char *reason,
                            void *owner)
{
    (void)socket;
    (void)code;
    struct uplink *uplink = owner;
    uplink->socket = NULL;
    uplink->leaving = false;
    uplink->events->on_down(uplink->owner, status, reason);
}

static const struct websocket_events socket_events = {
    .on_open = uplink_on_open,
    .on_message = uplink_on_message,
    .on_writable = uplink_on_writable,
    .on_close = uplink_on_close,
};

void uplink_init(struct uplink *uplink, uv_loop_t *loop, struct link_context *context,
                 const struct uplink_events *events, void *owner)
{
    memset(uplink, 0, sizeof *uplink);
    uplink->loop = loop;
    uplink->context = context;
    uplink->events = events;
    uplink->owner = owner;
    CHECK(uv_timer_init(loop, &uplink->failed) == 0);
    uplink->failed.data = uplink;
}

static void uplink_on_failed(uv_timer_t *timer)
{
    struct uplink *uplink = timer->data;
    uplink->events->on_down(uplink->owner, uplink->failed_status,
                            status_text(uplink->failed_status));
}

void uplink_dial(struct uplink *uplink, const char *host, uint16_t port)
{
    CHECK(uplink->socket == NULL);
    const int status = websocket_dial(uplink->loop, uplink->context, host, port, NULL,
                                      UPLINK_TARGET, NULL, 0, &socket_events, uplink,
                                      &uplink->socket);
    if (status != 0) {
        uplink->failed_status = status;
        uv_timer_start(&uplink->failed, uplink_on_failed, 0, 0);
    }
}

int uplink_send(struct uplink *uplink, struct bytes frame)
{
    if (uplink->socket == NULL || uplink->leaving) {
        return STATUS_CLOSING;
    }
    return websocket_send(uplink->socket, frame);
}

bool uplink_room(const struct uplink *uplink)
{
    return uplink->socket != NULL && !uplink->leaving &&
           websocket_queued_bytes(uplink->socket) < LIMIT_LINK_QUEUE_BYTES / 2;
}

bool uplink_is_down(const struct uplink *uplink)
{
    return uplink->socket == NULL && !uv_is_active((const uv_handle_t *)&uplink->failed);
}

const struct link_peer *uplink_peer(const struct uplink *uplink)
{
    CHECK(uplink->socket != NULL);
    return websocket_peer(uplink->socket);
}

void uplink_drop(struct uplink *uplink)
{
    CHECK(uplink->socket != NULL);
    uplink->leaving = true;
    websocket_close(uplink->socket);
}

void uplink_leave(struct uplink *uplink)
{
    if (uplink->socket != NULL && !uplink->leaving) {
        uplink->leaving = true;
        websocket_leave(uplink->socket, WEBSOCKET_CODE_NORMAL, "");
    }
}

void uplink_deinit(struct uplink *uplink)
{
    CHECK(uplink->socket == NULL);
    uv_close((uv_handle_t *)&uplink->failed, NULL);
}
