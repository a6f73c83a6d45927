/* kelp log: look into the log of a cloudcore or an edgecore, live or dead, only reading. */
#ifndef KELP_NODES_CLI_LOG_H
#define KELP_NODES_CLI_LOG_H

/* `kelp log cat|info|verify DIR ...`; argv[0] is "log". Returns the exit code: 0 done, 1 there is
 * nothing to show or no log there, 2 usage, 4 damaged. */
int cli_log(int argc, char **argv);

#endif
