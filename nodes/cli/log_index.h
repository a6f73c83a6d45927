/* Where the records of a key are, without reading the log: one index file beside each sealed segment.
 *
 * A sealed segment never changes, so its index is made once, by the first command that wants it, and
 * is dropped by the log together with the segment. SEQUENCE.keys, little-endian:
 *
 *      0   8     magic "KELPKEY\n"
 *      8   u32   format version
 *     12   u32   crc32c of everything behind
 *     16   16    owner of the log
 *     32   u64   sequence of the segment
 *     40   u64   index of its first frame
 *     48   u64   index of its last frame
 *     56   u64   bytes of it that are used
 *     64   i64   time of its oldest record, ms; 0: none has a time
 *     72   i64   time of its newest record
 *     80   u64   how many entries
 *     88   u32   how many counters
 *     92   u32   bytes of counters
 *     96   ...   entries, ascending: u64, crc32c of a key << 32 | offset of a frame that holds a
 *                record with such a key. Two keys may share a checksum: frames are looked at
 *          ...   counters (struct counter), one behind the other: u64 count, u64 bytes, u8 type,
 *                u8 zero, u16 size of text, text, zeros up to a multiple of 8
 *
 * An index that is stale, foreign, of another version or damaged is made again. Where none can be
 * written it is kept in memory for this command, and that is said. The last segment, which still
 * grows, is read.
 */
#ifndef KELP_NODES_CLI_LOG_INDEX_H
#define KELP_NODES_CLI_LOG_INDEX_H

#include "nodes/cli/log_decode.h"
#include "nodes/cli/log_view.h"

enum counter_type {
    COUNTER_KIND = 1,   /* text: "object_put", "down_batch/object_put" */
    COUNTER_PREFIX = 2, /* text: a key without its last part: "/pods/default/" */
};

/* What is counted while records pass. */
struct counters {
    struct counter {
        char *text;
        uint64_t count;
        uint64_t bytes;
        uint8_t type;
    } * list; /* a hash table; text NULL: free */
    uint32_t used;
    uint32_t capacity;
};
void counters_deinit(struct counters *counters);
void counters_add(struct counters *counters, enum counter_type type, struct bytes text,
                  uint64_t count, uint64_t bytes);
/* Count an item under its kind, and under the prefix of its key. */
void counters_add_item(struct counters *counters, const struct item *item);

/* The index of one segment. */
struct keys_segment {
    uint64_t sequence;
    const uint8_t *data; /* the file; NULL: none, the segment must be read */
    size_t size;
    bool mapped; /* else malloc'd */
    int64_t time_min, time_max;
    uint64_t entry_count;
    uint32_t counter_count;
};

struct keys {
    struct view *view;             /* borrowed */
    struct keys_segment *segments; /* as those of view->inspect */
    uint32_t count;
    struct segment_reader reader;
};

/* Open the indexes of all sealed segments, and make those that are missing.
 *   answers   OPTIONS_EXIT_OK; VIEW_EXIT_DAMAGED (said); keys_close in any case */
int keys_open(struct keys *keys, struct view *view);
void keys_close(struct keys *keys);
/* Of a segment; NULL when it must be read. */
const struct keys_segment *keys_segment_find(const struct keys *keys, uint64_t sequence);
/* Add the counters of an index. */
void keys_count(const struct keys_segment *segment, struct counters *counters);

enum keys_order { KEYS_OLDEST_FIRST, KEYS_NEWEST_FIRST };

/* Lend every frame that is not void and may hold a record with this key (a few hold none: look).
 *
 *   on_frame   another answer than 0 ends it
 *   answers    OPTIONS_EXIT_OK; else the exit code (said)
 */
int keys_find(struct keys *keys, const char *key, enum keys_order order,
              int (*on_frame)(void *context, const struct log_frame *frame), void *context);

#endif
