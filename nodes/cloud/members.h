/* The group of cloudcores as one replica sees it: who is in it, how each is, and whether it may be changed.
 *
 * Who is in it is raft's configuration and nothing else. Beside those this table holds replicas that are
 * no members: what the configuration file lists (to find a group that we are new in), and who greeted us
 * because it was a member or wants to be one.
 *
 * A number that is removed and added again is another membership, perhaps with another data directory
 * (roster.h). Its epoch tells them apart: the log index at which it was added, carried behind the address in
 * raft's configuration, so that no replica can miss it, however it learned of the configuration.
 *
 * How each is, replicas tell each other once a second (WIRE_PEER_STATUS), so each can answer for all.
 *
 * A change is asked for as a goal ("4 is a voter") and made in steps of raft: spare, standby, voter, gone.
 * members_step says which step is next, or why there is none. It is asked again after each, so a change
 * that was interrupted, by a new leader for instance, goes on when the goal is asked for again; and asking
 * for what is so already changes nothing. What libraft does badly is not begun:
 *
 *   - nobody becomes a voter from a spare, or before it has nearly all that was agreed;
 *   - a leader leaves, and becomes less than a voter, only after another one leads;
 *   - no voter goes whose going would leave a group that can agree on nothing: a majority of those that
 *     stay must have been heard since it was asked for.
 *
 * Pure: no I/O, no clock.
 */
#ifndef KELP_NODES_CLOUD_MEMBERS_H
#define KELP_NODES_CLOUD_MEMBERS_H

#include "replication/replica.h"
#include "schemas/codec.h"
#include "schemas/limits.h"

#define MEMBERS_STATUS_MS      1000u /* between two words of a replica about itself */
#define MEMBERS_ALIVE_MS       3500u /* silence after which it counts as unreachable: three words lost */
#define MEMBERS_LAG_MAX        1000u /* entries a standby may lack to become a voter: a moment's load */
#define MEMBERS_MESSAGE_BYTES  320u
#define MEMBERS_SOFTWARE_BYTES 64u
/* Raft carries the address of a member that was added as "host:port#epoch". */
#define MEMBERS_ADDRESS_BYTES (LIMIT_NAME_BYTES - 21u)

struct member {
    uint64_t replica;
    char address[LIMIT_NAME_BYTES + 1]; /* host:port for the other cloudcores; "": not known */
    uint64_t epoch;  /* of its membership: 0: it founded, else the index it was added at */
    bool configured; /* in raft's configuration, agreed or not; `role` holds */
    bool listed;     /* in the configuration file */
    enum replica_member_role role;

    uint64_t met_ms;      /* it greeted us then; 0: never */
    uint64_t incarnation; /* of its data directory, as it said last; 0: it did not say */
    bool founded;         /* it said that its cluster has a name */
    uint64_t claims;      /* index of the configuration that it says has us both; 0: none */
    bool
        foreign; /* it greeted as of another cluster, or of another timeline of ours: it is not heard */
    bool apart;    /* its cluster has another name than ours */
    bool stranger; /* not the data directory that was met under this number: it is not heard */
    bool roomy;    /* its disk has room, it said last */

    char key[65]; /* on the newest link with it; "": none was made yet. See core_keys.c */
    bool key_told;        /* that it cannot be noted as that of this member */
    uint64_t shut_out_ms; /* it said last then that our key is out; 0: never */

    uint64_t heard_ms;         /* monotonic, of its last word about itself; 0: never */
    bool cut;                  /* every link with it closed after that, and none was made since */
    int64_t heard_wall_ms;     /* the same; 0: never */
    uint64_t lag;              /* entries that it had not applied then, of those agreed on */
    struct peer_status status; /* its last word; `software` is the field below */
    char software[MEMBERS_SOFTWARE_BYTES];
};

struct members {
    uint64_t self;
    struct member all[LIMIT_MEMBERS]; /* by number */
    uint32_t count;
};

/* NULL: not known here. Lent until the next members_ call that adds or drops. */
struct member *members_find(const struct members *members, uint64_t replica);
/* Make known. Answers NULL when LIMIT_MEMBERS are. */
struct member *members_add(struct members *members, uint64_t replica);
/* The same for one that greets. When LIMIT_MEMBERS are known, a guest goes for it, who is in neither the
 * configuration nor the file: one that is foreign, else the one that greeted longest ago. So nobody keeps others
 * out, however many numbers it greets with. Answers NULL when none is a guest. */
