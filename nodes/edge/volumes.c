/* Writing and removing, the half of volumes.h that touches the disk. Runs in the thread pool and
 * shares nothing with the loop.
 *
 * Writing a volume that comes from objects, the happy path:
 *   1. compare with what ..data shows now; the same: done;
 *   2. write all files below a fresh directory ..<seconds>.<n>;
 *   3. symlink ..data_tmp to it and rename that over ..data: this is the moment of change;
 *   4. make the visible names symlinks through ..data, remove those that went;
 *   5. remove the directory that ..data showed before.
 * A crash leaves a fresh directory nobody points to, which the next writing removes.
 * source: Kubernetes pkg/volume/util/atomic_writer.go. Differs: step 4 also when nothing changed.
 */
#include "nodes/edge/volumes.h"

#include "schemas/check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct writer {
    int64_t group;
    char *error;
    size_t error_bytes;
};

/* The error of the last system call, told with the path it is about. */
static int writer_fail(struct writer *writer, const char *what, const char *path)
{
    const int status = errno != 0 ? -errno : -EIO;
    snprintf(writer->error, writer->error_bytes, "%s %s: %s", what, path, strerror(-status));
    return status;
}

static int writer_directory(struct writer *writer, const char *path, mode_t mode)
{
    if (mkdir(path, mode) != 0 && errno != EEXIST) {
        return writer_fail(writer, "cannot create", path);
    }
    return 0;
}

/* Every directory of a path, like mkdir -p, below what must exist only as far as it does not. */
static int writer_directories(struct writer *writer, const char *path, mode_t mode)
{
    char part[4096];
    int status = 0;
    if ((size_t)snprintf(part, sizeof part, "%s", path) >= sizeof part) {
        errno = ENAMETOOLONG;
        return writer_fail(writer, "cannot create", path);
    }
    for (char *slash = strchr(part + 1, '/'); status == 0;
         slash = slash == NULL ? NULL : strchr(slash + 1, '/')) {
        if (slash != NULL) {
            *slash = 0;
        }
        status = writer_directory(writer, part, slash == NULL ? mode : 0755);
        if (slash == NULL) {
            break;
        }
        *slash = '/';
    }
    return status;
}

/* Write one file at a name that does not exist yet. */
static int writer_file(struct writer *writer, const char *path, struct bytes content, mode_t mode)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
    size_t written = 0;
    int status = 0;
    if (fd < 0) {
        return writer_fail(writer, "cannot create", path);
    }
    while (written < content.size && status == 0) {
        const ssize_t size = write(fd, content.data + written, content.size - written);
        if (size < 0 && errno != EINTR) {
            status = writer_fail(writer, "cannot write", path);
        }
        written += size > 0 ? (size_t)size : 0;
    }
    if (status == 0 && (fchmod(fd, mode) != 0 ||
                        (writer->group >= 0 && fchown(fd, (uid_t)-1, (gid_t)writer->group) != 0))) {
        status = writer_fail(writer, "cannot set the mode of", path);
    }
    if (close(fd) != 0 && status == 0) {
        status = writer_fail(writer, "cannot close", path);
    }
    return status;
}

/* -- removing ---------------------------------------------------------------------------------- */

/* Remove what is below a directory and the directory itself. Symlinks are removed, not followed;
 * a mount point (a tmpfs of ours) is unmounted first. */
