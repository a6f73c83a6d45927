/* kelp cluster backup FILE
 *
 *   1. a cloudcore sends its state at one log index (nodes/cloud/backup_door.h), or it is read from the data
 *      directory of one that does not run
 *   2. it goes to FILE.tmp, 0600, for it holds secrets; is synced, and read back whole
 *   3. FILE.tmp becomes FILE: what FILE was stays until then
 *
 * What can fail: the link, the disk, a state that is damaged. FILE.tmp is removed then.
 */
#include "nodes/cli/cluster_command.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "nodes/cli/log_view.h"
#include "nodes/cli/offline.h"
#include "nodes/cloud/backup.h"
#include "nodes/cloud/state_place.h"
#include "schemas/check.h"

#define COMMAND     "kelp cluster backup"
#define PATH_BYTES  1024u
#define SECONDS_MAX 86400

struct backup {
    const char *path;
    char making[PATH_BYTES]; /* FILE.tmp */
    FILE *file;
    int status; /* of writing it */
    struct progress progress;
};

/* -- checking ----------------------------------------------------------------------------------------------- */

static void tell(const char *path, const struct backup_reader *reader)
{
    char date[32];
    offline_date(reader->head.time_ms, date);
    printf("backup    %s\n"
           "cluster   %s, epoch %" PRIu64 "\n"
           "as of     %s, index %" PRIu64 ", term %" PRIu64 ", resource version %" PRIu64 "\n"
           "holds     %" PRIu64 " rows, %" PRIu64 " bytes, digest %016" PRIx64 "%016" PRIx64 "\n"
           "made by   kelp %s\n",
           path, reader->head.cluster, reader->head.epoch, date, reader->head.index,
           reader->head.term, reader->head.version, reader->sums.rows,
           reader->sums.bytes + BACKUP_TAIL_BYTES, reader->sums.digest.low,
           reader->sums.digest.high, reader->head.software);
}

/* Read a backup whole. What it is, or what is wrong with it, is said. */
static int verify(const char *path, const char *called)
{
    struct backup_reader reader;
    struct bytes rows;
    struct progress progress;
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        fprintf(stderr, COMMAND ": %s: %s\n", path, strerror(errno));
        return OPTIONS_EXIT_NOTHING;
    }
    progress_begin(&progress, COMMAND, "checking", 0);
    int status = backup_open(&reader, file);
    while (status == 0) {
        status = backup_next(&reader, &rows);
        progress_tick(&progress, rows.size);
    }
    progress_end(&progress);
    if (status == BACKUP_END) {
        tell(called, &reader);
    } else {
        fprintf(stderr, COMMAND ": %s: %s\n", called, reader.reason);
    }
    backup_close(&reader);
    (void)fclose(file);
    return status == BACKUP_END                                   ? OPTIONS_EXIT_OK
           : status == STATUS_FOREIGN || status == STATUS_CORRUPT ? VIEW_EXIT_DAMAGED
                                                                  : OPTIONS_EXIT_NOTHING;
}

/* -- the file ------------------------------------------------------------------------------------------------ */

