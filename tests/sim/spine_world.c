#include "nodes/cloud/transfer.h"
#include "tests/sim/spine.h"

#include <errno.h>

#define QUEUE_FRAMES 64u

/* -- time -------------------------------------------------------------------------------------- */

struct cloud_core_time world_cloud_now(const struct world *world)
{
    return (struct cloud_core_time){
        .mono_ms = world->sim.now_us / 1000 + 1,
        .wall_ms = WALL_MS + (int64_t)(world->sim.now_us / 1000),
    };
}

struct pods_time world_edge_now(const struct world *world)
{
    return (struct pods_time){
        .mono_ms = world->sim.now_us / 1000 + 1,
        .wall_ms = WALL_MS + (int64_t)(world->sim.now_us / 1000),
    };
}

void world_random(struct world *world, void *buffer, size_t size)
{
    uint8_t *out = buffer;
    for (size_t i = 0; i < size; i++) {
        out[i] = (uint8_t)sim_below(&world->sim, 256);
    }
}

static void peers_connected(struct world *world);

/* -- processes --------------------------------------------------------------------------------- */

static struct process *world_process(struct world *world, uint32_t place)
{
    return place < CLOUDS ? &world->clouds[place].process : &world->edges[place - CLOUDS].process;
}

void process_init(struct process *process, struct world *world, bool is_edge, uint32_t number)
{
    process->world = world;
    process->is_edge = is_edge;
    process->number = number;
    snprintf(process->name, sizeof process->name, is_edge ? "edge-%u" : "cloud-%u", number + 1);
    disk_sim_init(&process->disk, &world->sim);
    process->store_disk = store_sim_create();
}

static void process_on_due(void *context)
{
    struct process *process = context;
    if (process->due_us == process->world->sim.now_us) {
        process->due_us = 0;
        process->poked = true;
    }
}

void process_wake(struct process *process, uint64_t at_us)
{
    struct sim *sim = &process->world->sim;
    const uint64_t at = at_us > sim->now_us ? at_us : sim->now_us + 20;
    if (process->due_us != 0 && process->due_us <= at) {
        return; /* the one that is not the earliest any more finds another time, and does nothing */
    }
    process->due_us = at;
    sim_after(sim, at - sim->now_us, process->life, process_on_due, process);
}

void process_turn(struct process *process)
{
    process->poked = false;
    const uint64_t next_ms = process->is_edge ? edge_turn((struct edge *)process)
                                              : cloud_turn((struct cloud *)process);
    process_wake(process, next_ms == UINT64_MAX ? process->world->sim.now_us + SECOND
                                                : (next_ms - 1) * MS);
}

static void process_on_start(void *context)
{
    struct process *process = context;
    process->starting = false;
    process_start(process);
}

void process_start(struct process *process)
{
    if (process->life != 0 || process->starting) {
        return;
    }
    spine_story(process->world, process->name, "starts");
    process->due_us = 0;
    if (process->is_edge) {
        edge_start((struct edge *)process);
    } else {
        cloud_start((struct cloud *)process);
        peers_connected(process->world);
    }
    process->poked = true;
    process_wake(process, 0);
}

void process_kill(struct process *process, enum disk_sim_crash how, uint64_t us)
{
    static const char *const words[] = {"kill", "power", "power, all pending lost",
                                        "power, all pending there"};
    if (process->life == 0) {
        return;
    }
    spine_story(process->world, process->name, "dies (%s) for %llu ms", words[how],
                (unsigned long long)(us / MS));
    process->deaths++;
    if (process->is_edge) {
        edge_die((struct edge *)process, how);
    } else {
        cloud_die((struct cloud *)process, how);
    }
    if (us > 0) {
        process->starting = true;
        sim_after(&process->world->sim, us, 0, process_on_start, process);
    }
}

/* -- leaving --------------------------------------------------------------------------------- */

struct leaving {
    struct process *process;
    uint64_t until_us;
    uint64_t dead_us;
};

static void process_on_leaving(void *context)
{
    struct leaving *leaving = context;
    struct process *process = leaving->process;
    struct sim *sim = &process->world->sim;
    const bool idle = process->is_edge ? edge_core_idle(((struct edge *)process)->core)
                                       : cloud_core_idle(((struct cloud *)process)->core);
    if (idle || sim->now_us >= leaving->until_us) {
        if (process->is_edge) {
            struct edge *edge = (struct edge *)process;
            edge->left = idle && bus_left(edge_core_bus(edge->core));
        }
        process_kill(process, DISK_SIM_KILL, leaving->dead_us);
        free(leaving);
        return;
    }
    sim_after(sim, 5 * MS, process->life, process_on_leaving, leaving);
}

