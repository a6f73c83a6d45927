#include "nodes/cli/log_out.h"

#include "schemas/check.h"
#include "schemas/limits.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define OUT_BYTES (256u * 1024u)

void out_init(struct out *out, int fd)
{
    *out = (struct out){.fd = fd, .time_s = INT64_MIN};
}

void out_deinit(struct out *out)
{
    free(out->data);
    *out = (struct out){.fd = -1};
}

void out_flush(struct out *out)
{
    CHECK(out->fd >= 0);
    size_t done = 0;
    while (done < out->size && out->status == 0) {
        const ssize_t wrote = write(out->fd, out->data + done, out->size - done);
        if (wrote >= 0) {
            done += (size_t)wrote;
        } else if (errno != EINTR) {
            out->status = -errno;
        }
    }
    out->size = 0;
}

struct bytes out_bytes(const struct out *out)
{
    return bytes_of(out->data, out->size);
}

void out_clear(struct out *out)
{
    out->size = 0;
}

uint8_t *out_room_made(struct out *out, size_t size)
{
    if (out->fd >= 0 && out->size + size > OUT_BYTES) {
        out_flush(out);
    }
    if (out->size + size > out->capacity) {
        size_t capacity = out->capacity == 0 ? OUT_BYTES : out->capacity;
        while (capacity < out->size + size) {
            capacity *= 2;
        }
        out->data = realloc(out->data, capacity);
        CHECK(out->data != NULL);
        out->capacity = capacity;
        out->size_easy = out->fd >= 0 ? OUT_BYTES : capacity;
    }
    return out->data + out->size;
}

/* Digits of a number, most significant first, so that the last stands before `end`; answers the first.
 * Two at a time: a division costs more than a look into a table. */
static char *digits_put(uint64_t number, char *end)
{
    static const char pairs[] = "00010203040506070809101112131415161718192021222324"
                                "25262728293031323334353637383940414243444546474849"
                                "50515253545556575859606162636465666768697071727374"
                                "75767778798081828384858687888990919293949596979899";
    while (number >= 100) {
        end -= 2;
        memcpy(end, pairs + 2 * (number % 100), 2);
        number /= 100;
    }
    if (number >= 10) {
        end -= 2;
        memcpy(end, pairs + 2 * number, 2);
        return end;
    }
    end--;
    *end = (char)('0' + number);
    return end;
}

void out_u64(struct out *out, uint64_t number)
{
    char digits[20];
    char *end = digits + sizeof digits;
    const char *first = digits_put(number, end);
    out_put(out, first, (size_t)(end - first));
}

void out_i64(struct out *out, int64_t number)
{
    if (number < 0) {
        out_character(out, '-');
    }
    out_u64(out, number < 0 ? 0 - (uint64_t)number : (uint64_t)number);
}

void out_u64_wide(struct out *out, uint64_t number, size_t width)
{
    char digits[20];
    char *end = digits + sizeof digits;
    const char *first = digits_put(number, end);
    const size_t count = (size_t)(end - first);
    out_pad(out, count < width ? width - count : 0);
    out_put(out, first, count);
}

void out_hex64(struct out *out, uint64_t number)
{
    static const char hex[] = "0123456789abcdef";
    uint8_t *place = out_room(out, 16);
    for (int i = 15; i >= 0; i--, number >>= 4) {
        place[i] = (uint8_t)hex[number & 15];
    }
    out->size += 16;
}

void out_print(struct out *out, const char *format, ...)
{
    CHECK(format != NULL);
    va_list arguments;
    va_start(arguments, format);
    va_list again;
    va_copy(again, arguments);
    const int size = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    CHECK(size >= 0);
    vsnprintf((char *)out_room(out, (size_t)size + 1), (size_t)size + 1, format, again);
    va_end(again);
    out->size += (size_t)size;
}

/* Bytes by words of eight, for text that is almost always plain. */
#define ONES UINT64_C(0x0101010101010101)
#define TOPS (0x80 * ONES)

/* Whether all eight are printable ASCII. Exact as a whole: the lowest byte that is not has its top bit, or
 * gets it when a blank is taken off (a control character) or one is added (0x7f). */
