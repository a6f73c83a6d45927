#include "nodes/edge/bus_json.h"

#include "nodes/edge/bus_topic.h"
#include "schemas/check.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

/* -- text ------------------------------------------------------------------------------------------ */

void bus_text_clear(struct bus_text *text)
{
    text->size = 0;
}

void bus_text_release(struct bus_text *text)
{
    free(text->data);
    *text = (struct bus_text){0};
}

static void text_reserve(struct bus_text *text, size_t size)
{
    if (text->capacity - text->size > size) {
        return;
    }
    text->capacity = 2 * text->capacity + size + 256;
    text->data = realloc(text->data, text->capacity);
    CHECK(text->data != NULL);
}

static void text_append(struct bus_text *text, const char *data, size_t size)
{
    text_reserve(text, size);
    if (size > 0) { /* nothing may have no place */
        memcpy(text->data + text->size, data, size);
    }
    text->size += size;
    text->data[text->size] = '\0';
}

void bus_text_append(struct bus_text *text, struct bytes bytes)
{
    text_append(text, (const char *)bytes.data, bytes.size);
}

static void text_add(struct bus_text *text, const char *string)
{
    text_append(text, string, strlen(string));
}

__attribute__((format(printf, 2, 3))) static void text_print(struct bus_text *text,
                                                             const char *format, ...)
{
    char buffer[128];
    va_list arguments;
    va_start(arguments, format);
    const int size = vsnprintf(buffer, sizeof buffer, format, arguments);
    va_end(arguments);
    CHECK(size >= 0 && (size_t)size < sizeof buffer);
    text_append(text, buffer, (size_t)size);
}

/* The bytes of the UTF-8 character that begins here; 0: none does. */
static size_t utf8_size(const uint8_t *at)
{
    const uint8_t first = at[0];
    if (first < 0x80) {
        return 1;
    }
    const size_t size = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first < 0xc2 || first > 0xf4) {
        return 0;
    }
    for (size_t i = 1; i < size; i++) {
        if ((at[i] & 0xc0) != 0x80) {
            return 0; /* the terminator is none, so nothing behind it is read */
        }
    }
    const bool overlong = (first == 0xe0 && at[1] < 0xa0) || (first == 0xf0 && at[1] < 0x90);
    const bool beyond = (first == 0xed && at[1] > 0x9f) || (first == 0xf4 && at[1] > 0x8f);
    return overlong || beyond ? 0 : size;
}

/* A string as encoding/json writes it, its rules for HTML included. */
static void text_string(struct bus_text *text, const char *string)
{
    const uint8_t *at = (const uint8_t *)string;
    text_add(text, "\"");
    while (*at != '\0') {
        const size_t size = utf8_size(at);
        const char c = (char)*at;
        if (size == 0) {
            text_add(text, "\\ufffd");
            at++;
            continue;
        }
        if (size == 3 && at[0] == 0xe2 && at[1] == 0x80 && (at[2] == 0xa8 || at[2] == 0xa9)) {
            text_print(text, "\\u202%c", at[2] == 0xa8 ? '8' : '9');
        } else if (c == '"' || c == '\\') {
            text_print(text, "\\%c", c);
        } else if (c == '\n' || c == '\r' || c == '\t' || c == '\b' || c == '\f') {
            static const char names[] = "btn\0fr"; /* 8 .. 13 */
            text_print(text, "\\%c", names[c - '\b']);
        } else if (size == 1 && (*at < 0x20 || c == '<' || c == '>' || c == '&')) {
            text_print(text, "\\u%04x", *at);
        } else {
            text_append(text, (const char *)at, size);
        }
        at += size;
    }
    text_add(text, "\"");
}

/* -- reading ----------------------------------------------------------------------------------------- */

/* A member by its name in any case; NULL: absent, or null. */
static const json_t *member(const json_t *object, const char *name)
{
    const json_t *found = json_object_get(object, name);
    void *at = found != NULL ? NULL : json_object_iter((json_t *)(uintptr_t)object);
    for (; at != NULL; at = json_object_iter_next((json_t *)(uintptr_t)object, at)) {
        if (strcasecmp(json_object_iter_key(at), name) == 0) {
            found = json_object_iter_value(at);
        }
    }
    return json_is_null(found) ? NULL : found;
}

