#include "tests/sim/disk_sim.h"

#include "schemas/check.h"
#include "schemas/status.h"

#include <stdlib.h>

#define SECTOR_BYTES 512u
#define PATH_BYTES   1024u

struct pending {
    struct pending *next;
    uint64_t offset;
    size_t size;
    uint8_t data[];
};

struct disk_sim_node {
    struct disk_sim_node *next;
    uint8_t *platter;
    size_t platter_size;
    uint8_t *seen;
    size_t seen_size;
    struct pending *pending; /* oldest first */
    struct pending **pending_tail;
    bool forgot;                /* a sync failed: seen holds what never reaches the platter */
    bool marked;                /* for nodes_sweep */
    struct disk_sim_node *copy; /* for disk_sim_clone */
};

enum change_kind { NAME, CREATED, RENAMED, UNLINKED };

struct disk_sim_name {
    struct disk_sim_name *next;
    enum change_kind kind;      /* NAME in names_seen and names_durable */
    struct disk_sim_node *node; /* NAME, CREATED */
    char path[PATH_BYTES];
    char path_new[PATH_BYTES]; /* RENAMED */
};

struct disk_file {
    struct disk_file *next;
    struct disk_sim_node *node; /* NULL: a lock, or dead */
    bool dead;
    char path[PATH_BYTES];
};

static struct disk_sim *sim_of(struct disk *disk)
{
    return CONTAINER_OF(disk, struct disk_sim, disk);
}

static void *must(void *memory)
{
    CHECK(memory != NULL);
    return memory;
}

/* Every call and step passes here once. Not 0: it fails with that. */
static int operation(struct disk_sim *disk)
{
    if (disk->halted) {
        return -EIO;
    }
    disk->operations++;
    if (disk->halt_at != 0 && disk->operations >= disk->halt_at) {
        disk->halted = true;
        return -EIO;
    }
    if (disk->fail_at != 0 && disk->operations >= disk->fail_at) {
        if (!disk->fail_for_good) {
            disk->fail_at = 0;
        }
        return disk->fail_status;
    }
    return 0;
}

/* The same for what changes something. */
static int change(struct disk_sim *disk)
{
    if (disk->on_change != NULL && !disk->halted) {
        disk->on_change(disk->on_change_context);
    }
    return operation(disk);
}

static int operation_on(struct disk_sim *disk, const struct disk_file *file)
{
    return file->dead ? -EIO : operation(disk);
}

static int change_on(struct disk_sim *disk, const struct disk_file *file)
{
    return file->dead ? -EIO : change(disk);
}

/* -- names ----------------------------------------------------------------------------------- */

static struct disk_sim_name **name_find(struct disk_sim_name **list, const char *path)
{
    while (*list != NULL && strcmp((*list)->path, path) != 0) {
        list = &(*list)->next;
    }
    return list;
}

static void name_put(struct disk_sim_name **list, const char *path, struct disk_sim_node *node)
{
    struct disk_sim_name **at = name_find(list, path);
    if (*at == NULL) {
        *at = must(calloc(1, sizeof **at));
        strcpy((*at)->path, path);
    }
    (*at)->node = node;
}

static struct disk_sim_node *name_take(struct disk_sim_name **list, const char *path)
{
    struct disk_sim_name **at = name_find(list, path);
    struct disk_sim_name *name = *at;
    if (name == NULL) {
        return NULL;
    }
    struct disk_sim_node *node = name->node;
    *at = name->next;
    free(name);
    return node;
}

static void change_apply(struct disk_sim_name **list, const struct disk_sim_name *change)
{
    switch (change->kind) {
    case CREATED:
        name_put(list, change->path, change->node);
        break;
    case RENAMED: {
        struct disk_sim_node *node = name_take(list, change->path);
        if (node != NULL) {
            name_put(list, change->path_new, node);
        }
        break;
    }
    case UNLINKED:
        name_take(list, change->path);
        break;
    case NAME:
        check_failed("a change is no name", __FILE__, __LINE__);
    }
}

static void change_note(struct disk_sim *disk, enum change_kind kind, const char *path,
                        const char *path_new, struct disk_sim_node *node)
{
    struct disk_sim_name **at = &disk->changes;
    while (*at != NULL) {
        at = &(*at)->next;
    }
    CHECK(strlen(path) < PATH_BYTES);
    struct disk_sim_name *change = must(calloc(1, sizeof *change));
    change->kind = kind;
    change->node = node;
    strcpy(change->path, path);
    if (path_new != NULL) {
        CHECK(strlen(path_new) < PATH_BYTES);
        strcpy(change->path_new, path_new);
    }
    *at = change;
    change_apply(&disk->names_seen, change);
}

