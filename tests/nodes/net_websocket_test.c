#include "tests/nodes/net_support.h"

#include "nodes/net/websocket.h"

#include <stdio.h>
#include <stdlib.h>

/* -- core -------------------------------------------------------------------------------------- */

struct heard {
    uint32_t messages, pongs;
    size_t bytes;
    uint8_t sum;
    uint16_t code;
    char reason[128];
    struct websocket_core *pause_in; /* pause this core in every message */
};

static void heard_message(struct bytes message, void *owner)
{
    struct heard *heard = owner;
    heard->messages++;
    heard->bytes += message.size;
    for (size_t i = 0; i < message.size; i++) {
        heard->sum = (uint8_t)(heard->sum * 31 + message.data[i]);
    }
    if (heard->pause_in != NULL) {
        websocket_core_pause(heard->pause_in);
    }
}
static void heard_close(uint16_t code, struct bytes reason, void *owner)
{
    struct heard *heard = owner;
    heard->code = code;
    snprintf(heard->reason, sizeof heard->reason, "%.*s", (int)reason.size,
             (const char *)reason.data);
}
static void heard_pong(void *owner)
{
    ((struct heard *)owner)->pongs++;
}
static void heard_mask(uint8_t *bytes, size_t size, void *owner)
{
    (void)owner;
    memset(bytes, 0x5a, size);
}
static const struct websocket_core_events heard_events = {heard_message, heard_close, heard_pong,
                                                          heard_mask};

/* A masked frame of a client, written by hand; the mask is zero, so the payload is as it is. */
static size_t frame(uint8_t *out, uint8_t first, const char *payload)
{
    const size_t size = strlen(payload);
    out[0] = first;
    out[1] = (uint8_t)(0x80 | size);
    memset(out + 2, 0, 4);
    memcpy(out + 6, payload, size);
    return size + 6;
}

/* Claim: what one core sends the other one hears, at any cut, and fragments with a ping between them are
 * one message. */
static void test_messages_survive_any_cut(void **state)
{
    (void)state;
    for (size_t cut = 1; cut < 200; cut += cut < 12 ? 1 : 61) {
        struct heard at_server = {0}, at_client = {0};
        struct websocket_core *server =
            websocket_core_open(false, 70000, &heard_events, &at_server);
        struct websocket_core *client = websocket_core_open(true, 70000, &heard_events, &at_client);
        static uint8_t large[70000];
        memset(large, 7, sizeof large);
        assert_int_equal(websocket_core_send(client, bytes_text("one")), 0);
        assert_int_equal(websocket_core_send(client, bytes_of(large, sizeof large)), 0);
        assert_int_equal(websocket_core_send(client, bytes_of(NULL, 0)), 0);
        assert_int_equal(websocket_core_send(client, bytes_of(large, sizeof large + 1)),
                         STATUS_TOO_LARGE);
        assert_int_equal(websocket_core_ping(client), 0);
        const struct bytes out = websocket_core_output(client);
        for (size_t at = 0; at < out.size; at += cut) {
            const size_t size = out.size - at < cut ? out.size - at : cut;
            assert_int_equal(websocket_core_feed(server, bytes_of(out.data + at, size)), 0);
        }
        websocket_core_output_done(client);
        assert_int_equal(at_server.messages, 3);
        assert_int_equal(at_server.bytes, 70003);
        assert_int_equal(websocket_core_feed(client, websocket_core_output(server)), 0);
        assert_int_equal(at_client.pongs, 1);
        websocket_core_output_done(server);

        uint8_t bytes[64];
        size_t size = frame(bytes, 0x02, "abc");   /* binary, not final */
        size += frame(bytes + size, 0x89, "ping"); /* a ping in between */
        size += frame(bytes + size, 0x00, "def");  /* continued */
        size += frame(bytes + size, 0x80, "g");    /* and final */
        assert_int_equal(websocket_core_feed(server, bytes_of(bytes, size)), 0);
        assert_int_equal(at_server.messages, 4);
        assert_int_equal(at_server.bytes, 70010);
        assert_memory_equal(websocket_core_output(server).data, "\x8a\x04ping", 6);

        assert_int_equal(websocket_core_leave(client, 4001, "enough"), 0);
        assert_int_equal(websocket_core_feed(server, websocket_core_output(client)), 0);
        assert_int_equal(at_server.code, 4001);
        assert_string_equal(at_server.reason, "enough");
        assert_true(websocket_core_ended(server));
        assert_int_equal(websocket_core_send(server, bytes_text("x")), STATUS_CLOSING);
        websocket_core_close(server);
        websocket_core_close(client);
    }
}

