#include "log/disk_uv.h"

#include "schemas/check.h"
#include "schemas/status.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#define ZERO_BYTES (256u * 1024u)

struct disk_file {
    int descriptor;
};

struct lane {
    struct disk_uv *uv;
    uv_work_t work; /* of the head; one job of a lane is in the pool at a time */
    struct disk_job *head;
    struct disk_job *tail;
};

struct disk_uv {
    struct disk disk;
    uv_loop_t *loop;
    struct lane lanes[DISK_LANES];
};

static uint8_t zeros[ZERO_BYTES]; /* never written: the pages are the kernel's one zero page */

static int posix_sync_directory(struct disk *disk, const char *path);

/* The parent is synced also when the directory is there: whoever made it may have died in between. */
static int posix_make_directory(struct disk *disk, const char *path)
{
    const bool made = mkdir(path, 0700) == 0;
    if (!made && errno != EEXIST) {
        return -errno;
    }
    size_t size = strlen(path);
    while (size > 1 && path[size - 1] == '/') {
        size--;
    }
    while (size > 0 && path[size - 1] != '/') {
        size--;
    }
    char *parent = size == 0 ? strdup(".") : strndup(path, size);
    if (parent == NULL) {
        return -ENOMEM;
    }
    const int status = posix_sync_directory(disk, parent);
    free(parent);
    return !made && status == -EACCES ? 0 : status; /* made for us, by somebody who may read there */
}

static int file_new(int descriptor, struct disk_file **out_file)
{
    struct disk_file *file = malloc(sizeof *file);
    if (file == NULL) {
        close(descriptor);
        return -ENOMEM;
    }
    file->descriptor = descriptor;
    *out_file = file;
    return 0;
}

static int posix_lock_directory(struct disk *disk, const char *path, struct disk_file **out_lock)
{
    (void)disk;
    const int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0) {
        return -errno;
    }
    const int descriptor = openat(directory, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    const int open_errno = errno;
    close(directory);
    if (descriptor < 0) {
        return -open_errno;
    }
    if (flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
        const int status = errno == EWOULDBLOCK ? STATUS_LOCKED : -errno;
        close(descriptor);
        return status;
    }
    return file_new(descriptor, out_lock);
}

static int posix_list(struct disk *disk, const char *path,
                      void (*each)(void *context, const char *name), void *context)
{
    (void)disk;
    DIR *directory = opendir(path);
    if (directory == NULL) {
        return -errno;
    }
    errno = 0;
    for (const struct dirent *entry; (entry = readdir(directory)) != NULL; errno = 0) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            each(context, entry->d_name);
        }
    }
    const int status = -errno;
    closedir(directory);
    return status;
}

static int posix_open(struct disk *disk, const char *path, enum disk_open mode,
                      struct disk_file **out_file)
{
    (void)disk;
    const int flags = mode == DISK_OPEN_READ    ? O_RDONLY
                      : mode == DISK_OPEN_WRITE ? O_RDWR
                                                : O_RDWR | O_CREAT | O_TRUNC;
    const int descriptor = open(path, flags | O_CLOEXEC, 0600);
    return descriptor < 0 ? -errno : file_new(descriptor, out_file);
}

static void posix_close(struct disk *disk, struct disk_file *file)
{
    (void)disk;
    close(file->descriptor); /* everything that matters was synced: nothing to learn from it */
    free(file);
}

static int posix_size(struct disk *disk, struct disk_file *file, uint64_t *out_bytes)
{
    (void)disk;
    struct stat info;
    if (fstat(file->descriptor, &info) != 0) {
        return -errno;
    }
    *out_bytes = (uint64_t)info.st_size;
    return 0;
}

static int posix_read(struct disk *disk, struct disk_file *file, uint64_t offset, uint8_t *out_data,
                      size_t size, size_t *out_got)
{
    (void)disk;
    size_t got = 0;
    while (got < size) {
        const ssize_t n =
            pread(file->descriptor, out_data + got, size - got, (off_t)(offset + got));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -errno;
        }
        if (n == 0) {
            break;
        }
        got += (size_t)n;
    }
    *out_got = got;
    return 0;
}

static int posix_write(struct disk *disk, struct disk_file *file, uint64_t offset,
                       const uint8_t *data, size_t size)
{
    (void)disk;
    size_t done = 0;
    while (done < size) {
        const ssize_t n =
            pwrite(file->descriptor, data + done, size - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -errno;
        }
        if (n == 0) {
            return -EIO; /* a regular file does not answer this */
        }
        done += (size_t)n;
    }
    return 0;
}

