/* The store in RocksDB 7.8; the only file that includes it.
 *
 *   1. a directory of ours has a file FORMAT, written before anything else, that names format,
 *      machine and the machine's format; a directory without it that is not empty is not ours
 *   2. commits go to the memory table only, without RocksDB's own write-ahead log: the log of the
 *      process is that
 *   3. full memory tables are written to table files by RocksDB's threads, oldest first; a flush
 *      asks for that now and waits
 *   4. after a crash RocksDB has what its manifest lists: all memory tables up to some moment
 *
 * One column family, tables as a byte in front of the key. A commit lands in one memory table whole,
 * memory tables reach the disk in order, so what a crash leaves is an exact prefix of commits by
 * construction. With one column family per table the same needs `atomic_flush`, and a flush of all
 * of them together, which the C API of 7.8 cannot ask for: rocksdb_flush is the default family's,
 * rocksdb_flush_cf flushes exactly the one given, even under atomic_flush, and a flush that leaves
 * a family behind is no longer a prefix. One family also means one memory table in place of
 * sixteen, which is what makes the edge small.
 *
 * What can fail: the disk is full (-ENOSPC: RocksDB refuses writes and recovers by itself when space
 * returns, it looks every few seconds), an I/O error (-EIO: the process ends), a directory that is
 * locked, foreign or damaged.
 */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <rocksdb/c.h>

#include "schemas/check.h"
#include "statemachine/store_body.h"

#define STORE_ROCKS_FORMAT        1u
#define STORE_ROCKS_MACHINE_BYTES 32u

struct store_rocks {
    struct store store; /* first: the body's functions are given this */
    rocksdb_t *db;      /* NULL: opening failed */
    rocksdb_options_t *options;
    rocksdb_block_based_table_options_t *table_options;
    rocksdb_cache_t *cache;
    rocksdb_writeoptions_t *write_options;
    rocksdb_readoptions_t *read_options;
    rocksdb_readoptions_t *durable_options; /* see table files only, not memory tables */
    rocksdb_flushoptions_t *flush_options;
    rocksdb_writebatch_t *writes; /* empty between two commits */
    const struct store_rocks_numbers *numbers;
    size_t write_buffer_bytes; /* as store_rocks_fit set it last, like the next */
    size_t debt_bytes;
    char *directory;
    char machine[STORE_ROCKS_MACHINE_BYTES];
    uint32_t format;
};

struct store_rocks_snapshot {
    const rocksdb_snapshot_t *snapshot;
    rocksdb_readoptions_t *read_options;
};

struct store_rocks_iterator {
    rocksdb_iterator_t *iterator;
    rocksdb_readoptions_t *read_options;
};

static struct store_rocks *store_rocks_of(struct store *store)
{
    return CONTAINER_OF(store, struct store_rocks, store);
}

/* RocksDB's words as one of our numbers. `error` is taken; NULL is STATUS_OK. */
static int store_rocks_status(struct store *store, const char *doing, char *error)
{
    if (error == NULL) {
        return STATUS_OK;
    }
    int status = -EIO;
    if (strstr(error, "Write stall") != NULL) {
        status = STATUS_FULL;
    } else if (strstr(error, "No space left") != NULL || strstr(error, "NoSpace") != NULL ||
               strstr(error, "Space limit") != NULL) {
        status = -ENOSPC;
    } else if (strstr(error, "lock hold by") != NULL || strstr(error, "While lock file") != NULL) {
        status = STATUS_LOCKED;
    } else if (strncmp(error, "Corruption", 10) == 0) {
        status = STATUS_CORRUPT;
    } else if (strstr(error, "Permission denied") != NULL) {
        status = -EACCES;
    } else if (strstr(error, "No such file") != NULL || strstr(error, "not exist") != NULL) {
        /* a table file that the manifest lists and nobody has */
        status = STATUS_CORRUPT;
    } else if (strstr(error, "Too many open files") != NULL) {
        status = -EMFILE;
    } else if (strstr(error, "Read-only file system") != NULL) {
        status = -EROFS;
    }
    store_fail(store, "%s: %s", doing, error);
    rocksdb_free(error);
    return status;
}

/* The failure of a system call just made. */
static int store_rocks_errno(struct store *store, const char *doing, const char *path)
{
    const int status = -errno;
    store_fail(store, "%s %s: %s", doing, path, strerror(errno));
    return status;
}

/* -- the directory ------------------------------------------------------------------------------- */

static int store_directory_sync(struct store *store, const char *path)
{
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return store_rocks_errno(store, "open", path);
    }
    const int status = fsync(fd) == 0 ? STATUS_OK : store_rocks_errno(store, "fsync", path);
    (void)close(fd);
    return status;
}

/* The directory that holds `path`, for fsync after a rename in it. */
static int store_parent_sync(struct store *store, const char *path)
{
    char parent[PATH_MAX];
    (void)snprintf(parent, sizeof parent, "%s", path);
    char *slash = strrchr(parent, '/');
    if (slash == NULL) {
        return store_directory_sync(store, ".");
    }
    slash[slash == parent ? 1 : 0] = '\0';
    return store_directory_sync(store, parent);
}

static int store_path(struct store *store, char path[static PATH_MAX], const char *directory,
                      const char *suffix)
{
    if (snprintf(path, PATH_MAX, "%s%s", directory, suffix) >= PATH_MAX) {
        store_fail(store, "the name of the directory is too long");
        return -ENAMETOOLONG;
    }
    return STATUS_OK;
}

