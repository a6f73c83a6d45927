#include "nodes/edge/bus_hands.h"

#include "nodes/config.h"
#include "nodes/edge/bus_broker.h"
#include "nodes/edge/bus_mqtt.h"
#include "nodes/logger.h"
#include "schemas/check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct hands_broker {
    struct bus_hands *hands;
    uint32_t number;
    struct bus_mqtt *listens;
    struct bus_mqtt *publishes;
    bool told; /* the bus knows that it is up */
};

struct bus_hands {
    struct bus *bus;
    uv_loop_t *loop;
    struct bus_config config;
    struct hands_broker brokers[BUS_BROKERS];
    struct bus_broker *own; /* NULL: none */
    char hosts[BUS_BROKERS][256];
    char client[LIMIT_NAME_BYTES + 16];
    char publisher[LIMIT_NAME_BYTES + 24];
    char password[256];
    char filter_texts[LIMIT_BUS_FILTERS][LIMIT_BUS_TOPIC_BYTES + 1];
    const char *filters[LIMIT_BUS_FILTERS];
    uint32_t filter_count;
    bool left;
};

struct bus_config bus_hands_config(const struct bus_hands_options *options)
{
    struct bus_config config = {
        .node = options->node, .topics = options->topics, .window_ms = options->window_ms};
    switch (options->mode) {
    case BUS_MODE_INTERNAL:
    case BUS_MODE_EXTERNAL:
        config.broker_count = 1;
        config.brokers[0] = options->mode == BUS_MODE_INTERNAL ? "internal" : "external";
        break;
    case BUS_MODE_BOTH:
        config.broker_count = 2;
        config.brokers[0] = "internal";
        config.brokers[1] = "external";
        break;
    case BUS_MODE_NONE:
        break;
    }
    return config;
}

/* -- from the brokers ---------------------------------------------------------------------------------------- */

static struct bus_time hands_now(const struct bus_hands *hands)
{
    uv_timeval64_t wall;
    CHECK(uv_gettimeofday(&wall) == 0);
    return (struct bus_time){.mono_ms = uv_now(hands->loop),
                             .wall_ms = wall.tv_sec * 1000 + wall.tv_usec / 1000};
}

static bool hands_is_up(const struct bus_mqtt *mqtt)
{
    return bus_mqtt_report(mqtt).up;
}

/* Nothing is published before we listen: who is told what a device should be may answer at once. Later either goes on
 * without the other: the session keeps what we do not hear. */
static void hands_on_up(void *owner)
{
    struct hands_broker *broker = owner;
    if (!broker->hands->left && !broker->told && hands_is_up(broker->listens) &&
        hands_is_up(broker->publishes)) {
        broker->told = true;
        bus_broker_up(broker->hands->bus, broker->number);
    }
}

static void hands_on_read(void *owner, bool more)
{
    const struct hands_broker *broker = owner;
    if (!broker->hands->left) {
        bus_read(broker->hands->bus, broker->number, more);
    }
}

static void hands_on_listener_down(void *owner)
{
    (void)owner; /* what is published does not concern it */
}

static void hands_on_publisher_down(void *owner)
{
    struct hands_broker *broker = owner;
    if (!broker->hands->left && broker->told) {
        broker->told = false;
        bus_broker_down(broker->hands->bus, broker->number);
    }
}

static void hands_on_message(void *owner, const char *topic, struct bytes payload)
{
    const struct hands_broker *broker = owner;
    if (!broker->hands->left) {
        struct bus *bus = broker->hands->bus;
        bus_message(bus, topic, payload, hands_now(broker->hands));
        if (bus_message_refusal(bus) != NULL) {
            char value[LOGGER_VALUE_BYTES];
            logger_warn_limited("message_refused", "broker=%s topic=%.256s bytes=%zu reason=%.256s",
                                broker->hands->config.brokers[broker->number],
                                logger_value(value, topic), payload.size, bus_message_refusal(bus));
        }
    }
}

static void hands_on_taken(void *owner, uint64_t id)
{
    const struct hands_broker *broker = owner;
    if (!broker->hands->left) {
        bus_taken(broker->hands->bus, broker->number, id);
    }
}

static bool hands_wants(void *owner)
{
    const struct hands_broker *broker = owner;
    return !broker->hands->left && bus_wants(broker->hands->bus);
}

static const struct bus_mqtt_events listener_events = {
    .on_up = hands_on_up,
    .on_down = hands_on_listener_down,
    .on_message = hands_on_message,
    .wants = hands_wants,
    .on_read = hands_on_read,
};
static const struct bus_mqtt_events publisher_events = {
    .on_up = hands_on_up,
    .on_down = hands_on_publisher_down,
    .on_taken = hands_on_taken,
};

/* -- life -------------------------------------------------------------------------------------------------------- */

/* "tcp://host:port".
 *   answers  0, or STATUS_MALFORMED with a reason */
