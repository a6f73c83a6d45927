/* What must hold, while it runs and in the end. */
#include "nodes/edge/core_inner.h"
#include "statemachine/delivery.h"
#include "statemachine/edge.h"
#include "statemachine/object.h"
#include "tests/sim/spine.h"

#include <stdarg.h>

struct uid *check_uid(struct world *world, const char *uid)
{
    for (uint32_t i = 0; i < world->uid_count; i++) {
        if (strcmp(world->uids[i].uid, uid) == 0) {
            return &world->uids[i];
        }
    }
    CHECK(world->uid_count < SPINE_UIDS);
    struct uid *new = &world->uids[world->uid_count++];
    snprintf(new->uid, sizeof new->uid, "%s", uid);
    return new;
}

/* -- changes ----------------------------------------------------------------------------------- */

static uint64_t hash_bytes(uint64_t hash, struct bytes bytes)
{
    hash = (hash ^ bytes.size) * 1099511628211u;
    for (size_t i = 0; i < bytes.size; i++) {
        hash = (hash ^ bytes.data[i]) * 1099511628211u;
    }
    return hash;
}

static uint64_t change_hash(const struct backend_change *change)
{
    uint64_t hash = hash_bytes(14695981039346656037u, change->key);
    hash = hash_bytes(hash, change->before.wish);
    hash = hash_bytes(hash, change->after.wish);
    hash = hash_bytes(hash, change->before.fact);
    hash = hash_bytes(hash, change->after.fact);
    hash = hash_bytes(hash, change->before.verdict);
    hash = hash_bytes(hash, change->after.verdict);
    hash = hash_bytes(hash, change->event.body);
    return hash | 1;
}

static bool change_key_begins(const struct backend_change *change, const char *prefix)
{
    const size_t size = strlen(prefix);
    return change->key.size > size && memcmp(change->key.data, prefix, size) == 0;
}

/* The object went: removed by a client, with its node, or after its containers have ended. */
static void check_pod_gone(struct world *world, const struct backend_change *change,
                           const struct object *object)
{
    const struct uid *uid = check_uid(world, object->uid);
    if (uid->removal_asked || object->node_name[0] == '\0') {
        return;
    }
    const uint32_t number = (uint32_t)(object->node_name[5] - '1');
    CHECK(number < EDGES);
    if (world->node_gone[number]) {
        return;
    }
    if (object->deletion_time_ms == 0) {
        spine_fail(world, "removed", "%s uid %s went, and nobody asked for it at version %llu",
                   object->name, object->uid, (unsigned long long)change->version);
    }
    if (runtime_sim_objects(&world->edges[number].runtime, object->uid) > 0) {
        spine_fail(world, "removed", "%s uid %s went at version %llu, and its containers are there",
                   object->name, object->uid, (unsigned long long)change->version);
    }
}

/* It said Hello to a cloudcore that lost power before the Welcome: for that an edge waits HUB_WELCOME_MS. */
static bool check_greets_nobody(const struct world *world, const struct backend_change *change)
{
    for (uint32_t i = 0; i < EDGES; i++) {
        const struct edge *edge = &world->edges[i];
        const char *name = edge->process.name;
        if (change_key_begins(change, "/nodes//") &&
            bytes_equal(bytes_of(change->key.data + 8, change->key.size - 8), bytes_text(name))) {
            return edge->core != NULL && edge->core->hub.state == HUB_GREETING &&
                   edge->connection != NULL && connection_silent(edge->connection);
        }
    }
    return false;
}

static void check_verdict(struct world *world, const struct backend_change *change)
{
    struct verdict before = {.reachable = false};
    struct verdict after;
    if (change->after.verdict.size == 0 ||
        codec_verdict_read(world->codec, change->after.verdict, &after) != 0 || after.reachable) {
        return;
    }
    if (change->before.verdict.size > 0) {
        CHECK(codec_verdict_read(world->codec, change->before.verdict, &before) == 0);
    }
    spine_story(world, "world", "%.*s is called unreachable", (int)change->key.size,
                (const char *)change->key.data);
    if (world->profile == PROFILE_LEADER && !check_greets_nobody(world, change)) {
        spine_fail(world, "verdict", "%.*s is called unreachable; only leaders have died",
                   (int)change->key.size, (const char *)change->key.data);
    }
}

