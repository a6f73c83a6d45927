#include "nodes/config.h"

#include "schemas/check.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

/* One allocation of many, all released together. */
struct config_block {
    struct config_block *next;
    max_align_t bytes[];
};

/* One load in progress. */
struct config_load {
    const struct config_table *table;
    const char *file; /* for messages: a path, "--set" or "preset" */
    uint8_t *out;
    struct config_memory *memory;
    char *reason;
    bool *given; /* one per key */
};

static void *config_claim(struct config_memory *memory, size_t size)
{
    struct config_block *block = calloc(1, sizeof *block + size);
    CHECK(block != NULL); /* a start-up allocation of a few bytes */
    block->next = memory->first;
    memory->first = block;
    return block->bytes;
}

static const char *config_copy(struct config_memory *memory, const char *text, size_t size)
{
    char *copy = config_claim(memory, size + 1);
    memcpy(copy, text, size);
    copy[size] = '\0';
    return copy;
}

void config_free(struct config_memory *memory)
{
    while (memory->first != NULL) {
        struct config_block *block = memory->first;
        memory->first = block->next;
        free(block);
    }
}

/* -- single values ----------------------------------------------------------------------------- */

/* A run of digits that fits 64 bits. */
static bool config_read_digits(const char **at, uint64_t *out)
{
    uint64_t value = 0;
    const char *p = *at;
    if (!isdigit((unsigned char)*p)) {
        return false;
    }
    for (; isdigit((unsigned char)*p); p++) {
        const uint64_t digit = (uint64_t)(*p - '0');
        if (value > (UINT64_MAX / 2 - digit) / 10) {
            return false;
        }
        value = value * 10 + digit;
    }
    *at = p;
    *out = value;
    return true;
}

int config_parse_duration(const char *text, uint64_t *out_ms)
{
    static const struct {
        const char *unit;
        uint64_t ms;
    } units[] = {
        {"ms", 1}, {"s", 1000}, {"m", 60 * 1000}, {"h", 3600 * 1000}, {"d", 24 * 3600 * 1000}};
    const char *at = text;
    uint64_t total = 0;
    if (strcmp(text, "0") == 0) {
        *out_ms = 0;
        return 0;
    }
    do {
        uint64_t number;
        if (!config_read_digits(&at, &number)) {
            return STATUS_MALFORMED;
        }
        size_t unit_size = 0;
        while (isalpha((unsigned char)at[unit_size])) {
            unit_size++;
        }
        uint64_t unit_ms = 0;
        for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
            if (strlen(units[i].unit) == unit_size && memcmp(units[i].unit, at, unit_size) == 0) {
                unit_ms = units[i].ms;
            }
        }
        if (unit_ms == 0 || number > (UINT64_MAX / 2 - total) / unit_ms) {
            return STATUS_MALFORMED;
        }
        total += number * unit_ms;
        at += unit_size;
    } while (*at != '\0');
    *out_ms = total;
    return 0;
}

int config_parse_size(const char *text, uint64_t *out_bytes)
{
    static const struct {
        const char *unit;
        uint64_t bytes;
    } units[] = {{"", 1},           {"B", 1},          {"KiB", 1u << 10},
                 {"MiB", 1u << 20}, {"GiB", 1u << 30}, {"TiB", 1ull << 40},
                 {"KB", 1000},      {"MB", 1000000},   {"GB", 1000000000}};
    const char *at = text;
    uint64_t number;
    if (!config_read_digits(&at, &number)) {
        return STATUS_MALFORMED;
    }
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (strcmp(at, units[i].unit) == 0 && number <= UINT64_MAX / 2 / units[i].bytes) {
            *out_bytes = number * units[i].bytes;
            return 0;
        }
    }
    return STATUS_MALFORMED;
}

