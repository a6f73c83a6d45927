/* The contract of the store, the same claims on both bodies. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "schemas/check.h"
#include "statemachine/store.h"

/* One body under test: a disk that survives closing. */
struct body {
    bool rocks;
    enum store_profile profile;
    char directory[128];
    struct store_sim *sim;
    struct store *store;
};

static void body_open(struct body *body)
{
    if (body->rocks) {
        const struct store_options options = {
            .directory = body->directory, .profile = body->profile, .machine = "test", .format = 1};
        const int status = store_rocks_open(&options, &body->store);
        if (status != STATUS_OK) {
            print_error("open: %s\n", store_error(body->store));
        }
        assert_int_equal(status, STATUS_OK);
    } else {
        assert_int_equal(store_sim_open(body->sim, "test", 1, &body->store), STATUS_OK);
    }
    store_marks(body->store, UINT16_MAX);
}

static void body_close(struct body *body)
{
    store_close(body->store);
    body->store = NULL;
}

static int body_setup(void **state, bool rocks, enum store_profile profile)
{
    struct body *body = calloc(1, sizeof *body);
    CHECK(body != NULL);
    body->rocks = rocks;
    body->profile = profile;
    if (rocks) {
        (void)snprintf(body->directory, sizeof body->directory, "/tmp/kelp_store_test.XXXXXX");
        CHECK(mkdtemp(body->directory) != NULL);
    } else {
        body->sim = store_sim_create();
    }
    body_open(body);
    *state = body;
    return 0;
}

static int setup_rocks(void **state)
{
    return body_setup(state, true, STORE_EDGE);
}

static int setup_cloud(void **state)
{
    return body_setup(state, true, STORE_CLOUD);
}

static int setup_sim(void **state)
{
    return body_setup(state, false, STORE_EDGE);
}

static int teardown(void **state)
{
    struct body *body = *state;
    store_close(body->store);
    if (body->rocks) {
        (void)store_rocks_destroy(body->directory);
    }
    store_sim_destroy(body->sim);
    free(body);
    return 0;
}

static struct bytes t(const char *text)
{
    return bytes_text(text);
}

static void assert_row(struct store_reader *reader, unsigned table, const char *key,
                       const char *expected)
{
    struct bytes value;
    const int status = store_get(reader, table, t(key), &value);
    assert_int_equal(store_find(reader, table, t(key)), status);
    if (expected == NULL) {
        assert_int_equal(status, STORE_NONE);
        return;
    }
    assert_int_equal(status, STATUS_OK);
    assert_true(bytes_equal_text(value, expected));
    assert_int_equal((uintptr_t)value.data % 8, 0);
}

/* All keys an iterator passes, as text, forward or back. */
static const char *walk(struct store_reader *reader, unsigned table, const char *prefix, bool back)
{
    static char text[512];
    text[0] = '\0';
    struct store_iterator *iterator = store_iterate(reader, table, t(prefix));
    bool on = back ? store_iterator_last(iterator) : store_iterator_first(iterator);
    while (on) {
        const struct bytes key = store_iterator_key(iterator);
        (void)snprintf(text + strlen(text), sizeof text - strlen(text), "%.*s ", (int)key.size,
                       (const char *)key.data);
        on = back ? store_iterator_previous(iterator) : store_iterator_next(iterator);
    }
    assert_int_equal(store_iterator_status(iterator), STATUS_OK);
    store_iterator_close(iterator);
    return text;
}

/* Claim: a view shows the rows as they were when it was opened, before and after it becomes a snapshot: in the middle of a
 * walk, with rows in memory, opened within a batch, released at any time. */