static void names_free(struct disk_sim_name **list)
{
    while (*list != NULL) {
        struct disk_sim_name *name = *list;
        *list = name->next;
        free(name);
    }
}

/* -- nodes ----------------------------------------------------------------------------------- */

static void pending_free(struct disk_sim_node *node)
{
    while (node->pending != NULL) {
        struct pending *write = node->pending;
        node->pending = write->next;
        free(write);
    }
    node->pending_tail = &node->pending;
}

static void nodes_mark(struct disk_sim_name *list)
{
    for (; list != NULL; list = list->next) {
        if (list->node != NULL) {
            list->node->marked = true;
        }
    }
}

/* Free what no name, no change and no open file refers to. */
static void nodes_sweep(struct disk_sim *disk)
{
    nodes_mark(disk->names_seen);
    nodes_mark(disk->names_durable);
    nodes_mark(disk->changes);
    for (struct disk_file *file = disk->files; file != NULL; file = file->next) {
        if (file->node != NULL) {
            file->node->marked = true;
        }
    }
    struct disk_sim_node **at = &disk->nodes;
    while (*at != NULL) {
        struct disk_sim_node *node = *at;
        if (node->marked) {
            node->marked = false;
            at = &node->next;
        } else {
            *at = node->next;
            pending_free(node);
            free(node->platter);
            free(node->seen);
            free(node);
        }
    }
}

uint64_t disk_sim_used_bytes(const struct disk_sim *disk)
{
    uint64_t used = 0;
    for (const struct disk_sim_node *node = disk->nodes; node != NULL; node = node->next) {
        used += node->seen_size > node->platter_size ? node->seen_size : node->platter_size;
    }
    return used;
}

static void grow(uint8_t **data, size_t *size, size_t size_new)
{
    if (size_new > *size) {
        *data = must(realloc(*data, size_new));
        memset(*data + *size, 0, size_new - *size);
        *size = size_new;
    }
}

/* Change the bytes the process sees and remember what is not on the platter. data NULL: zeros. */
static void node_write(struct disk_sim_node *node, uint64_t offset, const uint8_t *data,
                       size_t size)
{
    if (size == 0) {
        return;
    }
    struct pending *write = must(malloc(sizeof *write + size));
    *write = (struct pending){.offset = offset, .size = size};
    if (data != NULL) {
        memcpy(write->data, data, size);
    } else {
        memset(write->data, 0, size);
    }
    grow(&node->seen, &node->seen_size, (size_t)offset + size);
    memcpy(node->seen + offset, write->data, size);
    *node->pending_tail = write;
    node->pending_tail = &write->next;
}

static void node_sync(struct disk_sim_node *node)
{
    if (node->platter_size > node->seen_size) {
        node->platter_size = node->seen_size;
    }
    grow(&node->platter, &node->platter_size, node->seen_size);
    for (const struct pending *write = node->pending; write != NULL; write = write->next) {
        if (write->offset < node->platter_size) { /* a truncation may have come after it */
            const size_t room = node->platter_size - (size_t)write->offset;
            memcpy(node->platter + write->offset, write->data,
                   write->size < room ? write->size : room);
        }
    }
    pending_free(node);
}

/* The machine stopped: what of the pending writes is on the platter? */
static void node_crash(struct disk_sim *disk, struct disk_sim_node *node, uint32_t keep_per_million)
{
    if (node->pending == NULL && !node->forgot && node->seen_size == node->platter_size) {
        return; /* most are at rest */
    }
    if (node->seen_size > node->platter_size && sim_chance(disk->sim, keep_per_million)) {
        grow(&node->platter, &node->platter_size, node->seen_size);
    }
    for (const struct pending *write = node->pending; write != NULL; write = write->next) {
        for (uint64_t at = write->offset; at < write->offset + write->size;) {
            uint64_t end = at - at % SECTOR_BYTES + SECTOR_BYTES;
            if (end > write->offset + write->size) {
                end = write->offset + write->size;
            }
            if (end <= node->platter_size && sim_chance(disk->sim, keep_per_million)) {
                memcpy(node->platter + at, write->data + (at - write->offset), (size_t)(end - at));
            }
            at = end;
        }
    }
    pending_free(node);
    node->forgot = false;
    node->seen = must(realloc(node->seen, node->platter_size + 1));
    node->seen_size = node->platter_size;
    if (node->platter_size > 0) {
        memcpy(node->seen, node->platter, node->platter_size);
    }
}

