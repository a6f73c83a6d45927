/* MQTT brokers at the edges, as far as an edge and its mappers notice: messages of QoS 1, a session that survives,
 * and what is lost or told twice when a connection or a process ends at the wrong moment.
 *
 * A client's library acknowledges a message before its program has it (bus_mqtt.h): what an edgecore had read and not
 * made durable when it died is told again only if that acknowledgement had not arrived, too. A message of ours may
 * have reached the mappers when its acknowledgement is lost.
 *
 * A mapper says numbers, each once and rising, and does what it is told to: the value of "w" becomes what a delta
 * asks for.
 */
#include "tests/sim/spine.h"

#include <stdarg.h>

#define DELIVER_AT_ONCE 8u

struct message {
    struct message *next;
    uint64_t id; /* of the edge's: as the bus numbers it */
    bool sent;
    char *payload;
    char topic[];
};

static struct message *message_new(const char *topic, const char *payload, size_t size)
{
    const size_t topic_size = strlen(topic) + 1;
    struct message *message = calloc(1, sizeof *message + topic_size + size + 1);
    CHECK(message != NULL);
    memcpy(message->topic, topic, topic_size);
    message->payload = message->topic + topic_size;
    memcpy(message->payload, payload, size);
    return message;
}

static void queue_push(struct message **head, struct message **tail, struct message *message)
{
    *(*tail != NULL ? &(*tail)->next : head) = message;
    *tail = message;
}

static void queue_pop(struct message **head, struct message **tail)
{
    struct message *message = *head;
    *head = message->next;
    *tail = *head == NULL ? NULL : *tail;
    free(message);
}

static struct world *broker_world(const struct broker *broker)
{
    return broker->edge->process.world;
}

static struct bus *broker_bus(const struct broker *broker)
{
    return edge_core_bus(broker->edge->core);
}

static struct bus_time bus_now(const struct world *world)
{
    const struct pods_time now = world_edge_now(world);
    return (struct bus_time){.mono_ms = now.mono_ms, .wall_ms = now.wall_ms};
}

/* -- mappers ------------------------------------------------------------------------------------- */

static void broker_pump(struct broker *broker);

/* A client says something at this broker; one that is away nobody reaches. */
__attribute__((format(printf, 3, 4))) static void say(struct broker *broker, const char *topic,
                                                      const char *format, ...)
{
    char payload[512];
    va_list arguments;
    va_start(arguments, format);
    const int size = vsnprintf(payload, sizeof payload, format, arguments);
    va_end(arguments);
    CHECK(size > 0 && (size_t)size < sizeof payload);
    if (!broker->away) {
        queue_push(&broker->in_head, &broker->in_tail, message_new(topic, payload, (size_t)size));
        broker_pump(broker);
    }
}

/* "$hw/events/device/" and so on, of the generations that this edge speaks. */
static const char *topic_of(const struct edge *edge, uint32_t device, const char *rest,
                            char topic[static 96])
{
    struct sim *sim = &edge->process.world->sim;
    const bool plain = edge->topics == DEVICE_TOPICS_PLAIN ||
                       (edge->topics == DEVICE_TOPICS_BOTH && sim_below(sim, 2) == 0);
    snprintf(topic, 96, "$hw/events/device/%sdev-%u/%s", plain ? "" : "default/", device, rest);
    return topic;
}

/* How the device is: its measured value is a new number, what it was told to be it is. */
static void say_values(struct broker *broker, uint32_t device, bool asks)
{
    struct edge *edge = broker->edge;
    struct world *world = broker_world(broker);
    char topic[96];
    char id[16] = "";
    char held[64] = "";
    if (asks && world->question_last + 1 < SPINE_QUESTIONS) {
        snprintf(id, sizeof id, "q-%u", ++world->question_last);
    }
    if (edge->held[device] != 0) {
        snprintf(held, sizeof held, ",\"w\":{\"actual\":{\"value\":\"%u\"}}", edge->held[device]);
    }
    say(broker, topic_of(edge, device, "twin/update", topic),
        "{\"event_id\":\"%s\",\"twin\":{\"t\":{\"actual\":{\"value\":\"%u\"}}%s}}", id,
        ++world->number_last, held);
}

