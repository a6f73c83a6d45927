/* The other side of grpc_cri.h: serves unary gRPC calls on a unix socket, and misbehaves on request.
 *
 * Only kelp-fake-cri and tests use it. One handler answers all methods, at once; a fault in the
 * reply decides how it leaves.
 */
#ifndef KELP_NODES_EDGE_GRPC_SERVER_CRI_H
#define KELP_NODES_EDGE_GRPC_SERVER_CRI_H

#include "schemas/bytes.h"

#include <uv.h>

enum grpc_fault {
    GRPC_FAULT_NONE,
    GRPC_FAULT_HANG,   /* never answer */
    GRPC_FAULT_RST,    /* reset the stream with CANCEL */
    GRPC_FAULT_REFUSE, /* reset the stream with REFUSED_STREAM */
    GRPC_FAULT_GOAWAY, /* answer, and say GOAWAY with it */
    GRPC_FAULT_DROP,   /* close the connection instead of answering */
    GRPC_FAULT_TRAILERS, /* trailers-only: code 13 and a percent-encoded message in the one header frame */
    GRPC_FAULT_HTTP_503,   /* a plain HTTP error */
    GRPC_FAULT_NO_STATUS,  /* headers and body, and an end without grpc-status */
    GRPC_FAULT_OVERSIZED,  /* a body of 17 MiB */
    GRPC_FAULT_COMPRESSED, /* the compressed flag set */
    GRPC_FAULT_GARBAGE,    /* status OK, and a body that is no protobuf */
};

struct grpc_reply {
    int code;
    char message[256];
    uint8_t *body; /* taken: malloc'ed */
    size_t body_bytes;
    enum grpc_fault fault;
    uint64_t delay_ms;
};

struct grpc_server;

/* Listen on `path`, removing a stale socket first.
 *
 *   handler     fills a zeroed reply; method without the service ("Version"), request borrowed
 *   out_server  given: hand it to grpc_server_close
 *   answers     0; a negative errno
 */
int grpc_server_open(uv_loop_t *loop, const char *path,
                     void (*handler)(void *context, const char *method, struct bytes request,
                                     struct grpc_reply *reply),
                     void *context, struct grpc_server **out_server);

/* Drop all connections and stop listening; memory goes when the loop has closed the handles. */
void grpc_server_close(struct grpc_server *server);

/* RST_STREAM frames that came from clients: how many calls they gave up on. */
unsigned grpc_server_resets(const struct grpc_server *server);

#endif
