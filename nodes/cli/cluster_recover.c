/* kelp cluster recover DIR --keep N [--yes]
 *
 * The quorum is gone for good, and N goes on alone with what it has:
 *
 *   1. what is there is read and told; without --yes that is all
 *   2. DIR/log.next: a log of a group of one voter, that begins where the new timeline will
 *   3. DIR/log becomes DIR/log.EPOCH: history, for `kelp log`. From here on no cloudcore starts on DIR, and there
 *      is no way back
 *   4. every entry of that log is applied to the state, also those that may never have been agreed on
 *   5. machine_rebirth: another timeline of the same cluster (statemachine/rebirth.h)
 *   6. DIR/log.next becomes DIR/log
 *
 * What can fail: damage, which is told and nothing is changed; the disk. The same command again goes on where a
 * crash left it: log.next without log means 4. Not before 3 may the state be touched: until then the others may
 * come back after all, and agree on other entries.
 */
#include "nodes/cli/cluster_command.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "nodes/cli/log_view.h"
#include "nodes/cli/offline.h"
#include "nodes/cloud/state_place.h"
#include "nodes/fault.h"
#include "nodes/tag_tls.h"
#include "schemas/check.h"
#include "statemachine/rebirth.h"

#define COMMAND    "kelp cluster recover"
#define PATH_BYTES 1100u
/* Terms jump too: no vote and no entry of the lost timeline is as new. */
#define TERM_JUMP (UINT64_C(1) << 20)
/* What steps 4 and 5 need, beside the log that is not in use yet. */
#define PLAN_FILE  "recovery"
#define PLAN_BYTES 24u

struct recover {
    const char *directory;
    uint64_t keep;
    bool yes;
    bool alone; /* the group is of this one only: nothing is done */
    char log[PATH_BYTES];
    char next[PATH_BYTES];    /* log.next */
    char history[PATH_BYTES]; /* log.EPOCH */
    struct state_place place;
    struct offline_log offline;
    struct store *store;
    struct machine machine;
    struct replica_stored group;
    const char *address; /* of the one that is kept */
    uint64_t term;
    uint64_t last;    /* index of the log */
    uint64_t applied; /* of the state, as it was found */
    uint64_t end;     /* of the state, once the log is applied */
    struct machine_rebirth rebirth;
};

static int failed(const struct recover *recover, const char *what, int status)
{
    fprintf(stderr, COMMAND ": %s: %s: %s\n", recover->directory, what, status_text(status));
    return status == STATUS_CORRUPT || status == STATUS_FOREIGN ? VIEW_EXIT_DAMAGED
                                                                : OPTIONS_EXIT_NOTHING;
}

/* -- 1: what is there ----------------------------------------------------------------------------------------- */

static int log_look(struct recover *recover)
{
    struct offline_log *offline = &recover->offline;
    const int status = offline_log_open(offline, recover->log, recover->keep);
    if (status == STATUS_LOCKED) {
        fprintf(stderr, COMMAND ": %s is in use: stop that cloudcore first\n", recover->directory);
        return VIEW_EXIT_REFUSED;
    }
    if (status == STATUS_FOREIGN) {
        fprintf(
            stderr,
            COMMAND
            ": %s is not the log of cloudcore %" PRIu64
            " (or of a newer release)\n  --keep is the number of the one whose directory this is\n",
            recover->log, recover->keep);
        return VIEW_EXIT_REFUSED;
    }
    if (status != 0) {
        fprintf(stderr, COMMAND ": %s\n  `kelp log salvage %s` tells what can be kept of it\n",
                offline->recovery.message == NULL ? "the log cannot be opened"
                                                  : offline->recovery.message,
                recover->directory);
        return failed(recover, "the log cannot be opened", status);
    }
    return OPTIONS_EXIT_OK;
}

