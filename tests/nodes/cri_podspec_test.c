/* Quantities, config maps and secrets, the JSON of pods, and what containers are made of. */
#include "nodes/edge/podspec.h"
#include "nodes/edge/quantity.h"
#include "nodes/edge/source.h"
#include "schemas/check.h"
#include "schemas/status.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_quantities(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t milli; /* -1: refused */
    } cases[] = {
        {"1", 1000},
        {"250m", 250},
        {"0.5", 500},
        {"1.5Gi", 1610612736000},
        {"128Mi", 134217728000},
        {"1e3", 1000000},
        {"2E2", 200000},
        {"1E", INT64_MAX},
        {"64Ki", 65536000},
        {"1k", 1000000},
        {"100n", 1},
        {"1u", 1},
        {"0", 0},
        {"+3", 3000},
        {"0.0001", 1},
        {"9999999999999999999", INT64_MAX},
        {"16Ei", INT64_MAX},
        {".5", 500},
        {"5.", 5000},
        {"", -1},
        {"m", -1},
        {"-1", -1},
        {"1.2.3", -1},
        {"1Qi", -1},
        {"1 ", -1},
        {"1e", -1},
        {"1e99", -1},
        {"0x10", -1},
        {"1mm", -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t milli = -1;
        const bool taken = quantity_parse(cases[i].text, &milli);
        if (taken != (cases[i].milli >= 0) || (taken && milli != cases[i].milli)) {
            fail_msg("%s is %d %" PRId64 ", not %" PRId64, cases[i].text, taken, milli,
                     cases[i].milli);
        }
    }
}

static void test_sources(void **state)
{
    (void)state;
    struct arena arena;
    struct source source;
    char error[128];
    arena_init(&arena);
    assert_int_equal(
        source_parse(
            bytes_text("{\"data\":{\"b\":\"2\",\"a\":\"\"},\"binaryData\":{\"c\":\"AAEC\"}}"),
            false, &arena, &source, error, sizeof error),
        0);
    assert_int_equal(source.count, 3);
    assert_string_equal(source.keys[0].key, "a");
    assert_int_equal(source_find(&source, "a")->content.size, 0);
    assert_memory_equal(source_find(&source, "c")->content.data, "\0\1\2", 3);
    assert_null(source_find(&source, "d"));
    static const struct {
        const char *base64, *text; /* NULL: refused */
    } cases[] = {{"", ""},        {"QQ==", "A"},           {"QUI=", "AB"},
                 {"QUJD", "ABC"}, {"QUJ\\nDRA==", "ABCD"}, {"QQ=", NULL},
                 {"Q", NULL},     {"QQ==QQ==", NULL},      {"Q*==", NULL},
                 {"====", NULL},  {"=QQ=", NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char json[128];
        snprintf(json, sizeof json, "{\"data\":{\"k\":\"%s\"}}", cases[i].base64);
        const int status =
            source_parse(bytes_text(json), true, &arena, &source, error, sizeof error);
        assert_int_equal(status, cases[i].text == NULL ? STATUS_MALFORMED : 0);
        if (status == 0) {
            assert_true(bytes_equal_text(source.keys[0].content, cases[i].text));
        }
    }
    static const char *const bad[] = {"", "[]", "{", "{\"data\":{\"a\":1}}", "\"x\""};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(
            source_parse(bytes_text(bad[i]), false, &arena, &source, error, sizeof error),
            STATUS_MALFORMED);
        assert_true(strlen(error) > 0);
    }
    arena_deinit(&arena);
}

#define POD(spec)                                                                                  \
    "{\"metadata\":{\"name\":\"web\",\"namespace\":\"ns\",\"uid\":\"u1\",\"labels\":{\"b\":\"2\"," \
    "\"a\":\"q\\\"\"}},\"spec\":{" spec "}}"
#define C(rest) "\"containers\":[{\"name\":\"c\",\"image\":\"i:1\"" rest "}]"

