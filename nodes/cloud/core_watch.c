/* What the core tells whoever watches it: families of metrics, and the checks of readiness. */
#include "nodes/cloud/core_inner.h"

#include "schemas/check.h"
#include "statemachine/history.h"

#include <stdio.h>

/* Entries that may wait to be applied before clients are better served elsewhere: about a second of work. */
#define WATCH_LAG_ENTRIES 10000u

/* -- agreement --------------------------------------------------------------------------------- */

/* 0 as long as there is no raft: the data directory is new, and takes no part yet. */
static uint64_t watch_commit(const struct cloud_core *core)
{
    return core->replica == NULL ? 0 : replica_commit_index(core->replica);
}

static void watch_agreement(struct cloud_core *core, struct metrics_page *page)
{
    static const char *const roles[] = {"follower", "candidate", "leader", "ended", "waiting"};
    const bool waits = core->replica == NULL;
    const uint32_t role = waits ? 4 : (uint32_t)replica_role(core->replica);
    metrics_gauge(page, "kelp_raft_term", "Term of the group, as this replica knows it.",
                  waits ? 0 : replica_term(core->replica));
    metrics_gauge(page, "kelp_raft_leader",
                  "Replica that leads, as this one knows it; 0: none is known.", core->leader);
    metrics_family(page, METRICS_GAUGE, "kelp_raft_role", "1 at what this replica is now.");
    for (uint32_t i = 0; i < sizeof roles / sizeof roles[0]; i++) {
        metrics_labelled(page, "role", roles[i], i == role);
    }
    metrics_family(
        page, METRICS_GAUGE, "kelp_raft_voters",
        "Voters of the group, and those that this replica knows to be well; more than half "
        "must be, or nothing can be agreed on.");
    metrics_labelled(page, "state", "all", members_voters(&core->group));
    metrics_labelled(page, "state", "well", members_voters_well(&core->group, core->now.mono_ms));
    metrics_counter(page, "kelp_raft_leadership_changes_total",
                    "Times that the leader or the term changed.", core->counts.leaderships);
    metrics_gauge(page, "kelp_raft_commit_index", "Newest entry that the group has agreed upon.",
                  watch_commit(core));
    metrics_gauge(page, "kelp_raft_last_index", "Newest entry of the log of this replica.",
                  waits ? 0 : replica_last_index(core->replica));
    metrics_gauge(page, "kelp_applied_index", "Newest entry that the state of this replica holds.",
                  machine_index(&core->machine));
    metrics_gauge(page, "kelp_resource_version", "Newest resource version of this replica.",
                  core->machine.meta.version);
    metrics_gauge(page, "kelp_state_behind",
                  "1 while this replica is given the state of another one and serves nobody.",
                  core_behind(core));
}

static void watch_guard(struct cloud_core *core, struct metrics_page *page)
{
    struct replica_counters c = {0};
    if (core->replica != NULL) {
        replica_counters(core->replica, &c);
    }
    metrics_family(page, METRICS_COUNTER, "kelp_raft_messages_total",
                   "Messages of other replicas, by what became of them.");
    metrics_labelled(page, "outcome", "received", c.received);
    metrics_labelled(page, "outcome", "refused", c.refused);
    metrics_labelled(page, "outcome", "dropped", c.dropped);
    metrics_family(page, METRICS_COUNTER, "kelp_raft_snapshots_total",
                   "Snapshots that were taken here, and that were installed from another replica.");
    metrics_labelled(page, "kind", "taken", c.snapshots_taken);
    metrics_labelled(page, "kind", "installed", c.snapshots_installed);
    metrics_family(
        page, METRICS_COUNTER, "kelp_raft_lag_total",
        "Followers that lag: messages with entries read from the log, those that were read in vain "
        "since their link did not take them, states that were to be "
        "copied, and times that the log could not be held for one any longer.");
    metrics_labelled(page, "kind", "messages", c.lag_messages);
    metrics_labelled(page, "kind", "refused", c.lag_refused);
    metrics_labelled(page, "kind", "copies", c.lag_copies);
    metrics_labelled(page, "kind", "lifts", c.lag_lifts);
    metrics_family(page, METRICS_COUNTER, "kelp_raft_guard_total",
                   "Times that a known defect of the raft library was kept from doing harm.");
    metrics_labelled(page, "measure", "acks_capped", c.acks_capped);
    metrics_labelled(page, "measure", "commits_capped", c.commits_capped);
    metrics_labelled(page, "measure", "results_held", c.results_held);
    metrics_labelled(page, "measure", "barriers", c.barriers);
    metrics_labelled(page, "measure", "appends_held", c.appends_held);
    metrics_labelled(page, "measure", "prevotes_answered", c.prevotes_answered);
    metrics_labelled(page, "measure", "configs_restored", c.configs_restored);
    metrics_labelled(page, "measure", "prefixes_skipped", c.prefixes_skipped);
    metrics_labelled(page, "measure", "hints", c.hints);
    metrics_labelled(page, "measure", "replies_dropped", c.replies_dropped);
    metrics_labelled(page, "measure", "terms_taken", c.terms_taken);
    metrics_labelled(page, "measure", "messages_split", c.messages_split);
    metrics_labelled(page, "measure", "votes_refused", c.votes_refused);
}

