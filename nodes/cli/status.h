/* kelp status: what a program on this machine says of itself. */
#ifndef KELP_NODES_CLI_STATUS_H
#define KELP_NODES_CLI_STATUS_H

#include <stddef.h>
#include <sys/types.h>

/* `kelp status PATH [-o json]`; argv[0] is "status". PATH is a control socket, or a data directory that
 * holds one. Returns the exit code: 0 answered, 2 usage, 3 nobody answers there. */
int cli_status(int argc, char **argv);

/* Ask the program behind a control socket how it is.
 *
 *   path        of the socket
 *   buffer      receives its answer, JSON, not terminated
 *   patience_s  for connecting, and for each piece of the answer
 *   answers     the size, 0 when it is on its way out; -errno
 */
ssize_t cli_status_ask(const char *path, char *buffer, size_t size, int patience_s);

#endif
