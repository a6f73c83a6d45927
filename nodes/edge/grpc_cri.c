/* The happy path of a call:
 *
 *   1. grpc_call copies the request behind its 5-byte prefix, starts the deadline and links the call
 *      as waiting; a connection that is up takes it at once, otherwise a dial begins;
 *   2. submitted, its bytes leave through the data provider as HTTP/2 windows allow;
 *   3. headers, one message and the trailers with grpc-status arrive; the stream closes;
 *   4. the call moves to the ended list and is answered from the prepare handle, outside of every
 *      callback of nghttp2, so that its owner may call again or close the client.
 *
 * What can fail: the dial (all waiting calls end, not sent); the connection (what arrived before
 * still counts, then calls under way end, sent; waiting ones wait for a new dial after a back-off);
 * the stream (RST_STREAM, no grpc-status,
 * HTTP status, a message too large or compressed); the deadline. Each ends in grpc_call_end, the
 * first one decides.
 */
#include "nodes/edge/grpc_cri.h"

#include "schemas/check.h"
#include "schemas/limits.h"
#include "schemas/status.h"

#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#define GRPC_PREFIX_BYTES        5u
#define GRPC_STREAM_WINDOW_BYTES (1 << 20)
#define GRPC_WINDOW_BYTES        (4 << 20)
#define GRPC_HEADER_LIST_BYTES   (1u << 16)
/* Outgoing bytes that the socket does not take yet; nghttp2 is not asked for more until they left. */
#define GRPC_WRITE_BYTES 65536u

enum grpc_connection { GRPC_IDLE, GRPC_DIALING, GRPC_UP, GRPC_CLOSED };

struct grpc_call {
    struct grpc_client *client;
    struct grpc_call *previous, *next;
    const char *method;
    uint8_t *request; /* prefix and message */
    size_t request_bytes;
    size_t request_sent;
    int32_t stream; /* 0 while waiting for a connection */
    uint8_t prefix[GRPC_PREFIX_BYTES];
    size_t prefix_bytes;
    uint8_t *body;
    size_t body_bytes;
    size_t body_filled;
    bool body_whole;
    int http_status;
    bool has_status;
    int code;
    int error;
    char message[512];
    bool ended;
    bool was_sent;
    uv_timer_t deadline;
    uint64_t deadline_at_ms; /* of uv_now */
    void (*on_answer)(void *context, const struct grpc_answer *answer);
    void *context;
};

struct grpc_list {
    struct grpc_call *first, *last;
};

struct grpc_write {
    uv_write_t request;
    struct grpc_client *client;
    unsigned connection;
};

struct grpc_client {
    uv_loop_t *loop;
    char path[sizeof((struct sockaddr_un *)0)->sun_path];
    enum grpc_connection state;
    bool going_away; /* the peer takes no new stream on this connection */
    bool unheard;    /* a write failed: nothing more is sent, what it said before is still read */
    bool writing;
    unsigned connection; /* number of the dial: a late callback of an older one is told by it */
    unsigned connections;
    unsigned failures;
    unsigned calls;
    uv_pipe_t *pipe;
    uv_connect_t connect;
    uv_timer_t redial;
    uv_prepare_t prepare;
    uv_idle_t idle; /* keeps the loop from sleeping while there is something to answer or send */
    nghttp2_session *session;
    struct grpc_list open;
    struct grpc_list ended;
    struct grpc_write write;
    bool write_pending; /* write.request is in libuv's hands */
    int handles_open;
    bool closing;
    void (*on_closed)(void *context);
    void *closed_context;
    uint8_t write_buffer[GRPC_WRITE_BYTES];
    uint8_t read_buffer[65536];
};

static void grpc_dial(struct grpc_client *client);

static void grpc_list_push(struct grpc_list *list, struct grpc_call *call)
{
    call->next = NULL;
    call->previous = list->last;
    if (list->last != NULL) {
        list->last->next = call;
    } else {
        list->first = call;
    }
    list->last = call;
}

static void grpc_list_remove(struct grpc_list *list, struct grpc_call *call)
{
    *(call->previous != NULL ? &call->previous->next : &list->first) = call->next;
    *(call->next != NULL ? &call->next->previous : &list->last) = call->previous;
    call->next = call->previous = NULL;
}

