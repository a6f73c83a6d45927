/* session.h alone: what each frame of an edge leads to, the wrong ones first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "nodes/cloud/session.h"
#include "schemas/check.h"

#define CLUSTER "c1"

/* The world of one session: what it said and asked for last. */
struct rig {
    struct session session;
    struct session_codecs codecs;
    struct codec *codec; /* of the test's own frames */
    struct codec *said_codec;

    bool node_there;
    bool upgraded; /* all members are */
    struct session_node node;
    const char *cluster;
    int propose_status;

    uint16_t said; /* kind of the newest frame; WIRE_NONE: nothing since rig_take */
    uint32_t said_count;
    struct bytes said_body;
    bool closed;
    uint32_t registered;
    uint32_t opened;
    uint32_t batches;
    uint32_t acks;
    uint64_t ack_position;
    int active;
    bool full;
    bool wants_turn;
    size_t
        batch_bytes;   /* of `read`: so many rows, each with one more; 0: one batch up to the tip */
    size_t sent_bytes; /* of Appends, since the test set it to 0 */
};

static int rig_send(void *context, uint64_t session, struct bytes frame)
{
    struct rig *rig = context;
    assert_int_equal(session, 9);
    if (rig->full) {
        return STATUS_FULL;
    }
    codec_reset(rig->said_codec);
    struct bytes copy = codec_copy(rig->said_codec, frame);
    assert_int_equal(codec_frame_read(rig->said_codec, copy, &rig->said, &rig->said_body), 0);
    rig->said_count++;
    rig->sent_bytes += rig->said == WIRE_APPEND ? rig->said_body.size : 0;
    return 0;
}

static bool rig_room(void *context, uint64_t session)
{
    (void)session;
    return !((struct rig *)context)->full;
}

static void rig_close(void *context, uint64_t session)
{
    struct rig *rig = context;
    (void)session;
    assert_false(rig->closed);
    rig->closed = true;
}

static void rig_log(void *context, const struct session *session, bool warning, const char *event,
                    const char *pairs)
{
    (void)context;
    (void)session;
    (void)warning;
    (void)event;
    (void)pairs;
}

static void rig_want_turn(void *context, uint64_t session)
{
    assert_int_equal(session, 9);
    ((struct rig *)context)->wants_turn = true;
}

/* Its turn, if it wants one. */
static void rig_turn(struct rig *rig)
{
    if (rig->wants_turn) {
        rig->wants_turn = false;
        session_turn(&rig->session);
    }
}

static int rig_node_find(void *context, const char *node, struct session_node *out)
{
    struct rig *rig = context;
    assert_string_equal(node, "edge-1");
    *out = rig->node;
    return rig->node_there ? 0 : SESSION_NODE_NONE;
}

#define KIND_LATER 99u

static enum session_kind rig_knows(void *context, uint16_t kind)
{
    if (kind == KIND_LATER && !((struct rig *)context)->upgraded) {
        return SESSION_KIND_LATER;
    }
    return kind < 100 ? SESSION_KIND_KNOWN : SESSION_KIND_UNKNOWN;
}

static const char *rig_cluster(void *context)
{
    return ((struct rig *)context)->cluster;
}

static int rig_read(void *context, const char *node, uint64_t stream, uint64_t after,
                    size_t max_bytes, struct bytes *out, uint64_t *out_last)
{
    struct rig *rig = context;
    (void)node;
    (void)max_bytes;
    assert_int_equal(stream, rig->node.down_stream);
    if (after >= rig->node.down_tip) {
        return FEED_READ_END;
    }
    static uint8_t zeros[LIMIT_FEED_APPEND_BYTES];
    const struct sequenced filler = {.sequence = after + 1,
                                     .record = bytes_of(zeros, rig->batch_bytes)};
    codec_reset(rig->codec);
    const struct batch batch = {
        .node = "edge-1",
        .stream = stream,
        .previous = after,
        .last = rig->batch_bytes > 0 ? after + 1 : rig->node.down_tip,
        .tip = rig->node.down_tip,
        .records = &filler,
        .record_count = rig->batch_bytes > 0,
    };
    *out_last = batch.last;
    assert_int_equal(codec_batch_build(rig->codec, &batch, out), 0);
    return FEED_READ_BATCH;
}

