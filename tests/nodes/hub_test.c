/* hub.h alone: the edge's end of a session, and what a wrong cloud can do to it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "nodes/edge/hub.h"
#include "schemas/check.h"

struct rig {
    struct hub hub;
    struct hub_door door;
    struct codec *codec;
    struct codec *said_codec;
    uint32_t dials;
    uint32_t address;
    uint32_t closes;
    uint16_t said;
    struct bytes said_body;
    int append_status;
    uint32_t appends;
    struct hub_mark mark;
    uint64_t up_last;
    uint64_t up_acked;
    uint32_t welcomes;
    uint64_t down_stream;
    uint64_t down_position;
    uint64_t random;
};

static void rig_dial(void *context, uint32_t address)
{
    struct rig *rig = context;
    rig->dials++;
    rig->address = address;
}

static int rig_send(void *context, struct bytes frame)
{
    struct rig *rig = context;
    codec_reset(rig->said_codec);
    assert_int_equal(codec_frame_read(rig->said_codec, codec_copy(rig->said_codec, frame),
                                      &rig->said, &rig->said_body),
                     0);
    return 0;
}

static bool rig_room(void *context)
{
    (void)context;
    return true;
}

static void rig_close(void *context)
{
    ((struct rig *)context)->closes++;
}

static void rig_random(void *context, void *buffer, size_t size)
{
    const struct rig *rig = context;
    memset(buffer, 0, size);
    memcpy(buffer, &rig->random, size < sizeof rig->random ? size : sizeof rig->random);
}

static void rig_log(void *context, bool warning, const char *event, const char *pairs)
{
    (void)context;
    (void)warning;
    (void)event;
    (void)pairs;
}

static void rig_hello(void *context, struct hello *out)
{
    const struct rig *rig = context;
    *out = (struct hello){
        .node = "edge-1",
        .cluster = "c1",
        .down_stream = rig->down_stream,
        .down_position = rig->down_position,
        .up_stream = 77,
        .up_first = 2,
        .up_last = rig->up_last,
    };
}

static int rig_up_read(void *context, uint64_t after, size_t max_bytes, struct codec *codec,
                       struct batch *out)
{
    const struct rig *rig = context;
    (void)max_bytes;
    (void)codec;
    *out = (struct batch){
        .node = "edge-1",
        .stream = 77,
        .previous = after < 2 ? 2 : after, /* what is below is trimmed */
        .last = after < rig->up_last ? rig->up_last : (after < 2 ? 2 : after),
        .tip = rig->up_last,
    };
    return 0;
}

static int rig_append(void *context, struct bytes record, struct hub_mark mark)
{
    struct rig *rig = context;
    (void)record;
    if (rig->append_status == 0) {
        rig->appends++;
        rig->mark = mark;
    }
    return rig->append_status;
}

static void rig_welcomed(void *context, const struct welcome *welcome)
{
    (void)welcome;
    ((struct rig *)context)->welcomes++;
}

static void rig_up_acked(void *context, uint64_t stream, uint64_t position)
{
    struct rig *rig = context;
    assert_int_equal(stream, 77);
    rig->up_acked = position;
}

static void rig_init(struct rig *rig)
{
    *rig = (struct rig){.up_last = 4, .down_stream = 5, .down_position = 15};
    rig->codec = codec_create();
    rig->said_codec = codec_create();
    rig->door = (struct hub_door){
        .context = rig,
        .dial = rig_dial,
        .send = rig_send,
        .room = rig_room,
        .close = rig_close,
        .random = rig_random,
        .log = rig_log,
        .hello = rig_hello,
        .up_read = rig_up_read,
        .append = rig_append,
        .welcomed = rig_welcomed,
        .up_acked = rig_up_acked,
    };
    hub_init(&rig->hub, &rig->door, 3, 8000, "test", NULL, 0);
}

