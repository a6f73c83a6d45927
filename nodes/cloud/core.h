/* One cloudcore without its hands: state, agreement, sessions, liveness, scheduling.
 *
 * Sans-I/O. Bytes of peers and sessions, ticks and completions come in as calls; what it wants goes
 * out through struct cloud_core_ops. The program (nodes/cloudcore.c) binds it to libuv, TLS and
 * files; the simulator binds several of them to a virtual world. No globals: any number of cores live
 * in one process. One thread; the ops must not call back into the core from inside.
 *
 *      peers  ---- RAFT, FORWARD, READ, SESSIONS ---->  replica.h, forward.h, liveness.h
 *      edges  ---- Hello, Append, Ack, Ping --------->  session.h (one per connection)
 *      API    ---- backend.h ------------------------>  machine readers, forward.h
 *      log    ---- committed entries ---------------->  machine_apply -> all of the above
 *
 * One turn. Inputs only take note; cloud_core_run does the work that is due (applies entries within a
 * budget, moves sessions, flushes proposals) and says when it wants to run again. Call it after
 * every input, or once per turn of a loop that had inputs.
 *
 * A replica that was away until the others had trimmed their log is given the state of another one
 * (transfer.h): it takes no sessions and answers STATUS_BEHIND meanwhile, and then exchanges its store, in
 * the running process. Who still reads the old one does so to the end.
 *
 * A data directory that is new takes no part before the others know it (roster.h): it has no raft, and
 * there is no leader for it.
 *
 * First boot of a cluster: the first leader that finds no cluster id proposes CLUSTER_INIT and the
 * namespaces default, kube-system, kube-public and kube-node-lease.
 */
#ifndef KELP_NODES_CLOUD_CORE_H
#define KELP_NODES_CLOUD_CORE_H

#include "log/log.h"
#include "nodes/cloud/backend.h"
#include "nodes/cloud/members.h"
#include "nodes/health.h"
#include "nodes/logger.h"
#include "nodes/metrics.h"
#include "replication/replica.h"
#include "schemas/bytes.h"
#include "schemas/codec.h"
#include "schemas/limits.h"
#include "schemas/status.h"

struct store;
struct store_reader;

struct cloud_core_peer {
    uint64_t replica;    /* 1 .. */
    const char *address; /* as raft carries it: host:port */
};

/* All borrowed until cloud_core_close. Times in ms; 0 takes the default in brackets. */
struct cloud_core_config {
    uint64_t replica;    /* who we are; one of peers */
    uint32_t boot_count; /* of this data directory: rises with every start, durable before open */
    const char *name;    /* "cloudcore-1": origin of records, for people */
    /* What the group is founded with, ourselves included; once there is one, raft's configuration counts,
     * and this only helps a replica that is not in it to find it. */
    const struct cloud_core_peer *peers;
    uint32_t peer_count;
    bool joins; /* it never founds a group: it waits to be added to the one of the others in `peers` */
    const char *software; /* version of this release, for people; may be NULL */
    uint32_t level;       /* highest feature level that it understands [MACHINE_LEVEL] */
    const char *key;      /* sha256 of our public key, hexadecimal; may be NULL: it is not told; copied */
    uint64_t seed; /* of raft's election timeouts */

    uint32_t heartbeat_ms;   /* told to edges in Welcome [10000] */
    uint32_t unreachable_ms; /* silence of a node before the verdict [40000]; half of it ends a session */
    uint32_t propose_ms;     /* deadline of a proposal, retries included [10000] */
    uint32_t election_ms;    /* raft [500] */
    uint32_t raft_heartbeat_ms; /* raft [50] */
    uint32_t apply_budget;   /* entries applied in one run [256] */
    uint32_t session_max;    /* sessions of this replica [LIMIT_SESSIONS] */
    uint64_t snapshot_bytes; /* log between two checkpoints of the state, see replica.h */
    uint32_t transfer_range_bytes; /* sent at once of a state to be copied [LIMIT_TRANSFER_BYTES] */
    uint64_t transfer_bytes;       /* in a second, of a state that is copied here; 0: no bound */
};

