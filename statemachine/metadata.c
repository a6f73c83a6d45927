/* The wishes an edge holds: what came down, snapshots that replace them, and their digest. */
#include "statemachine/edge_body.h"

#include <stdlib.h>

#include "schemas/check.h"

/* -- rows ------------------------------------------------------------------------------------------- */

static struct edge_sums edge_sums_live(struct edge_machine *machine)
{
    return (struct edge_sums){.digest = &machine->meta.digest,
                              .count = &machine->meta.object_count,
                              .bytes = &machine->meta.object_bytes};
}

static struct edge_sums edge_sums_stage(struct edge_machine *machine)
{
    return (struct edge_sums){.digest = &machine->meta.stage_digest,
                              .count = &machine->meta.stage_count,
                              .bytes = &machine->meta.stage_bytes};
}

static unsigned edge_stage_table(const struct edge_machine *machine)
{
    return machine->meta.wish_table == EDGE_TABLE_WISH_A ? EDGE_TABLE_WISH_B : EDGE_TABLE_WISH_A;
}

/* The object in a row, lent by `codec` (its bytes too).
 *   answers  STATUS_OK; STORE_NONE; STATUS_CORRUPT; negatives of the store */
static int edge_row_read(struct edge_machine *machine, unsigned table, const char *key,
                         struct codec *codec, struct object_put *out, size_t *out_size)
{
    struct bytes row;
    int status = store_get(store_live(machine->store), table, bytes_text(key), &row);
    if (status != STATUS_OK) {
        return status;
    }
    *out_size = row.size;
    status = codec_object_put_read(codec, codec_copy(codec, row), out);
    if (!store_in_batch(machine->store)) {
        store_reader_reset(store_live(machine->store));
    }
    return status == STATUS_OK ? STATUS_OK : STATUS_CORRUPT; /* it was read before it was put */
}

int edge_wish_match(struct edge_machine *machine, const char *key, const char *uid)
{
    struct object_put put;
    size_t size;
    const int status =
        edge_row_read(machine, machine->meta.wish_table, key, machine->codec, &put, &size);
    if (status != STATUS_OK) {
        return status;
    }
    return strcmp(put.object.uid, uid) == 0 ? STATUS_OK : STORE_NONE;
}

/* The texts are copied: the record they are part of is the caller's, and goes before the changes. */
static void edge_change_add(struct edge_machine *machine, struct edge_change change)
{
    struct edge_applied *applied = machine->applied;
    change.key = codec_print(machine->codec, "%s", change.key);
    change.uid = codec_print(machine->codec, "%s", change.uid);
    change.old_uid = codec_print(machine->codec, "%s", change.old_uid);
    if (applied->change_count == machine->change_capacity) {
        const uint32_t capacity = machine->change_capacity == 0 ? 16 : 4 * machine->change_capacity;
        struct edge_change *changes = codec_array(machine->codec, capacity, sizeof *changes);
        if (applied->change_count > 0) {
            memcpy(changes, machine->changes, applied->change_count * sizeof *changes);
        }
        machine->changes = changes;
        machine->change_capacity = capacity;
        applied->changes = changes;
    }
    machine->changes[applied->change_count] = change;
    applied->change_count++;
}

/* A record inside a batch or snapshot was refused: what we hold is not what the cloud thinks. */
static int edge_wish_refuse(struct edge_machine *machine, bool malformed)
{
    machine->applied->refused_count++;
    machine->meta.malformed_count += malformed ? 1 : 0;
    machine->meta.snapshot_wanted = true;
    return STATUS_OK;
}

static int edge_wish_put(struct edge_machine *machine, unsigned table, struct edge_sums sums,
                         const struct record *record)
{
    struct object_put put;
    const size_t key_size = strlen(record->key);
    if (key_size == 0 || key_size > LIMIT_KEY_BYTES ||
        codec_object_put_read(machine->codec, record->body, &put) != STATUS_OK ||
        strlen(put.object.uid) > LIMIT_NAME_BYTES) {
        return edge_wish_refuse(machine, true);
    }
    struct object_put old;
    size_t old_size = 0;
    int status = edge_row_read(machine, table, record->key, machine->codec, &old, &old_size);
    if (status < 0) {
        return status;
    }
    const bool replaces = status == STATUS_OK;
    CHECK_IF(replaces, *sums.count > 0);
    if ((!replaces && *sums.count >= machine->limits.objects) ||
        *sums.bytes - old_size + record->body.size > machine->limits.object_bytes) {
        return edge_wish_refuse(machine, false);
    }

    const bool live = table == machine->meta.wish_table;
    const bool other_uid = replaces && strcmp(old.object.uid, put.object.uid) != 0;
    if (live && other_uid) {
        status = edge_pod_forget(machine, record->key, old.object.uid);
        if (status < 0) {
            return status;
        }
    }
    if (replaces) {
        *sums.digest = tag_subtract(*sums.digest, old.object.tag);
        *sums.bytes -= old_size;
        *sums.count -= 1;
    }
    *sums.digest = tag_add(*sums.digest, put.object.tag);
    *sums.bytes += record->body.size;
    *sums.count += 1;
    store_put(machine->store, table, bytes_text(record->key), record->body);
    if (live) {
        status = edge_device_wished(machine, record->key, &put.object);
        if (status < 0) {
            return status;
        }
        edge_change_add(machine, (struct edge_change){
                                     .key = record->key,
                                     .uid = put.object.uid,
                                     .old_uid = other_uid ? old.object.uid : "",
                                 });
    }
    return STATUS_OK;
}

