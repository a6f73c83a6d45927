/* kelp pki: make an authority, certificates and a kubeconfig. */
#ifndef KELP_NODES_CLI_PKI_H
#define KELP_NODES_CLI_PKI_H

/* `kelp pki ca|server|node|client|kubeconfig ...`; argv[0] is "pki". Returns the exit code: 0 made or
 * already there, 1 failed, 2 usage. */
int cli_pki(int argc, char **argv);

#endif
