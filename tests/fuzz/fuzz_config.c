/* Can a configuration file hurt the program that reads it? Every type of key is there; what is taken is
 * in range, what is refused says why. */
#include "nodes/config.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define EXPECT(claim) ((claim) ? (void)0 : abort())

struct sample {
    const char *name;
    int64_t replicas;
    bool verbose;
    uint64_t keep_ms;
    uint64_t cache_bytes;
    struct config_address listen;
    int format;
    struct config_list zones;
    struct config_addresses servers;
    struct config_map labels;
};

#define KEY(path_, type_, field, ...)                                                              \
    {                                                                                              \
        .path = path_, .type = type_, .offset = offsetof(struct sample, field), .help = "h",       \
        __VA_ARGS__                                                                                \
    }

static const struct config_key keys[] = {
    KEY("name", CONFIG_TEXT, name, .preset = "n", .min = 1, .max = 8),
    KEY("cluster.replicas", CONFIG_INTEGER, replicas, .preset = "3", .min = 1, .max = 7),
    KEY("cluster.servers", CONFIG_ADDRESS_LIST, servers, .preset = ""),
    KEY("session.keep", CONFIG_DURATION, keep_ms, .preset = "15s", .min = 1000, .max = 60000),
    KEY("session.listen", CONFIG_ADDRESS, listen, .preset = "0.0.0.0:10000"),
    KEY("store.cache", CONFIG_SIZE, cache_bytes, .preset = "8MiB"),
    KEY("log.format", CONFIG_CHOICE, format, .preset = "text", .choices = "text|json"),
    KEY("log.verbose", CONFIG_BOOLEAN, verbose, .preset = "false"),
    KEY("zones", CONFIG_LIST, zones, .preset = ""),
    KEY("labels", CONFIG_MAP, labels, .preset = ""),
};
static const struct config_table table = {keys, sizeof keys / sizeof *keys};

static size_t look(const struct sample *sample)
{
    EXPECT(strlen(sample->name) >= 1 && strlen(sample->name) <= 8);
    EXPECT(sample->replicas >= 1 && sample->replicas <= 7);
    EXPECT(sample->keep_ms >= 1000 && sample->keep_ms <= 60000);
    EXPECT(sample->format == 0 || sample->format == 1);
    EXPECT(sample->zones.count <= LIMIT_CONFIG_ITEMS && sample->labels.count <= LIMIT_CONFIG_ITEMS);
    size_t sum = strlen(sample->listen.host);
    for (size_t i = 0; i < sample->zones.count; i++) {
        sum += strlen(sample->zones.items[i]);
    }
    for (size_t i = 0; i < sample->servers.count; i++) {
        sum += strlen(sample->servers.items[i].host);
    }
    for (size_t i = 0; i < sample->labels.count; i++) {
        sum += strlen(sample->labels.items[i].name) + strlen(sample->labels.items[i].value);
    }
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int file = -1;
    static char path[64];
    if (file < 0) {
        file = memfd_create("config", MFD_CLOEXEC);
        EXPECT(file >= 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    }
    EXPECT(ftruncate(file, 0) == 0);
    EXPECT(pwrite(file, data, size, 0) == (ssize_t)size);
    struct sample sample;
    struct config_memory memory;
    char reason[CONFIG_REASON_BYTES];
    const int status = config_load(&table, path, NULL, 0, &sample, &memory, reason);
    EXPECT(memchr(reason, 0, sizeof reason) != NULL);
    EXPECT((status == 0) == (reason[0] == '\0'));
    if (status == 0) {
        EXPECT(look(&sample) <= LIMIT_CONFIG_BYTES);
    }
    config_free(&memory);
    return 0;
}
