/*
 *   1. raft_io_open, then libraft: init, load, start
 *   2. raft_io_receive / raft_io_tick -> libraft -> append, send, ... -> raft_io_settle
 *   3. the log calls back: write_on_done -> libraft -> `entered`, which settles
 *
 * What can fail: a write of the log ends the replica (through the guard); a message that cannot be
 * sent is lost, and libraft is told; a snapshot that cannot be stored is tried again later.
 */
#include "replication/raft_io.h"

#include "replication/raft_load.h"
#include "replication/raft_members.h"
#include "replication/raft_reads.h"
#include "replication/raft_snapshot.h"
#include "replication/raft_status.h"
#include "replication/raft_wire.h"
#include "schemas/check.h"

#include <stdlib.h>

#define META_BYTES       16u
#define INSTALL_RETRY_MS 200u /* between attempts to store a snapshot on a full disk */

static_assert(META_BYTES <= LIMIT_LOG_META_BYTES, "term and vote fit the log's meta bytes");

enum io_write_kind { WRITE_APPEND, WRITE_TRUNCATE, WRITE_RESET };

/* One request of libraft to the log, with the entries in the log's words behind it. */
struct io_write {
    struct log_request request;
    struct io_write *next;
    struct replica_io *io;
    enum io_write_kind kind;
    uint64_t index; /* first of an append; the argument of the others */
    uint32_t count;
    struct raft_io_append *append;
    struct raft_io_snapshot_put *put;
    const struct raft_snapshot *snapshot; /* to be stored before a reset; libraft's until the put */
    struct log_entry *entries;
    struct bytes *pieces;
};

struct io_send {
    struct io_send *next;
    struct raft_io_send *request;
    uint64_t to;
    int result;
};

struct io_put {
    struct io_put *next;
    struct raft_io_snapshot_put *request;
    int result;
};

struct io_get {
    struct io_get *next;
    struct raft_io_snapshot_get *request;
    raft_io_snapshot_get_cb callback;
};

struct io_work {
    struct replica_work work;
    struct replica_io *io;
    struct raft_io_async_work *request;
    raft_io_async_work_cb callback;
    int result;
};

static struct replica_io *io_of(struct raft_io *io)
{
    return io->impl;
}

/* -- writes ----------------------------------------------------------------------------------- */

static uint8_t frame_type(unsigned short type)
{
    switch (type) {
    case RAFT_COMMAND:
        return LOG_TYPE_COMMAND;
    case RAFT_BARRIER:
        return LOG_TYPE_BARRIER;
    default:
        CHECK(type == RAFT_CHANGE);
        return LOG_TYPE_CHANGE;
    }
}

static void write_finish(struct io_write *write, int status)
{
    struct replica_io *io = write->io;
    if (!io->ended) {
        const int result = raft_result_of(status);
        if (write->append != NULL) {
            write->append->cb(write->append, result);
        }
        if (write->put != NULL) {
            write->put->cb(write->put, result);
        }
    }
    raft_free(write->entries);
    raft_free(write->pieces);
    raft_free(write);
}

static void write_on_done(struct log_request *request, int status)
{
    struct io_write *write = request->context;
    struct replica_io *io = write->io;
    CHECK(io->writes_flying > 0);
    io->writes_flying--;
    write_finish(write, status);
    io->entered(io->entered_context);
}

/* Hand a write to the log. STATUS_FULL and -ENOSPC: not now, nothing changed. */
static int write_start(struct io_write *write)
{
    struct replica_io *io = write->io;
    int status = -EIO;
    switch (write->kind) {
    case WRITE_APPEND:
        status = log_append(io->log, &write->request, write->entries, write->count);
        CHECK_IF(status == 0, write->request.index == write->index);
        break;
    case WRITE_TRUNCATE:
        status = log_truncate(io->log, &write->request, write->index);
        break;
    case WRITE_RESET:
        if (write->snapshot != NULL) {
            if (io->now_ms < io->install_retry_ms) {
                return -ENOSPC;
            }
            io->install_retry_ms = io->now_ms + INSTALL_RETRY_MS;
            status = raft_snapshot_store(io->log, write->snapshot, write->index);
            if (status != 0) {
                return status == -EDQUOT ? -ENOSPC : status;
            }
            write->snapshot = NULL;
            io->install_retry_ms = 0;
            io->counters->snapshots_installed++;
        }
        status = log_reset(io->log, &write->request, write->index);
        break;
    }
    if (status == 0) {
        io->writes_flying++;
    }
    return status;
}

