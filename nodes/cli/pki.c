#include "nodes/cli/pki.h"

#include "nodes/net/identity_tls.h"
#include "nodes/options.h"
#include "schemas/check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PKI_BACKDATE_S = 3600 /* clocks of edges may be behind */ };

/* Say what happened to a pair of files; the exit code. */
static int pki_report(int answer, const char *directory, const char *name, const char *reason)
{
    if (answer == IDENTITY_MADE) {
        printf("made %s/%s.crt and %s.key\n", directory, name, name);
        return OPTIONS_EXIT_OK;
    }
    if (answer == IDENTITY_KEPT) {
        printf("kept %s/%s.crt and %s.key, which were there (--force replaces them)\n", directory,
               name, name);
        return OPTIONS_EXIT_OK;
    }
    fprintf(stderr, "kelp pki: %s\n", reason);
    return OPTIONS_EXIT_NOTHING;
}

static int pki_missing(const struct options_command *command, const char *flag)
{
    fprintf(stderr, "%s: --%s is needed\nTry '%s --help'.\n", command->name, flag, command->name);
    return OPTIONS_EXIT_USAGE;
}

static int pki_exit(enum options_answer answer)
{
    return answer == OPTIONS_DONE ? OPTIONS_EXIT_OK : OPTIONS_EXIT_USAGE;
}

#define PKI_KIND_HELP                                                                              \
    "ed25519, or ecdsa for clients that know no other, and releases before Ed25519 (ed25519)"

static int pki_kind_unknown(const struct options_command *command, const char *kind)
{
    fprintf(stderr, "%s: --key is ed25519 or ecdsa, not \"%s\"\n", command->name, kind);
    return OPTIONS_EXIT_USAGE;
}

static int64_t pki_until(int64_t days)
{
    return (int64_t)time(NULL) + days * 86400;
}

static int pki_authority(int argc, char **argv)
{
    const char *out = NULL, *name = "kelp-ca";
    int64_t days = IDENTITY_AUTHORITY_DAYS;
    bool force = false;
    const char *kind = "ed25519";
    const struct options_flag flags[] = {
        {"out", 'o', OPTIONS_TEXT, &out, "DIR", "where ca.crt and ca.key go"},
        {"name", 0, OPTIONS_TEXT, &name, "NAME", "common name of the authority (kelp-ca)"},
        {"days", 0, OPTIONS_NUMBER, &days, "N", "how long it is valid (36500)"},
        {"key", 0, OPTIONS_TEXT, &kind, "KIND", PKI_KIND_HELP},
        {"force", 0, OPTIONS_FLAG, &force, NULL,
         "replace existing files: all certificates signed before become invalid"},
    };
    const struct options_command command = {.name = "kelp pki ca",
                                            .about =
                                                "Make a certificate authority. Keep ca.key where "
                                                "nobody else reads it.",
                                            .flags = flags,
                                            .flags_count = sizeof flags / sizeof flags[0]};
    struct options_list words;
    const enum options_answer answer = options_parse(&command, argc, argv, &words);
    if (answer != OPTIONS_RUN) {
        return pki_exit(answer);
    }
    if (!identity_keys_are(kind)) {
        return pki_kind_unknown(&command, kind);
    }
    if (out == NULL) {
        return pki_missing(&command, "out");
    }
    char reason[IDENTITY_REASON_BYTES] = "";
    const int made = identity_authority_create(out, name, (int64_t)time(NULL) - PKI_BACKDATE_S,
                                               pki_until(days), force, reason);
    return pki_report(made, out, "ca", reason);
}

/* What the three kinds of certificates have in common. */
static int pki_issue(const char *authority, const char *out, const char *file, bool force,
                     int64_t days, struct identity_request *request)
{
    request->valid_from_s = (int64_t)time(NULL) - PKI_BACKDATE_S;
    request->valid_until_s = pki_until(days);
    char reason[IDENTITY_REASON_BYTES] = "";
    const int made = identity_issue(authority, request, out, file, force, reason);
    return pki_report(made, out, file, reason);
}

