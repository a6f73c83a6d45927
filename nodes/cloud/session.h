/* One session: an edge node connected to this cloudcore.
 *
 * Pure: frames and time in, frames and proposals out through struct session_door. Any replica serves
 * any node; what the session ships it reads from this replica's own applied copy.
 *
 *      HELLO ---> REGISTER ---> OPEN ---> BEHIND ---> ACTIVE
 *        |           |           |          |           |
 *        +-----------+-----------+----------+-----------+---> LEAVING (a Bye was sent)
 *
 *   HELLO      waits for Hello; checks identity, cluster and version
 *   REGISTER   the node has no Node object: one is being proposed
 *   OPEN       SESSION_OPEN is proposed: its result is our epoch. Because it was proposed after the
 *              Hello, a replica that has applied it has also applied all that the edge ever saw
 *   BEHIND     the edge is ahead all the same: another history. Waits, then says BYE_BEHIND
 *   ACTIVE     Welcome was sent. Down: feed_sender over the rows of delivery.h; the edge's acks become
 *              DOWN_ACK proposals. Up: feed_receiver; batches become UP_BATCH proposals, answered
 *              with an Ack once this replica has applied them
 *
 * Turns. A session never ships on its own: when there may be something it asks for its turn, and ships up to
 * LIMIT_SESSION_TURN_BYTES when that has come. So a node with a long log delays the others by one such piece.
 *
 * Fencing. Every proposal carries our epoch; when the state shows a newer one for this node, somebody
 * else serves it: BYE_REPLACED. Node gone, or another uid: BYE_REMOVED.
 */
#ifndef KELP_NODES_CLOUD_SESSION_H
#define KELP_NODES_CLOUD_SESSION_H

#include "replication/feed.h"
#include "schemas/codec.h"
#include "schemas/limits.h"

#define SESSION_HELLO_MS   10000u /* from the connection to Hello */
#define SESSION_PROPOSE_MS 20000u /* to register and to open; the proposals have deadlines of their own */
#define SESSION_BEHIND_MS  10000u
#define SESSION_STALL_MS   60000u /* what was sent down must be acknowledged: a disk may be slow */
#define SESSION_RETRY_MS   1000u  /* before an upward batch that could not be proposed is asked for again */

/* What the state says of a node. Texts are lent until the next call of the door. */
struct session_node {
    const char *uid;
    uint64_t down_stream;
    uint64_t down_tip;
    uint64_t down_acked;
    uint64_t down_floor; /* readers below need a snapshot */
    struct tag digest;   /* of what it holds at the tip */
    uint64_t up_stream;
    uint64_t up_position;
    uint64_t epoch;
};

enum session_find { SESSION_NODE_NONE = 1 };

/* How the state answered a proposal. */
enum session_outcome {
    SESSION_ACCEPTED,
    SESSION_REFUSED_GAP,    /* UP_BATCH: previous > up_position */
    SESSION_REFUSED_FENCED, /* a newer epoch, another stream, node or uid */
    SESSION_REFUSED_OTHER,
};

struct session;

/* The world of a session; functions may be called from inside any session_ function and must not call
 * back into it. Proposals that were taken are answered exactly once by the function named. */
/* What the group makes of a kind of record. */
enum session_kind {
    SESSION_KIND_UNKNOWN,
    SESSION_KIND_LATER, /* once its last member is upgraded: the feature level says when */
    SESSION_KIND_KNOWN,
};

struct session_door {
    void *context;
    int (*send)(void *context, uint64_t session, struct bytes frame); /* as cloud_core_ops */
    bool (*room)(void *context, uint64_t session);
    void (*close)(void *context, uint64_t session);
    void (*log)(void *context, const struct session *session, bool warning, const char *event,
                const char *pairs);
    /* It wants to ship: call session_turn, later, when the others have had their turns. Asked again before that,
     * it is still one turn. */
    void (*want_turn)(void *context, uint64_t session);

    /* 0; SESSION_NODE_NONE; negative */
    int (*node_find)(void *context, const char *node, struct session_node *out);
    /* Would every replica understand a record of this kind? */
    enum session_kind (*knows)(void *context, uint16_t kind);
    const char *(*cluster)(void *context); /* "" before the first boot is done */
    /* The keys of removed cloudcores, as in struct welcome, lent until the next turn. Answers a number that is another
     * one when they are others; 0: nothing is to be told. May be NULL: never is. */
    uint64_t (*shut_out)(void *context, struct bytes *out);
    /* The down rows, as struct feed_source with the node's name. */
    int (*read)(void *context, const char *node, uint64_t stream, uint64_t after, size_t max_bytes,
                struct bytes *out, uint64_t *out_last);
    int (*snapshot_open)(void *context, const char *node, uint64_t id, bool retell,
                         uint64_t *out_position);
    int (*snapshot_next)(void *context, const char *node, uint64_t id, size_t max_bytes,
                         struct bytes *out, bool *out_end);
    void (*snapshot_close)(void *context, const char *node, uint64_t id);

