/* One member of the group that agrees on the order of commands. libraft lives behind this door.
 *
 *   1. log_open, then replica_open over that log: what was stored is loaded, nothing is sent yet
 *   2. replica_tick every few milliseconds, replica_receive for each message of the others
 *   3. on the leader: replica_propose, and replica_flush at the end of the turn -> durable on a quorum ->
 *      `apply` on every replica, in the same order -> the proposer's callback
 *   4. now and then a checkpoint of the state, so that the log can be trimmed at its front
 *   5. replica_close, then log_close, then the process ends
 *
 * Nothing here knows a clock, a socket or a thread: time comes with replica_tick, messages leave
 * through peer.h, chance comes from a seed. So the same code runs under libuv and in tests/sim.
 *
 * Storage is log/: an entry of the group is one frame with the same index, term and bytes (types
 * LOG_TYPE_COMMAND, BARRIER, CHANGE), written once. Term and vote are the log's meta bytes, the
 * newest snapshot is its file `snapshot`.
 *
 * libraft 0.15 loses committed data as it is. The guard (raft_guard.h) covers each defect that is
 * known; the simulation (tests/sim/raft_sim.c) fails when any of its measures is switched off.
 *
 * One loop, one thread. Callbacks of proposals, reads, changes and leadership come when libraft is
 * left again, so they may call any function of this door. `apply` and `peers.send` come from the
 * middle of it: they must not.
 */
#ifndef KELP_REPLICATION_REPLICA_H
#define KELP_REPLICATION_REPLICA_H

#include "replication/manifest.h"
#include "replication/peer.h"

struct log;
struct replica; /* opaque, so that no struct of libraft is seen outside replication/raft_* */

enum replica_role {
    REPLICA_FOLLOWER,
    REPLICA_CANDIDATE,
    REPLICA_LEADER,
    REPLICA_ENDED, /* after a fatal error or replica_close */
};

enum replica_member_role {
    REPLICA_VOTER,   /* gets the log and votes */
    REPLICA_STANDBY, /* gets the log */
    REPLICA_SPARE,   /* is only known */
};

struct replica_member {
    uint64_t id;         /* not 0 */
    const char *address; /* for people and for whoever connects; replicas themselves go by id */
    enum replica_member_role role;
};

/* Work that may block: `work` runs away from the loop, `done` on the loop afterwards. */
struct replica_work {
    void (*work)(struct replica_work *work);
    void (*done)(struct replica_work *work);
};

/* What the replica asks of its owner. Copied by replica_open. Each is called with `context`. */
struct replica_hooks {
    void *context;

    /* One command that the group agreed on. Called in the order of indexes, once per index in the
     * life of this process, beginning above config.applied_index. Cannot fail.
     *
     *   index      of its entry; they rise, with gaps (entries that are no commands)
     *   command    lent during the call; the bytes as proposed and up to 7 zero bytes after them;
     *              8-byte aligned
     */
    void (*apply)(void *context, uint64_t index, uint64_t term, struct bytes command);

    /* Whether the owner keeps so much of what `apply` told it that it must not be told more. As long
     * as it says so, entries that come from a leader are dropped as if the network had lost them:
     * the leader offers them again. May be NULL: never.
     */
    bool (*behind)(void *context);

    /* Role, term or known leader of this replica changed. May be NULL.
     *
     *   leader     0: none is known
     */
    void (*leadership)(void *context, enum replica_role role, uint64_t term, uint64_t leader);

    /* This replica cannot go on: a real I/O error, a state that cannot be rebuilt, a broken
     * promise of libraft. Must end the process; only the simulation returns, and then nothing is
     * sent, stored or applied any more. NULL: the sentence goes to standard error, exit code 71.
     *
     *   what       a sentence without a full stop, lent during the call
     *   status     the status behind it; 0 when there is none
     */
    void (*fatal)(void *context, const char *what, int status);

