/* feed.h: whatever a connection does to frames, the reader ends with exactly the log. */
#include "replication/feed.h"

#include "schemas/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define STREAM   7u
#define ROWS_MAX 400u
#define KEYS     24u
#define WIRE_MAX 128u

/* -- a log of wishes: key k has value v since sequence s; older rows of a key are compacted ------- */

struct row {
    uint64_t sequence;
    uint32_t key;
    uint32_t value;
};
struct source {
    struct row rows[ROWS_MAX]; /* all ever made, by sequence; sequence 0: compacted away */
    uint32_t count;
    uint64_t tip;
    uint64_t floor; /* readers below need a snapshot */
    uint32_t values[KEYS];
    struct codec *codec;
    uint32_t snapshot_values[KEYS];
    uint64_t snapshot_position;
    uint32_t snapshot_next;
    bool snapshot_open;
};

static struct bytes source_record(struct codec *codec, uint32_t key, uint32_t value)
{
    struct bytes bytes;
    uint64_t *body = codec_array(codec, 1, sizeof *body);
    *body = value;
    const struct record record = {
        .kind = RECORD_OBJECT_PUT,
        .key = codec_print(codec, "%u", key),
        .body = bytes_of(body, sizeof *body),
    };
    assert_int_equal(codec_record_build(codec, &record, &bytes), 0);
    return bytes;
}

static void source_add(struct source *source, uint32_t key, uint32_t value)
{
    for (uint32_t i = 0; i < source->count; i++) {
        if (source->rows[i].key == key) {
            source->rows[i].sequence = 0;
        }
    }
    assert_true(source->count < ROWS_MAX);
    source->tip++;
    source->values[key] = value;
    source->rows[source->count++] =
        (struct row){.sequence = source->tip, .key = key, .value = value};
}

static int source_read(void *context, uint64_t after, size_t max_bytes, struct bytes *out,
                       uint64_t *out_last)
{
    struct source *source = context;
    struct sequenced records[ROWS_MAX];
    uint32_t count = 0;
    if (after < source->floor) {
        return FEED_READ_SNAPSHOT;
    }
    if (after >= source->tip) {
        return FEED_READ_END;
    }
    codec_reset(source->codec);
    uint64_t last = source->tip;
    size_t size = 0;
    for (uint32_t i = 0; i < source->count; i++) {
        const struct row *row = &source->rows[i];
        if (row->sequence <= after) {
            continue;
        }
        if (size >= max_bytes) {
            last = row->sequence - 1;
            break;
        }
        records[count].sequence = row->sequence;
        records[count].record = source_record(source->codec, row->key, row->value);
        size += records[count].record.size;
        count++;
    }
    const struct batch batch = {
        .node = "edge-1",
        .stream = STREAM,
        .previous = after,
        .last = last,
        .tip = source->tip,
        .records = records,
        .record_count = count,
    };
    *out_last = last;
    assert_int_equal(codec_batch_build(source->codec, &batch, out), 0);
    return FEED_READ_BATCH;
}

static int source_snapshot_open(void *context, uint64_t id, uint64_t *out_position)
{
    struct source *source = context;
    (void)id;
    assert_false(source->snapshot_open);
    source->snapshot_open = true;
    source->snapshot_next = 0;
    source->snapshot_position = source->tip;
    memcpy(source->snapshot_values, source->values, sizeof source->values);
    *out_position = source->tip;
    return 0;
}

static int source_snapshot_next(void *context, uint64_t id, size_t max_bytes, struct bytes *out,
                                bool *out_end)
{
    struct source *source = context;
    struct sequenced records[KEYS];
    uint32_t count = 0;
    size_t size = 0;
    assert_true(source->snapshot_open);
    codec_reset(source->codec);
    while (source->snapshot_next < KEYS && size < max_bytes) {
        const uint32_t key = source->snapshot_next++;
        if (source->snapshot_values[key] != 0) {
            records[count].sequence = key + 1;
            records[count].record =
                source_record(source->codec, key, source->snapshot_values[key]);
            size += records[count].record.size;
            count++;
        }
    }
    *out_end = count == 0;
    const struct snapshot step = {
        .stream = STREAM,
        .position = source->snapshot_position,
        .id = id,
        .step = count == 0 ? SNAPSHOT_END : SNAPSHOT_ROWS,
        .records = records,
        .record_count = count,
    };
    assert_int_equal(codec_snapshot_build(source->codec, &step, out), 0);
    return 0;
}

