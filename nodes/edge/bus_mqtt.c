#include "nodes/edge/bus_mqtt.h"

#include "nodes/logger.h"
#include "schemas/check.h"

#include <errno.h>
#include <fcntl.h>
#include <mosquitto.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <unistd.h>

#define MISC_MS     5000u /* how often libmosquitto looks at its keepalive */
#define KEEPALIVE_S 30
/* Before others have their turn: what is not read in time a broker drops. Acknowledgements leave behind the last of
 * them, so it is no more than our own broker sends before it has some: else a turn would end for want of them, as if there
 * were no more. */
#define READS_AT_ONCE 1024
static_assert(READS_AT_ONCE <= LIMIT_BUS_INFLIGHT, "who has more to tell is read to the end of a turn");
#define BACKOFF_MS 100u
#define RECENT     LIMIT_BUS_INFLIGHT /* messages that are known again */
#define REPEATED   (2u * RECENT) /* of a new connection: among them are those that are told again */
#define HASHED_BYTES                                                                               \
    4096 /* of them, from their beginning: a broker elsewhere may bring 256 MiB in one */

enum mqtt_state {
    MQTT_WAITING,     /* until due_ms, then another attempt */
    MQTT_DIALING,     /* a pool thread has the client */
    MQTT_CONNECTING,  /* CONNECT is on its way */
    MQTT_SUBSCRIBING, /* SUBSCRIBE is */
    MQTT_UP,
    MQTT_CLOSING, /* the poll handle is being closed */
};

/* A message of ours on its way. */
struct mqtt_flight {
    uint64_t id;
    int mid;
    bool taken;
};

/* A message of theirs, to know it again. */
struct mqtt_recent {
    int mid;
    uint32_t hash;
};

struct bus_mqtt {
    struct bus_mqtt_options options;
    const struct bus_mqtt_events *events;
    void *owner;
    uv_loop_t *loop;
    enum mqtt_state state;
    struct mosquitto *client;
    int fd; /* a duplicate of its socket: it closes its own when it likes, and the loop must not watch a closed one */
    uv_poll_t poll;
    int polled; /* events that are watched */
    uv_timer_t tick;
    uv_timer_t soon;
    uv_work_t dial;
    int dialed;
    const char *why; /* this connection must end; NULL: it may go on */
    uint32_t
        failures; /* since it was up; the first one is not told: a broker may just be starting */
    bool leaving;
    uint64_t due_ms;
    uint64_t backoff_ms;
    struct mqtt_flight flights[LIMIT_BUS_OUTGOING];
    uint64_t flight_first; /* oldest that was not told */
    uint64_t flight_next;
    bool publishing;
    bool corked;  /* what is written waits for what comes behind it in the same turn */
    bool moved;   /* libmosquitto had something to tell since this was cleared */
    bool unread;  /* there may be more, until a read finds nothing */
    bool resumed; /* the broker had kept our session */
    struct mqtt_recent recent[RECENT];
    struct mqtt_recent before[RECENT]; /* recent when the last connection ended */
    uint32_t recent_next;
    uint32_t repeated_left; /* messages that may be among `before` */
    struct bus_mqtt_report report;
};

static bool mqtt_listens(const struct bus_mqtt *mqtt)
{
    return mqtt->options.filter_count > 0;
}

/* For log lines. */
static const char *mqtt_part(const struct bus_mqtt *mqtt)
{
    return mqtt_listens(mqtt) ? "listens" : "publishes";
}

/* Whether it may be read. */
static bool mqtt_wants(const struct bus_mqtt *mqtt)
{
    return !mqtt_listens(mqtt) || mqtt->events->wants(mqtt->owner);
}

/* -- the end of a connection ------------------------------------------------------------------------------ */

static void mqtt_break(struct bus_mqtt *mqtt, const char *why)
{
    if (mqtt->why == NULL) {
        mqtt->why = why;
    }
}

