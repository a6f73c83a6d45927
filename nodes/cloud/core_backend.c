/* The world of the API door: reads of the local copy, writes through forwarding. */
#include "nodes/cloud/core_inner.h"

#include "schemas/check.h"

#include <stdlib.h>

#define CORE_CHANGES_BYTES (8u * 1024u * 1024u) /* of parts told in one call of `changes` */

struct backend_view {
    struct store_reader *reader;
    struct object_cursor cursor;
    bool cursor_open;
    uint8_t prefix[LIMIT_KEY_BYTES];
    size_t prefix_size;
    uint8_t last[LIMIT_KEY_BYTES]; /* key the cursor handed out last */
    size_t last_size;
};

void core_backend_row(const struct object_row *row, struct backend_row *out)
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

enum backend_outcome core_backend_outcome(enum outcome outcome)
{
    switch (outcome) {
    case ACCEPTED:
    case ACCEPTED_UNCHANGED:
        return BACKEND_ACCEPTED;
    case REFUSED_EXISTS:
        return BACKEND_REFUSED_EXISTS;
    case REFUSED_MISSING:
        return BACKEND_REFUSED_MISSING;
    case REFUSED_CONFLICT:
        return BACKEND_REFUSED_VERSION;
    case REFUSED_UID:
        return BACKEND_REFUSED_UID;
    case REFUSED_NAMESPACE_MISSING:
        return BACKEND_REFUSED_NO_NAMESPACE;
    case REFUSED_NAMESPACE_TERMINATING:
        return BACKEND_REFUSED_TERMINATING;
    case REFUSED_FINALIZERS:
        return BACKEND_REFUSED_FINALIZERS;
    case REFUSED_NOT_EMPTY:
        return BACKEND_REFUSED_NOT_EMPTY;
    case REFUSED_LIMIT:
        return BACKEND_REFUSED_LIMIT;
    case REFUSED_MALFORMED:
    case REFUSED_KIND:
    case REFUSED_EPOCH:
    case REFUSED_STREAM:
    case REFUSED_GAP:
    case REFUSED_POSITION:
    case REFUSED_STALE_ORIGIN:
    case REFUSED_OWNER:
    case REFUSED_SETTING:
    case OUTCOMES:
        return BACKEND_REFUSED_OTHER;
    }
    return BACKEND_REFUSED_OTHER;
}

static uint64_t core_backend_version(void *owner)
{
    return ((struct cloud_core *)owner)->machine.meta.version;
}

static int core_backend_view_open(void *owner, struct backend_view **out_view,
                                  uint64_t *out_version)
{
    struct cloud_core *core = owner;
    struct backend_view *view = calloc(1, sizeof *view);
    CHECK(view != NULL);
    struct machine_meta meta;
    view->reader = store_view(core->store);
    const int status = core_read(core, machine_meta_get(view->reader, &meta));
    if (status != 0) {
        store_snapshot_release(view->reader);
        free(view);
        return status;
    }
    *out_version = meta.version;
    *out_view = view;
    return 0;
}

static void core_backend_view_reset(struct backend_view *view)
{
    if (view->cursor_open) {
        object_cursor_close(&view->cursor);
        view->cursor_open = false;
    }
}

static void core_backend_view_close(void *owner, struct backend_view *view)
{
    (void)owner;
    core_backend_view_reset(view);
    store_snapshot_release(view->reader);
    free(view);
}

static int core_backend_view_get(void *owner, struct backend_view *view, struct bytes key,
                                 struct backend_row *out)
{
    struct object_row row;
    store_reader_reset(view->reader);
    const int status = core_read(owner, object_get(view->reader, key, &row));
    if (status == STATUS_OK) {
        core_backend_row(&row, out);
    }
    return status == OBJECT_NONE ? BACKEND_NONE : status;
}

