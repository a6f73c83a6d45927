/* Proposals and linearizable reads of one replica, whoever leads.
 *
 * A record that is submitted here becomes part of a Command with (origin, sequence): origin is this
 * process, sequences count its commands. The leader proposes it into the group; a follower sends it
 * to the leader as WIRE_FORWARD. It is sent again, the same (origin, sequence), whenever leadership
 * moves, until it is seen applied locally or its deadline passes; the state applies it once and keeps the
 * results, so repeating is safe and its fate is never guessed.
 *
 * Records of one turn share a command: what 10,000 sessions acknowledge in a turn is one entry. Each session has
 * a lane (lanes.h), and so have the API and the core itself: commands are filled from them in turn, so whoever
 * proposes much waits for itself.
 *
 * Reads: `forward_read` asks the leader for an index (WIRE_READ_ASK, or directly when we lead) and calls
 * back once this replica has applied it. Readers that wait together share one question.
 *
 * Pure: frames and time in, frames out. Callbacks come from forward_run, forward_applied and
 * forward_stop, never from inside forward_submit or forward_read; they may submit again.
 */
#ifndef KELP_NODES_CLOUD_FORWARD_H
#define KELP_NODES_CLOUD_FORWARD_H

#include "nodes/cloud/lanes.h"
#include "nodes/metrics.h"
#include "schemas/codec.h"
#include "schemas/limits.h"
#include "schemas/status.h"

#define FORWARD_RETRY_MS      1000u /* a frame to the leader may be lost: doubles with each repetition */
#define FORWARD_RETRY_MS_MAX  4000u
#define FORWARD_REFUSED_MS    50u   /* the leader said no: elections take a while */
#define FORWARD_SHARE_BYTES                                                                        \
    (16u * 1024u) /* of a session in a turn: some records, or part of a large one */
#define FORWARD_SHARE_BYTES_MANY (256u * 1024u) /* of the API and the core, which speak for many */
#define FORWARD_COMMAND_BYTES (1024u * 1024u) /* records of one command, unless one alone is larger */

/* How it ended. status 0: applied here; outcome and value are the state's answer to this record.
 * STATUS_NOT_LEADER, STATUS_FULL, -ENOSPC, STATUS_CLOSING before it was ever sent: it did not happen.
 * STATUS_UNKNOWN: it may happen. */
typedef void (*forward_on_done)(void *context, uint64_t tag, int status, int outcome,
                                uint64_t value);
/* status 0: this replica shows all that was acknowledged before forward_read. */
typedef void (*forward_on_fresh)(void *context, int status);

struct forward_door {
    void *context;
    uint64_t (*leader)(void *context); /* 0: unknown */
    /* replica_propose without callback */
    int (*propose)(void *context, struct bytes command);
    /* replica_read */
    int (*read)(void *context, void (*callback)(void *context, int status, uint64_t index),
                void *callback_context);
    uint64_t (*applied)(void *context);
    int64_t (*wall_ms)(void *context);
    uint64_t (*clock_us)(
        void *context); /* never goes back; for measuring only. NULL: nothing is measured */
    void (*send_peer)(void *context, uint64_t replica, struct bytes frame);
};

/* What the state says to one record of a command. */
struct forward_result {
    int outcome;
    uint64_t value;
};

struct forwarder;

/* Whose record it is. */
enum forward_lane {
    FORWARD_LANE_CORE, /* verdicts, bindings, what the leader does */
    FORWARD_LANE_API,
    FORWARD_LANE_SESSIONS, /* and those behind it: FORWARD_LANE_SESSIONS + number of the session */
};

/*   door      borrowed until forward_destroy
 *   origin    replica id << 32 | boot count
 *   answers   given to forward_destroy */
struct forwarder *forward_create(const struct forward_door *door, uint64_t replica, uint64_t origin,
                               uint32_t propose_ms);
/* Forget everything: on_done is still called, with STATUS_CLOSING, so that contexts can be freed; on_fresh
 * is not. */
void forward_destroy(struct forwarder *forward);
/* Take no more, and call back all that wait with STATUS_CLOSING, or STATUS_UNKNOWN when it was sent. */
void forward_stop(struct forwarder *forward);

/* Propose a record.
 *
 *   lane      enum forward_lane
 *   record    Record bytes, borrowed during the call
 *   on_done   NULL: nobody wants to know
 *   answers   0: on_done comes exactly once; STATUS_FULL: as much waits as may, of this lane
 *             (LIMIT_FORWARD_SESSION_*, _API_*) or of all (LIMIT_FORWARD_*, for a larger record
 *             LIMIT_FORWARD_LARGE_*); STATUS_TOO_LARGE; STATUS_CLOSING: nothing happened */
int forward_submit(struct forwarder *forward, uint64_t lane, struct bytes record,
                   forward_on_done on_done, void *context, uint64_t tag, uint64_t now_ms);
/*   answers   0: on_fresh comes exactly once; STATUS_FULL: LIMIT_FORWARD_READERS wait */
int forward_read(struct forwarder *forward, forward_on_fresh on_fresh, void *context,
                 uint64_t now_ms);

/* The local replica applied a command of this origin: true when it was one of ours that waited.
 *   results   one per record, borrowed; count 0: the state no longer knows (fallen out of its window) */
bool forward_applied(struct forwarder *forward, uint64_t origin, uint64_t sequence,
                     const struct forward_result *results, uint32_t count);
/* Leader or term changed: send again what waits. */
void forward_leadership(struct forwarder *forward);

/* Frames of a peer: bodies of WIRE_FORWARD, _FORWARD_REFUSED, _READ_ASK, _READ_ANSWER; 8-byte aligned.
 *   answers   0; STATUS_MALFORMED */
int forward_on_peer(struct forwarder *forward, uint64_t from, uint16_t kind, struct bytes body,
                    uint64_t now_ms);

/* Send what is due, end what is overdue, answer readers that are caught up with.
 *   answers   mono_ms of the next deadline; UINT64_MAX: none */
uint64_t forward_run(struct forwarder *forward, uint64_t now_ms);

/* Whether a reader waits whose state is here: forward_run calls it back. */
bool forward_reader_ready(const struct forwarder *forward);

/* Records that wait for their result. */
uint32_t forward_count(const struct forwarder *forward);

struct forward_report {
    uint32_t records; /* that wait for their result, queued or sent */
    size_t bytes;
    uint32_t commands; /* of them, sent and not applied */
    uint32_t readers;
    uint64_t refused;  /* records that were not taken since the start, because too many waited */
    uint64_t repeated; /* commands sent again */
    const struct metrics_histogram
        *durations; /* of records, from forward_submit until applied here; lent
                                                  until forward_destroy */
};
struct forward_report forward_report(const struct forwarder *forward);

#endif
