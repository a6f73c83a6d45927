#include "nodes/cli/log_print.h"

#include "nodes/options.h"
#include "schemas/check.h"

#include <inttypes.h>
#include <stdio.h>

#define WIDTH_TIME   24
#define WIDTH_LOCAL  28
#define WIDTH_KIND   26
#define WIDTH_OP     8
#define WIDTH_KEY    48
#define WIDTH_SIZE   8
#define WIDTH_ORIGIN 14
#define WIDTH_USER   16
#define WIDTH_SEQ    10
#define WIDTH_NODE   14

bool form_parse(const char *text, enum form *out)
{
    static const struct {
        const char *text;
        enum form form;
    } forms[] = {
        {"table", FORM_TABLE}, {"text", FORM_TABLE}, {"wide", FORM_WIDE}, {"json", FORM_JSON},
        {"jsonl", FORM_JSONL}, {"raw", FORM_RAW},    {"hex", FORM_HEX},
    };
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        if (strcmp(text, forms[i].text) == 0) {
            *out = forms[i].form;
            return true;
        }
    }
    return false;
}

void printer_init(struct printer *printer, struct view *view, const struct selection *selection,
                  enum form form, bool unmask)
{
    *printer = (struct printer){
        .view = view,
        .selection = selection,
        .form = form,
        .unmask = unmask,
        .most = UINT64_MAX,
    };
    out_init(&printer->body, -1);
    printer->body.local = view->out->local;
}

void printer_deinit(struct printer *printer)
{
    out_deinit(&printer->body);
}

/* -- the table -------------------------------------------------------------------------------- */

static void table_head(struct printer *printer, bool wide)
{
    struct out *out = printer->view->out;
    printer->offset_width = view_offset_width(printer->view);
    printer->term_width = view_term_width(printer->view);
    const int time = out->local ? WIDTH_LOCAL : WIDTH_TIME;
    out_colour(out, COLOUR_HEAD);
    out_print(out, "%*s %*s %-*s %-*s %-*s %-*s %*s", printer->offset_width, "OFFSET",
              printer->term_width, "TERM", time, "TIME", WIDTH_KIND, "KIND", WIDTH_OP, "OP",
              WIDTH_KEY, "KEY", WIDTH_SIZE, "SIZE");
    if (wide) {
        out_print(out, " %-*s %-*s %*s %-*s %s", WIDTH_ORIGIN, "ORIGIN", WIDTH_USER, "USER",
                  WIDTH_SEQ, "SEQ", WIDTH_NODE, "NODE", "TRACE");
    }
    out_colour(out, COLOUR_NONE);
    out_character(out, '\n');
}

/* A column that says "-" when it is empty. */
static void table_text(struct out *out, const char *text, size_t width)
{
    out_plain(out, text[0] == '\0' ? "-" : text, width);
}

static void table_kind(struct out *out, const struct item *item)
{
    size_t width = WIDTH_KIND;
    out_colour(out, item->decoded || item->frame_type == LOG_TYPE_BARRIER ||
                            item->frame_type == LOG_TYPE_CHANGE
                        ? COLOUR_KIND
                        : COLOUR_BAD);
    if (item->outer != NULL) {
        const size_t outer = strlen(item->outer) + 1;
        out_text(out, item->outer);
        out_character(out, '/');
        width = width > outer ? width - outer : 0;
    }
    const size_t size = strlen(item->kind);
    out_text(out, item->kind);
    out_colour(out, COLOUR_NONE);
    out_pad(out, size < width ? width - size : 0);
}

static void table_line(struct printer *printer, const struct item *item)
{
    struct out *out = printer->view->out;
    const bool wide = printer->form == FORM_WIDE;
    if (printer->printed == 0) {
        table_head(printer, wide);
    }
    out_u64_wide(out, item->offset, (size_t)printer->offset_width);
    out_character(out, ' ');
    out_u64_wide(out, item->term, (size_t)printer->term_width);
    out_character(out, ' ');
    const size_t time_width = out->local ? WIDTH_LOCAL : WIDTH_TIME;
    const size_t time = out_time(out, item->time_ms);
    out_pad(out, time < time_width ? time_width - time + 1 : 1);
    table_kind(out, item);
    out_character(out, ' ');
    table_text(out, item->op, WIDTH_OP);
    out_character(out, ' ');
    table_text(out, item->key, WIDTH_KEY);
    out_character(out, ' ');
    out_u64_wide(out, item->size, WIDTH_SIZE);
    if (wide) {
        out_character(out, ' ');
        table_text(out, item->origin, WIDTH_ORIGIN);
        out_character(out, ' ');
        table_text(out, item->user, WIDTH_USER);
        out_character(out, ' ');
        out_u64_wide(out, item->sequence, WIDTH_SEQ);
        out_character(out, ' ');
        table_text(out, item->node, WIDTH_NODE);
        out_character(out, ' ');
        if (item->trace == 0) {
            out_character(out, '-');
        } else {
            out_hex64(out, item->trace);
        }
    }
    out_character(out, '\n');
}

