#include "tests/fleet/light_edge.h"

#include "nodes/config.h"
#include "schemas/check.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#define TURN_NS UINT64_C(5000000)

static uint64_t light_now(const struct light_edge *edge)
{
    return uv_now(edge->fleet->loop);
}

static void light_wake(struct light_edge *edge)
{
    struct light_fleet *fleet = edge->fleet;
    if (edge->woken) {
        return;
    }
    edge->woken = true;
    edge->woken_next = NULL;
    if (fleet->woken_last == NULL) {
        fleet->woken_first = edge;
    } else {
        fleet->woken_last->woken_next = edge;
    }
    fleet->woken_last = edge;
}

/* A claim about the cloud did not hold. The first one is kept in words. */
__attribute__((format(printf, 2, 3))) static void light_wrong(struct light_edge *edge,
                                                              const char *format, ...)
{
    struct light_fleet *fleet = edge->fleet;
    if (fleet->wrong++ > 0) {
        return;
    }
    const int size = snprintf(fleet->first_wrong, sizeof fleet->first_wrong, "%s: ", edge->name);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(fleet->first_wrong + size, sizeof fleet->first_wrong - (size_t)size, format,
              arguments);
    va_end(arguments);
}

/* -- what it holds ------------------------------------------------------------------------------- */

/* FNV-1a. */
static uint32_t light_hash(const char *key)
{
    uint32_t hash = 2166136261u;
    for (; *key != '\0'; key++) {
        hash = (hash ^ (uint8_t)*key) * 16777619u;
    }
    return hash;
}

static void light_rows_place(struct light_rows *rows, uint32_t index)
{
    uint32_t at = light_hash(rows->items[index].key) & rows->place_mask;
    while (rows->places[at] != 0) {
        at = (at + 1) & rows->place_mask;
    }
    rows->places[at] = index + 1;
}

/* Most edges of a test hold two rows: those are compared one by one. */
static void light_rows_place_all(struct light_rows *rows)
{
    uint32_t size = 16;
    while (size < 4 * rows->count) {
        size *= 2;
    }
    free(rows->places);
    rows->places = calloc(size, sizeof *rows->places);
    CHECK(rows->places != NULL);
    rows->place_mask = size - 1;
    for (uint32_t i = 0; i < rows->count; i++) {
        light_rows_place(rows, i);
    }
}

static struct light_row *light_rows_find(struct light_rows *rows, const char *key)
{
    if (rows->count < 8) {
        for (uint32_t i = 0; i < rows->count; i++) {
            if (strcmp(rows->items[i].key, key) == 0) {
                return &rows->items[i];
            }
        }
        return NULL;
    }
    if (rows->places == NULL) {
        light_rows_place_all(rows);
    }
    uint32_t at = light_hash(key) & rows->place_mask;
    while (rows->places[at] != 0) {
        struct light_row *row = &rows->items[rows->places[at] - 1];
        if (strcmp(row->key, key) == 0) {
            return row;
        }
        at = (at + 1) & rows->place_mask;
    }
    return NULL;
}

/* They are placed anew by the next search. */
static void light_rows_displace(struct light_rows *rows)
{
    free(rows->places);
    rows->places = NULL;
}

static void light_rows_clear(struct light_rows *rows)
{
    for (uint32_t i = 0; i < rows->count; i++) {
        free(rows->items[i].key);
    }
    free(rows->items);
    light_rows_displace(rows);
    *rows = (struct light_rows){0};
}

static struct light_row *light_rows_add(struct light_rows *rows, const char *key)
{
    if ((rows->count & (rows->count - 1)) == 0) { /* room for 1, 2, 4, 8 ... */
        rows->items =
            realloc(rows->items, (rows->count == 0 ? 1 : 2 * rows->count) * sizeof *rows->items);
        CHECK(rows->items != NULL);
    }
    struct light_row *row = &rows->items[rows->count++];
    *row = (struct light_row){.key = strdup(key)};
    CHECK(row->key != NULL);
    if (rows->places != NULL && 2 * rows->count > rows->place_mask) {
        light_rows_displace(rows);
    } else if (rows->places != NULL) {
        light_rows_place(rows, rows->count - 1);
    }
    return row;
}

