#include "nodes/cloud/members.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "schemas/check.h"

/* -- the table ------------------------------------------------------------------------------------ */

struct member *members_find(const struct members *members, uint64_t replica)
{
    for (uint32_t i = 0; i < members->count; i++) {
        if (members->all[i].replica == replica) {
            return (struct member *)&members->all[i];
        }
    }
    return NULL;
}

struct member *members_add(struct members *members, uint64_t replica)
{
    CHECK(replica != 0);
    struct member *member = members_find(members, replica);
    if (member != NULL || members->count == LIMIT_MEMBERS) {
        return member;
    }
    uint32_t place = members->count;
    while (place > 0 && members->all[place - 1].replica > replica) {
        place--;
    }
    memmove(&members->all[place + 1], &members->all[place],
            (members->count - place) * sizeof members->all[0]);
    members->count++;
    members->all[place] = (struct member){.replica = replica};
    return &members->all[place];
}

static void members_drop(struct members *members, uint32_t place)
{
    members->count--;
    memmove(&members->all[place], &members->all[place + 1],
            (members->count - place) * sizeof members->all[0]);
}

struct member *members_welcome(struct members *members, uint64_t replica)
{
    struct member *member = members_add(members, replica);
    if (member != NULL) {
        return member;
    }
    const struct member *goes = NULL;
    for (uint32_t i = 0; i < members->count; i++) {
        const struct member *guest = &members->all[i];
        if (!guest->configured && !guest->listed && guest->replica != members->self &&
            (goes == NULL || (guest->foreign && !goes->foreign) ||
             (guest->foreign == goes->foreign && guest->met_ms < goes->met_ms))) {
            goes = guest;
        }
    }
    if (goes == NULL) {
        return NULL;
    }
    members_drop(members, (uint32_t)(goes - members->all));
    return members_add(members, replica);
}

/* Take "host:port" or "host:port#epoch". */
static void member_set_address(struct member *member, const char *address)
{
    const size_t size = strcspn(address, "#");
    (void)snprintf(member->address, sizeof member->address, "%.*s", (int)size, address);
    const uint64_t epoch = address[size] == '#' ? strtoull(address + size + 1, NULL, 10) : 0;
    if (epoch > member->epoch) { /* another membership: who it is now, it is to say now */
        member->met_ms = 0;
        member->incarnation = 0;
        member->stranger = false;
        member->claims = 0;
    }
    member->epoch = epoch;
}

bool members_here(const struct member *member, uint64_t now_ms)
{
    const uint64_t ms = member->heard_ms > member->met_ms ? member->heard_ms : member->met_ms;
    return ms != 0 && now_ms - ms < MEMBERS_ALIVE_MS;
}

void members_expire(struct members *members, uint64_t now_ms)
{
    for (uint32_t i = members->count; i > 0;
         i--) { /* from the end: dropping moves what is behind */
        const struct member *member = &members->all[i - 1];
        if (!member->configured && !member->listed && member->replica != members->self &&
            !members_here(member, now_ms)) {
            members_drop(members, i - 1);
        }
    }
}

void members_configure(struct members *members, const struct replica_member *now, uint32_t count)
{
    CHECK(count <= LIMIT_REPLICAS);
    for (uint32_t i = 0; i < members->count; i++) {
        members->all[i].configured = false;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct member *member = members_add(members, now[i].id);
        if (member == NULL) { /* full of guests: the group goes first */
            for (uint32_t k = 0; k < members->count && member == NULL; k++) {
                const struct member *guest = &members->all[k];
                bool wanted = guest->replica == members->self;
                for (uint32_t n = 0; n < count; n++) {
                    wanted = wanted || now[n].id == guest->replica;
                }
                if (!wanted) {
                    members_drop(members, k);
                    member = members_add(members, now[i].id);
                }
            }
        }
        CHECK(member != NULL); /* LIMIT_MEMBERS > LIMIT_REPLICAS */
        member->configured = true;
        member->role = now[i].role;
        member_set_address(member, now[i].address);
    }
}

uint32_t members_voters(const struct members *members)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < members->count; i++) {
        count += members->all[i].configured && members->all[i].role == REPLICA_VOTER;
    }
    return count;
}

uint32_t members_voters_well(const struct members *members, uint64_t now_ms)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < members->count; i++) {
        const struct member *member = &members->all[i];
        const enum member_state state = members_state(member, now_ms);
        count += member->configured && member->role == REPLICA_VOTER &&
                 (state == MEMBER_OK || state == MEMBER_SHORT);
    }
    return count;
}

