/* The group: who is in it, how each is, and changes of it.
 *
 *   1. each turn: has raft's configuration changed? Then the table follows, the owner is told whom to
 *      connect to, and everybody is greeted
 *   2. once a second: what we say of ourselves, to all
 *   3. a change: whoever is asked for it (cloud_core_change) asks the leader, again and again, until it
 *      says that it is so, that it may not be, or the deadline has passed. The leader takes one step at a
 *      time (members_step), none while one is under way
 *
 * What can fail: frames are lost, leaders change: the next question finds where it stands.
 */
#include "nodes/cloud/core_inner.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "schemas/check.h"
#include "statemachine/member_key.h"

#define ASK_MS 200u /* between two questions about a change */

/* A change that somebody here waits for. */
struct core_ask {
    struct core_ask *next;
    uint64_t request;
    enum member_operation operation;
    uint64_t replica;
    char address[LIMIT_NAME_BYTES + 1];
    char key[MEMBER_KEY_BYTES];
    uint64_t deadline_ms;
    uint64_t next_ms;
    cloud_core_on_changed on_changed;
    void *context;
    bool heard; /* the leader said something */
    char message[MEMBERS_MESSAGE_BYTES];
};

/* What the leader says to a question, in struct member_answer. */
enum { ANSWER_DONE, ANSWER_REFUSED, ANSWER_LATER, ANSWER_WORKING };

void core_members_init(struct cloud_core *core)
{
    core->group.self = core->config.replica;
    for (uint32_t i = 0; i < core->config.peer_count; i++) {
        const struct cloud_core_peer *peer = &core->config.peers[i];
        struct member *member = members_add(&core->group, peer->replica);
        member->listed = true;
        (void)snprintf(member->address, sizeof member->address, "%s", peer->address);
        if (peer->replica == core->config.replica) {
            (void)snprintf(core->address, sizeof core->address, "%s", peer->address);
        }
    }
    core->peers_due = true;
    core->started_ms = core->now.wall_ms;
    if (core->config.software != NULL) {
        (void)snprintf(core->software, sizeof core->software, "%s", core->config.software);
    }
}

void core_members_deinit(struct cloud_core *core)
{
    free(core->shut_out);
    while (core->asks != NULL) {
        struct core_ask *ask = core->asks;
        core->asks = ask->next;
        free(ask);
    }
}

/* -- following raft's configuration --------------------------------------------------------------- */

/* Members; those of the file as long as we are not sure to be one; who has greeted us just now: if it is no
 * member, it hears so from us. */
static bool member_dialed(const struct cloud_core *core, const struct member *member)
{
    return member->replica != core->config.replica && member->address[0] != '\0' &&
           (member->configured || (member->listed && !core->settled) ||
            members_here(member, core->now.mono_ms));
}

static void core_tell_peers(struct cloud_core *core)
{
    core->peers_due = false;
    struct cloud_core_peer peers[LIMIT_MEMBERS];
    uint32_t count = 0;
    for (uint32_t i = 0; i < core->group.count; i++) {
        const struct member *member = &core->group.all[i];
        if (member_dialed(core, member)) {
            peers[count] = (struct cloud_core_peer){member->replica, member->address};
            count++;
        }
    }
    if (core->ops.peers != NULL) {
        core->ops.peers(core->ops.context, peers, count);
    }
    uint32_t asked = 0; /* who may be asked for the state */
    for (uint32_t i = 0; i < core->group.count; i++) {
        if (core->group.all[i].configured || core_hears(core, core->group.all[i].replica)) {
            core->member_ids[asked] = core->group.all[i].replica;
            asked++;
        }
    }
    transfer_sink_set_members(&core->sink, asked);
}

