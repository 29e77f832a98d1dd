#include "wire/unpack.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "wire/arena.h"

enum wire_type { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_LENGTH = 2, WIRE_FIXED32 = 5 };

struct cursor {
    const uint8_t *at;
    const uint8_t *end;
};

static bool unpack_into(struct unpack *unpack, ProtobufCMessage *message, struct cursor in, unsigned causes);

/* ---- memory ---------------------------------------------------------------------------------- */

static inline void *take(struct unpack *unpack, size_t size)
{
    void *memory = unpack->arena != NULL ? arena_take(unpack->arena, size) : malloc(size);
    if (memory == NULL)
        unpack->no_memory = true;
    return memory;
}

/* Room for one more element: arrays have a power of two as their capacity, so the count alone tells when to grow. */
static bool array_grow(struct unpack *unpack, void **array, size_t count, size_t element)
{
    if ((count & (count - 1)) != 0)
        return true;
    if (unpack->arena == NULL) {
        void *grown = realloc(*array, (count > 0 ? 2 * count : 1) * element);
        unpack->no_memory |= grown == NULL;
        *array = grown != NULL ? grown : *array;
        return grown != NULL;
    }
    void *grown = take(unpack, (count > 0 ? 2 * count : 1) * element);
    if (grown == NULL)
        return false;
    if (count > 0)
        memcpy(grown, *array, count * element);
    *array = grown;
    return true;
}

/* ---- the encoding ----------------------------------------------------------------------------- */

static bool read_long_varint(struct cursor *in, uint64_t *value)
{
    uint64_t result = 0;
    for (unsigned shift = 0; shift < 64 && in->at < in->end; shift += 7) {
        uint8_t byte = *in->at++;
        if (shift == 63 && byte > 1)
            return false; /* more than 64 bits */
        result |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *value = result;
            return true;
        }
    }
    return false;
}

static inline bool read_varint(struct cursor *in, uint64_t *value)
{
    if (in->at < in->end && *in->at < 0x80) {
        *value = *in->at++;
        return true;
    }
    return read_long_varint(in, value);
}

/* Tags and lengths: at most five bytes, 32 bits. */
static inline bool read_short_varint(struct cursor *in, uint32_t *value)
{
    const uint8_t *begin = in->at;
    uint64_t wide;
    if (!read_varint(in, &wide) || wide > UINT32_MAX || in->at - begin > 5)
        return false;
    *value = (uint32_t)wide;
    return true;
}

static inline bool read_fixed32(struct cursor *in, uint32_t *value)
{
    if (in->end - in->at < 4)
        return false;
    memcpy(value, in->at, 4);
    *value = le32toh(*value);
    in->at += 4;
    return true;
}

static inline bool read_fixed64(struct cursor *in, uint64_t *value)
{
    if (in->end - in->at < 8)
        return false;
    memcpy(value, in->at, 8);
    *value = le64toh(*value);
    in->at += 8;
    return true;
}

/* A length and what it spans. */
static inline bool read_span(struct cursor *in, struct cursor *span)
{
    uint32_t size;
    if (!read_short_varint(in, &size) || size > (size_t)(in->end - in->at))
        return false;
    span->at = in->at;
    span->end = in->at + size;
    in->at = span->end;
    return true;
}

static bool skip(struct cursor *in, unsigned wire_type)
{
    uint64_t wide;
    uint32_t narrow;
    struct cursor span;
    switch (wire_type) {
    case WIRE_VARINT:
        return read_varint(in, &wide);
    case WIRE_FIXED64:
        return read_fixed64(in, &wide);
    case WIRE_LENGTH:
        return read_span(in, &span);
    case WIRE_FIXED32:
        return read_fixed32(in, &narrow);
    default: /* groups do not exist in proto3 */
        return false;
    }
}

/* ---- fields ------------------------------------------------------------------------------------ */

static unsigned wire_type_of(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
        return WIRE_FIXED32;
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return WIRE_FIXED64;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        return WIRE_LENGTH;
    default:
        return WIRE_VARINT;
    }
}

static size_t size_of(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 8;
    default:
        return 4;
    }
}

