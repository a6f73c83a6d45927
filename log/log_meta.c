/* The small things beside the frames.
 *
 * `meta` holds two copies, 4096 bytes apart, written one after the other with a sync after each, so
 * a crash tears at most one and rot in one loses nothing:
 *
 *      0   8     magic "KELPMETA"
 *      8   u32   format version, SEGMENT_VERSION
 *     12   u32   crc32c of bytes 0 .. 11 and 16 .. 303
 *     16   16    owner
 *     32   u64   version: of the higher of two good copies is the content
 *     40   u32   size of the content
 *     44   u32   0
 *     48   256   content
 *
 * A named file is `NAME.file`: magic "KELPFILE", u32 size, u32 crc32c of the content, content.
 */
#include "log/log_inner.h"

#include "log/crc32c.h"
#include "schemas/check.h"
#include "schemas/status.h"

#include <stdio.h>
#include <stdlib.h>

#define META_HEADER_BYTES 48u
#define META_COPY_BYTES   (META_HEADER_BYTES + LIMIT_LOG_META_BYTES)
#define FILE_HEADER_BYTES 16u
static_assert(META_COPY_BYTES <= 512, "one copy is one sector: written whole or not at all");

static const uint8_t meta_magic[8] = {'K', 'E', 'L', 'P', 'M', 'E', 'T', 'A'};
static const uint8_t file_magic[8] = {'K', 'E', 'L', 'P', 'F', 'I', 'L', 'E'};

static uint32_t meta_crc(const uint8_t copy[META_COPY_BYTES])
{
    return crc32c(crc32c(0, copy, 12), copy + 16, META_COPY_BYTES - 16);
}

static void meta_encode(const struct log *log, uint8_t out_copy[META_COPY_BYTES])
{
    memset(out_copy, 0, META_COPY_BYTES);
    memcpy(out_copy, meta_magic, sizeof meta_magic);
    put_le32(out_copy + 8, SEGMENT_VERSION);
    memcpy(out_copy + 16, log->owner, SEGMENT_OWNER_BYTES);
    put_le64(out_copy + 32, log->meta_version);
    put_le32(out_copy + 40, log->meta_size);
    memcpy(out_copy + META_HEADER_BYTES, log->meta, log->meta_size);
    put_le32(out_copy + 12, meta_crc(out_copy));
}

int log_meta_read(struct disk *disk, struct disk_file *file, uint8_t out_owner[SEGMENT_OWNER_BYTES],
                  uint64_t *out_version, uint8_t out_meta[LIMIT_LOG_META_BYTES], uint32_t *out_size,
                  bool *out_repair)
{
    bool found = false;
    *out_repair = false;
    for (uint32_t i = 0; i < 2; i++) {
        uint8_t copy[META_COPY_BYTES];
        size_t got;
        const int status =
            disk_read(disk, file, (uint64_t)i * LOG_META_BLOCK_BYTES, copy, sizeof copy, &got);
        if (status != 0) {
            return status;
        }
        if (got < sizeof copy || memcmp(copy, meta_magic, sizeof meta_magic) != 0 ||
            get_le32(copy + 12) != meta_crc(copy) || get_le32(copy + 40) > LIMIT_LOG_META_BYTES) {
            *out_repair = true;
            continue;
        }
        if (get_le32(copy + 8) != SEGMENT_VERSION) {
            return STATUS_FOREIGN;
        }
        const uint64_t version = get_le64(copy + 32);
        if (found && version != *out_version) {
            *out_repair = true;
        }
        if (!found || version > *out_version) {
            found = true;
            *out_version = version;
            *out_size = get_le32(copy + 40);
            memcpy(out_owner, copy + 16, SEGMENT_OWNER_BYTES);
            memcpy(out_meta, copy + META_HEADER_BYTES, LIMIT_LOG_META_BYTES);
        }
    }
    return found ? 0 : STATUS_CORRUPT;
}

int log_meta_create(struct log *log)
{
    static const uint8_t zeros[LOG_META_BLOCK_BYTES - META_COPY_BYTES];
    uint8_t copy[META_COPY_BYTES];
    log->meta_version = 1;
    log->meta_size = 0;
    meta_encode(log, copy);
    const struct bytes pieces[4] = {bytes_of(copy, sizeof copy), bytes_of(zeros, sizeof zeros),
                                    bytes_of(copy, sizeof copy), bytes_of(zeros, sizeof zeros)};
    return disk_replace(log->disk, log->directory, "meta", pieces, 4);
}

