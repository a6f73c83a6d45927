/* create, update, patch, delete.
 *
 *   1. create: check, propose with PUT_CREATE.
 *      the others: ask for a read point, read the row, compute what it should become from what it is.
 *   2. Propose with the version that was read as precondition.
 *   3. Somebody else was faster: read and compute again, LIMIT_API_WRITE_RETRIES times. What the client said
 *      about versions is checked in each round, so a conflict that is the client's ends as 409.
 *
 * Nothing is proposed when nothing would change: the resource version stays and no watch hears of it.
 */
#include "nodes/cloud/api_call.h"

#include "nodes/cloud/api_device.h"
#include "nodes/cloud/api_patch.h"
#include "schemas/check.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static void write_attempt(struct api_call *call);
static void collection_done(struct api_call *call);

/* -- checking fields ---------------------------------------------------------------------------------- */

static void warn(const struct api_call *call, const char *what)
{
    struct text header = {0};
    text_add(&header, "299 - \"");
    for (const char *c = what; *c != '\0'; c++) {
        text_print(&header, "%s%c", *c == '"' || *c == '\\' ? "\\" : "", *c);
    }
    text_add(&header, "\"");
    call->events->header(call->client, "Warning", header.data);
    text_release(&header);
}

/* Types are always checked; unknown fields as the client wants. `old` is what was stored before and not
 * complained about again; may be NULL. */
static bool check_fields(const struct api_call *call, const json_t *object, const json_t *old,
                         struct api_error *error)
{
    struct text unknown = {0};
    struct text before = {0};
    bool fine = schema_check(call->resource, object, &unknown, error);
    if (fine && old != NULL) {
        struct api_error ignored = {0};
        json_t *seen = json_deep_copy(old);
        if (api_device_kind(call->resource)) {
            api_device_show(call->resource, seen);
        }
        (void)schema_check(call->resource, seen, &before, &ignored);
        api_error_release(&ignored);
        json_decref(seen);
    }
    const bool news =
        unknown.size > 0 && (before.size == 0 || strcmp(before.data, unknown.data) != 0);
    if (fine && news && call->validation == VALIDATE_STRICT) {
        api_error_set(
            error, 400, "%s in version \"%s\" cannot be handled as a %s: strict decoding error: %s",
            call->resource->kind, call->resource->version, call->resource->kind, unknown.data);
        fine = false;
    } else if (fine && news && call->validation == VALIDATE_WARN && call->attempts == 0) {
        warn(call, unknown.data);
    }
    text_release(&unknown);
    text_release(&before);
    return fine;
}

static void advice_warn(void *context, const char *text)
{
    warn(context, text);
}

/* A Device is checked against what it refers to, once it is what would be stored. */
static bool check_refers(struct api_call *call, const json_t *object, const json_t *old,
                         struct api_error *error)
{
    const struct api_resource *stored = api_resource_stored(call->resource);
    if (stored->id != API_DEVICE || call->status) {
        return true;
    }
    const struct api_device_advice advice = {.warn = advice_warn, .context = call};
    const bool tell = call->attempts == 0;
    api_device_fit(call->api->backend, call->resource, object, old, error, tell ? &advice : NULL);
    api_error_invalid(error, stored->group, stored->kind, json_text_at(object, "metadata.name"));
    return error->code == 0;
}

/* -- ending ------------------------------------------------------------------------------------------- */

static void fail_status(struct api_call *call, int status)
{
    struct api_error error = {0};
    call_error_status(call, status, &error);
    call_fail(call, &error);
}

static void finish(struct api_call *call)
{
    if (call->verb == CALL_DELETE_COLLECTION) {
        json_decref(call->result);
        call->result = NULL;
        collection_done(call);
        return;
    }
    json_t *result = call->result;
    call->result = NULL;
    call_answer(call, call->success, result);
}

static void retry_or_conflict(struct api_call *call)
{
    call->attempts++;
    if (call->attempts < LIMIT_API_WRITE_RETRIES) {
        write_attempt(call);
        return;
    }
    struct api_error error = {0};
    const struct api_resource *r = call->resource;
    api_error_set(&error, 409,
                  "Operation cannot be fulfilled on %s%s%s \"%s\": the object has been modified; "
                  "please apply your changes to the latest version and try again",
                  r->resource, r->group[0] == '\0' ? "" : ".", r->group, call->name);
    api_error_about(&error, r->group, r->resource, call->name);
    call_fail(call, &error);
}

