/* Three replicas as processes of their own, and a door for clients at each: what `commit` measures beside etcd
 * and NATS.
 *
 *   1. three processes part, linked with each other over TCP on the loopback (commit_links.h)
 *   2. each has a door, a TCP port; on standard output a line {"pids": [...], "ports": [...]}, and another,
 *      {"leader": N}, when the first of them takes writes
 *   3. a request at the leader's door is answered when all of its records are durable on two of three and
 *      applied at the leader
 *   4. when standard input ends, so do all of them
 *
 *     commit_group --machine count|state --directory DIR
 *
 * A request:  u32 slot, u32 records, so many times LOAD_RECORD_BYTES; the first u32 of a record is its key.
 * Its answer: u32 slot, i32 status. Little-endian. At the door of one that does not lead the status is
 * STATUS_NOT_LEADER.
 *
 * With `count` the records of a request are one command for a state that only counts (commit_count.h); with
 * `state` each is a record for the state machine of a cloudcore (commit_state.h), which makes commands of them.
 */
#include "bench/commit_count.h"
#include "bench/commit_state.h"
#include "bench/load.h"
#include "schemas/check.h"
#include "schemas/status.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define REQUEST_HEADER_BYTES 8u
#define REQUEST_BYTES        (REQUEST_HEADER_BYTES + LOAD_BATCH_MAX * LOAD_RECORD_BYTES)
#define READ_BYTES           (64u * 1024u)
#define ANSWER_BYTES         8u
#define ANSWERS_BYTES        (LOAD_FLIGHT_MAX * ANSWER_BYTES)

struct visitor; /* a client's connection */

struct request {
    struct request *next;
    struct visitor *visitor;
    uint32_t slot;
    uint32_t count; /* records */
    uint32_t taken; /* of them, by the replica */
    uint32_t open;  /* of them, not answered */
    int status;     /* the first that was not 0 */
    uint8_t records[];
};

struct visitor {
    uv_tcp_t tcp;
    bool closed;
    uint32_t requests; /* not answered */
    size_t size;       /* received, not yet a whole request */
    uint8_t data[REQUEST_BYTES + READ_BYTES];
    size_t answers_size;
    uint8_t answers[ANSWERS_BYTES];
};

static uv_loop_t *loop;
static uint64_t self;
static bool counting;
static struct replica *replica; /* of the machine that counts */
static uv_tcp_t door;
static uv_timer_t tick;
static uv_prepare_t turn;            /* of the machine that counts; the other has its own */
static struct visitor *visitor_now;  /* one at a time: the load has one connection */
static struct request *first, *last; /* not wholly taken */

/* -- answers ------------------------------------------------------------------------------------- */

static void visitor_on_closed(uv_handle_t *handle)
{
    struct visitor *visitor = handle->data;
    visitor->closed = true;
    if (visitor->requests == 0) {
        free(visitor);
    }
}

static void visitor_close(struct visitor *visitor)
{
    if (visitor == visitor_now) {
        visitor_now = NULL;
        uv_close((uv_handle_t *)&visitor->tcp, visitor_on_closed);
    }
}

/* All answers of a turn leave together. */
static void answers_send(void)
{
    struct visitor *visitor = visitor_now;
    if (visitor == NULL || visitor->answers_size == 0) {
        return;
    }
    const uv_buf_t buffer = uv_buf_init((char *)visitor->answers, (unsigned)visitor->answers_size);
    if (uv_try_write((uv_stream_t *)&visitor->tcp, &buffer, 1) != (int)visitor->answers_size) {
        visitor_close(visitor); /* a client that does not read has ended */
    }
    visitor->answers_size = 0;
}

static void request_end(struct request *request)
{
    struct visitor *visitor = request->visitor;
    visitor->requests--;
    if (visitor == visitor_now) {
        CHECK(visitor->answers_size + ANSWER_BYTES <= sizeof visitor->answers);
        put_le32(visitor->answers + visitor->answers_size, request->slot);
        put_le32(visitor->answers + visitor->answers_size + 4, (uint32_t)request->status);
        visitor->answers_size += ANSWER_BYTES;
    } else if (visitor->closed && visitor->requests == 0) {
        free(visitor);
    }
    free(request);
}

