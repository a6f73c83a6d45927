/* Requests and flushes.
 *
 *   1. log_append queues a request         2. log_fill encodes what waits into the filling batch
 *   3. log_flush hands the batch to the disk and turns to the next one
 *   4. log_on_flushed: durable; callbacks; again from 2
 *
 * What can fail: the disk (log_fail: nothing is acknowledged from then on), and the next segment
 * may not be ready (what does not fit the tail keeps waiting; log_space.c calls log_pump again).
 */
#include "log/log_inner.h"

#include "schemas/check.h"
#include "schemas/status.h"

#include <stdlib.h>

#define CONTROL_BYTES       ((uint32_t)SEGMENT_FRAME_HEADER_BYTES) /* a frame without payload */
#define BATCH_BYTES_INITIAL (64u * 1024u)

void log_fail(struct log *log, int status)
{
    CHECK(status != 0);
    if (log->status == 0) {
        log->status = status;
    }
}

/* -- encoding -------------------------------------------------------------------------------- */

static struct log_batch *log_filling(struct log *log)
{
    return &log->batches[log->filling];
}

/* Room for `size` more bytes in the batch. false: flush first (or memory is short). */
static bool batch_reserve(struct log *log, struct log_batch *batch, uint64_t size)
{
    const uint64_t wanted = batch->size + size;
    if (wanted <= batch->capacity) {
        return true;
    }
    if (wanted > LIMIT_LOG_BATCH_BYTES) {
        CHECK(batch->size > 0); /* log_append refused what an empty batch cannot take */
        return false;
    }
    uint64_t capacity = batch->capacity == 0 ? BATCH_BYTES_INITIAL : batch->capacity;
    while (capacity < wanted) {
        capacity *= 2;
    }
    uint8_t *data = realloc(batch->data, capacity);
    if (data == NULL) {
        if (batch->size == 0 && log->flushing == 0) {
            log_fail(log, -ENOMEM); /* nothing will ever free memory for it */
        }
        return false;
    }
    batch->data = data;
    batch->capacity = (uint32_t)capacity;
    return true;
}

/* Encode one frame at the tail; there is room in the segment and in the batch. */
static uint32_t log_encode(struct log *log, uint8_t type, uint64_t index, uint64_t term,
                           const struct bytes *pieces, uint32_t piece_count, uint32_t disk_bytes)
{
    struct log_batch *batch = log_filling(log);
    struct log_part *part = batch->part_count > 0 ? &batch->parts[batch->part_count - 1] : NULL;
    if (part == NULL || part->sequence != log->tail_sequence) {
        CHECK(batch->part_count < LIMIT_LOG_BATCH_PARTS);
        part = &batch->parts[batch->part_count];
        batch->part_count++;
        *part = (struct log_part){
            .sequence = log->tail_sequence,
            .offset = log->tail_offset,
            .start = batch->size,
        };
    }
    CHECK(part->offset + part->size == log->tail_offset);
    CHECK(batch->size + disk_bytes <= batch->capacity);

    const uint32_t offset = log->tail_offset;
    const struct segment_frame frame = {
        .index = index,
        .term = term,
        .type = type,
        .batch = part->offset,
        .offset = offset,
        .disk_bytes = disk_bytes,
    };
    segment_frame_encode(&frame, pieces, piece_count, log->tail_salt, log->tail_sequence,
                         batch->data + batch->size);
    footer_add(&log->footer, &frame);
    batch->size += disk_bytes;
    part->size += disk_bytes;
    log->tail_offset += disk_bytes;
    log->flushed_frames++;
    return offset;
}

/* End the tail: what comes goes into the next segment. Its footer waits until it is durable. */
static void log_seal(struct log *log)
{
    log_encode(log, LOG_TYPE_SEAL, log->extents.index_next, log->now_ms, NULL, 0, CONTROL_BYTES);
    struct log_segment_file *tail = log_segment_find(log, log->tail_sequence);
    CHECK(tail->footer == NULL);
    tail->time_last_ms = log->now_ms;
    if (log->tail_offset <= tail->end_bytes) {
        tail->footer = footer_take(&log->footer, log->tail_salt);
    }
}

