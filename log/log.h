/* Numbered frames, durable before they are acknowledged: the one write-ahead log of a process.
 *
 * A frame has an index (one more than the frame before it), a term and a type that mean something
 * to its owner (raft, or the edge), and bytes. Appends wait in memory while the flush before them
 * is under way, then all that wait become one write and one fdatasync (group commit); the next
 * batch is put together meanwhile, and handed over behind the one under way once it is large.
 *
 *     log_open        synchronous: recovers, reports; afterwards one loop, one thread
 *     log_append      -> callback when durable, in the order of the appends
 *     log_truncate    drops a suffix: at once in the view, on disk in order with the appends
 *     log_release     allows the front to go; whole segments go once the history is full
 *     log_cursor_*    reads durable frames, forward, in constant memory
 *     log_meta_*      up to LIMIT_LOG_META_BYTES of durable state beside the frames (term, vote)
 *     log_file_*      small named files, replaced as a whole (the manifest of a snapshot)
 *     log_tick        about once a second: the clock; marks an idle tail as durable, retries a full
 *                     disk, drops what is too old
 *     log_close       -> callback; or log_forget after a crash of the simulation
 *
 * Files of a log: `meta`, `lock`, `SEQUENCE.seg` (log/segment.h has the format), `spare` and
 * `*.tmp` (mean nothing after a crash), and whatever log_file_put was asked to keep. Beside a sealed
 * segment others may keep `SEQUENCE.keys`, an index of theirs: the log never reads it, and removes it
 * with its segment.
 *
 * A failed write or sync makes the log *failed*: no frame is acknowledged any more, every waiting
 * and later request gets that status, log_status tells it. What a failed fdatasync left on the
 * platter is unknown, so the owner ends the process. A full disk is met before that: segments
 * are prepared (zeroed) ahead, so while no new one can be made, appends are refused with -ENOSPC,
 * unchanged, those accepted wait, and both go on when space returns.
 *
 * limit_bytes is met in quarters. At half of it history goes, but for what is held. At three quarters
 * log_limited says that nothing but what is flushed too late is in the way: the owner takes in nothing
 * new, and what it has under way, and what it needs to come to a release (a leader's barrier, what a
 * follower lacks), has the last quarter. At all of it the log answers -ENOSPC itself. What was accepted always gets room, and
 * so do truncations and resets, in a segment beyond the limit if need be, and while there is one no
 * append is let in. Releasing, meta and small files need no room. So the limit never blocks what makes
 * room, as long as a quarter of it is more than what is under way.
 */
#ifndef KELP_LOG_LOG_H
#define KELP_LOG_LOG_H

#include "log/disk.h"
#include "log/extents.h"
#include "log/footer.h"
#include "log/segment.h"
#include "schemas/limits.h"

/* The type of a frame. 1 .. 15 are the log's own and never seen through a cursor. */
enum log_type {
    LOG_TYPE_NONE = 0,     /* no frame */
    LOG_TYPE_TRUNCATE = 1, /* from `index` on, all earlier frames are void */
    LOG_TYPE_RESET = 2,    /* all earlier frames are void; the next one has `index` */
    LOG_TYPE_SEAL = 3,     /* last of its segment: the next frame is in the next one */
    LOG_TYPE_MARK = 4,     /* all before this frame was durable when it was written */
    LOG_TYPE_OWNER = 16,   /* the first that owners may use */

    LOG_TYPE_COMMAND = 16, /* raft: a Command, a batch of records */
    LOG_TYPE_BARRIER = 17, /* raft: no payload that means anything */
    LOG_TYPE_CHANGE = 18,  /* raft: a configuration of the group */

    LOG_TYPE_DOWN = 32, /* edge: Records that came from the cloud */
    LOG_TYPE_UP = 33,   /* edge: Records that happened here */
};

/* Indexes are below: at a billion frames a second that is a century. A file that names more is
 * damaged. */
#define LOG_INDEX_MAX (UINT64_C(1) << 62)

/* What to append as one frame. */
struct log_entry {
    uint64_t term;
    uint8_t type;               /* LOG_TYPE_OWNER .. 255 */
    uint32_t piece_count;       /* the payload is these pieces, one after the other; 0 is allowed */
    const struct bytes *pieces; /* borrowed until the callback, and so are their bytes */
};

