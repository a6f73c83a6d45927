/* Telemetry: of each device the newest values within a window are one record.
 *
 *   1. the first update is recorded at once, and opens the window of its device
 *   2. what follows within it is gathered, if it would be accepted as it is: known properties, sound values
 *   3. at its end what was gathered is recorded, and the window begins anew; if nothing was, it closes
 *
 * While disk or broker have enough to do (bus_keeps_up), nothing is added to it: windows stay open beyond their end, in
 * order, and the first update of a device is gathered like the next ones. So it is while more waits to be read
 * (bus_reads_on): that may be newer. So a burst of many devices costs as many records as are carried out meanwhile, and
 * less of it is left in the broker's queue.
 *
 * What is known of a device is read from the state once, and stays known as long as nothing but telemetry is said of it
 * and the wish is the same.
 *
 * What may not be gathered is recorded behind what was. Whether a value is sound is judged by the types that the
 * state has when the window needs them first; one that a wish changes within that window may void the values of
 * the window.
 */
#include "nodes/edge/bus_inner.h"

#include "schemas/check.h"

#include <stdlib.h>

static uint32_t gather_bucket(const char *key)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (; *key != '\0'; key++) {
        hash = (hash ^ (uint8_t)*key) * 16777619u;
    }
    return hash % BUS_GATHER_BUCKETS;
}

static struct bus_window *gather_find(const struct bus *bus, const char *key)
{
    struct bus_window *window = bus->gather.buckets[gather_bucket(key)];
    while (window != NULL && strcmp(window->key, key) != 0) {
        window = window->bucket_next;
    }
    return window;
}

static void gather_unlink_due(struct bus_gather *gather, struct bus_window *window)
{
    *(window->due_previous != NULL ? &window->due_previous->due_next : &gather->due_first) =
        window->due_next;
    *(window->due_next != NULL ? &window->due_next->due_previous : &gather->due_last) =
        window->due_previous;
}

/* All windows are equally long, so what begins last is due last. */
static void gather_begin(struct bus *bus, struct bus_window *window)
{
    struct bus_gather *gather = &bus->gather;
    window->due_ms = bus->now.mono_ms + bus->config.window_ms;
    window->due_next = NULL;
    window->due_previous = gather->due_last;
    *(gather->due_last != NULL ? &gather->due_last->due_next : &gather->due_first) = window;
    gather->due_last = window;
}

static void window_unload(struct bus_window *window)
{
    for (uint32_t i = 0; i < window->property_count; i++) {
        free(window->properties[i].key);
        free(window->properties[i].type);
        free(window->properties[i].said);
        free(window->properties[i].value);
    }
    free(window->properties);
    window->properties = NULL;
    window->property_count = 0;
    window->pending = 0;
    window->loaded = false;
}

/* answers  NULL: so many are open that this device is not gathered */
static struct bus_window *gather_open(struct bus *bus, const char *key, enum device_topics topics)
{
    if (bus->gather.count == LIMIT_BUS_WINDOWS) {
        return NULL;
    }
    struct bus_window *window = calloc(1, sizeof *window);
    CHECK(window != NULL);
    window->key = strdup(key);
    CHECK(window->key != NULL);
    window->topics = topics;
    struct bus_window **bucket = &bus->gather.buckets[gather_bucket(key)];
    window->bucket_next = *bucket;
    *bucket = window;
    bus->gather.count++;
    gather_begin(bus, window);
    return window;
}

static void gather_close(struct bus *bus, struct bus_window *window)
{
    struct bus_window **at = &bus->gather.buckets[gather_bucket(window->key)];
    while (*at != window) {
        CHECK(*at != NULL);
        at = &(*at)->bucket_next;
    }
    *at = window->bucket_next;
    gather_unlink_due(&bus->gather, window);
    bus->gather.count--;
    window_unload(window);
    free(window->key);
    free(window);
}

