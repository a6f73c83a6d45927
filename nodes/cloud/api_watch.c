/* Watches.
 *
 *   1. The stream begins. Without a version (or with 0, or sendInitialEvents) the present state is sent
 *      first, row by row from one view, at the pace of the client.
 *   2. A watch behind the others reads the history by itself, until it has caught up.
 *   3. api_changed reads what is new once, for all watches that have caught up. Each change is joined
 *      once and offered to each watch of its resource; the selectors decide which of ADDED, MODIFIED and
 *      DELETED it is to whom.
 *
 * A client that does not read makes pending bytes; beyond LIMIT_API_WATCH_BYTES, or
 * LIMIT_API_WATCHES_BYTES of all watches together, its connection is cut, and it lists again. A version older than the
 * history is told as an ERROR event (410). The history is in memory: a replica has that of its own life, and, when the
 * one before ended in good order, the newest of that.
 */
#include "nodes/cloud/api_call.h"

#include "schemas/check.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define PAGE_BYTES (64u * 1024u)

struct api_watch {
    struct backend_view *view; /* while the present state is sent */
    char after[LIMIT_KEY_BYTES];
    uint64_t event_after;
    bool initial;       /* the present state is wanted and not sent yet */
    bool rows_done;     /* of it: objects are sent, edge events follow */
    bool wants_marker;  /* a bookmark ends the present state */
    bool bookmarks;
    bool columns_sent;
    bool blocked;       /* the client takes no more now */
    bool cut;           /* pending outgrew its bound */
    bool behind;        /* took no more changes this time: reads on for itself, from `position` */
    bool expired;       /* the history does not reach back to `position` */
    uint64_t position;  /* changes up to this version were told */
    int64_t end_ms;
    int64_t bookmark_ms;
    struct text pending;
    size_t counted; /* of pending, in api->watch_bytes */
    char prefix[LIMIT_KEY_BYTES];
};

/* -- ending --------------------------------------------------------------------------------------------- */

static void watch_end(struct api_call *call, bool whole)
{
    struct api_watch *watch = call->watch;
    const struct backend *backend = call->api->backend;
    if (watch->view != NULL) {
        backend->view_close(backend->owner, watch->view);
    }
    call->api->watch_bytes -= watch->counted;
    text_release(&watch->pending);
    free(watch);
    call->watch = NULL;
    call->api->watch_count--;
    const struct api_client_events *events = call->events;
    void *client = call->client;
    call_free(call);
    events->end(client, whole);
}

void api_watch_stop(struct api_call *call)
{
    if (call->waiting) {
        return; /* ends when the backend calls back */
    }
    watch_end(call, !call->gone);
}

/* -- events --------------------------------------------------------------------------------------------- */

/* What is pending has changed. A client that does not read is cut when that is too much, of its own or of all. */
static void watch_count_bytes(struct api_call *call)
{
    struct api_watch *watch = call->watch;
    call->api->watch_bytes += watch->pending.size;
    call->api->watch_bytes -= watch->counted;
    watch->counted = watch->pending.size;
    watch->cut =
        watch->cut || (watch->blocked && (watch->counted > LIMIT_API_WATCH_BYTES ||
                                          call->api->watch_bytes > LIMIT_API_WATCHES_BYTES));
}

/* Append one event. object is borrowed; text: its JSON, or NULL: not known yet. */
static void watch_event(struct api_call *call, const char *type, json_t *object,
                        const struct text *text)
{
    struct api_watch *watch = call->watch;
    if (watch->cut) {
        return;
    }
    text_print(&watch->pending, "{\"type\":\"%s\",\"object\":", type);
    if (call->table) {
        json_t *table = api_table_create(call->resource, !watch->columns_sent);
        watch->columns_sent = true;
        json_put_text(json_child(table, "metadata"), "resourceVersion",
                      json_text_at(object, "metadata.resourceVersion"));
        const struct backend *backend = call->api->backend;
        api_table_add(table, call->resource, object, call->include,
                      backend->now_ms(backend->owner));
        json_write(&watch->pending, table);
        json_decref(table);
    } else if (text != NULL) {
        text_append(&watch->pending, text->data, text->size);
    } else {
        json_write(&watch->pending, object);
    }
    text_add(&watch->pending, "}\n");
    watch_count_bytes(call);
}

