#include "nodes/cloud/api_call.h"

#include "nodes/cloud/api_protobuf.h"
#include "schemas/check.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

/* -- the life of the door and of a call --------------------------------------------------------------- */

struct api *api_open(const struct backend *backend)
{
    struct api *api = calloc(1, sizeof *api);
    CHECK(api != NULL);
    api->backend = backend;
    api->told = backend->version(backend->owner);
    api_openapi_v2(&api->openapi_v2);
    return api;
}

void api_leave(struct api *api)
{
    api->leaving = true;
}

void api_stop(struct api *api)
{
    api->leaving = true;
    api->stopping = true;
    api_end_watches(api);
}

void api_end_watches(struct api *api)
{
    struct api_call *next;
    for (struct api_call *call = api->calls; call != NULL; call = next) {
        next = call->next;
        if (call->watch != NULL) {
            api_watch_stop(call);
        }
    }
    api_lists_stop(api);
}

bool api_idle(const struct api *api)
{
    return api->calls == NULL;
}

void api_close(struct api *api)
{
    CHECK(api->calls == NULL);
    text_release(&api->openapi_v2);
    free(api);
}

void api_bound_answers(struct api *api, size_t (*answer_bytes)(void *owner), void *owner)
{
    api->answer_bytes = answer_bytes;
    api->answer_owner = owner;
}

uint32_t api_watch_count(const struct api *api)
{
    return api->watch_count;
}

uint32_t api_list_count(const struct api *api)
{
    return api->list_count;
}

size_t api_watch_bytes(const struct api *api)
{
    return api->watch_bytes;
}

static struct api_call *call_create(struct api *api, const struct api_client_events *events,
                                    void *client)
{
    struct api_call *call = calloc(1, sizeof *call);
    CHECK(call != NULL);
    call->api = api;
    call->events = events;
    call->client = client;
    call->codec = codec_create();
    call->success = 200;
    call->next = api->calls;
    if (call->next != NULL) {
        call->next->previous = call;
    }
    api->calls = call;
    api->call_count++;
    return call;
}

void call_free(struct api_call *call)
{
    CHECK(!call->waiting);
    CHECK(call->watch == NULL);
    CHECK(call->list == NULL);
    if (call->previous != NULL) {
        call->previous->next = call->next;
    } else {
        call->api->calls = call->next;
    }
    if (call->next != NULL) {
        call->next->previous = call->previous;
    }
    call->api->call_count--;
    for (uint32_t i = 0; i < call->name_count; i++) {
        free(call->names[i]);
    }
    free(call->names);
    api_select_release(&call->labels);
    api_select_release(&call->fields);
    json_decref(call->body);
    json_decref(call->result);
    codec_destroy(call->codec);
    free(call->namespace_);
    free(call->name);
    free(call->token);
    free(call);
}

static void answer_json(const struct api_client_events *events, void *client, uint32_t status,
                        const char *type, json_t *taken)
{
    struct text text = {0};
    json_write(&text, taken);
    json_decref(taken);
    text_add(&text, "\n");
    events->answer(client, status, type, text_bytes(&text));
    text_release(&text);
}

static void answer_error(const struct api_client_events *events, void *client,
                         struct api_error *error)
{
    if (error->retry_after_s != 0) {
        char text[16];
        (void)snprintf(text, sizeof text, "%u", error->retry_after_s);
        events->header(client, "Retry-After", text);
    }
    answer_json(events, client, error->code, "application/json", api_error_status(error));
    api_error_release(error);
}

void call_answer(struct api_call *call, uint32_t status, json_t *taken)
{
    const struct api_client_events *events = call->events;
    void *client = call->client;
    call_free(call);
    answer_json(events, client, status, "application/json", taken);
}

void call_fail(struct api_call *call, struct api_error *error)
{
    const struct api_client_events *events = call->events;
    void *client = call->client;
    call_free(call);
    answer_error(events, client, error);
}

