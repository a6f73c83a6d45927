#include "nodes/cloud/api_flow.h"

#include "schemas/check.h"

#include <stdio.h>
#include <string.h>

/* -- kinds of requests ------------------------------------------------------------------------- */

/* Does the URL name one object, not a collection? `at` is where its resource stands. */
static bool flow_is_named(const struct http_request *request, uint32_t at)
{
    const char *const *s = request->segments;
    if (request->segments_count > at + 2 && strcmp(s[at], "namespaces") == 0 &&
        strcmp(s[at + 2], "status") != 0 && strcmp(s[at + 2], "finalize") != 0) {
        at += 2;
    }
    return request->segments_count > at + 1;
}

enum api_verb api_flow_verb(const struct http_request *request)
{
    const char *const *s = request->segments;
    const uint32_t count = request->segments_count;
    const bool core = count > 2 && strcmp(s[0], "api") == 0;
    const bool group = count > 3 && strcmp(s[0], "apis") == 0;
    if (!core && !group) {
        return API_OTHER;
    }
    const bool named = flow_is_named(request, core ? 2 : 3);
    const char *method = request->method;
    if (strcmp(method, "GET") == 0) {
        const char *watch = http_request_find_parameter(request, "watch");
        const bool watches =
            watch != NULL && (strcmp(watch, "1") == 0 || watch[0] == 't' || watch[0] == 'T');
        return named ? API_GET : watches ? API_WATCH : API_LIST;
    }
    if (strcmp(method, "DELETE") == 0) {
        return named ? API_DELETE : API_DELETE_COLLECTION;
    }
    return strcmp(method, "POST") == 0    ? API_CREATE
           : strcmp(method, "PUT") == 0   ? API_UPDATE
           : strcmp(method, "PATCH") == 0 ? API_PATCH
                                          : API_OTHER;
}

/* Nodes and leases: what says that a node lives must not wait for what people do. */
static bool flow_is_vital(const struct http_request *request)
{
    const char *const *s = request->segments;
    const uint32_t count = request->segments_count;
    return (count > 2 && strcmp(s[0], "api") == 0 && strcmp(s[2], "nodes") == 0) ||
           (count > 1 && strcmp(s[0], "apis") == 0 && strcmp(s[1], "coordination.k8s.io") == 0);
}

enum api_level api_flow_level(const struct http_request *request, enum api_verb verb)
{
    switch (verb) {
    case API_LIST:
    case API_DELETE_COLLECTION:
        return API_LEVEL_LIST;
    case API_CREATE:
    case API_UPDATE:
    case API_PATCH:
    case API_DELETE:
        return flow_is_vital(request) ? API_LEVEL_SMALL : API_LEVEL_WRITE;
    case API_GET:
    case API_WATCH:
    case API_OTHER:
    case API_VERBS:
        break;
    }
    return API_LEVEL_SMALL;
}

const char *api_flow_level_text(enum api_level level)
{
    static const char *const texts[API_LEVELS] = {"small", "write", "list"};
    CHECK(level < API_LEVELS);
    return texts[level];
}

const char *api_flow_verb_text(enum api_verb verb)
{
    static const char *const texts[API_VERBS] = {
        "get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "other",
    };
    CHECK(verb < API_VERBS);
    return texts[verb];
}

/* -- counting ---------------------------------------------------------------------------------- */

static const uint16_t flow_codes[API_FLOW_CODES] = {
    200, 201, 202, 304, 400, 401, 403, 404, 405, 406, 409,
    410, 413, 415, 422, 429, 500, 501, 503, 504, 507, 0,
};