/* Make the tail able to take a frame, rolling to the next segment where it must.
 *
 *   answers    false: the batch must be flushed first, or the next segment is not ready
 */
static bool log_place(struct log *log, uint64_t disk_bytes)
{
    struct log_batch *batch = log_filling(log);
    if (!batch_reserve(log, batch, disk_bytes + CONTROL_BYTES)) {
        return false;
    }
    const struct log_segment_file *tail = log_segment_find(log, log->tail_sequence);
    if (tail != NULL && !log->tail_sealed &&
        log->tail_offset + disk_bytes + CONTROL_BYTES <= tail->end_bytes) {
        return true;
    }
    const struct log_segment_file *next = log_segment_find(log, log->tail_sequence + 1);
    log->wanting = next == NULL && log->waiting_head != NULL;
    if (next == NULL || batch->part_count == LIMIT_LOG_BATCH_PARTS) {
        return false;
    }
    if (SEGMENT_HEADER_BYTES + disk_bytes + CONTROL_BYTES > next->end_bytes) {
        log_fail(log, STATUS_TOO_LARGE); /* a file of former, smaller options */
        return false;
    }

    if (tail != NULL && !log->tail_sealed) {
        log_seal(log);
    }
    CHECK(batch->part_count < LIMIT_LOG_BATCH_PARTS);
    log->tail_sequence++;
    log->tail_offset = SEGMENT_HEADER_BYTES;
    log->tail_salt = segment_salt(log->owner, log->tail_sequence);
    log->tail_sealed = false;
    footer_start(&log->footer, log->tail_sequence, next->size_bytes - next->end_bytes,
                 log->extents.index_next, log->now_ms);
    return true;
}

static uint64_t entry_bytes(const struct log_entry *entry)
{
    uint64_t size = 0;
    for (uint32_t i = 0; i < entry->piece_count; i++) {
        size += entry->pieces[i].size;
    }
    return size;
}

/* Encode as much of a request as has room. true: all of it. */
static bool request_encode(struct log *log, struct log_request *request)
{
    if (request->kind != LOG_REQUEST_APPEND) {
        if (!log_place(log, CONTROL_BYTES)) {
            return false;
        }
        const bool reset = request->kind == LOG_REQUEST_RESET;
        log_encode(log, reset ? LOG_TYPE_RESET : LOG_TYPE_TRUNCATE, request->index, 0, NULL, 0,
                   CONTROL_BYTES);
        if (reset) {
            extents_reset(&log->extents, request->index);
        } else {
            extents_truncate(&log->extents, request->index);
        }
        log_filling(log)->truncations++;
        log->generation++;
        return true;
    }
    while (request->entry_done < request->entry_count) {
        const struct log_entry *entry = &request->entries[request->entry_done];
        const uint64_t index = request->index + request->entry_done;
        const uint32_t disk_bytes = (uint32_t)segment_frame_bytes(entry_bytes(entry));
        if (!log_place(log, disk_bytes)) {
            return false;
        }
        const int status =
            extents_add(&log->extents, index, log->tail_sequence, log->tail_offset, disk_bytes);
        CHECK(status != STATUS_CORRUPT); /* indexes were given in the order of the queue */
        if (status != 0) {
            log_fail(log, status);
            return false;
        }
        log_encode(log, entry->type, index, entry->term, entry->pieces, entry->piece_count,
                   disk_bytes);
        request->entry_done++;
    }
    return true;
}

