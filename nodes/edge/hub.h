/* The edge's end of the session with a cloudcore. The other end is nodes/cloud/session.h.
 *
 *      WAITING ---> DIALING ---> GREETING ---> ACTIVE
 *         ^            |            |            |
 *         +------------+------------+------------+   through CLOSING when we end it
 *
 *   WAITING   until the next attempt: at once the first time and after a session that worked, then
 *             after a random time up to 0.5 s, 1 s, 2 s ... 30 s. Each attempt takes the next cloudcore,
 *             the one after a session that worked any of the others
 *   GREETING  Hello was sent: who we are and how far we have both directions
 *   ACTIVE    down: batches and snapshots go to the log and are acknowledged once they are durable and
 *             applied; up: what happened here is shipped from the state, from where Welcome says
 *
 * Pure: frames and time in, frames and log records out through struct hub_door.
 */
#ifndef KELP_NODES_EDGE_HUB_H
#define KELP_NODES_EDGE_HUB_H

#include "replication/feed.h"
#include "schemas/codec.h"
#include "schemas/limits.h"

#define HUB_DIAL_MS        20000u /* connecting and shaking hands */
/* From Hello to Welcome: it takes an agreement in the cloud. Less than a new leader's grace (half of session.unreachable,
 * 20 s): an edge that greets a cloudcore which loses power just then is elsewhere before anybody calls it unreachable. */
#define HUB_WELCOME_MS     12000u
#define HUB_BACKOFF_MS     500u
#define HUB_BACKOFF_MS_MAX 30000u
#define HUB_SNAPSHOT_MS    2000u /* before we come back for a snapshot; doubles up to the largest
                                    back-off while the next one is wanted soon after, that is: */
#define HUB_SNAPSHOT_AGAIN_MS 600000u
#define HUB_STALL_MS       60000u /* what was shipped must be acknowledged: elections take a while */
#define HUB_HELD_MS        45000u /* the same while there is no room: shorter than what the cloud takes for a stall */
#define HUB_RETRY_MS       500u /* before a batch that the log did not take is asked for again */

/* What became durable and applied, told back by hub_on_settled. */
struct hub_mark {
    uint64_t link; /* of which connection: older ones are ignored */
    uint64_t stream;
    uint64_t position;
};

/* The world of the hub; called from inside hub_ functions, must not call back. */
struct hub_door {
    void *context;
    void (*dial)(void *context, uint32_t address);
    int (*send)(void *context, struct bytes frame); /* 0; STATUS_FULL; dead */
    bool (*room)(void *context);
    void (*close)(void *context);
    void (*random)(void *context, void *buffer, size_t size);
    void (*log)(void *context, bool warning, const char *event, const char *pairs);

    /* Stream ids, positions, digest, node and cluster of a Hello, from the state. */
    void (*hello)(void *context, struct hello *out);
    /* What happened here after a sequence, as edge_up_read. Lent by codec. 0; negative */
    int (*up_read)(void *context, uint64_t after, size_t max_bytes, struct codec *codec,
                   struct batch *out);
    /* Append Record bytes (borrowed) that came from the cloud; hub_on_settled follows with this mark.
     * 0; negative: not taken */
    int (*append)(void *context, struct bytes record, struct hub_mark mark);
    /* Welcome came: from which cluster, and whether our wishes will be replaced. */
    void (*welcomed)(void *context, const struct welcome *welcome);
    /* The keys of cloudcores that were removed are these now: CODEC_KEY_BYTES each, borrowed. May be NULL. */
    void (*shut_out)(void *context, struct bytes keys);
    /* The cloud has applied what we shipped up to here. */
    void (*up_acked)(void *context, uint64_t stream, uint64_t position);
};

enum hub_state { HUB_WAITING, HUB_DIALING, HUB_GREETING, HUB_ACTIVE, HUB_CLOSING, HUB_STATES };

