/* Devices at the API door: two versions of one object, what its envelope wishes, what its edge reports. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "nodes/cloud/api_device.h"
#include "nodes/cloud/api_object.h"
#include "nodes/cloud/api_schema.h"
#include "nodes/cloud/device_profile.h"
#include "nodes/cloud/devices.h"
#include "tests/nodes/api_support.h"

#define BETA         "/apis/devices.kubeedge.io/v1beta1/namespaces/default/devices"
#define ALPHA        "/apis/devices.kubeedge.io/v1alpha2/namespaces/default/devices"
#define BETA_MODELS  "/apis/devices.kubeedge.io/v1beta1/namespaces/default/devicemodels"
#define ALPHA_MODELS "/apis/devices.kubeedge.io/v1alpha2/namespaces/default/devicemodels"
#define KEY          "devices.kubeedge.io/devices/default/d"

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

static json_t *parse(const char *text)
{
    char why[200];
    json_t *value = json_read(bytes_text(text), false, why, sizeof why);
    if (value == NULL) {
        print_message("%s: %s\n", why, text);
    }
    assert_non_null(value);
    return value;
}

static void assert_json(const json_t *got, const char *wanted)
{
    json_t *value = parse(wanted);
    if (!json_equal(got, value)) {
        struct text text = {0};
        json_write(&text, got);
        print_message("got    %s\nwanted %s\n", text.data, wanted);
        text_release(&text);
        fail();
    }
    json_decref(value);
}

static void expect(struct rig *rig, uint32_t status, const char *method, const char *target,
                   const char *body)
{
    json_decref(rig_expect(rig, status, method, target, body));
}

static void patch(struct rig *rig, const char *target, const char *body)
{
    rig->content_type = "application/merge-patch+json";
    expect(rig, 200, "PATCH", target, body);
    rig->content_type = NULL;
}

/* The wish of device d as its row holds it; released by wish_release. */
struct wish {
    struct codec *codec;
    struct backend_view *view;
    struct object_put put;
};

static void wish_read(struct rig *rig, struct wish *out)
{
    const struct backend *backend = backend_fake_backend(rig->fake);
    struct backend_row row;
    uint64_t version;
    *out = (struct wish){.codec = codec_create()};
    assert_int_equal(backend->view_open(backend->owner, &out->view, &version), 0);
    assert_int_equal(backend->view_get(backend->owner, out->view, bytes_text(KEY), &row), 0);
    assert_int_equal(codec_object_put_read(out->codec, row.wish, &out->put), 0);
}

static void wish_release(struct rig *rig, struct wish *wish)
{
    const struct backend *backend = backend_fake_backend(rig->fake);
    backend->view_close(backend->owner, wish->view);
    codec_destroy(wish->codec);
}

static const struct device_property *wish_property(const struct wish *wish, const char *name)
{
    const struct device_wish *device = wish->put.object.device;
    assert_non_null(device);
    for (uint32_t i = 0; i < device->property_count; i++) {
        if (strcmp(device->properties[i].name, name) == 0) {
            return &device->properties[i];
        }
    }
    return NULL;
}

/* -- conversion ------------------------------------------------------------------------------------------- */

/* An object in one version, and what its spec (and of v1alpha2 its status) is in the other. */
struct conversion {
    const char *what;
    const char *alpha_spec;
    const char *alpha_status; /* NULL: none */
    const char *beta_spec;
};

static const struct conversion both_devices[] = {
    {"a node, and no more", "{\"deviceModelRef\":{\"name\":\"m\"},\"nodeSelector\":{\"nodeSelectorTerms\":[{"
     "\"matchExpressions\":[{\"key\":\"\",\"operator\":\"In\",\"values\":[\"e\"]}]}]}}", NULL,
     "{\"deviceModelRef\":{\"name\":\"m\"},\"nodeName\":\"e\"}"},
    {"no node", "{\"deviceModelRef\":{\"name\":\"m\"}}", NULL, "{\"deviceModelRef\":{\"name\":\"m\"}}"},
    {"modbus over a serial port",
     "{\"deviceModelRef\":{\"name\":\"m\"},\"protocol\":{\"modbus\":{\"slaveID\":1},\"common\":{\"com\":{"
     "\"serialPort\":\"/dev/ttyS0\",\"baudRate\":9600,\"dataBits\":8,\"parity\":\"even\",\"stopBits\":1}}},"
     "\"propertyVisitors\":[{\"propertyName\":\"t\",\"collectCycle\":500,\"reportCycle\":1000,\"modbus\":{"
     "\"register\":\"CoilRegister\",\"offset\":2,\"limit\":1,\"scale\":0.1,\"isSwap\":true}}]}",
     "{\"twins\":[{\"propertyName\":\"t\",\"desired\":{\"value\":\"25\",\"metadata\":{\"type\":\"int\"}}}]}",
     "{\"deviceModelRef\":{\"name\":\"m\"},\"protocol\":{\"protocolName\":\"modbus\",\"configData\":{\"slaveID\":1,"
     "\"common\":{\"com\":{\"serialPort\":\"/dev/ttyS0\",\"baudRate\":9600,\"dataBits\":8,\"parity\":\"even\","
     "\"stopBits\":1}}}},\"properties\":[{\"name\":\"t\",\"collectCycle\":500,\"reportCycle\":1000,\"visitors\":{"
     "\"protocolName\":\"modbus\",\"configData\":{\"register\":\"CoilRegister\",\"offset\":2,\"limit\":1,"
     "\"scale\":0.1,\"isSwap\":true}},\"desired\":{\"value\":\"25\",\"metadata\":{\"type\":\"int\"}}}]}"},
    {"a protocol of its own, with values beside it",
     "{\"deviceModelRef\":{\"name\":\"m\"},\"protocol\":{\"customizedProtocol\":{\"protocolName\":\"gpio\","
     "\"configData\":{\"pin\":4}}},\"propertyVisitors\":[{\"propertyName\":\"p\",\"customizedValues\":{\"x\":1},"
     "\"customizedProtocol\":{\"protocolName\":\"gpio\",\"configData\":{\"edge\":\"rise\"}}}]}", NULL,
     "{\"deviceModelRef\":{\"name\":\"m\"},\"protocol\":{\"protocolName\":\"gpio\",\"configData\":{\"pin\":4}},"
     "\"properties\":[{\"name\":\"p\",\"visitors\":{\"protocolName\":\"gpio\",\"configData\":{\"edge\":\"rise\","
     "\"customizedValues\":{\"x\":1}}}}]}"},
    {"bluetooth",
     "{\"deviceModelRef\":{\"name\":\"m\"},\"protocol\":{\"bluetooth\":{\"macAddress\":\"BC:6A:29:AE:CC:96\"}},"
     "\"propertyVisitors\":[{\"propertyName\":\"p\",\"bluetooth\":{\"characteristicUUID\":\"f000aa\","
     "\"dataWrite\":{\"ON\":\"AQ==\"},\"dataConverter\":{\"startIndex\":0,\"endIndex\":1,\"orderOfOperations\":[{"
     "\"operationType\":\"Divide\",\"operationValue\":32}]}}}]}", NULL,
     "{\"deviceModelRef\":{\"name\":\"m\"},\"protocol\":{\"protocolName\":\"bluetooth\",\"configData\":{"
     "\"macAddress\":\"BC:6A:29:AE:CC:96\"}},\"properties\":[{\"name\":\"p\",\"visitors\":{\"protocolName\":"
     "\"bluetooth\",\"configData\":{\"characteristicUUID\":\"f000aa\",\"dataWrite\":{\"ON\":\"AQ==\"},"
     "\"dataConverter\":{\"startIndex\":0,\"endIndex\":1,\"orderOfOperations\":[{\"operationType\":\"Divide\","
     "\"operationValue\":32}]}}}}]}"},
    {"opcua, and a twin that no visitor reads",
     "{\"deviceModelRef\":{\"name\":\"m\"},\"protocol\":{\"opcua\":{\"url\":\"opc.tcp://h:4840\",\"userName\":\"u\"}},"
     "\"propertyVisitors\":[{\"propertyName\":\"a\",\"opcua\":{\"nodeID\":\"ns=2;i=4\"}}]}",
     "{\"twins\":[{\"propertyName\":\"b\",\"desired\":{\"value\":\"\",\"metadata\":{\"type\":\"string\"}}}]}",
     "{\"deviceModelRef\":{\"name\":\"m\"},\"protocol\":{\"protocolName\":\"opcua\",\"configData\":{\"url\":"
     "\"opc.tcp://h:4840\",\"userName\":\"u\"}},\"properties\":[{\"name\":\"a\",\"visitors\":{\"protocolName\":"
     "\"opcua\",\"configData\":{\"nodeID\":\"ns=2;i=4\"}}},{\"name\":\"b\",\"desired\":{\"value\":\"\","
     "\"metadata\":{\"type\":\"string\"}}}]}"},
};

