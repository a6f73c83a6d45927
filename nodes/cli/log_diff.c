/* diff: what went over the link, as both ends recorded it.
 *
 *   1. the edge's log: what came down (with its stream and sequence), what was reported here
 *   2. the cloud's log: what was wished for this node or under those keys, what came up from it
 *   3. records are compared by their bytes, which are shipped as they were made
 *
 * A wish that is not at the edge is *compacted* when a newer one of the same object is (only the newest
 * unread one is delivered), and *missing* otherwise: it was not shipped yet, or got lost. The same upwards
 * for reports. A record that the other end must have made and has not is *different*. Where the other log
 * begins later than its first record, what is not found may have been dropped there: *unknown*.
 */
#include "nodes/cli/log_command.h"
#include "nodes/options.h"
#include "schemas/check.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum verdict_word { SAME, COMPACTED, MISSING, DIFFERENT, UNKNOWN, WORDS };
static const char *const words[WORDS] = {"same", "compacted", "missing", "different", "unknown"};

struct entry {
    uint64_t
        hash; /* of the record's bytes; of a remove: of its key, since each end makes its own */
    uint64_t offset;
    uint64_t sequence;
    uint64_t stream;
    uint16_t kind;
    uint8_t word;
    char *key;
};

struct entries {
    struct entry *list;
    size_t count;
    size_t capacity;
    uint64_t *hashes; /* ascending */
};

struct side {
    struct view view;
    struct entries down;
    struct entries up;
    int64_t last_ms;
};

/* What a pod of the node refers to and what never came down. */
struct wanted {
    char *key;
    char *pod;
};

struct diff {
    struct ask *ask;
    struct side cloud, edge;
    char node[LIMIT_NAME_BYTES + 1];
    char **keys; /* of what came down, ascending, each once */
    size_t key_count;
    struct wanted *wanted; /* by the newest put of each pod; an ended pod wants nothing */
    size_t wanted_count;
    size_t wanted_capacity;
    size_t late_first; /* in cloud.down: from here on, what was put before somebody wanted it */
    uint64_t counts[2][WORDS]; /* down, up */
};

/* -- reading ------------------------------------------------------------------------------------- */

static uint64_t hash_of(struct bytes bytes)
{
    uint64_t hash = bytes.size;
    for (size_t i = 0; i < bytes.size; i += 8) {
        uint64_t word = 0;
        memcpy(&word, bytes.data + i, bytes.size - i < 8 ? bytes.size - i : 8);
        hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        hash ^= hash >> 29;
    }
    return hash;
}

static void entries_add(struct entries *entries, const struct item *item)
{
    if (entries->count == entries->capacity) {
        entries->capacity = entries->capacity == 0 ? 256 : 2 * entries->capacity;
        entries->list = realloc(entries->list, entries->capacity * sizeof *entries->list);
        CHECK(entries->list != NULL);
    }
    const bool removes = item->record.kind == RECORD_OBJECT_REMOVE;
    struct entry *entry = &entries->list[entries->count];
    *entry = (struct entry){
        .hash = hash_of(removes ? bytes_text(item->key) : item->bytes),
        .offset = item->offset,
        .sequence = item->inside != NULL ? item->sequence : 0,
        .stream = item->inside != NULL ? item->inside->stream : 0,
        .kind = item->record.kind,
        .key = strdup(item->key),
    };
    CHECK(entry->key != NULL);
    entries->count++;
}

static void entries_deinit(struct entries *entries)
{
    for (size_t i = 0; i < entries->count; i++) {
        free(entries->list[i].key);
    }
    free(entries->list);
    free(entries->hashes);
}

static bool kind_is_fact(uint16_t kind)
{
    return kind == RECORD_POD_STATUS || kind == RECORD_POD_ENDED || kind == RECORD_NODE_STATUS ||
           kind == RECORD_EDGE_EVENT;
}

static bool kind_is_wish(uint16_t kind)
{
    return kind == RECORD_OBJECT_PUT || kind == RECORD_OBJECT_REMOVE;
}

