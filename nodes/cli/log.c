/* kelp log: the table of commands, and their arguments.
 *
 *   1. the command is found, its flags are read and checked
 *   2. its function (log_command.h) does the rest: opens DIR, prints, answers the exit code
 *
 * Data goes to stdout, everything else to stderr; a reader of stdout that had enough ends it quietly.
 */
#include "nodes/cli/log.h"

#include "nodes/cli/log_command.h"
#include "schemas/check.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Groups of flags. */
enum {
    TAKES_FORM = 1u << 0,   /* -o, with the forms of records */
    TAKES_JSON = 1u << 1,   /* -o, table or json */
    TAKES_RANGE = 1u << 2,  /* --from --to, which --until says too */
    TAKES_FILTER = 1u << 3, /* --kind --key --ns --name --node --op -g */
    TAKES_SECRET = 1u << 4,
    TAKES_TAIL = 1u << 5,
    TAKES_UNTIL = 1u << 6,
    TAKES_SALVAGE = 1u << 7,
    TAKES_KEY = 1u << 8, /* the first word is the key to be found */
};

static const struct log_command {
    const char *name;
    int (*run)(struct ask *ask);
    unsigned takes;
    const char *words;
    size_t word_count;
    const char *about;
} commands[] = {
    {"ls", log_ls, TAKES_JSON, "DIR", 1,
     "List the segments of a log: first and last offset, bytes used, size of the file, whether it "
     "is\n"
     "sealed, and what it is still there for: needed (the state does not hold all of it for good, "
     "or it\n"
     "is written), history (kept for whoever asks why), empty (prepared for what comes)."},
    {"info", log_info, TAKES_JSON, "DIR", 1,
     "Print what a log holds: owner, offsets, bytes, what a crash left, how far the state is."},
    {"cat", log_cat, TAKES_FORM | TAKES_RANGE | TAKES_FILTER | TAKES_SECRET, "DIR", 1,
     "Print records, oldest first, one line each. A batch that came over the link is followed by "
     "the\n"
     "records in it. Constant memory, whatever the size of the log."},
    {"tail", log_tail, TAKES_FORM | TAKES_RANGE | TAKES_FILTER | TAKES_SECRET | TAKES_TAIL, "DIR",
     1,
     "Print the last records that are meant; with -f go on with those that are appended, none "
     "skipped\n"
     "and none repeated, until it is stopped."},
    {"get", log_get, TAKES_FORM | TAKES_SECRET, "DIR OFFSET", 2,
     "Print one record at length, with what is in it. OFFSET may be start or end too."},
    {"find", log_find, TAKES_FORM | TAKES_RANGE | TAKES_FILTER | TAKES_SECRET | TAKES_KEY,
     "KEY DIR", 2,
     "Print all records of a key, oldest first: pods/default/web, /pods/default/web, or\n"
     "group/resource/namespace/name. Uses the key index beside the log, and makes it when it is\n"
     "missing. A KEY with *, ? or [ is a pattern, for which the log is read."},
    {"diff", log_diff, TAKES_JSON, "CLOUD-DIR EDGE-DIR", 2,
     "Compare what went over the link as a cloudcore and an edgecore recorded it: records of each "
     "stream\n"
     "by their sequence. Names what only one of them has, what differs, and what could not be "
     "compared.\n"
     "Reports of devices are not compared: an edge makes each when it is sent, and does not log it."},
    {"verify", log_verify, TAKES_JSON, "DIR", 1,
     "Read every byte and check it. The first damage is named with its file and byte."},
    {"stat", log_stat, TAKES_JSON | TAKES_RANGE | TAKES_FILTER, "DIR", 1,
     "Count records and bytes by kind and by key prefix, and how many a second. What lies in a "
     "batch has\n"
     "a line of its own and is not added to the sum again."},
    {"replay", log_replay, TAKES_JSON | TAKES_UNTIL | TAKES_SECRET, "DIR", 1,
     "Show a row as it was at an offset, by folding the log up to there the way its owner does. "
     "Where the\n"
     "log does not begin at the first record, what is replaced as a whole is shown, and what is "
     "missing\n"
     "is said."},
    {"why", log_why, TAKES_JSON, "KEY DIR", 2,
     "Tell the journey of the newest record of an object, step by step, as far as this directory "
     "knows:\n"
     "proposed, committed, numbered for its node, durable there, applied, acted upon, reported. "
     "The first\n"
     "step that is missing is named, and what that may mean."},
    {"salvage", log_salvage, TAKES_SALVAGE, "DIR", 1,
     "Tell what can be kept of a damaged log, and with --yes do it, while its owner is stopped: "
     "the\n"
     "damaged directory is set aside whole, and a new one is written with what is sound."},
};

