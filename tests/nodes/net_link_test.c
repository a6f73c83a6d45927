#include "tests/nodes/net_support.h"

#include "nodes/net/identity_tls.h"
#include "nodes/net/link_inner.h"
#include "schemas/check.h"

#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* One side of a connection under test. */
struct side {
    struct link *link;
    bool open, ended, closed;
    int status;
    char reason[LINK_REASON_BYTES];
    struct link_peer peer;
    uint64_t received, checked;
    uint64_t to_send, sent; /* what is still to be written, and was */
    uint32_t full_count;
    uint32_t pause_every; /* 0: never; else pause after that many deliveries */
    uint32_t deliveries;
    uv_timer_t resume;
    bool end_when_sent;
    bool keep_half_open;
    bool echo_after_end;
    uint8_t first[64];
};

/* A listener, a dialer, a loop. */
struct pair {
    uv_loop_t loop;
    struct link_context *server_context, *client_context;
    struct link_listener *listener;
    struct side server, client;
    bool listener_closed;
    bool refused;
    int refused_status;
    char refused_reason[LINK_REASON_BYTES];
    bool both_open, both_closed, client_closed;
};

static struct pair pair;

static uint8_t pattern(uint64_t place)
{
    return (uint8_t)((place * 2654435761u) >> 13);
}

static void pair_look(void)
{
    pair.both_open = pair.server.open && pair.client.open;
    pair.client_closed = pair.client.closed;
    pair.both_closed = pair.server.closed && pair.client.closed;
}

/* Write as much of the pattern as is taken, in odd pieces. */
static void side_send(struct side *side)
{
    static uint8_t piece[70001];
    while (side->sent < side->to_send) {
        size_t size = 1 + (size_t)(side->sent * 7919 % sizeof piece);
        if (size > side->to_send - side->sent) {
            size = (size_t)(side->to_send - side->sent);
        }
        for (size_t i = 0; i < size; i++) {
            piece[i] = pattern(side->sent + i);
        }
        const int status = link_write(side->link, bytes_of(piece, size));
        if (status == STATUS_FULL) {
            side->full_count++;
            assert_true(link_queued_bytes(side->link) >= LIMIT_LINK_QUEUE_BYTES);
            return;
        }
        assert_int_equal(status, 0);
        side->sent += size;
    }
    if (side->end_when_sent) {
        side->end_when_sent = false;
        link_shutdown(side->link);
    }
}

static void side_on_open(struct link *link, void *owner)
{
    struct side *side = owner;
    side->open = true;
    side->peer = *link_peer(link);
    side_send(side);
    pair_look();
}

static void side_on_resume(uv_timer_t *timer)
{
    struct side *side = timer->data;
    if (side->link != NULL) {
        link_resume(side->link);
    }
}

static void side_on_bytes(struct link *link, struct bytes bytes, void *owner)
{
    struct side *side = owner;
    assert_true(bytes.size >= 1 && bytes.size <= LIMIT_LINK_READ_BYTES);
    assert_false(uv_is_active((uv_handle_t *)&side->resume)); /* never while paused */
    for (size_t i = 0; i < bytes.size; i++) {
        if (side->received + i < sizeof side->first) {
            side->first[side->received + i] = bytes.data[i];
        }
        assert_int_equal(bytes.data[i], pattern(side->received + i));
    }
    side->received += bytes.size;
    side->deliveries++;
    if (side->pause_every > 0 && side->deliveries % side->pause_every == 0) {
        link_pause(link);
        uv_timer_start(&side->resume, side_on_resume, 1, 0);
    }
}

static void side_on_writable(struct link *link, void *owner)
{
    struct side *side = owner;
    assert_true(link_queued_bytes(link) <= LIMIT_LINK_QUEUE_BYTES / 2);
    side_send(side);
}

static void side_on_end(struct link *link, void *owner)
{
    struct side *side = owner;
    side->ended = true;
    if (side->echo_after_end) {
        side->to_send = 100000; /* half-closed: the peer still listens */
        side->end_when_sent = true;
        side_send(side);
    } else if (!side->keep_half_open) {
        link_shutdown(link);
    }
}

static void side_on_close(struct link *link, int status, const char *reason, void *owner)
{
    struct side *side = owner;
    assert_ptr_equal(link, side->link);
    assert_false(side->closed); /* exactly once */
    side->closed = true;
    side->status = status;
    side->link = NULL;
    snprintf(side->reason, sizeof side->reason, "%s", reason);
    pair_look();
}

static const struct link_events side_events = {.on_open = side_on_open,
                                               .on_bytes = side_on_bytes,
                                               .on_writable = side_on_writable,
                                               .on_end = side_on_end,
                                               .on_close = side_on_close};

static void pair_on_link(struct link_listener *listener, struct link *link, void *owner)
{
    assert_ptr_equal(listener, pair.listener);
    assert_ptr_equal(owner, &pair);
    pair.server.link = link;
    link_attach(link, &side_events, &pair.server);
    side_on_open(link, &pair.server);
}

static void pair_on_refused(struct link_listener *listener, const char *address, int status,
                            const char *reason, void *owner)
{
    (void)listener;
    (void)owner;
    assert_memory_equal(address, "127.0.0.1:", 10);
    pair.refused = true;
    pair.refused_status = status;
    snprintf(pair.refused_reason, sizeof pair.refused_reason, "%s", reason);
}