static void rig_deinit(struct rig *rig)
{
    hub_deinit(&rig->hub);
    codec_destroy(rig->codec);
    codec_destroy(rig->said_codec);
}

static void rig_frame(struct rig *rig, uint16_t kind, struct bytes body, uint64_t now_ms)
{
    struct bytes frame;
    assert_int_equal(codec_frame_build(rig->codec, kind, body, &frame), 0);
    hub_on_frame(&rig->hub, frame, now_ms);
}

static void rig_say_welcome(struct rig *rig, const struct welcome *welcome)
{
    struct bytes body;
    codec_reset(rig->codec);
    assert_int_equal(codec_welcome_build(rig->codec, welcome, &body), 0);
    rig_frame(rig, WIRE_WELCOME, body, 2);
}

static struct welcome rig_welcome(void)
{
    return (struct welcome){
        .version = 1,
        .cluster = "c1",
        .epoch = 3,
        .mode = WELCOME_RESUME,
        .down_stream = 5,
        .down_tip = 20,
        .up_stream = 77,
        .up_position = 3,
        .heartbeat_ms = 1000,
    };
}

static void rig_activate(struct rig *rig)
{
    (void)hub_tick(&rig->hub, 0);
    hub_on_link_up(&rig->hub, 1);
    assert_int_equal(rig->said, WIRE_HELLO);
    const struct welcome welcome = rig_welcome();
    rig_say_welcome(rig, &welcome);
    assert_int_equal(rig->hub.state, HUB_ACTIVE);
}

static void rig_say_batch(struct rig *rig, uint64_t previous, uint64_t last, const char *node,
                          uint64_t stream, uint64_t now_ms)
{
    struct bytes body;
    codec_reset(rig->codec);
    const struct batch batch = {
        .node = node, .stream = stream, .previous = previous, .last = last, .tip = last};
    assert_int_equal(codec_batch_build(rig->codec, &batch, &body), 0);
    rig_frame(rig, WIRE_APPEND, body, now_ms);
}

static struct ack rig_said_ack(struct rig *rig)
{
    struct ack ack;
    assert_int_equal(rig->said, WIRE_ACK);
    assert_int_equal(codec_ack_read(rig->said_codec, rig->said_body, &ack), 0);
    rig->said = WIRE_NONE;
    return ack;
}

/* Claim: a batch is acknowledged once it is settled, not before; one the log does not take is asked for
 * again after a pause; marks of an older connection say nothing. */
static void test_down_batches_are_acknowledged_when_settled(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig);
    rig_activate(&rig);
    assert_int_equal(rig.welcomes, 1);
    assert_int_equal(rig.said, WIRE_APPEND); /* up 4: what the cloud has not applied */
    rig.said = WIRE_NONE;
    rig_say_batch(&rig, 15, 17, "edge-1", 5, 10);
    assert_int_equal(rig.appends, 1);
    (void)hub_tick(&rig.hub, 11);
    assert_int_equal(rig.said, WIRE_NONE);
    struct hub_mark old = rig.mark;
    old.link--;
    hub_on_settled(&rig.hub, old, 12);
    (void)hub_tick(&rig.hub, 12);
    assert_int_equal(rig.said, WIRE_NONE);
    hub_on_settled(&rig.hub, rig.mark, 12);
    (void)hub_tick(&rig.hub, 12);
    assert_int_equal(rig_said_ack(&rig).position, 17);

    rig.append_status = -ENOSPC;
    rig_say_batch(&rig, 17, 18, "edge-1", 5, 20);
    rig.append_status = 0;
    rig_say_batch(&rig, 18, 19, "edge-1", 5, 21);
    assert_int_equal(rig.appends, 1); /* it would leave a gap */
    (void)hub_tick(&rig.hub, 22);
    assert_int_equal(rig.said, WIRE_NONE);
    (void)hub_tick(&rig.hub, 20 + HUB_RETRY_MS);
    const struct ack ack = rig_said_ack(&rig);
    assert_true(ack.refused);
    assert_int_equal(ack.position, 17);
    rig_say_batch(&rig, 17, 19, "edge-1", 5, 600);
    assert_int_equal(rig.appends, 2);
    rig_deinit(&rig);
}