int config_parse_address(const char *text, char *out_host, uint16_t *out_port)
{
    const char *host = text;
    const char *colon = strrchr(text, ':');
    if (colon == NULL) {
        return STATUS_MALFORMED;
    }
    size_t host_size = (size_t)(colon - host);
    if (host_size >= 2 && host[0] == '[' && colon[-1] == ']') {
        host++;
        host_size -= 2;
    } else if (memchr(host, ':', host_size) != NULL) {
        return STATUS_MALFORMED; /* an IPv6 address needs its brackets, or the port is a guess */
    }
    const char *at = colon + 1;
    uint64_t port;
    if (!config_read_digits(&at, &port) || *at != '\0' || port > UINT16_MAX || host_size > 255) {
        return STATUS_MALFORMED;
    }
    for (size_t i = 0; i < host_size; i++) {
        if (isspace((unsigned char)host[i]) || host[i] == '/') {
            return STATUS_MALFORMED;
        }
    }
    memcpy(out_host, host, host_size);
    out_host[host_size] = '\0';
    *out_port = (uint16_t)port;
    return 0;
}

/* -- one key ----------------------------------------------------------------------------------- */

static const char *config_type_text(enum config_type type)
{
    switch (type) {
    case CONFIG_TEXT:
        return "a string";
    case CONFIG_INTEGER:
        return "a whole number";
    case CONFIG_BOOLEAN:
        return "true or false";
    case CONFIG_DURATION:
        return "a duration such as 500ms, 10s, 5m or 1h30m";
    case CONFIG_SIZE:
        return "a size such as 4096, 64KiB or 64MiB";
    case CONFIG_ADDRESS:
        return "an address such as 10.0.0.1:6443, [::1]:6443 or :6443";
    case CONFIG_CHOICE:
        return "one of the choices";
    case CONFIG_LIST:
        return "a list of strings";
    case CONFIG_ADDRESS_LIST:
        return "a list of addresses such as 10.0.0.1:10000";
    case CONFIG_MAP:
        return "a map of strings";
    }
    CHECK(false);
    return "";
}

/* Write "file:line: what" into the reason; line 0: none. */
__attribute__((format(printf, 3, 4))) static int config_refuse(struct config_load *load,
                                                               size_t line, const char *format, ...)
{
    char place[32] = "";
    if (line > 0) {
        snprintf(place, sizeof place, ":%zu", line);
    }
    const int used = snprintf(load->reason, CONFIG_REASON_BYTES, "%s%s: ", load->file, place);
    if (used > 0 && (size_t)used < CONFIG_REASON_BYTES) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(load->reason + used, CONFIG_REASON_BYTES - (size_t)used, format, arguments);
        va_end(arguments);
    }
    return STATUS_MALFORMED;
}

static bool config_in_range(const struct config_key *key, uint64_t value)
{
    return (key->min == 0 && key->max == 0) ||
           (value <= INT64_MAX && (int64_t)value >= key->min && (int64_t)value <= key->max);
}

/* A number in the unit the key is written in, for messages and help. */
static void config_print_number(const struct config_key *key, int64_t value, char *out, size_t size)
{
    static const struct {
        int64_t factor;
        const char *unit;
    } durations[] = {{86400000, "d"}, {3600000, "h"}, {60000, "m"}, {1000, "s"}, {1, "ms"}},
      sizes[] = {{1ll << 30, "GiB"}, {1ll << 20, "MiB"}, {1ll << 10, "KiB"}};
    if (key->type == CONFIG_DURATION && value > 0) {
        for (size_t i = 0; i < sizeof durations / sizeof durations[0]; i++) {
            if (value % durations[i].factor == 0) {
                snprintf(out, size, "%lld%s", (long long)(value / durations[i].factor),
                         durations[i].unit);
                return;
            }
        }
    }
    if (key->type == CONFIG_SIZE && value > 0) {
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            if (value % sizes[i].factor == 0) {
                snprintf(out, size, "%lld%s", (long long)(value / sizes[i].factor), sizes[i].unit);
                return;
            }
        }
    }
    snprintf(out, size, "%lld", (long long)value);
}

static int config_refuse_range(struct config_load *load, size_t line, const struct config_key *key,
                               const char *text)
{
    char min[40], max[40];
    config_print_number(key, key->min, min, sizeof min);
    config_print_number(key, key->max, max, sizeof max);
    const char *const what =
        key->type == CONFIG_TEXT ? "the length of "
        : key->type == CONFIG_LIST || key->type == CONFIG_ADDRESS_LIST || key->type == CONFIG_MAP
            ? "the count of "
            : "";
    return config_refuse(load, line, "%s%s is out of range with '%.64s'; give %s to %s", what,
                         key->path, text, min, max);
}