/* Write FORMAT durably: whole or absent. */
static int store_marker_write(struct store_rocks *self, const char *directory)
{
    struct store *store = &self->store;
    char path[PATH_MAX];
    char making[PATH_MAX];
    int status = store_path(store, path, directory, "/FORMAT");
    if (status == STATUS_OK) {
        status = store_path(store, making, directory, "/FORMAT.making");
    }
    if (status != STATUS_OK) {
        return status;
    }
    char text[128];
    const int size = snprintf(text, sizeof text, "kelp-store %u %s %u\n", STORE_ROCKS_FORMAT,
                              self->machine, self->format);
    CHECK(size > 0 && (size_t)size < sizeof text);

    const int fd = open(making, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        return store_rocks_errno(store, "open", making);
    }
    errno = ENOSPC; /* of a short write */
    if (write(fd, text, (size_t)size) != size || fsync(fd) != 0) {
        status = store_rocks_errno(store, "write", making);
    }
    (void)close(fd);
    if (status == STATUS_OK && rename(making, path) != 0) {
        status = store_rocks_errno(store, "rename", making);
    }
    return status == STATUS_OK ? store_directory_sync(store, directory) : status;
}

/* Whether anything is in the directory, but what an interrupted marker left. */
static int store_directory_used(struct store *store, const char *directory, bool *out_used)
{
    DIR *listing = opendir(directory);
    if (listing == NULL) {
        return store_rocks_errno(store, "open", directory);
    }
    *out_used = false;
    for (struct dirent *entry = readdir(listing); entry != NULL; entry = readdir(listing)) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            strcmp(entry->d_name, "FORMAT.making") != 0) {
            *out_used = true;
        }
    }
    (void)closedir(listing);
    return STATUS_OK;
}

/* Whether the marker is one of ours.
 *
 *   file        closed here
 *   out_format  of the machine's rows
 *   answers     STATUS_OK; STATUS_FOREIGN */
static int store_marker_read(struct store_rocks *self, FILE *file, const char *path,
                             unsigned *out_format)
{
    struct store *store = &self->store;
    unsigned store_format = 0;
    char machine[STORE_ROCKS_MACHINE_BYTES] = "";
    const int fields = fscanf(file, "kelp-store %u %31s %u", &store_format, machine, out_format);
    (void)fclose(file);
    if (fields < 1) {
        store_fail(store, "%s is not the marker of a store", path);
        return STATUS_FOREIGN;
    }
    if (store_format > STORE_ROCKS_FORMAT) {
        store_fail(store, "%s was written by a newer release: store format %u, this one knows %u",
                   self->directory, store_format, STORE_ROCKS_FORMAT);
        return STATUS_FOREIGN;
    }
    if (fields < 3 || strcmp(machine, self->machine) != 0) {
        store_fail(store, "%s holds the state of \"%s\", not of \"%s\"", self->directory, machine,
                   self->machine);
        return STATUS_FOREIGN;
    }
    if (*out_format > self->format) {
        store_fail(store, "%s was written by a newer release: %s format %u, this one knows %u",
                   self->directory, machine, *out_format, self->format);
        return STATUS_FOREIGN;
    }
    return STATUS_OK;
}

/* Make sure that the directory is there and ours. */
static int store_directory_claim(struct store_rocks *self)
{
    struct store *store = &self->store;
    if (mkdir(self->directory, 0700) != 0 && errno != EEXIST) {
        return store_rocks_errno(store, "mkdir", self->directory);
    }
    char path[PATH_MAX];
    int status = store_path(store, path, self->directory, "/FORMAT");
    if (status != STATUS_OK) {
        return status;
    }

    FILE *file = fopen(path, "re");
    if (file == NULL && errno != ENOENT) {
        return store_rocks_errno(store, "open", path);
    }
    if (file == NULL) {
        bool used = false;
        status = store_directory_used(store, self->directory, &used);
        if (status != STATUS_OK) {
            return status;
        }
        if (used) {
            store_fail(store, "%s is not empty and has no file FORMAT: it is not a store of ours",
                       self->directory);
            return STATUS_FOREIGN;
        }
        status = store_marker_write(self, self->directory);
        return status == STATUS_OK ? store_parent_sync(store, self->directory) : status;
    }

    unsigned format = 0;
    status = store_marker_read(self, file, path, &format);
    if (status != STATUS_OK) {
        return status;
    }
    return format < self->format ? store_marker_write(self, self->directory) : STATUS_OK;
}

int store_rocks_destroy(const char *directory)
{
    DIR *listing = opendir(directory);
    if (listing == NULL) {
        return errno == ENOENT ? STATUS_OK : -errno;
    }
    int status = STATUS_OK;
    for (struct dirent *entry = readdir(listing); entry != NULL; entry = readdir(listing)) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            unlinkat(dirfd(listing), entry->d_name, 0) != 0 && errno != ENOENT) {
            status = -errno; /* a directory in it is not ours: nothing of RocksDB nests */
        }
    }
    (void)closedir(listing);
    if (status == STATUS_OK && rmdir(directory) != 0) {
        status = -errno;
    }
    return status;
}

/* -- options ------------------------------------------------------------------------------------- */

