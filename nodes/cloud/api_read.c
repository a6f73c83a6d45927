/* get and list.
 *
 *   1. Unless resourceVersion=0 was given, ask the leader for a read point (backend fresh).
 *   2. Open a view, read the row, or walk the rows under the prefix of the collection.
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

struct list {
    struct api_call *call;
    struct text items;
    json_t *table; /* NULL: a plain list */
    uint32_t count;
    size_t bytes;  /* of what the Table holds, roughly */
    int64_t now_ms;
};

static bool list_full(const struct list *list)
{
    return (list->call->limit != 0 && list->count >= list->call->limit) ||
           list->items.size + list->bytes >= LIMIT_API_LIST_BYTES;
}

/* object is taken */
static void list_add(struct list *list, json_t *object, size_t bytes)
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

/* Objects after `after`. Answers whether the list is full and there may be more; *out_token the place. */
static int list_rows(struct list *list, struct backend_view *view, const char *after,
                     char token[LIMIT_KEY_BYTES], bool *out_more)
{
    struct api_call *call = list->call;
    const struct backend *backend = call->api->backend;
    const bool leases = call->resource->id == API_LEASE;
    char prefix[LIMIT_KEY_BYTES];
    if (leases) {
        if (call->namespace_[0] != '\0' && strcmp(call->namespace_, "kube-node-lease") != 0) {
            return 0;
        }
        (void)snprintf(prefix, sizeof prefix, "/nodes/");
    } else {
        call_prefix(call, prefix);
    }
    (void)snprintf(token, LIMIT_KEY_BYTES, "%s", after);
    struct backend_row row;
    for (;;) {
        const int status = backend->view_next(backend->owner, view, bytes_text(prefix),
                                              bytes_text(token), &row);
        if (status != 0) {
            return status == BACKEND_NONE ? 0 : status;
        }
        if (list_full(list)) {
            *out_more = true;
            return 0;
        }
        (void)snprintf(token, LIMIT_KEY_BYTES, "%.*s", (int)row.key.size,
                       (const char *)row.key.data);
        list_add(list, leases ? lease_of(call, &row) : call_join(call, &row), row.wish.size);
        codec_reset(call->codec);
    }
}

/* Edge events after `after`. */
static int list_events(struct list *list, struct backend_view *view, uint64_t after,
                       uint64_t *out_token, bool *out_more)
{
    const struct backend *backend = list->call->api->backend;
    *out_token = after;
    struct backend_event event;
    for (;;) {
        const int status = backend->view_event(backend->owner, view, *out_token, &event);
        if (status != 0) {
            return status == BACKEND_NONE ? 0 : status;
        }
        if (list_full(list)) {
            *out_more = true;
            return 0;
        }
        *out_token = event.version;
        list_add(list, api_event_join(list->call->codec, &event), event.body.size);
        codec_reset(list->call->codec);
    }
}

static void list_answer(struct list *list, uint64_t version, const char *token)
{
    struct api_call *call = list->call;
    char number[24];
    (void)snprintf(number, sizeof number, "%" PRIu64, version);
    if (list->table != NULL) {
        json_t *metadata = json_child(list->table, "metadata");
        json_put_text(metadata, "resourceVersion", number);
        if (token[0] != '\0') {
            json_put_text(metadata, "continue", token);
        }
        json_t *table = list->table;
        text_release(&list->items);
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
    text_release(&list->items);
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

static void list_finish(struct api_call *call, struct backend_view *view, uint64_t version)
{
    const struct backend *backend = call->api->backend;
    struct api_error error = {0};
    const char *after = "";
    uint64_t event_after = 0;
    if (call->token != NULL && !token_read(call->token, &version, &after, &event_after)) {
        api_error_set(&error, 400, "continue key is not valid");
        call_fail(call, &error);
        return;
    }
    struct list list = {.call = call, .now_ms = backend->now_ms(backend->owner)};
    if (call->table) {
        list.table = api_table_create(call->resource, true);
    }
    bool more = false;
    char token[LIMIT_KEY_BYTES + 32] = "";
    char key[LIMIT_KEY_BYTES];
    int status = 0;
    if (after[0] != '!') {
        status = list_rows(&list, view, after, key, &more);
        if (more) {
            (void)snprintf(token, sizeof token, "%" PRIu64 ":%s", version, key);
        }
    }
    if (status == 0 && !more && call->resource->id == API_EVENT) {
        uint64_t reached;
        status = list_events(&list, view, event_after, &reached, &more);
        if (more) {
            (void)snprintf(token, sizeof token, "%" PRIu64 ":!%" PRIu64, version, reached);
        }
    }
    if (status != 0) {
        json_decref(list.table);
        text_release(&list.items);
        call_error_status(call, status, &error);
        call_fail(call, &error);
        return;
    }
    list_answer(&list, version, token);
}

/* -- the way there -------------------------------------------------------------------------------------- */

static void read_finish(struct api_call *call)
{
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
    if (call->verb == CALL_GET) {
        get_finish(call, view);
    } else {
        list_finish(call, view, version);
    }
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
