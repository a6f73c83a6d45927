/* A machine on a simulated disk, and short words to say records with. */
#ifndef KELP_TESTS_STATEMACHINE_MACHINE_FIXTURE_H
#define KELP_TESTS_STATEMACHINE_MACHINE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "schemas/check.h"
#include "statemachine/delivery.h"
#include "statemachine/machine.h"
#include "statemachine/object.h"

struct fixture {
    struct store_sim *disk;
    struct store *store;
    struct machine machine;
    struct codec *codec; /* of what is built; reset by each apply */
    struct codec *lent;  /* of what is read */
    uint64_t index;
    int64_t time_ms;
    uint64_t origin;
    uint64_t sequence;
    const struct machine_applied *applied; /* of the newest entry */
};

void fixture_open(struct fixture *f);
void fixture_close(struct fixture *f);
/* The process dies and comes back with what the disk chose to keep. */
void fixture_crash(struct fixture *f, uint64_t choice);
/* The machine ends and begins again on the store as it is. */
void fixture_reopen(struct fixture *f);
struct store_reader *fixture_live(struct fixture *f);

/* The bytes of a record; lent until the next apply. */
struct bytes record_of(struct fixture *f, uint16_t kind, const char *key, struct bytes body);
struct bytes record_put(struct fixture *f, uint8_t mode, const struct object *object);
struct bytes record_put_if(struct fixture *f, uint64_t version, const char *uid,
                           const struct object *object);
struct bytes record_remove(struct fixture *f, const char *key, uint64_t version, const char *uid);
struct bytes record_setting(struct fixture *f, const char *name, int64_t value);
struct bytes record_session(struct fixture *f, const char *node, const char *uid, uint64_t stream,
                            uint64_t position);
struct bytes record_ack(struct fixture *f, const char *node, uint64_t epoch, uint64_t stream,
                        uint64_t position);
struct bytes record_pod_status(struct fixture *f, const char *key, const char *uid, uint8_t phase);
struct bytes record_pod_ended(struct fixture *f, const char *key, const char *uid);
struct bytes record_node_status(struct fixture *f, const char *key, const char *capacity);
struct bytes record_event(struct fixture *f, const char *key, const char *message);
struct bytes record_verdict(struct fixture *f, const char *key, const char *uid, bool reachable);
/* A batch (previous, previous + count] of these records. */
struct bytes record_up(struct fixture *f, const char *node, uint64_t epoch, uint64_t stream,
                       uint64_t previous, const struct bytes *records, uint32_t count);

/* The bytes of a command; sequence 0 is nobody's. */
struct bytes command_of(struct fixture *f, uint64_t origin, uint64_t sequence,
                        const struct bytes *records, uint32_t count);
/* One entry with these records; asserts that it is applied. */
void apply_many(struct fixture *f, const struct bytes *records, uint32_t count);
/* One entry with one record. */
struct machine_result apply(struct fixture *f, struct bytes record);
/* Asserts the outcome, answers the value. */
uint64_t expect(struct fixture *f, enum outcome outcome, struct bytes record);

/* Objects; texts are borrowed. */
struct object object_namespace(const char *name);
struct object object_node(const char *name, const char *uid);
struct object object_pod(const char *name, const char *uid, const char *node);
struct object object_configmap(const char *name, const char *uid, const char *json);
/* Its key; lent until the next call but seven. */
const char *key_of(const struct object *object);
/* The tag a door would make: of all that the machine compares. */
struct tag tag_of(const struct object *object);

#endif
