/* The happy path: accept, an HTTP/2 session per connection, headers and data of a stream gathered
 * until END_STREAM, the handler's reply framed and sent with grpc-status in the trailers. Failures
 * drop the one connection they happen on: this server is for tests and for trying.
 */
#include "nodes/edge/grpc_server_cri.h"

#include "nodes/edge/grpc_cri.h"
#include "schemas/check.h"
#include "schemas/limits.h"

#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct serve_stream {
    struct serve_connection *connection;
    struct serve_stream *next;
    int32_t id;
    char path[128];
    uint8_t *request;
    size_t request_bytes;
    struct grpc_reply reply;
    uint8_t *out;
    size_t out_bytes;
    size_t out_sent;
    uv_timer_t timer; /* of the delay; every stream that was answered has one */
    bool timer_open;
    bool gone; /* the stream is closed: freed when the timer is */
};

struct serve_connection {
    struct grpc_server *server;
    struct serve_connection *next;
    uv_pipe_t pipe;
    nghttp2_session *session;
    struct serve_stream *streams;
    bool closing;
    char buffer[32768];
};

struct grpc_server {
    uv_loop_t *loop;
    uv_pipe_t pipe;
    char path[108];
    struct serve_connection *connections;
    void (*handler)(void *, const char *, struct bytes, struct grpc_reply *);
    void *context;
    unsigned resets;
};

struct serve_write {
    uv_write_t request;
    uint8_t data[];
};

static void serve_stream_free(struct serve_stream *stream)
{
    free(stream->request);
    free(stream->reply.body);
    free(stream->out);
    free(stream);
}

static void serve_on_timer_closed(uv_handle_t *handle)
{
    serve_stream_free(handle->data);
}

static void serve_stream_end(struct serve_stream *stream)
{
    stream->gone = true;
    if (!stream->timer_open) {
        serve_stream_free(stream);
    } else {
        uv_close((uv_handle_t *)&stream->timer, serve_on_timer_closed);
    }
}

static void serve_on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void serve_drop(struct serve_connection *connection)
{
    if (connection->closing) {
        return;
    }
    connection->closing = true;
    struct serve_connection **link = &connection->server->connections;
    while (*link != connection) {
        link = &(*link)->next;
    }
    *link = connection->next;
    for (struct serve_stream *stream = connection->streams, *next; stream != NULL; stream = next) {
        next = stream->next;
        serve_stream_end(stream);
    }
    connection->streams = NULL;
    nghttp2_session_del(connection->session);
    connection->session = NULL;
    uv_close((uv_handle_t *)&connection->pipe, serve_on_closed);
}

static void serve_on_written(uv_write_t *request, int status)
{
    (void)status; /* the reading side sees a dead connection too */
    free(CONTAINER_OF(request, struct serve_write, request));
}

static void serve_flush(struct serve_connection *connection)
{
    const uint8_t *data;
    ssize_t size;
    while (connection->session != NULL &&
           (size = nghttp2_session_mem_send(connection->session, &data)) > 0) {
        struct serve_write *write = malloc(sizeof *write + (size_t)size);
        CHECK(write != NULL);
        memcpy(write->data, data, (size_t)size);
        const uv_buf_t buffer = uv_buf_init((char *)write->data, (unsigned)size);
        if (uv_write(&write->request, (uv_stream_t *)&connection->pipe, &buffer, 1,
                     serve_on_written) != 0) {
            free(write);
            break;
        }
    }
    if (connection->session != NULL && !nghttp2_session_want_read(connection->session) &&
        !nghttp2_session_want_write(connection->session)) {
        serve_drop(connection); /* after a GOAWAY and the last stream */
    }
}

#define SERVE_HEADER(name, value)                                                                  \
    {                                                                                              \
        (uint8_t *)(uintptr_t)(name), (uint8_t *)(uintptr_t)(value), strlen(name), strlen(value),  \
            NGHTTP2_NV_FLAG_NONE                                                                   \
    }

static ssize_t serve_on_source(nghttp2_session *session, int32_t id, uint8_t *buffer, size_t size,
                               uint32_t *flags, nghttp2_data_source *source, void *user)
{
    (void)user;
    struct serve_stream *stream = source->ptr;
    const size_t left = stream->out_bytes - stream->out_sent;
    const size_t take = left < size ? left : size;
    memcpy(buffer, stream->out + stream->out_sent, take);
    stream->out_sent += take;
    if (stream->out_sent == stream->out_bytes) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (stream->reply.fault != GRPC_FAULT_NO_STATUS) {
            const nghttp2_nv trailers[] = {SERVE_HEADER("grpc-status", "0")};
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            nghttp2_submit_trailer(session, id, trailers, 1);
        }
    }
    return (ssize_t)take;
}

