/* Decoding recurses on nested messages. Whoever can write a record must not be able to exhaust the stack: how deep it
 * goes is measured first, on the bytes. The deepest that the format allows is an error of eight causes in a command. */
#include "verify.h"

enum { DEEPEST = 16 };

/* A varint; false: cut off or too long. */
static bool take_number(const uint8_t **at, const uint8_t *end, uint64_t *value)
{
    *value = 0;
    for (int shift = 0; shift < 64 && *at < end; shift += 7) {
        uint8_t byte = *(*at)++;
        *value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80))
            return true;
    }
    return false;
}

/* Steps over a field's value; *inside is set for one with a length. */
static bool skip_value(const uint8_t **at, const uint8_t *end, unsigned wire, const uint8_t **inside)
{
    uint64_t length = wire == 1 ? 8 : wire == 5 ? 4 : 0;
    *inside = NULL;
    if (wire == 0)
        return take_number(at, end, &length);
    if (wire == 2) {
        if (!take_number(at, end, &length))
            return false;
        *inside = *at;
    } else if (wire != 1 && wire != 5) {
        return false;
    }
    if (length > (uint64_t)(end - *at))
        return false;
    *at += length;
    return true;
}

static bool deeper_than(const ProtobufCMessageDescriptor *type, const uint8_t *at, const uint8_t *end, int left)
{
    if (left == 0)
        return true;
    while (at < end) {
        uint64_t tag;
        const uint8_t *inside;
        if (!take_number(&at, end, &tag) || !skip_value(&at, end, (unsigned)tag & 7, &inside))
            return false; /* the decoder will refuse it */
        if (!inside || tag >> 3 > UINT32_MAX >> 3)
            continue;
        const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field(type, (unsigned)(tag >> 3));
        if (field && field->type == PROTOBUF_C_TYPE_MESSAGE && deeper_than(field->descriptor, inside, at, left - 1))
            return true;
    }
    return false;
}

bool pv_too_deep(const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t size)
{
    return deeper_than(type, data, data + size, DEEPEST);
}

event_pb *pv_event(const ProtobufCBinaryData *bytes)
{
    if (pv_too_deep(&perdure__v1__event__descriptor, bytes->data, bytes->len))
        return NULL;
    return perdure__v1__event__unpack(NULL, bytes->len, bytes->data);
}