/* Claim: frames that break the protocol are answered with the right close code (wslay leaves 1002 out for
 * some of them, which RFC 6455 allows), and nothing of them is
 * handed over. */
static void test_bad_frames_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        uint16_t code;
        int status;
    } cases[] = {
        {"\x83\x80\0\0\0\0", 6, 1002, STATUS_MALFORMED},  /* unknown opcode */
        {"\xc2\x80\0\0\0\0", 6, 1002, STATUS_MALFORMED},  /* reserved bit */
        {"\x80\x81\0\0\0\0x", 7, 1002, STATUS_MALFORMED}, /* continues nothing */
        {"\x09\x80\0\0\0\0", 6, 1002,
         STATUS_MALFORMED}, /* fragmented ping: wslay closes without a code */
        {"\x89\xfe\0\x80\0\0\0\0", 8, 1002, STATUS_MALFORMED},   /* a ping of 128 bytes */
        {"\x81\x81\0\0\0\0x", 7, 1003, STATUS_MALFORMED},        /* text */
        {"\x82\xfe\x03\xe9\0\0\0\0x", 9, 1009, STATUS_TOO_LARGE}, /* 1001 bytes */
        {"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", 14, 1002, STATUS_MALFORMED},
        {"\x82\xff\0\0\0\1\0\0\0\0\0\0\0\0x", 15, 1009, STATUS_TOO_LARGE}, /* 4 GiB */
        {"\x88\x81\0\0\0\0x", 7, 1002, 0},                 /* half a close code: it just closes */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct heard heard = {0};
        struct websocket_core *core = websocket_core_open(false, 1000, &heard_events, &heard);
        const int status = websocket_core_feed(core, bytes_of(cases[i].bytes, cases[i].size));
        const struct bytes out = websocket_core_output(core);
        const unsigned code = out.size >= 4 ? (unsigned)(out.data[2] << 8 | out.data[3]) : 0;
        if (status != cases[i].status || out.size < (cases[i].code <= 1002 ? 2u : 4u) ||
            out.data[0] != 0x88 || (code != 0 && code != cases[i].code) || heard.messages != 0) {
            fail_msg("case %zu: status %d code %u size %zu", i, status, code, out.size);
        }
        websocket_core_close(core);
    }
}

/* Claim: a paused core hands over nothing and loses nothing. */
static void test_a_paused_core_keeps_messages(void **state)
{
    (void)state;
    struct heard heard = {0}, nobody = {0};
    struct websocket_core *server = websocket_core_open(false, 70000, &heard_events, &heard);
    struct websocket_core *client = websocket_core_open(true, 70000, &heard_events, &nobody);
    heard.pause_in = server;
    static uint8_t large[9000];
    for (int i = 0; i < 40; i++) {
        websocket_core_send(client, bytes_of(large, i % 5 == 0 ? sizeof large : 3));
    }
    assert_int_equal(websocket_core_feed(server, websocket_core_output(client)), 0);
    for (uint32_t i = 1; i <= 40; i++) {
        assert_int_equal(heard.messages, i);
        assert_int_equal(websocket_core_resume(server), 0);
    }
    assert_int_equal(heard.messages, 40);
    assert_int_equal(heard.bytes, 8 * sizeof large + 32 * 3);
    websocket_core_close(server);
    websocket_core_close(client);
}

