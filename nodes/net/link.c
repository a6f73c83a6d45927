/* Links on libuv. The happy path of a dialed link:
 *
 *   1. the name is resolved, an address connected (link_connect), the next one on refusal
 *   2. link_shake until the session is open; the peer's identity is read; on_open
 *   3. what arrives is decrypted and handed over (link_pump); what is written waits in the queue and is
 *      encrypted at the end of the turn of the loop (link_turn), while little is in flight (link_flush)
 *   4. link_shutdown empties the queue, says our last byte, and waits for the peer's
 *
 * An accepted link begins at 2, where what its peer says waits for its turn: handshakes cost more than all
 * else here, and those who come back after the loss of a replica are thousands (link_listener.c). What can
 * fail: every one of these, at any time; all of it ends in link_end. A handshake that is refused first
 * sends its alert and lets the peer read it (LINK_REFUSING), since closing with unread bytes would make the
 * kernel throw the alert away.
 */
#include "nodes/net/link_inner.h"

#include "schemas/check.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

enum {
    LINK_REFUSAL_MS = 1000, /* for the peer to read our alert */
    LINK_KEEPALIVE_S = 15,
    LINK_KEEPALIVE_INTERVAL_S = 5,
    LINK_KEEPALIVE_PROBES = 3,
};

/* One loop, one thread: libuv asks for the buffer and fills it in one go, and link_pump has used it up
 * or copied the rest before it returns. */
static uint8_t link_socket_buffer[LIMIT_LINK_SOCKET_BYTES];
/* Likewise: small writes side by side, encrypted at once. */
static uint8_t link_record_buffer[LIMIT_LINK_READ_BYTES];

static void link_flush(struct link *link);
static void link_pump(struct link *link);
static void link_connect(struct link *link);

/* -- the way out ------------------------------------------------------------------------------- */

static void link_free(struct link *link)
{
    while (link->queue_first != NULL) {
        struct link_chunk *chunk = link->queue_first;
        link->queue_first = chunk->next;
        free(chunk);
    }
    if (link->addresses != NULL) {
        uv_freeaddrinfo(link->addresses);
    }
    link_session_close(link->session);
    free(link->held);
    free(link);
}

/* A handle or a pending resolution is gone; after the last one the owner hears of it. */
static void link_settle(struct link *link)
{
    CHECK(link->state == LINK_ENDING);
    CHECK(link->handles_open > 0);
    link->handles_open--;
    if (link->handles_open > 0) {
        return;
    }
    struct link_listener *const listener = link->listener;
    const bool shaking = listener != NULL && !link->handed_over;
    link_leave_listener(link);
    if (link->events != NULL) {
        link->events->on_close(link, link->status, link->reason, link->owner);
    } else if (shaking && link->status != 0 && listener->events->on_refused != NULL) {
        listener->events->on_refused(listener, link->peer.address, link->status, link->reason,
                                     listener->owner);
    }
    link_free(link);
    if (shaking) {
        CHECK(listener->shaking_count > 0);
        listener->shaking_count--;
        link_listener_settle(listener);
    }
}

static void link_on_close(uv_handle_t *handle)
{
    link_settle(handle->data);
}

/* The one way out. The first ending decides status and reason. */
void link_end(struct link *link, int status, const char *reason)
{
    if (link->state == LINK_ENDING) {
        return;
    }
    if (link->state != LINK_REFUSING) {
        link->status = status;
        snprintf(link->reason, sizeof link->reason, "%s", status == 0 ? "" : reason);
    }
    link->state = LINK_ENDING;
    link_shake_forget(link);
    if (link->resolving) {
        uv_cancel((uv_req_t *)&link->resolve); /* its callback comes either way */
    }
    if (!link->retrying) {
        uv_close((uv_handle_t *)&link->tcp, link_on_close);
    }
    uv_close((uv_handle_t *)&link->timer, link_on_close);
    uv_close((uv_handle_t *)&link->turn, link_on_close);
}

void link_end_errno(struct link *link, int status, const char *what)
{
    char reason[LINK_REASON_BYTES];
    snprintf(reason, sizeof reason, "%s: %s", what, uv_strerror(status));
    link_end(link, status, reason);
}

