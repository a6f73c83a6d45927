/* TLS without a socket, by wolfSSL. Steps of a session:
 *
 *   1. link.c feeds ciphertext; wolfSSL takes it through link_session_on_receive
 *   2. link_session_shake until OPEN; then link_session_read until MORE
 *   3. whatever wolfSSL wants to send lands in the output through link_session_on_send, always whole
 *
 * What can fail: the peer's bytes, its certificate, ours in its eyes. The first failure is kept with a
 * sentence. Debian's wolfSSL offers ciphers without encryption or authentication, so the list is ours.
 */
#include "nodes/net/link_session.h"

#include "nodes/net/identity_tls.h"
#include "schemas/check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* Not sorted: options.h says how the others were built. */
/* clang-format off */
#include <wolfssl/options.h>
#include <wolfssl/ssl.h>
#include <wolfssl/error-ssl.h>
#include <wolfssl/openssl/evp.h>
#include <wolfssl/wolfcrypt/asn.h>
#include <wolfssl/wolfcrypt/ecc.h>
#include <wolfssl/wolfcrypt/ed25519.h>
#include <wolfssl/wolfcrypt/error-crypt.h>
/* clang-format on */

/* In order of preference, which is the listener's. Debian's wolfSSL is built without the processor's
 * instructions for AES: it seals 109 MB/s with it, and 306 with ChaCha20-Poly1305 (records of 16 KiB, one
 * processor), which is most of what a link costs that carries much. */
#define LINK_CIPHERS                                                                               \
    "TLS13-CHACHA20-POLY1305-SHA256:TLS13-AES128-GCM-SHA256:TLS13-AES256-GCM-SHA384:"              \
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"                                   \
    "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384"

/* In order of preference. X25519 takes a sixth of what P-256 does in this library (measured: 0.16 and
 * 0.92 ms for a key and the secret), and is half of what a server does in a handshake. */
static const int link_groups[] = {WOLFSSL_ECC_X25519, WOLFSSL_ECC_SECP256R1, WOLFSSL_ECC_SECP384R1};

/* wolfSSL keeps tables of the points it multiplied (measured: 4 MB), which make the next handshake three
 * times faster. That matters to who is dialed by thousands, and not to an edge that dials now and then: it
 * forgets them when no handshake of its own is under way. One thread, as all links. */
static struct {
    bool serves;      /* this process listens: they are kept */
    uint32_t dialing; /* handshakes of ours that are under way */
} link_tables;

/* A session of wolfSSL has room for nine certificates (measured: 37 KiB of the 82 that a connection takes) and
 * fills one. Memory of that size is given in whole pages, see link_session_return_pages. */
#define LINK_PAGES_BYTES (32u * 1024u)

struct link_context {
    WOLFSSL_CTX *ctx;
    enum link_role role;
    int32_t days;
    uint32_t holders;
};

struct link_session {
    WOLFSSL *ssl;
    struct bytes input; /* lent by the owner of the socket */
    uint8_t *output;
    size_t output_bytes;
    size_t output_capacity;
    bool failed_memory;                              /* the output could not grow */
    bool dialing;                                    /* counted in link_tables */
    int failure;                                     /* wolfSSL's error; 0: none */
    int verify_error;                                /* of the peer's certificate; 0: none */
    char verify_name[LIMIT_IDENTITY_NAME_BYTES + 1]; /* common name of the one that failed */
    char server_name[256];                           /* "": not to be checked */
    bool anybody;                                    /* whoever it is: see LINK_DIAL_ANY */
    /* Of the peer, verified; lent by `ssl` for its life. NULL: it showed none. */
    WOLFSSL_X509 *certificate;
};

/* -- context ----------------------------------------------------------------------------------- */

__attribute__((format(printf, 3, 4))) static int link_refuse(char *reason, int status,
                                                             const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, LINK_REASON_BYTES, format, arguments);
    va_end(arguments);
    return status;
}

