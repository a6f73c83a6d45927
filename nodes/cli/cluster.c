/* kelp cluster: the table of commands, and what they share. */
#include "nodes/cli/cluster.h"

#include "nodes/cli/cluster_command.h"
#include "schemas/check.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *words;
    const char *about;
} commands[] = {
    {"status", cluster_status, "[DIR]", "who is in the group, and how each is"},
    {"add", cluster_add, "ID ADDRESS",
     "add a replica as a standby: it gets everything, and has no vote"},
    {"join", cluster_join, "[DIR]",
     "make this machine a replica, with a token of kelp token create"},
    {"promote", cluster_promote, "ID", "make a standby that has caught up a voter"},
    {"demote", cluster_demote, "ID", "make a voter a standby"},
    {"remove", cluster_remove, "ID", "take a replica, dead or alive, out of the group"},
    {"replace", cluster_replace, "ID",
     "take back one that lost its data directory: remove, add, promote"},
    {"transfer", cluster_transfer, "[ID]", "let another voter lead"},
    {"backup", cluster_backup, "FILE",
     "write the state of the cloud into a file, or check such a file"},
    {"restore", cluster_restore, "FILE DIR",
     "make the data directory of a new group from a backup"},
    {"recover", cluster_recover, "DIR", "go on with one survivor when the quorum is gone for good"},
};

static void help_print(FILE *stream)
{
    fprintf(stream, "Usage: kelp cluster COMMAND [flags] ...\n\nCommands:\n");
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        char usage[64];
        snprintf(usage, sizeof usage, "%s %s", commands[i].name, commands[i].words);
        fprintf(stream, "  %-18s %s\n", usage, commands[i].about);
    }
    fprintf(stream, "\nAny cloudcore may be asked; what only the leader can do it passes on. ID is "
                    "the number of a "
                    "replica,\nADDRESS where the others reach it (peer.listen): 10.0.0.4:10010.\n"
                    "Exit codes: 0 done and all well, 1 not all are well, 2 usage, 3 unreachable, "
                    "4 damaged,\n5 refused, 124 "
                    "time is over. 'kelp cluster COMMAND --help' tells more.\n");
}

int cli_cluster(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            return commands[i].run(argc - 1, argv + 1);
        }
    }
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        help_print(stdout);
        return OPTIONS_EXIT_OK;
    }
    if (argc > 1) {
        fprintf(stderr, "kelp cluster: unknown command %s\n", argv[1]);
    }
    help_print(stderr);
    return OPTIONS_EXIT_USAGE;
}

/* -- what the commands share ---------------------------------------------------------------------- */

bool cluster_parse(const struct options_command *command, int argc, char **argv,
                   struct options_list *words, int *out_exit)
{
    const enum options_answer answer = options_parse(command, argc, argv, words);
    *out_exit = answer == OPTIONS_DONE ? OPTIONS_EXIT_OK : OPTIONS_EXIT_USAGE;
    return answer == OPTIONS_RUN;
}

uint64_t cluster_replica(const char *command, const char *text)
{
    char *end;
    errno = 0;
    const unsigned long long number = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || number == 0 ||
        number > 65535) {
        fprintf(stderr, "%s: '%s' is not the number of a replica: 1 to 65535\n", command, text);
        return 0;
    }
    return number;
}

const char *cluster_text(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text == NULL ? "" : text;
}

uint64_t cluster_number(const json_t *object, const char *key)
{
    const json_int_t number = json_integer_value(json_object_get(object, key));
    return number < 0 ? 0 : (uint64_t)number;
}

const json_t *cluster_member(const json_t *document, uint64_t replica)
{
    size_t i;
    const json_t *member;
    json_array_foreach(json_object_get(document, "members"), i, member)
    {
        if (cluster_number(member, "replica") == replica) {
            return member;
        }
    }
    return NULL;
}

int cluster_ask(struct remote *remote, const char *command, uint32_t patience_ms, json_t **out)
{
    struct remote_answer answer;
    char reason[REMOTE_REASON_BYTES];
    const int status = remote_call(remote, "GET", "/kelp/v1/cluster", bytes_of(NULL, 0),
                                   patience_ms, &answer, reason);
    if (status != 0) {
        fprintf(stderr, "%s: %s\n", command, reason);
        return status;
    }
    json_t *document = json_loadb(answer.body, answer.size, 0, NULL);
    free(answer.body);
    if (answer.code == 200 && json_is_array(json_object_get(document, "members"))) {
        *out = document;
        return 0;
    }
    const char *message = cluster_text(document, "message");
    fprintf(stderr, "%s: %s: %s\n", command, remote_server(remote),
            message[0] != '\0' ? message
                               : "it answers, but is no cloudcore that knows this command");
    json_decref(document);
    return REMOTE_EXIT_REFUSED;
}

