/* From frames to what people read: items, and bodies as JSON.
 *
 * A frame gives one item for each record in it: a Command of a cloudcore's log holds many, a batch or
 * a snapshot is an item followed by those of the records inside. A frame that holds no record (raft's
 * own, or one that cannot be decoded) is one item too, so nothing in a log is passed over.
 */
#ifndef KELP_NODES_CLI_LOG_DECODE_H
#define KELP_NODES_CLI_LOG_DECODE_H

#include "log/log.h"
#include "nodes/cli/log_out.h"
#include "schemas/codec.h"

struct item {
    uint64_t offset; /* of the frame */
    uint64_t term;
    uint8_t frame_type;
    const char *outer; /* kind of the record it lies in; NULL: in none */
    const char *kind;  /* "object_put", "barrier", "undecodable", "kind_77", "frame_99" ... */
    const char
        *op; /* what it does, one word: "create", "ack" ...; "" when there is nothing to say */
    const char *key; /* "" when it has none */
    int64_t time_ms; /* its own, or of what holds it, or of the frame before; 0: not known */
    bool timed;      /* time_ms is its own, or of what holds it */
    uint64_t size;   /* bytes of the record, or of the frame's payload */
    const char *origin;
    const char *user; /* who asked for it; "" when nobody did, or when it is not told */
    uint64_t sequence; /* inside a batch: its place in the stream; else the record's own */
    uint64_t trace;
    const char *node; /* whose node it concerns; "" when none, or when it cannot be told */
    bool secret;      /* its body must be masked */
    bool decoded;     /* record holds what was read */
    struct record record;
    struct bytes bytes;           /* Record bytes, or the payload */
    const struct object_put *put; /* of an OBJECT_PUT that could be read, else NULL */
    const struct batch *batch;    /* of a DOWN_BATCH or UP_BATCH that could be read, else NULL */
    const struct snapshot *snapshot;
    const struct batch *inside; /* the batch it lies in, else NULL */
    char kind_memory[16];
};

/* Tell every item of a frame, in order.
 *
 *   codec      reset first; what items point at is lent until its next reset
 *   last_ms    time of the item before, for those that have none; moved
 *   on_item    another answer than 0 ends the walk and is returned
 */
int items_walk(struct codec *codec, const struct log_frame *frame, int64_t *last_ms,
               int (*on_item)(void *context, const struct item *item), void *context);
/* The same for whoever lists records: item->put stays NULL, since of an object only what a line shows
 * is read (codec_object_put_glance). What items_walk tells otherwise is told here too. */
int items_glance(struct codec *codec, const struct log_frame *frame, int64_t *last_ms,
                 int (*on_item)(void *context, const struct item *item), void *context);

/* Whether the word can be a kind of an item ("object_put", "down_batch/object_put", "barrier" ...). */
bool item_kind_known(const char *kind);
bool item_op_known(const char *op);
/* Whether an item is of this kind: the whole "outer/kind", or its last part. */
bool item_kind_is(const struct item *item, const char *kind);
/* All kinds, ops and JSON fields, for -o help. */
void item_help(struct out *out);

/* The body as one line of JSON, `null` when there is none or it cannot be decoded.
 *
 *   codec   not reset: must be the one of the item
 *   unmask  show what secrets hold
 *   out     memory only
 */
void item_body(struct codec *codec, const struct item *item, bool unmask, struct out *out);

/* The parts of an object key "group/resource/namespace/name"; all empty when it is none. */
struct key_parts {
    struct bytes group, resource, namespace, name;
};
struct key_parts key_split(const char *key);
/* What a user calls a key, as it is in the log: "pods/default/web" and "default/web" of pods lack the
 * slash of the core group; "nodes/edge-1" lacks the namespace there is none of. "pod", "cm", "device" and the like are
 * taken as kubectl takes them.
 *   out   LIMIT_KEY_BYTES + 2 bytes
 *   answers false: too long */
bool key_complete(const char *word, char *out);
/* Say on stderr what a key looks like, when this one names no resource of ours. */
void key_hint(const char *key);

#endif
