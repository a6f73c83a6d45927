/* What edges said to the cloud that is no state of any object: every value of a device that keeps them all,
 * and what clients of an edge's broker sent. Events: each arrives once, in the order of its edge.
 *
 * Numbered per node from 1, without gaps, kept until there are more than `inbox_rows_max` of a node, or more
 * bytes than `inbox_bytes_max`; then the oldest go, so a reader that lost some sees it by the numbers. Read by whoever carries them on (rules), from
 * any thread with a snapshot.
 */
#ifndef KELP_STATEMACHINE_INBOX_H
#define KELP_STATEMACHINE_INBOX_H

#include "statemachine/machine.h"

#define INBOX_NONE 1 /* nothing newer */

struct inbox_row {
    uint64_t number;     /* of this node, from 1 */
    uint16_t kind;       /* RECORD_DEVICE_VALUE or RECORD_MQTT_MESSAGE */
    struct bytes record; /* Record bytes as the edge made them, 8-byte aligned */
};

/* The oldest of a node with a number > after.
 *   out       lent until store_reader_reset
 *   answers   STATUS_OK; INBOX_NONE; negative: reading failed */
int inbox_next(struct store_reader *reader, const char *node, uint64_t after,
               struct inbox_row *out);
/* How many ever came from a node, which is the newest number, and how many of them are kept.
 *   answers   STATUS_OK, with zeros for a node that said nothing; negative */
int inbox_count(struct store_reader *reader, const char *node, uint64_t *out_last,
                uint64_t *out_kept);

#endif
