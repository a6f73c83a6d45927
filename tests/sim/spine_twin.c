/* Oracles of devices.
 *
 * An edge is read after each of its turns, in the order of its log: what it promised to its mappers (outbox) and what
 * is to go up. From there on nothing of it may be lost, told otherwise, or arrive twice.
 */
#include "nodes/cloud/api_device.h"
#include "nodes/cloud/api_json.h"
#include "nodes/edge/core_inner.h"
#include "statemachine/delivery.h"
#include "statemachine/edge.h"
#include "statemachine/inbox.h"
#include "statemachine/object.h"
#include "tests/sim/spine.h"

uint32_t device_number(struct bytes key)
{
    const size_t size = sizeof DEVICE_KEY - 1;
    if (key.size != size + 1 || memcmp(key.data, DEVICE_KEY, size) != 0) {
        return DEVICES;
    }
    return (uint32_t)(key.data[size] - '0') % DEVICES;
}

static uint64_t hash_text(uint64_t hash, const char *text)
{
    for (; *text != '\0'; text++) {
        hash = (hash ^ (uint8_t)*text) * 1099511628211u;
    }
    return hash * 31 + 1;
}

/* -- what an edge says ----------------------------------------------------------------------------- */

static uint64_t twin_hash(uint64_t hash, bool has, const struct twin *twin)
{
    if (!has) {
        return hash + 1;
    }
    hash = hash_text(hash_text(hash, twin->key), twin->type);
    hash = hash_text(hash, twin->has_expected ? twin->expected : "-");
    hash = hash_text(hash, twin->has_actual ? twin->actual : "-");
    return (hash ^ twin->wish_revision ^ (uint64_t)twin->actual_ms) * 1099511628211u;
}

static uint64_t publication_hash(const struct publication *p)
{
    uint64_t hash = hash_text(hash_text(14695981039346656037u, p->device), p->event_id);
    hash = (hash ^ p->kind ^ (uint64_t)p->time_ms ^ (uint64_t)p->code) * 1099511628211u;
    for (uint32_t i = 0; i < p->twin_count; i++) {
        hash = twin_hash(hash, p->twins[i].has_before, &p->twins[i].before);
        hash = twin_hash(hash, p->twins[i].has_after, &p->twins[i].after);
    }
    return hash | 1;
}

static const struct wished *wished_find(const struct world *world, uint32_t device,
                                        uint64_t revision)
{
    for (uint32_t i = world->wished_count; i > 0; i--) {
        if (world->wished[i - 1].device == device && world->wished[i - 1].revision == revision) {
            return &world->wished[i - 1];
        }
    }
    return NULL;
}

/* Claim: nobody but a newer wish, or somebody at the edge, changes what a twin is expected to be; and what a wish
 * brings is what it says. */
static void check_expected(struct edge *edge, uint32_t device, const struct published_twin *twin)
{
    struct world *world = edge->process.world;
    struct device_seen *seen = &edge->devices[device];
    const struct twin *after = &twin->after;
    const char *name = edge->process.name;
    if (twin->has_before && (twin->before.wish_revision != seen->revision ||
                             twin->before.has_expected != seen->has_expected ||
                             strcmp(twin->before.expected, seen->expected) != 0)) {
        spine_fail(world, "twin", "%s: dev-%u was expected to be %s (%llu), and says %s (%llu)",
                   name, device, seen->expected, (unsigned long long)seen->revision,
                   twin->before.expected, (unsigned long long)twin->before.wish_revision);
    }
    if (twin->has_before && after->wish_revision < twin->before.wish_revision) {
        spine_fail(world, "older", "%s: dev-%u takes wish %llu after %llu", name, device,
                   (unsigned long long)after->wish_revision,
                   (unsigned long long)twin->before.wish_revision);
    }
    const bool wished = after->wish_revision > (twin->has_before ? twin->before.wish_revision : 0);
    const bool changed = twin->has_before && (strcmp(twin->before.expected, after->expected) != 0 ||
                                              twin->before.has_expected != after->has_expected);
    if (changed && !wished && !after->expected_local) {
        spine_fail(world, "flaps", "%s: dev-%u is expected to be %s now, and nobody said so", name,
                   device, after->expected);
    }
    if (wished) {
        const struct wished *wish = wished_find(world, device, after->wish_revision);
        if (wish == NULL || after->expected_local || wish->has_desired != after->has_expected ||
            strcmp(wish->desired, after->expected) != 0) {
            spine_fail(world, "wish", "%s: dev-%u is expected to be %s by wish %llu of %s", name,
                       device, after->expected, (unsigned long long)after->wish_revision,
                       wish == NULL ? "nobody" : wish->desired);
        }
    }
    seen->revision = after->wish_revision;
    seen->has_expected = after->has_expected;
    snprintf(seen->expected, sizeof seen->expected, "%s", after->expected);
}