/* -- from a proposal to the state -------------------------------------------------------------- */

static void watch_queues(struct cloud_core *core, struct metrics_page *page)
{
    const struct forward_report forward = forward_report(core->forward);
    const uint64_t commit = watch_commit(core);
    const uint64_t applied = core->forward_door.applied(core);
    metrics_family(page, METRICS_GAUGE, "kelp_queue_items",
                   "What waits: records for their result, commands for agreement, entries to be "
                   "applied, readers for a fresh state.");
    metrics_labelled(page, "queue", "records", forward.records);
    metrics_labelled(page, "queue", "commands", forward.commands);
    metrics_labelled(page, "queue", "apply", commit > applied ? commit - applied : 0);
    metrics_labelled(page, "queue", "readers", forward.readers);
    metrics_family(page, METRICS_GAUGE, "kelp_queue_limit_items", "Where more is refused.");
    metrics_labelled(page, "queue", "records", LIMIT_FORWARD_RECORDS);
    metrics_labelled(page, "queue", "commands", LIMIT_FORWARD_FLIGHT);
    metrics_labelled(page, "queue", "readers", LIMIT_FORWARD_READERS);
    metrics_family(page, METRICS_GAUGE, "kelp_queue_bytes", "Memory of what waits.");
    metrics_labelled(page, "queue", "records", forward.bytes);
    metrics_labelled(page, "queue", "apply", core->entries_bytes);
    metrics_family(page, METRICS_GAUGE, "kelp_queue_limit_bytes", "Where more is refused.");
    metrics_labelled(page, "queue", "records", LIMIT_FORWARD_BYTES);
    metrics_labelled(page, "queue", "apply", LIMIT_APPLY_WAITING_BYTES);
    metrics_counter(page, "kelp_proposals_refused_total",
                    "Records that were not taken because too many waited.", forward.refused);
    metrics_counter(page, "kelp_commands_repeated_total",
                    "Commands that were sent to a leader again: it had moved, or did not answer.",
                    forward.repeated);
    metrics_histogram(
        page, "kelp_propose_duration_seconds",
        "From a record that is proposed here to its result in the state of this replica.",
        forward.durations);
}

static void watch_apply(struct cloud_core *core, struct metrics_page *page)
{
    const struct core_counts *counts = &core->counts;
    const struct store_usage usage = store_usage(core->store);
    metrics_counter(page, "kelp_applied_entries_total", "Entries applied since the start.",
                    counts->entries);
    metrics_counter(page, "kelp_applied_records_total", "Records in them.", counts->records);
    metrics_histogram(page, "kelp_apply_duration_seconds", "Applying one entry to the state.",
                      &counts->apply);
    metrics_gauge(page, "kelp_store_disk_bytes", "Table files of the state.", usage.disk_bytes);
    metrics_gauge(page, "kelp_store_memory_bytes", "Memory tables and caches of the state.",
                  usage.memory_bytes);
    metrics_gauge(page, "kelp_store_rows", "Rows of the state, about.", usage.rows);
    metrics_gauge(page, "kelp_store_stalled",
                  "1 while the state takes nothing, because its disk is behind or full.",
                  core->stalled != NULL);
    metrics_counter(page, "kelp_store_stalls_total", "Times that it took nothing.", counts->stalls);
    metrics_family(page, METRICS_COUNTER, "kelp_store_stalled_seconds_total",
                   "How long it took nothing, stalls that are over.");
    metrics_sample_us(page, NULL, 0, counts->stalled_us);
    metrics_histogram(page, "kelp_checkpoint_duration_seconds",
                      "Making the state durable, so that the log may be trimmed.",
                      &counts->checkpoint);
    metrics_counter(page, "kelp_checkpoints_failed_total", "Checkpoints that were not made.",
                    counts->checkpoints_failed);
    metrics_gauge_us(page, "kelp_checkpoint_last_time_seconds",
                     "When the newest checkpoint was made, since 1970; 0: none since the start.",
                     (uint64_t)counts->checkpoint_wall_ms * 1000u);
}

