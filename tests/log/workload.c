#include "tests/log/workload.h"

#include "log/crc32c.h"
#include "log/inspect.h"
#include "schemas/check.h"
#include "schemas/status.h"

#include <stdio.h>
#include <stdlib.h>

#define FILE_NAME "manifest"

struct workload_op {
    struct log_request request;
    struct workload *workload;
    struct workload_op *next;
    uint32_t number;    /* in the order of submission: callbacks must come in it */
    uint32_t micro_end; /* how many micros there are once this one is done */
    struct log_entry entries[WORKLOAD_FRAMES_MAX];
    struct bytes pieces[WORKLOAD_FRAMES_MAX][2];
    uint8_t *payload;
};

void workload_broken(const struct workload *w, const char *claim, const char *file, int line)
{
    fprintf(stderr, "%s:%d: broken: %s\nagain with: %s %llu\n", file, line, claim, w->again,
            (unsigned long long)w->sim.seed);
    fprintf(stderr, "acknowledged micro %u of %u since [%llu, %llu), released %llu\n",
            w->micro_acked, w->micro_count, (unsigned long long)w->base.first,
            (unsigned long long)w->base.next, (unsigned long long)w->released);
    exit(1);
}

/* -- the model ------------------------------------------------------------------------------- */

static void state_apply(struct workload_state *state, const struct workload_micro *micro)
{
    switch (micro->kind) {
    case WORKLOAD_FRAME:
        CHECK(micro->index == state->next);
        state->frames[state->next % WORKLOAD_STATE_MAX] = micro->frame;
        state->next++;
        break;
    case WORKLOAD_TRUNCATE:
        state->next = micro->index;
        if (state->first > state->next) {
            state->first = state->next;
        }
        break;
    case WORKLOAD_RESET:
        state->first = micro->index;
        state->next = micro->index;
        break;
    }
}

static bool frame_equal(const struct workload_frame *a, const struct workload_frame *b)
{
    return a->term == b->term && a->size == b->size && a->crc == b->crc && a->type == b->type;
}

struct workload_frame workload_frame_of(const struct log_frame *frame)
{
    return (struct workload_frame){
        .term = frame->term,
        .size = (uint32_t)frame->payload.size,
        .crc = crc32c(0, frame->payload.data, frame->payload.size),
        .type = frame->type,
    };
}

/* -- the workload ---------------------------------------------------------------------------- */

static void on_done(struct log_request *request, int status)
{
    struct workload_op *op = request->context;
    struct workload *w = op->workload;
    WORKLOAD_EXPECT(w, op->number == w->op_called);
    w->op_called++;
    if (status != 0) {
        WORKLOAD_EXPECT(w, log_status(&w->log) == status);
        WORKLOAD_EXPECT(w, status != STATUS_TOO_LARGE); /* refused when asked, or not at all */
        return;
    }
    for (uint32_t i = 0; i < LIMIT_LOG_BATCHES; i++) { /* what fails elsewhere does not undo this */
        WORKLOAD_EXPECT(w, w->log.batches[i].job.status == 0);
    }
    WORKLOAD_EXPECT(w, op->micro_end >= w->micro_acked);
    w->micro_acked = op->micro_end;
    w->frames_acked += op->request.entry_count;
    free(op->payload); /* borrowed only until now: the sanitizer sees who looks later */
    op->payload = NULL;
}

static struct workload_op *op_new(struct workload *w)
{
    struct workload_op *op = calloc(1, sizeof *op);
    CHECK(op != NULL);
    op->workload = w;
    op->number = w->op_count;
    op->request.callback = on_done;
    op->request.context = op;
    return op;
}

static void op_accepted(struct workload *w, struct workload_op *op)
{
    op->next = w->ops;
    w->ops = op;
    op->micro_end = w->micro_count;
    w->op_count++;
}

static void micro_add(struct workload *w, struct workload_micro micro)
{
    CHECK(w->micro_count < WORKLOAD_MICROS_MAX);
    w->micros[w->micro_count] = micro;
    w->micro_count++;
    state_apply(&w->view, &micro);
}

