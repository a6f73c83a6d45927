/* The topics of KubeEdge's EventBus, read and written. Pure.
 *
 * Two generations are spoken (enum device_topics): since KubeEdge 1.17 a device is <namespace>/<name> in a topic,
 * before that it is its name alone:
 *
 *      $hw/events/device/default/dht11/twin/update          namespaced
 *      $hw/events/device/dht11/twin/update                  plain
 *      $hw/events/node/edge-1/membership/get                both
 *
 * A topic is read level by level, so a device may be called "twin", "device" or "node".
 * source: KubeEdge edge/pkg/devicetwin/dtcommon, edge/pkg/eventbus/mqtt/client.go. Differs: there, an id is looked
 * for as a part of the topic's text, and such names are misread.
 */
#ifndef KELP_NODES_EDGE_BUS_TOPIC_H
#define KELP_NODES_EDGE_BUS_TOPIC_H

#include "schemas/codec.h"

#include <stdbool.h>

enum bus_topic_kind {
    BUS_TOPIC_FOREIGN =
        0, /* below $hw/events/device or $hw/events/node, and nothing that is asked of us */
    BUS_TOPIC_TWIN_UPDATE = 1,
    BUS_TOPIC_TWIN_GET = 2,
    BUS_TOPIC_STATE_UPDATE = 3,
    BUS_TOPIC_MEMBERSHIP_GET = 4,
    BUS_TOPIC_UPLOAD = 5, /* everything else that we subscribe to: for the cloud */
};

struct bus_topic {
    enum bus_topic_kind kind;
    enum device_topics topics; /* of the three about devices; DEVICE_TOPICS_BOTH otherwise */
    struct bytes namespace_;   /* lent by the text; empty on a plain topic */
    struct bytes name;
};

/* Read a topic.
 *   node   only its own membership is answered for
 *   topic  borrowed as long as the result is used */
struct bus_topic bus_topic_parse(const char *node, const char *topic);

/* Whether a client may subscribe to this: "+" and "#" alone in their levels, "#" last, at most
 * LIMIT_BUS_TOPIC_BYTES. */
bool bus_topic_is_filter(const char *filter);

/* What we subscribe to, number 0, 1 ..., for the generations that are spoken.
 *   buffer   LIMIT_BUS_TOPIC_BYTES + 1 bytes
 *   answers  whether there is one of that number */
bool bus_topic_filter(const char *node, enum device_topics spoken, uint32_t number, char *buffer);

/* The id of a device in topics and payloads: "default/dht11" or "dht11".
 *   key      of its object
 *   form     namespaced or plain
 *   answers  a part of `key` */
const char *bus_topic_id(const char *key, enum device_topics form);
/* "dht11". */
const char *bus_topic_name(const char *key);

#endif
