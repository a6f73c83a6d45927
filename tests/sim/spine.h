/* The whole spine in one deterministic world: three cloud_cores, two edge_cores with the real pod
 * reconciler, real log, real raft, real feed, over a simulated clock, network, disk, store,
 * container runtime, brokers and mappers. One seed is one story; half of them have devices.
 *
 *      spine.c         arguments, campaigns, canaries
 *      spine_world.c   time, network, turns; what every process has
 *      spine_cloud.c   one cloudcore: its ops, start, death, its watch of all changes
 *      spine_edge.c    one edgecore: its ops, runtime, volumes, start, death
 *      spine_fault.c   what goes wrong, when
 *      spine_client.c  users on random replicas, and what they were answered
 *      spine_check.c   oracles
 *      spine_broker.c  MQTT brokers of an edge, and the mappers at them
 *      spine_wish.c    users who wish something of devices
 *      spine_twin.c    oracles of devices
 *
 * A broken oracle ends the process (one per seed) with spine_fail.
 */
#ifndef KELP_TESTS_SIM_SPINE_H
#define KELP_TESTS_SIM_SPINE_H

#include "log/log.h"
#include "nodes/cloud/core.h"
#include "nodes/cloud/devices.h"
#include "nodes/edge/core.h"
#include "schemas/check.h"
#include "statemachine/store.h"
#include "tests/sim/disk_sim.h"
#include "tests/sim/runtime_sim.h"
#include "tests/sim/sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLOUDS  3u
#define EDGES   2u
#define CLIENTS 3u
#define SECOND  UINT64_C(1000000)
#define MS      UINT64_C(1000)
#define WALL_MS INT64_C(1700000000000)

#define SPINE_HEARTBEAT_MS   1000u
#define SPINE_UNREACHABLE_MS 8000u
#define SPINE_SETTLE_US      (60 * SECOND) /* after the last fault everything agrees */

#define SPINE_SEGMENT_BYTES  (256u * 1024u) /* small: several in a seed, and soon read */

#define SPINE_WRITES   4096u
#define SPINE_VERSIONS 32768u
#define SPINE_INDEXES  65536u
#define SPINE_UIDS     2048u

#define DEVICES         4u
#define SPINE_EVENTS    8192u
#define SPINE_QUESTIONS 4096u
#define SPINE_WISHES    4096u
#define SPINE_PROMISES  16384u

/* One rule broken in the test's own seams: some seed must fail. */
enum canary {
    CANARY_NONE,
    CANARY_SYNC_CLOUD, /* disks of cloudcores answer a sync before it is one */
    CANARY_SYNC_EDGE,  /* disks of edges do */
    CANARY_ROW,        /* the store of an edge has lost a row of a flushed batch */
    CANARY_BOOT,       /* the boot count of a cloudcore does not rise */
    CANARY_RUNTIME,    /* a listing of the runtime forgets a container that runs */
    CANARY_REMOVE,     /* somebody removes pods without having asked for it as a client */
    CANARY_LISTING,    /* a replica tells its watchers one change less */
    CANARY_STREAM,  /* the link loses a frame in the middle of a connection that goes on, unseen */
    CANARY_CONFIRM, /* a range of an older position is said to be the same, whatever is in it */
    CANARY_PUBLISH, /* a broker answers a mapper's question as soon as the edge has read it */
    CANARY_OLDER, /* a client's wish of a device has a revision that is older than the one before */
    CANARY_AGAIN, /* an event that went up goes up once more when the link is there again */
    CANARY_REPORT, /* an edge that died has lost the reports of devices that had to go up */
    CANARIES,
};

/* What may go wrong in a seed. */
enum profile {
    PROFILE_ALL,     /* everything */
    PROFILE_LEADER,  /* the leader dies, one at a time: no node may be called unreachable */
    PROFILE_EDGE,    /* edges, links and runtimes */
    PROFILE_NETWORK, /* partitions, loss, slow disks */
    PROFILE_DEATH,   /* everybody dies, often at once */
    PROFILE_AWAY, /* a replica is away until the others have trimmed their log; then leaders die */
    PROFILES,
};

struct world;

/* What a cloudcore and an edgecore have in common. */
struct process {
    struct world *world;
    bool is_edge;
    uint32_t number;
    char name[16];
    uint64_t life;   /* 0: dead */
    uint64_t due_us; /* of its next turn */
    bool poked;      /* had an input */
    bool starting;   /* will be started by itself */
    uint32_t deaths;
    struct disk_sim disk;
    struct log log;
    struct store_sim *store_disk;
    struct store *store;
};