/* What only one version can say, from v1alpha2. */
static const struct conversion alpha_devices[] = {
    {"a selector of more than a name, and data for others",
     "{\"deviceModelRef\":{\"name\":\"m\"},\"nodeSelector\":{\"nodeSelectorTerms\":[{\"matchExpressions\":[{"
     "\"key\":\"kubernetes.io/hostname\",\"operator\":\"In\",\"values\":[\"e\",\"f\"]}]}]},\"data\":{"
     "\"dataProperties\":[{\"propertyName\":\"t\",\"metadata\":{\"type\":\"string\"}}],\"dataTopic\":"
     "\"$ke/events/device/+/data/update\"}}", NULL,
     "{\"deviceModelRef\":{\"name\":\"m\"},\"nodeName\":\"e\"}"},
    {"a name of a known protocol for what it does not know",
     "{\"deviceModelRef\":{\"name\":\"m\"},\"protocol\":{\"customizedProtocol\":{\"protocolName\":\"modbus\","
     "\"configData\":{\"slaveID\":1}}}}", NULL,
     "{\"deviceModelRef\":{\"name\":\"m\"},\"protocol\":{\"protocolName\":\"modbus\",\"configData\":{"
     "\"slaveID\":1}}}"},
    {"only what all protocols share",
     "{\"deviceModelRef\":{\"name\":\"m\"},\"protocol\":{\"common\":{\"tcp\":{\"ip\":\"10.0.0.9\",\"port\":502}},"
     "\"modbus\":{}}}", NULL,
     "{\"deviceModelRef\":{\"name\":\"m\"},\"protocol\":{\"protocolName\":\"modbus\",\"configData\":{\"common\":{"
     "\"tcp\":{\"ip\":\"10.0.0.9\",\"port\":502}}}}}"},
};

/* And from v1beta1, as v1alpha2 shows it. */
static const struct conversion beta_devices[] = {
    {"modbus over TCP, as it is written since 1.15",
     "{\"deviceModelRef\":{\"name\":\"m\"},\"protocol\":{\"customizedProtocol\":{\"protocolName\":\"modbus\","
     "\"configData\":{\"ip\":\"10.0.0.9\",\"port\":\"502\"}}}}", NULL,
     "{\"deviceModelRef\":{\"name\":\"m\"},\"protocol\":{\"protocolName\":\"modbus\",\"configData\":{\"ip\":"
     "\"10.0.0.9\",\"port\":\"502\"}}}"},
    {"a visitor that says nothing but a name",
     "{\"deviceModelRef\":{\"name\":\"m\"},\"propertyVisitors\":[{\"propertyName\":\"p\",\"customizedProtocol\":{"
     "\"protocolName\":\"x\",\"configData\":{}}}]}", NULL,
     "{\"deviceModelRef\":{\"name\":\"m\"},\"properties\":[{\"name\":\"p\",\"visitors\":{\"protocolName\":\"x\"}}]}"},
    {"methods, pushing, a property that is only named",
     "{\"deviceModelRef\":{\"name\":\"m\"},\"propertyVisitors\":[{\"propertyName\":\"p\",\"reportCycle\":1}]}",
     NULL,
     "{\"deviceModelRef\":{\"name\":\"m\"},\"properties\":[{\"name\":\"p\",\"reportCycle\":1,\"reportToCloud\":true,"
     "\"pushMethod\":{\"mqtt\":{\"address\":\"a\",\"topic\":\"t\",\"qos\":1,\"retained\":true}}},{\"name\":\"q\"}],"
     "\"methods\":[{\"name\":\"set\",\"propertyNames\":[\"p\"]}],\"stateReport\":{\"reportToCloud\":true}}"},
};

static char *object_text(const char *name, const char *spec, const char *status)
{
    static char text[4096];
    (void)snprintf(text, sizeof text, "{\"metadata\":{\"name\":\"%s\"},\"spec\":%s%s%s}", name, spec,
                   status == NULL ? "" : ",\"status\":", status == NULL ? "" : status);
    return text;
}

static void expect_spec(struct rig *rig, const char *target, const char *spec, const char *status)
{
    json_t *object = rig_expect(rig, 200, "GET", target, "");
    assert_json(json_object_get(object, "spec"), spec);
    if (status != NULL) {
        assert_json(json_object_get(object, "status"), status);
    } else {
        assert_null(json_object_get(object, "status"));
    }
    assert_null(json_object_get(object, DEVICE_KEPT));
    json_decref(object);
}

static void check_conversions(struct rig *rig, const struct conversion *table, size_t count,
                              bool from_alpha, bool from_beta)
{
    for (size_t i = 0; i < count; i++) {
        const struct conversion *c = &table[i];
        for (int way = 0; way < 2; way++) {
            if (way == 0 ? !from_alpha : !from_beta) {
                continue;
            }
            print_message("%s, from %s\n", c->what, way == 0 ? "v1alpha2" : "v1beta1");
            if (way == 0) {
                expect(rig, 201, "POST", ALPHA, object_text("d", c->alpha_spec, c->alpha_status));
            } else {
                expect(rig, 201, "POST", BETA, object_text("d", c->beta_spec, NULL));
            }
            expect_spec(rig, ALPHA "/d", c->alpha_spec, c->alpha_status);
            expect_spec(rig, BETA "/d", c->beta_spec, NULL);
            /* and nothing is lost when a client of the other version touches it */
            patch(rig, way == 0 ? BETA "/d" : ALPHA "/d",
                  "{\"metadata\":{\"labels\":{\"touched\":\"yes\"}}}");
            expect_spec(rig, ALPHA "/d", c->alpha_spec, c->alpha_status);
            expect_spec(rig, BETA "/d", c->beta_spec, NULL);
            expect(rig, 200, "DELETE", BETA "/d", "");
        }
    }
}

/* Claim: a device says the same in both versions; what only one of them can say comes back in it, also after a
 * client of the other has written. Method: a table, written in each version that can say it. */
static void test_devices_in_both_versions(void **state)
{
    struct rig *rig = *state;
    check_conversions(rig, both_devices, sizeof both_devices / sizeof both_devices[0], true, true);
    check_conversions(rig, alpha_devices, sizeof alpha_devices / sizeof alpha_devices[0], true, false);
    check_conversions(rig, beta_devices, sizeof beta_devices / sizeof beta_devices[0], false, true);
}

/* Claim: a change of one part in one version is that change in the other, and leaves the other parts. */
static void test_one_part_changes(void **state)
{
    struct rig *rig = *state;
    expect(rig, 201, "POST", ALPHA, object_text("d", alpha_devices[0].alpha_spec, NULL));
    patch(rig, BETA "/d", "{\"spec\":{\"nodeName\":\"g\",\"methods\":[{\"name\":\"x\"}]}}");
    json_t *object = rig_expect(rig, 200, "GET", ALPHA "/d", "");
    assert_json(json_at(object, "spec.nodeSelector"),
                "{\"nodeSelectorTerms\":[{\"matchExpressions\":[{\"key\":\"\",\"operator\":\"In\","
                "\"values\":[\"g\"]}]}]}");
    assert_string_equal(json_text_at(object, "spec.data.dataTopic"),
                        "$ke/events/device/+/data/update");
    json_decref(object);
    patch(rig, ALPHA "/d",
          "{\"spec\":{\"protocol\":{\"modbus\":{\"slaveID\":7}},\"propertyVisitors\":[{\"propertyName\":\"p\","
          "\"reportCycle\":3}]},\"status\":{\"twins\":[{\"propertyName\":\"p\",\"desired\":{\"value\":\"1\"},"
          "\"reported\":{\"value\":\"nobody may say this\"}}]}}");
    expect_spec(rig, BETA "/d",
                "{\"deviceModelRef\":{\"name\":\"m\"},\"nodeName\":\"g\",\"methods\":[{\"name\":\"x\"}],"
                "\"protocol\":{\"protocolName\":\"modbus\",\"configData\":{\"slaveID\":7}},\"properties\":[{"
                "\"name\":\"p\",\"reportCycle\":3,\"desired\":{\"value\":\"1\"}}]}",
                NULL);
    patch(rig, ALPHA "/d", "{\"spec\":{\"propertyVisitors\":null},\"status\":{\"twins\":null}}");
    object = rig_expect(rig, 200, "GET", BETA "/d", "");
    assert_null(json_at(object, "spec.properties"));
    json_decref(object);
}

static const struct conversion models[] = {
    {"numbers, texts, the rest",
     "{\"protocol\":\"modbus\",\"properties\":[{\"name\":\"t\",\"description\":\"how warm\",\"type\":{\"int\":{"
     "\"accessMode\":\"ReadWrite\",\"minimum\":-40,\"maximum\":120,\"unit\":\"C\"}}},{\"name\":\"s\",\"type\":{"
     "\"string\":{\"accessMode\":\"ReadOnly\"}}},{\"name\":\"d\",\"type\":{\"double\":{\"accessMode\":\"ReadOnly\","
     "\"minimum\":0.5}}},{\"name\":\"f\",\"type\":{\"float\":{}}},{\"name\":\"b\",\"type\":{\"boolean\":{}}},{"
     "\"name\":\"y\",\"type\":{\"bytes\":{}}}]}", NULL,
     "{\"protocol\":\"modbus\",\"properties\":[{\"name\":\"t\",\"description\":\"how warm\",\"type\":\"INT\","
     "\"accessMode\":\"ReadWrite\",\"minimum\":\"-40\",\"maximum\":\"120\",\"unit\":\"C\"},{\"name\":\"s\","
     "\"type\":\"STRING\",\"accessMode\":\"ReadOnly\"},{\"name\":\"d\",\"type\":\"DOUBLE\",\"accessMode\":"
     "\"ReadOnly\",\"minimum\":\"0.5\"},{\"name\":\"f\",\"type\":\"FLOAT\"},{\"name\":\"b\",\"type\":\"BOOLEAN\"},"
     "{\"name\":\"y\",\"type\":\"BYTES\"}]}"},
};
static const struct conversion alpha_models[] = {
    {"a value of its own to begin with",
     "{\"properties\":[{\"name\":\"t\",\"type\":{\"int\":{\"accessMode\":\"ReadWrite\",\"defaultValue\":20}}}]}",
     NULL, "{\"properties\":[{\"name\":\"t\",\"type\":\"INT\",\"accessMode\":\"ReadWrite\"}]}"},
};
static const struct conversion beta_models[] = {
    {"a stream, visitors, a protocol's data",
     "{\"properties\":[{\"name\":\"v\",\"type\":{\"bytes\":{\"accessMode\":\"ReadOnly\"}}}]}", NULL,
     "{\"properties\":[{\"name\":\"v\",\"type\":\"STREAM\",\"accessMode\":\"ReadOnly\",\"visitors\":{"
     "\"protocolName\":\"rtsp\"}}],\"protocolConfigData\":{\"a\":1}}"},
};

