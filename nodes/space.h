/* Room on the disk of a data directory: how much there is, and a reserve for the work that makes more.
 *
 * Running out of space is met before it happens. DIR/reserve is a file of `reserve` bytes that are
 * allocated and never written: enough for the next segments of the log, a flush and a compaction of the
 * state. What is free beside it decides:
 *
 *      PLENTY   at least `reserve` bytes are free
 *      LOW      fewer: larger writes, new wishes and new containers wait, and the log keeps no history
 *      NONE     less than a quarter of it: nothing new is taken. The file is given back, so that what frees
 *               space (flush, deletion, compaction, release of the log) can finish
 *
 * On the way back the bounds are a quarter higher, so that nothing flaps, and the file is made again before
 * LOW is reported. Where a file system cannot allocate ahead there is no file, and the same bounds.
 */
#ifndef KELP_NODES_SPACE_H
#define KELP_NODES_SPACE_H

#include <stdbool.h>
#include <stdint.h>

enum space_level { SPACE_PLENTY, SPACE_LOW, SPACE_NONE };

struct space {
    char directory[1024];
    uint64_t reserve_bytes;
    enum space_level level;
    uint64_t free_bytes; /* beside the file, when it was looked last */
    bool reserved; /* the file is there, whole */
    bool unable;   /* the file system does not allocate ahead: said once */
};

/* Look for the first time, before log and state are opened: both may need what the reserve holds.
 *
 *   directory      exists; borrowed during the call
 *   reserve_bytes  the low-water mark, and the size of the file; at least 4096
 */
void space_open(struct space *space, const char *directory, uint64_t reserve_bytes);
/* Look again, about once a second. Synchronous, and short: the file system is asked for its counters; an
 * allocation or an unlink when the level changes.
 *   answers  whether the level changed; a line said so */
bool space_look(struct space *space);
/* "plenty", "low", "none". Lent for ever. */
const char *space_text(enum space_level level);

/* The part that decides: which level follows on this one.
 *   free_bytes  what is free now; when the reserve is not there, what would be if it were made */
enum space_level space_decide(enum space_level level, uint64_t free_bytes, uint64_t reserve_bytes);

#endif