static void fail_exists(struct api_call *call)
{
    const struct api_resource *r = call->resource;
    struct api_error error = {0};
    const char *name = json_text_at(call->result, "metadata.name");
    api_error_set(&error, 409, "%s%s%s \"%s\" already exists", r->resource,
                  r->group[0] == '\0' ? "" : ".", r->group, name);
    error.reason = "AlreadyExists";
    api_error_about(&error, r->group, r->resource, name);
    call_fail(call, &error);
}

static void fail_namespace(struct api_call *call, bool terminating)
{
    struct api_error error = {0};
    if (terminating) {
        const char *name = json_text_at(call->result, "metadata.name");
        api_error_set(&error, 403,
                      "%s \"%s\" is forbidden: unable to create new content in namespace %s "
                      "because it is being terminated",
                      call->resource->resource, name, call->namespace_);
        api_error_cause(&error, "NamespaceTerminating", "metadata.namespace",
                        "namespace %s is being terminated", call->namespace_);
        api_error_about(&error, call->resource->group, call->resource->resource, name);
    } else {
        api_error_set(&error, 404, "namespaces \"%s\" not found", call->namespace_);
        api_error_about(&error, "", "namespaces", call->namespace_);
    }
    call_fail(call, &error);
}

static void fail_other(struct api_call *call, enum backend_outcome outcome, uint64_t value)
{
    struct api_error error = {0};
    if (outcome == BACKEND_REFUSED_LIMIT) {
        api_error_set(&error, 403,
                      "%s is forbidden: the cluster holds as many as it may (%" PRIu64 ")",
                      call->resource->resource, value);
    } else if (outcome == BACKEND_REFUSED_NOT_EMPTY) {
        api_error_set(&error, 409, "the namespace still holds %" PRIu64 " objects", value);
    } else {
        api_error_set(&error, 500, "the state refused the record");
    }
    call_fail(call, &error);
}

static void on_written(void *context, int status, enum backend_outcome outcome, uint64_t value)
{
    struct api_call *call = context;
    call->waiting = false;
    if (status != 0) {
        fail_status(call, status);
        return;
    }
    switch (outcome) {
    case BACKEND_ACCEPTED:
        if (!call->result_is_status) {
            api_object_set_version(call->result, value);
        }
        finish(call);
        break;
    case BACKEND_REFUSED_EXISTS:
        if (call->verb == CALL_CREATE) {
            fail_exists(call);
        } else {
            retry_or_conflict(call); /* an apply that created: somebody else did meanwhile */
        }
        break;
    case BACKEND_REFUSED_MISSING:
    case BACKEND_REFUSED_VERSION:
    case BACKEND_REFUSED_UID:
    case BACKEND_REFUSED_FINALIZERS:
        retry_or_conflict(call);
        break;
    case BACKEND_REFUSED_NO_NAMESPACE:
    case BACKEND_REFUSED_TERMINATING:
        fail_namespace(call, outcome == BACKEND_REFUSED_TERMINATING);
        break;
    case BACKEND_REFUSED_NOT_EMPTY:
    case BACKEND_REFUSED_LIMIT:
    case BACKEND_REFUSED_OTHER:
        fail_other(call, outcome, value);
        break;
    }
}

/* Send a record off; call->result is what will be answered. */
static void propose(struct api_call *call, int built, struct bytes record)
{
    const struct backend *backend = call->api->backend;
    int status = built;
    if (status == 0) {
        call->waiting = true;
        status = backend->write(backend->owner, record, on_written, call);
    }
    codec_reset(call->codec);
    if (status != 0) {
        call->waiting = false;
        fail_status(call, status);
    }
}

static void set_result(struct api_call *call, json_t *taken, bool is_status)
{
    json_decref(call->result);
    call->result = taken;
    call->result_is_status = is_status;
}

/* -- create ------------------------------------------------------------------------------------------- */

/* The wish is ready: `object`. Borrowed. */
static void create_propose(struct api_call *call, const json_t *object)
{
    const struct backend *backend = call->api->backend;
    const struct backend_row none = {0};
    set_result(call, api_object_join(backend, call->codec, call->resource, &none, object), false);
    call->success = 201;
    struct bytes record = {0};
    const int built = api_object_put(backend, call->codec, call->user, call->resource, object, NULL, PUT_CREATE,
                                     0, "", &record);
    propose(call, built, record);
}

