/* api_flow.h: what a request is, and which ones are sent away. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "nodes/cloud/api_flow.h"
#include "schemas/check.h"

struct asked {
    struct http_request_parser *parser;
    const struct http_request *request;
};

static struct asked ask(const char *method, const char *target, size_t body_bytes)
{
    char head[512];
    const int size =
        snprintf(head, sizeof head, "%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n",
                 method, target, body_bytes);
    assert_in_range(size, 1, sizeof head - 1);
    struct asked asked = {.parser = http_request_parser_open(LIMIT_HTTP_BODY_BYTES)};
    size_t used;
    enum http_parse parse =
        http_request_parser_feed(asked.parser, bytes_of(head, (size_t)size), &used);
    if (body_bytes > 0) {
        uint8_t *body = calloc(1, body_bytes);
        assert_non_null(body);
        parse = http_request_parser_feed(asked.parser, bytes_of(body, body_bytes), &used);
        free(body);
    }
    assert_int_equal(parse, HTTP_PARSE_WHOLE);
    asked.request = http_request_parser_get(asked.parser);
    return asked;
}

/* Claim: a request is what its method and URL say, and so is its level.
 * Method: each form of URL that Kubernetes has. */
static void test_kinds(void **state)
{
    (void)state;
    static const struct {
        const char *method;
        const char *target;
        enum api_verb verb;
        enum api_level level;
    } kinds[] = {
        {"GET", "/", API_OTHER, API_LEVEL_SMALL},
        {"GET", "/api", API_OTHER, API_LEVEL_SMALL},
        {"GET", "/api/v1", API_OTHER, API_LEVEL_SMALL},
        {"GET", "/apis/apps/v1", API_OTHER, API_LEVEL_SMALL},
        {"GET", "/version", API_OTHER, API_LEVEL_SMALL},
        {"GET", "/api/v1/pods", API_LIST, API_LEVEL_LIST},
        {"GET", "/api/v1/pods?watch=true", API_WATCH, API_LEVEL_SMALL},
        {"GET", "/api/v1/pods?watch=0", API_LIST, API_LEVEL_LIST},
        {"GET", "/api/v1/namespaces", API_LIST, API_LEVEL_LIST},
        {"GET", "/api/v1/namespaces/a", API_GET, API_LEVEL_SMALL},
        {"PUT", "/api/v1/namespaces/a/finalize", API_UPDATE, API_LEVEL_WRITE},
        {"GET", "/api/v1/namespaces/a/pods", API_LIST, API_LEVEL_LIST},
        {"GET", "/api/v1/namespaces/a/pods/b", API_GET, API_LEVEL_SMALL},
        {"PATCH", "/api/v1/namespaces/a/pods/b/status", API_PATCH, API_LEVEL_WRITE},
        {"POST", "/api/v1/namespaces/a/pods", API_CREATE, API_LEVEL_WRITE},
        {"DELETE", "/api/v1/namespaces/a/pods/b", API_DELETE, API_LEVEL_WRITE},
        {"DELETE", "/api/v1/namespaces/a/pods", API_DELETE_COLLECTION, API_LEVEL_LIST},
        {"PATCH", "/api/v1/nodes/e/status", API_PATCH, API_LEVEL_SMALL},
        {"GET", "/apis/coordination.k8s.io/v1/leases", API_LIST, API_LEVEL_LIST},
        {"PUT", "/apis/coordination.k8s.io/v1/namespaces/n/leases/e", API_UPDATE, API_LEVEL_SMALL},
        {"OPTIONS", "/api/v1/pods", API_OTHER, API_LEVEL_SMALL},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        const struct asked asked = ask(kinds[i].method, kinds[i].target, 0);
        const enum api_verb verb = api_flow_verb(asked.request);
        assert_string_equal(api_flow_verb_text(verb), api_flow_verb_text(kinds[i].verb));
        assert_int_equal(api_flow_level(asked.request, verb), kinds[i].level);
        http_request_parser_close(asked.parser);
    }
}

static uint32_t fill(struct api_flow *flow, const struct http_request *request,
                     struct api_passage *out)
{
    uint32_t taken = 0;
    while (taken < 10000 && api_flow_begin(flow, request, 0, out)) {
        taken++;
    }
    return taken;
}

/* Claim: each level is full at its own bound, and keeps nobody of another one out; bodies and answers have
 * bounds in bytes; what ends makes room again; the page tells what was sent away.
 * Method: each bound is met. */
static void test_bounds(void **state)
{
    (void)state;
    struct api_flow flow = {.body_bytes = 0};
    struct api_passage passage;
    const struct asked get = ask("GET", "/api/v1/namespaces/a/pods/b", 0);
    const struct asked list = ask("GET", "/api/v1/pods", 0);
    const struct asked write = ask("POST", "/api/v1/namespaces/a/pods", 0);
    const struct asked node = ask("PATCH", "/api/v1/nodes/e", 0);
    const struct asked large = ask("POST", "/api/v1/namespaces/a/pods", 1u << 20);
    const struct asked watch = ask("GET", "/api/v1/pods?watch=1", 0);

    assert_int_equal(fill(&flow, list.request, &passage), LIMIT_API_LISTINGS);
    assert_int_equal(passage.level, API_LEVEL_LIST);
    struct api_passage written;
    assert_true(api_flow_begin(&flow, write.request, 0, &written));
    assert_int_equal(fill(&flow, write.request, &passage), LIMIT_API_WRITES - 1);
    for (uint32_t i = 0; i < 100; i++) {
        assert_true(api_flow_begin(&flow, get.request, 0, &passage));
        assert_true(api_flow_begin(&flow, node.request, 0, &passage));
        assert_true(api_flow_begin(&flow, watch.request, 0, &passage));
    }
    api_flow_answer(&flow, &written, 201, 1000);
    api_flow_end(&flow, &written);
    assert_true(api_flow_begin(&flow, write.request, 0, &written));
    assert_false(api_flow_begin(&flow, write.request, 0, &passage));

    static char memory[65536];
    struct metrics_page page;
    metrics_page_init(&page, memory, sizeof memory);
    api_flow_metrics(&flow, &page);
    assert_false(page.overflowed);
    assert_non_null(strstr(memory, "kelp_api_shed_total{level=\"list\"} 1\n"));
    assert_non_null(strstr(memory, "kelp_api_shed_total{level=\"write\"} 2\n"));
    assert_non_null(strstr(memory, "kelp_api_shed_total{level=\"small\"} 0\n"));
    assert_non_null(strstr(memory, "kelp_api_requests_total{verb=\"create\",code=\"201\"} 1\n"));

    flow = (struct api_flow){.body_bytes = 0};
    assert_int_equal(fill(&flow, large.request, &passage), LIMIT_API_BODIES_BYTES >> 20);
    assert_true(api_flow_begin(&flow, write.request, 0, &passage)); /* small ones go on */
    assert_false(api_flow_begin(&flow, list.request, LIMIT_API_ANSWERS_BYTES, &passage));
    assert_true(api_flow_begin(&flow, get.request, LIMIT_API_ANSWERS_BYTES, &passage));
    assert_false(api_flow_begin(&flow, get.request, LIMIT_API_ANSWERS_BYTES_MAX, &passage));

    const struct asked *all[] = {&get, &list, &write, &node, &large, &watch};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        http_request_parser_close(all[i]->parser);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