static void pair_on_listener_close(void *owner)
{
    (void)owner;
    pair.listener_closed = true;
}

static const struct link_listener_events listener_events = {
    .on_link = pair_on_link, .on_refused = pair_on_refused, .on_close = pair_on_listener_close};

static void pair_listen(enum link_role role, const char *server)
{
    memset(&pair, 0, sizeof pair);
    uv_loop_init(&pair.loop);
    uv_timer_init(&pair.loop, &pair.server.resume);
    uv_timer_init(&pair.loop, &pair.client.resume);
    pair.server.resume.data = &pair.server;
    pair.client.resume.data = &pair.client;
    char reason[LINK_REASON_BYTES] = "";
    pair.server_context = support_context(role, server, "ca");
    if (link_listener_open(&pair.loop, pair.server_context, "127.0.0.1", 0, &listener_events, &pair,
                           &pair.listener, reason) != 0) {
        fail_msg("%s", reason);
    }
    link_context_close(pair.server_context); /* the listener keeps it */
}

static void pair_dial(const char *client, const char *authority, const char *host,
                      const char *server_name)
{
    pair.client_context = support_context(LINK_DIAL, client, authority);
    assert_int_equal(link_dial(&pair.loop, pair.client_context, host,
                               link_listener_port(pair.listener), server_name, &side_events,
                               &pair.client, &pair.client.link),
                     0);
    link_context_close(pair.client_context);
}

static void pair_finish_listening(void)
{
    link_listener_close(pair.listener);
    support_run(&pair.loop, &pair.listener_closed);
    uv_close((uv_handle_t *)&pair.server.resume, NULL);
    uv_close((uv_handle_t *)&pair.client.resume, NULL);
}

static void pair_finish(void)
{
    pair_finish_listening();
    support_finish(&pair.loop);
}

/* Claim: both sides learn exactly who the other one is. */
static void test_identities_are_exposed(void **state)
{
    (void)state;
    pair_listen(LINK_LISTEN_REQUIRE, "server");
    pair_dial("edge", "ca", "127.0.0.1", NULL);
    support_run(&pair.loop, &pair.both_open);
    assert_true(pair.server.peer.verified);
    assert_string_equal(pair.server.peer.common_name, "system:node:edge-1");
    assert_string_equal(identity_find_node(pair.server.peer.common_name), "edge-1");
    assert_int_equal(pair.server.peer.groups_count, 1);
    assert_string_equal(pair.server.peer.groups[0], "system:nodes");
    assert_string_equal(pair.client.peer.common_name, "cloudcore-1");
    assert_int_equal(strlen(pair.server.peer.fingerprint), 64);
    assert_true(strlen(pair.server.peer.serial) >= 16);
    assert_string_equal(pair.client.peer.protocol, "TLSv1.3");
    link_close(pair.client.link);
    link_close(pair.server.link);
    support_run(&pair.loop, &pair.both_closed);
    assert_int_equal(pair.client.status, 0);
    pair_finish();
}

/* Claim: a server that only asks takes a client without certificate, and says so. */
static void test_a_certificate_may_be_optional(void **state)
{
    (void)state;
    pair_listen(LINK_LISTEN_REQUEST, "server");
    pair_dial(NULL, "ca", "localhost", NULL);
    support_run(&pair.loop, &pair.both_open);
    assert_false(pair.server.peer.verified);
    assert_string_equal(pair.server.peer.common_name, "");
    assert_int_equal(pair.server.peer.groups_count, 0);
    link_shutdown(pair.client.link);
    support_run(&pair.loop, &pair.both_closed);
    assert_int_equal(pair.client.status, 0);
    assert_int_equal(pair.server.status, 0);
    pair_finish();
}

