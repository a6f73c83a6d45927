/* All rows as text and as one number: for people, and for tests that compare replicas. */
#include "statemachine/apply.h"

#include <stdio.h>
#include <stdlib.h>

static const char *const table_names[MACHINE_TABLES] = {
    [TABLE_META] = "meta",       [TABLE_WISH] = "wish",     [TABLE_FACT] = "fact",
    [TABLE_VERDICT] = "verdict", [TABLE_CHANGE] = "change", [TABLE_CHANGE_KEY] = "change_key",
    [TABLE_NODE] = "node",       [TABLE_DOWN] = "down",     [TABLE_DOWN_KEY] = "down_key",
    [TABLE_HELD] = "held",       [TABLE_BOUND] = "bound",   [TABLE_REF] = "ref",
    [TABLE_ORIGIN] = "origin",   [TABLE_EVENT] = "event",   [TABLE_INBOX] = "inbox",
};

/* Each byte is four characters at most. Answers the size written. */
static size_t dump_bytes(char *out, struct bytes bytes)
{
    static const char digits[] = "0123456789abcdef";
    size_t at = 0;
    for (size_t i = 0; i < bytes.size; i++) {
        const uint8_t byte = bytes.data[i];
        if (byte > ' ' && byte < 0x7f && byte != '\\') {
            out[at] = (char)byte;
            at++;
            continue;
        }
        out[at] = '\\';
        out[at + 1] = 'x';
        out[at + 2] = digits[byte >> 4];
        out[at + 3] = digits[byte & 15];
        at += 4;
    }
    return at;
}

typedef int dump_on_row(void *context, unsigned table, struct bytes key, struct bytes value);

static int dump_rows(struct store_reader *reader, dump_on_row *on_row, void *context)
{
    int status = STATUS_OK;
    for (unsigned table = 0; table < MACHINE_TABLES && status == STATUS_OK; table++) {
        struct store_iterator *iterator = store_iterate(reader, table, (struct bytes){0});
        bool on = store_iterator_first(iterator);
        while (on && status == STATUS_OK) {
            status = on_row(context, table, store_iterator_key(iterator),
                            store_iterator_value(iterator));
            on = store_iterator_next(iterator);
        }
        if (status == STATUS_OK) {
            status = store_iterator_status(iterator);
        }
        store_iterator_close(iterator);
    }
    return status;
}

struct dump_lines {
    int (*on_line)(void *context, const char *line);
    void *context;
};

static int dump_on_line(void *context, unsigned table, struct bytes key, struct bytes value)
{
    const struct dump_lines *lines = context;
    const size_t name_size = strlen(table_names[table]);
    char *line = malloc(name_size + 4 * (key.size + value.size) + 3);
    CHECK(line != NULL);
    memcpy(line, table_names[table], name_size);
    size_t at = name_size;
    line[at] = ' ';
    at++;
    at += dump_bytes(line + at, key);
    line[at] = ' ';
    at++;
    at += dump_bytes(line + at, value);
    line[at] = '\0';
    const int status = lines->on_line(lines->context, line);
    free(line);
    return status;
}

int machine_dump(struct store_reader *reader, int (*on_line)(void *context, const char *line),
                 void *context)
{
    struct dump_lines lines = {.on_line = on_line, .context = context};
    return dump_rows(reader, dump_on_line, &lines);
}

static void digest_add(uint64_t *digest, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    for (size_t i = 0; i < size; i++) {
        *digest = (*digest ^ bytes[i]) * UINT64_C(1099511628211); /* FNV-1a */
    }
}

static int digest_on_row(void *context, unsigned table, struct bytes key, struct bytes value)
{
    uint64_t *digest = context;
    uint8_t sizes[9];
    sizes[0] = (uint8_t)table;
    put_le32(sizes + 1, (uint32_t)key.size);
    put_le32(sizes + 5, (uint32_t)value.size);
    digest_add(digest, sizes, sizeof sizes);
    digest_add(digest, key.data, key.size);
    digest_add(digest, value.data, value.size);
    return STATUS_OK;
}

int machine_digest(struct store_reader *reader, uint64_t *out)
{
    *out = UINT64_C(14695981039346656037);
    return dump_rows(reader, digest_on_row, out);
}
