/* The state of an edge: the fold of its log.
 *
 * The log of an edge holds, in one order, what came down, what happened here, and what the cloud
 * acknowledged. Each frame of kind "record" is applied once, by edge_machine_apply, in one batch of
 * the store with its log index as position; what a crash leaves is therefore the state after some
 * record, and replaying the log from anywhere below gives the same rows again: what is not newer
 * than the position changes nothing.
 *
 * What comes in (enum record_kind):
 *
 *   STREAM_INIT     who we are: node, cluster (later, at the first Welcome), up stream id
 *   DOWN_BATCH      wishes of the cloud, as they came over the link
 *   SNAPSHOT        begin, rows, end: wishes that replace all there are. Rows go into the wish table
 *                   that is not in use; the end switches tables, stream and position in one batch. With
 *                   `retell` the newest facts of pods, devices and the node go up again, whether they
 *                   were acknowledged or not: the cloud is of another timeline than the one that did
 *   UP_ACK          the cloud has applied our records up to there: they are trimmed
 *   POD_ATTEMPT     this container will be created for the n-th time
 *   POD_STATUS, POD_ENDED, NODE_STATUS, EDGE_EVENT   facts; each receives the next up sequence
 *   TWIN_UPDATE, DEVICE_STATE   what a client of the broker says of a device (twin.c)
 *   MQTT_MESSAGE    what it says to the cloud: an event
 *   OUTBOX_DONE     the broker has taken what was promised up to there
 *
 * What is kept, one row each, in store tables (enum edge_table):
 *
 *   META        ""                        the struct edge_meta below
 *   WISH_A/B    object key                ObjectPut bytes as they came; one is in use, one a stage
 *   ATTEMPT     uid \0 container          Record bytes of the newest POD_ATTEMPT
 *   STATUS      object key                Record bytes of our newest POD_STATUS or NODE_STATUS
 *   ENDED       uid                       Record bytes of POD_ENDED
 *   UP          sequence (be64)           a fact not yet acknowledged: le32 size of its UP_KEY key
 *                                         (0: none), le32 kind, le64 size of the record, Record
 *                                         bytes, UP_KEY key
 *   UP_KEY      kind (be32) key \0 uid    sequence (le64) of the unread fact of that key
 *   UP_EVENT    sequence (be64)           size (le32) of an unread event
 *   DEVICE      object key                struct device_status of a Device that is wished, without twins
 *   TWIN        object key \0 property    struct twin
 *   OUTBOX      position (be64)           struct publication: promised, and not taken by the broker yet
 *   UNKNOWN     log index, place (be64)   Record bytes of a kind of a newer release: shown, and
 *                                         folded when a release that knows it opens the state
 *
 * A pod lives here by its uid. When its wish goes, or another uid comes under its key, attempts,
 * status and end of the old uid go with it, in the same batch, and so do its unread facts: it was
 * the cloud that took the object away. Facts of a pod that is not wished are refused.
 *
 * A Device's rows follow its wish likewise. Its unread fact is one empty DEVICE_STATUS record in UP: what is
 * shipped is read from its rows then, so it is always the newest, however often it changed.
 *
 * Bounds (struct edge_limits, defaults from limits.h): objects, their bytes, unread events (the
 * oldest give way to one GAP record that says which), unknown records. Other unread facts are at
 * most two per wished pod, a status and an end, and one of the node.
 */
#ifndef KELP_STATEMACHINE_EDGE_H
#define KELP_STATEMACHINE_EDGE_H

#include "schemas/codec.h"
#include "statemachine/store.h"

#define EDGE_FORMAT 1u /* of the rows: struct store_options.format */

enum edge_table {
    EDGE_TABLE_META = 0,
    EDGE_TABLE_WISH_A = 1,
    EDGE_TABLE_WISH_B = 2,
    EDGE_TABLE_ATTEMPT = 3,
    EDGE_TABLE_STATUS = 4,
    EDGE_TABLE_ENDED = 5,
    EDGE_TABLE_UP = 6,
    EDGE_TABLE_UP_KEY = 7,
    EDGE_TABLE_UP_EVENT = 8,
    EDGE_TABLE_UNKNOWN = 9,
    EDGE_TABLE_DEVICE = 10,
    EDGE_TABLE_TWIN = 11,
    EDGE_TABLE_OUTBOX = 12,
};