static void grpc_on_idle(uv_idle_t *idle)
{
    (void)idle;
}

/* There is something to do before the loop sleeps again. */
static void grpc_wake(struct grpc_client *client)
{
    if (!uv_is_active((uv_handle_t *)&client->idle)) {
        uv_idle_start(&client->idle, grpc_on_idle);
    }
}

/* The one way out of a call; answered later by grpc_answer_ended. */
static void grpc_call_end(struct grpc_call *call, int code, int error, const char *message)
{
    struct grpc_client *client = call->client;
    if (call->ended) {
        return;
    }
    call->ended = true;
    call->code = code;
    call->error = error;
    if (message != call->message) {
        snprintf(call->message, sizeof call->message, "%s", message);
    }
    if (call->stream != 0 && client->session != NULL) {
        nghttp2_session_set_stream_user_data(client->session, call->stream, NULL);
    }
    uv_timer_stop(&call->deadline);
    grpc_list_remove(&client->open, call);
    grpc_list_push(&client->ended, call);
    grpc_wake(client);
}

/* One handle of this client is closed; with the last one of a closing client it is gone. */
static void grpc_release(struct grpc_client *client)
{
    CHECK(client->handles_open > 0);
    client->handles_open--;
    if (client->handles_open > 0 || !client->closing) {
        return;
    }
    CHECK(client->open.first == NULL);
    CHECK(client->ended.first == NULL);
    void (*on_closed)(void *) = client->on_closed;
    void *context = client->closed_context;
    free(client);
    if (on_closed != NULL) {
        on_closed(context);
    }
}

static void grpc_on_handle_closed(uv_handle_t *handle)
{
    grpc_release(handle->data);
}

static void grpc_call_on_closed(uv_handle_t *handle)
{
    struct grpc_call *call = handle->data;
    struct grpc_client *client = call->client;
    free(call->request);
    free(call->body);
    free(call);
    grpc_release(client);
}

static void grpc_answer_ended(struct grpc_client *client)
{
    struct grpc_call *call;
    while ((call = client->ended.first) != NULL) {
        grpc_list_remove(&client->ended, call);
        CHECK(client->calls > 0);
        client->calls--; /* the place is free before the owner hears of it */
        const struct grpc_answer answer = {
            .code = (enum grpc_code)call->code,
            .message = call->message,
            .sent = call->was_sent,
            .error = call->error,
            .body =
                call->code == GRPC_OK ? bytes_of(call->body, call->body_bytes) : bytes_of(NULL, 0),
        };
        call->on_answer(call->context, &answer);
        uv_close((uv_handle_t *)&call->deadline, grpc_call_on_closed);
    }
}

/* -- what nghttp2 tells us --------------------------------------------------------------------- */

static int grpc_hex(uint8_t c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* grpc-message is percent-encoded UTF-8; control characters would garble a log line. */
static void grpc_message_decode(char *out, size_t out_bytes, const uint8_t *text, size_t size)
{
    size_t filled = 0;
    for (size_t i = 0; i < size && filled + 1 < out_bytes; i++) {
        uint8_t c = text[i];
        if (c == '%' && i + 2 < size && grpc_hex(text[i + 1]) >= 0 && grpc_hex(text[i + 2]) >= 0) {
            c = (uint8_t)(grpc_hex(text[i + 1]) * 16 + grpc_hex(text[i + 2]));
            i += 2;
        }
        out[filled++] = c < 0x20 || c == 0x7f ? ' ' : (char)c;
    }
    out[filled] = 0;
}

/* A number of at most four digits, -1 for anything else: a peer may send what it likes. */
static int grpc_number(const uint8_t *text, size_t size)
{
    int value = 0;
    if (size == 0 || size > 4) {
        return -1;
    }
    for (size_t i = 0; i < size; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return -1;
        }
        value = value * 10 + (text[i] - '0');
    }
    return value;
}

static bool grpc_name_is(const uint8_t *name, size_t size, const char *text)
{
    return bytes_equal_text(bytes_of(name, size), text);
}

