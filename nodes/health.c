#include "nodes/health.h"

#include "schemas/check.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void health_add(struct health *health, const char *name, bool ok, const char *format, ...)
{
    CHECK(health->count < HEALTH_CHECKS);
    struct health_check *check = &health->checks[health->count];
    health->count++;
    *check = (struct health_check){.name = name, .ok = ok};
    if (!ok) {
        va_list arguments;
        va_start(arguments, format);
        (void)vsnprintf(check->reason, sizeof check->reason, format, arguments);
        va_end(arguments);
    }
}

bool health_ok(const struct health *health)
{
    for (uint32_t i = 0; i < health->count; i++) {
        if (!health->checks[i].ok) {
            return false;
        }
    }
    return true;
}

__attribute__((format(printf, 3, 4))) static void health_print(char *buffer, size_t *used,
                                                               const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    const int size = vsnprintf(buffer + *used, HEALTH_ANSWER_BYTES - *used, format, arguments);
    va_end(arguments);
    CHECK(size >= 0);
    CHECK((size_t)size < HEALTH_ANSWER_BYTES - *used); /* see the assertion below */
    *used += (size_t)size;
}
static_assert(HEALTH_CHECKS * (HEALTH_REASON_BYTES + 64) + 256 <= HEALTH_ANSWER_BYTES,
              "all checks fit an answer");

uint32_t health_answer(const struct health *health, const char *which, const char *only,
                       const char *exclude, bool verbose, char *buffer)
{
    size_t used = 0;
    bool found = only[0] == '\0';
    bool ok = true;
    for (uint32_t i = 0; i < health->count; i++) {
        const struct health_check *check = &health->checks[i];
        if ((only[0] != '\0' && strcmp(check->name, only) != 0) ||
            strcmp(check->name, exclude) == 0) {
            continue;
        }
        found = true;
        ok = ok && check->ok;
        health_print(buffer, &used, "[%c]%s %s%s\n", check->ok ? '+' : '-', check->name,
                     check->ok ? "ok" : "failed: ", check->reason);
    }
    if (!found) {
        used = 0;
        health_print(buffer, &used, "there is no such check\n");
        return 404;
    }
    if (ok && !verbose) {
        used = 0;
        health_print(buffer, &used, "ok");
    } else {
        health_print(buffer, &used, "%.16s check %s\n", which, ok ? "passed" : "failed");
    }
    return ok ? 200 : 503;
}