void process_leave(struct process *process, uint64_t us)
{
    struct world *world = process->world;
    if (process->life == 0) {
        return;
    }
    spine_story(world, process->name, "is asked to leave");
    struct leaving *leaving = malloc(sizeof *leaving); /* lost with a process that dies first */
    CHECK(leaving != NULL);
    *leaving = (struct leaving){
        .process = process, .until_us = world->sim.now_us + 2 * SECOND, .dead_us = us};
    if (process->is_edge) {
        edge_core_stop(((struct edge *)process)->core, world_edge_now(world));
    } else {
        cloud_core_stop(((struct cloud *)process)->core, world_cloud_now(world));
    }
    process->poked = true;
    sim_after(&world->sim, MS, process->life, process_on_leaving, leaving);
}

/* -- a disk that lies -------------------------------------------------------------------------- */

static struct disk_ops lying;
static void (*honest_submit)(struct disk *disk, struct disk_job *job);

static int lying_sync(struct disk *disk, struct disk_file *file)
{
    (void)disk;
    (void)file;
    return 0;
}

static void lying_submit(struct disk *disk, struct disk_job *job)
{
    for (uint32_t i = 0; i < job->step_count; i++) {
        if (job->steps[i].kind == DISK_STEP_SYNC) {
            job->steps[i].kind = DISK_STEP_ZERO;
            job->steps[i].offset = 0;
            job->steps[i].size = 0;
        }
    }
    honest_submit(disk, job);
}

struct disk *process_disk(struct process *process, bool lies)
{
    struct disk *disk = &process->disk.disk;
    if (lies && disk->ops != &lying) {
        lying = *disk->ops;
        honest_submit = lying.submit;
        lying.submit = lying_submit;
        lying.sync = lying_sync;
        disk->ops = &lying;
    }
    return disk;
}

/* -- between cloudcores ------------------------------------------------------------------------ */

struct peer_frame {
    struct world *world;
    uint32_t from, to;
    uint64_t life;
    size_t size;
    _Alignas(8) uint8_t data[];
};

static void peer_on_frame(void *context)
{
    struct peer_frame *frame = context;
    struct world *world = frame->world;
    struct cloud *to = &world->clouds[frame->to];
    if (to->process.life != 0 && to->process.life == frame->life &&
        !world->peer_cut[frame->from][frame->to]) {
        cloud_core_on_peer(to->core, frame->from + 1, bytes_of(frame->data, frame->size),
                           world_cloud_now(world));
        to->process.poked = true;
    }
    free(frame);
}

/* The canary: a source says "the same" about whatever the asker has. */
static struct bytes confirm_unseen(struct world *world, uint32_t from, uint32_t to,
                                   struct bytes bytes)
{
    struct codec *codec = world->codec;
    uint16_t kind = WIRE_NONE;
    struct bytes body;
    struct state_ask ask;
    struct state_range range;
    codec_reset(codec);
    if (codec_frame_read(codec, codec_aligned(codec, bytes), &kind, &body) != 0) {
        return bytes;
    }
    if (kind == WIRE_STATE_ASK && codec_state_ask_read(codec, body, &ask) == 0) {
        struct canary_ask *asked = &world->clouds[to].asked[from];
        *asked = (struct canary_ask){.request = ask.has ? ask.request : 0,
                                     .digest = ask.digest,
                                     .from_size = (uint16_t)ask.from.size,
                                     .to_size = (uint16_t)ask.to.size};
        memcpy(asked->from, ask.from.size == 0 ? asked->from : ask.from.data, ask.from.size);
        memcpy(asked->to, ask.to.size == 0 ? asked->to : ask.to.data, ask.to.size);
    } else if (kind == WIRE_STATE_RANGE && codec_state_range_read(codec, body, &range) == 0) {
        const struct canary_ask *asked = &world->clouds[from].asked[to];
        if (range.status == 0 && asked->request != 0 && range.request == asked->request) {
            range.same = true;
            range.rows = bytes_of(NULL, 0);
            range.to = bytes_of(asked->to, asked->to_size);
            range.digest = transfer_seal(bytes_of(asked->from, asked->from_size), range.to, &range,
                                         asked->digest);
            CHECK(codec_state_range_build(codec, &range, &body) == 0);
            CHECK(codec_frame_build(codec, WIRE_STATE_RANGE, body, &bytes) == 0);
        }
    }
    return bytes;
}

