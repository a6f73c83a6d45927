/* What the rooms behind machine.h promise each other. Nobody else includes this.
 *
 * All of it runs inside one entry: the store's batch is open, rows are read through the live reader,
 * and what rows lend is good until the end of the present record. When reading fails,
 * machine->failed is set, the row counts as absent, and the entry is abandoned at its end: until
 * then every function must come to an end whatever it was told.
 */
#ifndef KELP_STATEMACHINE_APPLY_H
#define KELP_STATEMACHINE_APPLY_H

#include "schemas/check.h"
#include "statemachine/delivery.h"
#include "statemachine/history.h"
#include "statemachine/machine.h"
#include "statemachine/object.h"

static inline struct machine_result result_of(enum outcome outcome, uint64_t value)
{
    return (struct machine_result){.outcome = outcome, .value = value};
}

/* One record on its way: as read, and its bytes as proposed. */
struct arrival {
    const struct record *record;
    struct bytes bytes;
};

/* -- the machine: machine.c ---------------------------------------------------------------------- */

/* The row of counters; `epoch` has its own. */
void machine_meta_put(struct machine *machine);
/* Everything in memory that rows say, anew.
 *   answers   STATUS_OK; negative: reading failed */
int machine_load(struct machine *machine);

/* -- rows: row.c ------------------------------------------------------------------------------- */

/* A key being put together; CHECKs that it fits. */
struct row_key {
    uint8_t data[LIMIT_STORE_KEY_BYTES];
    size_t size;
};
void row_key_add(struct row_key *key, struct bytes bytes);
void row_key_add_zero(struct row_key *key); /* the separator */
void row_key_add_be64(struct row_key *key, uint64_t number);
/* first \0 second, the common shape */
struct row_key row_key_pair(struct bytes first, struct bytes second);
static inline struct bytes row_key_bytes(const struct row_key *key)
{
    return bytes_of(key->data, key->size);
}
/* Cut at the next separator (or the end): the part before it; `rest` moves behind it. */
struct bytes row_key_take(struct bytes *rest);

/* Whether the row is there. out_value is lent until the end of the record. */
bool row_get(struct machine *machine, unsigned table, struct bytes key, struct bytes *out_value);
bool row_find(struct machine *machine, unsigned table, struct bytes key);
void row_put_u64(struct machine *machine, unsigned table, struct bytes key, uint64_t value);
/* 0 when absent. */
uint64_t row_get_u64(struct machine *machine, unsigned table, struct bytes key);
/* A count kept in a row that is absent at 0. */
void row_add(struct machine *machine, unsigned table, struct bytes key, int64_t difference);
void row_remove_prefix(struct machine *machine, unsigned table, struct bytes prefix);
/* Memory for one value, lent until the next call. */
uint8_t *row_scratch(struct machine *machine, size_t size);
/* Note how an iterator of the live reader ended, and close it. */
void row_iterator_end(struct machine *machine, struct store_iterator *iterator);

static inline size_t row_padded(size_t size)
{
    return (size + 7) & ~(size_t)7;
}

/* -- parts of objects: part.c ------------------------------------------------------------------ */

#define PART_HEADER_BYTES 32u
/* Also in the header of a WISH: the object has a deletion time. */
#define PART_DYING (1u << 1)

struct part_value {
    struct bytes value; /* the row; empty: there is none */
    uint64_t version;
    uint64_t created_version;
    uint64_t flags;
    struct bytes record;
    struct bytes body;
};
/* Decode a row; an empty one is legal.
 *   answers   whether it has the shape */
bool part_decode(struct bytes value, struct part_value *out);
/* Whether the part is there; *out is zeroed when not. */
bool part_get(struct machine *machine, enum part part, struct bytes key, struct part_value *out);
/* `body` points into `record`; both empty for a part without record. */
void part_put(struct machine *machine, enum part part, struct bytes key,
              const struct part_value *value);
static inline unsigned part_table(enum part part)
{
    return (unsigned)TABLE_WISH + (unsigned)part;
}

/* The object whose parts are in these rows (empty: none); shared with the readers.
 *   answers   whether the rows have the shape */
bool object_row_fill(struct bytes key, const struct bytes rows[PARTS], struct object_row *out);

