/* Wishes, facts and verdicts: what may change them, and the one version that counts all changes.
 *
 * When an object goes:
 *
 *   - OBJECT_REMOVE, if it has no finalizers. For a pod this is the forced way: nobody waits for the
 *     node. A namespace goes last, when nothing is in it any more.
 *   - OBJECT_PUT that leaves it with a deletion time and without finalizers, unless it is a pod that
 *     an existing node has not ended yet: then the wish is written, so that the node hears of it.
 *   - POD_ENDED of a pod that has a deletion time and no finalizers.
 *   - the Node object it is bound to goes (pods without finalizers).
 */
#include "statemachine/apply.h"

/* -- what an envelope must be ------------------------------------------------------------------ */

static bool object_name_fits(const char *name, bool required)
{
    const size_t size = strlen(name);
    return size <= LIMIT_NAME_BYTES && (size > 0 || !required) && strchr(name, '/') == NULL;
}

/* Whether the envelope is one of an object with this key. */
static bool object_sound(const struct object *object, struct bytes key)
{
    if (key.size == 0 || key.size > LIMIT_KEY_BYTES || !object_name_fits(object->group, false) ||
        !object_name_fits(object->resource, true) || !object_name_fits(object->namespace_, false) ||
        !object_name_fits(object->name, true) || !object_name_fits(object->uid, true) ||
        !object_name_fits(object->node_name, false)) {
        return false;
    }
    const char *const parts[] = {object->group, object->resource, object->namespace_, object->name};
    size_t at = 0;
    for (unsigned i = 0; i < 4; i++) {
        const struct bytes part = bytes_text(parts[i]);
        if (i > 0) {
            if (at == key.size || key.data[at] != '/') {
                return false;
            }
            at++;
        }
        if (key.size - at < part.size ||
            (part.size > 0 && memcmp(key.data + at, part.data, part.size) != 0)) {
            return false;
        }
        at += part.size;
    }
    if (at != key.size) {
        return false;
    }
    for (uint32_t i = 0; i < object->reference_count; i++) {
        const struct reference *reference = &object->references[i];
        if (!object_name_fits(reference->name, true) ||
            (strcmp(reference->resource, "configmaps") != 0 &&
             strcmp(reference->resource, "secrets") != 0)) {
            return false;
        }
    }
    /* what other rows are found by: the core kinds live where Kubernetes has them */
    const bool in_namespace = object->namespace_[0] != '\0';
    if (object_is(object, "pods") || object_is(object, "configmaps") ||
        object_is(object, "secrets")) {
        return in_namespace;
    }
    return !in_namespace || (!object_is(object, "nodes") && !object_is(object, "namespaces"));
}

static bool object_same_texts(const char *const *a, uint32_t a_count, const char *const *b,
                              uint32_t b_count)
{
    if (a_count != b_count) {
        return false;
    }
    for (uint32_t i = 0; i < a_count; i++) {
        if (strcmp(a[i], b[i]) != 0) {
            return false;
        }
    }
    return true;
}

static bool object_same_device(const struct device_wish *a, const struct device_wish *b)
{
    if (a == NULL || b == NULL) {
        return a == b;
    }
    if (a->keep_values != b->keep_values || strcmp(a->description, b->description) != 0 ||
        a->property_count != b->property_count) {
        return false;
    }
    for (uint32_t i = 0; i < a->property_count; i++) {
        const struct device_property *p = &a->properties[i];
        const struct device_property *q = &b->properties[i];
        if (p->revision != q->revision || p->has_desired != q->has_desired ||
            p->optional != q->optional || strcmp(p->name, q->name) != 0 ||
            strcmp(p->type, q->type) != 0 || strcmp(p->desired, q->desired) != 0) {
            return false;
        }
    }
    return true;
}

/* Nothing that anybody could see differs. Sealed bodies differ each time they are sealed: their tag
 * speaks for them. */
