#include "nodes/edge/bus_inner.h"

#include "schemas/check.h"

#include <stdio.h>
#include <stdlib.h>

#define DEVICE_TOPIC "$hw/events/device/"
#define NODE_TOPIC   "$hw/events/node/"

/* What of a payload that cannot be read is said back. */
#define QUOTE_BYTES 512

static_assert(LIMIT_BUS_OUTGOING >= 4, "a promise on both generations of topics fits");
static_assert(LIMIT_BUS_PROMISED >= BUS_PROMISES * LIMIT_BUS_WAITING,
              "with brokers that keep up, the disk alone is waited for");

/* -- life ----------------------------------------------------------------------------------------------- */

struct bus *bus_create(const struct bus_config *config, const struct bus_door *door)
{
    CHECK(config->broker_count <= BUS_BROKERS);
    struct bus *bus = calloc(1, sizeof *bus);
    CHECK(bus != NULL);
    bus->config = *config;
    bus->door = *door;
    bus->codec = codec_create();
    bus->codec_out = codec_create();
    bus->done = edge_machine_meta(door->machine)->outbox_done;
    for (uint32_t i = 0; i < BUS_BROKERS; i++) {
        bus->streams[i].sent = bus->done;
        bus->streams[i].taken = bus->done;
    }
    return bus;
}

static void queue_push(struct bus_queue *queue, struct bus_item *item)
{
    item->next = NULL;
    *(queue->tail != NULL ? &queue->tail->next : &queue->head) = item;
    queue->tail = item;
}

static struct bus_item *queue_pop(struct bus_queue *queue)
{
    struct bus_item *item = queue->head;
    if (item != NULL) {
        queue->head = item->next;
        queue->tail = queue->head == NULL ? NULL : queue->tail;
    }
    return item;
}

/* The head of the queue leaves it, and is the caller's to free. */
static struct bus_item *bus_queue_pop(struct bus *bus)
{
    struct bus_item *item = queue_pop(&bus->queue);
    if (item != NULL) {
        CHECK(bus->queue_count > 0);
        CHECK(bus->queue_bytes >= item->size);
        bus->queue_count--;
        bus->queue_bytes -= item->size;
    }
    return item;
}

static void bus_question_pop(struct bus *bus)
{
    CHECK(bus->question_count > 0);
    bus->question_count--;
    free(queue_pop(&bus->questions));
}

void bus_destroy(struct bus *bus)
{
    if (bus == NULL) {
        return;
    }
    while (bus->queue.head != NULL) {
        free(bus_queue_pop(bus));
    }
    while (bus->questions.head != NULL) {
        bus_question_pop(bus);
    }
    bus_gather_deinit(bus);
    bus_names_forget(bus);
    bus_text_release(&bus->text);
    bus_text_release(&bus->members);
    codec_destroy(bus->codec);
    codec_destroy(bus->codec_out);
    free(bus);
}

/* -- what is read, into the queue --------------------------------------------------------------------------- */

static struct bus_item *item_push(struct bus *bus, enum bus_item_type type, const char *key,
                                  const char *event_id, struct bytes body)
{
    const size_t key_size = strlen(key) + 1;
    const size_t id_size = strlen(event_id) + 1;
    struct bus_item *item = calloc(1, sizeof *item + body.size + key_size + id_size);
    CHECK(item != NULL);
    char *text = (char *)item->memory + body.size;
    if (body.size > 0) {
        memcpy(item->memory, body.data, body.size);
    }
    item->type = type;
    item->size = sizeof *item + body.size + key_size + id_size;
    item->body = bytes_of(item->memory, body.size);
    item->key = memcpy(text, key, key_size);
    item->event_id = memcpy(text + key_size, event_id, id_size);
    queue_push(&bus->queue, item);
    bus->queue_count++;
    bus->queue_bytes += item->size;
    return item;
}

void bus_record(struct bus *bus, uint16_t kind, const char *key, struct bytes body, bool shapes)
{
    struct bus_item *item = item_push(bus, BUS_ITEM_RECORD, key, "", body);
    item->kind = kind;
    item->shapes = shapes;
    bus->shaping += shapes ? 1 : 0;
    bus->report.recorded++;
}