static int writer_remove(struct writer *writer, int parent, const char *name, const char *path)
{
    struct stat info;
    if (fstatat(parent, name, &info, AT_SYMLINK_NOFOLLOW) != 0) {
        return errno == ENOENT ? 0 : writer_fail(writer, "cannot look at", path);
    }
    if (!S_ISDIR(info.st_mode)) {
        return unlinkat(parent, name, 0) == 0 || errno == ENOENT
                   ? 0
                   : writer_fail(writer, "cannot remove", path);
    }
    struct stat above;
    if (fstat(parent, &above) == 0 && above.st_dev != info.st_dev &&
        umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) != 0 && errno != EINVAL) {
        return writer_fail(writer, "cannot unmount", path);
    }
    const int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    if (directory == NULL) {
        if (fd >= 0) {
            close(fd);
        }
        return errno == ENOENT ? 0 : writer_fail(writer, "cannot open", path);
    }
    int status = 0;
    for (struct dirent *entry; status == 0 && (entry = readdir(directory)) != NULL;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        char below[4096];
        snprintf(below, sizeof below, "%s/%s", path, entry->d_name);
        status = writer_remove(writer, fd, entry->d_name, below);
    }
    closedir(directory);
    if (status == 0 && unlinkat(parent, name, AT_REMOVEDIR) != 0 && errno != ENOENT) {
        status = writer_fail(writer, "cannot remove", path);
    }
    return status;
}

static int writer_remove_path(struct writer *writer, const char *path)
{
    char parent[4096];
    snprintf(parent, sizeof parent, "%s", path);
    char *slash = strrchr(parent, '/');
    CHECK(slash != NULL);
    *slash = 0;
    const int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? 0 : writer_fail(writer, "cannot open", parent);
    }
    const int status = writer_remove(writer, fd, slash + 1, path);
    close(fd);
    return status;
}

/* -- volumes that come from objects ------------------------------------------------------------ */

static bool file_is(const char *path, const struct volume_file *file)
{
    struct stat info;
    bool same = false;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    uint8_t *content = malloc(file->content.size + 1);
    CHECK(content != NULL);
    if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode) &&
        (size_t)info.st_size == file->content.size && (info.st_mode & 0777) == file->mode) {
        size_t have = 0;
        ssize_t size = 1;
        while (have < file->content.size &&
               (size = read(fd, content + have, file->content.size - have)) > 0) {
            have += (size_t)size;
        }
        same = bytes_equal(bytes_of(content, have), file->content);
    }
    free(content);
    close(fd);
    return same;
}

/* How many regular files are below a directory; enough to see that one went. */
static size_t files_below(const char *path)
{
    size_t count = 0;
    DIR *directory = opendir(path);
    for (struct dirent *entry; directory != NULL && (entry = readdir(directory)) != NULL;) {
        char below[4096];
        struct stat info;
        snprintf(below, sizeof below, "%s/%s", path, entry->d_name);
        if (entry->d_name[0] == '.' &&
            (entry->d_name[1] == 0 || strcmp(entry->d_name, "..") == 0)) {
            continue;
        }
        if (lstat(below, &info) == 0) {
            count += S_ISDIR(info.st_mode) ? files_below(below) : 1;
        }
    }
    if (directory != NULL) {
        closedir(directory);
    }
    return count;
}

static bool step_is_current(const struct volume_step *step)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/..data", step->directory);
    if (access(path, F_OK) != 0 || files_below(path) != step->file_count) {
        return false;
    }
    for (size_t i = 0; i < step->file_count; i++) {
        snprintf(path, sizeof path, "%s/..data/%s", step->directory, step->files[i].path);
        if (!file_is(path, &step->files[i])) {
            return false;
        }
    }
    return true;
}

/* A fresh directory with all files: its name, relative to the volume. */
static int step_write_fresh(struct writer *writer, const struct volume_step *step, char *out_name,
                            size_t name_bytes)
{
    char path[4096];
    int status;
    for (unsigned n = 0;; n++) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now); /* for people who look; the number makes it new */
        snprintf(out_name, name_bytes, "..%lld.%u", (long long)now.tv_sec, n);
        snprintf(path, sizeof path, "%s/%s", step->directory, out_name);
        if (mkdir(path, 0755) == 0) {
            break;
        }
        if (errno != EEXIST || n == 10000) {
            return writer_fail(writer, "cannot create", path);
        }
    }
    for (size_t i = 0; i < step->file_count; i++) {
        snprintf(path, sizeof path, "%s/%s/%s", step->directory, out_name, step->files[i].path);
        char *slash = strrchr(path, '/');
        if (strchr(step->files[i].path, '/') != NULL) {
            *slash = 0;
            if ((status = writer_directories(writer, path, 0755)) != 0) {
                return status;
            }
            *slash = '/';
        }
        if ((status = writer_file(writer, path, step->files[i].content,
                                  (mode_t)step->files[i].mode)) != 0) {
            return status;
        }
    }
    return 0;
}

