/* Read a log's directory without owning it: live or dead, never written, no lock.
 *
 *     inspect_open      looks at every segment once: what is there, what is void, what is damaged
 *     inspect_next      lends the frames that are not void, oldest first
 *     inspect_close
 *
 * On a live directory the tail moves while we look: inspect_open sees one moment, and a segment
 * that its owner drops or reuses meanwhile is answered as gone, not as damage.
 */
#ifndef KELP_LOG_INSPECT_H
#define KELP_LOG_INSPECT_H

#include "log/log.h"

/* One segment as it was found. */
struct inspect_segment {
    uint64_t sequence;
    uint64_t size_bytes;
    uint64_t used_bytes;  /* up to the end of the last alive frame */
    uint64_t index_first; /* of the frames in it, void ones too; 0 when there are none */
    uint64_t index_last;
    uint64_t frames; /* of owners, void ones too */
    uint64_t truncations;
    uint64_t marked_bytes;  /* up to here frames say themselves that they were durable */
    uint64_t time_first_ms; /* when it was begun, by its owner's clock, to a second; 0: not known */
    uint64_t time_last_ms;  /* of its seal, or of the last mark so far; the same */
    bool sealed;
    bool footed; /* it has a footer (log/footer.h) */
};

/* How much inspect_open reads. */
enum inspect_depth {
    INSPECT_QUICK,  /* sealed segments tell what is in them, the tail is read: damage inside a
                       sealed one is met by inspect_next */
    INSPECT_VERIFY, /* every byte: what is damaged is known when inspect_open returns */
};

struct inspect {
    struct disk *disk;
    enum inspect_depth depth;
    char directory[LIMIT_LOG_PATH_BYTES];
    uint8_t owner[SEGMENT_OWNER_BYTES];
    uint64_t index_first; /* of what is not void; index_next when there is nothing */
    uint64_t index_next;
    uint64_t frames; /* not void */
    uint64_t truncations;
    uint64_t bytes_torn; /* behind the last whole frame: the owner cuts it at its next start */
    struct bytes meta;   /* lent until inspect_close */
    uint8_t meta_bytes[LIMIT_LOG_META_BYTES];
    struct inspect_segment *segments;
    uint32_t segment_count;

    int damage_status; /* 0; STATUS_CORRUPT or STATUS_FOREIGN: the first place where, or the one
                          that inspect_next met last */
    char damage_path[LIMIT_LOG_PATH_BYTES];
    uint64_t damage_offset;
    const char *damage_message; /* one sentence, lent for ever */

    struct extents extents; /* the rest is for inspect_next */
    uint64_t cursor_index;
    const struct extent *cursor_extent; /* of extents, that of the frame before; NULL: none yet */
    uint64_t cursor_sequence;
    uint32_t cursor_offset;
    struct segment_reader reader;
};

/* Look at a directory.
 *
 *   disk       borrowed until inspect_close; need not take jobs
 *   directory  borrowed during the call
 *   depth      how much of it is read now
 *   answers    0: read, also when damage was found (damage_status says so; what lies before the
 *              damage can be read); -ENOENT: not a log's directory; the failure of the disk
 */
int inspect_open(struct inspect *inspect, struct disk *disk, const char *directory,
                 enum inspect_depth depth);
/* A small file of the log, as log_file_get. */
int inspect_file_get(struct inspect *inspect, const char *name, uint8_t **out_data,
                     size_t *out_size);
/* Also allowed after an inspect_open that failed. */
void inspect_close(struct inspect *inspect);

enum inspect_answer {
    INSPECT_FRAME = 0,
    INSPECT_END = 1,
    INSPECT_GONE = 2, /* the owner dropped the segment meanwhile; inspect_seek goes on elsewhere */
};

/* Stand before the first frame that is not void and has this index or more. */
void inspect_seek(struct inspect *inspect, uint64_t index);
/* Lend the next frame.
 *
 *   out_frame  lent until the next call
 *   answers    enum inspect_answer; STATUS_CORRUPT: the frame is damaged, damage_* say where, and
 *              what lies behind it may be read after an inspect_seek; the failure of the disk
 */
int inspect_next(struct inspect *inspect, struct log_frame *out_frame);

#endif
