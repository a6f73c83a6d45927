/* report_load: facts of an edge, said by MQTT, until the edge has recorded them or the cloud has them.
 *
 *   1. a report is published, QoS 1, as long as fewer than --flight of them are on their way
 *   2. a thread asks the edgecore how far it is (edge_watch.h); report N is there when its number has grown by N
 *   3. one JSON object tells how long it took, and of each report from publishing to that moment
 *
 * Of --kind twin each report has an event id, so that edgecore gathers nothing and each is a record of its own; a
 * newer fact about a device takes the place of one that is not shipped yet, so with --until committed there must be
 * more devices than --flight. Of --kind message each is an event, which is never replaced.
 * With --until echo no edgecore is asked: the client is the subscriber, too, and what is measured is the broker and
 * this client.
 *
 * What can fail: the arguments (exit code 2), the broker, or what is waited for does not come within --within (1).
 */
#include "bench/edge_watch.h"
#include "nodes/options.h"
#include "schemas/check.h"
#include "schemas/limits.h"

#include <inttypes.h>
#include <mosquitto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define IDLE_US       200u
#define FLIGHT_MAX    20000
#define MESSAGE_TOPIC "$hw/events/upload/report_load"

static struct {
    const char *broker;
    const char *control;
    const char *kind;
    const char *until;
    const char *name;
    int64_t count;
    int64_t devices;
    int64_t flight;
    int64_t pause_us;
    int64_t within_s;
} settings = {.broker = "127.0.0.1:1883",
              .control = "",
              .kind = "twin",
              .until = "committed",
              .name = "device",
              .count = 1000,
              .devices = 1,
              .flight = 1,
              .pause_us = 1000,
              .within_s = 600};

static const struct options_flag flags[] = {
    {"broker", 'b', OPTIONS_TEXT, &settings.broker, "HOST:PORT", "[127.0.0.1:1883]"},
    {"control", 0, OPTIONS_TEXT, &settings.control, "PATH", "control socket of the edgecore"},
    {"kind", 0, OPTIONS_TEXT, &settings.kind, "twin|message", "[twin]"},
    {"until", 0, OPTIONS_TEXT, &settings.until, "committed|recorded|echo",
     "the cloud has acknowledged it, the edge has applied it, the broker has brought it back "
     "[committed]"},
    {"name", 0, OPTIONS_TEXT, &settings.name, "NAME",
     "devices are called NAME-0, NAME-1 ... in namespace default [device]"},
    {"count", 'n', OPTIONS_NUMBER, &settings.count, "N", "reports [1000]"},
    {"devices", 'd', OPTIONS_NUMBER, &settings.devices, "N", "that report in turn [1]"},
    {"flight", 'w', OPTIONS_NUMBER, &settings.flight, "N", "reports on their way at once [1]"},
    {"pause", 0, OPTIONS_NUMBER, &settings.pause_us, "US",
     "microseconds between two looks at the edgecore [1000]"},
    {"within", 0, OPTIONS_NUMBER, &settings.within_s, "S", "seconds it may take altogether [600]"},
};

static const struct options_command command = {
    .name = "report_load",
    .about =
        "Facts of an edge, said by MQTT, until the edge has recorded them or the cloud has them.",
    .flags = flags,
    .flags_count = sizeof flags / sizeof flags[0],
};

static struct edge_watch watch;
static uint64_t base;      /* the edgecore's number before the first report */
static uint64_t *said_ns;  /* of each report */
static uint64_t *there_ns; /* the same, with --until echo */
static int64_t said;
static int64_t echoed;
static bool echo;
static bool ready; /* connected, and subscribed when that is needed */

static int64_t there(void)
{
    return echo ? echoed : (int64_t)(edge_watch_newest(&watch) - base);
}

static void on_connect(struct mosquitto *client, void *context, int code)
{
    (void)context;
    if (code != 0) {
        fprintf(stderr, "report_load: %s refuses us: %s\n", settings.broker,
                mosquitto_connack_string(code));
        exit(1);
    }
    if (echo) {
        CHECK(mosquitto_subscribe(client, NULL, "$hw/events/#", 1) == MOSQ_ERR_SUCCESS);
    } else {
        ready = true;
    }
}

static void on_subscribe(struct mosquitto *client, void *context, int id, int count,
                         const int *granted)
{
    (void)client;
    (void)context;
    (void)id;
    (void)count;
    (void)granted;
    ready = true;
}

static void on_message(struct mosquitto *client, void *context,
                       const struct mosquitto_message *message)
{
    (void)client;
    (void)context;
    (void)message;
    if (echoed < settings.count) {
        there_ns[echoed++] = edge_watch_now();
    }
}

static bool report(struct mosquitto *client)
{
    char topic[LIMIT_BUS_TOPIC_BYTES];
    char payload[400];
    int size;
    if (strcmp(settings.kind, "message") == 0) {
        (void)snprintf(topic, sizeof topic, MESSAGE_TOPIC);
        size = snprintf(payload, sizeof payload, "{\"number\":%12" PRId64 ",\"pad\":\"%090d\"}",
                        said, 0);
    } else {
        (void)snprintf(topic, sizeof topic, "$hw/events/device/default/%s-%" PRId64 "/twin/update",
                       settings.name, said % settings.devices);
        size = snprintf(payload, sizeof payload,
                        "{\"event_id\":\"r%" PRId64 "\",\"timestamp\":0,\"twin\":{\"temperature\":{"
                        "\"actual\":{\"value\":\"%" PRId64 "\"},\"metadata\":{\"type\":\"int\"}}}}",
                        said, said);
    }
    const uint64_t now = edge_watch_now();
    if (mosquitto_publish(client, NULL, topic, size, payload, 1, false) != MOSQ_ERR_SUCCESS) {
        return false;
    }
    said_ns[said++] = now;
    return true;
}

