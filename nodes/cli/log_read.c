/* cat, tail, get, find: records on stdout. */
#include "nodes/cli/log_belt.h"
#include "nodes/cli/log_command.h"
#include "nodes/cli/log_index.h"
#include "nodes/options.h"
#include "schemas/check.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Frames that tail looks at first; eight times as many each time they do not hold enough. */
#define TAIL_FRAMES 1024u

/* Nothing was printed: say what was looked at, so that nobody takes a typing error for an empty log. */
static void nothing_tell(const struct printer *printer)
{
    const struct inspect *inspect = &printer->view->inspect;
    const char *command = printer->view->command;
    if (inspect->frames == 0) {
        fprintf(stderr, "%s: the log in %s is empty\n", command, printer->view->log);
    } else if (printer->looked == 0) {
        fprintf(stderr,
                "%s: no record lies in that range; the log in %s holds offsets %" PRIu64
                " to %" PRIu64 "\n",
                command, printer->view->log, inspect->index_first, inspect->index_next - 1);
    } else {
        fprintf(stderr,
                "%s: nothing matches: %" PRIu64 " records were looked at, of offsets %" PRIu64
                " to %" PRIu64 "\n",
                command, printer->looked, printer->looked_first, printer->looked_last);
    }
}

/* What a command says at its end. */
static int read_ending(struct printer *printer, int code)
{
    printer_finish(printer);
    if (code == OPTIONS_EXIT_OK) {
        code = printer->code != OPTIONS_EXIT_OK ? printer->code
               : printer->matched == 0          ? OPTIONS_EXIT_NOTHING
                                                : OPTIONS_EXIT_OK;
    }
    return view_ending(printer->view, code);
}

/* -- cat -------------------------------------------------------------------------------------- */

/* Whether no record of a segment can lie in the time that is asked for. */
static bool segment_outside(const struct selection *selection, const struct keys *keys,
                            const struct inspect_segment *segment)
{
    const struct keys_segment *index = keys_segment_find(keys, segment->sequence);
    return index != NULL && index->time_max > 0 &&
           (index->time_max < selection->time_from || index->time_min > selection->time_to);
}

/* A range of times: only the segments that hold some of it are read. */
static int cat_times(struct ask *ask, struct view *view, struct belt *belt)
{
    const struct selection *selection = &ask->selection;
    struct keys keys;
    int code = keys_open(&keys, view);
    uint64_t next = selection->offset_from;
    /* While the owner goes on, view_frames may look again: what segments there are is remembered. */
    struct inspect_segment *segments = malloc((view->inspect.segment_count + 1) * sizeof *segments);
    CHECK(segments != NULL);
    const uint32_t count = view->inspect.segment_count;
    memcpy(segments, view->inspect.segments, count * sizeof *segments);
    for (uint32_t i = 0; i < count && code == OPTIONS_EXIT_OK; i++) {
        const struct inspect_segment *segment = &segments[i];
        if (segment->frames == 0 || segment->index_last < next ||
            segment_outside(selection, &keys, segment)) {
            continue;
        }
        const uint64_t from = segment->index_first > next ? segment->index_first : next;
        const uint64_t to =
            segment->index_last < selection->offset_to ? segment->index_last : selection->offset_to;
        if (from <= to) {
            code = view_frames(view, from, to, belt_put, belt);
            next = to + 1;
        }
        if (belt_ended(belt)) {
            break;
        }
    }
    free(segments);
    keys_close(&keys);
    return code;
}

int log_cat(struct ask *ask)
{
    struct view view;
    struct printer printer;
    int code = view_open(&view, ask->command, ask->words.items[0], INSPECT_QUICK, ask->out);
    printer_init(&printer, &view, &ask->selection, ask->form, ask->unmask);
    if (code == OPTIONS_EXIT_OK) {
        const struct selection *selection = &ask->selection;
        selection_resolve(&ask->selection, view.inspect.index_next);
        struct belt belt; /* until it is closed, the printer is the other thread's */
        belt_open(&belt, printer_on_frame, &printer);
        code =
            selection->from_time || selection->to_time
                ? cat_times(ask, &view, &belt)
                : view_frames(&view, selection->offset_from, selection->offset_to, belt_put, &belt);
        belt_close(&belt);
        code = read_ending(&printer, code);
        if (code == OPTIONS_EXIT_NOTHING && printer.matched == 0 && view.out->status == 0) {
            nothing_tell(&printer);
        }
    }
    printer_deinit(&printer);
    view_close(&view);
    return code;
}