static bool word_is_plain(uint64_t word)
{
    return ((word | (word - 0x20 * ONES) | (word + ONES)) & TOPS) == 0;
}

static bool word_has(uint64_t word, char c)
{
    const uint64_t other = word ^ ((uint8_t)c * ONES);
    return ((other - ONES) & ~other & TOPS) != 0;
}

/* How many of the first bytes stand in a JSON string as they are: printable ASCII but '"' and '\\'. */
static size_t json_plain_count(const uint8_t *text, size_t size)
{
    size_t i = 0;
    for (; i + 8 <= size; i += 8) {
        uint64_t word;
        memcpy(&word, text + i, sizeof word);
        if (!word_is_plain(word) || word_has(word, '"') || word_has(word, '\\')) {
            break;
        }
    }
    while (i < size && text[i] >= 0x20 && text[i] < 0x7f && text[i] != '"' && text[i] != '\\') {
        i++;
    }
    return i;
}

/* How many of the first bytes are printable ASCII. */
static size_t plain_count(const uint8_t *text, size_t size)
{
    size_t i = 0;
    for (; i + 8 <= size; i += 8) {
        uint64_t word;
        memcpy(&word, text + i, sizeof word);
        if (!word_is_plain(word)) {
            break;
        }
    }
    while (i < size && text[i] >= 0x20 && text[i] < 0x7f) {
        i++;
    }
    return i;
}

void out_plain(struct out *out, const char *text, size_t width)
{
    const size_t size = strlen(text);
    uint8_t *place = out_room(out, size);
    memcpy(place, text, size);
    size_t columns = plain_count(place, size);
    for (size_t i = columns; i < size; i++) {
        const uint8_t c = (uint8_t)text[i];
        place[i] = c < 0x20 || c == 0x7f ? '?' : c;
        if (c == 0xc2 && i + 1 < size && (text[i + 1] & 0xe0) == 0x80) { /* C1, as UTF-8 */
            place[i] = '?';
            place[i + 1] = '?';
            columns++;
            i++;
        }
        columns += (c & 0xc0) != 0x80; /* not a further byte of one character */
    }
    out->size += size;
    out_pad(out, columns < width ? width - columns : 0);
}

#define TIME_MS_AT 20u /* in "2025-11-20T12:00:00.000Z" */

size_t out_time(struct out *out, int64_t time_ms)
{
    const int64_t seconds = time_ms / 1000;
    if (time_ms <= 0 || seconds >= INT64_C(253402300800)) {
        out_character(out, '-');
        return 1;
    }
    if (seconds != out->time_s) {
        const time_t when = (time_t)seconds;
        struct tm parts;
        CHECK((out->local ? localtime_r(&when, &parts) : gmtime_r(&when, &parts)) != NULL);
        out->time_size =
            strftime(out->time_text, sizeof out->time_text,
                     out->local ? "%Y-%m-%dT%H:%M:%S.000%z" : "%Y-%m-%dT%H:%M:%S.000Z", &parts);
        CHECK(out->time_size > TIME_MS_AT + 3);
        out->time_s = seconds;
    }
    const unsigned fraction = (unsigned)(time_ms % 1000);
    out->time_text[TIME_MS_AT] = (char)('0' + fraction / 100);
    out->time_text[TIME_MS_AT + 1] = (char)('0' + fraction / 10 % 10);
    out->time_text[TIME_MS_AT + 2] = (char)('0' + fraction % 10);
    out_put(out, out->time_text, out->time_size);
    return out->time_size;
}

/* -- JSON ------------------------------------------------------------------------------------- */

