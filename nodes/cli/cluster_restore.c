/* kelp cluster restore FILE --replica N --address HOST:PORT DIR
 *
 *   1. the backup is read whole and checked; nothing is made before that
 *   2. its rows become a state in DIR.restoring
 *   3. machine_rebirth: another timeline of the same cluster (statemachine/rebirth.h)
 *   4. a log that begins there, of a group of one voter
 *   5. DIR.restoring becomes DIR; until then there is no DIR, so no cloudcore starts on half of it
 *
 * What can fail: the file, the disk. Then DIR.restoring is removed, and DIR is as it was.
 */
#include "nodes/cli/cluster_command.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "nodes/cli/log_view.h"
#include "nodes/cli/offline.h"
#include "nodes/cloud/backup.h"
#include "nodes/cloud/members.h"
#include "nodes/config.h"
#include "nodes/tag_tls.h"
#include "schemas/check.h"
#include "statemachine/rebirth.h"

#define COMMAND "kelp cluster restore"
/* Terms jump too: no vote and no entry of the lost timeline is as new. */
#define TERM_JUMP (UINT64_C(1) << 20)

struct restore {
    const char *file_name;
    const char *directory;
    char making[1000]; /* DIR.restoring */
    const char *address;
    uint64_t replica;
    FILE *file;
    struct backup_head head;
    struct machine_rebirth rebirth;
    uint64_t index;
    uint64_t version;
    struct progress progress;
};

/* -- checks ------------------------------------------------------------------------------------------------ */

/* Whether something may be made here: no such directory, or an empty one. */
static bool directory_free(const char *path)
{
    DIR *listing = opendir(path);
    if (listing == NULL) {
        if (errno == ENOENT) {
            return true;
        }
        fprintf(stderr, COMMAND ": %s: %s\n", path, strerror(errno));
        return false;
    }
    bool empty = true;
    for (struct dirent *entry = readdir(listing); entry != NULL && empty;
         entry = readdir(listing)) {
        empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
    }
    (void)closedir(listing);
    if (!empty) {
        fprintf(
            stderr,
            COMMAND
            ": %s is not empty, and nothing in it is overwritten\n  a restored cluster begins in a "
            "new directory: move this one away, or name another\n",
            path);
    }
    return empty;
}

static int file_check(struct restore *restore)
{
    struct backup_reader reader;
    struct bytes rows;
    restore->file = fopen(restore->file_name, "re");
    if (restore->file == NULL) {
        fprintf(stderr, COMMAND ": %s: %s\n", restore->file_name, strerror(errno));
        return OPTIONS_EXIT_NOTHING;
    }
    progress_begin(&restore->progress, COMMAND, "checking", 0);
    int status = backup_open(&reader, restore->file);
    restore->head = reader.head;
    while (status == 0) {
        status = backup_next(&reader, &rows);
        progress_tick(&restore->progress, rows.size);
    }
    progress_end(&restore->progress);
    if (status != BACKUP_END) {
        fprintf(stderr, COMMAND ": %s: %s\n  nothing was made. Take another backup\n",
                restore->file_name, reader.reason);
    }
    backup_close(&reader);
    return status == BACKUP_END                                   ? OPTIONS_EXIT_OK
           : status == STATUS_FOREIGN || status == STATUS_CORRUPT ? VIEW_EXIT_DAMAGED
                                                                  : OPTIONS_EXIT_NOTHING;
}

/* -- making ------------------------------------------------------------------------------------------------- */

static int failed(const struct restore *restore, const char *doing, int status)
{
    fprintf(stderr, COMMAND ": %s in %s: %s\n", doing, restore->making, status_text(status));
    return status;
}

static int rows_load(struct restore *restore, struct store *store)
{
    struct backup_reader reader;
    struct bytes rows;
    rewind(restore->file);
    progress_begin(&restore->progress, COMMAND, "restoring", 0);
    int status = backup_open(&reader, restore->file);
    while (status == 0) {
        status = backup_next(&reader, &rows);
        if (status == 0) {
            store_begin(store);
            transfer_rows_put(store, rows);
            status = offline_commit(store, restore->head.index);
            progress_tick(&restore->progress, rows.size);
        }
    }
    progress_end(&restore->progress);
    backup_close(&reader);
    return status == BACKUP_END ? 0 : status;
}

