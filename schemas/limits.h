/* Every bound in one place, with its reason and its relations to the others.
 *
 * A bound says what happens when it is met in the contract of the function that meets it.
 */
#ifndef KELP_SCHEMAS_LIMITS_H
#define KELP_SCHEMAS_LIMITS_H

#include <assert.h>

/* -- records and frames ---------------------------------------------------------------------- */

/* A Kubernetes object is at most 1.5 MiB as JSON (etcd's request limit, which kubectl users know). */
#define LIMIT_OBJECT_BYTES  (1536u * 1024u)
/* One record: the largest object, its envelope, and room to spare. */
#define LIMIT_RECORD_BYTES  (LIMIT_OBJECT_BYTES + 256u * 1024u)
/* One frame of the log: a raft command or a received batch, which carries at least one record. */
#define LIMIT_FRAME_BYTES   (4u * 1024u * 1024u)
/* Records in one command or batch; keeps one turn of apply short. */
#define LIMIT_BATCH_RECORDS 4096u
/* One segment file of the log. Large enough that rolling is rare, small enough to release history. */
#define LIMIT_SEGMENT_BYTES (16u * 1024u * 1024u)
static_assert(LIMIT_FRAME_BYTES >= 2 * LIMIT_RECORD_BYTES, "a frame holds two of the largest records");
static_assert(LIMIT_SEGMENT_BYTES >= 4 * LIMIT_FRAME_BYTES, "a segment holds four of the largest frames");

/* -- names and keys -------------------------------------------------------------------------- */

/* DNS subdomain, as Kubernetes names are. */
#define LIMIT_NAME_BYTES 253u
/* group/resource/namespace/name, with separators and a uid. */
#define LIMIT_KEY_BYTES  1024u
static_assert(LIMIT_KEY_BYTES >= 3 * LIMIT_NAME_BYTES + 64, "a key holds group, namespace, name and uid");

/* -- the link -------------------------------------------------------------------------------- */

/* One wire frame: a log frame and its envelope. A longer length prefix ends the connection. */
#define LIMIT_WIRE_BYTES          (LIMIT_FRAME_BYTES + 64u * 1024u)
/* Unacknowledged bytes one feed sends ahead, per direction and node. */
#define LIMIT_FEED_WINDOW_BYTES   (8u * 1024u * 1024u)
/* One Append of a feed; several fit the window, so that the pipe stays full. */
#define LIMIT_FEED_APPEND_BYTES   (512u * 1024u)
/* What a session ships in its turn, unless one frame alone is larger; and what all do in one turn of the loop, in
 * frames' bytes and in sessions looked at: 10 ms of work. A config map that every node uses concerns all at once,
 * and ten thousand take a second: elections and other nodes do not wait for that. */
#define LIMIT_SESSION_TURN_BYTES  LIMIT_FEED_APPEND_BYTES
#define LIMIT_SESSIONS_TURN_BYTES (1024u * 1024u)
#define LIMIT_SESSIONS_TURN       128u
/* The same, upward: ten thousand edges may all fill theirs at one replica, which bounds what it proposes. */
#define LIMIT_FEED_UP_WINDOW_BYTES (1024u * 1024u)
/* Frames of one feed in flight, whatever their size. */
#define LIMIT_FEED_FLIGHT         64u
static_assert(LIMIT_FEED_WINDOW_BYTES >= 2 * LIMIT_FRAME_BYTES, "the largest frame fits the window");

/* -- pods at an edge ------------------------------------------------------------------------- */

/* Pods on one node; a kubelet's default is 110. More are refused, visibly, not forgotten. */
#define LIMIT_PODS               256u
/* Containers of one pod, init containers included; Kubernetes itself sets no bound. */
#define LIMIT_POD_CONTAINERS     64u
#define LIMIT_POD_VOLUMES        128u
/* Environment variables of one container, those of envFrom included. */
#define LIMIT_POD_ENV            4096u
/* Calls to the container runtime under way: one per container or sandbox that changes, few at a
 * time in practice. One more answers STATUS_FULL and is tried again. */
#define LIMIT_DRIVER_CALLS       256u
/* gRPC calls under way: a listing fans out into status calls. */
#define LIMIT_GRPC_CALLS         1024u
/* containerd's own max_recv_message_size and max_send_message_size. */
#define LIMIT_GRPC_MESSAGE_BYTES (16u * 1024u * 1024u)
static_assert(LIMIT_GRPC_CALLS > LIMIT_DRIVER_CALLS, "one listing does not starve the others");

/* How long new containers wait for what the cloud had for this edge when the session began. A bound, so
 * that a record that cannot be taken does not stop local life. */
#define LIMIT_CATCH_UP_MS         10000u

/* -- the cluster ----------------------------------------------------------------------------- */

#define LIMIT_REPLICAS           7u
/* Replicas that one knows of: the group, and as many that have been in it or want to be. */
#define LIMIT_MEMBERS            (2u * LIMIT_REPLICAS)
static_assert(LIMIT_MEMBERS > LIMIT_REPLICAS, "a full group still hears of one that is new");
/* Links that other cloudcores have dialed here; one that is dialed anew is there twice for a moment. */
#define LIMIT_PEER_INLETS        (2u * LIMIT_MEMBERS)
/* Replicas that join through one cloudcore at a time, with a token that this one knows; one more is answered 429.
 * And those whose token must be asked for elsewhere first, most likely as there is none: whoever guesses takes no
 * place of those who know. */
