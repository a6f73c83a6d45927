/* write_load: config maps written at the API as fast as --flight of them are answered, and when a node has them.
 *
 *   1. --flight lanes, each with its share of the config maps, write one after the other: POST with --create, else
 *      PUT over and over; 429 and 503 are tried again as they ask for
 *   2. a config map says when its writing began ("serial", microseconds of CLOCK_MONOTONIC), for light edges
 *   3. with --control a thread asks that edgecore how far it is (edge_watch.h): the N-th answer is there when its
 *      position has grown by N, as the node uses every one of these config maps and answers of one replica come in
 *      the order of their changes
 *   4. one JSON object tells how long it took, and of each write from its beginning to its answer, and to that moment
 *
 * Lanes are connections, at most LIMIT_HTTP_CLIENT_LINKS to a client of ours. With --serve it is the other side that
 * this program plays: it answers every request with its own body at once, and what is measured against it is this
 * client and the TLS of both.
 *
 * What can fail: the arguments (exit code 2), a connection, an answer that is no success, or what is waited for does
 * not come within --within (1).
 */
#include "bench/edge_watch.h"
#include "nodes/config.h"
#include "nodes/net/http.h"
#include "nodes/options.h"
#include "schemas/check.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LANES_MAX   512 /* LIMIT_API_WRITES */
#define BODY_MAX    (64 * 1024)
#define DEADLINE_MS 60000u
#define TICK_MS     1u

static struct {
    const char *authority;
    const char *certificate;
    const char *key;
    const char *serve;
    const char *control;
    const char *name;
    struct options_list apis;
    int64_t count;
    int64_t keys;
    int64_t flight;
    int64_t body_bytes;
    int64_t pause_us;
    int64_t within_s;
    bool create;
} settings = {.control = "",
              .name = "map",
              .count = 1000,
              .keys = 1000,
              .flight = 1,
              .body_bytes = 256,
              .pause_us = 1000,
              .within_s = 600};

static const struct options_flag flags[] = {
    {"authority", 0, OPTIONS_TEXT, &settings.authority, "FILE",
     "that signed the API's certificate"},
    {"certificate", 0, OPTIONS_TEXT, &settings.certificate, "FILE", "who we are"},
    {"key", 0, OPTIONS_TEXT, &settings.key, "FILE", "and its private key"},
    {"api", 'a', OPTIONS_TEXTS, &settings.apis, "HOST:PORT",
     "api.listen of a cloudcore; repeated: lanes take turns"},
    {"name", 0, OPTIONS_TEXT, &settings.name, "NAME",
     "config maps are called NAME-0, NAME-1 ... [map]"},
    {"count", 'n', OPTIONS_NUMBER, &settings.count, "N", "writes [1000]"},
    {"keys", 'k', OPTIONS_NUMBER, &settings.keys, "N", "config maps [1000]"},
    {"create", 0, OPTIONS_FLAG, &settings.create, NULL, "make them, each once: --count is --keys"},
    {"flight", 'w', OPTIONS_NUMBER, &settings.flight, "N", "writes under way at once [1]"},
    {"body", 0, OPTIONS_NUMBER, &settings.body_bytes, "N", "bytes of text in each [256]"},
    {"control", 0, OPTIONS_TEXT, &settings.control, "PATH", "control socket of an edgecore"},
    {"pause", 0, OPTIONS_NUMBER, &settings.pause_us, "US",
     "microseconds between two looks at the edgecore [1000]"},
    {"within", 0, OPTIONS_NUMBER, &settings.within_s, "S", "seconds it may take altogether [600]"},
    {"serve", 0, OPTIONS_TEXT, &settings.serve, "HOST:PORT", "answer, until standard input ends"},
};

static const struct options_command command = {
    .name = "write_load",
    .about = "Config maps written at the API of a cloudcore, and when a node has them.",
    .flags = flags,
    .flags_count = sizeof flags / sizeof flags[0],
};

struct lane {
    struct http_client *client;
    int64_t next; /* the number of its next write: number % keys is the config map */
    uint64_t began_ns;
    uint64_t retry_ns; /* 0: not waiting */
    uint32_t status;   /* of the answer that is coming */
    bool busy;
};

static struct lane lanes[LANES_MAX];
static uv_loop_t loop;
static uv_timer_t timer;
static struct edge_watch watch;
static uint64_t base;
static uint64_t end_ns;
static uint64_t first_ns;
static uint64_t last_ns;
static uint64_t *began_ns;    /* of each write, in the order of the answers */
static uint64_t *answered_ns; /* of each write, from its beginning */
static int64_t answered;
static int64_t retried;
static char text[BODY_MAX + 1];

static int fail(const char *what, const char *reason)
{
    fprintf(stderr, "write_load: %s: %s\n", what, reason);
    exit(1);
}

/* -- writing --------------------------------------------------------------------------------------------- */

static void lane_write(struct lane *lane);

static void on_head(struct http_call *call, const struct http_response *response, void *owner)
{
    (void)call;
    struct lane *lane = owner;
    lane->status = response->status;
}

