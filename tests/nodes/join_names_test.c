/* What the certificate of a cloudcore that joins with a token may be for. */
#include "nodes/cloud/join_names.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct members group;

static void group_open(void)
{
    static const struct {
        uint64_t replica;
        const char *address;
    } all[] = {{1, "10.0.0.1:10010"}, {2, "two.kelp.example:10010"}, {3, "[2001:db8::3]:10010"}};
    memset(&group, 0, sizeof group);
    group.self = 1;
    for (size_t i = 0; i < 3; i++) {
        struct member *member = members_add(&group, all[i].replica);
        member->configured = i < 2; /* the third is in a configuration file only */
        member->listed = true;
        snprintf(member->address, sizeof member->address, "%s", all[i].address);
    }
}

static bool may(const char *host, const char *allowed, const char *san)
{
    char message[JOIN_NAMES_MESSAGE_BYTES] = "";
    const struct join_names names = {
        .members = &group, .replica = 4, .host = host, .allowed = allowed};
    const bool yes = join_names_allow(&names, san, message);
    assert_int_equal(yes, message[0] == '\0');
    return yes;
}

/* Claim: it may be for the host of its own address and for its own machine, and for nothing else unless the token
 * says so; for nothing of another replica, however that is spelled, not even by claiming its host for an address. */
static void test_only_its_own_names(void **state)
{
    (void)state;
    group_open();
    assert_true(may("10.0.0.4", "", "10.0.0.4"));
    assert_true(may("four.example", "", "FOUR.example"));
    assert_true(may("10.0.0.4", "", "127.0.0.1"));
    assert_true(may("10.0.0.4", "", "::1"));
    assert_true(may("10.0.0.4", "", "localhost"));
    assert_false(may("10.0.0.4", "", "10.0.0.5"));
    assert_false(may("10.0.0.4", "", "api.example"));
    assert_false(may("10.0.0.4", "", "*.example"));
    assert_false(may("10.0.0.4", "", ""));
    assert_false(may("*.kelp.example", "", "*.kelp.example")); /* two.kelp.example is among them */
    assert_false(may("*.other.example", "", "*.other.example"));
    assert_false(may("four.kelp.example", "", "*.kelp.example"));

    static const char *const others[] = {"10.0.0.1", "two.kelp.example", "Two.Kelp.Example",
                                         "2001:db8::3", "2001:db8:0:0::3"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        assert_false(may("10.0.0.4", "", others[i]));
        assert_false(may(others[i], "", others[i]));
        assert_true(may("10.0.0.4", others[i], others[i]));
    }
}

/* Claim: what the token allows is a list of whole names. */
static void test_the_token_names_whole_names(void **state)
{
    (void)state;
    group_open();
    const char *allowed = "api.example,10.0.0.9,*.pods.example";
    assert_true(may("10.0.0.4", allowed, "api.example"));
    assert_true(may("10.0.0.4", allowed, "10.0.0.9"));
    assert_true(may("10.0.0.4", allowed, "*.pods.example"));
    assert_false(may("10.0.0.4", allowed, "a.pods.example"));
    assert_false(may("10.0.0.4", allowed, "api.example,10.0.0.9"));
    assert_false(may("10.0.0.4", allowed, "example"));
    assert_false(may("10.0.0.4", allowed, "10.0.0.1"));
}

/* Claim: one that joins again under its own number is not in its own way. */
static void test_its_own_number_is_not_another(void **state)
{
    (void)state;
    char message[JOIN_NAMES_MESSAGE_BYTES];
    group_open();
    const struct join_names names = {
        .members = &group, .replica = 2, .host = "two.kelp.example", .allowed = ""};
    assert_true(join_names_allow(&names, "two.kelp.example", message));
    assert_false(join_names_allow(&names, "10.0.0.1", message));
    assert_non_null(strstr(message, "replica 1"));
    assert_non_null(strstr(message, "kelp token create --san 10.0.0.1"));
}

/* Claim: a member that is dialed by a wildcard is all of these names. */
static void test_a_wildcard_of_a_member_is_all_its_names(void **state)
{
    (void)state;
    group_open();
    snprintf(members_find(&group, 2)->address, sizeof group.all[0].address, "*.kelp.example:10010");
    assert_false(may("four.kelp.example", "", "four.kelp.example"));
    assert_true(may("four.pods.kelp.example", "", "four.pods.kelp.example"));
    assert_true(may("four.example", "", "four.example"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_its_own_names),
        cmocka_unit_test(test_the_token_names_whole_names),
        cmocka_unit_test(test_its_own_number_is_not_another),
        cmocka_unit_test(test_a_wildcard_of_a_member_is_all_its_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
