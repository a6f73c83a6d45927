/* The end of a namespace: its content is deleted, as users delete, and then it goes itself.
 *
 * A namespace that is marked as deleted refuses new objects (the state sees to that), so what it holds only
 * becomes less. The controller runs on the leader. It acts through the API door, so pods end with their
 * grace period at their edges and finalizers are respected:
 *
 *   step: for each Terminating namespace
 *           a resource has objects that are not marked  ->  DELETE its collection
 *           nothing is left                             ->  empty spec.finalizers; the state removes it
 *
 * One call of its own is under way at a time. Nothing is remembered between steps, so a new leader goes on
 * where the old one stopped.
 */
#ifndef KELP_NODES_CLOUD_NAMESPACES_H
#define KELP_NODES_CLOUD_NAMESPACES_H

#include "nodes/cloud/api.h"

struct namespaces;

/* api, backend: borrowed until namespaces_close. */
struct namespaces *namespaces_open(struct api *api, const struct backend *backend);
/* Only once namespaces_busy says no: what is under way calls back. */
void namespaces_close(struct namespaces *namespaces);
bool namespaces_busy(const struct namespaces *namespaces);

/* Do what is due; about once a second. Nothing unless this replica leads. */
void namespaces_step(struct namespaces *namespaces);

#endif