/* Bounds that apply obeys. One state must see the same ones for life, or a replay differs: only
 * tests change them. */
struct edge_limits {
    uint32_t objects;      /* wishes held */
    uint64_t object_bytes; /* of their rows */
    uint32_t events;       /* unread EDGE_EVENTs, DEVICE_VALUEs, MQTT_MESSAGEs */
    uint64_t event_bytes;
    uint32_t publications; /* promised and not taken by the broker; the oldest give way */
    uint64_t publication_bytes;
    uint32_t unknown;       /* records of unknown kinds */
    uint64_t unknown_bytes; /* their bytes; one record that is larger alone is kept */
    uint16_t kind_withheld; /* 0; a kind to be treated as unknown */
};

/* The one row of META, decoded: positions and sums. */
struct edge_meta {
    char node[LIMIT_NAME_BYTES + 1];    /* "" before STREAM_INIT */
    char cluster[LIMIT_NAME_BYTES + 1]; /* "" before the first Welcome */

    uint64_t up_stream;
    uint64_t up_last;  /* newest sequence assigned */
    uint64_t up_acked; /* applied by the cloud; rows up to here are trimmed */

    uint64_t down_stream; /* 0: none yet, a snapshot starts one */
    uint64_t down_position;
    uint64_t down_tip; /* newest sequence the cloud told of */

    struct tag digest;     /* sum of the tags of all wishes */
    uint32_t object_count; /* wishes held */
    uint64_t object_bytes;

    /* The digests differed at a tip, or something was refused that cannot come again: the wishes
     * are not those of the cloud. Hello asks for a snapshot (down_stream 0); its end clears this. */
    bool snapshot_wanted;

    bool stage_open;
    uint64_t stage_id;
    uint64_t stage_stream;
    uint64_t stage_position;
    uint64_t stage_index;   /* log index of its begin */
    uint32_t stage_unknown; /* rows of it that are of unknown kinds: its digest cannot be checked */
    struct tag stage_digest;
    uint32_t stage_count;
    uint64_t stage_bytes;

    uint64_t outbox_last;    /* newest position promised */
    uint64_t outbox_done;    /* taken by the broker, or given up, up to there */
    uint64_t outbox_bytes;   /* of the rows between */
    uint64_t outbox_dropped; /* given up, since this state began */

    uint32_t event_count; /* unread events */
    uint64_t event_bytes;
    uint64_t gap_first;    /* 0, or the first event dropped that the unread GAP record tells of */
    uint64_t gap_sequence; /* where that record is */

    uint32_t unknown_count;
    uint32_t unknown_down; /* of them: came down, so digests cannot be compared */
    uint64_t unknown_dropped;
    uint64_t unknown_bytes; /* of those that are kept; not written, summed when opened */

    uint64_t refused_count; /* records refused, all reasons, since this state began */
    uint64_t malformed_count;
    uint64_t mismatch_count; /* digests that differed */
    uint8_t wish_table;      /* enum edge_table: the one in use */
};

enum edge_outcome {
    EDGE_ACCEPTED = 0,
    EDGE_DUPLICATE = 1,          /* known already: what it says holds */
    EDGE_KEPT_UNKNOWN = 2,       /* a kind of a newer release: kept for later */
    EDGE_REFUSED_MALFORMED = 3,  /* not the shape of its kind */
    EDGE_REFUSED_KIND = 4,       /* a known kind that has no place in the log of an edge */
    EDGE_REFUSED_FOREIGN = 5,    /* another node, another cluster, or no STREAM_INIT yet */
    EDGE_REFUSED_STREAM = 6,     /* another stream id */
    EDGE_REFUSED_GAP = 7,        /* begins after our position: ack that, with refused */
    EDGE_REFUSED_STALE = 8,      /* older than what is known (attempt, snapshot) */
    EDGE_REFUSED_STAGE = 9,      /* a step of a snapshot that was not begun */
    EDGE_REFUSED_DIGEST = 10,    /* the rows of the snapshot do not add up: discarded */
    EDGE_REFUSED_NO_POD = 11,    /* a fact of a pod that is not wished under that key and uid */
    EDGE_REFUSED_FULL = 12,      /* a bound of struct edge_limits */
    EDGE_REFUSED_NO_DEVICE = 13, /* said of a device that is not wished here */
    EDGE_REFUSED_VALUE = 14,     /* a value that is none of its twin's type: the outbox tells why */
};
/* "accepted", "refused_gap" ...: for log lines. Lent for ever. */
const char *edge_outcome_text(enum edge_outcome outcome);

