/* What link.c and link_listener.c share: the innards of a link and of its listener. link_tls.h is the
 * door; nobody else includes this.
 */
#ifndef KELP_NODES_NET_LINK_INNER_H
#define KELP_NODES_NET_LINK_INNER_H

#include "nodes/net/link_session.h"

#include <netdb.h>

enum link_state {
    LINK_CONNECTING, /* resolving, connecting */
    LINK_SHAKING,
    LINK_OPEN,
    LINK_REFUSING, /* the end is decided; an alert is on its way */
    LINK_ENDING,   /* handles are closing */
};

/* Plaintext waiting to be encrypted. */
struct link_chunk {
    struct link_chunk *next;
    size_t size;
    size_t used; /* encrypted already */
    uint8_t data[];
};

/* Ciphertext on its way to the kernel. */
struct link_flight {
    uv_write_t request;
    struct link *link;
    uint8_t *data;
    size_t size;
};

struct link {
    uv_tcp_t tcp;
    uv_timer_t timer;  /* handshake, shutdown, refusal: one at a time */
    uv_idle_t turn; /* runs before the loop sleeps, when there is something to do */
    uv_loop_t *loop;
    uint32_t handles_open;
    enum link_state state;

    uv_getaddrinfo_t resolve;
    bool resolving;
    struct addrinfo *addresses; /* given by libuv; NULL for a numeric host */
    struct addrinfo *address_next;
    uv_connect_t connect;
    bool retrying;    /* the tcp handle is closing to be used for the next address */
    char target[300]; /* "host:port", for messages */

    struct link_session *session; /* accepted: NULL until the first bytes */
    struct link_peer peer;
    const struct link_events *events;
    void *owner;
    struct link_listener *listener; /* NULL: dialed, or the listener is gone */
    struct link *listener_next;     /* all links of a listener */
    struct link *listener_before;
    bool handed_over; /* accepted: link_attach was called */

    bool shake_waiting; /* accepted: the peer's bytes are in `held` until link_shake_now */
    bool shake_begun;   /* and some were looked at before */
    struct link *shake_next;
    struct link *shake_before;

    struct link_chunk *queue_first;
    struct link_chunk *queue_last;
    size_t queued_bytes;
    size_t queue_limit; /* above it link_write answers STATUS_FULL */
    size_t flight_bytes;
    bool full_told; /* on_writable is owed */

    uint8_t *held; /* ciphertext that arrived and was not looked at, because we are paused */
    size_t held_bytes;
    bool reading;
    bool paused;
    bool resume_wanted;
    bool pumping; /* inside link_pump: no second one within */
    bool peer_ended;
    bool peer_ended_told;
    bool shutdown_wanted;
    bool shutdown_sent;
    uv_shutdown_t shutdown;

    int write_status; /* the first failed write; what the peer said before it is read first */
    int status;
    char reason[LINK_REASON_BYTES];
};

/* Links in the order they came. */
struct link_queue {
    struct link *first;
    struct link *last;
};

struct link_listener {
    uv_tcp_t tcp;
    uv_idle_t shaker; /* runs once per turn while handshakes wait */
    uint32_t handles_open;
    struct link_queue shakes_begun; /* half done: they go first */
    struct link_queue shakes_new;
    uv_loop_t *loop;
    const struct link_listener_events *events;
    void *owner;
    struct link_context *context;
    struct link *links;
    uint32_t links_count;
    uint32_t shaking_count; /* links that are not handed over: they need us to exist */
    bool draining; /* no longer listening, but handshakes go on */
    bool closing;
};

/* A link with open handles and no socket yet; NULL: out of memory. */
struct link *link_create(uv_loop_t *loop);
/* Its socket is connected: shake hands. */
void link_begin(struct link *link);
void link_start_timer(struct link *link, uint64_t ms);
/* The one way out. The first ending decides status and reason. */
void link_end(struct link *link, int status, const char *reason);
void link_end_errno(struct link *link, int status, const char *what);

/* Go on with a handshake whose bytes waited. */
void link_shake_now(struct link *link);
/* Have that done in one of the next turns. */
void link_shake_later(struct link *link);
/* The link is on its way out, or opened: nothing of it waits any more. */
void link_shake_forget(struct link *link);

/* The link is on its way out and no longer one of its listener's. */
void link_leave_listener(struct link *link);
/* Free the listener when its handles are closed and no handshake needs it. */
void link_listener_settle(struct link_listener *listener);

#endif
