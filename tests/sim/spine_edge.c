/* One edgecore of the simulation, and the machine it runs on. */
#include "nodes/edge/core_inner.h"
#include "statemachine/edge.h"
#include "tests/sim/spine.h"

#include <errno.h>

/* -- link -------------------------------------------------------------------------------------- */

static void edge_dial(void *context, uint32_t address)
{
    world_dial(context, address);
}

/* The canary: the newest event that went up goes up again on the next link, under a number that is free. */
static struct bytes edge_repeat(struct edge *edge, struct codec *codec, struct bytes frame)
{
    uint16_t kind = WIRE_NONE;
    struct bytes body;
    struct batch batch;
    if (codec_frame_read(codec, codec_aligned(codec, frame), &kind, &body) != 0 ||
        kind != WIRE_APPEND || codec_batch_read(codec, body, &batch) != 0 ||
        batch.record_count == 0) {
        return frame;
    }
    if (edge->again != NULL && edge->again_link != edge->connection &&
        batch.records[0].sequence > batch.previous + 1) {
        struct sequenced *records = codec_array(codec, batch.record_count + 1, sizeof *records);
        memcpy(records + 1, batch.records, batch.record_count * sizeof *records);
        records[0] = (struct sequenced){
            .sequence = batch.previous + 1,
            .record = codec_copy(codec, bytes_of(edge->again, edge->again_size))};
        batch.records = records;
        batch.record_count++;
        CHECK(codec_batch_build(codec, &batch, &body) == 0);
        CHECK(codec_frame_build(codec, WIRE_APPEND, body, &frame) == 0);
        edge->again_link = edge->connection;
        return frame;
    }
    for (uint32_t i = 0; i < batch.record_count; i++) {
        struct record record;
        const struct bytes bytes = batch.records[i].record;
        if (codec_record_read(codec, bytes, &record) == 0 && record.kind == RECORD_MQTT_MESSAGE) {
            free(edge->again);
            edge->again = malloc(bytes.size);
            CHECK(edge->again != NULL);
            memcpy(edge->again, bytes.data, bytes.size);
            edge->again_size = bytes.size;
            edge->again_link = edge->connection;
        }
    }
    return frame;
}

static int edge_send(void *context, struct bytes frame)
{
    struct edge *edge = context;
    if (edge->process.world->canary == CANARY_AGAIN) {
        struct codec *codec = codec_create();
        const int status = connection_send(edge->connection, true, edge_repeat(edge, codec, frame));
        codec_destroy(codec);
        return status;
    }
    return connection_send(edge->connection, true, frame);
}

static bool edge_room(void *context)
{
    struct edge *edge = context;
    return connection_room(edge->connection, true);
}

static void edge_close_link(void *context)
{
    struct edge *edge = context;
    if (edge->connection != NULL) {
        connection_close(edge->connection, true);
    } else if (edge->dials != 0) {
        edge->dial_given_up = true;
    }
}

static void edge_log(void *context, enum logger_level level, const char *event, const char *pairs)
{
    struct edge *edge = context;
    (void)level;
    spine_story(edge->process.world, edge->process.name, "%s %s", event, pairs);
}

static void edge_random(void *context, void *buffer, size_t size)
{
    world_random(((struct edge *)context)->process.world, buffer, size);
}

/* -- runtime ----------------------------------------------------------------------------------- */

/* Claim: what is created was recorded, in the state that survives us, with this number or a higher. */
static void edge_check_attempt(struct edge *edge, const char *uid, const char *container,
                               uint32_t attempt)
{
    const struct pod_attempt *attempts = NULL;
    uint32_t count = 0;
    codec_reset(edge->codec);
    if (edge_attempts_list(edge->core->machine, uid, edge->codec, &attempts, &count) == 0) {
        for (uint32_t i = 0; i < count; i++) {
            if (strcmp(attempts[i].container, container) == 0 && attempts[i].attempt >= attempt) {
                return;
            }
        }
    }
    spine_fail(edge->process.world, "attempts", "%s creates %s/%s attempt %u without a record",
               edge->process.name, uid, container, attempt);
}

static int edge_runtime_call(void *context, uint64_t id, const struct driver_call *call)
{
    struct edge *edge = context;
    struct world *world = edge->process.world;
    if (call->verb == DRIVER_SANDBOX_RUN) {
        edge_check_attempt(edge, call->sandbox->pod_uid, "", call->sandbox->attempt);
        struct uid *uid = check_uid(world, call->sandbox->pod_uid);
        if (uid->node != 0 && uid->node != edge->process.number + 1) {
            spine_fail(world, "placement", "%s runs on two nodes", uid->uid);
        }
        uid->node = edge->process.number + 1;
    } else if (call->verb == DRIVER_CONTAINER_CREATE) {
        edge_check_attempt(edge, call->sandbox->pod_uid, call->container->name,
                           call->container->attempt);
        spine_story(world, edge->process.name, "creates %s/%s attempt %u", call->sandbox->pod_uid,
                    call->container->name, call->container->attempt);
    }
    return edge->door.driver.call(&edge->door.driver, id, call);
}

