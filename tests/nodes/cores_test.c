/* Both cores, real: three cloudcores (machine, raft, sessions, forwarding, liveness, scheduler) and one
 * edge (log, state, link, pods) over the simulated disk, store, clock and network. Only the container
 * runtime holds and takes nothing. A few named scenarios; chaos, faults of every kind and the runtime are
 * tests/sim/spine.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "log/log.h"
#include "nodes/cloud/core.h"
#include "nodes/edge/core.h"
#include "schemas/check.h"
#include "statemachine/delivery.h"
#include "statemachine/edge.h"
#include "statemachine/member_key.h"
#include "statemachine/object.h"
#include "statemachine/store.h"
#include "tests/sim/disk_sim.h"
#include "tests/sim/sim.h"

#define CLOUDS_MAX 5u
#define LATENCY_US 2000u
#define TICK_US    5000u
#define SEGMENT_BYTES (256u * 1024u)
#define WALL_MS    INT64_C(1700000000000)

struct world;

static uint32_t cloud_count = 3; /* of the next world */
static const char *const addresses[CLOUDS_MAX] = {"one:1", "two:1", "three:1", "four:1", "five:1"};

struct cloud {
    struct world *world;
    uint32_t number; /* replica - 1 */
    uint64_t life;   /* 0: dead */
    uint32_t boots;
    struct disk_sim disk;
    struct log log;
    struct store_sim *store_disk;
    struct store *store;
    struct cloud_core *core;
    uint32_t level; /* of the release that starts next; 0: the one of this build */
    bool refuses;   /* and it will refuse to */
    bool left;      /* it says that it is no member any more */
    char name[32];
    char key[65]; /* of its certificate: cloud_new_key */
    struct cloud_core_peer peers[CLOUDS_MAX];
};

struct edge {
    struct world *world;
    uint64_t life;
    struct disk_sim disk;
    struct log log;
    struct store_sim *store_disk;
    struct store *store;
    struct edge_core *core;
    uint64_t session; /* of the connection that is up, 0: none */
    uint32_t cloud;   /* and its other end */
};

struct world {
    struct sim sim;
    struct cloud clouds[CLOUDS_MAX];
    bool keyed; /* links between cloudcores are looked at, as peers.c does: world_review */
    bool refused[CLOUDS_MAX][CLOUDS_MAX]; /* frames from one to another: their link is not heard */
    struct edge edge;
    bool cut; /* the edge's link */
    bool torn; /* a frame was lost meanwhile: the connection cannot go on after it */
    uint64_t sessions;
    uint32_t uids;
    uint32_t wanted; /* number of the cloudcore that is to lead: world_is_led_as_wanted */
    bool verbose;
};

/* -- time and messages ------------------------------------------------------------------------- */

static struct cloud_core_time cloud_now(struct world *world)
{
    return (struct cloud_core_time){
        .mono_ms = world->sim.now_us / 1000 + 1,
        .wall_ms = WALL_MS + (int64_t)(world->sim.now_us / 1000),
    };
}

static struct pods_time edge_now(struct world *world)
{
    return (struct pods_time){
        .mono_ms = world->sim.now_us / 1000 + 1,
        .wall_ms = WALL_MS + (int64_t)(world->sim.now_us / 1000),
    };
}

enum message_kind { TO_PEER, TO_CLOUD, TO_EDGE, OPENED, DOWN_EDGE, DOWN_CLOUD };

struct message {
    struct world *world;
    enum message_kind kind;
    uint32_t from;
    uint32_t to;
    uint64_t life; /* of the receiver when it was sent */
    uint64_t session;
    size_t size;
    _Alignas(8) uint8_t data[];
};

static void world_on_message(void *context)
{
    struct message *m = context;
    struct world *world = m->world;
    struct cloud *cloud = &world->clouds[m->to];
    struct edge *edge = &world->edge;
    const struct bytes bytes = bytes_of(m->data, m->size);
    const bool to_cloud = m->kind == TO_PEER || m->kind == TO_CLOUD || m->kind == DOWN_CLOUD;
    const uint64_t life = to_cloud ? cloud->life : edge->life;
    if (life == m->life && life != 0) {
        switch (m->kind) {
        case TO_PEER:
            cloud_core_on_peer(cloud->core, m->from + 1, bytes, cloud_now(world));
            break;
        case TO_CLOUD:
            cloud_core_on_session(cloud->core, m->session, bytes, cloud_now(world));
            break;
        case DOWN_CLOUD:
            cloud_core_session_closed(cloud->core, m->session, cloud_now(world));
            break;
        case OPENED: {
            /* The handshake is over: both ends hear of it. */
            struct cloud *to = &world->clouds[m->from];
            if (to->life == 0 || world->cut ||
                cloud_core_session_open(to->core, m->session, "edge-1", cloud_now(world)) != 0) {
                edge_core_link_down(edge->core, -ECONNREFUSED, "nobody listens", edge_now(world));
                break;
            }
            edge->session = m->session;
            edge->cloud = m->from;
            edge_core_link_up(edge->core, edge_now(world));
            break;
        }
        case TO_EDGE:
            world->torn = world->torn || world->cut;
            if (m->session == edge->session && !world->cut) {
                edge_core_on_link(edge->core, bytes, edge_now(world));
            }
            break;
        case DOWN_EDGE:
            if (m->session == edge->session) {
                edge->session = 0;
                edge_core_link_down(edge->core, 0, "", edge_now(world));
            }
            break;
        }
    }
    free(m);
}

static void world_post(struct world *world, enum message_kind kind, uint32_t from, uint32_t to,
                       uint64_t session, struct bytes bytes)
{
    struct message *m = malloc(sizeof *m + bytes.size);
    assert_non_null(m);
    const bool to_cloud = kind == TO_PEER || kind == TO_CLOUD || kind == DOWN_CLOUD;
    *m = (struct message){
        .world = world,
        .kind = kind,
        .from = from,
        .to = to,
        .life = to_cloud ? world->clouds[to].life : world->edge.life,
        .session = session,
        .size = bytes.size,
    };
    if (bytes.size > 0) {
        memcpy(m->data, bytes.data, bytes.size);
    }
    sim_after(&world->sim, LATENCY_US, 0, world_on_message, m);
}

static void world_random(struct world *world, void *buffer, size_t size)
{
    uint8_t *out = buffer;
    for (size_t i = 0; i < size; i++) {
        out[i] = (uint8_t)sim_below(&world->sim, 256);
    }
}

static void world_log(struct world *world, const char *who, enum logger_level level,
                      const char *event, const char *pairs)
{
    if (world->verbose) {
        fprintf(stderr, "%8.3f %-12s %d %s %s\n", (double)world->sim.now_us / 1e6, who, (int)level,
                event, pairs);
    }
}

/* -- a cloudcore ------------------------------------------------------------------------------- */

static int cloud_send_peer(void *context, uint64_t replica, struct bytes frame)
{
    struct cloud *cloud = context;
    if (cloud->world->refused[cloud->number][replica - 1]) {
        return -ENOTCONN;
    }
    world_post(cloud->world, TO_PEER, cloud->number, (uint32_t)replica - 1, 0, frame);
    return 0;
}

static int cloud_send_session(void *context, uint64_t session, struct bytes frame)
{
    struct cloud *cloud = context;
    if (cloud->world->cut) {
        cloud->world->torn = true;
        return 0;
    }
    world_post(cloud->world, TO_EDGE, cloud->number, 0, session, frame);
    return 0;
}

static bool cloud_room(void *context, uint64_t session)
{
    (void)context;
    (void)session;
    return true;
}

static void cloud_close_session(void *context, uint64_t session)
{
    struct cloud *cloud = context;
    world_post(cloud->world, DOWN_EDGE, cloud->number, 0, session, bytes_of(NULL, 0));
    world_post(cloud->world, DOWN_CLOUD, 0, cloud->number, session, bytes_of(NULL, 0));
}

static void cloud_log(void *context, enum logger_level level, const char *event, const char *pairs)
{
    struct cloud *cloud = context;
    world_log(cloud->world, cloud->name, level, event, pairs);
}

static void cloud_random(void *context, void *buffer, size_t size)
{
    world_random(((struct cloud *)context)->world, buffer, size);
}

static struct tag fake_tag(struct bytes key, struct bytes json)
{
    uint64_t low = 14695981039346656037u;
    for (size_t i = 0; i < key.size; i++) {
        low = (low ^ key.data[i]) * 1099511628211u;
    }
    for (size_t i = 0; i < json.size; i++) {
        low = (low ^ json.data[i]) * 1099511628211u;
    }
    return (struct tag){.low = low, .high = ~low};
}

static struct tag cloud_tag(void *context, struct bytes key, struct bytes json)
{
    (void)context;
    return fake_tag(key, json);
}

struct cloud_work {
    struct cloud *cloud;
    uint64_t life;
    struct replica_work *work;
};

static void cloud_on_work(void *context)
{
    struct cloud_work *run = context;
    if (run->cloud->life == run->life) {
        run->work->work(run->work);
        run->work->done(run->work);
    }
    free(run);
}

static void cloud_run_work(void *context, struct replica_work *work)
{
    struct cloud *cloud = context;
    struct cloud_work *run = malloc(sizeof *run);
    assert_non_null(run);
    *run = (struct cloud_work){.cloud = cloud, .life = cloud->life, .work = work};
    sim_after(&cloud->world->sim, 1000, 0, cloud_on_work, run);
}

static void cloud_fatal(void *context, int status, const char *message)
{
    struct cloud *cloud = context;
    print_error("%s: %d %s\n", cloud->name, status, message);
    fail();
}

/* -- objects without JSON of the API door ------------------------------------------------------ */

static uint32_t next_uid; /* reset by world_init */