static void source_snapshot_close(void *context, uint64_t id)
{
    struct source *source = context;
    (void)id;
    assert_true(source->snapshot_open);
    source->snapshot_open = false;
}

/* -- the wire and the reader ------------------------------------------------------------------- */

struct message {
    uint16_t kind;
    size_t size;
    uint8_t *data;
};
struct taken { /* frames the reader took and has not made durable yet */
    struct message message;
    uint64_t stream;
    uint64_t position;
};
struct world {
    struct source source;
    struct feed_sender sender;
    struct feed_receiver receiver;
    bool up; /* a connection is there */
    struct message down[WIRE_MAX]; /* in flight to the reader */
    uint32_t down_first, down_count;
    struct ack acks[WIRE_MAX];
    uint32_t ack_first, ack_count;
    struct taken taken[WIRE_MAX];
    uint32_t taken_first, taken_count;

    /* what the reader holds for good */
    uint64_t position;
    uint64_t stream;
    uint32_t values[KEYS];
    uint32_t stage[KEYS];
    uint64_t stage_id;
    uint64_t snapshot_ids;
    uint64_t applied_count;
    struct codec *codec;
    struct codec *sender_codec;
    uint64_t random;
};

static uint32_t world_chance(struct world *world, uint32_t below)
{
    world->random ^= world->random << 13;
    world->random ^= world->random >> 7;
    world->random ^= world->random << 17;
    return (uint32_t)(world->random >> 33) % below;
}

static bool world_room(void *context)
{
    const struct world *world = context;
    return world->down_count < WIRE_MAX;
}

static int world_send(void *context, uint16_t kind, struct bytes body)
{
    struct world *world = context;
    struct message *m = &world->down[(world->down_first + world->down_count++) % WIRE_MAX];
    m->kind = kind;
    m->size = body.size;
    m->data = aligned_alloc(8, (body.size + 7) / 8 * 8);
    assert_non_null(m->data);
    memcpy(m->data, body.data, body.size);
    return 0;
}

static void world_apply_record(uint32_t *values, const struct sequenced *sequenced,
                               struct codec *codec)
{
    struct record record;
    uint64_t value;
    assert_int_equal(codec_record_read(codec, sequenced->record, &record), 0);
    memcpy(&value, record.body.data, sizeof value);
    values[strtoul(record.key, NULL, 10)] = (uint32_t)value;
}

/* The reader's fold, with a check that nothing is new twice or out of order. */
static void world_apply(struct world *world, const struct message *message)
{
    struct bytes body = bytes_of(message->data, message->size);
    codec_reset(world->codec);
    if (message->kind == WIRE_APPEND) {
        struct batch batch;
        assert_int_equal(codec_batch_read(world->codec, body, &batch), 0);
        assert_int_equal(batch.stream, world->stream);
        assert_true(batch.previous <= world->position); /* no gap */
        for (uint32_t i = 0; i < batch.record_count; i++) {
            if (batch.records[i].sequence > world->position) {
                world_apply_record(world->values, &batch.records[i], world->codec);
                world->applied_count++;
            }
        }
        world->position = batch.last > world->position ? batch.last : world->position;
        return;
    }
    struct snapshot snapshot;
    assert_int_equal(codec_snapshot_read(world->codec, body, &snapshot), 0);
    if (snapshot.step == SNAPSHOT_BEGIN) {
        world->stage_id = snapshot.id;
        memset(world->stage, 0, sizeof world->stage);
        return;
    }
    assert_true(snapshot.id == world->stage_id);
    for (uint32_t i = 0; i < snapshot.record_count; i++) {
        world_apply_record(world->stage, &snapshot.records[i], world->codec);
    }
    if (snapshot.step == SNAPSHOT_END) {
        memcpy(world->values, world->stage, sizeof world->values);
        world->position = snapshot.position;
        world->stream = snapshot.stream;
        world->stage_id = 0;
    }
}

static void world_disconnect(struct world *world)
{
    if (!world->up) {
        return;
    }
    world->up = false;
    feed_sender_deinit(&world->sender);
    for (; world->down_count > 0; world->down_count--) {
        free(world->down[world->down_first].data);
        world->down_first = (world->down_first + 1) % WIRE_MAX;
    }
    world->ack_count = 0;
}

