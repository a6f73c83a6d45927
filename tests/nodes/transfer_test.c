/* Both ends of a transfer of the state, against a model: a history of commits whose state at every
 * position is known. Stores are simulated, so is their disk; frames and work of the pool wait in queues
 * from which chance takes them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "nodes/cloud/transfer.h"
#include "schemas/check.h"
#include "tests/sim/sim.h"

#define SOURCES   3u
#define SINK      4u /* its replica number; sources are 1 .. SOURCES */
#define KEYS      400u
#define POSITIONS 120u /* commits of the history */
#define QUEUE     256u

struct frame {
    uint64_t from;
    uint64_t to;
    size_t size;
    uint8_t *data;
};

struct end {
    struct rig *rig;
    uint64_t replica;
    bool dead;
    struct transfer_door door;
    struct store_sim *disk;
    struct store *store;
    struct transfer_source source;
    struct transfer_sink sink;
};

struct rig {
    struct sim chance;
    struct end ends[SOURCES + 1]; /* the last is the sink */
    uint64_t members[SOURCES + 1];
    struct frame frames[QUEUE];
    uint32_t frame_count;
    struct {
        struct replica_work *work;
        struct end *end;
    } works[16];
    uint32_t work_count;
    uint64_t now_ms;
    uint64_t leader;
    uint32_t loss, doubled, damaged, shuffled; /* per million */
    uint64_t answers;                          /* frames with a range that were delivered */
    uint64_t rate;
    uint64_t rotten; /* ranges that a test has spoilt */
    bool room;
    bool verbose;
    struct codec *codec;
};

/* -- the history -------------------------------------------------------------------------------- */

/* Commit number `position`, the same whoever asks. A few rows of some table each; in the beginning many.
 * One key of each table is as long as keys get. */
static void history_batch(struct store *store, uint64_t position)
{
    struct sim dice;
    sim_init(&dice, position * 77 + 1);
    const uint64_t rows = position == 1 ? KEYS : sim_between(&dice, 1, 8);
    store_begin(store);
    for (uint64_t i = 0; i < rows; i++) {
        const uint64_t number = position == 1 ? i : sim_below(&dice, KEYS);
        const unsigned table = (unsigned)(number % MACHINE_TABLES);
        uint8_t key[LIMIT_STORE_KEY_BYTES];
        memset(key, 'k', sizeof key);
        const size_t key_size = number < MACHINE_TABLES * 3 ? sizeof key : 3 + number % 40;
        const size_t at = key_size == sizeof key ? sizeof key - 1 : 0;
        key[at] = (uint8_t)(number / MACHINE_TABLES);
        if (position > 1 && sim_below(&dice, 3) == 0) {
            store_remove(store, table, bytes_of(key, key_size));
            continue;
        }
        const size_t size = sim_below(&dice, 20) == 0 ? sim_between(&dice, 200000, 700000)
                                                      : sim_below(&dice, 30000);
        uint8_t *value = malloc(size + 1);
        assert_non_null(value);
        for (size_t k = 0; k < size; k++) {
            value[k] = (uint8_t)(position * 31 + number + k * 7);
        }
        store_put(store, table, bytes_of(key, key_size), bytes_of(value, size));
        free(value);
    }
    assert_int_equal(store_commit(store, position), 0);
    sim_deinit(&dice);
}

static void history_apply(struct store *store, uint64_t position)
{
    while (store_position(store) < position) {
        history_batch(store, store_position(store) + 1);
    }
}

/* Claim of every test: the rows are those of this position, all of them and no others. */
static void assert_state(struct store *store, uint64_t position)
{
    struct store_sim *disk = store_sim_create();
    struct store *model;
    struct tag expected;
    struct tag found;
    uint64_t expected_count;
    uint64_t found_count;
    const struct bytes none = {0};
    assert_int_equal(store_sim_open(disk, "cloud", 1, &model), 0);
    history_apply(model, position);
    assert_int_equal(
        transfer_rows_measure(store_live(model), none, none, &expected, &expected_count), 0);
    assert_int_equal(transfer_rows_measure(store_live(store), none, none, &found, &found_count), 0);
    assert_int_equal(found_count, expected_count);
    assert_true(tag_equal(found, expected));
    uint64_t digests[2];
    assert_int_equal(machine_digest(store_live(model), &digests[0]), 0);
    assert_int_equal(machine_digest(store_live(store), &digests[1]), 0);
    assert_int_equal(digests[0], digests[1]);
    store_close(model);
    store_sim_destroy(disk);
}

