#include "replication/raft_wire.h"

#include "replication/raft_members.h"
#include "schemas/check.h"

static_assert(RAFT_COMMAND == 1 && RAFT_BARRIER == 2 && RAFT_CHANGE == 3,
              "entry types travel as libraft numbers them");
static_assert(RAFT_IO_APPEND_ENTRIES == 1 && RAFT_IO_TIMEOUT_NOW == 6,
              "message types travel as libraft numbers them");
static_assert(RAFT_WIRE_PING > RAFT_IO_TIMEOUT_NOW, "and ours come after them");

/* -- building --------------------------------------------------------------------------------- */

static int build_entries(struct codec *codec, const struct raft_append_entries *from,
                         unsigned first, unsigned count, struct raft_wire *to)
{
    CHECK(first + count <= from->n_entries);
    if (count > LIMIT_RAFT_ENTRIES) {
        return STATUS_TOO_LARGE;
    }
    to->term = from->term;
    to->prev_log_index = from->prev_log_index + first;
    to->prev_log_term = first == 0 ? from->prev_log_term : from->entries[first - 1].term;
    to->leader_commit = from->leader_commit;
    struct raft_wire_entry *entries = codec_array(codec, count, sizeof *entries);
    for (unsigned i = 0; i < count; i++) {
        const struct raft_entry *entry = &from->entries[first + i];
        entries[i] = (struct raft_wire_entry){
            .term = entry->term,
            .type = entry->type,
            .data = bytes_of(entry->buf.base, entry->buf.len),
        };
    }
    to->entries = entries;
    to->entry_count = count;
    return 0;
}

static void build_snapshot(struct codec *codec, const struct raft_install_snapshot *from,
                           struct raft_wire *to)
{
    CHECK(from->conf.n <= LIMIT_REPLICAS);
    to->term = from->term;
    to->last_index = from->last_index;
    to->last_term = from->last_term;
    to->conf_index = from->conf_index;
    struct raft_wire_server *conf = codec_array(codec, from->conf.n, sizeof *conf);
    for (unsigned i = 0; i < from->conf.n; i++) {
        conf[i] = (struct raft_wire_server){
            .id = from->conf.servers[i].id,
            .address = from->conf.servers[i].address,
            .role = (uint8_t)from->conf.servers[i].role,
        };
    }
    to->conf = conf;
    to->conf_count = from->conf.n;
    to->data = bytes_of(from->data.base, from->data.len);
}

int raft_wire_build(struct codec *codec, const struct raft_server *sender, uint64_t features,
                    const struct raft_message *message, unsigned first, unsigned count,
                    struct bytes *out)
{
    struct raft_wire wire = {
        .type = message->type,
        .server_id = sender->id,
        .server_address = sender->address,
        .version = 1,
        .features = features,
    };
    switch (message->type) {
    case RAFT_IO_APPEND_ENTRIES: {
        const int status = build_entries(codec, &message->append_entries, first, count, &wire);
        if (status != 0) {
            return status;
        }
        break;
    }
    case RAFT_IO_APPEND_ENTRIES_RESULT:
        wire.term = message->append_entries_result.term;
        wire.rejected = message->append_entries_result.rejected;
        wire.last_log_index = message->append_entries_result.last_log_index;
        break;
    case RAFT_IO_REQUEST_VOTE:
        wire.term = message->request_vote.term;
        wire.candidate_id = message->request_vote.candidate_id;
        wire.last_log_index = message->request_vote.last_log_index;
        wire.last_log_term = message->request_vote.last_log_term;
        wire.disrupt_leader = message->request_vote.disrupt_leader;
        wire.pre_vote = message->request_vote.pre_vote;
        break;
    case RAFT_IO_REQUEST_VOTE_RESULT:
        wire.term = message->request_vote_result.term;
        wire.vote_granted = message->request_vote_result.vote_granted;
        wire.pre_vote = message->request_vote_result.pre_vote == raft_tribool_true;
        break;
    case RAFT_IO_INSTALL_SNAPSHOT:
        build_snapshot(codec, &message->install_snapshot, &wire);
        break;
    case RAFT_IO_TIMEOUT_NOW:
        wire.term = message->timeout_now.term;
        wire.last_log_index = message->timeout_now.last_log_index;
        wire.last_log_term = message->timeout_now.last_log_term;
        break;
    default:
        CHECK(false); /* 0.15 has no other */
    }
    return codec_raft_wire_build(codec, &wire, out);
}

