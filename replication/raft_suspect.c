#include "replication/raft_suspect.h"

#include "replication/raft_members.h"
#include "schemas/check.h"

/* The place of this member among the voters that are left, by id. */
static uint32_t suspect_turn(const struct raft *raft, raft_id leader)
{
    uint32_t turn = 0;
    for (unsigned i = 0; i < raft->configuration.n; i++) {
        const struct raft_server *server = &raft->configuration.servers[i];
        turn += server->role == RAFT_VOTER && server->id != leader && server->id < raft->id;
    }
    return turn;
}

/* When a time-out of this length has to begin, so that it ends `wait` from now; a shorter one begins now: libraft
 * takes a beginning that is still to come for one that was long ago. */
static raft_time suspect_begin(struct raft *raft, uint32_t wait)
{
    const raft_time now = raft->io->time(raft->io);
    const unsigned whole = raft->follower_state.randomized_election_timeout;
    if (wait > whole) {
        return now;
    }
    return now + wait > whole ? now + wait - whole : 0;
}

/* source: libraft 0.15 src/convert.c, convertClearFollower, and src/election.c, electionTimerExpired:
 * the leader is forgotten as there, and the time-out is one that began long ago, so that whatever
 * resets it (the leader is heard again, a vote is given) sets it to its full length. */
uint32_t raft_suspect(struct raft *raft, raft_id leader, bool patient)
{
    CHECK(leader != 0);
    if (raft->state != RAFT_FOLLOWER || raft->follower_state.current_leader.id != leader ||
        leader == raft->id) {
        return 0;
    }

    raft_free(raft->follower_state.current_leader.address);
    raft->follower_state.current_leader.address = NULL;
    raft->follower_state.current_leader.id = 0;
    if (patient) {
        raft->election_timer_start = raft->io->time(raft->io);
        return raft->follower_state.randomized_election_timeout;
    }
    const uint32_t wait = RAFT_SUSPECT_MS + suspect_turn(raft, leader) * RAFT_SUSPECT_TURN_MS;
    const raft_time begun = suspect_begin(raft, wait);
    if (begun < raft->election_timer_start) {
        raft->election_timer_start = begun; /* never later than it would have been */
    }
    return wait;
}

void raft_suspect_yield(struct raft *raft)
{
    if (raft->state != RAFT_FOLLOWER) {
        return;
    }
    const raft_time begun = suspect_begin(raft, RAFT_SUSPECT_TURN_MS);
    if (begun > raft->election_timer_start) {
        raft->election_timer_start = begun;
    }
}
