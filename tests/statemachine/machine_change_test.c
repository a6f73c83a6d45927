/* The history of objects, as watches read it. */
#include "machine_fixture.h"
#include "statemachine/history.h"

#include <stdio.h>
#include <stdlib.h>

static struct fixture fixture;
static struct fixture *const f = &fixture;

static int set_up(void **state)
{
    (void)state;
    fixture_open(f);
    const struct object space = object_namespace("default");
    expect(f, ACCEPTED, record_put(f, PUT_CREATE, &space));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fixture_close(f);
    return 0;
}

/* -- what a test keeps of a change: one line ---------------------------------------------------- */

struct story {
    char lines[64][160];
    uint32_t count;
    uint32_t stop_after;
};

static size_t story_part(char *out, size_t size, const struct object_row *row)
{
    struct object_put put = {0};
    struct pod_status pod = {0};
    struct verdict verdict = {0};
    if (row->parts[PART_WISH].version == 0) {
        assert_int_equal(row->version, 0);
        return (size_t)snprintf(out, size, "none");
    }
    assert_int_equal(codec_object_put_read(f->lent, row->parts[PART_WISH].body, &put), STATUS_OK);
    size_t at = (size_t)snprintf(out, size, "%.*s", (int)put.object.json.size,
                                 (const char *)put.object.json.data);
    if (row->parts[PART_FACT].version > 0) {
        assert_int_equal(codec_pod_status_read(f->lent, row->parts[PART_FACT].body, &pod),
                         STATUS_OK);
        at += (size_t)snprintf(out + at, size - at, ",phase=%d", pod.phase);
    }
    if (row->parts[PART_VERDICT].version > 0) {
        assert_int_equal(codec_verdict_read(f->lent, row->parts[PART_VERDICT].body, &verdict),
                         STATUS_OK);
        at += (size_t)snprintf(out + at, size - at, ",reachable=%d", verdict.reachable);
    }
    return at;
}

static int story_on_change(void *context, const struct change *change)
{
    struct story *story = context;
    assert_true(story->count < 64);
    char *line = story->lines[story->count];
    story->count++;
    if (change->type == CHANGE_EVENT) {
        struct edge_event event;
        assert_int_equal(change->event.version, change->version);
        assert_int_equal(codec_edge_event_read(f->lent, change->event.body, &event), STATUS_OK);
        snprintf(line, 160, "event %s %s", change->event.node, event.message);
        return story->count == story->stop_after;
    }
    static const char *const types[] = {"", "added", "modified", "deleted"};
    size_t at = (size_t)snprintf(line, 160, "%s %.*s ", types[change->type], (int)change->key.size,
                                 (const char *)change->key.data);
    at += story_part(line + at, 160 - at, &change->before);
    at += (size_t)snprintf(line + at, 160 - at, " -> ");
    story_part(line + at, 160 - at, &change->after);
    if (change->type != CHANGE_DELETED) {
        assert_int_equal(change->after.version, change->version);
    }
    assert_true(change->before.version < change->version);
    return story->count == story->stop_after;
}

static int story_read(struct story *story, uint64_t after, uint32_t max_count, uint64_t *reached)
{
    story->count = 0;
    codec_reset(f->lent);
    return change_read(&f->machine, fixture_live(f), after, max_count, SIZE_MAX, story_on_change,
                       story, reached);
}

/* Claim: wherever a watch begins, each change is told with the whole object as it was before and
 * after, however often it changed since. */
