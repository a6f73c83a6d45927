#include "machine_fixture.h"

#include <stdio.h>

void fixture_open(struct fixture *f)
{
    *f = (struct fixture){.time_ms = 1700000000000, .origin = UINT64_C(1) << 32 | 1};
    f->disk = store_sim_create();
    assert_int_equal(store_sim_open(f->disk, MACHINE_NAME, MACHINE_FORMAT, &f->store), STATUS_OK);
    assert_int_equal(machine_open(&f->machine, f->store), STATUS_OK);
    f->codec = codec_create();
    f->lent = codec_create();
}

void fixture_close(struct fixture *f)
{
    machine_close(&f->machine);
    store_close(f->store);
    store_sim_destroy(f->disk);
    codec_destroy(f->codec);
    codec_destroy(f->lent);
}

void fixture_crash(struct fixture *f, uint64_t choice)
{
    machine_close(&f->machine);
    store_sim_crash(f->disk, choice);
    store_close(f->store);
    assert_int_equal(store_sim_open(f->disk, MACHINE_NAME, MACHINE_FORMAT, &f->store), STATUS_OK);
    assert_int_equal(machine_open(&f->machine, f->store), STATUS_OK);
}

void fixture_reopen(struct fixture *f)
{
    machine_close(&f->machine);
    assert_int_equal(machine_open(&f->machine, f->store), STATUS_OK);
}

struct store_reader *fixture_live(struct fixture *f)
{
    return store_live(f->store);
}

/* -- records ----------------------------------------------------------------------------------- */

struct bytes record_of(struct fixture *f, uint16_t kind, const char *key, struct bytes body)
{
    const struct record record = {
        .kind = kind, .key = key, .origin = "test", .time_ms = f->time_ms, .body = body};
    struct bytes bytes;
    assert_int_equal(codec_record_build(f->codec, &record, &bytes), STATUS_OK);
    return bytes;
}

static struct bytes record_put_full(struct fixture *f, uint8_t mode, uint64_t version,
                                    const char *uid, const struct object *object)
{
    struct object_put put = {.mode = mode, .if_version = version, .if_uid = uid, .object = *object};
    put.object.tag = tag_of(object);
    struct bytes body;
    assert_int_equal(codec_object_put_build(f->codec, &put, &body), STATUS_OK);
    return record_of(f, RECORD_OBJECT_PUT, key_of(object), body);
}

struct bytes record_put(struct fixture *f, uint8_t mode, const struct object *object)
{
    return record_put_full(f, mode, 0, "", object);
}

struct bytes record_put_if(struct fixture *f, uint64_t version, const char *uid,
                           const struct object *object)
{
    return record_put_full(f, PUT_ANY, version, uid, object);
}

struct bytes record_remove(struct fixture *f, const char *key, uint64_t version, const char *uid)
{
    const struct object_remove remove = {.if_version = version, .if_uid = uid};
    struct bytes body;
    assert_int_equal(codec_object_remove_build(f->codec, &remove, &body), STATUS_OK);
    return record_of(f, RECORD_OBJECT_REMOVE, key, body);
}

struct bytes record_setting(struct fixture *f, const char *name, int64_t value)
{
    const struct setting setting = {.name = name, .value = value};
    struct bytes body;
    assert_int_equal(codec_setting_build(f->codec, &setting, &body), STATUS_OK);
    return record_of(f, RECORD_SETTING, "", body);
}

struct bytes record_session(struct fixture *f, const char *node, const char *uid, uint64_t stream,
                            uint64_t position)
{
    const struct session_open session = {
        .node = node, .uid = uid, .replica = 1, .up_stream = stream, .up_position = position};
    struct bytes body;
    assert_int_equal(codec_session_open_build(f->codec, &session, &body), STATUS_OK);
    return record_of(f, RECORD_SESSION_OPEN, "", body);
}

struct bytes record_ack(struct fixture *f, const char *node, uint64_t epoch, uint64_t stream,
                        uint64_t position)
{
    const struct down_ack ack = {
        .node = node, .epoch = epoch, .stream = stream, .position = position};
    struct bytes body;
    assert_int_equal(codec_down_ack_build(f->codec, &ack, &body), STATUS_OK);
    return record_of(f, RECORD_DOWN_ACK, "", body);
}

struct bytes record_pod_status(struct fixture *f, const char *key, const char *uid, uint8_t phase)
{
    const struct pod_status status = {.uid = uid, .phase = phase};
    struct bytes body;
    assert_int_equal(codec_pod_status_build(f->codec, &status, &body), STATUS_OK);
    return record_of(f, RECORD_POD_STATUS, key, body);
}

struct bytes record_pod_ended(struct fixture *f, const char *key, const char *uid)
{
    const struct pod_ended ended = {.uid = uid};
    struct bytes body;
    assert_int_equal(codec_pod_ended_build(f->codec, &ended, &body), STATUS_OK);
    return record_of(f, RECORD_POD_ENDED, key, body);
}

struct bytes record_node_status(struct fixture *f, const char *key, const char *capacity)
{
    const struct pair pair = {.key = "cpu", .value = capacity};
    const struct node_status status = {.capacity = &pair, .capacity_count = 1};
    struct bytes body;
    assert_int_equal(codec_node_status_build(f->codec, &status, &body), STATUS_OK);
    return record_of(f, RECORD_NODE_STATUS, key, body);
}

