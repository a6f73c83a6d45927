/* Claim: wherever, however and however often a machine is cut off, the log keeps all that was
 * acknowledged, in order, and nothing that was never written.
 *
 * Method: a seeded workload (appends of all sizes, truncations, resets, releases, meta and file
 * puts, ticks, reads, closes) runs over the simulated disk. It is cut after a random event, or in
 * the middle of a random disk operation, recovery included; unsynced writes are dropped, kept, torn
 * at sectors. What recovery finds must be the workload up to some point that is not before the last
 * acknowledgement: every frame by index, term, type, size and content. Some runs meet a full disk
 * or an I/O error on the way.
 *
 *     cuts [--seconds N] [--seed S] [--cuts N]
 *
 * prints how many cuts it made; a failure prints how to repeat the run.
 */
#include "log/crc32c.h"
#include "log/log.h"
#include "schemas/check.h"
#include "schemas/status.h"
#include "tests/sim/disk_sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define DIRECTORY  "/log"
#define FRAMES_MAX 64u /* in one request */
#define LIVES      12u /* of the log in one run */
#define MICROS_MAX 20000u
#define STATE_MAX  65536u

struct frame {
    uint64_t term;
    uint32_t size;
    uint32_t crc;
    uint8_t type;
};

enum micro_kind { MICRO_FRAME, MICRO_TRUNCATE, MICRO_RESET };

/* The smallest thing recovery may keep or lose. */
struct micro {
    enum micro_kind kind;
    uint64_t index;
    struct frame frame;
};

/* What the log should hold: frames [first, next). */
struct state {
    uint64_t first;
    uint64_t next;
    struct frame frames[STATE_MAX]; /* of index i at i % STATE_MAX */
};

struct run;

struct op {
    struct log_request request;
    struct run *run;
    struct op *next;
    uint32_t number;    /* in the order of submission: callbacks must come in it */
    uint32_t micro_end; /* how many micros there are once this one is done */
    struct log_entry entries[FRAMES_MAX];
    struct bytes pieces[FRAMES_MAX][2];
    uint8_t *payload;
};

struct run {
    struct sim sim;
    struct disk_sim disk;
    struct log log;
    struct log_cursor cursor;
    struct op *ops;
    uint32_t op_count;
    uint32_t op_called;
    struct micro micros[MICROS_MAX]; /* since the last recovery */
    uint32_t micro_count;
    uint32_t micro_acked;
    uint32_t uniform_bytes; /* not 0: all payloads have this size, so that debris of a torn batch
                               lies exactly where new frames will end */
    uint64_t released;
    uint64_t meta_acked;
    uint64_t meta_asked;
    uint64_t file_acked; /* 0: never put */
    uint64_t file_asked;
    bool closed;
};

static struct run run;
static struct state base; /* what recovery found last */
static struct state view; /* base and all micros */
static struct state trial;
static uint64_t seed_now;
static uint64_t cuts_made;
static uint64_t frames_acked;
static uint64_t opens_cut;
static uint64_t tails_cut;