static int build_put(struct codec *codec, uint8_t mode, uint64_t if_version,
                     const struct object *object, struct bytes *out)
{
    struct bytes body;
    struct object full = *object;
    full.version = "v1";
    const char *key = codec_print(codec, "%s/%s/%s/%s", "", full.resource,
                                  full.namespace_ == NULL ? "" : full.namespace_, full.name);
    full.tag = fake_tag(bytes_text(key), full.json);
    const struct object_put put = {.mode = mode, .if_version = if_version, .object = full};
    const int status = codec_object_put_build(codec, &put, &body);
    return status != 0 ? status
                       : codec_record_build(codec,
                                            &(struct record){
                                                .kind = RECORD_OBJECT_PUT,
                                                .key = key,
                                                .origin = "test",
                                                .body = body,
                                            },
                                            out);
}

static int fake_build_node(const struct backend *backend, struct codec *codec, const char *name,
                           const struct pair *labels, uint32_t label_count, struct bytes *out)
{
    (void)backend;
    return build_put(codec, PUT_CREATE, 0,
                     &(struct object){
                         .kind = "Node",
                         .resource = "nodes",
                         .name = name,
                         .uid = codec_print(codec, "uid-%u", ++next_uid),
                         .labels = labels,
                         .label_count = label_count,
                         .json = bytes_text("{}"),
                     },
                     out);
}

static int fake_build_namespace(const struct backend *backend, struct codec *codec,
                                const char *name, struct bytes *out)
{
    (void)backend;
    return build_put(codec, PUT_CREATE, 0,
                     &(struct object){
                         .kind = "Namespace",
                         .resource = "namespaces",
                         .name = name,
                         .uid = codec_print(codec, "uid-%u", ++next_uid),
                         .json = bytes_text("{}"),
                     },
                     out);
}

static int fake_build_binding(const struct backend *backend, struct codec *codec,
                              const struct backend_row *pod, const char *node, struct bytes *out)
{
    struct object_put put;
    (void)backend;
    const int status = codec_object_put_read(codec, codec_aligned(codec, pod->wish), &put);
    if (status != 0) {
        return status;
    }
    put.object.node_name = node;
    return build_put(codec, PUT_UPDATE, pod->wish_version, &put.object, out);
}

static bool fake_pod_fits(const struct backend_row *pod, const struct backend_row *node,
                          const char **out_why)
{
    (void)pod;
    (void)node;
    (void)out_why;
    return true;
}

static void cloud_on_tick(void *context)
{
    struct cloud *cloud = context;
    log_tick(&cloud->log, 0);
    (void)cloud_core_run(cloud->core, cloud_now(cloud->world));
    sim_after(&cloud->world->sim, TICK_US, cloud->life, cloud_on_tick, cloud);
}

static void cloud_removed(void *context)
{
    ((struct cloud *)context)->left = true;
}

static void cloud_start(struct cloud *cloud)
{
    struct world *world = cloud->world;
    const struct log_options options = {.directory = "log", .segment_bytes = SEGMENT_BYTES};
    struct log_recovery recovery;
    assert_int_equal(log_open(&cloud->log, &cloud->disk.disk, &options, &recovery), 0);
    assert_int_equal(store_sim_open(cloud->store_disk, MACHINE_NAME, MACHINE_FORMAT, &cloud->store),
                     0);
    cloud->life = sim_owner_new(&world->sim);
    cloud->boots++;
    for (uint32_t i = 0; i < cloud_count; i++) {
        cloud->peers[i] = (struct cloud_core_peer){.replica = i + 1, .address = addresses[i]};
    }
    const struct cloud_core_config config = {
        .replica = cloud->number + 1,
        .boot_count = cloud->boots,
        .name = cloud->name,
        .peers = cloud->peers,
        .peer_count = cloud_count,
        .level = cloud->level,
        .key = cloud->key,
        .seed = sim_random(&world->sim),
        .heartbeat_ms = 1000,
        .unreachable_ms = 8000,
        .propose_ms = 5000,
        .election_ms = 300,
        .raft_heartbeat_ms = 50,
        .snapshot_bytes = 64 * 1024,
    };
    const struct cloud_core_objects objects = {
        .build_node = fake_build_node,
        .build_binding = fake_build_binding,
        .pod_fits = fake_pod_fits,
        .build_namespace = fake_build_namespace,
    };
    const struct cloud_core_ops ops = {
        .context = cloud,
        .send_peer = cloud_send_peer,
        .send_session = cloud_send_session,
        .session_room = cloud_room,
        .close_session = cloud_close_session,
        .log = cloud_log,
        .random = cloud_random,
        .tag = cloud_tag,
        .run = cloud_run_work,
        .fatal = cloud_fatal,
        .removed = cloud_removed,
    };
    char reason[256] = "";
    const int status = cloud_core_open(&config, &objects, &ops, cloud->store, &cloud->log,
                                       cloud_now(world), &cloud->core, reason);
    if (cloud->refuses) {
        assert_int_equal(status, STATUS_UNSUPPORTED);
        sim_cancel_owner(&world->sim, cloud->life);
        cloud->life = 0;
        store_close(cloud->store);
        log_forget(&cloud->log);
        return;
    }
    if (status != 0) {
        fail_msg("%s", reason);
    }
    for (uint32_t i = 0; i < cloud_count; i++) {
        if (i != cloud->number && world->clouds[i].life != 0) {
            cloud_core_peer_connected(world->clouds[i].core, cloud->number + 1);
            cloud_core_peer_connected(cloud->core, i + 1);
        }
    }
    sim_after(&world->sim, TICK_US, cloud->life, cloud_on_tick, cloud);
}

/* Power loss: what was not durable is gone. */
static void cloud_kill(struct cloud *cloud)
{
    struct world *world = cloud->world;
    sim_cancel_owner(&world->sim, cloud->life);
    cloud->life = 0;
    disk_sim_crash(&cloud->disk, DISK_SIM_POWER);
    store_sim_crash(cloud->store_disk, sim_random(&world->sim));
    cloud_core_close(cloud->core);
    cloud->core = NULL;
    store_close(cloud->store);
    log_forget(&cloud->log);
    for (uint32_t i = 0; i < cloud_count; i++) {
        if (world->clouds[i].life != 0) {
            cloud_core_peer_lost(world->clouds[i].core, cloud->number + 1, cloud_now(world));
        }
    }
    if (world->edge.session != 0 && world->edge.cloud == cloud->number) {
        world_post(world, DOWN_EDGE, cloud->number, 0, world->edge.session, bytes_of(NULL, 0));
    }
}

/* -- an edge ----------------------------------------------------------------------------------- */

static void edge_dial(void *context, uint32_t address)
{
    struct edge *edge = context;
    world_post(edge->world, OPENED, address, 0, ++edge->world->sessions, bytes_of(NULL, 0));
}

static int edge_send(void *context, struct bytes frame)
{
    struct edge *edge = context;
    if (edge->world->cut) {
        edge->world->torn = true;
        return 0;
    }
    world_post(edge->world, TO_CLOUD, 0, edge->cloud, edge->session, frame);
    return 0;
}

static bool edge_room(void *context)
{
    (void)context;
    return true;
}

static void edge_close_link(void *context)
{
    struct edge *edge = context;
    if (edge->session == 0) {
        return; /* dialing: OPENED answers */
    }
    world_post(edge->world, DOWN_EDGE, edge->cloud, 0, edge->session, bytes_of(NULL, 0));
    if (!edge->world->cut) {
        world_post(edge->world, DOWN_CLOUD, 0, edge->cloud, edge->session, bytes_of(NULL, 0));
    }
}

static void edge_log(void *context, enum logger_level level, const char *event, const char *pairs)
{
    world_log(((struct edge *)context)->world, "edge-1", level, event, pairs);
}

static void edge_random(void *context, void *buffer, size_t size)
{
    world_random(((struct edge *)context)->world, buffer, size);
}

struct edge_listing {
    struct edge *edge;
    uint64_t life;
    uint64_t id;
};

static void edge_on_listing(void *context)
{
    struct edge_listing *listing = context;
    const struct driver_answer answer = {.verb = DRIVER_LIST, .message = ""};
    if (listing->edge->life == listing->life) {
        edge_core_on_answer(listing->edge->core, listing->id, &answer,
                            edge_now(listing->edge->world));
    }
    free(listing);
}

/* A runtime that holds nothing and takes nothing on. */
static int edge_runtime_call(void *context, uint64_t id, const struct driver_call *call)
{
    struct edge *edge = context;
    if (call->verb != DRIVER_LIST) {
        return STATUS_FULL;
    }
    struct edge_listing *listing = malloc(sizeof *listing);
    assert_non_null(listing);
    *listing = (struct edge_listing){.edge = edge, .life = edge->life, .id = id};
    sim_after(&edge->world->sim, 1000, 0, edge_on_listing, listing);
    return 0;
}

static int edge_volumes_prepare(void *context, const struct pod_spec *spec,
                                const struct pod_facts *facts)
{
    (void)context;
    (void)spec;
    (void)facts;
    return STATUS_FULL;
}

static int edge_volumes_remove(void *context, const char *uid, const char *namespace,
                               const char *name)
{
    (void)context;
    (void)uid;
    (void)namespace;
    (void)name;
    return STATUS_FULL;
}

static void edge_log_remove(void *context, const char *uid, const char *namespace,
                            const char *name, const char *container, uint32_t attempt)
{
    (void)context;
    (void)uid;
    (void)namespace;
    (void)name;
    (void)container;
    (void)attempt;
}

static void edge_on_flush(void *context)
{
    struct edge *edge = context;
    edge_core_flushed(edge->core, store_flush(edge->store));
}

static void edge_flush(void *context)
{
    struct edge *edge = context;
    sim_after(&edge->world->sim, 1000, edge->life, edge_on_flush, edge);
}

static void edge_fatal(void *context, int status, const char *message)
{
    (void)context;
    print_error("edge-1: %d %s\n", status, message);
    fail();
}