static int config_refuse_type(struct config_load *load, size_t line, const struct config_key *key,
                              const char *text)
{
    if (key->type == CONFIG_CHOICE) {
        return config_refuse(load, line, "%s cannot be '%.64s'; give one of %s", key->path, text,
                             key->choices);
    }
    return config_refuse(load, line, "%s cannot be '%.64s'; give %s", key->path, text,
                         config_type_text(key->type));
}

/* Place of `text` among "a|b|c"; -1: not there. */
static int config_find_choice(const char *choices, const char *text)
{
    const size_t size = strlen(text);
    int place = 0;
    for (const char *at = choices;; place++) {
        const size_t choice_size = strcspn(at, "|");
        if (choice_size == size && memcmp(at, text, size) == 0) {
            return place;
        }
        if (at[choice_size] == '\0') {
            return -1;
        }
        at += choice_size + 1;
    }
}

static bool config_store_address(struct config_load *load, const char *text,
                                 struct config_address *out)
{
    char host[256];
    uint16_t port;
    if (config_parse_address(text, host, &port) != 0) {
        return false;
    }
    out->host = config_copy(load->memory, host, strlen(host));
    out->port = port;
    return true;
}

/* A value that is one word: everything but lists and maps. */
static int config_store_scalar(struct config_load *load, const struct config_key *key, size_t line,
                               const char *text)
{
    void *const field = load->out + key->offset;
    uint64_t number = 0;
    switch (key->type) {
    case CONFIG_TEXT:
        if (!config_in_range(key, strlen(text))) {
            return config_refuse_range(load, line, key, text);
        }
        *(const char **)field = config_copy(load->memory, text, strlen(text));
        return 0;
    case CONFIG_INTEGER: {
        char *end = NULL;
        errno = 0;
        const long long value = strtoll(text, &end, 10);
        if (errno != 0 || end == text || *end != '\0') {
            return config_refuse_type(load, line, key, text);
        }
        if ((key->min != 0 || key->max != 0) && (value < key->min || value > key->max)) {
            return config_refuse_range(load, line, key, text);
        }
        *(int64_t *)field = value;
        return 0;
    }
    case CONFIG_BOOLEAN:
        if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0) {
            return config_refuse_type(load, line, key, text);
        }
        *(bool *)field = text[0] == 't';
        return 0;
    case CONFIG_DURATION:
    case CONFIG_SIZE:
        if ((key->type == CONFIG_DURATION ? config_parse_duration(text, &number)
                                          : config_parse_size(text, &number)) != 0) {
            return config_refuse_type(load, line, key, text);
        }
        if (!config_in_range(key, number)) {
            return config_refuse_range(load, line, key, text);
        }
        *(uint64_t *)field = number;
        return 0;
    case CONFIG_ADDRESS:
        if (text[0] == '\0') {
            *(struct config_address *)field = (struct config_address){.host = ""};
            return 0;
        }
        return config_store_address(load, text, field) ? 0
                                                       : config_refuse_type(load, line, key, text);
    case CONFIG_CHOICE: {
        const int place = config_find_choice(key->choices, text);
        if (place < 0) {
            return config_refuse_type(load, line, key, text);
        }
        *(int *)field = place;
        return 0;
    }
    case CONFIG_LIST:
    case CONFIG_ADDRESS_LIST:
    case CONFIG_MAP:
        return config_refuse_type(load, line, key, text);
    }
    CHECK(false);
    return STATUS_MALFORMED;
}