static void light_rows_remove(struct light_rows *rows, struct light_row *row)
{
    rows->digest = tag_subtract(rows->digest, row->tag);
    free(row->key);
    *row = rows->items[--rows->count];
    light_rows_displace(rows);
}

/* The N of "serial":"N" in an object's JSON, 0: it has none. */
static uint64_t light_serial(struct bytes json)
{
    static const char word[] = "\"serial\":\"";
    const uint8_t *at = memmem(json.data, json.size, word, sizeof word - 1);
    return at == NULL ? 0 : strtoull((const char *)at + sizeof word - 1, NULL, 10);
}

/* A record that says when it was written is here. */
static void light_lag(struct light_fleet *fleet, uint64_t serial)
{
    const uint64_t now_us = uv_hrtime() / 1000;
    if (serial > now_us || fleet->lag_count == LIGHT_LAGS_MAX) {
        return;
    }
    if (fleet->lag_count == fleet->lag_capacity) {
        fleet->lag_capacity = fleet->lag_capacity == 0 ? 4096 : 2 * fleet->lag_capacity;
        fleet->lags_us = realloc(fleet->lags_us, fleet->lag_capacity * sizeof *fleet->lags_us);
        CHECK(fleet->lags_us != NULL);
    }
    const uint64_t lag_us = now_us - serial;
    fleet->lag_newest_us = now_us;
    fleet->lags_us[fleet->lag_count++] = lag_us > UINT32_MAX ? UINT32_MAX : (uint32_t)lag_us;
}

/* One object, into the rows in use (live) or a snapshot. */
static void light_put(struct light_edge *edge, struct light_rows *rows, const struct record *record,
                      bool live)
{
    struct object_put put;
    if (codec_object_put_read(edge->fleet->read, record->body, &put) != 0) {
        light_wrong(edge, "%s cannot be read", record->key);
        return;
    }
    struct light_row *row = light_rows_find(rows, record->key);
    if (row != NULL && !live) {
        light_wrong(edge, "%s is twice in a snapshot", record->key);
    }
    if (row == NULL) {
        row = light_rows_add(rows, record->key);
    } else {
        rows->digest = tag_subtract(rows->digest, row->tag);
    }
    const uint64_t serial = light_serial(put.object.json);
    if (live && serial > 0 && serial <= row->serial) {
        light_wrong(edge, "%s says %" PRIu64 " after %" PRIu64, record->key, serial, row->serial);
    }
    if (live && serial > 0 && edge->fleet->timed) {
        light_lag(edge->fleet, serial);
    }
    row->serial = serial;
    row->puts += live ? 1 : 0;
    row->tag = put.object.tag;
    rows->digest = tag_add(rows->digest, row->tag);
}

static void light_take(struct light_edge *edge, struct light_rows *rows, struct bytes bytes,
                       bool live)
{
    struct codec *codec = edge->fleet->read;
    struct record record;
    if (codec_record_read(codec, codec_aligned(codec, bytes), &record) != 0) {
        light_wrong(edge, "a record cannot be read");
    } else if (record.kind == RECORD_OBJECT_PUT) {
        light_put(edge, rows, &record, live);
    } else if (record.kind == RECORD_OBJECT_REMOVE && live) {
        struct light_row *row = light_rows_find(rows, record.key);
        if (row != NULL) {
            light_rows_remove(rows, row);
        }
    } else {
        light_wrong(edge, "a record of kind %u came down", record.kind);
    }
}

static void light_batch(struct light_edge *edge, struct bytes body)
{
    struct light_fleet *fleet = edge->fleet;
    struct batch batch;
    CHECK(codec_batch_read(fleet->read, body, &batch) == 0); /* the hub has read it before */
    if (batch.stream != edge->down_stream || batch.previous > edge->down_position) {
        light_wrong(edge, "a batch from %" PRIu64 " does not join %" PRIu64, batch.previous,
                    edge->down_position);
        return;
    }
    for (uint32_t i = 0; i < batch.record_count; i++) {
        if (batch.records[i].sequence <= edge->down_position) {
            fleet->down_again++;
            continue;
        }
        fleet->down_records++;
        light_take(edge, &edge->rows, batch.records[i].record, true);
    }
    if (batch.last > edge->down_position) {
        edge->down_position = batch.last;
    }
    if (batch.last == batch.tip && !tag_equal(batch.digest, edge->rows.digest)) {
        light_wrong(edge, "another digest than the cloud's at %" PRIu64, batch.last);
    }
}