/* Claim: the same of models. */
static void test_models_in_both_versions(void **state)
{
    struct rig *rig = *state;
    const struct conversion *const tables[] = {models, alpha_models, beta_models};
    for (size_t t = 0; t < 3; t++) {
        const struct conversion *c = &tables[t][0];
        for (int way = 0; way < 2; way++) {
            if ((t == 1 && way == 1) || (t == 2 && way == 0)) {
                continue;
            }
            print_message("%s, from %s\n", c->what, way == 0 ? "v1alpha2" : "v1beta1");
            expect(rig, 201, "POST", way == 0 ? ALPHA_MODELS : BETA_MODELS,
                   object_text("m", way == 0 ? c->alpha_spec : c->beta_spec, NULL));
            expect_spec(rig, ALPHA_MODELS "/m", c->alpha_spec, NULL);
            expect_spec(rig, BETA_MODELS "/m", c->beta_spec, NULL);
            patch(rig, way == 0 ? BETA_MODELS "/m" : ALPHA_MODELS "/m",
                  "{\"metadata\":{\"labels\":{\"touched\":\"yes\"}}}");
            expect_spec(rig, ALPHA_MODELS "/m", c->alpha_spec, NULL);
            expect_spec(rig, BETA_MODELS "/m", c->beta_spec, NULL);
            expect(rig, 200, "DELETE", BETA_MODELS "/m", "");
        }
    }
}

/* -- conversion of anything --------------------------------------------------------------------------------- */

static json_t *random_object(const struct schema_type *type);

static json_t *random_value(const struct schema_field *field)
{
    char text[16];
    (void)snprintf(text, sizeof text, "%d", rand() % 1000);
    switch (field->shape) {
    case SHAPE_OBJECT:
        return random_object(field->type);
    case SHAPE_NUMBER:
        return json_integer(rand() % 100);
    case SHAPE_REAL:
        return rand() % 2 == 0 ? json_integer(rand() % 100) : json_real(rand() % 1000 / 8.0);
    case SHAPE_BOOL:
        return json_boolean(rand() % 2);
    case SHAPE_ANY:
        return rand() % 4 == 0 ? json_object() : json_pack("{s:s, s:{s:i}}", "any", text, "more", "n", rand() % 9);
    case SHAPE_TEXT:
    case SHAPE_TIME:
    case SHAPE_QUANTITY:
    case SHAPE_PORT:
    case SHAPE_BASE64:
        break;
    }
    return json_string(text);
}

/* Some of its fields, with values that they may have. */
static json_t *random_object(const struct schema_type *type)
{
    json_t *object = json_object();
    for (const struct schema_field *field = type->fields; field->name != NULL; field++) {
        if (rand() % 2 == 0) {
            continue;
        }
        json_t *value;
        if (field->many == MANY_LIST) {
            value = json_array();
            for (int i = rand() % 4; i > 0; i--) {
                assert_int_equal(json_array_append_new(value, random_value(field)), 0);
            }
        } else if (field->many == MANY_MAP) {
            value = json_object();
            for (int i = rand() % 3; i > 0; i--) {
                assert_int_equal(json_object_set_new(value, i == 1 ? "a" : "b", random_value(field)), 0);
            }
        } else {
            value = random_value(field);
        }
        assert_int_equal(json_object_set_new(object, field->name, value), 0);
    }
    return object;
}

/* Entries of a list get names of their own. */
static void name_entries(json_t *list, const char *member)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        char name[24];
        (void)snprintf(name, sizeof name, "p%zu", i);
        json_put_text(json_array_get(list, i), member, name);
    }
}

/* Of these members keep one at most; exactly one if it has to be. */
static void keep_one(json_t *object, const char *const *members, size_t count, const char *otherwise)
{
    bool found = false;
    for (size_t i = 0; i < count; i++) {
        const bool there = json_object_get(object, members[i]) != NULL;
        if (there && found) {
            assert_int_equal(json_object_del(object, members[i]), 0);
        }
        found = found || there;
    }
    if (!found && otherwise != NULL) {
        assert_int_equal(json_object_set_new(object, otherwise, json_object()), 0);
    }
}

static json_t *random_alpha(enum api_kind kind)
{
    static const char *const protocols[] = {"opcua", "modbus", "bluetooth", "customizedProtocol"};
    static const char *const types[] = {"int", "string", "double", "float", "boolean", "bytes"};
    json_t *object = json_pack("{s:{s:s}}", "metadata", "name", "d");
    json_t *spec = random_object(api_device_type(kind, "spec"));
    assert_int_equal(json_object_set_new(object, "spec", spec), 0);
    if (kind == API_DEVICE_MODEL_ALPHA) {
        json_t *properties = json_object_get(spec, "properties");
        name_entries(properties, "name");
        for (size_t i = 0; i < json_array_size(properties); i++) {
            keep_one(json_child(json_array_get(properties, i), "type"), types, 6, "bytes");
        }
        return object;
    }
    keep_one(json_object_get(spec, "protocol"), protocols, 4, NULL);
    json_t *visitors = json_object_get(spec, "propertyVisitors");
    name_entries(visitors, "propertyName");
    for (size_t i = 0; i < json_array_size(visitors); i++) {
        keep_one(json_array_get(visitors, i), protocols, 4, NULL);
    }
    json_t *twins = json_array();
    for (int i = 0; i < 5; i++) {
        if (rand() % 2 == 0) {
            char name[16];
            (void)snprintf(name, sizeof name, "p%d", i);
            json_t *desired = random_object(api_device_type(kind, "status.twins.desired"));
            assert_int_equal(json_array_append_new(twins, json_pack("{s:s, s:o}", "propertyName", name, "desired",
                                                                    desired)), 0);
        }
    }
    if (json_array_size(twins) > 0) {
        assert_int_equal(json_object_set_new(object, "status", json_pack("{s:o}", "twins", twins)), 0);
    } else {
        json_decref(twins);
    }
    return object;
}

static json_t *random_beta(enum api_kind kind)
{
    static const char *const types[] = {"INT", "FLOAT", "DOUBLE", "STRING", "BOOLEAN", "BYTES", "STREAM"};
    static const char *const names[] = {"modbus", "opcua", "bluetooth", "gpio", ""};
    json_t *object = json_pack("{s:{s:s}}", "metadata", "name", "d");
    json_t *spec = random_object(api_device_type(kind, "spec"));
    assert_int_equal(json_object_set_new(object, "spec", spec), 0);
    json_t *properties = json_object_get(spec, "properties");
    if (json_array_size(properties) == 0) {
        (void)json_object_del(spec, "properties"); /* as absent */
        properties = NULL;
    }
    name_entries(properties, "name");
    for (size_t i = 0; i < json_array_size(properties); i++) {
        json_t *property = json_array_get(properties, i);
        if (kind == API_DEVICE_MODEL) {
            json_put_text(property, "type", rand() % 8 == 0 ? NULL : types[rand() % 7]);
        } else if (json_object_get(property, "visitors") != NULL) {
            json_put_text(json_object_get(property, "visitors"), "protocolName", names[rand() % 5]);
        }
    }
    if (kind == API_DEVICE && json_object_get(spec, "protocol") != NULL) {
        json_put_text(json_object_get(spec, "protocol"), "protocolName", names[rand() % 5]);
    }
    return object;
}

static void assert_same(const json_t *got, const json_t *wanted, const char *what)
{
    if (got == NULL || wanted == NULL ? got != wanted : !json_equal(got, wanted)) {
        struct text text = {0};
        json_write(&text, got == NULL ? json_null() : got);
        text_add(&text, "\n instead of ");
        json_write(&text, wanted == NULL ? json_null() : wanted);
        print_message("%s: %s\n", what, text.data);
        text_release(&text);
        fail();
    }
}

/* Claim: whatever is written in v1alpha2 is shown there as it was written; whatever is stored is not changed by a
 * client of v1alpha2 that writes back what it sees. Method: random objects of all fields that there are. */
static void test_nothing_is_lost(void **state)
{
    (void)state;
    static const enum api_kind alphas[] = {API_DEVICE_ALPHA, API_DEVICE_MODEL_ALPHA};
    static const enum api_kind betas[] = {API_DEVICE, API_DEVICE_MODEL};
    const char *seed = getenv("SEED");
    srand(seed == NULL ? 1 : (unsigned)atoi(seed));
    for (int round = 0; round < 4000; round++) {
        const enum api_kind kind = alphas[round % 2];
        const struct api_resource *resource = api_resource_get(kind);
        json_t *written = random_alpha(kind);
        json_t *object = json_deep_copy(written);
        api_device_store(resource, NULL, object);
        assert_string_equal(json_text_at(object, "apiVersion"), "devices.kubeedge.io/v1beta1");
        api_device_show(resource, object);
        assert_same(json_object_get(object, "spec"), json_object_get(written, "spec"), "spec");
        const json_t *twins = json_at(written, "status.twins");
        assert_int_equal(json_array_size(json_at(object, "status.twins")), json_array_size(twins));
        for (size_t i = 0; i < json_array_size(twins); i++) {
            const json_t *twin = json_array_get(twins, i);
            assert_same(api_device_entry(json_at(object, "status.twins"), "propertyName",
                                         json_text_at(twin, "propertyName")),
                        twin, "twin");
        }
        json_decref(object);
        json_decref(written);

        json_t *stored = random_beta(betas[round % 2]);
        object = json_deep_copy(stored);
        api_device_show(resource, object);
        api_device_store(resource, stored, object);
        assert_same(json_object_get(object, "spec"), json_object_get(stored, "spec"), "stored");
        json_decref(object);
        json_decref(stored);
    }
}