static int edge_on_item(void *context, const struct item *item)
{
    struct diff *diff = context;
    if (!item->decoded) {
        return 0;
    }
    if (item->record.kind == RECORD_STREAM_INIT && item->outer == NULL) {
        snprintf(diff->node, sizeof diff->node, "%s", item->node);
    }
    if (item->outer != NULL && kind_is_wish(item->record.kind)) {
        entries_add(&diff->edge.down, item);
    } else if (item->outer == NULL && kind_is_fact(item->record.kind)) {
        entries_add(&diff->edge.up, item);
    }
    return 0;
}

static int edge_on_frame(void *context, const struct log_frame *frame)
{
    struct diff *diff = context;
    return items_walk(diff->edge.view.codec, frame, &diff->edge.last_ms, edge_on_item, diff);
}

static int key_compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool key_came_down(const struct diff *diff, const char *key)
{
    return diff->key_count > 0 &&
           bsearch(&key, diff->keys, diff->key_count, sizeof *diff->keys, key_compare) != NULL;
}

/* A pod ended, or is put anew. */
static void wanted_forget(struct diff *diff, const char *pod)
{
    size_t kept = 0;
    for (size_t i = 0; i < diff->wanted_count; i++) {
        if (strcmp(diff->wanted[i].pod, pod) != 0) {
            diff->wanted[kept] = diff->wanted[i];
            kept++;
        } else {
            free(diff->wanted[i].key);
            free(diff->wanted[i].pod);
        }
    }
    diff->wanted_count = kept;
}

static void wanted_add(struct diff *diff, const char *pod, const struct object *object)
{
    for (uint32_t i = 0; i < object->reference_count; i++) {
        char key[LIMIT_KEY_BYTES + 1];
        const int size = snprintf(key, sizeof key, "/%s/%s/%s", object->references[i].resource,
                                  object->namespace_, object->references[i].name);
        if (size >= (int)sizeof key || key_came_down(diff, key)) {
            continue; /* what came down is compared in any case */
        }
        if (diff->wanted_count == diff->wanted_capacity) {
            diff->wanted_capacity = diff->wanted_capacity == 0 ? 64 : 2 * diff->wanted_capacity;
            diff->wanted = realloc(diff->wanted, diff->wanted_capacity * sizeof *diff->wanted);
            CHECK(diff->wanted != NULL);
        }
        struct wanted *wanted = &diff->wanted[diff->wanted_count];
        *wanted = (struct wanted){.key = strdup(key), .pod = strdup(pod)};
        CHECK(wanted->key != NULL);
        CHECK(wanted->pod != NULL);
        diff->wanted_count++;
    }
}

/* The newest put of what is wanted and never came down, wherever it lies: often before the pod. */
static int late_on_item(void *context, const struct item *item)
{
    struct diff *diff = context;
    struct entries *down = &diff->cloud.down;
    bool wanted = false;
    if (!item->decoded || item->outer != NULL || !kind_is_wish(item->record.kind)) {
        return 0;
    }
    for (size_t i = 0; i < diff->wanted_count && !wanted; i++) {
        wanted = strcmp(diff->wanted[i].key, item->key) == 0;
    }
    if (!wanted) {
        return 0;
    }
    for (size_t i = diff->late_first; i < down->count; i++) {
        if (strcmp(down->list[i].key, item->key) == 0) {
            free(down->list[i].key);
            down->count--;
            down->list[i] = down->list[down->count];
            break;
        }
    }
    if (item->record.kind == RECORD_OBJECT_PUT) {
        entries_add(down, item);
    }
    return 0;
}

static int late_on_frame(void *context, const struct log_frame *frame)
{
    struct diff *diff = context;
    return items_glance(diff->cloud.view.codec, frame, &diff->cloud.last_ms, late_on_item, diff);
}

static int cloud_on_item(void *context, const struct item *item)
{
    struct diff *diff = context;
    if (!item->decoded) {
        return 0;
    }
    if (item->outer == NULL && kind_is_wish(item->record.kind)) {
        const bool bound = item->put != NULL &&
                           strcmp(item->put->object.node_name, diff->node) == 0 &&
                           strncmp(item->key, "/pods/", 6) == 0;
        if (strncmp(item->key, "/pods/", 6) == 0) {
            wanted_forget(diff, item->key);
        }
        if (bound) {
            wanted_add(diff, item->key, &item->put->object);
        }
        if (bound || key_came_down(diff, item->key)) {
            entries_add(&diff->cloud.down, item);
        }
    } else if (item->outer != NULL && kind_is_fact(item->record.kind) &&
               strcmp(item->node, diff->node) == 0) {
        entries_add(&diff->cloud.up, item);
    }
    return 0;
}

