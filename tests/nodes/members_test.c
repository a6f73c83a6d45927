/* members.h: how members are, and which changes of the group are made, one step at a time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "nodes/cloud/members.h"

#define NOW 100000u

/* A group of voters 1 .. `voters`, all heard a moment ago; 1 leads. */
static void group_make(struct members *members, uint32_t voters)
{
    static const char *const addresses[] = {"a:1", "b:1", "c:1", "d:1", "e:1", "f:1", "g:1"};
    struct replica_member now[LIMIT_REPLICAS];
    *members = (struct members){.self = 1};
    for (uint32_t i = 0; i < voters; i++) {
        now[i] =
            (struct replica_member){.id = i + 1, .address = addresses[i], .role = REPLICA_VOTER};
    }
    members_configure(members, now, voters);
    for (uint32_t i = 0; i < voters; i++) {
        const struct peer_status status = {.replica = i + 1,
                                           .software = "x",
                                           .term = 1,
                                           .leader = 1,
                                           .last = 50,
                                           .commit = 50,
                                           .applied = 50};
        members_heard(members, &status, NOW, NOW);
    }
}

static struct member *member_of(struct members *members, uint64_t replica)
{
    struct member *member = members_find(members, replica);
    assert_non_null(member);
    return member;
}

static void silence(struct members *members, uint64_t replica)
{
    member_of(members, replica)->heard_ms = NOW - MEMBERS_ALIVE_MS;
}

static enum member_step step(const struct members *members, enum member_operation operation,
                             uint64_t replica, const char *address, char *message)
{
    uint64_t to;
    /* asked long ago: who is silent is silent */
    return members_step(members, operation, replica, address, NOW - MEMBERS_ALIVE_MS, NOW, &to,
                        message);
}

/* Claim: a replica goes from nothing to voter by spare and standby, never faster; each goal that is reached
 * is answered as done, so asking twice changes nothing. It counts as well only with what the others have.
 * Method: the steps are carried out on the table as raft would. */
static void test_a_replica_comes_in_steps(void **state)
{
    (void)state;
    struct members members;
    char message[MEMBERS_MESSAGE_BYTES];
    group_make(&members, 3);
    assert_int_equal(step(&members, MEMBER_PROMOTE, 4, "", message), MEMBER_REFUSED);
    assert_int_equal(step(&members, MEMBER_ADD, 4, "d:1", message), MEMBER_STEP_ADD);
    struct replica_member now[4] = {{1, "a:1", REPLICA_VOTER},
                                    {2, "b:1", REPLICA_VOTER},
                                    {3, "c:1", REPLICA_VOTER},
                                    {4, "d:1", REPLICA_SPARE}};
    members_configure(&members, now, 4);
    assert_int_equal(step(&members, MEMBER_ADD, 4, "d:1", message), MEMBER_STEP_STANDBY);
    assert_int_equal(step(&members, MEMBER_PROMOTE, 4, "", message), MEMBER_STEP_STANDBY);
    now[3].role = REPLICA_STANDBY;
    members_configure(&members, now, 4);
    assert_int_equal(step(&members, MEMBER_ADD, 4, "d:1", message), MEMBER_DONE);
    assert_int_equal(step(&members, MEMBER_ADD, 4, "elsewhere:1", message), MEMBER_REFUSED);
    assert_int_equal(step(&members, MEMBER_ADD, 5, "d:1", message), MEMBER_REFUSED);

    assert_int_equal(step(&members, MEMBER_PROMOTE, 4, "", message),
                     MEMBER_LATER); /* never heard */
    struct peer_status status = {.replica = 4, .software = "x", .standing = STANDING_WAITING};
    members_heard(&members, &status, NOW, NOW);
    assert_int_equal(step(&members, MEMBER_PROMOTE, 4, "", message), MEMBER_LATER);
    status.standing = STANDING_MEMBER;
    members_heard(&members, &status, NOW, NOW);
    assert_int_equal(step(&members, MEMBER_PROMOTE, 4, "", message),
                     MEMBER_LATER); /* has nothing */
    status.standing = STANDING_BEHIND;
    status.percent = 40;
    members_heard(&members, &status, NOW, NOW);
    assert_int_equal(step(&members, MEMBER_PROMOTE, 4, "", message), MEMBER_LATER);
    assert_non_null(strstr(message, "40 %"));
    status.standing = STANDING_MEMBER;
    status.applied = 1;
    member_of(&members, 1)->status.commit = 2 + MEMBERS_LAG_MAX;
    members_heard(&members, &status, NOW, NOW);
    assert_int_equal(step(&members, MEMBER_PROMOTE, 4, "", message), MEMBER_LATER);
    assert_non_null(strstr(message, "1001"));
    status.applied = 2;
    members_heard(&members, &status, NOW, NOW);
    assert_int_equal(step(&members, MEMBER_PROMOTE, 4, "", message), MEMBER_STEP_VOTER);
    now[3].role = REPLICA_VOTER;
    members_configure(&members, now, 4);
    assert_int_equal(members_voters_well(&members, NOW), 4);
    member_of(&members, 4)->status.standing = STANDING_BEHIND;
    assert_int_equal(members_voters_well(&members, NOW), 3);
    assert_int_equal(step(&members, MEMBER_PROMOTE, 4, "", message), MEMBER_DONE);
    assert_int_equal(step(&members, MEMBER_DEMOTE, 4, "", message), MEMBER_STEP_STANDBY);
}

