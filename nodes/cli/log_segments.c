/* ls, info, verify, stat: what a log is made of. */
#include "nodes/cli/log_command.h"
#include "nodes/cli/log_index.h"
#include "nodes/cli/log_state.h"
#include "nodes/options.h"
#include "schemas/check.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

static bool form_is_json(const struct ask *ask)
{
    return ask->form == FORM_JSON || ask->form == FORM_JSONL;
}

static const char *segment_state(const struct inspect_segment *segment)
{
    return segment->sealed                               ? "sealed"
           : segment->used_bytes == SEGMENT_HEADER_BYTES ? "prepared"
                                                         : "tail";
}

/* Why the segment is still there. */
static const char *segment_use(const struct inspect_segment *segment, const struct state *state)
{
    if (segment->used_bytes == SEGMENT_HEADER_BYTES) {
        return "empty";
    }
    if (!segment->sealed) {
        return "needed"; /* the next record goes there */
    }
    return state->machine == STATE_NONE            ? "unknown"
           : segment->frames == 0                  ? "history"
           : segment->index_last > state->position ? "needed"
                                                   : "history";
}

/* -- ls --------------------------------------------------------------------------------------- */

static void ls_json(struct out *out, const struct inspect_segment *segment,
                    const struct state *state)
{
    out_print(out,
              "{\"segment\":%" PRIu64 ",\"first\":%" PRIu64 ",\"last\":%" PRIu64
              ",\"frames\":%" PRIu64 ",\"usedBytes\":%" PRIu64 ",\"sizeBytes\":%" PRIu64
              ",\"state\":\"%s\",\"use\":\"%s\"}",
              segment->sequence, segment->index_first, segment->index_last, segment->frames,
              segment->used_bytes, segment->size_bytes, segment_state(segment),
              segment_use(segment, state));
}

static void ls_line(struct out *out, const struct inspect_segment *segment,
                    const struct state *state, int width)
{
    out_print(out, "%016" PRIx64 " ", segment->sequence);
    if (segment->frames == 0) {
        out_print(out, "%*s %*s", width, "-", width, "-");
    } else {
        out_print(out, "%*" PRIu64 " %*" PRIu64, width, segment->index_first, width,
                  segment->index_last);
    }
    out_print(out, " %11" PRIu64 " %11" PRIu64 "  %-8s  %s\n", segment->used_bytes,
              segment->size_bytes, segment_state(segment), segment_use(segment, state));
}

int log_ls(struct ask *ask)
{
    struct view view;
    struct state state;
    struct out *out = ask->out;
    int code = view_open(&view, ask->command, ask->words.items[0], INSPECT_QUICK, out);
    if (code != OPTIONS_EXIT_OK) {
        view_close(&view);
        return code;
    }
    const struct inspect *inspect = &view.inspect;
    const int width = view_offset_width(&view);
    state_open(&state, &view);
    if (!form_is_json(ask) && inspect->segment_count > 0) {
        out_colour(out, COLOUR_HEAD);
        out_print(out, "%16s %*s %*s %11s %11s  %-8s  %s", "SEGMENT", width, "FIRST", width, "LAST",
                  "BYTES", "SIZE", "STATE", "USE");
        out_colour(out, COLOUR_NONE);
        out_character(out, '\n');
    }
    for (uint32_t i = 0; i < inspect->segment_count; i++) {
        if (form_is_json(ask)) {
            out_text(out, ask->form == FORM_JSONL ? "" : i == 0 ? "[" : ",\n ");
            ls_json(out, &inspect->segments[i], &state);
            out_text(out, ask->form == FORM_JSONL ? "\n" : "");
        } else {
            ls_line(out, &inspect->segments[i], &state, width);
        }
    }
    if (ask->form == FORM_JSON) {
        out_text(out, inspect->segment_count == 0 ? "[]\n" : "]\n");
    }
    out_flush(out);
    if (state.machine == STATE_NONE) {
        fprintf(stderr, "%s: what the state still needs is not known: %s\n", ask->command,
                state.why);
    } else if (!form_is_json(ask)) {
        fprintf(stderr,
                "the state holds what was recorded up to offset %" PRIu64
                " for good; segments that go on beyond it are needed, those before are history\n",
                state.position);
    }
    code = view_damage(&view);
    if (code == OPTIONS_EXIT_OK && inspect->segment_count == 0) {
        code = OPTIONS_EXIT_NOTHING;
    }
    code = view_ending(&view, code);
    state_close(&state);
    view_close(&view);
    return code;
}

/* -- info ------------------------------------------------------------------------------------- */

struct sums {
    uint64_t used_bytes;
    uint64_t size_bytes;
};

