/* Reading what a node must hear: its row, its down log, and the snapshot that replaces it. Used by
 * the sessions of any replica; from any thread with a snapshot, or on the loop with store_live
 * between entries.
 *
 * A node holds the pods bound to it and the config maps and secrets those name. Everything that
 * changes in that set is a row of the node's down log, numbered from 1, each number used once
 * within a stream (an incarnation of the Node object). Rows hold keys; a put is read from the object
 * itself when it is sent, so a thousand nodes that need one config map are a thousand small rows.
 * A newer row of the same key and uid takes the place of an unread older one, so numbers are missing
 * where nothing is; a batch says what it covers.
 *
 * What a reader may rely on: applied in the order of numbers, from any position at or above the
 * floor, or from a snapshot, the rows end at exactly those the digest at the tip is the sum of. A
 * config map that appears for a pod has a lower number than the pod; one that changed while both
 * were unread may come after it. A remove may name what the reader never had.
 */
#ifndef KELP_STATEMACHINE_DELIVERY_H
#define KELP_STATEMACHINE_DELIVERY_H

#include "statemachine/machine.h"

#define NODE_NONE 1 /* there is no such node, or no more of them */

/* One NODE row, decoded. */
struct node_row {
    char name[LIMIT_NAME_BYTES + 1];
    char uid[LIMIT_NAME_BYTES + 1]; /* of the Node object */
    uint64_t down_stream;
    uint64_t down_tip; /* newest sequence given, 0 when none was */
    uint64_t down_acked;
    uint64_t down_floor;    /* readers below need a snapshot; >= down_acked */
    uint64_t down_swept;    /* <= floor: DOWN rows up to here are gone, the others wait for it */
    uint64_t down_count;    /* DOWN rows there are */
    uint64_t held_count;    /* rows the node holds at its tip */
    struct tag digest;      /* sum of their tags */
    uint64_t up_stream;     /* 0 before the first session */
    uint64_t up_position;   /* applied */
    uint64_t epoch;         /* of the newest session, 0 before the first */
    uint64_t replica;       /* who holds that session */
    int64_t session_ms;     /* cloud time at which it opened */
    uint64_t refused_count; /* facts of it that were refused */
    uint64_t gap_count;     /* events it dropped for lack of space */
    uint64_t event_count;   /* events of it that are held */
    uint64_t event_swept;   /* none of them has a version up to this one */
    uint64_t bound_count;   /* pods bound to it; a row of its own */
};

/* One node.
 *   out       a copy
 *   answers   STATUS_OK; NODE_NONE; negative: reading failed */
int node_get(struct store_reader *reader, const char *name, struct node_row *out);
/* The first node whose name is greater than `after` ("": the first). Answers as above. */
int node_next(struct store_reader *reader, const char *after, struct node_row *out);

/* The number under which a node has yet to hear of an object, for whoever asks why.
 *   uid          of the object
 *   out_sequence of its row of the down log: above down_acked the node has not acknowledged it
 *   answers      STATUS_OK; NODE_NONE: there is no such row (any more); negative: reading failed */
int delivery_sequence_find(struct store_reader *reader, const char *node, struct bytes key,
                           const char *uid, uint64_t *out_sequence);
/* Whether the object is among what the node holds at its tip.
 *   answers   STATUS_OK; NODE_NONE; negative */
int delivery_held_find(struct store_reader *reader, const char *node, struct bytes key);

/* -- the down log ------------------------------------------------------------------------------- */

enum delivery_answer {
    DELIVERY_BATCH = 1,    /* *out is a Batch */
    DELIVERY_END = 2,      /* nothing after this position */
    DELIVERY_SNAPSHOT = 3, /* the position is below the floor, or of another stream */
    DELIVERY_AHEAD = 4,    /* above the tip: this replica has not applied that far yet */
    DELIVERY_NO_NODE = 5,  /* there is no such node (any more) */
};

/* The batch after a position, row and bytes as of one moment of the state.
 *
 *   stream     of the position
 *   max_bytes  of records, about; one record always fits
 *   codec      the batch is lent until its next reset
 *   out        Batch bytes: previous == after, last > after, tip, and the digest at the tip; its
 *              puts are Record bytes as they were proposed, its removes are built
 *   out_last   its `last`; equal to the tip when nothing is behind it
 *   answers    enum delivery_answer; negative: reading failed
 *   effect     resets the reader
 */
int delivery_read(struct store_reader *reader, struct codec *codec, const char *node,
                  uint64_t stream, uint64_t after, size_t max_bytes, struct bytes *out,
                  uint64_t *out_last);

/* -- snapshots ---------------------------------------------------------------------------------- */

/* All rows a node holds at its tip, read under one view of the state. */
struct delivery_snapshot {
    struct store_reader *reader;     /* ours: a snapshot of the store */
    struct store_iterator *iterator; /* over HELD of the node */
    struct node_row node;
    uint64_t id;
    uint64_t row_count; /* handed out so far; the sequences of rows in a Snapshot are 1 .. n */
    bool on_row;        /* the iterator is on a row that was not handed out yet */
    bool ended;
    bool retell; /* the reader was told rows of another stream: it shall tell its facts again */
};

/* Begin.
 *   id        of the stage at the edge; any number
 *   retell    the reader followed another stream before, or none. Facts it has told may be in another
 *             incarnation of its Node, or in a timeline that was lost (rebirth.h)
 *   answers   STATUS_OK: node.down_stream, down_tip and digest say of what it is; hand it to
 *             delivery_snapshot_close; NODE_NONE; negative: nothing to close
 */
int delivery_snapshot_open(struct delivery_snapshot *snapshot, struct store *store,
                           const char *node, uint64_t id, bool retell);
/* The next step: ROWS while there are rows, then END once, with the digest.
 *   max_bytes  of records, about; one record always fits
 *   out        Snapshot bytes, lent until the next reset of `codec`
 *   out_end    this was END; do not call again
 *   answers    STATUS_OK; negative: reading failed
 */
int delivery_snapshot_next(struct delivery_snapshot *snapshot, struct codec *codec,
                           size_t max_bytes, struct bytes *out, bool *out_end);
void delivery_snapshot_close(struct delivery_snapshot *snapshot);

#endif
