#include "nodes/cloud/peers.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nodes/logger.h"
#include "nodes/net/identity_tls.h"
#include "schemas/check.h"
#include "schemas/limits.h"

#define HEAD_BYTES  8u
#define DIAL_MS_MIN 100u
#define DIAL_MS_MAX 2000u
/* Links that are told that they are shut out, at once: they take places of others meanwhile. */
#define SHUT_OUT_MAX 4u

/* One link we dialed: what we send to one replica goes here. */
struct peer {
    struct peers *peers;
    struct peer *next;
    uint64_t replica;
    char host[256];
    uint16_t port;
    struct link *link; /* NULL: not connected, the timer dials */
    bool open;         /* handshake done and the certificate is the right one */
    bool leaving;      /* peers_set or peers_close has ended it: not in the list any more */
    bool met;          /* a link in either direction is or was up, and on_lost has not been told */
    uv_timer_t timer;
    bool timer_open;
    uint32_t wait_ms;
};

/* One link that was dialed to us. */
struct inlet {
    struct inlet *next;
    struct peers *peers;
    struct link *link;
    uint64_t replica;
    uint8_t head[HEAD_BYTES];
    uint32_t head_size;
    bool shut_out;  /* it is told so, and nothing of it is looked at */
    uint8_t *frame; /* being received, malloc'd: 8-byte aligned */
    uint32_t frame_size;
    uint32_t frame_filled;
};

struct peers {
    uv_loop_t *loop;
    struct link_context *dial;
    struct link_listener *listener;
    const struct peers_events *events;
    void *owner;
    uint64_t self;
    struct peer *first;
    struct inlet *inlets;
    uint32_t inlet_count;
    uint32_t open_handles; /* listener, timers, dialed links, inlets: the last one frees */
    bool closing;
    uint64_t chance; /* jitter of the back-off; not a secret */
};

uint64_t peers_replica_of(const struct link_peer *peer)
{
    static const char prefix[] = "cloudcore-";
    bool ours = false;
    for (uint32_t i = 0; i < peer->groups_count; i++) {
        ours = ours || strcmp(peer->groups[i], IDENTITY_CLOUD_GROUP) == 0;
    }
    if (!peer->verified || !ours || strncmp(peer->common_name, prefix, sizeof prefix - 1) != 0) {
        return 0;
    }
    const char *digits = peer->common_name + sizeof prefix - 1;
    char *end;
    const unsigned long id = strtoul(digits, &end, 10);
    return digits[0] >= '1' && digits[0] <= '9' && *end == 0 && id <= UINT32_MAX ? id : 0;
}

static void peers_handle_closed(struct peers *peers)
{
    CHECK(peers->open_handles > 0);
    peers->open_handles--;
    if (peers->open_handles > 0) {
        return;
    }
    CHECK(peers->closing);
    const struct peers_events *events = peers->events;
    void *owner = peers->owner;
    free(peers);
    events->on_close(owner);
}

static struct peer *peers_find(const struct peers *peers, uint64_t replica)
{
    struct peer *peer = peers->first;
    while (peer != NULL && peer->replica != replica) {
        peer = peer->next;
    }
    return peer;
}

/* A link has ended. When it was the last one between us and that replica, the owner is told: a link that
 * breaks by itself leaves the other one, a process that ends takes both along. */
static void peers_link_ended(struct peers *peers, uint64_t replica)
{
    struct peer *peer = peers_find(peers, replica);
    if (peers->closing || peer == NULL || peer->open || !peer->met) {
        return;
    }
    for (const struct inlet *inlet = peers->inlets; inlet != NULL; inlet = inlet->next) {
        if (inlet->replica == replica) {
            return;
        }
    }
    peer->met = false;
    peers->events->on_lost(peers->owner, replica);
}

