/* FlatBuffers is known here, in codec_device.cc and in codec_inside.h between them, and nowhere else. See
 * codec.h for the contracts.
 *
 * Building: one FlatBufferBuilder is reused; each finished buffer is copied once into the arena,
 * so that several can be alive together. Reading: the verifier runs over all bytes, then the
 * generated accessors fill our structs; text is checked for embedded NULs, since C would read less
 * than was meant.
 */
#include "schemas/codec_inside.h"

#include <cstdarg>
#include <cstdio>

#include "schemas/wire_generated.h"

struct codec *codec_create(void)
{
    return new codec;
}

void codec_destroy(struct codec *c)
{
    if (c != nullptr) {
        c->forget(true);
        delete c;
    }
}

void codec_reset(struct codec *c)
{
    c->forget(false);
}

struct bytes codec_copy(struct codec *c, struct bytes from)
{
    uint8_t *place = c->claim(from.size + 1);
    if (from.size > 0) {
        memcpy(place, from.data, from.size);
    }
    place[from.size] = 0; /* so that a copied text is terminated */
    return bytes_of(place, from.size);
}

struct bytes codec_aligned(struct codec *c, struct bytes from)
{
    return reinterpret_cast<uintptr_t>(from.data) % 8 == 0 ? from : codec_copy(c, from);
}

const char *codec_print(struct codec *c, const char *format, ...)
{
    CHECK(format != nullptr);
    va_list arguments;
    va_start(arguments, format);
    va_list again;
    va_copy(again, arguments);
    const int size = vsnprintf(nullptr, 0, format, arguments);
    va_end(arguments);
    CHECK(size >= 0);
    auto *text = reinterpret_cast<char *>(c->claim(static_cast<size_t>(size) + 1));
    vsnprintf(text, static_cast<size_t>(size) + 1, format, again);
    va_end(again);
    return text;
}

void *codec_array(struct codec *c, size_t count, size_t item_bytes)
{
    CHECK(item_bytes > 0);
    CHECK(count <= SIZE_MAX / item_bytes);
    return c->array<uint8_t>(count * item_bytes);
}

/* -- records ------------------------------------------------------------------------------------ */

BUILD(record, {
    const auto key = text(b, v->key);
    const auto origin = text(b, v->origin);
    const auto body = blob(b, v->body);
    const bool asked = v->user != nullptr && v->user[0] != '\0';
    const auto user = asked ? text(b, v->user) : decltype(key)(); /* absent costs nothing */
    return finish(
        c, fb::CreateRecord(b, v->kind, key, origin, v->sequence, v->time_ms, v->trace, body, user),
        out);
})

READ(record, Record, {
    v.kind = t->kind();
    v.key = r.text(t->key());
    v.origin = r.text(t->origin());
    v.sequence = t->sequence();
    v.time_ms = t->time_ms();
    v.trace = t->trace();
    v.body = r.aligned(t->body());
    v.user = r.text(t->user());
})

BUILD(command, {
    CHECK(v->record_count <= LIMIT_BATCH_RECORDS);
    const auto records =
        list<fb::Blob>(c, v->records, v->record_count, [c](const struct bytes &record) {
            const auto data = blob(c->builder, record);
            return fb::CreateBlob(c->builder, data);
        });
    return finish(c, fb::CreateCommand(b, v->time_ms, v->origin, v->sequence, records), out);
})

READ(command, Command, {
    v.time_ms = t->time_ms();
    v.origin = t->origin();
    v.sequence = t->sequence();
    v.records = r.list<struct bytes>(
        t->records(), &v.record_count, LIMIT_BATCH_RECORDS,
        [&r](const fb::Blob *from_blob, struct bytes *to) { *to = r.aligned(from_blob->data()); });
})

/* -- wishes ------------------------------------------------------------------------------------- */

