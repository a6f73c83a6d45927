/* The keys of cloudcores: which ones members have, and which are of members that were removed.
 *
 * A certificate is good for as long as its authority says; that the group has let a member go, it does not know.
 * So the group itself remembers the public keys that it has seen its members use, and those of removed ones are
 * heard nowhere any more (nodes/cloud/core_keys.c, nodes/cloud/peers.h).
 *
 * A key is named by the sha256 of its public half. Nothing takes a key that is out for a member's again but a
 * record that says so. LIMIT_MEMBER_KEYS are remembered, of members and removed ones together; beyond, what has
 * been out for longest goes, and is taken for any key again.
 */
#ifndef KELP_STATEMACHINE_MEMBER_KEY_H
#define KELP_STATEMACHINE_MEMBER_KEY_H

#include "statemachine/machine.h"

#define MEMBER_KEY_BYTES 65u /* sha256 in hexadecimal, terminated */
#define MEMBER_KEY_NONE  1

struct member_key_row {
    char
        key[MEMBER_KEY_BYTES]; /* "": of a replica that was removed before any key of it was seen */
    uint64_t replica;
    uint64_t index; /* of the log entry that said so */
    int64_t time_ms;
    bool out;
};

/* One key.
 *   key       hexadecimal
 *   answers   STATUS_OK; MEMBER_KEY_NONE: nothing is known of it; negative: reading failed */
int member_key_get(struct store_reader *reader, const char *key, struct member_key_row *out);
/* All, in the order of the keys.
 *   out       LIMIT_MEMBER_KEYS of them
 *   answers   STATUS_OK; negative: reading failed */
int member_key_list(struct store_reader *reader, struct member_key_row *out, uint32_t *out_count);
/* Is this the sha256 of something, in hexadecimal? */
bool member_key_valid(const char *key);

#endif
