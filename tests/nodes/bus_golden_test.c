/* Golden conversations: what clients say to an edge by MQTT, and what they hear, to the byte.
 *
 * Claim: for every topic and rule of both generations, what a mapper of KubeEdge hears is what is written down.
 * Method: a file is a conversation; its lines that begin with "<" are what is heard, all others are done in turn
 * against the bus over the real state of an edge. The two must be equal.
 *
 *      bus_golden_test FILE...            compare; the first line that differs is shown
 *      bus_golden_test --write FILE...    write down what is heard now
 *
 *      config topics=both window=0        first line: generations that are spoken, ms in which telemetry is gathered
 *      wish NS/NAME UID DESCRIPTION PROPERTY:TYPE[?][=DESIRED]@REVISION ... [keep]      "_" is empty, ? is optional
 *      unwish NS/NAME
 *      > TOPIC PAYLOAD                    a client says this
 *      pass MS                            time passes
 *      disk stop | go                     what is appended becomes durable later, or at once
 *      broker down | up | stop | go       connections end, begin; it takes messages later, or at once
 *      crash                              power loss and a start; the log survives
 *      up                                 what waits for the cloud, as "^" lines
 */
#include "nodes/edge/bus.h"
#include "schemas/check.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define NODE   "edge-1"
#define STREAM 5u

struct rig {
    struct store_sim *sim;
    struct store *store;
    struct edge_machine *machine;
    struct bus *bus;
    struct bus_config config;
    struct codec *codec; /* of one line */
    struct bytes *log;   /* [i] has index i + 1 */
    size_t log_count;
    size_t own[8192]; /* appended by the bus: 1, else 0 */
    size_t applied;
    uint64_t down;
    struct tag digest;
    struct {
        char key[256];
        char uid[64];
        uint64_t tag;
    } wishes[16];
    struct bus_time now;
    bool disk_stopped;
    bool broker_stopped;
    uint64_t untaken[512];
    size_t untaken_count;
    FILE *out; /* the transcript */
};

/* -- the state of an edge ---------------------------------------------------------------------------------- */

static void rig_apply(struct rig *rig)
{
    while (rig->applied < rig->log_count) {
        struct edge_applied applied;
        CHECK(edge_machine_apply(rig->machine, rig->applied + 1, rig->log[rig->applied],
                                 &applied) == STATUS_OK);
        CHECK(!applied.digest_differs);
        rig->applied++;
        if (rig->own[rig->applied - 1] != 0) {
            bus_applied(rig->bus);
        } else if (rig->bus != NULL) {
            bus_wish_changed(rig->bus, NULL, false);
        }
    }
}