static void watch_bookmark(struct api_call *call, bool initial)
{
    struct api_watch *watch = call->watch;
    json_t *object;
    if (call->table) {
        object = api_table_create(call->resource, false);
    } else {
        object = json_object();
        struct text version = {0};
        api_group_version(call->resource, &version);
        json_put_text(object, "kind", call->resource->kind);
        json_put_text(object, "apiVersion", version.data);
        text_release(&version);
    }
    json_t *metadata = json_child(object, "metadata");
    char number[24];
    (void)snprintf(number, sizeof number, "%" PRIu64, watch->position);
    json_put_text(metadata, "resourceVersion", number);
    CHECK(json_object_set_new(metadata, "creationTimestamp", json_null()) == 0);
    if (initial) {
        json_put_text(json_child(metadata, "annotations"), "k8s.io/initial-events-end", "true");
    }
    text_add(&watch->pending, "{\"type\":\"BOOKMARK\",\"object\":");
    json_write(&watch->pending, object);
    text_add(&watch->pending, "}\n");
    json_decref(object);
}

static void watch_expired(struct api_call *call)
{
    struct api_watch *watch = call->watch;
    const struct backend *backend = call->api->backend;
    struct api_error error = {0};
    api_error_set(&error, 410, "too old resource version: %" PRIu64 " (%" PRIu64 ")",
                  watch->position, backend->version(backend->owner));
    json_t *status = api_error_status(&error);
    text_add(&watch->pending, "{\"type\":\"ERROR\",\"object\":");
    json_write(&watch->pending, status);
    text_add(&watch->pending, "}\n");
    json_decref(status);
    api_error_release(&error);
}

/* -- the present state ------------------------------------------------------------------------------------ */

static void initial_row(struct api_call *call, json_t *taken)
{
    if (taken != NULL && call_matches(call, taken)) {
        watch_event(call, "ADDED", taken, NULL);
    }
    json_decref(taken);
    codec_reset(call->codec);
}

/* Append up to a page of the present state. negative: the backend failed. */
static int initial_page(struct api_call *call)
{
    struct api_watch *watch = call->watch;
    const struct backend *backend = call->api->backend;
    if (watch->view == NULL) {
        if (backend->version(backend->owner) < call->version) {
            return 0; /* this replica is behind what the client has seen: wait */
        }
        const int status = backend->view_open(backend->owner, &watch->view, &watch->position);
        if (status != 0) {
            return status;
        }
    }
    while (watch->pending.size < PAGE_BYTES) {
        struct backend_row row;
        struct backend_event event;
        int status = BACKEND_NONE;
        if (!watch->rows_done) {
            status = backend->view_next(backend->owner, watch->view, bytes_text(watch->prefix),
                                        bytes_text(watch->after), &row);
            if (status == 0) {
                (void)snprintf(watch->after, sizeof watch->after, "%.*s", (int)row.key.size,
                               (const char *)row.key.data);
                initial_row(call, call_join(call, &row));
                continue;
            }
            watch->rows_done = status == BACKEND_NONE;
        }
        if (status == BACKEND_NONE && call->resource->id == API_EVENT) {
            status = backend->view_event(backend->owner, watch->view, watch->event_after, &event);
            if (status == 0) {
                watch->event_after = event.version;
                initial_row(call, api_event_join(call->codec, &event));
                continue;
            }
        }
        if (status < 0) {
            return status;
        }
        backend->view_close(backend->owner, watch->view);
        watch->view = NULL;
        watch->initial = false;
        if (watch->wants_marker) {
            watch_bookmark(call, true);
        }
        return 0;
    }
    return 0;
}