/* What the state would say to a create, for a dry run. */
static void create_dry(struct api_call *call, struct backend_view *view)
{
    const struct backend *backend = call->api->backend;
    struct backend_row row;
    char key[LIMIT_KEY_BYTES];
    (void)json_object_del(json_object_get(call->result, "metadata"), "resourceVersion");
    CHECK(api_object_key(call->resource, call->namespace_,
                         json_text_at(call->result, "metadata.name"), key));
    if (backend->view_get(backend->owner, view, bytes_text(key), &row) == 0) {
        fail_exists(call);
        return;
    }
    if (call->namespace_[0] != '\0') {
        CHECK(api_object_key(api_resource_get(API_NAMESPACE), "", call->namespace_, key));
        if (backend->view_get(backend->owner, view, bytes_text(key), &row) != 0) {
            fail_namespace(call, false);
            return;
        }
    }
    finish(call);
}

/* -- what an object should become ---------------------------------------------------------------------- */

static bool patch_apply(const struct api_call *call, json_t *object, struct api_error *error)
{
    switch (call->patch) {
    case CALL_PATCH_JSON:
        return api_patch_json(object, call->body, error);
    case CALL_PATCH_MERGE:
        return api_patch_merge(object, call->body, error);
    case CALL_PATCH_APPLY:
        if (json_array_size(json_at(call->body, "metadata.managedFields")) > 0) {
            api_error_set(error, 400, "metadata.managedFields must be nil");
            return false;
        }
        return api_patch_strategic(object, call->body, api_schema(call->resource->id), error);
    case CALL_PATCH_STRATEGIC:
        return api_patch_strategic(object, call->body, api_schema(call->resource->id), error);
    }
    return false;
}

/* PUT or PATCH of an object that is there. */
static void update_row(struct api_call *call, const struct backend_row *row)
{
    const struct backend *backend = call->api->backend;
    struct api_error error = {0};
    json_t *wish = api_object_wish(call->codec, row);
    json_t *joined = wish == NULL ? NULL : call_join(call, row);
    if (joined == NULL) {
        json_decref(wish);
        fail_status(call, STATUS_CORRUPT);
        return;
    }
    json_t *object;
    bool fine = true;
    if (call->verb == CALL_UPDATE) {
        object = json_deep_copy(call->body);
    } else {
        object = json_deep_copy(joined);
        fine = patch_apply(call, object, &error);
    }
    fine = fine && check_fields(call, object, wish, &error) &&
           api_object_update(call->resource, call->namespace_, call->name, joined, wish, object,
                             call->status, &error) &&
           check_refers(call, object, wish, &error);
    if (!fine) {
        call_fail(call, &error);
    } else if (json_equal(object, wish)) {
        set_result(call, json_incref(joined), false);
        finish(call);
    } else {
        set_result(call, api_object_join(backend, call->codec, call->resource, row, object), false);
        if (call->dry_run) {
            finish(call);
        } else {
            struct bytes record = {0};
            const int built =
                api_object_put(backend, call->codec, call->user, call->resource, object, row, PUT_UPDATE,
                               row->wish_version, json_text_at(wish, "metadata.uid"), &record);
            propose(call, built, record);
        }
    }
    json_decref(object);
    json_decref(joined);
    json_decref(wish);
}

/* Apply of an object that is not there. */
static void apply_create(struct api_call *call, struct backend_view *view)
{
    struct api_error error = {0};
    json_t *object = json_deep_copy(call->body);
    json_default(json_child(object, "metadata"), "name", json_string(call->name));
    bool fine = check_fields(call, object, NULL, &error);
    if (fine && strcmp(json_text_at(object, "metadata.name"), call->name) != 0) {
        api_error_set(&error, 400, "the name of the object does not match the name on the URL");
        fine = false;
    }
    fine = fine &&
           api_object_create(call->api->backend, call->resource, call->namespace_, object, &error) &&
           check_refers(call, object, NULL, &error);
    if (!fine) {
        call_fail(call, &error);
    } else if (call->dry_run) {
        const struct backend_row none = {0};
        call->success = 201;
        set_result(call,
                   api_object_join(call->api->backend, call->codec, call->resource, &none, object),
                   false);
        create_dry(call, view);
    } else {
        create_propose(call, object);
    }
    json_decref(object);
}

