#include "nodes/logger.h"

#include "schemas/check.h"
#include "schemas/limits.h"

#include <string.h>
#include <time.h>

static struct {
    enum logger_level level;
    enum logger_format format;
    FILE *stream;    /* NULL: stderr */
    int64_t time_ms; /* negative: ask the clock */
} logger = {.level = LOGGER_INFO, .format = LOGGER_TEXT, .stream = NULL, .time_ms = -1};

static const char *const logger_level_names[] = {"debug", "info", "warn", "error"};

/* A line under construction; what does not fit is cut, and the end of the line still comes. */
struct logger_text {
    char data[LIMIT_LOG_LINE_BYTES];
    size_t size;
    bool full; /* something did not fit: what follows it is left out too */
};

#define LOGGER_TAIL_BYTES 8u /* room for the quote, the brace and the line feed */

static void logger_text_add(struct logger_text *text, const char *bytes, size_t size)
{
    const size_t room = text->size > sizeof text->data - LOGGER_TAIL_BYTES
                            ? 0
                            : sizeof text->data - LOGGER_TAIL_BYTES - text->size;
    if (size > room || text->full) {
        text->full = true; /* whole pieces only: half an escape would make the line unreadable */
        return;
    }
    memcpy(text->data + text->size, bytes, size);
    text->size += size;
}

/* The closing pieces, for which room was kept. */
static void logger_text_close(struct logger_text *text, const char *bytes)
{
    const size_t size = strlen(bytes);
    CHECK(text->size + size <= sizeof text->data);
    memcpy(text->data + text->size, bytes, size);
    text->size += size;
}

void logger_set(enum logger_level level, enum logger_format format, FILE *stream)
{
    logger.level = level;
    logger.format = format;
    logger.stream = stream;
}

void logger_set_time_ms(int64_t time_ms)
{
    logger.time_ms = time_ms < 0 ? -1 : time_ms;
}

static int64_t logger_now_ms(void)
{
    if (logger.time_ms >= 0) {
        return logger.time_ms;
    }
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void logger_time_text(char *out, size_t size)
{
    const int64_t now_ms = logger_now_ms();
    const time_t seconds = (time_t)(now_ms / 1000);
    struct tm parts;
    gmtime_r(&seconds, &parts);
    char date[32];
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(out, size, "%s.%03dZ", date, (int)(now_ms % 1000));
}

static bool logger_is_key_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.';
}

/* Size of the key that begins here and is followed by '='; 0: no key. */
static size_t logger_key_size(const char *text)
{
    size_t size = 0;
    while (logger_is_key_byte(text[size])) {
        size++;
    }
    return text[size] == '=' ? size : 0;
}