static void check_promise(struct edge *edge, const struct publication *p)
{
    struct world *world = edge->process.world;
    unsigned question;
    const uint32_t device = device_number(bytes_text(p->device));
    if (p->kind == PUBLISH_TWIN_RESULT && sscanf(p->event_id, "q-%u", &question) == 1) {
        CHECK(question < SPINE_QUESTIONS);
        world->questions[question].edge = edge->process.number + 1;
    }
    if (device == DEVICES || p->code != 0) {
        return;
    }
    struct device_seen *seen = &edge->devices[device];
    if (p->kind == PUBLISH_DEVICE_ADDED || p->kind == PUBLISH_DEVICE_REMOVED) {
        const bool added = p->kind == PUBLISH_DEVICE_ADDED;
        if (seen->there == added) {
            spine_fail(world, "member", "%s: dev-%u %s twice", edge->process.name, device,
                       added ? "comes" : "goes");
        }
        *seen = (struct device_seen){.there = added, .born = seen->born + (added ? 1 : 0)};
    }
    if (p->kind != PUBLISH_DEVICE_ADDED && p->kind != PUBLISH_TWIN_DOCUMENT) {
        return;
    }
    for (uint32_t i = 0; i < p->twin_count; i++) {
        const struct published_twin *twin = &p->twins[i];
        if (twin->has_after && strcmp(twin->after.key, "w") == 0) {
            check_expected(edge, device, twin);
        } else if (twin->has_after && strcmp(twin->after.key, "t") == 0) {
            seen->has_actual = twin->after.has_actual;
            snprintf(seen->actual, sizeof seen->actual, "%s", twin->after.actual);
        }
    }
}

static bool event_read(struct codec *codec, struct bytes bytes, struct edge_said *out)
{
    struct record record;
    struct mqtt_message message;
    struct device_value value;
    CHECK(codec_record_read(codec, codec_aligned(codec, bytes), &record) == 0);
    *out = (struct edge_said){.hash = 14695981039346656037u};
    for (size_t i = 0; i < bytes.size; i++) {
        out->hash = (out->hash ^ bytes.data[i]) * 1099511628211u;
    }
    if (record.kind == RECORD_MQTT_MESSAGE) {
        CHECK(codec_mqtt_message_read(codec, record.body, &message) == 0);
        out->number = (uint32_t)atoi(codec_print(codec, "%.*s", (int)message.payload.size,
                                                 (const char *)message.payload.data));
        return true;
    }
    if (record.kind != RECORD_DEVICE_VALUE) {
        return false;
    }
    CHECK(codec_device_value_read(codec, record.body, &value) == 0);
    out->number = (uint32_t)atoi(value.value);
    out->device = 1 + device_number(bytes_text(record.key));
    return strcmp(value.key, "t") == 0; /* its numbers are new each time */
}

