#include "nodes/tag_tls.h"

#include <sys/random.h>

#include <wolfssl/options.h>

#include <wolfssl/wolfcrypt/hmac.h>

#include "schemas/check.h"

static void hash(const char *secret, struct bytes key, struct bytes content, uint8_t out[32])
{
    /* HMAC with an empty key is legal, but this library refuses one: a constant stands for it. */
    if (secret[0] == 0) {
        secret = "kelp";
    }
    uint8_t size[8];
    put_le64(size, key.size);
    Hmac hmac;
    CHECK(wc_HmacInit(&hmac, NULL, INVALID_DEVID) == 0);
    CHECK(wc_HmacSetKey(&hmac, WC_SHA256, (const uint8_t *)secret, (word32)strlen(secret)) == 0);
    CHECK(wc_HmacUpdate(&hmac, size, sizeof size) == 0);
    if (key.size > 0) {
        CHECK(wc_HmacUpdate(&hmac, key.data, (word32)key.size) == 0);
    }
    if (content.size > 0) {
        CHECK(wc_HmacUpdate(&hmac, content.data, (word32)content.size) == 0);
    }
    CHECK(wc_HmacFinal(&hmac, out) == 0);
    wc_HmacFree(&hmac);
}

struct tag tag_make(const char *cluster, struct bytes key, struct bytes content)
{
    uint8_t out[32];
    hash(cluster, key, content, out);
    return (struct tag){.low = get_le64(out), .high = get_le64(out + 8)};
}

void tag_owner(const char *role, const char *name, uint8_t out[16])
{
    uint8_t whole[32];
    hash("kelp owner", bytes_text(role), bytes_text(name), whole);
    memcpy(out, whole, 16);
}

void tag_random(void *buffer, size_t size)
{
    uint8_t *at = buffer;
    while (size > 0) {
        const size_t wanted = size > 256 ? 256 : size; /* never cut short by a signal up to here */
        CHECK(getrandom(at, wanted, 0) == (ssize_t)wanted);
        at += wanted;
        size -= wanted;
    }
}
