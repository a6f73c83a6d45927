#include "nodes/cli/remote.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "nodes/config.h"
#include "nodes/config_yaml.h"
#include "nodes/net/http.h"
#include "nodes/program.h"
#include "schemas/check.h"

#define STREAM_IDLE_MS 60000u
#define ANSWER_BYTES   (1024u * 1024u)
#define ADDRESS_BYTES  320u
#define OTHERS_BYTES   160u
#define OTHERS_MAX     4u /* contexts that are named */

struct remote {
    uv_loop_t loop;
    struct link_context *context;
    struct http_client *client;
    char server[ADDRESS_BYTES + 16];
    char others[OTHERS_BYTES]; /* "", or the end of a sentence: who else may be asked */
    char *authority;
    size_t authority_size;
    bool closed;
};

/* -- the kubeconfig -------------------------------------------------------------------------------- */

/* Where kubectl would look. */
static void kubeconfig_find(const char *given, char *out, size_t size)
{
    const char *list = getenv("KUBECONFIG");
    if (given != NULL) {
        snprintf(out, size, "%s", given);
        return;
    }
    while (list != NULL && *list != '\0') {
        const size_t length = strcspn(list, ":");
        snprintf(out, size, "%.*s", (int)length, list);
        if (length > 0 && access(out, F_OK) == 0) {
            return;
        }
        list += length + (list[length] == ':');
        if (*list == '\0') {
            return; /* none is there: the last is named in the message */
        }
    }
    const char *home = getenv("HOME");
    snprintf(out, size, "%s/.kube/config", home == NULL ? "" : home);
}

/* The entry of a list by its name: {"name": .., KIND: {..}}. */
static json_t *entry_find(const json_t *config, const char *list, const char *kind,
                          const char *name)
{
    size_t i;
    json_t *entry;
    json_array_foreach(json_object_get(config, list), i, entry)
    {
        const char *found = json_string_value(json_object_get(entry, "name"));
        if (found != NULL && name != NULL && strcmp(found, name) == 0) {
            return json_object_get(entry, kind);
        }
    }
    return NULL;
}

/* The same user and authority there, so the same cluster, or one of the same people. */
static bool entry_same(const json_t *a, const json_t *b, const char *key)
{
    const json_t *first = json_object_get(a, key);
    const json_t *second = json_object_get(b, key);
    return first == second || json_equal(first, second) == 1; /* or neither has one */
}

/* ": --context b, c ask another one", the contexts that lead to the same cluster by another server. */
static void others_name(const json_t *config, const json_t *context, const json_t *cluster,
                        const char *server, char *out)
{
    const char *servers[OTHERS_MAX + 1] = {server};
    size_t count = 1;
    size_t used = 0;
    size_t i;
    json_t *entry;
    json_array_foreach(json_object_get(config, "contexts"), i, entry)
    {
        const json_t *other = json_object_get(entry, "context");
        const char *name = json_string_value(json_object_get(entry, "name"));
        const json_t *there = entry_find(config, "clusters", "cluster",
                                         json_string_value(json_object_get(other, "cluster")));
        const char *address = json_string_value(json_object_get(there, "server"));
        bool known = name == NULL || address == NULL || !entry_same(context, other, "user") ||
                     !entry_same(cluster, there, "certificate-authority") ||
                     !entry_same(cluster, there, "certificate-authority-data");
        for (size_t k = 0; k < count && !known; k++) {
            known = strcmp(servers[k], address) == 0;
        }
        if (known || count > OTHERS_MAX || used + strlen(name) + 20 > OTHERS_BYTES) {
            continue;
        }
        used += (size_t)snprintf(out + used, OTHERS_BYTES - used, "%s%s",
                                 count == 1 ? "; ask another: --context " : " or ", name);
        servers[count] = address;
        count++;
    }
}

static int digit_of(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c == '\0' ? NULL : strchr(digits, c);
    return at == NULL ? -1 : (int)(at - digits);
}

/* Decode base64. NULL: it is none. Given. */
static char *base64_decode(const char *text, size_t *out_size)
{
    char *out = malloc(strlen(text) / 4 * 3 + 4);
    CHECK(out != NULL);
    uint32_t bits = 0;
    int held = 0;
    size_t size = 0;
    for (; *text != '\0' && *text != '='; text++) {
        if (*text == '\n' || *text == '\r') {
            continue;
        }
        const int digit = digit_of(*text);
        if (digit < 0) {
            free(out);
            return NULL;
        }
        bits = bits << 6 | (uint32_t)digit;
        held += 6;
        if (held >= 8) {
            held -= 8;
            out[size] = (char)(bits >> held & 0xff);
            size++;
        }
    }
    *out_size = size;
    return out;
}

