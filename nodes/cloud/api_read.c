/* get and list.
 *
 *   1. Unless resourceVersion=0 was given, ask the leader for a read point (backend fresh).
 *   2. Open a view, read the row, or walk the rows under the prefix of the collection: a step in each turn of
 *      the loop, LIMIT_API_LISTS lists beside each other, the others after them. So a list of megabytes holds up
 *      neither the loop nor a small one, and those that wait hold nothing.
 *   3. Join, select, and answer: an object, a list, or a Table.
 *
 * A list is cut at `limit` items, or at LIMIT_API_LIST_BYTES, with a continue token "version:key". The next
 * page is read from the present state; it keeps the version of the first page, so that a watch from there
 * sees whatever changed in between.
 */
#include "nodes/cloud/api_call.h"

#include "schemas/check.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* -- get ---------------------------------------------------------------------------------------------- */

/* An edge's event carries its version in its name: "pod.00000000000000a7". */
static json_t *find_event(struct api_call *call, struct backend_view *view)
{
    const struct backend *backend = call->api->backend;
    const char *dot = strrchr(call->name, '.');
    if (dot == NULL || strlen(dot + 1) != 16) {
        return NULL;
    }
    char *end;
    const uint64_t version = strtoull(dot + 1, &end, 16);
    struct backend_event event;
    if (*end != '\0' || version == 0 ||
        backend->view_event(backend->owner, view, version - 1, &event) != 0 ||
        event.version != version) {
        return NULL;
    }
    json_t *object = api_event_join(call->codec, &event);
    if (object != NULL && (strcmp(json_text_at(object, "metadata.name"), call->name) != 0 ||
                           !call_matches(call, object))) {
        json_decref(object);
        return NULL;
    }
    return object;
}

static json_t *lease_of(struct api_call *call, const struct backend_row *node)
{
    json_t *object = api_object_join(call->api->backend, call->codec, api_resource_get(API_NODE),
                                     node, NULL);
    json_t *lease = object == NULL ? NULL : api_lease_join(call->api->backend, object);
    json_decref(object);
    return lease;
}

static json_t *read_one(struct api_call *call, struct backend_view *view)
{
    const struct backend *backend = call->api->backend;
    struct backend_row row;
    char key[LIMIT_KEY_BYTES];
    if (call->resource->id == API_LEASE) {
        CHECK(api_object_key(api_resource_get(API_NODE), "", call->name, key));
        const bool there = strcmp(call->namespace_, "kube-node-lease") == 0 &&
                           backend->view_get(backend->owner, view, bytes_text(key), &row) == 0;
        return there ? lease_of(call, &row) : NULL;
    }
    CHECK(api_object_key(call->resource, call->namespace_, call->name, key));
    if (backend->view_get(backend->owner, view, bytes_text(key), &row) == 0) {
        return call_join(call, &row);
    }
    return call->resource->id == API_EVENT ? find_event(call, view) : NULL;
}

static void get_finish(struct api_call *call, struct backend_view *view)
{
    json_t *object = read_one(call, view);
    struct api_error error = {0};
    if (object == NULL) {
        call_error_missing(call, call->name, &error);
        call_fail(call, &error);
        return;
    }
    if (call->table) {
        const struct backend *backend = call->api->backend;
        json_t *table = api_table_create(call->resource, true);
        json_put_text(json_child(table, "metadata"), "resourceVersion",
                      json_text_at(object, "metadata.resourceVersion"));
        api_table_add(table, call->resource, object, call->include,
                      backend->now_ms(backend->owner));
        json_decref(object);
        object = table;
    }
    call_answer(call, 200, object);
}

/* -- list --------------------------------------------------------------------------------------------- */

struct api_list {
    struct api_call *next;     /* in the queue */
    struct backend_view *view; /* NULL: not begun */
    uint64_t version;
    char after[LIMIT_KEY_BYTES]; /* the last key that was read */
    uint64_t event_after;
    bool rows_done;    /* edge events follow */
    bool more;         /* the list is cut: the next page begins behind `after`, or event_after */
    size_t step_bytes; /* where this step ends */
    size_t read_bytes; /* of rows */

