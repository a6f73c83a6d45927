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
};

/* Open what belongs to a view. Never fails: without a state, `why` says so. */
void state_open(struct state *state, const struct view *view);
void state_close(struct state *state);
const char *state_machine_text(enum state_machine machine);

#endif
