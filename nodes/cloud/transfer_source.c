/* The replica that has the state: answers what is asked from a snapshot of its store. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "nodes/cloud/transfer.h"
#include "schemas/check.h"

/* A question that waits, or is with the pool. */
struct serving_ask {
    uint64_t request;
    struct transfer_place from;
    struct transfer_place to;
    bool has;
    struct tag digest;
};

struct transfer_serving {
    struct replica_work work;
    struct transfer_source *source;
    uint64_t replica;
    struct store_reader *snapshot;
    uint64_t row_count;
    uint64_t begun_ms;
    uint64_t asked_ms;
    uint64_t ranges;
    bool waiting; /* a newer question came while the pool was at work: this one counts */
    bool over;
    struct serving_ask next;

    bool working; /* the rest is the pool's meanwhile, and so is the snapshot */
    struct serving_ask ask;
    int status;
    struct transfer_rows rows;
    struct transfer_place end;
};

void transfer_source_init(struct transfer_source *source, const struct transfer_door *door,
                          size_t range_bytes)
{
    CHECK(range_bytes > 0);
    CHECK(range_bytes <= LIMIT_TRANSFER_BYTES);
    *source =
        (struct transfer_source){.door = door, .codec = codec_create(), .range_bytes = range_bytes};
}

static void serving_free(struct transfer_serving *serving)
{
    store_snapshot_release(serving->snapshot);
    free(serving->rows.data);
    free(serving);
}

void transfer_source_deinit(struct transfer_source *source)
{
    for (uint32_t i = 0; i < LIMIT_TRANSFERS; i++) {
        if (source->serving[i] != NULL) {
            serving_free(source->serving[i]);
        }
    }
    codec_destroy(source->codec);
}

static void source_send(struct transfer_source *source, uint64_t replica,
                        const struct state_range *range)
{
    struct bytes body;
    struct bytes frame;
    codec_reset(source->codec);
    int status = codec_state_range_build(source->codec, range, &body);
    if (status == 0) {
        status = codec_frame_build(source->codec, WIRE_STATE_RANGE, body, &frame);
    }
    if (status == 0) {
        source->door->send(source->door->context, replica, frame);
    }
}

static void source_refuse(struct transfer_source *source, uint64_t replica, uint64_t request,
                          int status)
{
    source_send(source, replica, &(struct state_range){.request = request, .status = status});
}

/* -- one answer -------------------------------------------------------------------------------- */

/* In the pool. */
static void serving_work(struct replica_work *work)
{
    struct transfer_serving *serving = CONTAINER_OF(work, struct transfer_serving, work);
    serving->status =
        transfer_rows_collect(serving->snapshot, transfer_place_bytes(&serving->ask.from),
                              transfer_place_bytes(&serving->ask.to), serving->source->range_bytes,
                              &serving->rows, &serving->end);
}

static void serving_start(struct transfer_serving *serving);

static void serving_done(struct replica_work *work)
{
    struct transfer_serving *serving = CONTAINER_OF(work, struct transfer_serving, work);
    const struct serving_ask *ask = &serving->ask;
    serving->working = false;
    if (serving->status != STATUS_OK) {
        source_refuse(serving->source, serving->replica, ask->request, serving->status);
    } else {
        const struct bytes end = transfer_place_bytes(&serving->end);
        const bool same = ask->has && bytes_equal(end, transfer_place_bytes(&ask->to)) &&
                          tag_equal(ask->digest, serving->rows.digest);
        struct state_range range = {
            .request = ask->request,
            .position = store_reader_position(serving->snapshot),
            .format = MACHINE_FORMAT,
            .to = end,
            .same = same,
            .rows = same ? bytes_of(NULL, 0) : bytes_of(serving->rows.data, serving->rows.size),
            .row_count = serving->row_count,
        };
        range.digest = transfer_seal(transfer_place_bytes(&ask->from),
                                     transfer_place_bytes(&ask->to), &range, serving->rows.digest);
        source_send(serving->source, serving->replica, &range);
        serving->ranges++;
    }
    if (serving->waiting) {
        serving_start(serving);
    }
}

