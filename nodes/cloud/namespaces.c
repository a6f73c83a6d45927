#include "nodes/cloud/namespaces.h"

#include "nodes/cloud/api_object.h"
#include "nodes/logger.h"
#include "schemas/check.h"

#include <stdio.h>
#include <stdlib.h>

struct namespaces {
    struct api *api;
    const struct backend *backend;
    bool busy;
    char what[LIMIT_KEY_BYTES]; /* is being deleted, for a log line */
};

struct namespaces *namespaces_open(struct api *api, const struct backend *backend)
{
    struct namespaces *namespaces = calloc(1, sizeof *namespaces);
    CHECK(namespaces != NULL);
    namespaces->api = api;
    namespaces->backend = backend;
    return namespaces;
}

void namespaces_close(struct namespaces *namespaces)
{
    CHECK(!namespaces->busy);
    free(namespaces);
}

bool namespaces_busy(const struct namespaces *namespaces)
{
    return namespaces->busy;
}

/* -- our own client of the API door -------------------------------------------------------------------- */

static void on_header(void *client, const char *name, const char *value)
{
    (void)client;
    (void)name;
    (void)value;
}

static void on_answer(void *client, uint32_t status, const char *content_type, struct bytes body)
{
    (void)content_type;
    struct namespaces *namespaces = client;
    namespaces->busy = false;
    if (status >= 300) { /* tried again at the next step */
        logger_warn_limited("namespace_content_kept", "collection=%s status=%u reason=%.*s",
                            namespaces->what, status, (int)(body.size < 400 ? body.size : 400),
                            (const char *)body.data);
    }
}

static int on_begin(void *client, uint32_t status, const char *content_type)
{
    (void)client;
    (void)status;
    (void)content_type;
    return STATUS_CLOSING; /* a deletion is never a stream */
}

static int on_chunk(void *client, struct bytes bytes)
{
    (void)client;
    (void)bytes;
    return STATUS_CLOSING;
}

static void on_end(void *client, bool whole)
{
    (void)whole;
    struct namespaces *namespaces = client;
    namespaces->busy = false;
}

static const struct api_client_events events = {
    .header = on_header,
    .answer = on_answer,
    .begin = on_begin,
    .chunk = on_chunk,
    .end = on_end,
};

static void delete_collection(struct namespaces *namespaces, const char *name,
                              const struct api_resource *resource)
{
    static const char *const groups[] = {"system:masters"};
    const struct api_identity identity = {
        .verified = true, .user = "kelp:namespaces", .groups = groups, .group_count = 1};
    (void)snprintf(namespaces->what, sizeof namespaces->what, "%s/%s", name, resource->resource);
    struct http_request request = {.method = "DELETE", .target = "", .path = ""};
    uint32_t count = 0;
    request.segments[count++] = resource->group[0] == '\0' ? "api" : "apis";
    if (resource->group[0] != '\0') {
        request.segments[count++] = resource->group;
    }
    request.segments[count++] = resource->version;
    request.segments[count++] = "namespaces";
    request.segments[count++] = name;
    request.segments[count++] = resource->resource;
    request.segments_count = count;
    namespaces->busy = true;
    (void)api_request(namespaces->api, &request, &identity, &events, namespaces);
}

/* -- one namespace -------------------------------------------------------------------------------------- */

static void on_removed(void *context, int status, enum backend_outcome outcome, uint64_t value)
{
    (void)value;
    struct namespaces *namespaces = context;
    namespaces->busy = false;
    if (status == 0 && outcome == BACKEND_ACCEPTED) {
        logger_info("namespace_removed", "namespace=%s", namespaces->what);
    }
}

static void finalize(struct namespaces *namespaces, struct codec *codec, const char *name,
                     json_t *wish, uint64_t version)
{
    const struct backend *backend = namespaces->backend;
    CHECK(json_object_set_new(json_child(wish, "spec"), "finalizers", json_array()) == 0);
    (void)snprintf(namespaces->what, sizeof namespaces->what, "%s", name);
    struct bytes record;
    if (api_object_put(backend, codec, NULL, api_resource_get(API_NAMESPACE), wish, NULL, PUT_UPDATE,
                       version, json_text_at(wish, "metadata.uid"), &record) == 0) {
        namespaces->busy = backend->write(backend->owner, record, on_removed, namespaces) == 0;
    }
}

enum content { CONTENT_NONE, CONTENT_ENDING, CONTENT_LIVE };

/* What is left of a resource in a namespace. */
static enum content content_of(struct namespaces *namespaces, struct backend_view *view,
                               struct codec *codec, const char *name,
                               const struct api_resource *resource)
{
    const struct backend *backend = namespaces->backend;
    char prefix[LIMIT_KEY_BYTES];
    char after[LIMIT_KEY_BYTES] = "";
    enum content content = CONTENT_NONE;
    if (!api_object_key(resource, name, "", prefix)) {
        return CONTENT_ENDING;
    }
    struct backend_row row;
    while (content != CONTENT_LIVE && backend->view_next(backend->owner, view, bytes_text(prefix),
                                                         bytes_text(after), &row) == 0) {
        struct object_put put;
        const bool marked =
            codec_object_put_read(codec, row.wish, &put) != 0 || put.object.deletion_time_ms != 0;
        content = marked ? CONTENT_ENDING : CONTENT_LIVE;
        (void)snprintf(after, sizeof after, "%.*s", (int)row.key.size, (const char *)row.key.data);
        codec_reset(codec);
    }
    return content;
}

static void step_namespace(struct namespaces *namespaces, struct backend_view *view,
                           struct codec *codec, json_t *wish, uint64_t version)
{
    const char *name = json_text_at(wish, "metadata.name");
    bool empty = true;
    const struct api_resource *resource;
    for (size_t i = 0; (resource = api_resource_at(i)) != NULL; i++) {
        if (!resource->namespaced || (resource->verbs & VERB_DELETECOLLECTION) == 0) {
            continue;
        }
        switch (content_of(namespaces, view, codec, name, resource)) {
        case CONTENT_NONE:
            break;
        case CONTENT_ENDING:
            empty = false;
            break;
        case CONTENT_LIVE:
            delete_collection(namespaces, name, resource);
            return;
        }
    }
    if (empty && json_array_size(json_at(wish, "spec.finalizers")) > 0) {
        finalize(namespaces, codec, name, wish, version);
    }
}

void namespaces_step(struct namespaces *namespaces)
{
    const struct backend *backend = namespaces->backend;
    struct backend_view *view;
    uint64_t version;
    if (namespaces->busy || !backend->leads(backend->owner) ||
        backend->view_open(backend->owner, &view, &version) != 0) {
        return;
    }
    struct codec *codec = codec_create();
    char after[LIMIT_KEY_BYTES] = "";
    struct backend_row row;
    while (!namespaces->busy &&
           backend->view_next(backend->owner, view, bytes_text("/namespaces//"), bytes_text(after),
                              &row) == 0) {
        (void)snprintf(after, sizeof after, "%.*s", (int)row.key.size, (const char *)row.key.data);
        struct object_put put;
        if (codec_object_put_read(codec, row.wish, &put) == 0 && put.object.deletion_time_ms != 0) {
            json_t *wish = api_object_wish(codec, &row);
            if (wish != NULL) {
                step_namespace(namespaces, view, codec, wish, row.wish_version);
            }
            json_decref(wish);
        }
        codec_reset(codec);
    }
    codec_destroy(codec);
    backend->view_close(backend->owner, view);
}
