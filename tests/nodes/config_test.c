#include "nodes/config.h"
#include "nodes/logger.h"
#include "nodes/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka wants the ones above first */
#include <cmocka.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct sample {
    const char *name;
    int64_t replicas;
    bool verbose;
    uint64_t keep_ms;
    uint64_t cache_bytes;
    struct config_address listen;
    enum logger_format format;
    struct config_list zones;
    struct config_addresses servers;
    struct config_map labels;
};

static const struct config_key sample_keys[] = {
    {.path = "name",
     .type = CONFIG_TEXT,
     .offset = offsetof(struct sample, name),
     .min = 1,
     .max = 8,
     .help = "h"},
    {.path = "cluster.replicas",
     .type = CONFIG_INTEGER,
     .offset = offsetof(struct sample, replicas),
     .preset = "3",
     .min = 1,
     .max = 7,
     .help = "h"},
    {.path = "cluster.servers",
     .type = CONFIG_ADDRESS_LIST,
     .offset = offsetof(struct sample, servers),
     .preset = "",
     .help = "h"},
    {.path = "session.keep",
     .type = CONFIG_DURATION,
     .offset = offsetof(struct sample, keep_ms),
     .preset = "15s",
     .min = 1000,
     .max = 60000,
     .help = "h"},
    {.path = "session.listen",
     .type = CONFIG_ADDRESS,
     .offset = offsetof(struct sample, listen),
     .preset = "0.0.0.0:10000",
     .help = "h"},
    {.path = "store.cache",
     .type = CONFIG_SIZE,
     .offset = offsetof(struct sample, cache_bytes),
     .preset = "8MiB",
     .help = "h"},
    {.path = "log.format",
     .type = CONFIG_CHOICE,
     .offset = offsetof(struct sample, format),
     .preset = "text",
     .choices = LOGGER_FORMAT_CHOICES,
     .help = "h"},
    {.path = "log.verbose",
     .type = CONFIG_BOOLEAN,
     .offset = offsetof(struct sample, verbose),
     .preset = "false",
     .help = "h"},
    {.path = "zones",
     .type = CONFIG_LIST,
     .offset = offsetof(struct sample, zones),
     .preset = "",
     .help = "h"},
    {.path = "labels",
     .type = CONFIG_MAP,
     .offset = offsetof(struct sample, labels),
     .preset = "",
     .help = "h"},
};
static const struct config_table sample_table = {sample_keys,
                                                 sizeof sample_keys / sizeof sample_keys[0]};

struct loaded {
    struct sample sample;
    struct config_memory memory;
    char reason[CONFIG_REASON_BYTES];
    int status;
};

/* Load this text as a file. */
static struct loaded load(const char *text, const char *setting)
{
    char path[] = "/tmp/kelp_config_XXXXXX";
    const int file = mkstemp(path);
    assert_true(file >= 0);
    assert_int_equal(write(file, text, strlen(text)), strlen(text));
    close(file);
    struct loaded loaded = {.status = 1};
    loaded.status = config_load(&sample_table, path, &setting, setting == NULL ? 0 : 1,
                                &loaded.sample, &loaded.memory, loaded.reason);
    unlink(path);
    return loaded;
}

/* Claim: every type is read as its table says, presets fill the rest, settings win. */
static void test_every_type_is_read(void **state)
{
    (void)state;
    struct loaded loaded = load("name: one\n"
                                "cluster:\n  replicas: 5\n  servers: ['10.0.0.1:1', '[::1]:2']\n"
                                "session: {keep: 1m}\n"
                                "store:\n  cache: 64KiB\n"
                                "log: {format: json, verbose: true}\n"
                                "zones:\n  - a\n  - b c\n"
                                "labels: {x: '1', y: two}\n",
                                "cluster.replicas=7");
    assert_string_equal(loaded.reason, "");
    assert_int_equal(loaded.status, 0);
    const struct sample *s = &loaded.sample;
    assert_string_equal(s->name, "one");
    assert_int_equal(s->replicas, 7);
    assert_int_equal(s->servers.count, 2);
    assert_string_equal(s->servers.items[1].host, "::1");
    assert_int_equal(s->servers.items[1].port, 2);
    assert_int_equal(s->keep_ms, 60000);
    assert_string_equal(s->listen.host, "0.0.0.0");
    assert_int_equal(s->listen.port, 10000);
    assert_int_equal(s->cache_bytes, 65536);
    assert_int_equal(s->format, LOGGER_JSON);
    assert_true(s->verbose);
    assert_int_equal(s->zones.count, 2);
    assert_string_equal(s->zones.items[1], "b c");
    assert_int_equal(s->labels.count, 2);
    assert_string_equal(s->labels.items[1].name, "y");
    assert_string_equal(s->labels.items[1].value, "two");
    config_free(&loaded.memory);
}

