/* WebSocket frames by wslay, without a socket. Bytes are fed, wslay takes them through
 * websocket_core_on_receive, and everything it wants to send lands in the output. */
#include "nodes/net/websocket.h"

#include "schemas/check.h"

#include <stdlib.h>
#include <wslay/wslay.h>

/* A message that was unpacked while the owner had paused: wslay reads a few kilobytes ahead. */
struct websocket_held {
    struct websocket_held *next;
    size_t size;
    uint8_t data[];
};

struct websocket_core {
    wslay_event_context_ptr context;
    const struct websocket_core_events *events;
    void *owner;
    size_t message_bytes_max;
    struct bytes input; /* lent for one feed */
    uint8_t *output;
    size_t output_bytes, output_capacity;
    uint8_t *rest; /* bytes fed while paused */
    size_t rest_bytes;
    struct websocket_held *held_first, *held_last;
    bool paused;
    bool out_of_memory;
};

static ssize_t websocket_core_on_receive(wslay_event_context_ptr context, uint8_t *out, size_t size,
                                         int flags, void *data)
{
    (void)flags;
    struct websocket_core *core = data;
    if (core->input.size == 0 || core->paused) {
        wslay_event_set_error(context, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }
    const size_t take = core->input.size < size ? core->input.size : size;
    memcpy(out, core->input.data, take);
    core->input.data += take;
    core->input.size -= take;
    return (ssize_t)take;
}

static ssize_t websocket_core_on_send(wslay_event_context_ptr context, const uint8_t *bytes,
                                      size_t size, int flags, void *data)
{
    (void)flags;
    struct websocket_core *core = data;
    if (core->output_bytes + size > core->output_capacity) {
        size_t capacity = core->output_capacity == 0 ? 256 : core->output_capacity;
        while (capacity < core->output_bytes + size) {
            capacity *= 2;
        }
        uint8_t *grown = realloc(core->output, capacity);
        if (grown == NULL) {
            core->out_of_memory = true;
            wslay_event_set_error(context, WSLAY_ERR_CALLBACK_FAILURE);
            return -1;
        }
        core->output = grown;
        core->output_capacity = capacity;
    }
    memcpy(core->output + core->output_bytes, bytes, size);
    core->output_bytes += size;
    return (ssize_t)size;
}

static int websocket_core_on_mask(wslay_event_context_ptr context, uint8_t *out, size_t size,
                                  void *data)
{
    (void)context;
    struct websocket_core *core = data;
    core->events->on_mask(out, size, core->owner);
    return 0;
}

static void websocket_core_hold(struct websocket_core *core, struct bytes message)
{
    struct websocket_held *held = malloc(sizeof *held + message.size);
    if (held == NULL) {
        core->out_of_memory = true;
        return;
    }
    held->next = NULL;
    held->size = message.size;
    if (message.size > 0) {
        memcpy(held->data, message.data, message.size);
    }
    if (core->held_last == NULL) {
        core->held_first = held;
    } else {
        core->held_last->next = held;
    }
    core->held_last = held;
}

static void websocket_core_on_message(wslay_event_context_ptr context,
                                      const struct wslay_event_on_msg_recv_arg *argument,
                                      void *data)
{
    struct websocket_core *core = data;
    const struct bytes message = bytes_of(argument->msg, argument->msg_length);
    switch (argument->opcode) {
    case WSLAY_BINARY_FRAME:
        if (core->paused || core->held_first != NULL) {
            websocket_core_hold(core, message);
        } else {
            core->events->on_message(message, core->owner);
        }
        return;
    case WSLAY_TEXT_FRAME:
        wslay_event_queue_close(context, WEBSOCKET_CODE_UNSUPPORTED, NULL, 0);
        wslay_event_shutdown_read(context);
        return;
    case WSLAY_PONG:
        if (core->events->on_pong != NULL) {
            core->events->on_pong(core->owner);
        }
        return;
    case WSLAY_CONNECTION_CLOSE: {
        /* wslay gives the code apart; a close frame may be empty, without a pointer to move. */
        const struct bytes reason =
            message.size > 2 ? bytes_of(message.data + 2, message.size - 2) : bytes_of(NULL, 0);
        core->events->on_close(argument->status_code == 0 ? WEBSOCKET_CODE_NONE
                                                          : argument->status_code,
                               reason, core->owner);
        return;
    }
    default:
        return; /* pings are answered by wslay */
    }
}

struct websocket_core *websocket_core_open(bool client, size_t message_bytes_max,
                                           const struct websocket_core_events *events, void *owner)
{
    CHECK_IF(client, events->on_mask != NULL);
    struct websocket_core *core = calloc(1, sizeof *core);
    if (core == NULL) {
        return NULL;
    }
    const struct wslay_event_callbacks callbacks = {
        .recv_callback = websocket_core_on_receive,
        .send_callback = websocket_core_on_send,
        .genmask_callback = client ? websocket_core_on_mask : NULL,
        .on_msg_recv_callback = websocket_core_on_message,
    };
    core->events = events;
    core->owner = owner;
    core->message_bytes_max = message_bytes_max;
    const int code = client ? wslay_event_context_client_init(&core->context, &callbacks, core)
                            : wslay_event_context_server_init(&core->context, &callbacks, core);
    if (code != 0) {
        free(core);
        return NULL;
    }
    wslay_event_config_set_max_recv_msg_length(core->context, message_bytes_max);
    return core;
}

void websocket_core_close(struct websocket_core *core)
{
    if (core == NULL) {
        return;
    }
    while (core->held_first != NULL) {
        struct websocket_held *held = core->held_first;
        core->held_first = held->next;
        free(held);
    }
    wslay_event_context_free(core->context);
    free(core->output);
    free(core->rest);
    free(core);
}

/* Keep bytes for after the pause. */
static int websocket_core_keep(struct websocket_core *core, struct bytes bytes)
{
    if (bytes.size == 0) {
        return 0;
    }
    uint8_t *grown = realloc(core->rest, core->rest_bytes + bytes.size);
    if (grown == NULL) {
        return -ENOMEM;
    }
    memcpy(grown + core->rest_bytes, bytes.data, bytes.size);
    core->rest = grown;
    core->rest_bytes += bytes.size;
    return 0;
}

/* What came of reading: did the peer break the protocol? */
static int websocket_core_verdict(struct websocket_core *core, int code)
{
    if (code != 0 || core->out_of_memory) {
        return core->out_of_memory || code == WSLAY_ERR_NOMEM ? -ENOMEM : STATUS_MALFORMED;
    }
    if (wslay_event_get_read_enabled(core->context) != 0 ||
        wslay_event_get_close_received(core->context) != 0) {
        return 0;
    }
    return wslay_event_get_status_code_sent(core->context) == WEBSOCKET_CODE_TOO_LARGE
               ? STATUS_TOO_LARGE
               : STATUS_MALFORMED;
}

int websocket_core_feed(struct websocket_core *core, struct bytes bytes)
{
    if (core->paused) {
        return websocket_core_keep(core, bytes);
    }
    core->input = bytes;
    int code = 0;
    if (wslay_event_get_read_enabled(core->context) != 0) {
        code = wslay_event_recv(core->context);
    }
    if (code != 0 && code != WSLAY_ERR_NOMEM) {
        /* Some broken frames wslay answers itself, others it leaves to us. */
        wslay_event_queue_close(core->context, WEBSOCKET_CODE_PROTOCOL, NULL, 0);
        wslay_event_shutdown_read(core->context);
    }
    const int sent = wslay_event_send(core->context);
    code = code != 0 ? code : sent;
    const struct bytes rest = core->input;
    core->input = bytes_of(NULL, 0);
    const int status = websocket_core_verdict(core, code);
    return status != 0 || !core->paused ? status : websocket_core_keep(core, rest);
}

void websocket_core_pause(struct websocket_core *core)
{
    core->paused = true;
}

int websocket_core_resume(struct websocket_core *core)
{
    core->paused = false;
    while (core->held_first != NULL && !core->paused) {
        struct websocket_held *held = core->held_first;
        core->held_first = held->next;
        if (core->held_first == NULL) {
            core->held_last = NULL;
        }
        core->events->on_message(bytes_of(held->data, held->size), core->owner);
        free(held);
    }
    if (core->paused) {
        return 0;
    }
    uint8_t *rest = core->rest;
    const size_t rest_bytes = core->rest_bytes;
    core->rest = NULL;
    core->rest_bytes = 0;
    const int status = websocket_core_feed(core, bytes_of(rest, rest_bytes));
    free(rest);
    return status;
}

static int websocket_core_queue(struct websocket_core *core, uint8_t opcode, struct bytes message)
{
    const struct wslay_event_msg queued = {
        .opcode = opcode, .msg = message.data, .msg_length = message.size};
    int code = wslay_event_queue_msg(core->context, &queued);
    if (code == WSLAY_ERR_NO_MORE_MSG) {
        return STATUS_CLOSING;
    }
    if (code == 0) {
        code = wslay_event_send(core->context);
    }
    return code == 0 ? 0 : -ENOMEM;
}

int websocket_core_send(struct websocket_core *core, struct bytes message)
{
    if (message.size > core->message_bytes_max) {
        return STATUS_TOO_LARGE;
    }
    return websocket_core_queue(core, WSLAY_BINARY_FRAME, message);
}

int websocket_core_ping(struct websocket_core *core)
{
    return websocket_core_queue(core, WSLAY_PING, bytes_of(NULL, 0));
}

int websocket_core_leave(struct websocket_core *core, uint16_t code, const char *reason)
{
    const struct bytes text = bytes_text(reason);
    const int answer =
        wslay_event_queue_close(core->context, code, text.data, text.size > 120 ? 120 : text.size);
    if (answer != 0) {
        return answer == WSLAY_ERR_NO_MORE_MSG ? STATUS_CLOSING : -ENOMEM;
    }
    return wslay_event_send(core->context) == 0 ? 0 : -ENOMEM;
}

struct bytes websocket_core_output(const struct websocket_core *core)
{
    return bytes_of(core->output, core->output_bytes);
}

void websocket_core_output_done(struct websocket_core *core)
{
    free(core->output); /* an idle socket keeps no buffer */
    core->output = NULL;
    core->output_bytes = 0;
    core->output_capacity = 0;
}

bool websocket_core_ended(const struct websocket_core *core)
{
    return wslay_event_get_close_received(core->context) != 0 &&
           wslay_event_get_close_sent(core->context) != 0;
}