static int grpc_on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                          size_t name_bytes, const uint8_t *value, size_t value_bytes,
                          uint8_t flags, void *user)
{
    (void)flags;
    (void)user;
    struct grpc_call *call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (call == NULL) {
        return 0;
    }
    if (grpc_name_is(name, name_bytes, ":status")) {
        call->http_status = grpc_number(value, value_bytes);
    } else if (grpc_name_is(name, name_bytes, "grpc-status")) {
        const int code = grpc_number(value, value_bytes);
        call->code = code < 0 ? GRPC_UNKNOWN : code;
        call->has_status = true;
    } else if (grpc_name_is(name, name_bytes, "grpc-message")) {
        grpc_message_decode(call->message, sizeof call->message, value, value_bytes);
    }
    return 0;
}

/* Refuse the rest of a reply: the stream is reset, the connection lives on. */
static void grpc_call_refuse(struct grpc_call *call, int code, const char *message)
{
    nghttp2_submit_rst_stream(call->client->session, NGHTTP2_FLAG_NONE, call->stream,
                              NGHTTP2_CANCEL);
    grpc_call_end(call, code, 0, message);
}

/* The prefix is whole: make room for the message it announces. */
static bool grpc_call_on_prefix(struct grpc_call *call)
{
    const size_t size = ((size_t)call->prefix[1] << 24) | ((size_t)call->prefix[2] << 16) |
                        ((size_t)call->prefix[3] << 8) | call->prefix[4];
    if (call->body_whole) {
        grpc_call_refuse(call, GRPC_INTERNAL, "more than one message in the reply");
    } else if (call->prefix[0] != 0) {
        grpc_call_refuse(call, GRPC_INTERNAL, "the reply is compressed, which was not offered");
    } else if (size > LIMIT_GRPC_MESSAGE_BYTES) {
        grpc_call_refuse(call, GRPC_RESOURCE_EXHAUSTED, "the reply is larger than 16 MiB");
    } else if ((call->body = malloc(size > 0 ? size : 1)) == NULL) {
        grpc_call_refuse(call, GRPC_RESOURCE_EXHAUSTED, "no memory for the reply");
    } else {
        call->body_bytes = size;
        return true;
    }
    return false;
}

static int grpc_on_data(nghttp2_session *session, uint8_t flags, int32_t stream,
                        const uint8_t *data, size_t size, void *user)
{
    (void)flags;
    (void)user;
    struct grpc_call *call = nghttp2_session_get_stream_user_data(session, stream);
    while (call != NULL && !call->ended && size > 0) {
        if (call->prefix_bytes < GRPC_PREFIX_BYTES) {
            call->prefix[call->prefix_bytes++] = *data++;
            size--;
            if (call->prefix_bytes < GRPC_PREFIX_BYTES || !grpc_call_on_prefix(call)) {
                continue;
            }
        }
        const size_t missing = call->body_bytes - call->body_filled;
        const size_t take = missing < size ? missing : size;
        if (take > 0) {
            memcpy(call->body + call->body_filled, data, take);
        }
        call->body_filled += take;
        data += take;
        size -= take;
        if (call->body_filled == call->body_bytes) {
            call->body_whole = true;
            call->prefix_bytes = 0;
        }
    }
    return 0;
}

static int grpc_on_stream_close(nghttp2_session *session, int32_t stream, uint32_t error,
                                void *user)
{
    (void)user;
    struct grpc_call *call = nghttp2_session_get_stream_user_data(session, stream);
    char message[96];
    if (call == NULL) {
        return 0;
    }
    if (call->has_status && call->code == GRPC_OK && !call->body_whole) {
        grpc_call_end(call, GRPC_INTERNAL, 0, "the reply says OK and holds no whole message");
    } else if (call->has_status) {
        grpc_call_end(call, call->code, 0, call->message);
    } else if (error == NGHTTP2_REFUSED_STREAM) {
        call->was_sent = false; /* the peer promises that it did nothing */
        grpc_call_end(call, GRPC_UNAVAILABLE, -ECONNREFUSED, "the stream was refused");
    } else if (error == NGHTTP2_ENHANCE_YOUR_CALM) {
        grpc_call_end(call, GRPC_RESOURCE_EXHAUSTED, 0, "the peer asks for calm");
    } else if (call->http_status != 0 && call->http_status != 200) {
        snprintf(message, sizeof message, "HTTP status %d instead of a gRPC reply",
                 call->http_status);
        grpc_call_end(call, call->http_status == 404 ? GRPC_UNIMPLEMENTED : GRPC_UNAVAILABLE, 0,
                      message);
    } else if (error != NGHTTP2_NO_ERROR) {
        snprintf(message, sizeof message, "the stream was reset: %s",
                 nghttp2_http2_strerror(error));
        grpc_call_end(call, error == NGHTTP2_CANCEL ? GRPC_CANCELLED : GRPC_INTERNAL, 0, message);
    } else {
        grpc_call_end(call, GRPC_INTERNAL, 0, "the reply ended without grpc-status");
    }
    return 0;
}