static int state_make(struct restore *restore)
{
    char path[1100];
    struct store *store = NULL;
    snprintf(path, sizeof path, "%s/state", restore->making);
    int status = offline_store_open(path, &store);
    if (status != 0) {
        fprintf(stderr, COMMAND ": %s: %s\n", path,
                store == NULL ? status_text(status) : store_error(store));
        store_close(store);
        return status;
    }
    struct machine machine;
    status = rows_load(restore, store);
    if (status != 0) {
        store_close(store);
        return failed(restore, "the rows cannot be written", status);
    }
    status = machine_open(&machine, store);
    if (status == 0 && (strcmp(machine.meta.cluster, restore->head.cluster) != 0 ||
                        machine.meta.version != restore->head.version ||
                        machine.meta.epoch != restore->head.epoch)) {
        status = STATUS_CORRUPT; /* the head was made of other rows */
    }
    if (status == 0 && machine_level(&machine) > MACHINE_LEVEL) {
        status = STATUS_UNSUPPORTED; /* features of a newer release are in force in it */
    }
    if (status == 0) {
        const int64_t now_ms = offline_now_ms();
        restore->rebirth.epoch =
            now_ms > (int64_t)machine.meta.epoch ? (uint64_t)now_ms : machine.meta.epoch + 1;
        tag_random(&restore->rebirth.chance, sizeof restore->rebirth.chance);
        status = machine_rebirth(&machine, &restore->rebirth);
    }
    restore->index = machine_index(&machine);
    restore->version = machine.meta.version;
    machine_close(&machine);
    if (status == 0) {
        status = store_flush(store);
    }
    store_close(store);
    return status == 0 ? 0 : failed(restore, "the state cannot be made", status);
}

static int log_make(struct restore *restore)
{
    char path[1100];
    struct offline_log log;
    snprintf(path, sizeof path, "%s/log", restore->making);
    int status = offline_log_open(&log, path, restore->replica);
    if (status == 0) {
        const struct replica_beginning beginning = {
            .id = restore->replica,
            .address = restore->address,
            .index = restore->index,
            .term = restore->head.term + TERM_JUMP,
            .epoch = restore->rebirth.epoch,
        };
        status = offline_log_begin(&log, &beginning);
        const int closed = offline_log_close(&log);
        status = status != 0 ? status : closed;
    }
    return status == 0 ? 0 : failed(restore, "the log cannot be made", status);
}

static int make(struct restore *restore)
{
    char parent[1000];
    snprintf(parent, sizeof parent, "%s/..", restore->directory); /* once it is there */
    int status = offline_remove(restore->making); /* of an attempt that was interrupted */
    if (status == 0 && mkdir(restore->making, 0700) != 0) {
        status = -errno;
    }
    if (status != 0) {
        return failed(restore, "no directory can be made", status);
    }
    status = state_make(restore);
    status = status != 0 ? status : log_make(restore);
    if (status == 0) {
        status = offline_sync(restore->making);
        status = status != 0 ? status : offline_rename(restore->making, restore->directory, parent);
        if (status != 0) {
            failed(restore, "the directory cannot get its name", status);
        }
    }
    if (status != 0) {
        (void)offline_remove(restore->making);
    }
    return status;
}

/* -- the command --------------------------------------------------------------------------------------------- */

static void tell(const struct restore *restore)
{
    char date[32];
    offline_date(restore->head.time_ms, date);
    printf("restored  %s\n"
           "cluster   %s, as of %s\n"
           "index     %" PRIu64 " -> %" PRIu64 "\n"
           "version   %" PRIu64 " -> %" PRIu64 "\n"
           "epoch     %" PRIu64 " -> %" PRIu64 "\n"
           "\n"
           "WHAT WAS WISHED AFTER %s IS LOST. As soon as an edge meets this cluster, it REMOVES "
           "the pods and\n"
           "devices that were made after the backup, and STARTS AGAIN those that were deleted "
           "after it. What edges\n"
           "reported meanwhile comes again: the newest status of each pod, device and node; their "
           "events do not.\n"
           "\n"
           "Next: start cloudcore %" PRIu64
           " on this directory. Then, for each of the others: an empty data directory,\n"
           "`join: true`, start it, and `kelp cluster add N ADDRESS --wait && kelp cluster promote "
           "N --wait`.\n"
           "No old data directory may come back: it is of another epoch, and is refused.\n"
           "Cloudcores of before that still run END as soon as they meet this one, unless a "
           "majority of them works:\nthen there are two groups, and both say so until one is "
           "stopped. Try a backup out where they cannot be\nreached.\n",
           restore->directory, restore->head.cluster, date, restore->head.index, restore->index,
           restore->head.version, restore->version, restore->head.epoch, restore->rebirth.epoch,
           date, restore->replica);
}

