/* What a real I/O error leaves behind: a note in the data directory that makes the next start read-only.
 *
 * After a failed write or fdatasync nobody knows what is on the platter, and the kernel may show pages
 * that are not there. So the process ends, and what it held is not written again before somebody has
 * looked (`kelp resolve`). The note is DIR/failed, 0600, one `key value` a line:
 *
 *      time       2026-01-31T12:00:00Z
 *      program    cloudcore
 *      operation  the log cannot be written
 *      path       /var/lib/kelp/cloudcore/log
 *      status     -5
 *      error      Input/output error
 *
 * Writing it is best effort: the disk that failed is the one that keeps it. A note that is there and
 * cannot be read counts as much as one that can.
 */
#ifndef KELP_NODES_FAULT_H
#define KELP_NODES_FAULT_H

#include <stdint.h>

#define FAULT_NOTE "failed"

struct fault {
    char time[32];       /* of the failure, UTC; "" when the note does not say */
    char program[32];    /* "cloudcore", "edgecore" */
    char operation[256]; /* what could not be done, for people */
    char path[1024];     /* file or directory it was done to */
    int status;
    char error[256]; /* the failure in words */
};

/* Leave the note, durably if the disk lets us. One that is there stays: the first failure is the cause.
 *
 *   directory, program, operation, path  borrowed; control characters become blanks
 *   status     negative
 *   answers    0: it is there (and was synced, or the disk refused to); -errno: there is none
 */
int fault_write(const char *directory, const char *program, const char *operation, const char *path,
                int status, int64_t wall_ms);
/* Read it.
 *   answers  0: there is one, *out is filled as far as it could be read; -ENOENT: there is none */
int fault_read(const char *directory, struct fault *out);
/* Remove it; durable when this answers 0. -errno: it is still there, or may come back. */
int fault_remove(const char *directory);

#endif