    /* -- checkpoints of the state; all NULL: the log is never trimmed (benches, tests) */

    /* A checkpoint is due. O(1), on the loop.
     *
     *   index      the snapshot's; the state has applied it
     *   answers    0; anything else: not now, it is asked again
     */
    int (*checkpoint_start)(void *context, uint64_t index);
    /* Make it durable: all that is applied up to some index at or above the one of start. Away
     * from the loop (config.run), apply goes on meanwhile.
     *
     *   out        zeroed; fill in applied_index (of the newest command in it) and the files (which
     *              stay the owner's, and must live until checkpoint_end); not the epoch
     *   answers    0; a failure: no snapshot this time
     */
    int (*checkpoint_make)(void *context, struct manifest *out);
    /* The end of what start began, on the loop.
     *
     *   status     0: it is the newest snapshot now, older ones may be dropped; else drop this one
     */
    void (*checkpoint_end)(void *context, int status);

    /* A snapshot of another replica is to replace this state; a state that is at least as new must
     * be here first. Fetch it beside raft, durably, then call replica_fetched. What the same leader
     * offers meanwhile is dropped; what a newer one offers replaces it, and this is called again,
     * for perhaps a newer manifest: the last call counts. The same manifest may be asked for again
     * (after replica_fetched failed, after raft did not take it, or after a restart). Called also
     * when this state is as new but a crash could take it back: the log that would replay it goes,
     * so it has to be durable first.
     *
     *   manifest   borrowed during the call
     *   answers    0: under way. NULL or anything else: the replica ends with a message
     */
    int (*checkpoint_fetch)(void *context, uint64_t from, const struct manifest *manifest);
    /* Put what was fetched in the place of the state, durably. Also called at open, when a crash
     * came between the two: idempotent.
     *
     *   out_applied_index  of the newest command in it, at least the manifest's; the next `apply` is
     *                      above it
     *   answers    0; anything else ends the replica with a message. NULL: the same.
     */
    int (*checkpoint_restore)(void *context, const struct manifest *manifest,
                              uint64_t *out_applied_index);
};

/* The measures of the guard, by the letters of raft_guard.h. */
enum replica_measure {
    MEASURE_ACK = 1u << 0,       /* a */
    MEASURE_TERM = 1u << 1,      /* b */
    MEASURE_COMMIT = 1u << 2,    /* c */
    MEASURE_FATAL = 1u << 3,     /* d */
    MEASURE_PREVOTE = 1u << 4,   /* e */
    MEASURE_CONFIG = 1u << 5,    /* f */
    MEASURE_WALK = 1u << 6,      /* g */
    MEASURE_ADDRESS = 1u << 7,   /* h */
    MEASURE_SOLO = 1u << 8,      /* i */
    MEASURE_SPLIT = 1u << 9,     /* j */
    MEASURE_TRANSFER = 1u << 10, /* o */
    MEASURE_QUORUM = 1u << 11,   /* p: of raft_reads.h, as the next two */
    MEASURE_ANSWER = 1u << 12,   /* q */
    MEASURE_OWN = 1u << 13,      /* r */
    MEASURE_CHANGE = 1u << 14,   /* s */
    MEASURE_PING = 1u << 15,     /* t: off, this replica is like one of a release without pings */
    MEASURE_LAG = 1u << 16,      /* u: of raft_lag.h */
    MEASURE_PROBE = 1u << 17,    /* v */
};

struct replica_config {
    uint64_t id;         /* not 0 */
    const char *address; /* borrowed during replica_open */

    /* The group as it is founded: the same list on every founding member. Used only while this
     * log is empty; none (count 0): this replica waits until a leader adds it. */
    const struct replica_member *members; /* borrowed during replica_open */
    uint32_t member_count;                /* at most LIMIT_REPLICAS */

    uint64_t epoch; /* of the cluster; a snapshot of another epoch replaces the state */
    uint64_t
        applied_index; /* of the newest command that the state durably holds: not applied again */

