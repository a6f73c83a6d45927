#include "nodes/edge/driver.h"

#include "schemas/check.h"

#include <stdlib.h>

uint64_t driver_deadline_ms(const struct driver_call *call)
{
    const uint64_t grace_ms = call->grace_seconds > 0 ? (uint64_t)call->grace_seconds * 1000 : 0;
    const uint64_t timeout_ms =
        call->timeout_seconds > 0 ? (uint64_t)call->timeout_seconds * 1000 : 0;
    switch (call->verb) {
    case DRIVER_VERSION:
    case DRIVER_STATUS:
    case DRIVER_LIST:
    case DRIVER_IMAGE_STATUS:
        return 5000;
    case DRIVER_IMAGE_PULL:
    case DRIVER_SANDBOX_RUN:
    case DRIVER_CONTAINER_CREATE:
    case DRIVER_CONTAINER_START:
        return 120000;
    case DRIVER_SANDBOX_STOP:
    case DRIVER_SANDBOX_REMOVE:
    case DRIVER_CONTAINER_REMOVE:
        return 30000;
    case DRIVER_CONTAINER_STOP:
        return grace_ms + 30000;
    case DRIVER_EXEC:
        return timeout_ms + 5000;
    }
    abort();
}

const char *driver_verb_text(enum driver_verb verb)
{
    switch (verb) {
    case DRIVER_VERSION:
        return "Version";
    case DRIVER_STATUS:
        return "Status";
    case DRIVER_LIST:
        return "List";
    case DRIVER_IMAGE_STATUS:
        return "ImageStatus";
    case DRIVER_IMAGE_PULL:
        return "PullImage";
    case DRIVER_SANDBOX_RUN:
        return "RunPodSandbox";
    case DRIVER_SANDBOX_STOP:
        return "StopPodSandbox";
    case DRIVER_SANDBOX_REMOVE:
        return "RemovePodSandbox";
    case DRIVER_CONTAINER_CREATE:
        return "CreateContainer";
    case DRIVER_CONTAINER_START:
        return "StartContainer";
    case DRIVER_CONTAINER_STOP:
        return "StopContainer";
    case DRIVER_CONTAINER_REMOVE:
        return "RemoveContainer";
    case DRIVER_EXEC:
        return "ExecSync";
    }
    abort();
}