static int rig_snapshot_open(void *context, const char *node, uint64_t id, bool retell,
                             uint64_t *out_position)
{
    struct rig *rig = context;
    (void)node;
    (void)id;
    (void)retell;
    *out_position = rig->node.down_tip;
    return 0;
}

static int rig_snapshot_next(void *context, const char *node, uint64_t id, size_t max_bytes,
                             struct bytes *out, bool *out_end)
{
    struct rig *rig = context;
    (void)node;
    (void)max_bytes;
    codec_reset(rig->codec);
    const struct snapshot step = {
        .stream = rig->node.down_stream,
        .position = rig->node.down_tip,
        .id = id,
        .step = SNAPSHOT_END,
    };
    *out_end = true;
    return codec_snapshot_build(rig->codec, &step, out);
}

static void rig_snapshot_close(void *context, const char *node, uint64_t id)
{
    (void)context;
    (void)node;
    (void)id;
}

static int rig_register(void *context, uint64_t session, const struct hello *hello)
{
    struct rig *rig = context;
    (void)session;
    (void)hello;
    rig->registered++;
    return rig->propose_status;
}

static int rig_propose_open(void *context, uint64_t session, struct bytes record)
{
    struct rig *rig = context;
    (void)session;
    (void)record;
    rig->opened++;
    return rig->propose_status;
}

static int rig_propose_batch(void *context, uint64_t session, struct bytes bytes)
{
    struct rig *rig = context;
    struct record record;
    (void)session;
    assert_int_equal(codec_record_read(rig->codecs.out, bytes, &record), 0);
    assert_int_equal(record.kind, RECORD_UP_BATCH);
    if (rig->propose_status == 0) {
        rig->batches++;
    }
    return rig->propose_status;
}

static int rig_propose_ack(void *context, uint64_t session, struct bytes bytes)
{
    struct rig *rig = context;
    struct record record;
    struct down_ack ack;
    (void)session;
    assert_int_equal(codec_record_read(rig->codecs.out, bytes, &record), 0);
    assert_int_equal(codec_down_ack_read(rig->codecs.out, record.body, &ack), 0);
    assert_int_equal(ack.epoch, rig->session.epoch);
    rig->acks++;
    rig->ack_position = ack.position;
    return rig->propose_status;
}

static void rig_on_active(void *context, const struct session *session)
{
    (void)session;
    ((struct rig *)context)->active++;
}

static void rig_on_inactive(void *context, const struct session *session)
{
    (void)session;
    ((struct rig *)context)->active--;
}

static struct session_door rig_door(struct rig *rig)
{
    return (struct session_door){
        .context = rig,
        .send = rig_send,
        .room = rig_room,
        .close = rig_close,
        .log = rig_log,
        .want_turn = rig_want_turn,
        .node_find = rig_node_find,
        .knows = rig_knows,
        .cluster = rig_cluster,
        .read = rig_read,
        .snapshot_open = rig_snapshot_open,
        .snapshot_next = rig_snapshot_next,
        .snapshot_close = rig_snapshot_close,
        .register_node = rig_register,
        .propose_open = rig_propose_open,
        .propose_batch = rig_propose_batch,
        .propose_ack = rig_propose_ack,
        .on_active = rig_on_active,
        .on_inactive = rig_on_inactive,
    };
}

static struct session_door door;
static const struct session_config config = {
    .replica = 1,
    .origin = "cloudcore-1",
    .heartbeat_ms = 1000,
    .silence_ms = 5000,
    .window_bytes = 1024u * 1024u,
};

