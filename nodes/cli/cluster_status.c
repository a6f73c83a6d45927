/* kelp cluster status: one table that any cloudcore can fill, over HTTPS, or over the control socket of one on
 * this machine when the API is not to be had. */
#include "nodes/cli/cluster_command.h"

#include "nodes/cli/log_out.h"
#include "nodes/cli/status.h"
#include "nodes/control.h"
#include "schemas/check.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define COLUMNS     13u
#define CELL_BYTES  160u
#define ROWS        32u
#define ASK_SECONDS 5
#define KEYS_SHOWN  5u /* that are shut out */

/* "3d4h", "12m30s": two units at most. */
static void age_text(uint64_t ms, char *out, size_t size)
{
    const uint64_t s = ms / 1000;
    if (s >= 86400) {
        snprintf(out, size, "%" PRIu64 "d%" PRIu64 "h", s / 86400, s % 86400 / 3600);
    } else if (s >= 3600) {
        snprintf(out, size, "%" PRIu64 "h%" PRIu64 "m", s / 3600, s % 3600 / 60);
    } else if (s >= 60) {
        snprintf(out, size, "%" PRIu64 "m%" PRIu64 "s", s / 60, s % 60);
    } else {
        snprintf(out, size, "%" PRIu64 "s", s);
    }
}

static void bytes_text_of(uint64_t bytes, char *out, size_t size)
{
    static const char *const units[] = {"B", "K", "M", "G", "T", "P"};
    double number = (double)bytes;
    size_t unit = 0;
    while (number >= 1024 && unit + 1 < sizeof units / sizeof units[0]) {
        number /= 1024;
        unit++;
    }
    snprintf(out, size, number < 10 && unit > 0 ? "%.1f%s" : "%.0f%s", number, units[unit]);
}

static void state_text(const json_t *member, char *out, size_t size)
{
    const char *state = cluster_text(member, "state");
    const uint64_t heard_ms = cluster_number(member, "heardMs");
    if (strcmp(state, "unreachable") == 0 && heard_ms == 0) {
        snprintf(out, size, "unreachable, never heard of");
    } else if (strcmp(state, "unreachable") == 0) {
        const time_t heard = (time_t)(heard_ms / 1000);
        struct tm parts;
        char when[32] = "";
        if (gmtime_r(&heard, &parts) != NULL) {
            (void)strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &parts);
        }
        snprintf(out, size, "unreachable since %s", when);
    } else if (strcmp(state, "behind") == 0 && json_object_get(member, "behindPercent") != NULL) {
        snprintf(out, size, "behind, %" PRIu64 "%% of the state is there",
                 cluster_number(member, "behindPercent"));
    } else if (strcmp(state, "behind") == 0) {
        snprintf(out, size, "behind by %" PRIu64 " entries", cluster_number(member, "lag"));
    } else if (strcmp(state, "waiting") == 0) {
        snprintf(out, size, "waiting, takes no part yet");
    } else if (strcmp(state, "lost") == 0 && cluster_number(member, "applied") > 0) {
        snprintf(out, size,
                 "lost its data and has other: empty it, then kelp cluster replace %" PRIu64,
                 cluster_number(member, "replica"));
    } else if (strcmp(state, "lost") == 0) {
        snprintf(out, size, "lost its data: kelp cluster replace %" PRIu64,
                 cluster_number(member, "replica"));
    } else if (strcmp(state, "short") == 0) {
        snprintf(out, size, "short of disk space");
    } else {
        snprintf(out, size, "%s", state);
    }
}

static void row_fill(const json_t *document, const json_t *member, char row[COLUMNS][CELL_BYTES])
{
    static const char *const numbers[] = {"term", "commit", "applied", "lag", "sessions"};
    const bool heard = json_object_get(member, "heardMs") != NULL;
    snprintf(row[0], CELL_BYTES, "%" PRIu64, cluster_number(member, "replica"));
    snprintf(row[1], CELL_BYTES, "%s",
             json_is_true(json_object_get(member, "leader")) ? "leader"
                                                             : cluster_text(member, "role"));
    snprintf(row[2], CELL_BYTES, "%s", cluster_text(member, "address"));
    snprintf(row[3], CELL_BYTES, "%s", heard ? cluster_text(member, "version") : "-");
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (heard) {
            snprintf(row[4 + i], CELL_BYTES, "%" PRIu64, cluster_number(member, numbers[i]));
        } else {
            snprintf(row[4 + i], CELL_BYTES, "-");
        }
    }
    if (!heard) {
        snprintf(row[9], CELL_BYTES, "-");
        snprintf(row[10], CELL_BYTES, "-");
        snprintf(row[11], CELL_BYTES, "-");
    } else {
        char size[32];
        bytes_text_of(cluster_number(member, "diskFreeBytes"), size, sizeof size);
        snprintf(row[9], CELL_BYTES, "%s %s", size, cluster_text(member, "space"));
        bytes_text_of(cluster_number(member, "logBytes"), row[10], CELL_BYTES);
        const uint64_t started_ms = cluster_number(member, "startedMs");
        const uint64_t now_ms = cluster_number(document, "timeMs");
        age_text(now_ms > started_ms ? now_ms - started_ms : 0, row[11], CELL_BYTES);
    }
    if (strcmp(cluster_text(member, "state"), "unreachable") == 0) {
        snprintf(row[11], CELL_BYTES, "-");
    }
    state_text(member, row[12], CELL_BYTES);
}

