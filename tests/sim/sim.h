/* A deterministic world: a virtual clock, events in order, and chance from one seed.
 *
 * Everything that happens in a simulation is an event: (time, sequence of scheduling) decides the
 * order, so one seed is one story. Whoever schedules names an owner: a number that stands for one
 * incarnation of a process. When the process dies, all its events are cancelled at once, and a
 * callback of a former life can never fire into a new one.
 *
 *     struct sim sim;
 *     sim_init(&sim, seed);
 *     node->life = sim_owner_new(&sim);
 *     sim_after(&sim, 500, node->life, node_on_tick, node);
 *     while (sim.now_us < 60 * 1000000 && sim_step(&sim)) {
 *     }
 *     sim_cancel_owner(&sim, node->life);     the node dies
 *     sim_deinit(&sim);
 */
#ifndef KELP_TESTS_SIM_SIM_H
#define KELP_TESTS_SIM_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sim_event {
    uint64_t at_us;
    uint64_t sequence; /* of scheduling: breaks ties, and names the event */
    uint64_t owner;
    void (*callback)(void *context);
    void *context;
};

struct sim {
    uint64_t now_us;          /* starts at 0; moves only in sim_step and sim_run_until */
    uint64_t seed;            /* what it began with, for messages */
    uint64_t random;          /* state of splitmix64 */
    uint64_t sequence;        /* of the last event scheduled */
    uint64_t owner;           /* last number handed out */
    uint64_t steps;           /* events that fired */
    struct sim_event *events; /* a binary heap */
    size_t event_count;
    size_t event_capacity;
};

void sim_init(struct sim *sim, uint64_t seed);
void sim_deinit(struct sim *sim);

/* A number no owner had before: one incarnation of whatever lives in the simulation. Never 0. */
uint64_t sim_owner_new(struct sim *sim);

/* Let `callback` fire `delay_us` from now (0: still later than every event of now that was
 * scheduled before).
 *
 *   owner      from sim_owner_new; or 0 for the world itself, which never dies
 *   answers    the name of the event, for sim_cancel
 */
uint64_t sim_after(struct sim *sim, uint64_t delay_us, uint64_t owner,
                   void (*callback)(void *context), void *context);

/* Take one event back. One that fired already, or was taken back, is no error. O(events). */
void sim_cancel(struct sim *sim, uint64_t event);
/* Take back all events of an owner: it died. O(events). */
void sim_cancel_owner(struct sim *sim, uint64_t owner);

/* The next event happens later: whoever it belongs to stands still until then. Events put off to the
 * same time keep their order.
 *
 *   until_us   not before the event's own time; there is an event
 */
void sim_postpone(struct sim *sim, uint64_t until_us);

/* Fire the next event; time jumps to it. false: there is none. */
bool sim_step(struct sim *sim);
/* Fire all events up to and including a time, then set the clock to it. */
void sim_run_until(struct sim *sim, uint64_t until_us);

/* Chance. Calls consume the one stream of the seed, in the order of events. */
uint64_t sim_random(struct sim *sim);
/* Uniform in [0, bound); bound at least 1. */
uint64_t sim_below(struct sim *sim, uint64_t bound);
/* Uniform in [low, high], both included. */
uint64_t sim_between(struct sim *sim, uint64_t low, uint64_t high);
/* true with probability per_million / 1,000,000. */
bool sim_chance(struct sim *sim, uint32_t per_million);

#endif