/* The numbers of a profile.
 *
 *   write_buffer_bytes    one memory table, at least and at most: store_rocks_fit. Small at the edge: it
 *                         is most of what an open store costs
 *   write_buffers         so many memory tables before commits answer STATUS_FULL: one being filled,
 *                         others waiting for the disk. This bounds memory
 *   writes_bytes          memory of a commit up to this size is used again for the next one
 *   arena_bytes           a memory table grows in such steps; RocksDB's default is an eighth, and
 *                         touches the first one at once
 *   cache_bytes           blocks, and indices too, so that they are bounded with them
 *   open_files            table readers kept, but for ten; each has its index's root in memory. With fewer than there
 *                         are files most reads open one: at the edge it is enough for a state of 100 MB
 *   file_bytes            table files
 *   level0_files          so many memory tables on the disk are merged into the level below
 *   level0_files_max      with so many of them commits answer STATUS_FULL. (RocksDB would let through a few
 *                         megabytes a second, but who does not wait for it is sent away each time.)
 *   level_base_files      memory tables that the level below them has room for
 *   level_factor          how much larger the next level is
 *   debt_bytes            so much that levels hold beyond their room waits to be merged, at least, before
 *                         commits answer STATUS_FULL: store_rocks_fit. 0: level0_files_max bounds it enough
 */
struct store_rocks_numbers {
    size_t write_buffer_bytes;
    size_t write_buffer_bytes_max;
    int write_buffers;
    size_t writes_bytes;
    size_t arena_bytes;
    size_t cache_bytes;
    size_t block_bytes;
    int open_files;
    uint64_t file_bytes;
    int level0_files;
    int level0_files_max;
    uint64_t level_base_files;
    double level_factor;
    size_t debt_bytes;
    size_t manifest_bytes;
    int background_jobs;
    bool small;    /* what is freed is given back to the system at once */
    bool compress; /* LZ4 in the cloud; at the edge a few MB are not worth the working memory */
    bool filters;  /* Bloom, 10 bits per key: the cloud asks for many rows that are not there */
};

static const struct store_rocks_numbers store_rocks_numbers[] = {
    [STORE_EDGE] = {.write_buffer_bytes = 256u * 1024u,
                    .write_buffer_bytes_max = 256u * 1024u,
                    .write_buffers = 4,
                    .writes_bytes = 16u * 1024u,
                    .arena_bytes = 16u * 1024u,
                    .cache_bytes = 256u * 1024u,
                    .block_bytes = 4096,
                    .open_files = 128,
                    .file_bytes = 1024u * 1024u,
                    .level0_files = 4,
                    .level0_files_max = 20,
                    .level_base_files = 16,
                    .level_factor = 10,
                    .debt_bytes = 64u * 1024u * 1024u,
                    .manifest_bytes = 256u * 1024u,
                    .background_jobs = 1,
                    .small = true},
    [STORE_CLOUD] = {.write_buffer_bytes = 16u * 1024u * 1024u,
                     .write_buffer_bytes_max = 32u * 1024u * 1024u,
                     .write_buffers = 4,
                     .writes_bytes = 1024u * 1024u,
                     .arena_bytes = 256u * 1024u,
                     .cache_bytes = 48u * 1024u * 1024u,
                     .block_bytes = 16u * 1024u,
                     .open_files = 1000,
                     .file_bytes = 8u * 1024u * 1024u,
                     .level0_files = 4,
                     .level0_files_max = 6,
                     .level_base_files = 4,
                     .level_factor = 16,
                     .manifest_bytes = 16u * 1024u * 1024u,
                     .background_jobs = 2,
                     .compress = true,
                     .filters = true},
};

