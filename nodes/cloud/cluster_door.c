#include "nodes/cloud/cluster_door.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nodes/config.h"
#include "nodes/net/identity_tls.h"
#include "nodes/program.h"
#include "schemas/check.h"
#include "statemachine/member_key.h"

#define DOCUMENT_BYTES  16384u
#define PATIENCE_MS     10000u
#define PATIENCE_MS_MAX 60000u
#define REPLICA_MAX     65535
#define SHUT_OUT_SHOWN  8u /* keys in the document */

/* -- how the group is ------------------------------------------------------------------------------ */

static const char *space_name(uint8_t space)
{
    return space == CLOUD_CORE_SPACE_PLENTY ? "plenty"
           : space == CLOUD_CORE_SPACE_LOW  ? "low"
                                            : "none";
}

static json_t *member_document(const struct member *member, uint64_t leader, uint64_t commit,
                               uint64_t now_ms)
{
    const enum member_state state = members_state(member, now_ms);
    const struct peer_status *status = &member->status;
    json_t *object =
        json_pack("{s:I, s:s, s:b, s:s, s:s, s:s}", "replica", (json_int_t)member->replica, "role",
                  member->configured ? members_role_text(member->role) : "none", "leader",
                  member->replica == leader, "address", member->address, "state",
                  members_state_text(state), "version", member->software);
    CHECK(object != NULL);
    if (member->heard_ms == 0) {
        return object;
    }
    /* what it lacked when it was heard says nothing about one that is gone */
    const uint64_t lag = state != MEMBER_UNREACHABLE ? member->lag
                         : commit > status->applied  ? commit - status->applied
                                                     : 0;
    json_t *more = json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:I, s:I, s:I}", "term", (json_int_t)status->term,
        "last", (json_int_t)status->last, "commit", (json_int_t)status->commit, "applied",
        (json_int_t)status->applied, "lag", (json_int_t)lag, "sessions",
        (json_int_t)status->sessions, "diskFreeBytes", (json_int_t)status->disk_free_bytes, "space",
        space_name(status->space), "logBytes", (json_int_t)status->log_bytes, "startedMs",
        (json_int_t)status->started_ms, "heardMs", (json_int_t)member->heard_wall_ms);
    CHECK(more != NULL);
    CHECK(json_object_update(object, more) == 0);
    json_decref(more);
    if (status->standing == STANDING_BEHIND) {
        CHECK(json_object_set_new(object, "behindPercent", json_integer(status->percent)) == 0);
    }
    return object;
}

/* The keys that are shut out, the newest first, SHUT_OUT_SHOWN at most. */
static json_t *keys_document(struct cloud_core *core, uint32_t *out_count)
{
    struct member_key_row *rows = malloc(LIMIT_MEMBER_KEYS * sizeof *rows);
    CHECK(rows != NULL);
    const uint32_t count = cloud_core_keys(core, rows);
    json_t *list = json_array();
    uint64_t before = UINT64_MAX;
    uint32_t shown = 0;
    *out_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        *out_count += rows[i].out;
    }
    while (shown < SHUT_OUT_SHOWN) {
        uint64_t newest = 0; /* what went out with one entry is shown together */
        for (uint32_t i = 0; i < count; i++) {
            const uint64_t index = rows[i].out ? rows[i].index : 0;
            newest = index < before && index > newest ? index : newest;
        }
        if (newest == 0) {
            break;
        }
        for (uint32_t i = 0; i < count && shown < SHUT_OUT_SHOWN; i++) {
            if (rows[i].out && rows[i].index == newest) {
                CHECK(json_array_append_new(list, json_pack("{s:I, s:s, s:I}", "replica",
                                                            (json_int_t)rows[i].replica, "key",
                                                            rows[i].key, "sinceMs",
                                                            (json_int_t)rows[i].time_ms)) == 0);
                shown++;
            }
        }
        before = newest;
    }
    free(rows);
    return list;
}

size_t cluster_door_document(struct cloud_core *core, char *buffer, size_t size)
{
    const struct members *members = cloud_core_members(core);
    const struct cloud_core_report report = cloud_core_report(core);
    const uint64_t now_ms = program_mono_ms();
    bool any = false;
    for (uint32_t i = 0; i < members->count; i++) {
        any = any || members->all[i].configured;
    }
    json_t *list = json_array();
    bool healthy = any && report.leader != 0 && report.contested_by == 0;
    uint64_t term = 0;
    for (uint32_t i = 0; i < members->count; i++) {
        const struct member *member = &members->all[i];
        if (!(any ? member->configured : member->listed)) {
            continue; /* before there is a group: those that would be it */
        }
        healthy = healthy && members_state(member, now_ms) == MEMBER_OK;
        term = member->status.term > term ? member->status.term : term;
        CHECK(json_array_append_new(list, member_document(member, report.leader,
                                                          members_commit(members), now_ms)) == 0);
    }
    uint32_t keys_count = 0;
    json_t *keys = keys_document(core, &keys_count);
    json_t *document = json_pack(
        "{s:s, s:I, s:I, s:I, s:I, s:b, s:I, s:I, s:I, s:o, s:o, s:I, s:I}", "cluster",
        report.cluster, "asked", (json_int_t)members->self, "leader", (json_int_t)report.leader,
        "term", (json_int_t)term, "commit", (json_int_t)members_commit(members), "healthy", healthy,
        "voters", (json_int_t)members_voters(members), "votersWell",
        (json_int_t)members_voters_well(members, now_ms), "timeMs", (json_int_t)program_wall_ms(),
        "members", list, "shutOut", keys, "shutOutCount", (json_int_t)keys_count, "contestedBy",
        (json_int_t)report.contested_by);
    CHECK(document != NULL);
    const size_t written = json_dumpb(document, buffer, size, JSON_COMPACT);
    json_decref(document);
    return written > size ? 0 : written;
}

