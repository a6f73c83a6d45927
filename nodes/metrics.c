#include "nodes/metrics.h"

#include "schemas/check.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* -- histograms -------------------------------------------------------------------------------- */

static uint64_t metrics_bound_us(uint32_t bucket)
{
    return (uint64_t)METRICS_BUCKET_US << bucket;
}

void metrics_observe_us(struct metrics_histogram *histogram, uint64_t us)
{
    uint32_t bucket = 0;
    while (bucket < METRICS_BUCKETS && us > metrics_bound_us(bucket)) {
        bucket++;
    }
    histogram->counts[bucket]++;
    histogram->sum_us += us;
}

uint64_t metrics_observed(const struct metrics_histogram *histogram)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i <= METRICS_BUCKETS; i++) {
        count += histogram->counts[i];
    }
    return count;
}

uint64_t metrics_quantile_us(const struct metrics_histogram *histogram, uint32_t permille)
{
    CHECK(permille <= 1000);

    const uint64_t count = metrics_observed(histogram);
    const uint64_t wanted = (count * permille + 999) / 1000;
    uint64_t seen = 0;
    for (uint32_t i = 0; i <= METRICS_BUCKETS && count > 0; i++) {
        seen += histogram->counts[i];
        if (seen >= wanted && seen > 0) {
            return metrics_bound_us(i);
        }
    }
    return 0;
}

/* -- text -------------------------------------------------------------------------------------- */

void metrics_page_init(struct metrics_page *page, char *memory, size_t capacity)
{
    *page = (struct metrics_page){.data = memory, .capacity = capacity};
}

struct bytes metrics_page_bytes(const struct metrics_page *page)
{
    return bytes_of(page->data, page->overflowed ? 0 : page->size);
}

__attribute__((format(printf, 2, 3))) static void metrics_print(struct metrics_page *page,
                                                                const char *format, ...)
{
    const size_t room = page->capacity - page->size;
    va_list arguments;
    va_start(arguments, format);
    const int size = vsnprintf(page->data + page->size, room, format, arguments);
    va_end(arguments);
    if (size < 0 || (size_t)size >= room) {
        page->overflowed = true;
        return;
    }
    page->size += (size_t)size;
}

/* A label's value: backslash, quote and newline are escaped, other bytes are as they are. */
static void metrics_print_value(struct metrics_page *page, const char *value)
{
    for (const char *at = value; *at != '\0'; at++) {
        if (*at == '\n') {
            metrics_print(page, "\\n");
        } else {
            metrics_print(page, "%s%c", *at == '\\' || *at == '"' ? "\\" : "", *at);
        }
    }
}

/* "name_suffix{a="b",le="..."} ", up to the number. bound: NULL, or the value of `le`. */
static void metrics_print_series(struct metrics_page *page, const char *suffix,
                                 const struct metrics_label *labels, uint32_t label_count,
                                 const char *bound)
{
    CHECK(page->family != NULL);
    metrics_print(page, "%s%s", page->family, suffix);
    if (label_count > 0 || bound != NULL) {
        for (uint32_t i = 0; i < label_count; i++) {
            metrics_print(page, "%c%s=\"", i == 0 ? '{' : ',', labels[i].name);
            metrics_print_value(page, labels[i].value);
            metrics_print(page, "\"");
        }
        if (bound != NULL) {
            metrics_print(page, "%cle=\"%s\"", label_count == 0 ? '{' : ',', bound);
        }
        metrics_print(page, "}");
    }
    metrics_print(page, " ");
}

static void metrics_print_seconds(struct metrics_page *page, uint64_t us)
{
    metrics_print(page, "%" PRIu64 ".%06" PRIu64, us / 1000000, us % 1000000);
}

/* -- families and samples ---------------------------------------------------------------------- */

static bool metrics_ends(const char *text, const char *end)
{
    const size_t size = strlen(text);
    return size >= strlen(end) && strcmp(text + size - strlen(end), end) == 0;
}

void metrics_family(struct metrics_page *page, enum metrics_type type, const char *name,
                    const char *help)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    CHECK(name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_")] == '\0');
    CHECK((type == METRICS_COUNTER) == metrics_ends(name, "_total"));
    CHECK(strpbrk(help, "\n\\") == NULL);

    page->family = name;
    page->type = type;
    metrics_print(page, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, types[type]);
}

void metrics_sample(struct metrics_page *page, const struct metrics_label *labels,
                    uint32_t label_count, uint64_t value)
{
    CHECK(page->type != METRICS_HISTOGRAM);
    metrics_print_series(page, "", labels, label_count, NULL);
    metrics_print(page, "%" PRIu64 "\n", value);
}

void metrics_sample_us(struct metrics_page *page, const struct metrics_label *labels,
                       uint32_t label_count, uint64_t us)
{
    CHECK(page->type != METRICS_HISTOGRAM);
    metrics_print_series(page, "", labels, label_count, NULL);
    metrics_print_seconds(page, us);
    metrics_print(page, "\n");
}

void metrics_sample_histogram(struct metrics_page *page, const struct metrics_label *labels,
                              uint32_t label_count, const struct metrics_histogram *histogram)
{
    CHECK(page->type == METRICS_HISTOGRAM);
    uint64_t count = 0;
    for (uint32_t i = 0; i <= METRICS_BUCKETS; i++) {
        char bound[32] = "+Inf";
        if (i < METRICS_BUCKETS) {
            (void)snprintf(bound, sizeof bound, "%" PRIu64 ".%06" PRIu64,
                           metrics_bound_us(i) / 1000000, metrics_bound_us(i) % 1000000);
        }
        count += histogram->counts[i];
        metrics_print_series(page, "_bucket", labels, label_count, bound);
        metrics_print(page, "%" PRIu64 "\n", count);
    }
    metrics_print_series(page, "_sum", labels, label_count, NULL);
    metrics_print_seconds(page, histogram->sum_us);
    metrics_print(page, "\n");
    metrics_print_series(page, "_count", labels, label_count, NULL);
    metrics_print(page, "%" PRIu64 "\n", count);
}

void metrics_counter(struct metrics_page *page, const char *name, const char *help, uint64_t value)
{
    metrics_family(page, METRICS_COUNTER, name, help);
    metrics_sample(page, NULL, 0, value);
}

void metrics_gauge(struct metrics_page *page, const char *name, const char *help, uint64_t value)
{
    metrics_family(page, METRICS_GAUGE, name, help);
    metrics_sample(page, NULL, 0, value);
}

void metrics_gauge_us(struct metrics_page *page, const char *name, const char *help, uint64_t us)
{
    metrics_family(page, METRICS_GAUGE, name, help);
    metrics_sample_us(page, NULL, 0, us);
}

void metrics_histogram(struct metrics_page *page, const char *name, const char *help,
                       const struct metrics_histogram *histogram)
{
    metrics_family(page, METRICS_HISTOGRAM, name, help);
    metrics_sample_histogram(page, NULL, 0, histogram);
}

void metrics_labelled(struct metrics_page *page, const char *label, const char *value,
                      uint64_t number)
{
    const struct metrics_label labels[] = {{label, value}};
    metrics_sample(page, labels, 1, number);
}
