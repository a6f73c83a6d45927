/* Messages and manifests as bytes: there and back, and what damaged bytes do (nothing). */
#include "replication/manifest.h"
#include "replication/raft_members.h"
#include "replication/raft_wire.h"
#include "tests/sim/sim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const struct raft_server sender = {.id = 2, .address = "replica-2"};

struct sample {
    struct raft_message message;
    struct raft_entry entries[4];
    uint8_t data[3][64];
};

static void members_make(struct raft_configuration *members)
{
    raft_configuration_init(members);
    assert_int_equal(raft_configuration_add(members, 1, "replica-1", RAFT_VOTER), 0);
    assert_int_equal(raft_configuration_add(members, 2, "replica-2", RAFT_STANDBY), 0);
    assert_int_equal(raft_configuration_add(members, 9, "replica-9", RAFT_SPARE), 0);
}

static void sample_make(struct sample *sample, unsigned short type)
{
    memset(sample, 0, sizeof *sample);
    struct raft_message *message = &sample->message;
    message->type = type;
    message->server_id = 1;
    message->server_address = "replica-1";
    for (int i = 0; i < 3; i++) {
        memset(sample->data[i], 'a' + i, sizeof sample->data[i]);
    }
    switch (type) {
    case RAFT_IO_APPEND_ENTRIES: {
        struct raft_configuration members;
        struct raft_buffer buffer;
        members_make(&members);
        assert_int_equal(raft_configuration_encode(&members, &buffer), 0);
        raft_configuration_close(&members);
        const struct raft_entry entries[4] = {
            {.term = 3, .type = RAFT_COMMAND, .buf = {sample->data[0], 64}},
            {.term = 4, .type = RAFT_BARRIER, .buf = {sample->data[1], 8}},
            {.term = 4, .type = RAFT_CHANGE, .buf = buffer},
            {.term = 5, .type = RAFT_COMMAND, .buf = {sample->data[2], 24}},
        };
        memcpy(sample->entries, entries, sizeof entries);
        message->append_entries = (struct raft_append_entries){.term = 5,
                                                               .prev_log_index = 7,
                                                               .prev_log_term = 3,
                                                               .leader_commit = 6,
                                                               .entries = sample->entries,
                                                               .n_entries = 4};
        break;
    }
    case RAFT_IO_APPEND_ENTRIES_RESULT:
        message->append_entries_result =
            (struct raft_append_entries_result){.term = 5, .rejected = 4, .last_log_index = 9};
        break;
    case RAFT_IO_REQUEST_VOTE:
        message->request_vote = (struct raft_request_vote){.term = 5,
                                                           .candidate_id = 2,
                                                           .last_log_index = 8,
                                                           .last_log_term = 4,
                                                           .disrupt_leader = true,
                                                           .pre_vote = true};
        break;
    case RAFT_IO_REQUEST_VOTE_RESULT:
        message->request_vote_result = (struct raft_request_vote_result){
            .term = 5, .vote_granted = true, .pre_vote = raft_tribool_true};
        break;
    case RAFT_IO_INSTALL_SNAPSHOT:
        message->install_snapshot = (struct raft_install_snapshot){.term = 5,
                                                                   .last_index = 30,
                                                                   .last_term = 4,
                                                                   .conf_index = 3,
                                                                   .data = {sample->data[0], 40}};
        members_make(&message->install_snapshot.conf);
        break;
    default:
        message->timeout_now =
            (struct raft_timeout_now){.term = 5, .last_log_index = 8, .last_log_term = 4};
        break;
    }
}

static void sample_free(struct sample *sample)
{
    if (sample->message.type == RAFT_IO_APPEND_ENTRIES) {
        raft_free(sample->entries[2].buf.base);
    }
    if (sample->message.type == RAFT_IO_INSTALL_SNAPSHOT) {
        raft_configuration_close(&sample->message.install_snapshot.conf);
    }
}

