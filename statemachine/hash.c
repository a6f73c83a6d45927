#include "statemachine/hash.h"

#include <sys/random.h>

#include "schemas/check.h"

struct hash_secret hash_secret_new(void)
{
    struct hash_secret secret;
    CHECK(getrandom(&secret, sizeof secret, 0) == sizeof secret);
    return secret;
}

static uint64_t rotate(uint64_t word, unsigned by)
{
    return word << by | word >> (64 - by);
}

static void sip_round(uint64_t v[static 4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] = rotate(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] = rotate(v[2], 32);
}

uint64_t hash_of(const struct hash_secret *secret, struct bytes key)
{
    const uint64_t *words = secret->words;
    uint64_t v[4] = {words[0] ^ 0x736f6d6570736575u, words[1] ^ 0x646f72616e646f6du,
                     words[0] ^ 0x6c7967656e657261u, words[1] ^ 0x7465646279746573u};
    size_t at = 0;
    for (; key.size - at >= 8; at += 8) {
        const uint64_t word = get_le64(key.data + at);
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
    }
    uint64_t last = (uint64_t)key.size << 56;
    for (unsigned shift = 0; at < key.size; at++, shift += 8) {
        last |= (uint64_t)key.data[at] << shift;
    }
    v[3] ^= last;
    sip_round(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    sip_round(v);
    sip_round(v);
    sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}
