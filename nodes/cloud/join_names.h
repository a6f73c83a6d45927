/* What the certificate of a cloudcore that joins may be for.
 *
 * A token lets somebody in whom nobody looks at. Its certificate must not pass for another member where clients,
 * edges or the other cloudcores dial that one. So it is for what is asked for, and only for:
 *
 *   - what the token names (`kelp token create --san`): whoever made it has decided, also about a name that all
 *     members share
 *   - the host of the address at which the others are to reach it, unless that is another replica's: a member, one
 *     of the configuration file, one that is on its way in, or whom the certificate of this replica is for
 *     A name with `*` in it is for many: only a token says so
 *   - this machine, for whoever is on it: localhost, 127.0.0.0/8, ::1
 *
 * Pure.
 */
#ifndef KELP_NODES_CLOUD_JOIN_NAMES_H
#define KELP_NODES_CLOUD_JOIN_NAMES_H

#include "nodes/cloud/members.h"

#define JOIN_NAMES_MAX           8u
#define JOIN_NAMES_MESSAGE_BYTES 640u

struct join_names {
    const struct members *members; /* borrowed, like the rest */
    uint64_t replica;              /* that joins */
    const char *host;              /* of its address */
    const char *allowed;           /* by the token, commas between them; "": none */
    const char *certificate;       /* file of this replica's, or NULL */
};

/* Whether one name may be in it.
 *   message   JOIN_NAMES_MESSAGE_BYTES bytes, receives a sentence when not */
bool join_names_allow(const struct join_names *names, const char *san, char *message);

#endif