/* -- what is refused --------------------------------------------------------------------------------------- */

/* Claim: what makes no sense is refused with the field it is in, in the words of the version it was written in.
 * Method: a table of specs. */
static void test_refusals(void **state)
{
    struct rig *rig = *state;
    static const struct {
        const char *target;
        const char *spec;
        const char *status;
        const char *field; /* NULL: it is taken */
        const char *message;
    } cases[] = {
        {BETA, "{}", NULL, "spec.deviceModelRef.name", "Required value"},
        {BETA, "{\"deviceModelRef\":{\"name\":\"m\"},\"properties\":[{\"name\":\"a\"},{\"name\":\"a\"}]}", NULL,
         "spec.properties[1].name", "Duplicate value: \"a\""},
        {BETA, "{\"deviceModelRef\":{\"name\":\"m\"},\"properties\":[{}]}", NULL, "spec.properties[0].name",
         "Required value"},
        {BETA, "{\"deviceModelRef\":{\"name\":\"m\"},\"properties\":[{\"name\":\"a b\"}]}", NULL,
         "spec.properties[0].name",
         "Invalid value: \"a b\": must consist of alphanumeric characters, '-', '_', '.', ',', ':', '/', '@' or "
         "'#', at most 128"},
        {BETA, "{\"deviceModelRef\":{\"name\":\"m\"},\"nodeName\":\"E!\"}", NULL, "spec.nodeName",
         "Invalid value: \"E!\": is no name of a node"},
        {BETA, "{\"deviceModelRef\":{\"name\":\"m\"},\"protocol\":{\"configData\":{}}}", NULL,
         "spec.protocol.protocolName", "Required value"},
        {BETA, "{\"deviceModelRef\":{\"name\":\"m\"},\"properties\":[{\"name\":\"a\",\"collectCycle\":-1}]}", NULL,
         "spec.properties[0].collectCycle", "Invalid value: \"-1\": must be greater than or equal to 0"},
        {ALPHA, "{\"deviceModelRef\":{\"name\":\"m\"},\"propertyVisitors\":[{\"propertyName\":\"a\"},{"
                "\"propertyName\":\"a\"}]}", NULL, "spec.propertyVisitors[1].propertyName",
         "Duplicate value: \"a\""},
        {ALPHA, "{\"deviceModelRef\":{\"name\":\"m\"},\"protocol\":{\"modbus\":{},\"opcua\":{}}}", NULL,
         "spec.protocol", "Forbidden: may not specify more than 1 protocol"},
        {ALPHA, "{\"deviceModelRef\":{\"name\":\"m\"},\"propertyVisitors\":[{\"propertyName\":\"a\",\"modbus\":{"
                "\"register\":\"Coil\"}}]}", NULL, "spec.propertyVisitors[0].modbus.register",
         "Unsupported value: \"Coil\": supported values: \"CoilRegister\", \"DiscreteInputRegister\", "
         "\"InputRegister\", \"HoldingRegister\""},
        {ALPHA, "{\"deviceModelRef\":{\"name\":\"m\"},\"protocol\":{\"common\":{\"com\":{\"dataBits\":9}}}}", NULL,
         "spec.protocol.common.com.dataBits", "Invalid value: \"9\": must be between 5 and 8"},
        {ALPHA, "{\"deviceModelRef\":{\"name\":\"m\"}}", "{\"twins\":[{\"desired\":{\"value\":\"1\"}}]}",
         "status.twins[0].propertyName", "Required value"},
        {BETA_MODELS, "{\"properties\":[{\"name\":\"a\",\"type\":\"int\"}]}", NULL, "spec.properties[0].type",
         "Unsupported value: \"int\": supported values: \"INT\", \"FLOAT\", \"DOUBLE\", \"STRING\", \"BOOLEAN\", "
         "\"BYTES\", \"STREAM\""},
        {BETA_MODELS, "{\"properties\":[{\"name\":\"a\",\"type\":\"INT\",\"accessMode\":\"W\"}]}", NULL,
         "spec.properties[0].accessMode",
         "Unsupported value: \"W\": supported values: \"ReadWrite\", \"ReadOnly\""},
        {BETA_MODELS, "{\"properties\":[{\"name\":\"a\",\"type\":\"INT\",\"minimum\":\"2\",\"maximum\":\"1\"}]}",
         NULL, "spec.properties[0].maximum",
         "Invalid value: \"1\": must be greater than or equal to `minimum`"},
        {BETA_MODELS, "{\"properties\":[{\"name\":\"a\",\"type\":\"INT\",\"minimum\":\"few\"}]}", NULL,
         "spec.properties[0].minimum", "Invalid value: \"few\": must be a number"},
        {BETA_MODELS, "{\"properties\":[{\"name\":\"a\",\"type\":\"INT\",\"minimum\":\"1\",\"maximum\":\"2\"}]}",
         NULL, NULL, NULL},
        {ALPHA_MODELS, "{\"properties\":[{\"name\":\"a\",\"type\":{}}]}", NULL, "spec.properties[0].type",
         "Required value"},
        {ALPHA_MODELS, "{\"properties\":[{\"name\":\"a\",\"type\":{\"int\":{},\"string\":{}}}]}", NULL,
         "spec.properties[0].type", "Forbidden: may not specify more than 1 type"},
        {ALPHA_MODELS, "{\"properties\":[{\"name\":\"a\",\"type\":{\"int\":{\"minimum\":3,\"maximum\":2}}}]}", NULL,
         "spec.properties[0].type.int.maximum",
         "Invalid value: \"2\": must be greater than or equal to `minimum`"},
        {ALPHA_MODELS, "{\"properties\":[{\"name\":\"a\",\"type\":{\"double\":{\"maximum\":2}}}]}", NULL, NULL,
         NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        print_message("%s %s\n", cases[i].target, cases[i].spec);
        char name[16];
        (void)snprintf(name, sizeof name, "x%zu", i);
        json_t *json = rig_expect(rig, cases[i].field == NULL ? 201 : 422, "POST", cases[i].target,
                                  object_text(name, cases[i].spec, cases[i].status));
        if (cases[i].field != NULL) {
            assert_string_equal(json_text_at(json, "reason"), "Invalid");
            assert_int_equal(json_array_size(json_at(json, "details.causes")), 1);
            const json_t *cause = json_array_get(json_at(json, "details.causes"), 0);
            assert_string_equal(json_text_at(cause, "field"), cases[i].field);
            assert_string_equal(json_text_at(cause, "message"), cases[i].message);
        }
        json_decref(json);
    }
}

#define DESIRED(name, value, type) \
    "{\"name\":\"" name "\",\"desired\":{\"value\":\"" value "\",\"metadata\":{\"type\":\"" type "\"}}}"

/* Claim: a wished value is of its type, which the property says, else the model; one that is not is refused, and is
 * not complained about again when something else is changed. What may become true later is taken, with a warning that
 * kubectl prints. Method: a table of answers, without a model and node and with them. */
static void test_wishes_fit(void **state)
{
    struct rig *rig = *state;
    static const struct {
        const char *properties;
        const char *field; /* refused for; NULL: taken */
        const char *says;  /* of the cause, or of a warning; NULL: no warning */
    } cases[] = {
        {DESIRED("a", "1", "INT"), "spec.properties[0].desired.metadata.type",
         "Unsupported value: \"INT\": supported values: \"int\", "},
        {DESIRED("a", "x", "int"), "spec.properties[0].desired.value",
         "Invalid value: \"x\": must be of type int, which property a has"},
        {DESIRED("a", "maybe", "boolean"), "spec.properties[0].desired.value",
         "Invalid value: \"maybe\": must be of type boolean, which property a has"},
        {DESIRED("a", "x", ""), "spec.properties[0].desired.value",
         "Invalid value: \"x\": must be of type int, which property a has in its model"},
        {DESIRED("a", "x", "string"), NULL, NULL},
        {DESIRED("a", "az-AZ_09.,:/@#", "string"), NULL, NULL},
        {DESIRED("a", "50 %", "string"), NULL,
         "spec.properties[0].desired.value: no mapper can report this value of property a back"},
        {DESIRED("a", "7", ""), NULL, NULL},
        {DESIRED("a", "", ""), NULL, NULL},
        {DESIRED("a", "11", ""), NULL,
         "spec.properties[0].desired.value: 11 of property a is outside what its model allows (0 to 10)"},
        {DESIRED("ro", "on", ""), NULL,
         "spec.properties[0].desired.value: property ro is ReadOnly in its model: a mapper need not obey"},
        {DESIRED("z", "on", ""), NULL, "spec.properties: the model m has no property z"},
    };
    struct answer answer;
    rig_ask(rig, &answer, "POST", BETA,
            object_text("early",
                        "{\"deviceModelRef\":{\"name\":\"m\"},\"nodeName\":\"n\",\"properties\":[" DESIRED("a", "x", "") "]}",
                        NULL));
    assert_int_equal(answer.status, 201);
    assert_non_null(strstr(answer.headers.data, "Warning: 299 - \"spec.nodeName: there is no node n yet: "));
    assert_non_null(strstr(answer.headers.data,
                           "Warning: 299 - \"spec.deviceModelRef.name: there is no DeviceModel m in namespace default yet"));
    answer_release(&answer);
    expect(rig, 201, "POST", "/api/v1/nodes", "{\"metadata\":{\"name\":\"n\"}}");
    expect(rig, 201, "POST", BETA_MODELS,
           object_text("m",
                       "{\"properties\":[{\"name\":\"a\",\"type\":\"INT\",\"minimum\":\"0\",\"maximum\":\"10\"},"
                       "{\"name\":\"ro\",\"type\":\"STRING\",\"accessMode\":\"ReadOnly\"}]}",
                       NULL));
    patch(rig, BETA "/early", "{\"metadata\":{\"labels\":{\"x\":\"1\"}}}");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char name[16];
        struct text spec = {0};
        (void)snprintf(name, sizeof name, "x%zu", i);
        text_print(&spec, "{\"deviceModelRef\":{\"name\":\"m\"},\"nodeName\":\"n\",\"properties\":[%s]}",
                   cases[i].properties);
        print_message("%s\n", spec.data);
        rig_ask(rig, &answer, "POST", BETA, object_text(name, spec.data, NULL));
        assert_int_equal(answer.status, cases[i].field == NULL ? 201 : 422);
        if (cases[i].field != NULL) {
            const json_t *cause = json_array_get(json_at(answer.json, "details.causes"), 0);
            assert_string_equal(json_text_at(cause, "field"), cases[i].field);
            assert_non_null(strstr(json_text_at(cause, "message"), cases[i].says));
        } else if (cases[i].says != NULL) {
            assert_non_null(strstr(answer.headers.data, cases[i].says));
        } else {
            assert_true(answer.headers.size == 0 || strstr(answer.headers.data, "Warning") == NULL);
        }
        answer_release(&answer);
        text_release(&spec);
    }
    json_t *json = rig_expect(rig, 422, "POST", ALPHA,
                              object_text("old", "{\"deviceModelRef\":{\"name\":\"m\"}}",
                                          "{\"twins\":[{\"propertyName\":\"a\",\"desired\":{\"value\":\"x\"}}]}"));
    const json_t *cause = json_array_get(json_at(json, "details.causes"), 0);
    assert_string_equal(json_text_at(cause, "field"), "status.twins[].desired.value");
    json_decref(json);
}

