/* Whose keys are heard: what the leader notes of the members' keys, and what becomes of those of removed ones.
 *
 *   1. each replica sees on its links which public key is behind a number (cloud_core_hears_key), and hears no key
 *      that the state says is out
 *   2. once a second the leader compares what it sees of the members that it hears with the state, and proposes
 *      what is missing: a key that a member has; and that those are out which a number had in an older membership,
 *      when another key is there in this one. Whoever joins with a token has its key noted before it gets its
 *      certificate, so that one which never starts can be shut out; `add` and `remove` may name a key
 *   3. `remove` ends when what was noted of that replica is out; `release` lets it go with its key, which may come
 *      back with another data directory; `admit` lets in again what went out last
 *   4. who is told by most of the voters it knows, or by all the others, that its key is out, and hears from nobody
 *      meanwhile, leaves as one that was removed. Whoever lags behind, or was recovered apart from the group, takes
 *      nobody out of it
 *
 *   5. edges are told which keys are out, in Welcome and with the next heartbeat after that changed, and keep it: a
 *      cloudcore that was removed is not believed there either (nodes/edge/core_keys.c)
 *
 * A replica whose state is older than a membership does not judge its key: what let that in again may be what it
 * lacks, and the member with that key the only one to get it from.
 *
 * What can fail: a member of which no key was ever seen or named is removed without; the removal is remembered all the
 * same, and its certificate can be named later. Before the group has feature level 2 nothing is noted and nobody is shut out.
 */
#include "nodes/cloud/core_inner.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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
 * configuration, or by a newer one that we were told of, and there is no leader to have heard of it from, or we lead
 * and have not applied all yet. Not when the state has another key for this membership: then this one is nobody's. */
static bool core_key_undecided(struct cloud_core *core, uint64_t replica,
                               const struct member *member, const char *key)
{
    const bool led = core->leads ? core->lead_ready : core->leader != 0;
    const bool configured = member != NULL && member->configured;
    const bool told = core_told_of(core, replica);
    const uint64_t epoch = configured ? member->epoch : 0;
    if ((!configured && !told) ||
        (led && machine_index(&core->machine) >= (told ? core->told_index : epoch))) {
        return false;
    }
    struct member_key_row *rows = malloc(LIMIT_MEMBER_KEYS * sizeof *rows);
    CHECK(rows != NULL);
    const uint32_t count = cloud_core_keys(core, rows);
    bool its_own = false;
    bool other = false;
    for (uint32_t i = 0; i < count; i++) {
        if (rows[i].replica == replica) {
            its_own = its_own || strcmp(rows[i].key, key) == 0;
            other = other || (!rows[i].out && rows[i].index >= epoch);
        }
    }
    free(rows);
    return its_own && !other;
}

bool cloud_core_hears_key(struct cloud_core *core, uint64_t replica, const char *key)
{
    struct member *member = members_find(&core->group, replica);
    if (cloud_core_key_out(core, key)) {
        return core_key_undecided(core, replica, member, key);
    }
    if (member != NULL) {
        (void)snprintf(member->key, sizeof member->key, "%s", key);
    }
    return true;
}

static uint8_t digit_value(char digit)
{
    return (uint8_t)(digit <= '9' ? digit - '0' : digit - 'a' + 10);
}