int cluster_restore(int argc, char **argv)
{
    struct restore restore = {0};
    int64_t replica = 0;
    struct options_list words = {0};
    const struct options_flag flags[] = {
        {"replica", 0, OPTIONS_NUMBER, &replica, "N",
         "number of the cloudcore that the directory is for"},
        {"address", 0, OPTIONS_TEXT, &restore.address, "HOST:PORT",
         "where the others will reach it (peer.listen)"},
    };
    const struct options_command command = {
        .name = COMMAND,
        .arguments = "FILE DIR",
        .about =
            "Make a new data directory from a backup, of a group of one: cloudcore N. The others "
            "are added to it\n"
            "afterwards (kelp cluster add, with `join: true` and an empty data directory) and get "
            "the state from it.\n"
            "FILE is checked whole before anything is made; DIR must be empty or not there.\n\n"
            "What was wished after the backup is lost: as soon as an edge meets the restored "
            "cluster, it removes\n"
            "the pods and devices that were made after the backup, and starts again those that "
            "were deleted after\n"
            "it. The newest status of each pod, device and node comes again from the edges; their "
            "events do not.\n"
            "The cluster keeps its name and certificates, and begins a new epoch: watches list "
            "anew, every edge\n"
            "gets a snapshot, and cloudcores with data directories of before are refused.\n"
            "Those that still run end as soon as they meet the restored one, unless a majority of them "
            "works: then\nboth groups stay apart, and say so until one is stopped. Try a backup out where "
            "they cannot be reached.\n\n"
            "Exit codes: 0 done, 1 a failure of the disk, 2 usage, 4 FILE is damaged or no backup, "
            "5 DIR is in use.",
        .flags = flags,
        .flags_count = sizeof flags / sizeof flags[0],
        .arguments_min = 2,
        .arguments_max = 2,
    };
    int exit_code;
    if (!cluster_parse(&command, argc, argv, &words, &exit_code)) {
        return exit_code;
    }
    char host[256];
    uint16_t port = 0;
    if (replica < 1 || replica > 65535) {
        fprintf(stderr, COMMAND
                ": --replica N is needed: which cloudcore the directory is for, 1 to 65535\n");
        return OPTIONS_EXIT_USAGE;
    }
    if (restore.address == NULL || strlen(restore.address) > MEMBERS_ADDRESS_BYTES ||
        config_parse_address(restore.address, host, &port) != 0 || port == 0 || host[0] == '\0') {
        fprintf(stderr, COMMAND
                ": --address HOST:PORT is needed: where the others will reach this cloudcore, "
                "such as 10.0.0.1:10010\n");
        return OPTIONS_EXIT_USAGE;
    }
    restore.replica = (uint64_t)replica;
    restore.file_name = words.items[0];
    restore.directory = words.items[1];
    char directory[900];
    size_t length = strlen(restore.directory);
    while (length > 1 && restore.directory[length - 1] == '/') {
        length--;
    }
    if (length == 0 || length >= sizeof directory) {
        fprintf(stderr, COMMAND ": the name of the directory is too long, or empty\n");
        return OPTIONS_EXIT_USAGE;
    }
    snprintf(directory, sizeof directory, "%.*s", (int)length, restore.directory);
    restore.directory = directory;
    snprintf(restore.making, sizeof restore.making, "%s.restoring", directory);
    if (!directory_free(directory)) {
        return VIEW_EXIT_REFUSED;
    }
    exit_code = file_check(&restore);
    if (exit_code == OPTIONS_EXIT_OK && make(&restore) != 0) {
        exit_code = OPTIONS_EXIT_NOTHING;
    }
    if (restore.file != NULL) {
        (void)fclose(restore.file);
    }
    if (exit_code == OPTIONS_EXIT_OK) {
        tell(&restore);
    }
    return exit_code;
}