/* Claim: 129 properties are one too many; a custom kind takes no strategic merge patch; while a member of the
 * group is older, devices are read and not written, and the answer says what to do. */
static void test_bounds(void **state)
{
    struct rig *rig = *state;
    struct text text = {0};
    text_add(&text, "{\"metadata\":{\"name\":\"d\"},\"spec\":{\"deviceModelRef\":{\"name\":\"m\"},"
                    "\"properties\":[");
    for (uint32_t i = 0; i < LIMIT_DEVICE_TWINS; i++) {
        text_print(&text, "%s{\"name\":\"p%u\"}", i == 0 ? "" : ",", i);
    }
    struct text more = {0};
    text_print(&more, "%s,{\"name\":\"last\"}]}}", text.data);
    text_add(&text, "]}}");
    json_t *json = rig_expect(rig, 422, "POST", BETA, more.data);
    assert_non_null(strstr(json_text_at(json, "message"),
                           "spec.properties: Too many: 129: must have at most 128 items"));
    json_decref(json);
    expect(rig, 201, "POST", BETA, text.data);
    text_release(&text);
    text_release(&more);

    rig->content_type = "application/strategic-merge-patch+json";
    expect(rig, 415, "PATCH", BETA "/d", "{\"spec\":{}}");
    rig->content_type = NULL;

    backend_fake_set_level(rig->fake, 1);
    json = rig_expect(rig, 503, "POST", BETA, object_text("e", "{\"deviceModelRef\":{\"name\":\"m\"}}", NULL));
    assert_non_null(strstr(json_text_at(json, "message"), "upgrade all of them first"));
    json_decref(json);
    expect(rig, 503, "DELETE", ALPHA "/d", "");
    expect(rig, 200, "GET", BETA "/d", "");
    expect(rig, 201, "POST", "/api/v1/namespaces/default/configmaps", "{\"metadata\":{\"name\":\"c\"}}");
    backend_fake_set_level(rig->fake, 0);
    expect(rig, 200, "DELETE", ALPHA "/d", "");
}

/* -- wishes -------------------------------------------------------------------------------------------------- */

/* Claim: the envelope says node, description and types: what the wish says, else the model, else what it was,
 * else string. */
static void test_types(void **state)
{
    struct rig *rig = *state;
    expect(rig, 201, "POST", BETA,
           "{\"metadata\":{\"name\":\"d\",\"labels\":{\"description\":\"sensor\"},\"annotations\":{"
           "\"kelp.io/keep-values\":\"true\"}},\"spec\":{\"deviceModelRef\":{\"name\":\"m\"},\"nodeName\":\"e\","
           "\"properties\":[{\"name\":\"a\",\"desired\":{\"value\":\"1\",\"metadata\":{\"type\":\"float\"}}},{"
           "\"name\":\"b\"}]}}");
    struct wish wish;
    wish_read(rig, &wish);
    assert_string_equal(wish.put.object.node_name, "e");
    assert_string_equal(wish.put.object.version, "v1beta1");
    assert_string_equal(wish.put.object.device->description, "sensor");
    assert_true(wish.put.object.device->keep_values);
    assert_string_equal(wish_property(&wish, "a")->type, "float");
    assert_true(wish_property(&wish, "a")->has_desired);
    assert_string_equal(wish_property(&wish, "b")->type, "string"); /* there is no model */
    assert_false(wish_property(&wish, "b")->has_desired);
    wish_release(rig, &wish);

    expect(rig, 201, "POST", BETA_MODELS,
           object_text("m", "{\"properties\":[{\"name\":\"a\",\"type\":\"INT\"},{\"name\":\"b\",\"type\":\"INT\"}]}",
                       NULL));
    patch(rig, BETA "/d", "{\"metadata\":{\"labels\":{\"x\":\"1\"}}}");
    wish_read(rig, &wish);
    assert_string_equal(wish_property(&wish, "a")->type, "float");
    assert_string_equal(wish_property(&wish, "b")->type, "int");
    wish_release(rig, &wish);

    expect(rig, 200, "DELETE", BETA_MODELS "/m", "");
    patch(rig, BETA "/d", "{\"metadata\":{\"labels\":{\"x\":\"2\"}}}");
    wish_read(rig, &wish);
    assert_string_equal(wish_property(&wish, "b")->type, "int");
    wish_release(rig, &wish);
}

/* What a property was when it was last looked at. */
struct seen {
    bool there;
    char desired[32]; /* "": none */
    uint64_t revision;
    uint64_t highest; /* ever */
};

/* Claim: a revision changes exactly when what is wished does, always upwards, also over a time in which the
 * property was not there. Method: random writes in both versions against a model. */
static void test_revisions_grow_with_wishes(void **state)
{
    struct rig *rig = *state;
    const char *seed = getenv("SEED");
    srand(seed == NULL ? 1 : (unsigned)atoi(seed));
    struct seen seen[3] = {{0}};
    expect(rig, 201, "POST", BETA, object_text("d", "{\"deviceModelRef\":{\"name\":\"m\"}}", NULL));
    for (int round = 0; round < 300; round++) {
        const int what = rand() % 4;
        struct text body = {0};
        bool there[3];
        char desired[3][32];
        if (what == 3) { /* nothing that is wished */
            text_print(&body, "{\"metadata\":{\"labels\":{\"round\":\"%d\"}}}", round);
            for (int i = 0; i < 3; i++) {
                there[i] = seen[i].there;
                (void)snprintf(desired[i], sizeof desired[i], "%s", seen[i].desired);
            }
        } else {
            const bool alpha = what == 2;
            struct text twins = {0};
            for (int i = 0; i < 3; i++) {
                there[i] = rand() % 4 != 0;
                desired[i][0] = '\0';
                if (there[i] && (alpha || rand() % 3 != 0)) {
                    (void)snprintf(desired[i], sizeof desired[i], "%d", rand() % 3);
                }
                if (there[i] && desired[i][0] != '\0') {
                    text_print(&twins, "%s{\"%s\":\"p%d\",\"desired\":{\"value\":\"%s\"}}",
                               twins.size == 0 ? "" : ",", alpha ? "propertyName" : "name", i, desired[i]);
                } else if (there[i]) {
                    text_print(&twins, "%s{\"name\":\"p%d\"}", twins.size == 0 ? "" : ",", i);
                }
            }
            text_print(&body, alpha ? "{\"status\":{\"twins\":[%s]}}" : "{\"spec\":{\"properties\":[%s]}}",
                       twins.size == 0 ? "" : twins.data);
            text_release(&twins);
            for (int i = 0; alpha && i < 3; i++) { /* what v1alpha2 does not see stays */
                there[i] = there[i] || (seen[i].there && seen[i].desired[0] == '\0');
            }
        }
        patch(rig, what == 2 ? ALPHA "/d" : BETA "/d", body.data);
        text_release(&body);
        struct wish wish;
        wish_read(rig, &wish);
        for (int i = 0; i < 3; i++) {
            char name[8];
            (void)snprintf(name, sizeof name, "p%d", i);
            const struct device_property *property = wish_property(&wish, name);
            assert_int_equal(property != NULL, there[i]);
            if (property == NULL) {
                seen[i].there = false;
                continue;
            }
            assert_string_equal(property->desired, desired[i]);
            if (seen[i].there && strcmp(seen[i].desired, desired[i]) == 0) {
                assert_int_equal(property->revision, seen[i].revision);
            } else {
                assert_true(property->revision > seen[i].highest);
            }
            seen[i].there = true;
            seen[i].revision = property->revision;
            seen[i].highest = property->revision;
            (void)snprintf(seen[i].desired, sizeof seen[i].desired, "%s", desired[i]);
        }
        wish_release(rig, &wish);
    }
}

/* Claim: whoever wishes the same value again, with other metadata, has wished anew: what a client of the broker
 * wished in between gives way. */
