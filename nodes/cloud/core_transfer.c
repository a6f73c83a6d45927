/* A newer state instead of ours.
 *
 *   1. raft was offered a snapshot that this state is too old for: core_transfer_fetch. Sessions are told
 *      to go elsewhere, proposals and linearizable reads are answered STATUS_BEHIND
 *   2. transfer_sink brings the rows of another replica's state into the second place
 *   3. it is there: raft is told, drops its log, and calls core_transfer_restore
 *   4. the stores are exchanged, durably; the old one is closed when its last reader has ended
 *
 * A crash before 3 leaves a staging that the next attempt goes on with; after it, raft calls 4 when it
 * opens. When the log goes on after all (another leader has more of it), the staging is given up.
 */
#include "nodes/cloud/core_inner.h"

#include "schemas/check.h"

/* What an earlier process left half done is removed when nobody has asked to go on with it by then. */
#define CORE_LEFTOVER_MS 60000u
/* A flush that failed for want of room is tried again. */
#define CORE_SECURE_RETRY_MS 1000u

static void core_door_send(void *context, uint64_t replica, struct bytes frame)
{
    struct cloud_core *core = context;
    (void)core->ops.send_peer(core->ops.context, replica, frame);
}

static void core_door_run(void *context, struct replica_work *work)
{
    struct cloud_core *core = context;
    core->ops.run(core->ops.context, work);
}

static void core_door_log(void *context, enum logger_level level, const char *event,
                          const char *pairs)
{
    core_log(context, level, event, "%s", pairs);
}

static int core_door_open(void *context, bool anew, struct store **out)
{
    struct cloud_core *core = context;
    return core->ops.staging_open(core->ops.context, anew, out);
}

static void core_door_drop(void *context, struct store *staging)
{
    struct cloud_core *core = context;
    core->ops.staging_drop(core->ops.context, staging);
}

void core_transfer_init(struct cloud_core *core)
{
    core->transfer_door = (struct transfer_door){
        .context = core,
        .send = core_door_send,
        .run = core_door_run,
        .log = core_door_log,
        .open = core_door_open,
        .drop = core_door_drop,
    };
    transfer_source_init(&core->source, &core->transfer_door, core->config.transfer_range_bytes);
    transfer_sink_init(&core->sink, &core->transfer_door, core->config.replica, core->member_ids, 0,
                       core->config.transfer_bytes, (uint64_t)core->config.boot_count << 32);
    if (core->ops.staging_open != NULL) {
        core->leftover_ms = core->now.mono_ms + CORE_LEFTOVER_MS;
    }
}

void core_transfer_deinit(struct cloud_core *core)
{
    transfer_source_deinit(&core->source);
    transfer_sink_deinit(&core->sink);
}

bool core_behind(const struct cloud_core *core)
{
    return core->fetching && machine_index(&core->machine) < core->fetch_needed;
}

/* -- raft's hooks ------------------------------------------------------------------------------ */

int core_transfer_fetch(void *context, uint64_t from, const struct manifest *manifest)
{
    struct cloud_core *core = context;
    /* A replica that has nothing yet is given a state of whatever epoch. */
    if (core->ops.staging_open == NULL ||
        (machine_index(&core->machine) > 0 && manifest->epoch != core->machine.meta.epoch)) {
        return STATUS_UNSUPPORTED;
    }
    if (machine_index(&core->machine) < manifest->applied_index) {
        core_log(core, LOGGER_WARN, "state_behind_log",
                 "from=%llu applied=%llu needed=%llu reason=this replica was away for too long, "
                 "another state is fetched",
                 (unsigned long long)from, (unsigned long long)machine_index(&core->machine),
                 (unsigned long long)manifest->applied_index);
    }
    if (!core->fetching || manifest->applied_index > core->fetch_needed) {
        core->fetch_needed = manifest->applied_index;
    }
    core->fetching = true;
    core->fetched = false;
    core->leftover_ms = 0;
    transfer_sink_want(&core->sink, from, core->fetch_needed, core->now.mono_ms);
    return 0;
}

