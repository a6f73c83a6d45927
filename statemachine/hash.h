/* Where a key is looked for in a table in memory. */
#ifndef KELP_STATEMACHINE_HASH_H
#define KELP_STATEMACHINE_HASH_H

#include "schemas/bytes.h"

/* Of this process, and told to nobody: users choose names, and none shall meet by design. */
struct hash_secret {
    uint64_t words[2];
};

/* A new one, of the system's randomness. */
struct hash_secret hash_secret_new(void);
/* SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012). Nothing that is told or stored may
 * hang on it: it differs from process to process. */
uint64_t hash_of(const struct hash_secret *secret, struct bytes key);

#endif
