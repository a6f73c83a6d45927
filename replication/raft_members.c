#include "replication/raft_members.h"

#include "schemas/check.h"
#include "schemas/limits.h"
#include "schemas/status.h"

#define MEMBERS_FORMAT 1u

void *raft_memory(size_t size)
{
    void *memory = raft_calloc(1, size == 0 ? 1 : size);
    CHECK(memory != NULL); /* out of memory: nothing can be promised any more */
    return memory;
}

/* Look through one member and step over it; 0 bytes: malformed. */
static size_t member_bytes(const uint8_t *at, size_t left)
{
    if (left < 8 || get_le64(at) == 0) {
        return 0;
    }
    const size_t room = left - 8 < LIMIT_NAME_BYTES + 8u ? left - 8 : LIMIT_NAME_BYTES + 8u;
    const size_t size = strnlen((const char *)at + 8, room);
    if (size == 0 || size == room) {
        return 0;
    }
    const size_t whole = 8 + size + 1 + 1;
    if (whole > left || at[whole - 1] > RAFT_SPARE) {
        return 0;
    }
    return whole;
}

int raft_members_decode(struct bytes bytes, struct raft_configuration *out)
{
    struct raft_configuration members;
    raft_configuration_init(&members);
    if (out != NULL) {
        raft_configuration_init(out);
    }
    if (bytes.size < 9 || bytes.data[0] != MEMBERS_FORMAT) {
        return STATUS_MALFORMED;
    }
    const uint64_t count = get_le64(bytes.data + 1);
    if (count == 0 || count > LIMIT_REPLICAS) {
        return STATUS_MALFORMED;
    }

    const uint8_t *at = bytes.data + 9;
    size_t left = bytes.size - 9;
    for (uint64_t i = 0; i < count; i++) {
        const size_t whole = member_bytes(at, left);
        if (whole == 0) {
            goto malformed;
        }
        /* also refuses an id or an address that is there twice */
        if (raft_configuration_add(&members, get_le64(at), (const char *)at + 8, at[whole - 1]) !=
            0) {
            goto malformed;
        }
        at += whole;
        left -= whole;
    }
    if (left > 7) {
        goto malformed;
    }
    if (out != NULL) {
        *out = members;
    } else {
        raft_configuration_close(&members);
    }
    return 0;

malformed:
    raft_configuration_close(&members);
    return STATUS_MALFORMED;
}

size_t raft_members_bytes(const struct raft_configuration *members)
{
    size_t bytes = 1 + 8;
    for (unsigned i = 0; i < members->n; i++) {
        bytes += 8 + strlen(members->servers[i].address) + 1 + 1;
    }
    return bytes;
}

void raft_members_copy(const struct raft_configuration *from, struct raft_configuration *to)
{
    raft_configuration_close(to);
    raft_configuration_init(to);
    for (unsigned i = 0; i < from->n; i++) {
        const int result = raft_configuration_add(to, from->servers[i].id, from->servers[i].address,
                                                  from->servers[i].role);
        CHECK(result == 0);
    }
}

unsigned raft_members_voters(const struct raft_configuration *members)
{
    unsigned voters = 0;
    for (unsigned i = 0; i < members->n; i++) {
        voters += members->servers[i].role == RAFT_VOTER;
    }
    return voters;
}

const struct raft_server *raft_members_find(const struct raft_configuration *members, raft_id id)
{
    for (unsigned i = 0; i < members->n; i++) {
        if (members->servers[i].id == id) {
            return &members->servers[i];
        }
    }
    return NULL;
}
