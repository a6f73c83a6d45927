#include "bench/log_bench.h"

#include "schemas/check.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#define PROBES 400u

struct rows log_bench_rows;

uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a;
    const uint32_t y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

double percentile_us(uint32_t *values, uint32_t count, double share)
{
    qsort(values, count, sizeof *values, compare);
    return count == 0 ? 0 : values[(uint32_t)((double)(count - 1) * share)] / 1e3;
}

void table_row(enum format format, const char *table, bool first, const struct field *fields,
               size_t field_count)
{
    const char *between = format == FORMAT_TABLE ? "  " : ",";
    if (first) {
        printf("%s", format == FORMAT_CSV ? "table" : "");
        for (size_t i = 0; i < field_count; i++) {
            printf(format == FORMAT_TABLE ? "%s%9s" : "%s%s",
                   i > 0 || format == FORMAT_CSV ? between : "", fields[i].name);
        }
        printf("\n");
    }
    if (format == FORMAT_CSV) {
        printf("%s", table);
    }
    for (size_t i = 0; i < field_count; i++) {
        if (format == FORMAT_CSV) {
            printf(",%.*f", fields[i].decimals, fields[i].value);
        } else {
            const int width = (int)strlen(fields[i].name);
            printf("%s%*.*f", i > 0 ? between : "", width > 9 ? width : 9, fields[i].decimals,
                   fields[i].value);
        }
    }
    printf("\n");
    fflush(stdout);
}

static const char *file_system_of(const char *path)
{
    struct statfs info;
    CHECK(statfs(path, &info) == 0);
    switch ((unsigned long)info.f_type) {
    case 0xef53ul:
        return "ext4";
    case 0x58465342ul:
        return "xfs";
    case 0x9123683eul:
        return "btrfs";
    case 0x01021994ul:
        return "tmpfs";
    case 0x794c7630ul:
        return "overlayfs";
    default:
        return "another file system";
    }
}

void table_facts(enum format format, const char *top)
{
    char path[512];
    static uint8_t block[4096];
    static uint32_t probes_ns[PROBES];
    snprintf(path, sizeof path, "%s/probe", top);
    const int descriptor = open(path, O_RDWR | O_CREAT, 0600);
    CHECK(descriptor >= 0);
    CHECK(pwrite(descriptor, block, sizeof block, 0) == sizeof block);
    CHECK(fsync(descriptor) == 0);
    for (uint32_t i = 0; i < PROBES; i++) {
        block[0]++;
        const uint64_t begun_ns = now_ns();
        CHECK(pwrite(descriptor, block, sizeof block, 0) == sizeof block);
        CHECK(fdatasync(descriptor) == 0);
        probes_ns[i] = (uint32_t)(now_ns() - begun_ns);
    }
    close(descriptor);
    unlink(path);

    struct utsname machine;
    CHECK(uname(&machine) == 0);
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    const double p50 = percentile_us(probes_ns, PROBES, 0.5);
    const double p99 = percentile_us(probes_ns, PROBES, 0.99);
    printf("%s%ld cores, %s, Linux %s, %s; write + fdatasync of 4 KiB in place: p50 %.0f us, "
           "p99 %.0f us\n",
           format == FORMAT_CSV ? "# " : "", cores, machine.machine, machine.release,
           file_system_of(top), p50, p99);
}