/* -- tail ------------------------------------------------------------------------------------- */

/* The last `count` items that are meant: frames from the end are counted, more of them until there are
 * enough, then printed behind so many. */
static int tail_print(struct ask *ask, struct view *view, struct printer *printer)
{
    const uint64_t first = view->inspect.index_first > ask->selection.offset_from
                               ? view->inspect.index_first
                               : ask->selection.offset_from;
    const uint64_t next = ask->selection.offset_to < view->inspect.index_next - 1
                              ? ask->selection.offset_to + 1
                              : view->inspect.index_next;
    const uint64_t count = (uint64_t)ask->count;
    uint64_t frames = count > TAIL_FRAMES ? count : TAIL_FRAMES;
    if (count == 0 || first >= next) {
        return OPTIONS_EXIT_OK;
    }
    for (;;) {
        const uint64_t from = next - first > frames ? next - frames : first;
        printer->quiet = true;
        printer->matched = 0;
        printer->looked = 0;
        printer->last_ms = 0;
        int code = view_frames(view, from, next - 1, printer_on_frame, printer);
        if (code != OPTIONS_EXIT_OK && code != VIEW_EXIT_DAMAGED) {
            return code;
        }
        if (printer->matched >= count || from == first) {
            printer->skip = printer->matched > count ? printer->matched - count : 0;
            printer->quiet = false;
            printer->matched = 0;
            printer->looked = 0;
            printer->last_ms = 0;
            code = view_frames(view, from, next - 1, printer_on_frame, printer);
            printer->skip = 0;
            return code;
        }
        frames = frames > UINT64_MAX / 8 ? UINT64_MAX : 8 * frames;
    }
}

int log_tail(struct ask *ask)
{
    struct view view;
    struct printer printer;
    int code = view_open(&view, ask->command, ask->words.items[0], INSPECT_QUICK, ask->out);
    printer_init(&printer, &view, &ask->selection, ask->form, ask->unmask);
    if (code == OPTIONS_EXIT_OK) {
        selection_resolve(&ask->selection, view.inspect.index_next);
        const uint64_t next = view.inspect.index_next;
        code = tail_print(ask, &view, &printer);
        if (code == OPTIONS_EXIT_OK && ask->follow && view.inspect.index_next != next) {
            code = view_frames(&view, next, UINT64_MAX, printer_on_frame, &printer);
        }
        if (code == OPTIONS_EXIT_OK && ask->follow && printer.code == OPTIONS_EXIT_OK &&
            view.out->status == 0) {
            code = log_follow(&view, &printer, ask->timeout_ms);
        }
        code = read_ending(&printer, code);
        if (code == OPTIONS_EXIT_NOTHING && printer.matched == 0 && view.out->status == 0 &&
            ask->count > 0) {
            nothing_tell(&printer);
        }
    }
    printer_deinit(&printer);
    view_close(&view);
    return code;
}

/* -- get -------------------------------------------------------------------------------------- */

