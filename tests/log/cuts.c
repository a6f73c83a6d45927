/* Claim: wherever, however and however often a machine is cut off, the log keeps all that was
 * acknowledged, in order, and nothing that was never written.
 *
 * Method: a seeded workload (workload.h) runs over the simulated disk. It is cut after a random
 * event, or in the middle of a random disk operation, recovery included; unsynced writes are dropped,
 * kept, torn at sectors. What recovery finds must be the workload up to some point that is not before
 * the last acknowledgement. Some runs meet a full disk or an I/O error on the way.
 *
 *     cuts [--seconds N] [--cuts N] [--seed S] [--jobs N]
 *
 * prints how many cuts it made; a failure prints how to repeat the run. prefixes.c does the same with
 * every place instead of a random one, for few workloads.
 */
#include "schemas/check.h"
#include "schemas/status.h"
#include "tests/log/workload.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LIVES    12u /* of the log in one run */
#define JOBS_MAX 64u

/* What one job did; shared with the process that waits for it. */
struct counts {
    uint64_t cuts;
    uint64_t runs;
    uint64_t opens_cut;
    uint64_t tails_cut;
    uint64_t frames_acked;
    uint64_t footers_read;
    uint64_t footers_missing;
};

static struct workload w;
static struct counts *counts;

static void on_closed(void *context)
{
    *(bool *)context = true;
}

static void cut(void)
{
    disk_sim_crash(&w.disk, sim_chance(&w.sim, 200000) ? DISK_SIM_KILL : DISK_SIM_POWER);
    w.disk.fail_status = 0;
    counts->cuts++;
}

/* Open, with a cut in the middle sometimes. false: that was this life. */
static bool life_open(void)
{
    const struct log_options options = {
        .directory = WORKLOAD_DIRECTORY,
        .owner = {1, 2, 3},
        .segment_bytes = sim_chance(&w.sim, 900000) ? 16384 : 20480,
        .history_bytes = sim_below(&w.sim, 3) * 16384,
        .history_ms = sim_below(&w.sim, 3) * 5,
        .limit_bytes = sim_chance(&w.sim, 200000) ? 1 + sim_below(&w.sim, 200000) : 0,
        .early_bytes = (uint32_t)sim_below(&w.sim, 4) * 512, /* 0: batches never queue up here */
    };
    struct log_recovery recovery;
    if (sim_chance(&w.sim, 150000)) {
        w.disk.halt_at = w.disk.operations + 1 + sim_below(&w.sim, 30);
    }
    const int status = log_open(&w.log, &w.disk.disk, &options, &recovery);
    if (status != 0) {
        if (!w.disk.halted && status != -ENOSPC) {
            fprintf(stderr, "log_open: %s: %s at %llu\n", recovery.message, recovery.path,
                    (unsigned long long)recovery.damage_offset);
        }
        WORKLOAD_EXPECT(&w, w.disk.halted || status == -ENOSPC);
        w.disk.capacity_bytes = UINT64_MAX;
        cut();
        counts->opens_cut++;
        return false;
    }
    counts->tails_cut += recovery.cut_bytes > 0;
    if (w.disk.halted) { /* cut right behind it, when the next segment is prepared */
        cut();
        counts->opens_cut++;
        log_forget(&w.log);
        return false;
    }
    w.disk.halt_at = 0; /* it came through; checking reads, which must not be cut */
    workload_settle(&w, &recovery);
    return true;
}

static void life(bool last)
{
    if (!life_open()) {
        return;
    }
    if (sim_chance(&w.sim, 500000)) {
        w.disk.halt_at = w.disk.operations + 1 + sim_below(&w.sim, 200);
    } else if (sim_chance(&w.sim, 100000)) {
        w.disk.fail_at = w.disk.operations + 1 + sim_below(&w.sim, 100);
        w.disk.fail_status = sim_chance(&w.sim, 500000) ? -EIO : -ENOSPC;
        w.disk.fail_for_good = sim_chance(&w.sim, 500000);
    }
    /* Short lives are what recovery is tried by; long ones roll, drop and reuse segments. */
    uint64_t steps = sim_below(&w.sim, sim_chance(&w.sim, 500000) ? 150 : 30);
    while (steps > 0 && !w.disk.halted && log_status(&w.log) == 0) {
        steps--;
        if (sim_chance(&w.sim, 500000)) {
            workload_work(&w);
        } else {
            sim_step(&w.sim);
        }
    }
    bool closed = false;
    if (last || (!w.disk.halted && sim_chance(&w.sim, 150000))) {
        workload_leave(&w);
        log_close(&w.log, on_closed, &closed);
        while (!closed && sim_step(&w.sim)) {
        }
        WORKLOAD_EXPECT(&w, closed);
        WORKLOAD_EXPECT(&w, workload_idle(&w)); /* each was called back exactly once */
    }
    workload_leave(&w);
    cut();
    if (!closed) {
        log_forget(&w.log);
    }
    workload_forget(&w);
}