void world_send_peer(struct world *world, uint32_t from, uint32_t to, struct bytes bytes)
{
    if (world->canary == CANARY_CONFIRM) {
        bytes = confirm_unseen(world, from, to, bytes);
    }
    if (world->peer_cut[from][to] || world->clouds[to].process.life == 0 ||
        sim_chance(&world->sim, world->peer_loss)) {
        return;
    }
    struct peer_frame *frame = malloc(sizeof *frame + bytes.size);
    CHECK(frame != NULL);
    *frame = (struct peer_frame){
        .world = world,
        .from = from,
        .to = to,
        .life = world->clouds[to].process.life,
        .size = bytes.size,
    };
    memcpy(frame->data, bytes.data, bytes.size);
    uint64_t at = world->sim.now_us + sim_between(&world->sim, 300, 3000);
    if (at < world->peer_last_us[from][to]) {
        at = world->peer_last_us[from][to];
    }
    world->peer_last_us[from][to] = at;
    sim_after(&world->sim, at - world->sim.now_us, 0, peer_on_frame, frame);
}

/* -- between edge and cloud -------------------------------------------------------------------- */

struct parcel {
    struct parcel *next;
    uint64_t at_us;
    bool close;
    size_t size;
    _Alignas(8) uint8_t data[];
};

struct way {
    struct parcel *head, *tail;
    uint32_t count;
    uint64_t last_us;
    bool refused; /* the sender was told STATUS_FULL */
};

struct connection {
    struct connection *next;
    struct world *world;
    uint64_t session;
    uint32_t edge, cloud;
    uint64_t edge_life, cloud_life;
    bool edge_open, cloud_open;
    bool torn;
    struct way ways[2]; /* down, up */
};

struct connection *connection_find(struct world *world, uint64_t session)
{
    struct connection *c = world->connections;
    while (c != NULL && c->session != session) {
        c = c->next;
    }
    return c;
}

static bool connection_cut(const struct connection *c, bool up)
{
    return up ? c->world->up_cut[c->edge][c->cloud] : c->world->down_cut[c->edge][c->cloud];
}

static struct edge *connection_edge(const struct connection *c)
{
    struct edge *edge = &c->world->edges[c->edge];
    return c->edge_open && edge->process.life == c->edge_life && edge->process.life != 0 ? edge
                                                                                          : NULL;
}

static struct cloud *connection_cloud(const struct connection *c)
{
    struct cloud *cloud = &c->world->clouds[c->cloud];
    return c->cloud_open && cloud->process.life == c->cloud_life && cloud->process.life != 0
               ? cloud
               : NULL;
}

bool connection_silent(const struct connection *connection)
{
    return connection->edge_open && connection_cloud(connection) == NULL;
}

static void connection_end_edge(struct connection *c)
{
    struct edge *edge = connection_edge(c);
    c->edge_open = false;
    if (edge != NULL) {
        edge->connection = NULL;
        edge_core_link_down(edge->core, 0, "", world_edge_now(c->world));
        edge->process.poked = true;
    }
}

static void connection_end_cloud(struct connection *c)
{
    struct cloud *cloud = connection_cloud(c);
    c->cloud_open = false;
    if (cloud != NULL) {
        cloud_core_session_closed(cloud->core, c->session, world_cloud_now(c->world));
        cloud->process.poked = true;
    }
}

struct delivery {
    struct connection *connection;
    bool up;
};

static void connection_on_due(void *context);

static void connection_post(struct connection *c, bool up, bool close, struct bytes bytes)
{
    struct sim *sim = &c->world->sim;
    struct way *way = &c->ways[up];
    struct parcel *parcel = malloc(sizeof *parcel + bytes.size);
    struct delivery *delivery = malloc(sizeof *delivery);
    CHECK(parcel != NULL && delivery != NULL);
    uint64_t at = sim->now_us + sim_between(sim, 1000, 6000);
    at = at < way->last_us ? way->last_us : at;
    way->last_us = at;
    *parcel = (struct parcel){.at_us = at, .close = close, .size = bytes.size};
    if (bytes.size > 0) {
        memcpy(parcel->data, bytes.data, bytes.size);
    }
    if (way->tail == NULL) {
        way->head = parcel;
    } else {
        way->tail->next = parcel;
    }
    way->tail = parcel;
    way->count++;
    *delivery = (struct delivery){.connection = c, .up = up};
    sim_after(sim, at - sim->now_us, 0, connection_on_due, delivery);
}

