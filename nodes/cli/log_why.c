/* why: the journey of the newest record of an object, as far as one directory knows it.
 *
 *   1. the key index finds the newest wish (OBJECT_PUT, OBJECT_REMOVE), and what was recorded of the
 *      object since: facts, attempts
 *   2. the state beside the log says what was applied, numbered, acknowledged; it is brought up to date in
 *      memory first (state_fold)
 *   3. each step is told with its proof; what a later step proves, the earlier ones need not
 *
 * A cloudcore's directory knows the beginning of the journey at first hand and its end by reports; an
 * edgecore's the other way round. What a directory cannot know is told as unknown, not as missing.
 */
#include "nodes/cli/log_command.h"
#include "nodes/cli/log_journey.h"
#include "nodes/options.h"
#include "schemas/check.h"
#include "schemas/status.h"
#include "statemachine/delivery.h"
#include "statemachine/edge.h"
#include "statemachine/machine.h"
#include "statemachine/object.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static const char *const step_names[STEPS] = {
    "proposed", "committed", "numbered", "durable", "applied", "acted", "reported",
};
static const char *const step_answers[] = {
    [STEP_UNKNOWN] = "unknown",
    [STEP_DONE] = "done",
    [STEP_MISSING] = "missing",
    [STEP_NONE] = "none",
};

/* -- what was recorded -------------------------------------------------------------------------- */

static void text_copy(char *out, size_t size, const char *text)
{
    snprintf(out, size, "%.*s", (int)size - 1, text);
}

static void met_fill(struct met *met, const struct item *item, const char *uid)
{
    free((void *)(uintptr_t)met->record.data);
    *met = (struct met){
        .is = true,
        .offset = item->offset,
        .time_ms = item->time_ms,
        .sequence = item->sequence,
        .stream = item->inside != NULL ? item->inside->stream : 0,
    };
    text_copy(met->origin, sizeof met->origin, item->origin);
    text_copy(met->user, sizeof met->user, item->user);
    text_copy(met->op, sizeof met->op, item->op);
    text_copy(met->uid, sizeof met->uid, uid);
    text_copy(met->node, sizeof met->node, item->node);
    uint8_t *copy = malloc(item->bytes.size + 1);
    CHECK(copy != NULL);
    memcpy(copy, item->bytes.data, item->bytes.size);
    met->record = bytes_of(copy, item->bytes.size);
}

static void met_status(struct journey *journey, struct met *met, const struct item *item)
{
    static const char *const phases[] = {
        [POD_PENDING] = "Pending", [POD_RUNNING] = "Running", [POD_SUCCEEDED] = "Succeeded",
        [POD_FAILED] = "Failed",   [POD_UNKNOWN] = "Unknown",
    };
    struct pod_status status;
    if (item->record.kind == RECORD_NODE_STATUS) {
        met_fill(met, item, "");
        text_copy(met->text, sizeof met->text, "the node says how it is");
        return;
    }
    if (item->record.kind == RECORD_DEVICE_STATUS) {
        char text[sizeof met->text];
        char uid[LIMIT_NAME_BYTES + 1];
        if (journey_device_text(journey->view->codec, item->record.body, text, sizeof text, uid)) {
            met_fill(met, item, uid);
            text_copy(met->text, sizeof met->text, text);
        }
        return;
    }
    if (codec_pod_status_read(journey->view->codec, item->record.body, &status) != 0) {
        return;
    }
    met_fill(met, item, status.uid);
    char waits[160] = "";
    for (uint32_t i = 0; i < status.container_count; i++) {
        const struct container_status *container = &status.containers[i];
        if (container->state != CONTAINER_RUNNING && container->reason[0] != '\0') {
            snprintf(waits, sizeof waits, ", container %.40s: %.40s%s%.60s", container->name,
                     container->reason, container->message[0] == '\0' ? "" : ": ",
                     container->message);
            break;
        }
    }
    snprintf(met->text, sizeof met->text, "phase %s%s%.40s%s", phases[status.phase],
             status.reason[0] == '\0' ? "" : ", ", status.reason, waits);
    met->trouble = (status.phase != POD_RUNNING && status.phase != POD_SUCCEEDED) ||
                   (status.phase == POD_RUNNING && waits[0] != '\0');
}

/* A status from before the wish: does it tell of the generation that is wished? */
static void met_former(struct journey *journey, const struct item *item)
{
    struct pod_status status;
    if (!journey->former.is && journey->generation > 0 && item->record.kind == RECORD_POD_STATUS &&
        codec_pod_status_read(journey->view->codec, item->record.body, &status) == 0 &&
        strcmp(status.uid, journey->wish.uid) == 0 &&
        status.observed_generation >= journey->generation) {
        met_status(journey, &journey->former, item);
    }
}

