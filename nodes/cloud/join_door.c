#include "nodes/cloud/join_door.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nodes/cloud/api_json.h"
#include "nodes/cloud/join_names.h"
#include "nodes/config.h"
#include "nodes/logger.h"
#include "nodes/net/identity_tls.h"
#include "nodes/program.h"
#include "schemas/check.h"

#define TOKEN_ID_BYTES     8u
#define TOKEN_SECRET_BYTES 32u
#define ADD_MS             10000u
#define BACKDATE_S         3600

/* What is asked of the API at the moment. */
enum join_stage {
    JOIN_LOOKS, /* for the token, in what this replica has */
    JOIN_ASKS,  /* for it, whoever leads */
    JOIN_TAKES, /* a use of it */
};

/* One replica that joins. */
struct join {
    struct join_door *door;
    struct http_exchange *exchange;
    json_t *wanted; /* the body */
    char id[TOKEN_ID_BYTES + 1];
    char hash[IDENTITY_PIN_BYTES]; /* of the secret that was shown */
    char key[IDENTITY_PIN_BYTES];  /* that is to be certified */
    uint64_t replica;
    uint32_t attempts;
    uint64_t deadline_ms;
    uint32_t *place; /* of its door, the count that it is in; NULL: of none yet */
    enum join_stage stage;
    bool answering; /* from inside of api_request: go on when it has returned */
    uint32_t status;
    json_t *answer;
    char certificate[IDENTITY_CERTIFICATE_BYTES];
};

static void answer_json(struct http_exchange *exchange, uint32_t code, json_t *taken)
{
    char *text = json_dumps(taken, JSON_COMPACT);
    CHECK(text != NULL);
    http_answer(exchange, code, "application/json", bytes_text(text));
    free(text);
    json_decref(taken);
}

static void answer_message(struct http_exchange *exchange, uint32_t code, const char *message)
{
    json_t *object = json_pack("{s:s}", "message", message);
    answer_json(exchange, code, object == NULL ? json_object() : object);
}

/* Leave the count it is in for another one, or NULL. */
static void join_place(struct join *join, uint32_t *place)
{
    if (join->place != NULL) {
        CHECK(*join->place > 0);
        (*join->place)--;
    }
    join->place = place;
    if (place != NULL) {
        (*place)++;
    }
}

static void join_end(struct join *join)
{
    join_place(join, NULL);
    json_decref(join->wanted);
    json_decref(join->answer);
    free(join);
}

static void join_refuse(struct join *join, uint32_t code, const char *message)
{
    if (code == 429) {
        http_answer_header(join->exchange, "Retry-After", "1");
    }
    logger_warn_limited("join_refused", "replica=%" PRIu64 " token=%s code=%" PRIu32 " reason=%s",
                        join->replica, join->id, code, message);
    answer_message(join->exchange, code, message);
    join_end(join);
}

/* -- our own client of the API door ------------------------------------------------------------------ */

static void on_header(void *client, const char *name, const char *value)
{
    (void)client;
    (void)name;
    (void)value;
}

static void join_step(struct join *join);

static void on_answer(void *client, uint32_t status, const char *content_type, struct bytes body)
{
    (void)content_type;
    struct join *join = client;
    join->status = status;
    json_decref(join->answer);
    join->answer = json_loadb((const char *)body.data, body.size, 0, NULL);
    if (join->answering) {
        join->answering = false;
    } else {
        join_step(join);
    }
}

static int on_begin(void *client, uint32_t status, const char *content_type)
{
    (void)client;
    (void)status;
    (void)content_type;
    return STATUS_CLOSING; /* nothing that is asked for here is a stream */
}

static int on_chunk(void *client, struct bytes bytes)
{
    (void)client;
    (void)bytes;
    return STATUS_CLOSING;
}

static void on_end(void *client, bool whole)
{
    (void)whole;
    on_answer(client, 503, "", bytes_of(NULL, 0));
}

static const struct api_client_events events = {
    .header = on_header,
    .answer = on_answer,
    .begin = on_begin,
    .chunk = on_chunk,
    .end = on_end,
};

/* Ask the API for the Secret of the token, as the group itself. */
static void secret_request(struct join *join, enum join_stage stage, const char *method,
                           struct bytes body)
{
    join->stage = stage;
    static const char *const groups[] = {IDENTITY_MASTER_GROUP};
    const struct api_identity identity = {
        .verified = true, .user = "kelp:join", .groups = groups, .group_count = 1};
    char name[32];
    (void)snprintf(name, sizeof name, "kelp-join-%s", join->id);
    struct http_request request = {
        .method = method,
        .target = "",
        .path = "",
        .segments = {"api", "v1", "namespaces", "kube-system", "secrets", name},
        .segments_count = 6,
        .headers = {{"Content-Type", "application/json"}},
        .headers_count = 1,
        .parameters = {{"resourceVersion", "0"}}, /* any version: the one that is here */
        .parameters_count = stage == JOIN_LOOKS ? 1 : 0,
        .body = body,
    };
    join->answering = true;
    const bool waits =
        api_request(join->door->api, &request, &identity, &events, join) != NULL && join->answering;
    const bool answered = !join->answering;
    join->answering = false;
    if (answered) {
        join_step(join);
    } else {
        CHECK(waits);
    }
}

