#include "nodes/cloud/backup_door.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nodes/cloud/backup.h"
#include "nodes/cloud/cluster_door.h"
#include "nodes/logger.h"
#include "nodes/program.h"
#include "schemas/check.h"
#include "schemas/limits.h"

struct backup_job {
    struct backup_door *door;
    struct http_exchange *exchange;
    struct store_reader *snapshot; /* NULL: not yet */
    uv_timer_t timer; /* the next range is due; or the client has taken nothing for too long */
    struct backup_head head;
    struct backup_sums sums;
    struct transfer_place place; /* where the next range begins */
    uint64_t begun_ms;
    uint8_t lead[BACKUP_HEAD_BYTES + LIMIT_STORE_KEY_BYTES]; /* what goes before the rows */
    struct bytes pieces[2];                                  /* to be sent, in order */
    uint32_t piece_next;                                     /* 2: all are */
    bool last;                                               /* the pieces are the tail */
    bool gone;                                               /* the client is */
    bool ended;

    bool working; /* the rest is the pool's meanwhile, and so is the snapshot */
    uv_work_t work;
    int status;
    struct transfer_rows rows;
    struct transfer_place end;
};

static_assert(LIMIT_WIRE_BYTES >= LIMIT_FRAME_BYTES + 8 + 1 + LIMIT_STORE_KEY_BYTES,
              "the rows of a range are one chunk");
static_assert(BACKUP_HEAD_BYTES >= BACKUP_RANGE_BYTES,
              "the head of a range fits where that of the file does");
static_assert(BACKUP_HEAD_BYTES >= BACKUP_TAIL_BYTES, "and the tail");

/* -- the end -------------------------------------------------------------------------------------------- */

static void job_on_closed(uv_handle_t *handle)
{
    struct backup_job *job = CONTAINER_OF((uv_timer_t *)handle, struct backup_job, timer);
    if (job->snapshot != NULL) {
        store_snapshot_release(job->snapshot);
    }
    free(job->rows.data);
    free(job);
}

/* The one way out. `reason` NULL: it is whole. */
static void job_end(struct backup_job *job, const char *reason)
{
    CHECK(!job->ended);
    CHECK(!job->working);
    job->ended = true;
    job->door->count--;
    logger_line(reason == NULL ? LOGGER_INFO : LOGGER_WARN, "backup_ended",
                "index=%" PRIu64 " ranges=%" PRIu64 " rows=%" PRIu64 " bytes=%" PRIu64
                " ms=%" PRIu64 "%s%s",
                job->head.index, job->sums.ranges, job->sums.rows, job->sums.bytes,
                program_mono_ms() - job->begun_ms,
                reason == NULL ? "" : " reason=", reason == NULL ? "" : reason);
    http_answer_end(job->exchange, reason == NULL);
    uv_close((uv_handle_t *)&job->timer, job_on_closed);
}

/* -- one range after the other ----------------------------------------------------------------------------- */

static void job_on_timer(uv_timer_t *timer);

/* In the pool. */
static void job_on_work(uv_work_t *work)
{
    struct backup_job *job = CONTAINER_OF(work, struct backup_job, work);
    job->status =
        transfer_rows_collect(job->snapshot, transfer_place_bytes(&job->place), (struct bytes){0},
                              LIMIT_TRANSFER_BYTES, &job->rows, &job->end);
}

static void job_send(struct backup_job *job);

static void job_on_worked(uv_work_t *work, int status)
{
    (void)status; /* never cancelled */
    struct backup_job *job = CONTAINER_OF(work, struct backup_job, work);
    job->working = false;
    if (job->gone || job->status != 0) {
        job_end(job, job->gone ? "the client went away" : status_text(job->status));
        return;
    }
    const size_t size =
        backup_range_encode(&job->sums, &job->head, &job->place, &job->end, &job->rows, job->lead);
    job->pieces[0] = bytes_of(job->lead, size);
    job->pieces[1] = bytes_of(job->rows.data, job->rows.size);
    job->piece_next = 0;
    job->place = job->end;
    job_send(job);
}

static void job_read(struct backup_job *job)
{
    job->working = true;
    CHECK(uv_queue_work(job->door->loop, &job->work, job_on_work, job_on_worked) == 0);
}

/* When so many bytes may have been sent. */
static uint64_t job_due_ms(const struct backup_job *job)
{
    return job->begun_ms + job->sums.bytes / (job->door->rate_bytes / 1000 + 1);
}

/* Send what waits, then go on: the next range, the tail, the end. */
static void job_send(struct backup_job *job)
{
    while (job->piece_next < 2) {
        const int status = http_answer_chunk(job->exchange, job->pieces[job->piece_next]);
        if (status == STATUS_FULL) {
            uv_timer_start(&job->timer, job_on_timer, LIMIT_TRANSFER_IDLE_MS, 0);
            return; /* job_on_writable */
        }
        if (status != 0) {
            job_end(job, "the client went away");
            return;
        }
        job->piece_next++;
    }
    const uint64_t now_ms = program_mono_ms();
    if (job->last) {
        job_end(job, NULL);
    } else if (job->sums.ranges > 0 && job->place.size == 0) {
        backup_tail_encode(&job->sums, job->lead);
        job->pieces[0] = bytes_of(job->lead, BACKUP_TAIL_BYTES);
        job->pieces[1] = bytes_of(NULL, 0);
        job->piece_next = 0;
        job->last = true;
        job_send(job);
    } else if (now_ms >= job->begun_ms + LIMIT_TRANSFER_LIFE_MS) {
        job_end(job, "it took too long: the store keeps old rows for it");
    } else if (now_ms < job_due_ms(job)) {
        uv_timer_start(&job->timer, job_on_timer, job_due_ms(job) - now_ms, 0);
    } else {
        uv_timer_stop(&job->timer);
        job_read(job);
    }
}

