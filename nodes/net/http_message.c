#include "nodes/net/http_message.h"

#include "schemas/check.h"

#include <http_parser.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

/* Text that grows while a head arrives; places in it are offsets until the head is whole. */
struct http_text {
    char *data;
    size_t size;
    size_t capacity;
};

/* What requests and responses have in common. */
struct http_core {
    http_parser parser;
    struct http_text text; /* target, names and values, each terminated */
    size_t names[LIMIT_HTTP_HEADERS];
    size_t values[LIMIT_HTTP_HEADERS];
    uint32_t headers_count;
    bool in_name;  /* the last piece was of a name */
    bool in_value; /* the last piece was of a value */
    bool busy;     /* between the first byte of a message and its last */
    bool whole;
    uint32_t refusal; /* HTTP status; 0: none */
    const char *refusal_text;
};

struct http_request_parser {
    struct http_core core;
    size_t target_size;
    bool target_done;
    char *decoded; /* segments and parameters */
    uint8_t *body;
    size_t body_bytes, body_capacity, body_bytes_max;
    bool wants_continue;
    struct http_request request;
};

struct http_response_parser {
    struct http_core core;
    const struct http_response_events *events;
    void *owner;
    bool head;     /* the request was HEAD */
    bool skipping; /* a 1xx */
    struct http_response response;
};

/* -- common ------------------------------------------------------------------------------------ */

/* Refuse; the value is what http-parser's callbacks return to stop. */
static int http_core_refuse(struct http_core *core, uint32_t status, const char *text)
{
    if (core->refusal == 0) {
        core->refusal = status;
        core->refusal_text = text;
    }
    return -1;
}

static bool http_text_add(struct http_text *text, const char *data, size_t size)
{
    if (text->size + size > LIMIT_HTTP_HEAD_BYTES) {
        return false;
    }
    if (text->size + size > text->capacity) {
        size_t capacity = text->capacity == 0 ? 1024 : text->capacity;
        while (capacity < text->size + size) {
            capacity *= 2;
        }
        char *grown = realloc(text->data, capacity);
        if (grown == NULL) {
            return false;
        }
        text->data = grown;
        text->capacity = capacity;
    }
    memcpy(text->data + text->size, data, size);
    text->size += size;
    return true;
}

static int http_core_add(struct http_core *core, const char *data, size_t size)
{
    return http_text_add(&core->text, data, size)
               ? 0
               : http_core_refuse(core, 431, "the request line and headers are too large");
}

static int http_core_name(struct http_core *core, const char *data, size_t size)
{
    if (!core->in_name) {
        if (core->headers_count == LIMIT_HTTP_HEADERS) {
            return http_core_refuse(core, 431, "too many headers");
        }
        if (http_core_add(core, "", 1) != 0) { /* ends the value before it */
            return -1;
        }
        core->names[core->headers_count] = core->text.size;
        core->values[core->headers_count] = SIZE_MAX; /* until there is one */
        core->headers_count++;
        core->in_name = true;
        core->in_value = false;
    }
    return http_core_add(core, data, size);
}

static int http_core_value(struct http_core *core, const char *data, size_t size)
{
    CHECK(core->headers_count > 0);
    if (!core->in_value) {
        if (http_core_add(core, "", 1) != 0) {
            return -1;
        }
        core->values[core->headers_count - 1] = core->text.size;
        core->in_value = true;
        core->in_name = false;
    }
    return http_core_add(core, data, size);
}

/* The head is whole: offsets become pointers. */
static int http_core_finish_head(struct http_core *core, struct http_header *headers,
                                 uint32_t *out_count)
{
    if (http_core_add(core, "", 1) != 0) {
        return -1;
    }
    for (uint32_t i = 0; i < core->headers_count; i++) {
        headers[i].name = core->text.data + core->names[i];
        headers[i].value = core->values[i] == SIZE_MAX ? "" : core->text.data + core->values[i];
    }
    *out_count = core->headers_count;
    return 0;
}

static void http_core_reset(struct http_core *core)
{
    core->text.size = 0;
    core->headers_count = 0;
    core->in_name = false;
    core->in_value = false;
    core->busy = false;
    core->whole = false;
}

/* An idle connection keeps no buffers. */
static void http_core_release(struct http_core *core)
{
    free(core->text.data);
    core->text = (struct http_text){.data = NULL};
    http_core_reset(core);
}

