/* The store in memory, for the simulator: every commit is a version of a persistent tree, a crash
 * is taking an older one. */
#include <stdio.h>
#include <stdlib.h>

#include "schemas/check.h"
#include "statemachine/store_body.h"

/* The state after one commit. */
struct store_version {
    struct tree *tree;
    uint64_t position;
};

struct store_sim_checkpoint {
    struct store_sim_checkpoint *next;
    struct store_version version;
    char machine[32];
    uint32_t format;
    char directory[];
};

/* Versions a crash can go back to: older ones are taken for flushed, as RocksDB flushes by itself
 * when its memory tables are full. */
#define STORE_SIM_VERSIONS 4096u

struct store_sim {
    struct store_version *versions; /* [0] is the flushed one, the last is the newest */
    size_t version_count;
    size_t version_capacity;
    char machine[32]; /* "" when the disk is new */
    uint32_t format;
    struct store_sim_checkpoint *checkpoints;
    struct store_sim_store *open; /* NULL: none is open */
    uint64_t fail_after;          /* writes that still succeed */
    int fail_status;              /* 0: all do */
};

struct store_sim_store {
    struct store store;    /* first: the body's functions are given this */
    struct store_sim *sim; /* NULL: the power went, this store is dead */
};

static struct store_sim_store *store_sim_of(struct store *store)
{
    return CONTAINER_OF(store, struct store_sim_store, store);
}

static struct store_version *store_sim_newest(struct store_sim *sim)
{
    CHECK(sim->version_count > 0);
    return &sim->versions[sim->version_count - 1];
}

/* Forget the versions below this one: it is durable. */
static void store_sim_settle(struct store_sim *sim, size_t first)
{
    for (size_t i = 0; i < first; i++) {
        tree_release(sim->versions[i].tree);
    }
    sim->version_count -= first;
    memmove(sim->versions, sim->versions + first, sim->version_count * sizeof *sim->versions);
}

struct store_sim *store_sim_create(void)
{
    struct store_sim *sim = calloc(1, sizeof *sim);
    CHECK(sim != NULL);
    sim->version_capacity = STORE_SIM_VERSIONS;
    sim->versions = calloc(sim->version_capacity, sizeof *sim->versions);
    CHECK(sim->versions != NULL);
    sim->version_count = 1; /* the empty state, durable */
    return sim;
}

void store_sim_destroy(struct store_sim *sim)
{
    if (sim == NULL) {
        return;
    }
    CHECK(sim->open == NULL);
    store_sim_settle(sim, sim->version_count);
    while (sim->checkpoints != NULL) {
        struct store_sim_checkpoint *next = sim->checkpoints->next;
        tree_release(sim->checkpoints->version.tree);
        free(sim->checkpoints);
        sim->checkpoints = next;
    }
    free(sim->versions);
    free(sim);
}

/* Whether this write fails, by store_sim_fail or because the store is dead. */
static int store_sim_write_status(struct store_sim_store *self)
{
    if (self->sim == NULL) {
        store_fail(&self->store, "the simulated power is off");
        return -EIO;
    }
    struct store_sim *sim = self->sim;
    if (sim->fail_status == STATUS_OK) {
        return STATUS_OK;
    }
    if (sim->fail_after > 0) {
        sim->fail_after--;
        return STATUS_OK;
    }
    store_fail(&self->store, "the simulated disk fails: %s", status_text(sim->fail_status));
    return sim->fail_status;
}

static void store_sim_body_close(struct store *store)
{
    struct store_sim_store *self = store_sim_of(store);
    if (self->sim != NULL) {
        store_sim_settle(self->sim, self->sim->version_count - 1); /* closing flushes */
        self->sim->open = NULL;
    }
    store_deinit(store);
    free(self);
}

static void store_sim_write_row(void *context, struct tree_row *row)
{
    struct tree **tree = context;
    *tree = row->removed ? tree_remove(*tree, tree_row_key(row)) : tree_put_row(*tree, row);
}

static void store_sim_write_gone(void *context, struct tree_row *range)
{
    struct tree **tree = context;
    struct tree_row *row = tree_seek(*tree, tree_row_key(range), false);
    while (row != NULL && bytes_compare(tree_row_key(row), tree_row_value(range)) < 0) {
        *tree = tree_remove(*tree, tree_row_key(row)); /* the version before has it still */
        row = tree_seek(*tree, tree_row_key(range), false);
    }
}