/* Bytes as a file that only this process has: link_context_open reads paths, and no key of a kubeconfig is
 * to be written to a disk. Answers the descriptor, -1 when there is none. */
static int file_of(const char *data, size_t size, char *out_path)
{
    const int file = memfd_create("kelp", MFD_CLOEXEC);
    if (file < 0) {
        return -1;
    }
    for (size_t done = 0; done < size;) {
        const ssize_t wrote = write(file, data + done, size - done);
        if (wrote <= 0) {
            close(file);
            return -1;
        }
        done += (size_t)wrote;
    }
    snprintf(out_path, 64, "/proc/self/fd/%d", file);
    return file;
}

/* One of the three files that a kubeconfig names, from its -data or its path. */
struct named {
    int file; /* -1: it is a path */
    char path[4200];
    bool there;
};

static int named_read(const json_t *object, const char *key, const char *kubeconfig,
                      struct named *out, char *reason)
{
    char data_key[64];
    snprintf(data_key, sizeof data_key, "%s-data", key);
    const char *data = json_string_value(json_object_get(object, data_key));
    const char *path = json_string_value(json_object_get(object, key));
    out->file = -1;
    if (data != NULL && data[0] != '\0') {
        size_t size = 0;
        char *decoded = base64_decode(data, &size);
        out->file = decoded == NULL ? -1 : file_of(decoded, size, out->path);
        if (decoded != NULL) {
            explicit_bzero(decoded, size);
        }
        free(decoded);
        if (out->file < 0) {
            snprintf(reason, REMOTE_REASON_BYTES, "%.300s: %s is not base64", kubeconfig, data_key);
            return OPTIONS_EXIT_USAGE;
        }
        out->there = true;
    } else if (path != NULL && path[0] != '\0') {
        const char *slash = strrchr(kubeconfig, '/');
        if (path[0] == '/' || slash == NULL) {
            snprintf(out->path, sizeof out->path, "%s", path);
        } else {
            snprintf(out->path, sizeof out->path, "%.*s/%s", (int)(slash - kubeconfig), kubeconfig,
                     path);
        }
        out->there = true;
    }
    return 0;
}

static char *file_whole(const char *path, size_t *out_size)
{
    char *text = NULL;
    size_t size = 0;
    FILE *file = path == NULL ? NULL : fopen(path, "re");
    if (file != NULL) {
        text = malloc(LIMIT_PEM_BYTES);
        CHECK(text != NULL);
        size = fread(text, 1, LIMIT_PEM_BYTES, file);
        fclose(file);
    }
    *out_size = size;
    return text;
}

int remote_open_files(const char *server, const struct link_files *files, enum link_role role,
                      struct remote **out, char *reason)
{
    char host[256];
    uint16_t port = 0;
    char address[ADDRESS_BYTES];
    const char *rest = strncmp(server, "https://", 8) == 0 ? server + 8 : server;
    const size_t length = strcspn(rest, "/");
    const size_t kept = length < sizeof address ? length : sizeof address - 1;
    memcpy(address, rest, kept);
    address[kept] = '\0';
    const char *colon = strrchr(address, ':');
    const char *bracket = strrchr(address, ']');
    if (length < sizeof address - 8 && (colon == NULL || (bracket != NULL && colon < bracket))) {
        strcat(address, ":443"); /* as kubectl */
    }
    if (strncmp(server, "http://", 7) == 0 || length >= sizeof address - 8 ||
        config_parse_address(address, host, &port) != 0 || port == 0) {
        snprintf(reason, REMOTE_REASON_BYTES, "the server is not https://host:port but %.300s",
                 server);
        return OPTIONS_EXIT_USAGE;
    }
    struct remote *remote = calloc(1, sizeof *remote);
    CHECK(remote != NULL);
    char why[LINK_REASON_BYTES] = "";
    if (link_context_open(role, files, &remote->context, why) != 0) {
        snprintf(reason, REMOTE_REASON_BYTES, "%s", why);
        free(remote);
        return OPTIONS_EXIT_USAGE;
    }
    CHECK(uv_loop_init(&remote->loop) == 0);
    remote->authority = file_whole(files->authority, &remote->authority_size);
    snprintf(remote->server, sizeof remote->server, "https://%s", address);
    CHECK(http_client_open(&remote->loop, remote->context, host, port, NULL, &remote->client) == 0);
    *out = remote;
    return 0;
}