static void connection_deliver(struct connection *c, bool up, const struct parcel *parcel)
{
    struct world *world = c->world;
    struct edge *edge = connection_edge(c);
    struct cloud *cloud = connection_cloud(c);
    const struct bytes bytes = bytes_of(parcel->data, parcel->size);
    if (parcel->close) {
        if (up) {
            connection_end_cloud(c);
        } else {
            connection_end_edge(c);
        }
        return;
    }
    if (up && cloud != NULL) {
        cloud_core_on_session(cloud->core, c->session, bytes, world_cloud_now(world));
        cloud->process.poked = true;
    } else if (!up && edge != NULL) {
        edge_core_on_link(edge->core, bytes, world_edge_now(world));
        edge->process.poked = true;
    } else if (up && world->clouds[c->cloud].process.life != 0) {
        connection_post(c, false, true, bytes_of(NULL, 0)); /* reset: nobody knows this one */
    } else if (!up && world->edges[c->edge].process.life != 0) {
        connection_post(c, true, true, bytes_of(NULL, 0));
    }
}

static void connection_pump(struct connection *c, bool up)
{
    struct world *world = c->world;
    struct way *way = &c->ways[up];
    while (way->head != NULL && way->head->at_us <= world->sim.now_us) {
        const bool cut = connection_cut(c, up);
        if (cut && !world->tears[c->edge]) {
            return; /* late */
        }
        struct parcel *parcel = way->head;
        way->head = parcel->next;
        way->tail = way->head == NULL ? NULL : way->tail;
        way->count--;
        c->torn = c->torn || cut;
        const bool unseen = world->canary == CANARY_STREAM && !parcel->close &&
                            world->trouble && sim_chance(&world->sim, 20000) && parcel->size > 200;
        if (!cut && !c->torn && !unseen) {
            connection_deliver(c, up, parcel);
        }
        free(parcel);
    }
    if (way->refused && way->count < QUEUE_FRAMES / 2) {
        way->refused = false;
        struct edge *edge = connection_edge(c);
        struct cloud *cloud = connection_cloud(c);
        if (up && edge != NULL) {
            edge_core_link_writable(edge->core);
            edge->process.poked = true;
        } else if (!up && cloud != NULL) {
            cloud_core_session_writable(cloud->core, c->session);
            cloud->process.poked = true;
        }
    }
}

static void connection_on_due(void *context)
{
    struct delivery *delivery = context;
    connection_pump(delivery->connection, delivery->up);
    free(delivery);
}

int connection_send(struct connection *c, bool up, struct bytes frame)
{
    if (c == NULL || !(up ? c->edge_open : c->cloud_open)) {
        return -EPIPE;
    }
    if (c->ways[up].count >= QUEUE_FRAMES) {
        c->ways[up].refused = true;
        return STATUS_FULL;
    }
    connection_post(c, up, false, frame);
    return 0;
}

bool connection_room(const struct connection *c, bool up)
{
    return c != NULL && c->ways[up].count < QUEUE_FRAMES;
}

struct closing {
    struct connection *connection;
    bool by_edge;
};

static void connection_on_closed(void *context)
{
    struct closing *closing = context;
    if (closing->by_edge) {
        connection_end_edge(closing->connection);
    } else {
        connection_end_cloud(closing->connection);
    }
    free(closing);
}

void connection_close(struct connection *c, bool by_edge)
{
    struct closing *closing = malloc(sizeof *closing);
    CHECK(closing != NULL);
    *closing = (struct closing){.connection = c, .by_edge = by_edge};
    connection_post(c, by_edge, true, bytes_of(NULL, 0));
    sim_after(&c->world->sim, 500, 0, connection_on_closed, closing);
}