static int posix_zero(struct disk *disk, struct disk_file *file, uint64_t offset, uint64_t size)
{
    /* Reserving first keeps the blocks together and meets a full disk before work is done. It is
     * only reserving: the write below is what makes fdatasync cheap later, since blocks that were
     * never written carry a flag in metadata that the first write must change. */
    if (fallocate(file->descriptor, 0, (off_t)offset, (off_t)size) != 0 && errno != EOPNOTSUPP) {
        return -errno;
    }
    for (uint64_t done = 0; done < size;) {
        const size_t piece = size - done < ZERO_BYTES ? (size_t)(size - done) : ZERO_BYTES;
        const int status = posix_write(disk, file, offset + done, zeros, piece);
        if (status != 0) {
            return status;
        }
        done += piece;
    }
    return 0;
}

static int posix_sync(struct disk *disk, struct disk_file *file)
{
    (void)disk;
    return fdatasync(file->descriptor) == 0 ? 0 : -errno; /* never tried again: see log.h */
}

static int posix_truncate(struct disk *disk, struct disk_file *file, uint64_t size)
{
    (void)disk;
    return ftruncate(file->descriptor, (off_t)size) == 0 ? 0 : -errno;
}

static int posix_rename(struct disk *disk, const char *path, const char *path_new)
{
    (void)disk;
    return rename(path, path_new) == 0 ? 0 : -errno;
}

static int posix_unlink(struct disk *disk, const char *path)
{
    (void)disk;
    return unlink(path) == 0 || errno == ENOENT ? 0 : -errno;
}

static int posix_sync_directory(struct disk *disk, const char *path)
{
    (void)disk;
    const int descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) {
        return -errno;
    }
    const int status = fsync(descriptor) == 0 ? 0 : -errno;
    close(descriptor);
    return status;
}

/* In the pool: touches the job and its files only. */
static void lane_on_work(uv_work_t *work)
{
    struct lane *lane = CONTAINER_OF(work, struct lane, work);
    struct disk_job *job = lane->head;
    for (uint32_t i = 0; i < job->step_count && job->status == 0; i++) {
        job->status = disk_step_run(&lane->uv->disk, &job->steps[i]);
        job->step_failed = i;
    }
}

static void lane_start(struct lane *lane);

static void lane_on_done(uv_work_t *work, int status)
{
    CHECK(status == 0); /* nobody cancels */
    struct lane *lane = CONTAINER_OF(work, struct lane, work);
    struct disk_job *job = lane->head;

    lane->head = job->next;
    if (lane->head != NULL) {
        lane_start(lane);
    }
    job->callback(job); /* last: it may submit the next one */
}

static void lane_start(struct lane *lane)
{
    const int status = uv_queue_work(lane->uv->loop, &lane->work, lane_on_work, lane_on_done);
    CHECK(status == 0); /* documented to fail without a callback only */
}

static void posix_submit(struct disk *disk, struct disk_job *job)
{
    struct disk_uv *uv = CONTAINER_OF(disk, struct disk_uv, disk);
    CHECK(uv->loop != NULL);
    struct lane *lane = &uv->lanes[job->lane];

    if (lane->head == NULL) {
        lane->head = job;
        lane->tail = job;
        lane_start(lane);
    } else {
        lane->tail->next = job;
        lane->tail = job;
    }
}

static const struct disk_ops posix_ops = {
    .make_directory = posix_make_directory,
    .lock_directory = posix_lock_directory,
    .list = posix_list,
    .open = posix_open,
    .close = posix_close,
    .size = posix_size,
    .read = posix_read,
    .write = posix_write,
    .zero = posix_zero,
    .sync = posix_sync,
    .truncate = posix_truncate,
    .rename = posix_rename,
    .unlink = posix_unlink,
    .sync_directory = posix_sync_directory,
    .submit = posix_submit,
};

struct disk_uv *disk_uv_new(void *loop)
{
    struct disk_uv *uv = calloc(1, sizeof *uv);
    if (uv == NULL) {
        return NULL;
    }
    uv->disk.ops = &posix_ops;
    uv->loop = loop;
    for (size_t i = 0; i < DISK_LANES; i++) {
        uv->lanes[i].uv = uv;
    }
    return uv;
}

struct disk *disk_uv_disk(struct disk_uv *uv)
{
    return &uv->disk;
}

void disk_uv_free(struct disk_uv *uv)
{
    if (uv == NULL) {
        return;
    }
    for (size_t i = 0; i < DISK_LANES; i++) {
        CHECK(uv->lanes[i].head == NULL);
    }
    free(uv);
}
