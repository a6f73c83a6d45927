/* The journey of an object, while it is put together. Shared by the closets of log_why only:
 *
 *      log_why.c         what was recorded, what the state says, output; pods and all other objects
 *      log_why_device.c  devices
 *      log_why_end.c     who deleted it
 */
#ifndef KELP_NODES_CLI_LOG_JOURNEY_H
#define KELP_NODES_CLI_LOG_JOURNEY_H

#include "nodes/cli/log_index.h"
#include "nodes/cli/log_state.h"
#include "statemachine/edge.h"

enum step_name { PROPOSED, COMMITTED, NUMBERED, DURABLE, APPLIED, ACTED, REPORTED, STEPS };

enum step_answer { STEP_UNKNOWN, STEP_DONE, STEP_MISSING, STEP_NONE /* there is no such step */ };
struct step {
    enum step_answer answer;
    uint64_t offset; /* of its proof; 0: none in this log */
    int64_t time_ms;
    char what[384];
};

/* A record that was met, copied. */
struct met {
    bool is;
    uint64_t offset;
    int64_t time_ms;
    int64_t frame_ms;
    uint64_t sequence;
    uint64_t stream;
    char origin[LIMIT_NAME_BYTES + 1];
    char user[LIMIT_IDENTITY_NAME_BYTES + 1];
    char op[16];
    char uid[LIMIT_NAME_BYTES + 1];
    char node[LIMIT_NAME_BYTES + 1];
    char text[256];      /* what it says, for people */
    bool trouble;        /* a status: not all of the pod runs */
    struct bytes record; /* ours */
};

struct journey {
    struct view *view;
    struct state *state;
    struct keys keys;
    char key[LIMIT_KEY_BYTES + 2];
    struct met wish;
    struct met status;        /* the newest POD_, NODE_ or DEVICE_STATUS behind the wish */
    struct met former;        /* the newest before it that tells of the same generation */
    uint32_t holders, behind; /* nodes that need it; those that have not acknowledged it */
    bool unchanged;     /* `status` was the former one: the wish changes nothing of what runs */
    int64_t generation; /* of the wish; 0: it is not known, or the wish is to end */
    struct met attempt;
    struct met ended;
    struct met ack; /* of the node, or of the cloud at an edge */
    bool edge;
    int64_t last_ms;
    int64_t frame_ms; /* of the record that stands in the frame itself */
    bool done;        /* the wish is found, and what it was before when it removes */
    struct step steps[STEPS];
    const char *meaning; /* of the first that is missing */
};

/* Say what is known of a step; offset and time of the proof, 0: none. */
void journey_tell(struct journey *journey, enum step_name name, enum step_answer answer,
                  uint64_t offset, int64_t time_ms, const char *format, ...)
    __attribute__((format(printf, 6, 7)));
/* What to make of the first step that is missing; the first that is said counts. Lent for ever. */
void journey_mean(struct journey *journey, const char *meaning);
/* Does the wish take the object away? */
bool journey_removes(const struct journey *journey);
/* "; deleted at offset 7 by cloudcore-1 for anna": who wished the end of an object, or of its namespace, where the
 * removal itself names no user. "": it does, or nobody is found. */
void journey_deletion(struct journey *journey, char *text, size_t size);
/* "; another one of this name was deleted at offset 7 by cloudcore-1 for anna", where the wish is a creation and the log
 * still has the end of such. "": it is none, or has not. */
void journey_predecessor(struct journey *journey, char *text, size_t size);
/* Did the wish, an update, take the object away, since it left nothing to wait for? Then it is told as committed. */
bool journey_finalized(struct journey *journey);

/* Is the object a device? */
bool journey_device(const struct journey *journey);
/* A DEVICE_STATUS for people. false: it cannot be read. */
bool journey_device_text(struct codec *codec, struct bytes body, char *text, size_t size,
                         char uid[LIMIT_NAME_BYTES + 1]);
/* What became of the wish of a device behind its delivery, as reports in the cloud's log tell. */
void journey_device_cloud(struct journey *journey);
/* And as the state of the edge tells.
 *   machine  NULL: it cannot be read, or is older than the wish
 *   unread   a report of it waits to be shipped */
void journey_device_edge(struct journey *journey, struct edge_machine *machine, bool unread);

#endif
