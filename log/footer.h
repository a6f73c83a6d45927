/* What a sealed segment does to the view, in one block: log_open need not read its frames.
 *
 * A segment made with room for it (segment_header.footer_bytes) keeps its last bytes free of frames.
 * Once the segment is sealed and a frame behind it is durable, the footer is written there, in the
 * background and never synced. Little-endian, padded with zeros:
 *
 *      0   8     magic "KELPFOOT"
 *      8   u32   format version, FOOTER_VERSION
 *     12   u32   crc32c, seeded with the segment's salt, of bytes 0 .. 11 and 16 .. end of entries
 *     16   u64   sequence of the segment
 *     24   u32   used bytes: end of the SEAL
 *     28   u32   entries
 *     32   u64   frames of owners, void ones too
 *     40   u64   index that had to come next before this segment; 0: any
 *     48   u64   index of the first of these frames; 0 when there are none
 *     56   u64   and of the last
 *     64   u64   index that must come next behind this segment
 *     72   u64   term of the last frame
 *     80   u64   truncations and resets
 *     88   u64   when the segment was begun, ms since 1970 by its owner's clock; 0: unknown
 *     96   u64   and when it was sealed
 *    104   ...   zeros up to FOOTER_HEADER_BYTES
 *    128   16 each, in the order of the file:
 *                u32 offset, with the kind in its low three bits; u32 end
 *                FOOTER_RUN: u64 one more than the last index; the first is what had to come next
 *                FOOTER_TRUNCATE, FOOTER_RESET: u64 their index
 *
 * Runs are cut as extents.h cuts them, so that applying a footer gives the very extents that reading
 * the frames gives (tests/log/footer_test.c and tests/log/cuts compare them).
 *
 * A footer is a hint. One that is missing, torn, damaged, of a former life of the file (the salt) or
 * not in line with the segments before it is as good as none: the frames are read, and it is written
 * again. A segment with too many truncations for its block has none. But one that is good proves
 * more than its content: a frame of a later segment was durable when it was written.
 */
#ifndef KELP_LOG_FOOTER_H
#define KELP_LOG_FOOTER_H

#include "log/extents.h"
#include "log/segment.h"

#define FOOTER_VERSION      1u
#define FOOTER_HEADER_BYTES 128u
#define FOOTER_ENTRY_BYTES  16u

enum footer_kind {
    FOOTER_RUN = 1,
    FOOTER_TRUNCATE = 2,
    FOOTER_RESET = 3,
};

/* The footer of one segment, while it grows with the frames or as it was read. */
struct footer {
    uint64_t sequence;
    uint32_t used_bytes; /* SEGMENT_HEADER_BYTES when there is no frame */
    uint64_t frames;
    uint64_t index_before;
    uint64_t index_first;
    uint64_t index_last;
    uint64_t index_next;
    uint64_t term_last;
    uint64_t truncations;
    uint64_t time_first_ms;
    uint64_t time_last_ms; /* of the last mark or seal */
    uint32_t count;        /* entries */
    bool fits;             /* all entries have room */
    uint8_t *block;        /* they lie in it as they go to disk; NULL: no memory, or no footer */
    uint32_t block_bytes;
};

/* Room a new segment keeps for its footer: two entries for each stride, and some. Blocks of their
 * own where a segment is large enough, so that no durable frame shares one with it. */
uint32_t footer_bytes(uint32_t segment_bytes);

void footer_init(struct footer *footer);
void footer_deinit(struct footer *footer);

/* Begin with an empty segment. Without memory it only counts, and does not fit.
 *
 *   block_bytes   of the segment's header: footer_bytes; 0: it keeps no room for one
 *   index_before  index that must come next; 0: any
 *   time_ms       now; 0: unknown
 */
void footer_start(struct footer *footer, uint64_t sequence, uint32_t block_bytes,
                  uint64_t index_before, uint64_t time_ms);
/* Take the next frame of the segment, of whatever type. It was accepted by the extents. */
void footer_add(struct footer *footer, const struct segment_frame *frame);

/* Finish the block of a sealed segment.
 *
 *   answers    it, block_bytes long, malloc'd and given; NULL: there is none to write
 */
uint8_t *footer_take(struct footer *footer, uint32_t salt);

/* Read the footer of an open segment.
 *
 *   answers    0; STATUS_CORRUPT: there is none that could be trusted; the failure of the disk
 */
int footer_read(struct footer *footer, const struct segment_reader *reader);

/* Do to the view what the segment does, if it follows what came before.
 *
 *   answers    0; STATUS_CORRUPT: it does not follow, nothing changed; -ENOMEM: half done
 */
int footer_apply(const struct footer *footer, struct extents *extents);

/* Whether two say the same of the frames: one that was read, and one that grew by reading them. */
bool footer_equal(const struct footer *a, const struct footer *b);

#endif