static size_t first_part(const char *path)
{
    const char *slash = strchr(path, '/');
    return slash == NULL ? strlen(path) : (size_t)(slash - path);
}

/* The visible names: one symlink per first part of a path, and none for what went. */
static int step_write_names(struct writer *writer, const struct volume_step *step)
{
    char path[4096], target[4096];
    for (size_t i = 0; i < step->file_count; i++) {
        const char *name = step->files[i].path;
        const int size = (int)first_part(name);
        snprintf(path, sizeof path, "%s/%.*s", step->directory, size, name);
        snprintf(target, sizeof target, "..data/%.*s", size, name);
        if (symlink(target, path) != 0 && errno != EEXIST) {
            return writer_fail(writer, "cannot link", path);
        }
    }
    DIR *directory = opendir(step->directory);
    if (directory == NULL) {
        return writer_fail(writer, "cannot open", step->directory);
    }
    int status = 0;
    for (struct dirent *entry; status == 0 && (entry = readdir(directory)) != NULL;) {
        bool wanted = entry->d_name[0] == '.' && (entry->d_name[1] == 0 || entry->d_name[1] == '.');
        for (size_t i = 0; i < step->file_count && !wanted; i++) {
            const size_t size = first_part(step->files[i].path);
            wanted = strlen(entry->d_name) == size &&
                     strncmp(entry->d_name, step->files[i].path, size) == 0;
        }
        if (!wanted && unlinkat(dirfd(directory), entry->d_name, 0) != 0 && errno != ENOENT) {
            status = writer_fail(writer, "cannot remove", entry->d_name);
        }
    }
    closedir(directory);
    return status;
}

/* Directories ..<time>.<n> that ..data does not show: of the state before, or of a crash. */
static int step_remove_old(struct writer *writer, const struct volume_step *step,
                           const char *current)
{
    DIR *directory = opendir(step->directory);
    int status = directory == NULL ? writer_fail(writer, "cannot open", step->directory) : 0;
    for (struct dirent *entry; status == 0 && (entry = readdir(directory)) != NULL;) {
        if (strncmp(entry->d_name, "..", 2) == 0 && entry->d_name[2] >= '0' &&
            entry->d_name[2] <= '9' && strcmp(entry->d_name, current) != 0) {
            char path[4096];
            snprintf(path, sizeof path, "%s/%s", step->directory, entry->d_name);
            status = writer_remove(writer, dirfd(directory), entry->d_name, path);
        }
    }
    if (directory != NULL) {
        closedir(directory);
    }
    return status;
}

static int step_write_files(struct writer *writer, const struct volume_step *step)
{
    char name[64], temporary[4096], data[4096];
    int status = writer_directories(writer, step->directory, 0755);
    if (status != 0) {
        return status;
    }
    if (step_is_current(step)) {
        return step_write_names(writer, step);
    }
    snprintf(temporary, sizeof temporary, "%s/..data_tmp", step->directory);
    snprintf(data, sizeof data, "%s/..data", step->directory);
    if ((status = step_write_fresh(writer, step, name, sizeof name)) != 0) {
        return status;
    }
    unlink(temporary); /* of a crash */
    if (symlink(name, temporary) != 0) {
        return writer_fail(writer, "cannot link", temporary);
    }
    if (rename(temporary, data) != 0) {
        return writer_fail(writer, "cannot rename", temporary);
    }
    status = step_write_names(writer, step);
    return status != 0 ? status : step_remove_old(writer, step, name);
}