static int grpc_on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    (void)session;
    struct grpc_client *client = user;
    if (frame->hd.type == NGHTTP2_GOAWAY) {
        client->going_away = true;
    }
    return 0;
}

static ssize_t grpc_on_source(nghttp2_session *session, int32_t stream, uint8_t *buffer,
                              size_t size, uint32_t *flags, nghttp2_data_source *source, void *user)
{
    (void)source;
    (void)user;
    struct grpc_call *call = nghttp2_session_get_stream_user_data(session, stream);
    if (call == NULL) {
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* cancelled while its bytes were waiting */
    }
    const size_t left = call->request_bytes - call->request_sent;
    const size_t take = left < size ? left : size;
    memcpy(buffer, call->request + call->request_sent, take);
    call->request_sent += take;
    if (call->request_sent == call->request_bytes) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    }
    return (ssize_t)take;
}

/* -- the connection ---------------------------------------------------------------------------- */

static void grpc_pipe_on_closed(uv_handle_t *handle)
{
    struct grpc_client *client = handle->data;
    free(handle);
    grpc_release(client);
}

static void grpc_on_redial(uv_timer_t *timer)
{
    struct grpc_client *client = timer->data;
    if (client->open.first != NULL) {
        grpc_dial(client);
    }
}

/* The connection is over. Calls under way end; waiting ones get another dial after a back-off. */
static void grpc_drop(struct grpc_client *client, const char *why)
{
    nghttp2_session *session = client->session;
    client->session = NULL;
    client->going_away = client->unheard = false;
    if (client->pipe != NULL) {
        uv_close((uv_handle_t *)client->pipe, grpc_pipe_on_closed);
        client->pipe = NULL;
    }
    for (struct grpc_call *call = client->open.first, *next; call != NULL; call = next) {
        next = call->next;
        if (call->stream != 0) {
            call->stream = 0;
            grpc_call_end(call, GRPC_UNAVAILABLE, 0, why);
        }
    }
    if (session != NULL) {
        nghttp2_session_del(session);
    }
    if (client->state == GRPC_CLOSED) {
        return;
    }
    client->state = GRPC_IDLE;
    if (client->open.first != NULL) {
        const unsigned doublings = client->failures < 7 ? client->failures : 7;
        const unsigned delay_ms = GRPC_BACKOFF_MIN_MS << doublings;
        uv_timer_start(&client->redial, grpc_on_redial,
                       delay_ms < GRPC_BACKOFF_MAX_MS ? delay_ms : GRPC_BACKOFF_MAX_MS, 0);
        client->failures++;
    }
}

static void grpc_submit(struct grpc_call *call)
{
    struct grpc_client *client = call->client;
    const uint64_t now_ms = uv_now(client->loop);
    const uint64_t left_ms = call->deadline_at_ms > now_ms ? call->deadline_at_ms - now_ms : 1;
    char timeout[16]; /* the protocol allows eight digits */
    snprintf(timeout, sizeof timeout, "%um", (unsigned)(left_ms > 99999999 ? 99999999 : left_ms));

#define GRPC_HEADER(header, text)                                                                  \
    {                                                                                              \
        (uint8_t *)(uintptr_t)(header), (uint8_t *)(uintptr_t)(text), strlen(header),              \
            strlen(text), NGHTTP2_NV_FLAG_NONE                                                     \
    }
    const nghttp2_nv headers[] = {
        GRPC_HEADER(":method", "POST"),
        GRPC_HEADER(":scheme", "http"),
        GRPC_HEADER(":path", call->method),
        GRPC_HEADER(":authority", "localhost"),
        GRPC_HEADER("content-type", "application/grpc"),
        GRPC_HEADER("te", "trailers"),
        GRPC_HEADER("user-agent", "kelp/" KELP_VERSION),
        GRPC_HEADER("grpc-timeout", timeout),
    };
    const nghttp2_data_provider provider = {.read_callback = grpc_on_source};
    const int32_t stream = nghttp2_submit_request(
        client->session, NULL, headers, sizeof headers / sizeof *headers, &provider, call);
    if (stream < 0) {
        grpc_call_end(call, GRPC_UNAVAILABLE, 0, nghttp2_strerror(stream));
        return;
    }
    call->stream = stream;
    call->was_sent = true;
    grpc_wake(client);
}

