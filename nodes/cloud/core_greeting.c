/* Who is behind a link: of our cluster, and the one we have met.
 *
 * Raft takes an entry with the same index and term for the same entry. That is so within one
 * cluster; between two it is not, and certificates of one authority do not tell them apart: a data
 * directory put back from another installation, two groups founded with different lists of members, a
 * replica that lost its data directory. So the first frame of each link says of which cluster its sender
 * is, which data directory it has (roster.h) and which members it knows. Who is of another cluster, or a
 * stranger under a number that we know, is not heard until it greets again, and says so on each link. It
 * also says how much room its disk has, and again when that changes: a leader that runs short hands over
 * to who has.
 *
 * A cluster that was restored from a backup, or went on without its quorum, keeps its name and begins a new
 * epoch (statemachine/rebirth.h). Who comes with a data directory of another epoch is a stranger as well; the one
 * of the lower epoch leaves, unless it is of several that have a leader: a mistaken recovery does not take down
 * the group that works. Then both stay, say so, and the one that was recovered takes no edges and is not ready.
 *
 * From greetings a replica also learns that it is no member any more: the group does not send it the entry
 * that removed it. And one that was away learns who the members are now (core_learn): a number may have been removed
 * and added again meanwhile, with another data directory and another key, and that one may lead. By what it knows
 * itself it would not hear it, and hear nothing else from anybody.
 */
#include "nodes/cloud/core_inner.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "schemas/check.h"
#include "schemas/status.h"

#define GREETING_VERSION 1u
#define ROSTER_FILE      "roster"
/* A group counts as working for so long after it had a leader: no election, no restart of a member takes longer. */
#define TIMELINE_WORKS_MS 60000u

/* -- our data directory ------------------------------------------------------------------------- */

static int core_roster_store(struct cloud_core *core)
{
    uint8_t file[ROSTER_BYTES];
    const struct bytes piece = bytes_of(file, roster_encode(&core->roster, file));
    const int status = log_file_put(core->log, ROSTER_FILE, &piece, 1);
    if (status != 0 && status_is_fault(status)) {
        core_fatal(core, status, "what is known of the other replicas cannot be written");
    }
    return status;
}

int core_roster_open(struct cloud_core *core)
{
    uint64_t listed[LIMIT_REPLICAS];
    uint32_t count = 0;
    for (uint32_t i = 0; i < core->config.peer_count; i++) {
        if (core->config.peers[i].replica != core->config.replica) {
            listed[count] = core->config.peers[i].replica;
            count++;
        }
    }
    uint64_t incarnation;
    core->ops.random(core->ops.context, &incarnation, sizeof incarnation);
    roster_init(&core->roster, incarnation, listed, count);

    uint8_t *data = NULL;
    size_t size = 0;
    int status = log_file_get(core->log, ROSTER_FILE, &data, &size);
    if (status == 0) {
        status = roster_decode(&core->roster, bytes_of(data, size));
        free(data);
        return status;
    }
    if (status != -ENOENT) {
        return status;
    }
    if (log_index_next(core->log) > 1) {
        /* Made by `kelp cluster restore` or recover, for a group of this one; or of a release before there
         * were rosters: it has its vote still. */
        core->roster.active = true;
    }
    return core_roster_store(core);
}

void core_roster_trim(struct cloud_core *core)
{
    bool changed = false;
    for (uint32_t i = core->roster.known_count; i > 0; i--) {
        const uint64_t replica = core->roster.known[i - 1].replica;
        const struct member *member = members_find(&core->group, replica);
        if (core->settled && !core_told_of(core, replica) &&
            (member == NULL || (!member->configured && member->claims <= core->agreed_index))) {
            changed = roster_forget(&core->roster, replica) || changed;
        }
    }
    if (changed) {
        (void)core_roster_store(core); /* one that is known for too long is a stranger for longer */
    }
}

/* -- saying who we are -------------------------------------------------------------------------- */

