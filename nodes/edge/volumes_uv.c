#include "nodes/edge/volumes_uv.h"

#include "schemas/check.h"

#include <stdlib.h>

struct volumes_work {
    uv_work_t request;
    struct arena arena; /* of the texts */
    struct volume_plan plan;
    bool removes;
    const char *root, *cgroup_root, *namespace, *name, *uid;
    int status;
    char message[512];
    void (*on_done)(void *context, const char *uid, int status, const char *message);
    void *context;
};

static void volumes_on_work(uv_work_t *request)
{
    struct volumes_work *work = CONTAINER_OF(request, struct volumes_work, request);
    work->status = work->removes
                       ? volumes_remove(work->root, work->cgroup_root, work->namespace, work->name,
                                        work->uid, work->message, sizeof work->message)
                       : volumes_write(&work->plan, work->message, sizeof work->message);
}

static void volumes_on_worked(uv_work_t *request, int status)
{
    struct volumes_work *work = CONTAINER_OF(request, struct volumes_work, request);
    CHECK(status == 0); /* work is never cancelled */
    work->on_done(work->context, work->uid, work->status, work->message);
    volume_plan_deinit(&work->plan);
    arena_deinit(&work->arena);
    free(work);
}

static struct volumes_work *
volumes_work_new(const char *uid, void (*on_done)(void *, const char *, int, const char *),
                 void *context)
{
    struct volumes_work *work = calloc(1, sizeof *work);
    CHECK(work != NULL);
    arena_init(&work->arena);
    work->uid = arena_text(&work->arena, uid);
    work->on_done = on_done;
    work->context = context;
    return work;
}

void volumes_uv_write(uv_loop_t *loop, struct volume_plan *plan, const char *uid,
                      void (*on_done)(void *context, const char *uid, int status,
                                      const char *message),
                      void *context)
{
    struct volumes_work *work = volumes_work_new(uid, on_done, context);
    work->plan = *plan;
    *plan = (struct volume_plan){0};
    CHECK(uv_queue_work(loop, &work->request, volumes_on_work, volumes_on_worked) == 0);
}

void volumes_uv_remove(uv_loop_t *loop, const char *root, const char *cgroup_root,
                       const char *namespace, const char *name, const char *uid,
                       void (*on_done)(void *context, const char *uid, int status,
                                       const char *message),
                       void *context)
{
    struct volumes_work *work = volumes_work_new(uid, on_done, context);
    work->removes = true;
    work->root = arena_text(&work->arena, root);
    work->cgroup_root = arena_text(&work->arena, cgroup_root);
    work->namespace = arena_text(&work->arena, namespace);
    work->name = arena_text(&work->arena, name);
    CHECK(uv_queue_work(loop, &work->request, volumes_on_work, volumes_on_worked) == 0);
}
