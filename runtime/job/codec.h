/*
 * Messages to bytes and back: what stands behind pdr_codec. Any thread.
 */
#ifndef PERDURE_CODEC_H
#define PERDURE_CODEC_H

#include <perdure/protobuf-c.h>

#include "wire/wire.h"

struct pdr_codec {
    /* What the wire calls the type: "shop.Order", "text" ... */
    const char *(*type_name)(const pdr_type *type);
    /* NULL: the type can be used; else why not. */
    const char *(*complaint)(const pdr_type *type);
    void (*init)(const pdr_type *type, void *message);
    size_t (*encoded_size)(const pdr_type *type, const void *message);
    void (*encode)(const pdr_type *type, const void *message, uint8_t *out);
    /* Into memory of `arena`. PDR_OK, PDR_INVALID (not an encoding of the type) or PDR_NO_MEMORY. */
    int (*decode)(const pdr_type *type, const uint8_t *data, size_t size, struct wire_arena *arena, void **out);
};

const char *codec_type_name(const pdr_type *type);
/* `*out` is malloc'ed (NULL when empty). PDR_OK, PDR_NO_MEMORY, PDR_MISUSE (NULL where a message is wanted) or
 * PDR_INVALID (above PAYLOAD_LIMIT_BYTES; `out->len` says how large). */
int codec_encode(const pdr_type *type, const void *message, ProtobufCBinaryData *out);
/* The type named in the payload must be `type`; JSON is converted. `error` says why it is PDR_INVALID. */
int codec_decode(const pdr_type *type, const Payload *payload, struct wire_arena *arena, void **out, char *error,
                 size_t error_size);
/* A message with its defaults, in `arena`; NULL: no memory. */
void *codec_new(const pdr_type *type, struct wire_arena *arena);
/* Memory of an arena, zeroed, aligned for everything. */
void *codec_memory(struct wire_arena *arena, size_t size);

#endif