/* Each answers whether the member is absent or of its type. */
static bool member_text(const json_t *object, const char *name, const char **out)
{
    const json_t *value = member(object, name);
    *out = json_is_string(value) ? json_string_value(value) : NULL;
    return value == NULL || json_is_string(value);
}

static bool member_integer(const json_t *object, const char *name)
{
    const json_t *value = member(object, name);
    return value == NULL || json_is_integer(value);
}

static bool member_object(const json_t *object, const char *name, const json_t **out)
{
    *out = member(object, name);
    return *out == NULL || json_is_object(*out);
}

/* Read JSON, with U+FFFD for each byte that is no UTF-8: as Go reads it.
 *   answers   given to json_decref; NULL: it is none, *error says why */
static json_t *json_load_text(struct bytes payload, json_error_t *error)
{
    json_t *json = json_loadb((const char *)payload.data, payload.size, JSON_DECODE_ANY, error);
    if (json != NULL || json_error_code(error) != json_error_invalid_utf8) {
        return json;
    }
    struct bus_text said = {0}; /* terminated */
    struct bus_text mended = {0};
    bus_text_append(&said, payload);
    for (size_t at = 0; at < said.size;) {
        const size_t size = utf8_size((const uint8_t *)said.data + at);
        if (size > 0) {
            text_append(&mended, said.data + at, size);
        } else {
            text_add(&mended, "\xef\xbf\xbd");
        }
        at += size > 0 ? size : 1;
    }
    json = json_loadb(mended.data, mended.size, JSON_DECODE_ANY, error);
    bus_text_release(&said);
    bus_text_release(&mended);
    return json;
}

/* Read a JSON object, or null, which is an empty one.
 *   codec     lends *out_why
 *   answers   given to json_decref; NULL: it is none */
static json_t *json_load_body(struct bytes payload, struct codec *codec, const char **out_why)
{
    json_error_t error;
    json_t *json = payload.size > LIMIT_BUS_PAYLOAD_BYTES ? NULL : json_load_text(payload, &error);
    if (payload.size > LIMIT_BUS_PAYLOAD_BYTES) {
        *out_why = "too large";
    } else if (payload.size == 0) {
        *out_why = "unexpected end of JSON input";
    } else if (json == NULL) {
        *out_why = codec_print(codec, "%s near byte %d", error.text, error.position);
    } else if (json_is_null(json)) {
        json_decref(json);
        json = json_object();
    } else if (!json_is_object(json)) {
        *out_why = "not a JSON object";
        json_decref(json);
        json = NULL;
    }
    return json;
}

/* The two members that every body has.
 *   out_id    lent by `codec`
 *   answers   whether they are sound */
static bool json_base(const json_t *body, struct codec *codec, const char **out_id)
{
    const char *id;
    const bool sound = member_text(body, "event_id", &id) && member_integer(body, "timestamp");
    const size_t size = id == NULL ? 0 : strlen(id);
    *out_id = size == 0 ? "" : codec_print(codec, "%s", id);
    return sound && size <= LIMIT_BUS_EVENT_ID_BYTES;
}

/* -- .../twin/update ---------------------------------------------------------------------------------- */

static const char REFUSED_JSON[] = "Unmarshal update request body failed, please check the request";
static const char REFUSED_TWIN[] = "Update twin error, key:twin does not exist";
#define REFUSED_LETTERS                                                                            \
    " of twin must only include upper or lowercase letters, number, english, and special letter "  \
    "- _ . , : / @ # and the length of "
static const char REFUSED_KEY[] = "The key" REFUSED_LETTERS "key should be less than 128 bytes";
static const char REFUSED_VALUE[] =
    "The value" REFUSED_LETTERS "value should be less than 512 bytes";
static const char REFUSED_MANY[] = "the device has too many twins";
static const char REFUSED_TYPE[] = "the value type is not allowed";

static bool letters_fit(const char *text, size_t size_max)
{
    const size_t size = strlen(text);
    return size > 0 && size <= size_max && strspn(text, TWIN_LETTERS) == size;
}

/* {"value", "metadata": {"timestamp"}}.
 *   out       NULL: no value
 *   answers   whether it is of that shape */
