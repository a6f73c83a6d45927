/* kelp cluster add, promote, demote, remove, replace, transfer: changes of the group. */
#include "nodes/cli/cluster_command.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "nodes/net/identity_tls.h"
#include "schemas/check.h"
#include "statemachine/member_key.h"

#define WAIT_SECONDS    30
#define REPLACE_SECONDS 600
#define SECONDS_MAX     86400

/* What the changes have in common: their flags, and one or two words. */
struct change {
    const char *name; /* "kelp cluster add" */
    const char *words;
    size_t words_min, words_max;
    const char *about;
    bool may_wait;
    const char *wait_help;
    bool may_same_key;
    const char *key_help; /* NULL: it names no key */
    int64_t patience_s;

    /* filled by change_begin */
    struct remote *remote;
    struct options_list arguments;
    uint64_t replica; /* of the first word; 0: there is none */
    uint64_t end_ms;  /* of all its steps */
    bool wait;
    bool same_key;
    char key[IDENTITY_PIN_BYTES]; /* ""; or the sha256 of one */
};

/* A key as its sha256, or as a file with its certificate. false: it is neither, and that was said. */
static bool key_read(const char *name, const char *text, char out[IDENTITY_PIN_BYTES])
{
    if (member_key_valid(text)) {
        memcpy(out, text, IDENTITY_PIN_BYTES);
        return true;
    }
    if (identity_key_of_file(text, out) != 0) {
        fprintf(stderr,
                "%s: --key %s: neither a certificate that can be read, nor the sha256 of a key (64 "
                "digits of 0-9a-f)\n",
                name, text);
        return false;
    }
    return true;
}

/* Read the words and connect. false: *out_exit, and what is wrong was said. */
static bool change_begin(struct change *change, int argc, char **argv, int *out_exit)
{
    struct cluster_where where = {0};
    char timeout_help[64];
    snprintf(timeout_help, sizeof timeout_help, "how long to try, in all (%" PRIi64 ")",
             change->patience_s);
    struct options_flag flags[CLUSTER_WHERE_COUNT + 4] = {
        CLUSTER_WHERE_FLAGS(where),
        {"timeout", 0, OPTIONS_NUMBER, &change->patience_s, "SECONDS", timeout_help},
    };
    size_t flags_count = CLUSTER_WHERE_COUNT + 1;
    const char *key = NULL;
    if (change->may_wait) {
        flags[flags_count++] = (struct options_flag){"wait",        'w',  OPTIONS_FLAG,
                                                     &change->wait, NULL, change->wait_help};
    }
    if (change->may_same_key) {
        flags[flags_count++] = (struct options_flag){
            "same-key",
            0,
            OPTIONS_FLAG,
            &change->same_key,
            NULL,
            "hear again the key that was shut out when this replica was removed last"};
    }
    if (change->key_help != NULL) {
        flags[flags_count++] =
            (struct options_flag){"key", 0, OPTIONS_TEXT, &key, "FILE|SHA256", change->key_help};
    }
    const struct options_command command = {
        .name = change->name,
        .arguments = change->words,
        .about = change->about,
        .flags = flags,
        .flags_count = flags_count,
        .arguments_min = change->words_min,
        .arguments_max = change->words_max,
    };
    if (!cluster_parse(&command, argc, argv, &change->arguments, out_exit)) {
        return false;
    }
    *out_exit = OPTIONS_EXIT_USAGE;
    if (change->patience_s < 1 || change->patience_s > SECONDS_MAX) {
        fprintf(stderr, "%s: --timeout is 1 to %d seconds\n", change->name, SECONDS_MAX);
        return false;
    }
    if (change->arguments.count > 0) {
        change->replica = cluster_replica(change->name, change->arguments.items[0]);
        if (change->replica == 0) {
            return false;
        }
    }
    if (key != NULL && !key_read(change->name, key, change->key)) {
        return false;
    }
    char reason[REMOTE_REASON_BYTES];
    *out_exit = remote_open(where.kubeconfig, where.context, where.server, &change->remote, reason);
    if (*out_exit != 0) {
        fprintf(stderr, "%s: %s\n", change->name, reason);
        return false;
    }
    change->end_ms = remote_mono_ms() + (uint64_t)change->patience_s * 1000;
    return true;
}

/* Wait until a replica has what the others have.
 *   answers   the exit code; what is wrong was said */