static void test_each_change_is_told_as_it_was(void **state)
{
    (void)state;
    const struct object node = object_node("edge", "n1");
    struct object pod = object_pod("p", "p1", "edge");
    pod.json = bytes_text("1");
    apply(f, record_put(f, PUT_CREATE, &node));
    const uint64_t begin = f->machine.meta.version;
    apply(f, record_put(f, PUT_CREATE, &pod));
    const uint64_t epoch = expect(f, ACCEPTED, record_session(f, "edge", "n1", 5, 0));
    struct bytes up = record_pod_status(f, "/pods/default/p", "p1", POD_PENDING);
    apply(f, record_up(f, "edge", epoch, 5, 0, &up, 1));
    apply(f, record_verdict(f, "/pods/default/p", "p1", true));
    pod.json = bytes_text("2");
    apply(f, record_put(f, PUT_UPDATE, &pod));
    up = record_pod_status(f, "/pods/default/p", "p1", POD_RUNNING);
    apply(f, record_up(f, "edge", epoch, 5, 1, &up, 1));
    up = record_event(f, "", "pulled");
    apply(f, record_up(f, "edge", epoch, 5, 2, &up, 1));
    pod.node_name = "other";
    pod.json = bytes_text("3");
    apply(f, record_put(f, PUT_UPDATE, &pod));
    apply(f, record_remove(f, "/pods/default/p", 0, ""));
    pod.json = bytes_text("4");
    apply(f, record_put(f, PUT_CREATE, &pod));

    static const char *const lines[] = {
        "added /pods/default/p none -> 1",
        "modified /pods/default/p 1 -> 1,phase=0",
        "modified /pods/default/p 1,phase=0 -> 1,phase=0,reachable=1",
        "modified /pods/default/p 1,phase=0,reachable=1 -> 2,phase=0,reachable=1",
        "modified /pods/default/p 2,phase=0,reachable=1 -> 2,phase=1,reachable=1",
        "event edge pulled",
        "modified /pods/default/p 2,phase=1,reachable=1 -> 3,reachable=1",
        "deleted /pods/default/p 3,reachable=1 -> none",
        "added /pods/default/p none -> 4",
    };
    const uint32_t count = sizeof lines / sizeof lines[0];
    struct story story = {0};
    uint64_t reached;
    for (uint32_t first = 0; first <= count; first++) {
        assert_int_equal(story_read(&story, begin + first, 100, &reached), STATUS_OK);
        assert_int_equal(reached, begin + count);
        assert_int_equal(story.count, count - first);
        for (uint32_t i = first; i < count; i++) {
            assert_string_equal(story.lines[i - first], lines[i]);
        }
    }
    assert_int_equal(story_read(&story, begin, 2, &reached), STATUS_OK);
    assert_int_equal(story.count, 2);
    assert_int_equal(reached, begin + 2);
    story.stop_after = 3;
    assert_int_equal(story_read(&story, begin, 100, &reached), STATUS_OK);
    assert_int_equal(reached, begin + 3);
    assert_int_equal(story_read(&story, begin + count + 1, 2, &reached), CHANGE_AHEAD);

    /* an unchanged write tells nothing */
    expect(f, ACCEPTED_UNCHANGED, record_put(f, PUT_UPDATE, &pod));
    assert_int_equal(f->machine.meta.version, begin + count);
}

static bool follow_wants(void *context, struct bytes key)
{
    (void)context;
    return bytes_start_with(key, bytes_text("/nodes/"));
}

static int follow_on_change(void *context, const struct change *change)
{
    struct story *story = context;
    const bool whole = change->before.version > 0 || change->after.version > 0;
    snprintf(story->lines[story->count], 160, "%u %.*s parts=%u %s", change->type,
             (int)change->key.size, (const char *)change->key.data, change->parts,
             whole ? "whole" : "empty");
    if (whole) {
        assert_int_equal(change->after.version, change->version);
    }
    story->count++;
    return 0;
}

/* Claim: who follows only some of the objects is told of every change, whole where it wants the object, of the others
 * only that they changed. */
static void test_unwanted_objects_are_told_without_parts(void **state)
{
    (void)state;
    const struct object node = object_node("edge", "n1");
    struct object map = object_configmap("c", "c1", "1");
    const uint64_t begin = f->machine.meta.version;
    apply(f, record_put(f, PUT_CREATE, &map));
    apply(f, record_put(f, PUT_CREATE, &node));
    map.json = bytes_text("2");
    apply(f, record_put(f, PUT_UPDATE, &map));
    apply(f, record_remove(f, "/configmaps/default/c", 0, ""));

    struct story story = {0};
    uint64_t reached;
    assert_int_equal(change_follow(&f->machine, fixture_live(f), begin, 100, SIZE_MAX, follow_wants,
                                   follow_on_change, &story, &reached),
                     STATUS_OK);
    assert_int_equal(reached, begin + 4);
    assert_int_equal(story.count, 4);
    assert_string_equal(story.lines[0], "1 /configmaps/default/c parts=1 empty");
    assert_string_equal(story.lines[1], "1 /nodes//edge parts=1 whole");
    assert_string_equal(story.lines[2], "2 /configmaps/default/c parts=1 empty");
    assert_string_equal(story.lines[3], "3 /configmaps/default/c parts=1 empty");
}

