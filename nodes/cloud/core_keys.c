/* Whose keys are heard: what the leader notes of the members' keys, and what becomes of those of removed ones.
 *
 *   1. each replica sees on its links which public key is behind a number (cloud_core_hears_key), and hears no key
 *      that the state says is out
 *   2. once a second the leader compares what it sees of the members that it hears with the state, and proposes
 *      what is missing: a key that a member has; and that those are out which a number had in an older membership,
 *      when another key is there in this one
 *   3. `remove` ends when what was noted of that replica is out; `release` lets it go with its key, which may come
 *      back with another data directory; `admit` lets in again what went out last
 *   4. who is told by most of the voters it knows, or by all the others, that its key is out, and hears from nobody
 *      meanwhile, leaves as one that was removed. Whoever lags behind, or was recovered apart from the group, takes
 *      nobody out of it
 *
 * A replica whose state is older than a membership does not judge its key: what let that in again may be what it
 * lacks, and the member with that key the only one to get it from.
 *
 * What can fail: a member of which no key was ever seen is removed without; the removal is remembered all the
 * same. Before the group has feature level 2 nothing is noted and nobody is shut out.
 */
#include "nodes/cloud/core_inner.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "schemas/check.h"
#include "statemachine/member_key.h"

#define KEYS_MS     1000u  /* between two looks of the leader */
#define KEYS_MS_MAX 64000u /* the same, doubling, while what it proposes changes nothing */
#define SHUT_OUT_MS 3000u  /* told for so long, and nobody heard meanwhile, we believe it */
/* So long does a replica count that said it: five times what is between two attempts to dial it. */
#define SHUT_OUT_FRESH_MS 10000u

/* -- what the state says --------------------------------------------------------------------------- */

uint32_t cloud_core_keys(struct cloud_core *core, struct member_key_row *out)
{
    struct store_reader *reader = core_reader(core);
    uint32_t count = 0;
    const int status = core_read(core, member_key_list(reader, out, &count));
    store_reader_reset(reader);
    return status == 0 ? count : 0;
}

bool cloud_core_key_out(struct cloud_core *core, const char *key)
{
    struct member_key_row row = {.out = false};
    if (!member_key_valid(key) || core->ended) {
        return false;
    }
    struct store_reader *reader = core_reader(core);
    const int status = core_read(core, member_key_get(reader, key, &row));
    store_reader_reset(reader);
    return status == 0 && row.out;
}

/* Whether our state may be older than what let the key of this member in again: it is a member by raft's
 * configuration, which is newer, or there is no leader to have heard of it from, or we lead and have not applied
 * all yet. Not when the state has another key for this membership: then this one is nobody's. */
static bool core_key_undecided(struct cloud_core *core, const struct member *member,
                               const char *key)
{
    const bool led = core->leads ? core->lead_ready : core->leader != 0;
    if (member == NULL || !member->configured ||
        (led && machine_index(&core->machine) >= member->epoch)) {
        return false;
    }
    struct member_key_row *rows = malloc(LIMIT_MEMBER_KEYS * sizeof *rows);
    CHECK(rows != NULL);
    const uint32_t count = cloud_core_keys(core, rows);
    bool its_own = false;
    bool other = false;
    for (uint32_t i = 0; i < count; i++) {
        if (rows[i].replica == member->replica) {
            its_own = its_own || strcmp(rows[i].key, key) == 0;
            other = other || (!rows[i].out && rows[i].index >= member->epoch);
        }
    }
    free(rows);
    return its_own && !other;
}

bool cloud_core_hears_key(struct cloud_core *core, uint64_t replica, const char *key)
{
    struct member *member = members_find(&core->group, replica);
    if (cloud_core_key_out(core, key)) {
        return core_key_undecided(core, member, key);
    }
    if (member != NULL) {
        (void)snprintf(member->key, sizeof member->key, "%s", key);
    }
    return true;
}

/* -- changing it: the leader ------------------------------------------------------------------------- */

static void core_on_key_done(void *context, uint64_t tag, int status, int outcome, uint64_t value)
{
    struct cloud_core *core = context;
    (void)value;
    core->key_pending = false;
    if (status == 0 && outcome == ACCEPTED) {
        core->keys_wait_ms = 0;
        core->keys_ms = core->now.mono_ms; /* there may be more */
    }
    if (status != 0 || !outcome_accepted((enum outcome)outcome)) {
        core_log(core, LOGGER_WARN, "member_key_failed", "replica=%" PRIu64 " status=%d outcome=%s",
                 tag, status, outcome_text((enum outcome)outcome));
    }
}