static void check_promises(struct edge *edge, uint64_t from, uint64_t to)
{
    struct world *world = edge->process.world;
    struct edge_machine *machine = edge->core->machine;
    CHECK(to < SPINE_PROMISES);
    struct edge_outbox *outbox = edge_outbox_open(machine, from);
    for (uint64_t position = from; position < to;) {
        struct publication publication;
        codec_reset(edge->codec);
        if (edge_outbox_next(outbox, edge->codec, &position, &publication) != STATUS_OK) {
            spine_fail(world, "promise", "%s: the promise behind %llu is not there",
                       edge->process.name, (unsigned long long)position);
        }
        const uint64_t hash = publication_hash(&publication);
        if (edge->promises[position] != 0 && edge->promises[position] != hash) {
            spine_fail(world, "promise", "%s: promise %llu is another one now", edge->process.name,
                       (unsigned long long)position);
        }
        if (edge->promises[position] == 0) {
            edge->promises[position] = hash;
            world->promises++;
            check_promise(edge, &publication);
        }
    }
    edge_outbox_close(outbox);
}

static void check_up(struct edge *edge)
{
    struct world *world = edge->process.world;
    struct batch batch;
    struct edge_machine *machine = edge->core->machine;
    const uint64_t last = edge_machine_meta(machine)->up_last;
    while (edge->up_seen < last) {
        codec_reset(edge->codec);
        CHECK(edge_up_read(machine, edge->up_seen, SIZE_MAX, edge->codec, &batch) == STATUS_OK);
        if (batch.last == batch.previous) {
            break;
        }
        for (uint32_t i = 0; i < batch.record_count; i++) {
            struct edge_said said;
            if (event_read(edge->codec, batch.records[i].record, &said)) {
                CHECK(edge->event_count < SPINE_EVENTS);
                edge->events[edge->event_count++] = said;
                world->events++;
            }
        }
        edge->up_seen = batch.last;
    }
    edge->up_seen = last;
}

void check_edge_said(struct edge *edge)
{
    const struct edge_meta *meta = edge_machine_meta(edge->core->machine);
    if (edge->broker_count == 0) {
        return;
    }
    if (meta->outbox_last < edge->promised || meta->up_last < edge->up_seen) {
        spine_fail(edge->process.world, "lost",
                   "%s: it had promised %llu and said %llu, and knows of %llu and %llu",
                   edge->process.name, (unsigned long long)edge->promised,
                   (unsigned long long)edge->up_seen, (unsigned long long)meta->outbox_last,
                   (unsigned long long)meta->up_last);
    }
    if (meta->outbox_last > edge->promised) {
        check_promises(edge, edge->promised, meta->outbox_last);
        edge->promised = meta->outbox_last;
    }
    check_up(edge);
}

/* Claim: an edge that ended in order had in its log whatever it had read. */
static void check_left(struct edge *edge)
{
    struct world *world = edge->process.world;
    for (uint32_t i = 0; i < edge->asked_count; i++) {
        if (world->questions[edge->asked[i]].edge == 0) {
            spine_fail(world, "left",
                       "%s ended in order, and question %u, which it had read, is lost",
                       edge->process.name, edge->asked[i]);
        }
    }
    for (uint32_t i = 0; i < DEVICES; i++) {
        const struct device_seen *seen = &edge->devices[i];
        if (edge->read[i].number != 0 && seen->there && seen->born == edge->read[i].born &&
            (uint32_t)atoi(seen->actual) != edge->read[i].number) {
            spine_fail(world, "left", "%s ended in order: t of dev-%u is %s, it had read %u",
                       edge->process.name, i, seen->actual, edge->read[i].number);
        }
    }
}

void check_edge_began(struct edge *edge)
{
    if (edge->broker_count == 0) {
        return;
    }
    check_edge_said(edge);
    check_promises(edge, edge_machine_meta(edge->core->machine)->outbox_done, edge->promised);
    if (edge->left) {
        check_left(edge);
    }
    edge->left = false;
    edge->asked_count = 0;
    memset(edge->read, 0, sizeof edge->read);
}

