/* What the API door needs of the world behind it: the state to read, a place to propose to, a clock.
 *
 * The door (api_*.c) is written against this table of functions only, so that it runs over the real
 * core, over the simulator and over the in-memory backend of the tests alike. One thread; nothing in
 * here blocks.
 *
 * Rows. One API object is up to three parts under one key ("/pods/default/web", see schemas/codec.h
 * "Keys"): the wish (an object_put body as it was proposed), the fact (a pod_status, node_status or device_status body,
 * decided by schemas' kind of the key's resource) and the verdict (a verdict body). Its resource version is
 * the newest of its parts. A row without wish is not an object: it is never shown.
 *
 * Edge events (edge_event bodies) are rows of their own, see backend_event.
 */
#ifndef KELP_NODES_CLOUD_BACKEND_H
#define KELP_NODES_CLOUD_BACKEND_H

#include "schemas/bytes.h"
#include "schemas/codec.h"

/* Bytes are 8-byte aligned and lent, as the function that fills the row says. */
struct backend_row {
    struct bytes key;         /* "group/resource/namespace/name" */
    uint64_t version;         /* of the whole object: the newest of its parts */
    uint64_t created_version; /* version at which this incarnation appeared */
    uint64_t wish_version;    /* of its wish alone: what a write of ours takes as if_version */
    bool ended;               /* a pod whose node reported that its containers are gone */
    struct bytes wish;        /* object_put body; empty: there is no such object */
    struct bytes fact;        /* pod_status | node_status | device_status body; empty: none */
    struct bytes verdict;     /* verdict body; empty: none */
};

/* An event that an edge reported. Lent as the function that fills it says. */
struct backend_event {
    uint64_t version; /* its place among all changes; its identity for the door */
    const char *node; /* who reported it */
    struct bytes body; /* edge_event body */
};

/* One version of the cluster: what one object was, and what it became; or an event of an edge. */
struct backend_change {
    uint64_t version;
    bool is_event;               /* `event` holds, the rest is empty */
    struct bytes key;
    struct backend_row before;   /* wish empty: the object was not there */
    struct backend_row after;    /* wish empty: it is gone */
    struct backend_event event;
};

enum backend_answer {
    BACKEND_NONE = 1,    /* no such row, or no more rows */
    BACKEND_EXPIRED = 2, /* that version is older than the history still held */
    BACKEND_AHEAD = 3,   /* that version is newer than what this replica has applied */
};

/* What the state said to a proposed record; mirrors the outcomes of statemachine/machine.h. */
enum backend_outcome {
    BACKEND_ACCEPTED,              /* also a no-op: `value` is then the unchanged version */
    BACKEND_REFUSED_EXISTS,        /* PUT_CREATE and a row is there */
    BACKEND_REFUSED_MISSING,       /* PUT_UPDATE or REMOVE and no row is there */
    BACKEND_REFUSED_VERSION,       /* the wish changed after if_version */
    BACKEND_REFUSED_UID,           /* if_uid differs */
    BACKEND_REFUSED_NO_NAMESPACE,  /* create: the namespace is not there */
    BACKEND_REFUSED_TERMINATING,   /* create: the namespace is being deleted */
    BACKEND_REFUSED_FINALIZERS,    /* REMOVE of an object with finalizers */
    BACKEND_REFUSED_NOT_EMPTY,     /* a namespace is removed last */
    BACKEND_REFUSED_LIMIT,         /* a bound of the state */
    BACKEND_REFUSED_OTHER,         /* the record makes no sense to the state */
};

/* status 0: applied, outcome and value (the object's version) hold. Otherwise outcome and value mean
 * nothing: STATUS_NOT_LEADER (there is no leader), STATUS_FULL, -ENOSPC: it did not happen;
 * STATUS_UNKNOWN, STATUS_TIMEOUT: it may happen. */
typedef void (*backend_on_written)(void *context, int status, enum backend_outcome outcome,
                                   uint64_t value);
typedef void (*backend_on_fresh)(void *context, int status);
typedef void (*backend_on_change)(void *context, const struct backend_change *change);

/* Who follows all wishes while this replica leads: a controller. Both are called from inside the core's run, and
 * must not call back into the backend. */
