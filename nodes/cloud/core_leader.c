/* What only the leader does: founding the cluster, verdicts about nodes, binding pods. And what every
 * replica does towards the others, the leader before all: telling which sessions it holds. */
#include "nodes/cloud/core_inner.h"

#include "schemas/check.h"

#include <stdio.h>
#include <stdlib.h>

static const char *const core_namespaces[] = {"default", "kube-system", "kube-public",
                                              "kube-node-lease"};

/* -- reports of sessions ----------------------------------------------------------------------- */

void core_report(struct cloud_core *core, const struct session *session, bool opened)
{
    struct core_report_item *item = calloc(1, sizeof *item);
    CHECK(item != NULL);
    item->opened = opened;
    item->epoch = session->epoch;
    memcpy(item->node, session->node, strlen(session->node) + 1);
    if (core->report_items == NULL) { /* in the order of events */
        core->report_items = item;
    } else {
        core->report_last->next = item;
    }
    core->report_last = item;
}

static void core_report_forget(struct cloud_core *core)
{
    while (core->report_items != NULL) {
        struct core_report_item *item = core->report_items;
        core->report_items = item->next;
        free(item);
    }
}

static void core_report_send(struct cloud_core *core, const struct sessions *report)
{
    liveness_on_report(&core->liveness, report, core->now.mono_ms, core->now.wall_ms);
    struct bytes body;
    struct bytes frame;
    if (codec_sessions_build(core->codec_build, report, &body) != 0 ||
        codec_frame_build(core->codec_build, WIRE_SESSIONS, body, &frame) != 0) {
        return;
    }
    /* The leader judges by it; the others show it to whoever asks them for a node or its lease. */
    for (uint32_t i = 0; i < core->group.count; i++) {
        if (core->group.all[i].replica != core->config.replica) {
            (void)core->ops.send_peer(core->ops.context, core->group.all[i].replica, frame);
        }
    }
}

/* Everything we hold. */
static void core_report_full(struct cloud_core *core)
{
    struct codec *codec = core->codec_build;
    codec_reset(codec);
    const char **opened = codec_array(codec, core->session_active + 1, sizeof *opened);
    uint64_t *epochs = codec_array(codec, core->session_active + 1, sizeof *epochs);
    uint32_t count = 0;
    for (struct core_session *s = core->sessions; s != NULL; s = s->next_all) {
        if (s->session.state == SESSION_ACTIVE) {
            CHECK(count < core->session_active);
            opened[count] = s->session.node;
            epochs[count] = s->session.epoch;
            count++;
        }
    }
    core_report_send(core, &(struct sessions){
                               .replica = core->config.replica,
                               .full = true,
                               .opened = opened,
                               .epochs = epochs,
                               .opened_count = count,
                           });
}

/* One change at a time keeps their order; sessions open and close far less often than turns run. */
static void core_report_changes(struct cloud_core *core)
{
    for (struct core_report_item *item = core->report_items; item != NULL; item = item->next) {
        const char *node = item->node;
        codec_reset(core->codec_build);
        core_report_send(core, &(struct sessions){
                                   .replica = core->config.replica,
                                   .opened = &node,
                                   .epochs = &item->epoch,
                                   .opened_count = item->opened ? 1 : 0,
                                   .closed = &node,
                                   .closed_count = item->opened ? 0 : 1,
                               });
    }
}

static uint64_t core_reports_run(struct cloud_core *core)
{
    if (core->leader == 0) {
        core_report_forget(core); /* a new leader is told everything */
        return UINT64_MAX;
    }
    if (core->now.mono_ms >= core->report_full_ms) {
        core->report_full_ms = core->now.mono_ms + LIVENESS_FULL_MS;
        core_report_full(core);
    } else {
        core_report_changes(core);
    }
    core_report_forget(core);
    return core->report_full_ms;
}

/* -- verdicts ---------------------------------------------------------------------------------- */

struct core_verdict {
    struct cloud_core *core;
    bool reachable;
    char name[]; /* of the node, or key of the pod */
};

static struct core_verdict *core_verdict_create(struct cloud_core *core, const char *name,
                                                bool reachable)
{
    const size_t size = strlen(name) + 1;
    struct core_verdict *verdict = malloc(sizeof *verdict + size);
    CHECK(verdict != NULL);
    verdict->core = core;
    verdict->reachable = reachable;
    memcpy(verdict->name, name, size);
    return verdict;
}

