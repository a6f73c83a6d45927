#include "replication/raft_lag.h"

#include "replication/raft_io.h"
#include "replication/raft_load.h"
#include "replication/raft_members.h"
#include "replication/raft_wire.h"
#include "schemas/check.h"

static struct raft_lag *lag_find(struct raft_lags *lags, uint64_t id)
{
    for (uint32_t i = 0; i < LIMIT_REPLICAS; i++) {
        if (lags->list[i].id == id) {
            return &lags->list[i];
        }
    }
    return NULL;
}

/* -- holding the log --------------------------------------------------------------------------- */

static void hold_follow(struct raft_lags *lags)
{
    raft_index lowest = UINT64_MAX;
    for (uint32_t i = 0; i < LIMIT_REPLICAS; i++) {
        const struct raft_lag *lag = &lags->list[i];
        if (lag->id != 0 && lag->hold != 0 && lag->hold < lowest) {
            lowest = lag->hold;
        }
    }
    log_hold(lags->io->log, lowest);
}

static void lag_drop(struct raft_lag *lag)
{
    log_cursor_close(&lag->cursor);
    *lag = (struct raft_lag){0};
}

/* -- entries from the log ---------------------------------------------------------------------- */

/* Begin at this entry, not sure whether the follower has those before it. */
static void lag_probe(struct raft_lag *lag, raft_index next)
{
    CHECK(next > 0);
    lag->next = next;
    lag->acked = next - 1;
    lag->probing = true;
    lag->flight = 0;
    lag->placed = false;
}

/* Stand before `next`, with the term of the entry before it.
 *
 *   answers    enum log_cursor_answer, a failure of the log
 */
static int lag_place(struct raft_lags *lags, struct raft_lag *lag)
{
    const struct raft_log *memory = &lags->io->raft->log;
    const raft_index previous = lag->next - 1;
    if (lag->placed) {
        return LOG_CURSOR_FRAME;
    }
    lag->prev_term = 0;
    if (previous == memory->snapshot.last_index) { /* also 0, when there is none */
        lag->prev_term = memory->snapshot.last_term;
        log_cursor_seek(&lag->cursor, lag->next);
    } else if (previous == 0) {
        log_cursor_seek(&lag->cursor, lag->next);
    } else {
        struct log_frame frame;
        log_cursor_seek(&lag->cursor, previous);
        const int answer = log_cursor_next(&lag->cursor, &frame);
        if (answer != LOG_CURSOR_FRAME) {
            return answer;
        }
        lag->prev_term = frame.term;
    }
    if (lag->next < log_index_first(lags->io->log)) {
        return LOG_CURSOR_GONE;
    }
    lag->placed = true;
    return LOG_CURSOR_FRAME;
}

/* Read one message's worth of entries from `next` on; one entry is enough to ask with.
 *
 *   entries    room for LIMIT_RAFT_ENTRIES; *out_count of them are the caller's to free
 *   answers    0; LOG_CURSOR_END, LOG_CURSOR_GONE; a failure
 */
static int lag_read(struct raft_lag *lag, struct raft_entry *entries, unsigned *out_count)
{
    const unsigned most = lag->probing ? 1 : LIMIT_RAFT_ENTRIES;
    size_t bytes = 0;
    *out_count = 0;
    while (*out_count < most && bytes < LIMIT_RAFT_BYTES) {
        struct log_frame frame;
        int answer = log_cursor_next(&lag->cursor, &frame);
        if (answer == LOG_CURSOR_FRAME && *out_count > 0 &&
            bytes + frame.payload.size > LIMIT_RAFT_BYTES) {
            log_cursor_seek(&lag->cursor, frame.index); /* the next message begins with it */
            return 0;
        }
        if (answer == LOG_CURSOR_FRAME) {
            CHECK(frame.index == lag->next + *out_count);
            answer = raft_load_entry(&frame, &entries[*out_count]);
            if (answer != 0) {
                log_cursor_seek(&lag->cursor, frame.index);
            }
        }
        if (answer != 0) {
            return *out_count > 0 ? 0 : answer; /* said again when it is the first one */
        }
        bytes += frame.payload.size;
        (*out_count)++;
    }
    return 0;
}