/* -- the rig ------------------------------------------------------------------------------------ */

static void rig_queue(struct rig *rig, uint64_t from, uint64_t to, struct bytes bytes)
{
    if (rig->frame_count == QUEUE) {
        return; /* best effort */
    }
    struct frame *frame = &rig->frames[rig->frame_count++];
    *frame = (struct frame){.from = from, .to = to, .size = bytes.size};
    frame->data = aligned_alloc(8, (bytes.size + 7) & ~(size_t)7);
    assert_non_null(frame->data);
    memcpy(frame->data, bytes.data, bytes.size);
}

static void door_send(void *context, uint64_t replica, struct bytes bytes)
{
    struct end *end = context;
    struct rig *rig = end->rig;
    if (sim_chance(&rig->chance, rig->loss)) {
        return;
    }
    rig_queue(rig, end->replica, replica, bytes);
    if (sim_chance(&rig->chance, rig->doubled)) {
        rig_queue(rig, end->replica, replica, bytes);
    }
    struct frame *frame = &rig->frames[rig->frame_count - 1];
    if (sim_chance(&rig->chance, rig->damaged)) {
        frame->data[sim_below(&rig->chance, frame->size)] ^=
            (uint8_t)(1u << sim_below(&rig->chance, 8));
    }
}

static void door_run(void *context, struct replica_work *work)
{
    struct end *end = context;
    struct rig *rig = end->rig;
    assert_true(rig->work_count < 16);
    rig->works[rig->work_count].work = work;
    rig->works[rig->work_count++].end = end;
}

static void door_log(void *context, enum logger_level level, const char *event, const char *pairs)
{
    struct end *end = context;
    (void)level;
    if (end->rig->verbose) {
        fprintf(stderr, "%8llu replica-%llu %s %s\n", (unsigned long long)end->rig->now_ms,
                (unsigned long long)end->replica, event, pairs);
    }
}

static int door_open(void *context, bool anew, struct store **out)
{
    struct end *end = context;
    assert_null(end->store);
    if (anew) {
        store_sim_destroy(end->disk);
        end->disk = store_sim_create();
    }
    const int status = store_sim_open(end->disk, "cloud", 1, out);
    end->store = *out;
    return status;
}

static void door_drop(void *context, struct store *staging)
{
    struct end *end = context;
    assert_ptr_equal(staging, end->store);
    store_close(staging);
    end->store = NULL;
    store_sim_destroy(end->disk);
    end->disk = store_sim_create();
}

static struct end *rig_sink(struct rig *rig)
{
    return &rig->ends[SOURCES];
}

static void rig_start_sink(struct rig *rig)
{
    struct end *end = rig_sink(rig);
    transfer_sink_init(&end->sink, &end->door, SINK, rig->members, SOURCES + 1, rig->rate,
                       sim_random(&rig->chance) << 20);
}

static struct rig *rig_make(uint64_t seed)
{
    struct rig *rig = calloc(1, sizeof *rig);
    assert_non_null(rig);
    rig->verbose = getenv("VERBOSE") != NULL;
    rig->room = true;
    rig->codec = codec_create();
    rig->now_ms = 1;
    rig->leader = 1;
    sim_init(&rig->chance, seed);
    for (uint32_t i = 0; i <= SOURCES; i++) {
        struct end *end = &rig->ends[i];
        rig->members[i] = i + 1;
        end->rig = rig;
        end->replica = i + 1;
        end->disk = store_sim_create();
        end->door = (struct transfer_door){.context = end,
                                           .send = door_send,
                                           .run = door_run,
                                           .log = door_log,
                                           .open = door_open,
                                           .drop = door_drop};
        if (i < SOURCES) {
            assert_int_equal(store_sim_open(end->disk, "cloud", 1, &end->store), 0);
            history_apply(end->store, 10);
            transfer_source_init(&end->source, &end->door, LIMIT_TRANSFER_BYTES);
        }
    }
    rig_start_sink(rig);
    return rig;
}

static void rig_forget_works(struct rig *rig, const struct end *end)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < rig->work_count; i++) {
        if (rig->works[i].end != end) {
            rig->works[kept++] = rig->works[i];
        }
    }
    rig->work_count = kept;
}