static void test_accept_key(void **state)
{
    (void)state;
    char out[29];
    websocket_accept_key("dGhlIHNhbXBsZSBub25jZQ==", out); /* the example of RFC 6455 */
    assert_string_equal(out, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

/* -- sockets ----------------------------------------------------------------------------------- */

struct end {
    struct websocket *socket;
    bool open, closed, paused_once;
    int status;
    uint16_t code;
    char reason[256];
    uint32_t messages, full, to_send, sent;
    uint64_t bytes;
    size_t message_bytes;
    bool echo;
    struct bytes waiting; /* to be echoed when there is room */
};

static struct {
    uv_loop_t loop;
    struct http_server *server;
    bool server_closed, both_closed, client_closed, all_echoed;
    struct end at_server, at_client;
    uv_timer_t resume;
} net;

static void end_send(struct end *end)
{
    static uint8_t message[LIMIT_WIRE_BYTES];
    while (end->sent < end->to_send) {
        const size_t size = end->sent % 3 == 0 ? end->message_bytes : 5 + end->sent;
        memset(message, (int)(end->sent & 0xff), size);
        const int status = websocket_send(end->socket, bytes_of(message, size));
        if (status == STATUS_FULL) {
            end->full++;
            return;
        }
        assert_int_equal(status, 0);
        end->sent++;
    }
}
static void end_on_open(struct websocket *socket, void *owner)
{
    struct end *end = owner;
    (void)socket;
    end->open = true;
    end_send(end);
}
static void end_on_message(struct websocket *socket, struct bytes message, void *owner)
{
    struct end *end = owner;
    if (end->echo) {
        assert_int_equal(end->waiting.size, 0); /* never while paused */
        if (websocket_send(socket, message) == STATUS_FULL) {
            end->full++;
            uint8_t *copy = malloc(message.size);
            memcpy(copy, message.data, message.size);
            end->waiting = bytes_of(copy, message.size);
            websocket_pause(socket);
        }
    } else {
        const size_t want = end->messages % 3 == 0 ? end->message_bytes : 5 + end->messages;
        assert_int_equal(message.size, want);
        assert_int_equal(message.data[0], end->messages & 0xff);
        assert_int_equal(message.data[want - 1], end->messages & 0xff);
    }
    end->messages++;
    end->bytes += message.size;
    net.all_echoed = net.at_client.to_send > 0 && net.at_client.messages == net.at_client.to_send;
}
static void end_on_writable(struct websocket *socket, void *owner)
{
    struct end *end = owner;
    if (end->waiting.size > 0 && websocket_send(socket, end->waiting) == 0) {
        free((void *)(uintptr_t)end->waiting.data);
        end->waiting = bytes_of(NULL, 0);
        websocket_resume(socket);
    }
    end_send(end);
}
static void end_on_close(struct websocket *socket, int status, uint16_t code, const char *reason,
                         void *owner)
{
    (void)socket;
    struct end *end = owner;
    assert_false(end->closed);
    end->closed = true;
    end->status = status;
    end->code = code;
    snprintf(end->reason, sizeof end->reason, "%s", reason);
    net.client_closed = net.at_client.closed;
    net.both_closed = net.at_client.closed && net.at_server.closed;
}
static const struct websocket_events end_events = {end_on_open, end_on_message, end_on_writable,
                                                   end_on_close};

static void server_on_request(struct http_server *server, struct http_exchange *exchange,
                              void *owner)
{
    (void)server;
    (void)owner;
    const struct http_request *request = http_exchange_request(exchange);
    if (strcmp(request->path, "/edge") != 0) {
        http_answer(exchange, 403, "text/plain", bytes_text("no"));
        return;
    }
    if (websocket_accept(exchange, NULL, &end_events, &net.at_server, &net.at_server.socket) != 0) {
        http_answer(exchange, 400, "text/plain", bytes_text("not a handshake"));
        return;
    }
    assert_string_equal(websocket_peer(net.at_server.socket)->common_name, "system:node:edge-1");
}
static void server_on_close(void *owner)
{
    (void)owner;
    net.server_closed = true;
}
static const struct http_server_events server_events = {.on_request = server_on_request,
                                                        .on_close = server_on_close};

static void net_open(const char *target)
{
    uv_loop_init(&net.loop);
    char reason[LINK_REASON_BYTES] = "";
    struct link_context *context = support_context(LINK_LISTEN_REQUIRE, "server", "ca");
    assert_int_equal(http_server_open(&net.loop, context, "127.0.0.1", 0, &server_events, NULL,
                                      &net.server, reason),
                     0);
    link_context_close(context);
    context = support_context(LINK_DIAL, "edge", "ca");
    const struct http_header header = {"X-Test", "1"};
    assert_int_equal(websocket_dial(&net.loop, context, "127.0.0.1", http_server_port(net.server),
                                    NULL, target, &header, 1, &end_events, &net.at_client,
                                    &net.at_client.socket),
                     0);
    link_context_close(context);
}
static void net_close(void)
{
    http_server_close(net.server);
    support_run(&net.loop, &net.server_closed);
    support_finish(&net.loop);
    memset(&net, 0, sizeof net);
}

/* Claim: messages up to the limit are echoed whole, in order, with both queues bounded; and both sides
 * part in order. */
static void test_an_echo_of_large_messages(void **state)
{
    (void)state;
    net.at_client.to_send = 30;
    net.at_client.message_bytes = LIMIT_WIRE_BYTES;
    net.at_server.echo = true;
    net_open("/edge");
    support_run(&net.loop, &net.all_echoed);
    assert_true(net.at_client.full > 0);
    assert_int_equal(net.at_client.bytes, net.at_server.bytes);
    websocket_leave(net.at_client.socket, WEBSOCKET_CODE_GOING_AWAY, "bye");
    assert_int_equal(websocket_send(net.at_client.socket, bytes_text("x")), STATUS_CLOSING);
    support_run(&net.loop, &net.both_closed);
    assert_int_equal(net.at_server.status, 0);
    assert_int_equal(net.at_server.code, 1001);
    assert_string_equal(net.at_server.reason, "bye");
    assert_int_equal(net.at_client.status, 0);
    assert_int_equal(net.at_client.code, 1001); /* echoed */
    net_close();
}

/* Claim: when both sides leave at the same moment, neither waits for more than the other's close frame. */
static void test_both_leave_at_once(void **state)
{
    (void)state;
    net_open("/edge");
    support_run(&net.loop, &net.at_client.open);
    const uint64_t began_ms = uv_now(&net.loop);
    websocket_leave(net.at_client.socket, WEBSOCKET_CODE_NORMAL, "");
    websocket_leave(net.at_server.socket, WEBSOCKET_CODE_NORMAL, "");
    support_run(&net.loop, &net.both_closed);
    assert_true(uv_now(&net.loop) - began_ms < LIMIT_LINK_SHUTDOWN_MS / 2);
    assert_int_equal(net.at_server.status, 0);
    assert_int_equal(net.at_client.status, 0);
    net_close();
}

/* Claim: a refused upgrade, a link that breaks, and a close at once are all told, once. */
static void test_endings_are_told(void **state)
{
    (void)state;
    net_open("/elsewhere");
    support_run(&net.loop, &net.client_closed);
    assert_int_equal(net.at_client.status, STATUS_FOREIGN);
    assert_non_null(strstr(net.at_client.reason, "HTTP 403"));
    assert_false(net.at_client.open);
    net_close();

    net_open("/edge");
    support_run(&net.loop, &net.at_client.open);
    websocket_close(net.at_server.socket);
    support_run(&net.loop, &net.both_closed);
    assert_int_equal(net.at_server.status, 0);
    assert_int_equal(net.at_client.status, -ECONNRESET);
    assert_int_equal(net.at_client.code, WEBSOCKET_CODE_ABNORMAL);
    net_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages_survive_any_cut),
        cmocka_unit_test(test_bad_frames_are_refused),
        cmocka_unit_test(test_a_paused_core_keeps_messages),
        cmocka_unit_test(test_accept_key),
        cmocka_unit_test(test_an_echo_of_large_messages),
        cmocka_unit_test(test_both_leave_at_once),
        cmocka_unit_test(test_endings_are_told),
    };
    return cmocka_run_group_tests(tests, support_set_up, support_tear_down);
}
