/* What the files of the bus share: bus.c (messages, questions, promises), bus_gather.c (telemetry), bus_names.c
 * (devices by their plain names). */
#ifndef KELP_NODES_EDGE_BUS_INNER_H
#define KELP_NODES_EDGE_BUS_INNER_H

#include "nodes/edge/bus.h"

#define BUS_RETRY_MS       20u    /* before a log that took nothing is asked again */
#define BUS_DONE_MS        1000u  /* after which what was taken is recorded, at the latest */
#define BUS_DONE_COUNT     256u   /* ... and at once when it is so much */
#define BUS_AWAY_MS        60000u /* a broker that is away so long is not waited for any more */
#define BUS_STUCK_MS       2000u  /* a full broker that takes nothing so long is not answered */
#define BUS_GATHER_BUCKETS 1024u
#define BUS_PROMISES       3u /* a record of ours makes at most: result, document, delta */

enum bus_item_type { BUS_ITEM_RECORD, BUS_ITEM_TWIN_GET, BUS_ITEM_MEMBERSHIP_GET, BUS_ITEM_ANSWER };

/* Something that was read and is not done: in a queue, in the order it was said. */
struct bus_item {
    struct bus_item *next;
    enum bus_item_type type;
    uint16_t kind;             /* of a record */
    bool shapes;               /* it may change what twins a device has */
    enum device_topics topics; /* of a question */
    uint64_t after;            /* a question waits for so many records to be applied */
    bool ready;                /* they are: */
    uint64_t told;             /* and for the outbox to be told up to there */
    const char *key;           /* of a device or record; the topic of an answer */
    const char *event_id;      /* of a question */
    struct bytes body;         /* of a record, of an answer */
    size_t size;
    _Alignas(8) uint8_t memory[];
};

struct bus_queue {
    struct bus_item *head; /* oldest first */
    struct bus_item *tail;
};

/* A record that was appended and is not applied. */
struct bus_flight {
    uint32_t size;
    bool shapes;
};

/* A message that a broker was given and has not taken. */
struct bus_outgoing {
    uint64_t position; /* of its promise; 0: an answer */
    bool last;         /* of the messages of that promise */
    uint32_t size;
};

/* What one broker is told: promises in their order, answers between them. */
struct bus_stream {
    bool connected;
    uint64_t away_ms; /* since when it is not; of one that never was: since the first turn */
    struct bus_outgoing outgoing[LIMIT_BUS_OUTGOING]; /* each at its id modulo */
    uint64_t id_first;                                /* oldest that it has not taken */
    uint64_t id_next;
    size_t bytes;     /* of those between */
    uint64_t took_ms; /* when it took one, or was given one when it had all */
    bool more;        /* it has more to tell than was read */
    uint64_t sent;    /* position in the outbox that it was given */
    uint64_t taken;   /* ... and that it has */
};

/* One property of a device that is being gathered. */
struct bus_property {
    char *key;
    char *type;  /* as the state had it */
    char *said;  /* newest type that came with a value; NULL: none */
    char *value; /* newest value; NULL: nothing was said */
};

/* A device of which something was recorded within the window. */
struct bus_window {
    struct bus_window *bucket_next;
    struct bus_window *due_previous;
    struct bus_window *due_next;
    uint64_t due_ms;
    char *key;
    enum device_topics topics;
    bool loaded;                     /* what is below is known */
    bool lasting;                    /* ... until something else than telemetry is said, or wished */
    bool keeps;                      /* every value is to be recorded */
    struct bus_property *properties; /* sorted */
    uint32_t property_count;
    uint32_t pending; /* of them have a value */
};

struct bus_gather {
    struct bus_window *buckets[BUS_GATHER_BUCKETS];
    struct bus_window *due_first; /* due first */
    struct bus_window *due_last;
    uint32_t count;
};

struct bus {
    struct bus_config config;
    struct bus_door door;
    struct bus_time now;
    bool begun; /* `now` is known */
    bool leaving;
    struct codec *codec;     /* of one message: reset with the next */
    struct codec *codec_out; /* of one answer or promise */
    struct bus_text text;
    struct bus_text members; /* the devices, as membership/get tells them */
    uint64_t members_of;     /* record of which state they are; 0: they are not known */

    struct bus_gather gather;
    char **names; /* keys of all devices, by name, namespace "default" first */
    uint32_t name_count;
    uint32_t name_capacity;
    bool names_known;

    struct bus_queue queue;     /* not appended yet */
    struct bus_queue questions; /* those before them are */
    uint64_t queue_count;
    size_t queue_bytes;
    uint64_t question_count;
    uint64_t appended; /* records, since the beginning */
    uint64_t applied;
    struct bus_flight flights[LIMIT_BUS_WAITING]; /* those between, each at its number modulo */
    size_t flight_bytes;
    uint64_t shaping; /* records that are not applied and may change what twins a device has */

    struct bus_stream streams[BUS_BROKERS];
    uint64_t done;        /* position up to which the brokers have everything, as it was recorded */
    uint64_t done_at;     /* number of that record among those appended */
    uint64_t done_due_ms; /* 0: nothing to record */
    uint64_t retry_ms;    /* 0: the log takes records */

    const char *why; /* nothing was made of the last message, or an error; lent by codec */
    struct bus_report report;
};

/* A record goes into the queue.
 *   shapes   whether it may change what twins the device has, or their types */
void bus_record(struct bus *bus, uint16_t kind, const char *key, struct bytes body, bool shapes);

/* Whether less waits for the disk, and for brokers, than keeps them busy (LIMIT_BUS_WAITING_BUSY, LIMIT_BUS_PROMISED_BUSY):
 * only then telemetry becomes records. */
bool bus_keeps_up(const struct bus *bus);
/* Whether more waits to be read. */
bool bus_reads_on(const struct bus *bus);

/* bus_gather.c: what a mapper reports goes into the queue, now or with the window. */
void bus_gather_update(struct bus *bus, const char *key, const struct twin_update *update);
/* What was gathered of a device goes into the queue before what comes next. */
void bus_gather_flush(struct bus *bus, const char *key);
void bus_gather_flush_all(struct bus *bus);
/* What is known of a device may be otherwise now; NULL: of all. */
void bus_gather_forget(struct bus *bus, const char *key);
/* The windows that are over.
 *   answers  when the next one is; UINT64_MAX: none is open, or they wait for the disk, or for a broker */
uint64_t bus_gather_run(struct bus *bus);
/* Whether a window has waited for that for LIMIT_BUS_LATE_MS. */
bool bus_gather_is_late(const struct bus *bus);
void bus_gather_deinit(struct bus *bus);

/* bus_names.c: the key of the device that a topic names; of a plain one the device of that name, in namespace
 * "default" if there are several. Lent by `codec`. */
const char *bus_names_key(struct bus *bus, const struct bus_topic *topic, struct codec *codec);
/* Whether a plain topic means this device, and not one of the same name in another namespace. */
bool bus_names_mean(struct bus *bus, const char *key);
void bus_names_forget(struct bus *bus);

#endif