static void core_members_follow(struct cloud_core *core)
{
    if (core->replica == NULL) {
        return;
    }
    const uint64_t index = replica_members_index(core->replica);
    struct replica_member members[LIMIT_REPLICAS];
    uint64_t agreed;
    uint32_t count = replica_members_agreed(core->replica, members, &agreed);
    if (index == core->members_index && agreed == core->agreed_index) {
        return;
    }
    bool settled = false;
    for (uint32_t i = 0; i < count; i++) {
        settled = settled || members[i].id == core->config.replica;
    }
    const bool agreed_moved = agreed != core->agreed_index;
    core->members_index = index;
    core->agreed_index = agreed;
    core->settled = settled;
    count = replica_members(core->replica, members);
    members_configure(&core->group, members, count);
    for (uint32_t i = 0; i < core->group.count; i++) {
        core_meet(core, &core->group.all[i]);
    }
    if (agreed_moved) {
        core_roster_trim(core);
        core_greet_all(core); /* also who is not one any more, before its link goes */
    }
    core->peers_due = true;
}

/* -- how we are ------------------------------------------------------------------------------------ */

static uint8_t core_standing(const struct cloud_core *core)
{
    if (core->replica == NULL) {
        return roster_place(&core->roster) == ROSTER_LOST ? STANDING_LOST : STANDING_WAITING;
    }
    return core_behind(core) ? STANDING_BEHIND : STANDING_MEMBER;
}

static void core_status_tell(struct cloud_core *core, bool to_others)
{
    const struct cloud_core_report report = cloud_core_report(core);
    struct peer_status status = {
        .replica = core->config.replica,
        .software = core->software,
        .term = core->term,
        .leader = core->leader,
        .applied = report.applied,
        .sessions = core->session_active,
        .space = (uint8_t)core->space,
        .disk_free_bytes = core->disk_free_bytes,
        .log_bytes = log_disk_bytes(core->log),
        .started_ms = core->started_ms,
        .standing = core_standing(core),
        .percent = (uint8_t)(report.behind_percent > 100 ? 100 : report.behind_percent),
    };
    if (core->replica != NULL) {
        status.term = replica_term(core->replica);
        status.last = replica_last_index(core->replica);
        status.commit = replica_commit_index(core->replica);
        /* entries of raft's own pass the state by */
        const uint64_t applied = replica_applied_index(core->replica);
        status.applied =
            core->entries_head == NULL && applied > status.applied ? applied : status.applied;
    }
    members_heard(&core->group, &status, core->now.mono_ms, core->now.wall_ms);
    if (!to_others) {
        return;
    }
    struct bytes body;
    struct bytes frame;
    codec_reset(core->codec_build);
    if (codec_peer_status_build(core->codec_build, &status, &body) != 0 ||
        codec_frame_build(core->codec_build, WIRE_PEER_STATUS, body, &frame) != 0) {
        return;
    }
    for (uint32_t i = 0; i < core->group.count; i++) {
        if (core->group.all[i].replica != core->config.replica) {
            (void)core->ops.send_peer(core->ops.context, core->group.all[i].replica, frame);
        }
    }
}

const struct members *cloud_core_members(struct cloud_core *core)
{
    core_status_tell(core, false);
    return &core->group;
}

int64_t cloud_core_time_ms(const struct cloud_core *core)
{
    return core->machine.meta.time_ms;
}

void cloud_core_set_free(struct cloud_core *core, uint64_t bytes)
{
    core->disk_free_bytes = bytes;
}

/* -- changes: the leader --------------------------------------------------------------------------- */

static void core_on_step(void *context, int status)
{
    struct cloud_core *core = context;
    core->change_flying = false;
    core->muted = 0;
    if (status != 0) {
        core_log(core, LOGGER_WARN, "member_change_failed", "status=%d reason=%s", status,
                 status_text(status));
    }
}