/* Give or take a quarter, so that a site that comes back does not come all at once. */
static uint64_t mqtt_jitter(uint64_t ms)
{
    uint16_t chance = 0;
    (void)uv_random(NULL, NULL, &chance, sizeof chance, 0, NULL);
    return ms * 3 / 4 + ms / 2 * chance / UINT16_MAX;
}

static void mqtt_on_tick(uv_timer_t *timer);

/* Look again when it is due, or for the keepalive. */
static void mqtt_arm(struct bus_mqtt *mqtt)
{
    const uint64_t now = uv_now(mqtt->loop);
    const uint64_t wait = mqtt->due_ms > now ? mqtt->due_ms - now : 0;
    uv_timer_start(&mqtt->tick, mqtt_on_tick, mqtt->state == MQTT_UP ? MISC_MS : wait, 0);
}

static void mqtt_wait(struct bus_mqtt *mqtt)
{
    mosquitto_destroy(mqtt->client);
    mqtt->client = NULL;
    mqtt->why = NULL;
    mqtt->state = MQTT_WAITING;
    mqtt->due_ms = uv_now(mqtt->loop) + mqtt_jitter(mqtt->backoff_ms);
    mqtt->backoff_ms *= 2;
    if (mqtt->backoff_ms > LIMIT_BUS_BACKOFF_MS) {
        mqtt->backoff_ms = LIMIT_BUS_BACKOFF_MS;
    }
    if (!mqtt->leaving) {
        mqtt_arm(mqtt);
    }
}

static void mqtt_on_closed(uv_handle_t *handle)
{
    struct bus_mqtt *mqtt = handle->data;
    CHECK(mqtt->state == MQTT_CLOSING);
    close(mqtt->fd);
    mqtt_wait(mqtt);
}

/* An attempt led to nothing. Told once, until it is up again. */
static void mqtt_failed(struct bus_mqtt *mqtt, const char *reason)
{
    mqtt->failures++;
    if (mqtt->failures == 2) {
        logger_warn("broker_not_reached", "broker=%s connection=%s address=%s:%u reason=%s",
                    mqtt->options.name, mqtt_part(mqtt), mqtt->options.host, mqtt->options.port,
                    reason);
    }
}

/* The one way out of a connection, from the loop and from no callback of libmosquitto. */
static void mqtt_end(struct bus_mqtt *mqtt)
{
    const bool was_up = mqtt->state == MQTT_UP;
    if (was_up && mqtt->leaving) {
        logger_info("broker_left", "broker=%s connection=%s", mqtt->options.name, mqtt_part(mqtt));
    } else if (was_up) {
        logger_warn("broker_lost", "broker=%s connection=%s address=%s:%u reason=%s",
                    mqtt->options.name, mqtt_part(mqtt), mqtt->options.host, mqtt->options.port,
                    mqtt->why);
        memcpy(mqtt->before, mqtt->recent, sizeof mqtt->before);
        memset(mqtt->recent, 0, sizeof mqtt->recent);
    } else {
        mqtt_failed(mqtt, mqtt->why);
    }
    mqtt->report.up = false;
    mqtt->unread = false;
    mqtt->flight_first = mqtt->flight_next;
    mqtt->state = MQTT_CLOSING;
    uv_close((uv_handle_t *)&mqtt->poll, mqtt_on_closed);
    if (mqtt_listens(mqtt)) {
        mqtt->events->on_read(mqtt->owner, false);
    }
    if (was_up) {
        mqtt->events->on_down(mqtt->owner);
    }
}

/* -- what libmosquitto calls -------------------------------------------------------------------------------- */

static void mqtt_came_up(struct bus_mqtt *mqtt)
{
    mqtt->state = MQTT_UP;
    mqtt->backoff_ms = BACKOFF_MS;
    mqtt->failures = 0;
    mqtt->report.up = true;
    mqtt->report.connections++;
    mqtt_arm(mqtt);
    logger_info("broker_connected", "broker=%s connection=%s address=%s:%u session=%s",
                mqtt->options.name, mqtt_part(mqtt), mqtt->options.host, mqtt->options.port,
                mqtt->resumed ? "resumed" : "new");
    mqtt->events->on_up(mqtt->owner);
}