/* A refusal that needs no record, on a topic; its turn comes as that of any answer. */
static void bus_refuse(struct bus *bus, const char *topic, const char *event_id, const char *reason)
{
    bus_text_clear(&bus->text);
    bus_json_error(&bus->text, event_id, bus->now.wall_ms, 400, reason);
    item_push(bus, BUS_ITEM_ANSWER, topic, "", bus_text_bytes(&bus->text));
}

static const char *device_topic(struct codec *codec, const char *key, enum device_topics form,
                                const char *suffix)
{
    return codec_print(codec, DEVICE_TOPIC "%s%s", bus_topic_id(key, form), suffix);
}

/* KubeEdge has no id yet when it refuses, so its answer goes to the topic of no device, without an event id.
 * Whoever waits at the right one is told, too. */
static void bus_on_twin_update(struct bus *bus, const char *key, const struct bus_topic *topic,
                               struct bytes payload)
{
    struct twin_update update;
    const char *refusal = bus_json_twin_update(payload, bus->codec, &update);
    update.topics = (uint8_t)topic->topics;
    if (refusal == NULL) {
        bus_gather_update(bus, key, &update);
        return;
    }
    bus->why = refusal;
    bus->report.refused++;
    bus_refuse(bus, DEVICE_TOPIC "/twin/update/result", "", refusal);
    bus_refuse(bus, device_topic(bus->codec, key, topic->topics, "/twin/update/result"),
               update.event_id, refusal);
}

static void bus_on_state(struct bus *bus, const char *key, const struct bus_topic *topic,
                         struct bytes payload)
{
    const char *state = bus_json_state(payload, topic->topics, bus->codec);
    struct bytes body;
    if (state == NULL) {
        bus->why = "no state can be read from it";
        bus->report.ignored++;
        return;
    }
    const struct device_state said = {
        .event_id = "", .topics = (uint8_t)topic->topics, .state = state};
    const int status = codec_device_state_build(bus->codec, &said, &body);
    CHECK(status == STATUS_OK);
    bus_gather_flush(bus, key);
    bus_record(bus, RECORD_DEVICE_STATE, key, body, false);
}

/* A question about a device, or about all (key ""). */
static void bus_on_get(struct bus *bus, enum bus_item_type type, const char *key,
                       const struct bus_topic *topic, struct bytes payload)
{
    const char *why;
    const char *event_id = bus_json_event_id(payload, bus->codec, &why);
    const bool twins = type == BUS_ITEM_TWIN_GET;
    if (event_id == NULL) {
        const int quoted = payload.size < QUOTE_BYTES ? (int)payload.size : QUOTE_BYTES;
        bus->report.refused++;
        bus->why = why;
        bus_refuse(bus,
                   twins ? device_topic(bus->codec, key, topic->topics, "/twin/get/result")
                         : codec_print(bus->codec, NODE_TOPIC "%s/membership/get/result",
                                       bus->config.node),
                   "",
                   codec_print(bus->codec, "Unmarshal %s info %.*s failed , err: %s",
                               twins ? "twin" : "get membership", quoted,
                               payload.size > 0 ? (const char *)payload.data : "", why));
        return;
    }
    if (twins) {
        bus_gather_flush(bus, key);
    }
    item_push(bus, type, key, event_id, (struct bytes){0})->topics = topic->topics;
}

static void bus_on_upload(struct bus *bus, const char *topic, struct bytes payload)
{
    const struct mqtt_message message = {.topic = topic, .payload = payload};
    const size_t topic_size = strlen(topic);
    struct bytes body;
    if (topic_size > LIMIT_KEY_BYTES || payload.size + 2 * topic_size + 1024 > LIMIT_FACT_BYTES ||
        codec_mqtt_message_build(bus->codec, &message, &body) != STATUS_OK) {
        bus->why = "too large for a record";
        bus->report.ignored++;
        return;
    }
    bus_record(bus, RECORD_MQTT_MESSAGE, topic, body, false);
}