static void edge_on_tick(void *context)
{
    struct edge *edge = context;
    const struct condition ready = {.type = "Ready", .status = CONDITION_TRUE, .reason = "EdgeReady"};
    const struct pair allocatable[] = {{"cpu", "4"}, {"memory", "4Gi"}, {"pods", "110"}};
    const struct node_status status = {
        .conditions = &ready,
        .condition_count = 1,
        .allocatable = allocatable,
        .allocatable_count = 3,
    };
    edge_core_node_status(edge->core, &status, edge_now(edge->world));
    (void)edge_core_run(edge->core, edge_now(edge->world));
    sim_after(&edge->world->sim, TICK_US, edge->life, edge_on_tick, edge);
}

static void edge_start(struct edge *edge)
{
    struct world *world = edge->world;
    const struct log_options options = {.directory = "log", .segment_bytes = SEGMENT_BYTES};
    struct log_recovery recovery;
    assert_int_equal(log_open(&edge->log, &edge->disk.disk, &options, &recovery), 0);
    assert_int_equal(store_sim_open(edge->store_disk, "edge", EDGE_FORMAT, &edge->store), 0);
    edge->life = sim_owner_new(&world->sim);
    edge->session = 0;
    const struct edge_core_config config = {
        .node = "edge-1",
        .pods = {.node_name = "edge-1", .host_ip = "10.0.0.1", .root = "/none", .cgroup_root = ""},
        .address_count = cloud_count,
        .backoff_ms_max = 1000,
        .software = "test",
        .flush_ms = 500,
    };
    const struct edge_core_ops ops = {
        .context = edge,
        .link_dial = edge_dial,
        .link_send = edge_send,
        .link_room = edge_room,
        .link_close = edge_close_link,
        .log = edge_log,
        .random = edge_random,
        .runtime_call = edge_runtime_call,
        .volumes_prepare = edge_volumes_prepare,
        .volumes_remove = edge_volumes_remove,
        .log_remove = edge_log_remove,
        .flush_store = edge_flush,
        .fatal = edge_fatal,
    };
    char reason[256] = "";
    if (edge_core_open(&config, &ops, edge->store, &edge->log, edge_now(world), &edge->core,
                       reason) != 0) {
        fail_msg("%s", reason);
    }
    sim_after(&world->sim, TICK_US, edge->life, edge_on_tick, edge);
}

static void edge_kill(struct edge *edge)
{
    struct world *world = edge->world;
    sim_cancel_owner(&world->sim, edge->life);
    edge->life = 0;
    if (edge->session != 0 && world->clouds[edge->cloud].life != 0) {
        world_post(world, DOWN_CLOUD, 0, edge->cloud, edge->session, bytes_of(NULL, 0));
    }
    disk_sim_crash(&edge->disk, DISK_SIM_POWER);
    store_sim_crash(edge->store_disk, sim_random(&world->sim));
    edge_core_close(edge->core);
    edge->core = NULL;
    store_close(edge->store);
    log_forget(&edge->log);
}

/* -- the world --------------------------------------------------------------------------------- */

static struct world *world_create(uint64_t seed)
{
    struct world *world = calloc(1, sizeof *world);
    assert_non_null(world);
    world->verbose = getenv("VERBOSE") != NULL;
    next_uid = 0;
    sim_init(&world->sim, seed);
    for (uint32_t i = 0; i < cloud_count; i++) {
        struct cloud *cloud = &world->clouds[i];
        cloud->world = world;
        cloud->number = i;
        snprintf(cloud->name, sizeof cloud->name, "cloudcore-%u", i + 1);
        disk_sim_init(&cloud->disk, &world->sim);
        cloud->store_disk = store_sim_create();
        cloud_start(cloud);
    }
    world->edge.world = world;
    disk_sim_init(&world->edge.disk, &world->sim);
    world->edge.store_disk = store_sim_create();
    edge_start(&world->edge);
    return world;
}

static void world_destroy(struct world *world)
{
    for (uint32_t i = 0; i < cloud_count; i++) {
        struct cloud *cloud = &world->clouds[i];
        if (cloud->life != 0) {
            cloud_kill(cloud);
        }
        store_sim_destroy(cloud->store_disk);
    }
    if (world->edge.life != 0) {
        edge_kill(&world->edge);
    }
    store_sim_destroy(world->edge.store_disk);
    sim_run_until(&world->sim, world->sim.now_us + 10 * LATENCY_US); /* messages free themselves */
    for (uint32_t i = 0; i < cloud_count; i++) {
        disk_sim_deinit(&world->clouds[i].disk);
    }
    disk_sim_deinit(&world->edge.disk);
    sim_deinit(&world->sim);
    free(world);
}

static void world_run(struct world *world, uint64_t ms)
{
    sim_run_until(&world->sim, world->sim.now_us + ms * 1000);
}

/* Cut the edge's link, or mend it. A stream that lost bytes does not go on: TCP would have retried them
 * or given up. */
static void world_cut(struct world *world, bool cut)
{
    struct edge *edge = &world->edge;
    if (world->cut && !cut && world->torn && edge->session != 0) {
        world_post(world, DOWN_CLOUD, 0, edge->cloud, edge->session, bytes_of(NULL, 0));
        world_post(world, DOWN_EDGE, edge->cloud, 0, edge->session, bytes_of(NULL, 0));
    }
    world->cut = cut;
    world->torn = false;
}

/* Run until something holds, at most this long. */
static bool world_until(struct world *world, bool (*holds)(struct world *world), uint64_t ms)
{
    for (uint64_t i = 0; i < ms / 10; i++) {
        if (holds(world)) {
            return true;
        }
        world_run(world, 10);
    }
    return holds(world);
}

static struct cloud *world_leader(struct world *world)
{
    for (uint32_t i = 0; i < cloud_count; i++) {
        if (world->clouds[i].life != 0 && cloud_core_report(world->clouds[i].core).leads) {
            return &world->clouds[i];
        }
    }
    return NULL;
}

static struct cloud *world_follower(struct world *world)
{
    for (uint32_t i = 0; i < cloud_count; i++) {
        if (world->clouds[i].life != 0 && !cloud_core_report(world->clouds[i].core).leads) {
            return &world->clouds[i];
        }
    }
    return NULL;
}

static bool world_ready(struct world *world)
{
    struct cloud *leader = world_leader(world);
    return leader != NULL && cloud_core_report(leader->core).cluster[0] != '\0' &&
           edge_core_report(world->edge.core).link_up;
}

/* The edge holds what the leader says it should, and the cloud has applied all that the edge said. */
static bool world_agrees(struct world *world)
{
    struct cloud *leader = world_leader(world);
    struct node_row row;
    if (leader == NULL || world->edge.life == 0 ||
        node_get(store_live(leader->store), "edge-1", &row) != STATUS_OK) {
        return false;
    }
    const struct edge_core_report report = edge_core_report(world->edge.core);
    return report.link_up && report.down_stream == row.down_stream &&
           report.down_position == row.down_tip && row.down_acked == row.down_tip &&
           tag_equal(report.digest, row.digest) && row.up_position == report.up_last &&
           report.up_acked == report.up_last;
}

struct written {
    bool done;
    int status;
    enum backend_outcome outcome;
    uint64_t value;
};

static void world_on_written(void *context, int status, enum backend_outcome outcome,
                             uint64_t value)
{
    struct written *written = context;
    assert_false(written->done);
    *written = (struct written){.done = true, .status = status, .outcome = outcome, .value = value};
}

/* Write through one cloudcore and wait for the answer. */
static struct written world_write(struct world *world, struct cloud *cloud,
                                  const struct object *object)
{
    struct written written = {0};
    struct bytes record;
    struct codec *codec = codec_create();
    assert_int_equal(build_put(codec, PUT_ANY, 0, object, &record), 0);
    const struct backend *backend = cloud_core_backend(cloud->core);
    assert_int_equal(backend->write(backend->owner, record, world_on_written, &written), 0);
    for (int i = 0; i < 1000 && !written.done; i++) {
        world_run(world, 10);
    }
    assert_true(written.done);
    codec_destroy(codec);
    return written;
}

static struct written world_write_config(struct world *world, struct cloud *cloud, const char *text)
{
    return world_write(world, cloud,
                       &(struct object){
                           .kind = "ConfigMap",
                           .resource = "configmaps",
                           .namespace_ = "default",
                           .name = "settings",
                           .uid = "config-uid",
                           .json = bytes_text(text),
                       });
}

static struct written world_write_pod(struct world *world, struct cloud *cloud, const char *name)
{
    static const struct reference reference = {.resource = "configmaps", .name = "settings"};
    char json[512];
    snprintf(json, sizeof json,
             "{\"metadata\":{\"name\":\"%s\",\"namespace\":\"default\",\"uid\":\"pod-%s\"},"
             "\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"busybox\",\"envFrom\":"
             "[{\"configMapRef\":{\"name\":\"settings\"}}]}]}}",
             name, name);
    char uid[64];
    snprintf(uid, sizeof uid, "pod-%s", name);
    return world_write(world, cloud,
                       &(struct object){
                           .kind = "Pod",
                           .resource = "pods",
                           .namespace_ = "default",
                           .name = name,
                           .uid = uid,
                           .references = &reference,
                           .reference_count = 1,
                           .request_cpu_milli = 100,
                           .json = bytes_text(json),
                       });
}

static bool world_reachable(struct world *world, bool *out)
{
    struct cloud *leader = world_leader(world);
    struct object_row row;
    struct verdict verdict;
    bool found = false;
    if (leader == NULL) {
        return false;
    }
    struct store_reader *reader = store_live(leader->store);
    struct codec *codec = codec_create();
    if (object_get(reader, bytes_text("/nodes//edge-1"), &row) == STATUS_OK &&
        row.parts[PART_VERDICT].body.size > 0 &&
        codec_verdict_read(codec, row.parts[PART_VERDICT].body, &verdict) == 0) {
        *out = verdict.reachable;
        found = true;
    }
    store_reader_reset(reader);
    codec_destroy(codec);
    return found;
}

