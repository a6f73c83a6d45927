/* Tables in memory and the history in them, each against the simplest thing that does the same. SEED=N repeats one run. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "schemas/check.h"
#include "statemachine/hash.h"
#include "statemachine/history.h"

#define KEYS     200u
#define OBJECTS  8u
#define VERSIONS 3000u

static uint64_t state = 1;

static uint64_t chance(uint64_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state % below;
}

static uint64_t seed_first(void)
{
    const char *seed = getenv("SEED");
    return seed == NULL ? 0 : strtoull(seed, NULL, 10);
}

static void seed_take(uint64_t seed)
{
    state = (seed + 1) * 0x9e3779b97f4a7c15u;
    print_message("SEED=%" PRIu64 "\n", seed);
}

/* -- tables -------------------------------------------------------------------------------------- */

struct item {
    char key[16];
    bool in;
};

static struct bytes item_key(const void *item)
{
    return bytes_text(((const struct item *)item)->key);
}

/* Claim: a table holds what was put and not removed, however many keys meet in few places.
 * Method: two items of each key take turns; hashes are chosen so that they collide; an array says what must be found. */
static void test_a_table_finds_what_was_put(void **unused)
{
    (void)unused;
    static struct item items[KEYS][2];
    for (uint64_t seed = seed_first(); seed < seed_first() + 40; seed++) {
        seed_take(seed);
        struct hash_table table = {0};
        struct item *model[KEYS] = {0};
        uint64_t count = 0;
        const uint64_t places = 1 + chance(100);
        for (uint32_t step = 0; step < 3000; step++) {
            const uint32_t k = (uint32_t)chance(KEYS);
            const uint64_t hash = k % places;
            struct item *item = &items[k][model[k] == &items[k][0]];
            snprintf(item->key, sizeof item->key, "k%u", k);
            const struct bytes key = bytes_text(item->key);
            switch (chance(3)) {
            case 0:
                assert_ptr_equal(hash_table_put(&table, hash, key, item, item_key), model[k]);
                count += model[k] == NULL;
                model[k] = item;
                break;
            case 1:
                assert_ptr_equal(hash_table_remove(&table, hash, key, item_key), model[k]);
                count -= model[k] != NULL;
                model[k] = NULL;
                break;
            default:
                assert_ptr_equal(hash_table_find(&table, hash, key, item_key), model[k]);
                break;
            }
            assert_int_equal(table.count, count);
            if (chance(1000) == 0) {
                hash_table_clear(&table, chance(2) == 0);
                memset(model, 0, sizeof model);
                count = 0;
            }
        }
        hash_table_clear(&table, false);
        hash_table_clear(&table, true);
        hash_table_clear(&table, true); /* an empty one, too */
        hash_table_clear(&table, false);
        assert_null(table.slots);
    }
}

/* -- history ------------------------------------------------------------------------------------- */

struct told {
    uint32_t object; /* OBJECTS: an event */
    uint32_t parts;
};

static struct bytes before_of(char *memory, size_t size, uint64_t version, unsigned part)
{
    snprintf(memory, size, "%" PRIu64 ".%u", version, part);
    return bytes_text(memory);
}

static void add(struct history *history, struct told *told, uint64_t version, uint64_t bytes_max)
{
    char name[8];
    char memory[PARTS][32];
    struct bytes before[PARTS];
    *told =
        (struct told){.object = (uint32_t)chance(OBJECTS + 1), .parts = 1 + (uint32_t)chance(7)};
    const bool event = told->object == OBJECTS;
    snprintf(name, sizeof name, "o%u", told->object);
    for (unsigned i = 0; i < PARTS; i++) {
        before[i] = before_of(memory[i], sizeof memory[i], version, i);
    }
    told->parts = event ? 0 : told->parts;
    history_add(history, version, event ? CHANGE_EVENT : CHANGE_MODIFIED,
                event ? (struct bytes){0} : bytes_text(name), told->parts, before, bytes_max);
}

