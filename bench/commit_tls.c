#include "bench/commit_tls.h"

#include "nodes/cloud/peers.h"
#include "nodes/net/identity_tls.h"
#include "schemas/check.h"
#include "schemas/codec.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define DAY_S 86400

static char place[400];
static struct peers_address addresses[COMMIT_REPLICAS];
static struct peers *peers;
static struct codec *codec_out;
static struct codec *codec_in;
static void (*message_to)(uint64_t from, struct bytes message);

__attribute__((noreturn)) static void give_up(const char *reason)
{
    fprintf(stderr, "commit_bench: %s\n", reason);
    _exit(1);
}

/* A port that nobody listens on now. */
static uint16_t port_free(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    const int handle = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (handle < 0 || bind(handle, (const struct sockaddr *)&address, size) != 0 ||
        getsockname(handle, (struct sockaddr *)&address, &size) != 0) {
        give_up("no port to listen on");
    }
    close(handle);
    return ntohs(address.sin_port);
}

void commit_tls_prepare(const char *directory)
{
    char reason[IDENTITY_REASON_BYTES];
    const int64_t now = time(NULL);
    snprintf(place, sizeof place, "%s/tls", directory);
    if (identity_authority_create(place, "bench", now - DAY_S, now + DAY_S, false, reason) < 0) {
        give_up(reason);
    }
    for (uint32_t i = 0; i < COMMIT_REPLICAS; i++) {
        char name[32];
        snprintf(name, sizeof name, "cloudcore-%u", i + 1);
        const struct identity_request request = {
            .common_name = name,
            .groups = (const char *const[]){IDENTITY_CLOUD_GROUP},
            .groups_count = 1,
            .sans = (const char *const[]){"127.0.0.1"},
            .sans_count = 1,
            .server = true,
            .client = true,
            .valid_from_s = now - DAY_S,
            .valid_until_s = now + DAY_S,
        };
        if (identity_issue(place, &request, place, name, false, reason) < 0) {
            give_up(reason);
        }
        addresses[i] =
            (struct peers_address){.replica = i + 1, .host = "127.0.0.1", .port = port_free()};
    }
}

static struct link_context *context_open(enum link_role role, uint64_t self)
{
    char reason[LINK_REASON_BYTES];
    char authority[512];
    char certificate[512];
    char key[512];
    snprintf(authority, sizeof authority, "%s/ca.crt", place);
    snprintf(certificate, sizeof certificate, "%s/cloudcore-%lu.crt", place, self);
    snprintf(key, sizeof key, "%s/cloudcore-%lu.key", place, self);
    const struct link_files files = {
        .authority = authority, .certificate = certificate, .key = key};
    struct link_context *context = NULL;
    if (link_context_open(role, &files, &context, reason) != 0) {
        give_up(reason);
    }
    return context;
}

static void on_frame(void *owner, uint64_t replica, struct bytes frame)
{
    (void)owner;
    uint16_t kind;
    struct bytes body;
    codec_reset(codec_in);
    if (codec_frame_read(codec_in, frame, &kind, &body) == 0 && kind == WIRE_RAFT) {
        message_to(replica, body);
    }
}

static void on_connected(void *owner, uint64_t replica)
{
    (void)owner;
    (void)replica;
}

static void on_close(void *owner)
{
    (void)owner;
}

void commit_tls_open(uv_loop_t *loop, uint64_t self,
                     void (*on_message)(uint64_t from, struct bytes message))
{
    static const struct peers_events events = {
        .on_frame = on_frame, .on_connected = on_connected, .on_close = on_close};
    char reason[LINK_REASON_BYTES];
    message_to = on_message;
    codec_out = codec_create();
    codec_in = codec_create();
    if (peers_open(loop, context_open(LINK_LISTEN_REQUIRE, self), context_open(LINK_DIAL, self),
                   "127.0.0.1", addresses[self - 1].port, self, &events, NULL, &peers,
                   reason) != 0) {
        give_up(reason);
    }
    peers_set(peers, addresses, COMMIT_REPLICAS);
}

int commit_tls_send(void *context, uint64_t to, struct bytes message)
{
    (void)context;
    struct bytes frame;
    codec_reset(codec_out);
    const int status = codec_frame_build(codec_out, WIRE_RAFT, message, &frame);
    return status != 0 ? status : peers_send(peers, to, frame);
}
