/* The state of the cloud: the fold of the raft log.
 *
 * One raft entry is one Command: a batch of records, applied in order, each seeing what those
 * before it did, in one batch of the store with the entry's index as position. What a crash leaves is
 * therefore the state after some entry, and an entry that is not newer changes nothing.
 *
 * Deterministic to the byte: no clock (time is the command's, made monotonic), no chance, no local
 * configuration (limits are rows too, see enum setting_id), iteration in the order of keys. All
 * replicas of a release hold equal rows at equal positions, and machine_digest says so.
 *
 * There is no error in applying: a record is accepted, or refused with an outcome that all replicas
 * share. Two exceptions end the process: the store fails, or a record has a kind that this release
 * does not know. A replica never skips what it does not understand.
 *
 * Rooms behind this door:
 *
 *   origin.c     what a proposing process was answered, so that nothing proposed twice happens twice
 *   access.c     which kind may come from where, and which facts a node may write
 *   object.c     wishes, facts and verdicts; resource versions          reading: object.h
 *   change.c     the history that watches read, history.c its memory    reading: object.h
 *   event.c      what edges reported as events                          reading: object.h
 *   delivery.c   who must hear of what: the down logs                   reading: delivery.h
 *   node.c       sessions, epochs, acks, upward batches                 reading: delivery.h
 *   setting.c    limits that are rows
 *   member_key.c keys of cloudcores, and whose are shut out             reading: member_key.h
 *   rebirth.c    what becomes of all rows in another timeline            reading: rebirth.h
 *   row.c part.c what rows look like; dump.c shows them all
 *
 * Rows (integers little-endian unless they are in a key; \0 separates, no part contains one):
 *
 *   META      "state"                       struct machine_meta: counters, time, cluster id
 *             "setting\0" name              i64
 *             "namespace\0" name            u64, objects in it; absent when none
 *             "epoch"                       u64; absent: MACHINE_EPOCH_FIRST
 *             "key\0" sha256, or # be64     replica, index, time, whether it is out: member_key.c
 *   WISH      object key                    part header (below), Record bytes of OBJECT_PUT
 *   FACT      object key                    part header, Record bytes of POD_STATUS, NODE_STATUS, DEVICE_STATUS;
 *                                           no Record when only the end of the pod is known
 *   VERDICT   object key                    part header, Record bytes of VERDICT
 *   CHANGE    version be64                  between an end and the next start only, and CHANGE_KEY only of an older
 *                                           release: no part of the state, nor equal at all replicas
 *   NODE      node                          struct node_row
 *   DOWN      node \0 sequence be64         put or remove, reason, time, trace, object key, uid; the
 *                                           bytes of a put are read from WISH when it is sent
 *   DOWN_KEY  node \0 object key \0 uid     u64, the sequence of its unread DOWN row that is a remove (before level 4,
 *                                           and until those rows are swept: or a put)
 *   HELD      node \0 object key            tag, uid, and \0 u64 the sequence of its newest DOWN row, when that was
 *                                           written at level 4 (it says nothing once it is swept): the rows the node
 *                                           holds at its tip
 *   BOUND     node \0 object key            "", pods and devices with that node_name, Node or no Node
 *             node                          u64, how many pods; absent when none
 *   REF       object key \0 node \0 pod key   "": what pods bound to a node need; the config map
 *                                           or secret itself may be missing, and so may the node
 *   ORIGIN    origin be64, sequence be64    results of that command; sequence 0: the newest of it
 *   EVENT     see event.c
 *   INBOX     see inbox.c
 *
 * A part header is 32 bytes: u64 version of the part, u64 version its object was created at, u32
 * offset and u32 size of the body inside the Record bytes, u64 flags (enum part_flag).
 */
#ifndef KELP_STATEMACHINE_MACHINE_H
#define KELP_STATEMACHINE_MACHINE_H

#include "schemas/codec.h"
#include "statemachine/store.h"

#define MACHINE_NAME   "cloud" /* struct store_options.machine */
#define MACHINE_FORMAT 1u      /* struct store_options.format */