/* A frame as a cursor lends it. */
struct log_frame {
    uint64_t index;
    uint64_t term;
    uint8_t type;
    struct bytes payload; /* data is aligned to 8 */
};

struct log;

/* One append, truncation or reset under way. Memory of the caller, taken until the callback. */
struct log_request {
    uint64_t index; /* append: of its first frame; truncate, reset: their argument */
    void (*callback)(struct log_request *request, int status); /* NULL: nobody wants to know */
    void *context;                                             /* the caller's own */

    struct log_request *next; /* the rest is the log's own */
    const struct log_entry *entries;
    uint32_t entry_count;
    uint32_t entry_done; /* entries that are in a batch already */
    uint8_t kind;
    uint64_t bytes; /* on disk, frame headers included */
};

struct log_options {
    const char *directory; /* made when missing; its parent must exist. Borrowed during log_open */
    uint8_t owner[SEGMENT_OWNER_BYTES]; /* who writes here; another one's directory is refused */
    uint32_t segment_bytes; /* of new segments: a multiple of 4096, SEGMENT_BYTES_MIN .. _MAX;
                               0: LIMIT_SEGMENT_BYTES */
    uint64_t history_bytes; /* keep this much of what was released, for whoever asks why ... */
    uint64_t history_ms;    /* ... but nothing whose newest frame is older; 0: of any age. Whole
                               segments go, and never the last one: see log_tick */
    uint64_t limit_bytes;   /* of all files, see above; 0: none. Less than LIMIT_LOG_SEGMENTS_MIN
                               segments count as that many */
    uint32_t early_bytes;   /* a batch of this size does not wait for the flush before it; 0:
                               LIMIT_LOG_EARLY_BYTES */
};

/* What log_open found. */
struct log_recovery {
    bool created;         /* the directory held no log */
    uint64_t index_first; /* oldest frame there is; index_next when there is none */
    uint64_t index_next;  /* index the next append receives */
    uint64_t term_last;   /* of frame index_next - 1; 0 when there is none */
    uint64_t bytes;       /* of whole frames */
    uint64_t bytes_read;  /* of them: the others are known by footers */
    uint32_t segments;    /* files with frames */
    uint64_t cut_bytes;   /* torn tail that was dropped; it was never acknowledged */
    uint64_t cut_offset;  /* where, when cut_bytes > 0 */
    bool meta_repaired;   /* one of the two copies of meta was damaged and was written anew */
    char path[LIMIT_LOG_PATH_BYTES]; /* file of the cut, or of what made log_open refuse */
    uint64_t damage_offset;          /* in it, for STATUS_CORRUPT */
    const char *message; /* why log_open refused, one sentence, lent for ever; NULL after 0 */
};

struct log_segment_file; /* log_inner.h */
struct log_batch {
    uint8_t *data; /* frames as they go to disk */
    uint32_t size;
    uint32_t capacity;
    struct log_part { /* what goes into one segment */
        uint64_t sequence;
        uint32_t offset; /* in the segment */
        uint32_t start;  /* in data */
        uint32_t size;
    } parts[LIMIT_LOG_BATCH_PARTS];
    uint32_t part_count;
    struct log_request *done_head; /* requests that are durable once this batch is */
    struct log_request *done_tail;
    uint64_t index_next;  /* after the last frame of this batch */
    uint32_t truncations; /* among done_* */
    bool mark;            /* it is one, and nothing else */
    struct log *log;      /* while it is with the disk */
    struct disk_job job;
    struct disk_step steps[2 * LIMIT_LOG_BATCH_PARTS];
};

struct log {
    struct disk *disk; /* borrowed until log_close has called back, or log_forget */
    struct disk_file *lock;
    struct disk_file *meta_file;
    uint64_t meta_version;
    uint8_t meta[LIMIT_LOG_META_BYTES];
    uint32_t meta_size;

