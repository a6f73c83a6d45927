#include "tests/nodes/net_support.h"

#include "nodes/net/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* -- messages ---------------------------------------------------------------------------------- */

/* Feed a text in pieces of `cut` bytes; answers the last parse and where it stopped. */
static enum http_parse feed(struct http_request_parser *parser, const char *text, size_t cut,
                            size_t *at)
{
    enum http_parse parse = HTTP_PARSE_MORE;
    const size_t size = strlen(text);
    for (*at = 0; *at < size && parse == HTTP_PARSE_MORE;) {
        const size_t piece = cut < size - *at ? cut : size - *at;
        size_t used = 0;
        parse = http_request_parser_feed(parser, bytes_of(text + *at, piece), &used);
        *at += used;
    }
    return parse;
}

/* Claim: a request says the same however its bytes are cut, and the next one begins where it ended. */
static void test_a_request_is_read_at_any_cut(void **state)
{
    (void)state;
    static const char first[] =
        "PATCH /api/v1//namespaces/a%2Fb/pods/?labelSelector=app%3Dweb&x&command=ls&command=-l+a%2B"
        "&empty= HTTP/1.1\r\nHost: h\r\nX-Empty:\r\nAccept: a, b;q=1\r\ncontent-type: x/y\r\n"
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n";
    static const char second[] = "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    char both[1024];
    snprintf(both, sizeof both, "%s%s", first, second);
    for (size_t cut = 1; cut <= sizeof both; cut += cut < 40 ? 1 : 100) {
        struct http_request_parser *parser = http_request_parser_open(100);
        size_t at = 0;
        assert_int_equal(feed(parser, both, cut, &at), HTTP_PARSE_WHOLE);
        assert_int_equal(at, strlen(first));
        const struct http_request *request = http_request_parser_get(parser);
        assert_string_equal(request->method, "PATCH");
        assert_int_equal(request->segments_count, 5);
        assert_string_equal(request->segments[3], "a/b");
        assert_string_equal(request->path, "/api/v1//namespaces/a%2Fb/pods/");
        assert_int_equal(request->parameters_count, 5);
        assert_string_equal(http_request_find_parameter(request, "labelSelector"), "app=web");
        assert_string_equal(http_request_find_parameter(request, "x"), "");
        assert_string_equal(request->parameters[3].value, "-l a+");
        assert_null(http_request_find_parameter(request, "y"));
        assert_string_equal(http_request_find_header(request, "CONTENT-TYPE"), "x/y");
        assert_string_equal(http_request_find_header(request, "x-empty"), "");
        assert_true(http_list_holds(http_request_find_header(request, "accept"), "B"));
        assert_false(http_list_holds(http_request_find_header(request, "accept"), "q"));
        assert_true(bytes_equal_text(request->body, "abcdefg"));
        assert_true(request->keep_alive);
        http_request_parser_next(parser);
        size_t more = 0;
        assert_int_equal(feed(parser, both + at, cut, &more), HTTP_PARSE_WHOLE);
        assert_int_equal(more, strlen(second));
        assert_false(http_request_parser_get(parser)->keep_alive);
        assert_int_equal(http_request_parser_get(parser)->segments_count, 0);
        http_request_parser_close(parser);
    }
}