struct backend_listener {
    void *context;
    void (*wish)(void *context, struct bytes key); /* it came, changed or went; lent during the call */
    void (*anew)(void *context); /* this replica leads now, or some may have been missed */
};

struct backend_view;

struct backend {
    void *owner; /* first argument of each function */

    /* -- reading, from the local replica ------------------------------------------------------ */

    /* The newest version this replica has applied. */
    uint64_t (*version)(void *owner);

    /* Hold still: all reads through the view see the same version. Few are open at a time, and each
     * only within one turn of the loop or for as long as one list is sent.
     *   out_view     given to view_close
     *   out_version  of what is seen
     *   answers      0; negative */
    int (*view_open)(void *owner, struct backend_view **out_view, uint64_t *out_version);
    void (*view_close)(void *owner, struct backend_view *view);

    /* One object. Lent until the next call with this view.
     *   answers  0; BACKEND_NONE; negative */
    int (*view_get)(void *owner, struct backend_view *view, struct bytes key,
                    struct backend_row *out);

    /* The first object whose key starts with `prefix` and is greater than `after` (empty: the first).
     * Lent until the next call with this view. `after` may point into the row lent before. Answers as
     * view_get. */
    int (*view_next)(void *owner, struct backend_view *view, struct bytes prefix,
                     struct bytes after, struct backend_row *out);

    /* The oldest edge event with a version > after. Lent and answers as view_next. */
    int (*view_event)(void *owner, struct backend_view *view, uint64_t after,
                      struct backend_event *out);

    /* Tell all changes with a version > after, oldest first, at most `max` of them.
     *   on_change    called from inside; what it is given is lent during that call. Must not call back
     *                into the backend other than for now_ms, node_seen_ms and node_answers
     *   out_reached  all changes up to this version have been told
     *   answers      0; BACKEND_EXPIRED, BACKEND_AHEAD: nothing was told; negative */
    int (*changes)(void *owner, uint64_t after, uint32_t max, backend_on_change on_change,
                   void *context, uint64_t *out_reached);

    /* Call back once this replica has applied everything that was acknowledged before this call, so that
     * reads from then on are linearizable. status 0; STATUS_NOT_LEADER, STATUS_TIMEOUT: no leader
     * answered.
     *   answers  0: on_fresh is called exactly once, later, never from inside; negative (STATUS_BEHIND: this
     *            replica is being given a newer state): never called */
    int (*fresh)(void *owner, backend_on_fresh on_fresh, void *context);

    /* -- writing ------------------------------------------------------------------------------- */

    /* Propose one record (OBJECT_PUT, OBJECT_REMOVE), through the leader, and call back when this
     * replica has applied it, so that a read that follows sees it.
     *   record   Record bytes, borrowed during the call
     *   answers  0: on_written is called exactly once, later, never from inside; negative (STATUS_FULL,
     *            STATUS_CLOSING, STATUS_BEHIND, STATUS_TOO_LARGE): nothing happened, never called */
    int (*write)(void *owner, struct bytes record, backend_on_written on_written, void *context);

    /* -- the rest ------------------------------------------------------------------------------ */

    int64_t (*now_ms)(void *owner); /* wall clock, since 1970 */
    void (*random)(void *owner, void *buffer, size_t size);
    bool (*leads)(void *owner); /* this replica is the leader: its controllers run */
    /* Tell this one from now on (NULL: nobody); borrowed until another is named. */
    void (*listen)(void *owner, const struct backend_listener *listener);
    /* The feature level in force: what the oldest member of the group understands. */
    uint32_t (*level)(void *owner);
    /* The keyed content tag of a row: of the JSON bytes and what the envelope says beside them. */
    struct tag (*tag)(void *owner, struct bytes key, struct bytes json);
    /* When this node was last heard of, 0 when not since the leader changed: renewTime of its Lease.
     * May be NULL. */
    int64_t (*node_seen_ms)(void *owner, const char *node);
    /* Whether there is such a node and it is not judged unreachable, as this replica knows it now: what one that
     * does not answer said last need not hold any more. */
    bool (*node_answers)(void *owner, const char *node);
    /* "cloudcore-1": who we are, for the origin of records. Lent for ever. */
    const char *name;
};

#endif
