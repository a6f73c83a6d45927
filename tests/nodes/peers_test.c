/* peers.h over real TLS: what a wrong, slow or doubled cloudcore can do to a right one. */
#include "tests/nodes/net_support.h"

#include "nodes/cloud/peers.h"
#include "nodes/net/identity_tls.h"
#include "schemas/limits.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct side {
    struct peers *peers;
    struct link_context *listen, *dial;
    uint16_t port;
    uint32_t frames, connected, lost;
    size_t bytes;
    uint64_t from;
    uint8_t last; /* first byte of the newest frame */
    bool closed;
    bool is_lost;
    uint32_t wanted;
    bool enough;                      /* `wanted` frames are here */
    char refused[IDENTITY_PIN_BYTES]; /* the key that is not heard; "": all are */
    bool shut_out;
    uint64_t shut_out_by;
};

static void side_on_frame(void *owner, uint64_t replica, struct bytes frame)
{
    struct side *side = owner;
    assert_int_equal((uintptr_t)frame.data % 8, 0);
    side->frames++;
    side->bytes += frame.size;
    side->from = replica;
    side->last = frame.data[0];
    side->enough = side->frames >= side->wanted;
}
static void side_on_connected(void *owner, uint64_t replica)
{
    (void)replica;
    ((struct side *)owner)->connected++;
}
static void side_on_lost(void *owner, uint64_t replica)
{
    (void)replica;
    struct side *side = owner;
    side->lost++;
    side->is_lost = true;
}
static void side_on_close(void *owner)
{
    ((struct side *)owner)->closed = true;
}
static bool side_on_key(void *owner, uint64_t replica, const char *key)
{
    const struct side *side = owner;
    assert_int_not_equal(replica, 0);
    return strcmp(side->refused, key) != 0;
}
static void side_on_shut_out(void *owner, uint64_t replica)
{
    struct side *side = owner;
    side->shut_out_by = replica;
    side->shut_out = true;
}
static const struct peers_events side_events = {
    .on_frame = side_on_frame,
    .on_connected = side_on_connected,
    .on_lost = side_on_lost,
    .on_key = side_on_key,
    .on_shut_out = side_on_shut_out,
    .on_close = side_on_close,
};

static void side_open(struct side *side, uv_loop_t *loop, uint64_t self, const char *name,
                      const struct peers_address *addresses, uint32_t count, uint16_t port)
{
    char reason[LINK_REASON_BYTES];
    side->port = port;
    side->listen = support_context(LINK_LISTEN_REQUIRE, name, "ca");
    side->dial = support_context(LINK_DIAL, name, "ca");
    assert_int_equal(peers_open(loop, side->listen, side->dial, "127.0.0.1", port, self,
                                &side_events, side, &side->peers, reason),
                     0);
    peers_set(side->peers, addresses, count);
}
static void side_close(struct side *side, uv_loop_t *loop)
{
    peers_close(side->peers);
    support_run(loop, &side->closed);
    link_context_close(side->listen);
    link_context_close(side->dial);
}

/* A peer that does as it pleases. */
struct raw {
    struct link_context *context;
    struct link *link;
    bool open, closed;
    bool may_hear; /* that it is shut out */
    int status;
};
static void raw_on_open(struct link *link, void *owner)
{
    (void)link;
    ((struct raw *)owner)->open = true;
}
static void raw_on_bytes(struct link *link, struct bytes bytes, void *owner)
{
    (void)link;
    (void)bytes;
    if (((struct raw *)owner)->may_hear) {
        return;
    }
    fail_msg("a link between cloudcores has one direction");
}
static void raw_on_close(struct link *link, int status, const char *reason, void *owner)
{
    (void)link;
    (void)reason;
    struct raw *raw = owner;
    raw->link = NULL;
    raw->closed = true;
    raw->status = status;
}
static const struct link_events raw_events = {
    .on_open = raw_on_open, .on_bytes = raw_on_bytes, .on_close = raw_on_close};

