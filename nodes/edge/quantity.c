#include "nodes/edge/quantity.h"

#include <stdlib.h>
#include <string.h>

__extension__ typedef unsigned __int128 quantity_wide;

/* value * 10^power, rounded up; false when it does not fit. */
static bool quantity_scale(quantity_wide value, int power, quantity_wide *out)
{
    bool rest = false;
    for (; power > 0; power--) {
        if (value > (quantity_wide)INT64_MAX * 1000000) {
            return false;
        }
        value *= 10;
    }
    for (; power < 0; power++) {
        rest = rest || value % 10 != 0;
        value /= 10;
    }
    *out = value + rest;
    return true;
}

/* What a suffix means: a power of ten, and for the binary ones a factor. */
static bool quantity_suffix(const char *suffix, int *out_power, uint64_t *out_factor)
{
    static const char decimal[] = "numkMGTPE"; /* 10^-9, -6, -3, 3, 6 ... 18 */
    static const char binary[] = "KMGTPE";
    *out_power = 0;
    *out_factor = 1;
    if (suffix[0] == 0) {
        return true;
    }
    if (suffix[1] == 'i' && suffix[2] == 0) {
        const char *place = strchr(binary, suffix[0]);
        *out_factor = place == NULL ? 0 : 1ull << (10 * (place - binary + 1));
        return place != NULL;
    }
    if ((suffix[0] == 'e' || suffix[0] == 'E') && suffix[1] != 0) {
        char *end;
        const long power = strtol(suffix + 1, &end, 10);
        *out_power = (int)power;
        return *end == 0 && end != suffix + 1 && power >= -30 && power <= 30;
    }
    const char *place = strchr(decimal, suffix[0]);
    if (place == NULL || suffix[1] != 0) {
        return false;
    }
    const int step = (int)(place - decimal) - 3; /* n -3, u -2, m -1, k 0 ... */
    *out_power = 3 * (step < 0 ? step : step + 1);
    return true;
}

bool quantity_parse(const char *text, int64_t *out_milli)
{
    quantity_wide value = 0;
    int digits = 0, fraction = 0;
    bool point = false;
    text += *text == '+';
    for (; (*text >= '0' && *text <= '9') || (*text == '.' && !point); text++) {
        if (*text == '.') {
            point = true;
            continue;
        }
        if (value > (quantity_wide)INT64_MAX * 100) {
            return false;
        }
        value = value * 10 + (unsigned)(*text - '0');
        digits++;
        fraction += point;
    }
    int power;
    uint64_t factor;
    if (digits == 0 || !quantity_suffix(text, &power, &factor)) {
        return false;
    }
    if (factor > 1 &&
        value > INT64_MAX) { /* with the largest factor, 2^60, more would not fit 128 bits */
        *out_milli = INT64_MAX;
        return true;
    }
    value *= factor;
    if (!quantity_scale(value, power - fraction + 3, &value)) {
        *out_milli = INT64_MAX;
        return true;
    }
    *out_milli = value > INT64_MAX ? INT64_MAX : (int64_t)value;
    return true;
}
