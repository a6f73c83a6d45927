/* Which device a plain topic means: a name without its namespace. */
#include "nodes/edge/bus_inner.h"

#include "schemas/check.h"

#include <stdlib.h>

#define DEVICE_PREFIX "devices.kubeedge.io/devices/"

/* By name; of one name "default" first. */
static int name_order(const char *left, const char *right)
{
    const int order = strcmp(bus_topic_name(left), bus_topic_name(right));
    if (order != 0) {
        return order;
    }
    const bool left_default =
        strncmp(left, DEVICE_PREFIX "default/", strlen(DEVICE_PREFIX "default/")) == 0;
    const bool right_default =
        strncmp(right, DEVICE_PREFIX "default/", strlen(DEVICE_PREFIX "default/")) == 0;
    return left_default != right_default ? (left_default ? -1 : 1) : strcmp(left, right);
}

static int name_order_of(const void *a, const void *b)
{
    return name_order(*(const char *const *)a, *(const char *const *)b);
}

void bus_names_forget(struct bus *bus)
{
    for (uint32_t i = 0; i < bus->name_count; i++) {
        free(bus->names[i]);
    }
    free(bus->names);
    bus->names = NULL;
    bus->name_count = 0;
    bus->name_capacity = 0;
    bus->names_known = false;
}

/* Room for one more. */
static void names_grow(struct bus *bus)
{
    if (bus->name_count < bus->name_capacity) {
        return;
    }
    bus->name_capacity = 2 * bus->name_capacity + 64;
    bus->names = realloc(bus->names, bus->name_capacity * sizeof *bus->names);
    CHECK(bus->names != NULL);
}

/* Read all of them. What cannot be read is met by the next apply. */
static void names_learn(struct bus *bus)
{
    struct codec *codec = codec_create();
    struct edge_wishes *wishes = edge_wishes_open(bus->door.machine, DEVICE_PREFIX);
    const char *key;
    struct object_put put;
    while (edge_wishes_next(wishes, codec, &key, &put) == STATUS_OK) {
        names_grow(bus);
        bus->names[bus->name_count] = strdup(key);
        CHECK(bus->names[bus->name_count] != NULL);
        bus->name_count++;
        codec_reset(codec);
    }
    edge_wishes_close(wishes);
    codec_destroy(codec);
    if (bus->name_count > 1) {
        qsort(bus->names, bus->name_count, sizeof *bus->names, name_order_of);
    }
    bus->names_known = true;
}

/* The device that a plain name means; NULL: none is called so. */
static const char *names_find(struct bus *bus, const char *name)
{
    if (!bus->names_known) {
        names_learn(bus);
    }
    uint32_t low = 0;
    uint32_t high = bus->name_count;
    while (low < high) { /* the first that is not before it */
        const uint32_t middle = low + (high - low) / 2;
        if (strcmp(bus_topic_name(bus->names[middle]), name) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    const bool found = low < bus->name_count && strcmp(bus_topic_name(bus->names[low]), name) == 0;
    return found ? bus->names[low] : NULL;
}

const char *bus_names_key(struct bus *bus, const struct bus_topic *topic, struct codec *codec)
{
    const char *name =
        codec_print(codec, "%.*s", (int)topic->name.size, (const char *)topic->name.data);
    if (topic->topics != DEVICE_TOPICS_PLAIN) {
        return codec_print(codec, DEVICE_PREFIX "%.*s/%s", (int)topic->namespace_.size,
                           (const char *)topic->namespace_.data, name);
    }
    const char *found = names_find(bus, name);
    return found != NULL ? codec_print(codec, "%s", found)
                         : codec_print(codec, DEVICE_PREFIX "default/%s", name);
}

bool bus_names_mean(struct bus *bus, const char *key)
{
    const char *found = names_find(bus, bus_topic_name(key));
    return found == NULL || strcmp(found, key) == 0;
}

/* Where the first key is that is not before this one. */
static uint32_t names_place(const struct bus *bus, const char *key)
{
    uint32_t low = 0;
    uint32_t high = bus->name_count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (name_order(bus->names[middle], key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

void bus_wish_changed(struct bus *bus, const char *key, bool removed)
{
    bus_gather_forget(bus, key);
    if (key == NULL) {
        bus_names_forget(bus);
        return;
    }
    if (!bus->names_known || strncmp(key, DEVICE_PREFIX, strlen(DEVICE_PREFIX)) != 0) {
        return;
    }
    const uint32_t place = names_place(bus, key);
    const uint32_t behind = bus->name_count - place;
    const bool known = behind > 0 && strcmp(bus->names[place], key) == 0;
    if (known && removed) {
        char **at = &bus->names[place];
        free(*at);
        memmove(at, at + 1, (behind - 1) * sizeof *at);
        bus->name_count--;
    } else if (!known && !removed) {
        names_grow(bus);
        char **at = &bus->names[place];
        memmove(at + 1, at, behind * sizeof *at);
        *at = strdup(key);
        CHECK(*at != NULL);
        bus->name_count++;
    }
}