void bus_message(struct bus *bus, const char *topic, struct bytes payload, struct bus_time now)
{
    bus->now = now;
    bus->report.received++;
    bus->why = NULL;
    if (bus->queue_count >= 2 * LIMIT_BUS_WAITING ||
        bus->queue_bytes >= 8 * LIMIT_BUS_WAITING_BYTES) {
        bus->report.ignored++; /* who is asked not to read reads on */
        bus->why = "more was said at once than there is room for";
        return;
    }
    codec_reset(bus->codec);
    const struct bus_topic parsed = bus_topic_parse(bus->config.node, topic);
    const char *key = parsed.name.size > 0 ? bus_names_key(bus, &parsed, bus->codec) : "";
    switch (parsed.kind) {
    case BUS_TOPIC_TWIN_UPDATE:
        bus_on_twin_update(bus, key, &parsed, payload);
        break;
    case BUS_TOPIC_STATE_UPDATE:
        bus_on_state(bus, key, &parsed, payload);
        break;
    case BUS_TOPIC_TWIN_GET:
        bus_on_get(bus, BUS_ITEM_TWIN_GET, key, &parsed, payload);
        break;
    case BUS_TOPIC_MEMBERSHIP_GET:
        bus_on_get(bus, BUS_ITEM_MEMBERSHIP_GET, "", &parsed, payload);
        break;
    case BUS_TOPIC_UPLOAD:
        bus_on_upload(bus, topic, payload);
        break;
    case BUS_TOPIC_FOREIGN:
        bus->report.ignored++;
        bus->why = "its topic means nothing here";
        break;
    }
    if (bus->why != NULL && payload.size > LIMIT_BUS_PAYLOAD_BYTES) {
        bus->why = codec_print(bus->codec, "of so many bytes nothing is read: %u are the most",
                               LIMIT_BUS_PAYLOAD_BYTES);
    }
}

const char *bus_message_refusal(const struct bus *bus)
{
    return bus->why;
}

/* -- records ------------------------------------------------------------------------------------------------- */

/* Append one.
 *   answers  as the door */
static int bus_append(struct bus *bus, uint16_t kind, const char *key, struct bytes body,
                      bool shapes)
{
    const int status = bus->door.append(bus->door.context, kind, key, body);
    if (status == 0) {
        bus->flights[bus->appended % LIMIT_BUS_WAITING] =
            (struct bus_flight){.size = (uint32_t)body.size, .shapes = shapes};
        bus->flight_bytes += body.size;
        bus->appended++;
    }
    return status;
}

void bus_applied(struct bus *bus)
{
    CHECK(bus->applied < bus->appended);
    const struct bus_flight *flight = &bus->flights[bus->applied % LIMIT_BUS_WAITING];
    CHECK(bus->flight_bytes >= flight->size);
    CHECK_IF(flight->shapes, bus->shaping > 0);
    bus->flight_bytes -= flight->size;
    bus->shaping -= flight->shapes ? 1 : 0;
    bus->applied++;
}

static bool bus_may_append(const struct bus *bus)
{
    return bus->retry_ms == 0 && bus->appended - bus->applied < LIMIT_BUS_WAITING;
}

static bool stream_has_room(const struct bus_stream *stream, uint64_t count)
{
    return stream->connected && stream->id_next - stream->id_first + count <= LIMIT_BUS_OUTGOING &&
           stream->bytes < LIMIT_BUS_OUTGOING_BYTES;
}

/* A broker that is full and has taken nothing for a while: nobody waits for it. */
static bool stream_is_stuck(const struct bus_stream *stream, const struct bus *bus)
{
    return stream->connected && !stream_has_room(stream, 2) &&
           bus->now.mono_ms >= stream->took_ms + BUS_STUCK_MS;
}

/* Whether it is there, or was a moment ago. */
static bool stream_is_waited_for(const struct bus_stream *stream, const struct bus *bus)
{
    return stream->connected || bus->now.mono_ms < stream->away_ms + BUS_AWAY_MS;
}

/* Whether one more record may promise so much that a broker which takes its messages would lose some: what it was
 * promised and has not taken, with all that is on its way through the disk, is above `promised_max`; or the outbox
 * is half full of bytes, and none is slower. */
static bool bus_is_ahead_of_brokers(const struct bus *bus, uint64_t promised_max)
{
    const struct edge_meta *meta = edge_machine_meta(bus->door.machine);
    const uint64_t coming = BUS_PROMISES * (bus->appended - bus->applied + 1);
    const bool heavy = meta->outbox_bytes >= LIMIT_EDGE_PUBLICATION_BYTES / 2;
    uint64_t behind = 0;       /* the slowest that takes what it is told */
    uint64_t behind_other = 0; /* the slowest of the others */
    for (uint32_t i = 0; i < bus->config.broker_count; i++) {
        const struct bus_stream *stream = &bus->streams[i];
        const bool takes = stream->connected && !stream_is_stuck(stream, bus);
        uint64_t *most = takes ? &behind : &behind_other;
        if (stream_is_waited_for(stream, bus) && meta->outbox_last - stream->taken > *most) {
            *most = meta->outbox_last - stream->taken;
        }
    }
    return (behind > 0 && behind + coming > promised_max) || (heavy && behind > behind_other);
}