/* Claim: what is malformed or too large is refused with the right status. */
static void test_bad_requests_are_refused(void **state)
{
    (void)state;
    static char long_target[LIMIT_HTTP_HEAD_BYTES + 100], long_header[LIMIT_HTTP_HEAD_BYTES + 100],
        many_headers[4000], many_parameters[4000], many_segments[4000];
    memset(long_target, 'a', sizeof long_target - 1);
    memcpy(long_target, "GET /", 5);
    memset(long_header, 'a', sizeof long_header - 1);
    memcpy(long_header, "GET / HTTP/1.1\r\nHost: h\r\nX: ", 28);
    strcpy(many_headers, "GET / HTTP/1.1\r\nHost: h\r\n");
    for (int i = 0; i < 70; i++) {
        strcat(many_headers, "A: b\r\n");
    }
    strcpy(many_parameters, "GET /?");
    strcpy(many_segments, "GET /");
    for (int i = 0; i < 70; i++) {
        strcat(many_parameters, "a=b&");
        strcat(many_segments, "a/");
    }
    strcat(many_parameters, " HTTP/1.1\r\nHost: h\r\n\r\n");
    strcat(many_segments, " HTTP/1.1\r\nHost: h\r\n\r\n");
    const struct {
        const char *text;
        uint32_t status;
    } cases[] = {
        {"nonsense\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
        {"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"GET /%0 HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"GET /a%00b HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"GET /?a=%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"GET /#x HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505},
        {"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 501},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
         400},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 101\r\n\r\n", 413},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n"
         "01234567890123456789012345678901234567890123456789012345678901234567890123456789012345678"
         "90"
         "1234567890",
         413},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400},
        {long_target, 414},
        {long_header, 431},
        {many_headers, 431},
        {many_parameters, 414},
        {many_segments, 414},
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        static const size_t cuts[] = {1, 7, 100000};
        for (size_t c = 0; c < 3; c++) {
            struct http_request_parser *parser = http_request_parser_open(100);
            size_t at = 0;
            const enum http_parse parse = feed(parser, cases[i].text, cuts[c], &at);
            const char *text = "";
            const uint32_t status =
                parse == HTTP_PARSE_REFUSED ? http_request_parser_refusal(parser, &text) : 0;
            if (status != cases[i].status) {
                fail_msg("case %zu cut %zu: %u %s", i, cuts[c], status, text);
            }
            http_request_parser_close(parser);
        }
    }
}

/* -- server and client ------------------------------------------------------------------------- */

static struct {
    uv_loop_t loop;
    struct http_server *server;
    struct http_client *client;
    bool server_closed, client_closed;
    uint32_t requests;
    int refused_status;
    bool refused;
    struct http_exchange *watch; /* the stream under way */
    bool watch_gone;
    uint64_t watch_left, watch_full;
} net;

static void watch_go_on(struct http_exchange *exchange)
{
    static uint8_t piece[50000];
    memset(piece, 'w', sizeof piece);
    while (net.watch_left > 0) {
        const size_t size = net.watch_left < sizeof piece ? (size_t)net.watch_left : sizeof piece;
        const int status = http_answer_chunk(exchange, bytes_of(piece, size));
        if (status == STATUS_FULL) {
            net.watch_full++;
            return;
        }
        assert_int_equal(status, 0);
        net.watch_left -= size;
    }
    net.watch = NULL;
    http_answer_end(exchange, true);
}
static void watch_on_gone(struct http_exchange *exchange, void *data)
{
    (void)data;
    net.watch_gone = true;
    net.watch = NULL;
    http_answer_end(exchange, true);
}
static void watch_on_writable(struct http_exchange *exchange, void *data)
{
    (void)data;
    watch_go_on(exchange);
}
static const struct http_exchange_events watch_events = {.on_gone = watch_on_gone,
                                                         .on_writable = watch_on_writable};

