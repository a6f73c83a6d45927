/* Files come and go, in the background lane.
 *
 * Prepare: the segment after the tail is made before it is needed:
 *   1. `new.tmp` is zeroed to its full size, or `spare` (a dropped segment) is taken as it is
 *   2. header, sync   3. renamed to its name   4. directory synced   5. it is in the list
 * A reused file is full of old frames, and its footer is there; their salt and sequence are those of
 * its former life.
 *
 * Footer: written behind the frames of a sealed segment once a frame of a later one is durable, and
 * not synced: it is a hint, and its checksum tells whether it arrived.
 *
 * Drop, one segment at a time, oldest first, so that what a crash brings back has no holes:
 *   renamed to `spare` if there is none, unlinked otherwise, and SEQUENCE.keys too; then the directory
 *   is synced
 *
 * A full disk while preparing is remembered in prepare_status and tried again at log_tick and after
 * a drop; any other failure fails the log. A footer that has no room (on a file system that copies on
 * write) is left out.
 */
#include "log/log_inner.h"

#include "schemas/check.h"
#include "schemas/status.h"

#include <stdio.h>
#include <stdlib.h>

void log_path(const char *directory, const char *name, char out_path[LIMIT_LOG_PATH_BYTES])
{
    const int size = snprintf(out_path, LIMIT_LOG_PATH_BYTES, "%s/%s", directory, name);
    CHECK(size > 0 && size < (int)LIMIT_LOG_PATH_BYTES);
}

void log_segment_path(const char *directory, uint64_t sequence, char out_path[LIMIT_LOG_PATH_BYTES])
{
    char name[SEGMENT_NAME_BYTES];
    segment_name_format(sequence, name);
    log_path(directory, name, out_path);
}

void log_companion_path(const char *directory, uint64_t sequence, bool whole,
                        char out_path[LIMIT_LOG_PATH_BYTES])
{
    char name[40];
    segment_name_format(sequence, name);
    strcpy(strchr(name, '.'), whole ? ".keys" : ".keys.tmp");
    log_path(directory, name, out_path);
}

struct log_segment_file *log_segment_find(struct log *log, uint64_t sequence)
{
    if (log->segment_count == 0 || sequence < log->segments[0].sequence) {
        return NULL;
    }
    const uint64_t at = sequence - log->segments[0].sequence; /* no holes: log_segment_add */
    return at < log->segment_count ? &log->segments[at] : NULL;
}

int log_segment_add(struct log *log, uint64_t sequence, uint32_t size_bytes, uint32_t footer_bytes,
                    struct disk_file *file)
{
    CHECK(log->segment_count == 0 ||
          log->segments[log->segment_count - 1].sequence + 1 == sequence);
    if (log->segment_count == log->segment_capacity) {
        const uint32_t capacity = log->segment_capacity == 0 ? 16 : 2 * log->segment_capacity;
        struct log_segment_file *segments =
            realloc(log->segments, capacity * sizeof *log->segments);
        if (segments == NULL) {
            return -ENOMEM;
        }
        log->segments = segments;
        log->segment_capacity = capacity;
    }
    log->segments[log->segment_count] = (struct log_segment_file){
        .sequence = sequence,
        .size_bytes = size_bytes,
        .end_bytes = size_bytes - footer_bytes,
        .file = file,
    };
    log->segment_count++;
    log->segments_bytes += size_bytes;
    return 0;
}

uint64_t log_segment_last(const struct log *log)
{
    return log->durable_offset > SEGMENT_HEADER_BYTES || log->durable_sequence == 0
               ? log->durable_sequence
               : log->durable_sequence - 1; /* after a crash that tore all that was in the tail */
}

static bool no_space(int status)
{
    return status == -ENOSPC || status == -EDQUOT;
}

/* -- prepare --------------------------------------------------------------------------------- */

static void space_submit(struct log *log, uint32_t steps, void (*callback)(struct disk_job *job))
{
    CHECK(!log->background);
    CHECK(steps <= LIMIT_LOG_BACKGROUND_STEPS);
    log->background = true;
    log->background_job = (struct disk_job){
        .steps = log->background_steps,
        .step_count = steps,
        .lane = DISK_LANE_BACKGROUND,
        .callback = callback,
    };
    disk_submit(log->disk, &log->background_job);
}

