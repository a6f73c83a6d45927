/* Another timeline of the same cluster: what its state is when it goes on from a backup, or without the
 * quorum that knew more.
 *
 * In the timeline that was lost the cluster went on: it gave out resource versions, numbered rows of down
 * logs, opened sessions, answered proposals, and trimmed what edges told it, all of which somebody may still
 * hold. So the numbers of the new timeline begin so far above that none of them can be taken for one of the
 * lost one:
 *
 *   log index           jumps (machine_rebirth_index); ids of down streams and term follow from it
 *   resource version    jumps, and no history is left: a watch from before is told to list anew
 *   down stream         of each node another one: an edge gets a snapshot, whatever it has
 *   up stream           of each node unknown: the position its next session says is where it goes on, and
 *                       the snapshot asks it to tell its facts again (struct snapshot, retell)
 *   session epoch       jumps: what is on the way in an older session is refused
 *   answers kept        gone: a command of before that is proposed now is a new one, as nobody who waits for
 *                       an answer outlived his cluster
 *
 * Objects, facts, verdicts, events, inboxes, settings, the name of the cluster and its time stay. What was
 * wished after the backup is wished no more: an edge that holds it removes it.
 *
 * Replicas of different epochs never talk (nodes/cloud/core_greeting.c).
 */
#ifndef KELP_STATEMACHINE_REBIRTH_H
#define KELP_STATEMACHINE_REBIRTH_H

#include "statemachine/machine.h"

/* Each number jumps by this much at least, and by a random part of up to half as much: two timelines from one
 * backup are apart, too. A billion records a day are three years. */
#define REBIRTH_JUMP (UINT64_C(1) << 40)
/* Sessions are opened more seldom, and ids of snapshots are made of their epochs (nodes/cloud/session.c). */
#define REBIRTH_SESSIONS (UINT64_C(1) << 32)

struct machine_rebirth {
    uint64_t epoch;  /* above machine_meta.epoch: of replicas that meet, the lower one gives way */
    uint64_t chance; /* random bits */
};

/* The log index at which the state of `index` begins anew: its position, and the log goes on behind it. 0: the
 * numbers are used up, after a thousand times. */
uint64_t machine_rebirth_index(uint64_t index, const struct machine_rebirth *rebirth);

/* Rewrite the rows; the position is then machine_rebirth_index of the one before.
 *
 *   machine   no entry is being applied. Nothing else may be applied to it afterwards that was of the log
 *             before
 *   answers   STATUS_OK: durable with the next store_flush; STATUS_UNSUPPORTED: epoch is not above, or the
 *             numbers are used up: nothing changed; other negatives: the store failed, and until it is called
 *             again with the same `rebirth` and answers STATUS_OK the rows are of neither timeline
 */
int machine_rebirth(struct machine *machine, const struct machine_rebirth *rebirth);

#endif
