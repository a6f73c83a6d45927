/* What a `kelp log` command is asked for, and the commands. Arguments are read in log.c. */
#ifndef KELP_NODES_CLI_LOG_COMMAND_H
#define KELP_NODES_CLI_LOG_COMMAND_H

#include "nodes/cli/log_print.h"

struct ask {
    const char *command; /* "kelp log cat" */
    struct options_list words;
    struct selection selection;
    enum form form;
    bool unmask;        /* show what secrets hold: --show-secrets, and it is root who asks */
    int64_t count;      /* tail -n */
    bool follow;        /* tail -f */
    int64_t timeout_ms; /* -1: none */
    const char *until;  /* replay */
    const char *show;
    bool yes; /* salvage */
    bool lose_acknowledged;
    struct out *out;
};

/* Each answers the exit code; what went wrong was said on stderr. */
int log_cat(struct ask *ask);
int log_tail(struct ask *ask);
int log_get(struct ask *ask);
int log_find(struct ask *ask);
int log_ls(struct ask *ask);
int log_info(struct ask *ask);
int log_verify(struct ask *ask);
int log_stat(struct ask *ask);
int log_why(struct ask *ask);
int log_replay(struct ask *ask);
int log_diff(struct ask *ask);
int log_salvage(struct ask *ask);

/* -- log_follow.c ------------------------------------------------------------------------------ */

/* Print what is appended behind what `view` has seen, frame by frame as the files have them: the next
 * frame is looked for where the last one ended, and only a seal leads to the next segment, so none is
 * skipped and none comes twice.
 *
 *   timeout_ms  -1: for ever
 *   answers     VIEW_EXIT_TIMEOUT; else as view_frames
 */
int log_follow(struct view *view, struct printer *printer, int64_t timeout_ms);

#endif