static void store_rocks_options(struct store_rocks *self, enum store_profile profile)
{
    const struct store_rocks_numbers *numbers = &store_rocks_numbers[profile];
    rocksdb_options_t *options = rocksdb_options_create();
    self->options = options;
    self->numbers = numbers;
    self->write_buffer_bytes = numbers->write_buffer_bytes;
    self->debt_bytes = numbers->debt_bytes;
    rocksdb_options_set_create_if_missing(options, 1);
    rocksdb_options_set_paranoid_checks(options, 1);
    /* This thread, which will commit and read: RocksDB counts each of its steps in memory of the thread unless told
     * otherwise, for a report that nobody asks for. A quarter of the processor time of a command. */
    rocksdb_set_perf_level(rocksdb_disable);

    /* One writer thread: neither per-core arenas nor spinning between writers. */
    rocksdb_options_set_allow_concurrent_memtable_write(options, 0);
    rocksdb_options_set_enable_write_thread_adaptive_yield(options, 0);
    rocksdb_options_set_write_buffer_size(options, numbers->write_buffer_bytes);
    rocksdb_options_set_max_write_buffer_number(options, numbers->write_buffers);
    rocksdb_options_set_min_write_buffer_number_to_merge(options, 1);
    rocksdb_options_set_arena_block_size(options, numbers->arena_bytes);

    rocksdb_options_set_max_background_jobs(options, numbers->background_jobs);
    rocksdb_options_set_max_open_files(options, numbers->open_files);
    rocksdb_options_set_max_file_opening_threads(options, 1);
    rocksdb_options_set_target_file_size_base(options, numbers->file_bytes);
    rocksdb_options_set_max_bytes_for_level_base(options, numbers->level_base_files *
                                                              numbers->write_buffer_bytes);
    rocksdb_options_set_max_bytes_for_level_multiplier(options, numbers->level_factor);
    rocksdb_options_set_level0_file_num_compaction_trigger(options, numbers->level0_files);
    rocksdb_options_set_level0_slowdown_writes_trigger(options, numbers->level0_files_max);
    rocksdb_options_set_level0_stop_writes_trigger(options, numbers->level0_files_max);
    if (numbers->debt_bytes != 0) {
        rocksdb_options_set_soft_pending_compaction_bytes_limit(options, numbers->debt_bytes);
        rocksdb_options_set_hard_pending_compaction_bytes_limit(options, numbers->debt_bytes);
    }
    /* What one compaction writes lies beside what it reads until it is done: 8 files in place of RocksDB's 25,
     * which is all that a small state has. */
    rocksdb_options_set_max_compaction_bytes(options, 8 * numbers->file_bytes);
    /* Levels sized from the last one up: 1.1 of what is alive, and level 0.
     *
     * No collector that compacts files full of removes: after nine of ten objects were deleted the weight that
     * RocksDB gives to removes brought the state down to 1.0 of what was alive without it (bench/run space);
     * with it the cloud, when a history of changes was trimmed in it all the time, wrote a third more and stood at
     * 2.4 in place of 1.6. */
    rocksdb_options_set_level_compaction_dynamic_level_bytes(options, 1);
    rocksdb_options_set_compression(options, numbers->compress ? rocksdb_lz4_compression
                                                               : rocksdb_no_compression);

    /* The manifest is rewritten when it reaches its bound; its preallocation is disk for nothing. */
    rocksdb_options_set_max_manifest_file_size(options, numbers->manifest_bytes);
    rocksdb_options_set_manifest_preallocation_size(options, 4096);
    /* RocksDB's own file LOG stays empty (4: fatal only). Debian builds RocksDB with assertions, and
     * its logger fails one, which ends the process, when it writes again after the disk was full.
     * What went wrong comes back as the words of the call that failed. */
    rocksdb_options_set_info_log_level(options, 4);
    rocksdb_options_set_keep_log_file_num(options, 1);
    rocksdb_options_set_stats_dump_period_sec(options, 0);
    rocksdb_options_set_stats_persist_period_sec(options, 0);
    rocksdb_options_set_skip_stats_update_on_db_open(options, 1);

    self->cache = rocksdb_cache_create_lru(numbers->cache_bytes);
    self->table_options = rocksdb_block_based_options_create();
    rocksdb_block_based_options_set_block_cache(self->table_options, self->cache);
    rocksdb_block_based_options_set_block_size(self->table_options, numbers->block_bytes);
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(self->table_options, 1);
    rocksdb_block_based_options_set_format_version(self->table_options, 5);
    if (numbers->filters) {
        /* A read looks at each file of level 0: without a search in the cache for what tells that a row is not there.
         * The cache of an edge has no room for what cannot leave it. */
        rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache(self->table_options,
                                                                                1);
        /* The same for memory tables: a fiftieth of one. */
        rocksdb_options_set_memtable_prefix_bloom_size_ratio(options, 0.02);
        rocksdb_options_set_memtable_whole_key_filtering(options, 1);
        rocksdb_block_based_options_set_filter_policy(self->table_options,
                                                      rocksdb_filterpolicy_create_bloom_full(10));
    }
    rocksdb_options_set_block_based_table_factory(options, self->table_options);

    self->write_options = rocksdb_writeoptions_create();
    rocksdb_writeoptions_disable_WAL(self->write_options, 1);
    rocksdb_writeoptions_set_no_slowdown(self->write_options, 1); /* the loop never waits here */
    self->read_options = rocksdb_readoptions_create();
    self->durable_options = rocksdb_readoptions_create();
    rocksdb_readoptions_set_read_tier(self->durable_options, 2); /* kPersistedTier */
    self->flush_options = rocksdb_flushoptions_create();
    self->writes = rocksdb_writebatch_create();
    rocksdb_flushoptions_set_wait(self->flush_options, 1);
}

/* -- the body ---------------------------------------------------------------------------------------- */

static void store_rocks_close(struct store *store)
{
    struct store_rocks *self = store_rocks_of(store);
    if (self->db != NULL) {
        rocksdb_close(self->db); /* flushes what no write-ahead log holds */
    }
    if (self->options != NULL) {
        rocksdb_writebatch_destroy(self->writes);
        rocksdb_flushoptions_destroy(self->flush_options);
        rocksdb_readoptions_destroy(self->durable_options);
        rocksdb_readoptions_destroy(self->read_options);
        rocksdb_writeoptions_destroy(self->write_options);
        rocksdb_block_based_options_destroy(self->table_options);
        rocksdb_cache_destroy(self->cache);
        rocksdb_options_destroy(self->options);
    }
    free(self->directory);
    store_deinit(store);
    free(self);
}

static void store_rocks_write_row(void *context, struct tree_row *row)
{
    rocksdb_writebatch_t *batch = context;
    const struct bytes key = tree_row_key(row);
    const struct bytes value = tree_row_value(row);
    if (row->removed) {
        rocksdb_writebatch_delete(batch, (const char *)key.data, key.size);
    } else {
        rocksdb_writebatch_put(batch, (const char *)key.data, key.size, (const char *)value.data,
                               value.size);
    }
}

/* RocksDB's range tombstone. Iterators of 7.8 have two flaws with it: one that is moved on by a tombstone forgets that a
 * level above could not be read (mended in 8.5), and one that ends at its bound looks at the tombstones behind it (7.10).
 * Who begins behind the removed rows, as all do who apply or deliver, never meets the first. Who reads a whole table, for a
 * copy or a backup, may be told of fewer of its rows when the disk fails in that moment, until the tombstone was compacted:
 * so marks are for tables whose gaps are noticed, down logs by the digest at a node's tip, the history by its versions. */
static void store_rocks_write_gone(void *context, struct tree_row *range)
{
    const struct bytes from = tree_row_key(range);
    const struct bytes to = tree_row_value(range);
    rocksdb_writebatch_delete_range(context, (const char *)from.data, from.size,
                                    (const char *)to.data, to.size);
}