/* Send the next message.
 *
 *   answers    whether another one may follow
 */
static bool lag_send(struct raft_lags *lags, struct raft_lag *lag)
{
    struct replica_io *io = lags->io;
    struct raft_entry *entries = raft_memory(LIMIT_RAFT_ENTRIES * sizeof *entries);
    unsigned count = 0;
    int answer = lag_place(lags, lag);
    if (answer == 0) {
        answer = lag_read(lag, entries, &count);
    }
    if (answer != 0 && answer != LOG_CURSOR_END) {
        lag->feeding = false; /* gone, or damaged: it is given a state */
        lag->hold = 0;
    }
    bool sent = false;
    if (count > 0) {
        const struct raft_message message = {
            .type = RAFT_IO_APPEND_ENTRIES,
            .server_id = lag->id,
            .append_entries = {.term = lag->term,
                               .prev_log_index = lag->next - 1,
                               .prev_log_term = lag->prev_term,
                               .leader_commit = io->raft->commit_index,
                               .entries = entries,
                               .n_entries = count},
        };
        sent = raft_send_part(io, &message, 0, 0, count) == 0;
        lag->placed = sent; /* else the cursor has passed what is still to be sent */
        lags->counters->lag_refused += !sent;
    }
    if (sent) {
        lag->next += count;
        lag->prev_term = entries[count - 1].term;
        lag->ends[lag->flight] = lag->next - 1;
        lag->flight++;
        lag->sent_ms = io->now_ms;
        lags->counters->lag_messages++;
    }
    for (unsigned i = 0; i < count; i++) {
        raft_free(entries[i].buf.base);
    }
    raft_free(entries);
    return sent;
}

/* -------------------------------------------------------------------------------------------- */

void raft_lag_init(struct raft_lags *lags, struct replica_io *io, uint32_t measures,
                   struct replica_counters *counters)
{
    *lags = (struct raft_lags){.io = io, .on = (measures & MEASURE_LAG) != 0, .counters = counters};
}

bool raft_lag_offer(struct raft_lags *lags, const struct raft_message *message)
{
    struct replica_io *io = lags->io;
    const struct raft_progress *progress = raft_io_progress(io->raft, message->server_id);
    struct raft_lag *lag = lag_find(lags, message->server_id);
    if (!lags->on || progress == NULL) {
        return false;
    }
    if (lag != NULL && lag->term != io->raft->current_term) {
        lag_drop(lag);
        lag = NULL;
    }
    if (lag == NULL) {
        lag = lag_find(lags, 0);
        CHECK(lag != NULL); /* as many as members: raft_lag_run drops who is none any more */
        lag->id = message->server_id;
        lag->term = io->raft->current_term;
        lag->feeding = true;
        lag->heard_ms = io->now_ms;
        lag->moved_ms = io->now_ms;
        log_cursor_open(&lag->cursor, io->log, progress->next_index);
        lag_probe(lag, progress->next_index);
        lag->hold = lag->acked > 0 ? lag->acked : 1;
    }
    if (lag->feeding && lag_place(lags, lag) != LOG_CURSOR_FRAME) {
        lag->feeding = false;
        lag->hold = 0;
    }
    if (!lag->feeding && lag->hold == 0) {
        lag->hold = message->install_snapshot.last_index;
        lag->moved_ms = io->now_ms;
        lags->counters->lag_copies++;
    }
    hold_follow(lags);
    return lag->feeding;
}

/* It has our log up to this index. */
static void lag_advance(struct raft_lags *lags, struct raft_lag *lag, raft_index index)
{
    const uint64_t now_ms = lags->io->now_ms;
    if (index <= lag->acked && !(lag->probing && index == lag->acked)) {
        return;
    }
    lag->acked = index;
    lag->probing = false;
    lag->sent_ms = now_ms;
    lag->moved_ms = now_ms;
    uint32_t done = 0;
    while (done < lag->flight && lag->ends[done] <= index) {
        done++;
    }
    lag->flight -= done;
    memmove(lag->ends, lag->ends + done, lag->flight * sizeof *lag->ends);
    if (lag->next <= index || !lag->feeding) { /* a state was installed, or libraft sent it too */
        lag_probe(lag, index + 1);
        lag->feeding = lag_place(lags, lag) == LOG_CURSOR_FRAME;
    }
    if (lag->feeding) {
        lag->hold = index > 0 ? index : 1;
    }
    /* What libraft waits for takes its time, and goes on: it need not offer a snapshot again. */
    struct raft_progress *progress = raft_io_progress(lags->io->raft, lag->id);
    if (lag->feeding && progress != NULL && progress->state == RAFT_IO_SNAPSHOT) {
        progress->snapshot_last_send = now_ms;
    }
    hold_follow(lags);
}