/* Encode what waits, in order, until something has no room. */
static void log_fill(struct log *log)
{
    struct log_batch *batch = log_filling(log);
    while (log->waiting_head != NULL && log->status == 0) {
        struct log_request *request = log->waiting_head;
        const bool whole = request_encode(log, request);
        batch->index_next = log->extents.index_next;
        if (!whole) {
            return;
        }
        log->waiting_head = request->next;
        if (log->waiting_head == NULL) {
            log->waiting_tail = NULL;
        }
        request->next = NULL;
        if (batch->done_tail == NULL) {
            batch->done_head = request;
        } else {
            batch->done_tail->next = request;
        }
        batch->done_tail = request;
    }
}

/* -- flushing -------------------------------------------------------------------------------- */

static void log_on_flushed(struct disk_job *job);

/* Whether the filling batch goes to the disk now.
 *
 * A small one waits for the flush before it, and for what the owners of that one are about to
 * append: with the same number under way that halves the flushes, and each waits for one flush, not
 * for two. A large one goes at once, behind the flush under way if there is one: it costs the disk
 * more in bytes than in flushes, and the disk need not wait for the loop. */
static bool log_may_flush(struct log *log)
{
    const struct log_batch *batch = log_filling(log);
    if (batch->size == 0 || log->status != 0 || log->flushing == LIMIT_LOG_BATCHES - 1) {
        return false;
    }
    return batch->size >= log->early_bytes || (log->flushing == 0 && !log->calling);
}

/* true: a batch went to the disk, and there is another one to fill. */
static bool log_flush(struct log *log)
{
    if (!log_may_flush(log)) {
        return false;
    }
    struct log_batch *batch = log_filling(log);

    uint32_t steps = 0;
    for (uint32_t i = 0; i < batch->part_count; i++) {
        const struct log_part *part = &batch->parts[i];
        const struct log_segment_file *segment = log_segment_find(log, part->sequence);
        CHECK(segment != NULL && segment->file != NULL);
        batch->steps[steps] = (struct disk_step){
            .kind = DISK_STEP_WRITE,
            .file = segment->file,
            .offset = part->offset,
            .data = batch->data + part->start,
            .size = part->size,
        };
        batch->steps[steps + 1] = (struct disk_step){.kind = DISK_STEP_SYNC, .file = segment->file};
        steps += 2;
    }
    batch->job = (struct disk_job){
        .steps = batch->steps,
        .step_count = steps,
        .lane = DISK_LANE_FLUSH,
        .callback = log_on_flushed,
    };
    batch->log = log;
    log->flushing++;
    log->filling = (log->filling + 1) % LIMIT_LOG_BATCHES;
    CHECK(log_filling(log)->size == 0);
    disk_submit(log->disk, &batch->job);
    return true;
}

static void requests_call(struct log *log, struct log_request *head, int status)
{
    while (head != NULL) {
        struct log_request *request = head;
        head = request->next;
        CHECK(log->waiting_bytes >= request->bytes);
        log->waiting_bytes -= request->bytes;
        if (request->callback != NULL) {
            request->callback(request, status); /* the memory may be gone after this */
        }
    }
}

static void batch_clear(struct log_batch *batch)
{
    batch->size = 0;
    batch->part_count = 0;
    batch->truncations = 0;
    batch->mark = false;
    batch->done_head = NULL;
    batch->done_tail = NULL;
}

/* After a failure: everybody who waits hears of it, in order. */
static void log_call_failed(struct log *log)
{
    CHECK(log->status != 0);
    CHECK(log->flushing == 0);
    struct log_request *lists[LIMIT_LOG_BATCHES + 1];
    for (uint32_t i = 0; i < LIMIT_LOG_BATCHES; i++) { /* the one being filled comes last */
        struct log_batch *batch = &log->batches[(log->filling + 1 + i) % LIMIT_LOG_BATCHES];
        lists[i] = batch->done_head;
        batch_clear(batch);
    }
    lists[LIMIT_LOG_BATCHES] = log->waiting_head;
    log->waiting_head = NULL;
    log->waiting_tail = NULL;
    for (uint32_t i = 0; i <= LIMIT_LOG_BATCHES; i++) {
        requests_call(log, lists[i], log->status);
    }
}

