/* metrics.h, health.h and monitor.h: what a scraper and a probe read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "nodes/monitor.h"
#include "schemas/check.h"

/* -- a strict reader of the text format -------------------------------------------------------- */

static const char *read_word(const char *at, const char *allowed, char out[128])
{
    const size_t size = strspn(at, allowed);
    assert_in_range(size, 1, 127);
    memcpy(out, at, size);
    out[size] = '\0';
    return at + size;
}

#define NAME "abcdefghijklmnopqrstuvwxyz_0123456789"

/* {a="b",c="d"}: names are words, values escape what must be. Answers what follows. */
static const char *read_labels(const char *at)
{
    char word[128];
    if (*at != '{') {
        return at;
    }
    do {
        at = read_word(at + 1, NAME, word);
        assert_memory_equal(at, "=\"", 2);
        for (at += 2; *at != '"'; at++) {
            assert_true((unsigned char)*at >= ' ');
            if (*at == '\\') {
                at++;
                assert_non_null(strchr("\\\"n", *at));
            }
        }
        at++;
    } while (*at == ',');
    assert_int_equal(*at, '}');
    return at + 1;
}

/* Every line of a page is as the format wants it; each family is told once, with help and type before its
 * samples; no series is told twice; buckets rise and end with the count. */
static void read_page(const char *page)
{
    char family[128] = "";
    char type[128] = "";
    double bucket = 0;
    const char *lines[4096];
    size_t count = 0;
    for (const char *at = page; *at != '\0';) {
        const char *end = strchr(at, '\n');
        assert_non_null(end); /* the last line ends, too */
        assert_in_range(count, 0, 4095);
        lines[count++] = at;
        char name[128];
        if (strncmp(at, "# HELP ", 7) == 0) {
            at = read_word(at + 7, NAME, family);
            assert_int_equal(*at, ' ');
            assert_true(end - at > 1);
        } else if (strncmp(at, "# TYPE ", 7) == 0) {
            at = read_word(at + 7, NAME, name);
            assert_string_equal(name, family);
            (void)read_word(at + 1, NAME, type);
            bucket = 0;
        } else {
            const char *labels = read_word(at, NAME, name);
            const size_t size = strlen(family);
            assert_memory_equal(name, family, size);
            if (strcmp(type, "histogram") != 0) {
                assert_int_equal(strlen(name), size);
            }
            const char *after = read_labels(labels);
            assert_int_equal(*after, ' ');
            char *number_end;
            const double number = strtod(after + 1, &number_end);
            assert_ptr_equal(number_end, end);
            if (strcmp(name + size, "_bucket") == 0) {
                const bool first = strstr(labels, "le=\"0.000025\"") < end &&
                                   strstr(labels, "le=\"0.000025\"") != NULL;
                assert_true(first || number >= bucket);
                bucket = number;
            } else if (strcmp(name + size, "_count") == 0) {
                assert_true(number == bucket);
            }
            for (size_t i = 0; i + 1 < count; i++) { /* series are told once */
                assert_false(strncmp(lines[i], lines[count - 1],
                                     (size_t)(after + 1 - lines[count - 1])) == 0);
            }
        }
        at = end + 1;
    }
    assert_true(count > 0);
}

/* -- metrics ----------------------------------------------------------------------------------- */

/* Claim: whatever a label says, the page stays one that Prometheus reads.
 * Method: quotes, backslashes, newlines and nothing as values; a strict reader, and promtool where there is
 * one. */