/* A source dies, and is there again at once, without memory; its store is. */
static void rig_kill_source(struct rig *rig, uint64_t replica)
{
    struct end *end = &rig->ends[replica - 1];
    rig_forget_works(rig, end);
    transfer_source_deinit(&end->source);
    transfer_source_init(&end->source, &end->door, LIMIT_TRANSFER_BYTES);
}

/* The power of the sink goes. */
static void rig_kill_sink(struct rig *rig)
{
    struct end *end = rig_sink(rig);
    rig_forget_works(rig, end);
    transfer_sink_deinit(&end->sink);
    store_sim_crash(end->disk, sim_random(&rig->chance));
    if (end->store != NULL) {
        store_close(end->store);
        end->store = NULL;
    }
    rig_start_sink(rig);
}

static void rig_free(struct rig *rig)
{
    rig->work_count = 0;
    for (uint32_t i = 0; i < rig->frame_count; i++) {
        free(rig->frames[i].data);
    }
    for (uint32_t i = 0; i <= SOURCES; i++) {
        struct end *end = &rig->ends[i];
        if (i < SOURCES) {
            transfer_source_deinit(&end->source);
        } else {
            transfer_sink_deinit(&end->sink);
        }
        if (end->store != NULL) {
            store_close(end->store);
        }
        store_sim_destroy(end->disk);
    }
    codec_destroy(rig->codec);
    sim_deinit(&rig->chance);
    free(rig);
}

static void rig_deliver(struct rig *rig, uint32_t place)
{
    const struct frame frame = rig->frames[place];
    rig->frame_count--;
    memmove(&rig->frames[place], &rig->frames[place + 1],
            (rig->frame_count - place) * sizeof rig->frames[0]);
    struct end *end = &rig->ends[frame.to - 1];
    uint16_t kind = WIRE_NONE;
    struct bytes body;
    struct state_ask ask;
    struct state_range range;
    codec_reset(rig->codec);
    if (!end->dead &&
        codec_frame_read(rig->codec, bytes_of(frame.data, frame.size), &kind, &body) == 0) {
        if (kind == WIRE_STATE_ASK && frame.to != SINK &&
            codec_state_ask_read(rig->codec, body, &ask) == 0) {
            transfer_source_ask(&end->source, frame.from, &ask, end->store, rig->now_ms);
        } else if (kind == WIRE_STATE_RANGE && frame.to == SINK &&
                   codec_state_range_read(rig->codec, body, &range) == 0) {
            rig->answers += range.status == 0;
            transfer_sink_answer(&end->sink, frame.from, &range, rig->now_ms);
        }
    }
    free(frame.data);
}

/* One step: a frame, some work, or time. */
static void rig_step(struct rig *rig)
{
    struct sim *chance = &rig->chance;
    if (rig->work_count > 0 && sim_below(chance, 3) != 0) {
        const uint32_t place = (uint32_t)sim_below(chance, rig->work_count);
        struct replica_work *work = rig->works[place].work;
        rig->works[place] = rig->works[--rig->work_count];
        work->work(work);
        work->done(work);
    } else if (rig->frame_count > 0) {
        const bool any = sim_chance(chance, rig->shuffled);
        rig_deliver(rig, any ? (uint32_t)sim_below(chance, rig->frame_count) : 0);
    } else if (rig->work_count == 0) {
        rig->now_ms += 50;
    }
    rig->now_ms += sim_below(chance, 3);
    for (uint32_t i = 0; i < SOURCES; i++) {
        if (!rig->ends[i].dead) {
            transfer_source_run(&rig->ends[i].source, rig->now_ms);
        }
    }
    (void)transfer_sink_run(&rig_sink(rig)->sink, rig->leader, rig->room, rig->now_ms);
}

static bool rig_ready(struct rig *rig)
{
    const struct transfer_sink *sink = &rig_sink(rig)->sink;
    return sink->state == TRANSFER_READY && !sink->working && sink->position >= sink->needed;
}