/* Read a PEM file whole. *out is freed by the caller. */
static int link_read_file(const char *path, uint8_t **out, size_t *out_size, char *reason)
{
    errno = 0;
    FILE *stream = fopen(path, "re");
    if (stream == NULL) {
        const int status = errno == 0 ? -EIO : -errno;
        return link_refuse(reason, status, "%s: %s", path, strerror(-status));
    }
    uint8_t *data = malloc(LIMIT_PEM_BYTES + 1);
    if (data == NULL) {
        fclose(stream);
        return link_refuse(reason, -ENOMEM, "%s: out of memory", path);
    }
    const size_t size = fread(data, 1, LIMIT_PEM_BYTES + 1, stream);
    int status = 0;
    if (ferror(stream) != 0) {
        status = link_refuse(reason, errno == 0 ? -EIO : -errno, "%s: cannot be read", path);
    } else if (size > LIMIT_PEM_BYTES) {
        status = link_refuse(reason, STATUS_TOO_LARGE, "%s: larger than %u bytes", path,
                             LIMIT_PEM_BYTES);
    } else if (size == 0) {
        status = link_refuse(reason, STATUS_MALFORMED, "%s: empty", path);
    }
    fclose(stream);
    if (status != 0) {
        free(data);
        return status;
    }
    *out = data;
    *out_size = size;
    return 0;
}

/* Seconds since 1970 of a certificate's time, a UTCTime or GeneralizedTime in DER; false: unreadable. */
static bool link_read_time(const uint8_t *time, int size, int64_t *out_s)
{
    const uint8_t *digits = NULL;
    uint8_t format = 0;
    int digits_size = 0;
    if (time == NULL || wc_GetDateInfo(time, size, &digits, &format, &digits_size) != 0 ||
        digits_size <= 0 || digits_size > CTC_DATE_SIZE) {
        return false;
    }
    char text[CTC_DATE_SIZE + 3];
    /* strptime's two-digit years turn at 69, X.509's at 50. */
    snprintf(text, sizeof text, "%s%.*s",
             format != ASN_UTC_TIME ? ""
             : digits[0] < '5'      ? "20"
                                    : "19",
             digits_size, (const char *)digits);
    struct tm parts = {0};
    if (strptime(text, "%Y%m%d%H%M%SZ", &parts) == NULL) {
        return false;
    }
    *out_s = timegm(&parts);
    return true;
}

/* The first certificate in a PEM text, given to link_certificate_close, which frees `*out_der` too. wolfSSL's X509
 * would not do: as Debian builds it, it makes none of a certificate with an Ed25519 key. */
static bool link_certificate_open(const uint8_t *pem, size_t size, DecodedCert *out,
                                  uint8_t **out_der)
{
    uint8_t *der = malloc(size);
    const int der_size =
        der == NULL ? -1 : wc_CertPemToDer(pem, (int)size, der, (int)size, CERT_TYPE);
    if (der_size <= 0) {
        free(der);
        return false;
    }
    wc_InitDecodedCert(out, der, (word32)der_size, NULL);
    if (wc_ParseCert(out, CERT_TYPE, NO_VERIFY, NULL) != 0) {
        wc_FreeDecodedCert(out);
        free(der);
        return false;
    }
    *out_der = der;
    return true;
}

static void link_certificate_close(DecodedCert *certificate, uint8_t *der)
{
    wc_FreeDecodedCert(certificate);
    free(der);
}

/* Our own certificate: is it valid today, and for how long? */
static int link_check_dates(struct link_context *context, const char *path, const uint8_t *pem,
                            size_t size, char *reason)
{
    DecodedCert certificate;
    uint8_t *der;
    if (!link_certificate_open(pem, size, &certificate, &der)) {
        return link_refuse(reason, STATUS_MALFORMED, "%s: holds no certificate", path);
    }
    int64_t from_s, until_s;
    int status = 0;
    const int64_t now_s = time(NULL);
    if (!link_read_time(certificate.beforeDate, certificate.beforeDateLen, &from_s) ||
        !link_read_time(certificate.afterDate, certificate.afterDateLen, &until_s)) {
        status = link_refuse(reason, STATUS_MALFORMED, "%s: its dates are unreadable", path);
    } else if (now_s < from_s) {
        status = link_refuse(reason, STATUS_IDENTITY,
                             "%s: not valid yet; is this machine's clock right?", path);
    } else if (now_s > until_s) {
        status = link_refuse(reason, STATUS_IDENTITY, "%s: expired %lld days ago; make a new one",
                             path, (long long)((now_s - until_s) / 86400));
    } else {
        context->days = (int32_t)((until_s - now_s) / 86400);
    }
    link_certificate_close(&certificate, der);
    return status;
}

