/* What goes wrong in a seed, and when. */
#include "tests/sim/spine.h"

static uint64_t below(struct world *world, uint64_t bound)
{
    return sim_below(&world->sim, bound);
}

static uint64_t between(struct world *world, uint64_t low, uint64_t high)
{
    return sim_between(&world->sim, low, high);
}

static enum disk_sim_crash any_death(struct world *world)
{
    return (enum disk_sim_crash)below(world, 4);
}

static void fault_cloud(struct world *world)
{
    process_kill(&world->clouds[below(world, CLOUDS)].process, any_death(world),
                 between(world, 50 * MS, 4 * SECOND));
}

static void fault_leader(struct world *world)
{
    struct cloud *leader = world_leader(world);
    if (leader != NULL) {
        process_kill(&leader->process, any_death(world), between(world, 50 * MS, 4 * SECOND));
    }
}

static void fault_all_clouds(struct world *world)
{
    for (uint32_t i = 0; i < CLOUDS; i++) {
        process_kill(&world->clouds[i].process, any_death(world),
                     between(world, 50 * MS, 2 * SECOND));
    }
}

static void fault_edge(struct world *world)
{
    process_kill(&world->edges[below(world, EDGES)].process, any_death(world),
                 between(world, 50 * MS, 6 * SECOND));
}

static void fault_leave(struct world *world)
{
    const uint64_t place = below(world, CLOUDS + EDGES);
    struct process *process = place < CLOUDS ? &world->clouds[place].process
                                             : &world->edges[place - CLOUDS].process;
    process_leave(process, between(world, 50 * MS, 3 * SECOND));
}

static void fault_leave_leader(struct world *world)
{
    struct cloud *leader = world_leader(world);
    if (leader != NULL) {
        process_leave(&leader->process, between(world, 50 * MS, 3 * SECOND));
    }
}

static void fault_everybody(struct world *world)
{
    fault_all_clouds(world);
    for (uint32_t i = 0; i < EDGES; i++) {
        process_kill(&world->edges[i].process, any_death(world),
                     between(world, 50 * MS, 3 * SECOND));
    }
}

struct mend {
    struct world *world;
    uint32_t number;
};

static void mend_edge(void *context)
{
    struct mend *mend = context;
    spine_story(mend->world, "world", "link of edge-%u mended", mend->number + 1);
    world_mend_edge(mend->world, mend->number);
    free(mend);
}

static void mend_peers(void *context)
{
    struct mend *mend = context;
    spine_story(mend->world, "world", "cloudcores hear each other");
    memset(mend->world->peer_cut, 0, sizeof mend->world->peer_cut);
    mend->world->peer_loss = 0;
    for (uint32_t i = 0; i < CLOUDS; i++) {
        for (uint32_t j = 0; j < CLOUDS; j++) {
            struct cloud *cloud = &mend->world->clouds[i];
            if (i != j && cloud->process.life != 0) {
                cloud_core_peer_connected(cloud->core, j + 1);
                cloud->process.poked = true;
            }
        }
    }
    free(mend);
}

static void mend_runtime(void *context)
{
    struct mend *mend = context;
    struct runtime_sim *runtime = &mend->world->edges[mend->number].runtime;
    runtime->down = false;
    runtime->refuse_per_million = 0;
    runtime->unknown_per_million = 0;
    runtime->lost_per_million = 0;
    free(mend);
}

static void mend_after(struct world *world, uint64_t us, uint32_t number, void (*mend)(void *))
{
    struct mend *context = malloc(sizeof *context);
    CHECK(context != NULL);
    *context = (struct mend){.world = world, .number = number};
    sim_after(&world->sim, us, 0, mend, context);
}

static void fault_link(struct world *world)
{
    const uint32_t edge = (uint32_t)below(world, EDGES);
    const uint64_t direction = below(world, 4); /* 0, 1: both; 2: up; 3: down */
    const uint64_t which = below(world, 2 * CLOUDS);
    const uint64_t us = between(world, 100 * MS, 12 * SECOND);
    world->tears[edge] = below(world, 2) == 0;
    for (uint32_t i = 0; i < CLOUDS; i++) {
        if (which >= CLOUDS || which == i) {
            world_cut_edge(world, edge, i, direction != 3, direction != 2);
        }
    }
    spine_story(world, "world", "link of edge-%u cut: %s %s %s, %llu ms", edge + 1,
                which >= CLOUDS ? "all" : world->clouds[which].process.name,
                direction == 2   ? "up"
                : direction == 3 ? "down"
                                 : "both ways",
                world->tears[edge] ? "loses" : "delays", (unsigned long long)(us / MS));
    mend_after(world, us, edge, mend_edge);
}