static void server_on_request(struct http_server *server, struct http_exchange *exchange,
                              void *owner)
{
    (void)server;
    (void)owner;
    net.requests++;
    const struct http_request *request = http_exchange_request(exchange);
    assert_string_equal(http_exchange_peer(exchange)->common_name, "admin");
    const char *const what = request->segments_count > 0 ? request->segments[0] : "";
    if (strcmp(what, "echo") == 0) {
        assert_int_equal(http_answer_header(exchange, "Warning", "299 - \"a\""), 0);
        assert_int_equal(http_answer_header(exchange, "X", "a\r\nSet-Cookie: b"), STATUS_MALFORMED);
        http_answer(exchange, 201, "application/json", request->body);
    } else if (strcmp(what, "big") == 0) {
        static uint8_t big[9000000];
        memset(big, 'b', sizeof big);
        http_answer(exchange, 200, "text/plain", bytes_of(big, sizeof big));
    } else if (strcmp(what, "watch") == 0) {
        net.watch = exchange;
        http_exchange_set_events(exchange, &watch_events);
        assert_int_equal(http_answer_begin(exchange, 200, "application/json"), 0);
        watch_go_on(exchange);
    } else if (strcmp(what, "hang") == 0) {
        net.watch = exchange;
        http_exchange_set_events(exchange, &watch_events);
        assert_int_equal(http_answer_begin(exchange, 200, "application/json"), 0);
    } else if (strcmp(what, "cut") == 0) {
        http_answer_begin(exchange, 200, "application/json");
        http_answer_chunk(exchange, bytes_text("half"));
        http_answer_end(exchange, false);
    } else {
        http_answer(exchange, 404, "text/plain", bytes_text(request->target));
    }
}
static void server_on_refused(struct http_server *server, const char *address, int status,
                              const char *reason, void *owner)
{
    (void)server;
    (void)address;
    (void)reason;
    (void)owner;
    net.refused = true;
    net.refused_status = status;
}
static void server_on_close(void *owner)
{
    (void)owner;
    net.server_closed = true;
}
static void client_on_close(void *owner)
{
    (void)owner;
    net.client_closed = true;
}
static const struct http_server_events server_events = {
    .on_request = server_on_request, .on_refused = server_on_refused, .on_close = server_on_close};

static void net_open(void)
{
    memset(&net, 0, sizeof net);
    uv_loop_init(&net.loop);
    char reason[LINK_REASON_BYTES] = "";
    struct link_context *context = support_context(LINK_LISTEN_REQUEST, "server", "ca");
    assert_int_equal(http_server_open(&net.loop, context, "127.0.0.1", 0, &server_events, NULL,
                                      &net.server, reason),
                     0);
    link_context_close(context);
    context = support_context(LINK_DIAL, "admin", "ca");
    assert_int_equal(http_client_open(&net.loop, context, "127.0.0.1", http_server_port(net.server),
                                      NULL, &net.client),
                     0);
    link_context_close(context);
}
static void net_close(void)
{
    http_client_close(net.client, client_on_close, NULL);
    http_server_close(net.server);
    support_run(&net.loop, &net.client_closed);
    support_run(&net.loop, &net.server_closed);
    support_finish(&net.loop);
}

struct result {
    struct http_call *call;
    uint32_t status;
    char warning[64];
    uint64_t body_bytes;
    char body[256];
    bool head, done;
    int end;
    char reason[256];
    uint32_t pauses;
    uv_timer_t *resume;
};

static void on_head(struct http_call *call, const struct http_response *response, void *owner)
{
    (void)call;
    struct result *result = owner;
    result->head = true;
    result->status = response->status;
    const char *warning = http_response_find_header(response, "Warning");
    snprintf(result->warning, sizeof result->warning, "%s", warning == NULL ? "" : warning);
}
static void on_body(struct http_call *call, struct bytes bytes, void *owner)
{
    (void)call;
    struct result *result = owner;
    for (size_t i = 0; i < bytes.size && result->body_bytes + i < sizeof result->body - 1; i++) {
        result->body[result->body_bytes + i] = (char)bytes.data[i];
    }
    result->body_bytes += bytes.size;
}
static void on_end(struct http_call *call, int status, const char *reason, void *owner)
{
    (void)call;
    struct result *result = owner;
    assert_false(result->done);
    result->done = true;
    result->end = status;
    result->call = NULL;
    snprintf(result->reason, sizeof result->reason, "%s", reason);
}
static const struct http_call_events call_events = {on_head, on_body, on_end};

static struct result call(const char *method, const char *target, struct bytes body)
{
    struct result result = {.done = false};
    const struct http_call_request request = {
        .method = method, .target = target, .body = body, .deadline_ms = 8000};
    assert_int_equal(http_call_start(net.client, &request, &call_events, &result, NULL), 0);
    support_run(&net.loop, &result.done);
    return result;
}