int log_meta_write(struct log *log)
{
    uint8_t copy[META_COPY_BYTES];
    meta_encode(log, copy);
    for (uint32_t i = 0; i < 2; i++) {
        int status = disk_write(log->disk, log->meta_file, (uint64_t)i * LOG_META_BLOCK_BYTES, copy,
                                sizeof copy);
        if (status == 0) {
            status = disk_sync(log->disk, log->meta_file);
        }
        if (status != 0) {
            return status;
        }
    }
    return 0;
}

struct bytes log_meta_get(const struct log *log)
{
    return bytes_of(log->meta, log->meta_size);
}

int log_meta_put(struct log *log, struct bytes bytes)
{
    CHECK(bytes.size <= LIMIT_LOG_META_BYTES);
    if (log->status != 0) {
        return log->status;
    }
    log->meta_version++;
    log->meta_size = (uint32_t)bytes.size;
    if (bytes.size > 0) {
        memmove(log->meta, bytes.data, bytes.size);
    }
    const int status = log_meta_write(log);
    if (status != 0) {
        log_fail(log, status);
        log_pump(log); /* those who wait are told from the loop */
    }
    return status;
}

/* -- named files ----------------------------------------------------------------------------- */

static void file_name(const char *name, char out_name[64])
{
    const size_t size = strlen(name);
    CHECK(size > 0 && size <= 32);
    CHECK(strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == size);
    snprintf(out_name, 64, "%s.file", name);
}

int log_file_put(struct log *log, const char *name, const struct bytes *pieces, size_t piece_count)
{
    CHECK(piece_count <= 8);
    if (log->status != 0) {
        return log->status;
    }
    uint64_t size = 0;
    uint32_t crc = 0;
    struct bytes all[9];
    for (size_t i = 0; i < piece_count; i++) {
        size += pieces[i].size;
        crc = crc32c(crc, pieces[i].data, pieces[i].size);
        all[i + 1] = pieces[i];
    }
    if (size > LIMIT_LOG_FILE_BYTES) {
        return STATUS_TOO_LARGE;
    }
    uint8_t header[FILE_HEADER_BYTES];
    memcpy(header, file_magic, sizeof file_magic);
    put_le32(header + 8, (uint32_t)size);
    put_le32(header + 12, crc);
    all[0] = bytes_of(header, sizeof header);

    char file[64];
    file_name(name, file);
    const int status = disk_replace(log->disk, log->directory, file, all, piece_count + 1);
    if (status != 0 && status != -ENOSPC && status != -EDQUOT) {
        log_fail(log, status);
        log_pump(log);
    }
    return status;
}

int log_file_read(struct disk *disk, const char *directory, const char *name, uint8_t **out_data,
                  size_t *out_size)
{
    char file[64];
    char path[LIMIT_LOG_PATH_BYTES];
    uint8_t *data = NULL;
    struct disk_file *handle = NULL;
    *out_data = NULL;
    *out_size = 0;
    file_name(name, file);
    log_path(directory, file, path);
    int status = disk_open(disk, path, DISK_OPEN_READ, &handle);
    if (status != 0) {
        return status;
    }
    uint8_t header[FILE_HEADER_BYTES];
    size_t got = 0;
    status = disk_read(disk, handle, 0, header, sizeof header, &got);
    if (status != 0) {
        goto out;
    }
    const uint32_t size = got < sizeof header ? 0 : get_le32(header + 8);
    if (got < sizeof header || memcmp(header, file_magic, sizeof file_magic) != 0 ||
        size > LIMIT_LOG_FILE_BYTES) {
        status = STATUS_CORRUPT;
        goto out;
    }
    data = malloc((size_t)size + 1); /* never NULL for an empty file */
    if (data == NULL) {
        status = -ENOMEM;
        goto out;
    }
    status = disk_read(disk, handle, FILE_HEADER_BYTES, data, size, &got);
    if (status == 0 && (got < size || crc32c(0, data, size) != get_le32(header + 12))) {
        status = STATUS_CORRUPT;
    }
    if (status == 0) {
        *out_data = data;
        *out_size = size;
        data = NULL;
    }
out:
    free(data);
    disk_close(disk, handle);
    return status;
}

int log_file_get(struct log *log, const char *name, uint8_t **out_data, size_t *out_size)
{
    return log_file_read(log->disk, log->directory, name, out_data, out_size);
}

int log_file_remove(struct log *log, const char *name)
{
    char file[64];
    char path[LIMIT_LOG_PATH_BYTES];
    if (log->status != 0) {
        return log->status;
    }
    file_name(name, file);
    log_path(log->directory, file, path);
    int status = disk_unlink(log->disk, path);
    if (status == 0) {
        status = disk_sync_directory(log->disk, log->directory);
    }
    if (status != 0) {
        log_fail(log, status);
        log_pump(log);
    }
    return status;
}
