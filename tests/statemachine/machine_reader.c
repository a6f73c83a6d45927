#include "machine_reader.h"

#include <stdio.h>

const struct reader_row *reader_find(const struct reader *reader, const char *key)
{
    for (uint32_t i = 0; i < reader->row_count; i++) {
        if (strcmp(reader->rows[i].key, key) == 0) {
            return &reader->rows[i];
        }
    }
    return NULL;
}

struct tag reader_digest(const struct reader *reader)
{
    struct tag sum = {0};
    for (uint32_t i = 0; i < reader->row_count; i++) {
        sum = tag_add(sum, reader->rows[i].tag);
    }
    return sum;
}

static void reader_note(struct reader *reader, char what, const char *key)
{
    const size_t used = strlen(reader->order);
    snprintf(reader->order + used, sizeof reader->order - used, "%s%c%s", used == 0 ? "" : " ",
             what, key);
}

static void reader_take(struct fixture *f, struct reader *reader, struct bytes bytes)
{
    struct record record;
    assert_int_equal(codec_record_read(f->lent, bytes, &record), STATUS_OK);
    struct reader_row *row = (struct reader_row *)reader_find(reader, record.key);
    if (record.kind == RECORD_OBJECT_PUT) {
        struct object_put put;
        assert_int_equal(codec_object_put_read(f->lent, record.body, &put), STATUS_OK);
        if (row == NULL) {
            assert_true(reader->row_count < READER_ROWS);
            row = &reader->rows[reader->row_count];
            reader->row_count++;
        }
        snprintf(row->key, sizeof row->key, "%s", record.key);
        snprintf(row->uid, sizeof row->uid, "%s", put.object.uid);
        row->tag = put.object.tag;
        row->bytes = put.object.json.size;
        reader_note(reader, '+', record.key);
        return;
    }
    assert_int_equal(record.kind, RECORD_OBJECT_REMOVE);
    struct object_remove remove;
    assert_int_equal(codec_object_remove_read(f->lent, record.body, &remove), STATUS_OK);
    assert_true(remove.if_uid[0] != '\0');
    reader->removes_unused += remove.reason == REMOVE_UNUSED;
    if (row != NULL) {
        assert_string_equal(row->uid, remove.if_uid);
        reader->row_count--;
        *row = reader->rows[reader->row_count];
    }
    reader_note(reader, remove.reason == REMOVE_UNUSED ? '~' : '-', record.key);
}

void reader_take_snapshot(struct fixture *f, struct reader *reader,
                          struct delivery_snapshot *snapshot, size_t max_bytes)
{
    reader->row_count = 0;
    bool end = false;
    uint64_t sequence = 0;
    while (!end) {
        struct bytes bytes;
        struct snapshot step;
        codec_reset(f->lent);
        assert_int_equal(delivery_snapshot_next(snapshot, f->lent, max_bytes, &bytes, &end),
                         STATUS_OK);
        assert_int_equal(codec_snapshot_read(f->lent, bytes, &step), STATUS_OK);
        assert_int_equal(step.id, snapshot->id);
        assert_int_equal(step.step, end ? SNAPSHOT_END : SNAPSHOT_ROWS);
        for (uint32_t i = 0; i < step.record_count; i++) {
            sequence++;
            assert_int_equal(step.records[i].sequence, sequence);
            reader_take(f, reader, step.records[i].record);
        }
        if (end) {
            reader->stream = step.stream;
            reader->position = step.position;
            assert_true(tag_equal(reader_digest(reader), step.digest));
        }
    }
    delivery_snapshot_close(snapshot);
    reader->snapshots++;
}

int reader_step(struct fixture *f, struct reader *reader, size_t max_bytes)
{
    struct bytes bytes;
    struct batch batch;
    uint64_t last;
    codec_reset(f->lent);
    const int answer = delivery_read(fixture_live(f), f->lent, reader->node, reader->stream,
                                     reader->position, max_bytes, &bytes, &last);
    assert_true(answer > 0);
    if (answer == DELIVERY_SNAPSHOT) {
        struct delivery_snapshot snapshot;
        assert_int_equal(delivery_snapshot_open(&snapshot, f->store, reader->node, 9, false), STATUS_OK);
        reader_take_snapshot(f, reader, &snapshot, max_bytes);
        return answer;
    }
    if (answer != DELIVERY_BATCH) {
        return answer;
    }
    assert_int_equal(codec_batch_read(f->lent, bytes, &batch), STATUS_OK);
    assert_int_equal(batch.previous, reader->position);
    assert_int_equal(batch.last, last);
    assert_true(last > reader->position);
    assert_int_equal(batch.stream, reader->stream);
    for (uint32_t i = 0; i < batch.record_count; i++) {
        reader_take(f, reader, batch.records[i].record);
    }
    reader->position = last;
    reader->batches++;
    if (last == batch.tip) {
        assert_true(tag_equal(batch.digest, reader_digest(reader)));
    }
    return answer;
}

void reader_drain(struct fixture *f, struct reader *reader, size_t max_bytes)
{
    int answer;
    do {
        answer = reader_step(f, reader, max_bytes);
        assert_true(answer != DELIVERY_AHEAD);
        assert_true(answer != DELIVERY_NO_NODE);
    } while (answer != DELIVERY_END);

    struct node_row node;
    assert_int_equal(node_get(fixture_live(f), reader->node, &node), STATUS_OK);
    assert_int_equal(node.held_count, reader->row_count);
    assert_int_equal(node.down_tip, reader->position);
    assert_true(tag_equal(node.digest, reader_digest(reader)));
    uint8_t key[256];
    for (uint32_t i = 0; i < reader->row_count; i++) {
        const int size =
            snprintf((char *)key, sizeof key, "%s%c%s", reader->node, 0, reader->rows[i].key);
        assert_int_equal(store_find(fixture_live(f), TABLE_HELD, bytes_of(key, (size_t)size)),
                         STATUS_OK);
    }
}
