/* Making certificates, in steps:
 *
 *   1. a fresh Ed25519 key
 *   2. a certificate body: subject, names, usages, validity; issuer and key id from the authority
 *   3. signed with the authority's key, encoded as PEM
 *   4. key written and flushed, then the certificate, each under a temporary name and renamed, so that
 *      a crash leaves either nothing, or a key without certificate (seen as "only one is there")
 *
 * Ed25519 because of what a handshake costs: wolfSSL as Debian builds it signs in 0.02 ms and verifies in 0.06,
 * where P-256 takes 0.12 and 0.16 to 0.5 ms, and tables of 4 MB for the better of them. Authorities and keys of
 * replicas may be ECDSA, by earlier releases or by other tools, and sign and are signed as before.
 *
 * What can fail: the disk, and what the caller asks for (names, groups, addresses). Reading certificates is
 * identity_read_tls.c.
 */
#include "nodes/net/identity_tls.h"

#include "schemas/check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Not sorted: options.h says how the others were built. */
/* clang-format off */
#include <wolfssl/options.h>
#include <wolfssl/ssl.h>
#include <wolfssl/wolfcrypt/asn_public.h>
#include <wolfssl/wolfcrypt/ecc.h>
#include <wolfssl/wolfcrypt/ed25519.h>
#include <wolfssl/wolfcrypt/random.h>
/* clang-format on */

static_assert(IDENTITY_ISSUE_NAME_BYTES == CTC_NAME_SIZE - 1, "a name and its terminator");
static_assert(IDENTITY_ISSUE_GROUPS <= CTC_MAX_ATTRIB, "each group is an attribute of its own");

enum {
    IDENTITY_DER_BYTES = 8192,
    IDENTITY_PEM_BYTES = 12288,
    IDENTITY_PATH_BYTES = 4096,
};

/* A PEM file in memory. */
struct identity_file {
    uint8_t data[LIMIT_PEM_BYTES];
    size_t size;
};

__attribute__((format(printf, 3, 4))) static int identity_refuse(char *reason, int status,
                                                                 const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, IDENTITY_REASON_BYTES, format, arguments);
    va_end(arguments);
    return status;
}

/* wolfSSL failing at what can only fail for lack of memory or entropy, or because we misuse it. */
static int identity_refuse_library(char *reason, const char *what, int code)
{
    return identity_refuse(reason, STATUS_MALFORMED, "cannot %s: %s (%d)", what,
                           wc_GetErrorString(code), code);
}

/* -- files ------------------------------------------------------------------------------------- */

static int identity_path(const char *directory, const char *name, const char *suffix, char *out,
                         char *reason)
{
    const int size = snprintf(out, IDENTITY_PATH_BYTES, "%s/%s%s", directory, name, suffix);
    if (size < 0 || size >= IDENTITY_PATH_BYTES) {
        return identity_refuse(reason, -ENAMETOOLONG, "the path of %s is too long", directory);
    }
    return 0;
}

static int identity_read(const char *path, struct identity_file *out, char *reason)
{
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        const int status = -errno;
        return identity_refuse(reason, status, "%s: %s", path, strerror(-status));
    }
    int status = 0;
    out->size = 0;
    while (out->size < sizeof out->data) {
        const ssize_t size = read(file, out->data + out->size, sizeof out->data - out->size);
        if (size < 0 && errno == EINTR) {
            continue;
        }
        if (size < 0) {
            status = -errno;
            identity_refuse(reason, status, "%s: %s", path, strerror(-status));
            break;
        }
        if (size == 0) {
            break;
        }
        out->size += (size_t)size;
    }
    if (status == 0 && out->size == sizeof out->data) {
        status = identity_refuse(reason, STATUS_TOO_LARGE, "%s: larger than %u bytes", path,
                                 LIMIT_PEM_BYTES);
    }
    close(file);
    return status;
}