static int core_backend_view_next(void *owner, struct backend_view *view, struct bytes prefix,
                                  struct bytes after, struct backend_row *out)
{
    if (prefix.size > sizeof view->prefix || after.size > sizeof view->last) {
        return BACKEND_NONE;
    }
    const bool goes_on = view->cursor_open &&
                         bytes_equal(prefix, bytes_of(view->prefix, view->prefix_size)) &&
                         bytes_equal(after, bytes_of(view->last, view->last_size));
    if (!goes_on) {
        uint8_t copy[LIMIT_KEY_BYTES]; /* `after` may be lent by the cursor that closes now */
        memcpy(copy, after.data == NULL ? copy : after.data, after.size);
        core_backend_view_reset(view);
        if (prefix.size > 0) {
            memcpy(view->prefix, prefix.data, prefix.size);
        }
        view->prefix_size = prefix.size;
        object_cursor_open(&view->cursor, view->reader, prefix, bytes_of(copy, after.size));
        view->cursor_open = true;
    }
    struct object_row row;
    const int status = core_read(owner, object_cursor_next(&view->cursor, &row));
    if (status != STATUS_OK) {
        core_backend_view_reset(view);
        return status == OBJECT_NONE ? BACKEND_NONE : status;
    }
    CHECK(row.key.size <= sizeof view->last);
    memcpy(view->last, row.key.data, row.key.size);
    view->last_size = row.key.size;
    core_backend_row(&row, out);
    return 0;
}

static void core_backend_event(const struct event_row *row, struct backend_event *out)
{
    *out = (struct backend_event){.version = row->version, .node = row->node, .body = row->body};
}

static int core_backend_view_event(void *owner, struct backend_view *view, uint64_t after,
                                   struct backend_event *out)
{
    struct event_row row;
    store_reader_reset(view->reader);
    const int status = core_read(owner, event_next(view->reader, after, &row));
    if (status == STATUS_OK) {
        core_backend_event(&row, out);
    }
    return status == OBJECT_NONE ? BACKEND_NONE : status;
}

struct core_changes {
    backend_on_change on_change;
    void *context;
};

static int core_backend_on_change(void *context, const struct change *change)
{
    const struct core_changes *changes = context;
    struct backend_change told = {.version = change->version};
    if (change->type == CHANGE_EVENT) {
        told.is_event = true;
        core_backend_event(&change->event, &told.event);
    } else {
        told.key = change->key;
        core_backend_row(&change->before, &told.before);
        core_backend_row(&change->after, &told.after);
    }
    changes->on_change(changes->context, &told);
    return 0;
}

static int core_backend_changes(void *owner, uint64_t after, uint32_t max,
                                backend_on_change on_change, void *context, uint64_t *out_reached)
{
    struct cloud_core *core = owner;
    struct core_changes changes = {.on_change = on_change, .context = context};
    struct store_reader *reader = core_reader(core);
    const int status =
        core_read(core, change_read(&core->machine, reader, after, max, CORE_CHANGES_BYTES,
                                    core_backend_on_change, &changes, out_reached));
    store_reader_reset(reader);
    if (status == CHANGE_AHEAD) {
        return BACKEND_AHEAD;
    }
    return status == CHANGE_EXPIRED ? BACKEND_EXPIRED : status;
}

static int core_backend_fresh(void *owner, backend_on_fresh on_fresh, void *context)
{
    struct cloud_core *core = owner;
    if (core_behind(core)) {
        return STATUS_BEHIND;
    }
    return forward_read(core->forward, on_fresh, context, core->now.mono_ms);
}

struct core_write {
    struct cloud_core *core;
    backend_on_written on_written;
    void *context;
};

static void core_backend_on_written(void *context, uint64_t tag, int status, int outcome,
                                    uint64_t value)
{
    struct core_write write = *(struct core_write *)context;
    (void)tag;
    free(context);
    if (write.core->closing) {
        return;
    }
    if (status == 0 && outcome == REFUSED_STALE_ORIGIN) {
        status = STATUS_UNKNOWN;
    }
    write.on_written(write.context, status, core_backend_outcome((enum outcome)outcome), value);
}