static void met_attempt(struct journey *journey, const struct item *item)
{
    struct pod_attempt attempt;
    if (codec_pod_attempt_read(journey->view->codec, item->record.body, &attempt) == 0) {
        met_fill(&journey->attempt, item, attempt.uid);
        snprintf(journey->attempt.text, sizeof journey->attempt.text, "%s%.60s, attempt %u",
                 attempt.container[0] == '\0' ? "the sandbox" : "container ", attempt.container,
                 attempt.attempt);
    }
}

static bool is_pod(const struct journey *journey)
{
    return strncmp(journey->key, "/pods/", 6) == 0;
}

bool journey_removes(const struct journey *journey)
{
    return strcmp(journey->wish.op, "delete") == 0 || strcmp(journey->wish.op, "unuse") == 0;
}

/* What was removed: the record of the removal says neither its node nor its uid. */
static void former_take(struct journey *journey, const struct item *item)
{
    if (item->put != NULL) {
        text_copy(journey->wish.uid, sizeof journey->wish.uid, item->put->object.uid);
        text_copy(journey->wish.node, sizeof journey->wish.node, item->node);
        journey->done = true;
    }
}

/* Frames come newest first, the items of one oldest first: within a frame a later one replaces. */
static int journey_on_item(void *context, const struct item *item)
{
    struct journey *journey = context;
    if (item->outer == NULL) {
        journey->frame_ms = item->time_ms;
    }
    if (!item->decoded || strcmp(item->key, journey->key) != 0) {
        return 0;
    }
    if (journey->wish.is && item->offset != journey->wish.offset) {
        if (!journey_removes(journey)) {
            met_former(journey, item);
            return 0;
        }
        if (item->record.kind == RECORD_POD_ENDED && !journey->ended.is) {
            met_fill(&journey->ended, item, "");
        }
        former_take(journey, item);
        return 0;
    }
    switch (item->record.kind) {
    case RECORD_OBJECT_PUT:
        met_fill(&journey->wish, item, item->put == NULL ? "" : item->put->object.uid);
        journey->wish.frame_ms = journey->frame_ms;
        journey->generation = item->put == NULL || item->put->object.deletion_time_ms != 0
                                  ? 0
                                  : item->put->object.generation;
        return 0;
    case RECORD_OBJECT_REMOVE:
        met_fill(&journey->wish, item, "");
        journey->wish.frame_ms = journey->frame_ms;
        return 0;
    case RECORD_POD_STATUS:
    case RECORD_NODE_STATUS:
    case RECORD_DEVICE_STATUS:
        if (!journey->status.is || journey->status.offset == item->offset) {
            met_status(journey, &journey->status, item);
        }
        return 0;
    case RECORD_POD_ATTEMPT:
        if (!journey->attempt.is || journey->attempt.offset == item->offset) {
            met_attempt(journey, item);
        }
        return 0;
    case RECORD_POD_ENDED:
        if (!journey->ended.is) {
            met_fill(&journey->ended, item, "");
        }
        return 0;
    default:
        return 0;
    }
}

static int journey_on_frame(void *context, const struct log_frame *frame)
{
    struct journey *journey = context;
    if (journey->done || (journey->wish.is && !journey_removes(journey) &&
                          (journey->generation == 0 || !is_pod(journey) || journey->status.is ||
                           journey->ended.is || journey->former.is))) {
        return 1;
    }
    (void)items_walk(journey->view->codec, frame, &journey->last_ms, journey_on_item, journey);
    return 0;
}

static int ack_on_item(void *context, const struct item *item)
{
    struct journey *journey = context;
    struct down_ack ack;
    const uint16_t kind = journey->edge ? RECORD_UP_ACK : RECORD_DOWN_ACK;
    if (item->decoded && item->record.kind == kind &&
        codec_down_ack_read(journey->view->codec, item->record.body, &ack) == 0) {
        met_fill(&journey->ack, item, "");
        journey->ack.sequence = ack.position;
        journey->ack.stream = ack.stream;
    }
    return 0;
}

static int ack_on_frame(void *context, const struct log_frame *frame)
{
    struct journey *journey = context;
    int64_t last_ms = 0;
    (void)items_walk(journey->view->codec, frame, &last_ms, ack_on_item, journey);
    return journey->ack.is;
}

static int ack_on_frame_behind(void *context, const struct log_frame *frame)
{
    (void)ack_on_frame(context, frame);
    return 0;
}

/* -- telling ------------------------------------------------------------------------------------ */

void journey_tell(struct journey *journey, enum step_name name, enum step_answer answer,
                  uint64_t offset, int64_t time_ms, const char *format, ...)
{
    struct step *step = &journey->steps[name];
    va_list arguments;
    *step = (struct step){.answer = answer, .offset = offset, .time_ms = time_ms};
    va_start(arguments, format);
    vsnprintf(step->what, sizeof step->what, format, arguments);
    va_end(arguments);
}

void journey_mean(struct journey *journey, const char *meaning)
{
    if (journey->meaning == NULL) {
        journey->meaning = meaning;
    }
}