int remote_open(const char *kubeconfig, const char *context_name, const char *server,
                struct remote **out, char *reason)
{
    char path[4096];
    kubeconfig_find(kubeconfig, path, sizeof path);
    json_t *config = config_yaml_read(path, reason);
    if (config == NULL) {
        if (kubeconfig == NULL && access(path, F_OK) != 0) {
            snprintf(reason, REMOTE_REASON_BYTES,
                     "there is no kubeconfig at %.300s; --kubeconfig FILE or $KUBECONFIG names one",
                     path);
        }
        return OPTIONS_EXIT_USAGE;
    }
    const char *current = context_name != NULL
                              ? context_name
                              : json_string_value(json_object_get(config, "current-context"));
    const json_t *context = entry_find(config, "contexts", "context", current);
    const json_t *cluster = entry_find(config, "clusters", "cluster",
                                       json_string_value(json_object_get(context, "cluster")));
    const json_t *user =
        entry_find(config, "users", "user", json_string_value(json_object_get(context, "user")));
    server = server != NULL ? server : json_string_value(json_object_get(cluster, "server"));
    struct named files[3] = {{.file = -1}, {.file = -1}, {.file = -1}};
    int status = OPTIONS_EXIT_USAGE;
    if (context == NULL && context_name != NULL) {
        snprintf(reason, REMOTE_REASON_BYTES, "%.300s: it has no context %.150s", path,
                 context_name);
    } else if (context == NULL || cluster == NULL || server == NULL) {
        snprintf(reason, REMOTE_REASON_BYTES, "%.300s: its %s names no cluster with a server", path,
                 context_name != NULL ? "context of that name" : "current-context");
    } else {
        status = named_read(cluster, "certificate-authority", path, &files[0], reason);
        status =
            status != 0 ? status : named_read(user, "client-certificate", path, &files[1], reason);
        status = status != 0 ? status : named_read(user, "client-key", path, &files[2], reason);
    }
    if (status == 0 && !files[0].there) {
        snprintf(reason, REMOTE_REASON_BYTES, "%.300s: the cluster has no certificate-authority",
                 path);
        status = OPTIONS_EXIT_USAGE;
    }
    if (status == 0) {
        const bool mine = files[1].there && files[2].there;
        const struct link_files paths = {.authority = files[0].path,
                                         .certificate = mine ? files[1].path : NULL,
                                         .key = mine ? files[2].path : NULL};
        status = remote_open_files(server, &paths, LINK_DIAL, out, reason);
    }
    if (status == 0) {
        others_name(config, context, cluster, server, (*out)->others);
    }
    for (size_t i = 0; i < 3; i++) {
        if (files[i].file >= 0) {
            close(files[i].file);
        }
    }
    json_decref(config);
    return status;
}

static void remote_on_client_close(void *owner)
{
    ((struct remote *)owner)->closed = true;
}

void remote_close(struct remote *remote)
{
    if (remote == NULL) {
        return;
    }
    http_client_close(remote->client, remote_on_client_close, remote);
    while (!remote->closed) {
        uv_run(&remote->loop, UV_RUN_ONCE);
    }
    uv_run(&remote->loop, UV_RUN_NOWAIT);
    link_context_close(remote->context);
    (void)uv_loop_close(&remote->loop);
    free(remote->authority);
    free(remote);
}

const char *remote_server(const struct remote *remote)
{
    return remote->server;
}

struct bytes remote_authority(const struct remote *remote)
{
    return bytes_of(remote->authority, remote->authority_size);
}

/* -- one question ------------------------------------------------------------------------------------ */

struct question {
    uint32_t code;
    char *body;
    size_t size;
    bool ended;
    bool large;
    int status;
    char *reason;                                        /* REMOTE_REASON_BYTES */
    void (*on_piece)(void *context, struct bytes piece); /* NULL: the body is gathered */
    void *context;
    struct http_call *call;
    uv_timer_t idle; /* of a stream: it has been silent for too long */
    bool silent;
};

static void question_on_head(struct http_call *call, const struct http_response *response,
                             void *owner)
{
    (void)call;
    ((struct question *)owner)->code = response->status;
}

static void question_on_body(struct http_call *call, struct bytes bytes, void *owner)
{
    struct question *question = owner;
    (void)call;
    if (question->on_piece != NULL && question->code == 200) {
        question->on_piece(question->context, bytes);
        uv_timer_again(&question->idle);
        return;
    }
    if (question->size + bytes.size > ANSWER_BYTES) {
        question->large = true;
        return;
    }
    question->body = realloc(question->body, question->size + bytes.size + 1);
    CHECK(question->body != NULL);
    memcpy(question->body + question->size, bytes.data, bytes.size);
    question->size += bytes.size;
}

