/* One request on its way through the door. Shared by the closets of api.h only.
 *
 *      api.c         who asks, which URL, which verb      -> api_read_start | api_write_start | api_watch_start
 *      api_read.c    get and list
 *      api_write.c   create, update, patch, delete: read, compute, propose, perhaps again
 *      api_watch.c   streams
 */
#ifndef KELP_NODES_CLOUD_API_CALL_H
#define KELP_NODES_CLOUD_API_CALL_H

#include "nodes/cloud/api.h"
#include "nodes/cloud/api_object.h"
#include "nodes/cloud/api_select.h"

enum call_verb {
    CALL_GET,
    CALL_LIST,
    CALL_WATCH,
    CALL_CREATE,
    CALL_UPDATE,
    CALL_PATCH,
    CALL_DELETE,
    CALL_DELETE_COLLECTION,
};

enum call_validation { VALIDATE_IGNORE, VALIDATE_WARN, VALIDATE_STRICT };
enum call_include { INCLUDE_METADATA, INCLUDE_OBJECT, INCLUDE_NONE };
enum call_patch { CALL_PATCH_JSON, CALL_PATCH_MERGE, CALL_PATCH_STRATEGIC, CALL_PATCH_APPLY };

struct api_watch;
struct api_list;

struct api_call {
    struct api *api;
    struct api_call *next; /* of api->calls */
    struct api_call *previous;
    const struct api_client_events *events;
    void *client;
    bool gone;    /* the client went away */
    bool waiting; /* the backend owes us a callback */

    enum call_verb verb;
    const struct api_resource *resource;
    char *namespace_; /* "" for cluster scope, and for all namespaces */
    char *name;       /* "" for a collection */
    bool status;      /* subresource */
    struct codec *codec;

    /* how the answer looks */
    bool table;
    enum call_include include;
    uint32_t success; /* HTTP status of a write */

    /* list and watch */
    struct api_select labels;
    struct api_select fields;
    uint32_t limit;
    char *token;      /* continue, decoded: the last key of the page before */
    bool version_given;
    uint64_t version; /* resourceVersion */
    struct api_watch *watch;
    struct api_list *list; /* while it is being read */

    /* writes */
    char user[LIMIT_IDENTITY_NAME_BYTES + 1];
    json_t *body; /* as sent: object, patch or DeleteOptions; may be NULL for DELETE */
    enum call_patch patch;
    enum call_validation validation;
    bool dry_run;
    uint32_t attempts;
    char key[LIMIT_KEY_BYTES];
    json_t *result;   /* to be answered once the write is accepted */
    bool result_is_status;
    bool may_retry;   /* a version conflict is ours, not the client's */
    bool applying_create;
    /* deletecollection */
    char **names;
    uint32_t name_count;
    uint32_t name_at;
};

struct api {
    const struct backend *backend;
    struct api_call *calls;
    uint32_t call_count;
    uint32_t watch_count;
    size_t watch_bytes;          /* unsent, of all watches */
    struct api_call *list_first; /* the queue of lists to be read */
    struct api_call *list_last;
    uint32_t list_count;
    uint32_t lists_begun; /* of them those that hold a view */
    size_t (*answer_bytes)(void *owner); /* see api_bound_answers */
    void *answer_owner;
    uint64_t told; /* watches that are up to date have seen changes up to this version */
    bool leaving;  /* about to stop: no new watches */
    bool stopping;
    const struct api_call *collecting; /* deletes its collection, further up the stack */
    bool collected;                    /* and the object of this round is done */
    struct text openapi_v2;
};

/* Parameters of the URL. */
const char *call_parameter(const struct http_request *request, const char *name);
bool call_parameter_true(const struct http_request *request, const char *name);

/* Answer and free the call. */
void call_answer(struct api_call *call, uint32_t status, json_t *taken);
/* Answer the error and release it. */
void call_fail(struct api_call *call, struct api_error *error);
void call_free(struct api_call *call);
/* 404 of what the call is about. */
void call_error_missing(const struct api_call *call, const char *name, struct api_error *error);
/* An error for a negative status of the backend. */
void call_error_status(const struct api_call *call, int status, struct api_error *error);

void api_read_start(struct api_call *call);
/* Read on in lists, a bounded number of steps. Answers whether there is more to do. */
bool api_lists_run(struct api *api);
/* Answer all that are not read yet: 503. */
void api_lists_stop(struct api *api);
void api_write_start(struct api_call *call);
void api_watch_start(struct api_call *call, const struct http_request *request);
void api_watch_stop(struct api_call *call);
void api_watch_writable(struct api_call *call);

/* Does the joined object belong to this list or watch? */
bool call_matches(const struct api_call *call, const json_t *object);
/* The joined object of a row for this call; NULL: unreadable. */
json_t *call_join(struct api_call *call, const struct backend_row *row);
/* The common prefix of the keys of a list or watch. */
void call_prefix(const struct api_call *call, char prefix[LIMIT_KEY_BYTES]);

/* -- tables (api_table.c) -------------------------------------------------------------------------- */

/* An empty Table with its columns. */
json_t *api_table_create(const struct api_resource *resource, bool with_columns);
/* Add the row of a joined object. */
void api_table_add(json_t *table, const struct api_resource *resource, json_t *object,
                   enum call_include include, int64_t now_ms);

#endif
