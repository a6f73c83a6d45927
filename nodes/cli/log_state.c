#include "nodes/cli/log_state.h"

#include "nodes/cli/status.h"
#include "nodes/control.h"
#include "schemas/check.h"
#include "schemas/status.h"
#include "statemachine/edge.h"
#include "statemachine/machine.h"

#include <jansson.h>
#include <stdio.h>

const char *state_machine_text(enum state_machine machine)
{
    static const char *const texts[] = {
        [STATE_NONE] = "none", [STATE_CLOUD] = "cloud", [STATE_EDGE] = "edge"};
    return texts[machine];
}

/* Whose rows the marker names. */
static enum state_machine state_marker(const struct view *view)
{
    char path[LIMIT_LOG_PATH_BYTES + 16];
    char machine[32] = "";
    snprintf(path, sizeof path, "%s/FORMAT", view->state);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return STATE_NONE;
    }
    const int fields = fscanf(file, "kelp-store %*u %31s", machine);
    (void)fclose(file);
    return fields != 1                          ? STATE_NONE
           : strcmp(machine, MACHINE_NAME) == 0 ? STATE_CLOUD
           : strcmp(machine, "edge") == 0       ? STATE_EDGE
                                                : STATE_NONE;
}

void state_open(struct state *state, const struct view *view)
{
    *state = (struct state){.machine = STATE_NONE};
    if (view->state[0] == '\0') {
        snprintf(state->why, sizeof state->why, "there is no state beside %.400s", view->log);
        return;
    }
    const enum state_machine machine = state_marker(view);
    if (machine == STATE_NONE) {
        snprintf(state->why, sizeof state->why, "%.400s is no state that this user can read",
                 view->state);
        return;
    }
    const struct store_options options = {
        .directory = view->state,
        .profile = machine == STATE_CLOUD ? STORE_CLOUD : STORE_EDGE,
        .machine = machine == STATE_CLOUD ? MACHINE_NAME : "edge",
        .format = machine == STATE_CLOUD ? MACHINE_FORMAT : EDGE_FORMAT,
    };
    const int status = store_rocks_open_read(&options, &state->store);
    if (status != STATUS_OK) {
        snprintf(state->why, sizeof state->why, "the state cannot be read: %.400s",
                 store_error(state->store)[0] == '\0' ? status_text(status)
                                                      : store_error(state->store));
        state_close(state);
        return;
    }
    state->machine = machine;
    state->position = store_position(state->store);
}

static uint64_t answer_number(const json_t *object, const char *name)
{
    const json_int_t value = json_integer_value(json_object_get(object, name));
    return value < 0 ? 0 : (uint64_t)value;
}

void state_ask(struct state *state, const struct view *view)
{
    char path[LIMIT_LOG_PATH_BYTES + 32];
    char text[CONTROL_BYTES];
    snprintf(path, sizeof path, "%s/../control", view->state[0] == '\0' ? view->log : view->state);
    const ssize_t size = cli_status_ask(path, text, sizeof text, 1);
    json_t *object = size <= 0 ? NULL : json_loadb(text, (size_t)size, 0, NULL);
    if (json_is_integer(json_object_get(object, "applied"))) { /* a read-only one applies nothing */
        state->running = true;
        state->applied = answer_number(object, "applied");
        state->up_last = answer_number(object, "upLast");
        state->up_acked = answer_number(object, "upAcked");
        state->link_down = json_is_false(json_object_get(object, "linkUp"));
    }
    json_decref(object);
}

/* -- folding ------------------------------------------------------------------------------------- */

struct fold {
    struct machine machine;
    struct edge_machine *edge; /* NULL: of a cloudcore */
    uint64_t reached;
    int status;
};

static int fold_on_frame(void *context, const struct log_frame *frame)
{
    struct fold *fold = context;
    if (fold->edge != NULL) {
        struct edge_applied applied;
        fold->status = edge_machine_apply(fold->edge, frame->index, frame->payload, &applied);
    } else if (frame->type == LOG_TYPE_COMMAND) {
        const struct machine_applied *applied;
        fold->status = machine_apply(&fold->machine, frame->index, frame->payload, &applied);
    }
    if (fold->status == STATUS_OK) {
        fold->reached = frame->index;
    }
    return fold->status != STATUS_OK;
}

static void fold_run(struct fold *fold, struct store *store, bool edge, struct view *view,
                     uint64_t last)
{
    const uint64_t first = fold->reached + 1;
    if (edge) {
        if (edge_machine_open(store, NULL, &fold->edge) == STATUS_OK) {
            (void)view_frames(view, first, last, fold_on_frame, fold);
            edge_machine_close(fold->edge);
        }
        return;
    }
    if (machine_open(&fold->machine, store) == STATUS_OK) {
        (void)view_frames(view, first, last, fold_on_frame, fold);
    }
    machine_close(&fold->machine);
}

/* The newest record that was applied, as far as the view goes; 0: nobody can say. */
static uint64_t fold_last(const struct state *state, const struct view *view, bool edge)
{
    const uint64_t end = view->inspect.index_next - 1;
    if (state->running) {
        return state->applied < end ? state->applied : end;
    }
    return edge ? end : 0; /* what is in the log of a cloudcore need not be committed */
}

void state_fold(struct state *state, struct view *view, bool edge)
{
    const struct inspect *inspect = &view->inspect;
    const bool empty = state->machine == STATE_NONE;
    const uint64_t last = fold_last(state, view, edge);
    CHECK(empty || edge == (state->machine == STATE_EDGE));
    state->current = !empty && last != 0 && state->position >= last;
    if (last <= state->position || inspect->index_first > state->position + 1 ||
        inspect->damage_status != 0) {
        return;
    }

    struct store_sim *sim = NULL;
    struct store *store = state->store;
    if (empty) { /* nothing was ever flushed: all of it is still in the log */
        sim = store_sim_create();
        CHECK(store_sim_open(sim, edge ? "edge" : MACHINE_NAME, edge ? EDGE_FORMAT : MACHINE_FORMAT,
                             &store) == STATUS_OK);
    }
    struct fold fold = {.reached = state->position};
    fold_run(&fold, store, edge, view, last);
    if (empty && fold.reached == 0) {
        store_close(store);
        store_sim_destroy(sim);
        return;
    }
    if (empty) {
        store_close(state->store);
        state->store = store;
        state->machine = edge ? STATE_EDGE : STATE_CLOUD;
        state->folded = sim;
    }
    state->position = fold.reached;
    state->current = fold.reached >= last;
}

void state_close(struct state *state)
{
    store_close(state->store);
    state->store = NULL;
    if (state->folded != NULL) {
        store_sim_destroy(state->folded);
        state->folded = NULL;
    }
    state->machine = STATE_NONE;
}
