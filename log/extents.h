/* Where the frames are that are not void: runs of indexes, oldest first.
 *
 * A run is cut off where the segment ends, where a truncation started again, and every
 * LIMIT_LOG_STRIDE_BYTES, so that a reader never scans more than that to find its first frame.
 * Memory depends on the bytes of the log, not on its frames: 32 bytes per stride. Only truncations
 * make it more; LIMIT_LOG_RUNS bounds it.
 */
#ifndef KELP_LOG_EXTENTS_H
#define KELP_LOG_EXTENTS_H

#include "schemas/limits.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct extent {
    uint64_t index_first; /* frames [index_first, index_next) ... */
    uint64_t index_next;
    uint64_t sequence; /* ... are in this segment ... */
    uint32_t offset;   /* ... from here on */
    uint32_t offset_end;
};

struct extents {
    struct extent *list;
    uint32_t first; /* in the list: what is before was dropped */
    uint32_t count; /* behind the last one */
    uint32_t capacity;
    uint64_t index_next; /* what the next frame must have; 0: anything (nothing was ever added) */
};

void extents_init(struct extents *extents);
void extents_deinit(struct extents *extents);

/* Add one frame behind the last.
 *
 *   answers    0; STATUS_CORRUPT: not the index that must come next; -ENOMEM. Nothing changed.
 */
int extents_add(struct extents *extents, uint64_t index, uint64_t sequence, uint32_t offset,
                uint32_t disk_bytes);
/* Add what extents_add would have made of several frames: a whole run, and none before it is touched.
 *
 *   index_next   one more than the last; the first has what must come next
 *   answers      0; -ENOMEM: nothing changed
 */
int extents_add_run(struct extents *extents, uint64_t index_next, uint64_t sequence,
                    uint32_t offset, uint32_t offset_end);
/* A frame that is nobody's lies here: the last run reaches over it when it ends there, so that marks
 * cut no runs. */
void extents_skip(struct extents *extents, uint64_t sequence, uint32_t offset, uint32_t disk_bytes);
/* From `index` on all is void, and it is what must come next. Also what lies before, when the
 * oldest frame is not below it. */
void extents_truncate(struct extents *extents, uint64_t index);
/* All is void, and `index` must come next. */
void extents_reset(struct extents *extents, uint64_t index);
/* Drop the runs that lie in segments up to and including this one. */
void extents_drop(struct extents *extents, uint64_t sequence);

/* How many runs there are. */
uint32_t extents_runs(const struct extents *extents);
/* Oldest frame; index_next when there is none. */
uint64_t extents_index_first(const struct extents *extents);
/* The run that holds a frame; NULL when none does. Lent until the next change. */
const struct extent *extents_find(const struct extents *extents, uint64_t index);
/* Whether a segment holds frames that are not void, and the highest of them.
 *
 *   out_index_next   one more than the highest; untouched when false
 */
bool extents_in_segment(const struct extents *extents, uint64_t sequence, uint64_t *out_index_next);

#endif