/* -- the token --------------------------------------------------------------------------------------- */

static int digit_of(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c == '\0' ? NULL : strchr(digits, c);
    return at == NULL ? -1 : (int)(at - digits);
}

/* A field of the Secret's data: base64 of a short text. false: it is not there, or no text. */
static bool secret_field(const json_t *secret, const char *key, char *out, size_t size)
{
    const char *text = json_string_value(json_object_get(json_object_get(secret, "data"), key));
    uint32_t bits = 0;
    int held = 0;
    size_t filled = 0;
    for (; text != NULL && *text != '\0' && *text != '='; text++) {
        const int digit = digit_of(*text);
        if (digit < 0 || filled + 1 >= size) {
            return false;
        }
        bits = bits << 6 | (uint32_t)digit;
        held += 6;
        if (held >= 8) {
            held -= 8;
            out[filled] = (char)(bits >> held & 0xff);
            filled++;
        }
    }
    out[filled] = '\0';
    return filled > 0;
}

static bool same_hash(const char *a, const char *b)
{
    uint8_t different = strlen(a) != strlen(b);
    for (size_t i = 0; a[i] != '\0' && b[i] != '\0'; i++) {
        different |= (uint8_t)(a[i] ^ b[i]); /* all of it, whatever differs: time tells nothing */
    }
    return different == 0;
}

/* Take one use: the Secret with one less, or none of it any more; only if it is still the one we read. */
static void token_take(struct join *join, int64_t uses)
{
    json_t *secret = join->answer;
    const char *version = json_text_at(secret, "metadata.resourceVersion");
    const char *uid = json_text_at(secret, "metadata.uid");
    json_t *body;
    if (uses > 1) {
        char text[24];
        (void)snprintf(text, sizeof text, "%" PRIi64, uses - 1);
        body = json_incref(secret);
        CHECK(json_object_set_new(secret, "stringData", json_pack("{s:s}", "uses", text)) == 0);
    } else {
        body = json_pack("{s:{s:s, s:s}}", "preconditions", "resourceVersion", version, "uid", uid);
    }
    char *text = body == NULL ? NULL : json_dumps(body, JSON_COMPACT);
    json_decref(body);
    CHECK(text != NULL);
    secret_request(join, JOIN_TAKES, uses > 1 ? "PUT" : "DELETE", bytes_text(text));
    free(text);
}

/* Whether what was asked for is this token, with its secret. */
static bool token_is_right(const struct join *join)
{
    char hash[IDENTITY_PIN_BYTES + 4];
    return join->status == 200 && secret_field(join->answer, "hash", hash, sizeof hash) &&
           same_hash(hash, join->hash);
}

/* The names that are asked for, compared with those that the token allows. */
static bool token_is_for(struct join *join)
{
    char allowed[JOIN_NAMES_MAX * (LIMIT_NAME_BYTES + 1)];
    char host[256];
    char message[JOIN_NAMES_MESSAGE_BYTES];
    uint16_t port;
    size_t i;
    const json_t *san;
    CHECK(config_parse_address(json_text_at(join->wanted, "address"), host, &port) == 0);
    const struct join_names names = {
        .members = cloud_core_members(join->door->core),
        .replica = join->replica,
        .host = host,
        .allowed = secret_field(join->answer, "sans", allowed, sizeof allowed) ? allowed : "",
        .certificate = join->door->certificate,
    };
    json_array_foreach(json_object_get(join->wanted, "sans"), i, san)
    {
        if (!join_names_allow(&names, json_string_value(san), message)) {
            join_refuse(join, 403, message);
            return false;
        }
    }
    return true;
}

static void token_check(struct join *join)
{
    char expires[32];
    char uses[32];
    if (join->status != 200 && join->status != 404) {
        join_refuse(join, 503, "the token cannot be looked up now: there is no leader; try again");
        return;
    }
    if (!token_is_right(join) || !secret_field(join->answer, "expires", expires, sizeof expires) ||
        !secret_field(join->answer, "uses", uses, sizeof uses)) {
        join_refuse(join, 403, "there is no such token: it was used up, deleted, or never made");
        return;
    }
    if (join->place != &join->door->joining && join->door->joining >= LIMIT_JOINS) {
        join_refuse(join, 429, "others are joining: try again");
        return;
    }
    join_place(join, &join->door->joining);
    const int64_t wall_ms = program_wall_ms();
    const int64_t group_ms = cloud_core_time_ms(join->door->core);
    if (strtoll(expires, NULL, 10) <= (wall_ms > group_ms ? wall_ms : group_ms)) {
        join_refuse(join, 403, "the token is over: make another with kelp token create");
        return;
    }
    if (token_is_for(join)) {
        token_take(join, strtoll(uses, NULL, 10));
    }
}