static void assert_same(const struct raft_message *a, const struct raft_message *b)
{
    assert_int_equal(a->type, b->type);
    switch (a->type) {
    case RAFT_IO_APPEND_ENTRIES:
        assert_int_equal(a->append_entries.term, b->append_entries.term);
        assert_int_equal(a->append_entries.prev_log_index, b->append_entries.prev_log_index);
        assert_int_equal(a->append_entries.prev_log_term, b->append_entries.prev_log_term);
        assert_int_equal(a->append_entries.leader_commit, b->append_entries.leader_commit);
        assert_int_equal(a->append_entries.n_entries, b->append_entries.n_entries);
        for (unsigned i = 0; i < a->append_entries.n_entries; i++) {
            const struct raft_entry *x = &a->append_entries.entries[i];
            const struct raft_entry *y = &b->append_entries.entries[i];
            assert_int_equal(x->term, y->term);
            assert_int_equal(x->type, y->type);
            assert_int_equal(x->buf.len, y->buf.len);
            assert_memory_equal(x->buf.base, y->buf.base, x->buf.len);
        }
        break;
    case RAFT_IO_APPEND_ENTRIES_RESULT:
        assert_int_equal(a->append_entries_result.term, b->append_entries_result.term);
        assert_int_equal(a->append_entries_result.rejected, b->append_entries_result.rejected);
        assert_int_equal(a->append_entries_result.last_log_index,
                         b->append_entries_result.last_log_index);
        break;
    case RAFT_IO_REQUEST_VOTE:
        assert_int_equal(a->request_vote.term, b->request_vote.term);
        assert_int_equal(a->request_vote.candidate_id, b->request_vote.candidate_id);
        assert_int_equal(a->request_vote.last_log_index, b->request_vote.last_log_index);
        assert_int_equal(a->request_vote.last_log_term, b->request_vote.last_log_term);
        assert_int_equal(a->request_vote.disrupt_leader, b->request_vote.disrupt_leader);
        assert_int_equal(a->request_vote.pre_vote, b->request_vote.pre_vote);
        break;
    case RAFT_IO_REQUEST_VOTE_RESULT:
        assert_int_equal(a->request_vote_result.term, b->request_vote_result.term);
        assert_int_equal(a->request_vote_result.vote_granted, b->request_vote_result.vote_granted);
        assert_int_equal(a->request_vote_result.pre_vote, b->request_vote_result.pre_vote);
        break;
    case RAFT_IO_INSTALL_SNAPSHOT:
        assert_int_equal(a->install_snapshot.term, b->install_snapshot.term);
        assert_int_equal(a->install_snapshot.last_index, b->install_snapshot.last_index);
        assert_int_equal(a->install_snapshot.last_term, b->install_snapshot.last_term);
        assert_int_equal(a->install_snapshot.conf_index, b->install_snapshot.conf_index);
        assert_int_equal(a->install_snapshot.conf.n, b->install_snapshot.conf.n);
        for (unsigned i = 0; i < a->install_snapshot.conf.n; i++) {
            assert_int_equal(a->install_snapshot.conf.servers[i].id,
                             b->install_snapshot.conf.servers[i].id);
            assert_int_equal(a->install_snapshot.conf.servers[i].role,
                             b->install_snapshot.conf.servers[i].role);
            assert_string_equal(a->install_snapshot.conf.servers[i].address,
                                b->install_snapshot.conf.servers[i].address);
        }
        assert_int_equal(a->install_snapshot.data.len, b->install_snapshot.data.len);
        assert_memory_equal(a->install_snapshot.data.base, b->install_snapshot.data.base,
                            a->install_snapshot.data.len);
        break;
    default:
        assert_int_equal(a->timeout_now.term, b->timeout_now.term);
        assert_int_equal(a->timeout_now.last_log_index, b->timeout_now.last_log_index);
        assert_int_equal(a->timeout_now.last_log_term, b->timeout_now.last_log_term);
        break;
    }
}

/* Claim: what is read is what was built, with the sender in the place of the destination. */
static void test_every_message_survives_the_wire(void **state)
{
    (void)state;
    struct codec *codec = codec_create();
    for (unsigned short type = RAFT_IO_APPEND_ENTRIES; type <= RAFT_IO_TIMEOUT_NOW; type++) {
        struct sample sample;
        struct bytes bytes;
        struct raft_message read;
        struct raft_wire_extra extra;
        codec_reset(codec);
        sample_make(&sample, type);
        assert_int_equal(raft_wire_build(codec, &sender, 1, &sample.message, 0,
                                         type == RAFT_IO_APPEND_ENTRIES ? 4 : 0, &bytes),
                         0);
        assert_int_equal(raft_wire_read(codec, bytes, &read, &extra), 0);
        assert_int_equal(read.server_id, sender.id);
        assert_string_equal(read.server_address, sender.address);
        assert_int_equal(extra.features, 1);
        assert_same(&sample.message, &read);
        raft_wire_free(&read);
        sample_free(&sample);
    }
    codec_destroy(codec);
}