struct hub {
    int64_t wall_ms; /* of what is appended, for people and publications: the owner sets it before hub_on_frame */
    const struct hub_door *door;
    enum hub_state state;
    uint32_t address_count;
    uint32_t address;      /* to try next */
    uint32_t backoff_ms_max;
    uint32_t failures;     /* attempts since a session worked */
    uint64_t due_ms;       /* WAITING: the next attempt; else deadline of the state, 0: none */
    uint32_t hold_ms;      /* what a Bye asked for, at least */
    bool sent_on;          /* a session that worked ended because its cloudcore stops: no failure */
    uint32_t snapshot_hold_ms;   /* how long we stayed away for the last snapshot; 0: none yet */
    uint64_t snapshot_wanted_ms; /* and when */
    const char *software;
    const struct pair *labels;
    uint32_t label_count;

    uint64_t link;         /* counts connections */
    uint64_t epoch;
    uint32_t heartbeat_ms;
    uint64_t heard_ms;
    uint64_t ping_ms;      /* when to say something again */
    char node[LIMIT_NAME_BYTES + 1];
    uint64_t hello_down_stream; /* as said */
    uint64_t hello_down_position;
    uint64_t hello_up_stream;

    uint64_t tip_stream; /* where the cloud stood when it welcomed us */
    uint64_t tip;
    uint64_t tip_heard;  /* the newest that a batch has told since; for people */
    uint64_t tip_ms;     /* and when that was */

    struct feed_receiver down;
    struct feed_sender up;
    bool ack_pending;
    struct ack ack;
    bool held;              /* no room for what comes down: it is asked for again later */
    bool snapshot_dropped;  /* and a snapshot came meanwhile: it begins again */
    uint64_t down_retry_ms; /* > 0: the log was full; nothing is taken until then */
    uint64_t up_moved_ms;   /* mono: when the cloud last acknowledged, or had nothing to */
    uint64_t up_told;       /* newest position passed to up_acked */

    struct codec *in;   /* what a frame said */
    struct codec *read; /* batches read from the state */
    struct codec *feed;
    struct codec *out;
};

/* door, software, labels: borrowed until hub_deinit. The first attempt is due at once. */
void hub_init(struct hub *hub, const struct hub_door *door, uint32_t address_count,
              uint32_t backoff_ms_max, const char *software, const struct pair *labels,
              uint32_t label_count);
void hub_deinit(struct hub *hub);

/* A session is up and has not brought all that the cloud had when it began: a new pod may still miss the
 * config map that comes behind it. False after LIMIT_CATCH_UP_MS, and whenever there is no session.
 *   stream, position  of what is applied */
bool hub_catches_up(const struct hub *hub, uint64_t stream, uint64_t position, uint64_t now_ms);

void hub_on_link_up(struct hub *hub, uint64_t now_ms);
void hub_on_link_down(struct hub *hub, uint64_t now_ms);
/* A frame, borrowed. Malformed ones end the connection. */
void hub_on_frame(struct hub *hub, struct bytes frame, uint64_t now_ms);
void hub_on_writable(struct hub *hub, uint64_t now_ms);
/* Records of ours were applied: there may be something to ship. */
void hub_on_facts(struct hub *hub, uint64_t now_ms);
/* What was appended under this mark is durable and applied. */
void hub_on_settled(struct hub *hub, struct hub_mark mark, uint64_t now_ms);
/* The wishes are not those of the cloud: begin again, asking for a snapshot. */
void hub_want_snapshot(struct hub *hub, uint64_t now_ms);
/* There is no room for what comes down (true), or there is again: batches are dropped and asked for again
 * every HUB_HELD_MS, the link and what goes up go on. */
void hub_hold(struct hub *hub, bool hold, uint64_t now_ms);
/* Say bye; no further attempts. */
void hub_stop(struct hub *hub, uint64_t now_ms);

/* Time has passed.
 *   answers  mono_ms of the next deadline; UINT64_MAX: none */
uint64_t hub_tick(struct hub *hub, uint64_t now_ms);

#endif