static void test_views_hold_still(void **state)
{
    struct body *body = *state;
    struct store *store = body->store;
    store_cache(store, 1u << 1, 1u << 20);
    store_begin(store);
    store_put(store, 1, t("a"), t("1"));
    store_put(store, 1, t("b"), t("1"));
    store_put(store, 1, t("c"), t("1"));
    assert_int_equal(store_commit(store, 5), STATUS_OK);

    struct store_reader *first = store_view(store);
    struct store_reader *dropped = store_view(store);
    struct store_reader *last = store_view(store);
    assert_int_equal(store_snapshot_count(store), 3);
    assert_row(first, 1, "a", "1");
    struct store_iterator *walking = store_iterate(first, 1, t(""));
    assert_true(store_iterator_first(walking));
    store_snapshot_release(dropped);
    store_begin(store);
    store_put(store, 1, t("a"), t("2"));
    store_put(store, 1, t("aa"), t("2"));
    store_remove(store, 1, t("b"));
    assert_row(first, 1, "a", "1");
    assert_row(last, 1, "b", "1");
    struct store_reader *within = store_view(store);
    assert_row(within, 1, "a", "1");
    assert_int_equal(store_commit(store, 6), STATUS_OK);

    assert_row(within, 1, "a", "1");
    assert_row(last, 1, "aa", NULL);
    assert_string_equal(walk(last, 1, "", false), "a b c ");
    assert_true(store_iterator_next(walking));
    assert_true(bytes_equal(store_iterator_key(walking), t("b")));
    assert_true(store_iterator_next(walking));
    assert_true(bytes_equal(store_iterator_key(walking), t("c")));
    store_iterator_close(walking);
    assert_int_equal(store_reader_position(last), 5);
    struct store_reader *later = store_view(store);
    assert_int_equal(store_reader_position(later), 6);
    assert_row(later, 1, "a", "2");
    store_snapshot_release(last);
    store_snapshot_release(first);
    store_snapshot_release(later);
    store_snapshot_release(within);
    assert_int_equal(store_snapshot_count(store), 0);
    store_cache(store, 0, 0);
}

/* Claim: a batch is seen by its own reads at once, by snapshots never, and by all after commit. */
static void test_batch_is_atomic_and_reads_its_own_writes(void **state)
{
    struct body *body = *state;
    struct store *store = body->store;
    struct store_reader *live = store_live(store);
    assert_int_equal(store_position(store), 0);

    store_begin(store);
    store_put(store, 1, t("a"), t("one"));
    store_put(store, 1, t("b"), t(""));
    store_put(store, 2, t("a"), t("other table"));
    assert_row(live, 1, "a", "one");
    assert_row(live, 1, "b", "");
    assert_row(live, 3, "a", NULL);
    struct store_reader *before = store_snapshot(store);
    assert_row(before, 1, "a", NULL);
    assert_int_equal(store_commit(store, 7), STATUS_OK);
    assert_int_equal(store_position(store), 7);
    assert_false(store_in_batch(store));

    assert_row(live, 1, "a", "one");
    assert_row(live, 2, "a", "other table");
    assert_row(before, 1, "a", NULL);
    assert_int_equal(store_reader_position(before), 0);
    struct store_reader *after = store_snapshot(store);
    assert_int_equal(store_reader_position(after), 7);

    store_begin(store);
    store_remove(store, 1, t("a"));
    store_put(store, 1, t("c"), t("three"));
    assert_row(live, 1, "a", NULL);
    assert_string_equal(walk(live, 1, "", false), "b c ");
    store_put(store, 1, t("a"), t("again"));
    assert_row(live, 1, "a", "again");
    store_abandon(store);
    assert_row(live, 1, "a", "one");
    assert_row(live, 1, "c", NULL);
    assert_int_equal(store_position(store), 7);

    store_begin(store);
    assert_int_equal(store_remove_prefix(store, 1, t("")), STATUS_OK);
    assert_int_equal(store_commit(store, 8), STATUS_OK);
    assert_row(live, 1, "a", NULL);
    assert_row(live, 2, "a", "other table");
    assert_row(after, 1, "a", "one");
    assert_string_equal(walk(after, 1, "", true), "b a ");
    store_snapshot_release(before);
    store_snapshot_release(after);
}

/* Claim: iterators stay inside their table and prefix, in both directions, whatever the bytes of
 * the keys, and lengths up to the limit are legal. */