uint64_t members_commit(const struct members *members)
{
    uint64_t commit = 0;
    for (uint32_t i = 0; i < members->count; i++) {
        const struct member *member = &members->all[i];
        if (member->configured && !member->stranger && member->status.commit > commit) {
            commit = member->status.commit;
        }
    }
    return commit;
}

void members_heard(struct members *members, const struct peer_status *status, uint64_t now_ms,
                   int64_t wall_ms)
{
    struct member *member = members_find(members, status->replica);
    if (member == NULL) {
        return;
    }
    member->heard_ms = now_ms == 0 ? 1 : now_ms;
    member->cut = false;
    member->heard_wall_ms = wall_ms;
    member->status = *status;
    (void)snprintf(member->software, sizeof member->software, "%s", status->software);
    member->status.software = NULL; /* it was the caller's */
    const uint64_t commit = members_commit(members);
    member->lag = commit > status->applied ? commit - status->applied : 0;
}

void members_cut(struct members *members, uint64_t replica, bool cut)
{
    struct member *member = members_find(members, replica);
    if (member != NULL) {
        member->cut = cut;
    }
}

/* -- how a member is ------------------------------------------------------------------------------ */

static bool member_alive(const struct member *member, uint64_t now_ms)
{
    return !member->cut && member->heard_ms != 0 && now_ms - member->heard_ms < MEMBERS_ALIVE_MS;
}

/* It takes part in what is agreed. */
static bool member_works(const struct member *member, uint64_t now_ms)
{
    return member_alive(member, now_ms) && !member->stranger &&
           member->status.standing != STANDING_WAITING && member->status.standing != STANDING_LOST;
}

enum member_state members_state(const struct member *member, uint64_t now_ms)
{
    if (!member_alive(member, now_ms)) {
        return member->stranger && member->met_ms != 0 && now_ms - member->met_ms < MEMBERS_ALIVE_MS
                   ? MEMBER_LOST
                   : MEMBER_UNREACHABLE;
    }
    if (member->stranger || member->status.standing == STANDING_LOST) {
        return MEMBER_LOST;
    }
    if (member->status.standing == STANDING_WAITING) {
        return MEMBER_WAITING;
    }
    if (member->status.standing == STANDING_BEHIND || member->lag > MEMBERS_LAG_MAX ||
        (member->lag > 0 && member->status.applied == 0)) { /* it has nothing at all */
        return MEMBER_BEHIND;
    }
    return member->status.space != 0 ? MEMBER_SHORT : MEMBER_OK;
}

const char *members_state_text(enum member_state state)
{
    switch (state) {
    case MEMBER_OK:
        return "ok";
    case MEMBER_UNREACHABLE:
        return "unreachable";
    case MEMBER_BEHIND:
        return "behind";
    case MEMBER_WAITING:
        return "waiting";
    case MEMBER_LOST:
        return "lost";
    case MEMBER_SHORT:
        return "short";
    }
    CHECK(false);
}

const char *members_role_text(enum replica_member_role role)
{
    switch (role) {
    case REPLICA_VOTER:
        return "voter";
    case REPLICA_STANDBY:
        return "standby";
    case REPLICA_SPARE:
        return "spare";
    }
    CHECK(false);
}

/* -- changing it ---------------------------------------------------------------------------------- */

static const char *const operation_names[MEMBER_OPERATIONS] = {
    [MEMBER_ADD] = "add",       [MEMBER_PROMOTE] = "promote",   [MEMBER_DEMOTE] = "demote",
    [MEMBER_REMOVE] = "remove", [MEMBER_TRANSFER] = "transfer", [MEMBER_RELEASE] = "release",
    [MEMBER_ADMIT] = "admit",
};

const char *members_operation_text(enum member_operation operation)
{
    return operation < MEMBER_OPERATIONS ? operation_names[operation] : NULL;
}

enum member_operation members_operation_parse(const char *text)
{
    for (uint32_t i = MEMBER_ADD; i < MEMBER_OPERATIONS; i++) {
        if (strcmp(text, operation_names[i]) == 0) {
            return (enum member_operation)i;
        }
    }
    return (enum member_operation)0;
}

__attribute__((format(printf, 2, 3))) static void say(char *message, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(message, MEMBERS_MESSAGE_BYTES, format, arguments);
    va_end(arguments);
}

