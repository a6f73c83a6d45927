#include "nodes/cloud/forward.h"

#include "schemas/check.h"

#include <stdlib.h>

/* A record that waits, queued or as part of a command. */
struct forward_item {
    struct lane_item lane;
    struct forward_item *next; /* in its command */
    forward_on_done on_done;
    void *context;
    uint64_t tag;
    uint64_t deadline_ms;
    uint64_t came_us;
    size_t size;
    _Alignas(8) uint8_t record[]; /* while queued; a command has a copy */
};

struct forward_command {
    struct forward_command *next;
    uint64_t sequence;
    uint64_t deadline_ms;
    uint64_t retry_ms;  /* mono: when to send (again); UINT64_MAX: not before leadership moves */
    uint64_t pause_ms;  /* before the next repetition */
    uint32_t sent_count;
    int refusal; /* why the leader did not propose it last, 0: it did, as far as we know */
    uint32_t item_count;
    struct forward_item *items; /* in the order of the records */
    size_t size;
    uint8_t *bytes; /* Command, 8-byte aligned */
};

struct forward_reader {
    struct forward_reader *next;
    forward_on_fresh on_fresh;
    void *context;
    uint64_t deadline_ms;
    uint64_t request; /* 0: not asked yet */
    uint64_t index;   /* the answer, 0: none yet */
};

/* A question of a peer, while the group confirms that we lead. */
struct forward_serve {
    struct forward_serve *next;
    struct forwarder *forward;
    uint64_t peer; /* 0: ourselves */
    uint64_t request;
};

struct forwarder {
    const struct forward_door *door;
    uint64_t replica;
    uint64_t origin;
    uint64_t sequence; /* of the newest command */
    uint32_t propose_ms;
    bool stopped;

    struct lanes lanes;               /* of items, queued and in commands */
    struct forward_command *commands; /* oldest first */
    uint32_t command_count;
    size_t command_bytes;

    struct forward_reader *readers;
    uint32_t reader_count;
    uint64_t request;       /* newest question asked, 0: none under way */
    uint64_t request_last;  /* numbers given out */
    uint64_t request_retry_ms;
    uint64_t now_ms; /* of the newest input */
    struct forward_serve *serves;

    uint64_t refused_count;
    uint64_t repeated_count;
    struct metrics_histogram durations;

    struct codec *codec;
};

struct forwarder *forward_create(const struct forward_door *door, uint64_t replica, uint64_t origin,
                               uint32_t propose_ms)
{
    struct forwarder *forward = calloc(1, sizeof *forward);
    CHECK(forward != NULL);
    forward->door = door;
    forward->replica = replica;
    forward->origin = origin;
    forward->propose_ms = propose_ms;
    forward->codec = codec_create();
    return forward;
}

static uint64_t forward_clock_us(const struct forwarder *forward)
{
    return forward->door->clock_us == NULL ? 0 : forward->door->clock_us(forward->door->context);
}

/* -- items and commands ------------------------------------------------------------------------ */

/* Does the lane, and do all together, hold so little that one more fits? */
static bool forward_fits(const struct forwarder *forward, uint64_t number, size_t size)
{
    const struct lanes *lanes = &forward->lanes;
    const bool large = size > LIMIT_RESERVED_COMMAND_BYTES;
    if (lanes->count >= (large ? LIMIT_FORWARD_LARGE_RECORDS : LIMIT_FORWARD_RECORDS) ||
        lanes->bytes + size > (large ? LIMIT_FORWARD_LARGE_BYTES : LIMIT_FORWARD_BYTES)) {
        return false;
    }
    const struct lane *lane = lanes_find(lanes, number);
    if (lane == NULL || number == FORWARD_LANE_CORE) {
        return true;
    }
    const bool api = number == FORWARD_LANE_API;
    return lane->count < (api ? LIMIT_FORWARD_API_RECORDS : LIMIT_FORWARD_SESSION_RECORDS) &&
           lane->bytes + size <= (api ? LIMIT_FORWARD_API_BYTES : LIMIT_FORWARD_SESSION_BYTES);
}

