#include "statemachine/apply.h"

bool object_row_fill(struct bytes key, const struct bytes rows[PARTS], struct object_row *out)
{
    *out = (struct object_row){.key = key};
    for (unsigned i = 0; i < PARTS; i++) {
        struct part_value part;
        if (!part_decode(rows[i], &part)) {
            return false;
        }
        out->parts[i] = (struct object_part){
            .version = part.version,
            .record = part.record,
            .body = part.body,
        };
        if (part.version > out->version) {
            out->version = part.version;
        }
        if (i == PART_WISH) {
            out->created_version = part.created_version;
        }
        if (i == PART_FACT) {
            out->ended = (part.flags & PART_ENDED) != 0;
        }
    }
    return true;
}

/* The facts and verdict that belong to a wish. */
static int object_read(struct store_reader *reader, struct bytes key, struct bytes wish,
                       struct object_row *out)
{
    struct bytes rows[PARTS] = {[PART_WISH] = wish};
    for (unsigned i = PART_FACT; i < PARTS; i++) {
        const int status = store_get(reader, part_table((enum part)i), key, &rows[i]);
        if (status < 0) {
            return status;
        }
    }
    return object_row_fill(key, rows, out) ? STATUS_OK : STATUS_CORRUPT;
}

int object_get(struct store_reader *reader, struct bytes key, struct object_row *out)
{
    if (key.size == 0 || key.size > LIMIT_KEY_BYTES) {
        return OBJECT_NONE;
    }
    struct bytes wish;
    const int status = store_get(reader, TABLE_WISH, key, &wish);
    if (status < 0) {
        return status;
    }
    return status == STORE_NONE ? OBJECT_NONE : object_read(reader, key, wish, out);
}

void object_cursor_open(struct object_cursor *cursor, struct store_reader *reader,
                        struct bytes prefix, struct bytes after)
{
    cursor->reader = reader;
    cursor->iterator = store_iterate(reader, TABLE_WISH, prefix);
    cursor->moved = false;
    /* a longer one is no key, and greater than the same keys as its beginning and one byte more */
    cursor->after_size = after.size < sizeof cursor->after ? after.size : sizeof cursor->after;
    if (cursor->after_size > 0) {
        memcpy(cursor->after, after.data, cursor->after_size);
    }
}

int object_cursor_next(struct object_cursor *cursor, struct object_row *out)
{
    struct store_iterator *iterator = cursor->iterator;
    store_reader_reset(cursor->reader);
    bool on;
    if (cursor->moved) {
        on = store_iterator_next(iterator);
    } else if (cursor->after_size == 0) {
        on = store_iterator_first(iterator);
    } else {
        const struct bytes after = bytes_of(cursor->after, cursor->after_size);
        on = store_iterator_seek(iterator, after);
        if (on && bytes_compare(store_iterator_key(iterator), after) <= 0) {
            on = store_iterator_next(iterator);
        }
    }
    cursor->moved = true;
    if (!on) {
        const int status = store_iterator_status(iterator);
        cursor->moved = false; /* there is no row to go on from: look again behind the same key */
        return status == STATUS_OK ? OBJECT_NONE : status;
    }
    const struct bytes key = store_iterator_key(iterator);
    if (key.size > sizeof cursor->after) {
        return STATUS_CORRUPT;
    }
    memcpy(cursor->after, key.data, key.size);
    cursor->after_size = key.size;
    return object_read(cursor->reader, bytes_of(cursor->after, key.size),
                       store_iterator_value(iterator), out);
}

void object_cursor_close(struct object_cursor *cursor)
{
    store_iterator_close(cursor->iterator);
    cursor->iterator = NULL;
}
