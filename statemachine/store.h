/* The state at rest: ordered rows in numbered tables, changed in atomic batches.
 *
 * Two bodies, one door: store_rocks.c keeps rows in RocksDB, store_sim.c in memory for the
 * simulator and the tests. tests/statemachine/store_test.c runs the same claims on both.
 *
 * What a crash leaves. The log is the only write-ahead log, so a commit is visible at once and
 * durable later: after a crash the store is exactly as it was after some commit, at least the one
 * that the last store_flush covered. It is never a mix of two commits. Each commit carries a
 * position, the place in the log whose consequences it holds; store_position after opening says
 * which prefix was left, and replay goes on behind it.
 *
 * Threads. One thread, the loop, owns the store: it reads the live rows and commits. Three calls
 * are made for pool threads and are safe while the loop goes on: store_flush, store_checkpoint,
 * and all reading of a snapshot (each snapshot by one thread at a time).
 *
 * One batch at a time:
 *
 *      store_begin(store);
 *      store_put(store, TABLE_WISH, key, value);       read-your-writes: store_get and iterators of
 *      store_remove(store, TABLE_WISH, other);         the live reader see the open batch
 *      status = store_commit(store, log_index);
 *
 * Lent memory. Values that store_get hands out live in the reader and are 8-byte aligned, as the
 * codec wants them. They stay until store_reader_reset, for the live reader also until the batch
 * ends. An iterator's key and value live until it moves.
 *
 * Statuses. -ENOSPC, -EIO and other negative numbers of the operating system, STATUS_CORRUPT,
 * STATUS_FULL (memory tables wait for the disk: nothing changed, commit again later),
 * STATUS_LOCKED, STATUS_FOREIGN. store_error has the words.
 */
#ifndef KELP_STATEMACHINE_STORE_H
#define KELP_STATEMACHINE_STORE_H

#include "schemas/bytes.h"
#include "schemas/limits.h"
#include "schemas/status.h"

#define STORE_TABLES 16u /* tables are numbers below this; what they mean is the machine's */

/* The positive answer of store_get: there is no such row. */
#define STORE_NONE 1

struct store;
struct store_reader;
struct store_iterator;

/* -- opening ---------------------------------------------------------------------------------- */

/* How much memory the store may take. The reasons for each number are in store_rocks.c. */
enum store_profile {
    STORE_EDGE, /* about 1 MB: tiny memory tables, a small cache, one background thread */
    STORE_CLOUD /* memory tables of 16 to 32 MB, by the size of the state, four of them at most; a cache of 48 MB,
                 * two background threads */
};

struct store_options {
    const char *directory; /* made when absent (its parent must exist) */
    enum store_profile profile;
    const char *machine; /* whose rows these are: "edge", "cloud"; at most 31 bytes, no blanks */
    uint32_t format;     /* of those rows; a directory with a higher number is refused */
};

/* Open RocksDB in a directory.
 *
 *   options   borrowed during the call
 *   out       given: hand it to store_close. Set also when the answer is negative, so that
 *             store_error can tell why; every other call is then forbidden
 *   answers   STATUS_OK; STATUS_FOREIGN: of another machine, a newer format, or not ours at all,
 *             nothing touched; STATUS_LOCKED: another process has it open; STATUS_CORRUPT; -errno
 */
int store_rocks_open(const struct store_options *options, struct store **out);

/* Open a directory for reading only, whether somebody has it open or not: for tools. What is seen is what
 * was durable at that moment; it stays so while the owner goes on, also when he replaces files. Nothing
 * is written, created or locked.
 *
 *   options   as above; the directory must be a store of that machine and format, or of an older one
 *   out       as above. Commits stay in memory, on top of what is read, until it is closed: what the state would
 *             become. They cannot fail. store_flush, store_checkpoint, and store_snapshot after a commit, are forbidden
 *   answers   STATUS_OK; -ENOENT: no such directory, or nothing was ever flushed in it;
 *             STATUS_FOREIGN, -EACCES as above; -EAGAIN: its owner replaced files faster than we
 *             opened them, ask again; STATUS_CORRUPT; -errno
 */