int forward_submit(struct forwarder *forward, uint64_t lane, struct bytes record,
                   forward_on_done on_done, void *context, uint64_t tag, uint64_t now_ms)
{
    if (forward->stopped) {
        return STATUS_CLOSING;
    }
    if (record.size > LIMIT_RECORD_BYTES + LIMIT_FEED_APPEND_BYTES) {
        return STATUS_TOO_LARGE; /* a batch of the largest record, or of many small ones */
    }
    if (!forward_fits(forward, lane, record.size)) {
        forward->refused_count++;
        return STATUS_FULL;
    }

    struct forward_item *item = malloc(sizeof *item + record.size);
    CHECK(item != NULL);
    *item = (struct forward_item){
        .on_done = on_done,
        .context = context,
        .tag = tag,
        .deadline_ms = now_ms + forward->propose_ms,
        .came_us = forward_clock_us(forward),
        .size = record.size,
    };
    memcpy(item->record, record.data, record.size);
    lanes_push(&forward->lanes, lane,
               lane < FORWARD_LANE_SESSIONS ? FORWARD_SHARE_BYTES_MANY : FORWARD_SHARE_BYTES,
               &item->lane, record.size);
    return 0;
}

static void forward_command_free(struct forward_command *command)
{
    while (command->items != NULL) {
        struct forward_item *item = command->items;
        command->items = item->next;
        free(item);
    }
    free(command->bytes);
    free(command);
}

/* One item is over. It may submit again from inside its callback. */
static void forward_item_end(struct forwarder *forward, struct forward_item *item, int status,
                             int outcome, uint64_t value)
{
    lanes_done(&forward->lanes, &item->lane);
    if (status == 0 && item->came_us != 0) {
        metrics_observe_us(&forward->durations, forward_clock_us(forward) - item->came_us);
    }
    const struct forward_item ended = *item;
    free(item);
    if (ended.on_done != NULL) {
        ended.on_done(ended.context, ended.tag, status, outcome, value);
    }
}

/* The one way out of a command; already unlinked. */
static void forward_command_end(struct forwarder *forward, struct forward_command *command,
                                int status, const struct forward_result *results)
{
    uint32_t place = 0;
    while (command->items != NULL) {
        struct forward_item *item = command->items;
        command->items = item->next;
        forward_item_end(forward, item, status, results == NULL ? 0 : results[place].outcome,
                         results == NULL ? 0 : results[place].value);
        place++;
    }
    forward_command_free(command);
}

static struct forward_command *forward_unlink(struct forwarder *forward, uint64_t sequence)
{
    for (struct forward_command **at = &forward->commands; *at != NULL; at = &(*at)->next) {
        struct forward_command *command = *at;
        if (command->sequence == sequence) {
            *at = command->next;
            forward->command_count--;
            forward->command_bytes -= command->size;
            return command;
        }
    }
    return NULL;
}

static struct forward_item *forward_item_of(struct lane_item *item)
{
    return item == NULL ? NULL : CONTAINER_OF(item, struct forward_item, lane);
}

/* Take the records whose turn it is out of the queue, as many as a command holds, in order.
 *   answers  how many */
static uint32_t forward_gather(struct forwarder *forward, struct bytes *out_records,
                               struct forward_item **out_items)
{
    uint32_t count = 0;
    size_t size = 0;
    struct forward_item **end = out_items;
    *out_items = NULL;
    while (count < LIMIT_FORWARD_COMMAND_RECORDS) {
        struct forward_item *item = forward_item_of(lanes_next(&forward->lanes));
        if (item == NULL || (count > 0 && size + item->size > FORWARD_COMMAND_BYTES)) {
            break;
        }
        lanes_take(&forward->lanes, &item->lane);
        out_records[count] = bytes_of(item->record, item->size);
        count++;
        size += item->size;
        *end = item;
        end = &item->next;
    }
    return count;
}

/* Put the records whose turn it is into one command. */
static void forward_form(struct forwarder *forward, uint64_t now_ms)
{
    struct bytes records[LIMIT_FORWARD_COMMAND_RECORDS];
    struct forward_item *items;
    const uint32_t count = forward_gather(forward, records, &items);
    CHECK(count > 0);

    struct bytes bytes;
    codec_reset(forward->codec);
    const struct command build = {
        .time_ms = forward->door->wall_ms(forward->door->context),
        .origin = forward->origin,
        .sequence = forward->sequence + 1,
        .records = records,
        .record_count = count,
    };
    const int status = codec_command_build(forward->codec, &build, &bytes);
    CHECK(status == 0); /* forward_submit bounds each record, and there is room for one */

    struct forward_command *command = calloc(1, sizeof *command);
    CHECK(command != NULL);
    command->bytes = aligned_alloc(8, (bytes.size + 7) / 8 * 8);
    CHECK(command->bytes != NULL);
    memcpy(command->bytes, bytes.data, bytes.size);
    command->size = bytes.size;
    command->sequence = ++forward->sequence;
    command->deadline_ms = UINT64_MAX;
    for (const struct forward_item *item = items; item != NULL; item = item->next) {
        command->deadline_ms =
            item->deadline_ms < command->deadline_ms ? item->deadline_ms : command->deadline_ms;
    }
    command->retry_ms = now_ms;
    command->pause_ms = FORWARD_RETRY_MS;
    command->item_count = count;
    command->items = items;
    struct forward_command **at = &forward->commands;
    while (*at != NULL) {
        at = &(*at)->next;
    }
    *at = command;
    forward->command_count++;
    forward->command_bytes += command->size;
}