BUILD(object_put, {
    const struct object &o = v->object;
    const auto group = text(b, o.group);
    const auto version = text(b, o.version);
    const auto kind = text(b, o.kind);
    const auto resource = text(b, o.resource);
    const auto space = text(b, o.namespace_);
    const auto name = text(b, o.name);
    const auto uid = text(b, o.uid);
    const auto node = text(b, o.node_name);
    const auto labels = pairs(c, o.labels, o.label_count);
    const auto owners = texts(c, o.owners, o.owner_count);
    const auto finalizers = texts(c, o.finalizers, o.finalizer_count);
    const auto references =
        list<fb::Reference>(c, o.references, o.reference_count, [c](const struct reference &i) {
            const auto resource_of = text(c->builder, i.resource);
            const auto name_of = text(c->builder, i.name);
            return fb::CreateReference(c->builder, resource_of, name_of, i.optional);
        });
    const auto json = plain_blob(b, o.json);
    const auto device = device_wish_of(c, o.device);
    const auto tag = tag_of(o.tag);
    const auto object = fb::CreateObject(
        b, group, version, kind, resource, space, name, uid, node, labels, owners, finalizers,
        o.deletion_time_ms, o.deletion_grace_s, o.generation, o.request_cpu_milli,
        o.request_memory_bytes, references, o.seal_key, &tag, json, device);
    const auto if_uid = text(b, v->if_uid);
    return finish(c, fb::CreateObjectPut(b, v->mode, v->if_version, if_uid, object), out);
})

READ(object_put, ObjectPut, {
    v.mode = r.choice(t->mode(), PUT_UPDATE);
    v.if_version = t->if_version();
    v.if_uid = r.text(t->if_uid());
    const fb::Object *o = t->object();
    if (o == nullptr) {
        return STATUS_MALFORMED;
    }
    v.object.group = r.text(o->group());
    v.object.version = r.text(o->version());
    v.object.kind = r.text(o->kind());
    v.object.resource = r.text(o->resource());
    v.object.namespace_ = r.text(o->namespace_());
    v.object.name = r.text(o->name());
    v.object.uid = r.text(o->uid());
    v.object.node_name = r.text(o->node_name());
    v.object.labels = r.pairs(o->labels(), &v.object.label_count);
    v.object.owners = r.texts(o->owners(), &v.object.owner_count);
    v.object.finalizers = r.texts(o->finalizers(), &v.object.finalizer_count);
    v.object.deletion_time_ms = o->deletion_time_ms();
    v.object.deletion_grace_s = o->deletion_grace_s();
    v.object.generation = o->generation();
    v.object.request_cpu_milli = o->request_cpu_milli();
    v.object.request_memory_bytes = o->request_memory_bytes();
    v.object.references =
        r.list<struct reference>(o->references(), &v.object.reference_count, LIMIT_FRAME_BYTES / 8,
                                 [&r](const fb::Reference *f, struct reference *to) {
                                     to->resource = r.text(f->resource());
                                     to->name = r.text(f->name());
                                     to->optional = f->optional();
                                 });
    v.object.seal_key = o->seal_key();
    v.object.tag = r.tag(o->tag());
    v.object.json = r.blob(o->json());
    v.object.device = device_wish_fill(r, o->device());
})

namespace
{

/* A text field of a table whose vtable is verified. false: it is not as it must be. */
bool glance_text(const flatbuffers::Verifier &verifier, const flatbuffers::Table *table,
                 flatbuffers::voffset_t field, const char **out)
{
    *out = "";
    if (!table->VerifyOffset(verifier, field)) {
        return false;
    }
    const auto *from = table->GetPointer<const String *>(field);
    if (from == nullptr) {
        return true;
    }
    if (!verifier.VerifyString(from) || memchr(from->Data(), 0, from->size()) != nullptr) {
        return false;
    }
    *out = from->c_str();
    return true;
}

} // namespace

int codec_object_put_glance(struct bytes from, struct object_glance *out)
{
    CHECK(reinterpret_cast<uintptr_t>(from.data) % 8 == 0);
    if (from.size > LIMIT_FRAME_BYTES) {
        return STATUS_TOO_LARGE;
    }
    flatbuffers::Verifier verifier(from.data, from.size);
    const auto root = from.size < 8 ? 0 : verifier.VerifyOffset(size_t{0});
    if (root == 0) {
        return STATUS_MALFORMED;
    }
    const auto *put = reinterpret_cast<const flatbuffers::Table *>(from.data + root);
    if (!put->VerifyTableStart(verifier) ||
        !put->VerifyField<uint8_t>(verifier, fb::ObjectPut::VT_MODE, 1) ||
        !put->VerifyOffset(verifier, fb::ObjectPut::VT_OBJECT)) {
        return STATUS_MALFORMED;
    }
    const auto *object = put->GetPointer<const flatbuffers::Table *>(fb::ObjectPut::VT_OBJECT);
    struct object_glance v = {};
    v.mode = put->GetField<uint8_t>(fb::ObjectPut::VT_MODE, 0);
    if (v.mode > PUT_UPDATE || object == nullptr || !object->VerifyTableStart(verifier) ||
        !glance_text(verifier, object, fb::Object::VT_KIND, &v.kind) ||
        !glance_text(verifier, object, fb::Object::VT_RESOURCE, &v.resource) ||
        !glance_text(verifier, object, fb::Object::VT_NODE_NAME, &v.node_name)) {
        return STATUS_MALFORMED;
    }
    *out = v;
    return STATUS_OK;
}