/* -- history: change.c ------------------------------------------------------------------------- */

/* A change of one object: take a version, change its rows, and write what was before.
 *   before   rows of the parts in `parts` as they were, empty where there was none */
uint64_t change_next_version(struct machine *machine);
void change_write(struct machine *machine, enum change_type type, struct bytes key, uint32_t parts,
                  const struct bytes before[PARTS]);
/* So many bytes of history may be held. */
uint64_t change_bytes_max(const struct machine *machine);
/* Take what machine_rest left, or what an older release had.
 *   answers   STATUS_OK, also when there was none, or none that fits; negative: reading failed */
int change_load(struct machine *machine);

/* -- objects: object.c ------------------------------------------------------------------------- */

struct machine_result object_apply_put(struct machine *machine, const struct arrival *arrival);
struct machine_result object_apply_remove(struct machine *machine, const struct arrival *arrival);
struct machine_result object_apply_verdict(struct machine *machine, const struct arrival *arrival);
/* POD_STATUS, NODE_STATUS, POD_ENDED, DEVICE_STATUS from an upward batch of `node`. */
struct machine_result object_apply_fact(struct machine *machine, const char *node,
                                        const struct arrival *arrival);

/* Read the wish under a key.
 *   out_part    as part_get
 *   out_object  lent until the end of the record
 *   answers     whether it is there */
bool object_find(struct machine *machine, struct bytes key, struct part_value *out_part,
                 struct object *out_object);
/* Remove all parts, tell history and delivery. CHECK: it is there. Answers the version. */
uint64_t object_erase(struct machine *machine, struct bytes key, const struct object *object,
                      const struct arrival *arrival);

/* A Device: bound to a node like a pod, and reported by it. */
static inline bool object_is_device(const struct object *object)
{
    return strcmp(object->group, "devices.kubeedge.io") == 0 &&
           strcmp(object->resource, "devices") == 0;
}
static inline bool object_is(const struct object *object, const char *resource)
{
    return object->group[0] == '\0' && strcmp(object->resource, resource) == 0;
}

/* -- events: event.c --------------------------------------------------------------------------- */

struct machine_result event_apply(struct machine *machine, struct node_row *node,
                                  const struct arrival *arrival);
/* Let go of what is too old. Once per entry. */
void event_sweep(struct machine *machine);
/* An Event object was created: it goes when it is too old. */
void event_note_object(struct machine *machine, struct bytes key, uint64_t version);
void event_forget_node(struct machine *machine, const char *node);

/* -- inbox: inbox.c ------------------------------------------------------------------------------ */

/* DEVICE_VALUE or MQTT_MESSAGE of an upward batch. */
struct machine_result inbox_apply(struct machine *machine, const char *node,
                                  const struct arrival *arrival);
void inbox_forget_node(struct machine *machine, const char *node);

/* -- nodes: node.c ----------------------------------------------------------------------------- */

struct node_cache *node_cache_create(void);
void node_cache_destroy(struct node_cache *cache);
/* Forget all, before an entry. */
void node_cache_clear(struct node_cache *cache);

enum node_touch {
    NODE_DOWN = 1u << 0,
    NODE_UP = 1u << 1,
    NODE_SESSION = 1u << 2,
    NODE_STREAM = 1u << 3,
    NODE_REMOVED = 1u << 4,
};
/* NULL when there is no such node. Changes to the row are kept if node_touch follows. Lent until the
 * end of the entry, or until node_remove. */
struct node_row *node_find(struct machine *machine, struct bytes name);
/* The row changed; `what` is told to the sessions (mask of enum node_touch, may be 0). */
void node_touch(struct machine *machine, struct node_row *node, uint32_t what);
/* A Node object appeared: a new stream. CHECK: there is none of this name. */
struct node_row *node_add(struct machine *machine, const char *name, const char *uid);
/* The stream that begins with this record: no other place in the log makes the number, so no other incarnation
 * of a node has it. */
uint64_t node_stream(const struct machine *machine);
void node_remove(struct machine *machine, struct node_row *node);
/* Write what changed, at the end of an entry, and list it in machine->applied. */
void node_cache_write(struct machine *machine);
/* answers   whether the row has the shape */
bool node_decode(struct bytes name, struct bytes value, struct node_row *out);