/* -- the seam -------------------------------------------------------------------------------- */

static int sim_make_directory(struct disk *base, const char *path)
{
    (void)path;
    return operation(sim_of(base));
}

static int file_new(struct disk_sim *disk, const char *path, struct disk_sim_node *node,
                    struct disk_file **out_file)
{
    CHECK(strlen(path) < PATH_BYTES);
    struct disk_file *file = must(calloc(1, sizeof *file));
    strcpy(file->path, path);
    file->node = node;
    file->next = disk->files;
    disk->files = file;
    *out_file = file;
    return 0;
}

static int sim_lock_directory(struct disk *base, const char *path, struct disk_file **out_lock)
{
    struct disk_sim *disk = sim_of(base);
    const int status = operation(disk);
    if (status != 0) {
        return status;
    }
    for (const struct disk_file *file = disk->files; file != NULL; file = file->next) {
        if (file->node == NULL && strcmp(file->path, path) == 0) {
            return STATUS_LOCKED;
        }
    }
    return file_new(disk, path, NULL, out_lock);
}

static int sim_list(struct disk *base, const char *path,
                    void (*each)(void *context, const char *name), void *context)
{
    struct disk_sim *disk = sim_of(base);
    const int status = operation(disk);
    if (status != 0) {
        return status;
    }
    const size_t size = strlen(path);
    for (const struct disk_sim_name *name = disk->names_seen; name != NULL; name = name->next) {
        if (strncmp(name->path, path, size) == 0 && name->path[size] == '/' &&
            strchr(name->path + size + 1, '/') == NULL) {
            each(context, name->path + size + 1);
        }
    }
    return 0;
}

static int sim_open(struct disk *base, const char *path, enum disk_open mode,
                    struct disk_file **out_file)
{
    struct disk_sim *disk = sim_of(base);
    const int status = mode == DISK_OPEN_CREATE ? change(disk) : operation(disk);
    if (status != 0) {
        return status;
    }
    const struct disk_sim_name *name = *name_find(&disk->names_seen, path);
    if (name == NULL && mode != DISK_OPEN_CREATE) {
        return -ENOENT;
    }
    if (name != NULL && mode != DISK_OPEN_CREATE) {
        return file_new(disk, path, name->node, out_file);
    }
    /* A file that is created over an old one is a new node: the old bytes may come back with the
     * old name, never under mixed sizes. */
    struct disk_sim_node *node = must(calloc(1, sizeof *node));
    node->pending_tail = &node->pending;
    node->next = disk->nodes;
    disk->nodes = node;
    change_note(disk, CREATED, path, NULL, node);
    return file_new(disk, path, node, out_file);
}

static void sim_close(struct disk *base, struct disk_file *file)
{
    struct disk_sim *disk = sim_of(base);
    struct disk_file **at = file->dead ? &disk->files_dead : &disk->files;
    while (*at != file) {
        CHECK(*at != NULL);
        at = &(*at)->next;
    }
    *at = file->next;
    free(file);
}

static int sim_size(struct disk *base, struct disk_file *file, uint64_t *out_bytes)
{
    const int status = operation_on(sim_of(base), file);
    if (status == 0) {
        *out_bytes = file->node->seen_size;
    }
    return status;
}

static int sim_read(struct disk *base, struct disk_file *file, uint64_t offset, uint8_t *out_data,
                    size_t size, size_t *out_got)
{
    const int status = operation_on(sim_of(base), file);
    if (status != 0) {
        return status;
    }
    const struct disk_sim_node *node = file->node;
    const size_t there = offset < node->seen_size ? node->seen_size - (size_t)offset : 0;
    *out_got = there < size ? there : size;
    if (*out_got > 0) {
        memcpy(out_data, node->seen + offset, *out_got);
    }
    return 0;
}