BUILD(object_remove, {
    const auto if_uid = text(b, v->if_uid);
    return finish(c, fb::CreateObjectRemove(b, v->if_version, if_uid, v->reason), out);
})

READ(object_remove, ObjectRemove, {
    v.if_version = t->if_version();
    v.if_uid = r.text(t->if_uid());
    v.reason = r.choice(t->reason(), REMOVE_UNUSED);
})

/* -- facts -------------------------------------------------------------------------------------- */

BUILD(pod_status, {
    const auto uid = text(b, v->uid);
    const auto reason = text(b, v->reason);
    const auto message = text(b, v->message);
    const auto pod_ip = text(b, v->pod_ip);
    const auto host_ip = text(b, v->host_ip);
    const auto all_conditions = conditions(c, v->conditions, v->condition_count);
    const auto containers = list<fb::ContainerStatus>(
        c, v->containers, v->container_count, [c](const struct container_status &i) {
            auto &bb = c->builder;
            const auto name = text(bb, i.name);
            const auto image = text(bb, i.image);
            const auto image_id = text(bb, i.image_id);
            const auto container_id = text(bb, i.container_id);
            const auto why = text(bb, i.reason);
            const auto said = text(bb, i.message);
            const auto last_reason = text(bb, i.last_reason);
            const auto last_id = text(bb, i.last_container_id);
            return fb::CreateContainerStatus(
                bb, name, image, image_id, container_id, i.state, why, said, i.ready, i.started,
                i.restart_count, i.exit_code, i.started_ms, i.finished_ms, i.init, i.last_state,
                last_reason, i.last_exit_code, i.last_started_ms, i.last_finished_ms, last_id);
        });
    return finish(c,
                  fb::CreatePodStatus(b, uid, v->phase, reason, message, pod_ip, host_ip,
                                      v->started_ms, v->observed_generation, all_conditions,
                                      containers),
                  out);
})

READ(pod_status, PodStatus, {
    v.uid = r.text(t->uid());
    v.phase = r.choice(t->phase(), POD_UNKNOWN);
    v.reason = r.text(t->reason());
    v.message = r.text(t->message());
    v.pod_ip = r.text(t->pod_ip());
    v.host_ip = r.text(t->host_ip());
    v.started_ms = t->started_ms();
    v.observed_generation = t->observed_generation();
    v.conditions = r.conditions(t->conditions(), &v.condition_count);
    v.containers = r.list<struct container_status>(
        t->containers(), &v.container_count, LIMIT_FRAME_BYTES / 8,
        [&r](const fb::ContainerStatus *f, struct container_status *to) {
            to->name = r.text(f->name());
            to->image = r.text(f->image());
            to->image_id = r.text(f->image_id());
            to->container_id = r.text(f->container_id());
            to->state = r.choice(f->state(), CONTAINER_TERMINATED);
            to->reason = r.text(f->reason());
            to->message = r.text(f->message());
            to->ready = f->ready();
            to->started = f->started();
            to->restart_count = f->restart_count();
            to->exit_code = f->exit_code();
            to->started_ms = f->started_ms();
            to->finished_ms = f->finished_ms();
            to->init = f->init();
            to->last_state = r.choice(f->last_state(), CONTAINER_TERMINATED);
            to->last_reason = r.text(f->last_reason());
            to->last_exit_code = f->last_exit_code();
            to->last_started_ms = f->last_started_ms();
            to->last_finished_ms = f->last_finished_ms();
            to->last_container_id = r.text(f->last_container_id());
        });
})