/* -- delete --------------------------------------------------------------------------------------------- */

static json_t *deleted_status(const struct api_call *call, const json_t *wish)
{
    json_t *status = json_pack("{s:s, s:s, s:{}, s:s}", "kind", "Status", "apiVersion", "v1",
                               "metadata", "status", "Success");
    json_t *details = json_child(status, "details");
    json_put_text(details, "name", json_text_at(wish, "metadata.name"));
    if (call->resource->group[0] != '\0') {
        json_put_text(details, "group", call->resource->group);
    }
    json_put_text(details, "kind", call->resource->resource);
    json_put_text(details, "uid", json_text_at(wish, "metadata.uid"));
    return status;
}

static bool delete_allowed(const struct api_call *call, const json_t *joined,
                           struct api_error *error)
{
    const char *uid = json_text_at(call->body, "preconditions.uid");
    const char *version = json_text_at(call->body, "preconditions.resourceVersion");
    const char *have_uid = json_text_at(joined, "metadata.uid");
    const char *have_version = json_text_at(joined, "metadata.resourceVersion");
    const char *policy = json_text_at(call->body, "propagationPolicy");
    const struct api_resource *r = call->resource;
    const char *name = json_text_at(joined, "metadata.name");
    if ((uid[0] != '\0' && strcmp(uid, have_uid) != 0) ||
        (version[0] != '\0' && strcmp(version, have_version) != 0)) {
        api_error_set(error, 409,
                      "Operation cannot be fulfilled on %s \"%s\": Precondition failed: %s in "
                      "precondition: %s, %s in object meta: %s",
                      r->resource, name, uid[0] != '\0' ? "UID" : "ResourceVersion",
                      uid[0] != '\0' ? uid : version, uid[0] != '\0' ? "UID" : "ResourceVersion",
                      uid[0] != '\0' ? have_uid : have_version);
        api_error_about(error, r->group, r->resource, name);
        return false;
    }
    if (policy[0] != '\0' && strcmp(policy, "Background") != 0 &&
        strcmp(policy, "Foreground") != 0 && strcmp(policy, "Orphan") != 0) {
        api_error_cause(error, "FieldValueNotSupported", "propagationPolicy",
                        "Unsupported value: \"%.40s\": supported values: \"Background\", "
                        "\"Foreground\", \"Orphan\"",
                        policy);
        api_error_invalid(error, "", "DeleteOptions", "");
        return false;
    }
    if (r->id == API_NAMESPACE &&
        (strcmp(name, "default") == 0 || strcmp(name, "kube-system") == 0 ||
         strcmp(name, "kube-public") == 0)) {
        api_error_set(error, 403,
                      "namespaces \"%s\" is forbidden: this namespace may not be deleted", name);
        api_error_about(error, "", "namespaces", name);
        return false;
    }
    return true;
}

/* Does an edge have to stop this pod before its object may go? */
static bool pod_bound(const struct api_call *call, struct backend_view *view, const json_t *wish)
{
    const struct backend *backend = call->api->backend;
    const char *node = json_text_at(wish, "spec.nodeName");
    char key[LIMIT_KEY_BYTES];
    struct backend_row row;
    return node[0] != '\0' && strlen(node) <= LIMIT_NAME_BYTES &&
           api_object_key(api_resource_get(API_NODE), "", node, key) &&
           backend->view_get(backend->owner, view, bytes_text(key), &row) == 0;
}

struct deletion {
    bool remove;  /* at once; otherwise marked */
    bool nothing; /* it is marked already */
    int64_t grace_s;
};

static struct deletion delete_decide(const struct api_call *call, const json_t *wish, bool bound)
{
    const bool marked = json_at(wish, "metadata.deletionTimestamp") != NULL;
    const bool held = json_array_size(json_at(wish, "metadata.finalizers")) > 0 ||
                      call->resource->id == API_NAMESPACE;
    int64_t grace = 0;
    if (call->resource->id == API_POD && bound) {
        grace = json_number_at(call->body, "gracePeriodSeconds",
                               json_number_at(wish, "spec.terminationGracePeriodSeconds", 30));
        grace = grace < 0 ? 1 : grace > INT32_MAX ? INT32_MAX : grace;
    }
    const int64_t before = json_number_at(wish, "metadata.deletionGracePeriodSeconds", 0);
    return (struct deletion){
        .remove = !held && grace == 0,
        .nothing = marked && grace >= before, /* a second delete may only shorten it */
        .grace_s = grace,
    };
}

