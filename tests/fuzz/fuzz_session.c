/* Can an edge hurt the cloud by what it says after its certificate was checked? The input is a
 * conversation: flags (1 the node has no object yet, 2 proposals are answered late, 4 batches are refused
 * as a gap, 8 the connection takes nothing at first), then frames, each behind its length (u16).
 *
 * Whatever comes, the session proposes only well-formed records with its own epoch, is welcomed once, says
 * goodbye at most once, and ends. */
#include "nodes/cloud/session.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define EXPECT(claim) ((claim) ? (void)0 : abort())

enum { ABSENT = 1, LATE = 2, GAP = 4, FULL = 8 };

static struct cloud {
    struct session session;
    struct session_codecs codecs;
    struct codec *codec; /* of what the state hands out, and of looking at what is proposed */
    uint64_t down_tip;
    uint64_t up_position;
    uint32_t registering; /* proposals under way */
    uint32_t opening;
    uint32_t batches;
    bool there;
    bool wants_turn;
    bool full;
    bool closed;
    int active;
} cloud;

static int on_send(void *context, uint64_t session, struct bytes frame)
{
    (void)context;
    (void)session;
    uint16_t kind;
    struct bytes body;
    if (cloud.full) {
        return STATUS_FULL;
    }
    EXPECT(!cloud.closed);
    EXPECT(codec_frame_read(cloud.codec, codec_aligned(cloud.codec, frame), &kind, &body) == 0);
    return 0;
}

static bool on_room(void *context, uint64_t session)
{
    (void)context;
    (void)session;
    return !cloud.full;
}

static void on_close(void *context, uint64_t session)
{
    (void)context;
    (void)session;
    EXPECT(!cloud.closed);
    cloud.closed = true;
}

static void on_log(void *context, const struct session *session, bool warning, const char *event,
                   const char *pairs)
{
    (void)context;
    (void)session;
    (void)warning;
    EXPECT(strlen(event) + strlen(pairs) < LIMIT_LOG_LINE_BYTES);
}

static void on_want_turn(void *context, uint64_t session)
{
    (void)context;
    EXPECT(session == 9);
    cloud.wants_turn = true;
}

static int on_node_find(void *context, const char *node, struct session_node *out)
{
    (void)context;
    (void)node;
    *out = (struct session_node){
        .uid = "u",
        .down_stream = 5,
        .down_tip = cloud.down_tip,
        .down_acked = 10,
        .down_floor = 10,
        .digest = {1, 2},
        .up_stream = 7,
        .up_position = cloud.up_position,
        .epoch = cloud.session.epoch,
    };
    return cloud.there ? 0 : SESSION_NODE_NONE;
}

static enum session_kind on_knows(void *context, uint16_t kind)
{
    (void)context;
    return kind < 99 ? SESSION_KIND_KNOWN : kind == 99 ? SESSION_KIND_LATER : SESSION_KIND_UNKNOWN;
}

static const char *on_cluster(void *context)
{
    (void)context;
    return "c";
}

static int on_read(void *context, const char *node, uint64_t stream, uint64_t after,
                   size_t max_bytes, struct bytes *out, uint64_t *out_last)
{
    (void)context;
    (void)max_bytes;
    EXPECT(stream == 5);
    if (after >= cloud.down_tip) {
        return FEED_READ_END;
    }
    const struct batch batch = {.node = node,
                                .stream = stream,
                                .previous = after,
                                .last = cloud.down_tip,
                                .tip = cloud.down_tip};
    *out_last = batch.last;
    return codec_batch_build(cloud.codec, &batch, out) == 0 ? FEED_READ_BATCH : STATUS_TOO_LARGE;
}

static int on_snapshot_open(void *context, const char *node, uint64_t id, bool retell,
                            uint64_t *out_position)
{
    (void)retell;
    (void)context;
    (void)node;
    (void)id;
    *out_position = cloud.down_tip;
    return 0;
}

static int on_snapshot_next(void *context, const char *node, uint64_t id, size_t max_bytes,
                            struct bytes *out, bool *out_end)
{
    (void)context;
    (void)node;
    (void)max_bytes;
    const struct snapshot step = {
        .stream = 5, .position = cloud.down_tip, .id = id, .step = SNAPSHOT_END};
    *out_end = true;
    return codec_snapshot_build(cloud.codec, &step, out);
}

static void on_snapshot_close(void *context, const char *node, uint64_t id)
{
    (void)context;
    (void)node;
    (void)id;
}

static int on_register(void *context, uint64_t session, const struct hello *hello)
{
    (void)context;
    (void)session;
    (void)hello;
    cloud.registering++;
    return 0;
}

static int on_propose_open(void *context, uint64_t session, struct bytes bytes)
{
    (void)context;
    (void)session;
    struct record record;
    EXPECT(codec_record_read(cloud.codec, bytes, &record) == 0);
    EXPECT(record.kind == RECORD_SESSION_OPEN);
    cloud.opening++;
    return 0;
}