#define LIMIT_JOINS              4u
#define LIMIT_JOIN_GUESSES       2u
/* After so long a join goes no step further, and its place is free: two looks at the token and two writes without
 * a leader. */
#define LIMIT_JOIN_MS            40000u
/* Public keys of members and of removed ones that the state remembers, 130 bytes each. A group of seven whose
 * keys are renewed each year, and which replaces a machine each month, fills it in a dozen years; then those
 * that have been out for longest are forgotten, and their certificates are taken again if they are good still. */
#define LIMIT_MEMBER_KEYS        256u
/* Of them those that one member is given certificates for before it is removed: whoever has a token for many uses and
 * joins under one number again and again makes nothing else forgotten. */
#define LIMIT_MEMBER_KEYS_EACH   8u
static_assert(LIMIT_MEMBER_KEYS >= 2 * LIMIT_MEMBER_KEYS_EACH * LIMIT_REPLICAS,
              "members alone do not fill it");
/* Half a million bits for the config maps and secrets that bound pods name: with 50,000 of them a look in ten at
 * what nobody names is in vain. */
#define LIMIT_REFERENCE_FILTER_BYTES (64u * 1024u)
/* Changes of the group that one replica waits for: people and their scripts. One more is answered 429. */
#define LIMIT_MEMBER_ASKS        16u
/* Records one replica has proposed or wants to, and their bytes; 429 or 503 above. Sixteen times what
 * ten thousand edges acknowledge in a turn is never reached; a stalled leader reaches it. */
#define LIMIT_FORWARD_RECORDS         65536u
#define LIMIT_FORWARD_BYTES           (64u * 1024u * 1024u)
/* Of them one session's: an honest edge has LIMIT_FEED_UP_WINDOW_BYTES under way, and its largest batch fits.
 * And those of all API writes together, so that edges are never told to wait for people. */
#define LIMIT_FORWARD_SESSION_RECORDS 4096u
#define LIMIT_FORWARD_SESSION_BYTES   (4u * 1024u * 1024u)
#define LIMIT_FORWARD_API_RECORDS     (LIMIT_FORWARD_RECORDS / 2u)
#define LIMIT_FORWARD_API_BYTES       (LIMIT_FORWARD_BYTES / 2u)
/* Above three quarters only records as small as LIMIT_RESERVED_COMMAND_BYTES are taken: acknowledgements,
 * verdicts and deletions are what empties the rest. */
#define LIMIT_FORWARD_LARGE_RECORDS (LIMIT_FORWARD_RECORDS / 4u * 3u)
#define LIMIT_FORWARD_LARGE_BYTES   (LIMIT_FORWARD_BYTES / 4u * 3u)
/* Bytes of commands under way at once: what a record waits for when its turn has come, 40 ms at the 100 MB/s of
 * a small disk. Eight commands of a thousand small records, the most that made it faster, are half of it. */
#define LIMIT_FORWARD_FLIGHT_BYTES (4u * 1024u * 1024u)
/* Commands of one replica under way at once; fewer than results the state keeps per origin. */
#define LIMIT_FORWARD_FLIGHT          32u
#define LIMIT_FORWARD_COMMAND_RECORDS 1024u
#define LIMIT_FORWARD_READERS         4096u
static_assert(LIMIT_FORWARD_SESSION_BYTES >= LIMIT_RECORD_BYTES + LIMIT_FEED_APPEND_BYTES,
              "the largest batch fits its session's share");
/* Edge sessions of one replica: a third of a hundred thousand edges, or thirty thousand on the last one standing.
 * One takes 50 KiB (bench/README.md), with Ed25519 and 69 with other keys, so all of them 1.7 to 2.2 GiB, and a file. */
#define LIMIT_SESSIONS 32768u
/* Of their names, with what stands beside each in a report (32 bytes): the report of all is one frame, and the leader
 * takes who is not in it for gone. Names of 51 bytes, the longest that our own certificates hold, fit all of them. */
#define LIMIT_SESSIONS_NAME_BYTES (LIMIT_FRAME_BYTES - 64u * 1024u)
static_assert(LIMIT_SESSIONS * (51u + 32u) <= LIMIT_SESSIONS_NAME_BYTES,
              "sessions of our own names fit a report");
/* Nodes whose being reachable the leader judges: all that three replicas serve. */
#define LIMIT_NODES 131072u
static_assert(LIMIT_NODES >= 3 * LIMIT_SESSIONS, "whoever has a session is judged");
/* Commands proposed and not yet applied, per replica: libraft itself does not bound them. */
#define LIMIT_PROPOSALS          1024u
#define LIMIT_PROPOSALS_BYTES    (64u * 1024u * 1024u)
/* Agreed upon and not yet applied, kept by a replica whose store is slow: above it the replica takes no
 * more from its leader. What is in flight then comes on top, and at start the tail of the log. */
#define LIMIT_APPLY_WAITING_BYTES (64u * 1024u * 1024u)
/* Agreed upon and not yet applied by a replica that still hurries to lead when the leader ends: some
 * 20 ms of applying. With more it lets the others ask first. */
#define LIMIT_SUSPECT_WAITING_BYTES (256u * 1024u)
/* A command that is still taken while disk space is low: deletions, acknowledgements, verdicts. */
#define LIMIT_RESERVED_COMMAND_BYTES 4096u
/* Entries in one AppendEntries message (libraft sends a laggard its whole tail at once). */
#define LIMIT_RAFT_ENTRIES       4096u
/* Bytes of entries in one such message, unless its only entry is larger: a link carries many
 * followers' other messages between two of them. */