static void core_key_propose(struct cloud_core *core, const struct member_key *key)
{
    char name[24];
    struct bytes body;
    struct bytes record;
    struct codec *codec = core->codec_build;
    if (core->key_pending) {
        return;
    }
    (void)snprintf(name, sizeof name, "%" PRIu64, key->replica);
    codec_reset(codec);
    core->key_pending = codec_member_key_build(codec, key, &body) == 0 &&
                        codec_record_build(codec,
                                           &(struct record){
                                               .kind = RECORD_MEMBER_KEY,
                                               .key = name,
                                               .origin = core->config.name,
                                               .time_ms = core->now.wall_ms,
                                               .body = body,
                                           },
                                           &record) == 0 &&
                        forward_submit(core->forward, FORWARD_LANE_CORE, record, core_on_key_done,
                                       core, key->replica, core->now.mono_ms) == 0;
    if (core->key_pending) {
        core_log(core, LOGGER_INFO, "member_key", "replica=%" PRIu64 " standing=%s key=%s",
                 key->replica,
                 key->standing == MEMBER_KEY_OUT  ? "out"
                 : key->standing == MEMBER_KEY_IN ? "in"
                                                  : "member",
                 key->key == NULL ? "" : key->key);
    }
}

/* The member whose key this is in its present membership, not counting one; 0: nobody's. */
static uint64_t core_key_holder(const struct cloud_core *core, const char *key, uint64_t not_this,
                                const struct member_key_row *rows, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct member *member = members_find(&core->group, rows[i].replica);
        if (strcmp(rows[i].key, key) == 0 && !rows[i].out && rows[i].replica != not_this &&
            member != NULL && member->configured && rows[i].index >= member->epoch) {
            return rows[i].replica;
        }
    }
    return 0;
}

/* Whether a key may be noted for a member. What stands against it is said once.
 *   out_admit   receives the number whose key is to be let in first; 0: none. Ours, when we are the only voter: the
 *               group was restored or recovered where a removed member was, and this is all there is of it */
static bool core_key_may_be_noted(struct cloud_core *core, struct member *member, const char *key,
                                  const struct member_key_row *rows, uint32_t count,
                                  uint64_t *out_admit)
{
    const struct member_key_row *row = NULL;
    uint64_t newest = 0; /* of what is out of the same number: that is what would be let in */
    const uint64_t holder = core_key_holder(core, key, member->replica, rows, count);
    *out_admit = 0;
    for (uint32_t i = 0; i < count; i++) {
        row = strcmp(rows[i].key, key) == 0 ? &rows[i] : row;
    }
    for (uint32_t i = 0; i < count && row != NULL; i++) {
        const bool counts = rows[i].replica == row->replica && rows[i].out;
        newest = counts && rows[i].index > newest ? rows[i].index : newest;
    }
    const bool out = row != NULL && row->out;
    if (!out && holder == 0) {
        member->key_told = false;
        return true;
    }
    if (out && member->replica == core->config.replica && members_voters(&core->group) == 1 &&
        row->index == newest) {
        *out_admit = row->replica;
        return true;
    }
    if (!member->key_told) {
        member->key_told = true;
        core_log(core, LOGGER_ERROR, "member_key_unfit",
                 "replica=%" PRIu64 " of=%" PRIu64
                 " key=%s reason=%s: give it a key of its own with `kelp pki server`, and start it "
                 "again",
                 member->replica, out ? row->replica : holder, key,
                 out ? "this member has the key of one that was removed"
                     : "two members have one key, and neither can be told from the other");
    }
    return false;
}

/* Note the key that a member has, and let go of those it had in an older membership. One step at a time.
 * Answers whether there was one. */
static bool core_key_follow(struct cloud_core *core, struct member *member,
                            const struct member_key_row *rows, uint32_t count)
{
    const bool self = member->replica == core->config.replica;
    const char *key = self ? core->config.key : member->key;
    if (!member->configured || key == NULL || !member_key_valid(key) ||
        (!self && (member->stranger || !core_hears(core, member->replica)))) {
        return false;
    }
    bool noted = false;
    bool older = false;
    for (uint32_t i = 0; i < count; i++) {
        if (rows[i].replica == member->replica && !rows[i].out) {
            const bool now = rows[i].index >= member->epoch;
            noted = noted || (now && strcmp(rows[i].key, key) == 0);
            older = older || !now;
        }
    }
    uint64_t admit = 0;
    if (!noted && !core_key_may_be_noted(core, member, key, rows, count, &admit)) {
        return false;
    }
    if (admit != 0) {
        core_key_propose(core, &(struct member_key){.replica = admit, .standing = MEMBER_KEY_IN});
    } else if (!noted) {
        core_key_propose(core, &(struct member_key){.replica = member->replica,
                                                    .standing = MEMBER_KEY_MEMBER,
                                                    .key = key});
    } else if (older) {
        core_key_propose(core, &(struct member_key){.replica = member->replica,
                                                    .standing = MEMBER_KEY_OUT,
                                                    .below = member->epoch});
    }
    return !noted || older;
}