static void raw_dial(struct raw *raw, uv_loop_t *loop, const char *name, uint16_t port)
{
    *raw = (struct raw){.context = support_context(LINK_DIAL, name, "ca")};
    assert_int_equal(
        link_dial(loop, raw->context, "127.0.0.1", port, NULL, &raw_events, raw, &raw->link), 0);
    support_run(loop, &raw->open);
}
static void raw_end(struct raw *raw, uv_loop_t *loop)
{
    if (raw->link != NULL) {
        link_close(raw->link);
        support_run(loop, &raw->closed);
    }
    link_context_close(raw->context);
}
static void raw_send_frame(struct raw *raw, uint32_t size, uint32_t zero, const char *text)
{
    uint8_t bytes[64];
    put_le32(bytes, size);
    put_le32(bytes + 4, zero);
    memcpy(bytes + 8, text, strlen(text));
    assert_int_equal(link_write(raw->link, bytes_of(bytes, 8 + strlen(text))), 0);
}

/* Claim: two cloudcores find each other, whoever starts first, and frames of every size arrive whole and in
 * order, both ways; sending to nobody is dropped. */
static void test_frames_arrive(void **state)
{
    (void)state;
    uv_loop_t loop;
    assert_int_equal(uv_loop_init(&loop), 0);
    const struct peers_address all[] = {{1, "127.0.0.1", support_free_port()},
                                        {2, "127.0.0.1", support_free_port()}};
    struct side one = {.wanted = 1}, two = {.wanted = 2};
    side_open(&one, &loop, 1, "server", all, 2, all[0].port);
    assert_int_equal(peers_send(one.peers, 2, bytes_text("nobody there")), -ENOTCONN);
    assert_int_equal(peers_send(one.peers, 9, bytes_text("no such replica")), -ENOTCONN);
    for (int i = 0; i < 20; i++) {
        uv_run(&loop, UV_RUN_NOWAIT); /* refused at least once: two is not there yet */
    }
    side_open(&two, &loop, 2, "second", all, 2, all[1].port);
    while (one.connected == 0 || two.connected == 0) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    assert_true(peers_connected(one.peers, 2));
    static uint8_t large[LIMIT_WIRE_BYTES];
    large[0] = 'L';
    peers_send(one.peers, 2, bytes_text("a"));
    peers_send(one.peers, 2, bytes_of(large, sizeof large));
    support_run(&loop, &two.enough);
    two.enough = false;
    two.wanted = 3;
    peers_send(one.peers, 2, bytes_text("z"));
    peers_send(two.peers, 1, bytes_text("back"));
    support_run(&loop, &two.enough);
    support_run(&loop, &one.enough);
    assert_int_equal(two.frames, 3);
    assert_int_equal(two.bytes, sizeof large + 2);
    assert_int_equal(two.last, 'z');
    assert_int_equal(two.from, 1);
    assert_int_equal(one.from, 2);
    side_close(&two, &loop);
    side_close(&one, &loop);
    support_finish(&loop);
}

/* Claim: what waits for one replica is bounded; a full queue takes no frame, says so, and keeps the link: what
 * arrives afterwards is still in step. */
static void test_full_queue_keeps_step(void **state)
{
    (void)state;
    uv_loop_t loop;
    assert_int_equal(uv_loop_init(&loop), 0);
    const struct peers_address all[] = {{1, "127.0.0.1", support_free_port()},
                                        {2, "127.0.0.1", support_free_port()}};
    enum { FRAMES = 4, FRAME_BYTES = LIMIT_PEER_QUEUE_BYTES / FRAMES };
    static uint8_t large[FRAME_BYTES];
    struct side one = {0}, two = {.wanted = FRAMES};
    side_open(&one, &loop, 1, "server", all, 2, all[0].port);
    side_open(&two, &loop, 2, "second", all, 2, all[1].port);
    while (one.connected == 0) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    /* Heads and frames fill the queue up to 4 bytes below its bound: a head fits, its frame does not. */
    for (int i = 0; i < FRAMES; i++) {
        const size_t size = FRAME_BYTES - 8 - (i == 0 ? 4 : 0);
        assert_int_equal(peers_send(one.peers, 2, bytes_of(large, size)), 0);
    }
    for (int i = 0; i < 100; i++) {
        assert_int_equal(peers_send(one.peers, 2, bytes_text("dropped")), STATUS_FULL);
    }
    support_run(&loop, &two.enough);
    two.enough = false;
    two.wanted = FRAMES + 1;
    assert_int_equal(peers_send(one.peers, 2, bytes_text("kept")), 0);
    support_run(&loop, &two.enough);
    assert_int_equal(two.frames, FRAMES + 1);
    assert_int_equal(two.last, 'k');
    assert_int_equal(one.connected, 1);
    side_close(&one, &loop);
    side_close(&two, &loop);
    support_finish(&loop);
}

