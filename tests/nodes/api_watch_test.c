/* Watches of the API door, over the real state machine and its history. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/nodes/api_support.h"

#define CMS "/api/v1/namespaces/default/configmaps"

static int open_rig(void **state)
{
    struct rig *rig = calloc(1, sizeof *rig);
    rig_open(rig);
    *state = rig;
    return 0;
}

static int close_rig(void **state)
{
    rig_close(*state);
    free(*state);
    return 0;
}

/* "ADDED a, MODIFIED a, ..." of what a stream has said so far; cleared for the next look. */
static void told(struct answer *answer, struct text *out)
{
    out->size = 0;
    text_append(out, "", 0);
    char *line = answer->body.size == 0 ? NULL : answer->body.data;
    while (line != NULL && *line != '\0') {
        char *end = strchr(line, '\n');
        assert_non_null(end);
        char why[100];
        json_t *event = json_read(bytes_of(line, (size_t)(end - line)), false, why, sizeof why);
        assert_non_null(event);
        const char *name = json_text_at(event, "object.metadata.name");
        if (json_at(event, "object.rows") != NULL) {
            name = json_text_at(json_array_get(json_at(event, "object.rows"), 0), "object.metadata.name");
        }
        text_print(out, "%s%s %s", out->size > 0 ? ", " : "", json_text_at(event, "type"), name);
        json_decref(event);
        line = end + 1;
    }
    answer->body.size = 0;
}

static void expect_told(struct rig *rig, struct answer *answer, const char *wanted)
{
    rig_run(rig);
    struct text text = {0};
    told(answer, &text);
    assert_string_equal(text.data, wanted);
    text_release(&text);
}

static void put(struct rig *rig, const char *name, const char *label)
{
    char target[128];
    char body[256];
    (void)snprintf(target, sizeof target, CMS "/%s?fieldManager=t", name);
    (void)snprintf(body, sizeof body,
                   "{\"metadata\":{\"name\":\"%s\",\"labels\":{\"app\":\"%s\"}}}", name, label);
    rig->content_type = "application/apply-patch+yaml";
    struct answer answer;
    rig_ask(rig, &answer, "PATCH", target, body);
    assert_true(answer.status == 200 || answer.status == 201);
    answer_release(&answer);
    rig->content_type = NULL;
}

static void gone(struct rig *rig, const char *name)
{
    char target[128];
    (void)snprintf(target, sizeof target, CMS "/%s", name);
    json_decref(rig_expect(rig, 200, "DELETE", target, ""));
}

static void end(struct answer *answer)
{
    if (!answer->ended) {
        api_call_gone(answer->call);
    }
    assert_true(answer->ended);
    answer_release(answer);
}

/* Claim: without a version the present state comes first, from a version only what is newer. */
static void test_start(void **state)
{
    struct rig *rig = *state;
    put(rig, "a", "x");
    json_t *list = rig_expect(rig, 200, "GET", CMS, "");
    put(rig, "b", "x");
    struct answer unset;
    struct answer zero;
    struct answer from;
    char target[128];
    (void)snprintf(target, sizeof target, CMS "?watch=true&resourceVersion=%s",
                   json_text_at(list, "metadata.resourceVersion"));
    rig_ask(rig, &unset, "GET", CMS "?watch=True", "");
    rig_ask(rig, &zero, "GET", CMS "?watch=1&resourceVersion=0&fieldSelector=metadata.name%3Da", "");
    rig_ask(rig, &from, "GET", target, "");
    expect_told(rig, &unset, "ADDED a, ADDED b");
    expect_told(rig, &zero, "ADDED a");
    expect_told(rig, &from, "ADDED b");
    put(rig, "a", "y");
    gone(rig, "b");
    expect_told(rig, &unset, "MODIFIED a, DELETED b");
    expect_told(rig, &zero, "MODIFIED a");
    expect_told(rig, &from, "MODIFIED a, DELETED b");
    assert_int_equal(api_watch_count(rig->api), 3);
    end(&unset);
    end(&zero);
    end(&from);
    assert_int_equal(api_watch_count(rig->api), 0);
    json_decref(list);
}