    char directory[LIMIT_LOG_PATH_BYTES];
    uint8_t owner[SEGMENT_OWNER_BYTES];
    uint32_t segment_bytes;
    uint32_t footer_bytes; /* kept free in new segments */
    uint64_t history_bytes;
    uint64_t history_ms;
    uint64_t limit_bytes; /* UINT64_MAX: none */
    uint32_t early_bytes;
    int status; /* 0, or the failure that ended it */

    uint64_t damage_sequence; /* of the segment where a cursor met damage; 0: none did */
    uint64_t damage_offset;

    uint64_t now_ms;      /* of the last tick; 0: not known, or in doubt */
    uint64_t clock_ms;    /* what frames age by; 0: not known yet */
    uint32_t clock_doubt; /* ticks since it jumped; 0: it did not */

    uint64_t index_next;     /* what the next append receives: all accepted requests are counted */
    uint64_t readable_next;  /* frames below are durable and not truncated */
    uint64_t released;       /* frames below may go, */
    uint64_t held;           /* but none from here on; UINT64_MAX: nothing is held */
    uint32_t truncations;    /* requested and not yet durable */
    uint64_t truncate_floor; /* the lowest index among them */

    struct extents extents; /* where the frames are that are not void */
    uint64_t generation;    /* counts what makes a cursor look again */

    struct log_segment_file
        *segments; /* all files in use, oldest first; the last ones may be empty */
    uint32_t segment_count;
    uint32_t segment_capacity;
    uint64_t segments_bytes; /* sum of their sizes */
    uint64_t tail_sequence;  /* where the next frame is encoded */
    uint32_t tail_offset;
    uint32_t tail_salt;
    struct footer footer;      /* of the tail, as far as it is encoded */
    bool tail_sealed;          /* found so by log_open: the next frame goes into the next segment */
    uint64_t durable_sequence; /* and how far that is durable */
    uint32_t durable_offset;
    uint32_t mark_offset; /* durable_offset after the last mark: nothing to mark when equal */
    uint32_t tick_offset; /* durable_offset at the last tick */

    struct log_request *waiting_head; /* accepted, not yet in a batch (wholly) */
    struct log_request *waiting_tail;
    uint64_t waiting_bytes;                      /* accepted and not yet durable */
    struct log_batch batches[LIMIT_LOG_BATCHES]; /* used in turn */
    uint32_t filling;                            /* which one is being put together */
    uint32_t flushing;                           /* how many before it are with the disk */

    bool background;    /* background_job is with the disk */
    bool preparing;     /* and it makes the next segment */
    int prepare_status; /* -ENOSPC of the last attempt: holds appends back */
    bool prepare_retry;
    struct disk_job background_job;
    struct disk_step background_steps[LIMIT_LOG_BACKGROUND_STEPS];
    struct disk_file *prepare_file;
    uint8_t *prepare_header;
    uint64_t prepare_sequence;
    uint64_t footer_sequence; /* of the segment whose footer the job writes */
    bool drop_check;          /* something changed that may let the oldest segment go */
    bool admitting;           /* log_admit */
    bool wanting;             /* what was accepted waits for the next segment */
    bool spare;               /* `spare` is there: a dropped segment kept for reuse */
    bool dropping_to_spare;
    char path_a[LIMIT_LOG_PATH_BYTES]; /* of the background job */
    char path_b[LIMIT_LOG_PATH_BYTES];
    char path_c[LIMIT_LOG_PATH_BYTES];

    struct disk_job wake_job;
    struct disk_step wake_step;
    bool waking;

    bool calling; /* owners are being told: small batches wait for what they append */
    bool closing;
    bool close_marked;
    void (*on_close)(void *context);
    void *on_close_context;

    uint64_t flushes; /* batches that became durable; for metrics and benches */
    uint64_t flushed_bytes;
    uint64_t flushed_frames;
};

/* Open or create a log and recover what a crash left. Synchronous; reads the tail, and of the
 * segments before it the footers, or all where there is none. Damage inside a segment that was not
 * read is met by the cursor that comes to it, or by an INSPECT_VERIFY.
 *
 *   log          memory of the caller; its former content means nothing
 *   disk         borrowed until the log is closed or forgotten
 *   out_recovery filled in any case
 *   answers      0; STATUS_LOCKED; STATUS_FOREIGN: another owner, or a newer format (the message
 *                says which); STATUS_CORRUPT: durable frames are damaged or missing, path and
 *                damage_offset say where, nothing was changed; the failure of the disk. After any
 *                of them the log is not open and holds nothing.
 */