static int identity_write_all(int file, const uint8_t *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        const ssize_t wrote = write(file, data + done, size - done);
        if (wrote < 0 && errno != EINTR) {
            return -errno;
        }
        done += wrote < 0 ? 0 : (size_t)wrote;
    }
    return fsync(file) == 0 ? 0 : -errno;
}

/* Make the file appear whole and durable, or not at all. */
static int identity_write(const char *directory, const char *path, mode_t mode, const uint8_t *data,
                          size_t size, char *reason)
{
    int status = 0;
    char temporary[IDENTITY_PATH_BYTES + 8];
    snprintf(temporary, sizeof temporary, "%s.XXXXXX", path);
    const int file = mkostemp(temporary, O_CLOEXEC);
    if (file < 0) {
        status = -errno;
        return identity_refuse(reason, status, "%s: %s", path, strerror(-status));
    }
    status = fchmod(file, mode) == 0 ? 0 : -errno;
    if (status == 0) {
        status = identity_write_all(file, data, size);
    }
    close(file);
    if (status == 0 && rename(temporary, path) != 0) {
        status = -errno;
    }
    if (status != 0) {
        unlink(temporary);
        return identity_refuse(reason, status, "%s: %s", path, strerror(-status));
    }
    const int folder = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder >= 0) {
        status = fsync(folder) == 0 ? 0 : -errno;
        close(folder);
    }
    return status == 0 ? 0
                       : identity_refuse(reason, status, "%s: %s", directory, strerror(-status));
}

/* Create a directory and what is missing above it. */
static int identity_make_directory(const char *directory, char *reason)
{
    char path[IDENTITY_PATH_BYTES];
    const size_t size = strlen(directory);
    if (size == 0 || size >= sizeof path) {
        return identity_refuse(reason, -ENAMETOOLONG, "'%s' is not a directory name", directory);
    }
    memcpy(path, directory, size + 1);
    for (size_t i = 1; i <= size; i++) {
        if (path[i] != '/' && path[i] != '\0') {
            continue;
        }
        const char kept = path[i];
        path[i] = '\0';
        if (mkdir(path, 0700) != 0 && errno != EEXIST) {
            const int status = -errno;
            return identity_refuse(reason, status, "%s: %s", path, strerror(-status));
        }
        path[i] = kept;
    }
    return 0;
}

/* Are key and certificate there? 1: both, 0: none; or a refusal when there is one of two. */
static int identity_present(const char *crt, const char *key, char *reason)
{
    const bool has_crt = access(crt, F_OK) == 0, has_key = access(key, F_OK) == 0;
    if (has_crt != has_key) {
        return identity_refuse(reason, STATUS_MALFORMED,
                               "%s is there without %s; remove it or use --force",
                               has_crt ? crt : key, has_crt ? key : crt);
    }
    return has_crt ? 1 : 0;
}

/* -- keys -------------------------------------------------------------------------------------- */

/* One of either kind; zeroed: none. */
struct identity_key {
    int kind; /* ED25519_TYPE, ECC_TYPE as wolfSSL calls them; 0: none */
    union {
        ed25519_key ed25519;
        ecc_key ecdsa;
    } of;
};

static void identity_key_free(struct identity_key *key)
{
    if (key->kind == ED25519_TYPE) {
        wc_ed25519_free(&key->of.ed25519);
    } else if (key->kind == ECC_TYPE) {
        wc_ecc_free(&key->of.ecdsa);
    }
    explicit_bzero(key, sizeof *key);
}

static void identity_key_init(struct identity_key *key, int kind)
{
    CHECK(key->kind == 0);
    CHECK((kind == ED25519_TYPE ? wc_ed25519_init(&key->of.ed25519)
                                : wc_ecc_init(&key->of.ecdsa)) == 0);
    key->kind = kind;
}

static int identity_kind_made = ED25519_TYPE;