static int group_look(struct recover *recover)
{
    const struct log *log = &recover->offline.log;
    const int status = replica_members_stored(&recover->offline.log, &recover->group);
    if (status != 0) {
        return failed(recover, "who is in the group cannot be read", status);
    }
    recover->term = replica_meta_term(log_meta_get(log));
    recover->last = log_index_next(log) - 1;
    for (uint32_t i = 0; i < recover->group.count; i++) {
        char *address = recover->group.addresses[i];
        address[strcspn(address, "#")] =
            '\0'; /* the rest is of a membership that ends (members.h) */
        if (recover->group.members[i].id == recover->keep) {
            recover->address = recover->group.members[i].address;
        }
    }
    if (recover->address == NULL) {
        fprintf(
            stderr,
            COMMAND
            ": %s: cloudcore %" PRIu64
            " is no member of the group that its log tells of: there is nothing to go on with\n",
            recover->directory, recover->keep);
        return VIEW_EXIT_REFUSED;
    }
    return OPTIONS_EXIT_OK;
}

static int state_look(struct recover *recover)
{
    const char *path = state_place_current(&recover->place);
    int status = offline_store_open(path, &recover->store);
    if (status != 0) {
        fprintf(stderr, COMMAND ": %s: %s\n", path,
                recover->store == NULL ? status_text(status) : store_error(recover->store));
        store_close(recover->store);
        recover->store = NULL;
        return status == STATUS_LOCKED ? VIEW_EXIT_REFUSED : VIEW_EXIT_DAMAGED;
    }
    status = machine_open(&recover->machine, recover->store);
    if (status != 0) {
        return failed(recover, "the state cannot be read", status);
    }
    if (machine_level(&recover->machine) > MACHINE_LEVEL) {
        fprintf(stderr,
                COMMAND
                ": %s: features of a newer release are in force in the state: use the kelp of that "
                "release\n",
                path);
        return VIEW_EXIT_REFUSED;
    }
    recover->applied = machine_index(&recover->machine);
    return OPTIONS_EXIT_OK;
}

static void tell_plan(const struct recover *recover)
{
    printf("directory  %s\n"
           "cluster    %s\n"
           "log        ends at index %" PRIu64 ", term %" PRIu64 "; the state is at %" PRIu64 "\n",
           recover->directory,
           recover->machine.meta.cluster[0] == '\0' ? "(named in the log)"
                                                    : recover->machine.meta.cluster,
           recover->last, recover->term, recover->applied);
    for (uint32_t i = 0; i < recover->group.count; i++) {
        const struct replica_member *member = &recover->group.members[i];
        printf("%-10s %" PRIu64 "  %s%s\n", i == 0 ? "group" : "", member->id, member->address,
               member->id == recover->keep ? "  GOES ON ALONE" : "  is given up");
    }
    printf(
        "\n"
        "ONLY WHEN THE OTHERS ARE GONE FOR GOOD. While a majority can be brought back, bring it "
        "back instead:\n"
        "then nothing is lost.\n"
        "  - What the others had agreed on and this one never received IS LOST, though it was "
        "acknowledged.\n"
        "    Run this without --yes on each survivor, and keep the one with the highest term, then "
        "index.\n"
        "  - Entries at the end of this log that were never agreed on become valid.\n"
        "  - Edges get a snapshot: what they hold and this log does not know is removed from "
        "them.\n"
        "  - The others must not come back with their data directories; they are refused, as of "
        "another epoch.\n"
        "    Each begins with an empty one: `kelp cluster add N ADDRESS --wait`, then promote.\n");
}

/* -- 2: where the new timeline begins ------------------------------------------------------------------------------ */

/* Read the whole log behind the state: where the state will be once it is applied. */
static int log_measure(struct recover *recover)
{
    struct log_cursor cursor;
    struct log_frame frame;
    if (log_index_first(&recover->offline.log) > recover->applied + 1) {
        fprintf(stderr,
                COMMAND
                ": %s: the log begins behind the state, so entries are missing between them\n"
                "  restore a backup, or keep another survivor\n",
                recover->directory);
        return VIEW_EXIT_DAMAGED;
    }
    recover->end = recover->applied;
    log_cursor_open(&cursor, &recover->offline.log, recover->applied + 1);
    int status = log_cursor_next(&cursor, &frame);
    while (status == LOG_CURSOR_FRAME) {
        recover->end = frame.type == LOG_TYPE_COMMAND ? frame.index : recover->end;
        status = log_cursor_next(&cursor, &frame);
    }
    log_cursor_close(&cursor);
    return status == LOG_CURSOR_END
               ? OPTIONS_EXIT_OK
               : failed(recover, "the log cannot be read", status > 0 ? STATUS_CORRUPT : status);
}