void api_call_writable(struct api_call *call)
{
    if (call->watch != NULL) {
        api_watch_writable(call);
    }
}

void api_call_gone(struct api_call *call)
{
    call->gone = true;
    if (call->watch != NULL) {
        api_watch_stop(call);
    }
    /* what waits for the backend is answered, to nobody, when it calls back */
}

/* -- errors that several files need -------------------------------------------------------------------- */

void call_error_missing(const struct api_call *call, const char *name, struct api_error *error)
{
    const struct api_resource *r = call->resource;
    api_error_set(error, 404, "%s%s%s \"%s\" not found", r->resource,
                  r->group[0] == '\0' ? "" : ".", r->group, name);
    api_error_about(error, r->group, r->resource, name);
}

void call_error_status(const struct api_call *call, int status, struct api_error *error)
{
    switch (status) {
    case STATUS_NOT_LEADER:
        /* No Retry-After: it was retried until propose.deadline, and kubectl would go on in silence. */
        api_error_set(error, 503, "there is no leader among the cloudcores at the moment");
        break;
    case STATUS_BEHIND:
        api_error_set(
            error, 503,
            "this cloudcore was away and is being brought up to date, others serve meanwhile");
        error->retry_after_s = 5;
        break;
    case STATUS_CLOSING:
        api_error_set(error, 503, "this cloudcore is shutting down");
        error->retry_after_s = 1;
        break;
    case STATUS_FULL:
        api_error_set(error, 429, "too many writes are waiting, please try again later");
        error->retry_after_s = 1;
        break;
    case STATUS_UNKNOWN:
    case STATUS_TIMEOUT:
        api_error_set(error, 504,
                      call->verb == CALL_GET || call->verb == CALL_LIST
                          ? "Timeout: no leader confirmed the read in time"
                          : "Timeout: the write was not confirmed in time; it may still happen");
        break;
    case STATUS_TOO_LARGE:
        api_error_set(error, 413, "the object is too large: at most %u bytes of JSON are stored",
                      LIMIT_OBJECT_BYTES);
        break;
    case -ENOSPC:
        api_error_set(error, 507, "the cloudcores are short of disk space: writes are refused");
        error->reason = "InsufficientStorage";
        break;
    default:
        api_error_set(error, 500, "the request could not be carried out: %s", status_text(status));
        break;
    }
}

/* -- the request ---------------------------------------------------------------------------------------- */

const char *call_parameter(const struct http_request *request, const char *name)
{
    const char *value = http_request_find_parameter(request, name);
    return value == NULL ? "" : value;
}

bool call_parameter_true(const struct http_request *request, const char *name)
{
    const char *value = call_parameter(request, name);
    return strcasecmp(value, "true") == 0 || strcasecmp(value, "t") == 0 || strcmp(value, "1") == 0;
}

/* Does a media type of this list carry all of these, in any order of parameters? */
static bool accept_holds(const char *accept, const char *type, const char *parameter_a,
                         const char *parameter_b)
{
    for (const char *at = accept; *at != '\0';) {
        at += strspn(at, " ,");
        const size_t size = strcspn(at, ",");
        char entry[512];
        (void)snprintf(entry, sizeof entry, "%.*s;", (int)(size < 500 ? size : 500), at);
        char squeezed[512];
        size_t used = 0;
        for (const char *c = entry; *c != '\0'; c++) {
            if (*c != ' ') {
                squeezed[used] = *c;
                used++;
            }
        }
        squeezed[used] = '\0';
        if (strncmp(squeezed, type, strlen(type)) == 0 && squeezed[strlen(type)] == ';' &&
            (parameter_a == NULL || strstr(squeezed, parameter_a) != NULL) &&
            (parameter_b == NULL || strstr(squeezed, parameter_b) != NULL)) {
            return true;
        }
        at += size;
    }
    return false;
}