static void mapper_step(struct broker *broker, uint32_t device)
{
    struct edge *edge = broker->edge;
    struct world *world = broker_world(broker);
    char topic[96];
    const uint64_t what = sim_below(&world->sim, 100);
    if (what < 50) {
        say_values(broker, device, false);
    } else if (what < 65) {
        say_values(broker, device, true);
    } else if (what < 72) { /* somebody at the machine itself turns the knob */
        say(broker, topic_of(edge, device, "twin/update", topic),
            "{\"event_id\":\"\",\"twin\":{\"w\":{\"expected\":{\"value\":\"%u\"}}}}",
            ++world->number_last);
    } else if (what < 78) {
        say(broker, topic_of(edge, device, "state/update", topic), "{\"state\":\"%s\"}",
            sim_below(&world->sim, 2) == 0 ? "online" : "offline");
    } else if (what < 92) {
        say(broker, "$hw/events/upload/alarm", "%u", ++world->number_last);
    } else if (what < 96) {
        say(broker, topic_of(edge, device, "twin/get", topic), "{\"event_id\":\"g\"}");
    } else { /* nothing that means something */
        say(broker, topic_of(edge, device, "twin/update", topic),
            what < 98 ? "{\"twin\":"
                      : "{\"event_id\":\"\",\"twin\":{\"t\":{\"actual\":{\"value\":\"x\"}}}}");
    }
}

static void mapper_on_turn(void *context)
{
    struct edge *edge = context;
    struct world *world = edge->process.world;
    struct sim *sim = &world->sim;
    if (!world->clients_run) {
        return;
    }
    sim_after(sim, sim_between(sim, 50 * MS, 700 * MS), 0, mapper_on_turn, edge);
    const uint64_t burst = sim_below(sim, 30) == 0 ? 40 : 1 + sim_below(sim, 3);
    struct broker *broker = &edge->brokers[sim_below(sim, edge->broker_count)];
    for (uint64_t i = 0; i < burst && !world->idle; i++) {
        uint32_t device = (uint32_t)sim_below(sim, DEVICES);
        for (uint32_t j = 0; j < DEVICES && !edge->devices[device].there && sim_below(sim, 6) > 0;
             j++) {
            device = (device + 1) % DEVICES;
        }
        if (sim->now_us < world->known[device].silent_us) {
            mapper_step(broker, device);
        }
    }
}

void mappers_begin(struct world *world)
{
    for (uint32_t i = 0; i < DEVICES && world->devices; i++) {
        world->known[i].silent_us = sim_between(&world->sim, 3 * SECOND, 24 * SECOND);
    }
    for (uint32_t i = 0; i < EDGES && world->devices; i++) {
        sim_after(&world->sim, sim_between(&world->sim, SECOND, 3 * SECOND), 0, mapper_on_turn,
                  &world->edges[i]);
    }
}

void mappers_tell(struct world *world)
{
    for (uint32_t i = 0; i < EDGES && world->devices; i++) {
        for (uint32_t device = 0; device < DEVICES; device++) {
            struct edge *edge = &world->edges[i];
            if (edge->held[device] != 0 && check_device_waits(edge, device)) {
                say_values(&edge->brokers[0], device, false);
            }
        }
    }
}

/* A broker has passed on what the edge published. */
static void mapper_hear(struct broker *broker, const struct message *message)
{
    struct edge *edge = broker->edge;
    unsigned question;
    const char *name = strstr(message->topic, "dev-");
    if (name == NULL) {
        return;
    }
    const uint32_t device = (uint32_t)(name[4] - '0');
    CHECK(device < DEVICES);
    if (strstr(message->topic, "/twin/update/result") != NULL &&
        sscanf(message->payload, "{\"event_id\":\"q-%u\"", &question) == 1) {
        check_heard(edge, broker->number, question);
    }
    /* Whoever moves the device is at the first broker and hears each delta once. Always an answer: what was said
     * before the device moved may still be on its way at another broker. */
    const bool once =
        edge->topics != DEVICE_TOPICS_BOTH || strstr(message->topic, "default/") != NULL;
    if (strstr(message->topic, "/twin/update/delta") == NULL || broker->number > 0 || !once) {
        return;
    }
    const char *delta = strstr(message->payload, "\"delta\":{");
    const char *wanted = delta == NULL ? NULL : strstr(delta, "\"w\":\"");
    if (wanted != NULL) {
        edge->held[device] = (uint32_t)atoi(wanted + 5);
        say_values(broker, device, false);
    }
}

/* -- connections ------------------------------------------------------------------------------------ */