static bool object_same(const struct object *a, const struct object *b)
{
    if (strcmp(a->version, b->version) != 0 || strcmp(a->kind, b->kind) != 0 ||
        strcmp(a->uid, b->uid) != 0 || strcmp(a->node_name, b->node_name) != 0 ||
        a->deletion_time_ms != b->deletion_time_ms || a->deletion_grace_s != b->deletion_grace_s ||
        a->generation != b->generation || a->request_cpu_milli != b->request_cpu_milli ||
        a->request_memory_bytes != b->request_memory_bytes || a->seal_key != b->seal_key ||
        !tag_equal(a->tag, b->tag) || a->label_count != b->label_count ||
        a->reference_count != b->reference_count) {
        return false;
    }
    if (!object_same_texts(a->owners, a->owner_count, b->owners, b->owner_count) ||
        !object_same_texts(a->finalizers, a->finalizer_count, b->finalizers, b->finalizer_count)) {
        return false;
    }
    for (uint32_t i = 0; i < a->label_count; i++) {
        if (strcmp(a->labels[i].key, b->labels[i].key) != 0 ||
            strcmp(a->labels[i].value, b->labels[i].value) != 0) {
            return false;
        }
    }
    for (uint32_t i = 0; i < a->reference_count; i++) {
        if (strcmp(a->references[i].resource, b->references[i].resource) != 0 ||
            strcmp(a->references[i].name, b->references[i].name) != 0 ||
            a->references[i].optional != b->references[i].optional) {
            return false;
        }
    }
    return object_same_device(a->device, b->device) &&
           (a->seal_key != 0 || bytes_equal(a->json, b->json));
}

/* -- namespaces -------------------------------------------------------------------------------- */

static struct row_key object_namespace_count_key(const char *namespace_)
{
    return row_key_pair(bytes_text("namespace"), bytes_text(namespace_));
}

static void object_count(struct machine *machine, const struct object *object, int64_t difference)
{
    machine->meta.object_count += (uint64_t)difference;
    if (object->namespace_[0] != '\0') {
        const struct row_key key = object_namespace_count_key(object->namespace_);
        row_add(machine, TABLE_META, row_key_bytes(&key), difference);
    }
}

/* Objects in the namespace that this object is; 0 for all others. */
static uint64_t object_content_count(struct machine *machine, const struct object *object)
{
    if (!object_is(object, "namespaces")) {
        return 0;
    }
    const struct row_key key = object_namespace_count_key(object->name);
    return row_get_u64(machine, TABLE_META, row_key_bytes(&key));
}

static enum outcome object_check_namespace(struct machine *machine, const struct object *object)
{
    if (object->namespace_[0] == '\0') {
        return ACCEPTED;
    }
    struct row_key key = {.size = 0};
    row_key_add(&key, bytes_text("/namespaces//"));
    row_key_add(&key, bytes_text(object->namespace_));
    struct part_value part;
    if (!part_get(machine, PART_WISH, row_key_bytes(&key), &part)) {
        return REFUSED_NAMESPACE_MISSING;
    }
    return (part.flags & PART_DYING) != 0 ? REFUSED_NAMESPACE_TERMINATING : ACCEPTED;
}

/* -- wishes ------------------------------------------------------------------------------------ */

bool object_find(struct machine *machine, struct bytes key, struct part_value *out_part,
                 struct object *out_object)
{
    if (!part_get(machine, PART_WISH, key, out_part)) {
        return false;
    }
    struct object_put put;
    if (codec_object_put_read(machine->codec, out_part->body, &put) != STATUS_OK) {
        machine->failed = STATUS_CORRUPT;
        return false;
    }
    *out_object = put.object;
    return true;
}

uint64_t object_erase(struct machine *machine, struct bytes key, const struct object *object,
                      const struct arrival *arrival)
{
    uint32_t parts = 0;
    struct bytes before[PARTS];
    for (unsigned i = 0; i < PARTS; i++) {
        struct part_value part;
        if (part_get(machine, (enum part)i, key, &part)) {
            parts |= 1u << i;
            store_remove(machine->store, part_table((enum part)i), key);
        }
        before[i] = part.value;
    }
    CHECK_IF(machine->failed == STATUS_OK, (parts & (1u << PART_WISH)) != 0);

    const uint64_t version = change_next_version(machine);
    change_write(machine, CHANGE_DELETED, key, parts, before);
    object_count(machine, object, -1);
    delivery_remove(machine, key, object, arrival);
    return version;
}