static int link_load_authority(struct link_context *context, const char *path, char *reason)
{
    uint8_t *pem = NULL;
    size_t size = 0;
    int status = link_read_file(path, &pem, &size, reason);
    if (status != 0) {
        return status;
    }
    const int code =
        wolfSSL_CTX_load_verify_buffer(context->ctx, pem, (long)size, WOLFSSL_FILETYPE_PEM);
    if (code == ASN_AFTER_DATE_E || code == ASN_BEFORE_DATE_E) {
        status = link_refuse(reason, STATUS_IDENTITY, "%s: the authority is not valid today", path);
    } else if (code != WOLFSSL_SUCCESS) {
        status = link_refuse(reason, STATUS_MALFORMED, "%s: holds no usable certificate (%d)", path,
                             code);
    }
    free(pem);
    return status;
}

/* Does what this key, ECDSA or RSA, signs verify with this certificate? */
static bool link_key_signs_for(const uint8_t *certificate, size_t certificate_size,
                               const uint8_t *key, size_t key_size)
{
    static const uint8_t text[] = "kelp";
    uint8_t signature[1024];
    size_t signature_size = sizeof signature;
    WOLFSSL_EVP_PKEY *private = NULL, *public = NULL;
    WOLFSSL_EVP_MD_CTX *sign = wolfSSL_EVP_MD_CTX_new(), *verify = wolfSSL_EVP_MD_CTX_new();
    WOLFSSL_BIO *bio = wolfSSL_BIO_new_mem_buf(key, (int)key_size);
    WOLFSSL_X509 *x509 = wolfSSL_X509_load_certificate_buffer(certificate, (int)certificate_size,
                                                              WOLFSSL_FILETYPE_PEM);
    if (bio != NULL) {
        private = wolfSSL_PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    }
    if (x509 != NULL) {
        public = wolfSSL_X509_get_pubkey(x509);
    }
    const bool belongs =
        private != NULL && public != NULL && sign != NULL && verify != NULL &&
        wolfSSL_EVP_DigestSignInit(sign, NULL, wolfSSL_EVP_sha256(), NULL, private) ==
            WOLFSSL_SUCCESS &&
        wolfSSL_EVP_DigestSignUpdate(sign, text, sizeof text) == WOLFSSL_SUCCESS &&
        wolfSSL_EVP_DigestSignFinal(sign, signature, &signature_size) == WOLFSSL_SUCCESS &&
        wolfSSL_EVP_DigestVerifyInit(verify, NULL, wolfSSL_EVP_sha256(), NULL, public) ==
            WOLFSSL_SUCCESS &&
        wolfSSL_EVP_DigestVerifyUpdate(verify, text, sizeof text) == WOLFSSL_SUCCESS &&
        wolfSSL_EVP_DigestVerifyFinal(verify, signature, signature_size) == WOLFSSL_SUCCESS;
    wolfSSL_EVP_PKEY_free(private);
    wolfSSL_EVP_PKEY_free(public);
    wolfSSL_X509_free(x509);
    wolfSSL_BIO_free(bio);
    wolfSSL_EVP_MD_CTX_free(sign);
    wolfSSL_EVP_MD_CTX_free(verify);
    return belongs;
}

/* Is this Ed25519 key the private half of the certificate's? */
static bool link_key_is_of(const uint8_t *public, const uint8_t *key, size_t key_size)
{
    uint8_t *der = malloc(key_size);
    uint8_t made[ED25519_PUB_KEY_SIZE];
    ed25519_key private;
    word32 at = 0;
    CHECK(wc_ed25519_init(&private) == 0);
    const int der_size =
        der == NULL ? -1 : wc_KeyPemToDer(key, (int)key_size, der, (int)key_size, NULL);
    const bool is_of = der_size > 0 &&
                       wc_Ed25519PrivateKeyDecode(der, &at, &private, (word32)der_size) == 0 &&
                       wc_ed25519_make_public(&private, made, sizeof made) == 0 &&
                       memcmp(made, public, sizeof made) == 0;
    wc_ed25519_free(&private);
    if (der != NULL) {
        explicit_bzero(der, key_size);
    }
    free(der);
    return is_of;
}

/* Is this the key of that certificate? wolfSSL 5.5's own check does not compare the two halves of an elliptic
 * key, and would start with a key nobody can use. */
static bool link_key_belongs(const uint8_t *certificate, size_t certificate_size,
                             const uint8_t *key, size_t key_size)
{
    DecodedCert decoded;
    uint8_t *der;
    if (!link_certificate_open(certificate, certificate_size, &decoded, &der)) {
        return false;
    }
    const bool belongs = decoded.keyOID == ED25519k
                             ? decoded.pubKeySize == ED25519_PUB_KEY_SIZE &&
                                   link_key_is_of(decoded.publicKey, key, key_size)
                             : link_key_signs_for(certificate, certificate_size, key, key_size);
    link_certificate_close(&decoded, der);
    return belongs;
}

