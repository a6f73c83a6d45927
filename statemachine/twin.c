/* Devices at the edge: what is wished of them, what clients say of them, and what is told about both.
 *
 * A Device that is wished here has one row of DEVICE and one of TWIN for each property. Three things change
 * them: a wish that comes down, a TWIN_UPDATE, a DEVICE_STATE. Each change makes the newest DEVICE_STATUS go up,
 * and promises publications (outbox.c); a wish that changes nothing makes it go up, too.
 *
 * Whose value is expected? The one that was said later. A wish counts as later than all that was said here
 * before it came, if its revision is another than the one known; an equal revision is the same wish again.
 * Nothing is locked, whoever spoke first.
 *
 * source: KubeEdge edge/pkg/devicetwin/dtmanager/{twin,device,membership}.go. Kept, since mappers may see it: a
 * value that is said again counts as changed; one bad value voids a whole request; the first expected value of a
 * twin is not checked; an unknown device's state is answered with silence; `optional` only ends. Otherwise here:
 * expected values are not locked, null for an absent key ends nothing, the types double and bytes are taken,
 * what is removed leaves no tombstone, what happens offline is reported.
 */
#include "statemachine/edge_body.h"

#include <errno.h>
#include <stdlib.h>

#include "schemas/check.h"

#define DEVICE_PREFIX "devices.kubeedge.io/devices/"

static_assert(LIMIT_STORE_KEY_BYTES >= LIMIT_KEY_BYTES + 1 + LIMIT_TWIN_KEY_BYTES,
              "a key of TWIN fits: device, property");

bool edge_key_is_device(const char *key)
{
    return strncmp(key, DEVICE_PREFIX, strlen(DEVICE_PREFIX)) == 0;
}

/* -- rows ------------------------------------------------------------------------------------------- */

/* A device while a record is applied: its row, and its twins before and after, sorted by key. */
struct device {
    const char *key;
    struct device_status row; /* without twins */
    const struct device_wish *wish;
    struct twin *twins; /* room for LIMIT_DEVICE_TWINS */
    uint32_t twin_count;
    bool changed; /* something the cloud is to hear of */
};

#define TWIN_ROW_KEY_BYTES (LIMIT_KEY_BYTES + 1u + LIMIT_TWIN_KEY_BYTES)
/* device \0 property; an empty property makes the prefix of all. */
static struct bytes twin_row_key(uint8_t memory[static TWIN_ROW_KEY_BYTES], const char *device,
                                 const char *property)
{
    const size_t device_size = strlen(device);
    const size_t property_size = strlen(property);
    CHECK(device_size <= LIMIT_KEY_BYTES);
    CHECK(property_size <= LIMIT_TWIN_KEY_BYTES);
    memcpy(memory, device, device_size + 1);
    memcpy(memory + device_size + 1, property, property_size);
    return bytes_of(memory, device_size + 1 + property_size);
}

/* All twins of a device, sorted; lent by `codec`, room for LIMIT_DEVICE_TWINS. */
static int twins_read(struct edge_machine *machine, const char *key, struct codec *codec,
                      struct twin **out, uint32_t *out_count)
{
    uint8_t memory[TWIN_ROW_KEY_BYTES];
    struct store_iterator *iterator = store_iterate_few(store_live(machine->store), EDGE_TABLE_TWIN,
                                                        twin_row_key(memory, key, ""));
    struct twin *twins = codec_array(codec, LIMIT_DEVICE_TWINS, sizeof *twins);
    uint32_t count = 0;
    int status = STATUS_OK;
    for (bool on = store_iterator_first(iterator); on && status == STATUS_OK;
         on = store_iterator_next(iterator)) {
        if (count == LIMIT_DEVICE_TWINS ||
            codec_twin_read(codec, codec_copy(codec, store_iterator_value(iterator)),
                            &twins[count]) != STATUS_OK) {
            status = STATUS_CORRUPT; /* they were counted and built before they were put */
            break;
        }
        count++;
    }
    if (status == STATUS_OK) {
        status = store_iterator_status(iterator);
    }
    store_iterator_close(iterator);
    *out = twins;
    *out_count = count;
    return status;
}