/* Claim: a head that is none ends the link before anything is handed over; one byte at a time is a frame
 * like any other. */
static void test_hostile_bytes(void **state)
{
    (void)state;
    uv_loop_t loop;
    assert_int_equal(uv_loop_init(&loop), 0);
    const struct peers_address all[] = {{1, "127.0.0.1", support_free_port()},
                                        {2, "127.0.0.1", support_free_port()}};
    struct side one = {.wanted = 1};
    side_open(&one, &loop, 1, "server", all, 2, all[0].port);
    static const struct {
        uint32_t size, zero;
    } heads[] = {
        {0, 0}, {LIMIT_WIRE_BYTES + 1, 0}, {UINT32_MAX, 0}, {8, 1}, {0x47455420, 0x2f204854}};
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        struct raw raw;
        raw_dial(&raw, &loop, "second", one.port);
        raw_send_frame(&raw, heads[i].size, heads[i].zero, "12345678");
        support_run(&loop, &raw.closed);
        raw_end(&raw, &loop);
    }
    assert_int_equal(one.frames, 0);
    struct raw slow;
    raw_dial(&slow, &loop, "second", one.port);
    const uint8_t bytes[] = {3, 0, 0, 0, 0, 0, 0, 0, 's', 'l', 'o'};
    for (size_t i = 0; i < sizeof bytes; i++) {
        assert_int_equal(one.frames, 0);
        assert_int_equal(link_write(slow.link, bytes_of(&bytes[i], 1)), 0);
        uv_run(&loop, UV_RUN_NOWAIT);
    }
    support_run(&loop, &one.enough);
    assert_int_equal(one.bytes, 3);
    assert_int_equal(one.from, 2);
    /* half a frame at the end: freed with the link (the sanitizer looks) */
    raw_send_frame(&slow, 1000, 0, "half");
    raw_end(&slow, &loop);
    side_close(&one, &loop);
    support_finish(&loop);
}

/* Claim: of two links of one replica the newer one counts, and the older one is closed. */
static void test_twice(void **state)
{
    (void)state;
    uv_loop_t loop;
    assert_int_equal(uv_loop_init(&loop), 0);
    const struct peers_address all[] = {{1, "127.0.0.1", support_free_port()},
                                        {2, "127.0.0.1", support_free_port()}};
    struct side one = {.wanted = 1};
    side_open(&one, &loop, 1, "server", all, 2, all[0].port);
    struct raw links[5];
    for (size_t i = 0; i < 5; i++) {
        raw_dial(&links[i], &loop, "second", one.port);
        if (i > 0) {
            support_run(&loop, &links[i - 1].closed);
        }
    }
    raw_send_frame(&links[4], 2, 0, "ok");
    support_run(&loop, &one.enough);
    assert_false(links[4].closed);
    for (size_t i = 0; i < 5; i++) {
        raw_end(&links[i], &loop);
    }
    side_close(&one, &loop);
    support_finish(&loop);
}

/* Claim: certificates of our authority that are no cloudcore of the group get no link: an edge, an admin,
 * and the replica itself. And closing with links half made, open, and full ends. */