static void rig_init(struct rig *rig)
{
    *rig = (struct rig){
        .node_there = true,
        .cluster = CLUSTER,
        .node =
            {
                .uid = "uid-1",
                .down_stream = 5,
                .down_tip = 20,
                .down_acked = 10,
                .down_floor = 10,
                .digest = {1, 2},
                .up_stream = 77,
                .up_position = 3,
            },
    };
    rig->codecs.in = codec_create();
    rig->codecs.feed = codec_create();
    rig->codecs.out = codec_create();
    rig->codec = codec_create();
    rig->said_codec = codec_create();
    door = rig_door(rig);
    session_init(&rig->session, 9, "edge-1", &door, &config, &rig->codecs, 0);
}

static void rig_deinit(struct rig *rig)
{
    session_deinit(&rig->session);
    assert_int_equal(rig->active, 0);
    codec_destroy(rig->codecs.in);
    codec_destroy(rig->codecs.feed);
    codec_destroy(rig->codecs.out);
    codec_destroy(rig->codec);
    codec_destroy(rig->said_codec);
}

static void rig_frame(struct rig *rig, uint16_t kind, struct bytes body, uint64_t now_ms)
{
    struct bytes frame;
    assert_int_equal(codec_frame_build(rig->codec, kind, body, &frame), 0);
    struct bytes copy = bytes_of(malloc(frame.size), frame.size);
    assert_non_null(copy.data);
    memcpy((void *)(uintptr_t)copy.data, frame.data, frame.size);
    session_on_frame(&rig->session, copy, now_ms);
    rig_turn(rig);
    free((void *)(uintptr_t)copy.data);
}

static struct hello rig_hello(void)
{
    return (struct hello){
        .version = WIRE_VERSION,
        .node = "edge-1",
        .cluster = CLUSTER,
        .down_stream = 5,
        .down_position = 15,
        .up_stream = 77,
        .up_first = 0,
        .up_last = 8,
    };
}

static void rig_say_hello(struct rig *rig, const struct hello *hello)
{
    struct bytes body;
    codec_reset(rig->codec);
    assert_int_equal(codec_hello_build(rig->codec, hello, &body), 0);
    rig_frame(rig, WIRE_HELLO, body, 1);
}

/* The code of the Bye that ended it. */
static uint16_t rig_bye(struct rig *rig)
{
    struct bye bye;
    assert_int_equal(rig->session.state, SESSION_LEAVING);
    assert_true(rig->closed);
    assert_int_equal(rig->said, WIRE_BYE);
    assert_int_equal(codec_bye_read(rig->said_codec, rig->said_body, &bye), 0);
    return bye.code;
}

static void rig_activate(struct rig *rig, const struct hello *hello)
{
    rig_say_hello(rig, hello);
    assert_int_equal(rig->session.state, SESSION_OPEN);
    rig->node.epoch = 4;
    session_on_opened(&rig->session, 0, SESSION_ACCEPTED, 4, 2);
    rig_turn(rig);
}

static void rig_say_batch(struct rig *rig, uint64_t previous, uint64_t last, uint16_t kind,
                          uint64_t epoch)
{
    struct bytes body;
    struct bytes record;
    codec_reset(rig->codec);
    assert_int_equal(
        codec_record_build(rig->codec, &(struct record){.kind = kind, .key = "k"}, &record), 0);
    const struct sequenced sequenced = {.sequence = last, .record = record};
    const struct batch batch = {
        .node = "edge-1",
        .epoch = epoch,
        .stream = 77,
        .previous = previous,
        .last = last,
        .tip = last,
        .records = &sequenced,
        .record_count = 1,
    };
    assert_int_equal(codec_batch_build(rig->codec, &batch, &body), 0);
    rig_frame(rig, WIRE_APPEND, body, 3);
}