/* Claim: calls and answers of every shape arrive whole, over kept connections. */
static void test_calls_are_answered(void **state)
{
    (void)state;
    net_open();
    struct result result = call("POST", "/echo?x=1", bytes_text("{\"a\":1}"));
    assert_int_equal(result.end, 0);
    assert_int_equal(result.status, 201);
    assert_string_equal(result.warning, "299 - \"a\"");
    assert_string_equal(result.body, "{\"a\":1}");
    result = call("GET", "/nothing/here", bytes_of(NULL, 0));
    assert_int_equal(result.status, 404);
    assert_string_equal(result.body, "/nothing/here");
    result = call("HEAD", "/nothing", bytes_of(NULL, 0));
    assert_int_equal(result.status, 404);
    assert_int_equal(result.body_bytes, 0);
    result = call("GET", "/big", bytes_of(NULL, 0));
    assert_int_equal(result.body_bytes, 9000000);
    uint8_t *large = calloc(1, LIMIT_HTTP_BODY_BYTES);
    result = call("POST", "/echo", bytes_of(large, LIMIT_HTTP_BODY_BYTES));
    free(large);
    assert_int_equal(result.status, 201);
    assert_int_equal(result.body_bytes, LIMIT_HTTP_BODY_BYTES);
    assert_int_equal(net.requests, 5);
    net_close();
}

/* Claim: a body beyond the limit is answered 413, although it is still being sent. */
static void test_a_large_body_is_refused(void **state)
{
    (void)state;
    net_open();
    uint8_t *large = calloc(1, LIMIT_HTTP_BODY_BYTES + 1);
    struct result result = call("POST", "/echo", bytes_of(large, LIMIT_HTTP_BODY_BYTES + 1));
    free(large);
    assert_int_equal(result.end, 0);
    assert_int_equal(result.status, 413);
    assert_non_null(strstr(result.body, "\"reason\":\"RequestEntityTooLarge\",\"code\":413"));
    assert_int_equal(net.refused_status, 413);
    assert_int_equal(net.requests, 0);
    net_close();
}

/* Claim: a stream is held back by a slow client, and arrives whole. */
static void test_a_stream_is_held_back(void **state)
{
    (void)state;
    net_open();
    net.watch_left = 12000000;
    struct result result = {.done = false};
    const struct http_call_request request = {.method = "GET", .target = "/watch"};
    assert_int_equal(http_call_start(net.client, &request, &call_events, &result, &result.call), 0);
    support_run(&net.loop, &result.head);
    http_call_pause(result.call);
    for (int i = 0; i < 200; i++) {
        uv_run(&net.loop, UV_RUN_NOWAIT);
    }
    assert_true(net.watch_left > 0); /* it waits for us */
    assert_true(net.watch_full > 0);
    http_call_resume(result.call);
    support_run(&net.loop, &result.done);
    assert_int_equal(result.end, 0);
    assert_int_equal(result.body_bytes, 12000000);
    net_close();
}

/* Claim: when the client leaves a stream, the handler hears of it; when the server cuts one, the client
 * does not take it for whole; and a call can be cancelled at any time. */
static void test_endings_are_heard(void **state)
{
    (void)state;
    net_open();
    struct result result = {.done = false};
    const struct http_call_request request = {.method = "GET", .target = "/hang"};
    assert_int_equal(http_call_start(net.client, &request, &call_events, &result, &result.call), 0);
    support_run(&net.loop, &result.head);
    http_call_cancel(result.call);
    assert_false(result.done);
    support_run(&net.loop, &result.done);
    assert_int_equal(result.end, STATUS_CLOSING);
    support_run(&net.loop, &net.watch_gone);

    result = call("GET", "/cut", bytes_of(NULL, 0));
    assert_int_equal(result.end, STATUS_UNKNOWN);

    struct result cancelled = {.done = false};
    assert_int_equal(
        http_call_start(net.client, &request, &call_events, &cancelled, &cancelled.call), 0);
    http_call_cancel(cancelled.call);
    support_run(&net.loop, &cancelled.done);
    assert_int_equal(cancelled.end, STATUS_CLOSING);
    net_close();
}