static void request_count(struct request *request, uint32_t records, int status)
{
    CHECK(request->open >= records);
    request->open -= records;
    if (request->status == 0) {
        request->status = status;
    }
    if (request->open == 0) {
        request_end(request);
    }
}

static void count_on_done(void *context, int status, uint64_t index)
{
    (void)index;
    struct request *request = context;
    request_count(request, request->count, status);
}

static void state_on_written(void *context, int status, enum backend_outcome outcome,
                             uint64_t value)
{
    (void)value;
    CHECK_IF(status == 0, outcome == BACKEND_ACCEPTED);
    request_count(context, 1, status);
}

/* -- requests ------------------------------------------------------------------------------------ */

static bool leads(void)
{
    return counting ? replica_role(replica) == REPLICA_LEADER : commit_state_leads();
}

/* Hand over one command, or one record of it. */
static int request_offer(struct request *request)
{
    if (counting) {
        const size_t size = (size_t)request->count * LOAD_RECORD_BYTES;
        return replica_propose(replica, bytes_of(request->records, size), count_on_done, request);
    }
    const uint8_t *record = request->records + (size_t)request->taken * LOAD_RECORD_BYTES;
    return commit_state_put(get_le32(record), bytes_of(record, LOAD_RECORD_BYTES), state_on_written,
                            request);
}

/* Hand over what is taken; what is not waits for a turn in which something ended. */
static void requests_offer(void)
{
    while (first != NULL) {
        struct request *request = first;
        int status = leads() ? 0 : STATUS_NOT_LEADER;
        while (status == 0 && request->taken < request->count) {
            status = request_offer(request);
            if (status == 0) {
                request->taken += counting ? request->count : 1;
            }
        }
        if (status == STATUS_FULL) {
            return;
        }
        first = request->next;
        if (first == NULL) {
            last = NULL;
        }
        if (request->taken < request->count) {
            request_count(request, request->count - request->taken, status);
        }
    }
}

static void request_take(struct visitor *visitor, const uint8_t *bytes, uint32_t count)
{
    const size_t size = (size_t)count * LOAD_RECORD_BYTES;
    struct request *request = malloc(sizeof *request + size);
    CHECK(request != NULL);
    *request = (struct request){
        .visitor = visitor, .slot = get_le32(bytes), .count = count, .open = count};
    memcpy(request->records, bytes + REQUEST_HEADER_BYTES, size);
    visitor->requests++;
    if (last != NULL) {
        last->next = request;
    } else {
        first = request;
    }
    last = request;
}

static void visitor_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    (void)suggested;
    struct visitor *visitor = handle->data;
    *out = uv_buf_init((char *)visitor->data + visitor->size, READ_BYTES);
}

static void visitor_on_read(uv_stream_t *stream, ssize_t got, const uv_buf_t *buffer)
{
    (void)buffer;
    struct visitor *visitor = stream->data;
    if (got < 0) {
        visitor_close(visitor);
        return;
    }
    visitor->size += (size_t)got;
    size_t at = 0;
    while (visitor->size - at >= REQUEST_HEADER_BYTES) {
        const uint32_t count = get_le32(visitor->data + at + 4);
        if (count == 0 || count > LOAD_BATCH_MAX || visitor->requests == LOAD_FLIGHT_MAX) {
            visitor_close(visitor); /* no client of ours */
            return;
        }
        const size_t whole = REQUEST_HEADER_BYTES + (size_t)count * LOAD_RECORD_BYTES;
        if (visitor->size - at < whole) {
            break;
        }
        request_take(visitor, visitor->data + at, count);
        at += whole;
    }
    memmove(visitor->data, visitor->data + at, visitor->size - at);
    visitor->size -= at;
    requests_offer();
}

static void door_on_connection(uv_stream_t *server, int status)
{
    CHECK(status == 0);
    struct visitor *visitor = calloc(1, sizeof *visitor);
    CHECK(visitor != NULL);
    CHECK(uv_tcp_init(loop, &visitor->tcp) == 0);
    visitor->tcp.data = visitor;
    CHECK(uv_accept(server, (uv_stream_t *)&visitor->tcp) == 0);
    CHECK(uv_tcp_nodelay(&visitor->tcp, 1) == 0);
    if (visitor_now != NULL) {
        visitor_close(visitor_now);
    }
    visitor_now = visitor;
    CHECK(uv_read_start((uv_stream_t *)&visitor->tcp, visitor_alloc, visitor_on_read) == 0);
}