uint64_t members_successor(const struct members *members, uint64_t not_this, uint64_t now_ms)
{
    const struct member *best = NULL;
    for (uint32_t i = 0; i < members->count; i++) {
        const struct member *member = &members->all[i];
        if (member->replica == not_this || !member->configured || member->role != REPLICA_VOTER ||
            members_state(member, now_ms) != MEMBER_OK) {
            continue;
        }
        if (best == NULL || member->status.last > best->status.last) {
            best = member;
        }
    }
    return best == NULL ? 0 : best->replica;
}

/* Whether the group can still agree when `without` votes no more. Only what was heard since `asked_ms`
 * counts: a replica that died a moment ago would be counted otherwise.
 *   answers   MEMBER_DONE: it can; MEMBER_REFUSED; MEMBER_LISTEN: not enough have been heard yet */
static enum member_step step_quorum(const struct members *members, uint64_t without,
                                    const char *doing, uint64_t asked_ms, uint64_t now_ms,
                                    char *message)
{
    uint32_t voters = 0;
    uint32_t heard = 0;
    uint64_t silent = 0;
    for (uint32_t i = 0; i < members->count; i++) {
        const struct member *member = &members->all[i];
        if (!member->configured || member->role != REPLICA_VOTER || member->replica == without) {
            continue;
        }
        voters++;
        if (member->replica == members->self ||
            (member_works(member, now_ms) && member->heard_ms >= asked_ms)) {
            heard++;
        } else {
            silent = member->replica;
        }
    }
    if (voters == 0) {
        say(message, "replica %" PRIu64 " is the only voter: without it nothing can be agreed on",
            without);
        return MEMBER_REFUSED;
    }
    if (heard >= voters / 2 + 1) {
        return MEMBER_DONE;
    }
    if (now_ms - asked_ms < MEMBERS_ALIVE_MS) {
        say(message, "waiting to hear from replica %" PRIu64, silent);
        return MEMBER_LISTEN;
    }
    say(message,
        "%s replica %" PRIu64 " would leave %" PRIu32 " voters of which %" PRIu32
        " answer: nothing could be agreed on any more. First start replica %" PRIu64
        " again, or remove that one instead",
        doing, without, voters, heard, silent);
    return MEMBER_REFUSED;
}

/* This replica leads and must not any more: who then? */
static enum member_step step_hand_over(const struct members *members, uint64_t now_ms,
                                       uint64_t *out_replica, char *message)
{
    const uint64_t to = members_successor(members, members->self, now_ms);
    if (to == 0) {
        say(message, "replica %" PRIu64 " leads, and no other voter is ready to", members->self);
        return MEMBER_LATER;
    }
    say(message, "replica %" PRIu64 " hands the lead to replica %" PRIu64, members->self, to);
    *out_replica = to;
    return MEMBER_STEP_TRANSFER;
}

static enum member_step step_add(const struct members *members, const struct member *member,
                                 uint64_t replica, const char *address, char *message)
{
    if (member != NULL && member->configured) {
        if (address[0] != '\0' && strcmp(address, member->address) != 0) {
            say(message,
                "replica %" PRIu64 " is a member at %s: remove it before it is added at %s",
                replica, member->address, address);
            return MEMBER_REFUSED;
        }
        say(message, "replica %" PRIu64 " at %s is a %s", replica, member->address,
            members_role_text(member->role));
        return member->role == REPLICA_SPARE ? MEMBER_STEP_STANDBY : MEMBER_DONE;
    }
    uint32_t count = 0;
    for (uint32_t i = 0; i < members->count; i++) {
        const struct member *other = &members->all[i];
        if (other->configured && strcmp(other->address, address) == 0) {
            say(message, "%s is the address of replica %" PRIu64, address, other->replica);
            return MEMBER_REFUSED;
        }
        count += other->configured;
    }
    if (count >= LIMIT_REPLICAS) {
        say(message, "the group has %u members, which is as many as there may be: remove one first",
            LIMIT_REPLICAS);
        return MEMBER_REFUSED;
    }
    say(message, "replica %" PRIu64 " at %s is being added", replica, address);
    return MEMBER_STEP_ADD;
}