/* -- the other kinds --------------------------------------------------------------------------- */

static int step_write_empty(struct writer *writer, const struct volume_step *step)
{
    struct stat info, above;
    char parent[4096], options[64] = "mode=1777";
    int status = writer_directories(writer, step->directory, 0777);
    snprintf(parent, sizeof parent, "%s/..", step->directory);
    if (status != 0) {
        return status;
    }
    if (step->volume->memory && stat(step->directory, &info) == 0 && stat(parent, &above) == 0 &&
        info.st_dev == above.st_dev) {
        if (step->volume->size_limit_bytes > 0) {
            snprintf(options, sizeof options, "mode=1777,size=%lld",
                     (long long)step->volume->size_limit_bytes);
        }
        if (mount("tmpfs", step->directory, "tmpfs", MS_NOSUID | MS_NODEV, options) != 0) {
            return writer_fail(writer, "cannot mount a tmpfs on", step->directory);
        }
    }
    const mode_t mode = writer->group >= 0 ? 02777 : 0777;
    if (chmod(step->directory, mode) != 0 ||
        (writer->group >= 0 && chown(step->directory, (uid_t)-1, (gid_t)writer->group) != 0)) {
        return writer_fail(writer, "cannot set the mode of", step->directory);
    }
    return 0;
}

/* source: Kubernetes pkg/volume/hostpath: what is there must be of the type, OrCreate makes it. */
static int step_check_host(struct writer *writer, const struct volume_step *step)
{
    const char *type = step->volume->host_type, *path = step->directory;
    struct stat info;
    if (type[0] == 0) {
        return 0;
    }
    if (stat(path, &info) != 0) {
        if (errno != ENOENT) {
            return writer_fail(writer, "cannot look at", path);
        }
        if (strcmp(type, "DirectoryOrCreate") == 0) {
            return writer_directories(writer, path, 0755);
        }
        if (strcmp(type, "FileOrCreate") == 0) {
            return writer_file(writer, path, bytes_of(NULL, 0), 0644);
        }
        errno = ENOENT;
        return writer_fail(writer, "hostPath", path);
    }
    const bool fits = strncmp(type, "Directory", 9) == 0 ? S_ISDIR(info.st_mode)
                      : strncmp(type, "File", 4) == 0    ? S_ISREG(info.st_mode)
                      : strcmp(type, "Socket") == 0      ? S_ISSOCK(info.st_mode)
                      : strcmp(type, "CharDevice") == 0  ? S_ISCHR(info.st_mode)
                                                         : S_ISBLK(info.st_mode);
    if (!fits) {
        snprintf(writer->error, writer->error_bytes, "hostPath %s is not a %s", path, type);
        return -EINVAL;
    }
    return 0;
}

/* The hosts file is mounted by its inode, so it is written in place. */
static int plan_write_hosts(struct writer *writer, const struct volume_plan *plan)
{
    char path[4096];
    const struct volume_file file = {
        .path = path, .content = bytes_text(plan->hosts), .mode = 0644};
    snprintf(path, sizeof path, "%s/etc-hosts", plan->pod_directory);
    return plan->hosts == NULL || file_is(path, &file)
               ? 0
               : writer_file(writer, path, file.content, 0644);
}

