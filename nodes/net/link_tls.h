/* One TLS connection over TCP on a libuv loop: bytes in, bytes out, and who the peer is.
 *
 * Everything that leaves a process of ours goes through a link: edge sessions, replica links, the
 * Kubernetes API, HTTP calls between replicas. TLS 1.2 at least, 1.3 where both can, AEAD ciphers with
 * forward secrecy only. No session resumption: every connection shows its certificate.
 *
 * The life of a link:
 *
 *   dialed    link_dial .. on_open .. on_bytes/on_writable/on_end .. on_close
 *   accepted  on_link(link), inside which link_attach; then as above, without on_open
 *
 * on_close comes exactly once, from the loop and never from inside a call of ours, whatever ended the
 * link; afterwards the link's memory is gone. link_write, link_pause, link_close and the rest may be
 * called from inside any callback of the same link.
 *
 * Where: link.c and link_listener.c have the sockets, link_tls.c the TLS (the only file besides
 * identity_tls.c that knows wolfSSL). SIGPIPE is ignored by link_context_open.
 */
#ifndef KELP_NODES_NET_LINK_TLS_H
#define KELP_NODES_NET_LINK_TLS_H

#include "schemas/bytes.h"
#include "schemas/limits.h"
#include "schemas/status.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#define LINK_REASON_BYTES 256u

/* -- certificates of this process -------------------------------------------------------------- */

struct link_context;

enum link_role {
    LINK_DIAL_ANY,       /* client: checks nothing and shows nothing, and takes the peer for nobody: to fetch
                            what is then checked by its own hash */
    LINK_DIAL,           /* client: checks the server against the authority and its name */
    LINK_LISTEN_REQUIRE, /* server: a client without a certificate of our authority is refused */
    LINK_LISTEN_REQUEST, /* server: a client may come without one; a wrong one is still refused */
};

/* PEM files. A dialer without certificate leaves both of them NULL, LINK_DIAL_ANY all three. */
struct link_files {
    const char *authority;   /* one or more certificates of authorities we trust */
    const char *certificate; /* ours, followed by intermediates if there are any */
    const char *key;         /* Ed25519, ECDSA or RSA, not encrypted */
};

/* Read and check the files: they exist, the key belongs to the certificate, it is valid today.
 *
 *   files    borrowed during the call
 *   out      given to link_context_close; untouched unless 0
 *   reason   LINK_REASON_BYTES bytes, receives a sentence naming the file when not 0
 *   answers  0; -errno of the file; STATUS_MALFORMED, STATUS_IDENTITY, STATUS_TOO_LARGE
 */
int link_context_open(enum link_role role, const struct link_files *files, struct link_context **out,
                      char *reason);

/* Forget it. Links and listeners made with it go on; NULL is allowed. */
void link_context_close(struct link_context *context);

/* Days until our own certificate ends (negative: ended); for the warning in the owner's log.
 * INT32_MAX when there is none. */
int32_t link_context_days(const struct link_context *context);

/* -- the peer ---------------------------------------------------------------------------------- */

struct link_peer {
    bool verified; /* a certificate was presented and verified; otherwise all texts are empty */
    char common_name[LIMIT_IDENTITY_NAME_BYTES + 1];
    char groups[LIMIT_IDENTITY_GROUPS][LIMIT_IDENTITY_NAME_BYTES + 1]; /* each O of the subject */
    uint32_t groups_count;
    char serial[65];      /* hexadecimal */
    char fingerprint[65]; /* sha256 of the certificate, hexadecimal */
    char key[65];         /* of its public key: identity_key_sha256; "": it cannot be read */
    char address[64];     /* "10.0.0.7:43210" or "[::1]:43210"; also without certificate */
    char protocol[16];    /* "TLSv1.3" */
};

/* -- links ------------------------------------------------------------------------------------- */

struct link;

struct link_events {
    /* The handshake of a dialed link is done; link_peer says who answered. May be NULL. In TLS 1.3 a
     * server refuses our certificate only after this: the refusal then arrives as on_close. */
    void (*on_open)(struct link *link, void *owner);
    /* 1 .. LIMIT_LINK_READ_BYTES bytes, borrowed during the call. Never after link_pause. */
    void (*on_bytes)(struct link *link, struct bytes bytes, void *owner);
    /* After a link_write was answered STATUS_FULL: half of the queue is free again. May be NULL. */
    void (*on_writable)(struct link *link, void *owner);
    /* The peer has said its last byte, in order; we may still write, and then link_shutdown. NULL:
     * the link shuts down by itself. */
    void (*on_end)(struct link *link, void *owner);
    /* The link is gone. status 0: an orderly end, or our own link_close; STATUS_IDENTITY: certificates,
     * reason names which; STATUS_TIMEOUT; STATUS_CORRUPT: bytes that are not TLS; or -errno. The reason
     * is a sentence for a log line, borrowed during the call, empty when status is 0. */
    void (*on_close)(struct link *link, int status, const char *reason, void *owner);
};