void check_read(struct edge *edge, const char *topic, const char *payload)
{
    unsigned number;
    if (sscanf(payload, "{\"event_id\":\"q-%u\"", &number) == 1 && number < SPINE_QUESTIONS &&
        edge->asked_count < sizeof edge->asked / sizeof edge->asked[0]) {
        edge->asked[edge->asked_count++] = number;
    }
    const char *name = strstr(topic, "dev-");
    const char *value = strstr(payload, "\"t\":{\"actual\":{\"value\":\"");
    if (name != NULL && value != NULL) { /* what is no number may be taken, or not: by its type */
        const struct device_seen *seen = &edge->devices[name[4] - '0'];
        const bool known = seen->there && sscanf(value + 24, "%u", &number) == 1;
        edge->read[name[4] - '0'].number = known ? number : 0;
        edge->read[name[4] - '0'].born = seen->born;
    }
}

void check_publish(struct edge *edge)
{
    struct world *world = edge->process.world;
    const uint64_t position = edge_machine_position(edge->core->machine);
    if (position >= log_durable_next(&edge->process.log)) {
        spine_fail(world, "durable",
                   "%s publishes at record %llu, durable is what comes before %llu",
                   edge->process.name, (unsigned long long)position,
                   (unsigned long long)log_durable_next(&edge->process.log));
    }
}

void check_heard(struct edge *edge, uint32_t broker, uint32_t question)
{
    struct world *world = edge->process.world;
    if (question >= SPINE_QUESTIONS || world->questions[question].edge == 0) {
        spine_fail(world, "durable", "%s answers question %u, and nothing of it is durable",
                   edge->process.name, question);
    }
    world->questions[question].heard |= 1u << broker;
}

bool check_device_waits(struct edge *edge, uint32_t device)
{
    struct device_status status;
    bool waits = false;
    codec_reset(edge->codec);
    if (edge->process.life == 0 ||
        edge_device_find(edge->core->machine, codec_print(edge->codec, DEVICE_KEY "%u", device),
                         edge->codec, &status) != STATUS_OK) {
        return false;
    }
    for (uint32_t i = 0; i < status.twin_count; i++) {
        const struct twin *twin = &status.twins[i];
        waits = waits || (strcmp(twin->key, "w") == 0 && twin->has_expected &&
                          strcmp(twin->expected, twin->actual) != 0);
    }
    return waits;
}

/* -- what arrives ------------------------------------------------------------------------------------ */

static void check_arrival(struct world *world, uint32_t number, const struct edge_said *said)
{
    const struct edge *edge = &world->edges[number];
    struct arrived *arrived = &world->arrived[number];
    uint32_t next = arrived->anew ? 0 : arrived->next;
    while (next < edge->event_count && edge->events[next].hash != said->hash) {
        const uint32_t device = edge->events[next].device;
        if (!arrived->anew && (device == 0 || !world->known[device - 1].moved)) {
            spine_fail(world, "events", "%s: event %u (%u) arrived, %u (%u) was to come",
                       edge->process.name, said->number, said->device, edge->events[next].number,
                       device);
        }
        next++;
    }
    if (next == edge->event_count) {
        spine_fail(world, "events", "%s: event %u (%u) arrived, and was not to come",
                   edge->process.name, said->number, said->device);
    }
    arrived->next = next + 1;
    arrived->anew = false;
}