static bool flow_admits(const struct api_flow *flow, const struct api_passage *passage,
                        size_t answer_bytes)
{
    if (passage->verb == API_OTHER || passage->verb == API_WATCH) {
        return true; /* documents cost nothing, watches have a bound of their own */
    }
    const size_t bodies = flow->body_bytes + passage->body_bytes;
    if (answer_bytes >= LIMIT_API_ANSWERS_BYTES_MAX ||
        (passage->body_bytes > LIMIT_HTTP_SMALL_BYTES && bodies > LIMIT_API_BODIES_BYTES)) {
        return false;
    }
    const uint32_t open = flow->level_open[passage->level];
    switch (passage->level) {
    case API_LEVEL_WRITE:
        return open < LIMIT_API_WRITES;
    case API_LEVEL_LIST:
        return open < LIMIT_API_LISTINGS && answer_bytes < LIMIT_API_ANSWERS_BYTES;
    case API_LEVEL_SMALL: /* LIMIT_API_CALLS of all is met inside the door */
    case API_LEVELS:
        break;
    }
    return true;
}

bool api_flow_begin(struct api_flow *flow, const struct http_request *request, size_t answer_bytes,
                    struct api_passage *out)
{
    const enum api_verb verb = api_flow_verb(request);
    *out = (struct api_passage){
        .verb = verb,
        .level = api_flow_level(request, verb),
        .body_bytes = request->body.size,
    };
    if (!flow_admits(flow, out, answer_bytes)) {
        flow->shed[out->level]++;
        return false;
    }
    flow->open[verb]++;
    flow->level_open[out->level] += verb != API_WATCH;
    flow->body_bytes += out->body_bytes;
    return true;
}

void api_flow_answer(struct api_flow *flow, const struct api_passage *passage, uint32_t code,
                     uint64_t us)
{
    CHECK(passage->verb < API_VERBS);
    uint32_t place = 0;
    while (place < API_FLOW_CODES - 1 && flow_codes[place] != code) {
        place++;
    }
    flow->answered[passage->verb][place]++;
    metrics_observe_us(&flow->durations[passage->verb], us);
}

void api_flow_end(struct api_flow *flow, const struct api_passage *passage)
{
    CHECK(flow->open[passage->verb] > 0);
    CHECK(flow->body_bytes >= passage->body_bytes);
    flow->open[passage->verb]--;
    flow->level_open[passage->level] -= passage->verb != API_WATCH;
    flow->body_bytes -= passage->body_bytes;
}

void api_flow_metrics(const struct api_flow *flow, struct metrics_page *page)
{
    metrics_family(page, METRICS_COUNTER, "kelp_api_requests_total",
                   "Requests of the Kubernetes API that were answered, by what they wanted and the "
                   "HTTP status.");
    for (uint32_t verb = 0; verb < API_VERBS; verb++) {
        for (uint32_t code = 0; code < API_FLOW_CODES; code++) {
            char text[8] = "other";
            if (flow_codes[code] != 0) {
                (void)snprintf(text, sizeof text, "%u", flow_codes[code]);
            }
            const struct metrics_label labels[] = {
                {"verb", api_flow_verb_text((enum api_verb)verb)}, {"code", text}};
            if (flow->answered[verb][code] > 0 || flow_codes[code] == 200) {
                metrics_sample(page, labels, 2, flow->answered[verb][code]);
            }
        }
    }
    metrics_family(page, METRICS_HISTOGRAM, "kelp_api_request_duration_seconds",
                   "From the whole request to its answer, of a watch to its beginning.");
    for (uint32_t verb = 0; verb < API_VERBS; verb++) {
        const struct metrics_label label = {"verb", api_flow_verb_text((enum api_verb)verb)};
        metrics_sample_histogram(page, &label, 1, &flow->durations[verb]);
    }
    metrics_family(page, METRICS_GAUGE, "kelp_api_requests_open",
                   "Requests that are being answered, watches included.");
    for (uint32_t verb = 0; verb < API_VERBS; verb++) {
        metrics_labelled(page, "verb", api_flow_verb_text((enum api_verb)verb), flow->open[verb]);
    }
    metrics_family(page, METRICS_COUNTER, "kelp_api_shed_total",
                   "Requests that were sent away with 429 because too much was under way.");
    for (uint32_t level = 0; level < API_LEVELS; level++) {
        metrics_labelled(page, "level", api_flow_level_text((enum api_level)level),
                         flow->shed[level]);
    }
    metrics_gauge(page, "kelp_api_body_bytes", "Bodies of requests that are being answered.",
                  flow->body_bytes);
}