static void rig_run_until_ready(struct rig *rig)
{
    for (uint32_t i = 0; i < 200000 && !rig_ready(rig); i++) {
        rig_step(rig);
    }
    if (!rig_ready(rig)) {
        fail_msg("not ready: state %d, source %llu, position %llu, needed %llu",
                 (int)rig_sink(rig)->sink.state, (unsigned long long)rig_sink(rig)->sink.source,
                 (unsigned long long)rig_sink(rig)->sink.position,
                 (unsigned long long)rig_sink(rig)->sink.needed);
    }
}

static void rig_want(struct rig *rig, uint64_t needed)
{
    transfer_sink_want(&rig_sink(rig)->sink, rig->leader, needed, rig->now_ms);
}

/* It is ready: take it, and look at every row. */
static void rig_take(struct rig *rig)
{
    struct end *end = rig_sink(rig);
    const uint64_t position = end->sink.position;
    assert_int_equal(end->sink.ranges_rotten, rig->rotten);
    struct store *store = transfer_sink_take(&end->sink, rig->now_ms);
    assert_ptr_equal(store, end->store);
    assert_int_equal(store_position(store), position);
    assert_int_equal(store_flushed_position(store), position);
    assert_int_equal(transfer_staging_complete(store), 1);
    assert_int_equal(store_find(store_live(store), TRANSFER_TABLE, bytes_of(NULL, 0)), STORE_NONE);
    assert_state(store, position);
}

/* -- claims ------------------------------------------------------------------------------------- */

/* Claim: rows are collected, checked and put together again whatever their sizes; ranges join without gap
 * or overlap, and what is not a range of these bounds is refused. */
static void test_ranges_join(void **state)
{
    (void)state;
    struct rig *rig = rig_make(1);
    struct store *from = rig->ends[0].store;
    struct store_sim *disk = store_sim_create();
    struct store *to;
    assert_int_equal(store_sim_open(disk, "cloud", 1, &to), 0);
    struct transfer_rows rows = {0};
    struct transfer_place at = {0};
    struct transfer_place end = {0};
    struct tag digest;
    uint64_t count;
    uint32_t ranges = 0;
    uint64_t total = 0;
    do {
        assert_int_equal(transfer_rows_collect(store_live(from), transfer_place_bytes(&at),
                                               bytes_of(NULL, 0), LIMIT_TRANSFER_BYTES, &rows,
                                               &end),
                         0);
        const struct bytes bytes = bytes_of(rows.data, rows.size);
        assert_true(rows.count == 1 || rows.size <= LIMIT_TRANSFER_BYTES ||
                    end.size == LIMIT_STORE_KEY_BYTES || rows.size < 4 * 700000); /* long keys */
        assert_int_equal(transfer_rows_check(bytes, transfer_place_bytes(&at),
                                             transfer_place_bytes(&end), &digest, &count),
                         0);
        assert_true(tag_equal(digest, rows.digest));
        assert_int_equal(count, rows.count);
        /* cut short, or of another range */
        assert_int_equal(transfer_rows_check(bytes_of(rows.data, rows.size - 1),
                                             transfer_place_bytes(&at), transfer_place_bytes(&end),
                                             &digest, &count),
                         STATUS_MALFORMED);
        if (end.size > 0) {
            assert_int_equal(transfer_rows_check(bytes, transfer_place_bytes(&end),
                                                 bytes_of(NULL, 0), &digest, &count),
                             STATUS_MALFORMED);
        }
        /* the same range again is the same: what a second source compares */
        struct transfer_rows again = {0};
        struct transfer_place again_end;
        assert_int_equal(transfer_rows_collect(store_live(from), transfer_place_bytes(&at),
                                               transfer_place_bytes(&end), LIMIT_TRANSFER_BYTES,
                                               &again, &again_end),
                         0);
        assert_true(bytes_equal(transfer_place_bytes(&again_end), transfer_place_bytes(&end)));
        assert_true(tag_equal(again.digest, rows.digest));
        free(again.data);
        store_begin(to);
        transfer_rows_put(to, bytes);
        assert_int_equal(store_commit(to, 0), 0);
        total += rows.count;
        ranges++;
        at = end;
    } while (end.size > 0);
    assert_true(ranges > 20);
    assert_true(total > KEYS / 2);
    assert_state(to, 10);

    store_begin(to);
    assert_int_equal(transfer_rows_remove(to, bytes_of(NULL, 0), bytes_of(NULL, 0)), 0);
    assert_int_equal(store_commit(to, 0), 0);
    assert_int_equal(transfer_rows_measure(store_live(to), bytes_of(NULL, 0), bytes_of(NULL, 0),
                                           &digest, &count),
                     0);
    assert_int_equal(count, 0);
    free(rows.data);
    store_close(to);
    store_sim_destroy(disk);
    rig_free(rig);
}

