/*
 * Protobuf to protobuf-c's structs. The library's own unpack() takes 0.8 us and more for a record and as much for an
 * event, most of a replay's time; this one reads the same descriptors in one pass, straight into an arena, in half of
 * that or less. It is also stricter, where readers might else differ or be harmed:
 *   - an error has at most ERROR_CAUSES_LIMIT causes below it (the library recurses without limit);
 *   - no string holds a NUL (the library would cut it there);
 *   - no singular string, bytes or message field, and no oneof, is set twice (the library merges or takes the last).
 * tests/unit/test_wire_unpack.c compares both on everything else.
 */
#ifndef PERDURE_WIRE_UNPACK_H
#define PERDURE_WIRE_UNPACK_H

#include "wire/wire.h"

struct unpack {
    struct wire_arena *arena; /* NULL: malloc for each part, as protobuf-c's free_unpacked() expects */
    bool no_memory;           /* why it failed; else the bytes are no such message */
};

/* NULL: it failed. What a failure leaves in the arena stays there until its reset. */
ProtobufCMessage *unpack_message(struct unpack *unpack, const ProtobufCMessageDescriptor *type, const void *data,
                                 size_t size);

#endif
