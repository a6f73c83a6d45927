/* Users who wish something of devices, in the words of the API's inside: JSON of a Device or a DeviceModel, made a
 * record by what api_write.c calls, too. */
#include "nodes/cloud/api_device.h"
#include "nodes/cloud/api_object.h"
#include "tests/sim/spine.h"

#define MODEL_KEY "devices.kubeedge.io/devicemodels/default/m"

/* CANARY_OLDER: the state says that nothing has happened yet. */
static uint64_t version_of_old(void *owner)
{
    (void)owner;
    return 0;
}

static void label_put(struct client *client, json_t *object, const struct write *write)
{
    json_put_text(json_child(json_child(object, "metadata"), "labels"), "v",
                  codec_print(client->codec, "%u", write->value));
}

/* Propose this wish of a kind; taken.
 *   row  of the one that is there; NULL: it is new */
static void wish_propose(struct client *client, struct cloud *cloud, enum api_kind kind,
                         json_t *wish, const struct backend_row *row)
{
    struct world *world = client->world;
    struct backend backend = *cloud_core_backend(cloud->core);
    struct bytes record = {0};
    if (world->canary == CANARY_OLDER && row != NULL && sim_below(&world->sim, 8) == 0) {
        backend.version = version_of_old;
    }
    const char *uid = json_text_at(wish, "metadata.uid");
    snprintf(world->writes[client->value].uid, sizeof world->writes[client->value].uid, "%.23s",
             uid);
    const int built =
        api_object_put(&backend, client->codec, "test", api_resource_get(kind), wish, row,
                       row == NULL ? PUT_CREATE : PUT_UPDATE, row == NULL ? 0 : row->wish_version,
                       row == NULL ? "" : uid, &record);
    client_propose(client, cloud, built, record);
    json_decref(wish);
}

/* A new object of a kind, from its text. */
static void wish_create(struct client *client, struct cloud *cloud, enum api_kind kind,
                        const char *text, const struct write *write)
{
    struct api_error error = {0};
    char why[128];
    json_t *object = json_read(bytes_text(text), false, why, sizeof why);
    CHECK(object != NULL);
    label_put(client, object, write);
    if (!api_object_create(cloud_core_backend(cloud->core), api_resource_get(kind), "default",
                           object, &error)) {
        spine_fail(client->world, "door", "%s: %s", text, error.message.data);
    }
    api_error_release(&error);
    wish_propose(client, cloud, kind, object, NULL);
}

/* The model says another type of "w". */
static void client_model(struct client *client, struct cloud *cloud, const struct backend_row *row)
{
    const bool integer = sim_below(&client->world->sim, 2) == 0;
    const struct write *write = client_write(client, MODEL_KEY);
    if (row == NULL) {
        wish_create(
            client, cloud, API_DEVICE_MODEL,
            integer ? "{\"metadata\":{\"name\":\"m\"},\"spec\":{\"properties\":[{\"name\":\"t\","
                      "\"type\":\"INT\"},{\"name\":\"w\",\"type\":\"INT\"}]}}"
                    : "{\"metadata\":{\"name\":\"m\"},\"spec\":{\"properties\":[{\"name\":\"t\","
                      "\"type\":\"INT\"},{\"name\":\"w\",\"type\":\"STRING\"}]}}",
            write);
        return;
    }
    json_t *model = api_object_wish(client->codec, row);
    CHECK(model != NULL);
    label_put(client, model, write);
    json_t *property = api_device_entry(json_at(model, "spec.properties"), "name", "w");
    json_put_text(property, "type", integer ? "INT" : "STRING");
    wish_propose(client, cloud, API_DEVICE_MODEL, model, row);
}

static const char *any_node(struct world *world)
{
    return world->edges[sim_below(&world->sim, EDGES)].process.name;
}