/* The members that we know to be agreed on; while there are none, those that we would found with. */
static uint32_t core_agreed(struct cloud_core *core, uint64_t out[LIMIT_REPLICAS],
                            uint64_t *out_index)
{
    struct replica_member members[LIMIT_REPLICAS];
    uint32_t count = 0;
    *out_index = 0;
    if (core->replica != NULL) {
        count = replica_members_agreed(core->replica, members, out_index);
    }
    for (uint32_t i = 0; i < count; i++) {
        out[i] = members[i].id;
    }
    if (*out_index == 0 && !core->config.joins) {
        for (uint32_t i = 0; i < core->group.count && count < LIMIT_REPLICAS; i++) {
            if (core->group.all[i].listed) {
                out[count] = core->group.all[i].replica;
                count++;
            }
        }
    }
    return count;
}

/* Of our state; 0: it has none yet, and takes what it is given. */
static uint64_t core_epoch(const struct cloud_core *core)
{
    return machine_index(&core->machine) == 0 && log_index_next(core->log) <= 1
               ? 0
               : core->machine.meta.epoch;
}

bool core_works(const struct cloud_core *core)
{
    return core->worked_ms != 0 && core->now.mono_ms - core->worked_ms < TIMELINE_WORKS_MS;
}

bool core_contested(const struct cloud_core *core)
{
    return core->contested_ms != 0 && core->now.mono_ms - core->contested_ms < MEMBERS_ALIVE_MS;
}

void core_greet(struct cloud_core *core, uint64_t replica)
{
    uint64_t members[LIMIT_REPLICAS];
    struct peer_hello hello = {
        .version = GREETING_VERSION,
        .cluster = core->machine.meta.cluster,
        .replica = core->config.replica,
        .address = core->address,
        .members = members,
        .space = (uint8_t)core->space,
        .incarnation = core->roster.incarnation,
        .known = core->roster.known,
        .known_count = core->roster.known_count,
        .joins = core->config.joins,
        .level = core->config.level,
        .software = core->config.software == NULL ? "" : core->config.software,
        .epoch = core_epoch(core),
        .works = core_works(core),
    };
    hello.member_count = core_agreed(core, members, &hello.configuration);
    struct codec *codec = core->codec_build;
    struct bytes body;
    struct bytes frame;
    codec_reset(codec);
    if (codec_peer_hello_build(codec, &hello, &body) == 0 &&
        codec_frame_build(codec, WIRE_PEER_HELLO, body, &frame) == 0) {
        (void)core->ops.send_peer(core->ops.context, replica, frame);
    }
}

void core_greet_all(struct cloud_core *core)
{
    for (uint32_t i = 0; i < core->group.count; i++) {
        if (core->group.all[i].replica != core->config.replica) {
            core_greet(core, core->group.all[i].replica);
        }
    }
}

void core_greeting_run(struct cloud_core *core)
{
    if (!core->greeted_cluster && core->machine.meta.cluster[0] != '\0') {
        core->greeted_cluster = true;
        core_greet_all(core);
    }
}

void core_greeting_tick(struct cloud_core *core)
{
    if (core->leader != 0 && core->settled && members_voters(&core->group) > 1) {
        core->worked_ms = core->now.mono_ms == 0 ? 1 : core->now.mono_ms;
    }
    for (uint32_t i = 0; i < core->group.count; i++) {
        const struct member *member = &core->group.all[i];
        if (member->replica != core->config.replica &&
            (member->met_ms == 0 || member->foreign ||
             (member->incarnation != 0 && !core->roster.active) ||
             (member->incarnation != 0 &&
              roster_word(&core->roster, member->replica) != ROSTER_SAYS_US))) {
            core_greet(core, member->replica); /* the frame may have been lost, or theirs */
        }
    }
}

/* -- hearing who they are ------------------------------------------------------------------------ */

static bool holds(const uint64_t *members, uint32_t count, uint64_t replica)
{
    for (uint32_t i = 0; i < count; i++) {
        if (members[i] == replica) {
            return true;
        }
    }
    return false;
}

