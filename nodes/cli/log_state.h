/* The state beside a log, read without disturbing its owner: what is durable in it.
 *
 * A running owner applies records first and flushes them later: an edgecore within a minute, a
 * cloudcore once LIMIT_RAFT_SNAPSHOT_BYTES of log have come, which may be days. Everything up to
 * `position` is in the state for good; state_fold adds in memory what is known to be applied beyond.
 */
#ifndef KELP_NODES_CLI_LOG_STATE_H
#define KELP_NODES_CLI_LOG_STATE_H

#include "nodes/cli/log_view.h"
#include "statemachine/store.h"

enum state_machine { STATE_NONE, STATE_CLOUD, STATE_EDGE };

struct state {
    enum state_machine machine; /* STATE_NONE: there is none, or it cannot be read: see `why` */
    struct store *store;
    uint64_t position; /* log index of the newest record in it */
    bool current;  /* state_fold: the owner has applied nothing beyond, as far as the view goes */
    char why[512]; /* one sentence, when there is none */

    /* Of the running owner, when state_ask found one: it knows more than what is on disk. */
    bool running;
    uint64_t applied;
    uint64_t up_last, up_acked; /* of an edge */
    bool link_down;             /* of an edge: it says so */

    struct store_sim
        *folded; /* what holds `store` when state_fold found no rows on disk; else NULL */
};

/* Open what belongs to a view. Never fails: without a state, `why` says so. */
void state_open(struct state *state, const struct view *view);
/* Ask the owner, if it is running and its control socket is where it is by default. Takes a second at most. */
void state_ask(struct state *state, const struct view *view);
/* Behind state_ask: fold the log, in memory and on top of the rows on disk, up to what the running owner has
 * applied; of an edge where nobody runs, up to the end of its log, which is what a start does. It ends before a
 * record of a newer release; `store` and `position` are then of that. Of a cloudcore where nobody runs, or
 * where the log begins later or is damaged, nothing changes.
 *
 *   edge  whose log it is, when there is no state that says so
 */
void state_fold(struct state *state, struct view *view, bool edge);
void state_close(struct state *state);
const char *state_machine_text(enum state_machine machine);

#endif