/* Claim: what the scheduler says of a pod is an event of that pod, told once however often it is said. */
static void test_scheduler_event(void **state)
{
    struct rig *rig = *state;
    struct answer watch;
    json_decref(rig_expect(rig, 201, "POST", "/api/v1/namespaces/default/pods",
            "{\"metadata\":{\"name\":\"p\"},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]}}"));
    rig_ask(rig, &watch, "GET",
            "/api/v1/events?watch=1&resourceVersion=0&fieldSelector=involvedObject.name%3Dp", "");
    const struct backend *backend = backend_fake_backend(rig->fake);
    struct codec *codec = codec_create();
    char key[LIMIT_KEY_BYTES] = "";
    for (unsigned i = 0; i < 3; i++) {
        struct bytes record;
        struct backend_view *view;
        struct backend_row row;
        struct record read;
        uint64_t version;
        codec_reset(codec);
        assert_int_equal(backend->view_open(backend->owner, &view, &version), 0);
        assert_int_equal(backend->view_get(backend->owner, view, bytes_text("/pods/default/p"), &row), 0);
        assert_int_equal(api_build_event(backend, codec, &row, "Warning", "FailedScheduling",
                                         i < 2 ? "0/1 nodes" : "0/2 nodes", &record), 0);
        backend->view_close(backend->owner, view);
        assert_int_equal(codec_record_read(codec, record, &read), 0);
        if (i == 1) {
            assert_string_equal(read.key, key); /* the state refuses it as existing */
            continue;
        }
        (void)snprintf(key, sizeof key, "%s", read.key);
        backend_fake_propose(rig->fake, &record, 1);
    }
    codec_destroy(codec);
    rig_run(rig);
    unsigned told = 0;
    for (const char *at = watch.body.data; (at = strstr(at, "\"ADDED\"")) != NULL; at++) {
        told++;
    }
    assert_int_equal(told, 2);
    assert_non_null(strstr(watch.body.data, "\"reason\":\"FailedScheduling\""));
    assert_non_null(strstr(watch.body.data, "\"component\":\"default-scheduler\""));
    end(&watch);
}

/* Claim: a watch that begins while news is on its way to the others is told nothing twice. */
static void test_start_between(void **state)
{
    struct rig *rig = *state;
    struct answer other;
    struct answer watch;
    rig_ask(rig, &other, "GET", "/api/v1/namespaces?watch=1", "");
    struct codec *codec = codec_create();
    struct bytes record;
    assert_int_equal(api_build_namespace(backend_fake_backend(rig->fake), codec, "new", &record), 0);
    backend_fake_propose(rig->fake, &record, 1); /* applied, and api_changed has not been called */
    codec_destroy(codec);
    rig_ask(rig, &watch, "GET", "/api/v1/namespaces?watch=1&resourceVersion=0&fieldSelector=metadata.name%3Dnew", "");
    expect_told(rig, &watch, "ADDED new");
    end(&watch);
    end(&other);
}

/* Claim: a selector turns changes into what happens to its set: entering is ADDED, leaving is DELETED with
 * the old content and the new version. */
static void test_transitions(void **state)
{
    struct rig *rig = *state;
    put(rig, "a", "in");
    put(rig, "b", "out");
    struct answer watch;
    rig_ask(rig, &watch, "GET", CMS "?watch=1&labelSelector=app%3Din", "");
    expect_told(rig, &watch, "ADDED a");
    put(rig, "b", "in");
    expect_told(rig, &watch, "ADDED b");
    put(rig, "a", "out");
    rig_run(rig);
    const struct backend *backend = backend_fake_backend(rig->fake);
    char version[40];
    (void)snprintf(version, sizeof version, "\"resourceVersion\":\"%llu\"",
                   (unsigned long long)backend->version(backend->owner));
    assert_non_null(strstr(watch.body.data, version));
    assert_non_null(strstr(watch.body.data, "\"app\":\"in\""));
    expect_told(rig, &watch, "DELETED a");
    put(rig, "a", "other");
    expect_told(rig, &watch, "");
    gone(rig, "a");
    expect_told(rig, &watch, "");
    gone(rig, "b");
    expect_told(rig, &watch, "DELETED b");
    end(&watch);
}

/* Claim: sendInitialEvents ends the present state with the annotated bookmark; bookmarks come each minute;
 * timeoutSeconds ends the stream whole. */
static void test_bookmarks(void **state)
{
    struct rig *rig = *state;
    put(rig, "a", "x");
    struct answer watch;
    rig_ask(rig, &watch, "GET",
            CMS "?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
                "&allowWatchBookmarks=true&timeoutSeconds=90",
            "");
    assert_non_null(strstr(watch.body.data, "\"k8s.io/initial-events-end\":\"true\""));
    expect_told(rig, &watch, "ADDED a, BOOKMARK ");
    const int64_t now = backend_fake_now_ms(rig->fake);
    backend_fake_set_now_ms(rig->fake, now + 59000);
    api_tick(rig->api);
    expect_told(rig, &watch, "");
    backend_fake_set_now_ms(rig->fake, now + 60000);
    api_tick(rig->api);
    expect_told(rig, &watch, "BOOKMARK ");
    backend_fake_set_now_ms(rig->fake, now + 90000);
    api_tick(rig->api);
    assert_true(watch.ended);
    assert_true(watch.whole);
    answer_release(&watch);
}

