/* A replica with the state machine of a cloudcore: nodes/cloud/core.h over a real log and a real RocksDB, with raft's
 * own checkpoints, linked by commit_links.h. What a cloudcore has besides is doors: HTTP, JSON, TLS, edges.
 *
 * One in a process.
 */
#ifndef KELP_BENCH_COMMIT_STATE_H
#define KELP_BENCH_COMMIT_STATE_H

#include "bench/commit_links.h"
#include "nodes/cloud/backend.h"

/* Open the replica `id` (1 .. COMMIT_REPLICAS) of a new group, below `directory`. It runs from the loop by itself. A
 * failure ends the process with a message.
 *
 *   on_turn_end  called when a turn has been made, before the loop waits: it may put more */
void commit_state_open(uv_loop_t *loop, uint64_t id, const char *directory,
                       void (*on_turn_end)(void));

/* Whether it leads, and the group is founded: writes are taken. */
bool commit_state_leads(void);

/* Put a config map of that number whose JSON is `body`: one record.
 *
 *   body       borrowed during the call; JSON means nothing to the state
 *   on_written as backend.write: durable on two of three, and applied here
 *   answers    as backend.write */
int commit_state_put(uint32_t number, struct bytes body, backend_on_written on_written,
                     void *context);

#endif