static int write_or_zero(struct disk_sim *disk, struct disk_file *file, uint64_t offset,
                         const uint8_t *data, size_t size)
{
    const bool was_halted = disk->halted || file->dead;
    const int status = change_on(disk, file);
    if (status != 0) {
        if (!was_halted) { /* the call was cut short, it did not fail to happen */
            node_write(file->node, offset, data, (size_t)sim_below(disk->sim, size + 1));
        }
        return status;
    }
    if (disk->capacity_bytes != UINT64_MAX && offset + size > file->node->seen_size &&
        disk_sim_used_bytes(disk) + (offset + size - file->node->seen_size) >
            disk->capacity_bytes) {
        return -ENOSPC;
    }
    node_write(file->node, offset, data, size);
    return 0;
}

static int sim_write(struct disk *base, struct disk_file *file, uint64_t offset,
                     const uint8_t *data, size_t size)
{
    return write_or_zero(sim_of(base), file, offset, data, size);
}

static int sim_zero(struct disk *base, struct disk_file *file, uint64_t offset, uint64_t size)
{
    return write_or_zero(sim_of(base), file, offset, NULL, (size_t)size);
}

static int sim_sync(struct disk *base, struct disk_file *file)
{
    struct disk_sim *disk = sim_of(base);
    const bool was_halted = disk->halted || file->dead;
    const int status = change_on(disk, file);
    if (status == 0) {
        node_sync(file->node);
        disk->syncs++;
    } else if (disk->fail_forgets && !was_halted && !disk->halted) {
        pending_free(file->node);
        file->node->forgot = true;
    }
    return status;
}

static int sim_truncate(struct disk *base, struct disk_file *file, uint64_t size)
{
    const int status = change_on(sim_of(base), file);
    if (status != 0) {
        return status;
    }
    if (size < file->node->seen_size) {
        file->node->seen_size = (size_t)size;
    } else {
        grow(&file->node->seen, &file->node->seen_size, (size_t)size);
    }
    return 0;
}

static int sim_rename(struct disk *base, const char *path, const char *path_new)
{
    struct disk_sim *disk = sim_of(base);
    const int status = change(disk);
    if (status != 0) {
        return status;
    }
    if (*name_find(&disk->names_seen, path) == NULL) {
        return -ENOENT;
    }
    change_note(disk, RENAMED, path, path_new, NULL);
    return 0;
}

static int sim_unlink(struct disk *base, const char *path)
{
    struct disk_sim *disk = sim_of(base);
    const int status = change(disk);
    if (status == 0 && *name_find(&disk->names_seen, path) != NULL) {
        change_note(disk, UNLINKED, path, NULL, NULL);
    }
    return status;
}

static bool path_in_directory(const char *path, const char *directory)
{
    const size_t size = strlen(directory);
    return strncmp(path, directory, size) == 0 && path[size] == '/' &&
           strchr(path + size + 1, '/') == NULL;
}

static int sim_sync_directory(struct disk *base, const char *path)
{
    struct disk_sim *disk = sim_of(base);
    const int status = change(disk);
    if (status != 0) {
        return status;
    }
    struct disk_sim_name **at = &disk->changes;
    while (*at != NULL) {
        struct disk_sim_name *change = *at;
        if (path_in_directory(change->path, path)) {
            change_apply(&disk->names_durable, change);
            *at = change->next;
            free(change);
        } else {
            at = &change->next;
        }
    }
    nodes_sweep(disk);
    return 0;
}

/* -- jobs ------------------------------------------------------------------------------------ */

static void lane_on_due(void *context);

static void lane_start(struct disk_sim *disk, uint32_t number)
{
    uint64_t latency_us = sim_between(disk->sim, disk->latency_us_min, disk->latency_us_max);
    const struct disk_job *job = disk->lane_head[number];
    for (uint32_t i = 0; i < job->step_count; i++) {
        latency_us += job->steps[i].size / 1024;
    }
    if (disk->sim->now_us < disk->slow_until_us) {
        latency_us *= disk->slow_factor;
    }
    sim_after(disk->sim, latency_us, disk->owner, lane_on_due, &disk->lanes[number]);
}

static void lane_on_due(void *context)
{
    const struct disk_sim_lane *lane = context;
    struct disk_sim *disk = lane->disk;
    struct disk_job *job = disk->lane_head[lane->number];
    CHECK(job != NULL);

    for (uint32_t i = 0; i < job->step_count && job->status == 0; i++) {
        job->status = disk_step_run(&disk->disk, &job->steps[i]);
        job->step_failed = i;
    }
    disk->lane_head[lane->number] = job->next;
    for (struct disk_job *behind = job->next; behind != NULL && job->status != 0;
         behind = behind->next) {
        behind->status = job->status;
    }
    if (job->next != NULL) {
        lane_start(disk, lane->number);
    } else {
        disk->lane_tail[lane->number] = NULL;
    }
    job->callback(job);
}

