/* Arguments of a program or subcommand: a table of flags, --help and --version for free.
 *
 *   --name VALUE, --name=VALUE, -n VALUE, --flag, -f, "--" ends the flags. Unknown flags are errors that
 *   name the nearest known one.
 */
#ifndef KELP_NODES_OPTIONS_H
#define KELP_NODES_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define OPTIONS_LIST_MAX 64u

/* Exit codes that every program of ours shares. */
#define OPTIONS_EXIT_OK      0
#define OPTIONS_EXIT_NOTHING 1 /* it worked and there is nothing to show, or it failed */
#define OPTIONS_EXIT_USAGE   2

struct options_list {
    const char *items[OPTIONS_LIST_MAX];
    size_t count;
};

enum options_type {
    OPTIONS_FLAG,   /* bool *: set true */
    OPTIONS_TEXT,   /* const char **: the last one wins */
    OPTIONS_NUMBER, /* int64_t * */
    OPTIONS_TEXTS,  /* struct options_list *: repeated */
};

struct options_flag {
    const char *name; /* without dashes */
    char letter;      /* 0: none */
    enum options_type type;
    void *out;        /* left alone when the flag is not given, so presets are written there before */
    const char *value; /* what the help calls the value: "DIR"; NULL for OPTIONS_FLAG */
    const char *help;  /* NULL: another spelling of a flag before it, taken and not listed */
};

struct options_command {
    const char *name;      /* "kelp pki node" */
    const char *arguments; /* what the usage line shows after the flags: "DIR"; NULL: none */
    const char *about;     /* what it does: a sentence or a page */
    const struct options_flag *flags;
    size_t flags_count;
    size_t arguments_min, arguments_max; /* how many words that are not flags */
    void (*print_more)(FILE *stream);    /* printed after the flags by --help; may be NULL */
};

enum options_answer {
    OPTIONS_RUN = 1,   /* go on */
    OPTIONS_DONE = 2,  /* --help or --version was printed: exit 0 */
    OPTIONS_USAGE = 3, /* the error was printed to stderr: exit 2 */
};

/* Read argv[1 ..]. Words that are not flags are left in arguments (borrowed from argv). */
enum options_answer options_parse(const struct options_command *command, int argc, char **argv,
                                  struct options_list *out_arguments);

/* Print the usage of a command. */
void options_print_help(const struct options_command *command, FILE *stream);

#endif
