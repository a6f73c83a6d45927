/* Users on random replicas. Each asks one thing at a time; what it was told is remembered. */
#include "tests/sim/spine.h"

#define CONFIGS 3u
#define SECRETS 2u
#define PODS    6u

struct ask {
    struct client *client;
    uint32_t number;
};

uint32_t object_value(const struct object *object)
{
    for (uint32_t i = 0; i < object->label_count; i++) {
        if (strcmp(object->labels[i].key, "v") == 0) {
            return (uint32_t)strtoul(object->labels[i].value, NULL, 10);
        }
    }
    return 0;
}

static struct ask *client_ask(struct client *client, struct cloud *cloud)
{
    struct ask *ask = malloc(sizeof *ask); /* lost with a cloudcore that dies */
    CHECK(ask != NULL);
    client->asks++;
    client->cloud = cloud;
    *ask = (struct ask){.client = client, .number = client->asks};
    return ask;
}

static void client_on_written(void *context, int status, enum backend_outcome outcome,
                              uint64_t version)
{
    struct ask *ask = context;
    struct client *client = ask->client;
    struct world *world = client->world;
    const bool current = ask->number == client->asks && client->cloud != NULL;
    free(ask);
    if (!current) {
        return;
    }
    client->cloud = NULL;
    struct write *write = &world->writes[client->value];
    if (status == 0 && outcome == BACKEND_ACCEPTED) {
        write->fate = FATE_ACCEPTED;
        write->version = version;
        world->accepted++;
        if (version <= write->floor) {
            spine_fail(world, "order", "%s v=%u has version %llu, begun after %llu", write->key,
                       write->value, (unsigned long long)version,
                       (unsigned long long)write->floor);
        }
        world->acknowledged = version > world->acknowledged ? version : world->acknowledged;
    } else if (status == 0) {
        write->fate = FATE_REFUSED;
        world->refused++;
    } else if (status == STATUS_UNKNOWN || status == STATUS_TIMEOUT || status == STATUS_CLOSING) {
        write->fate = FATE_UNKNOWN;
        world->unknown++;
    } else {
        write->fate = FATE_NEVER;
    }
    spine_story(world, "client", "%u: %s v=%u: status %d outcome %d version %llu", client->number,
                write->key, write->value, status, (int)outcome, (unsigned long long)version);
}

static void client_on_fresh(void *context, int status)
{
    struct ask *ask = context;
    struct client *client = ask->client;
    struct world *world = client->world;
    const bool current = ask->number == client->asks && client->cloud != NULL;
    free(ask);
    if (!current) {
        return;
    }
    const struct backend *backend = cloud_core_backend(client->cloud->core);
    const uint64_t version = backend->version(backend->owner);
    client->cloud = NULL;
    world->reads++;
    if (status == 0 && version < client->floor) {
        spine_fail(world, "read", "a fresh read sees version %llu, %llu was acknowledged",
                   (unsigned long long)version, (unsigned long long)client->floor);
    }
}

struct write *client_write(struct client *client, const char *key)
{
    struct world *world = client->world;
    CHECK(world->write_count + 1 < SPINE_WRITES);
    client->value = ++world->write_count;
    struct write *write = &world->writes[client->value];
    *write = (struct write){.value = client->value, .floor = world->acknowledged};
    snprintf(write->key, sizeof write->key, "%s", key);
    return write;
}

void client_propose(struct client *client, struct cloud *cloud, int built, struct bytes record)
{
    struct world *world = client->world;
    struct write *write = &world->writes[client->value];
    const struct backend *backend = cloud_core_backend(cloud->core);
    CHECK(built == 0);
    struct ask *ask = client_ask(client, cloud);
    spine_story(world, "client", "%u: %s %s uid=%s v=%u at %s", client->number,
                write->remove ? "remove" : "put", write->key, write->uid, write->value,
                cloud->process.name);
    if (backend->write(backend->owner, record, client_on_written, ask) != 0) {
        client->cloud = NULL;
        write->fate = FATE_NEVER;
        free(ask);
    }
    cloud->process.poked = true;
}

void client_remove(struct client *client, struct cloud *cloud, const char *key, const char *uid)
{
    struct bytes body;
    struct bytes record;
    struct write *write = client_write(client, key);
    write->remove = true;
    snprintf(write->uid, sizeof write->uid, "%s", uid);
    if (strncmp(key, "/pods/", 6) == 0 && client->world->canary != CANARY_REMOVE) {
        check_uid(client->world, uid)->removal_asked = true;
    }
    const struct object_remove remove = {.reason = REMOVE_DELETED, .if_uid = uid};
    int status = codec_object_remove_build(client->codec, &remove, &body);
    if (status == 0) {
        status = codec_record_build(
            client->codec,
            &(struct record){.kind = RECORD_OBJECT_REMOVE, .key = write->key, .body = body},
            &record);
    }
    client_propose(client, cloud, status, record);
}