static const char *http_headers_find(const struct http_header *headers, uint32_t count,
                                     const char *name)
{
    for (uint32_t i = 0; i < count; i++) {
        if (strcasecmp(headers[i].name, name) == 0) {
            return headers[i].value;
        }
    }
    return NULL;
}

const char *http_request_find_header(const struct http_request *request, const char *name)
{
    return http_headers_find(request->headers, request->headers_count, name);
}

const char *http_response_find_header(const struct http_response *response, const char *name)
{
    return http_headers_find(response->headers, response->headers_count, name);
}

const char *http_request_find_parameter(const struct http_request *request, const char *name)
{
    for (uint32_t i = 0; i < request->parameters_count; i++) {
        if (strcmp(request->parameters[i].name, name) == 0) {
            return request->parameters[i].value;
        }
    }
    return NULL;
}

bool http_list_holds(const char *value, const char *token)
{
    const size_t size = strlen(token);
    for (const char *at = value; at != NULL && *at != '\0';) {
        at += strspn(at, " \t,");
        const size_t word = strcspn(at, " \t,;");
        if (word == size && strncasecmp(at, token, size) == 0) {
            return true;
        }
        at += strcspn(at, ",");
    }
    return false;
}

bool http_header_value_valid(const char *value)
{
    for (const char *at = value; *at != '\0'; at++) {
        const unsigned char byte = (unsigned char)*at;
        if ((byte < 0x20 && byte != '\t') || byte == 0x7f) {
            return false;
        }
    }
    return true;
}

const char *http_status_text(uint32_t status)
{
    switch (status) {
#define HTTP_STATUS_CASE(number, name, text)                                                       \
    case number:                                                                                   \
        return #text;
        HTTP_STATUS_MAP(HTTP_STATUS_CASE)
#undef HTTP_STATUS_CASE
    default:
        return "Unknown";
    }
}

/* -- the target -------------------------------------------------------------------------------- */

