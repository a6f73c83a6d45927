#include "nodes/cloud/join_names.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "nodes/config.h"
#include "nodes/net/identity_tls.h"

/* An address has more than one spelling.
 *   returns   bytes of it; 0: a DNS name */
static size_t address_bytes(const char *text, uint8_t out[16])
{
    return inet_pton(AF_INET, text, out) == 1 ? 4 : inet_pton(AF_INET6, text, out) == 1 ? 16 : 0;
}

static bool name_same(const char *a, const char *b)
{
    uint8_t one[16];
    uint8_t other[16];
    const size_t size = address_bytes(a, one);
    if (size != address_bytes(b, other)) {
        return false;
    }
    return size > 0 ? memcmp(one, other, size) == 0 : strcasecmp(a, b) == 0;
}

/* Whether one is for what the other is for: "*.example" stands for a.example, as identity_tls signs and checks it. */
static bool name_covers(const char *one, const char *other)
{
    const char *dot = strchr(other, '.');
    return name_same(one, other) || (strncmp(one, "*.", 2) == 0 && dot != NULL && dot != other &&
                                     name_same(one + 2, dot + 1));
}

static bool name_listed(const char *list, const char *san)
{
    char name[LIMIT_NAME_BYTES + 1];
    while (*list != '\0') {
        const size_t size = strcspn(list, ",");
        if (size < sizeof name) {
            memcpy(name, list, size);
            name[size] = '\0';
            if (name_same(name, san)) {
                return true;
            }
        }
        list += size + (list[size] == ',');
    }
    return false;
}

static bool name_is_local(const char *san)
{
    uint8_t address[16];
    static const uint8_t loopback[16] = {[15] = 1};
    switch (address_bytes(san, address)) {
    case 4:
        return address[0] == 127;
    case 16:
        return memcmp(address, loopback, sizeof loopback) == 0;
    default:
        return strcasecmp(san, "localhost") == 0;
    }
}

/* Whose it is; 0: nobody else's. */
static uint64_t name_owner(const struct join_names *names, const char *san)
{
    char host[256];
    uint16_t port;
    for (uint32_t i = 0; i < names->members->count; i++) {
        const struct member *member = &names->members->all[i];
        if (member->replica != names->replica &&
            config_parse_address(member->address, host, &port) == 0 &&
            (name_covers(host, san) || name_covers(san, host))) {
            return member->replica;
        }
    }
    return names->certificate != NULL && names->members->self != names->replica &&
                   identity_file_is_for(names->certificate, san)
               ? names->members->self
               : 0;
}

bool join_names_allow(const struct join_names *names, const char *san, char *message)
{
    if (name_listed(names->allowed, san) || name_is_local(san)) {
        return true;
    }
    const uint64_t owner = name_owner(names, san);
    if (owner == 0 && strchr(san, '*') == NULL && name_same(san, names->host)) {
        return true;
    }
    if (owner != 0) {
        (void)snprintf(
            message, JOIN_NAMES_MESSAGE_BYTES,
            "a certificate for %.200s would pass for replica %" PRIu64
            ", whose name that is; if they share it, make a token that says so: kelp token create "
            "--san %.200s",
            san, owner, san);
    } else {
        (void)snprintf(message, JOIN_NAMES_MESSAGE_BYTES,
                       "a certificate for %.200s is not what this token is for: that is the host "
                       "of --address, "
                       "and what kelp token create --san names",
                       san);
    }
    return false;
}
