/* Golden conversations: what clients say to an edge by MQTT, and what they hear, to the byte.
 *
 * Claim: for every topic and rule of both generations, what a mapper of KubeEdge hears is what is written down.
 * Method: a file is a conversation; its lines that begin with "<" are what is heard, all others are done in turn
 * against the bus over the real state of an edge. The two must be equal: at the one broker there is (ours, or another),
 * and at each of two.
 *
 *      bus_golden_test FILE...            compare; the first line that differs is shown
 *      bus_golden_test --write FILE...    write down what is heard now
 *
 *      config topics=both window=0        first line: generations that are spoken, ms in which telemetry is gathered
 *             also=plain                  and it is played on plain topics, too, which must sound the same but for the
 *                                         node's topics: all devices are in the namespace "default"
 *      wish NS/NAME UID DESCRIPTION PROPERTY:TYPE[?][=DESIRED]@REVISION ... [keep]      "_" is empty, ? is optional
 *      unwish NS/NAME
 *      > TOPIC PAYLOAD                    a client says this
 *      pass MS                            time passes
 *      disk stop | go                     what is appended becomes durable later, or at once
 *      broker down | up | stop | go       connections end, begin; it takes messages later, or at once
 *      crash                              power loss and a start; the log survives
 *      up                                 what waits for the cloud, as "^" lines
 */
#include "schemas/check.h"
#include "tests/nodes/bus_rig.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define DEVICE_TOPIC  "$hw/events/device/"
#define DEFAULT_TOPIC DEVICE_TOPIC "default/"
#define NODE_TOPIC    "$hw/events/node/"

/* How a conversation is played. */
struct stage {
    uint32_t broker_count;
    bool plain; /* topics are written down as namespaced ones */
    FILE *out[BUS_BROKERS];
};

/* -- lines -------------------------------------------------------------------------------------------------- */

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
    rig_wish(rig, id, uid, &wish);
}

static void stage_print(const struct stage *stage, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void stage_print(const struct stage *stage, const char *format, ...)
{
    for (uint32_t i = 0; i < stage->broker_count; i++) {
        va_list arguments;
        va_start(arguments, format);
        vfprintf(stage->out[i], format, arguments);
        va_end(arguments);
    }
}

/* What waits for the cloud: statuses by their twins, events one by one. */
static void line_up(struct rig *rig, const struct stage *stage)
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
            stage_print(stage, "^ value %s %s=%s\n", record.key, value.key, value.value);
        } else if (record.kind == RECORD_MQTT_MESSAGE) {
            struct mqtt_message message;
            CHECK(codec_mqtt_message_read(rig->codec, record.body, &message) == STATUS_OK);
            stage_print(stage, "^ message %s %.*s\n", message.topic, (int)message.payload.size,
                        (const char *)message.payload.data);
        } else if (record.kind == RECORD_DEVICE_STATUS) {
            struct device_status status;
            CHECK(codec_device_status_read(rig->codec, record.body, &status) == STATUS_OK);
            stage_print(stage, "^ status %s state=%s", record.key, status.state);
            for (uint32_t t = 0; t < status.twin_count; t++) {
                stage_print(stage, " %s=%s", status.twins[t].key, status.twins[t].actual);
            }
            stage_print(stage, "\n");
        }
    }
}

/* Whether it is a plain topic of a device; that of no device is the same in both generations. */
static bool topic_is_plain(const struct stage *stage, const char *topic)
{
    const size_t size = strlen(DEVICE_TOPIC);
    return stage->plain && strncmp(topic, DEVICE_TOPIC, size) == 0 && topic[size] != '/';
}

static void on_given(void *context, uint32_t broker, const char *topic, const char *payload)
{
    const struct stage *stage = context;
    FILE *out = stage->out[broker];
    if (topic_is_plain(stage, topic)) {
        fprintf(out, "< %s%s %s\n", DEFAULT_TOPIC, topic + strlen(DEVICE_TOPIC), payload);
    } else if (!stage->plain || strncmp(topic, NODE_TOPIC, strlen(NODE_TOPIC)) != 0) {
        fprintf(out, "< %s %s\n", topic, payload);
    }
}

static void line_config(struct rig *rig, const char *words, struct stage *stage)
{
    static const char *const topics[] = {"namespaced", "plain", "both"};
    struct bus_config config = {.broker_count = stage->broker_count,
                                .brokers = {"external", "internal"}};
    char name[32];
    CHECK(sscanf(words, "topics=%31s window=%" SCNu32, name, &config.window_ms) == 2);
    for (int i = 0; i < 3; i++) {
        config.topics = strcmp(name, topics[i]) == 0 ? (enum device_topics)i : config.topics;
    }
    config.topics = stage->plain ? DEVICE_TOPICS_PLAIN : config.topics;
    rig_init(rig, &config);
    rig->context = stage;
    rig->on_given = on_given;
}

static void line_say(struct rig *rig, char *topic, const struct stage *stage)
{
    char *payload = strchr(topic, ' ');
    CHECK(payload != NULL);
    *payload++ = '\0';
    const size_t cut = strlen(DEFAULT_TOPIC) - strlen(DEVICE_TOPIC);
    if (stage->plain && strncmp(topic, DEFAULT_TOPIC, strlen(DEFAULT_TOPIC)) == 0) {
        memmove(topic + cut, topic, strlen(DEVICE_TOPIC));
        topic += cut;
    }
    rig_say(rig, topic, payload);
}