static void broker_on_ack(void *context)
{
    struct broker *broker = context;
    while (broker->in_head != NULL && broker->in_head->sent) {
        queue_pop(&broker->in_head, &broker->in_tail);
    }
}

/* CANARY_PUBLISH: whoever asks is answered at once. */
static void canary_answer(struct broker *broker, const struct message *message)
{
    unsigned question;
    if (broker_world(broker)->canary == CANARY_PUBLISH &&
        strstr(message->topic, "/twin/update") != NULL &&
        sscanf(message->payload, "{\"event_id\":\"q-%u\"", &question) == 1) {
        check_heard(broker->edge, broker->number, question);
    }
}

static void broker_on_deliver(void *context)
{
    struct broker *broker = context;
    struct world *world = broker_world(broker);
    struct sim *sim = &world->sim;
    struct bus *bus = broker_bus(broker);
    broker->delivering = false;
    uint32_t count = 0;
    for (struct message *m = broker->in_head; m != NULL && count < DELIVER_AT_ONCE; m = m->next) {
        if (m->sent) {
            continue;
        }
        if (!bus_wants(bus)) {
            break;
        }
        m->sent = true;
        count++;
        const char *name = strstr(m->topic, "dev-");
        if (name != NULL) {
            world->known[name[4] - '0'].said++;
        }
        world->messages++;
        spine_story(world, broker->edge->process.name, "broker %u > %s %s", broker->number,
                    m->topic, m->payload);
        check_read(broker->edge, m->topic, m->payload);
        bus_message(bus, m->topic, bytes_text(m->payload), bus_now(world));
        canary_answer(broker, m);
    }
    if (count > 0) {
        broker->edge->process.poked = true;
        sim_after(sim, sim_between(sim, 50, 4000), broker->listens, broker_on_ack, broker);
    }
    broker_pump(broker);
}

static void broker_on_taken(void *context)
{
    struct broker *broker = context;
    while (broker->out_head != NULL && broker->out_head->sent) {
        bus_taken(broker_bus(broker), broker->number, broker->out_head->id);
        queue_pop(&broker->out_head, &broker->out_tail);
    }
    broker->edge->process.poked = true;
    broker_pump(broker);
}

static void broker_on_take(void *context)
{
    struct broker *broker = context;
    struct sim *sim = &broker_world(broker)->sim;
    broker->taking = false;
    for (struct message *m = broker->out_head; m != NULL; m = m->next) {
        if (!m->sent) {
            m->sent = true;
            spine_story(broker_world(broker), broker->edge->process.name, "broker %u < %s %s",
                        broker->number, m->topic, m->payload);
            mapper_hear(broker, m);
        }
    }
    sim_after(sim, sim_between(sim, 50, 3000), broker->publishes, broker_on_taken, broker);
}

/* Now and then a broker, or the way to it, is slow. */
static uint64_t broker_delay_us(struct broker *broker)
{
    struct sim *sim = &broker_world(broker)->sim;
    return sim_below(sim, 30) == 0 ? sim_between(sim, 100 * MS, 2 * SECOND)
                                   : sim_between(sim, 300, 8000);
}

/* What waits goes on its way. */
static void broker_pump(struct broker *broker)
{
    struct sim *sim = &broker_world(broker)->sim;
    if (broker->listens != 0 && !broker->delivering && broker->in_tail != NULL &&
        !broker->in_tail->sent) {
        broker->delivering = true;
        sim_after(sim, broker_delay_us(broker), broker->listens, broker_on_deliver, broker);
    }
    if (broker->publishes != 0 && !broker->taking && broker->out_tail != NULL &&
        !broker->out_tail->sent) {
        broker->taking = true;
        sim_after(sim, broker_delay_us(broker), broker->publishes, broker_on_take, broker);
    }
}

int broker_publish(struct edge *edge, uint32_t number, uint64_t id, const char *topic,
                   struct bytes payload)
{
    struct broker *broker = &edge->brokers[number];
    CHECK(broker->publishes != 0);
    struct message *message = message_new(topic, (const char *)payload.data, payload.size);
    message->id = id;
    check_publish(edge);
    queue_push(&broker->out_head, &broker->out_tail, message);
    broker_pump(broker);
    return 0;
}

static void broker_on_dialed(void *context);

/* An edge whose connections are not both up looks again after a while. */
static void broker_dial(struct broker *broker)
{
    struct sim *sim = &broker_world(broker)->sim;
    if (broker->edge->process.life != 0) {
        sim_after(sim, sim_between(sim, 5 * MS, 150 * MS), broker->edge->process.life,
                  broker_on_dialed, broker);
    }
}

