#include "nodes/edge/core_inner.h"

#include "schemas/check.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define CORE_FLUSH_BYTES   (8u * 1024u * 1024u)
#define CORE_FLUSH_MS      60000u
#define CORE_STALL_MS      20u   /* before a full store is asked again */
#define CORE_APPLY_BUDGET  256u  /* records applied in one run */
#define CORE_REFUSAL_MS    1000u /* of refused records one is told in this time: a device provokes them at will */

void edge_core_log(struct edge_core *core, enum logger_level level, const char *event,
                   const char *format, ...)
{
    char pairs[LIMIT_LOG_LINE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(pairs, sizeof pairs, format, arguments);
    va_end(arguments);
    core->ops.log(core->ops.context, level, event, pairs);
}

void edge_core_fatal(struct edge_core *core, int status, const char *message)
{
    if (!core->ended) {
        core->ended = true;
        core->ops.fatal(core->ops.context, status, message);
    }
}

/* -- the log ----------------------------------------------------------------------------------- */

/* The log's callback: only takes note, edge_core_run goes on. */
static void core_on_durable(struct log_request *request, int status)
{
    struct core_append *append = request->context;
    if (status != 0) {
        edge_core_fatal(append->core, status, "the log cannot be written");
        return;
    }
    append->durable = true;
}

/* Append one record.
 *   answers  as log_append */
static int core_append(struct edge_core *core, bool from_cloud, struct bytes record,
                       struct hub_mark mark)
{
    if (core->closed || core->ended) {
        return STATUS_CLOSING;
    }
    struct core_append *append = malloc(sizeof *append + record.size);
    CHECK(append != NULL);
    memset(append, 0, sizeof *append);
    memcpy(append->record, record.data, record.size);
    append->core = core;
    append->from_cloud = from_cloud;
    append->mark = mark;
    append->size = record.size;
    append->piece = bytes_of(append->record, record.size);
    append->entry = (struct log_entry){
        .type = from_cloud ? LOG_TYPE_DOWN : LOG_TYPE_UP,
        .piece_count = 1,
        .pieces = &append->piece,
    };
    append->request.callback = core_on_durable;
    append->request.context = append;
    const int status = log_append(core->log, &append->request, &append->entry, 1);
    if (status != 0) {
        free(append);
        return status;
    }
    if (core->appends_tail == NULL) {
        core->appends_head = append;
    } else {
        core->appends_tail->next = append;
    }
    core->appends_tail = append;
    core->flush_log_bytes += record.size;
    return 0;
}

/* Append a record of our own making. */
int edge_core_append_fact(struct edge_core *core, uint16_t kind, const char *key,
                            struct bytes body)
{
    struct bytes record;
    if (core->space == SPACE_NONE && kind != RECORD_UP_ACK) {
        return -ENOSPC;
    }
    const int status = codec_record_build(core->codec_build,
                                          &(struct record){
                                              .kind = kind,
                                              .key = key,
                                              .origin = core->config.node,
                                              .time_ms = core->now.wall_ms,
                                              .body = body,
                                          },
                                          &record);
    return status != 0 ? status : core_append(core, false, record, (struct hub_mark){0});
}

/* -- applying ---------------------------------------------------------------------------------- */

static void core_on_attempt(struct edge_core *core, struct bytes bytes)
{
    struct record record;
    struct pod_attempt attempt;
    codec_reset(core->codec_read);
    if (codec_record_read(core->codec_read, bytes, &record) == 0 &&
        codec_pod_attempt_read(core->codec_read, record.body, &attempt) == 0) {
        pods_attempt_recorded(core->pods, attempt.uid, attempt.container, attempt.attempt);
    }
}

/* Act upon pods: from here on containers that nobody wishes for end. Never before all wishes were known once: on a
 * data directory that is new, because the one before was lost, those of wanted pods may run, and are adopted. */
static void core_pods_begin(struct edge_core *core)
{
    if (!core->pods_begun) {
        core->pods_begun = true;
        pods_begin(core->pods);
    }
}

static void core_tell_refused(struct edge_core *core, const struct edge_applied *applied,
                              struct bytes bytes)
{
    struct record record;
    if (core->now.mono_ms < core->refusal_ms) {
        core->refusals++;
        return;
    }
    codec_reset(core->codec_read);
    const bool read = codec_record_read(core->codec_read, bytes, &record) == 0;
    char kind[16], key[LOGGER_VALUE_BYTES], part[LOGGER_VALUE_BYTES];
    edge_core_log(core, LOGGER_WARN, "record_refused",
                  "kind=%s outcome=%s others=%llu key=%s part=%.128s reason=%s",
                  record_kind_text(applied->kind, kind), edge_outcome_text(applied->outcome),
                  (unsigned long long)core->refusals, logger_value(key, read ? record.key : ""),
                  logger_value(part, applied->refused_part == NULL ? "" : applied->refused_part),
                  applied->refused_reason == NULL ? "" : applied->refused_reason);
    core->refusal_ms = core->now.mono_ms + CORE_REFUSAL_MS;
    core->refusals = 0;
}

/* What a record did, told to whom it concerns. Not during replay: then nobody acts yet. */
static void core_on_applied(struct edge_core *core, const struct edge_applied *applied,
                            struct bytes record)
{
    if (applied->outcome >= EDGE_REFUSED_MALFORMED) {
        core_tell_refused(core, applied, record);
    }
    if (applied->refused_count > 0 || applied->unknown_count > 0) {
        edge_core_log(core, LOGGER_WARN, "records_refused", "refused=%u unknown=%u",
                 applied->refused_count, applied->unknown_count);
    }
    if (applied->digest_differs) {
        core->digest_alarms++;
        edge_core_log(core, LOGGER_ERROR, "digest_differed", "position=%llu",
                 (unsigned long long)edge_machine_meta(core->machine)->down_position);
    }
    edge_core_tell_bus(core, applied);
    if (!core->started) {
        return;
    }
    if (applied->kind == RECORD_POD_ATTEMPT &&
        (applied->outcome == EDGE_ACCEPTED || applied->outcome == EDGE_DUPLICATE)) {
        core_on_attempt(core, record);
    }
    if (applied->all_changed) {
        edge_core_desire_all(core);
        core_pods_begin(core);
    }
    for (uint32_t i = 0; i < applied->change_count; i++) {
        edge_core_on_change(core, &applied->changes[i]);
    }
    core->facts = core->facts || applied->up_sequence > 0 || applied->gap_recorded;
}

/* What was applied, into the store. What is told to others meanwhile rests on the log, which has it.
 *   answers  whether the store took it; if not, the group stays open and is offered again after a while, with what
 *            came meanwhile, LIMIT_EDGE_GROUP_BYTES of it */
static bool core_commit_group(struct edge_core *core)
{
    const uint64_t before = store_position(core->store);
    const int status = edge_machine_commit(core->machine);
    if (status == STATUS_FULL || status == -ENOSPC) { /* it waits for the disk, or for room on it */
        core->stalled_ms = core->now.mono_ms + CORE_STALL_MS;
        return false;
    }
    if (status != 0) {
        edge_core_fatal(core, status, store_error(core->store));
        return false;
    }
    if (core->flush_due_ms == 0 && store_position(core->store) > before) {
        core->flush_due_ms = core->now.mono_ms + core->config.flush_ms;
    }
    return true;
}

/* Apply what is durable, in the order of the log, as one group. Answers whether more could be done now. */
static bool core_apply_durable(struct edge_core *core)
{
    bool wanted = edge_machine_meta(core->machine)->snapshot_wanted;
    const bool wanted_before = wanted;
    bool differs = false;
    uint32_t count = 0;
    if (!edge_machine_in_group(core->machine)) {
        if (core->appends_head == NULL || !core->appends_head->durable) {
            return false;
        }
        edge_machine_begin(core->machine);
    }
    while (core->appends_head != NULL && core->appends_head->durable && !core->ended) {
        if (count == CORE_APPLY_BUDGET || edge_machine_group_is_full(core->machine)) {
            break;
        }
        struct core_append *append = core->appends_head;
        const struct bytes record = bytes_of(append->record, append->size);
        struct edge_applied applied;
        const int status =
            edge_machine_apply(core->machine, append->request.index, record, &applied);
        if (status != 0) {
            edge_core_fatal(core, status, store_error(core->store));
            return false;
        }
        count++;
        core_on_applied(core, &applied, record);
        differs = differs || applied.digest_differs || applied.outcome == EDGE_REFUSED_DIGEST;
        core->appends_head = append->next;
        if (core->appends_head == NULL) {
            core->appends_tail = NULL;
        }
        if (append->from_bus) {
            bus_applied(core->bus);
        }
        if (append->from_cloud && core->started) {
            hub_on_settled(&core->hub, append->mark, core->now.mono_ms);
        }
        free(append);
    }
    wanted = edge_machine_meta(core->machine)->snapshot_wanted;
    if (core->started && wanted && (!wanted_before || differs)) {
        hub_want_snapshot(&core->hub, core->now.mono_ms);
    }
    return core_commit_group(core) && core->appends_head != NULL && core->appends_head->durable;
}

/* -- the hub's door ---------------------------------------------------------------------------- */

static void core_hub_dial(void *context, uint32_t address)
{
    struct edge_core *core = context;
    core->ops.link_dial(core->ops.context, address);
}

static int core_hub_send(void *context, struct bytes frame)
{
    struct edge_core *core = context;
    return core->ops.link_send(core->ops.context, frame);
}

static bool core_hub_room(void *context)
{
    struct edge_core *core = context;
    return core->ops.link_room(core->ops.context);
}

static void core_hub_close(void *context)
{
    struct edge_core *core = context;
    core->ops.link_close(core->ops.context);
}

static void core_hub_random(void *context, void *buffer, size_t size)
{
    struct edge_core *core = context;
    core->ops.random(core->ops.context, buffer, size);
}

static void core_hub_log(void *context, bool warning, const char *event, const char *pairs)
{
    struct edge_core *core = context;
    core->ops.log(core->ops.context, warning ? LOGGER_WARN : LOGGER_INFO, event, pairs);
}

static void core_hub_hello(void *context, struct hello *out)
{
    edge_machine_hello(((struct edge_core *)context)->machine, out);
}

static int core_hub_up_read(void *context, uint64_t after, size_t max_bytes, struct codec *codec,
                            struct batch *out)
{
    struct edge_core *core = context;
    const int status = edge_up_read(core->machine, after, max_bytes, codec, out);
    if (status_is_fault(status)) {
        edge_core_fatal(core, status, store_error(core->store));
    }
    return status;
}

static int core_hub_append(void *context, struct bytes record, struct hub_mark mark)
{
    return core_append(context, true, record, mark);
}

static int core_append_init(struct edge_core *core, const char *cluster, uint64_t up_stream)
{
    struct bytes body;
    codec_reset(core->codec_build);
    const struct stream_init init = {
        .node = core->config.node,
        .cluster = cluster,
        .up_stream = up_stream,
    };
    const int status = codec_stream_init_build(core->codec_build, &init, &body);
    return status != 0 ? status : edge_core_append_fact(core, RECORD_STREAM_INIT, "", body);
}

/* The first Welcome says which cluster we belong to; a snapshot may mean that the cloud has forgotten
 * what it knew of this node, so we say again what we are. */
static void core_hub_welcomed(void *context, const struct welcome *welcome)
{
    struct edge_core *core = context;
    const struct edge_meta *meta = edge_machine_meta(core->machine);
    if (meta->cluster[0] == '\0' && core_append_init(core, welcome->cluster, meta->up_stream) != 0) {
        edge_core_log(core, LOGGER_WARN, "cluster_not_recorded", "cluster=%s", welcome->cluster);
    }
    if (welcome->mode == WELCOME_SNAPSHOT && core->node_status != NULL) {
        codec_reset(core->codec_build);
        (void)edge_core_append_fact(core, RECORD_NODE_STATUS,
                               codec_print(core->codec_build, "/nodes//%s", core->config.node),
                               bytes_of(core->node_status, core->node_status_size));
    }
}

static void core_hub_up_acked(void *context, uint64_t stream, uint64_t position)
{
    struct edge_core *core = context;
    const struct edge_meta *meta = edge_machine_meta(core->machine);
    struct bytes body;
    if (stream != meta->up_stream || position <= meta->up_acked) {
        return;
    }
    codec_reset(core->codec_build);
    const struct down_ack ack = {
        .node = core->config.node,
        .stream = stream,
        .position = position,
    };
    /* One that the log does not take is told by the next Ack or Welcome. */
    if (codec_down_ack_build(core->codec_build, &ack, &body) == 0) {
        (void)edge_core_append_fact(core, RECORD_UP_ACK, "", body);
    }
}

/* -- life -------------------------------------------------------------------------------------- */

static void core_init_doors(struct edge_core *core)
{
    core->hub_door = (struct hub_door){
        .context = core,
        .dial = core_hub_dial,
        .send = core_hub_send,
        .room = core_hub_room,
        .close = core_hub_close,
        .random = core_hub_random,
        .log = core_hub_log,
        .hello = core_hub_hello,
        .up_read = core_hub_up_read,
        .append = core_hub_append,
        .welcomed = core_hub_welcomed,
        .shut_out = edge_core_keys_take,
        .up_acked = core_hub_up_acked,
    };
    edge_core_init_pods(core);
}

/* End a group of a replay. Nobody waits for us yet, so we wait for the disk.
 *   io_waited  whether that was said
 *   answers    as edge_machine_commit */
static int core_replay_commit(struct edge_core *core, bool *io_waited)
{
    int status;
    while ((status = edge_machine_commit(core->machine)) == STATUS_FULL) {
        if (!*io_waited) {
            *io_waited = true;
            edge_core_log(core, LOGGER_INFO, "log_replay_waits",
                          "position=%llu reason=compactions of the state have to catch up",
                          (unsigned long long)edge_machine_position(core->machine));
        }
        status = store_wait(core->store);
        if (status != STATUS_OK) {
            break;
        }
    }
    return status;
}

/* Fold what the log holds above the state, in groups. Synchronous: nothing acts yet. */
static int core_replay(struct edge_core *core, char *reason)
{
    struct log_cursor cursor;
    struct log_frame frame;
    uint64_t count = 0;
    bool waited = false;
    int status;
    const uint64_t first = edge_machine_position(core->machine) + 1;
    if (first < log_index_first(core->log) || first > log_index_next(core->log)) {
        snprintf(reason, 256,
                 "the state is of record %llu, the log begins at %llu and ends before %llu",
                 (unsigned long long)(first - 1), (unsigned long long)log_index_first(core->log),
                 (unsigned long long)log_index_next(core->log));
        return STATUS_CORRUPT;
    }
    log_cursor_open(&cursor, core->log, first);
    edge_machine_begin(core->machine);
    while ((status = log_cursor_next(&cursor, &frame)) == LOG_CURSOR_FRAME) {
        struct edge_applied applied;
        status = edge_machine_apply(core->machine, frame.index, frame.payload, &applied);
        if (status != 0) {
            break;
        }
        core_on_applied(core, &applied, frame.payload);
        count++;
        if (edge_machine_group_is_full(core->machine)) {
            status = core_replay_commit(core, &waited);
            if (status != 0) {
                break;
            }
            edge_machine_begin(core->machine);
        }
    }
    log_cursor_close(&cursor);
    if (status == LOG_CURSOR_END) {
        const int committed = core_replay_commit(core, &waited);
        status = committed != 0 ? committed : status;
    }
    if (status != LOG_CURSOR_END) {
        snprintf(reason, 256, "the log cannot be replayed: %s",
                 status < 0 ? status_text(status) : "frames are missing");
        return status < 0 ? status : STATUS_CORRUPT;
    }
    edge_core_log(core, LOGGER_INFO, "log_replayed", "records=%llu position=%llu",
             (unsigned long long)count, (unsigned long long)edge_machine_position(core->machine));
    return 0;
}

/* Who we are is in the state: begin to act. */
static void core_start(struct edge_core *core)
{
    const struct edge_meta *meta = edge_machine_meta(core->machine);
    core->started = true;
    edge_core_log(core, LOGGER_INFO, "edge_started",
             "node=%s cluster=%s up_stream=%llx up_last=%llu down_stream=%llu down_position=%llu",
             meta->node, meta->cluster[0] == '\0' ? "none" : meta->cluster,
             (unsigned long long)meta->up_stream, (unsigned long long)meta->up_last,
             (unsigned long long)meta->down_stream, (unsigned long long)meta->down_position);
    edge_core_desire_all(core);
    if (meta->down_stream != 0) {
        core_pods_begin(core);
    } else {
        edge_core_log(core, LOGGER_INFO, "pods_wait",
                      "reason=this data directory is new, and no wishes are known yet: containers of this "
                      "node that run are left alone until the cloud has told which are wanted");
    }
}

int edge_core_open(const struct edge_core_config *config, const struct edge_core_ops *ops,
                   struct store *store, struct log *log, struct pods_time now,
                   struct edge_core **out, char *reason)
{
    struct edge_core *core = calloc(1, sizeof *core);
    CHECK(core != NULL);
    core->config = *config;
    core->ops = *ops;
    core->store = store;
    core->log = log;
    core->now = now;
    if (core->config.flush_bytes == 0) {
        core->config.flush_bytes = CORE_FLUSH_BYTES;
    }
    if (core->config.flush_ms == 0) {
        core->config.flush_ms = CORE_FLUSH_MS;
    }
    core->uids = calloc(LIMIT_PODS, sizeof *core->uids);
    CHECK(core->uids != NULL);
    core->codec_build = codec_create();
    core->codec_read = codec_create();
    core->codec_lookup = codec_create();
    core_init_doors(core);
    hub_init(&core->hub, &core->hub_door, config->address_count, config->backoff_ms_max,
             config->software, config->labels, config->label_count);
    core->pods = pods_create(&core->config.pods, &core->pods_door);

    int status = edge_machine_open(store, NULL, &core->machine);
    if (status != 0) {
        snprintf(reason, 256, "the state cannot be read: %s", store_error(store));
    } else {
        status = edge_core_keys_open(core, reason);
    }
    if (status == 0) {
        status = core_replay(core, reason);
    }
    if (status == 0) {
        const struct edge_meta *meta = edge_machine_meta(core->machine);
        if (meta->node[0] != '\0' && strcmp(meta->node, config->node) != 0) {
            snprintf(reason, 256, "the data directory belongs to node %.200s", meta->node);
            status = STATUS_FOREIGN;
        } else if (meta->node[0] == '\0') {
            uint64_t stream = 0;
            while (stream == 0) {
                ops->random(ops->context, &stream, sizeof stream);
                stream &= ~FEED_SNAPSHOT_BIT;
            }
            status = core_append_init(core, "", stream);
            if (status != 0) {
                snprintf(reason, 256, "the log takes nothing: %s", status_text(status));
            }
        }
    }
    if (status != 0) {
        edge_core_close(core);
        return status;
    }
    edge_core_open_bus(core);
    *out = core;
    return 0;
}

void edge_core_stop(struct edge_core *core, struct pods_time now)
{
    core->now = now;
    hub_stop(&core->hub, now.mono_ms);
    core->stopping = true;
    core->bus_leave_ms = now.mono_ms + LIMIT_STOP_BUS_MS;
    bus_leave(core->bus, edge_core_bus_time(core));
}

/* Stopping: nothing is appended once all is that clients had said, as their libraries acknowledged it.
 *   answers  when to look again at the latest */
static uint64_t core_stop_bus(struct edge_core *core)
{
    if (!core->stopping || core->closed) {
        return UINT64_MAX;
    }
    const bool left = bus_left(core->bus);
    if (!left && core->now.mono_ms < core->bus_leave_ms) {
        return core->bus_leave_ms;
    }
    if (!left) {
        edge_core_log(core, LOGGER_WARN, "messages_lost",
                      "count=%llu reason=the log did not take them within %u ms of the stop",
                      (unsigned long long)bus_report(core->bus).waiting, LIMIT_STOP_BUS_MS);
    }
    core->closed = true;
    return UINT64_MAX;
}

bool edge_core_idle(const struct edge_core *core)
{
    bool written = true;
    for (const struct core_append *a = core->appends_head; a != NULL; a = a->next) {
        written = written && a->durable;
    }
    return core->closed && written && !core->flushing;
}

void edge_core_close(struct edge_core *core)
{
    if (core == NULL) {
        return;
    }
    free(core->shut_out);
    pods_destroy(core->pods);
    bus_destroy(core->bus);
    hub_deinit(&core->hub);
    if (core->machine != NULL) {
        edge_machine_close(core->machine);
    }
    while (core->appends_head != NULL) {
        struct core_append *append = core->appends_head;
        core->appends_head = append->next;
        free(append);
    }
    codec_destroy(core->codec_build);
    codec_destroy(core->codec_read);
    codec_destroy(core->codec_lookup);
    free(core->node_status);
    free(core->node_status_plain);
    free(core->uids);
    free(core);
}

/* -- inputs ------------------------------------------------------------------------------------ */

void edge_core_link_up(struct edge_core *core, struct pods_time now)
{
    core->now = now;
    hub_on_link_up(&core->hub, now.mono_ms);
}

void edge_core_link_down(struct edge_core *core, int status, const char *reason,
                         struct pods_time now)
{
    core->now = now;
    if (status != 0) {
        edge_core_log(core, LOGGER_WARN, "link_failed", "status=%d reason=%s", status, reason);
    }
    hub_on_link_down(&core->hub, now.mono_ms);
}

void edge_core_on_link(struct edge_core *core, struct bytes frame, struct pods_time now)
{
    if (!core->stopping && !core->ended) {
        core->now = now;
        core->hub.wall_ms = now.wall_ms;
        hub_on_frame(&core->hub, frame, now.mono_ms);
    }
}

void edge_core_link_writable(struct edge_core *core)
{
    hub_on_writable(&core->hub, core->now.mono_ms);
}

void edge_core_on_answer(struct edge_core *core, uint64_t id, const struct driver_answer *answer,
                         struct pods_time now)
{
    pods_on_answer(core->pods, id, answer, now);
    core->pods_due_ms = 0;
}

void edge_core_on_volumes(struct edge_core *core, const char *uid, int status, const char *message,
                          struct pods_time now)
{
    pods_on_volumes(core->pods, uid, status, message, now);
    core->pods_due_ms = 0;
}

void edge_core_on_removed(struct edge_core *core, const char *uid, int status, const char *message,
                          struct pods_time now)
{
    pods_on_removed(core->pods, uid, status, message, now);
    core->pods_due_ms = 0;
}

void edge_core_hint(struct edge_core *core)
{
    pods_hint(core->pods);
    core->pods_due_ms = 0;
}

static void core_keep(uint8_t **keep, size_t *keep_size, struct bytes bytes)
{
    free(*keep);
    *keep = aligned_alloc(8, (bytes.size + 7) / 8 * 8);
    CHECK(*keep != NULL);
    memcpy(*keep, bytes.data, bytes.size);
    *keep_size = bytes.size;
}

/* Build a status without its times, to compare. */
static int core_plain_status(struct edge_core *core, const struct node_status *status,
                             struct bytes *out)
{
    struct node_status plain = *status;
    struct condition *conditions =
        codec_array(core->codec_build, plain.condition_count + 1, sizeof *conditions);
    for (uint32_t i = 0; i < plain.condition_count; i++) {
        conditions[i] = status->conditions[i];
        conditions[i].transition_ms = 0;
    }
    plain.conditions = conditions;
    return codec_node_status_build(core->codec_build, &plain, out);
}

void edge_core_node_status(struct edge_core *core, const struct node_status *status,
                           struct pods_time now)
{
    struct bytes plain;
    struct bytes body;
    core->now = now;
    codec_reset(core->codec_build);
    if (!core->started || core_plain_status(core, status, &plain) != 0 ||
        bytes_equal(plain, bytes_of(core->node_status_plain, core->node_status_plain_size))) {
        return;
    }
    if (codec_node_status_build(core->codec_build, status, &body) == 0 &&
        edge_core_append_fact(core, RECORD_NODE_STATUS,
                         codec_print(core->codec_build, "/nodes//%s", core->config.node),
                         body) == 0) {
        core_keep(&core->node_status_plain, &core->node_status_plain_size, plain);
        core_keep(&core->node_status, &core->node_status_size, body);
    }
}

void edge_core_event(struct edge_core *core, const struct edge_event *event, struct pods_time now)
{
    core->now = now;
    edge_core_record_event(core, event);
}

void edge_core_set_space(struct edge_core *core, enum space_level space, struct pods_time now)
{
    core->now = now;
    core->space = space;
    hub_hold(&core->hub, space != SPACE_PLENTY, now.mono_ms);
}

void edge_core_flushed(struct edge_core *core, int status)
{
    CHECK(core->flushing);
    core->flushing = false;
    if (status_is_fault(status)) {
        char message[300];
        snprintf(message, sizeof message, "the state cannot be written: %s",
                 store_error(core->store));
        edge_core_fatal(core, status, message);
        return;
    }
    if (status != 0) {
        edge_core_log(core, LOGGER_WARN, "store_not_flushed", "status=%d reason=%s", status,
                 store_error(core->store));
        return;
    }
    log_release(core->log, store_flushed_position(core->store) + 1);
}

/* -- turns ------------------------------------------------------------------------------------- */

static uint64_t core_earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Start a flush when enough was appended, or long enough ago. */
static uint64_t core_flush(struct edge_core *core)
{
    if (core->flushing || core->flush_due_ms == 0) {
        return UINT64_MAX;
    }
    if (core->now.mono_ms < core->flush_due_ms &&
        core->flush_log_bytes < core->config.flush_bytes) {
        return core->flush_due_ms;
    }
    core->flushing = true;
    core->flush_due_ms = 0;
    core->flush_log_bytes = 0;
    core->ops.flush_store(core->ops.context);
    return UINT64_MAX;
}

uint64_t edge_core_run(struct edge_core *core, struct pods_time now)
{
    core->now = now;
    if (core->ended) {
        return now.mono_ms + CORE_STALL_MS;
    }
    uint64_t next = UINT64_MAX;
    bool more = false;
    if (now.mono_ms >= core->stalled_ms) {
        core->stalled_ms = 0;
        more = core_apply_durable(core);
    }
    if (core->stalled_ms != 0) {
        next = core->stalled_ms;
    }
    if (!core->started && !core->stopping && !core->ended &&
        edge_machine_meta(core->machine)->node[0] != '\0') {
        core_start(core);
    }
    if (core->started && !core->stopping && !core->ended) {
        if (core->facts) {
            core->facts = false;
            hub_on_facts(&core->hub, now.mono_ms);
        }
        core->pods_due_ms = pods_tick(core->pods, now);
        next = core_earlier(next, core->pods_due_ms);
        next = core_earlier(next, hub_tick(&core->hub, now.mono_ms));
    }
    if (!core->ended) {
        next = core_earlier(next, bus_run(core->bus, edge_core_bus_time(core)));
        next = core_earlier(next, core_stop_bus(core));
    }
    if (now.mono_ms >= core->log_tick_ms) {
        core->log_tick_ms = now.mono_ms + 1000;
        log_tick(core->log, now.wall_ms);
        if (log_limited(core->log) != core->log_limited) {
            core->log_limited = !core->log_limited;
            edge_core_log(core, LOGGER_WARN,
                          core->log_limited ? "log_limit_reached" : "log_limit_left", "bytes=%llu",
                          (unsigned long long)log_disk_bytes(core->log));
        }
    }
    next = core_earlier(next, core->log_tick_ms);
    next = core_earlier(next, core_flush(core));
    return more ? now.mono_ms : next;
}

/* -- views ------------------------------------------------------------------------------------- */

struct edge_core_report edge_core_report(const struct edge_core *core)
{
    const struct edge_meta *meta = edge_machine_meta(core->machine);
    return (struct edge_core_report){
        .link_up = core->hub.state == HUB_ACTIVE,
        .applied = edge_machine_position(core->machine),
        .down_stream = meta->down_stream,
        .down_position = meta->down_position,
        .up_stream = meta->up_stream,
        .up_last = meta->up_last,
        .up_acked = meta->up_acked,
        .digest = meta->digest,
        .digest_alarms = core->digest_alarms,
        .cluster = meta->cluster,
        .pods = pods_report(core->pods),
    };
}

struct pod_lookup edge_core_lookup(struct edge_core *core)
{
    return core->pods_door.lookup;
}

const struct pod_status *edge_core_pod(const struct edge_core *core, const char *uid)
{
    return pods_status(core->pods, uid);
}
