/* The traffic at the API's door: what kind of request each is, which are sent away when there are too many, and
 * how many were answered how.
 *
 * Shedding. Three levels share the requests that may be under way (LIMIT_API_CALLS): lists, writes, and
 * everything small. Lists and writes have a bound below the whole, so that neither a thousand lists nor a
 * thousand writes keep out what keeps a node alive, or somebody who looks at one object. What is too much is
 * answered 429 with Retry-After before it has cost memory; clients of Kubernetes come again by themselves.
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

enum api_level {
    API_LEVEL_SMALL, /* single objects, documents; whatever is about nodes and leases */
    API_LEVEL_WRITE,
    API_LEVEL_LIST, /* whole collections, and their deletion */
    API_LEVELS,
};
enum api_level api_flow_level(const struct http_request *request, enum api_verb verb);
/* "small", "write", "list". Lent for ever. */
const char *api_flow_level_text(enum api_level level);

/* Codes that are counted one by one; any other is counted with the last. */
#define API_FLOW_CODES 22u

struct api_flow { /* zeroed at first */
    uint64_t answered[API_VERBS][API_FLOW_CODES];
    struct metrics_histogram
        durations[API_VERBS]; /* from the whole request to its whole answer; of a
                                                      watch, to its beginning */
    uint32_t open[API_VERBS]; /* requests under way, watches included */
    uint32_t level_open[API_LEVELS]; /* without watches */
    size_t body_bytes;               /* of what is under way */
    uint64_t shed[API_LEVELS];
};

/* A request, from its coming to its end. */
struct api_passage {
    enum api_verb verb;
    enum api_level level;
    size_t body_bytes;
};

/* A request has come.
 *
 *   answer_bytes  of answers that clients have not taken yet
 *   out           what it is; given to api_flow_end when true
 *   answers       false: it must be sent away */
bool api_flow_begin(struct api_flow *flow, const struct http_request *request, size_t answer_bytes,
                    struct api_passage *out);
/* It was answered: with which code, after how long. Also one that was sent away. */
void api_flow_answer(struct api_flow *flow, const struct api_passage *passage, uint32_t code,
                     uint64_t us);
/* It is over. */
void api_flow_end(struct api_flow *flow, const struct api_passage *passage);

void api_flow_metrics(const struct api_flow *flow, struct metrics_page *page);

#endif
