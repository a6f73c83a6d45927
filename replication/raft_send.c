#include "replication/raft_send.h"

#include "replication/raft_io.h"
#include "replication/raft_wire.h"

static bool sent_equal(const struct raft_sent *a, const struct raft_sent *b)
{
    return a->term == b->term && a->previous == b->previous &&
           a->previous_term == b->previous_term && a->commit == b->commit && a->count == b->count &&
           a->features == b->features;
}

static int send_again(struct replica_io *io, uint64_t to)
{
    const struct replica_peers *peers = &io->peers;
    return peers->again != NULL ? peers->again(peers->context, to)
                                : peers->send(peers->context, to, io->sent.bytes);
}

int raft_send_part(struct replica_io *io, const struct raft_message *message, uint64_t features,
                   unsigned first, unsigned count)
{
    features |= io->pings ? RAFT_WIRE_ANSWERS_PINGS : 0;
    struct raft_sent sent = {.term = 0};
    if (message->type == RAFT_IO_APPEND_ENTRIES) {
        const struct raft_append_entries *append = &message->append_entries;
        sent = (struct raft_sent){
            .term = append->term,
            .previous = append->prev_log_index + first,
            .previous_term = first == 0 ? append->prev_log_term : append->entries[first - 1].term,
            .commit = append->leader_commit,
            .count = count,
            .features = features,
        };
        if (sent_equal(&sent, &io->sent)) {
            return send_again(io, message->server_id);
        }
    }
    io->sent.term = 0;
    codec_reset(io->codec_out);
    int status =
        raft_wire_build(io->codec_out, &io->self, features, message, first, count, &sent.bytes);
    if (status == 0) {
        status = io->peers.send(io->peers.context, message->server_id, sent.bytes);
    }
    if (status == 0) {
        io->sent = sent;
    }
    return status;
}

void raft_send_ping(struct replica_io *io, uint64_t to, uint16_t type, uint64_t term,
                    uint64_t round)
{
    struct bytes bytes;
    io->sent.term = 0;
    codec_reset(io->codec_out);
    if (!io->ended &&
        raft_wire_build_ping(io->codec_out, &io->self, type, term, round, &bytes) == 0) {
        (void)io->peers.send(io->peers.context, to, bytes);
    }
}