/* A node is there again, and nobody's removal of it is still on its way; one that was accepted may be told later
 * than its answer. */
static void check_node_back(struct world *world, const struct backend_change *change)
{
    bool asked = change->before.wish.size > 0 || change->after.wish.size == 0;
    for (uint32_t i = 1; i <= world->write_count && !asked; i++) {
        const struct write *write = &world->writes[i];
        asked = write->remove && bytes_equal_text(change->key, write->key) &&
                (write->fate == FATE_PENDING || write->fate == FATE_UNKNOWN ||
                 (write->fate == FATE_ACCEPTED && write->version > change->version));
    }
    if (!asked) {
        world->node_gone[change->key.data[change->key.size - 1] - '1'] = false;
    }
}

static uint32_t wish_value(struct world *world, struct bytes wish, struct object_put *out)
{
    if (wish.size == 0) {
        return 0;
    }
    CHECK(codec_object_put_read(world->codec, wish, out) == 0);
    return object_value(&out->object);
}

/* Without gaps and repeats, but for events that were let go since. */
void check_told(struct cloud *cloud, uint64_t before, uint64_t version)
{
    struct world *world = cloud->process.world;
    CHECK(version < SPINE_VERSIONS);
    bool gap = version <= before;
    for (uint64_t left = before + 1; left < version; left++) {
        world->versions[left].left_out = true;
        gap = gap || (world->versions[left].hash != 0 && !world->versions[left].event);
    }
    if (gap) {
        spine_fail(world, "watch", "%s told version %llu after %llu", cloud->process.name,
                   (unsigned long long)version, (unsigned long long)before);
    }
}

/* Each version is told the same by every replica, and each write happens once. */
void check_change(struct cloud *cloud, const struct backend_change *change)
{
    struct world *world = cloud->process.world;
    struct object_put before;
    struct object_put after;
    CHECK(change->version < SPINE_VERSIONS);
    struct version *version = &world->versions[change->version];
    const uint64_t hash = change_hash(change);
    if (version->hash != 0) {
        if (version->hash != hash) {
            spine_fail(world, "history", "%s tells another version %llu", cloud->process.name,
                       (unsigned long long)change->version);
        }
        return;
    }
    version->hash = hash;
    version->event = change->is_event;
    if (version->left_out && !version->event) {
        spine_fail(world, "watch", "version %llu was left out by some replica",
                   (unsigned long long)change->version);
    }
    world->version_last = change->version;
    codec_reset(world->codec);
    const uint32_t value_before = wish_value(world, change->before.wish, &before);
    const uint32_t value = wish_value(world, change->after.wish, &after);
    if (value != 0 && value != value_before) {
        CHECK(value <= world->write_count);
        struct write *write = &world->writes[value];
        if (write->seen != 0 || write->remove) {
            spine_fail(world, "twice", "%s v=%u happened at version %llu and at %llu", write->key,
                       value, (unsigned long long)write->seen, (unsigned long long)change->version);
        }
        if (write->fate == FATE_NEVER || write->fate == FATE_REFUSED) {
            spine_fail(world, "never", "%s v=%u happened at version %llu, its writer was told no",
                       write->key, value, (unsigned long long)change->version);
        }
        write->seen = change->version;
    }
    if (change->after.wish.size == 0 && change->before.wish.size > 0) {
        if (change_key_begins(change, "/pods/")) {
            check_pod_gone(world, change, &before.object);
        }
        spine_story(world, "world", "%.*s is gone at version %llu", (int)change->key.size,
                    (const char *)change->key.data, (unsigned long long)change->version);
    }
    if (change_key_begins(change, "/nodes/")) {
        check_verdict(world, change);
        check_node_back(world, change);
    }
    check_device_change(world, change);
    version->removal = change->after.wish.size == 0 && change->before.wish.size > 0;
}

/* All rows are the same on all replicas at the same place of the log. */
void check_digest(struct cloud *cloud)
{
    struct world *world = cloud->process.world;
    const uint64_t index = store_position(cloud->process.store);
    if (index == cloud->digested || index % 16 != 0 || index >= SPINE_INDEXES) {
        return;
    }
    cloud->digested = index;
    uint64_t digest = 0;
    if (machine_digest(store_live(cloud->process.store), &digest) != 0) {
        spine_fail(world, "rows", "%s cannot be read", cloud->process.name);
    }
    store_reader_reset(store_live(cloud->process.store));
    if (world->index_digest[index] != 0 && world->index_digest[index] != digest) {
        spine_fail(world, "rows", "%s has other rows at %llu", cloud->process.name,
                   (unsigned long long)index);
    }
    world->index_digest[index] = digest;
}