bool core_told_of(const struct cloud_core *core, uint64_t replica)
{
    return core->told_index > core->agreed_index && holds(core->told, core->told_count, replica);
}

static bool greeting_same_members(struct cloud_core *core, const struct peer_hello *hello)
{
    uint64_t ours[LIMIT_REPLICAS];
    uint64_t index;
    const uint32_t count = core_agreed(core, ours, &index);
    uint32_t found = 0;
    for (uint32_t i = 0; i < count; i++) {
        found += holds(hello->members, hello->member_count, ours[i]);
    }
    return found == count && found == hello->member_count;
}

/* Once a cluster has its name, that tells. A replica that starts does not know its own before the leader
 * tells it up to where the log is agreed on; whom it has met is of its cluster. And two that found must
 * found the same. */
static bool greeting_same_cluster(struct cloud_core *core, const struct peer_hello *hello)
{
    const char *ours = core->machine.meta.cluster;
    const bool new_here = core->replica == NULL || core->config.joins;
    const bool new_there = hello->joins || (hello->incarnation != 0 && hello->configuration == 0);
    if (ours[0] != '\0' && hello->cluster[0] != '\0') {
        return strcmp(ours, hello->cluster) == 0;
    }
    if (hello->incarnation != 0 &&
        roster_known(&core->roster, hello->replica, 0) == hello->incarnation) {
        return true;
    }
    if ((new_here && hello->cluster[0] != '\0') || (new_there && ours[0] != '\0') || hello->joins ||
        core->config.joins) {
        return true; /* it has nothing yet that could contradict */
    }
    if (ours[0] != '\0' && core->settled && hello->configuration < core->agreed_index) {
        const struct member *member = members_find(&core->group, hello->replica);
        if (member == NULL || !member->configured) {
            return true; /* it was a member once, and is not heard: it is told so */
        }
    }
    return greeting_same_members(core, hello);
}

bool core_greeting_foreign(const struct cloud_core *core, uint64_t replica)
{
    const struct member *member = members_find(&core->group, replica);
    return member != NULL && member->foreign;
}

/* Ours: in the configuration; in the file, as long as there is none; or in one that we do not have yet. A
 * leader has all that were agreed, so what somebody says of a newer one is not believed there. */
static bool core_ours(const struct cloud_core *core, const struct member *member)
{
    return member->configured || (member->listed && !core->settled) ||
           (member->claims > core->agreed_index && !core->leads);
}

void core_meet(struct cloud_core *core, struct member *member)
{
    if (member->met_ms == 0 || member->incarnation == 0 ||
        member->replica == core->config.replica || !core_ours(core, member)) {
        return;
    }
    const bool was_stranger = member->stranger;
    switch (roster_meet(&core->roster, member->replica, member->incarnation,
                        member->configured ? member->epoch : 0)) {
    case ROSTER_NEW:
        if (core_roster_store(core) != 0) {
            (void)roster_forget(&core->roster, member->replica); /* no room: it greets again */
            return;
        }
        core_log(core, LOGGER_INFO, "peer_met", "replica=%" PRIu64 " incarnation=%016" PRIx64,
                 member->replica, member->incarnation);
        member->stranger = false;
        core_greet_all(core); /* it waits for that; and who knows it as another one learns */
        return;
    case ROSTER_KNOWN:
        member->stranger = false;
        return;
    case ROSTER_FULL:
        return;
    case ROSTER_STRANGER:
        member->stranger = true;
        if (!was_stranger) {
            core_log(core, LOGGER_ERROR, "peer_lost_its_data",
                     "replica=%" PRIu64 " reason=it comes with another data directory than the one "
                     "that is a member, and is not heard: run `kelp cluster replace %" PRIu64 "`",
                     member->replica, member->replica);
        }
        return;
    }
}

