#include "wire/pack.h"

#include <endian.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum wire_type { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_LENGTH = 2, WIRE_FIXED32 = 5 };

/* Most records and events fit; larger ones move to the heap. */
#define PACK_LOCAL_BYTES 4096
#define VARINT_BYTES_MAX 10

/* Filled from its end: what is packed stands at [at, capacity). */
struct packer {
    uint8_t *data;
    size_t capacity;
    size_t at;
    uint8_t *heap; /* NULL: `data` is the caller's local memory */
    bool no_memory;
};

static void pack_message(struct packer *packer, const ProtobufCMessage *message);

/* ---- memory ---------------------------------------------------------------------------------- */

static bool grow(struct packer *packer, size_t wanted)
{
    size_t used = packer->capacity - packer->at;
    size_t capacity = 2 * packer->capacity;
    while (capacity - used < wanted)
        capacity *= 2;
    uint8_t *data = packer->no_memory ? NULL : malloc(capacity);
    if (data == NULL) {
        packer->no_memory = true;
        packer->at = packer->capacity; /* what follows overwrites what will be thrown away */
        return packer->capacity >= wanted;
    }
    memcpy(data + capacity - used, packer->data + packer->at, used);
    free(packer->heap);
    packer->data = packer->heap = data;
    packer->capacity = capacity;
    packer->at = capacity - used;
    return true;
}

static inline uint8_t *room(struct packer *packer, size_t size)
{
    if (packer->at < size && !grow(packer, size))
        return NULL;
    packer->at -= size;
    return packer->data + packer->at;
}

/* ---- the encoding ----------------------------------------------------------------------------- */

static inline void put_varint(struct packer *packer, uint64_t value)
{
    if (value < 0x80) {
        uint8_t *one = room(packer, 1);
        if (one != NULL)
            *one = (uint8_t)value;
        return;
    }
    uint8_t bytes[VARINT_BYTES_MAX];
    size_t count = 0;
    for (; value >= 0x80; value >>= 7)
        bytes[count++] = (uint8_t)(value | 0x80);
    bytes[count++] = (uint8_t)value;
    uint8_t *out = room(packer, count);
    if (out != NULL)
        memcpy(out, bytes, count);
}

static inline void put_tag(struct packer *packer, uint32_t id, enum wire_type type)
{
    put_varint(packer, (uint64_t)id << 3 | type);
}

static inline void put_bytes(struct packer *packer, const void *data, size_t size)
{
    uint8_t *out = size > 0 ? room(packer, size) : NULL;
    if (out != NULL)
        memcpy(out, data, size);
}

static void put_fixed32(struct packer *packer, const void *value)
{
    uint32_t raw;
    memcpy(&raw, value, sizeof raw);
    raw = htole32(raw);
    put_bytes(packer, &raw, sizeof raw);
}

static void put_fixed64(struct packer *packer, const void *value)
{
    uint64_t raw;
    memcpy(&raw, value, sizeof raw);
    raw = htole64(raw);
    put_bytes(packer, &raw, sizeof raw);
}

/* What the field's member holds, without its tag; lengths included. */
static enum wire_type put_value(struct packer *packer, ProtobufCType type, const void *value)
{
    switch (type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_ENUM: /* negative ones are sign-extended to ten bytes */
        put_varint(packer, (uint64_t)(int64_t)*(const int32_t *)value);
        return WIRE_VARINT;
    case PROTOBUF_C_TYPE_SINT32: {
        int32_t v = *(const int32_t *)value;
        put_varint(packer, (uint32_t)v << 1 ^ (uint32_t)(v >> 31));
        return WIRE_VARINT;
    }
    case PROTOBUF_C_TYPE_UINT32:
        put_varint(packer, *(const uint32_t *)value);
        return WIRE_VARINT;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_UINT64:
        put_varint(packer, *(const uint64_t *)value);
        return WIRE_VARINT;
    case PROTOBUF_C_TYPE_SINT64: {
        int64_t v = *(const int64_t *)value;
        put_varint(packer, (uint64_t)v << 1 ^ (uint64_t)(v >> 63));
        return WIRE_VARINT;
    }
    case PROTOBUF_C_TYPE_BOOL:
        put_varint(packer, *(const protobuf_c_boolean *)value != 0);
        return WIRE_VARINT;
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
        put_fixed32(packer, value);
        return WIRE_FIXED32;
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        put_fixed64(packer, value);
        return WIRE_FIXED64;
    case PROTOBUF_C_TYPE_STRING: {
        const char *text = *(char *const *)value;
        size_t size = text != NULL ? strlen(text) : 0;
        put_bytes(packer, text, size);
        put_varint(packer, size);
        return WIRE_LENGTH;
    }
    case PROTOBUF_C_TYPE_BYTES: {
        const ProtobufCBinaryData *bytes = value;
        put_bytes(packer, bytes->data, bytes->len);
        put_varint(packer, bytes->len);
        return WIRE_LENGTH;
    }
    case PROTOBUF_C_TYPE_MESSAGE: {
        const ProtobufCMessage *message = *(ProtobufCMessage *const *)value;
        size_t before = packer->capacity - packer->at;
        if (message != NULL)
            pack_message(packer, message);
        put_varint(packer, packer->capacity - packer->at - before);
        return WIRE_LENGTH;
    }
    }
    return WIRE_VARINT;
}

