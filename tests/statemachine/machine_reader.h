/* The stupidest edge: it takes batches and snapshots and keeps what they say in an array. */
#ifndef KELP_TESTS_STATEMACHINE_MACHINE_READER_H
#define KELP_TESTS_STATEMACHINE_MACHINE_READER_H

#include "machine_fixture.h"

#define READER_ROWS 512u

struct reader_row {
    char key[128];
    char uid[32];
    struct tag tag;
    uint64_t bytes; /* of its json */
};

struct reader {
    const char *node;
    uint64_t stream;
    uint64_t position;
    struct reader_row rows[READER_ROWS];
    uint32_t row_count;
    uint64_t snapshots;
    uint64_t batches;
    uint64_t removes_unused; /* REMOVE_UNUSED seen */
    char order[4096];        /* "+key -key ..." of the records taken since it was emptied */
};

/* One batch, or one whole snapshot, or nothing.
 *   answers   enum delivery_answer */
int reader_step(struct fixture *f, struct reader *reader, size_t max_bytes);
/* Until there is nothing more. Asserts that the digest at the tip is that of the rows, and that
 * they are what HELD says. */
void reader_drain(struct fixture *f, struct reader *reader, size_t max_bytes);
/* All of a snapshot that was opened; closes it. Asserts that its digest is that of its rows. */
void reader_take_snapshot(struct fixture *f, struct reader *reader,
                          struct delivery_snapshot *snapshot, size_t max_bytes);
const struct reader_row *reader_find(const struct reader *reader, const char *key);
struct tag reader_digest(const struct reader *reader);

#endif