/* -- changes ----------------------------------------------------------------------------------------------- */

/* A change as clients of one version see it, joined when the first watch asks. */
struct joined_form {
    bool done;
    json_t *before;
    json_t *after;
    struct text after_text; /* as JSON, when the first watch wants it: the others get the same bytes */
};

#define FORMS 3 /* as it is stored, and in the other version and the view that there may be */
struct joined_change {
    const struct backend_change *change;
    struct codec *codec;
    struct joined_form forms[FORMS];
};

static size_t form_of(const struct api_resource *resource)
{
    return api_resource_stored(resource) == resource ? 0
           : resource->id == API_DEVICE_STATUS       ? 1
                                                     : 2;
}

static struct joined_form *change_join(struct joined_change *joined, struct api_call *call)
{
    struct joined_form *form = &joined->forms[form_of(call->resource)];
    if (form->done) {
        return form;
    }
    form->done = true;
    const struct backend *backend = call->api->backend;
    const struct backend_change *change = joined->change;
    if (change->is_event) {
        form->after = api_event_join(joined->codec, &change->event);
        return form;
    }
    if (change->before.wish.size > 0) {
        form->before =
            api_object_join(backend, joined->codec, call->resource, &change->before, NULL);
    }
    if (change->after.wish.size > 0) {
        form->after = api_object_join(backend, joined->codec, call->resource, &change->after, NULL);
    }
    return form;
}

static void change_offer(struct joined_change *joined, struct api_call *call)
{
    struct api_watch *watch = call->watch;
    const struct backend_change *change = joined->change;
    const bool concerned = change->is_event
                               ? call->resource->id == API_EVENT
                               : bytes_start_with(change->key, bytes_text(watch->prefix));
    if (change->version <= watch->position || watch->cut || watch->behind) {
        return;
    }
    /* What is pending goes out as one chunk, so a burst of large objects is told in several. */
    if (!watch->blocked && watch->pending.size >= LIMIT_API_WATCH_BYTES) {
        watch->behind = true;
        return;
    }
    watch->position = change->version;
    if (!concerned) {
        return;
    }
    struct joined_form *form = change_join(joined, call);
    const bool was = form->before != NULL && call_matches(call, form->before);
    const bool is = form->after != NULL && call_matches(call, form->after);
    if (is) {
        if (!call->table && form->after_text.size == 0) {
            json_write(&form->after_text, form->after);
        }
        watch_event(call, was ? "MODIFIED" : "ADDED", form->after, &form->after_text);
    } else if (was) {
        json_t *last = json_copy(form->before);
        json_t *metadata = json_copy(json_object_get(last, "metadata"));
        CHECK(json_object_set_new(last, "metadata", metadata) == 0);
        api_object_set_version(last, change->version); /* of the deletion */
        watch_event(call, "DELETED", last, NULL);
        json_decref(last);
    }
}

static void change_release(struct joined_change *joined)
{
    for (size_t i = 0; i < FORMS; i++) {
        json_decref(joined->forms[i].before);
        json_decref(joined->forms[i].after);
        text_release(&joined->forms[i].after_text);
    }
    codec_reset(joined->codec);
}

static void catch_up_on_change(void *context, const struct backend_change *change)
{
    struct api_call *call = context;
    struct joined_change joined = {.change = change, .codec = call->codec};
    change_offer(&joined, call);
    change_release(&joined);
}

/* A watch behind the others: read for it alone. negative: the backend failed. */
static int catch_up(struct api_call *call)
{
    struct api_watch *watch = call->watch;
    const struct backend *backend = call->api->backend;
    uint64_t reached = watch->position;
    watch->behind = false;
    const int status = backend->changes(backend->owner, watch->position, LIMIT_API_WATCH_CHANGES,
                                        catch_up_on_change, call, &reached);
    if (status == BACKEND_EXPIRED) {
        watch_expired(call);
        watch->expired = true;
    } else if (status == 0 && !watch->behind) {
        watch->position = reached > watch->position ? reached : watch->position;
    }
    watch->behind = false;
    return status < 0 ? status : 0;
}