/* A link that speaks text, for what a well-behaved client never sends. */
struct rough {
    struct link *link;
    const char *text;
    char answer[4096];
    size_t size;
    bool closed;
};
static void rough_on_open(struct link *link, void *owner)
{
    struct rough *rough = owner;
    assert_int_equal(link_write(link, bytes_text(rough->text)), 0);
}
static void rough_on_bytes(struct link *link, struct bytes bytes, void *owner)
{
    (void)link;
    struct rough *rough = owner;
    for (size_t i = 0; i < bytes.size && rough->size < sizeof rough->answer - 1; i++) {
        rough->answer[rough->size++] = (char)bytes.data[i];
    }
}
static void rough_on_close(struct link *link, int status, const char *reason, void *owner)
{
    (void)link;
    (void)status;
    (void)reason;
    ((struct rough *)owner)->closed = true;
}
static const struct link_events rough_events = {
    .on_open = rough_on_open, .on_bytes = rough_on_bytes, .on_close = rough_on_close};

static struct rough rough_call(const char *text)
{
    struct rough rough = {.text = text};
    struct link_context *context = support_context(LINK_DIAL, "admin", "ca");
    assert_int_equal(link_dial(&net.loop, context, "127.0.0.1", http_server_port(net.server), NULL,
                               &rough_events, &rough, &rough.link),
                     0);
    link_context_close(context);
    support_run(&net.loop, &rough.closed);
    return rough;
}

/* Claim: pipelined requests are answered one after the other, in order; Connection: close is obeyed; a bad
 * one ends the connection with a Status. */
static void test_rough_clients(void **state)
{
    (void)state;
    net_open();
    struct rough rough = rough_call("GET /one HTTP/1.1\r\nHost: h\r\n\r\n"
                                    "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
                                    "GET /two HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
                                    "GET /never HTTP/1.1\r\nHost: h\r\n\r\n");
    const char *one = strstr(rough.answer, "\r\n\r\n/one"),
               *abc = strstr(rough.answer, "\r\n\r\nabc"),
               *two = strstr(rough.answer, "\r\n\r\n/two");
    assert_true(one != NULL && abc != NULL && two != NULL && one < abc && abc < two);
    assert_null(strstr(rough.answer, "never"));
    assert_int_equal(net.requests, 3);

    rough = rough_call("GET / HTTP/1.1\r\nno colon\r\n\r\n");
    assert_memory_equal(rough.answer, "HTTP/1.1 400 Bad Request\r\n", 26);
    assert_non_null(strstr(rough.answer, "Connection: close\r\n"));
    assert_non_null(strstr(rough.answer, "\"reason\":\"BadRequest\",\"code\":400}"));
    assert_int_equal(net.refused_status, 400);

    rough =
        rough_call("POST /echo HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nConnection: close\r\n"
                   "Content-Length: 2\r\n\r\nok");
    assert_non_null(strstr(rough.answer, "\r\n\r\nok"));
    net_close();
}

/* Claim: closing the server while an exchange is open waits for its handler. */
static void test_the_server_waits_for_its_exchanges(void **state)
{
    (void)state;
    net_open();
    struct result result = {.done = false};
    const struct http_call_request request = {.method = "GET", .target = "/hang"};
    assert_int_equal(http_call_start(net.client, &request, &call_events, &result, &result.call), 0);
    support_run(&net.loop, &result.head);
    http_server_close(net.server);
    support_run(&net.loop, &net.server_closed);
    assert_true(net.watch_gone);
    support_run(&net.loop, &result.done);
    assert_int_equal(result.end, STATUS_UNKNOWN);
    http_client_close(net.client, client_on_close, NULL);
    support_run(&net.loop, &net.client_closed);
    support_finish(&net.loop);
}

