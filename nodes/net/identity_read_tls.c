/* What certificates and keys say: names, hashes of keys, and which of several certificates is meant.
 *
 * Certificates are read with wolfSSL's DecodedCert and not as its X509, which it does not make of a certificate
 * with an Ed25519 key when it is built as Debian builds it (OPENSSL_ALL: its EVP keys know no such kind). What can
 * fail: files and texts that are none of these.
 */
#include "nodes/net/identity_tls.h"

#include "schemas/check.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Not sorted: options.h says how the others were built. */
/* clang-format off */
#include <wolfssl/options.h>
#include <wolfssl/ssl.h>
#include <wolfssl/wolfcrypt/asn.h>
#include <wolfssl/wolfcrypt/asn_public.h>
#include <wolfssl/wolfcrypt/ecc.h>
#include <wolfssl/wolfcrypt/ed25519.h>
/* clang-format on */

/* -- names ------------------------------------------------------------------------------------- */

static bool identity_is_name_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

bool identity_name_valid(const char *name)
{
    const size_t size = strlen(name);
    if (size == 0 || size > LIMIT_NAME_BYTES) {
        return false;
    }
    size_t label = 0; /* bytes of this label so far */
    for (size_t i = 0; i < size; i++) {
        if (name[i] == '.') {
            if (label == 0 || name[i - 1] == '-') {
                return false;
            }
            label = 0;
            continue;
        }
        if (!identity_is_name_byte(name[i]) && !(name[i] == '-' && label > 0)) {
            return false;
        }
        label++;
        if (label > 63) {
            return false;
        }
    }
    return label > 0 && name[size - 1] != '-';
}

const char *identity_find_node(const char *common_name)
{
    const size_t prefix_size = strlen(IDENTITY_NODE_PREFIX);
    if (strncmp(common_name, IDENTITY_NODE_PREFIX, prefix_size) != 0) {
        return NULL;
    }
    return identity_name_valid(common_name + prefix_size) ? common_name + prefix_size : NULL;
}

/* -- a certificate in a file --------------------------------------------------------------------- */

/* Points into `der`, so it stays where it is. */
struct identity_certificate {
    uint8_t pem[LIMIT_PEM_BYTES];
    uint8_t der[LIMIT_PEM_BYTES];
    DecodedCert decoded;
};

/* The first certificate of a file in PEM, given to identity_certificate_close. NULL: there is none. */
static struct identity_certificate *identity_certificate_open(const char *path)
{
    struct identity_certificate *certificate = malloc(sizeof *certificate);
    CHECK(certificate != NULL);
    FILE *file = fopen(path, "re");
    const size_t size =
        file == NULL ? 0 : fread(certificate->pem, 1, sizeof certificate->pem, file);
    if (file != NULL) {
        fclose(file);
    }
    const int der_size = size == 0 ? -1
                                   : wc_CertPemToDer(certificate->pem, (int)size, certificate->der,
                                                     (int)sizeof certificate->der, CERT_TYPE);
    if (der_size <= 0) {
        free(certificate);
        return NULL;
    }
    wc_InitDecodedCert(&certificate->decoded, certificate->der, (word32)der_size, NULL);
    if (wc_ParseCert(&certificate->decoded, CERT_TYPE, NO_VERIFY, NULL) != 0) {
        wc_FreeDecodedCert(&certificate->decoded);
        free(certificate);
        return NULL;
    }
    return certificate;
}

static void identity_certificate_close(struct identity_certificate *certificate)
{
    wc_FreeDecodedCert(&certificate->decoded);
    free(certificate);
}

int identity_node_of_file(const char *path, char *node, char *reason)
{
    struct identity_certificate *certificate = identity_certificate_open(path);
    if (certificate == NULL) {
        snprintf(reason, IDENTITY_REASON_BYTES, "%s holds no certificate in PEM form", path);
        return STATUS_MALFORMED;
    }
    const DecodedCert *const decoded = &certificate->decoded;
    char name[LIMIT_IDENTITY_NAME_BYTES + 1] = "";
    if (decoded->subjectCN != NULL && decoded->subjectCNLen > 0 &&
        (size_t)decoded->subjectCNLen < sizeof name) {
        memcpy(name, decoded->subjectCN, (size_t)decoded->subjectCNLen);
    }
    identity_certificate_close(certificate);
    const char *found = identity_find_node(name);
    if (found == NULL) {
        snprintf(reason, IDENTITY_REASON_BYTES, "%s is for \"%s\", which is no edge node", path,
                 name);
        return STATUS_IDENTITY;
    }
    snprintf(node, LIMIT_NAME_BYTES + 1, "%s", found);
    return 0;
}

int identity_key_of_file(const char *path, char out[IDENTITY_PIN_BYTES])
{
    struct identity_certificate *certificate = identity_certificate_open(path);
    if (certificate == NULL) {
        return STATUS_MALFORMED;
    }
    const DecodedCert *const decoded = &certificate->decoded;
    identity_key_sha256(bytes_of(decoded->publicKey, decoded->pubKeySize), out);
    identity_certificate_close(certificate);
    return 0;
}

/* Whether a DNS name of a certificate is this one, or a wildcard for it: "*.x" is for any one label before ".x"
 * (RFC 6125 section 6.4.3). */
static bool identity_covers(const char *pattern, size_t size, const char *name)
{
    if (size > 2 && pattern[0] == '*' && pattern[1] == '.' && name[0] != '*') {
        const char *const rest = strchr(name, '.');
        if (rest == NULL || rest == name) {
            return false;
        }
        pattern++;
        size--;
        name = rest;
    }
    return strlen(name) == size && strncasecmp(pattern, name, size) == 0;
}