static void test_iterators_keep_their_bounds(void **state)
{
    struct body *body = *state;
    struct store *store = body->store;
    struct store_reader *live = store_live(store);
    const char *keys[] = {"", "p", "p/", "p/a", "p/b", "p0", "q"};
    for (unsigned table = 4; table < 7; table++) {
        store_begin(store);
        for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
            store_put(store, table, t(keys[i]), t(keys[i]));
        }
        assert_int_equal(store_commit(store, table), STATUS_OK);
    }
    for (int round = 0; round < 2; round++) { /* from memory, then from files */
        assert_string_equal(walk(live, 5, "p/", false), "p/ p/a p/b ");
        assert_string_equal(walk(live, 5, "p/", true), "p/b p/a p/ ");
        assert_string_equal(walk(live, 5, "", false), " p p/ p/a p/b p0 q ");
        assert_string_equal(walk(live, 5, "", true), "q p0 p/b p/a p/ p  ");
        assert_string_equal(walk(live, 15, "", true), "");

        struct store_iterator *iterator = store_iterate(live, 5, t("p/"));
        assert_true(store_iterator_seek(iterator, t("a"))); /* before the prefix */
        assert_true(bytes_equal_text(store_iterator_key(iterator), "p/"));
        assert_false(store_iterator_previous(iterator));
        assert_false(store_iterator_seek(iterator, t("p/c")));
        assert_false(store_iterator_seek(iterator, t("q")));
        assert_true(store_iterator_seek_back(iterator, t("q"))); /* behind it */
        assert_true(bytes_equal_text(store_iterator_key(iterator), "p/b"));
        assert_true(bytes_equal_text(store_iterator_value(iterator), "p/b"));
        assert_false(store_iterator_next(iterator));
        assert_true(store_iterator_seek_back(iterator, t("p/aa")));
        assert_true(bytes_equal_text(store_iterator_key(iterator), "p/a"));
        assert_false(store_iterator_seek_back(iterator, t("p.")));
        assert_int_equal(store_iterator_status(iterator), STATUS_OK);
        store_iterator_close(iterator);
        assert_int_equal(store_flush(store), STATUS_OK);
    }

    uint8_t high[LIMIT_STORE_KEY_BYTES]; /* a prefix that has no successor of its own length */
    memset(high, 0xff, sizeof high);
    store_begin(store);
    store_put(store, 5, bytes_of(high, sizeof high), t("high"));
    store_put(store, 5, bytes_of(high, 1), t("low"));
    assert_int_equal(store_commit(store, 8), STATUS_OK);
    struct store_iterator *iterator = store_iterate(live, 5, bytes_of(high, 2));
    assert_true(store_iterator_first(iterator));
    assert_int_equal(store_iterator_key(iterator).size, sizeof high);
    assert_false(store_iterator_next(iterator));
    store_iterator_close(iterator);
    uint8_t longer[LIMIT_STORE_KEY_BYTES + 1] = {0};
    struct bytes value;
    assert_int_equal(store_get(live, 5, bytes_of(longer, sizeof longer), &value), STORE_NONE);
}

/* Claim: lent values stay until the reset, however many are asked for, and large ones too. */
static void test_lent_values_stay(void **state)
{
    struct body *body = *state;
    struct store *store = body->store;
    uint8_t *large = malloc(LIMIT_RECORD_BYTES);
    assert_non_null(large);
    memset(large, 0x5a, LIMIT_RECORD_BYTES);
    store_begin(store);
    for (unsigned i = 0; i < 200; i++) {
        store_put(store, 0, bytes_of(&i, sizeof i), bytes_of(large, i * 7));
    }
    store_put(store, 0, t("large"), bytes_of(large, LIMIT_RECORD_BYTES));
    assert_int_equal(store_commit(store, 1), STATUS_OK);

    struct bytes values[200];
    struct bytes value;
    for (unsigned i = 0; i < 200; i++) {
        assert_int_equal(store_get(store_live(store), 0, bytes_of(&i, sizeof i), &values[i]),
                         STATUS_OK);
    }
    assert_int_equal(store_get(store_live(store), 0, t("large"), &value), STATUS_OK);
    assert_int_equal(value.size, LIMIT_RECORD_BYTES);
    assert_memory_equal(value.data, large, LIMIT_RECORD_BYTES);
    for (unsigned i = 0; i < 200; i++) {
        assert_true(bytes_equal(values[i], bytes_of(large, i * 7)));
    }
    store_reader_reset(store_live(store));
    free(large);
}

/* -- property: both bodies and a stupid model agree ------------------------------------------- */

#define MODEL_TABLES 3u
#define MODEL_KEYS   48u
static_assert(MODEL_KEYS >= 3 * LIMIT_STORE_RANGE_ROWS, "ranges of many rows are removed too");
struct model {
    uint32_t rows[MODEL_TABLES][MODEL_KEYS]; /* 0: no such row */
    uint64_t position;
};

static uint32_t chance(uint64_t *seed, uint32_t below)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((*seed >> 33) % below);
}

/* Keys of different lengths, one a prefix of the other. */
static struct bytes model_key(char memory[static 8], uint32_t key)
{
    (void)snprintf(memory, 8, key % 2 == 0 ? "k%02u" : "k%02u/x", (unsigned)(key / 2));
    return bytes_text(memory);
}