int store_rocks_open_read(const struct store_options *options, struct store **out);

/* Remove a store's directory (or what an interrupted checkpoint left) and all in it.
 *   answers   STATUS_OK, also when there was none; -errno */
int store_rocks_destroy(const char *directory);

/* Read every row of a store that nobody has open, checksums included. Nothing is written.
 *
 *   out_rows, out_position  untouched unless STATUS_OK
 *   reason    256 bytes, receives RocksDB's words when not STATUS_OK
 *   answers   STATUS_OK; -ENOENT: no such directory; STATUS_CORRUPT, -EIO and other negatives */
int store_rocks_verify(const char *directory, uint64_t *out_rows, uint64_t *out_position,
                       char *reason);

/* End all reading first: snapshots released, iterators closed (CHECKed). An open batch is dropped.
 * What was committed is flushed when the disk lets us. NULL is ignored. */
void store_close(struct store *store);

/* The words for the newest failure of this store, for a log line: lent until the next call on this
 * store that fails. Never NULL, "" when nothing failed. Of a pool thread's calls too. */
const char *store_error(const struct store *store);

/* -- writing ---------------------------------------------------------------------------------- */

/* Open the batch. CHECK: none is open. */
void store_begin(struct store *store);
bool store_in_batch(const struct store *store);

/* Change one row; both copy. CHECK: a batch is open, key.size <= LIMIT_STORE_KEY_BYTES,
 * value.size <= LIMIT_FRAME_BYTES. Removing what is not there is legal. */
void store_put(struct store *store, unsigned table, struct bytes key, struct bytes value);
void store_remove(struct store *store, unsigned table, struct bytes key);
/* As store_put, of a row that is not there, neither below nor in the batch: its key is a number that was never given
 * before. One that is removed again in the same batch costs the disk nothing, where store_remove otherwise tells it that
 * the row is gone. The simulator's body CHECKs the claim. */
void store_add(struct store *store, unsigned table, struct bytes key, struct bytes value);
/* Remove all rows whose key starts with `prefix` (empty: the whole table), rows of the open batch
 * included. Costs one step per row: these are removed one by one.
 *   answers   STATUS_OK; negative: reading failed, abandon the batch */
int store_remove_prefix(struct store *store, unsigned table, struct bytes prefix);
/* The same for from <= key < to. Of a table of store_marks many rows cost no more than LIMIT_STORE_RANGE_ROWS of them, and
 * those of the open batch: what lies below the batch is then removed by one mark, unless there are LIMIT_STORE_MARKS since
 * the last flush. Where marks are, reading costs more: let readers begin behind them. */
int store_remove_range(struct store *store, unsigned table, struct bytes from, struct bytes to);

/* Tables (a bit 1u << table for each) in which store_remove_range may make marks; as a store begins, none. Only such whose
 * readers notice a gap: see store_rocks_write_gone. */
void store_marks(struct store *store, uint32_t tables);

/* Bytes of the keys and values that the open batch holds, and of those that are kept beside it, for budgets. */
size_t store_batch_bytes(const struct store *store);

/* From the next batch on, keep what the live reader reads while a batch is open, rows and that there are none, up to so
 * many bytes: what lies below a batch does not change before it ends, so nothing is read twice. For long batches that
 * come back to the same rows. 0, as a store begins: keep nothing. CHECK: no batch is open. */
void store_keep(struct store *store, size_t bytes);

/* From now on have rows of some tables in memory, those that the live reader read or a commit wrote last, and which of
 * them are not there: they are read without the body. For rows that are read again soon, above all because they change
 * again. CHECK: no batch is open.
 *
 *   tables  a bit (1u << table) for each; 0, as a store begins: none, and what was there is forgotten
 *   bytes   of rows, keys and what holds them, about; at least two of the largest rows
 */