void check_inbox(struct cloud *cloud)
{
    struct world *world = cloud->process.world;
    struct store_reader *reader = store_live(cloud->process.store);
    if (!world->devices || store_position(cloud->process.store) == cloud->inboxed) {
        return;
    }
    cloud->inboxed = store_position(cloud->process.store);
    for (uint32_t i = 0; i < EDGES; i++) {
        const char *name = world->edges[i].process.name;
        struct arrived *arrived = &world->arrived[i];
        struct node_row node;
        uint64_t last = 0;
        uint64_t kept = 0;
        if (node_get(reader, name, &node) != STATUS_OK || node.down_stream < arrived->stream) {
            continue; /* it is behind */
        }
        if (node.down_stream > arrived->stream) {
            *arrived = (struct arrived){.stream = node.down_stream, .anew = true};
        }
        CHECK(inbox_count(reader, name, &last, &kept) == STATUS_OK);
        while (arrived->number < last) {
            struct inbox_row row;
            struct edge_said said;
            codec_reset(world->codec);
            if (inbox_next(reader, name, arrived->number, &row) != STATUS_OK ||
                row.number != arrived->number + 1) {
                spine_fail(world, "events", "%s: event number %llu is not in the inbox", name,
                           (unsigned long long)arrived->number + 1);
            }
            arrived->number = row.number;
            if (event_read(world->codec, row.record, &said)) {
                check_arrival(world, i, &said);
            }
        }
    }
    store_reader_reset(reader);
}

/* -- what becomes of wishes ----------------------------------------------------------------------------- */

static const struct device_property *wish_of(struct world *world, struct bytes wish,
                                             struct object_put *put)
{
    if (wish.size == 0) {
        return NULL;
    }
    CHECK(codec_object_put_read(world->codec, wish, put) == 0);
    const struct device_wish *device = put->object.device;
    for (uint32_t i = 0; device != NULL && i < device->property_count; i++) {
        if (strcmp(device->properties[i].name, "w") == 0) {
            return &device->properties[i];
        }
    }
    return NULL;
}

static void check_wish(struct world *world, uint32_t device, const struct backend_change *change)
{
    struct object_put before = {0};
    struct object_put after = {0};
    const struct device_property *was = wish_of(world, change->before.wish, &before);
    const struct device_property *is = wish_of(world, change->after.wish, &after);
    struct device_known *known = &world->known[device];
    known->wishes++;
    known->rewrites +=
        was != NULL && is != NULL && object_value(&before.object) == object_value(&after.object);
    known->moved = known->moved ||
                   (was != NULL && before.object.node_name[0] != '\0' &&
                    (is == NULL || strcmp(before.object.node_name, after.object.node_name) != 0));
    if (is == NULL || (was != NULL && was->revision == is->revision)) {
        if (is != NULL &&
            (was->has_desired != is->has_desired || strcmp(was->desired, is->desired) != 0)) {
            spine_fail(world, "older", "dev-%u: another wish of the same revision %llu", device,
                       (unsigned long long)is->revision);
        }
        return;
    }
    if (was != NULL && is->revision < was->revision && world->canary != CANARY_OLDER) {
        spine_fail(world, "older", "dev-%u: a wish of revision %llu after %llu", device,
                   (unsigned long long)is->revision, (unsigned long long)was->revision);
    }
    CHECK(world->wished_count < SPINE_WISHES);
    struct wished *wished = &world->wished[world->wished_count++];
    *wished =
        (struct wished){.device = device, .revision = is->revision, .has_desired = is->has_desired};
    snprintf(wished->desired, sizeof wished->desired, "%s", is->desired);
}

void check_device_change(struct world *world, const struct backend_change *change)
{
    const char *model = "devices.kubeedge.io/devicemodels/";
    const uint32_t device = device_number(change->key);
    if (device == DEVICES) {
        world->model_wishes += bytes_start_with(change->key, bytes_text(model));
        return;
    }
    if (!bytes_equal(change->before.wish, change->after.wish)) {
        check_wish(world, device, change);
    }
    world->known[device].reports += !bytes_equal(change->before.fact, change->after.fact);
}

/* -- agreement --------------------------------------------------------------------------------------------- */

/* The device at the edge that it is bound to, and what the cloud shows of it.
 *   edge  NULL: it is bound to none */