static bool world_is_reachable(struct world *world)
{
    bool reachable = false;
    return world_reachable(world, &reachable) && reachable;
}

static bool world_is_unreachable(struct world *world)
{
    bool reachable = true;
    return world_reachable(world, &reachable) && !reachable;
}

static bool world_two_objects(struct world *world)
{
    struct cloud *leader = world_leader(world);
    struct node_row row;
    return leader != NULL && node_get(store_live(leader->store), "edge-1", &row) == STATUS_OK &&
           row.held_count == 2 && world_agrees(world);
}

/* -- claims ------------------------------------------------------------------------------------ */

/* Claim: three empty cloudcores found a cluster, an unknown edge registers and is welcomed, a pod written
 * at a follower is bound, delivered with its config map, and what the edge says of it comes back.
 * Method: no test double between the cores; compare digests and positions of both sides. */
static void test_pod_reaches_the_edge_and_its_status_comes_back(void **state)
{
    (void)state;
    struct world *world = world_create(1);
    assert_true(world_until(world, world_ready, 10000));
    assert_true(world_until(world, world_is_reachable, 10000));
    struct cloud *follower = world_follower(world);
    assert_non_null(follower);
    struct written written = world_write_config(world, follower, "{\"data\":{\"a\":\"1\"}}");
    assert_int_equal(written.status, 0);
    assert_int_equal(written.outcome, BACKEND_ACCEPTED);
    written = world_write_pod(world, follower, "web");
    assert_int_equal(written.status, 0);
    assert_int_equal(written.outcome, BACKEND_ACCEPTED);
    assert_true(world_until(world, world_two_objects, 10000));
    assert_int_equal(edge_core_report(world->edge.core).pods.wanted, 1);
    world_run(world, 3000);
    assert_true(world_agrees(world));

    struct object_row row;
    struct store_reader *reader = store_live(world_leader(world)->store);
    assert_int_equal(object_get(reader, bytes_text("/pods/default/web"), &row), STATUS_OK);
    assert_true(row.parts[PART_FACT].body.size > 0); /* a status, waiting for the runtime */
    store_reader_reset(reader);
    assert_int_equal(edge_core_report(world->edge.core).digest_alarms, 0);
    world_destroy(world);
}

/* Claim: with the link cut the node becomes unreachable, changes wait, a crash of the edge changes
 * nothing; when the link returns everything arrives and the node is reachable. */
static void test_outage_is_a_pause(void **state)
{
    (void)state;
    struct world *world = world_create(2);
    assert_true(world_until(world, world_ready, 10000));
    assert_true(world_until(world, world_is_reachable, 10000));
    assert_int_equal(
        world_write_config(world, world_leader(world), "{\"data\":{\"a\":\"1\"}}").status, 0);
    assert_int_equal(world_write_pod(world, world_leader(world), "web").status, 0);
    assert_true(world_until(world, world_two_objects, 10000));

    world_cut(world, true);
    assert_true(world_until(world, world_is_unreachable, 30000));
    assert_int_equal(
        world_write_config(world, world_leader(world), "{\"data\":{\"a\":\"2\"}}").status, 0);
    edge_kill(&world->edge);
    world_run(world, 100);
    edge_start(&world->edge);
    world_run(world, 3000);
    assert_int_equal(edge_core_report(world->edge.core).pods.wanted, 1); /* without any link */
    assert_false(edge_core_report(world->edge.core).link_up);

    world_cut(world, false);
    assert_true(world_until(world, world_is_reachable, 30000));
    assert_true(world_until(world, world_two_objects, 30000));
    assert_int_equal(edge_core_report(world->edge.core).digest_alarms, 0);
    world_destroy(world);
}

/* Claim: whichever cloudcore dies, at whatever moment, acknowledged writes are there afterwards, the
 * edge ends with the same digest, and no node is called unreachable that is not.
 * Method: seeds; kill the leader while a write is under way, write on, start it again. */
static void test_loss_of_a_cloudcore_loses_nothing(void **state)
{
    (void)state;
    for (uint64_t seed = 10; seed < 30; seed++) {
        struct world *world = world_create(seed);
        assert_true(world_until(world, world_ready, 20000));
        assert_true(world_until(world, world_is_reachable, 20000));
        assert_int_equal(world_write_config(world, world_leader(world), "{\"v\":0}").status, 0);
        assert_int_equal(world_write_pod(world, world_leader(world), "web").status, 0);
        for (uint32_t round = 0; round < 4; round++) {
            struct cloud *victim = world_leader(world);
            struct cloud *writer = world_follower(world);
            if (victim == NULL || writer == NULL) {
                world_run(world, 1000);
                continue;
            }
            char text[32];
            struct written written = {0};
            struct bytes record;
            struct codec *codec = codec_create();
            snprintf(text, sizeof text, "{\"v\":%u}", round + 1);
            const struct object object = {
                .kind = "ConfigMap",
                .resource = "configmaps",
                .namespace_ = "default",
                .name = "settings",
                .uid = "config-uid",
                .json = bytes_text(text),
            };
            assert_int_equal(build_put(codec, PUT_ANY, 0, &object, &record), 0);
            const struct backend *backend = cloud_core_backend(writer->core);
            assert_int_equal(backend->write(backend->owner, record, world_on_written, &written), 0);
            world_run(world, sim_below(&world->sim, 12)); /* it is somewhere on its way */
            cloud_kill(victim);
            for (int i = 0; i < 600 && !written.done; i++) {
                world_run(world, 10);
                if (world->edge.life != 0 && world_is_unreachable(world)) {
                    fail_msg("seed %llu: a false verdict", (unsigned long long)seed);
                }
            }
            assert_true(written.done);
            assert_int_equal(written.status, 0);
            cloud_start(victim);
            world_run(world, 500);

            /* What was acknowledged is read back, linearizably, from the state of the leader. */
            struct cloud *leader = world_leader(world);
            assert_non_null(leader);
            struct object_row row;
            struct object_put put;
            struct store_reader *reader = store_live(leader->store);
            assert_int_equal(object_get(reader, bytes_text("/configmaps/default/settings"), &row),
                             STATUS_OK);
            assert_int_equal(codec_object_put_read(codec, row.parts[PART_WISH].body, &put), 0);
            assert_true(bytes_equal_text(put.object.json, text));
            store_reader_reset(reader);
            codec_destroy(codec);
        }
        if (!world_until(world, world_two_objects, 30000)) {
            fail_msg("seed %llu: the edge does not agree", (unsigned long long)seed);
        }
        assert_int_equal(edge_core_report(world->edge.core).digest_alarms, 0);
        world_destroy(world);
    }
}

/* Claim: a leader that is about to stop hands over within a moment, without an election that anybody had to
 * wait for, again when it is made leader again; a write that was under way is done; its edge goes to another
 * replica and is never called unreachable. */
static void test_a_leader_that_stops_is_not_missed(void **state)
{
    (void)state;
    for (uint64_t seed = 40; seed < 50; seed++) {
        struct world *world = world_create(seed);
        assert_true(world_until(world, world_ready, 20000));
        assert_true(world_until(world, world_is_reachable, 20000));
        struct cloud *leader = world_leader(world);
        struct cloud *writer = seed % 2 == 0 ? leader : world_follower(world);
        struct written written = {0};
        struct bytes record;
        struct codec *codec = codec_create();
        const struct object object = {
            .kind = "ConfigMap",
            .resource = "configmaps",
            .namespace_ = "default",
            .name = "settings",
            .uid = "config-uid",
            .json = bytes_text("{}"),
        };
        assert_int_equal(build_put(codec, PUT_ANY, 0, &object, &record), 0);
        const struct backend *backend = cloud_core_backend(writer->core);
        assert_int_equal(backend->write(backend->owner, record, world_on_written, &written), 0);
        world_run(world, sim_below(&world->sim, 12)); /* it is somewhere on its way */
        assert_false(cloud_core_report(leader->core).alone);
        cloud_core_resign(leader->core, cloud_now(world));
        uint32_t waited_ms = 0;
        while (cloud_core_report(leader->core).leads || !written.done) {
            world_run(world, 10);
            waited_ms += 10;
            assert_true(waited_ms < 400); /* no time-out of an election passes in that */
        }
        assert_int_equal(written.status, 0);
        cloud_core_dismiss(leader->core, cloud_now(world));
        for (int i = 0; i < 200; i++) {
            world_run(world, 10);
            assert_false(world_is_unreachable(world));
        }
        assert_true(world_until(world, world_ready, 10000));
        assert_int_equal(cloud_core_report(leader->core).sessions, 0);
        assert_ptr_not_equal(world_leader(world), leader);
        codec_destroy(codec);
        world_destroy(world);
    }
}

/* Stop a cloudcore and start it as another release. */
static void world_upgrade(struct world *world, uint32_t number, uint32_t level)
{
    struct cloud *cloud = &world->clouds[number];
    if (cloud->life != 0) {
        cloud_kill(cloud);
        world_run(world, 200);
    }
    cloud->level = level;
    cloud_start(cloud);
}

static bool world_level_is(struct world *world, uint32_t level)
{
    for (uint32_t i = 0; i < cloud_count; i++) {
        if (world->clouds[i].life != 0 && cloud_core_report(world->clouds[i].core).level != level) {
            return false;
        }
    }
    return true;
}

static bool world_level_is_ours(struct world *world)
{
    return world_level_is(world, MACHINE_LEVEL);
}

static bool world_level_is_new(struct world *world)
{
    return world_level_is(world, MACHINE_LEVEL + 1);
}

/* Claim: a group of mixed releases works, at the level of the oldest, whoever leads; a member that is down
 * holds the level where it is; it rises once the last one is upgraded; then the old release refuses to
 * start, and the new one goes on with what is there. */