/* Claim: every wrong certificate is refused by the server, with a reason on both sides. */
static void test_wrong_clients_are_refused(void **state)
{
    (void)state;
    static const struct {
        enum link_role role;
        const char *client, *authority, *server_says, *client_says;
    } cases[] = {
        {LINK_LISTEN_REQUIRE, NULL, "ca", "sent no certificate", "certificate"},
        {LINK_LISTEN_REQUIRE, "stranger", "ca", "authority we do not know",
         "authority of our certificate"},
        {LINK_LISTEN_REQUEST, "stranger", "ca", "authority we do not know",
         "authority of our certificate"},
        {LINK_LISTEN_REQUIRE, "server_only", "ca", "not made for this use", "our certificate"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        pair_listen(cases[i].role, "server");
        pair_dial(cases[i].client, cases[i].authority, "127.0.0.1", NULL);
        pair.client.to_send = 1000; /* TLS 1.3: it believes to be in, and writes */
        support_run(&pair.loop, &pair.client_closed);
        support_run(&pair.loop, &pair.refused);
        if (pair.refused_status != STATUS_IDENTITY || pair.client.status != STATUS_IDENTITY ||
            strstr(pair.refused_reason, cases[i].server_says) == NULL ||
            strstr(pair.client.reason, cases[i].client_says) == NULL) {
            fail_msg("case %zu: server %d %s; client %d %s", i, pair.refused_status,
                     pair.refused_reason, pair.client.status, pair.client.reason);
        }
        assert_false(pair.server.open);
        pair_finish();
    }
}

/* Claim: a dialer refuses a server of another authority or for another name, before it says a word. */
static void test_wrong_servers_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *server, *client, *authority, *host, *name, *says;
    } cases[] = {
        {"server", "edge", "foreign", "127.0.0.1", NULL, "authority we do not know"},
        {"elsewhere", "edge", "ca", "127.0.0.1", NULL, "is not for 127.0.0.1"},
        {"elsewhere", "edge", "ca", "localhost", NULL, "is not for localhost"},
        {"server", "edge", "ca", "127.0.0.1", "another.example", "is not for another.example"},
        {"server", "edge", "ca", "127.0.0.1", "127.0.0.2", "is not for 127.0.0.2"},
        {"server", "edge", "ca", "127.0.0.1", "cloudcore-1", "is not for cloudcore-1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        pair_listen(LINK_LISTEN_REQUIRE, cases[i].server);
        pair_dial(cases[i].client, cases[i].authority, cases[i].host, cases[i].name);
        support_run(&pair.loop, &pair.client_closed);
        if (pair.client.open || pair.client.status != STATUS_IDENTITY ||
            strstr(pair.client.reason, cases[i].says) == NULL) {
            fail_msg("case %zu: open %d, %d %s", i, pair.client.open, pair.client.status,
                     pair.client.reason);
        }
        pair_finish();
    }
    /* And the right name under another address is taken. */
    pair_listen(LINK_LISTEN_REQUIRE, "elsewhere");
    pair_dial("edge", "ca", "127.0.0.1", "another.example");
    support_run(&pair.loop, &pair.both_open);
    link_close(pair.client.link);
    support_run(&pair.loop, &pair.both_closed);
    pair_finish();
    pair_listen(LINK_LISTEN_REQUIRE, "elsewhere");
    pair_dial("edge", "ca", "127.0.0.1", "10.9.8.7");
    support_run(&pair.loop, &pair.both_open);
    link_close(pair.client.link);
    support_run(&pair.loop, &pair.both_closed);
    pair_finish();
}

/* Claim: files that cannot be used are refused at start, with the name of the file and why. */
static void test_bad_files_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *authority, *certificate, *key, *names, *says;
        int status;
    } cases[] = {
        {"ca/none.crt", "ca/edge.crt", "ca/edge.key", "none.crt", "No such file", -ENOENT},
        {"ca/ca.crt", "ca/none.crt", "ca/edge.key", "none.crt", "No such file", -ENOENT},
        {"ca/ca.crt", "ca/edge.crt", "ca/none.key", "none.key", "No such file", -ENOENT},
        {"ca/ca.crt", "ca/edge.crt", "ca/admin.key", "admin.key", "not the", 0},
        {"ca/ca.crt", "ca/expired.crt", "ca/expired.key", "expired.crt", "expired",
         STATUS_IDENTITY},
        {"ca/edge.key", "ca/edge.crt", "ca/edge.key", "edge.key", "no usable certificate",
         STATUS_MALFORMED},
        {"ca/ca.crt", "ca/edge.key", "ca/edge.key", "edge.key", "no certificate", STATUS_MALFORMED},
        {"ca/ca.crt", "ca/edge.crt", "ca/edge.crt", "edge.crt", "no private key", STATUS_MALFORMED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct link_files files = {.authority = support_path(cases[i].authority),
                                         .certificate = support_path(cases[i].certificate),
                                         .key = support_path(cases[i].key)};
        struct link_context *context = NULL;
        char reason[LINK_REASON_BYTES] = "";
        const int status = link_context_open(LINK_DIAL, &files, &context, reason);
        if (status >= 0 || (cases[i].status != 0 && status != cases[i].status) ||
            strstr(reason, cases[i].names) == NULL || strstr(reason, cases[i].says) == NULL) {
            fail_msg("case %zu: %d %s", i, status, reason);
        }
        assert_null(context);
    }
}

/* Claim: an expired certificate is refused by the server even if the client does not notice.
 * Method: our own client refuses to start with it, so openssl's plays the peer. */
static void test_an_expired_client_is_refused(void **state)
{
    (void)state;
    pair_listen(LINK_LISTEN_REQUIRE, "server");
    char command[1024];
    snprintf(command, sizeof command,
             "openssl s_client -quiet -connect 127.0.0.1:%u -cert %s -key %s >/dev/null 2>&1 "
             "</dev/null &",
             (unsigned)link_listener_port(pair.listener), support_path("ca/expired.crt"),
             support_path("ca/expired.key"));
    assert_int_equal(system(command), 0);
    support_run(&pair.loop, &pair.refused);
    assert_int_equal(pair.refused_status, STATUS_IDENTITY);
    assert_non_null(strstr(pair.refused_reason, "CN=system:node:old"));
    if (strstr(pair.refused_reason, "expired") == NULL) {
        fail_msg("%s", pair.refused_reason);
    }
    pair_finish();
}

/* Claim: megabytes go both ways at once, whole and in order, through a bounded queue, with both
 * readers pausing all the time. */