/* It was not proposed. A full disk does not heal within a request, so that is told at once. */
static void forward_command_refuse(struct forward_command *command, int status, uint64_t now_ms)
{
    command->refusal = status;
    command->retry_ms = now_ms + FORWARD_REFUSED_MS;
    if (status == -ENOSPC && command->sent_count == 0) {
        command->deadline_ms = now_ms;
    }
}

/* Hand a command to whoever leads. */
static void forward_send(struct forwarder *forward, struct forward_command *command, uint64_t now_ms)
{
    const uint64_t leader = forward->door->leader(forward->door->context);
    forward->repeated_count += leader != 0 && command->sent_count > 0;
    if (leader == 0) {
        command->retry_ms = UINT64_MAX; /* forward_leadership wakes it */
        return;
    }
    if (leader == forward->replica) {
        const int status = forward->door->propose(
            forward->door->context, bytes_of(command->bytes, command->size));
        if (status == 0) {
            command->sent_count++;
            command->retry_ms = UINT64_MAX;
        } else {
            forward_command_refuse(command, status, now_ms);
        }
        return;
    }

    struct bytes body;
    struct bytes frame;
    codec_reset(forward->codec);
    if (codec_forward_build(forward->codec,
                            &(struct forward){
                                .origin = forward->origin,
                                .sequence = command->sequence,
                                .command = bytes_of(command->bytes, command->size),
                            },
                            &body) == 0 &&
        codec_frame_build(forward->codec, WIRE_FORWARD, body, &frame) == 0) {
        forward->door->send_peer(forward->door->context, leader, frame);
        command->sent_count++;
    }
    command->retry_ms = now_ms + command->pause_ms;
    command->pause_ms = command->pause_ms * 2 > FORWARD_RETRY_MS_MAX ? FORWARD_RETRY_MS_MAX
                                                                     : command->pause_ms * 2;
}

int forward_read(struct forwarder *forward, forward_on_fresh on_fresh, void *context,
                 uint64_t now_ms)
{
    if (forward->stopped) {
        return STATUS_CLOSING;
    }
    if (forward->reader_count >= LIMIT_FORWARD_READERS) {
        return STATUS_FULL;
    }
    struct forward_reader *reader = calloc(1, sizeof *reader);
    CHECK(reader != NULL);
    reader->on_fresh = on_fresh;
    reader->context = context;
    reader->deadline_ms = now_ms + forward->propose_ms;
    reader->next = forward->readers;
    forward->readers = reader;
    forward->reader_count++;
    return 0;
}

bool forward_applied(struct forwarder *forward, uint64_t origin, uint64_t sequence,
                     const struct forward_result *results, uint32_t count)
{
    if (origin != forward->origin) {
        return false;
    }
    struct forward_command *command = forward_unlink(forward, sequence);
    if (command == NULL) {
        return false; /* given up before */
    }
    const bool known = count == command->item_count;
    forward_command_end(forward, command, known ? 0 : STATUS_UNKNOWN, known ? results : NULL);
    return true;
}

void forward_leadership(struct forwarder *forward)
{
    for (struct forward_command *c = forward->commands; c != NULL; c = c->next) {
        c->retry_ms = 0;
        c->pause_ms = FORWARD_RETRY_MS;
    }
    forward->request = 0;
    forward->request_retry_ms = 0; /* the question that waits for an answer was for another one */
    for (struct forward_reader *r = forward->readers; r != NULL; r = r->next) {
        if (r->index == 0) {
            r->request = 0;
        }
    }
}

/* -- reads ------------------------------------------------------------------------------------- */