static uint64_t held(void)
{
    return history_bytes(f->machine.history);
}

/* Claim: the history stays within its bytes; below it, a watch is told so. */
static void test_history_is_bounded(void **state)
{
    (void)state;
    expect(f, ACCEPTED, record_setting(f, "change_history_bytes", 20000));
    char json[1001];
    memset(json, 'x', 1000);
    json[1000] = '\0';
    struct object map = object_configmap("c", "c1", json);
    for (unsigned i = 0; i < 100; i++) {
        json[0] = (char)('a' + i % 26);
        map.json = bytes_text(json);
        apply(f, record_put(f, PUT_ANY, &map));
        assert_true(held() <= 20000);
    }
    assert_true(held() > 15000); /* and it is used */
    struct story story = {0};
    uint64_t reached;
    const uint64_t floor = history_floor(f->machine.history);
    assert_int_equal(story_read(&story, floor - 1, 100, &reached), CHANGE_EXPIRED);
    assert_int_equal(story_read(&story, floor, 100, &reached), STATUS_OK);
    assert_int_equal(reached, f->machine.meta.version);

    /* an entry that alone writes more than the bound */
    struct bytes records[40];
    for (unsigned i = 0; i < 40; i++) {
        json[0] = (char)('A' + i % 26);
        map.json = bytes_text(json);
        records[i] = record_put(f, PUT_ANY, &map);
    }
    const uint64_t before = f->machine.meta.version;
    apply_many(f, records, 40);
    assert_int_equal(story_read(&story, before, 100, &reached), CHANGE_EXPIRED);
    assert_int_equal(story_read(&story, f->machine.meta.version, 100, &reached), STATUS_OK);
    assert_int_equal(held(), 0);

    expect(f, ACCEPTED, record_setting(f, "change_history_bytes", 0));
    json[0] = '0';
    map.json = bytes_text(json);
    apply(f, record_put(f, PUT_ANY, &map));
    assert_int_equal(held(), 0);
    assert_int_equal(story_read(&story, f->machine.meta.version, 1, &reached), STATUS_OK);
}

static void assert_no_history_rows(void)
{
    for (unsigned table = TABLE_CHANGE; table <= TABLE_CHANGE_KEY; table++) {
        struct store_iterator *iterator = store_iterate(fixture_live(f), table, (struct bytes){0});
        assert_false(store_iterator_first(iterator));
        assert_int_equal(store_iterator_status(iterator), STATUS_OK);
        store_iterator_close(iterator);
    }
}

/* Claim: a process that begins holds no history: who was told everything goes on, who was not lists anew. */
static void test_a_start_forgets_the_history(void **state)
{
    (void)state;
    const struct object map = object_configmap("c", "c1", "1");
    apply(f, record_put(f, PUT_CREATE, &map));
    fixture_reopen(f);
    struct story story = {0};
    uint64_t reached;
    const uint64_t version = f->machine.meta.version;
    assert_int_equal(story_read(&story, version - 1, 100, &reached), CHANGE_EXPIRED);
    assert_int_equal(story_read(&story, version, 100, &reached), STATUS_OK);
    apply(f, record_remove(f, "/configmaps/default/c", 0, ""));
    assert_int_equal(story_read(&story, version, 100, &reached), STATUS_OK);
    assert_string_equal(story.lines[0], "deleted /configmaps/default/c 1 -> none");
}

/* Claim: after an orderly end the next start tells what happened before, as it was; the rows in which it was kept are gone. */
static void test_an_orderly_end_keeps_the_newest(void **state)
{
    (void)state;
    struct object pod = object_pod("p", "p1", "edge");
    const struct object node = object_node("edge", "n1");
    const uint64_t begin = f->machine.meta.version;
    apply(f, record_put(f, PUT_CREATE, &node));
    pod.json = bytes_text("1");
    apply(f, record_put(f, PUT_CREATE, &pod));
    const uint64_t epoch = expect(f, ACCEPTED, record_session(f, "edge", "n1", 5, 0));
    struct bytes up = record_event(f, "", "pulled");
    apply(f, record_up(f, "edge", epoch, 5, 0, &up, 1));
    pod.json = bytes_text("2");
    apply(f, record_put(f, PUT_UPDATE, &pod));
    apply(f, record_remove(f, "/pods/default/p", 0, ""));
    struct story before = {0};
    struct story after = {0};
    uint64_t reached;
    assert_int_equal(story_read(&before, begin, 100, &reached), STATUS_OK);
    machine_rest(&f->machine);
    fixture_reopen(f);
    machine_tidy(&f->machine);
    assert_int_equal(story_read(&after, begin, 100, &reached), STATUS_OK);
    assert_int_equal(after.count, before.count);
    for (uint32_t i = 0; i < before.count; i++) {
        assert_string_equal(after.lines[i], before.lines[i]);
    }
    assert_no_history_rows();
}