/* Claim: so do a ping and a pong, with term and round. */
static void test_pings_survive_the_wire(void **state)
{
    (void)state;
    struct codec *codec = codec_create();
    for (uint16_t type = RAFT_WIRE_PING; type <= RAFT_WIRE_PONG; type++) {
        struct bytes bytes;
        struct raft_message read;
        struct raft_wire_extra extra;
        codec_reset(codec);
        assert_int_equal(raft_wire_build_ping(codec, &sender, type, 5, 77, &bytes), 0);
        assert_int_equal(raft_wire_read(codec, bytes, &read, &extra), 0);
        assert_int_equal(read.type, type);
        assert_int_equal(read.server_id, sender.id);
        assert_int_equal(extra.features, RAFT_WIRE_ANSWERS_PINGS);
        assert_int_equal(extra.term, 5);
        assert_int_equal(extra.round, 77);
        raft_wire_free(&read);
    }
    codec_destroy(codec);
}

/* Claim: the parts of a message are messages that continue each other. */
static void test_parts_continue_each_other(void **state)
{
    (void)state;
    struct codec *codec = codec_create();
    struct sample sample;
    sample_make(&sample, RAFT_IO_APPEND_ENTRIES);
    for (unsigned first = 0; first < 4; first++) {
        struct bytes bytes;
        struct raft_message read;
        struct raft_wire_extra extra;
        assert_int_equal(raft_wire_build(codec, &sender, 1, &sample.message, first, 1, &bytes), 0);
        assert_int_equal(raft_wire_read(codec, bytes, &read, &extra), 0);
        assert_int_equal(read.append_entries.prev_log_index, 7 + first);
        assert_int_equal(read.append_entries.prev_log_term,
                         first == 0 ? 3 : sample.entries[first - 1].term);
        assert_int_equal(read.append_entries.n_entries, 1);
        assert_int_equal(read.append_entries.entries[0].type, sample.entries[first].type);
        raft_wire_free(&read);
    }
    sample_free(&sample);
    codec_destroy(codec);
}