/* Claim: no bytes hurt: rows that are cut anywhere, or have any bit of their heads flipped, are answered,
 * in bounds. Method: each in memory of its own size, for the sanitizers. */
static void test_damaged_rows_are_answered(void **state)
{
    (void)state;
    struct rig *rig = rig_make(2);
    struct transfer_rows rows = {0};
    struct transfer_place from = {.size = 0};
    struct transfer_place end = {.size = 0};
    struct tag digest;
    uint64_t count;
    const struct bytes none = {0};
    do { /* the first range of some rows: a single one may be much larger */
        from = end;
        assert_int_equal(transfer_rows_collect(store_live(rig->ends[0].store),
                                               transfer_place_bytes(&from), none, 40000, &rows,
                                               &end),
                         0);
        assert_true(end.size > 0);
    } while (rows.count < 2);
    for (size_t cut = 1; cut < rows.size; cut += cut < 4200 ? 1 : 97) {
        uint8_t *copy = malloc(cut);
        assert_non_null(copy);
        memcpy(copy, rows.data, cut);
        (void)transfer_rows_check(bytes_of(copy, cut), none, none, &digest, &count);
        free(copy);
    }
    for (size_t at = 0; at < 2100 && at < rows.size; at++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            rows.data[at] ^= (uint8_t)(1u << bit);
            const int status =
                transfer_rows_check(bytes_of(rows.data, rows.size), none, none, &digest, &count);
            assert_true(status != STATUS_OK || !tag_equal(digest, rows.digest));
            rows.data[at] ^= (uint8_t)(1u << bit);
        }
    }
    free(rows.data);
    rig_free(rig);
}

/* Claim: whatever is lost, doubled, late, damaged or dies, what is ready in the end is the state of one
 * position, every row of it. Method: seeds; the history goes on meanwhile. */
static void test_whatever_happens_it_is_one_state(void **state)
{
    (void)state;
    const char *first = getenv("SEED");
    const uint64_t begin = first == NULL ? 1 : strtoull(first, NULL, 10);
    const uint64_t end = first == NULL ? 24 : begin;
    for (uint64_t seed = begin; seed <= end; seed++) {
        struct rig *rig = rig_make(seed);
        struct sim *chance = &rig->chance;
        rig->loss = (uint32_t)sim_below(chance, 100000);
        rig->doubled = (uint32_t)sim_below(chance, 200000);
        rig->damaged = (uint32_t)sim_below(chance, 50000);
        rig->shuffled = (uint32_t)sim_below(chance, 500000);
        rig_want(rig, 10);
        for (uint32_t i = 0; i < 600 && !rig_ready(rig); i++) {
            switch (sim_below(chance, 60)) {
            case 0: { /* somebody applies more */
                struct end *one = &rig->ends[sim_below(chance, SOURCES)];
                const uint64_t next = store_position(one->store) + sim_between(chance, 1, 4);
                history_apply(one->store, next > POSITIONS ? POSITIONS : next);
                break;
            }
            case 1: /* another leader, whose snapshot may be newer */
                rig->leader = 1 + sim_below(chance, SOURCES);
                rig_want(rig,
                         sim_between(chance, 10, store_position(rig->ends[rig->leader - 1].store)));
                break;
            case 2:
                rig_kill_source(rig, 1 + sim_below(chance, SOURCES));
                break;
            case 3:
                rig_kill_sink(rig);
                rig_want(rig, 10);
                break;
            case 4:
                rig->ends[sim_below(chance, SOURCES)].dead = sim_below(chance, 2) == 0;
                break;
            case 5:
                store_sim_fail(rig_sink(rig)->disk, sim_between(chance, 1, 3),
                               sim_below(chance, 2) == 0 ? -ENOSPC : STATUS_FULL);
                break;
            default:
                store_sim_fail(rig_sink(rig)->disk, 0, 0);
                rig_step(rig);
                break;
            }
        }
        store_sim_fail(rig_sink(rig)->disk, 0, 0);
        for (uint32_t i = 0; i < SOURCES; i++) {
            rig->ends[i].dead = false;
            history_apply(rig->ends[i].store, POSITIONS); /* whoever is asked has what is needed */
        }
        rig_want(rig, 10);
        rig_run_until_ready(rig);
        rig_take(rig);
        rig_free(rig);
    }
}

