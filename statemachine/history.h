/* What objects were before each of the last changes, in memory.
 *
 * One entry for each version of the cluster, without holes between the floor and the newest. It is no part of the state: a
 * process begins with none, or with what an orderly end left (machine_rest), and replicas need not hold the same. It is
 * what a watch that comes a little late is told from; who is behind the floor lists anew, as with a kube-apiserver that was
 * restarted.
 *
 * Not in the store, since each entry would be written, indexed, and removed again a second later: of 27 us of processor
 * time that a changed object cost a replica in RocksDB, 22 were its history.
 *
 * What a batch of the store changes is added, and counts when that is committed:
 *
 *      history_add ...     nobody sees it yet
 *      history_commit      it is the newest; the oldest go
 *      history_abandon     or it was nothing
 */
#ifndef KELP_STATEMACHINE_HISTORY_H
#define KELP_STATEMACHINE_HISTORY_H

#include "statemachine/object.h"

/* Lent until the next history_commit or history_forget. */
struct history_entry {
    uint64_t version;
    uint64_t newer; /* the next change of the same key; 0: none is held */
    uint64_t prior
        [PARTS]; /* the newest change of each part before this one; 0: none was held when it was made */
    uint64_t hash;
    struct history_entry *next; /* of those that are not committed */
    enum change_type type;
    uint32_t parts; /* mask of those that changed */
    struct bytes key;
    struct bytes before[PARTS]; /* of those that changed, 8-byte aligned; empty: there was none */
    uint64_t memory[];
};

struct history;

struct history *history_create(void); /* given: hand it to history_destroy */
void history_destroy(struct history *history);

/* A change. Copies.
 *   version    CHECK: one above the newest, those that wait included
 *   key        empty: of nothing that is looked for (an event of an edge)
 *   before     of each part in `parts`, as it was
 *   bytes_max  as for history_commit: when more than that waits, nothing of it is kept, and the commit forgets all */
void history_add(struct history *history, uint64_t version, enum change_type type, struct bytes key,
                 uint32_t parts, const struct bytes before[PARTS], uint64_t bytes_max);
/* What was added counts, and the oldest go until no more than so many bytes are held (twice as many are for a moment):
 * entries and what holds them, which is given back when all are gone. Of a lowered bound LIMIT_HISTORY_TRIM entries go at a
 * time. */
void history_commit(struct history *history, uint64_t bytes_max);
/* What was added and not committed is forgotten. */
void history_abandon(struct history *history);
/* Forget all: changes up to this version cannot be told. */
void history_forget(struct history *history, uint64_t version);

/* Up to this version all is forgotten. */
uint64_t history_floor(const struct history *history);
uint64_t history_newest(const struct history *history);
/* Memory, what holds the entries included; of one, as history_commit counts it. */
uint64_t history_bytes(const struct history *history);
size_t history_entry_bytes(const struct history_entry *entry);
/* CHECK: floor < version <= newest. */
const struct history_entry *history_at(const struct history *history, uint64_t version);
/* What was first changed behind this entry in that part of its object; NULL: it is as it was then. Costs as many steps as
 * the object has changes up to there, or changes of the part behind it, whichever are fewer. */
const struct history_entry *history_later(const struct history *history,
                                          const struct history_entry *entry, enum part part);

#endif
