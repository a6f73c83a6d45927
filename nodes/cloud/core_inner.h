/* What the files of the core share: core.c (life, agreement, turns), core_session.c (the world of
 * sessions), core_leader.c (what only the leader does), core_others.c (what the other members can), core_greeting.c (who the other replicas are),
 * core_members.c (how they are, and changes of the group), core_keys.c (whose keys are heard), core_backend.c (the world of the API door), core_transfer.c (a newer state instead of
 * ours), core_watch.c (numbers and health for whoever watches). */
#ifndef KELP_NODES_CLOUD_CORE_INNER_H
#define KELP_NODES_CLOUD_CORE_INNER_H

#include "nodes/cloud/core.h"
#include "nodes/cloud/forward.h"
#include "nodes/cloud/liveness.h"
#include "nodes/cloud/members.h"
#include "nodes/cloud/roster.h"
#include "nodes/cloud/scheduler.h"
#include "nodes/cloud/session.h"
#include "nodes/cloud/transfer.h"
#include "statemachine/delivery.h"
#include "statemachine/machine.h"
#include "statemachine/object.h"
#include "statemachine/store.h"

#define CORE_BUCKETS       8192u /* of sessions, by number and by node */
#define CORE_TICK_MS       20u   /* raft's clock */
#define CORE_SESSION_MS      100u  /* deadlines of sessions */
#define CORE_LEADER_RETRY_MS 1000u
#define CORE_HANDOVER_MS   10000u /* between two attempts to hand leadership over: one may meet a dead peer */
#define CORE_RESIGN_MS       50u    /* the same while we are about to stop: one that is under way is not repeated */
#define CORE_KEYS_LEVEL      2u     /* feature level from which the state knows keys of members */
#define CORE_HEARD_MS        1000u  /* a member from which nothing came for so long is not near */

/* A committed entry that could not be applied at once. */
struct core_entry {
    struct core_entry *next;
    uint64_t index;
    size_t size;
    _Alignas(8) uint8_t command[];
};

/* Results of a command of ours, until the end of the turn. */
struct core_done {
    struct core_done *next;
    uint64_t sequence;
    uint32_t count;
    struct forward_result results[];
};

struct core_session {
    struct session session;
    struct core_session *next_id;   /* in its buckets */
    struct core_session *next_node;
    struct core_session *next_all;
    struct core_session *previous_all;
    struct core_session *next_turn; /* in the queue of those who wait for their turn */
    struct core_session *previous_turn;
    bool waits; /* it is in that queue */
    bool dirty; /* session_on_state is due, with its turn */
};

struct core_ask; /* core_members.c */
/* Another replica, as it was heard last. */
struct core_other {
    uint64_t replica;
    uint64_t heard_ms; /* when something came from it; 0: not since it was lost */
    uint32_t level;    /* highest feature level it understands; 0: it has not said since it was lost */
};

struct core_snapshot {
    struct core_snapshot *next;
    struct delivery_snapshot snapshot;
};

/* A session that opened or closed, until the leader is told. */
struct core_report_item {
    struct core_report_item *next;
    bool opened;
    uint64_t epoch;
    char node[LIMIT_NAME_BYTES + 1];
};

/* What happened since the start, for metrics. */
struct core_counts {
    uint64_t leaderships; /* the leader or the term changed */
    uint64_t entries;     /* applied */
    uint64_t records;     /* in them */
    uint64_t stalls;      /* the store was full */
    uint64_t stall_began_us;
    uint64_t stalled_us;
    uint64_t sessions_opened;
    uint64_t sessions_ended;
    uint64_t digests_differed;
    uint64_t checkpoints_failed;
    uint64_t checkpoint_began_us;
    int64_t checkpoint_wall_ms;          /* of the newest that was made; 0: none yet */
    struct metrics_histogram apply;      /* of one entry */
    struct metrics_histogram checkpoint; /* of those that were made */
};

struct cloud_core {
    struct cloud_core_config config;
    struct cloud_core_objects objects;
    struct cloud_core_ops ops;
    struct store *store;
    struct log *log;
    struct machine machine;
    struct replica *replica; /* NULL: this data directory is new, and takes no part yet */
    bool open_due;           /* it may now */
    struct forwarder *forward;
    struct forward_door forward_door;
    struct cloud_core_time now;
    bool stopping;
    bool closing; /* nobody outside is called any more */
    bool replica_closed;
    bool checkpointing;    /* the pool makes a checkpoint: the store is flushed by one at a time */
    int checkpoint_status; /* of the last checkpoint_make: the pool's until checkpoint_end */