/* -- the certificate and the group ----------------------------------------------------------------------- */

static void join_on_added(void *context, int status, const char *message)
{
    struct join *join = context;
    if (status != 0) {
        join_refuse(join,
                    status == STATUS_TIMEOUT              ? 504
                    : status == CLOUD_CORE_CHANGE_REFUSED ? 409
                                                          : 503,
                    message);
        return;
    }
    json_t *list = json_array();
    const struct members *members = cloud_core_members(join->door->core);
    for (uint32_t i = 0; i < members->count; i++) {
        if (members->all[i].configured) {
            CHECK(json_array_append_new(list, json_pack("{s:I, s:s}", "replica",
                                                        (json_int_t)members->all[i].replica,
                                                        "address", members->all[i].address)) == 0);
        }
    }
    logger_info("replica_joined", "replica=%" PRIu64 " token=%s address=%s", join->replica,
                join->id, json_text_at(join->wanted, "address"));
    json_t *answer =
        json_pack("{s:s, s:s, s:s, s:o}", "message", message, "certificate", join->certificate,
                  "cluster", cloud_core_report(join->door->core).cluster, "members", list);
    CHECK(answer != NULL);
    answer_json(join->exchange, 200, answer);
    join_end(join);
}

static void join_sign(struct join *join)
{
    char name[32];
    const char *sans[JOIN_NAMES_MAX];
    size_t count = 0;
    size_t i;
    const json_t *san;
    json_array_foreach(json_object_get(join->wanted, "sans"), i, san)
    {
        if (count < JOIN_NAMES_MAX && json_is_string(san)) {
            sans[count] = json_string_value(san);
            count++;
        }
    }
    (void)snprintf(name, sizeof name, "cloudcore-%" PRIu64, join->replica);
    const char *const group = IDENTITY_CLOUD_GROUP;
    const int64_t now_s = program_wall_ms() / 1000;
    const struct identity_request request = {
        .common_name = name,
        .groups = &group,
        .groups_count = 1,
        .sans = sans,
        .sans_count = count,
        .server = true,
        .client = true,
        .valid_from_s = now_s - BACKDATE_S,
        .valid_until_s = now_s + (int64_t)IDENTITY_SERVER_DAYS * 86400,
    };
    char reason[IDENTITY_REASON_BYTES];
    if (identity_sign(join->door->authority, join->door->authority_key, &request,
                      json_text_at(join->wanted, "key"), join->certificate, reason) != 0) {
        join_refuse(join, 400, reason);
        return;
    }
    const int status = cloud_core_change(join->door->core, MEMBER_ADD, join->replica,
                                         json_text_at(join->wanted, "address"), join->key, ADD_MS,
                                         join_on_added, join);
    if (status != 0) {
        join_refuse(join, 503, status_text(status));
    }
}

/* The API has answered. */
static void join_step(struct join *join)
{
    if (program_mono_ms() >= join->deadline_ms) {
        join_refuse(join, 504, "it took too long, as there is no leader for long: try again");
        return;
    }
    if (join->stage == JOIN_LOOKS && !token_is_right(join)) {
        if (join->door->guessing >= LIMIT_JOIN_GUESSES) {
            join_refuse(join, 429,
                        "this cloudcore does not know the token, and asks for others: try again");
            return;
        }
        join_place(join, &join->door->guessing);
        secret_request(join, JOIN_ASKS, "GET", bytes_of(NULL, 0));
        return;
    }
    if (join->stage != JOIN_TAKES) {
        token_check(join);
        return;
    }
    if (join->status == 200) {
        join_sign(join);
    } else if ((join->status == 409 || join->status == 404) &&
               join->attempts < LIMIT_API_WRITE_RETRIES) {
        join->attempts++;
        secret_request(join, JOIN_ASKS, "GET",
                       bytes_of(NULL, 0)); /* somebody else used it just now */
    } else {
        join_refuse(join, 503, "the token cannot be used now: try again");
    }
}

/* -- the door ------------------------------------------------------------------------------------------------ */

static bool hex_of(const char *text, size_t size)
{
    return strspn(text, "0123456789abcdef") >= size;
}

