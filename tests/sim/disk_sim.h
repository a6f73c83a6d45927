/* A disk in memory that forgets like a real one.
 *
 * Keeps the contract of log/disk.h. What was not synced is remembered as pending: writes by file,
 * names (create, rename, unlink) in the order they happened. disk_sim_crash decides with the
 * simulation's chance what of it reached the platter: of every pending write each 512-byte sector
 * is there or not (so writes are dropped, kept, torn and reordered); of the pending names a prefix
 * (a journalling file system). Jobs take time: they are carried out as a whole when they complete,
 * except that a crash carries out a random prefix of the job that each lane was working on.
 *
 * Callbacks of an incarnation that crashed never fire. A file handle of it is dead: every operation
 * on it answers -EIO, disk_close frees it (log_forget and log_cursor_close do).
 *
 *     struct disk_sim disk;
 *     disk_sim_init(&disk, &sim);
 *     log_open(&log, &disk.disk, ...);
 *     ... sim_step ...
 *     disk_sim_crash(&disk, DISK_SIM_POWER);  log_forget(&log);  log_open(&log, &disk.disk, ...);
 *
 * One disk_sim is the disk of one machine; paths are plain strings, a directory exists once made.
 */
#ifndef KELP_TESTS_SIM_DISK_SIM_H
#define KELP_TESTS_SIM_DISK_SIM_H

#include "log/disk.h"
#include "tests/sim/sim.h"

enum disk_sim_crash {
    DISK_SIM_KILL,       /* the process ends: everything written is still seen (page cache) */
    DISK_SIM_POWER,      /* the machine ends: pending writes and names are dropped, kept or torn */
    DISK_SIM_POWER_DROP, /* all that is pending is lost */
    DISK_SIM_POWER_KEEP, /* all that is pending is there */
    DISK_SIM_POWER_TEAR, /* some is there, some is not */
};

struct disk_sim_node; /* one file: platter, pending writes */
struct disk_sim_name; /* one name of a file, or one change of a name that is not durable yet */

struct disk_sim {
    struct disk disk; /* what users of the seam get; first, so that it can be found back */
    struct sim *sim;
    uint64_t owner; /* incarnation of the machine; completions are its events */

    uint32_t latency_us_min; /* of a job: uniform between these, plus 1 us per KiB written; */
    uint32_t latency_us_max; /* 100 and 300 after init */
    uint64_t slow_until_us;  /* until then every job takes slow_factor times as long */
    uint32_t slow_factor;

    uint64_t capacity_bytes; /* of all files; UINT64_MAX after init. More answers -ENOSPC */

    uint64_t operations; /* calls and steps so far that read or write the disk */
    uint64_t
        fail_at;     /* the operation with this number fails (counted like `operations`); 0: none */
    int fail_status; /* with this; a failing write leaves a random part of itself */
    bool fail_for_good; /* and all after it too */
    bool
        fail_forgets; /* a sync that fails: what was pending is seen until the power goes, and no later
                           sync brings it to the platter (Linux marks such pages clean) */
    bool halted;      /* every operation answers -EIO without effect: about to crash */
    uint64_t halt_at; /* operation that halts the disk before it takes effect; 0: none */
    uint64_t syncs;   /* of files, that succeeded */

    /* Called before every operation that changes something takes effect; NULL: nobody looks. */
    void (*on_change)(void *context);
    void *on_change_context;

    struct disk_sim_node *nodes; /* the rest is disk_sim.c's own */
    struct disk_sim_name *names_seen;
    struct disk_sim_name *names_durable;
    struct disk_sim_name *changes; /* in the order they happened */
    struct disk_file *files;
    struct disk_file *files_dead;
    struct disk_job *lane_head[DISK_LANES];
    struct disk_job *lane_tail[DISK_LANES];
    struct disk_sim_lane {
        struct disk_sim *disk;
        uint32_t number;
    } lanes[DISK_LANES];
};

void disk_sim_init(struct disk_sim *disk, struct sim *sim);
void disk_sim_deinit(struct disk_sim *disk);

/* Make another disk with what this one holds now, pending writes and names included. Open files, jobs
 * and faults stay behind.
 *
 *   copy       as for disk_sim_init
 *   sim        the world it lives in: its clock and its chance
 */
void disk_sim_clone(struct disk_sim *copy, struct sim *sim, const struct disk_sim *disk);

/* Bytes of all files, those still open included. */
uint64_t disk_sim_used_bytes(const struct disk_sim *disk);

/* The machine (or only its process) dies now. Its jobs are gone without callbacks, its files are
 * dead, its locks free; the next user may start at once. Faults (fail_at, halt_at) and on_change are cleared,
 * capacity and latency stay. */
void disk_sim_crash(struct disk_sim *disk, enum disk_sim_crash how);

/* Let jobs take `factor` times as long for a while: a disk that stalls. */
void disk_sim_slow(struct disk_sim *disk, uint64_t for_us, uint32_t factor);

/* Damage for tests of rot: change the bytes of a file on the platter as XOR, unseen by the process.
 * The range must exist. */
void disk_sim_flip(struct disk_sim *disk, const char *path, uint64_t offset, uint8_t mask);

/* Copy a file's bytes as the process sees them; for oracles.
 *
 *   out_data   malloc'd, the caller's to free; NULL when there is no such file
 */
void disk_sim_peek(struct disk_sim *disk, const char *path, uint8_t **out_data, size_t *out_size);

#endif