/* Claim: a version older than the history is told as an ERROR event with 410, and the stream ends. */
static void test_expired(void **state)
{
    struct rig *rig = *state;
    struct codec *codec = codec_create();
    const struct setting setting = {.name = "change_history_bytes", .value = 1};
    struct bytes body;
    struct bytes bytes;
    assert_int_equal(codec_setting_build(codec, &setting, &body), 0);
    const struct record record = {.kind = RECORD_SETTING, .key = "change_history_bytes", .body = body};
    assert_int_equal(codec_record_build(codec, &record, &bytes), 0);
    backend_fake_propose(rig->fake, &bytes, 1);
    codec_destroy(codec);
    put(rig, "a", "x");
    put(rig, "a", "y");
    struct answer watch;
    rig_ask(rig, &watch, "GET", CMS "?watch=1&resourceVersion=1", "");
    assert_non_null(strstr(watch.body.data, "{\"type\":\"ERROR\""));
    assert_non_null(strstr(watch.body.data, "\"reason\":\"Expired\",\"code\":410"));
    assert_true(watch.ended);
    assert_true(watch.whole);
    answer_release(&watch);
}

/* Claim: a Table is wanted and a Table comes, its columns once. */
static void test_table(void **state)
{
    struct rig *rig = *state;
    put(rig, "a", "x");
    struct answer watch;
    rig->accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    rig_ask(rig, &watch, "GET", CMS "?watch=1", "");
    rig->accept = NULL;
    assert_non_null(strstr(watch.body.data, "\"format\":\"name\""));
    expect_told(rig, &watch, "ADDED a");
    put(rig, "a", "y");
    rig_run(rig);
    assert_null(strstr(watch.body.data, "\"format\":\"name\""));
    expect_told(rig, &watch, "MODIFIED a");
    end(&watch);
}

/* Claim: a client that stops reading is not buffered without end: it is cut, the others go on; one that reads
 * again in time has missed nothing. */
static void test_slow(void **state)
{
    struct rig *rig = *state;
    struct answer slow;
    struct answer late;
    struct answer quick;
    rig_ask(rig, &slow, "GET", CMS "?watch=1", "");
    rig_ask(rig, &late, "GET", CMS "?watch=1", "");
    rig_ask(rig, &quick, "GET", CMS "?watch=1", "");
    slow.room = 0;
    late.room = 0;
    put(rig, "a", "x");
    put(rig, "a", "y");
    expect_told(rig, &late, "");
    late.room = UINT32_MAX;
    api_call_writable(late.call);
    expect_told(rig, &late, "ADDED a, MODIFIED a");

    struct text body = {0};
    text_add(&body, "{\"metadata\":{\"name\":\"big\"},\"data\":{\"k\":\"");
    for (uint32_t i = 0; i < 40000; i++) {
        text_add(&body, "0123456789abcdef");
    }
    text_add(&body, "\"}}");
    json_decref(rig_expect(rig, 201, "POST", CMS, body.data));
    text_release(&body);
    for (int i = 0; i < 8 && !slow.ended; i++) {
        char patch[64];
        (void)snprintf(patch, sizeof patch, "{\"data\":{\"n\":\"%d\"}}", i);
        rig->content_type = "application/merge-patch+json";
        json_decref(rig_expect(rig, 200, "PATCH", CMS "/big", patch));
        rig->content_type = NULL;
    }
    assert_true(slow.ended);
    assert_false(slow.whole);
    assert_false(quick.ended);
    answer_release(&slow);
    end(&late);
    end(&quick);
}

/* Claim: many large objects that change between two turns, or before the watch began, reach the client in
 * chunks that a connection takes (on_chunk of the rig checks it), all of them and in order. */
static void test_burst(void **state)
{
    struct rig *rig = *state;
    struct answer live;
    struct answer old;
    json_t *list = rig_expect(rig, 200, "GET", CMS, "");
    char target[96];
    (void)snprintf(target, sizeof target, CMS "?watch=1&resourceVersion=%s",
                   json_text_at(list, "metadata.resourceVersion"));
    json_decref(list);
    rig_ask(rig, &live, "GET", CMS "?watch=1", "");
    enum { OBJECTS = 8, WRITES = 62500 };
    struct answer writes[OBJECTS];
    for (int i = 0; i < OBJECTS; i++) {
        struct text body = {0};
        text_print(&body, "{\"metadata\":{\"name\":\"big-%d\"},\"data\":{\"k\":\"", i);
        for (uint32_t k = 0; k < WRITES; k++) {
            text_add(&body, "0123456789abcdef");
        }
        text_add(&body, "\"}}");
        rig_ask_bytes(rig, &writes[i], "POST", CMS, text_bytes(&body));
        text_release(&body);
    }
    rig_run(rig);
    for (int i = 0; i < OBJECTS; i++) {
        assert_int_equal(writes[i].status, 201);
        answer_release(&writes[i]);
    }
    rig_ask(rig, &old, "GET", target, "");
    rig_run(rig);
    static const char all[] = "ADDED big-0, ADDED big-1, ADDED big-2, ADDED big-3, ADDED big-4, "
                              "ADDED big-5, ADDED big-6, ADDED big-7";
    expect_told(rig, &live, all);
    expect_told(rig, &old, all);
    end(&live);
    end(&old);
}

