/* What `kelp log` prints: bytes put together in one buffer and written in large pieces.
 *
 * A record is formatted without printf, since a log is millions of them. Once writing failed nothing
 * is written any more: `status` says why, and commands end when they see it. A reader that closed
 * its end (-EPIPE) is no failure: `head` had enough.
 *
 * Text of users is never trusted: plain text loses its control characters, JSON text is always valid
 * UTF-8 and valid JSON.
 */
#ifndef KELP_NODES_CLI_LOG_OUT_H
#define KELP_NODES_CLI_LOG_OUT_H

#include "schemas/bytes.h"

#include <string.h>

struct out {
    int fd;        /* -1: memory only, out_bytes has it */
    int status;    /* 0, or the -errno that ended it */
    bool terminal; /* somebody is looking */
    bool colour;
    bool local;    /* times in the zone of this machine */
    uint8_t *data; /* ours */
    size_t size;
    size_t size_easy; /* up to here bytes are put without a flush and without more memory */
    size_t capacity;
    int64_t time_s; /* of time_text: most records share their second with the one before */
    size_t time_size;
    char time_text[32]; /* milliseconds are written over */
};

void out_init(struct out *out, int fd);
/* Frees; what was not flushed is dropped. */
void out_deinit(struct out *out);
/* Write all that waits. */
void out_flush(struct out *out);
/* What a memory-only one holds. Lent until the next call on it. */
struct bytes out_bytes(const struct out *out);
void out_clear(struct out *out);

/* Room for so many bytes behind the last, flushed or grown for it. */
uint8_t *out_room_made(struct out *out, size_t size);
/* The same, for the caller to fill and to add to size. Lent until the next call. */
static inline uint8_t *out_room(struct out *out, size_t size)
{
    return out->size + size <= out->size_easy ? out->data + out->size : out_room_made(out, size);
}
static inline void out_put(struct out *out, const void *data, size_t size)
{
    if (size > 0) {
        memcpy(out_room(out, size), data, size);
        out->size += size;
    }
}
static inline void out_text(struct out *out, const char *text)
{
    out_put(out, text, strlen(text));
}
static inline void out_character(struct out *out, char character)
{
    *out_room(out, 1) = (uint8_t)character;
    out->size++;
}
/* Blanks. */
static inline void out_pad(struct out *out, size_t count)
{
    if (count > 0) {
        memset(out_room(out, count), ' ', count);
        out->size += count;
    }
}
void out_u64(struct out *out, uint64_t number);
void out_i64(struct out *out, int64_t number);
/* Right-aligned in `width` columns. */
void out_u64_wide(struct out *out, uint64_t number, size_t width);
/* Sixteen hexadecimal digits. */
void out_hex64(struct out *out, uint64_t number);
/* For rare lines. */
void out_print(struct out *out, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Text of somebody else for a terminal, left-aligned: control characters become '?'. */
void out_plain(struct out *out, const char *text, size_t width);
/* "2025-11-20T12:00:00.000Z", with --local "2025-11-20T13:00:00.000+0100"; "-" when it is not known
 * (0 or less, or beyond the year 9999). Answers the columns it took. */
size_t out_time(struct out *out, int64_t time_ms);

/* A JSON string. Bytes that are not UTF-8 become U+FFFD. */
void out_json_text(struct out *out, const char *text);
void out_json_bytes(struct out *out, struct bytes text);
/* A JSON document of somebody else on one line, white space dropped.
 *   answers   false: it is no valid JSON (or too deep); nothing was put */
bool out_json_document(struct out *out, struct bytes document);
/* The same laid out for people, `indent` columns deeper. The document must be valid. */
void out_json_pretty(struct out *out, struct bytes document, size_t indent);

/* SGR colours; nothing unless out->colour. */
enum colour { COLOUR_NONE, COLOUR_HEAD, COLOUR_KIND, COLOUR_BAD, COLOUR_GOOD };
void out_colour(struct out *out, enum colour colour);

#endif
