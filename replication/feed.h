/* Ship a log to one reader: the protocol of one direction of one node, both ends.
 *
 * Down (cloud to edge) and up (edge to cloud) are the same feed with the ends swapped. Pure: bytes
 * and positions in, frames out; no clock, no socket, no store. It ships numbers, blind to meaning.
 *
 *      sender                                     receiver
 *      source.read(after) -> Batch (previous, last]
 *      Append ------------------------------->    previous <= position?  take it
 *      Append ------------------------------->      else refuse, once per run of refusals
 *      ...  up to a window of bytes in flight     made durable (or applied): feed_receiver_settle
 *      <------------------------------- Ack(position)   one for all that was settled since
 *
 * Join and skip. A batch covers (previous, last]; gaps inside are normal. The receiver takes it only
 * if previous <= position, and skips records it has. Otherwise it answers Ack(refused, position) and
 * is silent until a batch joins again; the sender goes on from there. So whatever is lost, repeated
 * or restarted on either side, what the receiver took is in order and each record was new once.
 *
 * Snapshots. When the source cannot read from a position (compacted, another stream), the sender
 * ships Snapshot BEGIN(position), ROWS..., END(digest), windowed like batches, and batches after
 * `position` follow at once. Steps are acknowledged as Ack(stream = snapshot id, position = how many
 * steps of it); the ids have the top bit set, stream ids never have. The receiver's position
 * becomes the snapshot's at END. A connection lost in between starts another snapshot.
 *
 * One feed_sender or feed_receiver lives as long as one connection; what survives a connection is
 * the position, and that is in the state of either side.
 */
#ifndef KELP_REPLICATION_FEED_H
#define KELP_REPLICATION_FEED_H

#include "schemas/codec.h"
#include "schemas/limits.h"

#define FEED_SNAPSHOT_BIT (UINT64_C(1) << 63)

/* -- sender ------------------------------------------------------------------------------------ */

enum feed_read {
    FEED_READ_BATCH = 1,    /* *out is a Batch with previous == after */
    FEED_READ_END = 2,      /* nothing after this position */
    FEED_READ_SNAPSHOT = 3, /* the position is below what is held: only a snapshot helps */
};

/* Where a sender reads from. All functions answer a negative status when the world fails; the sender
 * then stops with it. */
struct feed_source {
    void *context;
    /* The batch after a position, about max_bytes long (one record always fits).
     *
     *   out       bytes of a Batch, lent until the next call of any of these functions
     *   out_last  its `last`; > after
     *   answers   enum feed_read
     */
    int (*read)(void *context, uint64_t after, size_t max_bytes, struct bytes *out,
                uint64_t *out_last);
    /* Begin a snapshot: rows under one view of the state. A source that never answers
     * FEED_READ_SNAPSHOT may leave the three NULL.
     *
     *   out_position  the tip that the rows are of
     *   answers       0
     */
    int (*snapshot_open)(void *context, uint64_t id, uint64_t *out_position);
    /* The next step: ROWS while there are rows, then END once.
     *
     *   out       bytes of a Snapshot with this id, lent as above
     *   out_end   this was END
     *   answers   0
     */
    int (*snapshot_next)(void *context, uint64_t id, size_t max_bytes, struct bytes *out,
                         bool *out_end);
    /* Exactly once for every snapshot_open that answered 0; also when the feed is given up. */
    void (*snapshot_close)(void *context, uint64_t id);
};

/* Where its frames go. */
struct feed_sink {
    void *context;
    /* Is there room for one more frame? Once there is again, call feed_sender_pump. Asked before
     * anything is read, because a step of a snapshot cannot be read twice. */
    bool (*room)(void *context);
    /* Take a frame: WIRE_APPEND with a Batch, or WIRE_SNAPSHOT with a Snapshot.
     *
     *   body      borrowed during the call
     *   answers   0: it is on its way; negative: the connection is dead
     */
    int (*send)(void *context, uint16_t kind, struct bytes body);
};

struct feed_flight {
    uint64_t stream;   /* the stream, or the id of a snapshot */
    uint64_t position; /* its last, or the number of the step */
    uint64_t confirms; /* position of the stream that its Ack confirms; 0: none */
    size_t bytes;
};

struct feed_sender {
    struct feed_source source;
    struct feed_sink sink;
    uint64_t stream;
    uint64_t sent;  /* position up to which batches were handed to the sink */
    uint64_t acked; /* what the reader has confirmed of this stream */
    size_t window_bytes;
    size_t append_bytes;
    size_t flight_bytes;
    struct feed_flight flight[LIMIT_FEED_FLIGHT]; /* a ring, oldest at flight_first */
    uint32_t flight_first;
    uint32_t flight_count;
    bool snapshot_wanted;
    bool snapshot_open;
    uint64_t snapshot_id;       /* of the one under way, or the next one */
    uint64_t snapshot_position;
    uint64_t snapshot_steps;    /* handed to the sink; BEGIN is the first */
    uint64_t batch_count;       /* handed to the sink, for metrics */
    uint64_t refused_count;
    int status; /* negative: stopped */
    struct codec *codec; /* borrowed: for BEGIN */
};

