#include "nodes/cloud/api_readonly.h"

#include "nodes/cloud/api_discovery.h"
#include "nodes/cloud/api_status.h"
#include "nodes/logger.h"
#include "nodes/net/http.h"
#include "schemas/check.h"

#include <stdio.h>
#include <stdlib.h>

/* The document at a path of discovery; NULL: it is not one. */
static json_t *readonly_discovery(const char *path)
{
    char group[64];
    char version[16];
    char end;
    if (strcmp(path, "/api") == 0) {
        return api_discovery_versions();
    }
    if (strcmp(path, "/apis") == 0) {
        return api_discovery_groups();
    }
    if (sscanf(path, "/api/%15[^/]%c", version, &end) == 1 && api_group_served("", version)) {
        return api_discovery_resources("", version);
    }
    if (sscanf(path, "/apis/%63[^/]/%15[^/]%c", group, version, &end) == 2 &&
        api_group_served(group, version)) {
        return api_discovery_resources(group, version);
    }
    return NULL;
}

static void readonly_on_request(struct http_server *server, struct http_exchange *exchange,
                                void *owner)
{
    const char *why = owner;
    /* No Retry-After: kubectl would wait in silence, and nobody mends a disk in that time. */
    const struct http_request *request = http_exchange_request(exchange);
    (void)server;
    if (strcmp(request->path, "/livez") == 0) {
        http_answer(exchange, 200, "text/plain", bytes_text("ok"));
        return;
    }
    json_t *answer = readonly_discovery(request->path);
    const uint32_t code = answer != NULL ? 200 : 503;
    if (answer == NULL) {
        struct api_error error = {0};
        api_error_set(&error, code, "%s", why);
        answer = api_error_status(&error);
        api_error_release(&error);
    }
    char *text = json_dumps(answer, JSON_COMPACT);
    CHECK(text != NULL);
    http_answer(exchange, code, "application/json", bytes_text(text));
    free(text);
    json_decref(answer);
}

static void readonly_on_refused(struct http_server *server, const char *address, int status,
                                const char *reason, void *owner)
{
    (void)server;
    (void)owner;
    logger_warn_limited("api_client_refused", "address=%s status=%d reason=%s", address, status,
                        reason);
}

static const struct http_server_events readonly_events = {
    .on_request = readonly_on_request,
    .on_refused = readonly_on_refused,
};

int api_readonly_open(uv_loop_t *loop, struct link_context *context, const char *host,
                      uint16_t port, char *why, char *reason)
{
    struct http_server *server; /* never closed: it ends with the process */
    return http_server_open(loop, context, host, port, &readonly_events, why, &server, reason);
}