static int core_submit_verdict(struct cloud_core *core, const char *key,
                               const struct verdict *verdict, forward_on_done on_done,
                               void *context)
{
    struct bytes body;
    struct bytes record;
    int status = codec_verdict_build(core->codec_build, verdict, &body);
    if (status == 0) {
        status = codec_record_build(core->codec_build,
                                    &(struct record){
                                        .kind = RECORD_VERDICT,
                                        .key = key,
                                        .origin = core->config.name,
                                        .time_ms = core->now.wall_ms,
                                        .body = body,
                                    },
                                    &record);
    }
    return status != 0 ? status
                       : forward_submit(core->forward, FORWARD_LANE_CORE, record, on_done, context,
                                        0, core->now.mono_ms);
}

static void core_on_node_verdict(void *context, uint64_t tag, int status, int outcome,
                                 uint64_t value)
{
    struct core_verdict *verdict = context;
    (void)tag;
    (void)value;
    const bool accepted = status == 0 && outcome_accepted((enum outcome)outcome);
    if (status == 0 && outcome == REFUSED_MISSING) { /* deleted while its history was forgotten */
        liveness_remove_node(&verdict->core->liveness, verdict->name);
    } else {
        liveness_on_verdict(&verdict->core->liveness, verdict->name, verdict->reachable, accepted);
    }
    free(verdict);
}

/* source: kubernetes pkg/controller/nodelifecycle, the words of an unreachable node. */
static int core_liveness_propose(void *context, const char *node, const char *uid, bool reachable)
{
    struct cloud_core *core = context;
    static const char *const types[] = {"Ready", "MemoryPressure", "DiskPressure", "PIDPressure"};
    struct condition conditions[sizeof types / sizeof types[0]];
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        conditions[i] = (struct condition){
            .type = types[i],
            .status = CONDITION_UNKNOWN,
            .reason = "NodeStatusUnknown",
            .message = "The edge node stopped answering.",
            .transition_ms = core->now.wall_ms,
        };
    }
    const struct verdict verdict = {
        .uid = uid,
        .reachable = reachable,
        .conditions = conditions,
        .condition_count = reachable ? 0 : sizeof types / sizeof types[0],
    };
    codec_reset(core->codec_build);
    struct core_verdict *pending = core_verdict_create(core, node, reachable);
    const int status =
        core_submit_verdict(core, codec_print(core->codec_build, "/nodes//%s", node), &verdict,
                            core_on_node_verdict, pending);
    if (status != 0) {
        free(pending);
        return status;
    }
    core_log(core, reachable ? LOGGER_INFO : LOGGER_WARN,
             reachable ? "node_reachable" : "node_unreachable", "node=%s", node);
    return 0;
}

/* -- the scheduler's door ---------------------------------------------------------------------- */

static int core_row(struct cloud_core *core, const char *key, struct backend_row *out)
{
    struct object_row row;
    const int status = object_get(core_reader(core), bytes_text(key), &row);
    if (status == STATUS_OK) {
        core_backend_row(&row, out);
    }
    return status;
}

static bool core_scheduler_fits(void *context, const char *pod_key, const char *node,
                                const char **out_why)
{
    struct cloud_core *core = context;
    struct backend_row pod_row;
    struct backend_row node_row;
    codec_reset(core->codec_build);
    const char *node_key = codec_print(core->codec_build, "/nodes//%s", node);
    *out_why = "node(s) could not be read";
    bool fits = false;
    store_reader_reset(core_reader(core));
    if (core_row(core, pod_key, &pod_row) == STATUS_OK &&
        core_row(core, node_key, &node_row) == STATUS_OK) {
        fits = core->objects.pod_fits(&pod_row, &node_row, out_why);
    }
    store_reader_reset(core_reader(core));
    return fits;
}

/* For people: one that cannot be made or proposed now is not told.
 *   uid      the pod must still be this one; NULL: any
 *   message  NULL: where it was bound to */