#define EXPECT(claim)                                                                              \
    do {                                                                                           \
        if (!(claim)) {                                                                            \
            fprintf(stderr, "cuts: broken: %s (line %d)\nagain with: cuts --seed %llu --cuts 1\n", \
                    #claim, __LINE__, (unsigned long long)seed_now);                               \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* -- the model ------------------------------------------------------------------------------- */

static void state_apply(struct state *state, const struct micro *micro)
{
    switch (micro->kind) {
    case MICRO_FRAME:
        CHECK(micro->index == state->next);
        state->frames[state->next % STATE_MAX] = micro->frame;
        state->next++;
        break;
    case MICRO_TRUNCATE:
        state->next = micro->index;
        if (state->first > state->next) {
            state->first = state->next;
        }
        break;
    case MICRO_RESET:
        state->first = micro->index;
        state->next = micro->index;
        break;
    }
}

static bool frame_equal(const struct frame *a, const struct frame *b)
{
    return a->term == b->term && a->size == b->size && a->crc == b->crc && a->type == b->type;
}

static struct frame frame_of(const struct log_frame *frame)
{
    return (struct frame){
        .term = frame->term,
        .size = (uint32_t)frame->payload.size,
        .crc = crc32c(0, frame->payload.data, frame->payload.size),
        .type = frame->type,
    };
}

/* -- the workload ---------------------------------------------------------------------------- */

static void on_done(struct log_request *request, int status)
{
    struct op *op = request->context;
    EXPECT(op->number == op->run->op_called);
    op->run->op_called++;
    if (status != 0) {
        EXPECT(log_status(&op->run->log) == status);
        EXPECT(status != STATUS_TOO_LARGE); /* refused when asked, or not at all */
        return;
    }
    EXPECT(op->micro_end >= op->run->micro_acked);
    op->run->micro_acked = op->micro_end;
    frames_acked += op->request.entry_count;
    free(op->payload); /* borrowed only until now: the sanitizer sees who looks later */
    op->payload = NULL;
}

static struct op *op_new(void)
{
    struct op *op = calloc(1, sizeof *op);
    CHECK(op != NULL);
    op->run = &run;
    op->number = run.op_count;
    op->request.callback = on_done;
    op->request.context = op;
    return op;
}

static void op_accepted(struct op *op)
{
    op->next = run.ops;
    run.ops = op;
    op->micro_end = run.micro_count;
    run.op_count++;
}

static void micro_add(struct micro micro)
{
    CHECK(run.micro_count < MICROS_MAX);
    run.micros[run.micro_count] = micro;
    run.micro_count++;
    state_apply(&view, &micro);
}

static uint32_t payload_size(void)
{
    if (run.uniform_bytes != 0) {
        return run.uniform_bytes;
    }
    switch (sim_below(&run.sim, 8)) {
    case 0:
        return 0;
    case 1:
        return (uint32_t)sim_below(&run.sim, 9);
    case 2:
        return (uint32_t)sim_below(&run.sim, 3000);
    case 3:
        return run.log.segment_bytes - SEGMENT_HEADER_BYTES - 2 * SEGMENT_FRAME_HEADER_BYTES;
    default:
        return (uint32_t)sim_below(&run.sim, 200);
    }
}

static void do_append(void)
{
    const uint32_t count =
        (uint32_t)(sim_chance(&run.sim, 700000) ? 1 + sim_below(&run.sim, 3)
                                                : 1 + sim_below(&run.sim, FRAMES_MAX));
    uint32_t sizes[FRAMES_MAX];
    size_t total = 0;
    for (uint32_t i = 0; i < count; i++) {
        sizes[i] = payload_size();
        total += sizes[i];
    }
    struct op *op = op_new();
    op->payload = malloc(total + 1);
    CHECK(op->payload != NULL);
    for (size_t i = 0; i < total; i += 8) {
        const uint64_t word = sim_random(&run.sim);
        memcpy(op->payload + i, &word, total - i < 8 ? total - i : 8);
    }
    size_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        const size_t half = sizes[i] / 2;
        op->pieces[i][0] = bytes_of(op->payload + at, half);
        op->pieces[i][1] = bytes_of(op->payload + at + half, sizes[i] - half);
        op->entries[i] = (struct log_entry){
            .term = sim_below(&run.sim, 100),
            .type = (uint8_t)(LOG_TYPE_OWNER + sim_below(&run.sim, 200)),
            .piece_count = 2,
            .pieces = op->pieces[i],
        };
        at += sizes[i];
    }
    const int status = log_append(&run.log, &op->request, op->entries, count);
    if (status != 0) {
        EXPECT(status == -ENOSPC || status == STATUS_FULL || status == log_status(&run.log));
        free(op->payload);
        free(op);
        return;
    }
    EXPECT(op->request.index == view.next);
    at = 0;
    for (uint32_t i = 0; i < count; i++) {
        micro_add((struct micro){
            .kind = MICRO_FRAME,
            .index = view.next,
            .frame = {.term = op->entries[i].term,
                      .size = sizes[i],
                      .crc = crc32c(0, op->payload + at, sizes[i]),
                      .type = op->entries[i].type},
        });
        at += sizes[i];
    }
    op_accepted(op);
}

static void do_truncate(void)
{
    const uint64_t first = log_index_first(&run.log);
    uint64_t index = view.next - sim_below(&run.sim, 20);
    if (index < first || index > view.next) {
        index = first;
    }
    if (index < run.released) {
        index = run.released; /* owners never take back what they allowed to go */
    }
    if (index < first || index > view.next) {
        return;
    }
    struct op *op = op_new();
    if (log_truncate(&run.log, &op->request, index) != 0) {
        free(op);
        return;
    }
    micro_add((struct micro){.kind = MICRO_TRUNCATE, .index = index});
    op_accepted(op);
}

static void do_reset(void)
{
    struct op *op = op_new();
    const uint64_t index = view.next + sim_below(&run.sim, 50);
    if (log_reset(&run.log, &op->request, index) != 0) {
        free(op);
        return;
    }
    micro_add((struct micro){.kind = MICRO_RESET, .index = index});
    op_accepted(op);
}

static void do_release(void)
{
    const uint64_t next = log_durable_next(&run.log);
    if (next > run.released && run.log.truncations == 0) {
        run.released += sim_below(&run.sim, next - run.released + 1);
        log_release(&run.log, run.released);
    }
}

static void do_meta(void)
{
    run.meta_asked = sim_random(&run.sim);
    const int status = log_meta_put(&run.log, bytes_of(&run.meta_asked, sizeof run.meta_asked));
    if (status == 0) {
        run.meta_acked = run.meta_asked;
    }
}

static void do_file(void)
{
    run.file_asked = sim_random(&run.sim) | 1u;
    const struct bytes piece = bytes_of(&run.file_asked, sizeof run.file_asked);
    const int status = log_file_put(&run.log, "manifest", &piece, 1);
    if (status == 0) {
        run.file_acked = run.file_asked;
    }
}

/* Whatever a cursor lends is what was written there. */
static void do_read(void)
{
    if (sim_chance(&run.sim, 300000)) {
        log_cursor_seek(&run.cursor, 1 + sim_below(&run.sim, view.next + 2));
    }
    for (uint64_t i = sim_below(&run.sim, 30); i > 0; i--) {
        struct log_frame frame;
        const uint64_t index = run.cursor.index_next;
        const int answer = log_cursor_next(&run.cursor, &frame);
        if (answer == LOG_CURSOR_FRAME) {
            const struct frame found = frame_of(&frame);
            EXPECT(frame.index == index);
            EXPECT(index < view.next);
            EXPECT(frame_equal(&found, &view.frames[index % STATE_MAX]));
        } else if (answer == LOG_CURSOR_GONE) {
            EXPECT(index < run.released || index < view.first);
            log_cursor_seek(&run.cursor, log_index_first(&run.log));
            return;
        } else {
            EXPECT(answer == LOG_CURSOR_END || run.disk.halted || run.disk.fail_status != 0);
            EXPECT(answer != LOG_CURSOR_END || index >= log_durable_next(&run.log));
            return;
        }
    }
}

static void on_closed(void *context)
{
    struct run *closed = context;
    closed->closed = true;
}

static void work(void)
{
    const uint64_t what = sim_below(&run.sim, 100);
    if (what < 55) {
        do_append();
    } else if (what < 62) {
        do_truncate();
    } else if (what < 63) {
        do_reset();
    } else if (what < 70) {
        do_release();
    } else if (what < 72) {
        do_meta();
    } else if (what < 73) {
        do_file();
    } else if (what < 78) {
        log_tick(&run.log);
    } else if (what < 90) {
        do_read();
    } else if (what < 91 && run.disk.capacity_bytes != UINT64_MAX) {
        run.disk.capacity_bytes = UINT64_MAX; /* space returns */
    } else if (what < 92 && sim_chance(&run.sim, 200000)) {
        run.disk.capacity_bytes = disk_sim_used_bytes(&run.disk) + sim_below(&run.sim, 40000);
    } else if (what < 93) {
        disk_sim_slow(&run.disk, sim_below(&run.sim, 5000), 10);
    }
}

/* -- recovery -------------------------------------------------------------------------------- */

static void read_all(struct state *out, const struct log_recovery *recovery)
{
    struct log_cursor cursor;
    out->first = recovery->index_first;
    out->next = recovery->index_next;
    log_cursor_open(&cursor, &run.log, out->first);
    for (uint64_t index = out->first; index < out->next; index++) {
        struct log_frame frame;
        EXPECT(log_cursor_next(&cursor, &frame) == LOG_CURSOR_FRAME);
        EXPECT(frame.index == index);
        out->frames[index % STATE_MAX] = frame_of(&frame);
        EXPECT(index + 1 < out->next || frame.term == recovery->term_last);
    }
    struct log_frame frame;
    EXPECT(log_cursor_next(&cursor, &frame) == LOG_CURSOR_END);
    log_cursor_close(&cursor);
}

/* Whether what was found is the state the model holds now, less what was allowed to go. */
static bool state_matches(const struct state *found, const struct state *model)
{
    const uint64_t must_first = run.released > model->first ? run.released : model->first;
    if (found->next != model->next ||
        found->first > (must_first < model->next ? must_first : model->next) ||
        found->first < model->first) {
        return false;
    }
    for (uint64_t index = found->next; index > found->first; index--) {
        if (!frame_equal(&found->frames[(index - 1) % STATE_MAX],
                         &model->frames[(index - 1) % STATE_MAX])) {
            return false;
        }
    }
    return true;
}

static void check_recovered(const struct log_recovery *recovery)
{
    static struct state found;
    read_all(&found, recovery);

    trial.first = base.first;
    trial.next = base.next;
    for (uint64_t i = base.first; i < base.next; i++) {
        trial.frames[i % STATE_MAX] = base.frames[i % STATE_MAX];
    }
    for (uint32_t i = 0; i < run.micro_acked; i++) {
        state_apply(&trial, &run.micros[i]);
    }
    uint32_t kept = run.micro_acked;
    while (!state_matches(&found, &trial)) {
        if (kept == run.micro_count) {
            fprintf(stderr, "found [%llu, %llu), acknowledged micro %u of %u, released %llu\n",
                    (unsigned long long)found.first, (unsigned long long)found.next,
                    run.micro_acked, run.micro_count, (unsigned long long)run.released);
        }
        EXPECT(kept < run.micro_count);
        state_apply(&trial, &run.micros[kept]);
        kept++;
    }
    base.first = trial.first;
    base.next = trial.next;
    view.first = trial.first;
    view.next = trial.next;
    for (uint64_t i = trial.first; i < trial.next; i++) {
        base.frames[i % STATE_MAX] = trial.frames[i % STATE_MAX];
        view.frames[i % STATE_MAX] = trial.frames[i % STATE_MAX];
    }
    run.micro_count = 0;
    run.micro_acked = 0;
    if (run.released > base.next) {
        run.released = base.next;
    }

    const struct bytes meta = log_meta_get(&run.log);
    uint64_t value = 0;
    memcpy(&value, meta.data, meta.size < sizeof value ? meta.size : sizeof value);
    EXPECT(value == run.meta_acked || value == run.meta_asked);
    run.meta_acked = value;
    run.meta_asked = value;
    uint8_t *data;
    size_t size;
    const int status = log_file_get(&run.log, "manifest", &data, &size);
    value = 0;
    if (status == 0) {
        EXPECT(size == sizeof value);
        memcpy(&value, data, size);
    }
    EXPECT(status == 0 || status == -ENOENT);
    EXPECT(value == run.file_acked || value == run.file_asked);
    run.file_acked = value;
    run.file_asked = value;
    free(data);
}

static void ops_free(void)
{
    while (run.ops != NULL) {
        struct op *op = run.ops;
        run.ops = op->next;
        free(op->payload);
        free(op);
    }
    run.op_count = 0;
    run.op_called = 0;
}

static void cut(void)
{
    disk_sim_crash(&run.disk, sim_chance(&run.sim, 200000) ? DISK_SIM_KILL : DISK_SIM_POWER);
    run.disk.fail_status = 0;
    cuts_made++;
}

static void life(bool last)
{
    struct log_options options = {
        .directory = DIRECTORY,
        .owner = {1, 2, 3},
        .segment_bytes = sim_chance(&run.sim, 900000) ? 16384 : 20480,
        .history_bytes = sim_below(&run.sim, 3) * 16384,
    };
    struct log_recovery recovery;
    if (sim_chance(&run.sim, 150000)) {
        run.disk.halt_at = run.disk.operations + 1 + sim_below(&run.sim, 30);
    }
    int status = log_open(&run.log, &run.disk.disk, &options, &recovery);
    if (status != 0) { /* cut in the middle of recovery */
        if (!run.disk.halted && status != -ENOSPC) {
            fprintf(stderr, "log_open: %s: %s at %llu\n", recovery.message, recovery.path,
                    (unsigned long long)recovery.damage_offset);
        }
        EXPECT(run.disk.halted || status == -ENOSPC);
        run.disk.capacity_bytes = UINT64_MAX;
        cut();
        opens_cut++;
        return;
    }
    tails_cut += recovery.cut_bytes > 0;
    if (run.disk.halted) { /* cut right behind it, when the next segment is prepared */
        cut();
        opens_cut++;
        log_forget(&run.log);
        return;
    }
    if (run.disk.halt_at != 0) { /* it came through; checking reads, which must not be cut */
        run.disk.halt_at = 0;
    }
    check_recovered(&recovery);
    log_cursor_open(&run.cursor, &run.log, 1 + sim_below(&run.sim, view.next));
    log_release(&run.log, run.released);

    if (sim_chance(&run.sim, 500000)) {
        run.disk.halt_at = run.disk.operations + 1 + sim_below(&run.sim, 200);
    } else if (sim_chance(&run.sim, 100000)) {
        run.disk.fail_at = run.disk.operations + 1 + sim_below(&run.sim, 100);
        run.disk.fail_status = sim_chance(&run.sim, 500000) ? -EIO : -ENOSPC;
        run.disk.fail_for_good = sim_chance(&run.sim, 500000);
    }
    uint64_t steps = sim_below(&run.sim, 150);
    while (steps > 0 && !run.disk.halted && log_status(&run.log) == 0) {
        steps--;
        if (sim_chance(&run.sim, 500000)) {
            work();
        } else {
            sim_step(&run.sim);
        }
    }
    if (last || (!run.disk.halted && sim_chance(&run.sim, 150000))) {
        log_close(&run.log, on_closed, &run);
        run.closed = false;
        while (!run.closed && sim_step(&run.sim)) {
        }
        EXPECT(run.closed);
        EXPECT(run.op_called == run.op_count); /* each was called back exactly once */
    }
    log_cursor_close(&run.cursor);
    cut();
    if (!run.closed) {
        log_forget(&run.log);
    }
    run.closed = false;
    ops_free();
}

static void run_seed(uint64_t seed)
{
    seed_now = seed;
    sim_init(&run.sim, seed);
    disk_sim_init(&run.disk, &run.sim);
    base.first = 1;
    base.next = 1;
    view.first = 1;
    view.next = 1;
    run.micro_count = 0;
    run.micro_acked = 0;
    run.released = 1;
    run.uniform_bytes =
        sim_chance(&run.sim, 300000) ? (sim_chance(&run.sim, 500000) ? 480 : 96) : 0;
    run.meta_acked = run.meta_asked = 0;
    run.file_acked = run.file_asked = 0;
    for (uint32_t i = 0; i < LIVES; i++) {
        life(i + 1 == LIVES);
    }
    disk_sim_deinit(&run.disk);
    sim_deinit(&run.sim);
}

int main(int argc, char **argv)
{
    uint64_t seconds = 20;
    uint64_t cuts = UINT64_MAX;
    uint64_t seed = 1;
    for (int i = 1; i + 1 < argc; i += 2) {
        const uint64_t value = strtoull(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--seconds") == 0) {
            seconds = value;
        } else if (strcmp(argv[i], "--seed") == 0) {
            seed = value;
        } else if (strcmp(argv[i], "--cuts") == 0) {
            cuts = value;
        } else {
            fprintf(stderr, "usage: cuts [--seconds N] [--seed S] [--cuts N]\n");
            return 2;
        }
    }
    struct timespec start;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    uint64_t runs = 0;
    do {
        run_seed(seed);
        seed++;
        runs++;
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((uint64_t)(now.tv_sec - start.tv_sec) < seconds && cuts_made < cuts);
    printf("cuts: %llu cuts in %llu runs, %llu of them in recovery; %llu torn tails, %llu frames "
           "acknowledged, 0 lost\n",
           (unsigned long long)cuts_made, (unsigned long long)runs, (unsigned long long)opens_cut,
           (unsigned long long)tails_cut, (unsigned long long)frames_acked);
    return 0;
}