static void test_a_large_transfer_both_ways(void **state)
{
    (void)state;
    pair_listen(LINK_LISTEN_REQUIRE, "server");
    pair.server.to_send = 24u * 1024 * 1024 + 17;
    pair.client.to_send = 20u * 1024 * 1024 + 3;
    pair.server.pause_every = 97;
    pair.client.pause_every = 89;
    pair.client.end_when_sent = true;
    pair.server.end_when_sent = true;
    pair.server.keep_half_open = pair.client.keep_half_open = true;
    pair_dial("edge", "ca", "127.0.0.1", NULL);
    support_run(&pair.loop, &pair.both_closed);
    assert_string_equal(pair.server.reason, "");
    assert_string_equal(pair.client.reason, "");
    assert_int_equal(pair.client.received, pair.server.to_send);
    assert_int_equal(pair.server.received, pair.client.to_send);
    assert_true(pair.server.full_count > 0);
    assert_true(pair.client.full_count > 0);
    pair_finish();
}

/* Claim: small writes of one turn travel in one TLS record, which is what one delivery is, and a large one
 * among them changes nothing about the bytes.
 * Method: 600 writes of 1 to 40 bytes are 12,000 bytes; then 30 of those around 50,000 bytes. */
static void test_small_writes_share_a_record(void **state)
{
    (void)state;
    static uint8_t piece[50000];
    pair_listen(LINK_LISTEN_REQUIRE, "server");
    pair_dial("edge", "ca", "127.0.0.1", NULL);
    support_run(&pair.loop, &pair.both_open);
    uint64_t sent = 0;
    for (int i = 0; i < 600; i++) {
        const size_t size = 1 + (size_t)i % 39;
        for (size_t k = 0; k < size; k++) {
            piece[k] = pattern(sent + k);
        }
        assert_int_equal(link_write(pair.client.link, bytes_of(piece, size)), 0);
        sent += size;
    }
    assert_in_range(sent, 10000, LIMIT_LINK_READ_BYTES);
    while (pair.server.received < sent) {
        uv_run(&pair.loop, UV_RUN_ONCE);
    }
    assert_int_equal(pair.server.deliveries, 1);

    for (int i = 0; i < 30; i++) {
        const size_t size = i == 15 ? sizeof piece : 1 + (size_t)i;
        for (size_t k = 0; k < size; k++) {
            piece[k] = pattern(sent + k);
        }
        assert_int_equal(link_write(pair.client.link, bytes_of(piece, size)), 0);
        sent += size;
    }
    while (pair.server.received < sent) {
        uv_run(&pair.loop, UV_RUN_ONCE);
    }
    assert_int_equal(pair.server.deliveries, 1 + 4);
    assert_int_equal(link_queued_bytes(pair.client.link), 0);
    link_shutdown(pair.client.link);
    support_run(&pair.loop, &pair.both_closed);
    pair_finish();
}

/* Claim: no small write waits for the acknowledgement of the one before, on either side (defect l of what
 * replication/raft_guard.h covers: messages between cloudcores are small and come in a row). */
static void test_small_writes_do_not_wait(void **state)
{
    (void)state;
    pair_listen(LINK_LISTEN_REQUIRE, "server");
    pair_dial("edge", "ca", "127.0.0.1", NULL);
    support_run(&pair.loop, &pair.both_open);
    struct link *const links[] = {pair.server.link, pair.client.link};
    for (int i = 0; i < 2; i++) {
        uv_os_fd_t handle;
        int value = 0;
        socklen_t size = sizeof value;
        assert_int_equal(uv_fileno((uv_handle_t *)&links[i]->tcp, &handle), 0);
        assert_int_equal(getsockopt(handle, IPPROTO_TCP, TCP_NODELAY, &value, &size), 0);
        assert_int_not_equal(value, 0);
    }
    link_shutdown(pair.client.link);
    support_run(&pair.loop, &pair.both_closed);
    pair_finish();
}

static void writer_on_prepare(uv_prepare_t *prepare)
{
    uv_prepare_stop(prepare);
    assert_int_equal(link_write(pair.client.link, bytes_of("", 1)), 0); /* pattern(0) */
}

static void writer_on_timer(uv_timer_t *timer)
{
    *(bool *)timer->data = true;
}

/* Claim: what is written at the end of a turn, where the cores of both programs run, leaves although nothing else
 * happens. Method: a prepare callback writes one byte in a loop that would sleep for a minute; it is there before
 * that is over. */
static void test_a_write_at_the_end_of_a_turn_leaves(void **state)
{
    (void)state;
    uv_prepare_t prepare;
    uv_timer_t timer;
    bool late = false;
    pair_listen(LINK_LISTEN_REQUIRE, "server");
    pair_dial("edge", "ca", "127.0.0.1", NULL);
    support_run(&pair.loop, &pair.both_open);
    timer.data = &late;
    assert_int_equal(uv_prepare_init(&pair.loop, &prepare), 0);
    assert_int_equal(uv_timer_init(&pair.loop, &timer), 0);
    assert_int_equal(uv_prepare_start(&prepare, writer_on_prepare), 0);
    assert_int_equal(uv_timer_start(&timer, writer_on_timer, 60000, 0), 0);
    while (pair.server.received == 0 && !late) {
        uv_run(&pair.loop, UV_RUN_ONCE);
    }
    assert_false(late);

    uv_close((uv_handle_t *)&prepare, NULL);
    uv_close((uv_handle_t *)&timer, NULL);
    link_shutdown(pair.client.link);
    support_run(&pair.loop, &pair.both_closed);
    pair_finish();
}

