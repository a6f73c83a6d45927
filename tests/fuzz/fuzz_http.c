/* Can bytes of a client hurt the HTTP parser? The first byte picks how the rest is cut. */
#include "nodes/net/http_message.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_body(struct bytes bytes, void *owner)
{
    *(size_t *)owner += bytes.size;
}

/* Feed as a response, too: the client half reads from other processes of ours only, but still. */
static void respond(const uint8_t *data, size_t size, size_t cut)
{
    static const struct http_response_events events = {.on_body = on_body};
    size_t body_bytes = 0;
    struct http_response_parser *parser = http_response_parser_open(&events, &body_bytes);
    enum http_parse parse = HTTP_PARSE_MORE;
    for (size_t at = 0; at < size && parse == HTTP_PARSE_MORE;) {
        size_t used = 0;
        parse = http_response_parser_feed(
            parser, bytes_of(data + at, size - at < cut ? size - at : cut), &used);
        at += used;
    }
    http_response_parser_finish(parser);
    http_response_parser_close(parser);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    const size_t cut = (size_t)data[0] + 1;
    data++;
    size--;
    respond(data, size, cut);
    struct http_request_parser *parser = http_request_parser_open(4096);
    for (size_t at = 0; at < size;) {
        size_t used = 0;
        const enum http_parse parse = http_request_parser_feed(
            parser, bytes_of(data + at, size - at < cut ? size - at : cut), &used);
        at += used;
        if (parse == HTTP_PARSE_REFUSED) {
            const char *text = NULL;
            if (http_request_parser_refusal(parser, &text) < 400 || text == NULL) {
                abort();
            }
            break;
        }
        if (parse == HTTP_PARSE_WHOLE) {
            const struct http_request *request = http_request_parser_get(parser);
            size_t sum = strlen(request->path) + request->body.size;
            for (uint32_t i = 0; i < request->segments_count; i++) {
                sum += strlen(request->segments[i]);
            }
            for (uint32_t i = 0; i < request->parameters_count; i++) {
                sum += strlen(request->parameters[i].name) + strlen(request->parameters[i].value);
            }
            for (uint32_t i = 0; i < request->headers_count; i++) {
                sum += strlen(request->headers[i].name) + strlen(request->headers[i].value);
            }
            if (sum > 4 * LIMIT_HTTP_HEAD_BYTES + 4096) {
                abort(); /* more came out than can have gone in */
            }
            http_request_parser_next(parser);
        }
    }
    http_request_parser_close(parser);
    return 0;
}
