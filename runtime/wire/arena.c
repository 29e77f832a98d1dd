/*
 * Memory that is given back all at once: each string and message of a record is an allocation of its own; from an arena
 * that is a bump of a pointer, and the end of a record is one free().
 */
#include "wire/arena.h"

#include <stdlib.h>

#define CHUNK_BYTES 4096
#define CHUNK_LIMIT_BYTES (1024 * 1024)

void wire_arena_init(struct wire_arena *arena, size_t chunk_bytes)
{
    *arena = (struct wire_arena){.chunk_bytes = chunk_bytes > 0 ? chunk_bytes : CHUNK_BYTES};
}

/* Goes on with a chunk that a reset left, if it is large enough, else with a new one before it. */
static bool arena_grow(struct wire_arena *arena, size_t size)
{
    struct wire_chunk *next = arena->current != NULL ? arena->current->next : NULL;
    if (next == NULL || next->size < size) {
        size_t bytes = arena->chunk_bytes > size ? arena->chunk_bytes : size;
        struct wire_chunk *chunk = malloc(sizeof(*chunk) + bytes);
        if (chunk == NULL)
            return false;
        chunk->size = bytes;
        chunk->next = next;
        if (arena->current != NULL)
            arena->current->next = chunk;
        else
            arena->first = chunk;
        next = chunk;
        if (arena->chunk_bytes < CHUNK_LIMIT_BYTES)
            arena->chunk_bytes *= 2;
    }
    arena->current = next;
    arena->used = 0;
    return true;
}

void *arena_take_slowly(struct wire_arena *arena, size_t size)
{
    size_t rounded = (size + 7) & ~(size_t)7;
    if (rounded < size || ((arena->current == NULL || arena->current->size - arena->used < rounded) &&
                           !arena_grow(arena, rounded))) {
        arena->failed = true;
        return NULL;
    }
    void *memory = arena->current->bytes + arena->used;
    arena->used += rounded;
    return memory;
}

void *wire_arena_alloc(struct wire_arena *arena, size_t size)
{
    return arena_take(arena, size);
}

void wire_arena_reset(struct wire_arena *arena)
{
    arena->current = arena->first;
    arena->used = 0;
    arena->failed = false;
}

void wire_arena_release(struct wire_arena *arena)
{
    wire_chunk_free(arena->first);
    arena->first = NULL;
    wire_arena_reset(arena);
}

void wire_chunk_free(struct wire_chunk *chunk)
{
    while (chunk != NULL) {
        struct wire_chunk *next = chunk->next;
        free(chunk);
        chunk = next;
    }
}