static int next_make(struct recover *recover)
{
    const uint64_t epoch = recover->machine.meta.epoch;
    const int64_t now_ms = offline_now_ms();
    recover->rebirth.epoch = now_ms > (int64_t)epoch ? (uint64_t)now_ms : epoch + 1;
    tag_random(&recover->rebirth.chance, sizeof recover->rebirth.chance);
    snprintf(recover->history, sizeof recover->history, "%.1070s.%" PRIu64, recover->log,
             recover->rebirth.epoch);
    const struct replica_beginning beginning = {
        .id = recover->keep,
        .address = recover->address,
        .index = machine_rebirth_index(recover->end, &recover->rebirth),
        .term = recover->term + TERM_JUMP,
        .epoch = recover->rebirth.epoch,
    };
    if (beginning.index == 0) {
        return failed(recover, "its numbers are used up", STATUS_UNSUPPORTED);
    }
    uint8_t plan[PLAN_BYTES];
    put_le64(plan, recover->rebirth.epoch);
    put_le64(plan + 8, recover->rebirth.chance);
    put_le64(plan + 16, recover->end);
    const struct bytes piece = bytes_of(plan, sizeof plan);
    struct offline_log next;
    int status = offline_remove(recover->next); /* of an attempt that was interrupted */
    if (status == 0) {
        status = offline_log_open(&next, recover->next, recover->keep);
    }
    if (status == 0) {
        status = offline_log_begin(&next, &beginning);
        status = status != 0 ? status : log_file_put(&next.log, PLAN_FILE, &piece, 1);
        const int closed = offline_log_close(&next);
        status = status != 0 ? status : closed;
    }
    return status == 0 ? OPTIONS_EXIT_OK : failed(recover, "the new log cannot be made", status);
}

/* The plan of an interrupted attempt, from log.next. */
static int plan_read(struct recover *recover)
{
    struct offline_log next;
    uint8_t *plan = NULL;
    size_t size = 0;
    int status = offline_log_open(&next, recover->next, recover->keep);
    if (status == 0) {
        status = log_file_get(&next.log, PLAN_FILE, &plan, &size);
        (void)offline_log_close(&next);
    }
    if (status == 0 && size != PLAN_BYTES) {
        status = STATUS_CORRUPT;
    }
    if (status == 0) {
        recover->rebirth.epoch = get_le64(plan);
        recover->rebirth.chance = get_le64(plan + 8);
        recover->end = get_le64(plan + 16);
        snprintf(recover->history, sizeof recover->history, "%.1070s.%" PRIu64, recover->log,
                 recover->rebirth.epoch);
    }
    free(plan);
    return status == 0 ? OPTIONS_EXIT_OK
                       : failed(recover, "log.next of an attempt before cannot be read", status);
}

/* -- 4: the whole log -------------------------------------------------------------------------------------------- */

static int log_apply(struct recover *recover)
{
    struct log_cursor cursor;
    struct log_frame frame;
    log_cursor_open(&cursor, &recover->offline.log, machine_index(&recover->machine) + 1);
    int status = log_cursor_next(&cursor, &frame);
    while (status == LOG_CURSOR_FRAME) {
        const struct machine_applied *applied;
        if (machine_level(&recover->machine) > MACHINE_LEVEL) {
            status = STATUS_UNSUPPORTED; /* what follows obeys rules of a newer release */
        } else if (frame.type == LOG_TYPE_COMMAND) {
            status = machine_apply(&recover->machine, frame.index, frame.payload, &applied);
            while (status == STATUS_FULL) {
                status = store_flush(recover->store);
                status = status != 0 ? status
                                     : machine_apply(&recover->machine, frame.index, frame.payload,
                                                     &applied);
            }
        }
        if (status == 0) {
            status = log_cursor_next(&cursor, &frame);
        }
    }
    log_cursor_close(&cursor);
    return status == LOG_CURSOR_END ? 0 : status > 0 ? STATUS_CORRUPT : status;
}

