/* Pods at the edge: attempts, and facts about them and about the node. */
#include "statemachine/edge_body.h"

#include "schemas/check.h"

static bool edge_key_fits(const char *key)
{
    const size_t size = strlen(key);
    return size > 0 && size <= LIMIT_KEY_BYTES;
}

static bool edge_uid_fits(const char *uid)
{
    const size_t size = strlen(uid);
    return size > 0 && size <= LIMIT_NAME_BYTES;
}

/* uid \0 container, in `memory`. */
#define EDGE_ATTEMPT_KEY_BYTES (2 * LIMIT_NAME_BYTES + 1)
static struct bytes edge_attempt_key(uint8_t memory[static EDGE_ATTEMPT_KEY_BYTES], const char *uid,
                                     const char *container)
{
    const size_t uid_size = strlen(uid);
    const size_t container_size = strlen(container);
    CHECK(uid_size <= LIMIT_NAME_BYTES);
    CHECK(container_size <= LIMIT_NAME_BYTES);
    memcpy(memory, uid, uid_size + 1);
    memcpy(memory + uid_size + 1, container, container_size);
    return bytes_of(memory, uid_size + 1 + container_size);
}

/* Refuse the fact unless its pod is wished.
 *   answers  STATUS_OK; STORE_NONE: refused; negative */
static int edge_pod_wished(struct edge_machine *machine, const char *key, const char *uid)
{
    const int status = edge_wish_match(machine, key, uid);
    if (status == STORE_NONE) {
        edge_refuse(machine, EDGE_REFUSED_NO_POD);
    }
    return status;
}

/* The newest attempt recorded for a container.
 *   answers  STATUS_OK; STORE_NONE; negative */
static int edge_attempt_find(struct edge_machine *machine, struct bytes key,
                             struct pod_attempt *out)
{
    struct bytes row;
    const int status = store_get(store_live(machine->store), EDGE_TABLE_ATTEMPT, key, &row);
    if (status != STATUS_OK) {
        return status;
    }
    struct record record;
    return codec_record_read(machine->codec, row, &record) == STATUS_OK &&
                   codec_pod_attempt_read(machine->codec, record.body, out) == STATUS_OK
               ? STATUS_OK
               : STATUS_CORRUPT;
}

/* Rows of a uid in ATTEMPT. */
static int edge_attempt_count(struct edge_machine *machine, const char *uid, uint32_t *out_count)
{
    uint8_t memory[EDGE_ATTEMPT_KEY_BYTES];
    struct store_iterator *iterator = store_iterate(store_live(machine->store), EDGE_TABLE_ATTEMPT,
                                                    edge_attempt_key(memory, uid, ""));
    *out_count = 0;
    for (bool on = store_iterator_first(iterator); on; on = store_iterator_next(iterator)) {
        *out_count += 1;
    }
    const int status = store_iterator_status(iterator);
    store_iterator_close(iterator);
    return status;
}

/* POD_ATTEMPT: a container may be created for the n-th time once this is applied. The number only
 * rises; the same again means the same. */
int edge_pod_attempt_apply(struct edge_machine *machine, struct bytes bytes,
                           const struct record *record)
{
    struct pod_attempt attempt;
    if (!edge_key_fits(record->key) ||
        codec_pod_attempt_read(machine->codec, record->body, &attempt) != STATUS_OK ||
        !edge_uid_fits(attempt.uid) || strlen(attempt.container) > LIMIT_NAME_BYTES) {
        edge_refuse(machine, EDGE_REFUSED_MALFORMED);
        return STATUS_OK;
    }
    int status = edge_pod_wished(machine, record->key, attempt.uid);
    if (status != STATUS_OK) {
        return status < 0 ? status : STATUS_OK;
    }
    uint8_t memory[EDGE_ATTEMPT_KEY_BYTES];
    const struct bytes key = edge_attempt_key(memory, attempt.uid, attempt.container);
    struct pod_attempt old;
    status = edge_attempt_find(machine, key, &old);
    if (status < 0) {
        return status;
    }
    if (status == STATUS_OK && attempt.attempt <= old.attempt) {
        const bool same = attempt.attempt == old.attempt && attempt.hash == old.hash;
        machine->applied->outcome = same ? EDGE_DUPLICATE : EDGE_REFUSED_STALE;
        return STATUS_OK;
    }
    if (status == STORE_NONE) {
        uint32_t count;
        status = edge_attempt_count(machine, attempt.uid, &count);
        if (status < 0) {
            return status;
        }
        if (count > LIMIT_POD_CONTAINERS) { /* and one for the sandbox */
            edge_refuse(machine, EDGE_REFUSED_FULL);
            return STATUS_OK;
        }
    }

    store_put(machine->store, EDGE_TABLE_ATTEMPT, key, bytes);
    return STATUS_OK;
}