void cluster_progress(struct cluster_progress *progress, const char *command, const char *text)
{
    const uint64_t now_ms = remote_mono_ms();
    if (strcmp(progress->told, text) == 0 ||
        (progress->told_ms != 0 && now_ms - progress->told_ms < 1000)) {
        return;
    }
    snprintf(progress->told, sizeof progress->told, "%s", text);
    progress->told_ms = now_ms;
    if (isatty(STDERR_FILENO) == 1) {
        fprintf(stderr, "\r\033[K%s: %s", command, text);
        fflush(stderr);
        progress->open = true;
    } else {
        fprintf(stderr, "%s: %s\n", command, text);
    }
}

void cluster_progress_end(struct cluster_progress *progress)
{
    if (progress->open) {
        fprintf(stderr, "\r\033[K");
        progress->open = false;
    }
}

/* What one question for a change was answered. 0: done. */
static int change_once(struct remote *remote, const char *operation, uint64_t replica,
                       const char *address, const char *key, uint64_t left_ms, char *message,
                       bool *out_again)
{
    char target[64];
    snprintf(target, sizeof target, "/kelp/v1/cluster/%s", operation);
    const json_int_t patience_ms = left_ms > 10000 ? 10000 : (json_int_t)left_ms;
    json_t *wanted = json_pack("{s:I, s:s, s:s, s:I}", "replica", (json_int_t)replica, "address",
                               address, "key", key, "timeoutMs", patience_ms);
    char *body = wanted == NULL ? NULL : json_dumps(wanted, JSON_COMPACT);
    json_decref(wanted);
    if (body == NULL) {
        snprintf(message, REMOTE_REASON_BYTES, "the address is not text");
        *out_again = false;
        return OPTIONS_EXIT_USAGE;
    }
    struct remote_answer answer;
    const int status = remote_call(remote, "POST", target, bytes_text(body),
                                   (uint32_t)patience_ms + 5000, &answer, message);
    free(body);
    if (status != 0) {
        *out_again = true; /* asking twice changes nothing */
        return status;
    }
    json_t *object = json_loadb(answer.body, answer.size, 0, NULL);
    const char *outcome = cluster_text(object, "outcome");
    const char *said = cluster_text(object, "message");
    snprintf(message, REMOTE_REASON_BYTES, "%.400s",
             said[0] != '\0' ? said : "it answers, but is no cloudcore that knows this command");
    free(answer.body);
    const bool later = strcmp(outcome, "later") == 0;
    const int exit_code = answer.code == 200   ? OPTIONS_EXIT_OK
                          : answer.code == 400 ? OPTIONS_EXIT_USAGE
                          : answer.code == 504 ? REMOTE_EXIT_TIMEOUT
                          : answer.code == 503 ? REMOTE_EXIT_UNREACHABLE
                                               : REMOTE_EXIT_REFUSED;
    *out_again = later || answer.code == 504 || answer.code == 503 || answer.code == 429;
    json_decref(object);
    return later ? OPTIONS_EXIT_NOTHING : exit_code;
}

int cluster_change(struct remote *remote, const char *command, const char *operation,
                   uint64_t replica, const char *address, const char *key, bool wait,
                   uint64_t end_ms)
{
    struct cluster_progress progress = {.open = false};
    char message[REMOTE_REASON_BYTES] = "";
    if (remote_mono_ms() >= end_ms) {
        fprintf(stderr, "%s: time is over before the group was asked to %s replica %" PRIu64 "\n",
                command, operation, replica);
        return REMOTE_EXIT_TIMEOUT;
    }
    for (;;) {
        const uint64_t now_ms = remote_mono_ms();
        bool again = false;
        const int status = change_once(remote, operation, replica, address, key,
                                       end_ms > now_ms ? end_ms - now_ms : 0, message, &again);
        const bool later = status == OPTIONS_EXIT_NOTHING;
        const bool over = remote_mono_ms() + 500 >= end_ms;
        if (status == OPTIONS_EXIT_OK || !again || over || (later && !wait)) {
            const bool said = !progress.open && strcmp(progress.told, message) == 0;
            cluster_progress_end(&progress);
            if (status == OPTIONS_EXIT_OK) {
                printf("%s\n", message);
                return OPTIONS_EXIT_OK;
            }
            if (!said) {
                fprintf(stderr, "%s: %s\n", command, message);
            }
            if (later && !wait) {
                fprintf(stderr, "  --wait waits for it\n");
                return REMOTE_EXIT_REFUSED;
            }
            return again && over && status != REMOTE_EXIT_UNREACHABLE ? REMOTE_EXIT_TIMEOUT
                                                                      : status;
        }
        cluster_progress(&progress, command, message);
        remote_pause(500);
    }
}