static int store_sim_write(struct store *store, const struct tree *gone, const struct tree *batch,
                           uint64_t position)
{
    struct store_sim_store *self = store_sim_of(store);
    const int status = store_sim_write_status(self);
    if (status != STATUS_OK) {
        return status;
    }

    struct store_sim *sim = self->sim;
    if (sim->version_count == sim->version_capacity) {
        store_sim_settle(sim, sim->version_capacity / 2);
    }
    struct tree *tree = tree_retain(store_sim_newest(sim)->tree);
    tree_walk(gone, store_sim_write_gone, &tree);
    tree_walk(batch, store_sim_write_row, &tree);
    sim->versions[sim->version_count] = (struct store_version){tree, position};
    sim->version_count++;
    return STATUS_OK;
}

static int store_sim_flush(struct store *store, uint64_t position)
{
    struct store_sim_store *self = store_sim_of(store);
    const int status = store_sim_write_status(self);
    if (status == STATUS_OK) {
        CHECK(store_sim_newest(self->sim)->position >= position);
        store_sim_settle(self->sim, self->sim->version_count - 1);
    }
    return status;
}

static struct store_sim_checkpoint *store_sim_checkpoint_find(const struct store_sim *sim,
                                                              const char *directory)
{
    struct store_sim_checkpoint *checkpoint = sim->checkpoints;
    while (checkpoint != NULL && strcmp(checkpoint->directory, directory) != 0) {
        checkpoint = checkpoint->next;
    }
    return checkpoint;
}

static int store_sim_checkpoint(struct store *store, const char *directory, uint64_t position,
                                uint64_t *out_position)
{
    struct store_sim_store *self = store_sim_of(store);
    const int status = store_sim_write_status(self);
    if (status != STATUS_OK) {
        return status;
    }
    struct store_sim *sim = self->sim;
    if (store_sim_checkpoint_find(sim, directory) != NULL) {
        store_fail(store, "checkpoint %s: it is there already", directory);
        return -EEXIST;
    }

    struct store_sim_checkpoint *checkpoint = calloc(1, sizeof *checkpoint + strlen(directory) + 1);
    CHECK(checkpoint != NULL);
    memcpy(checkpoint->directory, directory, strlen(directory) + 1);
    memcpy(checkpoint->machine, sim->machine, sizeof checkpoint->machine);
    checkpoint->format = sim->format;
    checkpoint->version = *store_sim_newest(sim);
    tree_retain(checkpoint->version.tree);
    checkpoint->next = sim->checkpoints;
    sim->checkpoints = checkpoint;
    *out_position = checkpoint->version.position;
    CHECK(*out_position >= position);
    return STATUS_OK;
}

/* A snapshot is a box, because the empty tree is NULL. */
struct store_sim_view {
    struct tree *tree;
};

static void *store_sim_snapshot(struct store *store)
{
    struct store_sim_store *self = store_sim_of(store);
    struct store_sim_view *view = calloc(1, sizeof *view);
    CHECK(view != NULL);
    if (self->sim != NULL) {
        view->tree = tree_retain(store_sim_newest(self->sim)->tree);
    }
    return view;
}

static void store_sim_snapshot_release(struct store *store, void *snapshot)
{
    (void)store;
    struct store_sim_view *view = snapshot;
    tree_release(view->tree);
    free(view);
}

static const struct tree *store_sim_tree(struct store_sim_store *self, void *snapshot)
{
    if (snapshot != NULL) {
        const struct store_sim_view *view = snapshot;
        return view->tree;
    }
    return store_sim_newest(self->sim)->tree;
}

static int store_sim_get(struct store *store, void *snapshot, struct bytes key,
                         struct bytes *out_value, void **out_pin)
{
    struct store_sim_store *self = store_sim_of(store);
    if (self->sim == NULL) {
        return -EIO;
    }
    const struct tree_row *row = tree_find(store_sim_tree(self, snapshot), key);
    if (row == NULL) {
        return STORE_NONE;
    }
    *out_value = tree_row_value(row);
    *out_pin = NULL; /* nothing changes before the value is copied */
    return STATUS_OK;
}

