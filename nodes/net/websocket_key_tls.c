/* The proof of a WebSocket handshake: base64 of sha1 of the key and a constant (RFC 6455 section 4.2.2).
 * Its own file, because the digest is wolfSSL's. */
#include "nodes/net/websocket.h"

#include "schemas/check.h"

#include <stdio.h>

/* Not sorted: options.h says how the others were built. */
/* clang-format off */
#include <wolfssl/options.h>
#include <wolfssl/wolfcrypt/sha.h>
#include <wolfssl/wolfcrypt/hash.h>
#include <wolfssl/wolfcrypt/coding.h>
/* clang-format on */

void websocket_accept_key(const char *key, char *out)
{
    char text[128];
    const int size = snprintf(text, sizeof text, "%.60s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
    uint8_t digest[WC_SHA_DIGEST_SIZE];
    CHECK(wc_ShaHash((const byte *)text, (word32)size, digest) == 0);
    word32 out_size = 29;
    CHECK(Base64_Encode_NoNl(digest, sizeof digest, (byte *)out, &out_size) == 0);
    CHECK(out_size == 28);
    out[28] = '\0';
}
