/* Which of two directories in a data directory holds the state.
 *
 *      state, state.2    one is the state; in the other a newer one is put together, when needed
 *      state.current     the name of the first; absent: "state"
 *
 * Exchanging the two is writing that file: whole or not at all, and durable before the answer. So a
 * process that dies at any moment finds either the old state or the new one, and its directory keeps
 * its name while somebody reads it.
 *
 * Blocks on the disk. What is in the directories is the store's.
 */
#ifndef KELP_NODES_CLOUD_STATE_PLACE_H
#define KELP_NODES_CLOUD_STATE_PLACE_H

#include <stdbool.h>

#include "schemas/status.h"

#define STATE_PLACE_BYTES 1100u /* of a path: a data directory has at most 900 */

struct state_place {
    char data[STATE_PLACE_BYTES];
    char paths[2][STATE_PLACE_BYTES];
    unsigned current; /* 0, 1 */
};

/* Find out.
 *
 *   data      borrowed during the call; the directory exists
 *   answers   0; STATUS_CORRUPT: state.current names neither; -errno */
int state_place_open(struct state_place *place, const char *data);
/* Where the state is, and where it is not. Lent while `place` lives. */
const char *state_place_current(const struct state_place *place);
const char *state_place_other(const struct state_place *place);
/* Whether there is a state. */
bool state_place_exists(const struct state_place *place);
/* The other directory is the state from now on.
 *   answers   0; -errno: nothing changed */
int state_place_exchange(struct state_place *place);

#endif