enum machine_table {
    TABLE_META = 0,
    TABLE_WISH = 1,
    TABLE_FACT = 2,
    TABLE_VERDICT = 3,
    TABLE_CHANGE = 4,
    TABLE_CHANGE_KEY = 5,
    TABLE_NODE = 6,
    TABLE_DOWN = 7,
    TABLE_DOWN_KEY = 8,
    TABLE_HELD = 9,
    TABLE_BOUND = 10,
    TABLE_REF = 11,
    TABLE_ORIGIN = 12,
    TABLE_EVENT = 13,
    TABLE_INBOX = 14,
    MACHINE_TABLES = 15,
};
static_assert(MACHINE_TABLES <= STORE_TABLES, "the store has a table for each of ours");

/* What became of a record. `value` of the result, where there is one, in brackets. */
enum outcome {
    /* [objects, facts, verdicts: the version of this change; SESSION_OPEN: the epoch; DOWN_ACK: the
     * acknowledged position; UP_BATCH: the applied position] */
    ACCEPTED = 0,
    ACCEPTED_UNCHANGED = 1, /* it was so already; nothing written [as above, the present one] */
    REFUSED_MALFORMED = 2,  /* not the shape of its kind, or key and envelope disagree */
    REFUSED_KIND = 3,    /* a known kind that has no place here (a fact outside an UP_BATCH, ...) */
    REFUSED_EXISTS = 4,  /* PUT_CREATE and a row is there; another cluster id [its version] */
    REFUSED_MISSING = 5, /* no such object, no such node */
    REFUSED_CONFLICT = 6,              /* the wish changed after if_version [version of the wish] */
    REFUSED_UID = 7,                   /* the object there has another uid [version of the wish] */
    REFUSED_NAMESPACE_MISSING = 8,     /* create: there is no such namespace */
    REFUSED_NAMESPACE_TERMINATING = 9, /* create: it is being deleted */
    REFUSED_NOT_EMPTY = 10,            /* a namespace is removed last [objects in it] */
    REFUSED_FINALIZERS = 11, /* OBJECT_REMOVE of an object with finalizers [version of the wish] */
    REFUSED_EPOCH = 12,      /* of another session [the epoch that counts] */
    REFUSED_STREAM = 13,     /* of another incarnation [the stream that counts] */
    REFUSED_GAP = 14,        /* UP_BATCH begins after what was applied [applied position] */
    REFUSED_POSITION = 15,   /* DOWN_ACK of what was never numbered [tip] */
    REFUSED_STALE_ORIGIN = 16, /* below the window of its origin, or of a process that was restarted
                                  since: whether it happened is not known any more */
    REFUSED_LIMIT = 17,        /* a bound of the state [the bound] */
    REFUSED_OWNER = 18,        /* a fact about another node or about a pod not bound to this one */
    REFUSED_SETTING = 19,      /* no such setting, or a value outside its range */
    OUTCOMES = 20,
};
/* "accepted", "refused_exists" ...; lent for ever. */
const char *outcome_text(enum outcome outcome);
static inline bool outcome_accepted(enum outcome outcome)
{
    return outcome == ACCEPTED || outcome == ACCEPTED_UNCHANGED;
}

/* The feature level: what a log may hold, as one number. A release understands all levels up to its
 * MACHINE_LEVEL; the level in force is state, 1 at first, and raised by a record once every member of the
 * group has said that it understands the next (nodes/cloud/core_others.c). Until then nobody writes what the
 * old ones do not know, whatever they know themselves. A kind of record, a field that apply obeys, a changed
 * rule: each raises MACHINE_LEVEL by one, says here what came, and asks machine_level() before it is used.
 *
 *   1   all that this header says, but what follows
 *   2   MEMBER_KEY: keys of removed cloudcores are shut out
 *   3   devices: DEVICE_STATUS, DEVICE_VALUE and MQTT_MESSAGE in upward batches, objects of
 *       devices.kubeedge.io (delivered to the node they are bound to), table INBOX; SESSION_OPEN raises the
 *       upward position of the same stream
 *   4   HELD says where the DOWN row of a put is, without a row of DOWN_KEY
 *
 * The tests build the release that does not exist yet with a higher number. */