void world_break_connections(struct process *process, bool silent)
{
    struct world *world = process->world;
    for (struct connection *c = world->connections; c != NULL; c = c->next) {
        if (process->is_edge && c->edge == process->number && c->edge_open) {
            c->edge_open = false;
            if (!silent) {
                connection_post(c, true, true, bytes_of(NULL, 0));
            }
        } else if (!process->is_edge && c->cloud == process->number && c->cloud_open) {
            c->cloud_open = false;
            if (!silent) {
                connection_post(c, false, true, bytes_of(NULL, 0));
            }
        }
    }
}

/* -- dialing ----------------------------------------------------------------------------------- */

struct dial {
    struct edge *edge;
    uint32_t address;
    int status; /* decided: it failed with this */
};

static void dial_on_end(void *context)
{
    struct dial *dial = context;
    struct edge *edge = dial->edge;
    struct world *world = edge->process.world;
    struct cloud *cloud = &world->clouds[dial->address];
    edge->process.poked = true;
    if (dial->status == 0 && !edge->dial_given_up &&
        (world->up_cut[edge->process.number][dial->address] ||
         world->down_cut[edge->process.number][dial->address])) {
        dial->status = -ETIMEDOUT;
        sim_after(&world->sim, 500 * MS, edge->process.life, dial_on_end, dial);
        return;
    }
    const uint64_t session = ++world->sessions;
    int status = edge->dial_given_up ? -ECANCELED : dial->status;
    if (status == 0 && cloud->process.life == 0) {
        status = -ECONNREFUSED;
    }
    if (status == 0) {
        cloud->process.poked = true;
        status = cloud_core_session_open(cloud->core, session, edge->process.name,
                                         world_cloud_now(world));
    }
    edge->dials = 0;
    edge->dial_given_up = false;
    if (status != 0) {
        edge_core_link_down(edge->core, status, "not connected", world_edge_now(world));
        free(dial);
        return;
    }
    struct connection *c = calloc(1, sizeof *c);
    CHECK(c != NULL);
    *c = (struct connection){
        .next = world->connections,
        .world = world,
        .session = session,
        .edge = edge->process.number,
        .cloud = dial->address,
        .edge_life = edge->process.life,
        .cloud_life = cloud->process.life,
        .edge_open = true,
        .cloud_open = true,
    };
    world->connections = c;
    edge->connection = c;
    edge_core_link_up(edge->core, world_edge_now(world));
    free(dial);
}

void world_dial(struct edge *edge, uint32_t address)
{
    struct world *world = edge->process.world;
    struct dial *dial = calloc(1, sizeof *dial); /* lost with the process that dies meanwhile */
    CHECK(dial != NULL);
    *dial = (struct dial){.edge = edge, .address = address};
    edge->dials = 1;
    edge->dial_given_up = false;
    sim_after(&world->sim, sim_between(&world->sim, 2 * MS, 12 * MS), edge->process.life,
              dial_on_end, dial);
}

/* -- cuts -------------------------------------------------------------------------------------- */

void world_cut_edge(struct world *world, uint32_t edge, uint32_t cloud, bool up, bool down)
{
    world->up_cut[edge][cloud] = up;
    world->down_cut[edge][cloud] = down;
}

void world_mend_edge(struct world *world, uint32_t edge)
{
    for (uint32_t i = 0; i < CLOUDS; i++) {
        world->up_cut[edge][i] = world->down_cut[edge][i] = false;
    }
    for (struct connection *c = world->connections; c != NULL; c = c->next) {
        if (c->edge != edge) {
            continue;
        }
        if (c->torn) { /* bytes are missing in the stream: both ends notice */
            connection_end_edge(c);
            connection_end_cloud(c);
        }
        connection_pump(c, false);
        connection_pump(c, true);
    }
}

/* All links between cloudcores are made anew. */
static void peers_connected(struct world *world)
{
    for (uint32_t i = 0; i < CLOUDS; i++) {
        for (uint32_t j = 0; j < CLOUDS; j++) {
            if (i != j && world->clouds[i].process.life != 0 &&
                world->clouds[j].process.life != 0) {
                cloud_core_peer_connected(world->clouds[i].core, j + 1);
                world->clouds[i].process.poked = true;
            }
        }
    }
}

