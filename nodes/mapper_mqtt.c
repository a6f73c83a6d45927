/* A mapper without hardware: N thermometers of one model, on MQTT.
 *
 * Each has a temperature, which it reports, and a target, which the cloud (or anybody else) wishes; the temperature
 * moves towards the target by one at every report. It says online and asks what was wished while it was away, when it
 * comes and when its device does; it says offline when it ends, and has the broker say so when it ends otherwise (a
 * client has one last will: of several devices there is none). It goes on when the broker goes and comes back. What
 * it says is at most --window ahead of what the broker has acknowledged, and nothing is left behind at the end. It
 * is an example for authors of mappers, the device of
 * `nodes/quickstart --demo`, and the load of tests and benches: with --updates it publishes so many reports, as fast
 * as the broker acknowledges them, and says how long that took.
 *
 * source: KubeEdge's device topics (docs/proposals/device-crd.md, edge/pkg/devicetwin); mosquitto.h
 */
#include "nodes/logger.h"
#include "nodes/options.h"
#include "schemas/check.h"
#include "schemas/limits.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <mosquitto.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAPPER_DEVICES_MAX 100000
#define MAPPER_WINDOW_MAX  20000
#define MAPPER_RETRY_MS    1000  /* between two attempts to reach the broker */
#define MAPPER_END_MS      5000  /* for the broker to acknowledge the last of it */
#define MAPPER_TARGET      20    /* until somebody wishes another */
#define MAPPER_COUNT_MAX   10000 /* a temperature of the model in nodes/runtime */

/* -- what it is asked for -------------------------------------------------------------------------- */

static struct {
    const char *broker;
    const char *space;
    const char *name;
    const char *node;
    const char *user;
    const char *password_file;
    int64_t devices;
    int64_t every_ms;
    int64_t updates;
    int64_t window;
    bool plain;
    bool quiet;
} settings = {.broker = "127.0.0.1:1883",
              .space = "default",
              .name = "thermometer",
              .devices = 1,
              .every_ms = 1000,
              .window = 1000};

static const struct options_flag flags[] = {
    {"broker", 'b', OPTIONS_TEXT, &settings.broker, "HOST:PORT",
     "where the broker is [127.0.0.1:1883]"},
    {"namespace", 'n', OPTIONS_TEXT, &settings.space, "NAME", "of the devices [default]"},
    {"name", 0, OPTIONS_TEXT, &settings.name, "NAME",
     "of the device; NAME-0, NAME-1 ... when there are several [thermometer]"},
    {"devices", 'd', OPTIONS_NUMBER, &settings.devices, "N", "how many devices [1]"},
    {"every", 'e', OPTIONS_NUMBER, &settings.every_ms, "MS",
     "between two reports of a device [1000]"},
    {"updates", 'u', OPTIONS_NUMBER, &settings.updates, "N",
     "publish so many reports without a pause, over all devices in turn, 1, 2, 3 ... of each, and "
     "end"},
    {"window", 'w', OPTIONS_NUMBER, &settings.window, "N",
     "so many messages may be unacknowledged [1000]"},
    {"plain", 0, OPTIONS_FLAG, &settings.plain, NULL,
     "topics as before KubeEdge 1.17, without the namespace"},
    {"node", 0, OPTIONS_TEXT, &settings.node, "NAME",
     "listen only to which devices come to and leave this node [any]"},
    {"username", 0, OPTIONS_TEXT, &settings.user, "NAME", "for the broker"},
    {"password-file", 0, OPTIONS_TEXT, &settings.password_file, "FILE",
     "its first line is the password"},
    {"quiet", 'q', OPTIONS_FLAG, &settings.quiet, NULL,
     "do not subscribe to answers; tell the end only"},
};

static void print_more(FILE *stream)
{
    (void)fprintf(stream,
                  "A line per event goes to standard output: mapper_connected, wish, rejected, "
                  "device_added,\n"
                  "device_removed, mapper_done. Ends in good order with Ctrl-C or SIGTERM,\n"
                  "at once with a second one.\n"
                  "Exit codes: 0 done, 1 the broker refuses us, 2 usage.\n");
}

static const struct options_command command = {
    .name = "mapper",
    .about = "A mapper without hardware: thermometers on MQTT that report a temperature and obey a "
             "target.",
    .flags = flags,
    .flags_count = sizeof flags / sizeof flags[0],
    .print_more = print_more,
};