static void light_snapshot(struct light_edge *edge, struct bytes body)
{
    struct snapshot snapshot;
    CHECK(codec_snapshot_read(edge->fleet->read, body, &snapshot) == 0);
    if (snapshot.step == SNAPSHOT_BEGIN) {
        light_rows_clear(&edge->stage);
        edge->stage_id = snapshot.id;
        edge->stage_stream = snapshot.stream;
        edge->stage_position = snapshot.position;
        return;
    }
    if (snapshot.id != edge->stage_id) {
        light_wrong(edge, "a step of a snapshot that was not begun");
        return;
    }
    for (uint32_t i = 0; i < snapshot.record_count; i++) {
        light_take(edge, &edge->stage, snapshot.records[i].record, false);
    }
    if (snapshot.step == SNAPSHOT_ROWS) {
        return;
    }
    if (!tag_equal(snapshot.digest, edge->stage.digest)) {
        light_wrong(edge, "a snapshot has another digest than its rows");
    }
    edge->fleet->snapshots++;
    light_rows_clear(&edge->rows);
    edge->rows = edge->stage;
    edge->stage = (struct light_rows){0};
    edge->stage_id = 0;
    edge->down_stream = edge->stage_stream;
    edge->down_position = edge->stage_position;
}

/* -- the hub's door ------------------------------------------------------------------------------ */

/* From dialing to Welcome, or to its failure. */
static void light_dialed(struct light_edge *edge)
{
    if (edge->dialing) {
        edge->dialing = false;
        edge->fleet->dialing--;
    }
}

static void light_on_dial(void *context, uint32_t address)
{
    struct light_edge *edge = context;
    edge->fleet->dials++;
    edge->fleet->dialing++;
    edge->dialing = true;
    edge->address = address;
    edge->stage_id = 0;
    uplink_dial(&edge->uplink, edge->fleet->cloud[address].host, edge->fleet->cloud[address].port);
}

static int light_on_send(void *context, struct bytes frame)
{
    return uplink_send(&((struct light_edge *)context)->uplink, frame);
}

static bool light_on_room(void *context)
{
    return uplink_room(&((struct light_edge *)context)->uplink);
}

static void light_on_close(void *context)
{
    uplink_leave(&((struct light_edge *)context)->uplink);
}

static void light_on_random(void *context, void *buffer, size_t size)
{
    (void)context;
    CHECK(getrandom(buffer, size, 0) == (ssize_t)size); /* up to 256 bytes come whole */
}

static void light_on_log(void *context, bool warning, const char *event, const char *pairs)
{
    struct light_edge *edge = context;
    (void)warning;
    if (strcmp(event, "cloud_said_bye") == 0) {
        edge->fleet->byes++;
        snprintf(edge->fleet->last_bye, sizeof edge->fleet->last_bye, "%s", pairs);
    } else if (strcmp(event, "cloud_frame_refused") == 0 || strcmp(event, "up_log_behind") == 0) {
        light_wrong(edge, "%s %s", event, pairs);
    }
}

static void light_on_hello(void *context, struct hello *out)
{
    const struct light_edge *edge = context;
    *out = (struct hello){
        .node = edge->name,
        .cluster = edge->fleet->cluster,
        .down_stream = edge->down_stream,
        .down_position = edge->down_position,
        .up_stream = edge->up_stream,
        .up_first = edge->up_acked,
        .up_last = edge->up_last,
        .digest = edge->rows.digest,
    };
}

/* Event N of this edge. Without a key: had the cloud taken it twice, there would be two. */
static int light_event(struct light_edge *edge, uint64_t number, struct codec *codec,
                       struct bytes *out)
{
    struct bytes body;
    const struct edge_event event = {
        .kind = "Node",
        .name = edge->name,
        .type = "Normal",
        .reason = "Told",
        .message = codec_print(codec, "told %" PRIu64, number),
        .count = 1,
    };
    const int status = codec_edge_event_build(codec, &event, &body);
    return status != 0 ? status
                       : codec_record_build(codec,
                                            &(struct record){
                                                .kind = RECORD_EDGE_EVENT,
                                                .origin = edge->name,
                                                .sequence = number,
                                                .body = body,
                                            },
                                            out);
}