    /* Propose a Node object -> session_on_registered. 0; negative: not taken */
    int (*register_node)(void *context, uint64_t session, const struct hello *hello);
    /* Propose this record (borrowed) -> session_on_opened, session_on_batch, session_on_acked. */
    int (*propose_open)(void *context, uint64_t session, struct bytes record);
    int (*propose_batch)(void *context, uint64_t session, struct bytes record);
    int (*propose_ack)(void *context, uint64_t session, struct bytes record);

    /* Welcome was sent; and the session that was welcomed is over. For liveness. */
    void (*on_active)(void *context, const struct session *session);
    void (*on_inactive)(void *context, const struct session *session);
};

struct session_config {
    uint64_t replica;
    const char *origin;      /* "cloudcore-1" */
    uint32_t heartbeat_ms;
    uint32_t silence_ms;     /* without any frame: the edge is gone */
    size_t window_bytes;     /* of the down feed */
};

/* Shared workspaces of all sessions of one core: each is reset by whoever uses it. */
struct session_codecs {
    struct codec *in;   /* what a frame said, during session_on_frame */
    struct codec *feed; /* of feed_sender */
    struct codec *out;  /* frames and records to go */
};

enum session_state {
    SESSION_HELLO,
    SESSION_REGISTER,
    SESSION_OPEN,
    SESSION_BEHIND,
    SESSION_ACTIVE,
    SESSION_LEAVING,
    SESSION_STATES,
};

struct session {
    uint64_t id;
    enum session_state state;
    char node[LIMIT_NAME_BYTES + 1]; /* from the certificate */
    char uid[64];
    uint64_t keys_told; /* of session_door.shut_out, as the edge was told last */
    const struct session_door *door;
    const struct session_config *config;
    const struct session_codecs *codecs;
    uint64_t epoch;
    uint32_t version; /* of the wire, agreed */

    uint64_t heard_ms;    /* mono: newest frame */
    uint64_t deadline_ms; /* of the state, 0: none */

    /* of Hello, until Welcome */
    uint64_t down_stream;
    uint64_t down_position;
    struct tag digest;
    bool
        digest_differed; /* at the tip it held other rows than the state says: it was given a snapshot */
    uint64_t up_stream;
    uint64_t up_first;

    struct feed_sender down; /* ACTIVE only */
    uint64_t down_tip;       /* of its log, when the state was looked at last */
    struct feed_receiver up;
    bool ack_pending;        /* a due Ack did not fit */
    struct ack ack;
    bool down_blocked;       /* the connection had no room for more */
    size_t turn_bytes;       /* shipped in this turn */
    bool turn_over;          /* and there may be more */
    uint64_t down_acked;     /* newest DOWN_ACK proposed; 0 once one was lost */
    uint64_t down_moved_ms;  /* mono: when the edge last acknowledged, or had nothing to */
    uint32_t up_count;       /* batches proposed and not answered */
    uint64_t up_retry_ms;    /* > 0: nothing is taken until then, then the edge is asked again */
    bool later_told; /* that what it says waits for the last member to be upgraded */
};

/* A new connection of `node` (borrowed; checked by the caller to fit LIMIT_NAME_BYTES).
 *   door, config, codecs  borrowed until session_deinit */
void session_init(struct session *session, uint64_t id, const char *node,
                  const struct session_door *door, const struct session_config *config,
                  const struct session_codecs *codecs, uint64_t now_ms);
/* The connection is gone, or about to be dropped without a word. */
void session_deinit(struct session *session);

/* A frame from the edge, borrowed. Malformed ones end the session with BYE_PROTOCOL. */
void session_on_frame(struct session *session, struct bytes frame, uint64_t now_ms);
/* Answers to proposals. status 0: outcome and value hold; otherwise it may or may not have happened. */
void session_on_registered(struct session *session, int status, uint64_t now_ms);
void session_on_opened(struct session *session, int status, enum session_outcome outcome,
                       uint64_t epoch, uint64_t now_ms);
void session_on_batch(struct session *session, int status, enum session_outcome outcome,
                      uint64_t up_position, uint64_t now_ms);
/* status other than 0: this DOWN_ACK may be lost, and an edge with nothing new says no other: the
 * next tick proposes it again. */
void session_on_acked(struct session *session, int status);
/* The state of this node has changed (new rows, another session, its end), or this replica has
 * applied more. */
void session_on_state(struct session *session, uint64_t now_ms);
/* Its turn has come: ship what there is, up to LIMIT_SESSION_TURN_BYTES. */
void session_turn(struct session *session);
/* The connection takes frames again. */
void session_on_writable(struct session *session, uint64_t now_ms);
/* Time has passed.
 *   answers  the mono_ms of the next deadline, UINT64_MAX when there is none */
uint64_t session_tick(struct session *session, uint64_t now_ms);
/* Say why and end the connection. Once only; afterwards nothing happens but session_deinit. */
void session_leave(struct session *session, enum bye_code code, const char *reason,
                   uint32_t retry_ms);

#endif
