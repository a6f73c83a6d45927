#include "bench/edge_watch.h"

#include "schemas/check.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define REPORT_BYTES 16384u /* CONTROL_BYTES of nodes/control.h */

uint64_t edge_watch_now(void)
{
    struct timespec now;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* One report, whole.
 *   answers  whether there was one with that number in it */
static bool watch_ask(const struct edge_watch *watch, uint64_t *out)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char report[REPORT_BYTES + 1];
    size_t size = 0;
    if (strlen(watch->path) >= sizeof address.sun_path) {
        return false;
    }
    memcpy(address.sun_path, watch->path, strlen(watch->path));
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) {
        ssize_t got;
        while (size < REPORT_BYTES && (got = read(fd, report + size, REPORT_BYTES - size)) > 0) {
            size += (size_t)got;
        }
    }
    (void)close(fd);
    report[size] = '\0';
    const char *at = strstr(report, watch->key);
    if (at == NULL) {
        return false;
    }
    *out = strtoull(at + strlen(watch->key), NULL, 10);
    return true;
}

static bool watch_look(struct edge_watch *watch)
{
    uint64_t value;
    if (!watch_ask(watch, &value)) {
        return false;
    }
    if (watch->count > 0 && watch->moments[watch->count - 1].value == value) {
        return true;
    }
    if (watch->count == watch->capacity) {
        watch->capacity = watch->capacity == 0 ? 4096 : 2 * watch->capacity;
        watch->moments = realloc(watch->moments, watch->capacity * sizeof *watch->moments);
        CHECK(watch->moments != NULL);
    }
    watch->moments[watch->count++] = (struct edge_moment){.ns = edge_watch_now(), .value = value};
    atomic_store(&watch->newest, value);
    return true;
}

static void *watch_run(void *context)
{
    struct edge_watch *watch = context;
    const struct timespec pause = {.tv_sec = (time_t)(watch->pause_us / 1000000),
                                   .tv_nsec = (long)(watch->pause_us % 1000000 * 1000)};
    while (!atomic_load(&watch->ending)) {
        (void)watch_look(
            watch); /* one that is busy, or away, is asked again; whoever waits has a deadline */
        (void)nanosleep(&pause, NULL);
    }
    return NULL;
}

bool edge_watch_begin(struct edge_watch *watch, const char *path, const char *key,
                      uint64_t pause_us)
{
    *watch = (struct edge_watch){.path = path, .key = key, .pause_us = pause_us};
    if (!watch_look(watch)) {
        return false;
    }
    CHECK(pthread_create(&watch->thread, NULL, watch_run, watch) == 0);
    return true;
}

uint64_t edge_watch_newest(struct edge_watch *watch)
{
    return atomic_load(&watch->newest);
}

void edge_watch_end(struct edge_watch *watch)
{
    atomic_store(&watch->ending, true);
    CHECK(pthread_join(watch->thread, NULL) == 0);
}

void edge_watch_free(struct edge_watch *watch)
{
    free(watch->moments);
}

uint64_t edge_watch_when(const struct edge_watch *watch, uint64_t value, size_t *at)
{
    while (*at < watch->count && watch->moments[*at].value < value) {
        (*at)++;
    }
    return *at < watch->count ? watch->moments[*at].ns : 0;
}

static int compare_ns(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a;
    const uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

void edge_watch_print_ns(const char *name, uint64_t *ns, size_t count)
{
    CHECK(count > 0);
    qsort(ns, count, sizeof *ns, compare_ns);
    printf(",\"%s_p50_ms\":%.3f,\"%s_p99_ms\":%.3f,\"%s_max_ms\":%.3f", name,
           (double)ns[count / 2] / 1e6, name, (double)ns[count * 99 / 100] / 1e6, name,
           (double)ns[count - 1] / 1e6);
}