/* One step of raft. Answers 0: begun; negative: not now. */
static int core_step_take(struct cloud_core *core, enum member_step step, uint64_t replica,
                          const char *address, uint64_t to)
{
    int status = -EINVAL;
    core->change_flying = true;
    switch (step) {
    case MEMBER_STEP_ADD: {
        char carried[LIMIT_NAME_BYTES + 1];
        (void)snprintf(carried, sizeof carried, "%.*s#%" PRIu64, (int)MEMBERS_ADDRESS_BYTES,
                       address, replica_last_index(core->replica) + 1);
        status = replica_add(core->replica, replica, carried, core_on_step, core);
        break;
    }
    case MEMBER_STEP_STANDBY: {
        /* A voter that is to be none hears of it once the others have agreed. libraft obeys an entry before
         * it is agreed on: if we died now, its vote could be missed by whoever does not have the entry. */
        const struct member *member = members_find(&core->group, replica);
        core->muted = member->role == REPLICA_VOTER ? replica : 0;
        status = replica_assign(core->replica, replica, REPLICA_STANDBY, core_on_step, core);
        break;
    }
    case MEMBER_STEP_VOTER:
        status = replica_assign(core->replica, replica, REPLICA_VOTER, core_on_step, core);
        break;
    case MEMBER_STEP_REMOVE:
        status = replica_remove(core->replica, replica, core_on_step, core);
        break;
    case MEMBER_STEP_TRANSFER:
        status = replica_transfer(core->replica, to);
        core->change_flying = false; /* leadership_moved tells */
        break;
    case MEMBER_DONE:
    case MEMBER_REFUSED:
    case MEMBER_LATER:
    case MEMBER_LISTEN:
        CHECK(false);
    }
    if (status != 0) {
        core->change_flying = false;
        core->muted = 0;
    }
    return status;
}

/* Where a change stands, and its next step if none is under way. We lead. */
static int core_change_work(struct cloud_core *core, enum member_operation operation,
                            uint64_t replica, const char *address, const char *key, char *message)
{
    uint64_t to = 0;
    const uint64_t now_ms = core->now.mono_ms;
    if (operation != core->asked_operation || replica != core->asked_replica ||
        now_ms - core->asked_last_ms > MEMBERS_ALIVE_MS) {
        core->asked_operation = operation;
        core->asked_replica = replica;
        core->asked_ms = now_ms;
    }
    core->asked_last_ms = now_ms;
    core_status_tell(core, false);
    enum member_step step = members_step(&core->group, operation, replica, address, core->asked_ms,
                                         now_ms, &to, message);
    if (!core->change_flying) {
        step = core_keys_step(core, operation, replica, key, step, message);
    }
    switch (step) {
    case MEMBER_DONE:
        return core->change_flying ? ANSWER_WORKING : ANSWER_DONE; /* obeyed, not agreed yet */
    case MEMBER_REFUSED:
        return ANSWER_REFUSED;
    case MEMBER_LATER:
        return ANSWER_LATER;
    case MEMBER_LISTEN:
        return ANSWER_WORKING;
    case MEMBER_STEP_ADD:
    case MEMBER_STEP_STANDBY:
    case MEMBER_STEP_VOTER:
    case MEMBER_STEP_REMOVE:
    case MEMBER_STEP_TRANSFER:
        break;
    }
    if (core->change_flying) {
        return ANSWER_WORKING;
    }
    const int status = core_step_take(core, step, replica, address, to);
    core_log(core, LOGGER_INFO, "member_change",
             "operation=%s replica=%" PRIu64 " status=%d step=%s",
             members_operation_text(operation), replica, status, message);
    return ANSWER_WORKING;
}

static void core_answer_send(struct cloud_core *core, uint64_t to, uint64_t request, int status,
                             const char *message)
{
    const struct member_answer answer = {.request = request, .status = status, .message = message};
    struct bytes body;
    struct bytes frame;
    codec_reset(core->codec_build);
    if (codec_member_answer_build(core->codec_build, &answer, &body) == 0 &&
        codec_frame_build(core->codec_build, WIRE_MEMBER_ANSWER, body, &frame) == 0) {
        (void)core->ops.send_peer(core->ops.context, to, frame);
    }
}

/* -- changes: whoever was asked --------------------------------------------------------------------- */