static void assert_model(struct store_reader *reader, const struct model *model, bool deep)
{
    char memory[8];
    assert_int_equal(store_reader_position(reader), model->position);
    for (unsigned table = 0; table < MODEL_TABLES; table++) {
        struct store_iterator *iterator = store_iterate(reader, table, (struct bytes){0});
        bool on = store_iterator_first(iterator);
        for (uint32_t key = 0; key < MODEL_KEYS; key++) {
            const uint32_t expected = model->rows[table][key];
            if (deep) {
                struct bytes value;
                const int status = store_get(reader, table, model_key(memory, key), &value);
                assert_int_equal(status, expected == 0 ? STORE_NONE : STATUS_OK);
                if (expected != 0) {
                    assert_int_equal(get_le32(value.data), expected);
                }
            }
            if (expected != 0) {
                assert_true(on);
                assert_true(bytes_equal(store_iterator_key(iterator), model_key(memory, key)));
                assert_int_equal(get_le32(store_iterator_value(iterator).data), expected);
                on = store_iterator_next(iterator);
            }
        }
        assert_false(on);
        assert_int_equal(store_iterator_status(iterator), STATUS_OK);
        store_iterator_close(iterator);
    }
    store_reader_reset(reader);
}

/* One iterator goes to and fro while the batch changes under it. */
static void walk_and_change(struct store *store, struct model *model, uint64_t *seed,
                            uint32_t *next)
{
    char memory[8];
    const unsigned table = chance(seed, MODEL_TABLES);
    struct store_iterator *iterator = (chance(seed, 2) == 0 ? store_iterate : store_iterate_few)(
        store_live(store), table, (struct bytes){0});
    int64_t at = chance(seed, MODEL_KEYS);
    bool on = store_iterator_seek(iterator, model_key(memory, (uint32_t)at));
    while (at < MODEL_KEYS && model->rows[table][at] == 0) {
        at++;
    }
    for (uint32_t step = 0; step < 40 && on; step++) {
        assert_true(at >= 0 && at < MODEL_KEYS);
        assert_true(bytes_equal(store_iterator_key(iterator), model_key(memory, (uint32_t)at)));
        assert_int_equal(get_le32(store_iterator_value(iterator).data), model->rows[table][at]);
        const uint32_t read = chance(seed, MODEL_KEYS);
        struct bytes found;
        const int status = store_get(store_live(store), table, model_key(memory, read), &found);
        assert_int_equal(status == STATUS_OK ? get_le32(found.data) : 0, model->rows[table][read]);
        if (store_in_batch(store) && chance(seed, 3) == 0) {
            const uint32_t key = chance(seed, MODEL_KEYS);
            uint8_t value[4];
            if (chance(seed, 2) == 0) {
                store_remove(store, table, model_key(memory, key));
                model->rows[table][key] = 0;
            } else {
                put_le32(value, ++*next);
                store_put(store, table, model_key(memory, key), bytes_of(value, sizeof value));
                model->rows[table][key] = *next;
            }
        }
        const int direction = chance(seed, 2) == 0 ? 1 : -1;
        do {
            at += direction;
        } while (at >= 0 && at < MODEL_KEYS && model->rows[table][at] == 0);
        on = direction > 0 ? store_iterator_next(iterator) : store_iterator_previous(iterator);
        assert_int_equal(on, at >= 0 && at < MODEL_KEYS);
    }
    store_iterator_close(iterator);
}

/* Claim: a row that is added is there like any other, and one that is added and removed in one batch was never there,
 * for readers, iterators and the disk; put again in between it is still new. */
static void test_a_row_may_come_and_go_within_a_batch(void **state)
{
    struct body *body = *state;
    struct store *store = body->store;
    struct store_reader *live = store_live(store);
    store_begin(store);
    store_add(store, 1, t("1"), t("one"));
    store_add(store, 1, t("2"), t("two"));
    store_add(store, 1, t("3"), t("three"));
    store_put(store, 1, t("2"), t("again"));
    assert_row(live, 1, "2", "again");
    assert_string_equal(walk(live, 1, "", false), "1 2 3 ");
    const size_t most = store_batch_bytes(store);
    store_remove(store, 1, t("2"));
    store_remove(store, 1, t("3"));
    assert_row(live, 1, "2", NULL);
    assert_string_equal(walk(live, 1, "", true), "1 ");
    assert_true(store_batch_bytes(store) < most);
    assert_int_equal(store_batch_bytes(store), strlen("?1one")); /* no graves */
    store_add(store, 1, t("2"), t("new"));
    assert_int_equal(store_commit(store, 1), STATUS_OK);
    assert_string_equal(walk(live, 1, "", false), "1 2 ");

    store_begin(store);
    store_remove(store, 1, t("1")); /* not new any more: a grave */
    assert_true(store_batch_bytes(store) > 0);
    assert_int_equal(store_commit(store, 2), STATUS_OK);
    assert_string_equal(walk(live, 1, "", false), "2 ");
}

