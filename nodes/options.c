#include "nodes/options.h"

#include "schemas/check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static size_t options_smallest(size_t a, size_t b, size_t c)
{
    const size_t ab = a < b ? a : b;
    return ab < c ? ab : c;
}

/* Edit distance, for "did you mean"; words longer than the table are never near. */
static size_t options_distance(const char *a, const char *b)
{
    enum { MAX = 64 };
    const size_t a_size = strlen(a), b_size = strlen(b);
    if (a_size >= MAX || b_size >= MAX) {
        return MAX;
    }
    size_t row[MAX + 1];
    for (size_t j = 0; j <= b_size; j++) {
        row[j] = j;
    }
    for (size_t i = 1; i <= a_size; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b_size; j++) {
            const size_t kept = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            row[j] = options_smallest(kept, row[j] + 1, row[j - 1] + 1);
        }
    }
    return row[b_size];
}

static const struct options_flag *options_find(const struct options_command *command,
                                               const char *name, size_t size)
{
    for (size_t i = 0; i < command->flags_count; i++) {
        const struct options_flag *flag = &command->flags[i];
        if (strlen(flag->name) == size && memcmp(flag->name, name, size) == 0) {
            return flag;
        }
    }
    return NULL;
}

static const struct options_flag *options_find_letter(const struct options_command *command,
                                                      char letter)
{
    for (size_t i = 0; i < command->flags_count; i++) {
        if (command->flags[i].letter != 0 && command->flags[i].letter == letter) {
            return &command->flags[i];
        }
    }
    return NULL;
}

static const char *options_nearest(const struct options_command *command, const char *name)
{
    const char *nearest = NULL;
    size_t best = 3; /* more than two edits away is another word */
    for (size_t i = 0; i < command->flags_count; i++) {
        const size_t distance = options_distance(name, command->flags[i].name);
        if (distance < best) {
            best = distance;
            nearest = command->flags[i].name;
        }
    }
    return nearest;
}

void options_print_help(const struct options_command *command, FILE *stream)
{
    fprintf(stream, "Usage: %s [flags]%s%s\n", command->name, command->arguments == NULL ? "" : " ",
            command->arguments == NULL ? "" : command->arguments);
    if (command->about != NULL) {
        fprintf(stream, "\n%s\n", command->about);
    }
    fprintf(stream, "\nFlags:\n");
    for (size_t i = 0; i < command->flags_count; i++) {
        const struct options_flag *flag = &command->flags[i];
        if (flag->help == NULL) {
            continue;
        }
        char left[64];
        char letter[8] = "    ";
        if (flag->letter != 0) {
            snprintf(letter, sizeof letter, "-%c, ", flag->letter);
        }
        snprintf(left, sizeof left, "%s--%s%s%s", letter, flag->name,
                 flag->value == NULL ? "" : " ", flag->value == NULL ? "" : flag->value);
        fprintf(stream, "  %-30s %s%s\n", left, flag->help,
                flag->type == OPTIONS_TEXTS ? " (may be repeated)" : "");
    }
    fprintf(stream, "  %-30s %s\n", "-h, --help", "print this and exit");
    fprintf(stream, "  %-30s %s\n", "    --version", "print the version and exit");
    if (command->print_more != NULL) {
        fprintf(stream, "\n");
        command->print_more(stream);
    }
}

static enum options_answer options_refuse(const struct options_command *command, const char *what,
                                          const char *subject, const char *hint)
{
    fprintf(stderr, "%s: %s %s", command->name, what, subject);
    if (hint != NULL) {
        fprintf(stderr, "; did you mean --%s?", hint);
    }
    fprintf(stderr, "\nTry '%s --help'.\n", command->name);
    return OPTIONS_USAGE;
}

/* Give a flag its value. value: NULL for OPTIONS_FLAG. */
static bool options_store(const struct options_flag *flag, const char *value)
{
    switch (flag->type) {
    case OPTIONS_FLAG:
        *(bool *)flag->out = true;
        return true;
    case OPTIONS_TEXT:
        *(const char **)flag->out = value;
        return true;
    case OPTIONS_NUMBER: {
        char *end = NULL;
        errno = 0;
        const long long number = strtoll(value, &end, 10);
        if (errno != 0 || end == value || *end != '\0') {
            return false;
        }
        *(int64_t *)flag->out = number;
        return true;
    }
    case OPTIONS_TEXTS: {
        struct options_list *list = flag->out;
        if (list->count == OPTIONS_LIST_MAX) {
            return false;
        }
        list->items[list->count++] = value;
        return true;
    }
    }
    CHECK(false);
    return false;
}

/* One word that begins with a dash. `index` moves on when the value is the next word. */
static enum options_answer options_parse_flag(const struct options_command *command, int argc,
                                              char **argv, int *index)
{
    const char *const word = argv[*index];
    const bool longer = word[1] == '-';
    const char *const name = longer ? word + 2 : word + 1;
    const char *const equals = longer ? strchr(name, '=') : NULL;
    const size_t size = equals != NULL ? (size_t)(equals - name) : strlen(name);

    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        options_print_help(command, stdout);
        return OPTIONS_DONE;
    }
    if (strcmp(word, "--version") == 0) {
        printf("%s %s\n", command->name, KELP_VERSION);
        return OPTIONS_DONE;
    }
    const struct options_flag *flag =
        longer ? options_find(command, name, size) : options_find_letter(command, name[0]);
    const bool attached = !longer && size > 1; /* -n3, -o=json */
    if (attached && flag != NULL && flag->type == OPTIONS_FLAG) {
        flag = NULL;
    }
    if (flag == NULL) {
        return options_refuse(command, "unknown flag", word,
                              longer ? options_nearest(command, name) : NULL);
    }
    const char *value = NULL;
    if (flag->type == OPTIONS_FLAG) {
        if (equals != NULL) {
            return options_refuse(command, "no value is expected in", word, NULL);
        }
    } else if (equals != NULL) {
        value = equals + 1;
    } else if (attached) {
        value = name + (name[1] == '=' ? 2 : 1);
    } else if (*index + 1 < argc) {
        (*index)++;
        value = argv[*index];
    } else {
        return options_refuse(command, "a value is missing after", word, NULL);
    }
    if (!options_store(flag, value)) {
        return options_refuse(
            command, flag->type == OPTIONS_NUMBER ? "a number is expected after" : "too many of",
            word, NULL);
    }
    return OPTIONS_RUN;
}

enum options_answer options_parse(const struct options_command *command, int argc, char **argv,
                                  struct options_list *out_arguments)
{
    out_arguments->count = 0;
    bool flags = true;
    for (int i = 1; i < argc; i++) {
        if (flags && strcmp(argv[i], "--") == 0) {
            flags = false;
            continue;
        }
        if (flags && argv[i][0] == '-' && argv[i][1] != '\0' &&
            (argv[i][1] < '0' || argv[i][1] > '9')) { /* -1 is a number */
            const enum options_answer answer = options_parse_flag(command, argc, argv, &i);
            if (answer != OPTIONS_RUN) {
                return answer;
            }
            continue;
        }
        if (out_arguments->count == command->arguments_max ||
            out_arguments->count == OPTIONS_LIST_MAX) {
            return options_refuse(command, "unexpected argument", argv[i], NULL);
        }
        out_arguments->items[out_arguments->count++] = argv[i];
    }
    if (out_arguments->count < command->arguments_min) {
        return options_refuse(command, "missing", command->arguments, NULL);
    }
    return OPTIONS_RUN;
}
