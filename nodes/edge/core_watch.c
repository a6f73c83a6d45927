/* What the core of an edge tells whoever watches it. */
#include "nodes/edge/core_inner.h"

/* How far `to` is ahead; never below zero. */
static uint64_t watch_ahead(uint64_t from, uint64_t to)
{
    return to > from ? to - from : 0;
}

static void watch_link(const struct edge_core *core, const struct edge_core_report *r,
                       struct metrics_page *page)
{
    metrics_gauge(page, "kelp_edge_link_up", "1 while a cloudcore has welcomed this node.",
                  r->link_up);
    metrics_counter(page, "kelp_edge_link_attempts_total", "Connections that were begun.",
                    core->hub.link);
    metrics_gauge(page, "kelp_edge_link_failures",
                  "Attempts in a row that led to no session; 0 while there is one.",
                  core->hub.failures);
    metrics_gauge(page, "kelp_edge_down_position", "How far this node has what the cloud wishes.",
                  r->down_position);
    metrics_gauge(page, "kelp_edge_down_lag_records",
                  "Records that the cloud had for this node when it said so last and that are not "
                  "here yet.",
                  core->hub.tip_stream == r->down_stream
                      ? watch_ahead(r->down_position, core->hub.tip_heard)
                      : 0);
    metrics_gauge(page, "kelp_edge_up_position", "Newest record of what happened here.",
                  r->up_last);
    metrics_gauge(page, "kelp_edge_up_lag_records",
                  "Records of what happened here that the cloud has not applied yet.",
                  watch_ahead(r->up_acked, r->up_last));
    metrics_counter(page, "kelp_edge_digest_differences_total",
                    "Times that what is here was not what the cloud says it sent.",
                    r->digest_alarms);
}

static void watch_pods(const struct edge_core *core, const struct edge_core_report *r,
                       struct metrics_page *page)
{
    static const char *const phases[] = {"Pending", "Running", "Succeeded", "Failed", "Unknown"};
    metrics_gauge(page, "kelp_edge_pods_wanted", "Pods that the cloud wishes here.",
                  r->pods.wanted);
    metrics_family(page, METRICS_GAUGE, "kelp_edge_pods", "Pods on this node, by phase.");
    for (uint32_t i = 0; i < PODS_PHASES; i++) {
        metrics_labelled(page, "phase", phases[i], r->pods.phases[i]);
    }
    metrics_counter(page, "kelp_edge_runtime_calls_total",
                    "Calls to the container runtime that were begun.", r->pods.calls_total);
    metrics_gauge(page, "kelp_edge_runtime_calls_open", "Of them those under way.", r->pods.calls);
    metrics_gauge_us(page, "kelp_edge_runtime_listing_age_seconds",
                     "How long ago the runtime listed its containers; large: it is in trouble.",
                     r->pods.listed ? watch_ahead(r->pods.listed_mono_ms, core->now.mono_ms) * 1000u
                                    : core->now.mono_ms * 1000u);
}

void edge_core_metrics(const struct edge_core *core, struct metrics_page *page)
{
    const struct edge_core_report report = edge_core_report(core);
    watch_link(core, &report, page);
    metrics_gauge(page, "kelp_edge_applied_index", "Newest entry of the log that the state holds.",
                  report.applied);
    watch_pods(core, &report, page);
    bus_metrics(core->bus, page);
}