int volumes_write(const struct volume_plan *plan, char *error, size_t error_bytes)
{
    struct writer writer = {.group = plan->group, .error = error, .error_bytes = error_bytes};
    char path[4096];
    int status = writer_directories(&writer, plan->pod_directory, 0700);
    status = status != 0 ? status : writer_directories(&writer, plan->log_directory, 0755);
    for (size_t i = 0; i < plan->container_count && status == 0; i++) {
        snprintf(path, sizeof path, "%s/%s", plan->log_directory, plan->containers[i]);
        status = writer_directory(&writer, path, 0755);
    }
    struct writer plain = writer;
    plain.group = -1;
    status = status != 0 ? status : plan_write_hosts(&plain, plan);
    for (size_t i = 0; i < plan->step_count && status == 0; i++) {
        const struct volume_step *step = &plan->steps[i];
        switch (step->volume->kind) {
        case POD_VOLUME_EMPTY_DIR:
            status = step_write_empty(&writer, step);
            break;
        case POD_VOLUME_HOST_PATH:
            status = step_check_host(&plain, step);
            break;
        case POD_VOLUME_CONFIG_MAP:
        case POD_VOLUME_SECRET:
        case POD_VOLUME_DOWNWARD:
        case POD_VOLUME_PROJECTED:
            status = step_write_files(&writer, step);
            break;
        case POD_VOLUME_UNSUPPORTED:
            errno = ENOTSUP;
            status = writer_fail(&writer, "volume", step->volume->name);
            break;
        }
    }
    return status;
}

/* The runtime removes the cgroups of containers, never the pod's: every hierarchy has one. */
static int cgroups_remove(struct writer *writer, const char *cgroup_root, const char *uid)
{
    static const char base[] = "/sys/fs/cgroup";
    DIR *directory = opendir(base);
    int status = 0;
    for (struct dirent *entry; directory != NULL && status == 0;) {
        errno = 0;
        entry = readdir(directory);
        if (entry == NULL) {
            break;
        }
        char path[4096];
        /* "." is cgroup v2 alone; the others are the controllers of v1, and v2 beside them */
        if (strcmp(entry->d_name, "..") == 0 || entry->d_type == DT_LNK ||
            (entry->d_type != DT_DIR && entry->d_type != DT_UNKNOWN)) {
            continue;
        }
        snprintf(path, sizeof path, "%s/%s%s/pod%s", base, entry->d_name, cgroup_root, uid);
        if (rmdir(path) != 0 && errno != ENOENT && errno != ENOTDIR) {
            status = writer_fail(writer, "cannot remove", path);
        }
    }
    if (directory != NULL) {
        closedir(directory);
    }
    return status;
}

int volumes_remove(const char *root, const char *cgroup_root, const char *namespace,
                   const char *name, const char *uid, char *error, size_t error_bytes)
{
    struct writer writer = {.group = -1, .error = error, .error_bytes = error_bytes};
    struct arena arena;
    arena_init(&arena);
    int status = writer_remove_path(&writer, arena_print(&arena, "%s/pods/%s", root, uid));
    if (status == 0) {
        status =
            writer_remove_path(&writer, volumes_log_directory(root, namespace, name, uid, &arena));
    }
    if (status == 0 && cgroup_root[0] != 0) {
        status = cgroups_remove(&writer, cgroup_root, uid);
    }
    arena_deinit(&arena);
    return status;
}

int volumes_remove_log(const char *root, const char *namespace, const char *name, const char *uid,
                       const char *container, uint32_t attempt)
{
    struct arena arena;
    arena_init(&arena);
    const char *path = arena_print(
        &arena, "%s/%s", volumes_log_directory(root, namespace, name, uid, &arena), container);
    const char *prefix = arena_print(&arena, "%u.log", attempt);
    DIR *directory = opendir(path);
    int status = directory == NULL && errno != ENOENT ? -errno : 0;
    for (struct dirent *entry; directory != NULL && (entry = readdir(directory)) != NULL;) {
        /* 3.log and the rotated 3.log.20260102-030405 */
        const size_t size = strlen(prefix);
        if (strncmp(entry->d_name, prefix, size) == 0 &&
            (entry->d_name[size] == 0 || entry->d_name[size] == '.') &&
            unlinkat(dirfd(directory), entry->d_name, 0) != 0 && errno != ENOENT) {
            status = -errno;
        }
    }
    if (directory != NULL) {
        closedir(directory);
    }
    arena_deinit(&arena);
    return status;
}
