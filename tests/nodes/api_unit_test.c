/* The small parts of the API door: selectors, quantities, names, times, protobuf, patches of JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "nodes/cloud/api.h"
#include "nodes/cloud/api_object.h"
#include "nodes/cloud/api_patch.h"
#include "nodes/cloud/api_protobuf.h"
#include "nodes/cloud/api_select.h"

static json_t *parse(const char *text)
{
    char why[200];
    json_t *value = json_read(bytes_text(text), false, why, sizeof why);
    assert_non_null(value);
    return value;
}

/* Claim: label selectors mean what Kubernetes says, != and notin match a missing label too; what is not a
 * selector is a 400. */
static void test_labels(void **state)
{
    (void)state;
    json_t *object = parse("{\"metadata\":{\"labels\":{\"app\":\"web\",\"tier\":\"a\",\"x/y\":\"\"}}}");
    static const struct {
        const char *text;
        int match; /* -1: malformed */
    } cases[] = {
        {"", 1}, {"app=web", 1}, {"app==web", 1}, {"app=api", 0}, {"app!=web", 0}, {"app!=api", 1},
        {"none!=x", 1}, {"app in (api, web)", 1}, {"app in (api)", 0}, {"app notin (api)", 1},
        {"none notin (a)", 1}, {"app", 1}, {"none", 0}, {"!none", 1}, {"! app", 0}, {"x/y=", 1},
        {"app=web,tier=a", 1}, {"app=web , tier in (b,c)", 0}, {"in=1", 0}, {"app=web,", -1},
        {",", -1}, {"app in web", -1}, {"app in (web", -1}, {"=x", -1}, {"app=web tier=a", -1},
        {"a=b=c", -1}, {"!", -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct api_select select = {0};
        struct api_error error = {0};
        const bool fine = api_select_labels(cases[i].text, &select, &error);
        if (fine != (cases[i].match >= 0)) {
            print_message("selector: %s\n", cases[i].text);
        }
        assert_int_equal(fine, cases[i].match >= 0);
        assert_int_equal(error.code, fine ? 0 : 400);
        if (fine) {
            assert_int_equal(api_select_match_labels(&select, object), cases[i].match);
        }
        api_select_release(&select);
        api_error_release(&error);
    }
    struct text many = {0};
    for (uint32_t i = 0; i <= LIMIT_SELECTOR_TERMS; i++) {
        text_print(&many, "%sa", i == 0 ? "" : ",");
    }
    struct api_select select = {0};
    struct api_error error = {0};
    assert_false(api_select_labels(many.data, &select, &error));
    api_select_release(&select);
    api_error_release(&error);
    text_release(&many);
    json_decref(object);
}

/* Claim: field selectors compare values, absent is empty, absent booleans are false. */
static void test_fields(void **state)
{
    (void)state;
    json_t *pod = parse("{\"metadata\":{\"name\":\"p\"},\"spec\":{\"nodeName\":\"e\"},\"status\":{\"phase\":\"Running\"}}");
    static const struct {
        enum api_kind kind;
        const char *text;
        int match;
    } cases[] = {
        {API_POD, "status.phase!=Failed,spec.nodeName=e,status.phase!=Succeeded", 1},
        {API_POD, "metadata.name==p", 1},
        {API_POD, "status.podIP=", 1},
        {API_POD, "spec.nodeName!=", 1},
        {API_NODE, "spec.unschedulable=false", 1},
        {API_NODE, "spec.unschedulable=true", 0},
        {API_NODE, "spec.nodeName=e", -1},
        {API_POD, "nonsense", -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct api_select select = {0};
        struct api_error error = {0};
        const bool fine = api_select_fields(cases[i].text, api_resource_get(cases[i].kind), &select, &error);
        assert_int_equal(fine, cases[i].match >= 0);
        if (fine) {
            assert_int_equal(api_select_match_fields(&select, pod), cases[i].match);
        }
        api_select_release(&select);
        api_error_release(&error);
    }
    json_decref(pod);
}

/* Claim: quantities as Kubernetes writes them, in thousandths, rounded up; the rest is refused. */
static void test_quantities(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t milli; /* -1: none */
    } cases[] = {
        {"1", 1000}, {"250m", 250}, {"0.5", 500}, {"1.5Gi", 1610612736000}, {"64Mi", 67108864000},
        {"2k", 2000000}, {"1e3", 1000000}, {"1E2", 100000}, {"0", 0}, {"0.0001", 1}, {"100n", -1},
        {"", -1}, {"Mi", -1}, {"1.2.3", -1}, {"1 Gi", -1}, {"9999999999999999999999", -1},
        {"9000000000000000000", -1}, {"9999999999999999Pi", -1}, {"1e99", -1}, {"0x10", -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *value = json_string(cases[i].text);
        int64_t milli = -1;
        assert_int_equal(quantity_parse(value, &milli), cases[i].milli >= 0);
        assert_int_equal(milli, cases[i].milli);
        json_decref(value);
    }
}

static void test_names(void **state)
{
    (void)state;
    assert_true(api_name_valid("a", true));
    assert_true(api_name_valid("a-1.b", false));
    static const char *const bad[] = {"", "A", "-a", "a-", "a..b", ".a", "a.", "a.-b", "a_b", "a/b"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(api_name_valid(bad[i], false));
    }
    assert_false(api_name_valid("a.b", true));
}

static void test_times(void **state)
{
    (void)state;
    char text[TIME_TEXT_BYTES];
    assert_string_equal(time_text_micro(1738310400123, text), "2025-01-31T08:00:00.123000Z");
    assert_int_equal(time_parse("2025-01-31T08:00:00Z"), 1738310400000);
    assert_int_equal(time_parse("2025-01-31T09:00:00.5+01:00"), 1738310400500);
    assert_int_equal(time_parse("yesterday"), -1);
    assert_string_equal(time_age(1000, 120000, text), "119s");
    assert_string_equal(time_age(1000, 121000, text), "2m");
    assert_string_equal(time_age(1000, 7201000, text), "2h");
    assert_string_equal(time_age(1000, 172801000, text), "2d");
    assert_string_equal(time_age(0, 1, text), "<unknown>");
    assert_string_equal(time_text(INT64_MAX, text), "1970-01-01T00:00:00Z");
}

/* Claim: a Secret as kubectl encodes it becomes its JSON, and each cut of it is refused or smaller, never a
 * crash. */
static void test_protobuf(void **state)
{
    (void)state;
    static const char body[] = "k8s\0\n\x0c\n\x02v1\x12\x06Secret\x12\x16\n\x0a\n\x02s1\x12\0B\0\x78\0"
                               "\x12\x06\n\x01k\x12\x01v\x1a\0";
    /* metadata is 10 bytes: name, empty generateName, empty creationTimestamp, then a field 15 that we do not know */
    const size_t size = sizeof body - 1;
    char why[200];
    uint8_t *copy = malloc(size);
    memcpy(copy, body, size);
    json_t *object = api_protobuf_read(bytes_of(copy, size), why, sizeof why);
    if (object == NULL) {
        print_message("%s\n", why);
    }
    assert_non_null(object);
    assert_string_equal(json_text_at(object, "kind"), "Secret");
    assert_string_equal(json_text_at(object, "metadata.name"), "s1");
    assert_null(json_at(object, "metadata.generateName"));
    assert_string_equal(json_text_at(object, "data.k"), "dg==");
    json_decref(object);
    for (size_t cut = 0; cut < size; cut++) {
        json_decref(api_protobuf_read(bytes_of(copy, cut), why, sizeof why));
    }
    free(copy);
}

/* Claim: a JSON patch can grow no document deeper or larger than our bounds. */
static void test_patch_bounds(void **state)
{
    (void)state;
    json_t *document = parse("{\"a\":{\"b\":{}}}");
    struct text patch = {0};
    text_add(&patch, "[");
    for (uint32_t i = 0; i < 100; i++) {
        text_print(&patch, "%s{\"op\":\"copy\",\"from\":\"/a\",\"path\":\"/a/b/c%u\"}", i == 0 ? "" : ",", i);
    }
    text_add(&patch, "]");
    json_t *operations = parse(patch.data);
    struct api_error error = {0};
    assert_false(api_patch_json(document, operations, &error));
    assert_int_equal(error.code, 422);
    api_error_release(&error);
    json_decref(operations);
    json_decref(document);
    text_release(&patch);
}

/* A row with this wish; its bytes live in the codec. */
static struct backend_row row_of(struct codec *codec, const char *wish)
{
    const struct object_put put = {
        .mode = PUT_ANY,
        .object = {.version = "v1", .kind = "any", .resource = "any", .name = "any", .uid = "any",
                   .json = bytes_text(wish)},
    };
    struct backend_row row = {.key = bytes_text("any")};
    assert_int_equal(codec_object_put_build(codec, &put, &row.wish), 0);
    return row;
}

/* Claim: a pod goes where selector and taints allow it, where nothing is cordoned and the disk has room; what a
 * taint of Kubernetes stands for is tolerated under that taint's name.
 * Method: each reason alone, with and without the toleration. */
static void test_pod_fits(void **state)
{
    (void)state;
#define TOLERATES(key) "{\"spec\":{\"tolerations\":[{\"key\":\"" key "\",\"operator\":\"Exists\"}]}}"
    static const struct {
        const char *pod;
        const char *node;
        enum condition_status disk;
        const char *why; /* NULL: it fits */
    } cases[] = {
        {"{}", "{}", CONDITION_FALSE, NULL},
        {"{}", "{}", CONDITION_UNKNOWN, NULL}, /* then it is not ready, which is asked elsewhere */
        {"{}", "{}", CONDITION_TRUE, "disk pressure"},
        {TOLERATES("node.kubernetes.io/disk-pressure"), "{}", CONDITION_TRUE, NULL},
        {TOLERATES("node.kubernetes.io/unschedulable"), "{}", CONDITION_TRUE, "disk pressure"},
        {"{}", "{\"spec\":{\"unschedulable\":true}}", CONDITION_FALSE, "unschedulable"},
        {TOLERATES("node.kubernetes.io/unschedulable"), "{\"spec\":{\"unschedulable\":true}}",
         CONDITION_FALSE, NULL},
        {"{}", "{\"spec\":{\"taints\":[{\"key\":\"a\",\"effect\":\"NoSchedule\"}]}}",
         CONDITION_FALSE, "taint"},
        {TOLERATES("a"), "{\"spec\":{\"taints\":[{\"key\":\"a\",\"effect\":\"NoSchedule\"}]}}",
         CONDITION_FALSE, NULL},
        {"{\"spec\":{\"nodeSelector\":{\"a\":\"b\"}}}", "{}", CONDITION_FALSE, "selector"},
        {"{\"spec\":{\"nodeSelector\":{\"a\":\"b\"}}}", "{\"metadata\":{\"labels\":{\"a\":\"b\"}}}",
         CONDITION_FALSE, NULL},
    };
#undef TOLERATES
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct codec *codec = codec_create();
        const struct backend_row pod = row_of(codec, cases[i].pod);
        struct backend_row node = row_of(codec, cases[i].node);
        const struct condition conditions[] = {
            {.type = "Ready", .status = CONDITION_TRUE, .reason = "", .message = ""},
            {.type = "DiskPressure", .status = (uint8_t)cases[i].disk, .reason = "", .message = ""},
        };
        const struct node_status status = {.conditions = conditions, .condition_count = 2};
        assert_int_equal(codec_node_status_build(codec, &status, &node.fact), 0);
        const char *why = NULL;
        assert_int_equal(api_pod_fits(&pod, &node, &why), cases[i].why == NULL);
        if (cases[i].why != NULL) {
            assert_non_null(strstr(why, cases[i].why));
        }
        codec_destroy(codec);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_labels), cmocka_unit_test(test_fields),   cmocka_unit_test(test_quantities),
        cmocka_unit_test(test_names),  cmocka_unit_test(test_times),    cmocka_unit_test(test_protobuf),
        cmocka_unit_test(test_patch_bounds), cmocka_unit_test(test_pod_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