static int hands_address(const char *key, const char *text, char host[256], uint16_t *port,
                         char *reason)
{
    const char *address = strncmp(text, "tcp://", 6) == 0 ? text + 6 : text;
    if (config_parse_address(address, host, port) != 0 || host[0] == '\0') {
        snprintf(reason, 512,
                 "eventBus.%s: \"%s\" is no address of a broker; write tcp://127.0.0.1:1883 (TLS "
                 "is asked for by "
                 "eventBus.tls.authority, not by another scheme)",
                 key, text);
        return STATUS_MALFORMED;
    }
    return 0;
}

/* Open a file that nobody else may read.
 *   answers  a descriptor; negative: `why` (160 bytes) says it */
static int hands_open_secret(const char *path, char *why)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    struct stat about;
    if (fd < 0 || fstat(fd, &about) != 0) {
        snprintf(why, 160, "%s", strerror(errno));
    } else if (!S_ISREG(about.st_mode)) {
        snprintf(why, 160, "it is no file");
    } else if (about.st_uid != geteuid() && about.st_uid != 0) {
        snprintf(why, 160, "it belongs to user %u, who could change it: chown it to %u or root",
                 (unsigned)about.st_uid, (unsigned)geteuid());
    } else if ((about.st_mode & (S_IRWXO | S_IWGRP)) != 0) {
        snprintf(why, 160, "others may read or change it (mode %04o): chmod 600",
                 (unsigned)about.st_mode & 07777u);
    } else {
        return fd;
    }
    if (fd >= 0) {
        close(fd);
    }
    return STATUS_MALFORMED;
}

static int hands_read_password(struct bus_hands *hands, const char *path, char *reason)
{
    char why[160] = "it is empty";
    const int fd = hands_open_secret(path, why);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "r");
    CHECK_IF(fd >= 0, file != NULL);
    const bool read = file != NULL && fgets(hands->password, sizeof hands->password, file) != NULL;
    if (file != NULL) {
        fclose(file);
    }
    hands->password[strcspn(hands->password, "\r\n")] = '\0';
    if (!read) {
        snprintf(reason, 512, "eventBus.passwordFile: cannot read a line from %.256s: %s", path,
                 why);
        return STATUS_MALFORMED;
    }
    return 0;
}

static int hands_filters(struct bus_hands *hands, const struct bus_hands_options *options,
                         char *reason)
{
    while (bus_topic_filter(options->node, options->topics, hands->filter_count,
                            hands->filter_texts[hands->filter_count])) {
        hands->filters[hands->filter_count] = hands->filter_texts[hands->filter_count];
        hands->filter_count++;
    }
    for (uint32_t i = 0; i < options->upload_count; i++) {
        if (!bus_topic_is_filter(options->upload[i]) || options->upload[i][0] == '$') {
            snprintf(reason, 512,
                     "eventBus.upload: \"%s\" is no topic to subscribe to: + and # stand alone "
                     "between slashes, # "
                     "at the end, and topics that begin with $ are not for the cloud",
                     options->upload[i]);
            return STATUS_MALFORMED;
        }
        CHECK(hands->filter_count < LIMIT_BUS_FILTERS); /* the table of keys bounds the list */
        hands->filters[hands->filter_count] = options->upload[i];
        hands->filter_count++;
    }
    return 0;
}

static const char *text_or_null(const char *text)
{
    return text[0] == '\0' ? NULL : text;
}

/* Broker `number` is ours, or the other one. */
static int hands_connect(struct bus_hands *hands, const struct bus_hands_options *options,
                         uint32_t number, char *reason)
{
    const bool own = number == 0 && options->mode != BUS_MODE_EXTERNAL;
    struct bus_mqtt_options mqtt = {.name = hands->config.brokers[number],
                                    .host = hands->hosts[number],
                                    .qos = options->qos,
                                    .retain = options->retain};
    int status =
        hands_address(own ? "internal" : "external", own ? options->internal : options->external,
                      hands->hosts[number], &mqtt.port, reason);
    if (status != 0) {
        return status;
    }
    if (own) {
        hands->own =
            bus_broker_open(hands->loop,
                            &(struct bus_broker_options){.program = options->program,
                                                         .host = hands->hosts[number],
                                                         .port = mqtt.port,
                                                         .data = options->data,
                                                         .queue_count = options->queue_count},
                            reason);
        if (hands->own == NULL) {
            return STATUS_MALFORMED;
        }
    } else {
        mqtt.user = text_or_null(options->user);
        mqtt.password = text_or_null(hands->password);
        mqtt.authority = text_or_null(options->authority);
        mqtt.certificate = text_or_null(options->certificate);
        mqtt.key = text_or_null(options->key);
    }
    struct hands_broker *broker = &hands->brokers[number];
    *broker = (struct hands_broker){.hands = hands, .number = number};
    mqtt.client = hands->publisher;
    broker->publishes = bus_mqtt_open(hands->loop, &mqtt, &publisher_events, broker, reason);
    if (broker->publishes == NULL) {
        return STATUS_MALFORMED;
    }
    mqtt.client = hands->client;
    mqtt.filters = hands->filters;
    mqtt.filter_count = hands->filter_count;
    broker->listens = bus_mqtt_open(hands->loop, &mqtt, &listener_events, broker, reason);
    return broker->listens == NULL ? STATUS_MALFORMED : 0;
}