/* Claim: when the process dies before what its end wrote is durable, the next start has the newest of it, to the present
 * version, or none. */
static void test_a_crash_leaves_the_newest_or_none(void **state)
{
    (void)state;
    struct object map = object_configmap("c", "c1", "1");
    uint32_t kept = 0;
    uint32_t lost = 0;
    for (uint64_t choice = 0; choice < 20; choice++) {
        for (char digit = '1'; digit <= '4'; digit++) {
            const char json[2] = {digit, '\0'};
            map.json = bytes_text(json);
            apply(f, record_put(f, PUT_ANY, &map));
        }
        assert_int_equal(store_flush(f->store), STATUS_OK);
        const uint64_t version = f->machine.meta.version;
        machine_rest(&f->machine);
        fixture_crash(f, choice);
        assert_int_equal(f->machine.meta.version, version);
        struct story story = {0};
        uint64_t reached;
        const int status = story_read(&story, version - 2, 100, &reached);
        if (status == STATUS_OK) {
            kept++;
            assert_int_equal(reached, version);
            assert_string_equal(story.lines[1], "modified /configmaps/default/c 3 -> 4");
        } else {
            lost++;
            assert_int_equal(status, CHANGE_EXPIRED);
        }
    }
    assert_true(kept > 0 && lost > 0);
}

/* Claim: an end leaves no more than its bound, the newest; and what the disk does not take is left out. */
static void test_an_end_leaves_so_much(void **state)
{
    (void)state;
    static char json[200001];
    memset(json, 'x', 200000);
    struct object map = object_configmap("c", "c1", json);
    for (unsigned i = 0; i < 120; i++) { /* 24 MB */
        json[0] = (char)('a' + i % 26);
        map.json = bytes_text(json);
        apply(f, record_put(f, PUT_ANY, &map));
    }
    const uint64_t version = f->machine.meta.version;
    assert_true(held() > LIMIT_MACHINE_REST_BYTES + (4u << 20));
    store_sim_fail(f->disk, 3, STATUS_FULL); /* the third batch of four megabytes */
    machine_rest(&f->machine);
    store_sim_fail(f->disk, 0, STATUS_OK);
    fixture_reopen(f);
    assert_int_equal(history_newest(f->machine.history), version);
    const uint64_t part = held();
    assert_true(part > (1u << 20) && part < LIMIT_MACHINE_REST_BYTES * 3 / 4);

    for (unsigned i = 0; i < 120; i++) {
        json[0] = (char)('A' + i % 26);
        map.json = bytes_text(json);
        apply(f, record_put(f, PUT_ANY, &map));
    }
    machine_rest(&f->machine);
    fixture_reopen(f);
    assert_int_equal(history_newest(f->machine.history), f->machine.meta.version);
    assert_true(held() <= LIMIT_MACHINE_REST_BYTES &&
                held() > LIMIT_MACHINE_REST_BYTES - (1u << 20));

    expect(f, ACCEPTED, record_setting(f, "change_history_bytes", 1 << 20));
    fixture_reopen(f); /* the bound of now counts */
    assert_true(held() <= 1u << 20);
}

/* The next entry, whatever becomes of it. */
static int apply_once(struct bytes record)
{
    const struct bytes command = command_of(f, f->origin, f->sequence + 1, &record, 1);
    return machine_apply(&f->machine, f->index + 1, command, &f->applied);
}

