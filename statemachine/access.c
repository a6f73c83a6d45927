/* Which kind of record may come from where. A row has one writer: wishes and verdicts come as
 * records of a command, facts only inside an upward batch of the node they are about. */
#include "statemachine/apply.h"

struct access_rule {
    uint16_t kind;
    uint8_t places; /* mask of enum access_place; 0: known, and no business of this machine */
};

static const struct access_rule access_rules[] = {
    {RECORD_OBJECT_PUT, ACCESS_COMMAND},
    {RECORD_OBJECT_REMOVE, ACCESS_COMMAND},
    {RECORD_POD_STATUS, ACCESS_UP},
    {RECORD_POD_ENDED, ACCESS_UP},
    {RECORD_NODE_STATUS, ACCESS_UP},
    {RECORD_EDGE_EVENT, ACCESS_UP},
    {RECORD_DEVICE_STATUS, ACCESS_UP},
    {RECORD_DEVICE_VALUE, ACCESS_UP},
    {RECORD_MQTT_MESSAGE, ACCESS_UP},
    {RECORD_POD_ATTEMPT, 0},
    {RECORD_TWIN_UPDATE, 0},
    {RECORD_DEVICE_STATE, 0},
    {RECORD_OUTBOX_DONE, 0},
    {RECORD_VERDICT, ACCESS_COMMAND},
    {RECORD_SESSION_OPEN, ACCESS_COMMAND},
    {RECORD_DOWN_ACK, ACCESS_COMMAND},
    {RECORD_UP_BATCH, ACCESS_COMMAND},
    {RECORD_DOWN_BATCH, 0},
    {RECORD_UP_ACK, 0},
    {RECORD_SNAPSHOT, 0},
    {RECORD_STREAM_INIT, 0},
    {RECORD_CLUSTER_INIT, ACCESS_COMMAND},
    {RECORD_SETTING, ACCESS_COMMAND},
    {RECORD_GAP, ACCESS_UP},
    {RECORD_MEMBER_KEY, ACCESS_COMMAND},
};

static const struct access_rule *access_find(uint16_t kind)
{
    for (size_t i = 0; i < sizeof access_rules / sizeof access_rules[0]; i++) {
        if (access_rules[i].kind == kind) {
            return &access_rules[i];
        }
    }
    return NULL;
}

bool machine_knows(uint16_t kind)
{
    return access_find(kind) != NULL;
}

uint32_t machine_kind_level(uint16_t kind)
{
    static const struct {
        uint16_t kind;
        uint32_t level;
    } later[] = {
        {RECORD_MEMBER_KEY, 2},
        {RECORD_DEVICE_STATUS, 3},
        {RECORD_DEVICE_VALUE, 3},
        {RECORD_MQTT_MESSAGE, 3},
    };
    CHECK(machine_knows(kind));
    for (size_t i = 0; i < sizeof later / sizeof later[0]; i++) {
        if (later[i].kind == kind) {
            return later[i].level;
        }
    }
    return 1;
}

bool access_allows(uint16_t kind, enum access_place place)
{
    const struct access_rule *rule = access_find(kind);
    CHECK(rule != NULL);
    return (rule->places & place) != 0;
}

bool access_allows_fact(const char *node, uint16_t kind, const char *key)
{
    static const char nodes[] = "/nodes//";
    static const char pods[] = "/pods/";
    static const char devices[] = "devices.kubeedge.io/devices/";
    if (kind == RECORD_NODE_STATUS) {
        return strncmp(key, nodes, sizeof nodes - 1) == 0 &&
               strcmp(key + sizeof nodes - 1, node) == 0;
    }
    if (kind == RECORD_DEVICE_STATUS || kind == RECORD_DEVICE_VALUE) {
        return strncmp(key, devices, sizeof devices - 1) == 0;
    }
    CHECK(kind == RECORD_POD_STATUS || kind == RECORD_POD_ENDED);
    return strncmp(key, pods, sizeof pods - 1) == 0;
}