static void edge_on_answer(void *owner, uint64_t id, const struct driver_answer *answer)
{
    struct edge *edge = owner;
    struct world *world = edge->process.world;
    struct driver_answer changed = *answer;
    if (world->canary == CANARY_RUNTIME && answer->verb == DRIVER_LIST && answer->status == 0 &&
        answer->list.container_count > 1 && sim_chance(&world->sim, 50000)) {
        changed.list.container_count--;
    }
    edge_core_on_answer(edge->core, id, &changed, world_edge_now(world));
    edge->process.poked = true;
}

struct files {
    struct edge *edge;
    bool removed;
    char uid[64];
};

static void edge_on_files(void *context)
{
    struct files *files = context;
    struct edge *edge = files->edge;
    if (files->removed) {
        edge_core_on_removed(edge->core, files->uid, 0, "", world_edge_now(edge->process.world));
    } else {
        edge_core_on_volumes(edge->core, files->uid, 0, "", world_edge_now(edge->process.world));
    }
    edge->process.poked = true;
    free(files);
}

static int edge_files(struct edge *edge, const char *uid, bool removed)
{
    struct files *files = calloc(1, sizeof *files);
    CHECK(files != NULL);
    files->edge = edge;
    files->removed = removed;
    snprintf(files->uid, sizeof files->uid, "%s", uid);
    struct sim *sim = &edge->process.world->sim;
    sim_after(sim, sim_between(sim, 200, 20000), edge->process.life, edge_on_files, files);
    return 0;
}

static int edge_volumes_prepare(void *context, const struct pod_spec *spec,
                                const struct pod_facts *facts)
{
    (void)facts;
    return edge_files(context, spec->uid, false);
}