static void core_pod_event(struct cloud_core *core, const char *pod_key, const char *uid,
                           const char *type, const char *reason, const char *message)
{
    struct backend_row row;
    struct object_put put;
    struct bytes record;
    if (core->objects.build_event == NULL) {
        return;
    }
    codec_reset(core->codec_build);
    store_reader_reset(core_reader(core));
    bool made = core_row(core, pod_key, &row) == STATUS_OK && row.wish.size > 0 &&
                codec_object_put_read(core->codec_build, row.wish, &put) == 0 &&
                (uid == NULL || strcmp(put.object.uid, uid) == 0);
    if (made && message == NULL) {
        message = codec_print(core->codec_build, "Successfully assigned %s/%s to %s",
                              put.object.namespace_, put.object.name, put.object.node_name);
    }
    made = made && core->objects.build_event(&core->backend, core->codec_build, &row, type, reason,
                                             message, &record) == 0;
    store_reader_reset(core_reader(core));
    if (made) {
        (void)forward_submit(core->forward, FORWARD_LANE_CORE, record, NULL, NULL, 0,
                             core->now.mono_ms);
    }
}

static void core_on_bound(void *context, uint64_t tag, int status, int outcome, uint64_t value)
{
    struct core_verdict *binding = context;
    const bool accepted = status == 0 && outcome_accepted((enum outcome)outcome);
    (void)tag;
    (void)value;
    scheduler_on_bound(binding->core->scheduler, binding->name, accepted);
    if (accepted) {
        core_pod_event(binding->core, binding->name, NULL, "Normal", "Scheduled", NULL);
    }
    free(binding);
}

static int core_scheduler_bind(void *context, const char *pod_key, const char *node)
{
    struct cloud_core *core = context;
    struct backend_row row;
    struct bytes record;
    codec_reset(core->codec_build);
    store_reader_reset(core_reader(core));
    int status = core_row(core, pod_key, &row);
    if (status == STATUS_OK) {
        status = core->objects.build_binding(&core->backend, core->codec_build, &row, node,
                                             &record);
    }
    store_reader_reset(core_reader(core));
    if (status != 0) {
        return status > 0 ? STATUS_CLOSING : status;
    }
    struct core_verdict *binding = core_verdict_create(core, pod_key, true);
    status = forward_submit(core->forward, FORWARD_LANE_CORE, record, core_on_bound, binding, 0,
                            core->now.mono_ms);
    if (status != 0) {
        free(binding);
        return status;
    }
    core_log(core, LOGGER_INFO, "pod_bound", "pod=%s node=%s", pod_key, node);
    return 0;
}

static int core_scheduler_verdict(void *context, const char *pod_key, const char *uid,
                                  bool scheduled, const char *reason)
{
    struct cloud_core *core = context;
    const struct condition condition = {
        .type = "PodScheduled",
        .status = scheduled ? CONDITION_TRUE : CONDITION_FALSE,
        .reason = scheduled ? "" : "Unschedulable",
        .message = reason,
        .transition_ms = core->now.wall_ms,
    };
    const struct verdict verdict = {.uid = uid, .conditions = &condition, .condition_count = 1};
    codec_reset(core->codec_build);
    const int status = core_submit_verdict(core, pod_key, &verdict, NULL, NULL);
    if (status == 0 && !scheduled) {
        core_pod_event(core, pod_key, uid, "Warning", "FailedScheduling", reason);
    }
    return status;
}

/* -- following the state ----------------------------------------------------------------------- */

static bool core_key_of(struct bytes key, const char *prefix, char *out)
{
    const size_t size = strlen(prefix);
    if (key.size < size || key.size - size > LIMIT_KEY_BYTES || memcmp(key.data, prefix, size) != 0) {
        return false;
    }
    memcpy(out, key.data + size, key.size - size);
    out[key.size - size] = '\0';
    return true;
}