/* Claim: an entry that waits for the store, or that the disk refuses, is not told, and takes nothing from what is. */
static void test_what_is_not_committed_is_not_told(void **state)
{
    (void)state;
    struct object map = object_configmap("c", "c1", "1");
    apply(f, record_put(f, PUT_CREATE, &map));
    map.json = bytes_text("2");
    const uint64_t version = f->machine.meta.version;
    struct story story = {0};
    uint64_t reached;
    const int answers[] = {-ENOSPC, STATUS_FULL};
    for (unsigned i = 0; i < 2; i++) {
        store_sim_fail(f->disk, 1, answers[i]);
        assert_int_equal(apply_once(record_put(f, PUT_UPDATE, &map)), answers[i]);
        struct store_reader *waiting = store_snapshot(f->store);
        codec_reset(f->lent);
        assert_int_equal(change_read(&f->machine, waiting, version - 1, 100, SIZE_MAX,
                                     story_on_change, &story, &reached),
                         STATUS_OK);
        assert_int_equal(reached, version);
        assert_string_equal(story.lines[story.count - 1], "added /configmaps/default/c none -> 1");
        store_snapshot_release(waiting);
        store_sim_fail(f->disk, 0, STATUS_OK);
    }
    assert_int_equal(apply_once(record_put(f, PUT_UPDATE, &map)), STATUS_OK); /* it goes on */
    assert_int_equal(story_read(&story, version - 1, 100, &reached), STATUS_OK);
    assert_int_equal(reached, version + 1);
    assert_string_equal(story.lines[1], "modified /configmaps/default/c 1 -> 2");
}

/* Claim: who asks for some bytes is told about so many, and always one change. */
static void test_so_many_bytes_are_told(void **state)
{
    (void)state;
    char json[1001];
    memset(json, 'x', 1000);
    json[1000] = '\0';
    struct object map = object_configmap("c", "c1", json);
    apply(f, record_put(f, PUT_ANY, &map));
    const uint64_t begin = f->machine.meta.version;
    for (unsigned i = 0; i < 5; i++) {
        json[0] = (char)('a' + i);
        map.json = bytes_text(json);
        apply(f, record_put(f, PUT_ANY, &map));
    }
    const size_t asked[] = {1, 4000, 8000};
    const uint64_t told[] = {1, 1, 3}; /* before and after of each: some 2,400 */
    for (unsigned i = 0; i < 3; i++) {
        struct story story = {0};
        uint64_t reached;
        codec_reset(f->lent);
        assert_int_equal(change_follow(&f->machine, fixture_live(f), begin, 100, asked[i], NULL,
                                       follow_on_change, &story, &reached),
                         STATUS_OK);
        assert_int_equal(reached, begin + told[i]);
    }
}

/* Claim: of what an end left only that is told which leads to the present version without holes and rows of another shape:
 * nothing when the state is not that of the end. */
static void test_only_what_fits_is_taken(void **state)
{
    (void)state;
    struct object map = object_configmap("c", "c1", "1");
    const uint64_t begin = f->machine.meta.version;
    for (char digit = '1'; digit <= '6'; digit++) {
        const char json[2] = {digit, '\0'};
        map.json = bytes_text(json);
        apply(f, record_put(f, PUT_ANY, &map));
    }
    const uint64_t end = f->machine.meta.version;
    for (unsigned damage = 0; damage < 6; damage++) {
        for (uint64_t version = begin + 1; version <= end; version++) {
            const struct bytes nothing[PARTS] = {0};
            if (version == begin + 1) {
                history_forget(f->machine.history, begin);
            }
            history_add(f->machine.history, version, CHANGE_MODIFIED,
                        bytes_text("/configmaps/default/c"), 1u << PART_WISH, nothing, 1u << 20);
            history_commit(f->machine.history, 1u << 20);
        }
        machine_rest(&f->machine);
        uint8_t key[8];
        struct bytes value;
        put_be64(key, begin + 3);
        assert_int_equal(store_get(fixture_live(f), TABLE_CHANGE, bytes_of(key, 8), &value),
                         STATUS_OK);
        uint8_t bytes[256];
        assert_true(value.size < sizeof bytes);
        memcpy(bytes, value.data, value.size);
        struct bytes other = bytes_of(bytes, value.size);
        store_begin(f->store);
        switch (damage) {
        case 0: /* none: it is taken */
            break;
        case 1: /* a hole */
            store_remove(f->store, TABLE_CHANGE, bytes_of(key, 8));
            break;
        case 2: /* too short */
            other.size -= 8;
            store_put(f->store, TABLE_CHANGE, bytes_of(key, 8), other);
            break;
        case 3: /* a part that says it is larger than the row */
            put_le32(bytes + 8, UINT32_MAX);
            store_put(f->store, TABLE_CHANGE, bytes_of(key, 8), other);
            break;
        case 4: /* no type */
            bytes[0] = 0;
            store_put(f->store, TABLE_CHANGE, bytes_of(key, 8), other);
            break;
        default: /* the newest is missing */
            put_be64(key, end);
            store_remove(f->store, TABLE_CHANGE, bytes_of(key, 8));
            break;
        }
        assert_int_equal(store_commit(f->store, store_position(f->store)), STATUS_OK);
        fixture_reopen(f);
        const uint64_t floors[] = {begin, begin + 3, begin + 3, begin + 3, begin + 3, end};
        assert_int_equal(history_floor(f->machine.history), floors[damage]);
        assert_int_equal(history_newest(f->machine.history), end);
    }
}

