/* The wire of a campaign: hosts that are network namespaces, and one switch between them that can be told to
 * lose, to delay and to cut, each direction of each pair by itself.
 *
 *      ha-wire SEED DIRECTORY NAME...
 *
 *   1. For each name a new network namespace is made, held as the file DIRECTORY/NAME (nsenter --net=FILE
 *      enters it), with an interface "wire" that has the address 10.99.0.N, N from 1 in the order of the names.
 *   2. "ready" is written on stdout.
 *   3. Frames go where their MAC says, and to all when it is a broadcast, through the path of the pair. Each
 *      line on stdin sets paths and is answered by "ok" when that is done, or by "error":
 *          set FROM TO LOSS DELAY JITTER    names, or * for all; per thousand; ms; ms
 *          stats                            answered by "ok PASSED LOST"
 *   4. At the end of stdin it ends, and what it made is gone with it.
 *
 * A path keeps its frames in order, whatever the jitter, and holds at most PATH_FRAMES of them; more are lost,
 * as in a router. This is what tc's netem does, on kernels that have none, with chance from one seed; what can
 * fail is only the beginning: it needs root and /dev/net/tun, and says so. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "schemas/check.h"

#define HOSTS       16u
#define MTU         9000
#define FRAME_BYTES 9100u /* of the MTU, and the header of ethernet */
#define PATH_FRAMES 2048u
#define TURN_FRAMES 64u /* read from one host before the others have their turn */
#define LINE_BYTES  256u

struct frame {
    struct frame *next;
    uint64_t due_us;
    size_t size;
    uint8_t bytes[];
};

struct path {
    uint32_t loss; /* per thousand */
    uint64_t delay_us;
    uint64_t jitter_us;
    uint64_t due_us; /* of the newest frame: no later one is earlier */
    struct frame *head;
    struct frame *tail;
    uint32_t count;
};

struct host {
    const char *name;
    int fd;
};

struct wire {
    struct host hosts[HOSTS];
    uint32_t host_count;
    struct path paths[HOSTS][HOSTS]; /* from, to */
    uint64_t random;
    uint64_t passed;
    uint64_t lost;
    char line[LINE_BYTES];
    size_t line_size;
};

static uint64_t now_us(void)
{
    struct timespec now;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

/* xorshift: chance that a seed repeats. */
static uint64_t wire_random(struct wire *wire)
{
    wire->random ^= wire->random << 13;
    wire->random ^= wire->random >> 7;
    wire->random ^= wire->random << 17;
    return wire->random;
}

static _Noreturn void fail(const char *what, const char *name)
{
    fprintf(stderr, "ha-wire: %s %s: %s\n", what, name, strerror(errno));
    exit(1);
}

/* -- hosts ------------------------------------------------------------------------------------------------ */

static void interface_set(int fd, unsigned long request, struct ifreq *about, const char *what,
                          const char *name)
{
    if (ioctl(fd, request, about) != 0) {
        fail(what, name);
    }
}

static void interface_up(int fd, const char *interface, const char *name)
{
    struct ifreq about = {.ifr_flags = IFF_UP | IFF_RUNNING};
    (void)snprintf(about.ifr_name, sizeof about.ifr_name, "%s", interface);
    interface_set(fd, SIOCSIFFLAGS, &about, "an interface cannot be brought up for", name);
}

static void interface_address(int fd, unsigned long request, uint32_t address, const char *name)
{
    struct ifreq about = {.ifr_name = "wire"};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(address)};
    memcpy(&about.ifr_addr, &in, sizeof in);
    interface_set(fd, request, &about, "an address cannot be given to", name);
}