static int link_load_own(struct link_context *context, const struct link_files *files, char *reason)
{
    uint8_t *certificate = NULL, *key = NULL;
    size_t certificate_size = 0, key_size = 0;
    int status = link_read_file(files->certificate, &certificate, &certificate_size, reason);
    if (status == 0) {
        status =
            link_check_dates(context, files->certificate, certificate, certificate_size, reason);
    }
    if (status == 0) {
        status = link_read_file(files->key, &key, &key_size, reason);
    }
    if (status != 0) {
        goto out;
    }
    if (wolfSSL_CTX_use_certificate_chain_buffer(context->ctx, certificate,
                                                 (long)certificate_size) != WOLFSSL_SUCCESS) {
        status =
            link_refuse(reason, STATUS_MALFORMED, "%s: holds no certificate", files->certificate);
        goto out;
    }
    if (wolfSSL_CTX_use_PrivateKey_buffer(context->ctx, key, (long)key_size,
                                          WOLFSSL_FILETYPE_PEM) != WOLFSSL_SUCCESS) {
        status = link_refuse(reason, STATUS_MALFORMED,
                             "%s: holds no private key without password, or not the one of %s",
                             files->key, files->certificate);
        goto out;
    }
    if (!link_key_belongs(certificate, certificate_size, key, key_size)) {
        status = link_refuse(reason, STATUS_IDENTITY, "%s: not the key of %s", files->key,
                             files->certificate);
    }
out:
    if (key != NULL) {
        explicit_bzero(key, key_size);
    }
    free(key);
    free(certificate);
    return status;
}

static void *link_on_malloc(size_t size)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return size < LINK_PAGES_BYTES ? malloc(size)
                                   : aligned_alloc(page, (size + page - 1) / page * page);
}

static int link_session_on_receive(WOLFSSL *ssl, char *out, int size, void *context);
static int link_session_on_send(WOLFSSL *ssl, char *data, int size, void *context);
static int link_session_on_verify(int good, WOLFSSL_X509_STORE_CTX *store);

int link_context_open(enum link_role role, const struct link_files *files,
                      struct link_context **out, char *reason)
{
    CHECK((files->certificate == NULL) == (files->key == NULL));
    const bool dial = role == LINK_DIAL || role == LINK_DIAL_ANY;
    CHECK_IF(!dial, files->certificate != NULL);
    static bool ready = false;
    if (!ready) {
        CHECK(wolfSSL_SetAllocators(link_on_malloc, free, realloc) == 0);
        CHECK(wolfSSL_Init() == WOLFSSL_SUCCESS);
        signal(SIGPIPE, SIG_IGN); /* a write to a closed socket is an answer, not a death */
        ready = true;
    }
    struct link_context *context = calloc(1, sizeof *context);
    if (context == NULL) {
        return link_refuse(reason, -ENOMEM, "out of memory");
    }
    context->role = role;
    context->holders = 1;
    context->days = INT32_MAX;
    context->ctx = wolfSSL_CTX_new(dial ? wolfSSLv23_client_method() : wolfSSLv23_server_method());
    int status = 0;
    if (context->ctx == NULL) {
        status = link_refuse(reason, -ENOMEM, "out of memory");
        goto out;
    }
    CHECK(wolfSSL_CTX_SetMinVersion(context->ctx, WOLFSSL_TLSV1_2) == WOLFSSL_SUCCESS);
    CHECK(wolfSSL_CTX_set_cipher_list(context->ctx, LINK_CIPHERS) == WOLFSSL_SUCCESS);
    int groups[sizeof link_groups / sizeof *link_groups];
    memcpy(groups, link_groups, sizeof groups);
    CHECK(wolfSSL_CTX_set_groups(context->ctx, groups, sizeof groups / sizeof *groups) ==
          WOLFSSL_SUCCESS);
    link_tables.serves = link_tables.serves || !dial;
    wolfSSL_CTX_set_session_cache_mode(context->ctx, WOLFSSL_SESS_CACHE_OFF);
    if (!dial) {
        wolfSSL_CTX_NoTicketTLSv12(context->ctx);
        wolfSSL_CTX_no_ticket_TLSv13(context->ctx);
    }
    wolfSSL_CTX_set_verify(context->ctx,
                           role == LINK_DIAL_ANY ? WOLFSSL_VERIFY_NONE
                           : role == LINK_LISTEN_REQUEST
                               ? WOLFSSL_VERIFY_PEER
                               : WOLFSSL_VERIFY_PEER | WOLFSSL_VERIFY_FAIL_IF_NO_PEER_CERT,
                           role == LINK_DIAL_ANY ? NULL : link_session_on_verify);
    wolfSSL_CTX_SetIORecv(context->ctx, link_session_on_receive);
    wolfSSL_CTX_SetIOSend(context->ctx, link_session_on_send);

