#include "nodes/cloud/api_protobuf.h"

#include "schemas/check.h"

#include <stdio.h>
#include <stdlib.h>

/* How a field becomes JSON. The upper half are those that Go writes even when they are empty: then they
 * are left out. */
enum shape {
    TEXT,
    BYTES, /* to base64 */
    NUMBER,
    BOOL,
    TIME,
    MESSAGE,
    MAP_TEXT,  /* repeated {1 key, 2 text} */
    MAP_BYTES, /* repeated {1 key, 2 bytes} */
};

struct field {
    uint32_t number; /* 0 ends a table */
    const char *name;
    enum shape shape;
    bool repeated;
    bool always; /* a non-pointer field of Go: empty means absent */
    const struct field *message;
};

#define END {0, NULL, TEXT, false, false, NULL}

static const struct field owner_reference[] = {
    {1, "kind", TEXT, false, true, NULL},       {3, "name", TEXT, false, true, NULL},
    {4, "uid", TEXT, false, true, NULL},        {5, "apiVersion", TEXT, false, true, NULL},
    {6, "controller", BOOL, false, false, NULL}, {7, "blockOwnerDeletion", BOOL, false, false, NULL},
    END};
static const struct field object_meta[] = {
    {1, "name", TEXT, false, true, NULL},
    {2, "generateName", TEXT, false, true, NULL},
    {3, "namespace", TEXT, false, true, NULL},
    {4, "selfLink", TEXT, false, true, NULL},
    {5, "uid", TEXT, false, true, NULL},
    {6, "resourceVersion", TEXT, false, true, NULL},
    {7, "generation", NUMBER, false, true, NULL},
    {8, "creationTimestamp", TIME, false, true, NULL},
    {9, "deletionTimestamp", TIME, false, false, NULL},
    {10, "deletionGracePeriodSeconds", NUMBER, false, false, NULL},
    {11, "labels", MAP_TEXT, true, false, NULL},
    {12, "annotations", MAP_TEXT, true, false, NULL},
    {13, "ownerReferences", MESSAGE, true, false, owner_reference},
    {14, "finalizers", TEXT, true, false, NULL},
    END};
static const struct field object_reference[] = {
    {1, "kind", TEXT, false, true, NULL},       {2, "namespace", TEXT, false, true, NULL},
    {3, "name", TEXT, false, true, NULL},       {4, "uid", TEXT, false, true, NULL},
    {5, "apiVersion", TEXT, false, true, NULL}, {6, "resourceVersion", TEXT, false, true, NULL},
    {7, "fieldPath", TEXT, false, true, NULL},  END};
static const struct field local_reference[] = {{1, "name", TEXT, false, true, NULL}, END};
static const struct field namespace_spec[] = {{1, "finalizers", TEXT, true, false, NULL}, END};
static const struct field namespace_status[] = {{1, "phase", TEXT, false, true, NULL}, END};
static const struct field namespace_object[] = {
    {1, "metadata", MESSAGE, false, false, object_meta},
    {2, "spec", MESSAGE, false, false, namespace_spec},
    {3, "status", MESSAGE, false, false, namespace_status},
    END};
static const struct field service_account[] = {
    {1, "metadata", MESSAGE, false, false, object_meta},
    {2, "secrets", MESSAGE, true, false, object_reference},
    {3, "imagePullSecrets", MESSAGE, true, false, local_reference},
    {4, "automountServiceAccountToken", BOOL, false, false, NULL},
    END};
static const struct field secret[] = {{1, "metadata", MESSAGE, false, false, object_meta},
                                      {2, "data", MAP_BYTES, true, false, NULL},
                                      {3, "type", TEXT, false, true, NULL},
                                      {4, "stringData", MAP_TEXT, true, false, NULL},
                                      {5, "immutable", BOOL, false, false, NULL},
                                      END};
static const struct field config_map[] = {{1, "metadata", MESSAGE, false, false, object_meta},
                                          {2, "data", MAP_TEXT, true, false, NULL},
                                          {3, "binaryData", MAP_BYTES, true, false, NULL},
                                          {4, "immutable", BOOL, false, false, NULL},
                                          END};
static const struct field preconditions[] = {{1, "uid", TEXT, false, false, NULL},
                                             {2, "resourceVersion", TEXT, false, false, NULL},
                                             END};
static const struct field delete_options[] = {
    {1, "gracePeriodSeconds", NUMBER, false, false, NULL},
    {2, "preconditions", MESSAGE, false, false, preconditions},
    {4, "propagationPolicy", TEXT, false, false, NULL},
    {5, "dryRun", TEXT, true, false, NULL},
    END};
