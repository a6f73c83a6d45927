#include "statemachine/apply.h"

#include <stdlib.h>

void row_key_add(struct row_key *key, struct bytes bytes)
{
    CHECK(bytes.size <= sizeof key->data - key->size);
    if (bytes.size > 0) {
        memcpy(key->data + key->size, bytes.data, bytes.size);
        key->size += bytes.size;
    }
}

void row_key_add_zero(struct row_key *key)
{
    CHECK(key->size < sizeof key->data);
    key->data[key->size] = 0;
    key->size++;
}

void row_key_add_be64(struct row_key *key, uint64_t number)
{
    CHECK(8 <= sizeof key->data - key->size);
    put_be64(key->data + key->size, number);
    key->size += 8;
}

struct row_key row_key_pair(struct bytes first, struct bytes second)
{
    struct row_key key;
    key.size = 0;
    row_key_add(&key, first);
    row_key_add_zero(&key);
    row_key_add(&key, second);
    return key;
}

struct bytes row_key_take(struct bytes *rest)
{
    const uint8_t *end = rest->size == 0 ? NULL : memchr(rest->data, 0, rest->size);
    const size_t size = end == NULL ? rest->size : (size_t)(end - rest->data);
    const struct bytes part = bytes_of(rest->data, size);
    const size_t taken = end == NULL ? size : size + 1;
    *rest = bytes_of(taken == 0 ? rest->data : rest->data + taken, rest->size - taken);
    return part;
}

bool row_get(struct machine *machine, unsigned table, struct bytes key, struct bytes *out_value)
{
    const int status = store_get(store_live(machine->store), table, key, out_value);
    if (status < 0) {
        machine->failed = status;
    }
    return status == STATUS_OK;
}

bool row_find(struct machine *machine, unsigned table, struct bytes key)
{
    const int status = store_find(store_live(machine->store), table, key);
    if (status < 0) {
        machine->failed = status;
    }
    return status == STATUS_OK;
}

void row_put_u64(struct machine *machine, unsigned table, struct bytes key, uint64_t value)
{
    uint8_t bytes[8];
    put_le64(bytes, value);
    store_put(machine->store, table, key, bytes_of(bytes, sizeof bytes));
}

uint64_t row_get_u64(struct machine *machine, unsigned table, struct bytes key)
{
    struct bytes value;
    if (!row_get(machine, table, key, &value)) {
        return 0;
    }
    if (value.size != 8) {
        machine->failed = STATUS_CORRUPT;
        return 0;
    }
    return get_le64(value.data);
}

void row_add(struct machine *machine, unsigned table, struct bytes key, int64_t difference)
{
    const uint64_t before = row_get_u64(machine, table, key);
    const uint64_t after = before + (uint64_t)difference;
    if (after == 0 || machine->failed != STATUS_OK) {
        store_remove(machine->store, table, key);
    } else {
        row_put_u64(machine, table, key, after);
    }
}

void row_remove_prefix(struct machine *machine, unsigned table, struct bytes prefix)
{
    const int status = store_remove_prefix(machine->store, table, prefix);
    if (status < 0) {
        machine->failed = status;
    }
}

uint8_t *row_scratch(struct machine *machine, size_t size)
{
    CHECK(size <= LIMIT_FRAME_BYTES);
    if (size > machine->scratch_capacity) {
        size_t capacity = machine->scratch_capacity == 0 ? 4096 : machine->scratch_capacity;
        while (capacity < size) {
            capacity *= 2;
        }
        free(machine->scratch);
        machine->scratch = malloc(capacity);
        CHECK(machine->scratch != NULL);
        machine->scratch_capacity = capacity;
    }
    return machine->scratch;
}

void row_iterator_end(struct machine *machine, struct store_iterator *iterator)
{
    const int status = store_iterator_status(iterator);
    if (status < 0) {
        machine->failed = status;
    }
    store_iterator_close(iterator);
}