static int cloud_on_frame(void *context, const struct log_frame *frame)
{
    struct diff *diff = context;
    return items_walk(diff->cloud.view.codec, frame, &diff->cloud.last_ms, cloud_on_item, diff);
}

/* -- comparing ----------------------------------------------------------------------------------- */

static int number_compare(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a;
    const uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void entries_index(struct entries *entries)
{
    entries->hashes = malloc((entries->count + 1) * sizeof *entries->hashes);
    CHECK(entries->hashes != NULL);
    for (size_t i = 0; i < entries->count; i++) {
        entries->hashes[i] = entries->list[i].hash;
    }
    if (entries->count > 0) {
        qsort(entries->hashes, entries->count, sizeof *entries->hashes, number_compare);
    }
}

static bool entries_has(const struct entries *entries, uint64_t hash)
{
    return entries->count > 0 && bsearch(&hash, entries->hashes, entries->count,
                                         sizeof *entries->hashes, number_compare) != NULL;
}

static int entry_compare(const void *a, const void *b)
{
    const struct entry *x = a;
    const struct entry *y = b;
    const int order = strcmp(x->key, y->key);
    return order != 0 ? order : (x->offset > y->offset) - (x->offset < y->offset);
}

/* What was sent: each is there, or a newer one of its key is, or it is missing. By key, newest first. */
static void compare_sent(struct entries *sent, const struct entries *received,
                         uint64_t counts[WORDS])
{
    bool newer = false; /* one of this key, newer than the present, is there */
    if (sent->count > 0) {
        qsort(sent->list, sent->count, sizeof *sent->list, entry_compare);
    }
    for (size_t i = sent->count; i > 0; i--) {
        struct entry *entry = &sent->list[i - 1];
        if (i == sent->count || strcmp(entry->key, sent->list[i].key) != 0) {
            newer = false;
        }
        if (entries_has(received, entry->hash)) {
            entry->word = SAME;
            newer = true;
        } else {
            entry->word = newer && !record_kind_is_event(entry->kind) ? COMPACTED : MISSING;
        }
        /* What was removed before it was shipped needs no delivery. */
        newer = newer || entry->kind == RECORD_OBJECT_REMOVE;
        if (entry->kind == RECORD_OBJECT_REMOVE && entry->word == MISSING) {
            bool shipped = false; /* anything it would take back? */
            for (size_t j = i - 1; j > 0 && strcmp(sent->list[j - 1].key, entry->key) == 0; j--) {
                shipped = shipped || entries_has(received, sent->list[j - 1].hash);
            }
            entry->word = shipped ? MISSING : COMPACTED;
        }
        counts[entry->word]++;
    }
}

/* What was received and never sent. What was is counted already. */
static void compare_received(struct entries *received, const struct entries *sent, bool sent_whole,
                             uint64_t counts[WORDS])
{
    for (size_t i = 0; i < received->count; i++) {
        struct entry *entry = &received->list[i];
        entry->word = SAME;
        if (!entries_has(sent, entry->hash) && entry->kind != RECORD_OBJECT_REMOVE) {
            entry->word = sent_whole ? DIFFERENT : UNKNOWN;
            counts[entry->word]++;
        }
    }
}

/* -- output -------------------------------------------------------------------------------------- */

struct telling {
    struct diff *diff;
    bool down;
    bool at_cloud; /* whose log the entries are of */
    int width;     /* of offsets */
    uint64_t lines;
};

static void tell_json(struct out *out, const struct telling *telling, const struct entry *entry)
{
    char memory[16];
    out_text(out, telling->lines == 0 ? "" : ",");
    out_print(out,
              "\n {\"direction\":\"%s\",\"answer\":\"%s\",\"at\":\"%s\",\"offset\":%" PRIu64
              ",\"stream\":\"%016" PRIx64 "\",\"sequence\":%" PRIu64 ",\"kind\":\"%s\",\"key\":",
              telling->down ? "down" : "up", words[entry->word],
              telling->at_cloud ? "cloud" : "edge", entry->offset, entry->stream, entry->sequence,
              record_kind_text(entry->kind, memory));
    out_json_text(out, entry->key);
    out_character(out, '}');
}

static void tell_line(struct out *out, const struct telling *telling, const struct entry *entry)
{
    char memory[16];
    if (telling->lines == 0) {
        out_colour(out, COLOUR_HEAD);
        out_print(out, "%-4s %-10s %-5s %*s %16s %8s %-14s %s", "WAY", "ANSWER", "AT",
                  telling->width, "OFFSET", "STREAM", "SEQUENCE", "KIND", "KEY");
        out_colour(out, COLOUR_NONE);
        out_character(out, '\n');
    }
    out_print(out, "%-4s ", telling->down ? "down" : "up");
    out_colour(out, COLOUR_BAD);
    out_print(out, "%-10s", words[entry->word]);
    out_colour(out, COLOUR_NONE);
    out_print(out, " %-5s %*" PRIu64 " ", telling->at_cloud ? "cloud" : "edge", telling->width,
              entry->offset);
    if (entry->stream == 0) {
        out_print(out, "%16s %8s", "-", "-");
    } else {
        out_print(out, "%016" PRIx64 " %8" PRIu64, entry->stream, entry->sequence);
    }
    out_print(out, " %-14s ", record_kind_text(entry->kind, memory));
    out_plain(out, entry->key, 0);
    out_character(out, '\n');
}

static void tell_entries(struct telling *telling, const struct entries *entries)
{
    struct ask *ask = telling->diff->ask;
    for (size_t i = 0; i < entries->count; i++) {
        const struct entry *entry = &entries->list[i];
        if (entry->word != MISSING && entry->word != DIFFERENT) {
            continue;
        }
        if (ask->form == FORM_TABLE) {
            tell_line(ask->out, telling, entry);
        } else {
            tell_json(ask->out, telling, entry);
        }
        telling->lines++;
    }
}

static void tell_counts(struct diff *diff, bool down)
{
    struct out *out = diff->ask->out;
    const uint64_t *counts = diff->counts[down ? 0 : 1];
    const bool json = diff->ask->form != FORM_TABLE;
    out_print(out, json ? ",\"%s\":{" : "%-5s", down ? "down" : "up");
    for (size_t i = 0; i < WORDS; i++) {
        out_print(out, json ? "%s\"%s\":%" PRIu64 : "%s%s %" PRIu64,
                  i == 0 ? ""
                  : json ? ","
                         : ", ",
                  words[i], counts[i]);
    }
    out_text(out, json ? "}" : "\n");
}

static int diff_tell(struct diff *diff)
{
    struct out *out = diff->ask->out;
    const bool json = diff->ask->form != FORM_TABLE;
    const int cloud = view_offset_width(&diff->cloud.view);
    const int edge = view_offset_width(&diff->edge.view);
    struct telling telling = {
        .diff = diff, .down = true, .at_cloud = true, .width = cloud > edge ? cloud : edge};
    if (json) {
        out_text(out, "{\"node\":");
        out_json_text(out, diff->node);
        out_text(out, ",\"records\":[");
    }
    tell_entries(&telling, &diff->cloud.down);
    telling.at_cloud = false;
    tell_entries(&telling, &diff->edge.down);
    telling.down = false;
    tell_entries(&telling, &diff->edge.up);
    telling.at_cloud = true;
    tell_entries(&telling, &diff->cloud.up);
    if (json) {
        out_text(out, "]");
    } else if (telling.lines > 0) {
        out_character(out, '\n');
    }
    tell_counts(diff, true);
    tell_counts(diff, false);
    out_text(out, json ? "}\n" : "");
    return telling.lines > 0 ? OPTIONS_EXIT_NOTHING : OPTIONS_EXIT_OK;
}

/* -- the command --------------------------------------------------------------------------------- */

static void diff_keys(struct diff *diff)
{
    const struct entries *down = &diff->edge.down;
    diff->keys = malloc((down->count + 1) * sizeof *diff->keys);
    CHECK(diff->keys != NULL);
    for (size_t i = 0; i < down->count; i++) {
        diff->keys[i] = down->list[i].key; /* borrowed: they live as long */
    }
    diff->key_count = down->count;
    if (down->count > 0) {
        qsort(diff->keys, down->count, sizeof *diff->keys, key_compare);
    }
}

static int diff_run(struct diff *diff)
{
    struct log_frame frame;
    struct view *cloud = &diff->cloud.view;
    struct view *edge = &diff->edge.view;
    struct view *views[2] = {cloud, edge};
    for (size_t i = 0; i < 2; i++) {
        const int code = view_frame(views[i], views[i]->inspect.index_first, &frame);
        const bool is_edge = code == OPTIONS_EXIT_OK && frame.type >= LOG_TYPE_DOWN;
        if (code != OPTIONS_EXIT_OK && code != OPTIONS_EXIT_NOTHING) {
            return code;
        }
        if (code == OPTIONS_EXIT_NOTHING || is_edge != (i == 1)) {
            fprintf(stderr,
                    "%s: %s holds %s; the cloudcore's directory comes first, then the edgecore's\n",
                    diff->ask->command, views[i]->log,
                    code == OPTIONS_EXIT_NOTHING ? "no records"
                    : is_edge                    ? "the log of an edgecore"
                                                 : "the log of a cloudcore");
            return OPTIONS_EXIT_USAGE;
        }
    }
    int code = view_frames(edge, 0, UINT64_MAX, edge_on_frame, diff);
    if (diff->node[0] ==
        '\0') { /* its first record was dropped: what it reports of itself names it */
        for (size_t i = 0; i < diff->edge.up.count; i++) {
            const char *key = diff->edge.up.list[i].key;
            if (strncmp(key, "/nodes//", 8) == 0) {
                snprintf(diff->node, sizeof diff->node, "%s", key + 8);
            }
        }
    }
    if (code == OPTIONS_EXIT_OK && diff->node[0] == '\0') {
        fprintf(stderr, "%s: nothing in %s tells which node it is of\n", diff->ask->command,
                edge->log);
        return OPTIONS_EXIT_NOTHING;
    }
    diff_keys(diff);
    if (code == OPTIONS_EXIT_OK) {
        code = view_frames(cloud, 0, UINT64_MAX, cloud_on_frame, diff);
    }
    if (code == OPTIONS_EXIT_OK && diff->wanted_count > 0) {
        diff->late_first = diff->cloud.down.count;
        code = view_frames(cloud, 0, UINT64_MAX, late_on_frame, diff);
    }
    if (code != OPTIONS_EXIT_OK) {
        return code;
    }
    struct entries *all[4] = {&diff->cloud.down, &diff->cloud.up, &diff->edge.down, &diff->edge.up};
    for (size_t i = 0; i < 4; i++) {
        entries_index(all[i]);
    }
    compare_sent(&diff->cloud.down, &diff->edge.down, diff->counts[0]);
    compare_received(&diff->edge.down, &diff->cloud.down, cloud->inspect.index_first == 1,
                     diff->counts[0]);
    compare_sent(&diff->edge.up, &diff->cloud.up, diff->counts[1]);
    compare_received(&diff->cloud.up, &diff->edge.up, edge->inspect.index_first == 1,
                     diff->counts[1]);
    return diff_tell(diff);
}

int log_diff(struct ask *ask)
{
    struct diff diff = {.ask = ask};
    int code =
        view_open(&diff.cloud.view, ask->command, ask->words.items[0], INSPECT_QUICK, ask->out);
    const int other =
        view_open(&diff.edge.view, ask->command, ask->words.items[1], INSPECT_QUICK, ask->out);
    code = code != OPTIONS_EXIT_OK ? code : other;
    if (code == OPTIONS_EXIT_OK) {
        code = view_ending(&diff.cloud.view, diff_run(&diff));
    }
    entries_deinit(&diff.cloud.down);
    entries_deinit(&diff.cloud.up);
    entries_deinit(&diff.edge.down);
    entries_deinit(&diff.edge.up);
    free(diff.keys);
    for (size_t i = 0; i < diff.wanted_count; i++) {
        free(diff.wanted[i].key);
        free(diff.wanted[i].pod);
    }
    free(diff.wanted);
    view_close(&diff.cloud.view);
    view_close(&diff.edge.view);
    return code;
}