static void on_end(struct http_call *call, int status, const char *reason, void *owner)
{
    (void)call;
    struct lane *lane = owner;
    const uint64_t now = edge_watch_now();
    lane->busy = false;
    if (status != 0) {
        fail("a write was not answered", reason);
    }
    if (lane->status == 429 || lane->status == 503) {
        retried++;
        lane->retry_ns = now + 50 * UINT64_C(1000000);
        return;
    }
    if (lane->status != 200 && lane->status != 201 && !(settings.create && lane->status == 409)) {
        char words[64];
        (void)snprintf(words, sizeof words, "status %u", lane->status);
        fail("a write was refused", words);
    }
    began_ns[answered] = lane->began_ns;
    answered_ns[answered++] = now - lane->began_ns;
    last_ns = now;
    lane->next += settings.flight;
    lane_write(lane);
}

static const struct http_call_events call_events = {.on_head = on_head, .on_end = on_end};

/* The next one of this lane, if there is one. A write that is tried again began when it was first tried. */
static void lane_write(struct lane *lane)
{
    if (lane->next >= settings.count) {
        return;
    }
    if (lane->retry_ns == 0) {
        lane->began_ns = edge_watch_now();
        first_ns = first_ns == 0 ? lane->began_ns : first_ns;
    }
    lane->retry_ns = 0;
    static char body[BODY_MAX + 512];
    char target[400];
    const int64_t number = lane->next % settings.keys;
    (void)snprintf(target, sizeof target, "/api/v1/namespaces/default/configmaps%s",
                   settings.create ? "" : "/");
    if (!settings.create) {
        (void)snprintf(target + strlen(target), sizeof target - strlen(target), "%s-%" PRId64,
                       settings.name, number);
    }
    const int size = snprintf(
        body, sizeof body,
        "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"%s-%" PRId64
        "\"},\"data\":{\"serial\":\"%" PRIu64 "\",\"text\":\"%s\"}}",
        settings.name, number, lane->began_ns / 1000, text);
    const struct http_header header = {.name = "Content-Type", .value = "application/json"};
    const struct http_call_request request = {
        .method = settings.create ? "POST" : "PUT",
        .target = target,
        .headers = &header,
        .headers_count = 1,
        .body = bytes_of(body, (size_t)size),
        .deadline_ms = DEADLINE_MS,
    };
    const int status = http_call_start(lane->client, &request, &call_events, lane, NULL);
    if (status == STATUS_FULL) { /* a connection that ends still has its place */
        lane->retry_ns = edge_watch_now() + UINT64_C(1000000);
        return;
    }
    if (status != 0) {
        fail("a write cannot be sent", status_text(status));
    }
    lane->busy = true;
}

static bool at_the_edge(void)
{
    return settings.control[0] == '\0' ||
           (int64_t)(edge_watch_newest(&watch) - base) >= settings.count;
}

static void on_tick(uv_timer_t *handle)
{
    (void)handle;
    const uint64_t now = edge_watch_now();
    if (answered == settings.count && at_the_edge()) {
        uv_stop(&loop);
        return;
    }
    if (now > end_ns) {
        fprintf(stderr,
                "write_load: waited %" PRId64 " s for %" PRId64 " writes: %" PRId64
                " were answered%s\n",
                settings.within_s, settings.count, answered,
                answered == settings.count ? ", and not all are at the edge" : "");
        exit(1);
    }
    for (int64_t i = 0; i < settings.flight; i++) {
        if (!lanes[i].busy && lanes[i].retry_ns != 0 && now >= lanes[i].retry_ns) {
            lane_write(&lanes[i]);
        }
    }
}

static void open_lanes(struct link_context *context)
{
    static struct http_client *clients[LANES_MAX];
    const int64_t count = (settings.flight + LIMIT_HTTP_CLIENT_LINKS - 1) / LIMIT_HTTP_CLIENT_LINKS;
    const int64_t apis = (int64_t)settings.apis.count;
    const int64_t clients_count =
        count > apis && apis > 0 ? (count + apis - 1) / apis * apis : apis;
    for (int64_t i = 0; i < clients_count; i++) {
        char host[256];
        uint16_t port;
        if (config_parse_address(settings.apis.items[i % apis], host, &port) != 0 ||
            http_client_open(&loop, context, host, port, host, &clients[i]) != 0) {
            fail("no address", settings.apis.items[i % apis]);
        }
    }
    for (int64_t i = 0; i < settings.flight; i++) {
        lanes[i] = (struct lane){.client = clients[i % clients_count], .next = i};
    }
}

