#include "replication/manifest.h"

#include "schemas/check.h"

#include <stdlib.h>

#define MANIFEST_MAGIC        0x4d504c4bu /* "KLPM" */
#define MANIFEST_HEADER_BYTES 32u
#define MANIFEST_FILE_BYTES   16u /* before the name */

static size_t padded(size_t size)
{
    return (size + 7) & ~(size_t)7;
}

/* A name that can be joined to a directory without leaving it. */
static bool name_is_plain(const char *name, size_t size)
{
    if (size == 0 || size > LIMIT_MANIFEST_NAME_BYTES || name[0] == '.') {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        const unsigned char c = (unsigned char)name[i];
        if (c <= ' ' || c == '/' || c == '\\' || c >= 127) {
            return false;
        }
    }
    return true;
}

size_t manifest_bytes(const struct manifest *manifest)
{
    if (manifest->file_count > LIMIT_MANIFEST_FILES) {
        return 0;
    }
    size_t bytes = MANIFEST_HEADER_BYTES;
    for (uint32_t i = 0; i < manifest->file_count; i++) {
        const char *name = manifest->files[i].name;
        const size_t size = strnlen(name, sizeof manifest->files[i].name);
        if (!name_is_plain(name, size)) {
            return 0;
        }
        bytes += MANIFEST_FILE_BYTES + padded(size);
    }
    return bytes;
}

void manifest_encode(const struct manifest *manifest, uint8_t *out)
{
    CHECK(manifest_bytes(manifest) > 0);

    put_le32(out, MANIFEST_MAGIC);
    put_le32(out + 4, MANIFEST_VERSION);
    put_le64(out + 8, manifest->epoch);
    put_le64(out + 16, manifest->applied_index);
    put_le32(out + 24, manifest->file_count);
    put_le32(out + 28, 0);
    out += MANIFEST_HEADER_BYTES;
    for (uint32_t i = 0; i < manifest->file_count; i++) {
        const struct manifest_file *file = &manifest->files[i];
        const size_t size = strlen(file->name);
        put_le64(out, file->size_bytes);
        put_le32(out + 8, file->crc32c);
        put_le32(out + 12, (uint32_t)size);
        memcpy(out + MANIFEST_FILE_BYTES, file->name, size);
        memset(out + MANIFEST_FILE_BYTES + size, 0, padded(size) - size);
        out += MANIFEST_FILE_BYTES + padded(size);
    }
}

int manifest_decode(struct bytes bytes, struct manifest *out)
{
    if (bytes.size < MANIFEST_HEADER_BYTES || get_le32(bytes.data) != MANIFEST_MAGIC) {
        return STATUS_MALFORMED;
    }
    const uint32_t version = get_le32(bytes.data + 4);
    if (version != MANIFEST_VERSION) {
        return version > MANIFEST_VERSION ? STATUS_FOREIGN : STATUS_MALFORMED;
    }
    const uint32_t count = get_le32(bytes.data + 24);
    if (count > LIMIT_MANIFEST_FILES || get_le32(bytes.data + 28) != 0) {
        return STATUS_MALFORMED;
    }

    struct manifest_file *files = NULL;
    if (count > 0) {
        files = calloc(count, sizeof *files);
        if (files == NULL) {
            return -ENOMEM;
        }
    }
    const uint8_t *at = bytes.data + MANIFEST_HEADER_BYTES;
    size_t left = bytes.size - MANIFEST_HEADER_BYTES;
    for (uint32_t i = 0; i < count; i++) {
        if (left < MANIFEST_FILE_BYTES) {
            goto malformed;
        }
        const uint32_t size = get_le32(at + 12);
        if (size > LIMIT_MANIFEST_NAME_BYTES || left < MANIFEST_FILE_BYTES + padded(size) ||
            !name_is_plain((const char *)at + MANIFEST_FILE_BYTES, size)) {
            goto malformed;
        }
        for (size_t k = size; k < padded(size); k++) {
            if (at[MANIFEST_FILE_BYTES + k] != 0) {
                goto malformed;
            }
        }
        files[i].size_bytes = get_le64(at);
        files[i].crc32c = get_le32(at + 8);
        memcpy(files[i].name, at + MANIFEST_FILE_BYTES, size);
        at += MANIFEST_FILE_BYTES + padded(size);
        left -= MANIFEST_FILE_BYTES + padded(size);
    }
    if (left != 0) {
        goto malformed;
    }

    *out = (struct manifest){
        .epoch = get_le64(bytes.data + 8),
        .applied_index = get_le64(bytes.data + 16),
        .file_count = count,
        .files = files,
    };
    return 0;

malformed:
    free(files);
    return STATUS_MALFORMED;
}

void manifest_free(struct manifest *manifest)
{
    free(manifest->files);
    manifest->files = NULL;
    manifest->file_count = 0;
}