/* Claim: a range of many rows costs a batch no more than one of few, whatever the batch holds of it, and what is removed
 * with it is gone for the batch at once, for snapshots never, and for all after commit; rows may come again in it. */
static void test_a_range_of_many_rows_is_one_mark(void **state)
{
    enum { ROWS = 10 * LIMIT_STORE_RANGE_ROWS };
    struct body *body = *state;
    struct store *store = body->store;
    struct store_reader *live = store_live(store);
    char key[8];
    store_begin(store);
    for (unsigned i = 0; i < ROWS; i++) {
        (void)snprintf(key, sizeof key, "%03u", i);
        store_put(store, 1, t(key), t("below"));
    }
    assert_int_equal(store_commit(store, 1), STATUS_OK);
    assert_int_equal(store_flush(store), STATUS_OK);
    struct store_reader *before = store_snapshot(store);

    store_begin(store);
    store_put(store, 1, t("100"), t("of the batch"));
    store_put(store, 1, t("100x"), t("of the batch"));
    store_put(store, 1, t("9"), t("behind"));
    assert_int_equal(store_remove_range(store, 1, t("050"), t("150")), STATUS_OK);
    assert_int_equal(store_batch_bytes(store), strlen("?9behind") + strlen("?050?150"));
    assert_int_equal(store_remove_range(store, 1, t("003"), t("060")), STATUS_OK); /* meets it */
    /* Few: one by one. */
    assert_int_equal(store_remove_range(store, 1, t("149"), t("159")),
                     STATUS_OK);
    assert_int_equal(store_batch_bytes(store),
                     strlen("?9behind") + strlen("?003?150") + 9 * strlen("?150"));
    store_put(store, 1, t("070"), t("again"));
    for (int round = 0; round < 2; round++) {
        assert_string_equal(walk(live, 1, "0", false), "000 001 002 070 ");
        assert_string_equal(walk(live, 1, "0", true), "070 002 001 000 ");
        assert_string_equal(walk(live, 1, "", true), "9 159 070 002 001 000 ");
        assert_row(live, 1, "050", NULL);
        assert_row(live, 1, "100", NULL);
        assert_row(live, 1, "100x", NULL);
        assert_row(live, 1, "070", "again");
        assert_row(before, 1, "070", "below");
        assert_row(before, 1, "100", "below");
        assert_string_equal(walk(before, 1, "10", true),
                            "109 108 107 106 105 104 103 102 101 100 ");
        if (round == 0) {
            assert_int_equal(store_commit(store, 2), STATUS_OK);
        }
    }
    store_snapshot_release(before);
    assert_int_equal(store_flush(store), STATUS_OK);
    assert_string_equal(walk(live, 1, "", false), "000 001 002 070 159 9 ");
}

/* Claim: what was read is kept up to the bound that was given, rows that are not there too, and only until the batch ends. */
static void test_what_was_read_is_kept(void **state)
{
    struct body *body = *state;
    struct store *store = body->store;
    struct store_reader *live = store_live(store);
    store_begin(store);
    store_put(store, 1, t("a/1"), t("one"));
    store_put(store, 1, t("a/2"), t("two"));
    store_put(store, 1, t("b"), t("a longer one, which has no room beside the others"));
    assert_int_equal(store_commit(store, 1), STATUS_OK);

    store_keep(store, 40);
    store_begin(store);
    assert_row(live, 1, "b", "a longer one, which has no room beside the others");
    assert_int_equal(store_batch_bytes(store), 0);
    assert_row(live, 1, "a/3", NULL);
    const size_t kept = store_batch_bytes(store);
    assert_true(kept > 0);
    assert_row(live, 1, "a/3", NULL);
    assert_int_equal(store_batch_bytes(store), kept);
    for (int i = 0; i < 2; i++) {
        struct store_iterator *iterator = store_iterate_few(live, 1, t("a/"));
        assert_true(store_iterator_last(iterator));
        assert_true(bytes_equal_text(store_iterator_value(iterator), "two"));
        assert_true(store_iterator_previous(iterator));
        assert_false(store_iterator_previous(iterator));
        assert_int_equal(store_iterator_status(iterator), STATUS_OK);
        store_iterator_close(iterator);
    }
    assert_true(store_batch_bytes(store) > kept);
    store_put(store, 1, t("a/1"), t("uno"));
    assert_row(live, 1, "a/1", "uno");
    store_abandon(store);

    store_begin(store);
    assert_int_equal(store_batch_bytes(store), 0);
    assert_row(live, 1, "a/1", "one");
    store_abandon(store);
}