static uint32_t payload_size(struct workload *w)
{
    if (w->uniform_bytes != 0) {
        return w->uniform_bytes;
    }
    switch (sim_below(&w->sim, 20)) {
    case 0:
        return 0;
    case 1:
        return (uint32_t)sim_below(&w->sim, 9);
    case 2:
        return (uint32_t)sim_below(&w->sim, 3000);
    case 3:
        return w->log.segment_bytes - w->log.footer_bytes - SEGMENT_HEADER_BYTES -
               2 * SEGMENT_FRAME_HEADER_BYTES;
    default:
        return (uint32_t)sim_below(&w->sim, 200);
    }
}

static void do_append(struct workload *w)
{
    const uint32_t count =
        (uint32_t)(sim_chance(&w->sim, 700000) ? 1 + sim_below(&w->sim, 3)
                                               : 1 + sim_below(&w->sim, WORKLOAD_FRAMES_MAX));
    uint32_t sizes[WORKLOAD_FRAMES_MAX];
    size_t total = 0;
    for (uint32_t i = 0; i < count; i++) {
        sizes[i] = payload_size(w);
        total += sizes[i];
    }
    struct workload_op *op = op_new(w);
    op->payload = malloc(total + 1);
    CHECK(op->payload != NULL);
    for (size_t i = 0; i < total; i += 8) {
        const uint64_t word = sim_random(&w->sim);
        memcpy(op->payload + i, &word, total - i < 8 ? total - i : 8);
    }
    size_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        const size_t half = sizes[i] / 2;
        op->pieces[i][0] = bytes_of(op->payload + at, half);
        op->pieces[i][1] = bytes_of(op->payload + at + half, sizes[i] - half);
        op->entries[i] = (struct log_entry){
            .term = sim_below(&w->sim, 100),
            .type = (uint8_t)(LOG_TYPE_OWNER + sim_below(&w->sim, 200)),
            .piece_count = 2,
            .pieces = op->pieces[i],
        };
        at += sizes[i];
    }
    const int status = log_append(&w->log, &op->request, op->entries, count);
    if (status != 0) {
        WORKLOAD_EXPECT(w, status == -ENOSPC || status == STATUS_FULL ||
                               status == log_status(&w->log));
        free(op->payload);
        free(op);
        return;
    }
    WORKLOAD_EXPECT(w, op->request.index == w->view.next);
    at = 0;
    for (uint32_t i = 0; i < count; i++) {
        micro_add(w, (struct workload_micro){
                         .kind = WORKLOAD_FRAME,
                         .index = w->view.next,
                         .frame = {.term = op->entries[i].term,
                                   .size = sizes[i],
                                   .crc = crc32c(0, op->payload + at, sizes[i]),
                                   .type = op->entries[i].type},
                     });
        at += sizes[i];
    }
    op_accepted(w, op);
}

static void do_truncate(struct workload *w)
{
    const uint64_t first = log_index_first(&w->log);
    uint64_t index = w->view.next - sim_below(&w->sim, 20);
    if (index < first || index > w->view.next) {
        index = first;
    }
    if (index < w->released) {
        index = w->released; /* owners never take back what they allowed to go */
    }
    if (index < first || index > w->view.next) {
        return;
    }
    struct workload_op *op = op_new(w);
    if (log_truncate(&w->log, &op->request, index) != 0) {
        free(op);
        return;
    }
    micro_add(w, (struct workload_micro){.kind = WORKLOAD_TRUNCATE, .index = index});
    op_accepted(w, op);
}

static void do_reset(struct workload *w)
{
    struct workload_op *op = op_new(w);
    const uint64_t index = w->view.next + sim_below(&w->sim, 50);
    if (log_reset(&w->log, &op->request, index) != 0) {
        free(op);
        return;
    }
    micro_add(w, (struct workload_micro){.kind = WORKLOAD_RESET, .index = index});
    op_accepted(w, op);
}

