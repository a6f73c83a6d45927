/* What is known of the other members at the moment: whether they are near, and what their release
 * understands. Soft: told anew by each greeting, forgotten when a member is lost.
 *
 * The feature level (machine.h) rises here. The leader proposes the highest one that everybody understands
 * once every member of raft's configuration has said so in a greeting and has not been lost since: a member
 * that is down might come back as an older release. What that release then meets, here or when it starts, is
 * a sentence and the end of its process, never a record that it does not know.
 */
#include "nodes/cloud/core_inner.h"

#include <stdio.h>

#include "schemas/check.h"

static struct core_other *other_find(struct cloud_core *core, uint64_t replica)
{
    for (uint32_t i = 0; i < core->other_count; i++) {
        if (core->others[i].replica == replica) {
            return &core->others[i];
        }
    }
    return NULL;
}

/* The entry of a replica; a new one takes the place of the one that was heard longest ago. */
static struct core_other *other_get(struct cloud_core *core, uint64_t replica)
{
    struct core_other *other = other_find(core, replica);
    if (other != NULL) {
        return other;
    }
    if (core->other_count < LIMIT_REPLICAS) {
        other = &core->others[core->other_count];
        core->other_count++;
    } else {
        other = &core->others[0];
        for (uint32_t i = 1; i < core->other_count; i++) {
            other = core->others[i].heard_ms < other->heard_ms ? &core->others[i] : other;
        }
    }
    *other = (struct core_other){.replica = replica};
    return other;
}

void core_other_heard(struct cloud_core *core, uint64_t replica)
{
    other_get(core, replica)->heard_ms = core->now.mono_ms;
}

void core_other_lost(struct cloud_core *core, uint64_t replica)
{
    struct core_other *other = other_find(core, replica);
    if (other != NULL) {
        other->heard_ms = 0;
        other->level = 0;
    }
}

void core_other_greeted(struct cloud_core *core, uint64_t replica, uint32_t level,
                        const char *software)
{
    struct core_other *other = other_get(core, replica);
    const uint32_t understands = level == 0 ? 1 : level; /* releases that do not say it know the first */
    if (other->level != understands) {
        core_log(core, LOGGER_INFO, "replica_release", "replica=%llu software=%s level=%u",
                 (unsigned long long)replica, software, understands);
    }
    other->level = understands;
}

bool core_other_near(const struct cloud_core *core, uint64_t replica)
{
    for (uint32_t i = 0; i < core->other_count; i++) {
        const struct core_other *other = &core->others[i];
        if (other->replica == replica) {
            return other->heard_ms != 0 && core->now.mono_ms - other->heard_ms < CORE_HEARD_MS;
        }
    }
    return false;
}

bool core_has_company(const struct cloud_core *core)
{
    for (uint32_t i = 0; i < core->other_count; i++) {
        if (core_other_near(core, core->others[i].replica)) {
            return true;
        }
    }
    return false;
}

/* -- the feature level ------------------------------------------------------------------------- */

int core_level_check(struct cloud_core *core, char *reason)
{
    const uint32_t level = machine_level(&core->machine);
    if (level <= core->config.level) {
        return STATUS_OK;
    }
    snprintf(reason, 256,
             "the group works at feature level %u, this release knows levels up to %u: it is older than the "
             "log and may not go back; install the release that the other replicas run", level,
             core->config.level);
    return STATUS_UNSUPPORTED;
}

/* The highest level that all members understand; 0: one of them has not said. */
static uint32_t level_of_all(struct cloud_core *core)
{
    struct replica_member members[LIMIT_REPLICAS];
    const uint32_t count = replica_members(core->replica, members);
    uint32_t level = core->config.level;
    for (uint32_t i = 0; i < count; i++) {
        if (members[i].id == core->config.replica) {
            continue;
        }
        const struct core_other *other = other_find(core, members[i].id);
        const uint32_t theirs = other == NULL ? 0 : other->level;
        level = theirs < level ? theirs : level;
    }
    return level;
}

static void core_on_level(void *context, uint64_t tag, int status, int outcome, uint64_t value)
{
    struct cloud_core *core = context;
    (void)outcome;
    (void)value;
    core->level_pending = false;
    core_log(core, LOGGER_INFO, "feature_level", "asked=%llu status=%d level=%u",
             (unsigned long long)tag, status, machine_level(&core->machine));
}

void core_level_run(struct cloud_core *core)
{
    if (core->level_pending || core->config.level <= machine_level(&core->machine)) {
        return; /* nearly always */
    }
    const uint32_t level = level_of_all(core);
    if (level <= machine_level(&core->machine)) {
        return;
    }
    struct bytes body;
    struct bytes record;
    struct codec *codec = core->codec_build;
    codec_reset(codec);
    const struct setting setting = {.name = setting_rules[SETTING_LEVEL].name, .value = level};
    core->level_pending =
        codec_setting_build(codec, &setting, &body) == 0 &&
        codec_record_build(codec,
                           &(struct record){
                               .kind = RECORD_SETTING,
                               .key = setting.name,
                               .origin = core->config.name,
                               .time_ms = core->now.wall_ms,
                               .body = body,
                           },
                           &record) == 0 &&
        forward_submit(core->forward, FORWARD_LANE_CORE, record, core_on_level, core, level,
                       core->now.mono_ms) == 0;
}