/* Of one element, as protobuf-c keeps it. */
_Static_assert(sizeof(protobuf_c_boolean) == 4, "is_zero() reads what is not 8 bytes wide as 4");
static const uint8_t element_bytes[] = {
    [PROTOBUF_C_TYPE_INT32] = 4,   [PROTOBUF_C_TYPE_SINT32] = 4,  [PROTOBUF_C_TYPE_SFIXED32] = 4,
    [PROTOBUF_C_TYPE_INT64] = 8,   [PROTOBUF_C_TYPE_SINT64] = 8,  [PROTOBUF_C_TYPE_SFIXED64] = 8,
    [PROTOBUF_C_TYPE_UINT32] = 4,  [PROTOBUF_C_TYPE_FIXED32] = 4, [PROTOBUF_C_TYPE_UINT64] = 8,
    [PROTOBUF_C_TYPE_FIXED64] = 8, [PROTOBUF_C_TYPE_FLOAT] = 4,   [PROTOBUF_C_TYPE_DOUBLE] = 8,
    [PROTOBUF_C_TYPE_BOOL] = sizeof(protobuf_c_boolean),
    [PROTOBUF_C_TYPE_ENUM] = 4,
    [PROTOBUF_C_TYPE_STRING] = sizeof(char *),
    [PROTOBUF_C_TYPE_BYTES] = sizeof(ProtobufCBinaryData),
    [PROTOBUF_C_TYPE_MESSAGE] = sizeof(ProtobufCMessage *),
};

/* ---- fields ----------------------------------------------------------------------------------- */

/* A string or message that points nowhere, or to its default, is not set. */
static inline bool pointer_is_set(const ProtobufCFieldDescriptor *field, const void *member)
{
    const void *pointer = *(const void *const *)member;
    return pointer != NULL && pointer != field->default_value;
}

static inline bool is_pointer(ProtobufCType type)
{
    return type == PROTOBUF_C_TYPE_STRING || type == PROTOBUF_C_TYPE_MESSAGE;
}

/* proto3 without presence: zero is not on the wire. Most fields of most messages are. */
static inline bool is_zero(ProtobufCType type, const void *member)
{
    switch (type) {
    case PROTOBUF_C_TYPE_FLOAT: /* a negative zero is one too */
        return *(const float *)member == 0;
    case PROTOBUF_C_TYPE_DOUBLE:
        return *(const double *)member == 0;
    case PROTOBUF_C_TYPE_STRING: {
        const char *text = *(char *const *)member;
        return text == NULL || *text == '\0';
    }
    case PROTOBUF_C_TYPE_BYTES:
        return ((const ProtobufCBinaryData *)member)->len == 0;
    default:
        return element_bytes[type] == 8 ? *(const uint64_t *)member == 0 : *(const uint32_t *)member == 0;
    }
}

static inline bool is_set(const ProtobufCFieldDescriptor *field, const uint8_t *base, const void *member)
{
    if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
        return *(const uint32_t *)(base + field->quantifier_offset) == field->id &&
               (!is_pointer(field->type) || pointer_is_set(field, member));
    switch (field->label) {
    case PROTOBUF_C_LABEL_REQUIRED:
        return true;
    case PROTOBUF_C_LABEL_OPTIONAL:
        return is_pointer(field->type) ? pointer_is_set(field, member)
                                       : *(const protobuf_c_boolean *)(base + field->quantifier_offset) != 0;
    default:
        return !is_zero(field->type, member);
    }
}

static void pack_repeated(struct packer *packer, const ProtobufCFieldDescriptor *field, const void *member, size_t count)
{
    const uint8_t *array = *(uint8_t *const *)member;
    size_t step = element_bytes[field->type];
    bool packed = (field->flags & PROTOBUF_C_FIELD_FLAG_PACKED) != 0;
    size_t before = packer->capacity - packer->at;
    for (size_t i = count; i-- > 0;) {
        enum wire_type type = put_value(packer, field->type, array + i * step);
        if (!packed)
            put_tag(packer, field->id, type);
    }
    if (packed && count > 0) {
        put_varint(packer, packer->capacity - packer->at - before);
        put_tag(packer, field->id, WIRE_LENGTH);
    }
}

static void pack_message(struct packer *packer, const ProtobufCMessage *message)
{
    const uint8_t *base = (const uint8_t *)message;
    for (unsigned i = message->n_unknown_fields; i-- > 0;) {
        const ProtobufCMessageUnknownField *unknown = &message->unknown_fields[i];
        put_bytes(packer, unknown->data, unknown->len);
        put_tag(packer, unknown->tag, (enum wire_type)unknown->wire_type);
    }
    for (unsigned i = message->descriptor->n_fields; i-- > 0;) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        const void *member = base + field->offset;
        if (field->label == PROTOBUF_C_LABEL_REPEATED)
            pack_repeated(packer, field, member, *(const size_t *)(const void *)(base + field->quantifier_offset));
        else if (is_set(field, base, member))
            put_tag(packer, field->id, put_value(packer, field->type, member));
    }
}

uint8_t *wire_pack(const ProtobufCMessage *message, size_t before, size_t *size)
{
    uint8_t local[PACK_LOCAL_BYTES];
    struct packer packer = { .data = local, .capacity = sizeof local, .at = sizeof local };
    pack_message(&packer, message);
    size_t packed = packer.capacity - packer.at;
    uint8_t *out = packer.no_memory ? NULL : malloc(before + packed + (before + packed == 0));
    if (out != NULL) {
        memcpy(out + before, packer.data + packer.at, packed);
        *size = before + packed;
    }
    free(packer.heap);
    return out;
}