static const char *device_differs(struct world *world, uint32_t number, const struct edge *edge,
                                  const struct object_row *row, const struct object *wish)
{
    struct device_status status;
    struct bytes said;
    codec_reset(edge->codec);
    const char *key = codec_print(edge->codec, DEVICE_KEY "%u", number);
    if (edge_device_find(edge->core->machine, key, edge->codec, &status) != STATUS_OK ||
        strcmp(status.uid, wish->uid) != 0) {
        return explain("%s does not have dev-%u uid %s", edge->process.name, number, wish->uid);
    }
    CHECK(codec_device_status_build(edge->codec, &status, &said) == 0);
    if (!bytes_equal(said, row->parts[PART_FACT].body)) {
        return explain("%s: the cloud shows dev-%u otherwise than it says", edge->process.name,
                       number);
    }
    struct object_put put = {0};
    const struct device_property *w = wish_of(world, row->parts[PART_WISH].body, &put);
    for (uint32_t i = 0; i < status.twin_count; i++) {
        const struct twin *twin = &status.twins[i];
        if (strcmp(twin->key, "t") == 0 &&
            (twin->has_actual != edge->devices[number].has_actual ||
             strcmp(twin->actual, edge->devices[number].actual) != 0)) {
            return explain("%s: t of dev-%u is %s, promised was %s", edge->process.name, number,
                           twin->actual, edge->devices[number].actual);
        }
        if (strcmp(twin->key, "w") != 0) {
            continue;
        }
        const bool wished = w != NULL && w->revision == twin->wish_revision;
        const bool right =
            twin->expected_local || (wished && w->has_desired == twin->has_expected &&
                                     strcmp(w->desired, twin->expected) == 0);
        if (!wished || !right ||
            (twin->has_expected && strcmp(twin->expected, twin->actual) != 0)) {
            return explain(
                "%s: dev-%u is %s, expected by wish %llu%s is %s; wished %s by %llu",
                edge->process.name, number, twin->actual, (unsigned long long)twin->wish_revision,
                twin->expected_local ? " and at the edge" : "", twin->expected,
                w == NULL ? "" : w->desired, w == NULL ? 0ULL : (unsigned long long)w->revision);
        }
    }
    return NULL;
}

/* What the leader writes of devices by itself: types as the model has them, and who is in the profile of a node. */
static const char *followed_differs(struct world *world, struct store_reader *reader,
                                    uint32_t number, const struct object_put *put)
{
    struct object_row row;
    struct object_put other = {0};
    const char *model = "devices.kubeedge.io/devicemodels/default/m";
    const struct device_wish *wish = put->object.device;
    if (wish != NULL && object_get(reader, bytes_text(model), &row) == STATUS_OK) {
        char why[128];
        CHECK(codec_object_put_read(world->codec, row.parts[PART_WISH].body, &other) == 0);
        json_t *json = json_read(other.object.json, false, why, sizeof why);
        CHECK(json != NULL);
        for (uint32_t i = 0; i < wish->property_count; i++) {
            const char *type = api_device_model_type(json, wish->properties[i].name);
            if (type == NULL || strcmp(type, wish->properties[i].type) != 0) {
                json_decref(json);
                return explain("dev-%u: %s is %s, and not as its model has it", number,
                               wish->properties[i].name, wish->properties[i].type);
            }
        }
        json_decref(json);
    }
    for (uint32_t i = 0; i < EDGES; i++) {
        const char *node = world->edges[i].process.name;
        const char *key =
            codec_print(world->codec, "/configmaps/default/device-profile-config-%s", node);
        const char *name = codec_print(world->codec, "dev-%u", number);
        const bool bound = wish != NULL && strcmp(put->object.node_name, node) == 0;
        bool listed = false;
        if (object_get(reader, bytes_text(key), &row) == STATUS_OK) {
            CHECK(codec_object_put_read(world->codec, row.parts[PART_WISH].body, &other) == 0);
            listed =
                memmem(other.object.json.data, other.object.json.size, name, strlen(name)) != NULL;
        }
        if (bound != listed) {
            return explain("the profile of %s %s dev-%u", node, listed ? "has" : "lacks", number);
        }
    }
    return NULL;
}