static void test_the_level_rises_with_the_last_member(void **state)
{
    (void)state;
    const uint32_t next = MACHINE_LEVEL + 1;
    struct world *world = world_create(60);
    assert_true(world_until(world, world_ready, 20000));
    assert_true(world_until(world, world_level_is_ours, 5000)); /* from 1, where every group begins */
    world_upgrade(world, 0, next);
    world_run(world, 2000);
    world_upgrade(world, 1, next);
    for (int i = 0; i < 4; i++) { /* each of them leads now and then */
        assert_true(world_until(world, world_ready, 10000));
        struct cloud *leader = world_leader(world);
        assert_int_equal(world_write_config(world, leader, "{\"v\":1}").status, 0);
        assert_true(world_until(world, world_level_is_ours, 5000)); /* who was restarted applies again */
        world_upgrade(world, leader->number, leader->level);
    }

    cloud_kill(&world->clouds[2]); /* it may come back as what it was */
    world_run(world, 5000);
    assert_true(world_level_is_ours(world));
    world_upgrade(world, 2, next);
    assert_true(world_until(world, world_level_is_new, 10000));

    assert_int_equal(store_flush(world->clouds[1].store), 0); /* or its log would say it a moment later */
    cloud_kill(&world->clouds[1]);
    world->clouds[1].refuses = true;
    world_upgrade(world, 1, MACHINE_LEVEL);
    assert_int_equal(world->clouds[1].life, 0);
    world->clouds[1].refuses = false;
    world_upgrade(world, 1, next);
    assert_true(world_until(world, world_ready, 10000));
    assert_int_equal(world_write_config(world, &world->clouds[1], "{\"v\":2}").status, 0);
    assert_true(world_level_is_new(world));
    world_destroy(world);
}

static bool world_empty_again(struct world *world)
{
    struct cloud *leader = world_leader(world);
    struct node_row row;
    return leader != NULL && node_get(store_live(leader->store), "edge-1", &row) == STATUS_OK &&
           row.held_count == 0 && world_agrees(world) && world_is_reachable(world) &&
           edge_core_report(world->edge.core).pods.wanted == 0;
}

/* Claim: a node that is deleted and comes back starts clean: another stream, none of its old pods, its
 * status told again, and pods can be bound to it. */
static void test_deleted_node_comes_back_clean(void **state)
{
    (void)state;
    struct world *world = world_create(3);
    assert_true(world_until(world, world_ready, 10000));
    assert_true(world_until(world, world_is_reachable, 10000));
    assert_int_equal(world_write_config(world, world_leader(world), "{\"v\":1}").status, 0);
    assert_int_equal(world_write_pod(world, world_leader(world), "web").status, 0);
    assert_true(world_until(world, world_two_objects, 10000));
    const uint64_t stream = edge_core_report(world->edge.core).down_stream;

    struct written written = {0};
    struct bytes body;
    struct bytes record;
    struct codec *codec = codec_create();
    const struct object_remove remove = {.reason = REMOVE_DELETED};
    assert_int_equal(codec_object_remove_build(codec, &remove, &body), 0);
    assert_int_equal(codec_record_build(codec,
                                        &(struct record){
                                            .kind = RECORD_OBJECT_REMOVE,
                                            .key = "/nodes//edge-1",
                                            .body = body,
                                        },
                                        &record),
                     0);
    const struct backend *backend = cloud_core_backend(world_follower(world)->core);
    assert_int_equal(backend->write(backend->owner, record, world_on_written, &written), 0);
    world_run(world, 500);
    assert_true(written.done);
    assert_int_equal(written.outcome, BACKEND_ACCEPTED);
    codec_destroy(codec);

    assert_true(world_until(world, world_empty_again, 20000));
    assert_true(edge_core_report(world->edge.core).down_stream != stream);
    struct object_row row;
    struct store_reader *reader = store_live(world_leader(world)->store);
    assert_int_equal(object_get(reader, bytes_text("/nodes//edge-1"), &row), STATUS_OK);
    assert_true(row.parts[PART_FACT].body.size > 0);
    store_reader_reset(reader);
    assert_int_equal(world_write_pod(world, world_leader(world), "web2").status, 0);
    assert_true(world_until(world, world_two_objects, 10000));
    assert_int_equal(edge_core_report(world->edge.core).digest_alarms, 0);
    world_destroy(world);
}

/* What an edge would say, through a session that its node does not know of any more. */
static void world_say_stale(struct world *world, struct cloud *to, uint64_t session,
                            const struct node_row *row, uint64_t epoch)
{
    struct codec *codec = codec_create();
    struct bytes body;
    struct bytes record;
    struct bytes frame;
    const struct edge_event event = {.kind = "Node", .name = "edge-1", .reason = "Stale"};
    assert_int_equal(codec_edge_event_build(codec, &event, &body), 0);
    assert_int_equal(
        codec_record_build(codec, &(struct record){.kind = RECORD_EDGE_EVENT, .body = body}, &record),
        0);
    const struct sequenced one = {.sequence = row->up_position + 1, .record = record};
    const struct batch batch = {
        .node = "edge-1",
        .epoch = epoch,
        .stream = row->up_stream,
        .previous = row->up_position,
        .last = row->up_position + 1,
        .tip = row->up_position + 1,
        .records = &one,
        .record_count = 1,
    };
    assert_int_equal(codec_batch_build(codec, &batch, &body), 0);
    assert_int_equal(codec_frame_build(codec, WIRE_APPEND, body, &frame), 0);
    cloud_core_on_session(to->core, session, frame, cloud_now(world));
    codec_destroy(codec);
}

/* Claim: when two replicas have a session of one node, the newer one owns it: the older ends, what still
 * comes through it is not applied, the newer goes on undisturbed.
 * Method: the edge loses its connection and the cloudcore does not hear of it. At the moment when the leader
 * knows of the new session, and a follower with the old one does not, an event comes through the old one. */
static void test_the_newer_of_two_sessions_owns_the_node(void **state)
{
    (void)state;
    uint32_t fenced = 0;
    for (uint64_t seed = 20; seed < 28; seed++) {
        struct world *world = world_create(seed);
        assert_true(world_until(world, world_ready, 10000));
        assert_true(world_until(world, world_is_reachable, 10000));
        assert_int_equal(world_write_config(world, world_leader(world), "{\"v\":1}").status, 0);
        assert_int_equal(world_write_pod(world, world_leader(world), "web").status, 0);
        assert_true(world_until(world, world_agrees, 10000));

        struct edge *edge = &world->edge;
        struct cloud *old = &world->clouds[edge->cloud];
        const uint64_t session = edge->session;
        struct cloud_core_session_report report;
        assert_true(cloud_core_session_report(old->core, "edge-1", &report));
        const uint64_t epoch = report.epoch;
        edge->session = 0; /* half of the connection is gone */
        edge_core_link_down(edge->core, -ECONNRESET, "reset", edge_now(world));
        struct node_row row = {0};
        bool said = false;
        for (uint32_t i = 0; i < 20000 && cloud_core_session_report(old->core, "edge-1", &report) &&
                             report.epoch == epoch;
             i++) {
            assert_int_equal(node_get(store_live(world_leader(world)->store), "edge-1", &row),
                             STATUS_OK);
            if (row.epoch > epoch && !said) {
                world_say_stale(world, old, session, &row, epoch);
                said = true;
                fenced++;
            }
            sim_run_until(&world->sim, world->sim.now_us + 100);
        }
        assert_true(edge->session != session);
        assert_true(world_until(world, world_agrees, 10000));
        assert_int_equal(node_get(store_live(world_leader(world)->store), "edge-1", &row), STATUS_OK);
        assert_int_equal(row.event_count, 0);
        assert_int_equal(row.epoch, epoch + 1);
        assert_true(
            cloud_core_session_report(world->clouds[edge->cloud].core, "edge-1", &report));
        assert_int_equal(report.epoch, epoch + 1);
        world_destroy(world);
    }
    assert_true(fenced > 0);
}

/* A greeting of replica `from` as `to` receives it. */
static void world_greet(struct world *world, struct cloud *to, uint64_t from, const char *cluster,
                        uint32_t member_count)
{
    const uint64_t members[] = {3, 2, 1, 4};
    const struct peer_hello hello = {.version = 1,
                                     .cluster = cluster,
                                     .replica = from,
                                     .address = "",
                                     .members = members,
                                     .member_count = member_count};
    struct codec *codec = codec_create();
    struct bytes body;
    struct bytes frame;
    assert_int_equal(codec_peer_hello_build(codec, &hello, &body), 0);
    assert_int_equal(codec_frame_build(codec, WIRE_PEER_HELLO, body, &frame), 0);
    cloud_core_on_peer(to->core, from, frame, cloud_now(world));
    codec_destroy(codec);
}

/* Claim: a replica of another cluster is not heard, nor one that founds with other members; one
 * that greets as ours is heard again.
 * Method: the leader is told so of both followers, one way and the other; it hears no
 * acknowledgement any more, so it cannot agree on a write until they greet as what they are. */
static void test_replicas_of_another_cluster_are_not_heard(void **state)
{
    (void)state;
    struct world *world = world_create(5);
    assert_true(world_until(world, world_ready, 10000));
    for (int way = 0; way < 2; way++) {
        assert_true(world_until(world, world_ready, 10000));
        struct cloud *leader = world_leader(world);
        char cluster[64];
        snprintf(cluster, sizeof cluster, "%s", cloud_core_report(leader->core).cluster);
        const uint64_t self = leader->number + 1;
        for (uint64_t from = 1; from <= cloud_count; from++) {
            if (from != self) {
                world_greet(world, leader, from, way == 0 ? "another" : "",
                            way == 0 ? cloud_count : cloud_count + 1);
            }
        }
        world_run(world, 2000);
        assert_false(cloud_core_report(leader->core).leads);
        assert_true(world_leader(world) != NULL); /* the two others went on */
        for (uint64_t from = 1; from <= cloud_count; from++) {
            if (from != self) {
                world_greet(world, leader, from, cluster, 0);
            }
        }
        world_run(world, 2000);
        assert_int_equal(world_write_config(world, leader, way == 0 ? "{\"v\":1}" : "{\"v\":2}").status, 0);
    }
    world_destroy(world);
}