void core_keys_run(struct cloud_core *core)
{
    if (core->key_pending || core->now.mono_ms < core->keys_ms ||
        machine_level(&core->machine) < CORE_KEYS_LEVEL) {
        return;
    }
    core->keys_ms = core->now.mono_ms + KEYS_MS;
    struct member_key_row *rows = malloc(LIMIT_MEMBER_KEYS * sizeof *rows);
    CHECK(rows != NULL);
    const uint32_t count = cloud_core_keys(core, rows);
    if (count == LIMIT_MEMBER_KEYS && !core->keys_full_told) {
        core->keys_full_told = true;
        core_log(core, LOGGER_WARN, "member_keys_full",
                 "keys=%u reason=as many keys are remembered as may be: what has been out for "
                 "longest is "
                 "forgotten with each new one, and its certificate taken again",
                 count);
    }
    for (uint32_t i = 0; i < core->group.count; i++) {
        if (core_key_follow(core, &core->group.all[i], rows, count)) {
            /* At once when it changes something; until then less and less often. */
            core->keys_wait_ms = core->keys_wait_ms == 0 ? KEYS_MS : core->keys_wait_ms * 2;
            core->keys_wait_ms =
                core->keys_wait_ms > KEYS_MS_MAX ? KEYS_MS_MAX : core->keys_wait_ms;
            core->keys_ms = core->now.mono_ms + core->keys_wait_ms;
            break;
        }
    }
    free(rows);
}

static void members_named(const struct cloud_core *core, char *out, size_t size)
{
    size_t at = 0;
    out[0] = '\0';
    for (uint32_t i = 0; i < core->group.count && at + 8 < size; i++) {
        if (core->group.all[i].configured) {
            at += (size_t)snprintf(out + at, size - at, "%s%" PRIu64, at == 0 ? "" : ", ",
                                   core->group.all[i].replica);
        }
    }
}

enum member_step core_keys_step(struct cloud_core *core, enum member_operation operation,
                                uint64_t replica, enum member_step step, char *message)
{
    const bool asks =
        (operation == MEMBER_REMOVE && (step == MEMBER_DONE || step == MEMBER_STEP_REMOVE)) ||
        operation == MEMBER_ADMIT;
    if (!asks || machine_level(&core->machine) < CORE_KEYS_LEVEL) {
        return step;
    }
    struct member_key_row *rows = malloc(LIMIT_MEMBER_KEYS * sizeof *rows);
    CHECK(rows != NULL);
    const uint32_t count = cloud_core_keys(core, rows);
    uint32_t in = 0;
    uint32_t out = 0;
    uint64_t shares = 0; /* another member has its key */
    bool seen = false;   /* a key of it, ever */
    for (uint32_t i = 0; i < count; i++) {
        in += rows[i].replica == replica && !rows[i].out;
        out += rows[i].replica == replica && rows[i].out;
        seen = seen || (rows[i].replica == replica && rows[i].key[0] != '\0');
        for (uint32_t n = 0; n < core->group.count && rows[i].replica == replica && !rows[i].out;
             n++) {
            const struct member *other = &core->group.all[n];
            const char *key =
                other->replica == core->config.replica ? core->config.key : other->key;
            if (other->configured && other->replica != replica && key != NULL &&
                strcmp(key, rows[i].key) == 0) {
                shares = other->replica;
            }
        }
    }
    free(rows);
    struct member_key change = {.replica = replica};
    if (operation == MEMBER_REMOVE && shares != 0) {
        (void)snprintf(message, MEMBERS_MESSAGE_BYTES,
                       "replica %" PRIu64 " has the same key as %" PRIu64
                       ", and would be shut out with it: give it a key of its own first",
                       shares, replica);
        return MEMBER_REFUSED;
    }
    if (operation == MEMBER_ADMIT) {
        if (out == 0) {
            (void)snprintf(message, MEMBERS_MESSAGE_BYTES,
                           "no key of replica %" PRIu64 " is shut out", replica);
            return MEMBER_DONE;
        }
        change.standing = MEMBER_KEY_IN;
        (void)snprintf(message, MEMBERS_MESSAGE_BYTES,
                       "the key of replica %" PRIu64 " is being let in again", replica);
    } else if (step == MEMBER_STEP_REMOVE && in + out > 0) {
        return step;
    } else if (step == MEMBER_DONE && in + out == 0) {
        char named[MEMBERS_MESSAGE_BYTES / 2];
        members_named(core, named, sizeof named);
        (void)snprintf(message, MEMBERS_MESSAGE_BYTES,
                       "there is no replica %" PRIu64 ": the members are %s", replica, named);
        return MEMBER_REFUSED;
    } else if (step == MEMBER_DONE && in == 0) {
        (void)snprintf(message, MEMBERS_MESSAGE_BYTES,
                       seen ? "replica %" PRIu64 " is not a member, and its key is shut out"
                            : "replica %" PRIu64
                              " is not a member; no key of it was ever seen, so none is shut "
                              "out",
                       replica);
        return MEMBER_DONE;
    } else {
        /* Its keys; or, still a member of which none was seen, that it is being removed. */
        change.standing = MEMBER_KEY_OUT;
        change.below = replica_last_index(core->replica) + 1;
        (void)snprintf(message, MEMBERS_MESSAGE_BYTES,
                       "the key of replica %" PRIu64 " is being shut out", replica);
    }
    core_key_propose(core, &change);
    return MEMBER_LISTEN;
}

