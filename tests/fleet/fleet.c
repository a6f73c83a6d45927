/* fleet: many light edges (light_edge.h) against real cloudcores, led by lines on standard input.
 *
 *     fleet --pki DIR --certs DIR --count N --cloud HOST:PORT ... [--first N] [--prefix NAME] [--timed]
 *
 *   1. a certificate for each edge, made once and kept in --certs; then a line {"prepared":N}
 *   2. each command is answered with one line of JSON, `dump` with one for each edge before it:
 *
 *      join RATE    connect, RATE a second; 0: all at once
 *      tell N       N more events of each edge
 *      mark         forget the times measured so far
 *      lags         with --timed: what new records took from their writing to here, since the mark
 *      report       what all edges add up to, and how long those that were welcomed since the mark had
 *                   waited for it
 *      dump         where each edge stands
 *      stop         say goodbye; they stay away
 *
 *   3. the end of standard input ends it
 *
 * What can fail: the arguments, a file, too few file descriptors: one line, exit code 1 or 2. A claim of an
 * edge that does not hold is counted and told in `report`.
 */
#include "tests/fleet/light_edge.h"

#include "nodes/config.h"
#include "nodes/net/identity_tls.h"
#include "nodes/options.h"
#include "schemas/check.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>

#define TICK_MS 10u

static struct light_fleet fleet;
static struct light_edge *edges;
static uint32_t edge_count;
static uint32_t joined;  /* edges from the first on that were told to */
static double join_rate; /* per millisecond; 0: nothing to do */
static double join_due;
static uint64_t mark_ms;

/* -- preparing ----------------------------------------------------------------------------------- */

static void make_certificate(const char *pki, const char *certificates, const char *name)
{
    char common_name[LIGHT_EDGE_NAME_BYTES + 16];
    snprintf(common_name, sizeof common_name, IDENTITY_NODE_PREFIX "%s", name);
    const char *group = IDENTITY_NODE_GROUP;
    const struct identity_request request = {
        .common_name = common_name,
        .groups = &group,
        .groups_count = 1,
        .client = true,
        .valid_from_s = time(NULL) - 3600,
        .valid_until_s = time(NULL) + 30 * 86400,
    };
    char reason[IDENTITY_REASON_BYTES];
    if (identity_issue(pki, &request, certificates, name, false, reason) < 0) {
        fprintf(stderr, "fleet: %s\n", reason);
        exit(1);
    }
}

static struct link_context *open_context(const char *certificates, const char *name)
{
    char authority[512];
    char certificate[512];
    char key[512];
    snprintf(authority, sizeof authority, "%s/ca.crt", certificates);
    snprintf(certificate, sizeof certificate, "%s/%s.crt", certificates, name);
    snprintf(key, sizeof key, "%s/%s.key", certificates, name);
    const struct link_files files = {authority, certificate, key};
    struct link_context *context = NULL;
    char reason[LINK_REASON_BYTES];
    if (link_context_open(LINK_DIAL, &files, &context, reason) != 0) {
        fprintf(stderr, "fleet: %s\n", reason);
        exit(1);
    }
    return context;
}

static void prepare(const char *pki, const char *certificates, const char *prefix, uint32_t first)
{
    edges = calloc(edge_count, sizeof *edges);
    CHECK(edges != NULL);
    for (uint32_t i = 0; i < edge_count; i++) {
        char name[LIGHT_EDGE_NAME_BYTES];
        snprintf(name, sizeof name, "%s-%u", prefix, first + i);
        make_certificate(pki, certificates, name);
        uint64_t seed;
        CHECK(getrandom(&seed, sizeof seed, 0) == (ssize_t)sizeof seed);
        light_edge_init(&edges[i], &fleet, open_context(certificates, name), name, seed);
    }
    printf("{\"prepared\":%u}\n", edge_count);
}