    status = role == LINK_DIAL_ANY ? 0 : link_load_authority(context, files->authority, reason);
    if (status == 0 && files->certificate != NULL) {
        status = link_load_own(context, files, reason);
    }
out:
    if (status != 0) {
        link_context_close(context);
        return status;
    }
    *out = context;
    return 0;
}

void link_context_close(struct link_context *context)
{
    if (context == NULL) {
        return;
    }
    CHECK(context->holders > 0);
    context->holders--;
    if (context->holders > 0) {
        return;
    }
    if (context->ctx != NULL) {
        wolfSSL_CTX_free(context->ctx); /* counted: sessions hold it too */
    }
    free(context);
}

int32_t link_context_days(const struct link_context *context)
{
    return context->days;
}

struct link_context *link_context_keep(struct link_context *context)
{
    context->holders++;
    return context;
}

enum link_role link_context_role(const struct link_context *context)
{
    return context->role;
}

/* -- session ----------------------------------------------------------------------------------- */

static int link_session_on_receive(WOLFSSL *ssl, char *out, int size, void *context)
{
    (void)ssl;
    struct link_session *session = context;
    if (session->input.size == 0) {
        return WOLFSSL_CBIO_ERR_WANT_READ;
    }
    const size_t take = session->input.size < (size_t)size ? session->input.size : (size_t)size;
    memcpy(out, session->input.data, take);
    session->input.data += take;
    session->input.size -= take;
    return (int)take;
}

/* The bound on the output is link.c's: it encrypts only while little is in flight. */
static int link_session_on_send(WOLFSSL *ssl, char *data, int size, void *context)
{
    (void)ssl;
    struct link_session *session = context;
    const size_t want = session->output_bytes + (size_t)size;
    if (want > session->output_capacity) {
        size_t capacity = session->output_capacity == 0 ? 2048 : session->output_capacity;
        while (capacity < want) {
            capacity *= 2;
        }
        uint8_t *grown = realloc(session->output, capacity);
        if (grown == NULL) {
            session->failed_memory = true;
            return WOLFSSL_CBIO_ERR_GENERAL;
        }
        session->output = grown;
        session->output_capacity = capacity;
    }
    memcpy(session->output + session->output_bytes, data, (size_t)size);
    session->output_bytes += (size_t)size;
    return size;
}

/* wolfSSL asks for every certificate of the chain, and once when there is none; we only remember what it found. The
 * peer's own, at depth 0, is lent to us: wolfSSL_get_peer_certificate would make a copy, and as Debian builds it
 * cannot copy one with an Ed25519 key. */
static int link_session_on_verify(int good, WOLFSSL_X509_STORE_CTX *store)
{
    struct link_session *session = store->userCtx;
    if (good != 0 && session != NULL && store->error_depth == 0 && store->totalCerts > 0) {
        session->certificate = store->current_cert;
    }
    if (good == 0 && session != NULL && session->verify_error == 0) {
        session->verify_error = store->error;
        if (store->current_cert != NULL) {
            WOLFSSL_X509_NAME *name = wolfSSL_X509_get_subject_name(store->current_cert);
            if (name != NULL) {
                wolfSSL_X509_NAME_get_text_by_NID(name, NID_commonName, session->verify_name,
                                                  (int)sizeof session->verify_name);
            }
        }
    }
    return good;
}

/* A handshake of ours is over, or was given up. */
static void link_session_dialed(struct link_session *session)
{
    if (!session->dialing) {
        return;
    }
    session->dialing = false;
    CHECK(link_tables.dialing > 0);
    link_tables.dialing--;
    if (link_tables.dialing == 0 && !link_tables.serves) {
        wc_ecc_fp_free();
    }
}

static bool link_is_address(const char *name)
{
    uint8_t address[16];
    return inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1;
}