/* -- one replica --------------------------------------------------------------------------------- */

static void on_turn_end(void)
{
    requests_offer();
    if (counting) {
        commit_count_turn();
    }
    answers_send();
}

static void on_prepare(uv_prepare_t *prepare)
{
    (void)prepare;
    on_turn_end();
}

static void on_tick(uv_timer_t *timer)
{
    (void)timer;
    static bool told; /* again when it leads again */
    if (counting) {
        commit_count_tick();
    }
    const bool now = leads();
    if (now && !told) {
        printf("{\"leader\": %lu}\n", self);
        fflush(stdout);
    }
    told = now;
    requests_offer();
}

static void count_on_message(uint64_t from, struct bytes message)
{
    (void)replica_receive(replica, from, message);
}

__attribute__((noreturn)) static void replica_main(uint64_t id, const char *directory, int listener)
{
    CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
    signal(SIGPIPE, SIG_IGN);
    self = id;
    loop = uv_default_loop();
    if (counting) {
        commit_links_open(loop, id, count_on_message);
        replica = commit_count_open(loop, id, directory, commit_links_send);
        CHECK(uv_prepare_init(loop, &turn) == 0);
        CHECK(uv_prepare_start(&turn, on_prepare) == 0);
    } else {
        commit_state_open(loop, id, directory, on_turn_end);
    }
    CHECK(uv_tcp_init(loop, &door) == 0);
    CHECK(uv_tcp_open(&door, listener) == 0);
    CHECK(uv_listen((uv_stream_t *)&door, 4, door_on_connection) == 0);
    CHECK(uv_timer_init(loop, &tick) == 0);
    CHECK(uv_timer_start(&tick, on_tick, COMMIT_TICK_MS, COMMIT_TICK_MS) == 0);
    uv_run(loop, UV_RUN_DEFAULT);
    _exit(1);
}

/* -- all three ----------------------------------------------------------------------------------- */

static int listener_open(uint16_t *out_port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(bind(listener, (const struct sockaddr *)&address, size) == 0);
    CHECK(getsockname(listener, (struct sockaddr *)&address, &size) == 0);
    *out_port = ntohs(address.sin_port);
    return listener;
}

int main(int count, char **arguments)
{
    const char *directory = NULL;
    const char *machine = "";
    for (int i = 1; i + 1 < count; i += 2) {
        if (strcmp(arguments[i], "--machine") == 0) {
            machine = arguments[i + 1];
        } else if (strcmp(arguments[i], "--directory") == 0) {
            directory = arguments[i + 1];
        }
    }
    counting = strcmp(machine, "count") == 0;
    if (directory == NULL || (!counting && strcmp(machine, "state") != 0)) {
        fprintf(stderr, "usage: commit_group --machine count|state --directory DIR\n");
        return 2;
    }
    commit_links_prepare(true);
    int listeners[COMMIT_REPLICAS];
    long ports[COMMIT_REPLICAS];
    long pids[COMMIT_REPLICAS];
    for (unsigned i = 0; i < COMMIT_REPLICAS; i++) {
        uint16_t port;
        listeners[i] = listener_open(&port);
        ports[i] = port;
    }
    for (unsigned i = 0; i < COMMIT_REPLICAS; i++) {
        pids[i] = fork();
        CHECK(pids[i] >= 0);
        if (pids[i] == 0) {
            for (unsigned other = 0; other < COMMIT_REPLICAS; other++) {
                if (other != i) {
                    close(listeners[other]);
                }
            }
            replica_main(i + 1, directory, listeners[i]);
        }
    }
    commit_links_forget();
    for (unsigned i = 0; i < COMMIT_REPLICAS; i++) {
        close(listeners[i]);
    }
    printf("{\"pids\": [%ld, %ld, %ld], \"ports\": [%ld, %ld, %ld]}\n", pids[0], pids[1], pids[2],
           ports[0], ports[1], ports[2]);
    fflush(stdout);
    while (getchar() != EOF) {
    }
    for (unsigned i = 0; i < COMMIT_REPLICAS; i++) {
        kill((pid_t)pids[i], SIGKILL);
        CHECK(waitpid((pid_t)pids[i], NULL, 0) == pids[i]);
    }
    return 0;
}
