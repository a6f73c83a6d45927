/* Claim: after every prefix of what a log did to its disk, recovery keeps all that was acknowledged
 * and nothing that was never written; so it does when that recovery is cut off itself, wherever; and
 * what is appended afterwards stays.
 *
 * Method: the operations of a seeded workload that change the disk (writes, syncs, renames, unlinks,
 * truncations, new files, syncs of the directory) are a numbered sequence, the same at every replay.
 * Before each of them the disk is cloned and crashes in several ways: what was not synced is lost,
 * is there, is torn at sectors in any subset; or only the process dies. On each wreck
 *
 *   - log_open runs, and before every change it makes itself the wreck is cloned, crashes again, and
 *     is recovered and checked
 *   - what was recovered is checked against the workload, and must be the same after one more crash
 *   - frames are appended, become durable, the power goes, and they must be there behind the others.
 *     They are as large as the workload's own, where those are all alike: then debris of a torn batch,
 *     if it were left, would lie exactly where the frame after them must be
 *
 *     prefixes [--seed S] [--seeds N] [--tears N]
 *
 * `cuts.c` does the same at random, for longer and with faults.
 */
#include "schemas/check.h"
#include "schemas/status.h"
#include "tests/log/workload.h"

#include <stdio.h>
#include <stdlib.h>

#define LIVES      3u
#define LIFE_STEPS 60u
#define APPENDED   3u

static struct workload w;
static const struct log_options options = {
    .directory = WORKLOAD_DIRECTORY,
    .owner = {4, 5, 6},
    .segment_bytes = SEGMENT_BYTES_MIN,
    .history_bytes = SEGMENT_BYTES_MIN,
};
static uint32_t tears = 2;
static uint64_t prefixes;
static uint64_t crashes;
static uint64_t chances; /* drawn so far in this workload: each wreck has a story of its own */
static uint64_t crashes_in_recovery;

/* A machine of its own on a clone of somebody's disk. */
struct wreck {
    struct sim sim;
    struct disk_sim disk;
    struct log log;
    struct log_recovery recovery;
};

static struct wreck first;  /* crashed where the workload was cut */
static struct wreck second; /* crashed again in its recovery */

static void wreck_make(struct wreck *wreck, const struct disk_sim *disk, enum disk_sim_crash how)
{
    chances++;
    sim_init(&wreck->sim, w.sim.seed << 32 | chances);
    disk_sim_clone(&wreck->disk, &wreck->sim, disk);
    disk_sim_crash(&wreck->disk, how);
    crashes++;
}

static void wreck_free(struct wreck *wreck)
{
    disk_sim_deinit(&wreck->disk);
    sim_deinit(&wreck->sim);
}

static void wreck_open(struct wreck *wreck)
{
    const int status = log_open(&wreck->log, &wreck->disk.disk, &options, &wreck->recovery);
    if (status != 0) {
        fprintf(stderr, "log_open: %s: %s at %llu\n", wreck->recovery.message, wreck->recovery.path,
                (unsigned long long)wreck->recovery.damage_offset);
    }
    WORKLOAD_EXPECT(&w, status == 0);
}

static void wreck_crash(struct wreck *wreck, enum disk_sim_crash how)
{
    disk_sim_crash(&wreck->disk, how);
    log_forget(&wreck->log);
    crashes++;
}

/* The recovery of the first wreck is about to change its disk: cut it here. */
static void recovery_on_change(void *context)
{
    (void)context;
    static struct workload_state found;
    wreck_make(&second, &first.disk, DISK_SIM_POWER);
    wreck_open(&second);
    workload_verify(&w, &second.log, &second.recovery, &found);
    wreck_crash(&second, DISK_SIM_KILL);
    wreck_free(&second);
    crashes_in_recovery++;
}

static void on_durable(struct log_request *request, int status)
{
    WORKLOAD_EXPECT(&w, status == 0);
    *(bool *)request->context = true;
}