/* The newest question about a range that the asker has. */
struct canary_ask {
    uint64_t request; /* 0: none */
    struct tag digest;
    uint16_t from_size, to_size;
    uint8_t from[LIMIT_STORE_KEY_BYTES];
    uint8_t to[LIMIT_STORE_KEY_BYTES];
};

struct cloud {
    struct process process; /* first */
    struct cloud_core *core;
    uint32_t boots;
    uint64_t watched;  /* all changes up to this version were told to our watcher, or listed */
    bool may_list;     /* since it was told last, this replica began anew, or was given a state */
    uint64_t digested; /* log index of the last digest of rows */
    struct store_sim *beside;        /* the second place of the state */
    struct store *staging;           /* open there, or the store that was; NULL: nothing is */
    struct canary_ask asked[CLOUDS]; /* by whom: the canary's */
    struct cloud_core_peer peers[CLOUDS];
    struct devices *devices; /* NULL: a seed without */
    uint32_t level;          /* feature level that it understands; 0: all */
    uint64_t inboxed;        /* log index up to which the inboxes of edges were looked at here */
};

struct connection;
struct message;

/* A broker of an edge's machine. Two connections of the edge, one to listen, whose session survives, and one to
 * publish; its queues stay while it is away. */
struct broker {
    struct edge *edge;
    uint32_t number;
    uint64_t listens, publishes; /* owner of the events of each connection, 0: it is not up */
    bool told;                   /* the bus knows that it is up */
    bool away;
    bool delivering, taking;
    struct message *in_head, *in_tail;   /* for the edge: those sent first wait for their PUBACK */
    struct message *out_head, *out_tail; /* of the edge */
};

/* An event that an edge made durable. */
struct edge_said {
    uint64_t hash;   /* of its record: a broker that tells something twice makes two of one number */
    uint32_t number; /* what it says */
    uint32_t device; /* 1 + whose value it is, 0: a message */
};

/* A device as the promises of an edge tell its story. */
struct device_seen {
    bool there;
    uint32_t born; /* how often it came */
    uint64_t revision; /* newest wish of "w" */
    bool has_expected;
    char expected[16];
    bool has_actual;
    char actual[16];
};

struct edge {
    struct process process; /* first */
    struct edge_core *core;
    struct connection *connection; /* up, NULL: none */
    uint64_t dials;                /* under way: its number, 0: none */
    bool dial_given_up;
    struct runtime_sim runtime;
    struct runtime_sim_door door;
    bool sandboxes_died; /* some attempt may never have started */
    struct codec *codec;

    struct broker brokers[BUS_BROKERS];
    uint32_t broker_count; /* 0: a seed without devices */
    enum device_topics topics;
    uint32_t window_ms;
    uint32_t held[DEVICES]; /* what its devices were told to be, 0: nothing yet */
    struct device_seen devices[DEVICES];
    uint64_t *promises; /* hash of each, at its position */
    uint64_t promised;  /* newest position that was looked at */
    uint64_t up_seen;   /* newest sequence that was */
    struct edge_said *events;
    uint32_t event_count;
    struct {
        uint32_t number; /* newest value of "t" that it has read since it started, 0: none, */
        uint32_t born;   /* of the device that came so often */
    } read[DEVICES];
    uint32_t asked[256];           /* questions that it has read since, */
    uint32_t asked_count;          /* so many; the first ones of more */
    bool left;                     /* it ended in order, with all that it had read in its log */
    struct connection *again_link; /* the canary's: nothing went up on another one since */
    uint8_t *again;                /* newest event that went up */
    size_t again_size;
};

/* The inbox of an edge in the cloud. */
struct arrived {
    uint64_t stream; /* of the Node that it belongs to */
    uint64_t number; /* newest that was looked at */
    uint32_t next;   /* event that must come next */
    bool anew;       /* another Node: what came to the one before may come again */
};

/* What is known of a device. */
struct device_known {
    uint32_t wishes;   /* versions of its wish */
    uint32_t rewrites; /* of them: without a client */
    uint32_t reports;  /* versions of its fact */
    uint32_t said;     /* messages about it that edges read */
    bool moved;        /* it was taken away from a node once */
    uint64_t
        silent_us; /* its mapper says nothing by itself any more: no later report hides one that was lost */
};

/* One wish of the value of "w". */
struct wished {
    uint32_t device;
    uint64_t revision;
    bool has_desired;
    char desired[16];
};

enum fate {
    FATE_PENDING,
    FATE_ACCEPTED,
    FATE_REFUSED,  /* by the state: never happened */
    FATE_NEVER,    /* the answer promises that it did not happen */
    FATE_UNKNOWN,
};

