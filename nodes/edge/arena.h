/* Memory that is let go of all at once: of one parsed pod, of one listing of the runtime.
 *
 * Blocks are never moved, so what was handed out stays where it is until arena_deinit. Out of
 * memory ends the process, as everywhere at the edge: the supervisor starts it again and the
 * containers never noticed.
 */
#ifndef KELP_NODES_EDGE_ARENA_H
#define KELP_NODES_EDGE_ARENA_H

#include <stdarg.h>
#include <stddef.h>

struct arena_block;

struct arena {
    struct arena_block *newest;
    size_t bytes; /* handed out so far, for bounds and tests */
};

void arena_init(struct arena *arena);
/* Everything handed out is gone; the arena may be used again. */
void arena_deinit(struct arena *arena);

/* Zeroed memory for count * size bytes, aligned for anything. Never NULL, also for 0. */
void *arena_claim(struct arena *arena, size_t count, size_t size);
/* A copy of a text; "" for NULL. */
const char *arena_text(struct arena *arena, const char *text);
const char *arena_text_sized(struct arena *arena, const char *text, size_t size);
const char *arena_print(struct arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