static void watch_history(struct cloud_core *core, struct metrics_page *page)
{
    metrics_gauge(page, "kelp_watch_history_bytes",
                  "Memory of the changes that a watch which comes late can still be told.",
                  history_bytes(core->machine.history));
}

/* -- sessions ---------------------------------------------------------------------------------- */

/* The sessions whose nodes lag most, the worst first. */
struct watch_lag {
    const struct session *worst[LIMIT_METRICS_NODES];
    uint32_t count;
    uint64_t down_sum;
    uint64_t up_sum;
};

static uint64_t watch_down_lag(const struct session *session)
{
    return session->down_tip > session->down.acked ? session->down_tip - session->down.acked : 0;
}

static uint64_t watch_up_lag(const struct session *session)
{
    return session->up.position > session->up.settled ? session->up.position - session->up.settled
                                                      : 0;
}

static uint64_t watch_lag_of(const struct session *session)
{
    return watch_down_lag(session) + watch_up_lag(session);
}

static void watch_lag_add(struct watch_lag *lag, const struct session *session)
{
    lag->down_sum += watch_down_lag(session);
    lag->up_sum += watch_up_lag(session);
    const uint64_t own = watch_lag_of(session);
    uint32_t place = lag->count;
    while (place > 0 && watch_lag_of(lag->worst[place - 1]) < own) {
        place--;
    }
    if (own == 0 || place == LIMIT_METRICS_NODES) {
        return;
    }
    const uint32_t end = lag->count < LIMIT_METRICS_NODES ? lag->count : LIMIT_METRICS_NODES - 1;
    for (uint32_t i = end; i > place; i--) {
        lag->worst[i] = lag->worst[i - 1];
    }
    lag->worst[place] = session;
    lag->count = end + 1;
}

static void watch_nodes(struct cloud_core *core, struct metrics_page *page)
{
    struct watch_lag lag = {.count = 0};
    for (const struct core_session *s = core->sessions; s != NULL; s = s->next_all) {
        if (s->session.state == SESSION_ACTIVE) {
            watch_lag_add(&lag, &s->session);
        }
    }
    metrics_gauge(page, "kelp_down_lag_records",
                  "Records that connected nodes have not acknowledged yet, of all of them here.",
                  lag.down_sum);
    metrics_gauge(page, "kelp_up_lag_records",
                  "Records that connected nodes have sent and that are not applied yet.",
                  lag.up_sum);
    if (lag.count == 0) {
        return;
    }
    metrics_family(page, METRICS_GAUGE, "kelp_node_down_lag_records",
                   "The same of the nodes that lag most, at most ten.");
    for (uint32_t i = 0; i < lag.count; i++) {
        metrics_labelled(page, "node", lag.worst[i]->node, watch_down_lag(lag.worst[i]));
    }
    metrics_family(page, METRICS_GAUGE, "kelp_node_up_lag_records", "The same, upward.");
    for (uint32_t i = 0; i < lag.count; i++) {
        metrics_labelled(page, "node", lag.worst[i]->node, watch_up_lag(lag.worst[i]));
    }
    metrics_family(page, METRICS_GAUGE, "kelp_node_down_silent_seconds",
                   "How long ago such a node acknowledged something, or had nothing to.");
    for (uint32_t i = 0; i < lag.count; i++) {
        const struct metrics_label label = {"node", lag.worst[i]->node};
        const uint64_t moved_ms = lag.worst[i]->down_moved_ms;
        const uint64_t now_ms = core->now.mono_ms;
        metrics_sample_us(page, &label, 1, now_ms > moved_ms ? (now_ms - moved_ms) * 1000u : 0);
    }
}