static const struct field type_meta[] = {{1, "apiVersion", TEXT, false, true, NULL},
                                         {2, "kind", TEXT, false, true, NULL},
                                         END};
static const struct field time_message[] = {{1, "seconds", NUMBER, false, true, NULL},
                                            {2, "nanos", NUMBER, false, true, NULL},
                                            END};

static const struct {
    const char *kind;
    const struct field *fields;
} kinds[] = {
    {"Namespace", namespace_object}, {"ServiceAccount", service_account}, {"Secret", secret},
    {"ConfigMap", config_map},       {"DeleteOptions", delete_options},
};

/* -- the wire format ---------------------------------------------------------------------------------- */

struct reader {
    struct bytes rest;
    bool broken;
};

static uint64_t read_varint(struct reader *reader)
{
    uint64_t value = 0;
    for (uint32_t shift = 0; shift < 64; shift += 7) {
        if (reader->rest.size == 0) {
            break;
        }
        const uint8_t byte = reader->rest.data[0];
        reader->rest = bytes_of(reader->rest.data + 1, reader->rest.size - 1);
        value |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0) {
            return value;
        }
    }
    reader->broken = true;
    return 0;
}

static struct bytes read_sized(struct reader *reader, uint64_t size)
{
    if (size > reader->rest.size) {
        reader->broken = true;
        return bytes_of(NULL, 0);
    }
    const struct bytes part = bytes_of(reader->rest.data, (size_t)size);
    reader->rest = bytes_of(reader->rest.data + size, reader->rest.size - (size_t)size);
    return part;
}

struct wire_value {
    uint32_t number;
    uint32_t type; /* 0 varint, 2 bytes; others are skipped */
    uint64_t integer;
    struct bytes bytes;
};

/* The next field; false at the end, or when broken. */
static bool read_field(struct reader *reader, struct wire_value *out)
{
    if (reader->rest.size == 0 || reader->broken) {
        return false;
    }
    const uint64_t tag = read_varint(reader);
    if (tag >> 3 == 0 || tag >> 3 > 536870911u) {
        reader->broken = true;
    }
    *out = (struct wire_value){.number = (uint32_t)(tag >> 3), .type = (uint32_t)(tag & 7)};
    switch (out->type) {
    case 0:
        out->integer = read_varint(reader);
        break;
    case 1:
        (void)read_sized(reader, 8);
        break;
    case 2:
        out->bytes = read_sized(reader, read_varint(reader));
        break;
    case 5:
        (void)read_sized(reader, 4);
        break;
    default:
        reader->broken = true;
        break;
    }
    return !reader->broken;
}

/* -- into JSON ------------------------------------------------------------------------------------------ */

static json_t *base64_json(struct bytes bytes)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    struct text out = {0};
    text_append(&out, "", 0);
    for (size_t i = 0; i < bytes.size; i += 3) {
        const size_t left = bytes.size - i;
        const uint32_t group = (uint32_t)bytes.data[i] << 16 |
                               (left > 1 ? (uint32_t)bytes.data[i + 1] << 8 : 0) |
                               (left > 2 ? bytes.data[i + 2] : 0);
        const char quad[4] = {alphabet[group >> 18], alphabet[group >> 12 & 63],
                              left > 1 ? alphabet[group >> 6 & 63] : '=',
                              left > 2 ? alphabet[group & 63] : '='};
        text_append(&out, quad, sizeof quad);
    }
    json_t *value = json_stringn(out.data, out.size);
    text_release(&out);
    return value;
}

/* NULL: not UTF-8, or with a NUL. */
static json_t *text_json(struct bytes bytes)
{
    if (bytes.size > 0 && memchr(bytes.data, '\0', bytes.size) != NULL) {
        return NULL;
    }
    return json_stringn(bytes.size == 0 ? "" : (const char *)bytes.data, bytes.size);
}

static bool decode(struct bytes bytes, const struct field *fields, json_t *out);

static bool decode_entry(struct bytes bytes, bool binary, json_t *map)
{
    struct reader reader = {.rest = bytes};
    struct wire_value value;
    struct bytes key = {0};
    struct bytes content = {0};
    while (read_field(&reader, &value)) {
        if (value.type == 2 && value.number == 1) {
            key = value.bytes;
        } else if (value.type == 2 && value.number == 2) {
            content = value.bytes;
        }
    }
    json_t *name = text_json(key);
    json_t *member = binary ? base64_json(content) : text_json(content);
    const bool fine = !reader.broken && name != NULL && member != NULL &&
                      json_object_set(map, json_string_value(name), member) == 0;
    json_decref(name);
    json_decref(member);
    return fine;
}