static void link_on_timer(uv_timer_t *timer)
{
    struct link *link = CONTAINER_OF(timer, struct link, timer);
    if (link->write_status != 0) {
        link_end_errno(link, link->write_status, "write");
        return;
    }
    switch (link->state) {
    case LINK_CONNECTING: {
        char reason[LINK_REASON_BYTES];
        snprintf(reason, sizeof reason, "no connection to %.180s within %u ms", link->target,
                 LIMIT_LINK_HANDSHAKE_MS);
        link_end(link, STATUS_TIMEOUT, reason);
        return;
    }
    case LINK_SHAKING:
        link_end(link, STATUS_TIMEOUT, "the handshake took too long");
        return;
    case LINK_OPEN:
        link_end(link, STATUS_TIMEOUT, "the peer did not end the connection after we did");
        return;
    case LINK_REFUSING:
        link_end(link, link->status, link->reason);
        return;
    case LINK_ENDING:
        return;
    }
}

void link_start_timer(struct link *link, uint64_t ms)
{
    CHECK(uv_timer_start(&link->timer, link_on_timer, ms, 0) == 0);
}

/* -- turns ------------------------------------------------------------------------------------- */

static void link_turn(uv_idle_t *turn)
{
    struct link *link = CONTAINER_OF(turn, struct link, turn);
    uv_idle_stop(turn);
    if (link->resume_wanted) {
        link->resume_wanted = false;
        if (!link->paused) {
            link_pump(link);
        }
    }
    link_flush(link);
}

/* Have link_turn called before the loop sleeps. An idle handle and no prepare handle: of those, the ones that are
 * started by another one run a turn later only, and the loop would sleep until then, with all that the cores send
 * at the end of a turn. */
static void link_want_turn(struct link *link)
{
    if (link->state != LINK_ENDING) {
        uv_idle_start(&link->turn, link_turn);
    }
}

/* -- writing ----------------------------------------------------------------------------------- */

/* What the peer said before it stopped listening explains a failed write: read it first. */
static void link_fail_write(struct link *link, int status)
{
    if (link->state == LINK_ENDING || link->write_status != 0) {
        return;
    }
    if (!link->reading) {
        link_end_errno(link, status, "write");
        return;
    }
    link->write_status = status;
    link_start_timer(link, LINK_REFUSAL_MS);
}

static void link_on_write(uv_write_t *request, int status)
{
    struct link_flight *flight = CONTAINER_OF(request, struct link_flight, request);
    struct link *link = flight->link;
    CHECK(link->flight_bytes >= flight->size);
    link->flight_bytes -= flight->size;
    free(flight->data);
    free(flight);
    if (link->state == LINK_ENDING) {
        return;
    }
    if (status != 0) {
        link_fail_write(link, status);
        return;
    }
    link_flush(link);
}

static void link_on_shutdown(uv_shutdown_t *request, int status)
{
    (void)request;
    (void)status; /* reading goes on until the peer ends or the timer does */
}

/* Hand the session's ciphertext to the kernel. */
static void link_send_output(struct link *link)
{
    size_t size = 0;
    uint8_t *data = link_session_take_output(link->session, &size);
    if (data == NULL) {
        return;
    }
    struct link_flight *flight = link->write_status == 0 ? malloc(sizeof *flight) : NULL;
    if (flight == NULL) {
        free(data);
        if (link->write_status == 0) {
            link_end(link, -ENOMEM, "out of memory");
        }
        return;
    }
    flight->link = link;
    flight->data = data;
    flight->size = size;
    const uv_buf_t buffer = uv_buf_init((char *)data, (unsigned)size);
    const int status =
        uv_write(&flight->request, (uv_stream_t *)&link->tcp, &buffer, 1, link_on_write);
    if (status != 0) {
        free(data);
        free(flight);
        link_fail_write(link, status);
        return;
    }
    link->flight_bytes += size;
}

/* What leaves next, as one TLS record. Small writes share one: a record costs as much as some
 * hundred bytes do, and a cloudcore sends a head and a small message many times a turn. */