static void core_watch_node(struct cloud_core *core, const char *name, const struct object_row *row)
{
    struct object_put put;
    struct codec *codec = core->codec_build;
    codec_reset(codec);
    if (row->parts[PART_WISH].version == 0 ||
        codec_object_put_read(codec, row->parts[PART_WISH].body, &put) != 0) {
        liveness_remove_node(&core->liveness, name);
        scheduler_set_node(core->scheduler, name, NULL);
        return;
    }
    enum liveness_verdict state = LIVENESS_NO_VERDICT;
    struct verdict verdict;
    if (row->parts[PART_VERDICT].body.size > 0 &&
        codec_verdict_read(codec, row->parts[PART_VERDICT].body, &verdict) == 0) {
        state = verdict.reachable ? LIVENESS_REACHABLE : LIVENESS_UNREACHABLE;
    }
    liveness_set_node(&core->liveness, name, put.object.uid, state, core->now.mono_ms);

    struct scheduler_node_facts facts = {.ready = false};
    struct node_status status;
    if (row->parts[PART_FACT].body.size > 0 &&
        codec_node_status_read(codec, row->parts[PART_FACT].body, &status) == 0) {
        for (uint32_t i = 0; i < status.condition_count; i++) {
            facts.ready = facts.ready || (strcmp(status.conditions[i].type, "Ready") == 0 &&
                                          status.conditions[i].status == CONDITION_TRUE);
        }
        for (uint32_t i = 0; i < status.allocatable_count; i++) {
            const struct pair *pair = &status.allocatable[i];
            if (strcmp(pair->key, "cpu") == 0) {
                (void)scheduler_parse_cpu(pair->value, &facts.cpu_milli);
            } else if (strcmp(pair->key, "memory") == 0) {
                (void)scheduler_parse_bytes(pair->value, &facts.memory_bytes);
            } else if (strcmp(pair->key, "pods") == 0) {
                (void)scheduler_parse_bytes(pair->value, &facts.pods);
            }
        }
    }
    facts.ready = facts.ready && state == LIVENESS_REACHABLE && put.object.deletion_time_ms == 0;
    scheduler_set_node(core->scheduler, name, &facts);
}

static void core_watch_pod(struct cloud_core *core, const char *key, const struct object_row *row)
{
    struct object_put put;
    struct codec *codec = core->codec_build;
    codec_reset(codec);
    if (row->parts[PART_WISH].version == 0 ||
        codec_object_put_read(codec, row->parts[PART_WISH].body, &put) != 0) {
        scheduler_set_pod(core->scheduler, key, NULL);
        return;
    }
    struct pod_status status;
    bool ended = row->ended || (put.object.deletion_time_ms != 0 && put.object.node_name[0] == '\0');
    if (row->parts[PART_FACT].body.size > 0 &&
        codec_pod_status_read(codec, row->parts[PART_FACT].body, &status) == 0) {
        ended = ended || status.phase == POD_SUCCEEDED || status.phase == POD_FAILED;
    }
    scheduler_set_pod(core->scheduler, key,
                      &(struct scheduler_pod_facts){
                          .uid = put.object.uid,
                          .node = put.object.node_name,
                          .ended = ended,
                          .cpu_milli = put.object.request_cpu_milli,
                          .memory_bytes = put.object.request_memory_bytes,
                      });
}

static void core_watch_row(struct cloud_core *core, struct bytes key, const struct object_row *row)
{
    char name[LIMIT_KEY_BYTES + 1];
    if (core_key_of(key, "/nodes//", name)) {
        core_watch_node(core, name, row);
    } else if (bytes_start_with(key, bytes_text("/pods/")) && core_key_of(key, "", name)) {
        core_watch_pod(core, name, row);
    }
}

/* What core_watch_row looks at. All else is nearly all of a busy cluster's changes. */
static bool core_watch_wants(void *context, struct bytes key)
{
    (void)context;
    return bytes_start_with(key, bytes_text("/nodes//")) ||
           bytes_start_with(key, bytes_text("/pods/"));
}

static int core_watch_on_change(void *context, const struct change *change)
{
    struct cloud_core *core = context;
    if (change->type != CHANGE_EVENT) {
        core_watch_row(core, change->key, &change->after);
        if (core->listener != NULL && (change->parts & 1u << PART_WISH) != 0) {
            core->listener->wish(core->listener->context, change->key);
        }
    }
    return 0;
}