/* Create, change or remove a config map or secret. */
static void client_data(struct client *client, struct cloud *cloud, bool secret, bool remove)
{
    struct world *world = client->world;
    const struct backend *backend = cloud_core_backend(cloud->core);
    struct backend_view *view;
    uint64_t version;
    struct backend_row row;
    struct object_put put;
    struct bytes record;
    const char *resource = secret ? "secrets" : "configmaps";
    const char *name = codec_print(client->codec, secret ? "secret-%u" : "config-%u",
                                   (unsigned)sim_below(&world->sim, secret ? SECRETS : CONFIGS));
    const char *key = codec_print(client->codec, "/%s/default/%s", resource, name);
    CHECK(backend->view_open(backend->owner, &view, &version) == 0);
    const int found = backend->view_get(backend->owner, view, bytes_text(key), &row);
    const char *uid = codec_print(client->codec, "data-%u", world->uid_last + 1);
    if (found == 0) {
        CHECK(codec_object_put_read(client->codec, row.wish, &put) == 0);
        uid = codec_print(client->codec, "%s", put.object.uid);
    } else {
        world->uid_last++;
    }
    const uint64_t wish_version = found == 0 ? row.wish_version : 0;
    backend->view_close(backend->owner, view);
    if (remove) {
        if (found == 0) {
            client_remove(client, cloud, key, uid);
        }
        return;
    }
    struct write *write = client_write(client, key);
    const struct pair label = {"v", codec_print(client->codec, "%u", write->value)};
    snprintf(write->uid, sizeof write->uid, "%s", uid);
    const int status = spine_build_put(
        client->codec, found == 0 ? PUT_UPDATE : PUT_CREATE, wish_version,
        &(struct object){
            .kind = secret ? "Secret" : "ConfigMap",
            .resource = resource,
            .namespace_ = "default",
            .name = name,
            .uid = write->uid,
            .labels = &label,
            .label_count = 1,
            .json = bytes_text(codec_print(client->codec, "{\"data\":{\"a\":\"%04u\"}}",
                                           write->value)), /* also good as base64 */
        },
        &record);
    client_propose(client, cloud, status, record);
}

static void client_create_pod(struct client *client, struct cloud *cloud, const char *name)
{
    static const struct reference references[] = {
        {.resource = "configmaps", .name = "config-0"},
        {.resource = "configmaps", .name = "config-1"},
        {.resource = "configmaps", .name = "config-2"},
        {.resource = "secrets", .name = "secret-0", .optional = true},
        {.resource = "secrets", .name = "secret-1", .optional = true},
    };
    struct world *world = client->world;
    struct bytes record;
    struct write *write =
        client_write(client, codec_print(client->codec, "/pods/default/%s", name));
    const struct pair label = {"v", codec_print(client->codec, "%u", write->value)};
    snprintf(write->uid, sizeof write->uid, "pod-%u", ++world->uid_last);
    const uint64_t place = sim_below(&world->sim, 4);
    const uint64_t kind = sim_below(&world->sim, 6);
    const struct reference reference = references[sim_below(&world->sim, 5)];
    const bool config = strcmp(reference.resource, "configmaps") == 0;
    const char *second = kind == 1 ? ",{\"name\":\"b\",\"image\":\"kelp.local/b\",\"command\":"
                                     "[\"sleep\"]}"
                         : kind == 2 ? ",{\"name\":\"b\",\"image\":\"registry.local/b\","
                                       "\"command\":[\"kelp-fake-exit\",\"1\",\"700\"]}"
                                     : "";
    const char *json = codec_print(
        client->codec,
        "{\"metadata\":{\"name\":\"%s\",\"namespace\":\"default\",\"uid\":\"%s\"},"
        "\"spec\":{\"restartPolicy\":\"%s\",\"containers\":[{\"name\":\"a\",\"image\":"
        "\"kelp.local/a\",\"command\":[%s],\"envFrom\":[{\"%s\":{\"name\":\"%s\"%s}}]}%s]}}",
        name, write->uid, kind == 3 ? "Never" : kind == 4 ? "OnFailure" : "Always",
        kind == 3   ? "\"kelp-fake-exit\",\"0\",\"1500\""
        : kind == 4 ? "\"kelp-fake-exit\",\"0\",\"3000\""
                    : "\"sleep\"",
        config ? "configMapRef" : "secretRef", reference.name,
        config ? "" : ",\"optional\":true", second);
    const int status = spine_build_put(
        client->codec, PUT_CREATE, 0,
        &(struct object){
            .kind = "Pod",
            .resource = "pods",
            .namespace_ = "default",
            .name = name,
            .uid = write->uid,
            .node_name = place == 0 ? "edge-1" : place == 1 ? "edge-2" : "",
            .labels = &label,
            .label_count = 1,
            .references = &reference,
            .reference_count = 1,
            .request_cpu_milli = 100,
            .generation = 1,
            .json = bytes_text(json),
        },
        &record);
    client_propose(client, cloud, status, record);
}