static void test_a_note_wishes_again(void **state)
{
    struct rig *rig = *state;
    expect(rig, 201, "POST", BETA,
           object_text("d", "{\"deviceModelRef\":{\"name\":\"m\"},\"properties\":[{\"name\":\"p\",\"desired\":{"
                            "\"value\":\"1\"}},{\"name\":\"q\",\"desired\":{\"value\":\"2\"}}]}",
                       NULL));
    struct wish wish;
    wish_read(rig, &wish);
    const uint64_t p = wish_property(&wish, "p")->revision;
    const uint64_t q = wish_property(&wish, "q")->revision;
    wish_release(rig, &wish);
    patch(rig, BETA "/d",
          "{\"spec\":{\"properties\":[{\"name\":\"p\",\"desired\":{\"value\":\"1\",\"metadata\":{\"note\":"
          "\"again\"}}},{\"name\":\"q\",\"desired\":{\"value\":\"2\"}}]}}");
    wish_read(rig, &wish);
    assert_true(wish_property(&wish, "p")->revision > p);
    assert_string_equal(wish_property(&wish, "p")->desired, "1");
    assert_int_equal(wish_property(&wish, "q")->revision, q);
    wish_release(rig, &wish);
}

/* -- facts --------------------------------------------------------------------------------------------------- */

static void report(struct rig *rig, const char *node, const char *actual)
{
    struct wish wish;
    wish_read(rig, &wish);
    const struct twin twins[] = {
        {.key = "t", .type = "int", .has_expected = true, .expected = "25", .expected_ms = 1738310400100,
         .has_actual = true, .actual = actual, .actual_ms = 1738310400200, .wish_revision = 1},
        {.key = "u", .type = "string", .expected = "", .actual = ""},
    };
    const struct device_status status = {.uid = wish.put.object.uid,
                                         .state = "online",
                                         .last_online_ms = 1738310400000,
                                         .twins = twins,
                                         .twin_count = 2};
    struct codec *codec = codec_create();
    struct bytes body;
    assert_int_equal(codec_device_status_build(codec, &status, &body), 0);
    backend_fake_report(rig->fake, node, RECORD_DEVICE_STATUS, KEY, body);
    codec_destroy(codec);
    wish_release(rig, &wish);
}

#define STATUSES "/apis/devices.kubeedge.io/v1beta1/namespaces/default/devicestatuses"
#define TWIN_DEVICE                                                                                \
    "{\"metadata\":{\"name\":\"d\"},\"spec\":{\"deviceModelRef\":{\"name\":\"m\"},\"nodeName\":\"e\","  \
    "\"properties\":[{\"name\":\"t\",\"desired\":{\"value\":\"25\"}}]}}"
#define BETA_STATUS                                                                                \
    "{\"twins\":[{\"propertyName\":\"t\",\"observedDesired\":{\"value\":\"25\",\"metadata\":{"         \
    "\"timestamp\":\"1738310400100\",\"type\":\"int\"}},\"reported\":{\"value\":\"24\",\"metadata\":{" \
    "\"timestamp\":\"1738310400200\",\"type\":\"int\"}}}],\"state\":\"online\",\"lastOnlineTime\":"     \
    "\"2025-01-31T08:00:00Z\"}"
#define ALPHA_STATUS                                                                               \
    "{\"twins\":[{\"propertyName\":\"t\",\"desired\":{\"value\":\"25\"},\"reported\":{\"value\":\"24\"," \
    "\"metadata\":{\"timestamp\":\"1738310400200\",\"type\":\"int\"}}}],\"state\":\"online\","          \
    "\"lastOnlineTime\":\"2025-01-31T08:00:00Z\"}"

/* Claim: what the edge reports is the status in both versions; what users write there changes nothing; it goes
 * when the device moves to another node; watches in both versions are told. */
static void test_status_is_the_edges(void **state)
{
    struct rig *rig = *state;
    expect(rig, 201, "POST", "/api/v1/nodes", "{\"metadata\":{\"name\":\"e\"}}");
    expect(rig, 201, "POST", BETA, TWIN_DEVICE);
    struct answer beta;
    struct answer alpha;
    rig_ask(rig, &beta, "GET", BETA "?watch=true", "");
    rig_ask(rig, &alpha, "GET", ALPHA "?watch=true", "");
    beta.body.size = 0;
    alpha.body.size = 0;
    report(rig, "e", "24");
    rig_run(rig);
    assert_non_null(strstr(beta.body.data, "\"type\":\"MODIFIED\""));
    assert_non_null(strstr(beta.body.data, "\"observedDesired\""));
    assert_non_null(strstr(alpha.body.data, "\"type\":\"MODIFIED\""));
    assert_non_null(strstr(alpha.body.data, "\"apiVersion\":\"devices.kubeedge.io/v1alpha2\""));
    assert_null(strstr(alpha.body.data, "\"observedDesired\""));

    json_t *object = rig_expect(rig, 200, "GET", BETA "/d", "");
    assert_json(json_object_get(object, "status"), BETA_STATUS);
    char version[32];
    (void)snprintf(version, sizeof version, "%s", json_text_at(object, "metadata.resourceVersion"));
    json_decref(object);
    object = rig_expect(rig, 200, "GET", ALPHA "/d", "");
    assert_json(json_object_get(object, "status"), ALPHA_STATUS);
    json_decref(object);

    static const char lie[] =
        "{\"status\":{\"state\":\"offline\",\"twins\":[{\"propertyName\":\"t\",\"reported\":{\"value\":\"99\"}}]}}";
    patch(rig, BETA "/d", lie);
    patch(rig, BETA "/d/status", lie);
    object = rig_expect(rig, 200, "GET", BETA "/d", "");
    assert_json(json_object_get(object, "status"), BETA_STATUS);
    assert_string_equal(json_text_at(object, "metadata.resourceVersion"), version);
    json_decref(object);

    patch(rig, BETA "/d", "{\"spec\":{\"nodeName\":\"f\"}}");
    object = rig_expect(rig, 200, "GET", BETA "/d", "");
    assert_null(json_object_get(object, "status"));
    json_decref(object);
    api_call_gone(beta.call);
    api_call_gone(alpha.call);
    rig_run(rig);
    answer_release(&beta);
    answer_release(&alpha);
}

/* The cluster concludes that it hears of a node, or does not. */
static void judge(struct rig *rig, const char *node, bool reachable)
{
    struct codec *codec = codec_create();
    json_t *object = rig_expect(rig, 200, "GET", codec_print(codec, "/api/v1/nodes/%s", node), "");
    const struct verdict verdict = {.uid = json_text_at(object, "metadata.uid"),
                                    .reachable = reachable};
    struct record record = {.kind = RECORD_VERDICT, .key = codec_print(codec, "/nodes//%s", node)};
    struct bytes bytes;
    assert_int_equal(codec_verdict_build(codec, &verdict, &record.body), 0);
    assert_int_equal(codec_record_build(codec, &record, &bytes), 0);
    backend_fake_propose(rig->fake, &bytes, 1);
    json_decref(object);
    codec_destroy(codec);
}

/* Claim: how a device is on a node that does not answer nobody knows, in either version and in the table; its values
 * stay, and what it said holds again when its node is back. */
static void test_a_lost_node_says_nothing_of_its_devices(void **state)
{
    struct rig *rig = *state;
    expect(rig, 201, "POST", "/api/v1/nodes", "{\"metadata\":{\"name\":\"e\"}}");
    expect(rig, 201, "POST", BETA, TWIN_DEVICE);
    report(rig, "e", "24");
    judge(rig, "e", false);
    static const char *const targets[] = {BETA "/d", ALPHA "/d"};
    for (size_t i = 0; i < 2; i++) {
        json_t *object = rig_expect(rig, 200, "GET", targets[i], "");
        assert_string_equal(json_text_at(object, "status.state"), "unknown");
        assert_string_equal(json_text_at(object, "status.reason"), "NodeNotReady");
        assert_string_equal(json_text_at(object, "status.message"),
                            "node e does not answer; the device was last said to be online");
        const json_t *twin = json_array_get(json_at(object, "status.twins"), 0);
        assert_string_equal(json_text_at(twin, "reported.value"), "24");
        json_decref(object);
    }
    rig->accept = "application/json;as=Table;v=v1;g=meta.k8s.io";
    json_t *table = rig_expect(rig, 200, "GET", BETA, "");
    rig->accept = NULL;
    const json_t *row = json_array_get(json_object_get(table, "rows"), 0);
    assert_string_equal(json_string_value(json_array_get(json_object_get(row, "cells"), 3)),
                        "unknown");
    json_decref(table);

    judge(rig, "e", true);
    json_t *object = rig_expect(rig, 200, "GET", BETA "/d", "");
    assert_json(json_object_get(object, "status"), BETA_STATUS);
    json_decref(object);
}

/* Claim: a DeviceStatus is the status of its Device, whom it belongs to, and nobody writes it; it is there as long as
 * the Device is, and a watch tells it. */