/* The answer to a question: every reader that it was asked for may go on from this index. */
static void forward_on_index(struct forwarder *forward, uint64_t request, int status,
                             uint64_t index)
{
    if (request == 0 || request != forward->request) {
        return; /* of a question that was given up */
    }
    forward->request = 0;
    forward->request_retry_ms = status == 0 ? 0 : forward->now_ms + FORWARD_REFUSED_MS;
    for (struct forward_reader *r = forward->readers; r != NULL; r = r->next) {
        if (r->request == request && r->index == 0) {
            r->request = 0; /* asked again when the leader refused */
            r->index = status == 0 ? index : 0;
        }
    }
}

static void forward_serve_unlink(struct forwarder *forward, struct forward_serve *serve)
{
    struct forward_serve **at = &forward->serves;
    while (*at != serve) {
        CHECK(*at != NULL);
        at = &(*at)->next;
    }
    *at = serve->next;
}

static void forward_answer_read(struct forwarder *forward, uint64_t peer, uint64_t request,
                                int status, uint64_t index)
{
    if (peer == 0) {
        forward_on_index(forward, request, status, index);
        return;
    }
    struct bytes body;
    struct bytes frame;
    codec_reset(forward->codec);
    const struct read_index answer = {.request = request, .index = index, .status = status};
    if (codec_read_index_build(forward->codec, &answer, &body) == 0 &&
        codec_frame_build(forward->codec, WIRE_READ_ANSWER, body, &frame) == 0) {
        forward->door->send_peer(forward->door->context, peer, frame);
    }
}

static void forward_serve_on_read(void *context, int status, uint64_t index)
{
    struct forward_serve *serve = context;
    struct forwarder *forward = serve->forward;
    forward_serve_unlink(forward, serve);
    const uint64_t peer = serve->peer;
    const uint64_t request = serve->request;
    free(serve);
    forward_answer_read(forward, peer, request, status, index);
}

/* Ask our replica, as the leader, on behalf of a peer or of ourselves (0). */
static void forward_serve_read(struct forwarder *forward, uint64_t peer, uint64_t request)
{
    struct forward_serve *serve = calloc(1, sizeof *serve);
    CHECK(serve != NULL);
    *serve = (struct forward_serve){
        .next = forward->serves,
        .forward = forward,
        .peer = peer,
        .request = request,
    };
    forward->serves = serve;
    const int status =
        forward->door->read(forward->door->context, forward_serve_on_read, serve);
    if (status != 0) {
        forward_serve_on_read(serve, status, 0);
    }
}

/* Ask the leader once for all readers that have not been asked for. */
static void forward_ask(struct forwarder *forward, uint64_t now_ms)
{
    if (forward->request != 0 && now_ms < forward->request_retry_ms) {
        return;
    }
    bool wanted = false;
    for (struct forward_reader *r = forward->readers; r != NULL; r = r->next) {
        wanted = wanted || r->index == 0;
    }
    const uint64_t leader = forward->door->leader(forward->door->context);
    if (!wanted || leader == 0 || now_ms < forward->request_retry_ms) {
        return;
    }

    forward->request = ++forward->request_last;
    for (struct forward_reader *r = forward->readers; r != NULL; r = r->next) {
        if (r->index == 0) {
            r->request = forward->request;
        }
    }
    if (leader == forward->replica) {
        forward->request_retry_ms = now_ms + FORWARD_RETRY_MS;
        forward_serve_read(forward, 0, forward->request);
        return;
    }
    struct bytes body;
    struct bytes frame;
    codec_reset(forward->codec);
    forward->request_retry_ms = now_ms + FORWARD_RETRY_MS;
    const struct read_index ask = {.request = forward->request};
    if (codec_read_index_build(forward->codec, &ask, &body) == 0 &&
        codec_frame_build(forward->codec, WIRE_READ_ASK, body, &frame) == 0) {
        forward->door->send_peer(forward->door->context, leader, frame);
    }
}

bool forward_reader_ready(const struct forwarder *forward)
{
    const struct forward_reader *reader = forward->readers;
    const uint64_t applied = reader == NULL ? 0 : forward->door->applied(forward->door->context);
    while (reader != NULL && (reader->index == 0 || reader->index > applied)) {
        reader = reader->next;
    }
    return reader != NULL;
}

