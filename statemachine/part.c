#include "statemachine/apply.h"

bool part_decode(struct bytes value, struct part_value *out)
{
    *out = (struct part_value){.value = value};
    if (value.size == 0) {
        return true;
    }
    if (value.size < PART_HEADER_BYTES) {
        return false;
    }
    out->version = get_le64(value.data);
    out->created_version = get_le64(value.data + 8);
    const uint32_t offset = get_le32(value.data + 16);
    const uint32_t size = get_le32(value.data + 20);
    out->flags = get_le64(value.data + 24);
    out->record = bytes_of(value.data + PART_HEADER_BYTES, value.size - PART_HEADER_BYTES);
    if (offset > out->record.size || size > out->record.size - offset) {
        return false;
    }
    out->body = bytes_of(out->record.data + offset, size);
    return true;
}

bool part_get(struct machine *machine, enum part part, struct bytes key, struct part_value *out)
{
    struct bytes value = {0};
    const bool found = row_get(machine, part_table(part), key, &value);
    if (found && !part_decode(value, out)) {
        machine->failed = STATUS_CORRUPT;
    }
    if (!found || machine->failed != STATUS_OK) {
        *out = (struct part_value){0};
        return false;
    }
    return true;
}

void part_put(struct machine *machine, enum part part, struct bytes key,
              const struct part_value *value)
{
    CHECK(value->version > 0);
    CHECK_IF(value->body.size > 0, value->body.data >= value->record.data);
    const size_t size = PART_HEADER_BYTES + value->record.size;
    uint8_t *bytes = row_scratch(machine, size);
    put_le64(bytes, value->version);
    put_le64(bytes + 8, value->created_version);
    put_le32(bytes + 16,
             value->body.size == 0 ? 0 : (uint32_t)(value->body.data - value->record.data));
    put_le32(bytes + 20, (uint32_t)value->body.size);
    put_le64(bytes + 24, value->flags);
    if (value->record.size > 0) {
        memcpy(bytes + PART_HEADER_BYTES, value->record.data, value->record.size);
    }
    store_put(machine->store, part_table(part), key, bytes_of(bytes, size));
}