/* Read all nodes and pods: we have just become the leader, or fell behind the history. */
static int core_watch_everything(struct cloud_core *core)
{
    static const char *const prefixes[] = {"/nodes/", "/pods/"};
    int status = STATUS_OK;
    scheduler_clear(core->scheduler);
    core->watched = core->machine.meta.version;
    for (size_t i = 0; i < 2 && status == STATUS_OK; i++) {
        struct object_cursor cursor;
        struct object_row row;
        object_cursor_open(&cursor, core_reader(core), bytes_text(prefixes[i]), bytes_of(NULL, 0));
        while ((status = object_cursor_next(&cursor, &row)) == STATUS_OK) {
            core_watch_row(core, row.key, &row);
        }
        object_cursor_close(&cursor);
        status = status == OBJECT_NONE ? STATUS_OK : status;
    }
    core->watch_all = status != STATUS_OK;
    if (core->listener != NULL) {
        core->listener->anew(core->listener->context);
    }
    return status;
}

/* Answers whether there is more to read. */
static bool core_watch(struct cloud_core *core)
{
    if (core->stalled != NULL) {
        return false;
    }
    if (core->watch_all) {
        return core_watch_everything(core) != STATUS_OK;
    }
    if (core->watched == core->machine.meta.version) {
        return false;
    }
    uint64_t reached = core->watched;
    const int status =
        change_follow(&core->machine, core_reader(core), core->watched, 256, 4u * 1024u * 1024u,
                      core_watch_wants, core_watch_on_change, core, &reached);
    store_reader_reset(core_reader(core));
    if (status == STATUS_OK) {
        core->watched = reached;
    } else {
        core->watch_all = true;
    }
    return core->watched != core->machine.meta.version;
}

/* -- founding ---------------------------------------------------------------------------------- */

static void core_on_init(void *context, uint64_t tag, int status, int outcome, uint64_t value)
{
    struct cloud_core *core = context;
    (void)tag;
    (void)value;
    core->init_pending = false;
    core_log(core, LOGGER_INFO, "cluster_initialized", "cluster=%s status=%d outcome=%d",
             core->machine.meta.cluster, status, outcome);
}

/* The first leader names the cluster. Records of one turn share a command, so the namespaces come with
 * the name or not at all. */
static void core_found(struct cloud_core *core)
{
    uint8_t random[16];
    struct bytes body;
    struct bytes record;
    struct codec *codec = core->codec_build;
    core->ops.random(core->ops.context, random, sizeof random);
    random[6] = (uint8_t)((random[6] & 0x0f) | 0x40); /* RFC 4122, version 4 */
    random[8] = (uint8_t)((random[8] & 0x3f) | 0x80);
    codec_reset(codec);
    const struct cluster_init init = {
        .cluster = codec_print(codec,
                               "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
                               random[0], random[1], random[2], random[3], random[4], random[5],
                               random[6], random[7], random[8], random[9], random[10], random[11],
                               random[12], random[13], random[14], random[15]),
    };
    if (codec_cluster_init_build(codec, &init, &body) != 0 ||
        codec_record_build(codec,
                           &(struct record){
                               .kind = RECORD_CLUSTER_INIT,
                               .key = "cluster",
                               .origin = core->config.name,
                               .time_ms = core->now.wall_ms,
                               .body = body,
                           },
                           &record) != 0 ||
        forward_submit(core->forward, FORWARD_LANE_CORE, record, core_on_init, core, 0,
                       core->now.mono_ms) != 0) {
        return;
    }
    core->init_pending = true;
    for (size_t i = 0; i < sizeof core_namespaces / sizeof core_namespaces[0]; i++) {
        codec_reset(codec);
        if (core->objects.build_namespace(&core->backend, codec, core_namespaces[i], &record) == 0) {
            (void)forward_submit(core->forward, FORWARD_LANE_CORE, record, NULL, NULL, 0,
                                 core->now.mono_ms);
        }
    }
}

/* -- leadership -------------------------------------------------------------------------------- */

void core_leader_init(struct cloud_core *core)
{
    core->liveness_door = (struct liveness_door){.context = core, .propose = core_liveness_propose};
    /* The session takes half of the time to notice, the leader waits for the other half. */
    liveness_init(&core->liveness, &core->liveness_door, core->config.replica,
                  core->config.unreachable_ms - core->config.unreachable_ms / 2);
    core->scheduler_door = (struct scheduler_door){
        .context = core,
        .fits = core_scheduler_fits,
        .bind = core_scheduler_bind,
        .verdict = core_scheduler_verdict,
    };
    core->scheduler = scheduler_create(&core->scheduler_door);
}

