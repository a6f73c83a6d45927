/* The real disk: POSIX calls, and libuv's pool for jobs.
 *
 *   1. disk_uv_init(loop)    2. disk_submit: the head of each lane is one uv_queue_work
 *   3. the pool does the steps    4. back on the loop: the callback, then the next job of the lane
 *
 * Files are buffered (page cache) and closed on exec.
 */
#ifndef KELP_LOG_DISK_UV_H
#define KELP_LOG_DISK_UV_H

#include "log/disk.h"

struct disk_uv; /* opaque: holds libuv's requests */

/* Make a disk for one loop.
 *
 *   loop       a uv_loop_t, borrowed until disk_uv_free; NULL for a tool that only reads: then
 *              disk_submit is forbidden
 *   answers    the disk; NULL when memory ran out
 */
struct disk_uv *disk_uv_new(void *loop);

/* The seam of it. Lent until disk_uv_free. */
struct disk *disk_uv_disk(struct disk_uv *uv);

/* No job may be under way. NULL is allowed. */
void disk_uv_free(struct disk_uv *uv);

#endif