static void delete_row(struct api_call *call, struct backend_view *view, struct backend_row *row)
{
    const struct backend *backend = call->api->backend;
    const uint64_t version = row->wish_version;
    struct api_error error = {0};
    json_t *wish = api_object_wish(call->codec, row);
    json_t *joined = wish == NULL ? NULL : call_join(call, row);
    if (joined == NULL) {
        json_decref(wish);
        fail_status(call, STATUS_CORRUPT);
        return;
    }
    const char *uid = json_text_at(wish, "metadata.uid");
    const bool dry = call->dry_run || json_array_size(json_object_get(call->body, "dryRun")) > 0;
    struct bytes record = {0};
    if (!delete_allowed(call, joined, &error)) {
        call_fail(call, &error);
        goto out;
    }
    const bool bound = call->resource->id == API_POD && !row->ended && pod_bound(call, view, wish);
    const struct deletion deletion = delete_decide(call, wish, bound);
    if (deletion.remove) {
        set_result(call, deleted_status(call, wish), true);
        if (dry) {
            finish(call);
        } else {
            const int built = api_object_remove(backend, call->codec, call->user, call->key,
                                                version, uid, &record);
            propose(call, built, record);
        }
    } else if (deletion.nothing) {
        set_result(call, json_incref(joined), false);
        finish(call);
    } else {
        api_object_mark(wish, backend->now_ms(backend->owner), deletion.grace_s);
        /* the facts of the row were read into `joined`; the row itself may be gone by now */
        json_t *shown = json_deep_copy(joined);
        json_t *metadata = json_copy(json_object_get(wish, "metadata"));
        json_put_text(metadata, "resourceVersion",
                      json_text_at(joined, "metadata.resourceVersion"));
        CHECK(json_object_set_new(shown, "metadata", metadata) == 0);
        if (call->resource->id == API_NAMESPACE) {
            json_put_text(json_child(shown, "status"), "phase", "Terminating");
        }
        set_result(call, shown, false);
        if (dry) {
            finish(call);
        } else {
            const int built = api_object_put(backend, call->codec, call->user, call->resource, wish, row,
                                             PUT_UPDATE, version, uid, &record);
            propose(call, built, record);
        }
    }
out:
    json_decref(joined);
    json_decref(wish);
}

/* -- one round -------------------------------------------------------------------------------------------- */

/* Is it an edge's event, which nobody writes to? */
static bool edge_event_named(const struct api_call *call, struct backend_view *view)
{
    const struct backend *backend = call->api->backend;
    const char *dot = strrchr(call->name, '.');
    struct backend_event event;
    if (call->resource->id != API_EVENT || dot == NULL || strlen(dot + 1) != 16) {
        return false;
    }
    const uint64_t version = strtoull(dot + 1, NULL, 16);
    return version > 0 && backend->view_event(backend->owner, view, version - 1, &event) == 0 &&
           event.version == version;
}

static void attempt_missing(struct api_call *call, struct backend_view *view)
{
    struct api_error error = {0};
    if (call->verb == CALL_DELETE_COLLECTION) {
        collection_done(call); /* gone already: as wanted */
    } else if (call->verb == CALL_PATCH && call->patch == CALL_PATCH_APPLY && !call->status) {
        apply_create(call, view);
    } else if (edge_event_named(call, view)) {
        api_error_set(&error, 405,
                      "an event that an edge reported cannot be changed; it ends by "
                      "its age");
        call_fail(call, &error);
    } else {
        call_error_missing(call, call->name, &error);
        call_fail(call, &error);
    }
}