static void table_print(const json_t *document)
{
    static const char *const heads[COLUMNS] = {"ID",     "ROLE",    "ADDRESS", "VERSION",  "TERM",
                                               "COMMIT", "APPLIED", "LAG",     "SESSIONS", "DISK",
                                               "LOG",    "UP",      "STATE"};
    static char rows[ROWS][COLUMNS][CELL_BYTES];
    size_t widths[COLUMNS];
    size_t count = 0;
    for (size_t k = 0; k < COLUMNS; k++) {
        widths[k] = strlen(heads[k]);
    }
    size_t i;
    const json_t *member;
    json_array_foreach(json_object_get(document, "members"), i, member)
    {
        if (count == ROWS) {
            break;
        }
        row_fill(document, member, rows[count]);
        for (size_t k = 0; k < COLUMNS; k++) {
            widths[k] = strlen(rows[count][k]) > widths[k] ? strlen(rows[count][k]) : widths[k];
        }
        count++;
    }
    struct out out;
    out_init(&out, STDOUT_FILENO);
    for (size_t r = 0; r <= count; r++) {
        for (size_t k = 0; k < COLUMNS; k++) {
            const bool last = k + 1 == COLUMNS;
            out_plain(&out, r == 0 ? heads[k] : rows[r - 1][k], last ? 0 : widths[k]);
            out_text(&out, last ? "\n" : "  ");
        }
    }
    out_flush(&out);
    out_deinit(&out);
}

/* "shut out: the key of replica 3 (removed 2026-11-28T10:00:00Z)", the newest few. */
static void keys_print(const json_t *document)
{
    const json_t *list = json_object_get(document, "shutOut");
    const uint64_t count = cluster_number(document, "shutOutCount");
    for (size_t i = 0; i < json_array_size(list) && i < KEYS_SHOWN; i++) {
        const json_t *row = json_array_get(list, i);
        const char *key = cluster_text(row, "key");
        const time_t since = (time_t)(cluster_number(row, "sinceMs") / 1000);
        struct tm parts;
        char when[32] = "";
        if (gmtime_r(&since, &parts) != NULL) {
            (void)strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &parts);
        }
        if (key[0] == '\0') {
            printf("removed %s: replica %" PRIu64 ", of which no key was ever seen\n", when,
                   cluster_number(row, "replica"));
        } else {
            printf("shut out %s: a key of replica %" PRIu64 ", sha256 %.16s...\n", when,
                   cluster_number(row, "replica"), key);
        }
    }
    if (count > KEYS_SHOWN) {
        printf("and %" PRIu64 " keys before those: -o json\n", count - KEYS_SHOWN);
    }
}

/* "3 voters, 2 are well: no other may fail". Nothing when who was asked does not know. */
static void voters_print(const json_t *document)
{
    const uint64_t voters = cluster_number(document, "voters");
    const uint64_t well = cluster_number(document, "votersWell");
    const uint64_t needed = voters / 2 + 1;
    if (voters == 0) {
        return;
    }
    if (well < needed) {
        printf("%" PRIu64 " voters, %" PRIu64 " well, and %" PRIu64 " are needed\n", voters, well,
               needed);
    } else if (well < voters) {
        printf("%" PRIu64 " voters, %" PRIu64 " well: %" PRIu64 " more may fail\n", voters, well,
               well - needed);
    } else {
        printf("%" PRIu64 " voter%s, all well: %" PRIu64 " may fail%s\n", voters,
               voters == 1 ? "" : "s", voters - needed,
               voters % 2 == 0 ? ", no more than of one voter less" : "");
    }
}

/* A replica that takes no part knows no leader, though the others may have one. */
static void leader_tell(const json_t *document)
{
    if (cluster_number(document, "leader") != 0) {
        return;
    }
    const uint64_t asked = cluster_number(document, "asked");
    const json_t *member = cluster_member(document, asked);
    const char *state = member == NULL ? "" : cluster_text(member, "state");
    if (strcmp(state, "waiting") == 0 || strcmp(state, "lost") == 0) {
        fprintf(
            stderr,
            "replica %" PRIu64
            " was asked, which takes no part: who leads, and with what role, another one knows\n",
            asked);
    } else {
        fprintf(stderr, "there is no leader: nothing can be written, and only what asks for "
                        "resourceVersion=0 is read\n");
        if (cluster_number(document, "votersWell") <= cluster_number(document, "voters") / 2) {
            fprintf(stderr, "start voters that are down; when too many are lost for good, `kelp "
                            "cluster recover` goes on\nwith one that is left\n");
        }
    }
}

