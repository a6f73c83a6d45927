/* kelp: the command line of whoever is on call. Picks the command; each is a file in nodes/cli/. */
#include "nodes/cli/cluster.h"
#include "nodes/cli/log.h"
#include "nodes/cli/pki.h"
#include "nodes/cli/resolve.h"
#include "nodes/cli/status.h"
#include "nodes/cli/token.h"
#include "nodes/options.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv); /* argv[0] is the name; answers the exit code */
    const char *about;
} commands[] = {
    {"cluster", cli_cluster, "see and change the group of cloudcores"},
    {"log", cli_log, "look into the log of a cloudcore or an edgecore"},
    {"pki", cli_pki, "make certificates and a kubeconfig"},
    {"resolve", cli_resolve, "say that the disk of a cloudcore or edgecore is mended, after an I/O error"},
    {"status", cli_status, "ask a cloudcore or edgecore on this machine how it is"},
    {"token", cli_token, "let a new cloudcore join"},
};

static void help_print(FILE *stream)
{
    fprintf(stream, "Usage: kelp COMMAND ...\n\nCommands:\n");
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        fprintf(stream, "  %-10s %s\n", commands[i].name, commands[i].about);
    }
    fprintf(stream, "\nFlags:\n  -h, --help    print this and exit\n"
                    "  --version     print the version and exit\n\n"
                    "'kelp COMMAND --help' tells more.\n");
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        help_print(stderr);
        return OPTIONS_EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        help_print(stdout);
        return OPTIONS_EXIT_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("kelp %s\n", KELP_VERSION);
        return OPTIONS_EXIT_OK;
    }
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            return commands[i].run(argc - 1, argv + 1);
        }
    }
    fprintf(stderr, "kelp: unknown command %s\nTry 'kelp --help'.\n", argv[1]);
    return OPTIONS_EXIT_USAGE;
}