void core_leader_deinit(struct cloud_core *core)
{
    liveness_deinit(&core->liveness);
    scheduler_destroy(core->scheduler);
    core_report_forget(core);
}

void core_leader_moved(struct cloud_core *core)
{
    const bool was_ready = core->lead_ready;
    liveness_unlead(&core->liveness);
    scheduler_clear(core->scheduler);
    core->lead_ready = false;
    core->lead_asked = false;
    core->lead_retry_ms = 0;
    core->report_full_ms = 0;
    if (core->leads) {
        liveness_lead(&core->liveness, core->now.mono_ms);
    }
    if (was_ready && core->ops.leading != NULL) {
        core->ops.leading(core->ops.context, false);
    }
}

/* All that was agreed before our term is applied here. */
static void core_on_lead_ready(void *context, int status)
{
    struct cloud_core *core = context;
    core->lead_asked = false;
    if (status != 0 || !core->leads || core->lead_ready) {
        return;
    }
    core->lead_ready = true;
    core->watch_all = true;
    if (core->ops.leading != NULL) {
        core->ops.leading(core->ops.context, true);
    }
}

/* Two reasons not to lead. Short of space we refuse what others could take: let one lead whose disk has room.
 * None has: nothing is gained by moving, so leadership never goes round in circles. About to stop: anybody
 * who is near, one whose disk has room before others. Answers when to try again. */
static uint64_t core_hand_over(struct cloud_core *core)
{
    const uint64_t now_ms = core->now.mono_ms;
    if (core->space == CLOUD_CORE_SPACE_PLENTY && !core->resigning) {
        return UINT64_MAX;
    }
    if (now_ms < core->handover_ms) {
        return core->handover_ms;
    }
    core->handover_ms = now_ms + (core->resigning ? CORE_RESIGN_MS : CORE_HANDOVER_MS);
    const uint32_t count = core->group.count;
    for (uint32_t i = 0; i < 2 * count; i++) {
        const uint32_t place = (core->handover_next + i) % count;
        const struct member *member = &core->group.all[place];
        const bool fits = member->replica != core->config.replica && member->configured &&
                          member->role == REPLICA_VOTER &&
                          core_other_near(core, member->replica) &&
                          (member->roomy || (core->resigning && i >= count));
        if (!fits) {
            continue;
        }
        const int status = replica_transfer(core->replica, member->replica);
        if (status == STATUS_FULL) {
            break; /* one is under way, and ends by itself */
        }
        core->handover_next = place + 1;
        core_log(core, core->resigning ? LOGGER_INFO : LOGGER_WARN, "leadership_handed_over",
                 "to=%llu status=%d reason=%s", (unsigned long long)member->replica, status,
                 core->resigning ? "this replica is stopping"
                                 : "the disk of this replica is almost full");
        break;
    }
    return core->handover_ms;
}

uint64_t core_leader_run(struct cloud_core *core)
{
    const uint64_t now_ms = core->now.mono_ms;
    uint64_t next = core_reports_run(core);
    if (!core->leads) {
        return next;
    }
    if (core->resigning) {
        const uint64_t again_ms = core_hand_over(core);
        next = again_ms < next ? again_ms : next;
    }
    if (!core->lead_ready) {
        if (!core->lead_asked && now_ms >= core->lead_retry_ms) {
            core->lead_retry_ms = now_ms + CORE_LEADER_RETRY_MS;
            core->lead_asked =
                forward_read(core->forward, core_on_lead_ready, core, now_ms) == 0;
        }
        return core->lead_asked || next < core->lead_retry_ms ? next : core->lead_retry_ms;
    }
    if (core->machine.meta.cluster[0] == '\0' && !core->init_pending) {
        core_found(core);
    }
    core_level_run(core);
    core_keys_run(core);
    bool more = core_watch(core);
    uint64_t again = core_hand_over(core);
    next = again < next ? again : next;
    again = liveness_run(&core->liveness, now_ms);
    more = (core->stalled == NULL && scheduler_run(core->scheduler)) || more;
    next = again < next ? again : next;
    return more && core->stalled == NULL ? now_ms : next;
}
