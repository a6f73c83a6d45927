/* What an edge has promised to publish, in order, until the broker has it.
 *
 * A row is promised by the record that is its reason, in the same batch of the store; OUTBOX_DONE, a record like
 * any other, withdraws it. So a crash between the two publishes it again, and never forgets it. Mappers know it
 * by its event id.
 */
#include "statemachine/edge_body.h"

#include "schemas/check.h"

/* Take back the oldest promise. Positions have no holes, so its row is found by its number: an iterator would wade
 * through the graves that all before it left.
 *   answers  STATUS_OK; negative */
static int edge_outbox_withdraw(struct edge_machine *machine)
{
    struct edge_meta *meta = &machine->meta;
    uint8_t memory[8];
    const struct bytes key = edge_key8(memory, meta->outbox_done + 1);
    struct bytes bytes;
    const int status = store_get(store_live(machine->store), EDGE_TABLE_OUTBOX, key, &bytes);
    if (status != STATUS_OK) {
        return status == STORE_NONE ? STATUS_CORRUPT : status;
    }
    CHECK(meta->outbox_bytes >= bytes.size);
    meta->outbox_bytes -= bytes.size;
    meta->outbox_done++;
    store_remove(machine->store, EDGE_TABLE_OUTBOX, key);
    return STATUS_OK;
}

int edge_outbox_promise(struct edge_machine *machine, const struct publication *publication)
{
    struct edge_meta *meta = &machine->meta;
    struct bytes bytes;
    const int built = codec_publication_build(machine->scratch, publication, &bytes);
    CHECK(built == STATUS_OK);
    uint8_t memory[8];
    meta->outbox_last++;
    meta->outbox_bytes += bytes.size;
    store_add(machine->store, EDGE_TABLE_OUTBOX, edge_key8(memory, meta->outbox_last), bytes);

    /* Where no broker takes them, what is oldest concerns nobody any more. */
    const struct edge_limits *limits = &machine->limits;
    int status = STATUS_OK;
    while (status == STATUS_OK && meta->outbox_last - meta->outbox_done > 1 &&
           (meta->outbox_last - meta->outbox_done > limits->publications ||
            meta->outbox_bytes > limits->publication_bytes)) {
        status = edge_outbox_withdraw(machine);
        meta->outbox_dropped++;
    }
    return status;
}

/* OUTBOX_DONE: the broker has taken everything up to there. */
int edge_outbox_done_apply(struct edge_machine *machine, const struct record *record)
{
    struct edge_meta *meta = &machine->meta;
    struct outbox_done done;
    if (codec_outbox_done_read(machine->codec, record->body, &done) != STATUS_OK ||
        done.position > meta->outbox_last) {
        edge_refuse(machine, EDGE_REFUSED_MALFORMED);
        return STATUS_OK;
    }
    if (done.position <= meta->outbox_done) {
        machine->applied->outcome = EDGE_DUPLICATE;
        return STATUS_OK;
    }
    int status = STATUS_OK;
    while (status == STATUS_OK && meta->outbox_done < done.position) {
        status = edge_outbox_withdraw(machine);
    }
    return status;
}

int edge_outbox_next(struct edge_machine *machine, uint64_t after, struct codec *codec,
                     uint64_t *out_position, struct publication *out)
{
    uint8_t memory[8];
    struct store_iterator *iterator =
        store_iterate(store_live(machine->store), EDGE_TABLE_OUTBOX, (struct bytes){0});
    const bool on = store_iterator_seek(iterator, edge_key8(memory, after + 1));
    int status = store_iterator_status(iterator);
    if (status == STATUS_OK && !on) {
        status = STORE_NONE;
    }
    if (status == STATUS_OK) {
        *out_position = get_be64(store_iterator_key(iterator).data);
        if (codec_publication_read(codec, codec_copy(codec, store_iterator_value(iterator)), out) !=
            STATUS_OK) {
            status = STATUS_CORRUPT;
        }
    }
    store_iterator_close(iterator);
    return status;
}