/* Start a write, or let it wait behind those that wait. */
static int write_submit(struct io_write *write)
{
    struct replica_io *io = write->io;
    write->request.callback = write_on_done;
    write->request.context = write;
    if (io->writes_head == NULL) {
        const int status = write_start(write);
        if (status != STATUS_FULL && status != -ENOSPC) {
            return status;
        }
        io->writes_status = status;
    }
    *io->writes_tail = write;
    io->writes_tail = &write->next;
    return 0;
}

/* Offer the log again what it refused. */
static bool writes_retry(struct replica_io *io)
{
    bool told = false;
    while (io->writes_head != NULL && !io->ended) {
        struct io_write *write = io->writes_head;
        const int status = write_start(write);
        if (status == STATUS_FULL || status == -ENOSPC) {
            io->writes_status = status;
            return told;
        }
        io->writes_head = write->next;
        if (io->writes_head == NULL) {
            io->writes_tail = &io->writes_head;
        }
        if (status != 0) {
            told = true;
            write_finish(write, status);
        }
    }
    io->writes_status = 0;
    return told;
}

static struct io_write *write_new(struct replica_io *io, enum io_write_kind kind, uint64_t index)
{
    struct io_write *write = raft_memory(sizeof *write);
    write->io = io;
    write->kind = kind;
    write->index = index;
    return write;
}

static int write_submit_or_free(struct io_write *write)
{
    const int status = write_submit(write);
    if (status != 0) {
        raft_free(write->entries);
        raft_free(write->pieces);
        raft_free(write);
    }
    return raft_result_of(status);
}

static int io_append(struct raft_io *raft_io, struct raft_io_append *request,
                     const struct raft_entry entries[], unsigned count, raft_io_append_cb callback)
{
    struct replica_io *io = io_of(raft_io);
    CHECK(count > 0);
    if (io->ended) {
        return RAFT_SHUTDOWN;
    }
    /* libraft has put them into its own log already, and writes from there to its end */
    const uint64_t first = raft_last_index(io->raft) - count + 1;
    CHECK(first == io->index_next);

    struct io_write *write = write_new(io, WRITE_APPEND, first);
    request->cb = callback;
    write->append = request;
    write->count = count;
    write->entries = raft_memory(count * sizeof *write->entries);
    write->pieces = raft_memory(count * sizeof *write->pieces);
    for (unsigned i = 0; i < count; i++) {
        if (entries[i].type == RAFT_BARRIER) {
            /* libraft leaves in it what was in its memory, and sends it only after this */
            memset(entries[i].buf.base, 0, entries[i].buf.len);
        }
        write->pieces[i] = bytes_of(entries[i].buf.base, entries[i].buf.len);
        write->entries[i] = (struct log_entry){
            .term = entries[i].term,
            .type = frame_type(entries[i].type),
            .piece_count = 1,
            .pieces = &write->pieces[i],
        };
    }
    const int result = write_submit_or_free(write);
    if (result == 0) {
        io->index_next = first + count;
    }
    return result;
}

static int io_truncate(struct raft_io *raft_io, raft_index index)
{
    struct replica_io *io = io_of(raft_io);
    if (io->ended) {
        return RAFT_SHUTDOWN;
    }
    CHECK(index <= io->index_next);
    const int result = write_submit_or_free(write_new(io, WRITE_TRUNCATE, index));
    if (result == 0) {
        io->index_next = index;
    }
    return result;
}

/* -- term and vote ---------------------------------------------------------------------------- */

int raft_io_meta_put(struct log *log, uint64_t term, uint64_t vote)
{
    uint8_t meta[META_BYTES];
    put_le64(meta, term);
    put_le64(meta + 8, vote);
    return log_meta_put(log, bytes_of(meta, sizeof meta));
}