/* Claim: a source that dies costs a resume at another, at whatever range that is: what was there already
 * and is the same is not sent again. */
static void test_death_of_the_source_at_every_range(void **state)
{
    (void)state;
    uint64_t whole = 0;
    for (uint64_t n = 0;; n++) {
        struct rig *rig = rig_make(7);
        history_apply(rig->ends[1].store, 14);
        rig_want(rig, 10);
        while (rig->answers < n && !rig_ready(rig)) {
            rig_step(rig);
        }
        const bool over = rig_ready(rig);
        if (n == 0) {
            struct transfer_rows rows = {0};
            struct transfer_place end;
            struct transfer_place at = {0};
            do {
                assert_int_equal(transfer_rows_collect(store_live(rig->ends[0].store),
                                                       transfer_place_bytes(&at), bytes_of(NULL, 0),
                                                       LIMIT_TRANSFER_BYTES, &rows, &end),
                                 0);
                whole += rows.size;
                at = end;
            } while (end.size > 0);
            free(rows.data);
        }
        rig->ends[0].dead = true;
        rig->leader = 2;
        rig_run_until_ready(rig);
        const struct transfer_sink *sink = &rig_sink(rig)->sink;
        if (!over && n > 0) {
            assert_true(sink->position == 14 || sink->ranges_taken == n);
            /* 3 commits of at most 8 rows in between; each may cost its range, twice a largest row */
            assert_true(sink->bytes_received < whole + 32 * 3 * LIMIT_TRANSFER_BYTES);
            assert_true(n < 3 || sink->position == 10 || sink->ranges_kept > 0);
        }
        rig_take(rig);
        rig_free(rig);
        if (over) {
            assert_true(n > 20);
            return;
        }
    }
}

/* Claim: the sink may lose its power at any step, and goes on with what it has, which is what was written
 * before the last flush at least, with nothing between two ranges. */
static void test_power_loss_at_every_step(void **state)
{
    (void)state;
    for (uint32_t n = 0; n < 4000; n += 23) {
        struct rig *rig = rig_make(n);
        rig_want(rig, 10);
        uint32_t step = 0;
        while (step < n && !rig_ready(rig)) {
            rig_step(rig);
            step++;
        }
        const bool over = rig_ready(rig);
        rig_kill_sink(rig);
        if (over) { /* complete is durable: what raft asks for at the next start is there */
            struct store *staging;
            assert_int_equal(door_open(rig_sink(rig), false, &staging), 0);
            assert_int_equal(transfer_staging_complete(staging), 1);
            assert_state(staging, store_position(staging));
            rig_free(rig);
            return;
        }
        history_apply(rig->ends[0].store, 13);
        rig_want(rig, 12);
        rig_run_until_ready(rig);
        rig_take(rig);
        rig_free(rig);
    }
    fail_msg("it never became ready");
}

/* Claim: what rots in the staging is found before it becomes the state, and only that is sent again. */
static void test_rot_is_found(void **state)
{
    (void)state;
    struct rig *rig = rig_make(3);
    rig_want(rig, 10);
    struct transfer_sink *sink = &rig_sink(rig)->sink;
    while (sink->state != TRANSFER_CHECKING) {
        rig_step(rig);
    }
    assert_int_equal(rig->work_count, 1); /* the pool has not begun */
    struct store_iterator *rows = store_iterate(store_live(sink->staging), 5, bytes_of(NULL, 0));
    assert_true(store_iterator_first(rows));
    uint8_t key[LIMIT_STORE_KEY_BYTES];
    const struct bytes found = store_iterator_key(rows);
    memcpy(key, found.data, found.size);
    store_iterator_close(rows);
    store_begin(sink->staging);
    store_put(sink->staging, 5, bytes_of(key, found.size), bytes_text("rot"));
    assert_int_equal(store_commit(sink->staging, 0), 0);

    const uint64_t taken = sink->ranges_taken;
    rig->rotten = 1;
    rig_run_until_ready(rig);
    assert_int_equal(sink->ranges_taken, taken + 1);
    rig_take(rig);
    rig_free(rig);
}