/* -- agreement --------------------------------------------------------------------------------- */

static char explanation[512];

const char *explain(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(explanation, sizeof explanation, format, arguments);
    va_end(arguments);
    return explanation;
}

static const char *node_differs(struct world *world, struct cloud *leader, struct edge *edge)
{
    struct node_row row;
    struct object_row object;
    struct verdict verdict = {0};
    const char *name = edge->process.name;
    const struct edge_core_report report = edge_core_report(edge->core);
    struct store_reader *reader = store_live(leader->process.store);
    if (node_get(reader, name, &row) != STATUS_OK) {
        return explain("%s: no such node", name);
    }
    char key[64];
    snprintf(key, sizeof key, "/nodes//%s", name);
    const int found = object_get(reader, bytes_text(key), &object);
    if (found == STATUS_OK && object.parts[PART_VERDICT].body.size > 0) {
        CHECK(codec_verdict_read(world->codec, object.parts[PART_VERDICT].body, &verdict) == 0);
    }
    const bool said = found == STATUS_OK && object.parts[PART_FACT].body.size > 0;
    store_reader_reset(reader);
    if (!verdict.reachable || !said) {
        return explain("%s: reachable=%d has a status=%d", name, (int)verdict.reachable, (int)said);
    }
    if (!report.link_up || report.down_stream != row.down_stream ||
        report.down_position != row.down_tip || row.down_acked != row.down_tip ||
        row.up_position != report.up_last || report.up_acked != report.up_last ||
        !tag_equal(report.digest, row.digest)) {
        return explain("%s: link=%d stream=%d down edge=%llu tip=%llu acked=%llu up last=%llu "
                       "acked=%llu cloud=%llu digest=%d",
                       name, (int)report.link_up, (int)(report.down_stream == row.down_stream),
                       (unsigned long long)report.down_position, (unsigned long long)row.down_tip,
                       (unsigned long long)row.down_acked, (unsigned long long)report.up_last,
                       (unsigned long long)report.up_acked, (unsigned long long)row.up_position,
                       (int)tag_equal(report.digest, row.digest));
    }
    return NULL;
}

static bool reference_there(struct world *world, const struct object *pod)
{
    for (uint32_t i = 0; i < pod->reference_count; i++) {
        const struct reference *reference = &pod->references[i];
        struct store_reader *reader = store_live(world_leader(world)->process.store);
        const char *key =
            codec_print(world->codec, "/%s/default/%s", reference->resource, reference->name);
        if (!reference->optional && store_find(reader, TABLE_WISH, bytes_text(key)) != STATUS_OK) {
            return false;
        }
    }
    return true;
}

/* A pod is as it should be: what its status says is so in the runtime. */
static const char *pod_differs(struct world *world, const struct object_row *row)
{
    struct object_put put;
    struct pod_status status;
    CHECK(codec_object_put_read(world->codec, row->parts[PART_WISH].body, &put) == 0);
    const struct object *pod = &put.object;
    if (pod->node_name[0] == '\0' || pod->deletion_time_ms != 0) {
        return explain("%s uid %s: node=%s deletion=%lld", pod->name, pod->uid, pod->node_name,
                       (long long)pod->deletion_time_ms);
    }
    struct edge *edge = &world->edges[pod->node_name[5] - '1'];
    if (row->parts[PART_FACT].body.size == 0 ||
        codec_pod_status_read(world->codec, row->parts[PART_FACT].body, &status) != 0 ||
        strcmp(status.uid, pod->uid) != 0) {
        return explain("%s uid %s on %s: no status", pod->name, pod->uid, pod->node_name);
    }
    const bool never =
        strstr(codec_print(world->codec, "%.*s", (int)pod->json.size, (const char *)pod->json.data),
               "\"Never\"") != NULL;
    const bool complete = reference_there(world, pod);
    size_t running = 0;
    for (uint32_t i = 0; i < status.container_count; i++) {
        const struct container_status *c = &status.containers[i];
        const bool waits = !complete || (c->state == CONTAINER_WAITING &&
                                         strcmp(c->reason, "CrashLoopBackOff") == 0);
        const bool over =
            c->state == CONTAINER_TERMINATED && (never || status.phase == POD_SUCCEEDED ||
                                                 c->exit_code == 0 || strcmp(c->name, "b") == 0);
        running += c->state == CONTAINER_RUNNING;
        if (c->state != CONTAINER_RUNNING && !waits && !over) {
            return explain("%s uid %s on %s: container %s state=%u reason=%s exit=%d references "
                           "there=%d: %.*s",
                           pod->name, pod->uid, pod->node_name, c->name, c->state, c->reason,
                           c->exit_code, (int)complete, (int)pod->json.size,
                           (const char *)pod->json.data);
        }
    }
    const size_t seen = runtime_sim_running(&edge->runtime, pod->uid);
    if (seen != running) {
        return explain("%s uid %s on %s: its status says %zu run, %zu do", pod->name, pod->uid,
                       pod->node_name, running, seen);
    }
    return NULL;
}