int cloud_core_change(struct cloud_core *core, enum member_operation operation, uint64_t replica,
                      const char *address, const char *key, uint32_t patience_ms,
                      cloud_core_on_changed on_changed, void *context)
{
    CHECK(strlen(address) <= MEMBERS_ADDRESS_BYTES);
    CHECK(key[0] == '\0' || member_key_valid(key));
    if (core->stopping || core->ended) {
        return STATUS_CLOSING;
    }
    uint32_t count = 0;
    for (const struct core_ask *ask = core->asks; ask != NULL; ask = ask->next) {
        count++;
    }
    if (count >= LIMIT_MEMBER_ASKS) {
        return STATUS_FULL;
    }

    struct core_ask *ask = calloc(1, sizeof *ask);
    CHECK(ask != NULL);
    core->ask_request++;
    ask->request = core->ask_request;
    ask->operation = operation;
    ask->replica = replica;
    (void)snprintf(ask->address, sizeof ask->address, "%s", address);
    (void)snprintf(ask->key, sizeof ask->key, "%s", key);
    ask->deadline_ms = core->now.mono_ms + patience_ms;
    ask->on_changed = on_changed;
    ask->context = context;
    ask->next = core->asks;
    core->asks = ask;
    return 0;
}

static void core_ask_end(struct cloud_core *core, struct core_ask *ask, int status)
{
    struct core_ask **at = &core->asks;
    while (*at != ask) {
        at = &(*at)->next;
    }
    *at = ask->next;
    ask->on_changed(ask->context, status, ask->message);
    free(ask);
}

/* What the leader said; the ask may be over and gone afterwards. */
static void core_ask_hear(struct cloud_core *core, struct core_ask *ask, int status,
                          const char *message)
{
    if (status < 0) {
        return; /* it does not lead: the next question goes to who does */
    }
    ask->heard = true;
    (void)snprintf(ask->message, sizeof ask->message, "%s", message);
    if (status == ANSWER_DONE) {
        core_ask_end(core, ask, 0);
    } else if (status == ANSWER_REFUSED) {
        core_ask_end(core, ask, CLOUD_CORE_CHANGE_REFUSED);
    } else if (status == ANSWER_LATER) {
        core_ask_end(core, ask, CLOUD_CORE_CHANGE_LATER);
    }
}

/* Ask, or answer ourselves; the ask may be over and gone afterwards. */
static void core_ask_put(struct cloud_core *core, struct core_ask *ask)
{
    ask->next_ms = core->now.mono_ms + ASK_MS;
    if (ask->operation == MEMBER_TRANSFER && ask->replica == 0) {
        core_status_tell(core, false);
        ask->replica = members_successor(&core->group, core->leader, core->now.mono_ms);
        if (ask->replica == 0) {
            (void)snprintf(ask->message, sizeof ask->message, "no other voter is ready to lead");
            core_ask_end(core, ask, CLOUD_CORE_CHANGE_LATER);
            return;
        }
    }
    if (core->leads) {
        char message[MEMBERS_MESSAGE_BYTES] = "";
        const int status =
            core_change_work(core, ask->operation, ask->replica, ask->address, ask->key, message);
        core_ask_hear(core, ask, status, message);
        return;
    }
    if (core->leader == 0) {
        return;
    }
    if ((ask->operation == MEMBER_RELEASE || ask->operation == MEMBER_ADMIT) &&
        machine_level(&core->machine) < CORE_KEYS_LEVEL) {
        (void)snprintf(ask->message, sizeof ask->message,
                       "not before all members are upgraded: the leader, %" PRIu64
                       ", may not know of keys yet",
                       core->leader);
        core_ask_end(core, ask, CLOUD_CORE_CHANGE_LATER);
        return;
    }
    const struct member_ask frame_body = {.request = ask->request,
                                          .operation = (uint8_t)ask->operation,
                                          .replica = ask->replica,
                                          .address = ask->address,
                                          .key = ask->key};
    struct bytes body;
    struct bytes frame;
    codec_reset(core->codec_build);
    if (codec_member_ask_build(core->codec_build, &frame_body, &body) == 0 &&
        codec_frame_build(core->codec_build, WIRE_MEMBER_ASK, body, &frame) == 0) {
        (void)core->ops.send_peer(core->ops.context, core->leader, frame);
    }
}

