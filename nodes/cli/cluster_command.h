/* What the commands of `kelp cluster` share. cluster.c has the table; each command gets its words from argv,
 * argv[0] being its name, and answers the exit code. */
#ifndef KELP_NODES_CLI_CLUSTER_COMMAND_H
#define KELP_NODES_CLI_CLUSTER_COMMAND_H

#include "nodes/cli/remote.h"

#include <jansson.h>

/* Flags of every command that asks a cloudcore. */
struct cluster_where {
    const char *kubeconfig; /* NULL: as kubectl */
    const char *context;    /* NULL: the current one */
    const char *server;
};
#define CLUSTER_WHERE_COUNT 3u
#define CLUSTER_WHERE_FLAGS(where)                                                                 \
    {"kubeconfig",        0,      OPTIONS_TEXT,                                                    \
     &(where).kubeconfig, "FILE", "kubeconfig of the cluster ($KUBECONFIG, ~/.kube/config)"},      \
        {"context",        0,      OPTIONS_TEXT,                                                   \
         &(where).context, "NAME", "context of the kubeconfig, instead of the current one"},       \
    {                                                                                              \
        "server", 0, OPTIONS_TEXT, &(where).server, "URL",                                         \
            "https://host:port of a cloudcore, instead of the kubeconfig's"                        \
    }

/* Parse the words of a command. Answers OPTIONS_RUN (go on), else sets the exit code. */
bool cluster_parse(const struct options_command *command, int argc, char **argv,
                   struct options_list *words, int *out_exit);
/* The number of a replica; says what is wrong. 0: it is none. */
uint64_t cluster_replica(const char *command, const char *text);

/* What GET /kelp/v1/cluster answers. Says what is wrong.
 *   answers   0, with out given (json_decref); else the exit code */
int cluster_ask(struct remote *remote, const char *command, uint32_t patience_ms, json_t **out);
/* One member of it; NULL: it is not one. */
const json_t *cluster_member(const json_t *document, uint64_t replica);
const char *cluster_text(const json_t *object, const char *key); /* "" when it is not there */
uint64_t cluster_number(const json_t *object, const char *key);

/* Ask for a change, and again until it is made.
 *
 *   operation, replica, address, key   as in nodes/cloud/cluster_door.h
 *   wait       also as long as the answer is "later"
 *   end_ms     until when, of remote_mono_ms
 *   answers    the exit code; it was said what happened */
int cluster_change(struct remote *remote, const char *command, const char *operation,
                   uint64_t replica, const char *address, const char *key, bool wait,
                   uint64_t end_ms);

/* Progress of something long on stderr: a line when the text changes, at most one a second; a terminal sees
 * one line. */
struct cluster_progress {
    char told[256];
    uint64_t told_ms;
    bool open; /* a line of the terminal is not finished */
};
void cluster_progress(struct cluster_progress *progress, const char *command, const char *text);
void cluster_progress_end(struct cluster_progress *progress);

int cluster_status(int argc, char **argv); /* cluster_status.c */
int cluster_add(int argc, char **argv);    /* cluster_change.c, to cluster_replace */
int cluster_promote(int argc, char **argv);
int cluster_demote(int argc, char **argv);
int cluster_remove(int argc, char **argv);
int cluster_transfer(int argc, char **argv);
int cluster_replace(int argc, char **argv);
int cluster_join(int argc, char **argv);    /* cluster_join.c */
int cluster_backup(int argc, char **argv);  /* cluster_backup.c */
int cluster_restore(int argc, char **argv); /* cluster_restore.c */
int cluster_recover(int argc, char **argv); /* cluster_recover.c */

#endif
