/* TLS without a socket: ciphertext in, ciphertext out, plaintext between. The seam between link.c, which
 * knows libuv, and link_tls.c, which knows wolfSSL. Not for anybody else.
 */
#ifndef KELP_NODES_NET_LINK_SESSION_H
#define KELP_NODES_NET_LINK_SESSION_H

#include "nodes/net/link_tls.h"

struct link_session;

enum link_step {
    LINK_STEP_MORE = 1,   /* the input is used up */
    LINK_STEP_OPEN = 2,   /* the handshake is done */
    LINK_STEP_BYTES = 3,  /* plaintext was read */
    LINK_STEP_END = 4,    /* the peer said its last byte */
    LINK_STEP_FAILED = 5, /* see link_session_failure; an alert may be in the output */
};

/* One more holder, who calls link_context_close too. Returns the context. */
struct link_context *link_context_keep(struct link_context *context);
enum link_role link_context_role(const struct link_context *context);

/* server_name: what the peer's certificate must be for; NULL at a server. NULL: out of memory. */
struct link_session *link_session_open(struct link_context *context, const char *server_name);
void link_session_close(struct link_session *session);

/* Lend ciphertext; what is not used by the next steps is told by link_session_input. */
void link_session_feed(struct link_session *session, struct bytes input);
struct bytes link_session_input(const struct link_session *session);

/* One step of the handshake: OPEN, MORE or FAILED. */
enum link_step link_session_shake(struct link_session *session);
/* Read up to `size` bytes of plaintext: BYTES, MORE, END or FAILED. */
enum link_step link_session_read(struct link_session *session, uint8_t *out, size_t size,
                                 size_t *out_size);
/* Encrypt; up to LIMIT_LINK_READ_BYTES at once. False: failed. */
bool link_session_write(struct link_session *session, struct bytes plaintext);
/* Say our last byte. */
void link_session_end(struct link_session *session);

/* Ciphertext to send: how much there is; and take it (free it with free). NULL when there is none. */
size_t link_session_output_bytes(const struct link_session *session);
uint8_t *link_session_take_output(struct link_session *session, size_t *out_size);

/* After FAILED: the status, and a sentence into `reason` (LINK_REASON_BYTES). */
int link_session_failure(const struct link_session *session, char *reason);

/* Fill everything but the address. After OPEN. 0, or STATUS_IDENTITY with a reason: the certificate
 * cannot be taken as an identity. */
int link_session_peer(struct link_session *session, struct link_peer *out, char *reason);

#endif