bool identity_keys_are(const char *kind)
{
    const bool ecdsa = strcmp(kind, "ecdsa") == 0;
    if (!ecdsa && strcmp(kind, "ed25519") != 0) {
        return false;
    }
    identity_kind_made = ecdsa ? ECC_TYPE : ED25519_TYPE;
    return true;
}

/* A new one. Answers wolfSSL's code, 0: made. */
static int identity_key_make(struct identity_key *key, WC_RNG *rng)
{
    identity_key_init(key, identity_kind_made);
    return key->kind == ED25519_TYPE ? wc_ed25519_make_key(rng, ED25519_KEY_SIZE, &key->of.ed25519)
                                     : wc_ecc_make_key_ex(rng, 32, &key->of.ecdsa, ECC_SECP256R1);
}

/* A private key in PEM; its public half is made from it. False: of neither kind, and `key` is none. */
static bool identity_key_read(struct identity_key *key, const struct identity_file *pem)
{
    uint8_t der[IDENTITY_DER_BYTES];
    const int size = wc_KeyPemToDer(pem->data, (int)pem->size, der, (int)sizeof der, NULL);
    word32 at = 0;
    identity_key_init(key, ED25519_TYPE);
    ed25519_key *const ed25519 = &key->of.ed25519;
    bool good = size > 0 && wc_Ed25519PrivateKeyDecode(der, &at, ed25519, (word32)size) == 0 &&
                wc_ed25519_make_public(ed25519, ed25519->p, ED25519_PUB_KEY_SIZE) == 0;
    if (good) {
        ed25519->pubKeySet = 1;
    } else {
        identity_key_free(key);
        identity_key_init(key, ECC_TYPE);
        at = 0;
        good = size > 0 && wc_EccPrivateKeyDecode(der, &at, &key->of.ecdsa, (word32)size) == 0 &&
               wc_ecc_make_pub(&key->of.ecdsa, NULL) == 0;
    }
    if (!good) {
        identity_key_free(key);
    }
    explicit_bzero(der, sizeof der);
    return good;
}

/* A public key as a SubjectPublicKeyInfo in DER. False: of neither kind, and `key` is none. */
static bool identity_key_read_public(struct identity_key *key, const uint8_t *der, size_t size)
{
    word32 at = 0;
    identity_key_init(key, ED25519_TYPE);
    if (wc_Ed25519PublicKeyDecode(der, &at, &key->of.ed25519, (word32)size) == 0) {
        return true;
    }
    identity_key_free(key);
    identity_key_init(key, ECC_TYPE);
    at = 0;
    if (wc_EccPublicKeyDecode(der, &at, &key->of.ecdsa, (word32)size) == 0 &&
        wc_ecc_check_key(&key->of.ecdsa) == 0) {
        return true;
    }
    identity_key_free(key);
    return false;
}

/* Private and public half in DER: their sizes, or wolfSSL's code. Ed25519 as PKCS #8 without the public half
 * (RFC 8410), which is what other programs read. */
static int identity_key_put(struct identity_key *key, uint8_t *out, size_t size)
{
    return key->kind == ED25519_TYPE
               ? wc_Ed25519PrivateKeyToDer(&key->of.ed25519, out, (word32)size)
               : wc_EccKeyToDer(&key->of.ecdsa, out, (word32)size);
}

static int identity_key_put_public(struct identity_key *key, uint8_t *out, size_t size)
{
    return key->kind == ED25519_TYPE
               ? wc_Ed25519PublicKeyToDer(&key->of.ed25519, out, (word32)size, 1)
               : wc_EccPublicKeyToDer(&key->of.ecdsa, out, (word32)size, 1);
}

/* -- certificates ------------------------------------------------------------------------------ */

/* A key, a certificate in progress and what they need; zeroed, and released whatever is in it. */
struct identity_work {
    WC_RNG rng;
    bool rng_ready;
    struct identity_key key;
    struct identity_key authority_key;
    Cert *cert;
    uint8_t authority_der[LIMIT_PEM_BYTES];
    int authority_der_size;
    uint8_t der[IDENTITY_DER_BYTES];
    uint8_t crt_pem[IDENTITY_PEM_BYTES];
    int crt_pem_size;
    uint8_t key_pem[IDENTITY_PEM_BYTES];
    int key_pem_size;
    struct identity_file file;
};