static bool twin_value_read(const json_t *twin, const char *name, const char **out)
{
    const json_t *part;
    const json_t *metadata;
    *out = NULL;
    return member_object(twin, name, &part) &&
           (part == NULL ||
            (member_text(part, "value", out) && member_object(part, "metadata", &metadata) &&
             (metadata == NULL || member_integer(metadata, "timestamp"))));
}

/* {"cloud", "edge"}: not used, and still to be one. */
static bool twin_version_fits(const json_t *twin, const char *name)
{
    const json_t *version;
    return member_object(twin, name, &version) &&
           (version == NULL ||
            (member_integer(version, "cloud") && member_integer(version, "edge")));
}

/* One member of "twin".
 *   out       its texts are the JSON's
 *   answers   whether it is of the shape */
static bool twin_change_read(const char *key, const json_t *twin, struct twin_change *out)
{
    *out = (struct twin_change){.key = key, .type = ""};
    if (json_is_null(twin)) {
        out->remove = true;
        return true;
    }
    const json_t *metadata;
    const char *type = NULL;
    if (!json_is_object(twin) || !twin_value_read(twin, "expected", &out->expected) ||
        !twin_value_read(twin, "actual", &out->actual) ||
        !member_object(twin, "metadata", &metadata) ||
        (metadata != NULL && !member_text(metadata, "type", &type)) ||
        !twin_version_fits(twin, "expected_version") ||
        !twin_version_fits(twin, "actual_version")) {
        return false;
    }
    const json_t *optional = member(twin, "optional");
    if (optional != NULL && !json_is_boolean(optional)) {
        return false;
    }
    out->has_expected = out->expected != NULL;
    out->has_actual = out->actual != NULL;
    out->optional = optional == NULL         ? TWIN_OPTIONAL_UNSAID
                    : json_is_true(optional) ? TWIN_OPTIONAL_YES
                                             : TWIN_OPTIONAL_NO;
    out->type = type == NULL ? "" : type;
    return true;
}

static const char *twin_change_refusal(const struct twin_change *change)
{
    if (!letters_fit(change->key, LIMIT_TWIN_KEY_BYTES)) {
        return REFUSED_KEY;
    }
    const char *values[] = {change->expected, change->actual};
    for (size_t i = 0; i < 2; i++) {
        if (values[i] != NULL && values[i][0] != '\0' &&
            !letters_fit(values[i], LIMIT_TWIN_VALUE_BYTES)) {
            return REFUSED_VALUE;
        }
    }
    return strlen(change->type) > LIMIT_TWIN_KEY_BYTES ? REFUSED_TYPE : NULL;
}

static int twin_change_order(const void *a, const void *b)
{
    return strcmp(((const struct twin_change *)a)->key, ((const struct twin_change *)b)->key);
}

/* The texts of an accepted change move to the codec, before the JSON goes. */
static void twin_change_keep(struct twin_change *change, struct codec *codec)
{
    change->key = codec_print(codec, "%s", change->key);
    change->type = codec_print(codec, "%s", change->type);
    change->expected = change->has_expected ? codec_print(codec, "%s", change->expected) : "";
    change->actual = change->has_actual ? codec_print(codec, "%s", change->actual) : "";
}

static const char *twin_update_read(const json_t *body, struct codec *codec,
                                    struct twin_update *out)
{
    const json_t *twins;
    if (!json_base(body, codec, &out->event_id) || !member_object(body, "twin", &twins)) {
        return REFUSED_JSON;
    }
    if (twins == NULL) {
        return REFUSED_TWIN;
    }
    const size_t count = json_object_size(twins);
    if (count > LIMIT_DEVICE_TWINS) {
        return REFUSED_MANY;
    }
    struct twin_change *changes = codec_array(codec, count + 1, sizeof *changes);
    void *at = json_object_iter((json_t *)(uintptr_t)twins);
    for (size_t i = 0; i < count; i++) {
        CHECK(at != NULL);
        if (!twin_change_read(json_object_iter_key(at), json_object_iter_value(at), &changes[i])) {
            return REFUSED_JSON; /* before any key or value is looked at */
        }
        at = json_object_iter_next((json_t *)(uintptr_t)twins, at);
    }
    qsort(changes, count, sizeof *changes, twin_change_order);
    for (size_t i = 0; i < count; i++) {
        const char *refusal = twin_change_refusal(&changes[i]);
        if (refusal != NULL) {
            return refusal;
        }
        twin_change_keep(&changes[i], codec);
    }
    out->changes = changes;
    out->change_count = (uint32_t)count;
    return NULL;
}