bool bus_keeps_up(const struct bus *bus)
{
    return bus->queue_count + (bus->appended - bus->applied) < LIMIT_BUS_WAITING_BUSY &&
           bus->queue_bytes + bus->flight_bytes < LIMIT_BUS_WAITING_BYTES / 2 &&
           !bus_is_ahead_of_brokers(bus, LIMIT_BUS_PROMISED_BUSY);
}

/* Up to where every broker has everything, but for those that are away for long: they hear what is promised
 * after their return. */
static uint64_t bus_taken_by_all(const struct bus *bus)
{
    uint64_t taken = UINT64_MAX;
    bool connected = false;
    if (bus->config.broker_count == 0) {
        return edge_machine_meta(bus->door.machine)->outbox_last; /* nobody can hear it */
    }
    for (uint32_t i = 0; i < bus->config.broker_count; i++) {
        const struct bus_stream *stream = &bus->streams[i];
        connected = connected || stream->connected;
        if (stream_is_waited_for(stream, bus) && stream->taken < taken) {
            taken = stream->taken;
        }
    }
    return connected ? taken : bus->done;
}

/* OUTBOX_DONE, one at a time. */
static void bus_append_done(struct bus *bus, uint64_t position)
{
    struct bytes body;
    const struct outbox_done done = {.position = position};
    codec_reset(bus->codec);
    const int status = codec_outbox_done_build(bus->codec, &done, &body);
    CHECK(status == STATUS_OK);
    if (bus_append(bus, RECORD_OUTBOX_DONE, "", body, false) != 0) {
        bus->retry_ms = bus->now.mono_ms + BUS_RETRY_MS;
        return;
    }
    bus->done = position;
    bus->done_at = bus->appended;
    bus->done_due_ms = 0;
}

/* What brokers took is recorded with the next record of ours, which costs no sync of its own; or when there is
 * much of it; or after a while. */
static void bus_record_done(struct bus *bus, bool with_another)
{
    const uint64_t taken = bus_taken_by_all(bus);
    if (taken <= bus->done) {
        return;
    }
    if (bus->done_due_ms == 0) {
        bus->done_due_ms = bus->now.mono_ms + BUS_DONE_MS;
    }
    const bool due =
        with_another || taken - bus->done >= BUS_DONE_COUNT || bus->now.mono_ms >= bus->done_due_ms;
    if (due && bus->applied >= bus->done_at && bus_may_append(bus)) {
        bus_append_done(bus, taken);
    }
}

/* A question leaves the queue, and waits for what was appended before it. */
static void bus_run_question(struct bus *bus)
{
    struct bus_item *item = bus_queue_pop(bus);
    if (bus->question_count == LIMIT_BUS_QUESTIONS) {
        bus->report.ignored++;
        free(item);
        return;
    }
    item->after = bus->appended;
    queue_push(&bus->questions, item);
    bus->question_count++;
}

/* The queue, as far as the log takes it. */
static void bus_run_queue(struct bus *bus)
{
    if (bus->queue.head != NULL) {
        bus_record_done(bus, true);
    }
    while (bus->queue.head != NULL) {
        const struct bus_item *item = bus->queue.head;
        if (item->type != BUS_ITEM_RECORD) {
            bus_run_question(bus);
            continue;
        }
        if (!bus_may_append(bus) || (!bus->leaving && bus_is_ahead_of_brokers(bus, LIMIT_BUS_PROMISED))) {
            return;
        }
        const int status = bus_append(bus, item->kind, item->key, item->body, item->shapes);
        if (status != 0 && status != STATUS_TOO_LARGE) {
            bus->retry_ms = bus->now.mono_ms + BUS_RETRY_MS;
            return;
        }
        bus->report.ignored += status == STATUS_TOO_LARGE ? 1 : 0;
        bus->shaping -= status == STATUS_TOO_LARGE && item->shapes ? 1 : 0;
        free(bus_queue_pop(bus));
    }
}

