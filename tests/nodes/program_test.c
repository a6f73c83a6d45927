/* program.h: what a program gives back once it has begun. */
#include <link.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "nodes/program.h"
#include "schemas/check.h"

/* Kilobytes of pages that a file backs. */
static unsigned long resident_file(void)
{
    FILE *file = fopen("/proc/self/status", "re");
    CHECK(file != NULL);
    char line[256];
    unsigned long kilobytes = 0;
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "RssFile:", 8) == 0) {
            kilobytes = strtoul(line + 8, NULL, 10);
        }
    }
    (void)fclose(file);
    return kilobytes;
}

/* All that may be read of an object is: now it is resident, whatever this machine had in memory. */
__attribute__((no_sanitize("address"))) static int read_object(struct dl_phdr_info *object,
                                                               size_t size, void *context)
{
    (void)size;
    unsigned long *sum = context;
    for (size_t i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];
        if (part->p_type == PT_LOAD && (part->p_flags & PF_R) != 0) {
            const volatile uint8_t *bytes =
                (const volatile uint8_t *)(object->dlpi_addr + part->p_vaddr);
            for (size_t at = 0; at < part->p_memsz; at += 1024) {
                *sum += bytes[at];
            }
        }
    }
    return 0;
}

static int written = 41;
static const char *const relocated[] = {"a pointer", "that the linker", "has filled in"};

/* Claim: pages that only the start needed are no longer resident, and nothing that the program holds is lost: variables,
 * tables of pointers, code. Method: every page is read; resident pages before and after; then all of it is used. */
static void test_settled_program_runs_on(void **state)
{
    (void)state;
    const char *volatile copied = strdup(relocated[1]);
    written++;
    unsigned long sum = 0;
    (void)dl_iterate_phdr(read_object, &sum);
    const unsigned long before = resident_file();
    const size_t given = program_settle();
    const unsigned long after = resident_file();
    assert_true(given > 1024u * 1024);
    assert_true(before > 1024);
    assert_true(after < before - before / 4); /* some of it was called again meanwhile */
    assert_int_equal(written, 42);
    assert_string_equal(relocated[0], "a pointer");
    assert_string_equal(relocated[2], "has filled in");
    assert_string_equal(copied, relocated[1]);
    free((void *)copied);
    char text[64];
    assert_int_equal(snprintf(text, sizeof text, "%.1f %s", 1.5, "x"), 5);
    assert_true(program_mono_ms() > 0);
    assert_true(program_settle() == given); /* again does no harm */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_settled_program_runs_on)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