void store_cache(struct store *store, uint32_t tables, size_t bytes);

/* Make the batch visible, all of it and its position in one step, and end it. CHECK: iterators of
 * the live reader are closed, position >= store_position (several commits may share a place in
 * the log: opening a state does work of its own).
 *
 *   answers   STATUS_OK; STATUS_FULL: nothing changed, the batch stays open, commit it again when
 *             the disk has caught up; other negatives: nothing changed, the batch stays open
 */
int store_commit(struct store *store, uint64_t position);
/* End the batch, nothing changes. CHECK as above. */
void store_abandon(struct store *store);

/* Position of the newest commit, 0 before the first one. */
uint64_t store_position(const struct store *store);

/* -- durability (any thread) ------------------------------------------------------------------ */

/* Make durable all that was committed before the call. Blocks on the disk: call it from a pool
 * thread, one call at a time. Afterwards store_flushed_position is at least what store_position was
 * at the call, and the log may be dropped below that.
 *   answers   STATUS_OK; STATUS_FULL: RocksDB did not write for two seconds, it recovers from a full
 *             disk: flush again; negative: at least what was flushed before stays durable */
int store_flush(struct store *store);

/* Wait until the disk takes commits again, for whoever has nothing else to do: at start-up, offline. A commit that
 * was answered STATUS_FULL waits for memory tables, which are flushed here, or for compactions, which go on by
 * themselves. Blocks, a minute at most.
 *   answers   STATUS_OK: commit again, and wait again when it is answered so; as store_flush */
int store_wait(struct store *store);

/* What a crash cannot take back, as far as we know: full memory tables are also flushed unasked, so
 * a crash may leave more than this, never less. */
uint64_t store_flushed_position(const struct store *store);

/* Copy the state into a new directory, by hard links where the file system can. Complete or absent,
 * whatever happens meanwhile.
 *
 *   directory      must not exist; same file system, for the links. It opens with store_rocks_open
 *   out_position   position of the newest commit in the copy, at least what store_position was
 *   answers        STATUS_OK; -EEXIST; other negatives: nothing is left at `directory`
 */
int store_checkpoint(struct store *store, const char *directory, uint64_t *out_position);

/* -- reading ---------------------------------------------------------------------------------- */

/* The live rows, with the open batch. Lent for the life of the store; loop thread only. */
struct store_reader *store_live(struct store *store);

/* The rows as they are now, without the open batch, whatever is committed later. It keeps old
 * versions of rows from being forgotten: release it within minutes.
 * Given: hand it to store_snapshot_release, on any thread, before store_close. */
struct store_reader *store_snapshot(struct store *store);
void store_snapshot_release(struct store_reader *snapshot);
/* As store_snapshot, for who reads on the loop and is mostly done before the next batch begins: until then it reads the
 * live rows, those in memory too; then it becomes a snapshot. Never hand it to another thread. */
struct store_reader *store_view(struct store *store);
/* Snapshots that are not released yet. Any thread. */
unsigned store_snapshot_count(const struct store *store);
/* Position of the newest commit that this reader sees. */
uint64_t store_reader_position(const struct store_reader *reader);

/* One row.
 *   out_value   lent until store_reader_reset; untouched unless STATUS_OK
 *   answers     STATUS_OK; STORE_NONE; negative: reading failed */
int store_get(struct store_reader *reader, unsigned table, struct bytes key,
              struct bytes *out_value);
/* Whether the row is there, without copying its value.
 *   answers     STATUS_OK; STORE_NONE; negative */
int store_find(struct store_reader *reader, unsigned table, struct bytes key);

/* Everything store_get lent from this reader becomes void and its memory is used again. Loops over
 * many rows call it once per round. */
void store_reader_reset(struct store_reader *reader);