static void exit_codes_print(FILE *stream)
{
    fprintf(stream, "DIR is the data directory of a cloudcore or an edgecore, or the log directory "
                    "in it. Its owner may\n"
                    "be running; it is not disturbed.\n"
                    "Exit codes: 0 done, 1 nothing there or different, 2 usage, 3 unreachable, 4 "
                    "damaged, 5 refused,\n"
                    "124 time is over.\n");
}

static void places_print(FILE *stream)
{
    fprintf(
        stream,
        "A PLACE is an offset, start, end, -N (the N-th from the end), a time (2025-11-20,\n"
        "2025-11-20T12:00:00Z, 2025-11-20T13:00+01:00, 18:05 of this day, now, today, yesterday;\n"
        "UTC, with --local of this machine), or how long ago (-10m; s, m, h, d). Flags of one\n"
        "kind are alternatives, of several all must hold.\n");
    exit_codes_print(stream);
}

static void help_print(FILE *stream)
{
    fprintf(stream, "Usage: kelp log COMMAND [flags] ...\n\nCommands:\n");
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        char usage[64];
        snprintf(usage, sizeof usage, "%s %s", commands[i].name, commands[i].words);
        fprintf(stream, "  %-26s %.*s\n", usage, (int)strcspn(commands[i].about, ".:;\n"),
                commands[i].about);
    }
    fprintf(stream,
            "\n'kelp log COMMAND --help' tells the flags; 'kelp log cat -o help' the fields.\n");
    exit_codes_print(stream);
}

/* -- flags ------------------------------------------------------------------------------------ */

/* What flags are written into before it is known whether they make sense. */
struct raw {
    const char *form;
    bool secrets;
    bool local;
    bool no_colour;
    const char *timeout;
};

#define FLAGS_MAX 24u

static void flags_add(struct options_flag *flags, size_t *count, struct options_flag flag)
{
    CHECK(*count < FLAGS_MAX);
    flags[*count] = flag;
    (*count)++;
}