/* Whether whoever is behind a link is heard; that it is not is said here. */
static bool peers_hears(const struct peers *peers, uint64_t replica, const struct link *link)
{
    const struct link_peer *peer = link_peer(link);
    if (peers->events->on_key == NULL || peers->events->on_key(peers->owner, replica, peer->key)) {
        return true;
    }
    logger_warn_limited("peer_shut_out",
                        "replica=%" PRIu64
                        " address=%s key=%s reason=its key is of a replica that was "
                        "removed: `kelp cluster add %" PRIu64 " ADDRESS --same-key` takes it back",
                        replica, peer->address, peer->key, replica);
    return false;
}

/* -- sending side --------------------------------------------------------------------------------- */

static void peer_on_timer(uv_timer_t *timer);

/* The last handle of one that is leaving frees it. */
static void peer_handle_closed(struct peer *peer)
{
    struct peers *peers = peer->peers;
    if (peer->leaving && !peer->timer_open && peer->link == NULL) {
        free(peer);
    }
    peers_handle_closed(peers);
}

static void peer_dial_later(struct peer *peer)
{
    struct peers *peers = peer->peers;
    if (peer->leaving) {
        return;
    }
    peers->chance = peers->chance * 6364136223846793005u + 1442695040888963407u;
    const uint32_t jitter = (uint32_t)(peers->chance >> 33) % (peer->wait_ms / 2 + 1);
    uv_timer_start(&peer->timer, peer_on_timer, peer->wait_ms / 2 + jitter, 0);
    peer->wait_ms = peer->wait_ms * 2 > DIAL_MS_MAX ? DIAL_MS_MAX : peer->wait_ms * 2;
}

static void peer_on_open(struct link *link, void *owner)
{
    struct peer *peer = owner;
    const uint64_t found = peers_replica_of(link_peer(link));
    if (peer->leaving) {
        link_close(link);
        return;
    }
    if (found != peer->replica) {
        logger_warn_limited("peer_refused",
                            "replica=%" PRIu64 " address=%s:%u reason=the certificate "
                            "there says %s",
                            peer->replica, peer->host, peer->port, link_peer(link)->common_name);
        link_close(link);
        return;
    }
    if (!peers_hears(peer->peers, found, link)) {
        link_close(link);
        return;
    }
    peer->open = true;
    link_limit_queue(link, LIMIT_PEER_QUEUE_BYTES);
    peer->met = true;
    peer->wait_ms = DIAL_MS_MIN;
    logger_info("peer_connected", "replica=%" PRIu64 " address=%s:%u", peer->replica, peer->host,
                peer->port);
    peer->peers->events->on_connected(peer->peers->owner, peer->replica);
}

/* Nothing is said on this direction but that we are shut out; a peer that does is not one of ours. */
static void peer_on_bytes(struct link *link, struct bytes bytes, void *owner)
{
    struct peer *peer = owner;
    const struct peers_events *events = peer->peers->events;
    if (bytes.size == 8 && get_le64(bytes.data) == PEERS_SHUT_OUT && peer->open) {
        peer->wait_ms = DIAL_MS_MAX;
        link_close(link);
        if (events->on_shut_out != NULL) {
            events->on_shut_out(peer->peers->owner, peer->replica);
        }
        return;
    }
    link_fail(link, STATUS_MALFORMED, "bytes came on a link that only sends");
}

static void peer_on_close(struct link *link, int status, const char *reason, void *owner)
{
    (void)link;
    struct peer *peer = owner;
    if (peer->open && !peer->leaving) {
        logger_info("peer_lost", "replica=%" PRIu64 " status=%d reason=%s", peer->replica, status,
                    reason);
    } else if (status == STATUS_IDENTITY) {
        logger_warn_limited("peer_refused", "replica=%" PRIu64 " reason=%s", peer->replica, reason);
    }
    peer->link = NULL;
    peer->open = false;
    peer_dial_later(peer);
    peers_link_ended(peer->peers, peer->replica);
    peer_handle_closed(peer);
}

static const struct link_events peer_events = {
    .on_open = peer_on_open,
    .on_bytes = peer_on_bytes,
    .on_close = peer_on_close,
};

