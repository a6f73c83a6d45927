/* JSON at the API door: reading with bounds, writing as it came, and finding things in it.
 *
 * Members keep the order they were sent in. Integers keep 64 bits. Reals are written with the fewest
 * digits that read back as the same number, so 0.1 stays 0.1 (1.50 becomes 1.5: the spelling is lost).
 *
 * Functions named take_* and set_* follow jansson: "taken" values belong to the container afterwards.
 */
#ifndef KELP_NODES_CLOUD_API_JSON_H
#define KELP_NODES_CLOUD_API_JSON_H

#include "schemas/bytes.h"
#include "schemas/limits.h"

#include <jansson.h>

/* -- growing text -------------------------------------------------------------------------------- */

/* Zero it to start; release it in the end. Out of memory ends the process. */
struct text {
    char *data; /* terminated once something was appended */
    size_t size;
    size_t capacity;
};
void text_append(struct text *text, const void *data, size_t size);
void text_add(struct text *text, const char *string);
void text_print(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
void text_release(struct text *text);
static inline struct bytes text_bytes(const struct text *text)
{
    return bytes_of(text->data, text->size);
}

/* -- documents ----------------------------------------------------------------------------------- */

/* Read one JSON value (UTF-8, no NUL in strings, nested at most LIMIT_JSON_DEPTH).
 *
 *   duplicates  accept repeated members (the last wins)
 *   error       receives a sentence of at most error_bytes when NULL is answered
 *   answers     a new value; NULL: not JSON, too deep, or integers beyond 64 bits
 */
json_t *json_read(struct bytes bytes, bool duplicates, char *error, size_t error_bytes);

/* Append the value, compact. */
void json_write(struct text *text, const json_t *value);

/* -- finding -------------------------------------------------------------------------------------- */

/* The value at a dotted path of members ("metadata.name"); NULL when there is none. */
json_t *json_at(const json_t *value, const char *path);
/* The string at a path; "" when there is none or it is something else. */
const char *json_text_at(const json_t *value, const char *path);
/* The integer at a path, or `otherwise`. */
int64_t json_number_at(const json_t *value, const char *path, int64_t otherwise);
bool json_true_at(const json_t *value, const char *path);
/* The object at a member, made when it is missing or no object. Borrowed. */
json_t *json_child(json_t *object, const char *name);

/* Set a member to a string, or remove it when text is NULL. */
void json_put_text(json_t *object, const char *name, const char *text);
void json_put_number(json_t *object, const char *name, int64_t number);
/* Set a member unless one is there. `value` is taken. */
void json_default(json_t *object, const char *name, json_t *value);

/* A list of at most `max` strings at a path, for comparing and envelopes: the strings that are strings. */
uint32_t json_strings(const json_t *array, const char **out, uint32_t max);

/* -- time ----------------------------------------------------------------------------------------- */

#define TIME_TEXT_BYTES 40
/* "2025-01-31T08:00:00Z", lent: `buffer`. */
const char *time_text(int64_t ms, char buffer[TIME_TEXT_BYTES]);
/* "2025-01-31T08:00:00.123000Z". */
const char *time_text_micro(int64_t ms, char buffer[TIME_TEXT_BYTES]);
/* Parse RFC 3339; -1 when it is none. */
int64_t time_parse(const char *text);
/* "45s", "5m", "3h", "12d", and for 0 or the future "<unknown>", "0s". */
const char *time_age(int64_t since_ms, int64_t now_ms, char buffer[TIME_TEXT_BYTES]);

#endif