/* A connection that says nothing; negative: why there is none. */
static int connect_plain(uint16_t port)
{
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_port = htons(port),
                                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int file = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(file >= 0);
    if (connect(file, (const struct sockaddr *)&address, sizeof address) != 0) {
        close(file);
        return -errno;
    }
    return file;
}

/* Claim: a server that drains finishes what it is answering, takes whoever had connected and was not accepted
 * yet, serves what comes on a kept connection, ends idle ones, lets nobody else in, and is done by itself. */
static void test_draining_loses_nobody(void **state)
{
    (void)state;
    net_open();
    const uint16_t port = http_server_port(net.server);
    struct result kept = call("GET", "/kept", bytes_of(NULL, 0));
    assert_int_equal(kept.status, 404);
    struct result hanging = {.done = false};
    const struct http_call_request request = {.method = "GET", .target = "/hang"};
    assert_int_equal(http_call_start(net.client, &request, &call_events, &hanging, NULL), 0);
    support_run(&net.loop, &hanging.head);
    struct result idle = call("GET", "/idle", bytes_of(NULL, 0)); /* on a connection of its own */
    assert_int_equal(idle.status, 404);

    struct rough late = {.text = "GET /early HTTP/1.1\r\nHost: h\r\n\r\n"};
    struct link_context *context = support_context(LINK_DIAL, "admin", "ca");
    assert_int_equal(
        link_dial(&net.loop, context, "127.0.0.1", port, NULL, &rough_events, &late, &late.link),
        0);
    link_context_close(context);
    while (strstr(late.answer, "\r\n\r\n/early") == NULL) {
        uv_run(&net.loop, UV_RUN_ONCE);
    }
    assert_null(strstr(late.answer, "Connection: close\r\n"));

    const int waits = connect_plain(port); /* the kernel has accepted it, the server has not */
    assert_true(waits >= 0);
    http_server_drain(net.server);
    http_server_drain(net.server); /* said twice */
    uv_run(&net.loop, UV_RUN_NOWAIT);
    assert_int_equal(connect_plain(port), -ECONNREFUSED);
    char byte;
    assert_int_equal(recv(waits, &byte, 1, MSG_DONTWAIT), -1);
    assert_int_equal(errno, EAGAIN); /* not reset: it may shake hands */
    close(waits);
    assert_int_equal(link_write(late.link, bytes_text("GET /late HTTP/1.1\r\nHost: h\r\n\r\n")), 0);
    support_run(&net.loop, &late.closed);
    assert_non_null(strstr(late.answer, "\r\n\r\n/late"));
    assert_non_null(strstr(late.answer, "Connection: close\r\n"));
    assert_false(http_server_drained(net.server));

    net.watch_left = 10;
    watch_go_on(net.watch);
    support_run(&net.loop, &hanging.done);
    assert_int_equal(hanging.end, 0);
    assert_int_equal(hanging.body_bytes, 10);
    while (!http_server_drained(net.server)) {
        uv_run(&net.loop, UV_RUN_ONCE);
    }
    assert_false(net.server_closed);
    http_server_close(net.server);
    assert_true(net.server_closed);
    http_client_close(net.client, client_on_close, NULL);
    support_run(&net.loop, &net.client_closed);
    support_finish(&net.loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_request_is_read_at_any_cut),
        cmocka_unit_test(test_bad_requests_are_refused),
        cmocka_unit_test(test_calls_are_answered),
        cmocka_unit_test(test_a_large_body_is_refused),
        cmocka_unit_test(test_a_stream_is_held_back),
        cmocka_unit_test(test_endings_are_heard),
        cmocka_unit_test(test_rough_clients),
        cmocka_unit_test(test_the_server_waits_for_its_exchanges),
        cmocka_unit_test(test_draining_loses_nobody),
    };
    return cmocka_run_group_tests(tests, support_set_up, support_tear_down);
}
