/* Items on stdout, in one of the forms of -o. */
#ifndef KELP_NODES_CLI_LOG_PRINT_H
#define KELP_NODES_CLI_LOG_PRINT_H

#include "nodes/cli/log_select.h"
#include "nodes/cli/log_view.h"

enum form { FORM_TABLE, FORM_WIDE, FORM_JSON, FORM_JSONL, FORM_RAW, FORM_HEX };

struct printer {
    struct view *view; /* borrowed, and what it has for out and codec */
    const struct selection *selection;
    enum form form;
    bool unmask;
    uint64_t skip;    /* so many items that match are passed over first */
    uint64_t most;    /* and no more than this printed */
    uint64_t matched; /* items that match, printed or not */
    uint64_t printed;
    uint64_t looked;                    /* items there were, meant or not */
    uint64_t looked_first, looked_last; /* offsets of these */
    int offset_width, term_width;       /* of the table, decided with its head */
    bool quiet;                         /* count only */
    int code;        /* OPTIONS_EXIT_OK, or why it ended: VIEW_EXIT_REFUSED (said) */
    int64_t last_ms; /* for items without a time */
    struct out body; /* memory */
};

/* Read "wide", "json", "jsonl", "raw", "hex"; "table" and "text" are the default. false: none of them. */
bool form_parse(const char *text, enum form *out);

void printer_init(struct printer *printer, struct view *view, const struct selection *selection,
                  enum form form, bool unmask);
void printer_deinit(struct printer *printer);
/* Print the items of a frame that are meant.
 *   context   the printer
 *   answers   0: go on; 1: enough (printer->code, view->out->status say why, or `most` is reached) */
int printer_on_frame(void *context, const struct log_frame *frame);
/* What comes after the last item: closes the array of JSON. */
void printer_finish(struct printer *printer);

/* One frame at length, for `get`: fields one below the other, bodies laid out. Form as above.
 *   answers   as printer_on_frame */
int printer_detail(struct printer *printer, const struct log_frame *frame);

#endif
