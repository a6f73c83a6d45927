#include "nodes/edge/bus_topic.h"

#include "schemas/check.h"

#include <stdio.h>

#define DEVICE_ROOT "$hw/events/device/"
#define NODE_ROOT   "$hw/events/node/"

enum { LEVELS_MAX = 5 };

/* Cut at the slashes.
 *   answers  how many levels; LEVELS_MAX: so many or more */
static uint32_t topic_levels(const char *text, struct bytes out[static LEVELS_MAX])
{
    uint32_t count = 0;
    while (count < LEVELS_MAX) {
        const size_t size = strcspn(text, "/");
        out[count] = bytes_of(text, size);
        count++;
        if (text[size] == '\0') {
            break;
        }
        text += size + 1;
    }
    return count;
}

static enum bus_topic_kind topic_verb(struct bytes noun, struct bytes verb)
{
    if (bytes_equal_text(noun, "twin") && bytes_equal_text(verb, "update")) {
        return BUS_TOPIC_TWIN_UPDATE;
    }
    if (bytes_equal_text(noun, "twin") && bytes_equal_text(verb, "get")) {
        return BUS_TOPIC_TWIN_GET;
    }
    if (bytes_equal_text(noun, "state") && bytes_equal_text(verb, "update")) {
        return BUS_TOPIC_STATE_UPDATE;
    }
    return BUS_TOPIC_FOREIGN;
}

static bool level_is_name(struct bytes level)
{
    return level.size > 0 && level.size <= LIMIT_NAME_BYTES;
}

/* What follows $hw/events/device/: [<namespace>/]<name>/<noun>/<verb>. */
static struct bus_topic topic_of_device(const char *rest)
{
    struct bus_topic topic = {.kind = BUS_TOPIC_FOREIGN, .topics = DEVICE_TOPICS_BOTH};
    struct bytes levels[LEVELS_MAX];
    const uint32_t count = topic_levels(rest, levels);
    if (count != 3 && count != 4) {
        return topic;
    }
    const bool plain = count == 3;
    const struct bytes name = levels[plain ? 0 : 1];
    const enum bus_topic_kind kind = topic_verb(levels[count - 2], levels[count - 1]);
    if (kind == BUS_TOPIC_FOREIGN || !level_is_name(name) || !level_is_name(levels[0])) {
        return topic;
    }
    return (struct bus_topic){.kind = kind,
                              .topics = plain ? DEVICE_TOPICS_PLAIN : DEVICE_TOPICS_NAMESPACED,
                              .namespace_ = plain ? (struct bytes){0} : levels[0],
                              .name = name};
}

struct bus_topic bus_topic_parse(const char *node, const char *topic)
{
    if (strncmp(topic, DEVICE_ROOT, strlen(DEVICE_ROOT)) == 0) {
        return topic_of_device(topic + strlen(DEVICE_ROOT));
    }
    struct bus_topic parsed = {.kind = BUS_TOPIC_UPLOAD, .topics = DEVICE_TOPICS_BOTH};
    if (strncmp(topic, NODE_ROOT, strlen(NODE_ROOT)) == 0) {
        struct bytes levels[LEVELS_MAX];
        const uint32_t count = topic_levels(topic + strlen(NODE_ROOT), levels);
        const bool asked = count == 3 && bytes_equal_text(levels[0], node) &&
                           bytes_equal_text(levels[1], "membership") &&
                           bytes_equal_text(levels[2], "get");
        parsed.kind = asked ? BUS_TOPIC_MEMBERSHIP_GET : BUS_TOPIC_FOREIGN;
    }
    return parsed;
}

bool bus_topic_is_filter(const char *filter)
{
    const size_t size = strlen(filter);
    if (size == 0 || size > LIMIT_BUS_TOPIC_BYTES) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        const bool first = i == 0 || filter[i - 1] == '/';
        const bool last = i + 1 == size || filter[i + 1] == '/';
        if ((filter[i] == '+' && (!first || !last)) ||
            (filter[i] == '#' && (!first || i + 1 != size))) {
            return false;
        }
    }
    return true;
}

bool bus_topic_filter(const char *node, enum device_topics spoken, uint32_t number, char *buffer)
{
    static const struct {
        enum device_topics topics;
        const char *text;
    } filters[] = {
        {DEVICE_TOPICS_NAMESPACED, DEVICE_ROOT "+/+/state/update"},
        {DEVICE_TOPICS_NAMESPACED, DEVICE_ROOT "+/+/twin/+"},
        {DEVICE_TOPICS_PLAIN, DEVICE_ROOT "+/state/update"},
        {DEVICE_TOPICS_PLAIN, DEVICE_ROOT "+/twin/+"},
        {DEVICE_TOPICS_BOTH, NODE_ROOT "%s/membership/get"},
        {DEVICE_TOPICS_BOTH, "$hw/events/upload/#"},
        {DEVICE_TOPICS_BOTH, "SYS/dis/upload_records"},
        {DEVICE_TOPICS_BOTH, "+/user/#"},
    };
    for (size_t i = 0; i < sizeof filters / sizeof filters[0]; i++) {
        const bool wanted = filters[i].topics == DEVICE_TOPICS_BOTH ||
                            spoken == DEVICE_TOPICS_BOTH || spoken == filters[i].topics;
        if (!wanted) {
            continue;
        }
        if (number > 0) {
            number--;
            continue;
        }
        const char *hole = strstr(filters[i].text, "%s");
        const int size =
            hole == NULL ? snprintf(buffer, LIMIT_BUS_TOPIC_BYTES + 1, "%s", filters[i].text)
                         : snprintf(buffer, LIMIT_BUS_TOPIC_BYTES + 1, "%.*s%s%s",
                                    (int)(hole - filters[i].text), filters[i].text, node, hole + 2);
        CHECK(size > 0 && (size_t)size <= LIMIT_BUS_TOPIC_BYTES);
        return true;
    }
    return false;
}

const char *bus_topic_name(const char *key)
{
    const char *slash = strrchr(key, '/');
    return slash == NULL ? key : slash + 1;
}

const char *bus_topic_id(const char *key, enum device_topics form)
{
    const char *id = bus_topic_name(key);
    if (form == DEVICE_TOPICS_PLAIN || id == key) {
        return id;
    }
    id--; /* the slash before the name; up to the one before the namespace */
    while (id > key && id[-1] != '/') {
        id--;
    }
    return id;
}
