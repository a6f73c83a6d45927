/* A copy of the state for a replica that lags behind the log. Both ends.
 *
 * Files of RocksDB differ from replica to replica, rows do not: at one position of the log they are
 * equal byte by byte on all of them. So the state moves as rows, in the order of their keys, in
 * ranges; and a copy that was begun at one replica goes on at another.
 *
 *      sink (lags)                                                  source (any replica)
 *      STATE_ASK    rows of [from, to)?          ---------->   takes a snapshot of its store, once
 *      STATE_RANGE  [from, next): rows, digest   <----------   reads it in the pool
 *      ... until the ranges cover everything; each is checked, written and remembered ...
 *
 * What is being put together is a store beside the live one, the staging. Its table
 * TRANSFER_TABLE remembers the ranges: from -> where it ends, the position it was confirmed at, a
 * digest of its rows. A range and its record are one commit, so a crash leaves neither without the
 * other, and no row outside of a range.
 *
 * The point to get right: in the end every row is of one position P. A source that was restarted,
 * or another source, has a snapshot at another P. Then nothing that is there counts any more: each
 * range is asked for again, with its digest, and the source answers that it is the same at P, or
 * sends the rows. Only ranges with a record of P are confirmed; when they cover everything, the
 * union is the state at P. Before it is used all rows are read back and compared with the digests.
 *
 * Pull: one question at a time, so a source that dies costs nothing and what is lost is asked for
 * again after LIMIT_TRANSFER_ANSWER_MS. Raft's messages on the same link wait for one answer at
 * most, LIMIT_TRANSFER_BYTES, and a rate bounds how often.
 *
 * Pure: frames and time in, frames out; stores are opened, read and written in work for the pool,
 * one at a time. Nothing here is called back from inside of a call.
 */
#ifndef KELP_NODES_CLOUD_TRANSFER_H
#define KELP_NODES_CLOUD_TRANSFER_H

#include "nodes/logger.h"
#include "replication/replica.h"
#include "schemas/codec.h"
#include "statemachine/machine.h"
#include "statemachine/store.h"

#define TRANSFER_TABLE 15u /* of the staging */
static_assert(TRANSFER_TABLE >= MACHINE_TABLES, "no table of the machine");
static_assert(TRANSFER_TABLE < STORE_TABLES, "a table of the store");

/* -- rows (transfer_rows.c) -------------------------------------------------------------------- */

/* A place between rows: the number of a table, then a key or the beginning of one. Empty: before
 * the first row, or, where a range ends, behind the last. Small enough for a key of TRANSFER_TABLE. */
struct transfer_place {
    uint16_t size;
    uint8_t bytes[LIMIT_STORE_KEY_BYTES];
};
static inline struct bytes transfer_place_bytes(const struct transfer_place *place)
{
    return bytes_of(place->bytes, place->size);
}
/* CHECK: it fits. */
void transfer_place_set(struct transfer_place *place, struct bytes bytes);

/* Rows one after the other, in order: u32 size of the place (table and key), u32 size of the value,
 * place, value. */
struct transfer_rows {
    uint8_t *data; /* malloc'd, reused; free() it in the end */
    size_t size;
    size_t capacity;
    uint64_t count;
    struct tag digest; /* of the rows: 128 bits, against accidents, not against malice */
};

/* Collect the rows of [from, to), as many as `max_bytes` hold, one at least.
 *
 *   reader    used by this thread only, meanwhile
 *   to        empty: all
 *   out       what was in it is gone
 *   out_end   where the rest begins; `to` when there is none
 *   answers   STATUS_OK; STATUS_TOO_LARGE: no place to stop at; what the store answers */
int transfer_rows_collect(struct store_reader *reader, struct bytes from, struct bytes to,
                          size_t max_bytes, struct transfer_rows *out,
                          struct transfer_place *out_end);
/* Digest and count of all rows of [from, to), however many.
 *   answers   STATUS_OK; what the store answers */
int transfer_rows_measure(struct store_reader *reader, struct bytes from, struct bytes to,
                          struct tag *out_digest, uint64_t *out_count);