void world_heal(struct world *world)
{
    memset(world->peer_cut, 0, sizeof world->peer_cut);
    world->peer_loss = 0;
    for (uint32_t i = 0; i < EDGES; i++) {
        world_mend_edge(world, i);
        world->edges[i].runtime.down = false;
        world->edges[i].runtime.refuse_per_million = 0;
        world->edges[i].runtime.unknown_per_million = 0;
        world->edges[i].runtime.lost_per_million = 0;
    }
    for (uint32_t i = 0; i < CLOUDS + EDGES; i++) {
        struct process *process = world_process(world, i);
        process->disk.slow_until_us = 0;
        process->disk.capacity_bytes = UINT64_MAX;
        process_start(process);
    }
    for (uint32_t i = 0; i < CLOUDS && world->devices; i++) {
        struct cloud *cloud = &world->clouds[i];
        if (cloud->process.life != 0) {
            cloud_core_set_space(cloud->core, CLOUD_CORE_SPACE_PLENTY);
        }
    }
    for (uint32_t i = 0; i < EDGES && world->devices; i++) {
        struct edge *edge = &world->edges[i];
        brokers_heal(edge);
        if (edge->process.life != 0) {
            edge_core_set_space(edge->core, SPACE_PLENTY, world_edge_now(world));
        }
    }
    peers_connected(world);
}

struct upgrade {
    struct world *world;
    uint32_t number;
};

static void upgrade_on_turn(void *context)
{
    struct upgrade *upgrade = context;
    struct world *world = upgrade->world;
    struct cloud *cloud = &world->clouds[upgrade->number];
    cloud->level = 0;
    spine_story(world, cloud->process.name, "is exchanged for a newer release");
    process_kill(&cloud->process, DISK_SIM_KILL, 200 * MS);
    if (upgrade->number + 1 < CLOUDS) {
        upgrade->number++;
        sim_after(&world->sim, sim_between(&world->sim, 300 * MS, 2 * SECOND), 0, upgrade_on_turn,
                  upgrade);
        return;
    }
    free(upgrade);
}

void world_upgrade(struct world *world)
{
    struct upgrade *upgrade = malloc(sizeof *upgrade);
    CHECK(upgrade != NULL);
    *upgrade = (struct upgrade){.world = world};
    sim_after(&world->sim, sim_between(&world->sim, 3 * SECOND, 10 * SECOND), 0, upgrade_on_turn,
              upgrade);
}

/* -- the world --------------------------------------------------------------------------------- */

void world_init(struct world *world, uint64_t seed, enum canary canary, enum profile profile)
{
    memset(world, 0, sizeof *world);
    world->seed = seed;
    world->canary = canary;
    world->profile = profile;
    world->codec = codec_create();
    sim_init(&world->sim, seed);
    for (uint32_t i = 0; i < CLOUDS; i++) {
        process_init(&world->clouds[i].process, world, false, i);
        world->clouds[i].beside = store_sim_create();
    }
    for (uint32_t i = 0; i < EDGES; i++) {
        process_init(&world->edges[i].process, world, true, i);
        world->edges[i].codec = codec_create();
        runtime_sim_init(&world->edges[i].runtime, &world->sim);
        world->node_gone[i] = true; /* until it has registered */
    }
    world->devices = world->seed / 5 % 2 == 0;
    for (uint32_t i = 0; i < EDGES && world->devices; i++) {
        brokers_init(&world->edges[i]);
    }
    if (world->devices && profile != PROFILE_LEADER && profile != PROFILE_AWAY &&
        sim_below(&world->sim, 4) == 0) {
        for (uint32_t i = 0; i < CLOUDS; i++) {
            world->clouds[i].level = 2; /* the last one without devices */
        }
        world_upgrade(world);
    }
    for (uint32_t i = 0; i < CLOUDS + EDGES; i++) {
        process_start(world_process(world, i));
    }
}

/* One event, then a turn for everybody who had an input. */
static void world_step(struct world *world)
{
    const uint64_t owner = world->sim.events[0].owner;
    CHECK(sim_step(&world->sim));
    for (uint32_t i = 0; i < CLOUDS + EDGES; i++) {
        struct process *process = world_process(world, i);
        if (process->life != 0 &&
            (process->poked || (owner != 0 && owner == process->disk.owner))) {
            process_turn(process);
        }
    }
}

void world_run_until(struct world *world, uint64_t until_us)
{
    while (world->sim.event_count > 0 && world->sim.events[0].at_us <= until_us) {
        world_step(world);
    }
    if (world->sim.now_us < until_us) {
        sim_run_until(&world->sim, until_us);
    }
}
