/* Places in a log as people write them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "nodes/cli/log_select.h"

#define HOUR_MS INT64_C(3600000)
#define NOW_MS  INT64_C(1761525296789) /* 2025-10-27T00:34:56.789Z; in Berlin 01:34:56 */

static int64_t time_of(const char *text, bool local)
{
    struct place place;
    assert_true(place_parse(text, local, NOW_MS, &place));
    assert_int_equal(place.kind, PLACE_TIME);
    return place.time_ms;
}

/* Claim: now, today, yesterday and times of the day are those of UTC, with --local of this machine's zone,
 * also across a day of 25 hours. Method: just after the night in which Berlin's clocks went back. */
static void test_days_are_those_of_the_zone(void **state)
{
    (void)state;
    const int64_t midnight = NOW_MS - NOW_MS % (24 * HOUR_MS);
    assert_int_equal(time_of("now", false), NOW_MS);
    assert_int_equal(time_of("now", true), NOW_MS);
    assert_int_equal(time_of("today", false), midnight);
    assert_int_equal(time_of("yesterday", false), midnight - 24 * HOUR_MS);
    assert_int_equal(time_of("18:05", false), midnight + 18 * HOUR_MS + 5 * 60000);
    assert_int_equal(time_of("18:05:30", false), midnight + 18 * HOUR_MS + 5 * 60000 + 30000);
    assert_int_equal(time_of("18:05:30.25Z", true), time_of("18:05:30", false) + 250);
    assert_int_equal(time_of("18:05+01:00", false), time_of("17:05", false));
    assert_int_equal(time_of("today", true), midnight - HOUR_MS);
    assert_int_equal(time_of("yesterday", true), midnight - HOUR_MS - 25 * HOUR_MS);
    assert_int_equal(time_of("18:05", true), time_of("17:05", false));
}

/* Claim: RFC 3339 is read with seconds and without; what only looks like a time is none. */
static void test_times_are_read_with_and_without_seconds(void **state)
{
    (void)state;
    assert_int_equal(time_of("2025-10-27T00:34Z", true), NOW_MS - 56789);
    assert_int_equal(time_of("2025-10-27T00:34:56.789Z", true), NOW_MS);
    assert_int_equal(time_of("2025-10-27t02:04+01:30", true), NOW_MS - 56789);
    static const char *const none[] = {
        "24:00", "18:60",  "18:5",     "1:05", "18:05:",   "18:05x", ":",
        "Now",   "today ", "tomorrow", "-now", "18-05-00", "",       "18:05:30.Z"};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        struct place place;
        assert_false(place_parse(none[i], false, NOW_MS, &place));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_days_are_those_of_the_zone),
        cmocka_unit_test(test_times_are_read_with_and_without_seconds),
    };
    /* Berlin's rules, spelled out: no file of zones is asked */
    return setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1) != 0
               ? 1
               : cmocka_run_group_tests(tests, NULL, NULL);
}
