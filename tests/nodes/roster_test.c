/* roster.h: a data directory that is gone never comes back as another one under the same number. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "nodes/cloud/roster.h"
#include "schemas/status.h"

/* Claim: what is durable is read back as it was; anything else is refused, whatever it is.
 * Method: every cut, and every byte changed, of a file with some and with all it can hold. */
static void test_the_file_is_read_back(void **state)
{
    (void)state;
    const uint64_t others[] = {2, 3};
    for (uint32_t count = 0; count <= LIMIT_MEMBERS; count += LIMIT_MEMBERS / 2) {
        struct roster roster;
        uint8_t file[ROSTER_BYTES];
        roster_init(&roster, 77, others, 2);
        roster.active = count > 0;
        roster.founds = count > LIMIT_MEMBERS / 2;
        for (uint32_t i = 0; i < count; i++) {
            assert_int_equal(roster_meet(&roster, i + 2, 1000 + i, i), ROSTER_NEW);
        }
        const size_t size = roster_encode(&roster, file);
        struct roster read;
        roster_init(&read, 5, others, 2);
        assert_int_equal(roster_decode(&read, bytes_of(file, size)), 0);
        assert_int_equal(read.incarnation, 77);
        assert_int_equal(read.active, roster.active);
        assert_int_equal(read.founds, roster.founds);
        for (uint32_t i = 0; i < count; i++) {
            assert_int_equal(roster_known(&read, i + 2, i), 1000 + i);
        }
        for (size_t cut = 0; cut < size; cut++) {
            roster_init(&read, 5, others, 2);
            assert_int_equal(roster_decode(&read, bytes_of(file, cut)), STATUS_CORRUPT);
            assert_int_equal(read.incarnation, 5);
        }
        file[0]++;
        assert_int_equal(roster_decode(&read, bytes_of(file, size)), STATUS_FOREIGN);
    }
}

/* Claim: the first that is met under a number is the one until it is forgotten. */
static void test_the_first_one_counts(void **state)
{
    (void)state;
    struct roster roster;
    roster_init(&roster, 1, NULL, 0);
    assert_int_equal(roster_place(&roster), ROSTER_TAKES_PART); /* alone */
    assert_int_equal(roster_meet(&roster, 2, 10, 0), ROSTER_NEW);
    assert_int_equal(roster_meet(&roster, 2, 10, 0), ROSTER_KNOWN);
    assert_int_equal(roster_meet(&roster, 2, 11, 0), ROSTER_STRANGER);
    assert_int_equal(roster_known(&roster, 2, 0), 10);
    assert_true(roster_forget(&roster, 2));
    assert_false(roster_forget(&roster, 2));
    assert_int_equal(roster_meet(&roster, 2, 11, 0), ROSTER_NEW);
    for (uint64_t i = 3; roster.known_count < LIMIT_MEMBERS; i++) {
        assert_int_equal(roster_meet(&roster, i, 1, 0), ROSTER_NEW);
    }
    assert_int_equal(roster_meet(&roster, 1000, 1, 0), ROSTER_FULL);
}

/* Claim: a number that was added anew is met anew, and who still knows it from before neither stops the new one nor
 * brings the old one back. */
static void test_a_new_membership_is_another(void **state)
{
    (void)state;
    const uint64_t others[] = {1, 3, 4};
    struct roster roster;
    roster_init(&roster, 1, others, 3);
    assert_int_equal(roster_meet(&roster, 3, 10, 0), ROSTER_NEW);
    assert_int_equal(roster_meet(&roster, 3, 11, 0), ROSTER_STRANGER);
    assert_int_equal(roster_meet(&roster, 3, 11, 50), ROSTER_NEW);
    assert_int_equal(roster_meet(&roster, 3, 10, 50), ROSTER_STRANGER);
    assert_int_equal(roster_meet(&roster, 3, 10, 0), ROSTER_STRANGER); /* an older configuration */
    assert_int_equal(roster.known_count, 1);

    roster_told(&roster, 1, 77, 0); /* another one, in a membership before ours */
    assert_int_equal(roster_place(&roster), ROSTER_LOST);
    roster_told(&roster, 3, 1, 50);
    assert_int_equal(roster_place(&roster), ROSTER_WAITS);
    roster_told(&roster, 4, 1, 50);
    assert_int_equal(roster_place(&roster), ROSTER_MAY);
    roster_told(&roster, 1, 77, 50); /* in ours */
    assert_int_equal(roster_place(&roster), ROSTER_LOST);
}

