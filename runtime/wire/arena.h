/*
 * What the arena shows to the rest of the wire.
 */
#ifndef PERDURE_WIRE_ARENA_H
#define PERDURE_WIRE_ARENA_H

#include "wire/wire.h"

struct wire_chunk {
    struct wire_chunk *next;
    size_t size;
    unsigned char bytes[]; /* 16 bytes into a malloc'ed block: aligned for everything */
};

/* Frees a chunk and all that follow it. */
void wire_chunk_free(struct wire_chunk *chunk);
/* wire_arena_alloc(), where the current chunk has no room. */
void *arena_take_slowly(struct wire_arena *arena, size_t size);

static inline void *arena_take(struct wire_arena *arena, size_t size)
{
    if (arena->current != NULL && size <= WIRE_SIZE_LIMIT_BYTES) {
        size_t rounded = (size + 7) & ~(size_t)7;
        if (arena->current->size - arena->used >= rounded) {
            void *memory = arena->current->bytes + arena->used;
            arena->used += rounded;
            return memory;
        }
    }
    return arena_take_slowly(arena, size);
}

#endif