#ifndef MACHINE_LEVEL
#define MACHINE_LEVEL 4u
#endif

/* Limits that apply obeys. A SETTING record changes one; names and ranges are in setting.c. */
enum setting_id {
    SETTING_CHANGE_HISTORY_BYTES, /* "change_history_bytes": of memory, LIMIT_MACHINE_HISTORY_BYTES at most; beyond it
                                     the oldest changes go */
    SETTING_DOWN_ROWS_MAX,   /* "down_rows_max": of one node; beyond it the node gets a snapshot */
    SETTING_EVENT_ROWS_MAX,  /* "event_rows_max": of one node; beyond it the oldest go */
    SETTING_EVENT_AGE_MS,    /* "event_age_ms": older ones go */
    SETTING_ORIGIN_WINDOW,   /* "origin_window": commands whose results are kept, per process */
    SETTING_NODES_MAX,       /* "nodes_max" */
    SETTING_NODE_PODS_MAX,   /* "node_pods_max": bound to one node name */
    SETTING_OBJECTS_MAX,     /* "objects_max" */
    SETTING_REFERENCES_MAX,  /* "references_max": of one object */
    SETTING_INBOX_ROWS_MAX,  /* "inbox_rows_max": of one node; beyond it the oldest go */
    SETTING_INBOX_BYTES_MAX, /* "inbox_bytes_max": the same */
    SETTING_LEVEL,           /* "level": of features in force, see MACHINE_LEVEL; never lowered */
    SETTINGS,
};
struct setting_rule {
    const char *name;
    int64_t value; /* until a record says otherwise */
    int64_t min;
    int64_t max;
};
extern const struct setting_rule setting_rules[SETTINGS];

#define MACHINE_EPOCH_FIRST 1u /* of a cluster that was founded, not restored */

/* META "state" and "epoch", decoded. */
struct machine_meta {
    char cluster[LIMIT_NAME_BYTES + 1]; /* "" before CLUSTER_INIT */
    uint64_t version;                   /* of the newest change of any object */
    int64_t time_ms;                    /* of the newest command, never goes back */
    uint64_t object_count;
    uint64_t node_count;
    uint64_t event_count;    /* events held, of all nodes */
    uint64_t event_swept;    /* no event has a version up to this one */
    int64_t event_oldest_ms; /* none held is older */
    uint64_t refused_count;  /* records refused, all reasons, since the cluster began */
    uint64_t epoch; /* of the timeline; it rises with each rebirth.h, and with nothing else */
};

struct machine_result {
    enum outcome outcome;
    uint64_t value;
};

/* A node that an entry concerned. */
struct machine_touched {
    const char *node;
    bool down;    /* there is something new to ship: sessions of it pump */
    bool up;      /* up position moved: sessions of it acknowledge */
    bool session; /* the epoch rose: sessions with an older one end */
    bool stream;  /* created, or created again: another down stream; sessions end */
    bool removed; /* the Node object is gone: sessions end */
};

/* What an entry did. Lent until the next machine_apply. */
struct machine_applied {
    bool already;   /* not newer than the state: nothing was done, the rest is zero */
    bool malformed; /* the bytes are no Command: nothing but the position moved */
    bool duplicate; /* this (origin, sequence) was applied before: the results are of then */
    uint64_t origin;
    uint64_t sequence;
    const struct machine_result *results; /* one per record, in order */
    uint32_t result_count;
    uint64_t version_before; /* changes in (version_before, version] are new: watches read them */
    uint64_t version;
    const struct machine_touched *nodes;
    uint32_t node_count;
    uint16_t unknown_kind; /* when the answer is STATUS_UNSUPPORTED */
};

struct node_cache; /* NODE rows of the entry being applied: node.c */
struct history;    /* what objects were: history.h */

struct machine {
    struct store *store; /* borrowed for life */
    struct machine_meta meta;
    int64_t settings[SETTINGS];