static struct bytes link_record_next(const struct link *link)
{
    const struct link_chunk *chunk = link->queue_first;
    const size_t left = chunk->size - chunk->used;
    if (left >= LIMIT_LINK_READ_BYTES) {
        return bytes_of(chunk->data + chunk->used, LIMIT_LINK_READ_BYTES);
    }
    if (chunk->next == NULL) {
        return bytes_of(chunk->data + chunk->used, left);
    }
    size_t size = 0;
    for (; chunk != NULL && size < LIMIT_LINK_READ_BYTES; chunk = chunk->next) {
        size_t taken = chunk->size - chunk->used;
        if (taken > LIMIT_LINK_READ_BYTES - size) {
            taken = LIMIT_LINK_READ_BYTES - size;
        }
        memcpy(link_record_buffer + size, chunk->data + chunk->used, taken);
        size += taken;
    }
    return bytes_of(link_record_buffer, size);
}

/* The first `size` bytes of the queue are encrypted. */
static void link_queue_drop(struct link *link, size_t size)
{
    CHECK(link->queued_bytes >= size);
    link->queued_bytes -= size;
    while (size > 0) {
        struct link_chunk *chunk = link->queue_first;
        const size_t left = chunk->size - chunk->used;
        if (size < left) {
            chunk->used += size;
            return;
        }
        size -= left;
        link->queue_first = chunk->next;
        if (link->queue_first == NULL) {
            link->queue_last = NULL;
        }
        free(chunk);
    }
}

/* Encrypt from the queue while little is in flight. */
static void link_encrypt(struct link *link)
{
    while (link->queue_first != NULL && link->state == LINK_OPEN &&
           link->flight_bytes + link_session_output_bytes(link->session) <
               LIMIT_LINK_FLIGHT_BYTES) {
        const struct bytes record = link_record_next(link);
        if (!link_session_write(link->session, record)) {
            char reason[LINK_REASON_BYTES];
            const int status = link_session_failure(link->session, reason);
            link_end(link, status, reason);
            return;
        }
        link_queue_drop(link, record.size);
    }
}

/* Move everything outward that can move, and tell the owner what became possible. */
static void link_flush(struct link *link)
{
    if (link->state == LINK_ENDING || link->state == LINK_CONNECTING) {
        return;
    }
    link_encrypt(link);
    if (link->state == LINK_OPEN && link->shutdown_wanted && !link->shutdown_sent &&
        link->queue_first == NULL) {
        link->shutdown_sent = true;
        link_session_end(link->session);
        link_send_output(link);
        if (link->state == LINK_OPEN && link->write_status == 0) {
            uv_shutdown(&link->shutdown, (uv_stream_t *)&link->tcp, link_on_shutdown);
        }
    }
    if (link->state != LINK_ENDING) {
        link_send_output(link);
    }
    if (link->state == LINK_OPEN && link->shutdown_sent && link->peer_ended &&
        link->flight_bytes == 0) {
        link_end(link, 0, "");
        return;
    }
    if (link->state == LINK_OPEN && link->full_told && !link->shutdown_wanted &&
        link->queued_bytes <= link->queue_limit / 2) {
        link->full_told = false;
        if (link->events->on_writable != NULL) {
            link->events->on_writable(link, link->owner);
        }
    }
}

int link_write(struct link *link, struct bytes bytes)
{
    CHECK(bytes.size <= LIMIT_LINK_WRITE_BYTES);
    if (link->state != LINK_OPEN || link->shutdown_wanted || link->write_status != 0) {
        return STATUS_CLOSING;
    }
    if (link->queued_bytes >= link->queue_limit) {
        link->full_told = true;
        return STATUS_FULL;
    }
    if (bytes.size == 0) {
        return 0;
    }
    struct link_chunk *chunk = malloc(sizeof *chunk + bytes.size);
    if (chunk == NULL) {
        link->full_told = true;
        link_want_turn(link);
        return STATUS_FULL;
    }

    chunk->next = NULL;
    chunk->size = bytes.size;
    chunk->used = 0;
    memcpy(chunk->data, bytes.data, bytes.size);
    if (link->queue_last == NULL) {
        link->queue_first = chunk;
    } else {
        link->queue_last->next = chunk;
    }
    link->queue_last = chunk;
    link->queued_bytes += bytes.size;
    link_want_turn(link);
    return 0;
}