/* -- answers ------------------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a;
    const uint32_t y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void report(void)
{
    uint32_t *waits = malloc((edge_count + 1) * sizeof *waits);
    CHECK(waits != NULL);
    uint32_t count = 0;
    uint32_t waiting = 0;
    uint64_t told = 0;
    uint64_t applied = 0;
    uint64_t rows = 0;
    uint64_t silence_ms = fleet.silence_ms_max;
    uint64_t serial_low =
        UINT64_MAX; /* of the objects that count, of all edges; an edge without one has 0 */
    for (uint32_t i = 0; i < edge_count; i++) {
        const struct light_edge *edge = &edges[i];
        if (edge->active && edge->welcomed_ms >= mark_ms) {
            waits[count++] = edge->outage_ms;
        }
        waiting += edge->joined && !edge->active ? 1 : 0;
        told += edge->up_last;
        applied += edge->up_acked;
        rows += edge->rows.count;
        if (edge->active && uv_now(fleet.loop) - edge->heard_ms > silence_ms) {
            silence_ms = uv_now(fleet.loop) - edge->heard_ms;
        }
        const uint64_t serial = light_edge_serial(edge);
        serial_low = serial < serial_low ? serial : serial_low;
    }
    qsort(waits, count, sizeof *waits, compare);
    printf("{\"edges\":%u,\"active\":%u,\"waiting\":%u,\"joined\":%u,\"dials\":%" PRIu64
           ",\"dialsFailed\":%" PRIu64 ",\"byes\":%" PRIu64 ",\"welcomes\":%" PRIu64
           ",\"losses\":%" PRIu64 ",\"snapshots\":%" PRIu64 ",\"downRecords\":%" PRIu64
           ",\"downAgain\":%" PRIu64 ",\"told\":%" PRIu64 ",\"applied\":%" PRIu64
           ",\"rows\":%" PRIu64 ",\"serialLow\":%" PRIu64
           ",\"lastFailure\":\"%s\",\"lastBye\":\"%s\",\"wrong\":%" PRIu64
           ",\"firstWrong\":\"%s\",\"silenceMax\":%" PRIu64 ",\"welcomed\":%u,\"waitP50\":%u"
           ",\"waitP99\":%u,\"waitMax\":%u}\n",
           edge_count, fleet.active, waiting, joined, fleet.dials, fleet.dials_failed, fleet.byes,
           fleet.welcomes, fleet.losses, fleet.snapshots, fleet.down_records, fleet.down_again,
           told, applied, rows, serial_low, fleet.last_failure, fleet.last_bye, fleet.wrong,
           fleet.first_wrong, silence_ms, count, count == 0 ? 0 : waits[count / 2],
           count == 0 ? 0 : waits[(uint64_t)count * 99 / 100], count == 0 ? 0 : waits[count - 1]);
    free(waits);
}

static void lags(void)
{
    const uint32_t count = fleet.lag_count;
    if (count > 0) {
        qsort(fleet.lags_us, count, sizeof *fleet.lags_us, compare);
    }
    printf("{\"lags\":%u,\"newest\":%.6f,\"lagP50us\":%u,\"lagP99us\":%u,\"lagMaxus\":%u}\n", count,
           (double)fleet.lag_newest_us / 1e6, count == 0 ? 0 : fleet.lags_us[count / 2],
           count == 0 ? 0 : fleet.lags_us[(uint64_t)count * 99 / 100],
           count == 0 ? 0 : fleet.lags_us[count - 1]);
}

static void dump(const struct light_edge *edge)
{
    printf("{\"node\":\"%s\",\"active\":%s,\"address\":%u,\"epoch\":%" PRIu64 ",\"losses\":%u"
           ",\"downStream\":%" PRIu64 ",\"downPosition\":%" PRIu64 ",\"digest\":\"%016" PRIx64
           "%016" PRIx64 "\",\"upStream\":%" PRIu64 ",\"upLast\":%" PRIu64 ",\"upAcked\":%" PRIu64
           ",\"rows\":{",
           edge->name, edge->active ? "true" : "false", edge->address, edge->hub.epoch,
           edge->losses, edge->down_stream, edge->down_position, edge->rows.digest.high,
           edge->rows.digest.low, edge->up_stream, edge->up_last, edge->up_acked);
    for (uint32_t i = 0; i < edge->rows.count; i++) {
        const struct light_row *row = &edge->rows.items[i];
        printf("%s\"%s\":[%" PRIu64 ",%u]", i == 0 ? "" : ",", row->key, row->serial, row->puts);
    }
    printf("}}\n");
}

/* -- commands ------------------------------------------------------------------------------------ */

static void run_command(const char *line)
{
    char verb[16] = "";
    double number = 0;
    if (sscanf(line, "%15s %lf", verb, &number) < 1) {
        return;
    }
    if (strcmp(verb, "report") == 0) {
        report();
        return;
    }
    if (strcmp(verb, "lags") == 0) {
        lags();
        return;
    }
    if (strcmp(verb, "join") == 0) {
        join_rate = number == 0 ? edge_count : number / 1000;
    } else if (strcmp(verb, "tell") == 0) {
        for (uint32_t i = 0; i < edge_count; i++) {
            light_edge_tell(&edges[i], (uint32_t)number);
        }
    } else if (strcmp(verb, "mark") == 0) {
        mark_ms = uv_now(fleet.loop);
        fleet.lag_count = 0;
        fleet.silence_ms_max = 0;
    } else if (strcmp(verb, "dump") == 0) {
        for (uint32_t i = 0; i < edge_count; i++) {
            dump(&edges[i]);
        }
    } else if (strcmp(verb, "stop") == 0) {
        for (uint32_t i = 0; i < joined; i++) {
            light_edge_stop(&edges[i]);
        }
        joined = 0;
    } else {
        fprintf(stderr, "fleet: no command is called %s\n", verb);
        exit(2);
    }
    printf("{\"done\":\"%s\"}\n", verb);
}

static char input[4096];
static size_t input_size;

static void on_allocate(uv_handle_t *handle, size_t size, uv_buf_t *out)
{
    (void)handle;
    (void)size;
    *out = uv_buf_init(input + input_size, (unsigned)(sizeof input - input_size));
}

