#include "log/extents.h"

#include "schemas/check.h"
#include "schemas/status.h"

#include <stdlib.h>
#include <string.h>

void extents_init(struct extents *extents)
{
    *extents = (struct extents){0};
}

void extents_deinit(struct extents *extents)
{
    free(extents->list);
    *extents = (struct extents){0};
}

/* Make room for one more at the end: by moving the list to the front, or by growing it. */
static int extents_reserve(struct extents *extents)
{
    if (extents->count < extents->capacity) {
        return 0;
    }
    if (extents->first > extents->capacity / 2) {
        memmove(extents->list, extents->list + extents->first,
                (extents->count - extents->first) * sizeof *extents->list);
        extents->count -= extents->first;
        extents->first = 0;
        return 0;
    }
    const uint32_t capacity = extents->capacity == 0 ? 64 : 2 * extents->capacity;
    struct extent *list = realloc(extents->list, capacity * sizeof *list);
    if (list == NULL) {
        return -ENOMEM;
    }
    extents->list = list;
    extents->capacity = capacity;
    return 0;
}

int extents_add(struct extents *extents, uint64_t index, uint64_t sequence, uint32_t offset,
                uint32_t disk_bytes)
{
    if (index == 0 || (extents->index_next != 0 && index != extents->index_next)) {
        return STATUS_CORRUPT;
    }
    struct extent *last =
        extents->count > extents->first ? &extents->list[extents->count - 1] : NULL;
    if (last != NULL && last->index_next == index && last->sequence == sequence &&
        last->offset_end == offset && offset - last->offset < LIMIT_LOG_STRIDE_BYTES) {
        last->index_next = index + 1;
        last->offset_end = offset + disk_bytes;
        extents->index_next = index + 1;
        return 0;
    }
    const int status = extents_reserve(extents);
    if (status != 0) {
        return status;
    }

    extents->list[extents->count] = (struct extent){
        .index_first = index,
        .index_next = index + 1,
        .sequence = sequence,
        .offset = offset,
        .offset_end = offset + disk_bytes,
    };
    extents->count++;
    extents->index_next = index + 1;
    return 0;
}

int extents_add_run(struct extents *extents, uint64_t index_next, uint64_t sequence,
                    uint32_t offset, uint32_t offset_end)
{
    CHECK(extents->index_next != 0);
    CHECK(index_next > extents->index_next);
    const int status = extents_reserve(extents);
    if (status != 0) {
        return status;
    }

    extents->list[extents->count] = (struct extent){
        .index_first = extents->index_next,
        .index_next = index_next,
        .sequence = sequence,
        .offset = offset,
        .offset_end = offset_end,
    };
    extents->count++;
    extents->index_next = index_next;
    return 0;
}

void extents_skip(struct extents *extents, uint64_t sequence, uint32_t offset, uint32_t disk_bytes)
{
    struct extent *last =
        extents->count > extents->first ? &extents->list[extents->count - 1] : NULL;
    if (last != NULL && last->sequence == sequence && last->offset_end == offset) {
        last->offset_end = offset + disk_bytes;
    }
}

void extents_truncate(struct extents *extents, uint64_t index)
{
    CHECK(index > 0);
    while (extents->count > extents->first &&
           extents->list[extents->count - 1].index_first >= index) {
        extents->count--;
    }
    if (extents->count > extents->first && extents->list[extents->count - 1].index_next > index) {
        /* offset_end stays behind the void frames, so the next frame begins a new run */
        extents->list[extents->count - 1].index_next = index;
    }
    extents->index_next = index;
}

void extents_reset(struct extents *extents, uint64_t index)
{
    CHECK(index > 0);
    extents->first = 0;
    extents->count = 0;
    extents->index_next = index;
}

void extents_drop(struct extents *extents, uint64_t sequence)
{
    while (extents->count > extents->first && extents->list[extents->first].sequence <= sequence) {
        extents->first++;
    }
}

uint32_t extents_runs(const struct extents *extents)
{
    return extents->count - extents->first;
}

uint64_t extents_index_first(const struct extents *extents)
{
    return extents->count > extents->first ? extents->list[extents->first].index_first
                                           : extents->index_next;
}

const struct extent *extents_find(const struct extents *extents, uint64_t index)
{
    uint32_t low = extents->first;
    uint32_t high = extents->count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (extents->list[middle].index_next <= index) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < extents->count && extents->list[low].index_first <= index ? &extents->list[low]
                                                                           : NULL;
}

bool extents_in_segment(const struct extents *extents, uint64_t sequence, uint64_t *out_index_next)
{
    bool found = false;
    for (uint32_t i = extents->first; i < extents->count && extents->list[i].sequence <= sequence;
         i++) {
        if (extents->list[i].sequence == sequence) {
            *out_index_next = extents->list[i].index_next;
            found = true;
        }
    }
    return found;
}
