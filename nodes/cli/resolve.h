/* kelp resolve: look at a data directory whose disk has failed, and end its being read-only. */
#ifndef KELP_NODES_CLI_RESOLVE_H
#define KELP_NODES_CLI_RESOLVE_H

/* argv[0] is "resolve". Answers the exit code. */
int cli_resolve(int argc, char **argv);

#endif