/* Claim: a voter goes exactly when a majority of those that stay answers; of several, none is the last one.
 * Method: every size of group, every set of silent voters, every voter, both ways of going, against the
 * one-line rule. */
static void test_quorum_is_never_given_away(void **state)
{
    (void)state;
    char message[MEMBERS_MESSAGE_BYTES];
    for (uint32_t voters = 1; voters <= LIMIT_REPLICAS; voters++) {
        for (uint32_t silent = 0; silent < 1u << voters; silent += 2) { /* 1 leads, so it answers */
            struct members members;
            group_make(&members, voters);
            for (uint32_t i = 1; i < voters; i++) {
                if ((silent >> i & 1) != 0) {
                    silence(&members, i + 1);
                }
            }
            assert_int_equal(members_voters_well(&members, NOW),
                             voters - (uint32_t)__builtin_popcount(silent));
            for (uint32_t i = 1; i < voters; i++) {
                uint32_t answering = 0;
                for (uint32_t k = 0; k < voters; k++) {
                    answering += k != i && (silent >> k & 1) == 0;
                }
                const bool may = answering > (voters - 1) / 2;
                assert_int_equal(step(&members, MEMBER_REMOVE, i + 1, "", message),
                                 may ? MEMBER_STEP_REMOVE : MEMBER_REFUSED);
                assert_int_equal(step(&members, MEMBER_DEMOTE, i + 1, "", message),
                                 may ? MEMBER_STEP_STANDBY : MEMBER_REFUSED);
            }
        }
    }
    struct members one;
    group_make(&one, 1);
    assert_int_equal(step(&one, MEMBER_REMOVE, 1, "", message), MEMBER_REFUSED);
    assert_int_equal(step(&one, MEMBER_REMOVE, 9, "", message), MEMBER_DONE);
}

/* Claim: who was heard before a removal was asked for may have died since, and does not count; it is waited
 * for as long as it may only be late. */
static void test_the_dead_are_noticed_first(void **state)
{
    (void)state;
    struct members members;
    char message[MEMBERS_MESSAGE_BYTES];
    uint64_t to;
    group_make(&members, 3);
    const uint64_t asked = NOW + 100;
    assert_int_equal(members_step(&members, MEMBER_REMOVE, 2, "", asked, asked, &to, message),
                     MEMBER_LISTEN);
    const uint64_t late = asked + MEMBERS_ALIVE_MS;
    struct peer_status status = {.replica = 1, .software = "x", .commit = 50, .applied = 50};
    members_heard(&members, &status, late, 0);
    assert_int_equal(members_step(&members, MEMBER_REMOVE, 2, "", asked, late, &to, message),
                     MEMBER_REFUSED);
    status.replica = 3;
    members_heard(&members, &status, asked + 1, 0);
    assert_int_equal(members_step(&members, MEMBER_REMOVE, 2, "", asked, asked + 2, &to, message),
                     MEMBER_STEP_REMOVE);
    /* one that stays and has lost its data does not count either */
    member_of(&members, 3)->stranger = true;
    assert_int_equal(members_step(&members, MEMBER_REMOVE, 2, "", asked, late, &to, message),
                     MEMBER_REFUSED);
    /* nor does one whose links have closed, until there is one again, or a word */
    member_of(&members, 3)->stranger = false;
    members_cut(&members, 3, true);
    assert_int_equal(members_state(member_of(&members, 3), asked + 2), MEMBER_UNREACHABLE);
    assert_int_equal(members_step(&members, MEMBER_REMOVE, 2, "", asked, late, &to, message),
                     MEMBER_REFUSED);
    members_cut(&members, 3, false);
    assert_int_equal(members_state(member_of(&members, 3), asked + 2), MEMBER_OK);
    members_cut(&members, 3, true);
    status.replica = 3;
    members_heard(&members, &status, asked + 2, 0);
    assert_int_equal(members_state(member_of(&members, 3), asked + 2), MEMBER_OK);
    member_of(&members, 3)->stranger = true;
    /* but itself may go */
    status.replica = 2;
    members_heard(&members, &status, late, 0);
    assert_int_equal(members_step(&members, MEMBER_REMOVE, 3, "", asked, late, &to, message),
                     MEMBER_STEP_REMOVE);
}

/* Claim: a leader that is to go hands over first, to one that answers, has room and is furthest; a transfer
 * goes to a voter that is well and to nobody else. */
