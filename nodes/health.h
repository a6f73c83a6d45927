/* Answers to probes: a list of named checks, in the words and forms of Kubernetes' /livez and /readyz.
 *
 *      GET /readyz                 ok                              all hold: 200
 *      GET /readyz?verbose         [+]leader ok ...                each by its name
 *      GET /readyz                 [-]leader failed: no leader ... one does not: 503, each by its name
 *      GET /readyz/leader          one of them alone
 *      GET /readyz?exclude=leader  all but one
 *
 * /livez and its old name /healthz ask whether this process should be started again, /readyz whether clients
 * should be sent here.
 */
#ifndef KELP_NODES_HEALTH_H
#define KELP_NODES_HEALTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HEALTH_CHECKS       16u
#define HEALTH_REASON_BYTES 160u
/* Of an answer: each check is a line. */
#define HEALTH_ANSWER_BYTES 4096u

struct health_check {
    const char *name; /* lent for ever */
    bool ok;
    char reason[HEALTH_REASON_BYTES]; /* of a failure */
};

struct health {
    struct health_check checks[HEALTH_CHECKS];
    uint32_t count;
};

/* Add the outcome of a check.
 *   format   why it failed, for people; not looked at when ok */
__attribute__((format(printf, 4, 5))) void health_add(struct health *health, const char *name,
                                                      bool ok, const char *format, ...);
/* Whether all of them hold. */
bool health_ok(const struct health *health);

/* Write the body of an answer.
 *
 *   which     "livez", "readyz", "healthz"
 *   only      name of the one check that is asked for; "": all
 *   exclude   name of a check to leave out; "": none
 *   buffer    HEALTH_ANSWER_BYTES bytes; receives a terminated text
 *   answers   the HTTP status: 200; 503; 404: there is no check of that name */
uint32_t health_answer(const struct health *health, const char *which, const char *only,
                       const char *exclude, bool verbose, char *buffer);

#endif
