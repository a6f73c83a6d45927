/* kelp status: what a program on this machine says of itself. */
#ifndef KELP_NODES_CLI_STATUS_H
#define KELP_NODES_CLI_STATUS_H

/* `kelp status PATH [-o json]`; argv[0] is "status". PATH is a control socket, or a data directory that
 * holds one. Returns the exit code: 0 answered, 2 usage, 3 nobody answers there. */
int cli_status(int argc, char **argv);

#endif
