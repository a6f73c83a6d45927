/* What the tests of crashes and failures put a log through, and what it must hold afterwards.
 *
 * A workload is a log on a simulated disk, a stream of random requests (appends of all sizes,
 * truncations, resets, releases, meta and files, ticks, reads), and a model of what they mean: a list
 * of micros, the smallest things recovery may keep or lose. What recovery finds must be the model
 * after some number of micros, at least those that were acknowledged: every frame by index, term,
 * type, size and content. Also checked on the way: callbacks come once, in the order of the requests,
 * with nothing acknowledged after a failure; cursors lend what was written.
 *
 *     workload_init     a seed is a story
 *     log_open(&w->log, &w->disk.disk, ...)     the caller's, and so are crashes and faults
 *     workload_settle   after log_open: checks, and the model goes on from what was found
 *     workload_work     one thing
 *     workload_forget   after log_forget or log_close
 *
 * A broken claim prints where and how to repeat the run, and ends the process.
 */
#ifndef KELP_TESTS_LOG_WORKLOAD_H
#define KELP_TESTS_LOG_WORKLOAD_H

#include "log/log.h"
#include "tests/sim/disk_sim.h"

#define WORKLOAD_DIRECTORY  "/log"
#define WORKLOAD_FRAMES_MAX 64u    /* in one request */
#define WORKLOAD_MICROS_MAX 20000u /* between two recoveries */
#define WORKLOAD_STATE_MAX  65536u /* frames a log holds at once */

struct workload_frame {
    uint64_t term;
    uint32_t size;
    uint32_t crc;
    uint8_t type;
};

enum workload_micro_kind { WORKLOAD_FRAME, WORKLOAD_TRUNCATE, WORKLOAD_RESET };

struct workload_micro {
    enum workload_micro_kind kind;
    uint64_t index;
    struct workload_frame frame;
};

/* What a log holds or should hold: frames [first, next), and the small things beside them. */
struct workload_state {
    uint64_t first;
    uint64_t next;
    uint64_t meta;
    uint64_t file;                                    /* 0: there is none */
    struct workload_frame frames[WORKLOAD_STATE_MAX]; /* of index i at i % WORKLOAD_STATE_MAX */
};

struct workload_op; /* one request under way */

struct workload {
    struct sim sim;
    struct disk_sim disk;
    struct log log;
    struct log_cursor cursor; /* reads what is written; open from workload_settle on */
    const char *again;        /* the command that repeats the run, but for the seed */
    uint64_t frames_acked;    /* counts */
    uint64_t footers_read;    /* of sealed segments after recovery */
    uint64_t footers_missing; /* the same */
    uint32_t uniform_bytes;   /* not 0: all payloads have this size, so that debris of a torn batch
                                   lies exactly where new frames will end */
    bool settled;             /* the cursor is open */
    struct workload_op *ops;  /* the rest is workload.c's own */
    uint32_t op_count;
    uint32_t op_called;
    struct workload_state base;                        /* what recovery found last */
    struct workload_state view;                        /* base and all micros */
    struct workload_micro micros[WORKLOAD_MICROS_MAX]; /* since then */
    uint32_t micro_count;
    uint32_t micro_acked;
    uint64_t released;
    int64_t clock_ms;    /* of log_tick, ahead of the simulation's time; it jumps */
    uint64_t meta_asked; /* base has what was acknowledged */
    uint64_t file_asked;
};

#define WORKLOAD_EXPECT(w, claim)                                                                  \
    ((claim) ? (void)0 : workload_broken(w, #claim, __FILE__, __LINE__))

_Noreturn void workload_broken(const struct workload *w, const char *claim, const char *file,
                               int line);

/* What a frame looks like to the model. */
struct workload_frame workload_frame_of(const struct log_frame *frame);

/* An empty disk, and no log yet. */
void workload_init(struct workload *w, uint64_t seed, const char *again);
void workload_deinit(struct workload *w);

/* One random request, or something like it; the log is open. */
void workload_work(struct workload *w);
/* Whether every request was called back. */
bool workload_idle(const struct workload *w);

/* Check what log_open found on `log` (w->log, or one on a clone of its disk) against the model.
 *
 *   out_found  what is there; the model stays as it is
 */
void workload_verify(const struct workload *w, struct log *log, const struct log_recovery *recovery,
                     struct workload_state *out_found);
/* Check that a log that was opened holds exactly this. */
void workload_verify_state(const struct workload *w, struct log *log,
                           const struct log_recovery *recovery, const struct workload_state *state);
/* The same as workload_verify for w->log; the model goes on from there, and cursors may read. */
void workload_settle(struct workload *w, const struct log_recovery *recovery);
/* Close the cursor: before the log is closed, or after the disk under it crashed. */
void workload_leave(struct workload *w);
/* Forget the requests of a life that is over: the log was closed or forgotten. */
void workload_forget(struct workload *w);

#endif
