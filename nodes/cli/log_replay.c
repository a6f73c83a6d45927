/* replay: a row as it was at an offset.
 *
 *   1. where the log begins at its first record, all of it is folded up to there by the machine that its
 *      owner folds it with, over a store in memory: what is shown is what the owner had
 *   2. otherwise the beginning is gone. Rows are replaced as a whole by each record of theirs, so the
 *      newest records of the key up to there are shown; what cannot be known then is said: whether a
 *      record was refused when it was applied, and what happened to the row before the log begins
 */
#include "nodes/cli/log_command.h"
#include "nodes/cli/log_index.h"
#include "nodes/options.h"
#include "schemas/check.h"
#include "schemas/status.h"
#include "statemachine/edge.h"
#include "statemachine/machine.h"
#include "statemachine/object.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum shown_part { SHOWN_WISH, SHOWN_FACT, SHOWN_VERDICT, SHOWN_ENDED, SHOWN_ATTEMPT, SHOWN_PARTS };
static const char *const shown_names[SHOWN_PARTS] = {"wish", "fact", "verdict", "ended", "attempt"};

/* One part of the row: Record bytes, ours; empty: there is none. */
struct shown {
    struct bytes record;
    uint64_t version; /* of the cloud's state; 0: not known */
    uint64_t offset;  /* of the record; 0: not known */
};

struct replay {
    struct ask *ask;
    struct view view;
    char key[LIMIT_KEY_BYTES + 2];
    uint64_t until;   /* the last offset that is folded */
    int64_t until_ms; /* or up to this time; INT64_MAX: no bound */
    uint64_t reached; /* the last offset that was */
    bool edge;
    bool whole; /* folded from the first record */
    struct shown parts[SHOWN_PARTS];
    int64_t last_ms;

    struct store_sim *disk;
    struct store *store;
    struct machine machine;
    struct edge_machine *edge_machine;
    int status;            /* what ended the fold */
    uint16_t unknown_kind; /* when it is STATUS_UNSUPPORTED */
};

static void shown_set(struct shown *shown, struct bytes record, uint64_t version, uint64_t offset)
{
    free((void *)(uintptr_t)shown->record.data);
    *shown = (struct shown){.version = version, .offset = offset};
    if (record.size > 0) {
        uint8_t *copy = malloc(record.size);
        CHECK(copy != NULL);
        memcpy(copy, record.data, record.size);
        shown->record = bytes_of(copy, record.size);
    }
}

/* -- all of it ----------------------------------------------------------------------------------- */

static int time_on_item(void *context, const struct item *item)
{
    *(int64_t *)context = item->timed ? item->time_ms : 0;
    return 1;
}

/* Whether a frame lies behind the time that is asked for. */
static bool frame_is_later(struct replay *replay, const struct log_frame *frame)
{
    int64_t last_ms = 0;
    int64_t time_ms = 0;
    if (replay->until_ms == INT64_MAX) {
        return false;
    }
    (void)items_walk(replay->view.codec, frame, &last_ms, time_on_item, &time_ms);
    return time_ms > replay->until_ms;
}

static int fold_on_frame(void *context, const struct log_frame *frame)
{
    struct replay *replay = context;
    if (frame_is_later(replay, frame)) {
        return 1;
    }
    if (replay->edge) {
        struct edge_applied applied;
        replay->status =
            edge_machine_apply(replay->edge_machine, frame->index, frame->payload, &applied);
    } else if (frame->type == LOG_TYPE_COMMAND) {
        const struct machine_applied *applied;
        replay->status = machine_apply(&replay->machine, frame->index, frame->payload, &applied);
        if (replay->status == STATUS_UNSUPPORTED) {
            replay->unknown_kind = applied->unknown_kind;
        }
    }
    if (replay->status == 0) {
        replay->reached = frame->index;
    }
    return replay->status != 0;
}

static void whole_take_cloud(struct replay *replay)
{
    struct object_row row;
    static const enum part parts[] = {PART_WISH, PART_FACT, PART_VERDICT};
    replay->status = object_get(store_live(replay->store), bytes_text(replay->key), &row);
    if (replay->status == OBJECT_NONE) {
        replay->status = 0;
        return;
    }
    for (size_t i = 0; replay->status == 0 && i < 3; i++) {
        const struct object_part *part = &row.parts[parts[i]];
        shown_set(&replay->parts[i], part->record, part->version, 0);
    }
}