int log_get(struct ask *ask)
{
    struct view view;
    struct printer printer;
    struct log_frame frame;
    struct place place;
    const char *offset = ask->words.items[1];
    if (!place_parse(offset, false, 0, &place) || place.kind == PLACE_TIME) {
        fprintf(stderr, "%s: %s is no offset; 'kelp log ls %s' shows which there are\n",
                ask->command, offset, ask->words.items[0]);
        return OPTIONS_EXIT_USAGE;
    }
    int code = view_open(&view, ask->command, ask->words.items[0], INSPECT_QUICK, ask->out);
    printer_init(&printer, &view, &ask->selection, ask->form, ask->unmask);
    if (code == OPTIONS_EXIT_OK) {
        const struct inspect *inspect = &view.inspect;
        const uint64_t next = inspect->index_next;
        const uint64_t index = place.kind == PLACE_FROM_END
                                   ? (place.number < next ? next - place.number : 0)
                               : strcmp(offset, "start") == 0 ? inspect->index_first
                               : strcmp(offset, "end") == 0   ? next - 1
                                                              : place.number;
        code = view_frame(&view, index, &frame);
        if (code == OPTIONS_EXIT_OK) {
            (void)printer_detail(&printer, &frame);
        } else if (code == OPTIONS_EXIT_NOTHING && inspect->frames == 0) {
            fprintf(stderr, "%s: the log in %s is empty\n", ask->command, view.log);
        } else if (code == OPTIONS_EXIT_NOTHING) {
            code =
                index >= next && view_damage(&view) != OPTIONS_EXIT_OK ? VIEW_EXIT_DAMAGED : code;
            fprintf(stderr,
                    "%s: no offset %" PRIu64 " in %s, which holds %" PRIu64 " to %" PRIu64 "\n",
                    ask->command, index, view.log, inspect->index_first, next - 1);
        }
        code = read_ending(&printer, code);
    }
    printer_deinit(&printer);
    view_close(&view);
    return code;
}

/* -- find ------------------------------------------------------------------------------------- */

static int find_on_frame(void *context, const struct log_frame *frame)
{
    struct printer *printer = context;
    const struct selection *selection = printer->selection;
    return frame->index >= selection->offset_from && frame->index <= selection->offset_to
               ? printer_on_frame(printer, frame)
               : 0;
}

int log_find(struct ask *ask)
{
    struct view view;
    struct printer printer;
    struct keys keys = {0};
    char key[LIMIT_KEY_BYTES + 2];
    if (!key_complete(ask->words.items[0], key)) {
        fprintf(stderr, "%s: a key has 1 .. %u bytes\n", ask->command, LIMIT_KEY_BYTES);
        return OPTIONS_EXIT_USAGE;
    }
    const bool pattern = strpbrk(key, "*?[") != NULL; /* an index knows whole keys only */
    int code = view_open(&view, ask->command, ask->words.items[1], INSPECT_QUICK, ask->out);
    printer_init(&printer, &view, &ask->selection, ask->form, ask->unmask);
    if (code == OPTIONS_EXIT_OK) {
        selection_resolve(&ask->selection, view.inspect.index_next);
        if (!pattern) {
            code = keys_open(&keys, &view);
        }
        if (code == OPTIONS_EXIT_OK) {
            code = pattern ? view_frames(&view, ask->selection.offset_from,
                                         ask->selection.offset_to, printer_on_frame, &printer)
                           : keys_find(&keys, key, KEYS_OLDEST_FIRST, find_on_frame, &printer);
        }
        keys_close(&keys);
        if (code == OPTIONS_EXIT_OK && ask->selection.offset_to >= view.inspect.index_next) {
            code = view_damage(&view); /* an index ends there without a word */
        }
        code = read_ending(&printer, code);
        if (code == OPTIONS_EXIT_NOTHING && printer.matched == 0) {
            fprintf(stderr, "%s: no record of ", ask->command);
            struct out message;
            out_init(&message, -1);
            out_plain(&message, key, 0);
            fprintf(stderr, "%.*s in %s", (int)message.size, (const char *)message.data, view.log);
            if (printer.looked > 0) {
                fprintf(stderr,
                        " that matches; %" PRIu64 " were looked at, of offsets %" PRIu64
                        " to %" PRIu64 "\n",
                        printer.looked, printer.looked_first, printer.looked_last);
            } else {
                fprintf(stderr, "\n");
                key_hint(key);
            }
            out_deinit(&message);
        }
    }
    printer_deinit(&printer);
    view_close(&view);
    return code;
}