/* The rows whose keys start with `prefix` (copied; empty: the whole table), in the order of
 * bytes_compare. Not yet on a row. An iterator of the live reader sees puts and removes that follow
 * in the same batch, and stays valid over them.
 * Given: hand it to store_iterator_close, before the batch ends or the snapshot is released. */
struct store_iterator *store_iterate(struct store_reader *reader, unsigned table,
                                     struct bytes prefix);
void store_iterator_close(struct store_iterator *iterator); /* NULL is ignored */
/* The same of the live reader, for prefixes of a few rows: where rows are kept, all of these are read at once, and the next
 * time none. */
struct store_iterator *store_iterate_few(struct store_reader *reader, unsigned table,
                                         struct bytes prefix);

/* Move; each answers whether the iterator is on a row now. After a false, store_iterator_status
 * tells the end of the rows (STATUS_OK) from failed reading. Keys given include the prefix. */
bool store_iterator_first(struct store_iterator *iterator);
bool store_iterator_last(struct store_iterator *iterator);
/* To the first row with key >= `key`; to the last row with key <= `key`. */
bool store_iterator_seek(struct store_iterator *iterator, struct bytes key);
bool store_iterator_seek_back(struct store_iterator *iterator, struct bytes key);
/* CHECK: on a row. That row may have been removed meanwhile: moving goes from its key. */
bool store_iterator_next(struct store_iterator *iterator);
bool store_iterator_previous(struct store_iterator *iterator);
int store_iterator_status(const struct store_iterator *iterator);

/* Of the current row, as it was when the iterator moved there. CHECK: on a row. Lent until the next
 * move or close; values are 8-byte aligned. */
struct bytes store_iterator_key(const struct store_iterator *iterator);
struct bytes store_iterator_value(struct store_iterator *iterator);

/* -- measures --------------------------------------------------------------------------------- */

struct store_usage {
    uint64_t disk_bytes;   /* of live table files */
    uint64_t memory_bytes; /* memory tables, table readers, RocksDB's blocks; store_cache */
    uint64_t rows;         /* an estimate in RocksDB */
    bool pressed;          /* the next commit may be answered STATUS_FULL: stop proposing */
};
/* Cheap enough for once a second. */
struct store_usage store_usage(struct store *store);
/* About how many bytes the rows of a table take (RocksDB: flushed rows, compressed). */
uint64_t store_table_bytes(struct store *store, unsigned table);

/* -- the simulator's body --------------------------------------------------------------------- */

/* A disk that holds one store and its checkpoints, in memory. It outlives the store that is open
 * on it, as a disk outlives a process. Everything on one thread. */
struct store_sim;
struct store_sim *store_sim_create(void); /* given: hand it to store_sim_destroy, store closed */
void store_sim_destroy(struct store_sim *sim);

/* Open what the disk holds. `machine` and `format` as in store_options.
 *   answers   as store_rocks_open */
int store_sim_open(struct store_sim *sim, const char *machine, uint32_t format, struct store **out);

/* Power loss: the store goes back to a prefix of commits between the flushed one and the newest,
 * chosen by `choice` (any number, modulo the count of prefixes). A store that is open on it is dead:
 * but for the rows of its open batch it answers -EIO to everything, what was kept or cached included, and is closed as
 * usual. The newest prefix is legal (RocksDB may have
 * flushed by itself), and so is the oldest.
 *   answers   position of the prefix that is left */
uint64_t store_sim_crash(struct store_sim *sim, uint64_t choice);

/* Make the n-th store_commit, store_flush or store_checkpoint from now (1 = the next) and all that
 * follow answer `status`, until called again with status 0. */
void store_sim_fail(struct store_sim *sim, uint64_t n, int status);

/* Replace what `sim` holds by a checkpoint that was made on `from` (may be the same disk). No store
 * may be open on `sim`. It is durable at once.
 *   answers   STATUS_OK; -ENOENT */
int store_sim_restore(struct store_sim *sim, const struct store_sim *from, const char *directory);

#endif
