/* The traffic at the API's door: what kind of request each is, and how many of each kind were answered how.
 */
#ifndef KELP_NODES_CLOUD_API_FLOW_H
#define KELP_NODES_CLOUD_API_FLOW_H

#include "nodes/metrics.h"
#include "nodes/net/http_message.h"

enum api_verb {
    API_GET,
    API_LIST,
    API_WATCH,
    API_CREATE,
    API_UPDATE,
    API_PATCH,
    API_DELETE,
    API_DELETE_COLLECTION,
    API_OTHER, /* discovery, documents, probes, and what is no request of ours */
    API_VERBS,
};

/* What a request wants, by its method and URL alone: whether there is such a resource is not asked. */
enum api_verb api_flow_verb(const struct http_request *request);
/* "get", "list" ... "other". Lent for ever. */
const char *api_flow_verb_text(enum api_verb verb);

/* Codes that are counted one by one; any other is counted with the last. */
#define API_FLOW_CODES 22u

struct api_flow { /* zeroed at first */
    uint64_t answered[API_VERBS][API_FLOW_CODES];
    struct metrics_histogram
        durations[API_VERBS]; /* from the whole request to its whole answer; of a
                                                      watch, to its beginning */
    uint32_t open[API_VERBS]; /* requests under way, watches included */
};

/* A request has come; and it was answered: with which code, after how long. */
void api_flow_begin(struct api_flow *flow, enum api_verb verb);
void api_flow_answer(struct api_flow *flow, enum api_verb verb, uint32_t code, uint64_t us);
/* It is over. */
void api_flow_end(struct api_flow *flow, enum api_verb verb);

void api_flow_metrics(const struct api_flow *flow, struct metrics_page *page);

#endif