static int store_rocks_write(struct store *store, const struct tree *gone, const struct tree *batch,
                             uint64_t position)
{
    struct store_rocks *self = store_rocks_of(store);
    rocksdb_writebatch_t *writes = self->writes;
    tree_walk(gone, store_rocks_write_gone, writes); /* first: rows of the batch may lie in them */
    tree_walk(batch, store_rocks_write_row, writes);
    uint8_t value[8];
    put_le64(value, position);
    rocksdb_writebatch_put(writes, (const char *)STORE_KEY_POSITION.data, STORE_KEY_POSITION.size,
                           (const char *)value, sizeof value);

    char *error = NULL;
    rocksdb_write(self->db, self->write_options, writes, &error);
    rocksdb_writebatch_clear(writes); /* keeps its memory, which otherwise grows anew each time */
    if (store->batch_bytes > self->numbers->writes_bytes) {
        rocksdb_writebatch_destroy(writes);
        self->writes = rocksdb_writebatch_create();
    }
    return store_rocks_status(store, "commit", error);
}

static uint64_t store_rocks_property(struct store_rocks *self, const char *name)
{
    uint64_t value = 0;
    return rocksdb_property_int(self->db, name, &value) == 0 ? value : 0;
}

/* Position of the newest commit in this database, 0 when there is none. */
static int store_rocks_position_read(struct store *store, rocksdb_t *db,
                                     const rocksdb_readoptions_t *read_options,
                                     uint64_t *out_position)
{
    char *error = NULL;
    size_t size = 0;
    char *value = rocksdb_get(db, read_options, (const char *)STORE_KEY_POSITION.data,
                              STORE_KEY_POSITION.size, &size, &error);
    if (error != NULL) {
        return store_rocks_status(store, "read the position", error);
    }
    int status = STATUS_OK;
    if (value == NULL) {
        *out_position = 0;
    } else if (size == 8) {
        *out_position = get_le64((const uint8_t *)value);
    } else {
        store_fail(store, "the position has %zu bytes, not 8", size);
        status = STATUS_CORRUPT;
    }
    rocksdb_free(value);
    return status;
}

/* What is fitted to the state changes in such steps. */
#define STORE_FIT_BYTES (1024u * 1024u)

static size_t store_fit(size_t bytes, size_t least, size_t most)
{
    bytes = bytes / STORE_FIT_BYTES * STORE_FIT_BYTES;
    bytes = bytes < least ? least : bytes;
    return bytes > most ? most : bytes;
}

/* Change two options of an open store; answers whether it did. */
static bool store_rocks_set(struct store_rocks *self, const char *const names[2],
                            const size_t values[2])
{
    char texts[2][32];
    for (int i = 0; i < 2; i++) {
        (void)snprintf(texts[i], sizeof texts[i], "%zu", values[i]);
    }
    const char *const lent[] = {texts[0], texts[1]};
    char *error = NULL;
    rocksdb_set_options(self->db, 2, names, lent, &error);
    const bool done = error == NULL;
    rocksdb_free(error);
    return done;
}

/* How often, and with how long between, a flush is repeated that did not make its position durable. */
#define STORE_FLUSH_TRIES    100
#define STORE_FLUSH_PAUSE_US (20u * 1000u)

/* Memory tables as large as the state bears: they decide what lies on the disk beside the rows that are alive.
 *
 * With M their size, level 0 is merged into the level below when it has 4 M, and commits wait at 6; one more
 * may be on its way to the disk. The level below has room for 4 M (RocksDB gives it what level 0 has, 7) and its own
 * surplus goes first unless level 0 is further above its 4 than that level above its room: so 7 M at most. Every
 * byte of these two may hide one in the last level that is dead, or be dead itself; and a merge of the two writes
 * as much again before anything is deleted. So 2 * (7 + 7) = 28 M. With M a 48th of the estimate, which counts what
 * is dead in the last level for alive, that stays below what is alive; with M = 16 MiB it is
 * LIMIT_STORE_CLOUD_SPARE_BYTES. The level below level 0 is then a twelfth of the last one: with levels that grow 16
 * times there is no third one that would hide more, until a state is so large that its memory tables grow no more,
 * 1.5 GiB, and a third more.
 *
 * Large ones write less. With a state of 60 MiB, config maps of 256 bytes written again and a history in rows, what came
 * into level 0 was written 3.2 times in all with M = 3 MiB and merges at 6 M, 2.5 with 8 MiB, 2.1 with 16 MiB and merges
 * at 4 M, where 16 MiB at 6 M wrote 1.7 and had half as much again beside it. A state of 413 MiB took 2.9 times
 * that for a while with tables of 32 MiB and commits that waited at 20 files in level 0.
 *
 * An edge's stay small, they are its memory. So its levels are many, its one thread of compactions falls behind
 * whoever writes without a pause, and what waits for it in the levels between is dead weight: without a bound
 * 346 MiB alive stood in 836. The estimate of RocksDB counts a byte that is above a level's room with what it is
 * merged with in the next one; so half of what is alive, as an estimate, is less than a tenth of it as bytes.
 *
 * What fails is tried again at the next flush: RocksDB writes a file of options. */
static void store_rocks_fit(struct store_rocks *self)
{
    const struct store_rocks_numbers *numbers = self->numbers;
    const size_t alive = store_rocks_property(self, "rocksdb.estimate-live-data-size");
    const size_t table_bytes =
        store_fit(alive / 48, numbers->write_buffer_bytes, numbers->write_buffer_bytes_max);
    const size_t debt_bytes =
        numbers->debt_bytes == 0 ? 0 : store_fit(alive / 2, numbers->debt_bytes, SIZE_MAX);
    if (table_bytes != self->write_buffer_bytes) {
        const char *const names[] = {"write_buffer_size", "max_bytes_for_level_base"};
        const size_t values[] = {table_bytes, numbers->level_base_files * table_bytes};
        if (store_rocks_set(self, names, values)) {
            self->write_buffer_bytes = table_bytes;
        }
    }
    /* Not for every step: each change writes a file of options. */
    const size_t apart = debt_bytes > self->debt_bytes ? debt_bytes - self->debt_bytes
                                                       : self->debt_bytes - debt_bytes;
    if (apart > self->debt_bytes / 8) {
        const char *const names[] = {"soft_pending_compaction_bytes_limit",
                                     "hard_pending_compaction_bytes_limit"};
        const size_t values[] = {debt_bytes, debt_bytes};
        if (store_rocks_set(self, names, values)) {
            self->debt_bytes = debt_bytes;
        }
    }
}

