/* Which data directory is behind each number, and whether ours may take part.
 *
 * A replica that lost its data directory has forgotten whom it voted for and what it acknowledged. Under
 * its old number and with an empty log it could help a leader into office that lacks what was agreed. So
 * each data directory has an incarnation, a number drawn when it is made, and:
 *
 *   1. replicas tell each other theirs, and what they know of the others' (in the greeting);
 *   2. a replica writes down, durably, the first incarnation it meets under each number, and from then on
 *      hears nobody else under it;
 *   3. a new data directory takes no part, neither votes nor takes entries, before enough of the other
 *      replicas have said that they know it by its incarnation (roster_needed): of those in its configuration
 *      file, or of the members once a group says that it is one of them; and nobody knows another one. That it takes part is then written down, too.
 *
 * Why that is enough: who took part was known to so many before, and so many must know the new one. Two such
 * sets share more replicas than a minority that lost its data has beside the new one, so somebody has met
 * both, remembers it, and says so. It is 2 of 2 others, 3 of 4, 5 of 6: a group is founded once all of three,
 * four of five, six of seven have met; later starts need nobody. A number that the group
 * removes and adds again is another membership: its epoch, the log index it was added at, is in raft's
 * configuration (nodes/cloud/members.h), and what was met in an older one counts no more. So a replica comes
 * back with a new disk: removed, added again as a standby, given the state.
 *
 * Pure: the caller makes it durable (the log's file `roster`) and sends the greetings.
 */
#ifndef KELP_NODES_CLOUD_ROSTER_H
#define KELP_NODES_CLOUD_ROSTER_H

#include "schemas/bytes.h"
#include "schemas/codec.h"
#include "schemas/limits.h"

#define ROSTER_BYTES (32u + 24u * LIMIT_MEMBERS)

enum roster_word { ROSTER_SILENT, ROSTER_SAYS_US, ROSTER_SAYS_ANOTHER };

struct roster {
    /* durable */
    uint64_t incarnation; /* ours, not 0 */
    bool active;          /* we take part */
    bool founds; /* active: with an empty log, as one of those that found the group; else one waits
                             to be told by a leader. Decided when it became active, once and for all */
    struct peer_known known[LIMIT_MEMBERS];
    uint32_t known_count;

    /* of this life */
    uint64_t others
        [LIMIT_REPLICAS]; /* who may vouch for us: of the configuration file, or of the group */
    uint32_t other_count;
    struct {
        uint64_t replica;
        enum roster_word word; /* what it said last of our number ... */
        uint64_t epoch;        /* ... and of which membership that is */
    } words[LIMIT_MEMBERS];
    uint32_t word_count;
};

/* A new data directory.
 *   incarnation  drawn at random; 0 becomes 1
 *   others       of the configuration file: none, and it takes part at once, and founds */
void roster_init(struct roster *roster, uint64_t incarnation, const uint64_t *others,
                 uint32_t other_count);
/* A group that has us as a member has these others: they vouch for us from now on. At most LIMIT_REPLICAS */
void roster_set_others(struct roster *roster, const uint64_t *others, uint32_t other_count);
/* What is durable of it.
 *   out      ROSTER_BYTES bytes
 *   returns  how many of them */
size_t roster_encode(const struct roster *roster, uint8_t *out);
/* Read it back, over what roster_init made. Answers 0; STATUS_CORRUPT; STATUS_FOREIGN: a newer format. */
int roster_decode(struct roster *roster, struct bytes bytes);

enum roster_meeting {
    ROSTER_KNOWN,
    ROSTER_NEW,      /* written down now: store it before this replica is heard */
    ROSTER_STRANGER, /* another one is known by this number */
    ROSTER_FULL,     /* LIMIT_MEMBERS are known */
};
/* A replica says that its data directory is this one; not 0.
 *   epoch   of its membership, as we know it: what was met in an older one counts no more */
enum roster_meeting roster_meet(struct roster *roster, uint64_t replica, uint64_t incarnation,
                                uint64_t epoch);
/* The incarnation known by this number, 0: none, or only of a membership before this epoch. */
uint64_t roster_known(const struct roster *roster, uint64_t replica, uint64_t epoch);
/* The number is no member any more. Answers whether anything was known: store it then. */
bool roster_forget(struct roster *roster, uint64_t replica);

/* What a replica knows of our number, as its greeting says: `incarnation`, 0 when it has not met us. */
void roster_told(struct roster *roster, uint64_t replica, uint64_t incarnation, uint64_t epoch);
/* What it said last. */
enum roster_word roster_word(const struct roster *roster, uint64_t replica);

enum roster_place {
    ROSTER_TAKES_PART,
    ROSTER_MAY, /* enough have said that they know us: set `active`, perhaps `founds`, and store that before
                   taking part */
    ROSTER_WAITS,
    ROSTER_LOST, /* somebody knows our number with another data directory, in no older membership than
                    anybody knows us */
};
enum roster_place roster_place(const struct roster *roster);
/* How many of the others have to know us, and how many of them have said so. */
uint32_t roster_needed(const struct roster *roster);
uint32_t roster_confirmed(const struct roster *roster);

#endif
