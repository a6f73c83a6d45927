/* The world of the sessions: connections, the local copy of the state, proposals. */
#include "nodes/cloud/core_inner.h"

#include "schemas/check.h"

#include <stdio.h>
#include <stdlib.h>

/* -- finding ----------------------------------------------------------------------------------- */

static uint32_t core_bucket_id(uint64_t id)
{
    return (uint32_t)(id * UINT64_C(0x9e3779b97f4a7c15) >> 51) % CORE_BUCKETS;
}

static uint32_t core_bucket_node(const char *node)
{
    uint32_t hash = 2166136261u;
    for (; *node != '\0'; node++) {
        hash = (hash ^ (uint8_t)*node) * 16777619u;
    }
    return hash % CORE_BUCKETS;
}

struct core_session *core_session_find(struct cloud_core *core, uint64_t id)
{
    struct core_session *s = core->by_id[core_bucket_id(id)];
    while (s != NULL && s->session.id != id) {
        s = s->next_id;
    }
    return s;
}

static void core_turn_enter(struct cloud_core *core, struct core_session *s)
{
    if (s->waits) {
        return;
    }
    s->waits = true;
    s->next_turn = NULL;
    s->previous_turn = core->turn_last;
    if (core->turn_last == NULL) {
        core->turn_first = s;
    } else {
        core->turn_last->next_turn = s;
    }
    core->turn_last = s;
}

static void core_turn_leave(struct cloud_core *core, struct core_session *s)
{
    if (!s->waits) {
        return;
    }
    s->waits = false;
    if (s->previous_turn == NULL) {
        core->turn_first = s->next_turn;
    } else {
        s->previous_turn->next_turn = s->next_turn;
    }
    if (s->next_turn == NULL) {
        core->turn_last = s->previous_turn;
    } else {
        s->next_turn->previous_turn = s->previous_turn;
    }
}

void core_session_touch(struct cloud_core *core, const char *node)
{
    for (struct core_session *s = core->by_node[core_bucket_node(node)]; s != NULL;
         s = s->next_node) {
        if (strcmp(s->session.node, node) == 0) {
            s->dirty = true;
            core_turn_enter(core, s);
        }
    }
}

/* -- the door: connections --------------------------------------------------------------------- */

static int core_door_send(void *context, uint64_t session, struct bytes frame)
{
    struct cloud_core *core = context;
    core->turn_bytes += frame.size;
    return core->ops.send_session(core->ops.context, session, frame);
}

static void core_door_want_turn(void *context, uint64_t session)
{
    struct cloud_core *core = context;
    struct core_session *s = core_session_find(core, session);
    CHECK(s != NULL); /* it asks for itself */
    core_turn_enter(core, s);
}

static bool core_door_room(void *context, uint64_t session)
{
    struct cloud_core *core = context;
    return core->ops.session_room(core->ops.context, session);
}

static void core_door_close(void *context, uint64_t session)
{
    struct cloud_core *core = context;
    core->ops.close_session(core->ops.context, session);
}

static void core_door_log(void *context, const struct session *session, bool warning,
                          const char *event, const char *pairs)
{
    struct cloud_core *core = context;
    core_log(core, warning ? LOGGER_WARN : LOGGER_INFO, event, "node=%s session=%llu %s",
             session->node, (unsigned long long)session->id, pairs);
}

static void core_door_on_active(void *context, const struct session *session)
{
    struct cloud_core *core = context;
    core->session_active++;
    core->counts.sessions_opened++;
    core->counts.digests_differed += session->digest_differed;
    core_report(core, session, true);
}

static void core_door_on_inactive(void *context, const struct session *session)
{
    struct cloud_core *core = context;
    CHECK(core->session_active > 0);
    core->session_active--;
    core->counts.sessions_ended++;
    for (struct core_session *s = core->by_node[core_bucket_node(session->node)]; s != NULL;
         s = s->next_node) {
        if (&s->session != session && s->session.state == SESSION_ACTIVE &&
            strcmp(s->session.node, session->node) == 0) {
            return; /* its successor is here too */
        }
    }
    core_report(core, session, false);
}