/* Claim: whatever happens, a client that lists and then follows the events holds what a list shows. Method:
 * random writes; a watch that is blocked and unblocked at random, from a random old version. */
static void test_random(void **state)
{
    struct rig *rig = *state;
    const char *seed = getenv("SEED");
    srand(seed == NULL ? 1u : (unsigned)atoi(seed));
    json_t *list = rig_expect(rig, 200, "GET", CMS, "");
    char target[128];
    (void)snprintf(target, sizeof target, CMS "?watch=1&labelSelector=app%%3Din&resourceVersion=%s",
                   json_text_at(list, "metadata.resourceVersion"));
    json_decref(list);
    struct answer watch = {0};
    bool open = false;
    bool have[6] = {false};
    for (int i = 0; i < 400; i++) {
        const char name[2] = {(char)('a' + rand() % 6), '\0'};
        char path[64];
        (void)snprintf(path, sizeof path, CMS "/%s", name);
        struct answer there;
        if (rand() % 4 == 0) {
            rig_ask(rig, &there, "DELETE", path, "");
            answer_release(&there);
        } else {
            put(rig, name, rand() % 2 == 0 ? "in" : "out");
        }
        if (i == 40) {
            rig_ask(rig, &watch, "GET", target, "");
            open = true;
        }
        if (open && rand() % 8 == 0) {
            watch.room = 0;
        } else if (open && rand() % 8 == 0) {
            watch.room = UINT32_MAX;
            api_call_writable(watch.call);
        }
    }
    watch.room = UINT32_MAX;
    api_call_writable(watch.call);
    rig_run(rig);
    char *line = watch.body.data;
    while (line != NULL && *line != '\0') {
        char *stop = strchr(line, '\n');
        char why[100];
        json_t *event = json_read(bytes_of(line, (size_t)(stop - line)), false, why, sizeof why);
        const int at = json_text_at(event, "object.metadata.name")[0] - 'a';
        const char *type = json_text_at(event, "type");
        assert_true(at >= 0 && at < 6);
        assert_int_equal(have[at], strcmp(type, "ADDED") != 0); /* nothing is added twice or missed */
        have[at] = strcmp(type, "DELETED") != 0;
        json_decref(event);
        line = stop + 1;
    }
    list = rig_expect(rig, 200, "GET", CMS "?labelSelector=app%3Din", "");
    size_t count = 0;
    for (int i = 0; i < 6; i++) {
        count += have[i];
    }
    assert_int_equal(count, json_array_size(json_at(list, "items")));
    json_decref(list);
    end(&watch);
}

/* Claim: events of edges are watched like objects. */
static void test_events(void **state)
{
    struct rig *rig = *state;
    json_decref(rig_expect(rig, 201, "POST", "/api/v1/nodes", "{\"metadata\":{\"name\":\"e\"}}"));
    struct answer watch;
    rig_ask(rig, &watch, "GET",
            "/api/v1/events?watch=1&fieldSelector=involvedObject.name%3Dp%2Creason%3DStarted", "");
    struct codec *codec = codec_create();
    for (int i = 0; i < 2; i++) {
        const struct edge_event event = {.kind = "Pod", .namespace_ = "default", .name = "p",
                                         .type = "Normal", .reason = i == 0 ? "Pulled" : "Started",
                                         .message = "m", .count = 1, .first_ms = 1, .last_ms = 2};
        struct bytes body;
        assert_int_equal(codec_edge_event_build(codec, &event, &body), 0);
        backend_fake_report(rig->fake, "e", RECORD_EDGE_EVENT, "k", body);
    }
    codec_destroy(codec);
    rig_run(rig);
    struct text text = {0};
    told(&watch, &text);
    assert_memory_equal(text.data, "ADDED p.", 8);
    char target[128];
    (void)snprintf(target, sizeof target, "/api/v1/namespaces/default/events/%s", text.data + 6);
    json_t *json = rig_expect(rig, 200, "GET", target, "");
    assert_string_equal(json_text_at(json, "reason"), "Started");
    json_decref(json);
    json_decref(rig_expect(rig, 405, "DELETE", target, ""));
    text_release(&text);
    end(&watch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_rig, close_rig)
        TEST(test_start), TEST(test_scheduler_event), TEST(test_start_between), TEST(test_transitions), TEST(test_bookmarks), TEST(test_expired),
        TEST(test_table), TEST(test_slow),        TEST(test_burst),     TEST(test_random),    TEST(test_events),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