int edge_pod_status_apply(struct edge_machine *machine, struct bytes bytes,
                          const struct record *record)
{
    struct pod_status pod;
    if (!edge_key_fits(record->key) ||
        codec_pod_status_read(machine->codec, record->body, &pod) != STATUS_OK ||
        !edge_uid_fits(pod.uid)) {
        edge_refuse(machine, EDGE_REFUSED_MALFORMED);
        return STATUS_OK;
    }
    const int status = edge_pod_wished(machine, record->key, pod.uid);
    if (status != STATUS_OK) {
        return status < 0 ? status : STATUS_OK;
    }

    store_put(machine->store, EDGE_TABLE_STATUS, bytes_text(record->key), bytes);
    return edge_up_append(machine, record->kind, bytes, record->key, pod.uid);
}

/* POD_ENDED: nothing of this pod is left here. Once per uid. */
int edge_pod_ended_apply(struct edge_machine *machine, struct bytes bytes,
                         const struct record *record)
{
    struct pod_ended ended;
    if (!edge_key_fits(record->key) ||
        codec_pod_ended_read(machine->codec, record->body, &ended) != STATUS_OK ||
        !edge_uid_fits(ended.uid)) {
        edge_refuse(machine, EDGE_REFUSED_MALFORMED);
        return STATUS_OK;
    }
    int status = edge_pod_wished(machine, record->key, ended.uid);
    if (status != STATUS_OK) {
        return status < 0 ? status : STATUS_OK;
    }
    status = store_find(store_live(machine->store), EDGE_TABLE_ENDED, bytes_text(ended.uid));
    if (status != STORE_NONE) {
        machine->applied->outcome = EDGE_DUPLICATE;
        return status;
    }

    store_put(machine->store, EDGE_TABLE_ENDED, bytes_text(ended.uid), bytes);
    return edge_up_append(machine, record->kind, bytes, record->key, ended.uid);
}

/* NODE_STATUS: of this node only, so that there is one row. */
int edge_node_status_apply(struct edge_machine *machine, struct bytes bytes,
                           const struct record *record)
{
    static const char prefix[] = "/nodes//";
    struct node_status node;
    if (codec_node_status_read(machine->codec, record->body, &node) != STATUS_OK) {
        edge_refuse(machine, EDGE_REFUSED_MALFORMED);
        return STATUS_OK;
    }
    if (!bytes_start_with(bytes_text(record->key), bytes_text(prefix)) ||
        strcmp(record->key + strlen(prefix), machine->meta.node) != 0) {
        edge_refuse(machine, EDGE_REFUSED_FOREIGN);
        return STATUS_OK;
    }

    store_put(machine->store, EDGE_TABLE_STATUS, bytes_text(record->key), bytes);
    return edge_up_append(machine, record->kind, bytes, record->key, "");
}

int edge_event_apply(struct edge_machine *machine, struct bytes bytes, const struct record *record)
{
    struct edge_event event;
    if (strlen(record->key) > LIMIT_KEY_BYTES ||
        codec_edge_event_read(machine->codec, record->body, &event) != STATUS_OK) {
        edge_refuse(machine, EDGE_REFUSED_MALFORMED);
        return STATUS_OK;
    }

    const int status = edge_up_append(machine, record->kind, bytes, record->key, NULL);
    return status < 0 ? status : edge_up_event_added(machine, bytes.size);
}