static void do_release(struct workload *w)
{
    const uint64_t next = log_durable_next(&w->log);
    if (next > w->released && w->log.truncations == 0) {
        w->released += sim_below(&w->sim, next - w->released + 1);
        log_release(&w->log, w->released);
    }
}

static void do_meta(struct workload *w)
{
    const int failed = log_status(&w->log);
    if (failed != 0) {
        WORKLOAD_EXPECT(w, log_meta_put(&w->log, bytes_text("late")) == failed);
        return;
    }
    w->meta_asked = sim_random(&w->sim);
    if (log_meta_put(&w->log, bytes_of(&w->meta_asked, sizeof w->meta_asked)) == 0) {
        w->base.meta = w->meta_asked;
    }
}

static void do_file(struct workload *w)
{
    const int failed = log_status(&w->log);
    if (failed != 0) {
        WORKLOAD_EXPECT(w, log_file_remove(&w->log, FILE_NAME) == failed);
        return;
    }
    if (w->file_asked != w->base.file) {
        return; /* the disk was full: the old one may be there or the new, but not a third */
    }
    if (sim_chance(&w->sim, 300000)) {
        w->file_asked = 0;
        if (log_file_remove(&w->log, FILE_NAME) == 0) {
            w->base.file = 0;
        }
        return;
    }
    w->file_asked = sim_random(&w->sim) | 1u;
    const struct bytes piece = bytes_of(&w->file_asked, sizeof w->file_asked);
    if (log_file_put(&w->log, FILE_NAME, &piece, 1) == 0) {
        w->base.file = w->file_asked;
    }
}

/* Whatever a cursor lends is what was written there. */
static void do_read(struct workload *w)
{
    if (sim_chance(&w->sim, 300000)) {
        log_cursor_seek(&w->cursor, 1 + sim_below(&w->sim, w->view.next + 2));
    }
    for (uint64_t i = sim_below(&w->sim, 30); i > 0; i--) {
        struct log_frame frame;
        const uint64_t index = w->cursor.index_next;
        const int answer = log_cursor_next(&w->cursor, &frame);
        if (answer == LOG_CURSOR_FRAME) {
            const struct workload_frame found = workload_frame_of(&frame);
            WORKLOAD_EXPECT(w, frame.index == index);
            WORKLOAD_EXPECT(w, index < w->view.next);
            WORKLOAD_EXPECT(w, frame_equal(&found, &w->view.frames[index % WORKLOAD_STATE_MAX]));
        } else if (answer == LOG_CURSOR_GONE) {
            WORKLOAD_EXPECT(w, index < w->released || index < w->view.first);
            log_cursor_seek(&w->cursor, log_index_first(&w->log));
            return;
        } else {
            WORKLOAD_EXPECT(w,
                            answer == LOG_CURSOR_END || w->disk.halted || w->disk.fail_status != 0);
            WORKLOAD_EXPECT(w, answer != LOG_CURSOR_END || index >= log_durable_next(&w->log));
            return;
        }
    }
}

void workload_work(struct workload *w)
{
    const uint64_t what = sim_below(&w->sim, 100);
    if (what < 55) {
        do_append(w);
    } else if (what < 62) {
        do_truncate(w);
    } else if (what < 63) {
        do_reset(w);
    } else if (what < 70) {
        do_release(w);
    } else if (what < 72) {
        do_meta(w);
    } else if (what < 73) {
        do_file(w);
    } else if (what < 78) {
        if (sim_chance(&w->sim, 20000)) {
            w->clock_ms += (int64_t)sim_below(&w->sim, 8 * 3600 * 1000) - 4 * 3600 * 1000;
        }
        log_tick(&w->log, w->clock_ms + (int64_t)(w->sim.now_us / 1000));
    } else if (what < 90) {
        do_read(w);
    } else if (what < 91 && w->disk.capacity_bytes != UINT64_MAX) {
        w->disk.capacity_bytes = UINT64_MAX; /* space returns */
    } else if (what < 92 && sim_chance(&w->sim, 200000)) {
        w->disk.capacity_bytes = disk_sim_used_bytes(&w->disk) + sim_below(&w->sim, 40000);
    } else if (what < 93) {
        disk_sim_slow(&w->disk, sim_below(&w->sim, 5000), 10);
    }
}

