/* The wish for one pod, read from its Kubernetes JSON into what a node must do.
 *
 * Foreign shapes end here: this is the only file at the edge that knows the JSON of a pod.
 * Reading has two steps, because the wish comes once and its references may change:
 *
 *      podspec_parse     JSON bytes -> struct pod_spec
 *      podspec_resolve   container + config maps + secrets + pod address -> struct driver_container
 *
 * A field that changes what a pod means and that we do not do is never dropped in silence. It is
 * a note. A note that refuses (a volume we cannot mount) keeps the pod from starting, with the
 * note as its message; a note that does not (a probe we do not run) is shown as an event and in
 * the pod's condition kelp.io/Supported while the pod runs.
 */
#ifndef KELP_NODES_EDGE_PODSPEC_H
#define KELP_NODES_EDGE_PODSPEC_H

#include "nodes/edge/arena.h"
#include "nodes/edge/driver.h"
#include "schemas/bytes.h"

enum pod_restart { POD_RESTART_ALWAYS, POD_RESTART_ON_FAILURE, POD_RESTART_NEVER };
enum pod_pull { POD_PULL_IF_NOT_PRESENT, POD_PULL_ALWAYS, POD_PULL_NEVER };

/* Something of the JSON that we do not do. */
struct pod_note {
    bool refuses;
    const char *text; /* "spec.volumes[0].nfs is not supported" */
};

/* A config map or secret that the pod needs. */
struct pod_reference {
    bool secret; /* else a config map */
    const char *name;
    bool optional;
    bool from_volume; /* else from env: decides the waiting reason, as in Kubernetes */
};

enum pod_volume_kind {
    POD_VOLUME_EMPTY_DIR,
    POD_VOLUME_HOST_PATH,
    POD_VOLUME_CONFIG_MAP,
    POD_VOLUME_SECRET,
    POD_VOLUME_DOWNWARD,
    POD_VOLUME_PROJECTED,
    POD_VOLUME_UNSUPPORTED, /* with a note that refuses */
};

/* One key to one file: of `items`, and of a downwardAPI volume. */
struct pod_volume_item {
    const char *key;  /* of the config map or secret; the field path of downwardAPI */
    const char *path; /* relative, without ".." */
    int32_t mode;     /* -1 for the volume's default */
};

/* Config map, secret or downwardAPI: of a volume of that kind, or one of a projected volume. */
struct pod_volume_source {
    enum pod_volume_kind kind; /* CONFIG_MAP, SECRET or DOWNWARD */
    const char *name;
    bool optional;
    const struct pod_volume_item *items; /* none: every key, under its own name */
    size_t item_count;
};

struct pod_volume {
    const char *name;
    enum pod_volume_kind kind;
    const char *host_path;
    const char *host_type;    /* "" | DirectoryOrCreate | Directory | FileOrCreate | File | Socket
                                  * | CharDevice | BlockDevice */
    bool memory;              /* emptyDir with medium Memory */
    int64_t size_limit_bytes; /* 0 without */
    int32_t default_mode;     /* 0644 when not given */
    const struct pod_volume_source *sources;
    size_t source_count;
};

struct pod_mount {
    const char *volume;
    const char *path;
    const char *sub_path; /* "" without; may hold $(VAR) when sub_path_expands */
    bool sub_path_expands;
    bool read_only;
    char propagation;
};

enum pod_env_kind {
    POD_ENV_VALUE,      /* text, with $(VAR) in it */
    POD_ENV_CONFIG_MAP, /* name, key */
    POD_ENV_SECRET,     /* name, key */
    POD_ENV_FIELD,      /* key is a field path */
    POD_ENV_RESOURCE, /* key is limits.cpu and so on, name is the container or "", text the divisor */
};

struct pod_env {
    const char *variable;
    enum pod_env_kind kind;
    const char *text;
    const char *name;
    const char *key;
    bool optional;
};

struct pod_env_from {
    bool secret;
    const char *name;
    const char *prefix;
    bool optional;
};

struct pod_container {
    const char *name;
    const char *image;
    uint64_t hash; /* of name and image: another hash is another container */
    enum pod_pull pull;
    bool init;
    const char *const *command;
    size_t command_count;
    const char *const *args;
    size_t arg_count;
    const char *working_dir;
    const struct pod_env *env;
    size_t env_count;
    const struct pod_env_from *env_from;
    size_t env_from_count;
    const struct pod_mount *mounts;
    size_t mount_count;
    int64_t cpu_request_milli; /* 0 when not given, as the next three */
    int64_t cpu_limit_milli;
    int64_t memory_request_bytes;
    int64_t memory_limit_bytes;
    bool stdin_open;
    bool stdin_once;
    bool tty;
    struct driver_security security;
};

