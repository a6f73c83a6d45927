/* What /proc says of this process. A file that cannot be read leaves its families out. */
#include "nodes/metrics.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* The start of a /proc file, terminated. false: it cannot be read. */
static bool process_read(const char *path, char *buffer, size_t size)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return false;
    }
    const size_t got = fread(buffer, 1, size - 1, file);
    buffer[got] = '\0';
    (void)fclose(file);
    return got > 0;
}

/* "VmRSS:    1234 kB" of /proc/self/status, in bytes; 0: not there. */
static uint64_t process_status_bytes(const char *status, const char *name)
{
    const char *line = strstr(status, name);
    return line == NULL ? 0 : strtoull(line + strlen(name), NULL, 10) * 1024u;
}

static void process_memory(struct metrics_page *page)
{
    char status[4096];
    if (!process_read("/proc/self/status", status, sizeof status)) {
        return;
    }
    metrics_gauge(page, "process_resident_memory_bytes", "Memory of this process that is in RAM.",
                  process_status_bytes(status, "\nVmRSS:"));
    metrics_gauge(page, "process_virtual_memory_bytes", "Address space of this process.",
                  process_status_bytes(status, "\nVmSize:"));
    metrics_gauge(page, "kelp_process_anonymous_memory_bytes",
                  "Memory of this process that is its own: neither code nor mapped files.",
                  process_status_bytes(status, "\nRssAnon:"));
}

static void process_cpu(struct metrics_page *page)
{
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0) {
        return;
    }
    const uint64_t us =
        ((uint64_t)usage.ru_utime.tv_sec + (uint64_t)usage.ru_stime.tv_sec) * 1000000u +
        (uint64_t)usage.ru_utime.tv_usec + (uint64_t)usage.ru_stime.tv_usec;
    metrics_family(page, METRICS_COUNTER, "process_cpu_seconds_total",
                   "Processor time that this process has used.");
    metrics_sample_us(page, NULL, 0, us);
}

/* Newer kernels say how many there are as the size of the directory; others are counted. */
static uint64_t process_files(void)
{
    struct stat about;
    if (stat("/proc/self/fd", &about) == 0 && about.st_size > 0) {
        return (uint64_t)about.st_size;
    }
    DIR *directory = opendir("/proc/self/fd");
    if (directory == NULL) {
        return 0;
    }
    uint64_t count = 0;
    for (const struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        count += entry->d_name[0] != '.';
    }
    (void)closedir(directory);
    return count == 0 ? 0 : count - 1; /* without the one that counts */
}

static void process_limits(struct metrics_page *page)
{
    struct rlimit limit;
    metrics_gauge(page, "process_open_fds", "Open files, sockets included.", process_files());
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        metrics_gauge(page, "process_max_fds",
                      "Files this process may open: connections are closed near it.",
                      (uint64_t)limit.rlim_cur);
    }
}

/* Since 1970: /proc says it in ticks since boot. */
static void process_start(struct metrics_page *page)
{
    char text[1024];
    struct timespec wall;
    struct timespec boot;
    const char *at = process_read("/proc/self/stat", text, sizeof text) ? strrchr(text, ')') : NULL;
    for (int field = 2; at != NULL && field < 22; field++) {
        at = strchr(at + 1, ' ');
    }
    const long hertz = sysconf(_SC_CLK_TCK);
    if (at == NULL || hertz <= 0 || clock_gettime(CLOCK_REALTIME, &wall) != 0 ||
        clock_gettime(CLOCK_BOOTTIME, &boot) != 0) {
        return;
    }
    const uint64_t started_us = strtoull(at, NULL, 10) * (1000000u / (uint64_t)hertz);
    const uint64_t up_us = (uint64_t)boot.tv_sec * 1000000u + (uint64_t)boot.tv_nsec / 1000u;
    const uint64_t now_us = (uint64_t)wall.tv_sec * 1000000u + (uint64_t)wall.tv_nsec / 1000u;
    metrics_gauge_us(page, "process_start_time_seconds", "When this process started, since 1970.",
                     now_us - up_us + started_us);
}

void metrics_process(struct metrics_page *page, const char *program, const char *name)
{
    const struct metrics_label labels[] = {
        {"program", program}, {"name", name}, {"version", KELP_VERSION}};
    metrics_family(page, METRICS_GAUGE, "kelp_build_info", "What runs here; always 1.");
    metrics_sample(page, labels, 3, 1);
    process_cpu(page);
    process_memory(page);
    process_limits(page);
    process_start(page);
}