static int light_on_up_read(void *context, uint64_t after, size_t max_bytes, struct codec *codec,
                            struct batch *out)
{
    struct light_edge *edge = context;
    (void)max_bytes; /* sixteen small ones always fit */
    enum { COUNT = 16 };
    const uint64_t previous = after < edge->up_acked ? edge->up_acked : after;
    const uint64_t rest = edge->up_last - previous;
    const uint32_t count = rest < COUNT ? (uint32_t)rest : COUNT;
    struct sequenced *records = codec_array(codec, COUNT, sizeof *records);
    for (uint32_t i = 0; i < count; i++) {
        records[i].sequence = previous + i + 1;
        const int status = light_event(edge, records[i].sequence, codec, &records[i].record);
        if (status != 0) {
            return status;
        }
    }
    *out = (struct batch){
        .node = edge->name,
        .stream = edge->up_stream,
        .previous = previous,
        .last = previous + count,
        .tip = edge->up_last,
        .records = records,
        .record_count = count,
    };
    return 0;
}

static int light_on_append(void *context, struct bytes bytes, struct hub_mark mark)
{
    struct light_edge *edge = context;
    struct codec *codec = edge->fleet->read;
    struct record record;
    codec_reset(codec);
    CHECK(codec_record_read(codec, bytes, &record) == 0); /* built by the hub */
    if (record.kind == RECORD_DOWN_BATCH) {
        light_batch(edge, record.body);
    } else {
        light_snapshot(edge, record.body);
    }
    edge->marks[record.kind == RECORD_DOWN_BATCH] = mark;
    light_wake(edge);
    return 0;
}

static void light_on_welcomed(void *context, const struct welcome *welcome)
{
    struct light_edge *edge = context;
    struct light_fleet *fleet = edge->fleet;
    if (fleet->cluster[0] == '\0') {
        snprintf(fleet->cluster, sizeof fleet->cluster, "%s", welcome->cluster);
    }
    if (welcome->up_position > edge->up_last || welcome->up_position < edge->up_acked) {
        light_wrong(edge, "the cloud has our events up to %" PRIu64 ", we told %" PRIu64,
                    welcome->up_position, edge->up_last);
    }
    light_dialed(edge);
    fleet->welcomes++;
    fleet->active++;
    edge->active = true;
    edge->welcomed_ms = light_now(edge);
    edge->heard_ms = edge->welcomed_ms;
    edge->outage_ms = (uint32_t)(edge->welcomed_ms - edge->since_ms);
}

static void light_on_up_acked(void *context, uint64_t stream, uint64_t position)
{
    struct light_edge *edge = context;
    if (stream != edge->up_stream || position > edge->up_last || position < edge->up_acked) {
        light_wrong(edge, "an acknowledgement of %" PRIu64 " after %" PRIu64, position,
                    edge->up_acked);
        return;
    }
    edge->up_acked = position;
}

/* -- the uplink ---------------------------------------------------------------------------------- */

static void light_on_up(void *owner)
{
    struct light_edge *edge = owner;
    hub_on_link_up(&edge->hub, light_now(edge));
    light_wake(edge);
}

static void light_on_frame(void *owner, struct bytes frame)
{
    struct light_edge *edge = owner;
    if (edge->active) {
        const uint64_t silence_ms = light_now(edge) - edge->heard_ms;
        struct light_fleet *fleet = edge->fleet;
        fleet->silence_ms_max =
            silence_ms > fleet->silence_ms_max ? silence_ms : fleet->silence_ms_max;
        edge->heard_ms = light_now(edge);
    }
    hub_on_frame(&edge->hub, frame, light_now(edge));
    light_wake(edge);
}

static void light_on_writable(void *owner)
{
    struct light_edge *edge = owner;
    hub_on_writable(&edge->hub, light_now(edge));
    light_wake(edge);
}