static json_t *decode_time(struct bytes bytes)
{
    json_t *parts = json_object();
    json_t *value = NULL;
    if (decode(bytes, time_message, parts)) {
        const int64_t seconds = json_number_at(parts, "seconds", 0);
        char text[TIME_TEXT_BYTES];
        /* the zero time of Go, and what no clock of ours can say, is no time */
        value = seconds <= 0 || seconds > (int64_t)253402300799
                    ? json_null()
                    : json_string(time_text(seconds * 1000, text));
    }
    json_decref(parts);
    return value;
}

/* The value of one field; NULL: broken. *out_empty: it is what Go writes for nothing. */
static json_t *decode_value(const struct field *field, const struct wire_value *value,
                            bool *out_empty)
{
    *out_empty = false;
    switch (field->shape) {
    case TEXT:
        *out_empty = value->bytes.size == 0;
        return value->type == 2 ? text_json(value->bytes) : NULL;
    case BYTES:
        return value->type == 2 ? base64_json(value->bytes) : NULL;
    case NUMBER:
        *out_empty = value->integer == 0;
        return value->type == 0 ? json_integer((json_int_t)value->integer) : NULL;
    case BOOL:
        *out_empty = value->integer == 0;
        return value->type == 0 ? json_boolean(value->integer != 0) : NULL;
    case TIME: {
        json_t *time = value->type == 2 ? decode_time(value->bytes) : NULL;
        *out_empty = json_is_null(time);
        return time;
    }
    case MESSAGE: {
        json_t *message = json_object();
        if (value->type != 2 || !decode(value->bytes, field->message, message)) {
            json_decref(message);
            return NULL;
        }
        return message;
    }
    case MAP_TEXT:
    case MAP_BYTES:
        break; /* not values */
    }
    return NULL;
}

/* Tables nest only as deep as they are written above, so this recursion is bounded. */
static bool decode(struct bytes bytes, const struct field *fields, json_t *out)
{
    struct reader reader = {.rest = bytes};
    struct wire_value value;
    while (read_field(&reader, &value)) {
        const struct field *field = fields;
        while (field->number != 0 && field->number != value.number) {
            field++;
        }
        if (field->number == 0) {
            continue; /* a newer client's */
        }
        if (field->shape == MAP_TEXT || field->shape == MAP_BYTES) {
            if (value.type != 2 || !decode_entry(value.bytes, field->shape == MAP_BYTES,
                                                 json_child(out, field->name))) {
                return false;
            }
            continue;
        }
        bool empty;
        json_t *decoded = decode_value(field, &value, &empty);
        if (decoded == NULL) {
            return false;
        }
        if (field->repeated) {
            json_t *list = json_object_get(out, field->name);
            if (list == NULL) {
                list = json_array();
                CHECK(json_object_set_new(out, field->name, list) == 0);
            }
            CHECK(json_array_append_new(list, decoded) == 0);
        } else if (field->always && empty) {
            json_decref(decoded);
        } else {
            CHECK(json_object_set_new(out, field->name, decoded) == 0);
        }
    }
    return !reader.broken;
}

json_t *api_protobuf_read(struct bytes bytes, char *why, size_t why_bytes)
{
    static const uint8_t magic[4] = {'k', '8', 's', 0};
    if (!bytes_start_with(bytes, bytes_of(magic, sizeof magic))) {
        (void)snprintf(why, why_bytes, "it does not begin with the magic bytes");
        return NULL;
    }
    struct reader reader = {.rest = bytes_of(bytes.data + 4, bytes.size - 4)};
    struct wire_value value;
    struct bytes raw = {0};
    json_t *object = json_object();
    bool fine = true;
    while (read_field(&reader, &value)) {
        if (value.type == 2 && value.number == 1) {
            fine = fine && decode(value.bytes, type_meta, object);
        } else if (value.type == 2 && value.number == 2) {
            raw = value.bytes;
        }
    }
    fine = fine && !reader.broken;
    const char *kind = json_text_at(object, "kind");
    const struct field *fields = NULL;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strcmp(kinds[i].kind, kind) == 0) {
            fields = kinds[i].fields;
        }
    }
    if (!fine) {
        (void)snprintf(why, why_bytes, "the envelope is malformed");
    } else if (fields == NULL) {
        (void)snprintf(why, why_bytes, "objects of kind \"%.60s\" are accepted as JSON only", kind);
    } else if (!decode(raw, fields, object)) {
        (void)snprintf(why, why_bytes, "the %.60s inside is malformed", kind);
    } else {
        return object;
    }
    json_decref(object);
    return NULL;
}