    /* applying */
    struct core_entry *entries_head;
    struct core_entry *entries_tail;
    uint64_t entries_bytes; /* of those in memory; above LIMIT_APPLY_WAITING_BYTES no more come */
    uint32_t applied_count; /* entries in this run */
    enum cloud_core_space space;
    struct store_reader *stalled; /* the store was full: what is read meanwhile; else NULL */
    struct core_done *done_head;
    struct core_done *done_tail;
    uint64_t version_told;
    bool ended; /* ops.fatal was called */

    /* leadership, as the replica said last */
    uint64_t leader;
    uint64_t term;
    bool leads;
    bool leadership_moved;
    bool lead_ready;     /* we lead, and have applied all that was agreed before */
    bool lead_asked;
    uint64_t lead_retry_ms;
    bool init_pending;
    bool resigning;         /* about to stop: somebody else is to lead */
    bool dismissed;         /* and to serve the edges */
    uint64_t handover_ms;   /* we should not lead: no attempt to hand leadership over before */
    uint32_t handover_next; /* where to look for the next member to try */
    uint64_t tick_ms;

    /* the group; config.peers is gone by now */
    struct members group;
    struct roster roster;
    char address[LIMIT_NAME_BYTES + 1]; /* ours, for the others */
    char software[MEMBERS_SOFTWARE_BYTES];
    char key[65]; /* config.key */
    uint64_t member_ids[LIMIT_MEMBERS]; /* of group.all: lent to the sink */
    uint64_t members_index; /* replica_members_index, as `group` has it */
    uint64_t agreed_index;  /* the same, of those that are agreed on ... */
    bool settled;           /* ... and we are one of them */
    bool peers_due;         /* ops.peers is to be called */
    bool removed;           /* the group goes on without us */
    enum roster_place place_told;
    uint64_t others_index; /* of the members that roster.others are of; 0: of the file */
    uint64_t told_index;   /* of the newest members that somebody whom we hear told us of; 0: nobody did */
    uint64_t told[LIMIT_REPLICAS];
    uint32_t told_count;
    uint64_t status_ms; /* what we say of ourselves is due */
    int64_t started_ms;
    uint64_t disk_free_bytes;
    bool change_flying; /* raft is at a step of a change */
    uint64_t muted;     /* raft's frames to this replica are dropped meanwhile; 0: nobody's */
    enum member_operation asked_operation; /* the newest change that we were asked for as leader, */
    uint64_t asked_replica;
    uint64_t asked_ms;      /* when that was first, */
    uint64_t asked_last_ms; /* and last */
    bool key_pending;     /* a record about a key is proposed */
    bool keys_full_told;
    uint64_t keys_ms;     /* not before: the leader looks at keys */
    uint64_t keys_wait_ms; /* between its proposals, while they change nothing; 0: the last one did */
    uint64_t shut_out_ms; /* somebody said first that our key is out, and nobody was heard since; 0: not so */
    uint64_t shut_out_last_ms; /* and last */
    uint8_t *shut_out;         /* keys that are out, as edges are told; owned */
    size_t shut_out_size;
    uint64_t shut_out_version; /* of that; 0: the state knows of no keys */
    struct core_ask *asks;
    uint64_t ask_request;

    /* greetings */
    struct core_other others[LIMIT_REPLICAS];
    uint32_t other_count;
    bool level_pending; /* a higher feature level is proposed */
    uint64_t worked_ms;    /* when this group of several had a leader last; 0: not in this life */
    uint64_t contested_by; /* a replica of a group that works in another epoch of ours; ... */
    uint64_t contested_ms; /* ... and when that said so last; 0: never */
    bool greeted_cluster; /* everybody was told which cluster we are of */

    /* a newer state instead of ours */
    struct transfer_door transfer_door;
    struct transfer_source source;
    struct transfer_sink sink;
    bool fetching;         /* raft asked for one, and we have none that is as new */
    bool fetched;          /* replica_fetched was called for what is in the sink */
    uint64_t fetch_needed; /* the index that raft asked for */
    bool securing;         /* our state has it, and is being made durable, in the pool */
    int secure_status;     /* of that: the pool's until securing is false */
    uint64_t secure_ms;    /* not before, after a failure */
    uint64_t lag_lifts_told; /* see core_lag_tell */
    struct replica_work secure;
    uint64_t
        leftover_ms; /* what an earlier process left half done is removed then; 0: nothing is */
    struct store *retired; /* the state before; somebody may still read it. NULL: none */
    bool retiring;         /* it is being closed, in the pool */
    struct replica_work retire;