/* -- the group ----------------------------------------------------------------------------------- */

struct changed {
    bool done;
    int status;
    char message[MEMBERS_MESSAGE_BYTES];
};

static void world_on_changed(void *context, int status, const char *message)
{
    struct changed *changed = context;
    changed->done = true;
    changed->status = status;
    snprintf(changed->message, sizeof changed->message, "%s", message);
}

static char world_said[MEMBERS_MESSAGE_BYTES]; /* to the last change that was asked for */

/* Ask one cloudcore for a change of the group, and wait for what it says. */
static int world_change_key(struct world *world, struct cloud *cloud, enum member_operation operation,
                            uint64_t replica, const char *address, const char *key)
{
    struct changed changed = {0};
    assert_int_equal(cloud_core_change(cloud->core, operation, replica, address, key, 8000,
                                       world_on_changed, &changed),
                     0);
    for (int i = 0; i < 1000 && !changed.done; i++) {
        world_run(world, 10);
    }
    assert_true(changed.done);
    if (changed.status != 0 && world->verbose) {
        fprintf(stderr, "%s\n", changed.message);
    }
    memcpy(world_said, changed.message, sizeof world_said);
    return changed.status;
}

static int world_change(struct world *world, struct cloud *cloud, enum member_operation operation,
                        uint64_t replica, const char *address)
{
    return world_change_key(world, cloud, operation, replica, address, "");
}

/* The machine gets a new disk. */
static void cloud_lose_data(struct cloud *cloud)
{
    disk_sim_deinit(&cloud->disk);
    disk_sim_init(&cloud->disk, &cloud->world->sim);
    store_sim_destroy(cloud->store_disk);
    cloud->store_disk = store_sim_create();
}

static enum member_state cloud_sees(struct cloud *cloud, uint64_t replica)
{
    const struct members *members = cloud_core_members(cloud->core);
    const struct member *member = members_find(members, replica);
    assert_non_null(member);
    return members_state(member, cloud_now(cloud->world).mono_ms);
}

/* Claim: a replica that lost its data directory takes no part: it gives no vote, not even when nobody else
 * could make a leader, acknowledges nothing, and the others know it. Removed, added and promoted, through a
 * replica that does not lead, it is one of them again: it has all that was acknowledged, and its vote counts.
 * Method: seeds; the data of a follower goes, then the leader, so that only its vote could elect the third. */
static void test_who_lost_its_data_does_not_vote(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct world *world = world_create(seed * 7919);
        assert_true(world_until(world, world_ready, 10000));
        struct cloud *leader = world_leader(world);
        struct cloud *lost = &world->clouds[(leader->number + 1) % cloud_count];
        struct cloud *third = &world->clouds[(leader->number + 2) % cloud_count];
        cloud_kill(third); /* so `leader` and `lost` have it, and nobody else */
        assert_int_equal(world_write_config(world, leader, "{\"v\":\"only two have it\"}").status, 0);
        cloud_kill(lost);
        cloud_lose_data(lost);
        cloud_kill(leader);
        cloud_start(lost);
        cloud_start(third);
        world_run(world, 15000);
        assert_null(world_leader(world));
        assert_int_equal(cloud_sees(lost, lost->number + 1), MEMBER_LOST);
        assert_int_equal(cloud_sees(third, lost->number + 1), MEMBER_LOST);

        cloud_start(leader);
        assert_true(world_until(world, world_ready, 10000));
        assert_int_not_equal(world_leader(world)->number, lost->number);
        struct cloud *asked = world_leader(world) == leader ? third : leader; /* it does not lead */
        assert_int_equal(world_change(world, asked, MEMBER_PROMOTE, 9, ""), CLOUD_CORE_CHANGE_REFUSED);
        const uint64_t number = lost->number + 1;
        if (seed % 2 == 0) { /* yet another disk, which nobody has met before it is added */
            cloud_kill(lost);
            cloud_lose_data(lost);
        }
        assert_int_equal(world_change(world, asked, MEMBER_REMOVE, number, ""), 0);
        assert_int_equal(world_change(world, asked, MEMBER_REMOVE, number, ""), 0);
        assert_int_equal(world_change(world, asked, MEMBER_ADD, number, addresses[lost->number]), 0);
        if (seed % 2 == 0) {
            cloud_start(lost);
        }
        int promoted = CLOUD_CORE_CHANGE_LATER;
        for (int i = 0; i < 100 && promoted == CLOUD_CORE_CHANGE_LATER; i++) {
            promoted = world_change(world, asked, MEMBER_PROMOTE, number, "");
            world_run(world, 100);
        }
        assert_int_equal(promoted, 0);
        assert_int_equal(cloud_sees(asked, number), MEMBER_OK);

        cloud_kill(asked); /* now its vote is needed, and its copy */
        assert_true(world_until(world, world_ready, 10000));
        assert_int_equal(world_write_config(world, world_leader(world), "{\"v\":2}").status, 0);
        world_destroy(world);
    }
}

static void cloud_new_key(struct cloud *cloud)
{
    snprintf(cloud->key, sizeof cloud->key, "%032x%016llx%016x", 0, (unsigned long long)sim_random(&cloud->world->sim),
             cloud->number);
}

static bool key_is_out(struct cloud *cloud, const char *key)
{
    return cloud_core_key_out(cloud->core, key);
}

/* All that live have links with each other; the state knows the keys of as many as it should. */
static bool world_keys_noted(struct world *world)
{
    struct member_key_row rows[LIMIT_MEMBER_KEYS];
    for (uint32_t i = 0; i < cloud_count * cloud_count; i++) {
        struct cloud *one = &world->clouds[i / cloud_count];
        const struct cloud *other = &world->clouds[i % cloud_count];
        if (one != other && one->life != 0 && other->life != 0) {
            (void)cloud_core_hears_key(one->core, other->number + 1, other->key);
        }
    }
    struct cloud *leader = world_leader(world);
    const uint32_t count = leader == NULL ? 0 : cloud_core_keys(leader->core, rows);
    uint32_t noted = 0;
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t n = 0; n < cloud_count; n++) {
            noted += !rows[i].out && strcmp(rows[i].key, world->clouds[n].key) == 0;
        }
    }
    return noted == cloud_count;
}

/* Claim: once a replica is removed, every other one refuses its key, under any number, until it is let in again; one
 * that is released and comes back with another key shuts out the one before, and with the same key none. A
 * number that never was is no member that was removed. */
static void test_the_key_of_a_removed_replica_is_refused(void **state)
{
    (void)state;
    struct world *world = world_create(71);
    for (uint32_t i = 0; i < cloud_count; i++) {
        cloud_kill(&world->clouds[i]);
        cloud_new_key(&world->clouds[i]);
        cloud_start(&world->clouds[i]);
    }
    assert_true(world_until(world, world_ready, 20000));
    assert_true(world_until(world, world_keys_noted, 10000));
    struct cloud *leader = world_leader(world);
    struct cloud *goes = &world->clouds[(leader->number + 1) % cloud_count];
    struct cloud *stays = &world->clouds[(leader->number + 2) % cloud_count];
    const uint64_t number = goes->number + 1;
    char before[65];

    assert_int_equal(world_change(world, stays, MEMBER_REMOVE, 9, ""), CLOUD_CORE_CHANGE_REFUSED);
    assert_int_equal(world_change(world, stays, MEMBER_REMOVE, number, ""), 0);
    world_run(world, 500);
    assert_true(key_is_out(leader, goes->key));
    assert_true(key_is_out(stays, goes->key));
    assert_false(cloud_core_hears_key(stays->core, number, goes->key));
    assert_false(cloud_core_hears_key(stays->core, 7, goes->key));
    assert_true(cloud_core_hears_key(stays->core, leader->number + 1, leader->key));
    assert_int_equal(world_change(world, stays, MEMBER_REMOVE, number, ""), 0); /* again is the same */
    assert_int_equal(world_change(world, stays, MEMBER_REMOVE, 9, ""), CLOUD_CORE_CHANGE_REFUSED);

    cloud_kill(goes);
    cloud_lose_data(goes);
    assert_int_equal(world_change(world, stays, MEMBER_ADMIT, number, ""), 0);
    world_run(world, 500);
    assert_true(cloud_core_hears_key(stays->core, number, goes->key));
    assert_int_equal(world_change(world, stays, MEMBER_ADD, number, addresses[goes->number]), 0);
    cloud_start(goes);
    assert_true(world_until(world, world_keys_noted, 20000));

    for (int same = 1; same >= 0; same--) { /* back with another data directory, as kelp cluster replace does */
        snprintf(before, sizeof before, "%s", goes->key);
        cloud_kill(goes);
        cloud_lose_data(goes);
        assert_int_equal(world_change(world, stays, MEMBER_RELEASE, number, ""), 0);
        assert_false(key_is_out(stays, before));
        if (!same) {
            cloud_new_key(goes);
        }
        assert_int_equal(world_change(world, stays, MEMBER_ADD, number, addresses[goes->number]), 0);
        cloud_start(goes);
        assert_true(world_until(world, world_keys_noted, 20000));
        world_run(world, 3000);
        assert_int_equal(key_is_out(stays, before), !same);
        assert_false(key_is_out(stays, goes->key));
    }
    world_destroy(world);
}