static void mqtt_on_connect(struct mosquitto *client, void *context, int code, int flags)
{
    struct bus_mqtt *mqtt = context;
    mqtt->moved = true;
    if (code != 0) {
        mqtt_break(mqtt, mosquitto_connack_string(code));
        return;
    }
    mqtt->resumed = (flags & 1) != 0;
    mqtt->repeated_left = mqtt->resumed ? REPEATED : 0;
    if (!mqtt_listens(mqtt)) {
        mqtt_came_up(mqtt);
        return;
    }
    char *filters[LIMIT_BUS_FILTERS];
    for (uint32_t i = 0; i < mqtt->options.filter_count; i++) {
        filters[i] = (char *)(uintptr_t)mqtt->options.filters[i]; /* libmosquitto only reads them */
    }
    mqtt->state = MQTT_SUBSCRIBING;
    const int rc = mosquitto_subscribe_multiple(client, NULL, (int)mqtt->options.filter_count,
                                                filters, 1, 0, NULL);
    if (rc != MOSQ_ERR_SUCCESS) {
        mqtt_break(mqtt, mosquitto_strerror(rc));
    }
}

static void mqtt_on_subscribe(struct mosquitto *client, void *context, int mid, int count,
                              const int *granted)
{
    (void)client;
    (void)mid;
    struct bus_mqtt *mqtt = context;
    mqtt->moved = true;
    for (int i = 0; i < count; i++) {
        if (granted[i] > 2) {
            logger_warn("subscription_refused", "broker=%s topic=%s", mqtt->options.name,
                        (uint32_t)i < mqtt->options.filter_count ? mqtt->options.filters[i] : "");
        }
    }
    if (mqtt->state == MQTT_SUBSCRIBING) {
        mqtt_came_up(mqtt);
    }
}

static void mqtt_on_disconnect(struct mosquitto *client, void *context, int code)
{
    (void)client;
    mqtt_break(context, code == 0 ? "we left" : mosquitto_strerror(code));
}

static uint32_t mqtt_hash(const struct mosquitto_message *message)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (const char *at = message->topic; *at != '\0'; at++) {
        hash = (hash ^ (uint8_t)*at) * 16777619u;
    }
    for (int i = 0; i < message->payloadlen && i < HASHED_BYTES; i++) {
        hash = (hash ^ ((const uint8_t *)message->payload)[i]) * 16777619u;
    }
    return hash;
}

/* Count what the broker had told before the connection was lost, and tells again as it never heard that we have
 * it: the same packet id and the same content. */
static void mqtt_note(struct bus_mqtt *mqtt, const struct mosquitto_message *message)
{
    const struct mqtt_recent note = {.mid = message->mid, .hash = mqtt_hash(message)};
    for (uint32_t i = 0; mqtt->repeated_left > 0 && i < RECENT; i++) {
        if (mqtt->before[i].mid == note.mid && mqtt->before[i].hash == note.hash) {
            mqtt->before[i].mid = 0;
            mqtt->report.redelivered++;
            break;
        }
    }
    mqtt->repeated_left -= mqtt->repeated_left > 0 ? 1 : 0;
    mqtt->recent[mqtt->recent_next % RECENT] = note;
    mqtt->recent_next++;
}

static void mqtt_on_message(struct mosquitto *client, void *context,
                            const struct mosquitto_message *message)
{
    (void)client;
    struct bus_mqtt *mqtt = context;
    mqtt->moved = true;
    if (message->retain && mqtt->resumed) {
        mqtt->report.retained++;
        return;
    }
    if (message->qos > 0) {
        mqtt_note(mqtt, message);
    }
    mqtt->events->on_message(mqtt->owner, message->topic,
                             bytes_of(message->payload, (size_t)message->payloadlen));
}

