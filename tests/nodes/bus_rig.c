#include "tests/nodes/bus_rig.h"

#include "schemas/check.h"

#include <errno.h>
#include <stdlib.h>

/* -- the log --------------------------------------------------------------------------------------------- */

void rig_apply(struct rig *rig)
{
    while (rig->applied < rig->log_count) {
        const struct rig_record *record = &rig->log[rig->applied];
        struct edge_applied applied;
        CHECK(edge_machine_apply(rig->machine, rig->applied + 1, record->bytes, &applied) ==
              STATUS_OK);
        CHECK(!applied.digest_differs);
        rig->applied++;
        if (record->own) {
            bus_applied(rig->bus);
        } else if (rig->bus != NULL && applied.all_changed) {
            bus_wish_changed(rig->bus, NULL, false);
        }
        for (uint32_t i = 0; rig->bus != NULL && i < applied.change_count; i++) {
            bus_wish_changed(rig->bus, applied.changes[i].key, applied.changes[i].removed);
        }
    }
}

static void rig_append(struct rig *rig, uint16_t kind, const char *key, struct bytes body, bool own)
{
    const struct record record = {
        .kind = kind, .key = key, .origin = RIG_NODE, .time_ms = rig->now.wall_ms, .body = body};
    struct bytes bytes;
    CHECK(codec_record_build(rig->codec, &record, &bytes) == STATUS_OK);
    rig->log = realloc(rig->log, (rig->log_count + 1) * sizeof *rig->log);
    uint8_t *copy = malloc(bytes.size);
    CHECK(rig->log != NULL && copy != NULL);
    memcpy(copy, bytes.data, bytes.size);
    rig->log[rig->log_count] = (struct rig_record){bytes_of(copy, bytes.size), own};
    rig->log_count++;
}
#define RIG_APPEND(rig, kind, key, noun, ...)                                                      \
    do {                                                                                           \
        const struct noun value_ = __VA_ARGS__;                                                    \
        struct bytes body_;                                                                        \
        CHECK(codec_##noun##_build((rig)->codec, &value_, &body_) == STATUS_OK);                   \
        rig_append(rig, kind, key, body_, false);                                                  \
    } while (0)

/* -- the doors of the bus ------------------------------------------------------------------------------------ */

static int door_append(void *context, uint16_t kind, const char *key, struct bytes body)
{
    struct rig *rig = context;
    if (rig->log_full) {
        return -ENOSPC;
    }
    rig_append(rig, kind, key, body, true);
    return 0;
}

static int door_publish(void *context, uint32_t number, uint64_t id, const char *topic,
                        struct bytes payload)
{
    struct rig *rig = context;
    struct rig_broker *broker = &rig->brokers[number];
    CHECK(number < rig->config.broker_count);
    CHECK(broker->count < LIMIT_BUS_OUTGOING); /* a client has no more room */
    broker->messages = realloc(broker->messages, (broker->count + 1) * sizeof *broker->messages);
    CHECK(broker->messages != NULL);
    struct rig_message *message = &broker->messages[broker->count];
    *message = (struct rig_message){.id = id, .topic = strdup(topic)};
    message->payload = strndup((const char *)payload.data, payload.size);
    CHECK(message->topic != NULL && message->payload != NULL);
    broker->count++;
    if (rig->on_given != NULL) {
        rig->on_given(rig->context, number, topic, message->payload);
    }
    return 0;
}

static void rig_forget(struct rig_broker *broker, size_t count)
{
    CHECK(count <= broker->count);
    for (size_t i = 0; i < count; i++) {
        free(broker->messages[i].topic);
        free(broker->messages[i].payload);
    }
    broker->count -= count;
    if (broker->count > 0) {
        memmove(broker->messages, broker->messages + count,
                broker->count * sizeof *broker->messages);
    }
}

void rig_take(struct rig *rig, uint32_t number, size_t count)
{
    struct rig_broker *broker = &rig->brokers[number];
    for (size_t i = 0; i < count && i < broker->count; i++) {
        if (rig->on_taken != NULL) {
            rig->on_taken(rig->context, number, broker->messages[i].topic,
                          broker->messages[i].payload);
        }
        bus_taken(rig->bus, number, broker->messages[i].id);
    }
    rig_forget(broker, count < broker->count ? count : broker->count);
}

void rig_broker_down(struct rig *rig, uint32_t broker)
{
    rig_forget(&rig->brokers[broker], rig->brokers[broker].count);
    bus_broker_down(rig->bus, broker);
}

void rig_settle(struct rig *rig)
{
    for (int round = 0; round < 20; round++) {
        if (!rig->disk_stopped) {
            rig_apply(rig);
        }
        bus_run(rig->bus, rig->now);
        for (uint32_t i = 0; i < rig->config.broker_count; i++) {
            rig_take(rig, i, rig->brokers[i].stopped ? 0 : rig->brokers[i].count);
        }
    }
    codec_reset(rig->codec);
}

/* -- life ----------------------------------------------------------------------------------------------------- */

static void rig_start(struct rig *rig)
{
    CHECK(store_sim_open(rig->sim, "edge", EDGE_FORMAT, &rig->store) == STATUS_OK);
    CHECK(edge_machine_open(rig->store, NULL, &rig->machine) == STATUS_OK);
    rig->applied = edge_machine_position(rig->machine);
    for (size_t i = 0; i < rig->log_count; i++) {
        rig->log[i].own = false; /* of a bus that is no more */
    }
    rig_apply(rig);
    rig->bus = bus_create(&rig->config, &(struct bus_door){.context = rig,
                                                           .machine = rig->machine,
                                                           .append = door_append,
                                                           .publish = door_publish});
    for (uint32_t i = 0; i < rig->config.broker_count; i++) {
        if (!rig->brokers[i].away) {
            bus_broker_up(rig->bus, i);
        }
    }
}

static void rig_stop(struct rig *rig)
{
    bus_destroy(rig->bus);
    rig->bus = NULL;
    edge_machine_close(rig->machine);
    store_close(rig->store);
    for (uint32_t i = 0; i < BUS_BROKERS; i++) {
        rig_forget(&rig->brokers[i], rig->brokers[i].count);
    }
}

void rig_init(struct rig *rig, const struct bus_config *config)
{
    memset(rig, 0, sizeof *rig);
    rig->config = *config;
    rig->config.node = RIG_NODE;
    rig->now = (struct bus_time){.mono_ms = 10000000, .wall_ms = 1649387604120};
    rig->sim = store_sim_create();
    rig->codec = codec_create();
    RIG_APPEND(rig, RECORD_STREAM_INIT, "", stream_init,
               {.node = RIG_NODE, .cluster = "c", .up_stream = 7});
    RIG_APPEND(rig, RECORD_SNAPSHOT, "", snapshot,
               {.stream = RIG_STREAM, .id = 1, .step = SNAPSHOT_BEGIN});
    RIG_APPEND(rig, RECORD_SNAPSHOT, "", snapshot,
               {.stream = RIG_STREAM, .id = 1, .step = SNAPSHOT_END});
    rig_start(rig);
}

void rig_deinit(struct rig *rig)
{
    rig_stop(rig);
    store_sim_destroy(rig->sim);
    codec_destroy(rig->codec);
    for (size_t i = 0; i < rig->log_count; i++) {
        free((void *)(uintptr_t)rig->log[i].bytes.data);
    }
    for (uint32_t i = 0; i < BUS_BROKERS; i++) {
        free(rig->brokers[i].messages);
    }
    free(rig->log);
}

void rig_crash(struct rig *rig, size_t kept, uint64_t choice)
{
    while (rig->log_count > rig->applied + kept) {
        rig->log_count--;
        free((void *)(uintptr_t)rig->log[rig->log_count].bytes.data);
    }
    (void)store_sim_crash(rig->sim, choice);
    rig_stop(rig);
    rig_start(rig);
}

/* -- wishes and words -------------------------------------------------------------------------------------------- */

void rig_say(struct rig *rig, const char *topic, const char *payload)
{
    bus_message(rig->bus, topic, bytes_text(payload), rig->now);
}

static void rig_down(struct rig *rig, struct bytes record)
{
    const struct sequenced one = {.sequence = rig->down + 1, .record = record};
    rig->down++;
    RIG_APPEND(rig, RECORD_DOWN_BATCH, "", batch,
               {.node = RIG_NODE,
                .stream = RIG_STREAM,
                .previous = rig->down - 1,
                .last = rig->down,
                .tip = rig->down,
                .records = &one,
                .record_count = 1,
                .digest = rig->digest});
}

/* Where a wish is, or a free place. */
static size_t rig_wish_place(const struct rig *rig, const char *id)
{
    size_t place = 0;
    while (place < 16 && strcmp(rig->wishes[place].id, id) != 0) {
        place++;
    }
    for (size_t i = 0; i < 16 && place == 16; i++) {
        place = rig->wishes[i].id[0] == '\0' ? i : place;
    }
    CHECK(place < 16);
    return place;
}

static void rig_retag(struct rig *rig, size_t place, uint64_t tag)
{
    rig->digest = tag_subtract(rig->digest, (struct tag){.low = rig->wishes[place].tag});
    rig->digest = tag_add(rig->digest, (struct tag){.low = tag});
    rig->wishes[place].tag = tag;
}

void rig_unwish(struct rig *rig, const char *id)
{
    const size_t place = rig_wish_place(rig, id);
    struct record record = {.kind = RECORD_OBJECT_REMOVE,
                            .key = codec_print(rig->codec, RIG_DEVICE "%s", id)};
    const struct object_remove remove = {.if_uid = rig->wishes[place].uid};
    struct bytes bytes;
    CHECK(codec_object_remove_build(rig->codec, &remove, &record.body) == STATUS_OK);
    CHECK(codec_record_build(rig->codec, &record, &bytes) == STATUS_OK);
    rig_retag(rig, place, 0);
    rig->wishes[place].id[0] = '\0';
    rig_down(rig, bytes);
}

void rig_wish(struct rig *rig, const char *id, const char *uid, const struct device_wish *wish)
{
    const size_t place = rig_wish_place(rig, id);
    const char *slash = strchr(id, '/');
    CHECK(slash != NULL);
    snprintf(rig->wishes[place].id, sizeof rig->wishes[place].id, "%s", id);
    snprintf(rig->wishes[place].uid, sizeof rig->wishes[place].uid, "%s", uid);
    rig_retag(rig, place, rig->down + 17);
    const struct object_put put = {
        .object = {.group = "devices.kubeedge.io",
                   .resource = "devices",
                   .namespace_ = codec_print(rig->codec, "%.*s", (int)(slash - id), id),
                   .name = slash + 1,
                   .uid = uid,
                   .node_name = RIG_NODE,
                   .tag = {.low = rig->wishes[place].tag},
                   .device = wish}};
    struct record record = {.kind = RECORD_OBJECT_PUT,
                            .key = codec_print(rig->codec, RIG_DEVICE "%s", id)};
    struct bytes bytes;
    CHECK(codec_object_put_build(rig->codec, &put, &record.body) == STATUS_OK);
    CHECK(codec_record_build(rig->codec, &record, &bytes) == STATUS_OK);
    rig_down(rig, bytes);
}
