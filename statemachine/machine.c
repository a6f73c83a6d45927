#include "statemachine/apply.h"

#include <errno.h>
#include <stdlib.h>

#define META_NUMBERS   11u
#define META_OLD_FLOOR 2u
#define META_OLD_SWEPT 3u

/* -- the one row of counters ------------------------------------------------------------------- */

static void meta_numbers(struct machine_meta *meta, uint64_t *out[META_NUMBERS])
{
    /* Three are of a release that had the history in rows: floor, swept, bytes. It finds that all of it is forgotten and
     * gone. */
    uint64_t *const all[META_NUMBERS] = {
        &meta->version,
        (uint64_t *)&meta->time_ms,
        NULL,
        NULL,
        NULL,
        &meta->object_count,
        &meta->node_count,
        &meta->event_count,
        &meta->event_swept,
        (uint64_t *)&meta->event_oldest_ms,
        &meta->refused_count,
    };
    memcpy(out, all, sizeof all);
}

void machine_meta_put(struct machine *machine)
{
    uint8_t value[META_NUMBERS * 8 + LIMIT_NAME_BYTES];
    uint64_t *numbers[META_NUMBERS];
    meta_numbers(&machine->meta, numbers);
    for (unsigned i = 0; i < META_NUMBERS; i++) {
        put_le64(value + (size_t)i * 8, numbers[i] != NULL ? *numbers[i] : 0);
    }
    put_le64(value + META_OLD_FLOOR * 8, machine->meta.version);
    put_le64(value + META_OLD_SWEPT * 8, machine->meta.version);
    const struct bytes cluster = bytes_text(machine->meta.cluster);
    memcpy(value + (size_t)META_NUMBERS * 8, cluster.data, cluster.size);
    store_put(machine->store, TABLE_META, bytes_text("state"),
              bytes_of(value, (size_t)META_NUMBERS * 8 + cluster.size));
}

int machine_meta_get(struct store_reader *reader, struct machine_meta *out)
{
    memset(out, 0, sizeof *out);
    out->epoch = MACHINE_EPOCH_FIRST;
    struct bytes value;
    int status = store_get(reader, TABLE_META, bytes_text("epoch"), &value);
    if (status < 0 || (status == STATUS_OK && value.size != 8)) {
        return status < 0 ? status : STATUS_CORRUPT;
    }
    if (status == STATUS_OK) {
        out->epoch = get_le64(value.data);
    }
    status = store_get(reader, TABLE_META, bytes_text("state"), &value);
    if (status != STATUS_OK) {
        return status == STORE_NONE ? STATUS_OK : status; /* nothing was applied yet */
    }
    const size_t fixed = (size_t)META_NUMBERS * 8;
    if (value.size < fixed || value.size - fixed > LIMIT_NAME_BYTES) {
        return STATUS_CORRUPT;
    }
    uint64_t *numbers[META_NUMBERS];
    meta_numbers(out, numbers);
    for (unsigned i = 0; i < META_NUMBERS; i++) {
        if (numbers[i] != NULL) {
            *numbers[i] = get_le64(value.data + (size_t)i * 8);
        }
    }
    memcpy(out->cluster, value.data + fixed, value.size - fixed);
    return STATUS_OK;
}

/* -- life -------------------------------------------------------------------------------------- */

int machine_load(struct machine *machine)
{
    machine->failed = STATUS_OK;
    const int status = machine_meta_get(store_live(machine->store), &machine->meta);
    if (status != STATUS_OK) {
        return status;
    }
    setting_load(machine);
    reference_load(machine);
    store_reader_reset(store_live(machine->store));
    node_cache_clear(machine->nodes);
    if (history_newest(machine->history) != machine->meta.version) {
        history_forget(machine->history, machine->meta.version);
    }
    return machine->failed;
}

int machine_open(struct machine *machine, struct store *store)
{
    *machine = (struct machine){.store = store};
    machine->codec_entry = codec_create();
    machine->codec_record = codec_create();
    machine->codec_inner = codec_create();
    machine->codec = machine->codec_record;
    machine->nodes = node_cache_create();
    machine->history = history_create();
    machine->results = calloc(LIMIT_BATCH_RECORDS, sizeof *machine->results);
    machine->referenced = malloc(LIMIT_REFERENCE_FILTER_BYTES);
    CHECK(machine->results != NULL && machine->referenced != NULL);
    store_cache(store, 1u << TABLE_META | 1u << TABLE_WISH | 1u << TABLE_FACT | 1u << TABLE_VERDICT,
                LIMIT_MACHINE_CACHE_BYTES);
    store_marks(store, 1u << TABLE_CHANGE | 1u << TABLE_CHANGE_KEY | 1u << TABLE_DOWN);
    const int status = machine_load(machine);
    return status == STATUS_OK ? change_load(machine) : status;
}

