#include "tests/nodes/backend_fake.h"

#include "nodes/cloud/api.h"
#include "schemas/check.h"
#include "statemachine/machine.h"
#include "statemachine/object.h"

#include <stdio.h>
#include <stdlib.h>

#define ASKED_MAX 4096u

struct asked {
    struct bytes record; /* owned; empty: fresh */
    backend_on_fresh on_fresh;
    backend_on_written on_written;
    void *context;
};

struct backend_fake {
    struct backend backend;
    struct store_sim *sim;
    struct store *store;
    struct machine machine;
    uint64_t index;
    uint64_t sequence;
    int64_t now_ms;
    bool leader;
    uint32_t level; /* 0: that of the state */
    const struct backend_listener *listener;
    uint64_t listened; /* changes up to this version were told */
    uint64_t chance;
    struct asked asked[ASKED_MAX];
    uint32_t asked_first;
    uint32_t asked_count;
    uint64_t up_position[8]; /* of nodes that reported, by their order in `nodes` */
    uint64_t epochs[8];
    char nodes[8][64];
    uint32_t node_count;
    char user[LIMIT_IDENTITY_NAME_BYTES + 1];
    void (*before_write)(void *context);
    void *before_context;
};

struct backend_view {
    struct store_reader *reader;
    struct object_cursor cursor;
    bool cursor_open;
};

static void row_of(const struct object_row *row, struct backend_row *out)
{
    *out = (struct backend_row){
        .key = row->key,
        .version = row->version,
        .created_version = row->created_version,
        .wish_version = row->parts[PART_WISH].version,
        .ended = row->ended,
        .wish = row->parts[PART_WISH].body,
        .fact = row->parts[PART_FACT].body,
        .verdict = row->parts[PART_VERDICT].body,
    };
}

static uint64_t fake_version(void *owner)
{
    return ((struct backend_fake *)owner)->machine.meta.version;
}

static int fake_view_open(void *owner, struct backend_view **out_view, uint64_t *out_version)
{
    struct backend_fake *fake = owner;
    struct backend_view *view = calloc(1, sizeof *view);
    CHECK(view != NULL);
    view->reader = store_view(fake->store);
    *out_version = fake->machine.meta.version;
    *out_view = view;
    return 0;
}

static void cursor_close(struct backend_view *view)
{
    if (view->cursor_open) {
        object_cursor_close(&view->cursor);
        view->cursor_open = false;
    }
}

static void fake_view_close(void *owner, struct backend_view *view)
{
    (void)owner;
    cursor_close(view);
    store_snapshot_release(view->reader);
    free(view);
}

static int fake_view_get(void *owner, struct backend_view *view, struct bytes key,
                         struct backend_row *out)
{
    (void)owner;
    struct object_row row;
    cursor_close(view);
    store_reader_reset(view->reader); /* what was lent before is void now: tests must notice */
    const int status = object_get(view->reader, key, &row);
    if (status == STATUS_OK) {
        row_of(&row, out);
    }
    return status == OBJECT_NONE ? BACKEND_NONE : status;
}

static int fake_view_next(void *owner, struct backend_view *view, struct bytes prefix,
                          struct bytes after, struct backend_row *out)
{
    (void)owner;
    uint8_t copy[LIMIT_KEY_BYTES];
    memcpy(copy, after.size == 0 ? copy : after.data, after.size);
    cursor_close(view);
    object_cursor_open(&view->cursor, view->reader, prefix, bytes_of(copy, after.size));
    view->cursor_open = true;
    struct object_row row;
    const int status = object_cursor_next(&view->cursor, &row);
    if (status == STATUS_OK) {
        row_of(&row, out);
    }
    return status == OBJECT_NONE ? BACKEND_NONE : status;
}

