/* The links between cloudcores: one Frame at a time, best effort, over mutual TLS.
 *
 * Each replica dials every other one and sends on the link it dialed; what arrives on links that
 * others dialed is received. So a link has one direction and needs no agreement about who keeps it.
 *
 *   1. dial; the server's certificate must be of our authority and valid for the host
 *   2. both sides learn the other's certificate: CN "cloudcore-<id>", O "kelp:cloudcores"
 *   3. each asks its owner whether that key is heard (on_key). If not, whoever was dialed says one word, PEERS_SHUT_OUT
 *      in eight bytes, the only bytes that ever go that way, and ends the link
 *   4. frames follow, each a 8-byte head (u32 size, u32 zero; little-endian) and its bytes
 *
 * What can fail: the link (dialed again with back-off, 100 ms doubling to 2 s, with jitter, and at once
 * when that replica dials us: then it is back); a peer that is no cloudcore or not the one that was
 * dialed (closed, logged); a frame above LIMIT_WIRE_BYTES or a head that is none (closed, logged); a full
 * queue (the frame is dropped: raft and forwarding send again).
 */
#ifndef KELP_NODES_CLOUD_PEERS_H
#define KELP_NODES_CLOUD_PEERS_H

#include <uv.h>

#include "nodes/net/link_tls.h"
#include "schemas/bytes.h"

/* "no more\0", little-endian: no head of a frame. */
#define PEERS_SHUT_OUT UINT64_C(0x0065726f6d206f6e)

struct peers;

struct peers_address {
    uint64_t replica;
    const char *host;
    uint16_t port;
};

struct peers_events {
    /* A Frame from a replica, 8-byte aligned, borrowed during the call. */
    void (*on_frame)(void *owner, uint64_t replica, struct bytes frame);
    /* Our link to a replica has been made (anew). */
    void (*on_connected)(void *owner, uint64_t replica);
    /* The links of both directions, or all there were, are gone: its process has ended, most likely. */
    void (*on_lost)(void *owner, uint64_t replica);
    /* Is the replica with this key heard? `key`: hexadecimal sha256. Asked when a link is made, either way, and by
     * peers_review. May be NULL: all are. */
    bool (*on_key)(void *owner, uint64_t replica, const char *key);
    /* A replica has ended our link, and says that our own key is not heard any more. May be NULL. */
    void (*on_shut_out)(void *owner, uint64_t replica);
    /* After peers_close: all links are gone and so is the memory. */
    void (*on_close)(void *owner);
};

/* Listen; nobody is dialed yet.
 *
 *   listen     role LINK_LISTEN_REQUIRE; dial: role LINK_DIAL; both borrowed until on_close
 *   host, port where to listen
 *   self       our own id; nobody else may have it
 *   out        given to peers_close; untouched unless 0
 *   reason     LINK_REASON_BYTES bytes, receives a sentence when not 0
 *   answers    0; what link_listener_open answers
 */
int peers_open(uv_loop_t *loop, struct link_context *listen, struct link_context *dial,
               const char *host, uint16_t port, uint64_t self, const struct peers_events *events,
               void *owner, struct peers **out, char *reason);

/* Be connected with these from now on. A link that stays as it was is left alone; one to a replica that is
 * not among them, or was at another address, ends once what was queued has left.
 *
 *   addresses  borrowed during the call; our own id is skipped; at most LIMIT_MEMBERS
 */
void peers_set(struct peers *peers, const struct peers_address *addresses, uint32_t count);

/* Send one Frame, or drop it.
 *
 *   answers    0; STATUS_FULL: LIMIT_PEER_QUEUE_BYTES wait for that replica; -ENOTCONN: no link
 */
int peers_send(struct peers *peers, uint64_t replica, struct bytes frame);

/* Whether peers_send would take a frame of any size now. */
bool peers_room(const struct peers *peers, uint64_t replica);

/* Ask on_key again about all links, and end those that are not heard any more. */
void peers_review(struct peers *peers);

/* Is our link to this replica up? */
bool peers_connected(const struct peers *peers, uint64_t replica);

/* End all links; on_close follows, from the loop. */
void peers_close(struct peers *peers);

/* The replica that a certificate speaks for: CN "cloudcore-<id>" in group kelp:cloudcores.
 *   returns  its id; 0: none */
uint64_t peers_replica_of(const struct link_peer *peer);

#endif