/* The row of a device, lent by `codec`.
 *   answers  STATUS_OK; STORE_NONE; negative */
static int device_row_read(struct edge_machine *machine, const char *key, struct codec *codec,
                           struct device_status *out)
{
    struct bytes row;
    const int status =
        store_get(store_live(machine->store), EDGE_TABLE_DEVICE, bytes_text(key), &row);
    if (status != STATUS_OK) {
        return status;
    }
    return codec_device_status_read(codec, codec_copy(codec, row), out) == STATUS_OK
               ? STATUS_OK
               : STATUS_CORRUPT;
}

static void device_row_put(struct edge_machine *machine, const struct device *device)
{
    struct bytes bytes;
    const int status = codec_device_status_build(machine->scratch, &device->row, &bytes);
    CHECK(status == STATUS_OK);
    store_put(machine->store, EDGE_TABLE_DEVICE, bytes_text(device->key), bytes);
}

static void twin_row_put(struct edge_machine *machine, const struct device *device,
                         const struct twin *twin)
{
    uint8_t memory[TWIN_ROW_KEY_BYTES];
    struct bytes bytes;
    const int status = codec_twin_build(machine->scratch, twin, &bytes);
    CHECK(status == STATUS_OK);
    store_put(machine->store, EDGE_TABLE_TWIN, twin_row_key(memory, device->key, twin->key), bytes);
}

static void twin_row_remove(struct edge_machine *machine, const struct device *device,
                            const char *key)
{
    uint8_t memory[TWIN_ROW_KEY_BYTES];
    store_remove(machine->store, EDGE_TABLE_TWIN, twin_row_key(memory, device->key, key));
}

/* The device that a client speaks of, with its twins and its wish.
 *   answers  STATUS_OK; STORE_NONE: it is not wished here; negative */
static int device_find(struct edge_machine *machine, const char *key, struct device *out)
{
    *out = (struct device){.key = key};
    int status = device_row_read(machine, key, machine->scratch, &out->row);
    if (status != STATUS_OK) {
        return status;
    }
    struct object_put put;
    status = edge_object_find(machine, key, machine->scratch, &put);
    if (status != STATUS_OK) {
        return status == STORE_NONE ? STATUS_CORRUPT : status; /* both rows come and go together */
    }
    out->wish = put.object.device;
    return twins_read(machine, key, machine->scratch, &out->twins, &out->twin_count);
}

/* Where the twin of this key is, or belongs.
 *   answers  whether it is there */
