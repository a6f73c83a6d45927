/* Kelp's words into protobuf's: a closet of driver_cri.c, included by nobody else. */
#ifndef KELP_NODES_EDGE_DRIVER_WORDS_CRI_H
#define KELP_NODES_EDGE_DRIVER_WORDS_CRI_H

#include "nodes/edge/arena.h"
#include "nodes/edge/cri.pb-c.h"
#include "nodes/edge/driver.h"

typedef Runtime__V1__Pair cri_pair; /* the one foreign name that is written often */

/* protobuf-c's structs have no const; nothing in packing writes through them. */
static inline char *cri_text(const char *text)
{
    return (char *)(uintptr_t)(text == NULL ? "" : text);
}

static inline char **cri_texts(const char *const *texts)
{
    return (char **)(uintptr_t)texts;
}

#define CRI_NEW(arena, type, init)                                                                 \
    ((type *)memcpy(arena_claim(arena, 1, sizeof(type)), &(const type)init, sizeof(type)))

/* The configuration of a sandbox or a container with its labels. In `arena`, and pointing into what
 * was given: good for as long as both. */
Runtime__V1__PodSandboxConfig *cri_sandbox(struct arena *arena, const char *node_name,
                                           const struct driver_sandbox *sandbox);
Runtime__V1__ContainerConfig *cri_container(struct arena *arena, const char *node_name,
                                            const struct driver_sandbox *sandbox,
                                            const struct driver_container *container);

#endif
