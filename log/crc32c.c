#include "log/crc32c.h"

#include <stdbool.h>
#include <string.h>

#define POLYNOMIAL 0x82f63b78u /* reflected */

static uint32_t table[8][256];
static uint32_t (*implementation)(uint32_t seed, const void *data, size_t size);

static void table_fill(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc >> 1) ^ ((crc & 1u) != 0 ? POLYNOMIAL : 0u);
        }
        table[0][byte] = crc;
    }
    for (uint32_t byte = 0; byte < 256; byte++) {
        for (int k = 1; k < 8; k++) {
            table[k][byte] = (table[k - 1][byte] >> 8) ^ table[0][table[k - 1][byte] & 0xffu];
        }
    }
}

/* Slicing by 8 (Intel, 2006): eight table look-ups per eight bytes, independent of each other. */
static uint32_t by_table(uint32_t seed, const void *data, size_t size)
{
    const uint8_t *p = data;
    uint32_t crc = ~seed;
    for (; size >= 8; size -= 8, p += 8) {
        uint64_t word;
        memcpy(&word, p, sizeof word);
        word ^= crc;
        crc = table[7][word & 0xffu] ^ table[6][(word >> 8) & 0xffu] ^
              table[5][(word >> 16) & 0xffu] ^ table[4][(word >> 24) & 0xffu] ^
              table[3][(word >> 32) & 0xffu] ^ table[2][(word >> 40) & 0xffu] ^
              table[1][(word >> 48) & 0xffu] ^ table[0][word >> 56];
    }
    for (; size > 0; size--, p++) {
        crc = (crc >> 8) ^ table[0][(crc ^ *p) & 0xffu];
    }
    return ~crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t by_instruction(uint32_t seed, const void *data,
                                                                 size_t size)
{
    const uint8_t *p = data;
    uint64_t crc = ~seed;
    for (; size >= 8; size -= 8, p += 8) {
        uint64_t word;
        memcpy(&word, p, sizeof word);
        crc = __builtin_ia32_crc32di(crc, word);
    }
    uint32_t low = (uint32_t)crc;
    for (; size > 0; size--, p++) {
        low = __builtin_ia32_crc32qi(low, *p);
    }
    return ~low;
}

static bool instruction_there(void)
{
    return __builtin_cpu_supports("sse4.2") != 0;
}
#elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>
static uint32_t by_instruction(uint32_t seed, const void *data, size_t size)
{
    const uint8_t *p = data;
    uint32_t crc = ~seed;
    for (; size >= 8; size -= 8, p += 8) {
        uint64_t word;
        memcpy(&word, p, sizeof word);
        crc = __crc32cd(crc, word);
    }
    for (; size > 0; size--, p++) {
        crc = __crc32cb(crc, *p);
    }
    return ~crc;
}

static bool instruction_there(void)
{
    return true;
}
#else
static uint32_t by_instruction(uint32_t seed, const void *data, size_t size)
{
    return by_table(seed, data, size);
}

static bool instruction_there(void)
{
    return false;
}
#endif

/* Before main: readers in the pool need no lock. */
__attribute__((constructor)) static void choose(void)
{
    table_fill();
    implementation = instruction_there() ? by_instruction : by_table;
}

uint32_t crc32c(uint32_t seed, const void *data, size_t size)
{
    return implementation(seed, data, size);
}

uint32_t crc32c_table(uint32_t seed, const void *data, size_t size)
{
    return by_table(seed, data, size);
}
