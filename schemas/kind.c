/* Names of record kinds, for people. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "schemas/codec.h"

static const struct {
    uint16_t kind;
    bool event;
    const char *text;
} kinds[] = {
    {RECORD_OBJECT_PUT, false, "object_put"},
    {RECORD_OBJECT_REMOVE, false, "object_remove"},
    {RECORD_POD_STATUS, false, "pod_status"},
    {RECORD_POD_ENDED, true, "pod_ended"},
    {RECORD_NODE_STATUS, false, "node_status"},
    {RECORD_EDGE_EVENT, true, "edge_event"},
    {RECORD_DEVICE_STATUS, false, "device_status"},
    {RECORD_DEVICE_VALUE, true, "device_value"},
    {RECORD_MQTT_MESSAGE, true, "mqtt_message"},
    {RECORD_POD_ATTEMPT, false, "pod_attempt"},
    {RECORD_TWIN_UPDATE, true, "twin_update"},
    {RECORD_DEVICE_STATE, true, "device_state"},
    {RECORD_OUTBOX_DONE, false, "outbox_done"},
    {RECORD_VERDICT, false, "verdict"},
    {RECORD_SESSION_OPEN, true, "session_open"},
    {RECORD_DOWN_ACK, false, "down_ack"},
    {RECORD_UP_BATCH, true, "up_batch"},
    {RECORD_DOWN_BATCH, true, "down_batch"},
    {RECORD_UP_ACK, false, "up_ack"},
    {RECORD_SNAPSHOT, true, "snapshot"},
    {RECORD_STREAM_INIT, true, "stream_init"},
    {RECORD_CLUSTER_INIT, true, "cluster_init"},
    {RECORD_SETTING, false, "setting"},
    {RECORD_GAP, true, "gap"},
    {RECORD_MEMBER_KEY, true, "member_key"},
};

#define KIND_COUNT (sizeof kinds / sizeof kinds[0])

const char *record_kind_text(uint16_t kind, char buffer[16])
{
    for (size_t i = 0; i < KIND_COUNT; i++) {
        if (kinds[i].kind == kind) {
            return kinds[i].text;
        }
    }
    snprintf(buffer, 16, "kind_%u", kind);
    return buffer;
}

uint16_t record_kind_parse(const char *text)
{
    for (size_t i = 0; i < KIND_COUNT; i++) {
        if (strcmp(kinds[i].text, text) == 0) {
            return kinds[i].kind;
        }
    }
    if (strncmp(text, "kind_", 5) == 0) {
        char *end;
        const unsigned long number = strtoul(text + 5, &end, 10);
        if (*end == 0 && end != text + 5 && number <= UINT16_MAX) {
            return (uint16_t)number;
        }
    }
    return RECORD_NONE;
}

bool record_kind_is_event(uint16_t kind)
{
    for (size_t i = 0; i < KIND_COUNT; i++) {
        if (kinds[i].kind == kind) {
            return kinds[i].event;
        }
    }
    return true; /* of what we do not understand nothing may be dropped */
}
