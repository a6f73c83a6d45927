/* A number of an edgecore, as it moves: what a bench waits for is durable at the edge, applied, or acknowledged by
 * the cloud when the control socket says so.
 *
 *      thread: connect, read the report, take the number out, note it when it moved, sleep, again
 *
 * Each look costs the edgecore a connection and a page of JSON in its loop (some 50 us), so a bench that measures
 * its processor time looks seldom, and one that measures latencies often: what it finds is late by at most the
 * pause and one look.
 */
#ifndef KELP_BENCH_EDGE_WATCH_H
#define KELP_BENCH_EDGE_WATCH_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct edge_moment {
    uint64_t ns; /* CLOCK_MONOTONIC, when the answer was there */
    uint64_t value;
};

struct edge_watch {
    const char *path; /* borrowed until the end: the control socket */
    const char *key;  /* borrowed: "\"upAcked\":" */
    uint64_t pause_us;
    pthread_t thread;
    atomic_uint_fast64_t newest;
    atomic_bool ending;
    struct edge_moment *moments; /* in order; read after edge_watch_end */
    size_t count, capacity;
};

/* Nanoseconds of CLOCK_MONOTONIC. */
uint64_t edge_watch_now(void);

/* Ask once, then go on in a thread.
 *   answers  whether the first answer came */
bool edge_watch_begin(struct edge_watch *watch, const char *path, const char *key,
                      uint64_t pause_us);
/* The newest number; from any thread. */
uint64_t edge_watch_newest(struct edge_watch *watch);
/* End the thread. The moments stay until edge_watch_free. */
void edge_watch_end(struct edge_watch *watch);
void edge_watch_free(struct edge_watch *watch);
/* The first moment at which the number was at least `value`, 0: it never was. Asked with values that do not fall,
 * one pass over the moments is all it takes.
 *   at   where to begin, 0 at first; moved on */
uint64_t edge_watch_when(const struct edge_watch *watch, uint64_t value, size_t *at);

/* Print "NAME_p50_ms", "NAME_p99_ms", "NAME_max_ms" as members of a JSON object, with a comma before each.
 *   ns   sorted by this */
void edge_watch_print_ns(const char *name, uint64_t *ns, size_t count);

#endif