/* A network of its own, and our end of its cable. We end up in the newest one, and need none. */
static void host_open(struct host *host, uint32_t number, const char *directory)
{
    if (unshare(CLONE_NEWNET) != 0) {
        fail("no network namespace can be made for", host->name);
    }
    host->fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (host->fd < 0) {
        fail("/dev/net/tun cannot be opened for", host->name);
    }
    struct ifreq about = {.ifr_name = "wire", .ifr_flags = IFF_TAP | IFF_NO_PI};
    interface_set(host->fd, TUNSETIFF, &about, "no interface can be made for", host->name);
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        fail("no socket in the namespace of", host->name);
    }
    about = (struct ifreq){.ifr_name = "wire", .ifr_hwaddr.sa_family = ARPHRD_ETHER};
    about.ifr_hwaddr.sa_data[0] = 2; /* locally administered */
    about.ifr_hwaddr.sa_data[5] = (char)number;
    interface_set(fd, SIOCSIFHWADDR, &about, "no MAC can be given to", host->name);
    about = (struct ifreq){.ifr_name = "wire", .ifr_mtu = MTU};
    interface_set(fd, SIOCSIFMTU, &about, "no MTU can be given to", host->name);
    interface_address(fd, SIOCSIFADDR, 0x0a630000u + number, host->name);
    interface_address(fd, SIOCSIFNETMASK, 0xffffff00u, host->name);
    interface_up(fd, "wire", host->name);
    interface_up(fd, "lo", host->name);
    close(fd);

    char path[4096];
    (void)snprintf(path, sizeof path, "%s/%s", directory, host->name);
    const int file = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (file < 0 || close(file) != 0 ||
        mount("/proc/self/ns/net", path, NULL, MS_BIND, NULL) != 0) {
        fail("the namespace cannot be held for", path);
    }
}

/* -- frames ----------------------------------------------------------------------------------------------- */

static void frame_deliver(struct wire *wire, uint32_t to, const uint8_t *bytes, size_t size)
{
    if (write(wire->hosts[to].fd, bytes, size) == (ssize_t)size) {
        wire->passed++;
    } else {
        wire->lost++; /* its queue is full: as a card would */
    }
}

static void path_send(struct wire *wire, uint32_t from, uint32_t to, const uint8_t *bytes,
                      size_t size, uint64_t at_us)
{
    struct path *path = &wire->paths[from][to];
    if (path->loss > 0 && wire_random(wire) % 1000 < path->loss) {
        wire->lost++;
        return;
    }
    if (path->delay_us == 0 && path->jitter_us == 0 && path->head == NULL) {
        frame_deliver(wire, to, bytes, size);
        return;
    }
    if (path->count == PATH_FRAMES) {
        wire->lost++;
        return;
    }
    struct frame *frame = malloc(sizeof *frame + size);
    CHECK(frame != NULL);
    const uint64_t jitter = path->jitter_us == 0 ? 0 : wire_random(wire) % path->jitter_us;
    const uint64_t due = at_us + path->delay_us + jitter;
    path->due_us = due > path->due_us ? due : path->due_us;
    *frame = (struct frame){.due_us = path->due_us, .size = size};
    memcpy(frame->bytes, bytes, size);
    if (path->tail == NULL) {
        path->head = frame;
    } else {
        path->tail->next = frame;
    }
    path->tail = frame;
    path->count++;
}

static void host_read(struct wire *wire, uint32_t from)
{
    uint8_t bytes[FRAME_BYTES];
    const uint64_t at_us = now_us();
    for (uint32_t i = 0; i < TURN_FRAMES; i++) {
        const ssize_t size = read(wire->hosts[from].fd, bytes, sizeof bytes);
        if (size < 14) {
            return;
        }
        const bool all = (bytes[0] & 1) != 0;
        if (bytes[12] == 0x86 && bytes[13] == 0xdd) {
            continue; /* IPv6 asks around by itself; nobody here speaks it */
        }
        for (uint32_t to = 0; to < wire->host_count; to++) {
            if (to != from && (all || bytes[5] == to + 1)) {
                path_send(wire, from, to, bytes, (size_t)size, at_us);
            }
        }
    }
}