const char *devices_differ(struct world *world)
{
    struct store_reader *reader = store_live(world_leader(world)->process.store);
    const char *differs = NULL;
    for (uint32_t i = 0; i < DEVICES && world->devices && differs == NULL; i++) {
        struct object_row row;
        struct object_put put = {0};
        char key[64];
        snprintf(key, sizeof key, DEVICE_KEY "%u", i);
        codec_reset(world->codec);
        const bool found = object_get(reader, bytes_text(key), &row) == STATUS_OK;
        CHECK(!found ||
              codec_object_put_read(world->codec, row.parts[PART_WISH].body, &put) == STATUS_OK);
        if (found && put.object.node_name[0] == '\0' && row.parts[PART_FACT].body.size > 0) {
            differs = explain("dev-%u is at no node, and the cloud shows something of it", i);
        }
        for (uint32_t e = 0; e < EDGES && differs == NULL; e++) {
            const struct edge *edge = &world->edges[e];
            struct device_status status;
            if (found && strcmp(put.object.node_name, edge->process.name) == 0) {
                differs = device_differs(world, i, edge, &row, &put.object);
            } else if (edge_device_find(edge->core->machine, key, edge->codec, &status) !=
                       STORE_NONE) {
                differs = explain("%s has dev-%u, and should not", edge->process.name, i);
            }
        }
        differs = differs == NULL ? followed_differs(world, reader, i, &put) : differs;
        store_reader_reset(reader);
    }
    for (uint32_t e = 0; e < EDGES && world->devices && differs == NULL; e++) {
        const struct bus_report report = bus_report(edge_core_bus(world->edges[e].core));
        if (report.waiting > 0 || report.outbox > 0) {
            differs =
                explain("%s: %llu messages wait, and %llu promises", world->edges[e].process.name,
                        (unsigned long long)report.waiting, (unsigned long long)report.outbox);
        }
    }
    return differs;
}

/* -- the end ------------------------------------------------------------------------------------------------- */

static uint32_t rows_count(struct store_reader *reader, unsigned table)
{
    uint32_t count = 0;
    struct store_iterator *iterator = store_iterate(reader, table, (struct bytes){0});
    for (bool on = store_iterator_first(iterator); on; on = store_iterator_next(iterator)) {
        count++;
    }
    store_iterator_close(iterator);
    return count;
}

/* What is of no device that is wished here is gone. */
static void check_edge_rows(struct world *world, struct edge *edge)
{
    static const unsigned tables[] = {EDGE_TABLE_DEVICE, EDGE_TABLE_TWIN};
    static const unsigned empty[] = {EDGE_TABLE_UP, EDGE_TABLE_UP_KEY, EDGE_TABLE_UP_EVENT,
                                     EDGE_TABLE_OUTBOX};
    struct store_reader *reader = store_live(edge->process.store);
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        struct store_iterator *iterator = store_iterate(reader, tables[i], (struct bytes){0});
        for (bool on = store_iterator_first(iterator); on; on = store_iterator_next(iterator)) {
            const struct bytes row = store_iterator_key(iterator);
            struct object_put put;
            codec_reset(edge->codec);
            const char *key = /* up to the property */
                codec_print(edge->codec, "%.*s", (int)row.size, (const char *)row.data);
            if (edge_object_find(edge->core->machine, key, edge->codec, &put) != STATUS_OK) {
                spine_fail(world, "left", "%s has rows of %s, which is not wished",
                           edge->process.name, key);
            }
        }
        store_iterator_close(iterator);
    }
    for (size_t i = 0; i < sizeof empty / sizeof empty[0]; i++) {
        if (rows_count(reader, empty[i]) > 0) {
            spine_fail(world, "left", "%s has %u rows in table %u, and nothing waits",
                       edge->process.name, rows_count(reader, empty[i]), empty[i]);
        }
    }
}

