/* A backup as a file: what is written is read back, and nothing else is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nodes/cloud/backup.h"
#include "schemas/check.h"

#define ROWS 40u

struct file {
    uint8_t *data;
    size_t size;
};

static void store_make(struct store_sim **out_disk, struct store **out)
{
    *out_disk = store_sim_create();
    assert_int_equal(store_sim_open(*out_disk, MACHINE_NAME, MACHINE_FORMAT, out), STATUS_OK);
}

static void store_drop(struct store_sim *disk, struct store *store)
{
    store_close(store);
    store_sim_destroy(disk);
}

/* Rows in several tables, some empty, one larger than a range. */
static void store_fill(struct store *store)
{
    static uint8_t large[3000];
    memset(large, 7, sizeof large);
    store_begin(store);
    for (unsigned i = 0; i < ROWS; i++) {
        char key[32];
        const int size = snprintf(key, sizeof key, "key-%03u", i);
        store_put(store, i % 4, bytes_of(key, (size_t)size),
                  i == 7 ? bytes_of(large, sizeof large)
                         : bytes_of(key, i % 3 == 0 ? 0 : (size_t)size));
    }
    assert_int_equal(store_commit(store, 11), STATUS_OK);
}

static void file_add(struct file *file, const void *data, size_t size)
{
    file->data = realloc(file->data, file->size + size + 1);
    assert_non_null(file->data);
    if (size > 0) {
        memcpy(file->data + file->size, data, size);
    }
    file->size += size;
}

static struct file backup_make(struct store *store, size_t range_bytes)
{
    const struct backup_head head = {.cluster = "c",
                                     .software = "1.2",
                                     .rows_format = MACHINE_FORMAT,
                                     .epoch = 3,
                                     .index = 11,
                                     .term = 5,
                                     .version = 17,
                                     .time_ms = 1700000000000,
                                     .rows_about = ROWS};
    struct file file = {0};
    struct backup_sums sums;
    struct transfer_rows rows = {0};
    struct transfer_place from = {0};
    struct transfer_place end;
    uint8_t bytes[BACKUP_HEAD_BYTES + LIMIT_STORE_KEY_BYTES];
    backup_head_encode(&sums, &head, bytes);
    file_add(&file, bytes, BACKUP_HEAD_BYTES);
    do {
        assert_int_equal(transfer_rows_collect(store_live(store), transfer_place_bytes(&from),
                                               (struct bytes){0}, range_bytes, &rows, &end),
                         STATUS_OK);
        file_add(&file, bytes, backup_range_encode(&sums, &head, &from, &end, &rows, bytes));
        file_add(&file, rows.data, rows.size);
        from = end;
    } while (end.size > 0);
    free(rows.data);
    backup_tail_encode(&sums, bytes);
    file_add(&file, bytes, BACKUP_TAIL_BYTES);
    return file;
}

/* Read it to its end. `store`: the rows go there; NULL: nowhere. */
static int backup_read(const struct file *file, struct store *store, struct backup_reader *reader)
{
    FILE *stream = fmemopen(file->data, file->size, "r");
    assert_non_null(stream);
    struct bytes rows;
    int status = backup_open(reader, stream);
    while (status == 0) {
        status = backup_next(reader, &rows);
        if (status == 0 && store != NULL) {
            store_begin(store);
            transfer_rows_put(store, rows);
            assert_int_equal(store_commit(store, reader->head.index), STATUS_OK);
        }
    }
    backup_close(reader);
    (void)fclose(stream);
    assert_true(status == BACKUP_END || reader->reason[0] != '\0');
    return status;
}

/* Claim: rows and head come back as they were, however the rows are cut into ranges; a state without rows, too.
 * Method: ranges of one row to all of them; digests of all rows. */