static int fake_view_event(void *owner, struct backend_view *view, uint64_t after,
                           struct backend_event *out)
{
    (void)owner;
    struct event_row row;
    cursor_close(view);
    store_reader_reset(view->reader);
    const int status = event_next(view->reader, after, &row);
    if (status == STATUS_OK) {
        *out = (struct backend_event){.version = row.version, .node = row.node, .body = row.body};
    }
    return status == OBJECT_NONE ? BACKEND_NONE : status;
}

struct telling {
    backend_on_change on_change;
    void *context;
};

static int tell_change(void *context, const struct change *change)
{
    const struct telling *telling = context;
    struct backend_change told = {.version = change->version};
    if (change->type == CHANGE_EVENT) {
        told.is_event = true;
        told.event = (struct backend_event){change->event.version, change->event.node,
                                            change->event.body};
    } else {
        told.key = change->key;
        row_of(&change->before, &told.before);
        row_of(&change->after, &told.after);
    }
    telling->on_change(telling->context, &told);
    return 0;
}

static int fake_changes(void *owner, uint64_t after, uint32_t max, backend_on_change on_change,
                        void *context, uint64_t *out_reached)
{
    struct backend_fake *fake = owner;
    struct telling telling = {on_change, context};
    struct store_reader *reader = store_snapshot(fake->store);
    const int status = change_read(&fake->machine, reader, after, max, 8u * 1024u * 1024u,
                                   tell_change, &telling, out_reached);
    store_snapshot_release(reader);
    return status == CHANGE_EXPIRED ? BACKEND_EXPIRED : status == CHANGE_AHEAD ? BACKEND_AHEAD
                                                                               : status;
}

static struct asked *ask(struct backend_fake *fake)
{
    if (fake->asked_count == ASKED_MAX) {
        return NULL;
    }
    struct asked *asked = &fake->asked[(fake->asked_first + fake->asked_count) % ASKED_MAX];
    *asked = (struct asked){0};
    fake->asked_count++;
    return asked;
}

static int fake_fresh(void *owner, backend_on_fresh on_fresh, void *context)
{
    struct asked *asked = ask(owner);
    if (asked == NULL) {
        return STATUS_FULL;
    }
    asked->on_fresh = on_fresh;
    asked->context = context;
    return 0;
}

static int fake_write(void *owner, struct bytes record, backend_on_written on_written,
                      void *context)
{
    struct asked *asked = ask(owner);
    if (asked == NULL) {
        return STATUS_FULL;
    }
    uint8_t *copy = aligned_alloc(8, (record.size + 7) / 8 * 8);
    CHECK(copy != NULL);
    memcpy(copy, record.data, record.size);
    asked->record = bytes_of(copy, record.size);
    asked->on_written = on_written;
    asked->context = context;
    return 0;
}

static int64_t fake_now_ms(void *owner)
{
    return ((struct backend_fake *)owner)->now_ms;
}

static void fake_random(void *owner, void *buffer, size_t size)
{
    struct backend_fake *fake = owner;
    for (size_t i = 0; i < size; i++) {
        fake->chance = fake->chance * 6364136223846793005u + 1442695040888963407u;
        ((uint8_t *)buffer)[i] = (uint8_t)(fake->chance >> 56);
    }
}

static bool fake_leads(void *owner)
{
    return ((struct backend_fake *)owner)->leader;
}

static void fake_listen(void *owner, const struct backend_listener *listener)
{
    struct backend_fake *fake = owner;
    fake->listener = listener;
    fake->listened = fake->machine.meta.version;
}

static int fake_tell_wish(void *context, const struct change *change)
{
    const struct backend_fake *fake = context;
    if (change->type != CHANGE_EVENT && (change->parts & 1u << PART_WISH) != 0) {
        fake->listener->wish(fake->listener->context, change->key);
    }
    return 0;
}

/* Tell the listener what has changed. */
static void fake_tell(struct backend_fake *fake)
{
    if (fake->listener != NULL && fake->listened < fake->machine.meta.version) {
        struct store_reader *reader = store_snapshot(fake->store);
        CHECK(change_read(&fake->machine, reader, fake->listened, UINT32_MAX, SIZE_MAX,
                          fake_tell_wish, fake, &fake->listened) == STATUS_OK);
        store_snapshot_release(reader);
    }
}