/* Deliver what is due. Answers the time until the next frame is, in ms; -1: there is none. */
static int paths_run(struct wire *wire)
{
    const uint64_t at_us = now_us();
    uint64_t next_us = UINT64_MAX;
    for (uint32_t from = 0; from < wire->host_count; from++) {
        for (uint32_t to = 0; to < wire->host_count; to++) {
            struct path *path = &wire->paths[from][to];
            while (path->head != NULL && path->head->due_us <= at_us) {
                struct frame *frame = path->head;
                path->head = frame->next;
                path->tail = path->head == NULL ? NULL : path->tail;
                path->count--;
                frame_deliver(wire, to, frame->bytes, frame->size);
                free(frame);
            }
            if (path->head != NULL && path->head->due_us < next_us) {
                next_us = path->head->due_us;
            }
        }
    }
    return next_us == UINT64_MAX ? -1 : (int)((next_us - at_us) / 1000 + 1);
}

/* -- orders ----------------------------------------------------------------------------------------------- */

static bool host_matches(const struct host *host, const char *name)
{
    return strcmp(name, "*") == 0 || strcmp(name, host->name) == 0;
}

static void wire_obey(struct wire *wire, const char *line)
{
    char from[64];
    char to[64];
    uint32_t loss;
    uint32_t delay_ms;
    uint32_t jitter_ms;
    if (strcmp(line, "stats") == 0) {
        printf("ok %" PRIu64 " %" PRIu64 "\n", wire->passed, wire->lost);
        return;
    }
    if (sscanf(line, "set %63s %63s %" SCNu32 " %" SCNu32 " %" SCNu32, from, to, &loss, &delay_ms,
               &jitter_ms) != 5) {
        printf("error\n");
        return;
    }
    for (uint32_t i = 0; i < wire->host_count; i++) {
        for (uint32_t k = 0; k < wire->host_count; k++) {
            if (host_matches(&wire->hosts[i], from) && host_matches(&wire->hosts[k], to)) {
                wire->paths[i][k].loss = loss;
                wire->paths[i][k].delay_us = delay_ms * 1000u;
                wire->paths[i][k].jitter_us = jitter_ms * 1000u;
            }
        }
    }
    printf("ok\n");
}

static void wire_listen(struct wire *wire)
{
    const ssize_t size =
        read(STDIN_FILENO, wire->line + wire->line_size, LINE_BYTES - 1 - wire->line_size);
    if (size <= 0) {
        exit(0);
    }
    wire->line_size += (size_t)size;
    wire->line[wire->line_size] = 0;
    char *end;
    while ((end = strchr(wire->line, '\n')) != NULL) {
        *end = 0;
        wire_obey(wire, wire->line);
        wire->line_size -= (size_t)(end + 1 - wire->line);
        memmove(wire->line, end + 1, wire->line_size + 1);
    }
    if (wire->line_size == LINE_BYTES - 1) {
        printf("error\n");
        wire->line_size = 0;
    }
    (void)fflush(stdout);
}

int main(int argc, char **argv)
{
    static struct wire wire;
    if (argc < 4 || argc - 3 > (int)HOSTS) {
        fprintf(stderr, "usage: ha-wire SEED DIRECTORY NAME...    1 to %u names\n", HOSTS);
        return 2;
    }
    wire.random = strtoull(argv[1], NULL, 10) * 2 + 1; /* xorshift stays at zero for ever */
    wire.host_count = (uint32_t)argc - 3;
    for (uint32_t i = 0; i < wire.host_count; i++) {
        wire.hosts[i].name = argv[i + 3];
        host_open(&wire.hosts[i], i + 1, argv[2]);
    }
    printf("ready\n");
    (void)fflush(stdout);

    struct pollfd polls[HOSTS + 1];
    for (uint32_t i = 0; i < wire.host_count; i++) {
        polls[i] = (struct pollfd){.fd = wire.hosts[i].fd, .events = POLLIN};
    }
    polls[wire.host_count] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
    for (;;) {
        const int wait_ms = paths_run(&wire);
        if (poll(polls, wire.host_count + 1, wait_ms) < 0 && errno != EINTR) {
            fail("poll", "");
        }
        for (uint32_t i = 0; i < wire.host_count; i++) {
            if (polls[i].revents != 0) {
                host_read(&wire, i);
            }
        }
        if (polls[wire.host_count].revents != 0) {
            wire_listen(&wire);
        }
    }
}
