/* HTTP/1.1 over TLS links: a server, and a small client for calls between processes of ours.
 *
 * Server: connections are kept, pipelined requests are answered one after the other. Each request is an
 * exchange; the handler answers it now or later, in one of three ways, exactly once, also when the
 * client is already gone (the answer is then dropped):
 *
 *   http_answer                                    a whole body, with Content-Length
 *   http_answer_begin, _chunk ..., _end            a stream (watch), chunked, with back-pressure
 *   http_exchange_upgrade                          101, and the link becomes the handler's
 *
 * Bodies that arrive or are being worked on have a bound for all connections together: who makes it more is
 * answered 429 with Retry-After, a large one (LIMIT_HTTP_SMALL_BYTES) sooner.
 *
 * Bad requests (400, 413, 431 ...) and slow ones (408) are answered without asking the handler, as a
 * Kubernetes Status in JSON, and logged by the owner through on_refused.
 */
#ifndef KELP_NODES_NET_HTTP_H
#define KELP_NODES_NET_HTTP_H

#include "nodes/net/http_message.h"
#include "nodes/net/link_tls.h"

/* -- server ------------------------------------------------------------------------------------ */

struct http_server;
struct http_exchange;

struct http_server_events {
    /* A whole request. The exchange is lent until it is answered. */
    void (*on_request)(struct http_server *server, struct http_exchange *exchange, void *owner);
    /* A connection or request was refused; borrowed during the call. May be NULL. status as in
     * link_listener_events, or the positive HTTP status that was sent. */
    void (*on_refused)(struct http_server *server, const char *address, int status,
                       const char *reason, void *owner);
    /* After http_server_close: all connections are gone, all exchanges answered, memory freed. */
    void (*on_close)(void *owner);
};

/* Listen and serve. Parameters and answers as link_listener_open. */
int http_server_open(uv_loop_t *loop, struct link_context *context, const char *address,
                     uint16_t port, const struct http_server_events *events, void *owner,
                     struct http_server **out, char *reason);
uint16_t http_server_port(const struct http_server *server);
void http_server_renew(struct http_server *server, struct link_context *context);
/* Stop listening and drop all connections, but for the last bytes of an answer that was given whole
 * (LIMIT_LINK_SHUTDOWN_MS); upgraded links live on. on_close waits for every exchange
 * to be answered by its handler (on_gone tells each), and comes from inside when all that has happened
 * already. */
void http_server_close(struct http_server *server);

/* Memory of bodies of requests, and of whole answers that clients have not taken yet; connections. */
struct http_server_report {
    size_t body_bytes;
    size_t answer_bytes;
    uint32_t connections;
};
struct http_server_report http_server_report(const struct http_server *server);
/* Serve to the end what has begun, and nothing after it: connections that wait to be accepted are, each
 * answer from now on says Connection: close, and a connection without a request is ended after
 * LIMIT_HTTP_DRAIN_IDLE_MS, so that a request that is on its way is not lost. http_server_close follows,
 * when http_server_drained says so or patience is over. */
void http_server_drain(struct http_server *server);
bool http_server_drained(const struct http_server *server);

/* The request, and who sent it. Lent until the exchange is answered. */
const struct http_request *http_exchange_request(const struct http_exchange *exchange);
const struct link_peer *http_exchange_peer(const struct http_exchange *exchange);

/* The handler's own pointer, NULL at first. */
void http_exchange_set_data(struct http_exchange *exchange, void *data);
void *http_exchange_data(const struct http_exchange *exchange);

/* Hear when the client goes away before the end of the answer (on_gone, once; the exchange must still
 * be ended by http_answer or http_answer_end, inside on_gone or later), and when a chunk fits again
 * after STATUS_FULL (on_writable). Either may be NULL. */
struct http_exchange_events {
    void (*on_gone)(struct http_exchange *exchange, void *data);
    void (*on_writable)(struct http_exchange *exchange, void *data);
};
void http_exchange_set_events(struct http_exchange *exchange, const struct http_exchange_events *events);

/* Add a header to the answer to come; repeated names are sent repeatedly (Warning). Copied.
 *   answers  0; STATUS_TOO_LARGE, STATUS_MALFORMED (control characters): not added
 */
int http_answer_header(struct http_exchange *exchange, const char *name, const char *value);