static void peer_on_timer(uv_timer_t *timer)
{
    struct peer *peer = timer->data;
    struct peers *peers = peer->peers;
    CHECK(peer->link == NULL);
    if (peer->leaving) {
        return;
    }
    const int status = link_dial(peers->loop, peers->dial, peer->host, peer->port, NULL,
                                 &peer_events, peer, &peer->link);
    if (status != 0) {
        logger_warn_limited("peer_dial_failed", "replica=%" PRIu64 " status=%d reason=%s",
                            peer->replica, status, status_text(status));
        peer_dial_later(peer);
        return;
    }
    peers->open_handles++;
}

/* A head without its frame would be garbage: room for both, or neither is queued. */
static bool peer_room(const struct peer *peer)
{
    return link_queued_bytes(peer->link) + HEAD_BYTES < LIMIT_PEER_QUEUE_BYTES;
}

bool peers_room(const struct peers *peers, uint64_t replica)
{
    const struct peer *peer = peers_find(peers, replica);
    return peer != NULL && peer->open && peer_room(peer);
}

int peers_send(struct peers *peers, uint64_t replica, struct bytes frame)
{
    CHECK(frame.size <= LIMIT_WIRE_BYTES);
    struct peer *peer = peers_find(peers, replica);
    if (peer == NULL || !peer->open) {
        return -ENOTCONN;
    }
    if (!peer_room(peer)) {
        return STATUS_FULL;
    }
    uint8_t head[HEAD_BYTES] = {0};
    put_le32(head, (uint32_t)frame.size);
    int status = link_write(peer->link, bytes_of(head, sizeof head));
    if (status != 0) {
        return status;
    }
    status = link_write(peer->link, frame);
    if (status != 0) {
        link_fail(peer->link, status, "a frame could not be queued behind its head");
    }
    return status;
}

bool peers_connected(const struct peers *peers, uint64_t replica)
{
    const struct peer *peer = peers_find(peers, replica);
    return peer != NULL && peer->open;
}

/* -- receiving side ------------------------------------------------------------------------------- */

static void inlet_on_bytes(struct link *link, struct bytes bytes, void *owner)
{
    struct inlet *inlet = owner;
    while (bytes.size > 0 && !inlet->shut_out) {
        if (inlet->frame == NULL) {
            const size_t wanted = HEAD_BYTES - inlet->head_size;
            const size_t taken = bytes.size < wanted ? bytes.size : wanted;
            memcpy(inlet->head + inlet->head_size, bytes.data, taken);
            inlet->head_size += (uint32_t)taken;
            bytes = bytes_of(bytes.data + taken, bytes.size - taken);
            if (inlet->head_size < HEAD_BYTES) {
                return;
            }
            inlet->frame_size = get_le32(inlet->head);
            if (inlet->frame_size == 0 || inlet->frame_size > LIMIT_WIRE_BYTES ||
                get_le32(inlet->head + 4) != 0) {
                link_fail(link, STATUS_MALFORMED, "the head of a frame is none");
                return;
            }
            inlet->frame = malloc(inlet->frame_size);
            CHECK(inlet->frame != NULL);
            inlet->frame_filled = 0;
        }
        const size_t wanted = inlet->frame_size - inlet->frame_filled;
        const size_t taken = bytes.size < wanted ? bytes.size : wanted;
        memcpy(inlet->frame + inlet->frame_filled, bytes.data, taken);
        inlet->frame_filled += (uint32_t)taken;
        bytes = bytes_of(bytes.data + taken, bytes.size - taken);
        if (inlet->frame_filled == inlet->frame_size) {
            uint8_t *frame = inlet->frame;
            inlet->frame = NULL;
            inlet->head_size = 0;
            inlet->peers->events->on_frame(inlet->peers->owner, inlet->replica,
                                           bytes_of(frame, inlet->frame_size));
            free(frame);
        }
    }
}