    struct api_call *call;
    struct text items;
    json_t *table; /* NULL: a plain list */
    uint32_t count;
    size_t bytes;  /* of what the Table holds, roughly */
    int64_t now_ms;
};

static bool list_full(const struct api_list *list)
{
    return (list->call->limit != 0 && list->count >= list->call->limit) ||
           list->items.size + list->bytes >= LIMIT_API_LIST_BYTES;
}

/* object is taken */
static void list_add(struct api_list *list, json_t *object, size_t bytes)
{
    if (object != NULL && call_matches(list->call, object)) {
        if (list->table != NULL) {
            api_table_add(list->table, list->call->resource, object, list->call->include,
                          list->now_ms);
            list->bytes += list->call->include == INCLUDE_OBJECT ? 2 * bytes : 1024;
        } else {
            if (list->count > 0) {
                text_add(&list->items, ",");
            }
            json_write(&list->items, object);
        }
        list->count++;
    }
    json_decref(object);
}

/* One more of the list would be too many. */
static bool list_cut(struct api_list *list)
{
    list->more = list->more || list_full(list);
    return list->more;
}

static bool list_step_over(const struct api_list *list)
{
    return list->items.size + list->bytes + list->read_bytes >= list->step_bytes;
}

/* Read objects behind list->after, up to the end of the step. 0; BACKEND_NONE: there are no more; negative */
static int list_rows(struct api_list *list)
{
    struct api_call *call = list->call;
    const struct backend *backend = call->api->backend;
    const bool leases = call->resource->id == API_LEASE;
    char prefix[LIMIT_KEY_BYTES];
    if (leases) {
        if (call->namespace_[0] != '\0' && strcmp(call->namespace_, "kube-node-lease") != 0) {
            return BACKEND_NONE;
        }
        (void)snprintf(prefix, sizeof prefix, "/nodes/");
    } else {
        call_prefix(call, prefix);
    }
    struct backend_row row;
    while (!list_step_over(list)) {
        const int status = backend->view_next(backend->owner, list->view, bytes_text(prefix),
                                              bytes_text(list->after), &row);
        if (status != 0) {
            return status;
        }
        if (list_cut(list)) {
            return 0;
        }
        (void)snprintf(list->after, sizeof list->after, "%.*s", (int)row.key.size,
                       (const char *)row.key.data);
        list->read_bytes += row.key.size + row.wish.size; /* what is not selected is work, too */
        list_add(list, leases ? lease_of(call, &row) : call_join(call, &row), row.wish.size);
        codec_reset(call->codec);
    }
    return 0;
}

/* The same for the events of edges. */
static int list_events(struct api_list *list)
{
    const struct backend *backend = list->call->api->backend;
    struct backend_event event;
    while (!list_step_over(list)) {
        const int status =
            backend->view_event(backend->owner, list->view, list->event_after, &event);
        if (status != 0) {
            return status;
        }
        if (list_cut(list)) {
            return 0;
        }
        list->event_after = event.version;
        list->read_bytes += event.body.size;
        list_add(list, api_event_join(list->call->codec, &event), event.body.size);
        codec_reset(list->call->codec);
    }
    return 0;
}

/* The list is over: it is in no queue any more. */
static void list_release(struct api_call *call)
{
    struct api_list *list = call->list;
    const struct backend *backend = call->api->backend;
    if (list->view != NULL) {
        backend->view_close(backend->owner, list->view);
        call->api->lists_begun--;
    }
    call->api->list_count--;
    json_decref(list->table);
    text_release(&list->items);
    free(list);
    call->list = NULL;
}