struct bytes record_event(struct fixture *f, const char *key, const char *message)
{
    const struct edge_event event = {.kind = "Pod", .name = "web", .message = message, .count = 1};
    struct bytes body;
    assert_int_equal(codec_edge_event_build(f->codec, &event, &body), STATUS_OK);
    return record_of(f, RECORD_EDGE_EVENT, key, body);
}

struct bytes record_verdict(struct fixture *f, const char *key, const char *uid, bool reachable)
{
    const struct verdict verdict = {.uid = uid, .reachable = reachable};
    struct bytes body;
    assert_int_equal(codec_verdict_build(f->codec, &verdict, &body), STATUS_OK);
    return record_of(f, RECORD_VERDICT, key, body);
}

struct bytes record_up(struct fixture *f, const char *node, uint64_t epoch, uint64_t stream,
                       uint64_t previous, const struct bytes *records, uint32_t count)
{
    struct sequenced *items = codec_array(f->codec, count + 1, sizeof *items);
    for (uint32_t i = 0; i < count; i++) {
        items[i] = (struct sequenced){.sequence = previous + 1 + i, .record = records[i]};
    }
    const struct batch batch = {.node = node,
                                .epoch = epoch,
                                .stream = stream,
                                .previous = previous,
                                .last = previous + count,
                                .tip = previous + count,
                                .records = items,
                                .record_count = count};
    struct bytes body;
    assert_int_equal(codec_batch_build(f->codec, &batch, &body), STATUS_OK);
    return record_of(f, RECORD_UP_BATCH, "", body);
}

/* -- entries ----------------------------------------------------------------------------------- */

struct bytes command_of(struct fixture *f, uint64_t origin, uint64_t sequence,
                        const struct bytes *records, uint32_t count)
{
    const struct command command = {.time_ms = f->time_ms,
                                    .origin = origin,
                                    .sequence = sequence,
                                    .records = records,
                                    .record_count = count};
    struct bytes bytes;
    assert_int_equal(codec_command_build(f->codec, &command, &bytes), STATUS_OK);
    return bytes;
}

void apply_many(struct fixture *f, const struct bytes *records, uint32_t count)
{
    f->sequence++;
    f->index++;
    f->time_ms += 10;
    const struct bytes command = command_of(f, f->origin, f->sequence, records, count);
    assert_int_equal(machine_apply(&f->machine, f->index, command, &f->applied), STATUS_OK);
    assert_false(f->applied->already);
    assert_int_equal(f->applied->result_count, count);
    assert_int_equal(machine_index(&f->machine), f->index);
    codec_reset(f->codec);
}

struct machine_result apply(struct fixture *f, struct bytes record)
{
    apply_many(f, &record, 1);
    return f->applied->results[0];
}

uint64_t expect(struct fixture *f, enum outcome outcome, struct bytes record)
{
    const struct machine_result result = apply(f, record);
    assert_string_equal(outcome_text(result.outcome), outcome_text(outcome));
    return result.value;
}

/* -- objects ----------------------------------------------------------------------------------- */

struct object object_namespace(const char *name)
{
    return (struct object){.version = "v1",
                           .kind = "Namespace",
                           .resource = "namespaces",
                           .name = name,
                           .uid = name,
                           .json = bytes_text("{}")};
}

struct object object_node(const char *name, const char *uid)
{
    return (struct object){.version = "v1",
                           .kind = "Node",
                           .resource = "nodes",
                           .name = name,
                           .uid = uid,
                           .json = bytes_text("{}")};
}

struct object object_pod(const char *name, const char *uid, const char *node)
{
    return (struct object){.version = "v1",
                           .kind = "Pod",
                           .resource = "pods",
                           .namespace_ = "default",
                           .name = name,
                           .uid = uid,
                           .node_name = node,
                           .json = bytes_text("{}")};
}

struct object object_configmap(const char *name, const char *uid, const char *json)
{
    return (struct object){.version = "v1",
                           .kind = "ConfigMap",
                           .resource = "configmaps",
                           .namespace_ = "default",
                           .name = name,
                           .uid = uid,
                           .json = bytes_text(json)};
}

const char *key_of(const struct object *object)
{
    static char keys[8][LIMIT_KEY_BYTES];
    static unsigned next;
    next = (next + 1) % 8;
    snprintf(keys[next], sizeof keys[next], "%s/%s/%s/%s",
             object->group == NULL ? "" : object->group, object->resource,
             object->namespace_ == NULL ? "" : object->namespace_, object->name);
    return keys[next];
}

static void tag_add_text(struct tag *tag, const char *text)
{
    for (; text != NULL && *text != '\0'; text++) {
        tag->low = (tag->low ^ (uint8_t)*text) * UINT64_C(1099511628211);
    }
    tag->high = (tag->high + tag->low) * UINT64_C(0x9e3779b97f4a7c15);
}

struct tag tag_of(const struct object *object)
{
    struct tag tag = {.low = UINT64_C(14695981039346656037) + (uint64_t)object->deletion_time_ms};
    tag_add_text(&tag, key_of(object));
    tag_add_text(&tag, object->uid);
    tag_add_text(&tag, object->node_name);
    for (uint32_t i = 0; i < object->reference_count; i++) {
        tag_add_text(&tag, object->references[i].name);
    }
    for (size_t i = 0; i < object->json.size; i++) {
        tag.low = (tag.low ^ object->json.data[i]) * UINT64_C(1099511628211);
    }
    tag.high += tag.low;
    return tag;
}
