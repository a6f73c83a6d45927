/* Devices: their edge has a twin for each property, and each twin says of which wish it is. */
#include "nodes/cli/log_journey.h"

#include "schemas/check.h"
#include "schemas/status.h"
#include "statemachine/store.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

bool journey_device(const struct journey *journey)
{
    static const char prefix[] = "devices.kubeedge.io/devices/";
    return strncmp(journey->key, prefix, sizeof prefix - 1) == 0;
}

/* Append to a text of bounded size; what does not fit is cut. */
static void __attribute__((format(printf, 3, 4)))
text_append(char *text, size_t size, const char *format, ...)
{
    const size_t used = strlen(text);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + used, size - used, format, arguments);
    va_end(arguments);
}

static void device_text(const struct device_status *status, char *text, size_t size)
{
    snprintf(text, size, "%.40s", status->state[0] == '\0' ? "no state" : status->state);
    for (uint32_t i = 0; i < status->twin_count; i++) {
        const struct twin *twin = &status->twins[i];
        if (twin->has_actual) {
            text_append(text, size, ", %.40s is %.40s", twin->key, twin->actual);
        }
    }
}

bool journey_device_text(struct codec *codec, struct bytes body, char *text, size_t size,
                         char uid[LIMIT_NAME_BYTES + 1])
{
    struct device_status status;
    if (codec_device_status_read(codec, body, &status) != 0) {
        return false;
    }
    device_text(&status, text, size);
    snprintf(uid, LIMIT_NAME_BYTES + 1, "%.253s", status.uid);
    return true;
}

static const struct twin *twin_find(const struct device_status *status, const char *key)
{
    for (uint32_t i = 0; i < status->twin_count; i++) {
        if (strcmp(status->twins[i].key, key) == 0) {
            return &status->twins[i];
        }
    }
    return NULL;
}

/* Is every twin of the wish of this very one? */
static bool status_knows(const struct device_status *status, const struct device_wish *wish)
{
    for (uint32_t i = 0; wish != NULL && i < wish->property_count; i++) {
        const struct twin *twin = twin_find(status, wish->properties[i].name);
        if (twin == NULL || twin->wish_revision != wish->properties[i].revision) {
            return false;
        }
    }
    return true;
}

/* Somebody at the edge wished something else later than the cloud did. */
static void device_overridden(struct journey *journey, const struct device_property *property,
                              const struct twin *twin)
{
    struct out time;
    out_init(&time, -1);
    (void)out_time(&time, twin->expected_ms);
    journey_tell(journey, ACTED, STEP_MISSING, 0, 0,
                 "%.64s is wished %.64s, but a client of the broker wished %.64s at %.*s%s%.64s",
                 property->name, property->desired, twin->expected, (int)time.size,
                 (const char *)time.data, twin->has_actual ? "; it was reported as " : "",
                 twin->has_actual ? twin->actual : "");
    out_deinit(&time);
    journey_mean(journey,
                 "Of a wish of the cloud and one at the edge the one holds that came to the edge "
                 "later. To wish the cloud's again, change 'desired' of the property, its value or "
                 "anything in its metadata (a note).");
}

/* Whether the device is as it is wished. */
static void device_acted(struct journey *journey, const struct device_status *status,
                         const struct device_wish *wish)
{
    bool some = false;
    for (uint32_t i = 0; wish != NULL && i < wish->property_count; i++) {
        const struct device_property *property = &wish->properties[i];
        const struct twin *twin = twin_find(status, property->name);
        if (!property->has_desired || property->desired[0] == '\0') {
            continue;
        }
        some = true;
        if (twin != NULL && twin->has_expected && twin->expected_local &&
            strcmp(twin->expected, property->desired) != 0) {
            device_overridden(journey, property, twin);
            return;
        }
        const char *actual = twin != NULL && twin->has_actual ? twin->actual : NULL;
        if (actual == NULL || strcmp(actual, property->desired) != 0) {
            journey_tell(journey, ACTED, STEP_MISSING, 0, 0, "%.64s is wished %.64s, and %s%.64s",
                         property->name, property->desired,
                         actual == NULL ? "was never reported" : "was reported as ",
                         actual == NULL ? "" : actual);
            journey_mean(journey, "The edge has told the mapper (twin/update/delta); it has not "
                                  "reported the wished value since: does it run, and is it "
                                  "subscribed? Its own log tells what it did.");
            return;
        }
    }
    journey_tell(journey, ACTED, some ? STEP_DONE : STEP_NONE, 0, 0, "%s",
                 some ? "every wished value was reported" : "it wishes no value");
}