static void run_seed(uint64_t seed)
{
    workload_init(&w, seed, "cuts --cuts 1 --seed");
    for (uint32_t i = 0; i < LIVES; i++) {
        life(i + 1 == LIVES);
    }
    workload_deinit(&w);
    counts->runs++;
    counts->frames_acked = w.frames_acked;
    counts->footers_read = w.footers_read;
    counts->footers_missing = w.footers_missing;
}

/* Every `stride`th seed from `seed` on, until there were `cuts`, or the time is over. */
static void job(uint64_t seed, uint64_t stride, uint64_t seconds, uint64_t cuts)
{
    struct timespec start;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
        run_seed(seed);
        seed += stride;
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((uint64_t)(now.tv_sec - start.tv_sec) < seconds && counts->cuts < cuts);
}

int main(int argc, char **argv)
{
    uint64_t seconds = UINT64_MAX;
    uint64_t cuts = UINT64_MAX;
    uint64_t seed = 1;
    uint64_t jobs = 1;
    for (int i = 1; i < argc; i += 2) {
        const uint64_t value = i + 1 < argc ? strtoull(argv[i + 1], NULL, 10) : 0;
        if (strcmp(argv[i], "--seconds") == 0 && value > 0) {
            seconds = value;
        } else if (strcmp(argv[i], "--seed") == 0 && value > 0) {
            seed = value;
        } else if (strcmp(argv[i], "--cuts") == 0 && value > 0) {
            cuts = value;
        } else if (strcmp(argv[i], "--jobs") == 0 && value > 0 && value <= JOBS_MAX) {
            jobs = value;
        } else {
            fprintf(stderr, "usage: cuts [--seconds N] [--cuts N] [--seed S] [--jobs N]\n");
            return 2;
        }
    }
    if (seconds == UINT64_MAX && cuts == UINT64_MAX) {
        seconds = 20;
    }
    struct counts *all =
        mmap(NULL, jobs * sizeof *all, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(all != MAP_FAILED);
    for (uint64_t i = 0; i < jobs; i++) {
        const pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            counts = &all[i];
            job(seed + i, jobs, seconds, cuts / jobs + (cuts % jobs != 0));
            exit(0); /* a sanitizer looks for leaks there */
        }
    }
    bool well = true;
    struct counts sum = {0};
    for (uint64_t i = 0; i < jobs; i++) {
        int status;
        CHECK(wait(&status) > 0);
        well = well && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    }
    for (uint64_t i = 0; i < jobs; i++) {
        sum.cuts += all[i].cuts;
        sum.runs += all[i].runs;
        sum.opens_cut += all[i].opens_cut;
        sum.tails_cut += all[i].tails_cut;
        sum.frames_acked += all[i].frames_acked;
        sum.footers_read += all[i].footers_read;
        sum.footers_missing += all[i].footers_missing;
    }
    printf(
        "cuts: seeds %llu..%llu: %llu cuts, %llu of them in recovery; %llu torn tails, %llu frames "
        "acknowledged, %s; of sealed segments %llu had their footer, %llu had lost it\n",
        (unsigned long long)seed, (unsigned long long)(seed + sum.runs - 1),
        (unsigned long long)sum.cuts, (unsigned long long)sum.opens_cut,
        (unsigned long long)sum.tails_cut, (unsigned long long)sum.frames_acked,
        well ? "0 lost" : "BROKEN", (unsigned long long)sum.footers_read,
        (unsigned long long)sum.footers_missing);
    return well ? 0 : 1;
}