int log_open(struct log *log, struct disk *disk, const struct log_options *options,
             struct log_recovery *out_recovery);

/* Append frames. They receive index_next, index_next + 1 ...; request->index is the first.
 *
 *   request    taken until its callback; `callback` and `context` set by the caller
 *   entries    borrowed until the callback; at least one
 *   answers    0: the callback comes later, from the loop, in the order of requests: status 0
 *              means durable, anything else that the log failed.
 *              STATUS_FULL: LIMIT_LOG_WAITING_BYTES are waiting; STATUS_TOO_LARGE: a payload above
 *              LIMIT_FRAME_BYTES, or one that does not fit a segment; -ENOSPC: no room until space
 *              returns; STATUS_CLOSING; log_status when failed. Then nothing changed and the
 *              request is the caller's.
 */
int log_append(struct log *log, struct log_request *request, const struct log_entry *entries,
               uint32_t entry_count);
/* Whether there is room for so many frames with payloads of so many bytes together: false where log_append would answer
 * -ENOSPC to them. */
bool log_has_room(const struct log *log, uint32_t frames, uint64_t payload_bytes);

/* Drop all frames from `index` on; the next append receives it. Frames that were never there
 * (index == index_next) are no error. Cursors see it at once; a crash before the callback may
 * bring the frames back.
 *
 *   index      index_first .. index_next
 *   answers    as log_append, but never STATUS_FULL, STATUS_TOO_LARGE or -ENOSPC
 */
int log_truncate(struct log *log, struct log_request *request, uint64_t index);

/* Drop all frames, history included; the next append receives `index`. For a snapshot that was
 * installed. As log_truncate otherwise.
 *
 *   index      1 .. LOG_INDEX_MAX - 1
 */
int log_reset(struct log *log, struct log_request *request, uint64_t index);

/* A reset will be asked for, and appends stand before it in the owner's queue: until then they are let
 * in whatever limit_bytes says, for the reset is what makes room. Not on a full disk.
 */
void log_admit(struct log *log);

/* Allow frames below `index` to go. What goes are whole segments, from the front, once more than
 * history_bytes of them may go; in the background. Lower than before is no error.
 */
void log_release(struct log *log, uint64_t index);

/* Keep frames from `index` on, released or not, until it is called again: somebody reads them. Frames that
 * are gone already are no error. UINT64_MAX: hold nothing. A log that is held too long meets its limit:
 * let go when it is crowded. */
void log_hold(struct log *log, uint64_t index);

/* Keep this much of what was released from now on; less lets go of the rest in the background. */
void log_set_history(struct log *log, uint64_t history_bytes);

/* Oldest frame there is, history included; log_index_next when there is none. */
uint64_t log_index_first(const struct log *log);
/* What the next append receives. */
uint64_t log_index_next(const struct log *log);
/* Frames below this are durable (and not truncated since); 1 while a reset is under way. */
uint64_t log_durable_next(const struct log *log);
/* 0, or the failure that ended this log; once it is closed STATUS_CLOSING, or the failure. */
int log_status(const struct log *log);
/* Bytes of the files of this log, spare ones included. */
uint64_t log_disk_bytes(const struct log *log);
/* Whether the log is so near its limit that the owner should take in nothing new before it released
 * more. False soon after that. */
bool log_limited(const struct log *log);
/* Whether it passed five eighths of its limit: history has gone, and what is held is to go next. */
bool log_crowded(const struct log *log);

/* The owner's heartbeat, about once a second. When nothing was appended since the last one, a mark
 * is written behind the last frame: rot in it is then told from a torn write.
 *
 * What was released and is older than history_ms goes. A frame is as old as the seal of its segment,
 * so all frames of a segment go at once, and those of the last one stay until it is full. The clock
 * may jump, either way and also while the log was closed: then it is not known what the time is before
 * the new one held for LIMIT_LOG_CLOCK_TICKS. Nothing ages meanwhile, and what is sealed meanwhile ages
 * from then on, as does what turns out to be sealed in the future. So a clock that is wrong for a
 * moment costs no history; it may stay longer than history_ms, and history_bytes bounds it all the time.
 *
 *   now_ms     since 1970; 0 or less: not known
 */