static enum member_step step_promote(const struct member *member, uint64_t now_ms, char *message)
{
    const uint64_t replica = member->replica;
    if (member->role == REPLICA_VOTER) {
        say(message, "replica %" PRIu64 " is a voter", replica);
        return MEMBER_DONE;
    }
    if (member->role == REPLICA_SPARE) {
        say(message, "replica %" PRIu64 " becomes a standby first", replica);
        return MEMBER_STEP_STANDBY;
    }
    switch (members_state(member, now_ms)) {
    case MEMBER_UNREACHABLE:
        if (member->heard_ms == 0) {
            say(message,
                "replica %" PRIu64 " has not been heard of yet: is a cloudcore running at %s?",
                replica, member->address);
        } else {
            say(message, "replica %" PRIu64 " has not been heard of for %" PRIu64 " s", replica,
                (now_ms - member->heard_ms) / 1000);
        }
        return MEMBER_LATER;
    case MEMBER_WAITING:
    case MEMBER_LOST:
        say(message, "replica %" PRIu64 " takes no part yet: its log says why", replica);
        return MEMBER_LATER;
    case MEMBER_BEHIND:
        if (member->status.standing == STANDING_BEHIND) {
            say(message, "replica %" PRIu64 " is being given the state: %u %% of it", replica,
                member->status.percent);
        } else {
            say(message,
                "replica %" PRIu64 " lacks %" PRIu64 " entries; up to %u it may become a voter",
                replica, member->lag, MEMBERS_LAG_MAX);
        }
        return MEMBER_LATER;
    case MEMBER_SHORT:
    case MEMBER_OK:
        break;
    }
    say(message, "replica %" PRIu64 " becomes a voter", replica);
    return MEMBER_STEP_VOTER;
}

static enum member_step step_transfer(const struct members *members, const struct member *member,
                                      uint64_t now_ms, uint64_t *out_replica, char *message)
{
    if (member->replica == members->self) {
        say(message, "replica %" PRIu64 " leads", member->replica);
        return MEMBER_DONE;
    }
    if (member->role != REPLICA_VOTER) {
        say(message, "replica %" PRIu64 " is a %s: only a voter may lead", member->replica,
            members_role_text(member->role));
        return MEMBER_REFUSED;
    }
    const enum member_state state = members_state(member, now_ms);
    if (state != MEMBER_OK) {
        say(message, "replica %" PRIu64 " is %s: it cannot lead now", member->replica,
            state == MEMBER_SHORT ? "short of disk space" : members_state_text(state));
        return MEMBER_LATER;
    }
    say(message, "replica %" PRIu64 " is being given the lead", member->replica);
    *out_replica = member->replica;
    return MEMBER_STEP_TRANSFER;
}

enum member_step members_step(const struct members *members, enum member_operation operation,
                              uint64_t replica, const char *address, uint64_t asked_ms,
                              uint64_t now_ms, uint64_t *out_replica, char *message)
{
    enum member_step quorum;
    CHECK(operation >= MEMBER_ADD);
    CHECK(operation < MEMBER_OPERATIONS);
    const struct member *member = members_find(members, replica);
    if (operation == MEMBER_ADD) {
        return step_add(members, member, replica, address, message);
    }
    if (member == NULL || !member->configured || operation == MEMBER_ADMIT) {
        const bool so =
            operation == MEMBER_REMOVE || operation == MEMBER_RELEASE || operation == MEMBER_ADMIT;
        say(message, "replica %" PRIu64 " is %s", replica,
            member != NULL && member->configured ? "a member"
            : so                                 ? "out of the group"
                                                 : "not a member");
        return so ? MEMBER_DONE : MEMBER_REFUSED;
    }
    switch (operation) {
    case MEMBER_PROMOTE:
        return step_promote(member, now_ms, message);
    case MEMBER_TRANSFER:
        return step_transfer(members, member, now_ms, out_replica, message);
    case MEMBER_DEMOTE:
        if (member->role != REPLICA_VOTER) {
            say(message, "replica %" PRIu64 " is a %s", replica, members_role_text(member->role));
            return MEMBER_DONE;
        }
        quorum = step_quorum(members, replica, "demoting", asked_ms, now_ms, message);
        if (quorum != MEMBER_DONE) {
            return quorum;
        }
        if (replica == members->self) {
            return step_hand_over(members, now_ms, out_replica, message);
        }
        say(message, "replica %" PRIu64 " becomes a standby", replica);
        return MEMBER_STEP_STANDBY;
    case MEMBER_REMOVE:
    case MEMBER_RELEASE:
        quorum = member->role != REPLICA_VOTER
                     ? MEMBER_DONE
                     : step_quorum(members, replica, "removing", asked_ms, now_ms, message);
        if (quorum != MEMBER_DONE) {
            return quorum;
        }
        if (replica == members->self) {
            return step_hand_over(members, now_ms, out_replica, message);
        }
        say(message, "replica %" PRIu64 " is being removed", replica);
        return MEMBER_STEP_REMOVE;
    case MEMBER_ADD:
    case MEMBER_ADMIT:
    case MEMBER_OPERATIONS:
        break;
    }
    CHECK(false);
}