/* What is not there, or has another uid by now, is gone already. */
static int edge_wish_remove(struct edge_machine *machine, const struct record *record)
{
    struct object_remove remove;
    const size_t key_size = strlen(record->key);
    if (key_size == 0 || key_size > LIMIT_KEY_BYTES ||
        codec_object_remove_read(machine->codec, record->body, &remove) != STATUS_OK) {
        return edge_wish_refuse(machine, true);
    }
    struct object_put old;
    size_t old_size = 0;
    int status = edge_row_read(machine, machine->meta.wish_table, record->key, machine->codec, &old,
                               &old_size);
    if (status != STATUS_OK) {
        return status == STORE_NONE ? STATUS_OK : status;
    }
    if (remove.if_uid[0] != '\0' && strcmp(remove.if_uid, old.object.uid) != 0) {
        return STATUS_OK;
    }

    struct edge_sums sums = edge_sums_live(machine);
    CHECK(*sums.count > 0);
    status = edge_pod_forget(machine, record->key, old.object.uid);
    if (status == STATUS_OK) {
        status = edge_device_forget(machine, record->key);
    }
    if (status < 0) {
        return status;
    }
    *sums.digest = tag_subtract(*sums.digest, old.object.tag);
    *sums.bytes -= old_size;
    *sums.count -= 1;
    store_remove(machine->store, machine->meta.wish_table, bytes_text(record->key));
    edge_change_add(machine, (struct edge_change){.key = record->key,
                                                  .removed = true,
                                                  .uid = old.object.uid,
                                                  .old_uid = "",
                                                  .reason = remove.reason});
    return STATUS_OK;
}

int edge_wish_apply(struct edge_machine *machine, uint64_t place, struct bytes bytes)
{
    struct record record;
    if (codec_record_read(machine->codec, codec_aligned(machine->codec, bytes), &record) !=
            STATUS_OK ||
        record.kind == RECORD_NONE) {
        return edge_wish_refuse(machine, true);
    }
    if (record.kind == RECORD_OBJECT_PUT && edge_kind_known(machine, record.kind)) {
        return edge_wish_put(machine, machine->meta.wish_table, edge_sums_live(machine), &record);
    }
    if (record.kind == RECORD_OBJECT_REMOVE && edge_kind_known(machine, record.kind)) {
        return edge_wish_remove(machine, &record);
    }
    if (edge_kind_known(machine, record.kind)) {
        return edge_wish_refuse(machine, false); /* nothing that comes down */
    }
    machine->applied->unknown_count++;
    return edge_unknown_keep(machine, machine->index, place, bytes);
}

/* -- batches ----------------------------------------------------------------------------------------- */

/* DOWN_BATCH: taken if it is of our stream and joins what we have; what we have is skipped. */
int edge_down_batch_apply(struct edge_machine *machine, const struct record *record)
{
    struct edge_meta *meta = &machine->meta;
    struct batch batch;
    if (codec_batch_read(machine->codec, record->body, &batch) != STATUS_OK) {
        edge_refuse(machine, EDGE_REFUSED_MALFORMED);
        return STATUS_OK;
    }
    if (batch.node[0] != '\0' && strcmp(batch.node, meta->node) != 0) {
        edge_refuse(machine, EDGE_REFUSED_FOREIGN);
        return STATUS_OK;
    }
    if (meta->down_stream == 0 || batch.stream != meta->down_stream) {
        edge_refuse(machine, EDGE_REFUSED_STREAM);
        return STATUS_OK;
    }
    if (batch.previous > meta->down_position) {
        edge_refuse(machine, EDGE_REFUSED_GAP);
        return STATUS_OK;
    }
    if (batch.last < meta->down_position ||
        (batch.last == meta->down_position && batch.previous != batch.last)) {
        machine->applied->outcome = EDGE_DUPLICATE;
        return STATUS_OK;
    }

    for (uint32_t i = 0; i < batch.record_count; i++) {
        if (batch.records[i].sequence > meta->down_position) {
            const int status =
                edge_wish_apply(machine, batch.records[i].sequence, batch.records[i].record);
            if (status < 0) {
                return status;
            }
        }
    }
    meta->down_position = batch.last;
    if (batch.tip > meta->down_tip) {
        meta->down_tip = batch.tip;
    }
    /* The sums are those at the tip, and comparable if we understood all of it. */
    if (batch.last == batch.tip && meta->unknown_down == 0 &&
        !tag_equal(meta->digest, batch.digest)) {
        meta->mismatch_count++;
        meta->snapshot_wanted = true;
        machine->applied->digest_differs = true;
    }
    return STATUS_OK;
}