void log_tick(struct log *log, int64_t now_ms);

/* Flush what waits, mark the tail, close the files. After a failure the waiting requests get that
 * status. No request is accepted from here on.
 *
 *   callback   from the loop, exactly once: the memory is the caller's again. What failed until then,
 *              the mark too, is told by log_status
 */
void log_close(struct log *log, void (*callback)(void *context), void *context);

/* Give the memory back without touching the disk: only after the disk under it crashed (in the
 * simulation), when no callback can come any more. */
void log_forget(struct log *log);

/* -- meta ------------------------------------------------------------------------------------ */

/* The last bytes put; empty in a new log. Lent until the next put. */
struct bytes log_meta_get(const struct log *log);
/* Replace them, durable when this returns. Synchronous (about two fdatasyncs). A crash leaves the
 * old bytes or the new.
 *
 *   bytes      borrowed during the call; up to LIMIT_LOG_META_BYTES
 *   answers    0; the failure of the disk, which also fails the log
 */
int log_meta_put(struct log *log, struct bytes bytes);

/* -- files ----------------------------------------------------------------------------------- */

/* Replace a small file beside the frames, durable when this returns. Synchronous.
 *
 *   name       a plain file name: letters, digits, '-', '_'; at most 32 long; borrowed
 *   pieces     borrowed; the content is one after the other, up to LIMIT_LOG_FILE_BYTES in all
 *   answers    0; STATUS_TOO_LARGE; the failure of the disk (-ENOSPC leaves the old file and the
 *              log is well; any other fails the log)
 */
int log_file_put(struct log *log, const char *name, const struct bytes *pieces, size_t piece_count);
/* Read it back, checksum verified.
 *
 *   out_data   malloc'd, given: the caller frees it; NULL unless 0
 *   answers    0; -ENOENT: never put, or removed; STATUS_CORRUPT; the failure of the disk
 */
int log_file_get(struct log *log, const char *name, uint8_t **out_data, size_t *out_size);
/* Remove it, durable when this returns. One that is not there is no error. */
int log_file_remove(struct log *log, const char *name);

/* -- reading --------------------------------------------------------------------------------- */

enum log_cursor_answer {
    LOG_CURSOR_FRAME = 0,
    LOG_CURSOR_END = 1, /* nothing durable at the next index yet: ask again later */
    LOG_CURSOR_GONE =
        2, /* the next index is older than what is kept, or was truncated away below */
};

/* One reader of a log. Any number may be open; each must be closed before the log is. Costs a file
 * and LIMIT_LOG_READ_BYTES, more while a larger frame passes. */
struct log_cursor {
    struct log *log;
    uint64_t index_next; /* the frame that log_cursor_next lends next; may be read */
    uint64_t generation;
    bool placed; /* reader stands before index_next */
    struct segment_reader reader;
};

/* Stand before a frame. Any index is allowed; the first next says what is there. */
void log_cursor_open(struct log_cursor *cursor, struct log *log, uint64_t index);
/* Lend the next durable frame, synchronously (a pread where the buffer does not hold it).
 *
 *   out_frame  lent until the next call with this cursor; untouched unless LOG_CURSOR_FRAME
 *   answers    enum log_cursor_answer; STATUS_CORRUPT: a durable frame is damaged; the failure of
 *              the disk
 */
int log_cursor_next(struct log_cursor *cursor, struct log_frame *out_frame);
/* Where a cursor of this log met damage last.
 *
 *   answers    false: none did
 */
bool log_damage(const struct log *log, char out_path[LIMIT_LOG_PATH_BYTES], uint64_t *out_offset);
/* Stand elsewhere. */
void log_cursor_seek(struct log_cursor *cursor, uint64_t index);
void log_cursor_close(struct log_cursor *cursor);

#endif