    uint64_t seed;         /* different on every replica and start */
    uint64_t now_ms;       /* of the clock that replica_tick goes by */
    uint32_t election_ms;  /* 0: 500. A new leader is sought after 1 to 2 times this */
    uint32_t heartbeat_ms; /* 0: 50. Below election_ms */

    uint64_t snapshot_bytes; /* of log between two checkpoints; 0: LIMIT_RAFT_SNAPSHOT_BYTES */
    uint32_t snapshot_trailing_percent; /* of these bytes that stay in memory behind a checkpoint,
                                           for replicas that lag; 0: 200 */

    /* Run work->work(work) away from the loop, later work->done(work) on it. NULL only without
     * checkpoint hooks. */
    void (*run)(void *context, struct replica_work *work);

    uint32_t measures_off; /* enum replica_measure; 0. Only the simulation sets it */
};

/* Open a replica over a log that was just opened.
 *
 *   log        borrowed until replica_close called back; nobody else appends to it
 *   hooks, peers  copied; hooks.apply and peers.send must be there
 *   out        set before any hook is called (a lone voter leads and applies at once); means
 *              nothing unless 0
 *   answers    0. STATUS_CORRUPT: log and snapshot do not fit together, or are not what was
 *              written. STATUS_FOREIGN: a newer format. STATUS_UNSUPPORTED: the state must be
 *              replaced by a checkpoint and cannot (hooks.fatal heard why). STATUS_MALFORMED: the
 *              config. Failures of the disk. After an error the process is to end: what libraft
 *              holds is not given back.
 */
int replica_open(struct log *log, const struct replica_config *config,
                 const struct replica_hooks *hooks, const struct replica_peers *peers,
                 struct replica **out);

/* Time passes: every 10 to 50 ms; at least twice per heartbeat_ms. A tick that comes late counts as
 * heartbeat_ms and no more: a process that was not running has messages to read before it may call
 * a leader silent.
 *
 *   now_ms     never goes back
 */
void replica_tick(struct replica *replica, uint64_t now_ms);

/* The turn of the loop is over: what was received and proposed in it has been. Proposals leave, together: to the
 * disk, and to the others. The leader tells its followers what was agreed on since, so that they apply it now and
 * not with the next entries or heartbeat; a follower applies what it was told (raft_tell.h). Callbacks may come
 * from it, as from everything that enters libraft. To be called before the loop sleeps. */
void replica_flush(struct replica *replica);

/* The process of a member has ended (its links were closed from there): if it led, another leader is
 * sought at once. A wrong suspicion is taken back by the leader's next message.
 *
 *   patient    the others are better leaders, such as while much is to be applied here: they are agreed to at
 *              once, and this replica asks only if none of them has been elected after a whole time-out
 *   returns    whether this replica followed it
 */
bool replica_suspect(struct replica *replica, uint64_t id, bool patient);

/* A message of another replica arrived.
 *
 *   from       id of the sender, as the link authenticated it
 *   message    borrowed during the call; any alignment
 *   answers    0, also when the message is out of date; STATUS_MALFORMED, STATUS_TOO_LARGE: not a
 *              message of this protocol; STATUS_IDENTITY: it names another sender; STATUS_CLOSING.
 *              Nothing changed then.
 */
int replica_receive(struct replica *replica, uint64_t from, struct bytes message);

/* Propose a command. Leader only. It leaves with the next replica_flush, or when LIMIT_LOG_EARLY_BYTES have
 * been proposed since the last: a turn's commands are one append of the log, one message to each follower and
 * one answer of it, whatever their number.
 *
 *   command    borrowed during the call; 1 .. LIMIT_COMMAND_BYTES bytes
 *   callback   exactly once if 0 was answered, unless the process ends before. Status 0: agreed
 *              and applied here, at `index`. STATUS_UNKNOWN: leadership was lost, it may happen or
 *              not. STATUS_CLOSING likewise, at replica_close. May be NULL.
 *   answers    0; STATUS_NOT_LEADER: ask replica_leader (also while leadership is handed over);
 *              STATUS_FULL: LIMIT_PROPOSALS or LIMIT_PROPOSALS_BYTES are under way, the log is behind,
 *              or a checkpoint is and the log in memory must not grow; -ENOSPC: the disk is full; STATUS_TOO_LARGE; STATUS_CLOSING. Nothing
 *              changed then.
 */