/* The same happens to all of them. */
static void line_broker(struct rig *rig, const char *what)
{
    for (uint32_t i = 0; i < rig->config.broker_count; i++) {
        struct rig_broker *broker = &rig->brokers[i];
        broker->stopped = strcmp(what, "stop") == 0 || (broker->stopped && strcmp(what, "go") != 0);
        if (strcmp(what, "down") == 0) {
            rig_broker_down(rig, i);
        } else if (strcmp(what, "up") == 0) {
            bus_broker_up(rig->bus, i);
        }
    }
}

static void rig_line(struct rig *rig, char *line, struct stage *stage)
{
    char *rest = strchr(line, ' ');
    rest = rest == NULL ? line + strlen(line) : rest + 1;
    const size_t size = strcspn(line, " ");
    const struct bytes verb = bytes_of(line, size);
    if (line[0] == '\0' || line[0] == '#') {
        return;
    }
    if (bytes_equal_text(verb, "config")) {
        line_config(rig, rest, stage);
    } else if (bytes_equal_text(verb, ">")) {
        line_say(rig, rest, stage);
    } else if (bytes_equal_text(verb, "wish")) {
        line_wish(rig, rest);
    } else if (bytes_equal_text(verb, "unwish")) {
        rig_unwish(rig, rest);
    } else if (bytes_equal_text(verb, "pass")) {
        const uint64_t ms = strtoull(rest, NULL, 10);
        rig->now.mono_ms += ms;
        rig->now.wall_ms += (int64_t)ms;
    } else if (bytes_equal_text(verb, "disk")) {
        rig->disk_stopped = strcmp(rest, "stop") == 0;
    } else if (bytes_equal_text(verb, "broker")) {
        line_broker(rig, rest);
    } else if (bytes_equal_text(verb, "crash")) {
        rig_crash(rig, 0, 1); /* all is durable, unless the disk is stopped */
    } else if (bytes_equal_text(verb, "up")) {
        rig_settle(rig);
        line_up(rig, stage);
    } else {
        fprintf(stderr, "what is this? %s\n", line);
        exit(2);
    }
    rig_settle(rig);
}

/* -- files --------------------------------------------------------------------------------------------------- */

/* Play a conversation.
 *   out  a transcript for each broker, to be freed */
static void play(const char *text, struct stage stage, char *out[static BUS_BROKERS])
{
    static struct rig rig;
    size_t sizes[BUS_BROKERS];
    char *copy = strdup(text);
    char *next = copy;
    CHECK(copy != NULL);
    CHECK(strncmp(text, "config ", strlen("config ")) == 0);
    for (uint32_t i = 0; i < stage.broker_count; i++) {
        stage.out[i] = open_memstream(&out[i], &sizes[i]);
        CHECK(stage.out[i] != NULL);
    }
    for (char *line; (line = strsep(&next, "\n")) != NULL;) {
        if (line[0] == '<' || line[0] == '^' || (next == NULL && line[0] == '\0')) {
            continue; /* heard, not done */
        }
        stage_print(&stage, "%s\n", line);
        rig_line(&rig, line, &stage);
    }
    free(copy);
    rig_deinit(&rig);
    for (uint32_t i = 0; i < stage.broker_count; i++) {
        CHECK(fclose(stage.out[i]) == 0);
    }
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
 *   plain    but for what is heard on topics of the node
 *   answers  whether none does */
static bool equal(const char *path, const char *wanted, const char *got, bool plain)
{
    for (int number = 1;; number++) {
        const size_t want_size = strcspn(wanted, "\n");
        if (plain && strncmp(wanted, "< " NODE_TOPIC, strlen("< " NODE_TOPIC)) == 0) {
            wanted += want_size + (wanted[want_size] != '\0');
            continue;
        }
        const size_t got_size = strcspn(got, "\n");
        if (want_size != got_size || memcmp(wanted, got, got_size) != 0) {
            printf("FAILED %s:%d%s\n  wanted: %.*s\n  got:    %.*s\n", path, number,
                   plain ? ", on plain topics" : "", (int)want_size, wanted, (int)got_size, got);
            return false;
        }
        if (wanted[want_size] == '\0' || got[got_size] == '\0') {
            return wanted[want_size] == got[got_size];
        }
        wanted += want_size + 1;
        got += got_size + 1;
    }
}

/* Play it, and compare what each broker heard. */
static bool sounds(const char *path, const char *wanted, struct stage stage)
{
    char *got[BUS_BROKERS];
    bool same = true;
    play(wanted, stage, got);
    for (uint32_t i = 0; i < stage.broker_count; i++) {
        same = equal(path, wanted, got[i], stage.plain) && same;
        free(got[i]);
    }
    return same;
}

static void write_down(const char *path, const char *text)
{
    char *got[BUS_BROKERS];
    play(text, (struct stage){.broker_count = 1}, got);
    FILE *file = fopen(path, "we");
    CHECK(file != NULL && fputs(got[0], file) >= 0 && fclose(file) == 0);
    free(got[0]);
}

int main(int argc, char **argv)
{
    const bool write = argc > 1 && strcmp(argv[1], "--write") == 0;
    bool failed = argc < 2 + write;
    setenv("TZ", "UTC", 1);
    for (int i = 1 + write; i < argc; i++) {
        char *text = read_file(argv[i]);
        const bool plain = memmem(text, strcspn(text, "\n"), "also=plain", 10) != NULL;
        if (write) {
            write_down(argv[i], text);
        } else if (sounds(argv[i], text, (struct stage){.broker_count = 1}) &&
                   sounds(argv[i], text, (struct stage){.broker_count = 2}) &&
                   (!plain ||
                    sounds(argv[i], text, (struct stage){.broker_count = 1, .plain = true}))) {
            printf("ok %s\n", argv[i]);
        } else {
            failed = true;
        }
        free(text);
    }
    return failed;
}
