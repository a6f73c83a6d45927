/* The real disk: POSIX calls, and one thread for each lane of jobs.
 *
 *   1. disk_uv_new(loop)     2. disk_submit: into the queue of the lane
 *   3. its thread does the steps, then those of the next job     4. on the loop: the callbacks
 *
 * Not libuv's pool, as everywhere else: four threads that may all be busy with the state's files or
 * a volume for a second, and an election or an acknowledgement waits for a flush. The threads touch
 * nothing but their queue, jobs and files. Without jobs they keep no loop alive.
 *
 * Files are buffered (page cache) and closed on exec.
 */
#ifndef KELP_LOG_DISK_UV_H
#define KELP_LOG_DISK_UV_H

#include "log/disk.h"

struct disk_uv; /* opaque: holds libuv's handles and threads */

/* Make a disk for one loop.
 *
 *   loop       a uv_loop_t, borrowed until disk_uv_free; NULL for a tool that only reads: then
 *              disk_submit is forbidden, and there are no threads
 *   answers    the disk; NULL when memory or threads ran out
 */
struct disk_uv *disk_uv_new(void *loop);

/* The seam of it. Lent until disk_uv_free. */
struct disk *disk_uv_disk(struct disk_uv *uv);

/* Tell how long each job of a lane took, from its submission to its end: a flush is what an acknowledgement
 * waits for. Called on the loop, before the job's callback; it must not touch the disk.
 *
 *   on_job     NULL: nobody wants to know any more */
void disk_uv_on_job(struct disk_uv *uv,
                    void (*on_job)(void *context, enum disk_lane lane, uint64_t us), void *context);

/* Ends the threads. No job may be under way. NULL is allowed. The memory goes when the loop has
 * turned once more, so a loop that is to be closed must be run after this. */
void disk_uv_free(struct disk_uv *uv);

#endif