/* RocksDB's word is not enough: for a moment after it recovered from a full disk rocksdb_flush
 * answers that all is well and has written nothing (seen in 7.8.3, in 6 of 12 runs of such a recovery).
 * So the position is read back from the table files alone. */
static int store_rocks_flush(struct store *store, uint64_t position)
{
    struct store_rocks *self = store_rocks_of(store);
    for (int i = 0; i < STORE_FLUSH_TRIES; i++) {
        char *error = NULL;
        rocksdb_flush(self->db, self->flush_options, &error);
        int status = store_rocks_status(store, "flush", error);
        uint64_t durable = 0;
        if (status == STATUS_OK) {
            status = store_rocks_position_read(store, self->db, self->durable_options, &durable);
        }
        if (status != STATUS_OK || durable >= position) {
            store_rocks_fit(self);
            if (self->numbers->small) {
                (void)malloc_trim(0); /* the memory tables just freed go back to the system */
            }
            return status;
        }
        (void)usleep(STORE_FLUSH_PAUSE_US); /* a pool thread's */
    }
    store_fail(store, "flush: RocksDB does not write its memory tables");
    return STATUS_FULL;
}

/* What the checkpoint holds can only be told by opening it: commits went on while it was made. */
static int store_checkpoint_position(struct store_rocks *self, const char *directory,
                                     uint64_t *out_position)
{
    char *error = NULL;
    rocksdb_t *db = rocksdb_open_for_read_only(self->options, directory, 0, &error);
    if (error != NULL) {
        return store_rocks_status(&self->store, "open the checkpoint", error);
    }
    const int status =
        store_rocks_position_read(&self->store, db, self->read_options, out_position);
    rocksdb_close(db);
    return status;
}

/* Made under another name and renamed when it is complete. */
static int store_rocks_checkpoint(struct store *store, const char *directory, uint64_t position,
                                  uint64_t *out_position)
{
    struct store_rocks *self = store_rocks_of(store);
    char making[PATH_MAX];
    int status = store_path(store, making, directory, ".making");
    if (status != STATUS_OK) {
        return status;
    }
    struct stat found;
    if (lstat(directory, &found) == 0) {
        store_fail(store, "checkpoint %s: it is there already", directory);
        return -EEXIST;
    }
    status = store_rocks_destroy(making);
    if (status != STATUS_OK) {
        store_fail(store, "remove %s: %s", making, status_text(status));
        return status;
    }

    char *error = NULL;
    rocksdb_checkpoint_t *checkpoint = rocksdb_checkpoint_object_create(self->db, &error);
    if (error == NULL) {
        rocksdb_checkpoint_create(checkpoint, making, 0, &error); /* 0: flush first, always */
        rocksdb_checkpoint_object_destroy(checkpoint);
    }
    status = store_rocks_status(store, "checkpoint", error);
    if (status == STATUS_OK) {
        status = store_marker_write(self, making);
    }
    if (status == STATUS_OK) {
        status = store_checkpoint_position(self, making, out_position);
    }
    if (status == STATUS_OK && *out_position < position) { /* as in store_rocks_flush */
        store_fail(store, "checkpoint: RocksDB did not write its memory tables");
        status = STATUS_FULL;
    }
    if (status == STATUS_OK && rename(making, directory) != 0) {
        status = store_rocks_errno(store, "rename", making);
    }
    if (status == STATUS_OK) {
        status = store_parent_sync(store, directory);
    }
    if (status != STATUS_OK) {
        (void)store_rocks_destroy(making);
    }
    return status;
}

static void *store_rocks_snapshot(struct store *store)
{
    struct store_rocks *self = store_rocks_of(store);
    struct store_rocks_snapshot *snapshot = calloc(1, sizeof *snapshot);
    CHECK(snapshot != NULL);
    snapshot->snapshot = rocksdb_create_snapshot(self->db);
    snapshot->read_options = rocksdb_readoptions_create();
    rocksdb_readoptions_set_snapshot(snapshot->read_options, snapshot->snapshot);
    return snapshot;
}

static void store_rocks_snapshot_release(struct store *store, void *context)
{
    struct store_rocks_snapshot *snapshot = context;
    rocksdb_readoptions_destroy(snapshot->read_options);
    rocksdb_release_snapshot(store_rocks_of(store)->db, snapshot->snapshot);
    free(snapshot);
}

static int store_rocks_get(struct store *store, void *context, struct bytes key,
                           struct bytes *out_value, void **out_pin)
{
    struct store_rocks *self = store_rocks_of(store);
    const struct store_rocks_snapshot *snapshot = context;
    char *error = NULL;
    rocksdb_pinnableslice_t *slice =
        rocksdb_get_pinned(self->db, snapshot != NULL ? snapshot->read_options : self->read_options,
                           (const char *)key.data, key.size, &error);
    if (error != NULL) {
        return store_rocks_status(store, "read", error);
    }
    if (slice == NULL) {
        return STORE_NONE;
    }
    size_t size = 0;
    const char *value = rocksdb_pinnableslice_value(slice, &size);
    *out_value = bytes_of(value, size);
    *out_pin = slice;
    return STATUS_OK;
}