BUILD(pod_ended, {
    const auto uid = text(b, v->uid);
    return finish(c, fb::CreatePodEnded(b, uid), out);
})

READ(pod_ended, PodEnded, { v.uid = r.text(t->uid()); })

BUILD(pod_attempt, {
    const auto uid = text(b, v->uid);
    const auto container = text(b, v->container);
    return finish(c, fb::CreatePodAttempt(b, uid, container, v->attempt, v->hash, v->time_ms), out);
})

READ(pod_attempt, PodAttempt, {
    v.uid = r.text(t->uid());
    v.container = r.text(t->container());
    v.attempt = t->attempt();
    v.hash = t->hash();
    v.time_ms = t->time_ms();
})

BUILD(node_status, {
    const auto all_conditions = conditions(c, v->conditions, v->condition_count);
    const auto addresses = pairs(c, v->addresses, v->address_count);
    const auto capacity = pairs(c, v->capacity, v->capacity_count);
    const auto allocatable = pairs(c, v->allocatable, v->allocatable_count);
    const auto info = pairs(c, v->info, v->info_count);
    const auto labels = pairs(c, v->labels, v->label_count);
    return finish(
        c, fb::CreateNodeStatus(b, all_conditions, addresses, capacity, allocatable, info, labels),
        out);
})

READ(node_status, NodeStatus, {
    v.conditions = r.conditions(t->conditions(), &v.condition_count);
    v.addresses = r.pairs(t->addresses(), &v.address_count);
    v.capacity = r.pairs(t->capacity(), &v.capacity_count);
    v.allocatable = r.pairs(t->allocatable(), &v.allocatable_count);
    v.info = r.pairs(t->info(), &v.info_count);
    v.labels = r.pairs(t->labels(), &v.label_count);
})

BUILD(edge_event, {
    const auto kind = text(b, v->kind);
    const auto space = text(b, v->namespace_);
    const auto name = text(b, v->name);
    const auto uid = text(b, v->uid);
    const auto container = text(b, v->container);
    const auto type = text(b, v->type);
    const auto reason = text(b, v->reason);
    const auto message = text(b, v->message);
    return finish(c,
                  fb::CreateEdgeEvent(b, kind, space, name, uid, container, type, reason, message,
                                      v->count, v->first_ms, v->last_ms),
                  out);
})

READ(edge_event, EdgeEvent, {
    v.kind = r.text(t->kind());
    v.namespace_ = r.text(t->namespace_());
    v.name = r.text(t->name());
    v.uid = r.text(t->uid());
    v.container = r.text(t->container());
    v.type = r.text(t->type());
    v.reason = r.text(t->reason());
    v.message = r.text(t->message());
    v.count = t->count();
    v.first_ms = t->first_ms();
    v.last_ms = t->last_ms();
})

/* -- verdicts ----------------------------------------------------------------------------------- */

BUILD(verdict, {
    const auto uid = text(b, v->uid);
    const auto all_conditions = conditions(c, v->conditions, v->condition_count);
    return finish(c, fb::CreateVerdict(b, uid, v->reachable, all_conditions), out);
})

READ(verdict, Verdict, {
    v.uid = r.text(t->uid());
    v.reachable = t->reachable();
    v.conditions = r.conditions(t->conditions(), &v.condition_count);
})

/* -- sessions and streams ----------------------------------------------------------------------- */

BUILD(session_open, {
    const auto node = text(b, v->node);
    const auto uid = text(b, v->uid);
    return finish(c, fb::CreateSessionOpen(b, node, uid, v->replica, v->up_stream, v->up_position),
                  out);
})

READ(session_open, SessionOpen, {
    v.node = r.text(t->node());
    v.uid = r.text(t->uid());
    v.replica = t->replica();
    v.up_stream = t->up_stream();
    v.up_position = t->up_position();
})

BUILD(down_ack, {
    const auto node = text(b, v->node);
    return finish(c, fb::CreateDownAck(b, node, v->epoch, v->stream, v->position), out);
})

READ(down_ack, DownAck, {
    v.node = r.text(t->node());
    v.epoch = t->epoch();
    v.stream = t->stream();
    v.position = t->position();
})