uint64_t replica_meta_term(struct bytes meta)
{
    return meta.size == META_BYTES ? get_le64(meta.data) : 0;
}

static int meta_store(struct replica_io *io, uint64_t term, uint64_t vote)
{
    if (io->ended) {
        return RAFT_SHUTDOWN;
    }
    const int status = raft_io_meta_put(io->log, term, vote);
    if (status == 0) {
        io->term = term;
        io->vote = vote;
    }
    return raft_result_of(status);
}

static int io_set_term(struct raft_io *raft_io, raft_term term)
{
    CHECK(term >= io_of(raft_io)->term);
    return meta_store(io_of(raft_io), term, 0);
}

static int io_set_vote(struct raft_io *raft_io, raft_id id)
{
    return meta_store(io_of(raft_io), io_of(raft_io)->term, id);
}

/* -- sending ---------------------------------------------------------------------------------- */

struct raft_progress *raft_io_progress(struct raft *raft, uint64_t id)
{
    if (raft->state != RAFT_LEADER) {
        return NULL;
    }
    for (unsigned i = 0; i < raft->configuration.n; i++) {
        if (raft->configuration.servers[i].id == id) {
            return &raft->leader_state.progress[i];
        }
    }
    return NULL;
}

/* libraft asks this follower where their logs part. */
static bool io_probes(const struct replica_io *io, uint64_t id)
{
    const struct raft_progress *progress = raft_io_progress(io->raft, id);
    return io->probe && progress != NULL && progress->state == RAFT_IO_PROBE;
}

/* How many entries from `first` go into one message. */
static unsigned send_portion(const struct replica_io *io, const struct raft_append_entries *append,
                             unsigned first)
{
    if (!io->split) {
        return append->n_entries - first;
    }
    unsigned count = 0;
    size_t bytes = 0;
    while (first + count < append->n_entries && count < LIMIT_RAFT_ENTRIES) {
        bytes += append->entries[first + count].buf.len;
        if (count > 0 && bytes > LIMIT_RAFT_BYTES) {
            break;
        }
        count++;
    }
    return count;
}

static int send_message(struct replica_io *io, const struct raft_message *message)
{
    const bool append = message->type == RAFT_IO_APPEND_ENTRIES;
    if (io->quiet && message->type == RAFT_IO_APPEND_ENTRIES_RESULT) {
        return 0;
    }
    if (message->type == RAFT_IO_INSTALL_SNAPSHOT && raft_lag_offer(&io->lags, message)) {
        return 0;
    }
    unsigned entries = append ? message->append_entries.n_entries : 0;
    if (entries > 1 && io_probes(io, message->server_id)) {
        entries = 1; /* a question; what follows it goes out once it is agreed to */
    }
    unsigned first = 0;
    do {
        const unsigned count =
            entries > 1 ? send_portion(io, &message->append_entries, first) : entries;
        if (raft_send_part(io, message, 0, first, count) != 0) {
            return RAFT_NOCONNECTION; /* the part that left is good by itself */
        }
        io->counters->messages_split += first > 0;
        first += count;
    } while (first < entries);
    if (append) {
        raft_tell_sent(&io->tells, message);
    }
    return 0;
}

static int io_send(struct raft_io *raft_io, struct raft_io_send *request,
                   const struct raft_message *message, raft_io_send_cb callback)
{
    struct replica_io *io = io_of(raft_io);
    CHECK(message->server_id != 0); /* the guard lets nobody's replies through (h) */
    CHECK(message->server_address != NULL);
    CHECK(message->server_id != io->self.id);
    request->cb = callback;

    /* libraft frees twice when a send fails at once: always accept, and tell it later. */
    struct io_send *send = raft_memory(sizeof *send);
    send->request = request;
    send->to = message->server_id;
    send->result = io->ended ? RAFT_NOCONNECTION : send_message(io, message);
    *io->sends_tail = send;
    io->sends_tail = &send->next;
    return 0;
}

/* -- snapshots -------------------------------------------------------------------------------- */