static bool read_string(struct unpack *unpack, struct cursor span, char **out)
{
    size_t size = (size_t)(span.end - span.at);
    if (size > 0 && memchr(span.at, '\0', size) != NULL)
        return false;
    char *text = take(unpack, size + 1);
    if (text == NULL)
        return false;
    if (size > 0)
        memcpy(text, span.at, size);
    text[size] = '\0';
    *out = text;
    return true;
}

static bool read_bytes(struct unpack *unpack, struct cursor span, ProtobufCBinaryData *out)
{
    size_t size = (size_t)(span.end - span.at);
    *out = (ProtobufCBinaryData){0};
    if (size == 0)
        return true;
    out->data = take(unpack, size);
    if (out->data == NULL)
        return false;
    memcpy(out->data, span.at, size);
    out->len = size;
    return true;
}

/* `*out` is set before the message is whole: whoever frees the parent frees it too. */
static bool read_message(struct unpack *unpack, const ProtobufCMessageDescriptor *type, struct cursor span,
                         unsigned causes, ProtobufCMessage **out)
{
    ProtobufCMessage *message = take(unpack, type->sizeof_message);
    if (message == NULL)
        return false;
    type->message_init(message);
    *out = message;
    return unpack_into(unpack, message, span, causes);
}

static bool read_length_delimited(struct unpack *unpack, const ProtobufCFieldDescriptor *field, struct cursor *in,
                                  unsigned causes, void *out)
{
    struct cursor span;
    if (!read_span(in, &span))
        return false;
    if (field->type == PROTOBUF_C_TYPE_STRING)
        return read_string(unpack, span, out);
    if (field->type == PROTOBUF_C_TYPE_BYTES)
        return read_bytes(unpack, span, out);
    if (field->descriptor == &perdure__v1__error__descriptor && causes-- == 0)
        return false;
    return read_message(unpack, field->descriptor, span, causes, out);
}

static bool read_number(ProtobufCType type, struct cursor *in, void *out)
{
    uint64_t wide;
    switch (type) {
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
        return read_fixed32(in, out);
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return read_fixed64(in, out);
    default:
        break;
    }
    if (!read_varint(in, &wide))
        return false;
    switch (type) {
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_UINT64:
        *(uint64_t *)out = wide;
        return true;
    case PROTOBUF_C_TYPE_SINT64:
        *(uint64_t *)out = wide >> 1 ^ (0 - (wide & 1));
        return true;
    case PROTOBUF_C_TYPE_SINT32:
        *(uint32_t *)out = (uint32_t)wide >> 1 ^ (0 - ((uint32_t)wide & 1));
        return true;
    case PROTOBUF_C_TYPE_BOOL:
        *(protobuf_c_boolean *)out = wide != 0;
        return true;
    default:
        *(uint32_t *)out = (uint32_t)wide;
        return true;
    }
}

static void *member_of(ProtobufCMessage *message, unsigned offset)
{
    return (uint8_t *)message + offset;
}

static bool is_set(const ProtobufCFieldDescriptor *field, const void *member)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_STRING:
        return *(void *const *)member != field->default_value;
    case PROTOBUF_C_TYPE_BYTES:
        return ((const ProtobufCBinaryData *)member)->data != NULL;
    case PROTOBUF_C_TYPE_MESSAGE:
        return *(void *const *)member != NULL;
    default:
        return false; /* of numbers the last one holds */
    }
}

static bool read_singular(struct unpack *unpack, const ProtobufCFieldDescriptor *field, ProtobufCMessage *message,
                          struct cursor *in, unsigned causes)
{
    void *member = member_of(message, field->offset);
    if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0) {
        uint32_t *which = member_of(message, field->quantifier_offset);
        if (*which != 0)
            return false;
        *which = field->id;
    } else if (is_set(field, member)) {
        return false;
    }
    if (wire_type_of(field->type) == WIRE_LENGTH)
        return read_length_delimited(unpack, field, in, causes, member);
    return read_number(field->type, in, member);
}

