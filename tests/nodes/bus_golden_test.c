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
#include "schemas/check.h"
#include "tests/nodes/bus_rig.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

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

/* What waits for the cloud: statuses by their twins, events one by one. */
static void line_up(struct rig *rig, FILE *out)
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
            fprintf(out, "^ value %s %s=%s\n", record.key, value.key, value.value);
        } else if (record.kind == RECORD_MQTT_MESSAGE) {
            struct mqtt_message message;
            CHECK(codec_mqtt_message_read(rig->codec, record.body, &message) == STATUS_OK);
            fprintf(out, "^ message %s %.*s\n", message.topic, (int)message.payload.size,
                    (const char *)message.payload.data);
        } else if (record.kind == RECORD_DEVICE_STATUS) {
            struct device_status status;
            CHECK(codec_device_status_read(rig->codec, record.body, &status) == STATUS_OK);
            fprintf(out, "^ status %s state=%s", record.key, status.state);
            for (uint32_t t = 0; t < status.twin_count; t++) {
                fprintf(out, " %s=%s", status.twins[t].key, status.twins[t].actual);
            }
            fprintf(out, "\n");
        }
    }
}

static void on_given(void *context, const char *topic, const char *payload)
{
    fprintf(context, "< %s %s\n", topic, payload);
}

static void line_config(struct rig *rig, const char *words, FILE *out)
{
    static const char *const topics[] = {"namespaced", "plain", "both"};
    struct bus_config config = {.broker_count = 1, .brokers = {"external"}};
    char name[32];
    CHECK(sscanf(words, "topics=%31s window=%" SCNu32, name, &config.window_ms) == 2);
    for (int i = 0; i < 3; i++) {
        config.topics = strcmp(name, topics[i]) == 0 ? (enum device_topics)i : config.topics;
    }
    rig_init(rig, &config);
    rig->context = out;
    rig->on_given = on_given;
}

static void line_broker(struct rig *rig, const char *what)
{
    struct rig_broker *broker = &rig->brokers[0];
    broker->stopped = strcmp(what, "stop") == 0 || (broker->stopped && strcmp(what, "go") != 0);
    if (strcmp(what, "down") == 0) {
        rig_broker_down(rig, 0);
    } else if (strcmp(what, "up") == 0) {
        bus_broker_up(rig->bus, 0);
    }
}

static void rig_line(struct rig *rig, char *line, FILE *out)
{
    char *rest = strchr(line, ' ');
    rest = rest == NULL ? line + strlen(line) : rest + 1;
    const size_t size = strcspn(line, " ");
    const struct bytes verb = bytes_of(line, size);
    if (line[0] == '\0' || line[0] == '#') {
        return;
    }
    if (bytes_equal_text(verb, "config")) {
        line_config(rig, rest, out);
    } else if (bytes_equal_text(verb, ">")) {
        char *payload = strchr(rest, ' ');
        CHECK(payload != NULL);
        *payload++ = '\0';
        rig_say(rig, rest, payload);
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
        line_up(rig, out);
    } else {
        fprintf(stderr, "what is this? %s\n", line);
        exit(2);
    }
    rig_settle(rig);
}

/* -- files --------------------------------------------------------------------------------------------------- */

/* Play a conversation.
 *   answers  its transcript, to be freed */
static char *play(const char *text)
{
    static struct rig rig;
    char *transcript = NULL;
    size_t transcript_size = 0;
    FILE *out = open_memstream(&transcript, &transcript_size);
    char *copy = strdup(text);
    char *next = copy;
    CHECK(out != NULL && copy != NULL);
    CHECK(strncmp(text, "config ", strlen("config ")) == 0);
    for (char *line; (line = strsep(&next, "\n")) != NULL;) {
        if (line[0] == '<' || line[0] == '^' || (next == NULL && line[0] == '\0')) {
            continue; /* heard, not done */
        }
        fprintf(out, "%s\n", line);
        rig_line(&rig, line, out);
    }
    free(copy);
    rig_deinit(&rig);
    CHECK(fclose(out) == 0);
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