static void test_page_is_read(void **state)
{
    (void)state;
    static char memory[16384];
    struct metrics_page page;
    struct metrics_histogram histogram = {.sum_us = 0};
    metrics_observe_us(&histogram, 0);
    metrics_observe_us(&histogram, 25);
    metrics_observe_us(&histogram, 26);
    metrics_observe_us(&histogram, 1500000);
    metrics_observe_us(&histogram, UINT32_MAX);
    metrics_page_init(&page, memory, sizeof memory);
    metrics_gauge(&page, "kelp_one", "Help.", UINT64_MAX);
    metrics_counter(&page, "kelp_two_total", "Help.", 0);
    metrics_histogram(&page, "kelp_three_seconds", "Help.", &histogram);
    metrics_family(&page, METRICS_GAUGE, "kelp_four", "Help.");
    metrics_labelled(&page, "node", "a\"b\\c\nd", 1);
    metrics_labelled(&page, "node", "", 2);
    metrics_family(&page, METRICS_HISTOGRAM, "kelp_five_seconds", "Help.");
    const struct metrics_label labels[] = {{"verb", "get"}, {"code", "200"}};
    metrics_sample_histogram(&page, labels, 2, &histogram);
    metrics_gauge_us(&page, "kelp_six_seconds", "Help.", 1000001);
    assert_false(page.overflowed);

    read_page(memory);
    assert_non_null(strstr(memory, "kelp_four{node=\"a\\\"b\\\\c\\nd\"} 1\n"));
    assert_non_null(strstr(memory, "kelp_one 18446744073709551615\n"));
    assert_non_null(strstr(memory, "kelp_three_seconds_bucket{le=\"0.000025\"} 2\n"));
    assert_non_null(strstr(memory, "kelp_three_seconds_bucket{le=\"0.000050\"} 3\n"));
    assert_non_null(strstr(memory, "kelp_three_seconds_bucket{le=\"+Inf\"} 5\n"));
    assert_non_null(strstr(memory, "kelp_three_seconds_count 5\n"));
    assert_non_null(
        strstr(memory, "kelp_five_seconds_bucket{verb=\"get\",code=\"200\",le=\"1.638400\"} 4\n"));
    assert_non_null(strstr(memory, "kelp_six_seconds 1.000001\n"));
    assert_int_equal(metrics_quantile_us(&histogram, 500), 50);
    assert_int_equal(metrics_quantile_us(&histogram, 0), 25);
    if (system("command -v promtool >/dev/null") == 0) {
        FILE *tool = popen("promtool check metrics >/dev/null", "w");
        assert_non_null(tool);
        assert_int_equal(fwrite(memory, 1, page.size, tool), page.size);
        assert_int_equal(pclose(tool), 0);
    }
}

/* Claim: a page that does not fit is never taken for a whole one.
 * Method: every capacity below the one that it needs. */
static void test_page_overflows(void **state)
{
    (void)state;
    char memory[512];
    struct metrics_page page;
    metrics_page_init(&page, memory, sizeof memory);
    metrics_gauge(&page, "kelp_one", "Help.", 7);
    metrics_gauge(&page, "kelp_two", "Help.", 8);
    const size_t needed = page.size + 1;
    for (size_t capacity = 1; capacity <= needed; capacity++) {
        char *exact = malloc(capacity); /* so that a sanitizer sees a byte too many */
        metrics_page_init(&page, exact, capacity);
        metrics_gauge(&page, "kelp_one", "Help.", 7);
        metrics_gauge(&page, "kelp_two", "Help.", 8);
        assert_int_equal(page.overflowed, capacity < needed);
        assert_int_equal(metrics_page_bytes(&page).size, capacity < needed ? 0 : needed - 1);
        free(exact);
    }
}

/* Claim: each duration is counted in the first bucket that it fits.
 * Method: both sides of every bound. */
static void test_buckets(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < METRICS_BUCKETS; i++) {
        const uint64_t bound = (uint64_t)METRICS_BUCKET_US << i;
        struct metrics_histogram histogram = {.sum_us = 0};
        metrics_observe_us(&histogram, bound);
        metrics_observe_us(&histogram, bound + 1);
        assert_int_equal(histogram.counts[i], 1);
        assert_int_equal(histogram.counts[i + 1], 1);
        assert_int_equal(histogram.sum_us, 2 * bound + 1);
        assert_int_equal(metrics_observed(&histogram), 2);
    }
}

/* -- health ------------------------------------------------------------------------------------ */

/* Claim: a probe reads "ok" or the check that fails, by its name and with its reason, as kubectl's users know it.
 * Method: each form of the question over one good and one bad check. */