/* What the runtime holds is wished for. */
static const char *runtime_differs(struct edge *edge)
{
    struct object_put put;
    if (runtime_sim_changing(&edge->runtime)) { /* its attempt is recorded, its start yet to come */
        return explain("%s: a container is being started or removed", edge->process.name);
    }
    for (size_t i = 0; i < edge->runtime.sandbox_count; i++) {
        const struct runtime_sim_sandbox *sandbox = &edge->runtime.sandboxes[i];
        const char *key = codec_print(edge->codec, "/pods/default/%s", sandbox->pod_name);
        if (edge_object_find(edge->core->machine, key, edge->codec, &put) != STATUS_OK ||
            strcmp(put.object.uid, sandbox->pod_uid) != 0) {
            return explain("%s: what is left of uid %s", edge->process.name, sandbox->pod_uid);
        }
    }
    return NULL;
}

const char *check_converged(struct world *world)
{
    struct cloud *leader = world_leader(world);
    codec_reset(world->codec);
    if (leader == NULL) {
        return "no leader";
    }
    for (uint32_t i = 0; i < CLOUDS; i++) {
        const struct cloud *cloud = &world->clouds[i];
        if (cloud->process.life == 0 ||
            store_position(cloud->process.store) != store_position(leader->process.store)) {
            return explain("%s has not applied what the leader has", cloud->process.name);
        }
    }
    const char *differs = NULL;
    for (uint32_t i = 0; i < EDGES && differs == NULL; i++) {
        struct edge *edge = &world->edges[i];
        codec_reset(edge->codec);
        if (edge->process.life == 0) {
            return explain("%s is dead", edge->process.name);
        }
        differs = node_differs(world, leader, edge);
        differs = differs == NULL ? runtime_differs(edge) : differs;
    }
    struct object_cursor cursor;
    struct object_row row;
    object_cursor_open(&cursor, store_live(leader->process.store), bytes_text("/pods/"),
                       bytes_of(NULL, 0));
    while (differs == NULL && object_cursor_next(&cursor, &row) == STATUS_OK) {
        differs = pod_differs(world, &row);
    }
    object_cursor_close(&cursor);
    store_reader_reset(store_live(leader->process.store));
    return differs == NULL ? devices_differ(world) : differs;
}

/* -- the end ----------------------------------------------------------------------------------- */

/* Every acknowledged write is in the history at the version its writer was told. */
static void check_writes(struct world *world)
{
    for (uint32_t i = 1; i <= world->write_count; i++) {
        const struct write *write = &world->writes[i];
        if (write->fate != FATE_ACCEPTED) {
            continue;
        }
        CHECK(write->version < SPINE_VERSIONS);
        const struct version *version = &world->versions[write->version];
        const bool gone = write->remove || (write->ends && version->removal);
        if (version->hash == 0 || (gone ? !version->removal : write->seen != write->version)) {
            spine_fail(world, "lost", "%s %s v=%u was acknowledged with version %llu; seen at %llu",
                       write->remove ? "removal of" : "put of", write->key, i,
                       (unsigned long long)write->version, (unsigned long long)write->seen);
        }
    }
}

