/* Can bytes of the log, of a peer or of an edge hurt the codec? The first byte picks the reader.
 *
 * What is read is built again, which looks at every byte that was lent; what was built must be read,
 * and built to the same bytes once more. What is nested is followed: the records of a command, a
 * batch or a snapshot, the body of a record and of a wire frame, as their receivers do. */
#include "tests/fuzz/fuzz_codec.h"

#include "schemas/codec.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Readers that may still run for this input: thousands of records may share the same bytes, and so may
 * the records in them. */
static uint32_t left;

static void follow(struct codec *codec, enum fuzz_codec noun, struct bytes bytes);

static void follow_record(struct codec *codec, struct bytes bytes)
{
    follow(codec, FUZZ_CODEC_record, bytes);
}

static void follow_sequenced(struct codec *codec, const struct sequenced *records, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        follow_record(codec, records[i].record);
    }
}

/* -- what lies inside ------------------------------------------------------------------------ */

static void record_inside(struct codec *codec, const struct record *record)
{
    static const struct {
        uint16_t kind;
        enum fuzz_codec noun;
    } bodies[] = {
        {RECORD_OBJECT_PUT, FUZZ_CODEC_object_put},
        {RECORD_OBJECT_REMOVE, FUZZ_CODEC_object_remove},
        {RECORD_POD_STATUS, FUZZ_CODEC_pod_status},
        {RECORD_POD_ENDED, FUZZ_CODEC_pod_ended},
        {RECORD_NODE_STATUS, FUZZ_CODEC_node_status},
        {RECORD_EDGE_EVENT, FUZZ_CODEC_edge_event},
        {RECORD_POD_ATTEMPT, FUZZ_CODEC_pod_attempt},
        {RECORD_VERDICT, FUZZ_CODEC_verdict},
        {RECORD_SESSION_OPEN, FUZZ_CODEC_session_open},
        {RECORD_DOWN_ACK, FUZZ_CODEC_down_ack},
        {RECORD_UP_BATCH, FUZZ_CODEC_batch},
        {RECORD_DOWN_BATCH, FUZZ_CODEC_batch},
        {RECORD_UP_ACK, FUZZ_CODEC_down_ack},
        {RECORD_SNAPSHOT, FUZZ_CODEC_snapshot},
        {RECORD_STREAM_INIT, FUZZ_CODEC_stream_init},
        {RECORD_CLUSTER_INIT, FUZZ_CODEC_cluster_init},
        {RECORD_SETTING, FUZZ_CODEC_setting},
        {RECORD_GAP, FUZZ_CODEC_gap},
        {RECORD_MEMBER_KEY, FUZZ_CODEC_member_key},
        {RECORD_TWIN_UPDATE, FUZZ_CODEC_twin_update},
        {RECORD_DEVICE_STATE, FUZZ_CODEC_device_state},
        {RECORD_OUTBOX_DONE, FUZZ_CODEC_outbox_done},
        {RECORD_DEVICE_STATUS, FUZZ_CODEC_device_status},
        {RECORD_DEVICE_VALUE, FUZZ_CODEC_device_value},
        {RECORD_MQTT_MESSAGE, FUZZ_CODEC_mqtt_message},
    };
    struct object_glance glance;
    (void)codec_object_put_glance(record->body, &glance);
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        if (bodies[i].kind == record->kind) {
            follow(codec, bodies[i].noun, record->body);
        }
    }
}

static void command_inside(struct codec *codec, const struct command *command)
{
    for (uint32_t i = 0; i < command->record_count; i++) {
        follow_record(codec, command->records[i]);
    }
}

static void batch_inside(struct codec *codec, const struct batch *batch)
{
    uint64_t sequence = batch->previous;
    for (uint32_t i = 0; i < batch->record_count; i++) {
        if (batch->records[i].sequence <= sequence || batch->records[i].sequence > batch->last) {
            abort(); /* the contract of read: they rise strictly inside (previous, last] */
        }
        sequence = batch->records[i].sequence;
    }
    follow_sequenced(codec, batch->records, batch->record_count);
}

static void snapshot_inside(struct codec *codec, const struct snapshot *snapshot)
{
    follow_sequenced(codec, snapshot->records, snapshot->record_count);
}

static void forward_inside(struct codec *codec, const struct forward *forward)
{
    if (forward->command.size > 0) {
        follow(codec, FUZZ_CODEC_command, forward->command);
    }
}

/* What is read whole can be glanced at too; record_inside glances at what cannot. */
static void object_put_inside(struct codec *codec, const struct object_put *put)
{
    struct bytes again;
    struct object_glance glance;
    if (codec_object_put_build(codec, put, &again) == 0 &&
        (codec_object_put_glance(again, &glance) != 0 || glance.mode != put->mode ||
         strcmp(glance.node_name, put->object.node_name) != 0)) {
        abort();
    }
}

#define NOTHING_INSIDE(noun)                                                                       \
    static void noun##_inside(struct codec *codec, const struct noun *value)                       \
    {                                                                                              \
        (void)codec;                                                                               \
        (void)value;                                                                               \
    }
