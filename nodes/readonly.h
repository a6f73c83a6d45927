/* A program whose data directory holds the note of a failure (fault.h): it writes nothing, takes part in
 * nothing, and tells whoever asks why, until it is stopped. Containers of an edge keep running: nobody
 * here touches them.
 */
#ifndef KELP_NODES_READONLY_H
#define KELP_NODES_READONLY_H

#include <stdbool.h>
#include <uv.h>

#include "nodes/fault.h"

/* All borrowed until the process ends. */
struct readonly {
    uv_loop_t *loop; /* initialised, nothing on it yet */
    const char *program;
    const char *name;    /* of this replica or node */
    const char *data;    /* data directory */
    const char *control; /* path of the control socket; "": DATA/control */
    struct fault fault;
    char reason[2048]; /* one sentence: what failed, and what to do; filled by readonly_find */
};

/* Whether the next start has to be read-only. Fills fault and reason from program and data.
 *   answers  true; false: there is no note, start as usual */
bool readonly_find(struct readonly *readonly);
/* Serve the control socket and what else is on the loop until SIGTERM or SIGINT. A control socket that
 * cannot be made (the file system may be read-only by now) is told in a line and done without.
 *   answers  the exit code of the process: 0 */
int readonly_run(struct readonly *readonly);

#endif