/* The call is gone afterwards, and so is the list. */
static void list_answer(struct api_list *list, const char *token)
{
    struct api_call *call = list->call;
    char number[24];
    (void)snprintf(number, sizeof number, "%" PRIu64, list->version);
    if (list->table != NULL) {
        json_t *metadata = json_child(list->table, "metadata");
        json_put_text(metadata, "resourceVersion", number);
        if (token[0] != '\0') {
            json_put_text(metadata, "continue", token);
        }
        json_t *table = json_incref(list->table);
        list_release(call);
        call_answer(call, 200, table);
        return;
    }
    struct text body = {0};
    text_print(&body, "{\"kind\":\"%sList\",\"apiVersion\":\"", call->resource->kind);
    api_group_version(call->resource, &body);
    text_print(&body, "\",\"metadata\":{\"resourceVersion\":\"%s\"", number);
    if (token[0] != '\0') {
        json_t *text = json_string(token);
        text_add(&body, ",\"continue\":");
        json_write(&body, text);
        json_decref(text);
    }
    text_add(&body, "},\"items\":[");
    text_append(&body, list->items.data, list->items.size);
    text_add(&body, "]}\n");
    list_release(call);
    const struct api_client_events *events = call->events;
    void *client = call->client;
    call_free(call);
    events->answer(client, 200, "application/json", text_bytes(&body));
    text_release(&body);
}

/* "version:key" or "version:!event version". false: not one of ours. */
static bool token_read(const char *token, uint64_t *out_version, const char **out_after,
                       uint64_t *out_event)
{
    char *end;
    *out_version = strtoull(token, &end, 10);
    if (*end != ':' || *out_version == 0) {
        return false;
    }
    *out_after = end + 1;
    *out_event = 0;
    if (end[1] == '!') {
        *out_event = strtoull(end + 2, &end, 10);
        return *end == '\0';
    }
    return strlen(*out_after) < LIMIT_KEY_BYTES;
}

static void list_fail(struct api_call *call, struct api_error *error)
{
    list_release(call);
    call_fail(call, error);
}

/* Open its view, at the place that a token says. false: it was answered. */
static bool list_begin(struct api_call *call)
{
    struct api_list *list = call->list;
    const struct backend *backend = call->api->backend;
    struct api_error error = {0};
    const char *after = "";
    const int status = backend->view_open(backend->owner, &list->view, &list->version);
    if (status != 0) {
        call_error_status(call, status, &error);
        list_fail(call, &error);
        return false;
    }
    call->api->lists_begun++;
    if (call->token != NULL &&
        !token_read(call->token, &list->version, &after, &list->event_after)) {
        api_error_set(&error, 400, "continue key is not valid");
        list_fail(call, &error);
        return false;
    }
    list->rows_done = after[0] == '!';
    (void)snprintf(list->after, sizeof list->after, "%s", list->rows_done ? "" : after);
    list->now_ms = backend->now_ms(backend->owner);
    if (call->table) {
        list->table = api_table_create(call->resource, true);
    }
    return true;
}

/* Clients have not taken what they were answered: another list would only come on top. */
static bool list_answers_wait(const struct api *api)
{
    return api->answer_bytes != NULL &&
           api->answer_bytes(api->answer_owner) >= LIMIT_API_ANSWERS_BYTES;
}

