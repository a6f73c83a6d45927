#include "nodes/cloud/api_json.h"

#include "schemas/check.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* -- growing text -------------------------------------------------------------------------------- */

static void text_reserve(struct text *text, size_t more)
{
    if (text->capacity - text->size > more) {
        return;
    }
    size_t capacity = text->capacity == 0 ? 512 : text->capacity;
    while (capacity - text->size <= more) {
        capacity *= 2;
    }
    char *data = realloc(text->data, capacity);
    CHECK(data != NULL);
    text->data = data;
    text->capacity = capacity;
}

void text_append(struct text *text, const void *data, size_t size)
{
    text_reserve(text, size);
    if (size > 0) {
        memcpy(text->data + text->size, data, size);
    }
    text->size += size;
    text->data[text->size] = '\0';
}

void text_add(struct text *text, const char *string)
{
    text_append(text, string, strlen(string));
}

void text_print(struct text *text, const char *format, ...)
{
    CHECK(format != NULL);
    va_list arguments;
    va_start(arguments, format);
    va_list again;
    va_copy(again, arguments);
    const int size = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    CHECK(size >= 0);
    text_reserve(text, (size_t)size);
    (void)vsnprintf(text->data + text->size, (size_t)size + 1, format, again);
    va_end(again);
    text->size += (size_t)size;
}

void text_release(struct text *text)
{
    free(text->data);
    *text = (struct text){0};
}

/* -- documents ----------------------------------------------------------------------------------- */