static void test_health(void **state)
{
    (void)state;
    char text[HEALTH_ANSWER_BYTES];
    struct health health = {.count = 0};
    health_add(&health, "ping", true, "%s", "");
    assert_int_equal(health_answer(&health, "livez", "", "", false, text), 200);
    assert_string_equal(text, "ok");
    assert_int_equal(health_answer(&health, "livez", "", "", true, text), 200);
    assert_string_equal(text, "[+]ping ok\nlivez check passed\n");
    assert_true(health_ok(&health));
    health_add(&health, "leader", false, "there is none of %u", 3u);
    assert_false(health_ok(&health));
    assert_int_equal(health_answer(&health, "readyz", "", "", false, text), 503);
    assert_string_equal(text,
                        "[+]ping ok\n[-]leader failed: there is none of 3\nreadyz check failed\n");
    assert_int_equal(health_answer(&health, "readyz", "ping", "", false, text), 200);
    assert_string_equal(text, "ok");
    assert_int_equal(health_answer(&health, "readyz", "leader", "", false, text), 503);
    assert_int_equal(health_answer(&health, "readyz", "", "leader", false, text), 200);
    assert_int_equal(health_answer(&health, "readyz", "nothing", "", false, text), 404);

    health = (struct health){.count = 0};
    char reason[1024];
    memset(reason, 'x', sizeof reason - 1);
    reason[sizeof reason - 1] = '\0';
    for (uint32_t i = 0; i < HEALTH_CHECKS; i++) {
        health_add(&health, "a-check-with-quite-a-long-name", false, "%s", reason);
    }
    assert_int_equal(health_answer(&health, "readyz", "", "", true, text), 503);
}

/* -- the address ------------------------------------------------------------------------------- */

static bool rig_ready;

static void rig_metrics(void *owner, struct metrics_page *page)
{
    assert_ptr_equal(owner, &rig_ready);
    metrics_process(page, "test", "test-1");
}

static void rig_health(void *owner, bool ready, struct health *health)
{
    assert_ptr_equal(owner, &rig_ready);
    health_add(health, "ping", true, "%s", "");
    if (ready) {
        health_add(health, "leader", rig_ready, "%s", "none");
    }
}

static const struct monitor_door rig_door = {&rig_ready, rig_metrics, rig_health};

/* One visit: what is sent, and all that comes back. */
struct visit {
    uv_tcp_t tcp;
    uv_connect_t connect;
    uv_write_t write;
    const char *request;
    char answer[65536];
    size_t size;
    bool closed;
};

static void visit_on_close(uv_handle_t *handle)
{
    ((struct visit *)handle->data)->closed = true;
}

static void visit_on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *out)
{
    struct visit *visit = handle->data;
    (void)size;
    *out = uv_buf_init(visit->answer + visit->size,
                       (unsigned)(sizeof visit->answer - 1 - visit->size));
}

static void visit_on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer)
{
    struct visit *visit = stream->data;
    (void)buffer;
    if (size < 0) {
        uv_close((uv_handle_t *)stream, visit_on_close);
        return;
    }
    visit->size += (size_t)size;
    visit->answer[visit->size] = '\0';
}

static void visit_on_connect(uv_connect_t *connect, int status)
{
    struct visit *visit = connect->data;
    assert_int_equal(status, 0);
    uv_buf_t buffer =
        uv_buf_init((char *)(uintptr_t)visit->request, (unsigned)strlen(visit->request));
    assert_int_equal(uv_read_start(connect->handle, visit_on_alloc, visit_on_read), 0);
    if (buffer.len > 0) {
        assert_int_equal(uv_write(&visit->write, connect->handle, &buffer, 1, NULL), 0);
    }
}

static void visit_begin(struct visit *visit, uv_loop_t *loop, uint16_t port, const char *request)
{
    struct sockaddr_in address;
    visit->request = request;
    visit->size = 0;
    visit->closed = false;
    visit->answer[0] = '\0';
    assert_int_equal(uv_ip4_addr("127.0.0.1", port, &address), 0);
    assert_int_equal(uv_tcp_init(loop, &visit->tcp), 0);
    visit->tcp.data = visit;
    visit->connect.data = visit;
    assert_int_equal(uv_tcp_connect(&visit->connect, &visit->tcp, (const struct sockaddr *)&address,
                                    visit_on_connect),
                     0);
}

static const char *visit_body(const struct visit *visit)
{
    const char *end = strstr(visit->answer, "\r\n\r\n");
    assert_non_null(end);
    return end + 4;
}

static void expect(struct visit *visit, uv_loop_t *loop, uint16_t port, const char *request,
                   const char *status)
{
    visit_begin(visit, loop, port, request);
    while (!visit->closed) {
        uv_run(loop, UV_RUN_ONCE);
    }
    assert_memory_equal(visit->answer, "HTTP/1.1 ", 9);
    assert_memory_equal(visit->answer + 9, status, strlen(status));
}

/* Claim: a plain connection gets the pages and nothing else, one request each; nonsense is answered, and more
 * visitors than there may be are sent away while those who are there are served.
 * Method: real sockets on one loop; silent visitors up to the bound, and one more. */
