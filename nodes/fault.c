#include "nodes/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "schemas/status.h"

#define FAULT_BYTES 4096u /* a note; the longest one we write is shorter */

static int fault_sync_directory(const char *directory)
{
    const int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    const int status = fsync(fd) == 0 ? 0 : -errno;
    (void)close(fd);
    return status;
}

static int fault_path(const char *directory, char path[static 1200])
{
    return snprintf(path, 1200, "%s/" FAULT_NOTE, directory) < 1200 ? 0 : -ENAMETOOLONG;
}

int fault_write(const char *directory, const char *program, const char *operation, const char *path,
                int status, int64_t wall_ms)
{
    char note[1200];
    const int named = fault_path(directory, note);
    if (named != 0) {
        return named;
    }
    const int fd = open(note, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        return errno == EEXIST ? 0 : -errno;
    }
    char when[32] = "";
    const time_t seconds = (time_t)(wall_ms / 1000);
    struct tm parts;
    if (gmtime_r(&seconds, &parts) != NULL) {
        strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &parts);
    }
    const char *const lines[][2] = {
        {"time", when},
        {"program", program},
        {"operation", operation},
        {"path", path},
    };
    char text[FAULT_BYTES];
    size_t size = 0;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        size += (size_t)snprintf(text + size, sizeof text - size, "%-10s ", lines[i][0]);
        for (const char *p = lines[i][1]; *p != 0 && size < (i + 1) * (FAULT_BYTES / 5); p++) {
            text[size++] = (unsigned char)*p < 0x20 ? ' ' : *p;
        }
        text[size++] = '\n';
    }
    size += (size_t)snprintf(text + size, sizeof text - size, "status     %d\nerror      %s\n",
                             status, status_text(status));
    /* Its being there is what counts: a note that stays empty stops the next start as well. */
    const ssize_t written = write(fd, text, size);
    (void)written;
    (void)fsync(fd);
    (void)close(fd);
    (void)fault_sync_directory(directory);
    return 0;
}

static void fault_take(const char *line, const char *key, char *out, size_t size)
{
    const size_t length = strlen(key);
    if (strncmp(line, key, length) == 0 && line[length] == ' ') {
        snprintf(out, size, "%s", line + length + strspn(line + length, " "));
    }
}

int fault_read(const char *directory, struct fault *out)
{
    char path[1200];
    const int named = fault_path(directory, path);
    if (named != 0) {
        return -ENOENT;
    }
    *out = (struct fault){.status = -EIO, .operation = "the note of it cannot be read"};
    snprintf(out->path, sizeof out->path, "%s", directory);
    snprintf(out->error, sizeof out->error, "%s", status_text(-EIO));
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR)) {
        return -ENOENT;
    }
    char text[FAULT_BYTES + 1];
    const ssize_t size = fd < 0 ? -1 : read(fd, text, FAULT_BYTES);
    if (fd >= 0) {
        (void)close(fd);
    }
    if (size <= 0) {
        return 0;
    }
    text[size] = 0;
    char *rest = text;
    for (char *line = strsep(&rest, "\n"); line != NULL; line = strsep(&rest, "\n")) {
        char number[16] = "";
        fault_take(line, "time", out->time, sizeof out->time);
        fault_take(line, "program", out->program, sizeof out->program);
        fault_take(line, "operation", out->operation, sizeof out->operation);
        fault_take(line, "path", out->path, sizeof out->path);
        fault_take(line, "error", out->error, sizeof out->error);
        fault_take(line, "status", number, sizeof number);
        out->status = number[0] != 0 ? atoi(number) : out->status;
    }
    return 0;
}

int fault_remove(const char *directory)
{
    char path[1200];
    const int named = fault_path(directory, path);
    if (named != 0) {
        return named;
    }
    return unlink(path) == 0 ? fault_sync_directory(directory) : -errno;
}