static size_t flags_fill(struct options_flag *flags, unsigned takes, struct ask *ask,
                         struct raw *raw)
{
    struct selection *selection = &ask->selection;
    size_t count = 0;
#define FLAG(...) flags_add(flags, &count, (struct options_flag){__VA_ARGS__})
    if ((takes & TAKES_FORM) != 0) {
        FLAG("output", 'o', OPTIONS_TEXT, &raw->form, "FORM",
             "table, wide, json, jsonl, raw, hex; help prints the fields");
    }
    if ((takes & TAKES_JSON) != 0) {
        FLAG("output", 'o', OPTIONS_TEXT, &raw->form, "FORM", "table, json or jsonl");
    }
    if ((takes & TAKES_RANGE) != 0) {
        FLAG("from", 0, OPTIONS_TEXT, &selection->from_text, "PLACE", "begin there");
        FLAG("to", 0, OPTIONS_TEXT, &selection->to_text, "PLACE", "end there, that one included");
        FLAG("until", 0, OPTIONS_TEXT, &selection->to_text, "PLACE", NULL);
    }
    if ((takes & TAKES_FILTER) != 0) {
        FLAG("kind", 0, OPTIONS_TEXTS, &selection->kinds, "KIND",
             "only this kind; -o help lists them");
        FLAG("not-kind", 0, OPTIONS_TEXTS, &selection->kinds_not, "KIND", "none of this kind");
        FLAG("key", 0, OPTIONS_TEXTS, &selection->keys, "KEY",
             "only this key; * ? [ make a pattern");
        FLAG("ns", 0, OPTIONS_TEXTS, &selection->namespaces, "NAME",
             "only this namespace; -n is the count of tail");
        FLAG("name", 0, OPTIONS_TEXTS, &selection->names, "NAME", "only objects of this name");
        FLAG("node", 0, OPTIONS_TEXTS, &selection->nodes, "NAME", "only what concerns this node");
        FLAG("op", 0, OPTIONS_TEXTS, &selection->ops, "OP", "only what does this");
        FLAG("grep", 'g', OPTIONS_TEXT, &selection->regex_text, "REGEX",
             "only where the decoded body matches (extended)");
    }
    if ((takes & TAKES_TAIL) != 0) {
        FLAG("lines", 'n', OPTIONS_NUMBER, &ask->count, "N", "so many records, 10 when not said");
        FLAG("follow", 'f', OPTIONS_FLAG, &ask->follow, NULL, "go on with what is appended");
        FLAG("timeout", 0, OPTIONS_TEXT, &raw->timeout, "TIME", "with -f: end after 10s, 5m ...");
    }
    if ((takes & TAKES_UNTIL) != 0) {
        FLAG("to", 0, OPTIONS_TEXT, &ask->until, "PLACE",
             "fold up to there, that one included; the end when not said");
        FLAG("until", 0, OPTIONS_TEXT, &ask->until, "PLACE", NULL);
        FLAG("show", 0, OPTIONS_TEXT, &ask->show, "KEY", "the row to show");
    }
    if ((takes & TAKES_SECRET) != 0) {
        FLAG("show-secrets", 0, OPTIONS_FLAG, &raw->secrets, NULL,
             "show what secrets hold; only root may");
    }
    if ((takes & TAKES_SALVAGE) != 0) {
        FLAG("yes", 0, OPTIONS_FLAG, &ask->yes, NULL, "do it; without, only tell");
        FLAG("lose-acknowledged", 0, OPTIONS_FLAG, &ask->lose_acknowledged, NULL,
             "of a cloudcore: even where acknowledged records are lost");
    } else {
        FLAG("local", 0, OPTIONS_FLAG, &raw->local, NULL, "times of this machine's zone, not UTC");
        FLAG("no-color", 0, OPTIONS_FLAG, &raw->no_colour, NULL,
             "no colours; there are none anyway when it is no terminal");
    }
#undef FLAG
    return count;
}

/* Whether the flags make sense together. Answers an exit code, said when not 0. */
static int raw_check(const struct log_command *command, struct ask *ask, const struct raw *raw)
{
    if (!form_parse(raw->form, &ask->form) ||
        ((command->takes & TAKES_FORM) == 0 && ask->form != FORM_TABLE && ask->form != FORM_JSON &&
         ask->form != FORM_JSONL)) {
        fprintf(stderr, "%s: -o takes %s, not %s\n", ask->command,
                (command->takes & TAKES_FORM) != 0 ? "table, wide, json, jsonl, raw, hex or help"
                                                   : "table, json or jsonl",
                raw->form);
        return OPTIONS_EXIT_USAGE;
    }
    if (ask->count < 0) {
        fprintf(stderr, "%s: -n takes a number from 0 on\n", ask->command);
        return OPTIONS_EXIT_USAGE;
    }
    if (raw->timeout != NULL && (!ask->follow || !duration_parse(raw->timeout, &ask->timeout_ms))) {
        fprintf(stderr,
                ask->follow ? "%s: --timeout takes a time like 10s, 5m, 2h, not %s\n"
                            : "%s: --timeout is of use only with -f\n",
                ask->command, raw->timeout);
        return OPTIONS_EXIT_USAGE;
    }
    if (ask->follow && ask->selection.to_text != NULL) {
        fprintf(stderr, "%s: -f has no end, so --to makes no sense with it\n", ask->command);
        return OPTIONS_EXIT_USAGE;
    }
    if ((command->takes & TAKES_UNTIL) != 0 && ask->show == NULL) {
        fprintf(stderr, "%s: --show KEY is missing: which row?\n", ask->command);
        return OPTIONS_EXIT_USAGE;
    }
    if (raw->secrets && geteuid() != 0) {
        fprintf(stderr, "%s: --show-secrets is for root only\n", ask->command);
        return VIEW_EXIT_REFUSED;
    }
    ask->unmask = raw->secrets;
    return OPTIONS_EXIT_OK;
}