/* Who is not connected to any replica, as the leader knows. */
static void watch_away(struct cloud_core *core, struct metrics_page *page)
{
    struct liveness_away away[LIMIT_METRICS_NODES];
    uint32_t known;
    uint32_t gone;
    const uint32_t count = liveness_list_away(&core->liveness, core->now.mono_ms, away,
                                              LIMIT_METRICS_NODES, &known, &gone);
    metrics_family(page, METRICS_GAUGE, "kelp_nodes",
                   "Nodes that have a session at some replica, and that have none; told by the "
                   "leader, 0 elsewhere.");
    metrics_labelled(page, "state", "connected", known - gone);
    metrics_labelled(page, "state", "away", gone);
    if (count == 0) {
        return;
    }
    metrics_family(page, METRICS_GAUGE, "kelp_node_away_seconds",
                   "Since when the nodes that are away for longest, at most ten, have no session; "
                   "a new leader counts from its election.");
    for (uint32_t i = 0; i < count; i++) {
        const struct metrics_label label = {"node", away[i].node};
        metrics_sample_us(page, &label, 1, away[i].away_ms * 1000u);
    }
}

static void watch_sessions(struct cloud_core *core, struct metrics_page *page)
{
    metrics_family(page, METRICS_GAUGE, "kelp_sessions",
                   "Nodes that are connected here: served, or on their way there.");
    metrics_labelled(page, "state", "active", core->session_active);
    metrics_labelled(page, "state", "opening", core->session_count - core->session_active);
    metrics_gauge(page, "kelp_sessions_limit", "Sessions that this replica takes at most.",
                  core->config.session_max);
    metrics_counter(page, "kelp_sessions_opened_total", "Sessions that were welcomed.",
                    core->counts.sessions_opened);
    metrics_counter(page, "kelp_sessions_ended_total", "Sessions of those that are over.",
                    core->counts.sessions_ended);
    metrics_counter(page, "kelp_digest_differences_total",
                    "Times that a node held other rows than the state says, at the same position.",
                    core->counts.digests_differed);
    watch_nodes(core, page);
    watch_away(core, page);
}

void cloud_core_metrics(struct cloud_core *core, struct metrics_page *page)
{
    watch_agreement(core, page);
    watch_guard(core, page);
    watch_queues(core, page);
    watch_apply(core, page);
    watch_history(core, page);
    watch_sessions(core, page);
}

/* -- health ------------------------------------------------------------------------------------ */

void cloud_core_health(const struct cloud_core *core, struct health *health)
{
    const uint64_t commit = watch_commit(core);
    const uint64_t applied = core->forward_door.applied((void *)(uintptr_t)core);
    const uint64_t lag = commit > applied ? commit - applied : 0;
    const struct forward_report forward = forward_report(core->forward);
    health_add(
        health, "member", core->replica != NULL,
        "this data directory is new and takes no part before other replicas know it, or it was "
        "lost: its log says which, and what to do");
    health_add(health, "leader", core->leader != 0,
               "there is no leader among the cloudcores: is a majority of them up?");
    health_add(health, "timeline", !core_contested(core) || core_works(core),
               "replica %llu is of a group that works in another epoch of this cluster, while this "
               "one was "
               "restored or recovered apart from it: stop the one that is not to go on",
               (unsigned long long)core->contested_by);
    health_add(health, "state", !core_behind(core),
               "this cloudcore was away and is given the state of another one, %u percent are here",
               transfer_sink_percent(&core->sink));
    health_add(health, "applied", lag <= WATCH_LAG_ENTRIES,
               "%llu entries wait to be applied: the disk of the state is slow",
               (unsigned long long)lag);
    health_add(health, "space", core->space != CLOUD_CORE_SPACE_NONE,
               "the disk is full, or the log at its limit: nothing is taken");
    health_add(health, "proposals",
               forward.records < LIMIT_FORWARD_RECORDS / 4 * 3 &&
                   forward.bytes < LIMIT_FORWARD_BYTES / 4 * 3,
               "%u records with %zu bytes wait for their result", forward.records, forward.bytes);
    health_add(health, "shutdown", !core->stopping && !core->resigning,
               "this cloudcore is stopping");
}
