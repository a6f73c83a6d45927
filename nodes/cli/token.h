/* kelp token: what lets a machine join that has no certificate yet. */
#ifndef KELP_NODES_CLI_TOKEN_H
#define KELP_NODES_CLI_TOKEN_H

/* `kelp token create [flags]`; argv[0] is "token". Answers the exit code, as kelp cluster's. */
int cli_token(int argc, char **argv);

#endif