    /* sessions */
    struct session_door session_door;
    struct session_config session_config;
    struct session_codecs session_codecs;
    struct core_session *by_id[CORE_BUCKETS];
    struct core_session *by_node[CORE_BUCKETS];
    struct core_session *sessions;
    uint32_t session_count;
    size_t session_name_bytes; /* bounded by LIMIT_SESSIONS_NAME_BYTES */
    uint32_t session_active;
    struct core_session *turn_first; /* the queue of turns */
    struct core_session *turn_last;
    size_t turn_bytes; /* that sessions were sent in this run */
    uint64_t session_tick_ms;
    struct node_row node_row; /* lent to sessions */
    struct core_snapshot *snapshots;

    /* liveness and scheduling */
    struct liveness_door liveness_door;
    struct liveness liveness;
    struct core_report_item *report_items;
    struct core_report_item *report_last;
    uint64_t report_full_ms;
    struct scheduler_door scheduler_door;
    struct scheduler *scheduler;
    uint64_t watched; /* version up to which liveness and scheduler know */
    bool watch_all;   /* they know nothing: read everything */
    const struct backend_listener *listener; /* told of all wishes, too; may be NULL */

    struct core_counts counts;

    struct backend backend;
    struct core_judged {
        uint64_t version; /* of the state */
        char node[LIMIT_NAME_BYTES + 1];
        bool answers;
    } judged;                  /* the node that the API asked for last */
    struct codec *codec_frame; /* what a peer sent, and frames around others' bodies */
    struct codec *codec_raft;  /* frames sent from the middle of raft, */
    struct bytes frame_raft;   /* the last of them */
    struct codec *codec_read;  /* batches and snapshots read from the store */
    struct codec *codec_build; /* records of our own */
};

__attribute__((format(printf, 4, 5))) void core_log(struct cloud_core *core,
                                                    enum logger_level level, const char *event,
                                                    const char *format, ...);
/* What is read on the loop now; reset by whoever uses it. */
struct store_reader *core_reader(struct cloud_core *core);
void core_fatal(struct cloud_core *core, int status, const char *message);
/* The answer of reading the state, passed on; when the disk failed we end. */
int core_read(struct cloud_core *core, int status);
/* Entries that wait to be applied are not any more: a newer state has them. */
void core_entries_drop(struct cloud_core *core);

/* Of ops.clock_us; 0 without one. */
uint64_t core_clock_us(const struct cloud_core *core);

/* core_session.c */
void core_sessions_init(struct cloud_core *core);
void core_sessions_deinit(struct cloud_core *core);
struct core_session *core_session_find(struct cloud_core *core, uint64_t id);
/* Mark the sessions of a node: the state of it changed. */
void core_session_touch(struct cloud_core *core, const char *node);
/* session_on_state and session_tick where due. Answers the next deadline. */
uint64_t core_sessions_run(struct cloud_core *core);

/* core_leader.c */
void core_leader_init(struct cloud_core *core);
void core_leader_deinit(struct cloud_core *core);
/* Leadership moved: begin anew. */
void core_leader_moved(struct cloud_core *core);
uint64_t core_leader_run(struct cloud_core *core);
/* A session of ours became active, or is over. */
void core_report(struct cloud_core *core, const struct session *session, bool opened);

/* core_keys.c */
/* A replica that we hear has said something: it hears our key. */
void core_keys_heard(struct cloud_core *core);
/* Once a second: what edges are to be told of keys. */
void core_keys_look(struct cloud_core *core);
/* Note the keys of the members, and shut out what they had before. We lead. */
void core_keys_run(struct cloud_core *core);
/* What a change means for keys, given its next step; the leader's.
 *   key       that the change names, see cloud_core_change; ""
 *   answers   the step; MEMBER_LISTEN: a record is on its way; MEMBER_REFUSED: there never was such a replica,
 *             another member has its key, or one that is to be added has one that is out.
 *             The message is replaced unless it is the step as it was */