/* One entry is as it was added, and what comes after it is what a look at all that follow finds. */
static void check_entry(const struct history *history, const struct told *told, uint64_t version)
{
    const struct history_entry *entry = history_at(history, version);
    assert_int_equal(entry->version, version);
    assert_int_equal(entry->parts, told[version].parts);
    for (unsigned i = 0; i < PARTS && told[version].object < OBJECTS; i++) {
        uint64_t next = version + 1;
        while (next <= history_newest(history) &&
               (told[next].object != told[version].object || (told[next].parts & (1u << i)) == 0)) {
            next++;
        }
        const struct history_entry *later = history_later(history, entry, (enum part)i);
        if (next > history_newest(history)) {
            assert_null(later);
        } else {
            char memory[32];
            assert_non_null(later);
            assert_int_equal(later->version, next);
            assert_true(bytes_equal(later->before[i], before_of(memory, sizeof memory, next, i)));
        }
    }
}

/* Claim: whatever is added, committed, abandoned, trimmed and forgotten, each entry that is held leads to the next change
 * of each part of its object.
 * Method: batches of a few changes under bounds that come and go; a list of all that was ever told is the model. */
static void test_the_history_is_that_of_a_list(void **unused)
{
    (void)unused;
    static struct told told[VERSIONS + 64];
    for (uint64_t seed = seed_first(); seed < seed_first() + 20; seed++) {
        seed_take(seed);
        struct history *history = history_create();
        uint64_t bound = 1u << 20;
        uint64_t version = chance(10);
        history_forget(history, version);
        while (version < VERSIONS) {
            const uint64_t floor = history_floor(history);
            const uint64_t count = 1 + chance(12);
            bound = chance(100) == 0 ? chance(2) == 0 ? 1u << 20 : 2000 + chance(100000) : bound;
            for (uint64_t i = 1; i <= count; i++) {
                add(history, &told[version + i], version + i, bound);
            }
            assert_int_equal(history_newest(history), version); /* not yet */
            assert_int_equal(history_floor(history), floor);
            if (chance(8) == 0) {
                history_abandon(history);
                assert_int_equal(history_newest(history), version);
                continue;
            }
            history_commit(history, bound);
            version += count;
            assert_int_equal(history_newest(history), version);
            assert_true(history_bytes(history) <= bound);
            if (chance(200) == 0) {
                version += chance(5);
                history_forget(history, version);
            }
            assert_int_equal(history_bytes(history) == 0,
                             history_floor(history) == history_newest(history));
            for (uint32_t i = 0; i < 4 && history_floor(history) < version; i++) {
                check_entry(history, told,
                            history_floor(history) + 1 + chance(version - history_floor(history)));
            }
        }
        history_destroy(history);
    }
}

/* Claim: one late change of another part costs who reads an object that changed ten thousand times no walk over all of them.
 * Method: so many reads as a walk would make impossible within the test's time: 10^10 steps. */
static void test_a_part_is_found_from_either_end(void **unused)
{
    (void)unused;
    const uint64_t changes = 100000;
    struct history *history = history_create();
    const struct bytes before[PARTS] = {0};
    for (uint64_t version = 1; version <= changes; version++) {
        const uint32_t parts = 1u << (version == changes ? PART_WISH : PART_FACT);
        history_add(history, version, CHANGE_MODIFIED, bytes_text("pod"), parts, before, 1u << 30);
        history_commit(history, 1u << 30);
    }
    for (uint64_t version = 1; version < changes; version++) {
        const struct history_entry *entry = history_at(history, version);
        assert_int_equal(history_later(history, entry, PART_WISH)->version, changes);
        assert_null(history_later(history, entry, PART_VERDICT));
    }
    history_destroy(history);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_table_finds_what_was_put),
        cmocka_unit_test(test_the_history_is_that_of_a_list),
        cmocka_unit_test(test_a_part_is_found_from_either_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