/* -- messages -------------------------------------------------------------------------------------------------- */

/* Give what was written to a broker that has room.
 *   answers  whether it took it into its hands */
static bool bus_send(struct bus *bus, uint32_t broker, uint64_t position, bool last,
                     const char *topic)
{
    struct bus_stream *stream = &bus->streams[broker];
    CHECK(stream->connected && stream->id_next - stream->id_first < LIMIT_BUS_OUTGOING);
    if (bus->door.publish(bus->door.context, broker, stream->id_next, topic,
                          bus_text_bytes(&bus->text)) != 0) {
        return false;
    }
    if (stream->id_first == stream->id_next) {
        stream->took_ms = bus->now.mono_ms;
    }
    stream->outgoing[stream->id_next % LIMIT_BUS_OUTGOING] =
        (struct bus_outgoing){.position = position, .last = last, .size = (uint32_t)bus->text.size};
    stream->id_next++;
    stream->bytes += bus->text.size;
    return true;
}

/* Where a promise is told.
 *   form     namespaced or plain */
static const char *publication_topic(const struct bus *bus, const struct publication *publication,
                                     enum device_topics form)
{
    const char *suffix = "";
    switch ((enum publication_kind)publication->kind) {
    case PUBLISH_TWIN_RESULT:
        suffix = "/twin/update/result";
        break;
    case PUBLISH_TWIN_DOCUMENT:
        suffix = "/twin/update/document";
        break;
    case PUBLISH_TWIN_DELTA:
        suffix = "/twin/update/delta";
        break;
    case PUBLISH_STATE_RESULT:
        suffix = "/state/update/result";
        break;
    case PUBLISH_DEVICE_ADDED:
    case PUBLISH_DEVICE_REMOVED:
        return codec_print(bus->codec_out, NODE_TOPIC "%s/membership/updated", bus->config.node);
    }
    return device_topic(bus->codec_out, publication->device, form, suffix);
}

/* On which generations it is told: who asked is answered on his own; what nobody asked for is told on all that
 * are spoken, but for a node's topics, which are the same for both, and plain ones that mean another device.
 *   answers  how many, 0 .. 2 */
static uint32_t publication_forms(struct bus *bus, const struct publication *publication,
                                  enum device_topics forms[static 2])
{
    const bool asked = publication->topics != DEVICE_TOPICS_BOTH;
    const enum device_topics topics =
        asked ? (enum device_topics)publication->topics : bus->config.topics;
    uint32_t count = 0;
    if (publication->kind == PUBLISH_DEVICE_ADDED || publication->kind == PUBLISH_DEVICE_REMOVED) {
        forms[0] = topics == DEVICE_TOPICS_PLAIN ? DEVICE_TOPICS_PLAIN : DEVICE_TOPICS_NAMESPACED;
        return 1;
    }
    if (topics != DEVICE_TOPICS_PLAIN) {
        forms[count] = DEVICE_TOPICS_NAMESPACED;
        count++;
    }
    if (topics != DEVICE_TOPICS_NAMESPACED && (asked || bus_names_mean(bus, publication->device))) {
        forms[count] = DEVICE_TOPICS_PLAIN;
        count++;
    }
    return count;
}

/* Whether there is a promise that this broker has not heard, and room for it. */
static bool bus_may_send(const struct bus *bus, uint32_t broker)
{
    const struct bus_stream *stream = &bus->streams[broker];
    return stream->sent < edge_machine_meta(bus->door.machine)->outbox_last &&
           stream_has_room(stream, 2);
}

/* The next promise of those that this broker has not heard.
 *   answers  whether it was given */