static int http_hex_value(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* Percent-decode into *out, terminate, and move *out behind it. False: a bad escape, or a NUL. */
static bool http_decode(const char *text, size_t size, bool plus, char **out)
{
    char *to = *out;
    for (size_t i = 0; i < size; i++) {
        char byte = text[i];
        if (byte == '%') {
            const int high = i + 2 < size ? http_hex_value(text[i + 1]) : -1;
            const int low = i + 2 < size ? http_hex_value(text[i + 2]) : -1;
            if (high < 0 || low < 0 || high * 16 + low == 0) {
                return false;
            }
            byte = (char)(high * 16 + low);
            i += 2;
        } else if (byte == '+' && plus) {
            byte = ' ';
        }
        *to++ = byte;
    }
    *to++ = '\0';
    *out = to;
    return true;
}

static int http_request_decode_path(struct http_request_parser *parser, const char *path,
                                    size_t size, char **out)
{
    struct http_request *request = &parser->request;
    for (size_t at = 0; at < size;) {
        if (path[at] == '/') {
            at++;
            continue;
        }
        const char *const slash = memchr(path + at, '/', size - at);
        const size_t segment = slash == NULL ? size - at : (size_t)(slash - (path + at));
        if (request->segments_count == LIMIT_HTTP_SEGMENTS) {
            return http_core_refuse(&parser->core, 414, "too many path segments");
        }
        request->segments[request->segments_count++] = *out;
        if (!http_decode(path + at, segment, false, out)) {
            return http_core_refuse(&parser->core, 400, "the path is not percent-encoded properly");
        }
        at += segment;
    }
    return 0;
}

static int http_request_decode_query(struct http_request_parser *parser, const char *query,
                                     size_t size, char **out)
{
    struct http_request *request = &parser->request;
    for (size_t at = 0; at < size;) {
        const char *const end = memchr(query + at, '&', size - at);
        const size_t pair = end == NULL ? size - at : (size_t)(end - (query + at));
        if (pair > 0) {
            if (request->parameters_count == LIMIT_HTTP_PARAMETERS) {
                return http_core_refuse(&parser->core, 414, "too many query parameters");
            }
            struct http_parameter *parameter = &request->parameters[request->parameters_count++];
            const char *const equals = memchr(query + at, '=', pair);
            const size_t name = equals == NULL ? pair : (size_t)(equals - (query + at));
            parameter->name = *out;
            bool good = http_decode(query + at, name, true, out);
            parameter->value = "";
            if (good && equals != NULL) {
                parameter->value = *out;
                good = http_decode(equals + 1, pair - name - 1, true, out);
            }
            if (!good) {
                return http_core_refuse(&parser->core, 400,
                                        "the query is not percent-encoded properly");
            }
        }
        at += pair + 1;
    }
    return 0;
}

static int http_request_decode_target(struct http_request_parser *parser)
{
    struct http_request *request = &parser->request;
    const char *target = parser->core.text.data;
    if (strchr(target, '#') != NULL) {
        return http_core_refuse(&parser->core, 400, "a request target has no fragment");
    }
    if (strncasecmp(target, "http://", 7) == 0 || strncasecmp(target, "https://", 8) == 0) {
        const char *const path = strchr(strstr(target, "://") + 3, '/');
        target = path == NULL ? "/" : path;
    }
    const size_t path_size = strcspn(target, "?");
    const size_t target_size = strlen(target);

    /* Every piece loses its separator and gains a terminator; the copy of the path comes first. */
    parser->decoded = malloc(path_size + 1 + target_size + 4);
    if (parser->decoded == NULL) {
        return http_core_refuse(&parser->core, 503, "out of memory");
    }
    char *out = parser->decoded;
    memcpy(out, target, path_size);
    out[path_size] = '\0';
    request->target = target;
    request->path = out;
    out += path_size + 1;
    int status = http_request_decode_path(parser, target, path_size, &out);
    if (status == 0 && target[path_size] == '?') {
        status = http_request_decode_query(parser, target + path_size + 1,
                                           target_size - path_size - 1, &out);
    }
    CHECK(status != 0 || out <= parser->decoded + path_size + 1 + target_size + 4);
    return status;
}

/* -- requests ---------------------------------------------------------------------------------- */

static int http_request_on_begin(http_parser *parser)
{
    struct http_request_parser *self = parser->data;
    self->core.busy = true;
    return 0;
}

static int http_request_on_url(http_parser *parser, const char *data, size_t size)
{
    struct http_request_parser *self = parser->data;
    CHECK(self->core.headers_count == 0);
    return http_text_add(&self->core.text, data, size)
               ? 0
               : http_core_refuse(&self->core, 414, "the request target is too long");
}

static int http_request_on_name(http_parser *parser, const char *data, size_t size)
{
    struct http_request_parser *self = parser->data;
    return http_core_name(&self->core, data, size);
}

static int http_request_on_value(http_parser *parser, const char *data, size_t size)
{
    struct http_request_parser *self = parser->data;
    return http_core_value(&self->core, data, size);
}

static int http_request_on_head(http_parser *parser)
{
    struct http_request_parser *self = parser->data;
    struct http_request *request = &self->request;
    struct http_core *core = &self->core;
    if (http_core_finish_head(core, request->headers, &request->headers_count) != 0) {
        return -1;
    }
    if (parser->http_major != 1) {
        return http_core_refuse(core, 505, "only HTTP/1.0 and HTTP/1.1 are spoken here");
    }
    uint32_t hosts = 0;
    for (uint32_t i = 0; i < request->headers_count; i++) {
        hosts += strcasecmp(request->headers[i].name, "Host") == 0;
    }
    if (hosts > 1 || (hosts == 0 && parser->http_minor > 0)) {
        return http_core_refuse(core, 400, "exactly one Host header is needed");
    }
    if (parser->method == HTTP_CONNECT) {
        return http_core_refuse(core, 501, "this is no proxy");
    }
    if (parser->content_length != UINT64_MAX && parser->content_length > self->body_bytes_max) {
        return http_core_refuse(core, 413, "the request body is too large");
    }
    request->method = http_method_str((enum http_method)parser->method);
    request->upgrade = parser->upgrade != 0;
    const char *const expect = http_request_find_header(request, "Expect");
    if (expect != NULL && strcasecmp(expect, "100-continue") == 0) {
        self->wants_continue = true;
    }
    return http_request_decode_target(self);
}

static int http_request_on_body(http_parser *parser, const char *data, size_t size)
{
    struct http_request_parser *self = parser->data;
    const size_t want = self->body_bytes + size;
    if (want > self->body_bytes_max) {
        return http_core_refuse(&self->core, 413, "the request body is too large");
    }
    if (want > self->body_capacity) {
        size_t capacity = self->body_capacity == 0 ? 4096 : self->body_capacity;
        while (capacity < want) {
            capacity *= 2;
        }
        uint8_t *grown = realloc(self->body, capacity);
        if (grown == NULL) {
            return http_core_refuse(&self->core, 503, "out of memory");
        }
        self->body = grown;
        self->body_capacity = capacity;
    }
    memcpy(self->body + self->body_bytes, data, size);
    self->body_bytes += size;
    return 0;
}

static int http_request_on_complete(http_parser *parser)
{
    struct http_request_parser *self = parser->data;
    self->request.body = bytes_of(self->body, self->body_bytes);
    self->request.keep_alive = http_should_keep_alive(parser) != 0;
    self->core.whole = true;
    self->core.busy = false;
    self->wants_continue = false;
    http_parser_pause(parser, 1);
    return 0;
}

static const http_parser_settings http_request_settings = {
    .on_message_begin = http_request_on_begin,
    .on_url = http_request_on_url,
    .on_header_field = http_request_on_name,
    .on_header_value = http_request_on_value,
    .on_headers_complete = http_request_on_head,
    .on_body = http_request_on_body,
    .on_message_complete = http_request_on_complete,
};

struct http_request_parser *http_request_parser_open(size_t body_bytes_max)
{
    struct http_request_parser *parser = calloc(1, sizeof *parser);
    if (parser == NULL) {
        return NULL;
    }
    http_parser_set_max_header_size(2 * LIMIT_HTTP_HEAD_BYTES); /* ours is met first */
    http_parser_init(&parser->core.parser, HTTP_REQUEST);
    parser->core.parser.data = parser;
    parser->body_bytes_max = body_bytes_max;
    return parser;
}

void http_request_parser_close(struct http_request_parser *parser)
{
    if (parser == NULL) {
        return;
    }
    free(parser->core.text.data);
    free(parser->decoded);
    free(parser->body);
    free(parser);
}

/* Feed http-parser and read its mind. */
static enum http_parse http_core_feed(struct http_core *core, const http_parser_settings *settings,
                                      struct bytes bytes, size_t *out_used)
{
    CHECK(core->refusal == 0);
    CHECK(!core->whole);
    *out_used = http_parser_execute(&core->parser, settings, (const char *)bytes.data, bytes.size);
    const enum http_errno error = HTTP_PARSER_ERRNO(&core->parser);
    if (core->whole && core->refusal == 0 && (error == HPE_PAUSED || error == HPE_OK)) {
        return HTTP_PARSE_WHOLE;
    }
    if (core->refusal == 0 && error == HPE_OK && *out_used == bytes.size) {
        return HTTP_PARSE_MORE;
    }
    if (core->refusal == 0) {
        if (error == HPE_HEADER_OVERFLOW) {
            http_core_refuse(core, 431, "the request line and headers are too large");
        } else if (error == HPE_INVALID_VERSION) {
            http_core_refuse(core, 505, "only HTTP/1.0 and HTTP/1.1 are spoken here");
        } else {
            http_core_refuse(core, 400, http_errno_description(error));
        }
    }
    *out_used = bytes.size;
    return HTTP_PARSE_REFUSED;
}

enum http_parse http_request_parser_feed(struct http_request_parser *parser, struct bytes bytes,
                                         size_t *out_used)
{
    *out_used = 0;
    if (bytes.size == 0) {
        return HTTP_PARSE_MORE; /* to http-parser, nothing means the end */
    }
    return http_core_feed(&parser->core, &http_request_settings, bytes, out_used);
}

const struct http_request *http_request_parser_get(const struct http_request_parser *parser)
{
    CHECK(parser->core.whole);
    return &parser->request;
}

void http_request_parser_next(struct http_request_parser *parser)
{
    CHECK(parser->core.whole);
    http_core_release(&parser->core);
    free(parser->decoded);
    free(parser->body);
    parser->decoded = NULL;
    parser->body = NULL;
    parser->body_bytes = 0;
    parser->body_capacity = 0;
    parser->request = (struct http_request){.method = NULL};
    http_parser_pause(&parser->core.parser, 0);
    /* After "Connection: close" http-parser takes nothing more; whether more is taken is the
     * connection's decision, so begin anew. */
    http_parser_init(&parser->core.parser, HTTP_REQUEST);
    parser->core.parser.data = parser;
}

bool http_request_parser_take_continue(struct http_request_parser *parser)
{
    const bool wants = parser->wants_continue;
    parser->wants_continue = false;
    return wants;
}

bool http_request_parser_busy(const struct http_request_parser *parser)
{
    return parser->core.busy;
}

size_t http_request_parser_body_bytes(const struct http_request_parser *parser)
{
    return parser->body_capacity;
}

uint32_t http_request_parser_refusal(const struct http_request_parser *parser,
                                     const char **out_text)
{
    CHECK(parser->core.refusal != 0);
    *out_text = parser->core.refusal_text;
    return parser->core.refusal;
}

/* -- responses --------------------------------------------------------------------------------- */

static int http_response_on_begin(http_parser *parser)
{
    struct http_response_parser *self = parser->data;
    http_core_reset(&self->core);
    self->core.busy = true;
    return 0;
}

static int http_response_on_name(http_parser *parser, const char *data, size_t size)
{
    struct http_response_parser *self = parser->data;
    return http_core_name(&self->core, data, size);
}

static int http_response_on_value(http_parser *parser, const char *data, size_t size)
{
    struct http_response_parser *self = parser->data;
    return http_core_value(&self->core, data, size);
}

static int http_response_on_head(http_parser *parser)
{
    struct http_response_parser *self = parser->data;
    struct http_response *response = &self->response;
    if (http_core_finish_head(&self->core, response->headers, &response->headers_count) != 0) {
        return -1;
    }
    response->status = parser->status_code;
    response->upgrade = parser->status_code == 101;
    self->skipping = parser->status_code < 200 && parser->status_code != 101;
    if (self->skipping) {
        return 0;
    }
    response->keep_alive = http_should_keep_alive(parser) != 0;
    if (self->events->on_head != NULL) {
        self->events->on_head(response, self->owner);
    }
    return self->head ? 1 : 0; /* 1: no body follows, whatever the headers say */
}

static int http_response_on_body(http_parser *parser, const char *data, size_t size)
{
    struct http_response_parser *self = parser->data;
    if (self->events->on_body != NULL && size > 0) {
        self->events->on_body(bytes_of(data, size), self->owner);
    }
    return 0;
}

static int http_response_on_complete(http_parser *parser)
{
    struct http_response_parser *self = parser->data;
    if (self->skipping) {
        self->skipping = false;
        return 0;
    }
    self->response.keep_alive = http_should_keep_alive(parser) != 0;
    self->core.whole = true;
    self->core.busy = false;
    http_parser_pause(parser, 1);
    return 0;
}

static const http_parser_settings http_response_settings = {
    .on_message_begin = http_response_on_begin,
    .on_header_field = http_response_on_name,
    .on_header_value = http_response_on_value,
    .on_headers_complete = http_response_on_head,
    .on_body = http_response_on_body,
    .on_message_complete = http_response_on_complete,
};

struct http_response_parser *http_response_parser_open(const struct http_response_events *events,
                                                       void *owner)
{
    struct http_response_parser *parser = calloc(1, sizeof *parser);
    if (parser == NULL) {
        return NULL;
    }
    http_parser_set_max_header_size(2 * LIMIT_HTTP_HEAD_BYTES);
    parser->events = events;
    parser->owner = owner;
    http_response_parser_next(parser, "GET");
    return parser;
}

void http_response_parser_close(struct http_response_parser *parser)
{
    if (parser == NULL) {
        return;
    }
    free(parser->core.text.data);
    free(parser);
}

void http_response_parser_next(struct http_response_parser *parser, const char *method)
{
    http_core_release(&parser->core);
    parser->core.refusal = 0;
    parser->response = (struct http_response){.status = 0};
    parser->head = strcmp(method, "HEAD") == 0;
    parser->skipping = false;
    http_parser_init(&parser->core.parser, HTTP_RESPONSE);
    parser->core.parser.data = parser;
}

enum http_parse http_response_parser_feed(struct http_response_parser *parser, struct bytes bytes,
                                          size_t *out_used)
{
    *out_used = 0;
    if (bytes.size == 0) {
        return HTTP_PARSE_MORE;
    }
    return http_core_feed(&parser->core, &http_response_settings, bytes, out_used);
}

bool http_response_parser_keep_alive(const struct http_response_parser *parser)
{
    return parser->core.whole && parser->response.keep_alive;
}

bool http_response_parser_finish(struct http_response_parser *parser)
{
    if (!parser->core.whole && parser->core.refusal == 0) {
        http_parser_execute(&parser->core.parser, &http_response_settings, "", 0);
    }
    return parser->core.whole;
}