/* Claim: a message in which one field makes no sense is refused. */
static void test_senseless_fields_are_refused(void **state)
{
    (void)state;
    static const uint8_t data[16] = {1};
    const struct raft_wire_entry command = {.term = 2, .type = RAFT_COMMAND, .data = {data, 16}};
    const struct raft_wire_entry newer = {.term = 9, .type = RAFT_COMMAND, .data = {data, 16}};
    const struct raft_wire_entry odd = {.term = 2, .type = RAFT_COMMAND, .data = {data, 15}};
    const struct raft_wire_entry none = {.term = 2, .type = 7, .data = {data, 16}};
    const struct raft_wire_entry change = {.term = 2, .type = RAFT_CHANGE, .data = {data, 16}};
    const struct raft_wire_entry falling[2] = {{.term = 3, .type = RAFT_BARRIER}, command};
    const struct raft_wire_server twice[2] = {{1, "a", 1}, {1, "b", 1}};
    const struct raft_wire_server role[1] = {{1, "a", 3}};
#define WIRE   .server_id = 2, .server_address = "x", .term = 5
#define APPEND WIRE, .type = 1, .prev_log_index = 4, .prev_log_term = 2
    const struct raft_wire good = {APPEND, .entries = &command, .entry_count = 1};
    const struct raft_wire bad[] = {
        {WIRE, .type = 0},
        {WIRE, .type = 7}, /* a ping, of no round */
        {WIRE, .type = 8},
        {WIRE, .type = 8, .round = UINT64_MAX},
        {.type = 7, .server_id = 2, .server_address = "x", .round = 1}, /* of no term */
        {WIRE, .type = 9, .round = 1},
        {.type = 2, .server_address = "x", .term = 5},
        {.type = 2, .server_id = 2, .server_address = "", .term = 5},
        {.type = 2, .server_id = 2, .server_address = "x"},
        {.type = 2, .server_id = 2, .server_address = "x", .term = UINT64_MAX},
        {WIRE, .type = 2, .rejected = UINT64_MAX},
        {WIRE, .type = 2, .last_log_index = UINT64_MAX},
        {WIRE, .type = 1, .prev_log_index = 4},
        {WIRE, .type = 1, .prev_log_term = 4},
        {WIRE, .type = 1, .prev_log_index = 4, .prev_log_term = 6},
        {WIRE, .type = 1, .prev_log_index = UINT64_MAX, .prev_log_term = 2},
        {APPEND, .leader_commit = UINT64_MAX},
        {APPEND, .entries = &newer, .entry_count = 1},
        {APPEND, .entries = &odd, .entry_count = 1},
        {APPEND, .entries = &none, .entry_count = 1},
        {APPEND, .entries = &change, .entry_count = 1},
        {APPEND, .entries = falling, .entry_count = 2},
        {WIRE, .type = 1, .entries = &command, .entry_count = 1}, /* first, and no configuration */
        {WIRE, .type = 3, .candidate_id = 3},
        {WIRE, .type = 3, .candidate_id = 2, .last_log_index = 3, .last_log_term = 7},
        {WIRE, .type = 5, .last_index = 9, .last_term = 2, .conf_index = 1, .data = {data, 16}},
        {WIRE, .type = 5, .last_index = 9, .last_term = 2, .conf_index = 1, .data = {data, 16},
         .conf = twice, .conf_count = 2},
        {WIRE, .type = 5, .last_index = 9, .last_term = 2, .conf_index = 1, .data = {data, 16},
         .conf = role, .conf_count = 1},
        {WIRE, .type = 5, .last_index = 9, .last_term = 2, .conf_index = 10, .data = {data, 16},
         .conf = twice, .conf_count = 1},
        {WIRE, .type = 5, .last_index = 9, .last_term = 2, .conf_index = 1, .conf = twice,
         .conf_count = 1},
        {WIRE, .type = 6, .last_log_index = 3},
    };
#undef WIRE
#undef APPEND
    struct codec *codec = codec_create();
    struct bytes bytes;
    struct raft_message read;
    struct raft_wire_extra extra;
    assert_int_equal(codec_raft_wire_build(codec, &good, &bytes), 0);
    assert_int_equal(raft_wire_read(codec, bytes, &read, &extra), 0);
    raft_wire_free(&read);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        codec_reset(codec);
        assert_int_equal(codec_raft_wire_build(codec, &bad[i], &bytes), 0);
        if (raft_wire_read(codec, bytes, &read, &extra) != STATUS_MALFORMED) {
            fail_msg("bad message number %zu is taken", i);
        }
    }
    codec_destroy(codec);
}

/* Claim: damaged bytes are refused or are another message that fits; never a crash, and nothing
 * leaks (the sanitizer build tells).
 * Method: every cut, every byte changed, and 20,000 random changes of up to four bytes. */
static void test_damage_does_no_harm(void **state)
{
    (void)state;
    struct codec *codec = codec_create();
    struct codec *reader = codec_create();
    struct sim sim;
    sim_init(&sim, 11);
    for (unsigned short type = RAFT_IO_APPEND_ENTRIES; type <= RAFT_IO_TIMEOUT_NOW; type++) {
        struct sample sample;
        struct bytes bytes;
        struct raft_message read;
        struct raft_wire_extra extra;
        codec_reset(codec);
        sample_make(&sample, type);
        assert_int_equal(raft_wire_build(codec, &sender, 1, &sample.message, 0,
                                         type == RAFT_IO_APPEND_ENTRIES ? 4 : 0, &bytes),
                         0);
        uint8_t *copy = malloc(bytes.size);
        const size_t rounds = 2 * bytes.size + 20000;
        for (size_t round = 0; round < rounds; round++) {
            size_t size = bytes.size;
            memcpy(copy, bytes.data, bytes.size);
            if (round < bytes.size) {
                size = round;
            } else if (round < 2 * bytes.size) {
                copy[round - bytes.size] ^= (uint8_t)sim_between(&sim, 1, 255);
            } else {
                for (uint64_t i = sim_between(&sim, 1, 4); i > 0; i--) {
                    copy[sim_below(&sim, bytes.size)] = (uint8_t)sim_random(&sim);
                }
            }
            codec_reset(reader);
            if (raft_wire_read(reader, bytes_of(copy, size), &read, &extra) == 0) {
                assert_in_range(read.type, RAFT_IO_APPEND_ENTRIES, RAFT_WIRE_PONG);
                raft_wire_free(&read);
            }
        }
        free(copy);
        sample_free(&sample);
    }
    sim_deinit(&sim);
    codec_destroy(reader);
    codec_destroy(codec);
}