/* Claim: after a side has ended, the other one may still speak, and is heard. */
static void test_half_close(void **state)
{
    (void)state;
    pair_listen(LINK_LISTEN_REQUIRE, "server");
    pair.client.to_send = 5000;
    pair.client.end_when_sent = true;
    pair.server.echo_after_end = true;
    pair_dial("edge", "ca", "127.0.0.1", NULL);
    support_run(&pair.loop, &pair.both_closed);
    assert_true(pair.server.ended);
    assert_int_equal(pair.server.received, 5000);
    assert_int_equal(pair.client.received, 100000);
    assert_int_equal(pair.client.status, 0);
    assert_int_equal(pair.server.status, 0);
    pair_finish();
}

/* A peer without TLS, for bytes that no library of ours would send. */
struct raw {
    uv_tcp_t tcp;
    uv_connect_t connect;
    uv_write_t write;
    struct bytes bytes;
    bool connected, closed;
    char buffer[4096];
};

static void raw_on_allocate(uv_handle_t *handle, size_t size, uv_buf_t *out)
{
    (void)size;
    struct raw *raw = handle->data;
    *out = uv_buf_init(raw->buffer, sizeof raw->buffer);
}
static void raw_on_close(uv_handle_t *handle)
{
    ((struct raw *)handle->data)->closed = true;
}
static void raw_on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer)
{
    (void)buffer;
    if (size < 0 && !uv_is_closing((uv_handle_t *)stream)) {
        uv_close((uv_handle_t *)stream, raw_on_close);
    }
}
static void raw_on_connect(uv_connect_t *request, int status)
{
    struct raw *raw = request->data;
    assert_int_equal(status, 0);
    raw->connected = true;
    uv_buf_t buffer = uv_buf_init((char *)(uintptr_t)raw->bytes.data, (unsigned)raw->bytes.size);
    uv_write(&raw->write, (uv_stream_t *)&raw->tcp, &buffer, 1, NULL);
    uv_read_start((uv_stream_t *)&raw->tcp, raw_on_allocate, raw_on_read);
}
static void raw_dial(struct raw *raw, const char *text)
{
    memset(raw, 0, sizeof *raw);
    raw->bytes = bytes_text(text);
    raw->tcp.data = raw;
    raw->connect.data = raw;
    uv_tcp_init(&pair.loop, &raw->tcp);
    struct sockaddr_in address;
    uv_ip4_addr("127.0.0.1", link_listener_port(pair.listener), &address);
    uv_tcp_connect(&raw->connect, &raw->tcp, (struct sockaddr *)&address, raw_on_connect);
}

#define PAD "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

/* Claim: whatever is not TLS is refused with a reason, and nobody else is disturbed. */
static void test_bytes_that_are_not_tls_are_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                                        "\x16\x09\x09\x01\x04" PAD PAD PAD PAD PAD,
                                        "\x15\x03\x03\x01\x01\x02\x28\x01\x01\x01\x01\x01\x01\x01"};
    pair_listen(LINK_LISTEN_REQUIRE, "server");
    pair_dial("edge", "ca", "127.0.0.1", NULL);
    support_run(&pair.loop, &pair.both_open);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct raw raw;
        pair.refused = false;
        raw_dial(&raw, texts[i]);
        support_run(&pair.loop, &raw.closed);
        support_run(&pair.loop, &pair.refused);
        assert_true(pair.refused_status < 0);
        assert_true(pair.refused_reason[0] != '\0');
    }
    assert_false(pair.server.closed);
    link_close(pair.client.link);
    support_run(&pair.loop, &pair.both_closed);
    assert_true(pair.server.status == 0 || pair.server.status == -ECONNRESET);
    pair_finish();
}

/* Many dialers at once. */
enum { STORM = 100 };
struct storm {
    struct link *links[STORM];
    struct link *let_in[STORM];
    uint32_t heard;          /* of the server's hello, by now */
    uint32_t heard_at_first; /* when the first link was handed over */
    uint32_t taken;
    uint32_t closed;
    bool all_taken, all_closed;
};
static struct storm storm;

static void storm_look(void)
{
    storm.all_taken = storm.taken == STORM;
    storm.all_closed = storm.closed == STORM + storm.taken;
}
static void storm_on_open(struct link *link, void *owner)
{
    (void)link;
    (void)owner;
    storm.heard++;
}
static void storm_on_bytes(struct link *link, struct bytes bytes, void *owner)
{
    (void)link;
    (void)bytes;
    (void)owner;
}
static void storm_on_close(struct link *link, int status, const char *reason, void *owner)
{
    (void)link;
    (void)owner;
    MAYBE(status != 0); /* the other side was closed first */
    (void)reason;
    storm.closed++;
    storm_look();
}
static const struct link_events storm_events = {
    .on_open = storm_on_open, .on_bytes = storm_on_bytes, .on_close = storm_on_close};