static bool bus_send_promise(struct bus *bus, uint32_t broker, struct edge_outbox *outbox)
{
    const struct edge_meta *meta = edge_machine_meta(bus->door.machine);
    struct bus_stream *stream = &bus->streams[broker];
    struct publication publication;
    uint64_t position;
    codec_reset(bus->codec_out);
    if (edge_outbox_next(outbox, bus->codec_out, &position, &publication) != STATUS_OK) {
        return false; /* the next apply meets what is wrong with the store */
    }
    char own_id[BUS_EVENT_ID_BYTES];
    bus_json_own_event_id(meta->up_stream, position, own_id);
    enum device_topics forms[2];
    const uint32_t count = publication_forms(bus, &publication, forms);
    for (uint32_t i = 0; i < count; i++) {
        if (i == 0) { /* of two generations the topic differs alone */
            bus_text_clear(&bus->text);
            bus_json_publication(&bus->text, &publication, own_id, forms[0]);
        }
        if (!bus_send(bus, broker, position, i + 1 == count,
                      publication_topic(bus, &publication, forms[i]))) {
            return false;
        }
    }
    if (count == 0 && stream->taken == stream->sent) {
        stream->taken =
            position; /* nobody is to hear it; else what comes behind it settles it, too */
    }
    stream->sent = position;
    return true;
}

/* What this broker has not heard, as far as it has room; while a question waits one promise, since its answer may be due
 * behind it.
 *   answers  whether any was given */
static bool bus_send_promises(struct bus *bus, uint32_t broker)
{
    if (!bus_may_send(bus, broker)) {
        return false;
    }
    struct edge_outbox *outbox = edge_outbox_open(bus->door.machine, bus->streams[broker].sent);
    bool sent = bus_send_promise(bus, broker, outbox);
    const bool any = sent;
    while (sent && bus->questions.head == NULL && bus_may_send(bus, broker)) {
        sent = bus_send_promise(bus, broker, outbox);
    }
    edge_outbox_close(outbox);
    return any;
}

static const char *answer_twins(struct bus *bus, const struct bus_item *item)
{
    struct device_status device;
    if (edge_device_find(bus->door.machine, item->key, bus->codec_out, &device) == STATUS_OK) {
        bus_json_twins(&bus->text, item->event_id, bus->now.wall_ms, &device);
    } else {
        bus_json_error(&bus->text, item->event_id, bus->now.wall_ms, 404,
                       codec_print(bus->codec_out, "Device %s not found while getting twin",
                                   bus_topic_id(item->key, item->topics)));
    }
    return device_topic(bus->codec_out, item->key, item->topics, "/twin/get/result");
}

/* All devices, written once for all questions of one state: with thousands of devices it takes tens of ms. */
static void members_write(struct bus *bus)
{
    struct edge_wishes *wishes =
        edge_wishes_open(bus->door.machine, "devices.kubeedge.io/devices/");
    const enum device_topics form =
        bus->config.topics == DEVICE_TOPICS_PLAIN ? DEVICE_TOPICS_PLAIN : DEVICE_TOPICS_NAMESPACED;
    const char *key;
    struct object_put put;
    struct device_status device;
    bool first = true;
    bus_text_clear(&bus->members);
    while (edge_wishes_next(wishes, bus->codec_out, &key, &put) == STATUS_OK) {
        if (edge_device_find(bus->door.machine, key, bus->codec_out, &device) == STATUS_OK) {
            bus_json_member(&bus->members, key,
                            put.object.device != NULL ? put.object.device->description : "",
                            &device, form, first);
            first = false;
        }
        codec_reset(bus->codec_out);
    }
    edge_wishes_close(wishes);
    bus->members_of = edge_machine_position(bus->door.machine);
}

static const char *answer_members(struct bus *bus, const struct bus_item *item)
{
    if (bus->members_of != edge_machine_position(bus->door.machine)) {
        members_write(bus);
    }
    bus_json_members_begin(&bus->text, item->event_id, bus->now.wall_ms);
    bus_text_append(&bus->text, bus_text_bytes(&bus->members));
    bus_json_members_end(&bus->text);
    return codec_print(bus->codec_out, NODE_TOPIC "%s/membership/get/result", bus->config.node);
}

/* Whether every broker that is connected heard what is to be told before this answer, and has room, or is stuck and
 * another is not.
 *   out_connected  whether there is one */
static bool bus_may_answer(const struct bus *bus, const struct bus_item *item, bool *out_connected)
{
    bool may = false;
    *out_connected = false;
    for (uint32_t i = 0; i < bus->config.broker_count; i++) {
        const struct bus_stream *stream = &bus->streams[i];
        *out_connected = *out_connected || stream->connected;
        if (!stream->connected || stream_is_stuck(stream, bus)) {
            continue;
        }
        if (stream->sent < item->told || !stream_has_room(stream, 1)) {
            return false;
        }
        may = true;
    }
    return may || !*out_connected;
}