BUILD(batch, {
    CHECK(v->record_count <= LIMIT_BATCH_RECORDS);
    const auto node = text(b, v->node);
    const auto records = sequences(c, v->records, v->record_count);
    const auto digest = tag_of(v->digest);
    return finish(c,
                  fb::CreateBatch(b, node, v->epoch, v->stream, v->previous, v->last, v->tip,
                                  records, &digest),
                  out);
})

READ(batch, Batch, {
    v.node = r.text(t->node());
    v.epoch = t->epoch();
    v.stream = t->stream();
    v.previous = t->previous();
    v.last = t->last();
    v.tip = t->tip();
    v.records = r.sequences(t->records(), &v.record_count);
    v.digest = r.tag(t->digest());
    r.good = r.good && v.previous <= v.last && v.last <= v.tip;
    uint64_t before = v.previous;
    for (uint32_t i = 0; i < v.record_count; i++) {
        r.good = r.good && v.records[i].sequence > before && v.records[i].sequence <= v.last;
        before = v.records[i].sequence;
    }
})

BUILD(snapshot, {
    CHECK(v->record_count <= LIMIT_BATCH_RECORDS);
    const auto records = sequences(c, v->records, v->record_count);
    const auto digest = tag_of(v->digest);
    return finish(
        c, fb::CreateSnapshot(b, v->stream, v->position, v->id, v->step, records, &digest,
                              v->retell),
        out);
})

READ(snapshot, Snapshot, {
    v.stream = t->stream();
    v.position = t->position();
    v.id = t->id();
    v.step = r.choice(t->step(), SNAPSHOT_END);
    v.records = r.sequences(t->records(), &v.record_count);
    v.digest = r.tag(t->digest());
    v.retell = t->retell();
})

BUILD(stream_init, {
    const auto node = text(b, v->node);
    const auto cluster = text(b, v->cluster);
    return finish(c, fb::CreateStreamInit(b, node, cluster, v->up_stream), out);
})

READ(stream_init, StreamInit, {
    v.node = r.text(t->node());
    v.cluster = r.text(t->cluster());
    v.up_stream = t->up_stream();
})

BUILD(cluster_init, {
    const auto cluster = text(b, v->cluster);
    return finish(c, fb::CreateClusterInit(b, cluster), out);
})

READ(cluster_init, ClusterInit, { v.cluster = r.text(t->cluster()); })

BUILD(setting, {
    const auto name = text(b, v->name);
    return finish(c, fb::CreateSetting(b, name, v->value), out);
})

READ(setting, Setting, {
    v.name = r.text(t->name());
    v.value = t->value();
})

BUILD(member_key, {
    const auto key = text(b, v->key);
    return finish(c, fb::CreateMemberKey(b, v->replica, v->standing, key, v->below), out);
})

READ(member_key, MemberKey, {
    v.replica = t->replica();
    v.standing = t->standing();
    v.key = r.text(t->key());
    v.below = t->below();
    r.good = r.good && v.standing >= MEMBER_KEY_MEMBER && v.standing <= MEMBER_KEY_OUT;
})

BUILD(gap, { return finish(c, fb::CreateGap(b, v->first, v->last), out); })

READ(gap, Gap, {
    v.first = t->first();
    v.last = t->last();
})

/* -- the wire ----------------------------------------------------------------------------------- */

int codec_frame_build(struct codec *c, uint16_t kind, struct bytes body, struct bytes *out)
{
    const auto data = blob(c->builder, body);
    const auto root = fb::CreateFrame(c->builder, kind, data);
    c->builder.Finish(root);
    const size_t size = c->builder.GetSize();
    if (size <= LIMIT_WIRE_BYTES) {
        *out = codec_copy(c, bytes_of(c->builder.GetBufferPointer(), size));
    }
    c->builder.Clear();
    return size <= LIMIT_WIRE_BYTES ? STATUS_OK : STATUS_TOO_LARGE;
}

int codec_frame_read(struct codec *c, struct bytes from, uint16_t *out_kind, struct bytes *out_body)
{
    CHECK(reinterpret_cast<uintptr_t>(from.data) % 8 == 0);
    if (from.size > LIMIT_WIRE_BYTES) {
        return STATUS_TOO_LARGE;
    }
    flatbuffers::Verifier verifier(from.data, from.size, 4, 16);
    if (from.size < 8 || !verifier.VerifyBuffer<fb::Frame>(nullptr)) {
        return STATUS_MALFORMED;
    }
    const auto *frame = flatbuffers::GetRoot<fb::Frame>(from.data);
    reader r{c, from.size};
    const struct bytes body = r.aligned(frame->body());
    if (!r.good) {
        return STATUS_MALFORMED;
    }
    *out_kind = frame->kind();
    *out_body = body;
    return STATUS_OK;
}

