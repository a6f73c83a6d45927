#include "nodes/space.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "nodes/logger.h"
#include "schemas/check.h"

static void space_path(const struct space *space, char path[static 1100])
{
    snprintf(path, 1100, "%s/reserve", space->directory);
}

const char *space_text(enum space_level level)
{
    static const char *const texts[] = {"plenty", "low", "none"};
    return texts[level];
}

enum space_level space_decide(enum space_level level, uint64_t free_bytes, uint64_t reserve_bytes)
{
    const uint64_t none = reserve_bytes / 4;
    /* Behind a bound the way back is longer, by a quarter of it or of the reserve. */
    const uint64_t low_up = reserve_bytes + reserve_bytes / 4;
    const uint64_t none_up = reserve_bytes / 2;
    if (free_bytes < none || (level == SPACE_NONE && free_bytes < none_up)) {
        return SPACE_NONE;
    }
    if (free_bytes < reserve_bytes || (level != SPACE_PLENTY && free_bytes < low_up)) {
        return SPACE_LOW;
    }
    return SPACE_PLENTY;
}

/* Have the file, whole. Synchronous: extents are reserved, nothing is written. */
static void space_reserve(struct space *space)
{
    char path[1100];
    space_path(space, path);
    const int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    int status = fd < 0 ? -errno : 0;
    /* Linux's own call: the one of POSIX writes zeros where the file system cannot do better. */
    if (status == 0 && fallocate(fd, 0, 0, (off_t)space->reserve_bytes) != 0) {
        status = -errno;
    }
    if (status == 0 && ftruncate(fd, (off_t)space->reserve_bytes) != 0) { /* it was larger before */
        status = -errno;
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    space->reserved = status == 0;
    if (status != 0) {
        (void)unlink(path);
    }
    if (status != 0 && status != -ENOSPC && !space->unable) {
        space->unable = true;
        logger_warn("disk_reserve_not_made",
                    "path=%s status=%d reason=%s: space is watched without it", path, status,
                    strerror(-status));
    }
}

static void space_give_back(struct space *space)
{
    char path[1100];
    space_path(space, path);
    if (unlink(path) == 0 || errno == ENOENT) {
        space->reserved = false;
    }
}

/* What is free; when the file is not there, what would be if it were. false: cannot be asked. */
static bool space_free(const struct space *space, uint64_t *out_bytes)
{
    struct statvfs about;
    if (statvfs(space->directory, &about) != 0) {
        return false; /* a disk that cannot be asked tells it by failing */
    }
    const uint64_t bytes = (uint64_t)about.f_bavail * about.f_frsize;
    const uint64_t owed = space->reserved || space->unable ? 0 : space->reserve_bytes;
    *out_bytes = bytes > owed ? bytes - owed : 0;
    return true;
}

bool space_look(struct space *space)
{
    uint64_t free_bytes;
    if (!space_free(space, &free_bytes)) {
        return false;
    }
    space->free_bytes = free_bytes;
    const enum space_level level = space_decide(space->level, free_bytes, space->reserve_bytes);
    if (level == SPACE_NONE && space->reserved) {
        space_give_back(space);
    } else if (level != SPACE_NONE && !space->reserved && !space->unable) {
        space_reserve(space);
    }
    if (level == space->level) {
        return false;
    }
    space->level = level;
    logger_line(level == SPACE_PLENTY ? LOGGER_INFO : LOGGER_ERROR, "disk_space_changed",
                "space=%s free_bytes=%" PRIu64 " reserve_bytes=%" PRIu64 " reserved=%d data=%s",
                space_text(level), free_bytes, space->reserve_bytes, space->reserved,
                space->directory);
    return true;
}

void space_open(struct space *space, const char *directory, uint64_t reserve_bytes)
{
    CHECK(reserve_bytes >= 4096);
    CHECK(strlen(directory) < sizeof space->directory);
    *space = (struct space){.reserve_bytes = reserve_bytes};
    memcpy(space->directory, directory, strlen(directory) + 1);
    char path[1100];
    struct stat about;
    space_path(space, path);
    space->reserved = stat(path, &about) == 0 && (uint64_t)about.st_size == reserve_bytes &&
                      (uint64_t)about.st_blocks * 512 >= reserve_bytes;
    if (!space->reserved) {
        (void)unlink(path); /* of another size, or a sparse copy of one: it counts as free */
    }
    (void)space_look(space);
}
