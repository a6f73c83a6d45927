#include "statemachine/member_key.h"

#include "statemachine/apply.h"

#include <stdlib.h>

#define ROW_BYTES 32u /* u64 replica, u64 index, i64 time, u64 out */

/* META "key\0" and the key; or, for a replica without, "key\0" and its number, which no key begins with. */
static struct row_key row_name(const char *key, uint64_t replica)
{
    struct row_key name = row_key_pair(bytes_text("key"), bytes_text(key));
    if (key[0] == '\0') {
        row_key_add(&name, bytes_text("#"));
        row_key_add_be64(&name, replica);
    }
    return name;
}

static bool row_decode(struct bytes name, struct bytes value, struct member_key_row *out)
{
    if (value.size != ROW_BYTES || get_le64(value.data + 24) > 1) {
        return false;
    }
    *out = (struct member_key_row){.replica = get_le64(value.data),
                                   .index = get_le64(value.data + 8),
                                   .time_ms = (int64_t)get_le64(value.data + 16),
                                   .out = get_le64(value.data + 24) == 1};
    (void)row_key_take(&name); /* "key" */
    if (name.size == MEMBER_KEY_BYTES - 1) {
        memcpy(out->key, name.data, name.size);
    }
    return true;
}

static void row_write(struct machine *machine, const struct member_key_row *row)
{
    const struct row_key name = row_name(row->key, row->replica);
    uint8_t value[ROW_BYTES];
    put_le64(value, row->replica);
    put_le64(value + 8, row->index);
    put_le64(value + 16, (uint64_t)row->time_ms);
    put_le64(value + 24, row->out);
    store_put(machine->store, TABLE_META, row_key_bytes(&name), bytes_of(value, sizeof value));
}

static void row_forget(struct machine *machine, const struct member_key_row *row)
{
    const struct row_key name = row_name(row->key, row->replica);
    store_remove(machine->store, TABLE_META, row_key_bytes(&name));
}

int member_key_get(struct store_reader *reader, const char *key, struct member_key_row *out)
{
    const struct row_key name = row_name(key, 0);
    struct bytes value;
    const int status = store_get(reader, TABLE_META, row_key_bytes(&name), &value);
    if (status != STATUS_OK) {
        return status == STORE_NONE ? MEMBER_KEY_NONE : status;
    }
    return row_decode(row_key_bytes(&name), value, out) ? STATUS_OK : STATUS_CORRUPT;
}

int member_key_list(struct store_reader *reader, struct member_key_row *out, uint32_t *out_count)
{
    const struct row_key prefix = row_key_pair(bytes_text("key"), bytes_text(""));
    struct store_iterator *iterator = store_iterate(reader, TABLE_META, row_key_bytes(&prefix));
    int status = STATUS_OK;
    *out_count = 0;
    for (bool on = store_iterator_first(iterator); on && status == STATUS_OK;
         on = store_iterator_next(iterator)) {
        if (*out_count == LIMIT_MEMBER_KEYS ||
            !row_decode(store_iterator_key(iterator), store_iterator_value(iterator),
                        &out[*out_count])) {
            status = STATUS_CORRUPT;
        } else {
            (*out_count)++;
        }
    }
    status = status == STATUS_OK ? store_iterator_status(iterator) : status;
    store_iterator_close(iterator);
    return status;
}

bool member_key_valid(const char *key)
{
    return strlen(key) == MEMBER_KEY_BYTES - 1 && strspn(key, "0123456789abcdef") == strlen(key);
}

/* One more row fits: what has been out for longest makes room; a member's key only when nothing is out. */
static void keys_make_room(struct machine *machine, const struct member_key_row *rows,
                           uint32_t count)
{
    const struct member_key_row *oldest = NULL;
    for (uint32_t i = 0; i < count && count == LIMIT_MEMBER_KEYS; i++) {
        if (oldest == NULL || (rows[i].out && !oldest->out) ||
            (rows[i].out == oldest->out && rows[i].index < oldest->index)) {
            oldest = &rows[i];
        }
    }
    if (oldest != NULL) {
        row_forget(machine, oldest);
    }
}