static int wait_ok(const struct change *change)
{
    struct cluster_progress progress = {.open = false};
    int code = REMOTE_EXIT_TIMEOUT;
    char text[256] = "";
    while (remote_mono_ms() < change->end_ms) {
        json_t *document = NULL;
        const int status = cluster_ask(change->remote, change->name, 5000, &document);
        if (status == 0) {
            const json_t *member = cluster_member(document, change->replica);
            const char *state = cluster_text(member, "state");
            if (strcmp(state, "ok") == 0 || strcmp(state, "short") == 0) {
                code = OPTIONS_EXIT_OK;
            }
            snprintf(text, sizeof text, "replica %" PRIu64 " is %s", change->replica,
                     member == NULL ? "not a member" : state);
            if (member != NULL && json_object_get(member, "behindPercent") != NULL) {
                snprintf(text, sizeof text,
                         "replica %" PRIu64 " is being given the state: %" PRIu64 "%%",
                         change->replica, cluster_number(member, "behindPercent"));
            } else if (strcmp(state, "behind") == 0) {
                snprintf(text, sizeof text, "replica %" PRIu64 " is behind by %" PRIu64 " entries",
                         change->replica, cluster_number(member, "lag"));
            }
            json_decref(document);
        } else if (status == REMOTE_EXIT_REFUSED) {
            code = status;
            text[0] = '\0';
        }
        if (code != REMOTE_EXIT_TIMEOUT) {
            break;
        }
        if (text[0] != '\0') {
            cluster_progress(&progress, change->name, text);
        }
        remote_pause(500);
    }
    cluster_progress_end(&progress);
    if (code == REMOTE_EXIT_TIMEOUT) {
        fprintf(stderr, "%s: time is over: %s\n", change->name,
                text[0] == '\0' ? "nobody answered" : text);
    } else if (code == OPTIONS_EXIT_OK) {
        printf("replica %" PRIu64 " has caught up\n", change->replica);
    }
    return code;
}

int cluster_add(int argc, char **argv)
{
    struct change change = {
        .name = "kelp cluster add",
        .words = "ID ADDRESS",
        .words_min = 2,
        .words_max = 2,
        .about =
            "Add a replica to the group, as a standby: it is given everything, has no vote, "
            "and does "
            "not count for\na majority. ADDRESS is its peer.listen as the others reach it. "
            "Its cloudcore "
            "is started with an\nempty data directory, `join: true`, and `group` listing "
            "itself and the "
            "others. When it has caught\nup, kelp cluster promote makes it a voter.\n\n"
            "The key of a replica that was removed is heard no more, under whatever number. The "
            "same "
            "machine comes\nback with a new key and certificate, or with --same-key if nobody else "
            "can have the old one. With --key\nits key is noted before it starts.",
        .may_wait = true,
        .may_same_key = true,
        .key_help = "the certificate that it will have, or the sha256 of its key",
        .wait_help = "until it has caught up",
        .patience_s = WAIT_SECONDS,
    };
    int code;
    if (!change_begin(&change, argc, argv, &code)) {
        return code;
    }
    if (change.same_key) {
        code = cluster_change(change.remote, change.name, "admit", change.replica, "", "", false,
                              change.end_ms);
    }
    if (code == OPTIONS_EXIT_OK) {
        code = cluster_change(change.remote, change.name, "add", change.replica,
                              change.arguments.items[1], change.key, false, change.end_ms);
    }
    if (code == OPTIONS_EXIT_OK && change.wait) {
        code = wait_ok(&change);
    }
    remote_close(change.remote);
    return code;
}

static int change_simple(struct change *change, const char *operation, int argc, char **argv)
{
    int code;
    if (!change_begin(change, argc, argv, &code)) {
        return code;
    }
    code = cluster_change(change->remote, change->name, operation, change->replica, "", change->key,
                          change->wait, change->end_ms);
    remote_close(change->remote);
    return code;
}

int cluster_promote(int argc, char **argv)
{
    struct change change = {
        .name = "kelp cluster promote",
        .words = "ID",
        .words_min = 1,
        .words_max = 1,
        .about = "Make a standby a voter. Refused before it has caught up, with how far it is.",
        .may_wait = true,
        .wait_help = "until it has caught up",
        .patience_s = WAIT_SECONDS,
    };
    return change_simple(&change, "promote", argc, argv);
}

int cluster_demote(int argc, char **argv)
{
    struct change change = {
        .name = "kelp cluster demote",
        .words = "ID",
        .words_min = 1,
        .words_max = 1,
        .about = "Make a voter a standby. A leader hands over first. Refused when the voters that "
                 "stay could "
                 "agree on\nnothing. To replace a replica, add and promote the new one before the "
                 "old one is "
                 "removed.",
        .patience_s = WAIT_SECONDS,
    };
    return change_simple(&change, "demote", argc, argv);
}

int cluster_remove(int argc, char **argv)
{
    struct change change = {
        .name = "kelp cluster remove",
        .words = "ID",
        .words_min = 1,
        .words_max = 1,
        .about =
            "Take a replica out of the group, dead or alive. Its cloudcore, if it runs, says "
            "so and ends with exit\ncode 5. A leader hands over first. Refused when the voters "
            "that stay could agree on nothing: of three,\nof which one is dead, only that one "
            "may go.\n\n"
            "Its key is heard no more: kelp cluster status shows which are shut out, and kelp "
            "cluster "
            "add --same-key\nlets one in again. Done twice it changes nothing. A replica that was "
            "removed before its key was noted\n(by an early release, or before it was ever "
            "connected) is shut out with --key.",
        .key_help = "shut out this key, too: that of a certificate, or its sha256",
        .patience_s = WAIT_SECONDS,
    };
    return change_simple(&change, "remove", argc, argv);
}

