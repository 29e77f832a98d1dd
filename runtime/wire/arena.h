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
ProtobufCAllocator wire_arena_allocator(struct wire_arena *arena);

#endif