int replica_propose(struct replica *replica, struct bytes command,
                    void (*callback)(void *context, int status, uint64_t index), void *context);

/* Ask for a point to read at: a state that has applied `index` shows everything that was
 * acknowledged before this call. Leader only, also while leadership is handed over. Costs one small
 * message to each voter and back for all readers that wait together, and nothing in the log; why that
 * is enough, and when it takes an entry of the log after all, is told in raft_reads.h.
 *
 *   callback   exactly once if 0 was answered. Status 0: `index` is applied here already.
 *              STATUS_NOT_LEADER: leadership was lost; STATUS_CLOSING
 *   answers    0; STATUS_NOT_LEADER; STATUS_FULL: LIMIT_READERS wait; STATUS_CLOSING
 */
int replica_read(struct replica *replica,
                 void (*callback)(void *context, int status, uint64_t index), void *context);

/* Hand leadership to another voter. Proposals answer STATUS_NOT_LEADER until it has happened or
 * election_ms have passed; hooks.leadership tells.
 *
 *   to         id of a voter; 0: whoever is furthest
 *   answers    0: begun; STATUS_NOT_LEADER; -ENOENT: no such voter; STATUS_FULL: one is under way
 */
int replica_transfer(struct replica *replica, uint64_t to);

/* Change the group, one step at a time: add (as a spare), then assign STANDBY, then VOTER. Leader
 * only.
 *
 *   callback   exactly once if 0 was answered. Status 0: agreed. STATUS_UNKNOWN: leadership was
 *              lost. STATUS_TIMEOUT: the member did not catch up. May be NULL.
 *   answers    0; STATUS_NOT_LEADER; STATUS_FULL: a change is under way, or this leadership has only
 *              just begun; -ENOENT, -EEXIST; -EINVAL: the member has that role
 */
int replica_add(struct replica *replica, uint64_t id, const char *address,
                void (*callback)(void *context, int status), void *context);
int replica_assign(struct replica *replica, uint64_t id, enum replica_member_role role,
                   void (*callback)(void *context, int status), void *context);
int replica_remove(struct replica *replica, uint64_t id,
                   void (*callback)(void *context, int status), void *context);

/* What hooks.checkpoint_fetch was asked for is here (status 0), or could not be had: then the
 * leader will offer a snapshot again. */
void replica_fetched(struct replica *replica, int status);

/* Accept nothing any more, end what waits with STATUS_CLOSING, and let writes under way finish.
 * The log is still open afterwards. Memory of libraft is not given back (its raft_close may free
 * twice): the process is to end.
 *
 *   callback   once, possibly from inside this call; the log may be closed from there
 */
void replica_close(struct replica *replica, void (*callback)(void *context), void *context);

/* -- what it knows ---------------------------------------------------------------------------- */

enum replica_role replica_role(const struct replica *replica);
uint64_t replica_term(const struct replica *replica);
/* The leader as far as this replica knows; 0: unknown.
 *
 *   out_address lent until the next call of a replica_* function; NULL when unknown; may be NULL
 */
uint64_t replica_leader(struct replica *replica, const char **out_address);
uint64_t replica_commit_index(const struct replica *replica);
uint64_t replica_applied_index(const struct replica *replica);
uint64_t replica_last_index(const struct replica *replica);
/* The members as this replica knows them, committed or not.
 *
 *   out        room for LIMIT_REPLICAS; addresses are lent until the next replica_* call
 *   answers    how many
 */
