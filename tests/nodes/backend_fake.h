/* A backend for tests: the real state machine over the simulated store, with an agreement that always
 * agrees, later. Time and chance are the test's. */
#ifndef KELP_TESTS_NODES_BACKEND_FAKE_H
#define KELP_TESTS_NODES_BACKEND_FAKE_H

#include "nodes/cloud/backend.h"

struct backend_fake;

/* With the namespaces default, kube-system, kube-public and kube-node-lease. */
struct backend_fake *backend_fake_create(void);
void backend_fake_destroy(struct backend_fake *fake);
const struct backend *backend_fake_backend(struct backend_fake *fake);

/* Carry out what was asked and call back; answers whether there was something. */
bool backend_fake_run(struct backend_fake *fake);

/* Propose records at once, as one command; CHECKs that each is accepted. */
void backend_fake_propose(struct backend_fake *fake, const struct bytes *records, uint32_t count);
/* Who asked for the newest write, as its record says; "" when nobody did, or nothing was written. */
const char *backend_fake_user(const struct backend_fake *fake);
/* A fact of a node, through a session and an upward batch; body as built. */
void backend_fake_report(struct backend_fake *fake, const char *node, uint16_t kind,
                         const char *key, struct bytes body);

/* From now on: no leader; every clock reading. */
void backend_fake_set_leader(struct backend_fake *fake, bool there);
void backend_fake_set_now_ms(struct backend_fake *fake, int64_t now_ms);
/* As if this feature level were in force; 0: the newest, as at first. */
void backend_fake_set_level(struct backend_fake *fake, uint32_t level);
int64_t backend_fake_now_ms(const struct backend_fake *fake);
/* Called just before the n-th next write is applied, to be faster than it. */
void backend_fake_before_write(struct backend_fake *fake, void (*hook)(void *context),
                               void *context);

#endif
