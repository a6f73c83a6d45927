#include "nodes/cloud/session.h"

#include "schemas/check.h"

#include <stdarg.h>
#include <stdio.h>

/* -- states ------------------------------------------------------------------------------------ */

static const bool session_moves[SESSION_STATES][SESSION_STATES] = {
    [SESSION_HELLO] = {[SESSION_REGISTER] = true, [SESSION_OPEN] = true, [SESSION_LEAVING] = true},
    [SESSION_REGISTER] = {[SESSION_OPEN] = true, [SESSION_LEAVING] = true},
    [SESSION_OPEN] = {[SESSION_BEHIND] = true, [SESSION_ACTIVE] = true, [SESSION_LEAVING] = true},
    [SESSION_BEHIND] = {[SESSION_ACTIVE] = true, [SESSION_LEAVING] = true},
    [SESSION_ACTIVE] = {[SESSION_LEAVING] = true},
    [SESSION_LEAVING] = {false},
};

static void session_move(struct session *session, enum session_state to, uint64_t deadline_ms)
{
    CHECK(session_moves[session->state][to]);
    CHECK_IF(to == SESSION_ACTIVE, session->epoch > 0);
    session->state = to;
    session->deadline_ms = deadline_ms;
}

__attribute__((format(printf, 4, 5))) static void session_log(const struct session *session,
                                                              bool warning, const char *event,
                                                              const char *format, ...)
{
    char pairs[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(pairs, sizeof pairs, format, arguments);
    va_end(arguments);
    session->door->log(session->door->context, session, warning, event, pairs);
}

/* -- frames out -------------------------------------------------------------------------------- */

/* Wrap and send a body that was built in codecs->out. */
static int session_send(struct session *session, uint16_t kind, struct bytes body)
{
    struct bytes frame;
    const int status = codec_frame_build(session->codecs->out, kind, body, &frame);
    if (status != 0) {
        return status;
    }
    return session->door->send(session->door->context, session->id, frame);
}

void session_leave(struct session *session, enum bye_code code, const char *reason,
                   uint32_t retry_ms)
{
    if (session->state == SESSION_LEAVING) {
        return;
    }
    const bool was_active = session->state == SESSION_ACTIVE;
    session_move(session, SESSION_LEAVING, 0);
    if (was_active) {
        feed_sender_deinit(&session->down);
        session->door->on_inactive(session->door->context, session);
    }
    session_log(session, code != BYE_SHUTDOWN && code != BYE_REPLACED, "session_left",
                "code=%d reason=%s", (int)code, reason);

    struct bytes body;
    codec_reset(session->codecs->out);
    const struct bye bye = {.code = (uint16_t)code, .reason = reason, .retry_ms = retry_ms};
    if (codec_bye_build(session->codecs->out, &bye, &body) == 0) {
        (void)session_send(session, WIRE_BYE, body); /* a courtesy: closing says it too */
    }
    session->door->close(session->door->context, session->id);
}

/* Say an Ack now, or keep it until there is room. */
static void session_send_acks(struct session *session)
{
    while (session->state == SESSION_ACTIVE) {
        if (!session->ack_pending && !feed_receiver_take_due(&session->up, &session->ack)) {
            return;
        }
        session->ack_pending = true;
        struct bytes body;
        codec_reset(session->codecs->out);
        int status = codec_ack_build(session->codecs->out, &session->ack, &body);
        if (status == 0) {
            status = session_send(session, WIRE_ACK, body);
        }
        if (status != 0) {
            return; /* full: session_on_writable; dead: session_deinit follows */
        }
        session->ack_pending = false;
    }
}

/* -- the down feed ----------------------------------------------------------------------------- */

static int session_feed_read(void *context, uint64_t after, size_t max_bytes, struct bytes *out,
                             uint64_t *out_last)
{
    struct session *session = context;
    return session->door->read(session->door->context, session->node, session->down.stream, after,
                               max_bytes, out, out_last);
}

static int session_feed_snapshot_open(void *context, uint64_t id, uint64_t *out_position)
{
    struct session *session = context;
    const bool retell = session->down_stream != session->down.stream;
    const int status = session->door->snapshot_open(session->door->context, session->node, id,
                                                    retell, out_position);
    if (status == 0) {
        session_log(session, false, "snapshot_began", "position=%llu",
                    (unsigned long long)*out_position);
    }
    return status;
}

static int session_feed_snapshot_next(void *context, uint64_t id, size_t max_bytes,
                                      struct bytes *out, bool *out_end)
{
    struct session *session = context;
    return session->door->snapshot_next(session->door->context, session->node, id, max_bytes, out,
                                        out_end);
}

static void session_feed_snapshot_close(void *context, uint64_t id)
{
    struct session *session = context;
    session->door->snapshot_close(session->door->context, session->node, id);
}

static bool session_feed_room(void *context)
{
    struct session *session = context;
    if (session->turn_bytes >= LIMIT_SESSION_TURN_BYTES) {
        session->turn_over = true;
        return false;
    }
    session->down_blocked = !session->door->room(session->door->context, session->id);
    return !session->down_blocked;
}

static int session_feed_send(void *context, uint16_t kind, struct bytes body)
{
    struct session *session = context;
    session->turn_bytes += body.size;
    codec_reset(session->codecs->out);
    return session_send(session, kind, body);
}

static void session_want_turn(const struct session *session)
{
    if (session->state == SESSION_ACTIVE) {
        session->door->want_turn(session->door->context, session->id);
    }
}

void session_turn(struct session *session)
{
    if (session->state != SESSION_ACTIVE) {
        return;
    }
    session->turn_bytes = 0;
    session->turn_over = false;
    const int status = feed_sender_pump(&session->down);
    if (status != 0) {
        session_log(session, true, "session_feed_failed", "status=%d reason=%s", status,
                    status_text(status));
        session_leave(session, BYE_BEHIND, "the node's log cannot be read here now",
                      SESSION_RETRY_MS);
    } else if (session->turn_over) {
        session_want_turn(session);
    }
}

/* Tell the state what the edge has made durable; one that is not taken is told by the next Ack. */
static void session_propose_ack(struct session *session)
{
    if (session->down.acked <= session->down_acked) {
        return;
    }
    struct bytes body;
    struct bytes record;
    struct codec *codec = session->codecs->out;
    codec_reset(codec);
    int status = codec_down_ack_build(codec,
                                      &(struct down_ack){
                                          .node = session->node,
                                          .epoch = session->epoch,
                                          .stream = session->down.stream,
                                          .position = session->down.acked,
                                      },
                                      &body);
    if (status == 0) {
        status = codec_record_build(codec,
                                    &(struct record){
                                        .kind = RECORD_DOWN_ACK,
                                        .key = codec_print(codec, "/nodes//%s", session->node),
                                        .origin = session->config->origin,
                                        .body = body,
                                    },
                                    &record);
    }
    if (status == 0 &&
        session->door->propose_ack(session->door->context, session->id, record) == 0) {
        session->down_acked = session->down.acked;
    }
}

/* -- becoming active --------------------------------------------------------------------------- */

void session_init(struct session *session, uint64_t id, const char *node,
                  const struct session_door *door, const struct session_config *config,
                  const struct session_codecs *codecs, uint64_t now_ms)
{
    CHECK(strlen(node) <= LIMIT_NAME_BYTES);

    *session = (struct session){
        .id = id,
        .state = SESSION_HELLO,
        .door = door,
        .config = config,
        .codecs = codecs,
        .heard_ms = now_ms,
        .deadline_ms = now_ms + SESSION_HELLO_MS,
    };
    memcpy(session->node, node, strlen(node) + 1);
}

void session_deinit(struct session *session)
{
    if (session->state == SESSION_ACTIVE) {
        feed_sender_deinit(&session->down);
        session_move(session, SESSION_LEAVING, 0);
        session->door->on_inactive(session->door->context, session);
    }
}

/* Propose SESSION_OPEN for the node as it is now. */
static void session_open(struct session *session, const struct session_node *node, uint64_t now_ms)
{
    if (strlen(node->uid) >= sizeof session->uid) {
        session_leave(session, BYE_PROTOCOL, "the node's uid is too long", SESSION_RETRY_MS);
        return;
    }
    memcpy(session->uid, node->uid, strlen(node->uid) + 1);

    struct bytes body;
    struct bytes record;
    struct codec *codec = session->codecs->out;
    codec_reset(codec);
    int status = codec_session_open_build(codec,
                                          &(struct session_open){
                                              .node = session->node,
                                              .uid = session->uid,
                                              .replica = session->config->replica,
                                              .up_stream = session->up_stream,
                                              .up_position = session->up_first,
                                          },
                                          &body);
    if (status == 0) {
        status = codec_record_build(codec,
                                    &(struct record){
                                        .kind = RECORD_SESSION_OPEN,
                                        .key = codec_print(codec, "/nodes//%s", session->node),
                                        .origin = session->config->origin,
                                        .body = body,
                                    },
                                    &record);
    }
    if (status == 0) {
        status = session->door->propose_open(session->door->context, session->id, record);
    }
    if (status != 0) {
        session_leave(session, BYE_OVERLOAD, "no room for proposals", 2 * SESSION_RETRY_MS);
        return;
    }
    session_move(session, SESSION_OPEN, now_ms + SESSION_PROPOSE_MS);
}

static uint64_t session_shut_out(const struct session *session, struct bytes *out)
{
    *out = bytes_of(NULL, 0);
    return session->door->shut_out == NULL ? 0
                                           : session->door->shut_out(session->door->context, out);
}

/* Welcome: resume, or a snapshot first. */
static void session_activate(struct session *session, const struct session_node *node,
                             uint64_t now_ms)
{
    const bool same_stream = session->down_stream == node->down_stream;
    const bool differs = session->down_position == node->down_tip &&
                         !tag_equal(session->digest, node->digest);
    const bool resume = same_stream && session->down_position >= node->down_floor && !differs;
    session->digest_differed = same_stream && differs;
    session->down_tip = node->down_tip;
    if (session->digest_differed) {
        session_log(session, true, "digest_differed", "position=%llu",
                    (unsigned long long)session->down_position);
    }

    struct bytes body;
    struct bytes shut_out;
    struct codec *codec = session->codecs->out;
    session->keys_told = session_shut_out(session, &shut_out);
    codec_reset(codec);
    int status = codec_welcome_build(codec,
                                     &(struct welcome){
                                         .version = session->version,
                                         .cluster = session->door->cluster(session->door->context),
                                         .epoch = session->epoch,
                                         .mode = resume ? WELCOME_RESUME : WELCOME_SNAPSHOT,
                                         .down_stream = node->down_stream,
                                         .down_tip = node->down_tip,
                                         .up_stream = node->up_stream,
                                         .up_position = node->up_position,
                                         .heartbeat_ms = session->config->heartbeat_ms,
                                         .keys_told = session->keys_told != 0,
                                         .shut_out = shut_out,
                                     },
                                     &body);
    if (status == 0) {
        status = session_send(session, WIRE_WELCOME, body);
    }
    if (status != 0) {
        session_leave(session, BYE_OVERLOAD, "the connection takes nothing", SESSION_RETRY_MS);
        return;
    }

    const struct feed_source source = {
        .context = session,
        .read = session_feed_read,
        .snapshot_open = session_feed_snapshot_open,
        .snapshot_next = session_feed_snapshot_next,
        .snapshot_close = session_feed_snapshot_close,
    };
    const struct feed_sink sink = {
        .context = session,
        .room = session_feed_room,
        .send = session_feed_send,
    };
    /* Twenty bits for the snapshots of one session keep the ids of all sessions apart. */
    const uint64_t snapshot_id = FEED_SNAPSHOT_BIT | session->epoch << 20;
    feed_sender_init(&session->down, &source, &sink, session->codecs->feed, node->down_stream,
                     resume ? session->down_position : 0, snapshot_id,
                     session->config->window_bytes);
    if (!resume) {
        feed_sender_want_snapshot(&session->down);
    }
    feed_receiver_init(&session->up, node->up_stream, node->up_position);
    session->down_acked = node->down_acked;
    session_move(session, SESSION_ACTIVE, 0);
    session_log(session, false, "session_opened",
                "epoch=%llu mode=%s down_position=%llu down_tip=%llu up_position=%llu",
                (unsigned long long)session->epoch, resume ? "resume" : "snapshot",
                (unsigned long long)session->down_position, (unsigned long long)node->down_tip,
                (unsigned long long)node->up_position);
    session->door->on_active(session->door->context, session);
    session->heard_ms = now_ms;
    session->down_moved_ms = now_ms;
    session_propose_ack(session);
    session_want_turn(session);
}

void session_on_acked(struct session *session, int status)
{
    if (status != 0) {
        session->down_acked = 0;
    }
}

/* Is the node still the one this session serves, and is it ours? Leaves otherwise. */
static bool session_holds(struct session *session, struct session_node *out)
{
    const int found = session->door->node_find(session->door->context, session->node, out);
    if (found < 0) {
        session_leave(session, BYE_BEHIND, "the state cannot be read here now", SESSION_RETRY_MS);
        return false;
    }
    if (found == SESSION_NODE_NONE || strcmp(out->uid, session->uid) != 0) {
        session_leave(session, BYE_REMOVED, "the Node object was deleted", 2 * SESSION_RETRY_MS);
        return false;
    }
    if (session->epoch > 0 && out->epoch > session->epoch) {
        session_leave(session, BYE_REPLACED, "a newer session of this node was opened",
                      SESSION_RETRY_MS);
        return false;
    }
    return true;
}

void session_on_opened(struct session *session, int status, enum session_outcome outcome,
                       uint64_t epoch, uint64_t now_ms)
{
    if (session->state != SESSION_OPEN) {
        return;
    }
    if (status != 0) {
        session_leave(session, BYE_BEHIND, "no leader took the session", SESSION_RETRY_MS);
        return;
    }
    if (outcome != SESSION_ACCEPTED || epoch == 0 || epoch >= UINT64_C(1) << 43) {
        session_leave(session, BYE_REMOVED, "the Node object changed meanwhile", SESSION_RETRY_MS);
        return;
    }
    session->epoch = epoch;
    struct session_node node;
    if (!session_holds(session, &node)) {
        return;
    }
    if (node.up_stream != session->up_stream) {
        session_leave(session, BYE_PROTOCOL, "the up stream was not taken", SESSION_RETRY_MS);
        return;
    }
    if (session->down_stream == node.down_stream && session->down_position > node.down_tip) {
        session_log(session, true, "session_ahead", "edge=%llu tip=%llu",
                    (unsigned long long)session->down_position,
                    (unsigned long long)node.down_tip);
        session_move(session, SESSION_BEHIND, now_ms + SESSION_BEHIND_MS);
        return;
    }
    session_activate(session, &node, now_ms);
}

void session_on_registered(struct session *session, int status, uint64_t now_ms)
{
    if (session->state != SESSION_REGISTER) {
        return;
    }
    struct session_node node;
    const int found = status != 0 ? status
                                  : session->door->node_find(session->door->context, session->node,
                                                             &node);
    if (found != 0) {
        session_leave(session, BYE_BEHIND, "the node could not be registered", SESSION_RETRY_MS);
        return;
    }
    session_open(session, &node, now_ms);
}

/* -- frames in --------------------------------------------------------------------------------- */

static void session_on_hello(struct session *session, const struct hello *hello, uint64_t now_ms)
{
    const char *cluster = session->door->cluster(session->door->context);
    if (session->state != SESSION_HELLO) {
        session_leave(session, BYE_PROTOCOL, "a second Hello", SESSION_RETRY_MS);
        return;
    }
    if (strcmp(hello->node, session->node) != 0) {
        session_leave(session, BYE_IDENTITY, "the certificate names another node", 0);
        return;
    }
    if (hello->version < 1) {
        session_leave(session, BYE_VERSION, "no common wire version", 0);
        return;
    }
    if (cluster[0] == '\0') {
        session_leave(session, BYE_BEHIND, "this cluster is not ready yet", SESSION_RETRY_MS);
        return;
    }
    if (hello->cluster[0] != '\0' && strcmp(hello->cluster, cluster) != 0) {
        session_leave(session, BYE_CLUSTER, "the node belongs to another cluster", 0);
        return;
    }
    if (hello->up_stream == 0 || (hello->up_stream & FEED_SNAPSHOT_BIT) != 0 ||
        (hello->down_stream & FEED_SNAPSHOT_BIT) != 0 || hello->up_first > hello->up_last) {
        session_leave(session, BYE_PROTOCOL, "the stream ids or positions are invalid", 0);
        return;
    }

    session->version = hello->version < WIRE_VERSION ? hello->version : WIRE_VERSION;
    session->down_stream = hello->down_stream;
    session->down_position = hello->down_position;
    session->digest = hello->digest;
    session->up_stream = hello->up_stream;
    session->up_first = hello->up_first;

    struct session_node node;
    const int found = session->door->node_find(session->door->context, session->node, &node);
    if (found == 0) {
        session_open(session, &node, now_ms);
        return;
    }
    if (found < 0 ||
        session->door->register_node(session->door->context, session->id, hello) != 0) {
        session_leave(session, BYE_OVERLOAD, "the node cannot be registered now",
                      2 * SESSION_RETRY_MS);
        return;
    }
    session_move(session, SESSION_REGISTER, now_ms + SESSION_PROPOSE_MS);
}

/* What is proposed must be understood by every replica, or they stop. */
static enum session_kind session_batch_kind(struct session *session, const struct batch *batch)
{
    enum session_kind worst = SESSION_KIND_KNOWN;
    for (uint32_t i = 0; i < batch->record_count; i++) {
        struct record record;
        if (codec_record_read(session->codecs->in, batch->records[i].record, &record) != 0) {
            return SESSION_KIND_UNKNOWN;
        }
        switch (session->door->knows(session->door->context, record.kind)) {
        case SESSION_KIND_UNKNOWN:
            return SESSION_KIND_UNKNOWN;
        case SESSION_KIND_LATER:
            worst = SESSION_KIND_LATER;
            break;
        case SESSION_KIND_KNOWN:
            break;
        }
    }
    return worst;
}

/* An upward batch: propose it as it came. What cannot be proposed is asked for again later. */
static void session_on_append(struct session *session, struct bytes body,
                              const struct batch *batch, uint64_t now_ms)
{
    if (strcmp(batch->node, session->node) != 0 || batch->epoch != session->epoch) {
        session_leave(session, BYE_PROTOCOL, "the batch is of another node or session",
                      SESSION_RETRY_MS);
        return;
    }
    if (session->up_retry_ms > 0) {
        return; /* it would not join */
    }
    switch (session_batch_kind(session, batch)) {
    case SESSION_KIND_UNKNOWN:
        session_leave(session, BYE_PROTOCOL, "a record of an unknown kind or shape",
                      10 * SESSION_RETRY_MS);
        return;
    case SESSION_KIND_LATER: /* the node stays, and what it says waits for the last member */
        session->up_retry_ms = now_ms + 3 * SESSION_RETRY_MS;
        if (!session->later_told) {
            session->later_told = true;
            session_log(session, true, "session_waits_for_upgrade", "position=%llu reason=%s",
                        (unsigned long long)session->up.position,
                        "what the node says is of a newer release than a member of the group: "
                        "upgrade that one, or remove it");
        }
        return;
    case SESSION_KIND_KNOWN:
        break;
    }
    const uint64_t before = session->up.position;
    switch (feed_receiver_take_batch(&session->up, batch)) {
    case FEED_FOREIGN:
        session_leave(session, BYE_PROTOCOL, "the batch is of another stream", SESSION_RETRY_MS);
        return;
    case FEED_DUPLICATE:
    case FEED_REFUSED:
        return;
    case FEED_TAKE:
        break;
    }

    struct bytes record;
    struct codec *codec = session->codecs->out;
    codec_reset(codec);
    int status = codec_record_build(codec,
                                    &(struct record){
                                        .kind = RECORD_UP_BATCH,
                                        .key = codec_print(codec, "/nodes//%s", session->node),
                                        .origin = session->config->origin,
                                        .body = body,
                                    },
                                    &record);
    if (status == 0) {
        status = session->door->propose_batch(session->door->context, session->id, record);
    }
    if (status != 0) {
        session->up.position = before; /* never taken: nothing of it was promised */
        session->up_retry_ms = now_ms + SESSION_RETRY_MS;
        return;
    }
    session->up_count++;
}

/* What was taken and not applied is asked for again, after a pause. */
static void session_rewind_later(struct session *session, uint64_t now_ms)
{
    if (session->up_retry_ms == 0) {
        session->up_retry_ms = now_ms + SESSION_RETRY_MS;
    }
}

void session_on_batch(struct session *session, int status, enum session_outcome outcome,
                      uint64_t up_position, uint64_t now_ms)
{
    if (session->state != SESSION_ACTIVE) {
        return;
    }
    CHECK(session->up_count > 0);
    session->up_count--;
    if (status != 0) {
        session_rewind_later(session, now_ms);
        return;
    }
    switch (outcome) {
    case SESSION_ACCEPTED:
        if (up_position > session->up.position) {
            session->up.position = up_position; /* applied after we had given it up */
        }
        feed_receiver_settle(&session->up, session->up.stream, up_position);
        break;
    case SESSION_REFUSED_GAP: /* one before it was lost with a leader */
        session_rewind_later(session, now_ms);
        break;
    case SESSION_REFUSED_FENCED:
        session_leave(session, BYE_REPLACED, "a newer session of this node was opened",
                      SESSION_RETRY_MS);
        break;
    case SESSION_REFUSED_OTHER:
        session_leave(session, BYE_PROTOCOL, "the state refused a batch", 10 * SESSION_RETRY_MS);
        break;
    }
    session_send_acks(session);
}

static void session_on_ack(struct session *session, const struct ack *ack, uint64_t now_ms)
{
    switch (feed_sender_take_ack(&session->down, ack)) {
    case FEED_ACK_WRONG:
        session_leave(session, BYE_PROTOCOL, "an Ack of what was never sent", SESSION_RETRY_MS);
        return;
    case FEED_ACK_REFUSED:
        session_log(session, true, "down_batch_refused", "position=%llu",
                    (unsigned long long)ack->position);
        session->down_moved_ms = now_ms; /* it is there, and cannot take it now: a full disk */
        break;
    case FEED_ACK_PROGRESS:
        session->down_moved_ms = now_ms;
        break;
    case FEED_ACK_OLD:
        break;
    }
    session_propose_ack(session);
    session_want_turn(session);
}

static void session_on_ping(struct session *session, const struct ping *ping)
{
    struct bytes body;
    struct ping pong = {.time_ms = ping->time_ms, .position = ping->position};
    const uint64_t keys = session_shut_out(session, &pong.shut_out);
    pong.keys_told = keys != session->keys_told;
    if (!pong.keys_told) {
        pong.shut_out = bytes_of(NULL, 0);
    }
    codec_reset(session->codecs->out);
    if (codec_ping_build(session->codecs->out, &pong, &body) == 0 &&
        session_send(session, WIRE_PONG, body) == 0) { /* a full queue shows life by itself */
        session->keys_told = keys;
    }
}

/* Dispatch a frame of an active session whose envelope is sound. */
static int session_on_active_frame(struct session *session, uint16_t kind, struct bytes body,
                                   uint64_t now_ms)
{
    struct codec *in = session->codecs->in;
    int status;
    switch (kind) {
    case WIRE_APPEND: {
        struct batch batch;
        status = codec_batch_read(in, body, &batch);
        if (status == 0) {
            session_on_append(session, body, &batch, now_ms);
            session_send_acks(session);
        }
        return status;
    }
    case WIRE_ACK: {
        struct ack ack;
        status = codec_ack_read(in, body, &ack);
        if (status == 0) {
            session_on_ack(session, &ack, now_ms);
        }
        return status;
    }
    case WIRE_PING: {
        struct ping ping;
        status = codec_ping_read(in, body, &ping);
        if (status == 0) {
            session_on_ping(session, &ping);
        }
        return status;
    }
    case WIRE_BYE: {
        struct bye bye;
        status = codec_bye_read(in, body, &bye);
        if (status == 0) {
            session_leave(session, BYE_SHUTDOWN, "the edge said bye", 0);
        }
        return status;
    }
    case WIRE_PONG:
        return 0;
    default:
        return STATUS_MALFORMED;
    }
}

void session_on_frame(struct session *session, struct bytes frame, uint64_t now_ms)
{
    if (session->state == SESSION_LEAVING) {
        return;
    }
    session->heard_ms = now_ms;

    uint16_t kind = WIRE_NONE;
    struct bytes body;
    struct codec *in = session->codecs->in;
    codec_reset(in);
    int status = codec_frame_read(in, codec_aligned(in, frame), &kind, &body);
    if (status == 0 && kind == WIRE_HELLO) {
        struct hello hello;
        status = codec_hello_read(in, body, &hello);
        if (status == 0) {
            session_on_hello(session, &hello, now_ms);
        }
    } else if (status == 0 && session->state == SESSION_ACTIVE) {
        status = session_on_active_frame(session, kind, body, now_ms);
    } else if (status == 0 && kind != WIRE_PING && kind != WIRE_BYE) {
        status = STATUS_MALFORMED; /* before Welcome an edge has nothing to say */
    }
    if (status != 0) {
        session_leave(session, BYE_PROTOCOL, "a malformed or unexpected frame", SESSION_RETRY_MS);
    }
}

/* -- time and state ---------------------------------------------------------------------------- */

void session_on_state(struct session *session, uint64_t now_ms)
{
    struct session_node node;
    if (session->state == SESSION_BEHIND) {
        if (session_holds(session, &node) && session->down_position <= node.down_tip) {
            session_activate(session, &node, now_ms);
        }
        return;
    }
    if (session->state != SESSION_ACTIVE || !session_holds(session, &node)) {
        return;
    }
    if (node.down_stream != session->down.stream || node.up_stream != session->up.stream) {
        session_leave(session, BYE_REPLACED, "the node's streams were renewed", SESSION_RETRY_MS);
        return;
    }
    session->down_tip = node.down_tip;
    session_turn(session);
}

void session_on_writable(struct session *session, uint64_t now_ms)
{
    (void)now_ms;
    session_send_acks(session);
    session_propose_ack(session);
    session_want_turn(session);
}

static uint64_t session_earlier(uint64_t a, uint64_t b)
{
    return b != 0 && b < a ? b : a;
}

uint64_t session_tick(struct session *session, uint64_t now_ms)
{
    if (session->state == SESSION_LEAVING) {
        return UINT64_MAX;
    }
    if (session->deadline_ms != 0 && now_ms >= session->deadline_ms) {
        session_leave(session, BYE_BEHIND, "the session could not be opened in time",
                      SESSION_RETRY_MS);
        return UINT64_MAX;
    }
    if (now_ms - session->heard_ms >= session->config->silence_ms) {
        session_leave(session, BYE_SHUTDOWN, "nothing was heard of the node", 0);
        return UINT64_MAX;
    }
    if (session->up_retry_ms != 0 && now_ms >= session->up_retry_ms) {
        if (session->up_count > 0) {
            session->up_retry_ms = now_ms + SESSION_RETRY_MS; /* answers are still to come */
        } else {
            session->up_retry_ms = 0;
            feed_receiver_rewind(&session->up, session->up.settled);
        }
    }
    if (session->state == SESSION_ACTIVE && session->down.flight_count == 0) {
        session->down_moved_ms = now_ms;
    } else if (session->state == SESSION_ACTIVE &&
               now_ms - session->down_moved_ms >= SESSION_STALL_MS) {
        session_leave(session, BYE_SHUTDOWN, "the node acknowledges nothing", 0);
        return UINT64_MAX;
    }
    if (session->state == SESSION_ACTIVE) {
        session_send_acks(session);
        session_propose_ack(session);
        if (session->down_blocked) { /* otherwise the state, or the edge, says when there is more */
            session_want_turn(session);
        }
    }
    if (session->state == SESSION_LEAVING) {
        return UINT64_MAX;
    }
    uint64_t next = session->heard_ms + session->config->silence_ms;
    next = session_earlier(next, session->deadline_ms);
    return session_earlier(next, session->up_retry_ms);
}