static void store_rocks_unpin(struct store *store, void *pin)
{
    (void)store;
    rocksdb_pinnableslice_destroy(pin);
}

/* The bounds are given to RocksDB too, so that an iterator does not wade through the graves of the
 * table behind. */
static void *store_rocks_iterate(struct store *store, void *context, struct bytes lower,
                                 struct bytes upper)
{
    struct store_rocks *self = store_rocks_of(store);
    const struct store_rocks_snapshot *snapshot = context;
    struct store_rocks_iterator *iterator = calloc(1, sizeof *iterator);
    CHECK(iterator != NULL);
    iterator->read_options = rocksdb_readoptions_create();
    if (snapshot != NULL) {
        rocksdb_readoptions_set_snapshot(iterator->read_options, snapshot->snapshot);
    }
    rocksdb_readoptions_set_iterate_lower_bound(iterator->read_options, (const char *)lower.data,
                                                lower.size);
    rocksdb_readoptions_set_iterate_upper_bound(iterator->read_options, (const char *)upper.data,
                                                upper.size);
    iterator->iterator = rocksdb_create_iterator(self->db, iterator->read_options);
    return iterator;
}

static void store_rocks_iterator_close(struct store *store, void *context)
{
    (void)store;
    struct store_rocks_iterator *iterator = context;
    rocksdb_iter_destroy(iterator->iterator);
    rocksdb_readoptions_destroy(iterator->read_options);
    free(iterator);
}

static bool store_rocks_iterator_seek(void *context, struct bytes key)
{
    const struct store_rocks_iterator *iterator = context;
    rocksdb_iter_seek(iterator->iterator, (const char *)key.data, key.size);
    return rocksdb_iter_valid(iterator->iterator);
}

static bool store_rocks_iterator_seek_back(void *context, struct bytes key)
{
    const struct store_rocks_iterator *iterator = context;
    rocksdb_iter_seek_for_prev(iterator->iterator, (const char *)key.data, key.size);
    return rocksdb_iter_valid(iterator->iterator);
}

static bool store_rocks_iterator_last(void *context)
{
    const struct store_rocks_iterator *iterator = context;
    rocksdb_iter_seek_to_last(iterator->iterator);
    return rocksdb_iter_valid(iterator->iterator);
}

static bool store_rocks_iterator_next(void *context)
{
    const struct store_rocks_iterator *iterator = context;
    rocksdb_iter_next(iterator->iterator);
    return rocksdb_iter_valid(iterator->iterator);
}

static bool store_rocks_iterator_previous(void *context)
{
    const struct store_rocks_iterator *iterator = context;
    rocksdb_iter_prev(iterator->iterator);
    return rocksdb_iter_valid(iterator->iterator);
}

static int store_rocks_iterator_status(struct store *store, void *context)
{
    const struct store_rocks_iterator *iterator = context;
    char *error = NULL;
    rocksdb_iter_get_error(iterator->iterator, &error);
    return store_rocks_status(store, "iterate", error);
}

static struct bytes store_rocks_iterator_key(void *context)
{
    const struct store_rocks_iterator *iterator = context;
    size_t size = 0;
    const char *key = rocksdb_iter_key(iterator->iterator, &size);
    return bytes_of(key, size);
}

static struct bytes store_rocks_iterator_value(void *context)
{
    const struct store_rocks_iterator *iterator = context;
    size_t size = 0;
    const char *value = rocksdb_iter_value(iterator->iterator, &size);
    return bytes_of(value, size);
}

static struct store_usage store_rocks_usage(struct store *store)
{
    struct store_rocks *self = store_rocks_of(store);
    return (struct store_usage){
        .disk_bytes = store_rocks_property(self, "rocksdb.live-sst-files-size"),
        .memory_bytes = store_rocks_property(self, "rocksdb.size-all-mem-tables") +
                        store_rocks_property(self, "rocksdb.estimate-table-readers-mem") +
                        rocksdb_cache_get_usage(self->cache),
        .rows = store_rocks_property(self, "rocksdb.estimate-num-keys"),
        .pressed = store_rocks_property(self, "rocksdb.is-write-stopped") != 0 ||
                   store_rocks_property(self, "rocksdb.actual-delayed-write-rate") != 0,
    };
}

static uint64_t store_rocks_table_bytes(struct store *store, struct bytes lower, struct bytes upper)
{
    struct store_rocks *self = store_rocks_of(store);
    const char *const start[] = {(const char *)lower.data};
    const char *const end[] = {(const char *)upper.data};
    uint64_t size = 0;
    char *error = NULL;
    rocksdb_approximate_sizes(self->db, 1, start, &lower.size, end, &upper.size, &size, &error);
    return store_rocks_status(store, "measure", error) == STATUS_OK ? size : 0;
}

static const struct store_body store_rocks_body = {
    .close = store_rocks_close,
    .write = store_rocks_write,
    .flush = store_rocks_flush,
    .checkpoint = store_rocks_checkpoint,
    .snapshot = store_rocks_snapshot,
    .snapshot_release = store_rocks_snapshot_release,
    .get = store_rocks_get,
    .unpin = store_rocks_unpin,
    .iterate = store_rocks_iterate,
    .iterator_close = store_rocks_iterator_close,
    .iterator_seek = store_rocks_iterator_seek,
    .iterator_seek_back = store_rocks_iterator_seek_back,
    .iterator_last = store_rocks_iterator_last,
    .iterator_next = store_rocks_iterator_next,
    .iterator_previous = store_rocks_iterator_previous,
    .iterator_status = store_rocks_iterator_status,
    .iterator_key = store_rocks_iterator_key,
    .iterator_value = store_rocks_iterator_value,
    .usage = store_rocks_usage,
    .table_bytes = store_rocks_table_bytes,
};

