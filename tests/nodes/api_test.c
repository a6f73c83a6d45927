/* Requests and what the API door answers, over the real state machine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "nodes/cloud/api_object.h"
#include "nodes/cloud/namespaces.h"
#include "tests/nodes/api_support.h"

#define CMS  "/api/v1/namespaces/default/configmaps"
#define PODS "/api/v1/namespaces/default/pods"
#define POD  "{\"metadata\":{\"name\":\"p\"},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]}}"
#define BOUND                                                                                      \
    "{\"metadata\":{\"name\":\"p\"},\"spec\":{\"nodeName\":\"e\",\"containers\":[{\"name\":\"c\","  \
    "\"image\":\"i\"}]}}"

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

/* Ask, expect the status, and the text at a path of the answer. */
static void expect_text(struct rig *rig, uint32_t status, const char *method, const char *target,
                        const char *body, const char *path, const char *text)
{
    json_t *json = rig_expect(rig, status, method, target, body);
    assert_string_equal(json_text_at(json, path), text);
    json_decref(json);
}

static void expect(struct rig *rig, uint32_t status, const char *method, const char *target,
                   const char *body)
{
    json_decref(rig_expect(rig, status, method, target, body));
}

/* Claim: who has no certificate learns nothing, who is not a master gets the sentence kubectl prints, and
 * asking to be somebody else is refused; probes and the version are open. */
static void test_identity(void **state)
{
    struct rig *rig = *state;
    rig->group = NULL;
    expect_text(rig, 401, "GET", "/api", "", "reason", "Unauthorized");
    expect_text(rig, 401, "GET", CMS, "", "message", "Unauthorized");
    expect_text(rig, 200, "GET", "/version", "", "gitVersion", API_VERSION_TEXT);
    rig->group = "viewers";
    expect_text(rig, 403, "GET", "/api/v1/namespaces/default/secrets", "", "message",
                "secrets is forbidden: User \"tester\" cannot list resource \"secrets\" in API "
                "group \"\" in the namespace \"default\"");
    expect_text(rig, 403, "DELETE", "/api/v1/nodes/e", "", "message",
                "nodes \"e\" is forbidden: User \"tester\" cannot delete resource \"nodes\" in API "
                "group \"\" at the cluster scope");
    expect_text(rig, 403, "GET", PODS "/p/log", "", "reason", "Forbidden");
    expect(rig, 200, "GET", "/api/v1", ""); /* discovery is for everybody with a certificate */
}