/* Facts and verdicts are of objects that are there, and who is bound to a node is so by its wish. */
static void check_cloud_rows(struct world *world)
{
    static const unsigned tables[] = {TABLE_FACT, TABLE_VERDICT, TABLE_BOUND};
    struct store_reader *reader = store_live(world_leader(world)->process.store);
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        struct store_iterator *iterator = store_iterate(reader, tables[i], (struct bytes){0});
        for (bool on = store_iterator_first(iterator); on; on = store_iterator_next(iterator)) {
            const struct bytes row = store_iterator_key(iterator);
            struct bytes key = row;
            struct object_row object;
            struct object_put put;
            codec_reset(world->codec);
            if (tables[i] == TABLE_BOUND) { /* node \0 key; or a number under a node alone */
                const uint8_t *end = memchr(row.data, '\0', row.size);
                if (end == NULL) {
                    continue;
                }
                key = bytes_of(end + 1, (size_t)(row.data + row.size - end) - 1);
            }
            key = codec_copy(world->codec, key);
            const bool found = object_get(reader, key, &object) == STATUS_OK;
            if (!found || (tables[i] == TABLE_BOUND &&
                           (codec_object_put_read(world->codec, object.parts[PART_WISH].body,
                                                  &put) != STATUS_OK ||
                            strncmp((const char *)row.data, put.object.node_name,
                                    row.size - key.size) != 0))) {
                spine_fail(world, "left", "table %u has a row of %.*s, which is not so", tables[i],
                           (int)key.size, (const char *)key.data);
            }
        }
        store_iterator_close(iterator);
    }
    store_reader_reset(reader);
}

/* Nothing changes without a cause. */
static void check_causes(struct world *world)
{
    for (uint32_t i = 0; i < DEVICES; i++) {
        const struct device_known *known = &world->known[i];
        if (known->reports > known->said + 2 * known->wishes) {
            spine_fail(world, "flaps", "dev-%u was reported %u times; %u messages, %u wishes", i,
                       known->reports, known->said, known->wishes);
        }
        if (known->rewrites > world->model_wishes + (known->wishes - known->rewrites)) {
            spine_fail(world, "flaps", "dev-%u was written anew %u times; %u wishes, %u models", i,
                       known->rewrites, known->wishes, world->model_wishes);
        }
    }
}

/* Every event has arrived, but for values of a device that went before them. */
static void check_events(struct world *world, uint32_t number)
{
    const struct edge *edge = &world->edges[number];
    const struct arrived *arrived = &world->arrived[number];
    for (uint32_t i = arrived->next; i < edge->event_count && !arrived->anew; i++) {
        const uint32_t device = edge->events[i].device;
        if (device == 0 || !world->known[device - 1].moved) {
            spine_fail(world, "events", "%s: event %u never arrived", edge->process.name,
                       edge->events[i].number);
        }
    }
}

/* What was promised was heard, at each broker. */
static void check_answers(struct world *world)
{
    for (uint32_t i = 1; i <= world->question_last; i++) {
        const struct question *question = &world->questions[i];
        if (question->edge == 0) {
            continue;
        }
        const struct edge *edge = &world->edges[question->edge - 1];
        if (question->heard != (1u << edge->broker_count) - 1) {
            spine_fail(world, "unheard", "%s never told the answer to question %u; brokers %x did",
                       edge->process.name, i, question->heard);
        }
    }
}

void check_devices(struct world *world)
{
    if (!world->devices) {
        return;
    }
    check_answers(world);
    check_cloud_rows(world);
    check_causes(world);
    for (uint32_t i = 0; i < EDGES; i++) {
        check_edge_rows(world, &world->edges[i]);
        check_events(world, i);
    }
}