static bool device_twin_find(const struct device *device, const char *key, uint32_t *out_place)
{
    uint32_t low = 0;
    uint32_t high = device->twin_count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        const int order = strcmp(device->twins[middle].key, key);
        if (order == 0) {
            *out_place = middle;
            return true;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *out_place = low;
    return false;
}

static void device_twin_insert(struct device *device, uint32_t place, const struct twin *twin)
{
    CHECK(device->twin_count < LIMIT_DEVICE_TWINS);
    memmove(&device->twins[place + 1], &device->twins[place],
            (device->twin_count - place) * sizeof *device->twins);
    device->twins[place] = *twin;
    device->twin_count++;
}

static void device_twin_remove(struct device *device, uint32_t place)
{
    CHECK(place < device->twin_count);
    device->twin_count--;
    memmove(&device->twins[place], &device->twins[place + 1],
            (device->twin_count - place) * sizeof *device->twins);
}

/* -- what is told ------------------------------------------------------------------------------------ */

static struct publication publication_of(const struct edge_machine *machine,
                                         const struct device *device, enum publication_kind kind,
                                         uint8_t topics)
{
    return (struct publication){.kind = (uint8_t)kind,
                                .topics = topics,
                                .device = device->key,
                                .event_id = "",
                                .time_ms = machine->time_ms,
                                .reason = "",
                                .description =
                                    device->wish != NULL ? device->wish->description : "",
                                .state = device->row.state,
                                .last_online_ms = device->row.last_online_ms};
}

static bool twin_wants(const struct twin *twin)
{
    return twin->has_expected && twin->expected[0] != '\0';
}

static bool twin_differs(const struct twin *twin)
{
    return twin_wants(twin) && strcmp(twin->expected, twin->has_actual ? twin->actual : "") != 0;
}

/* Whoever should be otherwise is told, with all that have something to be. */
static int device_publish_delta(struct edge_machine *machine, const struct device *device)
{
    struct published_twin *twins = codec_array(machine->scratch, device->twin_count, sizeof *twins);
    uint32_t count = 0;
    bool differs = false;
    for (uint32_t i = 0; i < device->twin_count; i++) {
        if (twin_wants(&device->twins[i])) {
            twins[count] = (struct published_twin){.has_after = true, .after = device->twins[i]};
            count++;
            differs = differs || twin_differs(&device->twins[i]);
        }
    }
    if (!differs) {
        return STATUS_OK;
    }
    struct publication delta =
        publication_of(machine, device, PUBLISH_TWIN_DELTA, DEVICE_TOPICS_BOTH);
    delta.twins = twins;
    delta.twin_count = count;
    return edge_outbox_promise(machine, &delta);
}

static int device_publish_document(struct edge_machine *machine, const struct device *device,
                                   const char *event_id, const struct published_twin *twins,
                                   uint32_t count)
{
    if (count == 0) {
        return STATUS_OK;
    }
    struct publication document =
        publication_of(machine, device, PUBLISH_TWIN_DOCUMENT, DEVICE_TOPICS_BOTH);
    document.event_id = event_id;
    document.twins = twins;
    document.twin_count = count;
    return edge_outbox_promise(machine, &document);
}

/* The cloud hears of the newest: the body is read from the rows when it is sent. */
static int device_report(struct edge_machine *machine, const struct device *device)
{
    struct record record = {.kind = RECORD_DEVICE_STATUS,
                            .key = device->key,
                            .origin = machine->meta.node,
                            .time_ms = machine->time_ms};
    struct bytes bytes;
    const int status = codec_record_build(machine->scratch, &record, &bytes);
    CHECK(status == STATUS_OK);
    return edge_up_append(machine, RECORD_DEVICE_STATUS, bytes, device->key, device->row.uid);
}

/* One value of a device that keeps them all. */
static int device_report_value(struct edge_machine *machine, const struct device *device,
                               const struct twin *twin)
{
    const struct device_value value = {.uid = device->row.uid,
                                       .key = twin->key,
                                       .value = twin->actual,
                                       .time_ms = twin->actual_ms};
    struct record record = {.kind = RECORD_DEVICE_VALUE,
                            .key = device->key,
                            .origin = machine->meta.node,
                            .time_ms = machine->time_ms};
    struct bytes bytes;
    int status = codec_device_value_build(machine->scratch, &value, &record.body);
    CHECK(status == STATUS_OK);
    status = codec_record_build(machine->scratch, &record, &bytes);
    CHECK(status == STATUS_OK);
    status = edge_up_append(machine, RECORD_DEVICE_VALUE, bytes, device->key, NULL);
    return status < 0 ? status : edge_up_event_added(machine, bytes.size);
}

/* -- values and types --------------------------------------------------------------------------------- */

/* The sentences are KubeEdge's, which mappers may match.
 * source: dtcommon.ValidateValue; types that it does not know but device models have are taken */
const char *edge_twin_value_refusal(const char *type, const char *value)
{
    char *end;
    if (strcmp(type, "int") == 0 || strcmp(type, "integer") == 0) {
        errno = 0;
        (void)strtoll(value, &end, 10);
        const bool number = *value != '\0' && *end == '\0' && errno == 0 &&
                            strspn(value, "+-0123456789") == strlen(value);
        return number ? NULL : "the value is not int or integer";
    }
    if (strcmp(type, "float") == 0 || strcmp(type, "double") == 0) {
        const bool number =
            *value != '\0' && strspn(value, "+-.0123456789eEaAfFiInNtTyYxXpP") == strlen(value);
        (void)strtod(value, &end);
        return number && *end == '\0' ? NULL : "the value is not float";
    }
    if (strcmp(type, "boolean") == 0) {
        return strcmp(value, "true") == 0 || strcmp(value, "false") == 0
                   ? NULL
                   : "the bool value must be true or false";
    }
    if (type[0] == '\0' || strcmp(type, "string") == 0 || strcmp(type, "deleted") == 0 ||
        strcmp(type, "bytes") == 0 || strcmp(type, "stream") == 0) {
        return NULL;
    }
    return "the value type is not allowed";
}

bool edge_twin_type_known(const char *type)
{
    static const char *const types[] = {"int",    "integer", "float", "double",
                                        "string", "boolean", "bytes", "stream"};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (strcmp(type, types[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* -- a client speaks ----------------------------------------------------------------------------------- */

/* What makes a whole TWIN_UPDATE void; NULL: nothing does.
 *   out_part  the twin that does; "" if it is none alone */
static const char *twin_update_refusal(const struct device *device,
                                       const struct twin_update *update, const char **out_part)
{
    uint32_t added = 0;
    for (uint32_t i = 0; i < update->change_count; i++) {
        const struct twin_change *change = &update->changes[i];
        uint32_t place;
        const bool known = device_twin_find(device, change->key, &place);
        if (change->remove) {
            continue;
        }
        const char *type = change->type[0] != '\0' ? change->type : "string";
        bool check_expected = change->has_expected;
        if (known) {
            const struct twin *twin = &device->twins[place];
            type = twin->type;
            check_expected = check_expected && twin->has_expected;
        }
        added += known ? 0 : 1;
        const char *refusal =
            check_expected ? edge_twin_value_refusal(type, change->expected) : NULL;
        if (refusal == NULL && change->has_actual) {
            refusal = edge_twin_value_refusal(type, change->actual);
        }
        if (refusal != NULL) {
            *out_part = change->key;
            return refusal;
        }
    }
    *out_part = "";
    return device->twin_count + added > LIMIT_DEVICE_TWINS ? "the device has too many twins" : NULL;
}

/* Whether it has the shape that the door promises: keys rise, so that none is named twice. */
static bool twin_update_fits(const struct twin_update *update)
{
    for (uint32_t i = 0; i < update->change_count; i++) {
        const struct twin_change *change = &update->changes[i];
        const size_t key_size = strlen(change->key);
        if (key_size == 0 || key_size > LIMIT_TWIN_KEY_BYTES ||
            strlen(change->expected) > LIMIT_TWIN_VALUE_BYTES ||
            strlen(change->actual) > LIMIT_TWIN_VALUE_BYTES ||
            strlen(change->type) > LIMIT_TWIN_KEY_BYTES ||
            (i > 0 && strcmp(update->changes[i - 1].key, change->key) >= 0)) {
            return false;
        }
    }
    return update->topics != DEVICE_TOPICS_BOTH;
}

/* The value of one part is what was said, now. */
static void twin_expect(const struct edge_machine *machine, struct twin *twin, const char *value)
{
    twin->has_expected = true;
    twin->expected = value;
    twin->expected_ms = machine->time_ms;
    twin->expected_local = true;
    twin->expected_saw = machine->meta.down_position;
}

/* One key of an update that is not refused.
 *   out      what it did, for result and document
 *   answers  whether it did anything */
static bool twin_change_apply(struct edge_machine *machine, struct device *device,
                              const struct twin_change *change, struct published_twin *out)
{
    uint32_t place;
    const bool known = device_twin_find(device, change->key, &place);
    *out = (struct published_twin){0};
    if (known) {
        out->has_before = true;
        out->before = device->twins[place];
    }
    if (change->remove) {
        if (!known || !device->twins[place].optional) {
            return false;
        }
        device_twin_remove(device, place);
        twin_row_remove(machine, device, change->key);
        return true;
    }
    if (!known) {
        device_twin_insert(device, place,
                           &(struct twin){.key = change->key,
                                          .type = change->type[0] != '\0' ? change->type : "string",
                                          .optional = true,
                                          .expected = "",
                                          .actual = ""});
    }
    struct twin *twin = &device->twins[place];
    bool changed = !known || (change->type[0] != '\0' && strcmp(change->type, twin->type) != 0);
    if (change->has_expected) {
        twin_expect(machine, twin, change->expected);
        out->parts |= TWIN_PART_EXPECTED;
        changed = true;
    }
    if (change->has_actual) {
        twin->has_actual = true;
        twin->actual = change->actual;
        twin->actual_ms = machine->time_ms;
        out->parts |= TWIN_PART_ACTUAL;
        changed = true;
    }
    if (change->optional == TWIN_OPTIONAL_NO && twin->optional) {
        twin->optional = false;
        changed = true;
    }
    if (changed) {
        out->has_after = true;
        out->after = *twin;
        twin_row_put(machine, device, twin);
    }
    return changed;
}

/* All changes of an update, in order; every value too, when the device keeps them.
 *   answers  STATUS_OK; negative */
static int twin_changes_apply(struct edge_machine *machine, struct device *device,
                              const struct twin_update *update, struct published_twin *out,
                              uint32_t *out_count)
{
    *out_count = 0;
    for (uint32_t i = 0; i < update->change_count; i++) {
        struct published_twin *published = &out[*out_count];
        if (!twin_change_apply(machine, device, &update->changes[i], published)) {
            continue;
        }
        *out_count += 1;
        if ((published->parts & TWIN_PART_ACTUAL) != 0 && device->wish != NULL &&
            device->wish->keep_values) {
            const int status = device_report_value(machine, device, &published->after);
            if (status < 0) {
                return status;
            }
        }
    }
    return STATUS_OK;
}

/* Answer a request that changes nothing with why. */
static int twin_update_refuse(struct edge_machine *machine, const struct device *device,
                              const struct twin_update *update, enum edge_outcome outcome,
                              int32_t code, const char *reason)
{
    edge_refuse(machine, outcome);
    struct publication error = publication_of(machine, device, PUBLISH_TWIN_RESULT, update->topics);
    error.event_id = update->event_id;
    error.code = code;
    error.reason = reason;
    return edge_outbox_promise(machine, &error);
}

int edge_twin_update_apply(struct edge_machine *machine, const struct record *record)
{
    struct twin_update update;
    if (!edge_key_is_device(record->key) || strlen(record->key) > LIMIT_KEY_BYTES ||
        codec_twin_update_read(machine->codec, record->body, &update) != STATUS_OK ||
        !twin_update_fits(&update)) {
        edge_refuse(machine, EDGE_REFUSED_MALFORMED);
        return STATUS_OK;
    }
    codec_reset(machine->scratch);
    struct device device;
    int status = device_find(machine, record->key, &device);
    if (status == STORE_NONE) {
        device.row = (struct device_status){.uid = "", .state = ""};
        return twin_update_refuse(machine, &device, &update, EDGE_REFUSED_NO_DEVICE, 404,
                                  "update rejected due to the device is not existed");
    }
    if (status < 0) {
        return status;
    }
    const char *part;
    const char *refusal = twin_update_refusal(&device, &update, &part);
    if (refusal != NULL) {
        machine->applied->refused_part = part;
        machine->applied->refused_reason = refusal;
        return twin_update_refuse(machine, &device, &update, EDGE_REFUSED_VALUE, 400, refusal);
    }

    struct published_twin *changed =
        codec_array(machine->scratch, update.change_count, sizeof *changed);
    struct publication result =
        publication_of(machine, &device, PUBLISH_TWIN_RESULT, update.topics);
    result.event_id = update.event_id;
    result.twins = changed;
    status = twin_changes_apply(machine, &device, &update, changed, &result.twin_count);
    if (status == STATUS_OK) {
        status = edge_outbox_promise(machine, &result);
    }
    if (status == STATUS_OK) {
        status =
            device_publish_document(machine, &device, update.event_id, changed, result.twin_count);
    }
    if (status == STATUS_OK) {
        status = device_publish_delta(machine, &device);
    }
    if (status == STATUS_OK && result.twin_count > 0) {
        status = device_report(machine, &device);
    }
    return status;
}

int edge_device_state_apply(struct edge_machine *machine, const struct record *record)
{
    struct device_state state;
    if (!edge_key_is_device(record->key) || strlen(record->key) > LIMIT_KEY_BYTES ||
        codec_device_state_read(machine->codec, record->body, &state) != STATUS_OK ||
        state.state[0] == '\0' || strlen(state.state) > LIMIT_TWIN_KEY_BYTES ||
        state.topics == DEVICE_TOPICS_BOTH) {
        edge_refuse(machine, EDGE_REFUSED_MALFORMED);
        return STATUS_OK;
    }
    codec_reset(machine->scratch);
    struct device device;
    int status = device_find(machine, record->key, &device);
    if (status == STORE_NONE) { /* KubeEdge says nothing either */
        edge_refuse(machine, EDGE_REFUSED_NO_DEVICE);
        return STATUS_OK;
    }
    if (status < 0) {
        return status;
    }

    /* Since 1.17 only who is there was there just now; before, whoever spoke. */
    const bool there = state.topics == DEVICE_TOPICS_PLAIN ||
                       strcasecmp(state.state, "online") == 0 || strcasecmp(state.state, "ok") == 0;
    device.row.state = state.state;
    device.row.last_online_ms = there ? machine->time_ms : 0;
    device_row_put(machine, &device);
    struct publication result =
        publication_of(machine, &device, PUBLISH_STATE_RESULT, state.topics);
    status = edge_outbox_promise(machine, &result);
    return status < 0 ? status : device_report(machine, &device);
}

/* -- the cloud wishes ---------------------------------------------------------------------------------- */

/* One property of a newer wish.
 *   out      what it did
 *   answers  whether it did anything that clients see */
static bool device_property_apply(struct edge_machine *machine, struct device *device,
                                  const struct device_property *property,
                                  struct published_twin *out)
{
    uint32_t place;
    const bool known = device_twin_find(device, property->name, &place);
    *out = (struct published_twin){0};
    if (known) {
        out->has_before = true;
        out->before = device->twins[place];
    } else if (device->twin_count == LIMIT_DEVICE_TWINS) {
        machine->applied->refused_count++; /* what clients added here is in its way */
        return false;
    } else {
        device_twin_insert(
            device, place,
            &(struct twin){.key = property->name, .type = "", .expected = "", .actual = ""});
    }
    struct twin *twin = &device->twins[place];
    const bool wished_anew = !known || twin->wish_revision != property->revision;
    const bool typed_anew =
        !known || strcmp(twin->type, property->type) != 0 || twin->optional != property->optional;
    if (!wished_anew && !typed_anew) {
        return false;
    }
    twin->type = property->type;
    twin->optional = property->optional;
    const bool had = twin->has_expected;
    if (wished_anew) {
        twin->wish_revision = property->revision;
        twin->has_expected = property->has_desired;
        twin->expected = property->has_desired ? property->desired : "";
        twin->expected_ms = property->has_desired ? machine->time_ms : 0;
        twin->expected_local = false;
        twin->expected_saw = 0;
    }
    out->has_after = true;
    out->after = *twin;
    out->parts = wished_anew && (had || twin->has_expected) ? TWIN_PART_EXPECTED : 0;
    twin_row_put(machine, device, twin);
    return true;
}

static bool device_wish_names(const struct device_wish *wish, const char *key)
{
    for (uint32_t i = 0; wish != NULL && i < wish->property_count; i++) {
        if (strcmp(wish->properties[i].name, key) == 0) {
            return true;
        }
    }
    return false;
}

/* Twins follow the wish: what it names is there, what only an older wish named is gone; what clients added
 * stays. */
static void device_wish_apply(struct edge_machine *machine, struct device *device,
                              struct published_twin *out, uint32_t *out_count)
{
    *out_count = 0;
    for (uint32_t i = device->twin_count; i > 0; i--) {
        const struct twin twin = device->twins[i - 1];
        if (twin.wish_revision != 0 && !device_wish_names(device->wish, twin.key)) {
            device_twin_remove(device, i - 1);
            twin_row_remove(machine, device, twin.key);
            out[*out_count] = (struct published_twin){.has_before = true, .before = twin};
            *out_count += 1;
        }
    }
    for (uint32_t i = 0; device->wish != NULL && i < device->wish->property_count; i++) {
        const struct device_property *property = &device->wish->properties[i];
        const size_t size = strlen(property->name);
        if (size == 0 || size > LIMIT_TWIN_KEY_BYTES || property->revision == 0 ||
            strlen(property->type) > LIMIT_TWIN_KEY_BYTES ||
            strlen(property->desired) > LIMIT_TWIN_VALUE_BYTES) {
            machine->applied->refused_count++;
        } else if (device_property_apply(machine, device, property, &out[*out_count])) {
            *out_count += 1;
        }
    }
}

/* The rows of a device go; what was read of it stays readable. */
static int device_forget(struct edge_machine *machine, const struct device *device)
{
    uint8_t memory[TWIN_ROW_KEY_BYTES];
    int status =
        store_remove_prefix(machine->store, EDGE_TABLE_TWIN, twin_row_key(memory, device->key, ""));
    if (status < 0) {
        return status;
    }
    store_remove(machine->store, EDGE_TABLE_DEVICE, bytes_text(device->key));
    status = edge_up_withdraw(machine, RECORD_DEVICE_STATUS, device->key, device->row.uid);
    if (status < 0) {
        return status;
    }
    struct publication notice =
        publication_of(machine, device, PUBLISH_DEVICE_REMOVED, DEVICE_TOPICS_BOTH);
    return edge_outbox_promise(machine, &notice);
}

int edge_device_wished(struct edge_machine *machine, const char *key, const struct object *object)
{
    if (!edge_key_is_device(key) || object->uid[0] == '\0') {
        return STATUS_OK;
    }
    codec_reset(machine->scratch);
    struct device device = {.key = key, .wish = object->device};
    int status = device_row_read(machine, key, machine->scratch, &device.row);
    if (status < 0) {
        return status;
    }
    if (status == STATUS_OK && strcmp(device.row.uid, object->uid) != 0) {
        const struct device other = {.key = key,
                                     .row = device.row}; /* what is wished is not of it */
        status = device_forget(machine, &other);
        if (status < 0) {
            return status;
        }
        status = STORE_NONE;
    }
    const bool added = status == STORE_NONE;
    if (added) {
        device.row = (struct device_status){.uid = object->uid, .state = ""};
        device_row_put(machine, &device);
    }
    status = twins_read(machine, key, machine->scratch, &device.twins, &device.twin_count);
    if (status < 0) {
        return status;
    }

    const uint32_t most =
        LIMIT_DEVICE_TWINS + (object->device != NULL ? object->device->property_count : 0);
    struct published_twin *changed = codec_array(machine->scratch, most, sizeof *changed);
    uint32_t count;
    device_wish_apply(machine, &device, changed, &count);
    if (added) {
        struct publication notice =
            publication_of(machine, &device, PUBLISH_DEVICE_ADDED, DEVICE_TOPICS_BOTH);
        notice.twins = changed;
        notice.twin_count = count;
        status = edge_outbox_promise(machine, &notice);
    } else if (count > 0) {
        status = device_publish_document(machine, &device, "", changed,
                                         count < LIMIT_DEVICE_TWINS ? count : LIMIT_DEVICE_TWINS);
    }
    if (status == STATUS_OK && (added || count > 0)) {
        status = device_publish_delta(machine, &device);
    }
    /* Also of what changed nothing: the device may have been taken away and given back before we heard of either,
     * and the cloud forgot what we had said of it. */
    return status < 0 ? status : device_report(machine, &device);
}

int edge_device_forget(struct edge_machine *machine, const char *key)
{
    if (!edge_key_is_device(key)) {
        return STATUS_OK;
    }
    codec_reset(machine->scratch);
    struct device device = {.key = key};
    const int status = device_row_read(machine, key, machine->scratch, &device.row);
    if (status != STATUS_OK) {
        return status == STORE_NONE ? STATUS_OK : status;
    }
    return device_forget(machine, &device);
}

int edge_devices_follow_wishes(struct edge_machine *machine)
{
    /* Those that are wished no more, or are others now. The keys first: rows change below. */
    struct codec *codec = codec_create();
    struct store_iterator *iterator =
        store_iterate(store_live(machine->store), EDGE_TABLE_DEVICE, (struct bytes){0});
    int status = STATUS_OK;
    for (bool on = store_iterator_first(iterator); on && status >= 0;
         on = store_iterator_next(iterator)) {
        const struct bytes row = store_iterator_key(iterator);
        const char *key = codec_print(codec, "%.*s", (int)row.size, (const char *)row.data);
        struct device_status device;
        if (codec_device_status_read(codec, codec_copy(codec, store_iterator_value(iterator)),
                                     &device) != STATUS_OK) {
            status = STATUS_CORRUPT;
            break;
        }
        status = edge_wish_match(machine, key, device.uid);
        if (status == STORE_NONE) {
            status = edge_device_forget(machine, key);
        }
        codec_reset(codec);
    }
    if (status >= 0) {
        status = store_iterator_status(iterator);
    }
    store_iterator_close(iterator);

    struct edge_wishes *wishes = status < 0 ? NULL : edge_wishes_open(machine, DEVICE_PREFIX);
    while (status >= 0) {
        const char *key;
        struct object_put put;
        status = edge_wishes_next(wishes, codec, &key, &put);
        if (status != STATUS_OK) {
            break;
        }
        status = edge_device_wished(machine, key, &put.object);
        codec_reset(codec);
    }
    edge_wishes_close(wishes);
    codec_destroy(codec);
    return status == STORE_NONE ? STATUS_OK : status;
}

int edge_devices_retell(struct edge_machine *machine)
{
    struct codec *codec = codec_create();
    struct store_iterator *iterator =
        store_iterate(store_live(machine->store), EDGE_TABLE_DEVICE, (struct bytes){0});
    int status = STATUS_OK;
    for (bool on = store_iterator_first(iterator); on && status == STATUS_OK;
         on = store_iterator_next(iterator)) {
        const struct bytes row = store_iterator_key(iterator);
        struct device device = {
            .key = codec_print(codec, "%.*s", (int)row.size, (const char *)row.data)};
        if (codec_device_status_read(codec, codec_copy(codec, store_iterator_value(iterator)),
                                     &device.row) != STATUS_OK) {
            status = STATUS_CORRUPT;
            break;
        }
        codec_reset(machine->scratch);
        status = device_report(machine, &device);
        codec_reset(codec);
    }
    if (status == STATUS_OK) {
        status = store_iterator_status(iterator);
    }
    store_iterator_close(iterator);
    codec_destroy(codec);
    return status;
}

/* -- readers ------------------------------------------------------------------------------------------- */

int edge_device_find(struct edge_machine *machine, const char *key, struct codec *codec,
                     struct device_status *out)
{
    if (strlen(key) > LIMIT_KEY_BYTES) {
        return STORE_NONE;
    }
    int status = device_row_read(machine, key, codec, out);
    if (status != STATUS_OK) {
        return status;
    }
    struct twin *twins;
    status = twins_read(machine, key, codec, &twins, &out->twin_count);
    out->twins = twins;
    if (!store_in_batch(machine->store)) {
        store_reader_reset(store_live(machine->store));
    }
    return status;
}

int edge_device_status_fill(struct edge_machine *machine, struct codec *codec, struct bytes *record)
{
    struct record read;
    struct device_status device;
    if (codec_record_read(codec, codec_aligned(codec, *record), &read) != STATUS_OK) {
        return STATUS_CORRUPT;
    }
    int status = edge_device_find(machine, read.key, codec, &device);
    if (status != STATUS_OK) {
        return status == STORE_NONE ? STATUS_CORRUPT : status; /* it goes with its device */
    }
    status = codec_device_status_build(codec, &device, &read.body);
    CHECK(status == STATUS_OK);
    status = codec_record_build(codec, &read, record);
    CHECK(status == STATUS_OK);
    return STATUS_OK;
}
