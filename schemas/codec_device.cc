/* The tables about devices; how is told in codec.cc, what in codec_device.h. */
#include "schemas/codec_inside.h"

namespace
{

Offset<fb::Twin> twin_of(struct codec *c, const struct twin &i)
{
    auto &b = c->builder;
    const auto key = text(b, i.key);
    const auto type = text(b, i.type);
    const auto expected = text(b, i.expected);
    const auto actual = text(b, i.actual);
    return fb::CreateTwin(b, key, type, i.optional, i.has_expected, expected, i.expected_ms,
                          i.expected_local, i.expected_saw, i.has_actual, actual, i.actual_ms,
                          i.wish_revision);
}

void twin_fill(reader &r, const fb::Twin *t, struct twin *to)
{
    to->key = r.text(t->key());
    to->type = r.text(t->type());
    to->optional = t->optional();
    to->has_expected = t->has_expected();
    to->expected = r.text(t->expected());
    to->expected_ms = t->expected_ms();
    to->expected_local = t->expected_local();
    to->expected_saw = t->expected_saw();
    to->has_actual = t->has_actual();
    to->actual = r.text(t->actual());
    to->actual_ms = t->actual_ms();
    to->wish_revision = t->wish_revision();
}

} // namespace

/* -- wishes ------------------------------------------------------------------------------------- */

Offset<fb::DeviceWish> device_wish_of(struct codec *c, const struct device_wish *v)
{
    if (v == nullptr) {
        return {};
    }
    auto &b = c->builder;
    const auto description = text(b, v->description);
    const auto properties = list<fb::DeviceProperty>(
        c, v->properties, v->property_count, [c](const struct device_property &i) {
            const auto name = text(c->builder, i.name);
            const auto type = text(c->builder, i.type);
            const auto desired = text(c->builder, i.desired);
            return fb::CreateDeviceProperty(c->builder, name, type, i.has_desired, desired,
                                            i.optional, i.revision);
        });
    return fb::CreateDeviceWish(b, description, properties, v->keep_values);
}

const struct device_wish *device_wish_fill(reader &r, const fb::DeviceWish *t)
{
    if (t == nullptr) {
        return nullptr;
    }
    auto *v = r.c->array<struct device_wish>(1);
    v->description = r.text(t->description());
    v->properties = r.list<struct device_property>(
        t->properties(), &v->property_count, LIMIT_DEVICE_TWINS,
        [&r](const fb::DeviceProperty *f, struct device_property *to) {
            to->name = r.text(f->name());
            to->type = r.text(f->type());
            to->has_desired = f->has_desired();
            to->desired = r.text(f->desired());
            to->optional = f->optional();
            to->revision = f->revision();
        });
    v->keep_values = t->keep_values();
    return v;
}

/* -- at the edge -------------------------------------------------------------------------------- */

BUILD(twin, { return finish(c, twin_of(c, *v), out); })

READ(twin, Twin, { twin_fill(r, t, &v); })

BUILD(twin_update, {
    const auto event_id = text(b, v->event_id);
    const auto changes =
        list<fb::TwinChange>(c, v->changes, v->change_count, [c](const struct twin_change &i) {
            auto &bb = c->builder;
            const auto key = text(bb, i.key);
            const auto expected = text(bb, i.expected);
            const auto actual = text(bb, i.actual);
            const auto type = text(bb, i.type);
            return fb::CreateTwinChange(bb, key, i.remove, i.has_expected, expected, i.has_actual,
                                        actual, i.optional, type);
        });
    return finish(c, fb::CreateTwinUpdate(b, event_id, v->topics, changes), out);
})

READ(twin_update, TwinUpdate, {
    v.event_id = r.text(t->event_id());
    v.topics = r.choice(t->topics(), DEVICE_TOPICS_BOTH);
    v.changes = r.list<struct twin_change>(t->changes(), &v.change_count, LIMIT_DEVICE_TWINS,
                                           [&r](const fb::TwinChange *f, struct twin_change *to) {
                                               to->key = r.text(f->key());
                                               to->remove = f->remove();
                                               to->has_expected = f->has_expected();
                                               to->expected = r.text(f->expected());
                                               to->has_actual = f->has_actual();
                                               to->actual = r.text(f->actual());
                                               to->optional =
                                                   r.choice(f->optional(), TWIN_OPTIONAL_YES);
                                               to->type = r.text(f->type());
                                           });
})