static void fault_partition(struct world *world)
{
    const uint32_t alone = (uint32_t)below(world, CLOUDS);
    const uint64_t direction = below(world, 4);
    const uint64_t us = between(world, 200 * MS, 8 * SECOND);
    for (uint32_t i = 0; i < CLOUDS; i++) {
        if (i != alone) {
            world->peer_cut[i][alone] = direction != 2;
            world->peer_cut[alone][i] = direction != 3;
        }
    }
    spine_story(world, "world", "%s cut off %s, %llu ms", world->clouds[alone].process.name,
                direction == 2   ? "outward"
                : direction == 3 ? "inward"
                                 : "both ways",
                (unsigned long long)(us / MS));
    mend_after(world, us, 0, mend_peers);
}

static void fault_loss(struct world *world)
{
    world->peer_loss = (uint32_t)between(world, 10000, 300000);
    spine_story(world, "world", "loss of %u per million between cloudcores", world->peer_loss);
    mend_after(world, between(world, SECOND, 5 * SECOND), 0, mend_peers);
}

static void fault_disk(struct world *world)
{
    const uint64_t place = below(world, CLOUDS + EDGES);
    struct process *process = place < CLOUDS ? &world->clouds[place].process
                                             : &world->edges[place - CLOUDS].process;
    const uint32_t factor = (uint32_t)between(world, 10, 1000);
    spine_story(world, process->name, "disk slow by %u", factor);
    disk_sim_slow(&process->disk, between(world, 500 * MS, 4 * SECOND), factor);
}

static void fault_runtime(struct world *world)
{
    const uint32_t number = (uint32_t)below(world, EDGES);
    struct edge *edge = &world->edges[number];
    struct runtime_sim *runtime = &edge->runtime;
    const uint64_t us = between(world, 500 * MS, 4 * SECOND);
    const uint64_t kind = below(world, 8);
    if (kind < 3 && runtime->container_count > 0) {
        const struct runtime_sim_container *container =
            &runtime->containers[below(world, runtime->container_count)];
        spine_story(world, edge->process.name, "container %s/%s killed", container->pod_uid,
                    container->name);
        runtime_sim_kill(runtime, container->pod_uid, container->name,
                         below(world, 4) == 0 ? 0 : 137);
    } else if (kind == 3 && runtime->sandbox_count > 0) {
        const char *uid = runtime->sandboxes[below(world, runtime->sandbox_count)].pod_uid;
        spine_story(world, edge->process.name, "sandbox of %s killed", uid);
        runtime_sim_kill_sandbox(runtime, uid);
        edge->sandboxes_died = true;
    } else if (kind == 4) {
        spine_story(world, edge->process.name, "runtime down");
        runtime->down = true;
        mend_after(world, us, number, mend_runtime);
    } else if (kind > 4) {
        spine_story(world, edge->process.name, "runtime refuses, loses, does not answer");
        runtime->refuse_per_million = (uint32_t)below(world, 200000);
        runtime->unknown_per_million = (uint32_t)below(world, 200000);
        runtime->lost_per_million = (uint32_t)below(world, 200000);
        mend_after(world, us, number, mend_runtime);
    }
}

static void idle_end(void *context)
{
    ((struct world *)context)->idle = false;
}

static void fault_idle(struct world *world)
{
    world->idle = true;
    spine_story(world, "world", "nobody asks for anything");
    sim_after(&world->sim, between(world, SECOND, 6 * SECOND), 0, idle_end, world);
}

/* A follower is away for as long as the others need to trim their log; once it is back and behind, who
 * leads dies, or it does itself. */
static void fault_away(struct world *world)
{
    struct cloud *leader = world_leader(world);
    for (uint32_t i = 0; i < CLOUDS; i++) {
        struct cloud *cloud = &world->clouds[i];
        if (cloud->process.life == 0 || !cloud_core_report(cloud->core).behind) {
            continue;
        }
        if (below(world, 3) == 0) {
            process_kill(&cloud->process, any_death(world), between(world, 50 * MS, SECOND));
        } else if (leader != NULL) {
            process_kill(&leader->process, any_death(world), between(world, 50 * MS, 3 * SECOND));
        }
        return;
    }
    struct cloud *away = &world->clouds[below(world, CLOUDS)];
    if (leader != NULL && away != leader) {
        process_kill(&away->process, any_death(world), between(world, 3 * SECOND, 8 * SECOND));
    }
}

/* -- of seeds with devices ----------------------------------------------------------------------- */

static void fault_broker(struct world *world)
{
    struct edge *edge = &world->edges[below(world, EDGES)];
    struct broker *broker = &edge->brokers[below(world, edge->broker_count)];
    broker_fault(broker, below(world, 2) == 0 ? 0 : between(world, 10 * MS, 8 * SECOND),
                 below(world, 3) == 0);
}