static void test_what_is_written_is_read_back(void **state)
{
    (void)state;
    const size_t ranges[] = {1, 100, 1000, LIMIT_TRANSFER_BYTES};
    struct store_sim *disk;
    struct store *store;
    uint64_t wanted;
    store_make(&disk, &store);
    for (size_t i = 0; i <= sizeof ranges / sizeof ranges[0]; i++) {
        if (i == 1) {
            store_fill(store);
        }
        assert_int_equal(machine_digest(store_live(store), &wanted), STATUS_OK);
        struct file file = backup_make(store, ranges[i == 0 ? 0 : i - 1]);
        struct store_sim *other_disk;
        struct store *other;
        struct backup_reader reader;
        uint64_t digest;
        store_make(&other_disk, &other);
        assert_int_equal(backup_read(&file, other, &reader), BACKUP_END);
        assert_int_equal(machine_digest(store_live(other), &digest), STATUS_OK);
        assert_int_equal(digest, wanted);
        assert_int_equal(reader.sums.rows, i == 0 ? 0 : ROWS);
        assert_int_equal(reader.sums.bytes + BACKUP_TAIL_BYTES, file.size);
        assert_string_equal(reader.head.cluster, "c");
        assert_string_equal(reader.head.software, "1.2");
        assert_int_equal(reader.head.epoch, 3);
        assert_int_equal(reader.head.index, 11);
        assert_int_equal(reader.head.term, 5);
        assert_int_equal(reader.head.version, 17);
        assert_int_equal(reader.head.time_ms, 1700000000000);
        store_drop(other_disk, other);
        free(file.data);
    }
    store_drop(disk, store);
}

/* Claim: no damaged or shortened or prolonged file is taken for a backup.
 * Method: every bit flipped, every length. */
static void test_damage_is_seen(void **state)
{
    (void)state;
    struct store_sim *disk;
    struct store *store;
    struct backup_reader reader;
    store_make(&disk, &store);
    store_fill(store);
    struct file file = backup_make(store, 1000);
    for (size_t i = 0; i < file.size; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            file.data[i] ^= (uint8_t)(1u << bit);
            const int status = backup_read(&file, NULL, &reader);
            assert_true(status == STATUS_CORRUPT || status == STATUS_FOREIGN);
            file.data[i] ^= (uint8_t)(1u << bit);
        }
    }
    assert_int_equal(backup_read(&file, NULL, &reader), BACKUP_END);
    for (size_t size = 1; size < file.size; size++) {
        const struct file cut = {.data = file.data, .size = size};
        const int status = backup_read(&cut, NULL, &reader);
        assert_true(status == STATUS_CORRUPT || status == STATUS_FOREIGN);
    }
    file_add(&file, "x", 1);
    assert_int_equal(backup_read(&file, NULL, &reader), STATUS_CORRUPT);
    free(file.data);
    store_drop(disk, store);
}

/* Claim: two whole backups put together, or one with a range less or twice, are none.
 * Method: ranges of the same file, each whole, in another order. */
static void test_ranges_keep_their_place(void **state)
{
    (void)state;
    struct store_sim *disk;
    struct store *store;
    struct backup_reader reader;
    store_make(&disk, &store);
    store_fill(store);
    struct file file = backup_make(store, 1);
    const size_t first = BACKUP_RANGE_BYTES + get_le32(file.data + BACKUP_HEAD_BYTES + 8) +
                         get_le32(file.data + BACKUP_HEAD_BYTES + 12);
    struct file less = {0};
    struct file twice = {0};
    file_add(&less, file.data, BACKUP_HEAD_BYTES);
    file_add(&less, file.data + BACKUP_HEAD_BYTES + first, file.size - BACKUP_HEAD_BYTES - first);
    file_add(&twice, file.data, BACKUP_HEAD_BYTES + first);
    file_add(&twice, file.data + BACKUP_HEAD_BYTES, file.size - BACKUP_HEAD_BYTES);
    assert_int_equal(backup_read(&less, NULL, &reader), STATUS_CORRUPT);
    assert_int_equal(backup_read(&twice, NULL, &reader), STATUS_CORRUPT);
    free(less.data);
    free(twice.data);
    free(file.data);
    store_drop(disk, store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_written_is_read_back),
        cmocka_unit_test(test_damage_is_seen),
        cmocka_unit_test(test_ranges_keep_their_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