/* -- ends ---------------------------------------------------------------------------------------------- */

int edge_pod_forget(struct edge_machine *machine, const char *key, const char *uid)
{
    if (!edge_uid_fits(uid)) {
        return STATUS_OK; /* nothing was ever recorded of it */
    }
    uint8_t memory[EDGE_ATTEMPT_KEY_BYTES];
    int status =
        store_remove_prefix(machine->store, EDGE_TABLE_ATTEMPT, edge_attempt_key(memory, uid, ""));
    if (status < 0) {
        return status;
    }
    store_remove(machine->store, EDGE_TABLE_ENDED, bytes_text(uid));
    if (bytes_start_with(bytes_text(key), bytes_text("/pods/"))) {
        store_remove(machine->store, EDGE_TABLE_STATUS, bytes_text(key));
    }
    status = edge_up_withdraw(machine, RECORD_POD_STATUS, key, uid);
    return status < 0 ? status : edge_up_withdraw(machine, RECORD_POD_ENDED, key, uid);
}

/* The uid that a row of ATTEMPT, STATUS or ENDED is about; NULL: the node itself.
 *   answers  STATUS_OK; STATUS_CORRUPT */
static int edge_fact_read(struct edge_machine *machine, struct bytes row, uint16_t *out_kind,
                          const char **out_key, const char **out_uid)
{
    struct codec *codec = machine->codec;
    struct record record;
    if (codec_record_read(codec, codec_copy(codec, row), &record) != STATUS_OK) {
        return STATUS_CORRUPT;
    }
    *out_kind = record.kind;
    *out_key = record.key;
    *out_uid = NULL;
    int status = STATUS_OK;
    if (record.kind == RECORD_POD_ATTEMPT) {
        struct pod_attempt attempt;
        status = codec_pod_attempt_read(codec, record.body, &attempt);
        *out_uid = status == STATUS_OK ? attempt.uid : NULL;
    } else if (record.kind == RECORD_POD_STATUS) {
        struct pod_status pod;
        status = codec_pod_status_read(codec, record.body, &pod);
        *out_uid = status == STATUS_OK ? pod.uid : NULL;
    } else if (record.kind == RECORD_POD_ENDED) {
        struct pod_ended ended;
        status = codec_pod_ended_read(codec, record.body, &ended);
        *out_uid = status == STATUS_OK ? ended.uid : NULL;
    }
    return status == STATUS_OK ? STATUS_OK : STATUS_CORRUPT;
}

int edge_pods_forget_unwished(struct edge_machine *machine)
{
    const unsigned tables[] = {EDGE_TABLE_ATTEMPT, EDGE_TABLE_STATUS, EDGE_TABLE_ENDED};
    int status = STATUS_OK;
    for (size_t i = 0; i < sizeof tables / sizeof *tables && status == STATUS_OK; i++) {
        struct store_iterator *iterator =
            store_iterate(store_live(machine->store), tables[i], (struct bytes){0});
        bool on = store_iterator_first(iterator);
        while (on && status == STATUS_OK) {
            uint16_t kind;
            const char *key;
            const char *uid;
            status = edge_fact_read(machine, store_iterator_value(iterator), &kind, &key, &uid);
            if (status == STATUS_OK && uid != NULL) {
                status = edge_wish_match(machine, key, uid);
                if (status == STORE_NONE) { /* its rows in all three tables */
                    status = edge_pod_forget(machine, key, uid);
                    if (status == STATUS_OK && tables[i] == EDGE_TABLE_STATUS) {
                        store_remove(machine->store, tables[i], store_iterator_key(iterator));
                    }
                }
            }
            on = store_iterator_next(iterator);
        }
        if (status == STATUS_OK) {
            status = store_iterator_status(iterator);
        }
        store_iterator_close(iterator);
    }
    return status;
}