/* One write of a client. */
struct write {
    char key[48];
    char uid[24];   /* of the object; removals of pods: if_uid */
    uint32_t value; /* unique, label "v" of what was put; its place in world.writes */
    bool remove;
    bool ends; /* a put that asks for the end of a pod: it may take it away at once */
    enum fate fate;
    uint64_t version;
    uint64_t floor; /* newest version acknowledged to anybody before it began */
    uint64_t seen;  /* version at which the history shows it */
};

struct client {
    struct world *world;
    uint32_t number;
    struct codec *codec;
    uint32_t asks;  /* rises with each question; stale answers are ignored */
    struct cloud *cloud; /* that was asked, NULL: none under way */
    uint64_t cloud_life;
    uint32_t value; /* of the write under way, 0: a read */
    uint64_t floor; /* of the read under way */
    uint32_t moved; /* 1 + device that it gave to another node just now, 0: none */
};

/* One version of the cluster, as the first replica told it. */
struct version {
    uint64_t hash; /* 0: not told yet */
    bool event;    /* of an edge: one that was let go since is not told */
    bool left_out; /* some watcher was not told */
    bool removal;  /* an object went */
};

/* What is known of a pod uid. */
struct uid {
    char uid[24];
    uint32_t node; /* 1 + edge it ran on, 0: none yet */
    bool removal_asked;
};

struct world {
    struct sim sim;
    uint64_t seed;
    enum profile profile;
    enum canary canary;
    bool verbose;
    struct cloud clouds[CLOUDS];
    struct edge edges[EDGES];
    struct client clients[CLIENTS];

    /* network */
    bool peer_cut[CLOUDS][CLOUDS];  /* from, to */
    uint64_t peer_last_us[CLOUDS][CLOUDS];
    uint32_t peer_loss;             /* per million */
    bool up_cut[EDGES][CLOUDS];     /* edge -> cloud */
    bool down_cut[EDGES][CLOUDS];
    bool tears[EDGES];              /* what a cut holds up is lost, not late */
    struct connection *connections; /* newest first */
    uint64_t sessions;

    /* story */
    bool trouble;  /* faults may happen */
    bool clients_run;
    bool idle;     /* a phase in which nobody asks for anything */
    bool node_gone[EDGES]; /* there may be no Node object: not yet, or a client asked for that */
    bool devices;          /* the seed has some */
    uint32_t faults;

    /* what oracles remember */
    uint32_t uid_last;
    struct write writes[SPINE_WRITES];
    uint32_t write_count; /* place 0 is not used */
    uint64_t acknowledged; /* newest version acknowledged */
    struct version versions[SPINE_VERSIONS];
    uint64_t version_last;
    uint64_t index_digest[SPINE_INDEXES]; /* of all rows at this log index; 0: nobody looked */
    struct uid uids[SPINE_UIDS];
    uint32_t uid_count;
    struct codec *codec; /* of the oracles */
    uint32_t number_last; /* that a mapper or a wish said: each once, rising */
    uint32_t question_last;
    struct question {
        uint32_t edge;  /* 1 + who has promised to answer it, and that is durable; 0: nobody */
        uint32_t heard; /* mask of its brokers that passed the answer on */
    } questions[SPINE_QUESTIONS];
    struct device_known known[DEVICES];
    uint32_t model_wishes; /* versions of the model */
    struct wished wished[SPINE_WISHES];
    uint32_t wished_count;
    struct arrived arrived[EDGES];

    /* numbers for the summary */
    uint64_t accepted, unknown, refused, reads, elections, fetches, resumes, exchanges;
    uint64_t messages, promises, events;
};

/* spine.c: the seed has failed. */
__attribute__((format(printf, 3, 4), noreturn)) void spine_fail(struct world *world,
                                                                const char *oracle,
                                                                const char *format, ...);
/* A line of the story. */
__attribute__((format(printf, 3, 4))) void spine_story(struct world *world, const char *who,
                                                       const char *format, ...);

/* spine_world.c */
void world_init(struct world *world, uint64_t seed, enum canary canary, enum profile profile);
void world_run_until(struct world *world, uint64_t until_us);
void world_heal(struct world *world);
struct cloud_core_time world_cloud_now(const struct world *world);
struct pods_time world_edge_now(const struct world *world);
void world_random(struct world *world, void *buffer, size_t size);
void process_init(struct process *process, struct world *world, bool is_edge, uint32_t number);
/* Start its next turn at this time, or earlier. */
void process_wake(struct process *process, uint64_t at_us);
void process_turn(struct process *process);
struct disk *process_disk(struct process *process, bool lies);
/* Dead for `us`, or for good with 0 (until process_start). */
void process_kill(struct process *process, enum disk_sim_crash how, uint64_t us);
void process_start(struct process *process);
/* Stop as asked to, end when idle, start again after `us`. */
void process_leave(struct process *process, uint64_t us);
void world_cut_edge(struct world *world, uint32_t edge, uint32_t cloud, bool up, bool down);
void world_mend_edge(struct world *world, uint32_t edge);
/* Cloudcores of an older release are exchanged, one after the other. */
void world_upgrade(struct world *world);
void world_send_peer(struct world *world, uint32_t from, uint32_t to, struct bytes frame);
void world_dial(struct edge *edge, uint32_t address);
/* A process has died: its connections break, seen by the others unless it was the power. */
void world_break_connections(struct process *process, bool silent);
int connection_send(struct connection *connection, bool up, struct bytes frame);
bool connection_room(const struct connection *connection, bool up);
/* The cloudcore at its other end is not there any more, and nobody said so. */
bool connection_silent(const struct connection *connection);
/* One end closes it. */
void connection_close(struct connection *connection, bool by_edge);
struct connection *connection_find(struct world *world, uint64_t session);

