/* Can bytes of a replica hurt another one? The first byte picks: a message of raft, members of the
 * group, a manifest. What passes is written again and must be the same; memory is given back. */
#include "replication/manifest.h"
#include "replication/raft_members.h"
#include "replication/raft_wire.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define EXPECT(claim) ((claim) ? (void)0 : abort())

static void try_raft(struct bytes bytes)
{
    static struct codec *codec;
    if (codec == NULL) {
        codec = codec_create();
    }
    struct raft_message message;
    struct raft_message again;
    struct raft_wire_extra extra;
    if (raft_wire_read(codec, bytes, &message, &extra) == 0) {
        char address[LIMIT_NAME_BYTES + 1];
        EXPECT(strlen(message.server_address) <= LIMIT_NAME_BYTES);
        strcpy(address, message.server_address);
        const struct raft_server sender = {.id = message.server_id, .address = address};
        const unsigned count =
            message.type == RAFT_IO_APPEND_ENTRIES ? message.append_entries.n_entries : 0;
        struct bytes built;
        const int status =
            message.type > RAFT_IO_TIMEOUT_NOW
                ? raft_wire_build_ping(codec, &sender, message.type, extra.term, extra.round,
                                       &built)
                : raft_wire_build(codec, &sender, extra.features, &message, 0, count, &built);
        EXPECT(status == 0);
        EXPECT(raft_wire_read(codec, built, &again, &extra) == 0);
        EXPECT(again.type == message.type && again.server_id == message.server_id);
        raft_wire_free(&again);
        raft_wire_free(&message);
    }
    codec_reset(codec);
}

static void try_members(struct bytes bytes)
{
    struct raft_configuration members;
    const int status = raft_members_decode(bytes, &members);
    EXPECT(status == raft_members_decode(bytes, NULL));
    EXPECT(status != 0 || (members.n > 0 && members.n <= LIMIT_REPLICAS));
    raft_configuration_close(&members);
}

static void try_manifest(struct bytes bytes)
{
    struct manifest manifest;
    if (manifest_decode(bytes, &manifest) == 0) {
        EXPECT(manifest_bytes(&manifest) == bytes.size);
        uint8_t *again = malloc(bytes.size);
        manifest_encode(&manifest, again);
        EXPECT(memcmp(again, bytes.data, bytes.size) == 0);
        free(again);
        manifest_free(&manifest);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    const struct bytes rest = bytes_of(data + 1, size - 1);
    switch (data[0]) {
    case 'r':
        try_raft(rest);
        break;
    case 'm':
        try_members(rest);
        break;
    case 'f':
        try_manifest(rest);
        break;
    default:
        break;
    }
    return 0;
}
