#include "nodes/cli/log_select.h"

#include "schemas/check.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define DURATION_MS_MAX (INT64_C(3660) * 24 * 3600 * 1000)

/* -- times ------------------------------------------------------------------------------------ */

bool duration_parse(const char *text, int64_t *out_ms)
{
    char *end;
    if (text[0] < '0' || text[0] > '9') {
        return false;
    }
    errno = 0;
    const long long number = strtoll(text, &end, 10);
    const int64_t unit = *end == 'd'                   ? 24 * 3600 * 1000
                         : *end == 'h'                 ? 3600 * 1000
                         : *end == 'm'                 ? 60 * 1000
                         : *end == 's' || *end == '\0' ? 1000
                                                       : 0;
    if (errno != 0 || unit == 0 || (*end != '\0' && end[1] != '\0') ||
        number > DURATION_MS_MAX / unit) {
        return false;
    }
    *out_ms = number * unit;
    return true;
}

/* So many digits as a number, and move behind them. */
static bool digits_take(const char **text, int count, int *out)
{
    *out = 0;
    for (int i = 0; i < count; i++) {
        if ((*text)[i] < '0' || (*text)[i] > '9') {
            return false;
        }
        *out = *out * 10 + ((*text)[i] - '0');
    }
    *text += count;
    return true;
}

static bool character_take(const char **text, char wanted)
{
    if (**text != wanted) {
        return false;
    }
    (*text)++;
    return true;
}

/* "2025-11-20", and behind it "T12:00[:00[.000]][Z|+01:00]". */
static bool time_parse(const char *text, bool local, int64_t *out_ms)
{
    struct tm parts = {.tm_isdst = -1};
    int milliseconds = 0;
    if (!digits_take(&text, 4, &parts.tm_year) || !character_take(&text, '-') ||
        !digits_take(&text, 2, &parts.tm_mon) || !character_take(&text, '-') ||
        !digits_take(&text, 2, &parts.tm_mday)) {
        return false;
    }
    if (*text == 'T' || *text == 't' || *text == ' ') {
        text++;
        if (!digits_take(&text, 2, &parts.tm_hour) || !character_take(&text, ':') ||
            !digits_take(&text, 2, &parts.tm_min)) {
            return false;
        }
        if (character_take(&text, ':') && !digits_take(&text, 2, &parts.tm_sec)) {
            return false;
        }
        if (character_take(&text, '.')) {
            int digits = 0;
            for (; *text >= '0' && *text <= '9'; text++, digits++) {
                milliseconds = digits < 3 ? milliseconds * 10 + (*text - '0') : milliseconds;
            }
            if (digits == 0) {
                return false;
            }
            for (; digits < 3; digits++) {
                milliseconds *= 10;
            }
        }
    }
    int zone_minutes = 0;
    if (character_take(&text, 'Z') || character_take(&text, 'z')) {
        local = false;
    } else if (*text == '+' || *text == '-') {
        const int sign = *text == '-' ? -1 : 1;
        int hours, minutes;
        text++;
        if (!digits_take(&text, 2, &hours)) {
            return false;
        }
        (void)character_take(&text, ':');
        if (!digits_take(&text, 2, &minutes) || hours > 23 || minutes > 59) {
            return false;
        }
        zone_minutes = sign * (60 * hours + minutes);
        local = false;
    }
    if (*text != '\0' || parts.tm_year < 1970 || parts.tm_mon < 1 || parts.tm_mon > 12 ||
        parts.tm_mday < 1 || parts.tm_mday > 31 || parts.tm_hour > 23 || parts.tm_min > 59 ||
        parts.tm_sec > 60) {
        return false;
    }
    parts.tm_year -= 1900;
    parts.tm_mon -= 1;
    const int day = parts.tm_mday;
    const int second = parts.tm_sec;
    const time_t seconds = local ? mktime(&parts) : timegm(&parts);
    if (parts.tm_mday != day && second != 60) { /* a leap second is the first of the next day */
        return false;
    }
    *out_ms = ((int64_t)seconds - 60 * zone_minutes) * 1000 + milliseconds;
    return true;
}