/* spine_cloud.c */
void cloud_start(struct cloud *cloud);
void cloud_die(struct cloud *cloud, enum disk_sim_crash how);
uint64_t cloud_turn(struct cloud *cloud);
struct cloud *world_leader(struct world *world);
struct tag spine_tag(struct bytes key, const struct object *object);
int spine_build_put(struct codec *codec, uint8_t mode, uint64_t if_version,
                    const struct object *object, struct bytes *out);

/* spine_edge.c */
void edge_start(struct edge *edge);
void edge_die(struct edge *edge, enum disk_sim_crash how);
uint64_t edge_turn(struct edge *edge);

/* spine_fault.c */
void faults_begin(struct world *world);

/* spine_client.c */
void clients_begin(struct world *world);
void clients_cloud_died(struct world *world, const struct cloud *cloud);
/* "v" of an object, 0: none. */
uint32_t object_value(const struct object *object);
/* The next write of a client, about this key; its number is the value. */
struct write *client_write(struct client *client, const char *key);
void client_propose(struct client *client, struct cloud *cloud, int built, struct bytes record);
void client_remove(struct client *client, struct cloud *cloud, const char *key, const char *uid);

/* spine_wish.c */
/* A client wishes something of devices, or no more of it. */
void client_device(struct client *client, struct cloud *cloud);

/* spine_broker.c */
void brokers_init(struct edge *edge);
/* The edgecore lives: it connects. It has died: what it was told and had not acknowledged is told again. */
void brokers_edge_started(struct edge *edge);
void brokers_edge_died(struct edge *edge);
/* The connection is lost, for `us` at least; its queues too, if it forgets. */
void broker_fault(struct broker *broker, uint64_t us, bool forgets);
void brokers_heal(struct edge *edge);
int broker_publish(struct edge *edge, uint32_t broker, uint64_t id, const char *topic,
                   struct bytes payload);
void mappers_begin(struct world *world);
/* Who has not said that a device is as it was told to be, as that was lost with an edgecore, says it again. Nobody
 * else does: what is lost on the way to the cloud is to be seen. */
void mappers_tell(struct world *world);

/* spine_twin.c */
#define DEVICE_KEY "devices.kubeedge.io/devices/default/dev-"
/* The number of the device of this key; DEVICES: it is of none. */
uint32_t device_number(struct bytes key);
/* After each turn of an edge, and its start: what it promised and what is to go up. */
void check_edge_said(struct edge *edge);
/* It has started: what it had promised it promises still, and to the letter. */
void check_edge_began(struct edge *edge);
/* It read what a client said. */
void check_read(struct edge *edge, const char *topic, const char *payload);
/* It publishes: only what is durable. */
void check_publish(struct edge *edge);
/* A mapper at that broker hears an answer to a question. */
void check_heard(struct edge *edge, uint32_t broker, uint32_t question);
/* Whether the edge expects of a device what nobody said it is. */
bool check_device_waits(struct edge *edge, uint32_t device);
/* After each turn of a cloudcore: events of edges arrive. */
void check_inbox(struct cloud *cloud);
void check_device_change(struct world *world, const struct backend_change *change);
/* As check_converged, of devices. */
const char *devices_differ(struct world *world);
void check_devices(struct world *world);

/* spine_check.c */
struct uid *check_uid(struct world *world, const char *uid);
/* A watcher is told `version` next, after `before`. */
void check_told(struct cloud *cloud, uint64_t before, uint64_t version);
void check_change(struct cloud *cloud, const struct backend_change *change);
void check_digest(struct cloud *cloud);
/* A sentence, lent until the next. */
__attribute__((format(printf, 1, 2))) const char *explain(const char *format, ...);
/* NULL: everything agrees; otherwise what does not. Lent until the next call. */
const char *check_converged(struct world *world);
void check_end(struct world *world);

#endif
