#include "statemachine/rebirth.h"

#include "statemachine/apply.h"

/* Rows of a batch while whole tables go. */
#define REBIRTH_BATCH_ROWS 4096u
/* Ids of streams are made of indexes, ids of snapshots of session epochs, and the feeds need the highest bit of
 * both. Indexes are used up first. */
#define REBIRTH_INDEX_MAX (UINT64_C(1) << 50)
#define REBIRTH_EPOCH_MAX (UINT64_C(1) << 43)
static_assert(REBIRTH_INDEX_MAX / REBIRTH_JUMP < REBIRTH_EPOCH_MAX / (REBIRTH_SESSIONS * 3 / 2),
              "as many rebirths as indexes allow leave room for sessions");

static uint64_t rebirth_jump(uint64_t jump, uint64_t chance)
{
    return jump + chance % (jump / 2);
}

uint64_t machine_rebirth_index(uint64_t index, const struct machine_rebirth *rebirth)
{
    const uint64_t jump = rebirth_jump(REBIRTH_JUMP, rebirth->chance);
    return index > REBIRTH_INDEX_MAX - jump ? 0 : index + jump;
}

static int rebirth_commit(struct machine *machine, uint64_t position)
{
    int status = store_commit(machine->store, position);
    while (status == STATUS_FULL) { /* nobody else waits: let the disk catch up */
        status = store_wait(machine->store);
        if (status == STATUS_OK) {
            status = store_commit(machine->store, position);
        }
    }
    if (status != STATUS_OK) {
        store_abandon(machine->store);
    }
    return status;
}

/* All rows of a table, some at a time: there may be more than a batch should hold. */
static int rebirth_clear(struct machine *machine, unsigned table)
{
    struct store *store = machine->store;
    struct row_key last = {.size = 0};
    int status = STATUS_OK;
    bool more = true;
    while (more && status == STATUS_OK) {
        store_begin(store);
        struct store_iterator *iterator =
            store_iterate(store_live(store), table, (struct bytes){0});
        uint32_t count = 0;
        more = store_iterator_seek(iterator, row_key_bytes(&last));
        while (more && count < REBIRTH_BATCH_ROWS) {
            last.size = 0;
            row_key_add(&last, store_iterator_key(iterator));
            store_remove(store, table, row_key_bytes(&last));
            count++;
            more = store_iterator_next(iterator);
        }
        status = store_iterator_status(iterator);
        store_iterator_close(iterator);
        if (status == STATUS_OK) {
            status = rebirth_commit(machine, store_position(store));
        } else {
            store_abandon(store);
        }
    }
    return status;
}

/* Each node stands at its tip, in a stream that nobody has read of. */
static void rebirth_nodes(struct machine *machine, const struct machine_rebirth *rebirth)
{
    struct store_iterator *iterator =
        store_iterate(store_live(machine->store), TABLE_NODE, (struct bytes){0});
    for (bool on = store_iterator_first(iterator); on; on = store_iterator_next(iterator)) {
        struct node_row *node = node_find(machine, store_iterator_key(iterator));
        if (node == NULL) {
            machine->failed = machine->failed != STATUS_OK ? machine->failed : STATUS_CORRUPT;
            break;
        }
        node->down_stream = node_stream(machine);
        node->down_acked = 0;
        node->down_floor = node->down_tip;
        node->down_swept = node->down_tip;
        node->down_count = 0;
        node->up_stream = 0;
        node->up_position = 0;
        node->epoch += rebirth_jump(REBIRTH_SESSIONS, rebirth->chance);
        node->replica = 0;
        if (node->epoch > REBIRTH_EPOCH_MAX) {
            machine->failed = STATUS_CORRUPT;
        }
        node_touch(machine, node, NODE_STREAM);
    }
    row_iterator_end(machine, iterator);
}

int machine_rebirth(struct machine *machine, const struct machine_rebirth *rebirth)
{
    /* Not TABLE_CHANGE: no version leads from what an end left there to those that follow. */
    const unsigned cleared[] = {TABLE_DOWN, TABLE_DOWN_KEY, TABLE_ORIGIN};
    CHECK(!machine->committing);
    CHECK(!store_in_batch(machine->store));
    const uint64_t index = machine_rebirth_index(machine_index(machine), rebirth);
    if (index == 0 || rebirth->epoch <= machine->meta.epoch) {
        return STATUS_UNSUPPORTED;
    }

    for (size_t i = 0; i < sizeof cleared / sizeof cleared[0]; i++) {
        const int status = rebirth_clear(machine, cleared[i]);
        if (status != STATUS_OK) {
            return status;
        }
    }
    machine->applied = (struct machine_applied){0};
    machine->index = index;
    machine->place = 0;
    node_cache_clear(machine->nodes);
    store_begin(machine->store);
    rebirth_nodes(machine, rebirth);
    machine->meta.epoch = rebirth->epoch;
    machine->meta.version += rebirth_jump(REBIRTH_JUMP, rebirth->chance);
    row_put_u64(machine, TABLE_META, bytes_text("epoch"), rebirth->epoch);
    machine_meta_put(machine);
    node_cache_write(machine);
    store_reader_reset(store_live(machine->store));
    int status = machine->failed;
    if (status == STATUS_OK) {
        status = rebirth_commit(machine, index);
    } else {
        store_abandon(machine->store);
    }
    const int loaded = machine_load(machine);
    return status != STATUS_OK ? status : loaded;
}