/* Claim: whatever cannot be served says so as a Status with the code of the specification. */
static void test_refusals(void **state)
{
    struct rig *rig = *state;
    static const struct {
        uint32_t status;
        const char *method;
        const char *target;
        const char *body;
        const char *reason;
    } cases[] = {
        {404, "GET", "/nothing", "", "NotFound"},
        {404, "GET", "/api/v2", "", "NotFound"},
        {404, "GET", "/api/v1/namespaces/default/nodes", "", "NotFound"},
        {404, "GET", "/api/v1/pods/p", "", "NotFound"},
        {404, "GET", CMS "/none", "", "NotFound"},
        {404, "GET", CMS "/none/status", "", "NotFound"},
        {404, "PATCH", CMS "/a/b/c", "", "NotFound"},
        {404, "POST", "/api/v1/namespaces/none/configmaps", "{\"metadata\":{\"name\":\"a\"}}", "NotFound"},
        {405, "POST", "/api/v1/configmaps", "{}", "MethodNotAllowed"},
        {405, "PUT", CMS, "{}", "MethodNotAllowed"},
        {405, "DELETE", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/e", "",
         "MethodNotAllowed"},
        {400, "POST", CMS, "{", "BadRequest"},
        {400, "POST", CMS, "[]", "BadRequest"},
        {400, "POST", CMS, "", "BadRequest"},
        {400, "POST", CMS, "{\"kind\":\"Pod\",\"apiVersion\":\"v1\"}", "BadRequest"},
        {400, "POST", CMS, "{\"metadata\":{\"name\":\"a\",\"namespace\":\"other\"}}", "BadRequest"},
        {400, "POST", CMS, "{\"metadata\":{\"name\":\"a\",\"resourceVersion\":\"1\"}}", "BadRequest"},
        {400, "POST", CMS, "{\"metadata\":{\"name\":\"a\"},\"data\":{\"k\":1}}", "BadRequest"},
        {400, "POST", CMS, "{\"metadata\":{\"name\":7}}", "BadRequest"},
        {400, "POST", CMS "?fieldValidation=Strict", "{\"metadata\":{\"name\":\"a\"},\"x\":1}", "BadRequest"},
        {400, "POST", CMS "?fieldValidation=Strict", "{\"metadata\":{\"name\":\"a\",\"name\":\"b\"}}",
         "BadRequest"},
        {400, "GET", CMS "?labelSelector=a%20in%20(b", "", "BadRequest"},
        {400, "GET", CMS "?fieldSelector=spec.x=1", "", "BadRequest"},
        {400, "GET", CMS "?continue=nonsense", "", "BadRequest"},
        {400, "GET", CMS "?limit=x", "", "BadRequest"},
        {422, "POST", CMS, "{\"metadata\":{\"name\":\"UPPER\"}}", "Invalid"},
        {422, "POST", CMS, "{\"metadata\":{}}", "Invalid"},
        {422, "POST", CMS "?dryRun=Some", "{\"metadata\":{\"name\":\"a\"}}", "Invalid"},
        {422, "POST", PODS, "{\"metadata\":{\"name\":\"p\"},\"spec\":{}}", "Invalid"},
        {400, "POST", PODS, "{\"metadata\":{\"name\":\"p\"},\"spec\":{\"containers\":[null]}}", "BadRequest"},
        {403, "DELETE", "/api/v1/namespaces/default", "", "Forbidden"},
        {501, "GET", PODS "/p/log", "", "NotImplemented"},
        {501, "POST", PODS "/p/exec?command=x", "", "NotImplemented"},
        {501, "POST", PODS "/p/eviction", "{}", "NotImplemented"},
        {422, "GET", CMS "?watch=1&sendInitialEvents=true", "", "Invalid"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *json = rig_expect(rig, cases[i].status, cases[i].method, cases[i].target,
                                  cases[i].body);
        assert_string_equal(json_text_at(json, "kind"), "Status");
        assert_string_equal(json_text_at(json, "reason"), cases[i].reason);
        assert_int_equal(json_number_at(json, "code", 0), cases[i].status);
        assert_true(json_text_at(json, "message")[0] != '\0');
        json_decref(json);
    }
    rig->accept = "text/html";
    expect_text(rig, 406, "GET", CMS, "", "reason", "NotAcceptable");
    rig->accept = NULL;
    rig->content_type = "text/plain";
    expect_text(rig, 415, "POST", CMS, "x", "reason", "UnsupportedMediaType");
    expect_text(rig, 415, "PATCH", CMS "/a", "{}", "reason", "UnsupportedMediaType");
    rig->content_type = NULL;

    struct text deep = {0};
    for (uint32_t i = 0; i < 5000; i++) {
        text_add(&deep, "[");
    }
    expect_text(rig, 400, "POST", CMS, deep.data, "reason", "BadRequest");
    text_release(&deep);

    struct text large = {0};
    text_add(&large, "{\"metadata\":{\"name\":\"a\",\"annotations\":{\"a\":\"");
    for (uint32_t i = 0; i < LIMIT_OBJECT_BYTES / 16 + 1; i++) {
        text_add(&large, "0123456789abcdef");
    }
    text_add(&large, "\"}}}");
    expect_text(rig, 422, "POST", CMS, large.data, "reason", "Invalid"); /* annotations are bounded */
    text_release(&large);
}

/* Claim: causes name each field that is wrong, and the message is Kubernetes' own. */
static void test_causes(void **state)
{
    struct rig *rig = *state;
    expect_text(rig, 422, "POST", PODS,
                "{\"metadata\":{\"name\":\"p\"},\"spec\":{\"containers\":[{\"name\":\"c\"}]}}",
                "message", "Pod \"p\" is invalid: spec.containers[0].image: Required value");
    json_t *json = rig_expect(
        rig, 422, "POST", PODS,
        "{\"metadata\":{\"name\":\"p\"},\"spec\":{\"restartPolicy\":\"Sometimes\",\"volumes\":[{"
        "\"name\":\"v\"},{\"name\":\"v\"}],\"containers\":[{\"name\":\"c\",\"image\":\"i\","
        "\"ports\":[{\"containerPort\":70000}],\"volumeMounts\":[{\"name\":\"none\","
        "\"mountPath\":\"/x\"}],\"resources\":{\"limits\":{\"cpu\":\"1\"},\"requests\":{\"cpu\":"
        "\"2\"}}}]}}");
    assert_int_equal(json_array_size(json_at(json, "details.causes")), 5);
    assert_string_equal(json_text_at(json, "details.kind"), "Pod");
    json_decref(json);
    rig->content_type = NULL;
    struct answer answer;
    rig_ask(rig, &answer, "POST", PODS "?fieldValidation=Warn",
            "{\"metadata\":{\"name\":\"w\"},\"spec\":{\"bogus\":1,\"containers\":[{\"name\":\"c\","
            "\"image\":\"i\"}]}}");
    assert_int_equal(answer.status, 201);
    assert_non_null(strstr(answer.headers.data, "299 - \"unknown field \\\"spec.bogus\\\"\""));
    answer_release(&answer);
}

/* Claim: a conflict is the client's when it named a version, and ours otherwise: then the patch is computed
 * again on what somebody else wrote meanwhile, and both changes are there. */
static void other_writer(void *context)
{
    struct rig *rig = context;
    const struct backend *backend = backend_fake_backend(rig->fake);
    struct codec *codec = codec_create();
    struct backend_view *view;
    uint64_t version;
    struct backend_row row;
    assert_int_equal(backend->view_open(backend->owner, &view, &version), 0);
    assert_int_equal(backend->view_get(backend->owner, view, bytes_text("/configmaps/default/a"), &row), 0);
    json_t *wish = api_object_wish(codec, &row);
    json_put_text(json_child(wish, "data"), "other", "1");
    struct bytes record;
    assert_int_equal(api_object_put(backend, codec, NULL, api_resource_get(API_CONFIGMAP), wish,
                                    NULL, PUT_UPDATE, 0, "", &record), 0);
    backend_fake_propose(rig->fake, &record, 1);
    json_decref(wish);
    backend->view_close(backend->owner, view);
    codec_destroy(codec);
}

static void test_conflicts(void **state)
{
    struct rig *rig = *state;
    json_t *made = rig_expect(rig, 201, "POST", CMS, "{\"metadata\":{\"name\":\"a\"}}");
    const char *version = json_text_at(made, "metadata.resourceVersion");
    expect_text(rig, 409, "POST", CMS, "{\"metadata\":{\"name\":\"a\"}}", "message",
                "configmaps \"a\" already exists");
    rig->content_type = "application/merge-patch+json";
    backend_fake_before_write(rig->fake, other_writer, rig);
    json_t *json = rig_expect(rig, 200, "PATCH", CMS "/a", "{\"data\":{\"mine\":\"2\"}}");
    assert_string_equal(json_text_at(json, "data.mine"), "2");
    assert_string_equal(json_text_at(json, "data.other"), "1");
    json_decref(json);

    char patch[128];
    (void)snprintf(patch, sizeof patch,
                   "{\"metadata\":{\"resourceVersion\":\"%s\"},\"data\":{\"x\":\"y\"}}", version);
    expect_text(rig, 409, "PATCH", CMS "/a", patch, "reason", "Conflict");
    expect_text(rig, 409, "PATCH", CMS "/a", "{\"metadata\":{\"uid\":\"other\"}}", "reason", "Conflict");
    rig->content_type = NULL;
    char put[160];
    (void)snprintf(put, sizeof put, "{\"metadata\":{\"name\":\"a\",\"resourceVersion\":\"%s\"}}", version);
    expect_text(rig, 409, "PUT", CMS "/a", put, "message",
                "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; "
                "please apply your changes to the latest version and try again");
    expect(rig, 200, "PUT", CMS "/a", "{\"metadata\":{\"name\":\"a\"}}"); /* without: unconditional */
    expect(rig, 400, "PUT", CMS "/a", "{\"metadata\":{\"name\":\"b\"}}");
    json_decref(made);
}

/* Claim: writing what is there already changes no version, and a dry run changes nothing at all. */
static void test_nothing_changes(void **state)
{
    struct rig *rig = *state;
    const struct backend *backend = backend_fake_backend(rig->fake);
    expect(rig, 201, "POST", CMS "?dryRun=All", "{\"metadata\":{\"name\":\"a\"}}");
    expect(rig, 404, "GET", CMS "/a", "");
    expect(rig, 404, "POST", "/api/v1/namespaces/none/configmaps?dryRun=All", "{\"metadata\":{\"name\":\"a\"}}");
    json_t *made = rig_expect(rig, 201, "POST", CMS, "{\"metadata\":{\"name\":\"a\"},\"data\":{\"k\":\"v\"}}");
    expect(rig, 409, "POST", CMS "?dryRun=All", "{\"metadata\":{\"name\":\"a\"}}");
    const uint64_t version = backend->version(backend->owner);
    rig->content_type = "application/strategic-merge-patch+json";
    expect_text(rig, 200, "PATCH", CMS "/a", "{\"data\":{\"k\":\"v\"}}", "metadata.resourceVersion",
                json_text_at(made, "metadata.resourceVersion"));
    expect_text(rig, 200, "PATCH", CMS "/a?dryRun=All", "{\"data\":{\"k\":\"w\"}}", "data.k", "w");
    rig->content_type = NULL;
    expect(rig, 200, "DELETE", CMS "/a", "{\"dryRun\":[\"All\"]}");
    expect_text(rig, 200, "GET", CMS "/a", "", "data.k", "v");
    assert_int_equal(backend->version(backend->owner), version);
    json_decref(made);
}

/* Claim: secrets never show stringData, defaults are filled in, generated names and uids are of the form
 * Kubernetes has, and what a client says about our fields is ignored. */
static void test_create_rules(void **state)
{
    struct rig *rig = *state;
    json_t *json = rig_expect(rig, 201, "POST", "/api/v1/namespaces/default/secrets",
                              "{\"metadata\":{\"name\":\"s\"},\"stringData\":{\"k\":\"v\"}}");
    assert_string_equal(json_text_at(json, "data.k"), "dg==");
    assert_string_equal(json_text_at(json, "type"), "Opaque");
    assert_null(json_at(json, "stringData"));
    json_decref(json);
    json = rig_expect(rig, 201, "POST", PODS,
                      "{\"metadata\":{\"generateName\":\"g-\",\"uid\":\"mine\",\"selfLink\":\"x\","
                      "\"creationTimestamp\":null,\"deletionTimestamp\":\"2020-01-01T00:00:00Z\"},"
                      "\"status\":{\"phase\":\"Running\"},\"spec\":{\"containers\":[{\"name\":\"c\","
                      "\"image\":\"i\",\"ports\":[{\"containerPort\":80}]}]}}");
    assert_int_equal(strlen(json_text_at(json, "metadata.name")), 7);
    assert_int_equal(strlen(json_text_at(json, "metadata.uid")), 36);
    assert_null(json_at(json, "metadata.deletionTimestamp"));
    assert_string_equal(json_text_at(json, "metadata.creationTimestamp"), "2025-01-31T08:00:00Z");
    assert_string_equal(json_text_at(json, "status.phase"), "Pending");
    assert_int_equal(json_number_at(json, "spec.terminationGracePeriodSeconds", 0), 30);
    const json_t *container = json_array_get(json_at(json, "spec.containers"), 0);
    assert_string_equal(json_text_at(container, "imagePullPolicy"), "Always");
    assert_string_equal(json_text_at(json_array_get(json_at(container, "ports"), 0), "protocol"), "TCP");
    assert_int_equal(json_number_at(json, "metadata.generation", 0), 1);
    json_decref(json);
    /* integers keep 64 bits, reals their digits */
    rig->content_type = NULL;
    json = rig_expect(rig, 201, "POST", CMS,
                      "{\"metadata\":{\"name\":\"n\"},\"x\":9007199254740993,\"y\":0.1}");
    struct text text = {0};
    json_write(&text, json);
    assert_non_null(strstr(text.data, "\"x\":9007199254740993,\"y\":0.1"));
    text_release(&text);
    json_decref(json);
}

/* Claim: the envelope names what a pod needs, each once, optional only if each mention is. */
static void test_envelope(void **state)
{
    struct rig *rig = *state;
    const struct backend *backend = backend_fake_backend(rig->fake);
    expect(rig, 201, "POST", PODS,
           "{\"metadata\":{\"name\":\"p\",\"labels\":{\"a\":\"b\"},\"finalizers\":[\"f/x\"],"
           "\"ownerReferences\":[{\"apiVersion\":\"v1\",\"kind\":\"K\",\"name\":\"o\",\"uid\":\"u1\"}]},"
           "\"spec\":{\"imagePullSecrets\":[{\"name\":\"pull\"}],\"volumes\":["
           "{\"name\":\"v\",\"configMap\":{\"name\":\"cm1\",\"optional\":true}},"
           "{\"name\":\"w\",\"projected\":{\"sources\":[{\"secret\":{\"name\":\"s1\"}},{\"configMap\":{\"name\":\"cm2\"}}]}}],"
           "\"initContainers\":[{\"name\":\"i\",\"image\":\"i\",\"envFrom\":[{\"secretRef\":{\"name\":\"s2\"}}],"
           "\"resources\":{\"requests\":{\"cpu\":\"2\"}}}],"
           "\"containers\":[{\"name\":\"c\",\"image\":\"i\",\"env\":[{\"name\":\"A\",\"valueFrom\":{"
           "\"configMapKeyRef\":{\"name\":\"cm1\",\"key\":\"k\"}}},{\"name\":\"B\",\"valueFrom\":{"
           "\"secretKeyRef\":{\"name\":\"s2\",\"key\":\"k\",\"optional\":true}}}],\"resources\":{\"requests\":{"
           "\"cpu\":\"250m\",\"memory\":\"64Mi\"}}},{\"name\":\"d\",\"image\":\"i\",\"resources\":{"
           "\"limits\":{\"cpu\":\"500m\",\"memory\":\"64Mi\"}}}]}}");
    struct codec *codec = codec_create();
    struct backend_view *view;
    uint64_t version;
    struct backend_row row;
    struct object_put put;
    assert_int_equal(backend->view_open(backend->owner, &view, &version), 0);
    assert_int_equal(backend->view_get(backend->owner, view, bytes_text("/pods/default/p"), &row), 0);
    assert_int_equal(codec_object_put_read(codec, row.wish, &put), 0);
    const struct object *o = &put.object;
    assert_int_equal(o->reference_count, 5);
    static const struct reference wanted[] = {{"configmaps", "cm1", false}, {"secrets", "s1", false},
                                              {"configmaps", "cm2", false}, {"secrets", "s2", false},
                                              {"secrets", "pull", true}};
    for (uint32_t i = 0; i < 5; i++) {
        assert_string_equal(o->references[i].resource, wanted[i].resource);
        assert_string_equal(o->references[i].name, wanted[i].name);
        assert_int_equal(o->references[i].optional, wanted[i].optional);
    }
    assert_int_equal(o->request_cpu_milli, 2000); /* the init container alone asks for more */
    assert_int_equal(o->request_memory_bytes, 128 * 1024 * 1024);
    assert_int_equal(o->label_count, 1);
    assert_int_equal(o->owner_count, 1);
    assert_int_equal(o->finalizer_count, 1);
    assert_string_equal(o->owners[0], "u1");
    backend->view_close(backend->owner, view);
    codec_destroy(codec);
}

/* Claim: the deletion rules: a pod on a node waits for its edge, others go at once, a second delete may only
 * shorten, force does not wait, finalizers hold, preconditions are obeyed. */
static void test_delete(void **state)
{
    struct rig *rig = *state;
    expect(rig, 201, "POST", PODS, POD);
    expect_text(rig, 200, "DELETE", PODS "/p", "", "status", "Success");
    expect(rig, 404, "GET", PODS "/p", "");
    expect_text(rig, 404, "DELETE", PODS "/p", "", "message", "pods \"p\" not found");

    expect(rig, 201, "POST", PODS, BOUND); /* there is no such node: nobody to wait for */
    expect_text(rig, 200, "DELETE", PODS "/p", "", "status", "Success");

    expect(rig, 201, "POST", "/api/v1/nodes", "{\"metadata\":{\"name\":\"e\"}}");
    json_t *made = rig_expect(rig, 201, "POST", PODS, BOUND);
    expect(rig, 409, "DELETE", PODS "/p", "{\"preconditions\":{\"uid\":\"other\"}}");
    expect(rig, 422, "DELETE", PODS "/p", "{\"propagationPolicy\":\"Sideways\"}");
    json_t *json = rig_expect(rig, 200, "DELETE", PODS "/p", "");
    assert_string_equal(json_text_at(json, "metadata.deletionTimestamp"), "2025-01-31T08:00:30Z");
    assert_int_equal(json_number_at(json, "metadata.generation", 0), 2);
    json_decref(json);
    json = rig_expect(rig, 200, "DELETE", PODS "/p", "{\"gracePeriodSeconds\":60}");
    assert_int_equal(json_number_at(json, "metadata.deletionGracePeriodSeconds", 0), 30);
    json_decref(json);
    json = rig_expect(rig, 200, "DELETE", PODS "/p", "{\"gracePeriodSeconds\":5}");
    assert_int_equal(json_number_at(json, "metadata.deletionGracePeriodSeconds", 0), 5);
    json_decref(json);

    struct codec *codec = codec_create();
    const struct pod_ended ended = {.uid = json_text_at(made, "metadata.uid")};
    struct bytes body;
    assert_int_equal(codec_pod_ended_build(codec, &ended, &body), 0);
    backend_fake_report(rig->fake, "e", RECORD_POD_ENDED, "/pods/default/p", body);
    codec_destroy(codec);
    json_decref(made);
    expect(rig, 404, "GET", PODS "/p", ""); /* the edge said so */

    expect(rig, 201, "POST", PODS, BOUND);
    expect_text(rig, 200, "DELETE", PODS "/p", "{\"gracePeriodSeconds\":0}", "status", "Success");
    expect(rig, 404, "GET", PODS "/p", "");

    expect(rig, 201, "POST", CMS, "{\"metadata\":{\"name\":\"a\",\"finalizers\":[\"f/x\"]}}");
    json = rig_expect(rig, 200, "DELETE", CMS "/a", "");
    assert_true(json_text_at(json, "metadata.deletionTimestamp")[0] != '\0');
    json_decref(json);
    rig->content_type = "application/merge-patch+json";
    expect_text(rig, 422, "PATCH", CMS "/a", "{\"metadata\":{\"finalizers\":[\"f/x\",\"f/y\"]}}", "reason",
                "Invalid");
    expect(rig, 200, "PATCH", CMS "/a", "{\"metadata\":{\"finalizers\":[]}}");
    expect(rig, 404, "GET", CMS "/a", "");
}

/* Claim: the record of a write names who asked for it, whatever the verb. Whoever is on call reads it there. */
static void test_user(void **state)
{
    struct rig *rig = *state;
    expect(rig, 201, "POST", CMS, "{\"metadata\":{\"name\":\"a\"}}");
    assert_string_equal(backend_fake_user(rig->fake), "tester");
    rig->user = "anna";
    rig->content_type = "application/merge-patch+json";
    expect(rig, 200, "PATCH", CMS "/a", "{\"data\":{\"k\":\"v\"}}");
    assert_string_equal(backend_fake_user(rig->fake), "anna");
    rig->content_type = NULL;
    rig->user = "bert";
    expect(rig, 200, "DELETE", CMS "/a", "");
    assert_string_equal(backend_fake_user(rig->fake), "bert");
}

/* Claim: deleting a collection deletes what matches, one by one. */
static void test_delete_collection(void **state)
{
    struct rig *rig = *state;
    for (char c = 'a'; c < 'f'; c++) {
        char body[128];
        (void)snprintf(body, sizeof body, "{\"metadata\":{\"name\":\"%c\",\"labels\":{\"odd\":\"%d\"}}}", c, c % 2);
        expect(rig, 201, "POST", CMS, body);
    }
    expect_text(rig, 200, "DELETE", CMS "?labelSelector=odd%3D1", "", "status", "Success");
    json_t *json = rig_expect(rig, 200, "GET", CMS, "");
    assert_int_equal(json_array_size(json_at(json, "items")), 2);
    json_decref(json);
    expect_text(rig, 200, "DELETE", CMS "?dryRun=All", "", "status", "Success"); /* none is written */
    json = rig_expect(rig, 200, "GET", CMS, "");
    assert_int_equal(json_array_size(json_at(json, "items")), 2);
    json_decref(json);
}

/* Claim: a namespace ends with its content: objects first, bound pods when their edge says so, then itself;
 * meanwhile nothing can be created in it. */
static void test_namespace_ends(void **state)
{
    struct rig *rig = *state;
    struct namespaces *controller = namespaces_open(rig->api, backend_fake_backend(rig->fake));
    expect(rig, 201, "POST", "/api/v1/nodes", "{\"metadata\":{\"name\":\"e\"}}");
    expect(rig, 201, "POST", "/api/v1/namespaces", "{\"metadata\":{\"name\":\"n\"}}");
    expect(rig, 201, "POST", "/api/v1/namespaces/n/configmaps", "{\"metadata\":{\"name\":\"a\"}}");
    json_t *pod = rig_expect(rig, 201, "POST", "/api/v1/namespaces/n/pods", BOUND);
    expect_text(rig, 200, "DELETE", "/api/v1/namespaces/n", "", "status.phase", "Terminating");
    expect_text(rig, 403, "POST", "/api/v1/namespaces/n/configmaps", "{\"metadata\":{\"name\":\"b\"}}",
                "reason", "Forbidden");
    for (int i = 0; i < 6; i++) {
        namespaces_step(controller);
        rig_run(rig);
        assert_false(namespaces_busy(controller));
    }
    expect(rig, 404, "GET", "/api/v1/namespaces/n/configmaps/a", "");
    json_t *json = rig_expect(rig, 200, "GET", "/api/v1/namespaces/n/pods/p", "");
    assert_true(json_text_at(json, "metadata.deletionTimestamp")[0] != '\0');
    json_decref(json);
    expect_text(rig, 200, "GET", "/api/v1/namespaces/n", "", "status.phase", "Terminating");

    struct codec *codec = codec_create();
    const struct pod_ended ended = {.uid = json_text_at(pod, "metadata.uid")};
    struct bytes body;
    assert_int_equal(codec_pod_ended_build(codec, &ended, &body), 0);
    backend_fake_report(rig->fake, "e", RECORD_POD_ENDED, "/pods/n/p", body);
    codec_destroy(codec);
    json_decref(pod);
    namespaces_step(controller);
    rig_run(rig);
    expect(rig, 404, "GET", "/api/v1/namespaces/n", "");
    namespaces_close(controller);
}

/* Claim: pages of any size together are the list, in the order of keys, with the version of the first page;
 * Tables and plain lists alike. */
static void test_pages(void **state)
{
    struct rig *rig = *state;
    for (int i = 0; i < 7; i++) {
        char body[64];
        (void)snprintf(body, sizeof body, "{\"metadata\":{\"name\":\"c%d\"}}", i);
        expect(rig, 201, "POST", CMS, body);
    }
    for (uint32_t limit = 1; limit <= 8; limit++) {
        char token[512] = "";
        char first[32] = "";
        uint32_t count = 0;
        do {
            char target[640];
            (void)snprintf(target, sizeof target, CMS "?limit=%u%s%s", limit,
                           token[0] != '\0' ? "&continue=" : "", token);
            json_t *json = rig_expect(rig, 200, "GET", target, "");
            const json_t *items = json_at(json, "items");
            for (size_t i = 0; i < json_array_size(items); i++) {
                char name[8];
                (void)snprintf(name, sizeof name, "c%u", count);
                assert_string_equal(json_text_at(json_array_get(items, i), "metadata.name"), name);
                count++;
            }
            if (first[0] == '\0') {
                (void)snprintf(first, sizeof first, "%s", json_text_at(json, "metadata.resourceVersion"));
            }
            assert_string_equal(json_text_at(json, "metadata.resourceVersion"), first);
            (void)snprintf(token, sizeof token, "%s", json_text_at(json, "metadata.continue"));
            json_decref(json);
        } while (token[0] != '\0');
        assert_int_equal(count, 7);
    }
    rig->accept = "application/json;g=meta.k8s.io;as=Table;v=v1, application/json";
    json_t *table = rig_expect(rig, 200, "GET", CMS "?limit=3", "");
    assert_string_equal(json_text_at(table, "kind"), "Table");
    assert_int_equal(json_array_size(json_at(table, "rows")), 3);
    assert_true(json_text_at(table, "metadata.continue")[0] != '\0');
    json_decref(table);
}

/* Claim: long lists are read in turns: one object is answered between them, all of them are whole in the end, one
 * whose client has gone ends, and so do all when we stop.
 * Method: six lists of two megabytes at once, by single turns. */
static void test_lists_take_turns(void **state)
{
    struct rig *rig = *state;
    struct text body = {0};
    for (int i = 0; i < 3; i++) {
        body.size = 0;
        text_print(&body, "{\"metadata\":{\"name\":\"big-%d\"},\"data\":{\"k\":\"", i);
        for (uint32_t k = 0; k < 40000; k++) {
            text_add(&body, "0123456789abcdef");
        }
        text_add(&body, "\"}}");
        json_decref(rig_expect(rig, 201, "POST", CMS, body.data));
    }
    text_release(&body);
    enum { LISTS = 6 };
    struct answer lists[LISTS];
    const struct bytes none = bytes_of(NULL, 0);
    for (int i = 0; i < LISTS; i++) {
        rig_start(rig, &lists[i], "GET", CMS "?resourceVersion=0", none);
        assert_false(lists[i].ended);
    }
    assert_int_equal(api_list_count(rig->api), LISTS);
    uint32_t turns = 0;
    for (bool more = true; more; turns++) {
        more = api_changed(rig->api);
        struct answer one;
        rig_start(rig, &one, "GET", CMS "/big-0?resourceVersion=0", none);
        assert_int_equal(one.status, 200);
        answer_release(&one);
        if (turns == 0) {
            assert_true(api_list_count(rig->api) >= LISTS - 1);
            api_call_gone(lists[LISTS - 1].call);
        }
    }
    assert_in_range(turns, 3, 3 * LISTS);
    assert_int_equal(api_list_count(rig->api), 0);
    for (int i = 0; i < LISTS; i++) {
        assert_true(lists[i].ended);
        if (i < LISTS - 1) {
            assert_int_equal(lists[i].status, 200);
            assert_int_equal(json_array_size(json_at(lists[i].json, "items")), 3);
        }
        answer_release(&lists[i]);
    }
    rig_start(rig, &lists[0], "GET", CMS "?resourceVersion=0", none);
    api_stop(rig->api);
    assert_int_equal(lists[0].status, 503);
    answer_release(&lists[0]);
}

static size_t answer_bytes_of(void *owner)
{
    return *(const size_t *)owner;
}

/* Claim: a list that was let in but has not begun is sent away while clients have not taken what they were
 * answered; single objects are not, and lists are read again when they have. */
static void test_lists_end_before_memory_does(void **state)
{
    struct rig *rig = *state;
    expect(rig, 201, "POST", CMS, "{\"metadata\":{\"name\":\"c\"}}");
    size_t waiting = LIMIT_API_ANSWERS_BYTES;
    api_bound_answers(rig->api, answer_bytes_of, &waiting);
    struct answer list;
    rig_start(rig, &list, "GET", CMS "?resourceVersion=0", bytes_of(NULL, 0));
    assert_false(list.ended);
    (void)api_changed(rig->api);
    assert_int_equal(list.status, 429);
    assert_non_null(strstr(list.headers.data, "Retry-After: 1"));
    answer_release(&list);
    json_decref(rig_expect(rig, 200, "GET", CMS "/c", ""));
    waiting--;
    json_decref(rig_expect(rig, 200, "GET", CMS, ""));
    api_bound_answers(rig->api, NULL, NULL);
}

/* Claim: an unreachable node is NotReady with the reason, whatever it said last; a node that never spoke is
 * not ready either. */
static void test_node_join(void **state)
{
    struct rig *rig = *state;
    expect(rig, 201, "POST", "/api/v1/nodes", "{\"metadata\":{\"name\":\"e\"}}");
    rig->accept = "application/json;as=Table;g=meta.k8s.io;v=v1,application/json";
    json_t *table = rig_expect(rig, 200, "GET", "/api/v1/nodes/e", "");
    const json_t *cells = json_at(json_array_get(json_at(table, "rows"), 0), "cells");
    assert_string_equal(json_string_value(json_array_get(cells, 1)), "NotReady");
    json_decref(table);
    rig->accept = NULL;

    struct codec *codec = codec_create();
    const struct condition ready = {"Ready", CONDITION_TRUE, "EdgeReady", "", 1738310400000};
    const struct node_status status = {.conditions = &ready, .condition_count = 1};
    struct bytes body;
    assert_int_equal(codec_node_status_build(codec, &status, &body), 0);
    backend_fake_report(rig->fake, "e", RECORD_NODE_STATUS, "/nodes//e", body);
    json_t *json = rig_expect(rig, 200, "GET", "/api/v1/nodes/e", "");
    const json_t *condition = json_array_get(json_at(json, "status.conditions"), 0);
    assert_string_equal(json_text_at(condition, "status"), "True");

    const struct verdict verdict = {.uid = json_text_at(json, "metadata.uid"), .reachable = false};
    assert_int_equal(codec_verdict_build(codec, &verdict, &body), 0);
    const struct record record = {.kind = RECORD_VERDICT, .key = "/nodes//e", .body = body};
    struct bytes bytes;
    assert_int_equal(codec_record_build(codec, &record, &bytes), 0);
    backend_fake_propose(rig->fake, &bytes, 1);
    json_decref(json);
    json = rig_expect(rig, 200, "GET", "/api/v1/nodes/e", "");
    condition = json_array_get(json_at(json, "status.conditions"), 0);
    assert_string_equal(json_text_at(condition, "status"), "Unknown");
    assert_string_equal(json_text_at(condition, "reason"), "NodeStatusUnknown");
    json_decref(json);
    json = rig_expect(rig, 200, "GET", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/e", "");
    assert_int_equal(strlen(json_text_at(json, "spec.renewTime")), 27); /* six digits */
    json_decref(json);
    codec_destroy(codec);
}

/* Claim: without a leader writes and fresh reads are 503 that kubectl shows (it is silent over a
 * Retry-After), stale reads work. */
static void test_no_leader(void **state)
{
    struct rig *rig = *state;
    backend_fake_set_leader(rig->fake, false);
    struct answer answer;
    rig_ask(rig, &answer, "POST", CMS, "{\"metadata\":{\"name\":\"a\"}}");
    assert_int_equal(answer.status, 503);
    assert_true(answer.headers.data == NULL || strstr(answer.headers.data, "Retry-After") == NULL);
    answer_release(&answer);
    expect_text(rig, 503, "GET", CMS, "", "reason", "ServiceUnavailable");
    expect(rig, 503, "DELETE", CMS "/a", "");
    expect(rig, 200, "GET", CMS "?resourceVersion=0", "");
    backend_fake_set_leader(rig->fake, true);
}

/* Claim: discovery documents agree with each other, and OpenAPI is what kubectl parses. */
static void test_discovery(void **state)
{
    struct rig *rig = *state;
    struct answer answer;
    rig->accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    rig_ask(rig, &answer, "GET", "/api", "");
    assert_string_equal(answer.type, "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
    assert_non_null(strstr(answer.headers.data, "ETag: "));
    const json_t *version = json_array_get(json_at(json_array_get(json_at(answer.json, "items"), 0), "versions"), 0);
    const size_t core = json_array_size(json_at(version, "resources"));
    answer_release(&answer);
    rig->accept = NULL;
    json_t *plain = rig_expect(rig, 200, "GET", "/api/v1", "");
    size_t whole = 0;
    const json_t *list = json_at(plain, "resources");
    for (size_t i = 0; i < json_array_size(list); i++) {
        whole += strchr(json_text_at(json_array_get(list, i), "name"), '/') == NULL;
    }
    assert_int_equal(core, whole);
    json_decref(plain);
    rig_ask(rig, &answer, "GET", "/openapi/v2?timeout=32s", "");
    assert_string_equal(answer.type, "application/com.github.proto-openapi.spec.v2.v1.0+protobuf");
    assert_memory_equal(answer.body.data, "\x0a\x03" "2.0", 5);
    answer_release(&answer);
    expect(rig, 200, "GET", "/openapi/v3/api/v1", "");
    expect(rig, 200, "GET", "/openapi/v3/apis/coordination.k8s.io/v1", "");
    expect(rig, 404, "GET", "/openapi/v3/apis/apps/v1", "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_rig, close_rig)
        TEST(test_identity),       TEST(test_refusals),        TEST(test_causes),
        TEST(test_conflicts),      TEST(test_nothing_changes), TEST(test_create_rules),
        TEST(test_envelope),       TEST(test_delete),          TEST(test_delete_collection),
        TEST(test_namespace_ends), TEST(test_pages),           TEST(test_lists_take_turns),
        TEST(test_lists_end_before_memory_does),
        TEST(test_node_join),      TEST(test_no_leader),       TEST(test_discovery),
        TEST(test_user),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