bool identity_file_is_for(const char *path, const char *name)
{
    struct identity_certificate *certificate = identity_certificate_open(path);
    if (certificate == NULL) {
        return false;
    }
    uint8_t address[16];
    const int address_size = inet_pton(AF_INET, name, address) == 1    ? 4
                             : inet_pton(AF_INET6, name, address) == 1 ? 16
                                                                       : 0;
    const DecodedCert *const decoded = &certificate->decoded;
    bool is_for = false;
    for (const DNS_entry *entry = decoded->altNames; entry != NULL && !is_for;
         entry = entry->next) {
        if (entry->type == ASN_IP_TYPE) {
            is_for = address_size > 0 && entry->len == address_size &&
                     memcmp(entry->name, address, (size_t)address_size) == 0;
        } else if (entry->type == ASN_DNS_TYPE) {
            is_for = address_size == 0 && identity_covers(entry->name, (size_t)entry->len, name);
        }
    }
    if (decoded->altNames == NULL && decoded->subjectCN != NULL && address_size == 0) {
        is_for = identity_covers(decoded->subjectCN, (size_t)decoded->subjectCNLen, name);
    }
    identity_certificate_close(certificate);
    return is_for;
}

/* -- keys and pins ------------------------------------------------------------------------------- */

void identity_sha256(struct bytes data, char out[IDENTITY_PIN_BYTES])
{
    uint8_t digest[WC_SHA256_DIGEST_SIZE];
    CHECK(wc_Sha256Hash(data.data, (word32)data.size, digest) == 0);
    for (size_t i = 0; i < sizeof digest; i++) {
        (void)snprintf(out + 2 * i, 3, "%02x", digest[i]);
    }
}

/* A key as a SubjectPublicKeyInfo in DER; wolfSSL keeps that of ECDSA so, and of Ed25519 the bare 32 bytes.
 * Returns its size; not positive: of neither kind. */
static int identity_key_info(struct bytes key, uint8_t *out, size_t size)
{
    word32 at = 0;
    ed25519_key ed25519;
    CHECK(wc_ed25519_init(&ed25519) == 0);
    int out_size = -1;
    if (key.size == ED25519_PUB_KEY_SIZE
            ? wc_ed25519_import_public(key.data, (word32)key.size, &ed25519) == 0
            : wc_Ed25519PublicKeyDecode(key.data, &at, &ed25519, (word32)key.size) == 0) {
        out_size = wc_Ed25519PublicKeyToDer(&ed25519, out, (word32)size, 1);
    }
    wc_ed25519_free(&ed25519);
    if (out_size > 0) {
        return out_size;
    }
    ecc_key ecdsa;
    CHECK(wc_ecc_init(&ecdsa) == 0);
    at = 0;
    if (wc_EccPublicKeyDecode(key.data, &at, &ecdsa, (word32)key.size) == 0) {
        out_size = wc_EccPublicKeyToDer(&ecdsa, out, (word32)size, 1);
    }
    wc_ecc_free(&ecdsa);
    return out_size;
}

void identity_key_sha256(struct bytes key, char out[IDENTITY_PIN_BYTES])
{
    uint8_t der[IDENTITY_PUBLIC_BYTES];
    const int size = identity_key_info(key, der, sizeof der);
    identity_sha256(size > 0 ? bytes_of(der, (size_t)size) : key, out);
}

int identity_key_of_pem(const char *public_key, char out[IDENTITY_PIN_BYTES])
{
    uint8_t der[IDENTITY_PUBLIC_BYTES], info[IDENTITY_PUBLIC_BYTES];
    const size_t size = strlen(public_key);
    const int der_size =
        size == 0 || size > IDENTITY_PUBLIC_BYTES
            ? -1
            : wc_PubKeyPemToDer((const uint8_t *)public_key, (int)size, der, (int)sizeof der);
    const int info_size =
        der_size <= 0 ? -1 : identity_key_info(bytes_of(der, (size_t)der_size), info, sizeof info);
    if (info_size <= 0) {
        return STATUS_MALFORMED;
    }
    identity_sha256(bytes_of(info, (size_t)info_size), out);
    return 0;
}

int identity_pin(struct bytes pem, const char *pin, char *out_pem, char *out_pin)
{
    static const char begin[] = "-----BEGIN CERTIFICATE-----";
    static const char end[] = "-----END CERTIFICATE-----";
    int status = STATUS_MALFORMED;
    uint8_t *der = malloc(IDENTITY_CERTIFICATE_BYTES);
    CHECK(der != NULL);
    const uint8_t *at = pem.data;
    size_t left = pem.size;
    while (status != 0) {
        const uint8_t *first = left == 0 ? NULL : memmem(at, left, begin, sizeof begin - 1);
        const uint8_t *last =
            first == NULL ? NULL : memmem(first, left - (size_t)(first - at), end, sizeof end - 1);
        if (last == NULL) {
            break;
        }
        last += sizeof end - 1;
        const size_t size = (size_t)(last - first);
        char found[IDENTITY_PIN_BYTES];
        const int der_size = size + 2 > IDENTITY_CERTIFICATE_BYTES
                                 ? -1
                                 : wc_CertPemToDer(first, (int)size, der,
                                                   (int)IDENTITY_CERTIFICATE_BYTES, CERT_TYPE);
        if (der_size > 0) {
            identity_sha256(bytes_of(der, (size_t)der_size), found);
            status = pin == NULL || strcmp(pin, found) == 0 ? 0 : STATUS_IDENTITY;
        }
        if (status == 0) {
            memcpy(out_pem, first, size);
            memcpy(out_pem + size, "\n", 2);
            if (out_pin != NULL) {
                memcpy(out_pin, found, sizeof found);
            }
        }
        left -= (size_t)(last - at);
        at = last;
    }
    free(der);
    return status;
}
