/* A cloudcore asked over HTTPS by a command of kelp, with what a kubeconfig says: where, whom to trust, who
 * we are. Blocking: a command line waits.
 *
 *   1. the kubeconfig is found as kubectl finds it: --kubeconfig, else the first file of $KUBECONFIG that is
 *      there, else ~/.kube/config; its current context, or the one that is asked for, names cluster and user
 *   2. remote_call: connect, ask, wait for the whole answer. Who does not get one is told which other contexts
 *      lead to the same cluster
 *
 * Certificates may be in the kubeconfig (..-data) or in files beside it. Tokens, passwords and plugins are
 * not for cloudcores: the identity is a client certificate.
 */
#ifndef KELP_NODES_CLI_REMOTE_H
#define KELP_NODES_CLI_REMOTE_H

#include "nodes/config.h"
#include "nodes/net/link_tls.h"
#include "nodes/options.h"
#include "schemas/bytes.h"

#define REMOTE_EXIT_UNREACHABLE 3
#define REMOTE_EXIT_REFUSED     5
#define REMOTE_EXIT_TIMEOUT     124
#define REMOTE_REASON_BYTES     CONFIG_REASON_BYTES

struct remote; /* opaque, as libuv is behind it */

/* Ready to ask.
 *
 *   kubeconfig  NULL: found as above
 *   context     of the kubeconfig; NULL: its current one
 *   server      https://host:port instead of what the kubeconfig says; NULL: that
 *   out         given to remote_close; untouched unless 0
 *   reason      REMOTE_REASON_BYTES bytes, receives a sentence when not 0
 *   answers     0; OPTIONS_EXIT_USAGE: the kubeconfig, or what it names, cannot be used
 */
int remote_open(const char *kubeconfig, const char *context, const char *server,
                struct remote **out, char *reason);
/* The same without a kubeconfig.
 *   files   borrowed during the call */
int remote_open_files(const char *server, const struct link_files *files, enum link_role role,
                      struct remote **out, char *reason);
void remote_close(struct remote *remote);
/* "https://host:port". Lent until remote_close. */
const char *remote_server(const struct remote *remote);
/* The certificates of authorities that are trusted, PEM. Lent until remote_close; empty: unknown. */
struct bytes remote_authority(const struct remote *remote);

struct remote_answer {
    uint32_t code; /* HTTP */
    char *body;    /* terminated; given: the caller frees it; NULL unless 0 was answered */
    size_t size;
};
/* Ask.
 *
 *   target    with its query, percent-encoded
 *   body      JSON; empty: none
 *   answers   0: there is an answer, whatever its code; REMOTE_EXIT_UNREACHABLE, REMOTE_EXIT_TIMEOUT:
 *             `reason` is a sentence
 */
int remote_call(struct remote *remote, const char *method, const char *target, struct bytes body,
                uint32_t patience_ms, struct remote_answer *out, char *reason);

/* GET something long, piece by piece; it ends when none has come for a minute.
 *
 *   patience_ms  and after so long, in all; 0: whenever it is whole
 *   on_piece  called with each piece of the body of a 200, borrowed during the call
 *   out       body: of an answer that is not 200; given, NULL unless 0 was answered
 *   answers   0: the answer is whole; REMOTE_EXIT_UNREACHABLE, also when it was cut off; REMOTE_EXIT_TIMEOUT */
int remote_stream(struct remote *remote, const char *target, uint32_t patience_ms,
                  void (*on_piece)(void *context, struct bytes piece), void *context,
                  struct remote_answer *out, char *reason);

/* Milliseconds of a clock that only goes forward; and since 1970. */
uint64_t remote_mono_ms(void);
/* Pause: between two questions. */
void remote_pause(uint32_t ms);

#endif
