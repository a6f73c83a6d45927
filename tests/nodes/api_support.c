#include "tests/nodes/api_support.h"

#include "schemas/check.h"

#include <stdio.h>
#include <stdlib.h>

void rig_open(struct rig *rig)
{
    *rig = (struct rig){.fake = backend_fake_create(), .group = "system:masters"};
    rig->api = api_open(backend_fake_backend(rig->fake));
}

void rig_close(struct rig *rig)
{
    api_stop(rig->api);
    while (backend_fake_run(rig->fake)) {
    }
    CHECK(api_idle(rig->api));
    api_close(rig->api);
    backend_fake_destroy(rig->fake);
}

void answer_release(struct answer *answer)
{
    text_release(&answer->headers);
    text_release(&answer->body);
    json_decref(answer->json);
    *answer = (struct answer){0};
}

static void on_header(void *client, const char *name, const char *value)
{
    struct answer *answer = client;
    text_print(&answer->headers, "%s: %s\n", name, value);
}

static void on_answer(void *client, uint32_t status, const char *type, struct bytes body)
{
    struct answer *answer = client;
    CHECK(!answer->ended);
    answer->status = status;
    answer->ended = true;
    answer->whole = true;
    (void)snprintf(answer->type, sizeof answer->type, "%s", type == NULL ? "" : type);
    text_append(&answer->body, body.data, body.size);
    char why[128];
    answer->json = json_read(body, false, why, sizeof why);
}

static int on_begin(void *client, uint32_t status, const char *type)
{
    struct answer *answer = client;
    CHECK(!answer->ended);
    answer->status = status;
    answer->stream = true;
    (void)snprintf(answer->type, sizeof answer->type, "%s", type);
    return 0;
}

static int on_chunk(void *client, struct bytes bytes)
{
    struct answer *answer = client;
    CHECK(answer->stream);
    CHECK(!answer->ended);
    CHECK(bytes.size <= LIMIT_WIRE_BYTES); /* as http_answer_chunk does */
    if (answer->room == 0) {
        return STATUS_FULL;
    }
    answer->room -= answer->room == UINT32_MAX ? 0 : 1;
    text_append(&answer->body, bytes.data, bytes.size);
    return 0;
}

static void on_end(void *client, bool whole)
{
    struct answer *answer = client;
    CHECK(!answer->ended);
    answer->ended = true;
    answer->whole = whole;
}

static const struct api_client_events events = {
    .header = on_header,
    .answer = on_answer,
    .begin = on_begin,
    .chunk = on_chunk,
    .end = on_end,
};

void rig_run(struct rig *rig)
{
    while (backend_fake_run(rig->fake)) {
    }
    while (api_changed(rig->api)) {
    }
}

void rig_start(struct rig *rig, struct answer *out, const char *method, const char *target,
               struct bytes body)
{
    *out = (struct answer){.room = UINT32_MAX};
    struct text wire = {0};
    text_print(&wire, "%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n", method, target,
               body.size);
    if (rig->accept != NULL) {
        text_print(&wire, "Accept: %s\r\n", rig->accept);
    }
    if (rig->content_type != NULL) {
        text_print(&wire, "Content-Type: %s\r\n", rig->content_type);
    }
    text_add(&wire, "\r\n");
    text_append(&wire, body.data, body.size);
    struct http_request_parser *parser = http_request_parser_open(LIMIT_HTTP_BODY_BYTES);
    size_t used;
    CHECK(http_request_parser_feed(parser, text_bytes(&wire), &used) == HTTP_PARSE_WHOLE);
    const char *groups[1] = {rig->group};
    const struct api_identity identity = {
        .verified = rig->group != NULL,
        .user = rig->group == NULL ? "" : rig->user == NULL ? "tester" : rig->user,
        .groups = groups,
        .group_count = rig->group == NULL ? 0 : 1,
    };
    out->call = api_request(rig->api, http_request_parser_get(parser), &identity, &events, out);
    http_request_parser_close(parser);
    text_release(&wire);
    CHECK((out->call == NULL) == out->ended);
}

void rig_ask_bytes(struct rig *rig, struct answer *out, const char *method, const char *target,
                   struct bytes body)
{
    rig_start(rig, out, method, target, body);
    rig_run(rig);
    CHECK(out->ended || out->stream);
}

void rig_ask(struct rig *rig, struct answer *out, const char *method, const char *target,
             const char *body)
{
    rig_ask_bytes(rig, out, method, target, bytes_text(body));
}

json_t *rig_expect(struct rig *rig, uint32_t status, const char *method, const char *target,
                   const char *body)
{
    struct answer answer;
    rig_ask(rig, &answer, method, target, body);
    if (answer.status != status) {
        fprintf(stderr, "%s %s: %u instead of %u: %s\n", method, target, answer.status, status,
                answer.body.data);
    }
    CHECK(answer.status == status);
    json_t *json = json_incref(answer.json);
    answer_release(&answer);
    return json;
}
