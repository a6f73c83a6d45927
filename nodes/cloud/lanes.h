/* A queue that many fill and nobody can fill for the others: a lane for each, served in turn.
 *
 * A lane is a number of the caller: a session, the API. Items of one lane keep their order. Between lanes it is
 * deficit round robin: whoever's turn it is gives as many bytes as its share, so a lane with a hundred thousand
 * items delays an item of another lane by one share, not by all of them. An item larger than a share waits until
 * its lane has saved for it.
 *
 * What was taken still counts in its lane until lanes_done: so a bound on a lane covers what is under way, too.
 * Items are embedded in what the caller queues; lanes come and go by themselves.
 */
#ifndef KELP_NODES_CLOUD_LANES_H
#define KELP_NODES_CLOUD_LANES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LANES_BUCKETS    1024u
#define LANES_ITEM_BYTES 256u /* what each item costs beside its bytes: small ones are work, too */

struct lane;

struct lane_item {           /* embedded by the caller; ours from lanes_push to lanes_done */
    struct lane_item *next;  /* in its lane */
    struct lane_item *older; /* among all that are queued */
    struct lane_item *younger;
    struct lane *lane;
    size_t bytes;
};

struct lane {
    uint64_t number;
    struct lane *next_bucket;
    struct lane *next_turn; /* a ring of those that have something queued */
    struct lane *previous_turn;
    struct lane_item *head;
    struct lane_item *tail;
    size_t share;
    size_t deficit; /* what it may still give in this turn */
    bool in_turn;   /* its share of this turn was added */
    uint32_t count; /* items queued and taken, until they are done */
    size_t bytes;
};

struct lanes { /* zeroed at first */
    struct lane *buckets[LANES_BUCKETS];
    struct lane *turn; /* whose turn it is; NULL: nothing is queued */
    struct lane_item *oldest;
    struct lane_item *youngest;
    uint32_t count; /* of all lanes */
    size_t bytes;
};

/* What a lane holds; NULL: nothing. Lent until the next call that changes something. */
const struct lane *lanes_find(const struct lanes *lanes, uint64_t number);

/* Queue an item at the end of a lane.
 *   share   bytes that this lane gives in a turn, at least one: the newest word counts */
void lanes_push(struct lanes *lanes, uint64_t number, size_t share, struct lane_item *item,
                size_t bytes);
/* The item whose turn it is; NULL: nothing is queued. The answer stays the same until lanes_take. */
struct lane_item *lanes_next(struct lanes *lanes);
/* The item that was queued first of all; NULL: nothing is queued. */
struct lane_item *lanes_oldest(const struct lanes *lanes);
/* Take what lanes_next or lanes_oldest answered out of the queue. */
void lanes_take(struct lanes *lanes, struct lane_item *item);
/* An item that was taken is over. */
void lanes_done(struct lanes *lanes, struct lane_item *item);

#endif
