/* The files of a pod on the node: volumes, hosts file, log directories.
 *
 *      <root>/pods/<uid>/                                     0700
 *      <root>/pods/<uid>/etc-hosts
 *      <root>/pods/<uid>/volumes/<kind>/<volume>/             kind: empty-dir, config-map, secret,
 *                                                             downward-api, projected
 *      <root>/logs/<namespace>_<name>_<uid>/<container>/<attempt>.log
 *
 * Files that come from objects are written as the kubelet does: into a fresh directory
 * ..<time>.<n>, to which the symlink ..data is then renamed in one step, and the visible names are
 * symlinks through ..data. A reader in a running container sees the old set or the new one, never
 * a mixture, and a crash leaves one of both. Nothing is synced: after a power loss the volume is
 * written again from the state before the pod's containers start.
 *
 * Planning is separate from writing. volumes_plan runs on the loop and copies what it needs out of
 * the state; volumes_write and volumes_remove touch nothing but their arguments and the disk, and
 * belong into the loop's thread pool (volumes_uv.h does that): one config map is at most 1.5 MiB,
 * but a disk that is being flushed can hold any single write for seconds.
 */
#ifndef KELP_NODES_EDGE_VOLUMES_H
#define KELP_NODES_EDGE_VOLUMES_H

#include "nodes/edge/podspec.h"

/* One file to write: a relative path below its volume and what is in it. */
struct volume_file {
    const char *path;
    struct bytes content;
    uint32_t mode;
};

struct volume_step {
    const struct pod_volume *volume;
    const char *directory; /* absolute; of HOST_PATH: the path itself */
    struct volume_file *files;
    size_t file_count;
};

/* What has to be on disk for one pod. Owns everything it points to. */
struct volume_plan {
    struct arena arena;
    const char *pod_directory;
    const char *log_directory;
    const char *hosts; /* content of etc-hosts; NULL to leave it alone (host network) */
    struct volume_step *steps;
    size_t step_count;
    const char *const *containers; /* names, for log directories */
    size_t container_count;
    int64_t group; /* fsGroup, -1 without */
};

/* Decide what has to be written.
 *
 *   spec     borrowed during the call: the wish may be replaced while a thread writes
 *   out      on 0 given: hand it to volume_plan_deinit
 *   error    a sentence on failure
 *   answers  0; -ENOENT: something that is not optional is missing; STATUS_MALFORMED: a config map
 *            that cannot be read, a path that leaves the volume
 */
int volumes_plan(const struct pod_spec *spec, const struct pod_lookup *lookup,
                 const struct pod_facts *facts, struct volume_plan *out, char *error,
                 size_t error_bytes);
void volume_plan_deinit(struct volume_plan *plan);

/* Make the disk hold it. Safe to repeat; what is already right is not touched, so that readers
 * who watch the symlink see only real changes.
 *
 *   answers  0; a negative errno with `error` naming the path
 */
int volumes_write(const struct volume_plan *plan, char *error, size_t error_bytes);

/* Remove everything of a pod: <root>/pods/<uid> with what is mounted below it, and its logs, and
 * its empty cgroup directories <cgroup_root>/pod<uid> in every hierarchy. What is already gone is
 * gone; a symlink is removed, never followed.
 *
 *   cgroup_root  "" to leave cgroups alone
 *   answers      0; a negative errno with `error` naming the path: try again later
 */
int volumes_remove(const char *root, const char *cgroup_root, const char *namespace,
                   const char *name, const char *uid, char *error, size_t error_bytes);

/* Remove the log of one attempt of a container, and its rotated companions. */
int volumes_remove_log(const char *root, const char *namespace, const char *name, const char *uid,
                       const char *container, uint32_t attempt);

/* Where a container finds a volume: the host path for its mount, in `arena`. */
const char *volumes_path(const char *root, const char *uid, const struct pod_volume *volume,
                         struct arena *arena);
const char *volumes_hosts_path(const char *root, const char *uid, struct arena *arena);
const char *volumes_log_directory(const char *root, const char *namespace, const char *name,
                                  const char *uid, struct arena *arena);

#endif