/* Claim: a complete copy that is too old by the time raft takes it is brought up to date: what is the
 * same is not sent again. */
static void test_ready_and_too_old(void **state)
{
    (void)state;
    struct rig *rig = rig_make(4);
    rig_want(rig, 10);
    rig_run_until_ready(rig);
    struct transfer_sink *sink = &rig_sink(rig)->sink;
    const uint64_t taken = sink->ranges_taken;
    history_apply(rig->ends[0].store, 12);
    rig_want(rig, 12);
    assert_false(rig_ready(rig));
    rig_run_until_ready(rig);
    assert_true(sink->ranges_taken - taken < 30);
    assert_true(sink->ranges_kept > taken / 2);
    rig_take(rig);
    rig_free(rig);
}

/* Claim: without room nothing is asked for, and it goes on when there is; what is not wanted any more is
 * removed; the rate bounds how much comes in a second. */
static void test_room_rate_and_giving_up(void **state)
{
    (void)state;
    struct rig *rig = rig_make(5);
    rig->room = false;
    rig_want(rig, 10);
    for (int i = 0; i < 1000; i++) {
        rig_step(rig);
    }
    assert_int_equal(rig->answers, 0);
    rig->room = true;
    while (rig->answers < 5) {
        rig_step(rig);
    }
    transfer_sink_cancel(&rig_sink(rig)->sink);
    for (int i = 0; i < 1000; i++) {
        rig_step(rig);
    }
    assert_int_equal(rig_sink(rig)->sink.state, TRANSFER_NONE);
    assert_null(rig_sink(rig)->store);
    assert_int_equal(store_snapshot_count(rig->ends[0].store), 0); /* it was told, and let go */

    transfer_sink_deinit(&rig_sink(rig)->sink);
    rig->rate = 1024 * 1024;
    rig_start_sink(rig);
    const uint64_t begun_ms = rig->now_ms;
    rig_want(rig, 10);
    rig_run_until_ready(rig);
    const uint64_t bytes = rig_sink(rig)->sink.bytes_received;
    assert_true(rig->now_ms - begun_ms >= (bytes - 2 * LIMIT_TRANSFER_BYTES) * 1000 / rig->rate);
    rig_take(rig);
    rig_free(rig);
}

/* Claim: a source serves LIMIT_TRANSFERS at once, nobody whose need it does not have, and keeps its
 * snapshot no longer than somebody asks. */
static void test_source_is_bounded(void **state)
{
    (void)state;
    struct rig *rig = rig_make(6);
    struct end *end = &rig->ends[0];
    struct state_ask ask = {.request = 1, .needed = 11, .format = MACHINE_FORMAT};
    transfer_source_ask(&end->source, 2, &ask, end->store, 1);
    assert_int_equal(rig->frame_count, 1); /* STATUS_BEHIND */
    assert_int_equal(store_snapshot_count(end->store), 0);
    ask.needed = 10;
    for (uint64_t replica = 2; replica <= 4; replica++) {
        transfer_source_ask(&end->source, replica, &ask, end->store, 1);
    }
    assert_int_equal(rig->frame_count, 2); /* STATUS_FULL for the last */
    assert_int_equal(store_snapshot_count(end->store), LIMIT_TRANSFERS);
    assert_false(transfer_source_idle(&end->source));
    while (rig->work_count > 0) {
        struct replica_work *work = rig->works[--rig->work_count].work;
        work->work(work);
        work->done(work);
    }
    transfer_source_run(&end->source, LIMIT_TRANSFER_IDLE_MS);
    assert_int_equal(store_snapshot_count(end->store), LIMIT_TRANSFERS);
    transfer_source_run(&end->source, LIMIT_TRANSFER_IDLE_MS + 1);
    assert_int_equal(store_snapshot_count(end->store), 0);
    rig_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranges_join),
        cmocka_unit_test(test_damaged_rows_are_answered),
        cmocka_unit_test(test_whatever_happens_it_is_one_state),
        cmocka_unit_test(test_death_of_the_source_at_every_range),
        cmocka_unit_test(test_power_loss_at_every_step),
        cmocka_unit_test(test_rot_is_found),
        cmocka_unit_test(test_ready_and_too_old),
        cmocka_unit_test(test_room_rate_and_giving_up),
        cmocka_unit_test(test_source_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
