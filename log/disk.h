/* The seam between the log and a disk.
 *
 * Two implementations keep this contract: `disk_uv.c` (a Linux file system; a lane is a thread) and
 * `tests/sim/disk_sim.c` (deterministic; drops, keeps, tears and reorders what was not synced). The
 * log is the same code on both.
 *
 * There are two ways in. Synchronous calls are for start-up and for rare work (term and vote). The
 * hot path has one asynchronous primitive, the job: an ordered list of steps, done one after the
 * other away from the loop. A job belongs to a lane; the jobs of one lane are carried out and
 * called back in the order of their submission, lanes run beside each other. The log flushes in
 * one lane and prepares and drops files in the other, so that zeroing a file delays no flush.
 *
 * What is submitted behind a job rests on it: when one fails, those of its lane that were submitted
 * before its callback are not tried and end with its status.
 *
 * What survives a crash: bytes written are safe once `sync` of that file succeeded; a name that
 * was created, renamed or unlinked is safe once `sync_directory` succeeded. Before that any 512
 * byte sector of a write may be there or not, in any order.
 *
 * Statuses are 0 or -errno: -ENOSPC and -EDQUOT for a full disk, -EIO for anything a disk must
 * not answer. A write is whole or an error; a short one is continued or becomes -EIO.
 */
#ifndef KELP_LOG_DISK_H
#define KELP_LOG_DISK_H

#include "schemas/bytes.h"

struct disk;
struct disk_file; /* an open file; belongs to the disk, returned to it by disk_close */

enum disk_open {
    DISK_OPEN_READ,   /* exists; never written */
    DISK_OPEN_WRITE,  /* exists; read and written */
    DISK_OPEN_CREATE, /* made empty, whether it existed or not; read and written */
};

enum disk_step_kind {
    DISK_STEP_WRITE,          /* file, offset, data, size */
    DISK_STEP_ZERO,           /* file, offset, size: the bytes are written, not only reserved */
    DISK_STEP_SYNC,           /* file: data and size are durable */
    DISK_STEP_RENAME,         /* path -> path_new, which is replaced */
    DISK_STEP_UNLINK,         /* path; one that is not there is no error */
    DISK_STEP_SYNC_DIRECTORY, /* path of the directory */
};

struct disk_step {
    enum disk_step_kind kind;
    struct disk_file *file; /* borrowed until the job is called back */
    uint64_t offset;
    const uint8_t *data; /* borrowed until the job is called back */
    uint64_t size;
    const char *path;     /* borrowed until the job is called back */
    const char *path_new; /* the same */
};

enum disk_lane {
    DISK_LANE_FLUSH,
    DISK_LANE_BACKGROUND,
    DISK_LANES,
};

/* Ordered steps. The first that fails ends the job; those after it are not tried. */
struct disk_job {
    struct disk_step *steps; /* borrowed until the callback */
    uint32_t step_count;     /* at least 1 */
    enum disk_lane lane;
    void (*callback)(struct disk_job *job); /* from the loop, exactly once, never inside submit */
    int status;            /* for the callback: 0, or the failure of step `step_failed`, or of a job
                              before it in its lane */
    uint32_t step_failed;  /* meaningful when status is not 0 and the job was tried */
    struct disk_job *next; /* the disk's own while the job is with it, like the next */
    uint64_t submitted_ns;
};

struct disk_ops {
    int (*make_directory)(struct disk *disk, const char *path);
    int (*lock_directory)(struct disk *disk, const char *path, struct disk_file **out_lock);
    int (*list)(struct disk *disk, const char *path, void (*each)(void *context, const char *name),
                void *context);
    int (*open)(struct disk *disk, const char *path, enum disk_open mode,
                struct disk_file **out_file);
    void (*close)(struct disk *disk, struct disk_file *file);
    int (*size)(struct disk *disk, struct disk_file *file, uint64_t *out_bytes);
    int (*read)(struct disk *disk, struct disk_file *file, uint64_t offset, uint8_t *out_data,
                size_t size, size_t *out_got);
    void (*ahead)(struct disk *disk, const char *path); /* NULL: hints are of no use */
    int (*write)(struct disk *disk, struct disk_file *file, uint64_t offset, const uint8_t *data,
                 size_t size);
    int (*zero)(struct disk *disk, struct disk_file *file, uint64_t offset, uint64_t size);
    int (*sync)(struct disk *disk, struct disk_file *file);
    int (*truncate)(struct disk *disk, struct disk_file *file, uint64_t size);
    int (*rename)(struct disk *disk, const char *path, const char *path_new);
    int (*unlink)(struct disk *disk, const char *path);
    int (*sync_directory)(struct disk *disk, const char *path);
    void (*submit)(struct disk *disk, struct disk_job *job);
};

/* Embedded first in an implementation. */
struct disk {
    const struct disk_ops *ops;
};

/* Make a directory whose parent exists; its name is durable when this returns. One that exists
 * already is no error. */
int disk_make_directory(struct disk *disk, const char *path);

/* Keep every other process out of a directory until the lock is closed (or this process ends).
 *
 *   out_lock   closed with disk_close
 *   answers    0; STATUS_LOCKED: another process has it; the failure of the disk
 */
int disk_lock_directory(struct disk *disk, const char *path, struct disk_file **out_lock);

/* Call `each` for every name in a directory but "." and "..", in no particular order. The name is
 * lent during that call, which must not touch the disk. */
int disk_list(struct disk *disk, const char *path, void (*each)(void *context, const char *name),
              void *context);

/* Open a file. -ENOENT where a file must exist and does not. */
int disk_open(struct disk *disk, const char *path, enum disk_open mode,
              struct disk_file **out_file);
/* Return a file. No job that names it may be under way. NULL is allowed. */
void disk_close(struct disk *disk, struct disk_file *file);

int disk_size(struct disk *disk, struct disk_file *file, uint64_t *out_bytes);

/* Read up to `size` bytes; fewer only where the file ends.
 *
 *   out_got    how many; 0 at or behind the end
 */
int disk_read(struct disk *disk, struct disk_file *file, uint64_t offset, uint8_t *out_data,
              size_t size, size_t *out_got);
/* A hint: the whole file will be read soon. Begins reading it; waits at most for room in the device's queue. Fails
 * quietly. */
void disk_ahead(struct disk *disk, const char *path);
int disk_write(struct disk *disk, struct disk_file *file, uint64_t offset, const uint8_t *data,
               size_t size);
int disk_zero(struct disk *disk, struct disk_file *file, uint64_t offset, uint64_t size);
int disk_sync(struct disk *disk, struct disk_file *file);
int disk_truncate(struct disk *disk, struct disk_file *file, uint64_t size);
int disk_rename(struct disk *disk, const char *path, const char *path_new);
int disk_unlink(struct disk *disk, const char *path);
int disk_sync_directory(struct disk *disk, const char *path);

/* Hand a job to its lane. Accepted always; the callback comes later, from the loop. The job and
 * all it points at are borrowed until then. */
void disk_submit(struct disk *disk, struct disk_job *job);

/* Replace a small file so that a crash leaves the old content or the new: written beside it as
 * `NAME.tmp`, synced, renamed, the directory synced. Synchronous.
 *
 *   directory, name   the file is directory/name
 *   pieces            borrowed during the call, written one after the other
 */
int disk_replace(struct disk *disk, const char *directory, const char *name,
                 const struct bytes *pieces, size_t piece_count);

/* Carry out one step with the synchronous calls: what implementations do for each step of a job. */
int disk_step_run(struct disk *disk, const struct disk_step *step);

#endif