/* A peer that answers and closes may be gone before our next write, with its answer unread in the
 * socket: the connection is dropped by the reading side, at its end. */
static void grpc_on_unheard(struct grpc_client *client)
{
    client->going_away = client->unheard = true;
    grpc_wake(client);
}

static void grpc_on_written(uv_write_t *request, int status)
{
    struct grpc_client *client = request->data;
    client->write_pending = false;
    if (client->write.connection != client->connection || client->state != GRPC_UP) {
        return;
    }
    client->writing = false;
    if (status < 0) {
        grpc_on_unheard(client);
    }
    grpc_wake(client);
}

/* Send what nghttp2 has, as far as the socket takes it. A rest waits in write_buffer. */
static void grpc_send(struct grpc_client *client)
{
    while (client->state == GRPC_UP && !client->unheard && !client->writing &&
           !client->write_pending) {
        size_t filled = 0;
        const uint8_t *data;
        ssize_t size = 0;
        while (filled + 32768 < sizeof client->write_buffer && /* one frame is at most 16 KiB + 9 */
               (size = nghttp2_session_mem_send(client->session, &data)) > 0) {
            CHECK((size_t)size <= sizeof client->write_buffer - filled);
            memcpy(client->write_buffer + filled, data, (size_t)size);
            filled += (size_t)size;
        }
        if (size < 0) {
            grpc_drop(client, nghttp2_strerror((int)size));
            return;
        }
        if (filled == 0) {
            break;
        }
        uv_buf_t buffer = uv_buf_init((char *)client->write_buffer, (unsigned)filled);
        int written = uv_try_write((uv_stream_t *)client->pipe, &buffer, 1);
        if (written < 0 && written != UV_EAGAIN) {
            grpc_on_unheard(client);
            return;
        }
        written = written < 0 ? 0 : written;
        if ((size_t)written < filled) {
            buffer = uv_buf_init((char *)client->write_buffer + written,
                                 (unsigned)filled - (unsigned)written);
            client->writing = true;
            client->write_pending = true;
            client->write.connection = client->connection;
            client->write.request.data = client;
            const int status = uv_write(&client->write.request, (uv_stream_t *)client->pipe,
                                        &buffer, 1, grpc_on_written);
            if (status < 0) {
                client->writing = client->write_pending = false;
                grpc_on_unheard(client);
                return;
            }
        }
    }
    if (client->state == GRPC_UP && !client->writing &&
        !nghttp2_session_want_read(client->session) &&
        !nghttp2_session_want_write(client->session)) {
        grpc_drop(client, "the peer said GOAWAY");
    }
}

static void grpc_on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    (void)suggested;
    struct grpc_client *client = handle->data;
    *out = uv_buf_init((char *)client->read_buffer, sizeof client->read_buffer);
}

/* After a GOAWAY: calls that wait go over a new connection once the old one has nothing left. */
static bool grpc_is_drained(const struct grpc_client *client)
{
    for (const struct grpc_call *call = client->open.first; call != NULL; call = call->next) {
        if (call->stream != 0) {
            return false;
        }
    }
    return true;
}

static void grpc_on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer)
{
    struct grpc_client *client = stream->data;
    if ((uv_pipe_t *)stream != client->pipe || size == 0) {
        return;
    }
    if (size < 0) {
        grpc_drop(client,
                  size == UV_EOF ? "the runtime closed the connection" : uv_strerror((int)size));
        return;
    }
    const ssize_t taken =
        nghttp2_session_mem_recv(client->session, (const uint8_t *)buffer->base, (size_t)size);
    if (taken < 0) {
        grpc_drop(client, nghttp2_strerror((int)taken));
        return;
    }
    grpc_wake(client); /* answers, window updates, or a redial after GOAWAY */
}

