/* Between the sources of the edge's state: edge.c (the fold and its META row), metadata.c (wishes),
 * pod.c (attempts and facts of pods), twin.c (devices), outbox.c (what is to be published), up.c (what is
 * to be shipped). Included by them only.
 *
 * Every function that changes rows works inside the open batch of the store and on machine->meta.
 * It first decides, then changes; a refusal leaves both as they were. A negative answer is the
 * store's: the caller abandons the batch and takes the old meta back.
 */
#ifndef KELP_STATEMACHINE_EDGE_BODY_H
#define KELP_STATEMACHINE_EDGE_BODY_H

#include "statemachine/edge.h"

struct edge_machine {
    struct store *store; /* borrowed */
    struct edge_limits limits;
    struct edge_meta meta;
    struct codec *codec;   /* of apply: reset when the next one begins */
    struct codec *scratch; /* of one device: reset when the next one begins */
    uint64_t index;        /* of the record that is being applied, or was last */
    bool in_group;
    struct edge_meta before; /* in a group: as the store has it */
    int64_t time_ms;       /* of that record: for display and for what is published */
    struct edge_applied *applied;
    struct edge_change *changes; /* of this apply, in the codec's memory */
    uint32_t change_capacity;
};

/* A record of a kind that this release folds. */
bool edge_kind_known(const struct edge_machine *machine, uint16_t kind);

/* Keep one whose kind is not known. `place` 0: a record of its own. */
int edge_unknown_keep(struct edge_machine *machine, uint64_t index, uint64_t place,
                      struct bytes record);
/* Forget those that came down before this log index: a snapshot replaced them. */
int edge_unknown_forget_down(struct edge_machine *machine, uint64_t before_index);

/* -- metadata.c ---------------------------------------------------------------------------------- */

/* The sums of one wish table. */
struct edge_sums {
    struct tag *digest;
    uint32_t *count;
    uint64_t *bytes;
};
/* One record that came down, into the table in use. Refusals are counted in machine->applied. */
int edge_wish_apply(struct edge_machine *machine, uint64_t place, struct bytes record);
int edge_down_batch_apply(struct edge_machine *machine, const struct record *record);
int edge_snapshot_apply(struct edge_machine *machine, const struct record *record);

/* Whether the object wished under this key has this uid.
 *   answers  STATUS_OK; STORE_NONE; negative */
int edge_wish_match(struct edge_machine *machine, const char *key, const char *uid);

/* -- pod.c ------------------------------------------------------------------------------------------ */

/* Facts of this node. Answer STATUS_OK with an outcome in machine->applied, or negative. */
int edge_pod_attempt_apply(struct edge_machine *machine, struct bytes bytes,
                           const struct record *record);
int edge_pod_status_apply(struct edge_machine *machine, struct bytes bytes,
                          const struct record *record);
int edge_pod_ended_apply(struct edge_machine *machine, struct bytes bytes,
                         const struct record *record);
int edge_node_status_apply(struct edge_machine *machine, struct bytes bytes,
                           const struct record *record);
int edge_event_apply(struct edge_machine *machine, struct bytes bytes, const struct record *record);

/* The object of this uid is not wished any more under this key. */
int edge_pod_forget(struct edge_machine *machine, const char *key, const char *uid);
/* The wishes were replaced: forget every uid that is not among them. */
int edge_pods_forget_unwished(struct edge_machine *machine);
/* The newest status of each pod and of the node, and each end, go up again: the cloud may not know them. */
int edge_pods_retell(struct edge_machine *machine);

/* -- twin.c ---------------------------------------------------------------------------------------- */

/* Whether this is the key of a Device. */
bool edge_key_is_device(const char *key);
/* What clients say. Answer STATUS_OK with an outcome in machine->applied, or negative. */
int edge_twin_update_apply(struct edge_machine *machine, const struct record *record);
int edge_device_state_apply(struct edge_machine *machine, const struct record *record);
/* This object is wished under this key now; what is no device is ignored.
 *   object   must not be lent by machine->scratch */
int edge_device_wished(struct edge_machine *machine, const char *key, const struct object *object);
/* It is wished no more. */
int edge_device_forget(struct edge_machine *machine, const char *key);
/* The wishes were replaced: the devices are those of the new ones. */
int edge_devices_follow_wishes(struct edge_machine *machine);
/* The newest status of each device goes up again. */
int edge_devices_retell(struct edge_machine *machine);
/* Put the newest status of a device into the empty DEVICE_STATUS record that waits to be shipped.
 *   record   in: Record bytes without a body; out: with one, lent by `codec` */
int edge_device_status_fill(struct edge_machine *machine, struct codec *codec,
                            struct bytes *record);

/* -- outbox.c -------------------------------------------------------------------------------------- */

/* It will be published, until a record says that it was. The oldest give way at the bounds.
 *   answers  STATUS_OK; negative */
int edge_outbox_promise(struct edge_machine *machine, const struct publication *publication);
int edge_outbox_done_apply(struct edge_machine *machine, const struct record *record);

/* -- up.c --------------------------------------------------------------------------------------------- */

/* Give this fact the next sequence. `uid` NULL: it stands alone. Otherwise it is the newest of its
 * kind, key and uid, and an older unread one is dropped. */
int edge_up_append(struct edge_machine *machine, uint16_t kind, struct bytes record,
                   const char *key, const char *uid);
/* Drop the unread fact of this kind, key and uid, if there is one. */
int edge_up_withdraw(struct edge_machine *machine, uint16_t kind, const char *key, const char *uid);
/* MQTT_MESSAGE: a client says this to the cloud. */
int edge_mqtt_message_apply(struct edge_machine *machine, struct bytes bytes,
                            const struct record *record);
/* Count an event just appended, and let the oldest give way. */
int edge_up_event_added(struct edge_machine *machine, size_t record_bytes);
int edge_up_ack_apply(struct edge_machine *machine, const struct record *record);

/* -- small words ------------------------------------------------------------------------------------- */

/* Log index or sequence, and place, as an ordered key. */
struct edge_key16 { /* log index and place */
    uint8_t bytes[16];
};
static inline struct bytes edge_key8(uint8_t memory[static 8], uint64_t number)
{
    put_be64(memory, number);
    return bytes_of(memory, 8);
}

static inline void edge_refuse(struct edge_machine *machine, enum edge_outcome outcome)
{
    machine->applied->outcome = outcome;
}

#endif
