/* WebSocket (RFC 6455) on a link: whole binary messages of up to LIMIT_WIRE_BYTES, both ways.
 *
 * Two layers. The core frames and unframes bytes, knows neither socket nor clock, and can be fuzzed. The
 * socket binds it to a link: pings after LIMIT_WEBSOCKET_PING_MS of silence, gives up after
 * LIMIT_WEBSOCKET_SILENCE_MS, and closes in order. Text messages are refused with close code 1003.
 */
#ifndef KELP_NODES_NET_WEBSOCKET_H
#define KELP_NODES_NET_WEBSOCKET_H

#include "nodes/net/http.h"

/* Close codes of RFC 6455 section 7.4.1. */
enum websocket_code {
    WEBSOCKET_CODE_NORMAL = 1000,
    WEBSOCKET_CODE_GOING_AWAY = 1001,
    WEBSOCKET_CODE_PROTOCOL = 1002,
    WEBSOCKET_CODE_UNSUPPORTED = 1003,
    WEBSOCKET_CODE_NONE = 1005,     /* a close frame without code; never sent */
    WEBSOCKET_CODE_ABNORMAL = 1006, /* no close frame came; never sent */
    WEBSOCKET_CODE_INVALID = 1007,
    WEBSOCKET_CODE_POLICY = 1008,
    WEBSOCKET_CODE_TOO_LARGE = 1009,
    WEBSOCKET_CODE_INTERNAL = 1011,
    WEBSOCKET_CODE_TRY_LATER = 1013,
};

/* -- core: bytes and messages ------------------------------------------------------------------ */

struct websocket_core;

struct websocket_core_events {
    /* A whole binary message, borrowed during the call. */
    void (*on_message)(struct bytes message, void *owner);
    /* The peer's close frame; the answer to it is already in the output. Nothing follows. */
    void (*on_close)(uint16_t code, struct bytes reason, void *owner);
    /* A pong came. May be NULL. */
    void (*on_pong)(void *owner);
    /* Fill `bytes` with unpredictable bytes: the masks of a client's frames. May be NULL at a server. */
    void (*on_mask)(uint8_t *bytes, size_t size, void *owner);
};

/* client: mask what is sent and expect unmasked frames; a server the other way round.
 * message_bytes_max: 1009 beyond. NULL: out of memory. Given to websocket_core_close. */
struct websocket_core *websocket_core_open(bool client, size_t message_bytes_max,
                                           const struct websocket_core_events *events, void *owner);
void websocket_core_close(struct websocket_core *core);

/* Take bytes from the peer, any cut; the events are called from inside. Answers to pings and close frames
 * appear in the output.
 *   answers  0; STATUS_MALFORMED, STATUS_TOO_LARGE: the peer broke the protocol, a close frame with the
 *            right code is in the output and nothing more is read
 */
int websocket_core_feed(struct websocket_core *core, struct bytes bytes);

/* Stop on_message: bytes fed meanwhile are kept. And go on: what was kept is handed over from inside, with
 * the answers of feed. */
void websocket_core_pause(struct websocket_core *core);
int websocket_core_resume(struct websocket_core *core);

/* Append frames to the output.
 *   answers  0; STATUS_TOO_LARGE; STATUS_CLOSING: a close frame was sent; -ENOMEM
 */
int websocket_core_send(struct websocket_core *core, struct bytes message);
int websocket_core_ping(struct websocket_core *core);
int websocket_core_leave(struct websocket_core *core, uint16_t code, const char *reason);

/* What must be sent, lent until the next call; and forget it. */
struct bytes websocket_core_output(const struct websocket_core *core);
void websocket_core_output_done(struct websocket_core *core);

/* Close frames went both ways. */
bool websocket_core_ended(const struct websocket_core *core);

/* The Sec-WebSocket-Accept for a Sec-WebSocket-Key; out holds 29 bytes with the terminator. */
void websocket_accept_key(const char *key, char *out);

/* -- socket ------------------------------------------------------------------------------------ */

struct websocket;

struct websocket_events {
    /* Dialed only: the server agreed. May be NULL. */
    void (*on_open)(struct websocket *socket, void *owner);
    /* A whole message, borrowed during the call. Never after websocket_pause. */
    void (*on_message)(struct websocket *socket, struct bytes message, void *owner);
    /* After websocket_send was answered STATUS_FULL. May be NULL. */
    void (*on_writable)(struct websocket *socket, void *owner);
    /* Exactly once, last. status 0: close frames were exchanged, `code` is the peer's; otherwise why it
     * ended (as link_events.on_close; a refused upgrade is STATUS_FOREIGN and the reason has the HTTP
     * status), code is WEBSOCKET_CODE_ABNORMAL. reason is borrowed during the call. */
    void (*on_close)(struct websocket *socket, int status, uint16_t code, const char *reason,
                     void *owner);
};

/* Is this request a WebSocket handshake of version 13? */
bool websocket_wanted(const struct http_request *request);

/* Server: agree to a handshake. On 0 the exchange is gone and the socket is open.
 *
 *   subprotocol  sent back as Sec-WebSocket-Protocol; NULL: none
 *   events       borrowed until on_close
 *   out          lent until on_close; untouched unless 0
 *   answers      0; STATUS_MALFORMED: not a handshake, -ENOMEM: the exchange is still to be answered;
 *                STATUS_CLOSING: the client is gone and so is the exchange
 */
int websocket_accept(struct http_exchange *exchange, const char *subprotocol,
                     const struct websocket_events *events, void *owner, struct websocket **out);

/* Client: connect, shake hands, upgrade at `target`. Parameters as link_dial.
 *   headers  added to the upgrade request; borrowed during the call
 */
int websocket_dial(uv_loop_t *loop, struct link_context *context, const char *host, uint16_t port,
                   const char *server_name, const char *target, const struct http_header *headers,
                   uint32_t headers_count, const struct websocket_events *events, void *owner,
                   struct websocket **out);

/* Who is on the other side. Lent until on_close. */
const struct link_peer *websocket_peer(const struct websocket *socket);

/* Send one binary message.
 *
 *   message  borrowed during the call; up to LIMIT_WIRE_BYTES, which is the caller's own claim
 *   answers  0; STATUS_FULL: not taken, on_writable follows; STATUS_CLOSING; -ENOMEM
 */
int websocket_send(struct websocket *socket, struct bytes message);
size_t websocket_queued_bytes(const struct websocket *socket);

/* Stop on_message and slow the peer down; and go on. No messages are lost. */
void websocket_pause(struct websocket *socket);
void websocket_resume(struct websocket *socket);

/* Leave in order: a close frame after what is queued; on_close follows when the peer has answered or
 * after LIMIT_LINK_SHUTDOWN_MS. reason up to 120 bytes, borrowed. */
void websocket_leave(struct websocket *socket, uint16_t code, const char *reason);

/* Leave at once; on_close follows with status 0. */
void websocket_close(struct websocket *socket);

#endif