const char *bus_json_twin_update(struct bytes payload, struct codec *codec, struct twin_update *out)
{
    const char *why = "";
    *out = (struct twin_update){.event_id = ""};
    json_t *body = json_load_body(payload, codec, &why);
    if (body == NULL) {
        return REFUSED_JSON;
    }
    const char *refusal = twin_update_read(body, codec, out);
    json_decref(body);
    return refusal;
}

/* -- .../state/update, .../get --------------------------------------------------------------------------- */

const char *bus_json_state(struct bytes payload, enum device_topics topics, struct codec *codec)
{
    static const char *const states[] = {"online", "offline", "ok", "unknown"};
    const char *why;
    const char *id;
    const char *said = NULL;
    const char *state = NULL;
    json_t *body = json_load_body(payload, codec, &why);
    if (body != NULL && json_base(body, codec, &id) && member_text(body, "state", &said) &&
        said != NULL) {
        bool known =
            strcasecmp(said, topics == DEVICE_TOPICS_PLAIN ? "disconnected" : "unhealthy") == 0;
        for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) {
            known = known || strcasecmp(said, states[i]) == 0;
        }
        state = known ? codec_print(codec, "%s", said) : NULL;
    }
    json_decref(body);
    return state;
}

const char *bus_json_event_id(struct bytes payload, struct codec *codec, const char **out_why)
{
    const char *id = NULL;
    json_t *body = json_load_body(payload, codec, out_why);
    if (body == NULL) {
        return NULL;
    }
    if (!json_base(body, codec, &id)) {
        *out_why = "event_id is to be a string, timestamp a number";
        id = NULL;
    }
    json_decref(body);
    return id;
}

/* -- writing ------------------------------------------------------------------------------------------- */