static void rig_append(struct rig *rig, uint16_t kind, const char *key, struct bytes body, bool own)
{
    const struct record record = {
        .kind = kind, .key = key, .origin = NODE, .time_ms = rig->now.wall_ms, .body = body};
    struct bytes bytes;
    CHECK(codec_record_build(rig->codec, &record, &bytes) == STATUS_OK);
    rig->log = realloc(rig->log, (rig->log_count + 1) * sizeof *rig->log);
    uint8_t *copy = malloc(bytes.size);
    CHECK(rig->log != NULL && copy != NULL &&
          rig->log_count < sizeof rig->own / sizeof rig->own[0]);
    memcpy(copy, bytes.data, bytes.size);
    rig->own[rig->log_count] = own;
    rig->log[rig->log_count++] = bytes_of(copy, bytes.size);
}
#define RIG_APPEND(rig, kind, key, noun, ...)                                                      \
    do {                                                                                           \
        const struct noun value_ = __VA_ARGS__;                                                    \
        struct bytes body_;                                                                        \
        CHECK(codec_##noun##_build((rig)->codec, &value_, &body_) == STATUS_OK);                   \
        rig_append(rig, kind, key, body_, false);                                                  \
    } while (0)

static int door_append(void *context, uint16_t kind, const char *key, struct bytes body)
{
    rig_append(context, kind, key, body, true);
    return 0;
}

static int door_publish(void *context, uint32_t broker, uint64_t id, const char *topic,
                        struct bytes payload)
{
    struct rig *rig = context;
    CHECK(broker == 0 && rig->untaken_count < 512);
    fprintf(rig->out, "< %s %.*s\n", topic, (int)payload.size, (const char *)payload.data);
    rig->untaken[rig->untaken_count++] = id;
    return 0;
}

static void rig_start(struct rig *rig)
{
    CHECK(store_sim_open(rig->sim, "edge", EDGE_FORMAT, &rig->store) == STATUS_OK);
    CHECK(edge_machine_open(rig->store, NULL, &rig->machine) == STATUS_OK);
    rig->applied = edge_machine_position(rig->machine);
    memset(rig->own, 0, sizeof rig->own);
    rig_apply(rig);
}

static void rig_start_bus(struct rig *rig)
{
    rig->bus = bus_create(&rig->config, &(struct bus_door){.context = rig,
                                                           .machine = rig->machine,
                                                           .append = door_append,
                                                           .publish = door_publish});
    bus_broker_up(rig->bus, 0);
}

static void rig_stop(struct rig *rig)
{
    bus_destroy(rig->bus);
    rig->bus = NULL;
    edge_machine_close(rig->machine);
    store_close(rig->store);
    rig->untaken_count = 0;
}

/* Everything that can happen now happens. */
static void rig_settle(struct rig *rig)
{
    for (int round = 0; round < 20; round++) {
        if (!rig->disk_stopped) {
            rig_apply(rig);
        }
        bus_run(rig->bus, rig->now);
        for (size_t i = 0; !rig->broker_stopped && i < rig->untaken_count; i++) {
            bus_taken(rig->bus, 0, rig->untaken[i]);
        }
        rig->untaken_count = rig->broker_stopped ? rig->untaken_count : 0;
    }
}

/* -- lines -------------------------------------------------------------------------------------------------- */

static void rig_down(struct rig *rig, struct bytes record)
{
    const struct sequenced one = {.sequence = rig->down + 1, .record = record};
    rig->down++;
    RIG_APPEND(rig, RECORD_DOWN_BATCH, "", batch,
               {.node = NODE,
                .stream = STREAM,
                .previous = rig->down - 1,
                .last = rig->down,
                .tip = rig->down,
                .records = &one,
                .record_count = 1,
                .digest = rig->digest});
}

static size_t rig_wish_find(struct rig *rig, const char *id)
{
    for (size_t i = 0; i < 16; i++) {
        if (rig->wishes[i].tag == 0 || strcmp(rig->wishes[i].key, id) == 0) {
            return i;
        }
    }
    CHECK(false);
}

static void line_unwish(struct rig *rig, char *words)
{
    const size_t at = rig_wish_find(rig, strtok(words, " "));
    CHECK(rig->wishes[at].tag != 0);
    rig->digest = tag_subtract(rig->digest, (struct tag){.low = rig->wishes[at].tag});
    struct record record = {
        .kind = RECORD_OBJECT_REMOVE,
        .key = codec_print(rig->codec, "devices.kubeedge.io/devices/%s", rig->wishes[at].key)};
    const struct object_remove remove = {.if_uid = rig->wishes[at].uid};
    struct bytes bytes;
    CHECK(codec_object_remove_build(rig->codec, &remove, &record.body) == STATUS_OK);
    CHECK(codec_record_build(rig->codec, &record, &bytes) == STATUS_OK);
    rig_down(rig, bytes);
    rig->wishes[at].key[0] = '\0';
}

static struct device_property property_of(char *word)
{
    struct device_property property = {.name = word, .type = "", .desired = "", .revision = 1};
    char *type = strchr(word, ':');
    char *revision = strrchr(word, '@');
    CHECK(type != NULL && revision != NULL);
    *type++ = '\0';
    *revision++ = '\0';
    property.revision = strtoull(revision, NULL, 10);
    char *desired = strchr(type, '=');
    if (desired != NULL) {
        *desired++ = '\0';
        property.has_desired = true;
        property.desired = desired;
    }
    char *optional = strchr(type, '?');
    if (optional != NULL) {
        *optional = '\0';
        property.optional = true;
    }
    property.type = type;
    return property;
}

static void line_wish(struct rig *rig, char *words)
{
    struct device_property properties[8];
    struct device_wish wish = {.properties = properties};
    char *id = strtok(words, " ");
    char *uid = strtok(NULL, " ");
    char *description = strtok(NULL, " ");
    CHECK(id != NULL && uid != NULL && description != NULL);
    wish.description = strcmp(description, "_") == 0 ? "" : description;
    for (char *word; (word = strtok(NULL, " ")) != NULL;) {
        if (strcmp(word, "keep") == 0) {
            wish.keep_values = true;
        } else {
            properties[wish.property_count++] = property_of(word);
        }
    }
    const size_t at = rig_wish_find(rig, id);
    if (rig->wishes[at].tag != 0) {
        rig->digest = tag_subtract(rig->digest, (struct tag){.low = rig->wishes[at].tag});
    }
    snprintf(rig->wishes[at].key, sizeof rig->wishes[at].key, "%s", id);
    snprintf(rig->wishes[at].uid, sizeof rig->wishes[at].uid, "%s", uid);
    rig->wishes[at].tag = rig->down + 17;
    rig->digest = tag_add(rig->digest, (struct tag){.low = rig->wishes[at].tag});
    const char *slash = strchr(id, '/');
    CHECK(slash != NULL);
    const struct object_put put = {
        .object = {.group = "devices.kubeedge.io",
                   .resource = "devices",
                   .namespace_ = codec_print(rig->codec, "%.*s", (int)(slash - id), id),
                   .name = slash + 1,
                   .uid = uid,
                   .node_name = NODE,
                   .tag = {.low = rig->wishes[at].tag},
                   .device = &wish}};
    struct record record = {.kind = RECORD_OBJECT_PUT,
                            .key = codec_print(rig->codec, "devices.kubeedge.io/devices/%s", id)};
    struct bytes bytes;
    CHECK(codec_object_put_build(rig->codec, &put, &record.body) == STATUS_OK);
    CHECK(codec_record_build(rig->codec, &record, &bytes) == STATUS_OK);
    rig_down(rig, bytes);
}

/* What waits for the cloud: statuses by their twins, events one by one. */
static void line_up(struct rig *rig)
{
    struct batch batch;
    CHECK(edge_up_read(rig->machine, edge_machine_meta(rig->machine)->up_acked, 1u << 20,
                       rig->codec, &batch) == STATUS_OK);
    for (uint32_t i = 0; i < batch.record_count; i++) {
        struct record record;
        CHECK(codec_record_read(rig->codec, batch.records[i].record, &record) == STATUS_OK);
        if (record.kind == RECORD_DEVICE_VALUE) {
            struct device_value value;
            CHECK(codec_device_value_read(rig->codec, record.body, &value) == STATUS_OK);
            fprintf(rig->out, "^ value %s %s=%s\n", record.key, value.key, value.value);
        } else if (record.kind == RECORD_MQTT_MESSAGE) {
            struct mqtt_message message;
            CHECK(codec_mqtt_message_read(rig->codec, record.body, &message) == STATUS_OK);
            fprintf(rig->out, "^ message %s %.*s\n", message.topic, (int)message.payload.size,
                    (const char *)message.payload.data);
        } else if (record.kind == RECORD_DEVICE_STATUS) {
            struct device_status status;
            CHECK(codec_device_status_read(rig->codec, record.body, &status) == STATUS_OK);
            fprintf(rig->out, "^ status %s state=%s", record.key, status.state);
            for (uint32_t t = 0; t < status.twin_count; t++) {
                fprintf(rig->out, " %s=%s", status.twins[t].key, status.twins[t].actual);
            }
            fprintf(rig->out, "\n");
        }
    }
}

static void line_config(struct rig *rig, const char *words)
{
    static const char *const topics[] = {"namespaced", "plain", "both"};
    char name[32];
    CHECK(sscanf(words, "topics=%31s window=%" SCNu32, name, &rig->config.window_ms) == 2);
    for (int i = 0; i < 3; i++) {
        rig->config.topics =
            strcmp(name, topics[i]) == 0 ? (enum device_topics)i : rig->config.topics;
    }
    RIG_APPEND(rig, RECORD_STREAM_INIT, "", stream_init,
               {.node = NODE, .cluster = "c", .up_stream = 7});
    RIG_APPEND(rig, RECORD_SNAPSHOT, "", snapshot,
               {.stream = STREAM, .id = 1, .step = SNAPSHOT_BEGIN});
    RIG_APPEND(rig, RECORD_SNAPSHOT, "", snapshot,
               {.stream = STREAM, .id = 1, .step = SNAPSHOT_END});
    rig_apply(rig);
    rig_start_bus(rig);
}

static void line_broker(struct rig *rig, const char *what)
{
    rig->broker_stopped =
        strcmp(what, "stop") == 0 || (rig->broker_stopped && strcmp(what, "go") != 0);
    if (strcmp(what, "down") == 0) {
        bus_broker_down(rig->bus, 0);
        rig->untaken_count = 0;
    } else if (strcmp(what, "up") == 0) {
        bus_broker_up(rig->bus, 0);
    }
}

static void rig_line(struct rig *rig, char *line)
{
    char *rest = strchr(line, ' ');
    rest = rest == NULL ? line + strlen(line) : rest + 1;
    const size_t size = strcspn(line, " ");
    const struct bytes verb = bytes_of(line, size);
    if (line[0] == '\0' || line[0] == '#') {
        return;
    }
    if (bytes_equal_text(verb, "config")) {
        line_config(rig, rest);
    } else if (bytes_equal_text(verb, ">")) {
        char *payload = strchr(rest, ' ');
        CHECK(payload != NULL);
        *payload++ = '\0';
        bus_message(rig->bus, rest, bytes_text(payload), rig->now);
    } else if (bytes_equal_text(verb, "wish")) {
        line_wish(rig, rest);
    } else if (bytes_equal_text(verb, "unwish")) {
        line_unwish(rig, rest);
    } else if (bytes_equal_text(verb, "pass")) {
        const uint64_t ms = strtoull(rest, NULL, 10);
        rig->now.mono_ms += ms;
        rig->now.wall_ms += (int64_t)ms;
    } else if (bytes_equal_text(verb, "disk")) {
        rig->disk_stopped = strcmp(rest, "stop") == 0;
    } else if (bytes_equal_text(verb, "broker")) {
        line_broker(rig, rest);
    } else if (bytes_equal_text(verb, "crash")) {
        rig_stop(rig);
        (void)store_sim_crash(rig->sim, 1);
        rig_start(rig);
        rig_start_bus(rig);
    } else if (bytes_equal_text(verb, "up")) {
        rig_settle(rig);
        line_up(rig);
    } else {
        fprintf(stderr, "what is this? %s\n", line);
        exit(2);
    }
    rig_settle(rig);
    codec_reset(rig->codec);
}

/* -- files --------------------------------------------------------------------------------------------------- */

/* Play a conversation.
 *   answers  its transcript, to be freed */
static char *play(const char *text)
{
    static struct rig memory;
    struct rig *rig = &memory;
    char *transcript = NULL;
    size_t transcript_size = 0;
    memset(rig, 0, sizeof *rig);
    rig->config = (struct bus_config){.node = NODE, .broker_count = 1};
    rig->now = (struct bus_time){.mono_ms = 1000, .wall_ms = 1649387604120};
    rig->sim = store_sim_create();
    rig->codec = codec_create();
    rig->out = open_memstream(&transcript, &transcript_size);
    CHECK(rig->out != NULL);
    rig_start(rig);

    char *copy = strdup(text);
    char *next = copy;
    CHECK(copy != NULL);
    for (char *line; (line = strsep(&next, "\n")) != NULL;) {
        if (line[0] == '<' || line[0] == '^' || (next == NULL && line[0] == '\0')) {
            continue; /* heard, not done */
        }
        fprintf(rig->out, "%s\n", line);
        rig_line(rig, line);
    }
    free(copy);
    rig_stop(rig);
    store_sim_destroy(rig->sim);
    codec_destroy(rig->codec);
    for (size_t i = 0; i < rig->log_count; i++) {
        free((void *)(uintptr_t)rig->log[i].data);
    }
    free(rig->log);
    CHECK(fclose(rig->out) == 0);
    return transcript;
}

static char *read_file(const char *path)
{
    char *text = NULL;
    size_t size = 0;
    FILE *file = fopen(path, "re");
    if (file == NULL || getdelim(&text, &size, '\0', file) < 0) {
        perror(path);
        exit(2);
    }
    fclose(file);
    return text;
}

/* Show the first line that differs.
 *   answers  whether none does */
static bool equal(const char *path, const char *wanted, const char *got)
{
    for (int number = 1;; number++) {
        const size_t want_size = strcspn(wanted, "\n");
        const size_t got_size = strcspn(got, "\n");
        if (want_size != got_size || memcmp(wanted, got, got_size) != 0) {
            printf("FAILED %s:%d\n  wanted: %.*s\n  got:    %.*s\n", path, number, (int)want_size,
                   wanted, (int)got_size, got);
            return false;
        }
        if (wanted[want_size] == '\0' || got[got_size] == '\0') {
            return wanted[want_size] == got[got_size];
        }
        wanted += want_size + 1;
        got += got_size + 1;
    }
}

int main(int argc, char **argv)
{
    const bool write = argc > 1 && strcmp(argv[1], "--write") == 0;
    bool failed = argc < 2 + write;
    setenv("TZ", "UTC", 1);
    for (int i = 1 + write; i < argc; i++) {
        char *wanted = read_file(argv[i]);
        char *got = play(wanted);
        if (write) {
            FILE *file = fopen(argv[i], "we");
            CHECK(file != NULL && fputs(got, file) >= 0 && fclose(file) == 0);
        } else if (equal(argv[i], wanted, got)) {
            printf("ok %s\n", argv[i]);
        } else {
            failed = true;
        }
        free(wanted);
        free(got);
    }
    return failed;
}