/* Claim: the same for a configuration inside an entry, which libraft decodes blindly. */
static void test_damaged_members_do_no_harm(void **state)
{
    (void)state;
    struct raft_configuration members;
    struct raft_configuration read;
    struct raft_buffer buffer;
    members_make(&members);
    assert_int_equal(raft_configuration_encode(&members, &buffer), 0);
    assert_int_equal(raft_members_decode(bytes_of(buffer.base, buffer.len), &read), 0);
    assert_int_equal(read.n, 3);
    assert_int_equal(raft_members_voters(&read), 1);
    assert_string_equal(raft_members_find(&read, 9)->address, "replica-9");
    assert_null(raft_members_find(&read, 4));
    raft_configuration_close(&read);
    uint8_t *copy = malloc(buffer.len);
    for (size_t at = 0; at < buffer.len; at++) {
        for (int value = 0; value < 256; value++) {
            memcpy(copy, buffer.base, buffer.len);
            copy[at] = (uint8_t)value;
            if (raft_members_decode(bytes_of(copy, buffer.len), &read) == 0) {
                raft_configuration_close(&read);
            }
        }
        uint8_t *cut = malloc(at + 1); /* so that a byte too far is seen */
        memcpy(cut, buffer.base, at);
        if (raft_members_decode(bytes_of(cut, at), &read) == 0) {
            raft_configuration_close(&read);
            assert_true(at + 8 > buffer.len); /* only padding was missing */
        }
        free(cut);
    }
    free(copy);
    raft_free(buffer.base);
    raft_configuration_close(&members);
}

/* Claim: a manifest survives, a damaged one is refused or is another manifest, and no name in one
 * leads out of its directory. */
static void test_manifest(void **state)
{
    (void)state;
    struct manifest_file files[3] = {
        {"000012.sst", 4096, 17}, {"CURRENT", 16, 1}, {"MANIFEST-000004", 99, 0xffffffff}};
    const struct manifest manifest = {
        .epoch = 3, .applied_index = 77, .file_count = 3, .files = files};
    struct manifest read;
    const size_t size = manifest_bytes(&manifest);
    assert_int_not_equal(size, 0);
    uint8_t *bytes = malloc(size);
    uint8_t *copy = malloc(size);
    manifest_encode(&manifest, bytes);
    assert_int_equal(manifest_decode(bytes_of(bytes, size), &read), 0);
    assert_int_equal(read.epoch, 3);
    assert_int_equal(read.applied_index, 77);
    assert_int_equal(read.file_count, 3);
    assert_string_equal(read.files[2].name, "MANIFEST-000004");
    assert_int_equal(read.files[2].crc32c, 0xffffffff);
    assert_int_equal(read.files[0].size_bytes, 4096);
    manifest_free(&read);
    for (size_t at = 0; at < size; at++) {
        assert_int_equal(manifest_decode(bytes_of(bytes, at), &read), STATUS_MALFORMED);
        for (int value = 0; value < 256; value++) {
            memcpy(copy, bytes, size);
            copy[at] = (uint8_t)value;
            if (manifest_decode(bytes_of(copy, size), &read) == 0) {
                for (uint32_t i = 0; i < read.file_count; i++) {
                    assert_null(strchr(read.files[i].name, '/'));
                    assert_int_not_equal(read.files[i].name[0], '.');
                }
                manifest_free(&read);
            }
        }
    }
    put_le32(copy, get_le32(bytes));
    memcpy(copy, bytes, size);
    put_le32(copy + 4, MANIFEST_VERSION + 1);
    assert_int_equal(manifest_decode(bytes_of(copy, size), &read), STATUS_FOREIGN);
    strcpy(files[1].name, "../CURRENT");
    assert_int_equal(manifest_bytes(&manifest), 0);
    free(copy);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_message_survives_the_wire),
        cmocka_unit_test(test_pings_survive_the_wire),
        cmocka_unit_test(test_parts_continue_each_other),
        cmocka_unit_test(test_senseless_fields_are_refused),
        cmocka_unit_test(test_damage_does_no_harm),
        cmocka_unit_test(test_damaged_members_do_no_harm),
        cmocka_unit_test(test_manifest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