static void storm_on_link(struct link_listener *listener, struct link *link, void *owner)
{
    (void)listener;
    (void)owner;
    link_attach(link, &storm_events, NULL);
    storm.heard_at_first = storm.taken == 0 ? storm.heard : storm.heard_at_first;
    storm.let_in[storm.taken++] = link;
    storm_look();
    if (storm.all_taken) {
        for (uint32_t i = 0; i < STORM; i++) {
            link_close(storm.links[i]);
        }
    }
}

static void storm_dial(void)
{
    static const struct link_listener_events events = {
        .on_link = storm_on_link, .on_refused = pair_on_refused, .on_close = pair_on_listener_close};
    pair_listen(LINK_LISTEN_REQUIRE, "server");
    link_listener_close(pair.listener);
    support_run(&pair.loop, &pair.listener_closed);
    pair.listener_closed = false;
    memset(&storm, 0, sizeof storm);
    char reason[LINK_REASON_BYTES] = "";
    struct link_context *server = support_context(LINK_LISTEN_REQUIRE, "server", "ca");
    assert_int_equal(link_listener_open(&pair.loop, server, "127.0.0.1", 0, &events, &pair,
                                        &pair.listener, reason),
                     0);
    link_context_close(server);
    struct link_context *client = support_context(LINK_DIAL, "edge", "ca");
    for (uint32_t i = 0; i < STORM; i++) {
        assert_int_equal(link_dial(&pair.loop, client, "127.0.0.1",
                                   link_listener_port(pair.listener), NULL, &storm_events, NULL,
                                   &storm.links[i]),
                         0);
    }
    link_context_close(client);
}

/* Claim: when many come at once the first are done long before the last is looked at, so that those who give
 * up are few. Method: how many clients had an answer when the first was let in; all of them, would the
 * server answer whoever speaks. */
static void test_a_storm_of_handshakes_is_worked_off(void **state)
{
    (void)state;
    storm_dial();
    support_run(&pair.loop, &storm.all_taken);
    assert_true(storm.heard_at_first > 0);
    assert_true(storm.heard_at_first <= STORM / 10 * 9); /* how many depends on the processors */
    support_run(&pair.loop, &storm.all_closed);
    pair_finish();
}

/* Claim: a listener closes in the middle of a storm: whoever waits for its turn hears of it, nobody is let in
 * any more, and who is in stays. */
static void test_a_listener_closes_in_a_storm(void **state)
{
    (void)state;
    storm_dial();
    while (storm.heard == 0) {
        uv_run(&pair.loop, UV_RUN_ONCE);
    }
    const uint32_t taken = storm.taken;
    assert_true(taken < STORM / 2);
    pair_finish_listening();
    assert_int_equal(storm.taken, taken);
    for (uint32_t i = 0; i < taken; i++) {
        link_close(storm.let_in[i]);
    }
    storm_look();
    support_run(&pair.loop, &storm.all_closed);
    support_finish(&pair.loop);
}

/* A relay between dialer and listener that damages one byte of what the client sends. */
struct relay {
    uv_tcp_t listen, a, b;
    uv_connect_t connect;
    uint64_t passed, damage_at;
    uint64_t cut_at; /* 0: never; else end both sockets there */
    bool closed_a, closed_b;
    char buffer[65536];
};
static struct relay relay;