static void test_strangers_and_close(void **state)
{
    (void)state;
    uv_loop_t loop;
    assert_int_equal(uv_loop_init(&loop), 0);
    const struct peers_address all[] = {{1, "127.0.0.1", support_free_port()},
                                        {2, "127.0.0.1", support_free_port()}};
    struct side one = {0};
    side_open(&one, &loop, 1, "server", all, 2, all[0].port);
    static const char *const strangers[] = {"edge", "admin", "server"};
    for (size_t i = 0; i < 3; i++) {
        struct raw raw;
        raw_dial(&raw, &loop, strangers[i], one.port);
        support_run(&loop, &raw.closed);
        raw_end(&raw, &loop);
    }
    struct raw open, half;
    raw_dial(&open, &loop, "second", one.port);
    raw_send_frame(&open, 1000, 0, "half a frame");
    half = (struct raw){.context = support_context(LINK_DIAL, "second", "ca")};
    assert_int_equal(
        link_dial(&loop, half.context, "127.0.0.1", one.port, NULL, &raw_events, &half, &half.link),
        0);
    side_close(&one, &loop);
    support_run(&loop, &open.closed);
    support_run(&loop, &half.closed);
    raw_end(&open, &loop);
    raw_end(&half, &loop);
    support_finish(&loop);
}

/* Claim: whom a replica is connected with changes while it runs: who is named is dialed, who is not named
 * any more gets what was queued and then no more, who moved is dialed where it is, and who stays keeps its
 * link. Method: two sides; the list of one grows, shrinks, and names a wrong address first. */
static void test_the_list_changes_while_running(void **state)
{
    (void)state;
    uv_loop_t loop;
    assert_int_equal(uv_loop_init(&loop), 0);
    const struct peers_address all[] = {{1, "127.0.0.1", support_free_port()},
                                        {2, "127.0.0.1", support_free_port()}};
    const struct peers_address wrong = {2, "127.0.0.1", support_free_port()};
    struct side one = {0}, two = {.wanted = 1};
    side_open(&one, &loop, 1, "server", NULL, 0, all[0].port);
    side_open(&two, &loop, 2, "second", NULL, 0, all[1].port);
    peers_set(one.peers, &wrong, 1);
    for (int i = 0; i < 20; i++) {
        uv_run(&loop, UV_RUN_NOWAIT);
    }
    assert_int_equal(one.connected, 0);
    peers_set(one.peers, all, 2);
    while (one.connected == 0) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    peers_set(one.peers, all, 2);
    peers_send(one.peers, 2, bytes_text("still there"));
    peers_send(one.peers, 2, bytes_text("farewell"));
    peers_set(one.peers, all, 1); /* ourselves only */
    assert_false(peers_connected(one.peers, 2));
    peers_send(one.peers, 2, bytes_text("never"));
    two.wanted = 2;
    support_run(&loop, &two.enough);
    assert_int_equal(two.last, 'f');
    peers_set(one.peers, all, 2); /* while the old link still ends */
    while (one.connected < 2) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    two.enough = false;
    two.wanted = 3;
    peers_send(one.peers, 2, bytes_text("again"));
    support_run(&loop, &two.enough);
    assert_int_equal(two.frames, 3);
    side_close(&one, &loop);
    side_close(&two, &loop);
    support_finish(&loop);
}

/* Claim: a replica is lost when no link with it is left in either direction, and told so once; one link
 * that breaks, or is replaced by a newer one, is no loss. */
