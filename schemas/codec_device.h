/* The words about devices: what is wished of them, what is said of them at the edge, and what is
 * published there. Rules of memory and verification are those of codec.h, which includes this.
 *
 * A Device is an object of the cluster. Its property becomes a *twin* at the edge that has the device: an expected
 * value (what it should be), an actual one (what a mapper last reported), a type, and whether it may be removed.
 *
 * source: KubeEdge edge/pkg/devicetwin/dttype, for the meaning of the fields; the form is ours.
 */
#ifndef KELP_SCHEMAS_CODEC_DEVICE_H
#define KELP_SCHEMAS_CODEC_DEVICE_H

#include "schemas/bytes.h"
#include "schemas/limits.h"

#ifdef __cplusplus
extern "C" {
#endif

struct codec;

/* -- wishes ------------------------------------------------------------------------------------ */

struct device_property {
    const char *name;
    const char *type;
    bool has_desired;
    const char *desired;
    bool optional;
    uint64_t revision; /* at least 1; rises when `desired` is written anew, see record.fbs */
};

struct device_wish {
    const char *description;
    const struct device_property *properties;
    uint32_t property_count; /* at most LIMIT_DEVICE_TWINS */
    bool keep_values;
};

/* -- at the edge ------------------------------------------------------------------------------- */

struct twin {
    const char *key;
    const char *type;
    bool optional;
    bool has_expected;
    const char *expected;
    int64_t expected_ms;
    bool expected_local;
    uint64_t expected_saw;
    bool has_actual;
    const char *actual;
    int64_t actual_ms;
    uint64_t wish_revision;
};
int codec_twin_build(struct codec *codec, const struct twin *twin, struct bytes *out);
int codec_twin_read(struct codec *codec, struct bytes bytes, struct twin *out);

/* What the key and the value of a twin consist of when they are said by MQTT. */
#define TWIN_LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.,:/@#"

enum twin_optional { TWIN_OPTIONAL_UNSAID = 0, TWIN_OPTIONAL_NO = 1, TWIN_OPTIONAL_YES = 2 };
struct twin_change {
    const char *key;
    bool remove;
    bool has_expected;
    const char *expected;
    bool has_actual;
    const char *actual;
    uint8_t optional; /* enum twin_optional, checked by read */
    const char *type;
};

/* Which generation of topics somebody uses: $hw/events/device/<namespace>/<name>/... since KubeEdge
 * 1.17, $hw/events/device/<name>/... before. What nobody asked for is told on both. */
enum device_topics {
    DEVICE_TOPICS_NAMESPACED = 0,
    DEVICE_TOPICS_PLAIN = 1,
    DEVICE_TOPICS_BOTH = 2
};

struct twin_update {
    const char *event_id;
    uint8_t topics; /* enum device_topics, checked by read */
    const struct twin_change *changes;
    uint32_t change_count; /* at most LIMIT_DEVICE_TWINS */
};
int codec_twin_update_build(struct codec *codec, const struct twin_update *u, struct bytes *out);
int codec_twin_update_read(struct codec *codec, struct bytes bytes, struct twin_update *out);

struct device_state {
    const char *event_id;
    uint8_t topics; /* enum device_topics, checked by read */
    const char *state;
};
int codec_device_state_build(struct codec *codec, const struct device_state *s, struct bytes *out);
int codec_device_state_read(struct codec *codec, struct bytes bytes, struct device_state *out);

struct outbox_done {
    uint64_t position;
};
int codec_outbox_done_build(struct codec *codec, const struct outbox_done *d, struct bytes *out);
int codec_outbox_done_read(struct codec *codec, struct bytes bytes, struct outbox_done *out);

/* -- what the edge tells the cloud ------------------------------------------------------------- */

struct device_status {
    const char *uid;
    const char *state;
    int64_t last_online_ms;
    const struct twin *twins;
    uint32_t twin_count; /* at most LIMIT_DEVICE_TWINS */
};
int codec_device_status_build(struct codec *codec, const struct device_status *s,
                              struct bytes *out);
int codec_device_status_read(struct codec *codec, struct bytes bytes, struct device_status *out);

struct device_value {
    const char *uid;
    const char *key;
    const char *value;
    int64_t time_ms;
};
int codec_device_value_build(struct codec *codec, const struct device_value *v, struct bytes *out);
int codec_device_value_read(struct codec *codec, struct bytes bytes, struct device_value *out);

struct mqtt_message {
    const char *topic;
    struct bytes payload;
};
int codec_mqtt_message_build(struct codec *codec, const struct mqtt_message *message,
                             struct bytes *out);
int codec_mqtt_message_read(struct codec *codec, struct bytes bytes, struct mqtt_message *out);

/* -- the outbox -------------------------------------------------------------------------------- */

enum publication_kind {
    PUBLISH_TWIN_RESULT = 1,    /* .../twin/update/result */
    PUBLISH_TWIN_DOCUMENT = 2,  /* .../twin/update/document */
    PUBLISH_TWIN_DELTA = 3,     /* .../twin/update/delta */
    PUBLISH_STATE_RESULT = 4,   /* .../state/update/result */
    PUBLISH_DEVICE_ADDED = 5,   /* $hw/events/node/<node>/membership/updated */
    PUBLISH_DEVICE_REMOVED = 6, /* the same */
};
enum twin_part { TWIN_PART_EXPECTED = 1u << 0, TWIN_PART_ACTUAL = 1u << 1 };
struct published_twin {
    bool has_before;
    struct twin before;
    bool has_after;
    struct twin after;
    uint8_t parts; /* mask of enum twin_part, checked by read */
};
struct publication {
    uint8_t kind;   /* enum publication_kind, checked by read */
    uint8_t topics; /* enum device_topics, checked by read */
    const char *device;
    const char *event_id;
    int64_t time_ms;
    int32_t code;
    const char *reason;
    const char *description;
    const char *state;
    int64_t last_online_ms;
    const struct published_twin *twins;
    uint32_t twin_count; /* at most LIMIT_DEVICE_TWINS */
};
int codec_publication_build(struct codec *codec, const struct publication *p, struct bytes *out);
int codec_publication_read(struct codec *codec, struct bytes bytes, struct publication *out);

#ifdef __cplusplus
}
#endif

#endif
