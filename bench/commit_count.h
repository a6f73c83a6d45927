/* A replica whose state only counts: agreement, log and links are the real ones, and what remains is what they cost.
 *
 * One in a process.
 */
#ifndef KELP_BENCH_COMMIT_COUNT_H
#define KELP_BENCH_COMMIT_COUNT_H

#include "bench/commit_links.h"
#include "replication/replica.h"

/* Open the replica `id` (1 .. COMMIT_REPLICAS) of a new group, with a log below `directory`. A failure ends the
 * process with a message.
 *
 *   send     as replica_peers.send
 *   answers  lent for the life of the process
 */
struct replica *commit_count_open(uv_loop_t *loop, uint64_t id, const char *directory,
                                  int (*send)(void *context, uint64_t to, struct bytes message));

/* A turn of the loop is over: from uv_prepare_t. */
void commit_count_turn(void);
/* Time passes; every COMMIT_TICK_MS. */
#define COMMIT_TICK_MS 10u
void commit_count_tick(void);

#endif