int edge_pods_retell(struct edge_machine *machine)
{
    const unsigned tables[] = {EDGE_TABLE_STATUS, EDGE_TABLE_ENDED};
    int status = STATUS_OK;
    for (size_t i = 0; i < sizeof tables / sizeof *tables && status == STATUS_OK; i++) {
        struct store_iterator *iterator =
            store_iterate(store_live(machine->store), tables[i], (struct bytes){0});
        bool on = store_iterator_first(iterator);
        while (on && status == STATUS_OK) {
            const struct bytes row = codec_copy(machine->codec, store_iterator_value(iterator));
            uint16_t kind;
            const char *key;
            const char *uid;
            status = edge_fact_read(machine, row, &kind, &key, &uid);
            if (status == STATUS_OK) {
                status = edge_up_append(machine, kind, row, key, uid == NULL ? "" : uid);
            }
            on = store_iterator_next(iterator);
        }
        if (status == STATUS_OK) {
            status = store_iterator_status(iterator);
        }
        store_iterator_close(iterator);
    }
    return status;
}

/* -- readers ------------------------------------------------------------------------------------------- */

int edge_attempts_list(struct edge_machine *machine, const char *uid, struct codec *codec,
                       const struct pod_attempt **out, uint32_t *out_count)
{
    *out = NULL;
    *out_count = 0;
    if (!edge_uid_fits(uid)) {
        return STATUS_OK;
    }
    uint8_t memory[EDGE_ATTEMPT_KEY_BYTES];
    struct store_iterator *iterator = store_iterate(store_live(machine->store), EDGE_TABLE_ATTEMPT,
                                                    edge_attempt_key(memory, uid, ""));
    struct pod_attempt *attempts = NULL;
    int status = STATUS_OK;
    for (bool on = store_iterator_first(iterator); on && status == STATUS_OK;
         on = store_iterator_next(iterator)) {
        if (attempts == NULL) {
            attempts = codec_array(codec, LIMIT_POD_CONTAINERS + 1, sizeof *attempts);
        }
        CHECK(*out_count <= LIMIT_POD_CONTAINERS);
        struct record record;
        const struct bytes row = codec_copy(codec, store_iterator_value(iterator));
        if (codec_record_read(codec, row, &record) != STATUS_OK ||
            codec_pod_attempt_read(codec, record.body, &attempts[*out_count]) != STATUS_OK) {
            status = STATUS_CORRUPT;
        }
        *out_count += 1;
    }
    if (status == STATUS_OK) {
        status = store_iterator_status(iterator);
    }
    store_iterator_close(iterator);
    *out = attempts;
    return status;
}

/* The record in a row of STATUS, if it is of this kind. */
static int edge_status_find(struct edge_machine *machine, const char *key, uint16_t kind,
                            struct codec *codec, struct bytes *out_body)
{
    struct bytes row;
    const int status =
        store_get(store_live(machine->store), EDGE_TABLE_STATUS, bytes_text(key), &row);
    if (status != STATUS_OK) {
        return status;
    }
    row = codec_copy(codec, row);
    store_reader_reset(store_live(machine->store));
    struct record record;
    if (codec_record_read(codec, row, &record) != STATUS_OK) {
        return STATUS_CORRUPT;
    }
    *out_body = record.body;
    return record.kind == kind ? STATUS_OK : STORE_NONE;
}

int edge_pod_status_find(struct edge_machine *machine, const char *key, struct codec *codec,
                         struct pod_status *out)
{
    struct bytes body;
    const int status = edge_status_find(machine, key, RECORD_POD_STATUS, codec, &body);
    if (status != STATUS_OK) {
        return status;
    }
    return codec_pod_status_read(codec, body, out) == STATUS_OK ? STATUS_OK : STATUS_CORRUPT;
}

int edge_node_status_find(struct edge_machine *machine, const char *key, struct codec *codec,
                          struct node_status *out)
{
    struct bytes body;
    const int status = edge_status_find(machine, key, RECORD_NODE_STATUS, codec, &body);
    if (status != STATUS_OK) {
        return status;
    }
    return codec_node_status_read(codec, body, out) == STATUS_OK ? STATUS_OK : STATUS_CORRUPT;
}

int edge_pod_ended_find(struct edge_machine *machine, const char *uid)
{
    return store_find(store_live(machine->store), EDGE_TABLE_ENDED, bytes_text(uid));
}