static int on_propose_batch(void *context, uint64_t session, struct bytes bytes)
{
    (void)context;
    (void)session;
    struct record record;
    struct batch batch;
    EXPECT(codec_record_read(cloud.codec, bytes, &record) == 0);
    EXPECT(record.kind == RECORD_UP_BATCH);
    EXPECT(codec_batch_read(cloud.codec, record.body, &batch) == 0);
    EXPECT(batch.epoch == cloud.session.epoch && batch.stream == 7);
    cloud.batches++;
    return 0;
}

static int on_propose_ack(void *context, uint64_t session, struct bytes bytes)
{
    (void)context;
    (void)session;
    struct record record;
    struct down_ack ack;
    EXPECT(codec_record_read(cloud.codec, bytes, &record) == 0);
    EXPECT(codec_down_ack_read(cloud.codec, record.body, &ack) == 0);
    EXPECT(ack.epoch == cloud.session.epoch && ack.position <= cloud.down_tip);
    return 0;
}

static void on_active(void *context, const struct session *session)
{
    (void)context;
    (void)session;
    cloud.active++;
    EXPECT(cloud.active == 1);
}

static void on_inactive(void *context, const struct session *session)
{
    (void)context;
    (void)session;
    cloud.active--;
    EXPECT(cloud.active == 0);
}

static const struct session_door door = {
    .send = on_send,
    .room = on_room,
    .close = on_close,
    .log = on_log,
    .want_turn = on_want_turn,
    .node_find = on_node_find,
    .knows = on_knows,
    .cluster = on_cluster,
    .read = on_read,
    .snapshot_open = on_snapshot_open,
    .snapshot_next = on_snapshot_next,
    .snapshot_close = on_snapshot_close,
    .register_node = on_register,
    .propose_open = on_propose_open,
    .propose_batch = on_propose_batch,
    .propose_ack = on_propose_ack,
    .on_active = on_active,
    .on_inactive = on_inactive,
};
static const struct session_config config = {
    .replica = 1,
    .origin = "cloudcore-1",
    .heartbeat_ms = 1000,
    .silence_ms = 5000,
    .window_bytes = 64u * 1024u,
};

/* The state answers what was proposed. */
static void answer(uint8_t flags, uint64_t now_ms)
{
    while (!cloud.closed && cloud.registering > 0) {
        cloud.registering--;
        cloud.there = true;
        session_on_registered(&cloud.session, 0, now_ms);
    }
    while (!cloud.closed && cloud.opening > 0) {
        cloud.opening--;
        session_on_opened(&cloud.session, 0, SESSION_ACCEPTED, 4, now_ms);
    }
    while (!cloud.closed && cloud.batches > 0) {
        cloud.batches--;
        cloud.up_position += (flags & GAP) == 0;
        session_on_batch(&cloud.session, 0,
                         (flags & GAP) != 0 ? SESSION_REFUSED_GAP : SESSION_ACCEPTED,
                         cloud.up_position, now_ms);
    }
}

static void frame_take(const uint8_t *data, size_t size, uint64_t now_ms)
{
    uint8_t *exact =
        malloc(size == 0 ? 1 : size); /* aligned, and a sanitizer sees a byte too far */
    memcpy(exact, data, size);
    session_on_frame(&cloud.session, bytes_of(exact, size), now_ms);
    free(exact);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    const uint8_t flags = data[0];
    const struct session_codecs codecs = cloud.codecs;
    struct codec *codec = cloud.codec;
    cloud = (struct cloud){.codecs = codecs,
                           .codec = codec,
                           .down_tip = 20,
                           .up_position = 3,
                           .there = (flags & ABSENT) == 0,
                           .full = (flags & FULL) != 0};
    if (codec == NULL) {
        cloud.codec = codec_create();
        cloud.codecs.in = codec_create();
        cloud.codecs.feed = codec_create();
        cloud.codecs.out = codec_create();
    }
    session_init(&cloud.session, 9, "edge-1", &door, &config, &cloud.codecs, 0);
    uint64_t now_ms = 1;
    size_t at = 1;
    while (!cloud.closed && size - at >= 2) {
        const size_t asked = (size_t)data[at] | (size_t)data[at + 1] << 8;
        at += 2;
        const size_t frame = asked < size - at ? asked : size - at;
        frame_take(data + at, frame, now_ms);
        at += frame;
        now_ms += 100;
        if ((flags & LATE) == 0) {
            answer(flags, now_ms);
        }
        if (!cloud.closed) {
            session_tick(&cloud.session, now_ms);
        }
        if (cloud.wants_turn && !cloud.closed) {
            cloud.wants_turn = false;
            session_turn(&cloud.session);
        }
        if (cloud.full && !cloud.closed) {
            cloud.full = false;
            session_on_writable(&cloud.session, now_ms);
        }
        codec_reset(cloud.codec);
    }
    answer(flags, now_ms);
    cloud.down_tip++;
    if (!cloud.closed) {
        session_on_state(&cloud.session, now_ms);
    }
    if (!cloud.closed) {
        session_tick(&cloud.session, now_ms + config.silence_ms + SESSION_STALL_MS);
    }
    session_deinit(&cloud.session);
    EXPECT(cloud.active == 0);
    codec_reset(cloud.codec);
    codec_reset(cloud.codecs.in);
    codec_reset(cloud.codecs.feed);
    codec_reset(cloud.codecs.out);
    return 0;
}