/* Append behind what was recovered; `state` becomes what must be there then. */
static void wreck_append(struct wreck *wreck, struct workload_state *state)
{
    static const uint8_t payload[512];
    const uint32_t size = w.uniform_bytes != 0 ? w.uniform_bytes : 8;
    const struct bytes piece = bytes_of(payload, size);
    const struct log_entry entry = {
        .term = 1000, .type = LOG_TYPE_UP, .piece_count = 1, .pieces = &piece};
    const struct log_frame frame = {.term = entry.term, .type = entry.type, .payload = piece};
    for (uint32_t i = 0; i < APPENDED; i++) { /* each is a batch of its own */
        bool done = false;
        struct log_request request = {.callback = on_durable, .context = &done};
        WORKLOAD_EXPECT(&w, log_append(&wreck->log, &request, &entry, 1) == 0);
        WORKLOAD_EXPECT(&w, request.index == state->next);
        while (!done && sim_step(&wreck->sim)) {
        }
        WORKLOAD_EXPECT(&w, done);
        state->frames[state->next % WORKLOAD_STATE_MAX] = workload_frame_of(&frame);
        state->next++;
    }
}

static void wreck_examine(enum disk_sim_crash how)
{
    static struct workload_state found;
    wreck_make(&first, &w.disk, how);
    first.disk.on_change = recovery_on_change;
    wreck_open(&first);
    first.disk.on_change = NULL;
    workload_verify(&w, &first.log, &first.recovery, &found);
    wreck_crash(&first, DISK_SIM_POWER_DROP);
    wreck_open(&first);
    workload_verify_state(&w, &first.log, &first.recovery, &found);
    wreck_append(&first, &found);
    wreck_crash(&first, DISK_SIM_POWER_DROP);
    wreck_open(&first);
    workload_verify_state(&w, &first.log, &first.recovery, &found);
    wreck_crash(&first, DISK_SIM_KILL);
    wreck_free(&first);
}

/* The workload is about to change its disk: what if it never comes to it? */
static void workload_on_change(void *context)
{
    (void)context;
    prefixes++;
    wreck_examine(DISK_SIM_POWER_DROP);
    wreck_examine(DISK_SIM_POWER_KEEP);
    wreck_examine(DISK_SIM_KILL);
    for (uint32_t i = 0; i < tears; i++) {
        wreck_examine(DISK_SIM_POWER_TEAR);
    }
}

static void on_closed(void *context)
{
    *(bool *)context = true;
}

static void life(bool last)
{
    struct log_recovery recovery;
    w.disk.on_change = workload_on_change;
    WORKLOAD_EXPECT(&w, log_open(&w.log, &w.disk.disk, &options, &recovery) == 0);
    workload_settle(&w, &recovery);
    for (uint32_t i = 0; i < LIFE_STEPS; i++) {
        workload_work(&w);
        w.disk.capacity_bytes = UINT64_MAX; /* a full disk is another test's */
        sim_step(&w.sim);
    }
    workload_leave(&w);
    if (last) {
        bool closed = false;
        log_close(&w.log, on_closed, &closed);
        while (!closed && sim_step(&w.sim)) {
        }
        WORKLOAD_EXPECT(&w, closed && workload_idle(&w));
        workload_on_change(NULL);
    } else {
        disk_sim_crash(&w.disk, DISK_SIM_POWER);
        log_forget(&w.log);
    }
    workload_forget(&w);
}

int main(int argc, char **argv)
{
    uint64_t seed = 1;
    uint64_t seeds = 3;
    for (int i = 1; i < argc; i += 2) {
        const uint64_t value = i + 1 < argc ? strtoull(argv[i + 1], NULL, 10) : 0;
        if (strcmp(argv[i], "--seed") == 0 && value > 0) {
            seed = value;
        } else if (strcmp(argv[i], "--seeds") == 0 && value > 0) {
            seeds = value;
        } else if (strcmp(argv[i], "--tears") == 0 && value > 0) {
            tears = (uint32_t)value;
        } else {
            fprintf(stderr, "usage: prefixes [--seed S] [--seeds N] [--tears N]\n");
            return 2;
        }
    }
    for (uint64_t i = 0; i < seeds; i++) {
        chances = 0;
        static const uint32_t uniform[] = {0, 480, 96};
        workload_init(&w, seed + i, "prefixes --seeds 1 --seed");
        w.uniform_bytes = uniform[(seed + i) % 3];
        for (uint32_t k = 0; k < LIVES; k++) {
            life(k + 1 == LIVES);
        }
        workload_deinit(&w);
    }
    printf("prefixes: %llu prefixes of %llu workloads, %llu crashes, %llu of them in recovery, 0 "
           "lost\n",
           (unsigned long long)prefixes, (unsigned long long)seeds, (unsigned long long)crashes,
           (unsigned long long)crashes_in_recovery);
    return 0;
}