static bool is_directory(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

/* KEY DIR and DIR OFFSET: who mixes up the order is understood. */
static void words_order(const struct log_command *command, struct options_list *words)
{
    const bool key_first = strncmp(command->words, "KEY ", 4) == 0;
    const bool offset_last = strcmp(command->words, "DIR OFFSET") == 0;
    const char *first = words->items[0];
    if ((key_first && is_directory(first) && !is_directory(words->items[1])) ||
        (offset_last && !is_directory(first) && is_directory(words->items[1]))) {
        words->items[0] = words->items[1];
        words->items[1] = first;
    }
}

static int run(const struct log_command *command, int argc, char **argv)
{
    struct out out;
    struct raw raw = {.form = "table"};
    struct ask ask = {.count = 10, .timeout_ms = -1, .out = &out};
    char name[32];
    struct options_flag flags[FLAGS_MAX];
    snprintf(name, sizeof name, "kelp log %s", command->name);
    ask.command = name;
    const struct options_command options = {
        .name = name,
        .arguments = command->words,
        .about = command->about,
        .flags = flags,
        .flags_count = flags_fill(flags, command->takes, &ask, &raw),
        .arguments_min = command->word_count,
        .arguments_max = command->word_count,
        .print_more =
            (command->takes & (TAKES_RANGE | TAKES_UNTIL)) != 0 ? places_print : exit_codes_print,
    };
    out_init(&out, STDOUT_FILENO);
    for (int i = 1; i + 1 < argc && (command->takes & TAKES_FORM) != 0; i++) {
        if ((strcmp(argv[i], "-o") == 0 || strcmp(argv[i], "--output") == 0) &&
            strcmp(argv[i + 1], "help") == 0) {
            item_help(&out);
            out_flush(&out);
            out_deinit(&out);
            return OPTIONS_EXIT_OK;
        }
    }
    switch (options_parse(&options, argc, argv, &ask.words)) {
    case OPTIONS_DONE:
        out_deinit(&out);
        return OPTIONS_EXIT_OK;
    case OPTIONS_USAGE:
        out_deinit(&out);
        return OPTIONS_EXIT_USAGE;
    case OPTIONS_RUN:
        break;
    }
    words_order(command, &ask.words);
    int code = raw_check(command, &ask, &raw);
    const char *no_colour = getenv("NO_COLOR");
    out.local = raw.local;
    out.terminal = isatty(STDOUT_FILENO) == 1;
    out.colour = out.terminal && !raw.no_colour && (no_colour == NULL || no_colour[0] == '\0');
    if (code == OPTIONS_EXIT_OK && (command->takes & TAKES_KEY) != 0) {
        if (ask.selection.keys.count > 0) {
            fprintf(stderr, "%s: KEY says it already; --key makes no sense with it\n", name);
            code = OPTIONS_EXIT_USAGE;
        }
        ask.selection.keys.items[0] = ask.words.items[0];
        ask.selection.keys.count = 1;
    }
    if (code == OPTIONS_EXIT_OK) {
        code = selection_begin(&ask.selection, name, raw.local);
    }
    if (code == OPTIONS_EXIT_OK) {
        code = command->run(&ask);
    }
    selection_end(&ask.selection);
    out_deinit(&out);
    return code;
}

int cli_log(int argc, char **argv)
{
    if (argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
                      strcmp(argv[1], "help") == 0)) {
        help_print(stdout);
        return OPTIONS_EXIT_OK;
    }
    for (size_t i = 0; argc >= 2 && i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            return run(&commands[i], argc - 1, argv + 1);
        }
    }
    if (argc >= 2) {
        fprintf(stderr, "kelp log: unknown command %s\n", argv[1]);
    }
    help_print(stderr);
    return OPTIONS_EXIT_USAGE;
}