static int grpc_session_start(struct grpc_client *client)
{
    nghttp2_session_callbacks *callbacks;
    int status = nghttp2_session_callbacks_new(&callbacks);
    if (status != 0) {
        return status;
    }
    nghttp2_session_callbacks_set_on_header_callback(callbacks, grpc_on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, grpc_on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, grpc_on_stream_close);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, grpc_on_frame);
    status = nghttp2_session_client_new(&client->session, callbacks, client);
    nghttp2_session_callbacks_del(callbacks);
    if (status != 0) {
        return status;
    }
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, GRPC_STREAM_WINDOW_BYTES},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, GRPC_HEADER_LIST_BYTES},
    };
    status = nghttp2_submit_settings(client->session, NGHTTP2_FLAG_NONE, settings, 3);
    return status != 0 ? status
                       : nghttp2_session_set_local_window_size(client->session, NGHTTP2_FLAG_NONE,
                                                               0, GRPC_WINDOW_BYTES);
}

static void grpc_on_connected(uv_connect_t *connect, int status)
{
    struct grpc_client *client = connect->data;
    if (client->state != GRPC_DIALING) {
        return; /* closed meanwhile */
    }
    if (status < 0) {
        char message[sizeof client->path + 64];
        snprintf(message, sizeof message, "cannot connect to %s: %s", client->path,
                 uv_strerror(status));
        for (struct grpc_call *call = client->open.first, *next; call != NULL; call = next) {
            next = call->next;
            grpc_call_end(call, GRPC_UNAVAILABLE, status, message);
        }
        client->failures++;
        grpc_drop(client, message);
        return;
    }
    const int session_status = grpc_session_start(client);
    if (session_status != 0) {
        grpc_drop(client, nghttp2_strerror(session_status));
        return;
    }
    client->state = GRPC_UP;
    client->failures = 0;
    client->connections++;
    client->writing = false;
    uv_read_start((uv_stream_t *)client->pipe, grpc_on_alloc, grpc_on_read);
    for (struct grpc_call *call = client->open.first, *next; call != NULL; call = next) {
        next = call->next;
        grpc_submit(call);
    }
    grpc_wake(client);
}

static void grpc_dial(struct grpc_client *client)
{
    if (client->state != GRPC_IDLE || client->write_pending) {
        return; /* a write of the connection before still owns the buffer: it ends in this turn */
    }
    uv_timer_stop(&client->redial);
    client->state = GRPC_DIALING;
    client->connection++;
    client->pipe = calloc(1, sizeof *client->pipe);
    CHECK(client->pipe != NULL);
    uv_pipe_init(client->loop, client->pipe, 0);
    client->pipe->data = client;
    client->handles_open++;
    client->connect.data = client;
    uv_pipe_connect(&client->connect, client->pipe, client->path, grpc_on_connected);
}

/* Once per turn of the loop, before it sleeps: send, redial, answer. */
static void grpc_on_prepare(uv_prepare_t *prepare)
{
    struct grpc_client *client = prepare->data;
    uv_idle_stop(&client->idle);
    if (client->state == GRPC_UP && client->going_away && grpc_is_drained(client)) {
        const bool waiting = client->open.first != NULL;
        grpc_drop(client, "the peer said GOAWAY");
        if (waiting) {
            grpc_dial(client); /* a GOAWAY is a polite peer, not a failure */
        }
    }
    grpc_send(client);
    if (client->state == GRPC_IDLE && client->open.first != NULL &&
        !uv_is_active((uv_handle_t *)&client->redial)) {
        grpc_dial(client);
    }
    grpc_answer_ended(client);
    grpc_send(client); /* requests that the answers gave rise to leave in this turn */
}

/* -- the door ---------------------------------------------------------------------------------- */

struct grpc_client *grpc_open(uv_loop_t *loop, const char *path)
{
    if (strlen(path) >= sizeof((struct grpc_client *)0)->path) {
        return NULL;
    }
    struct grpc_client *client = calloc(1, sizeof *client);
    CHECK(client != NULL);
    client->loop = loop;
    snprintf(client->path, sizeof client->path, "%s", path);
    uv_timer_init(loop, &client->redial);
    uv_prepare_init(loop, &client->prepare);
    uv_idle_init(loop, &client->idle);
    client->redial.data = client->prepare.data = client->idle.data = client;
    client->handles_open = 3;
    uv_prepare_start(&client->prepare, grpc_on_prepare);
    uv_unref((uv_handle_t *)&client->prepare); /* an idle client does not keep a loop alive */
    return client;
}