/* Kubernetes JSON is made and edited at the API door only; the program passes api.h's functions. */
struct cloud_core_objects {
    int (*build_node)(const struct backend *backend, struct codec *codec, const char *name,
                      const struct pair *labels, uint32_t label_count, struct bytes *out);
    int (*build_binding)(const struct backend *backend, struct codec *codec,
                         const struct backend_row *pod, const char *node, struct bytes *out);
    /* An Event about a pod. May be NULL: then none are told. */
    int (*build_event)(const struct backend *backend, struct codec *codec,
                       const struct backend_row *pod, const char *type, const char *reason,
                       const char *message, struct bytes *out);
    bool (*pod_fits)(const struct backend_row *pod, const struct backend_row *node,
                     const char **out_why);
    /* A Namespace object: Record bytes of an OBJECT_PUT (create). */
    int (*build_namespace)(const struct backend *backend, struct codec *codec, const char *name,
                           struct bytes *out);
};

struct cloud_core_ops {
    void *context;
    /* A Frame for a replica. May be lost: whoever needs it asks again. Borrowed during the call.
     *   answers  0: on its way, as far as anybody can tell; negative: certainly not */
    int (*send_peer)(void *context, uint64_t replica, struct bytes frame);
    /* Whether send_peer would take a frame of any size now. May be NULL: always. */
    bool (*peer_room)(void *context, uint64_t replica);
    /* A Frame for an edge, borrowed during the call.
     *   answers  0; STATUS_FULL: not taken, cloud_core_session_writable follows; other negative: the
     *            connection is dead, cloud_core_session_closed follows */
    int (*send_session)(void *context, uint64_t session, struct bytes frame);
    /* Would another large frame be taken? */
    bool (*session_room)(void *context, uint64_t session);
    /* End the connection, what was sent before first. cloud_core_session_closed follows. */
    void (*close_session)(void *context, uint64_t session);
    /* One log line: event and pairs as logger.h has them. */
    void (*log)(void *context, enum logger_level level, const char *event, const char *pairs);
    void (*random)(void *context, void *buffer, size_t size);
    /* The keyed content tag, see backend.tag. */
    struct tag (*tag)(void *context, struct bytes key, struct bytes json);
    /* Microseconds of a clock that never goes back and that moves within a turn: for measuring only. May be
     * NULL: then no durations are told. */
    uint64_t (*clock_us)(void *context);
    /* Run work->work(work) in a pool thread, then work->done(work) on the loop. */
    void (*run)(void *context, struct replica_work *work);
    /* Rows have changed up to this resource version: feed watches (api_changed). May be NULL. */
    void (*changed)(void *context, uint64_t version);
    /* We lead now, or no longer: start and stop controllers. May be NULL. */
    void (*leading)(void *context, bool leads);
    /* The replica cannot go on; the process must end with this message. */
    void (*fatal)(void *context, int status, const char *message);
    /* These are the replicas to be connected with from now on, no others. Borrowed during the call; comes
     * often with the same. Frames for who goes were sent just before. May be NULL. */
    void (*peers)(void *context, const struct cloud_core_peer *peers, uint32_t count);
    /* The group has removed this replica (said in the log): the process is to leave. May be NULL. */
    void (*removed)(void *context);

    /* -- a second place for the state, beside the one that `store` is in, for when this replica lags
     *    behind the log and is given a newer state. All NULL: it ends with a message instead */

    /* Open what is in that place, an earlier attempt or nothing. Any thread.
     *   anew     empty it first
     *   out      to staging_adopt or staging_drop; closed by the owner at cloud_core_close
     *   answers  0; what store_rocks_open answers */
    int (*staging_open)(void *context, bool anew, struct store **out);
    /* This one is the state from now on, durably: whoever starts again opens it. The store that was stays
     * open, in what is the second place now, until staging_drop. On the loop.
     *   answers  0; negative: nothing changed */
    int (*staging_adopt)(void *context, struct store *staging);
    /* Close it (NULL: nothing is open there) and empty the second place. Any thread. */
    void (*staging_drop)(void *context, struct store *store);
};

/* Two clocks at one moment. */
struct cloud_core_time {
    uint64_t mono_ms; /* never goes back: deadlines */
    int64_t wall_ms;  /* since 1970: into commands and for people */
};

struct cloud_core;
struct member_key_row; /* statemachine/member_key.h */

/* Open over a store and a log that are open and stay the caller's.
 *
 *   store, log  borrowed until cloud_core_close; nobody else writes to them
 *   out         given to cloud_core_close; untouched unless 0
 *   reason      256 bytes, receives a sentence when not 0
 *   answers     0; what machine and replica answer: STATUS_CORRUPT, STATUS_FOREIGN, ...
 */