/* From the control socket of a cloudcore on this machine. */
static int status_local(const char *directory, json_t **out)
{
    char path[4096];
    struct stat about;
    const bool is_directory = stat(directory, &about) == 0 && S_ISDIR(about.st_mode);
    snprintf(path, sizeof path, "%s%s", directory, is_directory ? "/control" : "");
    char text[CONTROL_BYTES + 1];
    const ssize_t size = cli_status_ask(path, text, sizeof text - 1, ASK_SECONDS);
    if (size <= 0) {
        fprintf(stderr, "kelp cluster status: nobody answers at %s: %s\n", path,
                size == 0 ? "it is on its way out" : strerror((int)-size));
        if (size != -EACCES) {
            fprintf(stderr, "  DIR is the data directory of a cloudcore that runs on this machine; "
                            "without DIR the API is asked\n");
        } else {
            fprintf(stderr, "  try as root, or as the user it belongs to\n");
        }
        return REMOTE_EXIT_UNREACHABLE;
    }
    json_t *report = json_loadb(text, (size_t)size, 0, NULL);
    json_t *document = json_object_get(report, "group");
    if (!json_is_array(json_object_get(document, "members"))) {
        fprintf(stderr, "kelp cluster status: what answers at %s is no cloudcore that takes part\n",
                path);
        fprintf(stderr, "  'kelp status %s' tells what it is, and how\n", directory);
        json_decref(report);
        return REMOTE_EXIT_UNREACHABLE;
    }
    *out = json_incref(document);
    json_decref(report);
    return 0;
}

int cluster_status(int argc, char **argv)
{
    struct cluster_where where = {0};
    const char *output = "table";
    int64_t patience_s = 10;
    const struct options_flag flags[] = {
        CLUSTER_WHERE_FLAGS(where),
        {"output", 'o', OPTIONS_TEXT, &output, "table|json", "form of the answer"},
        {"timeout", 0, OPTIONS_NUMBER, &patience_s, "SECONDS",
         "how long to wait for an answer (10)"},
    };
    const struct options_command command = {
        .name = "kelp cluster status",
        .arguments = "[DIR]",
        .about =
            "Show the group of cloudcores, as the one that is asked sees it: over HTTPS, or with "
            "the "
            "data directory\n(or control socket) of one on this machine.\n\n"
            "LAG is what a replica has not applied of what was agreed on. STATE is ok, unreachable "
            "(its links are closed,\nor it was silent for 3.5 s), behind, waiting (new, "
            "the others must know it first), lost\n(it comes with another data directory), short "
            "(of disk space).\n\n"
            "Exit codes: 0 there is a leader and all are ok, 1 not so, 2 usage, 3 unreachable, 5 "
            "refused, 124\ntime is over.",
        .flags = flags,
        .flags_count = sizeof flags / sizeof flags[0],
        .arguments_max = 1,
    };
    struct options_list words;
    int exit_code;
    if (!cluster_parse(&command, argc, argv, &words, &exit_code)) {
        return exit_code;
    }
    if ((strcmp(output, "table") != 0 && strcmp(output, "json") != 0) || patience_s < 1 ||
        patience_s > 3600) {
        fprintf(stderr, "kelp cluster status: -o is table or json, --timeout 1 to 3600\n");
        return OPTIONS_EXIT_USAGE;
    }
    json_t *document = NULL;
    int status;
    if (words.count == 1) {
        status = status_local(words.items[0], &document);
    } else {
        struct remote *remote = NULL;
        char reason[REMOTE_REASON_BYTES];
        status = remote_open(where.kubeconfig, where.context, where.server, &remote, reason);
        if (status != 0) {
            fprintf(stderr, "kelp cluster status: %s\n", reason);
            return status;
        }
        status = cluster_ask(remote, "kelp cluster status", (uint32_t)patience_s * 1000, &document);
        remote_close(remote);
    }
    if (status != 0) {
        return status;
    }
    if (strcmp(output, "json") == 0) {
        char *text = json_dumps(document, JSON_INDENT(2));
        CHECK(text != NULL);
        printf("%s\n", text);
        free(text);
    } else {
        table_print(document);
        voters_print(document);
        keys_print(document);
        leader_tell(document);
    }
    if (cluster_number(document, "contestedBy") != 0) {
        fprintf(stderr,
                "TWO GROUPS SAY THAT THEY ARE THIS CLUSTER: replica %" PRIu64
                " is of the other one, in another epoch.\n"
                "One was restored or recovered while the other works. Stop the one that is not to "
                "go on, and "
                "empty\nits data directories.\n",
                cluster_number(document, "contestedBy"));
    }
    const bool healthy = json_is_true(json_object_get(document, "healthy"));
    json_decref(document);
    return healthy ? OPTIONS_EXIT_OK : OPTIONS_EXIT_NOTHING;
}