/* -- snapshots ----------------------------------------------------------------------------------------- */

static void edge_stage_close(struct edge_machine *machine)
{
    struct edge_meta *meta = &machine->meta;
    meta->stage_open = false;
    meta->stage_id = 0;
    meta->stage_stream = 0;
    meta->stage_position = 0;
    meta->stage_index = 0;
    meta->stage_unknown = 0;
    meta->stage_digest = (struct tag){0};
    meta->stage_count = 0;
    meta->stage_bytes = 0;
}

/* SNAPSHOT_BEGIN: an older stage is discarded. Numbers never go back within a stream, so a snapshot
 * of before where we are is one that was overtaken. */
static int edge_snapshot_begin(struct edge_machine *machine, const struct snapshot *snapshot)
{
    struct edge_meta *meta = &machine->meta;
    if (snapshot->stream == 0) {
        edge_refuse(machine, EDGE_REFUSED_MALFORMED);
        return STATUS_OK;
    }
    if (snapshot->stream == meta->down_stream && snapshot->position < meta->down_position) {
        edge_refuse(machine, EDGE_REFUSED_STALE);
        return STATUS_OK;
    }

    const int status =
        store_remove_prefix(machine->store, edge_stage_table(machine), (struct bytes){0});
    if (status < 0) {
        return status;
    }
    edge_stage_close(machine);
    meta->stage_open = true;
    meta->stage_id = snapshot->id;
    meta->stage_stream = snapshot->stream;
    meta->stage_position = snapshot->position;
    meta->stage_index = machine->index;
    return STATUS_OK;
}

static int edge_snapshot_rows(struct edge_machine *machine, const struct snapshot *snapshot)
{
    for (uint32_t i = 0; i < snapshot->record_count; i++) {
        const struct bytes bytes = snapshot->records[i].record;
        struct record record;
        int status;
        if (codec_record_read(machine->codec, codec_aligned(machine->codec, bytes), &record) !=
                STATUS_OK ||
            record.kind == RECORD_NONE) {
            status = edge_wish_refuse(machine, true);
        } else if (!edge_kind_known(machine, record.kind)) {
            machine->applied->unknown_count++;
            machine->meta.stage_unknown++;
            status = edge_unknown_keep(machine, machine->index, i + 1, bytes);
        } else if (record.kind == RECORD_OBJECT_PUT) {
            status = edge_wish_put(machine, edge_stage_table(machine), edge_sums_stage(machine),
                                   &record);
        } else {
            status = edge_wish_refuse(machine, false);
        }
        if (status < 0) {
            return status;
        }
    }
    return STATUS_OK;
}

/* SNAPSHOT_END: the stage becomes the wishes, if its rows add up to what the cloud says. */
static int edge_snapshot_end(struct edge_machine *machine, const struct snapshot *snapshot)
{
    struct edge_meta *meta = &machine->meta;
    const unsigned stage = edge_stage_table(machine);
    int status;
    if (meta->stage_unknown == 0 && !tag_equal(meta->stage_digest, snapshot->digest)) {
        status = store_remove_prefix(machine->store, stage, (struct bytes){0});
        if (status < 0) {
            return status;
        }
        edge_stage_close(machine);
        meta->mismatch_count++;
        meta->snapshot_wanted = true;
        machine->applied->digest_differs = true;
        edge_refuse(machine, EDGE_REFUSED_DIGEST);
        return STATUS_OK;
    }

    status = store_remove_prefix(machine->store, meta->wish_table, (struct bytes){0});
    if (status < 0) {
        return status;
    }
    status = edge_unknown_forget_down(machine, meta->stage_index);
    if (status < 0) {
        return status;
    }
    meta->wish_table = (uint8_t)stage;
    meta->digest = meta->stage_digest;
    meta->object_count = meta->stage_count;
    meta->object_bytes = meta->stage_bytes;
    if (meta->down_stream != meta->stage_stream || meta->down_tip < meta->stage_position) {
        meta->down_tip = meta->stage_position;
    }
    meta->down_stream = meta->stage_stream;
    meta->down_position = meta->stage_position;
    meta->snapshot_wanted = false;
    edge_stage_close(machine);
    machine->applied->all_changed = true;
    status = edge_pods_forget_unwished(machine);
    if (status >= 0) {
        status = edge_devices_follow_wishes(machine);
    }
    if (status >= 0 && snapshot->retell) {
        status = edge_pods_retell(machine);
    }
    if (status >= 0 && snapshot->retell) {
        status = edge_devices_retell(machine);
    }
    return status;
}

