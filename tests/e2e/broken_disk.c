/* A disk that fails when it is told to: preloaded into a program, it lets fsync and fdatasync of files below
 * KELP_BROKEN_PATH answer EIO for as long as the file KELP_BROKEN_WHEN exists. */
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int fsync(int fd);
int fdatasync(int fd);

static bool is_broken(int fd)
{
    const char *when = getenv("KELP_BROKEN_WHEN");
    const char *below = getenv("KELP_BROKEN_PATH");
    if (when == NULL || below == NULL || access(when, F_OK) != 0) {
        return false;
    }
    char link[64];
    char path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const ssize_t size = readlink(link, path, sizeof path - 1);
    path[size < 0 ? 0 : size] = 0;
    return strstr(path, below) != NULL;
}

static int sync_by(long call, int fd)
{
    if (is_broken(fd)) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(call, fd);
}

int fsync(int fd)
{
    return sync_by(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    return sync_by(SYS_fdatasync, fd);
}