bool core_hears(const struct cloud_core *core, uint64_t replica)
{
    const struct member *member = members_find(&core->group, replica);
    const uint64_t epoch = member != NULL && member->configured ? member->epoch : 0;
    if (core->replica == NULL || core_greeting_foreign(core, replica)) {
        return false;
    }
    if (member != NULL && member->met_ms != 0) {
        return member->incarnation == 0
                   ? core_ours(core, member) /* of an older release */
                   : roster_known(&core->roster, replica, epoch) == member->incarnation;
    }
    return roster_known(&core->roster, replica, epoch) != 0 ||
           (member != NULL && core_ours(core, member) && core->roster.known_count == 0);
}

/* Somebody whom we hear is of a newer configuration than ours, with us in it: whom it has met under the numbers of that
 * one is who they are, if they were added later than we know. Before a number was added again its removal had been
 * agreed on, so that whoever lacks that can win no election with the new one's vote: it may be heard. */
static void core_learn(struct cloud_core *core, uint64_t from, const struct peer_hello *hello)
{
    if (core->leads || hello->configuration <= core->agreed_index ||
        hello->configuration < core->told_index || !core_hears(core, from) ||
        !holds(hello->members, hello->member_count, core->config.replica)) {
        return;
    }
    core->told_index = hello->configuration;
    core->told_count = hello->member_count;
    memcpy(core->told, hello->members, hello->member_count * sizeof hello->members[0]);
    for (uint32_t i = 0; i < hello->known_count; i++) {
        const struct peer_known *known = &hello->known[i];
        struct member *member = members_find(&core->group, known->replica);
        const uint64_t epoch = member != NULL && member->configured ? member->epoch : 0;
        if (known->replica == core->config.replica || known->incarnation == 0 ||
            known->epoch <= epoch || known->epoch > hello->configuration ||
            !holds(hello->members, hello->member_count, known->replica) ||
            roster_meet(&core->roster, known->replica, known->incarnation, known->epoch) !=
                ROSTER_NEW) {
            continue;
        }
        if (core_roster_store(core) != 0) {
            (void)roster_forget(&core->roster, known->replica); /* no room: it is told again */
            continue;
        }
        core_log(core, LOGGER_INFO, "peer_learned",
                 "replica=%" PRIu64 " incarnation=%016" PRIx64 " by=%" PRIu64
                 " reason=it was added again while we were away",
                 known->replica, known->incarnation, from);
        if (member != NULL) {
            core_meet(core, member);
        }
    }
}

/* A group says that we are one of its members: those vouch for us, not the ones of a file that may be old. */
static void core_vouchers(struct cloud_core *core, const struct member *member,
                          const struct peer_hello *hello)
{
    uint64_t others[LIMIT_REPLICAS];
    uint32_t count = 0;
    if (core->replica != NULL || member->claims <= core->others_index) {
        return;
    }
    for (uint32_t i = 0; i < hello->member_count; i++) {
        if (hello->members[i] != core->config.replica) {
            others[count] = hello->members[i];
            count++;
        }
    }
    core->others_index = member->claims;
    roster_set_others(&core->roster, others, count);
}

/* What the others say of us may let us take part, or forbid it. */
static void core_take_part(struct cloud_core *core)
{
    const enum roster_place place = roster_place(&core->roster);
    if (place == ROSTER_MAY && core->replica == NULL) {
        bool founded = core->config.joins;
        for (uint32_t i = 0; i < core->group.count; i++) {
            founded = founded || core->group.all[i].founded;
        }
        core->roster.active = true;
        core->roster.founds = !founded;
        if (core_roster_store(core) != 0) {
            core->roster.active = false;
            return;
        }
        core_log(core, LOGGER_INFO, "replica_takes_part", "founds=%d known_by=%u", !founded,
                 roster_confirmed(&core->roster));
        core->open_due = true; /* not from inside of a frame */
    } else if (place == ROSTER_LOST && core->place_told != ROSTER_LOST) {
        core_log(
            core, LOGGER_ERROR, "replica_lost_its_data",
            "replica=%" PRIu64 " reason=the group knows this number with another data directory; "
            "this one is new and must not vote. It waits: run `kelp cluster replace %" PRIu64 "`",
            core->config.replica, core->config.replica);
    }
    core->place_told = place;
}

