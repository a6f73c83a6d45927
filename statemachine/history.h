/* What objects were before each of the last changes, in memory.
 *
 * One entry for each version of the cluster, without holes between the floor and the newest. It is no part of the state: a
 * process begins with none, or with what an orderly end left (machine_rest), and replicas need not hold the same. It is what a watch that comes a little late is told from;
 * who is behind the floor lists anew, as with a kube-apiserver that was restarted.
 *
 * Not in the store, since each entry would be written, indexed, and removed again a second later: of 27 us of processor
 * time that a changed object cost a replica in RocksDB, 22 were its history.
 */
#ifndef KELP_STATEMACHINE_HISTORY_H
#define KELP_STATEMACHINE_HISTORY_H

#include "statemachine/object.h"

/* Lent until the next history_add, history_trim or history_forget. */
struct history_entry {
    uint64_t version;
    uint64_t newer; /* the next change of the same key; 0: none is held */
    uint64_t last
        [PARTS]; /* the newest change of each part up to this one; 0: none was held when it was made */
    uint64_t hash;
    enum change_type type;
    uint32_t parts; /* mask of those that changed */
    struct bytes key;
    struct bytes before[PARTS]; /* of those that changed, 8-byte aligned; empty: there was none */
    uint64_t memory[];
};

struct history;

struct history *history_create(void); /* given: hand it to history_destroy */
void history_destroy(struct history *history);

/* Forget all: changes up to this version cannot be told. */
void history_forget(struct history *history, uint64_t version);
/* A change. Copies.
 *   version  CHECK: one above the newest
 *   key      empty: of nothing that is looked for (an event of an edge)
 *   before   of each part in `parts`, as it was */
void history_add(struct history *history, uint64_t version, enum change_type type, struct bytes key,
                 uint32_t parts, const struct bytes before[PARTS]);
/* Forget the oldest until no more than so many bytes are held, what holds them included; all of them if one alone is
 * larger. */
void history_trim(struct history *history, uint64_t bytes_max);

/* Up to this version all is forgotten. */
uint64_t history_floor(const struct history *history);
uint64_t history_newest(const struct history *history);
/* Memory, what holds the entries included; of one, as history_trim counts it. */
uint64_t history_bytes(const struct history *history);
size_t history_entry_bytes(const struct history_entry *entry);
/* CHECK: floor < version <= newest. */
const struct history_entry *history_at(const struct history *history, uint64_t version);
/* What was first changed behind this entry in that part of its object; NULL: it is as it was then. */
const struct history_entry *history_later(const struct history *history,
                                          const struct history_entry *entry, enum part part);

#endif