/* What is there is the newest write in the history of its key. */
static void check_objects(struct world *world, struct cloud *cloud)
{
    struct object_cursor cursor;
    struct object_row row;
    object_cursor_open(&cursor, store_live(cloud->process.store), bytes_of(NULL, 0),
                       bytes_of(NULL, 0));
    while (object_cursor_next(&cursor, &row) == STATUS_OK) {
        struct object_put put;
        codec_reset(world->codec);
        CHECK(codec_object_put_read(world->codec, row.parts[PART_WISH].body, &put) == 0);
        const uint32_t value = object_value(&put.object);
        for (uint32_t i = 1; i <= world->write_count && value != 0; i++) {
            const struct write *write = &world->writes[i];
            if (!write->remove && write->seen > world->writes[value].seen &&
                bytes_equal_text(row.key, write->key)) {
                spine_fail(world, "lost", "%s has %s v=%u of version %llu, v=%u came at %llu",
                           cloud->process.name, write->key, value,
                           (unsigned long long)world->writes[value].seen, i,
                           (unsigned long long)write->seen);
            }
        }
    }
    object_cursor_close(&cursor);
}

static void check_rows(struct world *world)
{
    uint64_t digests[CLOUDS];
    for (uint32_t i = 0; i < CLOUDS; i++) {
        struct cloud *cloud = &world->clouds[i];
        const struct backend *backend = cloud_core_backend(cloud->core);
        CHECK(machine_digest(store_live(cloud->process.store), &digests[i]) == 0);
        store_reader_reset(store_live(cloud->process.store));
        if (digests[i] != digests[0]) {
            spine_fail(world, "rows", "%s has other rows", cloud->process.name);
        }
        const struct backend *first = cloud_core_backend(world->clouds[0].core);
        const uint64_t version = backend->version(backend->owner);
        /* The newest may be events that were let go before anybody was told. */
        if (version < world->version_last || version != first->version(first->owner) ||
            cloud->watched != version) {
            spine_fail(world, "watch", "%s is at version %llu, its watcher at %llu, the world %llu",
                       cloud->process.name, (unsigned long long)backend->version(backend->owner),
                       (unsigned long long)cloud->watched, (unsigned long long)world->version_last);
        }
        check_objects(world, cloud);
    }
}

/* The rows the cloud says a node holds are the rows it has, byte for byte. */
static void check_held(struct world *world, struct edge *edge)
{
    struct cloud *leader = world_leader(world);
    struct store_reader *reader = store_live(leader->process.store);
    struct edge_machine *machine = edge->core->machine;
    const char *name = edge->process.name;
    struct node_row node;
    struct tag digest;
    uint32_t count = 0;
    const char *key = NULL;
    struct object_put put;
    codec_reset(world->codec);
    CHECK(node_get(reader, name, &node) == STATUS_OK);
    CHECK(edge_digest_compute(machine, &digest, &count) == STATUS_OK);
    if (!tag_equal(digest, node.digest) || count != node.held_count) {
        spine_fail(world, "held", "%s holds %u rows, the cloud says %llu, digests equal: %d", name,
                   count, (unsigned long long)node.held_count, (int)tag_equal(digest, node.digest));
    }
    struct edge_wishes *wishes = edge_wishes_open(machine, "");
    while (edge_wishes_next(wishes, world->codec, &key, &put) == STATUS_OK) {
        struct object_row row;
        struct object_put wish;
        const int found = object_get(reader, bytes_text(key), &row);
        if (found != STATUS_OK ||
            codec_object_put_read(world->codec, row.parts[PART_WISH].body, &wish) != 0 ||
            strcmp(wish.object.uid, put.object.uid) != 0 ||
            !bytes_equal(wish.object.json, put.object.json) ||
            object_value(&wish.object) != object_value(&put.object)) {
            spine_fail(world, "held", "%s holds another %s", name, key);
        }
        store_reader_reset(reader);
    }
    edge_wishes_close(wishes);
}

