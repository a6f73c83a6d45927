/* Files come and go, in the background lane.
 *
 * Prepare: the segment after the tail is made before it is needed:
 *   1. `new.tmp` is zeroed to its full size, or `spare` (a dropped segment) is taken as it is
 *   2. header, sync   3. renamed to its name   4. directory synced   5. it is in the list
 * A reused file is full of old frames; their salt and sequence are those of its former life.
 *
 * Drop, one segment at a time, oldest first, so that what a crash brings back has no holes:
 *   renamed to `spare` if there is none, unlinked otherwise; then the directory is synced
 *
 * A full disk while preparing is remembered in prepare_status and tried again at log_tick and after
 * a drop; any other failure fails the log.
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

struct log_segment_file *log_segment_find(struct log *log, uint64_t sequence)
{
    if (log->segment_count == 0 || sequence < log->segments[0].sequence) {
        return NULL;
    }
    const uint64_t at = sequence - log->segments[0].sequence; /* no holes: log_segment_add */
    return at < log->segment_count ? &log->segments[at] : NULL;
}

int log_segment_add(struct log *log, uint64_t sequence, uint32_t size_bytes, struct disk_file *file)
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
    log->segments[log->segment_count] =
        (struct log_segment_file){.sequence = sequence, .size_bytes = size_bytes, .file = file};
    log->segment_count++;
    return 0;
}

static bool no_space(int status)
{
    return status == -ENOSPC || status == -EDQUOT;
}

/* -- prepare --------------------------------------------------------------------------------- */

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
        status = log_segment_add(log, sequence, log->segment_bytes, file);
    }
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

    struct segment_header header = {.sequence = sequence, .size_bytes = log->segment_bytes};
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
    log->background = true;
    log->preparing = true;
    log->background_job = (struct disk_job){
        .steps = log->background_steps,
        .step_count = steps,
        .lane = DISK_LANE_BACKGROUND,
        .callback = space_on_prepared,
    };
    disk_submit(log->disk, &log->background_job);
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
    log_turn(log);
}

/* Whether the oldest segment may go now. The last one with durable frames stays: it says which index
 * comes next. After a crash that is not the tail, if all that was in the tail was torn away. */
static bool space_may_drop(struct log *log)
{
    const uint64_t last = log->durable_offset > SEGMENT_HEADER_BYTES || log->durable_sequence == 0
                              ? log->durable_sequence
                              : log->durable_sequence - 1;
    if (log->segment_count == 0 || log->truncations > 0 || log->segments[0].sequence >= last) {
        return false;
    }
    uint64_t index_next;
    if (!extents_in_segment(&log->extents, log->segments[0].sequence, &index_next)) {
        return true; /* all void: that is no history */
    }
    uint64_t droppable_bytes = 0;
    for (uint32_t i = 0; i < log->segment_count; i++) {
        const struct log_segment_file *segment = &log->segments[i];
        if (segment->sequence >= last ||
            (extents_in_segment(&log->extents, segment->sequence, &index_next) &&
             index_next > log->released)) {
            break;
        }
        droppable_bytes += segment->size_bytes;
    }
    return droppable_bytes > log->history_bytes;
}

static void space_drop(struct log *log)
{
    const struct log_segment_file segment = log->segments[0];
    CHECK(segment.file == NULL);
    log->segment_count--;
    memmove(log->segments, log->segments + 1, log->segment_count * sizeof *log->segments);
    extents_drop(&log->extents, segment.sequence);
    log->generation++;

    log_segment_path(log->directory, segment.sequence, log->path_a);
    log_path(log->directory, "spare", log->path_b);
    log->dropping_to_spare = !log->spare && segment.size_bytes == log->segment_bytes;
    log->background_steps[0] = (struct disk_step){
        .kind = log->dropping_to_spare ? DISK_STEP_RENAME : DISK_STEP_UNLINK,
        .path = log->path_a,
        .path_new = log->path_b,
    };
    log->background_steps[1] =
        (struct disk_step){.kind = DISK_STEP_SYNC_DIRECTORY, .path = log->directory};
    log->background = true;
    log->background_job = (struct disk_job){
        .steps = log->background_steps,
        .step_count = 2,
        .lane = DISK_LANE_BACKGROUND,
        .callback = space_on_dropped,
    };
    disk_submit(log->disk, &log->background_job);
}

/* -------------------------------------------------------------------------------------------- */

void log_space_pump(struct log *log)
{
    if (log->background) {
        return;
    }
    const bool retry = log->prepare_retry;
    log->prepare_retry = false;
    if (space_may_drop(log)) {
        space_drop(log); /* first: it may give the next segment */
    } else if (log_segment_find(log, log->tail_sequence + 1) == NULL &&
               (!log->closing || log->waiting_head != NULL) &&
               (log->prepare_status == 0 || retry)) {
        space_prepare(log, log->tail_sequence + 1);
    }
}

void log_release(struct log *log, uint64_t index)
{
    if (index > log->released) {
        log->released = index;
        log_pump(log);
    }
}

uint64_t log_disk_bytes(const struct log *log)
{
    uint64_t bytes = LOG_META_FILE_BYTES;
    for (uint32_t i = 0; i < log->segment_count; i++) {
        bytes += log->segments[i].size_bytes;
    }
    return bytes + (log->spare ? log->segment_bytes : 0);
}