void core_keys_look(struct cloud_core *core)
{
    if (machine_level(&core->machine) < CORE_KEYS_LEVEL || core->ended) {
        return;
    }
    struct member_key_row *rows = malloc(LIMIT_MEMBER_KEYS * sizeof *rows);
    uint8_t *keys = malloc((size_t)LIMIT_MEMBER_KEYS * CODEC_KEY_BYTES);
    CHECK(rows != NULL);
    CHECK(keys != NULL);
    const uint32_t count = cloud_core_keys(core, rows);
    size_t size = 0;
    for (uint32_t i = 0; i < count; i++) {
        for (size_t k = 0; rows[i].out && rows[i].key[0] != '\0' && k < CODEC_KEY_BYTES; k++) {
            keys[size] = (uint8_t)(digit_value(rows[i].key[2 * k]) << 4 |
                                   digit_value(rows[i].key[2 * k + 1]));
            size++;
        }
    }
    free(rows);
    if (core->shut_out_version != 0 && size == core->shut_out_size &&
        memcmp(keys, core->shut_out, size) == 0) {
        free(keys);
        return;
    }
    free(core->shut_out);
    core->shut_out = keys;
    core->shut_out_size = size;
    core->shut_out_version++;
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

/* What the state and our links say of one replica's keys. */
struct keys_about {
    uint32_t in;     /* keys of it that are heard */
    uint32_t out;    /* that are shut out, or its removal without a key */
    bool seen;       /* a key of it, ever */
    int64_t out_ms;  /* when the newest went out */
    bool noted;      /* the key that is asked about is noted in its present membership, */
    bool shut;       /* or out, under any number */
    uint64_t shares; /* another member that has that key, or one of those that are in */
};

static struct keys_about core_keys_about(struct cloud_core *core, uint64_t replica, const char *key)
{
    struct keys_about about = {0};
    const struct member *member = members_find(&core->group, replica);
    struct member_key_row *rows = malloc(LIMIT_MEMBER_KEYS * sizeof *rows);
    CHECK(rows != NULL);
    const uint32_t count = cloud_core_keys(core, rows);
    for (uint32_t i = 0; i < count; i++) {
        const bool asked = key[0] != '\0' && strcmp(rows[i].key, key) == 0;
        about.shut = about.shut || (asked && rows[i].out);
        if (rows[i].replica != replica) {
            const struct member *other = members_find(&core->group, rows[i].replica);
            const bool its = asked && !rows[i].out && other != NULL && other->configured;
            about.shares = its ? other->replica : about.shares;
            continue;
        }
        about.in += !rows[i].out;
        about.out += rows[i].out;
        about.seen = about.seen || rows[i].key[0] != '\0';
        about.out_ms =
            rows[i].out && rows[i].time_ms > about.out_ms ? rows[i].time_ms : about.out_ms;
        about.noted = about.noted || (asked && !rows[i].out &&
                                      rows[i].index >= (member == NULL ? 0 : member->epoch));
    }
    for (uint32_t n = 0; n < core->group.count; n++) {
        const struct member *other = &core->group.all[n];
        const char *its = other->replica == core->config.replica ? core->config.key : other->key;
        if (!other->configured || other->replica == replica || its == NULL || its[0] == '\0') {
            continue;
        }
        bool same = strcmp(its, key) == 0;
        for (uint32_t i = 0; i < count; i++) {
            same = same ||
                   (rows[i].replica == replica && !rows[i].out && strcmp(its, rows[i].key) == 0);
        }
        about.shares = same ? other->replica : about.shares;
    }
    free(rows);
    return about;
}

/* One that is to have this key is added, and the key noted before anybody is told that it was. */
static enum member_step core_keys_step_add(struct cloud_core *core, uint64_t replica,
                                           const char *key, enum member_step step, char *message)
{
    const struct keys_about about = core_keys_about(core, replica, key);
    if (about.shut) {
        (void)snprintf(message, MEMBERS_MESSAGE_BYTES,
                       "this key is of a replica that was removed, and is not heard any more");
        return MEMBER_REFUSED;
    }
    if (about.shares != 0) {
        (void)snprintf(message, MEMBERS_MESSAGE_BYTES,
                       "this key is the one of replica %" PRIu64 ": each has its own",
                       about.shares);
        return MEMBER_REFUSED;
    }
    if (about.noted || step != MEMBER_DONE) {
        return step;
    }
    if (about.in >= LIMIT_MEMBER_KEYS_EACH) {
        (void)snprintf(message, MEMBERS_MESSAGE_BYTES,
                       "replica %" PRIu64 " was given %" PRIu32
                       " keys, which is as many as it may be: `kelp cluster "
                       "remove %" PRIu64 "` shuts them out",
                       replica, about.in, replica);
        return MEMBER_REFUSED;
    }
    core_key_propose(
        core, &(struct member_key){.replica = replica, .standing = MEMBER_KEY_MEMBER, .key = key});
    (void)snprintf(message, MEMBERS_MESSAGE_BYTES, "the key of replica %" PRIu64 " is being noted",
                   replica);
    return MEMBER_LISTEN;
}

static enum member_step core_keys_step_admit(struct cloud_core *core, uint64_t replica,
                                             char *message)
{
    if (core_keys_about(core, replica, "").out == 0) {
        (void)snprintf(message, MEMBERS_MESSAGE_BYTES, "no key of replica %" PRIu64 " is shut out",
                       replica);
        return MEMBER_DONE;
    }
    core_key_propose(core, &(struct member_key){.replica = replica, .standing = MEMBER_KEY_IN});
    (void)snprintf(message, MEMBERS_MESSAGE_BYTES,
                   "the key of replica %" PRIu64 " is being let in again", replica);
    return MEMBER_LISTEN;
}

/* The state knows nothing of it: no member, and none that was removed since keys are noted. Somebody may come with
 * its certificate all the same, whom only whoever asks can tell from one that is about to be added. */
static void core_keys_say_unknown(const struct cloud_core *core, uint64_t replica, char *message)
{
    char named[MEMBERS_MESSAGE_BYTES / 4];
    const struct member *guest = members_find(&core->group, replica);
    members_named(core, named, sizeof named);
    if (guest != NULL && guest->key[0] != '\0') {
        (void)snprintf(message, MEMBERS_MESSAGE_BYTES,
                       "there is no replica %" PRIu64
                       ": the members are %s. One comes with such a certificate; `kelp cluster "
                       "remove %" PRIu64 " --key %s` shuts it out",
                       replica, named, replica, guest->key);
    } else {
        (void)snprintf(message, MEMBERS_MESSAGE_BYTES,
                       "there is no replica %" PRIu64
                       ": the members are %s. One that a release removed which noted no keys is "
                       "shut out with its certificate: `kelp cluster remove %" PRIu64
                       " --key FILE`",
                       replica, named, replica);
    }
}

static void core_keys_say_removed(const struct keys_about *about, uint64_t replica, char *message)
{
    const time_t at = (time_t)(about->out_ms / 1000);
    struct tm parts;
    char when[32] = "";
    if (gmtime_r(&at, &parts) != NULL) {
        (void)strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &parts);
    }
    if (about->seen) {
        (void)snprintf(message, MEMBERS_MESSAGE_BYTES,
                       "replica %" PRIu64 " was removed at %s, and its key is shut out", replica,
                       when);
    } else {
        (void)snprintf(message, MEMBERS_MESSAGE_BYTES,
                       "replica %" PRIu64
                       " was removed at %s; no key of it was ever seen, so none is shut out: `kelp "
                       "cluster remove %" PRIu64 " --key FILE` does it with its certificate",
                       replica, when, replica);
    }
}