void machine_close(struct machine *machine)
{
    if (machine->committing) {
        store_abandon(machine->store);
    }
    codec_destroy(machine->codec_entry);
    codec_destroy(machine->codec_record);
    codec_destroy(machine->codec_inner);
    node_cache_destroy(machine->nodes);
    history_destroy(machine->history);
    free(machine->results);
    free(machine->referenced);
    free(machine->touched);
    free(machine->scratch);
    *machine = (struct machine){0};
}

uint32_t machine_level(const struct machine *machine)
{
    return (uint32_t)machine->settings[SETTING_LEVEL];
}

uint64_t machine_index(const struct machine *machine)
{
    return store_position(machine->store);
}

/* -- applying ---------------------------------------------------------------------------------- */

/* CLUSTER_INIT: who we are, once. */
static struct machine_result cluster_apply(struct machine *machine, const struct arrival *arrival)
{
    struct cluster_init init;
    if (codec_cluster_init_read(machine->codec, arrival->record->body, &init) != STATUS_OK ||
        init.cluster[0] == '\0' || strlen(init.cluster) > LIMIT_NAME_BYTES) {
        return result_of(REFUSED_MALFORMED, 0);
    }
    if (strcmp(machine->meta.cluster, init.cluster) == 0) {
        return result_of(ACCEPTED_UNCHANGED, 0);
    }
    if (machine->meta.cluster[0] != '\0') {
        return result_of(REFUSED_EXISTS, 0);
    }
    memcpy(machine->meta.cluster, init.cluster, strlen(init.cluster) + 1);
    return result_of(ACCEPTED, 0);
}

static struct machine_result machine_apply_kind(struct machine *machine,
                                                const struct arrival *arrival)
{
    switch (arrival->record->kind) {
    case RECORD_OBJECT_PUT:
        return object_apply_put(machine, arrival);
    case RECORD_OBJECT_REMOVE:
        return object_apply_remove(machine, arrival);
    case RECORD_VERDICT:
        return object_apply_verdict(machine, arrival);
    case RECORD_SESSION_OPEN:
        return node_apply_session(machine, arrival);
    case RECORD_DOWN_ACK:
        return node_apply_ack(machine, arrival);
    case RECORD_UP_BATCH:
        return node_apply_batch(machine, arrival);
    case RECORD_CLUSTER_INIT:
        return cluster_apply(machine, arrival);
    case RECORD_SETTING:
        return setting_apply(machine, arrival);
    case RECORD_MEMBER_KEY:
        return member_key_apply(machine, arrival);
    default:
        return result_of(REFUSED_KIND, 0);
    }
}

static struct machine_result machine_apply_record(struct machine *machine, struct bytes bytes)
{
    struct record record;
    if (codec_record_read(machine->codec, bytes, &record) != STATUS_OK) {
        return result_of(REFUSED_MALFORMED, 0);
    }
    if (!machine_knows(record.kind)) {
        machine->applied.unknown_kind = record.kind;
        machine->failed = STATUS_UNSUPPORTED;
        return result_of(REFUSED_KIND, 0);
    }
    if (!access_allows(record.kind, ACCESS_COMMAND)) {
        return result_of(REFUSED_KIND, 0);
    }
    return machine_apply_kind(machine, &(struct arrival){.record = &record, .bytes = bytes});
}

static void machine_apply_records(struct machine *machine, const struct command *command)
{
    for (uint32_t i = 0; i < command->record_count && machine->failed == STATUS_OK; i++) {
        codec_reset(machine->codec_record);
        store_reader_reset(store_live(machine->store));
        machine->place = i;
        machine->results[i] = machine_apply_record(machine, command->records[i]);
        if (!outcome_accepted(machine->results[i].outcome)) {
            machine->meta.refused_count++;
        }
    }
    machine->applied.result_count = command->record_count;
}