/* Whether one more segment would exceed so many eighths of the limits. A spare one is counted already. */
static bool space_exceeds_eighths(const struct log *log, uint32_t eighths)
{
    return log_disk_bytes(log) + (log->spare ? 0 : log->segment_bytes) >
               log->limit_bytes / 8 * eighths ||
           extents_runs(&log->extents) >= LIMIT_LOG_RUNS / 8 * eighths;
}

static bool space_exceeds(const struct log *log, uint32_t quarters)
{
    return space_exceeds_eighths(log, 2 * quarters);
}

static void space_on_prepared(struct disk_job *job)
{
    struct log *log = CONTAINER_OF(job, struct log, background_job);
    CHECK(log->background);
    CHECK(log->preparing);
    log->background = false;
    log->preparing = false;
    struct disk_file *file = log->prepare_file;
    log->prepare_file = NULL;
    free(log->prepare_header);
    log->prepare_header = NULL;

    int status = job->status;
    if (status == 0) {
        const uint64_t sequence = log->prepare_sequence;
        status = log_segment_add(log, sequence, log->segment_bytes, log->footer_bytes, file);
    }
    log->drop_check = true; /* the limit came nearer */
    if (status == 0) {
        log->prepare_status = 0;
    } else {
        disk_close(log->disk, file);
        if (no_space(status)) {
            log->prepare_status = -ENOSPC;
            status = disk_unlink(log->disk, log->path_a); /* give back what was reserved */
        }
        if (status != 0) {
            log_fail(log, status);
        }
    }
    log_turn(log);
}

static void space_prepare(struct log *log, uint64_t sequence)
{
    CHECK(log->prepare_file == NULL);
    const bool reuse = log->spare;
    log_path(log->directory, reuse ? "spare" : "new.tmp", log->path_a);
    log_segment_path(log->directory, sequence, log->path_b);
    log->prepare_header = malloc(SEGMENT_HEADER_BYTES);
    int status = log->prepare_header == NULL
                     ? -ENOMEM
                     : disk_open(log->disk, log->path_a, reuse ? DISK_OPEN_WRITE : DISK_OPEN_CREATE,
                                 &log->prepare_file);
    if (status != 0) {
        free(log->prepare_header);
        log->prepare_header = NULL;
        if (no_space(status)) {
            log->prepare_status = -ENOSPC; /* no room for the name */
        } else {
            log_fail(log, status);
        }
        return;
    }

    struct segment_header header = {
        .sequence = sequence,
        .size_bytes = log->segment_bytes,
        .footer_bytes = log->footer_bytes,
    };
    memcpy(header.owner, log->owner, sizeof header.owner);
    segment_header_encode(&header, log->prepare_header);
    uint32_t steps = 0;
    if (!reuse) {
        log->background_steps[steps++] = (struct disk_step){
            .kind = DISK_STEP_ZERO, .file = log->prepare_file, .size = log->segment_bytes};
    }
    log->background_steps[steps++] = (struct disk_step){.kind = DISK_STEP_WRITE,
                                                        .file = log->prepare_file,
                                                        .data = log->prepare_header,
                                                        .size = SEGMENT_HEADER_BYTES};
    log->background_steps[steps++] =
        (struct disk_step){.kind = DISK_STEP_SYNC, .file = log->prepare_file};
    log->background_steps[steps++] =
        (struct disk_step){.kind = DISK_STEP_RENAME, .path = log->path_a, .path_new = log->path_b};
    log->background_steps[steps++] =
        (struct disk_step){.kind = DISK_STEP_SYNC_DIRECTORY, .path = log->directory};
    log->spare = false;
    log->prepare_sequence = sequence;
    log->preparing = true;
    space_submit(log, steps, space_on_prepared);
}

/* -- footers --------------------------------------------------------------------------------- */

/* The footer is written, or there is none. */
static void space_footer_end(struct log *log, struct log_segment_file *segment)
{
    free(segment->footer);
    segment->footer = NULL;
    disk_close(log->disk, segment->file);
    segment->file = NULL;
}

