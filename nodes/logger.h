/* Log lines: one per event, to standard error.
 *
 *   text   time=2026-01-31T12:00:00.123Z level=info event=session_opened node=edge-1 epoch=7
 *   json   {"time":"2026-01-31T12:00:00.123Z","level":"info","event":"session_opened","node":"edge-1","epoch":"7"}
 *
 * An event is a fact in the past tense; keys carry units. The format string is the pairs:
 *
 *   logger_info("session_opened", "node=%s epoch=%" PRIu64, node, epoch);
 *
 * A value ends at the next blank that is followed by `key=`, so values may hold blanks; a value with
 * blanks, quotes or '=' is quoted, control characters are escaped. A text from outside that holds
 * " x=" itself would look like a pair: put it last, as reason=%s, for the pair called reason takes all the rest,
 * or hand it over by logger_value.
 *
 * error: someone must act. warn: we coped, the line says how. info: the world changed. debug: for us.
 * One thread. Only nodes/ logs.
 */
#ifndef KELP_NODES_LOGGER_H
#define KELP_NODES_LOGGER_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "schemas/limits.h"

enum logger_level { LOGGER_DEBUG, LOGGER_INFO, LOGGER_WARN, LOGGER_ERROR };
enum logger_format { LOGGER_TEXT, LOGGER_JSON };

/* Choices for a config table, in the order of the enums. */
#define LOGGER_LEVEL_CHOICES  "debug|info|warn|error"
#define LOGGER_FORMAT_CHOICES "text|json"

/* From the start: info, text, stderr. stream: borrowed, NULL for stderr (tests read it). */
void logger_set(enum logger_level level, enum logger_format format, FILE *stream);

/* Virtual time for the simulator: milliseconds since 1970, or back to the clock with a negative one. */
void logger_set_time_ms(int64_t time_ms);

__attribute__((format(printf, 3, 4))) void logger_line(enum logger_level level, const char *event,
                                                       const char *pairs, ...);

#define LOGGER_VALUE_BYTES 1025u
static_assert(LOGGER_VALUE_BYTES > LIMIT_KEY_BYTES, "a key of a record is told whole");
/* A text that somebody outside chose, as one value: without '=' nothing of it begins a pair, so each is ':' then.
 *   out      what does not fit is cut
 *   text     terminated
 *   answers  out */
static inline const char *logger_value(char out[LOGGER_VALUE_BYTES], const char *text)
{
    size_t size = 0;
    for (; size < LOGGER_VALUE_BYTES - 1 && text[size] != '\0'; size++) {
        out[size] = text[size] == '=' ? ':' : text[size];
    }
    out[size] = '\0';
    return out;
}

#define logger_debug(event, ...) logger_line(LOGGER_DEBUG, event, __VA_ARGS__)
#define logger_info(event, ...)  logger_line(LOGGER_INFO, event, __VA_ARGS__)
#define logger_warn(event, ...)  logger_line(LOGGER_WARN, event, __VA_ARGS__)
#define logger_error(event, ...) logger_line(LOGGER_ERROR, event, __VA_ARGS__)

/* At most one line per call site and window; the next one carries suppressed=N. For what a peer, a
 * device or a user can provoke at will. */
struct logger_window {
    int64_t until_ms;
    uint64_t suppressed_count;
};
__attribute__((format(printf, 5, 6))) void logger_line_limited(struct logger_window *window,
                                                               uint32_t window_ms,
                                                               enum logger_level level,
                                                               const char *event, const char *pairs,
                                                               ...);

#define LOGGER_WINDOW_MS 10000u
#define logger_limited(level, event, ...)                                                          \
    do {                                                                                           \
        static struct logger_window logger_window_here;                                            \
        logger_line_limited(&logger_window_here, LOGGER_WINDOW_MS, level, event, __VA_ARGS__);     \
    } while (0)
#define logger_warn_limited(event, ...)  logger_limited(LOGGER_WARN, event, __VA_ARGS__)
#define logger_error_limited(event, ...) logger_limited(LOGGER_ERROR, event, __VA_ARGS__)

#endif