static void test_lost_when_both_ways_are(void **state)
{
    (void)state;
    uv_loop_t loop;
    assert_int_equal(uv_loop_init(&loop), 0);
    const struct peers_address all[] = {{1, "127.0.0.1", support_free_port()},
                                        {2, "127.0.0.1", support_free_port()}};
    struct side one = {.wanted = 1}, two = {0};
    side_open(&one, &loop, 1, "server", all, 2, all[0].port);
    side_open(&two, &loop, 2, "second", all, 2, all[1].port);
    while (one.connected == 0 || two.connected == 0) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    peers_send(two.peers, 1, bytes_text("both ways are up"));
    support_run(&loop, &one.enough);

    struct raw newer; /* takes the place of what two dialed; its end leaves what one dialed */
    one.enough = false;
    one.wanted = 2;
    raw_dial(&newer, &loop, "second", one.port);
    raw_send_frame(&newer, 2, 0, "ok");
    support_run(&loop, &one.enough);
    raw_end(&newer, &loop);
    one.enough = false;
    one.wanted = 3;
    while (!one.enough) { /* until two has dialed again */
        peers_send(two.peers, 1, bytes_text("again"));
        uv_run(&loop, UV_RUN_ONCE);
    }
    assert_int_equal(one.lost, 0);

    side_close(&two, &loop);
    support_run(&loop, &one.is_lost);
    assert_int_equal(one.lost, 1);
    assert_int_equal(two.lost, 0); /* it closed them itself */
    for (int i = 0; i < 50; i++) {
        uv_run(&loop, UV_RUN_NOWAIT);
    }
    assert_int_equal(one.lost, 1);
    side_close(&one, &loop);
    support_finish(&loop);
}

/* Claim: a key that is not heard gets no link, whoever dials and whatever its certificate says: a link that is
 * there ends at the next review, one that comes is told why and nothing of it is looked at, and who has it
 * under the same number with another key is heard meanwhile. Method: two sides, of which one stops hearing the
 * other; the key is that of the certificate in the file. */
static void test_a_key_that_is_not_heard(void **state)
{
    (void)state;
    uv_loop_t loop;
    assert_int_equal(uv_loop_init(&loop), 0);
    const struct peers_address all[] = {{1, "127.0.0.1", support_free_port()},
                                        {2, "127.0.0.1", support_free_port()}};
    struct side one = {.wanted = 1}, two = {.wanted = 1};
    side_open(&one, &loop, 1, "server", all, 2, all[0].port);
    side_open(&two, &loop, 2, "second", all, 2, all[1].port);
    while (one.connected == 0 || two.connected == 0) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    peers_send(two.peers, 1, bytes_text("heard"));
    support_run(&loop, &one.enough);
    peers_review(one.peers); /* nothing changes */
    assert_int_equal(identity_key_of_file(support_path("ca/second.crt"), one.refused), 0);
    peers_review(one.peers);
    peers_send(two.peers, 1, bytes_text("not any more"));
    support_run(&loop, &two.shut_out);
    assert_int_equal(two.shut_out_by, 1);
    two.shut_out = false;
    support_run(&loop, &two.shut_out); /* it dials again, and is told again */
    assert_false(peers_connected(one.peers, 2));
    assert_int_equal(one.frames, 1);
    struct raw raw = {.context = support_context(LINK_DIAL, "second", "ca"), .may_hear = true};
    assert_int_equal(
        link_dial(&loop, raw.context, "127.0.0.1", one.port, NULL, &raw_events, &raw, &raw.link),
        0);
    support_run(&loop, &raw.open);
    raw_send_frame(&raw, 2, 0, "no");
    support_run(&loop, &raw.closed);
    raw_end(&raw, &loop);
    assert_int_equal(one.frames, 1);

    snprintf(one.refused, sizeof one.refused, "%064x", 7); /* somebody else's */
    one.enough = false;
    one.wanted = 2;
    while (!one.enough) {
        peers_send(two.peers, 1, bytes_text("again"));
        uv_run(&loop, UV_RUN_ONCE);
    }
    side_close(&one, &loop);
    side_close(&two, &loop);
    support_finish(&loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_list_changes_while_running),
        cmocka_unit_test(test_lost_when_both_ways_are),
        cmocka_unit_test(test_frames_arrive),
        cmocka_unit_test(test_full_queue_keeps_step),
        cmocka_unit_test(test_hostile_bytes),
        cmocka_unit_test(test_twice),
        cmocka_unit_test(test_strangers_and_close),
        cmocka_unit_test(test_a_key_that_is_not_heard),
    };
    return cmocka_run_group_tests(tests, support_set_up, support_tear_down);
}