/* -- changing it ------------------------------------------------------------------------------------- */

static void answer_change(struct http_exchange *exchange, uint32_t code, const char *outcome,
                          const char *message)
{
    json_t *object = json_pack("{s:s, s:s}", "outcome", outcome, "message", message);
    char *text = object == NULL ? NULL : json_dumps(object, JSON_COMPACT); /* NULL: not UTF-8 */
    http_answer(exchange, code, "application/json",
                text == NULL ? bytes_text("{\"outcome\":\"refused\",\"message\":\"?\"}")
                             : bytes_text(text));
    free(text);
    json_decref(object);
}

static void on_changed(void *context, int status, const char *message)
{
    struct http_exchange *exchange = context;
    switch (status) {
    case 0:
        answer_change(exchange, 200, "done", message);
        return;
    case CLOUD_CORE_CHANGE_REFUSED:
        answer_change(exchange, 409, "refused", message);
        return;
    case CLOUD_CORE_CHANGE_LATER:
        answer_change(exchange, 409, "later", message);
        return;
    case STATUS_TIMEOUT:
        answer_change(exchange, 504, "timeout", message);
        return;
    default:
        answer_change(exchange, 503, "unavailable", message);
        return;
    }
}

static bool address_valid(const char *address)
{
    char host[256];
    uint16_t port;
    return strchr(address, '#') == NULL && strlen(address) <= MEMBERS_ADDRESS_BYTES &&
           config_parse_address(address, host, &port) == 0 && port != 0 && host[0] != '\0';
}

static void serve_change(struct cloud_core *core, struct http_exchange *exchange,
                         enum member_operation operation)
{
    const struct bytes body = http_exchange_request(exchange)->body;
    json_t *wanted = json_loadb((const char *)body.data, body.size, JSON_REJECT_DUPLICATES, NULL);
    const json_int_t replica = json_integer_value(json_object_get(wanted, "replica"));
    const char *address = json_string_value(json_object_get(wanted, "address"));
    json_int_t patience_ms = PATIENCE_MS;
    if (json_is_integer(json_object_get(wanted, "timeoutMs"))) {
        patience_ms = json_integer_value(json_object_get(wanted, "timeoutMs"));
    }
    const char *key = json_string_value(json_object_get(wanted, "key"));
    address = address == NULL ? "" : address;
    key = key == NULL ? "" : key;
    const char *wrong = NULL;
    if (!json_is_object(wanted)) {
        wrong = "the body is not a JSON object";
    } else if (replica < (operation == MEMBER_TRANSFER ? 0 : 1) || replica > REPLICA_MAX) {
        wrong = "\"replica\" is not the number of a cloudcore: 1 to 65535";
    } else if (operation == MEMBER_ADD && !address_valid(address)) {
        wrong = "\"address\" is not host:port, such as 10.0.0.4:10010";
    } else if (key[0] != '\0' && !member_key_valid(key)) {
        wrong = "\"key\" is not the sha256 of a public key in hexadecimal";
    } else if (patience_ms < 0 || patience_ms > PATIENCE_MS_MAX) {
        wrong = "\"timeoutMs\" is not within 0 and 60000";
    }
    if (wrong != NULL) {
        answer_change(exchange, 400, "malformed", wrong);
    } else {
        const int status = cloud_core_change(
            core, operation, (uint64_t)replica, operation == MEMBER_ADD ? address : "",
            operation == MEMBER_ADD || operation == MEMBER_REMOVE ? key : "", (uint32_t)patience_ms,
            on_changed, exchange);
        if (status != 0) {
            answer_change(exchange, status == STATUS_FULL ? 429 : 503, "unavailable",
                          status_text(status));
        }
    }
    json_decref(wanted);
}

/* -- the door ------------------------------------------------------------------------------------------ */

bool cluster_door_allowed(struct http_exchange *exchange)
{
    const struct link_peer *peer = http_exchange_peer(exchange);
    for (uint32_t i = 0; i < peer->groups_count; i++) {
        if (peer->verified && strcmp(peer->groups[i], IDENTITY_MASTER_GROUP) == 0) {
            return true;
        }
    }
    answer_change(exchange, peer->verified ? 403 : 401, "refused",
                  "this needs a certificate of group system:masters");
    return false;
}

bool cluster_door_serve(struct cloud_core *core, struct http_exchange *exchange)
{
    const struct http_request *request = http_exchange_request(exchange);
    if (request->segments_count < 3 || strcmp(request->segments[0], "kelp") != 0 ||
        strcmp(request->segments[1], "v1") != 0 || strcmp(request->segments[2], "cluster") != 0) {
        return false;
    }
    if (!cluster_door_allowed(exchange)) {
        return true;
    }
    if (request->segments_count == 3 && strcmp(request->method, "GET") == 0) {
        char text[DOCUMENT_BYTES];
        const size_t size = cluster_door_document(core, text, sizeof text);
        CHECK(size > 0); /* LIMIT_REPLICAS members of a bounded size each */
        http_answer(exchange, 200, "application/json", bytes_of(text, size));
        return true;
    }
    const enum member_operation operation = request->segments_count == 4
                                                ? members_operation_parse(request->segments[3])
                                                : (enum member_operation)0;
    if (operation == 0) {
        answer_change(exchange, 404, "refused", "there is no such path under /kelp/v1/cluster");
    } else if (strcmp(request->method, "POST") != 0) {
        answer_change(exchange, 405, "refused", "a change of the group is a POST");
    } else {
        serve_change(core, exchange, operation);
    }
    return true;
}