static void identity_work_close(struct identity_work *work)
{
    if (work == NULL) {
        return;
    }
    if (work->cert != NULL) {
        wc_CertFree(work->cert);
    }
    identity_key_free(&work->authority_key);
    identity_key_free(&work->key);
    if (work->rng_ready) {
        wc_FreeRng(&work->rng);
    }
    explicit_bzero(work, sizeof *work); /* keys were in here */
    free(work);
}

/* DER of a time: UTCTime up to 2049, GeneralizedTime after (RFC 5280 4.1.2.5). */
static int identity_put_time(int64_t seconds, uint8_t *out)
{
    const time_t at = (time_t)seconds;
    struct tm parts;
    gmtime_r(&at, &parts);
    char text[32];
    const bool old = parts.tm_year < 150;
    const size_t size =
        strftime(text, sizeof text, old ? "%y%m%d%H%M%SZ" : "%Y%m%d%H%M%SZ", &parts);
    out[0] = old ? 0x17 : 0x18;
    out[1] = (uint8_t)size;
    memcpy(out + 2, text, size);
    return (int)size + 2;
}

/* One GeneralName: iPAddress [7] or dNSName [2]. 0: neither. */
static size_t identity_put_san(const char *san, uint8_t *out)
{
    uint8_t address[16];
    size_t size = 0;
    if (inet_pton(AF_INET, san, address) == 1) {
        size = 4;
    } else if (inet_pton(AF_INET6, san, address) == 1) {
        size = 16;
    }
    if (size > 0) {
        out[0] = 0x87;
        out[1] = (uint8_t)size;
        memcpy(out + 2, address, size);
        return size + 2;
    }
    const char *const name = strncmp(san, "*.", 2) == 0 ? san + 2 : san;
    size = strlen(san);
    if (!identity_name_valid(name) || size > LIMIT_NAME_BYTES) {
        return 0;
    }
    out[0] = 0x82;
    size_t at = 1;
    if (size >= 128) {
        out[at++] = 0x81;
    }
    out[at++] = (uint8_t)size;
    memcpy(out + at, san, size);
    return at + size;
}

/* The value of subjectAltName: a SEQUENCE of names. */
static int identity_set_sans(Cert *cert, const struct identity_request *request, char *reason)
{
    uint8_t names[LIMIT_IDENTITY_SANS * (LIMIT_NAME_BYTES + 3)];
    size_t size = 0;
    for (size_t i = 0; i < request->sans_count; i++) {
        const size_t put = identity_put_san(request->sans[i], names + size);
        if (put == 0) {
            return identity_refuse(reason, STATUS_MALFORMED,
                                   "'%.64s' is neither an address nor a DNS name",
                                   request->sans[i]);
        }
        size += put;
    }
    static_assert(sizeof names + 4 <= CTC_MAX_ALT_SIZE, "all names fit");
    uint8_t *out = cert->altNames;
    size_t at = 0;
    out[at++] = 0x30;
    if (size < 128) {
        out[at++] = (uint8_t)size;
    } else {
        out[at++] = 0x82;
        out[at++] = (uint8_t)(size >> 8);
        out[at++] = (uint8_t)size;
    }
    memcpy(out + at, names, size);
    cert->altNamesSz = request->sans_count == 0 ? 0 : (int)(at + size);
    return 0;
}