/* A crash of the reader loses what was taken and not yet durable. */
static void world_crash_reader(struct world *world)
{
    world_disconnect(world);
    for (; world->taken_count > 0; world->taken_count--) {
        free(world->taken[world->taken_first].message.data);
        world->taken_first = (world->taken_first + 1) % WIRE_MAX;
    }
}

static void world_make_durable(struct world *world, uint32_t count)
{
    for (; count > 0 && world->taken_count > 0; count--) {
        struct taken *taken = &world->taken[world->taken_first];
        world_apply(world, &taken->message);
        if (world->up && taken->message.kind != 0) {
            feed_receiver_settle(&world->receiver, taken->stream, taken->position);
        }
        free(taken->message.data);
        world->taken_first = (world->taken_first + 1) % WIRE_MAX;
        world->taken_count--;
    }
}

static void world_connect(struct world *world)
{
    if (world->up) {
        return;
    }
    /* The old connection's frames reach the log before the new one says Hello. */
    world_make_durable(world, WIRE_MAX);
    const struct feed_source source = {
        .context = &world->source,
        .read = source_read,
        .snapshot_open = source_snapshot_open,
        .snapshot_next = source_snapshot_next,
        .snapshot_close = source_snapshot_close,
    };
    const struct feed_sink sink = {.context = world, .room = world_room, .send = world_send};
    const bool resumes = world->stream == STREAM;
    world->snapshot_ids += 1000;
    feed_sender_init(&world->sender, &source, &sink, world->sender_codec, STREAM,
                     resumes ? world->position : 0, FEED_SNAPSHOT_BIT | world->snapshot_ids, 600);
    world->sender.append_bytes = 200;
    feed_receiver_init(&world->receiver, resumes ? STREAM : 0, resumes ? world->position : 0);
    if (!resumes) {
        feed_sender_want_snapshot(&world->sender);
    }
    world->up = true;
}

static void world_deliver(struct world *world)
{
    if (!world->up || world->down_count == 0 || world->taken_count == WIRE_MAX) {
        return;
    }
    struct message m = world->down[world->down_first];
    world->down_first = (world->down_first + 1) % WIRE_MAX;
    world->down_count--;
    codec_reset(world->codec);
    enum feed_take take;
    uint64_t stream;
    uint64_t position;
    if (m.kind == WIRE_APPEND) {
        struct batch batch;
        assert_int_equal(codec_batch_read(world->codec, bytes_of(m.data, m.size), &batch), 0);
        take = feed_receiver_take_batch(&world->receiver, &batch);
        stream = batch.stream;
        position = batch.last;
    } else {
        struct snapshot snapshot;
        assert_int_equal(codec_snapshot_read(world->codec, bytes_of(m.data, m.size), &snapshot), 0);
        take = feed_receiver_take_snapshot(&world->receiver, &snapshot);
        stream = snapshot.id;
        position = world->receiver.stage_steps;
    }
    assert_true(take != FEED_FOREIGN);
    if (take != FEED_TAKE) {
        free(m.data);
        return;
    }
    world->taken[(world->taken_first + world->taken_count++) % WIRE_MAX] =
        (struct taken){.message = m, .stream = stream, .position = position};
}

static void world_send_acks(struct world *world)
{
    struct ack ack;
    while (world->up && world->ack_count < WIRE_MAX &&
           feed_receiver_take_due(&world->receiver, &ack)) {
        if (!ack.refused && (ack.stream & FEED_SNAPSHOT_BIT) == 0) {
            assert_true(ack.position <= world->position); /* nothing is promised before it is kept */
        }
        world->acks[(world->ack_first + world->ack_count++) % WIRE_MAX] = ack;
    }
}

static void world_deliver_ack(struct world *world)
{
    if (!world->up || world->ack_count == 0) {
        return;
    }
    const struct ack ack = world->acks[world->ack_first];
    world->ack_first = (world->ack_first + 1) % WIRE_MAX;
    world->ack_count--;
    assert_true(feed_sender_take_ack(&world->sender, &ack) != FEED_ACK_WRONG);
    if (world->stream == STREAM) {
        assert_true(world->sender.acked <= world->position);
    }
}

static void world_pump(struct world *world)
{
    if (world->up) {
        assert_int_equal(feed_sender_pump(&world->sender), 0);
        assert_true(world->sender.flight_bytes < 600 + 2000);
    }
}

static void world_init(struct world *world, uint64_t seed)
{
    *world = (struct world){.random = seed * UINT64_C(0x9e3779b97f4a7c15) + 1};
    world->codec = codec_create();
    world->sender_codec = codec_create();
    world->source.codec = codec_create();
}