/* Claim: each wrong Hello is answered with its own Bye, before anything is proposed. */
static void test_wrong_hellos_are_told_apart(void **state)
{
    (void)state;
    struct wrong {
        uint16_t code;
        struct hello hello;
        const char *cluster;
    } wrongs[7];
    for (size_t i = 0; i < 7; i++) {
        wrongs[i] = (struct wrong){.hello = rig_hello(), .cluster = CLUSTER};
    }
    wrongs[0].code = BYE_IDENTITY;
    wrongs[0].hello.node = "edge-2";
    wrongs[1].code = BYE_CLUSTER;
    wrongs[1].hello.cluster = "another";
    wrongs[2].code = BYE_VERSION;
    wrongs[2].hello.version = 0;
    wrongs[3].code = BYE_BEHIND;
    wrongs[3].cluster = "";
    wrongs[4].code = BYE_PROTOCOL;
    wrongs[4].hello.up_stream = 0;
    wrongs[5].code = BYE_PROTOCOL;
    wrongs[5].hello.up_stream = FEED_SNAPSHOT_BIT | 1;
    wrongs[6].code = BYE_PROTOCOL;
    wrongs[6].hello.up_first = 9;
    for (size_t i = 0; i < 7; i++) {
        struct rig rig;
        rig_init(&rig);
        rig.cluster = wrongs[i].cluster;
        rig_say_hello(&rig, &wrongs[i].hello);
        assert_int_equal(rig_bye(&rig), wrongs[i].code);
        assert_int_equal(rig.opened + rig.registered, 0);
        rig_deinit(&rig);
    }
}

/* Claim: positions decide between resume and snapshot; a different digest at the same tip is a snapshot. */
static void test_welcome_resumes_or_replaces(void **state)
{
    (void)state;
    struct change {
        uint64_t stream, position;
        struct tag digest;
        uint8_t mode;
    } const changes[] = {
        {5, 15, {0, 0}, WELCOME_RESUME},   {5, 10, {0, 0}, WELCOME_RESUME},
        {5, 9, {0, 0}, WELCOME_SNAPSHOT},  {4, 15, {0, 0}, WELCOME_SNAPSHOT},
        {0, 0, {0, 0}, WELCOME_SNAPSHOT},  {5, 20, {1, 2}, WELCOME_RESUME},
        {5, 20, {1, 3}, WELCOME_SNAPSHOT},
    };
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        struct rig rig;
        struct hello hello = rig_hello();
        rig_init(&rig);
        hello.down_stream = changes[i].stream;
        hello.down_position = changes[i].position;
        hello.digest = changes[i].digest;
        rig.full = true; /* Welcome only: then look at it */
        rig_say_hello(&rig, &hello);
        rig.full = false;
        rig.node.epoch = 4;
        session_on_opened(&rig.session, 0, SESSION_ACCEPTED, 4, 2);
        assert_int_equal(rig.session.state, SESSION_ACTIVE);
        assert_int_equal(rig.active, 1);
        rig_turn(&rig);
        /* Then the feed begins with a batch after the position, or with BEGIN. */
        const bool resume = changes[i].mode == WELCOME_RESUME;
        if (resume && changes[i].position == 20) {
            assert_int_equal(rig.said, WIRE_WELCOME);
        } else {
            assert_int_equal(rig.said, resume ? WIRE_APPEND : WIRE_SNAPSHOT);
        }
        if (resume && changes[i].position < 20) {
            struct batch batch;
            assert_int_equal(codec_batch_read(rig.said_codec, rig.said_body, &batch), 0);
            assert_int_equal(batch.previous, changes[i].position);
        }
        rig_deinit(&rig);
    }
}

/* Claim: an unknown node is registered first; a session whose open fails ends; one that is ahead of us
 * waits, then is sent away. */
