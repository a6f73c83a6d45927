/* What a proposing process was answered.
 *
 * A process proposes a command under (origin, sequence) and, when it cannot tell whether that took,
 * proposes the same again, maybe through another leader. The first one that is applied decides; the
 * others find its results here. A bounded window of them is kept per process. Sequences may arrive
 * out of order, so it is a window, not a mark. Once a newer boot of the same replica has been heard,
 * what the older ones still have on the way is refused: nobody waits for it, and it must not happen
 * after the newer one was told what the state is.
 *
 * Rows: origin be64, sequence be64 -> per record u8 outcome, u64 value;
 *       origin be64, 0            -> u64 newest sequence, u64 sequence up to which rows are gone
 * A command without sequence is nobody's and is never a duplicate.
 */
#include "statemachine/apply.h"

#define RESULT_BYTES 9u

static struct row_key origin_key(uint64_t origin, uint64_t sequence)
{
    struct row_key key;
    key.size = 0;
    row_key_add_be64(&key, origin);
    row_key_add_be64(&key, sequence);
    return key;
}

static bool origin_head_get(struct machine *machine, uint64_t origin, struct origin_head *out)
{
    *out = (struct origin_head){0};
    const struct row_key key = origin_key(origin, 0);
    struct bytes value;
    if (!row_get(machine, TABLE_ORIGIN, row_key_bytes(&key), &value)) {
        return false;
    }
    if (value.size != 16) {
        machine->failed = STATUS_CORRUPT;
        return false;
    }
    *out = (struct origin_head){
        .there = true, .newest = get_le64(value.data), .gone = get_le64(value.data + 8)};
    return true;
}

static void origin_head_put(struct machine *machine, uint64_t origin, struct origin_head head)
{
    const struct row_key key = origin_key(origin, 0);
    uint8_t value[16];
    put_le64(value, head.newest);
    put_le64(value + 8, head.gone);
    store_put(machine->store, TABLE_ORIGIN, row_key_bytes(&key), bytes_of(value, sizeof value));
}

/* The boots of this replica that are kept: there is at most one, the newest. */
static bool origin_find_boot(struct machine *machine, uint64_t origin, uint64_t *out_origin)
{
    uint8_t prefix[8];
    put_be64(prefix, origin);
    struct store_iterator *iterator =
        store_iterate(store_live(machine->store), TABLE_ORIGIN, bytes_of(prefix, 4));
    bool found = false;
    if (store_iterator_last(iterator)) {
        const struct bytes key = store_iterator_key(iterator);
        if (key.size == 16) {
            *out_origin = get_be64(key.data);
            found = true;
        } else {
            machine->failed = STATUS_CORRUPT;
        }
    }
    row_iterator_end(machine, iterator);
    return found;
}

enum origin_answer origin_find(struct machine *machine, const struct command *command,
                               struct origin_head *out_head, uint32_t *out_count)
{
    *out_head = (struct origin_head){0};
    if (command->sequence == 0) {
        return ORIGIN_NEW;
    }
    if (!origin_head_get(machine, command->origin, out_head)) {
        uint64_t kept;
        if (!origin_find_boot(machine, command->origin, &kept)) {
            return ORIGIN_NEW;
        }
        CHECK(kept != command->origin); /* its head would have been there */
        return kept > command->origin ? ORIGIN_STALE : ORIGIN_NEW;
    }
    if (command->sequence <= out_head->gone) {
        return ORIGIN_STALE;
    }
    if (command->sequence > out_head->newest) {
        return ORIGIN_NEW; /* as nearly all are */
    }

    const struct row_key key = origin_key(command->origin, command->sequence);
    struct bytes value;
    if (!row_get(machine, TABLE_ORIGIN, row_key_bytes(&key), &value)) {
        return ORIGIN_NEW;
    }
    const size_t count = value.size / RESULT_BYTES;
    if (value.size % RESULT_BYTES != 0 || count > LIMIT_BATCH_RECORDS) {
        machine->failed = STATUS_CORRUPT;
        return ORIGIN_STALE;
    }
    for (size_t i = 0; i < count; i++) {
        const uint8_t *at = value.data + i * RESULT_BYTES;
        machine->results[i] = result_of((enum outcome)at[0], get_le64(at + 1));
    }
    *out_count = (uint32_t)count;
    return ORIGIN_KNOWN;
}

/* Let go of rows up to `gone`. */
static void origin_trim(struct machine *machine, uint64_t origin, struct origin_head *head,
                        uint64_t gone)
{
    if (gone - head->gone > LIMIT_BATCH_RECORDS) { /* a jump: few of these rows are there */
        const struct row_key from = origin_key(origin, head->gone + 1);
        const struct row_key to = origin_key(origin, gone + 1);
        const int status = store_remove_range(machine->store, TABLE_ORIGIN, row_key_bytes(&from),
                                              row_key_bytes(&to));
        if (status < 0) {
            machine->failed = status;
        }
    } else {
        for (uint64_t sequence = head->gone + 1; sequence <= gone; sequence++) {
            const struct row_key key = origin_key(origin, sequence);
            store_remove(machine->store, TABLE_ORIGIN, row_key_bytes(&key));
        }
    }
    head->gone = gone;
}

void origin_keep(struct machine *machine, const struct command *command, struct origin_head head,
                 uint32_t count)
{
    if (command->sequence == 0) {
        return;
    }
    if (!head.there) {
        uint64_t kept;
        if (origin_find_boot(machine, command->origin, &kept)) {
            uint8_t prefix[8];
            put_be64(prefix, kept);
            row_remove_prefix(machine, TABLE_ORIGIN, bytes_of(prefix, sizeof prefix));
        }
    }

    const struct row_key key = origin_key(command->origin, command->sequence);
    const size_t size = (size_t)count * RESULT_BYTES;
    uint8_t *value = row_scratch(machine, size);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *at = value + (size_t)i * RESULT_BYTES;
        at[0] = (uint8_t)machine->results[i].outcome;
        put_le64(at + 1, machine->results[i].value);
    }
    store_put(machine->store, TABLE_ORIGIN, row_key_bytes(&key), bytes_of(value, size));

    const uint64_t window = (uint64_t)machine->settings[SETTING_ORIGIN_WINDOW];
    if (command->sequence > head.newest) {
        head.newest = command->sequence;
    }
    if (head.newest > window && head.newest - window > head.gone) {
        origin_trim(machine, command->origin, &head, head.newest - window);
    }
    origin_head_put(machine, command->origin, head);
}
