/* Which records are meant: ranges of offsets or times, and filters. */
#ifndef KELP_NODES_CLI_LOG_SELECT_H
#define KELP_NODES_CLI_LOG_SELECT_H

#include "nodes/cli/log_decode.h"
#include "nodes/options.h"

#include <regex.h>

/* What a user wrote for --from or --to. */
struct place {
    enum place_kind {
        PLACE_OFFSET,   /* number: an offset, as it is */
        PLACE_FROM_END, /* number: 1 is the last frame */
        PLACE_TIME,     /* time_ms */
    } kind;
    uint64_t number;
    int64_t time_ms;
};

/* Read OFFSET, start, end, -N, a date, an RFC 3339 time with seconds or without, a time of this day
 * (18:05), now, today, yesterday (their first moment), or -10m (s, m, h, d before now_ms).
 *
 *   local     a time without a zone is one of this machine's, not UTC
 *   answers   false: it is none of them
 */
bool place_parse(const char *text, bool local, int64_t now_ms, struct place *out);
/* A length of time: a number and s, m, h or d; without a letter seconds.
 *   answers   false: it is none, or longer than ten years */
bool duration_parse(const char *text, int64_t *out_ms);

struct selection {
    struct options_list kinds, keys, namespaces, names, nodes, ops; /* what the flags filled */
    struct options_list kinds_not;
    const char *regex_text;                                         /* NULL: none */
    const char *from_text;
    const char *to_text;

    char (*keys_full)[LIMIT_KEY_BYTES + 2]; /* the rest is set by selection_begin */
    regex_t regex;
    bool regex_made;
    struct place from, to;
    bool from_time, to_time;
    uint64_t offset_from, offset_to; /* resolved by selection_resolve */
    int64_t time_from, time_to;
    bool filters; /* some flag may refuse an item */
};

/* Check and prepare what the flags say; prints what is wrong.
 *   answers   OPTIONS_EXIT_OK, OPTIONS_EXIT_USAGE */
int selection_begin(struct selection *selection, const char *command, bool local);
/* Now that it is known what the log holds. */
void selection_resolve(struct selection *selection, uint64_t index_next);
void selection_end(struct selection *selection);

/* Whether an item is meant. `body` is read only for -g: make it when selection_reads_body. */
bool selection_matches(const struct selection *selection, const struct item *item,
                       struct bytes body);
static inline bool selection_reads_body(const struct selection *selection)
{
    return selection->regex_made;
}

#endif