static void store_sim_unpin(struct store *store, void *pin)
{
    (void)store;
    CHECK(pin == NULL);
}

static void store_sim_check_absent(struct store *store, struct bytes key)
{
    const struct store_sim_store *self = store_sim_of(store);
    CHECK(self->sim == NULL || tree_find(store_sim_newest(self->sim)->tree, key) == NULL);
}

struct store_sim_iterator {
    struct store_sim_store *self;
    struct tree *tree; /* retained */
    struct tree_row *row;
    struct bytes lower;
    struct bytes upper;
};

static void *store_sim_iterate(struct store *store, void *snapshot, struct bytes lower,
                               struct bytes upper)
{
    struct store_sim_iterator *iterator = calloc(1, sizeof *iterator);
    CHECK(iterator != NULL);
    iterator->self = store_sim_of(store);
    if (iterator->self->sim != NULL) {
        struct tree *tree = snapshot != NULL ? ((struct store_sim_view *)snapshot)->tree
                                             : store_sim_newest(iterator->self->sim)->tree;
        iterator->tree = tree_retain(tree);
    }
    iterator->lower = lower;
    iterator->upper = upper;
    return iterator;
}

static void store_sim_iterator_close(struct store *store, void *context)
{
    (void)store;
    struct store_sim_iterator *iterator = context;
    tree_release(iterator->tree);
    free(iterator);
}

static bool store_sim_iterator_on(struct store_sim_iterator *iterator, struct tree_row *row)
{
    if (row != NULL && (bytes_compare(tree_row_key(row), iterator->lower) < 0 ||
                        bytes_compare(tree_row_key(row), iterator->upper) >= 0)) {
        row = NULL;
    }
    if (iterator->self->sim == NULL) {
        row = NULL;
    }
    iterator->row = row;
    return row != NULL;
}

static bool store_sim_iterator_seek(void *context, struct bytes key)
{
    struct store_sim_iterator *iterator = context;
    return store_sim_iterator_on(iterator, tree_seek(iterator->tree, key, false));
}

static bool store_sim_iterator_seek_back(void *context, struct bytes key)
{
    struct store_sim_iterator *iterator = context;
    return store_sim_iterator_on(iterator, tree_seek_back(iterator->tree, key, false));
}

static bool store_sim_iterator_last(void *context)
{
    struct store_sim_iterator *iterator = context;
    return store_sim_iterator_on(iterator, tree_seek_back(iterator->tree, iterator->upper, true));
}

static bool store_sim_iterator_next(void *context)
{
    struct store_sim_iterator *iterator = context;
    CHECK(iterator->row != NULL);
    return store_sim_iterator_on(iterator,
                                 tree_seek(iterator->tree, tree_row_key(iterator->row), true));
}

static bool store_sim_iterator_previous(void *context)
{
    struct store_sim_iterator *iterator = context;
    CHECK(iterator->row != NULL);
    return store_sim_iterator_on(iterator,
                                 tree_seek_back(iterator->tree, tree_row_key(iterator->row), true));
}

static int store_sim_iterator_status(struct store *store, void *context)
{
    (void)context;
    return store_sim_of(store)->sim == NULL ? -EIO : STATUS_OK;
}

static struct bytes store_sim_iterator_key(void *context)
{
    const struct store_sim_iterator *iterator = context;
    return tree_row_key(iterator->row);
}

static struct bytes store_sim_iterator_value(void *context)
{
    const struct store_sim_iterator *iterator = context;
    return tree_row_value(iterator->row);
}

static void store_sim_usage_row(void *context, struct tree_row *row)
{
    struct store_usage *usage = context;
    usage->rows++;
    usage->memory_bytes += row->key_size + row->value_size;
}

static struct store_usage store_sim_usage(struct store *store)
{
    struct store_sim_store *self = store_sim_of(store);
    struct store_usage usage = {0};
    if (self->sim != NULL) {
        tree_walk(store_sim_newest(self->sim)->tree, store_sim_usage_row, &usage);
        usage.pressed = self->sim->fail_status == STATUS_FULL && self->sim->fail_after == 0;
    }
    usage.disk_bytes = usage.memory_bytes;
    return usage;
}