static void mqtt_on_soon(uv_timer_t *timer);

static void mqtt_on_publish(struct mosquitto *client, void *context, int mid)
{
    (void)client;
    struct bus_mqtt *mqtt = context;
    mqtt->moved = true;
    for (uint64_t i = mqtt->flight_first; i < mqtt->flight_next; i++) {
        struct mqtt_flight *flight = &mqtt->flights[i % LIMIT_BUS_OUTGOING];
        if (flight->mid == mid && !flight->taken) {
            flight->taken = true;
            break;
        }
    }
    if (mqtt->publishing) { /* of QoS 0, written at once: told when nobody is inside us */
        uv_timer_start(&mqtt->soon, mqtt_on_soon, 0, 0);
    }
}

/* -- turns ------------------------------------------------------------------------------------------------- */

/* libmosquitto writes each packet by itself. Those of a turn leave together: a small packet alone is a whole one for the
 * kernel, and wakes the broker. What fails makes it slower, nothing else. */
static void mqtt_cork(struct bus_mqtt *mqtt, bool cork)
{
    if (mqtt->corked != cork) {
        const int value = cork ? 1 : 0;
        (void)setsockopt(mqtt->fd, IPPROTO_TCP, TCP_CORK, &value, sizeof value);
        mqtt->corked = cork;
    }
}

static void mqtt_on_poll(uv_poll_t *poll, int status, int events);

/* Watch for what matters now. */
static void mqtt_watch(struct bus_mqtt *mqtt)
{
    const bool reads = mqtt_wants(mqtt);
    if (!reads && mqtt->state != MQTT_UP) { /* its answer may be there, unread */
        mqtt->due_ms = uv_now(mqtt->loop) + LIMIT_BUS_CONNECT_MS;
    }
    const int wanted =
        (reads ? UV_READABLE : 0) | (mosquitto_want_write(mqtt->client) ? UV_WRITABLE : 0);
    if (wanted == mqtt->polled) {
        return;
    }
    mqtt->polled = wanted;
    if (wanted == 0) {
        uv_poll_stop(&mqtt->poll);
        return;
    }
    CHECK(uv_poll_start(&mqtt->poll, wanted, mqtt_on_poll) == 0);
}

/* After anything that libmosquitto did: what it took is told, what it broke ends. */
static void mqtt_settle(struct bus_mqtt *mqtt)
{
    if (mqtt->client == NULL || mqtt->state == MQTT_DIALING || mqtt->state == MQTT_CLOSING) {
        return;
    }
    while (mqtt->flight_first < mqtt->flight_next) {
        const struct mqtt_flight *flight = &mqtt->flights[mqtt->flight_first % LIMIT_BUS_OUTGOING];
        if (!flight->taken) {
            break;
        }
        const uint64_t id = flight->id;
        mqtt->flight_first++;
        mqtt->events->on_taken(mqtt->owner, id);
    }
    if (mqtt->why != NULL) {
        mqtt_end(mqtt);
        return;
    }
    mqtt_watch(mqtt);
}

static void mqtt_read(struct bus_mqtt *mqtt)
{
    mqtt_cork(mqtt, true); /* acknowledgements */
    mqtt->moved = true;
    for (int i = 0; i < READS_AT_ONCE && mqtt->moved && mqtt->why == NULL && mqtt_wants(mqtt);
         i++) {
        mqtt->moved = false;
        const int rc = mosquitto_loop_read(mqtt->client, 1);
        if (rc != MOSQ_ERR_SUCCESS) {
            mqtt_break(mqtt, mosquitto_strerror(rc));
        }
    }
    mqtt->unread = mqtt->moved;
    mqtt_cork(mqtt, false);
    if (mqtt_listens(mqtt)) {
        mqtt->events->on_read(mqtt->owner, mqtt->unread);
    }
}