/* -- in the cloud -------------------------------------------------------------------------------- */

/* Whether the state holds exactly this record. */
static bool cloud_holds(struct journey *journey, uint64_t *out_version)
{
    struct object_row row;
    struct store_reader *reader = store_live(journey->state->store);
    const int status = object_get(reader, bytes_text(journey->key), &row);
    *out_version = status == STATUS_OK ? row.parts[PART_WISH].version : 0;
    return journey_removes(journey)
               ? status == OBJECT_NONE
               : status == STATUS_OK &&
                     bytes_equal(row.parts[PART_WISH].record, journey->wish.record);
}

static void cloud_committed(struct journey *journey)
{
    const struct state *state = journey->state;
    const uint64_t offset = journey->wish.offset;
    if (state->position < offset && state->running && state->applied >= offset) {
        journey_tell(
            journey, COMMITTED, STEP_DONE, 0, 0,
            "the running cloudcore has applied it; its state on disk ends at offset %" PRIu64,
            state->position);
        return;
    }
    if (state->machine != STATE_CLOUD) {
        journey_tell(journey, COMMITTED, STEP_UNKNOWN, 0, 0, "%.300s", state->why);
        journey_mean(journey, "Ask in the directory of another cloudcore.");
        return;
    }
    if (state->position < offset && state->running) {
        journey_tell(journey, COMMITTED, STEP_MISSING, 0, 0,
                     "the running cloudcore has applied up to offset %" PRIu64, state->applied);
        journey_mean(journey,
                     "The record waits for a majority of the cloudcores: do enough of them run? "
                     "'kelp status' tells who leads.");
        return;
    }
    if (state->position < offset) {
        journey_tell(journey, COMMITTED, STEP_UNKNOWN, 0, 0,
                     "the state on disk ends at offset %" PRIu64 ", and no cloudcore answers here",
                     state->position);
        journey_mean(
            journey,
            "What a stopped cloudcore had applied is not on its disk: ask in the directory of one "
            "that runs, or start this one.");
        return;
    }
    uint64_t version;
    if (cloud_holds(journey, &version)) {
        journey_tell(journey, COMMITTED, STEP_DONE, 0, 0,
                     journey_removes(journey) ? "the object is not in the state any more%.0" PRIu64
                                              : "in the state as version %" PRIu64,
                     version);
        return;
    }
    if (journey->ended.is) {
        journey_tell(journey, COMMITTED, STEP_DONE, 0, 0,
                     "it was in the state until the pod had ended");
        return;
    }
    if (journey_finalized(journey)) {
        return;
    }
    journey_tell(journey, COMMITTED, STEP_MISSING, 0, 0,
                 "committed, but the state does not hold it");
    journey_mean(
        journey,
        "The record was refused when it was applied (another version, another uid, a missing "
        "namespace), or its object ended together with something else. 'kelp log find' shows "
        "what came before; 'kelp log replay' what the row is.");
}

/* Numbered and acknowledged, for one node. Answers whether both are done. */
static bool cloud_delivered(struct journey *journey, const struct node_row *node)
{
    struct store_reader *reader = store_live(journey->state->store);
    const struct bytes key = bytes_text(journey->key);
    char others[80] = "";
    if (journey->holders > 1) {
        snprintf(others, sizeof others, "; of %u nodes that need it %u have not", journey->holders,
                 journey->behind);
    }
    uint64_t sequence = 0;
    const int unread =
        delivery_sequence_find(reader, node->name, key, journey->wish.uid, &sequence);
    if (unread != STATUS_OK && !journey_removes(journey) &&
        delivery_held_find(reader, node->name, key) != STATUS_OK) {
        journey_tell(journey, NUMBERED, STEP_MISSING, 0, 0, "node %.100s was never told of it",
                     node->name);
        journey_mean(journey, "The node does not need this object: no pod bound to it names it.");
        return false;
    }
    if (unread == STATUS_OK) {
        journey_tell(journey, NUMBERED, STEP_DONE, 0, 0,
                     "number %" PRIu64 " of what node %.100s must hear", sequence, node->name);
    } else {
        journey_tell(journey, NUMBERED, STEP_DONE, 0, 0,
                     "for node %.100s; the number was let go when it was acknowledged", node->name);
    }
    if (unread == STATUS_OK && sequence > node->down_acked) {
        journey_tell(journey, DURABLE, STEP_MISSING, 0, 0,
                     "node %.100s has acknowledged up to %" PRIu64 " of %" PRIu64 "%s", node->name,
                     node->down_acked, node->down_tip, others);
        journey_mean(
            journey,
            node->epoch == 0
                ? "The node has never connected: is edgecore running there, with its certificate "
                  "and the address of a cloudcore?"
                : "The node is not connected, or behind: 'kubectl get node' tells when it was last "
                  "heard, 'kelp status' on it whether its link is up.");
        return false;
    }
    char nodes_key[LIMIT_KEY_BYTES];
    snprintf(nodes_key, sizeof nodes_key, "/nodes//%.260s", node->name);
    (void)keys_find(&journey->keys, nodes_key, KEYS_NEWEST_FIRST, ack_on_frame, journey);
    journey_tell(journey, DURABLE, STEP_DONE, journey->ack.offset, journey->ack.time_ms,
                 "node %.100s has acknowledged up to %" PRIu64 " of %" PRIu64 "%s", node->name,
                 node->down_acked, node->down_tip, others);
    return true;
}