static struct sums sums_of(const struct inspect *inspect)
{
    struct sums sums = {0};
    for (uint32_t i = 0; i < inspect->segment_count; i++) {
        sums.used_bytes += inspect->segments[i].used_bytes;
        sums.size_bytes += inspect->segments[i].size_bytes;
    }
    return sums;
}

static void info_owner(const struct inspect *inspect, char owner[2 * SEGMENT_OWNER_BYTES + 1])
{
    for (uint32_t i = 0; i < SEGMENT_OWNER_BYTES; i++) {
        snprintf(owner + 2 * i, 3, "%02x", inspect->owner[i]);
    }
}

/* Who has the log open, by the kernel's table of locks: to try the lock would keep an owner out that
 * starts at this moment.
 *
 *   out_pid   0: nobody
 *   program   its name; "" when it cannot be told
 *   answers   false: it cannot be known
 */
static bool info_process(const struct view *view, long *out_pid, char program[32])
{
    char path[LIMIT_LOG_PATH_BYTES + 16];
    char line[256];
    struct stat lock;
    *out_pid = 0;
    program[0] = '\0';
    snprintf(path, sizeof path, "%s/lock", view->log);
    if (stat(path, &lock) != 0) {
        return errno == ENOENT; /* one that nobody ever opened to write */
    }
    FILE *locks = fopen("/proc/locks", "re");
    if (locks == NULL) {
        return false;
    }
    while (*out_pid == 0 && fgets(line, sizeof line, locks) != NULL) {
        long pid;
        unsigned device_major, device_minor;
        unsigned long inode;
        /* a file system of several devices (major 0) shows another minor here than in stat */
        if (sscanf(line, "%*d: FLOCK %*s WRITE %ld %x:%x:%lu", &pid, &device_major, &device_minor,
                   &inode) == 4 &&
            inode == lock.st_ino && device_major == major(lock.st_dev) &&
            (device_minor == minor(lock.st_dev) || device_major == 0)) {
            *out_pid = pid;
        }
    }
    (void)fclose(locks);
    snprintf(path, sizeof path, "/proc/%ld/comm", *out_pid);
    FILE *comm = *out_pid > 0 ? fopen(path, "re") : NULL;
    if (comm != NULL) {
        if (fgets(program, 32, comm) != NULL) {
            program[strcspn(program, "\n")] = '\0';
        }
        (void)fclose(comm);
    }
    return true;
}

/* Offsets a restart reads again: what the state on disk lacks. */
static uint64_t info_replay_from(const struct inspect *inspect, const struct state *state)
{
    return state->position + 1 > inspect->index_first ? state->position + 1 : inspect->index_first;
}

static void info_json(struct out *out, const struct view *view, const struct state *state)
{
    const struct inspect *inspect = &view->inspect;
    const struct sums sums = sums_of(inspect);
    char owner[2 * SEGMENT_OWNER_BYTES + 1];
    info_owner(inspect, owner);
    out_text(out, "{\"directory\":");
    out_json_text(out, view->log);
    out_print(out,
              ",\"owner\":\"%s\",\"first\":%" PRIu64 ",\"last\":%" PRIu64 ",\"frames\":%" PRIu64
              ",\"truncations\":%" PRIu64 ",\"usedBytes\":%" PRIu64 ",\"sizeBytes\":%" PRIu64
              ",\"segments\":%u,\"tornBytes\":%" PRIu64 ",\"metaBytes\":%zu,\"state\":",
              owner, inspect->index_first, inspect->index_next - 1, inspect->frames,
              inspect->truncations, sums.used_bytes, sums.size_bytes, inspect->segment_count,
              inspect->bytes_torn, inspect->meta.size);
    if (state->machine == STATE_NONE) {
        out_text(out, "null");
    } else {
        const uint64_t from = info_replay_from(inspect, state);
        out_print(out, "{\"machine\":\"%s\",\"position\":%" PRIu64 ",\"replay\":%" PRIu64 "}",
                  state_machine_text(state->machine), state->position,
                  inspect->index_next > from ? inspect->index_next - from : 0);
    }
    long pid;
    char program[32];
    const bool known = info_process(view, &pid, program);
    out_text(out, ",\"running\":");
    out_text(out, !known ? "null" : pid != 0 ? "true" : "false");
    if (known && pid > 0) {
        out_print(out, ",\"pid\":%ld,\"program\":", pid);
        out_json_text(out, program);
    }
    if (state->running) {
        out_print(out, ",\"applied\":%" PRIu64, state->applied);
    }
    out_text(out, "}\n");
}

