#include "replication/feed.h"

#include "schemas/check.h"

/* -- sender ------------------------------------------------------------------------------------ */

void feed_sender_init(struct feed_sender *sender, const struct feed_source *source,
                      const struct feed_sink *sink, struct codec *codec, uint64_t stream,
                      uint64_t position, uint64_t snapshot_id, size_t window_bytes)
{
    CHECK((stream & FEED_SNAPSHOT_BIT) == 0);
    CHECK((snapshot_id & FEED_SNAPSHOT_BIT) != 0);

    *sender = (struct feed_sender){
        .source = *source,
        .sink = *sink,
        .stream = stream,
        .sent = position,
        .acked = position,
        .window_bytes = window_bytes,
        .append_bytes = LIMIT_FEED_APPEND_BYTES,
        .snapshot_id = snapshot_id,
        .codec = codec,
    };
}

static void feed_sender_close_snapshot(struct feed_sender *sender)
{
    if (sender->snapshot_open) {
        sender->snapshot_open = false;
        sender->source.snapshot_close(sender->source.context, sender->snapshot_id);
        sender->snapshot_id++;
    }
}

void feed_sender_deinit(struct feed_sender *sender)
{
    feed_sender_close_snapshot(sender);
}

void feed_sender_want_snapshot(struct feed_sender *sender)
{
    sender->snapshot_wanted = true;
}

static bool feed_sender_window_open(const struct feed_sender *sender)
{
    return sender->flight_count < LIMIT_FEED_FLIGHT &&
           sender->flight_bytes < sender->window_bytes &&
           sender->sink.room(sender->sink.context);
}

/* Hand one frame to the sink and remember it until its Ack. */
static int feed_sender_send(struct feed_sender *sender, uint16_t kind, struct bytes body,
                            struct feed_flight flight)
{
    CHECK(sender->flight_count < LIMIT_FEED_FLIGHT);

    const int status = sender->sink.send(sender->sink.context, kind, body);
    if (status != 0) {
        return status;
    }
    flight.bytes = body.size;
    sender->flight[(sender->flight_first + sender->flight_count) % LIMIT_FEED_FLIGHT] = flight;
    sender->flight_count++;
    sender->flight_bytes += body.size;
    return 0;
}

/* BEGIN: take a view of the state and say which position it is of. */
static int feed_sender_begin_snapshot(struct feed_sender *sender)
{
    CHECK(sender->source.snapshot_open != NULL);

    feed_sender_close_snapshot(sender);
    int status = sender->source.snapshot_open(sender->source.context, sender->snapshot_id,
                                              &sender->snapshot_position);
    if (status != 0) {
        return status;
    }
    sender->snapshot_open = true;
    sender->snapshot_wanted = false;
    sender->snapshot_steps = 1;

    struct bytes body;
    codec_reset(sender->codec);
    status = codec_snapshot_build(sender->codec,
                                  &(struct snapshot){
                                      .stream = sender->stream,
                                      .position = sender->snapshot_position,
                                      .id = sender->snapshot_id,
                                      .step = SNAPSHOT_BEGIN,
                                  },
                                  &body);
    if (status != 0) {
        return status;
    }
    return feed_sender_send(sender, WIRE_SNAPSHOT, body,
                            (struct feed_flight){.stream = sender->snapshot_id, .position = 1});
}

static int feed_sender_next_snapshot(struct feed_sender *sender)
{
    struct bytes body;
    bool end = false;
    int status = sender->source.snapshot_next(sender->source.context, sender->snapshot_id,
                                              sender->append_bytes, &body, &end);
    if (status != 0) {
        return status;
    }
    sender->snapshot_steps++;
    status = feed_sender_send(sender, WIRE_SNAPSHOT, body,
                              (struct feed_flight){
                                  .stream = sender->snapshot_id,
                                  .position = sender->snapshot_steps,
                                  .confirms = end ? sender->snapshot_position : 0,
                              });
    if (status == 0 && end) {
        feed_sender_close_snapshot(sender);
        sender->sent = sender->snapshot_position;
    }
    return status;
}

/* One batch, or the news that there is none: *out_more tells whether to go on. */
static int feed_sender_next_batch(struct feed_sender *sender, bool *out_more)
{
    struct bytes body;
    uint64_t last = 0;
    *out_more = false;
    const int answer = sender->source.read(sender->source.context, sender->sent,
                                           sender->append_bytes, &body, &last);
    if (answer < 0) {
        return answer;
    }
    switch ((enum feed_read)answer) {
    case FEED_READ_END:
        return 0;
    case FEED_READ_SNAPSHOT:
        sender->snapshot_wanted = true;
        *out_more = true;
        return 0;
    case FEED_READ_BATCH:
        break;
    }
    if (last <= sender->sent) {
        return STATUS_CORRUPT;
    }

    const int status = feed_sender_send(sender, WIRE_APPEND, body,
                                        (struct feed_flight){
                                            .stream = sender->stream,
                                            .position = last,
                                            .confirms = last,
                                        });
    if (status == 0) {
        sender->sent = last;
        sender->batch_count++;
        *out_more = true;
    }
    return status;
}

