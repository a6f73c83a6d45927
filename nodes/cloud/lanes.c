#include "nodes/cloud/lanes.h"

#include "schemas/check.h"

#include <assert.h>
#include <stdlib.h>

static struct lane **lanes_bucket(const struct lanes *lanes, uint64_t number)
{
    const uint64_t hash = number * UINT64_C(0x9e3779b97f4a7c15) >> 54;
    static_assert(LANES_BUCKETS == 1u << 10, "the hash has as many bits");
    return (struct lane **)&lanes->buckets[hash];
}

static struct lane *lanes_look(const struct lanes *lanes, uint64_t number)
{
    struct lane *lane = *lanes_bucket(lanes, number);
    while (lane != NULL && lane->number != number) {
        lane = lane->next_bucket;
    }
    return lane;
}

const struct lane *lanes_find(const struct lanes *lanes, uint64_t number)
{
    return lanes_look(lanes, number);
}

/* The last to have its turn. */
static void lanes_enter(struct lanes *lanes, struct lane *lane)
{
    lane->deficit = 0;
    lane->in_turn = false;
    if (lanes->turn == NULL) {
        lane->next_turn = lane;
        lane->previous_turn = lane;
        lanes->turn = lane;
        return;
    }
    lane->next_turn = lanes->turn;
    lane->previous_turn = lanes->turn->previous_turn;
    lane->previous_turn->next_turn = lane;
    lane->next_turn->previous_turn = lane;
}

static void lanes_leave(struct lanes *lanes, struct lane *lane)
{
    if (lane->next_turn == lane) {
        lanes->turn = NULL;
    } else {
        lane->previous_turn->next_turn = lane->next_turn;
        lane->next_turn->previous_turn = lane->previous_turn;
        lanes->turn = lanes->turn == lane ? lane->next_turn : lanes->turn;
    }
    lane->next_turn = NULL;
    lane->previous_turn = NULL;
}

void lanes_push(struct lanes *lanes, uint64_t number, size_t share, struct lane_item *item,
                size_t bytes)
{
    CHECK(share > 0);
    struct lane *lane = lanes_look(lanes, number);
    if (lane == NULL) {
        lane = calloc(1, sizeof *lane);
        CHECK(lane != NULL);
        lane->number = number;
        struct lane **bucket = lanes_bucket(lanes, number);
        lane->next_bucket = *bucket;
        *bucket = lane;
    }
    *item = (struct lane_item){.older = lanes->youngest, .lane = lane, .bytes = bytes};
    if (lanes->youngest == NULL) {
        lanes->oldest = item;
    } else {
        lanes->youngest->younger = item;
    }
    lanes->youngest = item;
    if (lane->head == NULL) {
        lane->head = item;
        lanes_enter(lanes, lane);
    } else {
        lane->tail->next = item;
    }
    lane->tail = item;
    lane->share = share;
    lane->count++;
    lane->bytes += bytes;
    lanes->count++;
    lanes->bytes += bytes;
}

struct lane_item *lanes_next(struct lanes *lanes)
{
    while (lanes->turn != NULL) {
        struct lane *lane = lanes->turn;
        if (!lane->in_turn) {
            lane->in_turn = true;
            lane->deficit += lane->share;
        }
        if (lane->head->bytes + LANES_ITEM_BYTES <= lane->deficit) {
            return lane->head;
        }
        lane->in_turn = false; /* it keeps what it has saved */
        lanes->turn = lane->next_turn;
    }
    return NULL;
}

struct lane_item *lanes_oldest(const struct lanes *lanes)
{
    return lanes->oldest;
}

void lanes_take(struct lanes *lanes, struct lane_item *item)
{
    struct lane *lane = item->lane;
    CHECK(lane->head == item); /* the oldest of all is the oldest of its lane */
    lane->head = item->next;
    const size_t cost = item->bytes + LANES_ITEM_BYTES;
    lane->deficit -= cost < lane->deficit ? cost : lane->deficit;
    if (lane->head == NULL) {
        lane->tail = NULL;
        lanes_leave(lanes, lane);
    }
    if (item->older == NULL) {
        lanes->oldest = item->younger;
    } else {
        item->older->younger = item->younger;
    }
    if (item->younger == NULL) {
        lanes->youngest = item->older;
    } else {
        item->younger->older = item->older;
    }
    item->next = NULL;
    item->older = NULL;
    item->younger = NULL;
}

void lanes_done(struct lanes *lanes, struct lane_item *item)
{
    struct lane *lane = item->lane;
    CHECK(lane->count > 0);
    CHECK(lane->bytes >= item->bytes);
    lane->count--;
    lane->bytes -= item->bytes;
    lanes->count--;
    lanes->bytes -= item->bytes;
    item->lane = NULL;
    if (lane->count > 0) {
        return;
    }
    CHECK(lane->head == NULL);
    struct lane **at = lanes_bucket(lanes, lane->number);
    while (*at != lane) {
        at = &(*at)->next_bucket;
    }
    *at = lane->next_bucket;
    free(lane);
}