static struct bytes record_around(struct codec *codec, uint16_t kind, const char *key,
                                  struct bytes body)
{
    struct bytes record;
    const struct record around = {.kind = kind, .key = key, .body = body};
    CHECK(codec_record_build(codec, &around, &record) == 0);
    return record;
}

static void whole_take_edge(struct replay *replay)
{
    struct codec *codec = codec_create();
    struct store_reader *reader = store_live(replay->store);
    const struct edge_meta *meta = edge_machine_meta(replay->edge_machine);
    struct object_put put;
    struct bytes value;
    const struct bytes key = bytes_text(replay->key);
    if (store_get(reader, meta->wish_table, key, &value) == STATUS_OK) {
        shown_set(&replay->parts[SHOWN_WISH],
                  record_around(codec, RECORD_OBJECT_PUT, replay->key, value), 0, 0);
    }
    if (store_get(reader, EDGE_TABLE_STATUS, key, &value) == STATUS_OK) {
        shown_set(&replay->parts[SHOWN_FACT], value, 0, 0);
    }
    if (edge_object_find(replay->edge_machine, replay->key, codec, &put) == STATUS_OK) {
        const struct pod_attempt *attempts;
        uint32_t count = 0;
        if (store_get(reader, EDGE_TABLE_ENDED, bytes_text(put.object.uid), &value) == STATUS_OK) {
            shown_set(&replay->parts[SHOWN_ENDED], value, 0, 0);
        }
        if (edge_attempts_list(replay->edge_machine, put.object.uid, codec, &attempts, &count) ==
                STATUS_OK &&
            count > 0) { /* by container name: the last is one of a container, when there is one */
            struct bytes body;
            CHECK(codec_pod_attempt_build(codec, &attempts[count - 1], &body) == 0);
            shown_set(&replay->parts[SHOWN_ATTEMPT],
                      record_around(codec, RECORD_POD_ATTEMPT, replay->key, body), 0, 0);
        }
    }
    codec_destroy(codec);
}

static int replay_whole(struct replay *replay)
{
    replay->disk = store_sim_create();
    replay->status = store_sim_open(replay->disk, replay->edge ? "edge" : MACHINE_NAME,
                                    replay->edge ? EDGE_FORMAT : MACHINE_FORMAT, &replay->store);
    CHECK(replay->status == 0);
    replay->status = replay->edge ? edge_machine_open(replay->store, NULL, &replay->edge_machine)
                                  : machine_open(&replay->machine, replay->store);
    CHECK(replay->status == 0);
    int code = view_frames(&replay->view, 1, replay->until, fold_on_frame, replay);
    if (replay->status == STATUS_UNSUPPORTED) {
        fprintf(stderr,
                "%s: a record behind offset %" PRIu64
                " is of kind %u, of a newer release: what is shown is "
                "the row before it\n",
                replay->ask->command, replay->reached, replay->unknown_kind);
        code = OPTIONS_EXIT_NOTHING;
    } else if (replay->status != 0) {
        fprintf(stderr, "%s: the log cannot be folded: %s\n", replay->ask->command,
                status_text(replay->status));
        code = OPTIONS_EXIT_NOTHING;
    }
    if (replay->edge) {
        whole_take_edge(replay);
        edge_machine_close(replay->edge_machine);
    } else {
        whole_take_cloud(replay);
        machine_close(&replay->machine);
    }
    store_close(replay->store);
    store_sim_destroy(replay->disk);
    return code;
}

/* -- what is left of it --------------------------------------------------------------------------- */

