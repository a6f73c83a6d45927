/* Claim: whichever call to the disk fails, first, second, third ..., nothing acknowledged is lost and
 * nothing is acknowledged after it; everybody who waits is called exactly once; open says why it
 * refuses; and the next start, on a disk that works, finds everything.
 *
 * Method: the same seeded workload (workload.h: appends, rolls, truncations, resets, releases and
 * drops, meta, files, reads), over several lives with crashes in between, so recovery fails too. One
 * call later at each run, until a run meets no fault; with -EIO and -ENOSPC, one call or all from
 * then on. A write that fails leaves a random part of itself: that is what a short one is.
 *
 *     faults [--seed S] [--seeds N]
 *
 * With sanitizers a file or memory that a failure leaves behind is seen, too.
 */
#include "schemas/check.h"
#include "schemas/status.h"
#include "tests/log/workload.h"

#include <stdio.h>
#include <stdlib.h>

#define LIVES      2u
#define LIFE_STEPS 30u

static const struct fault {
    int status;
    bool for_good;
    bool forgets; /* a sync that failed leaves pages that look written, and the process starts again
                     before the power goes */
} faults[] = {
    {-EIO, false, false},    {-EIO, true, false},    {-EIO, false, true},
    {-ENOSPC, false, false}, {-ENOSPC, true, false},
};

static struct workload w;
static uint64_t runs;
static uint64_t failed_opens;
static uint64_t failed_logs;
static uint64_t survived; /* faults that a log lives with */

static void on_closed(void *context)
{
    *(bool *)context = true;
}

static int life_open(void)
{
    const struct log_options options = {
        .directory = WORKLOAD_DIRECTORY,
        .owner = {7, 8, 9},
        .segment_bytes = SEGMENT_BYTES_MIN,
        .history_bytes = SEGMENT_BYTES_MIN,
    };
    struct log_recovery recovery;
    const int status = log_open(&w.log, &w.disk.disk, &options, &recovery);
    WORKLOAD_EXPECT(&w, (status == 0) == (recovery.message == NULL));
    if (status == 0) {
        const uint64_t fail_at = w.disk.fail_at; /* to check is not to use: it meets no fault */
        w.disk.fail_at = 0;
        workload_settle(&w, &recovery);
        w.disk.fail_at = fail_at;
    }
    return status;
}

static void life_close(void)
{
    bool closed = false;
    workload_leave(&w);
    log_close(&w.log, on_closed, &closed);
    while (!closed && sim_step(&w.sim)) {
    }
    WORKLOAD_EXPECT(&w, closed);
    WORKLOAD_EXPECT(&w, workload_idle(&w));
    WORKLOAD_EXPECT(&w, w.disk.files == NULL); /* every file was given back */
}

/* One life on a disk that fails at some place. */
static void life(bool close)
{
    const enum disk_sim_crash how = w.disk.fail_forgets ? DISK_SIM_KILL : DISK_SIM_POWER;
    const int status = life_open();
    if (status != 0) {
        WORKLOAD_EXPECT(&w, status == w.disk.fail_status);
        WORKLOAD_EXPECT(&w, w.disk.files == NULL);
        failed_opens++;
        disk_sim_crash(&w.disk, how);
        return;
    }
    for (uint32_t i = 0; i < LIFE_STEPS; i++) {
        workload_work(&w);
        w.disk.capacity_bytes = UINT64_MAX;
        sim_step(&w.sim);
        sim_step(&w.sim);
    }
    const bool failed = log_status(&w.log) != 0;
    failed_logs += failed;
    if (close || failed) {
        life_close();
        disk_sim_crash(&w.disk, how);
    } else {
        workload_leave(&w);
        disk_sim_crash(&w.disk, how);
        log_forget(&w.log);
    }
    workload_forget(&w);
}

/* false: the fault lies behind the end of the story. */
static bool run(uint64_t seed, const struct fault *fault, uint64_t at)
{
    workload_init(&w, seed, "faults --seeds 1 --seed");
    const uint64_t before = failed_opens + failed_logs;
    bool met = false;
    for (uint32_t i = 0; i < LIVES; i++) {
        w.disk.fail_status = fault->status;
        w.disk.fail_for_good = fault->for_good;
        w.disk.fail_forgets = fault->forgets;
        w.disk.fail_at = met ? 0 : at; /* one place in the whole story */
        life(i + 1 == LIVES);
        met = w.disk.operations >= at;
    }
    w.disk.fail_status = 0;
    WORKLOAD_EXPECT(&w, life_open() == 0); /* and checks */
    workload_leave(&w);
    disk_sim_crash(&w.disk, DISK_SIM_POWER_DROP); /* what it showed is durable */
    log_forget(&w.log);
    WORKLOAD_EXPECT(&w, life_open() == 0);
    life_close();
    workload_forget(&w);
    workload_deinit(&w);
    runs++;
    survived += met && failed_opens + failed_logs == before;
    return met;
}

int main(int argc, char **argv)
{
    uint64_t seed = 1;
    uint64_t seeds = 2;
    for (int i = 1; i < argc; i += 2) {
        const uint64_t value = i + 1 < argc ? strtoull(argv[i + 1], NULL, 10) : 0;
        if (strcmp(argv[i], "--seed") == 0 && value > 0) {
            seed = value;
        } else if (strcmp(argv[i], "--seeds") == 0 && value > 0) {
            seeds = value;
        } else {
            fprintf(stderr, "usage: faults [--seed S] [--seeds N]\n");
            return 2;
        }
    }
    for (uint64_t i = 0; i < seeds; i++) {
        for (size_t k = 0; k < sizeof faults / sizeof *faults; k++) {
            for (uint64_t at = 1; run(seed + i, &faults[k], at); at++) {
            }
        }
    }
    printf("faults: %llu runs of %llu workloads, each with its fault one call later: %llu refused "
           "opens, "
           "%llu failed logs, %llu survived, 0 lost\n",
           (unsigned long long)runs, (unsigned long long)seeds, (unsigned long long)failed_opens,
           (unsigned long long)failed_logs, (unsigned long long)survived);
    return 0;
}