static void serve_frame_body(struct serve_stream *stream)
{
    struct grpc_reply *reply = &stream->reply;
    if (reply->fault == GRPC_FAULT_OVERSIZED || reply->fault == GRPC_FAULT_GARBAGE) {
        free(reply->body);
        reply->body_bytes =
            reply->fault == GRPC_FAULT_OVERSIZED ? LIMIT_GRPC_MESSAGE_BYTES + (1u << 20) : 64;
        reply->body = malloc(reply->body_bytes);
        CHECK(reply->body != NULL);
        memset(reply->body, 0xff, reply->body_bytes);
    }
    stream->out_bytes = 5 + reply->body_bytes;
    stream->out = malloc(stream->out_bytes);
    CHECK(stream->out != NULL);
    const uint32_t size_be = __builtin_bswap32((uint32_t)reply->body_bytes);
    stream->out[0] = reply->fault == GRPC_FAULT_COMPRESSED;
    memcpy(stream->out + 1, &size_be, sizeof size_be);
    if (reply->body_bytes > 0) {
        memcpy(stream->out + 5, reply->body, reply->body_bytes);
    }
}

/* An error is told in one header frame, which ends the stream. */
static void serve_error(struct serve_stream *stream, int code, const char *message)
{
    char number[12];
    snprintf(number, sizeof number, "%d", code);
    const nghttp2_nv headers[] = {
        SERVE_HEADER(":status", "200"),
        SERVE_HEADER("content-type", "application/grpc"),
        SERVE_HEADER("grpc-status", number),
        SERVE_HEADER("grpc-message", message),
    };
    nghttp2_submit_response(stream->connection->session, stream->id, headers, 4, NULL);
}

static void serve_answer(struct serve_stream *stream)
{
    struct serve_connection *connection = stream->connection;
    nghttp2_session *session = connection->session;
    const struct grpc_reply *reply = &stream->reply;
    switch (reply->fault) {
    case GRPC_FAULT_HANG:
        return;
    case GRPC_FAULT_DROP:
        serve_drop(connection);
        return;
    case GRPC_FAULT_RST:
    case GRPC_FAULT_REFUSE:
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, stream->id,
                                  reply->fault == GRPC_FAULT_RST ? NGHTTP2_CANCEL
                                                                 : NGHTTP2_REFUSED_STREAM);
        break;
    case GRPC_FAULT_TRAILERS:
        serve_error(stream, GRPC_INTERNAL, "caf%C3%A9 is 50%25 closed");
        break;
    case GRPC_FAULT_HTTP_503: {
        const nghttp2_nv headers[] = {SERVE_HEADER(":status", "503"),
                                      SERVE_HEADER("content-type", "text/plain")};
        nghttp2_submit_response(session, stream->id, headers, 2, NULL);
        break;
    }
    case GRPC_FAULT_NONE:
    case GRPC_FAULT_GOAWAY:
    case GRPC_FAULT_NO_STATUS:
    case GRPC_FAULT_OVERSIZED:
    case GRPC_FAULT_COMPRESSED:
    case GRPC_FAULT_GARBAGE:
        if (reply->code != GRPC_OK) {
            serve_error(stream, reply->code, reply->message);
        } else {
            const nghttp2_nv headers[] = {SERVE_HEADER(":status", "200"),
                                          SERVE_HEADER("content-type", "application/grpc")};
            serve_frame_body(stream);
            const nghttp2_data_provider provider = {.source.ptr = stream,
                                                    .read_callback = serve_on_source};
            nghttp2_submit_response(session, stream->id, headers, 2, &provider);
        }
        break;
    }
    if (reply->fault == GRPC_FAULT_GOAWAY) {
        nghttp2_submit_goaway(session, NGHTTP2_FLAG_NONE, stream->id, NGHTTP2_NO_ERROR, NULL, 0);
    }
    serve_flush(connection);
}

static void serve_on_delay(uv_timer_t *timer)
{
    struct serve_stream *stream = timer->data;
    if (!stream->gone) {
        serve_answer(stream);
    }
}

/* -- what nghttp2 tells us --------------------------------------------------------------------- */

static int serve_on_begin(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct serve_connection *connection = user;
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
        return 0;
    }
    struct serve_stream *stream = calloc(1, sizeof *stream);
    CHECK(stream != NULL);
    stream->connection = connection;
    stream->id = frame->hd.stream_id;
    stream->next = connection->streams;
    connection->streams = stream;
    nghttp2_session_set_stream_user_data(session, stream->id, stream);
    return 0;
}

static int serve_on_header(nghttp2_session *session, const nghttp2_frame *frame,
                           const uint8_t *name, size_t name_bytes, const uint8_t *value,
                           size_t value_bytes, uint8_t flags, void *user)
{
    (void)flags;
    (void)user;
    struct serve_stream *stream =
        nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (stream != NULL && bytes_equal_text(bytes_of(name, name_bytes), ":path")) {
        snprintf(stream->path, sizeof stream->path, "%.*s", (int)value_bytes, (const char *)value);
    }
    return 0;
}

