/* What the three sources of the reconciler share, and nobody else includes: pods.c (inputs, calls,
 * the listing), pods_step.c (what to do for one pod) and pods_status.c (what to tell about it).
 */
#ifndef KELP_NODES_EDGE_PODS_INSIDE_H
#define KELP_NODES_EDGE_PODS_INSIDE_H

#include "nodes/edge/pods.h"
#include "schemas/check.h"
#include "schemas/status.h"

#define PODS_TEXT_BYTES 512u
#define PODS_NEVER      UINT64_MAX
#define PODS_TOLD       24u /* different events of one pod that are remembered */

/* Shown while the door answers -ENOSPC. */
#define POD_NO_SPACE_TEXT "the disk of the node is almost full: no container is created before there is room"

/* Something that fails is tried again after POD_RETRY_MS, doubling to POD_RETRY_MAX_MS. */
struct pods_retry {
    uint64_t at_ms;
    unsigned failures;
};

/* A place that calls are made for which bring something into being: the sandbox of a pod, or one
 * container. At most one call at a time; and none on the ground of a listing that began before the
 * last one was answered. */
struct pods_slot {
    uint64_t call;    /* id of the call under way, 0 without */
    uint64_t settled; /* pods->sequence when the last one was answered */
    struct pods_retry retry;
    int64_t recorded; /* highest attempt that is durable, -1 for none */
    int64_t asked;    /* attempt that record_attempt was asked for and is not recorded yet, or -1 */
    uint64_t asked_until_ms;
};

/* Something that exists in the runtime and is started, stopped or removed, by its id. */
struct pods_object {
    struct pods_object *next;
    char *id;
    uint64_t call;
    enum driver_verb verb; /* of that call */
    int64_t grace_seconds; /* of a stop */
    uint64_t settled;
    bool stopped; /* a sandbox that StopPodSandbox was answered yes for */
    struct pods_retry retry;
};

enum pods_run_state { RUN_NONE, RUN_CREATED, RUN_RUNNING, RUN_EXITED };

/* One attempt of a container, remembered beyond the listing it was seen in. */
struct pods_run {
    enum pods_run_state state;
    uint32_t attempt;
    bool listed;      /* in the newest listing */
    bool in_sandbox;  /* in the pod's newest sandbox */
    bool replaced;    /* we stopped it because its wish became another one */
    bool start_asked; /* a start was called for it, in this life */
    bool unknown;     /* the runtime cannot say; treated as running */
    int64_t started_ms;
    int64_t finished_ms;
    int32_t exit_code;
    char id[128];
    char hash[20];
    char image[320];
    char image_id[320];
    char reason[64];
    char message[PODS_TEXT_BYTES];
};

struct pods_container {
    char *name;
    struct pods_slot slot;
    const struct pod_container *spec; /* NULL for one that the wish does not name (any more) */
    struct pods_run current;          /* newest attempt that is known to have existed */
    struct pods_run previous;
    bool image_present;     /* for the next creation */
    bool image_missing;     /* ImageStatus said so: pull */
    uint32_t logs_from;     /* lowest attempt whose log may still be there */
    struct pods_retry pull; /* back-off of the image */
    uint64_t pull_failed_ms;
    uint64_t config_retry_ms; /* when to look again at references that could not be resolved */
    unsigned crashes;         /* restarts in a row without a long run */
    bool exit_noticed;        /* restart_at_ms is for the current run */
    uint64_t restart_at_ms;
    char reason[64]; /* why it waits, "" for the usual */
    char message[PODS_TEXT_BYTES];
};

/* An event that was told. */
struct pods_told {
    uint64_t hash; /* of all that makes it the same event; 0: free */
    uint32_t count; /* how often it happened */
    uint32_t tells; /* and was told */
    int64_t first_ms;   /* wall */
    uint64_t told_ms;   /* mono */
};

enum pods_files { FILES_NEEDED, FILES_WRITING, FILES_READY };
enum pods_removal { REMOVAL_NONE, REMOVAL_ASKED, REMOVAL_DONE };