/* What was gathered is recorded: what is known of the device stays, if it is sure to. */
static void window_empty(struct bus_window *window)
{
    if (!window->lasting) {
        window_unload(window);
        return;
    }
    for (uint32_t i = 0; i < window->property_count; i++) {
        struct bus_property *property = &window->properties[i];
        free(property->said);
        free(property->value);
        property->said = NULL;
        property->value = NULL;
    }
    window->pending = 0;
}

/* What the state knows of the device. */
static void window_load(struct bus *bus, struct bus_window *window)
{
    struct object_put put;
    struct device_status device = {0};
    struct codec *codec = bus->codec_out;
    codec_reset(codec);
    window->loaded = true;
    window->lasting = bus->shaping == 0; /* else what is under way may be of this device */
    window->keeps = edge_object_find(bus->door.machine, window->key, codec, &put) == STATUS_OK &&
                    put.object.device != NULL && put.object.device->keep_values;
    if (window->keeps ||
        edge_device_find(bus->door.machine, window->key, codec, &device) != STATUS_OK ||
        device.twin_count == 0) {
        return;
    }
    window->properties = calloc(device.twin_count, sizeof *window->properties);
    CHECK(window->properties != NULL);
    window->property_count = device.twin_count;
    for (uint32_t i = 0; i < device.twin_count; i++) {
        window->properties[i].key = strdup(device.twins[i].key);
        window->properties[i].type = strdup(device.twins[i].type);
        CHECK(window->properties[i].key != NULL && window->properties[i].type != NULL);
    }
}