size_t link_queued_bytes(const struct link *link)
{
    return link->queued_bytes;
}

void link_limit_queue(struct link *link, size_t bytes)
{
    CHECK(bytes > 0);
    link->queue_limit = bytes;
}

/* -- reading ----------------------------------------------------------------------------------- */

static void link_on_allocate(uv_handle_t *handle, size_t size, uv_buf_t *out)
{
    (void)size;
    const struct link *link = handle->data;
    const bool waits = link->state == LINK_SHAKING && link->listener != NULL;
    *out = uv_buf_init((char *)link_socket_buffer,
                       waits ? LIMIT_LINK_SHAKING_BYTES : (unsigned)sizeof link_socket_buffer);
}

/* The handshake, or a later record, was refused: remember why, let the alert go out, and leave a moment later. */
static void link_refuse_peer(struct link *link, int status, const char *reason)
{
    link->status = status;
    snprintf(link->reason, sizeof link->reason, "%s", reason);
    link->state = LINK_REFUSING;
    link_send_output(link);
    if (link->state != LINK_REFUSING) {
        return;
    }
    if (!link->shutdown_sent) {
        link->shutdown_sent = true;
        uv_shutdown(&link->shutdown, (uv_stream_t *)&link->tcp, link_on_shutdown);
    }
    link_start_timer(link, LINK_REFUSAL_MS);
}

static void link_opened(struct link *link)
{
    char reason[LINK_REASON_BYTES];
    const int status = link_session_peer(link->session, &link->peer, reason);
    if (status != 0) {
        link_session_end(link->session);
        link_refuse_peer(link, status, reason);
        return;
    }
    uv_timer_stop(&link->timer);
    link->state = LINK_OPEN;
    link_send_output(link); /* our last word of the handshake, before anybody writes */
    if (link->state != LINK_OPEN) {
        return;
    }
    if (link->listener == NULL) {
        if (link->events->on_open != NULL) {
            link->events->on_open(link, link->owner);
        }
        return;
    }
    struct link_listener *const listener = link->listener;
    if (listener->closing) {
        link_end(link, 0, "");
        return;
    }
    listener->events->on_link(listener, link, listener->owner);
    CHECK(link->handed_over || link->state == LINK_ENDING);
}

/* The peer said its last byte. */
static void link_peer_ended(struct link *link)
{
    link->peer_ended = true;
    if (link->shutdown_wanted || link->peer_ended_told) {
        link_want_turn(link);
        return;
    }
    link->peer_ended_told = true;
    if (link->events->on_end != NULL) {
        link->events->on_end(link, link->owner);
    } else {
        link_shutdown(link);
    }
}

/* One step inward; false: no more for now. */
static bool link_pump_step(struct link *link)
{
    char reason[LINK_REASON_BYTES];
    uint8_t plaintext[LIMIT_LINK_READ_BYTES];
    size_t size = 0;
    const bool shaking = link->state == LINK_SHAKING;
    const enum link_step step =
        shaking ? link_session_shake(link->session)
                : link_session_read(link->session, plaintext, sizeof plaintext, &size);
    switch (step) {
    case LINK_STEP_MORE:
        return false;
    case LINK_STEP_OPEN:
        link_opened(link);
        return true;
    case LINK_STEP_BYTES:
        link->events->on_bytes(link, bytes_of(plaintext, size), link->owner);
        return true;
    case LINK_STEP_END:
        link_peer_ended(link);
        return false;
    case LINK_STEP_FAILED: {
        const int status = link_session_failure(link->session, reason);
        link_refuse_peer(link, status, reason);
        return false;
    }
    }
    CHECK(false);
    return false;
}

/* Keep ciphertext for after link_resume. */
static void link_hold(struct link *link, struct bytes rest)
{
    if (rest.size > 0) {
        uint8_t *held = malloc(rest.size);
        if (held == NULL) {
            link_end(link, -ENOMEM, "out of memory");
            return;
        }
        memcpy(held, rest.data, rest.size);
        free(link->held);
        link->held = held;
    } else {
        free(link->held);
        link->held = NULL;
    }
    link->held_bytes = rest.size;
    link_session_feed(link->session, bytes_of(link->held, link->held_bytes));
}