/* Whether these bytes are rows of [from, to) in order, that the machine may hold.
 *   answers   STATUS_OK; STATUS_MALFORMED, the outputs are then undefined */
int transfer_rows_check(struct bytes rows, struct bytes from, struct bytes to,
                        struct tag *out_digest, uint64_t *out_count);
/* What state_range.digest is: of the question it answers and of all that it says, so that neither can be
 * damaged on the way unseen.
 *
 *   from, to   as asked
 *   rows       digest of the rows: those sent, or those that are the same */
struct tag transfer_seal(struct bytes from, struct bytes to, const struct state_range *range,
                         struct tag rows);
/* Into the open batch. CHECK: they were checked. */
void transfer_rows_put(struct store *store, struct bytes rows);
/* Remove all rows of [from, to) in the open batch.
 *   answers   STATUS_OK; what the store answers: abandon the batch */
int transfer_rows_remove(struct store *store, struct bytes from, struct bytes to);

/* -- the world of both ends --------------------------------------------------------------------- */

struct transfer_door {
    void *context;
    /* A Frame for a replica, borrowed during the call; may be lost. */
    void (*send)(void *context, uint64_t replica, struct bytes frame);
    /* work->work away from the loop, then work->done on it. */
    void (*run)(void *context, struct replica_work *work);
    void (*log)(void *context, enum logger_level level, const char *event, const char *pairs);
    /* Pool: open the place beside the state, as it was left there; `anew`: emptied before.
     *   out      back through `drop`, or kept when the owner takes it over
     *   answers  0; what store_rocks_open answers */
    int (*open)(void *context, bool anew, struct store **out);
    /* Pool: close it (NULL: it is not open), and remove what is in that place. */
    void (*drop)(void *context, struct store *staging);
};

/* -- the source (transfer_source.c) ------------------------------------------------------------- */

struct transfer_serving;

struct transfer_source {
    const struct transfer_door *door; /* borrowed for life */
    struct codec *codec;
    size_t range_bytes;
    struct transfer_serving *serving[LIMIT_TRANSFERS]; /* NULL: free */
};

/*   range_bytes  of one answer, unless one row alone is larger; at most LIMIT_TRANSFER_BYTES */
void transfer_source_init(struct transfer_source *source, const struct transfer_door *door,
                          size_t range_bytes);
/* Work that is with the pool must be over or never come back. */
void transfer_source_deinit(struct transfer_source *source);
/* A question.
 *
 *   ask       borrowed during the call
 *   store     the live one, to take a snapshot of; NULL: this replica has no state to offer now */
void transfer_source_ask(struct transfer_source *source, uint64_t from, const struct state_ask *ask,
                         struct store *store, uint64_t now_ms);
/* Let go of what nobody asks about any more. */
void transfer_source_run(struct transfer_source *source, uint64_t now_ms);
/* No work is with the pool. */
bool transfer_source_idle(const struct transfer_source *source);

/* -- the sink (transfer_sink.c) ----------------------------------------------------------------- */

enum transfer_state {
    TRANSFER_NONE,
    TRANSFER_OPENING,  /* the staging is opened, in the pool */
    TRANSFER_ASKING,   /* an answer is under way, or the moment to ask */
    TRANSFER_WRITING,  /* a range is written, in the pool */
    TRANSFER_CHECKING, /* all are there: read back, in the pool, a portion at a time */
    TRANSFER_READY,    /* the staging is the state at `position`, durably */
    TRANSFER_DROPPING, /* it is removed, in the pool */
};

struct transfer_sink {
    const struct transfer_door *door; /* borrowed for life */
    struct codec *codec;
    uint64_t self;
    const uint64_t *members; /* borrowed for life: who may be asked */
    uint32_t member_count;
    uint64_t rate_bytes; /* in a second; 0: no bound */

    enum transfer_state state;
    uint64_t needed;   /* a state of this index at least */
    uint64_t source;   /* who is asked */
    uint64_t heard;    /* who answered last; 0: nobody did */
    uint64_t position; /* of its snapshot; 0: not known yet */
    bool anew;         /* what is in the staging is of no use */
    bool unwanted;     /* drop it as soon as nothing is with the pool */