static uint32_t fake_level(void *owner)
{
    const struct backend_fake *fake = owner;
    return fake->level != 0 ? fake->level : machine_level(&fake->machine);
}

static struct tag fake_tag(void *owner, struct bytes key, struct bytes json)
{
    (void)owner;
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < key.size; i++) {
        hash = (hash ^ key.data[i]) * 1099511628211u;
    }
    for (size_t i = 0; i < json.size; i++) {
        hash = (hash ^ json.data[i]) * 1099511628211u;
    }
    return (struct tag){hash, ~hash};
}

static int64_t fake_node_seen_ms(void *owner, const char *node)
{
    (void)node;
    return ((struct backend_fake *)owner)->now_ms;
}

static bool fake_node_answers(void *owner, const char *node)
{
    struct backend_fake *fake = owner;
    struct store_reader *reader = store_snapshot(fake->store);
    struct codec *codec = codec_create();
    struct object_row row;
    struct verdict verdict = {.reachable = true};
    const int found = object_get(reader, bytes_text(codec_print(codec, "/nodes//%s", node)), &row);
    if (found == STATUS_OK && row.parts[PART_VERDICT].body.size > 0) {
        CHECK(codec_verdict_read(codec, row.parts[PART_VERDICT].body, &verdict) == 0);
    }
    codec_destroy(codec);
    store_snapshot_release(reader);
    return found == STATUS_OK && verdict.reachable;
}

static struct machine_result apply(struct backend_fake *fake, const struct bytes *records,
                                   uint32_t count)
{
    struct codec *codec = codec_create();
    const struct command command = {.time_ms = fake->now_ms,
                                    .origin = (uint64_t)1 << 32 | 1,
                                    .sequence = ++fake->sequence,
                                    .records = records,
                                    .record_count = count};
    struct bytes bytes;
    CHECK(codec_command_build(codec, &command, &bytes) == 0);
    const struct machine_applied *applied;
    CHECK(machine_apply(&fake->machine, ++fake->index, bytes, &applied) == 0);
    CHECK(applied->result_count == count);
    const struct machine_result last = applied->results[count - 1];
    codec_destroy(codec);
    return last;
}

static enum backend_outcome outcome_of(enum outcome outcome)
{
    static const enum backend_outcome map[OUTCOMES] = {
        [ACCEPTED] = BACKEND_ACCEPTED,
        [ACCEPTED_UNCHANGED] = BACKEND_ACCEPTED,
        [REFUSED_MALFORMED] = BACKEND_REFUSED_OTHER,
        [REFUSED_KIND] = BACKEND_REFUSED_OTHER,
        [REFUSED_EXISTS] = BACKEND_REFUSED_EXISTS,
        [REFUSED_MISSING] = BACKEND_REFUSED_MISSING,
        [REFUSED_CONFLICT] = BACKEND_REFUSED_VERSION,
        [REFUSED_UID] = BACKEND_REFUSED_UID,
        [REFUSED_NAMESPACE_MISSING] = BACKEND_REFUSED_NO_NAMESPACE,
        [REFUSED_NAMESPACE_TERMINATING] = BACKEND_REFUSED_TERMINATING,
        [REFUSED_NOT_EMPTY] = BACKEND_REFUSED_NOT_EMPTY,
        [REFUSED_FINALIZERS] = BACKEND_REFUSED_FINALIZERS,
        [REFUSED_LIMIT] = BACKEND_REFUSED_LIMIT,
    };
    const enum backend_outcome mapped = map[outcome];
    return mapped == BACKEND_ACCEPTED && !outcome_accepted(outcome) ? BACKEND_REFUSED_OTHER
                                                                    : mapped;
}