/* -- the door: state --------------------------------------------------------------------------- */

static int core_door_node_find(void *context, const char *node, struct session_node *out)
{
    struct cloud_core *core = context;
    struct node_row *row = &core->node_row;
    struct store_reader *reader = core_reader(core);
    const int status = core_read(core, node_get(reader, node, row));
    store_reader_reset(reader);
    if (status != STATUS_OK) {
        return status == NODE_NONE ? SESSION_NODE_NONE : status;
    }
    *out = (struct session_node){
        .uid = row->uid,
        .down_stream = row->down_stream,
        .down_tip = row->down_tip,
        .down_acked = row->down_acked,
        .down_floor = row->down_floor,
        .digest = row->digest,
        .up_stream = row->up_stream,
        .up_position = row->up_position,
        .epoch = row->epoch,
    };
    return 0;
}

static const char *core_door_cluster(void *context)
{
    return ((struct cloud_core *)context)->machine.meta.cluster;
}

static uint64_t core_door_shut_out(void *context, struct bytes *out)
{
    const struct cloud_core *core = context;
    *out = bytes_of(core->shut_out, core->shut_out_size);
    return core->shut_out_version;
}

static enum session_kind core_door_knows(void *context, uint16_t kind)
{
    const struct cloud_core *core = context;
    if (!machine_knows(kind)) {
        return SESSION_KIND_UNKNOWN;
    }
    return machine_kind_level(kind) <= machine_level(&core->machine) ? SESSION_KIND_KNOWN
                                                                     : SESSION_KIND_LATER;
}

static int core_door_read(void *context, const char *node, uint64_t stream, uint64_t after,
                          size_t max_bytes, struct bytes *out, uint64_t *out_last)
{
    struct cloud_core *core = context;
    codec_reset(core->codec_read);
    const int answer = delivery_read(core_reader(core), core->codec_read, node, stream, after,
                                     max_bytes, out, out_last);
    if (answer < 0) {
        return core_read(core, answer);
    }
    switch ((enum delivery_answer)answer) {
    case DELIVERY_BATCH:
        return FEED_READ_BATCH;
    case DELIVERY_SNAPSHOT:
        return FEED_READ_SNAPSHOT;
    case DELIVERY_END:
    case DELIVERY_AHEAD:   /* not applied so far yet: more comes with the next entries */
    case DELIVERY_NO_NODE: /* session_on_state finds out */
        return FEED_READ_END;
    }
    return STATUS_CORRUPT;
}

static struct core_snapshot *core_snapshot_find(struct cloud_core *core, const char *node,
                                                uint64_t id)
{
    struct core_snapshot *s = core->snapshots;
    while (s != NULL && (s->snapshot.id != id || strcmp(s->snapshot.node.name, node) != 0)) {
        s = s->next;
    }
    return s;
}

static int core_door_snapshot_open(void *context, const char *node, uint64_t id, bool retell,
                                   uint64_t *out_position)
{
    struct cloud_core *core = context;
    struct core_snapshot *s = calloc(1, sizeof *s);
    CHECK(s != NULL);
    const int status =
        core_read(core, delivery_snapshot_open(&s->snapshot, core->store, node, id, retell));
    if (status != STATUS_OK) {
        free(s);
        return status == NODE_NONE ? STATUS_CLOSING : status;
    }
    *out_position = s->snapshot.node.down_tip;
    s->next = core->snapshots;
    core->snapshots = s;
    return 0;
}

static int core_door_snapshot_next(void *context, const char *node, uint64_t id, size_t max_bytes,
                                   struct bytes *out, bool *out_end)
{
    struct cloud_core *core = context;
    struct core_snapshot *s = core_snapshot_find(core, node, id);
    CHECK(s != NULL);
    codec_reset(core->codec_read);
    return core_read(
        core, delivery_snapshot_next(&s->snapshot, core->codec_read, max_bytes, out, out_end));
}