static void test_a_leader_hands_over_first(void **state)
{
    (void)state;
    struct members members;
    char message[MEMBERS_MESSAGE_BYTES];
    uint64_t to = 0;
    group_make(&members, 3);
    member_of(&members, 3)->status.last = 51;
    assert_int_equal(members_step(&members, MEMBER_REMOVE, 1, "", NOW, NOW, &to, message),
                     MEMBER_STEP_TRANSFER);
    assert_int_equal(to, 3);
    member_of(&members, 3)->status.space = 1;
    assert_int_equal(members_step(&members, MEMBER_DEMOTE, 1, "", NOW, NOW, &to, message),
                     MEMBER_STEP_TRANSFER);
    assert_int_equal(to, 2);
    assert_int_equal(members_step(&members, MEMBER_TRANSFER, 3, "", NOW, NOW, &to, message),
                     MEMBER_LATER);
    assert_int_equal(members_step(&members, MEMBER_TRANSFER, 1, "", NOW, NOW, &to, message),
                     MEMBER_DONE);
    assert_int_equal(members_step(&members, MEMBER_TRANSFER, 7, "", NOW, NOW, &to, message),
                     MEMBER_REFUSED);
    member_of(&members, 2)->role = REPLICA_STANDBY;
    assert_int_equal(members_step(&members, MEMBER_TRANSFER, 2, "", NOW, NOW, &to, message),
                     MEMBER_REFUSED);
    assert_int_equal(members_step(&members, MEMBER_REMOVE, 1, "", NOW, NOW, &to, message),
                     MEMBER_LATER); /* nobody is left who could lead */
    assert_int_equal(members_successor(&members, 1, NOW), 0);
}

/* Claim: what raft carries behind an address is the epoch of the membership, and is shown to nobody. */
static void test_an_address_carries_an_epoch(void **state)
{
    (void)state;
    struct members members = {.self = 1};
    const struct replica_member now[] = {{1, "a:1", REPLICA_VOTER}, {2, "b:1#130", REPLICA_VOTER}};
    members_configure(&members, now, 2);
    assert_int_equal(member_of(&members, 1)->epoch, 0);
    assert_int_equal(member_of(&members, 2)->epoch, 130);
    assert_string_equal(member_of(&members, 2)->address, "b:1");
}

/* Claim: the table never holds more than it may, never loses a member of the group or of the file, and
 * forgets guests. */
static void test_guests_make_room(void **state)
{
    (void)state;
    struct members members = {.self = 1};
    members_add(&members, 1)->listed = true;
    for (uint64_t guest = 100; guest < 200; guest++) {
        struct member *member = members_add(&members, guest);
        assert_true((member != NULL) == (guest < 100 + LIMIT_MEMBERS - 1));
        if (member != NULL) {
            member->met_ms = NOW;
        }
    }
    const struct replica_member now[] = {
        {1, "a:1", REPLICA_VOTER}, {2, "b:1", REPLICA_VOTER}, {3, "c:1", REPLICA_SPARE}};
    members_configure(&members, now, 3);
    assert_int_equal(members.count, LIMIT_MEMBERS);
    for (uint32_t i = 1; i < members.count; i++) {
        assert_true(members.all[i - 1].replica < members.all[i].replica);
    }
    assert_true(member_of(&members, 3)->configured);
    members_expire(&members, NOW + MEMBERS_ALIVE_MS - 1);
    assert_int_equal(members.count, LIMIT_MEMBERS);
    members_expire(&members, NOW + MEMBERS_ALIVE_MS);
    assert_int_equal(members.count, 3);
    for (uint32_t i = 1; i < MEMBER_OPERATIONS; i++) {
        assert_int_equal(members_operation_parse(members_operation_text((enum member_operation)i)),
                         i);
    }
    assert_int_equal(members_operation_parse("destroy"), 0);
}

/* Claim: guests that greet under ever more numbers keep nobody out: one that comes takes the place of a foreign one,
 * else of the one that greeted longest ago; members and those of the file stay, whatever comes. */
static void test_no_guest_holds_a_place(void **state)
{
    (void)state;
    struct members members;
    group_make(&members, 3);
    members_add(&members, 9)->listed = true;
    for (uint64_t i = 0; i < 1000; i++) {
        struct member *guest = members_welcome(&members, 1000 + i);
        assert_non_null(guest);
        guest->met_ms = NOW + i;
        guest->foreign = i == 995;
    }
    assert_int_equal(members.count, LIMIT_MEMBERS);
    assert_true(member_of(&members, 2)->configured);
    assert_true(member_of(&members, 9)->listed);
    assert_null(members_find(&members, 1000 + 1000 - LIMIT_MEMBERS));
    assert_non_null(members_welcome(&members, 5000));
    assert_null(members_find(&members, 1995)); /* the foreign one, though not the oldest */
    assert_non_null(members_find(&members, 1994));

    for (uint32_t i = 0; i < members.count; i++) {
        members.all[i].listed = true;
    }
    assert_null(members_welcome(&members, 6000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_replica_comes_in_steps),
        cmocka_unit_test(test_quorum_is_never_given_away),
        cmocka_unit_test(test_the_dead_are_noticed_first),
        cmocka_unit_test(test_a_leader_hands_over_first),
        cmocka_unit_test(test_an_address_carries_an_epoch),
        cmocka_unit_test(test_guests_make_room),
        cmocka_unit_test(test_no_guest_holds_a_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