static void info_owner_line(struct out *out, const struct view *view, const struct state *state)
{
    long pid;
    char program[32];
    const bool known = info_process(view, &pid, program);
    out_text(out, "owner        ");
    if (!known) {
        out_text(out, "not known: /proc/locks cannot be read");
    } else if (pid == 0) {
        out_text(out, "nobody: no process has this log open");
    } else if (pid < 0) {
        out_text(out, "a running process outside of this container");
    } else {
        out_print(out, "process %ld, running: ", pid);
        out_plain(out, program[0] == '\0' ? "?" : program, 0);
    }
    if (state->running) {
        out_print(out, ", has applied up to offset %" PRIu64, state->applied);
    }
    out_character(out, '\n');
}

static void info_state_line(struct out *out, const struct inspect *inspect,
                            const struct state *state)
{
    if (state->machine == STATE_NONE) {
        out_print(out, "state        none: %s\n", state->why);
        return;
    }
    out_print(out, "state        of %s, on disk up to offset %" PRIu64 "; a restart replays ",
              state->machine == STATE_CLOUD ? "a cloudcore" : "an edgecore", state->position);
    const uint64_t from = info_replay_from(inspect, state);
    if (from >= inspect->index_next) {
        out_text(out, "nothing\n");
    } else {
        out_print(out, "offsets %" PRIu64 " .. %" PRIu64 "\n", from, inspect->index_next - 1);
    }
}

static void info_text(struct out *out, const struct view *view, const struct state *state)
{
    const struct inspect *inspect = &view->inspect;
    const struct sums sums = sums_of(inspect);
    char owner[2 * SEGMENT_OWNER_BYTES + 1];
    info_owner(inspect, owner);
    out_print(out, "directory    %s\nlog id       %s\n", view->log, owner);
    info_owner_line(out, view, state);
    if (inspect->frames > 0) {
        out_print(out, "offsets      %" PRIu64 " .. %" PRIu64 "\n", inspect->index_first,
                  inspect->index_next - 1);
    } else {
        out_print(out, "offsets      none; the next is %" PRIu64 "\n", inspect->index_next);
    }
    out_print(out,
              "frames       %" PRIu64 "\ntruncations  %" PRIu64 "\nbytes        %" PRIu64
              " used of %" PRIu64 " in %u segments\ntorn bytes   %" PRIu64
              "\nmeta         %zu bytes\n",
              inspect->frames, inspect->truncations, sums.used_bytes, sums.size_bytes,
              inspect->segment_count, inspect->bytes_torn, inspect->meta.size);
    info_state_line(out, inspect, state);
}

int log_info(struct ask *ask)
{
    struct view view;
    struct state state;
    int code = view_open(&view, ask->command, ask->words.items[0], INSPECT_QUICK, ask->out);
    if (code == OPTIONS_EXIT_OK) {
        state_open(&state, &view);
        state_ask(&state, &view);
        if (form_is_json(ask)) {
            info_json(ask->out, &view, &state);
        } else {
            info_text(ask->out, &view, &state);
        }
        code = view_ending(&view, view_damage(&view));
        state_close(&state);
    }
    view_close(&view);
    return code;
}

/* -- verify ----------------------------------------------------------------------------------- */

int log_verify(struct ask *ask)
{
    struct view view;
    struct out *out = ask->out;
    int code = view_open(&view, ask->command, ask->words.items[0], INSPECT_VERIFY, out);
    if (code != OPTIONS_EXIT_OK) {
        view_close(&view);
        return code;
    }
    const struct inspect *inspect = &view.inspect;
    code = view_damage(&view);
    const bool damaged = code != OPTIONS_EXIT_OK;
    if (form_is_json(ask)) {
        out_print(out, "{\"ok\":%s,\"frames\":%" PRIu64 ",\"segments\":%u,\"tornBytes\":%" PRIu64,
                  damaged ? "false" : "true", inspect->frames, inspect->segment_count,
                  inspect->bytes_torn);
        if (damaged) {
            out_text(out, ",\"path\":");
            out_json_text(out, inspect->damage_path);
            out_print(out, ",\"byte\":%" PRIu64 ",\"message\":", inspect->damage_offset);
            out_json_text(out, inspect->damage_message);
        }
        out_text(out, "}\n");
    } else if (!damaged) {
        out_print(out, "ok: %" PRIu64 " frames in %u segments\n", inspect->frames,
                  inspect->segment_count);
    }
    out_flush(out);
    if (!damaged && inspect->bytes_torn > 0) {
        fprintf(stderr,
                "%s: a torn write of %" PRIu64
                " bytes at the end; it was never acknowledged, the next start cuts it\n",
                ask->command, inspect->bytes_torn);
    }
    code = view_ending(&view, code);
    view_close(&view);
    return code;
}

