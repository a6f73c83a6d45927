/* One file of frames: appended at the tail, never rewritten, read back after a crash.
 *
 * The file is made ahead of its use, with its full size in zeros (or a former segment is reused)
 * and this block at its front, all of it durable before the file gets its name, so a file shorter
 * than its header says has been damaged. Little-endian:
 *
 *      0   8     magic "KELPSEG\n"
 *      8   u32   format version, SEGMENT_VERSION
 *     12   u32   crc32c of bytes 0 .. 11 and 16 .. 4095
 *     16   16    owner: the log this file belongs to
 *     32   u64   sequence: segments of a log are numbered 1, 2, 3 ...; the file is SEQUENCE.seg,
 *                as 16 hexadecimal digits, and no number is ever used twice
 *     40   u64   size of the file in bytes
 *     48   u32   bytes at its end that are kept free of frames, for a footer (log/footer.h); 0 in
 *                files of former versions
 *     52   ...   zeros up to SEGMENT_HEADER_BYTES
 *
 * (The name has no first index because the file exists before it is known which frame will open
 * it: rolling then costs no rename and no directory sync on the hot path.)
 *
 * Then frames, one behind the other, each padded with zeros to a multiple of 8:
 *
 *      0   u32   crc32c, seeded with segment_salt(owner, sequence), of bytes 4 .. 32 + size
 *      4   u32   payload size in bytes
 *      8   u64   index; of a SEAL or MARK: what the next frame will have
 *     16   u64   term; of a SEAL or MARK: when it was written, ms since 1970, 0 when not known
 *     24   u8    type, enum log_type; 0 is no frame
 *     25   u8    flags, 0 for now; a reader that meets one it does not know refuses the file
 *     26   u16   low bits of the segment's sequence: with the salt, a frame of a reused or foreign
 *                file is never taken for one of this file
 *     28   u32   batch: everything in this file before this offset was durable before this frame
 *                was written
 *     32   ...   payload
 *
 * A frame is *alive* if its bytes lie in the file, its crc and sequence match, and its batch is not
 * behind itself. Reading goes forward; the first dead frame ends the segment, unless a SEAL frame
 * said before that the next frame is in the next segment.
 *
 * THE DURABLE MARK tells a torn tail from rot, with no second fdatasync. A crash can tear only the
 * batch that was being written, and frames name the batch they belong to. So, with the first
 * dead frame at D:
 *
 *   - an alive frame behind D whose batch is greater than D proves that D was durable: rot;
 *   - an alive frame in a later segment proves the same: the part of a batch that goes into the
 *     next segment is written after the sync of the part before it;
 *   - otherwise everything behind D belongs to one torn batch, of which nothing was acknowledged:
 *     it is cut, and its alive frames are zeroed before anything is appended at D, so that they
 *     can never be taken for frames that follow it.
 *
 * That leaves the last batch: rot in it looks like a tear. So a MARK frame, which is a batch of its
 * own, is appended when the log has been idle and when it is closed.
 */
#ifndef KELP_LOG_SEGMENT_H
#define KELP_LOG_SEGMENT_H

#include "log/disk.h"
#include "schemas/limits.h"

#define SEGMENT_VERSION            1u
#define SEGMENT_OWNER_BYTES        16u
#define SEGMENT_HEADER_BYTES       4096u
#define SEGMENT_FRAME_HEADER_BYTES 32u
#define SEGMENT_BYTES_MIN          (16u * 1024u)
#define SEGMENT_BYTES_MAX          (1024u * 1024u * 1024u)
#define SEGMENT_FOOTER_BYTES_MIN   512u /* one that is kept room for */
#define SEGMENT_NAME_BYTES         24u  /* "0123456789abcdef.seg" and its terminator, rounded up */

struct segment_header {
    uint8_t owner[SEGMENT_OWNER_BYTES];
    uint64_t sequence;
    uint64_t size_bytes;
    uint32_t footer_bytes;
};