/* Update a pod, or ask for its end. */
static void client_touch_pod(struct client *client, struct cloud *cloud,
                             const struct backend_row *row, const struct object_put *old,
                             bool delete)
{
    struct world *world = client->world;
    struct bytes record;
    struct object object = old->object;
    const char *name = codec_print(client->codec, "%s", object.name);
    struct write *write =
        client_write(client, codec_print(client->codec, "/pods/default/%s", name));
    const struct pair label = {"v", codec_print(client->codec, "%u", write->value)};
    snprintf(write->uid, sizeof write->uid, "%s", object.uid);
    object.labels = &label;
    object.label_count = 1;
    if (delete) {
        write->ends = true;
        object.deletion_time_ms = WALL_MS + (int64_t)(world->sim.now_us / 1000);
        object.deletion_grace_s = (int64_t)sim_below(&world->sim, 3);
    }
    const int status =
        spine_build_put(client->codec, PUT_UPDATE, row->wish_version, &object, &record);
    client_propose(client, cloud, status, record);
}

static void client_pod(struct client *client, struct cloud *cloud)
{
    struct world *world = client->world;
    const struct backend *backend = cloud_core_backend(cloud->core);
    struct backend_view *view;
    uint64_t version;
    struct backend_row row;
    struct object_put put;
    const char *name =
        codec_print(client->codec, "pod-%u", (unsigned)sim_below(&world->sim, PODS));
    const char *key = codec_print(client->codec, "/pods/default/%s", name);
    CHECK(backend->view_open(backend->owner, &view, &version) == 0);
    const int found = backend->view_get(backend->owner, view, bytes_text(key), &row);
    if (found == BACKEND_NONE) {
        client_create_pod(client, cloud, name);
        goto out;
    }
    CHECK(found == 0);
    CHECK(codec_object_put_read(client->codec, row.wish, &put) == 0);
    const uint64_t what = sim_below(&world->sim, 10);
    if (what == 0 || (what < 4 && put.object.node_name[0] == '\0')) {
        client_remove(client, cloud, key, codec_print(client->codec, "%s", put.object.uid));
    } else if (what < 6) {
        if (put.object.deletion_time_ms == 0 && put.object.node_name[0] != '\0') {
            client_touch_pod(client, cloud, &row, &put, true);
        }
    } else if (what < 8) {
        client_touch_pod(client, cloud, &row, &put, false);
    }
out:
    backend->view_close(backend->owner, view);
}

static void client_remove_node(struct client *client, struct cloud *cloud)
{
    struct world *world = client->world;
    const uint32_t number = (uint32_t)sim_below(&world->sim, EDGES);
    world->node_gone[number] = true;
    client_remove(client, cloud,
                  codec_print(client->codec, "/nodes//%s", world->edges[number].process.name), "");
}

static void client_read(struct client *client, struct cloud *cloud)
{
    const struct backend *backend = cloud_core_backend(cloud->core);
    struct ask *ask = client_ask(client, cloud);
    client->value = 0;
    client->floor = client->world->acknowledged;
    if (backend->fresh(backend->owner, client_on_fresh, ask) != 0) {
        client->cloud = NULL;
        free(ask);
    }
    cloud->process.poked = true;
}

static void client_turn(void *context)
{
    struct client *client = context;
    struct world *world = client->world;
    if (!world->clients_run) {
        return;
    }
    sim_after(&world->sim, sim_between(&world->sim, 20 * MS, 300 * MS), 0, client_turn, client);
    struct cloud *cloud = &world->clouds[sim_below(&world->sim, CLOUDS)];
    if (world->idle || client->cloud != NULL || cloud->process.life == 0 ||
        world->write_count + 2 >= SPINE_WRITES) {
        return;
    }
    codec_reset(client->codec);
    if (world->devices && sim_below(&world->sim, 4) == 0) {
        client_device(client, cloud);
        return;
    }
    const uint64_t what = sim_below(&world->sim, 100);
    if (what < 20) {
        client_data(client, cloud, false, false);
    } else if (what < 26) {
        client_data(client, cloud, true, false);
    } else if (what < 30) {
        client_data(client, cloud, false, true);
    } else if (what < 40) {
        client_read(client, cloud);
    } else if (what == 40 && world->profile != PROFILE_LEADER) {
        client_remove_node(client, cloud);
    } else {
        client_pod(client, cloud);
    }
}

void clients_cloud_died(struct world *world, const struct cloud *cloud)
{
    for (uint32_t i = 0; i < CLIENTS; i++) {
        struct client *client = &world->clients[i];
        if (client->cloud == cloud) {
            client->cloud = NULL;
            client->asks++;
            if (client->value != 0) {
                world->writes[client->value].fate = FATE_UNKNOWN;
                world->unknown++;
            }
        }
    }
}

void clients_begin(struct world *world)
{
    world->clients_run = true;
    for (uint32_t i = 0; i < CLIENTS; i++) {
        struct client *client = &world->clients[i];
        *client = (struct client){.world = world, .number = i + 1, .codec = codec_create()};
        sim_after(&world->sim, sim_between(&world->sim, SECOND, 2 * SECOND), 0, client_turn,
                  client);
    }
}