/* One process of the world below. */
struct node {
    struct roster roster;
    bool up;
    bool took_part; /* this incarnation has voted, perhaps */
};

static void node_new(struct node *node, uint32_t number, uint32_t count, uint64_t incarnation)
{
    uint64_t others[LIMIT_REPLICAS];
    uint32_t other_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (i != number) {
            others[other_count] = i + 1;
            other_count++;
        }
    }
    roster_init(&node->roster, incarnation, others, other_count);
    node->took_part = false;
}

/* A greeting from one to another, as core_greeting.c takes it. */
static void greet(struct node *nodes, uint32_t from, uint32_t to)
{
    (void)roster_meet(&nodes[to].roster, from + 1, nodes[from].roster.incarnation, 0);
    roster_told(&nodes[to].roster, from + 1, roster_known(&nodes[from].roster, to + 1, 0), 0);
    if (roster_place(&nodes[to].roster) == ROSTER_MAY) {
        nodes[to].roster.active = true;
    }
    nodes[to].took_part = nodes[to].took_part || nodes[to].roster.active;
}

/* Claim: as long as a minority loses its data, no two data directories ever take part under one number;
 * and a group of which all meet is founded.
 * Method: seeded random worlds of 2 to 7: greetings between any two that are up, in any order, with
 * processes that stop, come back, and now and then with an empty disk. `took_part` of a lost incarnation is
 * remembered per number. */
static void test_one_data_directory_a_number(void **state)
{
    (void)state;
    const char *seed_text = getenv("SEED");
    const unsigned seed = seed_text == NULL ? 1 : (unsigned)strtoul(seed_text, NULL, 10);
    uint32_t lost_after_part = 0;
    for (unsigned world = 0; world < 3000; world++) {
        uint64_t chance = (seed * 1000003u + world) * UINT64_C(0x9e3779b97f4a7c15) + 1;
#define ROLL(n)                                                                                    \
    ((uint32_t)((chance = chance * 6364136223846793005u + 1442695040888963407u) >> 33) % (n))
        const uint32_t count = 2 + ROLL(6);
        struct node nodes[LIMIT_REPLICAS] = {0};
        bool part_before[LIMIT_REPLICAS] = {
            false}; /* an earlier incarnation of the number took part */
        uint32_t lost = 0;
        uint64_t incarnation = 1;
        for (uint32_t i = 0; i < count; i++) {
            node_new(&nodes[i], i, count, incarnation++);
            nodes[i].up = true;
        }
        for (uint32_t turn = 0; turn < 400; turn++) {
            const uint32_t a = ROLL(count);
            const uint32_t b = ROLL(count);
            switch (ROLL(24)) {
            case 0:
                nodes[a].up = !nodes[a].up;
                nodes[a].roster.word_count = 0; /* a new life */
                break;
            case 1:
                if (lost < (count - 1) / 2 && turn > 40) { /* when they have met */
                    lost++;
                    part_before[a] = part_before[a] || nodes[a].took_part;
                    lost_after_part += nodes[a].took_part;
                    node_new(&nodes[a], a, count, incarnation++);
                }
                break;
            default:
                if (a != b && nodes[a].up && nodes[b].up) {
                    greet(nodes, a, b);
                }
                break;
            }
            for (uint32_t i = 0; i < count; i++) {
                assert_false(part_before[i] && nodes[i].took_part);
            }
        }
        if (lost == 0) {
            for (uint32_t round = 0; round < 3; round++) {
                for (uint32_t i = 0; i < count * count; i++) {
                    if (i / count != i % count) {
                        greet(nodes, i / count, i % count);
                    }
                }
            }
            for (uint32_t i = 0; i < count; i++) {
                assert_true(nodes[i].roster.active);
            }
        }
#undef ROLL
    }
    assert_true(lost_after_part > 100); /* the worlds were worth it */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_file_is_read_back),
        cmocka_unit_test(test_the_first_one_counts),
        cmocka_unit_test(test_a_new_membership_is_another),
        cmocka_unit_test(test_one_data_directory_a_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