/* -- stat ------------------------------------------------------------------------------------- */

struct statistics {
    struct view *view;
    const struct selection *selection;
    struct counters counters;
    uint64_t count; /* records that stand in a frame themselves */
    uint64_t bytes;
    int64_t time_min, time_max;
    int64_t last_ms;
    struct out body;
};

static void statistics_time(struct statistics *statistics, int64_t time_ms)
{
    if (time_ms <= 0) {
        return;
    }
    if (statistics->time_min == 0 || time_ms < statistics->time_min) {
        statistics->time_min = time_ms;
    }
    if (time_ms > statistics->time_max) {
        statistics->time_max = time_ms;
    }
}

static int statistics_on_item(void *context, const struct item *item)
{
    struct statistics *statistics = context;
    out_clear(&statistics->body);
    if (selection_reads_body(statistics->selection)) {
        item_body(statistics->view->codec, item, false, &statistics->body);
    }
    if (selection_matches(statistics->selection, item, out_bytes(&statistics->body))) {
        counters_add_item(&statistics->counters, item);
        statistics_time(statistics, item->time_ms);
    }
    return 0;
}

static int statistics_on_frame(void *context, const struct log_frame *frame)
{
    struct statistics *statistics = context;
    return (selection_reads_body(statistics->selection) ? items_walk : items_glance)(
        statistics->view->codec, frame, &statistics->last_ms, statistics_on_item, statistics);
}

/* Whether every frame of a segment stands: then what its index counted is what there is. */
static bool segment_whole(const struct inspect *inspect, const struct inspect_segment *segment)
{
    uint64_t frames = 0;
    for (uint32_t i = inspect->extents.first; i < inspect->extents.count; i++) {
        const struct extent *extent = &inspect->extents.list[i];
        if (extent->sequence == segment->sequence) {
            frames += extent->index_next - extent->index_first;
        }
    }
    return frames == segment->frames;
}

/* Everything: sealed segments by their indexes, the rest is read. */
static int statistics_all(struct statistics *statistics)
{
    struct view *view = statistics->view;
    struct keys keys;
    int code = keys_open(&keys, view);
    uint64_t next = 0; /* frames below are counted */
    const uint32_t count = view->inspect.segment_count;
    struct inspect_segment *segments = malloc((count + 1) * sizeof *segments);
    CHECK(segments != NULL);
    memcpy(segments, view->inspect.segments, count * sizeof *segments);
    for (uint32_t i = 0; i < count && code == OPTIONS_EXIT_OK; i++) {
        const struct keys_segment *index = keys_segment_find(&keys, segments[i].sequence);
        if (segments[i].frames == 0) {
            continue;
        }
        if (index != NULL && segments[i].index_first >= next &&
            segment_whole(&view->inspect, &segments[i])) {
            keys_count(index, &statistics->counters);
            statistics_time(statistics, index->time_min);
            statistics_time(statistics, index->time_max);
            next = segments[i].index_last + 1;
        } else if (segments[i].index_last >= next) {
            const uint64_t from = segments[i].index_first > next ? segments[i].index_first : next;
            code = view_frames(view, from, segments[i].index_last, statistics_on_frame, statistics);
            next = segments[i].index_last + 1;
        }
    }
    free(segments);
    keys_close(&keys);
    return code;
}

static int counter_compare(const void *a, const void *b)
{
    const struct counter *x = a;
    const struct counter *y = b;
    if (x->bytes != y->bytes) {
        return x->bytes < y->bytes ? 1 : -1;
    }
    return strcmp(x->text, y->text);
}

/* The counters of one type, the largest first. Given: free it. */
static struct counter *counters_sorted(const struct counters *counters, enum counter_type type,
                                       uint32_t *out_count)
{
    struct counter *list = malloc((counters->used + 1) * sizeof *list);
    CHECK(list != NULL);
    *out_count = 0;
    for (uint32_t i = 0; i < counters->capacity; i++) {
        if (counters->list[i].text != NULL && counters->list[i].type == type) {
            list[*out_count] = counters->list[i];
            (*out_count)++;
        }
    }
    qsort(list, *out_count, sizeof *list, counter_compare);
    return list;
}

static double per_second(uint64_t amount, double seconds)
{
    return seconds > 0 ? (double)amount / seconds : 0;
}