static const char *accept_of(const struct http_request *request)
{
    const char *accept = http_request_find_header(request, "Accept");
    return accept == NULL || accept[0] == '\0' ? "*/*" : accept;
}

static bool accepts_json(const struct http_request *request)
{
    const char *accept = accept_of(request);
    return accept_holds(accept, "application/json", NULL, NULL) ||
           accept_holds(accept, "application/*", NULL, NULL) ||
           accept_holds(accept, "*/*", NULL, NULL);
}

/* -- what is no resource -------------------------------------------------------------------------------- */

struct plain {
    const struct api_client_events *events;
    void *client;
    const struct http_request *request;
    struct api *api;
};

static void plain_json(const struct plain *p, json_t *taken)
{
    answer_json(p->events, p->client, 200, "application/json", taken);
}

static void plain_missing(const struct plain *p)
{
    struct api_error error = {0};
    api_error_set(&error, 404, "the server could not find the requested resource");
    answer_error(p->events, p->client, &error);
}

static void serve_version(const struct plain *p)
{
    plain_json(p, json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "major", "1", "minor",
                            "32", "gitVersion", API_VERSION_TEXT, "gitCommit", KELP_VERSION,
                            "gitTreeState", "clean", "buildDate", "1970-01-01T00:00:00Z",
                            "goVersion", "none", "compiler", "cc", "platform", "linux/amd64"));
}

/* The aggregated form, with a tag that changes when the table does. */
static void serve_aggregated(const struct plain *p, bool core, bool beta)
{
    struct text text = {0};
    json_t *document = api_discovery_aggregated(core, beta);
    json_write(&text, document);
    json_decref(document);
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < text.size; i++) {
        hash = (hash ^ (uint8_t)text.data[i]) * 1099511628211u;
    }
    char tag[24];
    (void)snprintf(tag, sizeof tag, "\"%016" PRIX64 "\"", hash);
    p->events->header(p->client, "ETag", tag);
    p->events->header(p->client, "Vary", "Accept");
    const char *known = http_request_find_header(p->request, "If-None-Match");
    if (known != NULL && strcmp(known, tag) == 0) {
        p->events->answer(p->client, 304, NULL, bytes_of(NULL, 0));
    } else {
        p->events->answer(p->client, 200,
                          beta ? "application/json;g=apidiscovery.k8s.io;v=v2beta1;as="
                                 "APIGroupDiscoveryList"
                               : "application/json;g=apidiscovery.k8s.io;v=v2;as="
                                 "APIGroupDiscoveryList",
                          text_bytes(&text));
    }
    text_release(&text);
}

static void serve_roots(const struct plain *p, bool core)
{
    const char *accept = accept_of(p->request);
    if (accept_holds(accept, "application/json", ";as=APIGroupDiscoveryList;", ";v=v2;")) {
        serve_aggregated(p, core, false);
    } else if (accept_holds(accept, "application/json", ";as=APIGroupDiscoveryList;",
                            ";v=v2beta1;")) {
        serve_aggregated(p, core, true);
    } else {
        plain_json(p, core ? api_discovery_versions() : api_discovery_groups());
    }
}

static void serve_openapi(const struct plain *p)
{
    const struct http_request *r = p->request;
    const char *const *s = r->segments;
    if (r->segments_count == 2 && strcmp(s[1], "v2") == 0) {
        /* the Accept holds an '@', which clients refuse to read in an answer */
        p->events->answer(p->client, 200,
                          "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
                          text_bytes(&p->api->openapi_v2));
    } else if (r->segments_count == 2 && strcmp(s[1], "v3") == 0) {
        plain_json(p, api_openapi_v3_index());
    } else if (r->segments_count == 4 && strcmp(s[1], "v3") == 0 && strcmp(s[2], "api") == 0 &&
               api_group_served("", s[3])) {
        plain_json(p, api_openapi_v3("", s[3]));
    } else if (r->segments_count == 5 && strcmp(s[1], "v3") == 0 && strcmp(s[2], "apis") == 0 &&
               api_group_served(s[3], s[4])) {
        plain_json(p, api_openapi_v3(s[3], s[4]));
    } else {
        plain_missing(p);
    }
}