/* Whatever was agreed up to the position of the new store is in it, results of our own proposals too:
 * forward.h asks for them again. */
static int core_exchange(struct cloud_core *core, struct store *staging)
{
    const int adopted = core->ops.staging_adopt(core->ops.context, staging);
    if (adopted != 0) {
        return adopted;
    }
    if (core->stalled != NULL) {
        store_snapshot_release(core->stalled);
        core->stalled = NULL;
    }
    core_entries_drop(core);
    machine_close(&core->machine);
    CHECK(core->retired == NULL);
    core->retired = core->store;
    core->store = staging;
    core->fetching = false;
    core->fetched = false;
    const int status = machine_open(&core->machine, staging);
    if (status == 0) {
        machine_tidy(&core->machine);
        core_log(core, LOGGER_INFO, "state_exchanged", "index=%llu version=%llu",
                 (unsigned long long)machine_index(&core->machine),
                 (unsigned long long)core->machine.meta.version);
    }
    return status;
}

int core_transfer_restore(void *context, const struct manifest *manifest,
                          uint64_t *out_applied_index)
{
    struct cloud_core *core = context;
    struct transfer_sink *sink = &core->sink;
    struct store *staging = NULL;
    int status = STATUS_UNSUPPORTED;
    if (sink->state == TRANSFER_READY && !sink->working) {
        staging = transfer_sink_take(sink, core->now.mono_ms);
        status = 0;
    } else if (sink->state == TRANSFER_NONE && core->ops.staging_open != NULL) {
        status = core->ops.staging_open(core->ops.context, false, &staging);
    }
    if (status != 0) {
        return status;
    }
    const int complete = transfer_staging_complete(staging);
    if (complete < 0 || complete == 0 || store_position(staging) < manifest->applied_index) {
        return complete < 0 ? complete : STATUS_UNSUPPORTED;
    }
    status = core_exchange(core, staging);
    *out_applied_index = status == 0 ? machine_index(&core->machine) : 0;
    return status;
}

/* -- frames ------------------------------------------------------------------------------------ */

int core_transfer_on_peer(struct cloud_core *core, uint64_t replica, uint16_t kind,
                          struct bytes body)
{
    struct state_ask ask;
    struct state_range range;
    int status;
    if (kind == WIRE_STATE_ASK) {
        status = codec_state_ask_read(core->codec_frame, body, &ask);
        if (status == 0) {
            transfer_source_ask(&core->source, replica, &ask, core->store, core->now.mono_ms);
        }
    } else {
        CHECK(kind == WIRE_STATE_RANGE);
        status = codec_state_range_read(core->codec_frame, body, &range);
        if (status == 0) {
            transfer_sink_answer(&core->sink, replica, &range, core->now.mono_ms);
        }
    }
    return status;
}

/* -- turns ------------------------------------------------------------------------------------- */

static void core_retire_work(struct replica_work *work)
{
    struct cloud_core *core = CONTAINER_OF(work, struct cloud_core, retire);
    core->ops.staging_drop(core->ops.context, core->retired);
}

static void core_retire_done(struct replica_work *work)
{
    struct cloud_core *core = CONTAINER_OF(work, struct cloud_core, retire);
    core->retired = NULL;
    core->retiring = false;
}

static void core_retire(struct cloud_core *core)
{
    core->retiring = true;
    core->retire = (struct replica_work){.work = core_retire_work, .done = core_retire_done};
    core->ops.run(core->ops.context, &core->retire);
}

static void core_secure_work(struct replica_work *work)
{
    struct cloud_core *core = CONTAINER_OF(work, struct cloud_core, secure);
    core->secure_status = store_flush(core->store);
}

static void core_secure_done(struct replica_work *work)
{
    struct cloud_core *core = CONTAINER_OF(work, struct cloud_core, secure);
    core->securing = false;
    core->secure_ms = core->now.mono_ms + CORE_SECURE_RETRY_MS;
    if (status_is_fault(core->secure_status)) {
        core_fatal(core, core->secure_status, "the state cannot be written");
    }
}

