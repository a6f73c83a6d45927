#include "nodes/cli/log_belt.h"

#include "schemas/check.h"

#include <stdlib.h>
#include <string.h>

/* Ours until it is handed over. */
static struct belt_chunk *belt_chunk_of(struct belt *belt, uint64_t number)
{
    return &belt->chunks[number % LIMIT_BELT_CHUNKS];
}

static void chunk_deinit(struct belt_chunk *chunk)
{
    free(chunk->memory);
    chunk->memory = NULL;
    chunk->capacity = 0;
}

/* Make an empty chunk that holds one frame of so many bytes. */
static void chunk_clear(struct belt_chunk *chunk, size_t bytes)
{
    const size_t capacity = bytes > LIMIT_BELT_CHUNK_BYTES ? bytes : LIMIT_BELT_CHUNK_BYTES;
    if (chunk->capacity !=
        capacity) { /* also when a large frame passed: the memory does not stay */
        chunk_deinit(chunk);
        chunk->memory = malloc(capacity);
        CHECK(chunk->memory != NULL);
        chunk->capacity = capacity;
    }
    chunk->count = 0;
    chunk->used = 0;
}

/* -- the side that prints ---------------------------------------------------------------------- */

/* Answers whether it wants no more. */
static bool chunk_tell(const struct belt *belt, const struct belt_chunk *chunk)
{
    for (uint32_t i = 0; i < chunk->count; i++) {
        if (belt->on_frame(belt->context, &chunk->frames[i]) != 0) {
            return true;
        }
    }
    return false;
}

static void belt_run(void *argument)
{
    struct belt *belt = argument;
    uv_mutex_lock(&belt->mutex);
    for (;;) {
        while (belt->emptied == belt->filled && !belt->leaving) {
            uv_cond_wait(&belt->moved, &belt->mutex);
        }
        if (belt->emptied == belt->filled || belt->enough) {
            break;
        }
        const struct belt_chunk *chunk = belt_chunk_of(belt, belt->emptied);
        uv_mutex_unlock(&belt->mutex);
        const bool enough = chunk_tell(belt, chunk);
        uv_mutex_lock(&belt->mutex);
        belt->emptied++;
        belt->enough = enough;
        if (belt->full && (enough || belt->filled - belt->emptied <= LIMIT_BELT_CHUNKS / 2)) {
            belt->full = false;
            uv_cond_signal(&belt->moved);
        }
    }
    uv_mutex_unlock(&belt->mutex);
}

/* -- the side that reads ----------------------------------------------------------------------- */

void belt_open(struct belt *belt, int (*on_frame)(void *context, const struct log_frame *frame),
               void *context)
{
    *belt = (struct belt){.on_frame = on_frame, .context = context};
    belt->chunks = calloc(LIMIT_BELT_CHUNKS, sizeof *belt->chunks);
    CHECK(belt->chunks != NULL);
    CHECK(uv_mutex_init(&belt->mutex) == 0);
    CHECK(uv_cond_init(&belt->moved) == 0);
    belt->threaded = uv_thread_create(&belt->thread, belt_run, belt) == 0;
}

/* Hand over the chunk that was filled, and wait until the next one is ours. Answers whether no more is
 * wanted. A reader that met a full belt goes on when half of it is free: with one chunk at a time the two
 * would only wake each other. */
static bool belt_hand_over(struct belt *belt)
{
    uv_mutex_lock(&belt->mutex);
    belt->filled++;
    uv_cond_signal(&belt->moved);
    belt->full = belt->filled - belt->emptied == LIMIT_BELT_CHUNKS;
    while (belt->full && !belt->enough) {
        uv_cond_wait(&belt->moved, &belt->mutex);
    }
    const bool enough = belt->enough;
    uv_mutex_unlock(&belt->mutex);
    if (!enough) {
        belt_chunk_of(belt, belt->filled)->count = 0;
    }
    return enough;
}

int belt_put(void *context, const struct log_frame *frame)
{
    struct belt *belt = context;
    if (!belt->threaded) {
        belt->enough = belt->enough || belt->on_frame(belt->context, frame) != 0;
        return belt->enough;
    }
    struct belt_chunk *chunk = belt_chunk_of(belt, belt->filled);
    const size_t bytes = (frame->payload.size + 7u) & ~(size_t)7u; /* payloads stay aligned */
    if (chunk->count > 0 &&
        (chunk->count == LIMIT_BELT_CHUNK_FRAMES || bytes > chunk->capacity - chunk->used)) {
        if (belt_hand_over(belt)) {
            return 1;
        }
        chunk = belt_chunk_of(belt, belt->filled);
    }
    if (chunk->count == 0) {
        chunk_clear(chunk, bytes);
    }
    uint8_t *place = chunk->memory + chunk->used;
    if (frame->payload.size > 0) {
        memcpy(place, frame->payload.data, frame->payload.size);
    }
    chunk->frames[chunk->count] = *frame;
    chunk->frames[chunk->count].payload = bytes_of(place, frame->payload.size);
    chunk->used += bytes;
    chunk->count++;
    return 0;
}

bool belt_ended(struct belt *belt)
{
    uv_mutex_lock(&belt->mutex);
    const bool enough = belt->enough;
    uv_mutex_unlock(&belt->mutex);
    return enough;
}

void belt_close(struct belt *belt)
{
    if (belt->threaded) {
        uv_mutex_lock(&belt->mutex);
        /* when no more is wanted, the last chunk may not be ours, nor is it looked at */
        belt->filled += !belt->enough && belt_chunk_of(belt, belt->filled)->count > 0;
        belt->leaving = true;
        uv_cond_signal(&belt->moved);
        uv_mutex_unlock(&belt->mutex);
        CHECK(uv_thread_join(&belt->thread) == 0);
    }
    for (uint32_t i = 0; i < LIMIT_BELT_CHUNKS; i++) {
        chunk_deinit(&belt->chunks[i]);
    }
    free(belt->chunks);
    uv_cond_destroy(&belt->moved);
    uv_mutex_destroy(&belt->mutex);
}