struct member *members_welcome(struct members *members, uint64_t replica);
/* Raft's configuration is this one now. When there is no room, others that are in neither it nor the file
 * are forgotten. */
void members_configure(struct members *members, const struct replica_member *now, uint32_t count);
/* Whether it greeted us or said how it is within MEMBERS_ALIVE_MS. */
bool members_here(const struct member *member, uint64_t now_ms);
/* Forget who is in neither the configuration nor the file, and not here. */
void members_expire(struct members *members, uint64_t now_ms);
/* What a replica says of itself; one that is not known here is ignored.
 *   status   borrowed during the call */
void members_heard(struct members *members, const struct peer_status *status, uint64_t now_ms,
                   int64_t wall_ms);

/* All links with it are closed (`cut`), as they are when its process ends; or there is one again. */
void members_cut(struct members *members, uint64_t replica, bool cut);

/* -- how a member is ---------------------------------------------------------------------------- */

enum member_state {
    MEMBER_OK,
    MEMBER_UNREACHABLE, /* its links are closed, or nothing was heard of it for MEMBERS_ALIVE_MS */
    MEMBER_BEHIND, /* it is being given a newer state, or lacks more than MEMBERS_LAG_MAX entries */
    MEMBER_WAITING, /* it takes no part yet */
    MEMBER_LOST,    /* its data directory is not the one that was met under this number */
    MEMBER_SHORT,   /* of space */
};
enum member_state members_state(const struct member *member, uint64_t now_ms);
/* "ok", "unreachable" ...: lent for ever */
const char *members_state_text(enum member_state state);
const char *members_role_text(enum replica_member_role role);
/* Voters of raft's configuration. */
uint32_t members_voters(const struct members *members);
/* Those of them that have all that was agreed on, or nearly: more than half must, for anything to be agreed on. */
uint32_t members_voters_well(const struct members *members, uint64_t now_ms);
/* Newest index that anybody heard says to be agreed on. */
uint64_t members_commit(const struct members *members);

/* -- changing it ---------------------------------------------------------------------------------- */

enum member_operation {
    MEMBER_ADD = 1, /* as a standby; needs the address */
    MEMBER_PROMOTE, /* a standby becomes a voter */
    MEMBER_DEMOTE,  /* a voter becomes a standby */
    MEMBER_REMOVE,
    MEMBER_TRANSFER, /* a voter becomes the leader */
    MEMBER_RELEASE, /* removed, and its key is not shut out: it comes back with another data directory */
    MEMBER_ADMIT, /* its key, shut out with it, is let in again (core_keys.c) */
    MEMBER_OPERATIONS,
};
/* "add" ...; NULL: there is no such operation */
const char *members_operation_text(enum member_operation operation);
/* 0: none is called so */
enum member_operation members_operation_parse(const char *text);

enum member_step {
    MEMBER_DONE,    /* it is so */
    MEMBER_REFUSED, /* it may not be, and waiting does not change that */
    MEMBER_LATER,   /* not now: the message says what is missing */
    MEMBER_LISTEN,  /* in a moment: who of the others answers is not known yet */
    /* the next step of raft; the caller takes it when none is under way */
    MEMBER_STEP_ADD,
    MEMBER_STEP_STANDBY,
    MEMBER_STEP_VOTER,
    MEMBER_STEP_REMOVE,
    MEMBER_STEP_TRANSFER, /* to *out_replica */
};

/* What to do next towards a goal. Asked on the leader, which `members->self` is.
 *
 *   address      of one that is to be added, else ignored
 *   asked_ms     when it was asked for first
 *   out_replica  MEMBER_STEP_TRANSFER: who is to lead; else untouched
 *   message      MEMBERS_MESSAGE_BYTES bytes, receives a sentence for people
 */
enum member_step members_step(const struct members *members, enum member_operation operation,
                              uint64_t replica, const char *address, uint64_t asked_ms,
                              uint64_t now_ms, uint64_t *out_replica, char *message);
/* The voter that should lead when this one should not: heard, with room, furthest. 0: there is none. */
uint64_t members_successor(const struct members *members, uint64_t not_this, uint64_t now_ms);

#endif