/* Prepare to ship `stream` to a reader that has everything up to `position`.
 *
 *   codec         borrowed until deinit; reset by feed_sender_pump
 *   snapshot_id   FEED_SNAPSHOT_BIT and a number never used for this reader; rises by one with
 *                 every snapshot
 *   window_bytes  unacknowledged bytes in flight; at least one frame always goes
 */
void feed_sender_init(struct feed_sender *sender, const struct feed_source *source,
                      const struct feed_sink *sink, struct codec *codec, uint64_t stream,
                      uint64_t position, uint64_t snapshot_id, size_t window_bytes);
/* Closes an open snapshot. */
void feed_sender_deinit(struct feed_sender *sender);
/* Ship a snapshot first: the reader's position means nothing. */
void feed_sender_want_snapshot(struct feed_sender *sender);

/* Ship what there is, as far as window and sink allow. Call it after every input and whenever the
 * source may have more (a new tip).
 *
 *   answers  0; a negative status of source or sink, for ever; STATUS_CORRUPT: the source broke its
 *            contract (a batch that does not start where it was asked to)
 */
int feed_sender_pump(struct feed_sender *sender);

enum feed_ack {
    FEED_ACK_PROGRESS = 1, /* sender->acked rose, or a snapshot went on */
    FEED_ACK_OLD = 2,      /* nothing new in it */
    FEED_ACK_REFUSED = 3,  /* goes on from there at the next pump */
    FEED_ACK_WRONG = 4,    /* of another stream, or beyond what was sent: end the connection */
};
enum feed_ack feed_sender_take_ack(struct feed_sender *sender, const struct ack *ack);

/* Everything sent is confirmed, no snapshot is under way. (The source may have more.) */
bool feed_sender_idle(const struct feed_sender *sender);

/* -- receiver ---------------------------------------------------------------------------------- */

struct feed_receiver {
    uint64_t stream;
    uint64_t position; /* taken up to here: the next batch joins here */
    uint64_t settled;  /* of that, kept for good: what an Ack may say */
    uint64_t acked;    /* said in the newest Ack */
    bool refusing;     /* a batch did not join, and none has since */
    bool refusal_due;  /* and that is still to be said */
    bool ack_due;      /* a repeated batch: say again what is settled */
    bool staging;      /* a snapshot is under way: */
    uint64_t stage_id;
    uint64_t stage_position; /* where position goes at its END */
    uint64_t stage_steps;    /* taken */
    uint64_t stage_settled;
    uint64_t stage_acked;
};

/* Prepare to take `stream` after `position`, which is kept for good. */
void feed_receiver_init(struct feed_receiver *receiver, uint64_t stream, uint64_t position);

enum feed_take {
    FEED_TAKE = 1,      /* keep it, then feed_receiver_settle; records <= the old position are old */
    FEED_DUPLICATE = 2, /* nothing new: drop it */
    FEED_REFUSED = 3,   /* does not join: drop it; an Ack(refused) is due, or was said already */
    FEED_FOREIGN = 4,   /* another stream, or steps out of order: end the connection */
};
/* A batch arrived. */
enum feed_take feed_receiver_take_batch(struct feed_receiver *receiver, const struct batch *batch);
/* A step of a snapshot arrived. BEGIN may name another stream: it is the new one from END on, and a
 * BEGIN under way is given up by the next. Never FEED_DUPLICATE, FEED_REFUSED. */
enum feed_take feed_receiver_take_snapshot(struct feed_receiver *receiver,
                                           const struct snapshot *snapshot);

/* What was taken is kept for good: at the edge durable in its log, in the cloud applied.
 *
 *   stream, position  of the batch (its last); or the snapshot's id and how many steps of it
 *                     (feed_receiver.stage_steps when it was taken). Old ones are no error.
 */
void feed_receiver_settle(struct feed_receiver *receiver, uint64_t stream, uint64_t position);
/* What was taken after `position` is lost on our side and must come again: an Ack(refused) is due. */
void feed_receiver_rewind(struct feed_receiver *receiver, uint64_t position);

/* The Ack to send now, if one is due: call it until false, once per turn, so that one Ack covers all
 * that was settled in that turn. */
bool feed_receiver_take_due(struct feed_receiver *receiver, struct ack *out);

#endif
