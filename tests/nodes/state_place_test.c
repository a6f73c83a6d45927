/* Which directory is the state: real files in a directory of their own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "nodes/cloud/state_place.h"
#include "schemas/check.h"

static char data[64];

static void file_put(const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", data, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static bool ends_with(const char *path, const char *name)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL && strcmp(slash + 1, name) == 0;
}

/* Claim: the state is in "state" until it was exchanged, then in the other place, for this process and
 * for whoever starts again; a file that was not finished counts for nothing. */
static void test_an_exchange_is_seen_by_all(void **state)
{
    (void)state;
    struct state_place place;
    assert_int_equal(state_place_open(&place, data), 0);
    assert_true(ends_with(state_place_current(&place), "state"));
    assert_true(ends_with(state_place_other(&place), "state.2"));
    assert_false(state_place_exists(&place));
    assert_int_equal(mkdir(state_place_current(&place), 0700), 0);
    assert_true(state_place_exists(&place));

    for (int round = 0; round < 3; round++) {
        char before[STATE_PLACE_BYTES];
        snprintf(before, sizeof before, "%s", state_place_other(&place));
        file_put("state.current.making", "sta");
        struct state_place again;
        assert_int_equal(state_place_open(&again, data), 0);
        assert_string_equal(state_place_other(&again), before);

        assert_int_equal(state_place_exchange(&place), 0);
        assert_string_equal(state_place_current(&place), before);
        assert_int_equal(state_place_open(&again, data), 0);
        assert_string_equal(state_place_current(&again), before);
    }
}

/* Claim: a file that names neither place is damage, not a guess; a directory that takes no file leaves the
 * state where it is. */
static void test_damage_is_answered(void **state)
{
    (void)state;
    struct state_place place;
    file_put("state.current", "elsewhere\n");
    assert_int_equal(state_place_open(&place, data), STATUS_CORRUPT);
    file_put("state.current", "");
    assert_int_equal(state_place_open(&place, data), STATUS_CORRUPT);
    file_put("state.current", "state.2\n");
    assert_int_equal(state_place_open(&place, data), 0);
    assert_true(ends_with(state_place_current(&place), "state.2"));

    char long_path[STATE_PLACE_BYTES + 8];
    memset(long_path, 'x', sizeof long_path - 1);
    long_path[sizeof long_path - 1] = '\0';
    assert_int_equal(state_place_open(&place, long_path), -ENAMETOOLONG);

    assert_int_equal(state_place_open(&place, "nowhere-at-all"), 0);
    assert_int_equal(state_place_exchange(&place), -ENOENT);
    assert_true(ends_with(state_place_current(&place), "state"));
}

int main(void)
{
    snprintf(data, sizeof data, "/tmp/kelp-state-place.XXXXXX");
    CHECK(mkdtemp(data) != NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_exchange_is_seen_by_all),
        cmocka_unit_test(test_damage_is_answered),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    static const char *const names[] = {"state.current", "state.current.making", "state"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", data, names[i]);
        (void)remove(path);
    }
    (void)rmdir(data);
    return failed;
}