static int io_snapshot_put(struct raft_io *raft_io, unsigned trailing,
                           struct raft_io_snapshot_put *request,
                           const struct raft_snapshot *snapshot, raft_io_snapshot_put_cb callback)
{
    struct replica_io *io = io_of(raft_io);
    if (io->ended) {
        return RAFT_SHUTDOWN;
    }
    if (trailing == 0) {
        /* libraft has dropped its log already, so this one waits for room like any write. */
        struct io_write *write = write_new(io, WRITE_RESET, snapshot->index + 1);
        request->cb = callback;
        write->put = request;
        write->snapshot = snapshot;
        if (io->writes_head != NULL) {
            log_admit(io->log); /* they wait for room, which only this reset may make */
        }
        const int result = write_submit_or_free(write);
        if (result == 0) {
            io->index_next = snapshot->index + 1;
        }
        return result;
    }
    const uint64_t kept = snapshot->index > trailing ? snapshot->index - trailing + 1 : 1;
    const int status = raft_snapshot_store(io->log, snapshot, kept);
    if (status != 0) {
        return raft_result_of(status);
    }

    request->cb = callback;
    io->counters->snapshots_taken++;
    log_release(io->log, kept);
    struct io_put *put = raft_memory(sizeof *put);
    put->request = request;
    put->next = io->puts_head;
    io->puts_head = put;
    return 0;
}

static int io_snapshot_get(struct raft_io *raft_io, struct raft_io_snapshot_get *request,
                           raft_io_snapshot_get_cb callback)
{
    struct replica_io *io = io_of(raft_io);
    struct io_get *get = raft_memory(sizeof *get);
    request->cb = callback;
    get->request = request;
    get->callback = callback;
    get->next = io->gets_head;
    io->gets_head = get;
    return 0;
}

static void work_run(struct replica_work *replica_work)
{
    struct io_work *work = CONTAINER_OF(replica_work, struct io_work, work);
    work->result = work->request->work(work->request);
}

static void work_on_done(struct replica_work *replica_work)
{
    struct io_work *work = CONTAINER_OF(replica_work, struct io_work, work);
    struct replica_io *io = work->io;
    if (!io->ended) {
        work->callback(work->request, work->result);
    }
    raft_free(work);
    io->entered(io->entered_context);
}

static int io_async_work(struct raft_io *raft_io, struct raft_io_async_work *request,
                         raft_io_async_work_cb callback)
{
    struct replica_io *io = io_of(raft_io);
    CHECK(io->run != NULL);
    struct io_work *work = raft_memory(sizeof *work);
    work->work = (struct replica_work){.work = work_run, .done = work_on_done};
    work->io = io;
    request->cb = callback;
    work->request = request;
    work->callback = callback;
    io->run(io->run_context, &work->work);
    return 0;
}

/* -- start ------------------------------------------------------------------------------------ */

static int io_init(struct raft_io *raft_io, raft_id id, const char *address)
{
    (void)raft_io;
    (void)id;
    (void)address;
    return 0;
}

static void io_close(struct raft_io *raft_io, raft_io_close_cb callback)
{
    (void)raft_io;
    (void)callback;
    CHECK(false); /* see guard_close */
}

static int io_load(struct raft_io *raft_io, raft_term *out_term, raft_id *out_vote,
                   struct raft_snapshot **out_snapshot, raft_index *out_start,
                   struct raft_entry *out_entries[], size_t *out_count)
{
    struct replica_io *io = io_of(raft_io);
    struct raft_loaded loaded;
    int status = raft_load(io->log, &io->founding, &loaded);
    if (status == 0 && loaded.superseded) {
        status = write_submit_or_free(write_new(io, WRITE_RESET, loaded.start)) == 0
                     ? 0
                     : log_status(io->log);
    }
    *out_snapshot = loaded.snapshot;
    *out_start = loaded.start;
    *out_entries = loaded.entries;
    *out_count = loaded.count;
    if (status != 0) {
        return raft_result_of(status);
    }
    io->index_next = *out_start + *out_count;
    *out_term = io->term;
    *out_vote = io->vote;
    return 0;
}