/* A list or map. Maps are given as name, value, name, value. */
static int config_store_items(struct config_load *load, const struct config_key *key, size_t line,
                              const char *const *items, size_t count)
{
    void *const field = load->out + key->offset;
    const size_t entries = key->type == CONFIG_MAP ? count / 2 : count;
    if (entries > LIMIT_CONFIG_ITEMS || !config_in_range(key, entries)) {
        char text[24];
        snprintf(text, sizeof text, "%zu", entries);
        struct config_key bounded = *key;
        bounded.max = key->max == 0 ? (int64_t)LIMIT_CONFIG_ITEMS : key->max;
        return config_refuse_range(load, line, &bounded, text);
    }
    if (key->type == CONFIG_LIST) {
        const char **copy = config_claim(load->memory, (entries + 1) * sizeof *copy);
        for (size_t i = 0; i < entries; i++) {
            copy[i] = config_copy(load->memory, items[i], strlen(items[i]));
        }
        *(struct config_list *)field = (struct config_list){.items = copy, .count = entries};
        return 0;
    }
    if (key->type == CONFIG_ADDRESS_LIST) {
        struct config_address *copy = config_claim(load->memory, (entries + 1) * sizeof *copy);
        for (size_t i = 0; i < entries; i++) {
            if (!config_store_address(load, items[i], &copy[i])) {
                return config_refuse_type(load, line, key, items[i]);
            }
        }
        *(struct config_addresses *)field =
            (struct config_addresses){.items = copy, .count = entries};
        return 0;
    }
    CHECK(key->type == CONFIG_MAP);
    struct config_pair *copy = config_claim(load->memory, (entries + 1) * sizeof *copy);
    for (size_t i = 0; i < entries; i++) {
        copy[i].name = config_copy(load->memory, items[2 * i], strlen(items[2 * i]));
        copy[i].value = config_copy(load->memory, items[2 * i + 1], strlen(items[2 * i + 1]));
    }
    *(struct config_map *)field = (struct config_map){.items = copy, .count = entries};
    return 0;
}

static bool config_is_collection(enum config_type type)
{
    return type == CONFIG_LIST || type == CONFIG_ADDRESS_LIST || type == CONFIG_MAP;
}

/* A value from one string: a preset or a setting. Lists are "a,b", maps "a=1,b=2". */
static int config_store_text(struct config_load *load, const struct config_key *key,
                             const char *text)
{
    if (!config_is_collection(key->type)) {
        return config_store_scalar(load, key, 0, text);
    }
    const char *items[2 * LIMIT_CONFIG_ITEMS];
    size_t count = 0;
    for (const char *at = text; *at != '\0';) {
        const size_t size = strcspn(at, ",");
        if (count + 2 > sizeof items / sizeof items[0]) {
            return config_refuse(load, 0, "%s has too many items", key->path);
        }
        if (key->type == CONFIG_MAP) {
            const char *const equals = memchr(at, '=', size);
            if (equals == NULL) {
                return config_refuse(load, 0, "%s needs name=value pairs with commas between",
                                     key->path);
            }
            items[count++] = config_copy(load->memory, at, (size_t)(equals - at));
            items[count++] =
                config_copy(load->memory, equals + 1, size - (size_t)(equals + 1 - at));
        } else {
            items[count++] = config_copy(load->memory, at, size);
        }
        at += at[size] == ',' ? size + 1 : size;
    }
    return config_store_items(load, key, 0, items, count);
}

/* -- names ------------------------------------------------------------------------------------- */

static const struct config_key *config_find(const struct config_table *table, const char *path)
{
    for (size_t i = 0; i < table->count; i++) {
        if (strcmp(table->keys[i].path, path) == 0) {
            return &table->keys[i];
        }
    }
    return NULL;
}

/* Is there a key below this path? */
static bool config_is_section(const struct config_table *table, const char *path)
{
    const size_t size = strlen(path);
    for (size_t i = 0; i < table->count; i++) {
        if (strncmp(table->keys[i].path, path, size) == 0 && table->keys[i].path[size] == '.') {
            return true;
        }
    }
    return false;
}

/* The known key that is most like this one: same letters without case, or the same last word. */
static const char *config_nearest(const struct config_table *table, const char *path)
{
    const char *const dot = strrchr(path, '.');
    const char *const last = dot == NULL ? path : dot + 1;
    const char *nearest = NULL;
    size_t best = strlen(path) / 2; /* fewer common letters than half: no likeness */
    for (size_t i = 0; i < table->count; i++) {
        const char *const known = table->keys[i].path;
        const char *const known_dot = strrchr(known, '.');
        if (strcasecmp(known_dot == NULL ? known : known_dot + 1, last) == 0) {
            return known;
        }
        size_t front = 0, back = 0;
        const size_t path_size = strlen(path), known_size = strlen(known);
        while (front < path_size && front < known_size && path[front] == known[front]) {
            front++;
        }
        while (back + front < path_size && back + front < known_size &&
               path[path_size - 1 - back] == known[known_size - 1 - back]) {
            back++;
        }
        if (front + back > best && front + back + 3 >= path_size) {
            best = front + back;
            nearest = known;
        }
    }
    return nearest;
}