BUILD(hello, {
    const auto node = text(b, v->node);
    const auto cluster = text(b, v->cluster);
    const auto labels = pairs(c, v->labels, v->label_count);
    const auto software = text(b, v->software);
    const auto digest = tag_of(v->digest);
    return finish(c,
                  fb::CreateHello(b, v->version, node, cluster, v->down_stream, v->down_position,
                                  v->up_stream, v->up_first, v->up_last, &digest, labels, software),
                  out);
})

READ(hello, Hello, {
    v.version = t->version();
    v.node = r.text(t->node());
    v.cluster = r.text(t->cluster());
    v.down_stream = t->down_stream();
    v.down_position = t->down_position();
    v.up_stream = t->up_stream();
    v.up_first = t->up_first();
    v.up_last = t->up_last();
    v.digest = r.tag(t->digest());
    v.labels = r.pairs(t->labels(), &v.label_count);
    v.software = r.text(t->software());
    r.good = r.good && v.up_first <= v.up_last;
})

BUILD(welcome, {
    const auto cluster = text(b, v->cluster);
    const auto shut_out = plain_blob(b, v->shut_out);
    return finish(c,
                  fb::CreateWelcome(b, v->version, cluster, v->epoch, v->mode, v->down_stream,
                                    v->down_tip, v->up_stream, v->up_position, v->heartbeat_ms,
                                    v->keys_told, shut_out),
                  out);
})

static bool keys_good(struct bytes keys)
{
    return keys.size % CODEC_KEY_BYTES == 0 && keys.size <= LIMIT_MEMBER_KEYS * CODEC_KEY_BYTES;
}

READ(welcome, Welcome, {
    v.version = t->version();
    v.cluster = r.text(t->cluster());
    v.epoch = t->epoch();
    v.mode = r.choice(t->mode(), WELCOME_SNAPSHOT);
    v.down_stream = t->down_stream();
    v.down_tip = t->down_tip();
    v.up_stream = t->up_stream();
    v.up_position = t->up_position();
    v.heartbeat_ms = t->heartbeat_ms();
    v.keys_told = t->keys_told();
    v.shut_out = r.blob(t->shut_out());
    r.good = r.good && keys_good(v.shut_out);
})

BUILD(ack, { return finish(c, fb::CreateAck(b, v->stream, v->position, v->refused), out); })

READ(ack, Ack, {
    v.stream = t->stream();
    v.position = t->position();
    v.refused = t->refused();
})

BUILD(ping, {
    const auto shut_out = plain_blob(b, v->shut_out);
    return finish(c, fb::CreatePing(b, v->time_ms, v->position, v->keys_told, shut_out), out);
})

READ(ping, Ping, {
    v.time_ms = t->time_ms();
    v.position = t->position();
    v.keys_told = t->keys_told();
    v.shut_out = r.blob(t->shut_out());
    r.good = r.good && keys_good(v.shut_out);
})

BUILD(bye, {
    const auto reason = text(b, v->reason);
    return finish(c, fb::CreateBye(b, v->code, reason, v->retry_ms), out);
})

READ(bye, Bye, {
    v.code = t->code();
    v.reason = r.text(t->reason());
    v.retry_ms = t->retry_ms();
})

BUILD(peer_hello, {
    const auto cluster = text(b, v->cluster);
    const auto address = text(b, v->address);
    const auto software = text(b, v->software);
    CHECK(v->member_count <= LIMIT_REPLICAS);
    const auto members = v->member_count == 0 ? Offset<Vector<uint64_t>>{}
                                              : b.CreateVector(v->members, v->member_count);
    CHECK(v->known_count <= LIMIT_MEMBERS);
    const auto known = list<fb::PeerKnown>(c, v->known, v->known_count, [c](const struct peer_known &i) {
        return fb::CreatePeerKnown(c->builder, i.replica, i.incarnation, i.epoch);
    });
    return finish(c, fb::CreatePeerHello(b, v->version, cluster, v->replica, address, members,
                                        v->space, v->incarnation, v->configuration, known, v->joins, v->level, software, v->epoch, v->works),
                  out);
})

