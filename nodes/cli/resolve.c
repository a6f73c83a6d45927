/* kelp resolve DIR [--yes].
 *
 *   1. the note of the failure is read (nodes/fault.h); without one there is nothing to do
 *   2. what the kernel remembers of the files is dropped: after a failed write it may show pages that
 *      never reached the disk, and only what is on the disk counts
 *   3. every byte of the log is read, every row of the state, and the two must fit together
 *   4. the file system takes a write, a sync, and gives the same bytes back
 *   5. with --yes, and when all of that held, the note is removed
 */
#include "nodes/cli/resolve.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log/disk_uv.h"
#include "log/inspect.h"
#include "nodes/cloud/state_place.h"
#include "nodes/fault.h"
#include "nodes/options.h"
#include "schemas/status.h"
#include "statemachine/store.h"

#define EXIT_REFUSED 5
#define PROBE_BYTES  (1024u * 1024u)

/* What was found; sound until something is not. */
struct resolve {
    char log[1100];
    char state[1100];
    bool sound;
    bool log_there;
    uint64_t log_first;
    uint64_t log_next;
};

static void line(const char *what, bool good, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void line(const char *what, bool good, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    printf("%-8s %-4s ", what, good ? "ok" : "BAD");
    vprintf(format, arguments);
    putchar('\n');
    va_end(arguments);
}

/* Let the kernel forget the pages of all files here: the next read asks the disk. */
static void forget_pages(const char *directory)
{
    DIR *listing = opendir(directory);
    if (listing == NULL) {
        return;
    }
    for (struct dirent *entry = readdir(listing); entry != NULL; entry = readdir(listing)) {
        const int fd = openat(dirfd(listing), entry->d_name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (fd >= 0) {
            (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
            (void)close(fd);
        }
    }
    (void)closedir(listing);
}

static void look_at_log(struct resolve *resolve)
{
    struct disk_uv *uv = disk_uv_new(NULL);
    struct inspect inspect;
    int status = uv == NULL
                     ? -ENOMEM
                     : inspect_open(&inspect, disk_uv_disk(uv), resolve->log, INSPECT_VERIFY);
    if (status == -ENOENT) {
        line("log", true, "%s: none yet", resolve->log);
    } else if (status != 0) {
        resolve->sound = false;
        line("log", false, "%s cannot be read: %s", resolve->log, status_text(status));
    } else if (inspect.damage_status != 0) {
        resolve->sound = false;
        line("log", false, "%s, offset %" PRIu64 ": %s", inspect.damage_path, inspect.damage_offset,
             inspect.damage_message);
    } else {
        struct log_frame frame;
        uint64_t frames = 0;
        inspect_seek(&inspect, 0);
        while ((status = inspect_next(&inspect, &frame)) == INSPECT_FRAME) {
            frames++;
        }
        const bool whole = status == INSPECT_END;
        resolve->sound = resolve->sound && whole;
        resolve->log_there = whole;
        resolve->log_first = inspect.index_first;
        resolve->log_next = inspect.index_next;
        if (whole) {
            line("log", true,
                 "%s: %" PRIu64 " frames in %u segments, all read; %" PRIu64
                 " bytes behind the last one, never acknowledged, will be cut",
                 resolve->log, frames, inspect.segment_count, inspect.bytes_torn);
        } else {
            line("log", false, "%s, behind frame %" PRIu64 " of %" PRIu64 ": %s", resolve->log,
                 frames, inspect.frames, status < 0 ? status_text(status) : "its owner is at work");
        }
    }
    if (uv != NULL) {
        inspect_close(&inspect);
    }
    disk_uv_free(uv);
}

static void look_at_state(struct resolve *resolve)
{
    uint64_t rows;
    uint64_t position;
    char reason[256];
    const int status = store_rocks_verify(resolve->state, &rows, &position, reason);
    if (status == -ENOENT) {
        line("state", true, "%s: none yet", resolve->state);
        return;
    }
    if (status != 0) {
        resolve->sound = false;
        line("state", false, "%s: %s: %s", resolve->state, status_text(status), reason);
        return;
    }
    /* The state of place n is carried on by frame n + 1. */
    const bool fits =
        !resolve->log_there || (position + 1 >= resolve->log_first && position < resolve->log_next);
    resolve->sound = resolve->sound && fits;
    if (fits) {
        line("state", true, "%s: %" PRIu64 " rows, all read; of frame %" PRIu64, resolve->state,
             rows, position);
    } else {
        line("state", false,
             "%s is of frame %" PRIu64 ", the log goes from %" PRIu64 " to before %" PRIu64,
             resolve->state, position, resolve->log_first, resolve->log_next);
    }
}

/* Write, sync, let the kernel forget, read back. Answers 0 or -errno, *out_what says in what. */
static int probe(const char *path, const char **out_what)
{
    uint8_t *data = malloc(2 * PROBE_BYTES);
    if (data == NULL) {
        *out_what = "memory";
        return -ENOMEM;
    }
    for (size_t i = 0; i < PROBE_BYTES; i++) {
        data[i] = (uint8_t)(i * 131 + (i >> 8));
    }
    int status = 0;
    *out_what = "create";
    const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        status = -errno;
    } else {
        errno = ENOSPC; /* of a short write */
        if (write(fd, data, PROBE_BYTES) != (ssize_t)PROBE_BYTES) {
            *out_what = "write";
            status = -errno;
        } else if (fdatasync(fd) != 0) {
            *out_what = "fdatasync";
            status = -errno;
        } else {
            (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
            *out_what = "read back";
            const ssize_t got = pread(fd, data + PROBE_BYTES, PROBE_BYTES, 0);
            status =
                got < 0 ? -errno
                : got != (ssize_t)PROBE_BYTES || memcmp(data, data + PROBE_BYTES, PROBE_BYTES) != 0
                    ? STATUS_CORRUPT
                    : 0;
        }
        (void)close(fd);
        (void)unlink(path);
    }
    free(data);
    return status;
}

static void look_at_disk(struct resolve *resolve, const char *directory)
{
    char path[1100];
    const char *what;
    snprintf(path, sizeof path, "%s/resolve.tmp", directory);
    const int status = probe(path, &what);
    resolve->sound = resolve->sound && status == 0;
    if (status == 0) {
        line("disk", true, "%s takes %u bytes, syncs them and gives them back", directory,
             PROBE_BYTES);
    } else {
        line("disk", false, "%s: %s: %s", path, what, status_text(status));
    }
}

static int resolve_run(const char *directory, bool yes)
{
    struct fault fault;
    struct stat about;
    const int found = stat(directory, &about) != 0 ? errno : S_ISDIR(about.st_mode) ? 0 : ENOTDIR;
    if (found != 0) {
        fprintf(stderr, "kelp resolve: %s cannot be looked at: %s\n", directory, strerror(found));
        return EXIT_REFUSED;
    }
    if (faccessat(AT_FDCWD, directory, R_OK | W_OK | X_OK, AT_EACCESS) != 0 && errno == EACCES) {
        fprintf(stderr,
                "kelp resolve: %s may not be read and written by this user; try as the user it "
                "belongs to\n",
                directory);
        return EXIT_REFUSED;
    }
    if (fault_read(directory, &fault) != 0) {
        fprintf(stderr, "kelp resolve: no I/O error is noted in %s: there is nothing to resolve\n",
                directory);
        return OPTIONS_EXIT_NOTHING;
    }
    printf("%-8s %s %s: %s: %s (%s)\n", "noted", fault.time[0] == 0 ? "-" : fault.time,
           fault.program[0] == 0 ? "-" : fault.program, fault.operation, fault.error, fault.path);
    struct resolve resolve = {.sound = true};
    snprintf(resolve.log, sizeof resolve.log, "%s/log", directory);
    struct state_place place;
    const int placed = state_place_open(&place, directory);
    if (placed == 0) {
        snprintf(resolve.state, sizeof resolve.state, "%s", state_place_current(&place));
    } else {
        resolve.sound = false;
        line("state", false, "%s/state.current cannot be read: %s", directory, status_text(placed));
    }
    forget_pages(resolve.log);
    forget_pages(resolve.state);
    look_at_log(&resolve);
    if (placed == 0) {
        look_at_state(&resolve);
    }
    look_at_disk(&resolve, directory);
    if (!resolve.sound) {
        printf("not resolved: mend or replace the disk first. What cannot be read again comes from "
               "the other "
               "cloudcores,\nor to an edge from the cloud, once the directory is moved away.\n");
        return EXIT_REFUSED;
    }
    if (!yes) {
        printf("all that was looked at is sound, nothing was changed: --yes removes the note\n");
        return OPTIONS_EXIT_OK;
    }
    const int status = fault_remove(directory);
    if (status != 0) {
        printf("not resolved: the note %s/" FAULT_NOTE " cannot be removed: %s\n", directory,
               status_text(status));
        return EXIT_REFUSED;
    }
    printf("resolved: restart %s now, it starts as usual\n",
           fault.program[0] == 0 ? "the service" : fault.program);
    return OPTIONS_EXIT_OK;
}

int cli_resolve(int argc, char **argv)
{
    bool yes = false;
    const struct options_flag flags[] = {
        {"yes", 'y', OPTIONS_FLAG, &yes, NULL, "remove the note of the failure, if all is sound"},
    };
    const struct options_command command = {
        .name = "kelp resolve",
        .arguments = "DIR",
        .about =
            "After an I/O error a cloudcore or edgecore starts read-only: its data directory DIR "
            "holds a note of\nthe failure. This reads every byte of the log and every row of the "
            "state "
            "from the disk, and lets\nthe disk take a write. Without --yes nothing of them is "
            "changed. Run it as the user who owns DIR.\n\n"
            "Exit codes: 0 sound, 1 no failure is noted, 2 usage, 5 not sound, or DIR cannot be "
            "read.",
        .flags = flags,
        .flags_count = 1,
        .arguments_min = 1,
        .arguments_max = 1,
    };
    struct options_list words;
    switch (options_parse(&command, argc, argv, &words)) {
    case OPTIONS_DONE:
        return OPTIONS_EXIT_OK;
    case OPTIONS_USAGE:
        return OPTIONS_EXIT_USAGE;
    case OPTIONS_RUN:
        break;
    }
    const int code = resolve_run(words.items[0], yes);
    return fflush(stdout) == 0 ? code : EXIT_REFUSED;
}