static void test_ways_to_active(void **state)
{
    (void)state;
    struct rig rig;
    struct hello hello = rig_hello();
    rig_init(&rig);
    rig.node_there = false;
    rig_say_hello(&rig, &hello);
    assert_int_equal(rig.session.state, SESSION_REGISTER);
    assert_int_equal(rig.registered, 1);
    rig.node_there = true;
    session_on_registered(&rig.session, 0, 2);
    assert_int_equal(rig.session.state, SESSION_OPEN);
    session_on_opened(&rig.session, STATUS_UNKNOWN, SESSION_ACCEPTED, 0, 3);
    assert_int_equal(rig_bye(&rig), BYE_BEHIND);
    rig_deinit(&rig);

    rig_init(&rig);
    rig.propose_status = STATUS_FULL;
    rig_say_hello(&rig, &hello);
    assert_int_equal(rig_bye(&rig), BYE_OVERLOAD);
    rig_deinit(&rig);

    rig_init(&rig);
    hello.down_position = 25;
    rig_activate(&rig, &hello);
    assert_int_equal(rig.session.state, SESSION_BEHIND);
    session_on_state(&rig.session, 3);
    assert_int_equal(rig.session.state, SESSION_BEHIND);
    (void)session_tick(&rig.session, 2 + SESSION_BEHIND_MS);
    assert_int_equal(rig_bye(&rig), BYE_BEHIND);
    rig_deinit(&rig);

    rig_init(&rig);
    rig_activate(&rig, &hello);
    rig.node.down_tip = 30;
    session_on_state(&rig.session, 4);
    assert_int_equal(rig.session.state, SESSION_ACTIVE);
    rig_deinit(&rig);
}

/* Claim: a newer epoch, a deleted node and another uid end an active session, each with its own Bye. */
static void test_fences_end_a_session(void **state)
{
    (void)state;
    struct rig rig;
    const struct hello hello = rig_hello();
    rig_init(&rig);
    rig_activate(&rig, &hello);
    rig.node.epoch = 5;
    session_on_state(&rig.session, 3);
    assert_int_equal(rig_bye(&rig), BYE_REPLACED);
    rig_deinit(&rig);

    rig_init(&rig);
    rig_activate(&rig, &hello);
    rig.node_there = false;
    session_on_state(&rig.session, 3);
    assert_int_equal(rig_bye(&rig), BYE_REMOVED);
    rig_deinit(&rig);

    rig_init(&rig);
    rig_activate(&rig, &hello);
    rig.node.uid = "uid-2";
    session_on_state(&rig.session, 3);
    assert_int_equal(rig_bye(&rig), BYE_REMOVED);
    rig_deinit(&rig);
}

static struct ack rig_said_ack(struct rig *rig)
{
    struct ack ack;
    assert_int_equal(rig->said, WIRE_ACK);
    assert_int_equal(codec_ack_read(rig->said_codec, rig->said_body, &ack), 0);
    rig->said = WIRE_NONE;
    return ack;
}

/* Claim: an upward batch is acknowledged when it is applied, not before; what could not be proposed or
 * was lost with a leader is asked for again, after a pause, once. */
static void test_up_batches_are_acknowledged_when_applied(void **state)
{
    (void)state;
    struct rig rig;
    struct hello hello = rig_hello();
    hello.down_position = 20;
    hello.digest = (struct tag){1, 2};
    rig_init(&rig);
    rig_activate(&rig, &hello);
    rig_say_batch(&rig, 3, 5, RECORD_POD_STATUS, 4);
    rig_say_batch(&rig, 5, 7, RECORD_POD_STATUS, 4);
    assert_int_equal(rig.batches, 2);
    assert_int_equal(rig.said, WIRE_WELCOME); /* nothing is promised yet */
    session_on_batch(&rig.session, 0, SESSION_ACCEPTED, 5, 4);
    struct ack ack = rig_said_ack(&rig);
    assert_int_equal(ack.position, 5);
    assert_false(ack.refused);
    session_on_batch(&rig.session, STATUS_UNKNOWN, SESSION_ACCEPTED, 0, 5); /* lost with a leader */
    rig_say_batch(&rig, 7, 8, RECORD_POD_STATUS, 4);
    assert_int_equal(rig.batches, 2); /* it would leave a gap */
    (void)session_tick(&rig.session, 6);
    assert_int_equal(rig.said, WIRE_NONE);
    (void)session_tick(&rig.session, 5 + SESSION_RETRY_MS);
    ack = rig_said_ack(&rig);
    assert_true(ack.refused);
    assert_int_equal(ack.position, 5);
    rig_say_batch(&rig, 5, 8, RECORD_POD_STATUS, 4);
    assert_int_equal(rig.batches, 3);
    session_on_batch(&rig.session, 0, SESSION_ACCEPTED, 8, 1100);
    ack = rig_said_ack(&rig);
    assert_int_equal(ack.position, 8);

    rig.propose_status = STATUS_FULL;
    rig_say_batch(&rig, 8, 9, RECORD_POD_STATUS, 4);
    rig.propose_status = 0;
    (void)session_tick(&rig.session, 3 + SESSION_RETRY_MS);
    ack = rig_said_ack(&rig);
    assert_true(ack.refused);
    assert_int_equal(ack.position, 8);
    rig_deinit(&rig);
}

