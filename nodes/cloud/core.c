#include "nodes/cloud/core_inner.h"

#include "schemas/check.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void core_log(struct cloud_core *core, enum logger_level level, const char *event,
              const char *format, ...)
{
    char pairs[LIMIT_LOG_LINE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(pairs, sizeof pairs, format, arguments);
    va_end(arguments);
    core->ops.log(core->ops.context, level, event, pairs);
}

struct store_reader *core_reader(struct cloud_core *core)
{
    return core->stalled != NULL ? core->stalled : store_live(core->store);
}

uint64_t core_clock_us(const struct cloud_core *core)
{
    return core->ops.clock_us == NULL ? 0 : core->ops.clock_us(core->ops.context);
}

void core_fatal(struct cloud_core *core, int status, const char *message)
{
    if (!core->ended) {
        core->ended = true;
        core->ops.fatal(core->ops.context, status, message);
    }
}

int core_read(struct cloud_core *core, int status)
{
    if (status_is_fault(status)) {
        char message[300];
        snprintf(message, sizeof message, "the state cannot be read: %s", store_error(core->store));
        core_fatal(core, status, message);
    }
    return status;
}

/* -- applying ---------------------------------------------------------------------------------- */

static void core_on_applied(struct cloud_core *core, const struct machine_applied *applied)
{
    if (applied->origin == (core->config.replica << 32 | core->config.boot_count)) {
        struct core_done *done =
            calloc(1, sizeof *done + applied->result_count * sizeof done->results[0]);
        CHECK(done != NULL);
        done->sequence = applied->sequence;
        done->count = applied->result_count;
        for (uint32_t i = 0; i < applied->result_count; i++) {
            done->results[i] = (struct forward_result){
                .outcome = (int)applied->results[i].outcome,
                .value = applied->results[i].value,
            };
        }
        if (core->done_tail == NULL) {
            core->done_head = done;
        } else {
            core->done_tail->next = done;
        }
        core->done_tail = done;
    }
    for (uint32_t i = 0; i < applied->node_count; i++) {
        core_session_touch(core, applied->nodes[i].node);
    }
}

/* Apply one entry. false: the store is full, we have ended, or the group is at a level that this release does
 * not know (cloud_core_run ends us for that); the entry is still to be applied. */
static bool core_apply(struct cloud_core *core, uint64_t index, struct bytes command)
{
    if (core->ended || machine_level(&core->machine) > core->config.level) {
        return false;
    }
    const struct machine_applied *applied = NULL;
    const uint64_t began_us = core_clock_us(core);
    const int status = machine_apply(&core->machine, index, command, &applied);
    if (status == STATUS_OK) {
        metrics_observe_us(&core->counts.apply, core_clock_us(core) - began_us);
        core->counts.entries++;
        core->counts.records += applied->result_count;
        if (core->stalled != NULL) {
            store_snapshot_release(core->stalled);
            core->stalled = NULL;
            core->counts.stalled_us += began_us - core->counts.stall_began_us;
            core_log(core, LOGGER_INFO, "store_went_on", "index=%llu", (unsigned long long)index);
        }
        core->applied_count++;
        if (applied->malformed) {
            core_log(core, LOGGER_ERROR, "entry_malformed", "index=%llu",
                     (unsigned long long)index);
        }
        core_on_applied(core, applied);
        return true;
    }
    if (status == STATUS_FULL || status == -ENOSPC) { /* it waits for the disk, or for room on it */
        if (core->stalled == NULL) {
            core->stalled = store_snapshot(core->store);
            core->counts.stalls++;
            core->counts.stall_began_us = began_us;
            core_log(core, LOGGER_WARN, "store_stalled", "index=%llu", (unsigned long long)index);
        }
        return false;
    }
    char message[160];
    if (status == STATUS_UNSUPPORTED) {
        snprintf(message, sizeof message,
                 "entry %llu holds a record of kind %u, which this release does not know: upgrade",
                 (unsigned long long)index, applied == NULL ? 0 : applied->unknown_kind);
    } else {
        snprintf(message, sizeof message, "entry %llu cannot be applied: %s",
                 (unsigned long long)index, store_error(core->store));
    }
    core_fatal(core, status, message);
    return false;
}

static void core_keep_entry(struct cloud_core *core, uint64_t index, struct bytes command)
{
    struct core_entry *entry = malloc(sizeof *entry + command.size);
    CHECK(entry != NULL);
    entry->next = NULL;
    entry->index = index;
    entry->size = command.size;
    if (command.size > 0) {
        memcpy(entry->command, command.data, command.size);
    }
    if (core->entries_tail == NULL) {
        core->entries_head = entry;
    } else {
        core->entries_tail->next = entry;
    }
    core->entries_tail = entry;
    core->entries_bytes += sizeof *entry + command.size;
}

/* The store is slower than the group. Its log still is not: what is agreed upon would pile up. */
static bool core_hook_behind(void *context)
{
    return ((struct cloud_core *)context)->entries_bytes > LIMIT_APPLY_WAITING_BYTES;
}

/* From the middle of raft: apply at once while the budget of the turn lasts, else keep a copy. */
static void core_hook_apply(void *context, uint64_t index, uint64_t term, struct bytes command)
{
    struct cloud_core *core = context;
    (void)term;
    if (core->entries_head != NULL || core->applied_count >= core->config.apply_budget ||
        !core_apply(core, index, command)) {
        core_keep_entry(core, index, command);
    }
}

void core_entries_drop(struct cloud_core *core)
{
    while (core->entries_head != NULL) {
        struct core_entry *entry = core->entries_head;
        core->entries_head = entry->next;
        free(entry);
    }
    core->entries_tail = NULL;
    core->entries_bytes = 0;
}

static void core_apply_waiting(struct cloud_core *core)
{
    while (core->entries_head != NULL && core->applied_count < core->config.apply_budget) {
        struct core_entry *entry = core->entries_head;
        if (!core_apply(core, entry->index, bytes_of(entry->command, entry->size))) {
            return;
        }
        core->entries_head = entry->next;
        if (core->entries_head == NULL) {
            core->entries_tail = NULL;
        }
        core->entries_bytes -= sizeof *entry + entry->size;
        free(entry);
    }
}

/* Callbacks of proposals, once the applying of this turn is over. */
static void core_tell_done(struct cloud_core *core)
{
    while (core->done_head != NULL) {
        struct core_done *done = core->done_head;
        core->done_head = done->next;
        if (core->done_head == NULL) {
            core->done_tail = NULL;
        }
        (void)forward_applied(core->forward, core->config.replica << 32 | core->config.boot_count,
                              done->sequence, done->results, done->count);
        free(done);
    }
}

/* -- the replica's hooks ----------------------------------------------------------------------- */

static void core_hook_leadership(void *context, enum replica_role role, uint64_t term,
                                 uint64_t leader)
{
    struct cloud_core *core = context;
    const bool leads = role == REPLICA_LEADER;
    if (leads != core->leads || term != core->term || leader != core->leader) {
        core->leadership_moved = true;
        core->counts.leaderships++;
    }
    core->leads = leads;
    core->term = term;
    core->leader = leads ? core->config.replica : leader;
}

static void core_hook_fatal(void *context, const char *what, int status)
{
    core_fatal(context, status, what);
}

/* The snapshot's entry may be one of raft's own, which the state never saw: move its position there,
 * so that state and snapshot fit together after a restart. */
static int core_hook_checkpoint_start(void *context, uint64_t index)
{
    struct cloud_core *core = context;
    if (core->entries_head != NULL || core->stalled != NULL || core->securing) {
        return STATUS_FULL;
    }
    if (machine_index(&core->machine) < index && !core_apply(core, index, bytes_of(NULL, 0))) {
        core_keep_entry(core, index, bytes_of(NULL, 0));
        return STATUS_FULL;
    }
    core->checkpointing = true;
    core->counts.checkpoint_began_us = core_clock_us(core);
    return 0;
}

/* In the pool: what is applied becomes durable in the store, so the log may go up to there. A manifest
 * of ours names no files: who needs the state is given its rows (transfer.h). */
static int core_hook_checkpoint_make(void *context, struct manifest *out)
{
    struct cloud_core *core = context;
    const int status = store_flush(core->store);
    if (status == 0) {
        out->applied_index = store_flushed_position(core->store);
    }
    core->checkpoint_status = status;
    return status;
}

static void core_hook_checkpoint_end(void *context, int status)
{
    struct cloud_core *core = context;
    const int made = core->checkpoint_status;
    core->checkpoint_status = 0;
    core->checkpointing = false;
    if (status == 0) {
        core->counts.checkpoint_wall_ms = core->now.wall_ms;
        metrics_observe_us(&core->counts.checkpoint,
                           core_clock_us(core) - core->counts.checkpoint_began_us);
    } else {
        core->counts.checkpoints_failed++;
    }
    if (status != 0 && status_is_fault(made)) {
        char message[300];
        snprintf(message, sizeof message, "the state cannot be written: %s",
                 store_error(core->store));
        core_fatal(core, made, message);
    } else if (status != 0) {
        core_log(core, LOGGER_WARN, "checkpoint_failed", "status=%d reason=%s",
                 made != 0 ? made : status, status_text(made != 0 ? made : status));
    }
}

static void core_hook_run(void *context, struct replica_work *work)
{
    struct cloud_core *core = context;
    core->ops.run(core->ops.context, work);
}

static int core_hook_again(void *context, uint64_t to)
{
    struct cloud_core *core = context;
    if (to == core->muted) {
        return 0; /* as if the network had lost it: see core_step_take */
    }
    return core->ops.send_peer(core->ops.context, to, core->frame_raft);
}

static int core_hook_send(void *context, uint64_t to, struct bytes message)
{
    struct cloud_core *core = context;
    codec_reset(core->codec_raft);
    const int status = codec_frame_build(core->codec_raft, WIRE_RAFT, message, &core->frame_raft);
    return status != 0 ? status : core_hook_again(core, to);
}

static bool core_hook_room(void *context, uint64_t to)
{
    struct cloud_core *core = context;
    return to != core->muted &&
           (core->ops.peer_room == NULL || core->ops.peer_room(core->ops.context, to));
}

/* -- the door of forwarding -------------------------------------------------------------------- */

static uint64_t core_forward_leader(void *context)
{
    return ((struct cloud_core *)context)->leader;
}

static int core_forward_propose(void *context, struct bytes command)
{
    struct cloud_core *core = context;
    if (core->replica == NULL) {
        return STATUS_NOT_LEADER;
    }
    if (core->stalled != NULL) {
        return STATUS_FULL; /* proposals stop before the store would stall everybody */
    }
    if (core->space == CLOUD_CORE_SPACE_NONE ||
        (core->space == CLOUD_CORE_SPACE_LOW && command.size > LIMIT_RESERVED_COMMAND_BYTES)) {
        return -ENOSPC;
    }
    return replica_propose(core->replica, command, NULL, NULL);
}

static int core_forward_read(void *context,
                             void (*callback)(void *context, int status, uint64_t index),
                             void *callback_context)
{
    struct cloud_core *core = context;
    return core->replica == NULL ? STATUS_NOT_LEADER
                                 : replica_read(core->replica, callback, callback_context);
}

/* Raft's own entries pass the state by: what raft has applied counts, unless something waits here. */
static uint64_t core_forward_applied(void *context)
{
    const struct cloud_core *core = context;
    const uint64_t machine = machine_index(&core->machine);
    const uint64_t replica = core->replica == NULL ? 0 : replica_applied_index(core->replica);
    return core->entries_head == NULL && replica > machine ? replica : machine;
}

static int64_t core_forward_wall_ms(void *context)
{
    return ((struct cloud_core *)context)->now.wall_ms;
}

static uint64_t core_forward_clock_us(void *context)
{
    return core_clock_us(context);
}

static void core_forward_send_peer(void *context, uint64_t replica, struct bytes frame)
{
    struct cloud_core *core = context;
    (void)core->ops.send_peer(core->ops.context, replica, frame);
}

/* -- life -------------------------------------------------------------------------------------- */

static void core_default(uint32_t *value, uint32_t preset)
{
    if (*value == 0) {
        *value = preset;
    }
}

/* Only a log that is empty looks at the members: those that the file lists found the group. */
static int core_open_replica(struct cloud_core *core)
{
    struct replica_member members[LIMIT_REPLICAS];
    uint32_t count = 0;
    for (uint32_t i = 0; i < core->group.count && core->roster.founds; i++) {
        const struct member *member = &core->group.all[i];
        if (member->listed) {
            members[count] = (struct replica_member){
                .id = member->replica,
                .address = member->address,
                .role = REPLICA_VOTER,
            };
            count++;
        }
    }
    const struct replica_config config = {
        .id = core->config.replica,
        .address = core->address,
        .members = members,
        .member_count = count,
        .epoch = core->machine.meta.epoch,
        .applied_index = machine_index(&core->machine),
        .seed = core->config.seed,
        .now_ms = core->now.mono_ms,
        .election_ms = core->config.election_ms,
        .heartbeat_ms = core->config.raft_heartbeat_ms,
        .snapshot_bytes = core->config.snapshot_bytes,
        .run = core_hook_run,
    };
    const struct replica_hooks hooks = {
        .context = core,
        .apply = core_hook_apply,
        .behind = core_hook_behind,
        .leadership = core_hook_leadership,
        .fatal = core_hook_fatal,
        .checkpoint_start = core_hook_checkpoint_start,
        .checkpoint_make = core_hook_checkpoint_make,
        .checkpoint_end = core_hook_checkpoint_end,
        .checkpoint_fetch = core_transfer_fetch,
        .checkpoint_restore = core_transfer_restore,
    };
    const struct replica_peers peers = {
        .context = core, .send = core_hook_send, .again = core_hook_again, .room = core_hook_room};
    return replica_open(core->log, &config, &hooks, &peers, &core->replica);
}

int cloud_core_open(const struct cloud_core_config *config,
                    const struct cloud_core_objects *objects, const struct cloud_core_ops *ops,
                    struct store *store, struct log *log, struct cloud_core_time now,
                    struct cloud_core **out, char *reason)
{
    CHECK(config->peer_count >= 1);
    CHECK(config->peer_count <= LIMIT_REPLICAS);

    struct cloud_core *core = calloc(1, sizeof *core);
    CHECK(core != NULL);
    core->config = *config;
    core->log = log;
    core->objects = *objects;
    core->ops = *ops;
    core->store = store;
    core->now = now;
    core->config.key = core->key;
    (void)snprintf(core->key, sizeof core->key, "%s", config->key == NULL ? "" : config->key);
    core_default(&core->config.level, MACHINE_LEVEL);
    core_default(&core->config.heartbeat_ms, 10000);
    core_default(&core->config.unreachable_ms, 40000);
    core_default(&core->config.propose_ms, 10000);
    core_default(&core->config.apply_budget, 256);
    core_default(&core->config.session_max, LIMIT_SESSIONS);
    core_default(&core->config.transfer_range_bytes, LIMIT_TRANSFER_BYTES);

    core->codec_frame = codec_create();
    core->codec_raft = codec_create();
    core->codec_read = codec_create();
    core->codec_build = codec_create();
    core_backend_init(core);
    core_sessions_init(core);
    core_leader_init(core);
    core_transfer_init(core);
    core_members_init(core);

    int status = machine_open(&core->machine, store);
    if (status != 0) {
        snprintf(reason, 256, "the state cannot be read: %s", store_error(store));
    } else {
        status = core_level_check(core, reason);
    }
    if (status == 0) {
        core->version_told = core->machine.meta.version;
        core->forward_door = (struct forward_door){
            .context = core,
            .leader = core_forward_leader,
            .propose = core_forward_propose,
            .read = core_forward_read,
            .applied = core_forward_applied,
            .wall_ms = core_forward_wall_ms,
            .clock_us = core_forward_clock_us,
            .send_peer = core_forward_send_peer,
        };
        core->forward =
            forward_create(&core->forward_door, config->replica,
                           config->replica << 32 | config->boot_count, core->config.propose_ms);
        status = core_roster_open(core);
        if (status != 0) {
            snprintf(reason, 256, "the file roster beside the log cannot be used: %s",
                     status_text(status));
        } else if (core->roster.active) {
            status = core_open_replica(core);
            if (status != 0) {
                snprintf(reason, 256, "the log and the state do not go together: %s",
                         status_text(status));
            }
        } else {
            core_log(
                core, LOGGER_INFO, "replica_waits",
                "needed=%u reason=this data directory is new: it takes no part before so many of "
                "the other replicas know it",
                roster_needed(&core->roster));
        }
        core->config.peers = NULL; /* the group has it */
    }
    if (status != 0) {
        cloud_core_close(core);
        return status;
    }
    machine_tidy(&core->machine);
    *out = core;
    return 0;
}

static void core_on_replica_closed(void *context)
{
    ((struct cloud_core *)context)->replica_closed = true;
}

void cloud_core_resign(struct cloud_core *core, struct cloud_core_time now)
{
    core->now = now;
    core->resigning = true;
    core->handover_ms = 0;
}

void cloud_core_dismiss(struct cloud_core *core, struct cloud_core_time now)
{
    if (core->stopping || core->ended || core->dismissed) {
        return;
    }
    core->now = now;
    core->dismissed = true;
    const uint64_t spread_ms = (uint64_t)core->session_count * LIMIT_STOP_SESSION_US / 1000;
    for (struct core_session *s = core->sessions; s != NULL; s = s->next_all) {
        uint64_t chance = 0;
        core->ops.random(core->ops.context, &chance, sizeof chance);
        session_leave(&s->session, BYE_SHUTDOWN, "this cloudcore is stopping",
                      (uint32_t)(chance % (spread_ms + 1)));
    }
}

void cloud_core_stop(struct cloud_core *core, struct cloud_core_time now)
{
    if (core->stopping) {
        return;
    }
    core->now = now;
    core->stopping = true;
    for (struct core_session *s = core->sessions; s != NULL; s = s->next_all) {
        session_leave(&s->session, BYE_SHUTDOWN, "this cloudcore is stopping", 0);
    }
    core_tell_done(core);
    core_members_stop(core);
    forward_stop(core->forward);
    if (core->replica == NULL) {
        core->replica_closed = true;
    } else {
        replica_close(core->replica, core_on_replica_closed, core);
    }
}

bool cloud_core_idle(const struct cloud_core *core)
{
    return core->stopping && core->replica_closed && core_transfer_idle(core);
}

void cloud_core_rest(struct cloud_core *core)
{
    if (core->stalled == NULL && core->space == CLOUD_CORE_SPACE_PLENTY && !core_behind(core)) {
        machine_rest(&core->machine);
    }
}

void cloud_core_close(struct cloud_core *core)
{
    if (core == NULL) {
        return;
    }
    core->closing = true;
    core_sessions_deinit(core);
    forward_destroy(
        core->forward); /* what waited for its result is freed through core_on_ functions */
    core_leader_deinit(core);
    core_members_deinit(core);
    core_transfer_deinit(core);
    core_entries_drop(core);
    while (core->done_head != NULL) {
        struct core_done *done = core->done_head;
        core->done_head = done->next;
        free(done);
    }
    if (core->stalled != NULL) {
        store_snapshot_release(core->stalled);
    }
    machine_close(&core->machine);
    codec_destroy(core->codec_frame);
    codec_destroy(core->codec_raft);
    codec_destroy(core->codec_read);
    codec_destroy(core->codec_build);
    free(core);
}

/* -- inputs and turns -------------------------------------------------------------------------- */

void cloud_core_on_peer(struct cloud_core *core, uint64_t replica, struct bytes frame,
                        struct cloud_core_time now)
{
    if (core->stopping || core->ended) {
        return;
    }
    core->now = now;
    core_other_heard(core, replica);
    uint16_t kind = WIRE_NONE;
    struct bytes body;
    struct codec *codec = core->codec_frame;
    codec_reset(codec);
    int status = codec_frame_read(codec, codec_aligned(codec, frame), &kind, &body);
    if (status == 0 && kind == WIRE_PEER_HELLO) {
        status = core_greeting_take(core, replica, body);
    } else if (status == 0 && kind == WIRE_PEER_STATUS && !core_greeting_foreign(core, replica)) {
        status = core_members_on_peer(core, replica, kind, body);
    } else if (!core_hears(core, replica)) {
        return; /* why was said when it greeted */
    } else if (status == 0 && kind == WIRE_RAFT) {
        status = replica_receive(core->replica, replica, body);
    } else if (status == 0 && kind == WIRE_SESSIONS) {
        struct sessions report;
        status = codec_sessions_read(codec, body, &report);
        if (status == 0 && report.replica == replica) {
            liveness_on_report(&core->liveness, &report, now.mono_ms, now.wall_ms);
        }
    } else if (status == 0 && (kind == WIRE_MEMBER_ASK || kind == WIRE_MEMBER_ANSWER)) {
        status = core_members_on_peer(core, replica, kind, body);
    } else if (status == 0 && (kind == WIRE_STATE_ASK || kind == WIRE_STATE_RANGE)) {
        status = core_transfer_on_peer(core, replica, kind, body);
    } else if (status == 0) {
        status = forward_on_peer(core->forward, replica, kind, body, now.mono_ms);
    }
    if (status == 0 && core->shut_out_ms != 0 && core_hears(core, replica)) {
        core_keys_heard(core);
    }
    if (status == STATUS_MALFORMED || status == STATUS_TOO_LARGE || status == STATUS_IDENTITY) {
        core_log(core, LOGGER_WARN, "peer_frame_refused", "replica=%llu kind=%u reason=%s",
                 (unsigned long long)replica, kind, status_text(status));
    }
}

void cloud_core_peer_connected(struct cloud_core *core, uint64_t replica)
{
    if (core->stopping || core->ended) {
        return;
    }
    members_cut(&core->group, replica, false);
    core_greet(core, replica);
    if (replica == core->leader) {
        core->report_full_ms = 0; /* what was said into the old link may be lost */
    }
}

void cloud_core_peer_lost(struct cloud_core *core, uint64_t replica, struct cloud_core_time now)
{
    if (core->stopping || core->ended) {
        return;
    }
    core->now = now;
    core_other_lost(core, replica);
    members_cut(&core->group, replica, true);
    /* A leader serves nobody before it has applied all: who was just started has a log to replay. */
    const bool patient = core->entries_bytes > LIMIT_SUSPECT_WAITING_BYTES;
    if (core->replica != NULL && replica_suspect(core->replica, replica, patient)) {
        core_log(core, LOGGER_INFO, "leader_lost",
                 "replica=%llu patient=%d waiting_bytes=%llu reason=its links are closed",
                 (unsigned long long)replica, patient, (unsigned long long)core->entries_bytes);
    }
}

static uint64_t core_earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

void cloud_core_set_space(struct cloud_core *core, enum cloud_core_space space)
{
    if (core->space == space) {
        return;
    }
    core->space = space;
    core->handover_ms = 0;
    if (!core->stopping && !core->ended) {
        core_greet_all(core);
    }
}

uint64_t cloud_core_run(struct cloud_core *core, struct cloud_core_time now)
{
    if (core->stopping || core->ended) {
        return now.mono_ms + CORE_TICK_MS;
    }
    core->now = now;
    core->applied_count = 0;
    if (core->open_due) {
        core->open_due = false;
        const int status = core_open_replica(core);
        if (status != 0) {
            core_fatal(core, status, "the group cannot be entered with this log");
            return now.mono_ms + CORE_TICK_MS;
        }
    }
    if (now.mono_ms >= core->tick_ms) {
        core->tick_ms = now.mono_ms + CORE_TICK_MS;
        if (core->replica != NULL) {
            replica_tick(core->replica, now.mono_ms);
        }
    }
    core_apply_waiting(core);
    char reason[256];
    const int fits = core_level_check(core, reason);
    if (fits != 0) {
        core_fatal(core, fits, reason);
        return now.mono_ms + CORE_TICK_MS;
    }
    if (core->leadership_moved) {
        core->leadership_moved = false;
        core_log(core, LOGGER_INFO, "leadership_moved", "leader=%llu term=%llu leads=%d",
                 (unsigned long long)core->leader, (unsigned long long)core->term,
                 (int)core->leads);
        forward_leadership(core->forward);
        core_leader_moved(core);
    }
    core_tell_done(core);
    core_greeting_run(core);

    uint64_t next = core_earlier(core->tick_ms, core_transfer_run(core));
    next = core_earlier(next, core_members_run(core));
    next = core_earlier(next, core_sessions_run(core));
    next = core_earlier(next, core_leader_run(core));
    next = core_earlier(next, forward_run(core->forward, now.mono_ms));
    if (core->replica != NULL) {
        replica_flush(core->replica);
    }
    if (core->version_told != core->machine.meta.version && core->stalled == NULL) {
        core->version_told = core->machine.meta.version;
        if (core->ops.changed != NULL) {
            core->ops.changed(core->ops.context, core->version_told);
        }
    }
    /* A follower applies inside of replica_flush: its own records, and readers who waited for that. */
    const bool more = core->done_head != NULL || core->turn_first != NULL ||
                      core->leadership_moved || forward_reader_ready(core->forward) ||
                      (core->entries_head != NULL && core->stalled == NULL);
    return more ? now.mono_ms : next;
}

struct cloud_core_report cloud_core_report(const struct cloud_core *core)
{
    return (struct cloud_core_report){
        .applied = machine_index(&core->machine),
        .version = core->machine.meta.version,
        .leader = core->leader,
        .leads = core->leads,
        .sessions = core->session_count,
        .sessions_active = core->session_active,
        .proposals = forward_count(core->forward),
        .cluster = core->machine.meta.cluster,
        .behind = core_behind(core),
        .behind_percent = core_behind(core) ? transfer_sink_percent(&core->sink) : 100,
        .behind_source = core_behind(core) ? core->sink.source : 0,
        .contested_by = core_contested(core) ? core->contested_by : 0,
        .alone = !core_has_company(core),
        .level = machine_level(&core->machine),
    };
}
