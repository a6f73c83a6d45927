/* What edges said to the cloud, until somebody carries it on.
 *
 * Rows of INBOX:
 *
 *   node                        -> u64 newest number, u64 rows kept, u64 bytes of their records
 *   node \0 number be64         -> u64 kind, Record bytes
 */
#include "statemachine/inbox.h"

#include "statemachine/apply.h"

#define INBOX_COUNTS_BYTES 24u
#define INBOX_HEADER_BYTES 8u

struct inbox_counts {
    uint64_t last;
    uint64_t kept;
    uint64_t bytes;
};

static struct row_key inbox_key(struct bytes node, uint64_t number)
{
    struct row_key key = row_key_pair(node, (struct bytes){0});
    row_key_add_be64(&key, number);
    return key;
}

static bool inbox_counts_decode(struct bytes value, struct inbox_counts *out)
{
    if (value.size != INBOX_COUNTS_BYTES) {
        return false;
    }
    out->last = get_le64(value.data);
    out->kept = get_le64(value.data + 8);
    out->bytes = get_le64(value.data + 16);
    return out->kept <= out->last;
}

static struct inbox_counts inbox_counts_get(struct machine *machine, struct bytes node)
{
    struct inbox_counts counts = {0};
    struct bytes value;
    if (row_get(machine, TABLE_INBOX, node, &value) && !inbox_counts_decode(value, &counts)) {
        machine->failed = STATUS_CORRUPT;
        return (struct inbox_counts){0};
    }
    return counts;
}

/* -- writing ----------------------------------------------------------------------------------- */

/* Whether the device of a DEVICE_VALUE is this node's. */
static struct machine_result inbox_check_value(struct machine *machine, const char *node,
                                               const struct arrival *arrival)
{
    struct device_value value;
    const struct bytes key = bytes_text(arrival->record->key);
    if (codec_device_value_read(machine->codec, arrival->record->body, &value) != STATUS_OK ||
        key.size == 0 || key.size > LIMIT_KEY_BYTES) {
        return result_of(REFUSED_MALFORMED, 0);
    }
    struct part_value wish;
    struct object object;
    if (!access_allows_fact(node, arrival->record->kind, arrival->record->key)) {
        return result_of(REFUSED_OWNER, 0);
    }
    if (!object_find(machine, key, &wish, &object)) {
        return result_of(REFUSED_MISSING, 0);
    }
    if (strcmp(value.uid, object.uid) != 0) {
        return result_of(REFUSED_UID, wish.version);
    }
    return strcmp(node, object.node_name) == 0 ? result_of(ACCEPTED, 0)
                                               : result_of(REFUSED_OWNER, wish.version);
}

static struct machine_result inbox_check(struct machine *machine, const char *node,
                                         const struct arrival *arrival)
{
    if (arrival->bytes.size > LIMIT_FACT_BYTES) {
        return result_of(REFUSED_LIMIT, LIMIT_FACT_BYTES);
    }
    if (arrival->record->kind == RECORD_DEVICE_VALUE) {
        return inbox_check_value(machine, node, arrival);
    }
    struct mqtt_message message;
    return codec_mqtt_message_read(machine->codec, arrival->record->body, &message) == STATUS_OK
               ? result_of(ACCEPTED, 0)
               : result_of(REFUSED_MALFORMED, 0);
}

