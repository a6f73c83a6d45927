/* What kelp log prints, byte for byte, against code that looks at one byte at a time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "nodes/cli/log_out.h"

#define TEXT_BYTES 24u

/* Claim: every byte, wherever it stands among plain ones, is printed as its kind demands: to a terminal
 * nothing that controls it, into JSON what JSON takes. Method: all bytes at all places of three words;
 * what is not ASCII stands alone, so it is no UTF-8. */
static void test_every_byte_at_every_place(void **state)
{
    (void)state;
    struct out out;
    out_init(&out, -1);
    for (unsigned byte = 1; byte < 256; byte++) {
        for (size_t at = 0; at < TEXT_BYTES; at++) {
            char text[TEXT_BYTES + 1], plain[2 * TEXT_BYTES], json[4 * TEXT_BYTES], middle[16];
            memset(text, 'x', TEXT_BYTES);
            text[TEXT_BYTES] = '\0';
            text[at] = (char)byte;
            memcpy(plain, text, sizeof text);
            if (byte < 0x20 || byte == 0x7f) {
                plain[at] = '?';
                snprintf(middle, sizeof middle, "\\u%04x", byte);
            } else if (byte >= 0x80) {
                snprintf(middle, sizeof middle, "\\ufffd");
            } else {
                snprintf(middle, sizeof middle, "%s%c", byte == '"' || byte == '\\' ? "\\" : "",
                         (char)byte);
            }
            snprintf(json, sizeof json, "\"%.*s%s%s\"", (int)at, text, middle, text + at + 1);
            out_clear(&out);
            out_plain(&out, text, 0);
            assert_true(bytes_equal_text(out_bytes(&out), plain));
            out_clear(&out);
            out_json_text(&out, text);
            assert_true(bytes_equal_text(out_bytes(&out), json));
        }
    }
    out_deinit(&out);
}

/* Claim: numbers are those of printf, at every power of ten and its neighbours, in every width. */
static void test_numbers_are_those_of_printf(void **state)
{
    (void)state;
    struct out out;
    out_init(&out, -1);
    for (uint64_t power = 1, digits = 1; digits <= 20; digits++, power *= 10) {
        const uint64_t numbers[] = {power - 1, power, power + 1, 7 * power + 42,
                                    UINT64_MAX - power};
        for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
            char wanted[64];
            snprintf(wanted, sizeof wanted, "%llu|%12llu|%lld", (unsigned long long)numbers[i],
                     (unsigned long long)numbers[i], (long long)(int64_t)numbers[i]);
            out_clear(&out);
            out_u64(&out, numbers[i]);
            out_character(&out, '|');
            out_u64_wide(&out, numbers[i], 12);
            out_character(&out, '|');
            out_i64(&out, (int64_t)numbers[i]);
            assert_true(bytes_equal_text(out_bytes(&out), wanted));
        }
    }
    out_deinit(&out);
}

/* Claim: times one after the other do not mix their seconds and milliseconds up. */
static void test_times_share_a_second(void **state)
{
    (void)state;
    static const struct {
        int64_t time_ms;
        const char *text;
    } times[] = {
        {1763640000007, "2025-11-20T12:00:00.007Z"},
        {1763640000999, "2025-11-20T12:00:00.999Z"},
        {1763640001000, "2025-11-20T12:00:01.000Z"},
        {0, "-"},
        {1763640001010, "2025-11-20T12:00:01.010Z"},
        {1, "1970-01-01T00:00:00.001Z"},
        {253402300800000, "-"},
        {253402300799999, "9999-12-31T23:59:59.999Z"},
    };
    struct out out;
    out_init(&out, -1);
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        out_clear(&out);
        assert_int_equal(out_time(&out, times[i].time_ms), strlen(times[i].text));
        assert_true(bytes_equal_text(out_bytes(&out), times[i].text));
    }
    out_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_byte_at_every_place),
        cmocka_unit_test(test_numbers_are_those_of_printf),
        cmocka_unit_test(test_times_share_a_second),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