BUILD(device_state, {
    const auto event_id = text(b, v->event_id);
    const auto state = text(b, v->state);
    return finish(c, fb::CreateDeviceState(b, event_id, v->topics, state), out);
})

READ(device_state, DeviceState, {
    v.event_id = r.text(t->event_id());
    v.topics = r.choice(t->topics(), DEVICE_TOPICS_BOTH);
    v.state = r.text(t->state());
})

BUILD(outbox_done, { return finish(c, fb::CreateOutboxDone(b, v->position), out); })

READ(outbox_done, OutboxDone, { v.position = t->position(); })

/* -- what the edge tells the cloud -------------------------------------------------------------- */

BUILD(device_status, {
    const auto uid = text(b, v->uid);
    const auto state = text(b, v->state);
    const auto twins = list<fb::Twin>(c, v->twins, v->twin_count,
                                      [c](const struct twin &i) { return twin_of(c, i); });
    return finish(c, fb::CreateDeviceStatus(b, uid, state, v->last_online_ms, twins), out);
})

READ(device_status, DeviceStatus, {
    v.uid = r.text(t->uid());
    v.state = r.text(t->state());
    v.last_online_ms = t->last_online_ms();
    v.twins =
        r.list<struct twin>(t->twins(), &v.twin_count, LIMIT_DEVICE_TWINS,
                            [&r](const fb::Twin *f, struct twin *to) { twin_fill(r, f, to); });
})

BUILD(device_value, {
    const auto uid = text(b, v->uid);
    const auto key = text(b, v->key);
    const auto value = text(b, v->value);
    return finish(c, fb::CreateDeviceValue(b, uid, key, value, v->time_ms), out);
})

READ(device_value, DeviceValue, {
    v.uid = r.text(t->uid());
    v.key = r.text(t->key());
    v.value = r.text(t->value());
    v.time_ms = t->time_ms();
})

BUILD(mqtt_message, {
    const auto topic = text(b, v->topic);
    const auto payload = plain_blob(b, v->payload);
    return finish(c, fb::CreateMqttMessage(b, topic, payload), out);
})

READ(mqtt_message, MqttMessage, {
    v.topic = r.text(t->topic());
    v.payload = r.blob(t->payload());
})

/* -- the outbox --------------------------------------------------------------------------------- */

BUILD(publication, {
    const auto device = text(b, v->device);
    const auto event_id = text(b, v->event_id);
    const auto reason = text(b, v->reason);
    const auto description = text(b, v->description);
    const auto state = text(b, v->state);
    const auto twins =
        list<fb::PublishedTwin>(c, v->twins, v->twin_count, [c](const struct published_twin &i) {
            const auto before = i.has_before ? twin_of(c, i.before) : Offset<fb::Twin>{};
            const auto after = i.has_after ? twin_of(c, i.after) : Offset<fb::Twin>{};
            return fb::CreatePublishedTwin(c->builder, before, after, i.parts);
        });
    return finish(c,
                  fb::CreatePublication(b, v->kind, v->topics, device, event_id, v->time_ms,
                                        v->code, reason, description, state, v->last_online_ms,
                                        twins),
                  out);
})

READ(publication, Publication, {
    v.kind = r.choice(t->kind(), PUBLISH_DEVICE_REMOVED);
    r.good = r.good && v.kind >= PUBLISH_TWIN_RESULT;
    v.topics = r.choice(t->topics(), DEVICE_TOPICS_BOTH);
    v.device = r.text(t->device());
    v.event_id = r.text(t->event_id());
    v.time_ms = t->time_ms();
    v.code = t->code();
    v.reason = r.text(t->reason());
    v.description = r.text(t->description());
    v.state = r.text(t->state());
    v.last_online_ms = t->last_online_ms();
    v.twins = r.list<struct published_twin>(
        t->twins(), &v.twin_count, LIMIT_DEVICE_TWINS,
        [&r](const fb::PublishedTwin *f, struct published_twin *to) {
            to->has_before = f->before() != nullptr;
            if (to->has_before) {
                twin_fill(r, f->before(), &to->before);
            }
            to->has_after = f->after() != nullptr;
            if (to->has_after) {
                twin_fill(r, f->after(), &to->after);
            }
            to->parts = r.choice(f->parts(), TWIN_PART_EXPECTED | TWIN_PART_ACTUAL);
        });
})
