/* What the closets of log_bench share: log_bench.c (arguments, the load, appends against the raw
 * writer), log_bench_replay.c (opening and reading back), log_bench_table.c (how figures are
 * shown).
 */
#ifndef KELP_BENCH_LOG_BENCH_H
#define KELP_BENCH_LOG_BENCH_H

#include "bench/rows.h"
#include "log/disk_uv.h"
#include "log/log.h"

#define FLIGHT_MAX 512u

/* -- log_bench_table.c ----------------------------------------------------------------------- */

enum format {
    FORMAT_TABLE,
    FORMAT_CSV,
    FORMAT_JSON, /* rows.h: the figures that others are compared with */
};

/* One figure of a row. The names make the heading; `name` says its unit. */
struct field {
    const char *name;
    int decimals;
    double value;
};

/* Print a row as table or csv, and the heading before it when it is the first one of its table.
 *
 *   table      what csv calls it
 */
void table_row(enum format format, const char *table, bool first, const struct field *fields,
               size_t field_count);
/* The machine in one line, so that a table or csv can be quoted without the one who took it. Measures a
 * few hundred fdatasyncs in `top`, an existing directory. */
void table_facts(enum format format, const char *top);

uint64_t now_ns(void);
/* Sorts. `share` is 0 .. 1; 0 when there are no values. */
double percentile_us(uint32_t *values, uint32_t count, double share);

/* All figures as JSON; used when that is the format. */
extern struct rows log_bench_rows;

/* -- log_bench.c ----------------------------------------------------------------------------- */

/* Append records of one payload, `flight` of them under way at any time. */
struct load {
    uint32_t flight;
    uint64_t until_ns;      /* no append is begun from here on */
    uint64_t until_records; /* nor after this many */
    uint64_t pause_ms;      /* wait so long before each; for flight 1 */
};

/* Returns when all are durable; how many. */
uint64_t load_run(struct log *log, const struct load *load, struct bytes payload);
/* Open what is in `path`, keeping `history_bytes`. What fails ends the program. */
void bench_log_open(struct log *log, struct disk_uv *uv, const char *path, uint64_t history_bytes);
/* Close and wait for it. */
void bench_log_close(struct log *log);

/* -- log_bench_replay.c ---------------------------------------------------------------------- */

/* Fill a log with `bytes` of frames, open it and read it back, with the page cache empty and full.
 *
 *   path       of the log; does not exist
 */
void replay_bench(enum format format, bool first, struct disk_uv *uv, const char *path,
                  struct bytes payload, uint64_t bytes);

#endif
