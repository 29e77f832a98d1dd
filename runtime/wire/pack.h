/*
 * protobuf-c's structs to Protobuf, in one pass. The library asks each message for its size, again at every level that it
 * is nested in, and then packs it; a record was walked three and more times, a quarter of what a job cost. This one
 * writes from the last field to the first, so the length of a nested message is known when its tag is written.
 * The bytes are those of protobuf_c_message_pack(): tests/unit/test_wire_unpack.c compares.
 */
#ifndef PERDURE_WIRE_PACK_H
#define PERDURE_WIRE_PACK_H

#include <stddef.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

/* The message with `before` bytes of room in front, to free(); `*size` counts both. NULL: no memory. */
uint8_t *wire_pack(const ProtobufCMessage *message, size_t before, size_t *size);

#endif