/* We are no member any more when somebody knows of a configuration that is newer than ours and without
 * us. */
static void core_check_removed(struct cloud_core *core, const struct peer_hello *hello)
{
    if (core->removed || core->replica == NULL || !core->settled ||
        hello->configuration <= core->agreed_index || hello->cluster[0] == '\0' ||
        holds(hello->members, hello->member_count, core->config.replica)) {
        return;
    }
    core->removed = true;
    core_log(core, LOGGER_WARN, "replica_removed",
             "replica=%" PRIu64 " by=%" PRIu64 " index=%" PRIu64
             " reason=the group goes on without "
             "this replica",
             core->config.replica, hello->replica, hello->configuration);
    if (core->ops.removed != NULL) {
        core->ops.removed(core->ops.context);
    }
}

/* A replica that starts may not know the name of its cluster yet; its epoch it does. */
static bool greeting_named_apart(const struct cloud_core *core, const struct peer_hello *hello)
{
    const char *ours = core->machine.meta.cluster;
    return ours[0] != '\0' && hello->cluster[0] != '\0' && strcmp(ours, hello->cluster) != 0;
}

/* Two and more of the replicas in our configuration file, and most of them, are of one cluster, and our data
 * directory of another: it is ours that is in the wrong place. Not while we work: they may have been told anything. */
static void core_check_foreign(struct cloud_core *core, struct member *member)
{
    uint32_t others = 0;
    uint32_t apart = 0;
    member->apart = true;
    for (uint32_t i = 0; i < core->group.count; i++) {
        const struct member *other = &core->group.all[i];
        if (other->listed && other->replica != core->config.replica) {
            others++;
            apart += other->apart;
        }
    }
    if (core->removed || core_works(core) || apart < 2 || apart * 2 <= others) {
        return;
    }
    core->removed = true;
    core_log(
        core, LOGGER_ERROR, "cluster_foreign",
        "replica=%" PRIu64 " cluster=%s by=%" PRIu64
        " reason=the data directory is of this cluster, and the replicas in `group` are of another "
        "one: "
        "bring the right directory back, or empty it and run `kelp cluster replace %" PRIu64 "`",
        core->config.replica, core->machine.meta.cluster, member->replica, core->config.replica);
    if (core->ops.removed != NULL) {
        core->ops.removed(core->ops.context);
    }
}

/* Said once, and again when it was not so for a moment. */
static void timeline_contest(struct cloud_core *core, const struct peer_hello *hello)
{
    if (!core_contested(core)) {
        core_log(
            core, LOGGER_ERROR, "timeline_contested",
            "replica=%" PRIu64 " epoch=%" PRIu64 " ours=%" PRIu64
            " reason=two groups say that they are this cluster: one that works, and one that was "
            "restored or recovered apart from it. They do not hear each other. Stop the one that "
            "is "
            "not to go on, and empty its data directories",
            hello->replica, hello->epoch, core_epoch(core));
    }
    core->contested_by = hello->replica;
    core->contested_ms = core->now.mono_ms == 0 ? 1 : core->now.mono_ms;
}

/* The cluster was restored or recovered, here or there, and one of the two data directories is of before: the
 * one whose epoch is lower. Both have a log under the same name, and entries that are others under the same
 * number. It leaves, unless its group works: then it was not lost, whoever recovered was mistaken or too early,
 * and what a majority has agreed on is not thrown away for that. */
