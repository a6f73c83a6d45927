#include "nodes/cli/log_view.h"

#include "nodes/cloud/state_place.h"
#include "nodes/options.h"
#include "schemas/check.h"
#include "schemas/status.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PROGRESS_FIRST_MS 2000
#define PROGRESS_LINE_MS  2000
#define PROGRESS_FAST_MS  200
/* To catch up with an owner that drops what we are about to read, without reading anything between. */
#define VIEW_ATTEMPTS 16

int64_t view_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* -- progress --------------------------------------------------------------------------------- */

void progress_begin(struct progress *progress, const char *command, const char *doing,
                    uint64_t total_bytes)
{
    *progress = (struct progress){
        .command = command,
        .doing = doing,
        .total_bytes = total_bytes,
        .begun_ms = view_now_ms(),
        .terminal = isatty(STDERR_FILENO) == 1,
    };
}

void progress_tick(struct progress *progress, uint64_t bytes)
{
    progress->done_bytes += bytes;
    const int64_t now = view_now_ms();
    const int64_t pause = progress->terminal ? PROGRESS_FAST_MS : PROGRESS_LINE_MS;
    if (progress->command == NULL || now - progress->begun_ms < PROGRESS_FIRST_MS ||
        now - progress->told_ms < pause) {
        return;
    }
    progress->told_ms = now;
    progress->told = true;
    const double megabytes = (double)progress->done_bytes / 1e6;
    const double rate = megabytes * 1e3 / (double)(now - progress->begun_ms);
    const char *ending = progress->terminal ? "\x1b[K\r" : "\n";
    if (progress->total_bytes > 0 && progress->done_bytes <= progress->total_bytes) {
        fprintf(stderr, "%s: %s, %.0f of %.0f MB, %.0f MB/s%s", progress->command, progress->doing,
                megabytes, (double)progress->total_bytes / 1e6, rate, ending);
    } else {
        fprintf(stderr, "%s: %s, %.0f MB, %.0f MB/s%s", progress->command, progress->doing,
                megabytes, rate, ending);
    }
}

void progress_end(struct progress *progress)
{
    if (progress->told && progress->terminal) {
        fprintf(stderr, "\x1b[K");
    }
    progress->command = NULL;
}

/* -- a disk that is only read ----------------------------------------------------------------- */

struct view_disk {
    struct disk disk; /* first */
    struct disk *under;
    struct progress *progress;
};

static struct view_disk *view_disk_of(struct disk *disk)
{
    return CONTAINER_OF(disk, struct view_disk, disk);
}

static int view_disk_list(struct disk *disk, const char *path,
                          void (*each)(void *context, const char *name), void *context)
{
    return disk_list(view_disk_of(disk)->under, path, each, context);
}

static int view_disk_open(struct disk *disk, const char *path, enum disk_open mode,
                          struct disk_file **out_file)
{
    CHECK(mode == DISK_OPEN_READ);
    return disk_open(view_disk_of(disk)->under, path, mode, out_file);
}

static void view_disk_close(struct disk *disk, struct disk_file *file)
{
    disk_close(view_disk_of(disk)->under, file);
}

static int view_disk_size(struct disk *disk, struct disk_file *file, uint64_t *out_bytes)
{
    return disk_size(view_disk_of(disk)->under, file, out_bytes);
}

static int view_disk_read(struct disk *disk, struct disk_file *file, uint64_t offset,
                          uint8_t *out_data, size_t size, size_t *out_got)
{
    struct view_disk *self = view_disk_of(disk);
    const int status = disk_read(self->under, file, offset, out_data, size, out_got);
    if (status == 0) {
        progress_tick(self->progress, *out_got);
    }
    return status;
}

/* What would write is not there: looking at a log cannot change it. */
static void view_disk_ahead(struct disk *disk, const char *path)
{
    disk_ahead(view_disk_of(disk)->under, path);
}

static const struct disk_ops view_disk_ops = {
    .list = view_disk_list,
    .open = view_disk_open,
    .close = view_disk_close,
    .size = view_disk_size,
    .read = view_disk_read,
    .ahead = view_disk_ahead,
};

/* -- where it is ------------------------------------------------------------------------------ */

static bool is_directory(const char *path)
{
    struct stat found;
    return stat(path, &found) == 0 && S_ISDIR(found.st_mode);
}