/* Documents and probes. false: the request is about a resource, or about nothing. */
static bool serve_plain(const struct plain *p)
{
    const struct http_request *r = p->request;
    const char *const *s = r->segments;
    const uint32_t count = r->segments_count;
    const char *first = count == 0 ? "" : s[0];
    if (strcmp(first, "openapi") == 0) {
        serve_openapi(p);
    } else if (count == 0) {
        plain_json(p, json_pack("{s:[s,s,s,s,s,s,s,s]}", "paths", "/api", "/apis", "/healthz",
                                "/livez", "/metrics", "/openapi/v2", "/readyz", "/version"));
    } else if (count == 1 && strcmp(first, "api") == 0) {
        serve_roots(p, true);
    } else if (count == 1 && strcmp(first, "apis") == 0) {
        serve_roots(p, false);
    } else if (count == 2 && strcmp(first, "api") == 0 && api_group_served("", s[1])) {
        plain_json(p, api_discovery_resources("", s[1]));
    } else if (count == 2 && strcmp(first, "apis") == 0 && s[1][0] != '\0' &&
               api_group_served(s[1], NULL)) {
        plain_json(p, api_discovery_group(s[1]));
    } else if (count == 3 && strcmp(first, "apis") == 0 && s[1][0] != '\0' &&
               api_group_served(s[1], s[2])) {
        plain_json(p, api_discovery_resources(s[1], s[2]));
    } else {
        return false;
    }
    return true;
}

/* -- who may ----------------------------------------------------------------------------------------------- */

static bool open_to_all(const struct http_request *request)
{
    return request->segments_count > 0 && strcmp(request->segments[0], "version") == 0;
}