/* One wish that changed. */
struct edge_change {
    const char *key;
    bool removed;
    const char *uid;     /* of the object that is wished now, or was until now when removed */
    const char *old_uid; /* "" unless an object of another uid ended here under the same key */
    uint8_t reason;      /* enum remove_reason, when removed */
};

/* What a record did. Lists are lent until the next edge_machine_apply. */
struct edge_applied {
    uint16_t kind; /* of the record; 0 when it was malformed */
    enum edge_outcome outcome;
    uint64_t up_sequence; /* of a fact that was accepted, else 0 */

    const struct edge_change *changes; /* of a DOWN_BATCH, in order; a key may come twice */
    uint32_t change_count;
    bool all_changed;       /* a snapshot replaced the wishes: read all of them again */
    uint32_t refused_count; /* records inside a batch or snapshot that were refused, and skipped */
    uint32_t unknown_count; /* ... that were kept as unknown */

    const char
        *refused_part; /* EDGE_REFUSED_VALUE: of the record, lent until the next apply; or NULL */
    const char *refused_reason; /* ... and why, for people */

    bool digest_differs; /* an alarm: at the same sequence the cloud sums up other rows */
    bool gap_recorded;   /* events were dropped by retention */
};

struct edge_machine;

/* Fold into this store. Reads META; folds unknown records again whose kind is known now (one commit
 * at the position that is there).
 *
 *   store    borrowed until edge_machine_close
 *   limits   copied; NULL = the defaults
 *   out      given: hand it to edge_machine_close; untouched unless STATUS_OK
 *   answers  STATUS_OK; STATUS_CORRUPT: META does not have its shape; negatives of the store
 */
int edge_machine_open(struct store *store, const struct edge_limits *limits,
                      struct edge_machine **out);
void edge_machine_close(struct edge_machine *machine);

/* Apply one record of the log.
 *
 * Alone it is one commit. Between edge_machine_begin and edge_machine_commit it is part of one, with all others that
 * are applied there: every reader of this machine sees it at once, the store gets it with the group.
 *
 *   index    its place in the log. Not above the position: EDGE_DUPLICATE, nothing is read or
 *            written. Indices rise, and may leave out frames that are not records
 *   record   Record bytes as the log holds them, at any alignment
 *   out      what it did, also a refusal; filled unless the answer is negative
 *   answers  STATUS_OK; negatives of the store: nothing changed, neither rows nor *meta; of a group nothing of all
 *            that it held, and it is over. After STATUS_FULL, which is never answered in a group, apply it again when
 *            the store is not pressed any more; any other ends the process
 */
int edge_machine_apply(struct edge_machine *machine, uint64_t index, struct bytes record,
                       struct edge_applied *out);

/* Begin a group: what many records change together costs the store one commit, and one read of each row. Whoever
 * acts upon a record meanwhile needs no more than that the log has it: a crash takes the group back as a whole, and its
 * records are applied again. CHECK: none is open. */
void edge_machine_begin(struct edge_machine *machine);
bool edge_machine_in_group(const struct edge_machine *machine);
/* Whether the group holds so much by now that it should end: LIMIT_EDGE_GROUP_BYTES. */
bool edge_machine_group_is_full(const struct edge_machine *machine);
/* Write the group, all of it or nothing, and end it.
 *   answers  STATUS_OK; STATUS_FULL, -ENOSPC and other negatives of the store: the group stays open, commit it again
 *            when the store is not pressed any more, or when there is room */
int edge_machine_commit(struct edge_machine *machine);

/* Log index of the newest record applied: Hello and replay go by it. The store's position is that of the newest group. */
uint64_t edge_machine_position(const struct edge_machine *machine);
/* Lent until the next edge_machine_apply. */
const struct edge_meta *edge_machine_meta(const struct edge_machine *machine);
/* Fill the stream ids, positions and digest of a Hello; texts are lent until the next apply. With
 * snapshot_wanted, down_stream is 0. Labels, version and software are the caller's. */