/* From DIR to the log's directory and the state's. false: the name is too long. */
static bool view_locate(struct view *view, const char *directory)
{
    char parent[LIMIT_LOG_PATH_BYTES];
    if (strlen(directory) + 64 > sizeof parent) {
        return false;
    }
    strcpy(parent, directory);
    for (size_t size = strlen(parent); size > 1 && parent[size - 1] == '/'; size--) {
        parent[size - 1] = '\0';
    }
    snprintf(view->log, sizeof view->log, "%.*s/log", (int)sizeof view->log - 8, parent);
    if (!is_directory(view->log)) {
        strcpy(view->log, parent);
        char *slash = strrchr(parent, '/');
        if (slash == NULL) {
            strcpy(parent, strcmp(parent, ".") == 0 || strcmp(parent, "..") == 0 ? "" : ".");
        } else {
            slash[slash == parent ? 1 : 0] = '\0';
        }
        if (strcmp(parent, "") == 0) {
            snprintf(parent, sizeof parent, "%.*s/..", (int)sizeof parent - 8, view->log);
        }
    }
    struct state_place place;
    if (state_place_open(&place, parent) == 0 && is_directory(state_place_current(&place)) &&
        strlen(state_place_current(&place)) < sizeof view->state) {
        strcpy(view->state, state_place_current(&place));
    }
    return true;
}

int view_failure(const struct view *view, const char *path, int status)
{
    if (status == -ENOENT) {
        fprintf(stderr,
                "%s: there is no log in %s\n"
                "  DIR is the data directory of a cloudcore or an edgecore, or the log directory "
                "in it\n",
                view->command, path);
        return OPTIONS_EXIT_NOTHING;
    }
    if (status == -EACCES || status == -EPERM) {
        fprintf(stderr,
                "%s: %s may not be read by this user; try as root, or as the user it belongs to\n",
                view->command, path);
        return VIEW_EXIT_REFUSED;
    }
    if (status == -EAGAIN) {
        fprintf(stderr, "%s: %s changes faster than it can be read; try again\n", view->command,
                path);
        return OPTIONS_EXIT_NOTHING;
    }
    fprintf(stderr, "%s: cannot read %s: %s\n", view->command, path, status_text(status));
    return status == STATUS_CORRUPT || status == STATUS_FOREIGN || status == -EIO
               ? VIEW_EXIT_DAMAGED
               : OPTIONS_EXIT_NOTHING;
}

int view_damage(struct view *view)
{
    const struct inspect *inspect = &view->inspect;
    if (inspect->damage_status == 0) {
        return OPTIONS_EXIT_OK;
    }
    if (view->damage_told) {
        return VIEW_EXIT_DAMAGED;
    }
    view->damage_told = true;
    fprintf(stderr, "%s: %s at byte %" PRIu64 ": %s\n", view->command, inspect->damage_path,
            inspect->damage_offset, inspect->damage_message);
    if (inspect->damage_status == STATUS_CORRUPT) {
        fprintf(stderr, "  'kelp log salvage %s' tells what can be kept\n", view->log);
    }
    return VIEW_EXIT_DAMAGED;
}

static uint64_t view_total_bytes(const struct view *view)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < view->inspect.segment_count; i++) {
        bytes += view->inspect.segments[i].used_bytes;
    }
    return bytes;
}

static int view_look(struct view *view, enum inspect_depth depth)
{
    progress_begin(&view->progress, view->command, "reading", 0);
    const int status = inspect_open(&view->inspect, &view->disk->disk, view->log, depth);
    progress_end(&view->progress);
    view->opened = status == 0;
    return status == 0 ? OPTIONS_EXIT_OK : view_failure(view, view->log, status);
}

int view_open(struct view *view, const char *command, const char *directory,
              enum inspect_depth depth, struct out *out)
{
    *view = (struct view){.command = command, .out = out, .codec = codec_create()};
    view->uv = disk_uv_new(NULL);
    view->disk = calloc(1, sizeof *view->disk);
    CHECK(view->uv != NULL);
    CHECK(view->disk != NULL);
    *view->disk = (struct view_disk){
        .disk = {&view_disk_ops}, .under = disk_uv_disk(view->uv), .progress = &view->progress};
    if (!view_locate(view, directory)) {
        return view_failure(view, directory, -ENAMETOOLONG);
    }
    return view_look(view, depth);
}

int view_reopen(struct view *view)
{
    const enum inspect_depth depth = view->inspect.depth;
    if (view->opened) {
        inspect_close(&view->inspect);
        view->opened = false;
    }
    return view_look(view, depth);
}