static bool impersonates(const struct http_request *request)
{
    for (uint32_t i = 0; i < request->headers_count; i++) {
        if (strncasecmp(request->headers[i].name, "Impersonate-", 12) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_master(const struct api_identity *identity)
{
    for (uint32_t i = 0; i < identity->group_count; i++) {
        if (strcmp(identity->groups[i], "system:masters") == 0) {
            return true;
        }
    }
    return false;
}

static const char *verb_text(enum call_verb verb)
{
    static const char *const texts[] = {"get",    "list",  "watch",  "create",
                                        "update", "patch", "delete", "deletecollection"};
    return texts[verb];
}

static void forbid(const struct api_call *call, const char *user, struct api_error *error)
{
    const struct api_resource *r = call->resource;
    struct text message = {0};
    text_add(&message, r->resource);
    if (r->group[0] != '\0') {
        text_print(&message, ".%s", r->group);
    }
    if (call->name[0] != '\0') {
        text_print(&message, " \"%s\"", call->name);
    }
    text_print(&message, " is forbidden: User \"%s\" cannot %s resource \"%s%s\" in API group \"%s\"",
               user, verb_text(call->verb), r->resource, call->status ? "/status" : "", r->group);
    if (call->namespace_[0] != '\0') {
        text_print(&message, " in the namespace \"%s\"", call->namespace_);
    } else {
        text_add(&message, " at the cluster scope");
    }
    api_error_set(error, 403, "%s", message.data);
    api_error_about(error, r->group, r->resource, call->name);
    text_release(&message);
}

/* -- the resource of a URL --------------------------------------------------------------------------------- */

/* Subresources that exist in Kubernetes and not here (yet). */
static bool subresource_known(const struct api_resource *resource, const char *name)
{
    static const char *const pod[] = {"log",     "exec",        "attach",  "portforward", "proxy",
                                      "binding", "eviction",    "resize",  "ephemeralcontainers"};
    for (size_t i = 0; resource->id == API_POD && i < sizeof pod / sizeof pod[0]; i++) {
        if (strcmp(pod[i], name) == 0) {
            return true;
        }
    }
    return (resource->id == API_SERVICEACCOUNT && strcmp(name, "token") == 0) ||
           (resource->id == API_NODE && strcmp(name, "proxy") == 0) ||
           (resource->id == API_NAMESPACE && strcmp(name, "finalize") == 0);
}

/* Read /api/v1/... or /apis/G/V/... into the call. */
static bool route(struct api_call *call, const struct http_request *request,
                  struct api_error *error)
{
    const char *const *s = request->segments;
    const uint32_t count = request->segments_count;
    const bool core = count > 0 && strcmp(s[0], "api") == 0;
    const bool named = count > 0 && strcmp(s[0], "apis") == 0;
    uint32_t at = core ? 2 : 3;
    const char *namespace_ = "";
    const char *name = "";
    const char *sub = "";
    if ((!core && !named) || count <= at) {
        goto missing;
    }
    const char *group = core ? "" : s[1];
    const char *version = core ? s[1] : s[2];
    if (strcmp(s[at], "namespaces") == 0 && count > at + 2 &&
        api_resource_find(group, version, s[at + 2]) != NULL) {
        namespace_ = s[at + 1];
        at += 2;
    }
    call->resource = api_resource_find(group, version, s[at]);
    if (call->resource == NULL || call->resource->namespaced != (namespace_[0] != '\0')) {
        /* a namespaced collection without namespace: all namespaces */
        if (call->resource == NULL || namespace_[0] != '\0' || count > at + 1) {
            goto missing;
        }
    }
    name = count > at + 1 ? s[at + 1] : "";
    sub = count > at + 2 ? s[at + 2] : "";
    if ((count > at + 3 && !subresource_known(call->resource, sub)) ||
        strlen(namespace_) > LIMIT_NAME_BYTES || strlen(name) > LIMIT_NAME_BYTES) {
        goto missing; /* names that fit no key are names of nothing */
    }
    call->namespace_ = strdup(namespace_);
    call->name = strdup(name);
    CHECK(call->namespace_ != NULL);
    CHECK(call->name != NULL);
    if (sub[0] == '\0') {
        return true;
    }
    if (strcmp(sub, "status") == 0 && call->resource->has_status) {
        call->status = true;
        return true;
    }
    if (subresource_known(call->resource, sub)) {
        api_error_set(error, 501, "%s of %s is not offered by Kelp yet", sub,
                      call->resource->resource);
        api_error_about(error, call->resource->group, call->resource->resource, name);
        return false;
    }
missing:
    api_error_set(error, 404, "the server could not find the requested resource");
    return false;
}

static bool choose_verb(struct api_call *call, const struct http_request *request,
                        struct api_error *error)
{
    const bool collection = call->name[0] == '\0';
    const char *method = request->method;
    uint32_t needed = 0;
    if (strcmp(method, "GET") == 0) {
        const bool watch = collection && call_parameter_true(request, "watch");
        call->verb = watch ? CALL_WATCH : collection ? CALL_LIST : CALL_GET;
        needed = watch ? VERB_WATCH : collection ? VERB_LIST : VERB_GET;
    } else if (strcmp(method, "POST") == 0 && collection && !call->status) {
        call->verb = CALL_CREATE;
        needed = VERB_CREATE;
    } else if (strcmp(method, "PUT") == 0 && !collection) {
        call->verb = CALL_UPDATE;
        needed = VERB_UPDATE;
    } else if (strcmp(method, "PATCH") == 0 && !collection) {
        call->verb = CALL_PATCH;
        needed = VERB_PATCH;
    } else if (strcmp(method, "DELETE") == 0 && !call->status) {
        call->verb = collection ? CALL_DELETE_COLLECTION : CALL_DELETE;
        needed = collection ? VERB_DELETECOLLECTION : VERB_DELETE;
    }
    const bool scoped = call->resource->namespaced && call->namespace_[0] == '\0' &&
                        call->verb != CALL_LIST && call->verb != CALL_WATCH;
    if (needed == 0 || (call->resource->verbs & needed) == 0 || scoped) {
        api_error_set(error, 405, "the server does not allow this method on the requested resource");
        api_error_about(error, call->resource->group, call->resource->resource, call->name);
        return false;
    }
    return true;
}

/* -- parameters and bodies --------------------------------------------------------------------------------- */

static bool parse_version(const char *text, uint64_t *out)
{
    char *end;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return *end == '\0' && errno == 0 && text[0] >= '0' && text[0] <= '9';
}

static bool read_parameters(struct api_call *call, const struct http_request *request,
                            struct api_error *error)
{
    const char *accept = accept_of(request);
    call->table = accept_holds(accept, "application/json", ";as=Table;", ";g=meta.k8s.io;");
    const char *include = call_parameter(request, "includeObject");
    call->include = strcmp(include, "Object") == 0 ? INCLUDE_OBJECT
                    : strcmp(include, "None") == 0 ? INCLUDE_NONE
                                                   : INCLUDE_METADATA;
    if (!api_select_labels(call_parameter(request, "labelSelector"), &call->labels, error) ||
        !api_select_fields(call_parameter(request, "fieldSelector"), call->resource, &call->fields,
                           error)) {
        return false;
    }
    uint64_t number = 0;
    const char *limit = call_parameter(request, "limit");
    if (limit[0] != '\0' && !parse_version(limit, &number)) {
        api_error_set(error, 400, "limit: \"%.40s\" is not a number", limit);
        return false;
    }
    call->limit = number > UINT32_MAX ? UINT32_MAX : (uint32_t)number;
    const char *version = call_parameter(request, "resourceVersion");
    call->version_given = version[0] != '\0';
    if (call->version_given && !parse_version(version, &call->version)) {
        api_error_set(error, 400, "resourceVersion: Invalid value: \"%.40s\"", version);
        return false;
    }
    const char *match = call_parameter(request, "resourceVersionMatch");
    if (call->verb == CALL_LIST && strcmp(match, "Exact") == 0 && call->version != 0 &&
        call->version != call->api->backend->version(call->api->backend->owner)) {
        api_error_set(error, 410, "too old resource version: %" PRIu64, call->version);
        return false;
    }
    const char *token = call_parameter(request, "continue");
    if (token[0] != '\0') {
        call->token = strdup(token);
        CHECK(call->token != NULL);
    }
    const char *dry = call_parameter(request, "dryRun");
    if (dry[0] != '\0' && strcmp(dry, "All") != 0) {
        api_error_cause(error, "FieldValueNotSupported", "dryRun",
                        "Unsupported value: \"%.40s\": supported values: \"All\"", dry);
        api_error_invalid(error, "", "CreateOptions", "");
        return false;
    }
    call->dry_run = dry[0] != '\0';
    const char *validation = call_parameter(request, "fieldValidation");
    /* kubectl before 1.25 does not say: a warning is what it gets, as from Kubernetes since 1.23. */
    call->validation = strcmp(validation, "Strict") == 0   ? VALIDATE_STRICT
                       : strcmp(validation, "Ignore") == 0 ? VALIDATE_IGNORE
                                                           : VALIDATE_WARN;
    return true;
}

static bool content_is(const char *type, const char *wanted)
{
    const size_t size = strcspn(type, "; ");
    return size == strlen(wanted) && strncasecmp(type, wanted, size) == 0;
}

/* The protobuf bodies that clients of 1.32 send where nobody asked for it. */
static bool read_protobuf(struct api_call *call, struct bytes body, struct api_error *error)
{
    char why[160];
    call->body = api_protobuf_read(body, why, sizeof why);
    if (call->body == NULL) {
        api_error_set(error, 400, "the protobuf body cannot be decoded: %s", why);
        return false;
    }
    return true;
}

static bool read_patch_type(struct api_call *call, const char *type, struct api_error *error)
{
    const bool strategic = content_is(type, "application/strategic-merge-patch+json");
    if (strategic && call->resource->custom) {
        api_error_set(error, 415,
                      "the body of the request was in an unknown format - accepted media types "
                      "include: application/json-patch+json, application/merge-patch+json, "
                      "application/apply-patch+yaml");
        return false;
    }
    if (content_is(type, "application/json-patch+json")) {
        call->patch = CALL_PATCH_JSON;
    } else if (content_is(type, "application/merge-patch+json")) {
        call->patch = CALL_PATCH_MERGE;
    } else if (strategic) {
        call->patch = CALL_PATCH_STRATEGIC;
    } else if (content_is(type, "application/apply-patch+yaml")) {
        call->patch = CALL_PATCH_APPLY;
    } else {
        api_error_set(error, 415,
                      "the body of the request was in an unknown format - accepted media types "
                      "include: application/json-patch+json, application/merge-patch+json, "
                      "application/strategic-merge-patch+json, application/apply-patch+yaml");
        return false;
    }
    return true;
}

static bool read_body(struct api_call *call, const struct http_request *request,
                      struct api_error *error)
{
    if (call->verb < CALL_CREATE) {
        return true; /* some libraries send Content-Type with GET, too */
    }
    const char *type = http_request_find_header(request, "Content-Type");
    type = type == NULL ? "" : type;
    if (call->verb == CALL_PATCH) {
        if (!read_patch_type(call, type, error)) {
            return false;
        }
        if (call->patch == CALL_PATCH_APPLY && call_parameter(request, "fieldManager")[0] == '\0') {
            api_error_cause(error, "FieldValueRequired", "fieldManager",
                            "Required value: is required for apply patch");
            api_error_invalid(error, "", "PatchOptions", "");
            return false;
        }
    } else if (content_is(type, "application/vnd.kubernetes.protobuf")) {
        return read_protobuf(call, request->body, error);
    } else if (type[0] != '\0' && !content_is(type, "application/json")) {
        if (request->body.size == 0 && call->verb >= CALL_DELETE) {
            return true;
        }
        api_error_set(error, 415,
                      "the body of the request was in an unknown format - accepted media types "
                      "include: application/json, application/vnd.kubernetes.protobuf");
        return false;
    }
    if (request->body.size == 0 && call->verb >= CALL_DELETE) {
        return true;
    }
    char why[200];
    call->body = json_read(request->body, call->validation != VALIDATE_STRICT, why, sizeof why);
    if (call->body == NULL) {
        api_error_set(error, 400, call->patch == CALL_PATCH_APPLY && call->verb == CALL_PATCH
                                      ? "the applied document is not JSON (YAML is not read here): %s"
                                      : "the body is not valid JSON: %s", why);
        return false;
    }
    if (!json_is_object(call->body) &&
        !(call->verb == CALL_PATCH && call->patch == CALL_PATCH_JSON)) {
        api_error_set(error, 400, "the body must be a JSON object");
        return false;
    }
    return true;
}

/* May it be written while some members of the group are older? */
static bool level_allows(const struct api_call *call, struct api_error *error)
{
    const struct backend *backend = call->api->backend;
    const struct api_resource *r = call->resource;
    if (call->verb < CALL_CREATE || r->level == 0 || backend->level(backend->owner) >= r->level) {
        return true;
    }
    api_error_set(error, 503,
                  "%s cannot be written yet: a cloudcore of this group runs a release that does not "
                  "know it; upgrade all of them first (see `kelp cluster status`)",
                  r->resource);
    error->retry_after_s = 5;
    return false;
}

/* Everything that can be said no to before the state is asked. */
static bool prepare(struct api_call *call, const struct http_request *request,
                    const struct api_identity *identity, struct api_error *error)
{
    if (!route(call, request, error)) {
        if (error->code == 501 && !is_master(identity)) {
            api_error_release(error);
            forbid(call, identity->user, error);
        }
        return false;
    }
    if (!choose_verb(call, request, error)) {
        return false;
    }
    if (!is_master(identity)) {
        forbid(call, identity->user, error);
        return false;
    }
    if (!accepts_json(request)) {
        api_error_set(error, 406,
                      "only the following media types are accepted: application/json");
        return false;
    }
    return level_allows(call, error) && read_parameters(call, request, error) &&
           read_body(call, request, error);
}

struct api_call *api_request(struct api *api, const struct http_request *request,
                             const struct api_identity *identity,
                             const struct api_client_events *events, void *client)
{
    const struct plain plain = {events, client, request, api};
    struct api_error error = {0};
    if (open_to_all(request) && strcmp(request->method, "GET") == 0) {
        serve_version(&plain);
        return NULL;
    }
    if (!identity->verified) {
        api_error_set(&error, 401, "Unauthorized");
        answer_error(events, client, &error);
        return NULL;
    }
    if (impersonates(request)) {
        api_error_set(&error, 403,
                      "impersonation is forbidden: User \"%s\" asked for it, and Kelp does not "
                      "offer it",
                      identity->user);
        answer_error(events, client, &error);
        return NULL;
    }
    if (strcmp(request->method, "GET") == 0 && serve_plain(&plain)) {
        return NULL;
    }
    if (api->stopping || api->call_count - api->watch_count >= LIMIT_API_CALLS) {
        api_error_set(&error, api->stopping ? 503 : 429, "%s",
                      api->stopping ? "this cloudcore is shutting down"
                                    : "too many requests, please try again later");
        error.retry_after_s = 1;
        answer_error(events, client, &error);
        return NULL;
    }

    const uint32_t count_before = api->call_count;
    struct api_call *call = call_create(api, events, client);
    (void)snprintf(call->user, sizeof call->user, "%s", identity->user);
    if (!prepare(call, request, identity, &error)) {
        call_fail(call, &error);
        return NULL;
    }
    switch (call->verb) {
    case CALL_GET:
    case CALL_LIST:
        api_read_start(call);
        break;
    case CALL_WATCH:
        if (api->leaving) {
            call_error_status(call, STATUS_CLOSING, &error);
            call_fail(call, &error);
            return NULL;
        }
        api_watch_start(call, request);
        break;
    case CALL_CREATE:
    case CALL_UPDATE:
    case CALL_PATCH:
    case CALL_DELETE:
    case CALL_DELETE_COLLECTION:
        api_write_start(call);
        break;
    }
    return api->call_count > count_before ? call : NULL; /* it may have been answered inside */
}

/* -- what lists and watches share ---------------------------------------------------------------------------- */

bool call_matches(const struct api_call *call, const json_t *object)
{
    if (call->namespace_[0] != '\0' &&
        strcmp(json_text_at(object, "metadata.namespace"), call->namespace_) != 0) {
        return false;
    }
    return api_select_match_labels(&call->labels, object) &&
           api_select_match_fields(&call->fields, object);
}

json_t *call_join(struct api_call *call, const struct backend_row *row)
{
    return api_object_join(call->api->backend, call->codec, call->resource, row, NULL);
}

void call_prefix(const struct api_call *call, char prefix[LIMIT_KEY_BYTES])
{
    const struct api_resource *r = call->resource;
    if (!r->namespaced || call->namespace_[0] != '\0') {
        /* cluster scope has an empty namespace in its keys: "/nodes//" */
        CHECK(api_object_key(r, call->namespace_, "", prefix));
    } else {
        (void)snprintf(prefix, LIMIT_KEY_BYTES, "%s/%s/", r->group,
                       api_resource_stored(r)->resource);
    }
}
