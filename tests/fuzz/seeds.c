/* Makes what the kept corpora of fuzz_codec, fuzz_log, fuzz_peer and fuzz_session
 * began with, by the real encoders:
 *
 *     seeds codec|log|peer|session DIRECTORY
 */
#include "log/log.h"
#include "replication/manifest.h"
#include "replication/raft_wire.h"
#include "schemas/check.h"
#include "schemas/codec.h"
#include "tests/fuzz/fuzz_codec.h"
#include "tests/sim/disk_sim.h"

#include <stdio.h>
#include <stdlib.h>

static const char *directory;

static void seed_write(const char *name, const uint8_t *head, size_t head_size, struct bytes rest)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "we");
    CHECK(file != NULL);
    CHECK(fwrite(head, 1, head_size, file) == head_size);
    CHECK(fwrite(rest.data, 1, rest.size, file) == rest.size);
    CHECK(fclose(file) == 0);
}

/* -- the codec ------------------------------------------------------------------------------- */

#define SEED(noun, ...)                                                                            \
    do {                                                                                           \
        const struct noun value = __VA_ARGS__;                                                     \
        const uint8_t number = FUZZ_CODEC_##noun;                                                  \
        CHECK(codec_##noun##_build(codec, &value, &last) == 0);                                    \
        seed_write(#noun, &number, 1, last);                                                       \
    } while (0)

static void seeds_codec(void)
{
    static const struct pair pairs[] = {{"app", "web"}, {"tier", ""}};
    static const char *const texts[] = {"u1", "u2"};
    static const uint64_t numbers[] = {1, 2};
    static const struct reference references[] = {{"configmaps", "cm", false}, {"secrets", "s", 1}};
    static const struct condition conditions[] = {{"Ready", CONDITION_TRUE, "Why", "fine", 17}};
    static const struct container_status containers[] = {
        {.name = "main", .image = "i", .state = CONTAINER_RUNNING, .restart_count = 2},
        {.name = "init", .init = true, .state = CONTAINER_TERMINATED, .exit_code = -1}};
    struct codec *codec = codec_create();
    struct bytes last;

    SEED(object_put, {.mode = PUT_UPDATE,
                      .if_version = 41,
                      .if_uid = "u",
                      .object = {.version = "v1",
                                 .kind = "Pod",
                                 .resource = "pods",
                                 .namespace_ = "default",
                                 .name = "web",
                                 .uid = "u",
                                 .node_name = "e",
                                 .labels = pairs,
                                 .label_count = 2,
                                 .owners = texts,
                                 .owner_count = 2,
                                 .finalizers = texts,
                                 .finalizer_count = 1,
                                 .references = references,
                                 .reference_count = 2,
                                 .tag = {1, 2},
                                 .json = bytes_text("{}")}});
    const struct bytes put = last;
    SEED(record, {.kind = RECORD_OBJECT_PUT,
                  .key = "/pods/default/web",
                  .origin = "cloud",
                  .sequence = 3,
                  .time_ms = 4,
                  .trace = 5,
                  .body = put});
    SEED(setting, {.name = "s", .value = -1});
    const struct record record = {.kind = RECORD_SETTING, .key = "s", .body = last};
    struct bytes setting;
    CHECK(codec_record_build(codec, &record, &setting) == 0);
    const struct bytes records[] = {setting, setting};
    const struct sequenced sequenced[] = {{2, setting}, {3, setting}};
    SEED(command,
         {.time_ms = 1, .origin = 2, .sequence = 3, .records = records, .record_count = 2});
    const struct bytes command = last;
    SEED(forward, {.origin = 1, .sequence = 2, .command = command, .status = -3, .leader = 4});
    SEED(object_remove, {.if_version = 1, .if_uid = "u", .reason = REMOVE_UNUSED});
    SEED(pod_status, {.uid = "u",
                      .phase = POD_RUNNING,
                      .pod_ip = "10.0.0.1",
                      .conditions = conditions,
                      .condition_count = 1,
                      .containers = containers,
                      .container_count = 2});
    SEED(pod_ended, {.uid = "u"});
    SEED(pod_attempt, {.uid = "u", .container = "main", .attempt = 2, .hash = 3, .time_ms = 4});
    SEED(node_status, {.conditions = conditions,
                       .condition_count = 1,
                       .addresses = pairs,
                       .address_count = 1,
                       .capacity = pairs,
                       .capacity_count = 2,
                       .allocatable = pairs,
                       .allocatable_count = 1,
                       .info = pairs,
                       .info_count = 2,
                       .labels = pairs,
                       .label_count = 1});
    SEED(edge_event, {.kind = "Pod", .name = "p", .type = "Warning", .reason = "R", .count = 3});
    SEED(verdict, {.uid = "u", .reachable = true, .conditions = conditions, .condition_count = 1});
    SEED(session_open, {.node = "n", .uid = "u", .replica = 1, .up_stream = 2, .up_position = 3});
    SEED(down_ack, {.node = "n", .epoch = 1, .stream = 2, .position = 3});
    SEED(batch, {.node = "n",
                 .epoch = 4,
                 .stream = 5,
                 .previous = 1,
                 .last = 3,
                 .tip = 3,
                 .records = sequenced,
                 .record_count = 2,
                 .digest = {1, 2}});
    const struct bytes batch = last;
    SEED(snapshot, {.stream = 1,
                    .position = 2,
                    .id = 3,
                    .step = SNAPSHOT_ROWS,
                    .records = sequenced,
                    .record_count = 2});
    SEED(stream_init, {.node = "n", .cluster = "c", .up_stream = 1});
    SEED(cluster_init, {.cluster = "c"});
    SEED(gap, {.first = 1, .last = 2});
    SEED(hello, {.version = 1,
                 .node = "n",
                 .cluster = "c",
                 .labels = pairs,
                 .label_count = 2,
                 .software = "v"});
    SEED(welcome, {.version = 1, .cluster = "c", .epoch = 2, .mode = WELCOME_SNAPSHOT});
    SEED(ack, {.stream = 1, .position = 2, .refused = true});
    SEED(ping, {.time_ms = 1, .position = 2});
    SEED(bye, {.code = BYE_REPLACED, .reason = "newer session", .retry_ms = 1});
    SEED(peer_hello, {.version = 1,
                      .cluster = "c",
                      .replica = 2,
                      .address = "a:1",
                      .members = numbers,
                      .member_count = 2,
                      .level = 1,
                      .software = "1.0"});
    const struct raft_wire_entry entries[] = {{1, 1, command}, {2, 2, bytes_text("barrier.")}};
    const struct raft_wire_server servers[] = {{1, "127.0.0.1:1", 1}};
    SEED(raft_wire, {.type = 1,
                     .server_id = 1,
                     .server_address = "a:1",
                     .term = 2,
                     .entries = entries,
                     .entry_count = 2,
                     .conf = servers,
                     .conf_count = 1,
                     .data = setting});
    SEED(read_index, {.request = 1, .index = 2});
    SEED(sessions, {.replica = 1,
                    .full = true,
                    .opened = texts,
                    .opened_count = 2,
                    .epochs = numbers,
                    .closed = texts,
                    .closed_count = 1});
    SEED(peer_status, {.replica = 2,
                       .software = "1.0",
                       .term = 3,
                       .leader = 1,
                       .last = 9,
                       .commit = 8,
                       .applied = 7,
                       .standing = STANDING_BEHIND,
                       .percent = 40});
    SEED(member_ask, {.request = 1, .operation = 6, .replica = 4, .address = "10.0.0.4:10010", .key = "0f"});
    SEED(member_answer, {.request = 1, .status = 2, .message = "replica 4 is behind"});
    SEED(member_key, {.replica = 3,
                      .standing = MEMBER_KEY_MEMBER,
                      .key = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"});
    SEED(state_ask, {.request = 1,
                     .needed = 2,
                     .format = 1,
                     .from = bytes_text("a"),
                     .to = bytes_text("b"),
                     .has = true,
                     .digest = {1, 2}});
    SEED(state_range, {.request = 1,
                       .position = 2,
                       .format = 1,
                       .to = bytes_text("b"),
                       .digest = {1, 2},
                       .rows = bytes_text("rows"),
                       .row_count = 1});
    const uint8_t frame = FUZZ_CODEC_frame;
    CHECK(codec_frame_build(codec, WIRE_STATE_RANGE, last, &last) == 0);
    seed_write("frame-state", &frame, 1, last);
    CHECK(codec_frame_build(codec, WIRE_APPEND, batch, &last) == 0);
    seed_write("frame", &frame, 1, last);
    codec_destroy(codec);
}

/* -- the log --------------------------------------------------------------------------------- */

static struct sim sim;
static struct disk_sim disk;
static struct log written;

static void run(void)
{
    while (sim_step(&sim)) {
    }
}

static void append(uint32_t count, uint32_t payload_bytes)
{
    static const uint8_t payload[4096] = {'k', 'e', 'l', 'p'};
    const struct bytes piece = bytes_of(payload, payload_bytes);
    struct log_entry entries[8];
    for (uint32_t i = 0; i < count; i++) {
        entries[i] = (struct log_entry){
            .term = 1 + i, .type = LOG_TYPE_UP, .piece_count = 1, .pieces = &piece};
    }
    struct log_request request = {0};
    CHECK(log_append(&written, &request, entries, count) == 0);
    run();
}

/* Its frames, with their batches as fuzz_log wants them. */
static struct bytes frames_of(uint64_t sequence, uint8_t **out_file)
{
    char name[SEGMENT_NAME_BYTES];
    char path[64];
    size_t size;
    segment_name_format(sequence, name);
    snprintf(path, sizeof path, "/log/%s", name);
    disk_sim_peek(&disk, path, out_file, &size);
    CHECK(size == SEGMENT_BYTES_MIN);
    uint32_t offset = SEGMENT_HEADER_BYTES;
    while (offset < size && (*out_file)[offset + 24] != LOG_TYPE_NONE) {
        uint8_t *frame = *out_file + offset;
        put_le32(frame + 28, get_le32(frame + 28) == offset ? 0 : 1);
        offset += (uint32_t)segment_frame_bytes(get_le32(frame + 4));
    }
    return bytes_of(*out_file + SEGMENT_HEADER_BYTES, offset - SEGMENT_HEADER_BYTES);
}

static void seeds_log(void)
{
    const struct log_options options = {
        .directory = "/log", .owner = {1, 2, 3}, .segment_bytes = SEGMENT_BYTES_MIN};
    struct log_recovery recovery;
    struct log_request request = {0};
    uint8_t *file;
    sim_init(&sim, 1);
    disk_sim_init(&disk, &sim);
    CHECK(log_open(&written, &disk.disk, &options, &recovery) == 0);
    run();
    append(1, 4);
    append(3, 20);
    CHECK(log_truncate(&written, &request, 3) == 0);
    run();
    append(2, 0);
    log_tick(&written, 0);
    run();
    log_tick(&written, 0);
    run();
    struct bytes frames = frames_of(1, &file);
    const uint8_t plain = 1;
    seed_write("truncated-marked", &plain, 1, frames);
    const uint8_t ends = 1 | 8 | 32;
    seed_write("short", &ends, 1, frames);
    const uint8_t recycled = 1 | 16 | 64;
    seed_write("recycled", &recycled, 1, frames);
    uint8_t *torn = malloc(frames.size);
    CHECK(torn != NULL);
    memcpy(torn, frames.data, frames.size);
    torn[(frames.size - SEGMENT_FRAME_HEADER_BYTES) - SEGMENT_FRAME_HEADER_BYTES + 25] = 0xff;
    seed_write("dead-before-a-mark", &plain, 1, bytes_of(torn, frames.size));
    torn[SEGMENT_FRAME_HEADER_BYTES + 8 + 25] = 0xff; /* the first frame of the batch of three */
    seed_write(
        "dead-in-a-batch", &plain, 1,
        bytes_of(torn, SEGMENT_FRAME_HEADER_BYTES + 8 + 3 * (SEGMENT_FRAME_HEADER_BYTES + 24)));
    free(torn);
    uint8_t header[1 + 48] = {1 | 4};
    memcpy(header + 1, file, 48);
    header[1 + 32] = 2; /* its sequence in fuzz_log */
    seed_write("header", header, sizeof header, frames);
    free(file);

    /* a segment that says it is whole, and the next one: real ones of that kind are 16 KiB long */
    static const struct segment_frame two[] = {
        {.index = 1, .term = 1, .type = LOG_TYPE_UP},
        {.index = 2, .type = LOG_TYPE_SEAL, .batch = 1},
        {.index = 2, .term = 1, .type = LOG_TYPE_UP},
        {.index = 3, .term = 2, .type = LOG_TYPE_UP, .batch = 1},
    };
    uint8_t both[4 * SEGMENT_FRAME_HEADER_BYTES];
    for (uint32_t i = 0; i < 4; i++) {
        segment_frame_encode(&two[i], NULL, 0, 0, 0, both + i * SEGMENT_FRAME_HEADER_BYTES);
    }
    const uint8_t half[2] = {1 | 2, 129};
    seed_write("sealed", half, sizeof half, bytes_of(both, sizeof both));
    disk_sim_crash(&disk, DISK_SIM_KILL);
    log_forget(&written);
    disk_sim_deinit(&disk);
    sim_deinit(&sim);
}

/* -- a peer ---------------------------------------------------------------------------------- */

static void seed_raft(struct codec *codec, const char *name, const struct raft_message *message,
                      unsigned count)
{
    const struct raft_server sender = {.id = 1, .address = (char[]){"a:1"}};
    struct bytes built;
    CHECK(raft_wire_build(codec, &sender, 1, message, 0, count, &built) == 0);
    seed_write(name, (const uint8_t *)"r", 1, built);
}

static void seeds_peer(void)
{
    struct codec *codec = codec_create();
    struct raft_configuration members;
    struct raft_buffer encoded;
    raft_configuration_init(&members);
    CHECK(raft_configuration_add(&members, 1, "a:1", RAFT_VOTER) == 0);
    CHECK(raft_configuration_add(&members, 2, "b:2", RAFT_SPARE) == 0);
    CHECK(raft_configuration_encode(&members, &encoded) == 0);
    seed_write("members", (const uint8_t *)"m", 1, bytes_of(encoded.base, encoded.len));

    struct raft_entry entries[2] = {
        {.term = 1, .type = RAFT_CHANGE, .buf = encoded},
        {.term = 2, .type = RAFT_COMMAND, .buf = {.base = (char[]){"12345678"}, .len = 8}},
    };
    seed_raft(
        codec, "append",
        &(struct raft_message){.type = RAFT_IO_APPEND_ENTRIES,
                               .append_entries = {.term = 2, .entries = entries, .n_entries = 2}},
        2);
    seed_raft(codec, "appended",
              &(struct raft_message){
                  .type = RAFT_IO_APPEND_ENTRIES_RESULT,
                  .append_entries_result = {.term = 2, .rejected = 3, .last_log_index = 4}},
              0);
    seed_raft(codec, "ask",
              &(struct raft_message){.type = RAFT_IO_REQUEST_VOTE,
                                     .request_vote = {.term = 3,
                                                      .candidate_id = 1,
                                                      .last_log_index = 2,
                                                      .last_log_term = 2,
                                                      .pre_vote = true}},
              0);
    seed_raft(codec, "vote",
              &(struct raft_message){.type = RAFT_IO_REQUEST_VOTE_RESULT,
                                     .request_vote_result = {.term = 3, .vote_granted = true}},
              0);
    seed_raft(
        codec, "leave",
        &(struct raft_message){.type = RAFT_IO_TIMEOUT_NOW,
                               .timeout_now = {.term = 3, .last_log_index = 2, .last_log_term = 2}},
        0);

    /* is it still the leader? and its answer */
    const struct raft_server sender = {.id = 1, .address = (char[]){"a:1"}};
    struct bytes ping;
    CHECK(raft_wire_build_ping(codec, &sender, RAFT_WIRE_PING, 3, 7, &ping) == 0);
    seed_write("read-ping", (const uint8_t *)"r", 1, ping);
    CHECK(raft_wire_build_ping(codec, &sender, RAFT_WIRE_PONG, 3, 7, &ping) == 0);
    seed_write("read-pong", (const uint8_t *)"r", 1, ping);

    struct manifest_file files[] = {{.name = "CURRENT", .size_bytes = 16, .crc32c = 1},
                                    {.name = "000007.sst", .size_bytes = 1000, .crc32c = 2}};
    const struct manifest manifest = {
        .epoch = 1, .applied_index = 2, .file_count = 2, .files = files};
    uint8_t bytes[256];
    CHECK(manifest_bytes(&manifest) <= sizeof bytes);
    manifest_encode(&manifest, bytes);
    const struct bytes listed = bytes_of(bytes, manifest_bytes(&manifest));
    seed_write("manifest", (const uint8_t *)"f", 1, listed);
    seed_raft(
        codec, "install",
        &(struct raft_message){.type = RAFT_IO_INSTALL_SNAPSHOT,
                               .install_snapshot = {.term = 3,
                                                    .last_index = 2,
                                                    .last_term = 2,
                                                    .conf_index = 1,
                                                    .conf = members,
                                                    .data = {.base = bytes, .len = listed.size}}},
        0);
    raft_free(encoded.base);
    raft_configuration_close(&members);
    codec_destroy(codec);
}

/* -- a session ------------------------------------------------------------------------------- */

static uint8_t talk[4096];
static size_t talk_size;

static void talk_add(struct codec *codec, uint16_t kind, struct bytes body)
{
    struct bytes frame;
    CHECK(codec_frame_build(codec, kind, body, &frame) == 0);
    CHECK(talk_size + 2 + frame.size <= sizeof talk);
    talk[talk_size] = (uint8_t)frame.size;
    talk[talk_size + 1] = (uint8_t)(frame.size >> 8);
    memcpy(talk + talk_size + 2, frame.data, frame.size);
    talk_size += 2 + frame.size;
}

static void seeds_session(void)
{
    struct codec *codec = codec_create();
    const struct gap gap = {.first = 1, .last = 2};
    const struct ping ping = {.time_ms = 1, .position = 2};
    const struct ack ack = {.stream = 5, .position = 20};
    const struct bye bye = {.code = BYE_SHUTDOWN, .reason = "r"};
    struct record record = {.kind = RECORD_GAP, .key = "k", .origin = "edge-1", .sequence = 4};
    struct bytes bytes;
    CHECK(codec_gap_build(codec, &gap, &record.body) == 0);
    CHECK(codec_record_build(codec, &record, &bytes) == 0);
    const struct sequenced sequenced = {.sequence = 4, .record = bytes};
    const struct batch batch = {.node = "edge-1",
                                .stream = 7,
                                .previous = 3,
                                .last = 4,
                                .tip = 4,
                                .records = &sequenced,
                                .record_count = 1};
    struct hello hello = {.version = WIRE_VERSION,
                          .node = "edge-1",
                          .cluster = "c",
                          .down_stream = 5,
                          .down_position = 15,
                          .up_stream = 7,
                          .up_first = 3,
                          .up_last = 4,
                          .software = "v"};
    for (uint8_t flags = 0; flags < 16; flags = (uint8_t)(flags * 2 + (flags == 0))) {
        char name[16];
        snprintf(name, sizeof name, "flags-%u", flags);
        talk[0] = flags;
        talk_size = 1;
        CHECK(codec_hello_build(codec, &hello, &bytes) == 0);
        talk_add(codec, WIRE_HELLO, bytes);
        CHECK(codec_ping_build(codec, &ping, &bytes) == 0);
        talk_add(codec, WIRE_PING, bytes);
        CHECK(codec_batch_build(codec, &batch, &bytes) == 0);
        talk_add(codec, WIRE_APPEND, bytes);
        CHECK(codec_ack_build(codec, &ack, &bytes) == 0);
        talk_add(codec, WIRE_ACK, bytes);
        CHECK(codec_bye_build(codec, &bye, &bytes) == 0);
        talk_add(codec, WIRE_BYE, bytes);
        seed_write(name, talk, talk_size, (struct bytes){0});
        hello.down_position = 0; /* the others need a snapshot */
    }
    codec_destroy(codec);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "codec") == 0) {
        directory = argv[2];
        seeds_codec();
    } else if (argc == 3 && strcmp(argv[1], "log") == 0) {
        directory = argv[2];
        seeds_log();
    } else if (argc == 3 && strcmp(argv[1], "peer") == 0) {
        directory = argv[2];
        seeds_peer();
    } else if (argc == 3 && strcmp(argv[1], "session") == 0) {
        directory = argv[2];
        seeds_session();
    } else {
        fprintf(stderr, "usage: seeds codec|log|peer|session DIRECTORY\n");
        return 2;
    }
    return 0;
}