static void inlet_on_close(struct link *link, int status, const char *reason, void *owner)
{
    (void)link;
    struct inlet *inlet = owner;
    struct peers *peers = inlet->peers;
    if (status == STATUS_MALFORMED) {
        logger_warn_limited("peer_malformed", "replica=%" PRIu64 " reason=%s", inlet->replica,
                            reason);
    }
    for (struct inlet **at = &peers->inlets; *at != NULL; at = &(*at)->next) {
        if (*at == inlet) {
            *at = inlet->next;
            break;
        }
    }
    const uint64_t replica = inlet->replica;
    const bool shut_out = inlet->shut_out;
    free(inlet->frame);
    free(inlet);
    CHECK(peers->inlet_count > 0);
    peers->inlet_count--;
    if (!shut_out) { /* whoever that was, it was not the member of this number */
        peers_link_ended(peers, replica);
    }
    peers_handle_closed(peers);
}

static const struct link_events inlet_events = {
    .on_bytes = inlet_on_bytes,
    .on_close = inlet_on_close,
};

static uint32_t peers_shutting_out(const struct peers *peers)
{
    uint32_t count = 0;
    for (const struct inlet *inlet = peers->inlets; inlet != NULL; inlet = inlet->next) {
        count += inlet->shut_out;
    }
    return count;
}

/* Say why, and end. What still comes is not looked at. */
static void inlet_shut_out(struct inlet *inlet)
{
    uint8_t word[8];
    put_le64(word, PEERS_SHUT_OUT);
    inlet->shut_out = true;
    if (link_write(inlet->link, bytes_of(word, sizeof word)) == 0) {
        link_shutdown(inlet->link);
    } else {
        link_close(inlet->link);
    }
}

void peers_review(struct peers *peers)
{
    if (peers->closing || peers->events->on_key == NULL) {
        return;
    }
    for (struct inlet *inlet = peers->inlets; inlet != NULL; inlet = inlet->next) {
        if (!inlet->shut_out && !peers_hears(peers, inlet->replica, inlet->link)) {
            inlet_shut_out(inlet);
        }
    }
    for (struct peer *peer = peers->first; peer != NULL; peer = peer->next) {
        if (peer->open && !peers_hears(peers, peer->replica, peer->link)) {
            link_close(peer->link);
        }
    }
}

static void peers_on_link(struct link_listener *listener, struct link *link, void *owner)
{
    (void)listener;
    struct peers *peers = owner;
    const uint64_t replica = peers_replica_of(link_peer(link));
    const char *wrong = replica == 0             ? "not a cloudcore"
                        : replica == peers->self ? "it has our own number"
                        : peers->inlet_count >= LIMIT_PEER_INLETS
                            ? "too many cloudcores are connected"
                            : NULL;
    if (wrong != NULL || peers->closing) {
        logger_warn_limited("peer_refused", "address=%s user=%s reason=%s",
                            link_peer(link)->address, link_peer(link)->common_name,
                            wrong == NULL ? "we are leaving" : wrong);
        link_close(link);
        return;
    }
    const bool heard = peers_hears(peers, replica, link);
    if (!heard && peers_shutting_out(peers) >= SHUT_OUT_MAX) {
        link_close(link);
        return;
    }
    /* A newer link of the same replica replaces the older one: the peer has given that up. */
    for (struct inlet *old = peers->inlets; old != NULL; old = old->next) {
        if (heard && old->replica == replica) {
            link_close(old->link);
        }
    }
    struct inlet *inlet = calloc(1, sizeof *inlet);
    CHECK(inlet != NULL);
    inlet->peers = peers;
    inlet->link = link;
    inlet->replica = replica;
    inlet->next = peers->inlets;
    peers->inlets = inlet;
    peers->inlet_count++;
    if (!heard) {
        peers->open_handles++;
        link_attach(link, &inlet_events, inlet);
        inlet_shut_out(inlet);
        return;
    }
    struct peer *peer = peers_find(peers, replica);
    if (peer != NULL) {
        peer->met = true;
    }
    if (peer != NULL &&
        peer->link == NULL) { /* it is there again: no need to wait for our next attempt */
        peer->wait_ms = DIAL_MS_MIN;
        uv_timer_start(&peer->timer, peer_on_timer, 0, 0);
    }
    peers->open_handles++;
    link_attach(link, &inlet_events, inlet);
}