READ(peer_hello, PeerHello, {
    v.version = t->version();
    v.cluster = r.text(t->cluster());
    v.replica = t->replica();
    v.address = r.text(t->address());
    v.members = r.numbers(t->members(), &v.member_count, LIMIT_REPLICAS);
    v.space = t->space();
    v.incarnation = t->incarnation();
    v.configuration = t->configuration();
    v.known = r.list<struct peer_known>(t->known(), &v.known_count, LIMIT_MEMBERS,
                                        [](const fb::PeerKnown *f, struct peer_known *to) {
                                            to->replica = f->replica();
                                            to->incarnation = f->incarnation();
                                            to->epoch = f->epoch();
                                        });
    v.joins = t->joins();
    v.level = t->level();
    v.software = r.text(t->software());
    v.epoch = t->epoch();
    v.works = t->works();
})

BUILD(peer_status, {
    const auto software = text(b, v->software);
    return finish(c,
                  fb::CreatePeerStatus(b, v->replica, software, v->term, v->leader, v->last, v->commit,
                                       v->applied, v->sessions, v->space, v->disk_free_bytes,
                                       v->log_bytes, v->started_ms, v->standing, v->percent),
                  out);
})

READ(peer_status, PeerStatus, {
    v.replica = t->replica();
    v.software = r.text(t->software());
    v.term = t->term();
    v.leader = t->leader();
    v.last = t->last();
    v.commit = t->commit();
    v.applied = t->applied();
    v.sessions = t->sessions();
    v.space = t->space();
    v.disk_free_bytes = t->disk_free();
    v.log_bytes = t->log_bytes();
    v.started_ms = t->started_ms();
    v.standing = t->standing();
    v.percent = t->percent();
    r.good = r.good && v.standing <= STANDING_LOST && v.percent <= 100;
})

BUILD(member_ask, {
    const auto address = text(b, v->address);
    const auto key = text(b, v->key);
    return finish(c, fb::CreateMemberAsk(b, v->request, v->operation, v->replica, address, key), out);
})

READ(member_ask, MemberAsk, {
    v.request = t->request();
    v.operation = t->operation();
    v.replica = t->replica();
    v.address = r.text(t->address());
    v.key = r.text(t->key());
})

BUILD(member_answer, {
    const auto message = text(b, v->message);
    return finish(c, fb::CreateMemberAnswer(b, v->request, v->status, message), out);
})

READ(member_answer, MemberAnswer, {
    v.request = t->request();
    v.status = t->status();
    v.message = r.text(t->message());
})

BUILD(raft_wire, {
    CHECK(v->conf_count <= LIMIT_REPLICAS);
    CHECK(v->entry_count <= LIMIT_RAFT_ENTRIES);
    const auto address = text(b, v->server_address);
    const auto conf =
        list<fb::RaftServer>(c, v->conf, v->conf_count, [c](const struct raft_wire_server &i) {
            const auto where = text(c->builder, i.address);
            return fb::CreateRaftServer(c->builder, i.id, where, i.role);
        });
    const auto entries =
        list<fb::RaftEntry>(c, v->entries, v->entry_count, [c](const struct raft_wire_entry &i) {
            const auto data = blob(c->builder, i.data);
            return fb::CreateRaftEntry(c->builder, i.term, i.type, data);
        });
    const auto data = blob(b, v->data);
    return finish(c,
                  fb::CreateRaftMessage(b, v->type, v->server_id, address, v->term, v->candidate_id,
                                        v->last_log_index, v->last_log_term, v->disrupt_leader,
                                        v->pre_vote, v->vote_granted, v->prev_log_index,
                                        v->prev_log_term, v->leader_commit, v->rejected, v->version,
                                        v->features, v->conf_index, conf, entries, data,
                                        v->last_index, v->last_term, v->round),
                  out);
})