static void core_door_snapshot_close(void *context, const char *node, uint64_t id)
{
    struct cloud_core *core = context;
    struct core_snapshot *s = core_snapshot_find(core, node, id);
    CHECK(s != NULL);
    struct core_snapshot **at = &core->snapshots;
    while (*at != s) {
        at = &(*at)->next;
    }
    *at = s->next;
    delivery_snapshot_close(&s->snapshot);
    free(s);
}

/* -- the door: proposals ----------------------------------------------------------------------- */

/* A result that the state does not know any more is a fate nobody can tell. */
static int core_session_status(int status, int outcome)
{
    return status == 0 && outcome == REFUSED_STALE_ORIGIN ? STATUS_UNKNOWN : status;
}

static enum session_outcome core_session_outcome(int outcome)
{
    if (outcome_accepted((enum outcome)outcome)) {
        return SESSION_ACCEPTED;
    }
    if (outcome == REFUSED_GAP) {
        return SESSION_REFUSED_GAP;
    }
    const bool fenced = outcome == REFUSED_EPOCH || outcome == REFUSED_STREAM ||
                        outcome == REFUSED_MISSING || outcome == REFUSED_UID;
    return fenced ? SESSION_REFUSED_FENCED : SESSION_REFUSED_OTHER;
}

static void core_on_registered(void *context, uint64_t tag, int status, int outcome, uint64_t value)
{
    struct cloud_core *core = context;
    struct core_session *s = core_session_find(core, tag);
    (void)value;
    if (s == NULL) {
        return;
    }
    const bool there = outcome_accepted((enum outcome)outcome) || outcome == REFUSED_EXISTS;
    status = core_session_status(status, outcome);
    session_on_registered(&s->session, status != 0 || there ? status : STATUS_FOREIGN,
                          core->now.mono_ms);
}

static void core_on_opened(void *context, uint64_t tag, int status, int outcome, uint64_t value)
{
    struct cloud_core *core = context;
    struct core_session *s = core_session_find(core, tag);
    if (s != NULL) {
        session_on_opened(&s->session, core_session_status(status, outcome),
                          core_session_outcome(outcome), value, core->now.mono_ms);
    }
}

static void core_on_batch(void *context, uint64_t tag, int status, int outcome, uint64_t value)
{
    struct cloud_core *core = context;
    struct core_session *s = core_session_find(core, tag);
    if (s == NULL) {
        return;
    }
    if (status == 0 && !outcome_accepted((enum outcome)outcome) && outcome != REFUSED_GAP) {
        core_log(core, LOGGER_WARN, "up_batch_refused", "node=%s outcome=%s", s->session.node,
                 outcome_text((enum outcome)outcome));
    }
    session_on_batch(&s->session, core_session_status(status, outcome),
                     core_session_outcome(outcome), value, core->now.mono_ms);
}

static void core_on_ack(void *context, uint64_t tag, int status, int outcome, uint64_t value)
{
    (void)outcome;
    (void)value;
    struct core_session *s = core_session_find(context, tag);
    if (s != NULL) {
        session_on_acked(&s->session, status);
    }
}

static int core_door_register(void *context, uint64_t session, const struct hello *hello)
{
    struct cloud_core *core = context;
    struct bytes record;
    codec_reset(core->codec_build);
    const int status = core->objects.build_node(&core->backend, core->codec_build, hello->node,
                                                hello->labels, hello->label_count, &record);
    if (status != 0) {
        return status;
    }
    return forward_submit(core->forward, FORWARD_LANE_SESSIONS + session, record,
                          core_on_registered, core, session, core->now.mono_ms);
}

static int core_door_propose_open(void *context, uint64_t session, struct bytes record)
{
    struct cloud_core *core = context;
    return forward_submit(core->forward, FORWARD_LANE_SESSIONS + session, record, core_on_opened,
                          core, session, core->now.mono_ms);
}

static int core_door_propose_batch(void *context, uint64_t session, struct bytes record)
{
    struct cloud_core *core = context;
    return forward_submit(core->forward, FORWARD_LANE_SESSIONS + session, record, core_on_batch,
                          core, session, core->now.mono_ms);
}

static int core_door_propose_ack(void *context, uint64_t session, struct bytes record)
{
    struct cloud_core *core = context;
    return forward_submit(core->forward, FORWARD_LANE_SESSIONS + session, record, core_on_ack, core,
                          session, core->now.mono_ms);
}

