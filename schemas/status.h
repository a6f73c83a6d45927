/* One number line for results.
 *
 *   zero       yes
 *   negative   the world failing: -errno, which on Linux are libuv's codes, and the few of our
 *              own below. Nobody in between matches on them; they travel up to whoever owns
 *              retrying or the process.
 *   positive   an answer: an enum of that function, documented in its contract, handled by its
 *              caller and never passed on.
 */
#ifndef KELP_SCHEMAS_STATUS_H
#define KELP_SCHEMAS_STATUS_H

#include <errno.h>
#include <stdbool.h>

/* libuv's own codes reach down to -4095; ours start below them. */
#define STATUS_OK          0
#define STATUS_CORRUPT     (-5001) /* bytes that were durable, or came from a peer, are not what was written */
#define STATUS_TOO_LARGE   (-5002) /* a bound of limits.h was met */
#define STATUS_MALFORMED   (-5003) /* bytes from outside that do not have the shape they must have */
#define STATUS_FOREIGN     (-5004) /* belongs to another node, cluster or format version */
#define STATUS_NOT_LEADER  (-5005) /* this replica does not lead; ask replica_leader */
#define STATUS_UNKNOWN     (-5006) /* the fate of the request cannot be told: it may happen or not */
#define STATUS_CLOSING     (-5007) /* the object is on its way out */
#define STATUS_FULL        (-5008) /* a bounded queue is full: try again later */
#define STATUS_TIMEOUT     (-5009) /* the deadline passed */
#define STATUS_UNSUPPORTED (-5010) /* understood, and not offered (yet) */
#define STATUS_IDENTITY    (-5011) /* a certificate is missing, foreign, expired or names someone else */
#define STATUS_LOCKED      (-5012) /* another process owns this directory */
#define STATUS_BEHIND                                                                              \
    (-5013) /* this replica is being given a newer state; others serve meanwhile */

/* A short English sentence for a zero or negative status, without a full stop. Lent for ever. */
const char *status_text(int status);

/* Whether a negative status says that the disk itself failed, or holds what was never written: from
 * then on nothing that was not durable before may be believed. Not so when something ran out that
 * comes back (space, memory, files), or was forbidden, and not of our own codes but STATUS_CORRUPT. */
bool status_is_fault(int status);

#endif
