/* One cloudcore of the simulation. */
#include "statemachine/machine.h"
#include "tests/sim/spine.h"

static int cloud_send_peer(void *context, uint64_t replica, struct bytes frame)
{
    struct cloud *cloud = context;
    world_send_peer(cloud->process.world, cloud->process.number, (uint32_t)replica - 1, frame);
    return 0;
}

static int cloud_send_session(void *context, uint64_t session, struct bytes frame)
{
    struct cloud *cloud = context;
    return connection_send(connection_find(cloud->process.world, session), false, frame);
}

static bool cloud_session_room(void *context, uint64_t session)
{
    struct cloud *cloud = context;
    return connection_room(connection_find(cloud->process.world, session), false);
}

static void cloud_close_session(void *context, uint64_t session)
{
    struct cloud *cloud = context;
    struct connection *connection = connection_find(cloud->process.world, session);
    if (connection != NULL) {
        connection_close(connection, false);
    }
}

static void cloud_on_fetched(void *context)
{
    struct cloud *cloud = context;
    process_kill(&cloud->process, DISK_SIM_POWER, 200 * MS);
}

static void cloud_log(void *context, enum logger_level level, const char *event, const char *pairs)
{
    struct cloud *cloud = context;
    (void)level;
    struct world *world = cloud->process.world;
    world->fetches += strcmp(event, "transfer_started") == 0;
    world->resumes += strcmp(event, "transfer_resumed") == 0;
    world->exchanges += strcmp(event, "state_exchanged") == 0;
    if (strcmp(event, "state_fetched") == 0 && world->trouble && sim_below(&world->sim, 2) == 0) {
        /* from here until raft has dropped its log, and the stores are exchanged, it is not long */
        sim_after(&world->sim, sim_below(&world->sim, 400), cloud->process.life, cloud_on_fetched,
                  cloud);
    }
    spine_story(world, cloud->process.name, "%s %s", event, pairs);
}

static void cloud_random(void *context, void *buffer, size_t size)
{
    world_random(((struct cloud *)context)->process.world, buffer, size);
}

static struct tag tag_of(uint64_t low, struct bytes bytes)
{
    for (size_t i = 0; i < bytes.size; i++) {
        low = (low ^ bytes.data[i]) * 1099511628211u;
    }
    return (struct tag){.low = low, .high = low * 0x9e3779b97f4a7c15u};
}

struct tag spine_tag(struct bytes key, const struct object *object)
{
    char rest[256];
    snprintf(rest, sizeof rest, "%s %s %lld %u", object->uid,
             object->node_name == NULL ? "" : object->node_name,
             (long long)object->deletion_time_ms, object_value(object));
    return tag_of(tag_of(tag_of(14695981039346656037u, key).low, object->json).low,
                  bytes_text(rest));
}

static struct tag cloud_tag(void *context, struct bytes key, struct bytes json)
{
    (void)context;
    return tag_of(tag_of(14695981039346656037u, key).low, json);
}

struct cloud_work {
    struct cloud *cloud;
    uint64_t life;
    struct replica_work *work;
};

static void cloud_on_work(void *context)
{
    struct cloud_work *run = context;
    if (run->cloud->process.life == run->life) {
        run->work->work(run->work);
        run->work->done(run->work);
        run->cloud->process.poked = true;
    }
    free(run);
}

static void cloud_run_work(void *context, struct replica_work *work)
{
    struct cloud *cloud = context;
    struct cloud_work *run = malloc(sizeof *run);
    CHECK(run != NULL);
    *run = (struct cloud_work){.cloud = cloud, .life = cloud->process.life, .work = work};
    struct sim *sim = &cloud->process.world->sim;
    sim_after(sim, sim_between(sim, 500, 30000), 0, cloud_on_work, run);
}

static void cloud_leading(void *context, bool leads)
{
    struct cloud *cloud = context;
    cloud->process.world->elections += leads;
    spine_story(cloud->process.world, cloud->process.name, leads ? "LEADS" : "leads no longer");
}

static void cloud_fatal(void *context, int status, const char *message)
{
    struct cloud *cloud = context;
    spine_fail(cloud->process.world, "fatal", "%s: %d %s", cloud->process.name, status, message);
}

/* -- the second place of the state --------------------------------------------------------------- */

static int cloud_staging_open(void *context, bool anew, struct store **out)
{
    struct cloud *cloud = context;
    CHECK(cloud->staging == NULL);
    if (anew) {
        store_sim_destroy(cloud->beside);
        cloud->beside = store_sim_create();
    }
    const int status = store_sim_open(cloud->beside, MACHINE_NAME, MACHINE_FORMAT, out);
    cloud->staging = *out;
    return status;
}

