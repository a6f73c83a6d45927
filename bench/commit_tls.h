/* The links of three replicas as production has them: nodes/cloud/peers.h over TLS on the loopback,
 * each message in a WIRE_RAFT frame.
 *
 *   1. before the processes part: commit_tls_prepare makes an authority, three certificates, three ports
 *   2. in each: commit_tls_open; commit_tls_send is the replica's peers.send
 */
#ifndef KELP_BENCH_COMMIT_TLS_H
#define KELP_BENCH_COMMIT_TLS_H

#include "bench/commit_links.h" /* COMMIT_REPLICAS */
#include "schemas/bytes.h"

#include <uv.h>

/* Files go below `directory`; a failure ends the process with a message. */
void commit_tls_prepare(const char *directory);

/* Listen and dial, as replica `self` (1 ..). What arrives goes to on_message, borrowed during the call. */
void commit_tls_open(uv_loop_t *loop, uint64_t self,
                     void (*on_message)(uint64_t from, struct bytes message));

/* As replica_peers.send. */
int commit_tls_send(void *context, uint64_t to, struct bytes message);

#endif