/* -- the devices ------------------------------------------------------------------------------------- */

struct device {
    int temperature;
    int target;
    bool target_new; /* to be reported */
    uint8_t to_say;  /* of: online, twin/get */
};

static struct device *devices;
static volatile sig_atomic_t ended;
static bool connected;
static bool refused;
static int64_t published; /* reports */
static int64_t in_flight;
static int64_t to_say; /* of all devices */
static int64_t say_at; /* the device whose turn it is */

static int64_t clock_ms(clockid_t clock)
{
    struct timespec now;
    CHECK(clock_gettime(clock, &now) == 0);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void on_signal(int number)
{
    (void)number;
    ended++;
}

static void device_name(int64_t device, char out[LIMIT_NAME_BYTES + 1])
{
    if (settings.devices == 1) {
        (void)snprintf(out, LIMIT_NAME_BYTES + 1, "%s", settings.name);
    } else {
        (void)snprintf(out, LIMIT_NAME_BYTES + 1, "%s-%" PRId64, settings.name, device);
    }
}

/* Which of ours a name is, or -1. */
static int64_t device_of(const char *name)
{
    char ours[LIMIT_NAME_BYTES + 1];
    const char *dash = strrchr(name, '-');
    const int64_t device = settings.devices == 1 || dash == NULL ? 0 : strtoll(dash + 1, NULL, 10);
    if (device < 0 || device >= settings.devices) {
        return -1;
    }
    device_name(device, ours);
    return strcmp(ours, name) == 0 ? device : -1;
}

#define TOPIC_BYTES (2 * LIMIT_NAME_BYTES + 64)

/* device "+": of all. */
static void topic_of(const char *device, const char *rest, char out[TOPIC_BYTES])
{
    if (settings.plain) {
        (void)snprintf(out, TOPIC_BYTES, "$hw/events/device/%s/%s", device, rest);
    } else {
        (void)snprintf(out, TOPIC_BYTES, "$hw/events/device/%s/%s/%s", settings.space, device,
                       rest);
    }
}

static bool publish(struct mosquitto *client, int64_t device, const char *rest, const char *payload)
{
    char name[LIMIT_NAME_BYTES + 1];
    char topic[TOPIC_BYTES];
    device_name(device, name);
    topic_of(name, rest, topic);
    if (mosquitto_publish(client, NULL, topic, (int)strlen(payload), payload, 1, false) !=
        MOSQ_ERR_SUCCESS) {
        return false;
    }
    in_flight++;
    return true;
}

#define ONLINE  "{\"event_id\":\"\",\"timestamp\":0,\"state\":\"online\"}"
#define OFFLINE "{\"event_id\":\"\",\"timestamp\":0,\"state\":\"offline\"}"

/* The device has to say that it is there, and to ask. */
static void say_all(int64_t device)
{
    to_say += 2 - devices[device].to_say;
    devices[device].to_say = 2;
}

/* As much of that as the window lets. Answers whether it is all said. */
static bool say(struct mosquitto *client)
{
    while (to_say > 0 && in_flight < settings.window) {
        struct device *d = &devices[say_at];
        if (d->to_say == 0) {
            say_at = (say_at + 1) % settings.devices;
            continue;
        }
        if (!publish(client, say_at, d->to_say == 2 ? "state/update" : "twin/get",
                     d->to_say == 2 ? ONLINE : "{\"event_id\":\"\",\"timestamp\":0}")) {
            break;
        }
        d->to_say--;
        to_say--;
    }
    return to_say == 0;
}

/* What the device measured, and its target when that is new. */
static bool report(struct mosquitto *client, int64_t device)
{
    struct device *d = &devices[device];
    char payload[400];
    char target[160] = "";
    const int64_t now = clock_ms(CLOCK_REALTIME);
    d->temperature += d->temperature < d->target ? 1 : d->temperature > d->target ? -1 : 0;
    if (d->target_new) {
        (void)snprintf(
            target, sizeof target,
            ",\"target\":{\"actual\":{\"value\":\"%d\",\"metadata\":{\"timestamp\":%" PRId64
            "}},\"metadata\":{\"type\":\"int\"}}",
            d->target, now);
    }
    (void)snprintf(
        payload, sizeof payload,
        "{\"event_id\":\"\",\"timestamp\":%" PRId64 ",\"twin\":{\"temperature\":{\"actual\":{"
        "\"value\":\"%d\",\"metadata\":{\"timestamp\":%" PRId64 "}},\"metadata\":{\"type\":"
        "\"int\"}}%s}}",
        now, d->temperature, now, target);
    if (!publish(client, device, "twin/update", payload)) {
        return false;
    }
    d->target_new = false;
    published++;
    return true;
}

/* -- what the broker brings ------------------------------------------------------------------------- */

static void wish(int64_t device, const char *name, const char *value)
{
    char *end;
    errno = 0;
    const long target = strtol(value, &end, 10);
    if (errno != 0 || end == value || *end != '\0' || target < -273 || target > 10000) {
        logger_warn("wish_refused", "device=%s property=target value=%s reason=no temperature",
                    name, value);
        return;
    }
    struct device *d = &devices[device];
    if (d->target != target) {
        logger_info("wish", "device=%s property=target value=%ld", name, target);
    }
    d->target = (int)target;
    d->target_new = true;
}

/* twin/update/delta has {"delta":{"target":"25"}}, twin/get/result
 * {"twin":{"target":{"expected":{"value":"25"},"actual":{...}}}}. */
static void wishes_read(int64_t device, const char *name, const json_t *message)
{
    const json_t *value = json_object_get(json_object_get(message, "delta"), "target");
    if (value == NULL) {
        const json_t *twin = json_object_get(json_object_get(message, "twin"), "target");
        value = json_object_get(json_object_get(twin, "expected"), "value");
    }
    if (json_is_string(value)) {
        wish(device, name, json_string_value(value));
    }
}

/* A device that comes was not known when it said online. Its id is NAME, or NAMESPACE/NAME. */
static void member_added(const char *id)
{
    const char *slash = strchr(id, '/');
    const size_t size = slash == NULL ? 0 : (size_t)(slash - id);
    const int64_t device = device_of(slash == NULL ? id : slash + 1);
    if (device >= 0 && (slash == NULL || (strlen(settings.space) == size &&
                                          strncmp(settings.space, id, size) == 0))) {
        say_all(device);
    }
}

static void members_read(const json_t *message)
{
    static const char *const keys[] = {"added_devices", "removed_devices"};
    static const char *const events[] = {"device_added", "device_removed"};
    for (size_t i = 0; i < 2; i++) {
        size_t at;
        const json_t *device;
        json_array_foreach(json_object_get(message, keys[i]), at, device)
        {
            const char *id = json_string_value(json_object_get(device, "id"));
            logger_info(events[i], "device=%s", id == NULL ? "" : id);
            if (i == 0 && id != NULL) {
                member_added(id);
            }
        }
    }
}

static void on_message(struct mosquitto *client, void *context,
                       const struct mosquitto_message *message)
{
    (void)client;
    (void)context;
    char name[LIMIT_NAME_BYTES + 1] = "";
    json_t *json = json_loadb(message->payload, (size_t)message->payloadlen, 0, NULL);
    if (strncmp(message->topic, "$hw/events/node/", 16) == 0) {
        members_read(json);
    } else if (sscanf(message->topic,
                      settings.plain ? "$hw/events/device/%253[^/]/"
                                     : "$hw/events/device/%*[^/]/%253[^/]/",
                      name) == 1) {
        const int64_t device = device_of(name);
        const json_t *code = json_object_get(json, "code");
        if (device >= 0 && json_is_integer(code)) {
            const char *reason = json_string_value(json_object_get(json, "reason"));
            logger_warn("rejected", "device=%s code=%" PRId64 " reason=%s", name,
                        (int64_t)json_integer_value(code), reason == NULL ? "" : reason);
        } else if (device >= 0 && json != NULL) {
            wishes_read(device, name, json);
        }
    }
    json_decref(json);
}

static void on_publish(struct mosquitto *client, void *context, int id)
{
    (void)client;
    (void)context;
    (void)id;
    in_flight--;
}

static void subscribe(struct mosquitto *client)
{
    static const char *const rests[] = {"twin/update/delta", "twin/update/result",
                                        "twin/get/result"};
    char topic[TOPIC_BYTES];
    for (size_t i = 0; i < sizeof rests / sizeof rests[0]; i++) {
        topic_of("+", rests[i], topic);
        (void)mosquitto_subscribe(client, NULL, topic, 1);
    }
    (void)snprintf(topic, sizeof topic, "$hw/events/node/%s/membership/updated",
                   settings.node == NULL ? "+" : settings.node);
    (void)mosquitto_subscribe(client, NULL, topic, 1);
}

static void on_connect(struct mosquitto *client, void *context, int code)
{
    (void)context;
    if (code != 0) {
        logger_error("mapper_refused", "broker=%s reason=%s", settings.broker,
                     mosquitto_connack_string(code));
        refused = true;
        return;
    }
    connected = true;
    logger_info("mapper_connected", "broker=%s devices=%" PRId64, settings.broker,
                settings.devices);
    if (settings.quiet) {
        return;
    }
    subscribe(client);
    for (int64_t i = 0; i < settings.devices; i++) {
        say_all(i);
    }
}

static void on_disconnect(struct mosquitto *client, void *context, int code)
{
    (void)client;
    (void)context;
    connected = false;
    if (code != 0) {
        logger_warn("mapper_disconnected", "broker=%s reason=%s", settings.broker,
                    mosquitto_strerror(code));
    }
}

/* -- life ---------------------------------------------------------------------------------------------- */

/* Whoever has an unacknowledged report keeps it over a reconnect: libmosquitto publishes it again. */
static struct mosquitto *client_create(void)
{
    struct mosquitto *client = mosquitto_new(NULL, true, NULL);
    CHECK(client != NULL);
    char password[256] = "";
    if (settings.password_file != NULL) {
        FILE *file = fopen(settings.password_file, "re");
        if (file == NULL || fgets(password, sizeof password, file) == NULL) {
            (void)fprintf(stderr, "mapper: cannot read a password from %s\n",
                          settings.password_file);
            exit(OPTIONS_EXIT_USAGE);
        }
        (void)fclose(file);
        password[strcspn(password, "\r\n")] = '\0';
    }
    if (settings.user != NULL) {
        (void)mosquitto_username_pw_set(client, settings.user,
                                        password[0] == '\0' ? NULL : password);
    }
    if (settings.devices == 1 && !settings.quiet) {
        char topic[TOPIC_BYTES];
        topic_of(settings.name, "state/update", topic);
        CHECK(mosquitto_will_set(client, topic, (int)strlen(OFFLINE), OFFLINE, 1, false) ==
              MOSQ_ERR_SUCCESS);
    }
    (void)mosquitto_max_inflight_messages_set(client, (unsigned)settings.window);
    mosquitto_connect_callback_set(client, on_connect);
    mosquitto_disconnect_callback_set(client, on_disconnect);
    mosquitto_message_callback_set(client, on_message);
    mosquitto_publish_callback_set(client, on_publish);
    return client;
}

static bool broker_parse(char out_host[256], int *out_port)
{
    const char *colon = strrchr(settings.broker, ':');
    const size_t size = colon == NULL ? strlen(settings.broker) : (size_t)(colon - settings.broker);
    *out_port = colon == NULL ? 1883 : atoi(colon + 1);
    if (size == 0 || size >= 256 || *out_port <= 0 || *out_port > 65535) {
        return false;
    }
    memcpy(out_host, settings.broker, size);
    out_host[size] = '\0';
    return true;
}

/* Without a pause: as much as the window lets. The temperature counts the reports of its device, so that
 * whoever waits knows the last one. */
static void burst(struct mosquitto *client)
{
    while (published < settings.updates && in_flight < settings.window) {
        const int64_t i = published % settings.devices;
        const int count = (int)(published / settings.devices % MAPPER_COUNT_MAX) + 1;
        devices[i].temperature = count;
        devices[i].target = count;
        devices[i].target_new = false;
        if (!report(client, i)) {
            break;
        }
    }
}

/* One report of each device every so often. */
static void pace(struct mosquitto *client, int64_t *next_ms)
{
    const int64_t now = clock_ms(CLOCK_MONOTONIC);
    if (now < *next_ms) {
        return;
    }
    *next_ms = now + settings.every_ms;
    for (int64_t i = 0; i < settings.devices && in_flight < settings.window; i++) {
        (void)report(client, i);
    }
}

/* Say offline for every device, and wait until the broker has acknowledged all there is, or a second signal. */
static void leave(struct mosquitto *client)
{
    const int64_t until_ms = clock_ms(CLOCK_MONOTONIC) + MAPPER_END_MS;
    int64_t next = settings.quiet ? settings.devices : 0;
    while (connected && ended < 2 && (next < settings.devices || in_flight > 0) &&
           clock_ms(CLOCK_MONOTONIC) < until_ms) {
        while (next < settings.devices && in_flight < settings.window &&
               publish(client, next, "state/update", OFFLINE)) {
            next++;
        }
        (void)mosquitto_loop(client, 50, 1);
    }
}

static int run(struct mosquitto *client, const char *host, int port)
{
    int64_t next_ms = 0;
    int64_t retry_ms = 0;
    int64_t began_ms = 0;
    bool told = false;
    int status = mosquitto_connect(client, host, port, 30);
    while (!ended && !refused &&
           (settings.updates == 0 || published < settings.updates || in_flight > 0)) {
        if (status != MOSQ_ERR_SUCCESS) {
            if (!told) {
                logger_warn("broker_unreachable", "broker=%s reason=%s", settings.broker,
                            status == MOSQ_ERR_ERRNO ? strerror(errno)
                                                     : mosquitto_strerror(status));
                told = true;
            }
            const int64_t now = clock_ms(CLOCK_MONOTONIC);
            if (now >= retry_ms) {
                retry_ms = now + MAPPER_RETRY_MS;
                status = mosquitto_reconnect(client);
                continue;
            }
            (void)nanosleep(&(struct timespec){.tv_nsec = 50 * 1000000}, NULL);
            continue;
        }
        status = mosquitto_loop(client, settings.updates != 0 ? 10 : 50, 1);
        if (!connected) {
            continue;
        }
        told = false;
        began_ms = began_ms == 0 ? clock_ms(CLOCK_MONOTONIC) : began_ms;
        if (!say(client)) {
            continue;
        }
        if (settings.updates != 0) {
            burst(client);
        } else {
            pace(client, &next_ms);
        }
    }
    const int64_t took_ms = clock_ms(CLOCK_MONOTONIC) - began_ms;
    leave(client);
    logger_info("mapper_done", "reports=%" PRId64 " unacknowledged=%" PRId64 " took_ms=%" PRId64,
                published, in_flight, began_ms == 0 ? 0 : took_ms);
    (void)mosquitto_disconnect(client);
    (void)mosquitto_loop(client, 50, 1);
    return refused ? OPTIONS_EXIT_NOTHING : OPTIONS_EXIT_OK;
}

int main(int argc, char **argv)
{
    struct options_list arguments;
    const enum options_answer answer = options_parse(&command, argc, argv, &arguments);
    if (answer != OPTIONS_RUN) {
        return answer == OPTIONS_DONE ? OPTIONS_EXIT_OK : OPTIONS_EXIT_USAGE;
    }
    char host[256];
    int port;
    if (!broker_parse(host, &port) || settings.devices < 1 ||
        settings.devices > MAPPER_DEVICES_MAX || settings.every_ms < 1 || settings.updates < 0 ||
        settings.window < 1 || settings.window > MAPPER_WINDOW_MAX) {
        (void)fprintf(stderr,
                      "mapper: --broker is HOST:PORT, --devices 1 to %d, --every at least 1, "
                      "--window 1 to %d\n",
                      MAPPER_DEVICES_MAX, MAPPER_WINDOW_MAX);
        return OPTIONS_EXIT_USAGE;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    logger_set(LOGGER_INFO, LOGGER_TEXT, stdout);
    (void)signal(SIGINT, on_signal);
    (void)signal(SIGTERM, on_signal);
    (void)signal(SIGPIPE, SIG_IGN);

    devices = calloc((size_t)settings.devices, sizeof *devices);
    CHECK(devices != NULL);
    for (int64_t i = 0; i < settings.devices; i++) {
        devices[i] = (struct device){.temperature = MAPPER_TARGET, .target = MAPPER_TARGET};
    }
    CHECK(mosquitto_lib_init() == MOSQ_ERR_SUCCESS);
    struct mosquitto *client = client_create();
    const int code = run(client, host, port);
    mosquitto_destroy(client);
    (void)mosquitto_lib_cleanup();
    free(devices);
    return code;
}
