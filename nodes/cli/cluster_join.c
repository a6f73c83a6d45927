/* kelp cluster join: a new machine becomes a replica, with a token.
 *
 *   1. fetch the authority's certificate from whoever answers, and compare it with the hash in the token: from
 *      here on only who is of that authority is talked to
 *   2. make a key, which never leaves this machine
 *   3. show token and public key; a cloudcore signs, and adds this replica to the group as a standby
 *   4. write certificate and configuration
 *
 * Nothing is overwritten. What fails in the middle can be run again, with another token.
 */
#include "nodes/cli/cluster_command.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "nodes/config.h"
#include "nodes/net/identity_tls.h"
#include "schemas/check.h"

#define PATH_BYTES  4096u
#define SECRET_TEXT 41u /* ID.SECRET of a token */
static const char command_name[] = "kelp cluster join";

struct joining {
    const char *token;
    const char *server;
    const char *address;
    const char *config;
    const char *pki;
    const char *data;
    const char *api_listen;
    const char *hub_listen;
    struct options_list sans;
    int64_t replica;
    char key[PATH_BYTES];
    char certificate[PATH_BYTES];
    char authority[PATH_BYTES];
    char pin[IDENTITY_PIN_BYTES];
};

static int join_fail(int code, const char *what, const char *why)
{
    fprintf(stderr, "%s: %s%s%s\n", command_name, what, why[0] == '\0' ? "" : ": ", why);
    return code;
}

/* Write a file whole and durable, or not at all. */
static int file_write(const char *path, mode_t mode, const char *text)
{
    char temporary[PATH_BYTES + 8];
    snprintf(temporary, sizeof temporary, "%s.XXXXXX", path);
    const int file = mkostemp(temporary, O_CLOEXEC);
    if (file < 0) {
        return join_fail(OPTIONS_EXIT_NOTHING, path, strerror(errno));
    }
    const size_t size = strlen(text);
    int failed = fchmod(file, mode) == 0 ? 0 : errno;
    for (size_t done = 0; failed == 0 && done < size;) {
        const ssize_t wrote = write(file, text + done, size - done);
        failed = wrote < 0 ? errno : 0;
        done += wrote < 0 ? 0 : (size_t)wrote;
    }
    failed = failed == 0 && fsync(file) != 0 ? errno : failed;
    close(file);
    failed = failed == 0 && rename(temporary, path) != 0 ? errno : failed;
    if (failed != 0) {
        unlink(temporary);
        return join_fail(OPTIONS_EXIT_NOTHING, path, strerror(failed));
    }
    return 0;
}

/* Directories down to what `path` names, or to what holds it, open to the user of cloudcore.
 *   answers   0; OPTIONS_EXIT_NOTHING: it was said why */
static int directories_make(const char *path, bool whole)
{
    char made[PATH_BYTES];
    snprintf(made, sizeof made, "%s%s", path, whole ? "/" : "");
    for (char *slash = strchr(made + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(made, 0755) != 0 && errno != EEXIST) {
            return join_fail(OPTIONS_EXIT_NOTHING, made, strerror(errno));
        }
        *slash = '/';
    }
    return 0;
}

static bool absent(const char *path)
{
    return access(path, F_OK) != 0 && errno == ENOENT;
}

/* A file of the authority that is there stays as it is: an edge of this machine may live by it.
 *   pem       IDENTITY_CERTIFICATE_BYTES to work in
 *   answers   0: it has the certificate that the token speaks of; -ENOENT: it is not there; other negatives:
 *             it has others, or cannot be read */
static int authority_held(const struct joining *join, char *pem)
{
    static char held[LIMIT_PEM_BYTES];
    FILE *file = fopen(join->authority, "re");
    if (file == NULL) {
        return -errno;
    }
    const size_t size = fread(held, 1, sizeof held, file);
    fclose(file);
    return identity_pin(bytes_of(held, size), join->pin, pem, NULL);
}

/* The certificate that the token speaks of, into the file of the authority. */
static int join_authority(struct joining *join)
{
    const struct link_files nothing = {.authority = NULL};
    struct remote *remote = NULL;
    struct remote_answer answer;
    char reason[REMOTE_REASON_BYTES];
    char *pem = malloc(IDENTITY_CERTIFICATE_BYTES);
    CHECK(pem != NULL);
    const int held = authority_held(join, pem);
    if (held != -ENOENT) {
        free(pem);
        return held == 0
                   ? 0
                   : join_fail(
                         OPTIONS_EXIT_USAGE, join->authority,
                         "it is there, and is not of the authority that the token speaks of: name "
                         "another directory with --pki");
    }
    int code = remote_open_files(join->server, &nothing, LINK_DIAL_ANY, &remote, reason);
    if (code == 0) {
        code = remote_call(remote, "GET", "/kelp/v1/authority", bytes_of(NULL, 0), 20000, &answer,
                           reason);
        remote_close(remote);
    }
    if (code != 0) {
        free(pem);
        return join_fail(code, reason, "");
    }
    const int found = answer.code == 200
                          ? identity_pin(bytes_of(answer.body, answer.size), join->pin, pem, NULL)
                          : STATUS_MALFORMED;
    free(answer.body);
    if (found != 0) {
        free(pem);
        return join_fail(
            REMOTE_EXIT_REFUSED, join->server,
            found == STATUS_IDENTITY
                ? "it is not of the authority that the token speaks of: somebody is in between, or "
                  "the token is of another cluster"
                : "it answers, but is no cloudcore that knows this command");
    }
    code = file_write(join->authority, 0644, pem);
    free(pem);
    return code;
}