int feed_sender_pump(struct feed_sender *sender)
{
    bool more = true;
    while (sender->status == 0 && more && feed_sender_window_open(sender)) {
        if (sender->snapshot_wanted) {
            sender->status = feed_sender_begin_snapshot(sender);
        } else if (sender->snapshot_open) {
            sender->status = feed_sender_next_snapshot(sender);
        } else {
            sender->status = feed_sender_next_batch(sender, &more);
        }
    }
    return sender->status;
}

static struct feed_flight *feed_sender_flight(struct feed_sender *sender, uint32_t i)
{
    CHECK(i < sender->flight_count);
    return &sender->flight[(sender->flight_first + i) % LIMIT_FEED_FLIGHT];
}

/* Forget the `count` oldest frames in flight. Those of the acknowledged stream are confirmed; a batch
 * that a snapshot overtook may have been refused, so it is not. Answers whether any. */
static bool feed_sender_pop(struct feed_sender *sender, uint32_t count, uint64_t stream)
{
    CHECK(count <= sender->flight_count);
    for (uint32_t i = 0; i < count; i++) {
        const struct feed_flight *oldest = feed_sender_flight(sender, 0);
        if (oldest->stream == stream && oldest->confirms > sender->acked) {
            sender->acked = oldest->confirms;
        }
        CHECK(sender->flight_bytes >= oldest->bytes);
        sender->flight_bytes -= oldest->bytes;
        sender->flight_first = (sender->flight_first + 1) % LIMIT_FEED_FLIGHT;
        sender->flight_count--;
    }
    return count > 0;
}

/* A snapshot makes the reader's old position meaningless, until its END is confirmed. */
static bool feed_sender_snapshots(struct feed_sender *sender)
{
    if (sender->snapshot_open || sender->snapshot_wanted) {
        return true;
    }
    for (uint32_t i = 0; i < sender->flight_count; i++) {
        if ((feed_sender_flight(sender, i)->stream & FEED_SNAPSHOT_BIT) != 0) {
            return true;
        }
    }
    return false;
}

static enum feed_ack feed_sender_take_refusal(struct feed_sender *sender, const struct ack *ack)
{
    if (feed_sender_snapshots(sender)) {
        return FEED_ACK_OLD; /* said of what came before BEGIN */
    }
    if (ack->stream != sender->stream || ack->position > sender->sent) {
        return FEED_ACK_WRONG;
    }

    /* What the reader took before stays in flight: taken is not yet kept for good. */
    sender->refused_count++;
    while (sender->flight_count > 0 &&
           feed_sender_flight(sender, sender->flight_count - 1)->position > ack->position) {
        sender->flight_bytes -= feed_sender_flight(sender, sender->flight_count - 1)->bytes;
        sender->flight_count--;
    }
    sender->sent = ack->position;
    return FEED_ACK_REFUSED;
}

enum feed_ack feed_sender_take_ack(struct feed_sender *sender, const struct ack *ack)
{
    if (ack->refused) {
        return feed_sender_take_refusal(sender, ack);
    }
    const bool snapshot = (ack->stream & FEED_SNAPSHOT_BIT) != 0;
    if (!snapshot && (ack->stream != sender->stream ||
                      (ack->position > sender->sent && !feed_sender_snapshots(sender)))) {
        return FEED_ACK_WRONG;
    }
    if (snapshot && (ack->stream > sender->snapshot_id ||
                     (ack->stream == sender->snapshot_id &&
                      (!sender->snapshot_open || ack->position > sender->snapshot_steps)))) {
        return FEED_ACK_WRONG;
    }

    uint32_t covered = 0;
    for (uint32_t i = 0; i < sender->flight_count; i++) {
        const struct feed_flight *flight = feed_sender_flight(sender, i);
        if (flight->stream == ack->stream && flight->position <= ack->position) {
            covered = i + 1;
        }
    }
    return feed_sender_pop(sender, covered, ack->stream) ? FEED_ACK_PROGRESS : FEED_ACK_OLD;
}

bool feed_sender_idle(const struct feed_sender *sender)
{
    return sender->flight_count == 0 && !sender->snapshot_open && !sender->snapshot_wanted;
}

