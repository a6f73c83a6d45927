/* The state beside a log, read without disturbing its owner: what is durable in it.
 *
 * A running owner applies records first and flushes them later, so what is seen here may be a minute
 * behind what it knows. Everything up to `position` is in the state for good.
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
    char why[512];     /* one sentence, when there is none */

    /* Of the running owner, when state_ask found one: it knows more than what is on disk. */
    bool running;
    uint64_t applied;
    uint64_t up_last, up_acked; /* of an edge */
};

/* Open what belongs to a view. Never fails: without a state, `why` says so. */
void state_open(struct state *state, const struct view *view);
/* Ask the owner, if it is running and its control socket is where it is by default. Takes a second at most. */
void state_ask(struct state *state, const struct view *view);
void state_close(struct state *state);
const char *state_machine_text(enum state_machine machine);

#endif