static void device_create(struct client *client, struct cloud *cloud, uint32_t number,
                          const char *key)
{
    struct world *world = client->world;
    const struct write *write = client_write(client, key);
    const bool wished = sim_below(&world->sim, 2) == 0;
    const bool placed = sim_below(&world->sim, 8) > 0;
    world->number_last += wished ? 1 : 0;
    wish_create(
        client, cloud, API_DEVICE,
        codec_print(
            client->codec,
            "{\"metadata\":{\"name\":\"dev-%u\"%s},\"spec\":{\"deviceModelRef\":{\"name\":"
            "\"m\"}%s,\"properties\":[{\"name\":\"t\"},{\"name\":\"w\"%s}]}}",
            number,
            sim_below(&world->sim, 3) == 0 ? ",\"annotations\":{\"" DEVICE_KEEP_VALUES
                                             "\":\"true\"}"
                                           : "",
            placed ? codec_print(client->codec, ",\"nodeName\":\"%s\"", any_node(world)) : "",
            wished
                ? codec_print(client->codec, ",\"desired\":{\"value\":\"%u\"}", world->number_last)
                : ""),
        write);
}

/* Another value for "w", or none; another node, or none; or a label alone.
 *   back  it was moved just now, and is moved again */
static void device_update(struct client *client, struct cloud *cloud, const char *key,
                          const struct backend_row *row, bool back)
{
    struct world *world = client->world;
    const struct write *write = client_write(client, key);
    json_t *device = api_object_wish(client->codec, row);
    CHECK(device != NULL);
    label_put(client, device, write);
    json_t *spec = json_child(device, "spec");
    json_t *property = api_device_entry(json_object_get(spec, "properties"), "name", "w");
    const uint64_t what = back ? 17 : sim_below(&world->sim, 20);
    client->moved = 0;
    if (what < 11) {
        world->number_last++;
        json_put_text(json_child(property, "desired"), "value",
                      codec_print(client->codec, "%u", world->number_last));
    } else if (what < 13) {
        (void)json_object_del(property, "desired");
    } else if (what < 18) {
        const bool first =
            strcmp(json_text_at(spec, "nodeName"), world->edges[0].process.name) == 0;
        json_put_text(spec, "nodeName",
                      what == 13 ? NULL : world->edges[first ? 1 : 0].process.name);
        client->moved = back ? 0 : 1 + (uint32_t)(key[strlen(key) - 1] - '0');
    }
    wish_propose(client, cloud, API_DEVICE, device, row);
}

void client_device(struct client *client, struct cloud *cloud)
{
    struct world *world = client->world;
    const struct backend *backend = cloud_core_backend(cloud->core);
    struct backend_view *view;
    uint64_t version;
    struct backend_row row;
    struct object_put put;
    const bool back = client->moved != 0 && sim_below(&world->sim, 2) == 0;
    const uint32_t number = back ? client->moved - 1 : (uint32_t)sim_below(&world->sim, DEVICES);
    const bool model = !back && sim_below(&world->sim, 12) == 0;
    const char *key = model ? MODEL_KEY : codec_print(client->codec, DEVICE_KEY "%u", number);
    if (world->canary == CANARY_REPORT && world->known[0].silent_us == 0) {
        return;
    }
    if (backend->level(backend->owner) < api_resource_get(API_DEVICE)->level ||
        backend->view_open(backend->owner, &view, &version) != 0) {
        return; /* as the API door: later */
    }
    const int found = backend->view_get(backend->owner, view, bytes_text(key), &row);
    if (model) {
        client_model(client, cloud, found == 0 ? &row : NULL);
    } else if (found == BACKEND_NONE) {
        device_create(client, cloud, number, key);
    } else {
        CHECK(found == 0);
        CHECK(codec_object_put_read(client->codec, row.wish, &put) == 0);
        if (!back && sim_below(&world->sim, 10) == 0) {
            client_remove(client, cloud, key, codec_print(client->codec, "%s", put.object.uid));
        } else {
            device_update(client, cloud, key, &row, back);
        }
    }
    backend->view_close(backend->owner, view);
}