static void broker_on_dialed(void *context)
{
    struct broker *broker = context;
    struct sim *sim = &broker_world(broker)->sim;
    struct bus *bus = broker_bus(broker);
    const bool first = sim_below(sim, 2) == 0;
    if (!broker->away && broker->publishes == 0 && (first || broker->listens != 0)) {
        broker->publishes = sim_owner_new(sim);
    } else if (!broker->away && broker->listens == 0 && bus_wants(bus)) {
        broker->listens = sim_owner_new(sim);
    }
    if (broker->listens == 0 || broker->publishes == 0) {
        broker_dial(broker);
    } else if (!broker->told) { /* bus_hands.c: not before both are up */
        broker->told = true;
        bus_broker_up(bus, broker->number);
        broker->edge->process.poked = true;
    }
    broker_pump(broker);
}

/* What was on its way to the edge is told again. */
static void broker_forget_listener(struct broker *broker)
{
    if (broker->listens != 0) {
        sim_cancel_owner(&broker_world(broker)->sim, broker->listens);
    }
    broker->listens = 0;
    broker->delivering = false;
    for (struct message *m = broker->in_head; m != NULL; m = m->next) {
        m->sent = false;
    }
}

/* What it published may have been passed on, or not. */
static void broker_forget_publisher(struct broker *broker)
{
    if (broker->publishes != 0) {
        sim_cancel_owner(&broker_world(broker)->sim, broker->publishes);
    }
    broker->publishes = 0;
    broker->taking = false;
    while (broker->out_head != NULL) {
        queue_pop(&broker->out_head, &broker->out_tail);
    }
}

static void broker_on_back(void *context)
{
    ((struct broker *)context)->away = false;
}

void broker_fault(struct broker *broker, uint64_t us, bool forgets)
{
    struct world *world = broker_world(broker);
    const uint64_t which = us > 0 ? 0 : sim_below(&world->sim, 3); /* 0: both */
    spine_story(world, broker->edge->process.name, "broker %u: %s, %llu ms%s", broker->number,
                which == 0   ? "away"
                : which == 1 ? "listener lost"
                             : "publisher lost",
                (unsigned long long)(us / MS), forgets ? ", and forgets" : "");
    broker->away = us > 0;
    if (us > 0) {
        sim_after(&world->sim, us, 0, broker_on_back, broker);
    }
    const bool was_up = broker->listens != 0 && broker->publishes != 0;
    if (which != 2) {
        broker_forget_listener(broker);
    }
    if (which != 1) {
        broker_forget_publisher(broker);
        if (broker->told) {
            broker->told = false;
            bus_broker_down(broker_bus(broker), broker->number);
            broker->edge->process.poked = true;
        }
    }
    if (was_up) {
        broker_dial(broker);
    }
    while (forgets && broker->in_head != NULL) {
        queue_pop(&broker->in_head, &broker->in_tail);
    }
}

void brokers_heal(struct edge *edge)
{
    for (uint32_t i = 0; i < edge->broker_count; i++) {
        edge->brokers[i].away = false;
    }
}

void brokers_init(struct edge *edge)
{
    struct sim *sim = &edge->process.world->sim;
    static const uint32_t windows_ms[] = {0, 100, 400};
    edge->broker_count = 1 + (uint32_t)sim_below(sim, BUS_BROKERS);
    edge->topics = (enum device_topics)sim_below(sim, 3);
    edge->window_ms = windows_ms[sim_below(sim, 3)];
    for (uint32_t i = 0; i < edge->broker_count; i++) {
        edge->brokers[i].edge = edge;
        edge->brokers[i].number = i;
    }
    edge->promises = calloc(SPINE_PROMISES, sizeof *edge->promises);
    edge->events = calloc(SPINE_EVENTS, sizeof *edge->events);
    CHECK(edge->promises != NULL && edge->events != NULL);
}

void brokers_edge_started(struct edge *edge)
{
    for (uint32_t i = 0; i < edge->broker_count; i++) {
        broker_dial(&edge->brokers[i]);
    }
}

void brokers_edge_died(struct edge *edge)
{
    for (uint32_t i = 0; i < edge->broker_count; i++) {
        broker_forget_listener(&edge->brokers[i]);
        broker_forget_publisher(&edge->brokers[i]);
        edge->brokers[i].told = false;
    }
}