static bool read_repeated(struct unpack *unpack, const ProtobufCFieldDescriptor *field, ProtobufCMessage *message,
                          struct cursor *in, unsigned causes)
{
    void **array = member_of(message, field->offset);
    size_t *count = member_of(message, field->quantifier_offset), element = size_of(field->type);
    if (!array_grow(unpack, array, *count, element))
        return false;
    void *out = (uint8_t *)*array + *count * element;
    if (wire_type_of(field->type) != WIRE_LENGTH) {
        *count += 1;
        return read_number(field->type, in, out);
    }
    memset(out, 0, element); /* what is counted but failed is freed as nothing */
    *count += 1;
    return read_length_delimited(unpack, field, in, causes, out);
}

static bool read_packed(struct unpack *unpack, const ProtobufCFieldDescriptor *field, ProtobufCMessage *message,
                        struct cursor *in)
{
    struct cursor span;
    if (!read_span(in, &span))
        return false;
    while (span.at < span.end)
        if (!read_repeated(unpack, field, message, &span, 0))
            return false;
    return true;
}

/* Kept as protobuf-c keeps it, so that it is written again when the message is. */
static bool read_unknown(struct unpack *unpack, ProtobufCMessage *message, uint32_t number, unsigned wire_type,
                         struct cursor *in)
{
    const uint8_t *begin = in->at;
    if (!skip(in, wire_type))
        return false;
    void *array = message->unknown_fields;
    if (!array_grow(unpack, &array, message->n_unknown_fields, sizeof(ProtobufCMessageUnknownField)))
        return false;
    message->unknown_fields = array;
    size_t size = (size_t)(in->at - begin);
    uint8_t *copy = take(unpack, size);
    if (copy == NULL)
        return false;
    memcpy(copy, begin, size);
    message->unknown_fields[message->n_unknown_fields++] = (ProtobufCMessageUnknownField){
        .tag = number, .wire_type = (ProtobufCWireType)wire_type, .len = size, .data = copy};
    return true;
}

/* Writers go through their fields in order: it is the same field again or one of the next, mostly. */
static inline const ProtobufCFieldDescriptor *field_find(const ProtobufCMessageDescriptor *type, unsigned hint,
                                                         uint32_t number)
{
    for (unsigned i = hint; i < hint + 3 && i < type->n_fields; i++)
        if (type->fields[i].id == number)
            return &type->fields[i];
    return protobuf_c_message_descriptor_get_field(type, number);
}

static inline bool read_known(struct unpack *unpack, const ProtobufCFieldDescriptor *field, unsigned wire_type,
                              ProtobufCMessage *message, struct cursor *in, unsigned causes)
{
    unsigned expected = wire_type_of(field->type);
    bool repeated = field->label == PROTOBUF_C_LABEL_REPEATED;
    if (repeated && wire_type == WIRE_LENGTH && expected != WIRE_LENGTH)
        return read_packed(unpack, field, message, in);
    if (wire_type != expected)
        return false;
    return repeated ? read_repeated(unpack, field, message, in, causes)
                    : read_singular(unpack, field, message, in, causes);
}

static bool unpack_into(struct unpack *unpack, ProtobufCMessage *message, struct cursor in, unsigned causes)
{
    const ProtobufCMessageDescriptor *type = message->descriptor;
    unsigned hint = 0;
    while (in.at < in.end) {
        uint32_t tag;
        if (!read_short_varint(&in, &tag) || tag >> 3 == 0)
            return false;
        const ProtobufCFieldDescriptor *field = field_find(type, hint, tag >> 3);
        if (field == NULL) {
            if (!read_unknown(unpack, message, tag >> 3, tag & 7, &in))
                return false;
        } else if (read_known(unpack, field, tag & 7, message, &in, causes)) {
            hint = (unsigned)(field - type->fields);
        } else {
            return false;
        }
    }
    return true;
}

ProtobufCMessage *unpack_message(struct unpack *unpack, const ProtobufCMessageDescriptor *type, const void *data,
                                 size_t size)
{
    const uint8_t *bytes = size > 0 ? data : (const uint8_t *)""; /* `data` may be NULL then */
    struct cursor in = {.at = bytes, .end = bytes + size};
    ProtobufCMessage *message = NULL;
    unpack->no_memory = false;
    /* An error and the causes below it. */
    if (read_message(unpack, type, in, ERROR_CAUSES_LIMIT + 1, &message))
        return message;
    if (message != NULL && unpack->arena == NULL)
        protobuf_c_message_free_unpacked(message, NULL);
    return NULL;
}