static void mend_space(void *context)
{
    struct mend *mend = context;
    struct world *world = mend->world;
    if (mend->number < CLOUDS) {
        struct cloud *cloud = &world->clouds[mend->number];
        if (cloud->process.life != 0) {
            cloud_core_set_space(cloud->core, CLOUD_CORE_SPACE_PLENTY);
        }
    } else {
        struct edge *edge = &world->edges[mend->number - CLOUDS];
        edge->process.disk.capacity_bytes = UINT64_MAX;
        if (edge->process.life != 0) {
            edge_core_set_space(edge->core, SPACE_PLENTY, world_edge_now(world));
        }
    }
    free(mend);
}

/* The disk of an edge or of a cloudcore is full, and both know it (nodes/space.h). */
static void fault_space(struct world *world)
{
    const uint32_t place = (uint32_t)below(world, CLOUDS + EDGES);
    const uint64_t us = between(world, 500 * MS, 4 * SECOND);
    const bool none = below(world, 2) == 0;
    spine_story(world, "world", "process %u has %s room on its disk, %llu ms", place + 1,
                none ? "no" : "little", (unsigned long long)(us / MS));
    if (place < CLOUDS) {
        struct cloud *cloud = &world->clouds[place];
        if (cloud->process.life != 0) {
            cloud_core_set_space(cloud->core, none ? CLOUD_CORE_SPACE_NONE : CLOUD_CORE_SPACE_LOW);
        }
    } else {
        struct edge *edge = &world->edges[place - CLOUDS];
        if (edge->process.life != 0) {
            edge_core_set_space(edge->core, none ? SPACE_NONE : SPACE_LOW, world_edge_now(world));
            if (none) { /* what is under way may meet it, too */
                edge->process.disk.capacity_bytes =
                    disk_sim_used_bytes(&edge->process.disk) + below(world, 64 * 1024);
            }
        }
    }
    mend_after(world, us, place, mend_space);
}

static void fault_of_devices(struct world *world)
{
    const uint64_t what = world->profile == PROFILE_LEADER ? 0 : below(world, 6);
    if (what < 4) {
        fault_broker(world);
    } else if (what == 4) {
        fault_space(world);
    } else {
        process_leave(&world->edges[below(world, EDGES)].process,
                      between(world, 50 * MS, 2 * SECOND));
    }
}

/* -- when ------------------------------------------------------------------------------------------ */

#define FAULTS 20u
typedef void fault(struct world *world);

/* By profile; a fault that comes twice is twice as frequent. */
static fault *const faults[PROFILES][FAULTS] = {
    [PROFILE_ALL] = {fault_cloud, fault_leader, fault_all_clouds, fault_edge, fault_edge,
                     fault_link, fault_link, fault_link, fault_partition, fault_loss, fault_disk,
                     fault_runtime, fault_runtime, fault_idle, fault_everybody, fault_runtime,
                     fault_leave, fault_leave_leader},
    [PROFILE_LEADER] = {fault_leader, fault_leader, fault_leave_leader},
    [PROFILE_EDGE] = {fault_edge, fault_edge, fault_link, fault_link, fault_link, fault_runtime,
                      fault_runtime, fault_runtime, fault_disk, fault_idle},
    [PROFILE_NETWORK] = {fault_partition, fault_partition, fault_loss, fault_disk, fault_link,
                         fault_link, fault_leader},
    [PROFILE_DEATH] = {fault_cloud, fault_cloud, fault_leader, fault_leader, fault_all_clouds,
                       fault_everybody, fault_edge, fault_edge, fault_runtime, fault_leave},
    [PROFILE_AWAY] = {fault_away, fault_away, fault_away, fault_away, fault_away,
                      fault_leave_leader, fault_loss, fault_link, fault_disk},
};

static void faults_turn(void *context)
{
    struct world *world = context;
    if (!world->trouble) {
        return;
    }
    fault *const *choice = faults[world->profile];
    uint64_t count = 0;
    while (count < FAULTS && choice[count] != NULL) {
        count++;
    }
    if (world->devices && below(world, 4) == 0) {
        fault_of_devices(world);
    } else {
        choice[below(world, count)](world);
    }
    world->faults++;
    const uint64_t us = world->profile == PROFILE_LEADER ? between(world, 5 * SECOND, 9 * SECOND)
                        : world->profile == PROFILE_AWAY ? between(world, 20 * MS, 1500 * MS)
                                                         : between(world, 50 * MS, 2500 * MS);
    sim_after(&world->sim, us, 0, faults_turn, world);
}

void faults_begin(struct world *world)
{
    world->trouble = true;
    sim_after(&world->sim, between(world, 100 * MS, 6 * SECOND), 0, faults_turn, world);
}