#define LIMIT_RAFT_BYTES         (1024u * 1024u)
/* One command: it must fit a message of the group with all that is around it. */
#define LIMIT_COMMAND_BYTES      (LIMIT_FRAME_BYTES - 64u * 1024u)
static_assert(LIMIT_COMMAND_BYTES >= 2 * LIMIT_RECORD_BYTES, "a command carries two of the largest records");
/* Reads that wait for their point; one round of pings serves all that wait together. */
#define LIMIT_READERS            4096u
/* Such rounds under way: the next one need not wait for the answers of the one before. */
#define LIMIT_READ_ROUNDS        4u
/* Messages from the log to a follower that lags, not answered yet: the disks of both are busy then, and
 * heartbeats on the same link wait for 4 MiB. And those read in one turn of the loop: some milliseconds
 * when the disk has to be asked. */
#define LIMIT_LAG_FLIGHT 4u
#define LIMIT_LAG_TURN   2u
/* Without an answer for so long they are sent again, one first: a follower drops what it has no room for. */
#define LIMIT_LAG_RETRY_MS 200u
/* For whom the log is held back: not for one that is dead (restarting takes less), nor for one that comes
 * no further for as long as a copy may take. Nor at all above five eighths of log.limit (log_crowded): history
 * has gone then, and writes of others are refused at six. So a copy is enough when less than that is written
 * while it is made; for faster writers log.limit is to be larger. */
#define LIMIT_LAG_SILENCE_MS 60000u
#define LIMIT_LAG_HOLD_MS    (60u * 60u * 1000u)

/* Log between two checkpoints of a replica. libraft keeps that and the trailing part, two more of
 * it, in memory. */
#define LIMIT_RAFT_SNAPSHOT_BYTES (64u * 1024u * 1024u)
/* Files of one checkpoint: RocksDB keeps hundreds. And the length of their names. */
#define LIMIT_MANIFEST_FILES      16384u
#define LIMIT_MANIFEST_NAME_BYTES 63u

/* Rows of one range of a state that is copied to a replica, unless one row alone is larger: what
 * raft's messages on the same link wait for at most, 2 ms at 1 Gbit/s. */
#define LIMIT_TRANSFER_BYTES (256u * 1024u)
/* Copies that one replica serves at once: each holds a snapshot of the store. */
#define LIMIT_TRANSFERS 2u
/* Without a question for so long, or after so long altogether, the snapshot is let go, since the
 * store keeps old rows for it. Whoever asks again goes on with a newer one. */
#define LIMIT_TRANSFER_IDLE_MS 30000u
#define LIMIT_TRANSFER_LIFE_MS (60u * 60u * 1000u)
static_assert(LIMIT_LAG_HOLD_MS >= LIMIT_TRANSFER_LIFE_MS, "the log is there when the copy is");
/* Backups that one replica makes at once: each holds a snapshot of the store, and so many rows in memory. */
#define LIMIT_BACKUPS 2u
/* An answer that has not come by then is asked for again. */
#define LIMIT_TRANSFER_ANSWER_MS 2000u

/* -- the store (statemachine) ------------------------------------------------------------------ */

/* One key: two object keys' worth, for rows that are found by a node and an object. */
#define LIMIT_STORE_KEY_BYTES    2048u
static_assert(LIMIT_STORE_KEY_BYTES >= LIMIT_KEY_BYTES + 2 * LIMIT_NAME_BYTES,
              "a row's key holds an object's key, a node's name and a uid");

/* Rows of a range that are removed one by one: with more of them one mark takes the place of all. A mark is looked at by
 * each read until it is merged with what it removes, so there shall be far fewer than rows. */
#define LIMIT_STORE_RANGE_ROWS 16u
/* Marks between two flushes. RocksDB sorts those of a memory table anew for the next read after each new one: a twentieth
 * of a millisecond for so many. */
#define LIMIT_STORE_MARKS 512u

/* What a state may take on the disk beside twice the rows that are alive: level 0 of RocksDB with the level
 * below it, and what one compaction of them writes before it deletes what it read. In the cloud 28 memory
 * tables of 16 MiB, the least there are: larger ones come with a larger state only (store_rocks_fit). At an
 * edge four of 256 KiB, and the eight files of 1 MiB of one compaction. */
#define LIMIT_STORE_CLOUD_SPARE_BYTES (448u * 1024u * 1024u)
#define LIMIT_STORE_EDGE_SPARE_BYTES  (9u * 1024u * 1024u)

/* What a cloudcore has of its objects in memory, those that changed or were read last, so that the next change of one
 * reads nothing: 25,000 of 600 bytes. It is memory that RocksDB's cache of blocks had before. */
#define LIMIT_MACHINE_CACHE_BYTES (16u * 1024u * 1024u)
static_assert(LIMIT_MACHINE_CACHE_BYTES >= 2 * LIMIT_FRAME_BYTES, "the largest row fits in a half");

/* The history that watches read is memory of each cloudcore: no more of it than this, whatever change_history_bytes says,
 * which was of the disk once, and for a moment as much again. When that is lowered so many of the oldest go with each entry: a
 * fifth of a millisecond. (To forget all, or to make room for twice as many, takes ten for 64 MiB.) */
