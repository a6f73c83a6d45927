/* A clock that is set: preloaded into a program, it shifts the time of day by the milliseconds in the first
 * eight bytes of the file KELP_CLOCK (int64, of this machine's order), which may change at any moment. The
 * monotonic clock is left alone, as whoever sets a clock leaves it. */
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *shift_ms;

__attribute__((constructor)) static void clock_open(void)
{
    const char *path = getenv("KELP_CLOCK");
    const int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    void *memory = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *shift_ms, PROT_READ, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) {
        fprintf(stderr, "clock: KELP_CLOCK names no file of eight bytes\n");
        _exit(1);
    }
    shift_ms = memory;
    close(fd);
}

static void shift(struct timespec *time, int64_t by_ms)
{
    const int64_t ns = time->tv_nsec + by_ms % 1000 * 1000000;
    time->tv_sec += by_ms / 1000 + (ns < 0 ? -1 : ns >= 1000000000 ? 1 : 0);
    time->tv_nsec = (ns + 1000000000) % 1000000000;
}

static int64_t shift_now(void)
{
    return shift_ms == NULL ? 0 : *shift_ms; /* other constructors may be first */
}

int clock_gettime(clockid_t clock, struct timespec *out)
{
    const long status = syscall(SYS_clock_gettime, clock, out);
    if (status == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        shift(out, shift_now());
    }
    return (int)status;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
    (void)zone;
    struct timespec now;
    const int status = clock_gettime(CLOCK_REALTIME, &now);
    *out = (struct timeval){.tv_sec = now.tv_sec, .tv_usec = now.tv_nsec / 1000};
    return status;
}

time_t time(time_t *out)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    if (out != NULL) {
        *out = now.tv_sec;
    }
    return now.tv_sec;
}

/* Deadlines by the time of day come shifted and are kept by the kernel, which knows of no shift. Those by the
 * monotonic clock count from the start of the machine, so they are small. */
int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict deadline)
{
    static int (*wait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    if (wait == NULL) {
        *(void **)&wait = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    }
    struct timespec at = *deadline;
    if (at.tv_sec > 1000000000) {
        shift(&at, -shift_now());
    }
    return wait(condition, mutex, &at);
}