/* -- pumping ------------------------------------------------------------------------------------------------ */

/* Send what is pending. false: the watch has ended. */
static bool watch_flush(struct api_call *call)
{
    struct api_watch *watch = call->watch;
    if (watch->cut) {
        watch_end(call, false);
        return false;
    }
    if (watch->pending.size > 0) {
        const int status = call->events->chunk(call->client, text_bytes(&watch->pending));
        watch->blocked = status == STATUS_FULL;
        if (status != 0 && status != STATUS_FULL) {
            watch_end(call, false);
            return false;
        }
        if (status == 0) {
            watch->pending.size = 0;
            watch_count_bytes(call);
            if (watch->pending.capacity > 4 * PAGE_BYTES) {
                text_release(&watch->pending); /* a burst is not kept for ever */
            }
        }
    }
    if (watch->expired && !watch->blocked) {
        watch_end(call, true);
        return false;
    }
    return true;
}

/* Bring one watch forward by a bounded step. Answers whether it has more to do now. */
static bool watch_step(struct api_call *call)
{
    struct api_watch *watch = call->watch;
    if (call->waiting) {
        return false;
    }
    int status = 0;
    if (!watch->blocked && watch->initial) {
        status = initial_page(call);
    } else if (!watch->blocked && !watch->expired && watch->position < call->api->told) {
        status = catch_up(call);
    }
    if (status < 0) {
        watch_end(call, false);
        return false;
    }
    if (!watch_flush(call) || watch->blocked) {
        return false;
    }
    return (watch->initial && watch->view != NULL) ||
           (!watch->initial && watch->position < call->api->told);
}

void api_watch_writable(struct api_call *call)
{
    call->watch->blocked = false;
    while (watch_step(call)) {
    }
}

struct feed {
    struct api *api;
    struct codec *codec;
};

static void feed_on_change(void *context, const struct backend_change *change)
{
    struct feed *feed = context;
    struct joined_change joined = {.change = change, .codec = feed->codec};
    for (struct api_call *call = feed->api->calls; call != NULL; call = call->next) {
        /* one that is behind reads for itself, in order */
        if (call->watch != NULL && !call->waiting && !call->watch->initial &&
            call->watch->position >= feed->api->told) {
            change_offer(&joined, call);
        }
    }
    change_release(&joined);
}

static bool watches_feed(struct api *api)
{
    const struct backend *backend = api->backend;
    const uint64_t version = backend->version(backend->owner);
    if (api->watch_count == 0) {
        api->told = version;
        return false;
    }
    if (version > api->told) {
        struct feed feed = {.api = api, .codec = codec_create()};
        uint64_t reached = api->told;
        const int status = backend->changes(backend->owner, api->told, LIMIT_API_WATCH_CHANGES,
                                            feed_on_change, &feed, &reached);
        codec_destroy(feed.codec);
        const uint64_t before = api->told;
        if (status == 0) {
            api->told = reached;
        } else if (status == BACKEND_EXPIRED) {
            api->told = version; /* those who lag find out for themselves */
        }
        for (struct api_call *call = api->calls; call != NULL && status == 0; call = call->next) {
            struct api_watch *watch = call->watch;
            if (watch != NULL && !call->waiting && !watch->initial && !watch->behind &&
                watch->position >= before && watch->position < reached) {
                watch->position = reached;
            }
            if (watch != NULL) {
                watch->behind = false; /* its position says it from now on */
            }
        }
    }
    bool more = version > api->told;
    struct api_call *next;
    for (struct api_call *call = api->calls; call != NULL; call = next) {
        next = call->next;
        if (call->watch != NULL) {
            more = watch_step(call) || more;
        }
    }
    return more;
}

