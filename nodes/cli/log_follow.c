/* tail -f.
 *
 *   1. stand behind the last alive frame that the inspection saw
 *   2. read forward: frames are printed, a truncation is said, a seal leads into the next segment
 *   3. nothing there: wait for a change of the directory (inotify), look again at the same place
 *
 * What can happen: the owner drops the segment before we have read it (we were slower than the history it
 * keeps): said, and reading goes on with the oldest there is. The owner dies and its next life cuts a
 * torn tail: those bytes were never alive, so we stood before them.
 */
#include "nodes/cli/log_command.h"

#include "nodes/options.h"
#include "schemas/check.h"
#include "schemas/status.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <unistd.h>

/* Where inotify tells nothing (a network file system), we look this often. */
#define FOLLOW_LOOK_MS 500

struct follow {
    struct view *view;
    struct printer *printer;
    struct segment_reader reader;
    uint64_t sequence; /* where the next frame is looked for */
    uint32_t offset;
    uint64_t index_next; /* what it should have */
    int watch;
    int64_t deadline_ms;
    bool ended; /* the printer has enough */
};

/* Stand behind the last frame that was seen. */
static void follow_stand(struct follow *follow)
{
    const struct inspect *inspect = &follow->view->inspect;
    follow->sequence = inspect->segment_count > 0 ? inspect->segments[0].sequence : 1;
    follow->offset = SEGMENT_HEADER_BYTES;
    for (uint32_t i = 0; i < inspect->segment_count; i++) {
        const struct inspect_segment *segment = &inspect->segments[i];
        if (segment->used_bytes > SEGMENT_HEADER_BYTES) {
            follow->sequence = segment->sequence + (segment->sealed ? 1 : 0);
            follow->offset = segment->sealed ? SEGMENT_HEADER_BYTES : (uint32_t)segment->used_bytes;
        }
    }
    follow->index_next = inspect->index_next;
}

static void follow_frame(struct follow *follow, const struct segment_frame *frame)
{
    if (frame->type == LOG_TYPE_TRUNCATE || frame->type == LOG_TYPE_RESET) {
        out_flush(follow->view->out);
        fprintf(stderr, "%s: the owner took back offset %" PRIu64 " and all behind it\n",
                follow->view->command, frame->index);
    } else if (frame->type >= LOG_TYPE_OWNER) {
        const struct log_frame whole = {.index = frame->index,
                                        .term = frame->term,
                                        .type = frame->type,
                                        .payload = frame->payload};
        follow->ended = printer_on_frame(follow->printer, &whole) != 0;
        follow->index_next = frame->index + 1;
    }
}

/* The segment is not there any more: print what can be had, and stand behind it. */
static int follow_catch_up(struct follow *follow)
{
    struct view *view = follow->view;
    const uint64_t next = follow->index_next;
    int code = view_reopen(view);
    if (code == OPTIONS_EXIT_OK && view->inspect.index_first > next) {
        fprintf(stderr,
                "%s: offsets %" PRIu64 " to %" PRIu64
                " were dropped by their owner before they could be read\n",
                view->command, next, view->inspect.index_first - 1);
    }
    if (code == OPTIONS_EXIT_OK) {
        code = view_frames(view, next, UINT64_MAX, printer_on_frame, follow->printer);
        follow->ended = follow->printer->code != OPTIONS_EXIT_OK || view->out->status != 0;
        follow_stand(follow); /* only now: it may have looked again */
    }
    return code;
}

/* Read what is there.
 *   answers   as view_frames */
static int follow_read(struct follow *follow)
{
    for (;;) {
        char path[LIMIT_LOG_PATH_BYTES];
        snprintf(path, sizeof path, "%.*s/%016" PRIx64 ".seg", (int)sizeof path - 64,
                 follow->view->log, follow->sequence);
        int status = segment_reader_open(&follow->reader, path, follow->view->inspect.owner,
                                         follow->sequence);
        if (status == -ENOENT && follow->offset == SEGMENT_HEADER_BYTES) {
            const int code = view_reopen(follow->view); /* not prepared yet, or long gone? */
            const struct inspect *inspect = &follow->view->inspect;
            return code != OPTIONS_EXIT_OK ? code
                   : inspect->segment_count > 0 && inspect->segments[0].sequence > follow->sequence
                       ? follow_catch_up(follow)
                       : OPTIONS_EXIT_OK;
        }
        if (status == -ENOENT) {
            return follow_catch_up(follow);
        }
        if (status != 0) {
            return view_failure(follow->view, path, status);
        }
        segment_reader_seek(&follow->reader, follow->offset);
        struct segment_frame frame;
        bool sealed = false;
        while (!sealed && !follow->ended &&
               (status = segment_reader_next(&follow->reader, UINT32_MAX, &frame)) ==
                   SEGMENT_FRAME) {
            follow_frame(follow, &frame);
            follow->offset = frame.offset + frame.disk_bytes;
            sealed = frame.type == LOG_TYPE_SEAL;
        }
        if (status < 0) {
            return view_failure(follow->view, path, status);
        }
        if (!sealed || follow->ended) {
            return OPTIONS_EXIT_OK;
        }
        follow->sequence++;
        follow->offset = SEGMENT_HEADER_BYTES;
    }
}

/* Wait until something changed. false: the time is over. */
static bool follow_wait(struct follow *follow)
{
    int64_t left = FOLLOW_LOOK_MS;
    if (follow->deadline_ms >= 0) {
        const int64_t until = follow->deadline_ms - view_now_ms();
        if (until <= 0) {
            return false;
        }
        left = until < left ? until : left;
    }
    struct pollfd fds[2] = {{.fd = follow->watch, .events = POLLIN},
                            {.fd = follow->view->out->fd, .events = 0}};
    if (poll(fds, 2, (int)left) > 0) {
        if ((fds[0].revents & POLLIN) != 0) {
            char events[4096];
            (void)!read(follow->watch, events, sizeof events);
        }
        if ((fds[1].revents & (POLLERR | POLLHUP)) != 0) {
            follow->view->out->status = -EPIPE; /* nobody reads us any more */
            follow->ended = true;
        }
    }
    return true;
}

int log_follow(struct view *view, struct printer *printer, int64_t timeout_ms)
{
    struct follow follow = {
        .view = view,
        .printer = printer,
        .deadline_ms = timeout_ms < 0 ? -1 : view_now_ms() + timeout_ms,
        .watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC),
    };
    if (follow.watch >= 0) { /* without it we look every half second */
        (void)inotify_add_watch(follow.watch, view->log, IN_MODIFY | IN_MOVED_TO | IN_CREATE);
    }
    segment_reader_init(&follow.reader, view->inspect.disk);
    follow_stand(&follow);
    int code;
    bool waited = true;
    do {
        code = follow_read(&follow);
        out_flush(view->out);
        follow.ended = follow.ended || view->out->status != 0;
        if (code == OPTIONS_EXIT_OK && !follow.ended) {
            waited = follow_wait(&follow);
        }
    } while (code == OPTIONS_EXIT_OK && waited && !follow.ended);
    segment_reader_deinit(&follow.reader);
    if (follow.watch >= 0) {
        (void)close(follow.watch);
    }
    return code == OPTIONS_EXIT_OK && !waited ? VIEW_EXIT_TIMEOUT : code;
}