static struct bus_property *window_property(const struct bus_window *window, const char *key)
{
    uint32_t low = 0;
    uint32_t high = window->property_count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        const int order = strcmp(window->properties[middle].key, key);
        if (order == 0) {
            return &window->properties[middle];
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

/* Nobody asks for an answer to it, and it only reports. */
static bool update_is_telemetry(const struct twin_update *update)
{
    for (uint32_t i = 0; i < update->change_count; i++) {
        const struct twin_change *change = &update->changes[i];
        if (change->remove || change->has_expected || !change->has_actual ||
            change->optional == TWIN_OPTIONAL_NO) {
            return false;
        }
    }
    return update->event_id[0] == '\0' && update->change_count > 0;
}

/* Whether it would be accepted, so that it harms nothing that it is gathered with. */
static bool window_takes(const struct bus_window *window, const struct twin_update *update)
{
    for (uint32_t i = 0; i < update->change_count; i++) {
        const struct bus_property *property = window_property(window, update->changes[i].key);
        if (property == NULL ||
            edge_twin_value_refusal(property->type, update->changes[i].actual) != NULL) {
            return false;
        }
    }
    return !window->keeps && window->topics == (enum device_topics)update->topics;
}

static void text_replace(char **to, const char *text)
{
    free(*to);
    *to = strdup(text);
    CHECK(*to != NULL);
}

static void gather_add(struct bus *bus, struct bus_window *window, const struct twin_update *update)
{
    for (uint32_t i = 0; i < update->change_count; i++) {
        const struct twin_change *change = &update->changes[i];
        struct bus_property *property = window_property(window, change->key);
        window->pending += property->value == NULL ? 1 : 0;
        text_replace(&property->value, change->actual);
        if (change->type[0] != '\0') {
            text_replace(&property->said, change->type);
        }
    }
    bus->report.gathered++;
}

static void gather_record(struct bus *bus, const char *key, const struct twin_update *update,
                          bool shapes)
{
    struct bytes body;
    const int status = codec_twin_update_build(bus->codec, update, &body);
    CHECK(status == STATUS_OK); /* its payload was bounded */
    bus_record(bus, RECORD_TWIN_UPDATE, key, body, shapes);
}

/* What was gathered becomes a record. */
static void window_flush(struct bus *bus, struct bus_window *window)
{
    if (window->pending == 0) {
        return;
    }
    struct twin_change *changes = codec_array(bus->codec, window->pending, sizeof *changes);
    const struct twin_update update = {.event_id = "",
                                       .topics = (uint8_t)window->topics,
                                       .changes = changes,
                                       .change_count = window->pending};
    uint32_t count = 0;
    for (uint32_t i = 0; i < window->property_count; i++) {
        const struct bus_property *property = &window->properties[i];
        if (property->value != NULL) {
            changes[count] =
                (struct twin_change){.key = property->key,
                                     .expected = "",
                                     .has_actual = true,
                                     .actual = property->value,
                                     .type = property->said != NULL ? property->said : ""};
            count++;
        }
    }
    CHECK(count == window->pending);
    gather_record(bus, window->key, &update, false); /* of twins that are known */
    window_empty(window);
}

void bus_gather_update(struct bus *bus, const char *key, const struct twin_update *update)
{
    const bool telemetry = update_is_telemetry(update) && bus->config.window_ms > 0;
    struct bus_window *window = gather_find(bus, key);
    if (window == NULL && telemetry && (bus_reads_on(bus) || !bus_keeps_up(bus))) {
        window = gather_open(bus, key, (enum device_topics)update->topics);
    }
    if (window == NULL) {
        gather_record(bus, key, update, true);
        if (telemetry) {
            (void)gather_open(bus, key, (enum device_topics)update->topics);
        }
        return;
    }
    if (telemetry && !window->loaded) {
        window_load(bus, window);
    }
    if (telemetry && window_takes(window, update)) {
        gather_add(bus, window, update);
        return;
    }
    window_flush(bus, window);
    gather_record(bus, key, update, true);
    window_unload(window); /* it may have changed what we know */
    window->topics = (enum device_topics)update->topics;
    gather_unlink_due(&bus->gather, window);
    gather_begin(bus, window);
}

void bus_gather_flush(struct bus *bus, const char *key)
{
    struct bus_window *window = gather_find(bus, key);
    if (window != NULL) {
        window_flush(bus, window);
    }
}

/* What was gathered goes on as it was judged. */
static void window_forget(struct bus_window *window)
{
    window->lasting = false;
    if (window->pending == 0) {
        window_unload(window);
    }
}

void bus_gather_forget(struct bus *bus, const char *key)
{
    struct bus_window *window = key == NULL ? bus->gather.due_first : gather_find(bus, key);
    while (window != NULL) {
        window_forget(window);
        window = key == NULL ? window->due_next : NULL;
    }
}

void bus_gather_flush_all(struct bus *bus)
{
    codec_reset(bus->codec);
    for (struct bus_window *window = bus->gather.due_first; window != NULL;
         window = window->due_next) {
        window_flush(bus, window);
        codec_reset(bus->codec);
    }
}

uint64_t bus_gather_run(struct bus *bus)
{
    struct bus_window *window;
    while ((window = bus->gather.due_first) != NULL && window->due_ms <= bus->now.mono_ms) {
        if (window->pending == 0) {
            gather_close(bus, window);
            continue;
        }
        if (bus_reads_on(bus) && bus->now.mono_ms < window->due_ms + LIMIT_BUS_AHEAD_MS) {
            return window->due_ms + LIMIT_BUS_AHEAD_MS;
        }
        if (!bus_keeps_up(bus)) {
            return UINT64_MAX; /* what is applied, or taken, wakes us */
        }
        codec_reset(bus->codec);
        window_flush(bus, window);
        gather_unlink_due(&bus->gather, window);
        gather_begin(bus, window);
    }
    return window == NULL ? UINT64_MAX : window->due_ms;
}

bool bus_gather_is_late(const struct bus *bus)
{
    const struct bus_window *window = bus->gather.due_first;
    return window != NULL && window->pending > 0 &&
           bus->now.mono_ms >= window->due_ms + LIMIT_BUS_LATE_MS;
}

void bus_gather_deinit(struct bus *bus)
{
    while (bus->gather.due_first != NULL) {
        gather_close(bus, bus->gather.due_first);
    }
}