static int pki_server(int argc, char **argv)
{
    const char *authority = NULL, *out = NULL, *name = NULL;
    struct options_list sans = {.count = 0}, words;
    int64_t days = IDENTITY_SERVER_DAYS;
    bool force = false;
    const char *kind = "ed25519";
    const struct options_flag flags[] = {
        {"ca", 0, OPTIONS_TEXT, &authority, "DIR", "directory of the authority"},
        {"name", 0, OPTIONS_TEXT, &name, "NAME", "common name and file name, such as cloudcore-1"},
        {"san", 0, OPTIONS_TEXTS, &sans, "IP|DNS", "address or name that clients dial"},
        {"out", 'o', OPTIONS_TEXT, &out, "DIR", "where NAME.crt, NAME.key and ca.crt go"},
        {"days", 0, OPTIONS_NUMBER, &days, "N", "how long it is valid (36500)"},
        {"key", 0, OPTIONS_TEXT, &kind, "KIND", PKI_KIND_HELP},
        {"force", 0, OPTIONS_FLAG, &force, NULL, "replace existing files"},
    };
    const struct options_command command = {.name = "kelp pki server",
                                            .about = "Make the certificate of a cloudcore.",
                                            .flags = flags,
                                            .flags_count = sizeof flags / sizeof flags[0]};
    const enum options_answer answer = options_parse(&command, argc, argv, &words);
    if (answer != OPTIONS_RUN) {
        return pki_exit(answer);
    }
    if (!identity_keys_are(kind)) {
        return pki_kind_unknown(&command, kind);
    }
    if (authority == NULL || out == NULL || name == NULL || sans.count == 0) {
        return pki_missing(&command, authority == NULL ? "ca"
                                     : out == NULL     ? "out"
                                     : name == NULL    ? "name"
                                                       : "san");
    }
    const char *const group = IDENTITY_CLOUD_GROUP;
    struct identity_request request = {.common_name = name,
                                       .groups = &group,
                                       .groups_count = 1,
                                       .sans = sans.items,
                                       .sans_count = sans.count,
                                       .server = true,
                                       .client = true};
    return pki_issue(authority, out, name, force, days, &request);
}

static int pki_node(int argc, char **argv)
{
    const char *authority = NULL, *out = NULL, *node = NULL;
    struct options_list words;
    int64_t days = IDENTITY_CLIENT_DAYS;
    bool force = false;
    const char *kind = "ed25519";
    const struct options_flag flags[] = {
        {"ca", 0, OPTIONS_TEXT, &authority, "DIR", "directory of the authority"},
        {"node", 0, OPTIONS_TEXT, &node, "NAME", "name of the edge node; also the file name"},
        {"out", 'o', OPTIONS_TEXT, &out, "DIR", "where NAME.crt, NAME.key and ca.crt go"},
        {"days", 0, OPTIONS_NUMBER, &days, "N", "how long it is valid (365)"},
        {"key", 0, OPTIONS_TEXT, &kind, "KIND", PKI_KIND_HELP},
        {"force", 0, OPTIONS_FLAG, &force, NULL, "replace existing files"},
    };
    const struct options_command command = {.name = "kelp pki node",
                                            .about = "Make the certificate of an edge node.",
                                            .flags = flags,
                                            .flags_count = sizeof flags / sizeof flags[0]};
    const enum options_answer answer = options_parse(&command, argc, argv, &words);
    if (answer != OPTIONS_RUN) {
        return pki_exit(answer);
    }
    if (!identity_keys_are(kind)) {
        return pki_kind_unknown(&command, kind);
    }
    if (authority == NULL || out == NULL || node == NULL) {
        return pki_missing(&command, authority == NULL ? "ca" : out == NULL ? "out" : "node");
    }
    char common_name[IDENTITY_ISSUE_NAME_BYTES + 1];
    const int size = snprintf(common_name, sizeof common_name, IDENTITY_NODE_PREFIX "%s", node);
    if (size < 0 || (size_t)size >= sizeof common_name || !identity_name_valid(node)) {
        fprintf(stderr,
                "kelp pki node: '%s' cannot be a node's name: 1 to %zu lower case letters, "
                "digits, '-' and '.'\n",
                node, sizeof common_name - sizeof IDENTITY_NODE_PREFIX);
        return OPTIONS_EXIT_USAGE;
    }
    const char *const group = IDENTITY_NODE_GROUP;
    struct identity_request request = {
        .common_name = common_name, .groups = &group, .groups_count = 1, .client = true};
    return pki_issue(authority, out, node, force, days, &request);
}