bool workload_idle(const struct workload *w)
{
    return w->op_called == w->op_count;
}

/* -- recovery -------------------------------------------------------------------------------- */

static void state_copy(struct workload_state *to, const struct workload_state *from)
{
    to->first = from->first;
    to->next = from->next;
    to->meta = from->meta;
    to->file = from->file;
    for (uint64_t i = from->first; i < from->next; i++) {
        to->frames[i % WORKLOAD_STATE_MAX] = from->frames[i % WORKLOAD_STATE_MAX];
    }
}

static void read_all(const struct workload *w, struct log *log, const struct log_recovery *recovery,
                     struct workload_state *out)
{
    struct log_cursor cursor;
    out->first = recovery->index_first;
    out->next = recovery->index_next;
    log_cursor_open(&cursor, log, out->first);
    for (uint64_t index = out->first; index < out->next; index++) {
        struct log_frame frame;
        WORKLOAD_EXPECT(w, log_cursor_next(&cursor, &frame) == LOG_CURSOR_FRAME);
        WORKLOAD_EXPECT(w, frame.index == index);
        out->frames[index % WORKLOAD_STATE_MAX] = workload_frame_of(&frame);
        WORKLOAD_EXPECT(w, index + 1 < out->next || frame.term == recovery->term_last);
    }
    struct log_frame frame;
    WORKLOAD_EXPECT(w, log_cursor_next(&cursor, &frame) == LOG_CURSOR_END);
    log_cursor_close(&cursor);

    const struct bytes meta = log_meta_get(log);
    out->meta = 0;
    memcpy(&out->meta, meta.data, meta.size < sizeof out->meta ? meta.size : sizeof out->meta);
    uint8_t *data;
    size_t size;
    const int status = log_file_get(log, FILE_NAME, &data, &size);
    WORKLOAD_EXPECT(w, status == 0 || status == -ENOENT);
    out->file = 0;
    if (status == 0) {
        WORKLOAD_EXPECT(w, size == sizeof out->file);
        memcpy(&out->file, data, size);
    }
    free(data);
}

/* Whether what was found is the state the model holds now, less what was allowed to go. */
static bool state_matches(const struct workload_state *found, const struct workload_state *model,
                          uint64_t released)
{
    const uint64_t must_first = released > model->first ? released : model->first;
    if (found->next != model->next ||
        found->first > (must_first < model->next ? must_first : model->next) ||
        found->first < model->first) {
        return false;
    }
    for (uint64_t index = found->next; index > found->first; index--) {
        if (!frame_equal(&found->frames[(index - 1) % WORKLOAD_STATE_MAX],
                         &model->frames[(index - 1) % WORKLOAD_STATE_MAX])) {
            return false;
        }
    }
    return true;
}

void workload_verify(const struct workload *w, struct log *log, const struct log_recovery *recovery,
                     struct workload_state *out_found)
{
    static struct workload_state trial;
    read_all(w, log, recovery, out_found);
    state_copy(&trial, &w->base);
    for (uint32_t i = 0; i < w->micro_acked; i++) {
        state_apply(&trial, &w->micros[i]);
    }
    uint32_t kept = w->micro_acked;
    while (!state_matches(out_found, &trial, w->released)) {
        WORKLOAD_EXPECT(w, kept < w->micro_count);
        state_apply(&trial, &w->micros[kept]);
        kept++;
    }
    WORKLOAD_EXPECT(w, out_found->meta == w->base.meta || out_found->meta == w->meta_asked);
    WORKLOAD_EXPECT(w, out_found->file == w->base.file || out_found->file == w->file_asked);
}

