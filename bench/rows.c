#include "bench/rows.h"

#include <math.h>
#include <stdio.h>

static void number_print(const char *key, double value)
{
    if (isfinite(value)) {
        printf(", \"%s\": %.6g", key, value);
    } else {
        printf(", \"%s\": null", key);
    }
}

void rows_begin(struct rows *rows, const char *bench)
{
    rows->any = false;
    printf("{\"bench\": \"%s\", \"rows\": [", bench);
    fflush(stdout);
}

void rows_add(struct rows *rows, const struct row_figure *figure)
{
    const bool beside = figure->beside != NULL;
    const double quotient =
        figure->ratio > 0 ? figure->ratio : figure->value / figure->beside_value;
    const double ratio = beside ? quotient : NAN;
    const double judged = figure->goal_of_ratio ? ratio : figure->value;
    const bool reached =
        figure->better == ROWS_MORE ? judged >= figure->goal : judged <= figure->goal;
    printf("%s\n {\"row\": \"%s\", \"figure\": \"%s\"", rows->any ? "," : "", figure->row,
           figure->figure);
    number_print("value", figure->value);
    number_print("low", figure->value);
    number_print("high", figure->value);
    printf(", \"repeat\": %d", isfinite(figure->value) ? 1 : 0);
    if (beside) {
        printf(", \"beside\": \"%s\"", figure->beside);
    } else {
        printf(", \"beside\": null");
    }
    number_print("beside_value", beside ? figure->beside_value : NAN);
    number_print("ratio", ratio);
    number_print("goal", figure->goal > 0 ? figure->goal : NAN);
    printf(", \"goal_of\": \"%s\", \"better\": \"%s\", \"holds\": %s, \"note\": null}",
           figure->goal_of_ratio ? "ratio" : "value", figure->better == ROWS_MORE ? "more" : "less",
           figure->goal == 0 || !isfinite(judged) ? "null"
           : reached                              ? "true"
                                                  : "false");
    rows->any = true;
    fflush(stdout);
}

void rows_end(void)
{
    printf("\n]}\n");
    fflush(stdout);
}
