/* The payloads of KubeEdge's device topics: JSON into records, publications into JSON. Pure.
 *
 * Read as Go's decoder reads: members in any case, unknown ones ignored, null is absent, another type than the
 * member's is an error, a byte that is no UTF-8 becomes U+FFFD. Written as Go's encoder writes: members in their order, keys sorted, <, > and & escaped.
 * Only the local time of last_online on plain topics depends on the machine (its time zone).
 *
 * source: KubeEdge edge/pkg/devicetwin/dttype, for names and order of the members and for sentences that mappers
 * may match. Differs: versions are never published there either, so they are not written at all; why JSON cannot
 * be read is said in our words.
 */
#ifndef KELP_NODES_EDGE_BUS_JSON_H
#define KELP_NODES_EDGE_BUS_JSON_H

#include "schemas/codec.h"

/* -- text ------------------------------------------------------------------------------------------ */

/* Zero it to start; bus_text_release in the end. Out of memory ends the process. */
struct bus_text {
    char *data; /* terminated once something was written */
    size_t size;
    size_t capacity;
};
/* Empty, its memory kept. */
void bus_text_clear(struct bus_text *text);
void bus_text_append(struct bus_text *text, struct bytes bytes);
void bus_text_release(struct bus_text *text);
static inline struct bytes bus_text_bytes(const struct bus_text *text)
{
    return bytes_of(text->data, text->size);
}

/* -- what clients say --------------------------------------------------------------------------------- */

/* The body of .../twin/update.
 *
 *   payload   borrowed during the call
 *   codec     lends what *out points to
 *   out       without topics; changes sorted by key. When refused: its event_id, if one could be read
 *   answers   NULL: it is one; else why not, the sentence to be answered with
 */
const char *bus_json_twin_update(struct bytes payload, struct codec *codec,
                                 struct twin_update *out);

/* The body of .../state/update: the state, as it was said.
 *   topics    which generation's states are allowed
 *   answers   NULL: not JSON, or none of the states: KubeEdge is silent then */
const char *bus_json_state(struct bytes payload, enum device_topics topics, struct codec *codec);

/* The event id of a body of which nothing else counts: .../twin/get, .../membership/get.
 *   out_why   what is wrong, when NULL is answered; lent by `codec` */
const char *bus_json_event_id(struct bytes payload, struct codec *codec, const char **out_why);

/* -- what is published ----------------------------------------------------------------------------------- */

/* A UUID that is always the same for one promise of one edge, so that it is known again. */
#define BUS_EVENT_ID_BYTES 37
const char *bus_json_own_event_id(uint64_t stream, uint64_t position,
                                  char buffer[static BUS_EVENT_ID_BYTES]);

/* The payload of a publication.
 *   own_id   event id of those that nobody asked for
 *   form     namespaced or plain: whose ids and times are written */
void bus_json_publication(struct bus_text *text, const struct publication *publication,
                          const char *own_id, enum device_topics form);

/* The answer to .../twin/get. */
void bus_json_twins(struct bus_text *text, const char *event_id, int64_t time_ms,
                    const struct device_status *device);

/* The answer to .../membership/get: begin, each device, end.
 *   first    whether it is the first one */
void bus_json_members_begin(struct bus_text *text, const char *event_id, int64_t time_ms);
void bus_json_member(struct bus_text *text, const char *key, const char *description,
                     const struct device_status *device, enum device_topics form, bool first);
void bus_json_members_end(struct bus_text *text);

/* A refusal: event id, code, why. */
void bus_json_error(struct bus_text *text, const char *event_id, int64_t time_ms, int code,
                    const char *reason);

#endif