/* -- JSON ------------------------------------------------------------------------------------- */

static void json_item(struct printer *printer, const struct item *item)
{
    struct out *out = printer->view->out;
    out_text(out, "{\"offset\":");
    out_u64(out, item->offset);
    out_text(out, ",\"term\":");
    out_u64(out, item->term);
    out_text(out, ",\"time\":");
    if (item->time_ms > 0) {
        out_character(out, '"');
        out_time(out, item->time_ms);
        out_character(out, '"');
    } else {
        out_text(out, "null");
    }
    out_text(out, ",\"kind\":\"");
    if (item->outer != NULL) {
        out_text(out, item->outer);
        out_character(out, '/');
    }
    out_text(out, item->kind);
    out_text(out, "\",\"op\":\"");
    out_text(out, item->op);
    out_text(out, "\",\"key\":");
    out_json_text(out, item->key);
    out_text(out, ",\"size\":");
    out_u64(out, item->size);
    out_text(out, ",\"origin\":");
    out_json_text(out, item->origin);
    out_text(out, ",\"user\":");
    out_json_text(out, item->user);
    out_text(out, ",\"sequence\":");
    out_u64(out, item->sequence);
    out_text(out, ",\"node\":");
    out_json_text(out, item->node);
    out_text(out, ",\"trace\":\"");
    if (item->trace != 0) {
        out_hex64(out, item->trace);
    }
    out_text(out, "\",\"masked\":");
    out_text(out, item->secret && !printer->unmask ? "true" : "false");
    out_text(out, ",\"body\":");
    out_put(out, printer->body.data, printer->body.size);
    out_character(out, '}');
}

/* -- bytes ------------------------------------------------------------------------------------ */

static void hex_lines(struct out *out, struct bytes bytes)
{
    static const char hex[] = "0123456789abcdef";
    for (size_t at = 0; at < bytes.size; at += 16) {
        char line[80];
        memset(line, ' ', sizeof line);
        for (int i = 7; i >= 0; i--) {
            line[7 - i] = hex[(at >> (4 * i)) & 15];
        }
        size_t column = 10;
        const size_t count = bytes.size - at < 16 ? bytes.size - at : 16;
        for (size_t i = 0; i < count; i++) {
            const uint8_t byte = bytes.data[at + i];
            line[column] = hex[byte >> 4];
            line[column + 1] = hex[byte & 15];
            column += i == 7 ? 4 : 3;
            line[60 + i] = byte >= 0x20 && byte < 0x7f ? (char)byte : '.';
        }
        out_put(out, line, 60 + count);
        out_character(out, '\n');
    }
}

static void hex_item(struct printer *printer, const struct item *item)
{
    struct out *out = printer->view->out;
    out_print(out, "# offset %" PRIu64 " %s%s%s ", item->offset,
              item->outer == NULL ? "" : item->outer, item->outer == NULL ? "" : "/", item->kind);
    table_text(out, item->key, 0);
    out_print(out, " %" PRIu64 " bytes\n", item->size);
    hex_lines(out, item->bytes);
}

/* Whether the bytes of an item hold a secret: its own, or one of those inside. The items inside come
 * after the one around them, so that one is looked into here. */
static int secret_on_item(void *context, const struct item *item)
{
    *(bool *)context = *(bool *)context || item->secret;
    return 0;
}

static bool frame_holds_secret(struct codec *codec, const struct log_frame *frame)
{
    int64_t last_ms = 0;
    bool secret = false;
    (void)items_glance(codec, frame, &last_ms, secret_on_item, &secret);
    return secret;
}

/* -- items ------------------------------------------------------------------------------------ */

static bool form_needs_body(enum form form)
{
    return form == FORM_JSON || form == FORM_JSONL;
}

static bool form_is_bytes(enum form form)
{
    return form == FORM_RAW || form == FORM_HEX;
}

/* Whether an item is meant; its body is in printer->body when it is needed. */
static bool printer_takes(struct printer *printer, const struct item *item, bool body)
{
    out_clear(&printer->body);
    if (selection_reads_body(printer->selection)) {
        item_body(printer->view->codec, item, printer->unmask, &printer->body);
        return selection_matches(printer->selection, item, out_bytes(&printer->body));
    }
    if (!selection_matches(printer->selection, item, (struct bytes){0})) {
        return false;
    }
    if (body && !printer->quiet && printer->matched >= printer->skip) {
        item_body(printer->view->codec, item, printer->unmask, &printer->body);
    }
    return true;
}

static int printer_refuse(struct printer *printer, const struct item *item)
{
    out_flush(printer->view->out);
    fprintf(stderr,
            "%s: the record at offset %" PRIu64
            " holds a secret; its bytes are shown to root, with "
            "--show-secrets\n",
            printer->view->command, item->offset);
    printer->code = VIEW_EXIT_REFUSED;
    return 1;
}

