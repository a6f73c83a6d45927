/* The end of an object: who wished it, when the record that took it away does not say so.
 *
 * A deletion is an update with a deletion time, by somebody; what then takes the object away (the last finalizer goes,
 * a namespace is emptied) is done by a cloudcore on its own.
 */
#include "nodes/cli/log_journey.h"

#include "statemachine/object.h"

#include <inttypes.h>
#include <stdio.h>

struct deletion {
    struct journey *journey;
    const char *key;
    struct codec *codec;
    uint64_t offset; /* of the record that marked it; 0: not found */
    char origin[LIMIT_NAME_BYTES + 1];
    char user[LIMIT_IDENTITY_NAME_BYTES + 1];
    int64_t last_ms;
    bool done;
};

static int deletion_on_item(void *context, const struct item *item)
{
    struct deletion *deletion = context;
    if (!item->decoded || item->record.kind != RECORD_OBJECT_PUT ||
        item->offset > deletion->journey->wish.offset || strcmp(item->key, deletion->key) != 0) {
        return 0;
    }
    if (item->put == NULL || item->put->object.deletion_time_ms == 0) {
        deletion->done = true; /* as it was before */
        return 0;
    }
    deletion->offset = item->offset;
    snprintf(deletion->origin, sizeof deletion->origin, "%.253s", item->origin);
    snprintf(deletion->user, sizeof deletion->user, "%s", item->user);
    return 0;
}

static int deletion_on_frame(void *context, const struct log_frame *frame)
{
    struct deletion *deletion = context;
    if (deletion->done) {
        return 1;
    }
    (void)items_walk(deletion->codec, frame, &deletion->last_ms, deletion_on_item, deletion);
    return 0;
}

/* The record that began the deletion of an object, going back from the wish. */
static bool deletion_find(struct journey *journey, const char *key, struct deletion *out)
{
    *out = (struct deletion){.journey = journey, .key = key, .codec = journey->view->codec};
    (void)keys_find(&journey->keys, key, KEYS_NEWEST_FIRST, deletion_on_frame, out);
    return out->offset != 0;
}

static void deletion_text(const struct deletion *deletion, char *text, size_t size)
{
    snprintf(text, size, "deleted at offset %" PRIu64 " by %.100s%s%.64s", deletion->offset,
             deletion->origin[0] == '\0' ? "the cloud" : deletion->origin,
             deletion->user[0] == '\0' ? "" : " for ", deletion->user);
}

void journey_deletion(struct journey *journey, char *text, size_t size)
{
    char key[LIMIT_KEY_BYTES + 2];
    char deleted[256];
    struct deletion deletion;
    const struct key_parts parts = key_split(journey->key);
    text[0] = '\0';
    if (!journey_removes(journey) || journey->wish.user[0] != '\0') {
        return; /* it says so itself */
    }
    if (deletion_find(journey, journey->key, &deletion)) {
        deletion_text(&deletion, deleted, sizeof deleted);
        snprintf(text, size, "; %s", deleted);
        return;
    }
    snprintf(key, sizeof key, "/namespaces//%.*s", (int)parts.namespace.size,
             (const char *)parts.namespace.data);
    if (parts.namespace.size > 0 && deletion_find(journey, key, &deletion)) {
        deletion_text(&deletion, deleted, sizeof deleted);
        snprintf(text, size, "; with its namespace, %s", deleted);
    }
}

/* Going back from a creation: what took the one before away, and who marked that, until it was as it was before. */
static int predecessor_on_item(void *context, const struct item *item)
{
    struct deletion *end = context;
    if (!item->decoded || item->offset >= end->journey->wish.offset ||
        strcmp(item->key, end->key) != 0) {
        return 0;
    }
    const bool removes = item->record.kind == RECORD_OBJECT_REMOVE;
    const bool marks = item->record.kind == RECORD_OBJECT_PUT && item->put != NULL &&
                       item->put->object.deletion_time_ms != 0;
    if (removes || marks) {
        end->offset = item->offset;
        snprintf(end->origin, sizeof end->origin, "%.253s", item->origin);
        snprintf(end->user, sizeof end->user, "%s", item->user);
        end->done = removes && item->user[0] != '\0';
    } else if (item->record.kind == RECORD_OBJECT_PUT) {
        end->done = true;
    }
    return 0;
}

static int predecessor_on_frame(void *context, const struct log_frame *frame)
{
    struct deletion *end = context;
    if (end->done) {
        return 1;
    }
    (void)items_walk(end->codec, frame, &end->last_ms, predecessor_on_item, end);
    return 0;
}

void journey_predecessor(struct journey *journey, char *text, size_t size)
{
    char deleted[256];
    struct deletion end = {.journey = journey, .key = journey->key, .codec = journey->view->codec};
    text[0] = '\0';
    if (strcmp(journey->wish.op, "create") != 0) {
        return;
    }
    (void)keys_find(&journey->keys, journey->key, KEYS_NEWEST_FIRST, predecessor_on_frame, &end);
    if (end.offset != 0) {
        deletion_text(&end, deleted, sizeof deleted);
        snprintf(text, size, "; another one of this name was %s", deleted);
    }
}

bool journey_finalized(struct journey *journey)
{
    struct codec *codec = codec_create();
    struct deletion deletion;
    struct object_put put;
    struct record record;
    struct object_row row;
    char deleted[256] = "";
    const bool gone =
        !journey_removes(journey) && codec_record_read(codec, journey->wish.record, &record) == 0 &&
        codec_object_put_read(codec, record.body, &put) == 0 && put.object.deletion_time_ms != 0 &&
        put.object.finalizer_count == 0 &&
        object_get(store_live(journey->state->store), bytes_text(journey->key), &row) ==
            OBJECT_NONE;
    codec_destroy(codec);
    if (!gone) {
        return false;
    }
    if (deletion_find(journey, journey->key, &deletion)) {
        deletion_text(&deletion, deleted, sizeof deleted);
    }
    journey_tell(journey, COMMITTED, STEP_DONE, 0, 0,
                 "it had a time of deletion and nothing to wait for any more, so it went%s%s",
                 deleted[0] == '\0' ? "" : "; ", deleted);
    return true;
}
