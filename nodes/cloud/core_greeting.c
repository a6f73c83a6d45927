/* Which replicas are of our cluster.
 *
 * Raft takes an entry with the same index and term for the same entry. That is so within one
 * cluster; between two it is not, and certificates of one authority do not tell them apart: a data
 * directory put back from another installation, two groups founded with different lists of members.
 * So the first frame of each link says of which cluster its sender is, and with which members it
 * founds. Who is of another one is not heard until it greets again, and says so on each link. It also says
 * how much room its disk has, and again when that changes: a leader that runs short hands over to who has.
 */
#include "nodes/cloud/core_inner.h"

#include <string.h>

#include "schemas/check.h"
#include "schemas/status.h"

#define GREETING_VERSION 1u

void core_greet(struct cloud_core *core, uint64_t replica)
{
    const struct peer_hello hello = {
        .version = GREETING_VERSION,
        .cluster = core->machine.meta.cluster,
        .replica = core->config.replica,
        .address = "", /* raft's configuration has it */
        .members = core->members,
        .member_count = core->config.peer_count,
        .space = (uint8_t)core->space,
    };
    struct codec *codec = core->codec_build;
    struct bytes body;
    struct bytes frame;
    codec_reset(codec);
    if (codec_peer_hello_build(codec, &hello, &body) == 0 &&
        codec_frame_build(codec, WIRE_PEER_HELLO, body, &frame) == 0) {
        core->ops.send_peer(core->ops.context, replica, frame);
    }
}

void core_greet_all(struct cloud_core *core)
{
    for (uint32_t i = 0; i < core->config.peer_count; i++) {
        if (core->members[i] != core->config.replica) {
            core_greet(core, core->members[i]);
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

static bool greeting_same_members(const struct cloud_core *core, const struct peer_hello *hello)
{
    uint32_t found = 0;
    for (uint32_t i = 0; i < core->config.peer_count; i++) {
        for (uint32_t j = 0; j < hello->member_count; j++) {
            if (core->members[i] == hello->members[j]) {
                found++;
                break;
            }
        }
    }
    return found == core->config.peer_count && found == hello->member_count;
}

bool core_greeting_foreign(const struct cloud_core *core, uint64_t replica)
{
    for (uint32_t i = 0; i < core->foreign_count; i++) {
        if (core->foreign[i] == replica) {
            return true;
        }
    }
    return false;
}

static void greeting_forgive(struct cloud_core *core, uint64_t replica)
{
    for (uint32_t i = 0; i < core->foreign_count; i++) {
        if (core->foreign[i] == replica) {
            core->foreign_count--;
            core->foreign[i] = core->foreign[core->foreign_count];
            return;
        }
    }
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
    const char *ours = core->machine.meta.cluster;
    const bool both = ours[0] != '\0' && hello.cluster[0] != '\0';
    /* Once a cluster has its name, its members are what raft says, not what a file says. */
    const bool same =
        both ? strcmp(ours, hello.cluster) == 0 : greeting_same_members(core, &hello);

    greeting_forgive(core, replica);
    for (uint32_t i = 0; i < core->config.peer_count; i++) {
        if (core->members[i] == replica) {
            core->roomy[i] = same && hello.space == CLOUD_CORE_SPACE_PLENTY;
        }
    }
    if (!same && core->foreign_count < LIMIT_REPLICAS) {
        core->foreign[core->foreign_count] = replica;
        core->foreign_count++;
        core_log(core, LOGGER_ERROR, "peer_foreign", "replica=%llu cluster=%s ours=%s reason=%s",
                 (unsigned long long)replica, hello.cluster, ours,
                 both ? "it belongs to another cluster"
                      : "it was configured with another list of replicas");
    }
    return STATUS_OK;
}
