/* What the state machine of the cloud costs: commands folded into RocksDB, without log, raft or network.
 *
 *   1. commands of 1, 10, 100 and 1000 records are made beforehand; a record writes one config map of 256 bytes
 *   2. machine_apply folds them: config maps that are new, then the same again with other bytes
 *   3. beside it, taking turns, the least that any such state does: the same keys and bytes put into a store of
 *      the same kind, one row for a record, in batches as large
 *   4. processor time is the process's, compactions of RocksDB included; both stores are flushed before it is read
 *
 *     apply_bench [--directory DIR] [--records N] [--keys N] [-o table|json]
 *
 * Every replica does this work for each record that the group agrees on, so it bounds what `commit` can show.
 */
#include "bench/rows.h"
#include "schemas/check.h"
#include "schemas/codec.h"
#include "statemachine/machine.h"
#include "statemachine/store.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#define BODY_BYTES 256u
#define ROUNDS     2u /* new objects, then the same ones again */

static const uint32_t batches[] = {1, 10, 100, 1000};
static const char *directory = "/tmp";
static uint32_t records = 100000;
static uint32_t keys; /* they repeat after so many; 0: after a round */
static bool as_rows;
static struct rows document;
static uint64_t noise = 88172645463325252u;

struct cost {
    double wall_ns, cpu_ns;
};

static double cpu_ns(void)
{
    struct rusage usage;
    CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e9 +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e3;
}

static void body_fill(uint64_t *body)
{
    for (size_t i = 0; i < BODY_BYTES / 8; i++) {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        body[i] = noise;
    }
}

static struct store *store_new(const char *name, char *path, size_t size)
{
    struct store *store = NULL;
    snprintf(path, size, "%s/%s", directory, name);
    CHECK(store_rocks_destroy(path) == 0);
    const struct store_options options = {.directory = path,
                                          .profile = STORE_CLOUD,
                                          .machine = MACHINE_NAME,
                                          .format = MACHINE_FORMAT};
    CHECK(store_rocks_open(&options, &store) == 0);
    return store;
}

static void cost_end(struct store *store, struct cost *cost, double cpu_begun, uint64_t begun)
{
    CHECK(store_flush(store) == 0);
    cost->wall_ns = (double)(uv_hrtime() - begun) / records;
    cost->cpu_ns = (cpu_ns() - cpu_begun) / records;
}

/* -- the machine ------------------------------------------------------------------------------- */

static struct bytes put_record(struct codec *codec, const char *key, const char *name)
{
    uint64_t body[BODY_BYTES / 8];
    struct record record = {.kind = RECORD_OBJECT_PUT, .key = key, .origin = "bench", .time_ms = 1};
    struct bytes bytes;
    body_fill(body);
    const struct object_put put = {
        .mode = PUT_ANY,
        .object = {.version = "v1",
                   .kind = "ConfigMap",
                   .resource = "configmaps",
                   .namespace_ = "default",
                   .name = name,
                   .uid = name,
                   .tag = {.low = body[0], .high = body[1]},
                   .json = bytes_of((const uint8_t *)body, sizeof body)},
    };
    CHECK(codec_object_put_build(codec, &put, &record.body) == 0);
    CHECK(codec_record_build(codec, &record, &bytes) == 0);
    return bytes;
}

/* One command of `count` records from number `first` on: given, aligned. */
static struct bytes command_new(struct codec *codec, uint64_t sequence, uint32_t first,
                                uint32_t count)
{
    struct bytes *list = calloc(count, sizeof *list);
    CHECK(list != NULL);
    codec_reset(codec);
    for (uint32_t i = 0; i < count; i++) {
        const char *name = codec_print(codec, "c%u", keys == 0 ? first + i : (first + i) % keys);
        list[i] = put_record(codec, codec_print(codec, "/configmaps/default/%s", name), name);
    }
    const struct command command = {.time_ms = 1,
                                    .origin = UINT64_C(1) << 32 | 1,
                                    .sequence = sequence,
                                    .records = list,
                                    .record_count = count};
    struct bytes bytes;
    CHECK(codec_command_build(codec, &command, &bytes) == 0);
    uint8_t *copy = aligned_alloc(8, (bytes.size + 7) & ~(size_t)7);
    CHECK(copy != NULL);
    memcpy(copy, bytes.data, bytes.size);
    free(list);
    return bytes_of(copy, bytes.size);
}

/* The namespace that the config maps are in. */
static void machine_begin(struct machine *machine, struct codec *codec)
{
    const struct object_put put = {.mode = PUT_CREATE,
                                   .object = {.version = "v1",
                                              .kind = "Namespace",
                                              .resource = "namespaces",
                                              .name = "default",
                                              .uid = "default",
                                              .json = bytes_text("{}")}};
    struct record record = {
        .kind = RECORD_OBJECT_PUT, .key = "/namespaces//default", .origin = "bench", .time_ms = 1};
    const struct machine_applied *applied;
    struct bytes bytes;
    struct bytes one;
    codec_reset(codec);
    CHECK(codec_object_put_build(codec, &put, &record.body) == 0);
    CHECK(codec_record_build(codec, &record, &one) == 0);
    const struct command command = {.time_ms = 1,
                                    .origin = UINT64_C(1) << 32 | 1,
                                    .sequence = 1,
                                    .records = &one,
                                    .record_count = 1};
    CHECK(codec_command_build(codec, &command, &bytes) == 0);
    CHECK(machine_apply(machine, 1, bytes, &applied) == 0);
    CHECK(applied->result_count == 1 && outcome_accepted(applied->results[0].outcome));
}