/* Answers when to come again. */
static uint64_t core_asks_run(struct cloud_core *core)
{
    struct core_ask *next;
    for (struct core_ask *ask = core->asks; ask != NULL; ask = next) {
        next = ask->next; /* on_changed may ask anew, which comes before the first */
        if (core->now.mono_ms >= ask->deadline_ms) {
            if (!ask->heard) {
                (void)snprintf(ask->message, sizeof ask->message,
                               core->leader == 0 ? "there is no leader"
                                                 : "the leader, replica %" PRIu64
                                                   ", does not answer",
                               core->leader);
            }
            core_ask_end(core, ask, STATUS_TIMEOUT);
        } else if (core->now.mono_ms >= ask->next_ms) {
            core_ask_put(core, ask);
        }
    }
    return core->asks == NULL ? UINT64_MAX : core->now.mono_ms + ASK_MS / 4;
}

void core_members_stop(struct cloud_core *core)
{
    while (core->asks != NULL) {
        (void)snprintf(core->asks->message, sizeof core->asks->message,
                       "this cloudcore is stopping");
        core_ask_end(core, core->asks, STATUS_CLOSING);
    }
}

/* -- frames and turns ------------------------------------------------------------------------------- */

int core_members_on_peer(struct cloud_core *core, uint64_t replica, uint16_t kind,
                         struct bytes body)
{
    if (kind == WIRE_PEER_STATUS) {
        struct peer_status said;
        const int status = codec_peer_status_read(core->codec_frame, body, &said);
        if (status == 0 && said.replica != replica) {
            return STATUS_IDENTITY;
        }
        if (status == 0) {
            core_status_tell(core, false); /* its lag is against what we know now */
            members_heard(&core->group, &said, core->now.mono_ms, core->now.wall_ms);
        }
        return status;
    }
    if (kind == WIRE_MEMBER_ASK) {
        struct member_ask ask;
        const int status = codec_member_ask_read(core->codec_frame, body, &ask);
        if (status != 0) {
            return status;
        }
        if (members_operation_text((enum member_operation)ask.operation) == NULL ||
            ask.replica == 0 || strlen(ask.address) > MEMBERS_ADDRESS_BYTES ||
            (ask.key[0] != '\0' && !member_key_valid(ask.key))) {
            return STATUS_MALFORMED;
        }
        char message[MEMBERS_MESSAGE_BYTES] = "";
        const int answer = core->leads
                               ? core_change_work(core, (enum member_operation)ask.operation,
                                                  ask.replica, ask.address, ask.key, message)
                               : STATUS_NOT_LEADER;
        core_answer_send(core, replica, ask.request, answer, message);
        return 0;
    }
    struct member_answer answer;
    const int status = codec_member_answer_read(core->codec_frame, body, &answer);
    for (struct core_ask *ask = core->asks; status == 0 && ask != NULL; ask = ask->next) {
        if (ask->request == answer.request) {
            core_ask_hear(core, ask, answer.status, answer.message);
            break;
        }
    }
    return status;
}

uint64_t core_members_run(struct cloud_core *core)
{
    core_members_follow(core);
    if (core->now.mono_ms >= core->status_ms) {
        core->status_ms = core->now.mono_ms + MEMBERS_STATUS_MS;
        members_expire(&core->group, core->now.mono_ms);
        core_greeting_tick(core);
        core_status_tell(core, true);
        core_keys_look(core);
        core->peers_due = true; /* guests come and go */
    }
    if (core->peers_due) {
        core_tell_peers(core);
    }
    const uint64_t next_ms = core_asks_run(core);
    return next_ms < core->status_ms ? next_ms : core->status_ms;
}