/* Whether a pod's node must still say that its containers are gone. */
static bool object_awaits_end(struct machine *machine, struct bytes key,
                              const struct object *object)
{
    if (!object_is(object, "pods") || object->node_name[0] == '\0' ||
        node_find(machine, bytes_text(object->node_name)) == NULL) {
        return false;
    }
    struct part_value fact;
    return !part_get(machine, PART_FACT, key, &fact) || (fact.flags & PART_ENDED) == 0;
}

/* Preconditions of a write to what is there now, or is not. */
static struct machine_result object_check(const struct machine *machine, bool found,
                                          const struct part_value *part,
                                          const struct object *object, uint64_t if_version,
                                          const char *if_uid)
{
    const bool conditional = if_version != 0 || if_uid[0] != '\0';
    if (!found) {
        return result_of(conditional ? REFUSED_MISSING : ACCEPTED, 0);
    }
    if (if_uid[0] != '\0' && strcmp(if_uid, object->uid) != 0) {
        return result_of(REFUSED_UID, part->version);
    }
    /* Any version since the wish was written tells the same wish: facts and verdicts that came
     * meanwhile are no conflict. */
    if (if_version != 0 && (if_version < part->version || if_version > machine->meta.version)) {
        return result_of(REFUSED_CONFLICT, part->version);
    }
    return result_of(ACCEPTED, part->version);
}

/* Bounds of what an object may be and of how many there may be. */
static struct machine_result object_check_limits(struct machine *machine,
                                                 const struct object *before,
                                                 const struct object *object)
{
    const int64_t *settings = machine->settings;
    if (object->reference_count > (uint64_t)settings[SETTING_REFERENCES_MAX]) {
        return result_of(REFUSED_LIMIT, (uint64_t)settings[SETTING_REFERENCES_MAX]);
    }
    if (before == NULL && machine->meta.object_count >= (uint64_t)settings[SETTING_OBJECTS_MAX]) {
        return result_of(REFUSED_LIMIT, (uint64_t)settings[SETTING_OBJECTS_MAX]);
    }
    if (before == NULL && object_is(object, "nodes") &&
        machine->meta.node_count >= (uint64_t)settings[SETTING_NODES_MAX]) {
        return result_of(REFUSED_LIMIT, (uint64_t)settings[SETTING_NODES_MAX]);
    }
    const bool binds = object_is(object, "pods") && object->node_name[0] != '\0' &&
                       (before == NULL || strcmp(before->node_name, object->node_name) != 0);
    if (binds && delivery_bound_count(machine, object->node_name) >=
                     (uint64_t)settings[SETTING_NODE_PODS_MAX]) {
        return result_of(REFUSED_LIMIT, (uint64_t)settings[SETTING_NODE_PODS_MAX]);
    }
    return result_of(ACCEPTED, 0);
}

/* Write the wish. CHECK: nothing forbids it. */
static uint64_t object_write(struct machine *machine, struct bytes key,
                             const struct part_value *part, const struct object *before,
                             const struct object *object, const struct arrival *arrival)
{
    const uint64_t version = change_next_version(machine);
    uint32_t parts = 1u << PART_WISH;
    struct bytes was[PARTS] = {[PART_WISH] = part->value};
    const bool moved = before != NULL && before->node_name[0] != '\0' &&
                       strcmp(before->node_name, object->node_name) != 0;
    if (moved) { /* what the old node said of it says nothing any more */
        struct part_value fact;
        if (part_get(machine, PART_FACT, key, &fact)) {
            parts |= 1u << PART_FACT;
            was[PART_FACT] = fact.value;
            store_remove(machine->store, TABLE_FACT, key);
        }
    }
    const struct part_value value = {
        .version = version,
        .created_version = before == NULL ? version : part->created_version,
        .flags = object->deletion_time_ms != 0 ? PART_DYING : 0,
        .record = arrival->bytes,
        .body = arrival->record->body,
    };
    part_put(machine, PART_WISH, key, &value);
    change_write(machine, before == NULL ? CHANGE_ADDED : CHANGE_MODIFIED, key, parts, was);
    if (before == NULL) {
        object_count(machine, object, 1);
        if (strcmp(object->resource, "events") == 0) {
            event_note_object(machine, key, version);
        }
    }
    delivery_put(machine, key, before, object, arrival);
    return version;
}