/* -- life -------------------------------------------------------------------------------------- */

void core_sessions_init(struct cloud_core *core)
{
    core->session_door = (struct session_door){
        .context = core,
        .send = core_door_send,
        .room = core_door_room,
        .close = core_door_close,
        .log = core_door_log,
        .want_turn = core_door_want_turn,
        .node_find = core_door_node_find,
        .knows = core_door_knows,
        .cluster = core_door_cluster,
        .shut_out = core_door_shut_out,
        .read = core_door_read,
        .snapshot_open = core_door_snapshot_open,
        .snapshot_next = core_door_snapshot_next,
        .snapshot_close = core_door_snapshot_close,
        .register_node = core_door_register,
        .propose_open = core_door_propose_open,
        .propose_batch = core_door_propose_batch,
        .propose_ack = core_door_propose_ack,
        .on_active = core_door_on_active,
        .on_inactive = core_door_on_inactive,
    };
    core->session_config = (struct session_config){
        .replica = core->config.replica,
        .origin = core->config.name,
        .heartbeat_ms = core->config.heartbeat_ms,
        .silence_ms = core->config.unreachable_ms / 2,
        .window_bytes = LIMIT_FEED_WINDOW_BYTES,
    };
    core->session_codecs = (struct session_codecs){
        .in = codec_create(),
        .feed = codec_create(),
        .out = codec_create(),
    };
}

/* What its name takes in a report of all sessions. */
static size_t core_session_name_bytes(const char *node)
{
    return strlen(node) + 32;
}

static void core_session_remove(struct cloud_core *core, struct core_session *s)
{
    struct core_session **at = &core->by_id[core_bucket_id(s->session.id)];
    while (*at != s) {
        at = &(*at)->next_id;
    }
    *at = s->next_id;
    core_turn_leave(core, s);
    session_deinit(&s->session);
    at = &core->by_node[core_bucket_node(s->session.node)];
    while (*at != s) {
        at = &(*at)->next_node;
    }
    *at = s->next_node;
    if (s->previous_all != NULL) {
        s->previous_all->next_all = s->next_all;
    } else {
        core->sessions = s->next_all;
    }
    if (s->next_all != NULL) {
        s->next_all->previous_all = s->previous_all;
    }
    core->session_count--;
    core->session_name_bytes -= core_session_name_bytes(s->session.node);
    free(s);
}

void core_sessions_deinit(struct cloud_core *core)
{
    while (core->sessions != NULL) {
        core_session_remove(core, core->sessions);
    }
    CHECK(core->snapshots == NULL);
    codec_destroy(core->session_codecs.in);
    codec_destroy(core->session_codecs.feed);
    codec_destroy(core->session_codecs.out);
}

/* Say why to a connection that becomes no session. */
static void core_session_refuse(struct cloud_core *core, uint64_t session, enum bye_code code,
                                const char *reason, uint32_t retry_ms)
{
    struct bytes body;
    struct bytes frame;
    const struct bye bye = {.code = (uint16_t)code, .reason = reason, .retry_ms = retry_ms};
    codec_reset(core->codec_build);
    if (codec_bye_build(core->codec_build, &bye, &body) == 0 &&
        codec_frame_build(core->codec_build, WIRE_BYE, body, &frame) == 0) {
        (void)core->ops.send_session(core->ops.context, session, frame);
    }
}