const char *bus_json_own_event_id(uint64_t stream, uint64_t position,
                                  char buffer[static BUS_EVENT_ID_BYTES])
{
    uint64_t words[2];
    for (uint32_t i = 0; i < 2; i++) { /* the mixing function of splitmix64, which is a bijection */
        uint64_t word = stream + (2 * position + i) * UINT64_C(0x9e3779b97f4a7c15);
        word = (word ^ (word >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        word = (word ^ (word >> 27)) * UINT64_C(0x94d049bb133111eb);
        words[i] = word ^ (word >> 31);
    }
    snprintf(buffer, BUS_EVENT_ID_BYTES, "%08x-%04x-4%03x-%04x-%012" PRIx64,
             (unsigned)(words[0] >> 32), (unsigned)(words[0] >> 16 & 0xffff),
             (unsigned)(words[0] & 0xfff), (unsigned)(0x8000 | (words[1] >> 48 & 0x3fff)),
             words[1] & UINT64_C(0xffffffffffff));
    return buffer;
}

static void write_base(struct bus_text *text, const char *event_id, int64_t time_ms)
{
    text_add(text, "{\"event_id\":");
    text_string(text, event_id);
    text_print(text, ",\"timestamp\":%" PRId64, time_ms);
}

static void write_value(struct bus_text *text, const char *name, const char *value, int64_t time_ms)
{
    text_print(text, "\"%s\":{\"value\":", name);
    text_string(text, value);
    text_add(text, ",\"metadata\":{");
    if (time_ms != 0) {
        text_print(text, "\"timestamp\":%" PRId64, time_ms);
    }
    text_add(text, "}},");
}

/* A twin, of its values those that `parts` names. */
static void write_twin(struct bus_text *text, const struct twin *twin, uint8_t parts)
{
    text_add(text, "{");
    if (twin->has_expected && (parts & TWIN_PART_EXPECTED) != 0) {
        write_value(text, "expected", twin->expected, twin->expected_ms);
    }
    if (twin->has_actual && (parts & TWIN_PART_ACTUAL) != 0) {
        write_value(text, "actual", twin->actual, twin->actual_ms);
    }
    text_print(text, "\"optional\":%s,\"metadata\":{", twin->optional ? "true" : "false");
    if (twin->type[0] != '\0') {
        text_add(text, "\"type\":");
        text_string(text, twin->type);
    }
    text_add(text, "}}");
}

#define PARTS_ALL (TWIN_PART_EXPECTED | TWIN_PART_ACTUAL)

/* What the request did to a key: the parts it named; all of what is new; null for what is gone. */
static void write_result_twin(struct bus_text *text, const struct published_twin *twin)
{
    if (!twin->has_after) {
        text_add(text, "null");
    } else if (!twin->has_before || twin->parts != 0) {
        write_twin(text, &twin->after, twin->has_before ? twin->parts : PARTS_ALL);
    } else if (twin->before.optional != twin->after.optional) {
        text_print(text, "{\"optional\":%s}", twin->after.optional ? "true" : "false");
    } else {
        text_add(text, "{}");
    }
}

static void write_document_twin(struct bus_text *text, const struct published_twin *twin)
{
    text_add(text, "{\"last\":");
    if (twin->has_before) {
        write_twin(text, &twin->before, PARTS_ALL);
    } else {
        text_add(text, "null");
    }
    text_add(text, ",\"current\":");
    if (twin->has_after) {
        write_twin(text, &twin->after, PARTS_ALL);
    } else {
        text_add(text, "null");
    }
    text_add(text, "}");
}

static const char *published_key(const struct published_twin *twin)
{
    return twin->has_after ? twin->after.key : twin->before.key;
}

static int published_order(const void *a, const void *b)
{
    return strcmp(published_key(*(const struct published_twin *const *)a),
                  published_key(*(const struct published_twin *const *)b));
}

/* "twin":{...}, sorted: a wish promises what it removed before what it changed. */
static void write_twins(struct bus_text *text, const struct publication *publication,
                        void (*write)(struct bus_text *, const struct published_twin *))
{
    const struct published_twin *sorted[LIMIT_DEVICE_TWINS];
    const uint32_t count = publication->twin_count;
    CHECK(count <= LIMIT_DEVICE_TWINS);
    for (uint32_t i = 0; i < count; i++) {
        sorted[i] = &publication->twins[i];
    }
    if (count > 1) {
        qsort(sorted, count, sizeof sorted[0], published_order);
    }
    text_add(text, "\"twin\":{");
    for (uint32_t i = 0; i < count; i++) {
        text_add(text, i > 0 ? "," : "");
        text_string(text, published_key(sorted[i]));
        text_add(text, ":");
        write(text, sorted[i]);
    }
    text_add(text, "}");
}

static void write_whole_twin(struct bus_text *text, const struct published_twin *twin)
{
    if (twin->has_after) {
        write_twin(text, &twin->after, PARTS_ALL);
    } else {
        text_add(text, "null");
    }
}

/* "delta":{...}: what should be otherwise. */
static void write_delta(struct bus_text *text, const struct publication *publication)
{
    bool first = true;
    text_add(text, ",\"delta\":{");
    for (uint32_t i = 0; i < publication->twin_count; i++) {
        const struct twin *twin = &publication->twins[i].after;
        if (!publication->twins[i].has_after ||
            strcmp(twin->expected, twin->has_actual ? twin->actual : "") == 0) {
            continue;
        }
        text_add(text, first ? "" : ",");
        text_string(text, twin->key);
        text_add(text, ":");
        text_string(text, twin->expected);
        first = false;
    }
    text_add(text, "}");
}

/* When a device was last there, as each generation writes it; nothing for never. */
static void write_last_online(struct bus_text *text, const char *name, int64_t time_ms,
                              enum device_topics form)
{
    const time_t seconds = (time_t)(time_ms / 1000);
    struct tm tm;
    char buffer[64];
    if (time_ms <= 0) {
        return;
    }
    if (form == DEVICE_TOPICS_PLAIN) {
        CHECK(localtime_r(&seconds, &tm) != NULL);
        strftime(buffer, sizeof buffer, "%Y-%m-%d %H:%M:%S", &tm);
    } else {
        CHECK(gmtime_r(&seconds, &tm) != NULL);
        strftime(buffer, sizeof buffer, "%Y-%m-%dT%H:%M:%SZ", &tm);
    }
    text_print(text, ",\"%s\":\"%s\"", name, buffer);
}

static void write_optional(struct bus_text *text, const char *name, const char *value)
{
    if (value[0] != '\0') {
        text_print(text, ",\"%s\":", name);
        text_string(text, value);
    }
}

static void write_identity(struct bus_text *text, const char *key, const char *description,
                           enum device_topics form)
{
    text_add(text, "{\"id\":");
    text_string(text, bus_topic_id(key, form));
    write_optional(text, "name", bus_topic_name(key));
    write_optional(text, "description", description);
}

/* A device came or went; since 1.17 without its twins. */
static void write_membership(struct bus_text *text, const struct publication *publication,
                             enum device_topics form)
{
    const bool added = publication->kind == PUBLISH_DEVICE_ADDED;
    text_add(text,
             added ? ",\"added_devices\":[" : ",\"added_devices\":null,\"removed_devices\":[");
    write_identity(text, publication->device, publication->description, form);
    if (added && form == DEVICE_TOPICS_PLAIN && publication->twin_count > 0) {
        text_add(text, ",");
        write_twins(text, publication, write_whole_twin);
    }
    text_add(text, added ? "}],\"removed_devices\":null" : "}]");
}

static void write_state(struct bus_text *text, const struct publication *publication,
                        enum device_topics form)
{
    text_add(text, ",\"device\":{\"name\":");
    text_string(text, bus_topic_name(publication->device));
    write_optional(text, "state", publication->state);
    write_last_online(text, form == DEVICE_TOPICS_PLAIN ? "last_online" : "lastOnlineTime",
                      publication->last_online_ms, form);
    text_add(text, "}");
}

void bus_json_publication(struct bus_text *text, const struct publication *publication,
                          const char *own_id, enum device_topics form)
{
    const bool echoes =
        publication->kind == PUBLISH_TWIN_RESULT || publication->kind == PUBLISH_TWIN_DOCUMENT;
    if (publication->code != 0) {
        bus_json_error(text, publication->event_id, publication->time_ms, publication->code,
                       publication->reason);
        return;
    }
    write_base(text, echoes ? publication->event_id : own_id, publication->time_ms);
    switch ((enum publication_kind)publication->kind) {
    case PUBLISH_TWIN_RESULT:
        text_add(text, ",");
        write_twins(text, publication, write_result_twin);
        break;
    case PUBLISH_TWIN_DOCUMENT:
        text_add(text, ",");
        write_twins(text, publication, write_document_twin);
        break;
    case PUBLISH_TWIN_DELTA:
        text_add(text, ",");
        write_twins(text, publication, write_whole_twin);
        write_delta(text, publication);
        break;
    case PUBLISH_STATE_RESULT:
        write_state(text, publication, form);
        break;
    case PUBLISH_DEVICE_ADDED:
    case PUBLISH_DEVICE_REMOVED:
        write_membership(text, publication, form);
        break;
    }
    text_add(text, "}");
}

void bus_json_twins(struct bus_text *text, const char *event_id, int64_t time_ms,
                    const struct device_status *device)
{
    write_base(text, event_id, time_ms);
    text_add(text, ",\"twin\":{");
    for (uint32_t i = 0; i < device->twin_count; i++) {
        text_add(text, i > 0 ? "," : "");
        text_string(text, device->twins[i].key);
        text_add(text, ":");
        write_twin(text, &device->twins[i], PARTS_ALL);
    }
    text_add(text, "}}");
}

void bus_json_members_begin(struct bus_text *text, const char *event_id, int64_t time_ms)
{
    write_base(text, event_id, time_ms);
    text_add(text, ",\"devices\":[");
}

void bus_json_member(struct bus_text *text, const char *key, const char *description,
                     const struct device_status *device, enum device_topics form, bool first)
{
    text_add(text, first ? "" : ",");
    write_identity(text, key, description, form);
    write_optional(text, "state", device->state);
    write_last_online(text, "last_online", device->last_online_ms, form);
    text_add(text, "}");
}

void bus_json_members_end(struct bus_text *text)
{
    text_add(text, "]}");
}

void bus_json_error(struct bus_text *text, const char *event_id, int64_t time_ms, int code,
                    const char *reason)
{
    write_base(text, event_id, time_ms);
    text_print(text, ",\"code\":%d,\"reason\":", code);
    text_string(text, reason);
    text_add(text, "}");
}
