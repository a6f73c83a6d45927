/* Numbers for whoever watches a fleet: histograms that cost an increment, and the page that Prometheus reads.
 *
 * There is no registry. A counter or a gauge is a field of the room that it is about; when the page is asked
 * for, the room writes its families into it. Only a histogram needs memory of its own, and its owner embeds it.
 *
 * The page is Prometheus' text format 0.0.4, in memory of the caller, without an allocation:
 *
 *      # HELP kelp_raft_term Term of the raft group, as this replica knows it.
 *      # TYPE kelp_raft_term gauge
 *      kelp_raft_term 7
 *
 * What a label may say comes from a set that is bounded by a limit of schemas/limits.h (replicas, verbs, the
 * LIMIT_METRICS_NODES nodes that lag most), so the number of series is, too. Names end in their unit: _seconds,
 * _bytes, and _total for what only rises.
 */
#ifndef KELP_NODES_METRICS_H
#define KELP_NODES_METRICS_H

#include "schemas/bytes.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* -- histograms -------------------------------------------------------------------------------- */

/* Buckets of durations: up to 25 us, 50 us, 100 us ... 13.1 s, and one for what took longer. */
#define METRICS_BUCKETS   20u
#define METRICS_BUCKET_US 25u

struct metrics_histogram {                /* zeroed at first */
    uint64_t counts[METRICS_BUCKETS + 1]; /* of each bucket alone */
    uint64_t sum_us;
};

/* Count one duration. */
void metrics_observe_us(struct metrics_histogram *histogram, uint64_t us);
/* How many were counted. */
uint64_t metrics_observed(const struct metrics_histogram *histogram);
/* The upper end of the bucket that holds this part of all (0 .. 1000 permille); 0: nothing was counted. */
uint64_t metrics_quantile_us(const struct metrics_histogram *histogram, uint32_t permille);

/* -- the page ---------------------------------------------------------------------------------- */

#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

enum metrics_type { METRICS_COUNTER, METRICS_GAUGE, METRICS_HISTOGRAM };

struct metrics_label {
    const char *name;
    const char *value; /* any text: it is escaped */
};

struct metrics_page {
    char *data; /* borrowed */
    size_t capacity;
    size_t size;
    bool overflowed; /* something did not fit: the page is worth nothing */
    const char *family;
    enum metrics_type type;
};

/* Begin a page in memory of the caller. */
void metrics_page_init(struct metrics_page *page, char *memory, size_t capacity);
/* The page is whole; lent as long as its memory. An empty one when it overflowed. */
struct bytes metrics_page_bytes(const struct metrics_page *page);

/* Begin a family: its samples follow, at least one. A name comes once in a page.
 *
 *   name   "kelp_..." in lower case; a counter ends in _total
 *   help   one sentence for a person on call
 *   both are borrowed until the next family */
void metrics_family(struct metrics_page *page, enum metrics_type type, const char *name,
                    const char *help);
/* One sample of the family: a number; microseconds, written as seconds; a histogram. Each set of labels once.
 *   labels   may be NULL when label_count is 0 */
void metrics_sample(struct metrics_page *page, const struct metrics_label *labels,
                    uint32_t label_count, uint64_t value);
void metrics_sample_us(struct metrics_page *page, const struct metrics_label *labels,
                       uint32_t label_count, uint64_t us);
void metrics_sample_histogram(struct metrics_page *page, const struct metrics_label *labels,
                              uint32_t label_count, const struct metrics_histogram *histogram);

/* A family of one sample without labels. */
void metrics_counter(struct metrics_page *page, const char *name, const char *help, uint64_t value);
void metrics_gauge(struct metrics_page *page, const char *name, const char *help, uint64_t value);
void metrics_gauge_us(struct metrics_page *page, const char *name, const char *help, uint64_t us);
void metrics_histogram(struct metrics_page *page, const char *name, const char *help,
                       const struct metrics_histogram *histogram);

/* One sample of a family whose only label has this value. */
void metrics_labelled(struct metrics_page *page, const char *label, const char *value,
                      uint64_t number);

/* -- this process ------------------------------------------------------------------------------ */

/* CPU, memory, files and start of this process, under the names that every client library uses, and
 * kelp_build_info. Reads /proc. */
void metrics_process(struct metrics_page *page, const char *program, const char *name);

#endif
