/* fault.h on a real directory: the note of an I/O error, whatever state it is found in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "nodes/fault.h"
#include "schemas/status.h"

static char directory[64];
static char note[96];

static int set_up(void **state)
{
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/kelp_fault_XXXXXX");
    if (mkdtemp(directory) == NULL) {
        return -1;
    }
    snprintf(note, sizeof note, "%s/" FAULT_NOTE, directory);
    return 0;
}
static int tear_down(void **state)
{
    (void)state;
    unlink(note);
    return rmdir(directory);
}

/* Claim: what is noted is read back, each value on its line whatever it holds, by its owner only; and the
 * first failure stays. Method: a text with line breaks and one longer than its field, then a second note. */
static void test_first_failure_is_kept(void **state)
{
    (void)state;
    struct fault fault;
    char operation[4000];
    assert_int_equal(fault_read(directory, &fault), -ENOENT);

    assert_int_equal(fault_write(directory, "edgecore", "write\nstatus 7\terror none", "/d/log",
                                 -EIO, 1769860800123),
                     0);
    memset(operation, 'x', sizeof operation);
    operation[sizeof operation - 1] = 0;
    assert_int_equal(fault_write(directory, "cloudcore", operation, operation, -EROFS, 0), 0);

    struct stat about;
    assert_int_equal(stat(note, &about), 0);
    assert_int_equal(about.st_mode & 0777, 0600);
    assert_int_equal(fault_read(directory, &fault), 0);
    assert_string_equal(fault.time, "2026-01-31T12:00:00Z");
    assert_string_equal(fault.program, "edgecore");
    assert_string_equal(fault.operation, "write status 7 error none");
    assert_string_equal(fault.path, "/d/log");
    assert_int_equal(fault.status, -EIO);
    assert_string_equal(fault.error, status_text(-EIO));

    assert_int_equal(fault_remove(directory), 0);
    assert_int_equal(fault_read(directory, &fault), -ENOENT);
    assert_int_equal(fault_write(directory, "cloudcore", operation, operation, -EROFS, 0), 0);
    assert_int_equal(fault_read(directory, &fault), 0);
    assert_int_equal(strlen(fault.operation), sizeof fault.operation - 1);
    assert_int_equal(fault.status, -EROFS);
}

/* Claim: a note that says nothing still says that there was a failure. Method: what a disk may leave of it:
 * nothing, every length of it, a directory in its place. */
static void test_note_that_cannot_be_read_counts(void **state)
{
    (void)state;
    struct fault fault;
    static const char text[] =
        "time       2026-01-31T12:00:00Z\nprogram    cloudcore\nstatus     -5\n";
    for (size_t size = 0; size < sizeof text; size++) {
        FILE *file = fopen(note, "w");
        assert_non_null(file);
        assert_int_equal(fwrite(text, 1, size, file), size);
        assert_int_equal(fclose(file), 0);
        assert_int_equal(fault_read(directory, &fault), 0);
        assert_true(fault.operation[0] != 0);
        assert_true(fault.status < 0 || size == sizeof text - 3);
    }
    assert_int_equal(unlink(note), 0);
    assert_int_equal(mkdir(note, 0700), 0);
    assert_int_equal(fault_read(directory, &fault), 0);
    assert_int_equal(rmdir(note), 0);
}

/* Claim: what is a failure of the disk is told from what comes back by itself and from our own answers.
 * Method: every errno there is is one or the other; those that must not stop a start are named. */
static void test_which_failures_count(void **state)
{
    (void)state;
    static const int faults[] = {EIO, EROFS, ENXIO, ENODEV, ESTALE, EUCLEAN, EBADMSG, EINVAL};
    static const int others[] = {ENOSPC, EDQUOT, ENOMEM, EMFILE, ENFILE, EACCES, EPERM, EAGAIN};
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        assert_true(status_is_fault(-faults[i]));
    }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        assert_false(status_is_fault(-others[i]));
    }
    assert_true(status_is_fault(STATUS_CORRUPT));
    assert_false(status_is_fault(STATUS_FULL));
    assert_false(status_is_fault(STATUS_LOCKED));
    assert_false(status_is_fault(STATUS_OK));
    assert_false(status_is_fault(1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_first_failure_is_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_note_that_cannot_be_read_counts, set_up, tear_down),
        cmocka_unit_test(test_which_failures_count),
    };
    return cmocka_run_group_tests_name("fault", tests, NULL, NULL);
}
