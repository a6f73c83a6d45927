/* A backup of the cloud as one file: the rows of one replica's state at one log index.
 *
 * Rows are the same on all replicas (transfer.h), so it does not matter whose they are. Format, little-endian:
 *
 *      head      0  magic "KELPBACK"    8  format u32    12  crc32c u32 of bytes 16 ..
 *               16  format of the rows u32    20  zero u32    24  epoch u64    32  log index u64
 *               40  term u64    48  resource version u64    56  made, ms since 1970, i64
 *               64  about how many rows u64    72  cluster, 256 bytes    328  software, 64 bytes
 *      ranges    0  magic "KBRG"    4  crc32c u32 of bytes 8 .., places and rows too    8  rows, bytes u32
 *               12  size of the place u16    14  zero u16    16  rows u64    24  digest, two u64
 *               40  the place where it ends (transfer_place; empty: the last), then the rows
 *      tail      0  magic "KBTL"    4  crc32c u32 of bytes 8 ..    8  ranges u64    16  rows u64
 *               24  bytes before the tail u64    32  digest of all, two u64
 *
 * A range begins where the one before it ends. The digest of all is made of the seals of the ranges, in order
 * (transfer_seal). A file without its tail is not a backup.
 */
#ifndef KELP_NODES_CLOUD_BACKUP_H
#define KELP_NODES_CLOUD_BACKUP_H

#include <stdio.h>

#include "nodes/cloud/transfer.h"

#define BACKUP_FORMAT         1u
#define BACKUP_HEAD_BYTES     392u
#define BACKUP_RANGE_BYTES    40u
#define BACKUP_TAIL_BYTES     48u
#define BACKUP_CLUSTER_BYTES  256u
#define BACKUP_SOFTWARE_BYTES 64u
static_assert(BACKUP_CLUSTER_BYTES > LIMIT_NAME_BYTES, "the name of a cluster fits");

/* A range holds LIMIT_TRANSFER_BYTES, or one row that is larger, or rows that no place can part. */
#define BACKUP_ROWS_BYTES_MAX (2u * LIMIT_FRAME_BYTES)

struct backup_head {
    char cluster[BACKUP_CLUSTER_BYTES];
    char software[BACKUP_SOFTWARE_BYTES]; /* version that made it */
    uint32_t rows_format;                 /* MACHINE_FORMAT of it */
    uint64_t epoch;
    uint64_t index;
    uint64_t term; /* of the replica that was asked */
    uint64_t version;
    int64_t time_ms;
    uint64_t rows_about; /* for whoever shows progress */
};

/* What has been written, or read, so far. Begins as {0}. */
struct backup_sums {
    uint64_t ranges;
    uint64_t rows;
    uint64_t bytes; /* head included */
    struct tag digest;
};

/* -- writing: bytes for whoever stores or sends them --------------------------------------------- */

/* Fill `head` from a state.
 *   out      term and time_ms are the caller's
 *   answers  STATUS_OK; STATUS_BEHIND: nothing was ever applied; what the store answers */
int backup_head_read(struct store_reader *reader, const char *software, struct backup_head *out);
void backup_head_encode(struct backup_sums *sums, const struct backup_head *head,
                        uint8_t out[BACKUP_HEAD_BYTES]);
/* The head of one range; its rows follow as they are.
 *   from, end  where it begins and ends
 *   out        at least BACKUP_RANGE_BYTES + LIMIT_STORE_KEY_BYTES bytes
 *   returns    how many of them */
size_t backup_range_encode(struct backup_sums *sums, const struct backup_head *head,
                           const struct transfer_place *from, const struct transfer_place *end,
                           const struct transfer_rows *rows, uint8_t *out);
void backup_tail_encode(const struct backup_sums *sums, uint8_t out[BACKUP_TAIL_BYTES]);

/* -- reading -------------------------------------------------------------------------------------- */

#define BACKUP_END          1
#define BACKUP_REASON_BYTES 320u

struct backup_reader {
    FILE *file; /* borrowed */
    struct backup_head head;
    struct backup_sums sums;
    struct transfer_place place; /* where the next range begins */
    bool last;                   /* the range that was read ends behind the last row */
    uint8_t *memory;             /* of one range */
    size_t capacity;
    char reason[BACKUP_REASON_BYTES]; /* a sentence, after an answer that is not 0 */
};

/* Read the head.
 *   file      borrowed until backup_close, at its beginning
 *   answers   0; STATUS_FOREIGN: not a backup, or of a newer release; STATUS_CORRUPT; -errno. backup_close in
 *             any case */
int backup_open(struct backup_reader *reader, FILE *file);
/* Read and check the next range.
 *   out_rows  for transfer_rows_put; lent until the next call
 *   answers   0; BACKUP_END: there was no more, and all of it is whole; STATUS_CORRUPT; -errno */
int backup_next(struct backup_reader *reader, struct bytes *out_rows);
void backup_close(struct backup_reader *reader);

#endif