struct segment_frame {
    uint64_t index;
    uint64_t term;
    uint8_t type;
    uint8_t flags;
    uint32_t batch;
    uint32_t offset;     /* of its header in the file */
    uint32_t disk_bytes; /* header, payload and padding */
    struct bytes payload;
};

/* What lies behind the first dead frame. Once `rotten` is known the rest is not looked at. */
struct segment_tail {
    bool rotten;             /* a frame behind it proves that it was durable */
    uint32_t witness_offset; /* that frame */
    uint32_t alive_end;      /* end of the last alive frame behind it; 0: there is none */
    uint32_t torn_end;       /* the same, or the end of the torn frame itself; 0: nothing is seen */
};

void segment_header_encode(const struct segment_header *header,
                           uint8_t out_block[SEGMENT_HEADER_BYTES]);
/* Read a header block.
 *
 *   answers    0; STATUS_CORRUPT: not a header, or damaged; STATUS_FOREIGN: a newer format
 */
int segment_header_decode(const uint8_t block[SEGMENT_HEADER_BYTES],
                          struct segment_header *out_header);

/* The name of a segment's file, and back. false: not a segment's name. */
void segment_name_format(uint64_t sequence, char out_name[SEGMENT_NAME_BYTES]);
bool segment_name_parse(const char *name, uint64_t *out_sequence);

/* What seeds the checksums of a segment. */
uint32_t segment_salt(const uint8_t owner[SEGMENT_OWNER_BYTES], uint64_t sequence);

/* Bytes a frame takes on disk. */
static inline uint64_t segment_frame_bytes(uint64_t payload_bytes)
{
    return (SEGMENT_FRAME_HEADER_BYTES + payload_bytes + 7u) & ~(uint64_t)7u;
}

/* Write one frame into memory: segment_frame_bytes(size of all pieces) bytes at `out`.
 *
 *   frame      index, term, type, batch are used
 *   pieces     borrowed during the call
 */
void segment_frame_encode(const struct segment_frame *frame, const struct bytes *pieces,
                          uint32_t piece_count, uint32_t salt, uint64_t sequence, uint8_t *out);

/* A forward reader of one segment, with its own buffer. */
struct segment_reader {
    struct disk *disk;
    struct disk_file *file;
    struct segment_header header;
    uint32_t salt;
    uint32_t offset; /* of the next frame */
    uint8_t *buffer;
    uint32_t buffer_capacity;
    uint32_t buffer_offset; /* of buffer[0] in the file */
    uint32_t buffer_size;   /* bytes in it */
};

/* Make a reader that stands in no file. */
void segment_reader_init(struct segment_reader *reader, struct disk *disk);
/* Give its memory and file back. */
void segment_reader_deinit(struct segment_reader *reader);

/* Stand before the first frame of a file; a former file is closed.
 *
 *   path       borrowed during the call
 *   owner      16 bytes the header must name; NULL: anyone
 *   sequence   the header must have it
 *   answers    0; STATUS_CORRUPT: header damaged, another sequence, or the file is shorter than
 *              it says; STATUS_FOREIGN: another owner or a newer format; the failure of the disk
 */
int segment_reader_open(struct segment_reader *reader, const char *path, const uint8_t *owner,
                        uint64_t sequence);
/* Stand before another frame of the same file. */
void segment_reader_seek(struct segment_reader *reader, uint32_t offset);

enum segment_answer {
    SEGMENT_FRAME = 0,
    SEGMENT_DEAD = 1, /* no alive frame at reader->offset */
};

/* Lend the next frame.
 *
 *   limit      read nothing from this offset on: how far the file is durable; the whole file:
 *              UINT32_MAX
 *   out_frame  payload lent until the next call; untouched unless SEGMENT_FRAME
 *   answers    enum segment_answer; the failure of the disk
 */
int segment_reader_next(struct segment_reader *reader, uint32_t limit,
                        struct segment_frame *out_frame);

/* Look at everything from reader->offset, where no alive frame is, to the end of the file.
 * The position is kept. */
int segment_reader_examine(struct segment_reader *reader, struct segment_tail *out_tail);

#endif
