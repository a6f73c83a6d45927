/* The edge's connection to one cloudcore: a WebSocket over mutual TLS, made when the core asks for it.
 *
 * One at a time: uplink_dial while one is open or being opened is the core's mistake. Messages are
 * Frames. on_down comes exactly once per dial, also when nothing was ever connected.
 */
#ifndef KELP_NODES_EDGE_UPLINK_H
#define KELP_NODES_EDGE_UPLINK_H

#include <uv.h>

#include "nodes/net/link_tls.h"
#include "nodes/net/websocket.h"
#include "schemas/bytes.h"

struct uplink_events {
    void (*on_up)(void *owner);
    /* A Frame, 8-byte aligned, borrowed during the call. */
    void (*on_frame)(void *owner, struct bytes frame);
    void (*on_writable)(void *owner);
    /* reason: a sentence, borrowed during the call; "" after an orderly end. */
    void (*on_down)(void *owner, int status, const char *reason);
};

struct uplink {
    uv_loop_t *loop;
    struct link_context *context;
    const struct uplink_events *events;
    void *owner;
    struct websocket *socket; /* NULL: down */
    bool leaving;
    uv_timer_t failed; /* a dial that failed at once is told from the loop, as all others are */
    int failed_status;
};

/* Memory of the caller. context (role LINK_DIAL) and events are borrowed until uplink_deinit. */
void uplink_init(struct uplink *uplink, uv_loop_t *loop, struct link_context *context,
                 const struct uplink_events *events, void *owner);
/* Connect. CHECKs that no connection is there. */
void uplink_dial(struct uplink *uplink, const char *host, uint16_t port);
/* 0; STATUS_FULL: not taken, on_writable follows; STATUS_CLOSING: on_down follows or came. */
int uplink_send(struct uplink *uplink, struct bytes frame);
bool uplink_room(const struct uplink *uplink);
/* Nothing is open, being opened or closing. */
bool uplink_is_down(const struct uplink *uplink);
/* Who is on the other side; from on_up on. Lent until on_down. */
const struct link_peer *uplink_peer(const struct uplink *uplink);
/* End at once; on_down follows. */
void uplink_drop(struct uplink *uplink);
/* End after what was sent; on_down follows. */
void uplink_leave(struct uplink *uplink);
/* Close the timer; the connection must be down. The memory is the caller's after one more turn. */
void uplink_deinit(struct uplink *uplink);

#endif