static void sim_submit(struct disk *base, struct disk_job *job)
{
    struct disk_sim *disk = sim_of(base);
    if (disk->lane_head[job->lane] == NULL) {
        disk->lane_head[job->lane] = job;
        disk->lane_tail[job->lane] = job;
        lane_start(disk, job->lane);
    } else {
        disk->lane_tail[job->lane]->next = job;
        disk->lane_tail[job->lane] = job;
    }
}

/* -- life and death -------------------------------------------------------------------------- */

static const struct disk_ops sim_ops = {
    .make_directory = sim_make_directory,
    .lock_directory = sim_lock_directory,
    .list = sim_list,
    .open = sim_open,
    .close = sim_close,
    .size = sim_size,
    .read = sim_read,
    .write = sim_write,
    .zero = sim_zero,
    .sync = sim_sync,
    .truncate = sim_truncate,
    .rename = sim_rename,
    .unlink = sim_unlink,
    .sync_directory = sim_sync_directory,
    .submit = sim_submit,
};

void disk_sim_init(struct disk_sim *disk, struct sim *sim)
{
    *disk = (struct disk_sim){
        .disk.ops = &sim_ops,
        .sim = sim,
        .owner = sim_owner_new(sim),
        .latency_us_min = 100,
        .latency_us_max = 300,
        .slow_factor = 1,
        .capacity_bytes = UINT64_MAX,
    };
    for (uint32_t i = 0; i < DISK_LANES; i++) {
        disk->lanes[i] = (struct disk_sim_lane){.disk = disk, .number = i};
    }
}

/* -- copies ---------------------------------------------------------------------------------- */

static uint8_t *copy_of(const uint8_t *data, size_t size)
{
    uint8_t *copy = must(malloc(size + 1));
    if (size > 0) {
        memcpy(copy, data, size);
    }
    return copy;
}

static struct disk_sim_node *node_clone(const struct disk_sim_node *node)
{
    struct disk_sim_node *copy = must(calloc(1, sizeof *copy));
    copy->platter_size = node->platter_size;
    copy->platter = copy_of(node->platter, node->platter_size);
    copy->seen_size = node->seen_size;
    copy->seen = copy_of(node->seen, node->seen_size);
    copy->forgot = node->forgot;
    copy->pending_tail = &copy->pending;
    for (const struct pending *write = node->pending; write != NULL; write = write->next) {
        struct pending *again = must(malloc(sizeof *again + write->size));
        memcpy(again, write, sizeof *again + write->size);
        again->next = NULL;
        *copy->pending_tail = again;
        copy->pending_tail = &again->next;
    }
    return copy;
}

static void names_clone(struct disk_sim_name **at, const struct disk_sim_name *name)
{
    for (; name != NULL; name = name->next) {
        struct disk_sim_name *copy = must(malloc(sizeof *copy));
        *copy = *name;
        copy->next = NULL;
        copy->node = name->node == NULL ? NULL : name->node->copy;
        *at = copy;
        at = &copy->next;
    }
}

void disk_sim_clone(struct disk_sim *copy, struct sim *sim, const struct disk_sim *disk)
{
    disk_sim_init(copy, sim);
    for (struct disk_sim_node *node = disk->nodes; node != NULL; node = node->next) {
        node->copy = node_clone(node);
        node->copy->next = copy->nodes;
        copy->nodes = node->copy;
    }
    names_clone(&copy->names_seen, disk->names_seen);
    names_clone(&copy->names_durable, disk->names_durable);
    names_clone(&copy->changes, disk->changes);
    nodes_sweep(copy); /* a file that only its owner had open is nobody's here */
}

static void files_free(struct disk_file **list)
{
    while (*list != NULL) {
        struct disk_file *file = *list;
        *list = file->next;
        free(file);
    }
}

static void files_die(struct disk_sim *disk)
{
    while (disk->files != NULL) {
        struct disk_file *file = disk->files;
        disk->files = file->next;
        file->dead = true;
        file->node = NULL;
        file->next = disk->files_dead;
        disk->files_dead = file;
    }
}

void disk_sim_deinit(struct disk_sim *disk)
{
    sim_cancel_owner(disk->sim, disk->owner);
    files_free(&disk->files);
    files_free(&disk->files_dead);
    names_free(&disk->names_seen);
    names_free(&disk->names_durable);
    names_free(&disk->changes);
    nodes_sweep(disk);
    CHECK(disk->nodes == NULL);
}