static void print(void)
{
    const size_t count = (size_t)settings.count;
    printf("{\"writes\":%zu,\"retried\":%" PRId64 ",\"began\":%.6f,\"seconds\":%.6f,\"rate\":%.1f",
           count, retried, (double)first_ns / 1e9, (double)(last_ns - first_ns) / 1e9,
           (double)count / ((double)(last_ns - first_ns) / 1e9));
    edge_watch_print_ns("answered", answered_ns, count);
    if (settings.control[0] != '\0') {
        size_t at = 0;
        uint64_t ended = 0;
        for (size_t i = 0; i < count; i++) {
            const uint64_t ns = edge_watch_when(&watch, base + i + 1, &at);
            CHECK(ns != 0);
            ended = ns;
            began_ns[i] = ns > began_ns[i] ? ns - began_ns[i] : 0;
        }
        printf(",\"there_seconds\":%.6f,\"there_rate\":%.1f", (double)(ended - first_ns) / 1e9,
               (double)count / ((double)(ended - first_ns) / 1e9));
        edge_watch_print_ns("there", began_ns, count);
    }
    printf("}\n");
}

static int run(struct link_context *context)
{
    memset(text, 'x', (size_t)settings.body_bytes);
    began_ns = calloc((size_t)settings.count, sizeof *began_ns);
    answered_ns = calloc((size_t)settings.count, sizeof *answered_ns);
    CHECK(began_ns != NULL && answered_ns != NULL);
    if (settings.control[0] != '\0' &&
        !edge_watch_begin(&watch, settings.control,
                          "\"downPosition\":", (uint64_t)settings.pause_us)) {
        return fail("no edgecore answers at", settings.control);
    }
    base = settings.control[0] == '\0' ? 0 : edge_watch_newest(&watch);
    end_ns = edge_watch_now() + (uint64_t)settings.within_s * 1000000000u;
    open_lanes(context);
    CHECK(uv_timer_init(&loop, &timer) == 0);
    CHECK(uv_timer_start(&timer, on_tick, TICK_MS, TICK_MS) == 0);
    for (int64_t i = 0; i < settings.flight; i++) {
        lane_write(&lanes[i]);
    }
    uv_run(&loop, UV_RUN_DEFAULT);
    if (settings.control[0] != '\0') {
        edge_watch_end(&watch);
    }
    print();
    return OPTIONS_EXIT_OK; /* connections end with the process */
}

/* -- answering ------------------------------------------------------------------------------------------- */

static void on_request(struct http_server *server, struct http_exchange *exchange, void *owner)
{
    (void)server;
    (void)owner;
    http_answer(exchange, 200, "application/json", http_exchange_request(exchange)->body);
}

static void on_allocate(uv_handle_t *handle, size_t size, uv_buf_t *out)
{
    static char bytes[256];
    (void)handle;
    (void)size;
    *out = uv_buf_init(bytes, sizeof bytes);
}

static void on_input(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer)
{
    (void)stream;
    (void)buffer;
    if (size < 0) {
        exit(0);
    }
}

static int serve(struct link_context *context)
{
    static uv_pipe_t pipe;
    static const struct http_server_events events = {.on_request = on_request};
    struct http_server *server = NULL;
    char host[256];
    uint16_t port;
    char reason[LINK_REASON_BYTES];
    if (config_parse_address(settings.serve, host, &port) != 0) {
        return fail("no address", settings.serve);
    }
    if (http_server_open(&loop, context, host, port, &events, NULL, &server, reason) != 0) {
        return fail("cannot listen", reason);
    }
    CHECK(uv_pipe_init(&loop, &pipe, 0) == 0);
    if (uv_pipe_open(&pipe, 0) != 0) {
        return fail("standard input", "must be a pipe");
    }
    CHECK(uv_read_start((uv_stream_t *)&pipe, on_allocate, on_input) == 0);
    printf("{\"serves\":%u}\n", http_server_port(server));
    (void)fflush(stdout);
    uv_run(&loop, UV_RUN_DEFAULT);
    return OPTIONS_EXIT_OK;
}

static bool settings_fit(void)
{
    if (settings.authority == NULL || settings.certificate == NULL || settings.key == NULL ||
        (settings.serve == NULL && settings.apis.count == 0) || settings.count < 1 ||
        settings.flight < 1 || settings.flight > LANES_MAX || settings.keys < settings.flight ||
        settings.body_bytes < 1 || settings.body_bytes > BODY_MAX || settings.pause_us < 1 ||
        settings.within_s < 1 || (settings.create && settings.count != settings.keys)) {
        fprintf(stderr,
                "write_load: see --help; the three files and --api are needed, --flight is 1 to %d "
                "and at most "
                "--keys, --body 1 to %d\n",
                LANES_MAX, BODY_MAX);
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
    if (!settings_fit()) {
        return OPTIONS_EXIT_USAGE;
    }
    const struct link_files files = {settings.authority, settings.certificate, settings.key};
    struct link_context *context = NULL;
    char reason[LINK_REASON_BYTES];
    if (link_context_open(settings.serve != NULL ? LINK_LISTEN_REQUEST : LINK_DIAL, &files,
                          &context, reason) != 0) {
        return fail("certificate", reason);
    }
    CHECK(uv_loop_init(&loop) == 0);
    return settings.serve != NULL ? serve(context) : run(context);
}