/* Our state has what raft's new log will begin behind. The old log goes then, so a crash must not take
 * the state back. */
static void core_secure_run(struct cloud_core *core)
{
    if (core->securing) {
        return;
    }
    if (store_flushed_position(core->store) >= core->fetch_needed) {
        core->fetching = false;
        transfer_sink_cancel(&core->sink);
        replica_fetched(core->replica, 0); /* nothing is restored: the state is as new */
    } else if (core->now.mono_ms >= core->secure_ms && !core->checkpointing) {
        core->securing = true;
        core->secure = (struct replica_work){.work = core_secure_work, .done = core_secure_done};
        core->ops.run(core->ops.context, &core->secure);
    }
}

/* raft waits for a state: has it come, or is it not needed any more? */
static void core_fetching_run(struct cloud_core *core)
{
    if (machine_index(&core->machine) >= core->fetch_needed) {
        core_secure_run(core);
        return;
    }
    for (struct core_session *s = core->sessions; s != NULL; s = s->next_all) {
        session_leave(&s->session, BYE_BEHIND, "this cloudcore is being brought up to date",
                      SESSION_RETRY_MS);
    }
    if (!core->fetched && !core->securing && core->sink.state == TRANSFER_READY &&
        core->sink.position >= core->fetch_needed) {
        core->fetched = true;
        core_log(core, LOGGER_INFO, "state_fetched", "from=%llu position=%llu",
                 (unsigned long long)core->sink.source, (unsigned long long)core->sink.position);
        replica_fetched(core->replica, 0); /* calls core_transfer_restore, now or in a moment */
    }
}

/* A follower for which the log was held, and is not any more. */
static void core_lag_tell(struct cloud_core *core)
{
    struct replica_counters counters = {0};
    if (core->replica != NULL) {
        replica_counters(core->replica, &counters);
    }
    if (counters.lag_lifts > core->lag_lifts_told) {
        core_log(core, LOGGER_WARN, "log_not_held",
                 "times=%llu reason=the log is near log.limit, or a replica is given a state for "
                 "too long; it "
                 "may need another copy. A larger log.limit, or transfer.rate, helps",
                 (unsigned long long)(counters.lag_lifts - core->lag_lifts_told));
        core->lag_lifts_told = counters.lag_lifts;
    }
}

uint64_t core_transfer_run(struct cloud_core *core)
{
    const uint64_t now_ms = core->now.mono_ms;
    transfer_source_run(&core->source, now_ms);
    core_lag_tell(core);
    if (core->fetching) {
        core_fetching_run(core);
    }
    if (core->leftover_ms != 0 && now_ms >= core->leftover_ms && core->leader != 0 &&
        core->retired == NULL) {
        core->leftover_ms = 0;
        core_retire(core); /* of nothing: what is in the second place is removed */
    }
    if (core->retired != NULL && !core->retiring && store_snapshot_count(core->retired) == 0) {
        core_retire(core);
    }
    if (core->retired != NULL || core->retiring) {
        return UINT64_MAX; /* the second place is not free; CORE_TICK_MS is soon enough */
    }
    return transfer_sink_run(&core->sink, core->leader, core->space != CLOUD_CORE_SPACE_NONE,
                             now_ms);
}

bool core_transfer_idle(const struct cloud_core *core)
{
    return !core->retiring && !core->securing && transfer_sink_idle(&core->sink) &&
           transfer_source_idle(&core->source);
}

/* -- a backup ----------------------------------------------------------------------------------- */

int cloud_core_snapshot(struct cloud_core *core, struct store_reader **out_reader,
                        uint64_t *out_term, uint64_t *out_rows_about)
{
    if (core_behind(core)) {
        return STATUS_BEHIND;
    }
    *out_reader = store_snapshot(core->store);
    *out_term = core->term;
    *out_rows_about = store_usage(core->store).rows;
    return 0;
}