/* What is wrong with the body; NULL: nothing. */
static const char *join_read(struct join *join)
{
    const char *token = json_text_at(join->wanted, "token");
    const char *address = json_text_at(join->wanted, "address");
    const json_int_t replica = json_integer_value(json_object_get(join->wanted, "replica"));
    char host[256];
    uint16_t port = 0;
    if (strlen(token) != TOKEN_ID_BYTES + 1 + TOKEN_SECRET_BYTES ||
        !hex_of(token, TOKEN_ID_BYTES) || token[TOKEN_ID_BYTES] != '.' ||
        !hex_of(token + TOKEN_ID_BYTES + 1, TOKEN_SECRET_BYTES)) {
        return "\"token\" is not ID.SECRET of a token";
    }
    if (replica < 1 || replica > 65535) {
        return "\"replica\" is not the number of a cloudcore: 1 to 65535";
    }
    if (strpbrk(address, "#*") != NULL || strlen(address) > MEMBERS_ADDRESS_BYTES ||
        config_parse_address(address, host, &port) != 0 || port == 0 || host[0] == '\0') {
        return "\"address\" is not host:port, such as 10.0.0.4:10010";
    }
    if (json_array_size(json_object_get(join->wanted, "sans")) > JOIN_NAMES_MAX ||
        json_array_size(json_object_get(join->wanted, "sans")) == 0) {
        return "\"sans\" are not 1 to 8 names or addresses";
    }
    size_t i;
    const json_t *san;
    json_array_foreach(json_object_get(join->wanted, "sans"), i, san)
    {
        if (!json_is_string(san)) {
            return "\"sans\" are not 1 to 8 names or addresses";
        }
    }
    if (identity_key_of_pem(json_text_at(join->wanted, "key"), join->key) != 0) {
        return "\"key\" is no Ed25519 or ECDSA public key in PEM";
    }
    if (cloud_core_key_out(join->door->core, join->key)) {
        return "this key is of a replica that was removed, and is not heard any more: move the "
               "file "
               "cloudcore-ID.key away, and the next kelp cluster join makes another";
    }
    memcpy(join->id, token, TOKEN_ID_BYTES);
    identity_sha256(bytes_of(token + TOKEN_ID_BYTES + 1, TOKEN_SECRET_BYTES), join->hash);
    join->replica = (uint64_t)replica;
    return NULL;
}

static void serve_join(struct join_door *door, struct http_exchange *exchange)
{
    const struct bytes body = http_exchange_request(exchange)->body;
    struct join *join = calloc(1, sizeof *join);
    CHECK(join != NULL);
    join->door = door;
    join->deadline_ms = program_mono_ms() + LIMIT_JOIN_MS;
    join->exchange = exchange;
    join->wanted = json_loadb((const char *)body.data, body.size, JSON_REJECT_DUPLICATES, NULL);
    const char *wrong =
        json_is_object(join->wanted) ? join_read(join) : "the body is not a JSON object";
    if (wrong != NULL) {
        join_refuse(join, 400, wrong);
        return;
    }
    if (door->authority_key[0] == '\0') {
        join_refuse(
            join, 501,
            "this cloudcore signs no certificates, since it has no tls.authorityKey: ask another "
            "one, or make one with `kelp pki server`, and use `kelp cluster add`");
        return;
    }
    const struct member *member = members_find(cloud_core_members(door->core), join->replica);
    if (member != NULL && member->configured &&
        (member->role == REPLICA_VOTER ||
         strcmp(member->address, json_text_at(join->wanted, "address")) != 0)) {
        join_refuse(join, 409,
                    "this number is a member of the group: take another, or `kelp cluster remove` "
                    "it first");
        return;
    }
    secret_request(join, JOIN_LOOKS, "GET", bytes_of(NULL, 0));
}

static void serve_authority(const struct join_door *door, struct http_exchange *exchange)
{
    FILE *file = fopen(door->authority, "re");
    static char pem[LIMIT_PEM_BYTES];
    const size_t size = file == NULL ? 0 : fread(pem, 1, sizeof pem, file);
    if (file != NULL) {
        fclose(file);
    }
    http_answer(exchange, size > 0 ? 200 : 503, "application/x-pem-file", bytes_of(pem, size));
}

bool join_door_serve(struct join_door *door, struct http_exchange *exchange)
{
    const struct http_request *request = http_exchange_request(exchange);
    if (request->segments_count != 3 || strcmp(request->segments[0], "kelp") != 0 ||
        strcmp(request->segments[1], "v1") != 0) {
        return false;
    }
    if (strcmp(request->segments[2], "authority") == 0 && strcmp(request->method, "GET") == 0) {
        serve_authority(door, exchange);
        return true;
    }
    if (strcmp(request->segments[2], "join") == 0 && strcmp(request->method, "POST") == 0) {
        serve_join(door, exchange);
        return true;
    }
    return false;
}