/* jansson recurses; the depth is counted before it may. */
static bool json_depth_fits(struct bytes bytes)
{
    uint32_t depth = 0;
    bool inside_string = false;
    for (size_t i = 0; i < bytes.size; i++) {
        const uint8_t c = bytes.data[i];
        if (inside_string) {
            if (c == '\\') {
                i++;
            } else if (c == '"') {
                inside_string = false;
            }
        } else if (c == '"') {
            inside_string = true;
        } else if (c == '{' || c == '[') {
            depth++;
            if (depth > LIMIT_JSON_DEPTH) {
                return false;
            }
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return true;
}

json_t *json_read(struct bytes bytes, bool duplicates, char *error, size_t error_bytes)
{
    if (!json_depth_fits(bytes)) {
        (void)snprintf(error, error_bytes, "nested deeper than %u levels", LIMIT_JSON_DEPTH);
        return NULL;
    }
    json_error_t where;
    const size_t flags = JSON_DECODE_ANY | (duplicates ? 0 : JSON_REJECT_DUPLICATES);
    json_t *value = json_loadb(bytes.size == 0 ? "" : (const char *)bytes.data, bytes.size, flags,
                               &where);
    if (value == NULL) {
        (void)snprintf(error, error_bytes, "%s at line %d, column %d", where.text, where.line,
                       where.column);
    }
    return value;
}

static void json_write_string(struct text *text, const char *string, size_t size)
{
    text_append(text, "\"", 1);
    size_t from = 0;
    for (size_t i = 0; i < size; i++) {
        const unsigned char c = (unsigned char)string[i];
        if (c >= 0x20 && c != '"' && c != '\\') {
            continue;
        }
        text_append(text, string + from, i - from);
        from = i + 1;
        switch (c) {
        case '"':
            text_append(text, "\\\"", 2);
            break;
        case '\\':
            text_append(text, "\\\\", 2);
            break;
        case '\n':
            text_append(text, "\\n", 2);
            break;
        case '\r':
            text_append(text, "\\r", 2);
            break;
        case '\t':
            text_append(text, "\\t", 2);
            break;
        default:
            text_print(text, "\\u%04x", c);
            break;
        }
    }
    text_append(text, string + from, size - from);
    text_append(text, "\"", 1);
}

/* The fewest digits that read back the same. */
static void json_write_real(struct text *text, double real)
{
    char buffer[40];
    for (int digits = 15; digits <= 17; digits++) {
        (void)snprintf(buffer, sizeof buffer, "%.*g", digits, real);
        if (strtod(buffer, NULL) == real) {
            break;
        }
    }
    text_add(text, buffer);
    if (strpbrk(buffer, ".eE") == NULL) {
        text_add(text, ".0"); /* a real stays a real when it is read again */
    }
}

void json_write(struct text *text, const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT: {
        const char *separator = "{";
        /* jansson iterates over a const value through a cast of its own making */
        json_t *object = (json_t *)(uintptr_t)value;
        for (void *i = json_object_iter(object); i != NULL; i = json_object_iter_next(object, i)) {
            text_append(text, separator, 1);
            json_write_string(text, json_object_iter_key(i), strlen(json_object_iter_key(i)));
            text_append(text, ":", 1);
            json_write(text, json_object_iter_value(i));
            separator = ",";
        }
        text_add(text, separator[0] == '{' ? "{}" : "}");
        break;
    }
    case JSON_ARRAY: {
        text_append(text, "[", 1);
        for (size_t i = 0; i < json_array_size(value); i++) {
            if (i > 0) {
                text_append(text, ",", 1);
            }
            json_write(text, json_array_get(value, i));
        }
        text_append(text, "]", 1);
        break;
    }
    case JSON_STRING:
        json_write_string(text, json_string_value(value), json_string_length(value));
        break;
    case JSON_INTEGER:
        text_print(text, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        break;
    case JSON_REAL:
        json_write_real(text, json_real_value(value));
        break;
    case JSON_TRUE:
        text_add(text, "true");
        break;
    case JSON_FALSE:
        text_add(text, "false");
        break;
    case JSON_NULL:
        text_add(text, "null");
        break;
    }
}

/* -- finding -------------------------------------------------------------------------------------- */

json_t *json_at(const json_t *value, const char *path)
{
    const json_t *at = value;
    while (at != NULL) {
        const char *dot = strchr(path, '.');
        const size_t size = dot == NULL ? strlen(path) : (size_t)(dot - path);
        char name[128];
        CHECK(size < sizeof name); /* paths are literals of ours */
        memcpy(name, path, size);
        name[size] = '\0';
        at = json_object_get(at, name);
        if (dot == NULL) {
            break;
        }
        path = dot + 1;
    }
    return (json_t *)(uintptr_t)at;
}

const char *json_text_at(const json_t *value, const char *path)
{
    const char *text = json_string_value(json_at(value, path));
    return text == NULL ? "" : text;
}

int64_t json_number_at(const json_t *value, const char *path, int64_t otherwise)
{
    const json_t *at = json_at(value, path);
    return json_is_integer(at) ? json_integer_value(at) : otherwise;
}

bool json_true_at(const json_t *value, const char *path)
{
    return json_is_true(json_at(value, path));
}

json_t *json_child(json_t *object, const char *name)
{
    json_t *child = json_object_get(object, name);
    if (!json_is_object(child)) {
        child = json_object();
        CHECK(json_object_set_new(object, name, child) == 0);
    }
    return child;
}

void json_put_text(json_t *object, const char *name, const char *text)
{
    if (text == NULL) {
        (void)json_object_del(object, name);
        return;
    }
    json_t *string = json_string(text);
    /* what comes from a record is UTF-8 by its own check, from elsewhere it may not be */
    (void)json_object_set_new(object, name, string != NULL ? string : json_string(""));
}

void json_put_number(json_t *object, const char *name, int64_t number)
{
    CHECK(json_object_set_new(object, name, json_integer(number)) == 0);
}

void json_default(json_t *object, const char *name, json_t *value)
{
    const json_t *there = json_object_get(object, name);
    if (there != NULL && !json_is_null(there)) {
        json_decref(value);
        return;
    }
    CHECK(json_object_set_new(object, name, value) == 0);
}

uint32_t json_strings(const json_t *array, const char **out, uint32_t max)
{
    uint32_t count = 0;
    for (size_t i = 0; i < json_array_size(array) && count < max; i++) {
        const char *text = json_string_value(json_array_get(array, i));
        if (text != NULL) {
            out[count] = text;
            count++;
        }
    }
    return count;
}

/* -- time ----------------------------------------------------------------------------------------- */

const char *time_text(int64_t ms, char buffer[TIME_TEXT_BYTES])
{
    const time_t seconds = (time_t)(ms / 1000);
    struct tm parts;
    if (gmtime_r(&seconds, &parts) == NULL || parts.tm_year < -1900 || parts.tm_year > 8099 ||
        strftime(buffer, TIME_TEXT_BYTES, "%Y-%m-%dT%H:%M:%SZ", &parts) == 0) {
        return strcpy(buffer, "1970-01-01T00:00:00Z"); /* a clock of a device gone mad */
    }
    return buffer;
}

const char *time_text_micro(int64_t ms, char buffer[TIME_TEXT_BYTES])
{
    (void)time_text(ms, buffer);
    char *zone = strchr(buffer, 'Z');
    CHECK(zone != NULL);
    const int64_t rest = ms >= 0 ? ms % 1000 : 0;
    (void)snprintf(zone, TIME_TEXT_BYTES - (size_t)(zone - buffer), ".%03d000Z", (int)rest);
    return buffer;
}

int64_t time_parse(const char *text)
{
    struct tm parts = {0};
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &parts);
    if (rest == NULL) {
        return -1;
    }
    int64_t ms = (int64_t)timegm(&parts) * 1000;
    if (*rest == '.') {
        int64_t unit = 100;
        for (rest++; *rest >= '0' && *rest <= '9'; rest++) {
            ms += (*rest - '0') * unit;
            unit /= 10;
        }
    }
    int hours;
    int minutes;
    if (strcmp(rest, "Z") == 0) {
        return ms;
    }
    if ((*rest == '+' || *rest == '-') && sscanf(rest + 1, "%2d:%2d", &hours, &minutes) == 2) {
        const int64_t offset = (hours * 60 + minutes) * (int64_t)60000;
        return *rest == '+' ? ms - offset : ms + offset;
    }
    return -1;
}

const char *time_age(int64_t since_ms, int64_t now_ms, char buffer[TIME_TEXT_BYTES])
{
    if (since_ms <= 0) {
        return strcpy(buffer, "<unknown>");
    }
    const int64_t seconds = now_ms > since_ms ? (now_ms - since_ms) / 1000 : 0;
    if (seconds < 120) {
        (void)snprintf(buffer, TIME_TEXT_BYTES, "%" PRId64 "s", seconds);
    } else if (seconds < 7200) {
        (void)snprintf(buffer, TIME_TEXT_BYTES, "%" PRId64 "m", seconds / 60);
    } else if (seconds < 172800) {
        (void)snprintf(buffer, TIME_TEXT_BYTES, "%" PRId64 "h", seconds / 3600);
    } else {
        (void)snprintf(buffer, TIME_TEXT_BYTES, "%" PRId64 "d", seconds / 86400);
    }
    return buffer;
}