static void relay_on_close(uv_handle_t *handle)
{
    *(handle == (uv_handle_t *)&relay.a ? &relay.closed_a : &relay.closed_b) = true;
}
static void relay_end(void)
{
    if (!uv_is_closing((uv_handle_t *)&relay.a)) {
        uv_close((uv_handle_t *)&relay.a, relay_on_close);
        uv_close((uv_handle_t *)&relay.b, relay_on_close);
    }
}
static void relay_on_allocate(uv_handle_t *handle, size_t size, uv_buf_t *out)
{
    (void)handle;
    (void)size;
    *out = uv_buf_init(relay.buffer, sizeof relay.buffer);
}
struct relay_write {
    uv_write_t request;
    char data[];
};
static void relay_on_write(uv_write_t *request, int status)
{
    (void)status;
    free(CONTAINER_OF(request, struct relay_write, request));
}
static void relay_on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer)
{
    if (size < 0) {
        relay_end();
        return;
    }
    const bool up = stream == (uv_stream_t *)&relay.a;
    struct relay_write *write = malloc(sizeof *write + (size_t)size + 1);
    memcpy(write->data, buffer->base, (size_t)size);
    if (up) {
        if (relay.damage_at >= relay.passed && relay.damage_at < relay.passed + (uint64_t)size) {
            write->data[relay.damage_at - relay.passed] ^= 0x10;
        }
        relay.passed += (uint64_t)size;
    }
    uv_buf_t out = uv_buf_init(write->data, (unsigned)size);
    uv_write(&write->request, up ? (uv_stream_t *)&relay.b : (uv_stream_t *)&relay.a, &out, 1,
             relay_on_write);
    if (up && relay.cut_at != 0 && relay.passed >= relay.cut_at) {
        relay_end();
    }
}
static void relay_on_connect(uv_connect_t *request, int status)
{
    (void)request;
    assert_int_equal(status, 0);
    uv_read_start((uv_stream_t *)&relay.a, relay_on_allocate, relay_on_read);
    uv_read_start((uv_stream_t *)&relay.b, relay_on_allocate, relay_on_read);
}
static void relay_on_connection(uv_stream_t *stream, int status)
{
    assert_int_equal(status, 0);
    uv_tcp_init(&pair.loop, &relay.a);
    uv_tcp_init(&pair.loop, &relay.b);
    uv_accept(stream, (uv_stream_t *)&relay.a);
    struct sockaddr_in address;
    uv_ip4_addr("127.0.0.1", link_listener_port(pair.listener), &address);
    uv_tcp_connect(&relay.connect, &relay.b, (struct sockaddr *)&address, relay_on_connect);
}
static void relay_run(uint64_t damage_at, uint64_t cut_at)
{
    memset(&relay, 0, sizeof relay);
    relay.damage_at = damage_at;
    relay.cut_at = cut_at;
    uv_tcp_init(&pair.loop, &relay.listen);
    struct sockaddr_in address;
    uv_ip4_addr("127.0.0.1", 0, &address);
    uv_tcp_bind(&relay.listen, (struct sockaddr *)&address, 0);
    uv_listen((uv_stream_t *)&relay.listen, 1, relay_on_connection);
    int size = sizeof address;
    uv_tcp_getsockname(&relay.listen, (struct sockaddr *)&address, &size);
    pair.client_context = support_context(LINK_DIAL, "edge", "ca");
    assert_int_equal(link_dial(&pair.loop, pair.client_context, "127.0.0.1",
                               ntohs(address.sin_port), NULL, &side_events, &pair.client,
                               &pair.client.link),
                     0);
    link_context_close(pair.client_context);
    support_run(&pair.loop, &pair.client_closed);
    if (pair.server.open) {
        support_run(&pair.loop, &pair.both_closed);
    } else {
        support_run(&pair.loop, &pair.refused);
    }
    relay_end();
    support_run(&pair.loop, &relay.closed_b);
    uv_close((uv_handle_t *)&relay.listen, NULL);
}

/* Claim: one flipped bit or a cut anywhere ends both sides with a status, and never delivers a wrong
 * byte (side_on_bytes compares every one). */
static void test_damage_and_cuts_are_noticed(void **state)
{
    (void)state;
    for (uint64_t place = 0; place < 60000; place = place * 2 + 7) {
        for (int cut = 0; cut < 2; cut++) {
            pair_listen(LINK_LISTEN_REQUIRE, "server");
            pair.client.to_send = 200000;
            pair.client.end_when_sent = true;
            relay_run(cut ? UINT64_MAX : place, cut ? place + 1 : 0);
            const int server = pair.server.open ? pair.server.status : pair.refused_status;
            if (server >= 0 || pair.client.status >= 0) {
                fail_msg("place %d cut %d: server %d %s, client %d %s", (int)place, cut, server,
                         pair.server.reason, pair.client.status, pair.client.reason);
            }
            assert_true(pair.server.received < 200000);
            pair_finish();
        }
    }
}

/* Claim: nobody answers, nobody listens, no such name: on_close says which, once. */
static void test_dial_failures(void **state)
{
    (void)state;
    pair_listen(LINK_LISTEN_REQUIRE, "server");
    struct link_context *context = support_context(LINK_DIAL, "edge", "ca");
    struct link *link = NULL;
    assert_int_equal(link_dial(&pair.loop, context, "", 1, NULL, &side_events, &pair.client, &link),
                     STATUS_MALFORMED);
    assert_int_equal(link_dial(&pair.loop, context, "127.0.0.1", 1, NULL, &side_events,
                               &pair.client, &pair.client.link),
                     0);
    support_run(&pair.loop, &pair.client_closed);
    assert_int_equal(pair.client.status, -ECONNREFUSED);
    assert_string_equal(pair.client.reason, "connect to 127.0.0.1:1: connection refused");

    /* Closing at once, before anything is resolved or connected. */
    memset(&pair.client.closed, 0, sizeof pair.client.closed);
    pair.client_closed = false;
    assert_int_equal(link_dial(&pair.loop, context, "localhost", link_listener_port(pair.listener),
                               NULL, &side_events, &pair.client, &pair.client.link),
                     0);
    link_close(pair.client.link);
    assert_int_equal(link_write(pair.client.link, bytes_text("x")), STATUS_CLOSING);
    support_run(&pair.loop, &pair.client_closed);
    assert_int_equal(pair.client.status, 0);
    link_context_close(context);

    struct link_listener *second = NULL;
    char reason[LINK_REASON_BYTES] = "";
    context = support_context(LINK_LISTEN_REQUIRE, "server", "ca");
    assert_int_equal(link_listener_open(&pair.loop, context, "127.0.0.1",
                                        link_listener_port(pair.listener), &listener_events, NULL,
                                        &second, reason),
                     -EADDRINUSE);
    assert_non_null(strstr(reason, "address already in use"));
    assert_int_equal(link_listener_open(&pair.loop, context, "nowhere", 1, &listener_events, NULL,
                                        &second, reason),
                     STATUS_MALFORMED);
    link_context_close(context);
    pair_finish();
}