/* Claim: rows that a release wrote which had its history in them, and those of an end at another version, are removed for
 * whoever owns the store, and that release would find that nothing is held. */
static void test_history_in_rows_goes(void **state)
{
    (void)state;
    const struct object map = object_configmap("c", "c1", "1");
    store_begin(f->store);
    for (unsigned i = 0; i < 10000; i++) {
        char key[16];
        snprintf(key, sizeof key, "%08u", i);
        store_put(f->store, TABLE_CHANGE, bytes_text(key), bytes_text("old"));
        store_put(f->store, TABLE_CHANGE_KEY, bytes_text(key), bytes_text("o"));
    }
    assert_int_equal(store_commit(f->store, store_position(f->store)), STATUS_OK);
    fixture_reopen(f);
    assert_int_equal(history_newest(f->machine.history), f->machine.meta.version);
    machine_tidy(&f->machine);
    assert_no_history_rows();
    apply(f, record_put(f, PUT_ANY, &map));
    struct bytes row;
    assert_int_equal(store_get(fixture_live(f), TABLE_META, bytes_text("state"), &row), STATUS_OK);
    assert_int_equal(get_le64(row.data + 16), f->machine.meta.version); /* forgotten up to here */
    assert_int_equal(get_le64(row.data + 24), f->machine.meta.version); /* and removed */
    assert_int_equal(get_le64(row.data + 32), 0);                       /* bytes */
}

/* Claim: a list and the changes after its version make every later list.
 * Method: random writes; a model that only reads changes is compared with the rows at the end. */
static void test_a_watch_ends_where_a_list_would(void **state)
{
    (void)state;
    uint64_t versions[8] = {0};
    struct story story = {0};
    uint64_t reached = f->machine.meta.version;
    srandom(7);
    for (unsigned round = 0; round < 300; round++) {
        const unsigned which = (unsigned)random() % 8;
        char name[8];
        char json[32];
        snprintf(name, sizeof name, "m%u", which);
        snprintf(json, sizeof json, "%u", (unsigned)random() % 4);
        const struct object map = object_configmap(name, name, json);
        if (random() % 3 == 0) {
            apply(f, record_remove(f, key_of(&map), 0, ""));
        } else {
            apply(f, record_put(f, PUT_ANY, &map));
        }
        if (random() % 5 != 0) {
            continue;
        }
        while (reached < f->machine.meta.version) {
            const uint64_t after = reached;
            assert_int_equal(story_read(&story, after, 1 + (uint32_t)random() % 3, &reached),
                             STATUS_OK);
            for (uint32_t i = 0; i < story.count; i++) {
                const char *name_at = strstr(story.lines[i], "/m");
                const unsigned at = (unsigned)(name_at[2] - '0');
                versions[at] = strstr(story.lines[i], "-> none") != NULL ? 0 : after + 1 + i;
            }
        }
        for (unsigned i = 0; i < 8; i++) {
            char key[40];
            snprintf(key, sizeof key, "/configmaps/default/m%u", i);
            struct object_row row = {0};
            (void)object_get(fixture_live(f), bytes_text(key), &row);
            assert_int_equal(row.version, versions[i]);
        }
    }
}

int main(void)
{
#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_each_change_is_told_as_it_was),
        CASE(test_unwanted_objects_are_told_without_parts),
        CASE(test_so_many_bytes_are_told),
        CASE(test_what_is_not_committed_is_not_told),
        CASE(test_history_is_bounded),
        CASE(test_a_start_forgets_the_history),
        CASE(test_an_orderly_end_keeps_the_newest),
        CASE(test_a_crash_leaves_the_newest_or_none),
        CASE(test_an_end_leaves_so_much),
        CASE(test_only_what_fits_is_taken),
        CASE(test_history_in_rows_goes),
        CASE(test_a_watch_ends_where_a_list_would),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