static void cloud_reported(struct journey *journey)
{
    const struct met *status = &journey->status;
    const struct met *ended = &journey->ended;
    if (journey_device(journey)) {
        journey_device_cloud(journey);
        return;
    }
    if (!is_pod(journey)) {
        journey_tell(journey, ACTED, STEP_NONE, 0, 0, "only pods are acted upon");
        journey_tell(journey, REPORTED, STEP_NONE, 0, 0, "nothing is reported of it");
        journey_tell(journey, APPLIED, STEP_UNKNOWN, 0, 0, "the directory of the edge tells");
        journey_mean(journey, "Run 'kelp log why' on the data directory of the edge for the rest.");
        return;
    }
    if (journey->unchanged) {
        journey_tell(journey, APPLIED, STEP_NONE, 0, 0, "it changes nothing of what runs");
        journey_tell(journey, ACTED, STEP_NONE, 0, 0, "it changes nothing of what runs");
        journey_tell(journey, REPORTED, STEP_DONE, status->offset, status->time_ms, "%s, before it",
                     status->text);
        return;
    }
    const struct met *proof =
        journey_removes(journey) || !status->is || (ended->is && ended->offset >= status->offset)
            ? ended
            : status;
    if (!proof->is) {
        journey_tell(journey, APPLIED, STEP_UNKNOWN, 0, 0, "the directory of the edge tells");
        journey_tell(journey, ACTED, STEP_UNKNOWN, 0, 0, "the directory of the edge tells");
        journey_tell(journey, REPORTED, STEP_MISSING, 0, 0, "nothing was reported since");
        journey_mean(
            journey,
            "The edge has the record on its disk and has not told what became of it: run 'kelp log "
            "why' on its data directory, and look at the log lines of edgecore.");
        return;
    }
    journey_tell(journey, APPLIED, STEP_DONE, 0, 0, "what was reported since proves it");
    journey_tell(journey, ACTED, STEP_DONE, 0, 0, "what was reported since proves it");
    journey_tell(journey, REPORTED, STEP_DONE, proof->offset, proof->time_ms, "%s",
                 proof == ended ? "the containers have ended" : status->text);
}

/* Of the nodes that hold the object or must hear of its end, the first by name that has not
 * acknowledged it, else the first. Counts both. false: there is none. */
static bool holder_find(struct journey *journey, char out_name[LIMIT_NAME_BYTES + 1])
{
    struct node_row node;
    char name[LIMIT_NAME_BYTES + 1] = "";
    struct store_reader *reader = store_live(journey->state->store);
    const struct bytes key = bytes_text(journey->key);
    while (node_next(reader, name, &node) == STATUS_OK) {
        uint64_t sequence = 0;
        text_copy(name, sizeof name, node.name);
        const bool numbered =
            delivery_sequence_find(reader, name, key, journey->wish.uid, &sequence) == STATUS_OK;
        const bool behind = numbered && sequence > node.down_acked;
        if (behind || delivery_held_find(reader, name, key) == STATUS_OK) {
            if (journey->holders == 0 || (behind && journey->behind == 0)) {
                text_copy(out_name, LIMIT_NAME_BYTES + 1, name);
            }
            journey->holders++;
            journey->behind += behind;
        }
        store_reader_reset(reader);
    }
    return journey->holders > 0;
}