static int core_backend_write(void *owner, struct bytes record, backend_on_written on_written,
                              void *context)
{
    struct cloud_core *core = owner;
    if (core_behind(core)) {
        return STATUS_BEHIND; /* its result would not be seen here in time */
    }
    struct core_write *write = malloc(sizeof *write);
    CHECK(write != NULL);
    *write = (struct core_write){.core = core, .on_written = on_written, .context = context};
    const int status = forward_submit(core->forward, FORWARD_LANE_API, record,
                                      core_backend_on_written, write, 0, core->now.mono_ms);
    if (status != 0) {
        free(write);
    }
    return status;
}

static int64_t core_backend_now_ms(void *owner)
{
    return ((struct cloud_core *)owner)->now.wall_ms;
}

static void core_backend_random(void *owner, void *buffer, size_t size)
{
    struct cloud_core *core = owner;
    core->ops.random(core->ops.context, buffer, size);
}

static bool core_backend_leads(void *owner)
{
    return ((struct cloud_core *)owner)->lead_ready;
}

static void core_backend_listen(void *owner, const struct backend_listener *listener)
{
    struct cloud_core *core = owner;
    core->listener = listener;
    core->watch_all = core->watch_all || listener != NULL;
}

static uint32_t core_backend_level(void *owner)
{
    return machine_level(&((struct cloud_core *)owner)->machine);
}

static struct tag core_backend_tag(void *owner, struct bytes key, struct bytes json)
{
    struct cloud_core *core = owner;
    return core->ops.tag(core->ops.context, key, json);
}

static int64_t core_backend_node_seen_ms(void *owner, const char *node)
{
    return liveness_seen_ms(&((struct cloud_core *)owner)->liveness, node);
}

/* Asked for each device of a list or of a change, while rows of the live reader are lent: so it has a reader of its
 * own, and remembers the last node. */
static bool core_backend_node_answers(void *owner, const char *node)
{
    struct cloud_core *core = owner;
    struct core_judged *judged = &core->judged;
    if (strlen(node) > LIMIT_NAME_BYTES) {
        return false;
    }
    if (judged->version == core_backend_version(core) && strcmp(judged->node, node) == 0) {
        return judged->answers;
    }
    struct store_reader *reader = store_view(core->store);
    struct codec *codec = codec_create();
    struct machine_meta meta;
    struct object_row row;
    struct verdict verdict = {.reachable = true};
    const char *key = codec_print(codec, "/nodes//%s", node);
    const bool found = core_read(core, machine_meta_get(reader, &meta)) == STATUS_OK &&
                       core_read(core, object_get(reader, bytes_text(key), &row)) == STATUS_OK &&
                       (row.parts[PART_VERDICT].body.size == 0 ||
                        codec_verdict_read(codec, row.parts[PART_VERDICT].body, &verdict) == 0);
    judged->version = found ? meta.version : 0;
    memcpy(judged->node, node, strlen(node) + 1);
    judged->answers = found && verdict.reachable;
    codec_destroy(codec);
    store_snapshot_release(reader);
    return judged->answers;
}

void core_backend_init(struct cloud_core *core)
{
    core->backend = (struct backend){
        .owner = core,
        .version = core_backend_version,
        .view_open = core_backend_view_open,
        .view_close = core_backend_view_close,
        .view_get = core_backend_view_get,
        .view_next = core_backend_view_next,
        .view_event = core_backend_view_event,
        .changes = core_backend_changes,
        .fresh = core_backend_fresh,
        .write = core_backend_write,
        .now_ms = core_backend_now_ms,
        .random = core_backend_random,
        .leads = core_backend_leads,
        .listen = core_backend_listen,
        .level = core_backend_level,
        .tag = core_backend_tag,
        .node_seen_ms = core_backend_node_seen_ms,
        .node_answers = core_backend_node_answers,
        .name = core->config.name,
    };
}

const struct backend *cloud_core_backend(struct cloud_core *core)
{
    return &core->backend;
}