int cloud_core_open(const struct cloud_core_config *config, const struct cloud_core_objects *objects,
                    const struct cloud_core_ops *ops, struct store *store, struct log *log,
                    struct cloud_core_time now, struct cloud_core **out, char *reason);
/* Leave in good order, step one: whenever this replica leads, it hands over, to the member heard last. All is
 * served meanwhile. Done when cloud_core_report says that it does not lead, or is alone. */
void cloud_core_resign(struct cloud_core *core, struct cloud_core_time now);
/* Step two: say bye to all sessions, each with its own time to come back, elsewhere; no new ones. */
void cloud_core_dismiss(struct cloud_core *core, struct cloud_core_time now);
/* Say bye to all sessions, take no more proposals, answer waiting calls with STATUS_CLOSING. The frames
 * are sent from inside. */
void cloud_core_stop(struct cloud_core *core, struct cloud_core_time now);
/* Nothing is under way any more: the log's requests and pool work have called back. */
bool cloud_core_idle(const struct cloud_core *core);
/* Idle after a stop, and about to flush the store: leave what the next start can tell watches from. Without effect when
 * the disk is short, or this replica is being given another state. */
void cloud_core_rest(struct cloud_core *core);
/* Forget everything. After a stop that became idle; or, in the simulator's crash, at once, with a
 * store and a log that never call back again. */
void cloud_core_close(struct cloud_core *core);

/* -- inputs ------------------------------------------------------------------------------------ */

/* A Frame from a replica whose certificate says who it is. */
void cloud_core_on_peer(struct cloud_core *core, uint64_t replica, struct bytes frame,
                        struct cloud_core_time now);
/* A link to that replica has been made anew. */
void cloud_core_peer_connected(struct cloud_core *core, uint64_t replica);
/* Whether the replica with this key may be linked with: not if the key is of one that was removed, unless this state
 * is older than the membership that it is used in. To be asked for
 * each link, and again about once a second. From it the core also learns which keys the members have. */
bool cloud_core_hears_key(struct cloud_core *core, uint64_t replica, const char *key);
/* That replica does not hear our key any more. Once most of the voters say so, or all others, for seconds in which
 * nobody is heard, we are none of them any more (ops.removed). */
void cloud_core_shut_out(struct cloud_core *core, uint64_t replica, struct cloud_core_time now);
/* All links with that replica were closed from there: its process has ended, most likely. */
void cloud_core_peer_lost(struct cloud_core *core, uint64_t replica, struct cloud_core_time now);

/* An edge connected.
 *
 *   session   a number never used before in this process; the caller's name for the connection
 *   node      from its certificate: "edge-1"; borrowed during the call
 *   answers   0; STATUS_FULL: session_max are open, or their names are LIMIT_SESSIONS_NAME_BYTES,
 *             STATUS_BEHIND: see cloud_core_report.behind (a Bye was sent); STATUS_CLOSING: close it */
int cloud_core_session_open(struct cloud_core *core, uint64_t session, const char *node,
                            struct cloud_core_time now);
void cloud_core_on_session(struct cloud_core *core, uint64_t session, struct bytes frame,
                           struct cloud_core_time now);
void cloud_core_session_writable(struct cloud_core *core, uint64_t session);
/* The connection is gone. Unknown sessions are ignored. */
void cloud_core_session_closed(struct cloud_core *core, uint64_t session,
                               struct cloud_core_time now);

/* How much room the disk of log and state has; the caller looks about once a second. */
enum cloud_core_space {
    CLOUD_CORE_SPACE_PLENTY, /* at first */
    CLOUD_CORE_SPACE_LOW,    /* the others are told, and one that has plenty is made leader. While we lead, only commands up to LIMIT_RESERVED_COMMAND_BYTES are
                                proposed: deletions make room, acknowledgements and verdicts go on */
    CLOUD_CORE_SPACE_NONE,   /* while we lead, nothing is proposed: what is left of the log's prepared
                                segments is for elections and for linearizable reads */
};
void cloud_core_set_space(struct cloud_core *core, enum cloud_core_space space);

/* Do what is due.
 *
 *   answers  the mono_ms at which to run again at the latest; now.mono_ms when there is more to do
 */
uint64_t cloud_core_run(struct cloud_core *core, struct cloud_core_time now);

/* Room on the disk of log and state, for whoever asks how this replica is. */
void cloud_core_set_free(struct cloud_core *core, uint64_t bytes);