enum member_step core_keys_step(struct cloud_core *core, enum member_operation operation,
                                uint64_t replica, const char *key, enum member_step step,
                                char *message);

/* core_others.c */
void core_other_heard(struct cloud_core *core, uint64_t replica);
void core_other_lost(struct cloud_core *core, uint64_t replica);
void core_other_greeted(struct cloud_core *core, uint64_t replica, uint32_t level,
                        const char *software);
/* It was heard a moment ago. And: any other one was. */
bool core_other_near(const struct cloud_core *core, uint64_t replica);
bool core_has_company(const struct cloud_core *core);
/* Whether this release may work with this state. 0; STATUS_UNSUPPORTED: reason, 256 bytes, says why not */
int core_level_check(struct cloud_core *core, char *reason);
/* On the leader: raise the level when all understand a higher one. */
void core_level_run(struct cloud_core *core);

/* core_greeting.c */
/* Read the incarnation of this data directory, or draw it. 0; STATUS_CORRUPT, STATUS_FOREIGN; failures */
int core_roster_open(struct cloud_core *core);
/* Forget who is no member any more. */
void core_roster_trim(struct cloud_core *core);
/* Tell a replica who we are; best effort, like every frame between cloudcores. */
void core_greet(struct cloud_core *core, uint64_t replica);
/* Tell all: the room on our disk has changed, or the members. */
void core_greet_all(struct cloud_core *core);
/* Tell all, once the cluster has its name. */
void core_greeting_run(struct cloud_core *core);
/* Once a second: tell those again who have not answered. */
void core_greeting_tick(struct cloud_core *core);
/* What a replica said. STATUS_OK; STATUS_MALFORMED; STATUS_IDENTITY: it says to be another one */
int core_greeting_take(struct cloud_core *core, uint64_t replica, struct bytes body);
/* Whether it was found to be of another cluster: nothing it says is heard. */
bool core_greeting_foreign(const struct cloud_core *core, uint64_t replica);
/* Whether members of whom we hear say that it is one, too, in a configuration that we do not have yet. */
bool core_told_of(const struct cloud_core *core, uint64_t replica);
/* We are of a group of several that had a leader a moment ago: what it agreed on is not to be given up because
 * somebody comes with a higher epoch. */
bool core_works(const struct cloud_core *core);
/* A group of several works in another epoch of this cluster, as one of it has said a moment ago. */
bool core_contested(const struct cloud_core *core);
/* A member was met, or who was met is a member now: write down which data directory it has. */
void core_meet(struct cloud_core *core, struct member *member);
/* Whether raft and all that stands on it hears this replica. */
bool core_hears(const struct cloud_core *core, uint64_t replica);

/* core_members.c */
void core_members_init(struct cloud_core *core);
void core_members_deinit(struct cloud_core *core);
void core_members_stop(struct cloud_core *core);
/* Bodies of WIRE_PEER_STATUS, WIRE_MEMBER_ASK and _ANSWER. 0; STATUS_MALFORMED, STATUS_IDENTITY */
int core_members_on_peer(struct cloud_core *core, uint64_t replica, uint16_t kind,
                         struct bytes body);
/* Answers the next deadline. */
uint64_t core_members_run(struct cloud_core *core);

/* core_transfer.c */
void core_transfer_init(struct cloud_core *core);
void core_transfer_deinit(struct cloud_core *core);
/* replica_hooks.checkpoint_fetch and checkpoint_restore */
int core_transfer_fetch(void *context, uint64_t from, const struct manifest *manifest);
int core_transfer_restore(void *context, const struct manifest *manifest,
                          uint64_t *out_applied_index);
/* Bodies of WIRE_STATE_ASK and _RANGE. 0; STATUS_MALFORMED */
int core_transfer_on_peer(struct cloud_core *core, uint64_t replica, uint16_t kind,
                          struct bytes body);
uint64_t core_transfer_run(struct cloud_core *core);
/* Nothing of it is with the pool. */
bool core_transfer_idle(const struct cloud_core *core);
/* This replica is being given a newer state: it serves nobody meanwhile. */
bool core_behind(const struct cloud_core *core);

/* core_backend.c */
void core_backend_init(struct cloud_core *core);
void core_backend_row(const struct object_row *row, struct backend_row *out);
enum backend_outcome core_backend_outcome(enum outcome outcome);

#endif