#define LIMIT_MACHINE_HISTORY_BYTES (256u * 1024u * 1024u)
#define LIMIT_HISTORY_TRIM          4096u

/* Of the history that watches read, what a cloudcore that stops in good order leaves for its next start: one memory table
 * of the store, written in a moment, and the changes of a minute at 400 a second. */
#define LIMIT_MACHINE_REST_BYTES (16u * 1024u * 1024u)

/* -- the state of an edge (statemachine) -------------------------------------------------------- */

/* Wishes one node holds: pods, and the config maps and secrets they use. */
#define LIMIT_EDGE_OBJECTS       16384u
#define LIMIT_EDGE_OBJECT_BYTES  (512u * 1024u * 1024u)
/* Unread events during an outage, the newest of them; a GAP record tells of the others. */
#define LIMIT_EDGE_EVENTS        4096u
#define LIMIT_EDGE_EVENT_BYTES   (4u * 1024u * 1024u)
/* Records of a newer release's kinds, until this one is upgraded. */
#define LIMIT_EDGE_UNKNOWN       4096u
#define LIMIT_EDGE_UNKNOWN_BYTES (16u * 1024u * 1024u)

/* What an edge changes in one commit of its store, and of it the rows that were only read. Of a replay all that is not
 * flushed as a rule (CORE_FLUSH_BYTES of nodes/edge/core.c), so that what a device said a thousand times and what was
 * promised and taken is never given to RocksDB: 13 us of processor time for a record of bench/run edge, 57 with half of
 * it. It is memory of a start, three times over (the tree, RocksDB's batch, its table); in turns a group is of
 * CORE_APPLY_BUDGET records. */
#define LIMIT_EDGE_GROUP_BYTES (8u * 1024u * 1024u)
#define LIMIT_EDGE_KEPT_BYTES  (2u * 1024u * 1024u)
static_assert(LIMIT_EDGE_KEPT_BYTES < LIMIT_EDGE_GROUP_BYTES, "a group has room for what changes");

/* One event of an edge, kept for `kubectl describe`: a message of Kubernetes is at most 1 KiB. */
#define LIMIT_EVENT_BYTES       (16u * 1024u)
/* The facts and the verdict about one object: 64 container statuses, a node's conditions. With the
 * wish they fit one row of history. */
#define LIMIT_FACT_BYTES        (256u * 1024u)
static_assert(LIMIT_RECORD_BYTES + 2 * LIMIT_FACT_BYTES + 8 * LIMIT_KEY_BYTES <= LIMIT_FRAME_BYTES,
              "what an object was before a change is one value of the store");

/* -- devices ---------------------------------------------------------------------------------- */

/* Key and value of a twin, as KubeEdge bounds them. */
#define LIMIT_TWIN_KEY_BYTES   128u
#define LIMIT_TWIN_VALUE_BYTES 512u
/* Twins of one device, removed ones that are remembered included; their status is one fact. */
#define LIMIT_DEVICE_TWINS     128u
static_assert(LIMIT_DEVICE_TWINS * (LIMIT_TWIN_KEY_BYTES + 2 * LIMIT_TWIN_VALUE_BYTES + 256u) <= LIMIT_FACT_BYTES,
              "the status of a device is one fact");
/* Devices whose wish changed and that the leader has not looked at; beyond, it reads all devices anew. */
#define LIMIT_DEVICES_PENDING      65536u
/* The file of devices of a node in one namespace, which is one value of a config map; and how fast the leader
 * writes such files, all together, in bytes a second: a full one is written whole for a small change. */
#define LIMIT_DEVICE_PROFILE_BYTES (1024u * 1024u)
#define LIMIT_DEVICE_PROFILE_RATE  (64u * 1024u)
static_assert(LIMIT_DEVICE_PROFILE_BYTES + 64u * 1024u <= LIMIT_OBJECT_BYTES,
              "a full profile is one object, if few of its bytes have to be escaped");
/* What one MQTT client says to the cloud at once; brokers take 256 MiB, records do not. */
#define LIMIT_MESSAGE_BYTES    (256u * 1024u)
/* Promised to be published and not taken by the broker yet; while it is down the oldest give way, since
 * who asked is gone, and what should be is told again by the next change. */
#define LIMIT_EDGE_PUBLICATIONS      16384u
#define LIMIT_EDGE_PUBLICATION_BYTES (16u * 1024u * 1024u)

/* A topic; what we publish: the longest id and its suffix. */
#define LIMIT_BUS_TOPIC_BYTES  1024u
static_assert(LIMIT_BUS_TOPIC_BYTES >= 2 * LIMIT_NAME_BYTES + 64, "every topic of a device fits");
/* What a client says to a device at once: all its twins, at most, with their names escaped. */
#define LIMIT_BUS_PAYLOAD_BYTES LIMIT_MESSAGE_BYTES
static_assert(LIMIT_BUS_PAYLOAD_BYTES >= LIMIT_DEVICE_TWINS * (LIMIT_TWIN_KEY_BYTES + 2 * LIMIT_TWIN_VALUE_BYTES + 256u),
              "all values of a device may be said at once");
/* An event id is echoed, so it is kept with what is promised; a UUID has 36. */
#define LIMIT_BUS_EVENT_ID_BYTES 256u
/* What was read from brokers and is not applied yet: above, no more is read. What one turn reads may still come
 * on top of it. */