/* What peers.c does with links: whose key is not heard has none, and is told so; a link that is made anew is greeted on. */
static void world_look_at_links(struct world *world)
{
    for (uint32_t i = 0; i < cloud_count * cloud_count; i++) {
        struct cloud *one = &world->clouds[i / cloud_count];
        struct cloud *other = &world->clouds[i % cloud_count];
        if (one == other || one->life == 0 || other->life == 0) {
            continue;
        }
        const bool heard = cloud_core_hears_key(other->core, one->number + 1, one->key);
        const bool hears = cloud_core_hears_key(one->core, other->number + 1, other->key);
        const bool was = world->refused[one->number][other->number];
        world->refused[one->number][other->number] = !heard || !hears;
        if (!heard) {
            cloud_core_shut_out(one->core, other->number + 1, cloud_now(world));
        } else if (hears && was) {
            cloud_core_peer_connected(one->core, other->number + 1);
        }
    }
}

static void world_review(void *context)
{
    struct world *world = context;
    world_look_at_links(world);
    if (world->keyed) {
        sim_after(&world->sim, 1000000, 0, world_review, world);
    }
}

static struct world *world_create_with_keys(uint64_t seed)
{
    struct world *world = world_create(seed);
    for (uint32_t i = 0; i < cloud_count; i++) {
        cloud_kill(&world->clouds[i]);
        cloud_new_key(&world->clouds[i]);
        cloud_start(&world->clouds[i]);
    }
    assert_true(world_until(world, world_ready, 20000));
    assert_true(world_until(world, world_keys_noted, 10000));
    return world;
}

/* Two refuse the key of a third, or one does, about as often as it dials them. Answers whether it leaves. */
static bool cloud_is_refused(struct cloud *cloud, uint64_t by, uint64_t also_by, uint32_t times)
{
    for (uint32_t i = 0; i < times && !cloud->left; i++) {
        cloud_core_shut_out(cloud->core, by, cloud_now(cloud->world));
        if (also_by != 0) {
            cloud_core_shut_out(cloud->core, also_by, cloud_now(cloud->world));
        }
        world_run(cloud->world, 2000);
    }
    return cloud->left;
}

/* Claim: nobody leaves because others refuse its key while it leads or hears somebody, nor when only one of two does,
 * nor for words that are long apart; it does when all that are left of the group say so, and nobody is heard. */
static void test_a_refusal_takes_nobody_out_of_a_group_that_works(void **state)
{
    (void)state;
    struct world *world = world_create_with_keys(72);
    struct cloud *leader = world_leader(world);
    struct cloud *one = &world->clouds[(leader->number + 1) % cloud_count];
    struct cloud *other = &world->clouds[(leader->number + 2) % cloud_count];
    const uint64_t leads = leader->number + 1;
    const uint64_t dies = other->number + 1;

    assert_false(cloud_is_refused(one, dies, 0, 10));
    assert_false(cloud_is_refused(one, dies, leads, 10));
    assert_false(cloud_is_refused(leader, dies, one->number + 1, 10));

    cloud_kill(leader);
    cloud_kill(other);
    world_run(world, 5000); /* it looks for a leader */
    assert_false(cloud_is_refused(one, dies, 0, 10));
    world_run(world, 20000);
    assert_false(cloud_is_refused(one, leads, 0, 1));
    world_run(world, 20000);
    assert_false(cloud_is_refused(one, dies, 0, 10));
    assert_true(cloud_is_refused(one, dies, leads, 10));
    world_destroy(world);
}

/* Claim: a replica whose state is from before a key was let in again hears the member that has it by its log, and so
 * gets what it lacks from it, under the number of that member alone.
 * Method: its state is saved after the removal, the log goes on; it starts alone, and can agree on nothing. */
static void test_who_lags_hears_the_key_that_was_let_in_again(void **state)
{
    (void)state;
    struct world *world = world_create_with_keys(73);
    struct cloud *leader = world_leader(world);
    struct cloud *goes = &world->clouds[(leader->number + 1) % cloud_count];
    struct cloud *stays = &world->clouds[(leader->number + 2) % cloud_count];
    const uint64_t number = goes->number + 1;
    static char text[4096];

    assert_int_equal(world_change(world, stays, MEMBER_REMOVE, number, ""), 0);
    cloud_kill(goes);
    cloud_lose_data(goes);
    for (uint32_t i = 0; i < 80; i++) { /* three times the log between two checkpoints */
        snprintf(text, sizeof text, "{\"v\":\"%0*u\"}", 3000, i);
        assert_int_equal(world_write_config(world, leader, text).status, 0);
    }
    assert_int_equal(world_change(world, stays, MEMBER_ADMIT, number, ""), 0);
    assert_int_equal(world_change(world, stays, MEMBER_ADD, number, addresses[goes->number]), 0);
    world_run(world, 500);
    assert_false(key_is_out(stays, goes->key));

    cloud_kill(leader);
    cloud_kill(stays);
    cloud_start(stays);
    world_run(world, 2000);
    assert_true(key_is_out(stays, goes->key)); /* it cannot know better */
    assert_true(cloud_core_hears_key(stays->core, number, goes->key));
    assert_false(cloud_core_hears_key(stays->core, leader->number + 1, goes->key));
    assert_false(cloud_core_hears_key(stays->core, 7, goes->key));
    cloud_start(leader);
    assert_true(world_until(world, world_ready, 20000));
    world_run(world, 1000);
    assert_false(key_is_out(stays, goes->key));
    world_destroy(world);
}

/* Claim: two members with one key are not noted in turn: the log is at rest, and the one that has it cannot be removed,
 * as the other would be shut out with it.
 * Method: the newest place in the log, before and after seconds in which the links are reviewed. */
static void test_two_members_with_one_key_leave_the_log_at_rest(void **state)
{
    (void)state;
    struct world *world = world_create_with_keys(74);
    struct cloud *leader = world_leader(world);
    struct cloud *one = &world->clouds[(leader->number + 1) % cloud_count];
    struct cloud *twin = &world->clouds[(leader->number + 2) % cloud_count];
    memcpy(twin->key, one->key, sizeof twin->key);
    const uint64_t before = log_index_next(&leader->log);
    for (int i = 0; i < 10; i++) {
        assert_true(cloud_core_hears_key(leader->core, twin->number + 1, twin->key));
        world_run(world, 1000);
    }
    assert_true(log_index_next(&leader->log) - before < 20);
    assert_int_equal(world_change(world, one, MEMBER_REMOVE, one->number + 1, ""), CLOUD_CORE_CHANGE_REFUSED);
    world_destroy(world);
}

/* Claim: a group of one takes its own key for a member's again, though it is one that was removed: as after a restore on
 * the machine of that member. Once it is so, the log is at rest. */
static void test_a_group_of_one_lets_its_own_key_in(void **state)
{
    (void)state;
    struct world *world = world_create_with_keys(75);
    struct cloud *leader = world_leader(world);
    for (uint32_t i = 1; i < cloud_count; i++) {
        struct cloud *goes = &world->clouds[(leader->number + i) % cloud_count];
        assert_int_equal(world_change(world, leader, MEMBER_REMOVE, goes->number + 1, ""), 0);
        cloud_kill(goes);
    }
    cloud_kill(leader);
    memcpy(leader->key, world->clouds[(leader->number + 1) % cloud_count].key, sizeof leader->key);
    cloud_start(leader);
    world_run(world, 10000);
    assert_true(leader == world_leader(world));
    assert_false(key_is_out(leader, leader->key));
    const uint64_t before = log_index_next(&leader->log);
    world_run(world, 10000);
    assert_true(log_index_next(&leader->log) - before < 20);
    world_destroy(world);
}

static bool world_is_led_as_wanted(struct world *world)
{
    struct cloud *leader = world_leader(world);
    return leader != NULL && leader->number == world->wanted;
}

/* A change that may be made only when its member has caught up. */
static void world_change_later(struct world *world, struct cloud *asked, enum member_operation operation,
                               uint64_t number)
{
    int status = CLOUD_CORE_CHANGE_LATER;
    for (int i = 0; i < 100 && status == CLOUD_CORE_CHANGE_LATER; i++) {
        status = world_change(world, asked, operation, number, "");
        world_run(world, 100);
    }
    assert_int_equal(status, 0);
}

/* Claim: of five, one that was away while another was removed and added again under its number comes back, though that
 * one leads: it hears it, by a new key as well as by the old one that was let in again, gets from it what it lacks, and
 * hears nobody else by a key that is out.
 * Method: it goes before the removal, whose key it then knows as a member's (the new one is another), or behind it
 * (the key is let in again). */
static void test_one_of_five_that_was_away_hears_who_was_added_anew(void **state)
{
    (void)state;
    static char text[4096];
    cloud_count = 5;
    for (int same = 0; same < 2; same++) {
        struct world *world = world_create_with_keys(76 + (uint64_t)same);
        struct cloud *leader = world_leader(world);
        struct cloud *goes = &world->clouds[(leader->number + 1) % cloud_count];
        struct cloud *away = &world->clouds[(leader->number + 2) % cloud_count];
        const uint64_t number = goes->number + 1;
        char before[65];
        memcpy(before, goes->key, sizeof before);
        world->keyed = true;
        world_review(world);
        if (!same) {
            cloud_kill(away);
        }
        assert_int_equal(world_change(world, leader, MEMBER_REMOVE, number, ""), 0);
        world_run(world, 500);
        cloud_kill(goes);
        cloud_lose_data(goes);
        goes->left = false;
        if (same) {
            for (uint32_t i = 0; i < 80; i++) { /* three times the log between two checkpoints: its state has it */
                snprintf(text, sizeof text, "{\"v\":\"%0*u\"}", 3000, i);
                assert_int_equal(world_write_config(world, leader, text).status, 0);
            }
            assert_true(key_is_out(away, before));
            cloud_kill(away);
            assert_int_equal(world_change(world, leader, MEMBER_ADMIT, number, ""), 0);
        } else {
            cloud_new_key(goes);
        }
        assert_int_equal(world_change(world, leader, MEMBER_ADD, number, addresses[goes->number]), 0);
        cloud_start(goes);
        world_change_later(world, leader, MEMBER_PROMOTE, number);
        world_change_later(world, leader, MEMBER_TRANSFER, number);
        world->wanted = goes->number;
        assert_true(world_until(world, world_is_led_as_wanted, 5000));
        assert_int_equal(world_write_config(world, goes, "{\"v\":\"while one was away\"}").status, 0);

        cloud_start(away);
        world_look_at_links(world);
        assert_int_equal(key_is_out(away, before), same); /* it cannot know better */
        world_run(world, 10000);
        assert_true(world_is_led_as_wanted(world)); /* nobody was disturbed */
        assert_int_equal(cloud_core_report(away->core).leader, number);
        assert_int_equal(cloud_core_report(away->core).applied, cloud_core_report(goes->core).applied);
        assert_int_equal(cloud_sees(away, number), MEMBER_OK);
        assert_int_equal(cloud_sees(goes, away->number + 1), MEMBER_OK);
        assert_true(cloud_core_hears_key(away->core, number, goes->key));
        assert_int_equal(cloud_core_hears_key(away->core, number, before), same);
        assert_false(away->left || goes->left);
        world->keyed = false;
        world_destroy(world);
    }
    cloud_count = 3;
}