struct machine_result inbox_apply(struct machine *machine, const char *node,
                                  const struct arrival *arrival)
{
    const struct machine_result check = inbox_check(machine, node, arrival);
    if (check.outcome != ACCEPTED) {
        return check;
    }
    const struct bytes name = bytes_text(node);
    struct inbox_counts counts = inbox_counts_get(machine, name);
    counts.last++;
    counts.kept++;
    counts.bytes += arrival->bytes.size;
    while (counts.kept > 1 &&
           (counts.kept > (uint64_t)machine->settings[SETTING_INBOX_ROWS_MAX] ||
            counts.bytes > (uint64_t)machine->settings[SETTING_INBOX_BYTES_MAX])) {
        const struct row_key oldest = inbox_key(name, counts.last - counts.kept + 1);
        struct bytes value;
        if (!row_get(machine, TABLE_INBOX, row_key_bytes(&oldest), &value) ||
            value.size < INBOX_HEADER_BYTES || value.size - INBOX_HEADER_BYTES > counts.bytes) {
            machine->failed = machine->failed != STATUS_OK ? machine->failed : STATUS_CORRUPT;
            break;
        }
        counts.bytes -= value.size - INBOX_HEADER_BYTES;
        store_remove(machine->store, TABLE_INBOX, row_key_bytes(&oldest));
        counts.kept--;
    }

    uint8_t numbers[INBOX_COUNTS_BYTES];
    put_le64(numbers, counts.last);
    put_le64(numbers + 8, counts.kept);
    put_le64(numbers + 16, counts.bytes);
    store_put(machine->store, TABLE_INBOX, name, bytes_of(numbers, sizeof numbers));
    const struct row_key key = inbox_key(name, counts.last);
    uint8_t *value = row_scratch(machine, INBOX_HEADER_BYTES + arrival->bytes.size);
    put_le64(value, arrival->record->kind);
    memcpy(value + INBOX_HEADER_BYTES, arrival->bytes.data, arrival->bytes.size);
    store_put(machine->store, TABLE_INBOX, row_key_bytes(&key),
              bytes_of(value, INBOX_HEADER_BYTES + arrival->bytes.size));
    return result_of(ACCEPTED, counts.last);
}

void inbox_forget_node(struct machine *machine, const char *node)
{
    const struct bytes name = bytes_text(node);
    const struct row_key prefix = row_key_pair(name, (struct bytes){0});
    row_remove_prefix(machine, TABLE_INBOX, row_key_bytes(&prefix));
    store_remove(machine->store, TABLE_INBOX, name);
}

/* -- reading ----------------------------------------------------------------------------------- */

int inbox_next(struct store_reader *reader, const char *node, uint64_t after, struct inbox_row *out)
{
    const struct row_key from = inbox_key(bytes_text(node), after + 1);
    struct store_iterator *iterator =
        store_iterate(reader, TABLE_INBOX, bytes_of(from.data, from.size - 8));
    uint64_t number = 0;
    int status = INBOX_NONE;
    if (store_iterator_seek(iterator, row_key_bytes(&from))) {
        const struct bytes key = store_iterator_key(iterator);
        status = key.size == from.size ? STATUS_OK : STATUS_CORRUPT;
        number = status == STATUS_OK ? get_be64(key.data + from.size - 8) : 0;
    } else if (store_iterator_status(iterator) != STATUS_OK) {
        status = store_iterator_status(iterator);
    }
    store_iterator_close(iterator);
    if (status != STATUS_OK) {
        return status;
    }
    const struct row_key key = inbox_key(bytes_text(node), number);
    struct bytes value;
    status = store_get(reader, TABLE_INBOX, row_key_bytes(&key), &value);
    if (status < 0) {
        return status;
    }
    if (status != STATUS_OK || value.size < INBOX_HEADER_BYTES) {
        return STATUS_CORRUPT;
    }
    *out = (struct inbox_row){
        .number = number,
        .kind = (uint16_t)get_le64(value.data),
        .record = bytes_of(value.data + INBOX_HEADER_BYTES, value.size - INBOX_HEADER_BYTES)};
    return STATUS_OK;
}

int inbox_count(struct store_reader *reader, const char *node, uint64_t *out_last,
                uint64_t *out_kept)
{
    struct inbox_counts counts = {0};
    struct bytes value;
    const int status = store_get(reader, TABLE_INBOX, bytes_text(node), &value);
    if (status < 0) {
        return status;
    }
    if (status == STATUS_OK && !inbox_counts_decode(value, &counts)) {
        return STATUS_CORRUPT;
    }
    *out_last = counts.last;
    *out_kept = counts.kept;
    return STATUS_OK;
}