static void job_on_timer(uv_timer_t *timer)
{
    struct backup_job *job = CONTAINER_OF(timer, struct backup_job, timer);
    if (job->ended || job->working) {
        return;
    }
    if (job->piece_next < 2) {
        job_end(job, "the client takes nothing any more");
    } else {
        job_read(job);
    }
}

static void job_on_gone(struct http_exchange *exchange, void *data)
{
    struct backup_job *job = data;
    (void)exchange;
    job->gone = true;
    if (!job->working && job->snapshot != NULL && !job->ended) {
        job_end(job, "the client went away");
    }
}

static void job_on_writable(struct http_exchange *exchange, void *data)
{
    struct backup_job *job = data;
    (void)exchange;
    if (!job->working && !job->ended && job->snapshot != NULL && job->piece_next < 2) {
        job_send(job);
    }
}

static const struct http_exchange_events job_events = {
    .on_gone = job_on_gone,
    .on_writable = job_on_writable,
};

/* -- the begin ------------------------------------------------------------------------------------------------ */

static void refuse(struct http_exchange *exchange, uint32_t code, const char *message)
{
    char body[512];
    const int size = snprintf(body, sizeof body, "{\"outcome\":\"%s\",\"message\":\"%s\"}",
                              code == 503 ? "unavailable" : "refused", message);
    CHECK(size > 0 && (size_t)size < sizeof body);
    http_answer(exchange, code, "application/json", bytes_of(body, (size_t)size));
}

/* It has not begun: an answer is possible, and wanted unless nobody is there. */
static void job_refuse(struct backup_job *job, const char *message)
{
    job->ended = true;
    job->door->count--;
    refuse(job->exchange, 503, message);
    uv_close((uv_handle_t *)&job->timer, job_on_closed);
}

static void job_on_fresh(void *context, int status)
{
    struct backup_job *job = context;
    if (job->gone) {
        job_refuse(job, "");
        return;
    }
    if (status == 0) {
        status = cloud_core_snapshot(job->door->core, &job->snapshot, &job->head.term,
                                     &job->head.rows_about);
    }
    if (status != 0) {
        job_refuse(job,
                   status == STATUS_BEHIND
                       ? "this cloudcore is being given a newer state itself: ask another one"
                       : "no leader says what is newest; --stale takes what this cloudcore has");
        return;
    }
    const uint64_t term = job->head.term;
    const uint64_t rows_about = job->head.rows_about;
    status = backup_head_read(job->snapshot, job->door->software, &job->head);
    if (status != 0) {
        job_refuse(job, status == STATUS_BEHIND ? "there is no state yet" : status_text(status));
        return;
    }
    job->head.term = term;
    job->head.rows_about = rows_about;
    job->head.time_ms = program_wall_ms();
    backup_head_encode(&job->sums, &job->head, job->lead);
    job->pieces[0] = bytes_of(job->lead, BACKUP_HEAD_BYTES);
    job->pieces[1] = bytes_of(NULL, 0);
    job->piece_next = 0;
    job->begun_ms = program_mono_ms();
    logger_info("backup_began", "index=%" PRIu64 " version=%" PRIu64, job->head.index,
                job->head.version);
    if (http_answer_begin(job->exchange, 200, "application/octet-stream") != 0) {
        job_end(job, "the client went away");
        return;
    }
    job_send(job);
}

bool backup_door_serve(struct backup_door *door, struct http_exchange *exchange)
{
    const struct http_request *request = http_exchange_request(exchange);
    if (request->segments_count != 4 || strcmp(request->segments[0], "kelp") != 0 ||
        strcmp(request->segments[1], "v1") != 0 || strcmp(request->segments[2], "cluster") != 0 ||
        strcmp(request->segments[3], "backup") != 0) {
        return false;
    }
    if (!cluster_door_allowed(exchange)) {
        return true;
    }
    if (strcmp(request->method, "GET") != 0) {
        refuse(exchange, 405, "a backup is a GET");
        return true;
    }
    if (door->count >= LIMIT_BACKUPS) {
        refuse(exchange, 429,
               "as many backups as may be are being made by this cloudcore: ask another one, or "
               "later");
        return true;
    }
    const char *stale = http_request_find_parameter(request, "stale");
    struct backup_job *job = calloc(1, sizeof *job);
    CHECK(job != NULL);
    job->door = door;
    job->exchange = exchange;
    job->piece_next = 2;
    CHECK(uv_timer_init(door->loop, &job->timer) == 0);
    door->count++;
    http_exchange_set_data(exchange, job);
    http_exchange_set_events(exchange, &job_events);
    if (stale != NULL && strcmp(stale, "true") == 0) {
        job_on_fresh(job, 0);
        return true;
    }
    const struct backend *backend = cloud_core_backend(door->core);
    const int status = backend->fresh(backend->owner, job_on_fresh, job);
    if (status != 0) {
        job_on_fresh(job, status);
    }
    return true;
}
