/* Frames handed from the thread that reads them to one that prints them, in their order.
 *
 * Reading a log (its bytes from the disk, their checksums) and putting it into words cost about the same,
 * so on two cores a log is printed in the time it takes to read it. The reader's side is view_frames as
 * ever, with belt_put for its on_frame; the other side calls the on_frame of the command, frame by frame,
 * from a thread of its own. Nothing is shared but the chunks, each of which belongs to one side at a time:
 * a reader that is ahead waits, so memory is bounded (LIMIT_BELT_*).
 *
 * Where no thread can be had, belt_put calls on_frame itself.
 */
#ifndef KELP_NODES_CLI_LOG_BELT_H
#define KELP_NODES_CLI_LOG_BELT_H

#include "log/log.h"
#include "schemas/limits.h"

#include <uv.h>

struct belt_chunk {
    struct log_frame frames[LIMIT_BELT_CHUNK_FRAMES]; /* payloads lie in memory */
    uint32_t count;
    uint8_t *memory; /* ours */
    size_t used;
    size_t capacity;
};

struct belt {
    int (*on_frame)(void *context, const struct log_frame *frame);
    void *context;
    bool threaded;
    uv_thread_t thread;
    uv_mutex_t mutex; /* over what follows, to enough */
    uv_cond_t moved;  /* a chunk was handed over or given back, or the reader leaves */
    uint64_t filled;  /* chunks handed over; the reader fills chunks[filled % LIMIT_BELT_CHUNKS] */
    uint64_t emptied; /* of these, given back */
    bool full;        /* the reader waits */
    bool leaving;
    bool enough; /* on_frame wanted no more */
    struct belt_chunk *chunks;
};

/* Begin.
 *
 *   on_frame   called with context from another thread until belt_close returns: what it touches must
 *              not be touched by the reader. Frames are lent during the call; another answer than 0:
 *              it wants no more, and is not called again
 */
void belt_open(struct belt *belt, int (*on_frame)(void *context, const struct log_frame *frame),
               void *context);
/* Hand a frame over.
 *   context   the belt
 *   frame     borrowed during the call
 *   answers   0; 1: no more is wanted */
int belt_put(void *context, const struct log_frame *frame);
/* Whether no more is wanted, as far as is known. */
bool belt_ended(struct belt *belt);
/* Wait until on_frame was called for all that was put, or wanted no more; then what it touched is ours
 * again. */
void belt_close(struct belt *belt);

#endif