static void world_deinit(struct world *world)
{
    world_crash_reader(world);
    codec_destroy(world->codec);
    codec_destroy(world->sender_codec);
    codec_destroy(world->source.codec);
}

/* Let everything that is due happen. */
static void world_settle(struct world *world)
{
    world_connect(world);
    for (int i = 0; i < 2000; i++) {
        world_pump(world);
        world_deliver(world);
        world_make_durable(world, 1);
        world_send_acks(world);
        world_deliver_ack(world);
    }
}

static void world_step(struct world *world)
{
    switch (world_chance(world, 14)) {
    case 0:
        if (world->source.count < ROWS_MAX) {
            source_add(&world->source, world_chance(world, KEYS), 1 + world_chance(world, 1000));
        }
        break;
    case 1:
        world_connect(world);
        break;
    case 2:
        if (world_chance(world, 8) == 0) {
            world_disconnect(world); /* at any frame */
        }
        break;
    case 3:
        if (world_chance(world, 16) == 0) {
            world_crash_reader(world);
        }
        break;
    case 4:
        if (world_chance(world, 40) == 0) {
            world->source.floor = world->source.tip; /* retention: a slow reader is left behind */
        }
        break;
    case 5:
        if (world_chance(world, 200) == 0) {
            world_crash_reader(world); /* the reader loses its disk */
            world->stream = 0;
            world->position = 0;
            memset(world->values, 0xff, sizeof world->values);
        }
        break;
    case 6:
        if (world->up && world->receiver.stream == STREAM && !world->receiver.staging &&
            world->receiver.stage_settled == world->receiver.stage_steps &&
            world->taken_count > 0 && world_chance(world, 4) == 0) {
            /* What was taken is lost on our side, without the connection noticing. */
            for (; world->taken_count > 0; world->taken_count--) {
                free(world->taken[world->taken_first].message.data);
                world->taken_first = (world->taken_first + 1) % WIRE_MAX;
            }
            feed_receiver_rewind(&world->receiver, world->receiver.settled);
        }
        break;
    case 7:
    case 8:
        world_pump(world);
        break;
    case 9:
    case 10:
        world_deliver(world);
        break;
    case 11:
        world_make_durable(world, 1 + world_chance(world, 3));
        break;
    case 12:
        world_send_acks(world);
        break;
    default:
        world_deliver_ack(world);
        break;
    }
}

/* Claim: whatever happens to connections and both ends, the reader ends exactly equal to the log, took
 * every record in order and none as new twice.
 * Method: random losses at any frame, crashes that lose what was not durable, compaction, retention,
 * lost disks; a fold that asserts order at each record; then quiet, and compare. */
static void test_reader_ends_equal_whatever_happens(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct world *world = calloc(1, sizeof *world);
        assert_non_null(world);
        world_init(world, seed);
        for (int step = 0; step < 3000; step++) {
            world_step(world);
        }
        world_settle(world);
        if (world->position != world->source.tip ||
            memcmp(world->values, world->source.values, sizeof world->values) != 0) {
            print_error("seed %llu: position %llu of %llu\n", (unsigned long long)seed,
                        (unsigned long long)world->position,
                        (unsigned long long)world->source.tip);
        }
        assert_int_equal(world->position, world->source.tip);
        assert_memory_equal(world->values, world->source.values, sizeof world->values);
        assert_true(feed_sender_idle(&world->sender));
        assert_int_equal(world->sender.acked, world->source.tip);
        world_deinit(world);
        free(world);
    }
}

