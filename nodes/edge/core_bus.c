/* What the bus asks of the core, and hears from it. */
#include "nodes/edge/core_inner.h"

static int core_bus_append(void *context, uint16_t kind, const char *key, struct bytes body)
{
    struct edge_core *core = context;
    codec_reset(core->codec_build);
    const int status = edge_core_append_fact(core, kind, key, body);
    if (status == 0) {
        core->appends_tail->from_bus = true;
    }
    return status;
}

static int core_bus_publish(void *context, uint32_t broker, uint64_t id, const char *topic,
                            struct bytes payload)
{
    const struct edge_core *core = context;
    return core->ops.bus_publish(core->ops.context, broker, id, topic, payload);
}

void edge_core_open_bus(struct edge_core *core)
{
    struct bus_config config = core->config.bus;
    config.node = core->config.node;
    core->bus = bus_create(&config, &(struct bus_door){.context = core,
                                                       .machine = core->machine,
                                                       .append = core_bus_append,
                                                       .publish = core_bus_publish});
}

void edge_core_tell_bus(struct edge_core *core, const struct edge_applied *applied)
{
    if (core->bus == NULL) {
        return;
    }
    if (applied->all_changed) {
        bus_wish_changed(core->bus, NULL, false);
    }
    for (uint32_t i = 0; i < applied->change_count; i++) {
        bus_wish_changed(core->bus, applied->changes[i].key, applied->changes[i].removed);
    }
}

struct bus_time edge_core_bus_time(const struct edge_core *core)
{
    return (struct bus_time){.mono_ms = core->now.mono_ms, .wall_ms = core->now.wall_ms};
}

struct bus *edge_core_bus(const struct edge_core *core)
{
    return core->bus;
}