    /* What is read out of the entry being applied lives in one of these: until the next entry, the
     * next record, the next record inside an upward batch. */
    struct codec *codec_entry;
    struct codec *codec_record;
    struct codec *codec_inner;
    struct codec *codec; /* the one of the two below that the present record is read into */

    /* Of the entry being applied. */
    uint64_t index;
    uint32_t place;         /* of the record in it */
    int failed;             /* sticky: what the store answered when reading failed */
    bool committing;        /* the batch is complete, and the store was full */
    struct node_cache *nodes;
    struct history *history; /* no part of the state: history.h */
    uint8_t *referenced; /* a bit for each key that REF rows may begin with: reference_load */
    struct machine_result *results; /* LIMIT_BATCH_RECORDS of them */
    struct machine_touched *touched;
    uint32_t touched_capacity;
    uint8_t *scratch; /* the value being put together */
    size_t scratch_capacity;
    struct machine_applied applied;
};

/* Bind a machine to a store that holds its rows, or none yet.
 *
 * The history begins with what machine_rest left, if this is the state of then. Nothing is written.
 *
 *   machine   caller's memory; init'd also when the answer is negative, for machine_close
 *   store     borrowed until machine_close
 *   answers   STATUS_OK; STATUS_CORRUPT: the rows are not ours; what the store answers
 */
int machine_open(struct machine *machine, struct store *store);
/* Before an orderly end: have the newest changes that watches read (LIMIT_MACHINE_REST_BYTES) in rows, for the next start.
 * Nothing may be applied afterwards, and store_flush must follow. Commits some batches; where the store does not take one,
 * or an entry waits for it, older changes are left out, and watches list anew. */
void machine_rest(struct machine *machine);
/* After machine_open, by who owns the store: remove the rows that machine_rest or an older release left. Where the store
 * does not take it they stay, and do no harm. */
void machine_tidy(struct machine *machine);
/* An entry that was not committed is abandoned. The store stays the caller's. */
void machine_close(struct machine *machine);

/* The index of the newest entry applied; replay goes on behind it. 0 before the first. */
uint64_t machine_index(const struct machine *machine);
/* The feature level in force: see MACHINE_LEVEL, which it may exceed. */
uint32_t machine_level(const struct machine *machine);

/* Apply one entry.
 *
 *   index     of the raft log; entries come in order, gaps (raft's own entries) are legal
 *   command   Command bytes, borrowed during the call; empty: nothing but the position moves
 *   out       lent until the next call
 *   answers   STATUS_OK, also for everything refused;
 *             STATUS_FULL: the store waits for its disk; nothing is visible yet. Call again with
 *             the same index, later: nothing is applied twice. Reading meanwhile only by snapshots;
 *             STATUS_UNSUPPORTED: a record of a kind of a newer release (out->unknown_kind): nothing
 *             changed; say so and stop;
 *             other negatives: the store failed, nothing changed; say so and stop
 */
int machine_apply(struct machine *machine, uint64_t index, struct bytes command,
                  const struct machine_applied **out);

/* Whether machine_apply knows the kind. Doors ask it for every record from outside, also those
 * inside an upward batch, before they propose: what is in the log must be known to all. */
bool machine_knows(uint16_t kind);
/* The feature level from which on this kind, which is known, may be proposed. */
uint32_t machine_kind_level(uint16_t kind);

/* The counters as a reader sees them; from any thread with a snapshot.
 *   answers   STATUS_OK; negative: reading failed */
int machine_meta_get(struct store_reader *reader, struct machine_meta *out);

/* All rows, in the order of tables and keys, as text: one line each without line break,
 * "table key value", bytes that are not printable as \xNN.
 *   on_line   lent during that call; another answer than 0 ends the dump and is returned
 *   answers   STATUS_OK; negative: reading failed */
int machine_dump(struct store_reader *reader, int (*on_line)(void *context, const char *line),
                 void *context);
/* A number of all rows: equal on replicas at equal positions. Not against malice.
 *   answers   STATUS_OK; negative: reading failed */
int machine_digest(struct store_reader *reader, uint64_t *out);

#endif