static void pause_shortly(void)
{
    (void)nanosleep(&(struct timespec){.tv_nsec = IDLE_US * 1000}, NULL);
}

/* All reports, and what becomes of them. */
static void run(struct mosquitto *client)
{
    const uint64_t end_ns = edge_watch_now() + (uint64_t)settings.within_s * 1000000000u;
    while (!ready || there() < settings.count) {
        if (edge_watch_now() > end_ns) {
            fprintf(stderr,
                    "report_load: waited %" PRId64 " s for %" PRId64 " reports to be %s: %" PRId64
                    " were said, %" PRId64 " are\n",
                    settings.within_s, settings.count, settings.until, said, there());
            exit(1);
        }
        bool moved = false;
        for (int i = 0; ready && i < 256 && said < settings.count &&
                        said - there() < settings.flight && report(client);
             i++) {
            moved = true;
        }
        const int status = mosquitto_loop(client, echo && !moved ? 1 : 0, 1);
        if (status != MOSQ_ERR_SUCCESS) {
            fprintf(stderr, "report_load: lost %s: %s\n", settings.broker,
                    mosquitto_strerror(status));
            exit(1);
        }
        if (!moved && !echo) {
            pause_shortly();
        }
    }
}

static void print(void)
{
    const size_t count = (size_t)settings.count;
    uint64_t ended = 0;
    size_t at = 0;
    const uint64_t began = said_ns[0];
    for (size_t i = 0; i < count; i++) {
        const uint64_t ns = echo ? there_ns[i] : edge_watch_when(&watch, base + i + 1, &at);
        CHECK(ns != 0);
        ended = ns > ended ? ns : ended;
        said_ns[i] = ns > said_ns[i] ? ns - said_ns[i] : 0;
    }
    printf("{\"records\":%zu,\"seconds\":%.6f,\"rate\":%.1f", count, (double)(ended - began) / 1e9,
           (double)count / ((double)(ended - began) / 1e9));
    edge_watch_print_ns("there", said_ns, count);
    printf("}\n");
}

static bool settings_fit(void)
{
    const bool twin = strcmp(settings.kind, "twin") == 0;
    const bool committed = strcmp(settings.until, "committed") == 0;
    echo = strcmp(settings.until, "echo") == 0;
    if ((!twin && strcmp(settings.kind, "message") != 0) ||
        (!committed && !echo && strcmp(settings.until, "recorded") != 0) ||
        (!echo && settings.control[0] == '\0') || settings.count < 1 || settings.devices < 1 ||
        settings.flight < 1 || settings.flight > FLIGHT_MAX || settings.pause_us < 1 ||
        settings.within_s < 1) {
        fprintf(stderr, "report_load: see --help; --control is needed, --flight is 1 to %d\n",
                FLIGHT_MAX);
        return false;
    }
    if (committed && settings.flight > (twin ? settings.devices : (int64_t)LIMIT_EDGE_EVENTS)) {
        fprintf(
            stderr,
            twin ? "report_load: with fewer --devices than --flight a fact replaces one that is "
                   "not shipped yet\n"
                 : "report_load: an edge keeps %u events that were not acknowledged: --flight is "
                   "more\n",
            LIMIT_EDGE_EVENTS);
        return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    struct options_list words;
    const enum options_answer answer = options_parse(&command, argc, argv, &words);
    if (answer != OPTIONS_RUN) {
        return answer == OPTIONS_DONE ? OPTIONS_EXIT_OK : OPTIONS_EXIT_USAGE;
    }
    char host[256];
    int port;
    if (!settings_fit() || sscanf(settings.broker, "%255[^:]:%d", host, &port) != 2) {
        return OPTIONS_EXIT_USAGE;
    }
    said_ns = calloc((size_t)settings.count, sizeof *said_ns);
    there_ns = calloc(echo ? (size_t)settings.count : 1, sizeof *there_ns);
    CHECK(said_ns != NULL && there_ns != NULL);
    const bool recorded = strcmp(settings.until, "recorded") == 0;
    if (!echo &&
        !edge_watch_begin(&watch, settings.control,
                          recorded ? "\"upLast\":" : "\"upAcked\":", (uint64_t)settings.pause_us)) {
        fprintf(stderr, "report_load: no edgecore answers at %s\n", settings.control);
        return OPTIONS_EXIT_NOTHING;
    }
    base = echo ? 0 : edge_watch_newest(&watch);

    CHECK(mosquitto_lib_init() == MOSQ_ERR_SUCCESS);
    struct mosquitto *client = mosquitto_new(NULL, true, NULL);
    CHECK(client != NULL);
    (void)mosquitto_max_inflight_messages_set(client, FLIGHT_MAX);
    /* Otherwise one small message waits for the acknowledgement of the one before, 40 ms of it. */
    CHECK(mosquitto_int_option(client, MOSQ_OPT_TCP_NODELAY, 1) == MOSQ_ERR_SUCCESS);
    mosquitto_connect_callback_set(client, on_connect);
    mosquitto_subscribe_callback_set(client, on_subscribe);
    mosquitto_message_callback_set(client, on_message);
    const int status = mosquitto_connect(client, host, port, 600);
    if (status != MOSQ_ERR_SUCCESS) {
        fprintf(stderr, "report_load: cannot reach %s: %s\n", settings.broker,
                mosquitto_strerror(status));
        return OPTIONS_EXIT_NOTHING;
    }
    run(client);
    if (!echo) {
        edge_watch_end(&watch);
    }
    print();
    edge_watch_free(&watch);
    mosquitto_destroy(client);
    (void)mosquitto_lib_cleanup();
    free(said_ns);
    free(there_ns);
    return OPTIONS_EXIT_OK;
}