/* Claim: what is no pod is refused with a sentence that names the field, whatever the shape. */
static void test_refusals_name_the_field(void **state)
{
    (void)state;
    static const struct {
        const char *json, *words;
    } cases[] = {
        {"", "not JSON"},
        {"[]", "not an object"},
        {"{}", "metadata and spec are required"},
        {"{\"metadata\":[],\"spec\":{}}", "metadata and spec are required"},
        {"{\"metadata\":{\"name\":\"a\"},\"spec\":{" C("") "}}", "metadata.uid"},
        {"{\"metadata\":{\"name\":\"a\",\"uid\":\"../x\"},\"spec\":{" C("") "}}",
         "without slashes"},
        {POD("\"a\":1"), "spec.containers"},
        {POD("\"containers\":{}"), "spec.containers must be a list"},
        {POD("\"containers\":[1]"), "no usable name"},
        {POD("\"containers\":[{\"name\":\"c\"}]"), "container c has no image"},
        {POD("\"containers\":[{\"name\":\"c/d\",\"image\":\"i\"}]"), "usable name"},
        {POD("\"containers\":[{\"name\":\"c\",\"image\":\"i\"},{\"name\":\"c\",\"image\":\"i\"}]"),
         "two containers are called c"},
        {POD(C(",\"command\":\"sh\"")), "command must be a list"},
        {POD(C(",\"command\":[1]")), "command[0] must be a string"},
        {POD(C(",\"tty\":\"yes\"")), "tty must be true or false"},
        {POD(C(",\"env\":[{}]")), "env[0] of container c has no name"},
        {POD(C(",\"envFrom\":[{}]")), "envFrom[0] of container c"},
        {POD(C(",\"resources\":{\"limits\":{\"cpu\":\"lots\"}}")), "\"lots\" is no quantity"},
        {POD(C(",\"volumeMounts\":[{\"name\":\"v\",\"mountPath\":\"/x\"}]")),
         "mounts the volume v, which is not there"},
        {POD("\"volumes\":[{\"name\":\"v\",\"emptyDir\":{}}]," C(
             ",\"volumeMounts\":[{\"name\":\"v\",\"mountPath\":\"x\"}]")),
         "must be absolute"},
        {POD("\"volumes\":[{\"name\":\"../v\",\"emptyDir\":{}}]," C("")), "no usable name"},
        {POD("\"volumes\":[{\"name\":\"v\",\"configMap\":{}}]," C("")), "names no config map"},
        {POD(C(",\"ports\":[{\"containerPort\":99999}]")), "between 1 and 65535"},
        {POD("\"terminationGracePeriodSeconds\":\"x\"," C("")),
         "terminationGracePeriodSeconds must be a whole number"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pod_spec spec;
        char error[256] = "";
        assert_int_equal(podspec_parse(bytes_text(cases[i].json), &spec, error, sizeof error),
                         STATUS_MALFORMED);
        if (strstr(error, cases[i].words) == NULL) {
            fail_msg("case %zu says \"%s\", not \"%s\"", i, error, cases[i].words);
        }
    }
}

/* Claim: every cut of a whole pod is refused, none crashes. */
static void test_every_cut_is_refused(void **state)
{
    (void)state;
    static const char whole[] =
        POD("\"volumes\":[{\"name\":\"v\",\"secret\":{\"secretName\":\"s\",\"items\":[{\"key\":"
            "\"k\",\"path\":\"p\"}]}}]," C(
                ",\"env\":[{\"name\":\"A\",\"valueFrom\":{\"fieldRef\":{\"fieldPath\":\"metadata."
                "name\"}}}],\"volumeMounts\":[{\"name\":\"v\",\"mountPath\":\"/x\"}]"));
    struct pod_spec spec;
    char error[256];
    for (size_t size = 0; size < sizeof whole - 1; size++) {
        assert_true(podspec_parse(bytes_of(whole, size), &spec, error, sizeof error) < 0);
    }
    assert_int_equal(podspec_parse(bytes_text(whole), &spec, error, sizeof error), 0);
    podspec_deinit(&spec);
}

/* Claim: what changes the meaning of a pod and is not done is noted; what cannot be left out refuses. */
static void test_notes(void **state)
{
    (void)state;
    static const struct {
        const char *json, *words;
        bool refuses;
    } cases[] = {
        {POD("\"volumes\":[{\"name\":\"v\",\"nfs\":{}}]," C("")), "volume v: nfs is not supported",
         true},
        {POD("\"volumes\":[{\"name\":\"v\",\"persistentVolumeClaim\":{\"claimName\":\"x\"}}]," C(
             "")),
         "persistentVolumeClaim", true},
        {POD("\"volumes\":[{\"name\":\"v\",\"projected\":{\"sources\":[{\"serviceAccountToken\":{}}"
             "]}}]," C("")),
         "serviceAccountToken", true},
        {POD("\"volumes\":[{\"name\":\"v\",\"configMap\":{\"name\":\"x\",\"items\":[{\"key\":\"k\","
             "\"path\":\"../p\"}]}}]," C("")),
         "leaves the volume", true},
        {POD("\"volumes\":[{\"name\":\"v\",\"emptyDir\":{}}]," C(
             ",\"volumeMounts\":[{\"name\":\"v\",\"mountPath\":\"/x\",\"subPath\":\"a\"}]")),
         "subPath of an emptyDir", true},
        {POD("\"volumes\":[{\"name\":\"v\",\"hostPath\":{\"path\":\"/x\",\"type\":\"Odd\"}}]," C(
             "")),
         "known type", true},
        {POD("\"runtimeClassName\":\"x\"," C("")), "runtimeClassName", true},
        {POD("\"hostUsers\":false," C("")), "hostUsers", true},
        {POD("\"initContainers\":[{\"name\":\"i\",\"image\":\"i:1\",\"restartPolicy\":\"Always\"}]"
             "," C("")),
         "sidecar", true},
        {POD(C(",\"resources\":{\"limits\":{\"nvidia.com/gpu\":1}}")), "nvidia.com/gpu", true},
        {POD(C(",\"securityContext\":{\"runAsNonRoot\":true}")), "runAsNonRoot", true},
        {POD(C(",\"securityContext\":{\"seLinuxOptions\":{\"level\":\"x\"}}")), "seLinuxOptions",
         true},
        {POD(C(",\"livenessProbe\":{\"exec\":{\"command\":[\"x\"]}}")), "livenessProbe is not run",
         false},
        {POD(C(",\"lifecycle\":{\"preStop\":{}}")), "lifecycle", false},
        {POD("\"imagePullSecrets\":[{\"name\":\"x\"}]," C("")), "imagePullSecrets", false},
        {POD("\"readinessGates\":[{\"conditionType\":\"x\"}]," C("")), "readinessGates", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pod_spec spec;
        char error[256];
        assert_int_equal(podspec_parse(bytes_text(cases[i].json), &spec, error, sizeof error), 0);
        if (spec.note_count != 1 || strstr(spec.notes[0].text, cases[i].words) == NULL ||
            spec.notes[0].refuses != cases[i].refuses) {
            fail_msg("case %zu: %zu notes, the first \"%s\"", i, spec.note_count,
                     spec.note_count > 0 ? spec.notes[0].text : "");
        }
        assert_int_equal(podspec_refusal(&spec) != NULL, cases[i].refuses);
        podspec_deinit(&spec);
    }
}

static int find(void *context, bool secret, const char *namespace, const char *name,
                struct bytes *out)
{
    (void)context;
    assert_string_equal(namespace, "ns");
    if (!secret && strcmp(name, "map") == 0) {
        *out = bytes_text("{\"data\":{\"color\":\"blue\",\"bad key\":\"x\",\"size\":\"9\"}}");
        return 0;
    }
    if (secret && strcmp(name, "sec") == 0) {
        *out = bytes_text("{\"data\":{\"pass\":\"czNj\"}}");
        return 0;
    }
    return -ENOENT;
}

static const struct pod_lookup lookup = {.find = find};
static const struct pod_facts facts = {.pod_ip = "10.0.0.7",
                                       .host_ip = "192.0.2.1",
                                       .node_name = "edge-1",
                                       .root = "/r",
                                       .node_cpu_milli = 4000,
                                       .node_memory_bytes = 8ll << 30};

/* One line per variable, then command and args, then mounts: a text to compare with. */
static const char *resolved(const char *json, size_t index, int expect)
{
    static char text[4096];
    struct pod_spec spec;
    struct driver_container container;
    struct arena arena;
    char error[256] = "";
    size_t used = 0;
    arena_init(&arena);
    assert_int_equal(podspec_parse(bytes_text(json), &spec, error, sizeof error), 0);
    const int status =
        podspec_resolve(&spec, index, 4, &lookup, &facts, &arena, &container, error, sizeof error);
    assert_int_equal(status, expect);
    text[0] = 0;
    if (status != 0) {
        snprintf(text, sizeof text, "%s", error);
    }
    for (size_t i = 0; status == 0 && i < container.env_count; i++) {
        used += (size_t)snprintf(text + used, sizeof text - used, "%s=%s\n", container.env[i].name,
                                 container.env[i].value);
    }
    for (size_t i = 0; status == 0 && i < container.command_count + container.arg_count; i++) {
        used += (size_t)snprintf(text + used, sizeof text - used, "[%s]\n",
                                 i < container.command_count
                                     ? container.command[i]
                                     : container.args[i - container.command_count]);
    }
    for (size_t i = 0; status == 0 && i < container.mount_count; i++) {
        used += (size_t)snprintf(text + used, sizeof text - used, "%s -> %s%s\n",
                                 container.mounts[i].container_path, container.mounts[i].host_path,
                                 container.mounts[i].read_only ? " ro" : "");
    }
    if (status == 0) {
        snprintf(text + used, sizeof text - used,
                 "%s shares=%" PRId64 " quota=%" PRId64 " memory=%" PRId64 " oom=%" PRId64 "\n",
                 container.log_path, container.cpu_shares, container.cpu_quota_us,
                 container.memory_limit_bytes, container.oom_score_adj);
    }
    podspec_deinit(&spec);
    arena_deinit(&arena);
    return text;
}

static void test_environment(void **state)
{
    (void)state;
    assert_string_equal(
        resolved(
            POD(C(",\"envFrom\":[{\"prefix\":\"P_\",\"configMapRef\":{\"name\":\"map\"}},{"
                  "\"secretRef\":{\"name\":\"sec\"}},"
                  "{\"configMapRef\":{\"name\":\"none\",\"optional\":true}}],"
                  "\"env\":[{\"name\":\"A\",\"value\":\"x$(P_color)$$(A)$(NONE)$(\"},{\"name\":"
                  "\"pass\",\"value\":\"over\"},"
                  "{\"name\":\"B\",\"valueFrom\":{\"fieldRef\":{\"fieldPath\":\"metadata.labels['a'"
                  "]\"}}},"
                  "{\"name\":\"IP\",\"valueFrom\":{\"fieldRef\":{\"fieldPath\":\"status.podIP\"}}},"
                  "{\"name\":\"L\",\"valueFrom\":{\"resourceFieldRef\":{\"resource\":\"limits."
                  "cpu\",\"divisor\":\"1m\"}}},"
                  "{\"name\":\"M\",\"valueFrom\":{\"resourceFieldRef\":{\"resource\":\"limits."
                  "memory\",\"divisor\":\"1Mi\"}}},"
                  "{\"name\":\"O\",\"valueFrom\":{\"secretKeyRef\":{\"name\":\"sec\",\"key\":"
                  "\"no\",\"optional\":true}}},"
                  "{\"name\":\"Z\",\"value\":\"$(B)/"
                  "$(A)\"}],\"command\":[\"$(Z)\",\"$$(Z)\"],\"args\":[\"$(IP)\"],"
                  "\"resources\":{\"limits\":{\"memory\":\"100Mi\"},\"requests\":{\"cpu\":\"500m\","
                  "\"memory\":\"50Mi\"}}")),
            0, 0),
        "P_color=blue\nP_size=9\npass=over\nA=xblue$(A)$(NONE)$(\nB=q\"\nIP=10.0.0.7\nL=4000\nM="
        "100\nZ=q\"/xblue$(A)$(NONE)$(\n"
        "[q\"/xblue$(A)$(NONE)$(]\n[$(Z)]\n[10.0.0.7]\n/etc/hosts -> /r/pods/u1/etc-hosts\nc/4.log "
        "shares=512 quota=0 "
        "memory=104857600 oom=994\n");
    assert_string_equal(resolved(POD(C(",\"env\":[{\"name\":\"A\",\"valueFrom\":{"
                                       "\"configMapKeyRef\":{\"name\":\"map\",\"key\":\"no\"}}}]")),
                                 0, STATUS_MALFORMED),
                        "couldn't find key no in ConfigMap ns/map");
    assert_string_equal(
        resolved(POD(C(",\"envFrom\":[{\"secretRef\":{\"name\":\"none\"}}]")), 0, STATUS_MALFORMED),
        "secret \"none\" not found");
    assert_string_equal(resolved(POD(C(",\"env\":[{\"name\":\"A\",\"valueFrom\":{\"fieldRef\":{"
                                       "\"fieldPath\":\"spec.odd\"}}}]")),
                                 0, STATUS_MALFORMED),
                        "variable A: the field spec.odd is not supported");
}

static void test_mounts_and_resources(void **state)
{
    (void)state;
    assert_string_equal(
        resolved(POD("\"hostNetwork\":true,\"volumes\":[{\"name\":\"e\",\"emptyDir\":{}},{\"name\":"
                     "\"h\",\"hostPath\":{\"path\":\"/srv\"}},"
                     "{\"name\":\"m\",\"configMap\":{\"name\":\"map\"}},{\"name\":\"p\","
                     "\"projected\":{\"sources\":[{\"secret\":{\"name\":\"sec\"}}]}}]," C(
                         ",\"volumeMounts\":[{\"name\":\"e\",\"mountPath\":\"/"
                         "e\"},{\"name\":\"h\",\"mountPath\":\"/h\",\"readOnly\":true},"
                         "{\"name\":\"m\",\"mountPath\":\"/"
                         "m\",\"subPath\":\"color\"},{\"name\":\"p\",\"mountPath\":\"/p\"}],"
                         "\"resources\":{\"limits\":{\"cpu\":2,\"memory\":\"1Gi\"}}")),
                 0, 0),
        "/e -> /r/pods/u1/volumes/empty-dir/e\n/h -> /srv ro\n/m -> "
        "/r/pods/u1/volumes/config-map/m/color ro\n"
        "/p -> /r/pods/u1/volumes/projected/p ro\nc/4.log shares=2048 quota=200000 "
        "memory=1073741824 oom=-997\n");
    assert_string_equal(
        resolved(POD(C("")), 0, 0),
        "/etc/hosts -> /r/pods/u1/etc-hosts\nc/4.log shares=2 quota=0 memory=0 oom=1000\n");
}

static void test_pull_policy_and_references(void **state)
{
    (void)state;
    static const struct {
        const char *image;
        enum pod_pull pull;
    } cases[] = {{"a:1", POD_PULL_IF_NOT_PRESENT},
                 {"a", POD_PULL_ALWAYS},
                 {"a:latest", POD_PULL_ALWAYS},
                 {"host:5000/a", POD_PULL_ALWAYS},
                 {"host:5000/a:2", POD_PULL_IF_NOT_PRESENT},
                 {"a@sha256:0", POD_PULL_IF_NOT_PRESENT}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char json[512], error[128];
        struct pod_spec spec;
        snprintf(json, sizeof json, POD("\"containers\":[{\"name\":\"c\",\"image\":\"%s\"}]"),
                 cases[i].image);
        assert_int_equal(podspec_parse(bytes_text(json), &spec, error, sizeof error), 0);
        assert_int_equal(spec.containers[0].pull, cases[i].pull);
        podspec_deinit(&spec);
    }
    struct pod_spec spec;
    char error[128];
    assert_int_equal(
        podspec_parse(
            bytes_text(POD(
                C(",\"envFrom\":[{\"configMapRef\":{\"name\":\"none\",\"optional\":true}},"
                  "{\"configMapRef\":{\"name\":\"map\"}},{\"secretRef\":{\"name\":\"gone\"}}]"))),
            &spec, error, sizeof error),
        0);
    assert_int_equal(spec.reference_count, 3);
    assert_null(podspec_missing(&spec, &lookup)); /* no volume needs them */
    podspec_deinit(&spec);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quantities),
        cmocka_unit_test(test_sources),
        cmocka_unit_test(test_refusals_name_the_field),
        cmocka_unit_test(test_every_cut_is_refused),
        cmocka_unit_test(test_notes),
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_mounts_and_resources),
        cmocka_unit_test(test_pull_policy_and_references),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
