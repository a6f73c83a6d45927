#include "replication/raft_status.h"

#include "schemas/status.h"

#include <raft.h>

int raft_status_of(int result)
{
    switch (result) {
    case 0:
        return STATUS_OK;
    case RAFT_NOTLEADER:
        return STATUS_NOT_LEADER;
    case RAFT_LEADERSHIPLOST:
    case RAFT_CANCELED:
        return STATUS_UNKNOWN;
    case RAFT_SHUTDOWN:
        return STATUS_CLOSING;
    case RAFT_CORRUPT:
        return STATUS_CORRUPT;
    case RAFT_MALFORMED:
        return STATUS_MALFORMED;
    case RAFT_TOOBIG:
        return STATUS_TOO_LARGE;
    case RAFT_NOSPACE:
        return -ENOSPC;
    case RAFT_NOMEM:
        return -ENOMEM;
    case RAFT_NOCONNECTION:
        return STATUS_TIMEOUT;
    case RAFT_BUSY:
    case RAFT_TOOMANY:
    case RAFT_CANTCHANGE:
        return STATUS_FULL;
    case RAFT_NOTFOUND:
    case RAFT_BADID:
        return -ENOENT;
    case RAFT_DUPLICATEID:
    case RAFT_DUPLICATEADDRESS:
        return -EEXIST;
    case RAFT_BADROLE:
    case RAFT_INVALID:
        return -EINVAL;
    default:
        return -EIO;
    }
}

int raft_result_of(int status)
{
    switch (status) {
    case STATUS_OK:
        return 0;
    case STATUS_CORRUPT:
    case STATUS_MALFORMED:
    case STATUS_FOREIGN:
        return RAFT_CORRUPT;
    case STATUS_TOO_LARGE:
        return RAFT_TOOBIG;
    case STATUS_FULL:
        return RAFT_BUSY;
    case -ENOSPC:
        return RAFT_NOSPACE;
    case -ENOMEM:
        return RAFT_NOMEM;
    default:
        return RAFT_IOERR;
    }
}
