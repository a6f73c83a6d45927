/* CRC-32C (Castagnoli), as iSCSI and ext4 use it; by the processor's instruction where there is
 * one, else by tables.
 */
#ifndef KELP_LOG_CRC32C_H
#define KELP_LOG_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Continue a checksum over more bytes: crc32c(crc32c(s, a), b) is that of a followed by b.
 *
 *   seed       0 to begin, or what an earlier call returned
 */
uint32_t crc32c(uint32_t seed, const void *data, size_t size);

/* The same by tables, whatever the processor; for the test that compares the two. */
uint32_t crc32c_table(uint32_t seed, const void *data, size_t size);

#endif
