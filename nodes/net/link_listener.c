/* The listening half of links. Steps of an accepted one:
 *
 *   1. it is counted, and refused where there is no room: connections of this listener, those that have not
 *      shaken hands, and files of this process (what the disk needs is kept back)
 *   2. it shakes hands (link.c), a step whenever its peer has said something, and all of them together
 *      for LINK_SHAKE_MS of each turn of the loop: those that are half done first, then in the order they
 *      came. So when thousands come at once some are done after each turn, instead of all too late, and
 *      what else this loop has to do (other listeners', elections) waits no longer than that
 *   3. on_link: somebody attaches; from then on it needs the listener no more
 *
 * What can fail: accepting, and every handshake; the owner hears of it in on_refused.
 */
#include "nodes/net/link_inner.h"

#include "schemas/check.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    LINK_BACKLOG =
        4096, /* the kernel's own bound by default: a thousand may come within one turn */
    LINK_SHAKE_MS = 10,
};

/* -- whose turn it is -------------------------------------------------------------------------- */

static struct link_queue *link_queue_of(struct link *link)
{
    return link->shake_begun ? &link->listener->shakes_begun : &link->listener->shakes_new;
}

void link_shake_forget(struct link *link)
{
    if (!link->shake_waiting) {
        return;
    }
    struct link_queue *queue = link_queue_of(link);
    if (link->shake_before != NULL) {
        link->shake_before->shake_next = link->shake_next;
    } else {
        queue->first = link->shake_next;
    }
    if (link->shake_next != NULL) {
        link->shake_next->shake_before = link->shake_before;
    } else {
        queue->last = link->shake_before;
    }
    link->shake_before = NULL;
    link->shake_next = NULL;
    link->shake_waiting = false;
}

static void link_listener_on_shaker(uv_idle_t *shaker)
{
    struct link_listener *listener = shaker->data;
    const uint64_t end_ns = uv_hrtime() + LINK_SHAKE_MS * UINT64_C(1000000);
    do {
        struct link *link = listener->shakes_begun.first != NULL ? listener->shakes_begun.first
                                                                 : listener->shakes_new.first;
        if (link == NULL) {
            uv_idle_stop(shaker);
            return;
        }
        link_shake_forget(link);
        link_shake_now(link);
    } while (uv_hrtime() < end_ns && !listener->closing);
}

void link_shake_later(struct link *link)
{
    CHECK(!link->shake_waiting);
    struct link_queue *queue = link_queue_of(link);
    link->shake_waiting = true;
    link->shake_before = queue->last;
    if (queue->last != NULL) {
        queue->last->shake_next = link;
    } else {
        queue->first = link;
    }
    queue->last = link;
    if (!link->listener->closing) {
        uv_idle_start(&link->listener->shaker, link_listener_on_shaker);
    }
}

/* -- the end ----------------------------------------------------------------------------------- */

void link_leave_listener(struct link *link)
{
    struct link_listener *listener = link->listener;
    if (listener == NULL) {
        return;
    }
    if (link->listener_before != NULL) {
        link->listener_before->listener_next = link->listener_next;
    } else {
        CHECK(listener->links == link);
        listener->links = link->listener_next;
    }
    if (link->listener_next != NULL) {
        link->listener_next->listener_before = link->listener_before;
    }
    CHECK(listener->links_count > 0);
    listener->links_count--;
    link->listener = NULL;
}

static void link_listener_on_close(uv_handle_t *handle);

/* The listener's memory goes when its handles are closed and no handshake needs it. */
void link_listener_settle(struct link_listener *listener)
{
    if (listener->draining && listener->handles_open == 1 && listener->shaking_count == 0 &&
        !uv_is_closing((const uv_handle_t *)&listener->shaker)) {
        uv_close((uv_handle_t *)&listener->shaker, link_listener_on_close); /* the last one has shaken hands */
    }
    if (listener->handles_open > 0 || listener->shaking_count > 0) {
        return;
    }
    for (struct link *link = listener->links; link != NULL; link = link->listener_next) {
        link->listener = NULL;
    }
    const struct link_listener_events *const events = listener->events;
    void *const owner = listener->owner;
    link_context_close(listener->context);
    free(listener);
    if (events->on_close != NULL) {
        events->on_close(owner);
    }
}

static void link_listener_on_close(uv_handle_t *handle)
{
    struct link_listener *listener = handle->data;
    CHECK(listener->handles_open > 0);
    listener->handles_open--;
    link_listener_settle(listener);
}

static void link_listener_end(struct link_listener *listener)
{
    if (!listener->draining) {
        uv_close((uv_handle_t *)&listener->tcp, link_listener_on_close);
    }
    if (!uv_is_closing((const uv_handle_t *)&listener->shaker)) {
        uv_close((uv_handle_t *)&listener->shaker, link_listener_on_close);
    }
}

/* -- beginnings -------------------------------------------------------------------------------- */

static void link_listener_refuse(struct link_listener *listener, const char *address, int status,
                                 const char *reason)
{
    if (listener->events->on_refused != NULL) {
        listener->events->on_refused(listener, address, status, reason, listener->owner);
    }
}

/* Files get the lowest free number, so the number of a new one says how full the table is. What is kept
 * back is for the log and the store: without a file they could only end the process. */
static bool link_files_short(const struct link *link)
{
    struct rlimit limit;
    uv_os_fd_t file;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 ||
        uv_fileno((const uv_handle_t *)&link->tcp, &file) != 0) {
        return false;
    }
    const rlim_t reserve =
        limit.rlim_cur / 2 < LIMIT_FILES_RESERVED ? limit.rlim_cur / 2 : LIMIT_FILES_RESERVED;
    return (rlim_t)file >= limit.rlim_cur - reserve;
}