/* The wish that was met; false: it cannot be read. */
static bool wish_read(const struct journey *journey, struct codec *codec, struct object_put *out)
{
    struct record record;
    return codec_record_read(codec, journey->wish.record, &record) == 0 &&
           codec_object_put_read(codec, record.body, out) == 0;
}

void journey_device_cloud(struct journey *journey)
{
    if (journey_removes(journey)) {
        journey_tell(journey, APPLIED, STEP_UNKNOWN, 0, 0, "the directory of the edge tells");
        journey_tell(journey, ACTED, STEP_NONE, 0, 0, "clients of the edge are told");
        journey_tell(journey, REPORTED, STEP_NONE, 0, 0, "nothing is reported of what is gone");
        journey_mean(journey, "Run 'kelp log why' on the data directory of the edge for the rest.");
        return;
    }
    struct codec *codec = codec_create();
    struct object_put put;
    struct record record;
    struct device_status status;
    const struct met *met = &journey->status;
    const bool known = met->is && wish_read(journey, codec, &put) &&
                       codec_record_read(codec, met->record, &record) == 0 &&
                       codec_device_status_read(codec, record.body, &status) == 0 &&
                       status_knows(&status, put.object.device);
    if (known) {
        journey_tell(journey, APPLIED, STEP_DONE, 0, 0, "the twins that were reported are of it");
        device_acted(journey, &status, put.object.device);
        journey_tell(journey, REPORTED, STEP_DONE, met->offset, met->time_ms, "%s", met->text);
    } else {
        journey_tell(journey, APPLIED, STEP_UNKNOWN, 0, 0, "the directory of the edge tells");
        journey_tell(journey, ACTED, STEP_UNKNOWN, 0, 0, "the directory of the edge tells");
        journey_tell(journey, REPORTED, STEP_MISSING, 0, 0, "nothing was reported since%s",
                     met->is ? " that knows of it" : "");
        journey_mean(journey, "The edge has the record on its disk and has not told what became of "
                              "it: run 'kelp log why' on its data directory.");
    }
    codec_destroy(codec);
}

void journey_device_edge(struct journey *journey, struct edge_machine *machine, bool unread)
{
    struct codec *codec = codec_create();
    struct object_put put;
    struct device_status status;
    if (journey_removes(journey)) {
        journey_tell(journey, ACTED, STEP_NONE, 0, 0, "clients of this edge are told");
        journey_tell(journey, REPORTED, STEP_NONE, 0, 0, "nothing is reported of what is gone");
    } else if (machine == NULL || !wish_read(journey, codec, &put) ||
               edge_device_find(machine, journey->key, codec, &status) != STATUS_OK) {
        journey_tell(journey, ACTED, STEP_UNKNOWN, 0, 0, "the state is older than the log");
        journey_tell(journey, REPORTED, STEP_UNKNOWN, 0, 0, "the state is older than the log");
    } else {
        char text[256];
        device_text(&status, text, sizeof text);
        device_acted(journey, &status, put.object.device);
        journey_tell(journey, REPORTED, unread ? STEP_MISSING : STEP_DONE, 0, 0, "%s; %s", text,
                     unread ? "the cloud has not said that it has it" : "the cloud has it");
        if (unread) {
            journey_mean(journey,
                         "The link is down, or was until now: it is sent when there is one "
                         "('kelp status' tells).");
        }
    }
    codec_destroy(codec);
}