/* "now", "today" and "yesterday" (their first moment), "18:05[:00[.000]][Z|+01:00]" of this day. */
static bool time_parse_today(const char *text, bool local, int64_t now_ms, int64_t *out_ms)
{
    char whole[64];
    struct tm parts;
    time_t now = (time_t)(now_ms / 1000);
    const bool yesterday = strcmp(text, "yesterday") == 0;
    const bool day = yesterday || strcmp(text, "today") == 0;
    if (strcmp(text, "now") == 0) {
        *out_ms = now_ms;
        return true;
    }
    if (!day && (strlen(text) < 5 || strlen(text) > 20 || text[2] != ':')) {
        return false;
    }
    CHECK((local ? localtime_r(&now, &parts) : gmtime_r(&now, &parts)) != NULL);
    if (yesterday) { /* not 24 hours: a day may have 23 or 25 */
        parts.tm_mday--;
        parts.tm_hour = 12;
        parts.tm_isdst = -1;
        now = local ? mktime(&parts) : timegm(&parts);
    }
    const size_t size = strftime(whole, sizeof whole, "%Y-%m-%d", &parts);
    if (!day) {
        snprintf(whole + size, sizeof whole - size, "T%s", text);
    }
    return time_parse(whole, local, out_ms);
}

bool place_parse(const char *text, bool local, int64_t now_ms, struct place *out)
{
    *out = (struct place){.kind = PLACE_OFFSET};
    if (strcmp(text, "start") == 0) {
        return true;
    }
    if (strcmp(text, "end") == 0) {
        out->number = UINT64_MAX;
        return true;
    }
    const bool back = text[0] == '-';
    const char *number = back ? text + 1 : text;
    char *end;
    errno = 0;
    const unsigned long long value = strtoull(number, &end, 10);
    if (number[0] >= '0' && number[0] <= '9' && *end == '\0') {
        out->kind = back ? PLACE_FROM_END : PLACE_OFFSET;
        out->number = value; /* beyond 2^64 it is ULLONG_MAX, which no log reaches either */
        return !back || value > 0;
    }
    int64_t length_ms;
    if (back && duration_parse(number, &length_ms)) {
        out->kind = PLACE_TIME;
        out->time_ms = now_ms - length_ms;
        return true;
    }
    out->kind = PLACE_TIME;
    return !back && (time_parse_today(text, local, now_ms, &out->time_ms) ||
                     time_parse(text, local, &out->time_ms));
}

/* -- the selection ---------------------------------------------------------------------------- */

static int refuse_place(const char *command, const char *flag, const char *text)
{
    fprintf(
        stderr,
        "%s: --%s %s is no place in a log: give an offset, start, end, -N (from the end), a time\n"
        "  (2025-11-20, 2025-11-20T12:00:00Z, 2025-11-20T13:00+01:00, 18:05, now, today, "
        "yesterday)\n"
        "  or how long ago (-10m; s, m, h, d)\n",
        command, flag, text);
    return OPTIONS_EXIT_USAGE;
}

static bool kinds_known(const struct options_list *kinds, const char *command)
{
    for (size_t i = 0; i < kinds->count; i++) {
        if (!item_kind_known(kinds->items[i])) {
            fprintf(stderr, "%s: there is no kind %s; -o help lists them\n", command,
                    kinds->items[i]);
            return false;
        }
    }
    return true;
}

int selection_begin(struct selection *selection, const char *command, bool local)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    const int64_t now_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
    selection->to.number = UINT64_MAX;
    if (selection->from_text != NULL &&
        !place_parse(selection->from_text, local, now_ms, &selection->from)) {
        return refuse_place(command, "from", selection->from_text);
    }
    if (selection->to_text != NULL &&
        !place_parse(selection->to_text, local, now_ms, &selection->to)) {
        return refuse_place(command, "to", selection->to_text);
    }
    if (!kinds_known(&selection->kinds, command) || !kinds_known(&selection->kinds_not, command)) {
        return OPTIONS_EXIT_USAGE;
    }
    for (size_t i = 0; i < selection->ops.count; i++) {
        if (!item_op_known(selection->ops.items[i])) {
            fprintf(stderr, "%s: there is no op %s; -o help lists them\n", command,
                    selection->ops.items[i]);
            return OPTIONS_EXIT_USAGE;
        }
    }
    if (selection->keys.count > 0) {
        selection->keys_full = calloc(selection->keys.count, sizeof *selection->keys_full);
        CHECK(selection->keys_full != NULL);
    }
    for (size_t i = 0; i < selection->keys.count; i++) {
        if (!key_complete(selection->keys.items[i], selection->keys_full[i])) {
            fprintf(stderr, "%s: --key: a key has 1 .. %u bytes\n", command, LIMIT_KEY_BYTES);
            return OPTIONS_EXIT_USAGE;
        }
    }
    if (selection->regex_text != NULL) {
        const int status =
            regcomp(&selection->regex, selection->regex_text, REG_EXTENDED | REG_NOSUB);
        if (status != 0) {
            char why[128];
            regerror(status, &selection->regex, why, sizeof why);
            fprintf(stderr, "%s: -g %s is no regular expression: %s\n", command,
                    selection->regex_text, why);
            return OPTIONS_EXIT_USAGE;
        }
        selection->regex_made = true;
    }
    selection->from_time = selection->from.kind == PLACE_TIME;
    selection->to_time = selection->to.kind == PLACE_TIME;
    selection->filters = selection->kinds.count > 0 || selection->kinds_not.count > 0 ||
                         selection->keys.count > 0 || selection->namespaces.count > 0 ||
                         selection->names.count > 0 || selection->nodes.count > 0 ||
                         selection->ops.count > 0 || selection->regex_made ||
                         selection->from_time || selection->to_time;
    return OPTIONS_EXIT_OK;
}

