#include "bench/load.h"

#include "schemas/bytes.h"
#include "schemas/check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define WARM_NS     (300 * UINT64_C(1000000))
#define PATIENCE_NS (10 * UINT64_C(1000000000)) /* beyond `ms`, of a server that is very slow */
#define SAMPLES_MAX 4000000u

static const char *client;

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void load_fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s: ", client);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    exit(1);
}

void load_open(struct load *load, const char *program, int count, char **arguments)
{
    client = program;
    *load = (struct load){.batch = 1, .flight = 1, .ms = 1000, .noise = now_ns()};
    bool good = count % 2 == 1;
    for (int i = 1; good && i < count; i += 2) {
        const uint64_t number = strtoull(arguments[i + 1], NULL, 10);
        if (strcmp(arguments[i], "--batch") == 0) {
            load->batch = (uint32_t)number;
        } else if (strcmp(arguments[i], "--flight") == 0) {
            load->flight = (uint32_t)number;
        } else if (strcmp(arguments[i], "--ms") == 0) {
            load->ms = number;
        } else if (strcmp(arguments[i], "--target") == 0) {
            load->target = arguments[i + 1];
        } else {
            good = false;
        }
    }
    if (!good || load->target == NULL || load->ms == 0 || load->batch == 0 ||
        load->batch > LOAD_BATCH_MAX || load->flight == 0 || load->flight > LOAD_FLIGHT_MAX) {
        fprintf(stderr, "usage: %s --target WHERE [--batch N] [--flight N] [--ms N]\n", program);
        exit(2);
    }
    load->latencies_us = malloc(SAMPLES_MAX * sizeof *load->latencies_us);
    CHECK(load->latencies_us != NULL);
}

int load_connect(const struct load *load)
{
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_addr = {htonl(INADDR_LOOPBACK)},
                                        .sin_port =
                                            htons((uint16_t)strtoul(load->target, NULL, 10))};
    const int handle = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (handle < 0 || connect(handle, (const struct sockaddr *)&address, sizeof address) != 0) {
        load_fail("port %s: %s", load->target, strerror(errno));
    }
    CHECK(setsockopt(handle, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)) == 0);
    return handle;
}

void load_send(int handle, const uint8_t *data, size_t size)
{
    for (size_t sent = 0; sent < size;) {
        const ssize_t more = send(handle, data + sent, size - sent, MSG_NOSIGNAL);
        if (more < 0) {
            load_fail("the server: %s", strerror(errno));
        }
        sent += (size_t)more;
    }
}

size_t load_receive(int handle, uint8_t *out, size_t size)
{
    const ssize_t got = recv(handle, out, size, 0);
    if (got <= 0) {
        load_fail("the server: %s", got < 0 ? strerror(errno) : "it closed the connection");
    }
    return (size_t)got;
}

void load_start(struct load *load)
{
    load->begin_ns = now_ns() + WARM_NS;
    load->end_ns = load->begin_ns + load->ms * 1000000;
}

void load_begin(struct load *load, uint32_t slot)
{
    load->begun_ns[slot] = now_ns();
    load->under_way++;
}

bool load_end(struct load *load, uint32_t slot)
{
    const uint64_t now = now_ns();
    CHECK(load->under_way > 0);
    load->under_way--;
    load->ended++;
    if (now >= load->begin_ns && load->finished_ns == 0) {
        load->answered++;
        if (load->latency_count < SAMPLES_MAX) {
            load->latencies_us[load->latency_count] =
                (uint32_t)((now - load->begun_ns[slot]) / 1000);
            load->latency_count++;
        }
    }
    const bool enough = load->answered >= load->flight || now >= load->end_ns + PATIENCE_NS;
    if (load->finished_ns == 0 && now >= load->end_ns && enough) {
        load->finished_ns = now;
    }
    return load->finished_ns == 0;
}

bool load_over(const struct load *load)
{
    return load->under_way == 0;
}

uint32_t load_record(struct load *load, uint8_t *out)
{
    const uint32_t key = (uint32_t)(load->records++ % LOAD_KEYS);
    for (size_t i = 0; i < LOAD_RECORD_BYTES; i += sizeof load->noise) {
        load->noise ^= load->noise << 13;
        load->noise ^= load->noise >> 7;
        load->noise ^= load->noise << 17;
        put_le64(out + i, load->noise);
    }
    put_le32(out, key);
    return key;
}

static int compare(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a;
    const uint32_t y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

void load_print(struct load *load)
{
    if (load->latency_count == 0) {
        load_fail("no request was answered in time");
    }
    qsort(load->latencies_us, load->latency_count, sizeof *load->latencies_us, compare);
    const uint64_t p99 = (uint64_t)load->latency_count * 99 / 100;
    printf("{\"records_s\": %.1f, \"p50_ms\": %.3f, \"p99_ms\": %.3f, \"records\": %llu}\n",
           (double)load->answered * load->batch * 1e9 /
               (double)(load->finished_ns - load->begin_ns),
           load->latencies_us[load->latency_count / 2] / 1e3, load->latencies_us[p99] / 1e3,
           (unsigned long long)load->ended * load->batch);
    free(load->latencies_us);
}