static int history_apply(struct recover *recover)
{
    int status = offline_log_open(&recover->offline, recover->history, recover->keep);
    if (status != 0) {
        return status;
    }
    status = log_apply(recover);
    const int closed = offline_log_close(&recover->offline);
    status = status != 0 ? status : closed;
    return status == 0 && machine_index(&recover->machine) != recover->end ? STATUS_CORRUPT
                                                                           : status;
}

/* -- 4 to 6: the other timeline ------------------------------------------------------------------------------------- */

static int finish(struct recover *recover)
{
    int status = 0;
    if (recover->machine.meta.epoch < recover->rebirth.epoch) {
        status = history_apply(recover);
        status = status != 0 ? status : machine_rebirth(&recover->machine, &recover->rebirth);
    }
    if (status == 0) {
        status = store_flush(recover->store);
    }
    if (status != 0) {
        fprintf(stderr,
                COMMAND ": run the same command again when that is mended%s; no cloudcore starts "
                        "on %s before\n",
                status == STATUS_UNSUPPORTED ? ", with a kelp of the release that wrote the log"
                                             : "",
                recover->directory);
        return failed(recover, "the state cannot be brought to the end of the log", status);
    }
    status = offline_rename(recover->next, recover->log, recover->directory);
    return status == 0 ? OPTIONS_EXIT_OK : failed(recover, "log.next cannot become log", status);
}

static void tell_done(const struct recover *recover)
{
    printf("\nrecovered  cloudcore %" PRIu64 " is the whole group now, epoch %" PRIu64 "\n"
           "index      goes on at %" PRIu64 ", resource version %" PRIu64 "\n"
           "history    %s: `kelp log` reads it; remove it when nobody will ask\n"
           "Next: start cloudcore %" PRIu64 ", then add the others with empty data directories.\n",
           recover->keep, recover->rebirth.epoch, machine_index(&recover->machine),
           recover->machine.meta.version, recover->history, recover->keep);
}

/* Steps 1 and 2, over the open log. */
static int prepare(struct recover *recover)
{
    int exit_code = group_look(recover);
    exit_code = exit_code != OPTIONS_EXIT_OK ? exit_code : state_look(recover);
    if (exit_code == OPTIONS_EXIT_OK && recover->group.count == 1) {
        printf("%s: cloudcore %" PRIu64 " is already alone in its group, epoch %" PRIu64
               ": there is nothing to recover\nNext: start it, then add the others with empty data "
               "directories.\n",
               recover->directory, recover->keep, recover->machine.meta.epoch);
        recover->alone = true;
        return OPTIONS_EXIT_OK;
    }
    if (exit_code == OPTIONS_EXIT_OK) {
        tell_plan(recover);
    }
    if (exit_code == OPTIONS_EXIT_OK && !recover->yes) {
        printf("\nNothing was changed. To do it: " COMMAND " %s --keep %" PRIu64 " --yes\n",
               recover->directory, recover->keep);
        exit_code = VIEW_EXIT_REFUSED;
    }
    exit_code = exit_code != OPTIONS_EXIT_OK ? exit_code : log_measure(recover);
    return exit_code != OPTIONS_EXIT_OK ? exit_code : next_make(recover);
}