static bool greeting_other_timeline(struct cloud_core *core, const struct peer_hello *hello)
{
    const uint64_t ours = core_epoch(core);
    if (ours == 0 || hello->epoch == 0 || hello->epoch == ours) {
        return false;
    }
    const bool again = core_greeting_foreign(core, hello->replica);
    if (hello->epoch < ours ? hello->works : core_works(core)) {
        timeline_contest(core, hello);
    } else if (hello->epoch < ours && !again) {
        core_log(core, LOGGER_ERROR, "peer_of_lost_timeline",
                 "replica=%" PRIu64 " epoch=%" PRIu64 " ours=%" PRIu64
                 " reason=its data directory is of before the cluster was restored or recovered, "
                 "and it is not "
                 "heard: empty that directory, then `kelp cluster add %" PRIu64 " ADDRESS`",
                 hello->replica, hello->epoch, ours, hello->replica);
    } else if (hello->epoch > ours && !core->removed) {
        core->removed = true;
        core_log(core, LOGGER_ERROR, "timeline_lost",
                 "epoch=%" PRIu64 " theirs=%" PRIu64 " by=%" PRIu64
                 " reason=the cluster was restored or recovered without this replica, and its data "
                 "directory "
                 "is of before: empty it, then `kelp cluster add %" PRIu64 " ADDRESS`",
                 ours, hello->epoch, hello->replica, core->config.replica);
        if (core->ops.removed != NULL) {
            core->ops.removed(core->ops.context);
        }
    }
    return true;
}

int core_greeting_take(struct cloud_core *core, uint64_t replica, struct bytes body)
{
    struct peer_hello hello;
    const int status = codec_peer_hello_read(core->codec_frame, body, &hello);
    if (status != 0) {
        return status;
    }
    if (hello.replica != replica) {
        return STATUS_IDENTITY;
    }
    const bool same = greeting_same_cluster(core, &hello);
    if (same) {
        core_keys_heard(core);
        core_other_greeted(core, replica, hello.level, hello.software);
    }
    struct member *member = members_welcome(&core->group, replica);
    if (member == NULL) {
        return STATUS_OK; /* as many are members, or listed, as may be known */
    }
    member->met_ms = core->now.mono_ms == 0 ? 1 : core->now.mono_ms;
    member->roomy = same && hello.space == CLOUD_CORE_SPACE_PLENTY;
    const bool lost = !greeting_named_apart(core, &hello) && greeting_other_timeline(core, &hello);
    const bool told = member->foreign;
    member->foreign = !same || lost;
    member->apart = member->apart && !same;
    if (lost) {
        return STATUS_OK;
    }
    if (!same && greeting_named_apart(core, &hello)) {
        core_check_foreign(core, member);
    }
    if (!same && told) {
        return STATUS_OK;
    }
    if (!same) {
        const char *ours = core->machine.meta.cluster;
        core_log(core, LOGGER_ERROR, "peer_foreign", "replica=%llu cluster=%s ours=%s reason=%s",
                 (unsigned long long)replica, hello.cluster, ours,
                 ours[0] != '\0' && hello.cluster[0] != '\0'
                     ? "it belongs to another cluster"
                     : "it was configured with another list of replicas");
        return STATUS_OK;
    }

    const bool again = member->incarnation == hello.incarnation;
    member->incarnation = hello.incarnation;
    member->founded = hello.cluster[0] != '\0';
    member->claims = holds(hello.members, hello.member_count, replica) &&
                             holds(hello.members, hello.member_count, core->config.replica)
                         ? hello.configuration
                         : 0;
    if (!member->configured && hello.address[0] != '\0') {
        (void)snprintf(member->address, sizeof member->address, "%s", hello.address);
    }
    member->stranger = member->stranger && again;
    core_meet(core, member);
    core_learn(core, replica, &hello);
    if (hello.incarnation != 0) {
        struct peer_known said = {.incarnation = 0};
        for (uint32_t i = 0; i < hello.known_count; i++) {
            if (hello.known[i].replica == core->config.replica) {
                said = hello.known[i];
            }
        }
        roster_told(&core->roster, replica, said.incarnation, said.epoch);
        core_vouchers(core, member, &hello);
        core_take_part(core);
    }
    core_check_removed(core, &hello);
    core->peers_due = true;
    return STATUS_OK;
}