static void light_on_down(void *owner, int status, const char *reason)
{
    struct light_edge *edge = owner;
    struct light_fleet *fleet = edge->fleet;
    (void)status;
    light_dialed(edge);
    if (edge->active) {
        edge->active = false;
        fleet->active--;
        fleet->losses++;
        edge->losses++;
        edge->since_ms = light_now(edge);
    } else {
        fleet->dials_failed++;
        snprintf(fleet->last_failure, sizeof fleet->last_failure, "%s", reason);
    }
    hub_on_link_down(&edge->hub, light_now(edge));
    light_wake(edge);
}

static const struct uplink_events light_uplink_events = {
    .on_up = light_on_up,
    .on_frame = light_on_frame,
    .on_writable = light_on_writable,
    .on_down = light_on_down,
};

/* -- the door ------------------------------------------------------------------------------------ */

void light_edge_init(struct light_edge *edge, struct light_fleet *fleet,
                     struct link_context *context, const char *name, uint64_t seed)
{
    CHECK(strlen(name) < sizeof edge->name);
    *edge = (struct light_edge){
        .fleet = fleet,
        .due_ms = UINT64_MAX,
        .up_stream = (seed & ~FEED_SNAPSHOT_BIT) | 1,
        .door =
            {
                .context = edge,
                .dial = light_on_dial,
                .send = light_on_send,
                .room = light_on_room,
                .close = light_on_close,
                .random = light_on_random,
                .log = light_on_log,
                .hello = light_on_hello,
                .up_read = light_on_up_read,
                .append = light_on_append,
                .welcomed = light_on_welcomed,
                .up_acked = light_on_up_acked,
            },
    };
    memcpy(edge->name, name, strlen(name) + 1);
    hub_init(&edge->hub, &edge->door, fleet->cloud_count, 0, "kelp fleet", NULL, 0);
    uplink_init(&edge->uplink, fleet->loop, context, &light_uplink_events, edge);
}

void light_edge_join(struct light_edge *edge)
{
    CHECK(!edge->joined);
    edge->joined = true;
    edge->since_ms = light_now(edge);
    light_wake(edge);
}

void light_edge_tell(struct light_edge *edge, uint32_t count)
{
    edge->up_last += count;
    hub_on_facts(&edge->hub, light_now(edge));
}

uint64_t light_edge_serial(const struct light_edge *edge)
{
    uint64_t serial = 0;
    for (uint32_t i = 0; i < edge->rows.count; i++) {
        serial = edge->rows.items[i].serial > serial ? edge->rows.items[i].serial : serial;
    }
    return serial;
}

void light_edge_stop(struct light_edge *edge)
{
    edge->joined = false;
    edge->due_ms = UINT64_MAX;
    hub_stop(&edge->hub, light_now(edge));
}

static void light_edge_tick(struct light_edge *edge)
{
    if (!edge->joined) {
        edge->due_ms = UINT64_MAX;
        return;
    }
    for (size_t i = 0; i < 2; i++) { /* the snapshot first: what follows is of its stream */
        if (edge->marks[i].link != 0) {
            hub_on_settled(&edge->hub, edge->marks[i], light_now(edge));
            edge->marks[i].link = 0;
        }
    }
    if (edge->hub.state == HUB_WAITING && edge->fleet->dialing >= LIGHT_EDGE_DIALS) {
        edge->due_ms = light_now(edge) + 1; /* looked at again soon */
        return;
    }
    edge->due_ms = hub_tick(&edge->hub, light_now(edge));
}

void light_edge_look(struct light_edge *edge)
{
    if (edge->due_ms <= light_now(edge)) {
        light_wake(edge);
    }
}

bool light_fleet_turn(struct light_fleet *fleet)
{
    const uint64_t end_ns = uv_hrtime() + TURN_NS;
    while (fleet->woken_first != NULL && uv_hrtime() < end_ns) {
        struct light_edge *edge = fleet->woken_first;
        fleet->woken_first = edge->woken_next;
        if (fleet->woken_first == NULL) {
            fleet->woken_last = NULL;
        }
        edge->woken = false;
        light_edge_tick(edge);
    }
    return fleet->woken_first != NULL;
}