/* Answer with a whole body. The exchange is gone afterwards.
 *
 *   content_type  NULL: none
 *   body          borrowed during the call, up to LIMIT_HTTP_ANSWER_BYTES (beyond: 500 is sent)
 */
void http_answer(struct http_exchange *exchange, uint32_t status, const char *content_type,
                 struct bytes body);

/* Answer with a stream. The head is sent at once.
 *   answers  0; STATUS_CLOSING: the client is gone, end the exchange
 */
int http_answer_begin(struct http_exchange *exchange, uint32_t status, const char *content_type);

/* Send a piece of the stream, whole, as one chunk (empty: nothing).
 *
 *   bytes    borrowed during the call, up to LIMIT_WIRE_BYTES
 *   answers  0; STATUS_FULL: nothing taken, on_writable follows; STATUS_CLOSING: end the exchange
 */
int http_answer_chunk(struct http_exchange *exchange, struct bytes bytes);

/* Finish the stream. The exchange is gone afterwards. whole false: cut the connection instead, so that
 * the client does not take what it has for everything. */
void http_answer_end(struct http_exchange *exchange, bool whole);

/* Switch protocols: send 101 with Connection: Upgrade, `Upgrade: protocol` and the headers added
 * before, and hand over the link (link_attach is done here, with these events). The exchange is gone.
 *
 *   events, owner  for the link, from now on
 *   out_link       the link; untouched unless 0
 *   out_rest       bytes that came behind the request, lent until the handler returns
 *   answers        0; STATUS_CLOSING: the client is gone and so is the exchange
 */
int http_exchange_upgrade(struct http_exchange *exchange, const char *protocol,
                          const struct link_events *events, void *owner, struct link **out_link,
                          struct bytes *out_rest);

/* -- client ------------------------------------------------------------------------------------ */

struct http_client;
struct http_call;

/* A client of one server: keeps up to LIMIT_HTTP_CLIENT_LINKS connections and uses them again.
 *
 *   context, events  borrowed until http_client_close has called back
 *   out              given to http_client_close; untouched unless 0
 *   answers          0; -ENOMEM; STATUS_MALFORMED: host
 */
int http_client_open(uv_loop_t *loop, struct link_context *context, const char *host, uint16_t port,
                     const char *server_name, struct http_client **out);

/* Cancel all calls (their on_end comes with STATUS_CLOSING) and close; then on_close, which may be
 * NULL. */
void http_client_close(struct http_client *client, void (*on_close)(void *owner), void *owner);

struct http_call_request {
    const char *method;
    const char *target; /* with its query, percent-encoded by the caller */
    const struct http_header *headers; /* Host and Content-Length are added */
    uint32_t headers_count;
    struct bytes body;
    uint32_t deadline_ms; /* until the response is whole; 0: only its head within
                             LIMIT_HTTP_REQUEST_MS (a watch) */
};

struct http_call_events {
    /* Status and headers of the response, lent until on_end. May be NULL. */
    void (*on_head)(struct http_call *call, const struct http_response *response, void *owner);
    /* A piece of the body, borrowed during the call. May be NULL. */
    void (*on_body)(struct http_call *call, struct bytes bytes, void *owner);
    /* Exactly once, last; the call is gone afterwards. status 0: the response was whole. STATUS_UNKNOWN:
     * the request was sent, at least in part, and no whole response came: it may have happened or
     * not. Other negative: it was not sent (connection refused, STATUS_IDENTITY, ...). */
    void (*on_end)(struct http_call *call, int status, const char *reason, void *owner);
};

/* Call. on_head, on_body, on_end come later, from the loop.
 *
 *   request   borrowed during the call
 *   events    borrowed until on_end
 *   out_call  lent until on_end; may be NULL
 *   answers   0; STATUS_FULL: all connections are busy; STATUS_TOO_LARGE, STATUS_MALFORMED (header with
 *             control characters), -ENOMEM: nothing will be called
 */
int http_call_start(struct http_client *client, const struct http_call_request *request,
                    const struct http_call_events *events, void *owner, struct http_call **out_call);

/* Stop and restart on_body, slowing the server down. What was read already, up to
 * LIMIT_LINK_READ_BYTES, may still come. */
void http_call_pause(struct http_call *call);
void http_call_resume(struct http_call *call);

/* Give up: on_end comes later, from the loop, with STATUS_CLOSING. */
void http_call_cancel(struct http_call *call);

#endif