static int config_refuse_unknown(struct config_load *load, size_t line, const char *path)
{
    const char *const nearest = config_nearest(load->table, path);
    if (nearest != NULL) {
        return config_refuse(load, line, "unknown key '%.128s'; did you mean %s?", path, nearest);
    }
    return config_refuse(load, line, "unknown key '%.128s'; remove it, --help lists the keys",
                         path);
}

/* -- the file ---------------------------------------------------------------------------------- */

static int config_read_node(struct config_load *load, yaml_document_t *document, yaml_node_t *node,
                            const char *path, size_t line);

static int config_read_collection(struct config_load *load, yaml_document_t *document,
                                  yaml_node_t *node, const struct config_key *key, size_t line)
{
    const char *items[2 * LIMIT_CONFIG_ITEMS];
    size_t count = 0;
    const bool map = key->type == CONFIG_MAP;
    if (node->type == YAML_SCALAR_NODE && node->data.scalar.length == 0) {
        return config_store_text(load, key, ""); /* "key:" with nothing behind it */
    }
    if (node->type != (map ? YAML_MAPPING_NODE : YAML_SEQUENCE_NODE)) {
        return config_refuse(load, line, "%s must be %s", key->path, config_type_text(key->type));
    }
    const size_t words =
        map ? 2 * (size_t)(node->data.mapping.pairs.top - node->data.mapping.pairs.start)
            : (size_t)(node->data.sequence.items.top - node->data.sequence.items.start);
    if (words > sizeof items / sizeof items[0]) {
        return config_refuse(load, line, "%s has more than %u items", key->path,
                             LIMIT_CONFIG_ITEMS);
    }
    for (size_t i = 0; i < words; i++) {
        const int index = !map         ? node->data.sequence.items.start[i]
                          : i % 2 == 0 ? node->data.mapping.pairs.start[i / 2].key
                                       : node->data.mapping.pairs.start[i / 2].value;
        const yaml_node_t *const item = yaml_document_get_node(document, index);
        if (item == NULL || item->type != YAML_SCALAR_NODE) {
            return config_refuse(load, line, "%s must be %s", key->path,
                                 config_type_text(key->type));
        }
        items[count++] = (const char *)item->data.scalar.value;
    }
    return config_store_items(load, key, line, items, count);
}

static int config_read_section(struct config_load *load, yaml_document_t *document,
                               yaml_node_t *node, const char *path)
{
    for (yaml_node_pair_t *pair = node->data.mapping.pairs.start;
         pair < node->data.mapping.pairs.top; pair++) {
        const yaml_node_t *const name = yaml_document_get_node(document, pair->key);
        yaml_node_t *const value = yaml_document_get_node(document, pair->value);
        CHECK(name != NULL);
        CHECK(value != NULL);
        const size_t line = name->start_mark.line + 1;
        if (name->type != YAML_SCALAR_NODE || name->data.scalar.length == 0) {
            return config_refuse(load, line, "a key must be a word");
        }
        char below[256];
        const int size = snprintf(below, sizeof below, "%s%s%s", path, path[0] == '\0' ? "" : ".",
                                  (const char *)name->data.scalar.value);
        if (size < 0 || (size_t)size >= sizeof below) {
            return config_refuse(load, line, "a key is too long");
        }
        const int status = config_read_node(load, document, value, below, line);
        if (status != 0) {
            return status;
        }
    }
    return 0;
}