static int identity_check_request(const struct identity_request *request, char *reason)
{
    const size_t name_size = strlen(request->common_name);
    if (name_size == 0 || name_size > IDENTITY_ISSUE_NAME_BYTES) {
        return identity_refuse(reason, STATUS_TOO_LARGE, "the name '%.80s' must have 1 to %u bytes",
                               request->common_name, IDENTITY_ISSUE_NAME_BYTES);
    }
    if (request->groups_count > IDENTITY_ISSUE_GROUPS) {
        return identity_refuse(reason, STATUS_TOO_LARGE, "at most %u groups",
                               IDENTITY_ISSUE_GROUPS);
    }
    for (size_t i = 0; i < request->groups_count; i++) {
        const size_t size = strlen(request->groups[i]);
        if (size == 0 || size > IDENTITY_ISSUE_NAME_BYTES) {
            return identity_refuse(reason, STATUS_TOO_LARGE,
                                   "the group '%.80s' must have 1 to %u bytes", request->groups[i],
                                   IDENTITY_ISSUE_NAME_BYTES);
        }
    }
    if (request->sans_count > LIMIT_IDENTITY_SANS) {
        return identity_refuse(reason, STATUS_TOO_LARGE, "at most %u names and addresses",
                               LIMIT_IDENTITY_SANS);
    }
    if (request->valid_until_s <= request->valid_from_s) {
        return identity_refuse(reason, STATUS_MALFORMED, "it would end before it begins");
    }
    return 0;
}

/* Subject, validity and names: everything but usages and issuer. */
static int identity_fill(Cert *cert, const struct identity_request *request, char *reason)
{
    cert->version = 2; /* v3 */
    snprintf(cert->subject.commonName, sizeof cert->subject.commonName, "%s", request->common_name);
    cert->subject.commonNameEnc = CTC_UTF8;
    for (size_t i = 0; i < request->groups_count; i++) {
        NameAttrib *attribute = &cert->subject.name[i];
        attribute->id = ASN_ORG_NAME;
        attribute->type = CTC_UTF8;
        attribute->sz = (int)strlen(request->groups[i]);
        memcpy(attribute->value, request->groups[i], (size_t)attribute->sz);
    }
    cert->beforeDateSz = identity_put_time(request->valid_from_s, cert->beforeDate);
    cert->afterDateSz = identity_put_time(request->valid_until_s, cert->afterDate);
    return identity_set_sans(cert, request, reason);
}

static int identity_work_open(struct identity_work **out, char *reason)
{
    struct identity_work *work = calloc(1, sizeof *work);
    if (work == NULL) {
        return identity_refuse(reason, -ENOMEM, "out of memory");
    }
    *out = work;
    int code = wolfSSL_Init() == WOLFSSL_SUCCESS ? 0 : -1;
    if (code == 0) {
        code = wc_InitRng(&work->rng);
        work->rng_ready = code == 0;
    }
    if (code == 0) {
        code = identity_key_make(&work->key, &work->rng);
    }
    work->cert = wc_CertNew(NULL);
    if (code == 0 && work->cert == NULL) {
        code = MEMORY_E;
    }
    return code == 0 ? 0 : identity_refuse_library(reason, "make a key", code);
}

/* Read the authority's key and certificate into `work`. */
static int identity_work_load_files(struct identity_work *work, const char *crt, const char *key,
                                    char *reason)
{
    int status = identity_read(crt, &work->file, reason);
    if (status != 0) {
        return status;
    }
    work->authority_der_size =
        wc_CertPemToDer(work->file.data, (int)work->file.size, work->authority_der,
                        (int)sizeof work->authority_der, CERT_TYPE);
    if (work->authority_der_size <= 0) {
        return identity_refuse(reason, STATUS_MALFORMED, "%s holds no certificate", crt);
    }

    status = identity_read(key, &work->file, reason);
    if (status != 0) {
        return status;
    }
    const bool good = identity_key_read(&work->authority_key, &work->file);
    explicit_bzero(&work->file, sizeof work->file);
    if (!good) {
        return identity_refuse(reason, STATUS_MALFORMED, "%s holds no Ed25519 or ECDSA key", key);
    }
    return 0;
}