static int part_on_item(void *context, const struct item *item)
{
    struct replay *replay = context;
    enum shown_part part;
    if (!item->decoded || strcmp(item->key, replay->key) != 0 ||
        (replay->until_ms != INT64_MAX && item->timed && item->time_ms > replay->until_ms)) {
        return 0;
    }
    switch (item->record.kind) {
    case RECORD_OBJECT_PUT:
        part = SHOWN_WISH;
        break;
    case RECORD_OBJECT_REMOVE: /* the object goes, with all that was known of it */
        for (part = SHOWN_WISH; part < SHOWN_PARTS; part++) {
            shown_set(&replay->parts[part], (struct bytes){0}, 0, 0);
        }
        return 0;
    case RECORD_POD_STATUS:
    case RECORD_NODE_STATUS:
        part = SHOWN_FACT;
        break;
    case RECORD_VERDICT:
        part = SHOWN_VERDICT;
        break;
    case RECORD_POD_ENDED:
        part = SHOWN_ENDED;
        break;
    case RECORD_POD_ATTEMPT:
        part = SHOWN_ATTEMPT;
        break;
    default:
        return 0;
    }
    shown_set(&replay->parts[part], item->bytes, 0, item->offset);
    return 0;
}

static int part_on_frame(void *context, const struct log_frame *frame)
{
    struct replay *replay = context;
    if (frame->index > replay->until) {
        return 1;
    }
    (void)items_walk(replay->view.codec, frame, &replay->last_ms, part_on_item, replay);
    return 0;
}

static int replay_part(struct replay *replay)
{
    struct keys keys;
    int code = keys_open(&keys, &replay->view);
    if (code == OPTIONS_EXIT_OK) {
        code = keys_find(&keys, replay->key, KEYS_OLDEST_FIRST, part_on_frame, replay);
    }
    keys_close(&keys);
    replay->reached = replay->until < replay->view.inspect.index_next
                          ? replay->until
                          : replay->view.inspect.index_next - 1;
    fprintf(stderr,
            "%s: offsets 1 to %" PRIu64
            " are not kept any more, so the log cannot be folded; shown are the newest "
            "records of the key since\n  (whether one was refused when it was applied cannot be "
            "told, nor what "
            "was there before)\n",
            replay->ask->command, replay->view.inspect.index_first - 1);
    return code;
}

/* -- output -------------------------------------------------------------------------------------- */

struct showing {
    struct replay *replay;
    struct out body;
    bool masked;
};

static int body_on_item(void *context, const struct item *item)
{
    struct showing *showing = context;
    item_body(showing->replay->view.codec, item, showing->replay->ask->unmask, &showing->body);
    showing->masked = item->secret && !showing->replay->ask->unmask;
    return 1;
}

/* The body of a part into showing->body. */
static void show_body(struct showing *showing, const struct shown *shown)
{
    const struct log_frame frame = {.type = LOG_TYPE_UP, .payload = shown->record};
    int64_t last_ms = 0;
    out_clear(&showing->body);
    (void)items_walk(showing->replay->view.codec, &frame, &last_ms, body_on_item, showing);
}

static void show_json(struct showing *showing, bool some)
{
    const struct replay *replay = showing->replay;
    struct out *out = replay->ask->out;
    out_text(out, "{\"key\":");
    out_json_text(out, replay->key);
    out_text(out, ",\"offset\":");
    if (some) {
        out_u64(out, replay->reached);
    } else {
        out_text(out, "null"); /* nothing was there: no offset is that of a row */
    }
    out_print(out, ",\"folded\":%s", replay->whole ? "true" : "false");
    for (enum shown_part i = SHOWN_WISH; i < SHOWN_PARTS; i++) {
        const struct shown *shown = &replay->parts[i];
        out_print(out, ",\"%s\":", shown_names[i]);
        if (shown->record.size == 0) {
            out_text(out, "null");
            continue;
        }
        show_body(showing, shown);
        out_print(out, "{\"version\":%" PRIu64 ",\"offset\":%" PRIu64 ",\"masked\":%s,\"body\":",
                  shown->version, shown->offset, showing->masked ? "true" : "false");
        out_put(out, showing->body.data, showing->body.size);
        out_character(out, '}');
    }
    out_text(out, "}\n");
}