static void space_on_footer(struct disk_job *job)
{
    struct log *log = CONTAINER_OF(job, struct log, background_job);
    CHECK(log->background);
    log->background = false;
    struct log_segment_file *segment = log_segment_find(log, log->footer_sequence);
    CHECK(segment != NULL); /* what is dropped is dropped by a background job, too */
    space_footer_end(log, segment);
    if (job->status != 0 && !no_space(job->status)) {
        log_fail(log, job->status);
    }
    log_turn(log);
}

/* The oldest segment whose footer may be written now. */
static struct log_segment_file *space_footer_find(struct log *log)
{
    const uint64_t last = log_segment_last(log);
    for (uint32_t i = 0; i < log->segment_count && log->segments[i].sequence < last; i++) {
        if (log->segments[i].footer != NULL) {
            return &log->segments[i];
        }
    }
    return NULL;
}

static void space_footer(struct log *log, struct log_segment_file *segment)
{
    if (segment->file == NULL) {
        log_segment_path(log->directory, segment->sequence, log->path_a);
        const int status = disk_open(log->disk, log->path_a, DISK_OPEN_WRITE, &segment->file);
        if (status == -EMFILE || status == -ENFILE || status == -ENOMEM) {
            space_footer_end(log, segment); /* a hint is not worth more than what is short */
            return;
        }
        if (status != 0) {
            log_fail(log, status);
            return;
        }
    }
    log->background_steps[0] = (struct disk_step){
        .kind = DISK_STEP_WRITE,
        .file = segment->file,
        .offset = segment->end_bytes,
        .data = segment->footer,
        .size = segment->size_bytes - segment->end_bytes,
    };
    log->footer_sequence = segment->sequence;
    space_submit(log, 1, space_on_footer);
}

/* -- drop ------------------------------------------------------------------------------------ */

static void space_on_dropped(struct disk_job *job)
{
    struct log *log = CONTAINER_OF(job, struct log, background_job);
    CHECK(log->background);
    log->background = false;
    if (job->status != 0) {
        log_fail(log, job->status);
    } else if (log->dropping_to_spare) {
        log->spare = true;
    }
    log->prepare_retry = true;
    log->drop_check = true;
    log_turn(log);
}

/* Whether the oldest segment is older than history is kept. */
static bool space_is_old(const struct log *log)
{
    const uint64_t time_ms = log->segments[0].time_last_ms;
    return log->history_ms != 0 && time_ms != 0 && log->clock_ms > time_ms &&
           log->clock_ms - time_ms > log->history_ms;
}

/* Bytes that may go: of the front segments that were released and are not held. */
static uint64_t space_droppable_bytes(const struct log *log, uint64_t last)
{
    const struct extents *extents = &log->extents;
    const uint64_t end = log->released < log->held ? log->released : log->held;
    uint64_t bytes = 0;
    uint32_t run = extents->first;
    for (uint32_t i = 0; i < log->segment_count && log->segments[i].sequence < last; i++) {
        while (run < extents->count && extents->list[run].sequence <= log->segments[i].sequence) {
            if (extents->list[run].index_next > end) {
                return bytes;
            }
            run++;
        }
        bytes += log->segments[i].size_bytes;
    }
    return bytes;
}

/* Whether the oldest segment may go now, and should. The last one with durable frames stays: it says
 * which index comes next. */
static bool space_may_drop(const struct log *log)
{
    const uint64_t last = log_segment_last(log);
    if (log->segment_count == 0 || log->truncations > 0 || log->segments[0].sequence >= last) {
        return false;
    }
    uint64_t index_next;
    if (!extents_in_segment(&log->extents, log->segments[0].sequence, &index_next)) {
        return true; /* all void: that is no history */
    }
    const uint64_t droppable_bytes = space_droppable_bytes(log, last);
    return droppable_bytes > log->history_bytes ||
           (droppable_bytes > 0 && (space_is_old(log) || space_exceeds(log, 2)));
}