/* A body that has not opened anything yet. */
static struct store_rocks *store_rocks_create(const struct store_options *options)
{
    CHECK(strlen(options->machine) > 0);
    CHECK(strlen(options->machine) < STORE_ROCKS_MACHINE_BYTES);
    CHECK(strchr(options->machine, ' ') == NULL);

    struct store_rocks *self = calloc(1, sizeof *self);
    CHECK(self != NULL);
    store_init(&self->store, &store_rocks_body);
    self->directory = strdup(options->directory);
    CHECK(self->directory != NULL);
    memcpy(self->machine, options->machine, strlen(options->machine) + 1);
    self->format = options->format;
    return self;
}

int store_rocks_open(const struct store_options *options, struct store **out)
{
    struct store_rocks *self = store_rocks_create(options);
    *out = &self->store;
    int status = store_directory_claim(self);
    if (status != STATUS_OK) {
        return status;
    }

    store_rocks_options(self, options->profile);
    char *error = NULL;
    self->db = rocksdb_open(self->options, self->directory, &error);
    if (error != NULL) {
        self->db = NULL;
        return store_rocks_status(&self->store, "open", error);
    }
    uint64_t position = 0;
    status = store_rocks_position_read(&self->store, self->db, self->read_options, &position);
    if (status != STATUS_OK) {
        return status;
    }
    atomic_store(&self->store.position, position);
    atomic_store(&self->store.position_flushed, position);
    store_rocks_fit(self);
    return STATUS_OK;
}

int store_rocks_verify(const char *directory, uint64_t *out_rows, uint64_t *out_position,
                       char *reason)
{
    struct stat found;
    if (stat(directory, &found) != 0) {
        const int status = -errno;
        snprintf(reason, 256, "%s: %s", directory, strerror(errno));
        return status;
    }
    /* An open store without a writer: what reads and tells errors is the same. */
    struct store_rocks *self = calloc(1, sizeof *self);
    CHECK(self != NULL);
    struct store *store = &self->store;
    store_init(store, &store_rocks_body);
    store_rocks_options(self, STORE_CLOUD);
    rocksdb_options_set_create_if_missing(self->options, 0);
    rocksdb_readoptions_set_fill_cache(self->read_options, 0);
    char *error = NULL;
    uint64_t rows = 0;
    uint64_t position = 0;
    self->db = rocksdb_open_for_read_only(self->options, directory, 0, &error);
    int status = store_rocks_status(store, "open", error);
    if (status == STATUS_OK) {
        status = store_rocks_position_read(store, self->db, self->read_options, &position);
    } else {
        self->db = NULL;
    }
    if (status == STATUS_OK) {
        rocksdb_iterator_t *iterator = rocksdb_create_iterator(self->db, self->read_options);
        for (rocksdb_iter_seek_to_first(iterator); rocksdb_iter_valid(iterator);
             rocksdb_iter_next(iterator)) {
            rows++;
        }
        rocksdb_iter_get_error(iterator, &error);
        rocksdb_iter_destroy(iterator);
        status = store_rocks_status(store, "read", error);
    }
    if (status == STATUS_OK) {
        *out_rows = rows;
        *out_position = position;
    } else {
        snprintf(reason, 256, "%s", store_error(store));
    }
    store_rocks_close(store);
    return status;
}

/* An owner replaces table files and manifests while we open them. */
#define STORE_READ_TRIES 16

/* All table files are opened at once and stay open: an owner who removes one takes away its name only.
 * Opened so, RocksDB writes neither its LOG nor a lock; the test holds it to that. */
static int store_rocks_read_db(struct store_rocks *self)
{
    rocksdb_options_set_max_open_files(self->options, -1);
    rocksdb_options_set_create_if_missing(self->options, 0);
    int status = -EAGAIN;
    for (int i = 0; i < STORE_READ_TRIES && self->db == NULL; i++) {
        char *error = NULL;
        self->db = rocksdb_open_for_read_only(self->options, self->directory, 0, &error);
        self->db = error == NULL ? self->db : NULL;
        const bool gone = error != NULL && (strstr(error, "No such file") != NULL ||
                                            strstr(error, "not exist") != NULL);
        status = store_rocks_status(&self->store, "open for reading", error);
        if (status != STATUS_OK && !gone) {
            return status;
        }
        status = gone ? -EAGAIN : status;
    }
    return status;
}

int store_rocks_open_read(const struct store_options *options, struct store **out)
{
    struct store_rocks *self = store_rocks_create(options);
    struct store *store = &self->store;
    store->drafting = true;
    *out = store;
    char path[PATH_MAX];
    char current[PATH_MAX];
    int status = store_path(store, path, self->directory, "/FORMAT");
    if (status == STATUS_OK) {
        status = store_path(store, current, self->directory, "/CURRENT");
    }
    if (status != STATUS_OK) {
        return status;
    }
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return store_rocks_errno(store, "open", path);
    }
    unsigned format = 0;
    status = store_marker_read(self, file, path, &format);
    if (status != STATUS_OK) {
        return status;
    }
    if (access(current, R_OK) != 0) {
        return store_rocks_errno(store, "open", current);
    }
    store_rocks_options(self, options->profile);
    status = store_rocks_read_db(self);
    uint64_t position = 0;
    if (status == STATUS_OK) {
        status = store_rocks_position_read(store, self->db, self->read_options, &position);
    }
    atomic_store(&store->position, position);
    atomic_store(&store->position_flushed, position);
    return status;
}
