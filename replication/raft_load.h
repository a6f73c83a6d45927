/* What libraft is given to start with: the snapshot of this replica, and the entries that its log has
 * from there on.
 *
 * A snapshot of another replica replaces the log; a crash between storing the one and dropping the
 * other leaves a log that does not go on where the snapshot stands, and which is to be dropped now.
 */
#ifndef KELP_REPLICATION_RAFT_LOAD_H
#define KELP_REPLICATION_RAFT_LOAD_H

#include "log/log.h"

#include <raft.h>

struct raft_loaded {
    struct raft_snapshot *snapshot; /* NULL: none. Memory of raft_malloc, as the entries */
    uint64_t start;                 /* the first entry's index, or the one that comes next */
    struct raft_entry *entries;
    size_t count;
    bool superseded; /* the log is to begin at `start`: what it holds was before the snapshot */
};

/* Read it. What is history only is not read.
 *
 *   founding   the entry this life wrote to found a group, type 0 when it did not; its memory goes over
 *   out        filled as far as it was read, also with a failure: libraft ends the start, and the program
 *   answers    0; STATUS_CORRUPT: the log does not reach back to the snapshot, to 1 without one, or holds
 *              no entries; as log_cursor_next and raft_snapshot_load
 */
int raft_load(struct log *log, const struct raft_entry *founding, struct raft_loaded *out);

/* libraft's entry of one frame.
 *
 *   frame      its bytes are copied
 *   out        with memory of raft_malloc; undefined unless 0
 *   answers    0; STATUS_CORRUPT: no entry
 */
int raft_load_entry(const struct log_frame *frame, struct raft_entry *out);

#endif