static void cloud_journey(struct journey *journey)
{
    const struct met *wish = &journey->wish;
    char deletion[320];
    journey_deletion(journey, deletion, sizeof deletion);
    if (deletion[0] == '\0') {
        journey_predecessor(journey, deletion, sizeof deletion);
    }
    journey_tell(journey, PROPOSED, STEP_DONE, wish->offset, wish->time_ms, "%s by %.100s%s%.64s%s",
                 wish->op, wish->origin[0] == '\0' ? "the cloud" : wish->origin,
                 wish->user[0] == '\0' ? "" : " for ", wish->user, deletion);
    cloud_committed(journey);
    if (journey->steps[COMMITTED].answer != STEP_DONE) {
        return;
    }
    if (journey->ended.is && !journey_removes(journey)) { /* its rows are gone */
        journey_tell(journey, NUMBERED, STEP_DONE, 0, 0, "what was reported since proves it");
        journey_tell(journey, DURABLE, STEP_DONE, 0, 0, "what was reported since proves it");
        cloud_reported(journey);
        return;
    }
    if (journey->state->position <
        wish->offset) { /* the rest is not on disk yet, but for reports */
        journey_tell(journey, NUMBERED, STEP_UNKNOWN, 0, 0, "the state on disk is older");
        journey_mean(journey,
                     "This log is not enough to tell what the cloudcore knows beyond its disk: run "
                     "'kelp log why' on the data directory of the edge.");
        if ((journey->status.is && !journey->unchanged) || journey->ended.is) {
            journey_tell(journey, NUMBERED, STEP_DONE, 0, 0, "what was reported since proves it");
            journey_tell(journey, DURABLE, STEP_DONE, 0, 0, "what was reported since proves it");
            cloud_reported(journey);
        }
        return;
    }
    struct node_row node;
    struct store_reader *reader = store_live(journey->state->store);
    char name[LIMIT_NAME_BYTES + 1];
    const bool device = journey_device(journey);
    text_copy(name, sizeof name, is_pod(journey) || device ? wish->node : "");
    if (!is_pod(journey) && !device && !holder_find(journey, name)) {
        for (enum step_name i = NUMBERED; i < STEPS; i++) {
            journey_tell(journey, i, STEP_NONE, 0, 0,
                         journey_removes(journey) ? "no node has it any more" : "no node needs it");
        }
        return;
    }
    if (name[0] == '\0' && journey_removes(journey)) {
        journey_tell(journey, NUMBERED, STEP_UNKNOWN, 0, 0,
                     "the record does not say for which node");
        cloud_reported(journey);
        return;
    }
    if (name[0] == '\0') {
        journey_tell(journey, NUMBERED, STEP_MISSING, 0, 0, "the %s has no node yet",
                     device ? "device" : "pod");
        if (device) {
            journey_mean(journey, "Nobody chooses one for a device: write it into spec.nodeName.");
        }
        journey_mean(journey,
                     "No node fits, or none is Ready: 'kubectl describe pod' shows what the "
                     "scheduler says.");
        return;
    }
    if (node_get(reader, name, &node) != STATUS_OK) {
        journey_tell(journey, NUMBERED, STEP_MISSING, 0, 0, "there is no node %.100s", name);
        journey_mean(journey,
                     device ? "The device is bound to a node that does not exist (any more): name "
                              "another in spec.nodeName, or register the node."
                            : "The pod is bound to a node that does not exist (any more): delete "
                              "the pod, or register the node.");
        return;
    }
    if (cloud_delivered(journey, &node)) {
        cloud_reported(journey);
    }
}

/* -- at the edge --------------------------------------------------------------------------------- */

/* Whether the state has this object as it was wished. */
static enum step_answer edge_applied_answer(struct journey *journey, struct edge_machine *machine)
{
    struct object_put put;
    const int status = edge_object_find(machine, journey->key, journey->view->codec, &put);
    if (journey->state->position < journey->wish.offset) {
        return STEP_UNKNOWN;
    }
    if (journey_removes(journey)) {
        return status == STORE_NONE ? STEP_DONE : STEP_MISSING;
    }
    return status == STATUS_OK && strcmp(put.object.uid, journey->wish.uid) == 0 ? STEP_DONE
                                                                                 : STEP_MISSING;
}

static void edge_acted(struct journey *journey)
{
    const struct met *attempt = &journey->attempt;
    if (!is_pod(journey)) {
        journey_tell(journey, ACTED, STEP_NONE, 0, 0, "only pods are acted upon");
        journey_tell(journey, REPORTED, STEP_NONE, 0, 0, "nothing is reported of it");
        return;
    }
    if (journey_removes(journey)) {
        journey_tell(journey, ACTED, journey->ended.is ? STEP_DONE : STEP_UNKNOWN,
                     journey->ended.offset, journey->ended.time_ms,
                     journey->ended.is ? "the containers have ended"
                                       : "the runtime tells whether the containers are gone");
        journey_tell(journey, REPORTED, STEP_NONE, 0, 0, "the cloud took the object away itself");
        return;
    }
    if (journey->unchanged) {
        journey_tell(journey, ACTED, STEP_NONE, 0, 0, "it changes nothing of what runs");
    } else if (journey->ended.is) {
        journey_tell(journey, ACTED, STEP_DONE, journey->ended.offset, journey->ended.time_ms,
                     "the containers have ended");
    } else if (attempt->is) {
        journey_tell(journey, ACTED, STEP_DONE, attempt->offset, attempt->time_ms, "%s",
                     attempt->text);
    } else if (journey->status.is) {
        journey_tell(journey, ACTED, STEP_MISSING, 0, 0, "nothing was started since: %s",
                     journey->status.text);
        journey_mean(
            journey,
            "Either what runs is what is wished already, or something keeps it from starting: "
            "what was "
            "reported says what (a config map that is missing, an image that cannot be pulled).");
    } else {
        journey_tell(journey, ACTED, STEP_MISSING, 0, 0,
                     "nothing was started and nothing reported since");
        journey_mean(journey,
                     "edgecore has not come to it: is it running, and does its container runtime "
                     "answer? 'kelp "
                     "status' and the log lines of edgecore tell.");
    }
}

