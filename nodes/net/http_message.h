/* HTTP/1.1 messages as bytes: what a request or response says, without any socket.
 *
 * Pure: bytes in, messages out, so that it can be fuzzed and simulated. http.h puts it on links.
 *
 * Refused on purpose: no or several Host headers, several Content-Lengths, both
 * Content-Length and Transfer-Encoding (request smuggling), NUL in a decoded path or value, HTTP/0.9,
 * CONNECT, fragments.
 */
#ifndef KELP_NODES_NET_HTTP_MESSAGE_H
#define KELP_NODES_NET_HTTP_MESSAGE_H

#include "schemas/bytes.h"
#include "schemas/limits.h"
#include "schemas/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Texts below are terminated and lent as long as the message is. */
struct http_header {
    const char *name; /* as sent; compared without case */
    const char *value;
};

struct http_parameter {
    const char *name; /* percent-decoded, '+' is a blank */
    const char *value;
};

struct http_request {
    const char *method;                        /* "GET", "PATCH", ... */
    const char *target;                        /* as sent, "/api/v1/pods?watch=1" */
    const char *path;                          /* target up to '?', as sent */
    const char *segments[LIMIT_HTTP_SEGMENTS]; /* percent-decoded; empty ones are left out */
    uint32_t segments_count;
    struct http_parameter parameters[LIMIT_HTTP_PARAMETERS]; /* in order, repeated ones too */
    uint32_t parameters_count;
    struct http_header headers[LIMIT_HTTP_HEADERS];
    uint32_t headers_count;
    struct bytes body; /* de-chunked */
    bool keep_alive;   /* the client wants to go on */
    bool upgrade; /* Connection: upgrade with an Upgrade header; bytes that follow are not HTTP */
};

/* Value of the first header of this name, without case; NULL: not sent. */
const char *http_request_find_header(const struct http_request *request, const char *name);

/* Value of the first parameter of this name; NULL: not sent. */
const char *http_request_find_parameter(const struct http_request *request, const char *name);

/* Is the comma-separated list `value` (may be NULL) holding this token, without case? */
bool http_list_holds(const char *value, const char *token);

struct http_request_parser;

enum http_parse {
    HTTP_PARSE_MORE = 1,    /* all bytes used, the message is not whole */
    HTTP_PARSE_WHOLE = 2,   /* a message is whole; bytes behind out_used belong to the next */
    HTTP_PARSE_REFUSED = 3, /* answer http_request_parser_refusal and close; feed nothing more */
};

/* body_bytes_max: 413 beyond. NULL: out of memory. Given to http_request_parser_close. */
struct http_request_parser *http_request_parser_open(size_t body_bytes_max);
void http_request_parser_close(struct http_request_parser *parser);

/* Take bytes of one connection, any cut. After HTTP_PARSE_WHOLE the request is lent by
 * http_request_parser_get until http_request_parser_next, which must come before the next feed.
 *
 *   out_used  bytes consumed; all of them unless HTTP_PARSE_WHOLE
 */
enum http_parse http_request_parser_feed(struct http_request_parser *parser, struct bytes bytes,
                                         size_t *out_used);
const struct http_request *http_request_parser_get(const struct http_request_parser *parser);
void http_request_parser_next(struct http_request_parser *parser);

/* True once when the client waits for "100 Continue" before it sends the body. */
bool http_request_parser_take_continue(struct http_request_parser *parser);

/* True between the first byte of a message and its last: a deadline applies. */
bool http_request_parser_busy(const struct http_request_parser *parser);

/* Memory of the body of the request that is arriving or lent. */
size_t http_request_parser_body_bytes(const struct http_request_parser *parser);

/* The status to refuse with (400, 413, 414, 431, 501, 505) and a sentence, lent for ever. */
uint32_t http_request_parser_refusal(const struct http_request_parser *parser,
                                     const char **out_text);

/* -- responses, for the client side ------------------------------------------------------------ */

struct http_response {
    uint32_t status; /* 200; 1xx other than 101 are skipped */
    struct http_header headers[LIMIT_HTTP_HEADERS];
    uint32_t headers_count;
    bool keep_alive; /* the connection may carry another call; final once the body has ended */
    bool upgrade;    /* 101 */
};

const char *http_response_find_header(const struct http_response *response, const char *name);

struct http_response_parser;

struct http_response_events {
    void (*on_head)(const struct http_response *response, void *owner);
    void (*on_body)(struct bytes bytes, void *owner);
};

/* events: borrowed until close. NULL: out of memory. Ready for the response to a GET. */
struct http_response_parser *http_response_parser_open(const struct http_response_events *events,
                                                       void *owner);
void http_response_parser_close(struct http_response_parser *parser);

/* Prepare for the response to a request of this method. */
void http_response_parser_next(struct http_response_parser *parser, const char *method);

/* As http_request_parser_feed; the events are called from inside. HTTP_PARSE_REFUSED: not HTTP, or a
 * limit was met. */
enum http_parse http_response_parser_feed(struct http_response_parser *parser, struct bytes bytes,
                                          size_t *out_used);

/* May the connection carry another call? After HTTP_PARSE_WHOLE. */
bool http_response_parser_keep_alive(const struct http_response_parser *parser);

/* The connection ended: is the response whole by that (no length was given)? */
bool http_response_parser_finish(struct http_response_parser *parser);

/* -- text of messages -------------------------------------------------------------------------- */

/* "Not Found" for 404. Lent for ever; "Unknown" when it has no name. */
const char *http_status_text(uint32_t status);

/* May this be sent as a header value? No control characters, so that no answer can be split. */
bool http_header_value_valid(const char *value);

#endif
