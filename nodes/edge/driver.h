/* The door to the container runtime, in Kelp's words.
 *
 * One verb in, one answer out. Who drives pods (pods.c) does not know whether the other side is
 * containerd over CRI (driver_cri.c), kelp-fake-cri, or the simulator's runtime
 * (tests/sim/runtime_sim.c). No type of protobuf or gRPC passes this door.
 *
 * What is "ours" is told by labels, never by memory: every sandbox and container carries
 *
 *      io.kubernetes.pod.name, .pod.namespace, .pod.uid   (as a kubelet sets them)
 *      io.kubernetes.container.name                        (containers)
 *      kelp.io/node       the node's name: another agent on the same runtime is not touched
 *      kelp.io/attempt    the attempt number, decimal
 *      kelp.io/hash       what of the container's wish makes it another container (its image)
 *
 * and its name in the runtime is a function of (pod uid, container, attempt), so that creating it
 * twice is refused by the runtime itself.
 *
 * A call whose answer is negative may have happened: list before trying again. A positive answer
 * is the runtime's own no.
 */
#ifndef KELP_NODES_EDGE_DRIVER_H
#define KELP_NODES_EDGE_DRIVER_H

#include "schemas/bytes.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DRIVER_LABEL_POD_NAME       "io.kubernetes.pod.name"
#define DRIVER_LABEL_POD_NAMESPACE  "io.kubernetes.pod.namespace"
#define DRIVER_LABEL_POD_UID        "io.kubernetes.pod.uid"
#define DRIVER_LABEL_CONTAINER_NAME "io.kubernetes.container.name"
#define DRIVER_LABEL_NODE           "kelp.io/node"
#define DRIVER_LABEL_ATTEMPT        "kelp.io/attempt"
#define DRIVER_LABEL_HASH           "kelp.io/hash"

enum driver_verb {
    DRIVER_VERSION,          /* who is there: answer.version */
    DRIVER_STATUS,           /* is it ready to run pods: answer.runtime */
    DRIVER_LIST,             /* everything of ours, complete, exit codes and addresses included */
    DRIVER_IMAGE_STATUS,     /* image -> answer.image_ref, or DRIVER_NOT_FOUND */
    DRIVER_IMAGE_PULL,       /* image -> answer.image_ref */
    DRIVER_SANDBOX_RUN,      /* sandbox -> answer.id */
    DRIVER_SANDBOX_STOP,     /* id; every process in it ends. A sandbox that is gone is a yes. */
    DRIVER_SANDBOX_REMOVE,   /* id; removes its containers too. Gone is a yes. */
    DRIVER_CONTAINER_CREATE, /* id of the sandbox, sandbox, container -> answer.id */
    DRIVER_CONTAINER_START,  /* id */
    DRIVER_CONTAINER_STOP,   /* id, grace_seconds; answered when it ended. Gone is a yes. */
    DRIVER_CONTAINER_REMOVE, /* id. Gone is a yes. */
    DRIVER_EXEC,             /* id, command, timeout_seconds -> answer.exec: probes and tests */
};

/* Positive statuses of an answer. */
enum driver_answer_status {
    DRIVER_NOT_FOUND = 1, /* the id or image is not known to the runtime */
    DRIVER_REFUSED = 2,   /* the runtime says no; message says why */
};

struct driver_pair {
    const char *name;
    const char *value;
};

struct driver_port {
    uint16_t container_port;
    uint16_t host_port;
    char protocol;       /* 'T' TCP, 'U' UDP, 'S' SCTP */
    const char *host_ip; /* "" for all */
};

struct driver_mount {
    const char *container_path;
    const char *host_path;
    bool read_only;
    char propagation; /* 'P' private, 'H' host to container, 'B' bidirectional */
};

/* Optional numbers of a security context: `set` tells whether the value means anything. */
struct driver_number {
    bool set;
    int64_t value;
};

struct driver_security {
    struct driver_number run_as_user;
    struct driver_number run_as_group;
    const int64_t *groups; /* supplemental groups and fsGroup */
    size_t group_count;
    bool privileged;
    bool read_only_root;
    bool no_new_privileges;
    char seccomp; /* 'U' unconfined, 'R' runtime default, 'L' localhost, 0 unset */
    const char *seccomp_path;
    const char *const *capabilities_add;
    size_t capability_add_count;
    const char *const *capabilities_drop;
    size_t capability_drop_count;
};

/* What the sandbox of a pod is made of. All pointers are borrowed during the call. */
struct driver_sandbox {
    const char *pod_name;
    const char *pod_namespace;
    const char *pod_uid;
    uint32_t attempt;
    const char *hostname;      /* "" for the node's own (host network) */
    const char *log_directory; /* absolute; exists */
    const char *cgroup_parent; /* absolute path in the cgroup hierarchy; "" for the runtime's own */
    const char *const *dns_servers;
    size_t dns_server_count;
    const char *const *dns_searches;
    size_t dns_search_count;
    const char *const *dns_options;
    size_t dns_option_count;
    const struct driver_port *ports;
    size_t port_count;
    const struct driver_pair *sysctls;
    size_t sysctl_count;
    bool host_network;
    bool host_pid;
    bool host_ipc;
    bool share_pid; /* shareProcessNamespace */
    struct driver_security security;
};