static void user_note(struct backend_fake *fake, struct bytes bytes)
{
    struct codec *codec = codec_create();
    struct record record;
    CHECK(codec_record_read(codec, bytes, &record) == 0);
    (void)snprintf(fake->user, sizeof fake->user, "%s", record.user);
    codec_destroy(codec);
}

const char *backend_fake_user(const struct backend_fake *fake)
{
    return fake->user;
}

bool backend_fake_run(struct backend_fake *fake)
{
    const uint32_t count = fake->asked_count; /* what is asked meanwhile waits for the next run */
    for (uint32_t i = 0; i < count; i++) {
        const struct asked asked = fake->asked[fake->asked_first];
        fake->asked_first = (fake->asked_first + 1) % ASKED_MAX;
        fake->asked_count--;
        if (asked.on_fresh != NULL) {
            asked.on_fresh(asked.context, fake->leader ? 0 : STATUS_NOT_LEADER);
            continue;
        }
        if (!fake->leader) {
            asked.on_written(asked.context, STATUS_NOT_LEADER, BACKEND_REFUSED_OTHER, 0);
        } else {
            if (fake->before_write != NULL) {
                void (*hook)(void *) = fake->before_write;
                fake->before_write = NULL;
                hook(fake->before_context);
            }
            user_note(fake, asked.record);
            const struct machine_result result = apply(fake, &asked.record, 1);
            asked.on_written(asked.context, 0, outcome_of(result.outcome), result.value);
        }
        free((void *)(uintptr_t)asked.record.data);
    }
    fake_tell(fake);
    return count > 0;
}

void backend_fake_propose(struct backend_fake *fake, const struct bytes *records, uint32_t count)
{
    const struct machine_result result = apply(fake, records, count);
    if (!outcome_accepted(result.outcome)) {
        fprintf(stderr, "refused: %s\n", outcome_text(result.outcome));
    }
    CHECK(outcome_accepted(result.outcome));
}

static struct bytes record_of(struct codec *codec, uint16_t kind, const char *key, uint64_t sequence,
                              struct bytes body)
{
    const struct record record = {
        .kind = kind, .key = key, .origin = "test", .sequence = sequence, .body = body};
    struct bytes out;
    CHECK(codec_record_build(codec, &record, &out) == 0);
    return out;
}

/* The session of a node, opened when it is its first report. */
static uint32_t session_of(struct backend_fake *fake, struct codec *codec, const char *node)
{
    for (uint32_t i = 0; i < fake->node_count; i++) {
        if (strcmp(fake->nodes[i], node) == 0) {
            return i;
        }
    }
    const uint32_t at = fake->node_count++;
    CHECK(at < 8);
    (void)snprintf(fake->nodes[at], sizeof fake->nodes[at], "%s", node);
    char key[LIMIT_KEY_BYTES];
    (void)snprintf(key, sizeof key, "/nodes//%s", node);
    struct object_row row;
    struct object_put put;
    CHECK(object_get(store_live(fake->store), bytes_text(key), &row) == 0);
    CHECK(codec_object_put_read(codec, row.parts[PART_WISH].body, &put) == 0);
    const struct session_open open = {
        .node = node, .uid = put.object.uid, .replica = 1, .up_stream = 7 + at, .up_position = 0};
    struct bytes body;
    CHECK(codec_session_open_build(codec, &open, &body) == 0);
    const struct bytes record = record_of(codec, RECORD_SESSION_OPEN, node, 0, body);
    const struct machine_result result = apply(fake, &record, 1);
    CHECK(outcome_accepted(result.outcome));
    fake->epochs[at] = result.value;
    return at;
}