static void space_drop(struct log *log)
{
    log->dropping_to_spare =
        !log->spare && log->segments[0].size_bytes == log->segment_bytes && !log_over_limit(log);
    space_footer_end(log, &log->segments[0]);
    const struct log_segment_file segment = log->segments[0];
    log->segment_count--;
    log->segments_bytes -= segment.size_bytes;
    memmove(log->segments, log->segments + 1, log->segment_count * sizeof *log->segments);
    extents_drop(&log->extents, segment.sequence);
    log->generation++;

    log_segment_path(log->directory, segment.sequence, log->path_a);
    log_path(log->directory, "spare", log->path_b);
    log_companion_path(log->directory, segment.sequence, true, log->path_c);
    log->background_steps[0] = (struct disk_step){
        .kind = log->dropping_to_spare ? DISK_STEP_RENAME : DISK_STEP_UNLINK,
        .path = log->path_a,
        .path_new = log->path_b,
    };
    log->background_steps[1] = (struct disk_step){.kind = DISK_STEP_UNLINK, .path = log->path_c};
    log->background_steps[2] =
        (struct disk_step){.kind = DISK_STEP_SYNC_DIRECTORY, .path = log->directory};
    space_submit(log, 3, space_on_dropped);
}

/* -------------------------------------------------------------------------------------------- */

void log_space_pump(struct log *log)
{
    if (log->background) {
        return;
    }
    const bool retry = log->prepare_retry;
    log->prepare_retry = false;
    /* First what goes: it may give the next segment. But where a flush waits for that one and a spare is
     * here, the flush does not wait for all that was released at once. */
    const bool urgent = log->wanting && log->spare;
    if (!urgent && log->drop_check && space_may_drop(log)) {
        space_drop(log);
        return;
    }
    log->drop_check = log->drop_check && urgent;
    if (log_segment_find(log, log->tail_sequence + 1) == NULL &&
        (!log->closing || log->waiting_head != NULL) && (log->prepare_status == 0 || retry) &&
        (log->wanting || !space_exceeds(log, 4))) {
        space_prepare(log, log->tail_sequence + 1);
        return;
    }
    struct log_segment_file *segment = space_footer_find(log);
    if (segment != NULL) {
        space_footer(log, segment);
    }
}

void log_space_tick(struct log *log, int64_t now_ms)
{
    log->now_ms = 0;
    if (now_ms <= 0) {
        return;
    }
    const uint64_t now = (uint64_t)now_ms;
    const bool jumped = log->clock_ms != 0 &&
                        (now < log->clock_ms || now - log->clock_ms > LIMIT_LOG_CLOCK_JUMP_MS);
    log->clock_doubt = jumped ? log->clock_doubt + 1 : 0;
    if (jumped && log->clock_doubt < LIMIT_LOG_CLOCK_TICKS) {
        return;
    }

    log->now_ms = now;
    log->clock_ms = now;
    log->clock_doubt = 0;
    for (uint32_t i = 0; i < log->segment_count; i++) {
        struct log_segment_file *segment = &log->segments[i];
        if (segment->sequence >= log->tail_sequence) {
            break;
        }
        if (segment->time_last_ms == 0 || segment->time_last_ms > log->clock_ms) {
            segment->time_last_ms = log->clock_ms; /* nobody knew, or the clock was wrong */
        }
    }
    log->drop_check = log->drop_check || log->history_ms != 0;
}

void log_release(struct log *log, uint64_t index)
{
    if (index > log->released) {
        log->released = index;
        log->drop_check = true;
        log_pump(log);
    }
}

void log_hold(struct log *log, uint64_t index)
{
    const bool more = index > log->held;
    log->held = index;
    if (more) {
        log->drop_check = true;
        log_pump(log);
    }
}

void log_set_history(struct log *log, uint64_t history_bytes)
{
    log->history_bytes = history_bytes;
    log->drop_check = true;
    log_pump(log);
}

bool log_over_limit(const struct log *log)
{
    return log_disk_bytes(log) > log->limit_bytes || extents_runs(&log->extents) >= LIMIT_LOG_RUNS;
}

bool log_limited(const struct log *log)
{
    return space_exceeds(log, 3);
}

bool log_crowded(const struct log *log)
{
    return space_exceeds_eighths(log, 5);
}

uint64_t log_disk_bytes(const struct log *log)
{
    return LOG_META_FILE_BYTES + log->segments_bytes +
           (log->spare || log->preparing ? log->segment_bytes : 0);
}
