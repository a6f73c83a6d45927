/* A new cloudcore joins with a token: `kelp token create`, `kelp cluster join`.
 *
 * A token is kelp-ID.SECRET.PIN: ID names the Secret kube-system/kelp-join-ID, which holds the sha256 of SECRET,
 * when it ends and how often it may still be used, and nothing that would let a reader join. PIN is the sha256 of
 * our authority's certificate, so that whoever has the token knows whom it talks to.
 *
 *   GET  /kelp/v1/authority   open to all: the certificates of our authority, PEM; checked against PIN
 *   POST /kelp/v1/join        {"token": "ID.SECRET", "replica": 4, "address": "10.0.0.4:10010",
 *                             "sans": ["10.0.0.4"], "key": public key in PEM}
 *
 * What is done with the second: the token is looked up, here first, then by a fresh read; the names are compared
 * with what it allows (join_names.h); one use of it is taken, by a write that fails when another was faster; the key is signed as the certificate of cloudcore-4, which takes tls.authorityKey;
 * the replica is added to the group as a standby, and its key noted (core_keys.c): it is shut out when that replica is
 * removed, though it never started. Answers, all with a "message":
 *
 *   200  {"certificate": PEM, "members": [{"replica", "address"}], "cluster"}
 *   400 malformed, 403 no such token, or it is over, or not for these names, 409 the number is taken, 501 this one does not sign,
 *   429, 503, 504
 *
 * A clock decides when a token ends: the later one of this replica's and of the newest change that the group has
 * agreed on, which is the leader's.
 */
#ifndef KELP_NODES_CLOUD_JOIN_DOOR_H
#define KELP_NODES_CLOUD_JOIN_DOOR_H

#include "nodes/cloud/api.h"
#include "nodes/cloud/core.h"
#include "nodes/net/http.h"

struct join_door {
    struct cloud_core *core; /* these are borrowed until the last exchange is answered */
    struct api *api;
    const char *authority; /* file with the certificates */
    const char
        *authority_key; /* file with the key of the first of them; "": this replica does not sign */
    const char *certificate; /* file with this replica's own */
    uint32_t joining;        /* that have a token, LIMIT_JOINS at most */
    uint32_t guessing;       /* whose token is looked for elsewhere, LIMIT_JOIN_GUESSES at most */
};

/* Serve a request if it is for this door.
 *   returns   whether it was; the exchange is answered now or later then */
bool join_door_serve(struct join_door *door, struct http_exchange *exchange);

#endif
