/* OpenAPI as far as kubectl needs it: per kind one PATCH operation that names the kind and the
 * parameters fieldValidation and dryRun. It tells the client that the server validates; schemas of the core
 * kinds are left out, since half a schema makes clients compute wrong patches, those of custom kinds are there
 * for `kubectl explain`. See spec/kubernetes-api.md section 6.
 */
#include "nodes/cloud/api_discovery.h"

#include "schemas/check.h"

/* -- v2: protobuf ---------------------------------------------------------------------------------- */

static void proto_field(struct text *out, uint32_t field, const void *data, size_t size)
{
    CHECK(field < 16); /* one byte of tag */
    const uint8_t tag = (uint8_t)(field << 3 | 2);
    text_append(out, &tag, 1);
    size_t rest = size;
    do {
        const uint8_t byte = (uint8_t)((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0));
        text_append(out, &byte, 1);
        rest >>= 7;
    } while (rest > 0);
    text_append(out, data, size);
}

static void proto_text(struct text *out, uint32_t field, const char *text)
{
    proto_field(out, field, text, strlen(text));
}

/* Wrap what `inner` holds, and empty it. */
static void proto_wrap(struct text *out, uint32_t field, struct text *inner)
{
    proto_field(out, field, inner->data, inner->size);
    text_release(inner);
}

static void proto_parameter(struct text *operation, const char *name)
{
    struct text query = {0};
    proto_text(&query, 2, "query");
    proto_text(&query, 4, name);
    proto_text(&query, 6, "string");
    struct text non_body = {0};
    proto_wrap(&non_body, 3, &query);
    struct text parameter = {0};
    proto_wrap(&parameter, 2, &non_body);
    struct text item = {0};
    proto_wrap(&item, 1, &parameter);
    proto_wrap(operation, 8, &item);
}

static void path_of(const struct api_resource *r, struct text *out)
{
    text_add(out, r->group[0] == '\0' ? "/api/" : "/apis/");
    api_group_version(r, out);
    text_print(out, "%s/%s/{name}", r->namespaced ? "/namespaces/{namespace}" : "", r->resource);
}

void api_openapi_v2(struct text *out)
{
    proto_text(out, 1, "2.0");
    struct text info = {0};
    proto_text(&info, 1, "Kelp");
    proto_text(&info, 2, "v1");
    proto_wrap(out, 2, &info);

    struct text paths = {0};
    const struct api_resource *r;
    for (size_t i = 0; (r = api_resource_at(i)) != NULL; i++) {
        struct text yaml = {0};
        text_print(&yaml, "group: \"%s\"\nkind: %s\nversion: %s\n", r->group, r->kind, r->version);
        struct text any = {0};
        proto_wrap(&any, 2, &yaml);
        struct text named = {0};
        proto_text(&named, 1, "x-kubernetes-group-version-kind");
        proto_wrap(&named, 2, &any);
        struct text operation = {0};
        proto_parameter(&operation, "dryRun");
        proto_parameter(&operation, "fieldValidation");
        proto_wrap(&operation, 13, &named);
        struct text item = {0};
        proto_wrap(&item, 8, &operation);
        struct text path = {0};
        path_of(r, &path);
        struct text pair = {0};
        proto_wrap(&pair, 1, &path);
        proto_wrap(&pair, 2, &item);
        proto_wrap(&paths, 2, &pair);
    }
    proto_wrap(out, 8, &paths);
}

/* -- v3: JSON -------------------------------------------------------------------------------------- */

/* Changes when the table does, so that clients may keep the document. */
static uint64_t document_hash(const json_t *document)
{
    struct text text = {0};
    json_write(&text, document);
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    for (size_t i = 0; i < text.size; i++) {
        hash = (hash ^ (uint8_t)text.data[i]) * 1099511628211u;
    }
    text_release(&text);
    return hash;
}

json_t *api_openapi_v3_index(void)
{
    json_t *paths = json_object();
    const struct api_resource *r;
    for (size_t i = 0; (r = api_resource_at(i)) != NULL; i++) {
        struct text path = {0};
        text_add(&path, r->group[0] == '\0' ? "api/" : "apis/");
        api_group_version(r, &path);
        if (json_object_get(paths, path.data) == NULL) {
            json_t *document = api_openapi_v3(r->group, r->version);
            struct text url = {0};
            text_print(&url, "/openapi/v3/%s?hash=%016llX", path.data,
                       (unsigned long long)document_hash(document));
            CHECK(json_object_set_new(paths, path.data,
                                      json_pack("{s:s}", "serverRelativeURL", url.data)) == 0);
            text_release(&url);
            json_decref(document);
        }
        text_release(&path);
    }
    return json_pack("{s:o}", "paths", paths);
}

json_t *api_openapi_v3(const char *group, const char *version)
{
    json_t *paths = json_object();
    const struct api_resource *r;
    for (size_t i = 0; (r = api_resource_at(i)) != NULL; i++) {
        if (strcmp(r->group, group) != 0 || strcmp(r->version, version) != 0) {
            continue;
        }
        struct text path = {0};
        path_of(r, &path);
        json_t *operation = json_pack(
            "{s:{s:s, s:s, s:s}, s:[{s:s, s:s, s:{s:s}}, {s:s, s:s, s:{s:s}}], s:{}}",
            "x-kubernetes-group-version-kind", "group", r->group, "version", r->version, "kind",
            r->kind, "parameters", "name", "fieldValidation", "in", "query", "schema", "type",
            "string", "name", "dryRun", "in", "query", "schema", "type", "string", "responses");
        CHECK(json_object_set_new(paths, path.data, json_pack("{s:o}", "patch", operation)) == 0);
        text_release(&path);
    }
    json_t *document = json_pack("{s:s, s:{s:s, s:s}, s:o}", "openapi", "3.0.0", "info", "title",
                                 "Kelp", "version", "v1", "paths", paths);
    json_t *schemas = api_explain(group, version);
    if (schemas != NULL) {
        CHECK(json_object_set_new(document, "components", json_pack("{s:o}", "schemas", schemas)) ==
              0);
    }
    return document;
}
