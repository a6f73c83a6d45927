/* kelp cluster: the group of cloudcores, seen and changed from anywhere. */
#ifndef KELP_NODES_CLI_CLUSTER_H
#define KELP_NODES_CLI_CLUSTER_H

/* `kelp cluster COMMAND ...`; argv[0] is "cluster". Answers the exit code: 0 done, all well; 1 not all are
 * well; 2 usage; 3 nobody answers; 5 refused; 124 time is over. */
int cli_cluster(int argc, char **argv);

#endif
