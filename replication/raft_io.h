/* libraft's raft_io over log/ and peer.h: sixteen methods, no libuv.
 *
 *   append       entries become frames of the log, written once, from where libraft holds them
 *   truncate     log_truncate, in order with the appends
 *   term, vote   log_meta_put: durable when the method returns, so before any answer leaves
 *   snapshot     the log's file `snapshot` (raft_snapshot.h); then the front of the log may go
 *   load         raft_load.h
 *   send         built at once, so nothing of libraft's is kept; an AppendEntries of many entries
 *                is cut into messages of LIMIT_RAFT_ENTRIES and LIMIT_RAFT_BYTES (j); in the place of
 *                a snapshot go the entries that the log still has (raft_lag.h)
 *   time, random from the last tick, and from the seed
 *   async_work   replica_config.run
 *
 * Completions never come from inside the method: they wait for raft_io_settle, which the door calls
 * when libraft is left. When the log has no room (a full disk, LIMIT_LOG_WAITING_BYTES), writes
 * wait here in order; meanwhile AppendEntries with entries are dropped at the door, as a network would.
 *
 * An InstallSnapshot that asks for another state is held back here until the files of its manifest
 * have been fetched; repeats of it are dropped.
 */
#ifndef KELP_REPLICATION_RAFT_IO_H
#define KELP_REPLICATION_RAFT_IO_H

#include "log/log.h"
#include "replication/raft_lag.h"
#include "replication/raft_send.h"
#include "replication/raft_tell.h"
#include "replication/replica.h"
#include "schemas/codec.h"

#include <raft.h>

struct raft_reads;
struct io_write;
struct io_send;
struct io_get;
struct io_put;

/* What the storage asks of the state, for snapshots of others. */
struct raft_io_state {
    void *context;
    /* See replica_hooks.behind. */
    bool (*behind)(void *context);
    /* Must files be fetched before this snapshot can be restored? */
    bool (*needs)(void *context, const struct manifest *manifest);
    /* Start fetching; not 0: cannot, and the replica has been ended. */
    int (*fetch)(void *context, uint64_t from, const struct manifest *manifest);
};

struct replica_io {
    struct raft_io io; /* what the guard sees */
    struct raft *raft;
    struct log *log;
    struct replica_peers peers;
    struct raft_io_state state;
    struct raft_reads *reads;
    struct raft_lags lags;
    struct raft_tells tells;
    struct raft_hears hears;
    struct replica_counters *counters;
    struct codec *codec_out; /* two: libraft answers from inside a message */
    struct raft_sent sent;   /* in codec_out */
    struct codec *codec_in;
    void (*run)(void *context, struct replica_work *work);
    void *run_context;
    void (*entered)(void *context); /* something came back from outside and libraft was left */
    void *entered_context;

    raft_io_tick_cb tick;
    raft_io_recv_cb recv;
    struct raft_server self;
    uint64_t now_ms;
    uint64_t random;
    bool split; /* j is on */
    bool pings; /* t is on */
    bool probe; /* v is on */
    bool quiet; /* an answer to what libraft is told now is for nobody */
    bool ended; /* nothing leaves, nothing is stored, libraft hears nothing any more */

    uint64_t term; /* as the log's meta bytes have them */
    uint64_t vote;
    uint64_t index_next;        /* of the next entry libraft appends */
    struct raft_entry founding; /* the entry that bootstrap wrote in this life; type 0: none */

    struct io_write *writes_head; /* not accepted by the log yet, in order */
    struct io_write **writes_tail;
    int writes_status;          /* why not */
    uint64_t install_retry_ms;  /* a snapshot of another replica is not stored before */
    uint32_t writes_flying;     /* with the log */
    struct io_send *sends_head; /* done, libraft is to be told */
    struct io_send **sends_tail;
    struct io_put *puts_head; /* the same */
    struct io_get *gets_head; /* libraft waits for the snapshot */

    struct raft_message held; /* an InstallSnapshot; type 0: none */
    char held_address[LIMIT_NAME_BYTES + 1];
    uint64_t held_index;
    bool held_ready; /* its files are here */
};

/* raft_progress.state, as in libraft's progress.h; raft_guard.c has asserted the layout around it. */
enum raft_io_progress_state { RAFT_IO_PROBE = 0, RAFT_IO_PIPELINE = 1, RAFT_IO_SNAPSHOT = 2 };

struct raft_io_options {
    struct raft *raft;
    struct log *log;
    const struct replica_config *config; /* borrowed during the call */
    const struct replica_peers *peers;
    struct raft_io_state state;
    struct raft_reads *reads; /* where pings and their answers go */
    struct replica_counters *counters;
    void *run_context;
    void (*entered)(void *context);
    void *entered_context;
};

/* Prepare; libraft is not called. What the options point at is borrowed for good, but where they
 * say otherwise. */
void raft_io_open(struct replica_io *io, const struct raft_io_options *options);
/* Read term and vote, before libraft is started. Answers 0; STATUS_CORRUPT. */
int raft_io_prepare(struct replica_io *io);

/* Write term and vote. Answers as log_meta_put. */
int raft_io_meta_put(struct log *log, uint64_t term, uint64_t vote);

/* Time passes, for io->time and for libraft's timers. */
void raft_io_tick(struct replica_io *io, uint64_t now_ms);
/* A message came. Answers as replica_receive. */
int raft_io_receive(struct replica_io *io, uint64_t from, struct bytes bytes);
/* What libraft knows of a follower, to be read and, where said, changed; NULL: this replica does not lead, or
 * it is no member. Valid until libraft is entered. */
struct raft_progress *raft_io_progress(struct raft *raft, uint64_t id);
/* The files of the held snapshot are here, or are not to be had. */
void raft_io_fetched(struct replica_io *io, int status);

/* Tell libraft of what completed, offer the log what waits, until there is nothing.
 *
 *   answers    true when libraft was told anything
 */
bool raft_io_settle(struct replica_io *io);

/* Why the log takes nothing: 0, STATUS_FULL or -ENOSPC. */
int raft_io_room(const struct replica_io *io);
/* Whether so many commands of so many bytes together can be one append. */
bool raft_io_fits(const struct replica_io *io, uint32_t count, uint64_t bytes);
/* Something is with the log or the pool. */
bool raft_io_busy(const struct replica_io *io);

#endif