static uint64_t place_resolve(const struct place *place, uint64_t index_next, uint64_t otherwise)
{
    switch (place->kind) {
    case PLACE_OFFSET:
        return place->number;
    case PLACE_FROM_END:
        return place->number < index_next ? index_next - place->number : 0;
    case PLACE_TIME:
        break;
    }
    return otherwise;
}

void selection_resolve(struct selection *selection, uint64_t index_next)
{
    /* `--from end` is the last frame, as in `--from end --to end` */
    if (selection->from.kind == PLACE_OFFSET && selection->from.number == UINT64_MAX &&
        selection->from_text != NULL && strcmp(selection->from_text, "end") == 0) {
        selection->offset_from = index_next > 1 ? index_next - 1 : 0;
    } else {
        selection->offset_from = place_resolve(&selection->from, index_next, 0);
    }
    selection->offset_to = place_resolve(&selection->to, index_next, UINT64_MAX);
    selection->time_from = selection->from_time ? selection->from.time_ms : INT64_MIN;
    selection->time_to = selection->to_time ? selection->to.time_ms : INT64_MAX;
}

void selection_end(struct selection *selection)
{
    if (selection->regex_made) {
        regfree(&selection->regex);
        selection->regex_made = false;
    }
    free(selection->keys_full);
    selection->keys_full = NULL;
}

/* -- matching --------------------------------------------------------------------------------- */

static bool list_has(const struct options_list *list, struct bytes text)
{
    bool has = list->count == 0;
    for (size_t i = 0; i < list->count && !has; i++) {
        has = bytes_equal_text(text, list->items[i]);
    }
    return has;
}

static bool kinds_have(const struct options_list *kinds, const struct item *item)
{
    bool has = false;
    for (size_t i = 0; i < kinds->count && !has; i++) {
        has = item_kind_is(item, kinds->items[i]);
    }
    return has;
}

static bool selection_has_kind(const struct selection *selection, const struct item *item)
{
    return (selection->kinds.count == 0 || kinds_have(&selection->kinds, item)) &&
           !kinds_have(&selection->kinds_not, item);
}

static bool selection_has_key(const struct selection *selection, const struct item *item)
{
    bool has = selection->keys.count == 0;
    for (size_t i = 0; i < selection->keys.count && !has; i++) {
        has = strcmp(selection->keys_full[i], item->key) == 0 ||
              fnmatch(selection->keys_full[i], item->key, 0) == 0;
    }
    return has;
}

bool selection_matches(const struct selection *selection, const struct item *item,
                       struct bytes body)
{
    if (!selection->filters) {
        return true;
    }
    /* What has no time of its own is in no range of times. */
    if (((selection->from_time || selection->to_time) && !item->timed) ||
        item->time_ms < selection->time_from || item->time_ms > selection->time_to ||
        !selection_has_kind(selection, item) || !list_has(&selection->ops, bytes_text(item->op)) ||
        !list_has(&selection->nodes, bytes_text(item->node)) ||
        !selection_has_key(selection, item)) {
        return false;
    }
    if (selection->namespaces.count > 0 || selection->names.count > 0) {
        const struct key_parts parts = key_split(item->key);
        if (!list_has(&selection->namespaces, parts.namespace) ||
            !list_has(&selection->names, parts.name)) {
            return false;
        }
    }
    if (!selection->regex_made) {
        return true;
    }
    regmatch_t whole = {.rm_so = 0, .rm_eo = (regoff_t)body.size};
    return regexec(&selection->regex, (const char *)body.data, 1, &whole, REG_STARTEND) == 0;
}