void raft_lag_on_result(struct raft_lags *lags, uint64_t from,
                        const struct raft_append_entries_result *result)
{
    struct raft_lag *lag = lag_find(lags, from);
    if (lag == NULL || lag->term != lags->io->raft->current_term || result->term != lag->term) {
        return;
    }
    lag->heard_ms = lags->io->now_ms;
    if (result->rejected == 0) {
        const raft_index last = lags->io->index_next - 1;
        lag_advance(lags, lag, result->last_log_index < last ? result->last_log_index : last);
        return;
    }
    /* Of one of ours? Heartbeats are refused as well, as long as it lags. Answers to what was sent before the
     * first that was refused are stale. */
    const bool refused = lag->probing
                             ? lag->flight > 0 && result->rejected == lag->acked
                             : result->rejected > lag->acked && result->rejected < lag->next - 1;
    if (!lag->feeding || !refused) {
        return;
    }
    if (lag->probing) {
        const raft_index behind = result->last_log_index + 1;
        lag_probe(lag, behind < result->rejected ? behind : result->rejected);
        lag->hold = lag->acked > 0 ? lag->acked : 1;
        hold_follow(lags);
    } else {
        lag_probe(lag, lag->acked + 1);
    }
}

/* The link takes something now. What is read for one that is closed or full would be read again. */
static bool lag_may_send(const struct raft_lags *lags, const struct raft_lag *lag)
{
    const struct replica_peers *peers = &lags->io->peers;
    return peers->room == NULL || peers->room(peers->context, lag->id);
}

/* Nobody waits for it any more. */
static bool lag_over(const struct raft_lags *lags, const struct raft_lag *lag,
                     const struct raft_progress *progress)
{
    const uint64_t now_ms = lags->io->now_ms;
    return progress == NULL || lag->term != lags->io->raft->current_term || lags->io->ended ||
           (progress->state != RAFT_IO_SNAPSHOT &&
            progress->match_index > lags->io->raft->log.offset) || /* memory has what it lacks */
           now_ms - lag->heard_ms >= LIMIT_LAG_SILENCE_MS;
}

void raft_lag_run(struct raft_lags *lags)
{
    bool changed = false;
    for (uint32_t i = 0; i < LIMIT_REPLICAS; i++) {
        struct raft_lag *lag = &lags->list[i];
        if (lag->id == 0) {
            continue;
        }
        const uint64_t now_ms = lags->io->now_ms;
        const struct raft_progress *progress = raft_io_progress(lags->io->raft, lag->id);
        if (lag_over(lags, lag, progress)) {
            lag_drop(lag);
            changed = true;
            continue;
        }
        if (lag->hold != 0 &&
            (now_ms - lag->moved_ms >= LIMIT_LAG_HOLD_MS || log_crowded(lags->io->log))) {
            lag->hold = 0;
            lags->counters->lag_lifts++;
            changed = true;
        }
        if (lag->flight > 0 && now_ms - lag->sent_ms >= LIMIT_LAG_RETRY_MS) {
            lag_probe(lag, lag->acked + 1);
        }
        const uint32_t most = lag->probing ? 1 : LIMIT_LAG_FLIGHT;
        for (uint32_t sent = 0;
             lag->feeding && progress->state == RAFT_IO_SNAPSHOT && lag->flight < most &&
             sent < LIMIT_LAG_TURN && lag_may_send(lags, lag);
             sent++) {
            if (!lag_send(lags, lag)) {
                break;
            }
        }
    }
    if (changed) {
        hold_follow(lags);
    }
}