static int pki_client(int argc, char **argv)
{
    const char *authority = NULL, *out = NULL, *user = NULL;
    struct options_list groups = {.count = 0}, words;
    int64_t days = IDENTITY_CLIENT_DAYS;
    bool force = false;
    const char *kind = "ed25519";
    const struct options_flag flags[] = {
        {"ca", 0, OPTIONS_TEXT, &authority, "DIR", "directory of the authority"},
        {"user", 0, OPTIONS_TEXT, &user, "NAME", "name of the user; also the file name"},
        {"group", 0, OPTIONS_TEXTS, &groups, "GROUP",
         "group of the user; system:masters may do everything"},
        {"out", 'o', OPTIONS_TEXT, &out, "DIR", "where NAME.crt, NAME.key and ca.crt go"},
        {"days", 0, OPTIONS_NUMBER, &days, "N", "how long it is valid (365)"},
        {"key", 0, OPTIONS_TEXT, &kind, "KIND", PKI_KIND_HELP},
        {"force", 0, OPTIONS_FLAG, &force, NULL, "replace existing files"},
    };
    const struct options_command command = {.name = "kelp pki client",
                                            .about = "Make a certificate for a user of the API.",
                                            .flags = flags,
                                            .flags_count = sizeof flags / sizeof flags[0]};
    const enum options_answer answer = options_parse(&command, argc, argv, &words);
    if (answer != OPTIONS_RUN) {
        return pki_exit(answer);
    }
    if (!identity_keys_are(kind)) {
        return pki_kind_unknown(&command, kind);
    }
    if (authority == NULL || out == NULL || user == NULL) {
        return pki_missing(&command, authority == NULL ? "ca" : out == NULL ? "out" : "user");
    }
    struct identity_request request = {
        .common_name = user, .groups = groups.items, .groups_count = groups.count, .client = true};
    return pki_issue(authority, out, user, force, days, &request);
}

/* -- kubeconfig -------------------------------------------------------------------------------- */

/* Append the base64 of a file to the stream; false: unreadable, and said so. */
static bool pki_print_file(FILE *stream, const char *path)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        fprintf(stderr, "kelp pki kubeconfig: %s: %s\n", path, strerror(errno));
        return false;
    }
    unsigned char three[3];
    size_t size;
    while ((size = fread(three, 1, 3, file)) > 0) {
        const unsigned value = (unsigned)three[0] << 16 | (size > 1 ? (unsigned)three[1] << 8 : 0) |
                               (size > 2 ? three[2] : 0u);
        fputc(digits[value >> 18], stream);
        fputc(digits[value >> 12 & 63], stream);
        fputc(size > 1 ? digits[value >> 6 & 63] : '=', stream);
        fputc(size > 2 ? digits[value & 63] : '=', stream);
    }
    const bool good = ferror(file) == 0;
    fclose(file);
    return good;
}

/* Write text under a temporary name, 0600, and rename it. */
static int pki_write_private(const char *path, const char *text, size_t size)
{
    char temporary[4096];
    const int length = snprintf(temporary, sizeof temporary, "%s.XXXXXX", path);
    if (length < 0 || (size_t)length >= sizeof temporary) {
        return -ENAMETOOLONG;
    }
    const int file = mkostemp(temporary, O_CLOEXEC); /* 0600 */
    if (file < 0) {
        return -errno;
    }
    int status = 0;
    for (size_t done = 0; done < size && status == 0;) {
        const ssize_t wrote = write(file, text + done, size - done);
        status = wrote < 0 ? -errno : 0;
        done += wrote < 0 ? 0 : (size_t)wrote;
    }
    if (status == 0 && fsync(file) != 0) {
        status = -errno;
    }
    close(file);
    if (status == 0 && rename(temporary, path) != 0) {
        status = -errno;
    }
    if (status != 0) {
        unlink(temporary);
    }
    return status;
}

/* "NAME=https://host:port", of a context beside the first one. false: it is none, and that was said. */
static bool pki_context_read(const char *text, char name[64], const char **out_server)
{
    const size_t size = strcspn(text, "=");
    *out_server = text + size + (text[size] == '=');
    if (size == 0 || size >= 64 || strpbrk(text, " \"\\\n") != NULL ||
        strncmp(*out_server, "https://", 8) != 0) {
        fprintf(stderr, "kelp pki kubeconfig: --context must be NAME=https://host:port\n");
        return false;
    }
    memcpy(name, text, size);
    name[size] = '\0';
    return true;
}

static bool pki_print_cluster(FILE *stream, const char *name, const char *server, const char *pki)
{
    char path[4096];
    fprintf(stream,
            "- name: \"%s\"\n  cluster:\n"
            "    server: \"%s\"\n    certificate-authority-data: ",
            name, server);
    snprintf(path, sizeof path, "%s/ca.crt", pki);
    const bool good = pki_print_file(stream, path);
    fprintf(stream, "\n");
    return good;
}

