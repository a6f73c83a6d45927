/* What the tests of nodes/net share: a directory of certificates made once, and a loop with a deadline.
 */
#ifndef KELP_TESTS_NODES_NET_SUPPORT_H
#define KELP_TESTS_NODES_NET_SUPPORT_H

#include "nodes/net/identity_tls.h"
#include "nodes/net/link_tls.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka wants the ones above first */
#include <cmocka.h>

/* Create, in a fresh directory under /tmp: ca and foreign (two authorities); and signed by ca: server
 * (127.0.0.1, localhost), second (the same for cloudcore-2), elsewhere (server for another.example), edge (system:node:edge-1), admin, expired (a
 * client), server_only (no clientAuth); signed by foreign: stranger. Group set-up and tear-down. */
int support_set_up(void **state);
int support_tear_down(void **state);

/* What to ask of an authority for a certificate of one day, for a client, and for a server too if `server`. All lent. */
struct identity_request support_request(const char *common_name, const char *const *group,
                                        const char *const *sans, size_t sans_count, bool server);

/* Path of a file in that directory; good until sixteen more were asked for. */
const char *support_path(const char *name);

/* A context from NAME.crt, NAME.key and ca.crt of the authority; name NULL: no certificate. */
struct link_context *support_context(enum link_role role, const char *name, const char *authority);

/* A port of 127.0.0.1 that nobody listens at. */
uint16_t support_free_port(void);

/* Run the loop until *done, or fail the test after a minute: that is against hanging, not a slow machine. */
void support_run(uv_loop_t *loop, const bool *done);

/* Run the loop until all its handles are closed, and close it: nothing may be left. */
void support_finish(uv_loop_t *loop);

#endif