/* Readers that are caught up with, or overdue. */
static void forward_end_readers(struct forwarder *forward, uint64_t now_ms)
{
    const uint64_t applied = forward->door->applied(forward->door->context);
    struct forward_reader *ended = NULL;
    struct forward_reader **at = &forward->readers;
    while (*at != NULL) {
        struct forward_reader *reader = *at;
        if ((reader->index == 0 || reader->index > applied) && now_ms < reader->deadline_ms) {
            at = &reader->next;
            continue;
        }
        *at = reader->next;
        forward->reader_count--;
        reader->next = ended;
        ended = reader;
    }
    while (ended != NULL) { /* the list was filled newest first, so this is oldest first */
        struct forward_reader *reader = ended;
        ended = reader->next;
        const bool fresh = reader->index != 0 && reader->index <= applied;
        const int late = reader->index == 0 ? STATUS_NOT_LEADER : STATUS_TIMEOUT;
        reader->on_fresh(reader->context, fresh ? 0 : late);
        free(reader);
    }
}

/* -- peers ------------------------------------------------------------------------------------- */

static void forward_refuse(struct forwarder *forward, uint64_t to, const struct forward *asked,
                           int status)
{
    struct bytes body;
    struct bytes frame;
    codec_reset(forward->codec);
    if (codec_forward_build(forward->codec,
                            &(struct forward){
                                .origin = asked->origin,
                                .sequence = asked->sequence,
                                .status = status,
                                .leader = forward->door->leader(forward->door->context),
                            },
                            &body) == 0 &&
        codec_frame_build(forward->codec, WIRE_FORWARD_REFUSED, body, &frame) == 0) {
        forward->door->send_peer(forward->door->context, to, frame);
    }
}

/* Propose what a follower sent, with our clock: the time in the log is the leader's. */
static int forward_on_forward(struct forwarder *forward, uint64_t from, struct bytes body)
{
    struct codec *codec = forward->codec;
    struct forward asked;
    struct command command;
    codec_reset(codec);
    int status = codec_forward_read(codec, body, &asked);
    if (status == 0) {
        status = codec_command_read(codec, asked.command, &command);
    }
    if (status != 0 || command.origin != asked.origin || command.sequence != asked.sequence ||
        command.origin >> 32 != from) {
        return STATUS_MALFORMED;
    }

    struct bytes bytes;
    command.time_ms = forward->door->wall_ms(forward->door->context);
    status = forward->door->leader(forward->door->context) == forward->replica
                 ? codec_command_build(codec, &command, &bytes)
                 : STATUS_NOT_LEADER;
    if (status == 0) {
        status = forward->door->propose(forward->door->context, bytes);
    }
    if (status != 0) {
        forward_refuse(forward, from, &asked, status);
    }
    return 0;
}

/* The leader did not propose it: again soon, perhaps with another one. */
static int forward_on_refused(struct forwarder *forward, struct bytes body, uint64_t now_ms)
{
    struct forward refused;
    codec_reset(forward->codec);
    if (codec_forward_read(forward->codec, body, &refused) != 0) {
        return STATUS_MALFORMED;
    }
    if (refused.origin != forward->origin) {
        return 0;
    }
    for (struct forward_command *c = forward->commands; c != NULL; c = c->next) {
        if (c->sequence == refused.sequence) {
            /* The only time it was sent was for nothing; links between replicas do not double. */
            c->sent_count = c->sent_count == 1 ? 0 : c->sent_count;
            forward_command_refuse(c, refused.status, now_ms);
        }
    }
    return 0;
}

int forward_on_peer(struct forwarder *forward, uint64_t from, uint16_t kind, struct bytes body,
                    uint64_t now_ms)
{
    struct read_index read;
    forward->now_ms = now_ms;
    switch (kind) {
    case WIRE_FORWARD:
        return forward_on_forward(forward, from, body);
    case WIRE_FORWARD_REFUSED:
        return forward_on_refused(forward, body, now_ms);
    case WIRE_READ_ASK:
        codec_reset(forward->codec);
        if (codec_read_index_read(forward->codec, body, &read) != 0) {
            return STATUS_MALFORMED;
        }
        forward_serve_read(forward, from, read.request);
        return 0;
    case WIRE_READ_ANSWER:
        codec_reset(forward->codec);
        if (codec_read_index_read(forward->codec, body, &read) != 0) {
            return STATUS_MALFORMED;
        }
        forward_on_index(forward, read.request, read.status, read.index);
        return 0;
    default:
        return STATUS_MALFORMED;
    }
}

/* -- time -------------------------------------------------------------------------------------- */