static void edge_reported(struct journey *journey, const struct edge_meta *meta, bool unread)
{
    const struct met *fact = journey->ended.is ? &journey->ended : &journey->status;
    if (!is_pod(journey) || journey_removes(journey)) {
        return;
    }
    if (!fact->is) {
        journey_tell(journey, REPORTED, STEP_MISSING, 0, 0, "nothing was reported since");
        journey_mean(
            journey,
            "The pod was begun and nothing is known of it yet: the runtime may be busy (pulling an "
            "image), or not answer.");
        return;
    }
    const char *text = fact == &journey->ended ? "the end of the pod" : fact->text;
    if (unread || meta == NULL) {
        journey_tell(journey, REPORTED, meta == NULL ? STEP_UNKNOWN : STEP_MISSING, fact->offset,
                     fact->time_ms, "%s; recorded here, the cloud has not said that it has it",
                     text);
        journey_mean(journey,
                     "The link is down, or was until now: it is sent when there is one ('kelp "
                     "status' tells).");
        return;
    }
    journey_tell(journey, REPORTED, STEP_DONE, fact->offset, fact->time_ms, "%s; the cloud has it",
                 text);
}

/* Whether a fact of this key is still to be shipped, as the state and the running edgecore have it. */
static bool edge_unread(struct journey *journey, struct edge_machine *machine)
{
    struct codec *codec = codec_create();
    const uint64_t acked = edge_machine_meta(machine)->up_acked;
    uint64_t after = acked > journey->state->up_acked ? acked : journey->state->up_acked;
    bool unread = false;
    struct batch batch;
    while (!unread &&
           edge_up_read(machine, after, LIMIT_FRAME_BYTES / 2, codec, &batch) == STATUS_OK &&
           batch.last > after) {
        for (uint32_t i = 0; i < batch.record_count && !unread; i++) {
            struct record record;
            unread = codec_record_read(codec, batch.records[i].record, &record) == 0 &&
                     strcmp(record.key, journey->key) == 0;
        }
        after = batch.last;
        codec_reset(codec);
    }
    codec_destroy(codec);
    return unread;
}

static void edge_journey(struct journey *journey)
{
    const struct met *wish = &journey->wish;
    journey_tell(journey, PROPOSED, STEP_DONE, 0, wish->time_ms, "%s by %.100s, in the cloud",
                 wish->op, wish->origin[0] == '\0' ? "the cloud" : wish->origin);
    journey_tell(journey, COMMITTED, STEP_DONE, 0, 0, "the cloud ships nothing else");
    if (wish->stream != 0) {
        journey_tell(journey, NUMBERED, STEP_DONE, 0, 0, "number %" PRIu64 " of stream %016" PRIx64,
                     wish->sequence, wish->stream);
    } else {
        journey_tell(journey, NUMBERED, STEP_DONE, 0, 0, "it came with a snapshot");
    }
    journey_tell(journey, DURABLE, STEP_DONE, wish->offset, wish->frame_ms,
                 "in the log of this node");

    struct edge_machine *machine = NULL;
    const struct state *state = journey->state;
    if (state->machine == STATE_EDGE &&
        edge_machine_open(state->store, NULL, &machine) != STATUS_OK) {
        machine = NULL;
    }
    const bool later = journey->attempt.is || (journey->status.is && !journey->unchanged) ||
                       (journey->ended.is && journey->ended.offset >= wish->offset);
    const enum step_answer applied =
        machine == NULL ? STEP_UNKNOWN : edge_applied_answer(journey, machine);
    if (applied == STEP_MISSING) {
        journey_tell(journey, APPLIED, STEP_MISSING, 0, 0, "the state does not hold it");
        journey_mean(
            journey,
            "It was replaced by a snapshot since, or refused when it was applied: the log lines of "
            "edgecore of that time say so (record_refused).");
    } else if (applied == STEP_DONE || later) {
        journey_tell(journey, APPLIED, STEP_DONE, 0, 0,
                     applied == STEP_DONE ? "the state holds it"
                                          : "what was recorded since proves it");
    } else if (state->running && state->applied >= wish->offset) {
        journey_tell(journey, APPLIED, STEP_DONE, 0, 0, "the running edgecore has applied it");
    } else if (machine == NULL) {
        journey_tell(journey, APPLIED, STEP_UNKNOWN, 0, 0, "%.300s", state->why);
    } else {
        journey_tell(journey, APPLIED, STEP_UNKNOWN, 0, 0,
                     "the state on disk ends at offset %" PRIu64
                     "; a running edgecore may be further",
                     state->position);
        journey_mean(journey,
                     "The state is flushed within a minute; a start replays the log from there. "
                     "If edgecore does "
                     "not run, start it.");
    }
    if (applied != STEP_MISSING && journey_device(journey)) {
        struct edge_machine *known = applied == STEP_DONE && state->current ? machine : NULL;
        journey_device_edge(journey, known, known != NULL && edge_unread(journey, known));
    } else if (applied != STEP_MISSING) {
        edge_acted(journey);
        const bool known =
            machine != NULL && (journey->status.is || journey->ended.is) &&
            state->position >= (journey->ended.is ? journey->ended.offset : journey->status.offset);
        (void)view_frames(journey->view, wish->offset, UINT64_MAX, ack_on_frame_behind, journey);
        edge_reported(journey, known ? edge_machine_meta(machine) : NULL,
                      known && edge_unread(journey, machine));
        const bool shipped = state->running && state->up_last == state->up_acked;
        if (journey->steps[REPORTED].answer == STEP_UNKNOWN && journey->status.is &&
            !journey->ended.is &&
            (shipped || (journey->ack.is && journey->ack.offset > journey->status.offset))) {
            journey_tell(journey, REPORTED, STEP_DONE, journey->status.offset,
                         journey->status.time_ms, "%s; the cloud has acknowledged since",
                         journey->status.text);
            journey->meaning = NULL;
        }
    }
    edge_machine_close(machine);
}

