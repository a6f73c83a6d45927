#include "nodes/edge/arena.h"

#include "schemas/check.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Small enough that a small pod costs one block, large enough that a listing costs few. */
#define ARENA_BLOCK_BYTES 4096u

struct arena_block {
    struct arena_block *older;
    size_t used;
    size_t size;
    max_align_t memory[];
};

void arena_init(struct arena *arena)
{
    *arena = (struct arena){0};
}

void arena_deinit(struct arena *arena)
{
    struct arena_block *block = arena->newest;
    while (block != NULL) {
        struct arena_block *older = block->older;
        free(block);
        block = older;
    }
    *arena = (struct arena){0};
}

static struct arena_block *arena_grow(struct arena *arena, size_t bytes)
{
    const size_t size = bytes > ARENA_BLOCK_BYTES ? bytes : ARENA_BLOCK_BYTES;
    struct arena_block *block = calloc(1, sizeof *block + size);
    CHECK(block != NULL);
    block->size = size;
    block->older = arena->newest;
    arena->newest = block;
    return block;
}

void *arena_claim(struct arena *arena, size_t count, size_t size)
{
    CHECK(size == 0 || count < SIZE_MAX / 2 / size);
    const size_t align = _Alignof(max_align_t);
    const size_t bytes = (count * size + align - 1) / align * align;

    struct arena_block *block = arena->newest;
    if (block == NULL || block->size - block->used < bytes) {
        block = arena_grow(arena, bytes);
    }
    void *memory = (uint8_t *)block->memory + block->used;
    block->used += bytes;
    arena->bytes += bytes;
    return memory;
}

const char *arena_text_sized(struct arena *arena, const char *text, size_t size)
{
    char *copy = arena_claim(arena, size + 1, 1);
    if (size > 0) {
        memcpy(copy, text, size);
    }
    return copy;
}

const char *arena_text(struct arena *arena, const char *text)
{
    return text == NULL || text[0] == 0 ? "" : arena_text_sized(arena, text, strlen(text));
}

const char *arena_print(struct arena *arena, const char *format, ...)
{
    char *text = NULL;
    va_list list;
    va_start(list, format);
    const int size = vasprintf(&text, format, list);
    va_end(list);
    CHECK(size >= 0);
    const char *copy = arena_text_sized(arena, text, (size_t)size);
    free(text);
    return copy;
}