/* Claim: what older members of the group do not understand yet is not taken, and asked for again: the session
 * stays, and it is taken once they are upgraded. */
static void test_a_kind_waits_for_the_last_member(void **state)
{
    (void)state;
    struct rig rig;
    struct hello hello = rig_hello();
    rig_init(&rig);
    rig_activate(&rig, &hello);
    rig_say_batch(&rig, 3, 5, KIND_LATER, 4);
    assert_int_equal(rig.batches, 0);
    (void)session_tick(&rig.session, 3 + 3 * SESSION_RETRY_MS);
    assert_int_equal(rig.session.state, SESSION_ACTIVE);
    rig.upgraded = true;
    rig_say_batch(&rig, 3, 5, KIND_LATER, 4);
    assert_int_equal(rig.batches, 1);
    rig_deinit(&rig);
}

/* Claim: a batch of another session, of another node's stream or with a kind nobody knows never reaches
 * the log; frames that are torn or come too early end the session and nothing else. */
static void test_bad_frames_end_the_session(void **state)
{
    (void)state;
    struct rig rig;
    struct hello hello = rig_hello();
    rig_init(&rig);
    rig_activate(&rig, &hello);
    rig_say_batch(&rig, 3, 5, RECORD_POD_STATUS, 3);
    assert_int_equal(rig_bye(&rig), BYE_PROTOCOL);
    rig_deinit(&rig);

    rig_init(&rig);
    rig_activate(&rig, &hello);
    rig_say_batch(&rig, 3, 5, 200, 4);
    assert_int_equal(rig_bye(&rig), BYE_PROTOCOL);
    assert_int_equal(rig.batches, 0);
    rig_deinit(&rig);

    rig_init(&rig);
    rig_say_batch(&rig, 3, 5, RECORD_POD_STATUS, 4); /* before Hello */
    assert_int_equal(rig_bye(&rig), BYE_PROTOCOL);
    rig_deinit(&rig);

    rig_init(&rig);
    rig_activate(&rig, &hello);
    rig_say_hello(&rig, &hello); /* twice */
    assert_int_equal(rig_bye(&rig), BYE_PROTOCOL);
    rig_deinit(&rig);

    struct bytes body;
    struct bytes frame;
    struct codec *codec = codec_create();
    assert_int_equal(codec_hello_build(codec, &hello, &body), 0);
    assert_int_equal(codec_frame_build(codec, WIRE_HELLO, body, &frame), 0);
    for (size_t size = 0; size < frame.size; size++) {
        rig_init(&rig);
        uint8_t *torn = malloc(size + 1);
        assert_non_null(torn);
        memcpy(torn, frame.data, size);
        session_on_frame(&rig.session, bytes_of(torn, size), 1);
        assert_true(rig.session.state == SESSION_LEAVING || rig.session.state == SESSION_OPEN);
        free(torn);
        rig_deinit(&rig);
    }
    codec_destroy(codec);
}

/* Claim: acks of the edge become proposals, each position once, and not those of what was never sent;
 * silence ends the session; a full connection loses no Ack. */