static void on_input(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer)
{
    (void)stream;
    (void)buffer;
    if (size < 0) {
        exit(0);
    }
    input_size += (size_t)size;
    char *end;
    while ((end = memchr(input, '\n', input_size)) != NULL) {
        *end = '\0';
        run_command(input);
        input_size -= (size_t)(end + 1 - input);
        memmove(input, end + 1, input_size);
    }
    fflush(stdout);
}

/* -- time ---------------------------------------------------------------------------------------- */

static void on_tick(uv_timer_t *timer)
{
    (void)timer;
    if (join_rate > 0) {
        for (join_due += join_rate * TICK_MS; join_due >= 1 && joined < edge_count; join_due--) {
            light_edge_join(&edges[joined++]);
        }
        join_rate = joined < edge_count ? join_rate : 0;
        join_due = joined < edge_count ? join_due : 0;
    }
    for (uint32_t i = 0; i < joined; i++) {
        light_edge_look(&edges[i]);
    }
}

static uv_idle_t more; /* the loop does not sleep while there is something to do */

static void on_more(uv_idle_t *idle)
{
    (void)idle;
}

static void on_turn(uv_prepare_t *turn)
{
    (void)turn;
    if (light_fleet_turn(&fleet)) {
        uv_idle_start(&more, on_more);
    } else {
        uv_idle_stop(&more);
    }
}

/* -- starting ------------------------------------------------------------------------------------ */

static void read_cloud(const struct options_list *texts, struct config_address *out)
{
    static char hosts[OPTIONS_LIST_MAX][256];
    for (size_t i = 0; i < texts->count; i++) {
        if (config_parse_address(texts->items[i], hosts[i], &out[i].port) != 0) {
            fprintf(stderr, "fleet: %s is not host:port\n", texts->items[i]);
            exit(2);
        }
        out[i].host = hosts[i];
    }
    fleet.cloud = out;
    fleet.cloud_count = (uint32_t)texts->count;
}

int main(int argc, char **argv)
{
    const char *pki = NULL;
    const char *certificates = NULL;
    const char *prefix = "light";
    int64_t first = 1;
    int64_t count = 0;
    struct options_list cloud = {0};
    struct options_list words;
    const struct options_flag flags[] = {
        {"pki", 0, OPTIONS_TEXT, &pki, "DIR", "the authority: ca.crt and ca.key"},
        {"certs", 0, OPTIONS_TEXT, &certificates, "DIR", "where the edges' certificates are kept"},
        {"prefix", 0, OPTIONS_TEXT, &prefix, "NAME", "nodes are called NAME-1, NAME-2 ... [light]"},
        {"first", 0, OPTIONS_NUMBER, &first, "N", "the number of the first one [1]"},
        {"count", 0, OPTIONS_NUMBER, &count, "N", "how many"},
        {"cloud", 0, OPTIONS_TEXTS, &cloud, "HOST:PORT", "a cloudcore's hub.listen; repeated"},
        {"timed", 0, OPTIONS_FLAG, &fleet.timed, NULL,
         "serials are the time of writing, in microseconds of CLOCK_MONOTONIC"},
    };
    const struct options_command command = {
        .name = "fleet",
        .about = "Many light edges in one process, for tests and benches.",
        .flags = flags,
        .flags_count = sizeof flags / sizeof *flags,
    };
    switch (options_parse(&command, argc, argv, &words)) {
    case OPTIONS_RUN:
        break;
    case OPTIONS_DONE:
        return 0;
    case OPTIONS_USAGE:
        return 2;
    }
    struct rlimit files;
    CHECK(getrlimit(RLIMIT_NOFILE, &files) == 0);
    files.rlim_cur = files.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &files);
    if (pki == NULL || certificates == NULL || cloud.count == 0 || count < 1 || first < 0 ||
        (uint64_t)count + 64 > files.rlim_cur) {
        fprintf(stderr,
                "fleet: --pki, --certs, --cloud and --count are needed, with fewer than %llu "
                "edges: a process may open that many files here\n",
                (unsigned long long)files.rlim_cur - 64);
        return 2;
    }

    static uv_loop_t loop;
    static struct config_address addresses[OPTIONS_LIST_MAX];
    static uv_pipe_t pipe;
    static uv_timer_t timer;
    static uv_prepare_t turn;
    CHECK(uv_loop_init(&loop) == 0);
    fleet.loop = &loop;
    fleet.read = codec_create();
    edge_count = (uint32_t)count;
    read_cloud(&cloud, addresses);
    prepare(pki, certificates, prefix, (uint32_t)first);
    fflush(stdout);
    CHECK(uv_pipe_init(&loop, &pipe, 0) == 0);
    if (uv_pipe_open(&pipe, 0) != 0) {
        fprintf(stderr, "fleet: standard input must be a pipe\n");
        return 2;
    }
    CHECK(uv_timer_init(&loop, &timer) == 0);
    CHECK(uv_prepare_init(&loop, &turn) == 0);
    CHECK(uv_idle_init(&loop, &more) == 0);
    CHECK(uv_read_start((uv_stream_t *)&pipe, on_allocate, on_input) == 0);
    CHECK(uv_timer_start(&timer, on_tick, TICK_MS, TICK_MS) == 0);
    CHECK(uv_prepare_start(&turn, on_turn) == 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    return 0;
}