static void write_attempt(struct api_call *call)
{
    const struct backend *backend = call->api->backend;
    struct backend_view *view;
    uint64_t version;
    int status = backend->view_open(backend->owner, &view, &version);
    if (status != 0) {
        fail_status(call, status);
        return;
    }
    if (call->verb == CALL_CREATE) {
        create_dry(call, view);
        backend->view_close(backend->owner, view);
        return;
    }
    CHECK(api_object_key(call->resource, call->namespace_, call->name, call->key));
    struct backend_row row;
    status = backend->view_get(backend->owner, view, bytes_text(call->key), &row);
    if (status < 0) {
        fail_status(call, status);
    } else if (status == BACKEND_NONE) {
        attempt_missing(call, view);
    } else if (call->verb == CALL_DELETE || call->verb == CALL_DELETE_COLLECTION) {
        delete_row(call, view, &row);
    } else {
        update_row(call, &row);
    }
    backend->view_close(backend->owner, view);
}

/* -- deletecollection ------------------------------------------------------------------------------------- */

/* Delete one after the other. An object that needs no write (it is marked already) is done at once; a loop
 * goes on then, since a collection may hold more objects than a stack has room. */
static void collection_next(struct api_call *call)
{
    struct api *api = call->api;
    do {
        if (call->name_at == call->name_count) {
            json_t *status = json_pack("{s:s, s:s, s:{}, s:s}", "kind", "Status", "apiVersion",
                                       "v1", "metadata", "status", "Success");
            call_answer(call, 200, status);
            return;
        }
        free(call->name);
        call->name = call->names[call->name_at];
        call->names[call->name_at] = NULL;
        call->name_at++;
        call->attempts = 0;
        api->collecting = call;
        api->collected = false;
        write_attempt(call);
        api->collecting = NULL;
    } while (api->collected); /* otherwise it waits for the backend, or is answered and gone */
}

static void collection_done(struct api_call *call)
{
    if (call->api->collecting == call) {
        call->api->collected = true; /* collection_next is on the stack and goes on */
    } else {
        collection_next(call);
    }
}

/* Note the names of what is there now; they are deleted one after the other. */
static void collection_start(struct api_call *call)
{
    const struct backend *backend = call->api->backend;
    struct backend_view *view;
    uint64_t version;
    const int status = backend->view_open(backend->owner, &view, &version);
    if (status != 0) {
        fail_status(call, status);
        return;
    }
    char prefix[LIMIT_KEY_BYTES];
    char after[LIMIT_KEY_BYTES] = "";
    call_prefix(call, prefix);
    struct backend_row row;
    while (backend->view_next(backend->owner, view, bytes_text(prefix), bytes_text(after), &row) ==
           0) {
        (void)snprintf(after, sizeof after, "%.*s", (int)row.key.size, (const char *)row.key.data);
        json_t *object = call_join(call, &row);
        if (object != NULL && call_matches(call, object)) {
            char **names = realloc(call->names, (call->name_count + 1) * sizeof *names);
            CHECK(names != NULL);
            call->names = names;
            names[call->name_count] = strdup(json_text_at(object, "metadata.name"));
            CHECK(names[call->name_count] != NULL);
            call->name_count++;
        }
        json_decref(object);
        codec_reset(call->codec);
    }
    backend->view_close(backend->owner, view);
    collection_next(call);
}

/* -- the way there ------------------------------------------------------------------------------------------ */

static void write_on_fresh(void *context, int status)
{
    struct api_call *call = context;
    call->waiting = false;
    if (status != 0) {
        fail_status(call, status);
    } else if (call->verb == CALL_DELETE_COLLECTION) {
        collection_start(call);
    } else {
        write_attempt(call);
    }
}

static void write_fresh(struct api_call *call)
{
    const struct backend *backend = call->api->backend;
    call->waiting = true;
    const int status = backend->fresh(backend->owner, write_on_fresh, call);
    if (status != 0) {
        call->waiting = false;
        fail_status(call, status);
    }
}

void api_write_start(struct api_call *call)
{
    if (call->verb != CALL_CREATE) {
        write_fresh(call);
        return;
    }
    struct api_error error = {0};
    if (!check_fields(call, call->body, NULL, &error) ||
        !api_object_create(call->api->backend, call->resource, call->namespace_, call->body,
                           &error) ||
        !check_refers(call, call->body, NULL, &error)) {
        call_fail(call, &error);
        return;
    }
    if (call->dry_run) {
        const struct backend_row none = {0};
        call->success = 201;
        set_result(
            call,
            api_object_join(call->api->backend, call->codec, call->resource, &none, call->body),
            false);
        write_fresh(call);
        return;
    }
    create_propose(call, call->body);
}
