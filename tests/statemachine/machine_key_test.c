/* Keys of cloudcores in the state: noted, shut out when their member is removed, let in again. */
#include "statemachine/member_key.h"
#include "tests/statemachine/machine_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct fixture *f;

static int setup(void **state)
{
    (void)state;
    f = calloc(1, sizeof *f);
    fixture_open(f);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_close(f);
    free(f);
    return 0;
}

/* A sha256 that is none, told apart by a number; lent until the next call but three. */
static const char *key_named(uint32_t number)
{
    static char keys[4][MEMBER_KEY_BYTES];
    static uint32_t next;
    next = (next + 1) % 4;
    snprintf(keys[next], sizeof keys[next], "%064x", number);
    return keys[next];
}

static struct bytes record_key(uint64_t replica, uint8_t standing, const char *key, uint64_t below)
{
    const struct member_key body = {
        .replica = replica, .standing = standing, .key = key, .below = below};
    struct bytes bytes;
    assert_int_equal(codec_member_key_build(f->codec, &body, &bytes), STATUS_OK);
    return record_of(f, RECORD_MEMBER_KEY, "", bytes);
}

static uint64_t note(enum outcome outcome, uint64_t replica, uint32_t key)
{
    return expect(f, outcome, record_key(replica, MEMBER_KEY_MEMBER, key_named(key), 0));
}

static uint64_t shut_out(enum outcome outcome, uint64_t replica, uint64_t below)
{
    return expect(f, outcome, record_key(replica, MEMBER_KEY_OUT, "", below));
}

static bool is_out(uint32_t key)
{
    struct member_key_row row;
    const int status = member_key_get(fixture_live(f), key_named(key), &row);
    assert_true(status == STATUS_OK || status == MEMBER_KEY_NONE);
    return status == STATUS_OK && row.out;
}

/* Claim: what was noted of a replica before it was removed is out, and of nobody else; noting it again does not
 * bring it back, under no number; only letting it in does, and that only what went out last. */
static void test_a_removed_replicas_key_stays_out(void **state)
{
    (void)state;
    note(ACCEPTED, 3, 30);
    note(ACCEPTED, 3, 31);
    const uint64_t before = note(ACCEPTED, 4, 40);
    assert_int_equal(shut_out(ACCEPTED, 3, before), 2);
    assert_true(is_out(30) && is_out(31) && !is_out(40) && !is_out(77));
    note(REFUSED_OWNER, 3, 30);
    note(REFUSED_OWNER, 4, 31);
    assert_int_equal(shut_out(ACCEPTED_UNCHANGED, 3, UINT64_MAX), 0);

    note(ACCEPTED, 3, 32); /* another machine under the old number: a new membership */
    const uint64_t second = shut_out(ACCEPTED, 3, UINT64_MAX);
    assert_int_equal(second, 1);
    assert_int_equal(expect(f, ACCEPTED, record_key(3, MEMBER_KEY_IN, "", 0)), 1);
    assert_true(is_out(30) && is_out(31) && !is_out(32));
    note(ACCEPTED, 3, 32);
}

/* Claim: a key that was noted in a newer membership is not touched by the removal of an older one. */
static void test_only_what_is_older_goes(void **state)
{
    (void)state;
    note(ACCEPTED, 3, 30);
    const uint64_t added = note(ACCEPTED, 3, 31);
    assert_int_equal(shut_out(ACCEPTED, 3, added), 1);
    assert_true(is_out(30) && !is_out(31));
    note(ACCEPTED, 3, 31); /* is noted anew: of now */
    assert_int_equal(shut_out(ACCEPTED_UNCHANGED, 3, added), 0);
}

/* Claim: that a replica was removed is remembered even if no key of it was ever seen. */
static void test_a_removal_without_a_key_is_remembered(void **state)
{
    (void)state;
    struct member_key_row rows[LIMIT_MEMBER_KEYS];
    uint32_t count;
    assert_int_equal(shut_out(ACCEPTED, 9, UINT64_MAX), 0);
    assert_int_equal(member_key_list(fixture_live(f), rows, &count), STATUS_OK);
    assert_int_equal(count, 1);
    assert_int_equal(rows[0].replica, 9);
    assert_true(rows[0].out && rows[0].key[0] == '\0');
    shut_out(ACCEPTED_UNCHANGED, 9, UINT64_MAX);
    expect(f, ACCEPTED, record_key(9, MEMBER_KEY_IN, "", 0));
    expect(f, ACCEPTED_UNCHANGED, record_key(9, MEMBER_KEY_IN, "", 0));
    assert_int_equal(member_key_list(fixture_live(f), rows, &count), STATUS_OK);
    assert_int_equal(count, 0);
}

/* Claim: the rows are bounded; what has been out for longest goes first, a member's key before none that is out. */
static void test_keys_are_bounded(void **state)
{
    (void)state;
    struct member_key_row rows[LIMIT_MEMBER_KEYS];
    uint32_t count;
    note(ACCEPTED, 1, 1);
    for (uint32_t i = 0; i < LIMIT_MEMBER_KEYS + 10; i++) {
        note(ACCEPTED, 2, 1000 + i);
        shut_out(ACCEPTED, 2, UINT64_MAX);
    }
    assert_int_equal(member_key_list(fixture_live(f), rows, &count), STATUS_OK);
    assert_int_equal(count, LIMIT_MEMBER_KEYS);
    assert_false(is_out(1000 + 10)); /* forgotten */
    assert_true(is_out(1000 + 11));
    assert_true(is_out(1000 + LIMIT_MEMBER_KEYS + 9));
    struct member_key_row row;
    assert_int_equal(member_key_get(fixture_live(f), key_named(1), &row), STATUS_OK);
    assert_false(row.out);
}

/* Claim: what is no key is refused, and changes nothing. */
static void test_refusals(void **state)
{
    (void)state;
    struct member_key_row rows[LIMIT_MEMBER_KEYS];
    uint32_t count;
    expect(f, REFUSED_MALFORMED, record_key(3, MEMBER_KEY_MEMBER, "", 0));
    expect(f, REFUSED_MALFORMED, record_key(3, MEMBER_KEY_MEMBER, "xyz", 0));
    expect(f, REFUSED_MALFORMED, record_key(0, MEMBER_KEY_OUT, "", 1));
    expect(f, REFUSED_MALFORMED, record_key(3, 7, "", 1));
    expect(f, REFUSED_MALFORMED, record_of(f, RECORD_MEMBER_KEY, "", bytes_text("12345678")));
    assert_int_equal(member_key_list(fixture_live(f), rows, &count), STATUS_OK);
    assert_int_equal(count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_removed_replicas_key_stays_out, setup, teardown),
        cmocka_unit_test_setup_teardown(test_only_what_is_older_goes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_removal_without_a_key_is_remembered, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_keys_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