#define LIMIT_BUS_WAITING       4096u
#define LIMIT_BUS_WAITING_BYTES (4u * 1024u * 1024u)
/* Questions that wait for what is told before their answers; beyond, they are not answered. They do not hold up
 * reading: what they wait for is what the broker says. */
#define LIMIT_BUS_QUESTIONS     1024u
/* Topics to subscribe to: ours, and what the configuration adds. */
#define LIMIT_BUS_FILTERS       32u
/* A broker is near: one that does not answer for so long is tried again, at least so often (KubeEdge: every 5 s). */
#define LIMIT_BUS_CONNECT_MS    10000u
#define LIMIT_BUS_BACKOFF_MS    5000u
/* What our own broker keeps at most for one client that is slow or away, however many messages that is. */
#define LIMIT_BUS_QUEUE_BYTES   (32u * 1024u * 1024u)
/* Messages given to a broker that it has not taken yet. Their bytes: above, nothing more is given, so one long list of
 * devices may come on top. */
#define LIMIT_BUS_OUTGOING       512u
#define LIMIT_BUS_OUTGOING_BYTES (1024u * 1024u)
/* Promises that a broker which takes its messages has not taken: above, no record is made that promises more, and no
 * more is read. A quarter of the outbox is left for what the cloud wishes meanwhile. */
#define LIMIT_BUS_PROMISED       12288u
static_assert(LIMIT_BUS_PROMISED * 4u <= LIMIT_EDGE_PUBLICATIONS * 3u, "nothing is dropped for want of room");
/* With so many of them, or so many records that were read and are not applied, telemetry is gathered and not recorded: some
 * groups of records, and what they promise, keep disk and broker busy. More would not make them faster, and what the cloud
 * wishes waits behind it. */
#define LIMIT_BUS_WAITING_BUSY   1024u
#define LIMIT_BUS_PROMISED_BUSY  3072u
static_assert(LIMIT_BUS_WAITING_BUSY * 4u <= LIMIT_BUS_WAITING,
              "what may not be gathered finds room");
static_assert(LIMIT_BUS_PROMISED_BUSY * 4u <= LIMIT_BUS_PROMISED,
              "so does what is promised for it");
/* Messages our own broker sends before they are acknowledged: what we read in a turn, so that it does not wait for us, and
 * few enough that what it tells again after a lost connection is heard in a moment. */
#define LIMIT_BUS_INFLIGHT       1024u
/* A packet of MQTT at our own broker, which ends a connection that begins a larger one: the list of ten thousand
 * devices of a node fits. */
#define LIMIT_BUS_PACKET_BYTES   (8u * 1024u * 1024u)
static_assert(LIMIT_BUS_PACKET_BYTES >= 8u * LIMIT_BUS_PAYLOAD_BYTES, "so does everything else by far");
/* Clients of our own broker at once: mappers are a few, one for each protocol; and what it may take of memory then:
 * beyond, it refuses what is new. A session nobody came back to for so many hours is forgotten. */
#define LIMIT_BUS_CLIENTS        256u
#define LIMIT_BUS_BROKER_BYTES   (256u * 1024u * 1024u)
#define LIMIT_BUS_SESSION_HOURS  24u
static_assert(LIMIT_BUS_BROKER_BYTES >= 4u * LIMIT_BUS_QUEUE_BYTES, "several full queues fit");
/* Devices whose telemetry is being gathered for a moment; others are recorded as they come. While the disk, or a broker,
 * has enough to do their moment is longer; no more is read when the oldest is late by so much. What was gathered by then
 * waits on for its turn: a power cut takes of telemetry what was said in that time and in the time that it takes to record
 * all windows. Each device needs a record before the first one needs another, so it is more than all of them take at some
 * two thousand records a second: if reading stopped sooner there would be less to gather, and so more records. */
#define LIMIT_BUS_WINDOWS       16384u
#define LIMIT_BUS_LATE_MS       10000u
/* While more waits to be read than one turn takes, their moment is longer as well, by so much at most: what waits may be
 * newer. The rest is for recording them. */
#define LIMIT_BUS_AHEAD_MS      5000u
static_assert(LIMIT_BUS_AHEAD_MS * 2u <= LIMIT_BUS_LATE_MS,
              "they are recorded before no more is read");

/* -- connections, HTTP, WebSocket, configuration (nodes/net) ---------------------------------- */

/* Plaintext handed over in one on_bytes: a TLS record carries at most this much. */
#define LIMIT_LINK_READ_BYTES      (16u * 1024u)
/* Ciphertext read from a socket at once, and kept aside while the reader is paused. */
#define LIMIT_LINK_SOCKET_BYTES    (64u * 1024u)
/* One link_write: the largest wire frame and its WebSocket header. */
#define LIMIT_LINK_WRITE_BYTES     (LIMIT_WIRE_BYTES + 64u)
/* Above this much unsent plaintext link_write answers STATUS_FULL; the last write taken may pass it
 * by its own size, so the bound in memory is the sum of this and LIMIT_LINK_WRITE_BYTES. */
#define LIMIT_LINK_QUEUE_BYTES     (1024u * 1024u)
/* The same between two cloudcores, where it is all that a leader sends ahead of a follower that does not read:
 * what goes over a network of 1 Gbit/s between two heartbeats, and six such followers are no burden. */