static int identity_work_load_authority(struct identity_work *work, const char *directory,
                                        char *reason)
{
    char crt[IDENTITY_PATH_BYTES];
    char key[IDENTITY_PATH_BYTES];
    int status = identity_path(directory, "ca", ".crt", crt, reason);
    if (status == 0) {
        status = identity_path(directory, "ca", ".key", key, reason);
    }
    return status != 0 ? status : identity_work_load_files(work, crt, key, reason);
}

/* Sign what is in work->cert and leave its PEM text in `work`. */
static int identity_work_sign_certificate(struct identity_work *work, struct identity_key *signer,
                                          char *reason)
{
    work->cert->sigType = signer->kind == ED25519_TYPE ? CTC_ED25519 : CTC_SHA256wECDSA;
    int code = wc_MakeCert_ex(work->cert, work->der, sizeof work->der, work->key.kind,
                              &work->key.of, &work->rng);
    if (code > 0) {
        code = wc_SignCert_ex(work->cert->bodySz, work->cert->sigType, work->der, sizeof work->der,
                              signer->kind, &signer->of, &work->rng);
    }
    if (code > 0) {
        code = wc_DerToPem(work->der, (word32)code, work->crt_pem, sizeof work->crt_pem, CERT_TYPE);
    }
    if (code <= 0) {
        return identity_refuse_library(reason, "sign the certificate", code);
    }
    work->crt_pem_size = code;
    return 0;
}

/* Leave the PEM text of work->key in `work`. */
static int identity_work_encode_key(struct identity_work *work, char *reason)
{
    int code = identity_key_put(&work->key, work->der, sizeof work->der);
    if (code > 0) {
        code = wc_DerToPem(work->der, (word32)code, work->key_pem, sizeof work->key_pem,
                           work->key.kind == ED25519_TYPE ? PKCS8_PRIVATEKEY_TYPE
                                                          : ECC_PRIVATEKEY_TYPE);
    }
    explicit_bzero(work->der, sizeof work->der);
    if (code <= 0) {
        return identity_refuse_library(reason, "encode the key", code);
    }
    work->key_pem_size = code;
    return 0;
}

/* The same as identity_work_sign_certificate, and the PEM text of its key. */
static int identity_work_sign(struct identity_work *work, struct identity_key *signer, char *reason)
{
    const int status = identity_work_sign_certificate(work, signer, reason);
    if (status != 0) {
        return status;
    }
    return identity_work_encode_key(work, reason);
}

static int identity_work_write(const struct identity_work *work, const char *directory,
                               const char *crt, const char *key, char *reason)
{
    /* A certificate beside somebody else's key would be worse than none. */
    if (unlink(crt) != 0 && errno != ENOENT) {
        const int status = -errno;
        return identity_refuse(reason, status, "%s: %s", crt, strerror(-status));
    }
    const int status =
        identity_write(directory, key, 0600, work->key_pem, (size_t)work->key_pem_size, reason);
    if (status != 0) {
        return status;
    }
    return identity_write(directory, crt, 0644, work->crt_pem, (size_t)work->crt_pem_size, reason);
}

/* -- the door ---------------------------------------------------------------------------------- */

int identity_authority_create(const char *directory, const char *common_name, int64_t valid_from_s,
                              int64_t valid_until_s, bool force, char *reason)
{
    const struct identity_request request = {
        .common_name = common_name, .valid_from_s = valid_from_s, .valid_until_s = valid_until_s};
    char crt[IDENTITY_PATH_BYTES], key[IDENTITY_PATH_BYTES];
    struct identity_work *work = NULL;
    int code = 0;

    int status = identity_check_request(&request, reason);
    if (status == 0) {
        status = identity_make_directory(directory, reason);
    }
    if (status == 0) {
        status = identity_path(directory, "ca", ".crt", crt, reason);
    }
    if (status == 0) {
        status = identity_path(directory, "ca", ".key", key, reason);
    }
    if (status == 0 && !force) {
        status = identity_present(crt, key, reason);
    }
    if (status != 0) {
        return status == 1 ? IDENTITY_KEPT : status;
    }

    status = identity_work_open(&work, reason);
    if (status == 0) {
        status = identity_fill(work->cert, &request, reason);
    }
    if (status != 0) {
        goto out;
    }
    work->cert->isCA = 1;
    work->cert->selfSigned = 1;
    code = wc_SetKeyUsage(work->cert, "digitalSignature,keyCertSign,cRLSign");
    if (code == 0) {
        code = wc_SetSubjectKeyIdFromPublicKey_ex(work->cert, work->key.kind, &work->key.of);
    }
    if (code != 0) {
        status = identity_refuse_library(reason, "describe the authority", code);
        goto out;
    }
    status = identity_work_sign(work, &work->key, reason);
    if (status == 0) {
        status = identity_work_write(work, directory, crt, key, reason);
    }
out:
    identity_work_close(work);
    return status == 0 ? IDENTITY_MADE : status;
}