static int io_start(struct raft_io *raft_io, unsigned msecs, raft_io_tick_cb tick,
                    raft_io_recv_cb recv)
{
    struct replica_io *io = io_of(raft_io);
    (void)msecs; /* ticks come from outside */
    io->tick = tick;
    io->recv = recv;
    return 0;
}

/* The founding entry. Term 1 first: whoever finds the term and no entry founds again, and the
 * entry is the same. */
static int io_bootstrap(struct raft_io *raft_io, const struct raft_configuration *members)
{
    struct replica_io *io = io_of(raft_io);
    if (log_index_next(io->log) != 1) {
        return RAFT_CANTBOOTSTRAP;
    }
    struct raft_buffer data;
    int result = raft_configuration_encode(members, &data);
    if (result == 0) {
        /* libraft leaves behind it what was in its memory, and each founder writes its own */
        const size_t used = raft_members_bytes(members);
        CHECK(used <= data.len);
        memset((uint8_t *)data.base + used, 0, data.len - used);
    }
    if (result == 0 && io->term == 0) {
        result = meta_store(io, 1, 0);
    }
    if (result != 0) {
        return result;
    }
    io->founding = (struct raft_entry){.term = 1, .type = RAFT_CHANGE, .buf = data};
    struct io_write *write = write_new(io, WRITE_APPEND, 1);
    write->count = 1;
    write->entries = raft_memory(sizeof *write->entries);
    write->pieces = raft_memory(sizeof *write->pieces + data.len);
    uint8_t *copy = (uint8_t *)(write->pieces + 1); /* libraft may drop its own before the flush */
    memcpy(copy, data.base, data.len);
    write->pieces[0] = bytes_of(copy, data.len);
    write->entries[0] = (struct log_entry){
        .term = 1, .type = LOG_TYPE_CHANGE, .piece_count = 1, .pieces = write->pieces};
    return write_submit_or_free(write);
}

static int io_recover(struct raft_io *raft_io, const struct raft_configuration *members)
{
    (void)raft_io;
    (void)members;
    return RAFT_INVALID; /* a group that lost its majority is restored, not patched */
}

static raft_time io_time(struct raft_io *raft_io)
{
    return io_of(raft_io)->now_ms;
}

/* splitmix64 */
static int io_random(struct raft_io *raft_io, int low, int high)
{
    struct replica_io *io = io_of(raft_io);
    CHECK(low < high);
    io->random += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = io->random;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    z ^= z >> 31;
    return low + (int)(z % (uint64_t)(high - low));
}

void raft_io_open(struct replica_io *io, const struct raft_io_options *options)
{
    const struct replica_config *config = options->config;
    *io = (struct replica_io){
        .io = {.version = 2,
               .impl = io,
               .init = io_init,
               .close = io_close,
               .load = io_load,
               .start = io_start,
               .bootstrap = io_bootstrap,
               .recover = io_recover,
               .set_term = io_set_term,
               .set_vote = io_set_vote,
               .send = io_send,
               .append = io_append,
               .truncate = io_truncate,
               .snapshot_put = io_snapshot_put,
               .snapshot_get = io_snapshot_get,
               .time = io_time,
               .random = io_random,
               .async_work = io_async_work},
        .raft = options->raft,
        .log = options->log,
        .peers = *options->peers,
        .state = options->state,
        .reads = options->reads,
        .counters = options->counters,
        .codec_out = codec_create(),
        .codec_in = codec_create(),
        .run = config->run,
        .run_context = options->run_context,
        .entered = options->entered,
        .entered_context = options->entered_context,
        .self = {.id = config->id, .address = raft_memory(strlen(config->address) + 1)},
        .now_ms = config->now_ms,
        .random = config->seed,
        .split = (config->measures_off & MEASURE_SPLIT) == 0,
        .pings = (config->measures_off & MEASURE_PING) == 0,
        .probe = (config->measures_off & MEASURE_PROBE) == 0,
    };
    memcpy(io->self.address, config->address, strlen(config->address));
    io->writes_tail = &io->writes_head;
    io->sends_tail = &io->sends_head;
    io->index_next = log_index_next(io->log);
    raft_tell_init(&io->tells, io);
    raft_hear_init(&io->hears, io);
    raft_lag_init(&io->lags, io, ~config->measures_off, options->counters);
}