int edge_snapshot_apply(struct edge_machine *machine, const struct record *record)
{
    struct edge_meta *meta = &machine->meta;
    struct snapshot snapshot;
    if (codec_snapshot_read(machine->codec, record->body, &snapshot) != STATUS_OK) {
        edge_refuse(machine, EDGE_REFUSED_MALFORMED);
        return STATUS_OK;
    }
    const enum snapshot_step step = (enum snapshot_step)snapshot.step;
    if (step == SNAPSHOT_BEGIN) {
        return edge_snapshot_begin(machine, &snapshot);
    }
    if (!meta->stage_open || snapshot.id != meta->stage_id ||
        snapshot.stream != meta->stage_stream || snapshot.position != meta->stage_position) {
        edge_refuse(machine, EDGE_REFUSED_STAGE);
        return STATUS_OK;
    }
    if (snapshot.stream == meta->down_stream && snapshot.position < meta->down_position) {
        edge_refuse(machine, EDGE_REFUSED_STALE); /* batches overtook it meanwhile */
        return STATUS_OK;
    }
    return step == SNAPSHOT_ROWS ? edge_snapshot_rows(machine, &snapshot)
                                 : edge_snapshot_end(machine, &snapshot);
}

/* -- readers ------------------------------------------------------------------------------------------- */

struct edge_wishes {
    struct store_iterator *iterator;
    bool begun;
};

struct edge_wishes *edge_wishes_open(struct edge_machine *machine, const char *prefix)
{
    struct edge_wishes *wishes = calloc(1, sizeof *wishes);
    CHECK(wishes != NULL);
    wishes->iterator =
        store_iterate(store_live(machine->store), machine->meta.wish_table, bytes_text(prefix));
    return wishes;
}

int edge_wishes_next(struct edge_wishes *wishes, struct codec *codec, const char **out_key,
                     struct object_put *out)
{
    struct store_iterator *iterator = wishes->iterator;
    const bool on = wishes->begun ? store_iterator_next(iterator) : store_iterator_first(iterator);
    wishes->begun = true;
    if (!on) {
        const int status = store_iterator_status(iterator);
        return status == STATUS_OK ? STORE_NONE : status;
    }
    const struct bytes key = store_iterator_key(iterator);
    *out_key = codec_print(codec, "%.*s", (int)key.size, (const char *)key.data);
    const struct bytes row = codec_copy(codec, store_iterator_value(iterator));
    return codec_object_put_read(codec, row, out) == STATUS_OK ? STATUS_OK : STATUS_CORRUPT;
}

void edge_wishes_close(struct edge_wishes *wishes)
{
    if (wishes != NULL) {
        store_iterator_close(wishes->iterator);
        free(wishes);
    }
}

int edge_object_find(struct edge_machine *machine, const char *key, struct codec *codec,
                     struct object_put *out)
{
    size_t size;
    return edge_row_read(machine, machine->meta.wish_table, key, codec, out, &size);
}

int edge_digest_compute(struct edge_machine *machine, struct tag *out_digest, uint32_t *out_count)
{
    struct codec *codec = codec_create();
    struct edge_wishes *wishes = edge_wishes_open(machine, "");
    struct tag digest = {0};
    uint32_t count = 0;
    const char *key;
    struct object_put put;
    int status;
    while ((status = edge_wishes_next(wishes, codec, &key, &put)) == STATUS_OK) {
        digest = tag_add(digest, put.object.tag);
        count++;
        codec_reset(codec);
    }
    edge_wishes_close(wishes);
    codec_destroy(codec);
    if (status != STORE_NONE) {
        return status;
    }
    *out_digest = digest;
    *out_count = count;
    return STATUS_OK;
}
