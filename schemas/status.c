#include "schemas/status.h"

#include <string.h>

const char *status_text(int status)
{
    switch (status) {
    case STATUS_OK:
        return "success";
    case STATUS_CORRUPT:
        return "the bytes are damaged";
    case STATUS_TOO_LARGE:
        return "larger than the limit";
    case STATUS_MALFORMED:
        return "malformed bytes";
    case STATUS_FOREIGN:
        return "belongs to another node, cluster or format version";
    case STATUS_NOT_LEADER:
        return "this replica is not the leader";
    case STATUS_UNKNOWN:
        return "the outcome is unknown";
    case STATUS_CLOSING:
        return "shutting down";
    case STATUS_FULL:
        return "a queue is full, try again later";
    case STATUS_TIMEOUT:
        return "timed out";
    case STATUS_UNSUPPORTED:
        return "not supported";
    case STATUS_IDENTITY:
        return "the certificate is missing, foreign, expired or names someone else";
    case STATUS_LOCKED:
        return "another process owns this directory";
    case STATUS_BEHIND:
        return "this replica is being given a newer state";
    case -4095:
        return "end of file";
    default:
        return status < 0 && status > -4000 ? strerror(-status) : "unknown status";
    }
}

bool status_is_fault(int status)
{
    switch (-status) {
    case ENOSPC:
    case EDQUOT:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
    case EAGAIN:
    case EINTR:
    case ECANCELED:
    case EACCES:
    case EPERM:
    case ENOENT:
    case EEXIST:
    case ENAMETOOLONG:
        return false;
    default:
        return status == STATUS_CORRUPT || (status < 0 && status > -4000);
    }
}