/* Token and public key against certificate and members. */
static int join_ask(struct joining *join, const char *public_key, json_t **out)
{
    const struct link_files files = {.authority = join->authority};
    struct remote *remote = NULL;
    struct remote_answer answer;
    char reason[REMOTE_REASON_BYTES];
    char token[SECRET_TEXT + 1];
    snprintf(token, sizeof token, "%.*s", (int)SECRET_TEXT, join->token + strlen("kelp-"));
    json_t *sans = json_array();
    for (size_t i = 0; i < join->sans.count; i++) {
        CHECK(json_array_append_new(sans, json_string(join->sans.items[i])) == 0);
    }
    json_t *wanted =
        json_pack("{s:s, s:I, s:s, s:s, s:o}", "token", token, "replica", (json_int_t)join->replica,
                  "address", join->address, "key", public_key, "sans", sans);
    char *body = wanted == NULL ? NULL : json_dumps(wanted, JSON_COMPACT);
    json_decref(wanted);
    if (body == NULL) {
        return join_fail(OPTIONS_EXIT_USAGE, "a name or an address is not text", "");
    }
    int code = remote_open_files(join->server, &files, LINK_DIAL, &remote, reason);
    if (code == 0) {
        code =
            remote_call(remote, "POST", "/kelp/v1/join", bytes_text(body), 30000, &answer, reason);
        remote_close(remote);
    }
    free(body);
    if (code != 0) {
        return join_fail(code, reason, "");
    }
    json_t *object = json_loadb(answer.body, answer.size, 0, NULL);
    free(answer.body);
    if (answer.code != 200 || cluster_text(object, "certificate")[0] == '\0') {
        const char *message = cluster_text(object, "message");
        code = join_fail(
            answer.code == 503 || answer.code == 504 || answer.code == 429 ? REMOTE_EXIT_UNREACHABLE
                                                                           : REMOTE_EXIT_REFUSED,
            join->server,
            message[0] == '\0' ? "it answers, but is no cloudcore that knows this command"
                               : message);
        json_decref(object);
        return code;
    }
    *out = object;
    return 0;
}

static int join_configure(const struct joining *join, const json_t *answer)
{
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    CHECK(stream != NULL);
    fprintf(stream,
            "# written by kelp cluster join\nreplica: %" PRIi64 "\njoin: true\ndata: %s\ngroup:\n",
            join->replica, join->data);
    size_t i;
    const json_t *member;
    json_array_foreach(json_object_get(answer, "members"), i, member)
    {
        fprintf(stream, "  - \"%" PRIu64 "=%s\"\n", cluster_number(member, "replica"),
                cluster_text(member, "address"));
    }
    fprintf(stream, "peer: { listen: \"%s:%s\" }\n", "0.0.0.0", strrchr(join->address, ':') + 1);
    if (join->api_listen != NULL) {
        fprintf(stream, "api: { listen: \"%s\" }\n", join->api_listen);
    }
    if (join->hub_listen != NULL) {
        fprintf(stream, "hub: { listen: \"%s\" }\n", join->hub_listen);
    }
    fprintf(stream, "tls:\n  authority: %s\n  certificate: %s\n  key: %s\n", join->authority,
            join->certificate, join->key);
    CHECK(fclose(stream) == 0);
    const int code = file_write(join->config, 0644, text);
    free(text);
    return code;
}

/* A path as the configuration needs it: cloudcore may start in another directory. */
static const char *path_whole(const char *path, char *out)
{
    char here[PATH_BYTES / 2];
    if (path[0] == '/' || getcwd(here, sizeof here) == NULL) {
        return path;
    }
    snprintf(out, PATH_BYTES, "%s/%.2000s", here, path);
    return out;
}

/* What is wrong with what was typed, or already there; NULL: nothing. */
static const char *join_check(struct joining *join)
{
    static char host[256];
    static char path[PATH_BYTES];
    static char wrong[PATH_BYTES];
    uint16_t port = 0;
    const size_t pin_at = strlen("kelp-") + SECRET_TEXT + 1;
    if (join->token == NULL || join->server == NULL || join->address == NULL ||
        join->replica == 0) {
        return "--token, --server, --replica and --address are needed";
    }
    if (strlen(join->token) != pin_at + IDENTITY_PIN_BYTES - 1 ||
        strncmp(join->token, "kelp-", 5) != 0) {
        return "--token is not one of kelp token create";
    }
    snprintf(join->pin, sizeof join->pin, "%s", join->token + pin_at);
    if (join->replica < 1 || join->replica > 65535) {
        return "--replica is the number of the new replica: 1 to 65535";
    }
    if (config_parse_address(join->address, host, &port) != 0 || port == 0 || host[0] == '\0') {
        return "--address is host:port at which the other cloudcores reach this one, such as "
               "10.0.0.4:10010";
    }
    if (join->sans.count == 0) {
        join->sans.items[join->sans.count] = host;
        join->sans.count++;
    }
    snprintf(path, sizeof path, "%s/log", join->data);
    if (!absent(path)) {
        return "the data directory has a log: a new replica begins with an empty one";
    }
    if (!absent(join->config)) {
        snprintf(wrong, sizeof wrong,
                 "%.3000s is there already: move it away, or name another with --config",
                 join->config);
        return wrong;
    }
    return NULL;
}