/* Close the files the tail has left behind: sealed and durable. */
static void log_close_sealed(struct log *log)
{
    for (uint32_t i = 0; i < log->segment_count; i++) {
        struct log_segment_file *segment = &log->segments[i];
        if (segment->sequence < log->durable_sequence && segment->file != NULL &&
            segment->footer == NULL) { /* which closes it when it is written */
            disk_close(log->disk, segment->file);
            segment->file = NULL;
        }
    }
}

static void log_on_flushed(struct disk_job *job)
{
    struct log_batch *batch = CONTAINER_OF(job, struct log_batch, job);
    struct log *log = batch->log;
    CHECK(log->flushing > 0);
    CHECK(batch ==
          &log->batches[(log->filling + LIMIT_LOG_BATCHES - log->flushing) % LIMIT_LOG_BATCHES]);
    log->flushing--;
    if (job->status != 0) {
        log_fail(log, job->status);
    }
    if (log->status != 0) {
        log_turn(log);
        return;
    }

    const struct log_part *part = &batch->parts[batch->part_count - 1];
    CHECK(part->sequence >= log->durable_sequence);
    CHECK(log->truncations >= batch->truncations);
    log->flushes++;
    log->flushed_bytes += batch->size;
    if (part->sequence != log->durable_sequence) {
        log->durable_sequence = part->sequence;
        log->mark_offset = 0;
        log->drop_check = true;
        log_close_sealed(log);
    }
    log->durable_offset = part->offset + part->size;
    if (batch->mark) {
        log->mark_offset = log->durable_offset;
    }
    log->truncations -= batch->truncations;
    if (log->truncations == 0) {
        log->truncate_floor = UINT64_MAX;
        log->drop_check = log->drop_check || batch->truncations > 0;
    }
    log->readable_next =
        batch->index_next < log->truncate_floor ? batch->index_next : log->truncate_floor;
    struct log_request *done = batch->done_head;
    batch_clear(batch);

    log->calling = true;
    log_pump(log);
    requests_call(log, done, 0);
    log->calling = false;
    log_turn(log);
}

/* -- marks and the end ----------------------------------------------------------------------- */

/* Write a mark if the tail is quiet and not marked. */
static void log_mark(struct log *log)
{
    if (log->status != 0 || log->flushing > 0 || log_filling(log)->size > 0 || log->calling ||
        log->waiting_head != NULL || log->durable_offset == log->mark_offset ||
        log->tail_sequence == 0) {
        return;
    }
    if (log_place(log, CONTROL_BYTES)) {
        const uint32_t offset = log_encode(log, LOG_TYPE_MARK, log->extents.index_next, log->now_ms,
                                           NULL, 0, CONTROL_BYTES);
        extents_skip(&log->extents, log->tail_sequence, offset, CONTROL_BYTES);
        log_filling(log)->index_next = log->extents.index_next;
        log_filling(log)->mark = true;
        log_flush(log);
    }
}

void log_tick(struct log *log, int64_t now_ms)
{
    if (log->closing) {
        return;
    }
    log->prepare_retry = true; /* space may have come back */
    log_space_tick(log, now_ms);
    if (log->tick_offset == log->durable_offset) {
        log_mark(log);
        if (log->flushing == 0) {
            for (uint32_t i = 0; i < LIMIT_LOG_BATCHES;
                 i++) { /* a busy hour's memory is not for an idle log */
                struct log_batch *batch = &log->batches[i];
                if (batch->size == 0 && batch->capacity > BATCH_BYTES_INITIAL) {
                    free(batch->data);
                    batch->data = NULL;
                    batch->capacity = 0;
                }
            }
        }
    }
    log->tick_offset = log->durable_offset;
    log_pump(log);
}