/* -- being shut out ------------------------------------------------------------------------------------ */

/* Most of the voters that we know, ourselves among them, or all the others, said it since nobody was heard. While
 * there is no configuration, those of the file stand for the voters. */
static bool core_shut_out_by_enough(const struct cloud_core *core)
{
    const bool founded = members_voters(&core->group) > 0;
    uint32_t others = 0;
    uint32_t refusing = 0;
    for (uint32_t i = 0; i < core->group.count; i++) {
        const struct member *member = &core->group.all[i];
        const bool counts =
            founded ? member->configured && member->role == REPLICA_VOTER : member->listed;
        if (!counts || member->replica == core->config.replica) {
            continue;
        }
        others++;
        refusing += !member->foreign && member->shut_out_ms >= core->shut_out_ms &&
                    core->now.mono_ms - member->shut_out_ms < SHUT_OUT_FRESH_MS;
    }
    return refusing > 0 && (refusing == others || refusing * 2 > others + 1);
}

/* A voter that leads or has a leader works, whoever refuses it. What another one says of its leader may be old: it
 * holds no elections. */
static bool core_has_leader(const struct cloud_core *core)
{
    const struct member *self = members_find(&core->group, core->config.replica);
    return core->leads ||
           (core->leader != 0 && self != NULL && self->configured && self->role == REPLICA_VOTER);
}

void core_keys_heard(struct cloud_core *core)
{
    core->shut_out_ms = 0;
}

void cloud_core_shut_out(struct cloud_core *core, uint64_t replica, struct cloud_core_time now)
{
    struct member *member = members_find(&core->group, replica);
    if (core->stopping || core->ended || core->removed || member == NULL) {
        return;
    }
    core->now = now;
    const uint64_t now_ms = now.mono_ms == 0 ? 1 : now.mono_ms;
    if (member->shut_out_ms == 0 || now_ms - member->shut_out_ms >= SHUT_OUT_FRESH_MS) {
        core_log(core, LOGGER_WARN, "key_shut_out",
                 "by=%" PRIu64 " reason=that replica says that our key is of one that was removed",
                 replica);
    }
    if (core->shut_out_ms == 0 || now_ms - core->shut_out_last_ms >= SHUT_OUT_FRESH_MS) {
        core->shut_out_ms = now_ms;
    }
    core->shut_out_last_ms = now_ms;
    member->shut_out_ms = now_ms;
    if (now_ms - core->shut_out_ms < SHUT_OUT_MS || core_has_leader(core) ||
        !core_shut_out_by_enough(core)) {
        return;
    }
    core->removed = true;
    core_log(core, LOGGER_WARN, "replica_removed",
             "replica=%" PRIu64 " by=%" PRIu64
             " reason=the group goes on without this replica, and does not hear its key any more",
             core->config.replica, replica);
    if (core->ops.removed != NULL) {
        core->ops.removed(core->ops.context);
    }
}
