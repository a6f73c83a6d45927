/* A leader whose process has ended, known before its silence tells.
 *
 * libraft waits for the time-out, and a follower refuses the question of another one for as long as
 * its own has not passed: with two left, the later of two random times decides. Who is told that the
 * leader's process is gone forgets it at once, and asks for votes after a short time: the members in
 * turn, so that two do not ask at the same time and share the votes.
 *
 * A wrong suspicion costs nothing: the question is a pre-vote, it changes no term, those that hear
 * the leader refuse it, and the leader's next message makes the suspect a leader again.
 */
#ifndef KELP_REPLICATION_RAFT_SUSPECT_H
#define KELP_REPLICATION_RAFT_SUSPECT_H

#include <raft.h>
#include <stdint.h>

/* Before the first member asks: the others have heard of the end too by then. And how much later
 * each following one does: the one before has asked twice and stored a vote by then. */
#define RAFT_SUSPECT_MS      20u
#define RAFT_SUSPECT_TURN_MS 200u

/* Forget `leader` and hasten the election. Nothing happens unless this member follows it.
 *
 *   raft       not entered at the moment
 *   patient    only forget it, and agree to others at once: this member asks after a whole time-out
 *   returns    milliseconds until this member asks; 0: nothing happened
 */
uint32_t raft_suspect(struct raft *raft, raft_id leader, bool patient);

/* This member has just agreed that another one seek votes: it does not ask itself for one turn, or the two
 * would share the votes. */
void raft_suspect_yield(struct raft *raft);

#endif