NOTHING_INSIDE(object_remove)
NOTHING_INSIDE(pod_status)
NOTHING_INSIDE(pod_ended)
NOTHING_INSIDE(pod_attempt)
NOTHING_INSIDE(node_status)
NOTHING_INSIDE(edge_event)
NOTHING_INSIDE(verdict)
NOTHING_INSIDE(session_open)
NOTHING_INSIDE(down_ack)
NOTHING_INSIDE(stream_init)
NOTHING_INSIDE(cluster_init)
NOTHING_INSIDE(setting)
NOTHING_INSIDE(gap)
NOTHING_INSIDE(hello)
NOTHING_INSIDE(welcome)
NOTHING_INSIDE(ack)
NOTHING_INSIDE(ping)
NOTHING_INSIDE(bye)
NOTHING_INSIDE(peer_hello)
NOTHING_INSIDE(raft_wire)
NOTHING_INSIDE(read_index)
NOTHING_INSIDE(sessions)
NOTHING_INSIDE(twin)
NOTHING_INSIDE(twin_update)
NOTHING_INSIDE(device_state)
NOTHING_INSIDE(outbox_done)
NOTHING_INSIDE(device_status)
NOTHING_INSIDE(device_value)
NOTHING_INSIDE(mqtt_message)
NOTHING_INSIDE(publication)
NOTHING_INSIDE(peer_status)
NOTHING_INSIDE(member_ask)
NOTHING_INSIDE(member_answer)
NOTHING_INSIDE(state_ask)
NOTHING_INSIDE(state_range)
NOTHING_INSIDE(member_key)

/* The wire's envelope is no struct of its own. */
struct frame {
    uint16_t kind;
    struct bytes body;
};

static int codec_frame_read_(struct codec *codec, struct bytes bytes, struct frame *out)
{
    return codec_frame_read(codec, bytes, &out->kind, &out->body);
}

static int codec_frame_build_(struct codec *codec, const struct frame *frame, struct bytes *out)
{
    return codec_frame_build(codec, frame->kind, frame->body, out);
}

static void frame_inside(struct codec *codec, const struct frame *frame)
{
    static const struct {
        uint16_t kind;
        enum fuzz_codec noun;
    } bodies[] = {
        {WIRE_HELLO, FUZZ_CODEC_hello},
        {WIRE_WELCOME, FUZZ_CODEC_welcome},
        {WIRE_APPEND, FUZZ_CODEC_batch},
        {WIRE_ACK, FUZZ_CODEC_ack},
        {WIRE_SNAPSHOT, FUZZ_CODEC_snapshot},
        {WIRE_PING, FUZZ_CODEC_ping},
        {WIRE_PONG, FUZZ_CODEC_ping},
        {WIRE_BYE, FUZZ_CODEC_bye},
        {WIRE_PEER_HELLO, FUZZ_CODEC_peer_hello},
        {WIRE_RAFT, FUZZ_CODEC_raft_wire},
        {WIRE_FORWARD, FUZZ_CODEC_forward},
        {WIRE_FORWARD_REFUSED, FUZZ_CODEC_forward},
        {WIRE_READ_ASK, FUZZ_CODEC_read_index},
        {WIRE_READ_ANSWER, FUZZ_CODEC_read_index},
        {WIRE_SESSIONS, FUZZ_CODEC_sessions},
        {WIRE_STATE_ASK, FUZZ_CODEC_state_ask},
        {WIRE_STATE_RANGE, FUZZ_CODEC_state_range},
        {WIRE_PEER_STATUS, FUZZ_CODEC_peer_status},
        {WIRE_MEMBER_ASK, FUZZ_CODEC_member_ask},
        {WIRE_MEMBER_ANSWER, FUZZ_CODEC_member_answer},
    };
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        if (bodies[i].kind == frame->kind) {
            follow(codec, bodies[i].noun, frame->body);
        }
    }
}

#define codec_frame_read  codec_frame_read_
#define codec_frame_build codec_frame_build_

/* -- one reader ------------------------------------------------------------------------------ */

#define FOLLOW(noun)                                                                               \
    static void noun##_follow(struct codec *codec, struct bytes bytes)                             \
    {                                                                                              \
        struct noun value;                                                                         \
        struct noun again;                                                                         \
        struct bytes built;                                                                        \
        struct bytes rebuilt;                                                                      \
        if (codec_##noun##_read(codec, bytes, &value) != 0 ||                                      \
            codec_##noun##_build(codec, &value, &built) != 0) { /* it may be too large by then */  \
            return;                                                                                \
        }                                                                                          \
        if (codec_##noun##_read(codec, built, &again) != 0 ||                                      \
            codec_##noun##_build(codec, &again, &rebuilt) != 0 || !bytes_equal(built, rebuilt)) {  \
            abort();                                                                               \
        }                                                                                          \
        noun##_inside(codec, &value);                                                              \
    }
FUZZ_CODEC_NOUNS(FOLLOW)

#define FOLLOWER(noun) noun##_follow,
static void (*const followers[FUZZ_CODEC_COUNT])(struct codec *codec,
                                                 struct bytes bytes) = {FUZZ_CODEC_NOUNS(FOLLOWER)};

static void follow(struct codec *codec, enum fuzz_codec noun, struct bytes bytes)
{
    if (left > 0) {
        left--;
        followers[noun](codec, bytes);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct codec *codec;
    if (codec == NULL) {
        codec = codec_create();
    }
    if (size == 0 || data[0] >= FUZZ_CODEC_COUNT) {
        return 0;
    }
    uint8_t *exact = malloc(size); /* aligned, and a sanitizer sees a byte too far */
    memcpy(exact, data + 1, size - 1);
    uint8_t *fit = realloc(exact, size == 1 ? 1 : size - 1);
    left = 64;
    follow(codec, (enum fuzz_codec)data[0], bytes_of(fit, size - 1));
    codec_reset(codec);
    free(fit);
    return 0;
}