    /* work: one at a time; until it is done what is below is the pool's */
    struct replica_work work;
    bool working;
    int work_status;
    struct store *staging; /* NULL: not open */

    /* the walk over the ranges */
    struct transfer_place at; /* confirmed up to here */
    bool at_end;              /* everything is */
    bool restart;             /* the position has changed: from the beginning */
    uint64_t rows_confirmed;  /* before `at` */
    struct transfer_place
        end;            /* of the range at `at`; or where the next one that is known begins */
    bool has;           /* a range begins at `at`, of another position */
    struct tag digest;  /* of it */
    uint64_t has_count; /* rows in it */

    /* the question and its answer */
    uint64_t request;  /* of the newest question */
    bool asked;        /* an answer is waited for */
    bool source_led;   /* who was asked was the leader */
    bool refused;      /* it came and was of no use */
    uint64_t due_ms;   /* ask, or ask again */
    uint64_t pace_ms;  /* not before, by the rate */
    uint32_t silences; /* questions in a row without a useful answer */
    struct transfer_rows answer;
    struct transfer_place answer_end;
    bool answer_same;

    /* reading back */
    struct transfer_place check_at;

    uint64_t unflushed_bytes;
    bool flush;              /* behind the range that is written next */
    uint64_t flush_ms;       /* when it is time for that; 0: nothing was written yet */
    uint64_t row_count;      /* of the state, about: the source says so */
    uint64_t bytes_received; /* of rows, since it began */
    uint64_t ranges_kept;    /* that were the same at another position */
    uint64_t ranges_taken;
    uint64_t ranges_rotten; /* whose rows were not what had been written */
    uint64_t rotten_told;
    uint64_t begun_ms;
    uint64_t told_ms; /* of the newest line about progress */
    int waits;        /* why it waits, as told; 0: it does not */
};

/*   members   who may be asked, `self` among them
 *   request   where numbers of questions begin: another one after each start */
void transfer_sink_init(struct transfer_sink *sink, const struct transfer_door *door, uint64_t self,
                        const uint64_t *members, uint32_t member_count, uint64_t rate_bytes,
                        uint64_t request);
/* `members` holds so many of them now. */
void transfer_sink_set_members(struct transfer_sink *sink, uint32_t member_count);
/* As transfer_source_deinit; the staging stays the owner's to close. */
void transfer_sink_deinit(struct transfer_sink *sink);
/* Get a state of index `needed` or newer, from this replica or any other; or, while it is under way, of a
 * newer index than before. */
void transfer_sink_want(struct transfer_sink *sink, uint64_t from, uint64_t needed,
                        uint64_t now_ms);
/* It is not wanted any more: the log went on after all. */
void transfer_sink_cancel(struct transfer_sink *sink);
/* An answer. What was not asked, or is damaged, is dropped. */
void transfer_sink_answer(struct transfer_sink *sink, uint64_t from,
                          const struct state_range *range, uint64_t now_ms);
/* Ask, write, check: what is due.
 *
 *   leader    as far as this replica knows, 0: unknown. Asked when another source is silent
 *   room      the disk has space
 *   answers   mono_ms of the next deadline; UINT64_MAX: none */
uint64_t transfer_sink_run(struct transfer_sink *sink, uint64_t leader, bool room, uint64_t now_ms);
/* The staging is complete: what it is then is the caller's, who makes it the state. The sink forgets it.
 * CHECK: TRANSFER_READY. */
struct store *transfer_sink_take(struct transfer_sink *sink, uint64_t now_ms);
/* Whether a store that was opened as a staging is complete; its ranges are then forgotten, which changes
 * nothing else and need not be durable.
 *   answers   1, 0; what the store answers */
int transfer_staging_complete(struct store *staging);
/* How much is there, 0 .. 100. */
uint32_t transfer_sink_percent(const struct transfer_sink *sink);
/* No work is with the pool. */
bool transfer_sink_idle(const struct transfer_sink *sink);

#endif