static void printer_put(struct printer *printer, const struct item *item)
{
    struct out *out = printer->view->out;
    switch (printer->form) {
    case FORM_TABLE:
    case FORM_WIDE:
        table_line(printer, item);
        break;
    case FORM_JSON:
        out_text(out, printer->printed == 0 ? "[" : ",\n ");
        json_item(printer, item);
        break;
    case FORM_JSONL:
        json_item(printer, item);
        out_character(out, '\n');
        break;
    case FORM_RAW:
        out_put(out, item->bytes.data, item->bytes.size);
        break;
    case FORM_HEX:
        hex_item(printer, item);
        break;
    }
}

struct printing {
    struct printer *printer;
    const struct log_frame *frame;
    bool secret; /* a record of this frame is one; only known for raw and hex */
};

static int printer_on_item(void *context, const struct item *item)
{
    const struct printing *printing = context;
    struct printer *printer = printing->printer;
    printer->looked_first = printer->looked == 0 ? item->offset : printer->looked_first;
    printer->looked_last = item->offset;
    printer->looked++;
    if (!printer_takes(printer, item, form_needs_body(printer->form))) {
        return 0;
    }
    const bool skipped = printer->matched < printer->skip;
    printer->matched++;
    if (printer->quiet || skipped) {
        return 0;
    }
    /* Records inside a batch are in its bytes too: -o raw and -o hex show them once, with it. */
    const bool bytes = form_is_bytes(printer->form);
    if (bytes && !printer->unmask &&
        (item->secret || (printing->secret && item->outer == NULL && !item->decoded) ||
         (printing->secret && (item->batch != NULL || item->snapshot != NULL)))) {
        return printer_refuse(printer, item);
    }
    if (bytes && item->outer != NULL && !printer->selection->filters) {
        return 0;
    }
    printer_put(printer, item);
    printer->printed++;
    return printer->printed >= printer->most || printer->view->out->status != 0;
}

int printer_on_frame(void *context, const struct log_frame *frame)
{
    struct printer *printer = context;
    struct printing printing = {.printer = printer, .frame = frame};
    const bool whole = selection_reads_body(printer->selection) ||
                       (form_needs_body(printer->form) && !printer->quiet);
    if (form_is_bytes(printer->form) && !printer->unmask) {
        printing.secret = frame_holds_secret(printer->view->codec, frame);
    }
    const int answer = (whole ? items_walk : items_glance)(
        printer->view->codec, frame, &printer->last_ms, printer_on_item, &printing);
    return answer != 0;
}

void printer_finish(struct printer *printer)
{
    if (printer->form == FORM_JSON && printer->code == OPTIONS_EXIT_OK) {
        out_text(printer->view->out, printer->printed == 0 ? "[]\n" : "]\n");
    }
}

/* -- at length -------------------------------------------------------------------------------- */

static void detail_text(struct out *out, const char *name, const char *text)
{
    if (text[0] != '\0') {
        out_print(out, "%-9s ", name);
        out_plain(out, text, 0);
        out_character(out, '\n');
    }
}

static int detail_on_item(void *context, const struct item *item)
{
    const struct printing *printing = context;
    struct printer *printer = printing->printer;
    struct out *out = printer->view->out;
    if (!printer_takes(printer, item, true)) {
        return 0;
    }
    printer->matched++;
    if (printer->printed > 0) {
        out_character(out, '\n');
    }
    printer->printed++;
    out_print(out, "offset    %" PRIu64 "\nterm      %" PRIu64 "\ntime      ", item->offset,
              item->term);
    out_time(out, item->time_ms);
    out_print(out, "\nkind      %s%s%s\n", item->outer == NULL ? "" : item->outer,
              item->outer == NULL ? "" : "/", item->kind);
    detail_text(out, "op", item->op);
    detail_text(out, "key", item->key);
    detail_text(out, "origin", item->origin);
    detail_text(out, "user", item->user);
    detail_text(out, "node", item->node);
    if (item->sequence != 0) {
        out_print(out, "sequence  %" PRIu64 "\n", item->sequence);
    }
    if (item->trace != 0) {
        out_print(out, "trace     %016" PRIx64 "\n", item->trace);
    }
    out_print(out, "size      %" PRIu64 "\n", item->size);
    if (item->decoded) {
        out_print(out, "body      ");
        out_json_pretty(out, out_bytes(&printer->body), 10);
        out_character(out, '\n');
        if (item->secret && !printer->unmask) {
            out_print(out, "masked    yes; root sees it with --show-secrets\n");
        }
    }
    return out->status != 0;
}

int printer_detail(struct printer *printer, const struct log_frame *frame)
{
    if (printer->form != FORM_TABLE) {
        return printer_on_frame(printer, frame);
    }
    struct printing printing = {.printer = printer, .frame = frame};
    return items_walk(printer->view->codec, frame, &printer->last_ms, detail_on_item, &printing) !=
           0;
}
