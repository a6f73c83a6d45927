#include "nodes/edge/hub.h"

#include "schemas/check.h"

#include <stdarg.h>
#include <stdio.h>

static const bool hub_moves[HUB_STATES][HUB_STATES] = {
    [HUB_WAITING] = {[HUB_DIALING] = true},
    [HUB_DIALING] = {[HUB_WAITING] = true, [HUB_GREETING] = true, [HUB_CLOSING] = true},
    [HUB_GREETING] = {[HUB_WAITING] = true, [HUB_ACTIVE] = true, [HUB_CLOSING] = true},
    [HUB_ACTIVE] = {[HUB_WAITING] = true, [HUB_CLOSING] = true},
    [HUB_CLOSING] = {[HUB_WAITING] = true},
};

static void hub_move(struct hub *hub, enum hub_state to, uint64_t due_ms)
{
    CHECK(hub_moves[hub->state][to]);
    if (hub->state == HUB_ACTIVE) {
        feed_sender_deinit(&hub->up);
    }
    hub->state = to;
    hub->due_ms = due_ms;
}

__attribute__((format(printf, 4, 5))) static void hub_log(struct hub *hub, bool warning,
                                                          const char *event, const char *format,
                                                          ...)
{
    char pairs[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(pairs, sizeof pairs, format, arguments);
    va_end(arguments);
    hub->door->log(hub->door->context, warning, event, pairs);
}

void hub_init(struct hub *hub, const struct hub_door *door, uint32_t address_count,
              uint32_t backoff_ms_max, const char *software, const struct pair *labels,
              uint32_t label_count)
{
    CHECK(address_count > 0);
    *hub = (struct hub){
        .door = door,
        .state = HUB_WAITING,
        .address_count = address_count,
        .backoff_ms_max = backoff_ms_max == 0 ? HUB_BACKOFF_MS_MAX : backoff_ms_max,
        .software = software,
        .labels = labels,
        .label_count = label_count,
        .in = codec_create(),
        .read = codec_create(),
        .feed = codec_create(),
        .out = codec_create(),
    };
    /* A thousand edges that start together spread over the cloudcores. */
    uint32_t chance = 0;
    door->random(door->context, &chance, sizeof chance);
    hub->address = chance % address_count;
}

void hub_deinit(struct hub *hub)
{
    if (hub->state == HUB_ACTIVE) {
        feed_sender_deinit(&hub->up);
    }
    codec_destroy(hub->in);
    codec_destroy(hub->read);
    codec_destroy(hub->feed);
    codec_destroy(hub->out);
}

/* -- frames out -------------------------------------------------------------------------------- */

static int hub_send(struct hub *hub, uint16_t kind, struct bytes body)
{
    struct bytes frame;
    const int status = codec_frame_build(hub->out, kind, body, &frame);
    return status != 0 ? status : hub->door->send(hub->door->context, frame);
}

/* End the connection; hub_on_link_down follows. */
static void hub_close(struct hub *hub, const char *event, const char *reason)
{
    if (hub->state == HUB_WAITING || hub->state == HUB_CLOSING) {
        return;
    }
    hub_log(hub, true, event, "reason=%s", reason);
    hub_move(hub, HUB_CLOSING, 0);
    hub->door->close(hub->door->context);
}

static void hub_send_acks(struct hub *hub)
{
    while (hub->state == HUB_ACTIVE) {
        if (!hub->ack_pending && !feed_receiver_take_due(&hub->down, &hub->ack)) {
            return;
        }
        hub->ack_pending = true;
        struct bytes body;
        codec_reset(hub->out);
        int status = codec_ack_build(hub->out, &hub->ack, &body);
        if (status == 0) {
            status = hub_send(hub, WIRE_ACK, body);
        }
        if (status != 0) {
            return; /* full: hub_on_writable; dead: hub_on_link_down */
        }
        hub->ack_pending = false;
    }
}

/* -- the up feed ------------------------------------------------------------------------------- */

static int hub_feed_read(void *context, uint64_t after, size_t max_bytes, struct bytes *out,
                         uint64_t *out_last)
{
    struct hub *hub = context;
    struct batch batch;
    codec_reset(hub->read);
    int status = hub->door->up_read(hub->door->context, after, max_bytes, hub->read, &batch);
    if (status != 0) {
        return status;
    }
    if (batch.previous == batch.last) {
        return FEED_READ_END;
    }
    if (batch.previous != after) {
        return STATUS_FOREIGN; /* the cloud asks for what it said it had applied: restored? */
    }
    batch.epoch = hub->epoch;
    status = codec_batch_build(hub->read, &batch, out);
    *out_last = batch.last;
    return status != 0 ? status : FEED_READ_BATCH;
}

static bool hub_feed_room(void *context)
{
    struct hub *hub = context;
    return hub->door->room(hub->door->context);
}

static int hub_feed_send(void *context, uint16_t kind, struct bytes body)
{
    struct hub *hub = context;
    codec_reset(hub->out);
    return hub_send(hub, kind, body);
}

static void hub_pump(struct hub *hub)
{
    if (hub->state != HUB_ACTIVE) {
        return;
    }
    const int status = feed_sender_pump(&hub->up);
    if (status == STATUS_FOREIGN) {
        hub_close(hub, "up_log_behind",
                  "the cloud has forgotten what it had applied; was it restored?");
    } else if (status != 0) {
        hub_close(hub, "up_feed_failed", status_text(status));
    }
}

/* Tell the state how far the cloud has applied. */
static void hub_tell_up_acked(struct hub *hub)
{
    if (hub->up.acked > hub->up_told) {
        hub->up_told = hub->up.acked;
        hub->door->up_acked(hub->door->context, hub->up.stream, hub->up.acked);
    }
}

/* -- connecting -------------------------------------------------------------------------------- */

/* When to try again: at once after a session that worked, else a random time below a doubling bound. */
static uint64_t hub_backoff(struct hub *hub, uint64_t now_ms)
{
    uint64_t wait_ms = 0;
    if (hub->failures > 0) {
        const uint32_t doublings = hub->failures - 1 < 16 ? hub->failures - 1 : 16;
        uint64_t bound_ms = (uint64_t)HUB_BACKOFF_MS << doublings;
        bound_ms = bound_ms > hub->backoff_ms_max ? hub->backoff_ms_max : bound_ms;
        uint64_t chance = 0;
        hub->door->random(hub->door->context, &chance, sizeof chance);
        wait_ms = chance % (bound_ms + 1);
    }
    wait_ms = wait_ms < hub->hold_ms ? hub->hold_ms : wait_ms;
    hub->hold_ms = 0;
    return now_ms + wait_ms;
}

void hub_on_link_up(struct hub *hub, uint64_t now_ms)
{
    if (hub->state != HUB_DIALING) {
        return;
    }
    struct hello hello = {0};
    hub->door->hello(hub->door->context, &hello);
    hello.version = WIRE_VERSION;
    hello.software = hub->software;
    hello.labels = hub->labels;
    hello.label_count = hub->label_count;
    hub->hello_down_stream = hello.down_stream;
    hub->hello_down_position = hello.down_position;
    hub->hello_up_stream = hello.up_stream;
    snprintf(hub->node, sizeof hub->node, "%s", hello.node);

    struct bytes body;
    codec_reset(hub->out);
    hub_move(hub, HUB_GREETING, now_ms + HUB_WELCOME_MS);
    if (codec_hello_build(hub->out, &hello, &body) != 0 || hub_send(hub, WIRE_HELLO, body) != 0) {
        hub_close(hub, "hello_failed", "the connection takes nothing");
    }
}

void hub_on_link_down(struct hub *hub, uint64_t now_ms)
{
    if (hub->state == HUB_WAITING) {
        return;
    }
    if (hub->sent_on) {
        hub->failures = 0;
        hub->sent_on = false;
    } else if (hub->state != HUB_ACTIVE) {
        hub->failures++; /* CLOSING counted as one too: we had a reason */
    } else {
        hub->failures = 0;
        hub_log(hub, true, "link_lost", "epoch=%llu", (unsigned long long)hub->epoch);
    }
    hub_move(hub, HUB_WAITING, hub_backoff(hub, now_ms));
}

bool hub_catches_up(const struct hub *hub, uint64_t stream, uint64_t position, uint64_t now_ms)
{
    return hub->state == HUB_ACTIVE && now_ms < hub->tip_ms + LIMIT_CATCH_UP_MS &&
           (stream != hub->tip_stream || position < hub->tip);
}

static void hub_tell_keys(struct hub *hub, bool told, struct bytes keys)
{
    if (told && hub->door->shut_out != NULL) {
        hub->door->shut_out(hub->door->context, keys);
    }
}

static int hub_on_welcome(struct hub *hub, const struct welcome *welcome, uint64_t now_ms)
{
    const bool resumes = welcome->mode == WELCOME_RESUME;
    if (hub->state != HUB_GREETING || welcome->version < 1 || welcome->version > WIRE_VERSION ||
        welcome->epoch == 0 || welcome->up_stream != hub->hello_up_stream ||
        (welcome->down_stream & FEED_SNAPSHOT_BIT) != 0 ||
        (resumes && welcome->down_stream != hub->hello_down_stream)) {
        return STATUS_MALFORMED;
    }

    const struct feed_source source = {.context = hub, .read = hub_feed_read};
    const struct feed_sink sink = {.context = hub, .room = hub_feed_room, .send = hub_feed_send};
    hub_move(hub, HUB_ACTIVE, 0);
    hub->link++;
    hub->failures = 0;
    hub->epoch = welcome->epoch;
    hub->heartbeat_ms = welcome->heartbeat_ms < 100 ? 100 : welcome->heartbeat_ms;
    hub->ping_ms = now_ms + hub->heartbeat_ms;
    hub->ack_pending = false;
    hub->down_retry_ms = 0;
    hub->snapshot_dropped = false;
    hub->up_told = 0;
    hub->up_moved_ms = now_ms;
    hub->tip_stream = welcome->down_stream;
    hub->tip = welcome->down_tip;
    hub->tip_heard = welcome->down_tip;
    hub->tip_ms = now_ms;
    if (hub->address_count > 1) { /* when this one is lost, its edges go to all the others */
        uint32_t chance = 0;
        hub->door->random(hub->door->context, &chance, sizeof chance);
        hub->address = (hub->address + chance % (hub->address_count - 1)) % hub->address_count;
    }
    /* Before a snapshot nothing joins: its END says what stream and position we are at. */
    feed_receiver_init(&hub->down, resumes ? welcome->down_stream : 0,
                       resumes ? hub->hello_down_position : 0);
    feed_sender_init(&hub->up, &source, &sink, hub->feed, welcome->up_stream, welcome->up_position,
                     FEED_SNAPSHOT_BIT, LIMIT_FEED_UP_WINDOW_BYTES);
    hub_log(hub, false, "welcomed", "epoch=%llu mode=%s down_tip=%llu up_position=%llu cluster=%s",
            (unsigned long long)welcome->epoch, resumes ? "resume" : "snapshot",
            (unsigned long long)welcome->down_tip, (unsigned long long)welcome->up_position,
            welcome->cluster);
    hub->door->welcomed(hub->door->context, welcome);
    hub_tell_keys(hub, welcome->keys_told, welcome->shut_out);
    hub_tell_up_acked(hub);
    hub_pump(hub);
    return 0;
}

static void hub_on_bye(struct hub *hub, const struct bye *bye)
{
    hub->hold_ms = bye->retry_ms > hub->backoff_ms_max ? hub->backoff_ms_max : bye->retry_ms;
    if (bye->code == BYE_IDENTITY || bye->code == BYE_CLUSTER || bye->code == BYE_VERSION) {
        hub->hold_ms = hub->backoff_ms_max; /* a person must act: pods keep running meanwhile */
    }
    hub->sent_on = hub->state == HUB_ACTIVE && bye->code == BYE_SHUTDOWN;
    hub_log(hub, !hub->sent_on, "cloud_said_bye", "code=%u retry_ms=%u reason=%s", bye->code,
            bye->retry_ms, bye->reason);
    hub_move(hub, HUB_CLOSING, 0);
    hub->door->close(hub->door->context);
}

/* -- frames in --------------------------------------------------------------------------------- */

/* Append what came, as a record of the edge's log, under a mark. */
static int hub_append(struct hub *hub, uint16_t kind, struct bytes body, uint64_t stream,
                      uint64_t position)
{
    struct bytes record;
    codec_reset(hub->out);
    const int status = codec_record_build(hub->out,
                                          &(struct record){
                                              .kind = kind,
                                              .key = "",
                                              .origin = "cloud",
                                              .time_ms = hub->wall_ms,
                                              .body = body,
                                          },
                                          &record);
    if (status != 0) {
        return status;
    }
    return hub->door->append(
        hub->door->context, record,
        (struct hub_mark){.link = hub->link, .stream = stream, .position = position});
}

static int hub_on_batch(struct hub *hub, struct bytes body, uint64_t now_ms)
{
    struct batch batch;
    const int status = codec_batch_read(hub->in, body, &batch);
    if (status != 0 || strcmp(batch.node, hub->node) != 0) {
        return STATUS_MALFORMED;
    }
    hub->tip_heard = batch.tip > hub->tip_heard ? batch.tip : hub->tip_heard;
    if (hub->down_retry_ms > 0) {
        return 0; /* it would not join */
    }
    const uint64_t before = hub->down.position;
    switch (feed_receiver_take_batch(&hub->down, &batch)) {
    case FEED_FOREIGN:
        return STATUS_FOREIGN;
    case FEED_DUPLICATE:
    case FEED_REFUSED:
        return 0;
    case FEED_TAKE:
        break;
    }
    if (hub->held) {
        hub->down.position = before;
        hub->down_retry_ms = now_ms + HUB_HELD_MS;
    } else if (hub_append(hub, RECORD_DOWN_BATCH, body, batch.stream, batch.last) != 0) {
        hub->down.position = before;
        hub->down_retry_ms = now_ms + HUB_RETRY_MS;
    }
    return 0;
}

static int hub_on_snapshot(struct hub *hub, struct bytes body)
{
    struct snapshot snapshot;
    const int status = codec_snapshot_read(hub->in, body, &snapshot);
    if (status != 0) {
        return status;
    }
    if (hub->held || hub->snapshot_dropped) {
        hub->snapshot_dropped = true;
        return 0;
    }
    if (feed_receiver_take_snapshot(&hub->down, &snapshot) != FEED_TAKE) {
        return STATUS_FOREIGN;
    }
    /* A step that the log does not take ends the connection: the next one begins another. */
    return hub_append(hub, RECORD_SNAPSHOT, body, snapshot.id, hub->down.stage_steps);
}

static int hub_on_ack(struct hub *hub, struct bytes body, uint64_t now_ms)
{
    struct ack ack;
    const int status = codec_ack_read(hub->in, body, &ack);
    if (status != 0) {
        return status;
    }
    switch (feed_sender_take_ack(&hub->up, &ack)) {
    case FEED_ACK_WRONG:
        return STATUS_MALFORMED;
    case FEED_ACK_PROGRESS:
        hub->up_moved_ms = now_ms;
        break;
    case FEED_ACK_REFUSED:
    case FEED_ACK_OLD:
        break;
    }
    hub_tell_up_acked(hub);
    hub_pump(hub);
    return 0;
}

static int hub_on_active_frame(struct hub *hub, uint16_t kind, struct bytes body, uint64_t now_ms)
{
    switch (kind) {
    case WIRE_APPEND:
        return hub_on_batch(hub, body, now_ms);
    case WIRE_SNAPSHOT:
        return hub_on_snapshot(hub, body);
    case WIRE_ACK:
        return hub_on_ack(hub, body, now_ms);
    case WIRE_PONG: {
        struct ping pong;
        const int status = codec_ping_read(hub->in, body, &pong);
        if (status == 0) {
            hub_tell_keys(hub, pong.keys_told, pong.shut_out);
        }
        return status;
    }
    default:
        return STATUS_MALFORMED;
    }
}

void hub_on_frame(struct hub *hub, struct bytes frame, uint64_t now_ms)
{
    if (hub->state != HUB_GREETING && hub->state != HUB_ACTIVE) {
        return;
    }
    hub->heard_ms = now_ms;
    uint16_t kind = WIRE_NONE;
    struct bytes body;
    codec_reset(hub->in);
    int status = codec_frame_read(hub->in, codec_aligned(hub->in, frame), &kind, &body);
    if (status == 0 && kind == WIRE_BYE) {
        struct bye bye;
        status = codec_bye_read(hub->in, body, &bye);
        if (status == 0) {
            hub_on_bye(hub, &bye);
        }
    } else if (status == 0 && kind == WIRE_WELCOME) {
        struct welcome welcome;
        status = codec_welcome_read(hub->in, body, &welcome);
        status = status == 0 ? hub_on_welcome(hub, &welcome, now_ms) : status;
    } else if (status == 0) {
        status = hub->state == HUB_ACTIVE ? hub_on_active_frame(hub, kind, body, now_ms)
                                          : STATUS_MALFORMED;
    }
    if (status != 0) {
        hub_close(hub, "cloud_frame_refused", status_text(status));
    }
    hub_send_acks(hub);
}

/* -- time and state ---------------------------------------------------------------------------- */

void hub_on_writable(struct hub *hub, uint64_t now_ms)
{
    (void)now_ms;
    hub_send_acks(hub);
    hub_pump(hub);
}

void hub_on_facts(struct hub *hub, uint64_t now_ms)
{
    (void)now_ms;
    hub_pump(hub);
}

void hub_on_settled(struct hub *hub, struct hub_mark mark, uint64_t now_ms)
{
    (void)now_ms;
    if (hub->state == HUB_ACTIVE && mark.link == hub->link) {
        feed_receiver_settle(&hub->down, mark.stream, mark.position);
        /* The Acks go out in hub_tick: one for all that became durable together. */
    }
}

void hub_want_snapshot(struct hub *hub, uint64_t now_ms)
{
    if (hub->state == HUB_ACTIVE && !hub->down.staging) {
        /* Should they differ again and again: a record that this release cannot read does so. */
        const bool again = hub->snapshot_hold_ms != 0 &&
                           now_ms - hub->snapshot_wanted_ms < HUB_SNAPSHOT_AGAIN_MS;
        uint32_t hold_ms = again ? 2 * hub->snapshot_hold_ms : HUB_SNAPSHOT_MS;
        hold_ms = hold_ms > hub->backoff_ms_max ? hub->backoff_ms_max : hold_ms;
        hub->snapshot_hold_ms = hold_ms;
        hub->snapshot_wanted_ms = now_ms;
        hub->hold_ms = hold_ms;
        hub_close(hub, "snapshot_wanted", "our wishes differ from the cloud's");
    }
}

void hub_hold(struct hub *hub, bool hold, uint64_t now_ms)
{
    if (hub->held == hold) {
        return;
    }
    hub->held = hold;
    if (hold || hub->state != HUB_ACTIVE) {
        return;
    }
    if (hub->snapshot_dropped) {
        hub_close(hub, "snapshot_wanted", "there was no room for the one that came");
    } else if (hub->down_retry_ms > now_ms) {
        hub->down_retry_ms = now_ms;
    }
}

void hub_stop(struct hub *hub, uint64_t now_ms)
{
    (void)now_ms;
    if (hub->state == HUB_ACTIVE || hub->state == HUB_GREETING) {
        struct bytes body;
        codec_reset(hub->out);
        const struct bye bye = {.code = BYE_SHUTDOWN, .reason = "the edge is stopping"};
        if (codec_bye_build(hub->out, &bye, &body) == 0) {
            (void)hub_send(hub, WIRE_BYE, body);
        }
    }
    if (hub->state != HUB_WAITING && hub->state != HUB_CLOSING) {
        hub_move(hub, HUB_CLOSING, 0);
        hub->door->close(hub->door->context);
    }
}

static void hub_ping(struct hub *hub, uint64_t now_ms)
{
    struct bytes body;
    hub->ping_ms = now_ms + hub->heartbeat_ms;
    codec_reset(hub->out);
    const struct ping ping = {.time_ms = (int64_t)now_ms, .position = hub->down.settled};
    if (codec_ping_build(hub->out, &ping, &body) == 0) {
        (void)hub_send(hub, WIRE_PING, body); /* a full queue shows life by itself */
    }
}

static uint64_t hub_tick_active(struct hub *hub, uint64_t now_ms)
{
    const uint64_t silence_ms = hub->heard_ms + 3 * (uint64_t)hub->heartbeat_ms;
    if (now_ms >= silence_ms) {
        hub_close(hub, "cloud_silent", "nothing was heard for three heartbeats");
        return UINT64_MAX;
    }
    if (hub->up.flight_count == 0) {
        hub->up_moved_ms = now_ms;
    } else if (now_ms - hub->up_moved_ms >= HUB_STALL_MS) {
        hub_close(hub, "cloud_stalled", "nothing of what was shipped is acknowledged");
        return UINT64_MAX;
    }
    if (hub->down_retry_ms != 0 && now_ms >= hub->down_retry_ms) {
        hub->down_retry_ms = 0;
        if (hub->down.position > hub->down.settled) {
            hub->down_retry_ms = now_ms + HUB_RETRY_MS; /* what was taken is still being written */
        } else {
            feed_receiver_rewind(&hub->down, hub->down.settled);
        }
    }
    if (now_ms >= hub->ping_ms) {
        hub_ping(hub, now_ms);
    }
    hub_send_acks(hub);
    hub_pump(hub);
    uint64_t next = hub->ping_ms < silence_ms ? hub->ping_ms : silence_ms;
    if (hub->down_retry_ms != 0 && hub->down_retry_ms < next) {
        next = hub->down_retry_ms;
    }
    return next;
}

uint64_t hub_tick(struct hub *hub, uint64_t now_ms)
{
    switch (hub->state) {
    case HUB_WAITING:
        if (now_ms >= hub->due_ms) {
            const uint32_t address = hub->address;
            hub->address = (hub->address + 1) % hub->address_count;
            hub->heard_ms = now_ms;
            hub_move(hub, HUB_DIALING, now_ms + HUB_DIAL_MS);
            hub->door->dial(hub->door->context, address);
        }
        return hub->due_ms;
    case HUB_DIALING:
    case HUB_GREETING:
        if (now_ms >= hub->due_ms) {
            hub_close(hub, "cloud_silent", "no Welcome in time");
            return UINT64_MAX;
        }
        return hub->due_ms;
    case HUB_ACTIVE:
        return hub_tick_active(hub, now_ms);
    case HUB_CLOSING:
    case HUB_STATES:
        break;
    }
    return UINT64_MAX;
}