int raft_wire_build_ping(struct codec *codec, const struct raft_server *sender, uint16_t type,
                         uint64_t term, uint64_t round, struct bytes *out)
{
    CHECK(type == RAFT_WIRE_PING || type == RAFT_WIRE_PONG);
    CHECK(round != 0);
    const struct raft_wire wire = {
        .type = type,
        .server_id = sender->id,
        .server_address = sender->address,
        .term = term,
        .version = 1,
        .features = RAFT_WIRE_ANSWERS_PINGS,
        .round = round,
    };
    return codec_raft_wire_build(codec, &wire, out);
}

/* -- reading ---------------------------------------------------------------------------------- */

static bool number_fits(uint64_t number)
{
    return number < RAFT_WIRE_NUMBER_MAX;
}

/* A place in a log, and the term of what is there: both or neither, and no newer than `term`. */
static bool place_fits(uint64_t index, uint64_t term_there, uint64_t term)
{
    return number_fits(index) && (index == 0) == (term_there == 0) && term_there <= term;
}

static bool entries_fit(const struct raft_wire *wire)
{
    uint64_t term = wire->prev_log_term;
    for (uint32_t i = 0; i < wire->entry_count; i++) {
        const struct raft_wire_entry *entry = &wire->entries[i];
        if (entry->term == 0 || entry->term < term || entry->term > wire->term) {
            return false;
        }
        term = entry->term;
        switch (entry->type) {
        case RAFT_COMMAND:
            if (entry->data.size == 0 || entry->data.size % 8 != 0) {
                return false;
            }
            break;
        case RAFT_BARRIER:
            break;
        case RAFT_CHANGE:
            if (raft_members_decode(entry->data, NULL) != 0) {
                return false;
            }
            break;
        default:
            return false;
        }
    }
    /* Every history begins with its founders; libraft does not start from another one. */
    return wire->prev_log_index != 0 || wire->entry_count == 0 ||
           wire->entries[0].type == RAFT_CHANGE;
}

static bool snapshot_fits(const struct raft_wire *wire)
{
    if (wire->last_index == 0 || !place_fits(wire->last_index, wire->last_term, wire->term) ||
        wire->conf_index == 0 || wire->conf_index > wire->last_index || wire->conf_count == 0 ||
        wire->data.size == 0) {
        return false;
    }
    for (uint32_t i = 0; i < wire->conf_count; i++) {
        const struct raft_wire_server *server = &wire->conf[i];
        const size_t size = strlen(server->address);
        if (server->id == 0 || size == 0 || size > LIMIT_NAME_BYTES || server->role > RAFT_SPARE) {
            return false;
        }
        for (uint32_t k = 0; k < i; k++) {
            if (wire->conf[k].id == server->id ||
                strcmp(wire->conf[k].address, server->address) == 0) {
                return false;
            }
        }
    }
    return true;
}

static bool message_fits(const struct raft_wire *wire)
{
    const size_t address = strlen(wire->server_address);
    if (wire->server_id == 0 || address == 0 || address > LIMIT_NAME_BYTES || wire->term == 0 ||
        !number_fits(wire->term)) {
        return false;
    }
    switch (wire->type) {
    case RAFT_IO_APPEND_ENTRIES:
        return place_fits(wire->prev_log_index, wire->prev_log_term, wire->term) &&
               number_fits(wire->leader_commit) && entries_fit(wire);
    case RAFT_IO_APPEND_ENTRIES_RESULT:
        return number_fits(wire->rejected) && number_fits(wire->last_log_index);
    case RAFT_IO_REQUEST_VOTE:
        return wire->candidate_id == wire->server_id &&
               place_fits(wire->last_log_index, wire->last_log_term, wire->term);
    case RAFT_IO_REQUEST_VOTE_RESULT:
        return true;
    case RAFT_IO_INSTALL_SNAPSHOT:
        return snapshot_fits(wire);
    case RAFT_IO_TIMEOUT_NOW:
        return place_fits(wire->last_log_index, wire->last_log_term, wire->term);
    case RAFT_WIRE_PING:
    case RAFT_WIRE_PONG:
        return wire->round != 0 && number_fits(wire->round);
    default:
        return false;
    }
}