#define LIMIT_PEER_QUEUE_BYTES     (12u * 1024u * 1024u)
static_assert(LIMIT_PEER_QUEUE_BYTES >= 8 * LIMIT_RAFT_BYTES, "a follower gets many messages at once");
static_assert(2 * LIMIT_LAG_FLIGHT * LIMIT_RAFT_BYTES < LIMIT_PEER_QUEUE_BYTES,
              "entries of the log leave room for other messages");
/* Ciphertext handed to the kernel and not yet taken by it; encryption waits above it. */
#define LIMIT_LINK_FLIGHT_BYTES    (256u * 1024u)
/* TCP and TLS handshake together; a lossy edge link needs a few retransmissions. */
#define LIMIT_LINK_HANDSHAKE_MS    10000u
/* From link_shutdown until the peer has ended too; then the connection is cut. */
#define LIMIT_LINK_SHUTDOWN_MS     5000u
/* Unacknowledged bytes or probes for this long: the peer is gone (TCP_USER_TIMEOUT). */
#define LIMIT_LINK_STALL_MS        30000u
/* Connections of one listener, handshakes included; more are closed at once: the sessions of a replica, and a
 * quarter for those that come back while their old sockets still die. */
#define LIMIT_LINKS (LIMIT_SESSIONS + LIMIT_SESSIONS / 4u)
/* Of one that lets clients in without a certificate, the API: they shall not take the files that edges need. */
#define LIMIT_LINKS_OPEN 8192u
/* Of them those that have not shaken hands, and so may be anybody: each lives LIMIT_LINK_HANDSHAKE_MS at
 * most. Enough for what the processors shake in that time when all edges come back at once. */
#define LIMIT_LINKS_SHAKING        2048u
/* Of their bytes, read and not yet looked at: what a client says at once fits, a long chain comes in several. */
#define LIMIT_LINK_SHAKING_BYTES   4096u
/* File descriptors that connections leave to the log, the store and the runtime; half of all at most. */
#define LIMIT_FILES_RESERVED       512u
/* Organisations (groups) read from one certificate; one with more is refused. */
#define LIMIT_IDENTITY_GROUPS      8u
/* ub-common-name and ub-organization-name of X.509. */
#define LIMIT_IDENTITY_NAME_BYTES  64u
/* Names and addresses in one server certificate. */
#define LIMIT_IDENTITY_SANS        32u
/* A PEM file: a bundle of several authorities fits. */
#define LIMIT_PEM_BYTES            (256u * 1024u)

/* Request line and headers together; 431 beyond. Go's default is 1 MiB, real ones stay below 4 KiB. */
#define LIMIT_HTTP_HEAD_BYTES      (32u * 1024u)
#define LIMIT_HTTP_HEADERS         64u
#define LIMIT_HTTP_SEGMENTS        32u
#define LIMIT_HTTP_PARAMETERS      64u
/* A request's body; 413 beyond. What the Kubernetes API server takes. */
#define LIMIT_HTTP_BODY_BYTES      (3u * 1024u * 1024u)
/* The same from a client without a certificate, who is answered 401 anyway. */
#define LIMIT_HTTP_STRANGER_BYTES  (64u * 1024u)
/* Bodies of all connections of a server, arriving or being worked on; 429 beyond. Large ones, by which
 * memory would be full first, are refused at three quarters. */
#define LIMIT_HTTP_BODIES_BYTES       (64u * 1024u * 1024u)
#define LIMIT_HTTP_LARGE_BODIES_BYTES (LIMIT_HTTP_BODIES_BYTES / 4u * 3u)
/* Beyond so many, those of clients without a certificate: who may be anybody cannot fill the room of the others. */
#define LIMIT_HTTP_STRANGERS_BYTES    (LIMIT_HTTP_BODIES_BYTES / 4u)
#define LIMIT_HTTP_SMALL_BYTES        (16u * 1024u)
/* A whole answer given at once; larger ones are streamed. */
#define LIMIT_HTTP_ANSWER_BYTES    (64u * 1024u * 1024u)
/* From the first byte of a request to its last. */
#define LIMIT_HTTP_REQUEST_MS      30000u
/* Between requests of a kept connection; Go's client gives up an idle one after 90 s. */
#define LIMIT_HTTP_IDLE_MS         120000u
/* The same while the server drains: a request that left before the client saw the end arrives. */
#define LIMIT_HTTP_DRAIN_IDLE_MS   500u
/* Connections of one http_client, busy and idle. */
#define LIMIT_HTTP_CLIENT_LINKS    32u
/* Silence after which a WebSocket pings, and after which it is taken for dead. */
#define LIMIT_WEBSOCKET_PING_MS    15000u
#define LIMIT_WEBSOCKET_SILENCE_MS 45000u
static_assert(LIMIT_HTTP_BODY_BYTES > LIMIT_OBJECT_BYTES, "the largest object fits a request");
static_assert(LIMIT_WEBSOCKET_SILENCE_MS >= 2 * LIMIT_WEBSOCKET_PING_MS, "one lost ping is no death");

/* -- programs ---------------------------------------------------------------------------------- */

/* From SIGTERM until a cloudcore leaves anyway: nothing acknowledged depends on what is still under way.
 * And how long of it goodbyes on links are waited for. */
#define LIMIT_STOP_MS              10000u
#define LIMIT_STOP_LINK_MS         2000u
/* How long an edge that stops waits for what MQTT clients had acknowledged to be in the log: all windows and a queue of
 * which one turn made twice what is asked for, 24,576 records, at two thousand a second; and from SIGTERM until it leaves
 * anyway, before systemd's patience ends (30 s, nodes/systemd/edgecore.service). */