void log_free(struct log *log)
{
    for (uint32_t i = 0; i < log->segment_count; i++) {
        disk_close(log->disk, log->segments[i].file);
        free(log->segments[i].footer);
    }
    free(log->segments);
    disk_close(log->disk, log->prepare_file);
    disk_close(log->disk, log->meta_file);
    disk_close(log->disk, log->lock);
    free(log->prepare_header);
    for (uint32_t i = 0; i < LIMIT_LOG_BATCHES; i++) {
        free(log->batches[i].data);
    }
    extents_deinit(&log->extents);
    footer_deinit(&log->footer);
    const int status = log->status;
    *log = (struct log){.status = status != 0 ? status : STATUS_CLOSING};
}

void log_forget(struct log *log)
{
    log_free(log);
}

/* Go on with a close, from the loop: what waits, then the mark, then the end. */
static void log_close_pump(struct log *log)
{
    if (log->status == 0 && log->prepare_status != 0 && log->waiting_head != NULL &&
        log->flushing == 0) {
        log_fail(log, log->prepare_status); /* a close does not wait for space */
        log_call_failed(log);
    }
    if (!log->close_marked && log->waiting_head == NULL && log->flushing == 0) {
        log->close_marked = true;
        log_mark(log);
    }
    if (log->flushing > 0 || log->background || log->waking || log->waiting_head != NULL) {
        return; /* each of them comes back here */
    }

    void (*callback)(void *context) = log->on_close;
    void *context = log->on_close_context;
    log_free(log);
    callback(context);
}

void log_pump(struct log *log)
{
    if (log->status == 0) {
        log_fill(log);
        while (log_flush(log)) {
            log_fill(log);
        }
        log_space_pump(log);
    }
    if (log->status != 0 && log->flushing == 0 && log->waiting_bytes > 0) {
        log_wake(log); /* somebody must hear of it, but not inside the call that brought us here */
    }
}

void log_turn(struct log *log)
{
    log_pump(log);
    if (log->status != 0 && log->flushing == 0) {
        log_call_failed(log);
    }
    if (log->closing) {
        log_close_pump(log);
    }
}

static void log_on_wake(struct disk_job *job)
{
    struct log *log = CONTAINER_OF(job, struct log, wake_job);
    log->waking = false;
    log_turn(log);
}

void log_wake(struct log *log)
{
    if (log->waking) {
        return;
    }
    log->wake_step = (struct disk_step){.kind = DISK_STEP_SYNC, .file = log->meta_file};
    log->wake_job = (struct disk_job){
        .steps = &log->wake_step,
        .step_count = 1,
        .lane = DISK_LANE_FLUSH,
        .callback = log_on_wake, /* whatever became of the sync: it is only a way to the loop */
    };
    log->waking = true;
    disk_submit(log->disk, &log->wake_job);
}

/* -- requests -------------------------------------------------------------------------------- */

static void request_queue(struct log *log, struct log_request *request)
{
    request->next = NULL;
    if (log->waiting_tail == NULL) {
        log->waiting_head = request;
    } else {
        log->waiting_tail->next = request;
    }
    log->waiting_tail = request;
    log->waiting_bytes += request->bytes;
    log_pump(log);
}

/* Bytes that fit into the segments that are there already. */
static uint64_t log_room_bytes(const struct log *log)
{
    uint64_t room = 0;
    for (uint32_t i = log->segment_count; i > 0; i--) {
        const struct log_segment_file *segment = &log->segments[i - 1];
        if (segment->sequence < log->tail_sequence) {
            break;
        }
        const uint32_t start =
            segment->sequence > log->tail_sequence ? SEGMENT_HEADER_BYTES : log->tail_offset;
        room += segment->end_bytes > start + CONTROL_BYTES
                    ? segment->end_bytes - start - CONTROL_BYTES
                    : 0;
    }
    return room;
}