static enum member_step core_keys_step_remove(struct cloud_core *core, uint64_t replica,
                                              const char *key, enum member_step step, char *message)
{
    const struct keys_about about = core_keys_about(core, replica, key);
    const bool known = about.in + about.out > 0;
    const bool named = key[0] != '\0' && !about.shut; /* it is to be noted before it can go out */
    if (about.shares != 0) {
        (void)snprintf(message, MEMBERS_MESSAGE_BYTES,
                       "replica %" PRIu64 " has the same key as %" PRIu64
                       ", and would be shut out with it: give it a key of its own first",
                       about.shares, replica);
        return MEMBER_REFUSED;
    }
    if (step == MEMBER_STEP_REMOVE && known) {
        return step;
    }
    if (step == MEMBER_DONE && named && about.in == 0) {
        core_key_propose(core, &(struct member_key){
                                   .replica = replica, .standing = MEMBER_KEY_MEMBER, .key = key});
    } else if (step == MEMBER_DONE && !known && about.shut) {
        (void)snprintf(message, MEMBERS_MESSAGE_BYTES,
                       "this key is shut out, as one of another replica that was removed");
        return MEMBER_DONE;
    } else if (step == MEMBER_DONE && !known) {
        core_keys_say_unknown(core, replica, message);
        return MEMBER_REFUSED;
    } else if (step == MEMBER_DONE && about.in == 0) {
        core_keys_say_removed(&about, replica, message);
        return MEMBER_DONE;
    } else {
        /* Its keys; or, still a member of which none was seen, that it is being removed. */
        core_key_propose(core, &(struct member_key){
                                   .replica = replica,
                                   .standing = MEMBER_KEY_OUT,
                                   .below = replica_last_index(core->replica) + 1,
                               });
    }
    (void)snprintf(message, MEMBERS_MESSAGE_BYTES,
                   "the key of replica %" PRIu64 " is being shut out", replica);
    return MEMBER_LISTEN;
}

enum member_step core_keys_step(struct cloud_core *core, enum member_operation operation,
                                uint64_t replica, const char *key, enum member_step step,
                                char *message)
{
    if (machine_level(&core->machine) < CORE_KEYS_LEVEL) {
        return step;
    }
    if (operation == MEMBER_ADMIT) {
        return core_keys_step_admit(core, replica, message);
    }
    if (operation == MEMBER_ADD && key[0] != '\0') {
        return core_keys_step_add(core, replica, key, step, message);
    }
    if (operation == MEMBER_REMOVE && (step == MEMBER_DONE || step == MEMBER_STEP_REMOVE)) {
        return core_keys_step_remove(core, replica, key, step, message);
    }
    return step;
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