int cluster_join(int argc, char **argv)
{
    struct joining join = {.config = "/etc/kelp/cloudcore.yaml",
                           .pki = "/etc/kelp/pki",
                           .data = "/var/lib/kelp/cloudcore"};
    const char *kind = "ed25519";
    const struct options_flag flags[] = {
        {"token", 0, OPTIONS_TEXT, &join.token, "TOKEN", "of kelp token create"},
        {"server", 0, OPTIONS_TEXT, &join.server, "HOST:PORT", "API of a cloudcore of the group"},
        {"replica", 0, OPTIONS_NUMBER, &join.replica, "ID",
         "number of this replica, one that is free"},
        {"address", 0, OPTIONS_TEXT, &join.address, "HOST:PORT",
         "where the other cloudcores reach this one: peer.listen"},
        {"san", 0, OPTIONS_TEXTS, &join.sans, "IP|DNS",
         "names and addresses that anybody dials this one by (the host of --address)"},
        {"config", 0, OPTIONS_TEXT, &join.config, "FILE", "to write (/etc/kelp/cloudcore.yaml)"},
        {"pki", 0, OPTIONS_TEXT, &join.pki, "DIR", "where key and certificates go (/etc/kelp/pki)"},
        {"key", 0, OPTIONS_TEXT, &kind, "KIND",
         "of the new one: ed25519, or ecdsa while members run a release before it (ed25519)"},
        {"api-listen", 0, OPTIONS_TEXT, &join.api_listen, "HOST:PORT", "api.listen (0.0.0.0:6443)"},
        {"hub-listen", 0, OPTIONS_TEXT, &join.hub_listen, "HOST:PORT",
         "hub.listen (0.0.0.0:10000)"},
    };
    const struct options_command command = {
        .name = command_name,
        .arguments = "[DIR]",
        .about = "Make this machine a replica of the group: key, certificate, configuration, and "
                 "added as a "
                 "standby. DIR is\nits data directory (/var/lib/kelp/cloudcore), empty. Afterwards "
                 "start cloudcore, "
                 "and promote it.",
        .flags = flags,
        .flags_count = sizeof flags / sizeof flags[0],
        .arguments_max = 1,
    };
    struct options_list words;
    int code;
    if (!cluster_parse(&command, argc, argv, &words, &code)) {
        return code;
    }
    char data[PATH_BYTES];
    char pki[PATH_BYTES];
    join.data = path_whole(words.count == 1 ? words.items[0] : join.data, data);
    join.pki = path_whole(join.pki, pki);
    const char *wrong = identity_keys_are(kind) ? join_check(&join) : "--key is ed25519 or ecdsa";
    if (wrong != NULL) {
        fprintf(stderr, "%s: %s\n", command_name, wrong);
        return OPTIONS_EXIT_USAGE;
    }
    char name[32];
    char reason[IDENTITY_REASON_BYTES];
    char public_key[IDENTITY_PUBLIC_BYTES];
    snprintf(name, sizeof name, "cloudcore-%" PRIi64, join.replica);
    snprintf(join.key, sizeof join.key, "%.3000s/%s.key", join.pki, name);
    snprintf(join.certificate, sizeof join.certificate, "%.3000s/%s.crt", join.pki, name);
    snprintf(join.authority, sizeof join.authority, "%.3000s/ca.crt", join.pki);
    code = directories_make(join.pki, true);
    code = code != 0 ? code : directories_make(join.config, false);
    if (code != 0) {
        return code;
    }
    if (identity_key_create(join.pki, name, public_key, reason) != 0) {
        return join_fail(OPTIONS_EXIT_NOTHING, reason, "");
    }
    json_t *answer = NULL;
    code = join_authority(&join);
    code = code != 0 ? code : join_ask(&join, public_key, &answer);
    code =
        code != 0 ? code : file_write(join.certificate, 0644, cluster_text(answer, "certificate"));
    code = code != 0 ? code : join_configure(&join, answer);
    if (code == 0) {
        printf("%s\nmade %s, %s and %s\n", cluster_text(answer, "message"), join.config,
               join.certificate, join.key);
        if (geteuid() == 0) {
            printf("give its user the key: chown kelp: %s\n", join.key);
        }
        printf("start it:              systemctl enable --now cloudcore, or cloudcore --config %s\n"
               "give it a vote:        kelp cluster promote %" PRIi64 " --wait\n",
               join.config, join.replica);
    }
    json_decref(answer);
    return code;
}