struct link_session *link_session_open(struct link_context *context, const char *server_name)
{
    struct link_session *session = calloc(1, sizeof *session);
    if (session == NULL) {
        return NULL;
    }
    session->ssl = wolfSSL_new(context->ctx);
    if (session->ssl == NULL) {
        free(session);
        return NULL;
    }
    session->anybody = context->role == LINK_DIAL_ANY;
    wolfSSL_SetIOReadCtx(session->ssl, session);
    wolfSSL_SetIOWriteCtx(session->ssl, session);
    wolfSSL_SetCertCbCtx(session->ssl, session);
    session->dialing = context->role == LINK_DIAL;
    link_tables.dialing += session->dialing ? 1 : 0;
    char protocols[] = "http/1.1";
    wolfSSL_UseALPN(session->ssl, protocols, (unsigned)strlen(protocols),
                    WOLFSSL_ALPN_CONTINUE_ON_MISMATCH);
    if (server_name != NULL) {
        snprintf(session->server_name, sizeof session->server_name, "%s", server_name);
        if (!link_is_address(server_name)) {
            wolfSSL_UseSNI(session->ssl, WOLFSSL_SNI_HOST_NAME, server_name,
                           (unsigned short)strlen(server_name));
        }
    }
    return session;
}

void link_session_close(struct link_session *session)
{
    if (session == NULL) {
        return;
    }
    link_session_dialed(session);
    wolfSSL_free(session->ssl);
    free(session->output);
    free(session);
}

void link_session_feed(struct link_session *session, struct bytes input)
{
    session->input = input;
}

struct bytes link_session_input(const struct link_session *session)
{
    return session->input;
}

/* Turn wolfSSL's answer into a step, keeping the first failure. */
static enum link_step link_session_step(struct link_session *session, int code)
{
    const int error = wolfSSL_get_error(session->ssl, code);
    if (error == WOLFSSL_ERROR_WANT_READ) {
        return LINK_STEP_MORE;
    }
    if (error == WOLFSSL_ERROR_ZERO_RETURN) {
        return LINK_STEP_END;
    }
    CHECK(error != WOLFSSL_ERROR_WANT_WRITE); /* our output always takes everything */
    if (session->failure == 0) {
        session->failure = error == 0 ? SSL_FATAL_ERROR : error;
    }
    return LINK_STEP_FAILED;
}

/* The handshake is done: what wolfSSL cleared in its session and never wrote since goes back to the system.
 * It reads as zeros, as it did, and should it be written after all the system gives another page. */
static void link_session_return_pages(struct link_session *session)
{
    WOLFSSL_SESSION *memory = wolfSSL_get_session(session->ssl);
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t end = (uintptr_t)memory + malloc_usable_size(memory);
    for (uintptr_t at = ((uintptr_t)memory + page - 1) / page * page; at + page <= end;
         at += page) {
        const uint8_t *bytes = (const uint8_t *)at;
        if (bytes[0] == 0 && memcmp(bytes, bytes + 1, page - 1) == 0) {
            (void)madvise((void *)at, page, MADV_DONTNEED); /* or it stays, and is as good */
        }
    }
}

enum link_step link_session_shake(struct link_session *session)
{
    const bool server = wolfSSL_is_server(session->ssl);
    const int code = server ? wolfSSL_accept(session->ssl) : wolfSSL_connect(session->ssl);
    if (code == WOLFSSL_SUCCESS) {
        link_session_dialed(session);
        link_session_return_pages(session);
        return LINK_STEP_OPEN;
    }
    const enum link_step step = link_session_step(session, code);
    if (step == LINK_STEP_END) {
        session->failure = SOCKET_PEER_CLOSED_E; /* a goodbye in the middle of the handshake */
        return LINK_STEP_FAILED;
    }
    return step;
}

enum link_step link_session_read(struct link_session *session, uint8_t *out, size_t size,
                                 size_t *out_size)
{
    CHECK(size <= INT_MAX);
    const int code = wolfSSL_read(session->ssl, out, (int)size);
    if (code > 0) {
        *out_size = (size_t)code;
        return LINK_STEP_BYTES;
    }
    return link_session_step(session, code);
}

bool link_session_write(struct link_session *session, struct bytes plaintext)
{
    CHECK(plaintext.size > 0);
    CHECK(plaintext.size <= LIMIT_LINK_READ_BYTES);
    const int code = wolfSSL_write(session->ssl, plaintext.data, (int)plaintext.size);
    if (code > 0) {
        CHECK((size_t)code == plaintext.size);
        return true;
    }
    link_session_step(session, code);
    return false;
}

void link_session_end(struct link_session *session)
{
    wolfSSL_shutdown(
        session->ssl); /* its answer says whether the peer has ended too: not our question */
}

size_t link_session_output_bytes(const struct link_session *session)
{
    return session->output_bytes;
}