/* Bytes of the UTF-8 character that begins here; 0: there is none. */
static size_t utf8_size(const uint8_t *p, size_t left)
{
    if (p[0] < 0x80) {
        return 1;
    }
    const size_t size = p[0] >= 0xf0 && p[0] <= 0xf4   ? 4
                        : p[0] >= 0xe0                 ? 3
                        : p[0] >= 0xc2 && p[0] <= 0xdf ? 2
                                                       : 0;
    if (size == 0 || p[0] > 0xf4 || size > left) {
        return 0;
    }
    for (size_t i = 1; i < size; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    const bool overlong = (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xf0 && p[1] < 0x90);
    const bool surrogate = p[0] == 0xed && p[1] >= 0xa0;
    const bool beyond = p[0] == 0xf4 && p[1] >= 0x90;
    return overlong || surrogate || beyond ? 0 : size;
}

/* A control character, by its number. */
static void json_escape(struct out *out, uint8_t c)
{
    static const char hex[] = "0123456789abcdef";
    const char escaped[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
    out_put(out, escaped, sizeof escaped);
}

void out_json_bytes(struct out *out, struct bytes text)
{
    out_character(out, '"');
    size_t i = 0;
    while (i < text.size) {
        const size_t plain = i + json_plain_count(text.data + i, text.size - i);
        out_put(out, text.data + i, plain - i);
        i = plain;
        if (i == text.size) {
            break;
        }
        const uint8_t c = text.data[i];
        const size_t size = utf8_size(text.data + i, text.size - i);
        if (c == '"' || c == '\\') {
            out_character(out, '\\');
            out_character(out, (char)c);
        } else if (c < 0x20 || c == 0x7f) {
            json_escape(out, c);
        } else if (c == 0xc2 && size == 2 && text.data[i + 1] < 0xa0) {
            json_escape(out, text.data[i + 1]); /* C1: a terminal may take it for ESC [ */
        } else if (size == 0) {
            out_text(out, "\\ufffd");
        } else {
            out_put(out, text.data + i, size);
        }
        i += size == 0 ? 1 : size;
    }
    out_character(out, '"');
}

void out_json_text(struct out *out, const char *text)
{
    out_json_bytes(out, bytes_text(text));
}

/* A reader of JSON that copies what it accepts. */
struct json {
    struct out *out;
    const uint8_t *at;
    const uint8_t *end;
    unsigned depth;
};

static void json_blanks(struct json *json)
{
    while (json->at < json->end &&
           (*json->at == ' ' || *json->at == '\n' || *json->at == '\t' || *json->at == '\r')) {
        json->at++;
    }
}

static bool json_string(struct json *json)
{
    const uint8_t *start = json->at;
    json->at++;
    for (;;) {
        json->at += json_plain_count(json->at, (size_t)(json->end - json->at));
        if (json->at == json->end || *json->at == '"') {
            break;
        }
        if (*json->at < 0x20) {
            return false;
        }
        if (*json->at == '\\') {
            static const char simple[] = "\"\\/bfnrt";
            json->at++;
            if (json->at == json->end) {
                return false;
            }
            if (*json->at == 'u') {
                for (int i = 1; i <= 4; i++) {
                    if (json->end - json->at <= i ||
                        strchr("0123456789abcdefABCDEF", json->at[i]) == NULL || json->at[i] == 0) {
                        return false;
                    }
                }
                json->at += 4;
            } else if (*json->at == 0 || strchr(simple, *json->at) == NULL) {
                return false;
            }
            json->at++;
            continue;
        }
        const size_t size = utf8_size(json->at, (size_t)(json->end - json->at));
        if (size == 0) {
            return false;
        }
        if (*json->at == 0x7f || (*json->at == 0xc2 && json->at[1] < 0xa0)) {
            out_put(json->out, start, (size_t)(json->at - start));
            json_escape(json->out, json->at[size - 1]);
            start = json->at + size;
        }
        json->at += size;
    }
    if (json->at == json->end) {
        return false;
    }
    json->at++;
    out_put(json->out, start, (size_t)(json->at - start));
    return true;
}

static bool json_digits(struct json *json)
{
    const uint8_t *start = json->at;
    while (json->at < json->end && *json->at >= '0' && *json->at <= '9') {
        json->at++;
    }
    return json->at > start;
}

static bool json_number(struct json *json)
{
    const uint8_t *start = json->at;
    json->at += *json->at == '-';
    const uint8_t *whole = json->at;
    if (!json_digits(json) || (*whole == '0' && json->at - whole > 1)) {
        return false;
    }
    if (json->at < json->end && *json->at == '.') {
        json->at++;
        if (!json_digits(json)) {
            return false;
        }
    }
    if (json->at < json->end && (*json->at == 'e' || *json->at == 'E')) {
        json->at++;
        json->at += json->at < json->end && (*json->at == '+' || *json->at == '-');
        if (!json_digits(json)) {
            return false;
        }
    }
    out_put(json->out, start, (size_t)(json->at - start));
    return true;
}

static bool json_word(struct json *json, const char *word)
{
    const size_t size = strlen(word);
    if ((size_t)(json->end - json->at) < size || memcmp(json->at, word, size) != 0) {
        return false;
    }
    json->at += size;
    out_put(json->out, word, size);
    return true;
}

static bool json_value(struct json *json);

/* An object or an array; json->at is on its bracket. */
static bool json_members(struct json *json, bool object)
{
    const char close = object ? '}' : ']';
    out_character(json->out, object ? '{' : '[');
    json->at++;
    json_blanks(json);
    bool more = json->at < json->end && *json->at != close;
    while (more) {
        json_blanks(json);
        if (object) {
            if (json->at == json->end || *json->at != '"' || !json_string(json)) {
                return false;
            }
            json_blanks(json);
            if (json->at == json->end || *json->at != ':') {
                return false;
            }
            json->at++;
            out_character(json->out, ':');
        }
        if (!json_value(json)) {
            return false;
        }
        json_blanks(json);
        more = json->at < json->end && *json->at == ',';
        if (more) {
            json->at++;
            out_character(json->out, ',');
        }
    }
    if (json->at == json->end || *json->at != close) {
        return false;
    }
    json->at++;
    out_character(json->out, close);
    return true;
}

static bool json_value(struct json *json)
{
    json_blanks(json);
    if (json->at == json->end || json->depth == LIMIT_JSON_DEPTH) {
        return false;
    }
    switch (*json->at) {
    case '{':
    case '[':
        json->depth++;
        if (!json_members(json, *json->at == '{')) {
            return false;
        }
        json->depth--;
        return true;
    case '"':
        return json_string(json);
    case 't':
        return json_word(json, "true");
    case 'f':
        return json_word(json, "false");
    case 'n':
        return json_word(json, "null");
    default:
        return (*json->at == '-' || (*json->at >= '0' && *json->at <= '9')) && json_number(json);
    }
}

bool out_json_document(struct out *out, struct bytes document)
{
    CHECK(out->fd < 0); /* only from memory can it be taken back */
    const size_t before = out->size;
    struct json json = {.out = out, .at = document.data, .end = document.data + document.size};
    bool valid = document.size > 0 && json_value(&json);
    if (valid) {
        json_blanks(&json);
        valid = json.at == json.end;
    }
    if (!valid) {
        out->size = before;
    }
    return valid;
}

static void pretty_line(struct out *out, size_t columns)
{
    out_character(out, '\n');
    out_pad(out, columns);
}

void out_json_pretty(struct out *out, struct bytes document, size_t indent)
{
    size_t depth = 0;
    for (size_t i = 0; i < document.size; i++) {
        const char c = (char)document.data[i];
        const bool empty = i + 1 < document.size && (c == '{' || c == '[') &&
                           (document.data[i + 1] == '}' || document.data[i + 1] == ']');
        if (c == '"') {
            const size_t start = i;
            for (i++; document.data[i] != '"'; i++) {
                i += document.data[i] == '\\';
            }
            out_put(out, document.data + start, i + 1 - start);
        } else if (empty) {
            out_put(out, document.data + i, 2);
            i++;
        } else if (c == '{' || c == '[') {
            depth++;
            out_character(out, c);
            pretty_line(out, indent + 2 * depth);
        } else if (c == '}' || c == ']') {
            depth--;
            pretty_line(out, indent + 2 * depth);
            out_character(out, c);
        } else if (c == ',') {
            out_character(out, c);
            pretty_line(out, indent + 2 * depth);
        } else if (c == ':') {
            out_text(out, ": ");
        } else {
            out_character(out, c);
        }
    }
}

void out_colour(struct out *out, enum colour colour)
{
    static const char *const codes[] = {
        [COLOUR_NONE] = "\x1b[0m", [COLOUR_HEAD] = "\x1b[1m",  [COLOUR_KIND] = "\x1b[36m",
        [COLOUR_BAD] = "\x1b[31m", [COLOUR_GOOD] = "\x1b[32m",
    };
    if (out->colour) {
        out_text(out, codes[colour]);
    }
}