int cluster_transfer(int argc, char **argv)
{
    struct change change = {
        .name = "kelp cluster transfer",
        .words = "[ID]",
        .words_max = 1,
        .about = "Let another voter lead: ID, or whichever is furthest.",
        .may_wait = true,
        .wait_help = "until it is ready to",
        .patience_s = WAIT_SECONDS,
    };
    return change_simple(&change, "transfer", argc, argv);
}

/* It comes with another data directory than the group knows, and has state in that. Were it removed, it would
 * leave, since it knows the group, and nobody would be there to be added. */
static bool holds_foreign(const json_t *member)
{
    return member != NULL && strcmp(cluster_text(member, "state"), "lost") == 0 &&
           cluster_number(member, "applied") > 0;
}

int cluster_replace(int argc, char **argv)
{
    struct change change = {
        .name = "kelp cluster replace",
        .words = "ID [ADDRESS]",
        .words_min = 1,
        .words_max = 2,
        .about =
            "Take a replica back whose data directory is gone: it runs with an empty one, and "
            "waits. It is "
            "removed,\nadded again (at ADDRESS, if it moved), given the state, and made a "
            "voter. Done "
            "twice it changes\nnothing; interrupted, it goes on when it is run again. If it comes "
            "with another key, the one before is\nshut out.",
        .patience_s = REPLACE_SECONDS,
    };
    int code;
    if (!change_begin(&change, argc, argv, &code)) {
        return code;
    }
    json_t *document = NULL;
    code = cluster_ask(change.remote, change.name, 10000, &document);
    const json_t *member = code == 0 ? cluster_member(document, change.replica) : NULL;
    /* What is known of it may be of the process before. It says once a second how it is. */
    const uint64_t heard_ms = cluster_number(member, "heardMs");
    for (int i = 0; i < 5 && member != NULL && cluster_number(member, "heardMs") == heard_ms &&
                    strcmp(cluster_text(member, "state"), "unreachable") != 0;
         i++) {
        remote_pause(1000);
        json_decref(document);
        document = NULL;
        code = cluster_ask(change.remote, change.name, 10000, &document);
        member = code == 0 ? cluster_member(document, change.replica) : NULL;
    }
    char address[LIMIT_NAME_BYTES + 1] = "";
    snprintf(address, sizeof address, "%s",
             change.arguments.count > 1 ? change.arguments.items[1]
                                        : cluster_text(member, "address"));
    const bool well = member != NULL && strcmp(cluster_text(member, "state"), "ok") == 0;
    const bool lost = member != NULL && strcmp(cluster_text(member, "state"), "lost") == 0;
    if (code == 0 && member != NULL && !lost &&
        (well || strcmp(cluster_text(member, "role"), "voter") != 0)) {
        /* it is back already, or on its way: no need to begin anew */
    } else if (code == 0 && member != NULL && !lost &&
               strcmp(cluster_text(member, "state"), "unreachable") == 0) {
        fprintf(stderr,
                "%s: replica %" PRIu64
                " does not run: start its cloudcore with an empty data directory first, "
                "or remove it\n",
                change.name, change.replica);
        code = REMOTE_EXIT_REFUSED;
    } else if (code == 0 && holds_foreign(member)) {
        fprintf(stderr,
                "%s: replica %" PRIu64
                " runs with a data directory that is not the one the group knows, and not empty: "
                "stop it,\n  bring the right one back, or empty it, start it, and run this again\n",
                change.name, change.replica);
        code = REMOTE_EXIT_REFUSED;
    } else if (code == 0 && member != NULL && lost) {
        code = cluster_change(change.remote, change.name, "release", change.replica, "", "", false,
                              change.end_ms);
    } else if (code == 0 && member != NULL) {
        fprintf(stderr,
                "%s: replica %" PRIu64 " is %s, and has its data: there is nothing to replace\n",
                change.name, change.replica, cluster_text(member, "state"));
        code = REMOTE_EXIT_REFUSED;
    } else if (code == 0 && address[0] == '\0') {
        fprintf(stderr, "%s: replica %" PRIu64 " is not a member: say its ADDRESS too\n",
                change.name, change.replica);
        code = REMOTE_EXIT_REFUSED;
    }
    json_decref(document);
    if (code == 0 && !well) {
        code = cluster_change(change.remote, change.name, "add", change.replica, address, "", false,
                              change.end_ms);
        code = code != 0 ? code : wait_ok(&change);
    }
    if (code == 0) {
        code = cluster_change(change.remote, change.name, "promote", change.replica, "", "", true,
                              change.end_ms);
    }
    remote_close(change.remote);
    return code;
}