static struct machine_result key_note(struct machine *machine, const struct member_key *wanted,
                                      const struct member_key_row *rows, uint32_t count)
{
    if (!member_key_valid(wanted->key)) {
        return result_of(REFUSED_MALFORMED, 0);
    }
    bool known = false;
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(rows[i].key, wanted->key) == 0) {
            if (rows[i].out) {
                return result_of(REFUSED_OWNER, rows[i].index);
            }
            known = true;
        }
    }
    if (!known) {
        keys_make_room(machine, rows, count);
    }
    struct member_key_row row = {
        .replica = wanted->replica, .index = machine->index, .time_ms = machine->meta.time_ms};
    memcpy(row.key, wanted->key, sizeof row.key);
    row_write(machine, &row);
    return result_of(ACCEPTED, machine->index);
}

/* What was noted before goes out. That a replica was removed is remembered even without. */
static struct machine_result keys_shut_out(struct machine *machine, const struct member_key *wanted,
                                           struct member_key_row *rows, uint32_t count)
{
    uint64_t shut = 0;
    bool known = false;
    for (uint32_t i = 0; i < count; i++) {
        known = known || rows[i].replica == wanted->replica;
        if (rows[i].replica != wanted->replica || rows[i].out || rows[i].index >= wanted->below) {
            continue;
        }
        rows[i].out = true;
        rows[i].index = machine->index;
        rows[i].time_ms = machine->meta.time_ms;
        row_write(machine, &rows[i]);
        shut++;
    }
    if (!known) {
        keys_make_room(machine, rows, count);
        row_write(machine, &(struct member_key_row){.replica = wanted->replica,
                                                    .index = machine->index,
                                                    .time_ms = machine->meta.time_ms,
                                                    .out = true});
    }
    return result_of(shut > 0 || !known ? ACCEPTED : ACCEPTED_UNCHANGED, shut);
}

/* What went out last of this replica is a member's key again. */
static struct machine_result keys_let_in(struct machine *machine, const struct member_key *wanted,
                                         struct member_key_row *rows, uint32_t count)
{
    uint64_t newest = 0;
    uint64_t let_in = 0;
    for (uint32_t i = 0; i < count; i++) {
        const bool counts = rows[i].replica == wanted->replica && rows[i].out;
        newest = counts && rows[i].index > newest ? rows[i].index : newest;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (rows[i].replica != wanted->replica || !rows[i].out || rows[i].index != newest) {
            continue;
        }
        if (rows[i].key[0] == '\0') {
            row_forget(machine, &rows[i]);
        } else {
            rows[i].out = false;
            rows[i].index = machine->index;
            rows[i].time_ms = machine->meta.time_ms;
            row_write(machine, &rows[i]);
        }
        let_in++;
    }
    return result_of(let_in > 0 ? ACCEPTED : ACCEPTED_UNCHANGED, let_in);
}

struct machine_result member_key_apply(struct machine *machine, const struct arrival *arrival)
{
    struct member_key wanted;
    if (codec_member_key_read(machine->codec, arrival->record->body, &wanted) != STATUS_OK ||
        wanted.replica == 0) {
        return result_of(REFUSED_MALFORMED, 0);
    }
    struct member_key_row *rows = malloc(LIMIT_MEMBER_KEYS * sizeof *rows);
    CHECK(rows != NULL);
    uint32_t count = 0;
    struct machine_result result = result_of(REFUSED_LIMIT, 0);
    const int status = member_key_list(store_live(machine->store), rows, &count);
    if (status != STATUS_OK) {
        machine->failed = status;
    } else if (wanted.standing == MEMBER_KEY_MEMBER) {
        result = key_note(machine, &wanted, rows, count);
    } else if (wanted.standing == MEMBER_KEY_OUT) {
        result = keys_shut_out(machine, &wanted, rows, count);
    } else {
        result = keys_let_in(machine, &wanted, rows, count);
    }
    free(rows);
    return result;
}