bool api_changed(struct api *api)
{
    const bool lists = api_lists_run(api);
    return watches_feed(api) || lists;
}

void api_tick(struct api *api)
{
    const struct backend *backend = api->backend;
    const int64_t now = backend->now_ms(backend->owner);
    struct api_call *next;
    for (struct api_call *call = api->calls; call != NULL; call = next) {
        next = call->next;
        struct api_watch *watch = call->watch;
        if (watch == NULL || call->waiting) {
            continue;
        }
        if (now >= watch->end_ms) {
            watch_end(call, !watch->blocked);
        } else if (watch->bookmarks && !watch->initial && !watch->blocked &&
                   watch->position >= api->told && now >= watch->bookmark_ms) {
            watch->bookmark_ms = now + LIMIT_API_BOOKMARK_MS;
            watch_bookmark(call, false);
            (void)watch_flush(call);
        }
    }
}

/* -- beginning ---------------------------------------------------------------------------------------------- */

static void watch_begin(struct api_call *call)
{
    struct api_watch *watch = call->watch;
    if (call->api->stopping || call->events->begin(call->client, 200, "application/json") != 0) {
        watch_end(call, false);
        return;
    }
    if (!watch->initial && watch->position == 0) {
        const struct backend *backend = call->api->backend;
        watch->position = backend->version(backend->owner);
    }
    while (watch_step(call)) {
    }
}

static void watch_on_fresh(void *context, int status)
{
    struct api_call *call = context;
    call->waiting = false;
    MAYBE(status != 0); /* without a leader the watch begins with what this replica has */
    watch_begin(call);
}

static bool initial_wanted(const struct api_call *call, const struct http_request *request,
                           bool *out_marker, struct api_error *error)
{
    const char *send = call_parameter(request, "sendInitialEvents");
    const char *match = call_parameter(request, "resourceVersionMatch");
    *out_marker = call_parameter_true(request, "sendInitialEvents");
    if (send[0] != '\0' && strcmp(match, "NotOlderThan") != 0) {
        api_error_cause(error, "FieldValueForbidden", "resourceVersionMatch",
                        "Forbidden: sendInitialEvents requires setting resourceVersionMatch to "
                        "NotOlderThan");
        api_error_invalid(error, "", "ListOptions", "");
        return false;
    }
    return send[0] != '\0' ? *out_marker : call->version == 0;
}

void api_watch_start(struct api_call *call, const struct http_request *request)
{
    const struct backend *backend = call->api->backend;
    struct api_error error = {0};
    bool marker;
    const bool initial = initial_wanted(call, request, &marker, &error);
    if (error.code == 0 && call->api->watch_count >= LIMIT_API_WATCHES) {
        api_error_set(&error, 429, "too many watches on this cloudcore, please try again later");
        error.retry_after_s = 5;
    }
    if (error.code != 0) {
        call_fail(call, &error);
        return;
    }
    struct api_watch *watch = calloc(1, sizeof *watch);
    CHECK(watch != NULL);
    call->watch = watch;
    call->api->watch_count++;
    call_prefix(call, watch->prefix);
    watch->initial = initial;
    watch->wants_marker = marker;
    watch->bookmarks = call_parameter_true(request, "allowWatchBookmarks");
    watch->position = initial ? 0 : call->version;
    const int64_t now = backend->now_ms(backend->owner);
    const char *timeout = call_parameter(request, "timeoutSeconds");
    const int64_t wanted = timeout[0] == '\0' ? 0 : strtoll(timeout, NULL, 10) * 1000;
    watch->end_ms = now + (wanted > 0 && wanted < LIMIT_API_WATCH_MS ? wanted : LIMIT_API_WATCH_MS);
    watch->bookmark_ms = now + LIMIT_API_BOOKMARK_MS;
    if (initial && !call->version_given) {
        call->waiting = backend->fresh(backend->owner, watch_on_fresh, call) == 0;
    }
    if (!call->waiting) {
        watch_begin(call);
    }
}