/* Usages, issuer and key ids of a certificate that the authority signs. */
static int identity_describe_leaf(struct identity_work *work,
                                  const struct identity_request *request, char *reason)
{
    Cert *const cert = work->cert;
    cert->selfSigned = 0;
    int code = wc_SetIssuerBuffer(cert, work->authority_der, work->authority_der_size);
    if (code == 0) {
        code = wc_SetAuthKeyIdFromCert(cert, work->authority_der, work->authority_der_size);
    }
    if (code == 0) {
        code = wc_SetSubjectKeyIdFromPublicKey_ex(cert, work->key.kind, &work->key.of);
    }
    if (code == 0) {
        code = wc_SetKeyUsage(cert, "digitalSignature");
    }
    if (code == 0 && (request->server || request->client)) {
        code = wc_SetExtKeyUsage(cert, !request->client   ? "serverAuth"
                                       : !request->server ? "clientAuth"
                                                          : "serverAuth,clientAuth");
    }
    return code == 0 ? 0 : identity_refuse_library(reason, "describe the certificate", code);
}

/* Put the authority's certificate beside the new one, so that the directory is a complete set. */
static int identity_copy_authority(struct identity_work *work, const char *from, const char *to,
                                   char *reason)
{
    char source[IDENTITY_PATH_BYTES], target[IDENTITY_PATH_BYTES];
    struct stat a, b;
    int status = identity_path(from, "ca", ".crt", source, reason);
    if (status == 0) {
        status = identity_path(to, "ca", ".crt", target, reason);
    }
    if (status != 0) {
        return status;
    }
    if (stat(source, &a) == 0 && stat(target, &b) == 0 && a.st_ino == b.st_ino &&
        a.st_dev == b.st_dev) {
        return 0; /* the same directory */
    }
    status = identity_read(source, &work->file, reason);
    return status != 0 ? status
                       : identity_write(to, target, 0644, work->file.data, work->file.size, reason);
}

int identity_issue(const char *authority_directory, const struct identity_request *request,
                   const char *out_directory, const char *name, bool force, char *reason)
{
    char crt[IDENTITY_PATH_BYTES], key[IDENTITY_PATH_BYTES];
    struct identity_work *work = NULL;

    if (name[0] == '\0' || name[0] == '.' || strchr(name, '/') != NULL || strcmp(name, "ca") == 0) {
        return identity_refuse(reason, STATUS_MALFORMED, "'%s' cannot name the files", name);
    }
    int status = identity_check_request(request, reason);
    if (status == 0) {
        status = identity_make_directory(out_directory, reason);
    }
    if (status == 0) {
        status = identity_path(out_directory, name, ".crt", crt, reason);
    }
    if (status == 0) {
        status = identity_path(out_directory, name, ".key", key, reason);
    }
    if (status == 0 && !force) {
        status = identity_present(crt, key, reason);
    }
    if (status != 0) {
        return status == 1 ? IDENTITY_KEPT : status;
    }

    status = identity_work_open(&work, reason);
    if (status == 0) {
        status = identity_work_load_authority(work, authority_directory, reason);
    }
    if (status == 0) {
        status = identity_fill(work->cert, request, reason);
    }
    if (status == 0) {
        status = identity_describe_leaf(work, request, reason);
    }
    if (status == 0) {
        status = identity_work_sign(work, &work->authority_key, reason);
    }
    if (status == 0) {
        status = identity_copy_authority(work, authority_directory, out_directory, reason);
    }
    if (status == 0) {
        status = identity_work_write(work, out_directory, crt, key, reason);
    }
    identity_work_close(work);
    return status == 0 ? IDENTITY_MADE : status;
}