/* Claim: a key is shut out with its replica though it was never seen on a link: that of one which was certified when it
 * joined and never started, and one that is named with the removal; under a number that is no member's, too. What was
 * removed says so when it is removed again, and a key that is out joins no more. */
static void test_a_key_that_was_never_seen_is_shut_out(void **state)
{
    (void)state;
    struct world *world = world_create_with_keys(78);
    struct cloud *leader = world_leader(world);
    struct cloud *asked = world_follower(world);
    char keys[3][65];
    for (uint32_t i = 0; i < 3; i++) {
        snprintf(keys[i], sizeof keys[i], "%064x", 0xabc0 + i);
    }
    assert_int_equal(world_change_key(world, asked, MEMBER_ADD, 4, addresses[3], keys[0]), 0);
    assert_int_equal(world_change_key(world, asked, MEMBER_ADD, 4, addresses[3], keys[0]), 0);
    assert_int_equal(world_change_key(world, asked, MEMBER_ADD, 4, addresses[3], asked->key), CLOUD_CORE_CHANGE_REFUSED);
    assert_false(key_is_out(leader, keys[0]));
    assert_int_equal(world_change_key(world, asked, MEMBER_REMOVE, 8, "", keys[0]), CLOUD_CORE_CHANGE_REFUSED);
    assert_int_equal(world_change_key(world, asked, MEMBER_REMOVE, 4, "", keys[1]), 0);
    assert_true(key_is_out(leader, keys[0]) && key_is_out(leader, keys[1]));
    assert_non_null(strstr(world_said, "replica 4 was removed at 2023-"));
    assert_int_equal(world_change_key(world, asked, MEMBER_ADD, 4, addresses[3], keys[0]), CLOUD_CORE_CHANGE_REFUSED);
    assert_int_equal(world_change_key(world, asked, MEMBER_ADD, 5, addresses[4], keys[1]), CLOUD_CORE_CHANGE_REFUSED);

    assert_int_equal(world_change(world, asked, MEMBER_REMOVE, 9, ""), CLOUD_CORE_CHANGE_REFUSED);
    assert_non_null(strstr(world_said, "--key FILE"));
    assert_int_equal(world_change_key(world, asked, MEMBER_REMOVE, 9, "", leader->key), CLOUD_CORE_CHANGE_REFUSED);
    assert_int_equal(world_change_key(world, asked, MEMBER_REMOVE, 9, "", keys[2]), 0);
    assert_true(key_is_out(leader, keys[2]));
    assert_int_equal(world_change_key(world, asked, MEMBER_REMOVE, 9, "", keys[2]), 0);
    for (uint32_t i = 0; i < LIMIT_MEMBER_KEYS_EACH; i++) { /* with a token for many uses */
        snprintf(keys[0], sizeof keys[0], "%064x", 0xdef0 + i);
        assert_int_equal(world_change_key(world, asked, MEMBER_ADD, 4, addresses[3], keys[0]), 0);
    }
    assert_int_equal(world_change_key(world, asked, MEMBER_ADD, 4, addresses[3], keys[1]), CLOUD_CORE_CHANGE_REFUSED);
    snprintf(keys[0], sizeof keys[0], "%064x", 0xdeef);
    assert_int_equal(world_change_key(world, asked, MEMBER_ADD, 4, addresses[3], keys[0]), CLOUD_CORE_CHANGE_REFUSED);
    assert_non_null(strstr(world_said, "as many as it may be"));
    world_destroy(world);
}

static bool world_edge_refuses(struct world *world)
{
    return !edge_core_hears_key(world->edge.core, world->clouds[world->wanted].key);
}

static bool world_edge_believes(struct world *world)
{
    return world_ready(world) && !world_edge_refuses(world);
}

/* Claim: an edge does not believe a cloudcore that was removed: it is told while its session goes on, knows it after a
 * power loss without any link, and is told when the key is let in again. The others it believes. */
static void test_an_edge_does_not_believe_who_was_removed(void **state)
{
    (void)state;
    struct world *world = world_create_with_keys(79);
    struct edge *edge = &world->edge;
    struct cloud *leader = world_leader(world);
    struct cloud *goes = &world->clouds[(leader->number + 1) % cloud_count];
    goes = goes->number == edge->cloud ? &world->clouds[(leader->number + 2) % cloud_count] : goes;
    const uint64_t session = edge->session;
    world->wanted = goes->number;
    assert_true(world_edge_believes(world));
    assert_int_equal(world_change(world, leader, MEMBER_REMOVE, goes->number + 1, ""), 0);
    cloud_kill(goes);
    assert_true(world_until(world, world_edge_refuses, 5000));
    assert_int_equal(edge->session, session);
    for (uint32_t i = 0; i < cloud_count; i++) {
        assert_true(i == goes->number || edge_core_hears_key(edge->core, world->clouds[i].key));
    }

    world_cut(world, true);
    edge_kill(edge);
    edge_start(edge);
    assert_true(world_edge_refuses(world));
    assert_int_equal(world_change(world, leader, MEMBER_ADMIT, goes->number + 1, ""), 0);
    world_run(world, 3000);
    assert_true(world_edge_refuses(world));
    world_cut(world, false);
    assert_true(world_until(world, world_edge_believes, 20000));
    world_destroy(world);
}

/* Claim: sessions are taken as long as the report of all of them is one frame, and of names such as our own certificates
 * hold that is LIMIT_SESSIONS. Method: names of one size until one is refused; then that report is made. */
static void test_a_report_holds_all_sessions(void **state)
{
    (void)state;
    enum { FIRST = 1000000 };
    static const uint32_t sizes[] = {51, LIMIT_NAME_BYTES};
    struct world *world = world_create(91);
    assert_true(world_until(world, world_ready, 20000));
    struct cloud *cloud = world_leader(world);
    struct codec *codec = codec_create();
    const char **names = calloc(LIMIT_SESSIONS, sizeof *names);
    uint64_t *epochs = calloc(LIMIT_SESSIONS, sizeof *epochs);
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t count = 0;
        char name[LIMIT_NAME_BYTES + 1];
        int status = 0;
        while (status == 0) {
            (void)snprintf(name, sizeof name, "%0*u", (int)sizes[i], count);
            status = cloud_core_session_open(cloud->core, FIRST + count, name, cloud_now(world));
            if (status == 0) {
                assert_true(count < LIMIT_SESSIONS);
                names[count++] = strdup(name);
            }
        }
        assert_int_equal(status, STATUS_FULL);
        assert_true(sizes[i] > 51 ||
                    count >= LIMIT_SESSIONS - 1); /* the edge of the world is one */
        struct bytes body;
        struct bytes frame;
        codec_reset(codec);
        assert_int_equal(codec_sessions_build(codec,
                                              &(struct sessions){
                                                  .replica = 1,
                                                  .full = true,
                                                  .opened = names,
                                                  .epochs = epochs,
                                                  .opened_count = count,
                                              },
                                              &body),
                         0);
        assert_int_equal(codec_frame_build(codec, WIRE_SESSIONS, body, &frame), 0);
        for (uint32_t j = 0; j < count; j++) {
            cloud_core_session_closed(cloud->core, FIRST + j, cloud_now(world));
            free((char *)names[j]);
        }
    }
    free(epochs);
    free(names);
    codec_destroy(codec);
    world_destroy(world);
}

/* libraft gives nothing back after a crash of the simulation: its raft_close may free twice. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:raft_memory\nleak:libraft\nleak:replica_\n";
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pod_reaches_the_edge_and_its_status_comes_back),
        cmocka_unit_test(test_outage_is_a_pause),
        cmocka_unit_test(test_loss_of_a_cloudcore_loses_nothing),
        cmocka_unit_test(test_a_leader_that_stops_is_not_missed),
        cmocka_unit_test(test_the_level_rises_with_the_last_member),
        cmocka_unit_test(test_deleted_node_comes_back_clean),
        cmocka_unit_test(test_the_newer_of_two_sessions_owns_the_node),
        cmocka_unit_test(test_replicas_of_another_cluster_are_not_heard),
        cmocka_unit_test(test_who_lost_its_data_does_not_vote),
        cmocka_unit_test(test_the_key_of_a_removed_replica_is_refused),
        cmocka_unit_test(test_a_refusal_takes_nobody_out_of_a_group_that_works),
        cmocka_unit_test(test_who_lags_hears_the_key_that_was_let_in_again),
        cmocka_unit_test(test_two_members_with_one_key_leave_the_log_at_rest),
        cmocka_unit_test(test_a_group_of_one_lets_its_own_key_in),
        cmocka_unit_test(test_one_of_five_that_was_away_hears_who_was_added_anew),
        cmocka_unit_test(test_a_key_that_was_never_seen_is_shut_out),
        cmocka_unit_test(test_an_edge_does_not_believe_who_was_removed),
        cmocka_unit_test(test_a_report_holds_all_sessions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