static int edge_volumes_remove(void *context, const char *uid, const char *namespace,
                               const char *name)
{
    (void)namespace;
    (void)name;
    return edge_files(context, uid, true);
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

/* -- the rest ---------------------------------------------------------------------------------- */

static void edge_on_flush(void *context)
{
    struct edge *edge = context;
    edge_core_flushed(edge->core, store_flush(edge->process.store));
    edge->process.poked = true;
}

static void edge_flush(void *context)
{
    struct edge *edge = context;
    struct sim *sim = &edge->process.world->sim;
    sim_after(sim, sim_between(sim, 500, 50000), edge->process.life, edge_on_flush, edge);
}

static int edge_bus_publish(void *context, uint32_t broker, uint64_t id, const char *topic,
                            struct bytes payload)
{
    return broker_publish(context, broker, id, topic, payload);
}

static void edge_fatal(void *context, int status, const char *message)
{
    struct edge *edge = context;
    spine_fail(edge->process.world, "fatal", "%s: %d %s", edge->process.name, status, message);
}

/* CANARY_ROW: what a flush had covered is not all there after a crash. */
static void edge_lose_row(struct edge *edge)
{
    struct process *process = &edge->process;
    struct store_iterator *iterator =
        store_iterate(store_live(process->store), EDGE_TABLE_WISH_A, bytes_of(NULL, 0));
    uint8_t key[LIMIT_STORE_KEY_BYTES];
    size_t size = 0;
    if (store_iterator_last(iterator)) {
        size = store_iterator_key(iterator).size;
        memcpy(key, store_iterator_key(iterator).data, size);
    }
    store_iterator_close(iterator);
    if (size > 0) {
        store_begin(process->store);
        store_remove(process->store, EDGE_TABLE_WISH_A, bytes_of(key, size));
        CHECK(store_commit(process->store, store_position(process->store)) == 0);
    }
}

/* The newest report of a device that has to go up.
 *   answers  whether there is one */
static bool edge_report_find(const struct edge *edge, uint8_t key[static 8])
{
    struct store_iterator *iterator =
        store_iterate(store_live(edge->process.store), EDGE_TABLE_UP, bytes_of(NULL, 0));
    bool on = store_iterator_last(iterator);
    while (on && get_le32(store_iterator_value(iterator).data + 4) != RECORD_DEVICE_STATUS) {
        on = store_iterator_previous(iterator);
    }
    if (on) {
        memcpy(key, store_iterator_key(iterator).data, 8);
    }
    store_iterator_close(iterator);
    return on;
}

/* CANARY_REPORT: the reports of devices that had to go up are not there after a crash. */
static void edge_lose_reports(struct edge *edge)
{
    struct store *store = edge->process.store;
    uint8_t key[8];
    while (edge_report_find(edge, key)) {
        store_begin(store);
        store_remove(store, EDGE_TABLE_UP, bytes_of(key, sizeof key));
        CHECK(store_commit(store, store_position(store)) == 0);
    }
}

void edge_start(struct edge *edge)
{
    struct process *process = &edge->process;
    struct world *world = process->world;
    const struct log_options options = {.directory = "log", .segment_bytes = SPINE_SEGMENT_BYTES};
    struct log_recovery recovery;
    struct disk *disk = process_disk(process, world->canary == CANARY_SYNC_EDGE);
    process->disk.capacity_bytes = UINT64_MAX; /* a start finds the reserve (nodes/space.h) */
    int status = log_open(&process->log, disk, &options, &recovery);
    if (status == 0) {
        status = store_sim_open(process->store_disk, "edge", EDGE_FORMAT, &process->store);
    }
    if (status != 0) {
        spine_fail(world, "open", "%s: %d", process->name, status);
    }
    process->life = sim_owner_new(&world->sim);
    if (world->canary == CANARY_ROW && process->deaths > 0) {
        edge_lose_row(edge);
    }
    edge->connection = NULL;
    edge->dials = 0;
    runtime_sim_connect(&edge->runtime, &edge->door);
    edge->door.driver.on_answer = edge_on_answer;
    edge->door.driver.owner = edge;
    const struct edge_core_config config = {
        .node = process->name,
        .pods = {.node_name = process->name,
                 .host_ip = "10.0.0.1",
                 .root = "/none",
                 .cgroup_root = "",
                 .node_cpu_milli = 4000,
                 .node_memory_bytes = INT64_C(4) << 30},
        .address_count = CLOUDS,
        .backoff_ms_max = 1000,
        .software = "test",
        .flush_ms = 500,
        .bus = {.broker_count = edge->broker_count,
                .brokers = {"one", "two"},
                .topics = edge->topics,
                .window_ms = edge->window_ms},
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
        .bus_publish = edge_bus_publish,
        .flush_store = edge_flush,
        .fatal = edge_fatal,
    };
    char reason[256] = "";
    if (edge_core_open(&config, &ops, process->store, &process->log, world_edge_now(world),
                       &edge->core, reason) != 0) {
        spine_fail(world, "open", "%s: %s", process->name, reason);
    }
    if (world->canary == CANARY_REPORT && process->deaths > 0) {
        edge_lose_reports(edge);
    }
    check_edge_began(edge);
    brokers_edge_started(edge);
}

void edge_die(struct edge *edge, enum disk_sim_crash how)
{
    struct process *process = &edge->process;
    struct world *world = process->world;
    sim_cancel_owner(&world->sim, process->life);
    process->life = 0;
    runtime_sim_disconnect(&edge->door);
    brokers_edge_died(edge);
    disk_sim_crash(&process->disk, how);
    store_sim_crash(process->store_disk, sim_random(&world->sim));
    edge_core_close(edge->core);
    edge->core = NULL;
    store_close(process->store);
    process->store = NULL;
    log_forget(&process->log);
    world_break_connections(process, how != DISK_SIM_KILL);
    if (how != DISK_SIM_KILL) {
        edge->sandboxes_died = true;
        runtime_sim_reboot(&edge->runtime);
    }
}

/* CANARY_REPORT: it dies while something has to go up, and nothing is said or wished that would hide what was lost. */
static void edge_on_short_life(void *context)
{
    struct edge *edge = context;
    for (uint32_t i = 0; i < DEVICES; i++) {
        edge->process.world->known[i].silent_us = 0;
    }
    process_kill(&edge->process, DISK_SIM_KILL, 100 * MS);
}

uint64_t edge_turn(struct edge *edge)
{
    struct world *world = edge->process.world;
    static const struct condition ready = {
        .type = "Ready", .status = CONDITION_TRUE, .reason = "EdgeReady"};
    static const struct pair allocatable[] = {{"cpu", "4"}, {"memory", "4Gi"}, {"pods", "110"}};
    const struct node_status status = {
        .conditions = &ready,
        .condition_count = 1,
        .allocatable = allocatable,
        .allocatable_count = 3,
    };
    edge_core_node_status(edge->core, &status, world_edge_now(world));
    const uint64_t next_ms = edge_core_run(edge->core, world_edge_now(world));
    check_edge_said(edge);
    uint8_t key[8];
    if (world->canary == CANARY_REPORT && world->trouble && sim_chance(&world->sim, 20000) &&
        edge_report_find(edge, key)) {
        sim_after(&world->sim, 0, edge->process.life, edge_on_short_life, edge);
    }
    if (edge_core_report(edge->core).digest_alarms > 0) {
        spine_fail(world, "digest", "%s: the digests differed at the same sequence",
                   edge->process.name);
    }
    return next_ms;
}