static int config_read_node(struct config_load *load, yaml_document_t *document, yaml_node_t *node,
                            const char *path, size_t line)
{
    const struct config_key *const key = config_find(load->table, path);
    if (key == NULL) {
        if (!config_is_section(load->table, path)) {
            return config_refuse_unknown(load, line, path);
        }
        if (node->type == YAML_SCALAR_NODE && node->data.scalar.length == 0) {
            return 0; /* an empty section */
        }
        if (node->type != YAML_MAPPING_NODE) {
            return config_refuse(load, line, "%s is a section; indent its keys below it", path);
        }
        return config_read_section(load, document, node, path);
    }
    bool *const given = &load->given[key - load->table->keys];
    if (*given) {
        return config_refuse(load, line, "%s is given twice; remove one", path);
    }
    *given = true;
    if (config_is_collection(key->type)) {
        return config_read_collection(load, document, node, key, line);
    }
    if (node->type != YAML_SCALAR_NODE) {
        return config_refuse(load, line, "%s must be %s", path, config_type_text(key->type));
    }
    const char *const text = (const char *)node->data.scalar.value;
    if (strlen(text) != node->data.scalar.length) {
        return config_refuse(load, line, "%s holds a NUL byte", path);
    }
    return config_store_scalar(load, key, line, text);
}

/* Read the whole file, bounded. The caller frees *out. */
static int config_read_file(struct config_load *load, char **out, size_t *out_size)
{
    int status = 0;
    char *text = NULL;
    errno = 0;
    FILE *stream = fopen(load->file, "re");
    if (stream == NULL) {
        status = errno == 0 ? -EIO : -errno;
        config_refuse(load, 0, "%s", strerror(-status));
        return status;
    }
    text = malloc(LIMIT_CONFIG_BYTES + 1);
    CHECK(text != NULL);
    const size_t size = fread(text, 1, LIMIT_CONFIG_BYTES + 1, stream);
    if (ferror(stream) != 0) {
        status = errno == 0 ? -EIO : -errno;
        config_refuse(load, 0, "%s", strerror(-status));
    } else if (size > LIMIT_CONFIG_BYTES) {
        config_refuse(load, 0, "larger than %u bytes", LIMIT_CONFIG_BYTES);
        status = STATUS_TOO_LARGE;
    }
    fclose(stream);
    if (status != 0) {
        free(text);
        return status;
    }
    *out = text;
    *out_size = size;
    return 0;
}

static int config_read_document(struct config_load *load, const char *text, size_t size)
{
    int status = 0;
    yaml_parser_t parser;
    yaml_document_t document;
    CHECK(yaml_parser_initialize(&parser) == 1);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, size);
    if (yaml_parser_load(&parser, &document) != 1) {
        status = config_refuse(load, parser.problem_mark.line + 1, "not YAML: %s",
                               parser.problem == NULL ? "unreadable" : parser.problem);
        goto out;
    }
    yaml_node_t *const root = yaml_document_get_root_node(&document);
    if (root != NULL) { /* an empty file is a file of presets */
        if (root->type == YAML_MAPPING_NODE) {
            status = config_read_section(load, &document, root, "");
        } else if (root->type != YAML_SCALAR_NODE || root->data.scalar.length > 0) {
            status = config_refuse(load, 1, "must be a map of keys; --help lists them");
        }
    }
    yaml_document_delete(&document);
out:
    yaml_parser_delete(&parser);
    return status;
}

/* -- the door ---------------------------------------------------------------------------------- */

static int config_load_settings(struct config_load *load, const char *const *settings, size_t count)
{
    load->file = "--set";
    for (size_t i = 0; i < count; i++) {
        const char *const equals = strchr(settings[i], '=');
        char path[256];
        if (equals == NULL || (size_t)(equals - settings[i]) >= sizeof path) {
            return config_refuse(load, 0, "'%.64s' is not path=value", settings[i]);
        }
        memcpy(path, settings[i], (size_t)(equals - settings[i]));
        path[equals - settings[i]] = '\0';
        const struct config_key *const key = config_find(load->table, path);
        if (key == NULL) {
            return config_refuse_unknown(load, 0, path);
        }
        load->given[key - load->table->keys] = true;
        const int status = config_store_text(load, key, equals + 1);
        if (status != 0) {
            return status;
        }
    }
    return 0;
}