#define LIMIT_STOP_BUS_MS          15000u
#define LIMIT_STOP_EDGE_MS         20000u
/* Before that: how long a leader waits for another one to lead, and requests under way for their answers.
 * A handover takes milliseconds while a follower is near; a second attempt fits. */
#define LIMIT_STOP_HANDOVER_MS     3000u
#define LIMIT_STOP_DRAIN_MS        3000u
/* A cloudcore that stops sends its edges to the others over this time for each, so that thousands do not
 * come at once: 2,000 a second is what one replica shakes hands with. */
#define LIMIT_STOP_SESSION_US      500u
/* Local callers of the control socket being answered at once; one more is closed. */
#define LIMIT_CONTROL_VISITORS     64u
/* A page of /metrics: 300 series of 20 buckets fit, several times what is told. */
#define LIMIT_METRICS_BYTES (512u * 1024u)
/* Nodes that /metrics names: those whose logs lag most, and those that are away for longest. Ten thousand names would be a series each, for ever. */
#define LIMIT_METRICS_NODES 10u
/* Visitors of metrics.listen at once, and how long each may take: a scraper or two, a probe, a person. */
#define LIMIT_MONITOR_VISITORS 16u
#define LIMIT_MONITOR_MS       10000u
static_assert(LIMIT_STOP_HANDOVER_MS + LIMIT_STOP_DRAIN_MS + LIMIT_STOP_LINK_MS < LIMIT_STOP_MS,
              "each step of a stop has its time, and some is left to close the log");
static_assert(LIMIT_STOP_BUS_MS >= (LIMIT_BUS_WINDOWS + 2u * LIMIT_BUS_WAITING) / 2u,
              "two records in a millisecond: all are in the log");
static_assert(LIMIT_STOP_BUS_MS + LIMIT_STOP_LINK_MS < LIMIT_STOP_EDGE_MS,
              "what is in the log is synced, too");
static_assert(LIMIT_STOP_LINK_MS < LIMIT_STOP_MS, "a link that does not end does not end the patience");

/* -- the Kubernetes API (nodes/cloud) ---------------------------------------------------------- */

/* JSON nested deeper is refused before it is parsed: parsers recurse. Real objects stay below 20. */
#define LIMIT_JSON_DEPTH           64u
/* Terms of one label or field selector. */
#define LIMIT_SELECTOR_TERMS       64u
/* Operations of one JSON patch, and the size a patched object may grow to on the way. */
#define LIMIT_PATCH_OPERATIONS     1000u
/* Requests that wait for the backend; one more is answered 429. */
#define LIMIT_API_CALLS            1024u
/* Of them those that write what people wish, and those that list; the rest is for single objects, and for
 * what nodes and leases are kept alive with. */
#define LIMIT_API_WRITES   512u
#define LIMIT_API_LISTINGS 256u
/* Bodies of writes under way: as JSON in memory each takes ten times its bytes. 429 beyond. */
#define LIMIT_API_BODIES_BYTES (16u * 1024u * 1024u)
/* Answers that clients have not taken yet: no more lists beyond, nor any resource at all beyond the second. */
#define LIMIT_API_ANSWERS_BYTES     (128u * 1024u * 1024u)
#define LIMIT_API_ANSWERS_BYTES_MAX (2u * LIMIT_API_ANSWERS_BYTES)
/* Watches of one replica; one more is answered 429. */
#define LIMIT_API_WATCHES          2048u
/* Unsent bytes of one watch: a client that reads slower than the world changes is cut, and lists again. */
#define LIMIT_API_WATCH_BYTES      (2u * 1024u * 1024u)
/* The same of all watches together: the one that makes it more is cut. */
#define LIMIT_API_WATCHES_BYTES (128u * 1024u * 1024u)
/* Lists that are read beside each other, each with up to LIMIT_API_LIST_BYTES in memory; the others wait. And the
 * work of one turn of the loop, in steps of so many bytes read and written: some milliseconds. */
#define LIMIT_API_LISTS           4u
#define LIMIT_API_LIST_STEP_BYTES (256u * 1024u)
#define LIMIT_API_LIST_STEPS      4u
/* Changes told to the watches in one turn of the loop. */
#define LIMIT_API_WATCH_CHANGES    256u
/* Without timeoutSeconds, or with a longer one, a watch ends after this. */
#define LIMIT_API_WATCH_MS         (45u * 60u * 1000u)
#define LIMIT_API_BOOKMARK_MS      60000u
/* Times a patch is computed again because somebody else was faster. */
#define LIMIT_API_WRITE_RETRIES    8u
/* Bytes of one list answer; beyond, the list is cut with a continue token, which every client follows. */
#define LIMIT_API_LIST_BYTES       (32u * 1024u * 1024u)
/* Causes shown in one Invalid answer. */
#define LIMIT_API_CAUSES           32u
/* Warning headers of one answer about a device: kubectl prints each on a line. */
#define LIMIT_API_WARNINGS         8u
static_assert(LIMIT_API_WRITES + LIMIT_API_LISTINGS < LIMIT_API_CALLS,
              "single objects have a share");
static_assert(LIMIT_API_BODIES_BYTES >= 4 * LIMIT_HTTP_BODY_BYTES,
              "some large writes go on at once");