/* One more connection.
 *   file   accepted already; negative: it waits in the stream */
static void link_listener_take(struct link_listener *listener, uv_os_sock_t file)
{
    struct link *link = link_create(listener->loop);
    if (link == NULL) {
        link_listener_refuse(listener, "", -ENOMEM, "out of memory");
        if (file >= 0) {
            close(file);
        }
        return;
    }
    link->listener = listener;
    link->listener_next = listener->links;
    if (listener->links != NULL) {
        listener->links->listener_before = link;
    }
    listener->links = link;
    listener->links_count++;
    listener->shaking_count++;
    link->state = LINK_CONNECTING;

    const int status =
        file < 0 ? uv_accept((uv_stream_t *)&listener->tcp, (uv_stream_t *)&link->tcp)
                 : uv_tcp_open(&link->tcp, file);
    if (status != 0) {
        link_end_errno(link, status, "accept");
        return;
    }
    if (listener->links_count > (link_context_role(listener->context) == LINK_LISTEN_REQUEST
                                     ? LIMIT_LINKS_OPEN
                                     : LIMIT_LINKS)) {
        link_end(link, STATUS_FULL, "too many connections");
        return;
    }
    if (listener->shaking_count > LIMIT_LINKS_SHAKING) {
        link_end(link, STATUS_FULL, "too many connections that have not shaken hands");
        return;
    }
    if (link_files_short(link)) {
        link_end(link, STATUS_FULL,
                 "this process may not open many more files: raise RLIMIT_NOFILE");
        return;
    }
    link_start_timer(link, LIMIT_LINK_HANDSHAKE_MS);
    link_begin(link);
}

static void link_listener_on_connection(uv_stream_t *stream, int status)
{
    struct link_listener *listener = stream->data;
    if (status != 0) {
        link_listener_refuse(listener, "", status, uv_strerror(status));
        return;
    }
    link_listener_take(listener, -1);
}

int link_listener_open(uv_loop_t *loop, struct link_context *context, const char *address,
                       uint16_t port, const struct link_listener_events *events, void *owner,
                       struct link_listener **out, char *reason)
{
    CHECK(link_context_role(context) != LINK_DIAL && link_context_role(context) != LINK_DIAL_ANY);
    struct sockaddr_storage socket_address = {0};
    if (uv_ip4_addr(address, port, (struct sockaddr_in *)&socket_address) != 0 &&
        uv_ip6_addr(address, port, (struct sockaddr_in6 *)&socket_address) != 0) {
        snprintf(reason, LINK_REASON_BYTES, "'%.64s' is not an address to listen on", address);
        return STATUS_MALFORMED;
    }
    struct link_listener *listener = calloc(1, sizeof *listener);
    if (listener == NULL) {
        snprintf(reason, LINK_REASON_BYTES, "out of memory");
        return -ENOMEM;
    }
    listener->loop = loop;
    listener->events = events;
    listener->owner = owner;
    listener->context = link_context_keep(context);
    CHECK(uv_tcp_init(loop, &listener->tcp) == 0);
    CHECK(uv_idle_init(loop, &listener->shaker) == 0);
    listener->tcp.data = listener;
    listener->shaker.data = listener;
    listener->handles_open = 2;
    int status = uv_tcp_bind(&listener->tcp, (const struct sockaddr *)&socket_address, 0);
    if (status == 0) {
        status =
            uv_listen((uv_stream_t *)&listener->tcp, LINK_BACKLOG, link_listener_on_connection);
    }
    if (status != 0) {
        static const struct link_listener_events nobody = {.on_close = NULL};
        listener->events = &nobody;
        link_listener_end(listener);
        snprintf(reason, LINK_REASON_BYTES, "listen on %.64s port %u: %s", address, (unsigned)port,
                 uv_strerror(status));
        return status;
    }
    *out = listener;
    return 0;
}

uint16_t link_listener_port(const struct link_listener *listener)
{
    struct sockaddr_storage address = {0};
    int size = (int)sizeof address;
    CHECK(uv_tcp_getsockname(&listener->tcp, (struct sockaddr *)&address, &size) == 0);
    return ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&address)->sin6_port
                                               : ((struct sockaddr_in *)&address)->sin_port);
}

void link_listener_renew(struct link_listener *listener, struct link_context *context)
{
    CHECK(link_context_role(context) == link_context_role(listener->context));
    link_context_close(listener->context);
    listener->context = link_context_keep(context);
}

/* Closing a listening socket resets what the kernel has accepted and we have not: a client would hear an
 * error where the next address would have served it. */
void link_listener_drain(struct link_listener *listener)
{
    if (listener->draining || listener->closing) {
        return;
    }
    listener->draining = true;
    uv_os_fd_t listening;
    CHECK(uv_fileno((const uv_handle_t *)&listener->tcp, &listening) == 0);
    for (int i = 0; i < LINK_BACKLOG; i++) {
        const int file = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (file < 0) {
            break;
        }
        link_listener_take(listener, file);
    }
    uv_close((uv_handle_t *)&listener->tcp, link_listener_on_close);
}

void link_listener_close(struct link_listener *listener)
{
    if (listener->closing) {
        return;
    }
    listener->closing = true;
    link_listener_end(listener);
    for (struct link *link = listener->links, *next; link != NULL; link = next) {
        next = link->listener_next;
        if (!link->handed_over) {
            link_end(link, 0, "");
        }
    }
}