static void grpc_on_deadline(uv_timer_t *timer)
{
    struct grpc_call *call = timer->data;
    if (call->stream != 0) {
        nghttp2_submit_rst_stream(call->client->session, NGHTTP2_FLAG_NONE, call->stream,
                                  NGHTTP2_CANCEL);
    }
    grpc_call_end(call, GRPC_DEADLINE_EXCEEDED, 0, "the deadline passed");
}

int grpc_call(struct grpc_client *client, const char *method, struct bytes request,
              uint64_t deadline_ms, struct grpc_call **out_call,
              void (*on_answer)(void *context, const struct grpc_answer *answer), void *context)
{
    CHECK(deadline_ms > 0);
    if (client->closing) {
        return STATUS_CLOSING;
    }
    if (request.size > LIMIT_GRPC_MESSAGE_BYTES) {
        return STATUS_TOO_LARGE;
    }
    if (client->calls >= LIMIT_GRPC_CALLS) {
        return STATUS_FULL;
    }

    struct grpc_call *call = calloc(1, sizeof *call);
    CHECK(call != NULL);
    call->request_bytes = GRPC_PREFIX_BYTES + request.size;
    call->request = malloc(call->request_bytes);
    CHECK(call->request != NULL);
    const uint32_t size_be = __builtin_bswap32((uint32_t)request.size);
    call->request[0] = 0;
    memcpy(call->request + 1, &size_be, sizeof size_be);
    if (request.size > 0) {
        memcpy(call->request + GRPC_PREFIX_BYTES, request.data, request.size);
    }
    call->client = client;
    call->method = method;
    call->code = GRPC_UNKNOWN;
    call->on_answer = on_answer;
    call->context = context;
    uv_update_time(client->loop); /* a long turn must not eat into the deadline */
    uv_timer_init(client->loop, &call->deadline);
    client->handles_open++;
    call->deadline.data = call;
    call->deadline_at_ms = uv_now(client->loop) + deadline_ms;
    uv_timer_start(&call->deadline, grpc_on_deadline, deadline_ms, 0);
    grpc_list_push(&client->open, call);
    client->calls++;
    if (client->state == GRPC_UP && !client->going_away) {
        grpc_submit(call);
    } else if (client->state == GRPC_IDLE) {
        grpc_dial(client);
    }
    grpc_wake(client);
    if (out_call != NULL) {
        *out_call = call;
    }
    return 0;
}

void grpc_cancel(struct grpc_call *call)
{
    if (!call->ended && call->stream != 0) {
        nghttp2_submit_rst_stream(call->client->session, NGHTTP2_FLAG_NONE, call->stream,
                                  NGHTTP2_CANCEL);
    }
    grpc_call_end(call, GRPC_CANCELLED, 0, "cancelled");
}

static void grpc_on_last_turn(uv_idle_t *idle)
{
    struct grpc_client *client = idle->data;
    grpc_answer_ended(client);
    uv_close((uv_handle_t *)&client->idle, grpc_on_handle_closed);
    uv_close((uv_handle_t *)&client->prepare, grpc_on_handle_closed);
    uv_close((uv_handle_t *)&client->redial, grpc_on_handle_closed);
}

void grpc_close(struct grpc_client *client, void (*on_closed)(void *context), void *context)
{
    CHECK(!client->closing);
    client->closing = true;
    client->on_closed = on_closed;
    client->closed_context = context;
    for (struct grpc_call *call = client->open.first, *next; call != NULL; call = next) {
        next = call->next;
        grpc_call_end(call, GRPC_CANCELLED, 0, "the client is closing");
    }
    client->state = GRPC_CLOSED;
    grpc_drop(client, "the client is closing");
    uv_prepare_stop(&client->prepare);
    uv_timer_stop(&client->redial);
    uv_idle_stop(&client->idle);
    uv_idle_start(&client->idle,
                  grpc_on_last_turn); /* answers come from the loop, never from here */
}

unsigned grpc_connections(const struct grpc_client *client)
{
    return client->connections;
}
