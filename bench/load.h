/* The closed loop that every client of `commit` makes of its server, so that none is asked differently.
 *
 *   1. W slots have a request of B records under way each; a slot begins the next when it is answered
 *   2. a while of warming up is not counted, then `ms` are, or as long as it takes until as many requests were answered
 *      as there are slots: a request counts when its answer comes within
 *   3. no request is begun after that; when the last one is answered the client prints one line
 *
 * The client has one thread and one connection (of each kind of server), and does as little as it can: it
 * runs on the processors of the servers.
 */
#ifndef KELP_BENCH_LOAD_H
#define KELP_BENCH_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOAD_RECORD_BYTES 256u
#define LOAD_BATCH_MAX    1000u
#define LOAD_FLIGHT_MAX   1000u
/* What is written over and over: a state that neither stays tiny nor grows without end. */
#define LOAD_KEYS 10000u
_Static_assert(LOAD_KEYS >= LOAD_BATCH_MAX, "no request has a key twice");

struct load {
    uint32_t batch;  /* records of a request */
    uint32_t flight; /* requests under way */
    uint64_t ms;
    const char *target; /* the port of whom to ask */

    uint64_t begin_ns,
        end_ns;           /* of the time that counts; it ends at the first answer after end_ns */
    uint64_t finished_ns; /* 0: it goes on */
    uint64_t begun_ns[LOAD_FLIGHT_MAX]; /* of each slot */
    uint32_t under_way;
    uint64_t answered; /* requests within the time that counts */
    uint64_t ended;    /* requests at all */
    uint64_t records;  /* made */
    uint64_t noise;
    uint32_t *latencies_us;
    uint32_t latency_count;
};

/* Read --batch, --flight, --ms, --target. Exits with a usage line that begins with `program`. */
void load_open(struct load *load, const char *program, int count, char **arguments);
/* A connection to the target, a port of the loopback; without Nagle's delay. A failure ends the program. */
int load_connect(const struct load *load);
/* All of it. Blocks: servers read whatever comes. A failure ends the program. */
void load_send(int handle, const uint8_t *data, size_t size);
/* What is there, at least a byte; blocks. An end or a failure ends the program. */
size_t load_receive(int handle, uint8_t *out, size_t size);

/* The time begins. */
void load_start(struct load *load);
/* A request of this slot leaves now. */
void load_begin(struct load *load, uint32_t slot);
/* It was answered: all of its records are durable, as the server promises it. Whether the slot goes on. */
bool load_end(struct load *load, uint32_t slot);
/* Nothing is under way any more. */
bool load_over(const struct load *load);
/* The next record: LOAD_RECORD_BYTES of noise, which no server can compress, behind a little-endian u32 that is
 * its key. Answers the key: 0 .. LOAD_KEYS - 1, each in turn, so no request has one twice. */
uint32_t load_record(struct load *load, uint8_t *out);
/* Print the line: {"records_s": 1.0, "p50_ms": 1.0, "p99_ms": 1.0, "records": 1}; the last one counts warming up and the
 * end too: what the servers have done for this client. */
void load_print(struct load *load);

/* End with a message: the server did not do what it was asked. */
__attribute__((noreturn, format(printf, 1, 2))) void load_fail(const char *format, ...);

#endif