/* -- output -------------------------------------------------------------------------------------- */

/* The first step that is not done, of those there are. */
static enum step_name first_open(const struct journey *journey)
{
    enum step_name i = PROPOSED;
    while (i < STEPS &&
           (journey->steps[i].answer == STEP_DONE || journey->steps[i].answer == STEP_NONE)) {
        i++;
    }
    return i;
}

/* What to make of it; "" when nothing is missing. */
static const char *conclusion(const struct journey *journey)
{
    if (journey->view->inspect.damage_status != 0) {
        return "The log is damaged: what lies behind the damage was not read, and may be newer.";
    }
    if (first_open(journey) != STEPS) {
        return journey->meaning == NULL ? "" : journey->meaning;
    }
    if (journey->status.is && journey->status.trouble && !journey->ended.is &&
        !journey_removes(journey)) {
        return "Every step was taken, but not all of the pod runs: what was reported says why.";
    }
    return journey->edge && journey->state->link_down
               ? "Nothing is missing here; but the link is down, and the cloud may wish something "
                 "newer."
               : "";
}

static void why_json(struct out *out, const struct journey *journey)
{
    const enum step_name open = first_open(journey);
    out_text(out, "{\"key\":");
    out_json_text(out, journey->key);
    out_text(out, ",\"uid\":");
    out_json_text(out, journey->wish.uid);
    out_text(out, ",\"directory\":");
    out_text(out, journey->edge ? "\"edge\"" : "\"cloud\"");
    out_text(out, ",\"steps\":[");
    for (enum step_name i = PROPOSED; i < STEPS; i++) {
        const struct step *step = &journey->steps[i];
        out_print(out, "%s{\"step\":\"%s\",\"answer\":\"%s\",\"offset\":%" PRIu64 ",\"time\":",
                  i == PROPOSED ? "" : ",", step_names[i], step_answers[step->answer],
                  step->offset);
        if (step->time_ms > 0) {
            out_character(out, '"');
            out_time(out, step->time_ms);
            out_character(out, '"');
        } else {
            out_text(out, "null");
        }
        out_text(out, ",\"what\":");
        out_json_text(out, step->what);
        out_character(out, '}');
    }
    out_text(out, "],\"open\":");
    out_json_text(out, open == STEPS ? "" : step_names[open]);
    out_text(out, ",\"meaning\":");
    out_json_text(out, conclusion(journey));
    out_text(out, "}\n");
}

static void why_text(struct out *out, const struct journey *journey)
{
    const enum step_name open = first_open(journey);
    const int offset_width = view_offset_width(journey->view);
    out_plain(out, journey->key, 0);
    if (journey->wish.uid[0] != '\0') {
        out_text(out, "  uid ");
        out_plain(out, journey->wish.uid, 0);
    }
    out_print(out, "\nas the directory of %s knows it\n\n",
              journey->edge ? "an edgecore" : "a cloudcore");
    for (enum step_name i = PROPOSED; i < STEPS; i++) {
        const struct step *step = &journey->steps[i];
        if (step->what[0] == '\0') {
            continue;
        }
        out_colour(out, step->answer == STEP_DONE      ? COLOUR_GOOD
                        : step->answer == STEP_MISSING ? COLOUR_BAD
                                                       : COLOUR_HEAD);
        out_print(out, "%-10s %-8s", step_names[i],
                  step->answer == STEP_NONE ? "-" : step_answers[step->answer]);
        out_colour(out, COLOUR_NONE);
        if (step->offset > 0) {
            out_print(out, " %*" PRIu64 " ", offset_width, step->offset);
        } else {
            out_print(out, " %*s ", offset_width, "-");
        }
        const size_t width = out->local ? 28 : 24;
        const size_t time = out_time(out, step->time_ms);
        out_pad(out, time < width ? width - time + 1 : 1);
        out_plain(out, step->what, 0);
        out_character(out, '\n');
    }
    out_character(out, '\n');
    if (open != STEPS) {
        out_print(out, "The first that is not proved: %s.", step_names[open]);
    }
    const char *text = conclusion(journey);
    out_print(out, "%s%s\n", open != STEPS && text[0] != '\0' ? " " : "",
              open == STEPS && text[0] == '\0' ? "Nothing is missing." : text);
}