/* When a question, a record, or telemetry need not wait for a full broker any more; UINT64_MAX: none does. */
static uint64_t bus_stuck_due(const struct bus *bus)
{
    uint64_t due = UINT64_MAX;
    const bool waits =
        bus->questions.head != NULL || bus_is_ahead_of_brokers(bus, LIMIT_BUS_PROMISED_BUSY);
    for (uint32_t i = 0; i < bus->config.broker_count && waits; i++) {
        const struct bus_stream *stream = &bus->streams[i];
        const uint64_t stuck_ms = stream->took_ms + BUS_STUCK_MS;
        if (stream->connected && stuck_ms > bus->now.mono_ms && stuck_ms < due) {
            due = stuck_ms;
        }
    }
    return due;
}

/* The oldest question.
 *   answers  whether it was answered, or nobody can hear the answer any more */
static bool bus_answer(struct bus *bus)
{
    struct bus_item *item = bus->questions.head;
    bool connected;
    if (item == NULL || item->after > bus->applied) {
        return false;
    }
    if (!item->ready) {
        item->ready = true;
        item->told = edge_machine_meta(bus->door.machine)->outbox_last;
    }
    if (!bus_may_answer(bus, item, &connected)) {
        return false;
    }
    if (connected) {
        codec_reset(bus->codec_out);
        bus_text_clear(&bus->text);
        const char *topic = item->key;
        if (item->type == BUS_ITEM_TWIN_GET) {
            topic = answer_twins(bus, item);
        } else if (item->type == BUS_ITEM_MEMBERSHIP_GET) {
            topic = answer_members(bus, item);
        } else {
            bus_text_append(&bus->text, item->body);
        }
        for (uint32_t i = 0; i < bus->config.broker_count; i++) {
            if (bus->streams[i].connected && !stream_is_stuck(&bus->streams[i], bus)) {
                (void)bus_send(bus, i, 0, true, topic);
            }
        }
    }
    bus_question_pop(bus);
    return true;
}

/* -- brokers ----------------------------------------------------------------------------------------------------- */

void bus_taken(struct bus *bus, uint32_t broker, uint64_t id)
{
    struct bus_stream *stream = &bus->streams[broker];
    CHECK(id == stream->id_first);
    CHECK(id < stream->id_next);
    const struct bus_outgoing *outgoing = &stream->outgoing[id % LIMIT_BUS_OUTGOING];
    if (outgoing->position > stream->taken && outgoing->last) {
        stream->taken = outgoing->position;
    }
    CHECK(stream->bytes >= outgoing->size);
    stream->bytes -= outgoing->size;
    stream->took_ms = bus->now.mono_ms;
    stream->id_first++;
    if (stream->id_first == stream->id_next) {
        stream->taken = stream->sent; /* what nobody is to hear came last */
    }
    bus->report.published++;
}

void bus_read(struct bus *bus, uint32_t broker, bool more)
{
    CHECK(broker < bus->config.broker_count);
    bus->streams[broker].more = more;
}

bool bus_reads_on(const struct bus *bus)
{
    bool more = false;
    for (uint32_t i = 0; i < bus->config.broker_count; i++) {
        more = more || bus->streams[i].more;
    }
    return more;
}

void bus_broker_up(struct bus *bus, uint32_t broker)
{
    CHECK(broker < bus->config.broker_count);
    struct bus_stream *stream = &bus->streams[broker];
    stream->connected = true;
    if (stream->taken < bus->done) { /* it was away for too long */
        stream->taken = bus->done;
        stream->sent = bus->done;
    }
}

void bus_broker_down(struct bus *bus, uint32_t broker)
{
    CHECK(broker < bus->config.broker_count);
    struct bus_stream *stream = &bus->streams[broker];
    for (uint64_t id = stream->id_first; id < stream->id_next; id++) {
        const struct bus_outgoing *outgoing = &stream->outgoing[id % LIMIT_BUS_OUTGOING];
        bus->report.again += outgoing->position > stream->taken && outgoing->last ? 1 : 0;
    }
    stream->id_first = stream->id_next;
    stream->bytes = 0;
    stream->sent = stream->taken;
    stream->away_ms = stream->connected ? bus->now.mono_ms : stream->away_ms;
    stream->connected = false;
}