/* Claim: names are taken from a CN only in the one form, and only if they are names. */
static void test_node_names(void **state)
{
    (void)state;
    static const char *const good[] = {"system:node:a", "system:node:edge-1",
                                       "system:node:a.b-c.d9"};
    static const char *const bad[] = {"",
                                      "edge-1",
                                      "system:node:",
                                      "system:node:-a",
                                      "system:node:a-",
                                      "system:node:A",
                                      "system:node:a..b",
                                      "system:node:.a",
                                      "system:node:a.",
                                      "system:node:a_b",
                                      "system:node:a b",
                                      "system:nodes:a",
                                      "System:node:a",
                                      "system:node:a/../b",
                                      "system:node:a-.b"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_string_equal(identity_find_node(good[i]), good[i] + 12);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_null(identity_find_node(bad[i]));
    }
    char long_name[400];
    memset(long_name, 'a', sizeof long_name);
    long_name[64] = '\0';
    assert_false(identity_name_valid(long_name)); /* a label has at most 63 */
    long_name[63] = '\0';
    assert_true(identity_name_valid(long_name));
}

/* Claim: keys are 0600, nothing is overwritten without force, half a pair is pointed out, and what we
 * make is what openssl reads. */
static void test_certificates_are_made_once(void **state)
{
    (void)state;
    char reason[IDENTITY_REASON_BYTES] = "";
    const char *const groups[] = {"one", "two", "three"};
    const char *const sans[] = {"10.0.0.1", "fd00::1", "x.example", "*.y.example"};
    struct identity_request request = {.common_name = "many",
                                       .groups = groups,
                                       .groups_count = 3,
                                       .sans = sans,
                                       .sans_count = 4,
                                       .server = true,
                                       .client = true,
                                       .valid_from_s = time(NULL) - 60,
                                       .valid_until_s = time(NULL) + 40ll * 365 * 86400};
    assert_int_equal(identity_issue(support_path("ca"), &request, support_path("new/deep"), "many",
                                    false, reason),
                     IDENTITY_MADE);
    assert_int_equal(identity_issue(support_path("ca"), &request, support_path("new/deep"), "many",
                                    false, reason),
                     IDENTITY_KEPT);
    struct stat stat_of;
    assert_int_equal(stat(support_path("new/deep/many.key"), &stat_of), 0);
    assert_int_equal(stat_of.st_mode & 0777, 0600);
    char command[1024];
    snprintf(
        command, sizeof command,
        "openssl verify -CAfile %s -purpose sslserver -verify_ip 10.0.0.1 -verify_hostname "
        "a.y.example %s >/dev/null 2>&1 && "
        "openssl verify -CAfile %s -purpose sslclient %s > /dev/null 2>&1 && "
        "openssl x509 -in %s -noout -subject | grep -q 'O = one, O = two, O = three, CN = many'",
        support_path("ca/ca.crt"), support_path("new/deep/many.crt"),
        support_path("new/deep/ca.crt"), support_path("new/deep/many.crt"),
        support_path("new/deep/many.crt"));
    assert_int_equal(system(command), 0);

    assert_int_equal(unlink(support_path("new/deep/many.crt")), 0);
    assert_int_equal(identity_issue(support_path("ca"), &request, support_path("new/deep"), "many",
                                    false, reason),
                     STATUS_MALFORMED);
    assert_non_null(strstr(reason, "many.key is there without"));
    assert_int_equal(identity_issue(support_path("ca"), &request, support_path("new/deep"), "many",
                                    true, reason),
                     IDENTITY_MADE);
    assert_int_equal(identity_issue(support_path("nowhere"), &request, support_path("new"), "many",
                                    false, reason),
                     -ENOENT);
    const char *const bad_san = "not a name";
    request.sans = &bad_san;
    request.sans_count = 1;
    assert_int_equal(
        identity_issue(support_path("ca"), &request, support_path("new"), "bad", false, reason),
        STATUS_MALFORMED);
    assert_int_not_equal(access(support_path("new/bad.key"), F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_identities_are_exposed),
        cmocka_unit_test(test_a_certificate_may_be_optional),
        cmocka_unit_test(test_wrong_clients_are_refused),
        cmocka_unit_test(test_wrong_servers_are_refused),
        cmocka_unit_test(test_an_expired_client_is_refused),
        cmocka_unit_test(test_bad_files_are_named),
        cmocka_unit_test(test_a_large_transfer_both_ways),
        cmocka_unit_test(test_small_writes_share_a_record),
        cmocka_unit_test(test_small_writes_do_not_wait),
        cmocka_unit_test(test_a_write_at_the_end_of_a_turn_leaves),
        cmocka_unit_test(test_half_close),
        cmocka_unit_test(test_bytes_that_are_not_tls_are_refused),
        cmocka_unit_test(test_a_storm_of_handshakes_is_worked_off),
        cmocka_unit_test(test_a_listener_closes_in_a_storm),
        cmocka_unit_test(test_damage_and_cuts_are_noticed),
        cmocka_unit_test(test_dial_failures),
        cmocka_unit_test(test_node_names),
        cmocka_unit_test(test_certificates_are_made_once),
    };
    return cmocka_run_group_tests(tests, support_set_up, support_tear_down);
}