/* OBJECT_PUT: somebody wants the object to be so. */
struct machine_result object_apply_put(struct machine *machine, const struct arrival *arrival)
{
    const struct bytes key = bytes_text(arrival->record->key);
    struct object_put put;
    if (codec_object_put_read(machine->codec, arrival->record->body, &put) != STATUS_OK ||
        !object_sound(&put.object, key)) {
        return result_of(REFUSED_MALFORMED, 0);
    }
    if (arrival->bytes.size > LIMIT_RECORD_BYTES) {
        return result_of(REFUSED_LIMIT, LIMIT_RECORD_BYTES);
    }
    const struct object *object = &put.object;
    struct part_value part;
    struct object present;
    const bool found = object_find(machine, key, &part, &present);
    const struct object *before = found ? &present : NULL;
    if (found && put.mode == PUT_CREATE) {
        return result_of(REFUSED_EXISTS, part.version);
    }
    if (!found && put.mode == PUT_UPDATE) {
        return result_of(REFUSED_MISSING, 0);
    }
    struct machine_result result =
        object_check(machine, found, &part, before, put.if_version, put.if_uid);
    if (result.outcome != ACCEPTED) {
        return result;
    }
    if (found && strcmp(present.uid, object->uid) != 0) {
        return result_of(REFUSED_UID, part.version); /* another object: the old one goes first */
    }
    if (!found && object->deletion_time_ms != 0) {
        return result_of(REFUSED_MALFORMED, 0); /* nothing is born dying */
    }
    const enum outcome namespace_outcome =
        found ? ACCEPTED : object_check_namespace(machine, object);
    if (namespace_outcome != ACCEPTED) {
        return result_of(namespace_outcome, 0);
    }
    if (found && object_same(before, object)) {
        return result_of(ACCEPTED_UNCHANGED, part.version);
    }
    result = object_check_limits(machine, before, object);
    if (result.outcome != ACCEPTED) {
        return result;
    }
    const bool dies = found && object->deletion_time_ms != 0 && object->finalizer_count == 0;
    if (!dies || object_awaits_end(machine, key, before)) {
        return result_of(ACCEPTED, object_write(machine, key, &part, before, object, arrival));
    }
    const uint64_t content = object_content_count(machine, object);
    if (content > 0) {
        return result_of(REFUSED_NOT_EMPTY, content);
    }
    return result_of(ACCEPTED, object_erase(machine, key, before, arrival));
}

/* OBJECT_REMOVE: it goes now. */
struct machine_result object_apply_remove(struct machine *machine, const struct arrival *arrival)
{
    const struct bytes key = bytes_text(arrival->record->key);
    struct object_remove remove;
    if (codec_object_remove_read(machine->codec, arrival->record->body, &remove) != STATUS_OK ||
        key.size == 0 || key.size > LIMIT_KEY_BYTES || remove.reason != REMOVE_DELETED) {
        return result_of(REFUSED_MALFORMED, 0);
    }
    struct part_value part;
    struct object object;
    if (!object_find(machine, key, &part, &object)) {
        return result_of(REFUSED_MISSING, 0);
    }
    const struct machine_result result =
        object_check(machine, true, &part, &object, remove.if_version, remove.if_uid);
    if (result.outcome != ACCEPTED) {
        return result;
    }
    if (object.finalizer_count > 0) {
        return result_of(REFUSED_FINALIZERS, part.version);
    }
    const uint64_t content = object_content_count(machine, &object);
    if (content > 0) {
        return result_of(REFUSED_NOT_EMPTY, content);
    }
    return result_of(ACCEPTED, object_erase(machine, key, &object, arrival));
}

/* -- facts and verdicts ------------------------------------------------------------------------ */

/* Write a fact or a verdict. */
static struct machine_result object_write_part(struct machine *machine, enum part which,
                                               struct bytes key, const struct part_value *before,
                                               struct bytes record, struct bytes body,
                                               uint64_t flags)
{
    if (before->value.size > 0 && before->flags == flags && bytes_equal(before->body, body)) {
        return result_of(ACCEPTED_UNCHANGED, before->version);
    }
    const uint64_t version = change_next_version(machine);
    const struct part_value value = {
        .version = version,
        .created_version = before->value.size > 0 ? before->created_version : version,
        .flags = flags,
        .record = record,
        .body = body,
    };
    struct bytes was[PARTS] = {{0}};
    was[which] = before->value;
    part_put(machine, which, key, &value);
    change_write(machine, CHANGE_MODIFIED, key, 1u << which, was);
    return result_of(ACCEPTED, version);
}