/* -- the group ----------------------------------------------------------------------------------- */

/* The replicas as this one knows them, ourselves up to date. Lent until the next call on the core. */
const struct members *cloud_core_members(struct cloud_core *core);

/* When the newest change that this replica has applied was proposed, by the clock of the leader of then; 0 before
 * the first. */
int64_t cloud_core_time_ms(const struct cloud_core *core);

/* How a change ended: 0: it is so. STATUS_TIMEOUT: it may happen yet, the message says where it stands;
 * STATUS_CLOSING. The message is a sentence for people, lent during the call. */
enum { CLOUD_CORE_CHANGE_REFUSED = 1, CLOUD_CORE_CHANGE_LATER = 2 };
typedef void (*cloud_core_on_changed)(void *context, int status, const char *message);

/* Change the group, through the leader, whoever it is. See members.h.
 *
 *   replica     1 .. 65535; 0 with MEMBER_TRANSFER: whoever is furthest
 *   address     of one to be added, host:port; else ""; borrowed; at most MEMBERS_ADDRESS_BYTES
 *   key         sha256 in hexadecimal, or "": MEMBER_ADD: the key that it will have: done means that it is noted, so
 *               that it can be shut out though it was never seen. MEMBER_REMOVE: a key that is known to have been this
 *               replica's, to be shut out as well. Else ""; borrowed. A leader of an early release overlooks it
 *   on_changed  exactly once if 0 was answered, from cloud_core_run, cloud_core_on_peer or cloud_core_stop
 *   answers     0; STATUS_FULL: LIMIT_MEMBER_ASKS wait; STATUS_CLOSING
 */
int cloud_core_change(struct cloud_core *core, enum member_operation operation, uint64_t replica,
                      const char *address, const char *key, uint32_t patience_ms,
                      cloud_core_on_changed on_changed, void *context);

/* Is this key of a replica that was removed? */
bool cloud_core_key_out(struct cloud_core *core, const char *key);
/* Keys of members and of removed ones; at most LIMIT_MEMBER_KEYS. Answers how many. */
uint32_t cloud_core_keys(struct cloud_core *core, struct member_key_row *out);

/* -- views ------------------------------------------------------------------------------------- */

/* What the API door is built over. Lent until close. */
const struct backend *cloud_core_backend(struct cloud_core *core);

struct cloud_core_report {
    uint64_t applied;     /* log index */
    uint64_t version;     /* resource version */
    uint64_t leader;      /* replica, 0: unknown */
    bool leads;
    uint32_t sessions;    /* connected */
    uint32_t sessions_active; /* welcomed */
    uint32_t proposals;   /* waiting for their result */
    const char *cluster;  /* "" before the first boot is done; lent until the next call */
    bool behind;          /* it is being given a newer state, and serves nobody meanwhile */
    uint32_t behind_percent; /* of it that is here; 100 when not behind */
    uint64_t behind_source;  /* replica that is asked for it; 0 when not behind */
    uint32_t level;          /* feature level in force */
    uint64_t contested_by;   /* a replica of another epoch of this cluster, when a group works there and one here
                                was restored or recovered apart from it; 0: it is not so */
    bool alone;              /* no other member was heard within a second: nobody could lead instead */
};
struct cloud_core_report cloud_core_report(const struct cloud_core *core);

/* What is going on, as families of a page: agreement, applying, queues, sessions, the nodes that lag most,
 * checkpoints, the store. */
void cloud_core_metrics(struct cloud_core *core, struct metrics_page *page);
/* Whether clients should be sent here: a leader is known, the state is not behind, little waits to be applied,
 * writes are taken, we are not leaving. */
void cloud_core_health(const struct cloud_core *core, struct health *health);

/* Hold still: the state as this replica has applied it, for a backup.
 *   out_reader  given: store_snapshot_release it, on any thread, before the store is closed
 *   answers     0; STATUS_BEHIND: this replica is being given a newer state */
int cloud_core_snapshot(struct cloud_core *core, struct store_reader **out_reader,
                        uint64_t *out_term, uint64_t *out_rows_about);

/* Positions of a node's session on this replica, for metrics and tests. false: none is active. */
struct cloud_core_session_report {
    uint64_t epoch;
    uint64_t down_sent, down_acked;
    uint64_t up_taken, up_applied;
};
bool cloud_core_session_report(const struct cloud_core *core, const char *node,
                               struct cloud_core_session_report *out);

#endif