/* The entries in one piece of memory, which libraft calls a batch and frees with the last. */
static void read_entries(const struct raft_wire *wire, struct raft_append_entries *out)
{
    *out = (struct raft_append_entries){
        .term = wire->term,
        .prev_log_index = wire->prev_log_index,
        .prev_log_term = wire->prev_log_term,
        .leader_commit = wire->leader_commit,
        .n_entries = wire->entry_count,
    };
    if (wire->entry_count == 0) {
        return;
    }
    size_t size = 0;
    for (uint32_t i = 0; i < wire->entry_count; i++) {
        size += (wire->entries[i].data.size + 7) & ~(size_t)7;
    }
    uint8_t *batch = raft_memory(size);
    out->entries = raft_memory(wire->entry_count * sizeof *out->entries);
    for (uint32_t i = 0; i < wire->entry_count; i++) {
        const struct raft_wire_entry *from = &wire->entries[i];
        struct raft_entry *entry = &out->entries[i];
        entry->term = from->term;
        entry->type = from->type;
        entry->buf.base = batch;
        entry->buf.len = from->data.size;
        entry->batch = i == 0 ? batch : out->entries[0].batch;
        if (from->data.size > 0) {
            memcpy(batch, from->data.data, from->data.size);
        }
        batch += (from->data.size + 7) & ~(size_t)7;
    }
}

static void read_snapshot(const struct raft_wire *wire, struct raft_install_snapshot *out)
{
    *out = (struct raft_install_snapshot){
        .term = wire->term,
        .last_index = wire->last_index,
        .last_term = wire->last_term,
        .conf_index = wire->conf_index,
    };
    raft_configuration_init(&out->conf);
    for (uint32_t i = 0; i < wire->conf_count; i++) {
        const int result = raft_configuration_add(&out->conf, wire->conf[i].id,
                                                  wire->conf[i].address, wire->conf[i].role);
        CHECK(result == 0); /* snapshot_fits has seen to that */
    }
    out->data.len = wire->data.size;
    out->data.base = raft_memory(wire->data.size);
    memcpy(out->data.base, wire->data.data, wire->data.size);
}

int raft_wire_read(struct codec *codec, struct bytes bytes, struct raft_message *out,
                   struct raft_wire_extra *out_extra)
{
    struct raft_wire wire;
    const int status = codec_raft_wire_read(codec, codec_aligned(codec, bytes), &wire);
    if (status != 0) {
        return status;
    }
    if (!message_fits(&wire)) {
        return STATUS_MALFORMED;
    }

    *out = (struct raft_message){
        .type = wire.type,
        .server_id = wire.server_id,
        .server_address = wire.server_address,
    };
    *out_extra =
        (struct raft_wire_extra){.features = wire.features, .term = wire.term, .round = wire.round};
    switch (wire.type) {
    case RAFT_IO_APPEND_ENTRIES:
        read_entries(&wire, &out->append_entries);
        break;
    case RAFT_IO_APPEND_ENTRIES_RESULT:
        out->append_entries_result = (struct raft_append_entries_result){
            .term = wire.term,
            .rejected = wire.rejected,
            .last_log_index = wire.last_log_index,
        };
        break;
    case RAFT_IO_REQUEST_VOTE:
        out->request_vote = (struct raft_request_vote){
            .term = wire.term,
            .candidate_id = wire.candidate_id,
            .last_log_index = wire.last_log_index,
            .last_log_term = wire.last_log_term,
            .disrupt_leader = wire.disrupt_leader,
            .pre_vote = wire.pre_vote,
        };
        break;
    case RAFT_IO_REQUEST_VOTE_RESULT:
        out->request_vote_result = (struct raft_request_vote_result){
            .term = wire.term,
            .vote_granted = wire.vote_granted,
            .pre_vote = wire.pre_vote ? raft_tribool_true : raft_tribool_false,
        };
        break;
    case RAFT_IO_INSTALL_SNAPSHOT:
        read_snapshot(&wire, &out->install_snapshot);
        break;
    case RAFT_WIRE_PING:
    case RAFT_WIRE_PONG:
        break;
    default:
        CHECK(wire.type == RAFT_IO_TIMEOUT_NOW);
        out->timeout_now = (struct raft_timeout_now){
            .term = wire.term,
            .last_log_index = wire.last_log_index,
            .last_log_term = wire.last_log_term,
        };
        break;
    }
    return 0;
}

void raft_wire_free(struct raft_message *message)
{
    if (message->type == RAFT_IO_APPEND_ENTRIES && message->append_entries.n_entries > 0) {
        raft_free(message->append_entries.entries[0].batch);
        raft_free(message->append_entries.entries);
    }
    if (message->type == RAFT_IO_INSTALL_SNAPSHOT) {
        raft_configuration_close(&message->install_snapshot.conf);
        raft_free(message->install_snapshot.data.base);
    }
}
