/* The words in C: build, verify and read every record and message of Kelp.
 *
 * FlatBuffers is C++ and nothing of it is seen outside codec.cc. Each table of record.fbs and
 * wire.fbs has one struct here, used in both directions, one `codec_<noun>_build` and one
 * `codec_<noun>_read`.
 *
 * Memory. A `struct codec` is a workspace: everything that build and read hand out is *lent* until
 * the next codec_reset or codec_destroy of that workspace, and stays valid together with all that
 * was handed out since the last reset, so a body, the record around it and the command around that
 * can be built one after the other. What read hands out may also point into the bytes it was given:
 * they must live as long as the result is used.
 *
 * Text is UTF-8, terminated, never NULL in what read hands out ("" when absent); build takes NULL
 * as "". Lists are an array and a count; build takes NULL with 0.
 *
 * Every read verifies all bytes first (offsets, alignment, depth, termination, no NUL inside text,
 * enum ranges where a switch will be made on them, no bytes that two parts share) and answers
 * STATUS_MALFORMED, or STATUS_TOO_LARGE for more than LIMIT_FRAME_BYTES; *out is then untouched. The bytes given to read
 * must be 8-byte aligned (CHECKed): frames of the log and bodies inside records are. For bytes at
 * an odd place there is codec_aligned.
 *
 * build answers STATUS_OK, or STATUS_TOO_LARGE beyond LIMIT_FRAME_BYTES. Building is
 * deterministic: the same struct gives the same bytes on every machine.
 *
 * Keys. The key of an object row is "group/resource/namespace/name" with an empty group for the
 * core group and an empty namespace for cluster scope: "/pods/default/web", "/nodes//edge-1",
 * "devices.kubeedge.io/devices/default/thermo". It is the key of OBJECT_PUT, OBJECT_REMOVE and
 * VERDICT records, and of facts about an object (POD_STATUS, POD_ENDED, NODE_STATUS, DEVICE_STATUS,
 * DEVICE_VALUE); TWIN_UPDATE and DEVICE_STATE carry that of their Device.
 */
#ifndef KELP_SCHEMAS_CODEC_H
#define KELP_SCHEMAS_CODEC_H

#include "schemas/bytes.h"
#include "schemas/codec_device.h"
#include "schemas/limits.h"
#include "schemas/status.h"