int config_load(const struct config_table *table, const char *file, const char *const *settings,
                size_t settings_count, void *out, struct config_memory *memory, char *reason)
{
    memory->first = NULL;
    reason[0] = '\0';
    struct config_load load = {.table = table,
                               .file = "preset",
                               .out = out,
                               .memory = memory,
                               .reason = reason,
                               .given = config_claim(memory, table->count + 1)};
    for (size_t i = 0; i < table->count; i++) {
        if (table->keys[i].preset != NULL) {
            /* Presets are ours; an empty one need not be in range: it means "not given". */
            struct config_key key = table->keys[i];
            if (key.preset[0] == '\0') {
                key.min = key.max = 0;
            }
            CHECK(config_store_text(&load, &key, key.preset) == 0);
        }
    }

    int status = 0;
    if (file != NULL) {
        char *text = NULL;
        size_t size = 0;
        load.file = file;
        status = config_read_file(&load, &text, &size);
        if (status == 0) {
            status = config_read_document(&load, text, size);
            free(text);
        }
    }
    if (status == 0) {
        status = config_load_settings(&load, settings, settings_count);
    }
    load.file = file == NULL ? "configuration" : file;
    for (size_t i = 0; i < table->count && status == 0; i++) {
        if (table->keys[i].preset == NULL && !load.given[i]) {
            status = config_refuse(&load, 0, "%s is missing; give %s", table->keys[i].path,
                                   config_type_text(table->keys[i].type));
        }
    }
    return status;
}

void config_print_help(const struct config_table *table, FILE *stream)
{
    for (size_t i = 0; i < table->count; i++) {
        const struct config_key *const key = &table->keys[i];
        fprintf(stream, "  %s\n      %s.\n      %s", key->path, key->help,
                key->type == CONFIG_CHOICE ? key->choices : config_type_text(key->type));
        if (key->min != 0 || key->max != 0) {
            char min[40], max[40];
            config_print_number(key, key->min, min, sizeof min);
            config_print_number(key, key->max, max, sizeof max);
            fprintf(stream, ", %s to %s", min, max);
        }
        if (key->preset == NULL) {
            fprintf(stream, "; must be given\n");
        } else {
            fprintf(stream, "; default %s\n", key->preset[0] == '\0' ? "empty" : key->preset);
        }
    }
}

/* Print the section lines that this path needs and the one before it did not. */
static void config_print_sections(FILE *stream, const char *path, const char *before)
{
    size_t same = 0; /* up to the last dot that both have in common */
    for (size_t i = 0; path[i] != '\0' && path[i] == before[i]; i++) {
        same = path[i] == '.' ? i + 1 : same;
    }
    int depth = 0;
    for (size_t i = 0, start = 0; path[i] != '\0'; i++) {
        if (path[i] != '.') {
            continue;
        }
        if (i + 1 > same) {
            fprintf(stream, "%*s%.*s:\n", 2 * depth, "", (int)(i - start), path + start);
        }
        start = i + 1;
        depth++;
    }
}

void config_print_example(const struct config_table *table, FILE *stream)
{
    const char *before = "";
    for (size_t i = 0; i < table->count; i++) {
        const struct config_key *const key = &table->keys[i];
        config_print_sections(stream, key->path, before);
        before = key->path;
        int depth = 0;
        const char *name = key->path;
        for (const char *at = key->path; *at != '\0'; at++) {
            if (*at == '.') {
                depth++;
                name = at + 1;
            }
        }
        const char *const preset = key->preset == NULL ? "" : key->preset;
        const bool map = key->type == CONFIG_MAP, list = config_is_collection(key->type) && !map;
        fprintf(stream, "%*s# %s\n%*s%s%s: ", 2 * depth, "", key->help, 2 * depth, "",
                key->preset == NULL ? "# " : "", name);
        if (map) {
            fprintf(stream, "{}\n");
        } else if (list) {
            fprintf(stream, "[");
            for (const char *at = preset; *at != '\0';) {
                const size_t size = strcspn(at, ",");
                fprintf(stream, "%s\"%.*s\"", at == preset ? "" : ", ", (int)size, at);
                at += at[size] == ',' ? size + 1 : size;
            }
            fprintf(stream, "]\n");
        } else if (key->type == CONFIG_TEXT || key->type == CONFIG_ADDRESS) {
            fprintf(stream, "\"%s\"\n", preset);
        } else {
            fprintf(stream, "%s\n", preset);
        }
    }
}
