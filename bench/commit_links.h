/* Plain links of three replicas on one machine: a connected stream for each pair, messages in frames.
 *
 *   1. before the processes part: commit_links_prepare connects each with each
 *   2. in each: commit_links_open; commit_links_send is the replica's peers.send
 *
 * A frame: u32 size, u32 zero, the message, zeros up to a multiple of 8; little-endian.
 */
#ifndef KELP_BENCH_COMMIT_LINKS_H
#define KELP_BENCH_COMMIT_LINKS_H

#include "schemas/bytes.h"

#include <stdbool.h>
#include <uv.h>

#define COMMIT_REPLICAS 3u

/* A failure ends the process with a message.
 *
 *   tcp      over the loopback, as processes of other programs are linked; Unix sockets otherwise
 */
void commit_links_prepare(bool tcp);

/* In the parent, when the processes have parted: it holds no link. */
void commit_links_forget(void);

/* Take part, as replica `self` (1 ..). What arrives goes to on_message, borrowed during the call and
 * 8-byte aligned. A link that ends ends the process: whoever started the three ends them together. */
void commit_links_open(uv_loop_t *loop, uint64_t self,
                       void (*on_message)(uint64_t from, struct bytes message));

/* As replica_peers.send. */
int commit_links_send(void *context, uint64_t to, struct bytes message);

#endif