void view_close(struct view *view)
{
    if (view->opened) {
        inspect_close(&view->inspect);
    }
    codec_destroy(view->codec);
    free(view->disk);
    disk_uv_free(view->uv);
}

int view_ending(const struct view *view, int code)
{
    out_flush(view->out);
    const int status = view->out->status;
    if (status == 0 || status == -EPIPE) {
        return code; /* who reads us had enough */
    }
    fprintf(stderr, "%s: the output cannot be written: %s\n", view->command, status_text(status));
    return OPTIONS_EXIT_NOTHING;
}

/* -- frames ----------------------------------------------------------------------------------- */

const struct inspect_segment *view_segment(const struct view *view, uint64_t sequence)
{
    for (uint32_t i = 0; i < view->inspect.segment_count; i++) {
        if (view->inspect.segments[i].sequence == sequence) {
            return &view->inspect.segments[i];
        }
    }
    return NULL;
}

/* The owner dropped what comes next: look again and stand before what is there now. */
static int view_catch_up(struct view *view, uint64_t next, bool told)
{
    const int code = view_reopen(view);
    if (code != OPTIONS_EXIT_OK) {
        return code;
    }
    inspect_seek(&view->inspect, next);
    if (view->inspect.cursor_index > next && told) {
        fprintf(stderr,
                "%s: offsets %" PRIu64 " to %" PRIu64
                " were dropped by their owner before they could be read\n",
                view->command, next, view->inspect.cursor_index - 1);
    }
    return OPTIONS_EXIT_OK;
}

int view_frames(struct view *view, uint64_t from, uint64_t to,
                int (*on_frame)(void *context, const struct log_frame *frame), void *context)
{
    struct log_frame frame;
    int attempts = 0; /* without a frame in between */
    bool some = false;
    int answer;
    /* On a terminal the records themselves show how far it is. */
    progress_begin(&view->progress, view->out->terminal ? NULL : view->command, "reading",
                   view_total_bytes(view));
    inspect_seek(&view->inspect, from);
    for (;;) {
        while ((answer = inspect_next(&view->inspect, &frame)) == INSPECT_FRAME &&
               frame.index <= to) {
            attempts = 0;
            some = true;
            if (on_frame(context, &frame) != 0) {
                progress_end(&view->progress);
                return OPTIONS_EXIT_OK;
            }
        }
        if (answer != INSPECT_GONE) {
            break;
        }
        if (attempts == VIEW_ATTEMPTS) {
            answer = -EAGAIN;
            break;
        }
        attempts++;
        const int code = view_catch_up(view, view->inspect.cursor_index, some);
        if (code != OPTIONS_EXIT_OK) {
            return code;
        }
    }
    progress_end(&view->progress);
    if (answer == STATUS_CORRUPT && view->inspect.damage_status != 0) {
        return view_damage(view);
    }
    if (answer < 0) {
        return view_failure(view, view->log, answer);
    }
    /* Damage behind `to` is not of this range. */
    return answer == INSPECT_FRAME ? OPTIONS_EXIT_OK : view_damage(view);
}

int view_frame(struct view *view, uint64_t offset, struct log_frame *out_frame)
{
    int answer = INSPECT_GONE;
    for (int i = 0; i < VIEW_ATTEMPTS && answer == INSPECT_GONE; i++) {
        inspect_seek(&view->inspect, offset);
        answer = offset >= view->inspect.index_next || view->inspect.cursor_index != offset
                     ? INSPECT_END
                     : inspect_next(&view->inspect, out_frame);
        if (answer == INSPECT_GONE) {
            const int code = view_reopen(view);
            if (code != OPTIONS_EXIT_OK) {
                return code;
            }
        }
    }
    if (answer == STATUS_CORRUPT && view->inspect.damage_status != 0) {
        return view_damage(view);
    }
    if (answer < 0) {
        return view_failure(view, view->log, answer);
    }
    return answer == INSPECT_FRAME ? OPTIONS_EXIT_OK : OPTIONS_EXIT_NOTHING;
}

int view_offset_width(const struct view *view)
{
    int width = 1;
    for (uint64_t rest = view->inspect.index_next; rest >= 10; rest /= 10) {
        width++;
    }
    return width < VIEW_OFFSET_WIDTH ? VIEW_OFFSET_WIDTH : width;
}

int view_term_width(const struct view *view)
{
    return view_offset_width(view) == VIEW_OFFSET_WIDTH ? VIEW_TERM_WIDTH : VIEW_TERM_WIDTH_JUMPED;
}