void backend_fake_report(struct backend_fake *fake, const char *node, uint16_t kind,
                         const char *key, struct bytes body)
{
    struct codec *codec = codec_create();
    const uint32_t at = session_of(fake, codec, node);
    const uint64_t sequence = fake->up_position[at] + 1;
    const struct sequenced one = {sequence, record_of(codec, kind, key, sequence, body)};
    const struct batch batch = {.node = node,
                                .epoch = fake->epochs[at],
                                .stream = 7 + at,
                                .previous = sequence - 1,
                                .last = sequence,
                                .tip = sequence,
                                .records = &one,
                                .record_count = 1};
    struct bytes bytes;
    CHECK(codec_batch_build(codec, &batch, &bytes) == 0);
    const struct bytes record = record_of(codec, RECORD_UP_BATCH, node, 0, bytes);
    backend_fake_propose(fake, &record, 1);
    fake->up_position[at] = sequence;
    codec_destroy(codec);
}

void backend_fake_set_leader(struct backend_fake *fake, bool there)
{
    fake->leader = there;
}

void backend_fake_set_now_ms(struct backend_fake *fake, int64_t now_ms)
{
    fake->now_ms = now_ms;
}

int64_t backend_fake_now_ms(const struct backend_fake *fake)
{
    return fake->now_ms;
}

void backend_fake_set_level(struct backend_fake *fake, uint32_t level)
{
    fake->level = level;
}

void backend_fake_before_write(struct backend_fake *fake, void (*hook)(void *context),
                               void *context)
{
    fake->before_write = hook;
    fake->before_context = context;
}

const struct backend *backend_fake_backend(struct backend_fake *fake)
{
    return &fake->backend;
}

struct backend_fake *backend_fake_create(void)
{
    struct backend_fake *fake = calloc(1, sizeof *fake);
    CHECK(fake != NULL);
    fake->sim = store_sim_create();
    CHECK(store_sim_open(fake->sim, MACHINE_NAME, MACHINE_FORMAT, &fake->store) == 0);
    CHECK(machine_open(&fake->machine, fake->store) == 0);
    fake->now_ms = 1738310400000; /* 2025-01-31T08:00:00Z */
    fake->leader = true;
    fake->chance = 1;
    fake->backend = (struct backend){
        .owner = fake,
        .version = fake_version,
        .view_open = fake_view_open,
        .view_close = fake_view_close,
        .view_get = fake_view_get,
        .view_next = fake_view_next,
        .view_event = fake_view_event,
        .changes = fake_changes,
        .fresh = fake_fresh,
        .write = fake_write,
        .now_ms = fake_now_ms,
        .random = fake_random,
        .leads = fake_leads,
        .listen = fake_listen,
        .level = fake_level,
        .tag = fake_tag,
        .node_seen_ms = fake_node_seen_ms,
        .node_answers = fake_node_answers,
        .name = "cloudcore-1",
    };
    struct codec *codec = codec_create();
    static const char *const names[] = {"default", "kube-system", "kube-public",
                                        "kube-node-lease"};
    const struct cluster_init init = {.cluster = "00000000-0000-4000-8000-000000000001"};
    struct bytes body;
    CHECK(codec_cluster_init_build(codec, &init, &body) == 0);
    const struct bytes first = record_of(codec, RECORD_CLUSTER_INIT, "", 0, body);
    backend_fake_propose(fake, &first, 1);
    const struct setting level = {.name = "level", .value = MACHINE_LEVEL};
    CHECK(codec_setting_build(codec, &level, &body) == 0);
    const struct bytes second = record_of(codec, RECORD_SETTING, "level", 0, body);
    backend_fake_propose(fake, &second, 1);
    for (size_t i = 0; i < 4; i++) {
        struct bytes record;
        CHECK(api_build_namespace(&fake->backend, codec, names[i], &record) == 0);
        backend_fake_propose(fake, &record, 1);
    }
    codec_destroy(codec);
    return fake;
}

void backend_fake_destroy(struct backend_fake *fake)
{
    CHECK(fake->asked_count == 0);
    machine_close(&fake->machine);
    store_close(fake->store);
    store_sim_destroy(fake->sim);
    free(fake);
}
