/*
 * Memory that is given back all at once. protobuf-c allocates each string and message by itself; from an arena that is
 * a bump of a pointer, and the end of a record is one free().
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

void *wire_arena_alloc(struct wire_arena *arena, size_t size)
{
    size_t rounded = (size + 7) & ~(size_t)7;
    if (rounded < size)
        return NULL;
    if (arena->current == NULL || arena->current->size - arena->used < rounded) {
        if (!arena_grow(arena, rounded)) {
            arena->failed = true;
            return NULL;
        }
    }
    void *memory = arena->current->bytes + arena->used;
    arena->used += rounded;
    return memory;
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

static void *arena_allocate(void *data, size_t size)
{
    return wire_arena_alloc(data, size);
}

static void arena_deallocate(void *data, void *pointer)
{
    (void)data;
    (void)pointer;
}

ProtobufCAllocator wire_arena_allocator(struct wire_arena *arena)
{
    return (ProtobufCAllocator){.alloc = arena_allocate, .free = arena_deallocate, .allocator_data = arena};
}