/* -- turns --------------------------------------------------------------------------------------------------------- */

/* A turn at this time. In the first one nobody has been away before: the clock counts from the boot of the machine. */
static void bus_turn(struct bus *bus, struct bus_time now)
{
    bus->now = now;
    for (uint32_t i = 0; i < BUS_BROKERS && !bus->begun; i++) {
        bus->streams[i].away_ms = now.mono_ms;
    }
    bus->begun = true;
    if (bus->retry_ms <= now.mono_ms) {
        bus->retry_ms = 0;
    }
}

uint64_t bus_run(struct bus *bus, struct bus_time now)
{
    bus_turn(bus, now);
    if (bus->leaving) {
        bus_gather_flush_all(bus);
    }
    uint64_t next = bus_gather_run(bus);
    bus_run_queue(bus);
    bool more = true;
    while (more) {
        more = bus_answer(bus);
        for (uint32_t i = 0; i < bus->config.broker_count && !more; i++) {
            more = bus_send_promises(bus, i);
        }
    }
    if (bus->questions.head == NULL && bus->members_of != 0) {
        bus_text_release(&bus->members);
        bus->members_of = 0;
    }
    bus_record_done(bus, false);
    if (bus->done_due_ms > now.mono_ms &&
        bus->done_due_ms < next) { /* overdue: an apply wakes us */
        next = bus->done_due_ms;
    }
    if (bus->retry_ms != 0 && bus->retry_ms < next) {
        next = bus->retry_ms;
    }
    const uint64_t stuck_ms = bus_stuck_due(bus);
    return stuck_ms < next ? stuck_ms : next;
}

void bus_leave(struct bus *bus, struct bus_time now)
{
    bus_turn(bus, now);
    bus->leaving = true;
    bus_gather_flush_all(bus);
    bus_run_queue(bus);
}

bool bus_left(const struct bus *bus)
{
    return bus->leaving && bus->queue.head == NULL;
}

/* -- views ------------------------------------------------------------------------------------------------------------ */

bool bus_wants(const struct bus *bus)
{
    return !bus->leaving && bus->queue_count + (bus->appended - bus->applied) < LIMIT_BUS_WAITING &&
           bus->queue_bytes + bus->flight_bytes < LIMIT_BUS_WAITING_BYTES &&
           !bus_is_ahead_of_brokers(bus, LIMIT_BUS_PROMISED) && !bus_gather_is_late(bus);
}

struct bus_report bus_report(const struct bus *bus)
{
    const struct edge_meta *meta = edge_machine_meta(bus->door.machine);
    struct bus_report report = bus->report;
    report.waiting = bus->queue_count + bus->question_count + (bus->appended - bus->applied);
    report.outbox = meta->outbox_last - meta->outbox_done;
    report.outbox_dropped = meta->outbox_dropped;
    return report;
}

void bus_metrics(const struct bus *bus, struct metrics_page *page)
{
    const struct bus_report r = bus_report(bus);
    if (bus->config.broker_count == 0) {
        return;
    }
    metrics_counter(page, "kelp_bus_messages_total", "Messages that clients said.", r.received);
    metrics_counter(page, "kelp_bus_messages_ignored_total",
                    "Of them those that nothing was made of.", r.ignored);
    metrics_counter(page, "kelp_bus_messages_refused_total",
                    "Of them those that were answered with an error at once.", r.refused);
    metrics_counter(page, "kelp_bus_updates_gathered_total",
                    "Updates that shared a record with others.", r.gathered);
    metrics_counter(page, "kelp_bus_records_total", "Records made of messages.", r.recorded);
    metrics_gauge(
        page, "kelp_bus_waiting",
        "What was read from brokers and is not applied or answered; much: the disk is slow.",
        r.waiting);
    metrics_counter(page, "kelp_bus_published_total", "Messages that a broker has taken.",
                    r.published);
    metrics_counter(page, "kelp_bus_published_again_total",
                    "Promises that were told again, as a broker was lost before it had them.",
                    r.again);
    metrics_gauge(page, "kelp_bus_outbox", "Promises that no broker has taken yet.", r.outbox);
    metrics_counter(page, "kelp_bus_outbox_dropped_total",
                    "Promises given up, as too many waited for a broker.", r.outbox_dropped);
}