/* VERDICT: the cloud concludes something of an object. */
struct machine_result object_apply_verdict(struct machine *machine, const struct arrival *arrival)
{
    const struct bytes key = bytes_text(arrival->record->key);
    struct verdict verdict;
    if (codec_verdict_read(machine->codec, arrival->record->body, &verdict) != STATUS_OK ||
        key.size == 0 || key.size > LIMIT_KEY_BYTES) {
        return result_of(REFUSED_MALFORMED, 0);
    }
    if (arrival->bytes.size > LIMIT_FACT_BYTES) {
        return result_of(REFUSED_LIMIT, LIMIT_FACT_BYTES);
    }
    struct part_value wish;
    struct object object;
    if (!object_find(machine, key, &wish, &object)) {
        return result_of(REFUSED_MISSING, 0);
    }
    if (strcmp(verdict.uid, object.uid) != 0) {
        return result_of(REFUSED_UID, wish.version);
    }
    struct part_value before;
    part_get(machine, PART_VERDICT, key, &before);
    return object_write_part(machine, PART_VERDICT, key, &before, arrival->bytes,
                             arrival->record->body, 0);
}

/* POD_ENDED: the containers of this uid are gone for good. */
static struct machine_result object_end(struct machine *machine, struct bytes key,
                                        const struct object *object, const struct arrival *arrival)
{
    if (object->deletion_time_ms != 0 && object->finalizer_count == 0) {
        return result_of(ACCEPTED, object_erase(machine, key, object, arrival));
    }
    struct part_value before;
    part_get(machine, PART_FACT, key, &before);
    return object_write_part(machine, PART_FACT, key, &before, before.record, before.body,
                             before.flags | PART_ENDED);
}

struct machine_result object_apply_fact(struct machine *machine, const char *node,
                                        const struct arrival *arrival)
{
    const uint16_t kind = arrival->record->kind;
    const struct bytes key = bytes_text(arrival->record->key);
    struct pod_status pod = {.uid = ""};
    struct pod_ended ended = {.uid = ""};
    struct device_status device = {.uid = ""};
    struct node_status status;
    int read = STATUS_MALFORMED;
    if (kind == RECORD_POD_STATUS) {
        read = codec_pod_status_read(machine->codec, arrival->record->body, &pod);
    } else if (kind == RECORD_POD_ENDED) {
        read = codec_pod_ended_read(machine->codec, arrival->record->body, &ended);
    } else if (kind == RECORD_DEVICE_STATUS) {
        read = codec_device_status_read(machine->codec, arrival->record->body, &device);
    } else if (kind == RECORD_NODE_STATUS) {
        read = codec_node_status_read(machine->codec, arrival->record->body, &status);
    }
    if (read != STATUS_OK || key.size == 0 || key.size > LIMIT_KEY_BYTES) {
        return result_of(REFUSED_MALFORMED, 0);
    }
    if (arrival->bytes.size > LIMIT_FACT_BYTES) {
        return result_of(REFUSED_LIMIT, LIMIT_FACT_BYTES);
    }
    if (!access_allows_fact(node, kind, arrival->record->key)) {
        return result_of(REFUSED_OWNER, 0);
    }
    struct part_value wish;
    struct object object;
    if (!object_find(machine, key, &wish, &object)) {
        return result_of(REFUSED_MISSING, 0);
    }
    if (kind != RECORD_NODE_STATUS) {
        const char *uid = kind == RECORD_POD_STATUS  ? pod.uid
                          : kind == RECORD_POD_ENDED ? ended.uid
                                                     : device.uid;
        if (strcmp(uid, object.uid) != 0) {
            return result_of(REFUSED_UID, wish.version);
        }
        if (strcmp(node, object.node_name) != 0) {
            return result_of(REFUSED_OWNER, wish.version);
        }
    }
    if (kind == RECORD_POD_ENDED) {
        return object_end(machine, key, &object, arrival);
    }

    struct part_value before;
    part_get(machine, PART_FACT, key, &before);
    return object_write_part(machine, PART_FACT, key, &before, arrival->bytes,
                             arrival->record->body, before.flags);
}