/* Read on for one step. false: it was answered, the call is gone. */
static bool list_step(struct api_call *call)
{
    struct api_list *list = call->list;
    struct api_error error = {0};
    if (call->gone) {
        api_error_set(&error, 503, "the client has gone");
        list_fail(call, &error);
        return false;
    }
    if (list->view == NULL && list_answers_wait(call->api)) {
        api_error_set(&error, 429, "too many list requests, please try again later");
        error.retry_after_s = 1;
        list_fail(call, &error);
        return false;
    }
    if (list->view == NULL && !list_begin(call)) {
        return false;
    }
    list->step_bytes =
        list->items.size + list->bytes + list->read_bytes + LIMIT_API_LIST_STEP_BYTES;
    int status = 0;
    if (!list->rows_done) {
        status = list_rows(list);
        list->rows_done = status == BACKEND_NONE;
    }
    if (list->rows_done) {
        status = call->resource->id == API_EVENT ? list_events(list) : BACKEND_NONE;
    }
    if (status < 0) {
        call_error_status(call, status, &error);
        list_fail(call, &error);
        return false;
    }
    if (status != BACKEND_NONE && !list->more) {
        return true;
    }
    char token[LIMIT_KEY_BYTES + 32] = "";
    if (list->more && list->rows_done) {
        (void)snprintf(token, sizeof token, "%" PRIu64 ":!%" PRIu64, list->version,
                       list->event_after);
    } else if (list->more) {
        (void)snprintf(token, sizeof token, "%" PRIu64 ":%s", list->version, list->after);
    }
    list_answer(list, token);
    return false;
}

static void list_enter(struct api_call *call)
{
    struct api *api = call->api;
    call->list->next = NULL;
    if (api->list_last == NULL) {
        api->list_first = call;
    } else {
        api->list_last->list->next = call;
    }
    api->list_last = call;
}

static void list_start(struct api_call *call)
{
    call->list = calloc(1, sizeof *call->list);
    CHECK(call->list != NULL);
    call->list->call = call;
    call->api->list_count++;
    list_enter(call);
}

/* Take the next to have a step out of the queue: one that has begun, or the first while few have. */
static struct api_call *list_leave(struct api *api)
{
    struct api_call *before = NULL;
    struct api_call *call = api->list_first;
    while (call != NULL && call->list->view == NULL && api->lists_begun >= LIMIT_API_LISTS) {
        before = call;
        call = call->list->next;
    }
    CHECK(call != NULL); /* as many as have begun are in the queue */
    if (before == NULL) {
        api->list_first = call->list->next;
    } else {
        before->list->next = call->list->next;
    }
    if (api->list_last == call) {
        api->list_last = before;
    }
    return call;
}

bool api_lists_run(struct api *api)
{
    for (uint32_t i = 0; i < LIMIT_API_LIST_STEPS && api->list_first != NULL; i++) {
        struct api_call *call = list_leave(api);
        if (list_step(call)) {
            list_enter(call);
        }
    }
    return api->list_first != NULL;
}

void api_lists_stop(struct api *api)
{
    while (api->list_first != NULL) {
        struct api_call *call = api->list_first;
        struct api_error error = {0};
        api->list_first = call->list->next;
        api_error_set(&error, 503, "this cloudcore is shutting down");
        error.retry_after_s = 1;
        list_fail(call, &error);
    }
    api->list_last = NULL;
}

/* -- the way there -------------------------------------------------------------------------------------- */

static void read_finish(struct api_call *call)
{
    if (call->verb == CALL_LIST) {
        list_start(call);
        return;
    }
    const struct backend *backend = call->api->backend;
    struct backend_view *view;
    uint64_t version;
    const int status = backend->view_open(backend->owner, &view, &version);
    if (status != 0) {
        struct api_error error = {0};
        call_error_status(call, status, &error);
        call_fail(call, &error);
        return;
    }
    get_finish(call, view);
    backend->view_close(backend->owner, view);
}

static void read_on_fresh(void *context, int status)
{
    struct api_call *call = context;
    call->waiting = false;
    if (status != 0) {
        struct api_error error = {0};
        call_error_status(call, status, &error);
        call_fail(call, &error);
        return;
    }
    read_finish(call);
}

void api_read_start(struct api_call *call)
{
    const struct backend *backend = call->api->backend;
    if (call->version_given && call->version == 0) {
        read_finish(call); /* any version will do: what this replica has */
        return;
    }
    call->waiting = true;
    const int status = backend->fresh(backend->owner, read_on_fresh, call);
    if (status != 0) {
        call->waiting = false;
        struct api_error error = {0};
        call_error_status(call, status, &error);
        call_fail(call, &error);
    }
}