/* Bytes of the UTF-8 character that begins here; 0: not one. */
static size_t logger_utf8_size(const uint8_t *bytes, size_t size)
{
    const uint8_t first = bytes[0];
    const size_t want = first < 0x80   ? 1
                        : first < 0xc2 ? 0
                        : first < 0xe0 ? 2
                        : first < 0xf0 ? 3
                                       : 4;
    if (want == 0 || first > 0xf4 || want > size) {
        return 0;
    }
    for (size_t i = 1; i < want; i++) {
        if ((bytes[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return want;
}

static void logger_add_escaped(struct logger_text *text, const char *value, size_t size)
{
    for (size_t i = 0; i < size;) {
        const uint8_t byte = (uint8_t)value[i];
        const size_t whole = logger_utf8_size((const uint8_t *)value + i, size - i);
        char escape[8];
        if (whole == 0) {
            logger_text_add(text, "\\ufffd", 6);
        } else if (byte == '"' || byte == '\\') {
            escape[0] = '\\';
            escape[1] = (char)byte;
            logger_text_add(text, escape, 2);
        } else if (byte == '\n') {
            logger_text_add(text, "\\n", 2);
        } else if (byte < 0x20 || byte == 0x7f) {
            snprintf(escape, sizeof escape, "\\u%04x", byte);
            logger_text_add(text, escape, 6);
        } else {
            logger_text_add(text, value + i, whole);
        }
        i += whole == 0 ? 1 : whole;
    }
}

static bool logger_is_plain(const char *value, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        const uint8_t byte = (uint8_t)value[i];
        if (byte <= 0x20 || byte >= 0x7f || byte == '"' || byte == '=' || byte == '\\') {
            return false;
        }
    }
    return size > 0;
}

static void logger_add_pair(struct logger_text *text, const char *key, size_t key_size,
                            const char *value, size_t value_size)
{
    const bool json = logger.format == LOGGER_JSON;
    if (text->full || text->size + key_size + 8 > sizeof text->data - LOGGER_TAIL_BYTES) {
        return; /* no room for a pair that says anything */
    }
    if (json) {
        logger_text_add(text, text->size == 1 ? "\"" : ",\"", text->size == 1 ? 1 : 2);
        logger_text_add(text, key, key_size);
        logger_text_add(text, "\":\"", 3);
        logger_add_escaped(text, value, value_size);
        logger_text_close(text, "\"");
        return;
    }
    if (text->size > 0) {
        logger_text_add(text, " ", 1);
    }
    logger_text_add(text, key, key_size);
    logger_text_add(text, "=", 1);
    if (logger_is_plain(value, value_size)) {
        logger_add_escaped(text, value, value_size);
    } else {
        logger_text_add(text, "\"", 1);
        logger_add_escaped(text, value, value_size);
        logger_text_close(text, "\"");
    }
}

/* Cut the pairs where the header says: before a blank that is followed by a key. */
static void logger_add_pairs(struct logger_text *text, const char *pairs)
{
    const char *at = pairs;
    while (*at == ' ') {
        at++;
    }
    while (*at != '\0') {
        const size_t key_size = logger_key_size(at);
        const char *const key = key_size > 0 ? at : "text";
        const char *const value = key_size > 0 ? at + key_size + 1 : at;
        const bool rest = key_size == 6 && memcmp(key, "reason", 6) == 0;

        const char *end = value;
        while (*end != '\0' && (rest || *end != ' ' || logger_key_size(end + 1) == 0)) {
            end++;
        }
        logger_add_pair(text, key, key_size > 0 ? key_size : 4, value, (size_t)(end - value));
        at = *end == ' ' ? end + 1 : end;
    }
}

static void logger_write(enum logger_level level, const char *event, uint64_t suppressed_count,
                         const char *pairs, va_list arguments)
{
    char formatted[LIMIT_LOG_LINE_BYTES];
    vsnprintf(formatted, sizeof formatted, pairs, arguments);
    char now[48];
    logger_time_text(now, sizeof now);

    struct logger_text text = {.size = 0};
    if (logger.format == LOGGER_JSON) {
        logger_text_add(&text, "{", 1);
    }
    const char *const name = logger_level_names[level];
    logger_add_pair(&text, "time", 4, now, strlen(now));
    logger_add_pair(&text, "level", 5, name, strlen(name));
    logger_add_pair(&text, "event", 5, event, strlen(event));
    if (suppressed_count > 0) {
        char count[24];
        snprintf(count, sizeof count, "%llu", (unsigned long long)suppressed_count);
        logger_add_pair(&text, "suppressed", 10, count, strlen(count));
    }
    logger_add_pairs(&text, formatted);
    logger_text_close(&text, logger.format == LOGGER_JSON ? "}\n" : "\n");

    FILE *const stream = logger.stream == NULL ? stderr : logger.stream;
    fwrite(text.data, 1, text.size,
           stream); /* nobody could be told that the log cannot be written */
    fflush(stream);
}

void logger_line(enum logger_level level, const char *event, const char *pairs, ...)
{
    if (level < logger.level) {
        return;
    }
    va_list arguments;
    va_start(arguments, pairs);
    logger_write(level, event, 0, pairs, arguments);
    va_end(arguments);
}

void logger_line_limited(struct logger_window *window, uint32_t window_ms, enum logger_level level,
                         const char *event, const char *pairs, ...)
{
    if (level < logger.level) {
        return;
    }
    const int64_t now_ms = logger_now_ms();
    /* A clock set back must not silence us for longer than one window. */
    if (now_ms < window->until_ms && window->until_ms - now_ms <= (int64_t)window_ms) {
        window->suppressed_count++;
        return;
    }
    const uint64_t suppressed_count = window->suppressed_count;
    window->until_ms = now_ms + window_ms;
    window->suppressed_count = 0;

    va_list arguments;
    va_start(arguments, pairs);
    logger_write(level, event, suppressed_count, pairs, arguments);
    va_end(arguments);
}