/* Whose log it is: by its state, else by its frames. */
static bool view_is_edge(struct view *view, const struct state *state)
{
    struct log_frame frame;
    if (state->machine != STATE_NONE) {
        return state->machine == STATE_EDGE;
    }
    return view->inspect.frames > 0 &&
           view_frame(view, view->inspect.index_first, &frame) == OPTIONS_EXIT_OK &&
           frame.type >= LOG_TYPE_DOWN;
}

static void journey_free(struct journey *journey)
{
    struct met *mets[] = {&journey->wish,  &journey->status, &journey->attempt,
                          &journey->ended, &journey->ack,    &journey->former};
    for (size_t i = 0; i < sizeof mets / sizeof mets[0]; i++) {
        free((void *)(uintptr_t)mets[i]->record.data);
    }
    keys_close(&journey->keys);
}

static int journey_run(struct ask *ask, struct journey *journey)
{
    int code = keys_open(&journey->keys, journey->view);
    if (code == OPTIONS_EXIT_OK) {
        code =
            keys_find(&journey->keys, journey->key, KEYS_NEWEST_FIRST, journey_on_frame, journey);
    }
    if (code != OPTIONS_EXIT_OK) {
        return code;
    }
    if (!journey->wish.is) {
        code = view_damage(journey->view);
        struct out message;
        out_init(&message, -1);
        out_plain(&message, journey->key, 0);
        const bool since = journey->status.is || journey->attempt.is;
        fprintf(stderr, "%s: no wish for %.*s in %s, which begins at offset %" PRIu64 "%s\n",
                ask->command, (int)message.size, (const char *)message.data, journey->view->log,
                journey->view->inspect.index_first,
                since && journey->view->inspect.index_first > 1
                    ? ": it is older than what is kept; 'kelp log find' shows what was reported of "
                      "it since"
                : since ? ": nobody wished it here; 'kelp log find' shows what was reported of it"
                : journey->view->inspect.damage_status != 0 ? ", up to the damage"
                : view_is_edge(journey->view, journey->state)
                    ? ": this node was not told of it; ask the directory of a cloudcore"
                : journey->view->inspect.index_first > 1
                    ? ": a wish that is older is not kept any more"
                    : "");
        key_hint(journey->key);
        out_deinit(&message);
        return code == OPTIONS_EXIT_OK ? OPTIONS_EXIT_NOTHING : code;
    }
    if (journey->wish.uid[0] !=
        '\0') { /* what an earlier object under this key did is not of this journey */
        struct met *others[] = {&journey->status, &journey->attempt};
        for (size_t i = 0; i < 2; i++) {
            others[i]->is = others[i]->is && (others[i]->uid[0] == '\0' ||
                                              strcmp(others[i]->uid, journey->wish.uid) == 0);
        }
    }
    if (!journey->status.is && !journey->attempt.is && !journey->ended.is && journey->former.is) {
        journey->status = journey->former;
        journey->former = (struct met){.is = false};
        journey->unchanged = true;
    }
    journey->edge = view_is_edge(journey->view, journey->state);
    if (journey->edge) {
        edge_journey(journey);
    } else {
        cloud_journey(journey);
    }
    if (ask->form == FORM_JSON || ask->form == FORM_JSONL) {
        why_json(ask->out, journey);
    } else {
        why_text(ask->out, journey);
    }
    return view_damage(journey->view); /* what lies behind it is not told */
}

int log_why(struct ask *ask)
{
    struct view view;
    struct state state = {0};
    struct journey journey = {.view = &view, .state = &state};
    if (!key_complete(ask->words.items[0], journey.key)) {
        fprintf(stderr, "%s: a key has 1 .. %u bytes\n", ask->command, LIMIT_KEY_BYTES);
        return OPTIONS_EXIT_USAGE;
    }
    int code = view_open(&view, ask->command, ask->words.items[1], INSPECT_QUICK, ask->out);
    if (code == OPTIONS_EXIT_OK) {
        state_open(&state, &view);
        state_ask(&state, &view);
        state_fold(&state, &view, view_is_edge(&view, &state));
        code = view_ending(&view, journey_run(ask, &journey));
        journey_free(&journey);
        state_close(&state);
    }
    view_close(&view);
    return code;
}