static int cloud_staging_adopt(void *context, struct store *staging)
{
    struct cloud *cloud = context;
    struct process *process = &cloud->process;
    struct store_sim *disk = process->store_disk;
    CHECK(staging == cloud->staging);
    process->store_disk = cloud->beside;
    cloud->beside = disk;
    cloud->staging = process->store;
    process->store = staging;
    return 0;
}

static void cloud_staging_drop(void *context, struct store *store)
{
    struct cloud *cloud = context;
    CHECK(store == cloud->staging);
    store_close(store);
    cloud->staging = NULL;
    store_sim_destroy(cloud->beside);
    cloud->beside = store_sim_create();
}

/* -- objects without JSON of the API door ------------------------------------------------------ */

int spine_build_put(struct codec *codec, uint8_t mode, uint64_t if_version,
                    const struct object *object, struct bytes *out)
{
    struct bytes body;
    struct object full = *object;
    full.version = "v1";
    const char *key = codec_print(codec, "/%s/%s/%s", full.resource,
                                  full.namespace_ == NULL ? "" : full.namespace_, full.name);
    full.tag = spine_tag(bytes_text(key), &full);
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

static const char *uid_new(const struct backend *backend, struct codec *codec)
{
    uint32_t number;
    backend->random(backend->owner, &number, sizeof number);
    return codec_print(codec, "uid-%08x", number);
}

static int build_node(const struct backend *backend, struct codec *codec, const char *name,
                      const struct pair *labels, uint32_t label_count, struct bytes *out)
{
    return spine_build_put(codec, PUT_CREATE, 0,
                           &(struct object){
                               .kind = "Node",
                               .resource = "nodes",
                               .name = name,
                               .uid = uid_new(backend, codec),
                               .labels = labels,
                               .label_count = label_count,
                               .json = bytes_text("{}"),
                           },
                           out);
}

static int build_namespace(const struct backend *backend, struct codec *codec, const char *name,
                           struct bytes *out)
{
    return spine_build_put(codec, PUT_CREATE, 0,
                           &(struct object){
                               .kind = "Namespace",
                               .resource = "namespaces",
                               .name = name,
                               .uid = uid_new(backend, codec),
                               .json = bytes_text("{}"),
                           },
                           out);
}

static int build_binding(const struct backend *backend, struct codec *codec,
                         const struct backend_row *pod, const char *node, struct bytes *out)
{
    struct object_put put;
    (void)backend;
    const int status = codec_object_put_read(codec, codec_aligned(codec, pod->wish), &put);
    if (status != 0) {
        return status;
    }
    put.object.node_name = node;
    return spine_build_put(codec, PUT_UPDATE, pod->wish_version, &put.object, out);
}

static bool pod_fits(const struct backend_row *pod, const struct backend_row *node,
                     const char **out_why)
{
    (void)pod;
    (void)node;
    (void)out_why;
    return true;
}

/* -- life -------------------------------------------------------------------------------------- */

void cloud_start(struct cloud *cloud)
{
    struct process *process = &cloud->process;
    struct world *world = process->world;
    struct disk *disk = process_disk(process, world->canary == CANARY_SYNC_CLOUD);
    /* small, so that they are trimmed soon; what an edge says at once after a while still fits one */
    const uint32_t away_bytes = (world->devices ? 8 : 4) * SEGMENT_BYTES_MIN;
    const struct log_options options = {
        .directory = "log",
        .segment_bytes = world->profile == PROFILE_AWAY ? away_bytes : SPINE_SEGMENT_BYTES,
    };
    struct log_recovery recovery;
    int status = log_open(&cloud->process.log, disk, &options, &recovery);
    if (status == 0) {
        status = store_sim_open(process->store_disk, MACHINE_NAME, MACHINE_FORMAT, &process->store);
    }
    if (status != 0) {
        spine_fail(world, "open", "%s: %d", process->name, status);
    }
    process->life = sim_owner_new(&world->sim);
    cloud->may_list = true;
    if (world->canary != CANARY_BOOT || cloud->boots == 0) {
        cloud->boots++;
    }
    static const char *const addresses[CLOUDS] = {"one:1", "two:1", "three:1"};
    for (uint32_t i = 0; i < CLOUDS; i++) {
        cloud->peers[i] = (struct cloud_core_peer){.replica = i + 1, .address = addresses[i]};
    }
    static const uint32_t budgets[] = {1, 4, 256};
    const struct cloud_core_config config = {
        .replica = process->number + 1,
        .boot_count = cloud->boots,
        .level = cloud->level,
        .name = process->name,
        .peers = cloud->peers,
        .peer_count = CLOUDS,
        .seed = sim_random(&world->sim),
        .heartbeat_ms = SPINE_HEARTBEAT_MS,
        .unreachable_ms = SPINE_UNREACHABLE_MS,
        .propose_ms = 5000,
        .election_ms = 300,
        .raft_heartbeat_ms = 50,
        .apply_budget = budgets[sim_below(&world->sim, 3)],
        .snapshot_bytes = world->profile == PROFILE_AWAY ? 16 * 1024 : 256 * 1024,
        .transfer_range_bytes = 4096,
    };
    const struct cloud_core_objects objects = {
        .build_node = build_node,
        .build_binding = build_binding,
        .pod_fits = pod_fits,
        .build_namespace = build_namespace,
    };
    const struct cloud_core_ops ops = {
        .context = cloud,
        .send_peer = cloud_send_peer,
        .send_session = cloud_send_session,
        .session_room = cloud_session_room,
        .close_session = cloud_close_session,
        .log = cloud_log,
        .random = cloud_random,
        .tag = cloud_tag,
        .run = cloud_run_work,
        .leading = cloud_leading,
        .fatal = cloud_fatal,
        .staging_open = cloud_staging_open,
        .staging_adopt = cloud_staging_adopt,
        .staging_drop = cloud_staging_drop,
    };
    char reason[256] = "";
    if (cloud_core_open(&config, &objects, &ops, process->store, &process->log,
                        world_cloud_now(world), &cloud->core, reason) != 0) {
        spine_fail(world, "open", "%s: %s", process->name, reason);
    }
    cloud->devices = world->devices ? devices_open(cloud_core_backend(cloud->core)) : NULL;
}

void cloud_die(struct cloud *cloud, enum disk_sim_crash how)
{
    struct process *process = &cloud->process;
    struct world *world = process->world;
    sim_cancel_owner(&world->sim, process->life);
    process->life = 0;
    disk_sim_crash(&process->disk, how);
    store_sim_crash(process->store_disk, sim_random(&world->sim));
    if (cloud->staging != NULL) {
        store_sim_crash(cloud->beside, sim_random(&world->sim));
    }
    cloud_core_close(cloud->core);
    cloud->core = NULL;
    cloud->devices = NULL; /* lost: it may wait for an answer */
    store_close(process->store);
    store_close(cloud->staging);
    process->store = NULL;
    cloud->staging = NULL;
    log_forget(&process->log);
    world_break_connections(process, how != DISK_SIM_KILL);
    clients_cloud_died(world, cloud);
}

struct cloud *world_leader(struct world *world)
{
    for (uint32_t i = 0; i < CLOUDS; i++) {
        if (world->clouds[i].process.life != 0 && cloud_core_report(world->clouds[i].core).leads) {
            return &world->clouds[i];
        }
    }
    return NULL;
}

/* Somebody who watches everything at this replica, and comes back to it after its death. What was before that is told
 * by the others: this one's history begins where its process did, or with the state that it was given. */
static void cloud_on_change(void *context, const struct backend_change *change)
{
    struct cloud *cloud = context;
    struct world *world = cloud->process.world;
    if (world->canary == CANARY_LISTING && cloud->watched > 100 && sim_chance(&world->sim, 2000)) {
        return;
    }
    check_told(cloud, cloud->watched, change->version);
    cloud->watched = change->version;
    check_change(cloud, change);
}

static void cloud_watch(struct cloud *cloud)
{
    struct world *world = cloud->process.world;
    const struct backend *backend = cloud_core_backend(cloud->core);
    cloud->may_list = cloud->may_list || cloud_core_report(cloud->core).behind;
    while (backend->version(backend->owner) > cloud->watched) {
        const uint64_t before = cloud->watched;
        uint64_t reached = before;
        const int status =
            backend->changes(backend->owner, cloud->watched, 64, cloud_on_change, cloud, &reached);
        if (status == BACKEND_EXPIRED && cloud->may_list) {
            cloud->watched = backend->version(backend->owner);
            break;
        }
        cloud->may_list = false;
        if (status != 0) {
            spine_fail(world, "watch", "%s answers %d from %llu", cloud->process.name, status,
                       (unsigned long long)cloud->watched);
        }
        if (reached > cloud->watched) {
            check_told(cloud, cloud->watched, reached + 1); /* the last ones are events let go */
            cloud->watched = reached;
        }
        if (reached != cloud->watched || reached == before) {
            spine_fail(world, "watch", "%s says it told up to %llu, and told %llu",
                       cloud->process.name, (unsigned long long)reached,
                       (unsigned long long)cloud->watched);
        }
    }
}

uint64_t cloud_turn(struct cloud *cloud)
{
    struct world *world = cloud->process.world;
    log_tick(&cloud->process.log, world_cloud_now(world).wall_ms);
    uint64_t next_ms = cloud_core_run(cloud->core, world_cloud_now(world));
    if (cloud->devices != NULL && devices_run(cloud->devices)) {
        next_ms = world_cloud_now(world).mono_ms;
    }
    cloud_watch(cloud);
    check_digest(cloud);
    check_inbox(cloud);
    return next_ms;
}