/* -- joining ----------------------------------------------------------------------------------- */

int identity_key_create(const char *directory, const char *name, char *out_public, char *reason)
{
    char key[IDENTITY_PATH_BYTES];
    struct identity_work *work = NULL;
    int status = identity_make_directory(directory, reason);
    if (status == 0) {
        status = identity_path(directory, name, ".key", key, reason);
    }
    if (status == 0) {
        status = identity_work_open(&work, reason);
    }
    if (status != 0) {
        identity_work_close(work);
        return status;
    }
    if (access(key, F_OK) == 0) { /* of an attempt before */
        status = identity_read(key, &work->file, reason);
        identity_key_free(&work->key);
        if (status == 0 && !identity_key_read(&work->key, &work->file)) {
            status =
                identity_refuse(reason, STATUS_MALFORMED, "%s holds no Ed25519 or ECDSA key", key);
        }
        explicit_bzero(&work->file, sizeof work->file);
    } else {
        status = identity_work_encode_key(work, reason);
        if (status == 0) {
            status = identity_write(directory, key, 0600, work->key_pem, (size_t)work->key_pem_size,
                                    reason);
        }
    }
    if (status == 0) {
        int code = identity_key_put_public(&work->key, work->der, sizeof work->der);
        if (code > 0) {
            code = wc_DerToPem(work->der, (word32)code, (uint8_t *)out_public,
                               IDENTITY_PUBLIC_BYTES - 1, PUBLICKEY_TYPE);
        }
        if (code <= 0) {
            status = identity_refuse_library(reason, "encode the public key", code);
        } else {
            out_public[code] = '\0';
        }
    }
    identity_work_close(work);
    return status;
}

int identity_sign(const char *authority, const char *authority_key,
                  const struct identity_request *request, const char *public_key, char *out_pem,
                  char *reason)
{
    struct identity_work *work = NULL;
    int status = identity_check_request(request, reason);
    if (status == 0) {
        status = identity_work_open(&work, reason);
    }
    if (status == 0) {
        /* theirs in the place of the key that was made */
        identity_key_free(&work->key);
        const size_t size = strlen(public_key);
        const int der = size == 0 || size > IDENTITY_PUBLIC_BYTES
                            ? -1
                            : wc_PubKeyPemToDer((const uint8_t *)public_key, (int)size, work->der,
                                                (int)sizeof work->der);
        if (der <= 0 || !identity_key_read_public(&work->key, work->der, (size_t)der)) {
            status = identity_refuse(reason, STATUS_MALFORMED,
                                     "the key is no Ed25519 or ECDSA public key in PEM");
        }
    }
    if (status == 0) {
        status = identity_work_load_files(work, authority, authority_key, reason);
    }
    if (status == 0) {
        status = identity_fill(work->cert, request, reason);
    }
    if (status == 0) {
        status = identity_describe_leaf(work, request, reason);
    }
    if (status == 0) {
        status = identity_work_sign_certificate(work, &work->authority_key, reason);
    }
    if (status == 0) {
        CHECK((size_t)work->crt_pem_size < IDENTITY_CERTIFICATE_BYTES);
        memcpy(out_pem, work->crt_pem, (size_t)work->crt_pem_size);
        out_pem[work->crt_pem_size] = '\0';
    }
    identity_work_close(work);
    return status;
}
