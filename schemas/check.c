#include "schemas/check.h"

#include <stdio.h>
#include <stdlib.h>

void check_failed(const char *claim, const char *file, int line)
{
    fprintf(stderr, "level=error event=check_failed claim=\"%s\" at=%s:%d\n", claim, file, line);
    abort();
}