/* Claim: the memory of a store holds what it has of rows that were written or read, and is given back with them. */
static void test_what_is_cached_is_counted(void **state)
{
    struct body *body = *state;
    struct store *store = body->store;
    static uint64_t row[2048];
    store_cache(store, 1u << 1, 64u * 1024u);
    store_begin(store);
    store_put(store, 1, t("a"), bytes_of((uint8_t *)row, sizeof row));
    assert_int_equal(store_commit(store, 1), STATUS_OK);
    const uint64_t bytes = store_usage(store).memory_bytes;
    store_cache(store, 0, 0);
    assert_in_range(bytes - store_usage(store).memory_bytes, sizeof row, sizeof row + 256);
}

/* Claim: whatever is kept of what was read, and whatever the order of batches, flushes, snapshots,
 * reopenings and (in the simulator) crashes, the rows are those of a model of arrays.
 * Method: random steps on few keys, so that they collide; compared after every step. */
static void test_store_agrees_with_a_model(void **state)
{
    enum { SNAPSHOTS = 3, HISTORY = 4096 };
    struct body *body = *state;
    const uint32_t steps = body->rocks ? 2500 : 12000;
    struct model *history = calloc(HISTORY, sizeof *history);
    assert_non_null(history);
    uint64_t seed = 42;
    uint32_t next = 0;
    struct model now = {0};
    uint32_t commits = 1; /* history[0] is the empty state */
    uint64_t flushed = 0;
    struct store_reader *snapshots[SNAPSHOTS] = {0};
    struct model taken[SNAPSHOTS];
    char memory[8];

    for (uint32_t step = 0; step < steps && commits < HISTORY; step++) {
        struct store *store = body->store;
        const uint32_t dice = chance(&seed, 100);
        if (dice < 60) {
            store_keep(store, chance(&seed, 3) == 0 ? 0 : chance(&seed, 600));
            if (chance(&seed, 10) == 0) { /* some tables, of a few rows or of more than there are */
                store_cache(store, chance(&seed, 1u << MODEL_TABLES), 100 + chance(&seed, 2000));
            }
            store_begin(store);
            struct model batch = now;
            for (uint32_t i = chance(&seed, 12); i > 0; i--) {
                const unsigned table = chance(&seed, MODEL_TABLES);
                const uint32_t key = chance(&seed, MODEL_KEYS);
                uint8_t value[4];
                switch (chance(&seed, 9)) {
                case 0:
                case 1:
                    store_remove(store, table, model_key(memory, key));
                    batch.rows[table][key] = 0;
                    break;
                case 2: { /* "k05" takes "k05/x" along */
                    assert_int_equal(
                        store_remove_prefix(store, table, model_key(memory, key & ~1u)), STATUS_OK);
                    batch.rows[table][key & ~1u] = 0;
                    batch.rows[table][key | 1u] = 0;
                    break;
                }
                case 3: {
                    char upto[8];
                    const uint32_t end = key + chance(&seed, MODEL_KEYS - key);
                    assert_int_equal(store_remove_range(store, table, model_key(memory, key),
                                                        model_key(upto, end)),
                                     STATUS_OK);
                    for (uint32_t k = key; k < end; k++) {
                        batch.rows[table][k] = 0;
                    }
                    break;
                }
                case 4:
                    for (uint32_t k = key; k < MODEL_KEYS; k++) {
                        put_le32(value, ++next);
                        store_put(store, table, model_key(memory, k),
                                  bytes_of(value, sizeof value));
                        batch.rows[table][k] = next;
                    }
                    break;
                default:
                    put_le32(value, ++next);
                    store_put(store, table, model_key(memory, key), bytes_of(value, sizeof value));
                    batch.rows[table][key] = next;
                }
            }
            walk_and_change(store, &batch, &seed, &next);
            if (chance(&seed, 5) == 0) {
                store_abandon(store);
            } else {
                batch.position = now.position + 1;
                assert_int_equal(store_commit(store, batch.position), STATUS_OK);
                now = batch;
                history[commits] = now;
                commits++;
            }
        } else if (dice < 70) {
            walk_and_change(store, &now, &seed, &next);
        } else if (dice < 85) {
            const uint32_t i = chance(&seed, SNAPSHOTS);
            if (snapshots[i] == NULL) {
                snapshots[i] = chance(&seed, 2) == 0 ? store_snapshot(store) : store_view(store);
                taken[i] = now;
            } else {
                assert_model(snapshots[i], &taken[i], true);
                store_snapshot_release(snapshots[i]);
                snapshots[i] = NULL;
            }
        } else if (dice < 95) {
            assert_int_equal(store_flush(store), STATUS_OK);
            assert_int_equal(store_flushed_position(store), now.position);
            flushed = now.position;
        } else if (!body->rocks || dice == 95) {
            for (uint32_t i = 0; i < SNAPSHOTS; i++) {
                if (snapshots[i] != NULL) {
                    store_snapshot_release(snapshots[i]);
                    snapshots[i] = NULL;
                }
            }
            if (!body->rocks && chance(&seed, 2) == 0) {
                if (chance(&seed, 2) == 0) {
                    store_begin(store); /* an open batch leaves no trace */
                    store_put(store, 0, t("k00"), t("lost"));
                }
                const uint64_t left = store_sim_crash(body->sim, chance(&seed, 1000));
                assert_true(left >= flushed && left <= now.position);
                now = history[left];
                commits = (uint32_t)left + 1;
            }
            body_close(body);
            body_open(body);
            assert_int_equal(store_position(body->store), now.position);
            flushed = now.position;
        }
        assert_model(store_live(body->store), &now, step % 16 == 0);
    }
    for (uint32_t i = 0; i < SNAPSHOTS; i++) {
        if (snapshots[i] != NULL) {
            assert_model(snapshots[i], &taken[i], true);
            store_snapshot_release(snapshots[i]);
        }
    }
    free(history);
}