/* Claim: without room nothing that comes down reaches the log, pings and what goes up go on, the cloud is asked
 * again before it would take us for stalled, and at once when there is room; a snapshot that was dropped begins
 * anew. Method: a batch held over two rounds, then a snapshot. */
static void test_no_room_holds_what_comes_down(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig);
    rig_activate(&rig);
    hub_hold(&rig.hub, true, 5);
    uint64_t now_ms = 10;
    for (int i = 0; i < 2; i++) {
        rig_say_batch(&rig, 15, 17, "edge-1", 5, now_ms);
        assert_int_equal(rig.appends, 0);
        rig.said = WIRE_NONE;
        bool pinged = false;
        const uint64_t until_ms = now_ms + HUB_HELD_MS;
        for (; now_ms < until_ms; now_ms += 500) {
            rig.hub.heard_ms = now_ms; /* the cloud answers pings */
            rig.hub.up_moved_ms = now_ms;
            (void)hub_tick(&rig.hub, now_ms);
            pinged = pinged || rig.said == WIRE_PING;
            assert_true(rig.said != WIRE_ACK);
        }
        assert_true(pinged);
        rig.hub.ping_ms = UINT64_MAX;
        (void)hub_tick(&rig.hub, until_ms);
        assert_true(rig_said_ack(&rig).refused);
        rig.hub.ping_ms = now_ms;
    }
    rig_say_batch(&rig, 15, 17, "edge-1", 5, now_ms);
    hub_hold(&rig.hub, false, now_ms);
    rig.hub.ping_ms = UINT64_MAX;
    (void)hub_tick(&rig.hub, now_ms);
    assert_int_equal(rig_said_ack(&rig).position, 15);
    rig_say_batch(&rig, 15, 17, "edge-1", 5, now_ms);
    assert_int_equal(rig.appends, 1);

    hub_hold(&rig.hub, true, now_ms);
    struct bytes body;
    const struct snapshot begin = {
        .stream = 5, .position = 20, .id = FEED_SNAPSHOT_BIT | 1, .step = SNAPSHOT_BEGIN};
    codec_reset(rig.codec);
    assert_int_equal(codec_snapshot_build(rig.codec, &begin, &body), 0);
    rig_frame(&rig, WIRE_SNAPSHOT, body, now_ms);
    assert_int_equal(rig.hub.state, HUB_ACTIVE);
    assert_int_equal(rig.appends, 1);
    hub_hold(&rig.hub, false, now_ms);
    assert_int_equal(rig.hub.state, HUB_CLOSING);
    rig_deinit(&rig);
}

/* Claim: a Welcome that does not fit our Hello, batches of another node or stream, frames out of place and
 * torn ones end the connection and reach neither log nor state. */