/* -- receiver ---------------------------------------------------------------------------------- */

void feed_receiver_init(struct feed_receiver *receiver, uint64_t stream, uint64_t position)
{
    CHECK((stream & FEED_SNAPSHOT_BIT) == 0);
    *receiver = (struct feed_receiver){
        .stream = stream,
        .position = position,
        .settled = position,
        .acked = position,
    };
}

enum feed_take feed_receiver_take_batch(struct feed_receiver *receiver, const struct batch *batch)
{
    if (batch->stream != receiver->stream || receiver->staging) {
        return FEED_FOREIGN;
    }
    if (batch->last <= receiver->position) {
        receiver->ack_due = true; /* the sender missed our Ack, or it is another life of it */
        return FEED_DUPLICATE;
    }
    if (batch->previous > receiver->position) {
        receiver->refusal_due = receiver->refusal_due || !receiver->refusing;
        receiver->refusing = true;
        return FEED_REFUSED;
    }

    receiver->refusing = false;
    receiver->refusal_due = false;
    receiver->position = batch->last;
    return FEED_TAKE;
}

enum feed_take feed_receiver_take_snapshot(struct feed_receiver *receiver,
                                           const struct snapshot *snapshot)
{
    if ((snapshot->id & FEED_SNAPSHOT_BIT) == 0 || (snapshot->stream & FEED_SNAPSHOT_BIT) != 0) {
        return FEED_FOREIGN;
    }
    const enum snapshot_step step = snapshot->step;
    if (step != SNAPSHOT_BEGIN &&
        (!receiver->staging || snapshot->id != receiver->stage_id ||
         snapshot->position != receiver->stage_position)) {
        return FEED_FOREIGN;
    }

    switch (step) {
    case SNAPSHOT_BEGIN:
        receiver->staging = true;
        receiver->stage_id = snapshot->id;
        receiver->stage_position = snapshot->position;
        receiver->stage_steps = 1;
        receiver->stage_settled = 0;
        receiver->stage_acked = 0;
        break;
    case SNAPSHOT_ROWS:
        receiver->stage_steps++;
        break;
    case SNAPSHOT_END:
        receiver->stage_steps++;
        receiver->staging = false;
        receiver->stream = snapshot->stream;
        receiver->position = snapshot->position;
        receiver->settled = 0; /* of the new stream, until END is kept for good */
        receiver->acked = 0;
        receiver->refusing = false;
        receiver->refusal_due = false;
        receiver->ack_due = false;
        break;
    }
    return FEED_TAKE;
}

void feed_receiver_settle(struct feed_receiver *receiver, uint64_t stream, uint64_t position)
{
    if ((stream & FEED_SNAPSHOT_BIT) != 0) {
        if (stream != receiver->stage_id || position <= receiver->stage_settled) {
            return; /* of one that was given up */
        }
        CHECK(position <= receiver->stage_steps);
        receiver->stage_settled = position;
        if (!receiver->staging && position == receiver->stage_steps &&
            receiver->stage_position > receiver->settled) {
            receiver->settled = receiver->stage_position;
            receiver->acked = receiver->stage_position; /* the Ack of END says it */
        }
        return;
    }
    if (stream == receiver->stream && position > receiver->settled) {
        /* Given up by feed_receiver_rewind, and kept after all. */
        CHECK_IF(position > receiver->position, receiver->refusing);
        if (position > receiver->position) {
            receiver->position = position;
        }
        receiver->settled = position;
    }
}

void feed_receiver_rewind(struct feed_receiver *receiver, uint64_t position)
{
    CHECK(position <= receiver->position);
    CHECK(position >= receiver->settled);
    receiver->position = position;
    receiver->refusing = true;
    receiver->refusal_due = true;
}

bool feed_receiver_take_due(struct feed_receiver *receiver, struct ack *out)
{
    if (receiver->stage_settled > receiver->stage_acked) {
        receiver->stage_acked = receiver->stage_settled;
        *out = (struct ack){.stream = receiver->stage_id, .position = receiver->stage_settled};
        return true;
    }
    if (receiver->refusal_due) {
        receiver->refusal_due = false;
        *out = (struct ack){
            .stream = receiver->stream,
            .position = receiver->position,
            .refused = true,
        };
        return true;
    }
    if (receiver->settled > receiver->acked ||
        (receiver->ack_due && receiver->settled == receiver->position)) {
        receiver->ack_due = false;
        receiver->acked = receiver->settled;
        *out = (struct ack){.stream = receiver->stream, .position = receiver->settled};
        return true;
    }
    return false;
}