static void serving_start(struct transfer_serving *serving)
{
    CHECK(!serving->working);
    serving->waiting = false;
    serving->ask = serving->next;
    serving->working = true;
    serving->work = (struct replica_work){.work = serving_work, .done = serving_done};
    serving->source->door->run(serving->source->door->context, &serving->work);
}

/* -- who is served ------------------------------------------------------------------------------ */

static void source_log(struct transfer_source *source, const char *event,
                       const struct transfer_serving *serving, const char *reason)
{
    char pairs[160];
    snprintf(pairs, sizeof pairs, "to=%" PRIu64 " position=%" PRIu64 " ranges=%" PRIu64 "%s%s",
             serving->replica, store_reader_position(serving->snapshot), serving->ranges,
             reason[0] == '\0' ? "" : " reason=", reason);
    source->door->log(source->door->context, LOGGER_INFO, event, pairs);
}

static struct transfer_serving **source_find(struct transfer_source *source, uint64_t replica)
{
    struct transfer_serving **free_place = NULL;
    for (uint32_t i = 0; i < LIMIT_TRANSFERS; i++) {
        struct transfer_serving **at = &source->serving[i];
        if (*at != NULL && (*at)->replica == replica) {
            return at;
        }
        free_place = *at == NULL ? at : free_place;
    }
    return free_place;
}

static void source_end(struct transfer_source *source, struct transfer_serving **at,
                       const char *reason)
{
    CHECK(!(*at)->working);
    source_log(source, "transfer_served", *at, reason);
    serving_free(*at);
    *at = NULL;
}

void transfer_source_ask(struct transfer_source *source, uint64_t from, const struct state_ask *ask,
                         struct store *store, uint64_t now_ms)
{
    struct transfer_serving **at = source_find(source, from);
    if (ask->over) {
        if (at != NULL && *at != NULL) {
            (*at)->over = true;
        }
        return;
    }
    if (at == NULL) {
        source_refuse(source, from, ask->request, STATUS_FULL);
        return;
    }
    if (*at != NULL && !(*at)->working && store_reader_position((*at)->snapshot) < ask->needed) {
        source_end(source, at, "a newer state is needed");
    }
    if (*at == NULL) {
        if (store == NULL || store_position(store) < ask->needed || store_position(store) == 0) {
            source_refuse(source, from, ask->request, STATUS_BEHIND);
            return;
        }
        if (ask->format < MACHINE_FORMAT) {
            source_refuse(source, from, ask->request, STATUS_FOREIGN);
            return;
        }
        struct transfer_serving *serving = calloc(1, sizeof *serving);
        CHECK(serving != NULL);
        serving->source = source;
        serving->replica = from;
        serving->snapshot = store_snapshot(store);
        serving->row_count = store_usage(store).rows;
        serving->begun_ms = now_ms;
        *at = serving;
        source_log(source, "transfer_serving", serving, "");
    }

    struct transfer_serving *serving = *at;
    serving->asked_ms = now_ms;
    serving->over = false;
    serving->next.request = ask->request;
    transfer_place_set(&serving->next.from, ask->from);
    transfer_place_set(&serving->next.to, ask->to);
    serving->next.has = ask->has;
    serving->next.digest = ask->digest;
    serving->waiting = true;
    if (!serving->working) {
        serving_start(serving);
    }
}

void transfer_source_run(struct transfer_source *source, uint64_t now_ms)
{
    for (uint32_t i = 0; i < LIMIT_TRANSFERS; i++) {
        struct transfer_serving **at = &source->serving[i];
        if (*at == NULL || (*at)->working) {
            continue;
        }
        if ((*at)->over) {
            source_end(source, at, "done");
        } else if (now_ms >= (*at)->asked_ms + LIMIT_TRANSFER_IDLE_MS) {
            source_end(source, at, "nothing was asked any more");
        } else if (now_ms >= (*at)->begun_ms + LIMIT_TRANSFER_LIFE_MS) {
            source_end(source, at, "the snapshot is too old to be kept");
        }
    }
}

bool transfer_source_idle(const struct transfer_source *source)
{
    for (uint32_t i = 0; i < LIMIT_TRANSFERS; i++) {
        if (source->serving[i] != NULL && source->serving[i]->working) {
            return false;
        }
    }
    return true;
}
