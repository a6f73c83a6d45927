/* The replica that lags.
 *
 *   1. want: the staging is opened, with what an earlier attempt left in it
 *   2. the walk finds the first range that is not confirmed at the source's position, or is missing
 *   3. it is asked for, checked, written with its record, in one commit; the walk goes on
 *   4. everything is confirmed: all rows are read back; then the staging is marked complete, flushed
 *   5. take: the owner makes it the state
 *
 * What can fail: answers do not come (asked again, of another replica), are of another position (the
 * walk begins again), do not make sense (dropped, asked again); the disk is full (written again
 * later); the staging cannot be read (removed, begun anew).
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "nodes/cloud/transfer.h"
#include "schemas/check.h"

#define SINK_FLUSH_BYTES (32u * 1024u * 1024u) /* written, or */
#define SINK_FLUSH_MS    2000u                 /* since the last flush: what a crash costs */
#define SINK_CHECK_BYTES (8u * 1024u * 1024u)  /* read back in one go */
#define SINK_WALK_RANGES 4096u                 /* passed by in one go */
#define SINK_RETRY_MS    1000u                 /* after a refusal, a full disk */
#define SINK_ANEW_MS     5000u                 /* after the staging was found to be damaged */
#define SINK_PROGRESS_MS 5000u
#define SINK_LED_MS      500u /* a leader that was asked, and is not the leader any more */
#define SINK_SILENCES    2u   /* of the leader, before others are asked */

/* A record: position u64, digest 2 u64, rows u64, bytes of the place where it ends. */
#define RECORD_BYTES 32u

/* The row that says that everything is there; behind all places. */
static const struct bytes key_complete = {.data = (const uint8_t *)"\xff", .size = 1};

struct sink_record {
    uint64_t position;
    struct tag digest;
    uint64_t count;
    struct transfer_place end;
};

