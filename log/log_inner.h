/* What the closets of log.h share: log.c (requests and flushes), log_recover.c (log_open), log_scan.c
 * (what is there), log_space.c (files come and go), log_meta.c (meta and small files), log_cursor.c,
 * inspect.c.
 */
#ifndef KELP_LOG_LOG_INNER_H
#define KELP_LOG_LOG_INNER_H

#include "log/inspect.h"
#include "log/log.h"

#define LOG_META_FILE_BYTES  8192u /* two copies, each in a block of its own */
#define LOG_META_BLOCK_BYTES 4096u

enum log_request_kind {
    LOG_REQUEST_APPEND = 1,
    LOG_REQUEST_TRUNCATE,
    LOG_REQUEST_RESET,
};

struct log_segment_file {
    uint64_t sequence;
    uint32_t size_bytes;
    uint32_t end_bytes;     /* frames end here at the latest: the footer's place is behind it */
    uint8_t *footer;        /* sealed, and this is to be written at end_bytes; NULL: nothing is */
    uint64_t time_last_ms;  /* when it was sealed; 0: it is not, or nobody knew */
    struct disk_file *file; /* open for writing; NULL once the tail has moved on */
};

/* -- log.c ----------------------------------------------------------------------------------- */

/* Do whatever can be done now: encode what waits, flush, prepare and drop files. Calls nobody. */
void log_pump(struct log *log);
/* The same, only from callbacks of the loop: also tells owners of a failure and ends a close. */
void log_turn(struct log *log);
/* Have log_turn called from the loop. */
void log_wake(struct log *log);
/* The first failure counts. What waits hears of it from the loop. */
void log_fail(struct log *log, int status);
/* Give back memory and files. */
void log_free(struct log *log);

/* -- log_space.c ----------------------------------------------------------------------------- */

/* directory/name into out_path; the sizes were checked by log_open. */
void log_path(const char *directory, const char *name, char out_path[LIMIT_LOG_PATH_BYTES]);
void log_segment_path(const char *directory, uint64_t sequence,
                      char out_path[LIMIT_LOG_PATH_BYTES]);
/* SEQUENCE.keys, or SEQUENCE.keys.tmp when it is not whole. */
void log_companion_path(const char *directory, uint64_t sequence, bool whole,
                        char out_path[LIMIT_LOG_PATH_BYTES]);
/* The file of a segment in use; NULL: not prepared (yet). Lent until the next change. */
struct log_segment_file *log_segment_find(struct log *log, uint64_t sequence);
/* Add a file behind the last. -ENOMEM: nothing changed. */
int log_segment_add(struct log *log, uint64_t sequence, uint32_t size_bytes, uint32_t footer_bytes,
                    struct disk_file *file);
/* The last segment with durable frames: what is before it may get its footer or go. */
uint64_t log_segment_last(const struct log *log);
/* Whether a limit is exceeded already: the files for the sake of a truncation or a reset, the runs by
 * many truncations. */
bool log_over_limit(const struct log *log);
/* Start a background job if there is something to prepare, write or drop and none is under way. */
void log_space_pump(struct log *log);
/* Move the clock that frames age by. */
void log_space_tick(struct log *log, int64_t now_ms);

/* -- log_meta.c ------------------------------------------------------------------------------ */

/* Read and choose among the two copies.
 *
 *   answers    0; STATUS_CORRUPT: both are damaged; STATUS_FOREIGN: a newer format; the failure of
 *              the disk
 */
int log_meta_read(struct disk *disk, struct disk_file *file, uint8_t out_owner[SEGMENT_OWNER_BYTES],
                  uint64_t *out_version, uint8_t out_meta[LIMIT_LOG_META_BYTES], uint32_t *out_size,
                  bool *out_repair);
/* Make the file of a new log. */
int log_meta_create(struct log *log);
/* Write both copies, one after the other, each synced. */
int log_meta_write(struct log *log);
/* log_file_get of any directory. */
int log_file_read(struct disk *disk, const char *directory, const char *name, uint8_t **out_data,
                  size_t *out_size);

/* -- log_scan.c ------------------------------------------------------------------------------ */

/* The files of a directory. */
struct log_listing {
    uint64_t *sequences; /* ascending; malloc'd */
    uint32_t count;
    uint32_t capacity;
    struct log_companion {
        uint64_t sequence;
        bool whole; /* SEQUENCE.keys, otherwise SEQUENCE.keys.tmp */
    } * companions; /* malloc'd */
    uint32_t companion_count;
    uint32_t companion_capacity;
    bool meta;
    bool spare;
    bool leftover; /* new.tmp */
    int status;
};
int log_listing_read(struct log_listing *listing, struct disk *disk, const char *directory);
void log_listing_free(struct log_listing *listing);

/* One pass over all segments in order. */
struct log_scan {
    bool quick; /* believe footers */
    struct extents extents;
    struct footer footer;     /* of the segment that was looked at last */
    uint64_t footed_sequence; /* the last one with a footer: frames were durable behind it */
    uint64_t alive_sequence;  /* the last one with frames */
    uint64_t time_ms;         /* the newest seal or mark */
    uint64_t bytes_read;      /* of `bytes` */
    bool ended;               /* a dead frame was met, and no seal before it */
    uint64_t ended_sequence;  /* the segment that ended so */
    uint32_t ended_offset;
    bool sealed;            /* the last segment with frames said that it is whole */
    bool marked;            /* the last frame is a mark */
    uint64_t torn_bytes;    /* of the tail behind ended_offset */
    uint32_t alive_end;     /* end of the last alive frame behind it; 0: none */
    uint64_t last_sequence; /* of the last segment with frames; 0: there are none */
    uint32_t last_batch;    /* its last batch begins here */
    uint32_t last_end;      /* and ends here */
    uint64_t bytes;         /* of whole frames */
    uint64_t truncations;
    const char *message;      /* of the damage */
    uint64_t damage_sequence; /* and its place */
    uint64_t damage_offset;
};

/* Look at one segment, the next in order: its footer if it is quick and there is one, otherwise its
 * frames.
 *
 *   reader     open, before its first frame
 *   out        what was found
 *   answers    0; STATUS_CORRUPT, STATUS_FOREIGN: message and damage_* are set; the disk's failure
 */
int log_scan_segment(struct log_scan *scan, struct segment_reader *reader,
                     struct inspect_segment *out);
/* After the last segment: whether what a footer says was behind it is there.
 *
 *   answers    0; STATUS_CORRUPT: message and damage_* are set
 */
int log_scan_finish(struct log_scan *scan);
void log_scan_init(struct log_scan *scan, bool quick);
void log_scan_deinit(struct log_scan *scan);

#endif