/* Claim: a checkpoint opens as a store of its own, holds what was committed when it was asked for,
 * and does not change with the original. A name that is taken is refused. */
static void test_checkpoint_is_a_copy(void **state)
{
    struct body *body = *state;
    struct store *store = body->store;
    store_begin(store);
    store_put(store, 1, t("a"), t("then"));
    assert_int_equal(store_commit(store, 5), STATUS_OK);
    char directory[160];
    (void)snprintf(directory, sizeof directory, "%s.checkpoint", body->directory);
    uint64_t position = 0;
    assert_int_equal(store_checkpoint(store, directory, &position), STATUS_OK);
    assert_int_equal(position, 5);
    assert_int_equal(store_checkpoint(store, directory, &position), -EEXIST);
    assert_true(strlen(store_error(store)) > 0);
    store_begin(store);
    store_put(store, 1, t("a"), t("now"));
    assert_int_equal(store_commit(store, 6), STATUS_OK);

    struct body copy = *body;
    if (body->rocks) {
        memcpy(copy.directory, directory, sizeof copy.directory);
        struct stat found;
        char making[192];
        (void)snprintf(making, sizeof making, "%s.making", directory);
        assert_int_equal(stat(making, &found), -1);
    } else {
        copy.sim = store_sim_create();
        assert_int_equal(store_sim_restore(copy.sim, body->sim, "elsewhere"), -ENOENT);
        assert_int_equal(store_sim_restore(copy.sim, body->sim, directory), STATUS_OK);
    }
    body_open(&copy);
    assert_int_equal(store_position(copy.store), 5);
    assert_row(store_live(copy.store), 1, "a", "then");
    body_close(&copy);
    assert_row(store_live(store), 1, "a", "now");
    if (body->rocks) {
        assert_int_equal(store_rocks_destroy(directory), STATUS_OK);
    } else {
        store_sim_destroy(copy.sim);
    }
}

/* Claim: a commit that fails changes nothing and can be tried again (the simulator fails on
 * request; RocksDB's own failures are in store_rocks_test.c). */