static void machine_apply_command(struct machine *machine, struct bytes bytes)
{
    struct machine_applied *applied = &machine->applied;
    struct command command;
    const struct bytes aligned = codec_aligned(machine->codec_entry, bytes);
    if (codec_command_read(machine->codec_entry, aligned, &command) != STATUS_OK) {
        applied->malformed = true;
        return;
    }
    applied->origin = command.origin;
    applied->sequence = command.sequence;
    applied->results = machine->results;
    struct origin_head head;
    switch (origin_find(machine, &command, &head, &applied->result_count)) {
    case ORIGIN_KNOWN:
        applied->duplicate = true;
        return;
    case ORIGIN_STALE:
        for (uint32_t i = 0; i < command.record_count; i++) {
            machine->results[i] = result_of(REFUSED_STALE_ORIGIN, 0);
        }
        applied->result_count = command.record_count;
        return;
    case ORIGIN_NEW:
        break;
    }

    if (command.time_ms > machine->meta.time_ms) {
        machine->meta.time_ms = command.time_ms;
    }
    event_sweep(machine);
    machine_apply_records(machine, &command);
    if (machine->failed == STATUS_OK) {
        origin_keep(machine, &command, head, command.record_count);
        node_cache_write(machine);
        machine_meta_put(machine);
    }
}

/* Nothing of the entry happened. What is told is the first failure, unless the state cannot be read any more. */
static int machine_abandon(struct machine *machine, int status)
{
    store_abandon(machine->store);
    history_abandon(machine->history);
    const int loaded = machine_load(machine);
    return status == -ENOSPC && loaded != STATUS_OK ? loaded : status;
}

static int machine_commit(struct machine *machine)
{
    const int status = store_commit(machine->store, machine->index);
    if (status == STATUS_FULL) {
        machine->committing = true;
        return status;
    }
    machine->committing = false;
    if (status != STATUS_OK) {
        return machine_abandon(machine, status);
    }
    history_commit(machine->history, change_bytes_max(machine));
    machine->applied.version = machine->meta.version;
    return STATUS_OK;
}

int machine_apply(struct machine *machine, uint64_t index, struct bytes command,
                  const struct machine_applied **out)
{
    *out = &machine->applied;
    if (machine->committing) {
        CHECK(index == machine->index);
        return machine_commit(machine);
    }
    machine->applied = (struct machine_applied){0};
    if (index <= machine_index(machine)) {
        machine->applied.already = true;
        return STATUS_OK;
    }

    machine->applied.version_before = machine->meta.version;
    machine->index = index;
    codec_reset(machine->codec_entry);
    node_cache_clear(machine->nodes);
    store_begin(machine->store);
    if (command.size > 0) {
        machine_apply_command(machine, command);
    }
    store_reader_reset(store_live(machine->store));
    if (machine->failed != STATUS_OK) {
        return machine_abandon(machine, machine->failed);
    }
    return machine_commit(machine);
}

/* -- words ------------------------------------------------------------------------------------- */

const char *outcome_text(enum outcome outcome)
{
    static const char *const texts[OUTCOMES] = {
        [ACCEPTED] = "accepted",
        [ACCEPTED_UNCHANGED] = "accepted_unchanged",
        [REFUSED_MALFORMED] = "refused_malformed",
        [REFUSED_KIND] = "refused_kind",
        [REFUSED_EXISTS] = "refused_exists",
        [REFUSED_MISSING] = "refused_missing",
        [REFUSED_CONFLICT] = "refused_conflict",
        [REFUSED_UID] = "refused_uid",
        [REFUSED_NAMESPACE_MISSING] = "refused_namespace_missing",
        [REFUSED_NAMESPACE_TERMINATING] = "refused_namespace_terminating",
        [REFUSED_NOT_EMPTY] = "refused_not_empty",
        [REFUSED_FINALIZERS] = "refused_finalizers",
        [REFUSED_EPOCH] = "refused_epoch",
        [REFUSED_STREAM] = "refused_stream",
        [REFUSED_GAP] = "refused_gap",
        [REFUSED_POSITION] = "refused_position",
        [REFUSED_STALE_ORIGIN] = "refused_stale_origin",
        [REFUSED_LIMIT] = "refused_limit",
        [REFUSED_OWNER] = "refused_owner",
        [REFUSED_SETTING] = "refused_setting",
    };
    return (unsigned)outcome < OUTCOMES ? texts[outcome] : "unknown";
}