void workload_verify_state(const struct workload *w, struct log *log,
                           const struct log_recovery *recovery, const struct workload_state *state)
{
    static struct workload_state found;
    read_all(w, log, recovery, &found);
    WORKLOAD_EXPECT(w, found.first == state->first);
    WORKLOAD_EXPECT(w, state_matches(&found, state, state->first));
    WORKLOAD_EXPECT(w, found.meta == state->meta);
    WORKLOAD_EXPECT(w, found.file == state->file);
}

/* Footers, frames and what log_open made of both are one view; some of the footers were torn. */
static void check_inspected(struct workload *w)
{
    static const enum inspect_depth depths[] = {INSPECT_QUICK, INSPECT_VERIFY};
    struct inspect inspect;
    const struct extents *want = &w->log.extents;
    for (size_t i = 0; i < 2; i++) {
        WORKLOAD_EXPECT(w,
                        inspect_open(&inspect, &w->disk.disk, WORKLOAD_DIRECTORY, depths[i]) == 0);
        WORKLOAD_EXPECT(w, inspect.damage_status == 0);
        const struct extents *have = &inspect.extents;
        WORKLOAD_EXPECT(w, have->count - have->first == want->count - want->first);
        WORKLOAD_EXPECT(w, want->count == want->first ||
                               memcmp(have->list + have->first, want->list + want->first,
                                      (want->count - want->first) * sizeof *want->list) == 0);
        WORKLOAD_EXPECT(w, inspect.index_next == want->index_next);
        for (uint32_t s = 0; s < inspect.segment_count; s++) {
            const struct inspect_segment *segment = &inspect.segments[s];
            w->footers_read += depths[i] == INSPECT_QUICK && segment->footed;
            w->footers_missing += depths[i] == INSPECT_QUICK && segment->sealed && !segment->footed;
        }
        inspect_close(&inspect);
    }
}

void workload_settle(struct workload *w, const struct log_recovery *recovery)
{
    static struct workload_state found;
    check_inspected(w);
    workload_verify(w, &w->log, recovery, &found);
    /* What was seen once is durable: recovery synced it. */
    state_copy(&w->base, &found);
    state_copy(&w->view, &found);
    w->micro_count = 0;
    w->micro_acked = 0;
    w->meta_asked = w->base.meta;
    w->file_asked = w->base.file;
    if (w->released > w->base.next) {
        w->released = w->base.next;
    }
    log_cursor_open(&w->cursor, &w->log, 1 + sim_below(&w->sim, w->view.next));
    w->settled = true;
    log_release(&w->log, w->released);
}

void workload_leave(struct workload *w)
{
    if (w->settled) {
        log_cursor_close(&w->cursor);
        w->settled = false;
    }
}

void workload_forget(struct workload *w)
{
    CHECK(!w->settled);
    while (w->ops != NULL) {
        struct workload_op *op = w->ops;
        w->ops = op->next;
        free(op->payload);
        free(op);
    }
    w->op_count = 0;
    w->op_called = 0;
}

void workload_init(struct workload *w, uint64_t seed, const char *again)
{
    sim_init(&w->sim, seed);
    disk_sim_init(&w->disk, &w->sim);
    w->again = again;
    w->uniform_bytes = sim_chance(&w->sim, 300000) ? (sim_chance(&w->sim, 500000) ? 480 : 96) : 0;
    w->base.first = 1;
    w->base.next = 1;
    w->base.meta = 0;
    w->base.file = 0;
    state_copy(&w->view, &w->base);
    w->micro_count = 0;
    w->micro_acked = 0;
    w->released = 1;
    w->clock_ms = 1700000000000;
    w->meta_asked = 0;
    w->file_asked = 0;
    w->settled = false;
}

void workload_deinit(struct workload *w)
{
    workload_leave(w);
    workload_forget(w);
    disk_sim_deinit(&w->disk);
    sim_deinit(&w->sim);
}