static void test_a_wrong_cloud_is_left(void **state)
{
    (void)state;
    struct welcome wrongs[5];
    for (size_t i = 0; i < 5; i++) {
        wrongs[i] = rig_welcome();
    }
    wrongs[0].version = WIRE_VERSION + 1;
    wrongs[1].epoch = 0;
    wrongs[2].up_stream = 78;
    wrongs[3].down_stream = 6; /* resume of a stream we do not have */
    wrongs[4].down_stream = FEED_SNAPSHOT_BIT | 5;
    for (size_t i = 0; i < 5; i++) {
        struct rig rig;
        rig_init(&rig);
        (void)hub_tick(&rig.hub, 0);
        hub_on_link_up(&rig.hub, 1);
        rig_say_welcome(&rig, &wrongs[i]);
        assert_int_equal(rig.hub.state, HUB_CLOSING);
        assert_int_equal(rig.closes, 1);
        assert_int_equal(rig.welcomes, 0);
        rig_deinit(&rig);
    }

    for (int i = 0; i < 4; i++) {
        struct rig rig;
        struct bytes body;
        rig_init(&rig);
        rig_activate(&rig);
        switch (i) {
        case 0:
            rig_say_batch(&rig, 15, 16, "edge-2", 5, 3);
            break;
        case 1:
            rig_say_batch(&rig, 15, 16, "edge-1", 6, 3);
            break;
        case 2: { /* an Ack of what was never shipped */
            const struct ack ack = {.stream = 77, .position = 99};
            codec_reset(rig.codec);
            assert_int_equal(codec_ack_build(rig.codec, &ack, &body), 0);
            rig_frame(&rig, WIRE_ACK, body, 3);
            break;
        }
        default: { /* rows of a snapshot that was not begun */
            const struct snapshot step = {.stream = 5,
                                          .position = 20,
                                          .id = FEED_SNAPSHOT_BIT | 1,
                                          .step = SNAPSHOT_ROWS};
            codec_reset(rig.codec);
            assert_int_equal(codec_snapshot_build(rig.codec, &step, &body), 0);
            rig_frame(&rig, WIRE_SNAPSHOT, body, 3);
            break;
        }
        }
        assert_int_equal(rig.hub.state, HUB_CLOSING);
        assert_int_equal(rig.appends, 0);
        rig_deinit(&rig);
    }

    struct bytes body;
    struct bytes frame;
    struct codec *codec = codec_create();
    const struct batch batch = {
        .node = "edge-1", .stream = 5, .previous = 15, .last = 16, .tip = 16};
    assert_int_equal(codec_batch_build(codec, &batch, &body), 0);
    assert_int_equal(codec_frame_build(codec, WIRE_APPEND, body, &frame), 0);
    for (size_t size = 0; size < frame.size; size++) {
        struct rig rig;
        rig_init(&rig);
        rig_activate(&rig);
        uint8_t *torn = malloc(size + 1);
        assert_non_null(torn);
        memcpy(torn, frame.data, size);
        hub_on_frame(&rig.hub, bytes_of(torn, size), 3);
        assert_true(rig.hub.state == HUB_CLOSING || rig.appends == 1);
        free(torn);
        rig_deinit(&rig);
    }
    codec_destroy(codec);
}

/* Claim: the first attempt and the one after a session that worked are immediate, others wait a random
 * time below a doubling bound, each tries the next cloudcore; a cloudcore that stops is no failure, and its
 * Bye says when to come back; a Bye that a person must act upon waits the longest. */
static void test_attempts_are_paced(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig);
    rig.random = UINT64_MAX - 1; /* chance % (bound + 1): some place inside */
    (void)hub_tick(&rig.hub, 0);
    assert_int_equal(rig.dials, 1);
    uint64_t now_ms = 0;
    uint64_t bound_ms = HUB_BACKOFF_MS;
    for (uint32_t i = 0; i < 8; i++) {
        const uint32_t before = rig.address;
        hub_on_link_down(&rig.hub, now_ms);
        assert_true(rig.hub.due_ms <= now_ms + bound_ms);
        assert_int_equal(rig.hub.due_ms, now_ms + rig.random % (bound_ms + 1));
        now_ms = rig.hub.due_ms;
        (void)hub_tick(&rig.hub, now_ms);
        assert_int_equal(rig.address, (before + 1) % 3);
        bound_ms = 2 * bound_ms > 8000 ? 8000 : 2 * bound_ms;
    }
    hub_on_link_up(&rig.hub, now_ms);
    const struct welcome welcome = rig_welcome();
    rig_say_welcome(&rig, &welcome);
    hub_on_link_down(&rig.hub, now_ms + 5);
    assert_int_equal(rig.hub.due_ms, now_ms + 5);
    (void)hub_tick(&rig.hub, now_ms + 5);
    hub_on_link_up(&rig.hub, now_ms + 6);
    struct bytes body;
    codec_reset(rig.codec);
    rig_say_welcome(&rig, &welcome);
    const struct bye stops = {.code = BYE_SHUTDOWN, .reason = "it stops", .retry_ms = 130};
    assert_int_equal(codec_bye_build(rig.codec, &stops, &body), 0);
    rig_frame(&rig, WIRE_BYE, body, now_ms + 6);
    hub_on_link_down(&rig.hub, now_ms + 6);
    assert_int_equal(rig.hub.failures, 0);
    assert_int_equal(rig.hub.due_ms, now_ms + 6 + 130);
    now_ms += 136;
    (void)hub_tick(&rig.hub, now_ms);
    hub_on_link_up(&rig.hub, now_ms);
    codec_reset(rig.codec);
    const struct bye bye = {.code = BYE_CLUSTER, .reason = "another cluster"};
    assert_int_equal(codec_bye_build(rig.codec, &bye, &body), 0);
    rig_frame(&rig, WIRE_BYE, body, now_ms + 7);
    assert_int_equal(rig.hub.state, HUB_CLOSING);
    hub_on_link_down(&rig.hub, now_ms + 8);
    assert_int_equal(rig.hub.due_ms, now_ms + 8 + 8000);
    rig_deinit(&rig);
}

