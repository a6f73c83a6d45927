#include "tests/nodes/net_support.h"

#include "nodes/net/identity_tls.h"
#include "nodes/net/link_session.h"
#include "schemas/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Not sorted: options.h says how the others were built. */
/* clang-format off */
#include <wolfssl/options.h>
#include <wolfssl/ssl.h>
#include <wolfssl/wolfcrypt/asn_public.h>
#include <wolfssl/wolfcrypt/ed25519.h>
#include <wolfssl/wolfcrypt/random.h>
/* clang-format on */

/* -- files ------------------------------------------------------------------------------------- */

static void write_file(const char *path, const void *data, size_t size)
{
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static size_t read_file(const char *path, uint8_t *out, size_t size)
{
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    const size_t read = fread(out, 1, size, file);
    assert_int_equal(fclose(file), 0);
    assert_true(read < size);
    return read;
}

/* Run a command in the directory of the certificates. */
static void shell(const char *command)
{
    char text[2048];
    snprintf(text, sizeof text, "cd %s && { %s; } >/dev/null 2>&1", support_path(""), command);
    if (system(text) != 0) {
        fail_msg("%s", command);
    }
}

/* What openssl calls the key of a certificate: sha256 of its SubjectPublicKeyInfo. */
static void openssl_key(const char *path, char out[IDENTITY_PIN_BYTES])
{
    char command[512];
    snprintf(command, sizeof command,
             "openssl x509 -in %s -noout -pubkey | openssl pkey -pubin -outform der | sha256sum",
             support_path(path));
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    assert_int_equal(fread(out, 1, IDENTITY_PIN_BYTES - 1, pipe), IDENTITY_PIN_BYTES - 1);
    out[IDENTITY_PIN_BYTES - 1] = '\0';
    pclose(pipe);
}

/* AUTHORITY/NAME.crt and .key, of a key that openssl made: what an earlier release and other tools have. */
static void issue_ecdsa(const char *authority, const char *name, const char *common_name,
                        const char *const *sans, size_t sans_count, bool server)
{
    char command[1024], path[128], key[IDENTITY_PUBLIC_BYTES], pem[IDENTITY_CERTIFICATE_BYTES];
    char reason[IDENTITY_REASON_BYTES] = "";
    snprintf(command, sizeof command,
             "openssl ecparam -name prime256v1 -genkey -noout -out %s/%s.key && openssl pkey -in "
             "%s/%s.key -pubout -out %s/%s.pub",
             authority, name, authority, name, authority, name);
    shell(command);
    snprintf(path, sizeof path, "%s/%s.pub", authority, name);
    key[read_file(support_path(path), (uint8_t *)key, sizeof key)] = '\0';
    const char *const group = server ? "kelp:cloudcores" : "system:nodes";
    const struct identity_request request =
        support_request(common_name, &group, sans, sans_count, server);
    char crt[128], authority_key[128];
    snprintf(crt, sizeof crt, "%s/ca.crt", authority);
    snprintf(authority_key, sizeof authority_key, "%s/ca.key", authority);
    if (identity_sign(support_path(crt), support_path(authority_key), &request, key, pem, reason) !=
        0) {
        fail_msg("%s", reason);
    }
    snprintf(path, sizeof path, "%s/%s.crt", authority, name);
    write_file(support_path(path), pem, strlen(pem));
}

/* The same of a key that we make. */
static void issue_ours(const char *authority, const char *name, const char *common_name,
                       const char *const *sans, size_t sans_count, bool server)
{
    char reason[IDENTITY_REASON_BYTES] = "";
    const char *const group = server ? "kelp:cloudcores" : "system:nodes";
    const struct identity_request request =
        support_request(common_name, &group, sans, sans_count, server);
    if (identity_issue(support_path(authority), &request, support_path(authority), name, false,
                       reason) != IDENTITY_MADE) {
        fail_msg("%s: %s", name, reason);
    }
}

static const char *const here[] = {"127.0.0.1"};

/* Beside what all tests of nodes/net have: "ecdsa", an authority that openssl made, and in both "ecdsa" and "ca"
 * a server and an edge of either kind of key. */
static int set_up(void **state)
{
    if (support_set_up(state) != 0) {
        return -1;
    }
    shell("mkdir ecdsa && openssl ecparam -name prime256v1 -genkey -noout -out ecdsa/ca.key && "
          "openssl req -x509 -new -key ecdsa/ca.key -subj /CN=kelp-ca -days 2 -addext "
          "keyUsage=critical,keyCertSign,digitalSignature -out ecdsa/ca.crt");
    static const char *const authorities[] = {"ca", "ecdsa"};
    for (size_t i = 0; i < 2; i++) {
        issue_ecdsa(authorities[i], "old_server", "cloudcore-1", here, 1, true);
        issue_ecdsa(authorities[i], "old_edge", "system:node:edge-1", NULL, 0, false);
        issue_ours(authorities[i], "new_server", "cloudcore-1", here, 1, true);
        issue_ours(authorities[i], "new_edge", "system:node:edge-1", NULL, 0, false);
    }
    return 0;
}

/* -- handshakes in memory ------------------------------------------------------------------------- */

static struct link_context *context(enum link_role role, const char *authority, const char *name)
{
    char crt[128], key[128], ca[128], reason[LINK_REASON_BYTES] = "";
    snprintf(ca, sizeof ca, "%s/ca.crt", authority);
    snprintf(crt, sizeof crt, "%s/%s.crt", authority, name);
    snprintf(key, sizeof key, "%s/%s.key", authority, name);
    const struct link_files files = {
        .authority = support_path(ca), .certificate = support_path(crt), .key = support_path(key)};
    struct link_context *made = NULL;
    if (link_context_open(role, &files, &made, reason) != 0) {
        fail_msg("%s/%s: %s", authority, name, reason);
    }
    return made;
}

/* Bytes of one side until the other has looked at all of them. */
struct wire {
    uint8_t data[65536];
    size_t size;
};

static void wire_fill(struct wire *wire, struct link_session *from)
{
    size_t size = 0;
    uint8_t *const data = link_session_take_output(from, &size);
    if (data != NULL) {
        assert_true(wire->size + size <= sizeof wire->data);
        memcpy(wire->data + wire->size, data, size);
        wire->size += size;
        free(data);
    }
}

/* One step of a handshake with what is on the wire. */
static enum link_step wire_shake(struct wire *wire, struct link_session *to)
{
    link_session_feed(to, bytes_of(wire->data, wire->size));
    const enum link_step step = link_session_shake(to);
    const struct bytes left = link_session_input(to);
    memmove(wire->data, left.data, left.size);
    wire->size = left.size;
    return step;
}

/* Both sides shake hands. LINK_STEP_OPEN, and who is who; or LINK_STEP_FAILED and the server's reason. */
static enum link_step shake(struct link_context *server_context,
                            struct link_context *client_context, struct link_peer *out_client,
                            struct link_peer *out_server, char *reason)
{
    static struct wire up, down;
    up.size = down.size = 0;
    struct link_session *const server = link_session_open(server_context, NULL);
    struct link_session *const client = link_session_open(client_context, "127.0.0.1");
    enum link_step server_step = LINK_STEP_MORE, client_step = LINK_STEP_MORE;
    for (int i = 0; i < 10 && server_step == LINK_STEP_MORE; i++) {
        if (client_step == LINK_STEP_MORE) {
            client_step = wire_shake(&down, client);
            assert_int_not_equal(client_step, LINK_STEP_FAILED);
        }
        wire_fill(&up, client);
        server_step = wire_shake(&up, server);
        wire_fill(&down, server);
    }
    memset(out_client, 0, sizeof *out_client);
    memset(out_server, 0, sizeof *out_server);
    if (server_step == LINK_STEP_OPEN) {
        assert_int_equal(link_session_peer(server, out_client, reason), 0);
        assert_int_equal(link_session_peer(client, out_server, reason), 0);
    } else {
        assert_int_equal(link_session_failure(server, reason), STATUS_IDENTITY);
    }
    link_session_close(server);
    link_session_close(client);
    return server_step;
}

/* -- claims ------------------------------------------------------------------------------------ */

/* Claim: authorities, servers and edges with keys of either kind meet in any combination, and each side learns the
 * same of the other as from its file, and as openssl says. */
static void test_keys_of_both_kinds_meet(void **state)
{
    (void)state;
    static const char *const authorities[] = {"ca", "ecdsa"};
    static const char *const servers[] = {"old_server", "new_server"};
    static const char *const edges[] = {"old_edge", "new_edge"};
    for (size_t i = 0; i < 8; i++) {
        const char *const authority = authorities[i & 1];
        const char *const server_name = servers[i >> 1 & 1], *const edge_name = edges[i >> 2];
        struct link_context *const server = context(LINK_LISTEN_REQUIRE, authority, server_name);
        struct link_context *const edge = context(LINK_DIAL, authority, edge_name);
        char reason[LINK_REASON_BYTES] = "", path[128], key[IDENTITY_PIN_BYTES];
        struct link_peer client_peer, server_peer;
        assert_int_equal(shake(server, edge, &client_peer, &server_peer, reason), LINK_STEP_OPEN);

        assert_true(client_peer.verified);
        assert_string_equal(client_peer.common_name, "system:node:edge-1");
        assert_int_equal(client_peer.groups_count, 1);
        assert_string_equal(client_peer.groups[0], "system:nodes");
        assert_int_equal(strlen(client_peer.fingerprint), 64);
        assert_true(server_peer.verified);
        assert_string_equal(server_peer.common_name, "cloudcore-1");
        snprintf(path, sizeof path, "%s/%s.crt", authority, edge_name);
        assert_int_equal(identity_key_of_file(support_path(path), key), 0);
        assert_string_equal(client_peer.key, key);
        openssl_key(path, key);
        assert_string_equal(client_peer.key, key);
        snprintf(path, sizeof path, "%s/%s.crt", authority, server_name);
        openssl_key(path, key);
        assert_string_equal(server_peer.key, key);
        link_context_close(server);
        link_context_close(edge);
    }
}

/* Claim: a key that is not the certificate's is refused at start, whatever kind either of them is. */
static void test_foreign_keys_are_refused(void **state)
{
    (void)state;
    static const char *const crts[] = {"ca/old_edge.crt", "ca/new_edge.crt"};
    static const char *const keys[] = {"ca/old_server.key", "ca/new_server.key"};
    for (size_t i = 0; i < 4; i++) {
        const struct link_files files = {.authority = support_path("ca/ca.crt"),
                                         .certificate = support_path(crts[i & 1]),
                                         .key = support_path(keys[i >> 1])};
        struct link_context *made = NULL;
        char reason[LINK_REASON_BYTES] = "";
        assert_true(link_context_open(LINK_DIAL, &files, &made, reason) < 0);
        if (strstr(reason, "not the") == NULL) {
            fail_msg("%s", reason);
        }
        assert_null(made);
    }
}

/* Claim: a certificate that was changed after it was signed is refused, whoever signed it with whatever key.
 * Method: one letter of the node's name. */
static void test_changed_certificates_are_refused(void **state)
{
    (void)state;
    static const char *const authorities[] = {"ca", "ecdsa"};
    static uint8_t pem[16384], der[16384];
    for (size_t i = 0; i < 2; i++) {
        char path[128], reason[LINK_REASON_BYTES] = "";
        snprintf(path, sizeof path, "%s/new_edge.crt", authorities[i]);
        size_t size = read_file(support_path(path), pem, sizeof pem);
        const int der_size = wc_CertPemToDer(pem, (int)size, der, sizeof der, CERT_TYPE);
        assert_true(der_size > 0);
        uint8_t *const name = memmem(der, (size_t)der_size, "node:edge-1", 11);
        assert_non_null(name);
        name[10] = '2';
        const int pem_size = wc_DerToPem(der, (word32)der_size, pem, sizeof pem, CERT_TYPE);
        assert_true(pem_size > 0);
        snprintf(path, sizeof path, "%s/forged.crt", authorities[i]);
        write_file(support_path(path), pem, (size_t)pem_size);
        snprintf(path, sizeof path, "cp %s/new_edge.key %s/forged.key", authorities[i],
                 authorities[i]);
        shell(path);

        struct link_context *const server =
            context(LINK_LISTEN_REQUIRE, authorities[i], "new_server");
        struct link_context *const edge = context(LINK_DIAL, authorities[i], "forged");
        struct link_peer client_peer, server_peer;
        assert_int_equal(shake(server, edge, &client_peer, &server_peer, reason), LINK_STEP_FAILED);
        if (strstr(reason, "CN=system:node:edge-2) has a wrong signature") == NULL) {
            fail_msg("%s", reason);
        }
        link_context_close(server);
        link_context_close(edge);
    }
}

/* A client that is not ours, and shows what it likes. */
struct thief {
    WOLFSSL_CTX *ctx;
    WOLFSSL *ssl;
    struct wire *in, *out;
};

static int thief_on_receive(WOLFSSL *ssl, char *out, int size, void *owner)
{
    (void)ssl;
    struct wire *const in = ((struct thief *)owner)->in;
    const size_t taken = (size_t)size < in->size ? (size_t)size : in->size;
    if (taken == 0) {
        return WOLFSSL_CBIO_ERR_WANT_READ;
    }
    memcpy(out, in->data, taken);
    in->size -= taken;
    memmove(in->data, in->data + taken, in->size);
    return (int)taken;
}

static int thief_on_send(WOLFSSL *ssl, char *data, int size, void *owner)
{
    (void)ssl;
    struct wire *const out = ((struct thief *)owner)->out;
    assert_true(out->size + (size_t)size <= sizeof out->data);
    memcpy(out->data + out->size, data, (size_t)size);
    out->size += (size_t)size;
    return size;
}

/* Sign with a key that was made a moment ago. */
static int thief_on_sign(WOLFSSL *ssl, const unsigned char *data, unsigned size, unsigned char *out,
                         unsigned *out_size, const unsigned char *key_der, unsigned key_size,
                         void *owner)
{
    (void)ssl;
    (void)key_der;
    (void)key_size;
    (void)owner;
    WC_RNG rng;
    ed25519_key key;
    assert_int_equal(wc_InitRng(&rng), 0);
    assert_int_equal(wc_ed25519_init(&key), 0);
    assert_int_equal(wc_ed25519_make_key(&rng, ED25519_KEY_SIZE, &key), 0);
    const int code = wc_ed25519_sign_msg(data, size, out, out_size, &key);
    wc_ed25519_free(&key);
    wc_FreeRng(&rng);
    return code;
}

/* One handshake of a client that has this certificate and this key; `signs`: and signs with yet another. */
static enum link_step thief_shake(const char *crt, const char *key, bool signs)
{
    static struct wire up, down;
    up.size = down.size = 0;
    struct link_context *const server_context = context(LINK_LISTEN_REQUIRE, "ca", "server");
    struct link_session *const server = link_session_open(server_context, NULL);
    struct thief thief = {.in = &down, .out = &up};
    thief.ctx = wolfSSL_CTX_new(wolfTLSv1_3_client_method());
    wolfSSL_CTX_set_verify(thief.ctx, WOLFSSL_VERIFY_NONE, NULL);
    assert_int_equal(
        wolfSSL_CTX_use_certificate_file(thief.ctx, support_path(crt), WOLFSSL_FILETYPE_PEM),
        WOLFSSL_SUCCESS);
    assert_int_equal(
        wolfSSL_CTX_use_PrivateKey_file(thief.ctx, support_path(key), WOLFSSL_FILETYPE_PEM),
        WOLFSSL_SUCCESS);
    wolfSSL_CTX_SetIORecv(thief.ctx, thief_on_receive);
    wolfSSL_CTX_SetIOSend(thief.ctx, thief_on_send);
    if (signs) {
        wolfSSL_CTX_SetEd25519SignCb(thief.ctx, thief_on_sign);
    }
    thief.ssl = wolfSSL_new(thief.ctx);
    wolfSSL_SetIOReadCtx(thief.ssl, &thief);
    wolfSSL_SetIOWriteCtx(thief.ssl, &thief);
    enum link_step step = LINK_STEP_MORE;
    int connected = WOLFSSL_FAILURE;
    for (int turn = 0; turn < 10 && step == LINK_STEP_MORE; turn++) {
        connected = wolfSSL_connect(thief.ssl);
        step = wire_shake(&up, server);
        wire_fill(&down, server);
    }
    assert_int_equal(connected, WOLFSSL_SUCCESS); /* it has said all there is to say */
    wolfSSL_free(thief.ssl);
    wolfSSL_CTX_free(thief.ctx);
    link_session_close(server);
    link_context_close(server_context);
    return step;
}

/* Claim: who shows a certificate without having its key is refused, whichever kind the key is, and only for that.
 * Method: our own client refuses to start so. A client of wolfSSL alone signs with an ECDSA key of another; with
 * an Ed25519 key it does not, and needs a callback that does. The same client is taken with the right key. */
static void test_a_certificate_without_its_key_is_refused(void **state)
{
    (void)state;
    assert_int_equal(thief_shake("ca/old_edge.crt", "ca/old_edge.key", false), LINK_STEP_OPEN);
    assert_int_equal(thief_shake("ca/old_edge.crt", "ca/old_server.key", false), LINK_STEP_FAILED);
    assert_int_equal(thief_shake("ca/new_edge.crt", "ca/new_edge.key", false), LINK_STEP_OPEN);
    assert_int_equal(thief_shake("ca/new_edge.crt", "ca/new_edge.key", true), LINK_STEP_FAILED);
}

/* Claim: a file is for the names and addresses in it, wildcards for one label, and for nothing else. */
static void test_a_file_is_for_its_names(void **state)
{
    (void)state;
    static const char *const sans[] = {"cloud.example", "*.edge.example", "10.0.0.1", "fd00::1"};
    issue_ours("ca", "names", "plain.example", sans, 4, true);
    issue_ours("ca", "no_names", "plain.example", NULL, 0, true);
    static const struct {
        const char *file, *name;
        bool is_for;
    } cases[] = {
        {"ca/names.crt", "cloud.example", true},
        {"ca/names.crt", "CLOUD.EXAMPLE", true},
        {"ca/names.crt", "a.edge.example", true},
        {"ca/names.crt", "*.edge.example", true},
        {"ca/names.crt", "10.0.0.1", true},
        {"ca/names.crt", "fd00::1", true},
        {"ca/names.crt", "fd00:0::1", true},
        {"ca/names.crt", "a.b.edge.example", false},
        {"ca/names.crt", "edge.example", false},
        {"ca/names.crt", ".edge.example", false},
        {"ca/names.crt", "*.example", false},
        {"ca/names.crt", "cloud.example.org", false},
        {"ca/names.crt", "loud.example", false},
        {"ca/names.crt", "10.0.0.2", false},
        {"ca/names.crt", "fd00::2", false},
        {"ca/names.crt", "plain.example",
         false}, /* a common name counts where there are no others */
        {"ca/no_names.crt", "plain.example", true},
        {"ca/no_names.crt", "other.example", false},
        {"ca/none.crt", "plain.example", false},
        {"ca/names.key", "cloud.example", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (identity_file_is_for(support_path(cases[i].file), cases[i].name) != cases[i].is_for) {
            fail_msg("%s %s", cases[i].file, cases[i].name);
        }
    }
}

/* Claim: the key that a replica joins with is made once, whichever kind it is, and its public half is what its
 * certificate will say. */
static void test_a_key_of_either_kind_joins(void **state)
{
    (void)state;
    char reason[IDENTITY_REASON_BYTES] = "", public[IDENTITY_PUBLIC_BYTES];
    char again[IDENTITY_PUBLIC_BYTES], key[IDENTITY_PIN_BYTES], of_file[IDENTITY_PIN_BYTES];
    assert_int_equal(identity_key_create(support_path("joins"), "made", public, reason), 0);
    assert_int_equal(identity_key_create(support_path("joins"), "made", again, reason), 0);
    assert_string_equal(public, again);
    assert_int_equal(identity_key_of_pem(public, key), 0);

    assert_int_equal(identity_key_create(support_path("ca"), "old_edge", public, reason), 0);
    assert_int_equal(identity_key_of_pem(public, key), 0);
    assert_int_equal(identity_key_of_file(support_path("ca/old_edge.crt"), of_file), 0);
    assert_string_equal(key, of_file);
    assert_int_equal(identity_key_create(support_path("ca"), "new_edge", public, reason), 0);
    assert_int_equal(identity_key_of_pem(public, key), 0);
    assert_int_equal(identity_key_of_file(support_path("ca/new_edge.crt"), of_file), 0);
    assert_string_equal(key, of_file);

    write_file(support_path("joins/bad.key"), "no key\n", 7);
    assert_int_equal(identity_key_create(support_path("joins"), "bad", public, reason),
                     STATUS_MALFORMED);
    assert_non_null(strstr(reason, "bad.key holds no Ed25519 or ECDSA key"));
    shell("openssl genrsa 2048 | openssl pkey -pubout -out joins/rsa.pub");
    const size_t size = read_file(support_path("joins/rsa.pub"), (uint8_t *)public, sizeof public);
    public[size] = '\0';
    assert_int_equal(identity_key_of_pem(public, key), STATUS_MALFORMED);
    assert_int_equal(identity_key_of_pem("", key), STATUS_MALFORMED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys_of_both_kinds_meet),
        cmocka_unit_test(test_foreign_keys_are_refused),
        cmocka_unit_test(test_changed_certificates_are_refused),
        cmocka_unit_test(test_a_certificate_without_its_key_is_refused),
        cmocka_unit_test(test_a_file_is_for_its_names),
        cmocka_unit_test(test_a_key_of_either_kind_joins),
    };
    return cmocka_run_group_tests(tests, set_up, support_tear_down);
}
