/* kelp token create: a Secret in kube-system that holds a hash, and the token itself on stdout, once.
 *
 * The Secret is an ordinary one: `kubectl -n kube-system get secrets` lists tokens, `kubectl delete` takes one
 * back. nodes/cloud/join_door.h says what is in it.
 */
#include "nodes/cli/token.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "nodes/cli/cluster_command.h"
#include "nodes/config.h"
#include "nodes/net/identity_tls.h"
#include "nodes/program.h"
#include "schemas/check.h"

#define ID_BYTES     4u
#define SECRET_BYTES 16u
#define TTL_MS_MAX   (7 * INT64_C(86400000))
#define USES_MAX     100
#define SANS_MAX     8u /* as nodes/cloud/join_names.h has it */

static void random_hex(size_t size, char *out)
{
    uint8_t bytes[SECRET_BYTES];
    CHECK(size <= sizeof bytes);
    CHECK(getrandom(bytes, size, 0) == (ssize_t)size);
    for (size_t i = 0; i < size; i++) {
        (void)snprintf(out + 2 * i, 3, "%02x", bytes[i]);
    }
}

static int token_put(struct remote *remote, const char *id, const char *secret, int64_t until_ms,
                     int64_t uses, const char *sans)
{
    char name[32];
    char expires[24];
    char times[24];
    char hash[IDENTITY_PIN_BYTES];
    (void)snprintf(name, sizeof name, "kelp-join-%s", id);
    (void)snprintf(expires, sizeof expires, "%" PRIi64, until_ms);
    (void)snprintf(times, sizeof times, "%" PRIi64, uses);
    identity_sha256(bytes_text(secret), hash);
    json_t *object =
        json_pack("{s:s, s:s, s:s, s:{s:s}, s:{s:s, s:s, s:s, s:s}}", "apiVersion", "v1", "kind",
                  "Secret", "type", "kelp.dev/join", "metadata", "name", name, "stringData", "hash",
                  hash, "expires", expires, "uses", times, "sans", sans);
    char *body = object == NULL ? NULL : json_dumps(object, JSON_COMPACT);
    json_decref(object);
    CHECK(body != NULL);
    struct remote_answer answer;
    char reason[REMOTE_REASON_BYTES];
    const int status = remote_call(remote, "POST", "/api/v1/namespaces/kube-system/secrets",
                                   bytes_text(body), 20000, &answer, reason);
    free(body);
    if (status != 0) {
        fprintf(stderr, "kelp token create: %s\n", reason);
        return status;
    }
    int code = OPTIONS_EXIT_OK;
    if (answer.code != 201) {
        json_t *said = json_loadb(answer.body, answer.size, 0, NULL);
        fprintf(stderr, "kelp token create: %s: %s\n", remote_server(remote),
                cluster_text(said, "message"));
        json_decref(said);
        code = answer.code == 503 || answer.code == 504 ? REMOTE_EXIT_UNREACHABLE
                                                        : REMOTE_EXIT_REFUSED;
    }
    free(answer.body);
    return code;
}

static int token_create(int argc, char **argv)
{
    struct cluster_where where = {0};
    const char *ttl = "1h";
    int64_t uses = 1;
    struct options_list sans = {.count = 0};
    const struct options_flag flags[] = {
        CLUSTER_WHERE_FLAGS(where),
        {"ttl", 0, OPTIONS_TEXT, &ttl, "DURATION", "how long it is good: 10m, 1h (1h), 7d at most"},
        {"uses", 0, OPTIONS_NUMBER, &uses, "N", "how many replicas may join with it (1)"},
        {"san", 0, OPTIONS_TEXTS, &sans, "IP|DNS",
         "also this may be in the certificate, even if another member has it"},
    };
    const struct options_command command = {
        .name = "kelp token create",
        .about =
            "Make a token with which a new cloudcore joins the group: kelp cluster join. It "
            "is printed once; "
            "the\ncluster keeps a hash, in the secret kube-system/kelp-join-ID: deleting that "
            "takes it back.\n\n"
            "Who joins gets a certificate for the host of its --address, unless that is another "
            "member's, and for\nthis machine (localhost). Other names, and one that the members "
            "share, need --san here and there.",
        .flags = flags,
        .flags_count = sizeof flags / sizeof flags[0],
    };
    struct options_list words;
    int code;
    if (!cluster_parse(&command, argc, argv, &words, &code)) {
        return code;
    }
    uint64_t ttl_ms = 0;
    if (config_parse_duration(ttl, &ttl_ms) != 0 || ttl_ms < 1000 || ttl_ms > TTL_MS_MAX ||
        uses < 1 || uses > USES_MAX) {
        fprintf(stderr, "kelp token create: --ttl is 1s to 7d, --uses 1 to %d\n", USES_MAX);
        return OPTIONS_EXIT_USAGE;
    }
    char names[SANS_MAX * (LIMIT_NAME_BYTES + 1)] = "";
    for (size_t i = 0; i < sans.count; i++) {
        const char *san = sans.items[i];
        if (sans.count > SANS_MAX || strlen(san) > LIMIT_NAME_BYTES || strchr(san, ',') != NULL ||
            san[0] == '\0') {
            fprintf(stderr,
                    "kelp token create: --san is a name or an address, and at most %u are\n",
                    SANS_MAX);
            return OPTIONS_EXIT_USAGE;
        }
        const size_t at = strlen(names);
        (void)snprintf(names + at, sizeof names - at, "%s%s", at == 0 ? "" : ",", san);
    }
    struct remote *remote = NULL;
    char reason[REMOTE_REASON_BYTES];
    code = remote_open(where.kubeconfig, where.context, where.server, &remote, reason);
    if (code != 0) {
        fprintf(stderr, "kelp token create: %s\n", reason);
        return code;
    }
    char id[2 * ID_BYTES + 1];
    char secret[2 * SECRET_BYTES + 1];
    char pin[IDENTITY_PIN_BYTES];
    char *certificate = malloc(IDENTITY_CERTIFICATE_BYTES);
    CHECK(certificate != NULL);
    random_hex(ID_BYTES, id);
    random_hex(SECRET_BYTES, secret);
    if (identity_pin(remote_authority(remote), NULL, certificate, pin) != 0) {
        fprintf(
            stderr,
            "kelp token create: the certificate-authority of the kubeconfig is no certificate\n");
        code = OPTIONS_EXIT_USAGE;
    }
    free(certificate);
    code = code != 0
               ? code
               : token_put(remote, id, secret, program_wall_ms() + (int64_t)ttl_ms, uses, names);
    if (code == 0) {
        printf("kelp-%s.%s.%s\n", id, secret, pin);
    }
    explicit_bzero(secret, sizeof secret);
    remote_close(remote);
    return code;
}

int cli_token(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "create") == 0) {
        return token_create(argc - 1, argv + 1);
    }
    const bool help = argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0);
    fprintf(help ? stdout : stderr, "Usage: kelp token COMMAND [flags]\n\nCommands:\n"
                                    "  create  make a token for kelp cluster join\n\n"
                                    "'kelp token create --help' lists the flags.\n");
    return help ? OPTIONS_EXIT_OK : OPTIONS_EXIT_USAGE;
}
