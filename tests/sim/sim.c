#include "tests/sim/sim.h"

#include "schemas/check.h"

#include <stdlib.h>

void sim_init(struct sim *sim, uint64_t seed)
{
    *sim = (struct sim){.seed = seed, .random = seed};
}

void sim_deinit(struct sim *sim)
{
    free(sim->events);
    sim->events = NULL;
    sim->event_count = 0;
}

uint64_t sim_owner_new(struct sim *sim)
{
    sim->owner++;
    return sim->owner;
}

static bool event_before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->sequence < b->sequence;
}

static void events_swap(struct sim *sim, size_t a, size_t b)
{
    const struct sim_event event = sim->events[a];
    sim->events[a] = sim->events[b];
    sim->events[b] = event;
}

static void events_up(struct sim *sim, size_t at)
{
    while (at > 0 && event_before(&sim->events[at], &sim->events[(at - 1) / 2])) {
        events_swap(sim, at, (at - 1) / 2);
        at = (at - 1) / 2;
    }
}

static void events_down(struct sim *sim, size_t at)
{
    for (;;) {
        size_t least = at;
        for (size_t child = 2 * at + 1; child <= 2 * at + 2; child++) {
            if (child < sim->event_count &&
                event_before(&sim->events[child], &sim->events[least])) {
                least = child;
            }
        }
        if (least == at) {
            return;
        }
        events_swap(sim, at, least);
        at = least;
    }
}

uint64_t sim_after(struct sim *sim, uint64_t delay_us, uint64_t owner,
                   void (*callback)(void *context), void *context)
{
    CHECK(callback != NULL);
    CHECK(owner <= sim->owner);

    if (sim->event_count == sim->event_capacity) {
        sim->event_capacity = sim->event_capacity == 0 ? 256 : 2 * sim->event_capacity;
        sim->events = realloc(sim->events, sim->event_capacity * sizeof *sim->events);
        CHECK(sim->events != NULL);
    }
    sim->sequence++;
    sim->events[sim->event_count] = (struct sim_event){
        .at_us = sim->now_us + delay_us,
        .sequence = sim->sequence,
        .owner = owner,
        .callback = callback,
        .context = context,
    };
    sim->event_count++;
    events_up(sim, sim->event_count - 1);
    return sim->sequence;
}

/* Restore the heap after events were taken out of the middle. Order of firing does not depend on
 * the shape of the heap, only on (time, sequence), so this keeps stories the same. */
static void events_rebuild(struct sim *sim)
{
    for (size_t at = sim->event_count / 2; at > 0; at--) {
        events_down(sim, at - 1);
    }
}

void sim_cancel(struct sim *sim, uint64_t event)
{
    for (size_t i = 0; i < sim->event_count; i++) {
        if (sim->events[i].sequence == event) {
            sim->event_count--;
            sim->events[i] = sim->events[sim->event_count];
            events_rebuild(sim);
            return;
        }
    }
}

void sim_cancel_owner(struct sim *sim, uint64_t owner)
{
    CHECK(owner != 0);

    size_t kept = 0;
    for (size_t i = 0; i < sim->event_count; i++) {
        if (sim->events[i].owner != owner) {
            sim->events[kept] = sim->events[i];
            kept++;
        }
    }
    sim->event_count = kept;
    events_rebuild(sim);
}

void sim_postpone(struct sim *sim, uint64_t until_us)
{
    CHECK(sim->event_count > 0);
    CHECK(until_us >= sim->events[0].at_us);
    sim->events[0].at_us = until_us;
    events_down(sim, 0);
}

bool sim_step(struct sim *sim)
{
    if (sim->event_count == 0) {
        return false;
    }
    const struct sim_event event = sim->events[0];
    CHECK(event.at_us >= sim->now_us);

    sim->event_count--;
    sim->events[0] = sim->events[sim->event_count];
    events_down(sim, 0);
    sim->now_us = event.at_us;
    sim->steps++;
    event.callback(event.context);
    return true;
}

void sim_run_until(struct sim *sim, uint64_t until_us)
{
    while (sim->event_count > 0 && sim->events[0].at_us <= until_us) {
        sim_step(sim);
    }
    if (sim->now_us < until_us) {
        sim->now_us = until_us;
    }
}

uint64_t sim_random(struct sim *sim)
{
    sim->random += 0x9e3779b97f4a7c15u; /* splitmix64 */
    uint64_t z = sim->random;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t sim_below(struct sim *sim, uint64_t bound)
{
    CHECK(bound > 0);
    return sim_random(sim) % bound; /* its bias is below 2^-32 for the bounds of tests */
}

uint64_t sim_between(struct sim *sim, uint64_t low, uint64_t high)
{
    CHECK(low <= high);
    return low + sim_below(sim, high - low + 1);
}

bool sim_chance(struct sim *sim, uint32_t per_million)
{
    return sim_below(sim, 1000000) < per_million;
}