static_assert(LIMIT_API_WATCH_BYTES > LIMIT_OBJECT_BYTES, "the largest object fits a watch");
static_assert(LIMIT_API_LIST_BYTES < LIMIT_HTTP_ANSWER_BYTES, "a list is a whole answer");

/* A configuration file, the length of one of its lists, and one log line. */
#define LIMIT_CONFIG_BYTES         (256u * 1024u)
#define LIMIT_CONFIG_ITEMS         256u
#define LIMIT_LOG_LINE_BYTES       2048u

/* -- the log --------------------------------------------------------------------------------- */

/* Bytes accepted by one log and not yet durable; more is answered STATUS_FULL. They are borrowed
 * from the caller, not copied; holds all proposals raft may have under way, and their frames. */
#define LIMIT_LOG_WAITING_BYTES (2u * LIMIT_PROPOSALS_BYTES)
/* One batch: written and synced at once. Each starts small and grows up to this. */
#define LIMIT_LOG_BATCH_BYTES   (8u * 1024u * 1024u)
static_assert(LIMIT_LOG_BATCH_BYTES >= 2 * LIMIT_FRAME_BYTES, "the largest frame fits a batch");
/* One is being filled, one is being flushed, and one, when it is large, waits behind that. */
#define LIMIT_LOG_BATCHES       3u
/* From this size on a batch goes to the disk without waiting for what else may come, or for the flush
 * before it: its bytes cost the disk several times what its flush does. From 256 KiB on was no faster
 * than never, from 64 KiB on a fifth slower: the same load in more flushes. */
#define LIMIT_LOG_EARLY_BYTES   (512u * 1024u)
/* Segments one batch may touch. */
#define LIMIT_LOG_BATCH_PARTS   2u
/* Term and vote of raft, and whatever else must be durable in place. */
#define LIMIT_LOG_META_BYTES    256u
/* A small file beside the frames: the manifest of a snapshot, which lists RocksDB's files. */
#define LIMIT_LOG_FILE_BYTES    (4u * 1024u * 1024u)
/* Paths of a log: directory, slash, file name. A longer directory is refused by log_open. */
#define LIMIT_LOG_PATH_BYTES    1024u
/* Bytes a reader scans at most to find its first frame; memory is 32 bytes per stride. */
#define LIMIT_LOG_STRIDE_BYTES  (256u * 1024u)
/* Buffer of one reader; grows for a larger frame. */
#define LIMIT_LOG_READ_BYTES    (64u * 1024u)
/* Runs of frames one log keeps in memory, 32 bytes each: 32 MiB, for 256 GiB of log without
 * truncations. Met in quarters, like log_options.limit_bytes. */
#define LIMIT_LOG_RUNS          (1024u * 1024u)
/* The least limit a cloudcore and an edgecore take for their log. Three quarters of it must hold what is
 * kept between two checkpoints, with the frames around small commands, and a quarter what is under way. */
#define LIMIT_LOG_CLOUD_BYTES_MIN (1024u * 1024u * 1024u)
#define LIMIT_LOG_EDGE_BYTES_MIN  (512u * 1024u * 1024u)
static_assert(LIMIT_LOG_CLOUD_BYTES_MIN / 4 * 3 >=
                  2 * 3 * LIMIT_RAFT_SNAPSHOT_BYTES + LIMIT_APPLY_WAITING_BYTES + 4 * LIMIT_SEGMENT_BYTES,
              "a checkpoint is due before the limit is met");
static_assert(LIMIT_LOG_CLOUD_BYTES_MIN / 8 * 5 >=
                  2 * 3 * LIMIT_RAFT_SNAPSHOT_BYTES + LIMIT_APPLY_WAITING_BYTES + 4 * LIMIT_SEGMENT_BYTES,
              "a log is not crowded without a follower that it is held for");
static_assert(LIMIT_LOG_CLOUD_BYTES_MIN / 4 >= LIMIT_LOG_WAITING_BYTES + 4 * LIMIT_SEGMENT_BYTES &&
                  LIMIT_LOG_EDGE_BYTES_MIN / 4 >= LIMIT_LOG_WAITING_BYTES,
              "what was accepted fits the last quarter");
/* The least log_options.limit_bytes there is, in segments: the tail, the next, one to release, one that
 * is kept for truncations and resets. */
#define LIMIT_LOG_SEGMENTS_MIN  4u
/* A log does not believe a clock that moved further than this between two ticks, or back ... */
#define LIMIT_LOG_CLOCK_JUMP_MS 60000u
/* ... before it held for so many ticks, an hour: a machine without a clock has asked the network by
 * then, and a typing error was noticed. */
#define LIMIT_LOG_CLOCK_TICKS   3600u
/* Between the thread that reads a log and the one that prints it: chunks, and of each the bytes and the
 * frames. A larger frame has a chunk of its own size, so the most is LIMIT_BELT_CHUNKS of the largest. */
#define LIMIT_BELT_CHUNKS       4u
#define LIMIT_BELT_CHUNK_BYTES  (512u * 1024u)
#define LIMIT_BELT_CHUNK_FRAMES 2048u
static_assert(LIMIT_BELT_CHUNKS >= 2, "one is filled while the other is printed");
static_assert(LIMIT_BELT_CHUNKS * LIMIT_FRAME_BYTES <= 16u * 1024u * 1024u,
              "looking at a log stays small beside whoever runs there");
/* Steps of one background job: zero, header, sync, rename, directory; or files to drop. */
#define LIMIT_LOG_BACKGROUND_STEPS 8u

#endif
