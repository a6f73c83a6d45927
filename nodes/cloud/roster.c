#include "nodes/cloud/roster.h"

#include <string.h>

#include "schemas/check.h"
#include "schemas/status.h"

#define ROSTER_FORMAT 2u
#define ROSTER_ACTIVE 1u
#define ROSTER_FOUNDS 2u
#define HEAD_BYTES    24u /* u32 format, u32 flags, u64 incarnation, u32 how many, u32 zero */
#define KNOWN_BYTES   24u

static_assert(HEAD_BYTES + KNOWN_BYTES * LIMIT_MEMBERS <= ROSTER_BYTES, "all that is known fits");

void roster_set_others(struct roster *roster, const uint64_t *others, uint32_t other_count)
{
    CHECK(other_count <= LIMIT_REPLICAS);
    roster->other_count = other_count;
    if (other_count > 0) {
        memcpy(roster->others, others, other_count * sizeof others[0]);
    }
}

void roster_init(struct roster *roster, uint64_t incarnation, const uint64_t *others,
                 uint32_t other_count)
{
    *roster = (struct roster){
        .incarnation = incarnation == 0 ? 1 : incarnation,
        .active = other_count == 0,
        .founds = other_count == 0,
    };
    roster_set_others(roster, others, other_count);
}

size_t roster_encode(const struct roster *roster, uint8_t *out)
{
    put_le32(out, ROSTER_FORMAT);
    put_le32(out + 4, (roster->active ? ROSTER_ACTIVE : 0) | (roster->founds ? ROSTER_FOUNDS : 0));
    put_le64(out + 8, roster->incarnation);
    put_le32(out + 16, roster->known_count);
    put_le32(out + 20, 0);
    uint8_t *at = out + HEAD_BYTES;
    for (uint32_t i = 0; i < roster->known_count; i++) {
        put_le64(at, roster->known[i].replica);
        put_le64(at + 8, roster->known[i].incarnation);
        put_le64(at + 16, roster->known[i].epoch);
        at += KNOWN_BYTES;
    }
    return (size_t)(at - out);
}

int roster_decode(struct roster *roster, struct bytes bytes)
{
    if (bytes.size < HEAD_BYTES) {
        return STATUS_CORRUPT;
    }
    if (get_le32(bytes.data) != ROSTER_FORMAT) {
        return STATUS_FOREIGN;
    }
    const uint32_t count = get_le32(bytes.data + 16);
    if (count > LIMIT_MEMBERS || bytes.size != HEAD_BYTES + (size_t)count * KNOWN_BYTES ||
        get_le64(bytes.data + 8) == 0) {
        return STATUS_CORRUPT;
    }

    roster->active = (get_le32(bytes.data + 4) & ROSTER_ACTIVE) != 0;
    roster->founds = (get_le32(bytes.data + 4) & ROSTER_FOUNDS) != 0;
    roster->incarnation = get_le64(bytes.data + 8);
    roster->known_count = count;
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *at = bytes.data + HEAD_BYTES + (size_t)i * KNOWN_BYTES;
        roster->known[i] = (struct peer_known){get_le64(at), get_le64(at + 8), get_le64(at + 16)};
    }
    return 0;
}

uint64_t roster_known(const struct roster *roster, uint64_t replica, uint64_t epoch)
{
    for (uint32_t i = 0; i < roster->known_count; i++) {
        if (roster->known[i].replica == replica && roster->known[i].epoch >= epoch) {
            return roster->known[i].incarnation;
        }
    }
    return 0;
}

enum roster_meeting roster_meet(struct roster *roster, uint64_t replica, uint64_t incarnation,
                                uint64_t epoch)
{
    CHECK(incarnation != 0);
    for (uint32_t i = 0; i < roster->known_count; i++) {
        struct peer_known *known = &roster->known[i];
        if (known->replica == replica && known->epoch >= epoch) {
            return known->incarnation == incarnation ? ROSTER_KNOWN : ROSTER_STRANGER;
        }
        if (known->replica == replica) {
            *known = (struct peer_known){replica, incarnation, epoch};
            return ROSTER_NEW;
        }
    }
    if (roster->known_count == LIMIT_MEMBERS) {
        return ROSTER_FULL;
    }
    roster->known[roster->known_count] = (struct peer_known){replica, incarnation, epoch};
    roster->known_count++;
    return ROSTER_NEW;
}

bool roster_forget(struct roster *roster, uint64_t replica)
{
    for (uint32_t i = 0; i < roster->known_count; i++) {
        if (roster->known[i].replica == replica) {
            roster->known_count--;
            roster->known[i] = roster->known[roster->known_count];
            return true;
        }
    }
    return false;
}

void roster_told(struct roster *roster, uint64_t replica, uint64_t incarnation, uint64_t epoch)
{
    uint32_t place = 0;
    while (place < roster->word_count && roster->words[place].replica != replica) {
        place++;
    }
    if (place == LIMIT_MEMBERS) {
        place = 0; /* somebody who is no member any more: whoever is will say it again */
    } else if (place == roster->word_count) {
        roster->word_count++;
    }
    roster->words[place].replica = replica;
    roster->words[place].epoch = epoch;
    roster->words[place].word = incarnation == 0                     ? ROSTER_SILENT
                                : incarnation == roster->incarnation ? ROSTER_SAYS_US
                                                                     : ROSTER_SAYS_ANOTHER;
}

enum roster_word roster_word(const struct roster *roster, uint64_t replica)
{
    for (uint32_t i = 0; i < roster->word_count; i++) {
        if (roster->words[i].replica == replica) {
            return roster->words[i].word;
        }
    }
    return ROSTER_SILENT;
}

uint32_t roster_needed(const struct roster *roster)
{
    const uint32_t others = roster->other_count;
    const uint32_t minority = others / 2;                    /* of all may lose their data, ... */
    const uint32_t beside = minority > 0 ? minority - 1 : 0; /* ... the new one being one of them */
    return others == 0 ? 0
                       : (others + beside) / 2 + 1; /* twice this is more than others + beside */
}

uint32_t roster_confirmed(const struct roster *roster)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < roster->other_count; i++) {
        count += roster_word(roster, roster->others[i]) == ROSTER_SAYS_US;
    }
    return count;
}

enum roster_place roster_place(const struct roster *roster)
{
    if (roster->active) {
        return ROSTER_TAKES_PART;
    }
    bool us = false;
    bool another = false;
    uint64_t us_epoch = 0;
    uint64_t another_epoch = 0;
    for (uint32_t i = 0; i < roster->word_count; i++) {
        const uint64_t epoch = roster->words[i].epoch;
        if (roster->words[i].word == ROSTER_SAYS_US) {
            us = true;
            us_epoch = epoch > us_epoch ? epoch : us_epoch;
        } else if (roster->words[i].word == ROSTER_SAYS_ANOTHER) {
            another = true;
            another_epoch = epoch > another_epoch ? epoch : another_epoch;
        }
    }
    if (another && (!us || another_epoch >= us_epoch)) {
        return ROSTER_LOST;
    }
    return roster_confirmed(roster) >= roster_needed(roster) ? ROSTER_MAY : ROSTER_WAITS;
}
