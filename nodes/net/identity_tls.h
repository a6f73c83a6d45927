/* Who may say what: an authority of our own, the certificates it signs, and names read from them.
 *
 * Keys are Ed25519 (RFC 8410), certificates X.509 v3, files PEM; keys are written 0600, and no existing
 * key is overwritten unless told so. Authorities and public keys of others may be ECDSA too. In a subject, CN is the user and each O a group, as
 * Kubernetes reads them:
 *
 *   an edge node   CN=system:node:<name>   O=system:nodes     clientAuth
 *   an admin       CN=admin                O=system:masters   clientAuth
 *   a cloudcore    CN=<name>               O=kelp:cloudcores  serverAuth, clientAuth, SANs
 *
 * source: KubeEdge cloud/pkg/cloudhub/servers/httpserver/certificate and pkg/security/certs. Differs:
 * the name in the CN is checked, there is no CN that is always accepted.
 */
#ifndef KELP_NODES_NET_IDENTITY_TLS_H
#define KELP_NODES_NET_IDENTITY_TLS_H

#include "schemas/bytes.h"
#include "schemas/limits.h"
#include "schemas/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IDENTITY_REASON_BYTES   512u
#define IDENTITY_NODE_PREFIX    "system:node:"
#define IDENTITY_NODE_GROUP     "system:nodes"
#define IDENTITY_MASTER_GROUP   "system:masters"
#define IDENTITY_MONITORING_GROUP "system:monitoring"
#define IDENTITY_CLOUD_GROUP    "kelp:cloudcores"
/* What wolfSSL can write into a subject; other people's certificates may hold more. A node's name has
 * therefore at most 51 bytes when its certificate is made here. */
#define IDENTITY_ISSUE_NAME_BYTES 63u
#define IDENTITY_ISSUE_GROUPS     4u
#define IDENTITY_AUTHORITY_DAYS 36500 /* as KubeEdge's */
#define IDENTITY_SERVER_DAYS    36500
#define IDENTITY_CLIENT_DAYS    365

/* The node a common name speaks for: what follows "system:node:", if that is a DNS subdomain (RFC 1123:
 * lower case letters, digits, '-' and '.', each label begins and ends with a letter or digit).
 *
 *   returns  pointer into common_name; NULL: not a node
 */
const char *identity_find_node(const char *common_name);

/* Is this a DNS subdomain of 1 .. LIMIT_NAME_BYTES bytes? */
bool identity_name_valid(const char *name);

/* What a certificate shall say. All pointers borrowed. */
struct identity_request {
    const char *common_name;    /* 1 .. IDENTITY_ISSUE_NAME_BYTES bytes */
    const char *const *groups;  /* each becomes an O; up to IDENTITY_ISSUE_GROUPS */
    size_t groups_count;
    const char *const *sans;    /* DNS names (also "*.example") and addresses; LIMIT_IDENTITY_SANS */
    size_t sans_count;
    bool server;                /* extended key usage serverAuth */
    bool client;                /* extended key usage clientAuth */
    int64_t valid_from_s;       /* seconds since 1970 */
    int64_t valid_until_s;
};

/* Of which kind the keys are that this process makes from now on: "ed25519", as it begins, or "ecdsa" (P-256), which is
 * dearer by a half for both ends of a handshake, and which every TLS client and every release of ours knows.
 *   answers   false: neither */
bool identity_keys_are(const char *kind);

/* Create an authority: DIRECTORY/ca.crt and DIRECTORY/ca.key. The directory is created (0700).
 *
 *   force    overwrite what is there; otherwise existing files are kept and the answer is IDENTITY_KEPT
 *   reason   IDENTITY_REASON_BYTES bytes, receives a sentence when negative
 *   answers  IDENTITY_MADE, IDENTITY_KEPT; -errno; STATUS_MALFORMED: bad name or files of which only
 *            one is there
 */
enum identity_answer {
    IDENTITY_MADE = 1,
    IDENTITY_KEPT = 2, /* both files were there already: nothing changed */
};
int identity_authority_create(const char *directory, const char *common_name, int64_t valid_from_s,
                              int64_t valid_until_s, bool force, char *reason);

