/* Reading objects, their history, and the events of edges. Used by the API door, the scheduler and
 * the controllers; from any thread with a snapshot (but the history: on the loop), or on the loop with store_live
 * between entries.
 *
 * An object is up to three parts under one key, each with one writer: the wish (users and
 * controllers, through the API door), the fact (the edge it concerns), the verdict (the cloud).
 * There is an object exactly when there is a wish. Every change of any part raises the one resource
 * version of the cluster, and the object's version is the newest of its parts.
 *
 * Bodies are handed out as they were proposed, 8-byte aligned, for codec_object_put_read,
 * codec_pod_status_read, codec_node_status_read (which of the two: by the key's resource),
 * codec_verdict_read.
 */
#ifndef KELP_STATEMACHINE_OBJECT_H
#define KELP_STATEMACHINE_OBJECT_H

#include "statemachine/machine.h"

#define OBJECT_NONE 1 /* there is no such object, or no more of them */

enum part {
    PART_WISH = 0,
    PART_FACT = 1,
    PART_VERDICT = 2,
    PARTS = 3,
};

enum part_flag {
    PART_ENDED = 1u << 0, /* fact of a pod: its node reported the end of this uid */
};

struct object_part {
    uint64_t version;    /* of its newest change; 0: there is no such part */
    struct bytes record; /* Record bytes; empty when there is no part */
    struct bytes body;   /* inside of it */
};

struct object_row {
    struct bytes key;
    uint64_t version;         /* of the whole object */
    uint64_t created_version; /* at which this incarnation appeared */
    struct object_part parts[PARTS];
    bool ended; /* a pod whose node reported its end */
};

/* One object.
 *   out       lent until store_reader_reset; the key is the caller's
 *   answers   STATUS_OK; OBJECT_NONE; negative: reading failed */
int object_get(struct store_reader *reader, struct bytes key, struct object_row *out);

/* Objects in the order of their keys. */
struct object_cursor {
    struct store_reader *reader; /* borrowed until close */
    struct store_iterator *iterator;
    bool moved;
    uint8_t after[LIMIT_KEY_BYTES];
    size_t after_size;
};
/* From the first object whose key starts with `prefix` and is greater than `after` (empty: the
 * first). Both are copied. A prefix ends with '/' ("/pods/default/"), or it also matches longer
 * names. */
void object_cursor_open(struct object_cursor *cursor, struct store_reader *reader,
                        struct bytes prefix, struct bytes after);
/* The next object.
 *   out       lent until the next call with this cursor or its close; resets the reader
 *   answers   STATUS_OK; OBJECT_NONE; negative: reading failed */
int object_cursor_next(struct object_cursor *cursor, struct object_row *out);
void object_cursor_close(struct object_cursor *cursor);

/* -- what changed ------------------------------------------------------------------------------ */

#define CHANGE_EXPIRED 1 /* older than the history held: list anew */
#define CHANGE_AHEAD   2 /* newer than this replica: wait for it */

enum change_type {
    CHANGE_ADDED = 1,
    CHANGE_MODIFIED = 2,
    CHANGE_DELETED = 3,
    CHANGE_EVENT = 4, /* an edge reported an event: `event`, no object */
};

/* An event that an edge reported. */
struct event_row {
    uint64_t version;
    const char *node;    /* who reported it */
    int64_t time_ms;     /* cloud time at which it was applied */
    struct bytes key;    /* the key of the record, as the edge chose it */
    struct bytes record; /* Record bytes of EDGE_EVENT */
    struct bytes body;   /* inside of it: an edge_event */
};

struct change {
    uint64_t version;
    enum change_type type;
    uint32_t parts; /* mask (1u << enum part) of the parts that changed */
    struct bytes key;
    struct object_row before; /* as it was at version - 1; parts without version when ADDED */
    struct object_row after;  /* as it was at `version`; parts without version when DELETED */
    struct event_row event;
};

/* All changes with a version > after, oldest first, each with the whole object before and after. On the loop, between
 * two entries; the history is this process's own: it begins when the machine was opened, or with what an
 * orderly end before that left, and holds so many bytes (SETTING_CHANGE_HISTORY_BYTES).
 *
 *   reader       of the machine's store; a snapshot while an entry waits for the store: what is committed is told
 *   max_count    stop after so many changes
 *   max_bytes    stop after about so many bytes; one change always fits. Each counts with what is told of it
 *   on_change    lent during that call; it must not change the store nor reset the reader. Another
 *                answer than 0 stops after this change and is not an error
 *   out_reached  all changes up to this version were told; `after` when none
 *   answers      STATUS_OK; CHANGE_EXPIRED, CHANGE_AHEAD: nothing was told; negative
 */
int change_read(const struct machine *machine, struct store_reader *reader, uint64_t after,
                uint32_t max_count, size_t max_bytes,
                int (*on_change)(void *context, const struct change *change), void *context,
                uint64_t *out_reached);
/* The same for who needs only some of the objects: before and after of one whose key is not wanted are left empty, which
 * saves reading them. `key` is lent during that call. */
int change_follow(const struct machine *machine, struct store_reader *reader, uint64_t after,
                  uint32_t max_count, size_t max_bytes,
                  bool (*wants)(void *context, struct bytes key),
                  int (*on_change)(void *context, const struct change *change), void *context,
                  uint64_t *out_reached);

/* -- events of edges --------------------------------------------------------------------------- */

/* The oldest event with a version > after.
 *   out       lent until store_reader_reset
 *   answers   STATUS_OK; OBJECT_NONE; negative */
int event_next(struct store_reader *reader, uint64_t after, struct event_row *out);

#endif