uint8_t *link_session_take_output(struct link_session *session, size_t *out_size)
{
    uint8_t *taken = session->output_bytes == 0 ? NULL : session->output;
    *out_size = session->output_bytes;
    if (taken != NULL) {
        session->output = NULL;
        session->output_bytes = 0;
        session->output_capacity = 0;
    }
    return taken;
}

/* -- failures ---------------------------------------------------------------------------------- */

static const char *link_alert_text(int code)
{
    switch (code) {
    case bad_certificate:
    case unsupported_certificate:
    case certificate_unknown:
    case access_denied:
        return "it refused our certificate";
    case certificate_revoked:
        return "it says that our certificate is revoked";
    case certificate_expired:
        return "it says that our certificate has expired";
    case unknown_ca:
        return "it does not know the authority of our certificate";
    case no_certificate:
    case certificate_required:
        return "it wants a client certificate and we sent none";
    case handshake_failure:
    case protocol_version:
    case insufficient_security:
        return "it shares no TLS version or cipher with us, or refused our certificate";
    case unrecognized_name:
        return "it does not know the server name we asked for";
    default:
        return NULL;
    }
}

static const char *link_certificate_text(int error)
{
    switch (error) {
    case ASN_NO_SIGNER_E:
    case ASN_SELF_SIGNED_E:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        return "is signed by an authority we do not know";
    case ASN_AFTER_DATE_E:
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_ERROR_IN_CERT_NOT_AFTER_FIELD: /* what wolfSSL 5.5 makes of a past date */
        return "has expired";
    case ASN_BEFORE_DATE_E:
    case X509_V_ERR_CERT_NOT_YET_VALID:
    case X509_V_ERR_ERROR_IN_CERT_NOT_BEFORE_FIELD:
        return "is not valid yet (is a clock wrong?)";
    case ASN_SIG_CONFIRM_E:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
        return "has a wrong signature";
    case EXTKEYUSE_AUTH_E:
    case KEYUSE_SIGNATURE_E:
    case KEYUSE_ENCIPHER_E:
        return "is not made for this use";
    case DOMAIN_NAME_MISMATCH:
        return "is for another name";
    case CRL_CERT_REVOKED:
        return "is revoked";
    default:
        return NULL;
    }
}

int link_session_failure(const struct link_session *session, char *reason)
{
    if (session->failed_memory) {
        return link_refuse(reason, -ENOMEM, "out of memory");
    }
    const int error = session->failure;
    const int certificate = session->verify_error != 0 ? session->verify_error : error;
    const char *const text = link_certificate_text(certificate);
    if (text != NULL || session->verify_error != 0) {
        if (text != NULL) {
            return link_refuse(reason, STATUS_IDENTITY, "the certificate of the peer (CN=%s) %s",
                               session->verify_name, text);
        }
        return link_refuse(reason, STATUS_IDENTITY,
                           "the certificate of the peer (CN=%s) cannot be verified (%d)",
                           session->verify_name, certificate);
    }
    if (error == NO_PEER_CERT) {
        return link_refuse(reason, STATUS_IDENTITY, "the peer sent no certificate");
    }
    WOLFSSL_ALERT_HISTORY alerts;
    if (error == FATAL_ERROR &&
        wolfSSL_get_alert_history(session->ssl, &alerts) == WOLFSSL_SUCCESS) {
        const char *const alert = link_alert_text(alerts.last_rx.code);
        if (alert != NULL) {
            return link_refuse(reason, STATUS_IDENTITY, "the peer ended the handshake: %s", alert);
        }
        return link_refuse(reason, STATUS_CORRUPT, "the peer sent TLS alert %d",
                           alerts.last_rx.code);
    }
    if (error == SOCKET_PEER_CLOSED_E) {
        return link_refuse(reason, -ECONNRESET, "the peer left during the handshake");
    }
    return link_refuse(reason, STATUS_CORRUPT, "not TLS, or not ours: %s (%d)",
                       wolfSSL_ERR_reason_error_string((unsigned long)error), error);
}

/* -- the peer ---------------------------------------------------------------------------------- */

static void link_print_hex(const uint8_t *data, size_t size, char *out, size_t out_size)
{
    out[0] = '\0';
    for (size_t i = 0; i < size && 2 * i + 2 < out_size; i++) {
        snprintf(out + 2 * i, 3, "%02x", data[i]);
    }
}

/* Copy one attribute of a subject; false: too long, or with a NUL inside, which could make a name look
 * like another. */