/* Connect to host:port and shake hands within LIMIT_LINK_HANDSHAKE_MS.
 *
 *   context      borrowed during the call; role LINK_DIAL or LINK_DIAL_ANY
 *   host         borrowed; a name or an address. Names are resolved in libuv's pool, every address is
 *                tried in turn
 *   server_name  borrowed; what the certificate must be for, a name or an address; NULL: host
 *   events       borrowed until on_close; owner: passed back
 *   out_link     lent until on_close; untouched unless 0
 *   answers      0, then on_open and later on_close, or only on_close; STATUS_MALFORMED (host or port),
 *                -ENOMEM: nothing will be called
 */
int link_dial(uv_loop_t *loop, struct link_context *context, const char *host, uint16_t port,
              const char *server_name, const struct link_events *events, void *owner,
              struct link **out_link);

/* Receive the events of an accepted link. Inside on_link, exactly once. */
void link_attach(struct link *link, const struct link_events *events, void *owner);

/* Who is on the other side. Lent until on_close. */
const struct link_peer *link_peer(const struct link *link);

/* The loop it lives on. */
uv_loop_t *link_loop(const struct link *link);

/* Queue bytes, all of them or none. What is written in one turn of the loop leaves together, small
 * writes in one TLS record.
 *
 *   bytes    borrowed during the call; up to LIMIT_LINK_WRITE_BYTES, which is the caller's own claim;
 *            none: asks whether a write would be taken
 *   answers  0; STATUS_FULL: nothing taken, on_writable follows; STATUS_CLOSING: never again
 */
int link_write(struct link *link, struct bytes bytes);

/* Unsent plaintext bytes in the queue. */
size_t link_queued_bytes(const struct link *link);
/* Let more or less wait in the queue than LIMIT_LINK_QUEUE_BYTES before link_write answers STATUS_FULL. */
void link_limit_queue(struct link *link, size_t bytes);

/* Stop on_bytes and reading from the socket, so that the peer is slowed down; and go on. Both may be
 * repeated. While paused, an end of the peer is noticed only after link_resume. */
void link_pause(struct link *link);
void link_resume(struct link *link);

/* Finish in order: what is queued is sent, then our end; reading goes on until the peer ends too, at
 * most LIMIT_LINK_SHUTDOWN_MS. No more writes. Then on_close. */
void link_shutdown(struct link *link);

/* End now: what is queued is dropped. on_close follows with status 0. */
void link_close(struct link *link);

/* End now with this status and reason in on_close: for protocols on top that must give up.
 *   status negative; reason borrowed */
void link_fail(struct link *link, int status, const char *reason);

/* -- listening --------------------------------------------------------------------------------- */

struct link_listener;

struct link_listener_events {
    /* A connection whose handshake is done. Call link_attach in here; link_close is allowed too. */
    void (*on_link)(struct link_listener *listener, struct link *link, void *owner);
    /* A handshake failed; the peer's address and why, both borrowed during the call. May be NULL. */
    void (*on_refused)(struct link_listener *listener, const char *address, int status,
                       const char *reason, void *owner);
    /* After link_listener_close: no connection will come and the memory is gone. May be NULL. */
    void (*on_close)(void *owner);
};

/* Listen on an address ("127.0.0.1", "::", "0.0.0.0") and port; 0 picks one.
 *
 *   context   borrowed during the call; role LINK_LISTEN_*
 *   events    borrowed until on_close
 *   out       given to link_listener_close; untouched unless 0
 *   reason    LINK_REASON_BYTES bytes, receives a sentence when not 0
 *   answers   0; -errno, such as -EADDRINUSE; STATUS_MALFORMED: not an address
 */
int link_listener_open(uv_loop_t *loop, struct link_context *context, const char *address,
                       uint16_t port, const struct link_listener_events *events, void *owner,
                       struct link_listener **out, char *reason);

/* The port it listens on. */
uint16_t link_listener_port(const struct link_listener *listener);

/* Use new certificates for connections from now on (rotation). Context as in open. */
void link_listener_renew(struct link_listener *listener, struct link_context *context);

/* Stop. Handshakes in progress are dropped; links already handed over live on. */
void link_listener_close(struct link_listener *listener);
/* Stop listening as link_listener_close does, but lose nobody who came before: connections that wait to be
 * accepted are, and handshakes under way go on to on_link. on_close follows the last of them;
 * link_listener_close may be called until then, and ends those. */
void link_listener_drain(struct link_listener *listener);

#endif