static void question_on_end(struct http_call *call, int status, const char *reason, void *owner)
{
    struct question *question = owner;
    (void)call;
    question->status = status;
    snprintf(question->reason, REMOTE_REASON_BYTES, "%s",
             reason == NULL || reason[0] == '\0' ? status_text(status) : reason);
    question->ended = true;
}

static const struct http_call_events question_events = {
    .on_head = question_on_head,
    .on_body = question_on_body,
    .on_end = question_on_end,
};

/* Ask, and wait for the end. */
static int remote_ask(struct remote *remote, const struct http_call_request *request,
                      struct question *question, struct remote_answer *out, char *reason)
{
    char why[REMOTE_REASON_BYTES];
    question->reason = reason;
    *out = (struct remote_answer){.body = NULL};
    uv_update_time(&remote->loop); /* connecting was prepared meanwhile */
    const uint64_t began_ms = uv_now(&remote->loop);
    int status =
        http_call_start(remote->client, request, &question_events, question, &question->call);
    while (status == 0 && !question->ended) {
        uv_run(&remote->loop, UV_RUN_ONCE);
    }
    status = status != 0 ? status : question->status;
    if (status == 0 && question->large) {
        status = STATUS_TOO_LARGE;
    }
    if (status != 0) {
        snprintf(why, sizeof why, "%s", question->ended ? reason : status_text(status));
        snprintf(reason, REMOTE_REASON_BYTES, "%.150s does not answer: %.150s%s", remote->server,
                 why, remote->others);
        free(question->body);
        /* Of what was sent nobody knows the fate, also when it was the deadline that ended it. */
        const bool late =
            status == STATUS_TIMEOUT || (status == STATUS_UNKNOWN && request->deadline_ms > 0 &&
                                         uv_now(&remote->loop) - began_ms >= request->deadline_ms);
        return late ? REMOTE_EXIT_TIMEOUT : REMOTE_EXIT_UNREACHABLE;
    }
    if (question->body == NULL) {
        question->body = calloc(1, 1);
        CHECK(question->body != NULL);
    }
    question->body[question->size] = '\0';
    *out = (struct remote_answer){
        .code = question->code, .body = question->body, .size = question->size};
    return 0;
}

int remote_call(struct remote *remote, const char *method, const char *target, struct bytes body,
                uint32_t patience_ms, struct remote_answer *out, char *reason)
{
    const struct http_header headers[] = {{"Accept", "application/json"},
                                          {"Content-Type", "application/json"}};
    const struct http_call_request request = {
        .method = method,
        .target = target,
        .headers = headers,
        .headers_count = body.size > 0 ? 2 : 1,
        .body = body,
        .deadline_ms = patience_ms,
    };
    struct question question = {.on_piece = NULL};
    return remote_ask(remote, &request, &question, out, reason);
}

static void question_on_idle(uv_timer_t *timer)
{
    struct question *question = CONTAINER_OF(timer, struct question, idle);
    if (!question->silent && !question->ended) {
        question->silent = true;
        http_call_cancel(question->call);
    }
}

int remote_stream(struct remote *remote, const char *target, uint32_t patience_ms,
                  void (*on_piece)(void *context, struct bytes piece), void *context,
                  struct remote_answer *out, char *reason)
{
    const struct http_call_request request = {
        .method = "GET", .target = target, .deadline_ms = patience_ms};
    struct question question = {.on_piece = on_piece, .context = context};
    CHECK(uv_timer_init(&remote->loop, &question.idle) == 0);
    CHECK(uv_timer_start(&question.idle, question_on_idle, STREAM_IDLE_MS, STREAM_IDLE_MS) == 0);
    int status = remote_ask(remote, &request, &question, out, reason);
    if (question.silent) {
        snprintf(reason, REMOTE_REASON_BYTES, "%.150s has sent nothing for %u seconds",
                 remote->server, STREAM_IDLE_MS / 1000);
        status = REMOTE_EXIT_TIMEOUT;
    } else if (status == REMOTE_EXIT_TIMEOUT && patience_ms > 0) {
        snprintf(reason, REMOTE_REASON_BYTES, "time is over: %.150s had not sent all in %u seconds",
                 remote->server, patience_ms / 1000);
    }
    uv_close((uv_handle_t *)&question.idle, NULL);
    uv_run(&remote->loop, UV_RUN_NOWAIT); /* the handle is on our stack */
    return status;
}

uint64_t remote_mono_ms(void)
{
    return program_mono_ms();
}

void remote_pause(uint32_t ms)
{
    const struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    (void)nanosleep(&pause, NULL);
}
