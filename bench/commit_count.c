#include "bench/commit_count.h"

#include "log/disk_uv.h"
#include "log/log.h"
#include "schemas/check.h"
#include "schemas/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SNAPSHOT_BYTES (32u * 1024u * 1024u)
#define LOG_TICKS      100u /* of ours between two of the log */

static uv_loop_t *count_loop;
static struct log count_log;
static struct replica *replica;
static uint64_t applied;
static bool fetched;

static uint64_t now_ms(void)
{
    return uv_hrtime() / 1000000;
}

__attribute__((noreturn)) static void give_up(const char *what, int status)
{
    fprintf(stderr, "commit: %s: %s\n", what, status_text(status));
    _exit(1);
}

static void state_apply(void *context, uint64_t index, uint64_t term, struct bytes bytes)
{
    (void)context;
    (void)term;
    (void)bytes;
    applied = index;
}

static int state_start(void *context, uint64_t index)
{
    (void)context;
    (void)index;
    return 0;
}

static int state_make(void *context, struct manifest *out)
{
    (void)context;
    out->applied_index = applied; /* read beside the loop: a number that only grows */
    return 0;
}

static void state_end(void *context, int status)
{
    (void)context;
    (void)status;
}

static int state_fetch(void *context, uint64_t from, const struct manifest *manifest)
{
    (void)context;
    (void)from;
    (void)manifest;
    fetched = true;
    return 0;
}

static int state_restore(void *context, const struct manifest *manifest,
                         uint64_t *out_applied_index)
{
    (void)context;
    applied = manifest->applied_index;
    *out_applied_index = applied;
    return 0;
}

struct job {
    uv_work_t request;
    struct replica_work *work;
};

static void job_run(uv_work_t *request)
{
    struct job *job = CONTAINER_OF(request, struct job, request);
    job->work->work(job->work);
}

static void job_on_done(uv_work_t *request, int status)
{
    (void)status;
    struct job *job = CONTAINER_OF(request, struct job, request);
    job->work->done(job->work);
    free(job);
}

static void state_run(void *context, struct replica_work *work)
{
    (void)context;
    struct job *job = malloc(sizeof *job);
    CHECK(job != NULL);
    job->work = work;
    CHECK(uv_queue_work(count_loop, &job->request, job_run, job_on_done) == 0);
}

struct replica *commit_count_open(uv_loop_t *loop, uint64_t id, const char *directory,
                                  int (*send)(void *context, uint64_t to, struct bytes message))
{
    char path[512];
    snprintf(path, sizeof path, "%s/%lu", directory, id);
    count_loop = loop;
    const struct log_options options = {.directory = path, .owner = {(uint8_t)id}};
    struct log_recovery recovery;
    int status = log_open(&count_log, disk_uv_disk(disk_uv_new(loop)), &options, &recovery);
    if (status != 0) {
        give_up(path, status);
    }
    static const struct replica_member members[COMMIT_REPLICAS] = {
        {1, "one", REPLICA_VOTER}, {2, "two", REPLICA_VOTER}, {3, "three", REPLICA_VOTER}};
    const struct replica_config config = {.id = id,
                                          .address = members[id - 1].address,
                                          .members = members,
                                          .member_count = COMMIT_REPLICAS,
                                          .epoch = 1,
                                          .seed = uv_hrtime() * id,
                                          .now_ms = now_ms(),
                                          .snapshot_bytes = SNAPSHOT_BYTES,
                                          .run = state_run};
    const struct replica_hooks hooks = {.apply = state_apply,
                                        .checkpoint_start = state_start,
                                        .checkpoint_make = state_make,
                                        .checkpoint_end = state_end,
                                        .checkpoint_fetch = state_fetch,
                                        .checkpoint_restore = state_restore};
    const struct replica_peers peers = {.send = send};
    status = replica_open(&count_log, &config, &hooks, &peers, &replica);
    if (status != 0) {
        give_up("replica_open", status);
    }
    return replica;
}

void commit_count_turn(void)
{
    replica_flush(replica);
}

void commit_count_tick(void)
{
    static uint64_t ticks;
    replica_tick(replica, now_ms());
    if (fetched) {
        fetched = false;
        replica_fetched(replica, 0);
    }
    if (++ticks % LOG_TICKS == 0) {
        log_tick(&count_log, 0);
    }
}