static int run(struct recover *recover)
{
    const bool interrupted = access(recover->log, F_OK) != 0 && access(recover->next, F_OK) == 0;
    if (interrupted && !recover->yes) {
        fprintf(stderr, COMMAND ": %s: an attempt to recover was interrupted: --yes finishes it\n",
                recover->directory);
        return VIEW_EXIT_REFUSED;
    }
    if (!interrupted && access(recover->log, F_OK) != 0) {
        fprintf(stderr, COMMAND ": %s is no data directory of a cloudcore: there is no log in it\n",
                recover->directory);
        return OPTIONS_EXIT_USAGE;
    }
    int exit_code;
    if (interrupted) {
        printf("%s: an attempt to recover was interrupted; it is finished now\n",
               recover->directory);
        exit_code = plan_read(recover);
        exit_code = exit_code != OPTIONS_EXIT_OK ? exit_code : state_look(recover);
    } else {
        exit_code = log_look(recover);
        if (exit_code == OPTIONS_EXIT_OK) {
            exit_code = prepare(recover);
            const int closed = offline_log_close(&recover->offline);
            if (exit_code == OPTIONS_EXIT_OK && closed != 0) {
                exit_code = failed(recover, "the log cannot be closed", closed);
            }
        }
        if (exit_code == OPTIONS_EXIT_OK && recover->alone) {
            return exit_code;
        }
        if (exit_code == OPTIONS_EXIT_OK) {
            const int status = offline_rename(recover->log, recover->history, recover->directory);
            exit_code =
                status == 0 ? OPTIONS_EXIT_OK : failed(recover, "log cannot be put aside", status);
        }
    }
    exit_code = exit_code != OPTIONS_EXIT_OK ? exit_code : finish(recover);
    if (exit_code == OPTIONS_EXIT_OK) {
        tell_done(recover);
    }
    return exit_code;
}

int cluster_recover(int argc, char **argv)
{
    struct recover recover = {0};
    int64_t keep = 0;
    struct options_list words = {0};
    const struct options_flag flags[] = {
        {"keep", 0, OPTIONS_NUMBER, &keep, "N", "number of the cloudcore whose directory this is"},
        {"yes", 0, OPTIONS_FLAG, &recover.yes, NULL, "do it"},
    };
    const struct options_command command = {
        .name = COMMAND,
        .arguments = "DIR",
        .about =
            "Go on with one survivor when the quorum of a group is gone for good. DIR is its data "
            "directory; it\n"
            "must not run. Says what is there and what will be lost; does it only with --yes.\n\n"
            "What the others had agreed on and the survivor never received is lost, though it was "
            "acknowledged.\n"
            "Its log is kept beside as DIR/log.EPOCH. The group is then this one alone, in a new "
            "epoch: every\n"
            "edge gets a snapshot, and the others are refused with their old data directories. Add "
            "them again\n"
            "with empty ones.\n\n"
            "Exit codes: 0 done, 1 a failure of the disk, 2 usage, 4 damage, 5 refused, or --yes "
            "was not given.",
        .flags = flags,
        .flags_count = sizeof flags / sizeof flags[0],
        .arguments_min = 1,
        .arguments_max = 1,
    };
    int exit_code;
    if (!cluster_parse(&command, argc, argv, &words, &exit_code)) {
        return exit_code;
    }
    if (keep < 1 || keep > 65535) {
        fprintf(stderr, COMMAND
                ": --keep N is needed: the number of the cloudcore whose directory this is\n");
        return OPTIONS_EXIT_USAGE;
    }
    recover.keep = (uint64_t)keep;
    recover.directory = words.items[0];
    struct fault fault;
    if (strlen(recover.directory) > 900 ||
        state_place_open(&recover.place, recover.directory) != 0) {
        fprintf(stderr,
                COMMAND
                ": %s cannot be used: its name is too long, or state.current cannot be read\n",
                recover.directory);
        return OPTIONS_EXIT_USAGE;
    }
    if (fault_read(recover.directory, &fault) == 0) {
        fprintf(stderr, COMMAND ": %s: its disk has failed (%s): first `kelp resolve %s`\n",
                recover.directory, fault.operation, recover.directory);
        return VIEW_EXIT_REFUSED;
    }
    snprintf(recover.log, sizeof recover.log, "%s/log", recover.directory);
    snprintf(recover.next, sizeof recover.next, "%s/log.next", recover.directory);
    exit_code = run(&recover);
    if (recover.store != NULL) {
        machine_close(&recover.machine);
        store_close(recover.store);
    }
    return exit_code;
}