struct machine_result node_apply_session(struct machine *machine, const struct arrival *arrival);
struct machine_result node_apply_ack(struct machine *machine, const struct arrival *arrival);
struct machine_result node_apply_batch(struct machine *machine, const struct arrival *arrival);

/* -- delivery: delivery.c ---------------------------------------------------------------------- */

struct down_row {
    uint8_t operation; /* enum down_operation */
    uint8_t reason;    /* enum remove_reason */
    bool in_held;      /* HELD says where the row is, not DOWN_KEY */
    int64_t time_ms;
    uint64_t trace;
    struct bytes key;
    struct bytes uid;
};
enum down_operation { DOWN_PUT = 1, DOWN_REMOVE = 2 };
bool down_decode(struct bytes value, struct down_row *out);

/* HELD row: tag, then uid, then where the node is told of it. */
#define HELD_TAG_BYTES 16u
struct held_row {
    struct tag tag;
    struct bytes uid;
    uint64_t
        sequence; /* of the DOWN row, which is there if it was not swept; 0: DOWN_KEY says it */
};
bool held_decode(struct bytes value, struct held_row *out);

/* A wish was written. `before` is NULL when the object is new. Tells every node that holds it or
 * needs it now, and makes a node's log when a Node appears. */
void delivery_put(struct machine *machine, struct bytes key, const struct object *before,
                  const struct object *object, const struct arrival *arrival);
/* A wish was removed; its row is gone already. */
void delivery_remove(struct machine *machine, struct bytes key, const struct object *object,
                     const struct arrival *arrival);
/* Read which objects bound pods name, so that writing another one need not look for its REF rows: that took a
 * quarter of the time of such a record. A bit set for nothing costs that look again; none is missing. */
void reference_load(struct machine *machine);
/* Pods bound to this name. */
uint64_t delivery_bound_count(struct machine *machine, const char *node);
/* The node has everything up to `position`. */
void delivery_acknowledge(struct machine *machine, struct node_row *node, uint64_t position);
/* A node is gone: its rows go too. Pods bound to it go without its leave, those with finalizers
 * excepted. */
void delivery_forget_node(struct machine *machine, const char *node, const struct arrival *arrival);

/* -- origins: origin.c ------------------------------------------------------------------------- */

enum origin_answer {
    ORIGIN_NEW = 1,   /* apply it, then origin_keep */
    ORIGIN_KNOWN = 2, /* results and count are in machine->results and *out_count */
    ORIGIN_STALE = 3, /* refuse it */
};
struct origin_head {
    bool there;      /* else this is the first command of its origin, or of nobody */
    uint64_t newest; /* sequence */
    uint64_t gone;   /* rows up to this one are trimmed */
};
enum origin_answer origin_find(struct machine *machine, const struct command *command,
                               struct origin_head *out_head, uint32_t *out_count);
/* Keep the results of a new one; `head` is the one that was found. */
void origin_keep(struct machine *machine, const struct command *command, struct origin_head head,
                 uint32_t count);

/* -- access: access.c -------------------------------------------------------------------------- */

enum access_place {
    ACCESS_COMMAND = 1, /* a record of a command */
    ACCESS_UP = 2,      /* a record of an upward batch */
};
bool access_allows(uint16_t kind, enum access_place place);
/* Whether `node` may report a fact with this key: about itself, or about a pod, which is then still
 * to be compared with what the pod is bound to. */
bool access_allows_fact(const char *node, uint16_t kind, const char *key);

/* -- keys of cloudcores: member_key.c ------------------------------------------------------------ */

/* MEMBER_KEY: a key is noted, or those of a replica are shut out or let in again.
 *   answers   ACCEPTED, ACCEPTED_UNCHANGED [how many keys]; REFUSED_MALFORMED; REFUSED_OWNER: the key to be
 *             noted is out [since this entry] */
struct machine_result member_key_apply(struct machine *machine, const struct arrival *arrival);

/* -- settings: setting.c ----------------------------------------------------------------------- */

struct machine_result setting_apply(struct machine *machine, const struct arrival *arrival);
void setting_load(struct machine *machine);

#endif
