#include "log/disk.h"

#include "schemas/check.h"
#include "schemas/limits.h"
#include "schemas/status.h"

#include <stdio.h>

int disk_make_directory(struct disk *disk, const char *path)
{
    return disk->ops->make_directory(disk, path);
}

int disk_lock_directory(struct disk *disk, const char *path, struct disk_file **out_lock)
{
    return disk->ops->lock_directory(disk, path, out_lock);
}

int disk_list(struct disk *disk, const char *path, void (*each)(void *context, const char *name),
              void *context)
{
    return disk->ops->list(disk, path, each, context);
}

int disk_open(struct disk *disk, const char *path, enum disk_open mode, struct disk_file **out_file)
{
    return disk->ops->open(disk, path, mode, out_file);
}

void disk_close(struct disk *disk, struct disk_file *file)
{
    if (file != NULL) {
        disk->ops->close(disk, file);
    }
}

int disk_size(struct disk *disk, struct disk_file *file, uint64_t *out_bytes)
{
    return disk->ops->size(disk, file, out_bytes);
}

int disk_read(struct disk *disk, struct disk_file *file, uint64_t offset, uint8_t *out_data,
              size_t size, size_t *out_got)
{
    return disk->ops->read(disk, file, offset, out_data, size, out_got);
}

void disk_ahead(struct disk *disk, const char *path)
{
    if (disk->ops->ahead != NULL) {
        disk->ops->ahead(disk, path);
    }
}

int disk_write(struct disk *disk, struct disk_file *file, uint64_t offset, const uint8_t *data,
               size_t size)
{
    return disk->ops->write(disk, file, offset, data, size);
}

int disk_zero(struct disk *disk, struct disk_file *file, uint64_t offset, uint64_t size)
{
    return disk->ops->zero(disk, file, offset, size);
}

int disk_sync(struct disk *disk, struct disk_file *file)
{
    return disk->ops->sync(disk, file);
}

int disk_truncate(struct disk *disk, struct disk_file *file, uint64_t size)
{
    return disk->ops->truncate(disk, file, size);
}

int disk_rename(struct disk *disk, const char *path, const char *path_new)
{
    return disk->ops->rename(disk, path, path_new);
}

int disk_unlink(struct disk *disk, const char *path)
{
    return disk->ops->unlink(disk, path);
}

int disk_sync_directory(struct disk *disk, const char *path)
{
    return disk->ops->sync_directory(disk, path);
}

void disk_submit(struct disk *disk, struct disk_job *job)
{
    CHECK(job->step_count > 0);
    CHECK(job->lane < DISK_LANES);
    CHECK(job->callback != NULL);

    job->status = 0;
    job->next = NULL;
    disk->ops->submit(disk, job);
}

int disk_replace(struct disk *disk, const char *directory, const char *name,
                 const struct bytes *pieces, size_t piece_count)
{
    char path[LIMIT_LOG_PATH_BYTES];
    char path_tmp[LIMIT_LOG_PATH_BYTES];
    const int size = snprintf(path, sizeof path, "%s/%s", directory, name);
    const int size_tmp = snprintf(path_tmp, sizeof path_tmp, "%s/%s.tmp", directory, name);
    if (size < 0 || (size_t)size >= sizeof path || size_tmp < 0 ||
        (size_t)size_tmp >= sizeof path_tmp) {
        return -ENAMETOOLONG;
    }

    struct disk_file *file = NULL;
    int status = disk_open(disk, path_tmp, DISK_OPEN_CREATE, &file);
    uint64_t offset = 0;
    for (size_t i = 0; status == 0 && i < piece_count; i++) {
        if (pieces[i].size > 0) {
            status = disk_write(disk, file, offset, pieces[i].data, pieces[i].size);
            offset += pieces[i].size;
        }
    }
    if (status == 0) {
        status = disk_sync(disk, file);
    }
    disk_close(disk, file);
    if (status == 0) {
        status = disk_rename(disk, path_tmp, path);
    }
    if (status == 0) {
        status = disk_sync_directory(disk, directory);
    }
    return status;
}

int disk_step_run(struct disk *disk, const struct disk_step *step)
{
    switch (step->kind) {
    case DISK_STEP_WRITE:
        return disk_write(disk, step->file, step->offset, step->data, (size_t)step->size);
    case DISK_STEP_ZERO:
        return disk_zero(disk, step->file, step->offset, step->size);
    case DISK_STEP_SYNC:
        return disk_sync(disk, step->file);
    case DISK_STEP_RENAME:
        return disk_rename(disk, step->path, step->path_new);
    case DISK_STEP_UNLINK:
        return disk_unlink(disk, step->path);
    case DISK_STEP_SYNC_DIRECTORY:
        return disk_sync_directory(disk, step->path);
    }
    check_failed("a step has a known kind", __FILE__, __LINE__);
}
