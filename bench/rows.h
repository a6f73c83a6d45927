/* The figures of a bench in the shape of all benches: one JSON document on standard output, as
 * rows.py describes it. A program prints what one run found; repetitions are bench/run's.
 *
 *      rows_begin   {"bench": "log", "rows": [
 *      rows_add     a row: one figure of one case
 *      rows_end     ]}
 *
 * Open, so that a process that forks can hand the place on: a child adds, its parent sets `any`.
 */
#ifndef KELP_BENCH_ROWS_H
#define KELP_BENCH_ROWS_H

#include <stdbool.h>

enum rows_better {
    ROWS_MORE,
    ROWS_LESS,
};

struct row_figure {
    const char *row;    /* the case: "128 B x 64" */
    const char *figure; /* what was measured, with its unit: "records/s" */
    double value;       /* not finite: it could not be measured */
    enum rows_better better;
    const char *beside; /* who did the same in the same run; NULL: nobody, the next two are empty */
    double beside_value;
    double ratio;       /* ours over theirs where turns were paired; 0: value / beside_value */
    double goal;        /* 0: the project named none */
    bool goal_of_ratio; /* of the value otherwise */
};

struct rows {
    bool any; /* a row has been printed */
};

void rows_begin(struct rows *rows, const char *bench);
/* Flushes, so that a child's rows come before those of the next. */
void rows_add(struct rows *rows, const struct row_figure *figure);
void rows_end(void);

#endif