/* What a container is made of. All pointers are borrowed during the call. */
struct driver_container {
    const char *name;
    uint32_t attempt;
    const char *hash;
    const char *image;
    const char *const *command; /* overrides the entry point of the image; may be empty */
    size_t command_count;
    const char *const *args;
    size_t arg_count;
    const char *working_dir; /* "" for the image's */
    const struct driver_pair *env;
    size_t env_count;
    const struct driver_mount *mounts;
    size_t mount_count;
    const char *log_path; /* relative to the sandbox's log_directory */
    int64_t cpu_shares;   /* 0 for the runtime's default, as the next three */
    int64_t cpu_period_us;
    int64_t cpu_quota_us;
    int64_t memory_limit_bytes;
    int64_t oom_score_adj;
    bool stdin_open;
    bool stdin_once;
    bool tty;
    struct driver_security security;
};

/* One request. Only the fields the verb names are read; all are borrowed during driver->call. */
struct driver_call {
    enum driver_verb verb;
    const char *id;    /* sandbox id or container id, as the verb says */
    const char *image; /* DRIVER_IMAGE_* */
    const struct driver_sandbox *sandbox;
    const struct driver_container *container;
    int64_t grace_seconds;
    int64_t timeout_seconds;
    const char *const *command;
    size_t command_count;
};

enum driver_container_state {
    DRIVER_CONTAINER_CREATED,
    DRIVER_CONTAINER_RUNNING,
    DRIVER_CONTAINER_EXITED,
    DRIVER_CONTAINER_UNKNOWN,
};

/* A sandbox of ours as the runtime holds it. */
struct driver_sandbox_seen {
    const char *id;
    const char *pod_name;
    const char *pod_namespace;
    const char *pod_uid;
    uint32_t attempt;
    bool ready;
    int64_t created_ms; /* since 1970 */
    const char *ip;     /* "" while not ready, and on the host's network */
};

/* A container of ours as the runtime holds it. */
struct driver_container_seen {
    const char *id;
    const char *sandbox_id;
    const char *pod_name;
    const char *pod_namespace;
    const char *pod_uid;
    const char *name;
    uint32_t attempt;
    const char *hash;
    const char *image;     /* as it was asked for */
    const char *image_ref; /* what the runtime resolved it to */
    enum driver_container_state state;
    int64_t created_ms; /* since 1970; 0 when it has not happened, as the next two */
    int64_t started_ms;
    int64_t finished_ms;
    int32_t exit_code;  /* EXITED only, as the next two */
    const char *reason; /* Completed, Error, OOMKilled, StartError, Unknown ... */
    const char *message;
};

struct driver_list {
    const struct driver_sandbox_seen *sandboxes;
    size_t sandbox_count;
    const struct driver_container_seen *containers;
    size_t container_count;
};

struct driver_version {
    const char *runtime_name; /* "containerd", or "kelp-fake" */
    const char *runtime_version;
};

struct driver_runtime {
    bool runtime_ready;
    bool network_ready;
    const char *message; /* why not, or "" */
};

struct driver_exec {
    int32_t exit_code;
    struct bytes out;
    struct bytes err;
};

/* What came of a call. Everything in it is lent until the answer function returns. */
struct driver_answer {
    enum driver_verb verb;
    /* 0; an enum driver_answer_status; STATUS_TIMEOUT; STATUS_UNKNOWN (it was sent, and the
     * connection died before an answer); STATUS_MALFORMED; STATUS_TOO_LARGE; STATUS_CLOSING;
     * or a negative errno when the runtime could not be reached, so nothing happened. */
    int status;
    const char *message; /* an English sentence for a status other than 0, else "" */
    const char *id;
    const char *image_ref;
    struct driver_list list;
    struct driver_version version;
    struct driver_runtime runtime;
    struct driver_exec exec;
};

struct driver {
    /* Begin one call.
     *
     *   id        the caller's number for it; returned with the answer
     *   call      borrowed during this call
     *   returns   0: on_answer will be called exactly once, later, never from inside;
     *             STATUS_FULL: LIMIT_DRIVER_CALLS are under way; STATUS_TOO_LARGE; STATUS_CLOSING:
     *             nothing happened and nothing will
     */
    int (*call)(struct driver *driver, uint64_t id, const struct driver_call *call);

    /* Set by the owner before the first call. */
    void (*on_answer)(void *owner, uint64_t id, const struct driver_answer *answer);
    void *owner;
};

/* The deadline of a call in ms: status 5 s, run and create and pull 120 s, stop its grace + 30 s,
 * exec 5 s above its own time-out. Shared by all implementations. */
uint64_t driver_deadline_ms(const struct driver_call *call);

/* "RunPodSandbox" and so on, for messages and logs. Lent for ever. */
const char *driver_verb_text(enum driver_verb verb);

#endif