struct bus_hands *bus_hands_open(uv_loop_t *loop, const struct bus_hands_options *options,
                                 struct bus *bus, char *reason)
{
    struct bus_hands *hands = calloc(1, sizeof *hands);
    CHECK(hands != NULL);
    hands->bus = bus;
    hands->loop = loop;
    hands->config = bus_hands_config(options);
    snprintf(hands->client, sizeof hands->client, "%s%s", options->client[0] == '\0' ? "kelp-" : "",
             options->client[0] == '\0' ? options->node : options->client);
    /* no name of a node has a '_', so this is no other node's */
    snprintf(hands->publisher, sizeof hands->publisher, "%s_pub", hands->client);
    int status = hands_filters(hands, options, reason);
    if (status == 0 && options->password_file[0] != '\0') {
        status = hands_read_password(hands, options->password_file, reason);
    }
    for (uint32_t i = 0; status == 0 && i < hands->config.broker_count; i++) {
        status = hands_connect(hands, options, i, reason);
    }
    return status == 0 ? hands : NULL; /* who is refused ends the process */
}

void bus_hands_leave(struct bus_hands *hands)
{
    hands->left = true;
    for (uint32_t i = 0; i < hands->config.broker_count; i++) {
        bus_mqtt_leave(hands->brokers[i].listens);
        bus_mqtt_leave(hands->brokers[i].publishes);
    }
    if (hands->own != NULL) {
        bus_broker_leave(hands->own);
    }
}

int bus_hands_publish(struct bus_hands *hands, uint32_t broker, uint64_t id, const char *topic,
                      struct bytes payload)
{
    CHECK(broker < hands->config.broker_count);
    return bus_mqtt_publish(hands->brokers[broker].publishes, id, topic, payload);
}

void bus_hands_turn(struct bus_hands *hands)
{
    for (uint32_t i = 0; i < hands->config.broker_count; i++) {
        bus_mqtt_turn(hands->brokers[i].publishes);
        bus_mqtt_turn(hands->brokers[i].listens);
    }
}

/* -- views -------------------------------------------------------------------------------------------------------- */

static bool hands_broker_is_up(const struct hands_broker *broker)
{
    return hands_is_up(broker->listens) && hands_is_up(broker->publishes);
}

uint32_t bus_hands_connected(const struct bus_hands *hands)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < hands->config.broker_count; i++) {
        count += hands_broker_is_up(&hands->brokers[i]) ? 1 : 0;
    }
    return count;
}

uint64_t bus_hands_redelivered(const struct bus_hands *hands)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < hands->config.broker_count; i++) {
        count += bus_mqtt_report(hands->brokers[i].listens).redelivered;
    }
    return count;
}

static uint64_t hands_retained(const struct bus_hands *hands)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < hands->config.broker_count; i++) {
        count += bus_mqtt_report(hands->brokers[i].listens).retained;
    }
    return count;
}

void bus_hands_metrics(const struct bus_hands *hands, struct metrics_page *page)
{
    if (hands->config.broker_count == 0) {
        return;
    }
    metrics_family(page, METRICS_GAUGE, "kelp_bus_broker_up",
                   "1 while both connections to a broker are there, with our subscriptions.");
    for (uint32_t i = 0; i < hands->config.broker_count; i++) {
        metrics_labelled(page, "broker", hands->config.brokers[i],
                         hands_broker_is_up(&hands->brokers[i]));
    }
    metrics_family(page, METRICS_COUNTER, "kelp_bus_connections_total",
                   "Connections to a broker that came up: one that listens, one that publishes.");
    for (uint32_t i = 0; i < hands->config.broker_count; i++) {
        metrics_labelled(page, "broker", hands->config.brokers[i],
                         bus_mqtt_report(hands->brokers[i].listens).connections +
                             bus_mqtt_report(hands->brokers[i].publishes).connections);
    }
    metrics_counter(page, "kelp_bus_messages_redelivered_total",
                    "Messages that a broker told again after a connection was lost.",
                    bus_hands_redelivered(hands));
    metrics_counter(page, "kelp_bus_messages_retained_total",
                    "Messages that a broker keeps and told again to a session that had heard them.",
                    hands_retained(hands));
    if (hands->own != NULL) {
        metrics_counter(page, "kelp_bus_broker_starts_total",
                        "Times that the broker of this edgecore was started.",
                        bus_broker_starts(hands->own));
    }
}