/* What the jobs of a lane had done when the machine stopped: some of their steps, in order. */
static void lane_crash(struct disk_sim *disk, uint32_t number)
{
    const struct disk_job *job = disk->lane_head[number];
    disk->lane_head[number] = NULL;
    disk->lane_tail[number] = NULL;
    if (job == NULL || disk->halted) {
        return;
    }
    uint64_t steps = 0;
    for (const struct disk_job *each = job; each != NULL; each = each->next) {
        steps += each->step_count;
    }
    uint64_t done = sim_below(disk->sim, steps + 1);
    int status = 0;
    for (; job != NULL && status == 0; job = job->next) {
        status = job->status; /* of one that failed before it was tried */
        for (uint32_t i = 0; i < job->step_count && done > 0 && status == 0; i++) {
            status = disk_step_run(&disk->disk, &job->steps[i]);
            done--;
        }
    }
}

void disk_sim_crash(struct disk_sim *disk, enum disk_sim_crash how)
{
    disk->fail_at = 0;
    disk->on_change = NULL;
    for (uint32_t i = 0; i < DISK_LANES; i++) {
        lane_crash(disk, i);
    }
    sim_cancel_owner(disk->sim, disk->owner);
    disk->owner = sim_owner_new(disk->sim);
    files_die(disk);
    disk->halt_at = 0;
    disk->halted = false;
    if (how == DISK_SIM_KILL) {
        return;
    }

    /* One crash in four loses all, one keeps all, the others tear: with one chance per sector in
     * between, whole batches would hardly ever be lost or kept. */
    uint32_t keep_per_million = 0;
    switch (how) {
    case DISK_SIM_KILL:
    case DISK_SIM_POWER_DROP:
        break;
    case DISK_SIM_POWER_KEEP:
        keep_per_million = 1000000;
        break;
    case DISK_SIM_POWER_TEAR:
        keep_per_million = (uint32_t)sim_between(disk->sim, 1, 999999);
        break;
    case DISK_SIM_POWER: {
        const uint64_t kind = sim_below(disk->sim, 4);
        keep_per_million = kind == 0   ? 0
                           : kind == 1 ? 1000000
                                       : (uint32_t)sim_below(disk->sim, 1000001);
        break;
    }
    }
    uint64_t names = 0;
    for (const struct disk_sim_name *change = disk->changes; change != NULL;
         change = change->next) {
        names++;
    }
    names = keep_per_million == 0         ? 0
            : keep_per_million == 1000000 ? names
                                          : sim_below(disk->sim, names + 1);
    for (const struct disk_sim_name *change = disk->changes; names > 0; change = change->next) {
        change_apply(&disk->names_durable, change);
        names--;
    }
    names_free(&disk->changes);
    names_free(&disk->names_seen);
    for (const struct disk_sim_name *name = disk->names_durable; name != NULL; name = name->next) {
        name_put(&disk->names_seen, name->path, name->node);
    }
    nodes_sweep(disk);
    for (struct disk_sim_node *node = disk->nodes; node != NULL; node = node->next) {
        node_crash(disk, node, keep_per_million);
    }
}

void disk_sim_slow(struct disk_sim *disk, uint64_t for_us, uint32_t factor)
{
    CHECK(factor > 0);
    disk->slow_until_us = disk->sim->now_us + for_us;
    disk->slow_factor = factor;
}

void disk_sim_flip(struct disk_sim *disk, const char *path, uint64_t offset, uint8_t mask)
{
    struct disk_sim_name *name = *name_find(&disk->names_seen, path);
    CHECK(name != NULL);
    CHECK(offset < name->node->seen_size);
    name->node->seen[offset] ^= mask;
    if (offset < name->node->platter_size) {
        name->node->platter[offset] ^= mask;
    }
}

void disk_sim_peek(struct disk_sim *disk, const char *path, uint8_t **out_data, size_t *out_size)
{
    struct disk_sim_name *name = *name_find(&disk->names_seen, path);
    *out_data = NULL;
    *out_size = 0;
    if (name != NULL) {
        *out_size = name->node->seen_size;
        *out_data = must(malloc(*out_size + 1));
        if (*out_size > 0) {
            memcpy(*out_data, name->node->seen, *out_size);
        }
    }
}
