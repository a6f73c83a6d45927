/* Speaking to the API door from a test: a request in one line, the answer as text and as JSON. */
#ifndef KELP_TESTS_NODES_API_SUPPORT_H
#define KELP_TESTS_NODES_API_SUPPORT_H

#include "nodes/cloud/api.h"
#include "nodes/cloud/api_json.h"
#include "tests/nodes/backend_fake.h"

struct rig {
    struct backend_fake *fake;
    struct api *api;
    const char *accept;       /* NULL: none is sent */
    const char *content_type; /* NULL: none is sent */
    const char *user;         /* of the certificate; NULL: tester */
    const char *group;        /* of the certificate; NULL: no certificate */
};

void rig_open(struct rig *rig);
void rig_close(struct rig *rig);

/* The answer of one request. Zeroed by rig_ask, released by answer_release. A stream fills `body` with
 * everything that was sent. */
struct answer {
    uint32_t status; /* 0: not yet */
    bool stream;
    bool ended;
    bool whole;
    struct text headers; /* "Name: value\n" */
    struct text body;
    json_t *json; /* of a whole answer, when it is JSON */
    uint32_t room; /* chunks the client still takes; UINT32_MAX: all */
    struct api_call *call;
    char type[128];
};
void answer_release(struct answer *answer);

/* Ask, and run nothing. */
void rig_start(struct rig *rig, struct answer *out, const char *method, const char *target,
               struct bytes body);
/* Ask, and run the backend until a whole answer is there or a stream waits. target with its query. */
void rig_ask(struct rig *rig, struct answer *out, const char *method, const char *target,
             const char *body);
void rig_ask_bytes(struct rig *rig, struct answer *out, const char *method, const char *target,
                   struct bytes body);
/* Ask, expect this status, answer a JSON value to be released (NULL when the body is none). */
json_t *rig_expect(struct rig *rig, uint32_t status, const char *method, const char *target,
                   const char *body);
/* Let the backend work and the watches hear of it. */
void rig_run(struct rig *rig);

#endif