static uint64_t store_sim_table_bytes(struct store *store, struct bytes lower, struct bytes upper)
{
    uint64_t bytes = 0;
    void *iterator = store_sim_iterate(store, NULL, lower, upper);
    for (bool on = store_sim_iterator_seek(iterator, lower); on;
         on = store_sim_iterator_next(iterator)) {
        bytes += store_sim_iterator_key(iterator).size + store_sim_iterator_value(iterator).size;
    }
    store_sim_iterator_close(store, iterator);
    return bytes;
}

static const struct store_body store_sim_body = {
    .close = store_sim_body_close,
    .write = store_sim_write,
    .flush = store_sim_flush,
    .checkpoint = store_sim_checkpoint,
    .snapshot = store_sim_snapshot,
    .snapshot_release = store_sim_snapshot_release,
    .get = store_sim_get,
    .unpin = store_sim_unpin,
    .check_absent = store_sim_check_absent,
    .iterate = store_sim_iterate,
    .iterator_close = store_sim_iterator_close,
    .iterator_seek = store_sim_iterator_seek,
    .iterator_seek_back = store_sim_iterator_seek_back,
    .iterator_last = store_sim_iterator_last,
    .iterator_next = store_sim_iterator_next,
    .iterator_previous = store_sim_iterator_previous,
    .iterator_status = store_sim_iterator_status,
    .iterator_key = store_sim_iterator_key,
    .iterator_value = store_sim_iterator_value,
    .usage = store_sim_usage,
    .table_bytes = store_sim_table_bytes,
};

int store_sim_open(struct store_sim *sim, const char *machine, uint32_t format, struct store **out)
{
    CHECK(strlen(machine) > 0);
    CHECK(strlen(machine) < sizeof sim->machine);

    struct store_sim_store *self = calloc(1, sizeof *self);
    CHECK(self != NULL);
    store_init(&self->store, &store_sim_body);
    *out = &self->store;
    if (sim->open != NULL) {
        store_fail(*out, "another process has it open");
        return STATUS_LOCKED;
    }
    if (sim->machine[0] != '\0' && strcmp(sim->machine, machine) != 0) {
        store_fail(*out, "it holds the state of \"%s\", not of \"%s\"", sim->machine, machine);
        return STATUS_FOREIGN;
    }
    if (sim->format > format) {
        store_fail(*out, "written by a newer release: format %u, this one knows %u", sim->format,
                   format);
        return STATUS_FOREIGN;
    }

    (void)snprintf(sim->machine, sizeof sim->machine, "%s", machine);
    sim->format = format;
    sim->open = self;
    self->sim = sim;
    const uint64_t position = store_sim_newest(sim)->position;
    CHECK(sim->version_count == 1); /* a crash or a close came before: what is here is durable */
    atomic_store(&self->store.position, position);
    atomic_store(&self->store.position_flushed, position);
    return STATUS_OK;
}

uint64_t store_sim_crash(struct store_sim *sim, uint64_t choice)
{
    if (sim->open != NULL) {
        /* What lost its power reads nothing from memory either. */
        store_kept_clear(&sim->open->store.kept);
        store_cache_clear(&sim->open->store.cache);
        sim->open->sim = NULL;
        sim->open = NULL;
    }
    const size_t left = (size_t)(choice % sim->version_count);
    for (size_t i = left + 1; i < sim->version_count; i++) {
        tree_release(sim->versions[i].tree);
    }
    sim->version_count = left + 1;
    store_sim_settle(sim, left);
    return store_sim_newest(sim)->position;
}

void store_sim_fail(struct store_sim *sim, uint64_t n, int status)
{
    CHECK_IF(status != STATUS_OK, n > 0);
    sim->fail_after = n == 0 ? 0 : n - 1;
    sim->fail_status = status;
}

int store_sim_restore(struct store_sim *sim, const struct store_sim *from, const char *directory)
{
    CHECK(sim->open == NULL);
    const struct store_sim_checkpoint *checkpoint = store_sim_checkpoint_find(from, directory);
    if (checkpoint == NULL) {
        return -ENOENT;
    }
    const struct store_version version = checkpoint->version;
    tree_retain(version.tree);
    memcpy(sim->machine, checkpoint->machine, sizeof sim->machine);
    sim->format = checkpoint->format;
    store_sim_settle(sim, sim->version_count);
    sim->versions[0] = version;
    sim->version_count = 1;
    return STATUS_OK;
}
