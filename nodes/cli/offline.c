#define _XOPEN_SOURCE 700
#include "nodes/cli/offline.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "nodes/program.h"
#include "nodes/tag_tls.h"
#include "schemas/check.h"
#include "statemachine/machine.h"

/* -- the log ------------------------------------------------------------------------------------------ */

static void offline_free(struct offline_log *offline)
{
    disk_uv_free(offline->uv);
    while (uv_loop_close(&offline->loop) == UV_EBUSY) {
        uv_run(&offline->loop, UV_RUN_DEFAULT);
    }
}

int offline_log_open(struct offline_log *offline, const char *directory, uint64_t replica)
{
    char name[32];
    snprintf(name, sizeof name, "cloudcore-%" PRIu64, replica);
    struct log_options options = {.directory = directory, .history_bytes = UINT64_MAX};
    tag_owner("cloudcore", name, options.owner);
    CHECK(uv_loop_init(&offline->loop) == 0);
    offline->closed = false;
    offline->uv = disk_uv_new(&offline->loop);
    CHECK(offline->uv != NULL);
    const int status =
        log_open(&offline->log, disk_uv_disk(offline->uv), &options, &offline->recovery);
    if (status != 0) {
        offline_free(offline);
    }
    return status;
}

static void offline_on_done(struct log_request *request, int status)
{
    struct offline_log *offline = request->context;
    offline->done = true;
    offline->status = status;
}

int offline_log_begin(struct offline_log *offline, const struct replica_beginning *beginning)
{
    int status = replica_begin(&offline->log, beginning);
    if (status != 0) {
        return status;
    }
    offline->done = false;
    offline->request = (struct log_request){.callback = offline_on_done, .context = offline};
    status = log_reset(&offline->log, &offline->request, beginning->index + 1);
    while (status == 0 && !offline->done) {
        if (uv_run(&offline->loop, UV_RUN_ONCE) == 0 && !offline->done) {
            return -ENOSPC; /* it waits for room */
        }
    }
    return status != 0 ? status : offline->status;
}

static void offline_on_closed(void *context)
{
    ((struct offline_log *)context)->closed = true;
}

int offline_log_close(struct offline_log *offline)
{
    log_close(&offline->log, offline_on_closed, offline);
    while (!offline->closed) {
        uv_run(&offline->loop, UV_RUN_ONCE);
    }
    const int status = log_status(&offline->log);
    offline_free(offline);
    return status == STATUS_CLOSING ? 0 : status;
}

/* -- the state ----------------------------------------------------------------------------------------- */

int offline_store_open(const char *directory, struct store **out)
{
    const struct store_options options = {
        .directory = directory,
        .profile = STORE_CLOUD,
        .machine = MACHINE_NAME,
        .format = MACHINE_FORMAT,
    };
    return store_rocks_open(&options, out);
}

int offline_commit(struct store *store, uint64_t position)
{
    int status = store_commit(store, position);
    while (status == STATUS_FULL) {
        status = store_wait(store);
        if (status == 0) {
            status = store_commit(store, position);
        }
    }
    if (status != 0) {
        store_abandon(store);
    }
    return status;
}

/* -- the file system ------------------------------------------------------------------------------------ */

int offline_sync(const char *directory)
{
    const int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    const int status = fsync(fd) == 0 ? 0 : -errno;
    (void)close(fd);
    return status;
}

int offline_rename(const char *from, const char *to, const char *directory)
{
    return rename(from, to) != 0 ? -errno : offline_sync(directory);
}

static int remove_one(const char *path, const struct stat *stat, int kind, struct FTW *ftw)
{
    (void)stat;
    (void)kind;
    (void)ftw;
    return remove(path);
}

int offline_remove(const char *directory)
{
    if (access(directory, F_OK) != 0) {
        return errno == ENOENT ? 0 : -errno;
    }
    return nftw(directory, remove_one, 8, FTW_DEPTH | FTW_PHYS) == 0 ? 0 : -errno;
}

int64_t offline_now_ms(void)
{
    return program_wall_ms();
}

void offline_date(int64_t ms, char out[32])
{
    const time_t seconds = (time_t)(ms / 1000);
    struct tm tm;
    if (gmtime_r(&seconds, &tm) == NULL || strftime(out, 32, "%Y-%m-%d %H:%M:%S UTC", &tm) == 0) {
        snprintf(out, 32, "?");
    }
}