static void stat_table(struct out *out, const char *title, const struct counter *list,
                       uint32_t count, double seconds)
{
    out_colour(out, COLOUR_HEAD);
    out_print(out, "%-40s %12s %14s %12s %14s", title, "COUNT", "BYTES", "COUNT/S", "BYTES/S");
    out_colour(out, COLOUR_NONE);
    out_character(out, '\n');
    for (uint32_t i = 0; i < count; i++) {
        out_plain(out, list[i].text[0] == '\0' ? "(none)" : list[i].text, 40);
        out_print(out, " %12" PRIu64 " %14" PRIu64 " %12.2f %14.2f\n", list[i].count, list[i].bytes,
                  per_second(list[i].count, seconds), per_second(list[i].bytes, seconds));
    }
}

static void stat_json(struct out *out, const char *name, const struct counter *list, uint32_t count,
                      double seconds)
{
    out_print(out, ",\"%s\":[", name);
    for (uint32_t i = 0; i < count; i++) {
        out_text(out, i == 0 ? "{\"name\":" : ",{\"name\":");
        out_json_text(out, list[i].text);
        out_print(out,
                  ",\"count\":%" PRIu64 ",\"bytes\":%" PRIu64
                  ",\"countPerSecond\":%.3f,\"bytesPerSecond\":%.3f}",
                  list[i].count, list[i].bytes, per_second(list[i].count, seconds),
                  per_second(list[i].bytes, seconds));
    }
    out_character(out, ']');
}

static void json_time(struct out *out, const char *name, int64_t time_ms)
{
    out_print(out, "\"%s\":", name);
    if (time_ms <= 0) {
        out_text(out, "null");
        return;
    }
    out_character(out, '"');
    out_time(out, time_ms);
    out_character(out, '"');
}

static void stat_print(struct ask *ask, struct statistics *statistics)
{
    struct out *out = ask->out;
    uint32_t kind_count, prefix_count;
    struct counter *kinds = counters_sorted(&statistics->counters, COUNTER_KIND, &kind_count);
    struct counter *prefixes =
        counters_sorted(&statistics->counters, COUNTER_PREFIX, &prefix_count);
    const double seconds = (double)(statistics->time_max - statistics->time_min) / 1e3;
    for (uint32_t i = 0; i < kind_count; i++) {
        if (strchr(kinds[i].text, '/') == NULL) { /* what lies in a batch is counted with it */
            statistics->count += kinds[i].count;
            statistics->bytes += kinds[i].bytes;
        }
    }
    if (form_is_json(ask)) {
        out_print(out, "{\"count\":%" PRIu64 ",\"bytes\":%" PRIu64 ",", statistics->count,
                  statistics->bytes);
        json_time(out, "from", statistics->time_min);
        out_character(out, ',');
        json_time(out, "to", statistics->time_max);
        out_print(out, ",\"seconds\":%.3f", seconds);
        stat_json(out, "kinds", kinds, kind_count, seconds);
        stat_json(out, "prefixes", prefixes, prefix_count, seconds);
        out_text(out, "}\n");
    } else {
        stat_table(out, "KIND", kinds, kind_count, seconds);
        out_character(out, '\n');
        stat_table(out, "KEY PREFIX", prefixes, prefix_count, seconds);
        out_print(out, "\n%" PRIu64 " records, %" PRIu64 " bytes", statistics->count,
                  statistics->bytes);
        if (statistics->time_min > 0) {
            out_text(out, ", ");
            out_time(out, statistics->time_min);
            out_text(out, " to ");
            out_time(out, statistics->time_max);
            out_print(out, ", %.2f records/s, %.2f bytes/s", per_second(statistics->count, seconds),
                      per_second(statistics->bytes, seconds));
        }
        out_character(out, '\n');
    }
    free(kinds);
    free(prefixes);
}

int log_stat(struct ask *ask)
{
    struct view view;
    struct statistics statistics = {.view = &view, .selection = &ask->selection};
    out_init(&statistics.body, -1);
    int code = view_open(&view, ask->command, ask->words.items[0], INSPECT_QUICK, ask->out);
    if (code == OPTIONS_EXIT_OK) {
        const struct selection *selection = &ask->selection;
        selection_resolve(&ask->selection, view.inspect.index_next);
        const bool all = !selection->filters && selection->offset_from == 0 &&
                         selection->offset_to == UINT64_MAX;
        code = all ? statistics_all(&statistics)
                   : view_frames(&view, selection->offset_from, selection->offset_to,
                                 statistics_on_frame, &statistics);
        stat_print(ask, &statistics);
        if (code == OPTIONS_EXIT_OK && statistics.counters.used == 0) {
            code = OPTIONS_EXIT_NOTHING;
        }
        code = view_ending(&view, code);
    }
    counters_deinit(&statistics.counters);
    out_deinit(&statistics.body);
    view_close(&view);
    return code;
}