static void mqtt_on_soon(uv_timer_t *timer)
{
    struct bus_mqtt *mqtt = CONTAINER_OF(timer, struct bus_mqtt, soon);
    if (mqtt->unread) { /* so there is a connection */
        mqtt_read(mqtt);
    }
    mqtt_settle(mqtt);
}

/* Something happened to a socket that is not connected: so it will not be. libmosquitto with TLS takes the error off
 * the socket and goes on as if it had to wait. */
static bool mqtt_is_refused(const struct bus_mqtt *mqtt)
{
    struct sockaddr_storage peer;
    socklen_t size = sizeof peer;
    return mqtt->state == MQTT_CONNECTING &&
           getpeername(mqtt->fd, (struct sockaddr *)&peer, &size) != 0 && errno == ENOTCONN;
}

static void mqtt_on_poll(uv_poll_t *poll, int status, int events)
{
    struct bus_mqtt *mqtt = poll->data;
    if (mqtt->state == MQTT_CLOSING) {
        return;
    }
    if (status < 0 || mqtt_is_refused(mqtt)) {
        int error = 0;
        socklen_t size = sizeof error;
        (void)getsockopt(mqtt->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        mqtt_break(mqtt, uv_strerror(error != 0 ? -error : status < 0 ? status : UV_ECONNREFUSED));
    }
    if ((events & UV_READABLE) != 0 && mqtt->why == NULL) {
        mqtt_read(mqtt);
    }
    if ((events & UV_WRITABLE) != 0 && mqtt->why == NULL) {
        const int rc = mosquitto_loop_write(mqtt->client, 1);
        if (rc != MOSQ_ERR_SUCCESS) {
            mqtt_break(mqtt, mosquitto_strerror(rc));
        }
    }
    mqtt_settle(mqtt);
}

void bus_mqtt_turn(struct bus_mqtt *mqtt)
{
    mqtt_cork(mqtt, false);
    mqtt_settle(mqtt);
    /* Of what TLS has decrypted the socket tells nothing, and of nobody that there is no more. */
    if (mqtt->unread && mqtt_wants(mqtt)) {
        uv_timer_start(&mqtt->soon, mqtt_on_soon, 0, 0);
    }
}

/* -- the beginning of a connection ------------------------------------------------------------------------------ */

/* A client with everything that is to be said of it.
 *   answers  MOSQ_ERR_*; the client is there whatever it is, unless memory is out */
static int mqtt_make_client(struct bus_mqtt *mqtt)
{
    const struct bus_mqtt_options *o = &mqtt->options;
    mqtt->client = mosquitto_new(o->client, !mqtt_listens(mqtt), mqtt);
    if (mqtt->client == NULL) {
        return errno == EINVAL ? MOSQ_ERR_INVAL : MOSQ_ERR_NOMEM;
    }
    mosquitto_connect_with_flags_callback_set(mqtt->client, mqtt_on_connect);
    mosquitto_disconnect_callback_set(mqtt->client, mqtt_on_disconnect);
    mosquitto_subscribe_callback_set(mqtt->client, mqtt_on_subscribe);
    mosquitto_message_callback_set(mqtt->client, mqtt_on_message);
    mosquitto_publish_callback_set(mqtt->client, mqtt_on_publish);
    int rc = mosquitto_int_option(mqtt->client, MOSQ_OPT_TCP_NODELAY, 1);
    if (rc == MOSQ_ERR_SUCCESS) {
        rc = mosquitto_int_option(mqtt->client, MOSQ_OPT_SEND_MAXIMUM, LIMIT_BUS_OUTGOING);
    }
    if (rc == MOSQ_ERR_SUCCESS && o->user != NULL) {
        rc = mosquitto_username_pw_set(mqtt->client, o->user, o->password);
    }
    if (rc == MOSQ_ERR_SUCCESS && o->authority != NULL) {
        rc = mosquitto_tls_set(mqtt->client, o->authority, NULL, o->certificate, o->key, NULL);
    }
    return rc;
}

static void mqtt_dial_on_work(uv_work_t *work)
{
    struct bus_mqtt *mqtt = CONTAINER_OF(work, struct bus_mqtt, dial);
    mqtt->dialed =
        mosquitto_connect_async(mqtt->client, mqtt->options.host, mqtt->options.port, KEEPALIVE_S);
    if (mqtt->dialed == MOSQ_ERR_ERRNO) {
        mqtt->dialed = -errno;
    }
}

static const char *mqtt_dial_reason(int dialed)
{
    return dialed < 0 ? uv_strerror(dialed) : mosquitto_strerror(dialed);
}

static void mqtt_dial_on_done(uv_work_t *work, int status)
{
    (void)status; /* never cancelled */
    struct bus_mqtt *mqtt = CONTAINER_OF(work, struct bus_mqtt, dial);
    CHECK(mqtt->state == MQTT_DIALING);
    const int socket = mosquitto_socket(mqtt->client);
    mqtt->fd = mqtt->dialed == MOSQ_ERR_SUCCESS ? fcntl(socket, F_DUPFD_CLOEXEC, 0) : -1;
    if (mqtt->fd < 0) {
        mqtt_failed(mqtt, mqtt_dial_reason(mqtt->dialed));
        mqtt_wait(mqtt);
        return;
    }
    (void)fcntl(socket, F_SETFD, FD_CLOEXEC); /* a broker of our own is no heir of it */
    mqtt->corked = false;
    mqtt->state = MQTT_CONNECTING;
    mqtt->due_ms = uv_now(mqtt->loop) + LIMIT_BUS_CONNECT_MS;
    mqtt->polled = 0;
    mqtt_arm(mqtt);
    CHECK(uv_poll_init_socket(mqtt->loop, &mqtt->poll, mqtt->fd) == 0);
    mqtt->poll.data = mqtt;
    mqtt_settle(mqtt);
}

static void mqtt_dial(struct bus_mqtt *mqtt)
{
    const int rc = mqtt_make_client(mqtt);
    CHECK(rc == MOSQ_ERR_SUCCESS || rc == MOSQ_ERR_TLS || rc == MOSQ_ERR_INVAL ||
          rc == MOSQ_ERR_NOMEM);
    if (rc != MOSQ_ERR_SUCCESS) {
        logger_warn_limited("broker_not_reached", "broker=%s connection=%s reason=%s",
                            mqtt->options.name, mqtt_part(mqtt), mosquitto_strerror(rc));
        mqtt_wait(mqtt);
        return;
    }
    mqtt->state = MQTT_DIALING;
    CHECK(uv_queue_work(mqtt->loop, &mqtt->dial, mqtt_dial_on_work, mqtt_dial_on_done) == 0);
}

static void mqtt_on_tick(uv_timer_t *timer)
{
    struct bus_mqtt *mqtt = CONTAINER_OF(timer, struct bus_mqtt, tick);
    switch (mqtt->state) {
    case MQTT_WAITING:
        if (mqtt_wants(mqtt)) {
            mqtt_dial(mqtt);
            break;
        }
        mqtt->due_ms = uv_now(mqtt->loop) + BACKOFF_MS; /* a session brings what waited for us */
        mqtt_arm(mqtt);
        break;
    case MQTT_CONNECTING:
    case MQTT_SUBSCRIBING:
        if (mqtt->due_ms > uv_now(mqtt->loop)) {
            mqtt_arm(mqtt);
            break;
        }
        mqtt_break(mqtt, "no answer in time");
        mqtt_settle(mqtt);
        break;
    case MQTT_UP: {
        const int rc = mosquitto_loop_misc(mqtt->client);
        if (rc != MOSQ_ERR_SUCCESS) {
            mqtt_break(mqtt, mosquitto_strerror(rc));
        }
        mqtt_arm(mqtt);
        mqtt_settle(mqtt);
        break;
    }
    case MQTT_DIALING:
    case MQTT_CLOSING:
        break;
    }
}

struct bus_mqtt *bus_mqtt_open(uv_loop_t *loop, const struct bus_mqtt_options *options,
                               const struct bus_mqtt_events *events, void *owner, char *reason)
{
    CHECK(options->filter_count <= LIMIT_BUS_FILTERS);
    CHECK(mosquitto_lib_init() == MOSQ_ERR_SUCCESS);
    struct bus_mqtt *mqtt = calloc(1, sizeof *mqtt);
    CHECK(mqtt != NULL);
    mqtt->options = *options;
    mqtt->events = events;
    mqtt->owner = owner;
    mqtt->loop = loop;
    mqtt->backoff_ms = BACKOFF_MS;
    const int rc = mqtt_make_client(mqtt); /* once, to hear now what is wrong with the options */
    mosquitto_destroy(mqtt->client);
    mqtt->client = NULL;
    if (rc != MOSQ_ERR_SUCCESS) {
        snprintf(reason, 256, "%s: client id \"%s\", certificates %s", mosquitto_strerror(rc),
                 options->client, options->authority == NULL ? "none" : options->authority);
        free(mqtt);
        return NULL;
    }
    CHECK(uv_timer_init(loop, &mqtt->tick) == 0);
    CHECK(uv_timer_init(loop, &mqtt->soon) == 0);
    mqtt_arm(mqtt);
    return mqtt;
}

void bus_mqtt_leave(struct bus_mqtt *mqtt)
{
    mqtt->leaving = true;
    if (mqtt->state == MQTT_UP) {
        (void)mosquitto_disconnect(mqtt->client);
    }
}

int bus_mqtt_publish(struct bus_mqtt *mqtt, uint64_t id, const char *topic, struct bytes payload)
{
    CHECK(!mqtt_listens(mqtt));
    if (mqtt->state != MQTT_UP || mqtt->why != NULL) {
        return -ENOTCONN;
    }
    CHECK(mqtt->flight_next - mqtt->flight_first < LIMIT_BUS_OUTGOING);
    mqtt_cork(mqtt, true); /* until the turn ends */
    struct mqtt_flight *flight = &mqtt->flights[mqtt->flight_next % LIMIT_BUS_OUTGOING];
    *flight = (struct mqtt_flight){.id = id};
    mqtt->flight_next++;
    mqtt->publishing = true;
    const int rc = mosquitto_publish(mqtt->client, &flight->mid, topic, (int)payload.size,
                                     payload.data, mqtt->options.qos, mqtt->options.retain);
    mqtt->publishing = false;
    if (rc == MOSQ_ERR_INVAL || rc == MOSQ_ERR_MALFORMED_UTF8 || rc == MOSQ_ERR_PAYLOAD_SIZE ||
        rc ==
            MOSQ_ERR_OVERSIZE_PACKET) { /* no broker ever takes it: it must not stand in the way */
        char value[LOGGER_VALUE_BYTES];
        logger_warn_limited("message_not_published", "broker=%s bytes=%zu topic=%s reason=%s",
                            mqtt->options.name, payload.size, logger_value(value, topic),
                            mosquitto_strerror(rc));
        flight->taken = true;
        uv_timer_start(&mqtt->soon, mqtt_on_soon, 0, 0);
        return 0;
    }
    if (rc != MOSQ_ERR_SUCCESS) {
        mqtt->flight_next--;
        mqtt_break(mqtt, mosquitto_strerror(rc));
        uv_timer_start(&mqtt->soon, mqtt_on_soon, 0, 0);
        return -EIO;
    }
    return 0;
}

struct bus_mqtt_report bus_mqtt_report(const struct bus_mqtt *mqtt)
{
    return mqtt->report;
}