static void peers_on_refused(struct link_listener *listener, const char *address, int status,
                             const char *reason, void *owner)
{
    (void)listener;
    (void)owner;
    logger_warn_limited("peer_refused", "address=%s status=%d reason=%s", address, status, reason);
}

static void peers_on_listener_close(void *owner)
{
    peers_handle_closed(owner);
}

static const struct link_listener_events listener_events = {
    .on_link = peers_on_link,
    .on_refused = peers_on_refused,
    .on_close = peers_on_listener_close,
};

/* -- life ----------------------------------------------------------------------------------------- */

int peers_open(uv_loop_t *loop, struct link_context *listen, struct link_context *dial,
               const char *host, uint16_t port, uint64_t self, const struct peers_events *events,
               void *owner, struct peers **out, char *reason)
{
    struct peers *peers = calloc(1, sizeof *peers);
    CHECK(peers != NULL);
    peers->loop = loop;
    peers->dial = dial;
    peers->events = events;
    peers->owner = owner;
    peers->self = self;
    peers->chance = self * 0x9e3779b97f4a7c15u + uv_hrtime();
    const int status = link_listener_open(loop, listen, host, port, &listener_events, peers,
                                          &peers->listener, reason);
    if (status != 0) {
        free(peers);
        return status;
    }
    peers->open_handles = 1;
    *out = peers;
    return 0;
}

static void peer_on_timer_close(uv_handle_t *handle)
{
    struct peer *peer = handle->data;
    peer->timer_open = false;
    peer_handle_closed(peer);
}

/* Not in the list any more. What was queued still leaves, unless all ends. */
static void peer_leave(struct peer *peer)
{
    CHECK(!peer->leaving);
    peer->leaving = true;
    if (peer->link != NULL && peer->open && !peer->peers->closing) {
        link_shutdown(peer->link);
    } else if (peer->link != NULL) {
        link_close(peer->link);
    }
    uv_close((uv_handle_t *)&peer->timer, peer_on_timer_close);
}

static void peer_begin(struct peers *peers, const struct peers_address *address)
{
    struct peer *peer = calloc(1, sizeof *peer);
    CHECK(peer != NULL);
    peer->peers = peers;
    peer->replica = address->replica;
    (void)snprintf(peer->host, sizeof peer->host, "%s", address->host);
    peer->port = address->port;
    peer->wait_ms = DIAL_MS_MIN;
    CHECK(uv_timer_init(peers->loop, &peer->timer) == 0);
    peer->timer.data = peer;
    peer->timer_open = true;
    peers->open_handles++;
    peer->next = peers->first;
    peers->first = peer;
    uv_timer_start(&peer->timer, peer_on_timer, 0, 0);
}

void peers_set(struct peers *peers, const struct peers_address *addresses, uint32_t count)
{
    CHECK(count <= LIMIT_MEMBERS);
    if (peers->closing) {
        return;
    }
    for (struct peer **at = &peers->first; *at != NULL;) {
        struct peer *peer = *at;
        bool stays = false;
        for (uint32_t i = 0; i < count; i++) {
            stays = stays ||
                    (addresses[i].replica == peer->replica && addresses[i].port == peer->port &&
                     strcmp(addresses[i].host, peer->host) == 0);
        }
        if (stays) {
            at = &peer->next;
        } else {
            *at = peer->next;
            peer_leave(peer);
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        if (addresses[i].replica != peers->self &&
            peers_find(peers, addresses[i].replica) == NULL) {
            peer_begin(peers, &addresses[i]);
        }
    }
}

void peers_close(struct peers *peers)
{
    CHECK(!peers->closing);
    peers->closing = true;
    link_listener_close(peers->listener);
    for (struct inlet *inlet = peers->inlets; inlet != NULL; inlet = inlet->next) {
        link_close(inlet->link);
    }
    while (peers->first != NULL) {
        struct peer *peer = peers->first;
        peers->first = peer->next;
        peer_leave(peer);
    }
}
