/* One log being looked at: where it is, what is found there, how it is said. Every `kelp log`
 * command stands on it.
 *
 * DIR is the data directory of a cloudcore or an edgecore (which holds `log` and `state`), or the log
 * directory itself. Nothing in it is written by looking, but the key index (log_index.h).
 */
#ifndef KELP_NODES_CLI_LOG_VIEW_H
#define KELP_NODES_CLI_LOG_VIEW_H

#include "log/disk_uv.h"
#include "log/inspect.h"
#include "nodes/cli/log_out.h"
#include "schemas/codec.h"

/* Beside those of options.h. */
#define VIEW_EXIT_DAMAGED 4
#define VIEW_EXIT_REFUSED 5
#define VIEW_EXIT_TIMEOUT 124

/* Long work says on stderr how far it is: from two seconds on, then every two seconds; a terminal sees
 * one line that changes. */
struct progress {
    const char *command;
    const char *doing; /* "reading" */
    uint64_t done_bytes;
    uint64_t total_bytes; /* 0: not known */
    int64_t begun_ms;
    int64_t told_ms;
    bool terminal;
    bool told;
};

struct view {
    const char *command;              /* "kelp log cat", for messages */
    char log[LIMIT_LOG_PATH_BYTES];   /* the log's directory */
    char state[LIMIT_LOG_PATH_BYTES]; /* the state's that belongs to it; "" when there is none */
    struct disk_uv *uv;
    struct view_disk *disk; /* counts what is read, writes nothing */
    struct inspect inspect;
    bool opened;
    bool damage_told;
    struct codec *codec;
    struct out *out; /* borrowed */
    struct progress progress;
};

/* Look at DIR.
 *
 *   command, out   borrowed until view_close
 *   answers        OPTIONS_EXIT_OK, also when damage was found (inspect.damage_status); else the exit
 *                  code, and what is wrong was printed. view_close in any case
 */
int view_open(struct view *view, const char *command, const char *directory,
              enum inspect_depth depth, struct out *out);
/* Look again, at the same place. Answers as view_open. */
int view_reopen(struct view *view);
void view_close(struct view *view);

/* Say why a directory cannot be read. Answers the exit code. */
int view_failure(const struct view *view, const char *path, int status);
/* Say what is damaged, if anything, once. Answers the exit code, OPTIONS_EXIT_OK when nothing is. */
int view_damage(struct view *view);
/* The exit code when printing is over: 1 when the output could not be written (said), else `code`. */
int view_ending(const struct view *view, int code);

/* Read the frames of [from, to], oldest first, that are not void. Where the owner drops segments faster
 * than we read, what was missed is said and reading goes on.
 *
 *   on_frame   lent during that call; another answer than 0 ends the reading
 *   answers    OPTIONS_EXIT_OK; else the exit code, and what is wrong was printed
 */
int view_frames(struct view *view, uint64_t from, uint64_t to,
                int (*on_frame)(void *context, const struct log_frame *frame), void *context);

/* Lend one frame.
 *   answers   OPTIONS_EXIT_OK; OPTIONS_EXIT_NOTHING: there is none at this offset (nothing is printed);
 *             else the exit code, and what is wrong was printed */
int view_frame(struct view *view, uint64_t offset, struct log_frame *out_frame);

/* Columns that offsets and terms take in a table: more after a restore, which lets offsets jump by 2^40 and more
 * (statemachine/rebirth.h), and terms by a million. */
#define VIEW_OFFSET_WIDTH      10
#define VIEW_TERM_WIDTH        6
#define VIEW_TERM_WIDTH_JUMPED 10
int view_offset_width(const struct view *view);
int view_term_width(const struct view *view);

/* The segment a sequence names; NULL when there is none. */
const struct inspect_segment *view_segment(const struct view *view, uint64_t sequence);

void progress_begin(struct progress *progress, const char *command, const char *doing,
                    uint64_t total_bytes);
void progress_tick(struct progress *progress, uint64_t bytes);
/* Take the line off the terminal. */
void progress_end(struct progress *progress);
/* Milliseconds of a clock that only goes forward. */
int64_t view_now_ms(void);

#endif