__attribute__((format(printf, 4, 5))) static void sink_log(struct transfer_sink *sink,
                                                           enum logger_level level,
                                                           const char *event, const char *format,
                                                           ...)
{
    char pairs[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(pairs, sizeof pairs, format, arguments);
    va_end(arguments);
    sink->door->log(sink->door->context, level, event, pairs);
}

/* -- records (pool) ---------------------------------------------------------------------------- */

static int record_read(struct bytes value, struct sink_record *out)
{
    if (value.size < RECORD_BYTES || value.size - RECORD_BYTES > LIMIT_STORE_KEY_BYTES) {
        return STATUS_CORRUPT;
    }
    out->position = get_le64(value.data);
    out->digest.low = get_le64(value.data + 8);
    out->digest.high = get_le64(value.data + 16);
    out->count = get_le64(value.data + 24);
    transfer_place_set(&out->end, bytes_of(value.data + RECORD_BYTES, value.size - RECORD_BYTES));
    return STATUS_OK;
}

static void record_put(struct store *staging, struct bytes from, const struct sink_record *record)
{
    uint8_t value[RECORD_BYTES + LIMIT_STORE_KEY_BYTES];
    put_le64(value, record->position);
    put_le64(value + 8, record->digest.low);
    put_le64(value + 16, record->digest.high);
    put_le64(value + 24, record->count);
    memcpy(value + RECORD_BYTES, record->end.bytes, record->end.size);
    store_put(staging, TRANSFER_TABLE, from, bytes_of(value, RECORD_BYTES + record->end.size));
}

/* Go on with the walk: past all ranges that are confirmed, or a portion of them.
 *
 *   answers    0: `at` is where there is work, or at_end; or, neither has nor end is known, it goes on */
static int sink_walk(struct transfer_sink *sink, bool *out_more)
{
    *out_more = false;
    if (sink->restart) {
        sink->restart = false;
        transfer_place_set(&sink->at, bytes_of(NULL, 0));
        sink->at_end = false;
        sink->rows_confirmed = 0;
    }
    struct store_reader *reader = store_live(sink->staging);
    struct store_iterator *iterator = store_iterate(reader, TRANSFER_TABLE, (struct bytes){0});
    int status = STATUS_OK;
    uint32_t passed = 0;
    bool on = store_iterator_seek(iterator, transfer_place_bytes(&sink->at));
    sink->has = false;
    while (!sink->at_end) {
        const bool there = on && bytes_compare(store_iterator_key(iterator), key_complete) != 0;
        if (!there) {
            transfer_place_set(&sink->end, bytes_of(NULL, 0));
            break;
        }
        if (!bytes_equal(store_iterator_key(iterator), transfer_place_bytes(&sink->at))) {
            transfer_place_set(&sink->end, store_iterator_key(iterator));
            break;
        }
        struct sink_record record;
        status = record_read(store_iterator_value(iterator), &record);
        if (status != STATUS_OK) {
            break;
        }
        if (record.position != sink->position) {
            sink->has = true;
            sink->digest = record.digest;
            sink->has_count = record.count;
            sink->end = record.end;
            break;
        }
        sink->rows_confirmed += record.count;
        sink->at = record.end;
        sink->at_end = record.end.size == 0;
        passed++;
        if (passed == SINK_WALK_RANGES && !sink->at_end) {
            *out_more = true;
            break;
        }
        on = store_iterator_next(iterator);
    }
    if (status == STATUS_OK) {
        status = store_iterator_status(iterator);
    }
    store_iterator_close(iterator);
    store_reader_reset(reader);
    return status;
}

/* -- work (pool) ------------------------------------------------------------------------------- */

static int sink_walk_on(struct transfer_sink *sink)
{
    bool more = true;
    int status = STATUS_OK;
    while (more && status == STATUS_OK) {
        status = sink_walk(sink, &more);
    }
    return status;
}

static void work_open(struct replica_work *work)
{
    struct transfer_sink *sink = CONTAINER_OF(work, struct transfer_sink, work);
    if (sink->anew && sink->staging != NULL) {
        sink->door->drop(sink->door->context, sink->staging);
        sink->staging = NULL;
    }
    sink->work_status = STATUS_OK;
    if (sink->staging == NULL) {
        struct store *staging = NULL;
        sink->work_status = sink->door->open(sink->door->context, sink->anew, &staging);
        sink->staging = sink->work_status == STATUS_OK ? staging : NULL;
    }
    if (sink->work_status == STATUS_OK) {
        sink->restart = true;
        sink->work_status = sink_walk_on(sink);
    }
}

/* What was answered about the range at `at`: its rows and its record, or nothing. */
static int write_range(struct transfer_sink *sink)
{
    struct store *staging = sink->staging;
    const struct bytes at = transfer_place_bytes(&sink->at);
    const struct transfer_rows *answer = &sink->answer;
    struct sink_record record = {
        .position = sink->position,
        .digest = answer->digest,
        .count = sink->answer_same ? sink->has_count : answer->count,
        .end = sink->answer_end,
    };
    int status = STATUS_OK;
    store_begin(staging);
    store_remove(staging, TRANSFER_TABLE, key_complete);
    if (!sink->answer_same) {
        if (sink->has) { /* its other part, if the answer ends before, is asked for again */
            status = transfer_rows_remove(staging, at, transfer_place_bytes(&sink->end));
        }
        transfer_rows_put(staging, bytes_of(answer->data, answer->size));
    }
    record_put(staging, at, &record);
    if (status == STATUS_OK) {
        status = store_commit(staging, store_position(staging));
    }
    if (status != STATUS_OK) {
        store_abandon(staging);
    }
    return status;
}

static void work_write(struct replica_work *work)
{
    struct transfer_sink *sink = CONTAINER_OF(work, struct transfer_sink, work);
    sink->work_status = write_range(sink);
    if (sink->work_status != STATUS_OK) {
        return;
    }
    sink->unflushed_bytes += sink->answer.size;
    if ((sink->flush || sink->unflushed_bytes >= SINK_FLUSH_BYTES) &&
        store_flush(sink->staging) == STATUS_OK) { /* otherwise again behind the next range */
        sink->unflushed_bytes = 0;
        sink->flush = false;
    }
    sink->work_status = sink_walk_on(sink);
}

/* The rows are not what was written: this range is asked for again. */
static int check_forget(struct transfer_sink *sink, const struct sink_record *record)
{
    const struct bytes at = transfer_place_bytes(&sink->check_at);
    store_begin(sink->staging);
    store_remove(sink->staging, TRANSFER_TABLE, at);
    int status = transfer_rows_remove(sink->staging, at, transfer_place_bytes(&record->end));
    if (status == STATUS_OK) {
        status = store_commit(sink->staging, store_position(sink->staging));
    }
    if (status != STATUS_OK) {
        store_abandon(sink->staging);
    }
    sink->restart = true;
    sink->ranges_rotten++;
    return status == STATUS_OK ? sink_walk_on(sink) : status;
}

/* A portion of the ranges.
 *   answers   1: this was the last; 0; negative */
static int check_portion(struct transfer_sink *sink)
{
    uint64_t bytes = 0;
    struct store_reader *reader = store_live(sink->staging);
    while (bytes < SINK_CHECK_BYTES) {
        const struct bytes at = transfer_place_bytes(&sink->check_at);
        struct bytes value;
        struct sink_record record;
        struct tag digest;
        uint64_t count = 0;
        store_reader_reset(reader);
        int status = store_get(reader, TRANSFER_TABLE, at, &value);
        if (status == STORE_NONE) {
            sink->restart = true; /* not all are there */
            return sink_walk_on(sink);
        }
        if (status == STATUS_OK) {
            status = record_read(value, &record);
        }
        if (status == STATUS_OK) {
            status = transfer_rows_measure(reader, at, transfer_place_bytes(&record.end), &digest,
                                           &count);
        }
        if (status != STATUS_OK) {
            return status;
        }
        if (record.position != sink->position || count != record.count ||
            !tag_equal(digest, record.digest)) {
            return check_forget(sink, &record);
        }
        if (record.end.size == 0) {
            return 1;
        }
        sink->check_at = record.end;
        bytes += LIMIT_TRANSFER_BYTES;
    }
    return 0;
}

/* Complete, durably, at the position. */
static int check_finish(struct transfer_sink *sink)
{
    struct store *staging = sink->staging;
    if (store_position(staging) > sink->position) {
        return STATUS_CORRUPT; /* complete once at a newer place of another log */
    }
    store_begin(staging);
    store_put(staging, TRANSFER_TABLE, key_complete, (struct bytes){0});
    int status = store_commit(staging, sink->position);
    if (status != STATUS_OK) {
        store_abandon(staging);
        return status;
    }
    status = store_flush(staging);
    return status == STATUS_OK ? 1 : status;
}

static void work_check(struct replica_work *work)
{
    struct transfer_sink *sink = CONTAINER_OF(work, struct transfer_sink, work);
    sink->work_status = check_portion(sink);
    if (sink->work_status == 1) {
        sink->work_status = check_finish(sink);
    }
}

static void work_drop(struct replica_work *work)
{
    struct transfer_sink *sink = CONTAINER_OF(work, struct transfer_sink, work);
    sink->door->drop(sink->door->context, sink->staging);
    sink->staging = NULL;
    sink->work_status = STATUS_OK;
}

int transfer_staging_complete(struct store *staging)
{
    const int found = store_find(store_live(staging), TRANSFER_TABLE, key_complete);
    if (found != STATUS_OK || store_position(staging) == 0) {
        return found < 0 ? found : 0;
    }
    store_begin(staging);
    int status = store_remove_prefix(staging, TRANSFER_TABLE, (struct bytes){0});
    if (status == STATUS_OK) {
        status = store_commit(staging, store_position(staging));
    }
    if (status != STATUS_OK) {
        store_abandon(staging); /* they are in nobody's way */
    }
    return 1;
}

/* -- on the loop ------------------------------------------------------------------------------- */

static void sink_done(struct replica_work *work);

static void sink_work(struct transfer_sink *sink, enum transfer_state state,
                      void (*function)(struct replica_work *work))
{
    CHECK(!sink->working);
    sink->state = state;
    sink->working = true;
    sink->work = (struct replica_work){.work = function, .done = sink_done};
    sink->door->run(sink->door->context, &sink->work);
}

static void sink_ask_now(struct transfer_sink *sink)
{
    sink->state = TRANSFER_ASKING;
    sink->asked = false;
    sink->refused = false;
    sink->due_ms = 0;
}

/* It waits, and says so once. */
static void sink_wait(struct transfer_sink *sink, int status)
{
    if (sink->waits != status) {
        sink->waits = status;
        sink_log(sink, LOGGER_WARN, "transfer_waits", "status=%d reason=%s", status,
                 status_text(status));
    }
}

static void sink_done(struct replica_work *work)
{
    struct transfer_sink *sink = CONTAINER_OF(work, struct transfer_sink, work);
    CHECK(sink->working);
    sink->working = false;
    if (sink->state == TRANSFER_DROPPING) {
        sink->state = TRANSFER_NONE;
        return;
    }
    if (sink->ranges_rotten > sink->rotten_told) {
        sink->rotten_told = sink->ranges_rotten;
        sink_log(sink, LOGGER_ERROR, "transfer_rotten",
                 "position=%" PRIu64 " ranges=%" PRIu64
                 " reason=rows that were written are not what is read; asked for again",
                 sink->position, sink->ranges_rotten);
    }
    const int status = sink->work_status;
    if (status == STATUS_FULL || status == -ENOSPC || status == -EDQUOT) {
        sink_wait(sink, status); /* the same again, see transfer_sink_run */
        return;
    }
    if (status < 0) {
        sink_log(sink, LOGGER_ERROR, "transfer_failed", "status=%d reason=%s; begun anew", status,
                 sink->staging == NULL ? status_text(status) : store_error(sink->staging));
        sink->anew = true;
        sink->waits = status;
        sink->state = TRANSFER_OPENING;
        return;
    }
    sink->waits = 0;
    sink->anew = false;
    if (sink->state == TRANSFER_CHECKING && status == 1) {
        sink->state = TRANSFER_READY;
    } else if (!sink->at_end || sink->position == 0) {
        sink_ask_now(sink);
    } else if (sink->state != TRANSFER_CHECKING) {
        transfer_place_set(&sink->check_at, bytes_of(NULL, 0));
        sink->state = TRANSFER_CHECKING;
    }
}

void transfer_sink_init(struct transfer_sink *sink, const struct transfer_door *door, uint64_t self,
                        const uint64_t *members, uint32_t member_count, uint64_t rate_bytes,
                        uint64_t request)
{
    *sink = (struct transfer_sink){
        .door = door,
        .codec = codec_create(),
        .self = self,
        .members = members,
        .member_count = member_count,
        .rate_bytes = rate_bytes,
        .request = request,
    };
}

void transfer_sink_set_members(struct transfer_sink *sink, uint32_t member_count)
{
    sink->member_count = member_count;
}

void transfer_sink_deinit(struct transfer_sink *sink)
{
    codec_destroy(sink->codec);
    free(sink->answer.data);
}

void transfer_sink_want(struct transfer_sink *sink, uint64_t from, uint64_t needed, uint64_t now_ms)
{
    sink->unwanted = false;
    if (needed > sink->needed) {
        sink->needed = needed;
    }
    if (sink->state == TRANSFER_NONE || sink->state == TRANSFER_DROPPING) {
        /* begun by transfer_sink_run */
        sink->source = from;
        sink->heard = 0;
        sink->position = 0;
        sink->restart = true;
        sink->anew = false;
        sink->silences = 0;
        sink->rows_confirmed = 0;
        sink->row_count = 0;
        sink->bytes_received = 0;
        sink->ranges_kept = 0;
        sink->ranges_taken = 0;
        sink->begun_ms = now_ms;
        sink->told_ms = now_ms;
        sink->waits = 0;
        return;
    }
    if (sink->source != from && sink->silences > 0) {
        sink->source = from;
        sink->due_ms = 0;
    }
}

void transfer_sink_cancel(struct transfer_sink *sink)
{
    if (sink->state != TRANSFER_NONE) {
        sink->unwanted = true;
    }
}

/* -- asking ------------------------------------------------------------------------------------ */

static void sink_send(struct transfer_sink *sink, const struct state_ask *ask)
{
    struct bytes body;
    struct bytes frame;
    codec_reset(sink->codec);
    if (codec_state_ask_build(sink->codec, ask, &body) == 0 &&
        codec_frame_build(sink->codec, WIRE_STATE_ASK, body, &frame) == 0) {
        sink->door->send(sink->door->context, sink->source, frame);
    }
}

static void sink_ask(struct transfer_sink *sink, uint64_t now_ms)
{
    sink->request++;
    sink->asked = true;
    sink->due_ms = now_ms + LIMIT_TRANSFER_ANSWER_MS;
    sink_send(sink, &(struct state_ask){
                        .request = sink->request,
                        .needed = sink->needed,
                        .format = MACHINE_FORMAT,
                        .from = transfer_place_bytes(&sink->at),
                        .to = transfer_place_bytes(&sink->end),
                        .has = sink->has,
                        .digest = sink->digest,
                    });
}

static void sink_over(struct transfer_sink *sink)
{
    if (sink->source != 0) {
        sink_send(sink, &(struct state_ask){.request = ++sink->request, .over = true});
    }
}

/* Somebody else: the leader, or whoever comes next. */
static void sink_turn(struct transfer_sink *sink, uint64_t leader)
{
    if (leader != 0 && leader != sink->self && leader != sink->source) {
        sink->source = leader;
        return;
    }
    uint32_t place = 0;
    while (place < sink->member_count && sink->members[place] != sink->source) {
        place++;
    }
    for (uint32_t i = 1; i <= sink->member_count; i++) {
        const uint64_t next = sink->members[(place + i) % sink->member_count];
        if (next != sink->self) {
            sink->source = next;
            return;
        }
    }
}

static void sink_silence(struct transfer_sink *sink, uint64_t leader)
{
    const uint64_t before = sink->source;
    const bool silent = sink->asked;
    sink->silences++;
    sink->asked = false;
    sink->refused = false;
    if (sink->silences >= SINK_SILENCES || (leader != 0 && leader != sink->source)) {
        sink_turn(sink, leader);
    }
    if (silent && (sink->silences & (sink->silences - 1)) == 0) { /* less and less often */
        sink_log(sink, LOGGER_WARN, "transfer_silent", "from=%" PRIu64 " next=%" PRIu64, before,
                 sink->source);
    }
}

/* -- answers ----------------------------------------------------------------------------------- */

/* Whether an answer is one to what was asked, and holds what it says; then it is kept in `answer`. */
static bool sink_keep(struct transfer_sink *sink, const struct state_range *range)
{
    const struct bytes at = transfer_place_bytes(&sink->at);
    const struct bytes end = transfer_place_bytes(&sink->end);
    if (range->position < sink->needed || range->format > MACHINE_FORMAT) {
        return false;
    }
    if (range->to.size > 0 ? bytes_compare(range->to, at) <= 0 ||
                                 (end.size > 0 && bytes_compare(range->to, end) > 0)
                           : end.size > 0) {
        return false;
    }
    struct tag digest = sink->digest;
    uint64_t count = 0;
    if (range->same ? !sink->has || range->rows.size > 0 || !bytes_equal(range->to, end)
                    : transfer_rows_check(range->rows, at, range->to, &digest, &count) != 0) {
        return false;
    }
    if (!tag_equal(transfer_seal(at, end, range, digest), range->digest)) {
        return false;
    }

    struct transfer_rows *answer = &sink->answer;
    if (answer->capacity < range->rows.size) {
        free(answer->data);
        answer->data = malloc(range->rows.size);
        CHECK(answer->data != NULL);
        answer->capacity = range->rows.size;
    }
    if (range->rows.size > 0) {
        memcpy(answer->data, range->rows.data, range->rows.size);
    }
    answer->size = range->rows.size;
    answer->digest = digest;
    answer->count = count;
    sink->answer_same = range->same;
    transfer_place_set(&sink->answer_end, range->to);
    return true;
}

/* The first answer, or one of another replica or position: who has the same position goes on where the
 * other one ended. */
static void sink_heard(struct transfer_sink *sink, uint64_t position)
{
    if (sink->heard == sink->source && sink->position == position) {
        return;
    }
    const bool resumed = sink->heard != 0 || sink->has || sink->at.size > 0;
    sink->heard = sink->source;
    sink->restart = sink->restart || sink->position != position;
    sink->position = position;
    sink_log(sink, LOGGER_INFO, resumed ? "transfer_resumed" : "transfer_started",
             "from=%" PRIu64 " position=%" PRIu64 " rows=%" PRIu64, sink->source, position,
             sink->row_count);
}

void transfer_sink_answer(struct transfer_sink *sink, uint64_t from,
                          const struct state_range *range, uint64_t now_ms)
{
    if (sink->state != TRANSFER_ASKING || !sink->asked || from != sink->source ||
        range->request != sink->request || sink->working) {
        return;
    }
    sink->asked = false;
    if (range->status != 0 || !sink_keep(sink, range)) {
        sink_log(sink, LOGGER_WARN, "transfer_refused",
                 "from=%" PRIu64 " status=%d position=%" PRIu64 " reason=%s", from, range->status,
                 range->position,
                 range->status != 0 ? status_text(range->status)
                                    : "the answer is not one to what was asked");
        sink->refused = true;
        sink->due_ms = now_ms + SINK_RETRY_MS;
        return;
    }
    sink->silences = 0;
    sink->row_count = range->row_count;
    sink_heard(sink, range->position);
    sink->bytes_received += range->rows.size;
    sink->ranges_kept += range->same;
    sink->ranges_taken += !range->same;
    if (sink->rate_bytes > 0) {
        const uint64_t base = sink->pace_ms > now_ms ? sink->pace_ms : now_ms;
        sink->pace_ms = base + range->rows.size * 1000 / sink->rate_bytes;
    }
    if (now_ms >= sink->flush_ms) {
        sink->flush = sink->flush_ms != 0;
        sink->flush_ms = now_ms + SINK_FLUSH_MS;
    }
    sink_work(sink, TRANSFER_WRITING, work_write);
}

/* -- turns ------------------------------------------------------------------------------------- */

uint32_t transfer_sink_percent(const struct transfer_sink *sink)
{
    if (sink->state == TRANSFER_READY || sink->state == TRANSFER_CHECKING) {
        return 100;
    }
    if (sink->row_count == 0) {
        return 0;
    }
    const uint64_t percent = sink->rows_confirmed * 100 / sink->row_count;
    return percent > 99 ? 99 : (uint32_t)percent;
}

static void sink_tell(struct transfer_sink *sink, uint64_t now_ms)
{
    if (now_ms >= sink->told_ms + SINK_PROGRESS_MS && sink->state != TRANSFER_READY) {
        sink->told_ms = now_ms;
        sink_log(sink, LOGGER_INFO, "transfer_progress",
                 "from=%" PRIu64 " position=%" PRIu64 " percent=%u rows=%" PRIu64 " bytes=%" PRIu64
                 " ranges=%" PRIu64 " ranges_same=%" PRIu64,
                 sink->source, sink->position, transfer_sink_percent(sink), sink->rows_confirmed,
                 sink->bytes_received, sink->ranges_taken, sink->ranges_kept);
    }
}

/* Whoever was asked led then, and somebody else does now: it is likely to be dead. */
static bool sink_fell(const struct transfer_sink *sink, uint64_t leader, uint64_t now_ms)
{
    return sink->asked && sink->source_led && leader != 0 && leader != sink->source &&
           now_ms + LIMIT_TRANSFER_ANSWER_MS >= sink->due_ms + SINK_LED_MS;
}

/* What is due while nothing is with the pool. Answers when to come again. */
static uint64_t sink_step(struct transfer_sink *sink, uint64_t leader, bool room, uint64_t now_ms)
{
    switch (sink->state) {
    case TRANSFER_NONE:
        sink_work(sink, TRANSFER_OPENING, work_open);
        return UINT64_MAX;
    case TRANSFER_ASKING:
        if (!room) {
            sink_wait(sink, -ENOSPC);
            return now_ms + SINK_RETRY_MS;
        }
        if ((sink->asked || sink->refused) &&
            (now_ms >= sink->due_ms || sink_fell(sink, leader, now_ms))) {
            sink_silence(sink, leader);
        }
        if (sink->asked || now_ms < sink->due_ms) {
            return sink->due_ms;
        }
        if (now_ms < sink->pace_ms) {
            return sink->pace_ms;
        }
        sink->source_led = sink->source == leader;
        sink_ask(sink, now_ms);
        return sink->source_led ? now_ms + SINK_LED_MS : sink->due_ms;
    case TRANSFER_OPENING:
    case TRANSFER_WRITING:
    case TRANSFER_CHECKING:
        if (sink->waits != 0) { /* the disk was full */
            if (now_ms < sink->due_ms) {
                return sink->due_ms;
            }
            sink->due_ms = now_ms + (sink->anew ? SINK_ANEW_MS : SINK_RETRY_MS);
        }
        sink_work(sink, sink->state,
                  sink->state == TRANSFER_OPENING   ? work_open
                  : sink->state == TRANSFER_WRITING ? work_write
                                                    : work_check);
        return UINT64_MAX;
    case TRANSFER_READY:
        if (sink->position < sink->needed) {
            sink->position = 0; /* complete, and too old by now: what is the same is kept */
            sink->restart = true;
            sink->at.size = 0;
            sink->at_end = false;
            sink_work(sink, TRANSFER_OPENING, work_open);
        }
        return UINT64_MAX;
    case TRANSFER_DROPPING:
        return UINT64_MAX;
    }
    return UINT64_MAX;
}

uint64_t transfer_sink_run(struct transfer_sink *sink, uint64_t leader, bool room, uint64_t now_ms)
{
    const bool wanted = sink->needed != 0 && !sink->unwanted;
    if (sink->working || (sink->state == TRANSFER_NONE && !wanted)) {
        return UINT64_MAX;
    }
    if (sink->unwanted) {
        sink->unwanted = false;
        sink->needed = 0;
        if (sink->state != TRANSFER_NONE) {
            sink_log(sink, LOGGER_INFO, "transfer_given_up", "reason=the log went on");
            sink_over(sink);
            sink_work(sink, TRANSFER_DROPPING, work_drop);
        }
        return UINT64_MAX;
    }
    sink_tell(sink, now_ms);
    return sink_step(sink, leader, room, now_ms);
}

struct store *transfer_sink_take(struct transfer_sink *sink, uint64_t now_ms)
{
    CHECK(sink->state == TRANSFER_READY);
    CHECK(!sink->working);
    struct store *staging = sink->staging;
    sink_over(sink);
    sink_log(sink, LOGGER_INFO, "transfer_done",
             "from=%" PRIu64 " position=%" PRIu64 " rows=%" PRIu64 " bytes=%" PRIu64
             " ranges=%" PRIu64 " ranges_same=%" PRIu64 " ms=%" PRIu64,
             sink->source, sink->position, sink->rows_confirmed, sink->bytes_received,
             sink->ranges_taken, sink->ranges_kept, now_ms - sink->begun_ms);
    sink->staging = NULL;
    sink->needed = 0;
    sink->state = TRANSFER_NONE;
    return staging;
}

bool transfer_sink_idle(const struct transfer_sink *sink)
{
    return !sink->working;
}