struct pod_entry {
    char *uid;
    char *namespace;
    char *name;
    uint64_t born; /* pods->sequence: a listing that began before says nothing about it */
    bool wanted;   /* its row is there */
    bool deleting; /* and says so */
    bool ended;    /* RECORD_POD_ENDED is recorded, or taken by the door */
    bool parsed;
    bool finished; /* Succeeded or Failed: for ever */
    bool expired;  /* activeDeadlineSeconds passed */
    bool dirty;
    bool told; /* status holds what was recorded last */
    bool notes_told;
    int64_t grace_seconds;
    int64_t generation;
    struct pod_spec spec;
    char spec_error[PODS_TEXT_BYTES];
    struct pods_slot sandbox_slot;
    const struct driver_sandbox_seen *sandbox; /* newest of the listing, or NULL */
    int64_t sandbox_existed;                   /* highest attempt ever seen, -1 */
    char ip[64];                               /* the last address; kept for the status */
    struct pods_container *containers;         /* in the order of the spec, strangers after */
    size_t container_count;
    struct pods_object *objects;
    enum pods_files files;
    bool files_again; /* something changed while they were being written, or since */
    struct pods_retry files_retry;
    char files_error[PODS_TEXT_BYTES];
    char files_ip[64]; /* the address that the hosts file was written for */
    enum pods_removal removal;
    struct pods_retry removal_retry;
    char waits_for[PODS_TEXT_BYTES]; /* a reference that is missing */
    bool no_space; /* the last attempt that was asked for had no room */
    struct pods_told events[PODS_TOLD]; /* the last told, so that the same again is counted */
    int64_t started_ms;
    unsigned calls;
    uint64_t wake_ms;
    struct arena status_arena;
    struct pod_status status;
};

struct pods_call {
    uint64_t id; /* 0: free */
    enum driver_verb verb;
    struct pod_entry *pod; /* NULL for the listing */
    char *object;          /* id, for calls on objects */
    int container;         /* index, -1 for the sandbox; for calls of slots */
    uint64_t begun;        /* of a listing: pods->sequence when it was asked for */
};

struct pods {
    const struct pods_config *config;
    const struct pods_door *door;
    struct pod_entry **entries; /* in order of uid */
    size_t count;
    bool begun;
    bool listing; /* a listing is under way */
    bool list_wanted;
    uint64_t list_at_ms; /* when the next one is due */
    uint64_t list_earliest_ms;
    struct arena list_arena;
    struct driver_list list;
    bool listed;
    uint64_t list_begun; /* pods->sequence when the newest listing was asked for */
    uint64_t listed_ms;
    int list_status;
    uint64_t sequence;
    uint64_t call_last;
    struct pods_call calls[LIMIT_DRIVER_CALLS];
    size_t call_count;
};

/* -- pods.c ------------------------------------------------------------------------------------ */

/* Ask the runtime. Answers the id of the call, or 0 when the door did not take it. */
uint64_t pods_call_slot(struct pods *pods, struct pod_entry *pod, struct pods_slot *slot,
                        int container, const struct driver_call *call, struct pods_time now);
void pods_call_object(struct pods *pods, struct pod_entry *pod, const char *id,
                      const struct driver_call *call, struct pods_time now);
struct pods_object *pods_object_get(struct pod_entry *pod, const char *id);
/* The listing is newer than the last call on it, and none is under way. */
bool pods_object_is_free(const struct pods *pods, const struct pods_object *object);
bool pods_slot_is_free(const struct pods *pods, const struct pods_slot *slot);
void pods_retry_later(struct pods_retry *retry, uint64_t first_ms, uint64_t max_ms,
                      struct pods_time now);
void pods_wake_at(struct pod_entry *pod, uint64_t at_ms);
struct pods_container *pods_container_find(struct pod_entry *pod, const char *name);
__attribute__((format(printf, 7, 8))) void pods_event(struct pods *pods, struct pod_entry *pod,
                                                      const char *container, const char *type,
                                                      const char *reason, struct pods_time now,
                                                      const char *format, ...);

/* -- pods_step.c ------------------------------------------------------------------------------- */

/* Compare one pod with the listing and take the next steps. Answers false when nothing is left of
 * it and nobody wants it: the entry may go. */
bool pods_step(struct pods *pods, struct pod_entry *pod, struct pods_time now);
/* The init containers have done what they are there for. */
bool pods_is_initialized(const struct pod_entry *pod);
/* This container, which ended or never was, is to run (again). */
bool pods_container_should_run(const struct pod_entry *pod, const struct pods_container *container);

/* -- pods_status.c ----------------------------------------------------------------------------- */

/* Tell what changed about a wanted pod. Answers true when what was told is what is. */
bool pods_tell(struct pods *pods, struct pod_entry *pod, struct pods_time now);
/* Remember what an earlier life of this process recorded. */
void pods_remember(struct pod_entry *pod, const struct pod_status *status);

#endif
