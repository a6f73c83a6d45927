/* What an edge has promised to publish, in order, until the broker has it.
 *
 * A row is promised by the record that is its reason, in the same batch of the store; OUTBOX_DONE, a record like
 * any other, withdraws it. So a crash between the two publishes it again, and never forgets it. Mappers know it
 * by its event id.
 */
#include "statemachine/edge_body.h"

#include <stdlib.h>

#include "schemas/check.h"

/* The oldest promise goes, whose row is of `size` bytes. */
static void edge_outbox_forget_oldest(struct edge_machine *machine, size_t size)
{
    struct edge_meta *meta = &machine->meta;
    uint8_t memory[8];
    CHECK(meta->outbox_bytes >= size);
    meta->outbox_bytes -= size;
    meta->outbox_done++;
    store_remove(machine->store, EDGE_TABLE_OUTBOX, edge_key8(memory, meta->outbox_done));
}

/* Take back the oldest promise.
 *   answers  STATUS_OK; negative */
static int edge_outbox_withdraw_oldest(struct edge_machine *machine)
{
    uint8_t memory[8];
    struct bytes value;
    const int status = store_get(store_live(machine->store), EDGE_TABLE_OUTBOX,
                                 edge_key8(memory, machine->meta.outbox_done + 1), &value);
    if (status == STATUS_OK) {
        edge_outbox_forget_oldest(machine, value.size);
    }
    return status == STORE_NONE ? STATUS_CORRUPT : status;
}

/* Take back the oldest promises, up to and with `last`. Positions have no holes, so the first of their rows is found by
 * its number: from the beginning of the table an iterator would wade through the graves that all before it left.
 *   answers  STATUS_OK; negative */
static int edge_outbox_withdraw(struct edge_machine *machine, uint64_t last)
{
    struct edge_meta *meta = &machine->meta;
    uint8_t memory[8];
    struct store_iterator *iterator =
        store_iterate(store_live(machine->store), EDGE_TABLE_OUTBOX, (struct bytes){0});
    bool on = store_iterator_seek(iterator, edge_key8(memory, meta->outbox_done + 1));
    while (on && meta->outbox_done < last) {
        if (get_be64(store_iterator_key(iterator).data) != meta->outbox_done + 1) {
            break;
        }
        edge_outbox_forget_oldest(machine, store_iterator_value(iterator).size);
        on = store_iterator_next(iterator);
    }
    int status = store_iterator_status(iterator);
    if (status == STATUS_OK && meta->outbox_done < last) {
        status = STATUS_CORRUPT; /* one is missing */
    }
    store_iterator_close(iterator);
    return status;
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
        status = edge_outbox_withdraw_oldest(machine);
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
    return edge_outbox_withdraw(machine, done.position);
}

/* -- reading ------------------------------------------------------------------------------------------- */

struct edge_outbox {
    struct store_iterator *rows;
    bool on; /* they are on one that was not told */
};

struct edge_outbox *edge_outbox_open(struct edge_machine *machine, uint64_t after)
{
    uint8_t memory[8];
    struct edge_outbox *outbox = calloc(1, sizeof *outbox);
    CHECK(outbox != NULL);
    outbox->rows = store_iterate(store_live(machine->store), EDGE_TABLE_OUTBOX, (struct bytes){0});
    outbox->on = store_iterator_seek(outbox->rows, edge_key8(memory, after + 1));
    return outbox;
}

int edge_outbox_next(struct edge_outbox *outbox, struct codec *codec, uint64_t *out_position,
                     struct publication *out)
{
    if (!outbox->on) {
        const int status = store_iterator_status(outbox->rows);
        return status == STATUS_OK ? STORE_NONE : status;
    }
    *out_position = get_be64(store_iterator_key(outbox->rows).data);
    if (codec_publication_read(codec, codec_copy(codec, store_iterator_value(outbox->rows)), out) !=
        STATUS_OK) {
        return STATUS_CORRUPT; /* and stays on it */
    }
    outbox->on = store_iterator_next(outbox->rows);
    return STATUS_OK;
}

void edge_outbox_close(struct edge_outbox *outbox)
{
    if (outbox != NULL) {
        store_iterator_close(outbox->rows);
        free(outbox);
    }
}