static int file_begin(struct backup *backup)
{
    if (snprintf(backup->making, sizeof backup->making, "%s.tmp", backup->path) >=
        (int)sizeof backup->making) {
        fprintf(stderr, COMMAND ": the name of the file is too long\n");
        return OPTIONS_EXIT_USAGE;
    }
    struct stat about;
    if (stat(backup->path, &about) == 0 && !S_ISREG(about.st_mode)) {
        fprintf(stderr, COMMAND ": %s: it is there, and no file that can be replaced\n",
                backup->path);
        return OPTIONS_EXIT_USAGE;
    }
    (void)unlink(backup->making); /* of an attempt that was interrupted: perhaps of another mode */
    const int fd = open(backup->making, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    backup->file = fd < 0 ? NULL : fdopen(fd, "w");
    if (backup->file == NULL) {
        fprintf(stderr, COMMAND ": %s: %s\n", backup->making, strerror(errno));
        return OPTIONS_EXIT_NOTHING;
    }
    progress_begin(&backup->progress, COMMAND, "received", 0);
    return OPTIONS_EXIT_OK;
}

static void file_write(struct backup *backup, struct bytes bytes)
{
    errno = 0;
    if (backup->status == 0 && bytes.size > 0 &&
        fwrite(bytes.data, 1, bytes.size, backup->file) != bytes.size) {
        backup->status = errno == 0 ? -EIO : -errno;
    }
    progress_tick(&backup->progress, bytes.size);
}

/* Make it durable, check it, give it its name. `exit_code`: how filling it went. */
static int file_end(struct backup *backup, int exit_code)
{
    progress_end(&backup->progress);
    errno = 0;
    if (backup->status == 0 && (fflush(backup->file) != 0 || fsync(fileno(backup->file)) != 0)) {
        backup->status = errno == 0 ? -EIO : -errno;
    }
    if (fclose(backup->file) != 0 && backup->status == 0) {
        backup->status = -errno;
    }
    if (exit_code == OPTIONS_EXIT_OK && backup->status == 0) {
        exit_code = verify(backup->making, backup->path);
    }
    if (exit_code == OPTIONS_EXIT_OK && backup->status == 0) {
        char directory[PATH_BYTES];
        const char *slash = strrchr(backup->path, '/');
        snprintf(directory, sizeof directory, "%.*s",
                 slash == NULL ? 1 : (int)(slash - backup->path) + 1,
                 slash == NULL ? "." : backup->path);
        backup->status = offline_rename(backup->making, backup->path, directory);
    }
    if (backup->status != 0) {
        fprintf(stderr, COMMAND ": %s: %s\n", backup->making, status_text(backup->status));
        exit_code = OPTIONS_EXIT_NOTHING;
    }
    if (exit_code != OPTIONS_EXIT_OK) {
        (void)unlink(backup->making);
    }
    return exit_code;
}

/* -- from a data directory ------------------------------------------------------------------------------------- */

/* Term and end of the log beside the state. */
static void log_look(const char *data, uint64_t *out_term, uint64_t *out_next)
{
    char path[PATH_BYTES + 8];
    struct inspect inspect;
    struct disk_uv *uv = disk_uv_new(NULL);
    CHECK(uv != NULL);
    snprintf(path, sizeof path, "%s/log", data);
    *out_term = 0;
    *out_next = 0;
    if (inspect_open(&inspect, disk_uv_disk(uv), path, INSPECT_QUICK) == 0) {
        *out_term = replica_meta_term(inspect.meta);
        *out_next = inspect.index_next;
    }
    inspect_close(&inspect);
    disk_uv_free(uv);
}

static int rows_write(struct backup *backup, struct store_reader *reader,
                      const struct backup_head *head)
{
    uint8_t bytes[BACKUP_HEAD_BYTES + LIMIT_STORE_KEY_BYTES];
    static_assert(BACKUP_HEAD_BYTES >= BACKUP_RANGE_BYTES, "the head of a range fits, too");
    static_assert(BACKUP_HEAD_BYTES >= BACKUP_TAIL_BYTES, "and the tail");
    struct backup_sums sums;
    struct transfer_rows rows = {0};
    struct transfer_place from = {0};
    struct transfer_place end = {0};
    backup_head_encode(&sums, head, bytes);
    file_write(backup, bytes_of(bytes, BACKUP_HEAD_BYTES));
    int status;
    do {
        status = transfer_rows_collect(reader, transfer_place_bytes(&from), (struct bytes){0},
                                       LIMIT_TRANSFER_BYTES, &rows, &end);
        if (status == 0) {
            const size_t size = backup_range_encode(&sums, head, &from, &end, &rows, bytes);
            file_write(backup, bytes_of(bytes, size));
            file_write(backup, bytes_of(rows.data, rows.size));
            from = end;
        }
    } while (status == 0 && backup->status == 0 && end.size > 0);
    free(rows.data);
    backup_tail_encode(&sums, bytes);
    file_write(backup, bytes_of(bytes, BACKUP_TAIL_BYTES));
    return status;
}

static int data_read(struct backup *backup, const char *data)
{
    struct state_place place;
    struct store *store = NULL;
    if (strlen(data) > 900 || state_place_open(&place, data) != 0) {
        fprintf(stderr,
                COMMAND
                ": %s cannot be used: its name is too long, or state.current cannot be read\n",
                data);
        return OPTIONS_EXIT_USAGE;
    }
    const struct store_options options = {.directory = state_place_current(&place),
                                          .profile = STORE_CLOUD,
                                          .machine = MACHINE_NAME,
                                          .format = MACHINE_FORMAT};
    int status = store_rocks_open_read(&options, &store);
    if (status != 0) {
        fprintf(stderr, COMMAND ": %s: %s\n", options.directory,
                store_error(store)[0] == '\0' ? status_text(status) : store_error(store));
        store_close(store);
        return status == STATUS_CORRUPT ? VIEW_EXIT_DAMAGED : OPTIONS_EXIT_USAGE;
    }
    uint64_t next = 0;
    struct backup_head head;
    struct store_reader *reader = store_snapshot(store);
    status = backup_head_read(reader, KELP_VERSION, &head);
    log_look(data, &head.term, &next);
    head.time_ms = offline_now_ms();
    head.rows_about = store_usage(store).rows;
    int exit_code = OPTIONS_EXIT_NOTHING;
    if (status == STATUS_BEHIND) {
        fprintf(stderr,
                COMMAND
                ": %s holds no state yet: it is all in the log. Start that cloudcore and stop it "
                "in order, or ask it over the API\n",
                data);
    } else if (status == 0) {
        exit_code = file_begin(backup);
        if (exit_code == OPTIONS_EXIT_OK) {
            status = rows_write(backup, reader, &head);
            exit_code = file_end(backup, status == 0 ? OPTIONS_EXIT_OK : OPTIONS_EXIT_NOTHING);
        }
    }
    if (status != 0 && status != STATUS_BEHIND) {
        fprintf(stderr, COMMAND ": %s cannot be read: %s\n", options.directory, store_error(store));
        exit_code = status == STATUS_CORRUPT ? VIEW_EXIT_DAMAGED : OPTIONS_EXIT_NOTHING;
    }
    if (exit_code == OPTIONS_EXIT_OK && next > head.index + 1) {
        printf("note      the log there goes on to index %" PRIu64 ": what it has behind %" PRIu64
               " is not in the backup.\n          A cloudcore that is stopped in order leaves "
               "nothing behind but "
               "entries of raft's own\n",
               next - 1, head.index);
    }
    store_snapshot_release(reader);
    store_close(store);
    return exit_code;
}

/* -- over the API ------------------------------------------------------------------------------------------------ */

static void on_piece(void *context, struct bytes bytes)
{
    file_write(context, bytes);
}

static int take_remote(struct backup *backup, const struct cluster_where *where, bool stale,
                       int64_t patience_s)
{
    struct remote *remote = NULL;
    char reason[REMOTE_REASON_BYTES] = "";
    int exit_code = remote_open(where->kubeconfig, where->context, where->server, &remote, reason);
    if (exit_code != 0) {
        fprintf(stderr, COMMAND ": %s\n", reason);
        return exit_code;
    }
    exit_code = file_begin(backup);
    if (exit_code == OPTIONS_EXIT_OK) {
        struct remote_answer answer;
        exit_code = remote_stream(
            remote, stale ? "/kelp/v1/cluster/backup?stale=true" : "/kelp/v1/cluster/backup",
            (uint32_t)patience_s * 1000, on_piece, backup, &answer, reason);
        if (exit_code != 0) {
            fprintf(stderr, COMMAND ": %s\n", reason);
        } else if (answer.code != 200) {
            json_t *document = json_loadb(answer.body, answer.size, 0, NULL);
            const char *message = cluster_text(document, "message");
            fprintf(stderr, COMMAND ": %s: %s\n", remote_server(remote),
                    message[0] != '\0' ? message
                                       : "it answers, but is no cloudcore that knows this command");
            exit_code = answer.code == 503 ? REMOTE_EXIT_UNREACHABLE : REMOTE_EXIT_REFUSED;
            json_decref(document);
        }
        free(answer.body);
        exit_code = file_end(backup, exit_code);
    }
    remote_close(remote);
    return exit_code;
}

/* What runs has more than its tables on disk, and changes them: it is asked. While we read, none starts. A directory
 * that cannot be locked for another reason, a read-only one, is read. */
static int take_data(struct backup *backup, const char *data)
{
    char path[PATH_BYTES + 8];
    struct disk_file *lock = NULL;
    struct disk_uv *uv = disk_uv_new(NULL);
    CHECK(uv != NULL);
    (void)snprintf(path, sizeof path, "%.900s/log", data);
    const int status = disk_lock_directory(disk_uv_disk(uv), path, &lock);
    int exit_code = VIEW_EXIT_REFUSED;
    if (status == STATUS_LOCKED) {
        fprintf(stderr,
                COMMAND
                ": %s is in use: a cloudcore that runs is asked, and goes on serving: " COMMAND
                " FILE --server https://HOST:6443\n  or stop it in order first\n",
                data);
    } else {
        exit_code = data_read(backup, data);
    }
    if (lock != NULL) {
        (void)disk_close(disk_uv_disk(uv), lock);
    }
    disk_uv_free(uv);
    return exit_code;
}

/* -- the command --------------------------------------------------------------------------------------------------- */

int cluster_backup(int argc, char **argv)
{
    struct cluster_where where = {0};
    struct backup backup = {0};
    const char *data = NULL;
    bool check = false;
    bool stale = false;
    int64_t patience_s = SECONDS_MAX;
    struct options_list words = {0};
    const struct options_flag flags[] = {
        CLUSTER_WHERE_FLAGS(where),
        {"data", 0, OPTIONS_TEXT, &data, "DIR",
         "from the data directory of a cloudcore that does not run, instead of asking one"},
        {"stale", 0, OPTIONS_FLAG, &stale, NULL,
         "what the asked cloudcore has, though no leader says that it is the newest"},
        {"timeout", 0, OPTIONS_NUMBER, &patience_s, "SECONDS",
         "how long a cloudcore may take to send it, in all (86400)"},
        {"verify", 0, OPTIONS_FLAG, &check, NULL, "make none: check FILE, every byte"},
    };
    const struct options_command command = {
        .name = COMMAND,
        .arguments = "FILE",
        .about =
            "Write the state of the cloud at one log index into FILE: objects, what edges "
            "reported, where the logs\n"
            "of the edges stand. Any cloudcore may be asked, and goes on serving; its snapshot is "
            "made when all\n"
            "that was acknowledged before is in it. FILE HOLDS ALL SECRETS: it is made with mode "
            "0600, keep it so.\n"
            "A file of that name is replaced once the new one is whole and was read back.\n\n"
            "The keys of the authority and the certificates are not in it: keep those, too.\n\n"
            "Exit codes: 0 done, 1 a failure of the disk, 2 usage, 3 unreachable, 4 damaged, 5 "
            "refused, 124 time is\n"
            "over.",
        .flags = flags,
        .flags_count = sizeof flags / sizeof flags[0],
        .arguments_min = 1,
        .arguments_max = 1,
    };
    int exit_code;
    if (!cluster_parse(&command, argc, argv, &words, &exit_code)) {
        return exit_code;
    }
    if (patience_s < 1 || patience_s > SECONDS_MAX) {
        fprintf(stderr, COMMAND ": --timeout is 1 to %d seconds\n", SECONDS_MAX);
        return OPTIONS_EXIT_USAGE;
    }
    backup.path = words.items[0];
    if (check) {
        return verify(backup.path, backup.path);
    }
    return data != NULL ? take_data(&backup, data)
                        : take_remote(&backup, &where, stale, patience_s);
}