/* Claim: one refusal is said per run of batches that do not join, and the sender goes on from it. */
static void test_refusal_is_said_once_and_heals(void **state)
{
    (void)state;
    struct feed_receiver receiver;
    struct ack ack;
    feed_receiver_init(&receiver, STREAM, 10);
    const struct batch gap = {.stream = STREAM, .previous = 12, .last = 15, .tip = 20};
    assert_int_equal(feed_receiver_take_batch(&receiver, &gap), FEED_REFUSED);
    assert_int_equal(feed_receiver_take_batch(&receiver, &gap), FEED_REFUSED);
    assert_true(feed_receiver_take_due(&receiver, &ack));
    assert_true(ack.refused);
    assert_int_equal(ack.position, 10);
    assert_int_equal(feed_receiver_take_batch(&receiver, &gap), FEED_REFUSED);
    assert_false(feed_receiver_take_due(&receiver, &ack));
    const struct batch joins = {.stream = STREAM, .previous = 10, .last = 15, .tip = 20};
    assert_int_equal(feed_receiver_take_batch(&receiver, &joins), FEED_TAKE);
    assert_false(feed_receiver_take_due(&receiver, &ack)); /* not durable yet */
    feed_receiver_settle(&receiver, STREAM, 15);
    assert_true(feed_receiver_take_due(&receiver, &ack));
    assert_false(ack.refused);
    assert_int_equal(ack.position, 15);
    assert_int_equal(feed_receiver_take_batch(&receiver, &joins), FEED_DUPLICATE);
    assert_true(feed_receiver_take_due(&receiver, &ack)); /* the sender missed it */
    assert_int_equal(ack.position, 15);
}

/* Claim: frames of another stream, steps out of order and Acks of what was never sent are told apart
 * from what merely came twice. */
static void test_foreign_frames_are_refused(void **state)
{
    (void)state;
    struct world *world = calloc(1, sizeof *world);
    assert_non_null(world);
    world_init(world, 1);
    for (uint32_t i = 0; i < 10; i++) {
        source_add(&world->source, i, i + 1);
    }
    world->stream = STREAM;
    world_connect(world);
    world_pump(world);
    assert_true(world->sender.sent > 0);
    const uint64_t sent = world->sender.sent;
    const struct ack wrong[] = {
        {.stream = STREAM + 1, .position = 1},
        {.stream = STREAM, .position = sent + 1},
        {.stream = STREAM, .position = sent + 1, .refused = true},
        {.stream = FEED_SNAPSHOT_BIT | 999999, .position = 1},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(feed_sender_take_ack(&world->sender, &wrong[i]), FEED_ACK_WRONG);
    }
    assert_int_equal(feed_sender_take_ack(&world->sender, &(struct ack){.stream = STREAM}),
                     FEED_ACK_OLD);

    struct feed_receiver receiver;
    feed_receiver_init(&receiver, STREAM, 0);
    const struct batch other = {.stream = STREAM + 1, .previous = 0, .last = 1, .tip = 1};
    assert_int_equal(feed_receiver_take_batch(&receiver, &other), FEED_FOREIGN);
    struct snapshot step = {
        .stream = STREAM, .position = 5, .id = FEED_SNAPSHOT_BIT | 1, .step = SNAPSHOT_ROWS};
    assert_int_equal(feed_receiver_take_snapshot(&receiver, &step), FEED_FOREIGN);
    step.step = SNAPSHOT_BEGIN;
    assert_int_equal(feed_receiver_take_snapshot(&receiver, &step), FEED_TAKE);
    const struct batch early = {.stream = STREAM, .previous = 0, .last = 1, .tip = 1};
    assert_int_equal(feed_receiver_take_batch(&receiver, &early), FEED_FOREIGN);
    step.step = SNAPSHOT_END;
    step.id = FEED_SNAPSHOT_BIT | 2;
    assert_int_equal(feed_receiver_take_snapshot(&receiver, &step), FEED_FOREIGN);
    world_deinit(world);
    free(world);
}

/* Claim: no more than the window and one frame is in flight, and an Ack opens it again. */
static void test_window_bounds_what_is_in_flight(void **state)
{
    (void)state;
    struct world *world = calloc(1, sizeof *world);
    assert_non_null(world);
    world_init(world, 1);
    for (uint32_t i = 0; i < KEYS; i++) {
        source_add(&world->source, i, i + 1);
    }
    world->stream = STREAM;
    world_connect(world);
    world_pump(world);
    const uint64_t sent = world->sender.sent;
    assert_true(sent < world->source.tip);
    world_pump(world);
    assert_int_equal(world->sender.sent, sent);
    while (world->down_count > 0) {
        world_deliver(world);
    }
    world_make_durable(world, WIRE_MAX);
    world_send_acks(world);
    assert_int_equal(world->ack_count, 1); /* one for all that became durable together */
    world_deliver_ack(world);
    world_pump(world);
    assert_true(world->sender.sent > sent);
    world_deinit(world);
    free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reader_ends_equal_whatever_happens),
        cmocka_unit_test(test_refusal_is_said_once_and_heals),
        cmocka_unit_test(test_foreign_frames_are_refused),
        cmocka_unit_test(test_window_bounds_what_is_in_flight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