#ifdef __cplusplus
extern "C" {
#endif

struct codec;

/* A workspace. Given: hand it to codec_destroy. Never fails (out of memory ends the process). */
struct codec *codec_create(void);
void codec_destroy(struct codec *codec);
/* Make everything this workspace lent void, and its memory free for the next round. */
void codec_reset(struct codec *codec);
/* The same bytes at an 8-byte aligned place: `bytes` itself when it is one, a lent copy otherwise. */
struct bytes codec_aligned(struct codec *codec, struct bytes bytes);
/* A lent copy of a text or of bytes (8-byte aligned), for callers that build structs to encode. */
struct bytes codec_copy(struct codec *codec, struct bytes bytes);
const char *codec_print(struct codec *codec, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Lent zeroed memory, 8-byte aligned; for arrays of the structs below. */
void *codec_array(struct codec *codec, size_t count, size_t item_bytes);

/* -- records --------------------------------------------------------------------------------- */

/* Numbers are for ever. Events are all kept (up to retention); of the others only the newest
 * unread one per key is delivered. */
enum record_kind {
    RECORD_NONE = 0,
    /* wishes, decided in the cloud, delivered down */
    RECORD_OBJECT_PUT = 1,    /* body struct object_put */
    RECORD_OBJECT_REMOVE = 2, /* body struct object_remove */
    /* facts, decided at one edge, delivered up */
    RECORD_POD_STATUS = 10,    /* body struct pod_status */
    RECORD_POD_ENDED = 11,     /* body struct pod_ended; event: no end is compacted away */
    RECORD_NODE_STATUS = 12,   /* body struct node_status */
    RECORD_EDGE_EVENT = 13,    /* body struct edge_event; event */
    RECORD_DEVICE_STATUS = 14, /* body struct device_status */
    RECORD_DEVICE_VALUE = 15,  /* body struct device_value; event */
    RECORD_MQTT_MESSAGE = 16,  /* body struct mqtt_message; event; the key is the topic */
    /* facts that stay at the edge */
    RECORD_POD_ATTEMPT = 20,  /* body struct pod_attempt */
    RECORD_TWIN_UPDATE = 21,  /* body struct twin_update; event */
    RECORD_DEVICE_STATE = 22, /* body struct device_state; event */
    RECORD_OUTBOX_DONE = 23,  /* body struct outbox_done */
    /* verdicts, concluded in the cloud, stay there */
    RECORD_VERDICT = 30, /* body struct verdict */
    /* sessions, cloud log */
    RECORD_SESSION_OPEN = 40, /* body struct session_open */
    RECORD_DOWN_ACK = 41,     /* body struct down_ack */
    RECORD_UP_BATCH = 42,     /* body struct batch */
    /* streams, edge log */
    RECORD_DOWN_BATCH = 50,  /* body struct batch: as it came */
    RECORD_UP_ACK = 51,      /* body struct down_ack with epoch 0: the cloud applied up to there */
    RECORD_SNAPSHOT = 52,    /* body struct snapshot */
    RECORD_STREAM_INIT = 53, /* body struct stream_init */
    /* of the log itself */
    RECORD_CLUSTER_INIT = 60, /* body struct cluster_init */
    RECORD_SETTING = 61,      /* body struct setting */
    RECORD_GAP = 62,          /* body struct gap */
    RECORD_MEMBER_KEY = 63,   /* body struct member_key; the key is the number of the replica */
};

/* "object_put" for RECORD_OBJECT_PUT; "kind_77" is printed into `buffer` for one we do not know.
 * Lent for ever, or as long as buffer lives. */
const char *record_kind_text(uint16_t kind, char buffer[16]);
/* The number of such a text, 0 when there is none. */
uint16_t record_kind_parse(const char *text);
/* All records of this kind are kept for the reader; of the others the newest per key. */
bool record_kind_is_event(uint16_t kind);

struct record {
    uint16_t kind; /* enum record_kind, or a number of a newer release */
    const char *key;
    const char *origin;
    uint64_t sequence;
    int64_t time_ms;
    uint64_t trace;
    struct bytes body; /* 8-byte aligned in what read hands out */
    /* Who asked for it, as the certificate of the request says; NULL and "": nobody, it is of our own
     * making. For display only. It goes where the record goes: to the state, to backups, and with an object to the
     * edge that holds it. */
    const char *user;
};
int codec_record_build(struct codec *codec, const struct record *record, struct bytes *out);
int codec_record_read(struct codec *codec, struct bytes bytes, struct record *out);

struct command {
    int64_t time_ms;
    uint64_t origin; /* replica id << 32 | boot count */
    uint64_t sequence;
    const struct bytes *records; /* Record bytes, 8-byte aligned */
    uint32_t record_count;       /* at most LIMIT_BATCH_RECORDS */
};
int codec_command_build(struct codec *codec, const struct command *command, struct bytes *out);
int codec_command_read(struct codec *codec, struct bytes bytes, struct command *out);

/* -- parts shared by bodies ------------------------------------------------------------------- */

struct tag {
    uint64_t low;
    uint64_t high;
};
/* Sum and difference modulo 2^128: a digest of rows in any order. */
static inline struct tag tag_add(struct tag a, struct tag b)
{
    struct tag sum;
    sum.low = a.low + b.low;
    sum.high = a.high + b.high + (sum.low < a.low);
    return sum;
}
static inline struct tag tag_subtract(struct tag a, struct tag b)
{
    struct tag difference;
    difference.low = a.low - b.low;
    difference.high = a.high - b.high - (a.low < b.low);
    return difference;
}
static inline bool tag_equal(struct tag a, struct tag b)
{
    return a.low == b.low && a.high == b.high;
}

struct pair {
    const char *key;
    const char *value;
};

struct reference {
    const char *resource; /* "configmaps" | "secrets" */
    const char *name;
    bool optional;
};

enum condition_status { CONDITION_UNKNOWN = 0, CONDITION_TRUE = 1, CONDITION_FALSE = 2 };
struct condition {
    const char *type;
    uint8_t status; /* enum condition_status, checked by read */
    const char *reason;
    const char *message;
    int64_t transition_ms;
};

/* -- wishes ----------------------------------------------------------------------------------- */

struct object {
    const char *group;
    const char *version;
    const char *kind;
    const char *resource;
    const char *namespace_; /* C++ reads this header too */
    const char *name;
    const char *uid;
    const char *node_name;
    const struct pair *labels;
    uint32_t label_count;
    const char *const *owners;
    uint32_t owner_count;
    const char *const *finalizers;
    uint32_t finalizer_count;
    int64_t deletion_time_ms;
    int64_t deletion_grace_s;
    int64_t generation;
    int64_t request_cpu_milli;
    int64_t request_memory_bytes;
    const struct reference *references;
    uint32_t reference_count;
    uint32_t seal_key;
    struct tag tag;
    struct bytes json;
    const struct device_wish *device; /* NULL unless this is a Device */
};

/* PUT_CREATE: refused when a row is there. PUT_UPDATE: refused when none is. PUT_ANY: either. */
enum put_mode { PUT_ANY = 0, PUT_CREATE = 1, PUT_UPDATE = 2 };
struct object_put {
    uint8_t mode; /* enum put_mode, checked by read */
    uint64_t if_version;
    const char *if_uid;
    struct object object;
};
int codec_object_put_build(struct codec *codec, const struct object_put *put, struct bytes *out);
int codec_object_put_read(struct codec *codec, struct bytes bytes, struct object_put *out);

/* What a list of records shows of an object. */
struct object_glance {
    uint8_t mode;
    const char *kind;
    const char *resource;
    const char *node_name;
};
/* These fields alone, for whoever lists millions: a third of the time of reading it all. What is read
 * is verified, the rest of the bytes is not looked at. Bytes that codec_object_put_read accepts give
 * the same here; of bytes that it refuses some are answered all the same.
 *
 *   out       texts are lent as long as the bytes live
 *   answers   STATUS_OK; STATUS_MALFORMED, STATUS_TOO_LARGE: *out is untouched
 */
int codec_object_put_glance(struct bytes bytes, struct object_glance *out);

/* REMOVE_DELETED: the object is gone from the cluster. REMOVE_UNUSED: this node needs it no more
 * (only in what is delivered down). */
enum remove_reason { REMOVE_DELETED = 0, REMOVE_UNUSED = 1 };
struct object_remove {
    uint64_t if_version;
    const char *if_uid;
    uint8_t reason; /* enum remove_reason, checked by read */
};
int codec_object_remove_build(struct codec *codec, const struct object_remove *r,
                              struct bytes *out);
int codec_object_remove_read(struct codec *codec, struct bytes bytes, struct object_remove *out);

/* -- facts ------------------------------------------------------------------------------------ */

enum container_state { CONTAINER_WAITING = 0, CONTAINER_RUNNING = 1, CONTAINER_TERMINATED = 2 };
struct container_status {
    const char *name;
    const char *image;
    const char *image_id;
    const char *container_id;
    uint8_t state; /* enum container_state, checked by read */
    const char *reason;
    const char *message;
    bool ready;
    bool started;
    uint32_t restart_count;
    int32_t exit_code;
    int64_t started_ms;
    int64_t finished_ms;
    bool init;
    uint8_t last_state; /* enum container_state; WAITING: there was no attempt before */
    const char *last_reason;
    int32_t last_exit_code;
    int64_t last_started_ms;
    int64_t last_finished_ms;
    const char *last_container_id;
};

enum pod_phase {
    POD_PENDING = 0,
    POD_RUNNING = 1,
    POD_SUCCEEDED = 2,
    POD_FAILED = 3,
    POD_UNKNOWN = 4
};
struct pod_status {
    const char *uid;
    uint8_t phase; /* enum pod_phase, checked by read */
    const char *reason;
    const char *message;
    const char *pod_ip;
    const char *host_ip;
    int64_t started_ms;
    int64_t observed_generation;
    const struct condition *conditions;
    uint32_t condition_count;
    const struct container_status *containers;
    uint32_t container_count;
};
int codec_pod_status_build(struct codec *codec, const struct pod_status *status, struct bytes *out);
int codec_pod_status_read(struct codec *codec, struct bytes bytes, struct pod_status *out);

struct pod_ended {
    const char *uid;
};
int codec_pod_ended_build(struct codec *codec, const struct pod_ended *ended, struct bytes *out);
int codec_pod_ended_read(struct codec *codec, struct bytes bytes, struct pod_ended *out);

struct pod_attempt {
    const char *uid;
    const char *container; /* "" = the sandbox; init containers have names of their own */
    uint32_t attempt;      /* from 0 */
    uint64_t hash;
    int64_t time_ms;
};
int codec_pod_attempt_build(struct codec *codec, const struct pod_attempt *a, struct bytes *out);
int codec_pod_attempt_read(struct codec *codec, struct bytes bytes, struct pod_attempt *out);

struct node_status {
    const struct condition *conditions;
    uint32_t condition_count;
    const struct pair *addresses;
    uint32_t address_count;
    const struct pair *capacity;
    uint32_t capacity_count;
    const struct pair *allocatable;
    uint32_t allocatable_count;
    const struct pair *info;
    uint32_t info_count;
    const struct pair *labels;
    uint32_t label_count;
};
int codec_node_status_build(struct codec *codec, const struct node_status *s, struct bytes *out);
int codec_node_status_read(struct codec *codec, struct bytes bytes, struct node_status *out);

struct edge_event {
    const char *kind;
    const char *namespace_;
    const char *name;
    const char *uid;
    const char *container;
    const char *type;
    const char *reason;
    const char *message;
    uint32_t count;
    int64_t first_ms;
    int64_t last_ms;
};
int codec_edge_event_build(struct codec *codec, const struct edge_event *event, struct bytes *out);
int codec_edge_event_read(struct codec *codec, struct bytes bytes, struct edge_event *out);

/* -- verdicts --------------------------------------------------------------------------------- */

struct verdict {
    const char *uid;
    bool reachable; /* of a node */
    const struct condition *conditions;
    uint32_t condition_count;
};
int codec_verdict_build(struct codec *codec, const struct verdict *verdict, struct bytes *out);
int codec_verdict_read(struct codec *codec, struct bytes bytes, struct verdict *out);

/* -- sessions and streams --------------------------------------------------------------------- */

struct session_open {
    const char *node;
    const char *uid;
    uint64_t replica;
    uint64_t up_stream;
    uint64_t up_position;
};
int codec_session_open_build(struct codec *codec, const struct session_open *s, struct bytes *out);
int codec_session_open_read(struct codec *codec, struct bytes bytes, struct session_open *out);

struct down_ack {
    const char *node;
    uint64_t epoch;
    uint64_t stream;
    uint64_t position;
};
int codec_down_ack_build(struct codec *codec, const struct down_ack *ack, struct bytes *out);
int codec_down_ack_read(struct codec *codec, struct bytes bytes, struct down_ack *out);

struct sequenced {
    uint64_t sequence;
    struct bytes record; /* Record bytes, 8-byte aligned */
};
struct batch {
    const char *node;
    uint64_t epoch;
    uint64_t stream;
    uint64_t previous; /* covers (previous, last]; read checks previous <= last <= tip, and that */
    uint64_t last;     /* sequences rise strictly inside (previous, last] */
    uint64_t tip;
    const struct sequenced *records;
    uint32_t record_count; /* at most LIMIT_BATCH_RECORDS */
    struct tag digest;
};
int codec_batch_build(struct codec *codec, const struct batch *batch, struct bytes *out);
int codec_batch_read(struct codec *codec, struct bytes bytes, struct batch *out);

enum snapshot_step { SNAPSHOT_BEGIN = 0, SNAPSHOT_ROWS = 1, SNAPSHOT_END = 2 };
struct snapshot {
    uint64_t stream;
    uint64_t position;
    uint64_t id;
    uint8_t step; /* enum snapshot_step, checked by read */
    const struct sequenced *records;
    uint32_t record_count;
    struct tag digest;
    bool retell; /* SNAPSHOT_END: what the edge told before may be unknown to the cloud */
};
int codec_snapshot_build(struct codec *codec, const struct snapshot *s, struct bytes *out);
int codec_snapshot_read(struct codec *codec, struct bytes bytes, struct snapshot *out);

struct stream_init {
    const char *node;
    const char *cluster;
    uint64_t up_stream;
};
int codec_stream_init_build(struct codec *codec, const struct stream_init *s, struct bytes *out);
int codec_stream_init_read(struct codec *codec, struct bytes bytes, struct stream_init *out);

struct cluster_init {
    const char *cluster;
};
int codec_cluster_init_build(struct codec *codec, const struct cluster_init *c, struct bytes *out);
int codec_cluster_init_read(struct codec *codec, struct bytes bytes, struct cluster_init *out);

struct setting {
    const char *name;
    int64_t value;
};
int codec_setting_build(struct codec *codec, const struct setting *setting, struct bytes *out);
int codec_setting_read(struct codec *codec, struct bytes bytes, struct setting *out);

/* MEMBER: a key that a member has. OUT: of one that was removed, heard nowhere any more. IN: what was shut out with
 * the newest removal is a member's again. */
enum member_key_standing { MEMBER_KEY_MEMBER = 1, MEMBER_KEY_IN = 2, MEMBER_KEY_OUT = 3 };
struct member_key {
    uint64_t replica;
    uint8_t standing; /* enum member_key_standing, checked by read */
    const char *key;  /* MEMBER: sha256 of the public key, hexadecimal */
    uint64_t below;   /* OUT: only keys noted before this log index */
};
int codec_member_key_build(struct codec *codec, const struct member_key *key, struct bytes *out);
int codec_member_key_read(struct codec *codec, struct bytes bytes, struct member_key *out);

struct gap {
    uint64_t first;
    uint64_t last;
};
int codec_gap_build(struct codec *codec, const struct gap *gap, struct bytes *out);
int codec_gap_read(struct codec *codec, struct bytes bytes, struct gap *out);

/* -- the wire --------------------------------------------------------------------------------- */

enum wire_kind {
    WIRE_NONE = 0,
    /* cloud and edge */
    WIRE_HELLO = 1,
    WIRE_WELCOME = 2,
    WIRE_APPEND = 3, /* body struct batch */
    WIRE_ACK = 4,
    WIRE_SNAPSHOT = 5, /* body struct snapshot */
    WIRE_PING = 6,
    WIRE_PONG = 7, /* body struct ping, as it came */
    WIRE_BYE = 8,
    /* between cloudcores */
    WIRE_PEER_HELLO = 32,
    WIRE_RAFT = 33,            /* body struct raft_wire */
    WIRE_FORWARD = 34,         /* body struct forward */
    WIRE_FORWARD_REFUSED = 35, /* body struct forward, without the command */
    WIRE_READ_ASK = 36,        /* body struct read_index */
    WIRE_READ_ANSWER = 37,     /* body struct read_index */
    WIRE_SESSIONS = 38,        /* body struct sessions */
    WIRE_STATE_ASK = 39,       /* body struct state_ask */
    WIRE_STATE_RANGE = 40,     /* body struct state_range */
    WIRE_PEER_STATUS = 41,     /* body struct peer_status */
    WIRE_MEMBER_ASK = 42,      /* body struct member_ask */
    WIRE_MEMBER_ANSWER = 43,   /* body struct member_answer */
};

#define WIRE_VERSION 1u

/* Wrap a body that was built before. */
int codec_frame_build(struct codec *codec, uint16_t kind, struct bytes body, struct bytes *out);
/* Verify the envelope only; the body is verified by the read of its own kind. */
int codec_frame_read(struct codec *codec, struct bytes bytes, uint16_t *out_kind,
                     struct bytes *out_body);

struct hello {
    uint32_t version;
    const char *node;
    const char *cluster;
    uint64_t down_stream;
    uint64_t down_position;
    uint64_t up_stream;
    uint64_t up_first; /* first sequence still held, minus 1 */
    uint64_t up_last;
    struct tag digest;
    const struct pair *labels;
    uint32_t label_count;
    const char *software;
};
int codec_hello_build(struct codec *codec, const struct hello *hello, struct bytes *out);
int codec_hello_read(struct codec *codec, struct bytes bytes, struct hello *out);

#define CODEC_KEY_BYTES 32u /* sha256 of a public key */
enum welcome_mode { WELCOME_RESUME = 0, WELCOME_SNAPSHOT = 1 };
struct welcome {
    uint32_t version;
    const char *cluster;
    uint64_t epoch;
    uint8_t mode; /* enum welcome_mode, checked by read */
    uint64_t down_stream;
    uint64_t down_tip;
    uint64_t up_stream;
    uint64_t up_position;
    uint32_t heartbeat_ms;
    bool keys_told;
    struct bytes shut_out; /* keys_told: CODEC_KEY_BYTES each, at most LIMIT_MEMBER_KEYS of them, checked by read */
};
int codec_welcome_build(struct codec *codec, const struct welcome *welcome, struct bytes *out);
int codec_welcome_read(struct codec *codec, struct bytes bytes, struct welcome *out);

struct ack {
    uint64_t stream;
    uint64_t position;
    bool refused;
};
int codec_ack_build(struct codec *codec, const struct ack *ack, struct bytes *out);
int codec_ack_read(struct codec *codec, struct bytes bytes, struct ack *out);

struct ping {
    int64_t time_ms;
    uint64_t position;
    bool keys_told;        /* as in struct welcome */
    struct bytes shut_out;
};
int codec_ping_build(struct codec *codec, const struct ping *ping, struct bytes *out);
int codec_ping_read(struct codec *codec, struct bytes bytes, struct ping *out);

enum bye_code {
    BYE_SHUTDOWN = 1, /* come back, elsewhere or here */
    BYE_REPLACED = 2, /* a newer session of the same node */
    BYE_IDENTITY = 3, /* the certificate names another node */
    BYE_CLUSTER = 4,  /* the edge belongs to another cluster: keep pods, do not insist */
    BYE_VERSION = 5,  /* no common wire version */
    BYE_PROTOCOL = 6, /* malformed or out of order */
    BYE_REMOVED = 7,  /* the Node object was deleted */
    BYE_OVERLOAD = 8, /* too many sessions: retry_ms */
    BYE_BEHIND = 9,   /* this replica cannot serve yet (no leader, not caught up): retry_ms */
};
struct bye {
    uint16_t code; /* enum bye_code or newer */
    const char *reason;
    uint32_t retry_ms;
};
int codec_bye_build(struct codec *codec, const struct bye *bye, struct bytes *out);
int codec_bye_read(struct codec *codec, struct bytes bytes, struct bye *out);

struct peer_hello {
    uint32_t version;
    const char *cluster; /* "" before its first command */
    uint64_t replica;
    const char *address;
    const uint64_t *members; /* those of the configuration below; else what it founds the cluster with */
    uint32_t member_count;   /* at most LIMIT_REPLICAS */
    uint8_t space;           /* of its disk: 0 plenty, 1 low, 2 none */
    uint64_t incarnation;    /* of its data directory; 0: of an older release */
    uint64_t configuration;  /* index of the newest one of raft that it knows to be agreed; 0: none */
    const struct peer_known *known; /* whom it has met */
    uint32_t known_count;           /* at most LIMIT_MEMBERS */
    bool joins;                     /* it never founds */
    uint32_t level;          /* highest feature level that its release understands, see machine.h; 0: 1 */
    const char *software;    /* version of that release, for people */
    uint64_t epoch;                 /* of its state (machine_meta.epoch); 0: it has none yet */
    bool works; /* it is of a group of several that had a leader a moment ago */
};
struct peer_known {
    uint64_t replica;
    uint64_t incarnation;
    uint64_t epoch; /* of its membership: 0: it founded, else the index it was added at */
};
int codec_peer_hello_build(struct codec *codec, const struct peer_hello *h, struct bytes *out);
int codec_peer_hello_read(struct codec *codec, struct bytes bytes, struct peer_hello *out);

enum peer_standing {
    STANDING_MEMBER = 0,  /* takes part */
    STANDING_BEHIND = 1,  /* is being given the state of another replica */
    STANDING_WAITING = 2, /* takes no part yet: not all that must know it have met it */
    STANDING_LOST = 3,    /* others know its number with another data directory */
};
struct peer_status {
    uint64_t replica;
    const char *software; /* version of its release */
    uint64_t term;
    uint64_t leader; /* 0: it knows none */
    uint64_t last;   /* index of its log */
    uint64_t commit;
    uint64_t applied;
    uint32_t sessions;
    uint8_t space; /* as in the greeting */
    uint64_t disk_free_bytes;
    uint64_t log_bytes;
    int64_t started_ms; /* its wall clock */
    uint8_t standing;   /* enum peer_standing, checked by read */
    uint8_t percent;    /* STANDING_BEHIND: of the state, 0 .. 100 */
};
int codec_peer_status_build(struct codec *codec, const struct peer_status *status, struct bytes *out);
int codec_peer_status_read(struct codec *codec, struct bytes bytes, struct peer_status *out);

/* A change of the group that a replica asks the leader for. */
struct member_ask {
    uint64_t request;
    uint8_t operation; /* enum member_operation of nodes/cloud/members.h */
    uint64_t replica;
    const char *address; /* of one that is to be added, else "" */
    const char *key;     /* sha256, hexadecimal: MEMBER_ADD: it will have this one; MEMBER_REMOVE: this one is to be
                            shut out, too. "": none is named, as releases of before say */
};
int codec_member_ask_build(struct codec *codec, const struct member_ask *ask, struct bytes *out);
int codec_member_ask_read(struct codec *codec, struct bytes bytes, struct member_ask *out);

struct member_answer {
    uint64_t request;
    int32_t status;
    const char *message; /* a sentence for people */
};
int codec_member_answer_build(struct codec *codec, const struct member_answer *answer,
                              struct bytes *out);
int codec_member_answer_read(struct codec *codec, struct bytes bytes, struct member_answer *out);

struct raft_wire_entry {
    uint64_t term;
    uint16_t type;
    struct bytes data;
};
struct raft_wire_server {
    uint64_t id;
    const char *address;
    uint8_t role;
};
struct raft_wire {
    uint16_t type;
    uint64_t server_id;
    const char *server_address;
    uint64_t term;
    uint64_t candidate_id;
    uint64_t last_log_index;
    uint64_t last_log_term;
    bool disrupt_leader;
    bool pre_vote;
    bool vote_granted;
    uint64_t prev_log_index;
    uint64_t prev_log_term;
    uint64_t leader_commit;
    uint64_t rejected;
    uint32_t version;
    uint64_t features;
    uint64_t round;
    uint64_t conf_index;
    const struct raft_wire_server *conf;
    uint32_t conf_count; /* at most LIMIT_REPLICAS */
    const struct raft_wire_entry *entries;
    uint32_t entry_count; /* at most LIMIT_RAFT_ENTRIES */
    struct bytes data;
    uint64_t last_index;
    uint64_t last_term;
};
int codec_raft_wire_build(struct codec *codec, const struct raft_wire *m, struct bytes *out);
int codec_raft_wire_read(struct codec *codec, struct bytes bytes, struct raft_wire *out);

struct forward {
    uint64_t origin;
    uint64_t sequence;
    struct bytes command; /* Command bytes, 8-byte aligned */
    int32_t status;
    uint64_t leader;
};
int codec_forward_build(struct codec *codec, const struct forward *forward, struct bytes *out);
int codec_forward_read(struct codec *codec, struct bytes bytes, struct forward *out);

struct read_index {
    uint64_t request;
    uint64_t index;
    int32_t status;
};
int codec_read_index_build(struct codec *codec, const struct read_index *r, struct bytes *out);
int codec_read_index_read(struct codec *codec, struct bytes bytes, struct read_index *out);

struct sessions {
    uint64_t replica;
    bool full;
    const char *const *opened;
    const uint64_t *epochs; /* opened_count of them */
    uint32_t opened_count;
    const char *const *closed;
    uint32_t closed_count;
};
int codec_sessions_build(struct codec *codec, const struct sessions *s, struct bytes *out);
int codec_sessions_read(struct codec *codec, struct bytes bytes, struct sessions *out);

/* A copy of the state, range by range: nodes/cloud/transfer.h says what each field means. */
struct state_ask {
    uint64_t request;
    uint64_t needed;
    uint32_t format;
    struct bytes from;
    struct bytes to;
    bool has;
    struct tag digest;
    bool over;
};
int codec_state_ask_build(struct codec *codec, const struct state_ask *ask, struct bytes *out);
int codec_state_ask_read(struct codec *codec, struct bytes bytes, struct state_ask *out);

struct state_range {
    uint64_t request;
    int32_t status;
    uint64_t position;
    uint32_t format;
    struct bytes to;
    bool same;
    struct tag digest;
    struct bytes rows;
    uint64_t row_count;
};
int codec_state_range_build(struct codec *codec, const struct state_range *range,
                            struct bytes *out);
int codec_state_range_read(struct codec *codec, struct bytes bytes, struct state_range *out);

#ifdef __cplusplus
}
#endif

#endif
