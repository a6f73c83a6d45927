#include "nodes/readonly.h"

#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nodes/control.h"
#include "nodes/logger.h"
#include "schemas/check.h"
#include "schemas/status.h"

bool readonly_find(struct readonly *readonly)
{
    const struct fault *fault = &readonly->fault;
    if (fault_read(readonly->data, &readonly->fault) != 0) {
        return false;
    }
    snprintf(readonly->reason, sizeof readonly->reason,
             "read-only since an I/O error%s%s: %s: %s (%s). Mend the disk, run `kelp resolve "
             "--yes %s`, "
             "then restart %s",
             fault->time[0] == 0 ? "" : " at ", fault->time, fault->operation, fault->error,
             fault->path, readonly->data, readonly->program);
    return true;
}

static size_t readonly_on_report(void *owner, char *buffer, size_t size)
{
    const struct readonly *readonly = owner;
    const struct fault *fault = &readonly->fault;
    char resolve[1100];
    snprintf(resolve, sizeof resolve, "kelp resolve --yes %s", readonly->data);
    json_t *report =
        json_pack("{s:s,s:s,s:s,s:b,s:s,s:s,s:s,s:s,s:s,s:s}", "program", readonly->program,
                  "version", KELP_VERSION, "name", readonly->name, "readonly", 1, "reason",
                  readonly->reason, "failed", fault->time, "operation", fault->operation, "path",
                  fault->path, "error", fault->error, "resolve", resolve);
    char *text = report == NULL ? NULL : json_dumps(report, JSON_COMPACT);
    json_decref(report);
    /* A note that is no UTF-8 is no reason to say nothing. */
    const int written = snprintf(buffer, size, "%s\n", text != NULL ? text : "{\"readonly\":true}");
    free(text);
    return written < 0 ? 0 : (size_t)written < size ? (size_t)written : size - 1;
}

static void readonly_on_signal(uv_signal_t *handle, int number)
{
    logger_info("readonly_left", "signal=%d", number);
    uv_stop(handle->loop);
}

int readonly_run(struct readonly *readonly)
{
    logger_error("started_readonly", "program=%s name=%s data=%s reason=%s", readonly->program,
                 readonly->name, readonly->data, readonly->reason);
    static uv_signal_t signals[2]; /* on the loop until the process ends */
    static const int numbers[] = {SIGTERM, SIGINT};
    for (size_t i = 0; i < 2; i++) {
        CHECK(uv_signal_init(readonly->loop, &signals[i]) == 0);
        CHECK(uv_signal_start(&signals[i], readonly_on_signal, numbers[i]) == 0);
    }
    char path[1100];
    snprintf(path, sizeof path, "%s/control", readonly->data);
    static struct control control;
    const char *socket = readonly->control[0] == 0 ? path : readonly->control;
    const int status = control_open(&control, readonly->loop, socket, readonly_on_report, readonly);
    if (status != 0) {
        logger_warn("control_not_opened", "path=%s reason=%s", socket, status_text(status));
    }
    uv_run(readonly->loop, UV_RUN_DEFAULT);
    if (status == 0) {
        control_close(&control, NULL);
    }
    return 0;
}