/* What is overdue: sent at least once means that nobody can tell. */
static void forward_end_overdue(struct forwarder *forward, uint64_t now_ms)
{
    struct forward_command *command = forward->commands;
    while (command != NULL) {
        struct forward_command *next = command->next;
        if (now_ms >= command->deadline_ms) {
            struct forward_command *ended = forward_unlink(forward, command->sequence);
            CHECK(ended == command);
            const int why = command->refusal == 0 ? STATUS_NOT_LEADER : command->refusal;
            forward_command_end(forward, command, command->sent_count > 0 ? STATUS_UNKNOWN : why,
                                NULL);
            next = forward->commands; /* callbacks may have changed the list */
        }
        command = next;
    }
    struct forward_item *item;
    while ((item = forward_item_of(lanes_oldest(&forward->lanes))) != NULL &&
           now_ms >= item->deadline_ms) {
        lanes_take(&forward->lanes, &item->lane);
        forward_item_end(forward, item, STATUS_NOT_LEADER, 0, 0);
    }
}

uint64_t forward_run(struct forwarder *forward, uint64_t now_ms)
{
    forward->now_ms = now_ms;
    forward_end_overdue(forward, now_ms);
    while (lanes_oldest(&forward->lanes) != NULL && forward->command_count < LIMIT_FORWARD_FLIGHT &&
           forward->command_bytes < LIMIT_FORWARD_FLIGHT_BYTES) {
        forward_form(forward, now_ms);
    }
    uint64_t next = UINT64_MAX;
    for (struct forward_command *c = forward->commands; c != NULL; c = c->next) {
        if (now_ms >= c->retry_ms && now_ms < c->deadline_ms) {
            forward_send(forward, c, now_ms);
        }
        next = c->retry_ms < next ? c->retry_ms : next;
        next = c->deadline_ms < next ? c->deadline_ms : next;
    }
    const struct forward_item *oldest = forward_item_of(lanes_oldest(&forward->lanes));
    if (oldest != NULL && oldest->deadline_ms < next) {
        next = oldest->deadline_ms;
    }
    if (forward->readers != NULL) {
        forward_ask(forward, now_ms);
        forward_end_readers(forward, now_ms);
    }
    for (struct forward_reader *r = forward->readers; r != NULL; r = r->next) {
        next = r->deadline_ms < next ? r->deadline_ms : next;
    }
    if (forward->readers != NULL && forward->request_retry_ms > now_ms &&
        forward->request_retry_ms < next) {
        next = forward->request_retry_ms;
    }
    return next;
}

/* End all records; those of a command that was sent with `sent_status`. */
static void forward_end_all(struct forwarder *forward, int sent_status)
{
    while (forward->commands != NULL) {
        struct forward_command *command = forward_unlink(forward, forward->commands->sequence);
        forward_command_end(forward, command,
                            command->sent_count > 0 ? sent_status : STATUS_CLOSING, NULL);
    }
    struct forward_item *item;
    while ((item = forward_item_of(lanes_oldest(&forward->lanes))) != NULL) {
        lanes_take(&forward->lanes, &item->lane);
        forward_item_end(forward, item, STATUS_CLOSING, 0, 0);
    }
}

void forward_stop(struct forwarder *forward)
{
    forward->stopped = true;
    forward_end_all(forward, STATUS_UNKNOWN);
    while (forward->readers != NULL) {
        struct forward_reader *reader = forward->readers;
        forward->readers = reader->next;
        forward->reader_count--;
        reader->on_fresh(reader->context, STATUS_CLOSING);
        free(reader);
    }
}

uint32_t forward_count(const struct forwarder *forward)
{
    return forward->lanes.count;
}

struct forward_report forward_report(const struct forwarder *forward)
{
    return (struct forward_report){
        .records = forward->lanes.count,
        .bytes = forward->lanes.bytes,
        .commands = forward->command_count,
        .readers = forward->reader_count,
        .refused = forward->refused_count,
        .repeated = forward->repeated_count,
        .durations = &forward->durations,
    };
}

void forward_destroy(struct forwarder *forward)
{
    if (forward == NULL) {
        return;
    }
    forward->stopped = true;
    forward_end_all(forward, STATUS_CLOSING);
    while (forward->readers != NULL) {
        struct forward_reader *reader = forward->readers;
        forward->readers = reader->next;
        free(reader);
    }
    while (forward->serves != NULL) {
        struct forward_serve *serve = forward->serves;
        forward->serves = serve->next;
        free(serve);
    }
    codec_destroy(forward->codec);
    free(forward);
}