/* Make a key and a certificate signed by the authority in AUTHORITY_DIRECTORY: OUT_DIRECTORY/NAME.crt,
 * NAME.key, and ca.crt beside them. The key is durable before the certificate appears.
 *
 *   answers  as above; also -ENOENT without an authority, STATUS_MALFORMED for a bad SAN or name,
 *            STATUS_TOO_LARGE beyond a limit
 */
int identity_issue(const char *authority_directory, const struct identity_request *request,
                   const char *out_directory, const char *name, bool force, char *reason);

/* -- a cloudcore that joins: its key stays with it, its certificate comes over the wire ----------- */

#define IDENTITY_PIN_BYTES         65u           /* sha256 in hexadecimal, terminated */
#define IDENTITY_CERTIFICATE_BYTES (16u * 1024u) /* one certificate in PEM, terminated */
#define IDENTITY_PUBLIC_BYTES      1024u         /* a public key in PEM, terminated */

void identity_sha256(struct bytes data, char out[IDENTITY_PIN_BYTES]);

/* The name of a public key: sha256 of it as a SubjectPublicKeyInfo in DER, what
 * `openssl x509 -pubkey -noout | openssl pkey -pubin -outform der | sha256sum` prints.
 *   key   DER, of ECDSA or Ed25519, or the 32 bytes of Ed25519 alone; of another kind its bytes are hashed as
 *         they are */
void identity_key_sha256(struct bytes key, char out[IDENTITY_PIN_BYTES]);
/* The same of a public key in PEM.
 *   answers   0; STATUS_MALFORMED: it is no Ed25519 or ECDSA public key */
int identity_key_of_pem(const char *public_key, char out[IDENTITY_PIN_BYTES]);
/* The same of the key in the first certificate of a file in PEM.
 *   answers   0; STATUS_MALFORMED: it holds no certificate */
int identity_key_of_file(const char *path, char out[IDENTITY_PIN_BYTES]);

/* Whether the first certificate of a file in PEM is for this DNS name or address: one of its alternative names, "*.x"
 * for any one label before ".x", or its common name when it has none (RFC 6125). False, too, when there is none. */
bool identity_file_is_for(const char *path, const char *name);

/* Of several certificates in PEM, the one whose sha256 (of its DER form) is this.
 *
 *   pin       NULL: the first one
 *   out_pem   IDENTITY_CERTIFICATE_BYTES, receives it alone; may be written to unless 0
 *   out_pin   IDENTITY_PIN_BYTES, receives its sha256; may be NULL
 *   answers   0; STATUS_IDENTITY: none of them is; STATUS_MALFORMED: there is none at all
 */
int identity_pin(struct bytes pem, const char *pin, char *out_pem, char *out_pin);

/* Make a key, DIRECTORY/NAME.key; one that is there is used.
 *
 *   out_public  IDENTITY_PUBLIC_BYTES, receives its public half, PEM
 *   reason      IDENTITY_REASON_BYTES bytes, receives a sentence when not 0
 *   answers     0; -errno; STATUS_MALFORMED: what is there is no such key
 */
int identity_key_create(const char *directory, const char *name, char *out_public, char *reason);

/* Sign somebody else's public key.
 *
 *   authority, authority_key   files of the authority
 *   out_pem                    IDENTITY_CERTIFICATE_BYTES, receives the certificate
 *   answers                    0; as identity_issue
 */
int identity_sign(const char *authority, const char *authority_key,
                  const struct identity_request *request, const char *public_key, char *out_pem,
                  char *reason);

/* The node that a certificate file speaks for.
 *
 *   path      PEM; borrowed
 *   node      LIMIT_NAME_BYTES + 1 bytes, receives the name; untouched unless 0
 *   reason    IDENTITY_REASON_BYTES bytes, receives a sentence when not 0
 *   answers   0; STATUS_MALFORMED: no certificate there; STATUS_IDENTITY: of somebody else
 */
int identity_node_of_file(const char *path, char *node, char *reason);

#endif
