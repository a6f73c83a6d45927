/* Can a message of an MQTT client hurt an edge? The topic, a NUL, the payload. */
#include "nodes/edge/bus_json.h"
#include "nodes/edge/bus_topic.h"

#include <jansson.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What we would say is JSON, whatever is quoted in it. */
static void check_json(const struct bus_text *text)
{
    json_error_t error;
    json_t *json = json_loadb(text->data, text->size, JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object(json)) {
        abort();
    }
    json_decref(json);
}

/* An update that is accepted is a record, and its result can be told. */
static void check_update(const struct twin_update *update, struct codec *codec,
                         struct bus_text *text)
{
    struct published_twin *twins = codec_array(codec, update->change_count + 1, sizeof *twins);
    struct twin_update again;
    struct bytes bytes;
    if (codec_twin_update_build(codec, update, &bytes) != STATUS_OK ||
        codec_twin_update_read(codec, bytes, &again) != STATUS_OK) {
        abort();
    }
    for (uint32_t i = 0; i < again.change_count; i++) {
        const struct twin_change *change = &again.changes[i];
        if (i > 0 && strcmp(again.changes[i - 1].key, change->key) >= 0) {
            abort(); /* the machine asks for rising keys */
        }
        twins[i] = (struct published_twin){.has_after = true,
                                           .after = {.key = change->key,
                                                     .type = change->type,
                                                     .has_expected = change->has_expected,
                                                     .expected = change->expected,
                                                     .has_actual = change->has_actual,
                                                     .actual = change->actual}};
    }
    const struct publication publication = {.kind = PUBLISH_TWIN_DOCUMENT,
                                            .event_id = again.event_id,
                                            .twins = twins,
                                            .twin_count = again.change_count};
    bus_json_publication(text, &publication, "", DEVICE_TOPICS_PLAIN);
    check_json(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *middle = size == 0 ? NULL : memchr(data, '\0', size);
    if (middle == NULL) {
        return 0;
    }
    struct codec *codec = codec_create();
    struct bus_text text = {0};
    const char *topic_text = (const char *)data;
    const struct bytes payload = bytes_of(middle + 1, (size_t)(data + size - middle - 1));
    const struct bus_topic topic = bus_topic_parse("edge-1", topic_text);
    struct twin_update update;
    const char *why;
    (void)bus_topic_is_filter(topic_text);
    (void)bus_topic_id(topic_text, DEVICE_TOPICS_NAMESPACED);
    if (topic.name.size > LIMIT_NAME_BYTES || topic.namespace_.size > LIMIT_NAME_BYTES) {
        abort();
    }
    const char *refusal = bus_json_twin_update(payload, codec, &update);
    if (refusal == NULL) {
        check_update(&update, codec, &text);
    } else {
        bus_json_error(&text, update.event_id, -1, 400, refusal);
        check_json(&text);
    }
    const char *id = bus_json_event_id(payload, codec, &why);
    bus_text_clear(&text);
    bus_json_error(&text, id == NULL ? "" : id, 0, 400,
                   id != NULL ? topic_text
                              : codec_print(codec, "%.*s: %s", (int)payload.size,
                                            (const char *)payload.data, why));
    check_json(&text);
    (void)bus_json_state(payload, DEVICE_TOPICS_PLAIN, codec);
    bus_text_release(&text);
    codec_destroy(codec);
    return 0;
}
