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

void api_flow_begin(struct api_flow *flow, enum api_verb verb)
{
    CHECK(verb < API_VERBS);
    flow->open[verb]++;
}

void api_flow_answer(struct api_flow *flow, enum api_verb verb, uint32_t code, uint64_t us)
{
    CHECK(verb < API_VERBS);
    uint32_t place = 0;
    while (place < API_FLOW_CODES - 1 && flow_codes[place] != code) {
        place++;
    }
    flow->answered[verb][place]++;
    metrics_observe_us(&flow->durations[verb], us);
}

void api_flow_end(struct api_flow *flow, enum api_verb verb)
{
    CHECK(flow->open[verb] > 0);
    flow->open[verb]--;
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
}