static void test_failed_commit_changes_nothing(void **state)
{
    struct body *body = *state;
    struct store *store = body->store;
    store_begin(store);
    store_put(store, 1, t("a"), t("one"));
    store_sim_fail(body->sim, 1, STATUS_FULL);
    assert_true(store_usage(store).pressed);
    assert_int_equal(store_commit(store, 3), STATUS_FULL);
    assert_int_equal(store_flush(store), STATUS_FULL);
    assert_int_equal(store_position(store), 0);
    assert_true(store_in_batch(store));
    assert_row(store_live(store), 1, "a", "one");
    store_sim_fail(body->sim, 0, STATUS_OK);
    assert_int_equal(store_commit(store, 3), STATUS_OK);
    assert_row(store_live(store), 1, "a", "one");
    assert_int_equal(store_flushed_position(store), 0);

    struct store_reader *snapshot = store_snapshot(store);
    store_cache(store, 1u << 1, 4096);
    assert_row(store_live(store), 1, "a", "one");
    store_keep(store, 4096);
    store_begin(store);
    assert_row(store_live(store), 1, "a", "one");
    assert_row(store_live(store), 2, "a", NULL);
    (void)store_sim_crash(body->sim, 0);
    struct bytes value;
    assert_int_equal(store_get(snapshot, 1, t("a"), &value), -EIO);
    assert_int_equal(store_get(store_live(store), 1, t("a"), &value), -EIO); /* was cached */
    assert_int_equal(store_get(store_live(store), 2, t("a"), &value), -EIO); /* was kept */
    assert_int_equal(store_commit(store, 4), -EIO);
    store_snapshot_release(snapshot);
    body_close(body);
    body_open(body);
    assert_row(store_live(body->store), 1, "a", NULL);
}

/* Claim: a directory of another machine or of a newer format is refused and not touched. */
static void test_foreign_disks_are_refused(void **state)
{
    struct body *body = *state;
    store_begin(body->store);
    store_put(body->store, 1, t("a"), t("mine"));
    assert_int_equal(store_commit(body->store, 1), STATUS_OK);
    body_close(body);
    const struct {
        const char *machine;
        uint32_t format;
        int status;
        const char *words;
    } cases[] = {{"other", 1, STATUS_FOREIGN, "not of \"other\""},
                 {"test", 2, STATUS_OK, ""}, /* an upgrade */
                 {"test", 1, STATUS_FOREIGN, "newer release"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct store *store = NULL;
        const struct store_options options = {
            .directory = body->directory, .machine = cases[i].machine, .format = cases[i].format};
        const int status =
            body->rocks ? store_rocks_open(&options, &store)
                        : store_sim_open(body->sim, cases[i].machine, cases[i].format, &store);
        assert_int_equal(status, cases[i].status);
        assert_non_null(strstr(store_error(store), cases[i].words));
        store_close(store);
    }
    struct store *store = NULL;
    const struct store_options options = {
        .directory = body->directory, .machine = "test", .format = 2};
    assert_int_equal(body->rocks ? store_rocks_open(&options, &store)
                                 : store_sim_open(body->sim, "test", 2, &store),
                     STATUS_OK);
    struct store *second = NULL;
    assert_int_equal(body->rocks ? store_rocks_open(&options, &second)
                                 : store_sim_open(body->sim, "test", 2, &second),
                     STATUS_LOCKED);
    assert_true(strlen(store_error(second)) > 0);
    store_close(second);
    assert_row(store_live(store), 1, "a", "mine");
    assert_int_equal(store_position(store), 1);
    body->store = store;
}

#define ON_BOTH(test)                                                                              \
    cmocka_unit_test_setup_teardown(test, setup_sim, teardown),                                    \
        cmocka_unit_test_setup_teardown(test, setup_rocks, teardown),                              \
        cmocka_unit_test_setup_teardown(test, setup_cloud, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(test_batch_is_atomic_and_reads_its_own_writes),
        ON_BOTH(test_views_hold_still),
        ON_BOTH(test_iterators_keep_their_bounds),
        ON_BOTH(test_lent_values_stay),
        ON_BOTH(test_a_row_may_come_and_go_within_a_batch),
        ON_BOTH(test_a_range_of_many_rows_is_one_mark),
        ON_BOTH(test_what_was_read_is_kept),
        ON_BOTH(test_what_is_cached_is_counted),
        ON_BOTH(test_store_agrees_with_a_model),
        ON_BOTH(test_checkpoint_is_a_copy),
        ON_BOTH(test_foreign_disks_are_refused),
        cmocka_unit_test_setup_teardown(test_failed_commit_changes_nothing, setup_sim, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