static void test_acks_silence_and_back_pressure(void **state)
{
    (void)state;
    struct rig rig;
    struct hello hello = rig_hello();
    rig_init(&rig);
    rig_activate(&rig, &hello);
    assert_int_equal(rig.acks, 1); /* Hello said what is durable there */
    assert_int_equal(rig.ack_position, 15);
    struct bytes body;
    const struct ack ack = {.stream = 5, .position = 20};
    for (int i = 0; i < 2; i++) {
        codec_reset(rig.codec);
        assert_int_equal(codec_ack_build(rig.codec, &ack, &body), 0);
        rig_frame(&rig, WIRE_ACK, body, 3);
        assert_int_equal(rig.acks, 2);
        assert_int_equal(rig.ack_position, 20);
    }
    for (int lost = 1; lost >= 0; lost--) { /* a lost one is said again, once, by itself */
        session_on_acked(&rig.session, lost ? STATUS_UNKNOWN : 0);
        for (int tick = 0; tick < 2; tick++) {
            (void)session_tick(&rig.session, 4);
            assert_int_equal(rig.acks, 3);
            assert_int_equal(rig.ack_position, 20);
        }
    }
    rig.full = true;
    rig_say_batch(&rig, 3, 5, RECORD_POD_STATUS, 4);
    session_on_batch(&rig.session, 0, SESSION_ACCEPTED, 5, 4);
    rig.said = WIRE_NONE;
    rig.full = false;
    session_on_writable(&rig.session, 5);
    assert_int_equal(rig_said_ack(&rig).position, 5);

    assert_int_equal(rig.session.state, SESSION_ACTIVE);
    (void)session_tick(&rig.session, 3 + config.silence_ms);
    assert_int_equal(rig_bye(&rig), BYE_SHUTDOWN);
    rig_deinit(&rig);

    rig_init(&rig);
    rig_activate(&rig, &hello);
    const struct ack never = {.stream = 5, .position = 21};
    codec_reset(rig.codec);
    assert_int_equal(codec_ack_build(rig.codec, &never, &body), 0);
    rig_frame(&rig, WIRE_ACK, body, 3);
    assert_int_equal(rig_bye(&rig), BYE_PROTOCOL);
    rig_deinit(&rig);
}

/* Claim: however long a node's log is, it ships one piece in a turn, asks for the next turn, and ships all of
 * it so.
 * Method: two hundred rows of 100 KiB; every turn is measured. */
static void test_ships_in_turns(void **state)
{
    (void)state;
    struct rig rig;
    struct hello hello = rig_hello();
    rig_init(&rig);
    rig.node.down_tip = 220;
    rig.batch_bytes = 100u * 1024u;
    hello.down_position = 20;
    rig_activate(&rig, &hello);
    uint32_t turns = 1;
    for (; rig.session.down.sent < 220; turns++) {
        assert_in_range(rig.sent_bytes, 1, LIMIT_SESSION_TURN_BYTES + rig.batch_bytes + 1024);
        rig.sent_bytes = 0;
        if (!rig.wants_turn) { /* the window is full: the edge acknowledges */
            struct bytes body;
            const struct ack ack = {.stream = 5, .position = rig.session.down.sent};
            codec_reset(rig.codec);
            assert_int_equal(codec_ack_build(rig.codec, &ack, &body), 0);
            rig_frame(&rig, WIRE_ACK, body, 3);
        } else {
            rig_turn(&rig);
        }
    }
    assert_in_range(turns, 200 / 6, 300);
    rig_deinit(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrong_hellos_are_told_apart),
        cmocka_unit_test(test_welcome_resumes_or_replaces),
        cmocka_unit_test(test_ways_to_active),
        cmocka_unit_test(test_fences_end_a_session),
        cmocka_unit_test(test_up_batches_are_acknowledged_when_applied),
        cmocka_unit_test(test_a_kind_waits_for_the_last_member),
        cmocka_unit_test(test_bad_frames_end_the_session),
        cmocka_unit_test(test_acks_silence_and_back_pressure),
        cmocka_unit_test(test_ships_in_turns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