static void test_address(void **state)
{
    (void)state;
    static struct visit visit;
    static struct visit silent[LIMIT_MONITOR_VISITORS];
    uv_loop_t *loop = uv_default_loop();
    char reason[CONFIG_REASON_BYTES];
    uint16_t port = 0;
    assert_int_equal(monitor_listen(loop, "nonsense", &rig_door, &port, reason), STATUS_MALFORMED);
    assert_int_equal(monitor_listen(loop, "", &rig_door, &port, reason), 0);
    assert_int_equal(port, 0);
    assert_int_equal(monitor_listen(loop, "127.0.0.1:0", &rig_door, &port, reason), 0);
    assert_int_not_equal(port, 0);
    char taken[64];
    (void)snprintf(taken, sizeof taken, "127.0.0.1:%u", port);
    assert_int_equal(monitor_listen(loop, taken, &rig_door, NULL, reason), -EADDRINUSE);

    expect(&visit, loop, port, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK");
    assert_non_null(
        strstr(visit.answer, "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    read_page(visit_body(&visit));
    assert_non_null(strstr(visit.answer, "\nprocess_cpu_seconds_total "));
    assert_non_null(strstr(visit.answer, "\nprocess_resident_memory_bytes "));
    assert_non_null(strstr(visit.answer, "\nkelp_process_anonymous_memory_bytes "));
    assert_non_null(strstr(visit.answer, "\nprocess_open_fds "));
    assert_non_null(strstr(visit.answer, "\nprocess_start_time_seconds "));
    assert_non_null(
        strstr(visit.answer, "kelp_build_info{program=\"test\",name=\"test-1\",version=\""));

    rig_ready = false;
    expect(&visit, loop, port, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", "200 ");
    assert_string_equal(visit_body(&visit), "ok");
    expect(&visit, loop, port, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n", "503 ");
    assert_string_equal(visit_body(&visit),
                        "[+]ping ok\n[-]leader failed: none\nreadyz check failed\n");
    expect(&visit, loop, port, "GET /readyz?exclude=leader HTTP/1.1\r\nHost: x\r\n\r\n", "200 ");
    expect(&visit, loop, port, "GET /readyz/ping HTTP/1.1\r\nHost: x\r\n\r\n", "200 ");
    rig_ready = true;
    expect(&visit, loop, port, "GET /readyz?verbose HTTP/1.1\r\nHost: x\r\n\r\n", "200 ");
    assert_string_equal(visit_body(&visit), "[+]ping ok\n[+]leader ok\nreadyz check passed\n");

    expect(&visit, loop, port, "GET /api/v1/secrets HTTP/1.1\r\nHost: x\r\n\r\n", "404 ");
    expect(&visit, loop, port, "DELETE /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "405 ");
    expect(&visit, loop, port,
           "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", "413 ");
    expect(&visit, loop, port, "nonsense\r\n\r\n", "400 ");

    for (uint32_t i = 0; i < LIMIT_MONITOR_VISITORS - 1; i++) {
        visit_begin(&silent[i], loop, port, "GET /met");
    }
    expect(&visit, loop, port, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "200 ");
    visit_begin(&silent[LIMIT_MONITOR_VISITORS - 1], loop, port, "GET /met");
    while (silent[LIMIT_MONITOR_VISITORS - 1].connect.handle != NULL &&
           !uv_is_readable((uv_stream_t *)&silent[LIMIT_MONITOR_VISITORS - 1].tcp)) {
        uv_run(loop, UV_RUN_ONCE);
    }
    visit_begin(&visit, loop, port, "");
    while (!visit.closed) {
        uv_run(loop, UV_RUN_ONCE);
    }
    assert_int_equal(visit.size, 0); /* one too many: closed without a word */
    for (uint32_t i = 0; i < LIMIT_MONITOR_VISITORS; i++) {
        uv_close((uv_handle_t *)&silent[i].tcp, visit_on_close);
    }
    for (uint32_t i = 0; i < LIMIT_MONITOR_VISITORS; i++) {
        while (!silent[i].closed) {
            uv_run(loop, UV_RUN_ONCE);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_page_is_read), cmocka_unit_test(test_page_overflows),
        cmocka_unit_test(test_buckets),      cmocka_unit_test(test_health),
        cmocka_unit_test(test_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