static int pki_kubeconfig(int argc, char **argv)
{
    const char *server = NULL, *directory = NULL, *user = "admin", *out = NULL;
    struct options_list words;
    struct options_list others = {0};
    char name[64];
    const char *other;
    bool force = false;
    const struct options_flag flags[] = {
        {"server", 0, OPTIONS_TEXT, &server, "URL", "https://host:port of a cloudcore"},
        {"context", 0, OPTIONS_TEXTS, &others, "NAME=URL",
         "a context for another one, for --context NAME of kubectl and kelp; may be repeated"},
        {"pki", 0, OPTIONS_TEXT, &directory, "DIR", "directory with ca.crt and the user's files"},
        {"user", 0, OPTIONS_TEXT, &user, "NAME",
         "whose certificate: NAME.crt and NAME.key (admin)"},
        {"out", 'o', OPTIONS_TEXT, &out, "FILE", "the kubeconfig to write"},
        {"force", 0, OPTIONS_FLAG, &force, NULL, "replace an existing file"},
    };
    const struct options_command command = {.name = "kelp pki kubeconfig",
                                            .about = "Write a kubeconfig with everything inside.",
                                            .flags = flags,
                                            .flags_count = sizeof flags / sizeof flags[0]};
    const enum options_answer answer = options_parse(&command, argc, argv, &words);
    if (answer != OPTIONS_RUN) {
        return pki_exit(answer);
    }
    if (server == NULL || directory == NULL || out == NULL) {
        return pki_missing(&command, server == NULL ? "server" : directory == NULL ? "pki" : "out");
    }
    if (strncmp(server, "https://", 8) != 0 || strpbrk(server, " \"\\\n") != NULL) {
        fprintf(stderr, "kelp pki kubeconfig: --server must be https://host:port\n");
        return OPTIONS_EXIT_USAGE;
    }
    for (size_t i = 0; i < others.count; i++) {
        if (!pki_context_read(others.items[i], name, &other)) {
            return OPTIONS_EXIT_USAGE;
        }
    }
    if (!force && access(out, F_OK) == 0) {
        printf("kept %s, which was there (--force replaces it)\n", out);
        return OPTIONS_EXIT_OK;
    }
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    CHECK(stream != NULL);
    char path[4096];
    bool good = true;
    fprintf(stream, "apiVersion: v1\nkind: Config\nclusters:\n");
    good = pki_print_cluster(stream, "kelp", server, directory);
    for (size_t i = 0; i < others.count && good; i++) {
        CHECK(pki_context_read(others.items[i], name, &other));
        good = pki_print_cluster(stream, name, other, directory);
    }
    fprintf(stream, "users:\n- name: \"%s\"\n  user:\n    client-certificate-data: ", user);
    snprintf(path, sizeof path, "%s/%s.crt", directory, user);
    good = good && pki_print_file(stream, path);
    fprintf(stream, "\n    client-key-data: ");
    snprintf(path, sizeof path, "%s/%s.key", directory, user);
    good = good && pki_print_file(stream, path);
    fprintf(stream, "\ncontexts:\n- name: kelp\n  context:\n    cluster: kelp\n    user: \"%s\"\n",
            user);
    for (size_t i = 0; i < others.count; i++) {
        CHECK(pki_context_read(others.items[i], name, &other));
        fprintf(stream, "- name: \"%s\"\n  context:\n    cluster: \"%s\"\n    user: \"%s\"\n", name,
                name, user);
    }
    fprintf(stream, "current-context: kelp\n");
    good = fclose(stream) == 0 && good;
    int exit_code = OPTIONS_EXIT_NOTHING;
    if (good) {
        const int status = pki_write_private(out, text, size);
        if (status == 0) {
            printf("made %s\n", out);
            exit_code = OPTIONS_EXIT_OK;
        } else {
            fprintf(stderr, "kelp pki kubeconfig: %s: %s\n", out, strerror(-status));
        }
    }
    explicit_bzero(text, size);
    free(text);
    return exit_code;
}

int cli_pki(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(int argc, char **argv);
    } commands[] = {{"ca", pki_authority},
                    {"server", pki_server},
                    {"node", pki_node},
                    {"client", pki_client},
                    {"kubeconfig", pki_kubeconfig}};
    for (size_t i = 0; argc > 1 && i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            return commands[i].run(argc - 1, argv + 1);
        }
    }
    const bool help = argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0);
    fprintf(help ? stdout : stderr, "Usage: kelp pki ca|server|node|client|kubeconfig [flags]\n\n"
                                    "  ca          make a certificate authority\n"
                                    "  server      make the certificate of a cloudcore\n"
                                    "  node        make the certificate of an edge node\n"
                                    "  client      make a certificate for a user of the API\n"
                                    "  kubeconfig  write a kubeconfig for kubectl\n\n"
                                    "'kelp pki COMMAND --help' lists the flags.\n");
    return help ? OPTIONS_EXIT_OK : OPTIONS_EXIT_USAGE;
}