static bool link_copy_attribute(WOLFSSL_X509_NAME_ENTRY *entry, char *out)
{
    WOLFSSL_ASN1_STRING *const text = wolfSSL_X509_NAME_ENTRY_get_data(entry);
    if (text == NULL) {
        return false;
    }
    const int size = wolfSSL_ASN1_STRING_length(text);
    const unsigned char *const data = wolfSSL_ASN1_STRING_data(text);
    if (size <= 0 || (unsigned)size > LIMIT_IDENTITY_NAME_BYTES ||
        memchr(data, '\0', (size_t)size) != NULL) {
        return false;
    }
    memcpy(out, data, (size_t)size);
    out[size] = '\0';
    return true;
}

static int link_read_subject(WOLFSSL_X509_NAME *subject, struct link_peer *out, char *reason)
{
    const int count = subject == NULL ? 0 : wolfSSL_X509_NAME_entry_count(subject);
    for (int i = 0; i < count; i++) {
        WOLFSSL_X509_NAME_ENTRY *const entry = wolfSSL_X509_NAME_get_entry(subject, i);
        const int kind =
            entry == NULL ? 0 : wolfSSL_OBJ_obj2nid(wolfSSL_X509_NAME_ENTRY_get_object(entry));
        if (kind == NID_commonName) {
            if (out->common_name[0] != '\0') {
                return link_refuse(reason, STATUS_IDENTITY,
                                   "the certificate of the peer has several common names");
            }
            if (!link_copy_attribute(entry, out->common_name)) {
                return link_refuse(reason, STATUS_IDENTITY,
                                   "the common name of the peer is not a name");
            }
        } else if (kind == NID_organizationName) {
            if (out->groups_count == LIMIT_IDENTITY_GROUPS ||
                !link_copy_attribute(entry, out->groups[out->groups_count])) {
                return link_refuse(reason, STATUS_IDENTITY,
                                   "the organisations of the peer are too many or no names");
            }
            out->groups_count++;
        }
    }
    return 0;
}

int link_session_peer(struct link_session *session, struct link_peer *out, char *reason)
{
    snprintf(out->protocol, sizeof out->protocol, "%s", wolfSSL_get_version(session->ssl));
    if (session->anybody) {
        return 0; /* nothing was checked: it stays unverified, without a name */
    }
    WOLFSSL_X509 *const certificate = session->certificate;
    if (certificate == NULL) {
        if (session->server_name[0] != '\0') {
            return link_refuse(reason, STATUS_IDENTITY, "the peer sent no certificate");
        }
        return 0; /* a client without; LISTEN_REQUIRE has refused it already */
    }
    int status = link_read_subject(wolfSSL_X509_get_subject_name(certificate), out, reason);
    const char *const name = session->server_name;
    if (status == 0 && name[0] != '\0') {
        const int good = link_is_address(name)
                             ? wolfSSL_X509_check_ip_asc(certificate, name, 0)
                             : wolfSSL_X509_check_host(certificate, name, strlen(name), 0, NULL);
        if (good != WOLFSSL_SUCCESS) {
            status = link_refuse(reason, STATUS_IDENTITY,
                                 "the certificate of the peer (CN=%s) is not for %.128s",
                                 out->common_name, name);
        }
    }
    uint8_t serial[64], digest[WC_MAX_DIGEST_SIZE];
    int serial_size = (int)sizeof serial;
    if (wolfSSL_X509_get_serial_number(certificate, serial, &serial_size) == WOLFSSL_SUCCESS) {
        link_print_hex(serial, (size_t)serial_size, out->serial, sizeof out->serial);
    }
    unsigned digest_size = sizeof digest;
    if (wolfSSL_X509_digest(certificate, wolfSSL_EVP_sha256(), digest, &digest_size) ==
        WOLFSSL_SUCCESS) {
        link_print_hex(digest, digest_size, out->fingerprint, sizeof out->fingerprint);
    } else if (status == 0) {
        status = link_refuse(reason, STATUS_IDENTITY, "the certificate of the peer has no bytes");
    }
    uint8_t key[2048]; /* of Ed25519 32, of ECDSA 100, of RSA with 8192 bits half as much as this */
    int key_size = (int)sizeof key;
    if (wolfSSL_X509_get_pubkey_buffer(certificate, key, &key_size) == WOLFSSL_SUCCESS) {
        identity_key_sha256(bytes_of(key, (size_t)key_size), out->key);
    } else if (status == 0) { /* nobody could say whether it is shut out */
        status = link_refuse(reason, STATUS_IDENTITY, "the certificate of the peer has no key");
    }
    out->verified = status == 0;
    return status;
}