static void show_text(struct showing *showing)
{
    const struct replay *replay = showing->replay;
    struct out *out = replay->ask->out;
    out_plain(out, replay->key, 0);
    out_print(out, " at offset %" PRIu64 ", %s\n", replay->reached,
              replay->whole ? "folded from the first record"
                            : "not folded: the newest records of it");
    for (enum shown_part i = SHOWN_WISH; i < SHOWN_PARTS; i++) {
        const struct shown *shown = &replay->parts[i];
        if (shown->record.size == 0) {
            continue;
        }
        show_body(showing, shown);
        out_colour(out, COLOUR_HEAD);
        out_text(out, shown_names[i]);
        out_colour(out, COLOUR_NONE);
        if (shown->version > 0) {
            out_print(out, " version %" PRIu64, shown->version);
        }
        if (shown->offset > 0) {
            out_print(out, " of offset %" PRIu64, shown->offset);
        }
        out_text(out, showing->masked ? " (masked; root sees it with --show-secrets)\n  " : "\n  ");
        out_json_pretty(out, out_bytes(&showing->body), 2);
        out_character(out, '\n');
    }
}

static int replay_show(struct replay *replay)
{
    struct showing showing = {.replay = replay};
    bool some = false;
    out_init(&showing.body, -1);
    showing.body.local = replay->ask->out->local;
    for (enum shown_part i = SHOWN_WISH; i < SHOWN_PARTS; i++) {
        some = some || replay->parts[i].record.size > 0;
    }
    if (replay->ask->form == FORM_JSON || replay->ask->form == FORM_JSONL) {
        show_json(&showing, some);
    } else if (some) {
        show_text(&showing);
    }
    if (!some) {
        out_clear(&showing.body);
        out_plain(&showing.body, replay->key, 0);
        fprintf(stderr, "%s: there is no row %.*s at offset %" PRIu64 "\n", replay->ask->command,
                (int)showing.body.size, (const char *)showing.body.data, replay->reached);
        key_hint(replay->key);
    }
    out_deinit(&showing.body);
    return some ? OPTIONS_EXIT_OK : OPTIONS_EXIT_NOTHING;
}

/* -- the command --------------------------------------------------------------------------------- */

static int replay_run(struct replay *replay, const struct place *until)
{
    const struct inspect *inspect = &replay->view.inspect;
    struct log_frame frame;
    replay->until = UINT64_MAX;
    replay->until_ms = INT64_MAX;
    switch (until->kind) {
    case PLACE_OFFSET:
        replay->until = until->number;
        break;
    case PLACE_FROM_END:
        replay->until =
            until->number < inspect->index_next ? inspect->index_next - until->number : 0;
        break;
    case PLACE_TIME:
        replay->until_ms = until->time_ms;
        break;
    }
    if (inspect->frames == 0) {
        fprintf(stderr, "%s: the log in %s is empty\n", replay->ask->command, replay->view.log);
        return OPTIONS_EXIT_NOTHING;
    }
    int code = view_frame(&replay->view, inspect->index_first, &frame);
    if (code != OPTIONS_EXIT_OK) {
        return code;
    }
    replay->edge = frame.type >= LOG_TYPE_DOWN;
    replay->whole = inspect->index_first == 1;
    code = replay->whole ? replay_whole(replay) : replay_part(replay);
    const int shown = replay_show(replay);
    return code != OPTIONS_EXIT_OK ? code : shown;
}

int log_replay(struct ask *ask)
{
    struct replay replay = {.ask = ask};
    struct place until = {.kind = PLACE_OFFSET, .number = UINT64_MAX};
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (!key_complete(ask->show, replay.key)) {
        fprintf(stderr, "%s: a key has 1 .. %u bytes\n", ask->command, LIMIT_KEY_BYTES);
        return OPTIONS_EXIT_USAGE;
    }
    if (ask->until != NULL &&
        !place_parse(ask->until, ask->out->local, (int64_t)now.tv_sec * 1000, &until)) {
        fprintf(stderr,
                "%s: --to %s is no place in a log: an offset, end, -N, a time, 18:05, now, or "
                "-10m\n",
                ask->command, ask->until);
        return OPTIONS_EXIT_USAGE;
    }
    int code = view_open(&replay.view, ask->command, ask->words.items[0], INSPECT_QUICK, ask->out);
    if (code == OPTIONS_EXIT_OK) {
        code = view_ending(&replay.view, replay_run(&replay, &until));
    }
    for (enum shown_part i = SHOWN_WISH; i < SHOWN_PARTS; i++) {
        free((void *)(uintptr_t)replay.parts[i].record.data);
    }
    view_close(&replay.view);
    return code;
}