/* Claim: after a session that worked the next attempt goes to any of the other cloudcores, each as likely: the
 * edges of one that died do not all go to the same. */
static void test_the_edges_of_a_dead_cloudcore_part(void **state)
{
    (void)state;
    for (uint32_t chance = 0; chance < 4; chance++) {
        struct rig rig;
        rig_init(&rig);
        rig_activate(&rig);
        const uint32_t lost = rig.address;
        rig.random = chance;
        const struct welcome welcome = rig_welcome();
        hub_on_link_down(&rig.hub, 5);
        (void)hub_tick(&rig.hub, 5);
        assert_int_equal(rig.address, (lost + 1) % 3); /* the chance of the first Welcome was 0 */
        hub_on_link_up(&rig.hub, 6);
        rig_say_welcome(&rig, &welcome);
        hub_on_link_down(&rig.hub, 7);
        (void)hub_tick(&rig.hub, 7);
        assert_int_equal(rig.address, (lost + 2 + chance % 2) % 3);
        rig_deinit(&rig);
    }
}

/* Claim: whoever wants one snapshot after the other comes back for them at a doubling distance; after
 * a long peace at the shortest one again. */
static void test_snapshots_are_paced(void **state)
{
    (void)state;
    static const uint64_t holds_ms[] = {2000, 4000, 8000, 8000, 2000};
    struct rig rig;
    rig_init(&rig);
    uint64_t now_ms = 0;
    (void)hub_tick(&rig.hub, now_ms);
    for (uint32_t i = 0; i < 5; i++) {
        now_ms += i == 4 ? HUB_SNAPSHOT_AGAIN_MS : 10;
        hub_on_link_up(&rig.hub, now_ms);
        const struct welcome welcome = rig_welcome();
        rig_say_welcome(&rig, &welcome);
        assert_int_equal(rig.hub.state, HUB_ACTIVE);
        hub_want_snapshot(&rig.hub, now_ms);
        hub_want_snapshot(&rig.hub, now_ms); /* said twice, meant once */
        hub_on_link_down(&rig.hub, now_ms);
        assert_int_equal(rig.hub.due_ms, now_ms + holds_ms[i]);
        now_ms = rig.hub.due_ms;
        (void)hub_tick(&rig.hub, now_ms);
    }
    rig_deinit(&rig);
}

/* Claim: new containers wait until what the cloud had at Welcome is here, never for ever, and never
 * without a session. */