static void link_on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer);

/* Reading from the socket is on while the owner wants bytes and none are held back. */
static void link_steer_reading(struct link *link)
{
    if (link->state == LINK_ENDING || link->state == LINK_CONNECTING) {
        return;
    }
    const bool want = !link->shake_waiting &&
                      (link->state != LINK_OPEN || (!link->paused && link->held_bytes == 0));
    if (want && !link->reading) {
        const int status = uv_read_start((uv_stream_t *)&link->tcp, link_on_allocate, link_on_read);
        if (status != 0) {
            link_end_errno(link, status, "read");
            return;
        }
        link->reading = true;
    } else if (!want && link->reading) {
        uv_read_stop((uv_stream_t *)&link->tcp);
        link->reading = false;
    }
}

/* Decrypt and hand over what the session was fed, until it is used up or the owner pauses. */
static void link_pump(struct link *link)
{
    CHECK(!link->pumping);
    link->pumping = true;
    while ((link->state == LINK_SHAKING || (link->state == LINK_OPEN && !link->paused)) &&
           !link->peer_ended && link_pump_step(link)) {
    }
    link->pumping = false;
    if (link->state == LINK_SHAKING || link->state == LINK_OPEN) {
        link_hold(link, link->peer_ended ? bytes_of(NULL, 0) : link_session_input(link->session));
    }
    link_steer_reading(link);
    link_flush(link);
}

/* The peer's TCP ended, or broke. */
static void link_read_ended(struct link *link, int status)
{
    if (link->state == LINK_REFUSING) {
        link_end(link, link->status, link->reason);
    } else if (status == UV_EOF && link->peer_ended) {
        uv_read_stop((uv_stream_t *)&link->tcp);
        link->reading = false;
        if (link->shutdown_sent) {
            link_end(link, 0, ""); /* nobody is left to take what may still be in flight */
        }
    } else if (status == UV_EOF) {
        link_end(link, -ECONNRESET,
                 link->state == LINK_SHAKING ? "the peer closed the connection during the handshake"
                                             : "the peer closed the connection without a goodbye");
    } else {
        link_end_errno(link, status, "read");
    }
}

/* A client began to speak: only now it costs what a session costs (measured: 58 KB). */
static bool link_accept_session(struct link *link)
{
    link->session = link_session_open(link->listener->context, NULL);
    if (link->session == NULL) {
        link_end(link, -ENOMEM, "out of memory");
    }
    return link->session != NULL;
}

/* The peer went on with its handshake: keep what it said, and read no more before that was looked at. */
static void link_wait_to_shake(struct link *link, struct bytes bytes)
{
    link->held = malloc(bytes.size);
    if (link->held == NULL) {
        link_end(link, -ENOMEM, "out of memory");
        return;
    }
    memcpy(link->held, bytes.data, bytes.size);
    link->held_bytes = bytes.size;
    link_shake_later(link);
    link_steer_reading(link);
}

/* A peer that gave up while its first words waited is not worth a handshake. Later ones may carry all that it
 * has to say, and its goodbye. */