int cloud_core_session_open(struct cloud_core *core, uint64_t session, const char *node,
                            struct cloud_core_time now)
{
    core->now = now;
    if (core->stopping || core->ended) {
        return STATUS_CLOSING;
    }
    if (core->dismissed) {
        core_session_refuse(core, session, BYE_SHUTDOWN, "this cloudcore is stopping", 0);
        return STATUS_CLOSING;
    }
    if (core_behind(core)) {
        core_session_refuse(core, session, BYE_BEHIND, "this cloudcore is being brought up to date",
                            SESSION_RETRY_MS);
        return STATUS_BEHIND;
    }
    if (core_contested(core) && !core_works(core)) { /* it would take from the edge what the others wish */
        core_session_refuse(core, session, BYE_BEHIND,
                            "another group works as this cluster, in an epoch of before",
                            SESSION_RETRY_MS);
        return STATUS_BEHIND;
    }
    if (core->session_count >= core->config.session_max || strlen(node) > LIMIT_NAME_BYTES ||
        core->session_name_bytes + core_session_name_bytes(node) > LIMIT_SESSIONS_NAME_BYTES) {
        core_session_refuse(core, session, BYE_OVERLOAD, "too many sessions", 5 * SESSION_RETRY_MS);
        return STATUS_FULL;
    }
    CHECK(core_session_find(core, session) == NULL);

    struct core_session *s = calloc(1, sizeof *s);
    CHECK(s != NULL);
    session_init(&s->session, session, node, &core->session_door, &core->session_config,
                 &core->session_codecs, now.mono_ms);
    struct core_session **id = &core->by_id[core_bucket_id(session)];
    s->next_id = *id;
    *id = s;
    struct core_session **name = &core->by_node[core_bucket_node(node)];
    s->next_node = *name;
    *name = s;
    s->next_all = core->sessions;
    if (core->sessions != NULL) {
        core->sessions->previous_all = s;
    }
    core->sessions = s;
    core->session_count++;
    core->session_name_bytes += core_session_name_bytes(node);
    return 0;
}

void cloud_core_on_session(struct cloud_core *core, uint64_t session, struct bytes frame,
                           struct cloud_core_time now)
{
    struct core_session *s = core_session_find(core, session);
    if (s != NULL && !core->stopping && !core->ended) {
        core->now = now;
        session_on_frame(&s->session, frame, now.mono_ms);
    }
}

void cloud_core_session_writable(struct cloud_core *core, uint64_t session)
{
    struct core_session *s = core_session_find(core, session);
    if (s != NULL && s->session.state == SESSION_ACTIVE) {
        session_on_writable(&s->session, core->now.mono_ms);
    }
}

void cloud_core_session_closed(struct cloud_core *core, uint64_t session,
                               struct cloud_core_time now)
{
    struct core_session *s = core_session_find(core, session);
    if (s != NULL) {
        core->now = now;
        core_session_remove(core, s);
    }
}

/* Those whose turn it is, in the order in which they asked; the rest when the core runs again. */
static void core_turns_run(struct cloud_core *core)
{
    core->turn_bytes = 0;
    for (uint32_t i = 0; i < LIMIT_SESSIONS_TURN && core->turn_first != NULL &&
                         core->turn_bytes < LIMIT_SESSIONS_TURN_BYTES;
         i++) {
        struct core_session *s = core->turn_first;
        core_turn_leave(core, s);
        if (s->dirty) {
            s->dirty = false;
            session_on_state(&s->session, core->now.mono_ms);
        } else {
            session_turn(&s->session);
        }
    }
}

uint64_t core_sessions_run(struct cloud_core *core)
{
    const uint64_t now_ms = core->now.mono_ms;
    if (now_ms >= core->session_tick_ms) {
        core->session_tick_ms = now_ms + CORE_SESSION_MS;
        for (struct core_session *s = core->sessions; s != NULL; s = s->next_all) {
            (void)session_tick(&s->session, now_ms);
        }
    }
    core_turns_run(core);
    return core->session_count > 0 ? core->session_tick_ms : UINT64_MAX;
}

bool cloud_core_session_report(const struct cloud_core *core, const char *node,
                               struct cloud_core_session_report *out)
{
    for (const struct core_session *s = core->by_node[core_bucket_node(node)]; s != NULL;
         s = s->next_node) {
        if (s->session.state == SESSION_ACTIVE && strcmp(s->session.node, node) == 0) {
            *out = (struct cloud_core_session_report){
                .epoch = s->session.epoch,
                .down_sent = s->session.down.sent,
                .down_acked = s->session.down.acked,
                .up_taken = s->session.up.position,
                .up_applied = s->session.up.settled,
            };
            return true;
        }
    }
    return false;
}