/* Whether all that waits and so many bytes more find room, as far as is known. */
static bool log_fits(const struct log *log, uint64_t total)
{
    if (log->admitting && log->prepare_status == 0) {
        return true;
    }
    if (log_over_limit(log)) {
        return false;
    }
    const uint64_t wanted = log->waiting_bytes + total;
    const uint64_t room = log_room_bytes(log);
    if (wanted <= room || log->prepare_status != 0) {
        return wanted <= room;
    }
    /* Frames may leave almost half of each new segment empty. */
    const uint64_t usable =
        (log->segment_bytes - log->footer_bytes - SEGMENT_HEADER_BYTES - CONTROL_BYTES) / 2;
    const uint64_t more = (log->limit_bytes - log_disk_bytes(log)) / log->segment_bytes +
                          (log->spare || log->preparing ? 1 : 0);
    return wanted <= room + more * usable;
}

bool log_has_room(const struct log *log, uint32_t frames, uint64_t payload_bytes)
{
    return log_fits(log, payload_bytes + frames * segment_frame_bytes(7));
}

int log_append(struct log *log, struct log_request *request, const struct log_entry *entries,
               uint32_t entry_count)
{
    CHECK(entry_count > 0);
    if (log->status != 0) {
        return log->status;
    }
    if (log->closing) {
        return STATUS_CLOSING;
    }
    uint64_t total = 0;
    for (uint32_t i = 0; i < entry_count; i++) {
        CHECK(entries[i].type >= LOG_TYPE_OWNER);
        const uint64_t size = entry_bytes(&entries[i]);
        if (size > LIMIT_FRAME_BYTES ||
            segment_frame_bytes(size) + CONTROL_BYTES >
                log->segment_bytes - log->footer_bytes - SEGMENT_HEADER_BYTES) {
            return STATUS_TOO_LARGE;
        }
        total += segment_frame_bytes(size);
    }
    if (log->waiting_bytes > 0 && log->waiting_bytes + total > LIMIT_LOG_WAITING_BYTES) {
        return STATUS_FULL;
    }
    if (!log_fits(log, total)) {
        return -ENOSPC;
    }

    request->kind = LOG_REQUEST_APPEND;
    request->index = log->index_next;
    request->entries = entries;
    request->entry_count = entry_count;
    request->entry_done = 0;
    request->bytes = total;
    log->index_next += entry_count;
    request_queue(log, request);
    return 0;
}

static int log_void(struct log *log, struct log_request *request, enum log_request_kind kind,
                    uint64_t index, uint64_t floor)
{
    if (log->status != 0) {
        return log->status;
    }
    if (log->closing) {
        return STATUS_CLOSING;
    }

    request->kind = (uint8_t)kind;
    request->index = index;
    request->bytes = CONTROL_BYTES;
    log->index_next = index;
    log->truncations++;
    if (floor < log->truncate_floor) {
        log->truncate_floor = floor;
    }
    if (floor < log->readable_next) {
        log->readable_next = floor;
    }
    log->generation++;
    request_queue(log, request);
    return 0;
}

int log_truncate(struct log *log, struct log_request *request, uint64_t index)
{
    CHECK(index >= log_index_first(log));
    CHECK(index <= log->index_next);
    return log_void(log, request, LOG_REQUEST_TRUNCATE, index, index);
}

int log_reset(struct log *log, struct log_request *request, uint64_t index)
{
    CHECK(index > 0 && index < LOG_INDEX_MAX);
    log->admitting = false;
    return log_void(log, request, LOG_REQUEST_RESET, index, 1);
}

void log_admit(struct log *log)
{
    log->admitting = true;
}

uint64_t log_index_first(const struct log *log)
{
    const uint64_t first = extents_index_first(&log->extents);
    return first < log->index_next ? first : log->index_next;
}

uint64_t log_index_next(const struct log *log)
{
    return log->index_next;
}

uint64_t log_durable_next(const struct log *log)
{
    return log->readable_next;
}

int log_status(const struct log *log)
{
    return log->status;
}

void log_close(struct log *log, void (*callback)(void *context), void *context)
{
    CHECK(!log->closing);
    CHECK(callback != NULL);

    log->closing = true;
    log->on_close = callback;
    log->on_close_context = context;
    log_wake(log);
}