static void test_what_the_cloud_had_comes_first(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig);
    (void)hub_tick(&rig.hub, 0);
    hub_on_link_up(&rig.hub, 10);
    struct welcome welcome = rig_welcome();
    const uint64_t stream = welcome.down_stream;
    welcome.down_tip += 5;
    const uint64_t tip = welcome.down_tip;
    rig_say_welcome(&rig, &welcome);
    const uint64_t now_ms = rig.hub.tip_ms;
    assert_true(hub_catches_up(&rig.hub, stream, tip - 1, now_ms));
    assert_true(hub_catches_up(&rig.hub, stream + 1, tip + 7, now_ms)); /* its snapshot is on its way */
    assert_false(hub_catches_up(&rig.hub, stream, tip, now_ms));
    assert_false(hub_catches_up(&rig.hub, stream, tip - 1, now_ms + LIMIT_CATCH_UP_MS));
    hub_on_link_down(&rig.hub, now_ms + 1);
    assert_false(hub_catches_up(&rig.hub, stream, tip - 1, now_ms + 1));
    rig_deinit(&rig);
}

/* Claim: what is shipped starts where Welcome says, acks trim it, silence and a stall end the session. */
static void test_up_feed_and_deadlines(void **state)
{
    (void)state;
    struct rig rig;
    struct bytes body;
    rig_init(&rig);
    rig_activate(&rig);
    struct batch batch;
    assert_int_equal(rig.said, WIRE_APPEND);
    assert_int_equal(codec_batch_read(rig.said_codec, rig.said_body, &batch), 0);
    assert_int_equal(batch.previous, 3);
    assert_int_equal(batch.last, 4);
    assert_int_equal(batch.epoch, 3);
    assert_int_equal(rig.up_acked, 3); /* Welcome said so */
    const struct ack ack = {.stream = 77, .position = 4};
    codec_reset(rig.codec);
    assert_int_equal(codec_ack_build(rig.codec, &ack, &body), 0);
    rig_frame(&rig, WIRE_ACK, body, 3);
    assert_int_equal(rig.up_acked, 4);
    (void)hub_tick(&rig.hub, 1002);
    assert_int_equal(rig.said, WIRE_PING);
    (void)hub_tick(&rig.hub, 3003);
    assert_int_equal(rig.hub.state, HUB_CLOSING);
    rig_deinit(&rig);

    rig_init(&rig);
    rig_activate(&rig); /* up 4 is never acknowledged, though the cloud answers pings */
    uint64_t now_ms = 2;
    while (rig.hub.state == HUB_ACTIVE && now_ms < 2 * HUB_STALL_MS) {
        const struct ping ping = {.time_ms = 0};
        codec_reset(rig.codec);
        assert_int_equal(codec_ping_build(rig.codec, &ping, &body), 0);
        rig_frame(&rig, WIRE_PONG, body, now_ms);
        (void)hub_tick(&rig.hub, now_ms);
        now_ms += 500;
    }
    assert_true(now_ms >= HUB_STALL_MS && now_ms < HUB_STALL_MS + 2000);
    rig_deinit(&rig);

    /* A cloud that asks for what it said it had applied was restored: not followed. */
    rig_init(&rig);
    (void)hub_tick(&rig.hub, 0);
    hub_on_link_up(&rig.hub, 1);
    struct welcome behind = rig_welcome();
    behind.up_position = 1;
    rig_say_welcome(&rig, &behind);
    assert_int_equal(rig.hub.state, HUB_CLOSING);
    rig_deinit(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_down_batches_are_acknowledged_when_settled),
        cmocka_unit_test(test_no_room_holds_what_comes_down),
        cmocka_unit_test(test_a_wrong_cloud_is_left),
        cmocka_unit_test(test_attempts_are_paced),
        cmocka_unit_test(test_the_edges_of_a_dead_cloudcore_part),
        cmocka_unit_test(test_snapshots_are_paced),
        cmocka_unit_test(test_what_the_cloud_had_comes_first),
        cmocka_unit_test(test_up_feed_and_deadlines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
