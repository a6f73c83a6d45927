/* The data directory of a cloudcore that does not run, for commands that change it: its log with a loop of its
 * own, and small steps on the file system. Blocking.
 */
#ifndef KELP_NODES_CLI_OFFLINE_H
#define KELP_NODES_CLI_OFFLINE_H

#include <uv.h>

#include "log/disk_uv.h"
#include "log/log.h"
#include "replication/replica.h"
#include "statemachine/store.h"

struct offline_log {
    uv_loop_t loop;
    struct disk_uv *uv;
    struct log log;
    struct log_recovery recovery; /* filled in any case */
    struct log_request request;
    bool done;
    int status;
    bool closed;
};

/* Open, or make, the log of replica N. It is locked, so that no cloudcore uses it meanwhile.
 *   directory  "DIR/log"
 *   answers    as log_open; nothing is left open unless 0 */
int offline_log_open(struct offline_log *offline, const char *directory, uint64_t replica);
/* A new log becomes such a beginning: replica_begin, then the reset. Answers 0; the failure of the disk. */
int offline_log_begin(struct offline_log *offline, const struct replica_beginning *beginning);
/* Answers 0, or the failure that ended the log. */
int offline_log_close(struct offline_log *offline);

/* Open the store of a cloud's state for writing. Answers as store_rocks_open. */
int offline_store_open(const char *directory, struct store **out);
/* Commit the open batch; while the store is full, its disk is waited for. */
int offline_commit(struct store *store, uint64_t position);

/* Make the entries of a directory durable. Answers 0; -errno. */
int offline_sync(const char *directory);
/* Rename within a directory, durably. Answers 0; -errno. */
int offline_rename(const char *from, const char *to, const char *directory);
/* Remove a directory with all in it. Answers 0, also when there was none; -errno. */
int offline_remove(const char *directory);

/* Wall clock, and a date of it for people: "2024-05-01 12:00:00 UTC", 32 bytes. */
int64_t offline_now_ms(void);
void offline_date(int64_t ms, char out[32]);

#endif