static void test_a_device_status_is_read(void **state)
{
    struct rig *rig = *state;
    expect(rig, 201, "POST", "/api/v1/nodes", "{\"metadata\":{\"name\":\"e\"}}");
    expect(rig, 201, "POST", BETA, TWIN_DEVICE);
    struct answer alpha; /* of the same changes */
    struct answer watch;
    rig_ask(rig, &alpha, "GET", ALPHA "?watch=true", "");
    rig_ask(rig, &watch, "GET", STATUSES "?watch=true", "");
    alpha.body.size = 0;
    watch.body.size = 0;
    report(rig, "e", "24");
    rig_run(rig);
    assert_non_null(strstr(alpha.body.data, "\"kind\":\"Device\""));
    assert_non_null(strstr(watch.body.data, "\"kind\":\"DeviceStatus\""));
    assert_null(strstr(watch.body.data, "\"spec\""));

    json_t *device = rig_expect(rig, 200, "GET", BETA "/d", "");
    json_t *object = rig_expect(rig, 200, "GET", STATUSES "/d", "");
    assert_json(json_object_get(object, "status"), BETA_STATUS);
    assert_string_equal(json_text_at(object, "apiVersion"), "devices.kubeedge.io/v1beta1");
    assert_string_equal(json_text_at(object, "kind"), "DeviceStatus");
    assert_string_equal(json_text_at(object, "metadata.name"), "d");
    assert_string_equal(json_text_at(object, "metadata.resourceVersion"),
                        json_text_at(device, "metadata.resourceVersion"));
    const json_t *owner = json_array_get(json_at(object, "metadata.ownerReferences"), 0);
    assert_string_equal(json_text_at(owner, "kind"), "Device");
    assert_string_equal(json_text_at(owner, "uid"), json_text_at(device, "metadata.uid"));
    assert_string_not_equal(json_text_at(object, "metadata.uid"), json_text_at(owner, "uid"));
    assert_int_equal(json_object_size(object), 4);
    json_decref(object);
    json_decref(device);

    object = rig_expect(rig, 200, "GET", STATUSES, "");
    assert_string_equal(json_text_at(object, "kind"), "DeviceStatusList");
    assert_int_equal(json_array_size(json_object_get(object, "items")), 1);
    json_decref(object);
    expect(rig, 405, "POST", STATUSES, "{\"metadata\":{\"name\":\"d\"}}");
    expect(rig, 405, "DELETE", STATUSES "/d", "");
    rig->accept = "application/json;as=Table;v=v1;g=meta.k8s.io";
    json_t *table = rig_expect(rig, 200, "GET", STATUSES, "");
    rig->accept = NULL;
    const json_t *row = json_array_get(json_object_get(table, "rows"), 0);
    assert_json(json_object_get(row, "cells"),
                "[\"d\",\"online\",\"2025-01-31T08:00:00Z\",\"0s\"]");
    json_decref(table);

    watch.body.size = 0;
    expect(rig, 200, "DELETE", BETA "/d", "");
    rig_run(rig);
    assert_non_null(strstr(watch.body.data, "\"type\":\"DELETED\""));
    expect(rig, 404, "GET", STATUSES "/d", "");
    api_call_gone(alpha.call);
    api_call_gone(watch.call);
    rig_run(rig);
    answer_release(&alpha);
    answer_release(&watch);
}

/* Claim: a Table has the columns of a device in either version. */
static void test_table(void **state)
{
    struct rig *rig = *state;
    expect(rig, 201, "POST", BETA, TWIN_DEVICE);
    rig->accept = "application/json;as=Table;v=v1;g=meta.k8s.io";
    static const char *const targets[] = {BETA, ALPHA};
    for (size_t i = 0; i < 2; i++) {
        json_t *table = rig_expect(rig, 200, "GET", targets[i], "");
        const json_t *row = json_array_get(json_object_get(table, "rows"), 0);
        assert_json(json_object_get(row, "cells"),
                    "[\"d\",\"m\",\"e\",\"<unknown>\",\"0s\",\"<unknown>\"]");
        assert_int_equal(json_array_size(json_object_get(table, "columnDefinitions")), 6);
        json_decref(table);
    }
    rig->accept = NULL;
    for (int i = 0; i < 2; i++) {
        json_t *list = rig_expect(rig, 200, "GET",
                                  i == 0 ? BETA "?fieldSelector=spec.nodeName%3De"
                                         : BETA "?fieldSelector=spec.nodeName%3Df",
                                  "");
        assert_int_equal(json_array_size(json_object_get(list, "items")), i == 0 ? 1 : 0);
        json_decref(list);
    }
}

/* -- what follows ------------------------------------------------------------------------------------------------ */

/* Let the controller do all that is due now. */
static void settle(struct rig *rig, struct devices *devices)
{
    do {
        rig_run(rig);
    } while (devices_run(devices) || devices_busy(devices));
}

/* And what is due within a second. */
static void follow(struct rig *rig, struct devices *devices)
{
    settle(rig, devices);
    backend_fake_set_now_ms(rig->fake, backend_fake_now_ms(rig->fake) + 1000);
    settle(rig, devices);
}

#define CONFIG "/api/v1/namespaces/default/configmaps/device-profile-config-e"

static void expect_profile(struct rig *rig, const char *wanted)
{
    json_t *config = rig_expect(rig, wanted == NULL ? 404 : 200, "GET", CONFIG, "");
    const json_t *data = json_object_get(config, "data");
    const char *text = json_string_value(json_object_get(data, "deviceProfile.json"));
    if (wanted != NULL) {
        assert_string_equal(text, wanted);
    }
    json_decref(config);
}

/* Claim: the file that classic mappers mount has the members of KubeEdge 1.9, in their order, for each protocol.
 * Method: golden text. */
static void test_profile_text(void **state)
{
    (void)state;
    static const char *const all[] = {
        "{\"metadata\":{\"name\":\"d1\"},\"spec\":{\"deviceModelRef\":{\"name\":\"m\"},\"protocol\":{\"modbus\":{"
        "\"slaveID\":1},\"common\":{\"com\":{\"baudRate\":9600}}},\"propertyVisitors\":[{\"propertyName\":\"t\","
        "\"reportCycle\":10,\"collectCycle\":20,\"customizedValues\":{\"a\":1},\"modbus\":{\"offset\":2}}],\"data\":{"
        "\"dataTopic\":\"x\"}},\"status\":{\"twins\":[{\"propertyName\":\"t\",\"desired\":{\"value\":\"25\"}}]}}",
        "{\"metadata\":{\"name\":\"d2\"},\"spec\":{\"deviceModelRef\":{\"name\":\"m\"},\"protocol\":{"
        "\"customizedProtocol\":{\"protocolName\":\"gpio\",\"configData\":{\"pin\":4}}},\"propertyVisitors\":[{"
        "\"propertyName\":\"t\"}]}}",
        "{\"metadata\":{\"name\":\"d3\"},\"spec\":{\"deviceModelRef\":{\"name\":\"none\"}}}",
    };
    json_t *model = parse(
        "{\"metadata\":{\"name\":\"m\"},\"spec\":{\"properties\":[{\"name\":\"t\",\"description\":\"warm\",\"type\":{"
        "\"int\":{\"accessMode\":\"ReadWrite\",\"unit\":\"C\",\"maximum\":9,\"defaultValue\":1}}}]}}");
    struct device_profile profile = {0};
    for (size_t i = 0; i < 3; i++) {
        json_t *device = parse(all[i]);
        device_profile_add(&profile, device, i < 2 ? model : NULL);
        json_decref(device);
    }
    struct text text = {0};
    device_profile_write(&profile, &text);
    assert_string_equal(
        text.data,
        "{\"deviceInstances\":[{\"id\":\"d1\",\"name\":\"d1\",\"protocol\":\"modbus-d1\",\"model\":\"m\",\"twins\":[{"
        "\"propertyName\":\"t\",\"desired\":{\"value\":\"25\"}}],\"data\":{\"dataTopic\":\"x\"},\"propertyVisitors\":[{"
        "\"name\":\"t\",\"propertyName\":\"t\",\"modelName\":\"m\",\"protocol\":\"modbus\",\"reportCycle\":10,"
        "\"collectCycle\":20,\"customizedValues\":{\"a\":1},\"visitorConfig\":{\"offset\":2}}]},{\"id\":\"d2\",\"name\":"
        "\"d2\",\"protocol\":\"customized-protocol-d2\",\"model\":\"m\",\"propertyVisitors\":[{\"name\":\"t\","
        "\"propertyName\":\"t\",\"modelName\":\"m\",\"visitorConfig\":null}]},{\"id\":\"d3\",\"name\":\"d3\",\"model\":"
        "\"none\"}],\"deviceModels\":[{\"name\":\"m\",\"properties\":[{\"name\":\"t\",\"dataType\":\"int\",\"description\":"
        "\"warm\",\"accessMode\":\"ReadWrite\",\"defaultValue\":1,\"maximum\":9,\"unit\":\"C\"}]}],\"protocols\":[{"
        "\"name\":\"modbus-d1\",\"protocol\":\"modbus\",\"protocolConfig\":{\"slaveID\":1},\"protocolCommonConfig\":{"
        "\"com\":{\"baudRate\":9600}}},{\"name\":\"customized-protocol-d2\",\"protocol\":\"customized-protocol\","
        "\"protocolConfig\":{\"protocolName\":\"gpio\",\"configData\":{\"pin\":4}}}]}");
    text_release(&text);
    device_profile_release(&profile);
    json_decref(model);
}

/* Claim: the profile of a node follows its devices and models, in its namespace; it goes with the last one; reports
 * do not touch it; who wrote one of that name himself keeps it. */
