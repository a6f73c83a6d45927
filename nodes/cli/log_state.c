#include "nodes/cli/log_state.h"

#include "nodes/cli/status.h"
#include "nodes/control.h"
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
    if (json_is_object(object)) {
        state->running = true;
        state->applied = answer_number(object, "applied");
        state->up_last = answer_number(object, "upLast");
        state->up_acked = answer_number(object, "upAcked");
    }
    json_decref(object);
}

void state_close(struct state *state)
{
    store_close(state->store);
    state->store = NULL;
    state->machine = STATE_NONE;
}
