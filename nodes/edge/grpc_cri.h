/* A gRPC client for unary calls over a unix socket: HTTP/2 by nghttp2, the socket by libuv.
 *
 * One connection. A call that finds none dials at once; calls wait for the dial and fail together
 * with it, so that a caller hears of a dead runtime within a millisecond. After a failed dial or a
 * lost connection with calls waiting, the next dial is GRPC_BACKOFF_MIN_MS later, doubling to
 * GRPC_BACKOFF_MAX_MS, unless a new call dials earlier. A GOAWAY lets the calls under way finish
 * and sends later calls over a new connection.
 *
 * Every accepted call is answered exactly once, from the loop, never from inside grpc_call or
 * grpc_cancel, grpc_close included. The process must ignore SIGPIPE.
 */
#ifndef KELP_NODES_EDGE_GRPC_CRI_H
#define KELP_NODES_EDGE_GRPC_CRI_H

#include "schemas/bytes.h"

#include <uv.h>

#define GRPC_BACKOFF_MIN_MS 20u
#define GRPC_BACKOFF_MAX_MS 2500u

/* The status codes of the protocol, as far as anyone here decides by them. */
enum grpc_code {
    GRPC_OK = 0,
    GRPC_CANCELLED = 1,
    GRPC_UNKNOWN = 2,
    GRPC_INVALID_ARGUMENT = 3,
    GRPC_DEADLINE_EXCEEDED = 4,
    GRPC_NOT_FOUND = 5,
    GRPC_ALREADY_EXISTS = 6,
    GRPC_RESOURCE_EXHAUSTED = 8,
    GRPC_FAILED_PRECONDITION = 9,
    GRPC_UNIMPLEMENTED = 12,
    GRPC_INTERNAL = 13,
    GRPC_UNAVAILABLE = 14,
};

struct grpc_answer {
    enum grpc_code code;
    const char
        *message;      /* English or the peer's words; "" for GRPC_OK. Lent during the callback. */
    bool sent;         /* false: the request never left, so nothing happened there */
    int error;         /* negative errno when the socket could not be reached, else 0 */
    struct bytes body; /* the reply message of GRPC_OK; lent during the callback */
};

struct grpc_client;
struct grpc_call;

/* Make a client. Does not dial.
 *
 *   path      of the socket; copied; shorter than a sockaddr_un allows
 *   answers   the client: given, hand it to grpc_close; NULL when the path is too long
 */
struct grpc_client *grpc_open(uv_loop_t *loop, const char *path);

/* Begin one call.
 *
 *   method       "/runtime.v1.RuntimeService/Version"; lent for ever
 *   request      borrowed during this call
 *   deadline_ms  from now, at least 1; GRPC_DEADLINE_EXCEEDED after it, and the stream is reset
 *   out_call     lent until on_answer was called; for grpc_cancel; may be NULL
 *   answers      0; STATUS_FULL with LIMIT_GRPC_CALLS under way; STATUS_TOO_LARGE for a request
 *                over LIMIT_GRPC_MESSAGE_BYTES; STATUS_CLOSING: on_answer will not be called
 */
int grpc_call(struct grpc_client *client, const char *method, struct bytes request,
              uint64_t deadline_ms, struct grpc_call **out_call,
              void (*on_answer)(void *context, const struct grpc_answer *answer), void *context);

/* Give up on a call: its stream is reset and it is answered GRPC_CANCELLED. */
void grpc_cancel(struct grpc_call *call);

/* Answer every call GRPC_CANCELLED and let go of socket and memory. on_closed is called from the
 * loop after the last answer; the client is gone then. */
void grpc_close(struct grpc_client *client, void (*on_closed)(void *context), void *context);

/* How often a connection was established; for tests and metrics. */
unsigned grpc_connections(const struct grpc_client *client);

#endif