int raft_io_prepare(struct replica_io *io)
{
    const struct bytes meta = log_meta_get(io->log);
    if (meta.size == 0) {
        return 0;
    }
    if (meta.size != META_BYTES) {
        return STATUS_CORRUPT;
    }
    io->term = get_le64(meta.data);
    io->vote = get_le64(meta.data + 8);
    return 0;
}

/* -- what comes in ---------------------------------------------------------------------------- */

void raft_io_tick(struct replica_io *io, uint64_t now_ms)
{
    CHECK(now_ms >= io->now_ms);
    io->now_ms = now_ms;
    io->tick(&io->io);
    raft_lag_run(&io->lags);
}

static void held_drop(struct replica_io *io)
{
    raft_wire_free(&io->held);
    io->held.type = 0;
    io->held_ready = false;
}

/* An InstallSnapshot. Handed to libraft when no files are needed for it, else held.
 *
 *   answers    0; STATUS_MALFORMED: the message is the caller's again
 */
static int receive_snapshot(struct replica_io *io, struct raft_message *message)
{
    const struct raft_install_snapshot *install = &message->install_snapshot;
    struct manifest manifest;
    const int status = manifest_decode(bytes_of(install->data.base, install->data.len), &manifest);
    if (status != 0) {
        return status;
    }
    if (install->term < io->raft->current_term ||
        install->last_index <= io->raft->log.snapshot.last_index ||
        install->last_index <= io->raft->commit_index ||
        !io->state.needs(io->state.context, &manifest)) {
        io->recv(&io->io, message);
        goto out;
    }
    const bool installing = io->raft->snapshot.put.data != NULL;
    const bool newer =
        io->held.type != 0 && install->term > io->held.install_snapshot.term; /* its leader */
    if (installing || (io->held.type != 0 && io->held_index != install->last_index && !newer)) {
        raft_wire_free(message); /* one at a time; this one is offered again */
        goto out;
    }
    if (io->held.type != 0 && io->held_index != install->last_index) {
        held_drop(io); /* libraft would not take it: its leader is not the leader any more */
    }
    const size_t size = strlen(message->server_address);
    CHECK(size < sizeof io->held_address);
    memcpy(io->held_address, message->server_address, size + 1);
    if (io->held.type != 0) {
        /* A repeat, perhaps of a newer leader, and then with another manifest for the same index.
         * The one that is being fetched is as good; only libraft must find the leader's term. */
        io->held.server_id = message->server_id;
        io->held.install_snapshot.term = install->term;
        raft_wire_free(message);
        goto out;
    }
    io->held = *message;
    io->held.server_address = io->held_address;
    io->held_index = install->last_index;
    if (io->state.fetch(io->state.context, message->server_id, &manifest) != 0) {
        held_drop(io);
    }
out:
    manifest_free(&manifest);
    return 0;
}

int raft_io_receive(struct replica_io *io, uint64_t from, struct bytes bytes)
{
    struct raft_message message;
    struct raft_wire_extra extra;
    codec_reset(io->codec_in);
    int status = raft_wire_read(io->codec_in, bytes, &message, &extra);
    const bool ping = status == 0 && message.type > RAFT_IO_TIMEOUT_NOW;
    if (ping && !io->pings) {
        status = STATUS_MALFORMED;
    }
    if (status == 0 && message.server_id != from) {
        raft_wire_free(&message);
        status = STATUS_IDENTITY;
    }
    if (status != 0) {
        io->counters->refused++;
        return status;
    }
    io->counters->received++;
    raft_reads_heard(io->reads, from, extra.features);
    if (message.type == RAFT_WIRE_PING) {
        raft_reads_on_ping(io->reads, from, extra.term, extra.round);
        return 0;
    }
    if (message.type == RAFT_WIRE_PONG) {
        raft_reads_on_pong(io->reads, from, extra.term, extra.round);
        return 0;
    }
    if (message.type == RAFT_IO_APPEND_ENTRIES && message.append_entries.n_entries > 0 &&
        (io->writes_head != NULL || io->state.behind(io->state.context))) {
        io->counters->dropped++; /* no room for it: as if the network had lost it */
        raft_wire_free(&message);
        return 0;
    }
    if (message.type == RAFT_IO_INSTALL_SNAPSHOT) {
        status = receive_snapshot(io, &message);
        if (status != 0) {
            io->counters->refused++;
            raft_wire_free(&message);
        }
        return status;
    }
    if (message.type == RAFT_IO_APPEND_ENTRIES_RESULT) {
        raft_lag_on_result(&io->lags, from, &message.append_entries_result);
    }
    if (message.type == RAFT_IO_APPEND_ENTRIES) {
        raft_hear(&io->hears, from, &message, (extra.features & RAFT_WIRE_TELLS) != 0);
    } else {
        io->recv(&io->io, &message);
    }
    raft_lag_run(&io->lags);
    return 0;
}

