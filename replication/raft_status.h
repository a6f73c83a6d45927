/* libraft's positive results and our statuses. */
#ifndef KELP_REPLICATION_RAFT_STATUS_H
#define KELP_REPLICATION_RAFT_STATUS_H

/* What a result of libraft means; -EIO for those that mean nothing to us. */
int raft_status_of(int result);
/* What to tell libraft about a status. */
int raft_result_of(int status);

#endif