void edge_machine_hello(const struct edge_machine *machine, struct hello *hello);

/* -- readers: what they hand out is lent by `codec` until its reset ---------------------------- */

/* Wishes in order of their keys, those that start with `prefix` ("/pods/" for all pods). */
struct edge_wishes;
/* Given: hand it to edge_wishes_close, before the next apply. */
struct edge_wishes *edge_wishes_open(struct edge_machine *machine, const char *prefix);
/*   out_key   its key
 *   out       the object and its envelope
 *   answers   STATUS_OK; STORE_NONE at the end; negative: reading failed */
int edge_wishes_next(struct edge_wishes *wishes, struct codec *codec, const char **out_key,
                     struct object_put *out);
void edge_wishes_close(struct edge_wishes *wishes);

/* One wish by its key.
 *   answers   STATUS_OK; STORE_NONE; negative */
int edge_object_find(struct edge_machine *machine, const char *key, struct codec *codec,
                     struct object_put *out);

/* The newest attempt of the sandbox and of each container of a pod, by container name.
 *   answers   STATUS_OK (*out_count may be 0); negative */
int edge_attempts_list(struct edge_machine *machine, const char *uid, struct codec *codec,
                       const struct pod_attempt **out, uint32_t *out_count);

/* The newest status we recorded for a pod that is wished, or for this node.
 *   answers   STATUS_OK; STORE_NONE; negative */
int edge_pod_status_find(struct edge_machine *machine, const char *key, struct codec *codec,
                         struct pod_status *out);
int edge_node_status_find(struct edge_machine *machine, const char *key, struct codec *codec,
                          struct node_status *out);
/* Whether POD_ENDED is recorded for a uid.
 *   answers   STATUS_OK; STORE_NONE; negative */
int edge_pod_ended_find(struct edge_machine *machine, const char *uid);

/* A device that is wished, with its twins sorted by key.
 *   answers   STATUS_OK; STORE_NONE; negative */
int edge_device_find(struct edge_machine *machine, const char *key, struct codec *codec,
                     struct device_status *out);

/* Is it a type that a twin may have? */
bool edge_twin_type_known(const char *type);
/* Why this value is none of this type of a twin; NULL: it is one. Lent for ever. */
const char *edge_twin_value_refusal(const char *type, const char *value);

/* The promises behind `after` that the broker has not taken (edge_meta.outbox_last tells whether there are any), oldest
 * first. They are to be published, in this order, until OUTBOX_DONE is applied.
 *   answers   given: hand it to edge_outbox_close, before the next record is applied */
struct edge_outbox;
struct edge_outbox *edge_outbox_open(struct edge_machine *machine, uint64_t after);
/* The next of them, lent by `codec`.
 *   answers   STATUS_OK; STORE_NONE, or negative: so does each further call */
int edge_outbox_next(struct edge_outbox *outbox, struct codec *codec, uint64_t *out_position,
                     struct publication *out);
void edge_outbox_close(struct edge_outbox *outbox); /* NULL is ignored */

/* What the cloud has not applied yet: a batch of the up direction.
 *
 *   after       sequence to begin behind; what is below up_acked is gone, then out->previous says so
 *   max_bytes   of records; at least one record is given when there is one
 *   out         node, stream, previous, last, tip and records; epoch and digest are 0.
 *               previous == last: nothing to ship
 *   answers     STATUS_OK; negative
 */
int edge_up_read(struct edge_machine *machine, uint64_t after, size_t max_bytes,
                 struct codec *codec, struct batch *out);

/* Records of kinds that this release does not know, oldest first, to be shown.
 *   cursor    {0} to begin; moved
 *   answers   STATUS_OK; STORE_NONE at the end; negative */
struct edge_unknown_cursor {
    uint64_t index; /* log index of the record handed out */
    uint64_t place; /* down sequence inside that batch, 0 for a record of its own */
};
int edge_unknown_next(struct edge_machine *machine, struct edge_unknown_cursor *cursor,
                      struct codec *codec, struct record *out);

/* Sum up all wish rows again, for tests and `kelp`: must equal meta->digest. Reads every row.
 *   answers   STATUS_OK; negative */
int edge_digest_compute(struct edge_machine *machine, struct tag *out_digest, uint32_t *out_count);

#endif