void raft_io_fetched(struct replica_io *io, int status)
{
    if (io->held.type == 0) {
        return;
    }
    if (status != 0) {
        held_drop(io); /* the leader offers one again */
        return;
    }
    io->held_ready = true;
}

/* -- settling --------------------------------------------------------------------------------- */

/* Tell libraft how it went. A probe that did not leave tells nothing about the follower: libraft would go
 * back to the last entry that it acknowledged to this leader, which is none at all for one that died
 * before the leader was elected, and begin with the whole log when it returns. */
static void send_finish(struct replica_io *io, const struct io_send *send)
{
    const bool probes = send->result != 0 && io_probes(io, send->to);
    const raft_index next = probes ? raft_io_progress(io->raft, send->to)->next_index : 0;
    send->request->cb(send->request, send->result);
    if (probes && io_probes(io, send->to)) {
        raft_io_progress(io->raft, send->to)->next_index = next;
    }
}

static bool sends_settle(struct replica_io *io)
{
    bool told = false;
    while (io->sends_head != NULL) {
        struct io_send *send = io->sends_head;
        io->sends_head = send->next;
        if (io->sends_head == NULL) {
            io->sends_tail = &io->sends_head;
        }
        if (send->request->cb != NULL) {
            send_finish(io, send);
        }
        raft_free(send);
        told = true;
    }
    return told;
}

static bool snapshots_settle(struct replica_io *io)
{
    bool told = false;
    while (io->puts_head != NULL) {
        struct io_put *put = io->puts_head;
        io->puts_head = put->next;
        put->request->cb(put->request, put->result);
        raft_free(put);
        told = true;
    }
    while (io->gets_head != NULL) {
        struct io_get *get = io->gets_head;
        io->gets_head = get->next;
        struct raft_snapshot *snapshot = NULL;
        uint64_t kept = 0;
        int status = raft_snapshot_load(io->log, &snapshot, &kept);
        if (status == 0 && snapshot == NULL) {
            status = -EIO;
        }
        get->callback(get->request, snapshot, raft_result_of(status));
        raft_free(get);
        told = true;
    }
    /* libraft forgets an offered snapshot that comes while it takes one of its own */
    if (io->held_ready && io->raft->snapshot.pending.term == 0 &&
        io->raft->snapshot.put.data == NULL) {
        struct raft_message message = io->held;
        io->held.type = 0;
        io->held_ready = false;
        io->recv(&io->io, &message);
        told = true;
    }
    return told;
}

bool raft_io_settle(struct replica_io *io)
{
    if (io->ended) {
        return false;
    }
    bool told = sends_settle(io);
    told = snapshots_settle(io) || told;
    return writes_retry(io) || told;
}

int raft_io_room(const struct replica_io *io)
{
    return io->writes_head != NULL ? io->writes_status : 0;
}

bool raft_io_fits(const struct replica_io *io, uint32_t count, uint64_t bytes)
{
    return log_has_room(io->log, count, bytes);
}

bool raft_io_busy(const struct replica_io *io)
{
    return io->writes_flying > 0;
}
