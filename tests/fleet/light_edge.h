/* An edge without a disk, pods and a process of its own: thousands of them live in one loop.
 *
 * The link and what is said on it are those of a real edge (nodes/edge/hub.c and uplink.c: TLS with a
 * certificate of its own, WebSocket, Hello to Bye, feeds, back-off with jitter). What a real one keeps in
 * its log and RocksDB is here a few words of memory: positions, and of each wish its key and tag. That is
 * enough to doubt what arrives:
 *
 *   - a record is taken once: its sequence is above our position, the batch joins it
 *   - at the tip, the sum of the tags of what we hold is what the cloud says
 *   - an object whose JSON counts ("serial":"N") never counts back, nor says the same twice
 *
 * Upward it tells numbered events: event N is the same whenever it is read, so nothing is kept of it. What
 * it is told to tell is never lost or repeated by this side; whether the cloud has each once is for whoever
 * asks the cloud.
 */
#ifndef KELP_TESTS_FLEET_LIGHT_EDGE_H
#define KELP_TESTS_FLEET_LIGHT_EDGE_H

#include "nodes/edge/hub.h"
#include "nodes/edge/uplink.h"

#define LIGHT_EDGE_NAME_BYTES 64u
/* Edges of one process between dialing and Welcome. They share a processor, which real ones do not: all at
 * once each would be later than the ten seconds it has, and begin again. Others wait, and that is measured. */
#define LIGHT_EDGE_DIALS 256u

/* Times kept for fleet's `lags`; those after them are not. */
#define LIGHT_LAGS_MAX (4u * 1024u * 1024u)

/* A wish. */
struct light_row {
    char *key; /* owned */
    struct tag tag;
    uint64_t serial; /* 0: its JSON does not count */
    uint32_t puts;   /* that came in batches and were new */
};

struct light_rows {
    struct light_row *items; /* owned */
    uint32_t count;
    uint32_t *
        places; /* owned: open addressing, index + 1; NULL while there are few, or one was removed */
    uint32_t place_mask; /* a power of two, at least twice the count, less 1 */
    struct tag digest;
};

/* What all edges of a process share, and what they add up to. */
struct light_fleet {
    uv_loop_t *loop;
    const struct config_address *cloud; /* borrowed */
    uint32_t cloud_count;
    struct codec *read;             /* what came, while it is looked at */
    struct light_edge *woken_first; /* have something to do, in the order they were woken */
    struct light_edge *woken_last;
    char cluster[LIMIT_NAME_BYTES + 1]; /* of the first Welcome */

    uint32_t active;
    uint32_t dialing;
    uint64_t dials;
    uint64_t dials_failed;  /* nobody there, no handshake, no agreement to WebSocket */
    char last_failure[128]; /* why the newest of these did not */
    uint64_t byes;          /* the cloud said goodbye */
    char last_bye[128];     /* and what it said */
    uint64_t welcomes;
    uint64_t losses; /* sessions that ended, whoever ended them */
    uint64_t snapshots;
    uint64_t down_records; /* new ones */
    uint64_t down_again;   /* known ones that came again after a reconnection: skipped */
    bool timed;        /* serials are the time at which they were written, us of CLOCK_MONOTONIC */
    uint32_t *lags_us; /* owned: from there to here, of each new record, LIGHT_LAGS_MAX at most */
    uint32_t lag_count, lag_capacity;
    uint64_t lag_newest_us; /* when the last of them came */
    uint64_t
        silence_ms_max; /* between two frames of a session; pings ask for one every heartbeat */
    uint64_t wrong;     /* claims above that did not hold */
    char first_wrong[256];
};

struct light_edge {
    struct light_fleet *fleet;
    char name[LIGHT_EDGE_NAME_BYTES];
    struct hub hub;
    struct hub_door door;
    struct uplink uplink;
    bool woken;
    struct light_edge *woken_next;
    uint64_t due_ms; /* when hub_tick is due; UINT64_MAX: not before something happens */

    uint64_t down_stream;
    uint64_t down_position;
    struct light_rows rows;
    uint64_t stage_id; /* 0: no snapshot is under way */
    uint64_t stage_stream;
    uint64_t stage_position;
    struct light_rows stage;
    struct hub_mark marks[2]; /* newest taken of a snapshot, of batches; link 0: none */

    uint64_t up_stream;
    uint64_t up_last;
    uint64_t up_acked;

    uint32_t address; /* of the newest dial */
    uint32_t losses;
    bool joined;
    bool dialing;
    bool active;
    uint64_t since_ms;    /* when it was told to join, or lost its session */
    uint64_t welcomed_ms; /* newest Welcome; 0: none yet */
    uint64_t heard_ms;    /* newest frame of this session */
    uint32_t outage_ms;   /* from the one to the other */
};

/* An edge that does nothing yet.
 *
 *   context   role LINK_DIAL with the certificate of system:node:NAME; borrowed for life
 *   name      copied */
void light_edge_init(struct light_edge *edge, struct light_fleet *fleet,
                     struct link_context *context, const char *name, uint64_t seed);
/* Connect, and from now on stay connected. */
void light_edge_join(struct light_edge *edge);
/* Tell so many more events. */
void light_edge_tell(struct light_edge *edge, uint32_t count);
/* The highest serial of what it holds; 0: nothing counts. */
uint64_t light_edge_serial(const struct light_edge *edge);
/* Say goodbye and stay away. */
void light_edge_stop(struct light_edge *edge);

/* Do what the edges that were woken have to do, for a while: they share one processor, and thousands that
 * dial at once must not keep each other from the answers to that. Once per turn of the loop.
 *   answers   whether some have still to do */
bool light_fleet_turn(struct light_fleet *fleet);
/* The deadline of this edge may have come: it is woken if so. */
void light_edge_look(struct light_edge *edge);

#endif
