/* What `kubectl explain` says of custom kinds: their schemas with a sentence for each field. */
#include "nodes/cloud/api_discovery.h"

#include "nodes/cloud/api_schema.h"
#include "schemas/check.h"

/* By name, since a name means the same wherever it is. */
static const struct {
    const char *field;
    const char *text;
} sentences[] = {
    {"apiVersion", "Version of this form of the object."},
    {"kind", "Kind of the object."},
    {"metadata", "Standard metadata of objects."},
    {"spec", "What is wished."},
    {"status",
     "What the edge reports; written by nobody else, but for desired values in v1alpha2."},
    {"deviceModelRef", "The DeviceModel of this device, in the same namespace."},
    {"nodeName",
     "The node whose edge has the device; empty: none yet. Another name moves the device."},
    {"nodeSelector",
     "The node whose edge has the device: the first value of the first expression of "
     "the first term."},
    {"properties", "Properties of the device, each a twin at the edge."},
    {"desired", "The value that the property should have."},
    {"reported", "The value that the device reported last, and when."},
    {"observedDesired", "The wished value as the edge knows it, and since when."},
    {"visitors", "How a mapper reads and writes the property."},
    {"propertyVisitors", "How a mapper reads and writes each property."},
    {"propertyName", "Name of the property."},
    {"propertyNames", "Properties that the method concerns."},
    {"configData", "Whatever the protocol needs, as its mapper reads it."},
    {"protocolName", "Name of the protocol, which selects the mapper."},
    {"protocol", "How the device is reached."},
    {"protocolConfigData", "Whatever the protocol needs of every device of this model."},
    {"collectCycle", "How often the mapper reads the property; 0: as the mapper likes."},
    {"reportCycle", "How often the mapper reports; 0: as the mapper likes."},
    {"reportToCloud", "Whether the mapper reports this to the cloud."},
    {"pushMethod", "Where the mapper pushes values to, beside reporting them."},
    {"methods", "Named groups of properties that can be written."},
    {"stateReport", "Whether and how often the mapper reports how the device is."},
    {"twins", "Desired and reported values of the properties."},
    {"state", "How the device is, as its mapper says: online, offline, ok, unknown, unhealthy. "
              "Unknown, too, while its node does not answer."},
    {"reason", "Why the state is not what the mapper said last."},
    {"message", "The same in words."},
    {"lastOnlineTime", "When the device was online last."},
    {"data", "Time series that the mapper publishes for other applications."},
    {"dataTopic", "MQTT topic that the mapper publishes the time series to."},
    {"accessMode", "ReadWrite or ReadOnly."},
    {"type", "Type of the value."},
    {"minimum", "Smallest value that makes sense."},
    {"maximum", "Largest value that makes sense."},
    {"defaultValue", "Value of a property that nobody wished otherwise."},
    {"unit", "Unit of the value."},
    {"description", "What it is, for people."},
    {"name", "Name, unique in its list."},
    {"value", "The value, as text."},
    {"modbus", "Modbus."},
    {"opcua", "OPC UA."},
    {"bluetooth", "Bluetooth Low Energy."},
    {"customizedProtocol", "Any other protocol."},
    {"common", "What all protocols share: serial port or TCP, time-outs and retries."},
};

static const char *sentence_of(const char *field)
{
    for (size_t i = 0; i < sizeof sentences / sizeof sentences[0]; i++) {
        if (strcmp(sentences[i].field, field) == 0) {
            return sentences[i].text;
        }
    }
    return "";
}

static void put(json_t *object, const char *name, json_t *taken)
{
    CHECK(json_object_set_new(object, name, taken) == 0);
}

static json_t *explain_type(const struct schema_type *type);

static json_t *explain_shape(const struct schema_field *field)
{
    json_t *schema = json_object();
    switch (field->shape) {
    case SHAPE_OBJECT:
        json_decref(schema);
        return explain_type(field->type);
    case SHAPE_NUMBER:
        json_put_text(schema, "type", "integer");
        json_put_text(schema, "format", "int64");
        break;
    case SHAPE_REAL:
        json_put_text(schema, "type", "number");
        break;
    case SHAPE_BOOL:
        json_put_text(schema, "type", "boolean");
        break;
    case SHAPE_ANY:
        json_put_text(schema, "type", "object");
        put(schema, "x-kubernetes-preserve-unknown-fields", json_true());
        break;
    case SHAPE_TIME:
        json_put_text(schema, "type", "string");
        json_put_text(schema, "format", "date-time");
        break;
    case SHAPE_TEXT:
    case SHAPE_QUANTITY:
    case SHAPE_PORT:
    case SHAPE_BASE64:
        json_put_text(schema, "type", "string");
        break;
    }
    return schema;
}

static json_t *explain_field(const struct schema_field *field)
{
    json_t *schema = explain_shape(field);
    if (field->many != MANY_NONE) {
        json_t *many = json_object();
        json_put_text(many, "type", field->many == MANY_LIST ? "array" : "object");
        put(many, field->many == MANY_LIST ? "items" : "additionalProperties", schema);
        schema = many;
    }
    const char *sentence = sentence_of(field->name);
    if (sentence[0] != '\0') {
        json_put_text(schema, "description", sentence);
    }
    return schema;
}

static json_t *explain_type(const struct schema_type *type)
{
    json_t *properties = json_object();
    for (const struct schema_field *field = type->fields; field->name != NULL; field++) {
        put(properties, field->name, explain_field(field));
    }
    json_t *schema = json_object();
    json_put_text(schema, "type", "object");
    put(schema, "properties", properties);
    return schema;
}

json_t *api_explain(const char *group, const char *version)
{
    json_t *schemas = NULL;
    const struct api_resource *r;
    for (size_t i = 0; (r = api_resource_at(i)) != NULL; i++) {
        if (!r->custom || strcmp(r->group, group) != 0 || strcmp(r->version, version) != 0) {
            continue;
        }
        json_t *schema = explain_type(api_schema(r->id));
        json_put_text(schema, "description",
                      strcmp(r->kind, "Device") == 0
                          ? "A device at an edge: what it should be, and what it is."
                      : strcmp(r->kind, "DeviceStatus") == 0
                          ? "What a device at an edge is, as its Device says it, too."
                          : "What devices of one make have in common: their properties.");
        json_t *kind =
            json_pack("{s:s, s:s, s:s}", "group", r->group, "version", r->version, "kind", r->kind);
        put(schema, "x-kubernetes-group-version-kind", json_pack("[o]", kind));
        struct text name = {0};
        text_print(&name, "io.kubeedge.devices.%s.%s", r->version, r->kind);
        schemas = schemas == NULL ? json_object() : schemas;
        put(schemas, name.data, schema);
        text_release(&name);
    }
    return schemas;
}