READ(raft_wire, RaftMessage, {
    v.type = t->type();
    v.server_id = t->server_id();
    v.server_address = r.text(t->server_address());
    v.term = t->term();
    v.candidate_id = t->candidate_id();
    v.last_log_index = t->last_log_index();
    v.last_log_term = t->last_log_term();
    v.disrupt_leader = t->disrupt_leader();
    v.pre_vote = t->pre_vote();
    v.vote_granted = t->vote_granted();
    v.prev_log_index = t->prev_log_index();
    v.prev_log_term = t->prev_log_term();
    v.leader_commit = t->leader_commit();
    v.rejected = t->rejected();
    v.version = t->version();
    v.features = t->features();
    v.conf_index = t->conf_index();
    v.conf =
        r.list<struct raft_wire_server>(t->conf(), &v.conf_count, LIMIT_REPLICAS,
                                        [&r](const fb::RaftServer *f, struct raft_wire_server *to) {
                                            to->id = f->id();
                                            to->address = r.text(f->address());
                                            to->role = f->role();
                                        });
    v.entries =
        r.list<struct raft_wire_entry>(t->entries(), &v.entry_count, LIMIT_RAFT_ENTRIES,
                                       [&r](const fb::RaftEntry *f, struct raft_wire_entry *to) {
                                           to->term = f->term();
                                           to->type = f->type();
                                           to->data = r.aligned(f->data());
                                       });
    v.data = r.aligned(t->data());
    v.last_index = t->last_index();
    v.last_term = t->last_term();
    v.round = t->round();
})

BUILD(forward, {
    const auto command = blob(b, v->command);
    return finish(c, fb::CreateForward(b, v->origin, v->sequence, command, v->status, v->leader),
                  out);
})

READ(forward, Forward, {
    v.origin = t->origin();
    v.sequence = t->sequence();
    v.command = r.aligned(t->command());
    v.status = t->status();
    v.leader = t->leader();
})

BUILD(read_index,
      { return finish(c, fb::CreateReadIndex(b, v->request, v->index, v->status), out); })

READ(read_index, ReadIndex, {
    v.request = t->request();
    v.index = t->index();
    v.status = t->status();
})

BUILD(sessions, {
    const auto opened = texts(c, v->opened, v->opened_count);
    const auto closed = texts(c, v->closed, v->closed_count);
    const auto epochs = v->opened_count == 0 ? Offset<Vector<uint64_t>>{}
                                             : b.CreateVector(v->epochs, v->opened_count);
    return finish(c, fb::CreateSessions(b, v->replica, v->full, opened, closed, epochs), out);
})

READ(sessions, Sessions, {
    v.replica = t->replica();
    v.full = t->full();
    v.opened = r.texts(t->opened(), &v.opened_count);
    v.closed = r.texts(t->closed(), &v.closed_count);
    uint32_t epoch_count;
    v.epochs = r.numbers(t->epochs(), &epoch_count, LIMIT_FRAME_BYTES / 8);
    r.good = r.good && epoch_count == v.opened_count;
})

BUILD(state_ask, {
    const auto from = blob(b, v->from);
    const auto to = blob(b, v->to);
    const auto digest = tag_of(v->digest);
    return finish(
        c,
        fb::CreateStateAsk(b, v->request, v->needed, v->format, from, to, v->has, &digest, v->over),
        out);
})

READ(state_ask, StateAsk, {
    v.request = t->request();
    v.needed = t->needed();
    v.format = t->format();
    v.from = r.aligned(t->from());
    v.to = r.aligned(t->to());
    v.has = t->has();
    v.digest = r.tag(t->digest());
    v.over = t->over();
    r.good = r.good && v.from.size <= LIMIT_STORE_KEY_BYTES && v.to.size <= LIMIT_STORE_KEY_BYTES;
})

BUILD(state_range, {
    const auto to = blob(b, v->to);
    const auto rows = blob(b, v->rows);
    const auto digest = tag_of(v->digest);
    return finish(c,
                  fb::CreateStateRange(b, v->request, v->status, v->position, v->format, to,
                                       v->same, &digest, rows, v->row_count),
                  out);
})

READ(state_range, StateRange, {
    v.request = t->request();
    v.status = t->status();
    v.position = t->position();
    v.format = t->format();
    v.to = r.aligned(t->to());
    v.same = t->same();
    v.digest = r.tag(t->digest());
    v.rows = r.aligned(t->rows());
    v.row_count = t->row_count();
    r.good = r.good && v.to.size <= LIMIT_STORE_KEY_BYTES;
})
