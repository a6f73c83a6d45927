/* The Kubernetes-compatible REST API: requests in, responses out, no sockets.
 *
 * kubectl and every client library of Kubernetes talk to this door. It parses and joins JSON, so that
 * nothing below nodes/ has to: a wish leaves as an OBJECT_PUT record with a typed envelope, and wish,
 * fact and verdict come back joined as one object. spec/kubernetes-api.md says what is served.
 *
 * A request becomes an api_call. It is answered once, later or from inside api_request, through the
 * client's functions: a whole answer, or a stream (watch). The call is gone after `answer` or `end`.
 *
 *      api_request ---> answer
 *                 \---> begin, chunk ..., end        api_call_writable, api_call_gone come back in
 *
 * The owner calls api_changed after each turn in which the state may have moved (it feeds the watches)
 * and api_tick about once a second (it ends them, and runs nothing else).
 *
 * Who may what: the identity is that of the TLS client certificate. No certificate: 401. Group
 * system:masters: everything. Others: 403. Impersonation is refused. /version is open.
 * Probes and metrics are the port's (api_server.h).
 */
#ifndef KELP_NODES_CLOUD_API_H
#define KELP_NODES_CLOUD_API_H

#include "nodes/cloud/backend.h"
#include "nodes/net/http_message.h"

#define API_VERSION_TEXT "v1.32.0-kelp"

struct api;
struct api_call;

/* Who asks. All borrowed during api_request. */
struct api_identity {
    bool verified; /* a certificate of our authority was shown */
    const char *user;
    const char *const *groups;
    uint32_t group_count;
};

/* Where the answer goes. `client` is what was given to api_request. */
struct api_client_events {
    void (*header)(void *client, const char *name, const char *value); /* before answer or begin */
    /* A whole answer; the call is gone. body borrowed during the call. */
    void (*answer)(void *client, uint32_t status, const char *content_type, struct bytes body);
    /* A stream. STATUS_CLOSING: the client is gone, `end` follows. */
    int (*begin)(void *client, uint32_t status, const char *content_type);
    /* One piece. STATUS_FULL: nothing taken, the owner calls api_call_writable; STATUS_CLOSING. */
    int (*chunk)(void *client, struct bytes bytes);
    /* The stream is over; the call is gone. whole false: cut the connection. */
    void (*end)(void *client, bool whole);
};

/* Build the door over a backend.
 *
 *   backend  borrowed until api_close
 *   answers  the door, given to api_close
 */
struct api *api_open(const struct backend *backend);

/* This replica is about to stop: no new watch begins (503 with Retry-After: clients come
 * back, elsewhere). Everything else is served. */
void api_leave(struct api *api);
/* End all watches, in good order: clients go on at another replica from where they were. */
void api_end_watches(struct api *api);
/* End all watches and refuse what comes (503). Calls that wait for the backend are answered when it calls
 * back, so the backend must outlive them: api_close only after api_idle says so. */
void api_stop(struct api *api);
bool api_idle(const struct api *api);
void api_close(struct api *api);

/* Serve one request.
 *
 *   request, identity  borrowed during the call
 *   events, client     borrowed until the answer
 *   returns            the call, lent until the answer; NULL: it was answered already
 */
struct api_call *api_request(struct api *api, const struct http_request *request,
                             const struct api_identity *identity,
                             const struct api_client_events *events, void *client);

/* A chunk fits again. */
void api_call_writable(struct api_call *call);
/* The client has gone away: the call ends soon, through `answer` or `end` as ever. */
void api_call_gone(struct api_call *call);

/* The state may have moved: feed the watches, and read on in lists. Bounded work; answers whether there is more
 * to do. */
bool api_changed(struct api *api);
/* Time has passed. */
void api_tick(struct api *api);

/* Have lists answered 429 that have not begun to be read while clients have not taken LIMIT_API_ANSWERS_BYTES:
 * many may be let in at once, and each becomes up to LIMIT_API_LIST_BYTES.
 *
 *   answer_bytes  what they have not taken, asked with owner before a list begins; NULL, as at first: nobody
 *                 is asked any more */
void api_bound_answers(struct api *api, size_t (*answer_bytes)(void *owner), void *owner);

/* Watches open, and their unsent bytes; lists that are being read or wait for it: for metrics and tests. */
uint32_t api_watch_count(const struct api *api);
size_t api_watch_bytes(const struct api *api);
uint32_t api_list_count(const struct api *api);

/* -- records that the core makes of JSON ---------------------------------------------------------- */

/* A Node object for an edge that says Hello and has none: Record bytes of an OBJECT_PUT (create).
 *
 *   labels   what the node says of itself; may be empty
 *   out      lent until codec_reset
 *   answers  0; STATUS_MALFORMED: not a node name
 */
int api_build_node(const struct backend *backend, struct codec *codec, const char *name,
                   const struct pair *labels, uint32_t label_count, struct bytes *out);

/* A Namespace object: Record bytes of an OBJECT_PUT (create). Parameters and answers as above. */
int api_build_namespace(const struct backend *backend, struct codec *codec, const char *name,
                        struct bytes *out);

/* Bind a pod: Record bytes of an OBJECT_PUT (update) that sets spec.nodeName, with the row's version as
 * precondition.
 *
 *   pod      its row, as read
 *   answers  0; STATUS_MALFORMED: not a pod, or it is bound or being deleted
 */
int api_build_binding(const struct backend *backend, struct codec *codec,
                      const struct backend_row *pod, const char *node, struct bytes *out);

/* An Event about a pod, from the scheduler: Record bytes of an OBJECT_PUT (create). Its name is a function
 * of pod, reason and message: one that was told already is refused as existing.
 *
 *   pod      its row, as read
 *   type     "Normal", "Warning"
 *   answers  0; STATUS_MALFORMED: not a pod
 */
int api_build_event(const struct backend *backend, struct codec *codec,
                    const struct backend_row *pod, const char *type, const char *reason,
                    const char *message, struct bytes *out);

/* What the scheduler must know of a pod that the envelope does not say: spec.nodeSelector holds on the
 * node's labels, and each NoSchedule/NoExecute taint of the node is tolerated, spec.unschedulable is
 * not set, and the node does not report DiskPressure (both tolerated under their taints' names,
 * node.kubernetes.io/unschedulable and node.kubernetes.io/disk-pressure).
 *
 *   pod, node  rows of a pod and a node
 *   answers    true: the node may be chosen; false with out_why, a short text lent for ever
 */
bool api_pod_fits(const struct backend_row *pod, const struct backend_row *node,
                  const char **out_why);

#endif