/* Claim: what is wrong in a file is refused with its line and what to do. */
static void test_errors_name_line_and_remedy(void **state)
{
    (void)state;
    static const struct {
        const char *text, *setting, *place, *remedy;
    } cases[] = {
        {"name: a\nlog:\n  formt: json\n", NULL, ":3: unknown key 'log.formt'",
         "did you mean log.format?"},
        {"name: a\nbanana: 1\n", NULL, ":2: unknown key 'banana'", "--help lists the keys"},
        {"name: a\nformat: json\n", NULL, ":2: unknown key 'format'", "did you mean log.format?"},
        {"name: a\ncluster: 3\n", NULL, ":2: cluster is a section", "indent"},
        {"name: a\ncluster:\n  replicas: three\n", NULL, ":3: cluster.replicas cannot be 'three'",
         "a whole number"},
        {"name: a\ncluster:\n  replicas: 9\n", NULL, ":3: cluster.replicas is out of range",
         "1 to 7"},
        {"name: a\nsession: {keep: 10}\n", NULL, ":2: session.keep cannot be '10'", "10s"},
        {"name: a\nsession: {keep: 2h}\n", NULL, ":2: session.keep is out of range", "1s to 1m"},
        {"name: a\nsession: {listen: '::1:80'}\n", NULL, ":2: session.listen", "[::1]"},
        {"name: a\nsession: {listen: 'h:70000'}\n", NULL, ":2: session.listen", "address"},
        {"name: a\nstore: {cache: 5XB}\n", NULL, ":2: store.cache", "64KiB"},
        {"name: a\nlog: {format: xml}\n", NULL, ":2: log.format cannot be 'xml'", "text|json"},
        {"name: a\nlog: {verbose: yes}\n", NULL, ":2: log.verbose", "true or false"},
        {"name: a\nname: b\n", NULL, ":2: name is given twice", "remove one"},
        {"name: [a]\n", NULL, ":1: name must be a string", ""},
        {"name: a\nzones: x\n", NULL, ":2: zones must be a list", ""},
        {"name: far-too-long\n", NULL, ":1: the length of name is out of range", "1 to 8"},
        {"name: 'a\n", NULL, "not YAML", ""},
        {"- a\n", NULL, "must be a map", ""},
        {"", NULL, "name is missing", "a string"},
        {"name: a\n", "log.format", "--set: 'log.format' is not path=value", ""},
        {"name: a\n", "log.colour=1", "--set: unknown key", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct loaded loaded = load(cases[i].text, cases[i].setting);
        if (loaded.status != STATUS_MALFORMED || strstr(loaded.reason, cases[i].place) == NULL ||
            strstr(loaded.reason, cases[i].remedy) == NULL) {
            fail_msg("case %zu: status %d reason %s", i, loaded.status, loaded.reason);
        }
        config_free(&loaded.memory);
    }
    struct sample sample;
    struct config_memory memory;
    char reason[CONFIG_REASON_BYTES];
    assert_int_equal(
        config_load(&sample_table, "/nonexistent/x.yaml", NULL, 0, &sample, &memory, reason),
        -ENOENT);
    assert_non_null(strstr(reason, "/nonexistent/x.yaml: No such file"));
    config_free(&memory);
}

/* Claim: the example that we print is a file that we accept, with the presets in it. */
static void test_the_example_is_accepted(void **state)
{
    (void)state;
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    config_print_example(&sample_table, stream);
    fclose(stream);
    struct loaded loaded = load(text, "name=x");
    assert_string_equal(loaded.reason, "");
    assert_int_equal(loaded.sample.keep_ms, 15000);
    assert_int_equal(loaded.sample.zones.count, 0);
    config_free(&loaded.memory);
    free(text);
}

static void test_durations_and_sizes(void **state)
{
    (void)state;
    uint64_t n;
    assert_int_equal(config_parse_duration("1h30m", &n), 0);
    assert_int_equal(n, 5400000);
    assert_int_equal(config_parse_duration("250ms", &n), 0);
    assert_int_equal(n, 250);
    static const char *const bad[] = {"",
                                      "s",
                                      "10",
                                      "1.5s",
                                      "-1s",
                                      "10s ",
                                      "99999999999999999999s",
                                      "10x",
                                      "1000000000000000000d"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(config_parse_duration(bad[i], &n), STATUS_MALFORMED);
    }
    assert_int_equal(config_parse_size("1GiB", &n), 0);
    assert_int_equal(n, 1 << 30);
    assert_int_equal(config_parse_size("9000000000GiB", &n), STATUS_MALFORMED);
}

/* The one line that logging writes, without its time. */
static char *logged(enum logger_format format, void (*log)(const char *), const char *value)
{
    static char line[LIMIT_LOG_LINE_BYTES + 1];
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    logger_set_time_ms(1700000000123);
    logger_set(LOGGER_INFO, format, stream);
    log(value);
    logger_set(LOGGER_INFO, LOGGER_TEXT, NULL);
    logger_set_time_ms(-1);
    fclose(stream);
    snprintf(line, sizeof line, "%s", text == NULL ? "" : text);
    free(text);
    return line;
}
static void log_pair(const char *value)
{
    logger_info("tested", "name=%s count=%d", value, 7);
}
static void log_reason(const char *value)
{
    logger_warn("tested", "reason=%s", value);
}
static void log_topic(const char *value)
{
    char topic[LOGGER_VALUE_BYTES];
    logger_info("tested", "topic=%s count=%d", logger_value(topic, value), 7);
}
static void log_debug(const char *value)
{
    logger_debug("tested", "name=%s", value);
}

/* Claim: one event is one line, whatever is in the values, and values can be told from keys. */
static void test_a_line_stays_one_line(void **state)
{
    (void)state;
    assert_string_equal(
        logged(LOGGER_TEXT, log_pair, "edge-1"),
        "time=2023-11-14T22:13:20.123Z level=info event=tested name=edge-1 count=7\n");
    assert_string_equal(
        logged(LOGGER_TEXT, log_pair, "two words"),
        "time=2023-11-14T22:13:20.123Z level=info event=tested name=\"two words\" count=7\n");
    assert_string_equal(
        logged(LOGGER_TEXT, log_pair, ""),
        "time=2023-11-14T22:13:20.123Z level=info event=tested name=\"\" count=7\n");
    assert_string_equal(logged(LOGGER_TEXT, log_reason, "a \"b\"\n\x01 level=error \xff"),
                        "time=2023-11-14T22:13:20.123Z level=warn event=tested "
                        "reason=\"a \\\"b\\\"\\n\\u0001 level=error \\ufffd\"\n");
    assert_string_equal(
        logged(LOGGER_JSON, log_pair, "a\"b"),
        "{\"time\":\"2023-11-14T22:13:20.123Z\",\"level\":\"info\",\"event\":\"tested\","
        "\"name\":\"a\\\"b\",\"count\":\"7\"}\n");
    assert_string_equal(logged(LOGGER_TEXT, log_debug, "x"), "");
}

/* Claim: what somebody outside chose stays one value, however it is made. Method: a topic that would be another
 * pair, one that looks like the next, one without end. */
static void test_a_value_from_outside_is_one(void **state)
{
    (void)state;
    static const char began[] = "time=2023-11-14T22:13:20.123Z level=info event=tested topic=";
    const struct {
        const char *topic, *told;
    } cases[] = {
        {"a level=error", "\"a level:error\" count=7\n"},
        {"a count=8 b", "\"a count:8 b\" count=7\n"},
        {"a = b", "\"a : b\" count=7\n"},
        {" x=1 y=", "\" x:1 y:\" count=7\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *line = logged(LOGGER_TEXT, log_topic, cases[i].topic);
        assert_memory_equal(line, began, sizeof began - 1);
        assert_string_equal(line + sizeof began - 1, cases[i].told);
    }
    char longest[3 * LOGGER_VALUE_BYTES];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    const char *line = logged(LOGGER_TEXT, log_topic, longest);
    assert_int_equal(strlen(line),
                     sizeof began - 1 + LOGGER_VALUE_BYTES - 1 + strlen(" count=7\n"));
}

/* Claim: a line is bounded, ends in a line feed and, in JSON, stays closed, whatever its size. */
static void test_a_long_line_is_cut(void **state)
{
    (void)state;
    for (size_t size = 1800; size < 2300; size++) {
        char *value = malloc(size + 1);
        for (size_t i = 0; i < size; i++) {
            value[i] = i % 3 == 0 ? '"' : 'x';
        }
        value[size] = '\0';
        const char *line = logged(LOGGER_JSON, log_pair, value);
        const size_t line_size = strlen(line);
        assert_true(line_size <= LIMIT_LOG_LINE_BYTES);
        assert_string_equal(line + line_size - 3, "\"}\n");
        free(value);
    }
}

/* Claim: a limited line comes once per window and then says how many were left out. */
static void test_limited_lines_are_counted(void **state)
{
    (void)state;
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    logger_set(LOGGER_INFO, LOGGER_TEXT, stream);
    struct logger_window window = {0};
    for (int i = 0; i < 10; i++) {
        logger_set_time_ms(1000 + i * 300);
        logger_line_limited(&window, 1000, LOGGER_WARN, "refused", "n=%d", i);
    }
    logger_set(LOGGER_INFO, LOGGER_TEXT, NULL);
    logger_set_time_ms(-1);
    fclose(stream);
    assert_string_equal(
        text, "time=1970-01-01T00:00:01.000Z level=warn event=refused n=0\n"
              "time=1970-01-01T00:00:02.200Z level=warn event=refused suppressed=3 n=4\n"
              "time=1970-01-01T00:00:03.400Z level=warn event=refused suppressed=3 n=8\n");
    free(text);
}

static void test_options(void **state)
{
    (void)state;
    bool force = false;
    const char *out = "here";
    int64_t days = 7;
    struct options_list sans = {.count = 0}, rest;
    const struct options_flag flags[] = {
        {"force", 'f', OPTIONS_FLAG, &force, NULL, "h"},
        {"out", 'o', OPTIONS_TEXT, &out, "DIR", "h"},
        {"days", 0, OPTIONS_NUMBER, &days, "N", "h"},
        {"san", 0, OPTIONS_TEXTS, &sans, "NAME", "h"},
    };
    const struct options_command command = {"test", "FILE", NULL, flags, 4, 1, 2, NULL};
    char *good[] = {"x", "--san", "a", "--san=b", "-o", "d", "--force", "one", "--", "--two"};
    assert_int_equal(options_parse(&command, 10, good, &rest), OPTIONS_RUN);
    assert_true(force);
    assert_string_equal(out, "d");
    assert_int_equal(days, 7);
    assert_int_equal(sans.count, 2);
    assert_int_equal(rest.count, 2);
    assert_string_equal(rest.items[1], "--two");

    /* Errors are printed; the answer is what is tested. */
    char *const bad[][3] = {{"x", "one", "--forse"},  {"x", "one", "--out"},
                            {"x", "--days=x", "one"}, {"x", "one", "-q"},
                            {"x", "--force=1", "a"},  {"x", "--force", "--force"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char *words[3] = {bad[i][0], bad[i][1], bad[i][2]};
        assert_int_equal(options_parse(&command, 3, words, &rest), OPTIONS_USAGE);
    }
    char *many[] = {"x", "1", "2", "3"};
    assert_int_equal(options_parse(&command, 4, many, &rest), OPTIONS_USAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_type_is_read),
        cmocka_unit_test(test_errors_name_line_and_remedy),
        cmocka_unit_test(test_the_example_is_accepted),
        cmocka_unit_test(test_durations_and_sizes),
        cmocka_unit_test(test_a_line_stays_one_line),
        cmocka_unit_test(test_a_value_from_outside_is_one),
        cmocka_unit_test(test_a_long_line_is_cut),
        cmocka_unit_test(test_limited_lines_are_counted),
        cmocka_unit_test(test_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