static void machine_run(uint32_t batch, struct cost *costs)
{
    char path[600];
    struct store *store = store_new("machine", path, sizeof path);
    struct machine machine;
    struct codec *codec = codec_create();
    const uint32_t commands = records / batch;
    struct bytes *list = calloc(commands, sizeof *list);
    CHECK(list != NULL);
    CHECK(machine_open(&machine, store) == 0);
    machine_begin(&machine, codec);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < commands; i++) {
            list[i] = command_new(codec, 2 + (uint64_t)round * commands + i, i * batch, batch);
        }
        const double cpu_begun = cpu_ns();
        const uint64_t begun = uv_hrtime();
        for (uint32_t i = 0; i < commands; i++) {
            const struct machine_applied *applied;
            const uint64_t index = 2 + (uint64_t)round * commands + i;
            int status;
            while ((status = machine_apply(&machine, index, list[i], &applied)) == STATUS_FULL) {
                CHECK(store_wait(store) == 0);
            }
            CHECK(status == 0 && applied->result_count == batch);
            CHECK(outcome_accepted(applied->results[batch - 1].outcome));
        }
        cost_end(store, &costs[round], cpu_begun, begun);
        for (uint32_t i = 0; i < commands; i++) {
            free((void *)(uintptr_t)list[i].data);
        }
    }
    free(list);
    codec_destroy(codec);
    machine_close(&machine);
    store_close(store);
    CHECK(store_rocks_destroy(path) == 0);
}

/* -- the least --------------------------------------------------------------------------------- */

static void rows_run(uint32_t batch, struct cost *costs)
{
    char path[600];
    struct store *store = store_new("rows", path, sizeof path);
    uint64_t position = 0;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        const double cpu_begun = cpu_ns();
        const uint64_t begun = uv_hrtime();
        for (uint32_t i = 0; i < records; i += batch) {
            store_begin(store);
            for (uint32_t k = i; k < i + batch; k++) {
                uint64_t body[BODY_BYTES / 8];
                char key[64];
                body_fill(body);
                snprintf(key, sizeof key, "/configmaps/default/c%u", keys == 0 ? k : k % keys);
                store_put(store, 0, bytes_text(key), bytes_of((const uint8_t *)body, sizeof body));
            }
            int status;
            while ((status = store_commit(store, ++position)) == STATUS_FULL) {
                CHECK(store_wait(store) == 0);
            }
            CHECK(status == 0);
        }
        cost_end(store, &costs[round], cpu_begun, begun);
    }
    store_close(store);
    CHECK(store_rocks_destroy(path) == 0);
}

/* ---------------------------------------------------------------------------------------------- */

static void cost_tell(uint32_t batch, uint32_t round, const struct cost *ours,
                      const struct cost *least)
{
    if (!as_rows) {
        printf("%6u %6s %11.0f %8.2f %11.0f %8.2f %6.2f %9.2f\n", batch,
               round == 0 ? "new" : "again", 1e9 / ours->wall_ns, ours->cpu_ns / 1e3,
               1e9 / least->wall_ns, least->cpu_ns / 1e3, least->wall_ns / ours->wall_ns,
               ours->cpu_ns / least->cpu_ns);
        fflush(stdout);
        return;
    }
    char row[64];
    snprintf(row, sizeof row, "%u a command, %s", batch, round == 0 ? "new" : "again");
    const struct row_figure figures[] = {
        {.row = row,
         .figure = "records/s",
         .value = 1e9 / ours->wall_ns,
         .beside = "plain rows",
         .beside_value = 1e9 / least->wall_ns},
        {.row = row,
         .figure = "CPU us/record",
         .value = ours->cpu_ns / 1e3,
         .better = ROWS_LESS,
         .beside = "plain rows",
         .beside_value = least->cpu_ns / 1e3},
    };
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++) {
        rows_add(&document, &figures[i]);
    }
}

static void usage(FILE *out)
{
    fputs("usage: bench/run apply [--directory DIR] [--records N] [--keys N] [-o table|json]\n"
          "What the cloud's state machine costs for each record, beside a plain row in the same "
          "store. Keys repeat\nafter --keys (all are new in the first round, and the same in the "
          "second).\n",
          out);
}

static bool options_read(int count, char **words)
{
    static const struct option options[] = {{"directory", required_argument, NULL, 'd'},
                                            {"records", required_argument, NULL, 'n'},
                                            {"keys", required_argument, NULL, 'k'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    for (int letter; (letter = getopt_long(count, words, "o:h", options, NULL)) != -1;) {
        switch (letter) {
        case 'd':
            directory = optarg;
            break;
        case 'n':
            records = (uint32_t)strtoul(optarg, NULL, 10) / 1000 * 1000;
            break;
        case 'k':
            keys = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'o':
            as_rows = strcmp(optarg, "json") == 0;
            if (!as_rows && strcmp(optarg, "table") != 0) {
                return false;
            }
            break;
        case 'h':
            usage(stdout);
            exit(0);
        default:
            return false;
        }
    }
    return optind == count && records > 0;
}

int main(int count, char **words)
{
    if (!options_read(count, words)) {
        usage(stderr);
        return 2;
    }
    if (as_rows) {
        rows_begin(&document, "apply");
    } else {
        printf("%6s %6s %11s %8s %11s %8s %6s %9s\n", "batch", "", "records/s", "CPU us", "rows/s",
               "CPU us", "ratio", "CPU ratio");
    }
    for (size_t b = 0; b < sizeof batches / sizeof batches[0]; b++) {
        struct cost ours[ROUNDS];
        struct cost least[ROUNDS];
        machine_run(batches[b], ours);
        rows_run(batches[b], least);
        for (uint32_t round = 0; round < ROUNDS; round++) {
            cost_tell(batches[b], round, &ours[round], &least[round]);
        }
    }
    if (as_rows) {
        rows_end();
    }
    return 0;
}
