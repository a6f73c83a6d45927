/* Whose keys are heard: what the leader notes of the members' keys, and what becomes of those of removed ones.
 *
 *   1. each replica sees on its links which public key is behind a number (cloud_core_hears_key), and hears no key
 *      that the state says is out
 *   2. once a second the leader compares what it sees of the members that it hears with the state, and proposes
 *      what is missing: a key that a member has; and that those are out which a number had in an older membership,
 *      when another key is there in this one
 *   3. `remove` ends when what was noted of that replica is out; `release` lets it go with its key, which may come
 *      back with another data directory; `admit` lets in again what went out last
 *   4. who is told by the others that its key is out, and is heard by nobody meanwhile, leaves as one that was
 *      removed. The word of one replica alone is not enough: it may lag behind
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

#define KEYS_LEVEL  2u    /* from which the state knows keys */
#define KEYS_MS     1000u /* between two looks of the leader */
#define SHUT_OUT_MS 3000u /* told for so long, and heard by nobody, we believe it */

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

bool cloud_core_hears_key(struct cloud_core *core, uint64_t replica, const char *key)
{
    if (cloud_core_key_out(core, key)) {
        return false;
    }
    struct member *member = members_find(&core->group, replica);
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
    core_log(core, LOGGER_INFO, "member_key", "replica=%" PRIu64 " standing=%s key=%s",
             key->replica,
             key->standing == MEMBER_KEY_OUT  ? "out"
             : key->standing == MEMBER_KEY_IN ? "in"
                                              : "member",
             key->key == NULL ? "" : key->key);
}

/* Note the key that a member has, and let go of those it had in an older membership. One step at a time.
 * Answers whether there was one. */
static bool core_key_follow(struct cloud_core *core, const struct member *member,
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
    if (!noted) {
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
        machine_level(&core->machine) < KEYS_LEVEL) {
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
            core->keys_ms = core->now.mono_ms; /* there may be more */
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
    if (!asks || machine_level(&core->machine) < KEYS_LEVEL) {
        return step;
    }
    struct member_key_row *rows = malloc(LIMIT_MEMBER_KEYS * sizeof *rows);
    CHECK(rows != NULL);
    const uint32_t count = cloud_core_keys(core, rows);
    uint32_t in = 0;
    uint32_t out = 0;
    bool seen = false; /* a key of it, ever */
    for (uint32_t i = 0; i < count; i++) {
        in += rows[i].replica == replica && !rows[i].out;
        out += rows[i].replica == replica && rows[i].out;
        seen = seen || (rows[i].replica == replica && rows[i].key[0] != '\0');
    }
    free(rows);
    struct member_key change = {.replica = replica};
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

void cloud_core_shut_out(struct cloud_core *core, uint64_t replica, struct cloud_core_time now)
{
    if (core->stopping || core->ended || core->removed) {
        return;
    }
    core->now = now;
    if (core->shut_out_ms == 0) {
        core->shut_out_ms = now.mono_ms == 0 ? 1 : now.mono_ms;
        core_log(core, LOGGER_WARN, "key_shut_out",
                 "by=%" PRIu64 " reason=that replica says that our key is of one that was removed",
                 replica);
        return;
    }
    if (now.mono_ms - core->shut_out_ms < SHUT_OUT_MS) {
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
