#include "nodes/edge/source.h"

#include "schemas/check.h"
#include "schemas/status.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

static int source_digit(char c)
{
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+'             ? 62
           : c == '/'             ? 63
                                  : -1;
}

/* Standard base64 with padding; line breaks are skipped, as Go's decoder does. */
static bool source_decode(const char *text, size_t size, struct arena *arena, struct bytes *out)
{
    uint8_t *data = arena_claim(arena, size / 4 * 3 + 3, 1);
    uint32_t bits = 0;
    size_t filled = 0, digits = 0, padding = 0;
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '\n' || text[i] == '\r') {
            continue;
        }
        const int digit = source_digit(text[i]);
        if (text[i] == '=' && digits % 4 >= 2) {
            padding++;
        } else if (digit < 0 || padding > 0) {
            return false;
        }
        bits = bits << 6 | (digit < 0 ? 0 : (uint32_t)digit);
        digits++;
        if (digits % 4 == 0) {
            data[filled++] = (uint8_t)(bits >> 16);
            data[filled++] = (uint8_t)(bits >> 8);
            data[filled++] = (uint8_t)bits;
        }
    }
    if (digits % 4 != 0 || padding > 2) {
        return false;
    }
    *out = bytes_of(data, filled - padding);
    return true;
}

static int source_key_order(const void *a, const void *b)
{
    return strcmp(((const struct source_key *)a)->key, ((const struct source_key *)b)->key);
}

/* Add the members of one map; a later map replaces keys of an earlier one. */
static bool source_take(json_t *map, bool encoded, struct arena *arena, struct source_key *keys,
                        size_t *count, char *error, size_t error_bytes)
{
    const char *key;
    json_t *value;
    json_object_foreach(map, key, value)
    {
        struct bytes content;
        if (!json_is_string(value)) {
            snprintf(error, error_bytes, "data[%s] is not a string", key);
            return false;
        }
        const char *text = json_string_value(value);
        const size_t size = json_string_length(value);
        if (!encoded) {
            content = bytes_of(arena_text_sized(arena, text, size), size);
        } else if (!source_decode(text, size, arena, &content)) {
            snprintf(error, error_bytes, "data[%s] is not base64", key);
            return false;
        }
        size_t place = 0;
        while (place < *count && strcmp(keys[place].key, key) != 0) {
            place++;
        }
        keys[place] = (struct source_key){.key = arena_text(arena, key), .content = content};
        *count += place == *count;
    }
    return true;
}

int source_parse(struct bytes json, bool secret, struct arena *arena, struct source *out,
                 char *error, size_t error_bytes)
{
    json_error_t problem;
    json_t *root = json_loadb((const char *)json.data, json.size, JSON_ALLOW_NUL, &problem);
    int status = STATUS_MALFORMED;
    if (root == NULL || !json_is_object(root)) {
        snprintf(error, error_bytes, "not JSON: %s", root == NULL ? problem.text : "not an object");
        goto out;
    }
    json_t *data = json_object_get(root, "data");
    json_t *more = json_object_get(root, secret ? "stringData" : "binaryData");
    struct source_key *keys =
        arena_claim(arena, json_object_size(data) + json_object_size(more), sizeof *keys);
    size_t count = 0;
    if (!source_take(data, secret, arena, keys, &count, error, error_bytes) ||
        !source_take(more, !secret, arena, keys, &count, error, error_bytes)) {
        goto out;
    }
    if (count > 0) {
        qsort(keys, count, sizeof *keys, source_key_order);
    }
    *out = (struct source){.keys = keys, .count = count};
    status = 0;
out:
    json_decref(root);
    return status;
}

const struct source_key *source_find(const struct source *source, const char *key)
{
    for (size_t i = 0; i < source->count; i++) {
        if (strcmp(source->keys[i].key, key) == 0) {
            return &source->keys[i];
        }
    }
    return NULL;
}