static bool link_peer_gone(const struct link *link)
{
    uv_os_fd_t file;
    uint8_t byte;
    return uv_fileno((const uv_handle_t *)&link->tcp, &file) == 0 &&
           recv(file, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

void link_shake_now(struct link *link)
{
    CHECK(link->state == LINK_SHAKING);
    CHECK(!link->shake_waiting);
    if (link->session == NULL && link_peer_gone(link)) {
        link_end(link, -ECONNRESET, "the peer closed the connection during the handshake");
        return;
    }
    if (link->session == NULL && !link_accept_session(link)) {
        return;
    }
    link->shake_begun = true;
    link_session_feed(link->session, bytes_of(link->held, link->held_bytes));
    link_pump(link);
}

static void link_on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer)
{
    struct link *link = stream->data;
    if (size < 0) {
        link_read_ended(link, (int)size);
        return;
    }
    if (size == 0 || link->state == LINK_REFUSING || link->peer_ended) {
        return; /* nothing, or nothing that we still want to hear */
    }
    CHECK(link->held_bytes == 0);
    if (link->state == LINK_SHAKING && link->listener != NULL) {
        link_wait_to_shake(link, bytes_of(buffer->base, (size_t)size));
        return;
    }
    link_session_feed(link->session, bytes_of(buffer->base, (size_t)size));
    link_pump(link);
}

/* -- beginnings -------------------------------------------------------------------------------- */

struct link *link_create(uv_loop_t *loop)
{
    struct link *link = calloc(1, sizeof *link);
    if (link == NULL) {
        return NULL;
    }
    link->loop = loop;
    link->queue_limit = LIMIT_LINK_QUEUE_BYTES;
    CHECK(uv_tcp_init(loop, &link->tcp) == 0);
    CHECK(uv_timer_init(loop, &link->timer) == 0);
    CHECK(uv_idle_init(loop, &link->turn) == 0);
    link->tcp.data = link;
    link->timer.data = link;
    link->turn.data = link;
    link->handles_open = 3;
    return link;
}

/* Options of the socket; a kernel that refuses one of them only makes us slower to notice. */
static void link_tune(struct link *link)
{
    uv_tcp_nodelay(&link->tcp, 1);
    uv_tcp_keepalive(&link->tcp, 1, LINK_KEEPALIVE_S);
    uv_os_fd_t file;
    if (uv_fileno((uv_handle_t *)&link->tcp, &file) == 0) {
        const int interval_s = LINK_KEEPALIVE_INTERVAL_S, probes = LINK_KEEPALIVE_PROBES;
        const unsigned stall_ms = LIMIT_LINK_STALL_MS;
        setsockopt(file, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s);
        setsockopt(file, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
        setsockopt(file, IPPROTO_TCP, TCP_USER_TIMEOUT, &stall_ms, sizeof stall_ms);
    }
}

static void link_print_address(const struct sockaddr_storage *address, char *out, size_t size)
{
    char host[INET6_ADDRSTRLEN] = "?";
    if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;
        uv_ip6_name(in6, host, sizeof host);
        snprintf(out, size, "[%s]:%u", host, (unsigned)ntohs(in6->sin6_port));
    } else {
        const struct sockaddr_in *in4 = (const struct sockaddr_in *)address;
        uv_ip4_name(in4, host, sizeof host);
        snprintf(out, size, "%s:%u", host, (unsigned)ntohs(in4->sin_port));
    }
}

/* The socket is connected: shake hands. */
void link_begin(struct link *link)
{
    struct sockaddr_storage address = {0};
    int size = (int)sizeof address;
    if (uv_tcp_getpeername(&link->tcp, (struct sockaddr *)&address, &size) == 0) {
        link_print_address(&address, link->peer.address, sizeof link->peer.address);
    }
    link_tune(link);
    link->state = LINK_SHAKING;
    if (link->session == NULL) {
        link_steer_reading(link); /* accepted: the client speaks first */
    } else {
        link_pump(link);
    }
}

static void link_on_retry(uv_handle_t *handle)
{
    struct link *link = handle->data;
    link->retrying = false;
    if (link->state == LINK_ENDING) {
        link_settle(link);
        return;
    }
    CHECK(uv_tcp_init(link->loop, &link->tcp) == 0);
    link->tcp.data = link;
    link_connect(link);
}

/* This address does not answer: the next one, or the end. */
static void link_connect_failed(struct link *link, int status)
{
    if (link->address_next != NULL) {
        link->retrying = true;
        uv_close((uv_handle_t *)&link->tcp, link_on_retry);
        return;
    }
    char reason[LINK_REASON_BYTES];
    snprintf(reason, sizeof reason, "connect to %.180s: %s", link->target, uv_strerror(status));
    link_end(link, status, reason);
}

static void link_on_connect(uv_connect_t *request, int status)
{
    struct link *link = CONTAINER_OF(request, struct link, connect);
    if (link->state == LINK_ENDING || link->retrying) {
        return;
    }
    if (status != 0) {
        link_connect_failed(link, status);
        return;
    }
    link_begin(link);
}

static void link_connect(struct link *link)
{
    CHECK(link->address_next != NULL);
    const struct sockaddr *const address = link->address_next->ai_addr;
    link->address_next = link->address_next->ai_next;
    const int status = uv_tcp_connect(&link->connect, &link->tcp, address, link_on_connect);
    if (status != 0) {
        link_connect_failed(link, status);
    }
}

static void link_on_resolve(uv_getaddrinfo_t *request, int status, struct addrinfo *addresses)
{
    struct link *link = CONTAINER_OF(request, struct link, resolve);
    link->resolving = false;
    link->addresses = addresses;
    if (link->state == LINK_ENDING) {
        link_settle(link);
        return;
    }
    CHECK(link->handles_open > 0);
    link->handles_open--;
    if (status != 0) {
        char reason[LINK_REASON_BYTES];
        snprintf(reason, sizeof reason, "resolve %.180s: %s", link->target, uv_strerror(status));
        link_end(link, status, reason);
        return;
    }
    link->address_next = addresses;
    link_connect(link);
}

int link_dial(uv_loop_t *loop, struct link_context *context, const char *host, uint16_t port,
              const char *server_name, const struct link_events *events, void *owner,
              struct link **out_link)
{
    CHECK(link_context_role(context) == LINK_DIAL || link_context_role(context) == LINK_DIAL_ANY);
    if (host == NULL || host[0] == '\0' || strlen(host) > LIMIT_NAME_BYTES || port == 0) {
        return STATUS_MALFORMED;
    }
    struct link *link = link_create(loop);
    if (link == NULL) {
        return -ENOMEM;
    }
    link->state = LINK_CONNECTING;
    link->events = events;
    link->owner = owner;
    snprintf(link->target, sizeof link->target, "%s:%u", host, (unsigned)port);
    link_start_timer(link, LIMIT_LINK_HANDSHAKE_MS);
    *out_link = link;

    link->session = link_session_open(context, server_name == NULL ? host : server_name);
    if (link->session == NULL) {
        link_end(link, -ENOMEM, "out of memory");
        return 0;
    }
    char service[8];
    snprintf(service, sizeof service, "%u", (unsigned)port);
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    const int status = uv_getaddrinfo(loop, &link->resolve, link_on_resolve, host, service, &hints);
    if (status != 0) {
        link_end_errno(link, status, "resolve");
        return 0;
    }
    link->resolving = true;
    link->handles_open++;
    return 0;
}

void link_attach(struct link *link, const struct link_events *events, void *owner)
{
    CHECK(events != NULL);
    CHECK(events->on_bytes != NULL);
    CHECK(events->on_close != NULL);
    link->events = events;
    link->owner = owner;
    if (link->listener != NULL && !link->handed_over) {
        link->handed_over = true;
        CHECK(link->listener->shaking_count > 0);
        link->listener->shaking_count--;
    }
}

const struct link_peer *link_peer(const struct link *link)
{
    return &link->peer;
}

uv_loop_t *link_loop(const struct link *link)
{
    return link->loop;
}

void link_pause(struct link *link)
{
    link->paused = true;
    if (!link->pumping) {
        link_steer_reading(link);
    }
}

void link_resume(struct link *link)
{
    if (!link->paused) {
        return;
    }
    link->paused = false;
    link->resume_wanted = true;
    link_want_turn(link);
}

void link_shutdown(struct link *link)
{
    if (link->shutdown_wanted || link->state == LINK_ENDING || link->state == LINK_REFUSING) {
        return;
    }
    if (link->state != LINK_OPEN) {
        link_end(link, 0, "");
        return;
    }
    link->shutdown_wanted = true;
    if (link->paused) {
        link_resume(link); /* or the peer's end would never be seen */
    }
    if (link->write_status == 0) {
        link_start_timer(link, LIMIT_LINK_SHUTDOWN_MS);
    }
    link_want_turn(link);
}

void link_close(struct link *link)
{
    link_end(link, 0, "");
}

void link_fail(struct link *link, int status, const char *reason)
{
    CHECK(status < 0);
    link_end(link, status, reason);
}
