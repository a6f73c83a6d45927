#include "bench/commit_links.h"

#include "schemas/check.h"
#include "schemas/status.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEADER_BYTES 8u
#define QUEUE_BYTES  (64u * 1024u * 1024u)

struct link {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_pipe_t pipe;
        uv_tcp_t tcp;
    } uv;
    uint8_t *data; /* received, not yet handed on; frames are padded to 8 */
    size_t size, capacity;
    uint64_t id; /* of the replica at the other end */
};

struct write {
    uv_write_t request;
    uint8_t data[];
};

static int sockets[COMMIT_REPLICAS + 1][COMMIT_REPLICAS + 1]; /* [whose][to whom] */
static bool over_tcp;
static struct link links[COMMIT_REPLICAS + 1]; /* by id */
static void (*message_to)(uint64_t from, struct bytes message);

static void pair_tcp(int pair[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(bind(listener, (const struct sockaddr *)&address, size) == 0);
    CHECK(listen(listener, 1) == 0);
    CHECK(getsockname(listener, (struct sockaddr *)&address, &size) == 0);
    pair[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(connect(pair[0], (const struct sockaddr *)&address, size) == 0);
    pair[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    CHECK(pair[1] >= 0);
    close(listener);
    for (int end = 0; end < 2; end++) {
        CHECK(setsockopt(pair[end], IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)) == 0);
    }
}

void commit_links_prepare(bool tcp)
{
    over_tcp = tcp;
    for (unsigned a = 1; a <= COMMIT_REPLICAS; a++) {
        for (unsigned b = a + 1; b <= COMMIT_REPLICAS; b++) {
            int pair[2];
            if (tcp) {
                pair_tcp(pair);
            } else {
                CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
            }
            sockets[a][b] = pair[0];
            sockets[b][a] = pair[1];
        }
    }
}

/* Close the ends of all replicas but this one; 0: of all. */
static void sockets_keep(uint64_t self)
{
    for (unsigned a = 1; a <= COMMIT_REPLICAS; a++) {
        for (unsigned b = 1; b <= COMMIT_REPLICAS; b++) {
            if (a != b && a != self) {
                close(sockets[a][b]);
            }
        }
    }
}

void commit_links_forget(void)
{
    sockets_keep(0);
}

static void write_on_done(uv_write_t *request, int status)
{
    (void)status;
    free(CONTAINER_OF(request, struct write, request));
}

/* What the kernel takes at once costs no request, no copy and no turn of the loop; the rest waits. */
int commit_links_send(void *context, uint64_t to, struct bytes message)
{
    (void)context;
    uv_stream_t *stream = &links[to].uv.stream;
    const size_t waiting = uv_stream_get_write_queue_size(stream);
    if (waiting > QUEUE_BYTES) {
        return STATUS_FULL;
    }
    static const uint8_t padding[8];
    uint8_t header[HEADER_BYTES] = {0};
    put_le32(header, (uint32_t)message.size);
    const size_t padded = (message.size + 7) & ~(size_t)7;
    const struct bytes pieces[] = {bytes_of(header, sizeof header), message,
                                   bytes_of(padding, padded - message.size)};
    const uv_buf_t buffers[] = {
        uv_buf_init((char *)header, sizeof header),
        uv_buf_init((char *)(uintptr_t)message.data, (unsigned)message.size),
        uv_buf_init((char *)(uintptr_t)padding, (unsigned)(padded - message.size))};
    const int taken = waiting > 0 ? 0 : uv_try_write(stream, buffers, 3);
    size_t sent = taken < 0 ? 0 : (size_t)taken; /* uv_write says what is wrong */
    const size_t left = HEADER_BYTES + padded - sent;
    if (left == 0) {
        return 0;
    }

    struct write *write = malloc(sizeof *write + left);
    CHECK(write != NULL);
    size_t at = 0;
    for (size_t i = 0; i < 3; i++) {
        const size_t skip = sent < pieces[i].size ? sent : pieces[i].size;
        sent -= skip;
        if (pieces[i].size > skip) {
            memcpy(write->data + at, pieces[i].data + skip, pieces[i].size - skip);
            at += pieces[i].size - skip;
        }
    }
    CHECK(at == left);
    const uv_buf_t buffer = uv_buf_init((char *)write->data, (unsigned)left);
    const int status = uv_write(&write->request, stream, &buffer, 1, write_on_done);
    if (status != 0) {
        free(write);
    }
    return status;
}

static void link_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    struct link *link = handle->data;
    if (link->capacity - link->size < suggested) {
        link->capacity = link->size + suggested;
        link->data = realloc(link->data, link->capacity);
        CHECK(link->data != NULL);
    }
    *out = uv_buf_init((char *)link->data + link->size, (unsigned)suggested);
}

static void link_on_read(uv_stream_t *stream, ssize_t got, const uv_buf_t *buffer)
{
    (void)buffer;
    struct link *link = stream->data;
    if (got < 0) {
        _exit(0); /* the others were ended: so are we */
    }
    link->size += (size_t)got;
    size_t at = 0;
    while (link->size - at >= HEADER_BYTES) {
        const size_t size = get_le32(link->data + at);
        const size_t whole = HEADER_BYTES + ((size + 7) & ~(size_t)7);
        if (link->size - at < whole) {
            break;
        }
        message_to(link->id, bytes_of(link->data + at + HEADER_BYTES, size));
        at += whole;
    }
    memmove(link->data, link->data + at, link->size - at);
    link->size -= at;
}

void commit_links_open(uv_loop_t *loop, uint64_t self,
                       void (*on_message)(uint64_t from, struct bytes message))
{
    message_to = on_message;
    sockets_keep(self);
    for (uint64_t id = 1; id <= COMMIT_REPLICAS; id++) {
        if (id == self) {
            continue;
        }
        struct link *link = &links[id];
        link->id = id;
        if (over_tcp) {
            CHECK(uv_tcp_init(loop, &link->uv.tcp) == 0);
            CHECK(uv_tcp_open(&link->uv.tcp, sockets[self][id]) == 0);
        } else {
            CHECK(uv_pipe_init(loop, &link->uv.pipe, 0) == 0);
            CHECK(uv_pipe_open(&link->uv.pipe, sockets[self][id]) == 0);
        }
        link->uv.handle.data = link;
        CHECK(uv_read_start(&link->uv.stream, link_alloc, link_on_read) == 0);
    }
}