static void test_profiles_follow(void **state)
{
    struct rig *rig = *state;
    struct devices *devices = devices_open(backend_fake_backend(rig->fake));
    expect(rig, 201, "POST", "/api/v1/nodes", "{\"metadata\":{\"name\":\"e\"}}");
    expect(rig, 201, "POST", BETA_MODELS,
           object_text("m", "{\"properties\":[{\"name\":\"t\",\"type\":\"INT\"}]}", NULL));
    follow(rig, devices);
    expect_profile(rig, NULL);
    expect(rig, 201, "POST", BETA, TWIN_DEVICE);
    follow(rig, devices);
#define INSTANCE(name, value)                                                                      \
    "{\"id\":\"" name "\",\"name\":\"" name "\",\"model\":\"m\",\"twins\":[{\"propertyName\":\"t\","  \
    "\"desired\":{\"value\":\"" value "\"}}]}"
#define MODEL(type)                                                                                \
    "\"deviceModels\":[{\"name\":\"m\",\"properties\":[{\"name\":\"t\",\"dataType\":\"" type "\"}]}]"
    expect_profile(rig, "{\"deviceInstances\":[" INSTANCE("d", "25") "]," MODEL("int") "}");
    json_t *config = rig_expect(rig, 200, "GET", CONFIG, "");
    char version[32];
    (void)snprintf(version, sizeof version, "%s", json_text_at(config, "metadata.resourceVersion"));
    json_decref(config);

    report(rig, "e", "24");
    patch(rig, BETA "/d", "{\"metadata\":{\"labels\":{\"x\":\"y\"}}}");
    follow(rig, devices);
    config = rig_expect(rig, 200, "GET", CONFIG, "");
    assert_string_equal(json_text_at(config, "metadata.resourceVersion"), version);
    json_decref(config);

    patch(rig, BETA_MODELS "/m", "{\"spec\":{\"properties\":[{\"name\":\"t\",\"type\":\"DOUBLE\"}]}}");
    expect(rig, 201, "POST", BETA,
           "{\"metadata\":{\"name\":\"c\"},\"spec\":{\"deviceModelRef\":{\"name\":\"m\"},\"nodeName\":\"e\","
           "\"properties\":[{\"name\":\"t\",\"desired\":{\"value\":\"1\"}}]}}");
    follow(rig, devices);
    expect_profile(rig, "{\"deviceInstances\":[" INSTANCE("c", "1") "," INSTANCE("d", "25") "]," MODEL("double") "}");
    patch(rig, BETA "/c", "{\"spec\":{\"nodeName\":\"f\"}}");
    follow(rig, devices);
    expect_profile(rig, "{\"deviceInstances\":[" INSTANCE("d", "25") "]," MODEL("double") "}");
    expect(rig, 200, "GET", "/api/v1/namespaces/default/configmaps/device-profile-config-f", "");

    expect(rig, 200, "DELETE", CONFIG, ""); /* it comes again */
    follow(rig, devices);
    expect(rig, 200, "GET", CONFIG, "");
    expect(rig, 200, "DELETE", BETA "/d", "");
    follow(rig, devices);
    expect_profile(rig, NULL);
    devices_close(devices);

    /* what was missed is made up for by a new leader, what is another's is his */
    expect(rig, 200, "DELETE", BETA "/c", "");
    expect(rig, 201, "POST", "/api/v1/namespaces/default/configmaps",
           "{\"metadata\":{\"name\":\"device-profile-config-e\"},\"data\":{\"deviceProfile.json\":\"mine\"}}");
    expect(rig, 201, "POST", BETA, TWIN_DEVICE);
    devices = devices_open(backend_fake_backend(rig->fake));
    follow(rig, devices);
    expect_profile(rig, "mine");
    expect(rig, 404, "GET", "/api/v1/namespaces/default/configmaps/device-profile-config-f", "");
    devices_close(devices);
}

/* Claim: a model that comes or changes gives its devices their types, and no wish is newer for that. */
static void test_types_follow(void **state)
{
    struct rig *rig = *state;
    struct devices *devices = devices_open(backend_fake_backend(rig->fake));
    expect(rig, 201, "POST", BETA, TWIN_DEVICE);
    follow(rig, devices);
    struct wish wish;
    wish_read(rig, &wish);
    assert_string_equal(wish_property(&wish, "t")->type, "string");
    const uint64_t revision = wish_property(&wish, "t")->revision;
    const struct tag tag = wish.put.object.tag;
    wish_release(rig, &wish);

    static const char *const types[][2] = {{"INT", "int"}, {"DOUBLE", "double"}};
    for (size_t i = 0; i < 2; i++) {
        char spec[128];
        (void)snprintf(spec, sizeof spec, "{\"properties\":[{\"name\":\"t\",\"type\":\"%s\"}]}", types[i][0]);
        if (i == 0) {
            expect(rig, 201, "POST", BETA_MODELS, object_text("m", spec, NULL));
        } else {
            char body[160];
            (void)snprintf(body, sizeof body, "{\"spec\":%s}", spec);
            patch(rig, BETA_MODELS "/m", body);
        }
        follow(rig, devices);
        wish_read(rig, &wish);
        assert_string_equal(wish_property(&wish, "t")->type, types[i][1]);
        assert_int_equal(wish_property(&wish, "t")->revision, revision);
        assert_false(tag_equal(wish.put.object.tag, tag)); /* or a digest would not see it */
        wish_release(rig, &wish);
    }
    expect(rig, 200, "DELETE", BETA_MODELS "/m", "");
    follow(rig, devices);
    wish_read(rig, &wish);
    assert_string_equal(wish_property(&wish, "t")->type, "double");
    wish_release(rig, &wish);
    devices_close(devices);
}

/* Claim: a profile that is full is one config map, and says how many devices it leaves out; large ones are written
 * at a bounded rate. */
static void test_a_full_profile(void **state)
{
    struct rig *rig = *state;
    struct text value = {0};
    for (int i = 0; i < 512; i++) {
        text_add(&value, "v");
    }
    const uint32_t count = 40;
    for (uint32_t i = 0; i < count; i++) { /* each about 35 KB */
        struct text body = {0};
        text_print(&body, "{\"metadata\":{\"name\":\"d%02u\"},\"spec\":{\"deviceModelRef\":{\"name\":\"m\"},"
                          "\"nodeName\":\"e\",\"properties\":[", i);
        for (int p = 0; p < 64; p++) {
            text_print(&body, "%s{\"name\":\"p%d\",\"desired\":{\"value\":\"%s\"}}", p == 0 ? "" : ",", p, value.data);
        }
        text_add(&body, "]}}");
        expect(rig, 201, "POST", BETA, body.data);
        text_release(&body);
    }
    text_release(&value);
    struct devices *devices = devices_open(backend_fake_backend(rig->fake));
    settle(rig, devices);
    json_t *config = rig_expect(rig, 200, "GET", CONFIG, "");
    const json_t *data = json_object_get(config, "data");
    const char *text = json_string_value(json_object_get(data, "deviceProfile.json"));
    assert_true(strlen(text) <= LIMIT_DEVICE_PROFILE_BYTES);
    assert_true(strlen(text) > LIMIT_DEVICE_PROFILE_BYTES - 40000);
    json_t *profile = parse(text);
    const size_t in = json_array_size(json_object_get(profile, "deviceInstances"));
    char left[16];
    (void)snprintf(left, sizeof left, "%zu", count - in);
    const json_t *annotations = json_at(config, "metadata.annotations");
    assert_string_equal(json_string_value(json_object_get(annotations, "kelp.io/devices-left-out")), left);
    json_decref(profile);
    char version[32];
    (void)snprintf(version, sizeof version, "%s", json_text_at(config, "metadata.resourceVersion"));
    json_decref(config);

    const int64_t began = backend_fake_now_ms(rig->fake);
    patch(rig, BETA "/d00", "{\"spec\":{\"properties\":null}}");
    int64_t written = 0;
    for (int64_t ms = 0; ms < 60000 && written == 0; ms += 500) {
        backend_fake_set_now_ms(rig->fake, began + ms);
        settle(rig, devices);
        config = rig_expect(rig, 200, "GET", CONFIG, "");
        written = strcmp(json_text_at(config, "metadata.resourceVersion"), version) != 0 ? ms : 0;
        json_decref(config);
    }
    assert_true(written >= 15000);
    assert_true(written < 60000);
    devices_close(devices);
}

/* -- definitions ----------------------------------------------------------------------------------------------- */

#define CRDS "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

/* Claim: definitions are taken, and say whether the kind is served; so an install script goes on, and one that
 * waits for a kind that is not served is told. */
static void test_definitions(void **state)
{
    struct rig *rig = *state;
    static const struct {
        const char *group;
        const char *established;
    } cases[] = {{"devices.kubeedge.io", "True"}, {"example.org", "False"}};
    for (size_t i = 0; i < 2; i++) {
        char body[512];
        (void)snprintf(body, sizeof body,
                       "{\"metadata\":{\"name\":\"devices.%s\"},\"spec\":{\"group\":\"%s\",\"scope\":\"Namespaced\","
                       "\"names\":{\"plural\":\"devices\",\"kind\":\"Device\"},\"versions\":[{\"name\":\"v1beta1\"}]}}",
                       cases[i].group, cases[i].group);
        json_t *object = rig_expect(rig, 201, "POST", CRDS, body);
        const json_t *condition = api_device_entry(json_at(object, "status.conditions"), "type", "Established");
        assert_string_equal(json_text_at(condition, "status"), cases[i].established);
        json_decref(object);
    }
    expect(rig, 422, "POST", CRDS,
           "{\"metadata\":{\"name\":\"x\"},\"spec\":{\"group\":\"g\",\"names\":{\"plural\":\"p\"}}}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_devices_in_both_versions, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(test_one_part_changes, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(test_models_in_both_versions, open_rig, close_rig),
        cmocka_unit_test(test_nothing_is_lost),
        cmocka_unit_test_setup_teardown(test_refusals, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(test_wishes_fit, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(test_bounds, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(test_types, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(test_revisions_grow_with_wishes, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(test_a_note_wishes_again, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(test_status_is_the_edges, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(test_a_lost_node_says_nothing_of_its_devices, open_rig,
                                        close_rig),
        cmocka_unit_test_setup_teardown(test_a_device_status_is_read, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(test_table, open_rig, close_rig),
        cmocka_unit_test(test_profile_text),
        cmocka_unit_test_setup_teardown(test_profiles_follow, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(test_types_follow, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(test_a_full_profile, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(test_definitions, open_rig, close_rig),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