uint32_t replica_members(struct replica *replica, struct replica_member *out);
/* A number that changes whenever they do: the index of the entry that holds them, 0 when there are none. */
uint64_t replica_members_index(const struct replica *replica);
/* The newest members that this replica knows to be agreed on: what was in force at that index, whatever
 * comes after it.
 *
 *   out        as in replica_members
 *   out_index  of the entry that holds them; 0 when there are none
 *   answers    how many
 */
uint32_t replica_members_agreed(struct replica *replica, struct replica_member *out,
                                uint64_t *out_index);

/* Up to which index the log's file `snapshot` stands for the log: a log that begins behind it is whole.
 *
 *   file       its content, borrowed during the call
 *   answers    0; STATUS_CORRUPT: not such a file; STATUS_FOREIGN: of a newer format
 */
int replica_snapshot_index(struct bytes file, uint64_t *out_index);
/* The term in the log's meta bytes; 0: there is none. */
uint64_t replica_meta_term(struct bytes meta);

/* The members in the configuration that a log ends with, agreed on or not, for tools.
 *
 *   log        open, and no replica is over it
 *   out        addresses are lent by `out`
 *   answers    0, out->count 0: there is none; STATUS_CORRUPT, STATUS_FOREIGN; the failure of the disk
 */
struct replica_stored {
    struct replica_member members[LIMIT_REPLICAS];
    char addresses[LIMIT_REPLICAS][LIMIT_NAME_BYTES + 1];
    uint32_t count;
};
int replica_members_stored(struct log *log, struct replica_stored *out);

/* What a log begins with that is to go on behind a state: of a backup, or of a replica that goes on alone. */
struct replica_beginning {
    uint64_t id;         /* the only member */
    const char *address; /* 1 .. LIMIT_NAME_BYTES bytes */
    uint64_t index;      /* the state's; the first entry gets the next one */
    uint64_t term;       /* not below any of the replicas that may still be met */
    uint64_t epoch;      /* of the state */
};
/* Make a new log such a beginning: its snapshot, term and vote, durable when this returns. The caller resets the
 * log to index + 1 afterwards; a crash before that is made good when a replica opens it.
 *
 *   log       open, nothing was ever appended
 *   answers   0; the failure of the disk
 */
int replica_begin(struct log *log, const struct replica_beginning *beginning);

/* How often the guard had to act, and what was dropped: for metrics and for the simulation. */
struct replica_counters {
    uint64_t acks_capped;       /* a */
    uint64_t commits_capped;    /* a */
    uint64_t results_held;      /* b */
    uint64_t barriers;          /* b: own-term entries at the begin of a leadership */
    uint64_t appends_held;      /* c */
    uint64_t prevotes_answered; /* e: with the real term */
    uint64_t configs_restored;  /* f */
    uint64_t prefixes_skipped;  /* g */
    uint64_t hints;             /* g */
    uint64_t replies_dropped;   /* h */
    uint64_t terms_taken;       /* i */
    uint64_t messages_split;    /* j: messages more than libraft asked for */
    uint64_t votes_refused;     /* o */
    uint64_t received;
    uint64_t refused; /* malformed, or of a foreign sender */
    uint64_t dropped; /* appends that came while the log had no room, or the owner was behind */
    uint64_t snapshots_taken;
    uint64_t snapshots_installed;
    uint64_t read_rounds;   /* pings of a quorum, each for all readers that waited */
    uint64_t read_barriers; /* entries of the log for readers, instead */
    uint64_t lag_messages;  /* u: with entries that memory did not hold any more */
    uint64_t lag_refused;   /* u: such messages that the link did not take, to be read again */
    uint64_t lag_copies;    /* u: the log did not reach back, a state was to be copied */
    uint64_t lag_lifts;     /* u: the log was held for a follower, and could not be any longer */
};
void replica_counters(const struct replica *replica, struct replica_counters *out);

#endif