static int serve_on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
                         size_t size, void *user)
{
    (void)flags;
    (void)user;
    struct serve_stream *stream = nghttp2_session_get_stream_user_data(session, id);
    if (stream == NULL || stream->request_bytes + size > LIMIT_GRPC_MESSAGE_BYTES + 5) {
        return stream == NULL ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    stream->request = realloc(stream->request, stream->request_bytes + size);
    CHECK(stream->request != NULL);
    memcpy(stream->request + stream->request_bytes, data, size);
    stream->request_bytes += size;
    return 0;
}

static int serve_on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct serve_connection *connection = user;
    struct grpc_server *server = connection->server;
    if (frame->hd.type == NGHTTP2_RST_STREAM) {
        server->resets++;
        return 0;
    }
    if ((frame->hd.type != NGHTTP2_DATA && frame->hd.type != NGHTTP2_HEADERS) ||
        (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0) {
        return 0;
    }
    struct serve_stream *stream =
        nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (stream == NULL || stream->timer_open) {
        return 0;
    }
    const char *slash = strrchr(stream->path, '/');
    if (stream->request_bytes < 5) {
        stream->reply.code = GRPC_INVALID_ARGUMENT;
        snprintf(stream->reply.message, sizeof stream->reply.message,
                 "the request holds no message");
    } else {
        server->handler(server->context, slash == NULL ? "" : slash + 1,
                        bytes_of(stream->request + 5, stream->request_bytes - 5), &stream->reply);
    }
    uv_timer_init(server->loop, &stream->timer);
    stream->timer.data = stream;
    stream->timer_open = true;
    uv_timer_start(&stream->timer, serve_on_delay, stream->reply.delay_ms,
                   0); /* 0: after this callback */
    return 0;
}

static int serve_on_stream_close(nghttp2_session *session, int32_t id, uint32_t error, void *user)
{
    (void)error;
    struct serve_connection *connection = user;
    struct serve_stream *stream = nghttp2_session_get_stream_user_data(session, id);
    if (stream == NULL) {
        return 0;
    }
    struct serve_stream **link = &connection->streams;
    while (*link != stream) {
        link = &(*link)->next;
    }
    *link = stream->next;
    serve_stream_end(stream);
    return 0;
}

/* -- connections ------------------------------------------------------------------------------- */

static void serve_on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    (void)suggested;
    struct serve_connection *connection = handle->data;
    *out = uv_buf_init(connection->buffer, sizeof connection->buffer);
}

static void serve_on_read(uv_stream_t *pipe, ssize_t size, const uv_buf_t *buffer)
{
    struct serve_connection *connection = pipe->data;
    if (size < 0 ||
        (size > 0 && nghttp2_session_mem_recv(connection->session, (const uint8_t *)buffer->base,
                                              (size_t)size) < 0)) {
        serve_drop(connection);
        return;
    }
    serve_flush(connection);
}

static void serve_on_connection(uv_stream_t *pipe, int status)
{
    struct grpc_server *server = pipe->data;
    if (status < 0) {
        return;
    }
    struct serve_connection *connection = calloc(1, sizeof *connection);
    nghttp2_session_callbacks *callbacks = NULL;
    CHECK(connection != NULL);
    CHECK(nghttp2_session_callbacks_new(&callbacks) == 0);
    connection->server = server;
    connection->next = server->connections;
    server->connections = connection;
    uv_pipe_init(server->loop, &connection->pipe, 0);
    connection->pipe.data = connection;
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, serve_on_begin);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, serve_on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, serve_on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, serve_on_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, serve_on_stream_close);
    CHECK(nghttp2_session_server_new(&connection->session, callbacks, connection) == 0);
    nghttp2_session_callbacks_del(callbacks);
    const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 100}};
    nghttp2_submit_settings(connection->session, NGHTTP2_FLAG_NONE, settings, 1);
    if (uv_accept(pipe, (uv_stream_t *)&connection->pipe) != 0) {
        serve_drop(connection);
        return;
    }
    uv_read_start((uv_stream_t *)&connection->pipe, serve_on_alloc, serve_on_read);
    serve_flush(connection);
}

int grpc_server_open(uv_loop_t *loop, const char *path,
                     void (*handler)(void *context, const char *method, struct bytes request,
                                     struct grpc_reply *reply),
                     void *context, struct grpc_server **out_server)
{
    struct grpc_server *server = calloc(1, sizeof *server);
    CHECK(server != NULL);
    server->loop = loop;
    server->handler = handler;
    server->context = context;
    snprintf(server->path, sizeof server->path, "%s", path);
    unlink(path);
    uv_pipe_init(loop, &server->pipe, 0);
    server->pipe.data = server;
    int status = uv_pipe_bind(&server->pipe, path);
    if (status == 0) {
        status = uv_listen((uv_stream_t *)&server->pipe, 16, serve_on_connection);
    }
    if (status != 0) {
        uv_close((uv_handle_t *)&server->pipe, serve_on_closed);
        return status;
    }
    *out_server = server;
    return 0;
}

void grpc_server_close(struct grpc_server *server)
{
    while (server->connections != NULL) {
        serve_drop(server->connections);
    }
    unlink(server->path);
    uv_close((uv_handle_t *)&server->pipe, serve_on_closed);
}

unsigned grpc_server_resets(const struct grpc_server *server)
{
    return server->resets;
}