struct pod_label {
    const char *name;
    const char *value;
};

struct pod_spec {
    struct arena arena; /* owns every pointer below */
    const char *uid;
    const char *namespace;
    const char *name;
    const char *node_name;
    const char *service_account;
    const struct pod_label *labels;
    size_t label_count;
    const struct pod_label *annotations;
    size_t annotation_count;
    struct pod_container *containers; /* init containers first, in order */
    size_t init_count;
    size_t container_count; /* init containers included */
    struct pod_volume *volumes;
    size_t volume_count;
    struct pod_reference *references;
    size_t reference_count;
    struct pod_note *notes;
    size_t note_count;
    struct driver_port *ports; /* those with a hostPort */
    size_t port_count;
    enum pod_restart restart;
    int64_t grace_seconds;
    int64_t active_deadline_seconds; /* 0 without */
    const char *hostname;            /* never "" */
    bool host_network;
    bool host_pid;
    bool host_ipc;
    bool share_pid;
    struct driver_number fs_group;
    const struct driver_pair *sysctls;
    size_t sysctl_count;
    char dns_policy; /* 'C' ClusterFirst, 'D' Default, 'N' None, 'H' ClusterFirstWithHostNet */
    const char *const *dns_servers;
    size_t dns_server_count;
    const char *const *dns_searches;
    size_t dns_search_count;
    const char *const *dns_options;
    size_t dns_option_count;
    const struct driver_pair *host_aliases; /* name = ip, value = host names separated by spaces */
    size_t host_alias_count;
    struct driver_security security; /* of the sandbox */
};

/* Read a pod.
 *
 *   json       borrowed during the call
 *   out        initialised by this call; on 0 given: hand it to podspec_deinit
 *   error      a sentence with the field, of at most error_bytes, on failure
 *   answers    0; STATUS_MALFORMED: not a pod we can read; STATUS_TOO_LARGE: more than
 *              LIMIT_POD_CONTAINERS containers, LIMIT_POD_VOLUMES volumes or LIMIT_POD_ENV variables
 */
int podspec_parse(struct bytes json, struct pod_spec *out, char *error, size_t error_bytes);
void podspec_deinit(struct pod_spec *spec);

/* The first note that keeps this pod from starting, or NULL. */
const struct pod_note *podspec_refusal(const struct pod_spec *spec);

/* Where resolving finds what a pod refers to. */
struct pod_lookup {
    /* The JSON of a config map or secret in the state, lent until the next call into the state.
     * Answers 0, or -ENOENT. */
    int (*find)(void *context, bool secret, const char *namespace, const char *name,
                struct bytes *out_json);
    void *context;
};

/* What is only known when the pod runs. */
struct pod_facts {
    const char *pod_ip; /* "" before the sandbox is there */
    const char *host_ip;
    const char *node_name;
    const char *root;       /* of volumes and logs, see volumes.h */
    int64_t node_cpu_milli; /* what limits.cpu without a limit means */
    int64_t node_memory_bytes;
};

/* The first object that a volume needs and that is not there, or NULL: then the files can be written.
 * What an environment needs is told by podspec_resolve, for the one container that cannot start. */
const struct pod_reference *podspec_missing(const struct pod_spec *spec,
                                            const struct pod_lookup *lookup);

/* Everything CreateContainer needs: environment, mounts, resources.
 *
 * Environment in the order of Kubernetes: envFrom in order, then env; a later name replaces an
 * earlier one; $(NAME) is expanded from names before it, $$(NAME) is an escape, an unknown name
 * stays as it is. The same expansion is applied to command and args.
 *
 *   index    of spec->containers
 *   attempt  the number of this start
 *   arena    owns what `out` points to, besides spec
 *   answers  0; STATUS_MALFORMED with `error`: a key that is missing, a field path we do not know
 */
int podspec_resolve(const struct pod_spec *spec, size_t index, uint32_t attempt,
                    const struct pod_lookup *lookup, const struct pod_facts *facts,
                    struct arena *arena, struct driver_container *out, char *error,
                    size_t error_bytes);

/* The sandbox of this pod.
 *
 *   cgroup_root  "/kelp"; the parent is <cgroup_root>/pod<uid>
 */
void podspec_sandbox(const struct pod_spec *spec, uint32_t attempt, const struct pod_facts *facts,
                     const char *cgroup_root, struct arena *arena, struct driver_sandbox *out);

/* The text behind a downward field path ("metadata.labels['a']", "status.podIP"), in `arena`;
 * NULL for a path we do not know. "metadata.labels" and "metadata.annotations" are the lines of a
 * downwardAPI file: key="escaped value". */
const char *podspec_field(const struct pod_spec *spec, const char *path,
                          const struct pod_facts *facts, struct arena *arena);

#endif