/* Containers started as often as attempts were recorded. */
static void check_starts(struct world *world, struct edge *edge)
{
    const struct runtime_sim *runtime = &edge->runtime;
    if (runtime->doubles > 0) {
        spine_fail(world, "starts", "%s: %u times two containers of one name ran",
                   edge->process.name, runtime->doubles);
    }
    for (size_t i = 0; i < runtime->start_count; i++) {
        const struct runtime_sim_start *start = &runtime->starts[i];
        if (start->count != 1) {
            spine_fail(world, "starts", "%s: %s/%s attempt %u started %u times", edge->process.name,
                       start->pod_uid, start->container, start->attempt, start->count);
        }
    }
    const char *key = NULL;
    struct object_put put;
    codec_reset(world->codec);
    struct edge_wishes *wishes = edge_wishes_open(edge->core->machine, "/pods/");
    while (edge_wishes_next(wishes, world->codec, &key, &put) == STATUS_OK) {
        const struct pod_attempt *attempts = NULL;
        struct pod_status status;
        uint32_t count = 0;
        codec_reset(edge->codec);
        CHECK(edge_attempts_list(edge->core->machine, put.object.uid, edge->codec, &attempts,
                                 &count) == STATUS_OK);
        const int said = edge_pod_status_find(edge->core->machine, key, edge->codec, &status);
        for (uint32_t i = 0; i < count; i++) {
            const struct pod_attempt *attempt = &attempts[i];
            if (attempt->container[0] == '\0') {
                continue;
            }
            uint32_t started = 0;
            for (uint32_t n = 0; n <= attempt->attempt; n++) {
                started += runtime_sim_starts(runtime, put.object.uid, attempt->container, n) > 0;
            }
            if (runtime_sim_starts(runtime, put.object.uid, attempt->container,
                                   attempt->attempt + 1) > 0) {
                spine_fail(world, "starts", "%s: %s/%s started beyond attempt %u",
                           edge->process.name, put.object.uid, attempt->container,
                           attempt->attempt);
            }
            if (!edge->sandboxes_died && started != attempt->attempt + 1) {
                spine_fail(world, "starts", "%s: %s/%s has %u attempts and %u starts",
                           edge->process.name, put.object.uid, attempt->container,
                           attempt->attempt + 1, started);
            }
            for (uint32_t c = 0; said == STATUS_OK && c < status.container_count; c++) {
                if (strcmp(status.containers[c].name, attempt->container) == 0 &&
                    status.containers[c].state == CONTAINER_RUNNING &&
                    status.containers[c].restart_count != attempt->attempt) {
                    spine_fail(world, "starts", "%s: %s/%s says %u restarts, attempt %u",
                               edge->process.name, put.object.uid, attempt->container,
                               status.containers[c].restart_count, attempt->attempt);
                }
            }
        }
    }
    edge_wishes_close(wishes);
}

/* What the cloud shows of a pod is what its node said last. */
static void check_statuses(struct world *world, struct edge *edge)
{
    struct store_reader *reader = store_live(world_leader(world)->process.store);
    const char *key = NULL;
    struct object_put put;
    codec_reset(world->codec);
    struct edge_wishes *wishes = edge_wishes_open(edge->core->machine, "/pods/");
    while (edge_wishes_next(wishes, world->codec, &key, &put) == STATUS_OK) {
        struct pod_status said;
        struct pod_status shown;
        struct object_row row;
        struct bytes said_bytes;
        struct bytes shown_bytes;
        codec_reset(edge->codec);
        const int found = object_get(reader, bytes_text(key), &row);
        if (edge_pod_status_find(edge->core->machine, key, edge->codec, &said) != STATUS_OK ||
            found != STATUS_OK || row.parts[PART_FACT].body.size == 0 ||
            codec_pod_status_read(edge->codec, row.parts[PART_FACT].body, &shown) != 0 ||
            codec_pod_status_build(edge->codec, &said, &said_bytes) != 0 ||
            codec_pod_status_build(edge->codec, &shown, &shown_bytes) != 0 ||
            !bytes_equal(said_bytes, shown_bytes)) {
            spine_fail(world, "status", "%s said something else of %s", edge->process.name, key);
        }
        store_reader_reset(reader);
    }
    edge_wishes_close(wishes);
}

void check_end(struct world *world)
{
    check_writes(world);
    check_rows(world);
    for (uint32_t i = 0; i < EDGES; i++) {
        check_held(world, &world->edges[i]);
        check_starts(world, &world->edges[i]);
        check_statuses(world, &world->edges[i]);
    }
    check_devices(world);
}
